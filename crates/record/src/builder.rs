//! Builds a batch record by record: the path that every line takes from bytes to columns.
//!
//! A column holds only the values that are there, with their rows, so a sparse field costs nothing
//! in the rows that lack it, and a record can be abandoned half-way by taking its values off again.
//! Fields are found by a guess first (which field came after this one the last time), then by hash.
//!
//! Invariants: a value's text form is kept whatever type its column ends up with; the second value
//! of a field within one record is kept under `name#2`; names that Lodge defines itself are kept
//! under `lodge.field.<name>`; fields beyond the column limit go to `_overflow`.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, DictionaryArray, Float64Array, Int32Array, Int64Array, RecordBatch,
    StringArray, TimestampNanosecondArray,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use hashbrown::HashMap;

use crate::schema::{EXACT_INT_MAX, float_text, is_reserved, leading_fields, make_field};
use crate::{field, limits, overflow};

/// A stream that the builder knows, see [`BatchBuilder::stream`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamCode(i32);

/// Collects records and turns them into a `RecordBatch` of the shape of [`crate::schema`].
#[derive(Debug)]
pub struct BatchBuilder {
    times: Vec<i64>,
    stream_codes: Vec<i32>,
    streams: Vec<String>,
    stream_places: HashMap<String, i32>,
    columns: Vec<Column>,
    places: HashMap<Box<str>, u32>,
    /// Column of the value set last in this record; its hint is tried first.
    last: usize,
    /// Columns that the record in hand has touched, in order.
    touched: Vec<u32>,
    overflow_rows: Vec<u32>,
    overflow_texts: Vec<String>,
    overflow_now: String,
    bytes: usize,
    overflowed: u64,
}

#[derive(Debug)]
struct Column {
    name: Box<str>,
    next_hint: u32,
    /// Size of the text data before the value set last, to take it off again.
    rows: Vec<u32>,
    data: Data,
}

#[derive(Debug)]
enum Data {
    Int(Vec<i64>),
    Float(Vec<f64>),
    Bool(Vec<bool>),
    /// `ends[i]` is where value i ends in `bytes`.
    Text {
        ends: Vec<i32>,
        bytes: Vec<u8>,
    },
}

#[derive(Clone, Copy)]
enum Value<'a> {
    Int(i64),
    Float(f64),
    Bool(bool),
    Text(&'a str),
}

