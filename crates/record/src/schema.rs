//! The shape of a batch's `RecordBatch`, and the rules by which shapes meet.
//!
//! | column | type | null |
//! |---|---|---|
//! | `_time` | `Timestamp(ns, "UTC")` | no |
//! | `_stream` | `Dictionary(Int32, Utf8)`, canonical label text | no |
//! | `_msg` | `Utf8` | yes |
//! | every other field, sorted by name | `Utf8`, `Dictionary(Int32, Utf8)`, `Int64`, `Float64` or `Boolean` | yes |
//! | `_overflow`, only if needed | `Utf8`, JSON object text | yes |
//!
//! A dictionary is another way to hold the same text, for text that repeats: it has no nulls among
//! its values, and its column is no larger as plain text than [`PLAIN_BYTES_MAX`].
//!
//! A field that is a number here and text there has the type that holds both without loss: see
//! [`unify`]. An `Int64` field with a value that a float cannot hold exactly is marked [`WIDE`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, StringArray,
    StringBuilder, new_null_array,
};
use arrow::datatypes::{
    DataType, Field, Float64Type, Int32Type, Int64Type, Schema, SchemaRef, TimeUnit,
    TimestampNanosecondType, UInt64Type,
};
use arrow::error::ArrowError;

use crate::{field, limits, overflow, time};

/// Metadata key of an `Int64` field that has a value beyond ±2^53. Persisted.
pub const WIDE: &str = "lodge.wide";

/// Largest integer size up to which a float holds every integer exactly.
pub const EXACT_INT_MAX: u64 = 1 << 53;

/// Most bytes of a dictionary column as plain text: whoever needs it plain must be able to have it.
pub const PLAIN_BYTES_MAX: usize = 1 << 30;

/// A `RecordBatch` was not of the shape of a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("records have the wrong shape: column {column} {trouble}")]
pub struct ShapeError {
    /// Which column.
    pub column: String,
    /// What is wrong with it.
    pub trouble: String,
}

/// Type of `_time`.
pub fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))
}

/// Type of `_stream`, and of other text columns whose values repeat.
pub fn dictionary_type() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

/// The three fields that every batch begins with.
pub fn leading_fields() -> [Field; 3] {
    [
        Field::new(field::TIME, time_type(), false),
        Field::new(field::STREAM, dictionary_type(), false),
        Field::new(field::MSG, DataType::Utf8, true),
    ]
}

/// Whether a name is one of the columns that Lodge itself defines.
pub fn is_reserved(name: &str) -> bool {
    matches!(name, field::TIME | field::STREAM | field::STREAM_ID | field::MSG | field::OVERFLOW)
}

/// Checks a batch against the shape of this module.
pub fn check(records: &RecordBatch) -> Result<(), ShapeError> {
    let wrong = |column: &str, trouble: String| ShapeError { column: column.into(), trouble };
    let schema = records.schema_ref();
    for (index, expected) in leading_fields().iter().enumerate() {
        match schema.fields().get(index) {
            Some(found) if found.name() == expected.name() => {
                if found.data_type() != expected.data_type() {
                    let trouble = format!("is {}, not {}", found.data_type(), expected.data_type());
                    return Err(wrong(expected.name(), trouble));
                }
                if !expected.is_nullable() && records.column(index).null_count() > 0 {
                    return Err(wrong(expected.name(), "has nulls".into()));
                }
            }
            _ => return Err(wrong(expected.name(), format!("is not at place {index}"))),
        }
    }
    let dictionary = dictionary_type();
    let mut before: Option<&str> = None;
    for found in schema.fields().iter().skip(3) {
        let name = found.name().as_str();
        if before == Some(field::OVERFLOW) {
            return Err(wrong(name, "comes after _overflow".into()));
        }
        if name != field::OVERFLOW {
            if is_reserved(name) || before.is_some_and(|b| b >= name) {
                return Err(wrong(name, "is reserved, out of order or there twice".into()));
            }
            if name.len() > limits::FIELD_NAME_BYTES_MAX {
                return Err(wrong(name, "has too long a name".into()));
            }
        }
        let text_only = name == field::OVERFLOW;
        match found.data_type() {
            DataType::Utf8 => {}
            DataType::Int64 | DataType::Float64 | DataType::Boolean if !text_only => {}
            found if !text_only && *found == dictionary => {}
            other => return Err(wrong(name, format!("has the type {other}"))),
        }
        before = Some(name);
    }
    if schema.fields().len() > limits::COLUMNS_MAX + 4 {
        let trouble = format!("is one of {}: too many", schema.fields().len());
        return Err(wrong("*", trouble));
    }
    for (found, column) in schema.fields().iter().zip(records.columns()) {
        check_dictionary(column).map_err(|trouble| wrong(found.name(), trouble.into()))?;
    }
    Ok(())
}

