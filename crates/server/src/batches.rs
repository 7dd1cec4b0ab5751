//! `POST /api/v1/batches` and `GET /api/v1/producers/{id}`: the agent's own protocol.
//!
//! Invariants: the answer 200 carries what is *committed* of the producer, never what was sent; a
//! refusal that the agent can mend itself (gap, stale epoch) is 409 with that state; 429 and 503
//! mean "the same batch again", 400, 413 and 415 mean "never".

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use lodge_ingest::{IngestError, ProducerState};
use lodge_record::{Batch, ProducerId, TenantId, limits};
use lodge_wire::agent_batch;
use lodge_wire::encoding::{self, Encoding};
use serde_json::{Map, Value, json};

use crate::answer::{self, ApiError};
use crate::app::App;
use crate::body::{Arriving, BodyError, Reserved, encoding_of, not_inflated};
use crate::identity::Identity;
use crate::metrics::Limit;

/// Room for what surrounds the records on the wire.
const ENVELOPE_BYTES_MAX: usize = 1 << 20;
/// Largest body, compressed or not.
const BODY_BYTES_MAX: usize = limits::BATCH_BYTES_MAX + ENVELOPE_BYTES_MAX;

/// `POST /api/v1/batches`
pub(crate) async fn insert(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, ApiError> {
    let (head, body) = request.into_parts();
    let tenant = Identity::of_request(&head.extensions)?.tenant().clone();
    let arriving = Arriving::new(&app, body);
    let encoding = encoding_of(&head.headers)?;
    let mut memory = Reserved::new(&app, &tenant);
    let body = arriving.whole(BODY_BYTES_MAX, &mut memory).await;
    let body = body.map_err(|e| e.into_answer(&app.metrics))?;
    let batch = decode(&app, encoding, body, tenant, &mut memory).await?;
    let producer = batch.origin.map(|o| o.producer);
    let started = Instant::now();
    let ack = app.ingest.submit(batch).await.map_err(|e| refused(&app, &e, producer))?;
    app.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
    app.metrics.ingest_records.inc_by(ack.records());
    if ack.duplicate() {
        app.metrics.ingest_duplicates.inc();
    }
    let state = ack.origin().map(|origin| ProducerState {
        epoch: origin.epoch,
        seq: origin.seq,
        position: ack.position().cloned(),
    });
    let mut body = Map::new();
    if let Some(state) = &state {
        body.extend(state_fields(producer, state));
    }
    body.insert("records".to_owned(), ack.records().into());
    body.insert("duplicate".to_owned(), ack.duplicate().into());
    Ok(answer::json(StatusCode::OK, &body))
}

/// `GET /api/v1/producers/{id}`
pub(crate) async fn producer(
    State(app): State<Arc<App>>,
    identity: Identity,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let id: ProducerId = id.parse().map_err(|e| ApiError::bad_request(format!("{e}")))?;
    match app.store.source(identity.tenant(), id).await {
        Ok(Some((state, entry))) => {
            let mut body = state_fields(Some(id), &state);
            let counted = entry.map(|entry| entry.counted());
            body.insert("counted".to_owned(), json!(counted));
            Ok(answer::json(StatusCode::OK, &body))
        }
        Ok(None) => Err(ApiError::new(
            StatusCode::NOT_FOUND,
            "not_found",
            format!("nothing was ever committed of the producer {id}"),
        )),
        Err(error) => Err(refused(&app, &error.into(), Some(id))),
    }
}

/// Inflating and decoding is work for a thread of its own.
async fn decode(
    app: &App,
    encoding: Encoding,
    body: Bytes,
    tenant: TenantId,
    memory: &mut Reserved,
) -> Result<Batch, ApiError> {
    let metrics = Arc::clone(&app.metrics);
    let turn = app.decoders.turn(&tenant).await;
    let work = app.decoders.run(move || {
        let _turn = turn;
        let plain = match encoding {
            Encoding::Identity => body,
            compressed => {
                let plain = encoding::decompress(compressed, &body, BODY_BYTES_MAX);
                plain.map_err(|error| not_inflated(&metrics, &error))?.into()
            }
        };
        let bytes = plain.len();
        let batch = agent_batch::decode(tenant, plain)
            .map_err(|e| ApiError::new(StatusCode::BAD_REQUEST, "bad_batch", e.to_string()))?;
        Ok((bytes, batch))
    });
    let done = work.await.map_err(|e| ApiError::internal(format!("decoding died: {e}")))?;
    let (bytes, batch) = done?;
    memory.grow_to(bytes).map_err(|e: BodyError| e.into_answer(&app.metrics))?;
    app.metrics.ingest_bytes.inc_by(bytes as u64);
    Ok(batch)
}

/// The JSON fields of what is committed of a producer.
fn state_fields(producer: Option<ProducerId>, state: &ProducerState) -> Map<String, Value> {
    let fields = [
        ("producer", json!(producer.map(|p| p.to_string()))),
        ("epoch", json!(state.epoch)),
        ("seq", json!(state.seq)),
        ("position", json!(state.position.as_ref().map(|p| p.as_str()))),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// An ingest failure as an answer; counts the limit that was hit.
pub(crate) fn refused(app: &App, error: &IngestError, producer: Option<ProducerId>) -> ApiError {
    let message = error.to_string();
    match error {
        IngestError::Overloaded { retry_after_s, .. } => {
            app.metrics.hit(Limit::IngestQueue);
            ApiError::overloaded(message, *retry_after_s)
        }
        IngestError::DiskFull { .. } => {
            app.metrics.hit(Limit::DiskFree);
            let folder = app.config.data_dir.display();
            ApiError::unavailable("disk_full", format!("{message} (data folder: {folder})"), 10)
        }
        IngestError::Gap { committed } => conflict("gap", message, producer, committed),
        IngestError::StaleEpoch { committed } => {
            conflict("stale_epoch", message, producer, committed)
        }
        IngestError::TooLarge { .. } => {
            app.metrics.hit(Limit::BodyBytes);
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
        }
        IngestError::ShuttingDown => ApiError::unavailable("stopping", message, 2),
        IngestError::Store(source) => {
            tracing::error!(error = %source, "a batch was not stored");
            ApiError::unavailable("store", message, 5)
        }
    }
}

fn conflict(
    code: &'static str,
    message: String,
    producer: Option<ProducerId>,
    committed: &ProducerState,
) -> ApiError {
    let error = ApiError::new(StatusCode::CONFLICT, code, message);
    state_fields(producer, committed)
        .into_iter()
        .fold(error, |e, (name, value)| e.with(&name, value))
}
