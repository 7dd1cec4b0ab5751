//! Rows as typed JSON, an object or a list a line.
//!
//! Invariants: a missing value is `null`; a number that JSON has no form for is `null`, too; a time is
//! RFC 3339 with three, six or nine digits of a fraction, if it has one.
//!
//! The types that records have are written here, column by column of a row and with the names made
//! once; rows with a column of another type go through Arrow's writer, which says the same.

use arrow::array::{
    Array, AsArray, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    StringViewArray, TimestampNanosecondArray,
};
use arrow::datatypes::{
    DataType, Float64Type, Int32Type, Int64Type, TimeUnit, TimestampNanosecondType,
};
use arrow::error::ArrowError;
use arrow::json::writer::{LineDelimited, WriterBuilder};
use arrow::json::{StructMode, Writer};
use lodge_record::time;
use lodge_wire::json_rows::push_json_string;

/// `%.f` prints as many digits of the fraction as there are, by threes.
pub(crate) const TIME_FORMAT: &str = "%Y-%m-%dT%H:%M:%S%.fZ";

/// What a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowForm {
    /// `{"name":value,…}`.
    Object,
    /// `[value,…]`.
    List,
}

/// Writes rows.
pub(crate) struct TypedRows {
    form: RowForm,
    /// For what has columns of other types.
    arrow: Writer<Vec<u8>, LineDelimited>,
}

impl TypedRows {
    pub(crate) fn new(form: RowForm) -> Self {
        let mode = match form {
            RowForm::Object => StructMode::ObjectOnly,
            RowForm::List => StructMode::ListOnly,
        };
        let arrow = WriterBuilder::new()
            .with_explicit_nulls(true)
            .with_struct_mode(mode)
            .with_timestamp_tz_format(TIME_FORMAT.to_owned())
            .with_timestamp_format(TIME_FORMAT.to_owned())
            .build(Vec::new());
        Self { form, arrow }
    }

    /// Appends a line for each row of `batch`.
    pub(crate) fn write(
        &mut self,
        batch: &RecordBatch,
        out: &mut Vec<u8>,
    ) -> Result<(), ArrowError> {
        let Some(columns) = columns(batch, self.form) else {
            self.arrow.write(batch)?;
            out.append(self.arrow.get_mut());
            return Ok(());
        };
        let (open, close) = match self.form {
            RowForm::Object => (b'{', b"}\n"),
            RowForm::List => (b'[', b"]\n"),
        };
        for row in 0..batch.num_rows() {
            out.push(open);
            for column in &columns {
                column.write(row, out);
            }
            out.extend_from_slice(close);
        }
        Ok(())
    }
}

/// A column and what stands before its values.
struct Column<'a> {
    head: Vec<u8>,
    /// The head and `null`.
    null: Vec<u8>,
    cells: Cells<'a>,
}

