//! Requests in OTLP's JSON: lowerCamelCase names (those of protobuf are read too), ids in hex,
//! 64-bit integers as texts or numbers, enums as numbers (their names are read too), bytes in base64.
//!
//! The text is walked as it is parsed; nothing is built of it. Invariant: a log record that is not
//! of this form is kept as its JSON text, with the reason in `lodge.error`.

use std::borrow::Cow;
use std::fmt;

use lodge_record::field;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de::Error as _};
use serde_json::value::RawValue;

use super::log_record::{Common, Id, LogRecord, put_number, put_text};
use super::{Export, OtlpError, Resource};
use crate::json_object::DEPTH_MAX;
use crate::rows::{Kept, RowWriter, Scalar};
use crate::text_value;

#[derive(Deserialize)]
struct RequestJson<'a> {
    #[serde(borrow, default, rename = "resourceLogs", alias = "resource_logs")]
    resource_logs: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ResourceLogsJson<'a> {
    #[serde(borrow, default)]
    resource: Option<ResourceJson<'a>>,
    #[serde(borrow, default, rename = "scopeLogs", alias = "scope_logs")]
    scope_logs: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ResourceJson<'a> {
    #[serde(borrow)]
    attributes: Option<&'a RawValue>,
    #[serde(rename = "droppedAttributesCount", alias = "dropped_attributes_count")]
    dropped_attributes_count: Number,
}

#[derive(Deserialize)]
struct ScopeLogsJson<'a> {
    #[serde(borrow, default)]
    scope: Option<ScopeJson<'a>>,
    #[serde(borrow, default, rename = "logRecords", alias = "log_records")]
    log_records: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ScopeJson<'a> {
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    version: Option<Cow<'a, str>>,
    #[serde(borrow)]
    attributes: Option<&'a RawValue>,
    #[serde(rename = "droppedAttributesCount", alias = "dropped_attributes_count")]
    dropped_attributes_count: Number,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct LogRecordJson<'a> {
    #[serde(alias = "time_unix_nano")]
    time_unix_nano: Number,
    #[serde(alias = "observed_time_unix_nano")]
    observed_time_unix_nano: Number,
    #[serde(alias = "severity_number")]
    severity_number: Number,
    #[serde(borrow, alias = "severity_text")]
    severity_text: Option<Cow<'a, str>>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
    #[serde(borrow)]
    attributes: Option<&'a RawValue>,
    #[serde(alias = "dropped_attributes_count")]
    dropped_attributes_count: Number,
    flags: Number,
    #[serde(borrow, alias = "trace_id")]
    trace_id: Option<Cow<'a, str>>,
    #[serde(borrow, alias = "span_id")]
    span_id: Option<Cow<'a, str>>,
    #[serde(borrow, alias = "event_name")]
    event_name: Option<Cow<'a, str>>,
}

/// An unsigned number in any of the forms in which it is sent; 0 where it is none.
#[derive(Clone, Copy, Default)]
struct Number(u64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Digits;
        impl Visitor<'_> for Digits {
            type Value = Number;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or its digits as a text")
            }
            fn visit_u64<E>(self, value: u64) -> Result<Number, E> {
                Ok(Number(value))
            }
            fn visit_i64<E>(self, _: i64) -> Result<Number, E> {
                Ok(Number(0))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Number, E> {
                Ok(Number(value as u64))
            }
            fn visit_str<E>(self, text: &str) -> Result<Number, E> {
                Ok(Number(text.trim().parse().unwrap_or_else(|_| severity_of_name(text))))
            }
            fn visit_unit<E>(self) -> Result<Number, E> {
                Ok(Number(0))
            }
        }
        deserializer.deserialize_any(Digits)
    }
}

/// The number of `SEVERITY_NUMBER_WARN2`; 0 for any other text.
fn severity_of_name(name: &str) -> u64 {
    let Some(name) = name.strip_prefix("SEVERITY_NUMBER_") else { return 0 };
    let (level, place) = match name.as_bytes().last() {
        Some(digit @ b'2'..=b'4') => (name.get(..name.len() - 1), u64::from(digit - b'1')),
        _ => (Some(name), 0),
    };
    let levels = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"];
    let level = levels.iter().position(|known| Some(*known) == level);
    level.map_or(0, |level| level as u64 * 4 + 1 + place)
}

