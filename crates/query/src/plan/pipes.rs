//! Each pipe as a step of a DataFusion plan.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{Column, ScalarValue};
use datafusion::functions_aggregate::expr_fn::{count, max, min};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{Expr, ExprFunctionExt, SortExpr, cast, lit};
use datafusion::prelude::DataFrame;
use lodge_record::field;
use lodge_segment::predicate::{FieldTest, Predicate};

use super::fields::Needed;
use super::functions::ValueFunction;
use super::stats;
use super::trend::trend;
use crate::error::QueryError;
use crate::logsql::{FieldPattern, JoinPipe, PatternsPipe, Pipe, SortKey, SortPipe};
use crate::scan::MadeBlocks;
use crate::stage::{
    self, Blocks, Chain, Facets, FieldNames, Join, Running, Sequence, Stage, schema_of,
};
use crate::transform::Step;

/// A column that only lives inside a plan.
const PLACE: &str = "__lodge_place";

/// `frame` with `pipe` applied; `span`: first and last time that a record can have; `after`: what the
/// pipes behind it look at.
pub(super) fn apply(
    frame: DataFrame,
    pipe: &Pipe,
    span: Option<(i64, i64)>,
    after: &Needed,
) -> Result<DataFrame, QueryError> {
    match pipe {
        Pipe::Fields(patterns) => keep(frame, patterns),
        Pipe::Delete(patterns) => delete(frame, patterns),
        Pipe::Copy(pairs) => {
            pairs.iter().try_fold(frame, |frame, (from, to)| copy(frame, from, to))
        }
        Pipe::Rename(pairs) => pairs.iter().try_fold(frame, |frame, (from, to)| {
            if from == to {
                return Ok(frame);
            }
            let frame = copy(frame, from, to)?;
            delete(frame, &[FieldPattern::Name(from.clone())])
        }),
        Pipe::Filter(predicate) => {
            let condition = condition(&frame, predicate);
            Ok(frame.filter(condition)?)
        }
        Pipe::Sort(pipe) => sort(frame, pipe),
        Pipe::Limit(rows) => Ok(frame.limit(0, Some(rows_of(*rows)))?),
        Pipe::Offset(rows) => Ok(frame.limit(rows_of(*rows), None)?),
        Pipe::Stats(pipe) => stats::apply(frame, pipe),
        Pipe::Top { limit, by, hits, rank } => top(frame, *limit, by, hits, rank.as_deref()),
        Pipe::Uniq { by, hits, limit } => uniq(frame, by, hits.as_deref(), *limit),
        Pipe::Patterns(pipe) => patterns(frame, pipe, span),
        Pipe::Transform(pipe) => {
            let step = Step::new(pipe, &schema_of(&frame), &after.later());
            stage::over(frame, Arc::new(step))
        }
        Pipe::Facets(pipe) => stage::over(frame, Arc::new(Facets(*pipe))),
        Pipe::FieldNames => stage::over(frame, Arc::new(FieldNames)),
        Pipe::FieldValues { field, limit } => field_values(frame, field, *limit),
        Pipe::BlocksCount => stage::over(frame, Arc::new(Blocks)),
        Pipe::BlockStats => stage::over(frame, Arc::new(MadeBlocks)),
        Pipe::Running(pipe) => {
            let running = Running::new(pipe.clone(), &schema_of(&frame));
            stage::over(frame, Arc::new(running))
        }
        Pipe::Sequence(rows) => stage::alone(frame, Arc::new(Sequence { rows: *rows })),
        // These are planned where their queries and records are known.
        Pipe::Join(_) | Pipe::Union(_) | Pipe::StreamContext(_) | Pipe::QueryStats => {
            Err(QueryError::internal(format!("`| {}` stands at the wrong place", pipe.name())))
        }
    }
}

/// `frame` and what the query within `pipe` gives, put together.
pub(super) fn combine(
    frame: DataFrame,
    other: DataFrame,
    pipe: &Pipe,
    after: &Needed,
) -> Result<DataFrame, QueryError> {
    let (left, right) = (schema_of(&frame), schema_of(&other));
    let stage: Arc<dyn Stage> = match pipe {
        Pipe::Join(join) => Arc::new(Join::new(join, &left, &right, &after.later())),
        _ => Arc::new(Chain::new(&[left, right])),
    };
    stage::over_all(frame, vec![other], stage)
}

