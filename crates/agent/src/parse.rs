//! One record's text into fields: what it says in JSON, in logfmt, or as plain text; when it was;
//! how severe it is; which stream it belongs to.
//!
//! Sans-I/O. Invariants:
//! - nothing is refused: text that is no valid JSON or logfmt is kept as the message, bytes that
//!   are no UTF-8 are kept beside it in base64;
//! - labels are ordinary fields too; where the record has a field of the same name and another
//!   value, the builder keeps both.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lodge_record::builder::BatchBuilder;
use lodge_record::stream::StreamLabels;
use lodge_record::{field, limits, time};
use lodge_wire::json_object::{self, JsonValue};
use lodge_wire::jsonline::set_field;

use crate::counters::Counters;
use crate::timestamp::TimeContext;
use crate::{level, logfmt, timestamp};

/// Most services that the records of one file may name as their stream; further ones keep the
/// file's own.
const SERVICES_MAX: usize = 64;
/// Longest service name taken into a label.
const SERVICE_BYTES_MAX: usize = 128;

/// Names of the message, the time and the level, best first.
const MESSAGE_NAMES: &[&str] = &["_msg", "msg", "message", "log"];
const TIME_NAMES: &[&str] =
    &["_time", "@timestamp", "timestamp", "time", "ts", "datetime", "eventTime", "t"];
const LEVEL_NAMES: &[&str] = &["level", "severity", "lvl", "log.level", "loglevel", "levelname"];

/// One record's bytes, as framed.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    /// The bytes; of a text longer than the limit at least the head.
    pub bytes: &'a [u8],
    /// Length of the whole text.
    pub original_bytes: u64,
}

/// What is the same for all records of a turn.
#[derive(Debug)]
pub struct Context<'a> {
    /// The present and the zone.
    pub time: TimeContext,
    /// Where limits are counted.
    pub counters: &'a Counters,
}

/// Turns the records of one source into rows.
#[derive(Debug)]
pub struct RecordParser {
    labels: StreamLabels,
    canonical: String,
    /// Canonical streams by the service that records name, where it is not set by a label.
    services: Option<HashMap<String, String>>,
    slots: Slots,
}

impl RecordParser {
    /// For a file: labels are `host`, `file`, those given, and `service` (given, or what a record
    /// says itself, or the stem of the file's name).
    pub fn for_file(host: &str, path: &Path, labels: &BTreeMap<String, String>) -> Self {
        let mut all = StreamLabels::new();
        all.set("host", host);
        all.set("file", &path.to_string_lossy());
        all.set("service", &service_of(path));
        for (name, value) in labels {
            all.set(name, value);
        }
        let services = (!labels.contains_key("service")).then(HashMap::new);
        RecordParser { canonical: all.canonical(), labels: all, services, slots: Slots::default() }
    }

    /// Adds one record to `builder`.
    pub fn append(&mut self, builder: &mut BatchBuilder, text: Text<'_>, context: &Context<'_>) {
        let bytes = text.bytes.get(..text.bytes.len().min(limits::LINE_BYTES_MAX));
        let bytes = bytes.unwrap_or_default();
        let cut = text.original_bytes.saturating_sub(bytes.len() as u64);
        let (decoded, damaged) = decode(bytes, cut > 0);
        let stated_ns = self.append_text(builder, &decoded, context);
        if damaged {
            context.counters.invalid_utf8_records.increment();
            builder.field_str(field::RAW_BASE64, &STANDARD.encode(bytes));
        }
        if cut > 0 {
            context.counters.dropped_bytes_long_lines.add(cut);
            builder.field_bool(field::TRUNCATED, true);
            builder.field_i64(field::ORIGINAL_BYTES, text.original_bytes as i64);
        }
        let named = self.learn_service();
        let stream = self.stream_of(named.as_deref());
        for (name, value) in self.labels.iter() {
            let value = if name == "service" { stream.service } else { value };
            builder.field_str(name, value);
        }
        for (name, own) in &self.slots.like_labels {
            let label = self.labels.get(name).filter(|_| name != "service");
            if label.unwrap_or(stream.service) != own.text {
                set_field(builder, name, &own.value());
            }
        }
        let code = builder.stream(stream.canonical);
        builder.finish_row(stated_ns.unwrap_or(context.time.now_ns), code);
    }

    /// Sets message and fields from the text; gives the time that it states.
    fn append_text(
        &mut self,
        builder: &mut BatchBuilder,
        text: &str,
        context: &Context<'_>,
    ) -> Option<i64> {
        self.slots.clear();
        let (labels, slots) = (&self.labels, &mut self.slots);
        let mut each = |name: &str, value: JsonValue<'_>| {
            if !slots.take(name, value, labels) {
                set_field(builder, name, &value);
            }
        };
        if text.starts_with('{') {
            match json_object::for_each_field(text, &mut each) {
                Ok(()) => return slots.settle(builder, None, context),
                Err(_) => {
                    builder.abandon_row();
                    slots.clear();
                }
            }
        } else if let Some(pairs) = logfmt::parse(text) {
            for (name, value) in &pairs {
                each(name, JsonValue::Number(value));
            }
            return slots.settle(builder, Some(text), context);
        }
        builder.message(text);
        let first_line = text.lines().next().unwrap_or_default();
        if let Some(level) = level::in_line(first_line) {
            builder.field_str("level", level);
        }
        timestamp::find(first_line.as_bytes(), &context.time).map(|found| found.time_ns)
    }

    /// The service that the record names, if it is not the file's own and there is room for it.
    fn learn_service(&mut self) -> Option<String> {
        let services = self.services.as_mut()?;
        let (_, named) = self.slots.like_labels.iter().find(|(name, _)| name == "service")?;
        let fits = named.kind == Kind::Text || named.kind == Kind::Number;
        if !fits || named.text.is_empty() || named.text.len() > SERVICE_BYTES_MAX {
            return None;
        }
        if !services.contains_key(&named.text) {
            if services.len() >= SERVICES_MAX {
                return None;
            }
            let mut labels = self.labels.clone();
            labels.set("service", &named.text);
            services.insert(named.text.clone(), labels.canonical());
        }
        Some(named.text.clone())
    }

    /// The stream of a record: its file's, or that of the service which it names.
    fn stream_of(&self, named: Option<&str>) -> Stream<'_> {
        let of_service = |named| self.services.as_ref()?.get_key_value(named);
        match named.and_then(of_service) {
            Some((service, canonical)) => Stream { canonical, service },
            None => Stream {
                canonical: &self.canonical,
                service: self.labels.get("service").unwrap_or_default(),
            },
        }
    }
}

