//! JSON lines: one record a line, in the parameters of VictoriaLogs' `/insert/jsonline`.
//!
//! Invariant: every non-blank line becomes exactly one record. A line that is no JSON object is kept
//! as its text with the reason in `lodge.error`, and reported.

use std::borrow::Cow;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use base64::Engine as _;
use hashbrown::HashMap;
use lodge_record::builder::{BatchBuilder, StreamCode};
use lodge_record::stream::StreamLabels;
use lodge_record::{field, limits, time};

use crate::json_object::{JsonValue, for_each_field};

/// What the fields of a line mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Names that may hold the time, the best first.
    pub time_fields: Vec<String>,
    /// Names that may hold the message, the best first.
    pub msg_fields: Vec<String>,
    /// Fields that are the labels of the record's stream.
    pub stream_fields: Vec<String>,
    /// Fields that are left out. A trailing `*` leaves out all that begin so.
    pub ignore_fields: Vec<String>,
    /// Fields that are added to every record.
    pub extra_fields: Vec<(String, String)>,
}

impl Default for Options {
    /// The usual names, so that nothing has to be configured.
    fn default() -> Self {
        let names = |all: &[&str]| all.iter().map(|n| n.to_string()).collect();
        Options {
            time_fields: names(&["_time", "@timestamp", "timestamp", "time", "ts"]),
            msg_fields: names(&["_msg", "message", "msg", "log"]),
            stream_fields: Vec::new(),
            ignore_fields: Vec::new(),
            extra_fields: Vec::new(),
        }
    }
}

/// A line that was no JSON object. It is stored as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Its number, from 1, blank lines counted.
    pub line: u64,
    /// What is wrong with it.
    pub reason: String,
}

/// Most malformed lines that are reported one by one; beyond that they are only counted.
pub const MALFORMED_REPORTED_MAX: usize = 100;

/// What came out of a body.
#[derive(Debug)]
pub struct Decoded {
    /// The records; `None` if all lines were blank.
    pub records: Option<RecordBatch>,
    /// Lines seen, blank ones too.
    pub lines: u64,
    /// The first malformed lines.
    pub malformed: Vec<Malformed>,
    /// All malformed lines, counted.
    pub malformed_total: u64,
    /// Lines cut at the line limit (they are among the malformed).
    pub truncated_total: u64,
}

/// Decodes a body of lines. `received_ns` is the time of records that have none.
pub fn decode(options: &Options, received_ns: i64, body: &[u8]) -> Result<Decoded, ArrowError> {
    let mut decoder = Decoder::new(options, received_ns);
    decoder.body(body);
    decoder.finish()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Time(usize),
    Msg(usize),
    Stream(usize),
    Ignore,
}

/// Decodes lines one after the other into a batch.
pub struct Decoder {
    roles: HashMap<String, Role>,
    ignore_prefixes: Vec<String>,
    extra_fields: Vec<(String, String)>,
    stream_fields: Vec<String>,
    builder: BatchBuilder,
    streams: HashMap<Vec<u8>, StreamCode>,
    scratch: Scratch,
    received_ns: i64,
    lines: u64,
    malformed: Vec<Malformed>,
    malformed_total: u64,
    truncated_total: u64,
}

/// What a line's special fields said, reused from line to line.
#[derive(Default)]
struct Scratch {
    times: Vec<Slot>,
    msgs: Vec<Slot>,
    labels: Vec<Slot>,
    key: Vec<u8>,
}

#[derive(Default, Clone)]
struct Slot {
    name: String,
    text: String,
    set: bool,
    number: bool,
}

impl Slot {
    fn put(&mut self, value: &JsonValue<'_>) {
        self.text.clear();
        self.text.push_str(value.as_text());
        self.set = true;
        self.number = matches!(value, JsonValue::Number(_));
    }
}

fn slots(names: &[String]) -> Vec<Slot> {
    names.iter().map(|name| Slot { name: name.clone(), ..Slot::default() }).collect()
}

