//! The filter of a query: words, fields, ranges, and how they are combined.
//!
//! `or` binds weakest, then `and` (which may be left out), then `not`, `!`, `-`.

use std::ops::Bound;

use lodge_record::field;
use lodge_segment::predicate::{
    FieldTest, NumberRange, Predicate, TextRange, parse_bound, parse_ipv4, parse_number,
};

use super::cursor::{Cursor, Word, shorten};
use super::functions::{function, regex};
use super::selector::selector;
use super::time;
use crate::error::SyntaxError;

pub(super) type Parsed<T> = Result<T, SyntaxError>;

/// The fields that a filter is about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Target<'n> {
    /// The message, because no field is named.
    Message,
    /// This field.
    Field(&'n str),
    /// Every field whose name begins so.
    Prefix(&'n str),
}

impl Target<'_> {
    /// Records of which the field, or any of the fields, passes `test`.
    pub(super) fn passes(self, test: FieldTest) -> Predicate {
        match self {
            Self::Message => Predicate::field(field::MSG, test),
            Self::Field(name) => Predicate::field(name, test),
            Self::Prefix(prefix) if test == FieldTest::Empty => {
                Self::Prefix(prefix).passes(FieldTest::Any).not()
            }
            Self::Prefix(prefix) => Predicate::AnyField { prefix: prefix.to_owned(), test },
        }
    }
}

/// What a filter without a field's name applies to.
#[derive(Debug, Clone, Copy)]
struct Scope<'n> {
    target: Target<'n>,
    /// The filter is the value right after `field:`, where no other field can be named.
    value: bool,
}

/// Parses a filter, up to a `|`, a `)` or the end.
pub(super) fn parse_filter(cursor: &mut Cursor<'_>) -> Parsed<Predicate> {
    any_of(cursor, Scope { target: Target::Message, value: false })
}

fn any_of(cursor: &mut Cursor<'_>, scope: Scope<'_>) -> Parsed<Predicate> {
    let mut parts = vec![all_of(cursor, scope)?];
    loop {
        cursor.skip_space();
        if !cursor.eat_keyword("or") {
            return Ok(Predicate::or(parts));
        }
        parts.push(all_of(cursor, scope)?);
    }
}

fn all_of(cursor: &mut Cursor<'_>, scope: Scope<'_>) -> Parsed<Predicate> {
    let mut parts = vec![not_of(cursor, scope)?];
    loop {
        cursor.skip_space();
        let ends = matches!(cursor.peek(), None | Some('|' | ')' | ']' | ',' | '}'));
        if ends || cursor.peek_bare().eq_ignore_ascii_case("or") {
            return Ok(Predicate::and(parts));
        }
        cursor.eat_keyword("and");
        parts.push(not_of(cursor, scope)?);
    }
}

fn not_of(cursor: &mut Cursor<'_>, scope: Scope<'_>) -> Parsed<Predicate> {
    cursor.skip_space();
    let start = cursor.at();
    let negated = if cursor.eat("!") || cursor.eat("-") {
        true
    } else if cursor.eat_keyword("not") {
        // `not:x` is a field of that name.
        if cursor.rest().starts_with([':', '=', '<', '>', '~']) {
            cursor.go_to(start);
        }
        cursor.at() > start
    } else {
        false
    };
    if negated {
        return Ok(cursor.nested(|cursor| not_of(cursor, scope))?.not());
    }
    if cursor.eat("(") {
        let inner = cursor.nested(|cursor| any_of(cursor, Scope { value: false, ..scope }))?;
        cursor.expect(")", "the filters in parentheses")?;
        return Ok(inner);
    }
    single(cursor, scope)
}

