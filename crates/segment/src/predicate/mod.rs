//! What a query selects: a predicate over records, evaluated on stored columns.
//!
//! Semantics follow VictoriaLogs' documentation of LogsQL. Every value has one text form and a
//! missing field is the empty text, so an answer never depends on the type a column happens to have.
//!
//! Invariants:
//! - [`evaluate`] is exact: true for the rows that match and for no other;
//! - [`Predicate::verdict`] is safe: it says none or all only where `evaluate` would;
//! - a test on a dictionary column is decided once per dictionary value;
//! - its text (`Display`) is LogsQL that means the same.

mod across;
mod columns;
mod evaluate;
mod json;
mod kind;
mod number;
mod placeholders;
mod print;
mod streams;
mod test;
#[cfg(test)]
mod tests;
mod travel;
mod verdict;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use lodge_record::{field, schema};
use serde::{Deserialize, Serialize};

pub use across::FieldOrder;
pub(crate) use columns::passing;
pub use evaluate::evaluate;
pub use kind::ValueKind;
pub use number::{parse_bound, parse_duration_ns, parse_ipv4, parse_ipv6, parse_number};
pub use placeholders::Ends;
pub use print::{Named, Quoted};
pub use streams::{LabelMatcher, LabelTest, PreparedSelector, StreamSelector};
pub use test::{FieldTest, NumberRange, Pattern, TextRange};
pub use travel::float_bits;
pub use verdict::{Facts, Verdict};
pub use words::{Phrase, is_word_char};

/// Nanoseconds of a day.
pub const DAY_NS: i64 = 86_400_000_000_000;

/// Which records are selected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Predicate {
    /// Every record.
    All,
    /// No record.
    None,
    /// Records that all of these select.
    And(Vec<Predicate>),
    /// Records that any of these selects.
    Or(Vec<Predicate>),
    /// Records that this does not select.
    Not(Box<Predicate>),
    /// Records with `_time` in this range, both ends included.
    Time {
        /// First nanosecond.
        min_ns: i64,
        /// Last nanosecond.
        max_ns: i64,
    },
    /// Records of a time of day (UTC plus an offset), both ends included.
    DayRange {
        /// First nanosecond of the day.
        min_ns: i64,
        /// Last nanosecond of the day.
        max_ns: i64,
        /// Added to `_time` before its time of day is taken.
        offset_ns: i64,
    },
    /// Records of some days of the week.
    WeekRange {
        /// Bit 0 is Sunday, bit 6 is Saturday.
        days: u8,
        /// Added to `_time` before its day is taken.
        offset_ns: i64,
    },
    /// Records of streams with these labels.
    Stream(StreamSelector),
    /// Records whose field passes a test.
    Field {
        /// The field's name.
        name: String,
        /// What its value must be.
        test: FieldTest,
    },
    /// Records of which any field passes a test: one that they have, so that its value is not empty.
    AnyField {
        /// How the field's name begins; empty for any field.
        prefix: String,
        /// What its value must be.
        test: FieldTest,
    },
    /// Records with two fields in this order.
    Compare {
        /// The first field's name.
        left: String,
        /// How its value relates to the other one's.
        order: FieldOrder,
        /// The other field's name.
        right: String,
    },
}

/// Which fields must be read to evaluate a predicate.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reads {
    names: BTreeSet<String>,
    prefixes: BTreeSet<String>,
}

impl Reads {
    /// Whether the stored column `name` is needed.
    pub fn has(&self, name: &str) -> bool {
        let named = |name: &str| {
            self.names.contains(name) || self.prefixes.iter().any(|p| name.starts_with(p.as_str()))
        };
        match name {
            field::OVERFLOW => {
                let may_be_there = |name: &String| !schema::is_reserved(name);
                named(name) || !self.prefixes.is_empty() || self.names.iter().any(may_be_there)
            }
            field::STREAM => named(name) || named(field::STREAM_ID),
            _ => named(name),
        }
    }

    /// Whether fields are needed whose names are not known.
    pub fn is_open(&self) -> bool {
        !self.prefixes.is_empty()
    }
}

impl Predicate {
    /// A test of a field.
    pub fn field(name: impl Into<String>, test: FieldTest) -> Self {
        Self::Field { name: name.into(), test }
    }

