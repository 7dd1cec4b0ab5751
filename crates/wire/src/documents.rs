//! JSON objects as records: what the JSON protocols have in common.
//!
//! A protocol walks an object, adds what the object does not say of itself, takes the stream and
//! closes the record. Invariants: an object that cannot be read leaves nothing behind; a text
//! beyond the line limit keeps its head, with the mark; an object that was no UTF-8 keeps its bytes.

use std::borrow::Cow;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use hashbrown::HashMap;
use lodge_record::builder::{BatchBuilder, StreamCode};
use lodge_record::stream::StreamLabels;
use lodge_record::{field, limits};

use crate::batches::{Batches, BodyError};
use crate::conventions::{Kept, Naming, hex_id};
use crate::json_fields::{Dialect, Fields};
use crate::json_object::{self, Guess, JsonError, JsonValue, Leaves};
use crate::jsonline::Options;
use crate::text_value;

/// Most streams of a batch that are remembered by their fields; more are looked up by their text.
const STREAMS_MAX: usize = 65_536;

/// An object of a body: its text, and its bytes if they were no UTF-8.
pub(crate) struct Document<'b> {
    pub(crate) text: Cow<'b, str>,
    pub(crate) raw: Option<&'b [u8]>,
}

impl<'b> Document<'b> {
    pub(crate) fn new(bytes: &'b [u8]) -> Self {
        let text = text_value::lossy(bytes);
        let raw = matches!(text, Cow::Owned(_)).then_some(bytes);
        Document { text, raw }
    }
}

/// Makes records of objects.
pub(crate) struct Documents {
    pub(crate) fields: Fields,
    pub(crate) builder: BatchBuilder,
    streams: HashMap<Vec<u8>, StreamCode>,
    key: Vec<u8>,
    received_ns: i64,
    /// Length of the first text of the record in hand that was cut.
    cut: Option<usize>,
    /// The name of the last empty object at the top.
    empty: Option<Box<str>>,
}

