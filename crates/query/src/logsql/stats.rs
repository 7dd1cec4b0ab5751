//! Parses the `stats` pipe.

use lodge_record::field;
use lodge_segment::predicate::{parse_duration_ns, parse_number};

use super::cursor::{Cursor, shorten};
use super::filter::{parse_filter, whole_number};
use super::names::{by_list, name, parenthesised, pattern};
use super::pipe::{Bucket, FieldPattern, GroupKey, StatsCall, StatsFunction, StatsPipe};
use crate::error::QueryError;

const FUNCTIONS: &[&str] = &[
    "count",
    "count_empty",
    "count_uniq",
    "count_uniq_hash",
    "sum",
    "avg",
    "min",
    "max",
    "median",
    "quantile",
    "sum_len",
    "uniq_values",
];

/// Whether `name` is a stats function, which may stand in a pipe without `stats`.
pub(super) fn is_function(name: &str) -> bool {
    FUNCTIONS.contains(&name)
}

/// Parses what follows `stats`.
pub(super) fn parse_stats(cursor: &mut Cursor<'_>) -> Result<StatsPipe, QueryError> {
    cursor.skip_space();
    let has_by = cursor.rest().starts_with('(') || cursor.peek_bare().eq_ignore_ascii_case("by");
    let by = if has_by { by_list(cursor, "stats", group_key)? } else { Vec::new() };
    let mut calls: Vec<StatsCall> = Vec::new();
    loop {
        cursor.skip_space();
        let start = cursor.at();
        let call = call(cursor)?;
        let taken = calls.iter().any(|other| other.name == call.name)
            || by.iter().any(|key| key.name == call.name);
        if taken {
            return Err(cursor.error_at(
                start,
                format!("the name `{}` is used twice; add `as` and another name", call.name),
            ));
        }
        calls.push(call);
        cursor.skip_space();
        if !cursor.eat(",") {
            return Ok(StatsPipe { by, calls });
        }
    }
}

/// `field`, `_time:5m`, `_time:1d offset 2h`, `size:10KB`, `ip:/24`.
fn group_key(cursor: &mut Cursor<'_>) -> Result<GroupKey, QueryError> {
    let name = name(cursor)?;
    cursor.skip_space();
    let bucket = if cursor.eat(":") { Some(bucket(cursor, &name)?) } else { None };
    Ok(GroupKey { name, bucket })
}

fn bucket(cursor: &mut Cursor<'_>, field: &str) -> Result<Bucket, QueryError> {
    cursor.skip_space();
    let start = cursor.at();
    let word = cursor.expect_word("the width of a bucket, for example 5m or 10KB")?.text;
    if let Some(bits) = word.strip_prefix('/') {
        return match bits.parse() {
            Ok(bits) if bits <= 32 => Ok(Bucket::Ipv4 { bits }),
            _ => Err(cursor.error_at(start, "expected a network of 0 to 32 bits, for example /24")),
        };
    }
    let offset_ns = bucket_offset(cursor)?;
    let step = match word.as_str() {
        "nanosecond" => 1.0,
        "microsecond" => 1e3,
        "millisecond" => 1e6,
        "second" => 1e9,
        "minute" => 60e9,
        "hour" => 3_600e9,
        "day" => 86_400e9,
        "week" => 604_800e9,
        "month" => return Ok(Bucket::Month { offset_ns }),
        "year" => return Ok(Bucket::Year { offset_ns }),
        // A bare number of a time would be nanoseconds, which nobody means.
        _ if field == field::TIME => {
            parse_duration_ns(&word).map_or(f64::NAN, |duration| duration as f64)
        }
        _ => parse_number(&word).unwrap_or(f64::NAN),
    };
    // NaN is not greater than anything.
    if step > 0.0 {
        return Ok(Bucket::Step { step, step_ns: (step as i64).max(1), offset_ns });
    }
    Err(cursor.error_at(
        start,
        format!(
            "`{}` is no width for buckets of `{}`; write a duration (5m, 1h, day, month) or, for \
             other fields than _time, a number (10, 10KB)",
            shorten(&word),
            shorten(field)
        ),
    ))
}

