//! OpenTelemetry logs over gRPC, on the HTTP listener: HTTP/2 with prior knowledge.
//!
//! ```text
//! POST /opentelemetry.proto.collector.logs.v1.LogsService/Export
//!   request    one message in its frame, an ExportLogsServiceRequest; grpc-encoding, grpc-timeout
//!   answer     200, one message, an ExportLogsServiceResponse; trailers grpc-status: 0
//!   refusal    200, headers only, with grpc-status and grpc-message; where the client is to come
//!              again, grpc-status-details-bin: google.rpc.Status with RetryInfo
//! ```
//!
//! Written by hand: a unary call is one message each way, and a gRPC library would bring a second
//! server and a second decoder of what `lodge_wire` decodes.
//!
//! Invariants: what may be tried again is `RESOURCE_EXHAUSTED` or `UNAVAILABLE` with a delay, or
//! `DEADLINE_EXCEEDED`, and of the latter nothing is stored; no other refusal has a delay.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use http_body_util::{BodyExt, Full};
use lodge_wire::encoding::Encoding;
use lodge_wire::grpc_frames::{self, FrameError};
use lodge_wire::otlp_logs::{Decoded, Format, reply};

use super::otlp::{code_of, decoded};
use super::{answer, store, take_framed};
use crate::access::{INGEST, Routes};
use crate::answer::ApiError;
use crate::app::App;
use crate::body::Arriving;

const CONTENT_TYPE: &str = "application/grpc";
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const ENCODINGS: HeaderValue = HeaderValue::from_static("identity,gzip,deflate,zstd,snappy");

pub(crate) fn routes() -> Routes {
    const SERVICES: [&str; 4] = [
        "logs.v1.LogsService",
        "metrics.v1.MetricsService",
        "trace.v1.TraceService",
        "profiles.v1development.ProfilesService",
    ];
    let routes = Routes::in_words(|_, error| refusal(error)).add(
        INGEST,
        "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
        post(export),
    );
    SERVICES.iter().fold(routes, |routes, service| {
        let path = format!("/opentelemetry.proto.collector.{service}/{{method}}");
        routes.add(INGEST, &path, post(unimplemented))
    })
}

async fn export(State(app): State<Arc<App>>, request: Request) -> Response {
    if let Err(error) = check_is_grpc(&request) {
        return error.into_response();
    }
    match take_export(&app, request).await {
        Ok(message) => success(message),
        Err(error) => refusal(&error),
    }
}

/// Any other call of OpenTelemetry's: Lodge keeps logs.
async fn unimplemented(request: Request) -> Response {
    let path = request.uri().path();
    let problem = format!(
        "there is no method {path} here: Lodge takes logs only, by \
         /opentelemetry.proto.collector.logs.v1.LogsService/Export"
    );
    refusal(&ApiError::new(StatusCode::NOT_IMPLEMENTED, "unimplemented", problem))
}

/// Who speaks no gRPC is answered in HTTP.
fn check_is_grpc(request: &Request) -> Result<(), ApiError> {
    let stated = request.headers().get(header::CONTENT_TYPE);
    let stated = stated.map(HeaderValue::as_bytes).unwrap_or_default();
    let rest = stated.strip_prefix(CONTENT_TYPE.as_bytes());
    if !rest.is_some_and(|rest| matches!(rest, [] | [b';', ..] | b"+proto")) {
        let problem = "Content-Type has to be application/grpc; OTLP over HTTP goes to /v1/logs";
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Err(ApiError::new(status, "content_type", problem));
    }
    if request.version() != Version::HTTP_2 {
        let problem = "gRPC needs HTTP/2; OTLP over HTTP goes to /v1/logs";
        return Err(ApiError::bad_request(problem));
    }
    Ok(())
}

/// The bytes of the reply's message.
async fn take_export(app: &Arc<App>, request: Request) -> Result<Vec<u8>, ApiError> {
    let (head, body) = request.into_parts();
    let arriving = Arriving::new(app, body);
    let encoding = encoding_of(&head.headers)?;
    let unframe = move |body: Bytes| {
        let message = grpc_frames::only_message(&body).map_err(|error| not_one(&error))?;
        let bytes = body.slice_ref(message.bytes);
        match (message.is_compressed, encoding) {
            (false, _) => Ok((Encoding::Identity, bytes)),
            (true, Encoding::Identity) => Err(ApiError::bad_request(
                "the gRPC message is compressed, and no grpc-encoding says how",
            )),
            (true, encoding) => Ok((encoding, bytes)),
        }
    };
    let taking =
        take_framed(app, &head, arriving, unframe, |plain| decoded(Format::Protobuf, plain));
    let taken = match time_max(&head.headers)? {
        None => taking.await,
        // A commit that has begun is not called back: only what comes before it is cut short.
        Some(time_max) => tokio::time::timeout(time_max, taking).await.unwrap_or_else(|_| {
            let problem = format!("the request was not here and decoded within {time_max:?}");
            Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "deadline", problem))
        }),
    };
    let (decoded, taken) = taken?;
    let message = decoded.message();
    let Decoded { batches, rejected, kept_as_text, .. } = decoded;
    app.metrics.malformed_lines.inc_by(rejected + kept_as_text);
    store(app, &taken, batches).await?;
    Ok(reply::response(Format::Protobuf, rejected, &message))
}

