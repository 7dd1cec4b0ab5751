//! The pipes that make fields of fields, on batches of records of any shape.
//!
//! ```text
//!  batch ─► condition ─► record by record: Writes ─► columns, and the rest into `_overflow` ─► batch
//! ```
//!
//! Invariants:
//! - a value is its one text form, wherever it is stored; what a pipe makes is text;
//! - a field that a pipe may make by any name is a column if the plan has one of that name, else it
//!   is in `_overflow`: it is found under its name either way;
//! - `_time` stays a time: a value that is none does not replace it, unless a pipe names it;
//! - batches leave in pieces of at most [`ROWS_MAX`] records and about [`BYTES_MAX`] bytes, however
//!   many records one becomes.

mod collapse;
mod exec;
mod extract;
mod format;
mod logfmt;
mod math;
mod pack;
mod unpack;
mod writes;

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatchOptions, StringBuilder,
    TimestampNanosecondBuilder, UInt32Array,
};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use lodge_record::{field, overflow, schema};
use lodge_segment::predicate::evaluate;

pub(crate) use exec::{TransformNode, TransformPlanner};

use crate::error::QueryError;
use crate::logsql::{Targets, Transform, TransformPipe};
use writes::Writes;

/// Most records of a batch that leaves.
const ROWS_MAX: usize = 8_192;
/// About how many bytes of new values a batch that leaves has at most.
const BYTES_MAX: usize = 4 << 20;
/// Most bytes of one made value; beyond it the value is cut.
const VALUE_BYTES_MAX: usize = 32 << 20;

/// One pipe over records of one shape.
#[derive(Debug)]
pub(crate) struct Step {
    pipe: TransformPipe,
    input: SchemaRef,
    output: SchemaRef,
    /// Columns of the output that the pipe may write, and their places.
    slots: HashMap<String, usize>,
    /// Whether any field may be made.
    is_open: bool,
}

/// One record of a batch.
#[derive(Clone, Copy)]
struct Record<'b> {
    batch: &'b RecordBatch,
    columns: &'b HashMap<String, usize>,
    row: usize,
}

impl<'b> Record<'b> {
    /// The value of a field; empty if it has none.
    fn value(&self, name: &str) -> Cow<'b, str> {
        let column = self.columns.get(name).map(|place| self.batch.column(*place));
        if let Some(column) = column {
            return schema::value_text(column, self.row).unwrap_or_default();
        }
        let Some(text) = self.spilled() else { return Cow::Borrowed("") };
        overflow::get(text, name).map(Cow::into_owned).map(Cow::Owned).unwrap_or_default()
    }

    fn spilled(&self) -> Option<&'b str> {
        let column = self.batch.column(*self.columns.get(field::OVERFLOW)?);
        let texts = column.as_string_opt::<i32>()?;
        texts.is_valid(self.row).then(|| texts.value(self.row))
    }

    /// Every field that is not empty.
    fn each(&self, mut each: impl FnMut(&str, &str)) {
        for (field, column) in self.batch.schema_ref().fields().iter().zip(self.batch.columns()) {
            if field.name() == field::OVERFLOW {
                continue;
            }
            if let Some(value) = schema::value_text(column, self.row)
                && !value.is_empty()
            {
                each(field.name(), &value);
            }
        }
        if let Some(text) = self.spilled() {
            overflow::for_each(text, |name, value| {
                if !value.is_empty() {
                    each(name, value);
                }
            });
        }
    }
}

