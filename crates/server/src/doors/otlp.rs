//! OpenTelemetry logs over HTTP: protobuf and JSON, answered in the notation of the request.
//!
//! Invariant: what may be tried again is 429 or 503, never 500, which clients take for good.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use http::{HeaderMap, StatusCode, header};
use lodge_wire::otlp_logs::{self, Decoded, Format, OtlpError, reply};

use super::{answer, refusal, store, take};
use crate::access::{INGEST, Routes};
use crate::answer::ApiError;
use crate::app::{App, now_ns};

/// Bytes of values that one request may become.
const DECODED_BYTES_MAX: usize = 256 << 20;

pub(crate) fn routes() -> Routes {
    Routes::in_words(|headers, error| in_words(error, stated(headers).unwrap_or(Format::Json)))
        .add(INGEST, "/v1/logs", post(export))
        // Where Loki and VictoriaLogs take it.
        .add(INGEST, "/otlp/v1/logs", post(export))
        .add(INGEST, "/insert/opentelemetry/v1/logs", post(export))
}

/// The notation that a request names.
fn stated(headers: &HeaderMap) -> Option<Format> {
    let stated = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
    stated.and_then(Format::from_content_type)
}

async fn export(State(app): State<Arc<App>>, request: Request) -> Response {
    let Some(format) = stated(request.headers()) else {
        let problem = "Content-Type has to be application/x-protobuf or application/json";
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return in_words(&ApiError::new(status, "content_type", problem), Format::Json);
    };
    match take_export(&app, format, request).await {
        Ok(body) => answer(StatusCode::OK, format.content_type(), body),
        Err(error) => in_words(&error, format),
    }
}

async fn take_export(
    app: &Arc<App>,
    format: Format,
    request: Request,
) -> Result<Vec<u8>, ApiError> {
    let (head, body) = request.into_parts();
    let taking = take(app, &head, body, move |plain| decoded(format, plain));
    let (decoded, taken) = taking.await?;
    let message = decoded.message();
    let Decoded { batches, rejected, kept_as_text, .. } = decoded;
    app.metrics.malformed_lines.inc_by(rejected + kept_as_text);
    store(app, &taken, batches).await?;
    Ok(reply::response(format, rejected, &message))
}

/// The records of a request's plain bytes.
pub(super) fn decoded(format: Format, plain: &[u8]) -> Result<Decoded, ApiError> {
    let decoded = otlp_logs::decode(format, now_ns(), plain, DECODED_BYTES_MAX);
    decoded.map_err(|error| match error {
        OtlpError::Columns(_) => ApiError::internal(error.to_string()),
        OtlpError::Protobuf(_) | OtlpError::Json(_) => ApiError::bad_request(error.to_string()),
    })
}

/// What OpenTelemetry calls a refusal.
pub(super) fn code_of(status: StatusCode) -> reply::Code {
    match status {
        StatusCode::REQUEST_TIMEOUT => reply::Code::DeadlineExceeded,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::PAYLOAD_TOO_LARGE => {
            reply::Code::ResourceExhausted
        }
        StatusCode::INTERNAL_SERVER_ERROR => reply::Code::Internal,
        StatusCode::NOT_IMPLEMENTED => reply::Code::Unimplemented,
        StatusCode::SERVICE_UNAVAILABLE => reply::Code::Unavailable,
        StatusCode::UNAUTHORIZED => reply::Code::Unauthenticated,
        StatusCode::FORBIDDEN => reply::Code::PermissionDenied,
        _ => reply::Code::InvalidArgument,
    }
}

fn in_words(error: &ApiError, format: Format) -> Response {
    let code = code_of(error.status());
    let after_s = error.retry_after_s().and_then(|seconds| u32::try_from(seconds).ok());
    let body = reply::status(format, code, error.message(), after_s);
    refusal(error, format.content_type(), body)
}
