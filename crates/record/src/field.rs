//! The names of the fields that every record has. Persisted: never renamed.

/// Time of the event, UTC nanoseconds since 1970.
pub const TIME: &str = "_time";
/// Canonical text of the stream's label set, see [`crate::stream`].
pub const STREAM: &str = "_stream";
/// Identifier derived from the stream's canonical text. Never stored.
pub const STREAM_ID: &str = "_stream_id";
/// The message.
pub const MSG: &str = "_msg";
/// JSON object text with the fields of a record beyond the column limit, see [`crate::overflow`].
pub const OVERFLOW: &str = "_overflow";
/// Why a line could not be decoded as what it claimed to be; the line itself is in `_msg`.
pub const ERROR: &str = "lodge.error";
/// The original bytes, base64, of a message that was not valid UTF-8.
pub const RAW_BASE64: &str = "lodge.raw_base64";
/// `true` where the head of a message was kept and the rest cut at the line limit.
pub const TRUNCATED: &str = "truncated";
/// Length in bytes of a truncated message before it was cut.
pub const ORIGINAL_BYTES: &str = "lodge.original_bytes";
