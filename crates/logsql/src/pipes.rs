//! Parses the pipes of a query; `stats` has a module of its own.

use lodge_record::field;
use lodge_segment::predicate::parse_duration_ns;

use super::cursor::{Cursor, shorten};
use super::filter::{parse_filter, whole_number};
use super::names::{by_list, by_names, list, name, parenthesised, pattern};
use super::pipe::{
    ContextPipe, FacetsPipe, FieldPattern, JoinPipe, PatternsPipe, Pipe, RunningCall,
    RunningFunction, RunningPipe, SortKey, SortPipe,
};
use super::transform::{self, Keep, Transform, TransformPipe};
use super::{parse_inner, stats};
use crate::error::SyntaxError;

/// Rows that `limit`, `head` and `top` give if no number is written.
const ROWS_DEFAULT: u64 = 10;

/// Patterns that `patterns` gives if no number is written.
const PATTERNS_DEFAULT: u64 = 100;
/// Parts of the time that a trend of `patterns` has.
const TREND_BUCKETS: usize = 30;

/// Values of each field that `facets` gives if no number is written.
const FACETS_DEFAULT: u64 = 10;
/// Different values up to which `facets` looks at a field.
const FACET_VALUES_MAX: u64 = 1_000;
/// Bytes of a value up to which `facets` looks at a field.
const FACET_VALUE_LEN_MAX: u64 = 128;
/// How far `stream_context` looks around if nothing else is written: an hour.
const CONTEXT_WINDOW_NS: i64 = 3_600_000_000_000;

/// The pipes there are, for messages.
const PIPES: &str = "block_stats, blocks_count, coalesce, collapse_nums, copy, decolorize, delete, \
                     drop_empty_fields, extract, extract_regexp, facets, field_names, \
                     field_values, fields, filter, first, format, generate_sequence, hash, join, \
                     json_array_concat, json_array_len, last, len, limit, math, offset, \
                     pack_json, pack_logfmt, patterns, query_stats, rename, replace, \
                     replace_regexp, running_stats, sample, set_stream_fields, sort, \
                     split, stats, stream_context, time_add, top, total_stats, union, \
                     uniq, unpack_json, unpack_logfmt, unpack_syslog, \
                     unpack_words, unroll";

/// The pipe of which a word is a slip.
fn meant(word: &str) -> Option<&'static str> {
    let distances = PIPES.split(", ").map(|name| (strsim::osa_distance(word, name), name));
    let nearest = distances.min().filter(|(distance, name)| *distance <= 1 + name.len() / 4);
    nearest.map(|(_, name)| name)
}

/// Parses the pipe after a `|`.
pub(super) fn parse_pipe(cursor: &mut Cursor<'_>) -> Result<Pipe, SyntaxError> {
    cursor.skip_space();
    let start = cursor.at();
    let keyword = cursor.peek_bare().to_ascii_lowercase();
    let keyword_end = start + keyword.len();
    cursor.go_to(keyword_end);
    // `| level:error`, `| "phrase"`, `| !x`: a filter without its name.
    let anonymous = cursor.rest().starts_with([':', '=', '<', '>', '~', '!'])
        || matches!(keyword.as_str(), "" | "not");
    let pipe = match keyword.as_str() {
        _ if anonymous && !cursor.at_end() => {
            cursor.go_to(start);
            if cursor.rest().starts_with('|') {
                return Err(cursor.error(format!("expected a pipe, not `|`; there are: {PIPES}")));
            }
            Pipe::Filter(parse_filter(cursor)?)
        }
        "fields" | "keep" => Pipe::Fields(patterns(cursor)?),
        "delete" | "del" | "rm" | "drop" => Pipe::Delete(patterns(cursor)?),
        "copy" | "cp" => moved(cursor, true)?,
        "rename" | "mv" => moved(cursor, false)?,
        "facets" => Pipe::Facets(facets(cursor)?),
        "field_names" => Pipe::FieldNames,
        "field_values" => {
            let field = name(cursor)?;
            Pipe::FieldValues { field, limit: limit(cursor)? }
        }
        "blocks_count" => Pipe::BlocksCount,
        "block_stats" => Pipe::BlockStats,
        "query_stats" => Pipe::QueryStats,
        "join" => Pipe::Join(Box::new(join(cursor)?)),
        "union" => Pipe::Union(Box::new(parse_inner(cursor, "`union`")?)),
        "stream_context" => Pipe::StreamContext(context(cursor)?),
        "running_stats" | "total_stats" => {
            Pipe::Running(running(cursor, &keyword, keyword == "total_stats")?)
        }
        "generate_sequence" => Pipe::Sequence(whole_number(cursor, "a number of rows")?),
        "filter" | "where" => Pipe::Filter(parse_filter(cursor)?),
        "sort" | "order" => Pipe::Sort(sort(cursor, &keyword)?),
        "first" | "last" => Pipe::Sort(first_or_last(cursor, &keyword)?),
        "limit" | "head" => Pipe::Limit(optional_number(cursor)?.unwrap_or(ROWS_DEFAULT)),
        "offset" | "skip" => Pipe::Offset(whole_number(cursor, "a number of rows to skip")?),
        "stats" => Pipe::Stats(stats::parse_stats(cursor)?),
        "top" => top(cursor)?,
        "uniq" => uniq(cursor)?,
        "patterns" => patterns_of(cursor)?,
        other if stats::is_function(other) && next_is_parenthesis(cursor) => {
            cursor.go_to(start);
            Pipe::Stats(stats::parse_stats(cursor)?)
        }
        "" => {
            return Err(cursor.error(format!("expected a pipe after `|`; there are: {PIPES}")));
        }
        other => match transform::parse(cursor, other)? {
            Some(pipe) => Pipe::Transform(Box::new(pipe)),
            None => {
                let other = shorten(other);
                let names = match meant(&other) {
                    Some(name) => format!("did you mean `{name}`"),
                    None => format!("there are: {PIPES}"),
                };
                let message = format!(
                    "there is no pipe `{other}`; {names}; to filter by a word write `| filter {other}`"
                );
                return Err(cursor.error_at(start, message));
            }
        },
    };
    Ok(pipe)
}

