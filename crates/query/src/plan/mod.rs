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
mod gather;
mod histogram;
mod kept;
mod natural;
mod pipes;
mod quantile;
mod single;
mod stats;
mod step;
mod travel;
mod trend;

use std::sync::Arc;

use datafusion::datasource::provider_as_source;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{LogicalPlanBuilder, UNNAMED_TABLE};
use datafusion::prelude::DataFrame;
use lodge_record::field;
use lodge_segment::predicate::Predicate;

use crate::error::QueryError;
use crate::logsql::{self, Pipe, Query, SortKey, SortPipe, Targets};
use crate::scan::{Context, LogsTable, Source, StoredBlocks, TopByTime, Types, table_schema};
use crate::stage::{self, Ordered, QueryStats, schema_of};
use crate::transform::Later;
use fields::Needed;

pub(crate) use aggregation::SegmentAggregation;
pub(crate) use functions::{ValueFunction, matched};
pub(crate) use step::bucket_function;
pub(crate) use travel::Functions;

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

/// Bytes that compare as LogsQL orders values.
pub(crate) fn sort_key(text: &str) -> Vec<u8> {
    natural::key(text)
}

/// Per pipe what those behind it look at, of a query whose rows are wanted whole.
pub(crate) fn later(pipes: &[Pipe]) -> Vec<Later> {
    let needs = fields::needed(pipes, Needed::everything());
    needs.iter().skip(1).map(Needed::later).collect()
}

/// Most queries within a query.
const INNER_QUERIES_MAX: usize = 64;

/// Plans `query` over `source`, whose predicate is already that of the query.
pub(crate) fn query_frame(
    state: SessionState,
    partitions: usize,
    source: Source,
    query: &Query,
    page: Page,
) -> Result<DataFrame, QueryError> {
    let count = inner_queries(query);
    if count > INNER_QUERIES_MAX {
        return Err(QueryError::invalid(format!(
            "the query has {count} queries within it, the most is {INNER_QUERIES_MAX}; take some of \
             the `join` and `union` pipes out"
        )));
    }
    let planner = Planner { state, partitions };
    planner.frame(source, query, Needed::everything(), Some(page))
}

fn inner_queries(query: &Query) -> usize {
    query.pipes.iter().filter_map(Pipe::inner).map(|inner| 1 + inner_queries(inner)).sum()
}

/// What all queries of one plan have in common.
struct Planner {
    state: SessionState,
    partitions: usize,
}

impl Planner {
    /// Plans `query` over `source`; `tail`: which fields are wanted of what it gives; `page`: which
    /// rows, `None` of a query within another one.
    fn frame(
        &self,
        source: Source,
        query: &Query,
        tail: Needed,
        page: Option<Page>,
    ) -> Result<DataFrame, QueryError> {
        let is_within = page.is_none();
        let page = page.unwrap_or_default();
        let query = logsql::with_rates(query, source.predicate.time_bounds());
        let (top, pipes) = leaf_top(&limits_first(&query.pipes), page);
        let needs = fields::needed(&pipes, tail);
        let (done, mut frame) = match StoredBlocks::of(&source, &pipes) {
            Some((place, blocks)) => {
                (place + 1, stage::leaf(self.state.clone(), Arc::new(blocks))?)
            }
            None => (0, self.leaf(&source, &pipes, needs.first(), top)?),
        };
        let span = source.span();
        let steps = pipes.iter().zip(needs.iter().skip(1)).enumerate();
        for (at, (pipe, after)) in steps.skip(done) {
            if fields::is_idle(pipe, after) {
                continue;
            }
            frame = match pipe {
                // The leaf is what they are.
                Pipe::StreamContext(_) if at == 0 => frame,
                Pipe::Join(_) | Pipe::Union(_) => self.combined(frame, &source, pipe, after)?,
                Pipe::QueryStats => {
                    let stats = QueryStats(Arc::clone(&source.control));
                    stage::over(frame, Arc::new(stats))?
                }
                pipe => pipes::apply(frame, pipe, span, after)?,
            };
            let is_sorted = matches!(pipe, Pipe::Sort(_) | Pipe::Top { .. } | Pipe::Patterns(_));
            if is_sorted && (is_within || pipes.iter().skip(at + 1).any(is_stage)) {
                let schema = schema_of(&frame);
                frame = stage::over(frame, Arc::new(Ordered(schema)))?;
            }
        }
        match (page.limit, page.offset) {
            (None, 0) => Ok(frame),
            (limit, offset) => {
                let newest = top.is_none() && query.pipes.iter().all(Pipe::is_row_wise);
                if newest && pipes::has_column(&frame, field::TIME) {
                    // A filter behind a renaming pipe keeps the leaf from choosing.
                    let by = vec![SortKey { name: field::TIME.to_owned(), descending: true }];
                    let sort = Pipe::Sort(SortPipe { by, ..SortPipe::default() });
                    frame = pipes::apply(frame, &sort, span, &Needed::everything())?;
                }
                Ok(frame.limit(offset, limit)?)
            }
        }
    }

