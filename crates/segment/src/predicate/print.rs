//! A predicate as LogsQL text that means the same: for messages, plans and tests. Two predicates with
//! the same text are the same.

use std::fmt::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Bound;

use lodge_record::{field, time};

use super::{DAY_NS, FieldTest, LabelMatcher, LabelTest, NumberRange, Phrase, Predicate};
use super::{StreamSelector, TextRange};

const SECOND_NS: i64 = 1_000_000_000;
/// From here on numbers are written with an exponent, and below one in as much.
const PLAIN_NUMBER_MAX: f64 = 1e17;
const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

/// A text in quotes, as LogsQL reads it.
#[derive(Clone, Copy, Debug)]
pub struct Quoted<'t>(pub &'t str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\t' => f.write_str("\\t")?,
                '\r' => f.write_str("\\r")?,
                c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c))?,
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

/// A field's or label's name, in quotes if it needs them.
#[derive(Clone, Copy, Debug)]
pub struct Named<'t>(pub &'t str);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0;
        let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '/' | '-' | '@');
        let needs_none = name.chars().all(plain)
            && !name.is_empty()
            && !name.starts_with('-')
            && !["and", "or"].iter().any(|keyword| name.eq_ignore_ascii_case(keyword));
        if needs_none { f.write_str(name) } else { write!(f, "{}", Quoted(name)) }
    }
}

impl fmt::Display for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::None => f.write_str("!*"),
            Self::And(parts) => list(f, parts, " "),
            Self::Or(parts) => list(f, parts, " or "),
            Self::Not(inner) => write!(f, "!{inner}"),
            Self::Time { min_ns, max_ns } => match (*min_ns, *max_ns) {
                (i64::MIN, i64::MAX) => f.write_str("_time:*"),
                (i64::MIN, max) => write!(f, "_time:<={}", moment(max)),
                (min, i64::MAX) => write!(f, "_time:>={}", time::format(min)),
                (min, max) => write!(f, "_time:[{},{}]", time::format(min), moment(max)),
            },
            Self::DayRange { min_ns, max_ns, offset_ns } => {
                write!(f, "_time:day_range[{},{}]", clock(*min_ns), clock(*max_ns))?;
                write_offset(f, *offset_ns)
            }
            Self::WeekRange { days, offset_ns } => week_range(f, *days, *offset_ns),
            Self::Stream(selector) => write!(f, "{selector}"),
            // A star alone is every record, not only those with a message.
            Self::Field { name, test } if name == field::MSG && *test != FieldTest::Any => {
                write!(f, "{test}")
            }
            Self::Field { name, test } => write!(f, "{}:{test}", Named(name)),
            Self::AnyField { prefix, test } if prefix.is_empty() => write!(f, "*:{test}"),
            Self::AnyField { prefix, test } => write!(f, "{}*:{test}", Named(prefix)),
            Self::Compare { left, order, right } => {
                write!(f, "{}:{order}({})", Named(left), Named(right))
            }
        }
    }
}

/// The last moment of a range with all its decimals, without which it would be the whole second.
fn moment(time_ns: i64) -> String {
    let text = time::format(time_ns);
    let clock = text.trim_end_matches('Z');
    match clock.split_once('.') {
        Some((seconds, decimals)) => format!("{seconds}.{decimals:0<9}Z"),
        None => format!("{clock}.000000000Z"),
    }
}

/// A nanosecond of a day as a time of day.
fn clock(of_day_ns: i64) -> String {
    let (seconds, ns) = (of_day_ns.div_euclid(SECOND_NS), of_day_ns.rem_euclid(SECOND_NS));
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    match (of_day_ns, seconds, ns) {
        (DAY_NS, ..) => "24:00".to_owned(),
        (_, 0, 0) => format!("{hours:02}:{minutes:02}"),
        (_, _, 0) => format!("{hours:02}:{minutes:02}:{seconds:02}"),
        _ => format!("{hours:02}:{minutes:02}:{seconds:02}.{ns:09}"),
    }
}

fn write_offset(f: &mut fmt::Formatter<'_>, offset_ns: i64) -> fmt::Result {
    match (offset_ns, offset_ns % SECOND_NS) {
        (0, _) => Ok(()),
        (_, 0) => write!(f, " offset {}s", offset_ns / SECOND_NS),
        _ => write!(f, " offset {offset_ns}ns"),
    }
}

fn week_range(f: &mut fmt::Formatter<'_>, days: u8, offset_ns: i64) -> fmt::Result {
    let wanted = |day: usize| day < DAYS.len() && days & (1 << day) != 0;
    let mut runs: Vec<(&str, &str)> = Vec::new();
    for (day, name) in DAYS.iter().enumerate().filter(|(day, _)| wanted(*day)) {
        match runs.last_mut() {
            Some((_, last)) if day > 0 && wanted(day - 1) => *last = name,
            _ => runs.push((name, name)),
        }
    }
    if runs.is_empty() {
        return f.write_str("!*");
    }
    let several = runs.len() > 1;
    f.write_str(if several { "(" } else { "" })?;
    for (nth, (first, last)) in runs.iter().enumerate() {
        f.write_str(if nth > 0 { " or " } else { "" })?;
        write!(f, "_time:week_range[{first},{last}]")?;
        write_offset(f, offset_ns)?;
    }
    f.write_str(if several { ")" } else { "" })
}

