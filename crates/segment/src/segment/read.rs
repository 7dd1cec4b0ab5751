//! Rows out of a segment, as Arrow.
//!
//! Invariant: only picked rows are rebuilt; their values have the text forms that were written.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, DictionaryArray, Int32Array, PrimitiveArray,
    RecordBatch, RecordBatchOptions, StringArray, UInt32Array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Float64Type, Int32Type, Int64Type, Schema};
use lodge_record::field;

use super::reader::{Segment, Stored, Values, is_all};
use crate::SegmentError;
use crate::bits::Mask;
use crate::chunk::encode_error;
use crate::pattern;
use crate::sections::gather;
use crate::text::Texts;

/// The values of a field in some rows, each distinct text once.
#[derive(Debug, Clone)]
pub struct Groups {
    /// The distinct texts; not all need occur.
    pub values: StringArray,
    /// By row: 0 for no value, else the text's place + 1.
    pub codes: Vec<u32>,
}

impl Segment {
    /// The columns of a chunk that are named in `projection` and that the segment has, in the order
    /// of its schema: all rows, or those of `rows` (bit 0 is the chunk's first).
    pub fn read(
        &self,
        chunk: usize,
        projection: &[&str],
        rows: Option<&Mask>,
    ) -> Result<RecordBatch, SegmentError> {
        let range = self.chunk_rows(chunk)?;
        match rows.and_then(|rows| narrowed(&range, rows)) {
            Some((range, rows)) => self.read_range(range, Some(&rows), projection),
            None => self.read_range(range, rows, projection),
        }
    }

    /// `_time` of the rows of a chunk, in nanoseconds.
    pub fn times(&self, chunk: usize, rows: Option<&Mask>) -> Result<Vec<i64>, SegmentError> {
        let range = self.chunk_rows(chunk)?;
        let times = self.times_column()?;
        times.picked(range, rows)
    }

    /// The distinct texts of a column in the rows of a chunk; `None` if the segment does not have it.
    pub fn groups(
        &self,
        chunk: usize,
        name: &str,
        rows: Option<&Mask>,
    ) -> Result<Option<Groups>, SegmentError> {
        let range = self.chunk_rows(chunk)?;
        if name == field::STREAM {
            let streams = self.streams()?;
            let codes = self.by_run(&range, rows, |stream| stream as u32 + 1)?;
            return Ok(Some(Groups { values: streams.texts.clone(), codes }));
        }
        let Some(place) = self.place(name) else { return Ok(None) };
        self.require(&[place])?;
        let Stored { presence, values } = self.stored(place)?;
        if let Values::Runs(runs) = values {
            let code = |stream: usize| runs.codes.get(stream).copied().unwrap_or(0);
            let codes = self.by_run(&range, rows, code)?;
            return Ok(Some(Groups { values: runs.texts.clone(), codes }));
        }
        let Values::Plain(plain) = values else { return Ok(None) };
        let dense = presence.dense_range(range.clone());
        let picked = rows.map(|rows| presence.gather(range.clone(), rows));
        let Some((texts, mut codes)) = plain.groups(dense, picked.as_ref())? else {
            return Ok(None);
        };
        codes.iter_mut().for_each(|code| *code += 1);
        if !is_all(presence) {
            let there = presence.mask(range.clone());
            let mut present = codes.into_iter();
            let mut code =
                |row: usize| if there.get(row) { present.next().unwrap_or(0) } else { 0 };
            codes = match rows {
                None => (0..range.len()).map(&mut code).collect(),
                Some(rows) => rows.iter().map(&mut code).collect(),
            };
        }
        Ok(Some(Groups { values: texts, codes }))
    }

