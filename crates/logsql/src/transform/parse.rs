//! Reads the pipes that make fields of fields.

use lodge_record::field;
use lodge_segment::predicate::{Predicate, parse_duration_ns};

use super::super::cursor::Cursor;
use super::super::filter::{parse_filter, whole_number};
use super::super::names::{by_names, list, name, parenthesised, pattern};
use super::super::pipe::FieldPattern;
use super::{Keep, Regex, Targets, Transform, TransformPipe, Unpack, math, template};
use crate::error::SyntaxError;

/// Largest compiled form of a regular expression of a pipe, bytes.
const REGEX_BYTES_MAX: usize = 1 << 20;
/// Most fields that one pipe makes by name.
const TARGETS_MAX: usize = 1_000;

/// Parses the pipe `keyword`, the cursor behind it; `None` if it is none of these pipes.
pub(crate) fn parse(
    cursor: &mut Cursor<'_>,
    keyword: &str,
) -> Result<Option<TransformPipe>, SyntaxError> {
    let mut pipe =
        TransformPipe { condition: None, work: Transform::DropEmptyFields, keep: Keep::default() };
    pipe.work = match keyword {
        "coalesce" => coalesce(cursor)?,
        "collapse_nums" => {
            pipe.condition = condition(cursor)?;
            let field = after(cursor, "at")?.unwrap_or_else(message);
            Transform::CollapseNums { field, prettify: word(cursor, "prettify") }
        }
        "decolorize" => Transform::Decolorize { field: optional_name(cursor)? },
        "drop_empty_fields" => Transform::DropEmptyFields,
        "extract" => {
            pipe.condition = condition(cursor)?;
            let pattern = template::parse_extraction(cursor)?;
            let from = after(cursor, "from")?.unwrap_or_else(message);
            pipe.keep = keep(cursor);
            Transform::Extract { from, pattern }
        }
        "extract_regexp" => extract_regexp(cursor, &mut pipe)?,
        "format" => {
            pipe.condition = condition(cursor)?;
            let template = template::parse_template(cursor)?;
            let to = target(cursor, &[])?.unwrap_or_else(message);
            pipe.keep = keep(cursor);
            Transform::Format { template, to }
        }
        "hash" => {
            let (from, to) = call(cursor, keyword)?;
            Transform::Hash { from, to }
        }
        "json_array_concat" => {
            let delimiter = match is_name_next(cursor) && cursor.peek_bare() != "from" {
                true => cursor.expect_word("what comes between the items")?.text,
                false => String::new(),
            };
            let from = after(cursor, "from")?.unwrap_or_else(message);
            let to = target(cursor, &[])?.unwrap_or_else(|| from.clone());
            Transform::JsonArrayConcat { delimiter, from, to }
        }
        "json_array_len" => {
            let (from, to) = call(cursor, keyword)?;
            Transform::JsonArrayLen { from, to }
        }
        "len" => {
            let (from, to) = call(cursor, keyword)?;
            Transform::Len { from, to }
        }
        "math" | "eval" => Transform::Math(math::parse(cursor)?),
        "pack_json" | "pack_logfmt" => {
            let fields = if word(cursor, "fields") { patterns(cursor)? } else { Vec::new() };
            let to = target(cursor, &[])?.unwrap_or_else(message);
            match keyword {
                "pack_json" => Transform::PackJson { fields, to },
                _ => Transform::PackLogfmt { fields, to },
            }
        }
        "replace" | "replace_regexp" => replacement(cursor, keyword, &mut pipe.condition)?,
        "sample" => {
            let start = cursor.at();
            let every = whole_number(cursor, "a number of records, of which one is kept")?;
            if every == 0 {
                return Err(cursor.error_at(start, "expected a number of at least 1"));
            }
            Transform::Sample(every)
        }
        "set_stream_fields" => {
            pipe.condition = condition(cursor)?;
            cursor.skip_space();
            Transform::SetStreamFields(match cursor.rest().starts_with('(') {
                true => parenthesised(cursor, "`set_stream_fields`", pattern)?,
                false => list(cursor, pattern)?,
            })
        }
        "split" => {
            let separator = cursor.expect_word("a separator in quotes, as in \",\"")?.text;
            let from = after(cursor, "from")?.unwrap_or_else(message);
            let to = target(cursor, &[])?.unwrap_or_else(|| from.clone());
            Transform::Split { separator, from, to }
        }
        "time_add" => {
            let offset_ns = duration(cursor)?;
            let field = after(cursor, "at")?.unwrap_or_else(|| field::TIME.to_owned());
            Transform::TimeAdd { field, offset_ns }
        }
        "unpack_json" | "unpack_logfmt" | "unpack_syslog" => unpack(cursor, keyword, &mut pipe)?,
        "unpack_words" => {
            let from = match after(cursor, "from")? {
                Some(from) => from,
                None if is_name_next(cursor) => name(cursor)?,
                None => message(),
            };
            let to = target(cursor, &[])?.unwrap_or_else(|| from.clone());
            Transform::UnpackWords { from, to, is_unique: word(cursor, "drop_duplicates") }
        }
        "unroll" => {
            pipe.condition = condition(cursor)?;
            cursor.skip_space();
            Transform::Unroll(by_names(cursor, keyword)?)
        }
        _ => return Ok(None),
    };
    if let Targets::Named(names) = pipe.targets()
        && names.len() > TARGETS_MAX
    {
        let problem = format!("`| {keyword}` makes more than {TARGETS_MAX} fields; split it");
        return Err(cursor.error(problem));
    }
    Ok(Some(pipe))
}

