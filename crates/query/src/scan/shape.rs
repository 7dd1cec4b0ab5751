//! Brings the stored columns of a segment into the shape of the table.
//!
//! Invariants:
//! - a field is in its column if the table has one, whether it was stored in a column or in
//!   `_overflow`; the table's `_overflow` holds only fields that have no column;
//! - no value changes its text form.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, DictionaryArray, Float64Array, Int64Array,
    RecordBatchOptions, StringArray, StringBuilder, new_null_array,
};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use lodge_record::{field, limits, overflow, schema, stream};
use lodge_store::Snapshot;

use super::reader::arrow_error;
use crate::error::QueryError;

/// Types of columns over segments with an `_overflow`, in which every value is text.
#[derive(Debug, Clone, Default)]
pub(crate) struct Types {
    /// Whether they keep their own, but for `texts`; else all are text.
    pub(crate) own: bool,
    /// Fields that are known to hold text as well.
    pub(crate) texts: BTreeSet<String>,
    /// Fields that are in no column, and the types of the values that were looked at.
    pub(crate) spilled: BTreeMap<String, DataType>,
}

impl Types {
    fn is_kept(&self, name: &str) -> bool {
        self.own && !self.texts.contains(name)
    }

    fn spilled(&self, name: &str) -> DataType {
        let kind = self.spilled.get(name).filter(|_| self.is_kept(name));
        kind.cloned().unwrap_or(DataType::Utf8)
    }
}

/// The columns of the table over a snapshot.
///
/// `wanted`: the fields that the query names (each gets a column, stored or not), or `None` for all
/// fields, of which the rarest beyond [`limits::COLUMNS_MAX`] go to `_overflow`. `named`: fields that
/// have a column in any case. `types`: what columns are where fields may be in `_overflow`, too.
pub(crate) fn table_schema(
    snapshot: &Snapshot,
    wanted: Option<&[String]>,
    named: &BTreeSet<String>,
    types: &Types,
) -> SchemaRef {
    let stored = snapshot.schema();
    let spilled = stored.index_of(field::OVERFLOW).is_ok();
    let column = |name: &str| -> Field {
        match stored.field_with_name(name) {
            Ok(found) if schema::is_reserved(name) || !spilled || types.is_kept(name) => {
                // Absent in some segments, whatever the stored schema says.
                found.clone().with_nullable(!schema::is_reserved(name) || name == field::MSG)
            }
            _ if name == field::TIME => Field::new(name, schema::time_type(), true),
            _ => Field::new(name, types.spilled(name), true),
        }
    };
    let Some(wanted) = wanted else {
        let names: Vec<&str> = stored
            .fields()
            .iter()
            .map(|field| field.name().as_str())
            .filter(|name| *name != field::OVERFLOW)
            .collect();
        let capped = names.len() > limits::COLUMNS_MAX;
        let names = if capped { most_frequent(snapshot, &names, named) } else { names };
        let mut fields: Vec<Field> = names.into_iter().map(column).collect();
        // A field that is in no column may still be in `_overflow`, or be derived.
        let unstored = named.iter().filter(|name| {
            stored.index_of(name).is_err() && (spilled || name.as_str() == field::STREAM_ID)
        });
        fields.extend(unstored.map(|name| column(name)));
        if spilled || capped {
            fields.push(Field::new(field::OVERFLOW, DataType::Utf8, true));
        }
        return Arc::new(Schema::new(fields));
    };
    let fields: Vec<Field> = wanted.iter().map(|name| column(name)).collect();
    Arc::new(Schema::new(fields))
}

