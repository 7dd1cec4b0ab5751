//! Parses the `stats` pipe.

use std::borrow::Cow;

use lodge_record::field;
use lodge_segment::predicate::{Named, parse_duration_ns, parse_number};

use super::Query;
use super::cursor::{Cursor, shorten};
use super::filter::{parse_filter, whole_number};
use super::names::{by_list, name, parenthesised, pattern};
use super::pipe::{
    Bucket, FieldPattern, GroupKey, Pipe, SortKey, StatsCall, StatsFunction, StatsPipe,
};
use crate::error::SyntaxError;

const FUNCTIONS: &[&str] = &[
    "any",
    "avg",
    "count",
    "count_empty",
    "count_uniq",
    "count_uniq_hash",
    "field_max",
    "field_min",
    "histogram",
    "json_values",
    "max",
    "median",
    "min",
    "quantile",
    "rate",
    "rate_sum",
    "row_any",
    "row_max",
    "row_min",
    "stddev",
    "sum",
    "sum_len",
    "uniq_values",
    "values",
];

/// Whether a pipe that begins with `word` and a parenthesis is one of `stats` without its name.
pub(super) fn is_function(word: &str) -> bool {
    FUNCTIONS.contains(&word) || word == "by"
}

/// `query` with its rates over the time from the first to the last nanosecond of `bounds`, unless
/// they know their time already or a bound is missing.
pub fn with_rates(query: &Query, bounds: Option<(i64, i64)>) -> Cow<'_, Query> {
    let span_ns = match bounds {
        Some((first, last)) if first > i64::MIN && last < i64::MAX => {
            last.checked_sub(first).and_then(|span| span.checked_add(1))
        }
        _ => None,
    };
    let is_rate = |call: &StatsCall| {
        matches!(
            call.function,
            StatsFunction::Rate { span_ns: None } | StatsFunction::RateSum { span_ns: None }
        )
    };
    let has_rates =
        |pipe: &Pipe| matches!(pipe, Pipe::Stats(stats) if stats.calls.iter().any(is_rate));
    if span_ns.is_none() || !query.pipes.iter().any(has_rates) {
        return Cow::Borrowed(query);
    }
    let mut query = query.clone();
    for pipe in &mut query.pipes {
        if let Pipe::Stats(stats) = pipe {
            stats.calls.iter_mut().filter(|call| is_rate(call)).for_each(|call| {
                call.set_span(span_ns);
            });
        }
    }
    Cow::Owned(query)
}

impl StatsCall {
    /// Makes a rate one per second of so much time; anything else stays as it is.
    pub fn set_span(&mut self, of_ns: Option<i64>) {
        if let StatsFunction::Rate { span_ns } | StatsFunction::RateSum { span_ns } =
            &mut self.function
        {
            *span_ns = of_ns;
        }
    }
}