    /// All of `parts`; nested conjunctions are flattened.
    pub fn and(parts: impl IntoIterator<Item = Predicate>) -> Self {
        let mut flat = Vec::new();
        for part in parts {
            match part {
                Self::All => {}
                Self::None => return Self::None,
                Self::And(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        match flat.len() {
            0 => Self::All,
            1 => flat.swap_remove(0),
            _ => Self::And(flat),
        }
    }

    /// Any of `parts`; nested disjunctions are flattened.
    pub fn or(parts: impl IntoIterator<Item = Predicate>) -> Self {
        let mut flat = Vec::new();
        for part in parts {
            match part {
                Self::None => {}
                Self::All => return Self::All,
                Self::Or(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        match flat.len() {
            0 => Self::None,
            1 => flat.swap_remove(0),
            _ => Self::Or(flat),
        }
    }

    /// The opposite of this.
    #[expect(clippy::should_implement_trait, reason = "a constructor beside `and` and `or`")]
    pub fn not(self) -> Self {
        match self {
            Self::All => Self::None,
            Self::None => Self::All,
            Self::Not(inner) => *inner,
            other => Self::Not(Box::new(other)),
        }
    }

    /// This predicate, for records with `_time` from `min_ns` to `max_ns`, both included.
    pub fn within(self, min_ns: i64, max_ns: i64) -> Self {
        if min_ns > max_ns {
            return Self::None;
        }
        if (min_ns, max_ns) == (i64::MIN, i64::MAX) {
            return self;
        }
        Self::and([Self::Time { min_ns, max_ns }, self])
    }

    /// The smallest range of `_time` (both ends included) outside which nothing can match; `None`
    /// if nothing matches at all.
    pub fn time_bounds(&self) -> Option<(i64, i64)> {
        match self {
            Self::None => None,
            Self::Time { min_ns, max_ns } => (min_ns <= max_ns).then_some((*min_ns, *max_ns)),
            Self::And(parts) => {
                let mut bounds = (i64::MIN, i64::MAX);
                for part in parts {
                    let (min, max) = part.time_bounds()?;
                    bounds = (bounds.0.max(min), bounds.1.min(max));
                }
                (bounds.0 <= bounds.1).then_some(bounds)
            }
            Self::Or(parts) => parts
                .iter()
                .filter_map(Self::time_bounds)
                .reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))),
            Self::Not(inner) => match inner.as_ref() {
                // The complement of a range that is open on one side is a range.
                Self::Time { min_ns: i64::MIN, max_ns } => {
                    max_ns.checked_add(1).map(|min| (min, i64::MAX))
                }
                Self::Time { min_ns, max_ns: i64::MAX } => {
                    min_ns.checked_sub(1).map(|max| (i64::MIN, max))
                }
                _ => Some((i64::MIN, i64::MAX)),
            },
            _ => Some((i64::MIN, i64::MAX)),
        }
    }

    /// The fields that this names, `_overflow` aside: `_stream_id` is derived from `_stream` and
    /// gives that name. See [`Predicate::reads`] for those that it does not name.
    pub fn fields(&self) -> BTreeSet<String> {
        self.tests().into_keys().map(str::to_owned).collect()
    }

    /// What must be read to evaluate this.
    pub fn reads(&self) -> Reads {
        let mut prefixes = BTreeSet::new();
        self.collect_prefixes(&mut prefixes);
        Reads { names: self.fields(), prefixes }
    }

    fn collect_prefixes(&self, found: &mut BTreeSet<String>) {
        match self {
            Self::And(parts) | Self::Or(parts) => {
                parts.iter().for_each(|part| part.collect_prefixes(found));
            }
            Self::Not(inner) => inner.collect_prefixes(found),
            Self::AnyField { prefix, .. } => {
                found.insert(prefix.clone());
            }
            _ => {}
        }
    }

    /// The tests of each field that must be read to evaluate this; none of a field that is read for
    /// something else, too.
    pub(crate) fn tests(&self) -> BTreeMap<&str, Vec<&FieldTest>> {
        let mut found = BTreeMap::new();
        self.collect_tests(&mut found);
        let tests = |(name, tests): (_, Option<_>)| (name, tests.unwrap_or_default());
        found.into_iter().map(tests).collect()
    }

    fn collect_tests<'p>(&'p self, found: &mut BTreeMap<&'p str, Option<Vec<&'p FieldTest>>>) {
        let (name, test) = match self {
            Self::All | Self::None => return,
            Self::And(parts) | Self::Or(parts) => {
                parts.iter().for_each(|part| part.collect_tests(found));
                return;
            }
            Self::Not(inner) => return inner.collect_tests(found),
            Self::Time { .. } | Self::DayRange { .. } | Self::WeekRange { .. } => {
                (field::TIME, None)
            }
            Self::Stream(_) => (field::STREAM, None),
            Self::AnyField { .. } => return,
            Self::Compare { left, right, .. } => {
                for name in [left, right] {
                    let stored = if name == field::STREAM_ID { field::STREAM } else { name };
                    found.insert(stored, None);
                }
                return;
            }
            Self::Field { name, test } if name == field::STREAM_ID => (field::STREAM, Some(test)),
            Self::Field { name, test } => (name.as_str(), Some(test)),
        };
        let tests = found.entry(name).or_insert_with(|| Some(Vec::new()));
        match (tests, test) {
            (Some(tests), Some(test)) => tests.push(test),
            (tests, _) => *tests = None,
        }
    }
}

/// Whether a nanosecond of `_time` falls in a time-of-day range.
fn in_day_range(time_ns: i64, min_ns: i64, max_ns: i64, offset_ns: i64) -> bool {
    let of_day = time_ns.saturating_add(offset_ns).rem_euclid(DAY_NS);
    min_ns <= of_day && of_day <= max_ns
}

/// Whether a nanosecond of `_time` falls on one of the days of the week.
fn in_week_range(time_ns: i64, days: u8, offset_ns: i64) -> bool {
    // 1970-01-01 was a Thursday, day 4 counted from Sunday.
    let day = (time_ns.saturating_add(offset_ns).div_euclid(DAY_NS) + 4).rem_euclid(7);
    days & (1 << day) != 0
}
