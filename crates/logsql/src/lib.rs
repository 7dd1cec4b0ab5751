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
mod error;
mod filter;
mod functions;
mod names;
mod options;
mod pipe;
mod pipes;
mod selector;
mod stats;
mod subquery;
mod time;
mod transform;

use lodge_segment::predicate::Predicate;

pub use error::SyntaxError;
pub use options::Options;
pub use pipe::{
    Bucket, ContextPipe, FacetsPipe, FieldPattern, GroupKey, JoinPipe, PatternsPipe, Pipe,
    RunningCall, RunningFunction, RunningPipe, SortKey, SortPipe, StatsCall, StatsFunction,
    StatsPipe,
};
pub use transform::{
    Expression, Extraction, Keep, MathFunction, Operator, Placeholder, Regex, Rendering, Targets,
    Template, Transform, TransformPipe, Unpack,
};

pub use stats::with_rates;
pub use subquery::Subquery;

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
    /// How it is run.
    pub options: Options,
    /// The queries in it whose answers are not known yet. As long as there are any, no record matches
    /// the filters that wait for them.
    pub subqueries: Vec<Subquery>,
}

impl Query {
    /// A query with nothing out of the ordinary.
    pub fn new(predicate: Predicate, pipes: Vec<Pipe>) -> Self {
        Self { predicate, pipes, options: Options::default(), subqueries: Vec::new() }
    }

    /// An error if there is a query inside, where none can be run; `place` tells where that is.
    pub fn without_subqueries(self, place: &str) -> Result<Self, SyntaxError> {
        match self.subqueries.first() {
            None => Ok(self),
            Some(subquery) => Err(SyntaxError::new(
                subquery.column,
                format!("a query inside a filter cannot be run in {place}; write the values out"),
            )),
        }
    }
}

/// What a query is parsed with beside its text.
#[derive(Debug, Clone, Copy)]
pub struct Given<'g> {
    /// Relative times count from here.
    pub now_ns: i64,
    /// The options of the queries around it.
    pub options: Options,
    /// The answers of the queries in it, in their order; all of them or none.
    pub answers: &'g [Vec<String>],
}

/// Parses `text`; relative times count from `now_ns`.
pub fn parse(text: &str, now_ns: i64) -> Result<Query, SyntaxError> {
    parse_given(text, Given { now_ns, options: Options::default(), answers: &[] })
}

/// Parses `text`, with the answers of the queries in it.
pub fn parse_given(text: &str, given: Given<'_>) -> Result<Query, SyntaxError> {
    let mut cursor = cursor::Cursor::new(text, given)?;
    cursor.skip_space();
    if cursor.at_end() {
        return Err(cursor.error(
            "the query is empty; write a filter, for example `error`, `_time:5m`, or `*` for everything",
        ));
    }
    let mut query = parse_up_to(&mut cursor)?;
    if !cursor.at_end() {
        let found = cursor.describe();
        return Err(cursor.error(format!("expected `|` and a pipe, or the end, not {found}")));
    }
    query.subqueries = cursor.into_awaited();
    Ok(query)
}

/// A query up to the end or to what cannot go on with it.
fn parse_up_to(cursor: &mut cursor::Cursor<'_>) -> Result<Query, SyntaxError> {
    let around = cursor.options;
    cursor.skip_space();
    options::parse(cursor)?;
    let options = cursor.options;
    let predicate = filter::parse_filter(cursor)?;
    let mut pipes = Vec::new();
    loop {
        cursor.skip_space();
        if !cursor.eat("|") {
            break;
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
    cursor.options = around;
    Ok(merged(Query { options, ..Query::new(predicate, pipes) }))
}

fn is_filter(pipe: &Pipe) -> bool {
    matches!(pipe, Pipe::Filter(_))
}

/// A query in parentheses, one level deeper.
fn parse_inner(cursor: &mut cursor::Cursor<'_>, after: &str) -> Result<Query, SyntaxError> {
    cursor.expect("(", after)?;
    cursor.skip_space();
    let query = cursor.nested(parse_up_to)?;
    cursor.expect(")", "the query in parentheses")?;
    Ok(query)
}

/// `| stats by (…) count() as name`.
pub fn count_by(by: Vec<GroupKey>, name: &str) -> Pipe {
    let function = StatsFunction::Count;
    let count = StatsCall { function, fields: Vec::new(), filter: None, name: name.to_owned() };
    Pipe::Stats(StatsPipe { by, calls: vec![count] })
}

/// The filter of a query's text, without the pipes that follow it.
pub fn without_pipes(text: &str, now_ns: i64) -> Result<&str, SyntaxError> {
    let given = Given { now_ns, options: Options::default(), answers: &[] };
    let mut cursor = cursor::Cursor::new(text, given)?;
    cursor.skip_space();
    options::parse(&mut cursor)?;
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
    let filters = query.pipes.iter().take_while(|pipe| is_filter(pipe)).count();
    let mut parts = vec![query.predicate];
    parts.extend(query.pipes.drain(..filters).filter_map(|pipe| match pipe {
        Pipe::Filter(predicate) => Some(predicate),
        _ => None,
    }));
    query.predicate = Predicate::and(parts);
    query
}
