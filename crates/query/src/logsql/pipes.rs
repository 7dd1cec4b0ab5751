//! Parses the pipes of a query; `stats` has a module of its own.

use lodge_record::field;

use super::cursor::Cursor;
use super::filter::{parse_filter, whole_number};
use super::names::{by_list, list, name, parenthesised, pattern};
use super::pipe::{PatternsPipe, Pipe, SortKey, SortPipe};
use super::stats;
use crate::error::QueryError;

/// Rows that `limit`, `head` and `top` give if no number is written.
const ROWS_DEFAULT: u64 = 10;

/// Patterns that `patterns` gives if no number is written.
const PATTERNS_DEFAULT: u64 = 100;
/// Parts of the time that a trend of `patterns` has.
const TREND_BUCKETS: usize = 30;

/// The pipes there are, for messages.
const PIPES: &str = "fields, delete, copy, rename, filter, sort, first, last, limit, offset, stats, \
                     top, uniq, patterns";

/// Parses the pipe after a `|`.
pub(super) fn parse_pipe(cursor: &mut Cursor<'_>) -> Result<Pipe, QueryError> {
    cursor.skip_space();
    let start = cursor.at();
    let keyword = cursor.peek_bare().to_ascii_lowercase();
    let keyword_end = start + keyword.len();
    cursor.go_to(keyword_end);
    // `| level:error`, `| "phrase"`, `| !x`: a filter without its name.
    let anonymous = cursor.rest().starts_with([':', '=', '<', '>', '~', '!']) || keyword.is_empty();
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
        "copy" | "cp" => Pipe::Copy(pairs(cursor)?),
        "rename" | "mv" => Pipe::Rename(pairs(cursor)?),
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
        other => {
            let message = if UNSUPPORTED.contains(&other) {
                format!("the pipe `{other}` is not supported yet; there are: {PIPES}")
            } else {
                format!(
                    "there is no pipe `{other}`; there are: {PIPES}; to filter by a word write \
                     `| filter {other}`"
                )
            };
            return Err(cursor.error_at(start, message));
        }
    };
    Ok(pipe)
}

/// Pipes that the documentation has and this engine has not.
const UNSUPPORTED: &[&str] = &[
    "block_stats",
    "blocks_count",
    "collapse_nums",
    "decolorize",
    "drop_empty_fields",
    "extract",
    "extract_regexp",
    "facets",
    "field_names",
    "field_values",
    "format",
    "join",
    "json_array_len",
    "hash",
    "len",
    "math",
    "eval",
    "pack_json",
    "pack_logfmt",
    "replace",
    "replace_regexp",
    "sample",
    "stream_context",
    "union",
    "unpack_json",
    "unpack_logfmt",
    "unpack_syslog",
    "unpack_words",
    "unroll",
];

fn next_is_parenthesis(cursor: &mut Cursor<'_>) -> bool {
    cursor.skip_space();
    cursor.rest().starts_with('(')
}

/// `a, b*` or `(a, b*)`.
fn patterns(cursor: &mut Cursor<'_>) -> Result<Vec<super::FieldPattern>, QueryError> {
    cursor.skip_space();
    if cursor.rest().starts_with('(') {
        return parenthesised(cursor, "the pipe", pattern);
    }
    list(cursor, pattern)
}

/// `a as b, c d`.
fn pairs(cursor: &mut Cursor<'_>) -> Result<Vec<(String, String)>, QueryError> {
    list(cursor, |cursor| {
        let from = name(cursor)?;
        cursor.skip_space();
        cursor.eat_keyword("as");
        Ok((from, name(cursor)?))
    })
}

/// A number, if one is next.
fn optional_number(cursor: &mut Cursor<'_>) -> Result<Option<u64>, QueryError> {
    cursor.skip_space();
    if cursor.peek().is_some_and(|c| c.is_ascii_digit()) {
        return whole_number(cursor, "a number of rows").map(Some);
    }
    Ok(None)
}

fn sort_key(cursor: &mut Cursor<'_>) -> Result<SortKey, QueryError> {
    let name = name(cursor)?;
    cursor.skip_space();
    let descending = cursor.eat_keyword("desc");
    if !descending {
        cursor.eat_keyword("asc");
    }
    Ok(SortKey { name, descending })
}

/// `sort by (a desc, b) desc partition by (c) offset 5 limit 10 rank as place`.
fn sort(cursor: &mut Cursor<'_>, keyword: &str) -> Result<SortPipe, QueryError> {
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

fn sort_tail(cursor: &mut Cursor<'_>, pipe: &mut SortPipe) -> Result<(), QueryError> {
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
fn rank(cursor: &mut Cursor<'_>) -> Result<String, QueryError> {
    if !cursor.eat_keyword("rank") {
        let found = cursor.describe();
        return Err(cursor.error(format!("expected `rank`, not {found}")));
    }
    cursor.skip_space();
    if cursor.eat_keyword("as") { name(cursor) } else { Ok("rank".to_owned()) }
}

/// `first 3 by (a)`; `last` is `first` with every key turned round.
fn first_or_last(cursor: &mut Cursor<'_>, keyword: &str) -> Result<SortPipe, QueryError> {
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
fn top(cursor: &mut Cursor<'_>) -> Result<Pipe, QueryError> {
    let limit = optional_number(cursor)?.unwrap_or(ROWS_DEFAULT);
    let by = by_list(cursor, "top", name)?;
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
fn uniq(cursor: &mut Cursor<'_>) -> Result<Pipe, QueryError> {
    let by = by_list(cursor, "uniq", name)?;
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
fn patterns_of(cursor: &mut Cursor<'_>) -> Result<Pipe, QueryError> {
    let limit = optional_number(cursor)?.unwrap_or(PATTERNS_DEFAULT);
    cursor.skip_space();
    let field = match cursor.eat_keyword("at") {
        true => name(cursor)?,
        false => field::MSG.to_owned(),
    };
    Ok(Pipe::Patterns(PatternsPipe { limit, field, buckets: TREND_BUCKETS }))
}
