//! The filter of a query: words, fields, ranges, streams, and how they are combined.
//!
//! `or` binds weakest, then `and` (which may be left out), then `not`, `!`, `-`.

use std::collections::BTreeSet;
use std::ops::Bound;

use lodge_record::field;
use lodge_segment::predicate::{
    FieldTest, LabelMatcher, LabelTest, NumberRange, Pattern, Phrase, Predicate, StreamSelector,
    TextRange, parse_bound, parse_ipv4, parse_number,
};

use super::cursor::{Cursor, Word, shorten};
use super::time;
use crate::error::QueryError;

type Parsed<T> = Result<T, QueryError>;

/// What a filter without a field's name applies to.
#[derive(Debug, Clone, Copy)]
struct Scope<'n> {
    /// The field; `None` is the message.
    field: Option<&'n str>,
    /// The filter is the value right after `field:`, where no other field can be named.
    value: bool,
}

/// Parses a filter, up to a `|`, a `)` or the end.
pub(super) fn parse_filter(cursor: &mut Cursor<'_>) -> Parsed<Predicate> {
    any_of(cursor, Scope { field: None, value: false })
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
    let Scope { field, value } = scope;
    let on_field = |test| Predicate::field(field.unwrap_or(field::MSG), test);
    match cursor.peek() {
        Some('{') => return Ok(Predicate::Stream(selector(cursor)?)),
        Some('*') => {
            cursor.advance(1);
            return match cursor.word()? {
                Some(word) => substring(cursor, &word).map(on_field),
                None if field.is_some() => Ok(on_field(FieldTest::Any)),
                None => Ok(Predicate::All),
            };
        }
        Some('=' | '~' | '<' | '>') => return Ok(on_field(operator(cursor)?)),
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
    if !word.quoted && ["and", "or"].iter().any(|k| word.text.eq_ignore_ascii_case(k)) {
        return Err(cursor.error_at(
            start,
            format!("expected a filter, not `{0}`; put it in quotes to search the word", word.text),
        ));
    }
    if cursor.rest().starts_with(':') && !value {
        return named(cursor, word, start);
    }
    if field.is_none() && starts_operator(cursor.rest()) {
        return not_of(cursor, Scope { field: Some(&word.text), value: true });
    }
    if !word.quoted
        && cursor.rest().starts_with(['(', '['])
        && let Some(test) = function(cursor, &word.text)?
    {
        return Ok(on_field(test));
    }
    Ok(on_field(if cursor.eat("*") {
        FieldTest::prefix(&word.text)
    } else {
        FieldTest::phrase(&word.text)
    }))
}

/// Whether a comparison follows a field's name directly: `status>=500`, `level!="info"`.
fn starts_operator(rest: &str) -> bool {
    let after_not = rest.strip_prefix('!').unwrap_or(rest);
    if after_not.len() < rest.len() {
        return after_not.starts_with(['=', '~']);
    }
    rest.starts_with(['=', '~', '<', '>'])
}

/// A filter on the field `name`, the cursor at its colon.
fn named(cursor: &mut Cursor<'_>, name: Word, start: usize) -> Parsed<Predicate> {
    cursor.advance(1);
    cursor.skip_space();
    if name.text == field::TIME && !name.quoted {
        return time::parse_time_filter(cursor);
    }
    if matches!(cursor.peek(), None | Some('|' | ')' | ',' | ']' | '}')) {
        let found = cursor.describe();
        return Err(cursor.error(format!(
            "expected a value after `{}:`, not {found}; write `{}:\"\"` for records without it",
            shorten(&name.text),
            shorten(&name.text)
        )));
    }
    let predicate = not_of(cursor, Scope { field: Some(&name.text), value: true })?;
    if cursor.rest().starts_with(':') {
        let value = cursor.since(start).to_owned();
        return Err(cursor.error(format!(
            "expected the end of the value of `{}`, not `:`; put a value with colons in quotes, as \
             in `{}:\"…\"`",
            shorten(&value),
            shorten(&name.text),
        )));
    }
    Ok(predicate)
}

/// `*word*`, the first star already read.
fn substring(cursor: &mut Cursor<'_>, word: &Word) -> Parsed<FieldTest> {
    if cursor.eat("*") {
        return Ok(FieldTest::Substring(word.text.clone()));
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
        let prefix = cursor.eat("*");
        return Ok(match (prefix, word.text.is_empty()) {
            (true, true) => FieldTest::Any,
            (true, false) => FieldTest::ExactPrefix(word.text),
            (false, _) => FieldTest::exact(&word.text),
        });
    }
    let above = cursor.eat(">");
    if !above {
        cursor.eat("<");
    }
    let included = cursor.eat("=");
    let word = cursor.expect_word("a number, an address or a text to compare with")?;
    Ok(comparison(above, included, &word.text))
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

fn regex(cursor: &mut Cursor<'_>) -> Parsed<FieldTest> {
    cursor.skip_space();
    let start = cursor.at();
    let word = cursor.expect_word("a regular expression in quotes")?;
    pattern(cursor, start, FieldTest::regex(&word.text))
}

fn pattern<T>(cursor: &Cursor<'_>, start: usize, compiled: Result<T, String>) -> Parsed<T> {
    compiled.map_err(|error| {
        // The last line names the fault; the ones before it draw a picture.
        let fault = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
        cursor.error_at(start, format!("this regular expression cannot be used: {fault}"))
    })
}

/// A filter in function form, the cursor at its bracket; `None` if there is no such function, then
/// the name is a word like any other.
fn function(cursor: &mut Cursor<'_>, name: &str) -> Parsed<Option<FieldTest>> {
    if cursor.rest().starts_with('[') && name != "range" {
        return Ok(None);
    }
    Ok(Some(match name {
        "range" => number_range(cursor)?,
        "in" => FieldTest::In(arguments(cursor, name)?.into_iter().collect::<BTreeSet<_>>()),
        "contains_all" => FieldTest::ContainsAll(phrases(cursor, name)?),
        "contains_any" => FieldTest::ContainsAny(phrases(cursor, name)?),
        "seq" => FieldTest::Sequence(phrases(cursor, name)?),
        "i" => any_case(cursor)?,
        "exact" | "exact_prefix" => exact_function(cursor, name)?,
        "re" => {
            cursor.advance(1);
            let test = regex(cursor)?;
            cursor.expect(")", "the regular expression")?;
            test
        }
        "len_range" => {
            let [min, max] = two_arguments(cursor, name)?;
            let length = |text: &str| {
                parse_bound(text).filter(|number| *number >= 0.0).map(|number| number as u64)
            };
            match (length(&min), length(&max)) {
                (Some(min), Some(max)) => FieldTest::Length { min, max },
                _ => return Err(cursor.error("expected two lengths, as in `len_range(5, 10)`")),
            }
        }
        "ipv4_range" => ipv4_range(cursor)?,
        "string_range" => {
            let [min, max] = two_arguments(cursor, name)?;
            FieldTest::Text(TextRange { min: Bound::Included(min), max: Bound::Excluded(max) })
        }
        _ => return Ok(None),
    }))
}

/// The words of `(a, "b", c)`.
fn arguments(cursor: &mut Cursor<'_>, name: &str) -> Parsed<Vec<String>> {
    cursor.advance(1);
    let mut words = Vec::new();
    loop {
        cursor.skip_space();
        if cursor.eat(")") {
            return Ok(words);
        }
        words.push(cursor.expect_word(&format!("a value or `)` in {name}(…)"))?.text);
        cursor.skip_space();
        if !cursor.eat(",") && !cursor.rest().starts_with(')') {
            let found = cursor.describe();
            return Err(cursor.error(format!(
                "expected `,` or `)` in {name}(…), not {found}; put values with spaces or signs in \
                 quotes (a query inside {name}(…) is not supported yet)"
            )));
        }
    }
}

fn two_arguments(cursor: &mut Cursor<'_>, name: &str) -> Parsed<[String; 2]> {
    let words = arguments(cursor, name)?;
    let count = words.len();
    words.try_into().map_err(|_| cursor.error(format!("{name}(…) takes 2 values, not {count}")))
}

fn phrases(cursor: &mut Cursor<'_>, name: &str) -> Parsed<Vec<Phrase>> {
    let words = arguments(cursor, name)?;
    // The empty phrase occurs everywhere and says nothing.
    Ok(words.iter().filter(|word| !word.is_empty()).map(|word| Phrase::whole(word)).collect())
}

fn any_case(cursor: &mut Cursor<'_>) -> Parsed<FieldTest> {
    cursor.advance(1);
    let word = cursor.expect_word("a word or phrase in i(…)")?;
    let test = if cursor.eat("*") {
        FieldTest::prefix_any_case(&word.text)
    } else {
        FieldTest::phrase_any_case(&word.text)
    };
    cursor.expect(")", "the word or phrase in i(…)")?;
    Ok(test)
}

fn exact_function(cursor: &mut Cursor<'_>, name: &str) -> Parsed<FieldTest> {
    cursor.advance(1);
    let word = cursor.expect_word("a value")?;
    let prefix = cursor.eat("*") || name == "exact_prefix";
    cursor.expect(")", "the value")?;
    Ok(match (prefix, word.text.is_empty()) {
        (true, true) => FieldTest::Any,
        (true, false) => FieldTest::ExactPrefix(word.text),
        (false, _) => FieldTest::exact(&word.text),
    })
}

/// `range(1, 10]`: the brackets say whether the ends are in.
fn number_range(cursor: &mut Cursor<'_>) -> Parsed<FieldTest> {
    let min_open = cursor.eat("(");
    if !min_open {
        cursor.eat("[");
    }
    let min = bound(cursor)?;
    cursor.expect(",", "the lower end of the range")?;
    let max = bound(cursor)?;
    cursor.skip_space();
    let max_open = cursor.eat(")");
    if !max_open {
        cursor.expect("]", "the upper end of the range")?;
    }
    Ok(FieldTest::Number(NumberRange { min, min_open, max, max_open }))
}

fn bound(cursor: &mut Cursor<'_>) -> Parsed<f64> {
    cursor.skip_space();
    let start = cursor.at();
    let word = cursor.expect_word("a number")?;
    parse_bound(&word.text).ok_or_else(|| {
        cursor.error_at(
            start,
            format!(
                "`{}` is not a number; write one as in 12, -0.5, 10KiB, 1.5s or inf",
                shorten(&word.text)
            ),
        )
    })
}

/// `ipv4_range(10.0.0.0, 10.0.0.255)`, `ipv4_range("10.0.0.0/8")` or a single address.
fn ipv4_range(cursor: &mut Cursor<'_>) -> Parsed<FieldTest> {
    let start = cursor.at();
    let words = arguments(cursor, "ipv4_range")?;
    let range = match words.as_slice() {
        [network] => match network.split_once('/') {
            Some((address, bits)) => {
                parse_ipv4(address).zip(bits.parse::<u32>().ok()).and_then(|(address, bits)| {
                    let host = u32::MAX.checked_shr(bits).unwrap_or(0);
                    (bits <= 32).then_some((address & !host, address | host))
                })
            }
            None => parse_ipv4(network).map(|address| (address, address)),
        },
        [min, max] => parse_ipv4(min).zip(parse_ipv4(max)),
        _ => None,
    };
    match range {
        Some((min, max)) => Ok(FieldTest::Ipv4 { min, max }),
        None => Err(cursor.error_at(
            start,
            "expected addresses as in ipv4_range(10.0.0.1, 10.0.0.9) or ipv4_range(\"10.0.0.0/8\")",
        )),
    }
}

/// `{name="value", other=~"expression" or third in ("a", "b")}`.
fn selector(cursor: &mut Cursor<'_>) -> Parsed<StreamSelector> {
    cursor.advance(1);
    let mut groups = vec![Vec::new()];
    loop {
        cursor.skip_space();
        if cursor.eat("}") {
            break;
        }
        if cursor.eat_keyword("or") {
            groups.push(Vec::new());
            continue;
        }
        let matcher = label_matcher(cursor)?;
        if let Some(group) = groups.last_mut() {
            group.push(matcher);
        }
        cursor.skip_space();
        let ends = cursor.rest().starts_with('}') || cursor.peek_bare() == "or";
        if !ends {
            cursor.expect(",", "a label's value")?;
        }
    }
    groups.retain(|group| !group.is_empty());
    Ok(StreamSelector { groups })
}

fn label_matcher(cursor: &mut Cursor<'_>) -> Parsed<LabelMatcher> {
    let name = cursor.expect_word("a label's name or `}`")?.text;
    cursor.skip_space();
    if cursor.eat_keyword("in") {
        cursor.skip_space();
        return Ok(LabelMatcher { name, test: LabelTest::In(label_list(cursor)?) });
    }
    if cursor.eat_keyword("not_in") {
        cursor.skip_space();
        return Ok(LabelMatcher { name, test: LabelTest::NotIn(label_list(cursor)?) });
    }
    let operator = ["=~", "!~", "!=", "="].into_iter().find(|operator| cursor.eat(operator));
    let Some(operator) = operator else {
        let found = cursor.describe();
        return Err(cursor.error(format!(
            "expected =, !=, =~, !~ or in (…) after the label `{}`, not {found}",
            shorten(&name)
        )));
    };
    cursor.skip_space();
    let start = cursor.at();
    let value = cursor.expect_word("the label's value in quotes")?.text;
    let test = match operator {
        "=" => LabelTest::In(vec![value]),
        "!=" => LabelTest::NotIn(vec![value]),
        "=~" => LabelTest::Regex(pattern(cursor, start, Pattern::anchored(&value))?),
        _ => LabelTest::NotRegex(pattern(cursor, start, Pattern::anchored(&value))?),
    };
    Ok(LabelMatcher { name, test })
}

fn label_list(cursor: &mut Cursor<'_>) -> Parsed<Vec<String>> {
    if !cursor.rest().starts_with('(') {
        let found = cursor.describe();
        return Err(cursor.error(format!("expected `(` and a list of values, not {found}")));
    }
    arguments(cursor, "in")
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
