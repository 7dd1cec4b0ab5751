//! Records as JSON lines in VictoriaLogs' shape: one flat object a line, every value a string, empty
//! and missing values left out, `_stream_id` derived, `_overflow` expanded.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int32Type, TimeUnit, TimestampNanosecondType};
use lodge_record::{field, overflow, schema, stream, time};

/// Appends one line per row of `records` to `out`.
pub fn write_rows(records: &RecordBatch, out: &mut Vec<u8>) {
    let has_id = records.schema_ref().column_with_name(field::STREAM_ID).is_some();
    let mut columns: Vec<Column<'_>> = records
        .schema_ref()
        .fields()
        .iter()
        .zip(records.columns())
        .map(|(f, array)| Column::new(f.name(), array, has_id))
        .collect();
    for row in 0..records.num_rows() {
        let start = out.len();
        out.push(b'{');
        let open = out.len();
        for column in &mut columns {
            column.write(row, open, out);
        }
        out.extend_from_slice(b"}\n");
        debug_assert!(out.len() > start);
    }
}

struct Column<'a> {
    /// `"name":"`, ready to be copied.
    head: Vec<u8>,
    array: &'a ArrayRef,
    kind: Kind,
    /// Per dictionary value its `_stream_id`.
    stream_ids: Vec<String>,
    /// Whether `_stream_id` follows: it is derived, so a column `_stream` brings it along.
    with_id: bool,
    /// The stream of the row before and its id, where there is no dictionary.
    last: (String, String),
}

#[derive(PartialEq)]
enum Kind {
    Text,
    Dictionary,
    Time,
    Overflow,
    Other,
}

impl<'a> Column<'a> {
    fn new(name: &str, array: &'a ArrayRef, has_id: bool) -> Self {
        let kind = match array.data_type() {
            DataType::Utf8 if name == field::OVERFLOW => Kind::Overflow,
            DataType::Utf8 => Kind::Text,
            DataType::Dictionary(k, v) if **k == DataType::Int32 && **v == DataType::Utf8 => {
                Kind::Dictionary
            }
            DataType::Timestamp(TimeUnit::Nanosecond, _) => Kind::Time,
            _ => Kind::Other,
        };
        let mut head = Vec::new();
        push_json_string(&mut head, name);
        head.extend_from_slice(b":\"");
        let stream_ids = if name == field::STREAM && kind == Kind::Dictionary {
            let values = array.as_dictionary::<Int32Type>().values();
            (0..values.len())
                .map(|i| stream::stream_id(&schema::value_text(values, i).unwrap_or_default()))
                .collect()
        } else {
            Vec::new()
        };
        let with_id = name == field::STREAM && !has_id;
        Column { head, array, kind, stream_ids, with_id, last: Default::default() }
    }

    fn begin(&self, open: usize, out: &mut Vec<u8>) {
        if out.len() > open {
            out.push(b',');
        }
        out.extend_from_slice(&self.head);
    }

    fn write(&mut self, row: usize, open: usize, out: &mut Vec<u8>) {
        if self.array.is_null(row) {
            return;
        }
        match self.kind {
            Kind::Text => {
                let value = self.array.as_string::<i32>().value(row);
                self.write_text(value, open, out);
                if self.with_id {
                    self.write_stream_id(value, row, out);
                }
            }
            Kind::Time => {
                self.begin(open, out);
                time::write(out, self.array.as_primitive::<TimestampNanosecondType>().value(row));
                out.push(b'"');
            }
            Kind::Overflow => {
                overflow::for_each(self.array.as_string::<i32>().value(row), |name, value| {
                    if value.is_empty() {
                        return;
                    }
                    if out.len() > open {
                        out.push(b',');
                    }
                    push_json_string(out, name);
                    out.push(b':');
                    push_json_string(out, value);
                });
            }
            Kind::Dictionary | Kind::Other => {
                let Some(value) = schema::value_text(self.array, row) else { return };
                self.write_text(&value, open, out);
                if self.with_id {
                    self.write_stream_id(&value, row, out);
                }
            }
        }
    }

    fn write_text(&self, value: &str, open: usize, out: &mut Vec<u8>) {
        if !value.is_empty() {
            self.begin(open, out);
            push_escaped(out, value);
            out.push(b'"');
        }
    }

    fn write_stream_id(&mut self, canonical: &str, row: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"_stream_id\":\"");
        let code = (self.kind == Kind::Dictionary)
            .then(|| self.array.as_dictionary::<Int32Type>().keys().value(row));
        match code.and_then(|c| self.stream_ids.get(usize::try_from(c).ok()?)) {
            Some(id) => out.extend_from_slice(id.as_bytes()),
            None => {
                if self.last.0 != canonical {
                    self.last = (canonical.to_owned(), stream::stream_id(canonical));
                }
                out.extend_from_slice(self.last.1.as_bytes());
            }
        }
        out.push(b'"');
    }
}

/// Appends `text` as a JSON string with its quotes.
pub fn push_json_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    push_escaped(out, text);
    out.push(b'"');
}

fn push_escaped(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bytes = text.as_bytes();
    let mut from = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(bytes.get(from..at).unwrap_or_default());
        from = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                let hex = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[hex(byte >> 4), hex(byte & 15)]);
            }
        }
    }
    out.extend_from_slice(bytes.get(from..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jsonline;

    #[test]
    fn rows_come_back_as_flat_objects_of_strings() {
        let options = jsonline::Options {
            stream_fields: vec!["host".into()],
            ..jsonline::Options::default()
        };
        let body = r#"{"_time":"2026-03-01T12:00:00Z","_msg":"a\"b\\c\u0001é","host":"h","n":1.5,"e":"","t":true}"#;
        let decoded = jsonline::decode(&options, 0, body.as_bytes()).expect("decode");
        let mut out = Vec::new();
        let records = decoded.records.expect("records");
        write_rows(&records, &mut out);
        let line = String::from_utf8(out).expect("UTF-8");
        let id = stream::stream_id(r#"{host="h"}"#);
        let expected = format!(
            r#"{{"_time":"2026-03-01T12:00:00Z","_stream":"{{host=\"h\"}}","_stream_id":"{id}","_msg":"a\"b\\c\u0001é","host":"h","n":"1.5","t":"true"}}"#
        );
        assert_eq!(line.trim_end(), expected);
        // The same from a plain column, as query results have it.
        let plain = schema::cast_to(records.column(1), &DataType::Utf8).expect("cast");
        let mut columns = records.columns().to_vec();
        columns[1] = plain;
        let names = records.schema_ref().fields().iter().map(|f| f.name().clone());
        let plain = RecordBatch::try_from_iter_with_nullable(
            names.zip(columns).map(|(name, column)| (name, column, true)),
        )
        .expect("a batch");
        let mut out = Vec::new();
        write_rows(&plain, &mut out);
        assert_eq!(String::from_utf8(out).expect("UTF-8"), line);
    }
}
