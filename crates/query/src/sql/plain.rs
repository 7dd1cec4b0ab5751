//! Which statements are so plain that few of the optimizer's rules have anything to do for them.
//!
//! Most questions about logs filter, group, sort and cut off one table. For those, the many rules for
//! joins, subqueries, unions and windows would only look through the plan in vain, again and again:
//! for a small question that takes longer than the answer.
//!
//! Invariant: a plan is plain only if the rules that are left out would not change its answer, nor
//! keep the leaf from doing what it can.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::{Analyze, Distinct, Explain, Expr, Filter, LogicalPlan};

/// Whether few rules do for `plan`.
pub(crate) fn is_plain(plan: &LogicalPlan) -> Result<bool> {
    let plan = match plan {
        LogicalPlan::Explain(Explain { plan, .. }) => plan.as_ref(),
        LogicalPlan::Analyze(Analyze { input, .. }) => input.as_ref(),
        plan => plan,
    };
    let mut is_plain = true;
    plan.apply(|node| {
        is_plain = is_plain && is_plain_step(node) && has_plain_expressions(node)?;
        Ok(if is_plain { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(is_plain)
}

fn is_plain_step(step: &LogicalPlan) -> bool {
    match step {
        // What is asked of a query's results may become simpler once it is asked of the table, which
        // takes one look more.
        LogicalPlan::Filter(Filter { input, .. }) => match input.as_ref() {
            LogicalPlan::SubqueryAlias(alias) => is_table(&alias.input),
            LogicalPlan::Aggregate(_) => true,
            input => is_table(input),
        },
        LogicalPlan::Projection(_)
        | LogicalPlan::Aggregate(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Limit(_)
        | LogicalPlan::Distinct(Distinct::All(_))
        | LogicalPlan::SubqueryAlias(_) => true,
        step => is_table(step),
    }
}

fn is_table(step: &LogicalPlan) -> bool {
    matches!(step, LogicalPlan::TableScan(_))
}

fn has_plain_expressions(step: &LogicalPlan) -> Result<bool> {
    let mut is_plain = true;
    step.apply_expressions(|expression| {
        expression.apply(|part| {
            is_plain = is_plain
                && !matches!(
                    part,
                    Expr::Exists(_)
                        | Expr::InSubquery(_)
                        | Expr::ScalarSubquery(_)
                        | Expr::SetComparison(_)
                        | Expr::OuterReferenceColumn(..)
                        | Expr::GroupingSet(_)
                        | Expr::Unnest(_)
                        | Expr::WindowFunction(_)
                        | Expr::Placeholder(_)
                );
            Ok(if is_plain { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
        })
    })?;
    Ok(is_plain)
}
