//! A program in the Vector Remap Language that each record goes through (cargo feature `vrl`).
//!
//! The program sees a record as an object: `._msg`, `._time` as a timestamp, `._stream`, and each
//! field under its name, where dots make nested objects (`.http.status`). What it leaves is the
//! record. Invariants:
//! - where the program fails, or leaves what is no record, the record stays as it was, with the
//!   reason in `lodge.error`;
//! - `abort` drops the record, as it does in Vector, and is counted;
//! - values that the program does not touch keep their types;
//! - no function can reach the network, the environment, files or the agent's log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampNanosecondType};
use arrow::temporal_conversions::timestamp_ns_to_datetime;
use lodge_record::builder::BatchBuilder;
use lodge_record::stream::StreamLabels;
use lodge_record::{field, limits, overflow, schema, time};
use vrl::compiler::runtime::{Runtime, Terminate};
use vrl::compiler::state::RuntimeState;
use vrl::compiler::{Program, TargetValue, TimeZone};
use vrl::diagnostic::Formatter;
use vrl::prelude::{KeyString, NotNan, ObjectMap, Value};
use vrl::value::Secrets;

use super::settings::VrlConfig;
use crate::config::{ConfigError, value_error};

/// Longest program.
const PROGRAM_BYTES_MAX: usize = 1 << 20;
/// Name under which dropped records count.
const NAME: &str = "vrl";

/// A compiled program.
#[derive(Debug)]
pub struct VrlProgram {
    program: Program,
    failed: AtomicU64,
    dropped: AtomicU64,
}

/// A record that the program left.
struct Left {
    time_ns: i64,
    stream: String,
    fields: Vec<(String, Value)>,
}

impl VrlProgram {
    /// Compiles the configured program; the error shows where it is wrong.
    pub fn new(config: &VrlConfig) -> Result<Self, ConfigError> {
        let source = match config {
            VrlConfig::Program(source) => source.clone(),
            VrlConfig::File(path) => std::fs::read_to_string(path)
                .map_err(|error| ConfigError::Read { path: path.clone(), error })?,
        };
        if source.len() > PROGRAM_BYTES_MAX {
            let problem = format!("the program is longer than {PROGRAM_BYTES_MAX} bytes");
            return Err(value_error("vrl", problem));
        }
        // What it logs would stand in the agent's log before secrets are taken out.
        let mut functions = vrl::stdlib::all();
        functions.retain(|function| function.identifier() != "log");
        match vrl::compiler::compile(&source, &functions) {
            Ok(compiled) => Ok(VrlProgram {
                program: compiled.program,
                failed: AtomicU64::new(0),
                dropped: AtomicU64::new(0),
            }),
            Err(problems) => Err(value_error("vrl", Formatter::new(&source, problems).to_string())),
        }
    }

    /// Records on which the program failed.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Records that the program dropped.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Runs the program on each record; adds to `dropped` how many it dropped.
    pub fn apply(&self, records: RecordBatch, dropped: &mut Vec<(Arc<str>, u64)>) -> RecordBatch {
        let mut runtime = Runtime::new(RuntimeState::default());
        let mut builder = BatchBuilder::new();
        let mut aborted = 0;
        for row in 0..records.num_rows() {
            let before = fields_of(&records, row);
            let value = Value::Object(object_of(&records, row, &before));
            let metadata = Value::Object(ObjectMap::new());
            let mut target = TargetValue { value, metadata, secrets: Secrets::default() };
            runtime.clear();
            let outcome = runtime.resolve(&mut target, &self.program, &TimeZone::default());
            let left = match outcome {
                Ok(_) => left_of(&records, row, target.value),
                Err(Terminate::Abort(_)) => {
                    aborted += 1;
                    continue;
                }
                Err(error) => Err(error.to_string()),
            };
            let left = left.unwrap_or_else(|problem| {
                self.failed.fetch_add(1, Ordering::Relaxed);
                let mut fields = before;
                fields.push((field::ERROR.into(), Value::from(format!("vrl: {problem}"))));
                let stream = text_at(&records, field::STREAM, row);
                Left { time_ns: time_of(&records, row), stream, fields }
            });
            append(&mut builder, &left);
        }
        if aborted > 0 {
            self.dropped.fetch_add(aborted, Ordering::Relaxed);
            dropped.push((NAME.into(), aborted));
        }
        builder.finish().expect("the builder's columns have one length")
    }
}

