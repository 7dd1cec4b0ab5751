//! The replies: `ExportLogsServiceResponse` and `google.rpc.Status`, in the request's format.

use serde_json::json;

use super::Format;
use crate::protobuf::{put_bytes_field, put_varint_field};

/// Longest message that is told a client.
const MESSAGE_BYTES_MAX: usize = 4 << 10;
/// What `google.protobuf.Any` calls a delay.
const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

/// The codes of `google.rpc.Code` that an answer may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The request is wrong for good.
    InvalidArgument = 3,
    /// It took too long; to be tried again.
    DeadlineExceeded = 4,
    /// The identity may not do this.
    PermissionDenied = 7,
    /// Too much; to be tried again only if a delay is told.
    ResourceExhausted = 8,
    /// No such service.
    Unimplemented = 12,
    /// Our bug.
    Internal = 13,
    /// To be tried again.
    Unavailable = 14,
    /// Who is it?
    Unauthenticated = 16,
}

/// The body of a success. With `rejected` log records, or a `message`, it is a partial one; the
/// message with none rejected is a warning.
pub fn response(format: Format, rejected: u64, message: &str) -> Vec<u8> {
    let message = head(message);
    let is_partial = rejected > 0 || !message.is_empty();
    match format {
        Format::Protobuf => {
            let mut body = Vec::new();
            if is_partial {
                let mut partial = Vec::new();
                if rejected > 0 {
                    put_varint_field(&mut partial, 1, rejected);
                }
                if !message.is_empty() {
                    put_bytes_field(&mut partial, 2, message.as_bytes());
                }
                put_bytes_field(&mut body, 1, &partial);
            }
            body
        }
        Format::Json if is_partial => {
            // 64-bit integers are texts in protobuf's JSON.
            let rejected = rejected.to_string();
            let partial = json!({"rejectedLogRecords": rejected, "errorMessage": message});
            json!({ "partialSuccess": partial }).to_string().into_bytes()
        }
        Format::Json => b"{}".to_vec(),
    }
}

/// The body of a failure; over gRPC the value of `grpc-status-details-bin`. `retry_after_s` is in
/// seconds: gRPC's clients try `ResourceExhausted` again only if it is there.
pub fn status(format: Format, code: Code, message: &str, retry_after_s: Option<u32>) -> Vec<u8> {
    let message = head(message);
    match format {
        Format::Protobuf => {
            let mut body = Vec::new();
            put_varint_field(&mut body, 1, code as u64);
            put_bytes_field(&mut body, 2, message.as_bytes());
            if let Some(seconds) = retry_after_s {
                let mut duration = Vec::new();
                put_varint_field(&mut duration, 1, u64::from(seconds));
                let mut retry_info = Vec::new();
                put_bytes_field(&mut retry_info, 1, &duration);
                let mut any = Vec::new();
                put_bytes_field(&mut any, 1, RETRY_INFO.as_bytes());
                put_bytes_field(&mut any, 2, &retry_info);
                put_bytes_field(&mut body, 3, &any);
            }
            body
        }
        Format::Json => {
            let mut status = json!({"code": code as u64, "message": message});
            if let Some(seconds) = retry_after_s {
                let delay = json!({"@type": RETRY_INFO, "retryDelay": format!("{seconds}s")});
                if let Some(status) = status.as_object_mut() {
                    status.insert("details".to_owned(), json!([delay]));
                }
            }
            status.to_string().into_bytes()
        }
    }
}

fn head(message: &str) -> &str {
    message.get(..message.floor_char_boundary(MESSAGE_BYTES_MAX)).unwrap_or(message)
}
