//! Rows in the order in which they are: keeps DataFusion from dropping a sort that none of its own
//! steps asks for.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::physical_plan::SendableRecordBatchStream;
use futures::StreamExt;

use super::{Batches, Stage};

/// Gives what it gets.
#[derive(Debug)]
pub(crate) struct Ordered(pub(crate) SchemaRef);

impl Stage for Ordered {
    fn name(&self) -> &'static str {
        "Ordered"
    }

    fn output(&self) -> SchemaRef {
        Arc::clone(&self.0)
    }

    fn is_identity(&self) -> bool {
        true
    }

    fn run(
        self: Arc<Self>,
        inputs: Vec<SendableRecordBatchStream>,
        _: MemoryReservation,
    ) -> Batches {
        futures::stream::iter(inputs).flatten().boxed()
    }
}