/// What a join needs of the other query for what comes behind it.
pub(super) fn joined_need(join: &JoinPipe, after: &Needed) -> Needed {
    let own = |name: &String| name.strip_prefix(join.prefix.as_str()).map(str::to_owned);
    let named = after.named.iter().filter_map(own);
    Needed { named: named.chain(join.by.iter().cloned()).collect(), ..after.clone() }
}

/// The values of a field that are not empty, each with the number of its rows.
fn field_values(
    frame: DataFrame,
    field: &str,
    limit: Option<u64>,
) -> Result<DataFrame, QueryError> {
    let hits = if field == "hits" { "hits_total" } else { "hits" };
    let present = matches(&frame, &Predicate::field(field, FieldTest::Any));
    let frame = counted(frame.filter(present)?, &[field.to_owned()], hits)?;
    match limit {
        Some(limit) => Ok(frame.limit(0, Some(rows_of(limit)))?),
        None => Ok(frame),
    }
}

fn rows_of(rows: u64) -> usize {
    // DataFusion adds offsets and limits, so they must stay far from the end of their range.
    usize::try_from(rows).unwrap_or(usize::MAX).min(isize::MAX as usize / 4)
}

/// The names of the columns, in order.
pub(super) fn names(frame: &DataFrame) -> Vec<String> {
    frame.schema().fields().iter().map(|field| field.name().clone()).collect()
}

pub(super) fn has_column(frame: &DataFrame, name: &str) -> bool {
    frame.schema().fields().iter().any(|field| field.name() == name)
}

/// The type of a column, if it is there.
pub(super) fn type_of(frame: &DataFrame, name: &str) -> Option<DataType> {
    let fields = frame.schema().fields();
    fields.iter().find(|field| field.name() == name).map(|field| field.data_type().clone())
}

/// A column by its name alone, whatever signs are in it.
pub(super) fn column(name: &str) -> Expr {
    Expr::Column(Column::new_unqualified(name))
}

/// A column, or the missing value.
pub(super) fn column_or_missing(frame: &DataFrame, name: &str) -> Expr {
    if has_column(frame, name) { column(name) } else { lit(ScalarValue::Utf8(None)) }
}

/// A value to group by: one group per text form, nulls and empty texts together.
pub(super) fn group_value(frame: &DataFrame, name: &str) -> Expr {
    match type_of(frame, name) {
        None => lit(""),
        Some(DataType::Utf8 | DataType::Dictionary(..) | DataType::Float64) => {
            ValueFunction::Text.call(vec![column(name)])
        }
        Some(_) => column(name),
    }
}

/// Whether a row of `frame` matches, told of at least one column if there is any: DataFusion takes what
/// looks at none for a constant, and moves it to where it is tested for other rows, or for none.
fn condition(frame: &DataFrame, predicate: &Predicate) -> Expr {
    let mut names = read_by(frame, predicate);
    if names.is_empty() {
        names.extend(self::names(frame).into_iter().next());
    }
    let columns = names.iter().map(|name| column(name)).collect();
    ValueFunction::Matches(predicate.clone(), names).call(columns)
}

/// Whether a row of `frame` matches.
pub(super) fn matches(frame: &DataFrame, predicate: &Predicate) -> Expr {
    let names = read_by(frame, predicate);
    let columns = names.iter().map(|name| column(name)).collect();
    ValueFunction::Matches(predicate.clone(), names).call(columns)
}

/// The columns that a predicate looks at.
fn read_by(frame: &DataFrame, predicate: &Predicate) -> Vec<String> {
    let reads = predicate.reads();
    let needed =
        |name: &String| name == field::OVERFLOW || name == field::STREAM_ID || reads.has(name);
    let mut names: Vec<String> = names(frame).into_iter().filter(needed).collect();
    names.sort();
    names
}

/// `_overflow` with only those of its fields that are kept.
fn spilled(patterns: &[FieldPattern], negated: bool) -> Expr {
    let function = ValueFunction::Spilled { patterns: patterns.to_vec(), negated };
    function.call(vec![column(field::OVERFLOW)]).alias(field::OVERFLOW)
}

