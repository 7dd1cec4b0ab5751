//! Filters in function form: `in(…)`, `range(…)`, `seq(…)` and their like.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;
use std::ops::Bound;

use lodge_record::field;
use lodge_segment::predicate::{
    Ends, FieldOrder, FieldTest, NumberRange, Pattern, Phrase, Predicate, TextRange, ValueKind,
    parse_bound, parse_ipv4, parse_ipv6,
};

use super::cursor::{Cursor, shorten};
use super::filter::{Parsed, Target, exact};
use super::subquery::{self, Values};

/// Capital letters of a phrase in `contains_common_case(…)`: each doubles the number of its forms.
const CAPITALS_MAX: usize = 10;

/// A filter in function form, the cursor at its bracket, its name at `start`; `None` if there is no
/// such function, then the name is a word like any other.
pub(super) fn function(
    cursor: &mut Cursor<'_>,
    name: &str,
    start: usize,
    target: Target<'_>,
) -> Parsed<Option<Predicate>> {
    let name = name.to_ascii_lowercase();
    let name = name.as_str();
    if cursor.rest().starts_with('[') && !matches!(name, "range" | "string_range") {
        return Ok(None);
    }
    if let Some((_, order)) = FieldOrder::ALL.iter().find(|(known, _)| *known == name) {
        return compared(cursor, name, start, *order, target).map(Some);
    }
    if let Some((_, ends)) = Ends::ALL.iter().find(|(known, _)| *known == name) {
        return placeholders(cursor, name, *ends).map(|test| Some(target.passes(test)));
    }
    let test = match name {
        "in" | "contains_all" | "contains_any" => {
            return Ok(Some(match subquery::values(cursor, name)? {
                Values::All => Predicate::All,
                Values::Awaited => Predicate::None,
                Values::Of(values) => target.passes(of_values(name, values)),
            }));
        }
        "contains_common_case" => {
            let cases = common_cases(cursor, name)?;
            FieldTest::ContainsAny(cases.iter().map(|case| Phrase::whole(case)).collect())
        }
        "equals_common_case" => FieldTest::In(common_cases(cursor, name)?),
        "json_array_contains_any" => {
            FieldTest::JsonArray(arguments(cursor, name)?.into_iter().collect())
        }
        "seq" => FieldTest::Sequence(phrases(arguments(cursor, name)?)),
        "i" => any_case(cursor)?,
        "exact" | "exact_prefix" => {
            cursor.advance(1);
            let word = cursor.expect_word("a value")?;
            let prefix = cursor.eat("*") || name == "exact_prefix";
            cursor.expect(")", "the value")?;
            exact(word.text, prefix)
        }
        "re" => {
            cursor.advance(1);
            let test = regex(cursor)?;
            cursor.expect(")", "the regular expression")?;
            test
        }
        "range" => number_range(cursor)?,
        "string_range" => string_range(cursor)?,
        "len_range" => length_range(cursor, name)?,
        "ipv4_range" => match address_range(cursor, 32, |text| parse_ipv4(text).map(u128::from))? {
            Some((min, max)) => FieldTest::Ipv4 { min: min as u32, max: max as u32 },
            None => {
                return Err(cursor.error_at(
                    start,
                    "expected addresses as in ipv4_range(10.0.0.1, 10.0.0.9) or \
                     ipv4_range(\"10.0.0.0/8\")",
                ));
            }
        },
        "ipv6_range" => match address_range(cursor, 128, parse_ipv6)? {
            Some((min, max)) => FieldTest::Ipv6 { min, max },
            None => {
                return Err(cursor.error_at(
                    start,
                    format!(
                        "expected addresses as in ipv6_range(\"2001:db8::1\", \"2001:db8::ff\") or \
                         ipv6_range(\"{}/8\")",
                        Ipv6Addr::LOCALHOST
                    ),
                ));
            }
        },
        "value_type" => value_kind(cursor, name)?,
        _ => return Ok(None),
    };
    Ok(Some(target.passes(test)))
}

fn of_values(name: &str, values: Vec<String>) -> FieldTest {
    match name {
        "contains_all" => FieldTest::ContainsAll(phrases(values)),
        "contains_any" => FieldTest::ContainsAny(phrases(values)),
        _ => FieldTest::In(values.into_iter().collect()),
    }
}

