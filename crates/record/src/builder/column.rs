//! A column of a batch that is being built.
//!
//! Invariants: rows only grow; an empty column takes the type of its first value; when a value does
//! not fit, the type of all changes so that every value keeps its text.

use std::iter::repeat_n;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, DictionaryArray, Float64Array, Int32Array, Int64Array, StringArray,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field};
use arrow::error::ArrowError;

use super::interner::Interner;
use super::number;
use crate::schema::{EXACT_INT_MAX, dictionary_type, float_text, make_field};

/// After so many values, and again after each further such number, it is looked whether they
/// repeat.
const PROBE_VALUES: usize = 1_024;
/// A dictionary of fewer values than this would only be in the way.
const CODED_VALUES_MIN: usize = 64;
/// Most bytes of text in a dictionary.
const CODED_BYTES_MAX: usize = 16 << 20;

/// A row that no batch has, and the one value that a row has at first.
const NO_REPEATS: (u32, u32) = (u32::MAX, 1);

/// A value of a field.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// An integer.
    Int(i64),
    /// A float.
    Float(f64),
    /// A boolean.
    Bool(bool),
    /// A text.
    Text(&'a str),
}

impl<'a> Value<'a> {
    /// A number given as text (as JSON has them): an integer or a float if that has the very same
    /// text form, else the text.
    #[inline]
    pub fn of_number(text: &'a str) -> Self {
        match number::int(text.as_bytes()) {
            Some(int) => Value::Int(int),
            None => number::float(text).map_or(Value::Text(text), Value::Float),
        }
    }

    pub(super) fn write_text(self, out: &mut String) {
        match self {
            Value::Int(v) => out.push_str(itoa::Buffer::new().format(v)),
            Value::Float(v) => out.push_str(&float_text(v)),
            Value::Bool(v) => out.push_str(if v { "true" } else { "false" }),
            Value::Text(v) => out.push_str(v),
        }
    }
}

/// The values of a field, with their rows.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: Box<str>,
    pub(super) next_hint: u32,
    /// The row that had several values of this name last, and how many.
    repeats: (u32, u32),
    /// The column of a row's second value of this name, once one has come.
    second: Option<u32>,
    /// What further records have here that is not written yet: see [`super::held`].
    pub(super) held: Option<Repeated>,
    rows: Rows,
    data: Data,
    /// Its texts are not worth a dictionary.
    plain: bool,
}

/// A value that can be written again without looking at its text.
#[derive(Clone, Copy, Debug)]
pub(super) enum Repeated {
    Int(i64),
    Float(f64),
    Bool(bool),
    Code(i32),
}

/// The rows that have a value.
#[derive(Debug)]
enum Rows {
    /// All so far: so many.
    All(u32),
    Listed(Vec<u32>),
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
    /// Texts that repeat. `newest_at` is the value that added the dictionary's newest text.
    Coded {
        codes: Vec<i32>,
        texts: Interner,
        newest_at: usize,
    },
}

impl Column {
    /// An empty column.
    pub(super) fn new(name: &str) -> Self {
        let data = Data::text();
        Column {
            name: name.into(),
            next_hint: 0,
            repeats: NO_REPEATS,
            second: None,
            held: None,
            rows: Rows::All(0),
            data,
            plain: false,
        }
    }

