//! Messages of Kafka's topics as records.
//!
//! | format | a message is |
//! |---|---|
//! | `json` | one object, or several: an array, or one after the other; read as `_bulk` documents are |
//! | `otlp` | an `ExportLogsServiceRequest`, in protobuf or in JSON |
//! | `raw` | a text |
//! | `syslog` | a syslog message, RFC 5424 or 3164 |
//!
//! | of the message | kept |
//! |---|---|
//! | topic | field and stream label `kafka.topic` |
//! | partition, offset | `kafka.partition`, `kafka.offset` |
//! | key | `kafka.key` |
//! | header `NAME` | `kafka.header.NAME` |
//! | timestamp | the time of records that state none |
//!
//! A key or a header that is no text is kept in base64 as `kafka.key.raw_base64`, or so. What the
//! payload has under one of these names becomes `kafka.offset#2`, or so.
//!
//! Invariants: a message with a payload is at least one record, unless it is set aside or holds an
//! empty array or request; a payload that is not of its format is kept as text with the reason, so
//! nothing is lost; the records of one message are never parted over two batches; what one message
//! may become is bounded, and of one that is more the rest is kept as text.

use std::borrow::Cow;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lodge_record::builder::BatchBuilder;
use lodge_record::{field, limits, time};

use crate::documents::{Document, Documents};
use crate::elastic_bulk;
use crate::json_items::Items;
use crate::otlp_logs::{self, Export, OtlpError};
use crate::rows::Scalar;
use crate::{level, syslog, text_value};

/// Values that the records of one message may take, in bytes, beyond the message's own size.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// A batch that takes so much is full.
const BATCH_BYTES: usize = 8 << 20;
/// A batch of so many records is full.
const BATCH_ROWS: usize = 1 << 14;
/// What a field costs in a record that lacks it, roughly.
const CELL_BYTES: usize = 8;
/// Label of the topic.
const TOPIC: &str = "kafka.topic";

/// How the payloads of a topic are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON objects.
    Json,
    /// OpenTelemetry's logs.
    Otlp,
    /// Plain text.
    Raw,
    /// Syslog.
    Syslog,
}

impl Format {
    /// By its name in the settings.
    pub fn from_name(name: &str) -> Option<Self> {
        let all = [Format::Json, Format::Otlp, Format::Raw, Format::Syslog];
        all.into_iter().find(|format| format.name() == name)
    }

    /// The name in the settings.
    pub fn name(self) -> &'static str {
        match self {
            Format::Json => "json",
            Format::Otlp => "otlp",
            Format::Raw => "raw",
            Format::Syslog => "syslog",
        }
    }
}

/// A message as a partition has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Its place in the partition.
    pub offset: i64,
    /// When it was produced or appended, UTC nanoseconds; when it was read if Kafka does not say.
    pub time_ns: i64,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its headers.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// What it says; a message without a payload (a tombstone) says nothing and is no record.
    pub payload: Option<Vec<u8>>,
}

impl Message {
    /// Memory that it takes, roughly.
    pub fn bytes(&self) -> usize {
        let len = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + len(value)).sum();
        std::mem::size_of::<Self>() + len(&self.key) + headers + len(&self.payload)
    }
}

/// What became of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fate {
    /// Records that it became.
    pub records: usize,
    /// Those that are text because they are not what the format says.
    pub kept_as_text: u64,
    /// Why the message, or a part of it, is in no record: its place is among the dead letters.
    pub set_aside: Option<String>,
}

/// Makes batches of the messages of one partition.
pub struct Decoder {
    format: Format,
    topic: String,
    partition: i32,
    sets_aside: bool,
    rows: Rows,
}

enum Rows {
    Documents(Box<Documents>),
    Export(Box<Export>),
}

impl Decoder {
    /// A decoder with nothing in it. Where it `sets_aside`, what is neither of the format nor text,
    /// or is too large, is left to the caller; else it is kept as far as a record can hold it.
    pub fn new(format: Format, topic: &str, partition: i32, sets_aside: bool) -> Self {
        let rows = match format {
            Format::Otlp => {
                let mut export = Export::new();
                export.labels.push((TOPIC.to_owned(), topic.to_owned()));
                Rows::Export(Box::new(export))
            }
            _ => {
                let options = elastic_bulk::default_options();
                Rows::Documents(Box::new(Documents::new(&options, elastic_bulk::DIALECT, 0)))
            }
        };
        Decoder { format, topic: topic.to_owned(), partition, sets_aside, rows }
    }

