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

use lodge_segment::predicate::Predicate;

pub use pipe::{
    Bucket, FieldPattern, GroupKey, PatternsPipe, Pipe, SortKey, SortPipe, StatsCall,
    StatsFunction, StatsPipe,
};

use crate::error::QueryError;

/// Longest query text.
pub const QUERY_BYTES_MAX: usize = 256 << 10;
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
    let predicate = filter::parse_filter(&mut cursor)?;
    let mut pipes = Vec::new();
    loop {
        cursor.skip_space();
        if cursor.at_end() {
            return Ok(merged(Query { predicate, pipes }));
        }
        if !cursor.eat("|") {
            let found = cursor.describe();
            return Err(cursor.error(format!("expected `|` and a pipe, or the end, not {found}")));
        }
        pipes.push(pipes::parse_pipe(&mut cursor)?);
    }
}

/// `| stats by (…) count() as name`.
pub(crate) fn count_by(by: Vec<GroupKey>, name: &str) -> Pipe {
    let function = StatsFunction::Count;
    let count = StatsCall { function, fields: Vec::new(), filter: None, name: name.to_owned() };
    Pipe::Stats(StatsPipe { by, calls: vec![count] })
}

/// The filter of a query's text, without the pipes that follow it.
pub fn without_pipes(text: &str, now_ns: i64) -> Result<&str, QueryError> {
    let mut cursor = cursor::Cursor::new(text, now_ns)?;
    cursor.skip_space();
    if cursor.at_end() {
        // What is wrong with it is said where it is parsed.
        return Ok(text);
    }
    filter::parse_filter(&mut cursor)?;
    Ok(text.get(..cursor.at()).unwrap_or(text))
}

/// `error | filter x:y` is `error x:y`: the leaf does it all.
fn merged(mut query: Query) -> Query {
    let filters = query.pipes.iter().take_while(|pipe| matches!(pipe, Pipe::Filter(_))).count();
    let mut parts = vec![query.predicate];
    parts.extend(query.pipes.drain(..filters).filter_map(|pipe| match pipe {
        Pipe::Filter(predicate) => Some(predicate),
        _ => None,
    }));
    query.predicate = Predicate::and(parts);
    query
}
