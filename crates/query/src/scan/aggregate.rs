//! The leaf that aggregates: one row per group of matching records.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatchOptions};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::runtime::SpawnedTask;
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
use crate::cluster::{self, Failure, Frame, GroupsSent, Out, Work};
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

impl GroupLimit {
    fn check(limit: Option<&Self>, tally: &Tally) -> Result<(), QueryError> {
        match limit {
            Some(limit) if tally.groups() > limit.groups => {
                Err(QueryError::new(QueryErrorKind::BudgetMemory, limit.message.clone()))
            }
            _ => Ok(()),
        }
    }
}

/// The sums of what is read here.
async fn part(
    source: &Source,
    grouping: &Arc<Grouping>,
    partitions: usize,
    pool: &Arc<dyn MemoryPool>,
    limit: Option<GroupLimit>,
) -> Result<Part, QueryError> {
    let start = || {
        let reservation = MemoryConsumer::new("groups").register(pool);
        Ok(Part { tally: Tally::new(grouping)?, reservation })
    };
    let step = move |part: &mut Part, found: &Found| {
        part.tally.add(found)?;
        GroupLimit::check(limit.as_ref(), &part.tally)?;
        part.reservation.try_resize(part.tally.bytes()).map_err(QueryError::from)
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
    whole.map_or_else(start, Ok)
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
    let spread = source.spread(grouping.wanted().is_count());
    let Some((spread, work)) = spread.and_then(|spread| {
        let functions = &spread.parts.first()?.among.functions;
        // What cannot be told to others is done here.
        let sent = GroupsSent::of(grouping, limit.as_ref(), functions).ok()?;
        Some((spread, Work::Groups(sent)))
    }) else {
        let whole = part(source, grouping, partitions, pool, limit).await?;
        return whole.tally.finish(types);
    };
    let asking: Vec<_> = spread
        .parts
        .iter()
        .map(|part| {
            let (of, work, pool) = (part.clone(), work.clone(), Arc::clone(pool));
            (part, SpawnedTask::spawn(async move { of_other(&of, &work, &pool).await }))
        })
        .collect();
    let mut whole = part(&spread.own, grouping, partitions, pool, limit.clone()).await?;
    for (of, asked) in asking {
        match asked.join().await.map_err(crate::engine::died)? {
            Ok(groups) => {
                for part in &groups.batches {
                    whole.tally.absorb(part)?;
                    if let Err(full) = whole.reservation.try_resize(whole.tally.bytes()) {
                        source.control.end_with(full.into())?;
                        break;
                    }
                }
            }
            Err(Failure::Query(error)) => return Err(error),
            Err(Failure::Lost(lost)) => {
                let again = part(&of.source, grouping, partitions, pool, limit.clone());
                let again = of.source.instead(lost, async move { again.await.map(Some) }).await?;
                if let Some(again) = again {
                    whole.tally.merge(again.tally)?;
                    whole.reservation.try_resize(whole.tally.bytes())?;
                }
            }
        }
        GroupLimit::check(limit.as_ref(), &whole.tally)?;
    }
    whole.tally.finish(types)
}

/// The sums of another server, and their memory.
struct OtherGroups {
    batches: Vec<RecordBatch>,
    _reservation: MemoryReservation,
}

/// All sums of another server's part, or none.
async fn of_other(
    part: &cluster::Part,
    work: &Work,
    pool: &Arc<dyn MemoryPool>,
) -> Result<OtherGroups, Failure> {
    let reservation = MemoryConsumer::new("groups of another server").register(pool);
    let mut asked = part.ask(work, pool).await?;
    let mut batches = Vec::new();
    while let Some(frame) = asked.next().await? {
        let Frame::Groups(batch) = frame else {
            let problem = format!("sums were asked for, {frame:?} came");
            return Err(Failure::Query(QueryError::internal(problem)));
        };
        let grown = reservation.try_grow(cluster::bytes_of(&batch));
        if let Err(full) = grown {
            // What has come already fits; a partial answer ends here.
            part.source.control.end_with(full.into()).map_err(Failure::Query)?;
            break;
        }
        batches.push(batch);
    }
    Ok(OtherGroups { batches, _reservation: reservation })
}

/// Gives another server the sums of `source`.
pub(crate) async fn give_groups(
    source: Source,
    grouping: Arc<Grouping>,
    partitions: usize,
    pool: &Arc<dyn MemoryPool>,
    limit: Option<GroupLimit>,
    out: &Out,
) -> Result<(), QueryError> {
    let whole = part(&source, &grouping, partitions, pool, limit).await?;
    for batch in whole.tally.into_parts()? {
        if !out.send(&Frame::Groups(batch)).await? {
            break;
        }
    }
    Ok(())
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
