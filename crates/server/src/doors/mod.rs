//! Front doors: what other shippers and clients speak, over HTTP, in their own words.
//!
//! ```text
//! request ─ body, whole (deadlines, memory) ─ inflate and decode on a thread ─ commit ─ answer
//! ```
//!
//! Invariants: an answer that says stored comes when it is durable; what is overloaded or cannot be
//! stored now is said so that the client comes again (429, 503, `Retry-After`), what is wrong for
//! good so that it does not; one bad item does not lose the others. A request of more than
//! [`lodge_wire::batches::PIECE_BYTES_MAX`] is stored in pieces: if a later one fails, the answer
//! says so, and a client that sends all of it again doubles the first, unless the request can be
//! known again (see `repeats`).

mod datadog;
pub(crate) mod elastic;
mod gelf;
mod journal;
pub(crate) mod loki;
pub(crate) mod otlp;
pub(crate) mod otlp_grpc;
mod splunk;

use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use lodge_record::Batch;
use lodge_wire::batches::BodyError as ItemsError;
use lodge_wire::encoding::{self, Encoding};

use crate::access::Routes;
use crate::answer::ApiError;
use crate::app::App;
use crate::batches::refused;
use crate::body::{Arriving, Reserved, encoding_of, not_inflated};
use crate::identity::Identity;
use crate::metrics::Limit;
use crate::repeats::{Repeats, RequestId};

/// Largest body, as it is sent and inflated.
const BODY_BYTES_MAX: usize = 64 << 20;
/// Memory that a byte of an inflated body takes while it is decoded and committed.
const MEMORY_FACTOR: usize = 3;

/// The routes of all doors.
pub(crate) fn routes() -> Routes {
    Routes::new()
        .merge(elastic::routes("/elasticsearch"))
        .merge(loki::routes())
        .merge(otlp::routes())
        .merge(otlp_grpc::routes())
        .merge(splunk::routes())
        .merge(datadog::routes())
        .merge(gelf::routes())
        .merge(journal::routes())
}

/// A body that was taken: from whom, which request it is, and the memory that it holds.
struct Taken {
    identity: Identity,
    request: RequestId,
    _memory: Reserved,
}

/// Takes a body whole and has `decode` read its plain bytes on a thread. The memory is held until
/// what is given back is dropped.
async fn take<T: Send + 'static>(
    app: &Arc<App>,
    head: &Parts,
    body: Body,
    decode: impl FnOnce(&[u8]) -> Result<T, ApiError> + Send + 'static,
) -> Result<(T, Taken), ApiError> {
    let arriving = Arriving::new(app, body);
    let encoding = encoding_of(&head.headers)?;
    take_framed(app, head, arriving, move |body| Ok((encoding, body)), decode).await
}

/// As [`take`], of a body in which `unframe` finds what is to be inflated, and how.
async fn take_framed<T: Send + 'static>(
    app: &Arc<App>,
    head: &Parts,
    arriving: Arriving,
    unframe: impl FnOnce(Bytes) -> Result<(Encoding, Bytes), ApiError> + Send + 'static,
    decode: impl FnOnce(&[u8]) -> Result<T, ApiError> + Send + 'static,
) -> Result<(T, Taken), ApiError> {
    let identity = Identity::of_request(&head.extensions)?;
    let repeats = Repeats::of(app, head, &identity)?;
    let mut memory = Reserved::new(app, identity.tenant());
    let body = arriving.whole(BODY_BYTES_MAX, &mut memory).await;
    let body = body.map_err(|error| error.into_answer(&app.metrics))?;
    let held = Arc::clone(app);
    let turn = app.decoders.turn(identity.tenant()).await;
    let work = app.decoders.run(move || {
        let _turn = turn;
        let (encoding, body) = unframe(body)?;
        let plain = match encoding {
            Encoding::Identity => body,
            compressed => encoding::decompress(compressed, &body, BODY_BYTES_MAX)
                .map_err(|error| not_inflated(&held.metrics, &error))?
                .into(),
        };
        let grown = memory.grow_to(plain.len().saturating_mul(MEMORY_FACTOR));
        grown.map_err(|error| error.into_answer(&held.metrics))?;
        held.metrics.ingest_bytes.inc_by(plain.len() as u64);
        let decoded = decode(&plain).inspect_err(|error| {
            if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
                held.metrics.hit(Limit::BodyBytes);
            }
        })?;
        let request = repeats.of_content(&plain);
        Ok((decoded, Taken { identity, request, _memory: memory }))
    });
    work.await.map_err(|error| ApiError::internal(format!("decoding died: {error}")))?
}

/// Why nothing of a body was taken, of a decoder of items.
fn not_decoded(error: &ItemsError) -> ApiError {
    match error {
        ItemsError::Expands(_) => {
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", error.to_string())
        }
        ItemsError::Columns(_) => ApiError::internal(error.to_string()),
    }
}

/// Stores records; all are durable when it returns.
async fn store(app: &App, taken: &Taken, records: Vec<RecordBatch>) -> Result<u64, ApiError> {
    let mut stored = 0;
    for (piece, records) in (0..).zip(records) {
        let mut batch = Batch::new(taken.identity.tenant().clone(), None, None, records)
            .map_err(|error| ApiError::internal(format!("decoded items are no batch: {error}")))?;
        taken.request.mark(&mut batch, piece);
        let started = Instant::now();
        let ack = app.ingest.submit(batch).await.map_err(|error| {
            let refused = refused(app, &error, None);
            if stored == 0 { refused } else { refused.with("records_stored", stored) }
        })?;
        app.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
        app.metrics.ingest_records.inc_by(ack.records());
        if ack.duplicate() {
            app.metrics.ingest_duplicates.inc();
        }
        stored += ack.records();
    }
    Ok(stored)
}

/// An answer of one type.
fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A refusal in a protocol's own words, with the status and `Retry-After` that it has here.
fn refusal(error: &ApiError, content_type: &'static str, body: impl Into<Body>) -> Response {
    if error.status() == StatusCode::INTERNAL_SERVER_ERROR {
        tracing::error!(error = error.message(), "a request failed");
    }
    let mut response = answer(error.status(), content_type, body);
    if let Some(seconds) = error.retry_after_s() {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// An answer or a refusal, either of which is one.
fn either(outcome: Result<Response, Response>) -> Response {
    outcome.unwrap_or_else(IntoResponse::into_response)
}
