//! Turns an aggregation straight over a scan into one leaf.
//!
//! ```text
//!  Aggregate(final) ─ Aggregate(partial) ─ [Projection] ─ SegmentScan   ⇒   SegmentAggregate
//! ```
//!
//! Invariants:
//! - only where every key is a text, integer or boolean field, a text made from one such field alone,
//!   a bucket of `_time` or a constant, and every function can keep many groups at once; anything else
//!   stays as it is;
//! - the leaf's answer is that of the plan it replaces, the order of rows aside.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, new_null_array};
use arrow::datatypes::{DataType, IntervalMonthDayNanoType, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::common::ScalarValue;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_expr_common::physical_expr::is_volatile;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::projection::ProjectionExec;
use lodge_record::field;
use lodge_segment::predicate::DAY_NS;

use super::buckets::{WEEK_NS, WEEK_OFFSET_NS};
use super::functions::{bucket_of, is_pattern, is_tuple};
use super::quantile::is_quantile;
use crate::logsql::Bucket;
use crate::scan::{self, Aggregate, Function, Grouping, Key, TextOf, Through};

const SECOND_NS: i64 = 1_000_000_000;

/// The optimizer's rule.
#[derive(Debug)]
pub(crate) struct SegmentAggregation;

impl PhysicalOptimizerRule for SegmentAggregation {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let replace = |node: Arc<dyn ExecutionPlan>| {
            Ok(match replacement(&node)? {
                Some(leaf) => Transformed::yes(leaf),
                None => Transformed::no(node),
            })
        };
        Ok(plan.transform_up(replace)?.data)
    }

    fn name(&self) -> &str {
        "SegmentAggregation"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The leaf that does what `node` and all beneath it do.
fn replacement(node: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(last) = node.downcast_ref::<AggregateExec>() else { return Ok(None) };
    let Some(first) = last.input().downcast_ref::<AggregateExec>() else { return Ok(None) };
    let modes = (last.mode(), first.mode());
    let (AggregateMode::Final | AggregateMode::FinalPartitioned, AggregateMode::Partial) = modes
    else {
        return Ok(None);
    };
    let projection = first.input().downcast_ref::<ProjectionExec>();
    let input = projection.map_or(first.input(), ProjectionExec::input);
    let Some(scan) = scan::as_scan(input.as_ref()).filter(|scan| scan.is_whole()) else {
        return Ok(None);
    };
    let by = first.group_expr();
    if by.has_grouping_set() || last.limit_options().is_some() {
        return Ok(None);
    }
    let over_scan = |expression: &Arc<dyn PhysicalExpr>| inlined(expression, projection);
    let schema = scan.shape().output().clone();
    let mut keys = Vec::with_capacity(by.expr().len());
    for (expression, _) in by.expr() {
        let Some(key) = key(&over_scan(expression)?, &schema)? else { return Ok(None) };
        keys.push(key);
    }
    let mut arguments: Vec<Arc<dyn PhysicalExpr>> = Vec::new();
    let mut functions = Vec::with_capacity(first.aggr_expr().len());
    for (aggregate, filter) in first.aggr_expr().iter().zip(first.filter_expr()) {
        if filter.is_none() && counts_rows(aggregate) {
            functions.push(Function::Rows);
            continue;
        }
        if filter.is_none()
            && let Some(distinct) = distinct_texts(aggregate, &over_scan, &schema)?
        {
            functions.push(distinct);
            continue;
        }
        if !(aggregate.order_bys().is_empty() || is_percentile(aggregate))
            || !(keys.is_empty() || aggregate.groups_accumulator_supported())
        {
            return Ok(None);
        }
        let mut place = |expression: &Arc<dyn PhysicalExpr>| -> Result<usize> {
            let expression = over_scan(expression)?;
            if let Some(known) = arguments.iter().position(|argument| argument.eq(&expression)) {
                return Ok(known);
            }
            arguments.push(expression);
            Ok(arguments.len() - 1)
        };
        functions.push(Function::Of {
            aggregate: aggregate.clone(),
            arguments: aggregate.expressions().iter().map(&mut place).collect::<Result<_>>()?,
            filter: filter.as_ref().map(&mut place).transpose()?,
        });
    }
    // The columns that the arguments look at, and no other.
    let mut places: Vec<usize> =
        arguments.iter().flat_map(collect_columns).map(|column| column.index()).collect();
    places.sort_unstable();
    places.dedup();
    if places.is_empty() && !arguments.is_empty() {
        // A function of constants: rare, and not worth telling rows apart for.
        return Ok(None);
    }
    let shape = match places.is_empty() {
        true => None,
        false => Some(scan.shape().narrowed(&places)?),
    };
    let arguments = arguments
        .into_iter()
        .map(|argument| moved(argument, &places))
        .collect::<Result<Vec<_>>>()?;
    let skips_nulls = match &shape {
        Some(shape) => skips_nulls(shape.output(), &arguments, &functions)?,
        None => false,
    };
    let grouping = Grouping { keys, arguments, functions, shape, skips_nulls };
    Ok(Some(Aggregate::plan(scan, grouping, last.schema())))
}

/// `expression` over what the projection is over.
fn inlined(
    expression: &Arc<dyn PhysicalExpr>,
    projection: Option<&ProjectionExec>,
) -> Result<Arc<dyn PhysicalExpr>> {
    let Some(projection) = projection else { return Ok(expression.clone()) };
    let inline = |node: Arc<dyn PhysicalExpr>| {
        let projected = node
            .downcast_ref::<Column>()
            .and_then(|column| projection.expr().get(column.index()))
            .map(|projected| projected.expr.clone());
        Ok(projected.map_or(Transformed::no(node), Transformed::yes))
    };
    Ok(expression.clone().transform_up(inline)?.data)
}

/// `expression` over the columns at `places` alone.
fn moved(expression: Arc<dyn PhysicalExpr>, places: &[usize]) -> Result<Arc<dyn PhysicalExpr>> {
    let place = |node: Arc<dyn PhysicalExpr>| {
        let column = node.downcast_ref::<Column>().and_then(|column| {
            let place = places.binary_search(&column.index()).ok()?;
            Some(Arc::new(Column::new(column.name(), place)) as Arc<dyn PhysicalExpr>)
        });
        Ok(column.map_or(Transformed::no(node), Transformed::yes))
    };
    Ok(expression.transform_up(place)?.data)
}

/// Whether it counts every record.
fn counts_rows(aggregate: &AggregateFunctionExpr) -> bool {
    let constant =
        |argument: &Arc<dyn PhysicalExpr>| literal(argument).is_some_and(|v| !v.is_null());
    aggregate.fun().name() == "count"
        && !aggregate.is_distinct()
        && aggregate.expressions().iter().all(constant)
}

/// Whether the order that it is given is only a way to write what it is of:
/// `percentile_cont(0.99) WITHIN GROUP (ORDER BY field)`.
fn is_percentile(aggregate: &AggregateFunctionExpr) -> bool {
    matches!(aggregate.fun().name(), "percentile_cont" | "approx_percentile_cont")
}

/// The texts that it counts the different ones of, if that is what it does.
fn distinct_texts(
    aggregate: &AggregateFunctionExpr,
    over_scan: &impl Fn(&Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>>,
    schema: &Schema,
) -> Result<Option<Function>> {
    let arguments = aggregate.expressions();
    let [argument] = arguments.as_slice() else { return Ok(None) };
    if aggregate.fun().name() != "count" || !aggregate.is_distinct() {
        return Ok(None);
    }
    let argument = over_scan(argument)?;
    // One text for one text is that text, and none for the empty one.
    let only = only_of_tuple(&argument);
    Ok(match key(only.unwrap_or(&argument), schema)? {
        Some(Key::Text { of, through }) => {
            Some(Function::Distinct { of, through, empty: only.is_none() })
        }
        _ => None,
    })
}

/// The argument of an `expression` that makes one text of all its arguments, if it is one field.
fn only_of_tuple(expression: &Arc<dyn PhysicalExpr>) -> Option<&Arc<dyn PhysicalExpr>> {
    let call = expression.downcast_ref::<ScalarFunctionExpr>()?;
    match call.args() {
        [only] if is_tuple(call.fun()) && only.is::<Column>() => Some(only),
        _ => None,
    }
}

/// Whether a record changes no function if it has none of the columns that the arguments need.
fn skips_nulls(
    columns: &Schema,
    arguments: &[Arc<dyn PhysicalExpr>],
    functions: &[Function],
) -> Result<bool> {
    let nullable = columns.fields().iter().map(|f| f.as_ref().clone().with_nullable(true));
    let nulls = columns.fields().iter().map(|f| new_null_array(f.data_type(), 1)).collect();
    let row = RecordBatch::try_new(Arc::new(Schema::new(nullable.collect::<Vec<_>>())), nulls)?;
    let values: Vec<ArrayRef> = arguments
        .iter()
        .map(|argument| argument.evaluate(&row)?.into_array(1))
        .collect::<Result<_>>()?;
    let is_null = |place: &usize| values.get(*place).is_some_and(|value| value.is_null(0));
    let is_false = |place: &usize| {
        let value = values.get(*place).and_then(|value| value.as_boolean_opt());
        value.is_some_and(|value| value.is_null(0) || !value.value(0))
    };
    Ok(functions.iter().all(|function| match function {
        Function::Rows | Function::Distinct { .. } => true,
        Function::Of { filter: Some(filter), .. } if is_false(filter) => true,
        Function::Of { aggregate, arguments, .. } => {
            let name = aggregate.fun().name();
            let known = matches!(name, "count" | "sum" | "min" | "max" | "avg" | "median")
                || is_percentile(aggregate)
                || is_quantile(aggregate.fun());
            known && arguments.iter().any(is_null)
        }
    }))
}

fn literal(expression: &Arc<dyn PhysicalExpr>) -> Option<&ScalarValue> {
    expression.downcast_ref::<Literal>().map(Literal::value)
}

/// The key that `expression` over a scan with the columns `schema` is, if the leaf knows how.
fn key(expression: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Result<Option<Key>> {
    if let Some(value) = literal(expression) {
        let text = value.try_as_str();
        return Ok(text.map(|text| Key::Constant(text.map(str::to_owned))));
    }
    if let Some((step_ns, offset_ns)) = time_bucket(expression) {
        return Ok(Some(Key::Bucket { step_ns, offset_ns }));
    }
    let columns: Vec<Column> = collect_columns(expression).into_iter().collect();
    let [column] = columns.as_slice() else { return Ok(None) };
    let data_type = schema.field(column.index()).data_type().clone();
    let is_plain = matches!(data_type, DataType::Utf8 | DataType::Int64 | DataType::Boolean);
    if !is_plain || column.name() == field::OVERFLOW {
        return Ok(None);
    }
    let mut of = TextOf::field(column.name());
    if expression.is::<Column>() {
        return Ok(Some(Key::Text { of, through: None }));
    }
    if is_pattern_of_column(expression) {
        of.pattern = true;
        return Ok(Some(Key::Text { of, through: None }));
    }
    if expression.data_type(schema)? != DataType::Utf8 || is_volatile(expression) {
        return Ok(None);
    }
    let expression = moved(expression.clone(), &[column.index()])?;
    Ok(Some(Key::Text { of, through: Some(Through { data_type, expression }) }))
}

fn is_pattern_of_column(expression: &Arc<dyn PhysicalExpr>) -> bool {
    expression.downcast_ref::<ScalarFunctionExpr>().is_some_and(|call| {
        is_pattern(call.fun()) && call.args().iter().all(|argument| argument.is::<Column>())
    })
}

/// Step and offset, if `expression` rounds `_time` down to equal steps.
fn time_bucket(expression: &Arc<dyn PhysicalExpr>) -> Option<(i64, i64)> {
    let call = expression.downcast_ref::<ScalarFunctionExpr>()?;
    let is_time = |argument: &Arc<dyn PhysicalExpr>| {
        argument.downcast_ref::<Column>().is_some_and(|column| column.name() == field::TIME)
    };
    match (call.name(), call.args()) {
        ("date_trunc", [step, time]) if is_time(time) => {
            let step = literal(step)?.try_as_str()??;
            Some(match step.to_ascii_lowercase().as_str() {
                "second" => (SECOND_NS, 0),
                "minute" => (60 * SECOND_NS, 0),
                "hour" => (3_600 * SECOND_NS, 0),
                "day" => (DAY_NS, 0),
                "week" => (WEEK_NS, WEEK_OFFSET_NS),
                _ => return None,
            })
        }
        ("date_bin", [step, time]) if is_time(time) => {
            let ScalarValue::IntervalMonthDayNano(Some(step)) = literal(step)? else {
                return None;
            };
            let (months, days, ns) = IntervalMonthDayNanoType::to_parts(*step);
            let step_ns = i64::from(days).checked_mul(DAY_NS)?.checked_add(ns)?;
            (months == 0 && step_ns > 0).then_some((step_ns, 0))
        }
        (_, [time]) if is_time(time) => match bucket_of(call.fun())? {
            Bucket::Step { step_ns, offset_ns, .. } => Some((step_ns, offset_ns)),
            Bucket::Week { offset_ns } => Some((WEEK_NS, offset_ns.saturating_add(WEEK_OFFSET_NS))),
            _ => None,
        },
        _ => None,
    }
}