fn list(f: &mut fmt::Formatter<'_>, parts: &[Predicate], between: &str) -> fmt::Result {
    f.write_str("(")?;
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            f.write_str(between)?;
        }
        write!(f, "{part}")?;
    }
    f.write_str(")")
}

impl fmt::Display for FieldTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("\"\""),
            Self::Any => f.write_str("*"),
            Self::Contains(phrase) => write!(f, "{phrase}"),
            Self::ContainsAnyCase(phrase) => write!(f, "i({phrase})"),
            Self::ContainsAll(phrases) => call(f, "contains_all", phrases),
            Self::ContainsAny(phrases) => call(f, "contains_any", phrases),
            Self::Sequence(phrases) => call(f, "seq", phrases),
            Self::Exact(text) => write!(f, "={}", Quoted(text)),
            Self::ExactPrefix(text) => write!(f, "={}*", Quoted(text)),
            Self::Substring(text) => write!(f, "*{}*", Quoted(text)),
            Self::Regex(pattern) => match pattern.ends() {
                Some(ends) => write!(f, "{}({})", ends.name(), Quoted(pattern.text())),
                None => write!(f, "~{}", Quoted(pattern.text())),
            },
            Self::In(values) => call(f, "in", values.iter().map(|value| Quoted(value))),
            Self::Number(range) => write!(f, "{range}"),
            Self::Text(range) => write!(f, "{range}"),
            Self::Ipv4 { min, max } => {
                write!(f, "ipv4_range({},{})", Ipv4Addr::from(*min), Ipv4Addr::from(*max))
            }
            Self::Ipv6 { min, max } => {
                write!(f, "ipv6_range(\"{}\",\"{}\")", Ipv6Addr::from(*min), Ipv6Addr::from(*max))
            }
            Self::Kind(kind) => write!(f, "value_type({kind})"),
            Self::JsonArray(values) => {
                call(f, "json_array_contains_any", values.iter().map(|value| Quoted(value)))
            }
            Self::Length { min, max: u64::MAX } => write!(f, "len_range({min},inf)"),
            Self::Length { min, max } => write!(f, "len_range({min},{max})"),
        }
    }
}

/// `name(argument,argument)`.
fn call<T: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    arguments: impl IntoIterator<Item = T>,
) -> fmt::Result {
    write!(f, "{name}(")?;
    for (index, argument) in arguments.into_iter().enumerate() {
        if index > 0 {
            f.write_str(",")?;
        }
        write!(f, "{argument}")?;
    }
    f.write_str(")")
}

impl fmt::Display for Phrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = if *self == Phrase::whole(self.text()) { "" } else { "*" };
        write!(f, "{}{prefix}", Quoted(self.text()))
    }
}

impl fmt::Display for NumberRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |number: f64| {
            let size = number.abs();
            let plain = size == 0.0 || (1.0 / PLAIN_NUMBER_MAX..PLAIN_NUMBER_MAX).contains(&size);
            if plain || size.is_infinite() { number.to_string() } else { format!("{number:e}") }
        };
        let (open, close) =
            (if self.min_open { '(' } else { '[' }, if self.max_open { ')' } else { ']' });
        write!(f, "range{open}{},{}{close}", number(self.min), number(self.max))
    }
}

impl fmt::Display for TextRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("string_range")?;
        match &self.min {
            Bound::Unbounded => f.write_str("[")?,
            Bound::Included(min) => write!(f, "[{}", Quoted(min))?,
            Bound::Excluded(min) => write!(f, "({}", Quoted(min))?,
        }
        match &self.max {
            Bound::Unbounded => f.write_str(",]"),
            Bound::Included(max) => write!(f, ",{}]", Quoted(max)),
            Bound::Excluded(max) => write!(f, ",{})", Quoted(max)),
        }
    }
}

impl fmt::Display for StreamSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (index, group) in self.groups.iter().enumerate() {
            if index > 0 {
                f.write_str(" or ")?;
            }
            for (index, matcher) in group.iter().enumerate() {
                if index > 0 {
                    f.write_str(",")?;
                }
                write!(f, "{matcher}")?;
            }
        }
        f.write_str("}")
    }
}

impl fmt::Display for LabelMatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Named(&self.name))?;
        let values = |values: &[String]| -> String {
            values.iter().map(|value| Quoted(value).to_string()).collect::<Vec<_>>().join(",")
        };
        match &self.test {
            LabelTest::In(list) => match list.as_slice() {
                [value] => write!(f, "={}", Quoted(value)),
                _ => write!(f, " in ({})", values(list)),
            },
            LabelTest::NotIn(list) => match list.as_slice() {
                [value] => write!(f, "!={}", Quoted(value)),
                _ => write!(f, " not_in ({})", values(list)),
            },
            LabelTest::Regex(pattern) => write!(f, "=~{}", Quoted(pattern.text())),
            LabelTest::NotRegex(pattern) => write!(f, "!~{}", Quoted(pattern.text())),
        }
    }
}
