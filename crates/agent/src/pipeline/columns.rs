//! Changes to finished batches, column by column, that keep the shape of [`lodge_record::schema`].
//!
//! Invariant: what was taken out is nowhere in the result: neither in a dictionary that no row
//! names any more, nor under a null.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, DictionaryArray, Int32Array, RecordBatch,
    RecordBatchOptions, StringArray,
};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, FieldRef, Int32Type, Schema};
use lodge_record::schema::{self, make_field};
use lodge_record::{field, limits, overflow};

/// Fewest rows of a column that is worth a dictionary.
const CODED_ROWS_MIN: usize = 64;

/// A column of a batch.
pub type Named = (FieldRef, ArrayRef);

/// The columns of a batch, to be changed and put together again by [`assemble`].
pub fn take_apart(records: &RecordBatch) -> Vec<Named> {
    let fields = records.schema_ref().fields().iter().cloned();
    fields.zip(records.columns().iter().cloned()).collect()
}

/// A batch of the columns, in the order of the shape. Columns without a value are left out.
pub fn assemble(rows: usize, mut columns: Vec<Named>) -> RecordBatch {
    let rank = |name: &str| match name {
        field::TIME => 0,
        field::STREAM => 1,
        field::MSG => 2,
        field::OVERFLOW => 4,
        _ => 3,
    };
    columns.retain(|(field, column)| {
        rank(field.name()) < 3 || rows == 0 || column.null_count() < column.len()
    });
    columns.sort_by(|(a, _), (b, _)| (rank(a.name()), a.name()).cmp(&(rank(b.name()), b.name())));
    let (fields, arrays): (Vec<FieldRef>, Vec<ArrayRef>) = columns.into_iter().unzip();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)
        .expect("columns of one length under fields of their types")
}

/// The rows of `records` that `keep` names, with nothing left of the others.
pub fn keep_rows(records: &RecordBatch, keep: &[bool]) -> RecordBatch {
    let kept = filter_record_batch(records, &BooleanArray::from(keep.to_vec()))
        .expect("one flag for each row");
    let mut columns = take_apart(&kept);
    for (field, column) in &mut columns {
        if let Some(coded) = column.as_dictionary_opt::<Int32Type>() {
            // `_stream` is a dictionary always, other columns where it pays.
            let texts = (0..coded.len()).map(|row| schema::value_text(coded, row));
            let array =
                if field.name() == field::STREAM { coded_texts(texts) } else { texts_of(texts) };
            *field = retyped(field, &array);
            *column = array;
        }
    }
    assemble(kept.num_rows(), columns)
}

/// The field with the type of `array`.
pub fn retyped(field: &FieldRef, array: &ArrayRef) -> FieldRef {
    if field.data_type() == array.data_type() {
        return Arc::clone(field);
    }
    Arc::new(make_field(field.name(), array.data_type().clone(), false))
}

/// A column of texts: a dictionary if they repeat.
pub fn texts_of<'t>(texts: impl Iterator<Item = Option<Cow<'t, str>>>) -> ArrayRef {
    let texts: Vec<Option<Cow<'t, str>>> = texts.collect();
    if texts.len() >= CODED_ROWS_MIN {
        let distinct: std::collections::HashSet<&str> =
            texts.iter().flatten().map(AsRef::as_ref).collect();
        if distinct.len() <= texts.len() / 3 {
            return coded_texts(texts.into_iter());
        }
    }
    Arc::new(StringArray::from_iter(texts))
}

/// A dictionary column of texts.
pub fn coded_texts<'t>(texts: impl Iterator<Item = Option<Cow<'t, str>>>) -> ArrayRef {
    let mut codes: HashMap<Cow<'t, str>, i32> = HashMap::new();
    let mut distinct: Vec<Cow<'t, str>> = Vec::new();
    let mut code_of = |text: Cow<'t, str>| match codes.get(&text) {
        Some(code) => *code,
        None => {
            let code = distinct.len() as i32;
            distinct.push(text.clone());
            codes.insert(text, code);
            code
        }
    };
    let keys: Int32Array = texts.map(|text| text.map(&mut code_of)).collect();
    let values = StringArray::from_iter_values(distinct.iter());
    let coded = DictionaryArray::try_new(keys, Arc::new(values));
    Arc::new(coded.expect("each code is a place in the dictionary"))
}

