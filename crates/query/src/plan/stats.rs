//! The `stats` pipe as a DataFusion aggregation.

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::functions_aggregate::expr_fn::{count, count_distinct, max, min, sum};
use datafusion::logical_expr::{Expr, ExprFunctionExt, cast, lit, when};
use datafusion::prelude::DataFrame;

use super::functions::{Spill, ValueFunction};
use super::pipes::{column, column_or_missing, group_value, matches, names, type_of};
use super::quantile::quantile;
use crate::error::QueryError;
use crate::logsql::{FieldPattern, StatsCall, StatsFunction, StatsPipe};

/// One aggregate as it is computed, and how its result follows.
struct Computed {
    aggregates: Vec<Expr>,
    result: Expr,
}

/// `frame` aggregated.
pub(super) fn apply(frame: DataFrame, pipe: &StatsPipe) -> Result<DataFrame, QueryError> {
    let mut groups: Vec<Expr> = Vec::new();
    let mut results: Vec<Expr> = Vec::new();
    for key in &pipe.by {
        let group = match key.bucket {
            Some(bucket) => {
                ValueFunction::Bucket(bucket).call(vec![column_or_missing(&frame, &key.name)])
            }
            None => group_value(&frame, &key.name),
        };
        let group = group.alias(&key.name);
        // The same field twice is one group.
        if !groups.contains(&group) {
            groups.push(group);
            results.push(column(&key.name));
        }
    }
    let mut aggregates = Vec::new();
    for (index, call) in pipe.calls.iter().enumerate() {
        let computed = compute(&frame, call, index)?;
        aggregates.extend(computed.aggregates);
        results.push(computed.result.alias(&call.name));
    }
    Ok(frame.aggregate(groups, aggregates)?.select(results)?)
}

/// The fields that a call is about.
fn operands(frame: &DataFrame, call: &StatsCall) -> Vec<String> {
    let mut fields = Vec::new();
    for pattern in &call.fields {
        match pattern {
            FieldPattern::Name(name) => fields.push(name.clone()),
            FieldPattern::Prefix(_) => {
                fields.extend(names(frame).into_iter().filter(|name| pattern.matches(name)));
            }
        }
    }
    fields.sort();
    fields.dedup();
    fields
}

fn compute(frame: &DataFrame, call: &StatsCall, index: usize) -> Result<Computed, QueryError> {
    let fields = operands(frame, call);
    let columns =
        || -> Vec<Expr> { fields.iter().map(|name| column_or_missing(frame, name)).collect() };
    let condition = call.filter.as_ref().map(|filter| matches(frame, filter));
    let named = |part: usize| format!("__lodge_{index}_{part}");
    let only = |aggregate: Expr, more: Option<Expr>| -> Result<Expr, QueryError> {
        match [condition.clone(), more].into_iter().flatten().reduce(Expr::and) {
            Some(condition) => Ok(aggregate.filter(condition).build()?),
            None => Ok(aggregate),
        }
    };
    let simple = |aggregate: Expr| -> Computed {
        let result = column(&named(0));
        Computed { aggregates: vec![aggregate.alias(named(0))], result }
    };
    let spill = Spill(false);
    let any = || ValueFunction::AnyValue(spill).call(columns());
    Ok(match call.function {
        StatsFunction::Count if call.fields.is_empty() => simple(only(count(lit(1i64)), None)?),
        StatsFunction::Count => simple(only(count(lit(1i64)), Some(any()))?),
        StatsFunction::CountEmpty => {
            simple(only(count(lit(1i64)), Some(Expr::Not(Box::new(any()))))?)
        }
        StatsFunction::CountUniq { limit } => {
            let tuple = ValueFunction::Tuple.call(columns());
            let mut computed = simple(only(count_distinct(tuple), None)?);
            if let Some(limit) = limit.and_then(|limit| i64::try_from(limit).ok()) {
                let counted = computed.result.clone();
                computed.result =
                    when(counted.clone().gt(lit(limit)), lit(limit)).otherwise(counted)?;
            }
            computed
        }
        StatsFunction::Sum => {
            let total = sum(ValueFunction::NumberSum(spill).call(columns()));
            let mut computed = simple(only(total, None)?);
            computed.result = or_nan(computed.result)?;
            computed
        }
        StatsFunction::Avg => {
            let total = only(sum(ValueFunction::NumberSum(spill).call(columns())), None)?;
            let numbers = only(sum(ValueFunction::NumberCount(spill).call(columns())), None)?;
            let mean = column(&named(0)) / cast(column(&named(1)), DataType::Float64);
            Computed {
                aggregates: vec![total.alias(named(0)), numbers.alias(named(1))],
                result: or_nan(mean)?,
            }
        }
        StatsFunction::Min | StatsFunction::Max => extreme(frame, call, &fields, simple, only)?,
        StatsFunction::Quantile { phi } => {
            let number = ValueFunction::Number.call(columns());
            let mut computed = simple(only(quantile(phi, number), None)?);
            computed.result = or_nan(computed.result)?;
            computed
        }
        StatsFunction::SumLen => {
            let total = sum(ValueFunction::Length(spill).call(columns()));
            let mut computed = simple(only(total, None)?);
            computed.result = or_else(computed.result, lit(0i64))?;
            computed
        }
        _ => {
            return Err(QueryError::invalid(format!("`{}` is not supported yet", call.name)));
        }
    })
}

/// `min` and `max`: of one column of numbers or times by its type, of anything else by the values'
/// order in LogsQL.
fn extreme(
    frame: &DataFrame,
    call: &StatsCall,
    fields: &[String],
    simple: impl Fn(Expr) -> Computed,
    only: impl Fn(Expr, Option<Expr>) -> Result<Expr, QueryError>,
) -> Result<Computed, QueryError> {
    let greatest = matches!(call.function, StatsFunction::Max);
    let aggregate = |value: Expr| if greatest { max(value) } else { min(value) };
    if let [field] = fields
        && matches!(
            type_of(frame, field),
            Some(DataType::Int64 | DataType::Float64 | DataType::Timestamp(..))
        )
    {
        return Ok(simple(only(aggregate(column(field)), None)?));
    }
    let columns = fields.iter().map(|name| column_or_missing(frame, name)).collect();
    let key = match greatest {
        true => ValueFunction::GreatestKey(Spill(false)),
        false => ValueFunction::LeastKey(Spill(false)),
    };
    let mut computed = simple(only(aggregate(key.call(columns)), None)?);
    computed.result = ValueFunction::KeyText.call(vec![computed.result]);
    Ok(computed)
}

/// Without any number there is no sum: `NaN`, as LogsQL has it.
fn or_nan(value: Expr) -> Result<Expr, QueryError> {
    or_else(value, lit(ScalarValue::Float64(Some(f64::NAN))))
}

/// `value`, or `other` where it is null.
fn or_else(value: Expr, other: Expr) -> Result<Expr, QueryError> {
    Ok(when(value.clone().is_null(), other).otherwise(value)?)
}
