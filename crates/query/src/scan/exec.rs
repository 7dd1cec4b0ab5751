//! The leaf as a physical plan: matching records in no order, one stream per partition.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::task::Poll;

use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool};
use datafusion::physical_expr::PhysicalSortExpr;
use datafusion::physical_plan::execution_plan::EmissionType;
use datafusion::physical_plan::stream::{RecordBatchReceiverStream, RecordBatchStreamAdapter};
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream};
use futures::{Stream, StreamExt};
use lodge_record::field;

use datafusion::common::runtime::SpawnedTask;
use tokio::sync::mpsc::Sender;

use super::leaf::{Leaf, LeafExec, Reads};
use super::newest::Top;
use super::reader::{Columns, Reader, Wanted, rows_only};
use super::shape::Shape;
use super::{Source, TopByTime, Work};
use crate::cluster::{self, Failure, Frame, Origin, Out, Part, ShapeSent};
use crate::error::QueryError;

/// Rows of a batch that stands for rows nobody looks at.
const COUNT_ROWS: usize = 65_536;
/// Batches of fewer rows are put together before they are handed on.
const GATHER_ROWS: usize = 1_024;
/// … and of fewer bytes.
const GATHER_BYTES: usize = 1 << 20;

/// Scans a source in its partitions.
#[derive(Debug)]
pub(crate) struct Scan {
    source: Source,
    shape: Shape,
    /// Partitions that there may be; of little work there are fewer.
    partitions: usize,
    /// Those that are read here.
    works: Vec<Vec<Work>>,
    /// What others read, each as a partition.
    parts: Vec<Part>,
    limit: Option<usize>,
}

impl Scan {
    pub(super) fn plan(
        source: Source,
        shape: Shape,
        partitions: usize,
        limit: Option<usize>,
    ) -> Arc<LeafExec<Self>> {
        let counting = shape.output().fields().is_empty();
        // Any records: those that are near are enough.
        let spread = if limit.is_none() { source.spread(counting) } else { None };
        let (works, parts) = match spread {
            None => (source.divide(partitions, counting), Vec::new()),
            Some(spread) => (spread.own.divide(partitions, counting), spread.parts),
        };
        let (schema, count) = (shape.output().clone(), works.len() + parts.len());
        let scan = Self { source, shape, partitions, works, parts, limit };
        LeafExec::new(scan, schema, count, EmissionType::Incremental)
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    /// The search for the first rows by time of what it gives, in place of their sort by the column
    /// `time`.
    pub(crate) fn newest(&self, top: TopByTime, time: PhysicalSortExpr) -> Arc<dyn ExecutionPlan> {
        let (source, shape) = (self.source.clone(), self.shape.clone());
        Top::plan_in_order(source, shape, self.partitions, top, time)
    }

    /// What it gives of each record.
    pub(crate) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Whether it gives all matching records.
    pub(crate) fn is_whole(&self) -> bool {
        self.limit.is_none()
    }

    pub(super) fn partitions(&self) -> usize {
        self.partitions
    }
}

/// The same rows in batches of [`GATHER_ROWS`] or [`GATHER_BYTES`], as far as they are there at once:
/// to hand a few rows on to another thread costs more than to find them.
fn gathered(
    mut rows: impl Stream<Item = Result<RecordBatch>> + Unpin,
    schema: SchemaRef,
) -> impl Stream<Item = Result<RecordBatch>> {
    let mut held: Vec<RecordBatch> = Vec::new();
    let (mut held_rows, mut held_bytes) = (0, 0);
    // What is given behind what is held: the end, or an error.
    let mut last: Option<Option<DataFusionError>> = None;
    futures::stream::poll_fn(move |cx| {
        while last.is_none() && held_rows < GATHER_ROWS && held_bytes < GATHER_BYTES {
            match rows.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(batch))) => {
                    held_rows += batch.num_rows();
                    held_bytes += batch.get_array_memory_size();
                    held.push(batch);
                }
                Poll::Ready(Some(Err(error))) => last = Some(Some(error)),
                Poll::Ready(None) => last = Some(None),
                Poll::Pending if held.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        (held_rows, held_bytes) = (0, 0);
        let batches = std::mem::take(&mut held);
        Poll::Ready(match batches.as_slice() {
            [] => match &mut last {
                Some(error) => error.take().map(Err),
                None => None,
            },
            [alone] => Some(Ok(alone.clone())),
            several => Some(concat_batches(&schema, several).map_err(DataFusionError::from)),
        })
    })
}