/// Sets the field `name` to `value` in the rows that `chosen` names; an empty value takes it off.
/// Where there are as many columns as there may be, the value goes to `_overflow`.
pub fn set_field(records: &RecordBatch, name: &str, value: &str, chosen: &[bool]) -> RecordBatch {
    let mut columns = take_apart(records);
    strip_overflow(&mut columns, name, chosen);
    let new = (!value.is_empty()).then_some(value);
    let is_chosen = |row: usize| chosen.get(row).copied().unwrap_or(false);
    let has_room = columns.len() < limits::COLUMNS_MAX;
    match columns.iter_mut().find(|(field, _)| field.name() == name) {
        Some((field, column)) => {
            let texts = (0..column.len()).map(|row| match is_chosen(row) {
                true => new.map(Cow::Borrowed),
                false => schema::value_text(column, row),
            });
            let array = texts_of(texts);
            *field = retyped(field, &array);
            *column = array;
        }
        None if has_room => {
            let texts = (0..records.num_rows()).map(|row| new.filter(|_| is_chosen(row)));
            let array = texts_of(texts.map(|text| text.map(Cow::Borrowed)));
            let field = make_field(name, array.data_type().clone(), false);
            columns.push((Arc::new(field), array));
        }
        None => add_to_overflow(&mut columns, records.num_rows(), name, value, chosen),
    }
    assemble(records.num_rows(), columns)
}

/// Takes the field `name` out of `_overflow` in the chosen rows.
fn strip_overflow(columns: &mut [Named], name: &str, chosen: &[bool]) {
    let overflow = columns.iter_mut().find(|(field, _)| field.name() == field::OVERFLOW);
    let Some((_, column)) = overflow else { return };
    let texts = column.as_string::<i32>();
    let has = |(text, chosen): (Option<&str>, &bool)| {
        *chosen && text.is_some_and(|text| overflow::get(text, name).is_some())
    };
    if texts.iter().zip(chosen).any(has) {
        let without = texts.iter().zip(chosen).map(|(text, chosen)| match (text, chosen) {
            (Some(text), true) => {
                map_overflow(text, |field, value| (field != name).then(|| value.to_owned()))
            }
            (text, _) => text.map(str::to_owned),
        });
        *column = Arc::new(StringArray::from_iter(without));
    }
}

fn add_to_overflow(
    columns: &mut Vec<Named>,
    rows: usize,
    name: &str,
    value: &str,
    chosen: &[bool],
) {
    let found = columns.iter().position(|(field, _)| field.name() == field::OVERFLOW);
    let before = found.map(|at| columns.swap_remove(at).1);
    let texts = (0..rows).map(|row| {
        let mut text = String::new();
        if let Some(before) = before.as_ref().and_then(|before| schema::value_text(before, row)) {
            overflow::append_all(&mut text, &before);
        }
        if chosen.get(row).copied().unwrap_or(false) && !value.is_empty() {
            overflow::append(&mut text, name, value);
        }
        overflow::close(&mut text);
        (!text.is_empty()).then_some(text)
    });
    let array: ArrayRef = Arc::new(StringArray::from_iter(texts));
    columns.push((Arc::new(Field::new(field::OVERFLOW, DataType::Utf8, true)), array));
}

/// An overflow text with each value mapped; `None` takes the field out. `None` if nothing is left.
pub fn map_overflow(
    text: &str,
    mut each: impl FnMut(&str, &str) -> Option<String>,
) -> Option<String> {
    let mut out = String::new();
    overflow::for_each(text, |name, value| {
        if let Some(value) = each(name, value) {
            overflow::append(&mut out, name, &value);
        }
    });
    overflow::close(&mut out);
    (!out.is_empty()).then_some(out)
}
