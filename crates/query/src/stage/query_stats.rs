//! What the query has done until its rows were there: `query_stats`.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::physical_plan::SendableRecordBatchStream;
use futures::StreamExt;

use super::{Batches, Stage, not_put_together};
use crate::budget::QueryControl;

/// Tells what the query has read, in the words of VictoriaLogs.
#[derive(Debug)]
pub(crate) struct QueryStats(pub(crate) Arc<QueryControl>);

impl Stage for QueryStats {
    fn name(&self) -> &'static str {
        "QueryStats"
    }

    fn output(&self) -> SchemaRef {
        let names = [
            "BytesReadTotal",
            "BlocksProcessed",
            "RowsProcessed",
            "RowsFound",
            "QueryDurationNsecs",
        ];
        let number = |name| Field::new(name, DataType::Int64, true);
        Arc::new(Schema::new(names.map(number).to_vec()))
    }

    fn run(
        self: Arc<Self>,
        inputs: Vec<SendableRecordBatchStream>,
        _: MemoryReservation,
    ) -> Batches {
        let told = async move {
            let mut rows = futures::stream::iter(inputs).flatten();
            while let Some(batch) = rows.next().await {
                batch?;
            }
            let done = self.0.done();
            let numbers = [done.bytes, done.blocks, done.rows, done.rows_found, done.elapsed_ns];
            let column = |number: u64| -> ArrayRef {
                Arc::new(Int64Array::from(vec![i64::try_from(number).unwrap_or(i64::MAX)]))
            };
            let columns = numbers.map(column).to_vec();
            RecordBatch::try_new(self.output(), columns).map_err(not_put_together)
        };
        futures::stream::once(told).boxed()
    }
}
