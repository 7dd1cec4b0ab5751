//! Nested values, told piece by piece, into the fields of records.
//!
//! A decoder walks a value and says what it meets: a key, a scalar, where a map or an array begins
//! and ends. As with JSON lines, maps become dotted names; arrays, and maps beyond
//! [`limits::NEST_DEPTH_MAX`], become JSON text; nulls are left out.
//!
//! Invariants: what a record costs is bounded by what was told; a text beyond
//! [`limits::LINE_BYTES_MAX`] keeps its head and is marked; of a text that is no UTF-8 the bytes
//! are kept beside it; batches are cut so that none grows beyond the limits on bytes and cells.

use std::borrow::Cow;
use std::cell::Cell;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lodge_record::builder::{
    BatchBuilder, Held, KnownText, Place, StreamCode, Value, shorten_name,
};
use lodge_record::overflow::push_json_string;
use lodge_record::{field, limits};

use crate::text_value;

/// A batch is cut when its values take this many bytes as text.
const CUT_BYTES: usize = limits::BATCH_BYTES_MAX / 2;
/// What a cell costs at most beside its text.
const CELL_BYTES: usize = 8;
/// After so many records it is reckoned how many a body has.
const EXPECT_ROWS: usize = 256;
/// Keys of a record that may be its message, the best first: those of JSON lines.
const MESSAGE_NAMES: [&str; 4] = [field::MSG, "message", "msg", "log"];

/// A value that holds no other.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scalar<'v> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    /// In the digits in which it was sent.
    Number(&'v str),
    /// A text, if it is UTF-8.
    Text(&'v [u8]),
    /// Bytes that are not meant as text: they become base64.
    Bytes(&'v [u8]),
}

impl Scalar<'_> {
    fn with_value<R>(self, take: impl FnOnce(Value<'_>) -> R) -> Option<R> {
        let mut digits = String::new();
        Some(take(match self {
            Scalar::Null => return None,
            Scalar::Bool(value) => Value::Bool(value),
            Scalar::Int(value) => Value::Int(value),
            Scalar::Uint(value) => match i64::try_from(value) {
                Ok(value) => Value::Int(value),
                Err(_) => {
                    digits.push_str(&value.to_string());
                    Value::Text(&digits)
                }
            },
            Scalar::Float(value) if value.is_finite() => Value::Float(value),
            Scalar::Float(value) if value.is_nan() => Value::Text("NaN"),
            Scalar::Float(value) => Value::Text(if value > 0.0 { "Infinity" } else { "-Infinity" }),
            Scalar::Number(text) => Value::of_number(text),
            Scalar::Text(text) => {
                digits = String::from_utf8_lossy(text).into_owned();
                Value::Text(&digits)
            }
            Scalar::Bytes(bytes) => {
                STANDARD.encode_string(bytes, &mut digits);
                Value::Text(&digits)
            }
        }))
    }

    fn write_json(self, out: &mut String) {
        match self {
            Scalar::Null => out.push_str("null"),
            Scalar::Bool(true) => out.push_str("true"),
            Scalar::Bool(false) => out.push_str("false"),
            Scalar::Int(value) => out.push_str(&value.to_string()),
            Scalar::Uint(value) => out.push_str(&value.to_string()),
            Scalar::Number(text) => out.push_str(text),
            Scalar::Float(value) if value.is_finite() => {
                out.push_str(&lodge_record::schema::float_text(value));
            }
            Scalar::Text(text) => push_json_string(out, &String::from_utf8_lossy(text)),
            other @ (Scalar::Float(_) | Scalar::Bytes(_)) => {
                other.with_value(|value| {
                    if let Value::Text(text) = value {
                        push_json_string(out, text);
                    }
                });
            }
        }
    }
}

/// A field that is the same in many records: [`RowWriter::replay`].
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) name: String,
    value: KeptValue,
    /// Where the builder keeps it, in the generation that is named.
    place: Cell<Option<(u32, Place)>>,
}

