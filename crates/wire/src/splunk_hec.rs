//! Splunk's HTTP Event Collector: the events of `/services/collector/event`, and the lines of
//! `/services/collector/raw`.
//!
//! An event body is JSON objects one after the other, with or without line ends between.
//!
//! | sent | kept |
//! |---|---|
//! | `event`, a text; else its `message`, `msg`, `log`, `line` | `_msg` |
//! | `event`, an object | fields, without the prefix `event.` |
//! | `fields` | fields, without the prefix `fields.` |
//! | `time`, seconds as number or text, also ms, µs, ns; else `event.timestamp`, … | the record's time |
//! | `host`, else the query's | field and stream label `host.name` |
//! | `source`, `sourcetype`, `index`, else the query's | fields and stream labels of these names |
//! | `level`, `severity`, … of event or fields | `level`, its original in `severity_text` |
//! | `trace_id`, `span_id` of event or fields, in all spellings | `trace_id`, `span_id` |
//!
//! A field of an event that has the name of a label keeps its prefix. Invariants: every event is
//! one record or one error; errors are in Splunk's numbers, and one does not lose the events behind
//! it.

use crate::batches::{BodyError, Decoded};
use crate::conventions::{self, Kept};
use crate::documents::{Document, Documents, text_lines};
use crate::json_fields::Dialect;
use crate::json_items::Items;
use crate::json_rows::push_json_string;
use crate::{batches, jsonline, level, text_value};

use lodge_record::time;

/// What the query's parameters say of all events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// `host`.
    pub host: Option<String>,
    /// `source`.
    pub source: Option<String>,
    /// `sourcetype`.
    pub sourcetype: Option<String>,
    /// `index`.
    pub index: Option<String>,
    /// `time`, for the raw endpoint.
    pub time: Option<String>,
}

impl Metadata {
    /// The labels with their names.
    fn labels(&self) -> [(&'static str, &str); 4] {
        let values = [&self.host, &self.source, &self.sourcetype, &self.index];
        let mut labels = [("", ""); 4];
        for ((label, name), value) in labels.iter_mut().zip(LABELS).zip(values) {
            *label = (name, value.as_deref().unwrap_or_default());
        }
        labels
    }
}

/// What is wrong, in Splunk's numbers. All are sent with status 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// There is nothing in the body.
    NoData = 5,
    /// An event is no JSON object.
    InvalidFormat = 6,
    /// An event has no `event`.
    EventRequired = 12,
    /// An event's `event` is empty.
    EventBlank = 13,
}

impl Code {
    /// The number.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Splunk's text for it.
    pub fn text(self) -> &'static str {
        match self {
            Code::NoData => "No data",
            Code::InvalidFormat => "Invalid data format",
            Code::EventRequired => "Event field is required",
            Code::EventBlank => "Event field cannot be blank",
        }
    }
}

/// What a client is to be told of a body other than success: the first error's code and, if it is
/// one event's, its number from 0.
pub fn refusal(decoded: &Decoded<Code>) -> Option<(Code, Option<u64>)> {
    match decoded.errors.first() {
        Some(error) => Some((error.code, Some(error.item))),
        None if decoded.items == 0 => Some((Code::NoData, None)),
        None => None,
    }
}

/// Appends the reply that tells it: `{"text":"…","code":6,"invalid-event-number":0}`.
pub fn write_refusal(code: Code, event: Option<u64>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"text\":");
    push_json_string(out, code.text());
    out.extend_from_slice(format!(",\"code\":{}", code.number()).as_bytes());
    if let Some(event) = event {
        out.extend_from_slice(format!(",\"invalid-event-number\":{event}").as_bytes());
    }
    out.push(b'}');
}

/// Labels of a stream.
const LABELS: [&str; 4] = ["host.name", "source", "sourcetype", "index"];
/// Fields of an event that keep their prefix.
const PREFIXED: [&str; 5] = ["host", "host.name", "source", "sourcetype", "index"];