impl Step {
    /// `pipe` over records of the shape `input`; `later` are the fields that what follows names, each
    /// of which gets a column.
    pub(crate) fn new(pipe: &TransformPipe, input: SchemaRef, later: &BTreeSet<String>) -> Self {
        let targets = pipe.targets();
        let is_open = targets == Targets::Any;
        let mut fields: Vec<Field> = Vec::new();
        let mut slots = HashMap::new();
        let is_target = |name: &str| match &targets {
            Targets::Named(names) => names.iter().any(|known| known == name),
            Targets::Any => name != field::OVERFLOW,
        };
        for known in input.fields() {
            let name = known.name();
            let is_written = is_target(name);
            let stays = !is_written || (is_open && name == field::TIME);
            let kind = if stays { known.data_type().clone() } else { DataType::Utf8 };
            if is_written {
                slots.insert(name.clone(), fields.len());
            }
            let is_nullable = known.is_nullable() || is_written;
            fields.push(Field::new(name, kind, is_nullable));
        }
        let made: Vec<&String> = match &targets {
            Targets::Named(names) => names.iter().collect(),
            Targets::Any => later.iter().filter(|name| *name != field::OVERFLOW).collect(),
        };
        for name in made {
            if input.index_of(name).is_err() && !slots.contains_key(name) {
                slots.insert(name.clone(), fields.len());
                fields.push(Field::new(name, DataType::Utf8, true));
            }
        }
        if is_open && input.index_of(field::OVERFLOW).is_err() {
            fields.push(Field::new(field::OVERFLOW, DataType::Utf8, true));
        }
        let output = Arc::new(Schema::new(fields));
        Self { pipe: pipe.clone(), input, output, slots, is_open }
    }

    /// The shape of what comes out.
    pub(crate) fn output(&self) -> &SchemaRef {
        &self.output
    }

    /// All of what becomes of a batch.
    pub(crate) fn whole(&self, batch: &RecordBatch) -> Result<Vec<RecordBatch>, QueryError> {
        let mut pieces = Vec::new();
        let mut walk = Walk::new(self, batch.clone());
        while let Some(piece) = walk.next()? {
            pieces.push(piece);
        }
        Ok(pieces)
    }
}

/// A batch on its way through a step.
#[derive(Debug)]
struct Walk<'s> {
    step: &'s Step,
    batch: RecordBatch,
    columns: HashMap<String, usize>,
    selected: Option<BooleanArray>,
    row: usize,
    /// Records of the row in hand that have left already, where it becomes several.
    given: usize,
}

/// What is gathered of a batch that leaves.
struct Piece {
    /// The records that it is made of.
    rows: Vec<u32>,
    /// The columns that are written, by their places in the output.
    written: HashMap<usize, Written>,
    /// `_overflow`, once it is not what it was.
    spilled: Option<StringBuilder>,
    bytes: usize,
}

enum Written {
    Text(StringBuilder),
    Time(TimestampNanosecondBuilder),
}

impl<'s> Walk<'s> {
    fn new(step: &'s Step, batch: RecordBatch) -> Self {
        let fields = batch.schema_ref().fields().iter().enumerate();
        let columns = fields.map(|(place, field)| (field.name().clone(), place)).collect();
        let selected = step.pipe.condition.as_ref().map(|condition| evaluate(condition, &batch));
        Self { step, batch, columns, selected, row: 0, given: 0 }
    }

    /// The next piece; `None` at the end.
    fn next(&mut self) -> Result<Option<RecordBatch>, QueryError> {
        let step = self.step;
        let mut piece = Piece::new(step);
        let mut writes = Writes::default();
        let rows = self.batch.num_rows();
        while self.row < rows && piece.rows.len() < ROWS_MAX && piece.bytes < BYTES_MAX {
            let is_selected = self.selected.as_ref().is_none_or(|rows| rows.value(self.row));
            let record = Record { batch: &self.batch, columns: &self.columns, row: self.row };
            writes.clear();
            match &step.pipe.work {
                Transform::Sample(every) => {
                    if rand::random_range(0..*every) == 0 {
                        piece.add(step, record, &writes);
                    }
                }
                Transform::DropEmptyFields => {
                    let mut is_any = false;
                    record.each(|_, _| is_any = true);
                    if is_any {
                        piece.add(step, record, &writes);
                    }
                }
                Transform::Unroll(fields) if is_selected => {
                    let lists: Vec<Vec<String>> =
                        fields.iter().map(|name| unpack::items(&record.value(name))).collect();
                    let total = lists.iter().map(Vec::len).max().unwrap_or(0).max(1);
                    while self.given < total
                        && piece.rows.len() < ROWS_MAX
                        && piece.bytes < BYTES_MAX
                    {
                        writes.clear();
                        for (name, list) in fields.iter().zip(&lists) {
                            let item = list.get(self.given).map_or("", String::as_str);
                            writes.set(name, item);
                        }
                        piece.add(step, record, &writes);
                        self.given += 1;
                    }
                    if self.given < total {
                        // The next piece goes on with this record.
                        break;
                    }
                    self.given = 0;
                }
                work => {
                    if is_selected {
                        apply(work, record, &mut writes);
                    }
                    piece.add(step, record, &writes);
                }
            }
            self.row += 1;
        }
        if piece.rows.is_empty() {
            return Ok(None);
        }
        piece.finish(step, &self.batch).map(Some)
    }
}