/// One partition's rows on their way out.
struct Running {
    reader: Reader,
    shape: Shape,
    /// Rows that the limit leaves.
    left: usize,
    /// Rows without columns that were found and are not handed on yet.
    bare: usize,
}

impl Running {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        if self.left == 0 {
            return Ok(None);
        }
        if self.bare == 0 {
            let Some(found) = self.reader.next().await? else { return Ok(None) };
            if !self.shape.output().fields().is_empty() {
                let mut batch = self.shape.apply(&found.batch)?;
                if batch.num_rows() > self.left {
                    batch = batch.slice(0, self.left);
                }
                self.left -= batch.num_rows();
                return Ok(Some(batch));
            }
            self.bare = found.rows;
        }
        let rows = self.bare.min(COUNT_ROWS).min(self.left);
        self.bare -= rows;
        self.left -= rows;
        Ok(Some(rows_only(rows)?))
    }
}

impl Leaf for Scan {
    const NAME: &'static str = "SegmentScan";

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = self.works.iter().flatten().filter(|work| work.is_first()).count();
        let of_others = self.parts.iter().map(|part| part.source.snapshot.segments.len());
        let segments: usize = own + of_others.sum::<usize>();
        let total = self.source.snapshot.segments.len();
        write!(f, "segments={segments}/{total}, filter={}", self.source.predicate)?;
        if let Some(limit) = self.limit {
            write!(f, ", limit={limit}")?;
        }
        Ok(())
    }

    fn reads(&self) -> Reads {
        let does = match self.limit {
            Some(limit) => format!("gives up to {limit} matching records"),
            None => "gives all matching records".to_owned(),
        };
        let wanted = Wanted::of(Columns::Of(self.shape.clone()));
        let may_stop = self.limit.is_some();
        Reads { source: self.source.clone(), wanted, does, may_stop }
    }

    fn rows(&self, partition: usize, context: &TaskContext) -> Result<SendableRecordBatchStream> {
        if let Some(part) = partition.checked_sub(self.works.len()).and_then(|n| self.parts.get(n))
        {
            return Ok(of_other(part.clone(), self.shape.clone(), context.memory_pool().clone()));
        }
        let works = self.works.get(partition).cloned().unwrap_or_default();
        let reservation = MemoryConsumer::new("reading a block").register(context.memory_pool());
        let wanted = Wanted::of(Columns::Of(self.shape.clone()));
        let running = Running {
            reader: Reader::new(self.source.clone(), works, wanted, reservation),
            shape: self.shape.clone(),
            left: self.limit.unwrap_or(usize::MAX),
            bare: 0,
        };
        let rows = futures::stream::try_unfold(running, |mut running| async move {
            let batch = running.next().await?;
            Ok::<_, DataFusionError>(batch.map(|batch| (batch, running)))
        });
        let schema = Arc::clone(self.shape.output());
        // `blocks_count` counts what comes, and asks for nothing but times.
        if let [alone] = schema.fields().as_ref()
            && alone.name() == field::TIME
        {
            return Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)));
        }
        let rows = gathered(Box::pin(rows), Arc::clone(&schema));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}

/// Batches of another server's part that may wait to be taken.
const BATCHES_READY_MAX: usize = 2;

/// The rows of another server's part.
fn of_other(part: Part, shape: Shape, pool: Arc<dyn MemoryPool>) -> SendableRecordBatchStream {
    let schema = shape.output().clone();
    let mut stream = RecordBatchReceiverStream::builder(schema, BATCHES_READY_MAX);
    let sender = stream.tx();
    stream.spawn(async move {
        let rows = OtherRows { part, shape, pool, sender, had: HashSet::new(), bare: 0 };
        Ok(rows.give().await?)
    });
    stream.build()
}

