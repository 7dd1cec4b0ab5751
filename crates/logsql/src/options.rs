//! What can be said of how a query is run: `options(concurrency=2) error`.

use super::cursor::{Cursor, shorten};
use super::filter::Parsed;

/// How a query is run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// At most so many parts at a time; `None`: as many as there are threads.
    pub concurrency: Option<usize>,
    /// The request's time range does not matter, only that of the query.
    pub ignore_global_time_filter: bool,
}

const KNOWN: &str = "concurrency=2, ignore_global_time_filter=true";

/// Reads `options(…)` at the beginning of a query, if it is there.
pub(super) fn parse(cursor: &mut Cursor<'_>) -> Parsed<()> {
    let start = cursor.at();
    if !cursor.eat_keyword("options") || !cursor.rest().starts_with('(') {
        cursor.go_to(start);
        return Ok(());
    }
    cursor.advance(1);
    loop {
        cursor.skip_space();
        if cursor.eat(")") {
            return Ok(());
        }
        let start = cursor.at();
        let name = cursor.expect_word(&format!("an option as in options({KNOWN})"))?.text;
        cursor.expect("=", &format!("the option `{}`", shorten(&name)))?;
        cursor.skip_space();
        let value_start = cursor.at();
        let value = cursor.expect_word("the option's value")?.text;
        let wrong = |cursor: &Cursor<'_>, what: &str| {
            let value = shorten(&value);
            cursor.error_at(value_start, format!("expected {what} for `{name}`, not `{value}`"))
        };
        match name.to_ascii_lowercase().as_str() {
            "concurrency" => match value.parse::<usize>() {
                // None at all would never end; as with no option, all are used.
                Ok(parts) => cursor.options.concurrency = Some(parts).filter(|parts| *parts > 0),
                Err(_) => return Err(wrong(cursor, "a whole number")),
            },
            "ignore_global_time_filter" => match value.to_ascii_lowercase().as_str() {
                "true" | "t" | "1" => cursor.options.ignore_global_time_filter = true,
                "false" | "f" | "0" => cursor.options.ignore_global_time_filter = false,
                _ => return Err(wrong(cursor, "true or false")),
            },
            _ => {
                let name = shorten(&name);
                let problem = format!("there is no option `{name}`; there are: {KNOWN}");
                return Err(cursor.error_at(start, problem));
            }
        }
        cursor.skip_space();
        if !cursor.eat(",") && !cursor.rest().starts_with(')') {
            let found = cursor.describe();
            return Err(cursor.error(format!("expected `,` or `)` in options(…), not {found}")));
        }
    }
}