#[derive(Clone, Debug)]
enum KeptValue {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
}

impl Kept {
    fn value(&self) -> Value<'_> {
        match &self.value {
            KeptValue::Bool(value) => Value::Bool(*value),
            KeptValue::Int(value) => Value::Int(*value),
            KeptValue::Float(value) => Value::Float(*value),
            KeptValue::Text(text) => Value::Text(text),
        }
    }

    /// Name and value as text, as a label has it.
    pub(crate) fn into_label(self) -> (String, String) {
        let text = match self.value {
            KeptValue::Text(text) => text,
            _ => self.text().into_owned(),
        };
        (self.name, text)
    }

    /// The value as text, as a label has it.
    pub(crate) fn text(&self) -> Cow<'_, str> {
        match &self.value {
            KeptValue::Bool(value) => value.to_string().into(),
            KeptValue::Int(value) => value.to_string().into(),
            KeptValue::Float(value) => lodge_record::schema::float_text(*value).into(),
            KeptValue::Text(text) => text.as_str().into(),
        }
    }
}

/// A stream whose records all have some fields: its labels.
#[derive(Debug, Default)]
pub(crate) struct LabelledStream {
    /// Its canonical text, which says all of the labels.
    pub(crate) canonical: String,
    /// Those of the labels that are fields of each record.
    pub(crate) labels: Vec<(String, String)>,
    /// What the builder calls it, in the batch that is named.
    code: Cell<Option<(u64, StreamCode)>>,
}

impl LabelledStream {
    pub(crate) fn new(canonical: String, labels: Vec<(String, String)>) -> Self {
        LabelledStream { canonical, labels, code: Cell::new(None) }
    }

    fn code(&self, builder: &mut BatchBuilder) -> StreamCode {
        let batch = builder.batch();
        if let Some((_, code)) = self.code.get().filter(|(known, _)| *known == batch) {
            return code;
        }
        let code = match self.labels.is_empty() {
            // Who has labels of the same stream set as fields says which.
            true => builder.stream(&self.canonical),
            false => {
                let labels = self.labels.iter().map(|(name, value)| (&**name, &**value));
                builder.stream_labelled(&self.canonical, labels)
            }
        };
        self.code.set(Some((batch, code)));
        code
    }
}

/// Where fields go.
struct Fields {
    builder: BatchBuilder,
    /// Instead of the builder, while fields are kept for many records.
    kept: Option<Vec<Kept>>,
    /// Length of the first text of the record in hand that was cut.
    cut_bytes: Option<usize>,
}

impl Fields {
    fn set(&mut self, name: &str, value: Value<'_>) {
        let Some(kept) = &mut self.kept else {
            self.builder.set(name, value);
            return;
        };
        let value = match value {
            Value::Bool(value) => KeptValue::Bool(value),
            Value::Int(value) => KeptValue::Int(value),
            Value::Float(value) => KeptValue::Float(value),
            Value::Text(text) => KeptValue::Text(text.to_owned()),
        };
        kept.push(Kept { name: name.to_owned(), value, place: Cell::new(None) });
    }

    fn put(&mut self, name: &str, scalar: Scalar<'_>) {
        match scalar {
            Scalar::Text(bytes) => {
                let head = self.head(bytes);
                match std::str::from_utf8(head) {
                    Ok(text) => self.set(name, Value::Text(text)),
                    Err(_) => {
                        self.set(name, Value::Text(&String::from_utf8_lossy(head)));
                        let raw = STANDARD.encode(head);
                        self.set(&format!("{name}.raw_base64"), Value::Text(&raw));
                    }
                }
            }
            Scalar::Bytes(bytes) => {
                // Four letters for three bytes, and no letter is cut off from its group.
                let kept = limits::LINE_BYTES_MAX / 4 * 3;
                if bytes.len() > kept {
                    self.cut_bytes.get_or_insert(bytes.len());
                }
                let head = Scalar::Bytes(bytes.get(..kept).unwrap_or(bytes));
                head.with_value(|value| self.set(name, value));
            }
            other => {
                other.with_value(|value| self.set(name, value));
            }
        }
    }