/// What a pipe makes of one record.
fn apply(work: &Transform, record: Record<'_>, writes: &mut Writes) {
    match work {
        Transform::CollapseNums { field, prettify } => {
            writes.set(field, &collapse::numbers(&record.value(field), *prettify));
        }
        Transform::Decolorize { field } => {
            writes.set(field, &collapse::without_colours(&record.value(field)));
        }
        Transform::Extract { from, pattern } => {
            extract::by_texts(pattern, &record.value(from), writes);
        }
        Transform::ExtractRegexp { from, pattern } => {
            extract::by_groups(&pattern.0, &record.value(from), writes);
        }
        Transform::Format { template, to } => {
            writes.set(to, &format::rendered(template, |name| record.value(name)));
        }
        Transform::Hash { from, to } => {
            let hash = xxhash_rust::xxh3::xxh3_64(record.value(from).as_bytes());
            writes.set(to, &hash.to_string());
        }
        Transform::JsonArrayLen { from, to } => {
            writes.set(to, &unpack::items(&record.value(from)).len().to_string());
        }
        Transform::Len { from, to } => writes.set(to, &record.value(from).len().to_string()),
        Transform::Math(results) => math::results(results, record, writes),
        Transform::PackJson { fields, to } => writes.set(to, &pack::json(fields, record)),
        Transform::PackLogfmt { fields, to } => writes.set(to, &pack::logfmt(fields, record)),
        Transform::Replace { old, new, field, limit } => {
            writes.set(field, &collapse::replaced(&record.value(field), old, new, *limit));
        }
        Transform::ReplaceRegexp { old, new, field, limit } => {
            let limit = limit.map_or(0, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
            writes.set(field, &old.0.replacen(&record.value(field), limit, new.as_str()));
        }
        Transform::UnpackJson(unpack) => {
            unpack::json(&record.value(&unpack.from), &mut |name, value| {
                writes.unpacked(unpack, name, value);
            });
            writes.complete(unpack);
        }
        Transform::UnpackLogfmt(unpack) => {
            logfmt::each(&record.value(&unpack.from), |name, value| {
                writes.unpacked(unpack, name, value);
            });
            writes.complete(unpack);
        }
        Transform::UnpackSyslog { unpack, offset_ns, now_ns } => {
            let text = record.value(&unpack.from);
            unpack::syslog(&text, *offset_ns, *now_ns, |name, value| {
                writes.unpacked(unpack, name, value);
            });
        }
        Transform::UnpackWords { from, to, is_unique } => {
            writes.set(to, &unpack::words(&record.value(from), *is_unique));
        }
        // These make more or fewer records, and are seen to there.
        Transform::DropEmptyFields | Transform::Sample(_) | Transform::Unroll(_) => {}
    }
}

impl Piece {
    fn new(step: &Step) -> Self {
        let written = step.slots.values().map(|place| {
            let column = match step.output.field(*place).data_type() {
                DataType::Timestamp(..) => Written::Time(TimestampNanosecondBuilder::new()),
                _ => Written::Text(StringBuilder::new()),
            };
            (*place, column)
        });
        let written = written.collect();
        let spilled = step.is_open.then(StringBuilder::new);
        Self { rows: Vec::new(), written, spilled, bytes: 0 }
    }

    /// Adds a record with what is written into it.
    fn add(&mut self, step: &Step, record: Record<'_>, writes: &Writes) {
        self.rows.push(u32::try_from(record.row).unwrap_or(u32::MAX));
        let keep = step.pipe.keep;
        for (name, place) in &step.slots {
            let Some(column) = self.written.get_mut(place) else { continue };
            let new = writes.get(name).filter(|new| {
                !(keep.unless_found && new.is_empty())
                    && !(keep.original && !record.value(name).is_empty())
            });
            match column {
                Written::Text(texts) => match new {
                    Some(new) => {
                        let new = cut(new);
                        self.bytes += new.len();
                        texts.append_value(new);
                    }
                    None => {
                        let old = record.value(name);
                        self.bytes += old.len();
                        texts.append_option(Some(old).filter(|old| !old.is_empty()));
                    }
                },
                Written::Time(times) => {
                    let old = || lodge_record::time::parse(&record.value(name));
                    let new = new.and_then(lodge_record::time::parse);
                    times.append_option(new.or_else(old));
                }
            }
        }
        let Some(spilled) = &mut self.spilled else { return };
        let mut text = String::new();
        if let Some(old) = record.spilled() {
            overflow::for_each(old, |name, value| {
                let is_replaced = step.slots.contains_key(name)
                    || writes.get(name).is_some_and(|new| {
                        !(keep.unless_found && new.is_empty())
                            && !(keep.original && !value.is_empty())
                    });
                if !is_replaced {
                    overflow::append(&mut text, name, value);
                }
            });
        }
        for (name, value) in writes.iter() {
            let is_kept = keep.original && !record.value(name).is_empty();
            if !step.slots.contains_key(name)
                && !(is_kept || value.is_empty())
                && name != field::OVERFLOW
            {
                overflow::append(&mut text, name, cut(value));
            }
        }
        overflow::close(&mut text);
        self.bytes += text.len();
        spilled.append_option((!text.is_empty()).then_some(text));
    }

    fn finish(mut self, step: &Step, batch: &RecordBatch) -> Result<RecordBatch, QueryError> {
        let broken = |error: arrow::error::ArrowError| QueryError::internal(error.to_string());
        let count = self.rows.len();
        let first = self.rows.first().copied().unwrap_or(0);
        let is_run = self.rows.iter().enumerate().all(|(at, row)| *row as usize == first as usize + at);
        let indices = UInt32Array::from(std::mem::take(&mut self.rows));
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(step.output.fields().len());
        for (place, wanted) in step.output.fields().iter().enumerate() {
            let column: ArrayRef = match self.written.remove(&place) {
                Some(Written::Text(mut texts)) => Arc::new(texts.finish()),
                Some(Written::Time(mut times)) => {
                    schema::cast_to(&(Arc::new(times.finish()) as ArrayRef), wanted.data_type())
                        .map_err(broken)?
                }
                None if wanted.name() == field::OVERFLOW && self.spilled.is_some() => {
                    match &mut self.spilled {
                        Some(spilled) => Arc::new(spilled.finish()),
                        None => continue,
                    }
                }
                None => {
                    let Ok(source) = step.input.index_of(wanted.name()) else { continue };
                    let source = batch.column(source);
                    match is_run {
                        true => source.slice(first as usize, count),
                        false => take(source, &indices, None).map_err(broken)?,
                    }
                }
            };
            columns.push(column);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        RecordBatch::try_new_with_options(step.output.clone(), columns, &options).map_err(broken)
    }
}

/// The beginning of a value that is too long.
fn cut(value: &str) -> &str {
    let end = value.floor_char_boundary(VALUE_BYTES_MAX);
    value.get(..end).unwrap_or(value)
}
