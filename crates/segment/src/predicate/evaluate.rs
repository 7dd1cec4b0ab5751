//! Evaluates a predicate on the stored columns of some rows.
//!
//! Conjunctions are decided cheapest part first, and a dearer part only where the cheaper ones left
//! rows; the order changes the cost, never the answer.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, DictionaryArray, StringArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Int32Type, TimestampNanosecondType};
use arrow::record_batch::RecordBatch;
use lodge_record::{field, overflow, stream};

use super::{FieldTest, Predicate, across, columns, in_day_range, in_week_range};

/// The rows of `batch` that `predicate` selects; no null in the answer.
///
/// A field without a column is looked up in `_overflow`, and is empty otherwise.
pub fn evaluate(predicate: &Predicate, batch: &RecordBatch) -> BooleanArray {
    BooleanArray::new(decide(predicate, batch, None), None)
}

/// A bit per row, right for the rows in `within`.
fn decide(
    predicate: &Predicate,
    batch: &RecordBatch,
    within: Option<&BooleanBuffer>,
) -> BooleanBuffer {
    let length = batch.num_rows();
    match predicate {
        Predicate::All => BooleanBuffer::new_set(length),
        Predicate::None => BooleanBuffer::new_unset(length),
        Predicate::Not(inner) => !&decide(inner, batch, within),
        Predicate::And(parts) => all_of(parts, batch, within),
        Predicate::Or(parts) => any_of(parts, batch, within),
        Predicate::Time { min_ns, max_ns } => {
            of_times(batch, |time| *min_ns <= time && time <= *max_ns)
        }
        Predicate::DayRange { min_ns, max_ns, offset_ns } => {
            of_times(batch, |time| in_day_range(time, *min_ns, *max_ns, *offset_ns))
        }
        Predicate::WeekRange { days, offset_ns } => {
            of_times(batch, |time| in_week_range(time, *days, *offset_ns))
        }
        Predicate::Stream(selector) => {
            let selector = selector.prepared();
            of_streams(batch, |canonical| selector.matches(canonical))
        }
        Predicate::Field { name, test } => of_field(name, test, batch, within),
        Predicate::AnyField { prefix, test } => across::any_field(prefix, test, batch, within),
        Predicate::Compare { left, order, right } => {
            across::compared(left, *order, right, batch, within)
        }
    }
}

fn all_of(
    parts: &[Predicate],
    batch: &RecordBatch,
    within: Option<&BooleanBuffer>,
) -> BooleanBuffer {
    let mut left = within.cloned().unwrap_or_else(|| BooleanBuffer::new_set(batch.num_rows()));
    let mut narrowed = within.is_some();
    for part in by_cost(parts) {
        let more = decide(part, batch, narrowed.then_some(&left));
        left = &left & &more;
        narrowed = true;
        if left.count_set_bits() == 0 {
            break;
        }
    }
    left
}

fn any_of(
    parts: &[Predicate],
    batch: &RecordBatch,
    within: Option<&BooleanBuffer>,
) -> BooleanBuffer {
    let mut open = within.cloned().unwrap_or_else(|| BooleanBuffer::new_set(batch.num_rows()));
    let mut found = BooleanBuffer::new_unset(batch.num_rows());
    let mut narrowed = within.is_some();
    for part in by_cost(parts) {
        let more = decide(part, batch, narrowed.then_some(&open));
        found = &found | &(&more & &open);
        open = &open & &!&more;
        narrowed = true;
        if open.count_set_bits() == 0 {
            break;
        }
    }
    found
}

fn by_cost(parts: &[Predicate]) -> Vec<&Predicate> {
    let mut order: Vec<&Predicate> = parts.iter().collect();
    order.sort_by_key(|part| cost(part));
    order
}

fn cost(predicate: &Predicate) -> u32 {
    match predicate {
        Predicate::All | Predicate::None => 0,
        Predicate::Time { .. } | Predicate::Stream(_) => 1,
        Predicate::DayRange { .. } | Predicate::WeekRange { .. } => 2,
        Predicate::Field { name, test } if name == field::MSG => test.cost() * 2,
        Predicate::Field { test, .. } => test.cost(),
        Predicate::Compare { .. } => 20,
        // There may be many fields.
        Predicate::AnyField { test, .. } => test.cost().saturating_mul(50),
        Predicate::Not(inner) => cost(inner),
        Predicate::And(parts) | Predicate::Or(parts) => {
            parts.iter().fold(0, |sum, part| sum.saturating_add(cost(part)))
        }
    }
}