/// Message and fields of a record, those in `_overflow` too.
fn fields_of(records: &RecordBatch, row: usize) -> Vec<(String, Value)> {
    let mut fields = Vec::new();
    for (found, column) in records.schema_ref().fields().iter().zip(records.columns()) {
        let name = found.name().as_str();
        if matches!(name, field::TIME | field::STREAM) || column.is_null(row) {
            continue;
        }
        let Some(text) = schema::value_text(column, row) else { continue };
        if name == field::OVERFLOW {
            overflow::for_each(&text, |name, value| {
                fields.push((name.to_owned(), Value::from(value)));
            });
            continue;
        }
        let value = match column.data_type() {
            DataType::Int64 => Value::Integer(column.as_primitive::<Int64Type>().value(row)),
            DataType::Boolean => Value::Boolean(column.as_boolean().value(row)),
            DataType::Float64 => {
                match NotNan::new(column.as_primitive::<Float64Type>().value(row)) {
                    Ok(number) => Value::Float(number),
                    Err(_) => Value::from(text.as_ref()),
                }
            }
            _ => Value::from(text.as_ref()),
        };
        fields.push((name.to_owned(), value));
    }
    fields
}

/// A record as the program sees it.
fn object_of(records: &RecordBatch, row: usize, fields: &[(String, Value)]) -> ObjectMap {
    let mut object = nested(fields);
    if let Some(stamp) = timestamp_ns_to_datetime(time_of(records, row)) {
        object.insert(field::TIME.into(), Value::Timestamp(stamp.and_utc()));
    }
    let stream = text_at(records, field::STREAM, row);
    object.insert(field::STREAM.into(), Value::from(stream));
    object
}

/// The fields as an object in which dots make nested objects. A name that cannot be nested, as
/// another field stands where its object would, stays as it is.
fn nested(fields: &[(String, Value)]) -> ObjectMap {
    let mut root = ObjectMap::new();
    for (name, value) in fields {
        if !put_nested(&mut root, name, value, 0) {
            root.insert(KeyString::from(name.as_str()), value.clone());
        }
    }
    root
}

fn put_nested(object: &mut ObjectMap, name: &str, value: &Value, depth: usize) -> bool {
    let split = name.split_once('.').filter(|_| depth < limits::NEST_DEPTH_MAX);
    match split {
        Some((head, rest)) if !head.is_empty() && !rest.is_empty() => {
            let inner = object
                .entry(KeyString::from(head))
                .or_insert_with(|| Value::Object(ObjectMap::new()));
            match inner {
                Value::Object(inner) => put_nested(inner, rest, value, depth + 1),
                _ => false,
            }
        }
        _ if object.contains_key(name) => false,
        _ => object.insert(KeyString::from(name), value.clone()).is_none(),
    }
}

/// The record that the program left in place of that of `row`.
fn left_of(records: &RecordBatch, row: usize, value: Value) -> Result<Left, String> {
    let Value::Object(mut object) = value else {
        return Err("the program left no object".into());
    };
    let time_ns = match object.remove(field::TIME) {
        None => time_of(records, row),
        Some(Value::Timestamp(stamp)) => {
            stamp.timestamp_nanos_opt().ok_or("._time is beyond the times that records have")?
        }
        Some(other) => time::parse(&other.to_string_lossy()).ok_or("._time is no time")?,
    };
    let stream = match object.remove(field::STREAM) {
        None => text_at(records, field::STREAM, row),
        Some(stream) => {
            let stream = stream.to_string_lossy().into_owned();
            let labels = StreamLabels::parse(&stream);
            labels.ok_or("._stream is no text such as {host=\"a\"}")?.canonical()
        }
    };
    let mut fields = Vec::new();
    flatten(object, "", 0, &mut fields);
    Ok(Left { time_ns, stream, fields })
}

fn flatten(object: ObjectMap, prefix: &str, depth: usize, out: &mut Vec<(String, Value)>) {
    for (name, value) in object {
        let name = format!("{prefix}{}", name.as_str());
        match value {
            Value::Object(inner) if depth < limits::NEST_DEPTH_MAX => {
                flatten(inner, &format!("{name}."), depth + 1, out);
            }
            value => out.push((name, value)),
        }
    }
}

