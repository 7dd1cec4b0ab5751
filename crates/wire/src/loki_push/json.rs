//! A push as JSON, in the form of today and in that of `/api/prom/push`.
//!
//! ```text
//! {"streams":[{"stream":{"app":"a"},"values":[["1772366400000000000","line",{"k":"v"}]]}]}
//! {"streams":[{"labels":"{app=\"a\"}","entries":[{"ts":"2026-03-01T12:00:00Z","line":"line"}]}]}
//! ```

use std::borrow::Cow;

use lodge_record::time;
use serde_json::value::RawValue;

use super::labels;
use super::{Decoder, PushError};
use crate::json_items::{elements, members, text_inside};
use crate::json_object::unescape;
use crate::text_value;

pub(super) fn decode(decoder: &mut Decoder, body: &[u8]) -> Result<(), PushError> {
    let text = text_value::lossy(body);
    // The parts are found by their brackets alone, so the whole is checked before.
    if let Err(error) = serde_json::from_str::<&RawValue>(&text) {
        return Err(PushError::Json { reason: error.to_string() });
    }
    drop(text);
    let streams = member(body, b"streams").filter(|streams| streams.starts_with(b"["));
    let Some(streams) = streams else {
        return Err(PushError::Json { reason: "there is no array \"streams\"".to_owned() });
    };
    for stream in elements(streams) {
        stream_of(decoder, stream)?;
    }
    Ok(())
}

/// The last value of a name.
fn member<'b>(object: &'b [u8], name: &[u8]) -> Option<&'b [u8]> {
    members(object).filter(|(found, _)| *found == name).last().map(|(_, value)| value)
}

fn stream_of(decoder: &mut Decoder, stream: &[u8]) -> Result<(), PushError> {
    let mut trouble = None;
    let pairs = match (member(stream, b"stream"), member(stream, b"labels")) {
        (Some(object), _) => {
            let pair = |(name, value)| (plain(name).into_owned(), value_text(value).into_owned());
            members(object).map(pair).collect()
        }
        (None, Some(text)) => {
            let text = value_text(text);
            labels::parse(&text).unwrap_or_else(|reason| {
                trouble = Some((reason, text.into_owned()));
                Vec::new()
            })
        }
        (None, None) => Vec::new(),
    };
    decoder.begin_stream(pairs, trouble);
    for entry in member(stream, b"values").into_iter().flat_map(elements) {
        let mut parts = elements(entry);
        entry_of(decoder, parts.next(), parts.next(), parts.next())?;
    }
    for entry in member(stream, b"entries").into_iter().flat_map(elements) {
        let stamp = member(entry, b"ts").or_else(|| member(entry, b"timestamp"));
        let metadata = member(entry, b"structuredMetadata");
        entry_of(decoder, stamp, member(entry, b"line"), metadata)?;
    }
    Ok(())
}

fn entry_of(
    decoder: &mut Decoder,
    stamp: Option<&[u8]>,
    line: Option<&[u8]>,
    metadata: Option<&[u8]>,
) -> Result<(), PushError> {
    let Some(line) = line else {
        decoder.reject("an entry is [time, line] or {\"ts\":time,\"line\":line}");
        return Ok(());
    };
    decoder.begin_entry()?;
    for (name, value) in metadata.into_iter().flat_map(members) {
        decoder.metadata(plain(name).as_bytes(), value_text(value).as_bytes());
    }
    let stamp = stamp.map(value_text);
    let time_ns = stamp.as_deref().and_then(time::parse);
    if let (None, Some(stamp)) = (time_ns, &stamp) {
        decoder.builder.field_str("timestamp", stamp);
    }
    let text = value_text(line);
    text_value::set_message(&mut decoder.builder, text.as_bytes(), text.len());
    if std::str::from_utf8(line).is_err() {
        text_value::keep_raw(&mut decoder.builder, text_inside(line).unwrap_or(line));
    }
    decoder.end_entry(time_ns);
    Ok(())
}

/// A value as text: what a text stands for, and of anything else its JSON.
fn value_text(value: &[u8]) -> Cow<'_, str> {
    match text_inside(value) {
        Some(inside) => plain(inside),
        None => text_value::lossy(value),
    }
}

/// What stands between quotes, without escapes.
fn plain(inside: &[u8]) -> Cow<'_, str> {
    match text_value::lossy(inside) {
        text if text.contains('\\') => Cow::Owned(unescape(&text)),
        text => text,
    }
}