/// The names that occur in segments of the most rows, in their former order.
fn most_frequent<'n>(
    snapshot: &Snapshot,
    names: &[&'n str],
    named: &BTreeSet<String>,
) -> Vec<&'n str> {
    let mut rows: BTreeMap<&str, u64> = BTreeMap::new();
    for segment in &snapshot.segments {
        for field in segment.schema.fields() {
            *rows.entry(field.name().as_str()).or_default() += segment.rows;
        }
    }
    let weight = |name: &str| {
        let first = schema::is_reserved(name) || named.contains(name);
        (!first, std::cmp::Reverse(rows.get(name).copied().unwrap_or(0)))
    };
    let mut ranked: Vec<(usize, &str)> = names.iter().copied().enumerate().collect();
    ranked.sort_by_key(|(_, name)| weight(name));
    ranked.truncate(limits::COLUMNS_MAX);
    ranked.sort_by_key(|(place, _)| *place);
    ranked.into_iter().map(|(_, name)| name).collect()
}

/// How batches of a segment become batches of the plan.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    /// All columns of the table.
    table: SchemaRef,
    /// The columns that this scan gives.
    output: SchemaRef,
}

impl Shape {
    pub(crate) fn new(table: SchemaRef, output: SchemaRef) -> Self {
        Self { table, output }
    }

    /// The same with only some of the columns, by their places.
    pub(crate) fn narrowed(&self, places: &[usize]) -> Result<Self, QueryError> {
        let output = self.output.project(places).map_err(arrow_error)?;
        Ok(Self { table: self.table.clone(), output: Arc::new(output) })
    }

    pub(crate) fn table(&self) -> &SchemaRef {
        &self.table
    }

    pub(crate) fn output(&self) -> &SchemaRef {
        &self.output
    }

    /// The columns to read of a segment with the columns `stored`.
    pub(crate) fn columns(&self, stored: &Schema) -> Vec<String> {
        let mut names: Vec<String> =
            self.output.fields().iter().map(|field| field.name().clone()).collect();
        if self.output.index_of(field::OVERFLOW).is_ok() {
            // Fields without a column of the table must be read to go to `_overflow`.
            let spilled = stored.fields().iter().map(|field| field.name());
            names.extend(spilled.filter(|name| self.table.index_of(name).is_err()).cloned());
        }
        names
    }