impl Decoder {
    /// A decoder with nothing in it.
    pub fn new(options: &Options, received_ns: i64) -> Self {
        let mut roles = HashMap::new();
        let (prefixes, ignored): (Vec<_>, Vec<_>) =
            options.ignore_fields.iter().cloned().partition(|name| name.ends_with('*'));
        // Stream first: a field may be a label and the message; later roles win.
        let mut stream_fields = options.stream_fields.clone();
        stream_fields.sort();
        stream_fields.dedup();
        stream_fields.truncate(limits::STREAM_LABELS_MAX);
        roles.extend(stream_fields.iter().enumerate().map(|(i, n)| (n.clone(), Role::Stream(i))));
        let ranked = |names: &[String], role: fn(usize) -> Role| -> Vec<(String, Role)> {
            names.iter().enumerate().rev().map(|(i, n)| (n.clone(), role(i))).collect()
        };
        roles.extend(ranked(&options.msg_fields, Role::Msg));
        roles.extend(ranked(&options.time_fields, Role::Time));
        roles.extend(ignored.into_iter().map(|name| (name, Role::Ignore)));
        Decoder {
            roles,
            ignore_prefixes: prefixes.iter().map(|p| p.trim_end_matches('*').to_owned()).collect(),
            extra_fields: options.extra_fields.clone(),
            scratch: Scratch {
                times: slots(&options.time_fields),
                msgs: slots(&options.msg_fields),
                labels: slots(&stream_fields),
                key: Vec::new(),
            },
            stream_fields,
            builder: BatchBuilder::new(),
            streams: HashMap::new(),
            received_ns,
            lines: 0,
            malformed: Vec::new(),
            malformed_total: 0,
            truncated_total: 0,
        }
    }

    /// Records so far.
    pub fn rows(&self) -> usize {
        self.builder.rows()
    }

    /// Bytes of the records so far, roughly.
    pub fn bytes(&self) -> usize {
        self.builder.bytes()
    }

    /// Decodes every line of `body`.
    pub fn body(&mut self, body: &[u8]) {
        let mut from = 0;
        for end in memchr::memchr_iter(b'\n', body).chain([body.len()]) {
            let line = body.get(from..end).unwrap_or_default();
            if from < body.len() {
                self.line(line);
            }
            from = end + 1;
        }
    }

