//! Records of differing shapes as the columns of one table.
//!
//! Invariant: every source column has the type of its field in the table, or is a dictionary of it;
//! a column that a source does not have stays absent and costs nothing.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimestampNanosecondType};
use lodge_record::{field, schema};

use crate::SegmentError;
use crate::chunk::encode_error;

/// Records that are made part of a table, column by column.
pub(crate) trait Part {
    /// How many records.
    fn rows(&self) -> usize;
    /// A column, if there is one of that name.
    fn column(&self, name: &str) -> Result<Option<ArrayRef>, SegmentError>;
}

impl Part for RecordBatch {
    fn rows(&self) -> usize {
        self.num_rows()
    }

    fn column(&self, name: &str) -> Result<Option<ArrayRef>, SegmentError> {
        Ok(self.column_by_name(name).cloned())
    }
}

/// The parts of a table and the fields that they have together.
pub(crate) struct Sources<'s> {
    /// Fields of the table, text as `Utf8`.
    pub(crate) fields: Vec<Arc<Field>>,
    pub(crate) rows: Vec<usize>,
    parts: Vec<Box<dyn Part + 's>>,
}

impl<'s> Sources<'s> {
    /// Unites `batches`, each of the record shape, its text columns plain or dictionaries. Fields
    /// beyond the limit for so many rows go into `_overflow`.
    pub(crate) fn new(batches: &[RecordBatch]) -> Result<Self, SegmentError> {
        let target = match batches.split_first() {
            Some((first, rest)) if rest.iter().all(|b| b.schema_ref() == first.schema_ref()) => {
                schema::unify([first.schema_ref()])
            }
            _ => schema::unify_batches(batches),
        };
        let part = |batch| Ok(Box::new(keep_columns(batch, &target)?) as Box<dyn Part>);
        Ok(Self::of(&target, batches.iter().map(part).collect::<Result<_, SegmentError>>()?))
    }

    /// Parts that have no other fields than `target`.
    pub(crate) fn of(target: &SchemaRef, parts: Vec<Box<dyn Part + 's>>) -> Self {
        let fields = target.fields().iter().map(plain_field).collect();
        let rows = parts.iter().map(|part| part.rows()).collect();
        Self { fields, rows, parts }
    }

    /// The column of `field` in each source.
    pub(crate) fn column(&self, field: &Field) -> Result<Vec<Option<ArrayRef>>, SegmentError> {
        let of = |part: &(dyn Part + 's)| match part.column(field.name())? {
            None => Ok(None),
            Some(column) => match (column.data_type(), field.data_type()) {
                (DataType::Dictionary(..), DataType::Utf8) => Ok(Some(column)),
                (_, to) => schema::cast_to(&column, to).map(Some).map_err(encode_error),
            },
        };
        self.parts.iter().map(|part| of(part.as_ref())).collect()
    }

    /// The times of each source.
    pub(crate) fn times(&self) -> Result<Vec<ScalarBuffer<i64>>, SegmentError> {
        let of = |part: &(dyn Part + 's)| {
            let times = part.column(field::TIME)?;
            let times =
                times.as_ref().and_then(|t| t.as_primitive_opt::<TimestampNanosecondType>());
            let times = times.map(|times| times.values().clone());
            times.ok_or_else(|| SegmentError::Encode("records without _time in nanoseconds".into()))
        };
        self.parts.iter().map(|part| of(part.as_ref())).collect()
    }
}

/// Text fields plain, `_stream` too.
fn plain_field(found: &Arc<Field>) -> Arc<Field> {
    match found.data_type() {
        DataType::Dictionary(_, values) => {
            Arc::new(found.as_ref().clone().with_data_type(values.as_ref().clone()))
        }
        _ => Arc::clone(found),
    }
}

/// `batch` without the columns that `target` does not have; their values go to `_overflow`.
fn keep_columns(batch: &RecordBatch, target: &SchemaRef) -> Result<RecordBatch, SegmentError> {
    let kept = |name: &str| target.column_with_name(name).is_some();
    let fields = batch.schema_ref().fields();
    if fields.iter().all(|f| kept(f.name())) {
        return Ok(batch.clone());
    }
    // Only the fields that leave are conformed: a null column for each field of the table would be
    // most of the memory of a wide one.
    let leaving = |f: &Arc<Field>| {
        schema::leading_fields().iter().any(|l| l.name() == f.name())
            || f.name() == field::OVERFLOW
            || !kept(f.name())
    };
    let places: Vec<usize> =
        (0..fields.len()).filter(|&i| fields.get(i).is_some_and(leaving)).collect();
    let narrow = Arc::new(Schema::new(
        schema::leading_fields()
            .into_iter()
            .chain([Field::new(field::OVERFLOW, DataType::Utf8, true)])
            .collect::<Vec<_>>(),
    ));
    let leaving = batch.project(&places).map_err(encode_error)?;
    let leaving = schema::conform(&leaving, &narrow).map_err(encode_error)?;
    let overflow = leaving.column_by_name(field::OVERFLOW).cloned();
    let staying = fields
        .iter()
        .zip(batch.columns())
        .filter(|(f, _)| kept(f.name()) && f.name() != field::OVERFLOW)
        .map(|(f, c)| (Arc::clone(f), Arc::clone(c)));
    let tail = overflow
        .map(|column| (Arc::new(Field::new(field::OVERFLOW, DataType::Utf8, true)), column));
    let (fields, columns): (Vec<_>, Vec<_>) = staying.chain(tail).unzip();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
        .map_err(encode_error)
}