    /// Records since the last [`Self::finish`].
    pub fn rows(&self) -> usize {
        match &self.rows {
            Rows::Documents(documents) => documents.rows(),
            Rows::Export(export) => export.rows.rows(),
        }
    }

    /// Whether what is decoded makes a batch: the next message belongs into another.
    pub fn is_full(&self) -> bool {
        self.rows() >= BATCH_ROWS || self.bytes() >= BATCH_BYTES
    }

    fn bytes(&self) -> usize {
        match &self.rows {
            Rows::Documents(documents) => {
                let cells = documents.rows() * documents.builder.columns() * CELL_BYTES;
                documents.bytes().max(cells)
            }
            Rows::Export(export) => export.rows.decoded_bytes(),
        }
    }

    /// Decodes a message.
    ///
    /// # Errors
    /// If columns cannot be made, which is a bug. What was decoded before is then lost, too.
    pub fn message(&mut self, message: &Message) -> Result<Fate, ArrowError> {
        let Some(payload) = &message.payload else { return Ok(Fate::default()) };
        let before = self.rows();
        let mut fate = match self.format {
            Format::Json => self.json(message, payload)?,
            Format::Otlp => self.otlp(message, payload)?,
            Format::Raw | Format::Syslog => self.text(message, payload)?,
        };
        fate.records = self.rows() - before;
        Ok(fate)
    }

    /// Keeps a message as text, whatever its format, with the reason.
    ///
    /// # Errors
    /// As of [`Self::message`].
    pub fn keep_as_text(&mut self, message: &Message, reason: &str) -> Result<(), ArrowError> {
        self.keep(message, message.payload.as_deref().unwrap_or_default(), reason)
    }

    /// The records so far; `None` if there are none. The decoder is empty again.
    ///
    /// # Errors
    /// As of [`Self::message`].
    pub fn finish(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        match &mut self.rows {
            Rows::Documents(documents) => documents.finish(),
            Rows::Export(export) => {
                let mut batches = export.rows.take_batches()?.into_iter();
                match (batches.next(), batches.next()) {
                    (first, None) => Ok(first),
                    // Bounded by what one message may become, and by when a batch is full.
                    _ => Err(ArrowError::ComputeError("messages make two batches".to_owned())),
                }
            }
        }
    }

    fn json(&mut self, message: &Message, payload: &[u8]) -> Result<Fate, ArrowError> {
        let bytes = payload.trim_ascii();
        if !matches!(bytes.first(), Some(b'{' | b'[')) {
            return self.undecodable(message, payload, "not JSON: expected '{' or '['");
        }
        let mut fate = Fate::default();
        let bytes_max =
            self.bytes().saturating_add(payload.len()).saturating_add(MESSAGE_BYTES_MAX);
        let rows_before = self.rows();
        for item in Items::new(bytes) {
            if self.bytes() > bytes_max {
                let rest = bytes.get(item.offset..).unwrap_or_default();
                return self.overgrown(message, rest, fate);
            }
            let document = Document::new(item.bytes);
            let text = &*document.text;
            let (topic, partition) = (self.topic.as_str(), self.partition);
            let Rows::Documents(documents) = &mut self.rows else { break };
            documents.set_received_ns(message.time_ns);
            set_common(&mut documents.builder, topic, partition, message);
            match documents.walk(text) {
                Ok(()) => {
                    let time_ns = documents.settle(text);
                    let stream = documents.stream(text, b"", |labels| labels.set(TOPIC, topic));
                    documents.close(time_ns, stream, document.raw);
                }
                Err(error) if item.bytes.len() == bytes.len() => {
                    return self.undecodable(message, payload, &error.to_string());
                }
                Err(error) => {
                    self.keep(message, item.bytes, &error.to_string())?;
                    fate.kept_as_text += 1;
                }
            }
        }
        let is_empty_array = || {
            let inside = bytes.strip_prefix(b"[").and_then(|bytes| bytes.strip_suffix(b"]"));
            inside.is_some_and(|inside| inside.trim_ascii().is_empty())
        };
        if self.rows() == rows_before && !is_empty_array() {
            return self.undecodable(message, payload, "not JSON: neither objects nor an array");
        }
        Ok(fate)
    }

