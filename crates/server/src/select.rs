//! `/select/logsql/*`: VictoriaLogs' querying API, so that its clients work unchanged.
//!
//! Arguments and answers follow <https://docs.victoriametrics.com/victorialogs/querying/>. What is
//! asked for and not supported is refused, never ignored: an answer to another question is worse than
//! none.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode};
use lodge_query::{
    Budget, FieldsRequest, HitsRequest, LogsqlRequest, PatternsRequest, StatsRangeRequest,
    StatsRequest, ValueHits, View,
};
use lodge_record::{field, time};
use serde_json::{Map, Value, json};

use crate::answer::{self, ApiError};
use crate::app::{App, Running, now_ns};
use crate::args::Args;
use crate::encode::Format;
use crate::identity::Identity;
use crate::limits::BUCKETS_MAX;
use crate::rows::{self, DURATION_HEADER};

const DAY_NS: i64 = 86_400_000_000_000;
/// Patterns in an answer that asks for no number.
const PATTERNS_DEFAULT: usize = 100;
/// Parts of a pattern's trend.
const TREND_BUCKETS_DEFAULT: usize = 30;
const TREND_BUCKETS_MAX: usize = 1_000;

/// What every query endpoint takes.
pub(crate) struct Question {
    /// Of which records.
    pub(crate) view: View,
    /// The query's text.
    pub(crate) query: String,
    /// First moment, if bounded.
    pub(crate) start_ns: Option<i64>,
    /// First moment after, if bounded.
    pub(crate) end_ns: Option<i64>,
    /// What relative times count from.
    pub(crate) now_ns: i64,
    /// What it may cost.
    pub(crate) budget: Budget,
}

impl Question {
    /// Reads the arguments that all endpoints share.
    pub(crate) fn of(app: &App, identity: &Identity, args: &Args) -> Result<Self, ApiError> {
        let query = args.required("query", "*")?.to_owned();
        Self::about(app, identity, args, query)
    }

    /// The same for a query that came in another argument.
    pub(crate) fn about(
        app: &App,
        identity: &Identity,
        args: &Args,
        query: String,
    ) -> Result<Self, ApiError> {
        let clock_ns = now_ns();
        let mut view = identity.view().clone();
        for name in ["extra_filters", "extra_stream_filters"] {
            for filter in args.all(name) {
                view = view.narrowed(filter, clock_ns).map_err(|error| {
                    ApiError::bad_request(format!("the argument `{name}`: {}", error.message()))
                })?;
            }
        }
        let start_ns = args.time_ns("start", clock_ns)?;
        let end_ns = args.time_ns("end", clock_ns)?;
        let at_ns = args.time_ns("time", clock_ns)?.or(end_ns).unwrap_or(clock_ns);
        let budget = app.budget(args.duration_ns("timeout")?, args.flag("allow_partial"))?;
        Ok(Self { view, query, start_ns, end_ns, now_ns: at_ns, budget })
    }

    /// This question for LogsQL rows.
    pub(crate) fn rows(self, limit: Option<usize>, offset: Option<usize>) -> LogsqlRequest {
        LogsqlRequest {
            view: self.view,
            query: self.query,
            start_ns: self.start_ns,
            end_ns: self.end_ns,
            limit,
            offset,
            now_ns: self.now_ns,
            budget: self.budget,
        }
    }

    fn fields(self, limit: Option<usize>) -> FieldsRequest {
        FieldsRequest {
            view: self.view,
            query: self.query,
            start_ns: self.start_ns,
            end_ns: self.end_ns,
            limit,
            now_ns: self.now_ns,
            budget: self.budget,
        }
    }
}

/// `/select/logsql/query`
pub(crate) async fn query(
    State(app): State<Arc<App>>,
    identity: Identity,
    args: Args,
) -> Result<Response, ApiError> {
    let question = Question::of(&app, &identity, &args)?;
    let limit = args.number("limit")?.filter(|n| *n > 0);
    let offset = args.number("offset")?;
    let formats = [("json", Format::LogLines), ("csv", Format::Csv)];
    let format = Format::parse(args.get("format").unwrap_or("json"), &formats)?;
    let running = app.begin_query("/select/logsql/query").await?;
    let request = question.rows(limit, offset);
    let stream = app.engine.logsql(request).await.map_err(|e| app.query_failed(&e))?;
    rows::answer(app, running, stream, format, None).await
}

