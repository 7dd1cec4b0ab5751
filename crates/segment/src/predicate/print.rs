//! A predicate as LogsQL text: for messages, plans and tests. Two predicates with the same text are
//! the same.

use std::fmt;
use std::ops::Bound;

use super::{FieldTest, NumberRange, Phrase, Predicate, TextRange};
use lodge_record::{field, time};

impl fmt::Display for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::None => f.write_str("!*"),
            Self::And(parts) => list(f, parts, " "),
            Self::Or(parts) => list(f, parts, " or "),
            Self::Not(inner) => write!(f, "!{inner}"),
            Self::Time { min_ns, max_ns } => {
                let (min, max) = (time::format(*min_ns), time::format(*max_ns));
                match (*min_ns, *max_ns) {
                    (i64::MIN, _) => write!(f, "_time:<={max}"),
                    (_, i64::MAX) => write!(f, "_time:>={min}"),
                    _ => write!(f, "_time:[{min},{max}]"),
                }
            }
            Self::DayRange { min_ns, max_ns, offset_ns } => {
                write!(f, "_time:day_range[{min_ns}ns,{max_ns}ns] offset {offset_ns}ns")
            }
            Self::WeekRange { days, offset_ns } => {
                write!(f, "_time:week_range[{days:#09b}] offset {offset_ns}ns")
            }
            Self::Stream(selector) => write!(f, "{selector}"),
            Self::Field { name, test } => {
                if name != field::MSG {
                    write_name(f, name)?;
                    f.write_str(":")?;
                }
                write!(f, "{test}")
            }
        }
    }
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

fn write_name(f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '/' | '-' | '@');
    if !name.is_empty() && name.chars().all(plain) {
        f.write_str(name)
    } else {
        write!(f, "{name:?}")
    }
}

impl fmt::Display for FieldTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("\"\""),
            Self::Any => f.write_str("*"),
            Self::Contains(phrase) => write!(f, "{phrase}"),
            Self::ContainsAnyCase(phrase) => write!(f, "i({phrase})"),
            Self::ContainsAll(phrases) => write!(f, "contains_all({})", phrase_list(phrases)),
            Self::ContainsAny(phrases) => write!(f, "contains_any({})", phrase_list(phrases)),
            Self::Sequence(phrases) => write!(f, "seq({})", phrase_list(phrases)),
            Self::Exact(text) => write!(f, "={text:?}"),
            Self::ExactPrefix(text) => write!(f, "={text:?}*"),
            Self::Substring(text) => write!(f, "*{text:?}*"),
            Self::Regex(pattern) => write!(f, "~{:?}", pattern.text()),
            Self::In(values) => {
                let values: Vec<_> = values.iter().map(|value| format!("{value:?}")).collect();
                write!(f, "in({})", values.join(","))
            }
            Self::Number(range) => write!(f, "{range}"),
            Self::Text(range) => write!(f, "{range}"),
            Self::Ipv4 { min, max } => {
                let (min, max) = (std::net::Ipv4Addr::from(*min), std::net::Ipv4Addr::from(*max));
                write!(f, "ipv4_range({min},{max})")
            }
            Self::Length { min, max } => write!(f, "len_range({min},{max})"),
        }
    }
}

impl fmt::Display for Phrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = if *self == Phrase::whole(self.text()) { "" } else { "*" };
        write!(f, "{:?}{prefix}", self.text())
    }
}

fn phrase_list(phrases: &[Phrase]) -> String {
    phrases.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

impl fmt::Display for NumberRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, close) =
            (if self.min_open { '(' } else { '[' }, if self.max_open { ')' } else { ']' });
        write!(f, "range{open}{},{}{close}", self.min, self.max)
    }
}

impl fmt::Display for TextRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("string_range")?;
        match &self.min {
            Bound::Unbounded => f.write_str("[")?,
            Bound::Included(min) => write!(f, "[{min:?}")?,
            Bound::Excluded(min) => write!(f, "({min:?}")?,
        }
        match &self.max {
            Bound::Unbounded => f.write_str(",]"),
            Bound::Included(max) => write!(f, ",{max:?}]"),
            Bound::Excluded(max) => write!(f, ",{max:?})"),
        }
    }
}