fn bucket_offset(cursor: &mut Cursor<'_>) -> Result<i64, QueryError> {
    cursor.skip_space();
    if !cursor.eat_keyword("offset") {
        return Ok(0);
    }
    cursor.skip_space();
    let start = cursor.at();
    let word = cursor.expect_word("a duration after `offset`")?;
    parse_duration_ns(&word.text).ok_or_else(|| {
        cursor.error_at(start, format!("`{}` is not a duration like 2h", shorten(&word.text)))
    })
}

/// `function(fields) limit 5 if (filter) as name`.
fn call(cursor: &mut Cursor<'_>) -> Result<StatsCall, QueryError> {
    let start = cursor.at();
    let function_name = cursor.peek_bare().to_ascii_lowercase();
    if !is_function(&function_name) {
        let found = cursor.describe();
        return Err(cursor.error(format!(
            "expected a stats function, not {found}; there are: {}",
            FUNCTIONS.join(", ")
        )));
    }
    cursor.advance(function_name.len());
    cursor.skip_space();
    let arguments = cursor.at();
    let mut fields = parenthesised(cursor, &format!("`{function_name}`"), pattern)?;
    let mut function = match function_name.as_str() {
        "count" => StatsFunction::Count,
        "count_empty" => StatsFunction::CountEmpty,
        "count_uniq" | "count_uniq_hash" => StatsFunction::CountUniq { limit: None },
        "sum" => StatsFunction::Sum,
        "avg" => StatsFunction::Avg,
        "min" => StatsFunction::Min,
        "max" => StatsFunction::Max,
        "sum_len" => StatsFunction::SumLen,
        "uniq_values" => StatsFunction::UniqValues { limit: None },
        "median" => StatsFunction::Quantile { phi: 0.5 },
        _ => StatsFunction::Quantile { phi: phi(cursor, arguments, &mut fields)? },
    };
    // `*` means every field, as no fields do.
    fields.retain(|field| *field != FieldPattern::Prefix(String::new()));
    check_fields(cursor, arguments, function, &fields)?;
    let mut text = cursor.since(start).trim().to_owned();
    cursor.skip_space();
    if let StatsFunction::CountUniq { limit } | StatsFunction::UniqValues { limit } = &mut function
        && cursor.eat_keyword("limit")
    {
        *limit = Some(whole_number(cursor, "a number of values")?);
        cursor.skip_space();
        text = cursor.since(start).trim().to_owned();
    }
    let filter = if cursor.eat_keyword("if") {
        cursor.expect("(", "`if`")?;
        let filter = cursor.nested(|cursor| parse_filter(cursor))?;
        cursor.expect(")", "the filters of `if`")?;
        text = cursor.since(start).trim().to_owned();
        Some(filter)
    } else {
        None
    };
    cursor.skip_space();
    let name = if cursor.eat_keyword("as") {
        name(cursor)?
    } else {
        cursor.word()?.map_or(text, |word| word.text)
    };
    Ok(StatsCall { function, fields, filter, name })
}

/// Takes the first argument of `quantile` off its fields.
fn phi(
    cursor: &Cursor<'_>,
    arguments: usize,
    fields: &mut Vec<FieldPattern>,
) -> Result<f64, QueryError> {
    let phi = match fields.first() {
        Some(FieldPattern::Name(text)) => parse_number(text),
        _ => None,
    };
    match phi {
        Some(phi) if (0.0..=1.0).contains(&phi) => {
            fields.remove(0);
            Ok(phi)
        }
        _ => Err(cursor.error_at(
            arguments,
            "quantile(phi, field) needs a number from 0 to 1 first, for example quantile(0.99, size)",
        )),
    }
}

fn check_fields(
    cursor: &Cursor<'_>,
    arguments: usize,
    function: StatsFunction,
    fields: &[FieldPattern],
) -> Result<(), QueryError> {
    let name = function.name();
    if fields.is_empty() && !matches!(function, StatsFunction::Count) {
        return Err(cursor.error_at(arguments, format!("{name}(…) needs a field's name")));
    }
    let single =
        matches!(function, StatsFunction::Quantile { .. } | StatsFunction::UniqValues { .. });
    if single && !matches!(fields, [FieldPattern::Name(_)]) {
        return Err(cursor.error_at(
            arguments,
            format!("{name}(…) over more than one field is not supported yet; name one field"),
        ));
    }
    Ok(())
}
