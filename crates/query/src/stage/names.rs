//! Counts of what comes, whatever its values: `field_names`, `blocks_count`.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::physical_plan::SendableRecordBatchStream;
use futures::StreamExt;
use lodge_record::{field, overflow, schema};

use super::facets::too_many_fields;
use super::{Batches, Stage, failed, not_put_together};

/// Most names that are counted.
const NAMES_MAX: usize = 1_000_000;
/// What a counted name takes in memory beside its text.
const NAME_BYTES: usize = 64;

/// How many rows have each field.
#[derive(Debug)]
pub(crate) struct FieldNames;

impl Stage for FieldNames {
    fn name(&self) -> &'static str {
        "FieldNames"
    }

    fn output(&self) -> SchemaRef {
        let name = Field::new("name", DataType::Utf8, true);
        Arc::new(Schema::new(vec![name, Field::new("hits", DataType::Int64, true)]))
    }

    fn run(
        self: Arc<Self>,
        inputs: Vec<SendableRecordBatchStream>,
        mut memory: MemoryReservation,
    ) -> Batches {
        let counted = async move {
            let mut hits = BTreeMap::new();
            let mut rows = futures::stream::iter(inputs).flatten();
            while let Some(batch) = rows.next().await {
                count_names(&batch?, &mut hits, &mut memory)?;
            }
            let hits: Vec<(String, i64)> = hits.into_iter().filter(|(_, hits)| *hits > 0).collect();
            let (names, hits): (Vec<String>, Vec<i64>) = hits.into_iter().unzip();
            let columns: Vec<ArrayRef> =
                vec![Arc::new(StringArray::from(names)), Arc::new(Int64Array::from(hits))];
            RecordBatch::try_new(self.output(), columns).map_err(not_put_together)
        };
        futures::stream::once(counted).boxed()
    }
}

fn count_names(
    batch: &RecordBatch,
    hits: &mut BTreeMap<String, i64>,
    memory: &mut MemoryReservation,
) -> Result<()> {
    let has_id = batch.column_by_name(field::STREAM_ID).is_some();
    let mut add = |name: &str, more: i64| -> Result<()> {
        if let Some(count) = hits.get_mut(name) {
            *count += more;
            return Ok(());
        }
        if hits.len() == NAMES_MAX {
            return Err(failed(too_many_fields("field_names", NAMES_MAX)));
        }
        memory.try_grow(name.len() + NAME_BYTES)?;
        hits.insert(name.to_owned(), more);
        Ok(())
    };
    for (found, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        if found.name() == field::OVERFLOW {
            let mut outcome = Ok(());
            for row in 0..column.len() {
                let Some(text) = schema::value_text(column, row) else { continue };
                overflow::for_each(&text, |name, value| {
                    if outcome.is_ok() && !value.is_empty() {
                        outcome = add(name, 1);
                    }
                });
            }
            outcome?;
            continue;
        }
        let is_set = |row: &usize| schema::value_text(column, *row).is_some_and(|v| !v.is_empty());
        let count = (0..column.len()).filter(is_set).count() as i64;
        add(found.name(), count)?;
        // Every stream has its number, which is no column of its own unless it is asked for.
        if found.name() == field::STREAM && !has_id {
            add(field::STREAM_ID, count)?;
        }
    }
    Ok(())
}

/// How many blocks with rows there are.
#[derive(Debug)]
pub(crate) struct Blocks;

impl Stage for Blocks {
    fn name(&self) -> &'static str {
        "Blocks"
    }

    fn output(&self) -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("blocks_count", DataType::Int64, true)]))
    }

    fn run(
        self: Arc<Self>,
        inputs: Vec<SendableRecordBatchStream>,
        _: MemoryReservation,
    ) -> Batches {
        let counted = async move {
            let mut blocks = 0;
            let mut rows = futures::stream::iter(inputs).flatten();
            while let Some(batch) = rows.next().await {
                blocks += i64::from(batch?.num_rows() > 0);
            }
            let column: ArrayRef = Arc::new(Int64Array::from(vec![blocks]));
            RecordBatch::try_new(self.output(), vec![column]).map_err(not_put_together)
        };
        futures::stream::once(counted).boxed()
    }
}