/// Another server's rows on their way.
struct OtherRows {
    part: Part,
    shape: Shape,
    pool: Arc<dyn MemoryPool>,
    sender: Sender<Result<RecordBatch>>,
    /// The blocks whose rows were handed on.
    had: HashSet<Origin>,
    /// Rows without columns, which are handed on once all are known.
    bare: u64,
}

impl OtherRows {
    async fn give(mut self) -> Result<(), QueryError> {
        let lost = match self.ask().await {
            Ok(()) => return self.give_bare().await,
            Err(Failure::Query(error)) => return Err(error),
            Err(Failure::Lost(lost)) => lost,
        };
        let source = self.part.source.clone();
        self.bare = 0;
        source.instead(lost, self.read()).await
    }

    async fn ask(&mut self) -> Result<(), Failure> {
        let shape = ShapeSent::of(&self.shape).map_err(Failure::Query)?;
        let mut asked = self.part.ask(&cluster::Work::Rows(shape), &self.pool).await?;
        while let Some(frame) = asked.next().await? {
            match frame {
                Frame::Rows(origin, batch) => {
                    self.had.insert(origin);
                    if !self.hand_on(batch).await {
                        return Ok(());
                    }
                }
                Frame::Count(_, rows) => self.bare = self.bare.saturating_add(rows),
                other => {
                    let problem = format!("rows were asked for, {other:?} came");
                    return Err(Failure::Query(QueryError::internal(problem)));
                }
            }
        }
        Ok(())
    }

    /// Whether more rows are wanted.
    async fn hand_on(&self, batch: RecordBatch) -> bool {
        self.sender.send(Ok(batch)).await.is_ok()
    }

    async fn give_bare(&self) -> Result<(), QueryError> {
        let mut left = self.bare;
        while left > 0 {
            let rows = left.min(COUNT_ROWS as u64);
            left -= rows;
            if !self.hand_on(rows_only(rows as usize)?).await {
                break;
            }
        }
        Ok(())
    }

    /// Reads here what has not come.
    async fn read(mut self) -> Result<(), QueryError> {
        let source = self.part.source.clone();
        let counting = self.shape.output().fields().is_empty();
        let works = source.divide(1, counting).into_iter().flatten().collect();
        let reservation = MemoryConsumer::new("reading a block").register(&self.pool);
        let wanted = Wanted::of(Columns::Of(self.shape.clone()));
        let had = std::mem::take(&mut self.had);
        let mut reader = Reader::new(source, works, wanted, reservation).without(had);
        while let Some(found) = reader.next().await? {
            if counting {
                self.bare = self.bare.saturating_add(found.rows as u64);
            } else if !self.hand_on(self.shape.apply(&found.batch)?).await {
                return Ok(());
            }
        }
        self.give_bare().await
    }
}

/// Gives another server the rows of `source`.
pub(crate) async fn give_rows(
    source: Source,
    shape: Shape,
    partitions: usize,
    pool: &Arc<dyn MemoryPool>,
    out: &Out,
) -> Result<(), QueryError> {
    let counting = shape.output().fields().is_empty();
    let mut giving = Vec::new();
    for works in source.divide(partitions, counting) {
        let reservation = MemoryConsumer::new("reading a block").register(pool);
        let wanted = Wanted::of(Columns::Of(shape.clone()));
        let mut reader = Reader::new(source.clone(), works, wanted, reservation);
        let (shape, out) = (shape.clone(), out.clone());
        giving.push(SpawnedTask::spawn(async move {
            while let Some(found) = reader.next().await? {
                let origin = Origin { segment: found.segment.id.0, block: found.block };
                let frame = match counting {
                    true => Frame::Count(origin, found.rows as u64),
                    false => Frame::Rows(origin, shape.apply(&found.batch)?),
                };
                if !out.send(&frame).await? {
                    break;
                }
            }
            Ok::<_, QueryError>(())
        }));
    }
    for part in giving {
        part.join().await.map_err(crate::engine::died)??;
    }
    Ok(())
}
