//! Builds a batch record by record: the path that every line takes from bytes to columns.
//!
//! A column holds only the values that are there, so a sparse field costs nothing in the rows that
//! lack it, and a record can be abandoned half-way by taking its values off again. Text that
//! repeats is held once, as a dictionary. Fields are found by a guess first (which field came after
//! this one the last time), then by hash; who knows the [`Place`] of a field needs neither.
//!
//! Invariants: a value's text form is kept whatever type its column ends up with; the second value
//! of a field within one record is kept under `name#2`; names that Lodge defines itself are kept
//! under `lodge.field.<name>`; fields beyond the column limit go to `_overflow`.

mod column;
mod held;
mod interner;
mod number;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use arrow::array::{ArrayRef, DictionaryArray, Int32Array, RecordBatch, TimestampNanosecondArray};
use arrow::datatypes::{Field, Schema};
use arrow::error::ArrowError;
use hashbrown::HashMap;

use self::column::Column;
pub use self::column::Value;
use self::held::HeldFields;
pub use self::held::{Held, KnownText};
use self::interner::Interner;
use crate::schema::{is_reserved, leading_fields};
use crate::{field, limits, overflow};

/// A stream that the builder knows, see [`BatchBuilder::stream`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamCode(i32);

/// A label of a stream: a field that all of its records have.
#[derive(Debug)]
struct Label {
    /// Where name and value are in the text of all labels.
    name: Range<usize>,
    value: Range<usize>,
    /// Column and code of the value, once it was set.
    at: Option<(u32, i32)>,
}

/// The labels of a batch's streams.
#[derive(Debug, Default)]
struct Labels {
    text: String,
    all: Vec<Label>,
    /// By stream; none where they are set as fields.
    streams: Vec<Range<usize>>,
}

impl Labels {
    fn clear(&mut self) {
        self.text.clear();
        self.all.clear();
        self.streams.clear();
    }

    fn append(&mut self, text: &str) -> Range<usize> {
        let start = self.text.len();
        self.text.push_str(text);
        start..self.text.len()
    }
}

/// Where a field's values go, see [`BatchBuilder::set`]. It holds until the builder's
/// [`BatchBuilder::generation`] changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    column: u32,
    generation: u32,
}

/// Collects records and turns them into a `RecordBatch` of the shape of [`crate::schema`].
#[derive(Debug)]
pub struct BatchBuilder {
    times: Vec<i64>,
    stream_codes: Vec<i32>,
    streams: Interner,
    labels: Labels,
    columns: Vec<Column>,
    places: HashMap<Box<str>, u32>,
    generation: u32,
    batch: u64,
    /// Column of the value set last in this record; its hint is tried first.
    last: usize,
    overflow: Column,
    overflow_now: String,
    bytes: usize,
    /// What `bytes` was before the record in hand.
    bytes_before: usize,
    held: HeldFields,
    codes: u64,
    overflowed: u64,
}

const MSG_COLUMN: usize = 0;
/// Most columns for one name's repeated values within a record; further values go to `_overflow`.
/// Without it a record of one name over and over would be searched for quadratically.
const REPEATS_MAX: u32 = 32;

/// Numbers of batches, of all builders.
static BATCHES: AtomicU64 = AtomicU64::new(0);

fn next_batch() -> u64 {
    BATCHES.fetch_add(1, Ordering::Relaxed)
}

/// Generations of places, of all builders: a place is good in the builder that gave it alone.
static GENERATIONS: AtomicU32 = AtomicU32::new(0);

