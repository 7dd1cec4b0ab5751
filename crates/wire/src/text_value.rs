//! Texts of any length and any bytes as values of a record.
//!
//! Invariants: of a text longer than [`limits::LINE_BYTES_MAX`] the head is kept and marked, as a
//! whole number of characters; of bytes that are no UTF-8 the bytes are kept beside the text.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lodge_record::builder::BatchBuilder;
use lodge_record::{field, limits};

/// The head of a text that is kept, and the length of the whole if that is more.
pub(crate) fn head(text: &str) -> (&str, Option<usize>) {
    if text.len() <= limits::LINE_BYTES_MAX {
        return (text, None);
    }
    let end = text.floor_char_boundary(limits::LINE_BYTES_MAX);
    (text.get(..end).unwrap_or_default(), Some(text.len()))
}

/// Marks the record in hand as cut, from so many bytes.
pub(crate) fn mark_cut(builder: &mut BatchBuilder, original_bytes: usize) {
    builder.field_bool(field::TRUNCATED, true);
    builder.field_i64(field::ORIGINAL_BYTES, i64::try_from(original_bytes).unwrap_or(i64::MAX));
}

/// Keeps bytes that were no UTF-8 beside the text that was made of them.
pub(crate) fn keep_raw(builder: &mut BatchBuilder, raw: &[u8]) {
    let head = raw.get(..limits::LINE_BYTES_MAX).unwrap_or(raw);
    builder.field_str(field::RAW_BASE64, &STANDARD.encode(head));
}

/// The text of bytes, with a mark for what is no UTF-8. The standard library's own way looks for
/// what is wrong from the first byte on, which takes several times as long as to see that nothing is.
pub(crate) fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}

/// The text of bytes, which may be the head of more.
pub(crate) fn text_of(bytes: &[u8], is_cut: bool) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        // A character that the cut went through is not damage.
        Err(error) if is_cut && error.error_len().is_none() => {
            String::from_utf8_lossy(bytes.get(..error.valid_up_to()).unwrap_or_default())
        }
        Err(_) => String::from_utf8_lossy(bytes),
    }
}

/// Sets the message of the record in hand to `bytes`, which are the head of `original_bytes`.
/// Returns whether the text was cut.
pub(crate) fn set_message(builder: &mut BatchBuilder, bytes: &[u8], original_bytes: usize) -> bool {
    let head = bytes.get(..limits::LINE_BYTES_MAX).unwrap_or(bytes);
    let is_cut = head.len() < original_bytes;
    let text = text_of(head, is_cut);
    builder.message(&text);
    if matches!(text, Cow::Owned(_)) {
        keep_raw(builder, head);
    }
    if is_cut {
        mark_cut(builder, original_bytes);
    }
    is_cut
}