/// One filter; `scope` is what it applies to if it names no field itself.
fn single(cursor: &mut Cursor<'_>, scope: Scope<'_>) -> Parsed<Predicate> {
    let Scope { target, value } = scope;
    match cursor.peek() {
        Some('{') => return streams(cursor, target),
        Some('*') => return starred(cursor, scope),
        Some('=' | '~' | '<' | '>') => return Ok(target.passes(operator(cursor)?)),
        _ => {}
    }
    let start = cursor.at();
    let Some(word) = cursor.word()? else {
        let found = cursor.describe();
        return Err(cursor.error(format!(
            "expected a filter (a word, \"a phrase\", field:value, {{stream=\"labels\"}}, _time:5m \
             or `*`), not {found}"
        )));
    };
    if cursor.rest().starts_with(':') && !value {
        return named(cursor, Target::Field(&word.text), start);
    }
    if cursor.rest().starts_with("*:") && !value {
        cursor.advance(1);
        return named(cursor, Target::Prefix(&word.text), start);
    }
    if !word.quoted && ["and", "or"].iter().any(|k| word.text.eq_ignore_ascii_case(k)) {
        return Err(cursor.error_at(
            start,
            format!("expected a filter, not `{0}`; put it in quotes to search the word", word.text),
        ));
    }
    if target == Target::Message && starts_operator(cursor.rest()) {
        return compared(cursor, &word);
    }
    if !word.quoted
        && cursor.rest().starts_with(['(', '['])
        && let Some(predicate) = function(cursor, &word.text, start, target)?
    {
        return Ok(predicate);
    }
    Ok(target.passes(if cursor.eat("*") {
        FieldTest::prefix(&word.text)
    } else {
        FieldTest::phrase(&word.text)
    }))
}

/// A filter on streams, the cursor at its brace.
fn streams(cursor: &mut Cursor<'_>, target: Target<'_>) -> Parsed<Predicate> {
    match target {
        Target::Message | Target::Field(field::STREAM) => Ok(Predicate::Stream(selector(cursor)?)),
        Target::Field(name) | Target::Prefix(name) => Err(cursor.error(format!(
            "expected a value of `{}`, not `{{`; labels in braces select streams: write them alone \
             or after `_stream:`",
            shorten(name)
        ))),
    }
}

/// What begins with a star: `*`, `*word*`, `*:filter`.
fn starred(cursor: &mut Cursor<'_>, scope: Scope<'_>) -> Parsed<Predicate> {
    let start = cursor.at();
    cursor.advance(1);
    if cursor.rest().starts_with(':') && !scope.value {
        return named(cursor, Target::Prefix(""), start);
    }
    match cursor.word()? {
        Some(word) => substring(cursor, &word).map(|test| scope.target.passes(test)),
        None if scope.target == Target::Message => Ok(Predicate::All),
        None => Ok(scope.target.passes(FieldTest::Any)),
    }
}

/// Whether a comparison follows a field's name directly: `status>=500`, `level!="info"`.
fn starts_operator(rest: &str) -> bool {
    let after_not = rest.strip_prefix('!').unwrap_or(rest);
    if after_not.len() < rest.len() {
        return after_not.starts_with(['=', '~']);
    }
    rest.starts_with(['=', '~', '<', '>'])
}

/// A comparison directly after the field's name, the cursor at its sign.
fn compared(cursor: &mut Cursor<'_>, name: &Word) -> Parsed<Predicate> {
    if name.text != field::TIME {
        return not_of(cursor, Scope { target: Target::Field(&name.text), value: true });
    }
    let negated = cursor.eat("!");
    let filter = time::parse_time_filter(cursor)?;
    Ok(if negated { filter.not() } else { filter })
}

/// A filter on the fields of `target`, the cursor at its colon; the name began at `start`.
fn named(cursor: &mut Cursor<'_>, target: Target<'_>, start: usize) -> Parsed<Predicate> {
    cursor.advance(1);
    cursor.skip_space();
    if target == Target::Field(field::TIME) {
        return time_filter(cursor);
    }
    let name = cursor.since(start).trim_end().trim_end_matches(':').to_owned();
    if matches!(cursor.peek(), None | Some('|' | ')' | ',' | ']' | '}')) {
        let (found, name) = (cursor.describe(), shorten(&name));
        return Err(cursor.error(format!(
            "expected a value after `{name}:`, not {found}; write `{name}:\"\"` for records without \
             it",
        )));
    }
    let predicate = not_of(cursor, Scope { target, value: true })?;
    if cursor.rest().starts_with(':') {
        let value = cursor.since(start).to_owned();
        return Err(cursor.error(format!(
            "expected the end of the value of `{}`, not `:`; put a value with colons in quotes, as \
             in `{}:\"…\"`",
            shorten(&value),
            shorten(&name),
        )));
    }
    Ok(predicate)
}

