//! The rows of one input, then those of the next: `union`.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, RecordBatchOptions, StringArray, StringBuilder, new_null_array,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::physical_plan::SendableRecordBatchStream;
use futures::StreamExt;
use lodge_record::{field, overflow, schema};

use super::{Batches, Stage, not_put_together};

/// One input after the other, in columns that hold the fields of all.
#[derive(Debug)]
pub(crate) struct Chain {
    output: SchemaRef,
}

impl Chain {
    /// Over inputs with these columns.
    pub(crate) fn new(inputs: &[SchemaRef]) -> Self {
        let mut fields: Vec<Field> = Vec::new();
        for input in inputs {
            for found in input.fields().iter().filter(|found| found.name() != field::OVERFLOW) {
                match fields.iter_mut().find(|known| known.name() == found.name()) {
                    Some(known) if known.data_type() != found.data_type() => {
                        *known = Field::new(found.name(), DataType::Utf8, true);
                    }
                    Some(_) => {}
                    None => fields.push(Field::new(found.name(), found.data_type().clone(), true)),
                }
            }
        }
        let is_open = |input: &&SchemaRef| input.index_of(field::OVERFLOW).is_ok();
        for known in &mut fields {
            // What has no column in an input may be among its other fields, as text.
            if inputs.iter().filter(is_open).any(|input| input.index_of(known.name()).is_err()) {
                *known = Field::new(known.name(), DataType::Utf8, true);
            }
        }
        if inputs.iter().any(|input| is_open(&input)) {
            fields.push(Field::new(field::OVERFLOW, DataType::Utf8, true));
        }
        Self { output: Arc::new(Schema::new(fields)) }
    }
}

impl Stage for Chain {
    fn name(&self) -> &'static str {
        "Chain"
    }

    fn output(&self) -> SchemaRef {
        Arc::clone(&self.output)
    }

    fn run(
        self: Arc<Self>,
        inputs: Vec<SendableRecordBatchStream>,
        _: MemoryReservation,
    ) -> Batches {
        let rows = futures::stream::iter(inputs).flatten();
        rows.map(move |batch| reshaped(&batch?, &self.output)).boxed()
    }
}

/// `batch` in the columns of `output`, which holds all of its fields: in a column, or in `_overflow`.
fn reshaped(batch: &RecordBatch, output: &SchemaRef) -> Result<RecordBatch> {
    let rows = batch.num_rows();
    let spilled = batch
        .column_by_name(field::OVERFLOW)
        .and_then(|column| column.as_string_opt::<i32>())
        .filter(|column| column.null_count() < rows);
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(output.fields().len());
    for wanted in output.fields() {
        let kind = wanted.data_type();
        columns.push(match (batch.column_by_name(wanted.name()), spilled) {
            (_, Some(spilled)) if wanted.name() == field::OVERFLOW => {
                without(spilled, |name| output.index_of(name).is_ok())
            }
            (Some(column), _) => schema::cast_to(column, kind).map_err(not_put_together)?,
            (None, Some(spilled)) if *kind == DataType::Utf8 => taken(spilled, wanted.name()),
            _ => new_null_array(kind, rows),
        });
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(output), columns, &options)
        .map_err(not_put_together)
}

/// The values of a field in texts of `_overflow`.
fn taken(spilled: &StringArray, name: &str) -> ArrayRef {
    let values = spilled.iter().map(|text| overflow::get(text?, name).map(Cow::into_owned));
    Arc::new(values.collect::<StringArray>())
}

/// Texts of `_overflow` without some fields.
pub(crate) fn without(spilled: &StringArray, is_left_out: impl Fn(&str) -> bool) -> ArrayRef {
    let mut out = StringBuilder::new();
    let mut kept = String::new();
    for text in spilled {
        kept.clear();
        overflow::for_each(text.unwrap_or_default(), |name, value| {
            if !is_left_out(name) {
                overflow::append(&mut kept, name, value);
            }
        });
        overflow::close(&mut kept);
        out.append_option((!kept.is_empty()).then_some(&kept));
    }
    Arc::new(out.finish())
}
