//! LogsQL: text in, a [`Query`] out.
//!
//! A query is a filter followed by pipes: `_time:5m error | stats by (service) count() hits`.
//! Semantics follow VictoriaLogs' documentation, with one deviation: times without a zone are UTC,
//! not the host's local time, so that a query means the same everywhere.
//!
//! Invariants:
//! - any text is answered with a query or an error that points at a character; nothing panics, and
//!   neither the length nor the nesting of the text is unbounded;
//! - relative times are resolved here, once, against the request's `now`.

mod cursor;
mod filter;
mod names;
mod pipe;
mod pipes;
mod stats;
mod time;
mod transform;

use lodge_segment::predicate::Predicate;

pub use pipe::{
    Bucket, ContextPipe, FacetsPipe, FieldPattern, GroupKey, JoinPipe, PatternsPipe, Pipe,
    RunningCall, RunningFunction, RunningPipe, SortKey, SortPipe, StatsCall, StatsFunction,
    StatsPipe,
};
pub use transform::{
    Expression, Extraction, Keep, MathFunction, Operator, Placeholder, Regex, Rendering, Targets,
    Template, Transform, TransformPipe, Unpack,
};

use crate::error::QueryError;

pub(crate) use stats::with_rates;

/// Longest query text.
pub const QUERY_BYTES_MAX: usize = 256 << 10;
/// Most pipes of one query, those of the queries within it not counted.
pub const PIPES_MAX: usize = 200;
/// Deepest nesting of parentheses and negations.
pub const QUERY_DEPTH_MAX: usize = 128;

/// A parsed query.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// Which records.
    pub predicate: Predicate,
    /// What is done with them, one after the other.
    pub pipes: Vec<Pipe>,
}

/// Parses `text`; relative times count from `now_ns`.
pub fn parse(text: &str, now_ns: i64) -> Result<Query, QueryError> {
    let mut cursor = cursor::Cursor::new(text, now_ns)?;
    cursor.skip_space();
    if cursor.at_end() {
        return Err(cursor.error(
            "the query is empty; write a filter, for example `error`, `_time:5m`, or `*` for everything",
        ));
    }
    let query = parse_query(&mut cursor)?;
    if !cursor.at_end() {
        let found = cursor.describe();
        return Err(cursor.error(format!("expected `|` and a pipe, or the end, not {found}")));
    }
    Ok(query)
}

/// A query, up to a `)` or the end.
fn parse_query(cursor: &mut cursor::Cursor<'_>) -> Result<Query, QueryError> {
    let predicate = filter::parse_filter(cursor)?;
    let mut pipes = Vec::new();
    loop {
        cursor.skip_space();
        if !cursor.eat("|") {
            return Ok(merged(Query { predicate, pipes }));
        }
        let start = cursor.at();
        if pipes.len() == PIPES_MAX {
            return Err(cursor.error(format!("a query has at most {PIPES_MAX} pipes")));
        }
        let pipe = pipes::parse_pipe(cursor)?;
        if matches!(pipe, Pipe::StreamContext(_)) && !pipes.iter().all(is_filter) {
            return Err(cursor.error_at(
                start,
                "`| stream_context` has to be the first pipe, right behind the filters",
            ));
        }
        pipes.push(pipe);
    }
}

fn is_filter(pipe: &Pipe) -> bool {
    matches!(pipe, Pipe::Filter(_))
}

/// A query in parentheses, one level deeper.
fn parse_inner(cursor: &mut cursor::Cursor<'_>, after: &str) -> Result<Query, QueryError> {
    cursor.expect("(", after)?;
    cursor.skip_space();
    let query = cursor.nested(parse_query)?;
    cursor.expect(")", "the query in parentheses")?;
    Ok(query)
}

/// `error | filter x:y` is `error x:y`: the leaf does it all.
fn merged(mut query: Query) -> Query {
    let filters = query.pipes.iter().take_while(|pipe| is_filter(pipe)).count();
    let mut parts = vec![query.predicate];
    parts.extend(query.pipes.drain(..filters).filter_map(|pipe| match pipe {
        Pipe::Filter(predicate) => Some(predicate),
        _ => None,
    }));
    query.predicate = Predicate::and(parts);
    query
}