    /// The patterns of a text column in the rows of a chunk: see [`crate::pattern`]. Templates give
    /// them without a text being rebuilt. `None` if the column is not stored as templates.
    pub fn patterns(
        &self,
        chunk: usize,
        name: &str,
        rows: Option<&Mask>,
    ) -> Result<Option<Groups>, SegmentError> {
        let range = self.chunk_rows(chunk)?;
        let Some(place) = self.place(name) else { return Ok(None) };
        self.require(&[place])?;
        let Stored { presence, values: Values::Text(text) } = self.stored(place)? else {
            return Ok(None);
        };
        let dense = presence.dense_range(range.clone());
        let numbers = text.template_numbers(self.sections(), dense.clone())?;
        // The texts that are stored whole are rebuilt: they are few.
        let whole = Mask::collect(numbers.len(), |at| numbers.get(at) == Some(&0));
        let mut rebuilt = Texts::default();
        text.append(self.sections(), dense, Some(&whole), &mut rebuilt)?;
        let rebuilt = rebuilt.into_array()?;
        let mut values: Vec<String> = text.patterns();
        let mut known: HashMap<String, u32> = HashMap::new();
        let mut next = 0;
        let mut codes = Vec::with_capacity(numbers.len());
        for number in numbers {
            if number > 0 {
                codes.push(number);
                continue;
            }
            let pattern = pattern::of(rebuilt.value(next));
            next += 1;
            let code = *known.entry(pattern).or_insert_with_key(|pattern| {
                values.push(pattern.clone());
                values.len() as u32
            });
            codes.push(code);
        }
        let there = presence.mask(range.clone());
        let mut dense = codes.into_iter();
        let mut out = Vec::with_capacity(rows.map_or(range.len(), Mask::count));
        for row in 0..range.len() {
            let code = if there.get(row) { dense.next().unwrap_or(0) } else { 0 };
            if rows.is_none_or(|rows| rows.get(row)) {
                out.push(code);
            }
        }
        Ok(Some(Groups { values: StringArray::from(values), codes: out }))
    }

    /// The numbers of a column in the rows of a chunk, `None` for rows without one; nothing if not all
    /// values of the column are stored as numbers.
    pub fn numbers(
        &self,
        chunk: usize,
        name: &str,
        rows: Option<&Mask>,
    ) -> Result<Option<Vec<Option<f64>>>, SegmentError> {
        let range = self.chunk_rows(chunk)?;
        let Some(place) = self.place(name) else { return Ok(None) };
        self.require(&[place])?;
        let Stored { presence, values: Values::Plain(values) } = self.stored(place)? else {
            return Ok(None);
        };
        let dense = presence.dense_range(range.clone());
        let picked = rows.map(|rows| presence.gather(range.clone(), rows));
        let Some(numbers) = values.numbers(dense, picked.as_ref())? else { return Ok(None) };
        let there = presence.mask(range.clone());
        let mut dense = numbers.into_iter();
        let mut number = |row: usize| if there.get(row) { dense.next() } else { None };
        Ok(Some(match rows {
            Some(rows) => rows.iter().map(number).collect(),
            None => (0..range.len()).map(&mut number).collect(),
        }))
    }

    /// A number for each picked row, by its stream.
    fn by_run(
        &self,
        range: &Range<usize>,
        rows: Option<&Mask>,
        code: impl Fn(usize) -> u32,
    ) -> Result<Vec<u32>, SegmentError> {
        let mut codes = Vec::with_capacity(rows.map_or(range.len(), Mask::count));
        for (stream, within) in self.streams()?.within(range.clone()) {
            let count = match rows {
                None => within.len(),
                Some(rows) => {
                    rows.count_range(within.start - range.start..within.end - range.start)
                }
            };
            codes.resize(codes.len() + count, code(stream));
        }
        Ok(codes)
    }

    pub(crate) fn read_range(
        &self,
        range: Range<usize>,
        rows: Option<&Mask>,
        projection: &[&str],
    ) -> Result<RecordBatch, SegmentError> {
        let rows = rows.filter(|rows| !rows.is_full());
        let mut places: Vec<usize> =
            projection.iter().filter_map(|name| self.place(name)).collect();
        places.sort_unstable();
        places.dedup();
        self.require(&places)?;
        let mut missing = Vec::new();
        let mut fields = Vec::with_capacity(places.len());
        let mut columns = Vec::with_capacity(places.len());
        for place in places {
            let Some(found) = self.schema().fields().get(place) else { continue };
            match self.array(found, place, &range, rows) {
                Ok(array) => {
                    fields.push(found.as_ref().clone().with_data_type(array.data_type().clone()));
                    columns.push(array);
                }
                Err(error) => gather(Err(error), &mut missing)?,
            }
        }
        if !missing.is_empty() {
            missing.sort_unstable();
            missing.dedup();
            return Err(SegmentError::Missing(missing));
        }
        let count = rows.map_or(range.len(), Mask::count);
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
            .map_err(encode_error)
    }

