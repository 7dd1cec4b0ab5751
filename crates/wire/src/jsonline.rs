//! JSON lines: one record a line, in the parameters of VictoriaLogs' `/insert/jsonline`.
//!
//! Invariant: every non-blank line becomes exactly one record. A line that is no JSON object is kept
//! as its text with the reason in `lodge.error`, and reported.

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use hashbrown::HashMap;
use lodge_record::builder::{BatchBuilder, StreamCode};
use lodge_record::{field, limits};

use crate::json_fields::Fields;
use crate::json_object::{self, Guess, JsonValue, Leaves};
use crate::text_value;

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

/// Decodes lines one after the other into batches.
pub struct Decoder {
    fields: Fields,
    builder: BatchBuilder,
    streams: HashMap<Vec<u8>, StreamCode>,
    key: Vec<u8>,
    /// The front of a line whose end has not come yet.
    carry: Vec<u8>,
    received_ns: i64,
    lines: u64,
    malformed: Vec<Malformed>,
    malformed_total: u64,
    truncated_total: u64,
}

impl Decoder {
    /// A decoder with nothing in it.
    pub fn new(options: &Options, received_ns: i64) -> Self {
        Decoder {
            fields: Fields::new(options),
            builder: BatchBuilder::new(),
            streams: HashMap::new(),
            key: Vec::new(),
            carry: Vec::new(),
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

    /// Sets the time of the lines to come that have none.
    pub fn set_received_ns(&mut self, received_ns: i64) {
        self.received_ns = received_ns;
    }

    /// Fields that the batch in hand has columns for.
    pub fn columns(&self) -> usize {
        self.builder.columns()
    }

    /// Decodes every line of `body`.
    pub fn body(&mut self, body: &[u8]) {
        // To check all at once is several times cheaper than line by line.
        let text = std::str::from_utf8(body).ok();
        let mut from = 0;
        for end in memchr::memchr_iter(b'\n', body).chain([body.len()]) {
            if from < body.len() {
                let line = body.get(from..end).unwrap_or_default();
                self.any_line(line, text.and_then(|text| text.get(from..end)));
            }
            from = end + 1;
        }
    }

    /// Decodes every line that ends in `part`, which goes on where the part before it ended. The
    /// last one is closed by [`Self::end`].
    pub fn part(&mut self, part: &[u8]) {
        let Some(last) = memchr::memrchr(b'\n', part) else {
            return self.carry.extend_from_slice(part);
        };
        let (mut lines, rest) = part.split_at(last + 1);
        if !self.carry.is_empty()
            && let Some(first) = memchr::memchr(b'\n', lines)
        {
            let (head, others) = lines.split_at(first + 1);
            let mut carry = std::mem::take(&mut self.carry);
            carry.extend_from_slice(head);
            self.body(&carry);
            carry.clear();
            (self.carry, lines) = (carry, others);
        }
        self.body(lines);
        self.carry.extend_from_slice(rest);
    }

    /// Decodes the line that the last part left without its end.
    pub fn end(&mut self) {
        let carry = std::mem::take(&mut self.carry);
        self.body(&carry);
    }

    /// Decodes one line.
    pub fn line(&mut self, line: &[u8]) {
        self.any_line(line, None);
    }

    /// Keeps the head of a line of `original_bytes`, too long to be read.
    pub fn cut_line(&mut self, head: &[u8], original_bytes: usize) {
        self.lines += 1;
        self.keep_as_text(head, original_bytes, too_long(original_bytes));
    }

    /// Decodes one line, which is `text` if that is known already.
    fn any_line(&mut self, line: &[u8], text: Option<&str>) {
        self.lines += 1;
        if line.first().is_none_or(u8::is_ascii_whitespace) && line.trim_ascii().is_empty() {
            return;
        }
        if line.len() > limits::LINE_BYTES_MAX {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            return self.keep_as_text(line, line.len(), too_long(line.len()));
        }
        let text = match text.map_or_else(|| std::str::from_utf8(line), Ok) {
            Ok(text) => text.strip_suffix('\r').unwrap_or(text),
            Err(error) => {
                let reason = format!("not UTF-8 at byte {}", error.valid_up_to());
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                return self.keep_as_text(line, line.len(), reason);
            }
        };
        if let Err(reason) = self.object(text) {
            self.builder.abandon_row();
            self.keep_as_text(text.as_bytes(), text.len(), reason);
        }
    }

    fn object(&mut self, text: &str) -> Result<(), String> {
        let Decoder { fields, builder, .. } = self;
        fields.begin();
        json_object::walk(text, &mut Line { fields, builder, text })
            .map_err(|error| error.to_string())?;
        let time_ns = self.fields.take_time(&mut self.builder, text).unwrap_or(self.received_ns);
        self.fields.take_message(&mut self.builder, text);
        self.fields.add_extra(&mut self.builder);
        let stream = self.take_stream(text);
        self.builder.finish_row(time_ns, stream);
        Ok(())
    }

    fn take_stream(&mut self, text: &str) -> StreamCode {
        self.key.clear();
        self.fields.write_stream_key(text, &mut self.key);
        if let Some(&code) = self.streams.get(self.key.as_slice()) {
            return code;
        }
        let code = self.builder.stream(&self.fields.stream_labels(text).canonical());
        self.streams.insert(self.key.clone(), code);
        code
    }

    /// Keeps a line, or the head of one of `original_bytes`, as its text.
    fn keep_as_text(&mut self, line: &[u8], original_bytes: usize, reason: String) {
        self.builder.field_str(field::ERROR, &reason);
        let is_cut = text_value::set_message(&mut self.builder, line, original_bytes);
        self.truncated_total += u64::from(is_cut);
        self.fields.begin();
        self.fields.add_extra(&mut self.builder);
        let stream = self.take_stream("");
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
        self.fields.new_batch(self.builder.generation());
        Ok(Decoded {
            records,
            lines: self.lines,
            malformed: std::mem::take(&mut self.malformed),
            malformed_total: std::mem::take(&mut self.malformed_total),
            truncated_total: std::mem::take(&mut self.truncated_total),
        })
    }
}

fn too_long(bytes: usize) -> String {
    format!("line of {bytes} bytes is longer than {}: its head is kept", limits::LINE_BYTES_MAX)
}

/// A line that is being walked.
struct Line<'d, 't> {
    fields: &'d mut Fields,
    builder: &'d mut BatchBuilder,
    text: &'t str,
}

impl Leaves for Line<'_, '_> {
    #[inline]
    fn guesses(&self) -> [Option<&Guess>; 2] {
        self.fields.guesses()
    }

    #[inline]
    fn guessed(&mut self, guess: usize, value: JsonValue<'_>) {
        self.fields.guessed(guess, value, self.builder, self.text);
    }

    fn leaf(&mut self, name: &str, value: JsonValue<'_>) {
        self.fields.leaf(name, value, self.builder, self.text);
    }
}

/// Sets a decoded value as a field of the record in hand.
pub fn set_field(builder: &mut BatchBuilder, name: &str, value: &JsonValue<'_>) {
    builder.set(name, value.as_field());
}

#[cfg(test)]
#[path = "jsonline_tests.rs"]
mod tests;