/// `coalesce(a, b*) default x as name`.
fn coalesce(cursor: &mut Cursor<'_>) -> Result<Transform, SyntaxError> {
    let fields = parenthesised(cursor, "`coalesce`", pattern)?;
    if fields.is_empty() {
        return Err(cursor.error("`coalesce(…)` needs at least one field"));
    }
    let mut default = String::new();
    let mut to = None;
    loop {
        if word(cursor, "default") {
            default = cursor.expect_word("a value after `default`")?.text;
        } else if to.is_none()
            && let Some(name) = target(cursor, &["default"])?
        {
            to = Some(name);
        } else {
            break;
        }
    }
    Ok(Transform::Coalesce { fields, default, to: to.unwrap_or_else(message) })
}

/// `extract_regexp if (filter) "(?P<name>…)" from field`.
fn extract_regexp(
    cursor: &mut Cursor<'_>,
    pipe: &mut TransformPipe,
) -> Result<Transform, SyntaxError> {
    pipe.condition = condition(cursor)?;
    cursor.skip_space();
    let start = cursor.at();
    let pattern = regex(cursor)?;
    if pattern.0.capture_names().flatten().next().is_none() {
        return Err(cursor.error_at(
            start,
            "expected a regular expression with a named group, as in \"(?P<name>[0-9]+)\"",
        ));
    }
    let from = after(cursor, "from")?.unwrap_or_else(message);
    pipe.keep = keep(cursor);
    Ok(Transform::ExtractRegexp { from, pattern })
}

/// `unpack_json if (filter) from field fields (a, b*) result_prefix "p."`, and its like.
fn unpack(
    cursor: &mut Cursor<'_>,
    keyword: &str,
    pipe: &mut TransformPipe,
) -> Result<Transform, SyntaxError> {
    pipe.condition = condition(cursor)?;
    let from = after(cursor, "from")?.unwrap_or_else(message);
    let mut unpack = Unpack { from, fields: Vec::new(), prefix: String::new() };
    let mut offset_ns = 0;
    loop {
        cursor.skip_space();
        if word(cursor, "fields") && keyword != "unpack_syslog" {
            unpack.fields = patterns(cursor)?;
        } else if word(cursor, "result_prefix") {
            unpack.prefix = cursor.expect_word("a prefix for the names")?.text;
        } else if keyword == "unpack_syslog" && word(cursor, "offset") {
            offset_ns = duration(cursor)?;
        } else {
            break;
        }
    }
    pipe.keep = keep(cursor);
    Ok(match keyword {
        "unpack_json" => Transform::UnpackJson(unpack),
        "unpack_logfmt" => Transform::UnpackLogfmt(unpack),
        _ => Transform::UnpackSyslog { unpack, offset_ns, now_ns: cursor.now_ns },
    })
}

fn duration(cursor: &mut Cursor<'_>) -> Result<i64, SyntaxError> {
    cursor.skip_space();
    let start = cursor.at();
    let text = cursor.expect_word("a duration, as in 5h30m")?.text;
    parse_duration_ns(&text)
        .ok_or_else(|| cursor.error_at(start, "expected a duration, as in 5h30m or -2h"))
}

fn message() -> String {
    field::MSG.to_owned()
}

/// `if (filter)`.
fn condition(cursor: &mut Cursor<'_>) -> Result<Option<Predicate>, SyntaxError> {
    if !word(cursor, "if") {
        return Ok(None);
    }
    cursor.expect("(", "`if`")?;
    cursor.skip_space();
    let filter = match cursor.rest().starts_with(')') {
        true => Predicate::All,
        false => cursor.nested(parse_filter)?,
    };
    cursor.expect(")", "the filter of `if`")?;
    Ok(Some(filter))
}