    /// `batch`, of stored types, in the output's columns and types.
    pub(crate) fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch, QueryError> {
        let rows = batch.num_rows();
        let spilled = batch
            .column_by_name(field::OVERFLOW)
            .and_then(|column| column.as_string_opt::<i32>())
            .filter(|column| column.null_count() < rows);
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.output.fields().len());
        for wanted in self.output.fields() {
            let name = wanted.name().as_str();
            let stored = batch.column_by_name(name);
            columns.push(if name == field::OVERFLOW {
                self.overflow(batch, spilled)
            } else if let (false, Some(spilled)) = (schema::is_reserved(name), spilled) {
                from_overflow(wanted, stored, spilled)?
            } else if let Some(stored) = stored {
                schema::cast_to(stored, wanted.data_type()).map_err(arrow_error)?
            } else if let (field::STREAM_ID, Some(streams)) =
                (name, batch.column_by_name(field::STREAM))
            {
                let ids = stream_ids(streams);
                schema::cast_to(&ids, wanted.data_type()).map_err(arrow_error)?
            } else {
                new_null_array(wanted.data_type(), rows)
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(self.output.clone(), columns, &options)
            .map_err(arrow_error)
    }

    /// The fields without a column, as JSON object text.
    fn overflow(&self, batch: &RecordBatch, spilled: Option<&StringArray>) -> ArrayRef {
        let homeless: Vec<(&str, &ArrayRef)> = batch
            .schema_ref()
            .fields()
            .iter()
            .zip(batch.columns())
            .filter(|(field, _)| self.table.index_of(field.name()).is_err())
            .map(|(field, column)| (field.name().as_str(), column))
            .collect();
        let mut out = StringBuilder::new();
        let mut text = String::new();
        for row in 0..batch.num_rows() {
            text.clear();
            for (name, column) in &homeless {
                if let Some(value) = schema::value_text(column, row) {
                    overflow::append(&mut text, name, &value);
                }
            }
            if let Some(spilled) = spilled.filter(|spilled| spilled.is_valid(row)) {
                overflow::for_each(spilled.value(row), |name, value| {
                    if self.table.index_of(name).is_err() {
                        overflow::append(&mut text, name, value);
                    }
                });
            }
            overflow::close(&mut text);
            out.append_option((!text.is_empty()).then_some(&text));
        }
        Arc::new(out.finish())
    }
}

/// A field's values, from its column or else from `_overflow`.
fn from_overflow(
    wanted: &Field,
    stored: Option<&ArrayRef>,
    spilled: &StringArray,
) -> Result<ArrayRef, QueryError> {
    let name = wanted.name().as_str();
    let text = |row: usize| -> Option<Cow<'_, str>> {
        if let Some(value) = stored.and_then(|stored| schema::value_text(stored, row)) {
            return Some(value);
        }
        spilled.is_valid(row).then(|| overflow::get(spilled.value(row), name)).flatten()
    };
    let rows = 0..spilled.len();
    // A value is of a type only if that is how the type would write it.
    fn exact<T>(
        text: Option<Cow<'_, str>>,
        name: &str,
        read: impl Fn(&str) -> Option<T>,
        write: impl Fn(&T) -> String,
    ) -> Result<Option<T>, QueryError> {
        let Some(text) = text else { return Ok(None) };
        match read(&text).filter(|value| write(value) == text) {
            Some(value) => Ok(Some(value)),
            None => Err(QueryError::type_clash(name)),
        }
    }
    Ok(match wanted.data_type() {
        DataType::Int64 => {
            let value = |row| exact(text(row), name, |t| t.parse().ok(), i64::to_string);
            Arc::new(rows.map(value).collect::<Result<Int64Array, _>>()?)
        }
        DataType::Float64 => {
            let write = |value: &f64| schema::float_text(*value);
            let value = |row| exact(text(row), name, |t| t.parse().ok(), write);
            Arc::new(rows.map(value).collect::<Result<Float64Array, _>>()?)
        }
        DataType::Boolean => {
            let value = |row| exact(text(row), name, |t| t.parse().ok(), bool::to_string);
            Arc::new(rows.map(value).collect::<Result<BooleanArray, _>>()?)
        }
        _ => Arc::new(rows.map(text).collect::<StringArray>()),
    })
}

/// The type that all of `texts` are of, if they are read as it would write them.
pub(super) fn type_of_texts<'t>(texts: impl Iterator<Item = &'t str> + Clone) -> DataType {
    let all = |is: fn(&str) -> bool| texts.clone().all(is);
    let is_integer = |text: &str| text.parse::<i64>().is_ok_and(|n| n.to_string() == text);
    let is_float = |text: &str| text.parse().is_ok_and(|n| schema::float_text(n) == text);
    if all(is_integer) {
        DataType::Int64
    } else if all(is_float) {
        DataType::Float64
    } else if all(|text| matches!(text, "true" | "false")) {
        DataType::Boolean
    } else {
        DataType::Utf8
    }
}

/// The `_stream_id` of each row of a `_stream` column, as a dictionary where that is one.
pub(crate) fn stream_ids(streams: &ArrayRef) -> ArrayRef {
    if let Some(dictionary) = streams.as_dictionary_opt::<Int32Type>() {
        let ids = stream_ids(dictionary.values());
        if let Ok(ids) = DictionaryArray::try_new(dictionary.keys().clone(), ids) {
            return Arc::new(ids);
        }
    }
    let mut last: Option<(String, String)> = None;
    let ids: StringArray = (0..streams.len())
        .map(|row| {
            let text = schema::value_text(streams, row)?;
            if let Some((known, id)) = &last
                && *known == text
            {
                return Some(id.clone());
            }
            let id = stream::stream_id(&text);
            last = Some((text.into_owned(), id.clone()));
            Some(id)
        })
        .collect();
    Arc::new(ids)
}
