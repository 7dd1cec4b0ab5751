//! `/health`, `/ready`, `/metrics` and `/api/v1/status`.
//!
//! `/health` says that the process answers; `/ready` that the catalog does too, so that a stuck
//! disk shows there and not as a wish to restart the process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde_json::{Value, json};

use crate::answer::{self, ApiError};
use crate::app::App;
use crate::metrics::{self, Scraped};

/// How long the catalog may take to show that it answers.
const READY_TIME_MAX: Duration = Duration::from_secs(5);

/// `/health`
pub(crate) async fn health() -> &'static str {
    "OK\n"
}

/// `/ready`
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Result<&'static str, ApiError> {
    if app.stopping.is_cancelled() {
        return Err(ApiError::unavailable("stopping", "the server is stopping", 5));
    }
    match tokio::time::timeout(READY_TIME_MAX, app.store.check_catalog()).await {
        Ok(Ok(_)) => Ok("OK\n"),
        Ok(Err(error)) => {
            let message = format!("the catalog does not answer: {error}");
            Err(ApiError::unavailable("catalog", message, 5))
        }
        Err(_) => {
            let message = format!("the catalog did not answer within {READY_TIME_MAX:?}");
            Err(ApiError::unavailable("catalog", message, 5))
        }
    }
}

/// `/metrics`
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let scraped = scrape(&app);
    let text = app.metrics.text(&scraped);
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

/// `/api/v1/status`
pub(crate) async fn status(State(app): State<Arc<App>>) -> Response {
    let scraped = scrape(&app);
    let uptime_s = app.metrics.uptime().as_secs_f64();
    let ingested = app.metrics.ingest_records.get();
    let limit_hits: BTreeMap<&str, u64> = app.metrics.hits().into_iter().collect();
    let mut body: Value = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_s": uptime_s,
        "rows": scraped.store.rows,
        "bytes": scraped.store.bytes,
        "segments": {"l0": scraped.store.l0_segments, "built": scraped.store.built_segments},
        "l0_bytes": scraped.store.l0_bytes,
        "ingest": {
            "records_total": ingested,
            "bytes_total": app.metrics.ingest_bytes.get(),
            "malformed_lines_total": app.metrics.malformed_lines.get(),
            "duplicate_batches_total": app.metrics.ingest_duplicates.get(),
            "records_per_s": app.rate.per_s(),
            "queued_bytes": scraped.ingest.queued_bytes,
        },
        "queries_running": app.metrics.queries_running.get(),
        "tails_open": app.metrics.tails_open.get(),
        "limit_hits": limit_hits,
        "disk_reserve_bytes": scraped.store.disk_reserve_bytes,
        "disk_free_bytes": scraped.store.disk_free_bytes,
        "process": {
            "pid": std::process::id(),
            "resident_bytes": metrics::resident_bytes(),
            "cpu_s": metrics::cpu_time().as_secs_f64(),
        },
        "settings": {
            "data_dir": app.config.data_dir,
            "listen": app.config.listen.to_string(),
            "query_time_max_s": app.config.query_time_max.as_secs_f64(),
        },
    });
    if let Some(kafka) = app.kafka.status(&app.config.kafka) {
        body["kafka"] = kafka;
    }
    answer::json(StatusCode::OK, &body)
}

fn scrape(app: &App) -> Scraped {
    Scraped { store: app.store.stats(), ingest: app.ingest.stats(), queries: app.engine.stats() }
}