    /// Decodes one line.
    pub fn line(&mut self, line: &[u8]) {
        self.lines += 1;
        if line.trim_ascii().is_empty() {
            return;
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > limits::LINE_BYTES_MAX {
            let reason = format!(
                "line of {} bytes is longer than {}: its head is kept",
                line.len(),
                limits::LINE_BYTES_MAX
            );
            return self.keep_as_text(line, reason);
        }
        let text = match std::str::from_utf8(line) {
            Ok(text) => text,
            Err(error) => {
                let reason = format!("not UTF-8 at byte {}", error.valid_up_to());
                return self.keep_as_text(line, reason);
            }
        };
        if let Err(reason) = self.object(text) {
            self.builder.abandon_row();
            self.keep_as_text(line, reason);
        }
    }

    fn object(&mut self, text: &str) -> Result<(), String> {
        let Decoder { roles, ignore_prefixes, builder, scratch, .. } = self;
        for slot in scratch.times.iter_mut().chain(&mut scratch.msgs).chain(&mut scratch.labels) {
            slot.set = false;
        }
        for_each_field(text, |name, value| {
            match roles.get(name) {
                None => {}
                Some(Role::Ignore) => return,
                Some(&Role::Time(i)) if put_first(&mut scratch.times, i, &value) => return,
                Some(&Role::Msg(i)) if put_first(&mut scratch.msgs, i, &value) => {
                    return;
                }
                Some(&Role::Stream(i)) => {
                    put_first(&mut scratch.labels, i, &value);
                }
                // A second value of the same name: an ordinary field, which keeps both.
                Some(Role::Time(_) | Role::Msg(_)) => {}
            }
            if ignore_prefixes.iter().any(|prefix| name.starts_with(prefix.as_str())) {
                return;
            }
            set_field(builder, name, &value);
        })
        .map_err(|error| error.to_string())?;
        let time_ns = self.take_time();
        self.take_message();
        self.add_extra();
        let stream = self.take_stream();
        self.builder.finish_row(time_ns, stream);
        Ok(())
    }

    /// The time from the best field that has a readable one. The other fields stay fields.
    fn take_time(&mut self) -> i64 {
        let mut found = None;
        for slot in self.scratch.times.iter().filter(|slot| slot.set) {
            let parsed = found.is_none().then(|| time::parse(&slot.text)).flatten();
            match parsed {
                Some(time_ns) => found = Some(time_ns),
                None if slot.number => self.builder.field_number_text(&slot.name, &slot.text),
                None => self.builder.field_str(&slot.name, &slot.text),
            }
        }
        found.unwrap_or(self.received_ns)
    }

    fn take_message(&mut self) {
        let mut found = false;
        for slot in self.scratch.msgs.iter().filter(|slot| slot.set) {
            if !found {
                self.builder.message(&slot.text);
                found = true;
            } else if slot.number {
                self.builder.field_number_text(&slot.name, &slot.text);
            } else {
                self.builder.field_str(&slot.name, &slot.text);
            }
            if let Some(label) =
                self.scratch.labels.iter_mut().find(|label| label.name == slot.name)
            {
                label.text.clone_from(&slot.text);
                label.set = true;
            }
        }
    }

    fn add_extra(&mut self) {
        for (name, value) in &self.extra_fields {
            self.builder.field_str(name, value);
            if let Some(label) = self.scratch.labels.iter_mut().find(|label| label.name == *name) {
                label.text.clone_from(value);
                label.set = true;
            }
        }
    }

    fn take_stream(&mut self) -> StreamCode {
        let Scratch { labels, key, .. } = &mut self.scratch;
        key.clear();
        for label in labels.iter_mut() {
            if !label.set {
                label.text.clear();
            }
            key.extend_from_slice(&(label.text.len() as u32).to_le_bytes());
            key.extend_from_slice(label.text.as_bytes());
        }
        if let Some(&code) = self.streams.get(key.as_slice()) {
            return code;
        }
        let mut set = StreamLabels::new();
        for (name, label) in self.stream_fields.iter().zip(labels.iter()) {
            set.set(name, &label.text);
        }
        let code = self.builder.stream(&set.canonical());
        self.streams.insert(key.clone(), code);
        code
    }

    fn keep_as_text(&mut self, line: &[u8], reason: String) {
        let head = line.get(..limits::LINE_BYTES_MAX).unwrap_or(line);
        let text = String::from_utf8_lossy(head);
        self.builder.message(&text);
        self.builder.field_str(field::ERROR, &reason);
        if let Cow::Owned(_) = text {
            let raw = base64::engine::general_purpose::STANDARD.encode(head);
            self.builder.field_str(field::RAW_BASE64, &raw);
        }
        if head.len() < line.len() {
            self.builder.field_bool(field::TRUNCATED, true);
            self.builder.field_i64(field::ORIGINAL_BYTES, line.len() as i64);
            self.truncated_total += 1;
        }
        for label in &mut self.scratch.labels {
            label.set = false;
        }
        self.add_extra();
        let stream = self.take_stream();
        self.builder.finish_row(self.received_ns, stream);
        self.malformed_total += 1;
        if self.malformed.len() < MALFORMED_REPORTED_MAX {
            self.malformed.push(Malformed { line: self.lines, reason });
        }
    }

    /// The batch of all lines so far. The decoder is empty again; line numbers go on.
    pub fn finish(&mut self) -> Result<Decoded, ArrowError> {
        let records = if self.builder.rows() > 0 { Some(self.builder.finish()?) } else { None };
        self.streams.clear();
        Ok(Decoded {
            records,
            lines: self.lines,
            malformed: std::mem::take(&mut self.malformed),
            malformed_total: std::mem::take(&mut self.malformed_total),
            truncated_total: std::mem::take(&mut self.truncated_total),
        })
    }
}

fn put_first(slots: &mut [Slot], index: usize, value: &JsonValue<'_>) -> bool {
    match slots.get_mut(index) {
        Some(slot) if !slot.set => {
            slot.put(value);
            true
        }
        _ => false,
    }
}

/// Sets a decoded value as a field of the record in hand.
pub fn set_field(builder: &mut BatchBuilder, name: &str, value: &JsonValue<'_>) {
    match value {
        JsonValue::Text(text) | JsonValue::Json(text) => builder.field_str(name, text),
        JsonValue::Number(text) => builder.field_number_text(name, text),
        JsonValue::Bool(value) => builder.field_bool(name, *value),
    }
}

#[cfg(test)]
#[path = "jsonline_tests.rs"]
mod tests;