/// Parses an object; for serde its values in an array would do as well.
fn object<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, serde_json::Error> {
    if !text.trim_ascii_start().starts_with('{') {
        return Err(serde_json::Error::custom("expected an object"));
    }
    serde_json::from_str(text)
}

/// Walks `body`; records go to `export`.
pub(super) fn decode(export: &mut Export, body: &[u8]) -> Result<(), OtlpError> {
    let text = text_value::lossy(body);
    let request: RequestJson<'_> = object(&text)?;
    let mut index = 0;
    for_each(request.resource_logs, |logs: ResourceLogsJson<'_>| {
        export.place = [index, 0, 0];
        index += 1;
        resource_logs(export, logs)
    })
}

fn resource_logs(export: &mut Export, logs: ResourceLogsJson<'_>) -> Result<(), OtlpError> {
    let rows = &mut export.rows;
    rows.keep();
    if let Some(resource) = &logs.resource {
        rows.root("");
        attributes(rows, resource.attributes)?;
        let dropped = resource.dropped_attributes_count.0;
        put_number(rows, "resource.dropped_attributes_count", dropped);
    }
    let fields = rows.take_kept();
    let resource = export.resource(fields);
    let mut index = 0;
    for_each(logs.scope_logs, |logs: ScopeLogsJson<'_>| {
        export.place = [export.place[0], index, 0];
        index += 1;
        scope_logs(export, logs, &resource)
    })
}

fn scope_fields(rows: &mut RowWriter, scope: &ScopeJson<'_>) -> Result<Vec<Kept>, OtlpError> {
    rows.keep();
    put_text(rows, "otel.scope.name", text_of(&scope.name));
    put_text(rows, "otel.scope.version", text_of(&scope.version));
    let dropped = scope.dropped_attributes_count.0;
    put_number(rows, "otel.scope.dropped_attributes_count", dropped);
    rows.root("otel.scope");
    attributes(rows, scope.attributes)?;
    Ok(rows.take_kept())
}

fn scope_logs(
    export: &mut Export,
    logs: ScopeLogsJson<'_>,
    resource: &Resource,
) -> Result<(), OtlpError> {
    let scope = logs.scope.unwrap_or_default();
    let scope = scope_fields(&mut export.rows, &scope)?;
    let mut common = Common::new(resource, &scope);
    let mut index = 0;
    for_each(logs.log_records, |record: &RawValue| {
        export.place[2] = index;
        index += 1;
        if !export.has_room() {
            return Ok(());
        }
        let told = log_record(export, record.get(), &mut common)?;
        if let Err(reason) = told {
            keep_as_text(export, record.get(), &common, reason.to_string())?;
        }
        Ok(())
    })
}

type Told = Result<(), serde_json::Error>;

fn log_record(export: &mut Export, text: &str, common: &mut Common<'_>) -> Result<Told, OtlpError> {
    let json: LogRecordJson<'_> = match object(text) {
        Ok(json) => json,
        Err(error) => return Ok(Err(error)),
    };
    let record = LogRecord {
        time_unix_nano: json.time_unix_nano.0,
        observed_time_unix_nano: json.observed_time_unix_nano.0,
        severity_number: json.severity_number.0,
        severity_text: text_of(&json.severity_text),
        dropped_attributes_count: json.dropped_attributes_count.0,
        flags: json.flags.0,
        trace_id: Id::Hex(json.trace_id.as_deref().unwrap_or_default()),
        span_id: Id::Hex(json.span_id.as_deref().unwrap_or_default()),
        event_name: text_of(&json.event_name),
    };
    let rows = &mut export.rows;
    record.begin(rows, common, &mut export.severities);
    if let Err(error) = body_and_attributes(rows, &json) {
        return Ok(Err(error));
    }
    record.finish(export, common.resource)?;
    Ok(Ok(()))
}