    /// Sets the field that came next the last time, if it has this name and a value that is as it
    /// was sent; tells whether.
    #[inline]
    fn put_next(&mut self, name: &[u8], scalar: Scalar<'_>) -> bool {
        if self.kept.is_some() {
            return false;
        }
        let value = match scalar {
            Scalar::Text(text) if text.len() <= limits::LINE_BYTES_MAX => {
                let Ok(text) = std::str::from_utf8(text) else { return false };
                Value::Text(text)
            }
            Scalar::Int(value) => Value::Int(value),
            Scalar::Bool(value) => Value::Bool(value),
            Scalar::Float(value) if value.is_finite() => Value::Float(value),
            _ => return false,
        };
        self.builder.set_next(name, value)
    }

    fn message(&mut self, bytes: &[u8]) {
        let head = self.head(bytes);
        match std::str::from_utf8(head) {
            Ok(text) => self.builder.message(text),
            Err(_) => {
                self.builder.message(&String::from_utf8_lossy(head));
                self.builder.field_str(field::RAW_BASE64, &STANDARD.encode(head));
            }
        }
    }

    /// What is kept of a text, ending where a character ends.
    fn head<'t>(&mut self, bytes: &'t [u8]) -> &'t [u8] {
        let Some(head) = bytes.get(..limits::LINE_BYTES_MAX) else { return bytes };
        if head.len() == bytes.len() {
            return bytes;
        }
        self.cut_bytes.get_or_insert(bytes.len());
        let is_continued = |at: usize| bytes.get(at).is_some_and(|b| b & 0xc0 == 0x80);
        let end = (head.len() - 3..=head.len()).rev().find(|at| !is_continued(*at));
        end.and_then(|end| bytes.get(..end)).unwrap_or(head)
    }
}

/// An open map whose fields have dotted names.
struct OpenMap {
    /// Length of the map's own name.
    base: usize,
    /// The name before it was shortened.
    long: Option<String>,
}

/// An open map or array within JSON text.
struct OpenJson {
    is_map: bool,
    has_any: bool,
}

/// A key's value that may be the message.
#[derive(Default)]
struct Candidate {
    rank: Option<usize>,
    text: Vec<u8>,
    is_number: bool,
}

/// Writes records from what a decoder tells.
pub(crate) struct RowWriter {
    fields: Fields,
    /// Dotted name of the value in hand.
    name: String,
    maps: Vec<OpenMap>,
    json: String,
    json_open: Vec<OpenJson>,
    /// Whether the outermost map in hand may hold the message.
    finds_message: bool,
    candidate: Candidate,
    batches: Vec<RecordBatch>,
    cut_batches_bytes: usize,
}

impl RowWriter {
    pub(crate) fn new() -> Self {
        RowWriter {
            fields: Fields { builder: BatchBuilder::new(), kept: None, cut_bytes: None },
            name: String::new(),
            maps: Vec::new(),
            json: String::new(),
            json_open: Vec::new(),
            finds_message: false,
            candidate: Candidate::default(),
            batches: Vec::new(),
            cut_batches_bytes: 0,
        }
    }

    /// Bytes that all records so far take, roughly.
    pub(crate) fn decoded_bytes(&self) -> usize {
        let cells = self.fields.builder.rows() * self.fields.builder.columns() * CELL_BYTES;
        self.cut_batches_bytes + self.fields.builder.bytes().max(cells)
    }

    /// How deep the value in hand is nested.
    pub(crate) fn depth(&self) -> usize {
        self.maps.len() + self.json_open.len()
    }