const MSG_PLACE: usize = 0;

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchBuilder {
    /// An empty builder.
    pub fn new() -> Self {
        let msg =
            Column { name: field::MSG.into(), next_hint: 0, rows: vec![], data: Data::text() };
        BatchBuilder {
            times: Vec::new(),
            stream_codes: Vec::new(),
            streams: Vec::new(),
            stream_places: HashMap::new(),
            columns: vec![msg],
            places: HashMap::new(),
            last: MSG_PLACE,
            touched: Vec::new(),
            overflow_rows: Vec::new(),
            overflow_texts: Vec::new(),
            overflow_now: String::new(),
            bytes: 0,
            overflowed: 0,
        }
    }

    /// Finished records.
    pub fn rows(&self) -> usize {
        self.times.len()
    }

    /// Bytes that the values take, roughly: for cutting batches to size.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Values that went to `_overflow` because the batch had too many columns.
    pub fn overflowed(&self) -> u64 {
        self.overflowed
    }

    /// Sets the message of the record in hand.
    pub fn message(&mut self, text: &str) {
        self.set_at(MSG_PLACE, Value::Text(text));
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

    /// Sets a field to a number given as text (as JSON has them): as an integer or a float if that
    /// has the very same text form, else as the text.
    pub fn field_number_text(&mut self, name: &str, text: &str) {
        let value = match parse_canonical_int(text.as_bytes()) {
            Some(int) => Value::Int(int),
            None => match text.parse::<f64>() {
                Ok(float) if float.is_finite() && float_text(float) == text => Value::Float(float),
                _ => Value::Text(text),
            },
        };
        self.set(name, value);
    }

    /// Makes the stream with this canonical text known (see [`crate::stream`]).
    pub fn stream(&mut self, canonical: &str) -> StreamCode {
        if let Some(&code) = self.stream_places.get(canonical) {
            return StreamCode(code);
        }
        let code = self.streams.len() as i32;
        self.streams.push(canonical.to_owned());
        self.stream_places.insert(canonical.to_owned(), code);
        StreamCode(code)
    }

    /// Ends the record in hand. The stream must come from [`Self::stream`] of this builder.
    pub fn finish_row(&mut self, time_ns: i64, stream: StreamCode) {
        assert!((stream.0 as usize) < self.streams.len(), "stream of another builder");
        if !self.overflow_now.is_empty() {
            overflow::close(&mut self.overflow_now);
            self.overflow_rows.push(self.times.len() as u32);
            self.bytes += self.overflow_now.len();
            self.overflow_texts.push(std::mem::take(&mut self.overflow_now));
        }
        self.times.push(time_ns);
        self.stream_codes.push(stream.0);
        self.touched.clear();
        self.bytes += 12;
        self.last = MSG_PLACE;
    }

    /// Takes off all that was set since the last finished record.
    pub fn abandon_row(&mut self) {
        for place in std::mem::take(&mut self.touched) {
            if let Some(column) = self.columns.get_mut(place as usize) {
                column.rows.pop();
                column.data.pop();
            }
        }
        self.overflow_now.clear();
        self.last = MSG_PLACE;
    }

    /// Whether the record in hand has a message already.
    pub fn has_message(&self) -> bool {
        self.touched.iter().any(|&place| place as usize == MSG_PLACE)
    }

    fn set(&mut self, name: &str, value: Value<'_>) {
        let hint = self.columns.get(self.last).map_or(0, |c| c.next_hint as usize);
        let place = match self.columns.get(hint) {
            Some(column) if *column.name == *name => Some(hint),
            _ => self.place_of(name),
        };
        let Some(place) = place else {
            return self.set_unplaced(name, value);
        };
        if let Some(last) = self.columns.get_mut(self.last) {
            last.next_hint = place as u32;
        }
        let row = self.times.len() as u32;
        if self.columns.get(place).is_some_and(|c| c.rows.last() == Some(&row)) {
            return self.set(&second_name(name), value);
        }
        self.set_at(place, value);
    }

    fn place_of(&self, name: &str) -> Option<usize> {
        if name.is_empty() || name == field::MSG {
            return Some(MSG_PLACE);
        }
        self.places.get(name).map(|&place| place as usize)
    }

    /// A name that has no column yet: it gets one, if it may have this name and there is room.
    #[cold]
    fn set_unplaced(&mut self, name: &str, value: Value<'_>) {
        if is_reserved(name) {
            return self.set(&format!("lodge.field.{name}"), value);
        }
        if name.len() > limits::FIELD_NAME_BYTES_MAX {
            return self.set(&shorten_name(name), value);
        }
        if self.columns.len() > limits::COLUMNS_MAX {
            let mut text = String::new();
            value.write_text(&mut text);
            overflow::append(&mut self.overflow_now, name, &text);
            self.overflowed += 1;
            return;
        }
        let place = self.columns.len();
        let data = value.new_data();
        self.columns.push(Column { name: name.into(), next_hint: 0, rows: vec![], data });
        self.places.insert(name.into(), place as u32);
        if let Some(last) = self.columns.get_mut(self.last) {
            last.next_hint = place as u32;
        }
        self.set_at(place, value);
    }

    fn set_at(&mut self, place: usize, value: Value<'_>) {
        let row = self.times.len() as u32;
        let Some(column) = self.columns.get_mut(place) else { return };
        if column.rows.last() == Some(&row) {
            // Only the message comes here twice: it may be set by its own call and by a field.
            return self.set(&second_name(field::MSG), value);
        }
        self.bytes += column.data.push(value);
        column.rows.push(row);
        self.touched.push(place as u32);
        self.last = place;
    }

    /// All finished records as a `RecordBatch`; the builder is empty again.
    pub fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        self.abandon_row();
        let mut done = std::mem::take(self);
        let rows = done.times.len();
        let mut columns = done.columns.split_off(1);
        columns.retain(|c| !c.rows.is_empty());
        columns.sort_by(|a, b| a.name.cmp(&b.name));
        let msg = done.columns.pop().map(|c| c.finish(rows).1);

        let times = TimestampNanosecondArray::from(done.times).with_timezone("UTC");
        let texts: ArrayRef = Arc::new(StringArray::from(done.streams));
        let streams = DictionaryArray::try_new(Int32Array::from(done.stream_codes), texts)?;
        let mut fields: Vec<Field> = leading_fields().into();
        let mut arrays: Vec<ArrayRef> = vec![Arc::new(times), Arc::new(streams)];
        arrays.extend(msg);
        for column in columns {
            let (field, array) = column.finish(rows);
            fields.push(field);
            arrays.push(array);
        }
        if !done.overflow_rows.is_empty() {
            let mut data = Data::text();
            for text in &done.overflow_texts {
                data.push(Value::Text(text));
            }
            let name = field::OVERFLOW.into();
            let column = Column { name, next_hint: 0, rows: done.overflow_rows, data };
            let (field, array) = column.finish(rows);
            fields.push(field);
            arrays.push(array);
        }
        RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
    }
}