fn body_and_attributes(rows: &mut RowWriter, json: &LogRecordJson<'_>) -> Told {
    if let Some(body) = json.body {
        rows.root_with_message();
        AnyValue(rows).deserialize(&mut serde_json::Deserializer::from_str(body.get()))?;
        rows.end_message();
    }
    rows.root("");
    attributes(rows, json.attributes)
}

fn keep_as_text(
    export: &mut Export,
    text: &str,
    common: &Common<'_>,
    reason: String,
) -> Result<(), OtlpError> {
    let rows = &mut export.rows;
    rows.abandon();
    common.resource.begin(rows);
    rows.replay(common.scope);
    rows.message(text.as_bytes());
    let reason = format!("not a log record: {reason}");
    rows.field(field::ERROR, Scalar::Text(reason.as_bytes()));
    rows.finish_row_of(export.received_ns, &common.resource.stream)?;
    export.decoded.accepted += 1;
    export.decoded.kept_as_text += 1;
    export.trouble(reason);
    Ok(())
}

fn text_of<'t>(text: &'t Option<Cow<'_, str>>) -> &'t [u8] {
    text.as_deref().unwrap_or_default().as_bytes()
}

/// The attributes as a map; `null` and nothing are an empty one.
fn attributes(rows: &mut RowWriter, pairs: Option<&RawValue>) -> Told {
    rows.open_map();
    if let Some(pairs) = pairs {
        Pairs(rows).deserialize(&mut serde_json::Deserializer::from_str(pairs.get()))?;
    }
    rows.close();
    Ok(())
}

/// Calls `each` for every element of the array `list` while it is parsed.
fn for_each<'a, T: Deserialize<'a>>(
    list: Option<&'a RawValue>,
    mut each: impl FnMut(T) -> Result<(), OtlpError>,
) -> Result<(), OtlpError> {
    let Some(list) = list else { return Ok(()) };
    let mut failed = None;
    let elements = Elements(
        |element| {
            each(element).map_err(|error| {
                failed = Some(error);
            })
        },
        std::marker::PhantomData,
    );
    let done = elements.deserialize(&mut serde_json::Deserializer::from_str(list.get()));
    match failed {
        Some(error) => Err(error),
        None => Ok(done?),
    }
}

struct Elements<T, F>(F, std::marker::PhantomData<T>);

impl<'de, T: Deserialize<'de>, F: FnMut(T) -> Result<(), ()>> DeserializeSeed<'de>
    for Elements<T, F>
{
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: Deserialize<'de>, F: FnMut(T) -> Result<(), ()>> Visitor<'de> for Elements<T, F> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        while let Some(element) = seq.next_element()? {
            (self.0)(element).map_err(|()| A::Error::custom("stopped"))?;
        }
        Ok(())
    }
}

/// An array of key-value pairs, told as the content of the map in hand.
struct Pairs<'w>(&'w mut RowWriter);

impl<'de> DeserializeSeed<'de> for Pairs<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Pairs<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of key-value pairs")
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Pair(self.0))?.is_some() {}
        Ok(())
    }
}

struct Pair<'w>(&'w mut RowWriter);

impl<'de> DeserializeSeed<'de> for Pair<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Pair<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key-value pair")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (mut has_key, mut has_value) = (false, false);
        // A value that stands before its key waits for it.
        let mut waiting: Option<&RawValue> = None;
        while let Some(name) = map.next_key::<Name>()? {
            match name {
                Name::Key if !has_key => {
                    map.next_value_seed(Key(self.0))?;
                    has_key = true;
                }
                Name::Value if has_key && !has_value && waiting.is_none() => {
                    map.next_value_seed(AnyValue(self.0))?;
                    has_value = true;
                }
                Name::Value if !has_value => waiting = Some(map.next_value()?),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        if has_value {
            return Ok(());
        }
        if !has_key {
            self.0.key(b"");
        }
        let waiting = waiting.map_or("null", RawValue::get);
        AnyValue(self.0)
            .deserialize(&mut serde_json::Deserializer::from_str(waiting))
            .map_err(A::Error::custom)
    }
}

struct Key<'w>(&'w mut RowWriter);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }
    fn visit_str<E>(self, key: &str) -> Result<(), E> {
        self.0.key(key.as_bytes());
        Ok(())
    }
}

