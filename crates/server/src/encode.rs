//! Rows as bytes of an answer: log lines, JSON, CSV, Arrow and Parquet, a piece at a time.
//!
//! Invariants: an encoder holds at most one piece (or, for Parquet, one bounded row group) in
//! memory; text in a CSV cell can never begin a spreadsheet formula; JSON is typed and a time in it
//! is RFC 3339 with what it has of nanoseconds.

use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use lodge_record::field;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use crate::answer::ApiError;
use crate::limits::{ROW_GROUP_BYTES_MAX, ROW_GROUP_ROWS_MAX};
use crate::typed::{RowForm, TIME_FORMAT, TypedRows};

/// How an answer's rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// VictoriaLogs' rows: a JSON object a line, every value a string, empty ones left out.
    LogLines,
    /// A JSON object a line, typed, nulls written.
    JsonLines,
    /// `{"columns":[{"name","type"}…],"rows":[[…]…]}`, typed.
    Json,
    /// RFC 4180 with a header.
    Csv,
    /// Arrow IPC stream.
    Arrow,
    /// A Parquet file.
    Parquet,
}

impl Format {
    /// The format that `name` means, if it is one of `offered`.
    pub(crate) fn parse(name: &str, offered: &[(&'static str, Self)]) -> Result<Self, ApiError> {
        let found = offered.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, format)| *format).ok_or_else(|| {
            let names: Vec<&str> = offered.iter().map(|(n, _)| *n).collect();
            ApiError::bad_request(format!(
                "the argument `format`: `{name}` is not one of {}",
                names.join(", ")
            ))
        })
    }

    /// The answer's media type.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::LogLines => "application/stream+json",
            Self::JsonLines => "application/x-ndjson",
            Self::Json => "application/json",
            Self::Csv => "text/csv; charset=utf-8",
            Self::Arrow => "application/vnd.apache.arrow.stream",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }

    /// Suffix of a file with it.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::LogLines | Self::JsonLines => "jsonl",
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Arrow => "arrows",
            Self::Parquet => "parquet",
        }
    }

    /// Whether an answer can say, at its end, that it is partial.
    pub(crate) fn can_be_marked(self) -> bool {
        !matches!(self, Self::Csv | Self::Arrow)
    }

    /// Whether a line of JSON can be added after the rows.
    pub(crate) fn is_lines(self) -> bool {
        matches!(self, Self::LogLines | Self::JsonLines)
    }
}