impl Documents {
    pub(crate) fn new(options: &Options, dialect: Dialect, received_ns: i64) -> Self {
        Documents {
            fields: Fields::in_dialect(options, dialect),
            builder: BatchBuilder::new(),
            streams: HashMap::new(),
            key: Vec::new(),
            received_ns,
            cut: None,
            empty: None,
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.builder.rows()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.builder.bytes()
    }

    /// Cuts the batch in hand if it is large enough, and checks that all are not too large.
    pub(crate) fn cut_into(&mut self, batches: &mut Batches) -> Result<(), BodyError> {
        let bytes = self.bytes();
        if Batches::is_full(self.rows(), bytes) {
            batches.push(bytes, self.finish())?;
        }
        Ok(batches.check(self.bytes())?)
    }

    /// All batches, that in hand too.
    pub(crate) fn into_records(
        mut self,
        mut batches: Batches,
    ) -> Result<Vec<RecordBatch>, BodyError> {
        batches.push(self.bytes(), self.finish())?;
        Ok(batches.into_records())
    }

    /// Reads the fields of an object into the record in hand.
    pub(crate) fn walk(&mut self, text: &str) -> Result<(), JsonError> {
        let Documents { fields, builder, cut, empty, .. } = self;
        (*cut, *empty) = (None, None);
        fields.begin();
        let done = json_object::walk(text, &mut Line { fields, builder, text, cut, empty });
        if done.is_err() {
            self.abandon();
        }
        done
    }

    /// Drops the record in hand.
    pub(crate) fn abandon(&mut self) {
        self.builder.abandon_row();
        self.fields.begin();
    }

    /// Whether the object walked last had an empty object of this name.
    pub(crate) fn had_empty(&self, name: &str) -> bool {
        self.empty.as_deref() == Some(name)
    }

    /// The stream of the record in hand: the labels that its fields give, as `complete` leaves
    /// them. `context` tells what `complete` adds from what it added to others.
    pub(crate) fn stream(
        &mut self,
        text: &str,
        context: &[u8],
        complete: impl FnOnce(&mut StreamLabels),
    ) -> StreamCode {
        self.key.clear();
        self.fields.write_stream_key(text, &mut self.key);
        self.key.extend_from_slice(context);
        if let Some(&code) = self.streams.get(self.key.as_slice()) {
            return code;
        }
        let mut labels = self.fields.stream_labels(text);
        complete(&mut labels);
        let code = self.builder.stream(&capped(labels).canonical());
        if self.streams.len() < STREAMS_MAX {
            self.streams.insert(self.key.clone(), code);
        }
        code
    }

    /// What must be known before the stream is: the level, the message and added fields. Gives the
    /// record's time.
    pub(crate) fn settle(&mut self, text: &str) -> i64 {
        let time_ns = self.fields.take_time(&mut self.builder, text).unwrap_or(self.received_ns);
        self.fields.take_level(&mut self.builder, text);
        self.fields.take_message(&mut self.builder, text);
        self.fields.add_extra(&mut self.builder);
        time_ns
    }

    /// Ends the record in hand.
    pub(crate) fn close(&mut self, time_ns: i64, stream: StreamCode, raw: Option<&[u8]>) {
        if let Some(raw) = raw {
            text_value::keep_raw(&mut self.builder, raw);
        }
        if let Some(original_bytes) = self.cut.take() {
            text_value::mark_cut(&mut self.builder, original_bytes);
        }
        self.builder.finish_row(time_ns, stream);
    }

    /// Keeps what could not be read as the message of the record in hand, which still needs its
    /// stream and its end. `bytes` are the head of `original_bytes`.
    pub(crate) fn keep_as_text(&mut self, bytes: &[u8], original_bytes: usize, reason: &str) {
        self.abandon();
        self.builder.field_str(field::ERROR, reason);
        text_value::set_message(&mut self.builder, bytes, original_bytes);
        self.fields.add_extra(&mut self.builder);
        self.cut = None;
    }

    pub(crate) fn set_received_ns(&mut self, received_ns: i64) {
        self.received_ns = received_ns;
    }

    pub(crate) fn received_ns(&self) -> i64 {
        self.received_ns
    }

    /// All records so far; `None` if there are none. Empty again afterwards.
    pub(crate) fn finish(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        self.abandon();
        let records = if self.rows() > 0 { Some(self.builder.finish()?) } else { None };
        self.streams.clear();
        self.fields.new_batch(self.builder.generation());
        Ok(records)
    }
}

/// The first labels, as many as a stream may have.
fn capped(labels: StreamLabels) -> StreamLabels {
    if labels.iter().count() <= limits::STREAM_LABELS_MAX {
        return labels;
    }
    let mut kept = StreamLabels::new();
    for (name, value) in labels.iter().take(limits::STREAM_LABELS_MAX) {
        kept.set(name, value);
    }
    kept
}

/// Sets a field by the name that the dialect keeps it as.
pub(crate) fn set_named(builder: &mut BatchBuilder, naming: Naming, name: &str, value: &str) {
    match naming(name) {
        Kept::As(kept) => builder.field_str(&kept, value),
        Kept::Id(kept, digits) => builder.field_str(kept, &hex_id(value, digits)),
        Kept::Not => {}
    }
}

/// An object that is being walked.
struct Line<'d, 't> {
    fields: &'d mut Fields,
    builder: &'d mut BatchBuilder,
    text: &'t str,
    cut: &'d mut Option<usize>,
    empty: &'d mut Option<Box<str>>,
}

impl Line<'_, '_> {
    /// The value, its text cut at the limit.
    #[inline]
    fn fit<'v>(&mut self, value: JsonValue<'v>) -> JsonValue<'v> {
        let text = value.as_text();
        if text.len() <= limits::LINE_BYTES_MAX {
            return value;
        }
        let (head, original_bytes) = text_value::head(text);
        *self.cut = self.cut.or(original_bytes);
        JsonValue::Text(head)
    }
}

impl Leaves for Line<'_, '_> {
    #[inline]
    fn guesses(&self) -> [Option<&Guess>; 2] {
        self.fields.guesses()
    }

    #[inline]
    fn guessed(&mut self, guess: usize, value: JsonValue<'_>) {
        let value = self.fit(value);
        self.fields.guessed(guess, value, self.builder, self.text);
    }

    fn leaf(&mut self, name: &str, value: JsonValue<'_>) {
        let value = self.fit(value);
        self.fields.leaf(name, value, self.builder, self.text);
    }

    fn empty_object(&mut self, name: &str) {
        if !name.contains('.') {
            *self.empty = Some(name.into());
        }
    }
}

/// The lines of a body of text that are not blank, without their ends.
pub(crate) fn text_lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(body);
    std::iter::from_fn(move || {
        loop {
            let bytes = rest?;
            let end = memchr::memchr(b'\n', bytes);
            rest = end.and_then(|end| bytes.get(end + 1..));
            let line = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
            if !line.trim_ascii().is_empty() {
                return Some(line.strip_suffix(b"\r").unwrap_or(line));
            }
        }
    })
}
