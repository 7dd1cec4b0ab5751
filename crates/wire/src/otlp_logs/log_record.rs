//! What a log record says beside its attributes and its body, in either format.

use arrow::error::ArrowError;
use lodge_record::builder::{Held, KnownText};

use super::{Export, Resource};
use crate::level;
use crate::rows::{Kept, RowWriter, Scalar};

/// A trace's or a span's id as it was sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Id<'r> {
    #[default]
    None,
    Bytes(&'r [u8]),
    Hex(&'r str),
}

/// The parts of a log record that are the same in both formats; 0 and empty mean absent.
#[derive(Debug, Default)]
pub(super) struct LogRecord<'r> {
    pub(super) time_unix_nano: u64,
    pub(super) observed_time_unix_nano: u64,
    pub(super) severity_number: u64,
    pub(super) severity_text: &'r [u8],
    pub(super) dropped_attributes_count: u64,
    pub(super) flags: u64,
    pub(super) trace_id: Id<'r>,
    pub(super) span_id: Id<'r>,
    pub(super) event_name: &'r [u8],
}

/// What the records of a scope have in common: their resource's fields and the scope's own.
pub(super) struct Common<'r> {
    pub(super) resource: &'r Resource,
    pub(super) scope: &'r [Kept],
    /// Not yet tried; or what is held of it, if anything can be.
    held: Option<Option<Held>>,
}

impl<'r> Common<'r> {
    pub(super) fn new(resource: &'r Resource, scope: &'r [Kept]) -> Self {
        Self { resource, scope, held: None }
    }

    /// Sets it in the record in hand.
    #[inline]
    fn begin(&mut self, rows: &mut RowWriter) {
        if let Some(Some(held)) = self.held
            && rows.again(held)
        {
            return;
        }
        self.resource.begin(rows);
        rows.replay(self.scope);
        if !matches!(self.held, Some(None)) {
            self.held = Some(rows.hold());
        }
    }
}

/// Longest text of a severity that is remembered.
const SEVERITY_BYTES_MAX: usize = 16;
/// Most severities that are.
const SEVERITIES_MAX: usize = 8;

/// A severity as it is sent: most requests have a few, and each of them in many records.
struct Severity {
    number: u64,
    text: String,
    level: Option<&'static str>,
    known_level: Option<KnownText>,
    known_text: Option<KnownText>,
}

/// The severities of a request, the one used last first.
#[derive(Default)]
pub(super) struct Severities(Vec<Severity>);

impl Severities {
    /// Sets what a severity says in the record in hand.
    fn put(&mut self, rows: &mut RowWriter, number: u64, text: &[u8]) {
        let is_it = |known: &Severity| known.number == number && known.text.as_bytes() == text;
        let place = match self.0.iter().position(is_it) {
            Some(place) => place,
            None if text.len() > SEVERITY_BYTES_MAX => return put_severity(rows, number, text),
            None => {
                let Ok(text) = std::str::from_utf8(text) else {
                    return put_severity(rows, number, text);
                };
                let level = level_of(number, text.as_bytes());
                self.0.truncate(SEVERITIES_MAX - 1);
                let (text, known_level, known_text) = (text.to_owned(), None, None);
                self.0.push(Severity { number, text, level, known_level, known_text });
                self.0.len() - 1
            }
        };
        let Some(known) = self.0.get_mut(place) else { return };
        if let Some(level) = known.level {
            rows.known_text("level", level, &mut known.known_level);
        }
        if number != 0 {
            rows.number("severity_number", number);
        }
        if !known.text.is_empty() {
            rows.known_text("severity_text", &known.text, &mut known.known_text);
        }
    }
}

fn level_of(number: u64, text: &[u8]) -> Option<&'static str> {
    let of_text = || level::of_severity_text(std::str::from_utf8(text).ok()?);
    level::of_severity_number(number).or_else(of_text)
}