    /// Sets the message of the record in hand.
    pub(crate) fn message(&mut self, bytes: &[u8]) {
        self.fields.message(bytes);
    }

    /// Sets a field by its whole name.
    pub(crate) fn field(&mut self, name: &str, scalar: Scalar<'_>) {
        self.fields.put(name, scalar);
    }

    /// Names the value that comes next: the fields of a map begin with it.
    pub(crate) fn root(&mut self, name: &str) {
        self.name.clear();
        self.name.push_str(name);
        self.finds_message = false;
    }

    /// The value that comes next is the record itself: if it is a map, its message is found in it,
    /// else it is the message.
    pub(crate) fn root_with_message(&mut self) {
        self.root("");
        self.finds_message = true;
    }

    /// A map begins.
    pub(crate) fn open_map(&mut self) {
        if !self.json_open.is_empty() || self.maps.len() >= limits::NEST_DEPTH_MAX {
            return self.open_json(true);
        }
        // Else a long name would be copied and hashed for each of the fields below it.
        let long = (self.name.len() > limits::FIELD_NAME_BYTES_MAX).then(|| {
            let short = shorten_name(&self.name);
            std::mem::replace(&mut self.name, short)
        });
        self.maps.push(OpenMap { base: self.name.len(), long });
    }

    /// An array begins.
    pub(crate) fn open_array(&mut self) {
        self.open_json(false);
    }

    fn open_json(&mut self, is_map: bool) {
        self.separate();
        self.json.push(if is_map { '{' } else { '[' });
        self.json_open.push(OpenJson { is_map, has_any: false });
    }

    /// The comma before an array's further elements.
    fn separate(&mut self) {
        if let Some(open) = self.json_open.last_mut().filter(|open| !open.is_map) {
            if open.has_any {
                self.json.push(',');
            }
            open.has_any = true;
        }
    }

    /// A key of the map in hand.
    pub(crate) fn key(&mut self, key: &[u8]) {
        let key = text_value::lossy(key);
        if let Some(open) = self.json_open.last_mut() {
            if open.has_any {
                self.json.push(',');
            }
            open.has_any = true;
            push_json_string(&mut self.json, &key);
            self.json.push(':');
            return;
        }
        let base = self.maps.last().map_or(0, |map| map.base);
        self.name.truncate(base);
        if base > 0 {
            self.name.push('.');
        } else if key.is_empty() {
            // A field without a name would be the message.
            self.name.push_str("lodge.field.");
        }
        self.name.push_str(&key);
    }

    /// A key of the map in hand and its scalar, if the map has no name and the field is the one that
    /// came next the last time; tells whether, and otherwise both are to be told one by one.
    #[inline]
    pub(crate) fn pair(&mut self, key: &[u8], scalar: Scalar<'_>) -> bool {
        let is_flat = matches!(*self.maps, [OpenMap { base: 0, .. }]);
        is_flat
            && self.json_open.is_empty()
            && !self.finds_message
            && self.fields.put_next(key, scalar)
    }

    /// A value that holds no other.
    pub(crate) fn scalar(&mut self, scalar: Scalar<'_>) {
        if !self.json_open.is_empty() {
            self.separate();
            return scalar.write_json(&mut self.json);
        }
        if self.finds_message && self.maps.len() <= 1 && self.is_candidate(scalar) {
            return;
        }
        self.fields.put(&self.name, scalar);
    }