fn next_generation() -> u32 {
    GENERATIONS.fetch_add(1, Ordering::Relaxed)
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchBuilder {
    /// An empty builder.
    pub fn new() -> Self {
        BatchBuilder {
            times: Vec::new(),
            stream_codes: Vec::new(),
            streams: Interner::default(),
            labels: Labels::default(),
            columns: vec![Column::plain(field::MSG)],
            places: HashMap::new(),
            generation: next_generation(),
            batch: next_batch(),
            last: MSG_COLUMN,
            overflow: Column::plain(field::OVERFLOW),
            overflow_now: String::new(),
            bytes: 0,
            bytes_before: 0,
            held: HeldFields::default(),
            codes: next_batch(),
            overflowed: 0,
        }
    }

    /// Finished records.
    pub fn rows(&self) -> usize {
        self.times.len()
    }

    /// Bytes that the values take as text, roughly: for cutting batches to size.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Fields that the batch has columns for.
    pub fn columns(&self) -> usize {
        self.columns.len()
    }

    /// Values that went to `_overflow` because the batch had too many columns, or the record too
    /// many values of one name.
    pub fn overflowed(&self) -> u64 {
        self.overflowed
    }

    /// Changes when the places of fields are forgotten, which only [`Self::finish`] does.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Whether a place is one of this builder's, in this generation.
    #[inline]
    pub fn holds(&self, place: Place) -> bool {
        place.generation == self.generation
    }

    /// Which batch this is, of all that are ever built here: streams' codes hold within one.
    #[inline]
    pub fn batch(&self) -> u64 {
        self.batch
    }

    /// Sets the message of the record in hand.
    pub fn message(&mut self, text: &str) {
        self.put(MSG_COLUMN, Value::Text(text));
    }

    /// Sets a field to a text.
    pub fn field_str(&mut self, name: &str, value: &str) {
        self.set(name, Value::Text(value));
    }

    /// Sets a field to an integer.
    pub fn field_i64(&mut self, name: &str, value: i64) {
        self.set(name, Value::Int(value));
    }

    /// Sets a field to a float.
    pub fn field_f64(&mut self, name: &str, value: f64) {
        self.set(name, Value::Float(value));
    }

    /// Sets a field to a boolean.
    pub fn field_bool(&mut self, name: &str, value: bool) {
        self.set(name, Value::Bool(value));
    }

    /// Sets a field to a number given as text (as JSON has them): see [`Value::of_number`].
    pub fn field_number_text(&mut self, name: &str, text: &str) {
        self.set(name, Value::of_number(text));
    }

    /// Makes the stream with this canonical text known (see [`crate::stream`]).
    pub fn stream(&mut self, canonical: &str) -> StreamCode {
        let (code, is_new) = self.streams.code(canonical);
        if is_new {
            self.labels.streams.push(0..0);
        }
        StreamCode(code)
    }

    /// As [`Self::stream`], of a stream whose records all have these fields, which
    /// [`Self::set_labels`] sets. What is said first of a stream holds for the batch.
    pub fn stream_labelled<'l>(
        &mut self,
        canonical: &str,
        labels: impl Iterator<Item = (&'l str, &'l str)>,
    ) -> StreamCode {
        let code = self.stream(canonical);
        let known = &mut self.labels;
        if known.streams.get(code.0 as usize).is_some_and(Range::is_empty) {
            let start = known.all.len();
            for (name, value) in labels {
                let (name, value) = (known.append(name), known.append(value));
                known.all.push(Label { name, value, at: None });
            }
            if let Some(stream) = known.streams.get_mut(code.0 as usize) {
                *stream = start..known.all.len();
            }
        }
        code
    }

    /// Sets the labels of a stream as fields of the record in hand.
    pub fn set_labels(&mut self, stream: StreamCode) {
        self.release();
        let Some(places) = self.labels.streams.get(stream.0 as usize).cloned() else { return };
        let row = self.times.len() as u32;
        for place in places {
            let Some(label) = self.labels.all.get(place) else { continue };
            if let Some((column, code)) = label.at
                && let Some(column) = self.columns.get_mut(column as usize)
                && column.repeat(row, code)
            {
                self.bytes += Column::text_bytes(label.value.len());
            } else {
                self.set_label(place);
            }
        }
    }

    /// Sets a label whose code is not known yet.
    #[cold]
    fn set_label(&mut self, place: usize) {
        let labels = std::mem::take(&mut self.labels);
        let text = |range: &Range<usize>| labels.text.get(range.clone()).unwrap_or_default();
        let at = labels.all.get(place).and_then(|label| {
            let place = self.set(text(&label.name), Value::Text(text(&label.value)))?;
            Some((place.column, self.code_at(place)? as i32))
        });
        self.labels = labels;
        if let Some(label) = self.labels.all.get_mut(place) {
            label.at = at;
        }
    }

    /// Ends the record in hand. The stream must come from [`Self::stream`] of this builder.
    pub fn finish_row(&mut self, time_ns: i64, stream: StreamCode) {
        assert!((stream.0 as usize) < self.streams.len(), "stream of another builder");
        if !self.overflow_now.is_empty() {
            overflow::close(&mut self.overflow_now);
            self.overflow.set(self.times.len() as u32, Value::Text(&self.overflow_now));
            self.bytes += self.overflow_now.len();
            self.overflow_now.clear();
        }
        self.times.push(time_ns);
        self.stream_codes.push(stream.0);
        self.bytes += 12;
        self.bytes_before = self.bytes;
        self.last = MSG_COLUMN;
    }

    /// Takes off all that was set since the last finished record.
    pub fn abandon_row(&mut self) {
        let row = self.times.len() as u32;
        self.release_before(row);
        for column in &mut self.columns {
            column.unset(row);
        }
        self.overflow_now.clear();
        self.bytes_before = self.bytes;
        self.codes = next_batch();
        self.last = MSG_COLUMN;
        // A text that came with this record is forgotten with it.
        self.labels.all.iter_mut().for_each(|label| label.at = None);
    }

    /// Whether the record in hand has a message already.
    pub fn has_message(&self) -> bool {
        let row = self.times.len() as u32;
        self.columns.first().is_some_and(|message| message.is_set(row))
    }

    /// Sets a field. Returns the place of the field's column if the value went there under this
    /// very name.
    pub fn set(&mut self, name: &str, value: Value<'_>) -> Option<Place> {
        let hint = self.columns.get(self.last).map_or(0, |c| c.next_hint as usize);
        let found = match self.columns.get(hint) {
            Some(column) if *column.name == *name => Some(hint),
            _ => self.column_of(name),
        };
        let Some(column) = found else {
            return self.set_unplaced(name, value);
        };
        if column == MSG_COLUMN {
            self.set_message(value);
            return None;
        }
        if let Some(last) = self.columns.get_mut(self.last) {
            last.next_hint = column as u32;
        }
        self.put(column, value)
            .then_some(Place { column: column as u32, generation: self.generation })
    }

    /// Sets the field that came next the last time, if it is the one of this name; tells whether it is.
    /// A name that is compared only need not be known to be text.
    #[inline]
    pub fn set_next(&mut self, name: &[u8], value: Value<'_>) -> bool {
        let hint = self.columns.get(self.last).map_or(MSG_COLUMN, |c| c.next_hint as usize);
        let is_next = |column: &Column| hint != MSG_COLUMN && column.name.as_bytes() == name;
        let found = self.columns.get(hint).is_some_and(is_next);
        if found {
            self.put(hint, value);
        }
        found
    }

    /// Sets the field of a place that [`Self::set`] of this builder gave in this generation.
    #[inline]
    pub fn set_at(&mut self, place: Place, value: Value<'_>) {
        assert!(place.generation == self.generation, "a place that was forgotten");
        self.put(place.column as usize, value);
    }

    /// What stands for the field's value in the record in hand, if its column is a dictionary:
    /// within a batch the same value has the same code.
    #[inline]
    pub fn code_at(&self, place: Place) -> Option<u32> {
        let row = self.times.len() as u32;
        let column = self.columns.get(place.column as usize)?;
        let is_held = || column.held.is_some() && self.held.are_in(row);
        let is_set = place.generation == self.generation && (column.is_set(row) || is_held());
        if is_set { column.code() } else { None }
    }

    /// Sets the message through its name: it is text whatever the value is.
    #[cold]
    fn set_message(&mut self, value: Value<'_>) {
        let mut text = String::new();
        value.write_text(&mut text);
        self.put(MSG_COLUMN, Value::Text(&text));
    }

    fn column_of(&self, name: &str) -> Option<usize> {
        if name.is_empty() || name == field::MSG {
            return Some(MSG_COLUMN);
        }
        self.places.get(name).map(|&column| column as usize)
    }

    /// A name that has no column yet: it gets one, if it may have this name and there is room.
    #[cold]
    fn set_unplaced(&mut self, name: &str, value: Value<'_>) -> Option<Place> {
        if is_reserved(name) {
            self.set(&format!("lodge.field.{name}"), value);
            return None;
        }
        if name.len() > limits::FIELD_NAME_BYTES_MAX {
            self.set(&shorten_name(name), value);
            return None;
        }
        if self.columns.len() > limits::COLUMNS_MAX {
            self.overflow(name, value);
            return None;
        }
        let column = self.columns.len() as u32;
        self.columns.push(Column::new(name));
        self.places.insert(name.into(), column);
        if let Some(last) = self.columns.get_mut(self.last) {
            last.next_hint = column;
        }
        self.put(column as usize, value);
        Some(Place { column, generation: self.generation })
    }

    fn overflow(&mut self, name: &str, value: Value<'_>) {
        let mut text = String::new();
        value.write_text(&mut text);
        overflow::append(&mut self.overflow_now, name, &text);
        self.overflowed += 1;
    }

    /// Puts a value into a column; if it has one in this record already, into that of its second
    /// name, and then the answer is false.
    #[inline]
    fn put(&mut self, place: usize, value: Value<'_>) -> bool {
        let row = self.times.len() as u32;
        let Some(column) = self.columns.get_mut(place) else { return false };
        if column.held.is_some() {
            return self.put_beside_held(place, value);
        }
        if column.is_set(row) {
            self.put_again(place, value);
            return false;
        }
        self.bytes += column.set(row, value);
        self.last = place;
        true
    }

    /// As [`Self::put`], into a column whose field is held.
    #[cold]
    fn put_beside_held(&mut self, place: usize, value: Value<'_>) -> bool {
        let row = self.times.len() as u32;
        if self.held.are_in(row) {
            self.put_again(place, value);
            return false;
        }
        self.release();
        self.put(place, value)
    }

    /// Puts a value into the column of the next name of a field that this record has already.
    fn put_again(&mut self, place: usize, value: Value<'_>) {
        let row = self.times.len() as u32;
        let Some(column) = self.columns.get_mut(place) else { return };
        if let Some(second) = column.take_second(row) {
            self.put(second as usize, value);
            return;
        }
        let (name, count) = column.next_repeat(row);
        if count > REPEATS_MAX {
            self.overflow(&name, value);
        } else if let Some(placed) = self.set(&name, value)
            && count == 2
            && let Some(column) = self.columns.get_mut(place)
        {
            column.remember_second(placed.column);
        }
    }

    /// All finished records as a `RecordBatch`; the builder is empty again.
    ///
    /// Where all fields occurred in this batch, the next one is likely to have them too: then their
    /// places stay.
    pub fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        self.abandon_row();
        let rows = self.times.len();
        let mut next = Vec::with_capacity(rows + rows / 8);
        std::mem::swap(&mut next, &mut self.times);
        let times = TimestampNanosecondArray::from(next).with_timezone("UTC");
        let texts: ArrayRef = Arc::new(self.streams.finish()?);
        self.labels.clear();
        self.batch = next_batch();
        let mut next = Vec::with_capacity(rows + rows / 8);
        std::mem::swap(&mut next, &mut self.stream_codes);
        let streams = DictionaryArray::try_new(Int32Array::from(next), texts)?;
        let mut fields: Vec<Field> = leading_fields().into();
        let mut arrays: Vec<ArrayRef> = vec![Arc::new(times), Arc::new(streams)];

        let stays = self.columns.iter().skip(1).all(|c| !c.is_empty());
        let mut columns: Vec<&mut Column> = self.columns.iter_mut().collect();
        if let Some((message, others)) = columns.split_first_mut() {
            arrays.push(message.finish(rows)?.1);
            others.sort_by(|a, b| a.name.cmp(&b.name));
        }
        let others = columns.into_iter().skip(1).filter(|c| !c.is_empty());
        let overflow = std::iter::once(&mut self.overflow).filter(|c| !c.is_empty());
        for column in others.chain(overflow) {
            let (field, array) = column.finish(rows)?;
            fields.push(field);
            arrays.push(array);
        }
        if !stays {
            self.columns.truncate(1);
            self.places.clear();
            self.generation = next_generation();
            self.columns.iter_mut().for_each(Column::forget_second);
        }
        self.bytes = 0;
        self.bytes_before = 0;
        self.overflowed = 0;
        RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
    }
}

/// The head of a name longer than [`limits::FIELD_NAME_BYTES_MAX`], with a hash of the whole so that
/// two stay two.
pub fn shorten_name(name: &str) -> String {
    let hash = blake3::hash(name.as_bytes()).to_hex();
    let mut end = limits::FIELD_NAME_BYTES_MAX - 17;
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    let head = name.get(..end).unwrap_or_default();
    format!("{head}~{}", hash.as_str().get(..16).unwrap_or_default())
}

#[cfg(test)]
mod tests;
