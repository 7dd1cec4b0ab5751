//! Journal entries into records.
//!
//! ```text
//! MESSAGE                                   _msg
//! _SOURCE_REALTIME_, __REALTIME_TIMESTAMP   _time, from microseconds; else when it was received
//! _HOSTNAME                                 label and field host, unless the host is known
//! _SYSTEMD_UNIT, UNIT, SYSLOG_IDENTIFIER,
//! _TRANSPORT, the first that is there       label and field unit
//! PRIORITY                                  level; where it is no priority, field priority
//! others                                    fields in lower case, without leading underscores
//! ```

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lodge_record::builder::BatchBuilder;
use lodge_record::field;
use lodge_record::stream::StreamLabels;

use super::{Entry, ExportError, Parser};
use crate::{level, text_value};

/// What a cell costs at most beside its text.
const CELL_BYTES: usize = 8;

/// Turns journal entries into rows.
#[derive(Debug)]
pub struct EntryRows {
    labels: StreamLabels,
}

impl EntryRows {
    /// Streams get the labels `host` (each entry's own if none is given), those given, and `unit`.
    pub fn new(host: Option<&str>, labels: &BTreeMap<String, String>) -> Self {
        let mut all = StreamLabels::new();
        all.set("host", host.unwrap_or_default());
        for (name, value) in labels {
            all.set(name, value);
        }
        EntryRows { labels: all }
    }

    /// Adds one entry.
    pub fn append(&self, builder: &mut BatchBuilder, entry: &Entry, received_ns: i64) {
        let labels = self.labels_of(entry);
        for (name, value) in labels.iter() {
            builder.field_str(name, value);
        }
        let mut cut_bytes = None;
        for part in &entry.fields {
            if part.original_bytes > part.value.len() as u64 {
                cut_bytes = cut_bytes.or(Some(part.original_bytes));
            }
            match part.name.as_str() {
                "MESSAGE" if !builder.has_message() => {
                    if part.original_bytes > part.value.len() as u64 {
                        cut_bytes = Some(part.original_bytes);
                    }
                    append_message(builder, &part.value);
                }
                // The position, the time and the host are kept in their own places.
                "__CURSOR"
                | "__REALTIME_TIMESTAMP"
                | "__MONOTONIC_TIMESTAMP"
                | "__SEQNUM"
                | "__SEQNUM_ID"
                | "_SOURCE_REALTIME_TIMESTAMP"
                | "_HOSTNAME" => {}
                name => {
                    let value = text_value::lossy(&part.value);
                    if name == "PRIORITY"
                        && let Some(level) = value.parse().ok().and_then(level::of_syslog_priority)
                    {
                        builder.field_str("level", level);
                        continue;
                    }
                    let name = name.trim_start_matches('_').to_ascii_lowercase();
                    if name.is_empty() {
                        // A field without a name would be the message.
                        builder.field_str("lodge.field.", &value);
                    } else if labels.get(&name) != Some(&*value) {
                        builder.field_number_text(&name, &value);
                    }
                }
            }
        }
        if let Some(length) = cut_bytes {
            builder.field_bool(field::TRUNCATED, true);
            builder.field_i64(field::ORIGINAL_BYTES, i64::try_from(length).unwrap_or(i64::MAX));
        }
        if entry.dropped_fields > 0 {
            let dropped = i64::try_from(entry.dropped_fields).unwrap_or(i64::MAX);
            builder.field_i64("journal.dropped_fields", dropped);
        }
        let stated = ["_SOURCE_REALTIME_TIMESTAMP", "__REALTIME_TIMESTAMP"]
            .iter()
            .find_map(|name| entry.text(name)?.parse::<i64>().ok()?.checked_mul(1000));
        let stream = builder.stream(&labels.canonical());
        builder.finish_row(stated.unwrap_or(received_ns), stream);
    }

    fn labels_of(&self, entry: &Entry) -> StreamLabels {
        let mut labels = self.labels.clone();
        if labels.get("host").is_none() {
            labels.set("host", entry.text("_HOSTNAME").unwrap_or_default());
        }
        let unit = ["_SYSTEMD_UNIT", "UNIT", "SYSLOG_IDENTIFIER", "_TRANSPORT"]
            .iter()
            .find_map(|name| entry.text(name));
        labels.set("unit", unit.unwrap_or("unknown"));
        labels
    }
}

fn append_message(builder: &mut BatchBuilder, value: &[u8]) {
    match std::str::from_utf8(value) {
        Ok(text) => builder.message(text),
        Err(_) => {
            builder.message(&String::from_utf8_lossy(value));
            builder.field_str(field::RAW_BASE64, &STANDARD.encode(value));
        }
    }
}

/// Decodes an upload, piece by piece, into batches.
pub struct Decoder {
    parser: Parser,
    entries: EntryRows,
    builder: BatchBuilder,
}

impl Decoder {
    /// A decoder with nothing in it.
    pub fn new(entries: EntryRows) -> Self {
        Decoder { parser: Parser::default(), entries, builder: BatchBuilder::new() }
    }

    /// Records so far.
    pub fn rows(&self) -> usize {
        self.builder.rows()
    }

    /// Bytes that the records so far take, roughly: to cut batches.
    pub fn bytes(&self) -> usize {
        self.builder.bytes().max(self.builder.rows() * self.builder.columns() * CELL_BYTES)
    }

    /// Bytes of the entry whose end did not come yet; 0 between entries.
    pub fn unfinished_bytes(&self) -> usize {
        self.parser.unfinished_bytes()
    }

    /// Decodes every entry that ends in `part`, which goes on where the part before it ended.
    /// `received_ns` is the time of entries that have none. After an error the entries before it
    /// are still there.
    pub fn part(&mut self, part: &[u8], received_ns: i64) -> Result<(), ExportError> {
        self.parser.push(part);
        while let Some(entry) = self.parser.next_entry()? {
            self.entries.append(&mut self.builder, &entry, received_ns);
        }
        Ok(())
    }

    /// Decodes the entry that the upload's end, which is here, ends.
    pub fn end(&mut self, received_ns: i64) -> Result<(), ExportError> {
        if let Some(entry) = self.parser.finish()? {
            self.entries.append(&mut self.builder, &entry, received_ns);
        }
        Ok(())
    }

    /// The batch of all entries so far; `None` if there are none.
    pub fn finish(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        if self.builder.rows() == 0 {
            return Ok(None);
        }
        self.builder.finish().map(Some)
    }
}