fn check_dictionary(column: &ArrayRef) -> Result<(), &'static str> {
    let Some(dictionary) = column.as_dictionary_opt::<Int32Type>() else { return Ok(()) };
    let Some(texts) = dictionary.values().as_string_opt::<i32>() else { return Ok(()) };
    if texts.null_count() > 0 {
        return Err("has nulls in its dictionary");
    }
    let longest = texts.offsets().windows(2).map(|w| w[1] - w[0]).max().unwrap_or(0);
    if (longest as usize).saturating_mul(column.len()) <= PLAIN_BYTES_MAX {
        return Ok(());
    }
    // Codes of null rows may be anything; what they would add is no more than what is refused.
    let length = |&code: &i32| {
        let code = usize::try_from(code).ok().filter(|code| *code < texts.len());
        code.map_or(0, |code| texts.value_length(code) as usize)
    };
    let plain_bytes: usize = dictionary.keys().values().iter().map(length).sum();
    if plain_bytes > PLAIN_BYTES_MAX { Err("is too large as plain text") } else { Ok(()) }
}

/// The field type that holds the values of both without loss, dictionary encoding left aside.
fn widen(a: &Field, b: &Field) -> Field {
    let (left, right) = (plain_type(a.data_type()), plain_type(b.data_type()));
    let wide = is_wide(a) || is_wide(b);
    let unified = match (&left, &right) {
        (l, r) if l == r => left,
        (DataType::Int64, DataType::Float64) | (DataType::Float64, DataType::Int64) if !wide => {
            DataType::Float64
        }
        _ => DataType::Utf8,
    };
    make_field(a.name(), unified, wide)
}

fn is_wide(field: &Field) -> bool {
    field.metadata().contains_key(WIDE)
}

/// A nullable field of a batch; `wide` only counts for `Int64`.
pub fn make_field(name: &str, data_type: DataType, wide: bool) -> Field {
    let wide = wide && data_type == DataType::Int64;
    let field = Field::new(name, data_type, true);
    if wide { field.with_metadata(HashMap::from([(WIDE.into(), "1".into())])) } else { field }
}

fn plain_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, values) => values.as_ref().clone(),
        other => other.clone(),
    }
}

/// The schema that holds the records of all `schemas` without loss. Never has dictionary types but
/// for `_stream`. There is no limit on its columns; see [`unify_batches`] for what is stored.
pub fn unify<'a>(schemas: impl IntoIterator<Item = &'a SchemaRef>) -> SchemaRef {
    let mut fields: BTreeMap<&str, Field> = BTreeMap::new();
    let mut overflow = false;
    for schema in schemas {
        for found in schema.fields() {
            let name = found.name().as_str();
            if name == field::OVERFLOW {
                overflow = true;
            } else if !is_reserved(name) {
                let plain = || make_field(name, plain_type(found.data_type()), is_wide(found));
                match fields.get_mut(name) {
                    Some(known) => {
                        if known.data_type() != found.data_type()
                            || is_wide(known) != is_wide(found)
                        {
                            *known = widen(known, found);
                        }
                    }
                    None => {
                        fields.insert(name, plain());
                    }
                }
            }
        }
    }
    assemble(fields.into_values(), overflow)
}

fn assemble(fields: impl Iterator<Item = Field>, overflow: bool) -> SchemaRef {
    let tail = overflow.then(|| Field::new(field::OVERFLOW, DataType::Utf8, true));
    Arc::new(Schema::new(
        leading_fields().into_iter().chain(fields).chain(tail).collect::<Vec<_>>(),
    ))
}

/// Most fields that a batch of so many rows keeps as columns.
pub fn columns_max(rows: usize) -> usize {
    (limits::CELLS_MAX / rows.max(1)).clamp(64, limits::COLUMNS_MAX)
}

/// As [`unify`], for batches that will be stored together: of more than [`columns_max`] fields
/// those with the most values stay columns and the rest go to `_overflow`.
pub fn unify_batches(batches: &[RecordBatch]) -> SchemaRef {
    let all = unify(batches.iter().map(RecordBatch::schema_ref));
    let rows = batches.iter().map(RecordBatch::num_rows).sum();
    let cap = columns_max(rows);
    let fields: Vec<&Arc<Field>> = all.fields().iter().filter(|f| !is_reserved(f.name())).collect();
    if fields.len() <= cap {
        return all;
    }
    let mut values: HashMap<&str, usize> = HashMap::new();
    for batch in batches {
        for (found, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            if let Some((name, _)) = all.column_with_name(found.name()).map(|(i, f)| (f.name(), i))
            {
                *values.entry(name).or_default() += column.len() - column.null_count();
            }
        }
    }
    let mut ranked = fields;
    ranked.sort_by_key(|f| std::cmp::Reverse(values.get(f.name().as_str()).copied().unwrap_or(0)));
    ranked.truncate(cap);
    ranked.sort_by(|a, b| a.name().cmp(b.name()));
    assemble(ranked.into_iter().map(|f| f.as_ref().clone()), true)
}

