//! The leaf that aggregates: one row per group of matching records.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatchOptions};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::physical_plan::execution_plan::EmissionType;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream};
use futures::{TryStreamExt, stream};
use lodge_record::schema;
use tokio::runtime::Handle;

use super::Source;
use super::exec::Scan;
use super::fold::{fold, on_runtime};
use super::leaf::{Leaf, LeafExec, Reads};
use super::reader::{Found, arrow_error};
use super::tally::{Grouping, Key, Tally};
use crate::engine::Admitted;
use crate::error::{QueryError, QueryErrorKind};

/// Rows of a batch handed on.
const BATCH_ROWS: usize = 8192;

/// Aggregates what a scan would give.
#[derive(Debug)]
pub(crate) struct Aggregate {
    source: Source,
    grouping: Arc<Grouping>,
    partitions: usize,
    schema: SchemaRef,
}

impl Aggregate {
    /// In place of an aggregation, with the columns `schema`, over `scan`.
    pub(crate) fn plan(
        scan: &Scan,
        grouping: Grouping,
        schema: SchemaRef,
    ) -> Arc<dyn ExecutionPlan> {
        let leaf = Self {
            source: scan.source().clone(),
            grouping: Arc::new(grouping),
            partitions: scan.partitions(),
            schema: schema.clone(),
        };
        LeafExec::new(leaf, schema, 1, EmissionType::Final)
    }
}

impl Leaf for Aggregate {
    const NAME: &'static str = "SegmentAggregate";

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (keys, functions) = (self.grouping.keys.len(), self.grouping.functions.len());
        write!(f, "keys={keys}, functions={functions}, filter={}", self.source.predicate)
    }

    fn reads(&self) -> Reads {
        let (keys, functions) = (self.grouping.keys.len(), self.grouping.functions.len());
        let does = match keys {
            0 => format!("aggregates matching records ({functions} functions)"),
            _ => format!("groups matching records by {keys} keys ({functions} functions)"),
        };
        let (source, wanted) = (self.source.clone(), self.grouping.wanted());
        Reads { source, wanted, does, may_stop: false }
    }

    fn rows(&self, _: usize, context: &TaskContext) -> Result<SendableRecordBatchStream> {
        let (source, grouping) = (self.source.clone(), self.grouping.clone());
        let (partitions, schema) = (self.partitions, self.schema.clone());
        let pool = context.memory_pool().clone();
        let work = async move {
            let batch = aggregate(&source, &grouping, partitions, &pool, &schema).await?;
            let pieces = (0..batch.num_rows())
                .step_by(BATCH_ROWS)
                .map(move |from| Ok(batch.slice(from, BATCH_ROWS.min(batch.num_rows() - from))));
            Ok::<_, DataFusionError>(stream::iter(pieces.collect::<Vec<_>>()))
        };
        let rows = stream::once(work).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), rows)))
    }
}

/// A part's sums, and its memory.
struct Part {
    tally: Tally,
    reservation: MemoryReservation,
}

/// More groups than `groups` are an error.
#[derive(Debug, Clone)]
pub(crate) struct GroupLimit {
    pub(crate) groups: usize,
    /// What the error says.
    pub(crate) message: String,
}

/// One row per group, as [`Tally::finish`] gives it.
async fn sums(
    source: &Source,
    grouping: &Arc<Grouping>,
    partitions: usize,
    pool: &Arc<dyn MemoryPool>,
    types: &[DataType],
    limit: Option<GroupLimit>,
) -> Result<Vec<ArrayRef>, QueryError> {
    let start = || {
        let reservation = MemoryConsumer::new("groups").register(pool);
        Ok(Part { tally: Tally::new(grouping)?, reservation })
    };
    let step = move |part: &mut Part, found: &Found| {
        part.tally.add(found)?;
        match &limit {
            Some(limit) if part.tally.groups() > limit.groups => {
                Err(QueryError::new(QueryErrorKind::BudgetMemory, limit.message.clone()))
            }
            _ => part.reservation.try_resize(part.tally.bytes()).map_err(QueryError::from),
        }
    };
    let parts = fold(source, partitions, pool, &grouping.wanted(), start, step).await?;
    let mut whole: Option<Part> = None;
    for part in parts {
        match &mut whole {
            None => whole = Some(part),
            Some(whole) => {
                whole.tally.merge(part.tally)?;
                whole.reservation.try_resize(whole.tally.bytes())?;
            }
        }
    }
    match whole {
        Some(part) => part.tally.finish(types),
        None => Tally::new(grouping)?.finish(types),
    }
}

/// How many matching records there are of each combination of `keys`: their columns, then the count.
/// No columns at all if the time was over before anything was counted.
pub(crate) async fn counts(
    runtime: &Handle,
    admitted: &Admitted,
    source: Source,
    keys: Vec<Key>,
    limit: GroupLimit,
) -> Result<Vec<ArrayRef>, QueryError> {
    let (partitions, pool) = (admitted.partitions, admitted.memory());
    let control = source.control.clone();
    let work = async move {
        let grouping = Arc::new(Grouping::counting(keys));
        sums(&source, &grouping, partitions, &pool, &[], Some(limit)).await
    };
    on_runtime(runtime, &control, work).await
}

async fn aggregate(
    source: &Source,
    grouping: &Arc<Grouping>,
    partitions: usize,
    pool: &Arc<dyn MemoryPool>,
    schema: &SchemaRef,
) -> Result<RecordBatch, QueryError> {
    let types: Vec<DataType> =
        schema.fields().iter().map(|field| field.data_type().clone()).collect();
    let columns = sums(source, grouping, partitions, pool, &types, None).await?;
    let rows = columns.first().map_or(0, |column| column.len());
    let columns = schema
        .fields()
        .iter()
        .zip(&columns)
        .map(|(field, column)| schema::cast_to(column, field.data_type()).map_err(arrow_error))
        .collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options).map_err(arrow_error)
}