/// The names in pairs, values, and lists.
#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
enum Name {
    #[serde(rename = "key")]
    Key,
    #[serde(rename = "value")]
    Value,
    #[serde(rename = "values")]
    Values,
    #[serde(rename = "stringValue", alias = "string_value")]
    String,
    #[serde(rename = "boolValue", alias = "bool_value")]
    Bool,
    #[serde(rename = "intValue", alias = "int_value")]
    Int,
    #[serde(rename = "doubleValue", alias = "double_value")]
    Double,
    #[serde(rename = "arrayValue", alias = "array_value")]
    Array,
    #[serde(rename = "kvlistValue", alias = "kvlist_value")]
    Kvlist,
    #[serde(rename = "bytesValue", alias = "bytes_value")]
    Bytes,
    #[serde(other)]
    Other,
}

/// An `AnyValue`. A plain JSON scalar in its place is taken as what it is.
struct AnyValue<'w>(&'w mut RowWriter);

impl<'de> DeserializeSeed<'de> for AnyValue<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        // The parser counts anew for each value that waited for its key.
        if self.0.depth() > DEPTH_MAX {
            return Err(de::Error::custom(format!("nested more than {DEPTH_MAX} deep")));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AnyValue<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an attribute's value")
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        self.0.scalar(Scalar::Null);
        Ok(())
    }
    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.0.scalar(Scalar::Bool(value));
        Ok(())
    }
    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.0.scalar(Scalar::Int(value));
        Ok(())
    }
    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.0.scalar(Scalar::Uint(value));
        Ok(())
    }
    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.0.scalar(Scalar::Float(value));
        Ok(())
    }
    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.0.scalar(Scalar::Text(text.as_bytes()));
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut is_told = false;
        while let Some(name) = map.next_key::<Name>()? {
            match name {
                _ if is_told => drop(map.next_value::<IgnoredAny>()?),
                Name::Array | Name::Kvlist => {
                    map.next_value_seed(List { rows: self.0, is_map: name == Name::Kvlist })?;
                    is_told = true;
                }
                Name::String | Name::Bool | Name::Int | Name::Double | Name::Bytes => {
                    map.next_value_seed(Plain { rows: self.0, kind: name })?;
                    is_told = true;
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        if !is_told {
            self.0.scalar(Scalar::Null);
        }
        Ok(())
    }
}

/// A scalar of an `AnyValue`: numbers may be texts.
struct Plain<'w> {
    rows: &'w mut RowWriter,
    kind: Name,
}

impl<'de> DeserializeSeed<'de> for Plain<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Plain<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a scalar")
    }
    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        AnyValue(self.rows).visit_unit()
    }
    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        AnyValue(self.rows).visit_bool(value)
    }
    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        AnyValue(self.rows).visit_i64(value)
    }
    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        AnyValue(self.rows).visit_u64(value)
    }
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        AnyValue(self.rows).visit_f64(value)
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        let number = match self.kind {
            Name::Int => text.parse().ok().map(Scalar::Int),
            Name::Double => text.parse().ok().map(Scalar::Float),
            _ => None,
        };
        self.rows.scalar(number.unwrap_or(Scalar::Text(text.as_bytes())));
        Ok(())
    }
}

/// `{"values": […]}`: of an array its elements, of a map its pairs.
struct List<'w> {
    rows: &'w mut RowWriter,
    is_map: bool,
}

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.is_map {
            self.rows.open_map();
        } else {
            self.rows.open_array();
        }
        let List { rows, is_map } = self;
        deserializer.deserialize_map(List { rows: &mut *rows, is_map })?;
        rows.close();
        Ok(())
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with values")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<Name>()? {
            match name {
                Name::Values if self.is_map => map.next_value_seed(Pairs(self.rows))?,
                Name::Values => map.next_value_seed(Values(self.rows))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

struct Values<'w>(&'w mut RowWriter);

impl<'de> DeserializeSeed<'de> for Values<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Values<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of values")
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(AnyValue(self.0))?.is_some() {}
        Ok(())
    }
}