/// `/select/logsql/hits`
pub(crate) async fn hits(
    State(app): State<Arc<App>>,
    identity: Identity,
    args: Args,
) -> Result<Response, ApiError> {
    let question = Question::of(&app, &identity, &args)?;
    let step_ns = step_ns(&args, question.start_ns, question.end_ns)?;
    let offset_ns = args.duration_ns("offset")?.unwrap_or(0);
    let mut fields: Vec<String> = args.all("field").map(str::to_owned).collect();
    let listed = args.all("fields").flat_map(|list| list.split(','));
    fields.extend(listed.map(|f| f.trim().to_owned()).filter(|f| !f.is_empty()));
    let fields_limit = args.number("fields_limit")?.filter(|n| *n > 0);
    let running = app.begin_query("/select/logsql/hits").await?;
    let request = HitsRequest {
        view: question.view,
        query: question.query,
        start_ns: question.start_ns,
        end_ns: question.end_ns,
        step_ns,
        offset_ns,
        fields,
        fields_limit,
        now_ns: question.now_ns,
        budget: question.budget,
    };
    let groups = app.engine.hits(request).await.map_err(|e| app.query_failed(&e))?;
    let hits: Vec<Value> = groups
        .into_iter()
        .map(|group| {
            let times: Vec<String> = group.timestamps_ns.iter().map(|t| time::format(*t)).collect();
            json!({
                "fields": labels(group.fields),
                "timestamps": times,
                "values": group.values,
                "total": group.total,
            })
        })
        .collect();
    Ok(whole(&running, &json!({ "hits": hits })))
}

/// `/select/logsql/stats_query`
pub(crate) async fn stats_query(
    State(app): State<Arc<App>>,
    identity: Identity,
    args: Args,
) -> Response {
    prometheus(stats_vector(app, identity, args).await)
}

async fn stats_vector(app: Arc<App>, identity: Identity, args: Args) -> Result<Response, ApiError> {
    let question = Question::of(&app, &identity, &args)?;
    let running = app.begin_query("/select/logsql/stats_query").await?;
    let time_ns = question.now_ns;
    let request = StatsRequest {
        view: question.view,
        query: question.query,
        start_ns: question.start_ns,
        end_ns: question.end_ns,
        time_ns,
        budget: question.budget,
    };
    let samples = app.engine.stats_query(request).await.map_err(|e| app.query_failed(&e))?;
    let result: Vec<Value> = samples
        .into_iter()
        .map(|s| json!({"metric": labels(s.metric), "value": [seconds(time_ns), s.value]}))
        .collect();
    Ok(whole(&running, &success("vector", result)))
}

/// `/select/logsql/stats_query_range`
pub(crate) async fn stats_query_range(
    State(app): State<Arc<App>>,
    identity: Identity,
    args: Args,
) -> Response {
    prometheus(stats_matrix(app, identity, args).await)
}

async fn stats_matrix(app: Arc<App>, identity: Identity, args: Args) -> Result<Response, ApiError> {
    let question = Question::of(&app, &identity, &args)?;
    let step_ns = step_ns(&args, question.start_ns, question.end_ns)?;
    let running = app.begin_query("/select/logsql/stats_query_range").await?;
    let request = StatsRangeRequest {
        view: question.view,
        query: question.query,
        start_ns: question.start_ns,
        end_ns: question.end_ns,
        step_ns,
        offset_ns: args.duration_ns("offset")?.unwrap_or(0),
        now_ns: question.now_ns,
        budget: question.budget,
    };
    let series = app.engine.stats_query_range(request).await.map_err(|e| app.query_failed(&e))?;
    let result: Vec<Value> = series
        .into_iter()
        .map(|s| {
            let values: Vec<Value> =
                s.values.into_iter().map(|(t, v)| json!([seconds(t), v])).collect();
            json!({"metric": labels(s.metric), "values": values})
        })
        .collect();
    Ok(whole(&running, &success("matrix", result)))
}

/// `/select/logsql/field_names`
pub(crate) async fn field_names(
    State(app): State<Arc<App>>,
    identity: Identity,
    args: Args,
) -> Result<Response, ApiError> {
    let question = Question::of(&app, &identity, &args)?;
    let limit = args.number("limit")?.filter(|n| *n > 0);
    let running = app.begin_query("/select/logsql/field_names").await?;
    let names = app.engine.field_names(question.fields(limit)).await;
    Ok(values(&running, names.map_err(|e| app.query_failed(&e))?, args.get("filter")))
}

/// `/select/logsql/field_values`
pub(crate) async fn field_values(
    State(app): State<Arc<App>>,
    identity: Identity,
    args: Args,
) -> Result<Response, ApiError> {
    let question = Question::of(&app, &identity, &args)?;
    let field = args.required("field", "level")?;
    let limit = args.number("limit")?.filter(|n| *n > 0);
    let running = app.begin_query("/select/logsql/field_values").await?;
    let found = app.engine.field_values(question.fields(limit), field).await;
    Ok(values(&running, found.map_err(|e| app.query_failed(&e))?, args.get("filter")))
}

