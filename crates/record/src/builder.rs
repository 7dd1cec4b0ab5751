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
mod interner;
mod number;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use arrow::array::{
    ArrayRef, DictionaryArray, Int32Array, RecordBatch, StringArray, TimestampNanosecondArray,
};
use arrow::datatypes::{Field, Schema};
use arrow::error::ArrowError;
use hashbrown::HashMap;

use self::column::Column;
pub use self::column::Value;
use crate::schema::{is_reserved, leading_fields};
use crate::{field, limits, overflow};

/// A stream that the builder knows, see [`BatchBuilder::stream`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamCode(i32);

/// A label of a stream: a field that all of its records have.
#[derive(Debug)]
struct Label {
    name: Box<str>,
    value: Box<str>,
    /// Column and code of the value, once it was set.
    at: Option<(u32, i32)>,
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
    streams: Vec<String>,
    /// By stream; none where they are set as fields.
    labels: Vec<Vec<Label>>,
    stream_places: HashMap<String, i32>,
    columns: Vec<Column>,
    places: HashMap<Box<str>, u32>,
    generation: u32,
    batch: u64,
    /// Column of the value set last in this record; its hint is tried first.
    last: usize,
    overflow: Column,
    overflow_now: String,
    bytes: usize,
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
            streams: Vec::new(),
            labels: Vec::new(),
            stream_places: HashMap::new(),
            columns: vec![Column::plain(field::MSG)],
            places: HashMap::new(),
            generation: next_generation(),
            batch: next_batch(),
            last: MSG_COLUMN,
            overflow: Column::plain(field::OVERFLOW),
            overflow_now: String::new(),
            bytes: 0,
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
        if let Some(&code) = self.stream_places.get(canonical) {
            return StreamCode(code);
        }
        let code = self.streams.len() as i32;
        self.streams.push(canonical.to_owned());
        self.labels.push(Vec::new());
        self.stream_places.insert(canonical.to_owned(), code);
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
        if let Some(known) = self.labels.get_mut(code.0 as usize).filter(|known| known.is_empty()) {
            let label = |(name, value): (&str, &str)| Label {
                name: name.into(),
                value: value.into(),
                at: None,
            };
            known.extend(labels.map(label));
        }
        code
    }

    /// Sets the labels of a stream as fields of the record in hand.
    pub fn set_labels(&mut self, stream: StreamCode) {
        let Some(labels) = self.labels.get_mut(stream.0 as usize) else { return };
        let mut labels = std::mem::take(labels);
        let row = self.times.len() as u32;
        for label in &mut labels {
            if let Some((column, code)) = label.at
                && let Some(column) = self.columns.get_mut(column as usize)
                && column.repeat(row, code)
            {
                self.bytes += Column::text_bytes(&label.value);
                continue;
            }
            let place = self.set(&label.name, Value::Text(&label.value));
            let code_at = |place: Place| Some((place.column, self.code_at(place)? as i32));
            label.at = place.and_then(code_at);
        }
        if let Some(place) = self.labels.get_mut(stream.0 as usize) {
            *place = labels;
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
        self.last = MSG_COLUMN;
    }

    /// Takes off all that was set since the last finished record.
    pub fn abandon_row(&mut self) {
        let row = self.times.len() as u32;
        for column in &mut self.columns {
            column.unset(row);
        }
        self.overflow_now.clear();
        self.last = MSG_COLUMN;
        // A text that came with this record is forgotten with it.
        self.labels.iter_mut().flatten().for_each(|label| label.at = None);
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
        if place.generation == self.generation && column.is_set(row) { column.code() } else { None }
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
        if column.is_set(row) {
            self.put_again(place, value);
            return false;
        }
        self.bytes += column.set(row, value);
        self.last = place;
        true
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
        let texts: ArrayRef = Arc::new(StringArray::from(std::mem::take(&mut self.streams)));
        self.stream_places.clear();
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
