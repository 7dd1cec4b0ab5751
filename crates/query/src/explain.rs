//! What a query would cost, told without running it.

use std::sync::Arc;

use datafusion::physical_plan::{ExecutionPlan, displayable};
use lodge_store::Snapshot;

use crate::error::QueryError;
use crate::scan::{self, LeafCost};

/// What a plan's leaves are called; all else is done above them.
const LEAVES: [&str; 3] = ["SegmentScan", "SegmentTop", "SegmentAggregate"];

/// A query's plan and what its leaves would read at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// What is read, and what the reading does itself: filters, the newest rows, aggregates.
    pub scans: Vec<LeafCost>,
    /// What is done with what was read, the last step first.
    pub rest: Vec<String>,
    /// The whole plan, indented.
    pub plan: String,
}

/// Explains `plan`, whose tenant has the segments of `all`, where that may be told.
pub(crate) async fn explanation(
    plan: Arc<dyn ExecutionPlan>,
    all: Option<&Snapshot>,
) -> Result<Explanation, QueryError> {
    let scans = scan::leaf_costs(&plan, all).await?;
    let text = displayable(plan.as_ref()).indent(false).to_string();
    let is_leaf = |line: &&str| LEAVES.iter().any(|leaf| line.starts_with(leaf));
    let rest = text.lines().map(str::trim).filter(|line| !line.is_empty() && !is_leaf(line));
    let rest = rest.map(str::to_owned).collect();
    Ok(Explanation { scans, rest, plan: text })
}
