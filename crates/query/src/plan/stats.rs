//! The `stats` pipe as a DataFusion aggregation.

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::functions_aggregate::expr_fn::{count, count_distinct, max, min, sum};
use datafusion::logical_expr::{Expr, ExprFunctionExt, cast, lit, when};
use datafusion::prelude::DataFrame;
use lodge_record::field;

use super::functions::{Spill, ValueFunction};
use super::gather::Gather;
use super::kept::Order;
use super::pipes::{column, column_or_missing, group_value, has_column, matches, names, type_of};
use super::quantile::quantile;
use crate::error::QueryError;
use crate::logsql::{FieldPattern, SortKey, StatsCall, StatsFunction, StatsPipe};

/// Nanoseconds of a second.
const SECOND_NS: f64 = 1e9;

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
        let mut building = Building { index, frame: &frame, call, aggregates: Vec::new() };
        let result = building.result()?;
        aggregates.append(&mut building.aggregates);
        results.push(result.alias(&call.name));
    }
    Ok(frame.aggregate(groups, aggregates)?.select(results)?)
}

/// The fields that a call is about, as arguments of a function.
struct Operands {
    names: Vec<String>,
    /// Whether a field was named, or matches a prefix.
    named: Vec<bool>,
    /// A column per name, and one more for the fields without a column if `spill` says so; never
    /// empty.
    columns: Vec<Expr>,
    spill: Spill,
}

impl Operands {
    fn of(frame: &DataFrame, patterns: &[FieldPattern]) -> Self {
        let is_named = |name: &String| patterns.contains(&FieldPattern::Name(name.clone()));
        let by_prefix = |name: &&String| {
            name.as_str() != field::OVERFLOW && patterns.iter().any(|pattern| pattern.matches(name))
        };
        let present = names(frame);
        let mut fields: Vec<String> = present.iter().filter(by_prefix).cloned().collect();
        fields.extend(patterns.iter().filter_map(|pattern| match pattern {
            FieldPattern::Name(name) => Some(name.clone()),
            FieldPattern::Prefix(_) => None,
        }));
        fields.sort();
        fields.dedup();
        let mut columns: Vec<Expr> =
            fields.iter().map(|name| column_or_missing(frame, name)).collect();
        let prefixes: Vec<FieldPattern> = patterns
            .iter()
            .filter(|pattern| matches!(pattern, FieldPattern::Prefix(_)))
            .cloned()
            .collect();
        let spill = Spill(!prefixes.is_empty() && has_column(frame, field::OVERFLOW));
        if spill.0 {
            let function = ValueFunction::Spilled { patterns: prefixes, negated: false };
            columns.push(function.call(vec![column(field::OVERFLOW)]));
        } else if columns.is_empty() {
            columns.push(lit(ScalarValue::Utf8(None)));
        }
        Self { named: fields.iter().map(is_named).collect(), names: fields, columns, spill }
    }
}

/// One call while it becomes aggregates.
struct Building<'f> {
    index: usize,
    frame: &'f DataFrame,
    call: &'f StatsCall,
    aggregates: Vec<Expr>,
}