fn second_name(name: &str) -> String {
    let (base, count) = match name.rsplit_once('#') {
        Some((base, count)) => (base, count.parse::<u32>().unwrap_or(1)),
        None => (name, 1),
    };
    format!("{base}#{}", count.saturating_add(1))
}

/// The head of a name that is too long, with a hash of the whole so that two stay two.
fn shorten_name(name: &str) -> String {
    let hash = blake3::hash(name.as_bytes()).to_hex();
    let mut end = limits::FIELD_NAME_BYTES_MAX - 17;
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    let head = name.get(..end).unwrap_or_default();
    format!("{head}~{}", hash.as_str().get(..16).unwrap_or_default())
}

fn parse_canonical_int(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical = match digits {
        [b'0'] => digits.len() == text.len(),
        [b'1'..=b'9', rest @ ..] => rest.len() < 19 && rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !canonical {
        return None;
    }
    if digits.len() == 19 {
        return std::str::from_utf8(text).ok()?.parse().ok();
    }
    let size = digits.iter().fold(0i64, |sum, b| sum * 10 + i64::from(b - b'0'));
    Some(if digits.len() < text.len() { -size } else { size })
}

impl Value<'_> {
    fn write_text(self, out: &mut String) {
        match self {
            Value::Int(v) => out.push_str(itoa::Buffer::new().format(v)),
            Value::Float(v) => out.push_str(&float_text(v)),
            Value::Bool(v) => out.push_str(if v { "true" } else { "false" }),
            Value::Text(v) => out.push_str(v),
        }
    }

    fn new_data(self) -> Data {
        match self {
            Value::Int(_) => Data::Int(Vec::new()),
            Value::Float(_) => Data::Float(Vec::new()),
            Value::Bool(_) => Data::Bool(Vec::new()),
            Value::Text(_) => Data::text(),
        }
    }
}

fn exact(int: i64) -> bool {
    int.unsigned_abs() <= EXACT_INT_MAX
}

impl Data {
    fn text() -> Data {
        Data::Text { ends: Vec::new(), bytes: Vec::new() }
    }

    fn len(&self) -> usize {
        match self {
            Data::Int(v) => v.len(),
            Data::Float(v) => v.len(),
            Data::Bool(v) => v.len(),
            Data::Text { ends, .. } => ends.len(),
        }
    }