struct Stream<'p> {
    canonical: &'p str,
    service: &'p str,
}

/// The text of a record's bytes, and whether bytes had to be replaced.
fn decode(bytes: &[u8], is_cut: bool) -> (Cow<'_, str>, bool) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Cow::Borrowed(text.trim_start_matches('\u{feff}')), false),
        // A character that was cut at the line limit is no damage.
        Err(error) if is_cut && error.error_len().is_none() => {
            let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
            (String::from_utf8_lossy(valid), false)
        }
        Err(_) => (String::from_utf8_lossy(bytes), true),
    }
}

/// The service that a file's name suggests: its stem without rotation numbers.
fn service_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.split('.').find(|part| !part.is_empty()).unwrap_or(&name);
    stem.to_owned()
}

/// Values of a record that are looked at before they become fields, or instead.
#[derive(Debug, Default)]
struct Slots {
    message: Best,
    time: Best,
    level: Best,
    /// Fields named like labels: they need not be repeated.
    like_labels: Vec<(String, Owned)>,
}

/// The candidates for one purpose.
#[derive(Debug, Default)]
struct Best {
    /// Rank among the names, name and value.
    found: Vec<(usize, &'static str, Owned)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Text,
    Number,
    Other,
}

#[derive(Debug)]
struct Owned {
    text: String,
    kind: Kind,
}

impl Owned {
    fn new(value: JsonValue<'_>) -> Self {
        let kind = match value {
            JsonValue::Text(_) => Kind::Text,
            JsonValue::Number(_) => Kind::Number,
            _ => Kind::Other,
        };
        Owned { text: value.as_text().to_owned(), kind }
    }

    fn value(&self) -> JsonValue<'_> {
        match self.kind {
            Kind::Number => JsonValue::Number(&self.text),
            Kind::Text | Kind::Other => JsonValue::Text(&self.text),
        }
    }
}

impl Best {
    fn take(&mut self, names: &[&'static str], name: &str, value: JsonValue<'_>) -> bool {
        let Some(rank) = names.iter().position(|known| *known == name) else { return false };
        let Some(known) = names.get(rank) else { return false };
        self.found.push((rank, known, Owned::new(value)));
        true
    }

    /// The best candidate; the others become fields.
    fn settle(&mut self, builder: &mut BatchBuilder) -> Option<(&'static str, Owned)> {
        let best = self.found.iter().enumerate().min_by_key(|(_, (rank, ..))| *rank)?.0;
        let (_, name, value) = self.found.swap_remove(best);
        for (_, name, value) in self.found.drain(..) {
            set_field(builder, name, &value.value());
        }
        Some((name, value))
    }
}

impl Slots {
    fn clear(&mut self) {
        self.message.found.clear();
        self.time.found.clear();
        self.level.found.clear();
        self.like_labels.clear();
    }

    /// Keeps a field for later if it has a purpose; false if it is a field like any other.
    fn take(&mut self, name: &str, value: JsonValue<'_>, labels: &StreamLabels) -> bool {
        let simple = matches!(value, JsonValue::Text(_) | JsonValue::Number(_));
        if simple
            && (self.message.take(MESSAGE_NAMES, name, value)
                || self.time.take(TIME_NAMES, name, value)
                || self.level.take(LEVEL_NAMES, name, value))
        {
            return true;
        }
        if labels.get(name).is_some() {
            self.like_labels.push((name.to_owned(), Owned::new(value)));
            return true;
        }
        false
    }

    /// Sets message and level; gives the time. `whole` is the message of a record that has none.
    fn settle(
        &mut self,
        builder: &mut BatchBuilder,
        whole: Option<&str>,
        context: &Context<'_>,
    ) -> Option<i64> {
        match (self.message.settle(builder), whole) {
            // Docker's json-file keeps the line end within `log`.
            (Some((_, text)), _) => builder.message(text.text.trim_end_matches(['\n', '\r'])),
            (None, Some(whole)) => builder.message(whole),
            (None, None) => {}
        }
        if let Some((name, level)) = self.level.settle(builder) {
            set_field(builder, name, &level.value());
            if let Some(canonical) = level::canonical(&level.text).filter(|_| name != "level") {
                builder.field_str("level", canonical);
            }
        }
        let (name, stated) = self.time.settle(builder)?;
        let time_ns = time_of(&stated.text, context);
        if time_ns.is_none() {
            set_field(builder, name, &stated.value());
        }
        time_ns
    }
}

/// The time that a value states: a format of plain lines, RFC 3339, or a number since 1970.
fn time_of(value: &str, context: &Context<'_>) -> Option<i64> {
    timestamp::parse(value, &context.time).or_else(|| time::parse(value))
}
