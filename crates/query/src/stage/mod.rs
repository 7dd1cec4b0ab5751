//! Steps of a plan that DataFusion has not: batches in, batches out.
//!
//! ```text
//!  pipe ─► Stage ─► StageNode (logical) ─ StagePlanner ─► StageExec (physical) ─► Stage::run
//! ```
//!
//! Invariants:
//! - a stage sees its input in the order that the pipe before it made, if it made one, and the order
//!   that a stage makes is not taken apart by what comes after it;
//! - what a stage holds beyond one batch is reserved in the query's memory first;
//! - a stage that makes more than it gets yields between its batches, so that a dropped stream ends it.

mod chain;
mod exec;
mod facets;
mod join;
mod names;
mod ordered;
mod query_stats;
mod running;
mod sequence;

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::{DFSchema, DFSchemaRef};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::prelude::DataFrame;
use futures::stream::BoxStream;

use crate::error::QueryError;

pub(crate) use chain::{Chain, without};
pub(crate) use exec::StagePlanner;
pub(crate) use facets::Facets;
pub(crate) use join::Join;
pub(crate) use names::{Blocks, FieldNames};
pub(crate) use ordered::Ordered;
pub(crate) use query_stats::QueryStats;
pub(crate) use running::Running;
pub(crate) use sequence::Sequence;

/// What a stage gives, batch by batch.
pub(crate) type Batches = BoxStream<'static, Result<RecordBatch>>;

/// One step over batches.
pub(crate) trait Stage: fmt::Debug + Send + Sync + 'static {
    /// Its name in a printed plan, and that of what it holds in memory.
    fn name(&self) -> &'static str;

    /// The columns of what it gives.
    fn output(&self) -> SchemaRef;

    /// Whether it may be run on each part of its input alone.
    fn is_divisible(&self) -> bool {
        false
    }

    /// Whether it gives its input as it is, at another time.
    fn is_identity(&self) -> bool {
        false
    }

    /// Begins to work on `inputs`, as many as it was planned over.
    fn run(
        self: Arc<Self>,
        inputs: Vec<SendableRecordBatchStream>,
        memory: MemoryReservation,
    ) -> Batches;
}

/// The columns that `frame` gives.
pub(crate) fn schema_of(frame: &DataFrame) -> SchemaRef {
    Arc::new(Schema::new(frame.schema().fields().clone()))
}

/// `stage` over `frame`.
pub(crate) fn over(frame: DataFrame, stage: Arc<dyn Stage>) -> Result<DataFrame, QueryError> {
    over_all(frame, Vec::new(), stage)
}

/// `stage` over `frame` and, behind it, `more`.
pub(crate) fn over_all(
    frame: DataFrame,
    more: Vec<DataFrame>,
    stage: Arc<dyn Stage>,
) -> Result<DataFrame, QueryError> {
    let (state, first) = frame.into_parts();
    let mut inputs = vec![first];
    inputs.extend(more.into_iter().map(|frame| frame.into_parts().1));
    let plan = StageNode::plan(stage, inputs)?;
    Ok(DataFrame::new(state, plan))
}

/// `stage` in the place of `frame`, which is not looked at.
pub(crate) fn alone(frame: DataFrame, stage: Arc<dyn Stage>) -> Result<DataFrame, QueryError> {
    leaf(frame.into_parts().0, stage)
}

/// `stage` over nothing.
pub(crate) fn leaf(state: SessionState, stage: Arc<dyn Stage>) -> Result<DataFrame, QueryError> {
    let plan = StageNode::plan(stage, Vec::new())?;
    Ok(DataFrame::new(state, plan))
}

/// A stage as a step of a logical plan.
#[derive(Debug, Clone)]
pub(crate) struct StageNode {
    stage: Arc<dyn Stage>,
    inputs: Vec<LogicalPlan>,
    schema: DFSchemaRef,
}

impl StageNode {
    fn plan(stage: Arc<dyn Stage>, inputs: Vec<LogicalPlan>) -> Result<LogicalPlan> {
        let node = Arc::new(Self::new(stage, inputs)?);
        Ok(LogicalPlan::Extension(Extension { node }))
    }

    fn new(stage: Arc<dyn Stage>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let schema = match inputs.first() {
            // Its input may lose columns that nobody wants.
            Some(input) if stage.is_identity() => Arc::clone(input.schema()),
            _ => Arc::new(DFSchema::try_from(stage.output().as_ref().clone())?),
        };
        Ok(Self { stage, inputs, schema })
    }
}

impl PartialEq for StageNode {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.stage, &other.stage) && self.inputs == other.inputs
    }
}

impl Eq for StageNode {}

impl PartialOrd for StageNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl Hash for StageNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.stage.name().hash(state);
        self.inputs.hash(state);
    }
}

impl UserDefinedLogicalNodeCore for StageNode {
    fn name(&self) -> &str {
        self.stage.name()
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        self.inputs.iter().collect()
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.stage.name())
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        Self::new(Arc::clone(&self.stage), inputs)
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        self.stage.is_identity().then(|| vec![output_columns.to_vec()])
    }

    fn supports_limit_pushdown(&self) -> bool {
        self.stage.is_identity()
    }
}

/// A failure of a stage as DataFusion carries it.
fn failed(error: impl Into<QueryError>) -> DataFusionError {
    DataFusionError::from(error.into())
}

/// Columns of a stage that could not be put together, which is a fault of ours.
fn not_put_together(error: arrow::error::ArrowError) -> DataFusionError {
    failed(QueryError::internal(format!("rows could not be put together: {error}")))
}