    fn value(&self, index: usize) -> Value<'_> {
        match self {
            Data::Int(v) => Value::Int(v[index]),
            Data::Float(v) => Value::Float(v[index]),
            Data::Bool(v) => Value::Bool(v[index]),
            Data::Text { .. } => Value::Text(""),
        }
    }

    /// Appends a value, changing the type of all if it does not fit. Returns the bytes it took.
    fn push(&mut self, value: Value<'_>) -> usize {
        match (&mut *self, value) {
            (Data::Text { ends, bytes }, Value::Text(text)) => {
                bytes.extend_from_slice(text.as_bytes());
                ends.push(bytes.len() as i32);
                text.len() + 8
            }
            (Data::Int(all), Value::Int(v)) => {
                all.push(v);
                12
            }
            (Data::Float(all), Value::Float(v)) => {
                all.push(v);
                12
            }
            (Data::Bool(all), Value::Bool(v)) => {
                all.push(v);
                5
            }
            (Data::Float(all), Value::Int(v)) if exact(v) => {
                all.push(v as f64);
                12
            }
            (Data::Text { ends, bytes }, other) => {
                let mut text = String::new();
                other.write_text(&mut text);
                bytes.extend_from_slice(text.as_bytes());
                ends.push(bytes.len() as i32);
                text.len() + 8
            }
            (Data::Int(all), Value::Float(_)) if all.iter().all(|&v| exact(v)) => {
                *self = Data::Float(all.iter().map(|&v| v as f64).collect());
                self.push(value)
            }
            _ => {
                self.become_text();
                self.push(value)
            }
        }
    }

    #[cold]
    fn become_text(&mut self) {
        let mut text = Data::text();
        for index in 0..self.len() {
            text.push(self.value(index));
        }
        *self = text;
    }

    fn pop(&mut self) {
        match self {
            Data::Int(v) => drop(v.pop()),
            Data::Float(v) => drop(v.pop()),
            Data::Bool(v) => drop(v.pop()),
            Data::Text { ends, bytes } => {
                ends.pop();
                bytes.truncate(ends.last().map_or(0, |&end| end as usize));
            }
        }
    }
}

/// `values[i]` placed at `rows[i]`, zeros elsewhere.
fn spread<T: Copy + Default>(values: Vec<T>, at: &[u32], rows: usize) -> Vec<T> {
    if at.len() == rows {
        return values;
    }
    let mut out = vec![T::default(); rows];
    for (value, &row) in values.into_iter().zip(at) {
        out[row as usize] = value;
    }
    out
}

