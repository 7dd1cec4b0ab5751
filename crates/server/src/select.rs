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
    FacetsRequest, FieldsRequest, HitsRequest, Marked, PatternsRequest, QueryError,
    StatsRangeRequest, StatsRequest, ValueHits,
};
use lodge_record::{field, time};
use serde_json::{Map, Value, json};

use crate::answer::{self, ApiError};
use crate::app::{App, Running};
use crate::args::Args;
use crate::encode::Format;
use crate::identity::Identity;
use crate::limits::{BUCKETS_MAX, FACET_VALUES_MAX};
use crate::question::Question;
use crate::rows::{self, DURATION_HEADER};

const DAY_NS: i64 = 86_400_000_000_000;
/// Patterns in an answer that asks for no number.
const PATTERNS_DEFAULT: usize = 100;
/// Parts of a pattern's trend.
const TREND_BUCKETS_DEFAULT: usize = 30;
const TREND_BUCKETS_MAX: usize = 1_000;

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
    question.check_format(format)?;
    let running = app.begin_query(&question.view.tenant, "/select/logsql/query").await?;
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
    let question = Question::of_records(&app, &identity, &args)?;
    let step_ns = step_ns(&args, question.start_ns, question.end_ns)?;
    let offset_ns = args.duration_ns("offset")?.unwrap_or(0);
    let mut fields: Vec<String> = args.all("field").map(str::to_owned).collect();
    let listed = args.all("fields").flat_map(|list| list.split(','));
    fields.extend(listed.map(|f| f.trim().to_owned()).filter(|f| !f.is_empty()));
    let fields_limit = args.number("fields_limit")?.filter(|n| *n > 0);
    let running = app.begin_query(&question.view.tenant, "/select/logsql/hits").await?;
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
    let found = app.engine.hits(request).await.map_err(|e| app.query_failed(&e))?;
    let hits: Vec<Value> = found
        .value
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
    Ok(whole(&app, &running, json!({ "hits": hits }), found.partial))
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
    let running = app.begin_query(&question.view.tenant, "/select/logsql/stats_query").await?;
    let time_ns = question.now_ns;
    let request = StatsRequest {
        view: question.view,
        query: question.query,
        start_ns: question.start_ns,
        end_ns: question.end_ns,
        time_ns,
        budget: question.budget,
    };
    let found = app.engine.stats_query(request).await.map_err(|e| app.query_failed(&e))?;
    let result: Vec<Value> = found
        .value
        .into_iter()
        .map(|s| json!({"metric": labels(s.metric), "value": [seconds(time_ns), s.value]}))
        .collect();
    Ok(whole(&app, &running, success("vector", result), found.partial))
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
    let running =
        app.begin_query(&question.view.tenant, "/select/logsql/stats_query_range").await?;
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
    let found = app.engine.stats_query_range(request).await.map_err(|e| app.query_failed(&e))?;
    let result: Vec<Value> = found
        .value
        .into_iter()
        .map(|s| {
            let values: Vec<Value> =
                s.values.into_iter().map(|(t, v)| json!([seconds(t), v])).collect();
            json!({"metric": labels(s.metric), "values": values})
        })
        .collect();
    Ok(whole(&app, &running, success("matrix", result), found.partial))
}

/// `/select/logsql/facets`
pub(crate) async fn facets(
    State(app): State<Arc<App>>,
    identity: Identity,
    args: Args,
) -> Result<Response, ApiError> {
    let question = Question::of_records(&app, &identity, &args)?;
    let limit = args.number("limit")?.filter(|n| *n > 0);
    let mut request = FacetsRequest::new(question.fields(limit));
    if let Some(most) = args.number::<usize>("max_values_per_field")?.filter(|n| *n > 0) {
        request.values_max = most.min(FACET_VALUES_MAX);
    }
    if let Some(most) = args.number("max_value_len")?.filter(|n| *n > 0) {
        request.value_bytes_max = most;
    }
    request.keep_const_fields = args.flag("keep_const_fields");
    let running = app.begin_query(identity.tenant(), "/select/logsql/facets").await?;
    let found = app.engine.facets(request).await.map_err(|e| app.query_failed(&e))?;
    let facet = |value: ValueHits| json!({"field_value": value.value, "hits": value.hits});
    let facets: Vec<Value> = found
        .value
        .into_iter()
        .map(|of| {
            let values: Vec<Value> = of.values.into_iter().map(facet).collect();
            json!({"field_name": of.field, "values": values})
        })
        .collect();
    Ok(whole(&app, &running, json!({ "facets": facets }), found.partial))
}

/// A list of values with their hits, and what the endpoints that give one have in common: `limit`, and
/// `filter`, a part that each value must have.
struct Listing {
    app: Arc<App>,
    running: Running,
    part: Option<String>,
    limit: Option<usize>,
}

impl Listing {
    async fn begin(
        app: Arc<App>,
        identity: &Identity,
        args: &Args,
        endpoint: &'static str,
    ) -> Result<(Self, FieldsRequest), ApiError> {
        let question = Question::of_records(&app, identity, args)?;
        let limit = args.number("limit")?.filter(|n| *n > 0);
        let part = args.get("filter").map(str::to_owned);
        let running = app.begin_query(&question.view.tenant, endpoint).await?;
        // The filter chooses among all of them.
        let request = question.fields(limit.filter(|_| part.is_none()));
        Ok((Self { app, running, part, limit }, request))
    }

