//! One test on one column.
//!
//! Every function gives a bit per row, right for the rows in `within` (for all rows, if there is no
//! `within`); what it gives for other rows does not matter. A null is the empty text.

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, BooleanBufferBuilder,
    DictionaryArray, Float64Array, Int64Array, PrimitiveArray, StringArray,
};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::{DataType, Int32Type, TimeUnit, TimestampNanosecondType};
use lodge_record::schema;

use super::words::Phrase;
use super::{FieldTest, ValueKind};

/// A whole buffer is searched at once if at least one row in this many is of interest.
const SPARSE_ROWS: usize = 16;

/// The rows of `array` whose text passes `test`.
pub(crate) fn passing(
    array: &ArrayRef,
    test: &FieldTest,
    within: Option<&BooleanBuffer>,
) -> BooleanBuffer {
    match array.data_type() {
        DataType::Utf8 => strings(array.as_string(), test, within),
        DataType::Dictionary(key, value)
            if **key == DataType::Int32 && **value == DataType::Utf8 =>
        {
            dictionary(array.as_dictionary(), test, within)
        }
        DataType::Int64 => integers(array.as_primitive(), test, within),
        DataType::Float64 => floats(array.as_primitive(), test, within),
        DataType::Boolean => booleans(array.as_boolean(), test),
        DataType::Utf8View => {
            let values = array.as_string_view();
            with_nulls(
                array.nulls(),
                test,
                rows(values.len(), within, |row| test.matches(values.value(row))),
            )
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            let values = array.as_primitive::<TimestampNanosecondType>();
            with_nulls(
                array.nulls(),
                test,
                rows(values.len(), within, |row| {
                    test.matches(&lodge_record::time::format(values.value(row)))
                }),
            )
        }
        _ => by_text(array, test, within),
    }
}

/// Decides row by row, where it matters.
fn rows(
    length: usize,
    within: Option<&BooleanBuffer>,
    decide: impl Fn(usize) -> bool,
) -> BooleanBuffer {
    match within {
        None => BooleanBuffer::collect_bool(length, decide),
        Some(within) => BooleanBuffer::collect_bool(length, |row| within.value(row) && decide(row)),
    }
}

/// Puts the answer for the empty text where the column has no value.
fn with_nulls(nulls: Option<&NullBuffer>, test: &FieldTest, bits: BooleanBuffer) -> BooleanBuffer {
    match nulls.filter(|nulls| nulls.null_count() > 0) {
        None => bits,
        Some(nulls) if test.matches("") => &bits | &!nulls.inner(),
        Some(nulls) => &bits & nulls.inner(),
    }
}

fn strings(array: &StringArray, test: &FieldTest, within: Option<&BooleanBuffer>) -> BooleanBuffer {
    let wanted = within.map_or(array.len(), BooleanBuffer::count_set_bits);
    let dense = wanted.saturating_mul(SPARSE_ROWS) >= array.len();
    let bits = match test {
        FieldTest::Empty | FieldTest::Any => {
            let offsets = array.value_offsets();
            let any = matches!(test, FieldTest::Any);
            rows(
                array.len(),
                None,
                |row| matches!(offsets.get(row..row + 2), Some([a, b]) if (a != b) == any),
            )
        }
        FieldTest::Contains(phrase) if dense => {
            occurrences(array, phrase.finder(), |row, start, end| {
                phrase.borders_hold(array.value(row), start, end)
            })
        }
        FieldTest::Substring(text) if dense && !text.is_empty() => {
            let finder = memchr::memmem::Finder::new(text);
            occurrences(array, &finder, |_, _, _| true)
        }
        FieldTest::ContainsAnyCase(phrase) if dense => match lower_ascii(array) {
            Some(lower) => occurrences(&lower, phrase.finder(), |row, start, end| {
                phrase.borders_hold(lower.value(row), start, end)
            }),
            None => rows(array.len(), within, |row| test.matches(array.value(row))),
        },
        FieldTest::ContainsAny(phrases) if dense => any_of(array, phrases),
        _ => rows(array.len(), within, |row| test.matches(array.value(row))),
    };
    with_nulls(array.nulls(), test, bits)
}

fn any_of(array: &StringArray, phrases: &[Phrase]) -> BooleanBuffer {
    phrases.iter().fold(BooleanBuffer::new_unset(array.len()), |bits, phrase| {
        let more = occurrences(array, phrase.finder(), |row, start, end| {
            phrase.borders_hold(array.value(row), start, end)
        });
        &bits | &more
    })
}

/// Searches all values as one text, which is faster than a search per value: most values hold no
/// occurrence, and starting a search costs more than a short value's bytes.
///
/// `accept(row, start, end)` is asked for each occurrence inside one value, positions counted from
/// that value's beginning.
fn occurrences(
    array: &StringArray,
    finder: &memchr::memmem::Finder<'_>,
    accept: impl Fn(usize, usize, usize) -> bool,
) -> BooleanBuffer {
    let length = array.len();
    if finder.needle().is_empty() {
        return BooleanBuffer::new_set(length);
    }
    let mut hits = BooleanBufferBuilder::new(length);
    let offsets = array.value_offsets();
    let (Some(first), Some(last)) = (offsets.first(), offsets.last()) else {
        return BooleanBuffer::new_unset(length);
    };
    let text = array.value_data().get(..*last as usize).unwrap_or_default();
    let mut row = 0;
    let mut at = *first as usize;
    while let Some(found) = text.get(at..).and_then(|rest| finder.find(rest)) {
        let start = at + found;
        let end = start + finder.needle().len();
        // The row whose value holds `start`: the last one that begins at or before it.
        let rest = offsets.get(row + 1..).unwrap_or_default();
        row += rest.partition_point(|offset| *offset as usize <= start);
        let Some([row_start, row_end]) = offsets.get(row..row + 2) else {
            break;
        };
        let (row_start, row_end) = (*row_start as usize, *row_end as usize);
        if end <= row_end && accept(row, start - row_start, end - row_start) {
            hits.append_n(row - hits.len(), false);
            hits.append(true);
            at = row_end;
        } else {
            at = start + 1;
        }
    }
    hits.append_n(length - hits.len(), false);
    hits.finish()
}