const DIALECT: Dialect = Dialect {
    naming,
    levels: &[
        "event.level",
        "event.severity",
        "event.log.level",
        "event.severity_text",
        "event.lvl",
        "fields.level",
        "fields.severity",
        "fields.severity_text",
        "fields.otel.log.severity.text",
    ],
    level_of: level::of_word_or_tens,
    original_level: "severity_text",
    asked: "event",
};

fn naming(name: &str) -> Kept<'_> {
    if name == "host" {
        return conventions::as_sent("host.name");
    }
    let bare = name.strip_prefix("event.").or_else(|| name.strip_prefix("fields."));
    match bare {
        Some(bare) if !PREFIXED.contains(&bare) => conventions::without_prefix(name, bare),
        _ => conventions::as_sent(name),
    }
}

fn options() -> jsonline::Options {
    let names = |all: &[&str]| all.iter().map(|n| n.to_string()).collect();
    jsonline::Options {
        time_fields: names(&["time", "event.@timestamp", "event.timestamp", "event.time"]),
        msg_fields: names(&["event", "event.message", "event.msg", "event.log", "event.line"]),
        stream_fields: names(&LABELS),
        ..jsonline::Options::default()
    }
}

/// Decodes the body of the event endpoint. `received_ns` is the time of events that have none.
pub fn decode_events(
    metadata: &Metadata,
    received_ns: i64,
    body: &[u8],
) -> Result<Decoded<Code>, BodyError> {
    let mut documents = Documents::new(&options(), DIALECT, received_ns);
    let mut pieces = batches::Batches::new(body.len());
    let mut decoded = Decoded::new();
    for item in Items::new(body) {
        documents.cut_into(&mut pieces)?;
        match event(&mut documents, metadata, item.bytes) {
            Ok(()) => decoded.items += 1,
            Err((code, reason)) => {
                decoded.fail(item.offset, code, || reason.unwrap_or_else(|| code.text().into()));
            }
        }
    }
    decoded.records = documents.into_records(pieces)?;
    Ok(decoded)
}

fn event(
    documents: &mut Documents,
    metadata: &Metadata,
    bytes: &[u8],
) -> Result<(), (Code, Option<String>)> {
    let document = Document::new(bytes);
    let text = &*document.text;
    documents.walk(text).map_err(|error| (Code::InvalidFormat, Some(error.to_string())))?;
    let is_blank = documents.fields.first_message(text) == Some("");
    if is_blank || !documents.fields.has_asked() {
        let is_blank = is_blank || documents.had_empty("event");
        documents.abandon();
        return Err((if is_blank { Code::EventBlank } else { Code::EventRequired }, None));
    }
    let time_ns = documents.settle(text);
    for (name, value) in metadata.labels() {
        if !value.is_empty() && documents.fields.label(name, text).is_empty() {
            documents.builder.field_str(name, value);
        }
    }
    let stream = documents.stream(text, b"", |labels| {
        for (name, value) in metadata.labels() {
            if labels.get(name).is_none() {
                labels.set(name, value);
            }
        }
    });
    documents.close(time_ns, stream, document.raw);
    Ok(())
}

/// Decodes the body of the raw endpoint: every line that is not blank is an event.
pub fn decode_raw(
    metadata: &Metadata,
    received_ns: i64,
    body: &[u8],
) -> Result<Decoded<Code>, BodyError> {
    let mut documents = Documents::new(&options(), DIALECT, received_ns);
    let mut pieces = batches::Batches::new(body.len());
    let mut decoded = Decoded::new();
    let stated_ns = metadata.time.as_deref().and_then(time::parse);
    for line in text_lines(body) {
        documents.cut_into(&mut pieces)?;
        text_value::set_message(&mut documents.builder, line, line.len());
        for (name, value) in metadata.labels() {
            if !value.is_empty() {
                documents.builder.field_str(name, value);
            }
        }
        let stream = documents.stream("", b"", |labels| {
            metadata.labels().iter().for_each(|(name, value)| labels.set(name, value));
        });
        documents.close(stated_ns.unwrap_or(received_ns), stream, None);
        decoded.items += 1;
    }
    decoded.records = documents.into_records(pieces)?;
    Ok(decoded)
}

#[cfg(test)]
#[path = "splunk_hec_tests.rs"]
mod tests;
