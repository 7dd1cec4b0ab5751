//! `count(DISTINCT field)` as one aggregate over the table, where the leaf counts different values
//! itself.
//!
//! DataFusion makes it a group for each value and counts the groups: every value then becomes a row of
//! text. The leaf keeps identifiers as numbers and other texts once, and gives their number alone.

use arrow::datatypes::DataType;
use datafusion::common::ExprSchema;
use datafusion::common::tree_node::Transformed;
use datafusion::error::Result;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan};
use datafusion::optimizer::single_distinct_to_groupby::SingleDistinctToGroupBy;
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use lodge_record::field;

/// DataFusion's rule, but for what the leaf does.
#[derive(Debug, Default)]
pub(crate) struct DistinctToGroups(SingleDistinctToGroupBy);

impl OptimizerRule for DistinctToGroups {
    fn name(&self) -> &str {
        "distinct_to_groups"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        match &plan {
            LogicalPlan::Aggregate(aggregate) if is_of_leaf(aggregate) => Ok(Transformed::no(plan)),
            _ => self.0.rewrite(plan, config),
        }
    }
}

/// Whether the leaf can do it, without keys and straight over the table. If it should not come to that
/// after all, the answer is the same.
fn is_of_leaf(aggregate: &Aggregate) -> bool {
    let is_counted = |expression: &Expr| {
        let Expr::Column(column) = expression else { return false };
        let stored = aggregate.input.schema().field_from_column(column);
        let is_plain = stored.is_ok_and(|stored| {
            matches!(stored.data_type(), DataType::Utf8 | DataType::Int64 | DataType::Boolean)
        });
        is_plain && column.name() != field::OVERFLOW
    };
    let is_known = |expression: &Expr| match expression {
        Expr::AggregateFunction(AggregateFunction { func, params }) if params.distinct => {
            func.name() == "count" && params.args.len() == 1 && params.args.iter().all(is_counted)
        }
        _ => true,
    };
    aggregate.group_expr.is_empty()
        && aggregate.aggr_expr.iter().all(is_known)
        && is_whole_table(&aggregate.input)
}

fn is_whole_table(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => is_whole_table(&alias.input),
        LogicalPlan::TableScan(scan) => scan.fetch.is_none(),
        _ => false,
    }
}
