//! Errors as answers: every refusal is JSON `{"error", "code", …}` that says what, where and how to
//! mend it, with the status that tells a client whether to try again.
//!
//! Invariants: 4xx is the request's fault and stays wrong when repeated, except 408 and 429; 429
//! and 503 carry `Retry-After`; what went wrong inside is logged here, once, and an internal path
//! or message reaches a client only if it helps to mend the request.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value};

/// A refusal on its way to the client.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    retry_after_s: Option<u64>,
    /// More fields of the JSON object: a column, a committed state.
    fields: Map<String, Value>,
}

impl ApiError {
    /// A refusal with a status, a stable code for programs and a message for people.
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { status, code, message, retry_after_s: None, fields: Map::new() }
    }

    /// 400: an argument or body that will never be right.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    /// 429: too much at once; try again after `retry_after_s`.
    pub(crate) fn overloaded(message: impl Into<String>, retry_after_s: u64) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "overloaded", message).retry_after(retry_after_s)
    }

    /// 503 with a code; try again after `retry_after_s`.
    pub(crate) fn unavailable(
        code: &'static str,
        message: impl Into<String>,
        retry_after_s: u64,
    ) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message).retry_after(retry_after_s)
    }

    /// 500: our fault; logged where it is handled.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }

    fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds.max(1));
        self
    }

    /// Adds a field to the answer's JSON object.
    pub(crate) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(key.to_owned(), value.into());
        self
    }

    /// The answer's JSON object.
    pub(crate) fn json(&self) -> Value {
        let mut object = Map::new();
        object.insert("error".to_owned(), self.message.as_str().into());
        object.insert("code".to_owned(), self.code.into());
        object.extend(self.fields.clone());
        Value::Object(object)
    }

    /// The code alone.
    pub(crate) fn code(&self) -> &'static str {
        self.code
    }

    /// The message alone.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// After how many seconds to try again.
    pub(crate) fn retry_after_s(&self) -> Option<u64> {
        self.retry_after_s
    }

    /// The status alone.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }
}

impl ApiError {
    /// The answer.
    pub(crate) fn response(&self) -> Response {
        if self.status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(code = self.code, error = %self.message, "a request failed");
        } else {
            let status = self.status.as_u16();
            tracing::debug!(status, code = self.code, error = %self.message, "request refused");
        }
        let mut response = json(self.status, &self.json());
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.response()
    }
}

/// A JSON answer.
pub(crate) fn json(status: StatusCode, body: &impl serde::Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(mut bytes) => {
            bytes.push(b'\n');
            let mut response = Response::new(axum::body::Body::from(bytes));
            *response.status_mut() = status;
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        // Only maps with keys that are not strings fail, and there are none.
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, e.to_string()).into_response(),
    }
}
