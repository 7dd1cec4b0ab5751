//! A stage as a step of a physical plan.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::execution::context::QueryPlanner;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{LogicalPlan, UserDefinedLogicalNode};
use datafusion::physical_expr::{Distribution, PhysicalExpr};
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering, OrderingRequirements};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning,
    PlanProperties, SendableRecordBatchStream,
};
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};

use super::{Stage, StageNode};

/// Plans stages, and everything else as DataFusion does.
#[derive(Debug)]
pub(crate) struct StagePlanner;

#[async_trait]
impl QueryPlanner for StagePlanner {
    async fn create_physical_plan(
        &self,
        plan: &LogicalPlan,
        session: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let planner = DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(Self)]);
        planner.create_physical_plan(plan, session).await
    }
}

#[async_trait]
impl ExtensionPlanner for StagePlanner {
    async fn plan_extension(
        &self,
        _: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _: &[&LogicalPlan],
        inputs: &[Arc<dyn ExecutionPlan>],
        _: &dyn Session,
        _: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(node) = node.as_any().downcast_ref::<StageNode>() else { return Ok(None) };
        let stage = Arc::clone(&node.stage);
        Ok(Some(Arc::new(StageExec::planned(stage, inputs.to_vec()))))
    }
}

/// Runs a stage over its inputs.
#[derive(Debug)]
struct StageExec {
    stage: Arc<dyn Stage>,
    inputs: Vec<Arc<dyn ExecutionPlan>>,
    /// The order in which each input came when the plan was made. It has to stay: to DataFusion an
    /// order that no step asks for is one that may go.
    orders: Vec<Option<LexOrdering>>,
    properties: Arc<PlanProperties>,
}

impl StageExec {
    fn planned(stage: Arc<dyn Stage>, inputs: Vec<Arc<dyn ExecutionPlan>>) -> Self {
        let orders = inputs.iter().map(|input| input.output_ordering().cloned()).collect();
        Self::new(stage, inputs, orders)
    }

    fn new(
        stage: Arc<dyn Stage>,
        inputs: Vec<Arc<dyn ExecutionPlan>>,
        orders: Vec<Option<LexOrdering>>,
    ) -> Self {
        let is_divided = stage.is_divisible() && orders.iter().all(Option::is_none);
        let parts = match inputs.first() {
            Some(input) if is_divided => input.output_partitioning().partition_count(),
            _ => 1,
        };
        let schema = match inputs.first() {
            Some(input) if stage.is_identity() => input.schema(),
            _ => stage.output(),
        };
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(parts),
            EmissionType::Incremental,
            Boundedness::Bounded,
        ));
        Self { stage, inputs, orders, properties }
    }

    fn is_divided(&self) -> bool {
        self.stage.is_divisible() && self.orders.iter().all(Option::is_none)
    }
}

impl DisplayAs for StageExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stage: {}", self.stage.name())
    }
}

impl ExecutionPlan for StageExec {
    fn name(&self) -> &str {
        self.stage.name()
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.inputs.iter().collect()
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        let each = match self.is_divided() {
            true => Distribution::UnspecifiedDistribution,
            false => Distribution::SinglePartition,
        };
        vec![each; self.inputs.len()]
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        let required = |order: &Option<LexOrdering>| order.clone().map(OrderingRequirements::from);
        self.orders.iter().map(required).collect()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![false; self.inputs.len()]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        // To deal rows out anew would take them out of their order.
        vec![false; self.inputs.len()]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        inputs: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::new(Arc::clone(&self.stage), inputs, self.orders.clone())))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let name = self.stage.name();
        if partition >= self.properties.partitioning.partition_count() {
            return Err(DataFusionError::Internal(format!("{name} has no part {partition}")));
        }
        let input = |plan: &Arc<dyn ExecutionPlan>| plan.execute(partition, Arc::clone(&context));
        let inputs = self.inputs.iter().map(input).collect::<Result<Vec<_>>>()?;
        let memory = MemoryConsumer::new(name).register(context.memory_pool());
        let rows = Arc::clone(&self.stage).run(inputs, memory);
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }
}