/// The same values in lower case, if all of them are ASCII (so that no length changes).
fn lower_ascii(array: &StringArray) -> Option<StringArray> {
    let data = array.value_data();
    if !data.is_ascii() {
        return None;
    }
    let lower = arrow::buffer::Buffer::from_vec(data.to_ascii_lowercase());
    StringArray::try_new(array.offsets().clone(), lower, None).ok()
}

fn dictionary(
    array: &DictionaryArray<Int32Type>,
    test: &FieldTest,
    within: Option<&BooleanBuffer>,
) -> BooleanBuffer {
    let values: ArrayRef = array.values().clone();
    let keys = array.keys().values();
    let key = |row: usize| keys.get(row).and_then(|key| usize::try_from(*key).ok());
    // A segment's dictionary is shared by all its blocks: of a large one, only the values that
    // occur in these rows are looked at.
    let wanted = within.map_or(array.len(), BooleanBuffer::count_set_bits);
    let used = (values.len() > wanted).then(|| {
        let mut used = BooleanBufferBuilder::new(values.len());
        used.append_n(values.len(), false);
        let of_interest = |row: &usize| within.is_none_or(|within| within.value(*row));
        for key in (0..array.len()).filter(of_interest).filter_map(key) {
            if key < values.len() {
                used.set_bit(key, true);
            }
        }
        used.finish()
    });
    let decided = passing(&values, test, used.as_ref());
    let bits = rows(array.len(), within, |row| {
        key(row).is_some_and(|key| key < decided.len() && decided.value(key))
    });
    with_nulls(array.nulls(), test, bits)
}

fn integers(array: &Int64Array, test: &FieldTest, within: Option<&BooleanBuffer>) -> BooleanBuffer {
    let values = array.values();
    let equal =
        |wanted: i64| BooleanBuffer::collect_bool(values.len(), |row| values[row] == wanted);
    let bits = match test {
        FieldTest::Any => BooleanBuffer::new_set(array.len()),
        FieldTest::Empty => BooleanBuffer::new_unset(array.len()),
        FieldTest::Number(range) => {
            BooleanBuffer::collect_bool(values.len(), |row| range.contains(values[row] as f64))
        }
        FieldTest::Kind(kind) => match (kind, kind.unsigned_max()) {
            (ValueKind::Int64 | ValueKind::Float64, _) => BooleanBuffer::new_set(array.len()),
            (_, None) => BooleanBuffer::new_unset(array.len()),
            (_, Some(max)) => BooleanBuffer::collect_bool(values.len(), |row| {
                u64::try_from(values[row]).is_ok_and(|value| value <= max)
            }),
        },
        // Only the canonical text of a number is the text of an integer column's value.
        FieldTest::Exact(text) => match canonical_integer(text) {
            Some(wanted) => equal(wanted),
            None => BooleanBuffer::new_unset(array.len()),
        },
        FieldTest::In(texts) => {
            let mut wanted: Vec<i64> =
                texts.iter().filter_map(|text| canonical_integer(text)).collect();
            wanted.sort_unstable();
            rows(array.len(), within, |row| wanted.binary_search(&values[row]).is_ok())
        }
        _ => return primitive_text(array, test, within),
    };
    with_nulls(array.nulls(), test, bits)
}

fn canonical_integer(text: &str) -> Option<i64> {
    text.parse().ok().filter(|value: &i64| value.to_string() == text)
}

fn floats(array: &Float64Array, test: &FieldTest, within: Option<&BooleanBuffer>) -> BooleanBuffer {
    let values = array.values();
    let bits = match test {
        FieldTest::Any => BooleanBuffer::new_set(array.len()),
        FieldTest::Empty => BooleanBuffer::new_unset(array.len()),
        FieldTest::Number(range) => BooleanBuffer::collect_bool(values.len(), |row| {
            values[row].is_finite() && range.contains(values[row])
        }),
        _ => return primitive_text(array, test, within),
    };
    with_nulls(array.nulls(), test, bits)
}

/// Tests the text forms of numbers, which are written one after the other into one buffer.
fn primitive_text<T: ArrowPrimitiveType>(
    array: &PrimitiveArray<T>,
    test: &FieldTest,
    within: Option<&BooleanBuffer>,
) -> BooleanBuffer {
    let array: ArrayRef = std::sync::Arc::new(array.clone());
    by_text(&array, test, within)
}

fn booleans(array: &BooleanArray, test: &FieldTest) -> BooleanBuffer {
    let bits = match (test.matches("true"), test.matches("false")) {
        (true, true) => BooleanBuffer::new_set(array.len()),
        (true, false) => array.values().clone(),
        (false, true) => !array.values(),
        (false, false) => BooleanBuffer::new_unset(array.len()),
    };
    with_nulls(array.nulls(), test, bits)
}

/// Any column, through the text form of each value.
fn by_text(array: &ArrayRef, test: &FieldTest, within: Option<&BooleanBuffer>) -> BooleanBuffer {
    rows(array.len(), within, |row| {
        test.matches(schema::value_text(array, row).as_deref().unwrap_or_default())
    })
}