/// As [`Severities::put`], of one that is not remembered.
fn put_severity(rows: &mut RowWriter, number: u64, text: &[u8]) {
    if let Some(level) = level_of(number, text) {
        rows.short_text("level", level);
    }
    put_number(rows, "severity_number", number);
    put_text(rows, "severity_text", text);
}

impl LogRecord<'_> {
    /// The fields that come before attributes and body.
    pub(super) fn begin(
        &self,
        rows: &mut RowWriter,
        common: &mut Common<'_>,
        severities: &mut Severities,
    ) {
        common.begin(rows);
        severities.put(rows, self.severity_number, self.severity_text);
        put_id(rows, "trace_id", self.trace_id);
        put_id(rows, "span_id", self.span_id);
        put_number(rows, "flags", self.flags);
        put_text(rows, "event.name", self.event_name);
        put_number(rows, "dropped_attributes_count", self.dropped_attributes_count);
    }

    /// Ends the record, whose attributes and body were told.
    pub(super) fn finish(self, export: &mut Export, resource: &Resource) -> Result<(), ArrowError> {
        let rows = &mut export.rows;
        let time = |ns: u64| i64::try_from(ns).ok().filter(|ns| *ns != 0);
        let event = time(self.time_unix_nano);
        if event.is_none() {
            // Not a time that Lodge has.
            put_number(rows, "time_unix_nano", self.time_unix_nano);
        }
        let observed = time(self.observed_time_unix_nano);
        if observed.is_none() || (event.is_some() && event != observed) {
            put_number(rows, "observed_time_unix_nano", self.observed_time_unix_nano);
        }
        let time_ns = event.or(observed).unwrap_or(export.received_ns);
        rows.finish_row_of(time_ns, &resource.stream)?;
        export.decoded.accepted += 1;
        Ok(())
    }
}

pub(super) fn put_number(rows: &mut RowWriter, name: &str, number: u64) {
    if number != 0 {
        rows.field(name, Scalar::Uint(number));
    }
}

pub(super) fn put_text(rows: &mut RowWriter, name: &str, text: &[u8]) {
    if !text.is_empty() {
        rows.field(name, Scalar::Text(text));
    }
}

/// Longest id whose hex digits are written without an allocation: a trace's.
const ID_BYTES: usize = 16;

/// Ids as lower-case hex. An id of another length than OpenTelemetry's is kept even so.
fn put_id(rows: &mut RowWriter, name: &str, id: Id<'_>) {
    match id {
        Id::None => {}
        Id::Bytes(bytes) => {
            if bytes.iter().all(|b| *b == 0) {
                return;
            }
            let mut short = [0; 2 * ID_BYTES];
            let mut long = Vec::new();
            let hex = match short.get_mut(..2 * bytes.len()) {
                Some(hex) => hex,
                None => {
                    long.resize(2 * bytes.len(), 0);
                    &mut long[..]
                }
            };
            write_hex(bytes, hex);
            match std::str::from_utf8(hex) {
                Ok(text) if text.len() <= 2 * ID_BYTES => rows.short_text(name, text),
                _ => rows.field(name, Scalar::Text(hex)),
            }
        }
        Id::Hex(text) => {
            if text.bytes().all(|b| b == b'0') {
                return;
            }
            let is_hex = text.bytes().all(|b| b.is_ascii_hexdigit());
            // What is no hex may be told apart by its capitals.
            if is_hex && text.bytes().any(|b| b.is_ascii_uppercase()) {
                rows.field(name, Scalar::Text(text.to_ascii_lowercase().as_bytes()));
            } else {
                rows.field(name, Scalar::Text(text.as_bytes()));
            }
        }
    }
}

/// Writes two digits for each byte.
fn write_hex(bytes: &[u8], hex: &mut [u8]) {
    let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
    for (byte, pair) in bytes.iter().zip(hex.chunks_exact_mut(2)) {
        pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
}