fn next_is_parenthesis(cursor: &mut Cursor<'_>) -> bool {
    cursor.skip_space();
    cursor.rest().starts_with('(')
}

/// `a, b*` or `(a, b*)`.
fn patterns(cursor: &mut Cursor<'_>) -> Result<Vec<super::FieldPattern>, SyntaxError> {
    cursor.skip_space();
    if cursor.rest().starts_with('(') {
        return parenthesised(cursor, "the pipe", pattern);
    }
    list(cursor, pattern)
}

/// `a as b, c d`, or `a* as b*` for all fields that begin so.
fn moved(cursor: &mut Cursor<'_>, is_copy: bool) -> Result<Pipe, SyntaxError> {
    let pairs = list(cursor, |cursor| {
        let from = pattern(cursor)?;
        cursor.skip_space();
        cursor.eat_keyword("as");
        cursor.skip_space();
        let start = cursor.at();
        let to = pattern(cursor)?;
        let are_alike = matches!(
            (&from, &to),
            (FieldPattern::Name(_), FieldPattern::Name(_))
                | (FieldPattern::Prefix(_), FieldPattern::Prefix(_))
        );
        if are_alike {
            return Ok((from, to));
        }
        let problem = "expected a name for a name, or a prefix with `*` for a prefix with `*`";
        Err(cursor.error_at(start, problem))
    })?;
    let names = pairs.iter().map(|pair| match pair {
        (FieldPattern::Name(from), FieldPattern::Name(to)) => Some((from.clone(), to.clone())),
        _ => None,
    });
    Ok(match names.collect::<Option<Vec<_>>>() {
        Some(names) if is_copy => Pipe::Copy(names),
        Some(names) => Pipe::Rename(names),
        None => Pipe::Transform(Box::new(TransformPipe {
            condition: None,
            work: Transform::Move { pairs, is_copy },
            keep: Keep::default(),
        })),
    })
}

/// `facets 5 max_values_per_field 1000 max_value_len 100 keep_const_fields`.
fn facets(cursor: &mut Cursor<'_>) -> Result<FacetsPipe, SyntaxError> {
    let mut pipe = FacetsPipe {
        limit: optional_number(cursor)?.unwrap_or(FACETS_DEFAULT),
        values_per_field_max: FACET_VALUES_MAX,
        value_len_max: FACET_VALUE_LEN_MAX,
        keep_const_fields: false,
    };
    loop {
        cursor.skip_space();
        if cursor.eat_keyword("max_values_per_field") {
            pipe.values_per_field_max = whole_number(cursor, "a number of values")?;
        } else if cursor.eat_keyword("max_value_len") {
            pipe.value_len_max = whole_number(cursor, "a number of bytes")?;
        } else if cursor.eat_keyword("keep_const_fields") {
            pipe.keep_const_fields = true;
        } else {
            return Ok(pipe);
        }
    }
}

/// `limit 10`, if it is next.
fn limit(cursor: &mut Cursor<'_>) -> Result<Option<u64>, SyntaxError> {
    cursor.skip_space();
    match cursor.eat_keyword("limit") {
        // A limit of nothing is none.
        true => Ok(Some(whole_number(cursor, "a number of values")?).filter(|most| *most > 0)),
        false => Ok(None),
    }
}

