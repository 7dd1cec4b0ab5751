//! Predicates that look at several fields of a record.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Int64Type};
use arrow::record_batch::RecordBatch;
use lodge_record::{field, overflow, schema, time};
use serde::{Deserialize, Serialize};

use super::evaluate::{field_column, overflow_of};
use super::number::{parse_ipv4, parse_number};
use super::{FieldTest, Predicate, columns};

/// How the values of two fields relate; a missing field has the empty value.
///
/// Values are in the order of what both are: numbers (durations among them), times, IPv4 addresses,
/// or else texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FieldOrder {
    /// Both have the same text.
    Equal,
    /// The first is less.
    Less,
    /// The first is not more.
    LessOrEqual,
}

impl FieldOrder {
    /// All of them, by the names of their filters.
    pub const ALL: [(&'static str, Self); 3] =
        [("eq_field", Self::Equal), ("lt_field", Self::Less), ("le_field", Self::LessOrEqual)];

    /// Whether two values are in this order.
    pub fn holds(self, left: &str, right: &str) -> bool {
        match self {
            Self::Equal => left == right,
            Self::Less => compare(left, right) == Ordering::Less,
            Self::LessOrEqual => compare(left, right) != Ordering::Greater,
        }
    }

    fn of(self, order: Ordering) -> bool {
        match self {
            Self::Equal => order == Ordering::Equal,
            Self::Less => order == Ordering::Less,
            Self::LessOrEqual => order != Ordering::Greater,
        }
    }

    /// What this is of two fields of which `left` and `right` say whether records can have them;
    /// `None` if they can have both.
    pub(crate) fn of_absent(self, left: Option<&str>, right: Option<&str>) -> Option<Predicate> {
        let test = |name: &str, test: FieldTest| Predicate::field(name, test);
        Some(match (left, right) {
            (Some(_), Some(_)) => return None,
            (None, None) if self == Self::Less => Predicate::None,
            (None, None) => Predicate::All,
            // The empty text is not more than any other.
            (None, Some(right)) => match self {
                Self::Equal => test(right, FieldTest::Empty),
                Self::Less => test(right, FieldTest::Any),
                Self::LessOrEqual => Predicate::All,
            },
            (Some(left), None) => match self {
                Self::Equal | Self::LessOrEqual => test(left, FieldTest::Empty),
                Self::Less => Predicate::None,
            },
        })
    }
}

impl fmt::Display for FieldOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(_, order)| order == self).map(|(name, _)| *name);
        f.write_str(name.unwrap_or_default())
    }
}

/// The order of two values.
fn compare(left: &str, right: &str) -> Ordering {
    if let (Some(a), Some(b)) = (parse_number(left), parse_number(right)) {
        // Whole numbers beyond 2^53 differ where their floats do not.
        let whole = || Some(left.parse::<i64>().ok()?.cmp(&right.parse::<i64>().ok()?));
        return match a.total_cmp(&b) {
            _ if a == b => whole().unwrap_or(Ordering::Equal),
            order => order,
        };
    }
    if let (Some(a), Some(b)) = (parse_time(left), parse_time(right)) {
        return a.cmp(&b);
    }
    if let (Some(a), Some(b)) = (parse_ipv4(left), parse_ipv4(right)) {
        return a.cmp(&b);
    }
    left.cmp(right)
}

/// A time with date and clock.
fn parse_time(text: &str) -> Option<i64> {
    let is_time = matches!(text.as_bytes().get(10), Some(b'T' | b't' | b' '));
    if is_time { time::parse(text) } else { None }
}

/// A field's values in a batch, wherever they are.
struct Values<'b> {
    name: &'b str,
    column: Option<ArrayRef>,
    spilled: Option<&'b StringArray>,
}

impl<'b> Values<'b> {
    fn of(name: &'b str, batch: &'b RecordBatch) -> Self {
        let spilled = overflow_of(batch).filter(|_| !schema::is_reserved(name));
        Self { name, column: field_column(name, batch), spilled }
    }