    /// Whether the value in hand is the best message so far; one that was better before is a field.
    fn is_candidate(&mut self, scalar: Scalar<'_>) -> bool {
        let rank = match self.maps.len() {
            0 => Some(0),
            _ => MESSAGE_NAMES.iter().position(|name| *name == self.name),
        };
        let Some(rank) = rank else { return false };
        if matches!(scalar, Scalar::Null) || self.candidate.rank.is_some_and(|best| best <= rank) {
            return false;
        }
        self.demote_candidate();
        let candidate = &mut self.candidate;
        candidate.rank = Some(rank);
        candidate.is_number = matches!(
            scalar,
            Scalar::Int(_) | Scalar::Uint(_) | Scalar::Float(_) | Scalar::Number(_)
        );
        candidate.text.clear();
        match scalar {
            // A message of bytes is text in an encoding that was not said.
            Scalar::Text(text) | Scalar::Bytes(text) => candidate.text.extend_from_slice(text),
            Scalar::Bool(value) => candidate.text.extend_from_slice(value.to_string().as_bytes()),
            other => {
                let mut digits = String::new();
                other.write_json(&mut digits);
                candidate.text.extend_from_slice(digits.as_bytes());
            }
        }
        true
    }

    /// What was found to be the message is set as such; what is told from now on is not.
    pub(crate) fn end_message(&mut self) {
        if self.candidate.rank.take().is_some() {
            self.fields.message(&self.candidate.text);
        }
        self.finds_message = false;
    }

    fn demote_candidate(&mut self) {
        let name = self.candidate.rank.take().and_then(|rank| MESSAGE_NAMES.get(rank));
        let Some(name) = name else { return };
        match std::str::from_utf8(&self.candidate.text) {
            Ok(text) if self.candidate.is_number => self.fields.put(name, Scalar::Number(text)),
            _ => self.fields.put(name, Scalar::Text(&self.candidate.text)),
        }
    }

    /// The map or array that began last ends.
    pub(crate) fn close(&mut self) {
        if let Some(open) = self.json_open.pop() {
            self.json.push(if open.is_map { '}' } else { ']' });
            if self.json_open.is_empty() {
                let json = std::mem::take(&mut self.json);
                self.scalar(Scalar::Text(json.as_bytes()));
                self.json = json;
                self.json.clear();
            }
            return;
        }
        let Some(map) = self.maps.pop() else { return };
        match map.long {
            Some(long) => self.name = long,
            None => self.name.truncate(map.base),
        }
    }

    /// Keeps the fields that are told from now on, for [`Self::replay`].
    pub(crate) fn keep(&mut self) {
        self.fields.kept = Some(Vec::new());
    }

    /// The fields since [`Self::keep`]; fields belong to records again.
    pub(crate) fn take_kept(&mut self) -> Vec<Kept> {
        self.fields.cut_bytes = None;
        self.fields.kept.take().unwrap_or_default()
    }

    /// Sets the kept fields in the record in hand.
    pub(crate) fn replay(&mut self, kept: &[Kept]) {
        let builder = &mut self.fields.builder;
        let generation = builder.generation();
        for field in kept {
            match field.place.get() {
                Some((known, place)) if known == generation => builder.set_at(place, field.value()),
                _ => {
                    let place = builder.set(&field.name, field.value());
                    field.place.set(place.map(|place| (generation, place)));
                }
            }
        }
    }

    /// Sets the labels of a stream as fields of the record in hand.
    pub(crate) fn set_labels(&mut self, stream: &LabelledStream) {
        if !stream.labels.is_empty() {
            let code = stream.code(&mut self.fields.builder);
            self.fields.builder.set_labels(code);
        }
    }

    /// Keeps all that the record in hand has so far, for [`Self::again`]; none if that cannot be.
    pub(crate) fn hold(&mut self) -> Option<Held> {
        self.fields.builder.hold()
    }

    /// Sets in the record in hand, which has nothing yet, what was held, if the record before had
    /// it, too; tells whether.
    #[inline]
    pub(crate) fn again(&mut self, held: Held) -> bool {
        self.fields.builder.again(held)
    }

    /// Sets a field to a text that is known to be within the limit.
    #[inline]
    pub(crate) fn short_text(&mut self, name: &str, text: &str) {
        let builder = &mut self.fields.builder;
        if !builder.set_next(name.as_bytes(), Value::Text(text)) {
            builder.set(name, Value::Text(text));
        }
    }