/// Moves over `keyword` after spaces, if it is next.
fn word(cursor: &mut Cursor<'_>, keyword: &str) -> bool {
    let start = cursor.at();
    cursor.skip_space();
    let found = cursor.eat_keyword(keyword);
    if !found {
        cursor.go_to(start);
    }
    found
}

/// The name after `keyword`, if that is next.
fn after(cursor: &mut Cursor<'_>, keyword: &str) -> Result<Option<String>, SyntaxError> {
    if word(cursor, keyword) { name(cursor).map(Some) } else { Ok(None) }
}

/// Whether a name comes before the end of the pipe.
fn is_name_next(cursor: &mut Cursor<'_>) -> bool {
    cursor.skip_space();
    !matches!(cursor.peek(), None | Some('|' | ')'))
        && !matches!(
            cursor.peek_bare(),
            "as" | "keep_original_fields" | "skip_empty_results" | "drop_duplicates"
        )
}

fn optional_name(cursor: &mut Cursor<'_>) -> Result<String, SyntaxError> {
    if is_name_next(cursor) { name(cursor) } else { Ok(message()) }
}

/// `as name`, or the name alone unless it is one of the pipe's own words.
fn target(cursor: &mut Cursor<'_>, words: &[&str]) -> Result<Option<String>, SyntaxError> {
    if let Some(name) = after(cursor, "as")? {
        return Ok(Some(name));
    }
    match is_name_next(cursor) && !words.contains(&cursor.peek_bare()) {
        true => name(cursor).map(Some),
        false => Ok(None),
    }
}

/// `keep_original_fields`, `skip_empty_results`.
fn keep(cursor: &mut Cursor<'_>) -> Keep {
    let mut keep = Keep::default();
    loop {
        if word(cursor, "keep_original_fields") {
            keep.original = true;
        } else if word(cursor, "skip_empty_results") {
            keep.unless_found = true;
        } else {
            return keep;
        }
    }
}

/// `(field) as name`; without a name it is the text of the call.
fn call(cursor: &mut Cursor<'_>, function: &str) -> Result<(String, String), SyntaxError> {
    cursor.expect("(", &format!("`{function}`"))?;
    let from = name(cursor)?;
    cursor.expect(")", "the field's name")?;
    let to = target(cursor, &[])?.unwrap_or_else(|| format!("{function}({from})"));
    Ok((from, to))
}

fn patterns(cursor: &mut Cursor<'_>) -> Result<Vec<FieldPattern>, SyntaxError> {
    parenthesised(cursor, "`fields`", pattern)
}

/// `if (filter) ("old", "new") at field limit 3`.
fn replacement(
    cursor: &mut Cursor<'_>,
    keyword: &str,
    filter: &mut Option<Predicate>,
) -> Result<Transform, SyntaxError> {
    *filter = condition(cursor)?;
    cursor.expect("(", &format!("`{keyword}`"))?;
    cursor.skip_space();
    let start = cursor.at();
    let old = cursor.expect_word("the text to be replaced")?.text;
    cursor.expect(",", "the text to be replaced")?;
    let new = cursor.expect_word("the text to put there")?.text;
    cursor.expect(")", "the text to put there")?;
    let (mut field, mut limit) = (message(), None);
    loop {
        if let Some(name) = after(cursor, "at")? {
            field = name;
        } else if word(cursor, "limit") {
            limit = Some(whole_number(cursor, "a number of replacements")?).filter(|n| *n > 0);
        } else {
            break;
        }
    }
    if keyword == "replace" {
        return Ok(Transform::Replace { old, new, field, limit });
    }
    let old = compiled(cursor, start, &old)?;
    Ok(Transform::ReplaceRegexp { old, new, field, limit })
}

fn regex(cursor: &mut Cursor<'_>) -> Result<Regex, SyntaxError> {
    cursor.skip_space();
    let start = cursor.at();
    let text = cursor.expect_word("a regular expression in quotes")?.text;
    compiled(cursor, start, &text)
}

fn compiled(cursor: &Cursor<'_>, start: usize, text: &str) -> Result<Regex, SyntaxError> {
    let built = regex::RegexBuilder::new(text).size_limit(REGEX_BYTES_MAX).build();
    built.map(Regex).map_err(|error| {
        let error = error.to_string();
        let fault = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
        cursor.error_at(start, format!("this regular expression cannot be used: {fault}"))
    })
}