impl Column {
    fn finish(self, rows: usize) -> (Field, ArrayRef) {
        let at = &self.rows;
        let nulls = (at.len() < rows).then(|| {
            let mut bits = vec![0u8; rows.div_ceil(8)];
            for &row in at {
                bits[row as usize / 8] |= 1 << (row % 8);
            }
            NullBuffer::new(BooleanBuffer::new(Buffer::from_vec(bits), 0, rows))
        });
        let (data_type, wide, array): (DataType, bool, ArrayRef) = match self.data {
            Data::Int(v) => {
                let wide = v.iter().any(|&v| !exact(v));
                let values = ScalarBuffer::from(spread(v, at, rows));
                (DataType::Int64, wide, Arc::new(Int64Array::new(values, nulls)))
            }
            Data::Float(v) => {
                let values = ScalarBuffer::from(spread(v, at, rows));
                (DataType::Float64, false, Arc::new(Float64Array::new(values, nulls)))
            }
            Data::Bool(v) => {
                let values = BooleanBuffer::from(spread(v, at, rows));
                (DataType::Boolean, false, Arc::new(BooleanArray::new(values, nulls)))
            }
            Data::Text { ends, bytes } => {
                let mut offsets = Vec::with_capacity(rows + 1);
                let mut ends = at.iter().zip(&ends).peekable();
                let mut end = 0;
                offsets.push(0);
                for row in 0..rows as u32 {
                    if let Some((_, &to)) = ends.next_if(|(at, _)| **at == row) {
                        end = to;
                    }
                    offsets.push(end);
                }
                let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
                let array = StringArray::new(offsets, Buffer::from_vec(bytes), nulls);
                (DataType::Utf8, false, Arc::new(array))
            }
        };
        (make_field(&self.name, data_type, wide), array)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{self, value_text};

    fn text(batch: &RecordBatch, name: &str, row: usize) -> Option<String> {
        value_text(batch.column_by_name(name)?, row).map(|v| v.into_owned())
    }

    #[test]
    fn disagreeing_types_keep_their_text() {
        let mut b = BatchBuilder::new();
        let s = b.stream("{}");
        let values = ["1", "2.5", "9007199254740993", "-0", "1.50", "1e3", "12345678901234567890"];
        for (row, value) in values.iter().enumerate() {
            b.message("m");
            b.field_number_text("n", value);
            b.finish_row(row as i64, s);
        }
        b.field_bool("n", true);
        b.finish_row(9, s);
        let batch = b.finish().expect("a batch");
        schema::check(&batch).expect("the shape");
        for (row, value) in values.iter().enumerate() {
            assert_eq!(text(&batch, "n", row).as_deref(), Some(*value));
        }
        assert_eq!(text(&batch, "n", 7).as_deref(), Some("true"));
        assert_eq!(text(&batch, "_msg", 7), None);
    }

    #[test]
    fn ints_and_exact_floats_become_floats() {
        let mut b = BatchBuilder::new();
        let s = b.stream("{}");
        for value in ["1", "2.5", "3"] {
            b.field_number_text("n", value);
            b.finish_row(0, s);
        }
        let batch = b.finish().expect("a batch");
        assert_eq!(
            batch.column_by_name("n").map(|c| c.data_type().clone()),
            Some(DataType::Float64)
        );
        assert_eq!(text(&batch, "n", 0).as_deref(), Some("1"));
    }

    #[test]
    fn an_abandoned_record_leaves_nothing() {
        let mut b = BatchBuilder::new();
        let s = b.stream("{a=\"b\"}");
        b.field_str("a", "first");
        b.finish_row(1, s);
        b.field_str("a", "gone");
        b.field_i64("never", 1);
        b.abandon_row();
        b.field_str("a", "second");
        b.finish_row(2, s);
        let batch = b.finish().expect("a batch");
        assert_eq!(batch.num_rows(), 2);
        assert_eq!(text(&batch, "a", 1).as_deref(), Some("second"));
        assert!(batch.column_by_name("never").is_none());
        assert_eq!(b.rows(), 0);
    }

    #[test]
    fn doubled_reserved_long_and_many_names_are_all_kept() {
        let mut b = BatchBuilder::new();
        let s = b.stream("{}");
        b.message("m");
        for value in ["1", "2", "3"] {
            b.field_str("a", value);
        }
        b.field_str("_msg", "m2");
        b.field_str("_stream", "x");
        b.field_str(&"é".repeat(300), "long");
        for i in 0..3000 {
            b.field_i64(&format!("f{i:04}"), i);
        }
        b.finish_row(1, s);
        let batch = b.finish().expect("a batch");
        schema::check(&batch).expect("the shape");
        assert_eq!(text(&batch, "a#2", 0).as_deref(), Some("2"));
        assert_eq!(text(&batch, "a#3", 0).as_deref(), Some("3"));
        assert_eq!(text(&batch, "_msg#2", 0).as_deref(), Some("m2"));
        assert_eq!(text(&batch, "lodge.field._stream", 0).as_deref(), Some("x"));
        let over = text(&batch, field::OVERFLOW, 0).expect("overflow");
        assert_eq!(overflow::get(&over, "f2999").as_deref(), Some("2999"));
        let mut fields = batch.num_columns() - 4;
        overflow::for_each(&over, |_, _| fields += 1);
        assert_eq!(fields, 3006);
    }
}