    fn answer(
        self,
        found: Result<Marked<Vec<ValueHits>>, QueryError>,
    ) -> Result<Response, ApiError> {
        let Marked { value: found, partial } = found.map_err(|e| self.app.query_failed(&e))?;
        let values: Vec<Value> = found
            .into_iter()
            .filter(|v| self.part.as_ref().is_none_or(|part| v.value.contains(part)))
            .take(self.limit.unwrap_or(usize::MAX))
            .map(|v| json!({"value": v.value, "hits": v.hits}))
            .collect();
        Ok(whole(&self.app, &self.running, json!({ "values": values }), partial))
    }
}

/// `/select/logsql/field_names`
pub(crate) async fn field_names(
    State(app): State<Arc<App>>,
    identity: Identity,
    args: Args,
) -> Result<Response, ApiError> {
    let path = "/select/logsql/field_names";
    let (listing, request) = Listing::begin(app, &identity, &args, path).await?;
    let found = listing.app.engine.field_names(request).await;
    listing.answer(found)
}

/// `/select/logsql/field_values`
pub(crate) async fn field_values(
    State(app): State<Arc<App>>,
    identity: Identity,
    args: Args,
) -> Result<Response, ApiError> {
    let field = args.required("field", "level")?;
    let path = "/select/logsql/field_values";
    let (listing, request) = Listing::begin(app, &identity, &args, path).await?;
    let found = listing.app.engine.field_values(request, field).await;
    listing.answer(found)
}

/// `/select/logsql/streams`
pub(crate) async fn streams(
    State(app): State<Arc<App>>,
    identity: Identity,
    args: Args,
) -> Result<Response, ApiError> {
    let path = "/select/logsql/streams";
    let (listing, request) = Listing::begin(app, &identity, &args, path).await?;
    let found = listing.app.engine.streams(request).await;
    listing.answer(found)
}

/// `/select/logsql/stream_ids`
pub(crate) async fn stream_ids(
    State(app): State<Arc<App>>,
    identity: Identity,
    args: Args,
) -> Result<Response, ApiError> {
    let path = "/select/logsql/stream_ids";
    let (listing, request) = Listing::begin(app, &identity, &args, path).await?;
    let found = listing.app.engine.field_values(request, field::STREAM_ID).await;
    listing.answer(found)
}

/// `/select/logsql/stream_field_names`
pub(crate) async fn stream_field_names(
    State(app): State<Arc<App>>,
    identity: Identity,
    args: Args,
) -> Result<Response, ApiError> {
    let path = "/select/logsql/stream_field_names";
    let (listing, request) = Listing::begin(app, &identity, &args, path).await?;
    let found = listing.app.engine.stream_field_names(request).await;
    listing.answer(found)
}

/// `/select/logsql/stream_field_values`
pub(crate) async fn stream_field_values(
    State(app): State<Arc<App>>,
    identity: Identity,
    args: Args,
) -> Result<Response, ApiError> {
    let field = args.required("field", "app")?;
    let path = "/select/logsql/stream_field_values";
    let (listing, request) = Listing::begin(app, &identity, &args, path).await?;
    let found = listing.app.engine.stream_field_values(request, field).await;
    listing.answer(found)
}

/// `/select/logsql/patterns`: what the texts of a `field` (`_msg` without one) have in common, with
/// the count, share, first and last time and the trend (counts per `buckets` parts of the time) of
/// each.
pub(crate) async fn patterns(
    State(app): State<Arc<App>>,
    identity: Identity,
    args: Args,
) -> Result<Response, ApiError> {
    let question = Question::of_records(&app, &identity, &args)?;
    let limit = args.number("limit")?.filter(|n| *n > 0).unwrap_or(PATTERNS_DEFAULT);
    let buckets: usize = args.number("buckets")?.unwrap_or(TREND_BUCKETS_DEFAULT);
    if !(1..=TREND_BUCKETS_MAX).contains(&buckets) {
        return Err(ApiError::bad_request(format!(
            "the argument `buckets`: {buckets} is not from 1 to {TREND_BUCKETS_MAX}"
        )));
    }
    let field = args.get("field").unwrap_or(field::MSG).to_owned();
    let running = app.begin_query(&question.view.tenant, "/select/logsql/patterns").await?;
    let request = PatternsRequest { records: question.fields(Some(limit)), field, buckets };
    let found = app.engine.patterns(request).await.map_err(|e| app.query_failed(&e))?;
    let Marked { value: found, partial } = found;
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
    Ok(whole(&app, &running, json!({ "trend": trend, "patterns": patterns }), partial))
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

/// An answer that is known whole; `partial` says why there may be more than what it has.
fn whole(app: &App, running: &Running, mut body: Value, partial: Option<QueryError>) -> Response {
    if let Some(excess) = partial {
        body["partial"] = app.partial_answer(&excess).into();
    }
    let mut response = answer::json(StatusCode::OK, &body);
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