/// Parses what follows `stats`.
pub(super) fn parse_stats(cursor: &mut Cursor<'_>) -> Result<StatsPipe, SyntaxError> {
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
fn group_key(cursor: &mut Cursor<'_>) -> Result<GroupKey, SyntaxError> {
    let name = name(cursor)?;
    cursor.skip_space();
    let bucket = if cursor.eat(":") { Some(bucket(cursor, &name)?) } else { None };
    Ok(GroupKey { name, bucket })
}

fn bucket(cursor: &mut Cursor<'_>, field: &str) -> Result<Bucket, SyntaxError> {
    cursor.skip_space();
    let start = cursor.at();
    let word = cursor.expect_word("the width of a bucket, for example 5m or 10KB")?.text;
    if let Some(bits) = word.strip_prefix('/') {
        return match bits.parse() {
            Ok(bits) if bits <= 32 => Ok(Bucket::Ipv4 { bits }),
            _ => Err(cursor.error_at(start, "expected a network of 0 to 32 bits, for example /24")),
        };
    }
    let offset_ns = bucket_offset(cursor, field)?;
    let step = match word.as_str() {
        "nanosecond" => 1.0,
        "microsecond" => 1e3,
        "millisecond" => 1e6,
        "second" => 1e9,
        "minute" => 60e9,
        "hour" => 3_600e9,
        "day" => 86_400e9,
        "week" => return Ok(Bucket::Week { offset_ns }),
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

fn bucket_offset(cursor: &mut Cursor<'_>, field: &str) -> Result<i64, SyntaxError> {
    cursor.skip_space();
    if !cursor.eat_keyword("offset") {
        return Ok(0);
    }
    cursor.skip_space();
    let start = cursor.at();
    let text = cursor.expect_word("a duration after `offset`")?.text;
    let whole = |number: &f64| number.fract() == 0.0 && number.abs() < i64::MAX as f64;
    let number = || parse_number(&text).filter(whole).filter(|_| field != field::TIME);
    parse_duration_ns(&text).or_else(|| number().map(|number| number as i64)).ok_or_else(|| {
        cursor.error_at(
            start,
            format!(
                "`{}` is no offset; write a duration like 2h or, for other fields than _time, a \
                 whole number",
                shorten(&text)
            ),
        )
    })
}

/// `function(fields) sort by (fields) limit 5 if (filter) as name`.
fn call(cursor: &mut Cursor<'_>) -> Result<StatsCall, SyntaxError> {
    let function_name = cursor.peek_bare().to_ascii_lowercase();
    if !FUNCTIONS.contains(&function_name.as_str()) {
        let found = cursor.describe();
        return Err(cursor.error(format!(
            "expected a stats function, not {found}; there are: {}",
            FUNCTIONS.join(", ")
        )));
    }
    cursor.advance(function_name.len());
    cursor.skip_space();
    let start = cursor.at();
    let fields = parenthesised(cursor, &format!("`{function_name}`"), pattern)?;
    let mut text = format!("{function_name}({})", listed(&fields));
    let arguments = Arguments { cursor, start, name: &function_name, fields };
    let (mut function, fields) = arguments.function()?;
    options(cursor, &mut function, &mut text)?;
    cursor.skip_space();
    let start = cursor.at();
    let filter = if cursor.eat_keyword("if") {
        cursor.expect("(", "`if`")?;
        let filter = cursor.nested(|cursor| parse_filter(cursor))?;
        cursor.expect(")", "the filters of `if`")?;
        text = format!("{text} {}", cursor.since(start).trim());
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

/// What stands in the parentheses of a call.
struct Arguments<'c, 't> {
    cursor: &'c Cursor<'t>,
    /// Where they begin.
    start: usize,
    name: &'c str,
    fields: Vec<FieldPattern>,
}

impl Arguments<'_, '_> {
    /// The function, and the fields that it is about.
    fn function(mut self) -> Result<(StatsFunction, Vec<FieldPattern>), SyntaxError> {
        let all = FieldPattern::Prefix(String::new());
        let function = match self.name {
            "any" => StatsFunction::Any,
            "avg" => StatsFunction::Avg,
            "count" => {
                // Every row has some field.
                if self.fields.contains(&all) {
                    self.fields.clear();
                }
                return Ok((StatsFunction::Count, self.fields));
            }
            "count_empty" => StatsFunction::CountEmpty,
            "count_uniq" => StatsFunction::CountUniq { limit: None },
            "count_uniq_hash" => StatsFunction::CountUniqHash { limit: None },
            "field_max" => StatsFunction::FieldMax { by: self.source_of_one()? },
            "field_min" => StatsFunction::FieldMin { by: self.source_of_one()? },
            "histogram" => match self.fields.as_slice() {
                [FieldPattern::Name(_)] => StatsFunction::Histogram,
                _ => return Err(self.wrong("needs the name of one field")),
            },
            "json_values" => StatsFunction::JsonValues { sort: Vec::new(), limit: None },
            "max" => StatsFunction::Max,
            "median" => StatsFunction::Quantile { phi: 0.5 },
            "min" => StatsFunction::Min,
            "quantile" => StatsFunction::Quantile { phi: self.phi()? },
            "rate" if self.fields.is_empty() => {
                return Ok((StatsFunction::Rate { span_ns: None }, Vec::new()));
            }
            "rate" => {
                return Err(self.wrong("takes no fields; write rate() or rate_sum(field)"));
            }
            "rate_sum" => StatsFunction::RateSum { span_ns: None },
            "row_any" => StatsFunction::RowAny,
            "row_max" => StatsFunction::RowMax { by: self.source()? },
            "row_min" => StatsFunction::RowMin { by: self.source()? },
            "stddev" => StatsFunction::Stddev,
            "sum" => StatsFunction::Sum,
            "sum_len" => StatsFunction::SumLen,
            "uniq_values" => StatsFunction::UniqValues { limit: None },
            _ => StatsFunction::Values { limit: None },
        };
        // No fields are all fields.
        if self.fields.is_empty() {
            self.fields.push(all);
        }
        Ok((function, self.fields))
    }

    /// Takes the first argument of `quantile` off.
    fn phi(&mut self) -> Result<f64, SyntaxError> {
        let phi = match self.fields.first() {
            Some(FieldPattern::Name(text)) => parse_number(text),
            _ => None,
        };
        match phi {
            Some(phi) if (0.0..=1.0).contains(&phi) => {
                self.fields.remove(0);
                Ok(phi)
            }
            _ => Err(self.cursor.error_at(
                self.start,
                "quantile(phi, field) needs a number from 0 to 1 first, for example \
                 quantile(0.99, size)",
            )),
        }
    }

    /// Takes the field off whose value chooses the row.
    fn source(&mut self) -> Result<String, SyntaxError> {
        match self.fields.first() {
            Some(FieldPattern::Name(name)) => {
                let name = name.clone();
                self.fields.remove(0);
                Ok(name)
            }
            _ => Err(self.wrong("needs the name of a field first, by whose value it chooses")),
        }
    }

    /// The same where the value of one other field is given.
    fn source_of_one(&mut self) -> Result<String, SyntaxError> {
        match self.fields.as_slice() {
            [FieldPattern::Name(_), FieldPattern::Name(_)] => self.source(),
            _ => Err(self.wrong(
                "needs the names of two fields: by whose value it chooses, and whose it gives",
            )),
        }
    }

    fn wrong(&self, what: &str) -> SyntaxError {
        self.cursor.error_at(self.start, format!("{}(…) {what}", self.name))
    }
}

/// What may follow the parentheses: an order of rows, a limit. `text`: the call so far.
fn options(
    cursor: &mut Cursor<'_>,
    function: &mut StatsFunction,
    text: &mut String,
) -> Result<(), SyntaxError> {
    cursor.skip_space();
    if let StatsFunction::JsonValues { sort, .. } = function
        && (cursor.eat_keyword("sort") || cursor.eat_keyword("order"))
    {
        *sort = by_list(cursor, "sort", sort_key)?;
        cursor.skip_space();
        if descending(cursor) {
            sort.iter_mut().for_each(|key| key.descending = !key.descending);
        }
        let keys = sort.iter().map(|key| {
            let order = if key.descending { " desc" } else { "" };
            format!("{}{order}", Named(&key.name))
        });
        *text += &format!(" sort by ({})", keys.collect::<Vec<_>>().join(", "));
        cursor.skip_space();
    }
    if let StatsFunction::CountUniq { limit }
    | StatsFunction::CountUniqHash { limit }
    | StatsFunction::UniqValues { limit }
    | StatsFunction::Values { limit }
    | StatsFunction::JsonValues { limit, .. } = function
        && cursor.eat_keyword("limit")
    {
        let most = whole_number(cursor, "a number of values")?;
        // A limit of nothing is none.
        *limit = Some(most).filter(|most| *most > 0);
        *text += &format!(" limit {most}");
    }
    Ok(())
}

fn sort_key(cursor: &mut Cursor<'_>) -> Result<SortKey, SyntaxError> {
    let name = name(cursor)?;
    cursor.skip_space();
    Ok(SortKey { name, descending: descending(cursor) })
}

/// Reads `desc` or `asc`, if one is there.
fn descending(cursor: &mut Cursor<'_>) -> bool {
    let descending = cursor.eat_keyword("desc");
    if !descending {
        cursor.eat_keyword("asc");
    }
    descending
}

/// The fields as they are written in a query.
fn listed(fields: &[FieldPattern]) -> String {
    let texts = fields.iter().map(|field| match field {
        FieldPattern::Name(name) => Named(name).to_string(),
        FieldPattern::Prefix(prefix) if prefix.is_empty() => "*".to_owned(),
        FieldPattern::Prefix(prefix) => format!("{}*", Named(prefix)),
    });
    texts.collect::<Vec<_>>().join(", ")
}