/// Why rows could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EncodeError {
    /// Arrow's own reason.
    #[error("the rows cannot be written in this format: {0}")]
    Arrow(#[from] ArrowError),
    /// Parquet's own reason.
    #[error("the rows cannot be written as Parquet: {0}")]
    Parquet(#[from] parquet::errors::ParquetError),
    /// JSON of the header.
    #[error("the columns cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Turns batches of one schema into bytes.
pub(crate) enum Encoder {
    /// See [`Format::LogLines`].
    LogLines,
    /// See [`Format::JsonLines`].
    JsonLines(Box<TypedRows>),
    /// See [`Format::Json`].
    Json(Box<JsonTable>),
    /// See [`Format::Csv`].
    Csv(CsvTable),
    /// See [`Format::Arrow`].
    Arrow(Box<StreamWriter<Vec<u8>>>),
    /// See [`Format::Parquet`].
    Parquet(Box<ArrowWriter<Vec<u8>>>),
}

impl Encoder {
    /// An encoder of `format` for batches of `schema`.
    pub(crate) fn new(format: Format, schema: &SchemaRef) -> Result<Self, EncodeError> {
        Ok(match format {
            Format::LogLines => Self::LogLines,
            Format::JsonLines => Self::JsonLines(Box::new(TypedRows::new(RowForm::Object))),
            Format::Json => Self::Json(Box::new(JsonTable::new(schema)?)),
            Format::Csv => Self::Csv(CsvTable { head: Some(csv_head(schema)) }),
            Format::Arrow => {
                Self::Arrow(Box::new(StreamWriter::try_new(Vec::new(), schema.as_ref())?))
            }
            Format::Parquet => {
                let properties = WriterProperties::builder()
                    .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
                    .set_max_row_group_row_count(Some(ROW_GROUP_ROWS_MAX))
                    .set_created_by("lodge".to_owned())
                    .build();
                let writer = ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties))?;
                Self::Parquet(Box::new(writer))
            }
        })
    }

    /// Appends a batch to `out` (or to the open row group).
    pub(crate) fn batch(
        &mut self,
        batch: &RecordBatch,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        match self {
            Self::LogLines => lodge_wire::json_rows::write_rows(&with_stream_codes(batch)?, out),
            Self::JsonLines(rows) => rows.write(batch, out)?,
            Self::Json(table) => table.batch(batch, out)?,
            Self::Csv(table) => table.batch(batch, out)?,
            Self::Arrow(writer) => {
                writer.write(batch)?;
                out.append(writer.get_mut());
            }
            Self::Parquet(writer) => {
                writer.write(batch)?;
                if writer.in_progress_size() > ROW_GROUP_BYTES_MAX {
                    writer.flush()?;
                }
                out.append(writer.inner_mut());
            }
        }
        Ok(())
    }

    /// Appends what comes after the last row; `partial` says why rows may be missing.
    pub(crate) fn finish(
        self,
        partial: Option<&str>,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        match self {
            Self::LogLines | Self::JsonLines(_) => {
                if let Some(reason) = partial {
                    serde_json::to_writer(&mut *out, &serde_json::json!({"partial": reason}))?;
                    out.push(b'\n');
                }
            }
            Self::Json(table) => table.finish(partial, out)?,
            Self::Csv(table) => out.extend(table.head.unwrap_or_default()),
            Self::Arrow(mut writer) => {
                writer.finish()?;
                out.append(writer.get_mut());
            }
            Self::Parquet(mut writer) => {
                let reason = partial.map(str::to_owned);
                writer.append_key_value_metadata(KeyValue::new("lodge.partial".to_owned(), reason));
                out.append(&mut writer.into_inner()?);
            }
        }
        Ok(())
    }
}

/// The same rows with `_stream` as a dictionary, so that `_stream_id` is made once per stream and
/// not per row.
fn with_stream_codes(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let schema = batch.schema_ref();
    let Ok(at) = schema.index_of(field::STREAM) else { return Ok(batch.clone()) };
    if batch.column(at).data_type() != &DataType::Utf8 || schema.index_of(field::STREAM_ID).is_ok()
    {
        return Ok(batch.clone());
    }
    let codes = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let mut columns = batch.columns().to_vec();
    let mut fields: Vec<FieldRef> = schema.fields().to_vec();
    if let (Some(column), Some(kept)) = (columns.get_mut(at), fields.get_mut(at)) {
        *column = cast(column, &codes)?;
        *kept = Arc::new(kept.as_ref().clone().with_data_type(codes));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

/// Rows as arrays under a list of columns, so that columns of the same name stay apart.
pub(crate) struct JsonTable {
    writer: TypedRows,
    /// Rows that were written, each a line.
    lines: Vec<u8>,
    head: Option<Vec<u8>>,
    any_row: bool,
    rows: u64,
}

impl JsonTable {
    fn new(schema: &SchemaRef) -> Result<Self, EncodeError> {
        let columns: Vec<_> = schema
            .fields()
            .iter()
            .map(|f| serde_json::json!({"name": f.name(), "type": type_name(f.data_type())}))
            .collect();
        let mut head = b"{\"columns\":".to_vec();
        serde_json::to_writer(&mut head, &columns)?;
        head.extend_from_slice(b",\"rows\":[\n");
        let writer = TypedRows::new(RowForm::List);
        Ok(Self { writer, lines: Vec::new(), head: Some(head), any_row: false, rows: 0 })
    }

    fn batch(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.extend(self.head.take().unwrap_or_default());
        self.writer.write(batch, &mut self.lines)?;
        // A line feed inside a string is escaped, so each one here ends a row.
        for line in self.lines.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
            if std::mem::replace(&mut self.any_row, true) {
                out.extend_from_slice(b",\n");
            }
            out.extend_from_slice(line);
            self.rows += 1;
        }
        self.lines.clear();
        Ok(())
    }

    fn finish(mut self, partial: Option<&str>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.extend(self.head.take().unwrap_or_default());
        out.extend_from_slice(format!("\n],\"rows_total\":{}", self.rows).as_bytes());
        if let Some(reason) = partial {
            out.extend_from_slice(b",\"partial\":");
            serde_json::to_writer(&mut *out, reason)?;
        }
        out.extend_from_slice(b"}\n");
        Ok(())
    }
}

/// A type's name for people and clients.
fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text".to_owned(),
        DataType::Dictionary(_, value) => type_name(value),
        DataType::Timestamp(..) => "timestamp".to_owned(),
        DataType::Boolean => "boolean".to_owned(),
        t if t.is_integer() => "integer".to_owned(),
        t if t.is_floating() => "float".to_owned(),
        other => other.to_string().to_ascii_lowercase(),
    }
}

