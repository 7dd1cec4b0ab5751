//! Datadog's log intake, as its agents and libraries send to it.
//!
//! Invariant: items that can be taken are stored beside those that are refused; a keep-alive is
//! answered and stores nothing.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{get, post};
use http::{HeaderMap, StatusCode, Uri, header};
use lodge_wire::datadog_logs::{self, Metadata};
use serde_json::json;

use super::{answer, either, not_decoded, refusal, store, take};
use crate::access::{INGEST, Routes};
use crate::answer::ApiError;
use crate::app::{App, now_ns};
use crate::args::Args;

const JSON: &str = "application/json";

pub(super) fn routes() -> Routes {
    Routes::in_words(|_, error| in_words(error))
        .add(INGEST, "/api/v2/logs", post(second))
        .add(INGEST, "/v1/input", post(first))
        .add(INGEST, "/v1/input/{key}", post(first))
        // Agents look whether their key is good before they send.
        .add(INGEST, "/api/v1/validate", get(validate))
}

async fn second(State(app): State<Arc<App>>, request: Request) -> Response {
    either(take_logs(&app, request, StatusCode::ACCEPTED).await)
}

async fn first(State(app): State<Arc<App>>, request: Request) -> Response {
    either(take_logs(&app, request, StatusCode::OK).await)
}

async fn validate() -> Response {
    answer(StatusCode::OK, JSON, json!({"valid": true}).to_string())
}

async fn take_logs(
    app: &Arc<App>,
    request: Request,
    stored: StatusCode,
) -> Result<Response, Response> {
    let (head, body) = request.into_parts();
    let metadata = metadata(&head.uri).map_err(|error| in_words(&error))?;
    let is_text = is_text(&head.headers);
    let decoded = take(app, &head, body, move |plain| {
        let decode = if is_text { datadog_logs::decode_text } else { datadog_logs::decode_json };
        decode(&metadata, now_ns(), plain).map_err(|error| not_decoded(&error))
    });
    let (mut decoded, taken) = decoded.await.map_err(|error| in_words(&error))?;
    app.metrics.malformed_lines.inc_by(decoded.failed_total);
    let records = std::mem::take(&mut decoded.records);
    store(app, &taken, records).await.map_err(|error| in_words(&error))?;
    if decoded.failed_total == 0 {
        return Ok(answer(stored, JSON, "{}"));
    }
    let mut body = Vec::new();
    datadog_logs::write_errors(&decoded, &mut body);
    Err(answer(StatusCode::BAD_REQUEST, JSON, body))
}

fn metadata(uri: &Uri) -> Result<Metadata, ApiError> {
    let args = Args::of_uri(uri)?;
    let text = |name: &str| args.get(name).map(str::to_owned);
    Ok(Metadata {
        source: text("ddsource"),
        tags: text("ddtags"),
        hostname: text("hostname"),
        service: text("service"),
    })
}

fn is_text(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.is_some_and(|value| value.trim_start().starts_with("text/plain"))
}

fn in_words(error: &ApiError) -> Response {
    let status = error.status();
    let title = status.canonical_reason().unwrap_or("Error");
    let body = json!({"errors": [{"status": status.as_str(), "title": title,
        "detail": error.message()}]});
    refusal(error, JSON, body.to_string())
}