/// `join by (a, b) (query) inner prefix "p."`.
fn join(cursor: &mut Cursor<'_>) -> Result<JoinPipe, SyntaxError> {
    let by = by_list(cursor, "join", name)?;
    let query = parse_inner(cursor, "`join by (…)`")?;
    let mut pipe = JoinPipe { by, query, is_inner: false, prefix: String::new() };
    loop {
        cursor.skip_space();
        if cursor.eat_keyword("inner") {
            pipe.is_inner = true;
        } else if cursor.eat_keyword("prefix") {
            pipe.prefix = cursor.expect_word("a prefix for the names")?.text;
        } else {
            return Ok(pipe);
        }
    }
}

/// `stream_context before 5 after 10 time_window 1d`.
fn context(cursor: &mut Cursor<'_>) -> Result<ContextPipe, SyntaxError> {
    let mut pipe = ContextPipe { before: 0, after: 0, window_ns: CONTEXT_WINDOW_NS };
    let mut is_bounded = false;
    loop {
        cursor.skip_space();
        let start = cursor.at();
        if cursor.eat_keyword("before") {
            pipe.before = whole_number(cursor, "a number of earlier records")?;
            is_bounded = true;
        } else if cursor.eat_keyword("after") {
            pipe.after = whole_number(cursor, "a number of later records")?;
            is_bounded = true;
        } else if cursor.eat_keyword("time_window") {
            let text = cursor.expect_word("a duration, as in 1d")?.text;
            let window = parse_duration_ns(&text).filter(|window| *window > 0);
            pipe.window_ns = window.ok_or_else(|| {
                cursor.error_at(start, "expected a positive duration after `time_window`, as in 1d")
            })?;
        } else if is_bounded {
            return Ok(pipe);
        } else {
            let found = cursor.describe();
            return Err(cursor.error(format!("expected `before` or `after`, not {found}")));
        }
    }
}

/// `by (a) sum(x) as total, count() n`.
fn running(
    cursor: &mut Cursor<'_>,
    keyword: &str,
    is_total: bool,
) -> Result<RunningPipe, SyntaxError> {
    cursor.skip_space();
    let has_by = cursor.rest().starts_with('(') || cursor.peek_bare().eq_ignore_ascii_case("by");
    let by = if has_by { by_list(cursor, keyword, name)? } else { Vec::new() };
    let calls = list(cursor, |cursor| {
        let start = cursor.at();
        let function = match cursor.peek_bare().to_ascii_lowercase().as_str() {
            "count" => RunningFunction::Count,
            "sum" => RunningFunction::Sum,
            "min" => RunningFunction::Min,
            "max" => RunningFunction::Max,
            _ => {
                let found = cursor.describe();
                return Err(cursor.error(format!(
                    "expected a function of `{keyword}`, not {found}; there are: count, max, min, \
                     sum"
                )));
            }
        };
        cursor.advance(cursor.peek_bare().len());
        let mut fields = parenthesised(cursor, "the function", pattern)?;
        let all = FieldPattern::Prefix(String::new());
        match function {
            // Every row has some field.
            RunningFunction::Count if fields.contains(&all) => fields.clear(),
            RunningFunction::Count => {}
            _ if fields.is_empty() => fields.push(all),
            _ => {}
        }
        let text = cursor.since(start).trim().to_owned();
        cursor.skip_space();
        let is_named =
            cursor.eat_keyword("as") || !matches!(cursor.peek(), None | Some('|' | ',' | ')'));
        let name = if is_named { name(cursor)? } else { text };
        Ok(RunningCall { function, fields, name })
    })?;
    Ok(RunningPipe { by, calls, is_total })
}

/// A number, if one is next.
fn optional_number(cursor: &mut Cursor<'_>) -> Result<Option<u64>, SyntaxError> {
    cursor.skip_space();
    if cursor.peek().is_some_and(|c| c.is_ascii_digit()) {
        return whole_number(cursor, "a number of rows").map(Some);
    }
    Ok(None)
}

fn sort_key(cursor: &mut Cursor<'_>) -> Result<SortKey, SyntaxError> {
    let name = name(cursor)?;
    cursor.skip_space();
    let descending = cursor.eat_keyword("desc");
    if !descending {
        cursor.eat_keyword("asc");
    }
    Ok(SortKey { name, descending })
}

/// `sort by (a desc, b) desc partition by (c) offset 5 limit 10 rank as place`.
fn sort(cursor: &mut Cursor<'_>, keyword: &str) -> Result<SortPipe, SyntaxError> {
    let mut pipe = SortPipe { by: by_list(cursor, keyword, sort_key)?, ..SortPipe::default() };
    cursor.skip_space();
    if cursor.eat_keyword("desc") {
        flip(&mut pipe.by);
    } else {
        cursor.eat_keyword("asc");
    }
    sort_tail(cursor, &mut pipe)?;
    Ok(pipe)
}