impl Building<'_> {
    /// What the call gives, of the aggregates that it needs.
    fn result(&mut self) -> Result<Expr, QueryError> {
        let Operands { names, named, columns, spill } = Operands::of(self.frame, &self.call.fields);
        let any = || ValueFunction::AnyValue(spill).call(columns.clone());
        match &self.call.function {
            StatsFunction::Count if self.call.fields.is_empty() => self.rows(None),
            StatsFunction::Count => self.rows(Some(any())),
            StatsFunction::CountEmpty => self.rows(Some(Expr::Not(Box::new(any())))),
            StatsFunction::Rate { span_ns } => {
                let rows = self.rows(None)?;
                Ok(per_second(cast(rows, DataType::Float64), *span_ns))
            }
            StatsFunction::CountUniq { limit } | StatsFunction::CountUniqHash { limit } => {
                let hashed = matches!(self.call.function, StatsFunction::CountUniqHash { .. });
                self.different(tuple(names, columns, spill), hashed, *limit)
            }
            StatsFunction::Sum => self.sum(columns, spill),
            StatsFunction::RateSum { span_ns } => {
                Ok(per_second(self.sum(columns, spill)?, *span_ns))
            }
            StatsFunction::Avg => {
                let numbers = ValueFunction::NumberCount(spill).call(columns.clone());
                let total = self.add(sum(ValueFunction::NumberSum(spill).call(columns)))?;
                let numbers = self.add(sum(numbers))?;
                or_nan(total / cast(numbers, DataType::Float64))
            }
            StatsFunction::Min => self.extreme(names, columns, spill, Order::Least),
            StatsFunction::Max => self.extreme(names, columns, spill, Order::Greatest),
            StatsFunction::Quantile { phi } => {
                let numbers = match (columns.as_slice(), spill) {
                    ([_], Spill(false)) => vec![ValueFunction::Number.call(columns)],
                    _ => columns,
                };
                let quantile = self.add(quantile(*phi, numbers, spill))?;
                or_nan(quantile)
            }
            StatsFunction::SumLen => {
                let total = self.add(sum(ValueFunction::Length(spill).call(columns)))?;
                or_else(total, lit(0i64))
            }
            function => self.gathered(function, Operands { names, named, columns, spill }),
        }
    }

    /// Functions that keep values or rows.
    fn gathered(
        &mut self,
        function: &StatsFunction,
        operands: Operands,
    ) -> Result<Expr, QueryError> {
        let Operands { names, named, mut columns, spill } = operands;
        let frame = self.frame;
        let source = |name: &str| column_or_missing(frame, name);
        let gather = match function {
            StatsFunction::Values { limit } => {
                Gather::Values { with_empty: named, limit: places(*limit), spill }
            }
            StatsFunction::UniqValues { limit } => Gather::Uniq { limit: places(*limit), spill },
            StatsFunction::JsonValues { sort, limit } => {
                columns.splice(0..0, sort.iter().map(|key| source(&key.name)));
                let sort = sort.iter().map(order).collect();
                Gather::Rows { sort, names, limit: places(*limit), spill }
            }
            StatsFunction::RowMin { by } | StatsFunction::RowMax { by } => {
                columns.insert(0, source(by));
                let least = matches!(function, StatsFunction::RowMin { .. });
                let order = if least { Order::Least } else { Order::Greatest };
                Gather::Row { by: Some(order), names, spill }
            }
            StatsFunction::RowAny => Gather::Row { by: None, names, spill },
            StatsFunction::FieldMin { by } | StatsFunction::FieldMax { by } => {
                columns.insert(0, source(by));
                let least = matches!(function, StatsFunction::FieldMin { .. });
                Gather::FieldBy { by: if least { Order::Least } else { Order::Greatest } }
            }
            StatsFunction::Histogram => {
                columns = vec![ValueFunction::Number.call(columns)];
                Gather::Histogram
            }
            StatsFunction::Stddev => Gather::Deviation { spill },
            _ => Gather::Any { spill },
        };
        let deviates = matches!(gather, Gather::Deviation { .. });
        let result = self.add(gather.of(columns))?;
        if deviates { or_nan(result) } else { Ok(result) }
    }

    /// Adds an aggregate over the rows that the call is about; gives the column of its result.
    fn add(&mut self, aggregate: Expr) -> Result<Expr, QueryError> {
        self.add_where(aggregate, None)
    }

    /// The same over those of the rows for which `more` is true.
    fn add_where(&mut self, aggregate: Expr, more: Option<Expr>) -> Result<Expr, QueryError> {
        let condition = self.call.filter.as_ref().map(|filter| matches(self.frame, filter));
        let aggregate = match [condition, more].into_iter().flatten().reduce(Expr::and) {
            Some(condition) => {
                let distinct = is_distinct(&aggregate);
                let filtered = aggregate.filter(condition);
                // What is built forgets whether it was to count different values.
                if distinct { filtered.distinct().build()? } else { filtered.build()? }
            }
            None => aggregate,
        };
        let name = format!("__lodge_{}_{}", self.index, self.aggregates.len());
        self.aggregates.push(aggregate.alias(&name));
        Ok(column(&name))
    }

    fn rows(&mut self, more: Option<Expr>) -> Result<Expr, QueryError> {
        self.add_where(count(lit(1i64)), more)
    }

    fn sum(&mut self, columns: Vec<Expr>, spill: Spill) -> Result<Expr, QueryError> {
        let total = self.add(sum(ValueFunction::NumberSum(spill).call(columns)))?;
        or_nan(total)
    }

    /// How many different texts there are.
    fn different(
        &mut self,
        text: Expr,
        hashed: bool,
        limit: Option<u64>,
    ) -> Result<Expr, QueryError> {
        match (places(limit), hashed) {
            (None, false) => self.add(count_distinct(text)),
            (None, true) => self.add(count_distinct(ValueFunction::Digest.call(vec![text]))),
            // Up to a limit the texts themselves take no more than their hashes would.
            (Some(limit), _) => self.add(Gather::CountUniq { limit }.of(vec![text])),
        }
    }

    /// The least or greatest value: of one column of numbers or times by its type, of anything else by
    /// the values' order in LogsQL.
    fn extreme(
        &mut self,
        names: Vec<String>,
        columns: Vec<Expr>,
        spill: Spill,
        order: Order,
    ) -> Result<Expr, QueryError> {
        let aggregate = |value: Expr| match order {
            Order::Greatest => max(value),
            Order::Least => min(value),
        };
        if let ([name], Spill(false)) = (names.as_slice(), spill)
            && matches!(
                type_of(self.frame, name),
                Some(DataType::Int64 | DataType::Float64 | DataType::Timestamp(..))
            )
        {
            return self.add(aggregate(column(name)));
        }
        let key = match order {
            Order::Greatest => ValueFunction::GreatestKey(spill),
            Order::Least => ValueFunction::LeastKey(spill),
        };
        let key = self.add(aggregate(key.call(columns)))?;
        Ok(ValueFunction::KeyText.call(vec![key]))
    }
}

fn is_distinct(aggregate: &Expr) -> bool {
    matches!(aggregate, Expr::AggregateFunction(function) if function.params.distinct)
}

/// One text for the values of all operands, null if all are empty.
fn tuple(names: Vec<String>, columns: Vec<Expr>, spill: Spill) -> Expr {
    match spill {
        Spill(false) => ValueFunction::Tuple.call(columns),
        // With their names: which fields there are differs from row to row.
        Spill(true) => ValueFunction::Object(names, spill).call(columns),
    }
}

fn places(limit: Option<u64>) -> Option<usize> {
    limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

fn order(key: &SortKey) -> Order {
    if key.descending { Order::Greatest } else { Order::Least }
}

/// A number per second of so much time.
fn per_second(number: Expr, span_ns: Option<i64>) -> Expr {
    let seconds = span_ns.map_or(1.0, |span_ns| span_ns as f64 / SECOND_NS);
    number / lit(seconds)
}

/// Without any number there is no sum: `NaN`, as LogsQL has it.
fn or_nan(value: Expr) -> Result<Expr, QueryError> {
    or_else(value, lit(ScalarValue::Float64(Some(f64::NAN))))
}

/// `value`, or `other` where it is null.
fn or_else(value: Expr, other: Expr) -> Result<Expr, QueryError> {
    Ok(when(value.clone().is_null(), other).otherwise(value)?)
}