/// RFC 4180 with line feeds. The header waits for the first batch.
pub(crate) struct CsvTable {
    head: Option<Vec<u8>>,
}

fn csv_head(schema: &SchemaRef) -> Vec<u8> {
    let mut head = Vec::new();
    for (i, field) in schema.fields().iter().enumerate() {
        if i > 0 {
            head.push(b',');
        }
        csv_text(field.name(), &mut head);
    }
    head.push(b'\n');
    head
}

impl CsvTable {
    fn batch(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.extend(self.head.take().unwrap_or_default());
        let options = FormatOptions::new()
            .with_null("")
            .with_timestamp_tz_format(Some(TIME_FORMAT))
            .with_timestamp_format(Some(TIME_FORMAT));
        let mut columns = Vec::with_capacity(batch.num_columns());
        for column in batch.columns() {
            let typed = is_typed(column.data_type());
            columns.push((typed, ArrayFormatter::try_new(column.as_ref(), &options)?));
        }
        for row in 0..batch.num_rows() {
            for (i, (typed, formatter)) in columns.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                let text = formatter.value(row).try_to_string()?;
                if *typed {
                    out.extend_from_slice(text.as_bytes());
                } else {
                    csv_text(&text, out);
                }
            }
            out.push(b'\n');
        }
        Ok(())
    }
}

/// Whether a column's text can only be a number, a time or a boolean.
fn is_typed(data_type: &DataType) -> bool {
    data_type.is_numeric()
        || matches!(data_type, DataType::Boolean | DataType::Timestamp(..) | DataType::Null)
}