    fn otlp(&mut self, message: &Message, payload: &[u8]) -> Result<Fate, ArrowError> {
        // No protobuf of OpenTelemetry's begins with this byte.
        let is_json = payload.trim_ascii_start().starts_with(b"{");
        let format = if is_json { otlp_logs::Format::Json } else { otlp_logs::Format::Protobuf };
        let bytes_max =
            self.bytes().saturating_add(payload.len()).saturating_add(MESSAGE_BYTES_MAX);
        let Rows::Export(export) = &mut self.rows else { return Ok(Fate::default()) };
        export.rows.keep();
        for_each_common(&self.topic, self.partition, message, |name, value| {
            export.rows.field(name, value);
        });
        export.common = export.rows.take_kept();
        export.received_ns = message.time_ns;
        export.decoded_bytes_max = bytes_max;
        let done = export.request(format, payload);
        let decoded = std::mem::take(&mut export.decoded);
        let mut fate = Fate { kept_as_text: decoded.kept_as_text, ..Fate::default() };
        let reason = match done {
            Ok(()) if decoded.rejected == 0 => return Ok(fate),
            Ok(()) => decoded.message(),
            Err(OtlpError::Columns(error)) => return Err(error),
            Err(error) => error.to_string(),
        };
        // What could be read of it is stored, and all of it is kept.
        let whole = self.undecodable(message, payload, &reason)?;
        fate.kept_as_text += whole.kept_as_text;
        fate.set_aside = whole.set_aside;
        Ok(fate)
    }

    fn text(&mut self, message: &Message, payload: &[u8]) -> Result<Fate, ArrowError> {
        let line = payload.strip_suffix(b"\n").unwrap_or(payload);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let text = match std::str::from_utf8(line) {
            Ok(text) if line.len() <= limits::LINE_BYTES_MAX => text,
            Ok(_) => return self.undecodable(message, line, &too_long(line)),
            Err(error) => {
                let reason = format!("not UTF-8 at byte {}", error.valid_up_to());
                return self.undecodable(message, line, &reason);
            }
        };
        let Rows::Documents(documents) = &mut self.rows else { return Ok(Fate::default()) };
        documents.abandon();
        set_common(&mut documents.builder, &self.topic, self.partition, message);
        let (topic, mut time_ns) = (self.topic.as_str(), message.time_ns);
        if self.format == Format::Raw {
            documents.builder.message(text);
            let stream = documents.stream("", b"", |labels| labels.set(TOPIC, topic));
            documents.close(time_ns, stream, None);
            return Ok(Fate::default());
        }
        let said = syslog::parse(text);
        time_ns = set_syslog(&mut documents.builder, &said).unwrap_or(time_ns);
        let labels = [("syslog.hostname", said.hostname), ("syslog.appname", said.appname)];
        let context = labels.map(|(_, value)| value.unwrap_or_default()).join("\0");
        let stream = documents.stream("", context.as_bytes(), |set| {
            set.set(TOPIC, topic);
            labels.iter().for_each(|(name, value)| set.set(name, value.unwrap_or_default()));
        });
        documents.close(time_ns, stream, None);
        Ok(Fate::default())
    }

    /// What is no message of its format: text is kept as such, the rest set aside or kept.
    fn undecodable(
        &mut self,
        message: &Message,
        payload: &[u8],
        reason: &str,
    ) -> Result<Fate, ArrowError> {
        let is_text =
            payload.len() <= limits::LINE_BYTES_MAX && std::str::from_utf8(payload).is_ok();
        if self.sets_aside && !is_text {
            return Ok(Fate { set_aside: Some(reason.to_owned()), ..Fate::default() });
        }
        self.keep(message, payload, reason)?;
        Ok(Fate { kept_as_text: 1, ..Fate::default() })
    }

