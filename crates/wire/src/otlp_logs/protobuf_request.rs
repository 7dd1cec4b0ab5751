//! Requests in protobuf. Numbers are those of opentelemetry-proto's logs, common and resource files,
//! which are stable.

use super::log_record::{Common, Id, LogRecord, Severities, put_number, put_text};
use super::{Export, OtlpError, Resource};
use crate::protobuf::{Field, Payload, ProtobufError, Reader, short_pair};
use crate::rows::{Kept, RowWriter, Scalar};

/// Walks `body`; records go to `export`.
pub(super) fn decode(export: &mut Export, body: &[u8]) -> Result<(), OtlpError> {
    let mut request = Reader::new(body);
    let mut index = 0;
    while let Some(field) = request.next_field()? {
        if let (1, Some(logs)) = (field.number, field.message()) {
            export.place = [index, 0, 0];
            resource_logs(export, logs)?;
            index += 1;
        }
    }
    Ok(())
}

/// The last field of this number: of a message that is there twice the last one counts.
fn last_message<'b>(
    mut reader: Reader<'b>,
    number: u32,
) -> Result<Option<Reader<'b>>, ProtobufError> {
    let mut found = None;
    while let Some(field) = reader.next_field()? {
        if field.number == number {
            found = field.message().or(found);
        }
    }
    Ok(found)
}

fn resource_logs(export: &mut Export, mut logs: Reader<'_>) -> Result<(), OtlpError> {
    let fields = match last_message(logs.clone(), 1)? {
        Some(resource) => resource_fields(&mut export.rows, resource)?,
        None => Vec::new(),
    };
    let resource = export.resource(fields);
    let mut index = 0;
    while let Some(field) = logs.next_field()? {
        if let (2, Some(scope_logs)) = (field.number, field.message()) {
            export.place = [export.place[0], index, 0];
            self::scope_logs(export, scope_logs, &resource)?;
            index += 1;
        }
    }
    Ok(())
}

fn resource_fields(
    rows: &mut RowWriter,
    mut resource: Reader<'_>,
) -> Result<Vec<Kept>, ProtobufError> {
    rows.keep();
    let mut dropped = 0;
    rows.root("");
    rows.open_map();
    while let Some(field) = resource.next_field()? {
        match field.number {
            1 => key_value(rows, &field)?,
            2 => dropped = field.varint().unwrap_or(0),
            _ => {}
        }
    }
    rows.close();
    put_number(rows, "resource.dropped_attributes_count", dropped);
    Ok(rows.take_kept())
}

fn scope_fields(rows: &mut RowWriter, scope: Reader<'_>) -> Result<Vec<Kept>, ProtobufError> {
    rows.keep();
    let mut fields = scope.clone();
    while let Some(field) = fields.next_field()? {
        match field.number {
            1 => put_text(rows, "otel.scope.name", field.bytes().unwrap_or_default()),
            2 => put_text(rows, "otel.scope.version", field.bytes().unwrap_or_default()),
            4 => {
                let dropped = field.varint().unwrap_or(0);
                put_number(rows, "otel.scope.dropped_attributes_count", dropped);
            }
            _ => {}
        }
    }
    rows.root("otel.scope");
    attributes(rows, scope, 3)?;
    Ok(rows.take_kept())
}

fn scope_logs(
    export: &mut Export,
    mut logs: Reader<'_>,
    resource: &Resource,
) -> Result<(), OtlpError> {
    let scope = match last_message(logs.clone(), 1)? {
        Some(scope) => scope_fields(&mut export.rows, scope)?,
        None => Vec::new(),
    };
    let mut common = Common::new(resource, &scope);
    let mut index = 0;
    while let Some(field) = logs.next_field()? {
        let (2, Some(record)) = (field.number, field.message()) else { continue };
        export.place[2] = index;
        index += 1;
        if !export.has_room() {
            continue;
        }
        match log_record(&mut export.rows, record, &mut common, &mut export.severities) {
            Ok(record) => record.finish(export, resource)?,
            Err(error) => export.reject(error.to_string()),
        }
        export.rows.expect_more(logs.offset(), export.body_bytes);
    }
    Ok(())
}

