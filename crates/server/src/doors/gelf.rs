//! GELF over HTTP: one message in a request, or several one after the other.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::StatusCode;
use lodge_wire::gelf::Decoder;
use lodge_wire::json_items::Items;

use super::{answer, store, take};
use crate::access::{INGEST, Routes};
use crate::answer::ApiError;
use crate::app::{App, now_ns};

/// Most messages of one request.
const MESSAGES_MAX: usize = 100_000;

pub(super) fn routes() -> Routes {
    Routes::new().add(INGEST, "/gelf", post(messages))
}

async fn messages(State(app): State<Arc<App>>, request: Request) -> Response {
    match take_messages(&app, request).await {
        Ok(()) => answer(StatusCode::ACCEPTED, "application/json", ""),
        Err(error) => error.into_response(),
    }
}

async fn take_messages(app: &Arc<App>, request: Request) -> Result<(), ApiError> {
    let (head, body) = request.into_parts();
    let decoded = take(app, &head, body, |plain| {
        let mut decoder = Decoder::new(now_ns());
        let mut problem = None;
        for (number, item) in Items::new(plain).enumerate() {
            if number >= MESSAGES_MAX {
                let problem = format!("more than {MESSAGES_MAX} messages; send fewer in a request");
                return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", problem));
            }
            if let Err(error) = decoder.message(item.bytes) {
                problem.get_or_insert_with(|| format!("message {number}: {error}"));
            }
        }
        let records = decoder.finish().map_err(|error| ApiError::internal(error.to_string()))?;
        Ok((records, problem))
    });
    let ((records, problem), taken) = decoded.await?;
    store(app, &taken, records.into_iter().collect()).await?;
    match problem {
        None => Ok(()),
        Some(problem) => {
            app.metrics.malformed_lines.inc();
            Err(ApiError::bad_request(problem))
        }
    }
}