fn append(builder: &mut BatchBuilder, left: &Left) {
    for (name, value) in &left.fields {
        match value {
            Value::Null => {}
            Value::Integer(number) => builder.field_i64(name, *number),
            Value::Float(number) => builder.field_f64(name, number.into_inner()),
            Value::Boolean(flag) => builder.field_bool(name, *flag),
            Value::Object(_) | Value::Array(_) => {
                builder.field_str(name, &serde_json::to_string(value).unwrap_or_default());
            }
            Value::Timestamp(stamp) => match stamp.timestamp_nanos_opt() {
                Some(time_ns) => builder.field_str(name, &time::format(time_ns)),
                None => builder.field_str(name, &stamp.to_rfc3339()),
            },
            text => builder.field_str(name, &text.to_string_lossy()),
        }
    }
    let stream = builder.stream(&left.stream);
    builder.finish_row(left.time_ns, stream);
}

fn time_of(records: &RecordBatch, row: usize) -> i64 {
    let times = records.column_by_name(field::TIME);
    let times = times.and_then(|times| times.as_primitive_opt::<TimestampNanosecondType>());
    times.map_or(0, |times| times.value(row))
}

fn text_at(records: &RecordBatch, name: &str, row: usize) -> String {
    let column = records.column_by_name(name);
    let text = column.and_then(|column| schema::value_text(column, row));
    text.unwrap_or_default().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> RecordBatch {
        let mut builder = BatchBuilder::new();
        for n in 0..4i64 {
            builder.message(&format!("m{n}"));
            builder.field_i64("http.status", 200 + n);
            builder.field_f64("took", 0.5);
            builder.field_bool("ok", true);
            builder.field_str("id", "0042");
            builder.field_str("lodge.note", "x");
            let stream = builder.stream("{host=\"h\"}");
            builder.finish_row(1_700_000_000_123_456_789 + n, stream);
        }
        builder.finish().expect("a batch")
    }

    fn run(program: &str) -> (RecordBatch, Vec<(Arc<str>, u64)>, VrlProgram) {
        let program = VrlProgram::new(&VrlConfig::Program(program.into())).expect("it compiles");
        let mut dropped = Vec::new();
        let out = program.apply(batch(), &mut dropped);
        schema::check(&out).expect("the shape of a batch");
        (out, dropped, program)
    }

    #[test]
    fn a_program_that_does_nothing_changes_nothing() {
        assert_eq!(run(".").0, batch());
    }

    #[test]
    fn fields_are_objects_and_keep_their_types() {
        let (out, ..) = run(
            ".http.ok = (.http.status < 202) ?? false\n._msg = upcase(string!(._msg))\ndel(.id)\n\
             .a.b = [1, {\"c\": 2}]\n._time = ._time + 0 ?? ._time",
        );
        let text = |name: &str, row| text_at(&out, name, row);
        assert_eq!((text("http.ok", 1), text("http.ok", 2)), ("true".into(), "false".into()));
        assert_eq!((text("_msg", 0), text("a.b", 0)), ("M0".into(), "[1,{\"c\":2}]".into()));
        assert!(out.column_by_name("id").is_none());
        let status = out.column_by_name("http.status").expect("it is there");
        assert_eq!(status.data_type(), &DataType::Int64);
        assert_eq!(time_of(&out, 3), 1_700_000_000_123_456_792);
    }

    #[test]
    fn a_failure_keeps_the_record_and_abort_drops_it() {
        let (out, dropped, program) =
            run("if .http.status == 201 { abort }\n._msg = \"changed\"\n\
             if .http.status == 202 { . = parse_json!(\"no json\") }");
        assert_eq!(out.num_rows(), 3);
        assert_eq!(dropped, [(Arc::from("vrl"), 1)]);
        assert_eq!((program.failed(), program.dropped()), (1, 1));
        let messages: Vec<String> = (0..3).map(|row| text_at(&out, "_msg", row)).collect();
        assert_eq!(messages, ["changed", "m2", "changed"]);
        assert!(text_at(&out, "lodge.error", 1).starts_with("vrl: "));
        assert_eq!(text_at(&out, "lodge.error", 0), "");
    }

    #[test]
    fn programs_cannot_log_and_mistakes_are_shown() {
        for (program, expected) in
            [("log(._msg)", "log"), (".x = ", "syntax"), ("get_env_var!(\"HOME\")", "get_env_var")]
        {
            let error = VrlProgram::new(&VrlConfig::Program(program.into())).expect_err(program);
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