/// The records of `batch` in the shape `target`, which must come from [`unify`] or
/// [`unify_batches`] over it: missing fields are null, types widened, fields that `target` does not
/// have put into `_overflow`. Dictionary columns become plain.
pub fn conform(batch: &RecordBatch, target: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    if batch.schema_ref() == target {
        return Ok(batch.clone());
    }
    let rows = batch.num_rows();
    let mut columns = Vec::with_capacity(target.fields().len());
    for wanted in target.fields() {
        columns.push(match batch.column_by_name(wanted.name()) {
            Some(column) if wanted.name() == field::OVERFLOW => Arc::clone(column),
            Some(column) => cast_to(column, wanted.data_type())?,
            None => new_null_array(wanted.data_type(), rows),
        });
    }
    let left: Vec<(&str, &ArrayRef)> = batch
        .schema_ref()
        .fields()
        .iter()
        .zip(batch.columns())
        .filter(|(f, _)| target.column_with_name(f.name()).is_none())
        .map(|(f, c)| (f.name().as_str(), c))
        .collect();
    if !left.is_empty()
        && let Some((index, _)) = target.column_with_name(field::OVERFLOW)
    {
        let before = columns.get(index).map(|c| c.as_string::<i32>().clone());
        let merged = merge_overflow(before.as_ref(), &left, rows);
        if let Some(place) = columns.get_mut(index) {
            *place = Arc::new(merged);
        }
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(target), columns, &options)
}

fn merge_overflow(
    before: Option<&StringArray>,
    left: &[(&str, &ArrayRef)],
    rows: usize,
) -> StringArray {
    let mut out = StringBuilder::new();
    let mut text = String::new();
    for row in 0..rows {
        text.clear();
        for (name, column) in left {
            if let Some(value) = value_text(column, row) {
                overflow::append(&mut text, name, &value);
            }
        }
        if let Some(before) = before.filter(|b| b.is_valid(row)) {
            overflow::append_all(&mut text, before.value(row));
        }
        overflow::close(&mut text);
        out.append_option((!text.is_empty()).then_some(&text));
    }
    out.finish()
}

/// A column as another type of this module, by the one text form that each value has.
pub fn cast_to(column: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    match (column.data_type(), to) {
        (from, to) if from == to => Ok(Arc::clone(column)),
        (DataType::Float64 | DataType::Boolean | DataType::Timestamp(..), DataType::Utf8) => {
            let mut out = StringBuilder::with_capacity(column.len(), column.len() * 8);
            for row in 0..column.len() {
                out.append_option(value_text(column, row));
            }
            Ok(Arc::new(out.finish()))
        }
        _ => arrow::compute::cast(column, to),
    }
}

/// All records of `batches` as one batch of the shape of [`unify_batches`].
pub fn concat(batches: &[RecordBatch]) -> Result<RecordBatch, ArrowError> {
    if let [only] = batches {
        return Ok(only.clone());
    }
    let target = unify_batches(batches);
    let conformed: Result<Vec<_>, _> = batches.iter().map(|b| conform(b, &target)).collect();
    arrow::compute::concat_batches(&target, conformed?.iter())
}

/// The one text form of the value at `row`; `None` where it is null.
/// Integers are decimal, floats the shortest decimal that reads back (never `1.0`, never with an
/// exponent), booleans `true` and `false`, times RFC 3339.
pub fn value_text(column: &dyn Array, row: usize) -> Option<Cow<'_, str>> {
    if row >= column.len() || column.is_null(row) {
        return None;
    }
    Some(match column.data_type() {
        DataType::Utf8 => Cow::Borrowed(column.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => Cow::Borrowed(column.as_string::<i64>().value(row)),
        DataType::Utf8View => Cow::Borrowed(column.as_string_view().value(row)),
        DataType::Dictionary(key, values)
            if **key == DataType::Int32 && **values == DataType::Utf8 =>
        {
            let dictionary = column.as_dictionary::<Int32Type>();
            let code = usize::try_from(dictionary.keys().value(row)).ok()?;
            let texts: &StringArray = dictionary.values().as_string();
            (code < texts.len() && texts.is_valid(code))
                .then(|| Cow::Borrowed(texts.value(code)))?
        }
        DataType::Int64 => int_text(column.as_primitive::<Int64Type>().value(row)),
        DataType::UInt64 => Cow::Owned(column.as_primitive::<UInt64Type>().value(row).to_string()),
        DataType::Float64 => {
            Cow::Owned(float_text(column.as_primitive::<Float64Type>().value(row)))
        }
        DataType::Boolean => Cow::Borrowed(bool_text(column.as_boolean(), row)),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            Cow::Owned(time::format(column.as_primitive::<TimestampNanosecondType>().value(row)))
        }
        _ => Cow::Owned(arrow::util::display::array_value_to_string(column, row).ok()?),
    })
}

fn int_text(value: i64) -> Cow<'static, str> {
    Cow::Owned(itoa::Buffer::new().format(value).to_owned())
}

fn bool_text(column: &BooleanArray, row: usize) -> &'static str {
    if column.value(row) { "true" } else { "false" }
}

/// The one text form of a float, see [`value_text`].
pub fn float_text(value: f64) -> String {
    let mut buffer = ryu::Buffer::new();
    let short = buffer.format(value);
    match short.strip_suffix(".0") {
        Some(whole) => whole.to_owned(),
        None if short.contains('e') => format!("{value}"),
        None => short.to_owned(),
    }
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;
