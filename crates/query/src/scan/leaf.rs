//! What all leaves of a physical plan have in common: no inputs, an end, and mostly no order.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
    SendableRecordBatchStream,
};

use super::Source;
use super::reader::Wanted;

/// What a leaf reads, for who wants to know before it does.
#[derive(Debug, Clone)]
pub(super) struct Reads {
    pub(super) source: Source,
    /// What of matching records.
    pub(super) wanted: Wanted,
    /// What it does with them, for people.
    pub(super) does: String,
    /// Whether it may stop before it has read all of this.
    pub(super) may_stop: bool,
}

/// One way to read a source.
pub(super) trait Leaf: fmt::Debug + Send + Sync + 'static {
    /// Its name in a printed plan.
    const NAME: &'static str;

    /// Its line in a printed plan.
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;

    /// What it reads.
    fn reads(&self) -> Reads;

    /// The rows of one partition, which exists.
    fn rows(&self, partition: usize, context: &TaskContext) -> Result<SendableRecordBatchStream>;
}

/// A leaf as DataFusion knows it.
#[derive(Debug)]
pub(super) struct LeafExec<L> {
    pub(super) leaf: L,
    properties: Arc<PlanProperties>,
}

impl<L: Leaf> LeafExec<L> {
    pub(super) fn new(
        leaf: L,
        schema: SchemaRef,
        partitions: usize,
        emission: EmissionType,
    ) -> Arc<Self> {
        Self::with(leaf, EquivalenceProperties::new(schema), partitions, emission)
    }

    /// A leaf of one part whose rows come at the end, in the order `by`.
    pub(super) fn in_order(leaf: L, schema: SchemaRef, by: PhysicalSortExpr) -> Arc<Self> {
        let order = EquivalenceProperties::new_with_orderings(schema, [[by]]);
        Self::with(leaf, order, 1, EmissionType::Final)
    }

    fn with(
        leaf: L,
        rows: EquivalenceProperties,
        partitions: usize,
        emission: EmissionType,
    ) -> Arc<Self> {
        let partitioning = Partitioning::UnknownPartitioning(partitions);
        let properties = PlanProperties::new(rows, partitioning, emission, Boundedness::Bounded);
        Arc::new(Self { leaf, properties: Arc::new(properties) })
    }
}

impl<L: Leaf> DisplayAs for LeafExec<L> {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", L::NAME)?;
        self.leaf.describe(f)
    }
}

impl<L: Leaf> ExecutionPlan for LeafExec<L> {
    fn name(&self) -> &str {
        L::NAME
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
        if partition >= self.properties.partitioning.partition_count() {
            let name = L::NAME;
            return Err(DataFusionError::Internal(format!("{name} has no part {partition}")));
        }
        self.leaf.rows(partition, &context)
    }
}