    /// An empty column that never becomes a dictionary.
    pub(super) fn plain(name: &str) -> Self {
        Column { plain: true, ..Column::new(name) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.data.len() == 0
    }

    #[inline]
    pub(super) fn is_set(&self, row: u32) -> bool {
        match &self.rows {
            Rows::All(rows) => *rows > row,
            Rows::Listed(rows) => rows.last().is_some_and(|last| *last >= row),
        }
    }

    /// Bytes that a text of this length takes in a column, roughly.
    #[inline]
    pub(super) fn text_bytes(len: usize) -> usize {
        len + 8
    }

    /// Sets the text of this code as the value of a row behind all others; false if there is one,
    /// or if texts have no codes here.
    #[inline]
    pub(super) fn repeat(&mut self, row: u32, code: i32) -> bool {
        if self.is_set(row) {
            return false;
        }
        let Data::Coded { codes, .. } = &mut self.data else { return false };
        codes.push(code);
        self.rows.add(row);
        true
    }

    /// The value of a row, the last one, as one that can be written again; none if it is a text
    /// without a code, or if the row has several of this name.
    pub(super) fn repeated(&self, row: u32) -> Option<Repeated> {
        if self.repeats.0 == row {
            return None;
        }
        match &self.data {
            Data::Int(all) => all.last().copied().map(Repeated::Int),
            Data::Float(all) => all.last().copied().map(Repeated::Float),
            Data::Bool(all) => all.last().copied().map(Repeated::Bool),
            Data::Coded { codes, .. } => codes.last().copied().map(Repeated::Code),
            Data::Text { .. } => None,
        }
    }

    /// Sets a value that is one of this column's in rows behind all others.
    pub(super) fn repeat_over(&mut self, rows: Range<u32>, value: Repeated) {
        let count = rows.len();
        match (&mut self.data, value) {
            (Data::Int(all), Repeated::Int(value)) => all.extend(repeat_n(value, count)),
            (Data::Float(all), Repeated::Float(value)) => all.extend(repeat_n(value, count)),
            (Data::Bool(all), Repeated::Bool(value)) => all.extend(repeat_n(value, count)),
            (Data::Coded { codes, .. }, Repeated::Code(code)) => {
                codes.extend(repeat_n(code, count));
            }
            (data, value) => unreachable!("{value:?} of a column that became {data:?}"),
        }
        self.rows.add_all(rows);
    }

    /// Makes room for what `rows` more rows have if they are like the `before` ones so far.
    pub(super) fn expect(&mut self, rows: usize, before: usize) {
        let more = |len: usize| {
            let more = len.saturating_mul(rows) / before.max(1);
            more + more / 32
        };
        if let Rows::Listed(listed) = &mut self.rows {
            listed.reserve(more(listed.len()));
        }
        match &mut self.data {
            Data::Int(all) => all.reserve(more(all.len())),
            Data::Float(all) => all.reserve(more(all.len())),
            Data::Bool(all) => all.reserve(more(all.len())),
            Data::Text { ends, bytes } => {
                ends.reserve(more(ends.len()));
                bytes.reserve(more(bytes.len()));
            }
            Data::Coded { codes, .. } => codes.reserve(more(codes.len())),
        }
    }

    /// The column of a row's second value of this name, which comes now; none if that is not known
    /// or if it came before.
    #[inline]
    pub(super) fn take_second(&mut self, row: u32) -> Option<u32> {
        let second = self.second.filter(|_| self.repeats.0 != row)?;
        self.repeats = (row, 2);
        Some(second)
    }

    /// Where a row's second value of this name goes from now on.
    pub(super) fn remember_second(&mut self, column: u32) {
        self.second = Some(column);
    }

    /// Forgets that, as columns are made anew.
    pub(super) fn forget_second(&mut self) {
        self.second = None;
    }

    /// The name of this row's next value, as it has one, and which value that is: counted, so that
    /// many values of one name need no search.
    #[cold]
    pub(super) fn next_repeat(&mut self, row: u32) -> (String, u32) {
        let (base, first) = match self.name.rsplit_once('#') {
            Some((base, count)) => (base, count.parse::<u32>().unwrap_or(1)),
            None => (&*self.name, 1),
        };
        let before = if self.repeats.0 == row { self.repeats.1 } else { first };
        let count = before.saturating_add(1);
        self.repeats = (row, count);
        (format!("{base}#{count}"), count)
    }

    /// Sets the value of a row behind all others. Returns the bytes that it takes as text.
    #[inline]
    pub(super) fn set(&mut self, row: u32, value: Value<'_>) -> usize {
        self.rows.add(row);
        match (&mut self.data, value) {
            (Data::Coded { codes, texts, newest_at }, Value::Text(text)) => {
                let (code, is_new) = texts.code(text);
                if is_new {
                    *newest_at = codes.len();
                }
                codes.push(code);
                self.probe_where_due();
                Self::text_bytes(text.len())
            }
            (Data::Text { ends, bytes }, Value::Text(text)) if !ends.is_empty() => {
                bytes.extend_from_slice(text.as_bytes());
                ends.push(bytes.len() as i32);
                Self::text_bytes(text.len())
            }
            _ => {
                if self.is_empty() {
                    self.data.become_type_of(value, self.plain);
                }
                self.data.push(value)
            }
        }
    }

    /// Takes the value of this row off again, if it has one.
    pub(super) fn unset(&mut self, row: u32) {
        self.repeats = NO_REPEATS;
        if !self.is_set(row) {
            return;
        }
        match &mut self.rows {
            Rows::All(rows) => *rows -= 1,
            Rows::Listed(rows) => drop(rows.pop()),
        }
        self.data.pop();
    }

    /// The code of the value set last, if the column is a dictionary.
    #[inline]
    pub(super) fn code(&self) -> Option<u32> {
        match &self.data {
            Data::Coded { codes, .. } => codes.last().map(|code| *code as u32),
            _ => None,
        }
    }

    /// Looks from time to time whether the texts still repeat.
    #[inline]
    pub(super) fn probe_where_due(&mut self) {
        if let Data::Coded { codes, .. } = &self.data
            && codes.len().is_multiple_of(PROBE_VALUES)
        {
            self.probe();
        }
    }

    #[cold]
    fn probe(&mut self) {
        if let Data::Coded { codes, texts, .. } = &self.data
            && (texts.len() > codes.len() / 2 || texts.bytes() > CODED_BYTES_MAX)
        {
            self.plain = true;
            self.data.become_text();
        }
    }

    /// The field and its values over `rows` rows; the column is empty again.
    pub(super) fn finish(&mut self, rows: usize) -> Result<(Field, ArrayRef), ArrowError> {
        self.repeats = NO_REPEATS;
        if let Data::Coded { codes, texts, .. } = &self.data
            && (codes.len() < CODED_VALUES_MIN || texts.len() > codes.len() / 3)
        {
            self.data.become_text();
        }
        let at = std::mem::replace(&mut self.rows, Rows::All(0));
        let at = at.listed(rows);
        let nulls = at.as_ref().map(|at| {
            let mut bits = vec![0u8; rows.div_ceil(8)];
            for &row in at {
                bits[row as usize / 8] |= 1 << (row % 8);
            }
            NullBuffer::new(BooleanBuffer::new(Buffer::from_vec(bits), 0, rows))
        });
        let (data_type, wide, array): (DataType, bool, ArrayRef) = match &mut self.data {
            Data::Int(all) => {
                let values = renewed(all);
                let wide = values.iter().any(|&v| !exact(v));
                let values = ScalarBuffer::from(spread(values, at.as_deref(), rows));
                (DataType::Int64, wide, Arc::new(Int64Array::new(values, nulls)))
            }
            Data::Float(all) => {
                let values = ScalarBuffer::from(spread(renewed(all), at.as_deref(), rows));
                (DataType::Float64, false, Arc::new(Float64Array::new(values, nulls)))
            }
            Data::Bool(all) => {
                let values = BooleanBuffer::from(spread(renewed(all), at.as_deref(), rows));
                (DataType::Boolean, false, Arc::new(BooleanArray::new(values, nulls)))
            }
            Data::Text { ends, bytes } => {
                let offsets = offsets(&renewed(ends), at.as_deref(), rows);
                let bytes = Buffer::from_vec(renewed(bytes));
                let array = StringArray::try_new(offsets, bytes, nulls)?;
                (DataType::Utf8, false, Arc::new(array))
            }
            Data::Coded { codes, texts, .. } => {
                let codes = ScalarBuffer::from(spread(renewed(codes), at.as_deref(), rows));
                let codes = Int32Array::new(codes, nulls);
                let array = DictionaryArray::try_new(codes, Arc::new(texts.finish()?))?;
                (dictionary_type(), false, Arc::new(array))
            }
        };
        Ok((make_field(&self.name, data_type, wide), array))
    }
}

impl Rows {
    /// A row behind all others has a value.
    #[inline]
    fn add(&mut self, row: u32) {
        match self {
            Rows::All(rows) if *rows == row => *rows += 1,
            Rows::All(rows) => {
                let mut listed: Vec<u32> = (0..*rows).collect();
                listed.push(row);
                *self = Rows::Listed(listed);
            }
            Rows::Listed(rows) => rows.push(row),
        }
    }