/// The words of `(a, "b", c)`, the cursor at the parenthesis.
pub(super) fn arguments(cursor: &mut Cursor<'_>, name: &str) -> Parsed<Vec<String>> {
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
                 quotes"
            )));
        }
    }
}

fn phrases(words: Vec<String>) -> Vec<Phrase> {
    // The empty phrase occurs everywhere and says nothing.
    words.iter().filter(|word| !word.is_empty()).map(|word| Phrase::whole(word)).collect()
}

/// Two fields' relation.
fn compared(
    cursor: &mut Cursor<'_>,
    name: &str,
    start: usize,
    order: FieldOrder,
    target: Target<'_>,
) -> Parsed<Predicate> {
    let left = match target {
        Target::Message => field::MSG,
        Target::Field(name) => name,
        Target::Prefix(_) => {
            let problem = format!("{name}(…) compares two fields; name one before it, as in a:");
            return Err(cursor.error_at(start, format!("{problem}{name}(b)")));
        }
    };
    cursor.advance(1);
    let right = cursor.expect_word(&format!("the other field's name in {name}(…)"))?.text;
    cursor.expect(")", "the other field's name")?;
    Ok(Predicate::Compare { left: left.to_owned(), order, right })
}

fn placeholders(cursor: &mut Cursor<'_>, name: &str, ends: Ends) -> Parsed<FieldTest> {
    cursor.advance(1);
    cursor.skip_space();
    let start = cursor.at();
    let word = cursor.expect_word(&format!("a pattern in quotes in {name}(…)"))?;
    cursor.expect(")", "the pattern")?;
    Pattern::placeholders(&word.text, ends)
        .map(FieldTest::Regex)
        .map_err(|error| cursor.error_at(start, format!("this pattern cannot be used: {error}")))
}