/// One cell of text. A spreadsheet takes a cell that begins with one of `= + - @` or a tab or
/// carriage return for a formula; a quote before it makes it text again. A number is left alone.
fn csv_text(text: &str, out: &mut Vec<u8>) {
    let risky = text.starts_with(['=', '+', '-', '@', '\t', '\r'])
        && !text.parse::<f64>().is_ok_and(f64::is_finite);
    let quoted = text.contains([',', '"', '\n', '\r']);
    if quoted {
        out.push(b'"');
    }
    if risky {
        out.push(b'\'');
    }
    for byte in text.bytes() {
        if byte == b'"' {
            out.push(b'"');
        }
        out.push(byte);
    }
    if quoted {
        out.push(b'"');
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use arrow::array::{
        ArrayRef, BooleanArray, DictionaryArray, Float64Array, Int64Array, StringArray,
        TimestampNanosecondArray,
    };
    use arrow::datatypes::Int32Type;

    fn rows() -> RecordBatch {
        let stream: DictionaryArray<Int32Type> = ["{}", "{a=\"b\"}"].into_iter().collect();
        let columns: Vec<(&str, ArrayRef)> = vec![
            (
                "_time",
                Arc::new(
                    TimestampNanosecondArray::from(vec![1_500_000_000, -1]).with_timezone("UTC"),
                ),
            ),
            ("_stream", Arc::new(stream)),
            ("=text", Arc::new(StringArray::from(vec![Some("=1+1,\"x\"\n"), None]))),
            ("int", Arc::new(Int64Array::from(vec![Some(-5), None]))),
            ("float", Arc::new(Float64Array::from(vec![0.1, f64::NAN]))),
            ("bool", Arc::new(BooleanArray::from(vec![true, false]))),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    fn encode(format: Format, batches: &[RecordBatch], partial: Option<&str>) -> Vec<u8> {
        let mut encoder = Encoder::new(format, &rows().schema()).unwrap();
        let mut out = Vec::new();
        for batch in batches {
            encoder.batch(batch, &mut out).unwrap();
        }
        encoder.finish(partial, &mut out).unwrap();
        out
    }

    #[test]
    fn csv_cells_are_text_and_never_formulas() {
        let text = String::from_utf8(encode(Format::Csv, &[rows()], None)).unwrap();
        assert_eq!(
            text,
            "_time,_stream,'=text,int,float,bool\n\
             1970-01-01T00:00:01.500Z,{},\"'=1+1,\"\"x\"\"\n\",-5,0.1,true\n\
             1969-12-31T23:59:59.999999999Z,\"{a=\"\"b\"\"}\",,,NaN,false\n"
        );
        for (text, cell) in
            [("-5", "-5"), ("-5x", "'-5x"), ("@x", "'@x"), ("\tx", "'\tx"), ("\rx", "\"'\rx\"")]
        {
            let mut out = Vec::new();
            csv_text(text, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), cell);
        }
        assert_eq!(encode(Format::Csv, &[], None), b"_time,_stream,'=text,int,float,bool\n");
    }

    #[test]
    fn json_is_typed_and_whole() {
        let bytes = encode(Format::Json, &[rows(), rows()], Some("too slow"));
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(value["columns"][3], serde_json::json!({"name": "int", "type": "integer"}));
        assert_eq!(
            value["rows"][0],
            serde_json::json!(["1970-01-01T00:00:01.500Z", "{}", "=1+1,\"x\"\n", -5, 0.1, true])
        );
        assert_eq!(value["rows"][3][4], serde_json::Value::Null);
        assert_eq!(value["rows_total"], 4);
        assert_eq!(value["partial"], "too slow");
        let empty: serde_json::Value =
            serde_json::from_slice(&encode(Format::Json, &[], None)).unwrap();
        assert_eq!(empty["rows"], serde_json::json!([]));
        let lines = encode(Format::JsonLines, &[rows()], None);
        let first = lines.split(|b| *b == b'\n').next().unwrap();
        let first: serde_json::Value = serde_json::from_slice(first).unwrap();
        assert_eq!(first["int"], -5);
    }

    #[test]
    fn arrow_and_parquet_read_back_the_same_rows() {
        let bytes = encode(Format::Arrow, &[rows(), rows()], None);
        let reader = arrow::ipc::reader::StreamReader::try_new(bytes.as_slice(), None).unwrap();
        let read: usize = reader.map(|b| b.unwrap().num_rows()).sum();
        assert_eq!(read, 4);
        let bytes = encode(Format::Parquet, &[rows(), rows()], None);
        let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(
            bytes::Bytes::from(bytes),
        )
        .unwrap();
        let read: Vec<RecordBatch> = reader.build().unwrap().map(|b| b.unwrap()).collect();
        assert_eq!(read[0].num_rows(), 4);
        let twice: ArrayRef = Arc::new(Int64Array::from(vec![Some(-5), None, Some(-5), None]));
        assert_eq!(read[0].column(3), &twice);
    }
}
