//! Rows out of nothing: `generate_sequence`.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::physical_plan::SendableRecordBatchStream;
use futures::StreamExt;
use lodge_record::field;

use super::{Batches, Stage, not_put_together};

/// Rows of a batch.
const BATCH_ROWS: i64 = 8_192;

/// So many rows, each with its number, from 0, as message.
#[derive(Debug)]
pub(crate) struct Sequence {
    /// How many.
    pub(crate) rows: u64,
}

impl Stage for Sequence {
    fn name(&self) -> &'static str {
        "Sequence"
    }

    fn output(&self) -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new(field::MSG, DataType::Int64, true)]))
    }

    fn run(self: Arc<Self>, _: Vec<SendableRecordBatchStream>, _: MemoryReservation) -> Batches {
        let end = i64::try_from(self.rows).unwrap_or(i64::MAX);
        let schema = self.output();
        futures::stream::try_unfold(0, move |next: i64| {
            let schema = Arc::clone(&schema);
            async move {
                if next >= end {
                    return Ok(None);
                }
                // Nothing is waited for here: others must get the thread, and a drop its chance.
                tokio::task::yield_now().await;
                let after = next.saturating_add(BATCH_ROWS).min(end);
                let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(next..after));
                let batch = RecordBatch::try_new(schema, vec![numbers]);
                Ok(Some((batch.map_err(not_put_together)?, after)))
            }
        })
        .boxed()
    }
}
