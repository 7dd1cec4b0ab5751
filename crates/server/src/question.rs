//! What every query endpoint takes: the query, whose records, of which time, and what it may cost.

use lodge_query::{Budget, FieldsRequest, LogsqlRequest, SqlRequest, View};
use serde_json::Value;

use crate::answer::ApiError;
use crate::app::{App, now_ns};
use crate::args::Args;
use crate::encode::Format;
use crate::identity::Identity;

/// A question.
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

    /// The same for endpoints to which the query's pipes do not matter, if it is asked to leave them
    /// out (`ignore_pipes=1`).
    pub(crate) fn of_records(
        app: &App,
        identity: &Identity,
        args: &Args,
    ) -> Result<Self, ApiError> {
        let mut question = Self::of(app, identity, args)?;
        if args.flag("ignore_pipes") {
            let filter = lodge_query::logsql::without_pipes(&question.query, question.now_ns);
            question.query = filter.map_err(|error| app.query_failed(&error.into()))?.to_owned();
        }
        Ok(question)
    }

    /// The same for a query that came in another argument.
    pub(crate) fn about(
        app: &App,
        identity: &Identity,
        args: &Args,
        query: String,
    ) -> Result<Self, ApiError> {
        if args.get("hidden_fields_filters").is_some() {
            return Err(ApiError::bad_request(
                "the argument `hidden_fields_filters`: no field can be hidden here; leave it out, and \
                 take fields out of the answer with `| delete`",
            ));
        }
        let clock_ns = now_ns();
        let start_ns = args.time_ns("start", clock_ns)?;
        let end_ns = args.time_ns("end", clock_ns)?;
        let at_ns = args.time_ns("time", clock_ns)?.or(end_ns).unwrap_or(clock_ns);
        let view = narrowed(identity.view().clone(), args, clock_ns)?;
        let budget = app.budget(args)?;
        Ok(Self { view, query, start_ns, end_ns, now_ns: at_ns, budget })
    }

    /// Refuses to answer in a form that has no place for the mark of a partial answer, if that may be
    /// needed.
    pub(crate) fn check_format(&self, format: Format) -> Result<(), ApiError> {
        if self.budget.allow_partial && !format.can_be_marked() {
            return Err(ApiError::bad_request(
                "the argument `allow_partial`: CSV and Arrow have no place for the mark of a \
                 partial answer; take format=jsonl, json or parquet, or leave it out",
            ));
        }
        Ok(())
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

    /// This question in SQL.
    pub(crate) fn sql(self) -> SqlRequest {
        SqlRequest {
            view: self.view,
            query: self.query,
            start_ns: self.start_ns,
            end_ns: self.end_ns,
            budget: self.budget,
        }
    }

    /// This question about fields.
    pub(crate) fn fields(self, limit: Option<usize>) -> FieldsRequest {
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

/// `view` within `extra_filters` and `extra_stream_filters`: each a filter in LogsQL or a JSON object
/// of fields (of labels) and their values.
fn narrowed(mut view: View, args: &Args, clock_ns: i64) -> Result<View, ApiError> {
    for name in ["extra_filters", "extra_stream_filters"] {
        let refused =
            |reason: &str| ApiError::bad_request(format!("the argument `{name}`: {reason}"));
        for filter in args.all(name) {
            if !filter.trim_start().starts_with("{\"") {
                view = view.narrowed(filter, clock_ns).map_err(|error| refused(error.message()))?;
                continue;
            }
            for (field, values) in values(filter).map_err(|reason| refused(&reason))? {
                view = match name {
                    "extra_filters" => view.with_field(&field, values),
                    _ => view.with_label(&field, values),
                };
            }
        }
    }
    Ok(view)
}

/// The fields of a JSON object with the texts that each may have.
fn values(text: &str) -> Result<Vec<(String, Vec<String>)>, String> {
    let object: serde_json::Map<String, Value> = serde_json::from_str(text)
        .map_err(|error| format!("`{text}` is not a JSON object: {error}"))?;
    let one = |name: &str, value: Value| match value {
        Value::String(text) => Ok(text),
        other => Err(format!("the value of `{name}` is `{other}`; it must be a string")),
    };
    let mut fields = Vec::with_capacity(object.len());
    for (name, value) in object {
        let values = match value {
            Value::Array(list) => {
                list.into_iter().map(|value| one(&name, value)).collect::<Result<Vec<_>, _>>()?
            }
            value => vec![one(&name, value)?],
        };
        if !values.is_empty() {
            fields.push((name, values));
        }
    }
    Ok(fields)
}