/// `/select/logsql/streams`
pub(crate) async fn streams(
    State(app): State<Arc<App>>,
    identity: Identity,
    args: Args,
) -> Result<Response, ApiError> {
    let question = Question::of(&app, &identity, &args)?;
    let limit = args.number("limit")?.filter(|n| *n > 0);
    let running = app.begin_query("/select/logsql/streams").await?;
    let found = app.engine.streams(question.fields(limit)).await;
    Ok(values(&running, found.map_err(|e| app.query_failed(&e))?, None))
}

/// `/select/logsql/patterns`: what the texts of a `field` (`_msg` without one) have in common, with
/// the count, share, first and last time and the trend (counts per `buckets` parts of the time) of
/// each.
pub(crate) async fn patterns(
    State(app): State<Arc<App>>,
    identity: Identity,
    args: Args,
) -> Result<Response, ApiError> {
    let question = Question::of(&app, &identity, &args)?;
    let limit = args.number("limit")?.filter(|n| *n > 0).unwrap_or(PATTERNS_DEFAULT);
    let buckets: usize = args.number("buckets")?.unwrap_or(TREND_BUCKETS_DEFAULT);
    if !(1..=TREND_BUCKETS_MAX).contains(&buckets) {
        return Err(ApiError::bad_request(format!(
            "the argument `buckets`: {buckets} is not from 1 to {TREND_BUCKETS_MAX}"
        )));
    }
    let field = args.get("field").unwrap_or(field::MSG).to_owned();
    let running = app.begin_query("/select/logsql/patterns").await?;
    let request = PatternsRequest { records: question.fields(Some(limit)), field, buckets };
    let found = app.engine.patterns(request).await.map_err(|e| app.query_failed(&e))?;
    let patterns: Vec<Value> = found
        .patterns
        .into_iter()
        .map(|p| {
            json!({
                "pattern": p.pattern,
                "hits": p.hits,
                "share": p.share,
                "first": time::format(p.first_ns),
                "last": time::format(p.last_ns),
                "trend": p.trend,
            })
        })
        .collect();
    let start = time::format(found.trend_start_ns);
    let trend = json!({"start": start, "step_ns": found.trend_step_ns});
    Ok(whole(&running, &json!({ "trend": trend, "patterns": patterns })))
}

/// The `step` argument (a day without one), refused if it makes more buckets than anyone can use.
fn step_ns(args: &Args, start_ns: Option<i64>, end_ns: Option<i64>) -> Result<i64, ApiError> {
    let step_ns = args.duration_ns("step")?.unwrap_or(DAY_NS);
    if step_ns <= 0 {
        return Err(ApiError::bad_request("the argument `step`: it must be longer than nothing"));
    }
    if let (Some(start), Some(end)) = (start_ns, end_ns) {
        let buckets = end.saturating_sub(start) / step_ns;
        if buckets > BUCKETS_MAX {
            return Err(ApiError::bad_request(format!(
                "the argument `step`: {buckets} buckets between `start` and `end` are more than \
                 {BUCKETS_MAX}; take a longer step or a shorter range"
            )));
        }
    }
    Ok(step_ns)
}

/// Prometheus' time: seconds, with a fraction only where there is one.
fn seconds(ns: i64) -> Value {
    let whole = ns.div_euclid(1_000_000_000);
    let rest_ms = ns.rem_euclid(1_000_000_000) / 1_000_000;
    if rest_ms == 0 {
        return whole.into();
    }
    (whole as f64 + rest_ms as f64 / 1e3).into()
}

fn labels(pairs: Vec<(String, String)>) -> Map<String, Value> {
    pairs.into_iter().map(|(name, value)| (name, Value::String(value))).collect()
}

fn success(kind: &str, result: Vec<Value>) -> Value {
    json!({"status": "success", "data": {"resultType": kind, "result": result}})
}

fn values(running: &Running, found: Vec<ValueHits>, part: Option<&str>) -> Response {
    let values: Vec<Value> = found
        .into_iter()
        .filter(|v| part.is_none_or(|part| v.value.contains(part)))
        .map(|v| json!({"value": v.value, "hits": v.hits}))
        .collect();
    whole(running, &json!({ "values": values }))
}

/// An answer that is known whole.
fn whole(running: &Running, body: &Value) -> Response {
    let mut response = answer::json(StatusCode::OK, body);
    let seconds = running.elapsed().as_secs_f64();
    if let Ok(value) = HeaderValue::from_str(&format!("{seconds:.6}")) {
        response.headers_mut().insert(DURATION_HEADER, value);
    }
    response
}

/// Errors of the Prometheus-like endpoints carry Prometheus' own fields as well.
fn prometheus(result: Result<Response, ApiError>) -> Response {
    result.unwrap_or_else(|error| {
        let kind = error.status().as_u16().to_string();
        error.with("status", "error").with("errorType", kind).into_response()
    })
}
