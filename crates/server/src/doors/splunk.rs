//! Splunk's HTTP Event Collector: events, raw lines, health and acknowledgements.
//!
//! Invariant: the answer comes when the events are durable, so that every identifier of an
//! acknowledgement that was given is acknowledged already, also after a restart.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{get, post};
use http::{HeaderMap, StatusCode, Uri};
use lodge_wire::splunk_hec::{self, Code, Metadata};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{answer, either, not_decoded, refusal, store, take};
use crate::access::{INGEST, Need, Routes};
use crate::answer::ApiError;
use crate::app::{App, now_ns};
use crate::args::Args;
use crate::identity::NO_TOKEN;

const JSON: &str = "application/json";
/// Most identifiers that one question may name.
const ACKS_MAX: usize = 10_000;
/// The next identifier of an acknowledgement.
static NEXT_ACK: AtomicU64 = AtomicU64::new(0);

pub(super) fn routes() -> Routes {
    let mut routes = Routes::in_words(|_, error| in_words(error));
    for path in ["", "/event", "/event/1.0"] {
        routes = routes.add(INGEST, &format!("/services/collector{path}"), post(events));
    }
    for path in ["/raw", "/raw/1.0"] {
        routes = routes.add(INGEST, &format!("/services/collector{path}"), post(raw));
    }
    for path in ["/health", "/health/1.0"] {
        routes = routes.add(Need::Nothing, &format!("/services/collector{path}"), get(health));
    }
    routes.add(INGEST, "/services/collector/ack", post(acks))
}

async fn events(State(app): State<Arc<App>>, request: Request) -> Response {
    either(take_events(&app, request, false).await)
}

async fn raw(State(app): State<Arc<App>>, request: Request) -> Response {
    either(take_events(&app, request, true).await)
}

async fn take_events(app: &Arc<App>, request: Request, is_raw: bool) -> Result<Response, Response> {
    let (head, body) = request.into_parts();
    let metadata = metadata(&head.uri).map_err(|error| in_words(&error))?;
    let channel = channel(&head.headers, &head.uri);
    let decoded = take(app, &head, body, move |plain| {
        let decode = if is_raw { splunk_hec::decode_raw } else { splunk_hec::decode_events };
        decode(&metadata, now_ns(), plain).map_err(|error| not_decoded(&error))
    });
    let (mut decoded, taken) = decoded.await.map_err(|error| in_words(&error))?;
    app.metrics.malformed_lines.inc_by(decoded.failed_total);
    let records = std::mem::take(&mut decoded.records);
    store(app, &taken, records).await.map_err(|error| in_words(&error))?;
    if let Some((code, event)) = splunk_hec::refusal(&decoded) {
        let mut body = Vec::new();
        splunk_hec::write_refusal(code, event, &mut body);
        return Err(answer(StatusCode::BAD_REQUEST, JSON, body));
    }
    let mut body = json!({"text": "Success", "code": 0});
    if channel {
        body["ackId"] = NEXT_ACK.fetch_add(1, Ordering::Relaxed).into();
    }
    Ok(answer(StatusCode::OK, JSON, body.to_string()))
}

fn metadata(uri: &Uri) -> Result<Metadata, ApiError> {
    let args = Args::of_uri(uri)?;
    let text = |name: &str| args.get(name).map(str::to_owned);
    Ok(Metadata {
        host: text("host"),
        source: text("source"),
        sourcetype: text("sourcetype"),
        index: text("index"),
        time: text("time"),
    })
}

/// Whether the client names a channel, and so wants acknowledgements.
fn channel(headers: &HeaderMap, uri: &Uri) -> bool {
    let in_query = || uri.query().is_some_and(|q| q.split('&').any(|p| p.starts_with("channel=")));
    headers.contains_key("x-splunk-request-channel") || in_query()
}

async fn health() -> Response {
    answer(StatusCode::OK, JSON, json!({"text": "HEC is healthy", "code": 17}).to_string())
}

#[derive(Deserialize)]
struct Asked {
    acks: Vec<u64>,
}

async fn acks(State(app): State<Arc<App>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    if !channel(&head.headers, &head.uri) {
        let missing = json!({"text": "Data channel is missing", "code": 10});
        return answer(StatusCode::BAD_REQUEST, JSON, missing.to_string());
    }
    let asked = take(&app, &head, body, |plain| {
        let asked: Asked = serde_json::from_slice(plain)
            .map_err(|error| ApiError::bad_request(error.to_string()))?;
        if asked.acks.len() > ACKS_MAX {
            return Err(ApiError::bad_request(format!(
                "more than {ACKS_MAX} acks in one question"
            )));
        }
        Ok(asked)
    });
    match asked.await {
        Ok((asked, _memory)) => {
            let acks: BTreeMap<String, Value> =
                asked.acks.iter().map(|id| (id.to_string(), true.into())).collect();
            answer(StatusCode::OK, JSON, json!({"acks": acks}).to_string())
        }
        Err(error) => in_words(&error),
    }
}

/// A refusal as Splunk words it.
fn in_words(error: &ApiError) -> Response {
    let (text, code) = match error.status() {
        StatusCode::UNAUTHORIZED if error.code() == NO_TOKEN => ("Token is required", 2),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ("Invalid token", 4),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => ("Server is busy", 9),
        StatusCode::INTERNAL_SERVER_ERROR => ("Internal server error", 8),
        _ => (Code::InvalidFormat.text(), Code::InvalidFormat.number()),
    };
    let body = json!({"text": text, "code": code, "detail": error.message()});
    refusal(error, JSON, body.to_string())
}
