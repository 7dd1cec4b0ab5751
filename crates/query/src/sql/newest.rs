//! `ORDER BY _time DESC LIMIT n` as the leaf's search for the newest (or oldest) rows, which stops
//! early.
//!
//! Invariant: the leaf takes the sort's place only where it gives as many rows in the same order, equal
//! times aside; it says so to DataFusion, so that nothing above it sorts again or loses the order.

use std::sync::Arc;

use arrow::compute::SortOptions;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::physical_expr::PhysicalSortExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use lodge_record::field;

use crate::scan::{self, TopByTime};

/// Beyond so many rows it is as well to read everything.
const ROWS_MAX: usize = 100_000;

/// The optimizer's rule.
#[derive(Debug)]
pub(crate) struct NewestRows;

impl PhysicalOptimizerRule for NewestRows {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let replace = |node: Arc<dyn ExecutionPlan>| {
            Ok(match searched(&node)? {
                Some(sorted) => Transformed::yes(sorted),
                None => Transformed::no(node),
            })
        };
        Ok(plan.transform_up(replace)?.data)
    }

    fn name(&self) -> &str {
        "NewestRows"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The search that does what `node` does, if it is a sort by time alone that keeps some rows.
fn searched(node: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(sort) = node.downcast_ref::<SortExec>() else { return Ok(None) };
    let Some(rows) = sort.fetch().filter(|rows| *rows <= ROWS_MAX) else { return Ok(None) };
    let mut keys = sort.expr().iter();
    let (Some(key), None) = (keys.next(), keys.next()) else { return Ok(None) };
    let Some(column) = key.expr.downcast_ref::<Column>() else { return Ok(None) };
    let top = TopByTime { rows, newest: key.options.descending };
    over_top(sort.input(), column.index(), top, key.options)
}

/// `plan` over the leaf's search, if the column at `place` is the time of a scan's records.
fn over_top(
    plan: &Arc<dyn ExecutionPlan>,
    place: usize,
    top: TopByTime,
    options: SortOptions,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        let projected = projection.expr().get(place);
        let column = projected.and_then(|projected| projected.expr.downcast_ref::<Column>());
        let Some(column) = column else { return Ok(None) };
        return match over_top(projection.input(), column.index(), top, options)? {
            Some(input) => replace_children_if_necessary(Arc::clone(plan), vec![input]).map(Some),
            None => Ok(None),
        };
    }
    let Some(scan) = scan::as_scan(plan.as_ref()).filter(|scan| scan.is_whole()) else {
        return Ok(None);
    };
    let is_time =
        scan.shape().output().fields().get(place).is_some_and(|f| f.name() == field::TIME);
    let time = Arc::new(Column::new(field::TIME, place));
    Ok(is_time.then(|| scan.newest(top, PhysicalSortExpr::new(time, options))))
}
