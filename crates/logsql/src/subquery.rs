//! Queries inside a query: `in(_time:1d path:admin | fields user)`.
//!
//! The values that such a query gives are needed before the filter around it can be built. So a query
//! is parsed twice: first to learn which queries are inside, then, once these are answered, with their
//! answers. Queries inside queries are found when the outer one of them is asked.

use super::cursor::Cursor;
use super::filter::Parsed;
use super::functions::arguments;
use super::{FieldPattern, Options, Pipe, Query, parse_up_to};
use crate::error::SyntaxError;

/// A query inside another one.
#[derive(Debug, Clone, PartialEq)]
pub struct Subquery {
    /// Its text.
    pub text: String,
    /// The one field that it gives.
    pub field: String,
    /// Its options, those of the queries around it included.
    pub options: Options,
    /// Where it begins in the text around it, in characters from 1.
    pub column: usize,
}

/// What is in the parentheses of `in(…)` and its like.
#[derive(Debug)]
pub(super) enum Values {
    /// A star: any value at all.
    All,
    /// These.
    Of(Vec<String>),
    /// Those of a query that is not answered yet.
    Awaited,
}

/// Values, a star or a query, the cursor at the parenthesis.
pub(super) fn values(cursor: &mut Cursor<'_>, name: &str) -> Parsed<Values> {
    let start = cursor.at();
    cursor.advance(1);
    cursor.skip_space();
    if cursor.eat("*") {
        cursor.skip_space();
        if cursor.eat(")") {
            return Ok(Values::All);
        }
    }
    cursor.go_to(start);
    let error = match arguments(cursor, name) {
        Ok(values) => return Ok(Values::Of(values)),
        Err(error) => error,
    };
    cursor.go_to(start);
    cursor.advance(1);
    cursor.skip_space();
    let begin = cursor.at();
    cursor.check_depth()?;
    let query = match cursor.inside(|cursor| cursor.nested(parse_up_to)) {
        Ok(query) => query,
        Err(other) => return Err(farther(error, other)),
    };
    let text = cursor.since(begin).trim_end().to_owned();
    if query.pipes.is_empty() {
        return Err(error);
    }
    let Some(field) = only_field(&query) else {
        return Err(cursor.error(format!(
            "a query in {name}(…) must end in `| fields name` or `| uniq by (name)`, with one field"
        )));
    };
    cursor.expect(")", &format!("the query in {name}(…)"))?;
    let column = cursor.column(begin);
    let subquery = Subquery { text, field, options: query.options, column };
    Ok(cursor.answer_of(subquery).map_or(Values::Awaited, Values::Of))
}

/// The error that was met later in the text.
fn farther(one: SyntaxError, other: SyntaxError) -> SyntaxError {
    if other.column > one.column { other } else { one }
}

/// The only field that the rows of a query have.
fn only_field(query: &Query) -> Option<String> {
    match query.pipes.last()? {
        Pipe::Fields(patterns) => match patterns.as_slice() {
            [FieldPattern::Name(name)] => Some(name.clone()),
            _ => None,
        },
        Pipe::Uniq { by, hits: None, .. } => match by.as_slice() {
            [name] => Some(name.clone()),
            _ => None,
        },
        _ => None,
    }
}