    fn text(&self, row: usize) -> Cow<'_, str> {
        let stored = self.column.as_ref().and_then(|column| schema::value_text(column, row));
        stored
            .or_else(|| {
                let spilled = self.spilled.filter(|spilled| spilled.is_valid(row))?;
                overflow::get(spilled.value(row), self.name)
            })
            .unwrap_or_default()
    }
}

/// The rows of `batch` of which two fields are in `order`; right for those in `within`.
pub(super) fn compared(
    left: &str,
    order: FieldOrder,
    right: &str,
    batch: &RecordBatch,
    within: Option<&BooleanBuffer>,
) -> BooleanBuffer {
    let (left, right) = (Values::of(left, batch), Values::of(right, batch));
    let wanted = |row: usize| within.is_none_or(|within| within.value(row));
    let integers = |values: &Values<'_>| {
        let column = values.column.as_ref().filter(|c| *c.data_type() == DataType::Int64)?;
        column.as_primitive_opt::<Int64Type>().cloned()
    };
    let numbers = integers(&left).zip(integers(&right));
    BooleanBuffer::collect_bool(batch.num_rows(), |row| {
        if !wanted(row) {
            return false;
        }
        match &numbers {
            Some((a, b)) if a.is_valid(row) && b.is_valid(row) => {
                order.of(a.value(row).cmp(&b.value(row)))
            }
            _ => order.holds(&left.text(row), &right.text(row)),
        }
    })
}

/// The rows of `batch` of which any field with a name that begins with `prefix` passes `test`; right
/// for those in `within`.
pub(super) fn any_field(
    prefix: &str,
    test: &FieldTest,
    batch: &RecordBatch,
    within: Option<&BooleanBuffer>,
) -> BooleanBuffer {
    let schema = batch.schema_ref();
    let mut names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    if !names.contains(&field::STREAM_ID) {
        names.push(field::STREAM_ID);
    }
    let mut found = BooleanBuffer::new_unset(batch.num_rows());
    let of_prefix = |name: &&&str| name.starts_with(prefix) && **name != field::OVERFLOW;
    for name in names.iter().filter(of_prefix) {
        let Some(column) = field_column(name, batch) else { continue };
        let mut bits = columns::passing(&column, test, within);
        if test.matches("") {
            bits = &bits & &columns::passing(&column, &FieldTest::Any, within);
        }
        found = &found | &bits;
    }
    let Some(spilled) = overflow_of(batch) else { return found };
    BooleanBuffer::collect_bool(batch.num_rows(), |row| {
        if found.value(row) || spilled.is_null(row) {
            return found.value(row);
        }
        let mut passes = false;
        overflow::for_each(spilled.value(row), |name, value| {
            let in_column = || batch.column_by_name(name).is_some_and(|c| c.is_valid(row));
            passes |= name.starts_with(prefix)
                && !value.is_empty()
                && test.matches(value)
                && !in_column();
        });
        passes
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_in_the_order_of_what_both_are() {
        let less = [
            ("9", "10"),
            ("-1", "0.5"),
            ("500ms", "2s"),
            ("1KiB", "2000"),
            ("9223372036854775806", "9223372036854775807"),
            ("10.0.0.9", "10.0.0.10"),
            ("2026-01-02T00:00:00+03:00", "2026-01-02T00:00:00Z"),
            ("", "a"),
            ("abc", "abd"),
            // One is no number: by their texts.
            ("10", "9a"),
        ];
        for (a, b) in less {
            assert!(FieldOrder::Less.holds(a, b), "{a} < {b}");
            assert!(!FieldOrder::Less.holds(b, a), "{b} < {a}");
            assert!(FieldOrder::LessOrEqual.holds(a, b) && !FieldOrder::LessOrEqual.holds(b, a));
        }
        assert!(FieldOrder::LessOrEqual.holds("1s", "1000ms"));
        assert!(!FieldOrder::Equal.holds("1s", "1000ms"));
        assert!(FieldOrder::Equal.holds("", ""));
    }
}
