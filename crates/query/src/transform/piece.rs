//! What is gathered of a batch that leaves.
//!
//! A column is copied as it is up to the first record that changes it; only from there on it is
//! written anew.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, RecordBatchOptions, StringBuilder, TimestampNanosecondBuilder, UInt32Array,
    new_null_array,
};
use arrow::compute::take;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use lodge_record::{field, overflow, schema, time};

use super::writes::Writes;
use super::{BYTES_MAX, ROWS_MAX, Record, Step};
use crate::error::QueryError;

pub(super) struct Piece<'w> {
    step: &'w Step,
    batch: &'w RecordBatch,
    columns: &'w HashMap<String, usize>,
    /// The records that it is made of.
    rows: Vec<u32>,
    /// The columns that are written anew, by their places in the output.
    written: Vec<Option<Written>>,
    bytes: usize,
}

enum Written {
    Text(StringBuilder, usize),
    Time(TimestampNanosecondBuilder, usize),
}

impl<'w> Piece<'w> {
    pub(super) fn new(
        step: &'w Step,
        batch: &'w RecordBatch,
        columns: &'w HashMap<String, usize>,
    ) -> Self {
        let written = step.output.fields().iter().map(|_| None).collect();
        Self { step, batch, columns, rows: Vec::new(), written, bytes: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.rows.len() >= ROWS_MAX || self.bytes >= BYTES_MAX
    }

    /// Adds a record with what is written into it.
    pub(super) fn add(&mut self, record: Record<'w>, writes: &Writes) {
        let step = self.step;
        let at = self.rows.len();
        self.rows.push(u32::try_from(record.row).unwrap_or(u32::MAX));
        let keep = step.pipe.keep;
        let is_taken = |name: &str, new: &str| {
            let (lacks_result, is_kept) = (new.is_empty(), || !record.value(name).is_empty());
            !(keep.unless_found && lacks_result || keep.original && is_kept())
        };
        let mut spills = false;
        for (name, new) in writes.iter() {
            match step.slots.get(name) {
                Some(place) => {
                    if is_taken(name, new) {
                        self.write(*place, at, new);
                    }
                }
                None => spills |= name != field::OVERFLOW,
            }
        }
        let Some(place) = step.spilled.filter(|_| spills) else { return };
        let mut text = String::new();
        if let Some(old) = record.spilled() {
            overflow::for_each(old, |name, value| {
                if !writes.get(name).is_some_and(|new| is_taken(name, new)) {
                    overflow::append(&mut text, name, value);
                }
            });
        }
        for (name, new) in writes.iter() {
            let goes_there = !step.slots.contains_key(name) && name != field::OVERFLOW;
            if goes_there && !new.is_empty() && is_taken(name, new) {
                overflow::append(&mut text, name, new);
            }
        }
        overflow::close(&mut text);
        self.write(place, at, &text);
    }

    /// Writes a value into the column at `place` of the record at `at`, the last one.
    fn write(&mut self, place: usize, at: usize, new: &str) {
        let kind = self.step.output.field(place).data_type();
        let is_time = matches!(kind, DataType::Timestamp(..));
        let new_time = is_time.then(|| time::parse(new)).flatten();
        if is_time && new_time.is_none() {
            return;
        }
        self.catch_up(place, at);
        match self.written.get_mut(place) {
            Some(Some(Written::Text(texts, length))) => {
                self.bytes += new.len();
                texts.append_option(Some(new).filter(|new| !new.is_empty()));
                *length += 1;
            }
            Some(Some(Written::Time(times, length))) => {
                times.append_option(new_time);
                *length += 1;
            }
            _ => {}
        }
    }

    /// Begins to write the column at `place` anew, if that has not begun, and gives the records before
    /// `at` their old values.
    fn catch_up(&mut self, place: usize, at: usize) {
        let Some(column) = self.written.get_mut(place) else { return };
        let known = self.step.output.field(place);
        let written = column.get_or_insert_with(|| match known.data_type() {
            DataType::Timestamp(..) => Written::Time(TimestampNanosecondBuilder::new(), 0),
            _ => Written::Text(StringBuilder::new(), 0),
        });
        let source = self.columns.get(known.name()).map(|place| self.batch.column(*place));
        let old = |row: u32| source.and_then(|column| schema::value_text(column, row as usize));
        match written {
            Written::Text(texts, length) => {
                for row in self.rows.get(*length..at).unwrap_or_default() {
                    let value = old(*row).filter(|value| !value.is_empty());
                    self.bytes += value.as_ref().map_or(0, |value| value.len());
                    texts.append_option(value);
                }
                *length = at;
            }
            Written::Time(times, length) => {
                for row in self.rows.get(*length..at).unwrap_or_default() {
                    times.append_option(old(*row).and_then(|value| time::parse(&value)));
                }
                *length = at;
            }
        }
    }

    pub(super) fn finish(mut self) -> Result<RecordBatch, QueryError> {
        let count = self.rows.len();
        for place in 0..self.written.len() {
            if matches!(self.written.get(place), Some(Some(_))) {
                self.catch_up(place, count);
            }
        }
        let first = self.rows.first().copied().unwrap_or(0) as usize;
        let is_run = self.rows.iter().enumerate().all(|(at, row)| *row as usize == first + at);
        let indices = UInt32Array::from(std::mem::take(&mut self.rows));
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.written.len());
        for (wanted, written) in self.step.output.fields().iter().zip(&mut self.written) {
            let kind = wanted.data_type();
            let source = self.columns.get(wanted.name()).map(|place| self.batch.column(*place));
            let column = match (written, source) {
                (Some(Written::Text(texts, _)), _) => Arc::new(texts.finish()),
                (Some(Written::Time(times, _)), _) => Arc::new(times.finish()) as ArrayRef,
                (None, Some(source)) if is_run => source.slice(first, count),
                (None, Some(source)) => take(source, &indices, None).map_err(broken)?,
                (None, None) => new_null_array(kind, count),
            };
            columns.push(schema::cast_to(&column, kind).map_err(broken)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        RecordBatch::try_new_with_options(Arc::clone(&self.step.output), columns, &options)
            .map_err(broken)
    }
}

fn broken(error: ArrowError) -> QueryError {
    QueryError::internal(format!("records could not be put together: {error}"))
}