fn encoding_of(headers: &HeaderMap) -> Result<Encoding, ApiError> {
    let Some(value) = headers.get("grpc-encoding") else { return Ok(Encoding::Identity) };
    let value = value.to_str().unwrap_or("?");
    Encoding::from_header(value).ok_or_else(|| {
        let problem =
            format!("grpc-encoding `{value}` is not one of identity, gzip, deflate, zstd, snappy");
        ApiError::new(StatusCode::NOT_IMPLEMENTED, "grpc_encoding", problem)
    })
}

fn time_max(headers: &HeaderMap) -> Result<Option<Duration>, ApiError> {
    let Some(value) = headers.get("grpc-timeout") else { return Ok(None) };
    let value = value.to_str().unwrap_or("?");
    grpc_frames::timeout(value).map(Some).ok_or_else(|| {
        ApiError::bad_request(format!(
            "grpc-timeout `{value}` is not 1 to 8 digits and one of H, M, S, m, u, n"
        ))
    })
}

fn not_one(error: &FrameError) -> ApiError {
    let status = match error {
        // What gRPC calls a violation of the method's cardinality.
        FrameError::None | FrameError::More(_) => StatusCode::NOT_IMPLEMENTED,
        FrameError::Cut { .. } | FrameError::Flag(_) => StatusCode::BAD_REQUEST,
    };
    ApiError::new(status, "grpc_frame", error.to_string())
}

fn success(message: Vec<u8>) -> Response {
    let Some(frame) = grpc_frames::framed(&message) else {
        return refusal(&ApiError::internal("the reply is too long for a frame"));
    };
    let mut trailers = HeaderMap::new();
    trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
    let body = Full::new(Bytes::from(frame)).with_trailers(async { Some(Ok(trailers)) });
    let mut response = answer(StatusCode::OK, CONTENT_TYPE, Body::new(body));
    response.headers_mut().insert(ACCEPT_ENCODING, ENCODINGS);
    response
}

/// An answer of headers only.
fn refusal(error: &ApiError) -> Response {
    let code = code_of(error.status());
    if code == reply::Code::Internal {
        tracing::error!(error = error.message(), "a call failed");
    }
    let mut response = answer(StatusCode::OK, CONTENT_TYPE, Body::empty());
    let headers = response.headers_mut();
    headers.insert(GRPC_STATUS, HeaderValue::from(code as u16));
    let text = grpc_frames::percent_encoded(error.message());
    if let Ok(text) = HeaderValue::from_str(&text) {
        headers.insert(GRPC_MESSAGE, text);
    }
    if let Some(seconds) = error.retry_after_s().and_then(|seconds| u32::try_from(seconds).ok()) {
        let status = reply::status(Format::Protobuf, code, error.message(), Some(seconds));
        if let Ok(details) = HeaderValue::from_str(&STANDARD_NO_PAD.encode(status)) {
            headers.insert(GRPC_DETAILS, details);
        }
    }
    headers.insert(ACCEPT_ENCODING, ENCODINGS);
    response
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// `grpc-status`, and the details if there are any.
    fn told(error: &ApiError) -> (String, Option<Vec<u8>>) {
        let response = refusal(error);
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[header::CONTENT_TYPE], CONTENT_TYPE);
        let details = response.headers().get(GRPC_DETAILS);
        let details = details.map(|value| STANDARD_NO_PAD.decode(value.as_bytes()).unwrap());
        (response.headers()[GRPC_STATUS].to_str().unwrap().to_owned(), details)
    }

    #[test]
    fn overload_says_when_to_come_again_and_what_is_wrong_for_good_does_not() {
        for (error, code) in [
            (ApiError::overloaded("too much at once", 7), reply::Code::ResourceExhausted),
            (ApiError::unavailable("disk_full", "no room", 7), reply::Code::Unavailable),
        ] {
            let (status, details) = told(&error);
            assert_eq!(status, (code as u16).to_string());
            let expected = reply::status(Format::Protobuf, code, error.message(), Some(7));
            assert_eq!(details, Some(expected));
        }
        for (status, code) in [
            (400, reply::Code::InvalidArgument),
            (401, reply::Code::Unauthenticated),
            (403, reply::Code::PermissionDenied),
            (408, reply::Code::DeadlineExceeded),
            (413, reply::Code::ResourceExhausted),
            (500, reply::Code::Internal),
            (501, reply::Code::Unimplemented),
        ] {
            let error = ApiError::new(StatusCode::from_u16(status).unwrap(), "x", "y");
            assert_eq!(told(&error), ((code as u16).to_string(), None), "{status}");
        }
    }

    #[test]
    fn a_message_of_any_text_is_a_header() {
        let error = ApiError::bad_request("line\nend, 100 %, naïve ".repeat(500));
        let response = refusal(&error);
        let text = response.headers()[GRPC_MESSAGE].to_str().unwrap();
        assert!(text.starts_with("line%0Aend, 100 %25, na%C3%AFve line"), "{text}");
        assert!(text.len() <= grpc_frames::MESSAGE_BYTES_MAX);
    }
}