    /// A message that becomes more than it may: what is left of it is kept as text.
    fn overgrown(
        &mut self,
        message: &Message,
        rest: &[u8],
        mut fate: Fate,
    ) -> Result<Fate, ArrowError> {
        let reason = format!(
            "the message's records take more than {} MiB beside their text: the rest of it is text",
            MESSAGE_BYTES_MAX >> 20
        );
        self.keep(message, rest, &reason)?;
        fate.kept_as_text += 1;
        fate.set_aside = self.sets_aside.then_some(reason);
        Ok(fate)
    }

    fn keep(&mut self, message: &Message, text: &[u8], reason: &str) -> Result<(), ArrowError> {
        let (topic, partition) = (self.topic.as_str(), self.partition);
        match &mut self.rows {
            Rows::Documents(documents) => {
                documents.keep_as_text(text, text.len(), reason);
                set_common(&mut documents.builder, topic, partition, message);
                let stream = documents.stream("", b"", |labels| labels.set(TOPIC, topic));
                documents.close(message.time_ns, stream, None);
            }
            Rows::Export(export) => {
                let rows = &mut export.rows;
                rows.abandon();
                rows.field(field::ERROR, Scalar::Text(reason.as_bytes()));
                for_each_common(topic, partition, message, |name, value| rows.field(name, value));
                rows.message(text);
                let mut labels = lodge_record::stream::StreamLabels::new();
                labels.set(TOPIC, topic);
                rows.finish_row(message.time_ns, &labels.canonical())?;
            }
        }
        Ok(())
    }
}

fn too_long(line: &[u8]) -> String {
    let max = limits::LINE_BYTES_MAX;
    format!("text of {} bytes is longer than {max}: its head is kept", line.len())
}

/// The fields that every record of a message has.
fn for_each_common(
    topic: &str,
    partition: i32,
    message: &Message,
    mut each: impl FnMut(&str, Scalar<'_>),
) {
    each(TOPIC, Scalar::Text(topic.as_bytes()));
    each("kafka.partition", Scalar::Int(i64::from(partition)));
    each("kafka.offset", Scalar::Int(message.offset));
    let mut text_or_bytes = |name: &str, value: &[u8]| {
        if std::str::from_utf8(value).is_ok() {
            each(name, Scalar::Text(value));
        } else {
            each(&format!("{name}.raw_base64"), Scalar::Bytes(value));
        }
    };
    if let Some(key) = &message.key {
        text_or_bytes("kafka.key", key);
    }
    for (name, value) in &message.headers {
        if let Some(value) = value {
            text_or_bytes(&format!("kafka.header.{name}"), value);
        }
    }
}

fn set_common(builder: &mut BatchBuilder, topic: &str, partition: i32, message: &Message) {
    for_each_common(topic, partition, message, |name, value| match value {
        Scalar::Int(value) => builder.field_i64(name, value),
        Scalar::Text(bytes) => {
            let text = std::str::from_utf8(bytes).unwrap_or_default();
            builder.field_str(name, text_value::head(text).0);
        }
        Scalar::Bytes(bytes) => {
            let kept = limits::LINE_BYTES_MAX / 4 * 3;
            builder.field_str(name, &STANDARD.encode(bytes.get(..kept).unwrap_or(bytes)));
        }
        _ => {}
    });
}

/// Sets what a syslog message says; gives its time. One without a year and a zone stays text: the
/// time that Kafka has of the message is surer than a guess.
fn set_syslog(builder: &mut BatchBuilder, said: &syslog::Message<'_>) -> Option<i64> {
    builder.message(said.text);
    said.for_each_field(|name, value| builder.field_str(name, value));
    if let Some(severity) = said.severity {
        let text: Cow<'_, str> = severity.to_string().into();
        if let Some(level) = level::of_syslog_or_word(&text) {
            builder.field_str("level", level);
        }
        builder.field_i64("syslog.severity", i64::from(severity));
    }
    let stamp = said.timestamp?;
    let is_whole = stamp.starts_with(|first: char| first.is_ascii_digit());
    let time_ns = is_whole.then(|| time::parse(stamp)).flatten();
    if time_ns.is_none() {
        builder.field_str("syslog.timestamp", stamp);
    }
    time_ns
}

#[cfg(test)]
#[path = "kafka_message_tests.rs"]
mod tests;