fn of_times(batch: &RecordBatch, matches: impl Fn(i64) -> bool) -> BooleanBuffer {
    let times = batch
        .column_by_name(field::TIME)
        .and_then(|column| column.as_primitive_opt::<TimestampNanosecondType>());
    match times {
        Some(times) => {
            let values = times.values();
            BooleanBuffer::collect_bool(values.len(), |row| matches(values[row]))
        }
        // After a pipe that dropped `_time` there is no time that could match.
        None => BooleanBuffer::new_unset(batch.num_rows()),
    }
}

/// Decides per stream, each stream once.
fn of_streams(batch: &RecordBatch, matches: impl Fn(&str) -> bool) -> BooleanBuffer {
    let length = batch.num_rows();
    let Some(column) = batch.column_by_name(field::STREAM) else {
        return BooleanBuffer::new_unset(length);
    };
    if let Some(streams) = column.as_dictionary_opt::<Int32Type>() {
        let values = texts(streams.values());
        let decided: Vec<bool> =
            values.iter().map(|value| matches(value.unwrap_or_default())).collect();
        let keys = streams.keys().values();
        return BooleanBuffer::collect_bool(length, |row| {
            usize::try_from(keys[row]).ok().and_then(|key| decided.get(key)) == Some(&true)
        });
    }
    let values = texts(column);
    // Rows of a stream come in runs.
    let mut last: Option<(&str, bool)> = None;
    let mut bits = Vec::with_capacity(length);
    for row in 0..length {
        let value = if values.is_null(row) { "" } else { values.value(row) };
        let answer = match last {
            Some((text, answer)) if text == value => answer,
            _ => matches(value),
        };
        last = Some((value, answer));
        bits.push(answer);
    }
    BooleanBuffer::from(bits)
}

/// A column of text as plain strings.
fn texts(column: &ArrayRef) -> StringArray {
    match column.as_string_opt::<i32>() {
        Some(strings) => strings.clone(),
        None => arrow::compute::cast(column, &DataType::Utf8)
            .ok()
            .and_then(|cast| cast.as_string_opt::<i32>().cloned())
            .unwrap_or_else(|| StringArray::new_null(column.len())),
    }
}

fn of_field(
    name: &str,
    test: &FieldTest,
    batch: &RecordBatch,
    within: Option<&BooleanBuffer>,
) -> BooleanBuffer {
    let length = batch.num_rows();
    let column = field_column(name, batch);
    let bits = match &column {
        Some(column) => columns::passing(column, test, within),
        None if test.matches("") => BooleanBuffer::new_set(length),
        None => BooleanBuffer::new_unset(length),
    };
    match overflow_of(batch) {
        Some(spilled) if name != field::OVERFLOW => {
            with_overflow(name, test, column.as_ref(), spilled, bits)
        }
        _ => bits,
    }
}

/// The column of a field; that of `_stream_id` is made if it is not there.
pub(super) fn field_column(name: &str, batch: &RecordBatch) -> Option<ArrayRef> {
    match batch.column_by_name(name) {
        Some(column) => Some(column.clone()),
        None if name == field::STREAM_ID => batch.column_by_name(field::STREAM).map(stream_ids),
        None => None,
    }
}

/// The `_overflow` of a batch, if any row has one.
pub(super) fn overflow_of(batch: &RecordBatch) -> Option<&StringArray> {
    batch
        .column_by_name(field::OVERFLOW)
        .and_then(|column| column.as_string_opt::<i32>())
        .filter(|column| column.null_count() < batch.num_rows())
}

/// Corrects `bits` in the rows that hold the field in `_overflow`.
fn with_overflow(
    name: &str,
    test: &FieldTest,
    column: Option<&ArrayRef>,
    spilled: &StringArray,
    bits: BooleanBuffer,
) -> BooleanBuffer {
    BooleanBuffer::collect_bool(bits.len(), |row| {
        let in_column = column.is_some_and(|column| column.is_valid(row));
        if in_column || spilled.is_null(row) {
            return bits.value(row);
        }
        match overflow::get(spilled.value(row), name) {
            Some(value) => test.matches(&value),
            None => bits.value(row),
        }
    })
}

/// The `_stream_id` of each row, from its `_stream`.
fn stream_ids(streams: &ArrayRef) -> ArrayRef {
    let cast = match streams.as_dictionary_opt::<Int32Type>() {
        Some(_) => streams.clone(),
        None => {
            let wanted = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
            arrow::compute::cast(streams, &wanted).unwrap_or_else(|_| streams.clone())
        }
    };
    match cast.as_dictionary_opt::<Int32Type>() {
        Some(dictionary) => {
            let ids: StringArray = texts(dictionary.values())
                .iter()
                .map(|canonical| canonical.map(stream::stream_id))
                .collect();
            match DictionaryArray::try_new(dictionary.keys().clone(), Arc::new(ids)) {
                Ok(ids) => Arc::new(ids),
                Err(_) => cast.clone(),
            }
        }
        None => cast,
    }
}
