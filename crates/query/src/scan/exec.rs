//! The leaf as a physical plan: matching records in no order, one stream per partition.

use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
    SendableRecordBatchStream,
};

use super::reader::{Columns, Reader};
use super::shape::Shape;
use super::{Source, Work};

/// Scans a source in its partitions.
#[derive(Debug)]
pub(super) struct ScanExec {
    source: Source,
    shape: Shape,
    works: Vec<Vec<Work>>,
    limit: Option<usize>,
    properties: Arc<PlanProperties>,
}

impl ScanExec {
    pub(super) fn new(
        source: Source,
        shape: Shape,
        partitions: usize,
        limit: Option<usize>,
    ) -> Self {
        let works = source.divide(partitions, shape.output().fields().is_empty());
        let properties = properties(&shape, works.len(), EmissionType::Incremental);
        Self { source, shape, works, limit, properties }
    }
}

/// What DataFusion must know of a leaf that gives `shape` in no order.
pub(super) fn properties(
    shape: &Shape,
    partitions: usize,
    emission: EmissionType,
) -> Arc<PlanProperties> {
    Arc::new(PlanProperties::new(
        EquivalenceProperties::new(shape.output().clone()),
        Partitioning::UnknownPartitioning(partitions),
        emission,
        Boundedness::Bounded,
    ))
}

impl DisplayAs for ScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let segments: usize = self.works.iter().flatten().filter(|work| work.part == 0).count();
        let total = self.source.snapshot.segments.len();
        write!(f, "SegmentScan: segments={segments}/{total}, filter={}", self.source.predicate)?;
        if let Some(limit) = self.limit {
            write!(f, ", limit={limit}")?;
        }
        Ok(())
    }
}

impl ExecutionPlan for ScanExec {
    fn name(&self) -> &str {
        "SegmentScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let Some(works) = self.works.get(partition) else {
            return Err(DataFusionError::Internal(format!("SegmentScan has no part {partition}")));
        };
        let reservation = MemoryConsumer::new("reading a block").register(context.memory_pool());
        let columns = Columns::Of(self.shape.clone());
        let reader = Reader::new(self.source.clone(), works.clone(), columns, reservation);
        let left = self.limit.unwrap_or(usize::MAX);
        let shape = self.shape.clone();
        let rows = futures::stream::try_unfold((reader, left), move |(mut reader, left)| {
            let shape = shape.clone();
            async move {
                if left == 0 {
                    return Ok(None);
                }
                let Some(found) = reader.next().await? else {
                    return Ok(None);
                };
                let mut batch = shape.apply(&found.batch)?;
                if batch.num_rows() > left {
                    batch = batch.slice(0, left);
                }
                let left = left - batch.num_rows();
                Ok::<_, DataFusionError>(Some((batch, (reader, left))))
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.shape.output().clone(), rows)))
    }
}