    /// As [`Self::short_text`], of a text that often comes again: `known` keeps what the batch calls
    /// it.
    #[inline]
    pub(crate) fn known_text(&mut self, name: &str, text: &str, known: &mut Option<KnownText>) {
        self.fields.builder.set_known(name, text, known);
    }

    /// Sets a field to a number.
    #[inline]
    pub(crate) fn number(&mut self, name: &str, number: u64) {
        let builder = &mut self.fields.builder;
        match i64::try_from(number) {
            Ok(value) if builder.set_next(name.as_bytes(), Value::Int(value)) => {}
            _ => self.fields.put(name, Scalar::Uint(number)),
        }
    }

    /// Tells how far a body is read from which all records come: `read_bytes` of `all_bytes`. After
    /// the first ones it is known about how much room all of them take.
    #[inline]
    pub(crate) fn expect_more(&mut self, read_bytes: usize, all_bytes: usize) {
        if self.fields.builder.rows() == EXPECT_ROWS && self.batches.is_empty() {
            let rows = EXPECT_ROWS.saturating_mul(all_bytes) / read_bytes.max(1);
            self.fields.builder.expect(rows + rows / 32);
        }
    }

    /// Takes off all that was told of the record in hand, and what is open.
    pub(crate) fn abandon(&mut self) {
        self.fields.builder.abandon_row();
        self.fields.kept = None;
        self.forget();
    }

    fn forget(&mut self) {
        self.fields.cut_bytes = None;
        self.candidate.rank = None;
        self.finds_message = false;
        self.maps.clear();
        self.json_open.clear();
        self.json.clear();
    }

    /// Ends the record in hand. `stream` is its stream's canonical text.
    pub(crate) fn finish_row(&mut self, time_ns: i64, stream: &str) -> Result<(), ArrowError> {
        self.end_fields();
        let stream = self.fields.builder.stream(stream);
        self.end_row(time_ns, stream)
    }

    /// Ends the record in hand, which is of this stream.
    pub(crate) fn finish_row_of(
        &mut self,
        time_ns: i64,
        stream: &LabelledStream,
    ) -> Result<(), ArrowError> {
        self.end_fields();
        let stream = stream.code(&mut self.fields.builder);
        self.end_row(time_ns, stream)
    }

    fn end_fields(&mut self) {
        self.end_message();
        if let Some(length) = self.fields.cut_bytes {
            self.fields.builder.field_bool(field::TRUNCATED, true);
            self.fields.put(field::ORIGINAL_BYTES, Scalar::Uint(length as u64));
        }
        self.forget();
    }

    fn end_row(&mut self, time_ns: i64, stream: StreamCode) -> Result<(), ArrowError> {
        let builder = &mut self.fields.builder;
        builder.finish_row(time_ns, stream);
        let cells = builder.rows().saturating_mul(builder.columns()).saturating_mul(CELL_BYTES);
        if builder.bytes() >= CUT_BYTES || cells >= limits::CELLS_MAX {
            self.cut()?;
        }
        Ok(())
    }

    fn cut(&mut self) -> Result<(), ArrowError> {
        self.cut_batches_bytes = self.decoded_bytes();
        self.batches.push(self.fields.builder.finish()?);
        Ok(())
    }

    /// Records since the last [`Self::take_batches`].
    pub(crate) fn rows(&self) -> usize {
        let cut: usize = self.batches.iter().map(RecordBatch::num_rows).sum();
        cut + self.fields.builder.rows()
    }

    /// All records so far, none of the batches empty. The writer is empty again.
    pub(crate) fn take_batches(&mut self) -> Result<Vec<RecordBatch>, ArrowError> {
        if self.fields.builder.rows() > 0 {
            self.cut()?;
        }
        self.cut_batches_bytes = 0;
        Ok(std::mem::take(&mut self.batches))
    }
}