/// The fields in the order in which they are asked for.
fn keep(frame: DataFrame, patterns: &[FieldPattern]) -> Result<DataFrame, QueryError> {
    let present = names(&frame);
    let mut kept: Vec<String> = Vec::new();
    let mut columns: Vec<Expr> = Vec::new();
    let mut add = |name: &str, value: Expr| {
        if !kept.iter().any(|known| known == name) {
            kept.push(name.to_owned());
            columns.push(value);
        }
    };
    for pattern in patterns {
        match pattern {
            FieldPattern::Name(name) if present.contains(name) => add(name, column(name)),
            FieldPattern::Name(name) => add(name, lit(ScalarValue::Utf8(None)).alias(name)),
            FieldPattern::Prefix(_) => present
                .iter()
                .filter(|name| *name != field::OVERFLOW && pattern.matches(name))
                .for_each(|name| add(name, column(name))),
        }
    }
    let prefixes = patterns.iter().any(|pattern| matches!(pattern, FieldPattern::Prefix(_)));
    if prefixes && present.iter().any(|name| name == field::OVERFLOW) {
        add(field::OVERFLOW, spilled(patterns, false));
    }
    Ok(frame.select(columns)?)
}

fn delete(frame: DataFrame, patterns: &[FieldPattern]) -> Result<DataFrame, QueryError> {
    let kept: Vec<Expr> = names(&frame)
        .iter()
        .filter(|name| !patterns.iter().any(|pattern| pattern.matches(name)))
        .map(|name| match name.as_str() {
            field::OVERFLOW => spilled(patterns, true),
            name => column(name),
        })
        .collect();
    Ok(frame.select(kept)?)
}

fn copy(frame: DataFrame, from: &str, to: &str) -> Result<DataFrame, QueryError> {
    if from == to {
        return Ok(frame);
    }
    let value = column_or_missing(&frame, from).alias(to);
    let mut kept: Vec<Expr> =
        names(&frame).iter().filter(|name| *name != to).map(|name| column(name)).collect();
    kept.push(value);
    Ok(frame.select(kept)?)
}

/// The order of one key. Empty values are the least.
fn order(frame: &DataFrame, key: &SortKey) -> Option<SortExpr> {
    let ascending = !key.descending;
    let value = match type_of(frame, &key.name)? {
        DataType::Utf8 | DataType::Dictionary(..) => {
            ValueFunction::SortKey.call(vec![column(&key.name)])
        }
        _ => column(&key.name),
    };
    Some(value.sort(ascending, ascending))
}

fn orders(frame: &DataFrame, by: &[SortKey]) -> Vec<SortExpr> {
    // A field that nothing provides is the same everywhere and orders nothing.
    by.iter().filter_map(|key| order(frame, key)).collect()
}

fn sort(frame: DataFrame, pipe: &SortPipe) -> Result<DataFrame, QueryError> {
    let by = orders(&frame, &pipe.by);
    let offset = rows_of(pipe.offset);
    let limit = pipe.limit.map(rows_of);
    if pipe.partition_by.is_empty() {
        let frame = match pipe.rank.as_deref() {
            Some(rank) => with_place(frame, &[], &by, rank)?,
            None => frame,
        };
        let frame = if by.is_empty() { frame } else { frame.sort(by)? };
        return if limit.is_some() || offset > 0 {
            Ok(frame.limit(offset, limit)?)
        } else {
            Ok(frame)
        };
    }
    let partitions: Vec<Expr> =
        pipe.partition_by.iter().map(|name| group_value(&frame, name)).collect();
    let frame = with_place(frame, &partitions, &by, PLACE)?;
    let mut wanted = column(PLACE).gt(lit(offset as i64));
    if let Some(limit) = limit {
        wanted = wanted.and(column(PLACE).lt_eq(lit(offset.saturating_add(limit) as i64)));
    }
    let mut frame = frame.filter(wanted)?;
    // Partitions one after the other, each in its order.
    let mut order: Vec<SortExpr> = pipe
        .partition_by
        .iter()
        .filter_map(|name| {
            let key = SortKey { name: name.clone(), descending: false };
            self::order(&frame, &key)
        })
        .collect();
    order.push(column(PLACE).sort(true, true));
    frame = frame.sort(order)?;
    match &pipe.rank {
        Some(rank) => copy(frame, PLACE, rank)
            .and_then(|frame| delete(frame, &[FieldPattern::Name(PLACE.to_owned())])),
        None => delete(frame, &[FieldPattern::Name(PLACE.to_owned())]),
    }
}

