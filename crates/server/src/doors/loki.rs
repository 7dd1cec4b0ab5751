//! Loki's push: protobuf in a snappy block, or JSON.
//!
//! Invariant: a refusal that its clients take for good (400) is given only for what stays wrong;
//! entries that can be taken are stored beside those that are refused.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use http::{HeaderMap, StatusCode, header};
use lodge_wire::loki_push::{self, Decoded, PushError};
use lodge_wire::snappy::{self, SnappyError};

use super::{BODY_BYTES_MAX, answer, either, refusal, store, take};
use crate::access::{INGEST, Routes};
use crate::answer::ApiError;
use crate::app::{App, now_ns};

const TEXT: &str = "text/plain; charset=utf-8";

pub(crate) fn routes() -> Routes {
    Routes::in_words(|_, error| in_words(error)).add(INGEST, "/loki/api/v1/push", post(push)).add(
        INGEST,
        "/api/prom/push",
        post(push),
    )
}

async fn push(State(app): State<Arc<App>>, request: Request) -> Response {
    either(take_push(&app, request).await)
}

async fn take_push(app: &Arc<App>, request: Request) -> Result<Response, Response> {
    let (mut head, body) = request.into_parts();
    let is_json = is_json(&head.headers);
    let names_snappy = head.headers.get(header::CONTENT_ENCODING).is_some_and(|v| v == "snappy");
    if names_snappy {
        // It is the block around a protobuf body, which is there in any case.
        head.headers.remove(header::CONTENT_ENCODING);
    }
    let decoded = take(app, &head, body, move |plain| {
        let decoded = if is_json {
            loki_push::decode_json(plain, now_ns())
        } else {
            let block = snappy::decompress_block(plain, BODY_BYTES_MAX);
            let block = block.map_err(|error| not_unpacked(&error))?;
            loki_push::decode_protobuf(&block, now_ns())
        };
        decoded.map_err(|error| not_pushed(&error))
    });
    let (decoded, taken) = decoded.await.map_err(|error| in_words(&error))?;
    let Decoded { records, entries, rejected_total, troubles } = decoded;
    app.metrics.malformed_lines.inc_by(rejected_total);
    store(app, &taken, records).await.map_err(|error| in_words(&error))?;
    if rejected_total == 0 {
        return Ok(answer(StatusCode::NO_CONTENT, TEXT, ""));
    }
    let first = troubles.first().map_or("", |trouble| &trouble.reason);
    let problem =
        format!("{rejected_total} of {entries} entries are not stored; the first: {first}");
    Err(in_words(&ApiError::bad_request(problem)))
}

fn in_words(error: &ApiError) -> Response {
    refusal(error, TEXT, format!("{}\n", error.message()))
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.is_some_and(|value| value.trim_start().starts_with("application/json"))
}

fn not_unpacked(error: &SnappyError) -> ApiError {
    match error {
        SnappyError::TooLarge { .. } => {
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", error.to_string())
        }
        SnappyError::Damaged(_) => ApiError::bad_request(error.to_string()),
    }
}

fn not_pushed(error: &PushError) -> ApiError {
    match error {
        PushError::Columns(_) => ApiError::internal(error.to_string()),
        PushError::Expands(_) => {
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", error.to_string())
        }
        PushError::Protobuf(_) | PushError::Json { .. } => ApiError::bad_request(error.to_string()),
    }
}