    fn array(
        &self,
        found: &Field,
        place: usize,
        range: &Range<usize>,
        rows: Option<&Mask>,
    ) -> Result<ArrayRef, SegmentError> {
        if found.name() == field::STREAM {
            let codes = self.by_run(range, rows, |stream| stream as u32)?;
            let keys: Int32Array = codes.into_iter().map(|code| code as i32).collect();
            let texts = Arc::new(self.streams()?.texts.clone());
            return Ok(Arc::new(DictionaryArray::try_new(keys, texts).map_err(encode_error)?));
        }
        let Stored { presence, values } = self.stored(place)?;
        if let Values::Runs(runs) = values {
            let code = |stream: usize| runs.codes.get(stream).copied().unwrap_or(0);
            let codes = self.by_run(range, rows, code)?;
            let key = |code: u32| code.checked_sub(1).map(|code| code as i32);
            let keys: Int32Array = codes.into_iter().map(key).collect();
            let texts = Arc::new(runs.texts.clone());
            return Ok(Arc::new(DictionaryArray::try_new(keys, texts).map_err(encode_error)?));
        }
        let dense = presence.dense_range(range.clone());
        let picked = match rows {
            Some(rows) if !is_all(presence) => Some(presence.gather(range.clone(), rows)),
            _ => None,
        };
        let inner = picked.as_ref().or(rows).filter(|picked| !picked.is_full());
        let array = match values {
            Values::Plain(values) => {
                // `_overflow` is never a dictionary: see `lodge_record::schema`.
                values.array(dense, inner, found.name() != field::OVERFLOW)?
            }
            Values::Text(values) => {
                let mut texts = Texts::default();
                values.append(self.sections(), dense, inner, &mut texts)?;
                Arc::new(texts.into_array()?) as ArrayRef
            }
            Values::Runs(_) => return Err(SegmentError::Encode("a column of runs".into())),
        };
        if array.len() == rows.map_or(range.len(), Mask::count) {
            return Ok(array);
        }
        // The values of the rows that have one, in their places.
        let there = presence.mask(range.clone());
        match array.data_type() {
            DataType::Int64 => return Ok(spread::<Int64Type>(&array, &there, rows)),
            DataType::Float64 => return Ok(spread::<Float64Type>(&array, &there, rows)),
            _ => {}
        }
        let mut next = 0u32;
        let place = |row: usize| {
            there.get(row).then(|| {
                next += 1;
                next - 1
            })
        };
        let places: UInt32Array = match rows {
            None => (0..range.len()).map(place).collect(),
            Some(rows) => rows.iter().map(place).collect(),
        };
        take_values(&array, &places)
    }
}

/// The part of a range from the first to the last of some rows in it, and these rows of it, if that
/// is much less than the whole: each column costs a little for every row of its range.
fn narrowed(range: &Range<usize>, rows: &Mask) -> Option<(Range<usize>, Mask)> {
    let (first, last) = (rows.first()?, rows.last()?);
    let here = range.start + first..(range.start + last + 1).min(range.end);
    (here.len() < range.len() / 2).then(|| (here, rows.part(first..last + 1)))
}

/// The values of the rows that are `there`, in their places among all rows or those in `rows`.
fn spread<T: ArrowPrimitiveType>(array: &ArrayRef, there: &Mask, rows: Option<&Mask>) -> ArrayRef {
    let mut values = array.as_primitive::<T>().values().iter().copied();
    let (out, valid): (Vec<T::Native>, Mask) = match rows {
        None => {
            let mut out = vec![T::Native::default(); there.len()];
            for row in there.iter() {
                if let (Some(to), Some(value)) = (out.get_mut(row), values.next()) {
                    *to = value;
                }
            }
            (out, there.clone())
        }
        Some(rows) => {
            let mut valid = Mask::none(rows.count());
            let value = |(at, row): (usize, usize)| match there.get(row) {
                true => {
                    valid.set(at);
                    values.next().unwrap_or_default()
                }
                false => T::Native::default(),
            };
            (rows.iter().enumerate().map(value).collect(), valid)
        }
    };
    Arc::new(PrimitiveArray::<T>::new(out.into(), Some(NullBuffer::new(valid.to_arrow()))))
}

/// `array` at `places`; a dictionary keeps its values.
fn take_values(array: &ArrayRef, places: &UInt32Array) -> Result<ArrayRef, SegmentError> {
    if let Some(coded) = array.as_dictionary_opt::<Int32Type>() {
        let keys = take(coded.keys(), places, None).map_err(encode_error)?;
        let keys = keys.as_primitive::<Int32Type>().clone();
        let values = Arc::clone(coded.values());
        return Ok(Arc::new(DictionaryArray::try_new(keys, values).map_err(encode_error)?));
    }
    if array.is_empty() && array.data_type() != &DataType::Null {
        return Ok(arrow::array::new_null_array(array.data_type(), places.len()));
    }
    take(array.as_ref(), places, None).map_err(encode_error)
}
