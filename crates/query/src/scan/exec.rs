//! The leaf as a physical plan: matching records in no order, one stream per partition.

use std::fmt;
use std::sync::Arc;
use std::task::Poll;

use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::physical_expr::PhysicalSortExpr;
use datafusion::physical_plan::execution_plan::EmissionType;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream};
use futures::{Stream, StreamExt};

use super::leaf::{Leaf, LeafExec, Reads};
use super::newest::Top;
use super::reader::{Columns, Reader, Wanted, rows_only};
use super::shape::Shape;
use super::{Source, TopByTime, Work};

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
    works: Vec<Vec<Work>>,
    limit: Option<usize>,
}

impl Scan {
    pub(super) fn plan(
        source: Source,
        shape: Shape,
        partitions: usize,
        limit: Option<usize>,
    ) -> Arc<LeafExec<Self>> {
        let works = source.divide(partitions, shape.output().fields().is_empty());
        let (schema, parts) = (shape.output().clone(), works.len());
        let scan = Self { source, shape, partitions, works, limit };
        LeafExec::new(scan, schema, parts, EmissionType::Incremental)
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
        let segments: usize = self.works.iter().flatten().filter(|work| work.is_first()).count();
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
        let schema = self.shape.output();
        let rows = gathered(Box::pin(rows), Arc::clone(schema));
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), rows)))
    }
}