/// The phrases as they are, in capitals, in small letters, and with any of their capitals small.
fn common_cases(cursor: &mut Cursor<'_>, name: &str) -> Parsed<BTreeSet<String>> {
    let start = cursor.at();
    let mut cases = BTreeSet::new();
    for phrase in arguments(cursor, name)?.into_iter().filter(|phrase| !phrase.is_empty()) {
        let capitals = phrase.chars().filter(|c| c.is_uppercase()).count();
        if capitals > CAPITALS_MAX {
            return Err(cursor.error_at(
                start,
                format!(
                    "`{}` has {capitals} capital letters, {name}(…) takes at most {CAPITALS_MAX}; \
                     write i(…) for any letter case",
                    shorten(&phrase)
                ),
            ));
        }
        cases.insert(phrase.to_uppercase());
        cases.insert(phrase.to_lowercase());
        for small in 0u32..1 << capitals {
            let mut nth = 0;
            let mut case = String::with_capacity(phrase.len());
            for c in phrase.chars() {
                if !c.is_uppercase() {
                    case.push(c);
                    continue;
                }
                if small & (1 << nth) == 0 {
                    case.push(c);
                } else {
                    case.extend(c.to_lowercase());
                }
                nth += 1;
            }
            cases.insert(case);
        }
    }
    Ok(cases)
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

/// A regular expression, in quotes or not.
pub(super) fn regex(cursor: &mut Cursor<'_>) -> Parsed<FieldTest> {
    cursor.skip_space();
    let start = cursor.at();
    // Without quotes it goes on where a word would end: `~bar.*`.
    let ends = |c: char| c.is_whitespace() || "()[]{}|,\"'`#".contains(c);
    let rest = cursor.rest();
    let bare = rest.get(..rest.find(ends).unwrap_or(rest.len())).unwrap_or_default();
    let text = if bare.is_empty() {
        cursor.expect_word("a regular expression in quotes")?.text
    } else {
        cursor.advance(bare.len());
        bare.to_owned()
    };
    compiled(cursor, start, FieldTest::regex(&text))
}

/// What was compiled, or an error at `start`.
pub(super) fn compiled<T>(
    cursor: &Cursor<'_>,
    start: usize,
    result: Result<T, String>,
) -> Parsed<T> {
    result.map_err(|error| {
        // The last line names the fault; the ones before it draw a picture.
        let fault = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
        cursor.error_at(start, format!("this regular expression cannot be used: {fault}"))
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

/// `string_range(a, c)`, from `a` on up to but without `c`; with a square bracket, as in `[a, c]` or
/// `(a, c]`, the brackets say whether the ends are in, and an end may be missing.
fn string_range(cursor: &mut Cursor<'_>) -> Parsed<FieldTest> {
    let open = cursor.eat("(");
    if !open {
        cursor.eat("[");
    }
    cursor.skip_space();
    let min = cursor.word()?.map(|word| word.text);
    cursor.expect(",", "the lower end of the range")?;
    cursor.skip_space();
    let max = cursor.word()?.map(|word| word.text);
    cursor.skip_space();
    let max_open = cursor.eat(")");
    if !max_open {
        cursor.expect("]", "the upper end of the range")?;
    }
    let min_open = open && !max_open;
    if open && max_open && (min.is_none() || max.is_none()) {
        return Err(cursor.error("expected two texts, as in `string_range(a, c)`"));
    }
    let end = |text: Option<String>, is_open: bool| match (text, is_open) {
        (None, _) => Bound::Unbounded,
        (Some(text), true) => Bound::Excluded(text),
        (Some(text), false) => Bound::Included(text),
    };
    Ok(FieldTest::Text(TextRange { min: end(min, min_open), max: end(max, max_open) }))
}

fn length_range(cursor: &mut Cursor<'_>, name: &str) -> Parsed<FieldTest> {
    let start = cursor.at();
    let words = arguments(cursor, name)?;
    let length = |text: &String| {
        parse_bound(text).filter(|number| *number >= 0.0).map(|number| number as u64)
    };
    match words.as_slice() {
        [min, max] if let (Some(min), Some(max)) = (length(min), length(max)) => {
            Ok(FieldTest::Length { min, max })
        }
        _ => Err(cursor.error_at(start, "expected two lengths, as in `len_range(5, 10)`")),
    }
}

/// First and last address of `(first, last)`, `("network/bits")` or `(address)`; `None` if it is none
/// of these. `bits`: of an address.
fn address_range(
    cursor: &mut Cursor<'_>,
    bits: u32,
    parse: impl Fn(&str) -> Option<u128>,
) -> Parsed<Option<(u128, u128)>> {
    cursor.advance(1);
    let mut texts = Vec::new();
    loop {
        cursor.skip_space();
        let quoted = cursor.peek().is_some_and(|c| "\"'`".contains(c));
        texts.push(if quoted {
            cursor.expect_word("an address")?.text
        } else {
            // Colons and slashes belong to addresses.
            let rest = cursor.rest();
            let ends = |c: char| c.is_whitespace() || "()[]{}|,".contains(c);
            let text = rest.get(..rest.find(ends).unwrap_or(rest.len())).unwrap_or_default();
            cursor.advance(text.len());
            text.to_owned()
        });
        cursor.skip_space();
        if !cursor.eat(",") {
            break;
        }
    }
    cursor.expect(")", "the addresses")?;
    let all = u128::MAX >> (128 - bits.clamp(1, 128));
    Ok(match texts.as_slice() {
        [network] => match network.split_once('/') {
            Some((address, length)) => {
                parse(address).zip(length.parse::<u32>().ok()).and_then(|(address, length)| {
                    let host = all.checked_shr(length).unwrap_or(0);
                    (length <= bits).then_some((address & !host, address | host))
                })
            }
            None => parse(network).map(|address| (address, address)),
        },
        [min, max] => parse(min).zip(parse(max)),
        _ => None,
    })
}

fn value_kind(cursor: &mut Cursor<'_>, name: &str) -> Parsed<FieldTest> {
    cursor.advance(1);
    cursor.skip_space();
    let start = cursor.at();
    let word = cursor.expect_word(&format!("a kind of values in {name}(…)"))?;
    cursor.expect(")", "the kind of values")?;
    ValueKind::parse(&word.text).map(FieldTest::Kind).ok_or_else(|| {
        let kinds: Vec<&str> = ValueKind::ALL.iter().map(|(name, _)| *name).collect();
        let problem = format!("there is no kind `{}` of values; there are:", shorten(&word.text));
        cursor.error_at(start, format!("{problem} {}", kinds.join(", ")))
    })
}