    /// Rows behind all others have a value.
    fn add_all(&mut self, more: Range<u32>) {
        match self {
            Rows::All(rows) if *rows == more.start => *rows += more.len() as u32,
            Rows::Listed(rows) => rows.extend(more),
            Rows::All(_) => more.for_each(|row| self.add(row)),
        }
    }

    /// The rows with a value; `None` if that is all `rows`.
    fn listed(self, rows: usize) -> Option<Vec<u32>> {
        match self {
            Rows::All(all) if all as usize == rows => None,
            Rows::All(all) => Some((0..all).collect()),
            Rows::Listed(listed) if listed.len() == rows => None,
            Rows::Listed(listed) => Some(listed),
        }
    }
}

/// What `values` holds, which is left empty with room for as much again: batches are much alike,
/// and growing means copying.
fn renewed<T>(values: &mut Vec<T>) -> Vec<T> {
    let room = values.len() + values.len() / 8;
    std::mem::replace(values, Vec::with_capacity(room))
}

/// `values[i]` placed at row `at[i]`, zeros elsewhere.
fn spread<T: Copy + Default>(values: Vec<T>, at: Option<&[u32]>, rows: usize) -> Vec<T> {
    let Some(at) = at else { return values };
    let mut out = vec![T::default(); rows];
    for (value, &row) in values.into_iter().zip(at) {
        if let Some(slot) = out.get_mut(row as usize) {
            *slot = value;
        }
    }
    out
}

fn offsets(ends: &[i32], at: Option<&[u32]>, rows: usize) -> OffsetBuffer<i32> {
    let mut offsets = Vec::with_capacity(rows + 1);
    offsets.push(0);
    match at {
        None => offsets.extend_from_slice(ends),
        Some(at) => {
            let mut ends = at.iter().zip(ends).peekable();
            let mut end = 0;
            for row in 0..rows as u32 {
                if let Some((_, &to)) = ends.next_if(|(at, _)| **at == row) {
                    end = to;
                }
                offsets.push(end);
            }
        }
    }
    OffsetBuffer::new(ScalarBuffer::from(offsets))
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
            Data::Coded { codes, .. } => codes.len(),
        }
    }

    /// Makes an empty column one for such values; keeps its room if it is one already.
    fn become_type_of(&mut self, value: Value<'_>, plain: bool) {
        match (&*self, value) {
            (Data::Int(_), Value::Int(_))
            | (Data::Float(_), Value::Float(_))
            | (Data::Bool(_), Value::Bool(_))
            | (Data::Coded { .. }, Value::Text(_)) => {}
            (Data::Text { .. }, Value::Text(_)) if plain => {}
            (_, Value::Int(_)) => *self = Data::Int(Vec::new()),
            (_, Value::Float(_)) => *self = Data::Float(Vec::new()),
            (_, Value::Bool(_)) => *self = Data::Bool(Vec::new()),
            (_, Value::Text(_)) if plain => *self = Data::text(),
            (_, Value::Text(_)) => {
                *self = Data::Coded { codes: Vec::new(), texts: Interner::default(), newest_at: 0 };
            }
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
            (Data::Coded { codes, texts, newest_at }, Value::Text(text)) => {
                let (code, is_new) = texts.code(text);
                if is_new {
                    *newest_at = codes.len();
                }
                codes.push(code);
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
            (Data::Text { .. } | Data::Coded { .. }, other) => {
                let mut text = String::new();
                other.write_text(&mut text);
                self.push(Value::Text(&text))
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
        fn all<'v>(values: impl Iterator<Item = Value<'v>>) -> Data {
            let mut text = Data::text();
            for value in values {
                text.push(value);
            }
            text
        }
        let text = match &*self {
            Data::Int(ints) => all(ints.iter().map(|&v| Value::Int(v))),
            Data::Float(floats) => all(floats.iter().map(|&v| Value::Float(v))),
            Data::Bool(bools) => all(bools.iter().map(|&v| Value::Bool(v))),
            Data::Coded { codes, texts, .. } => plain_text(codes, texts),
            Data::Text { .. } => return,
        };
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
            Data::Coded { codes, texts, newest_at } => {
                codes.pop();
                // What no record has is not in the dictionary either.
                if *newest_at == codes.len() && texts.len() > 0 {
                    texts.forget_newest();
                    *newest_at = usize::MAX;
                }
            }
        }
    }
}

fn plain_text(codes: &[i32], texts: &Interner) -> Data {
    let all_ends = texts.ends();
    let (mut ends, mut bytes) = (Vec::with_capacity(codes.len()), Vec::new());
    for &code in codes {
        let code = code as usize;
        let from = code.checked_sub(1).and_then(|before| all_ends.get(before)).copied();
        let range = from.unwrap_or(0) as usize..all_ends.get(code).copied().unwrap_or(0) as usize;
        bytes.extend_from_slice(texts.text().get(range).unwrap_or_default());
        ends.push(bytes.len() as i32);
    }
    Data::Text { ends, bytes }
}