/// Values by their types.
enum Cells<'a> {
    None,
    Text(&'a StringArray),
    View(&'a StringViewArray),
    /// Places of texts, and these as JSON.
    Codes(&'a Int32Array, Vec<Vec<u8>>),
    Int(&'a Int64Array),
    Float(&'a Float64Array),
    Boolean(&'a BooleanArray),
    Time(&'a TimestampNanosecondArray),
}

/// The columns of a batch, if all are of types that are known here.
fn columns(batch: &RecordBatch, form: RowForm) -> Option<Vec<Column<'_>>> {
    let mut columns = Vec::with_capacity(batch.num_columns());
    for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        let mut head = Vec::new();
        if !columns.is_empty() {
            head.push(b',');
        }
        if form == RowForm::Object {
            push_json_string(&mut head, field.name());
            head.push(b':');
        }
        let null = [&head, b"null".as_slice()].concat();
        columns.push(Column { head, null, cells: cells(array.as_ref())? });
    }
    Some(columns)
}

fn cells(array: &dyn Array) -> Option<Cells<'_>> {
    if array.null_count() == array.len() {
        return Some(Cells::None);
    }
    Some(match array.data_type() {
        DataType::Null => Cells::None,
        DataType::Utf8 => Cells::Text(array.as_string_opt()?),
        DataType::Utf8View => Cells::View(array.as_string_view_opt()?),
        DataType::Dictionary(..) => {
            let dictionary = array.as_dictionary_opt::<Int32Type>()?;
            let values = dictionary.values().as_string_opt::<i32>()?;
            let json = values.iter().map(|text| {
                let mut json = Vec::new();
                if let Some(text) = text {
                    push_json_string(&mut json, text);
                }
                json
            });
            Cells::Codes(dictionary.keys(), json.collect())
        }
        DataType::Int64 => Cells::Int(array.as_primitive_opt::<Int64Type>()?),
        DataType::Float64 => Cells::Float(array.as_primitive_opt::<Float64Type>()?),
        DataType::Boolean => Cells::Boolean(array.as_boolean_opt()?),
        DataType::Timestamp(TimeUnit::Nanosecond, zone)
            if zone.as_deref().is_none_or(|zone| matches!(zone, "UTC" | "+00:00")) =>
        {
            Cells::Time(array.as_primitive_opt::<TimestampNanosecondType>()?)
        }
        _ => return None,
    })
}

impl Column<'_> {
    fn write(&self, row: usize, out: &mut Vec<u8>) {
        if self.cells.is_null(row) {
            out.extend_from_slice(&self.null);
            return;
        }
        out.extend_from_slice(&self.head);
        match &self.cells {
            // Null, which was written.
            Cells::None => {}
            Cells::Text(texts) => push_json_string(out, texts.value(row)),
            Cells::View(texts) => push_json_string(out, texts.value(row)),
            Cells::Codes(codes, texts) => {
                let text = usize::try_from(codes.value(row)).ok().and_then(|code| texts.get(code));
                out.extend_from_slice(text.map_or(b"null", Vec::as_slice));
            }
            Cells::Int(numbers) => push_number(out, numbers.value(row)),
            Cells::Float(numbers) => push_number(out, numbers.value(row)),
            Cells::Boolean(flags) => {
                out.extend_from_slice(if flags.value(row) { b"true" } else { b"false" });
            }
            Cells::Time(times) => push_time(out, times.value(row)),
        }
    }
}

impl Cells<'_> {
    fn is_null(&self, row: usize) -> bool {
        match self {
            Self::None => true,
            Self::Text(column) => column.is_null(row),
            Self::View(column) => column.is_null(row),
            Self::Codes(column, texts) => {
                let text = usize::try_from(column.value(row)).ok().and_then(|code| texts.get(code));
                // Without its quotes it is no text.
                column.is_null(row) || text.is_none_or(Vec::is_empty)
            }
            Self::Int(column) => column.is_null(row),
            Self::Float(column) => column.is_null(row) || !column.value(row).is_finite(),
            Self::Boolean(column) => column.is_null(row),
            Self::Time(column) => column.is_null(row),
        }
    }
}

fn push_number(out: &mut Vec<u8>, number: impl serde::Serialize) {
    // A finite number can be written to memory.
    if serde_json::to_writer(&mut *out, &number).is_err() {
        out.extend_from_slice(b"null");
    }
}

fn push_time(out: &mut Vec<u8>, time_ns: i64) {
    out.push(b'"');
    let start = out.len();
    time::write(out, time_ns);
    let written = out.get(start..).unwrap_or_default();
    if let Some(point) = written.iter().position(|byte| *byte == b'.') {
        // The point before and the letter behind are no digits.
        let digits = written.len() - point - 2;
        out.pop();
        out.extend(std::iter::repeat_n(b'0', digits.next_multiple_of(3) - digits));
        out.push(b'Z');
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use arrow::array::{ArrayRef, DictionaryArray, Int32Array, NullArray};
    use serde_json::Value;

    use super::*;

    /// A row of each kind of value, and of none.
    fn rows() -> Vec<(&'static str, ArrayRef)> {
        let texts = [Some("a\"b\\c\n\u{1}é"), None, Some("")];
        let times = vec![Some(1_500_000_000), None, Some(-1)];
        let dictionary: DictionaryArray<Int32Type> = texts.into_iter().collect();
        vec![
            ("text", Arc::new(StringArray::from(texts.to_vec()))),
            ("view", Arc::new(StringViewArray::from(texts.to_vec()))),
            ("na\"me", Arc::new(dictionary)),
            ("int", Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(7)]))),
            ("float", Arc::new(Float64Array::from(vec![Some(-0.1), Some(f64::NAN), Some(1e300)]))),
            ("flag", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
            ("time", Arc::new(TimestampNanosecondArray::from(times.clone()).with_timezone("UTC"))),
            ("local", Arc::new(TimestampNanosecondArray::from(times))),
            ("none", Arc::new(Int64Array::from(vec![None, None, None]))),
            ("nothing", Arc::new(NullArray::new(3))),
        ]
    }

    fn written(form: RowForm, columns: Vec<(&str, ArrayRef)>) -> Vec<Value> {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut out = Vec::new();
        TypedRows::new(form).write(&batch, &mut out).unwrap();
        let lines = out.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
    }

    #[test]
    fn rows_are_what_arrow_writes() {
        for form in [RowForm::Object, RowForm::List] {
            let known = written(form, rows());
            let odd: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3]));
            let other = written(form, rows().into_iter().chain([("odd", odd)]).collect());
            for (known, mut other) in known.iter().zip(other) {
                match &mut other {
                    Value::Object(fields) => drop(fields.remove("odd")),
                    Value::Array(values) => drop(values.pop()),
                    _ => {}
                }
                assert_eq!(*known, other);
            }
            assert_eq!(known.len(), 3);
        }
        assert_eq!(written(RowForm::Object, rows())[0]["time"], "1970-01-01T00:00:01.500Z");
    }
}