/// A filter on `_time`, or what is not in it.
fn time_filter(cursor: &mut Cursor<'_>) -> Parsed<Predicate> {
    if cursor.eat("!") {
        cursor.skip_space();
        return Ok(cursor.nested(time_filter)?.not());
    }
    time::parse_time_filter(cursor)
}

/// `*word*`, the first star already read.
fn substring(cursor: &mut Cursor<'_>, word: &Word) -> Parsed<FieldTest> {
    if cursor.eat("*") {
        return Ok(match word.text.as_str() {
            "" => FieldTest::Any,
            text => FieldTest::Substring(text.to_owned()),
        });
    }
    Err(cursor.error(format!(
        "expected `*` after `*{0}`; write `*{0}*` for a text anywhere in the value",
        shorten(&word.text)
    )))
}

/// `=exact`, `="prefix"*`, `~regex`, `>5`, `>=5`, `<5`, `<=5`.
fn operator(cursor: &mut Cursor<'_>) -> Parsed<FieldTest> {
    if cursor.eat("=~") || cursor.eat("~") {
        return regex(cursor);
    }
    if cursor.eat("=") {
        cursor.skip_space();
        let word = cursor.expect_word("a value after `=`")?;
        return Ok(exact(word.text, cursor.eat("*")));
    }
    let above = cursor.eat(">");
    if !above {
        cursor.eat("<");
    }
    let included = cursor.eat("=");
    let word = cursor.expect_word("a number, an address or a text to compare with")?;
    Ok(comparison(above, included, &word.text))
}

/// The value itself, or how it begins.
pub(super) fn exact(text: String, prefix: bool) -> FieldTest {
    match (prefix, text.is_empty()) {
        (true, true) => FieldTest::Any,
        (true, false) => FieldTest::ExactPrefix(text),
        (false, _) => FieldTest::exact(&text),
    }
}

/// Compares by number if `bound` is one, by address if it is one, by text otherwise.
fn comparison(above: bool, included: bool, bound: &str) -> FieldTest {
    if let Some(number) = parse_bound(bound) {
        let (low, high) = (f64::NEG_INFINITY, f64::INFINITY);
        return FieldTest::Number(if above {
            NumberRange { min: number, min_open: !included, max: high, max_open: false }
        } else {
            NumberRange { min: low, min_open: false, max: number, max_open: !included }
        });
    }
    if let Some(address) = parse_ipv4(bound) {
        let (first, last) = if above {
            (if included { Some(address) } else { address.checked_add(1) }, Some(u32::MAX))
        } else {
            (Some(0), if included { Some(address) } else { address.checked_sub(1) })
        };
        return match (first, last) {
            (Some(min), Some(max)) => FieldTest::Ipv4 { min, max },
            // Above the highest or below the lowest address there is none.
            _ => FieldTest::Ipv4 { min: 1, max: 0 },
        };
    }
    let edge = if included {
        Bound::Included(bound.to_owned())
    } else {
        Bound::Excluded(bound.to_owned())
    };
    FieldTest::Text(if above {
        TextRange { min: edge, max: Bound::Unbounded }
    } else {
        TextRange { min: Bound::Unbounded, max: edge }
    })
}

/// A number for a pipe: a count of rows, with `_` and short suffixes.
pub(super) fn whole_number(cursor: &mut Cursor<'_>, what: &str) -> Parsed<u64> {
    cursor.skip_space();
    let start = cursor.at();
    let word = cursor.expect_word(what)?;
    parse_number(&word.text)
        .filter(|number| *number >= 0.0 && number.fract() == 0.0 && *number <= u64::MAX as f64)
        .map(|number| number as u64)
        .ok_or_else(|| {
            cursor.error_at(start, format!("expected {what}, not `{}`", shorten(&word.text)))
        })
}
