//! `/select/logsql/explain` and `/api/v1/sql/explain`: what a query would read, without running it.
//!
//! They take the arguments of `/select/logsql/query` and `/api/v1/sql`. What is told is what the budget
//! of a run is charged with, at most; segments are opened for it and their indexes asked, no record is
//! read.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use lodge_query::{Explanation, LeafCost, Share};
use serde_json::{Value, json};

use crate::answer::{self, ApiError};
use crate::app::App;
use crate::args::Args;
use crate::identity::Identity;
use crate::question::Question;

/// `/select/logsql/explain`
pub(crate) async fn logsql(
    State(app): State<Arc<App>>,
    identity: Identity,
    args: Args,
) -> Result<Response, ApiError> {
    let question = Question::of(&app, &identity, &args)?;
    let limit = args.number("limit")?.filter(|n| *n > 0);
    let offset = args.number("offset")?;
    let _running = app.begin_query(&question.view.tenant, "/select/logsql/explain").await?;
    let explained = app.engine.explain_logsql(question.rows(limit, offset)).await;
    Ok(answer("logsql", explained.map_err(|error| app.query_failed(&error))?))
}

/// `/api/v1/sql/explain`
pub(crate) async fn sql(
    State(app): State<Arc<App>>,
    identity: Identity,
    args: Args,
) -> Result<Response, ApiError> {
    let query = args.required("query", "SELECT count(*) FROM logs")?.to_owned();
    let question = Question::about(&app, &identity, &args, query)?;
    let _running = app.begin_query(&question.view.tenant, "/api/v1/sql/explain").await?;
    let explained = app.engine.explain_sql(question.sql()).await;
    Ok(answer("sql", explained.map_err(|error| app.query_failed(&error))?))
}

fn answer(language: &str, explained: Explanation) -> Response {
    let sum = |of: fn(&LeafCost) -> Share| {
        let shares = explained.scans.iter().map(of);
        let read: u64 = shares.clone().map(|share| share.read).sum();
        // Each scan sees the same records.
        json!({"read": read, "total": shares.map(|share| share.total).max().unwrap_or(0)})
    };
    let body = json!({
        "language": language,
        "segments": sum(|scan| scan.segments),
        "blocks": sum(|scan| scan.blocks),
        "rows": sum(|scan| scan.rows),
        "bytes": sum(|scan| scan.bytes),
        "pushed_down": explained.scans.iter().map(scan).collect::<Vec<_>>(),
        "rest": explained.rest,
        "plan": explained.plan,
    });
    answer::json(StatusCode::OK, &body)
}

fn scan(cost: &LeafCost) -> Value {
    let share = |share: Share| json!({"read": share.read, "total": share.total});
    json!({
        "does": cost.does,
        "filter": cost.filter,
        "fields": cost.columns,
        "may_stop_early": cost.may_stop,
        "servers": cost.servers,
        "segments": share(cost.segments),
        "blocks": share(cost.blocks),
        "rows": share(cost.rows),
        "bytes": share(cost.bytes),
    })
}
