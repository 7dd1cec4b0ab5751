//! From a parsed LogsQL query to a DataFusion plan.
//!
//! Invariants:
//! - "the newest N" (`sort by (_time desc) limit N`, or a request's limit on plain records) becomes
//!   the leaf's early-stopping search, and only where that gives the same rows;
//! - a field that nothing provides is the empty value in every pipe, never an error.

mod aggregation;
mod buckets;
mod fields;
mod functions;
mod natural;
mod pipes;
mod quantile;
mod single;
mod stats;
mod step;
mod trend;

use std::sync::Arc;

use datafusion::datasource::provider_as_source;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{LogicalPlanBuilder, UNNAMED_TABLE};
use datafusion::prelude::DataFrame;
use lodge_record::field;
use lodge_segment::predicate::Predicate;

use crate::error::QueryError;
use crate::logsql::{Pipe, Query, SortKey, SortPipe};
use crate::scan::{LogsTable, Source, TopByTime, Types, table_schema};

pub(crate) use aggregation::SegmentAggregation;
pub(crate) use functions::{ValueFunction, matched};
pub(crate) use step::bucket_function;

/// Which rows of an answer the caller wants.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Page {
    pub(crate) limit: Option<usize>,
    pub(crate) offset: usize,
}

/// Where the trends of `patterns` begin and how long their parts are, nanoseconds.
pub(crate) fn trend_parts(span: (i64, i64), buckets: usize) -> (i64, i64) {
    let parts = trend::Parts::new(span, buckets);
    (parts.start_ns, parts.step_ns)
}

/// Plans `query` over `source`, whose predicate is already that of the query.
pub(crate) fn query_frame(
    state: SessionState,
    partitions: usize,
    source: Source,
    query: &Query,
    page: Page,
) -> Result<DataFrame, QueryError> {
    let span = source.span();
    let needed = fields::needed(&query.pipes);
    let only = needed.only.as_deref();
    let schema = table_schema(&source.snapshot, only, &needed.named, &Types::default());
    let (top, pipes) = leaf_top(&query.pipes, page);
    let table = LogsTable::new(source, schema, partitions, top);
    let table = provider_as_source(Arc::new(table));
    let leaf = LogicalPlanBuilder::scan(UNNAMED_TABLE, table, None)?.build()?;
    let mut frame = DataFrame::new(state, leaf);
    for pipe in &pipes {
        frame = pipes::apply(frame, pipe, span)?;
    }
    match (page.limit, page.offset) {
        (None, 0) => Ok(frame),
        (limit, offset) => {
            let newest = top.is_none() && query.pipes.iter().all(Pipe::is_row_wise);
            if newest && pipes::has_column(&frame, field::TIME) {
                // A filter behind a renaming pipe keeps the leaf from choosing.
                let by = vec![SortKey { name: field::TIME.to_owned(), descending: true }];
                let sort = SortPipe { by, ..SortPipe::default() };
                frame = pipes::apply(frame, &Pipe::Sort(sort), span)?;
            }
            Ok(frame.limit(offset, limit)?)
        }
    }
}

/// What of the query the leaf's search by time does, and the pipes that are left.
fn leaf_top(pipes: &[Pipe], page: Page) -> (Option<TopByTime>, Vec<Pipe>) {
    let rest = || pipes.to_vec();
    let place = pipes.iter().position(|pipe| !keeps_time(pipe)).unwrap_or(pipes.len());
    let Some(Pipe::Sort(sort)) = pipes.get(place) else {
        // Of plain records the request's limit gives the newest; pipes that drop or rename fields
        // do not matter to which those are.
        let plain = pipes.iter().all(|pipe| pipe.is_row_wise() && !matches!(pipe, Pipe::Filter(_)));
        let rows = page.limit.filter(|_| plain).map(|limit| limit.saturating_add(page.offset));
        return (rows.map(|rows| TopByTime { rows, newest: true }), rest());
    };
    let [SortKey { name, descending }] = sort.by.as_slice() else {
        return (None, rest());
    };
    if name != field::TIME || !sort.partition_by.is_empty() || sort.rank.is_some() {
        return (None, rest());
    }
    let mut left: Vec<Pipe> = pipes.get(..place).unwrap_or_default().to_vec();
    let mut after = pipes.get(place + 1..).unwrap_or_default();
    let offset = usize::try_from(sort.offset).unwrap_or(usize::MAX);
    let rows = match (sort.limit, after.first()) {
        (Some(limit), _) => usize::try_from(limit).ok(),
        (None, Some(Pipe::Limit(limit))) => {
            after = after.get(1..).unwrap_or_default();
            usize::try_from(*limit).ok()
        }
        // The request's limit on an ordered answer.
        (None, None) => page.limit.map(|limit| limit.saturating_add(page.offset)),
        _ => None,
    };
    let Some(rows) = rows else {
        return (None, rest());
    };
    if sort.offset > 0 {
        left.push(Pipe::Offset(sort.offset));
    }
    left.extend(after.iter().cloned());
    (Some(TopByTime { rows: rows.saturating_add(offset), newest: *descending }), left)
}

/// Whether a pipe changes neither the rows nor what `_time` is.
fn keeps_time(pipe: &Pipe) -> bool {
    match pipe {
        Pipe::Fields(patterns) => patterns.iter().any(|pattern| pattern.matches(field::TIME)),
        Pipe::Delete(patterns) => !patterns.iter().any(|pattern| pattern.matches(field::TIME)),
        Pipe::Copy(pairs) => pairs.iter().all(|(_, to)| to != field::TIME),
        Pipe::Rename(pairs) => {
            pairs.iter().all(|(from, to)| from != field::TIME && to != field::TIME)
        }
        _ => false,
    }
}

/// The records that a question about records is about.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Records {
    /// Those that this selects, as they are stored.
    Stored(Predicate),
    /// What these pipes make of those that the query selects.
    Made(Query),
}

/// The records that `query` gives before anything is aggregated or cut off: the pipes from the first
/// `stats`, `limit`, … on do not matter, nor do those that drop, copy or rename fields unless something
/// after them looks at what they made.
pub(crate) fn records(query: &Query) -> Records {
    let mut parts = vec![query.predicate.clone()];
    let mut pipes = Vec::new();
    let mut is_made = false;
    for pipe in &query.pipes {
        match pipe {
            Pipe::Filter(filter) if pipes.is_empty() => parts.push(filter.clone()),
            Pipe::Fields(_) | Pipe::Delete(_) | Pipe::Copy(_) | Pipe::Rename(_) => {
                pipes.push(pipe.clone());
            }
            Pipe::Sort(sort) if sort.limit.is_none() && sort.offset == 0 => {}
            pipe if pipe.is_row_wise() => {
                is_made = true;
                pipes.push(pipe.clone());
            }
            _ => break,
        }
    }
    let predicate = Predicate::and(parts);
    match is_made {
        true => Records::Made(Query { predicate, pipes }),
        false => Records::Stored(predicate),
    }
}

/// The predicate of a query that has nothing but a filter.
pub(crate) fn only_filter(query: Query) -> Result<Predicate, QueryError> {
    match query.pipes.first() {
        None => Ok(query.predicate),
        Some(pipe) => Err(QueryError::invalid(format!(
            "`| {}` is a pipe; only a filter can be given here",
            pipe.name()
        ))),
    }
}