fn flip(keys: &mut [SortKey]) {
    for key in keys {
        key.descending = !key.descending;
    }
}

fn sort_tail(cursor: &mut Cursor<'_>, pipe: &mut SortPipe) -> Result<(), SyntaxError> {
    loop {
        cursor.skip_space();
        if cursor.eat_keyword("limit") {
            pipe.limit = Some(whole_number(cursor, "a number of rows")?);
        } else if cursor.eat_keyword("offset") {
            pipe.offset = whole_number(cursor, "a number of rows to skip")?;
        } else if cursor.eat_keyword("partition") {
            pipe.partition_by = by_list(cursor, "partition", name)?;
        } else if cursor.peek_bare().eq_ignore_ascii_case("rank")
            || cursor.peek_bare().eq_ignore_ascii_case("with")
        {
            cursor.eat_keyword("with");
            cursor.skip_space();
            pipe.rank = Some(rank(cursor)?);
        } else {
            return Ok(());
        }
    }
}

/// `rank` or `rank as name`.
fn rank(cursor: &mut Cursor<'_>) -> Result<String, SyntaxError> {
    if !cursor.eat_keyword("rank") {
        let found = cursor.describe();
        return Err(cursor.error(format!("expected `rank`, not {found}")));
    }
    cursor.skip_space();
    if cursor.eat_keyword("as") { name(cursor) } else { Ok("rank".to_owned()) }
}

/// `first 3 by (a)`; `last` is `first` with every key turned round.
fn first_or_last(cursor: &mut Cursor<'_>, keyword: &str) -> Result<SortPipe, SyntaxError> {
    let limit = optional_number(cursor)?.unwrap_or(1);
    let mut by = by_list(cursor, keyword, sort_key)?;
    if keyword == "last" {
        flip(&mut by);
    }
    let mut pipe = SortPipe { by, limit: Some(limit), ..SortPipe::default() };
    sort_tail(cursor, &mut pipe)?;
    Ok(pipe)
}

/// `top 5 by (a, b) hits as n rank as place`.
fn top(cursor: &mut Cursor<'_>) -> Result<Pipe, SyntaxError> {
    let limit = optional_number(cursor)?.unwrap_or(ROWS_DEFAULT);
    let by = by_names(cursor, "top")?;
    let (mut hits, mut rank_name) = ("hits".to_owned(), None);
    loop {
        cursor.skip_space();
        if cursor.eat_keyword("hits") {
            cursor.skip_space();
            cursor.eat_keyword("as");
            hits = name(cursor)?;
        } else if cursor.peek_bare().eq_ignore_ascii_case("rank") {
            rank_name = Some(rank(cursor)?);
        } else if cursor.eat_keyword("with") {
            cursor.skip_space();
            rank_name = Some(rank(cursor)?);
        } else {
            return Ok(Pipe::Top { limit, by, hits, rank: rank_name });
        }
    }
}

/// `uniq by (a, b) with hits limit 10`.
fn uniq(cursor: &mut Cursor<'_>) -> Result<Pipe, SyntaxError> {
    let by = by_names(cursor, "uniq")?;
    let (mut hits, mut limit) = (None, None);
    loop {
        cursor.skip_space();
        if cursor.eat_keyword("with") {
            cursor.skip_space();
            if !cursor.eat_keyword("hits") {
                let found = cursor.describe();
                return Err(cursor.error(format!("expected `hits` after `with`, not {found}")));
            }
            hits = Some("hits".to_owned());
        } else if cursor.eat_keyword("hits") {
            hits = Some("hits".to_owned());
        } else if cursor.eat_keyword("limit") {
            limit = Some(whole_number(cursor, "a number of values")?);
        } else {
            // A field of that name would be overwritten by the count.
            if hits.is_some() && by.iter().any(|field| field == "hits") {
                hits = Some("hits_total".to_owned());
            }
            return Ok(Pipe::Uniq { by, hits, limit });
        }
    }
}

/// `patterns 20 at field`.
fn patterns_of(cursor: &mut Cursor<'_>) -> Result<Pipe, SyntaxError> {
    let limit = optional_number(cursor)?.unwrap_or(PATTERNS_DEFAULT);
    cursor.skip_space();
    let field = match cursor.eat_keyword("at") {
        true => name(cursor)?,
        false => field::MSG.to_owned(),
    };
    Ok(Pipe::Patterns(PatternsPipe { limit, field, buckets: TREND_BUCKETS }))
}