    /// Where the rows come from.
    fn leaf(
        &self,
        source: &Source,
        pipes: &[Pipe],
        need: Option<&Needed>,
        top: Option<TopByTime>,
    ) -> Result<DataFrame, QueryError> {
        let need = need.cloned().unwrap_or_default();
        let columns = need.columns();
        let only: Option<Vec<String>> = (!need.all)
            .then(|| need.named.iter().filter(|n| *n != field::OVERFLOW).cloned().collect());
        let schema = table_schema(&source.snapshot, only.as_deref(), &columns, &Types::default());
        if let Some(Pipe::StreamContext(pipe)) = pipes.first() {
            let context = Context::new(source.clone(), schema, *pipe);
            return stage::leaf(self.state.clone(), Arc::new(context));
        }
        let table = LogsTable::new(source.clone(), schema, self.partitions, top);
        let table = provider_as_source(Arc::new(table));
        let leaf = LogicalPlanBuilder::scan(UNNAMED_TABLE, table, None)?.build()?;
        Ok(DataFrame::new(self.state.clone(), leaf))
    }

    /// `frame` together with what another query gives.
    fn combined(
        &self,
        frame: DataFrame,
        source: &Source,
        pipe: &Pipe,
        after: &Needed,
    ) -> Result<DataFrame, QueryError> {
        let Some(query) = pipe.inner() else { return Ok(frame) };
        let tail = match pipe {
            Pipe::Join(join) => pipes::joined_need(join, after),
            _ => after.clone(),
        };
        let inner = source.within_reach(query);
        let other = self.frame(inner, query, tail, None)?;
        pipes::combine(frame, other, pipe, after)
    }
}

/// Whether a pipe is a step that DataFusion does not know.
fn is_stage(pipe: &Pipe) -> bool {
    matches!(
        pipe,
        Pipe::Transform(_)
            | Pipe::Facets(_)
            | Pipe::FieldNames
            | Pipe::BlocksCount
            | Pipe::BlockStats
            | Pipe::QueryStats
            | Pipe::Join(_)
            | Pipe::Union(_)
            | Pipe::StreamContext(_)
            | Pipe::Running(_)
            | Pipe::Sequence(_)
    )
}

/// The pipes with limits before what does not change which rows there are: so less is done for rows
/// that nobody sees.
fn limits_first(pipes: &[Pipe]) -> Vec<Pipe> {
    let mut pipes = pipes.to_vec();
    for at in 1..pipes.len() {
        let mut place = at;
        while place > 0
            && matches!(pipes.get(place), Some(Pipe::Limit(_) | Pipe::Offset(_)))
            && pipes.get(place - 1).is_some_and(Pipe::keeps_rows)
        {
            pipes.swap(place - 1, place);
            place -= 1;
        }
    }
    pipes
}

/// What of the query the leaf's search by time does, and the pipes that are left.
fn leaf_top(pipes: &[Pipe], page: Page) -> (Option<TopByTime>, Vec<Pipe>) {
    let rest = || pipes.to_vec();
    let place = pipes.iter().position(|pipe| !keeps_time(pipe)).unwrap_or(pipes.len());
    let Some(Pipe::Sort(sort)) = pipes.get(place) else {
        // Of plain records the request's limit gives the newest; pipes that drop or rename fields
        // do not matter to which those are.
        let plain = pipes.iter().all(Pipe::keeps_rows);
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
        Pipe::Transform(transform) => match transform.targets() {
            Targets::Named(names) => {
                transform.keeps_count() && names.iter().all(|name| name != field::TIME)
            }
            Targets::Any => false,
        },
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
        true => Records::Made(Query { options: query.options, ..Query::new(predicate, pipes) }),
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