/// Tells a log record's fields; what remains is its time.
fn log_record<'b>(
    rows: &mut RowWriter,
    reader: Reader<'b>,
    common: &mut Common<'_>,
    severities: &mut Severities,
) -> Result<LogRecord<'b>, ProtobufError> {
    let mut record = LogRecord::default();
    let mut body = None;
    // What is behind the first attribute, which often comes last, is read twice.
    let mut from_attributes = None;
    let mut fields = reader;
    loop {
        let here = fields.clone();
        let Some(field) = fields.next_field()? else { break };
        let bytes = || field.bytes().unwrap_or_default();
        match field.number {
            1 => record.time_unix_nano = field.fixed64().unwrap_or(0),
            2 => record.severity_number = field.varint().unwrap_or(0),
            3 => record.severity_text = bytes(),
            5 => body = field.message(),
            6 if from_attributes.is_none() => from_attributes = Some(here),
            7 => record.dropped_attributes_count = field.varint().unwrap_or(0),
            8 => record.flags = u64::from(field.fixed32().unwrap_or(0)),
            9 => record.trace_id = Id::Bytes(bytes()),
            10 => record.span_id = Id::Bytes(bytes()),
            11 => record.observed_time_unix_nano = field.fixed64().unwrap_or(0),
            12 => record.event_name = bytes(),
            _ => {}
        }
    }
    record.begin(rows, common, severities);
    if let Some(body) = body {
        match alternative(body.clone())? {
            // As most are: it is the message, and nothing is to be found in it.
            Some(Field { number: 1, payload: Payload::Bytes(text), .. }) => rows.message(text),
            _ => {
                rows.root_with_message();
                any_value(rows, body)?;
                rows.end_message();
            }
        }
    }
    if let Some(reader) = from_attributes {
        rows.root("");
        attributes(rows, reader, 6)?;
    }
    Ok(record)
}

/// The key-value pairs that a message has under `number`, as a map.
fn attributes(
    rows: &mut RowWriter,
    mut reader: Reader<'_>,
    number: u32,
) -> Result<(), ProtobufError> {
    rows.open_map();
    while let Some(field) = reader.next_field()? {
        if field.number == number {
            key_value(rows, &field)?;
        }
    }
    rows.close();
    Ok(())
}

fn key_value(rows: &mut RowWriter, pair: &Field<'_>) -> Result<(), ProtobufError> {
    if let Some((key, value)) = pair.bytes().and_then(short_pair)
        && let Some(scalar) = short_scalar(value)
        && rows.pair(key, scalar)
    {
        return Ok(());
    }
    let Some(mut pair) = pair.message() else { return Ok(()) };
    let (mut key, mut value) = (&b""[..], None);
    while let Some(field) = pair.next_field()? {
        match field.number {
            1 => key = field.bytes().unwrap_or_default(),
            2 => value = field.message(),
            _ => {}
        }
    }
    rows.key(key);
    match value {
        Some(value) => any_value(rows, value),
        None => {
            rows.scalar(Scalar::Null);
            Ok(())
        }
    }
}

/// A value that holds nothing but one scalar, if it is short.
#[inline]
fn short_scalar(value: &[u8]) -> Option<Scalar<'_>> {
    match *value {
        [0x0a, len, ref text @ ..] if text.len() == usize::from(len) => Some(Scalar::Text(text)),
        [0x10, bit @ ..2] => Some(Scalar::Bool(bit == 1)),
        [0x18, byte @ ..0x80] => Some(Scalar::Int(byte.into())),
        [0x18, low @ 0x80..=0xff, high @ ..0x80] => {
            Some(Scalar::Int(i64::from(low & 0x7f) | i64::from(high) << 7))
        }
        [0x18, low @ 0x80..=0xff, middle @ 0x80..=0xff, high @ ..0x80] => {
            let head = i64::from(low & 0x7f) | i64::from(middle & 0x7f) << 7;
            Some(Scalar::Int(head | i64::from(high) << 14))
        }
        [0x21, a, b, c, d, e, f, g, h] => {
            Some(Scalar::Float(f64::from_le_bytes([a, b, c, d, e, f, g, h])))
        }
        _ => None,
    }
}

/// What a value holds: of the alternatives the last one counts.
fn alternative(mut value: Reader<'_>) -> Result<Option<Field<'_>>, ProtobufError> {
    value.deeper()?;
    let mut found = None;
    while let Some(field) = value.next_field()? {
        found = Some(field).filter(|field| (1..=7).contains(&field.number)).or(found);
    }
    Ok(found)
}

fn any_value(rows: &mut RowWriter, reader: Reader<'_>) -> Result<(), ProtobufError> {
    let Some(field) = alternative(reader)? else {
        rows.scalar(Scalar::Null);
        return Ok(());
    };
    let scalar = match field.number {
        1 => field.bytes().map(Scalar::Text),
        2 => field.varint().map(|bits| Scalar::Bool(bits != 0)),
        3 => field.varint().map(|bits| Scalar::Int(bits.cast_signed())),
        4 => field.fixed64().map(|bits| Scalar::Float(f64::from_bits(bits))),
        5 => return array(rows, &field),
        6 => match field.message() {
            Some(pairs) => return attributes(rows, pairs, 1),
            None => None,
        },
        _ => field.bytes().map(Scalar::Bytes),
    };
    rows.scalar(scalar.unwrap_or(Scalar::Null));
    Ok(())
}

fn array(rows: &mut RowWriter, field: &Field<'_>) -> Result<(), ProtobufError> {
    rows.open_array();
    let mut values = field.message().unwrap_or(Reader::new(b""));
    while let Some(field) = values.next_field()? {
        if let (1, Some(value)) = (field.number, field.message()) {
            any_value(rows, value)?;
        }
    }
    rows.close();
    Ok(())
}