/// Adds each row's place, from 1, in its partition.
fn with_place(
    frame: DataFrame,
    partitions: &[Expr],
    by: &[SortExpr],
    name: &str,
) -> Result<DataFrame, QueryError> {
    let place =
        row_number().partition_by(partitions.to_vec()).order_by(by.to_vec()).build()?.alias(name);
    let mut kept: Vec<Expr> =
        names(&frame).iter().filter(|field| *field != name).map(|field| column(field)).collect();
    kept.push(cast(place, DataType::Int64).alias(name));
    Ok(frame.select(kept)?)
}

fn top(
    frame: DataFrame,
    limit: u64,
    by: &[String],
    hits: &str,
    rank: Option<&str>,
) -> Result<DataFrame, QueryError> {
    let frame = counted(frame, by, hits)?;
    let mut keys = vec![SortKey { name: hits.to_owned(), descending: true }];
    keys.extend(by.iter().map(|name| SortKey { name: name.clone(), descending: false }));
    let order = orders(&frame, &keys);
    let frame = match rank {
        Some(rank) => with_place(frame, &[], &order, rank)?,
        None => frame,
    };
    Ok(frame.sort(order)?.limit(0, Some(rows_of(limit)))?)
}

fn uniq(
    frame: DataFrame,
    by: &[String],
    hits: Option<&str>,
    limit: Option<u64>,
) -> Result<DataFrame, QueryError> {
    let mut frame = match hits {
        Some(hits) => counted(frame, by, hits)?,
        None => {
            let groups = groups(&frame, by);
            frame.aggregate(groups, Vec::new())?
        }
    };
    if let Some(limit) = limit {
        frame = frame.limit(0, Some(rows_of(limit)))?;
    }
    Ok(frame)
}

fn groups(frame: &DataFrame, by: &[String]) -> Vec<Expr> {
    let mut seen: Vec<&String> = Vec::new();
    let mut groups = Vec::new();
    for name in by {
        if !seen.contains(&name) {
            seen.push(name);
            groups.push(group_value(frame, name).alias(name));
        }
    }
    groups
}

fn counted(frame: DataFrame, by: &[String], hits: &str) -> Result<DataFrame, QueryError> {
    if by.iter().any(|name| name == hits) {
        return Err(QueryError::invalid(format!(
            "the count would overwrite the field `{hits}`; name it with `hits as …`"
        )));
    }
    let groups = groups(&frame, by);
    Ok(frame.aggregate(groups, vec![count(lit(1i64)).alias(hits)])?)
}

/// Pattern, hits, share, first and last time and the counts per part of the time, by hits.
fn patterns(
    frame: DataFrame,
    pipe: &PatternsPipe,
    span: Option<(i64, i64)>,
) -> Result<DataFrame, QueryError> {
    let present = matches(&frame, &Predicate::field(&pipe.field, FieldTest::Any));
    let time = match type_of(&frame, field::TIME) {
        Some(DataType::Timestamp(..)) => column(field::TIME),
        _ => lit(ScalarValue::TimestampNanosecond(None, Some("UTC".into()))),
    };
    let pattern = ValueFunction::Pattern.call(vec![column_or_missing(&frame, &pipe.field)]);
    let aggregates = vec![
        count(lit(1i64)).alias("hits"),
        min(time.clone()).alias("first"),
        max(time.clone()).alias("last"),
        trend(span.unwrap_or_default(), pipe.buckets, time).alias("trend"),
    ];
    let counted = frame.filter(present)?.aggregate(vec![pattern.alias("pattern")], aggregates)?;
    let all = WindowFunction::new(sum_udaf(), vec![column("hits")]);
    let all = cast(Expr::from(all), DataType::Float64);
    let share = (cast(column("hits"), DataType::Float64) / all).alias("share");
    let columns = ["pattern", "hits"].map(column).into_iter().chain([share]);
    let columns = columns.chain(["first", "last", "trend"].map(column));
    let order = vec![column("hits").sort(false, false), column("pattern").sort(true, true)];
    let sorted = counted.select(columns.collect::<Vec<_>>())?.sort(order)?;
    Ok(sorted.limit(0, Some(rows_of(pipe.limit)))?)
}
