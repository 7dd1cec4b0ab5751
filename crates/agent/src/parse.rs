//! One record's text into fields: what it says in JSON, in logfmt, in the notation of a web server
//! or of syslog, by a pattern, or as plain text; when it was; how severe it is; which stream it
//! belongs to.
//!
//! Sans-I/O. Invariants:
//! - nothing is refused: text that is no valid JSON or logfmt is kept as the message, bytes that
//!   are no UTF-8 are kept beside it in base64;
//! - labels are ordinary fields too; where the record has a field of the same name and another
//!   value, the builder keeps both.

mod access;
pub mod format;
mod object;
pub mod pattern;
mod slots;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lodge_record::builder::{BatchBuilder, StreamCode};
use lodge_record::stream::StreamLabels;
use lodge_record::{field, limits};
use lodge_wire::container_log::Output;
use lodge_wire::json_object::{self, JsonValue};
use lodge_wire::json_order::Order;
use lodge_wire::jsonline::set_field;
use lodge_wire::syslog;

use crate::containers::facts::ContainerFacts;
use crate::counters::Counters;
use crate::parse::format::Format;
use crate::parse::object::{Known, Object};
use crate::parse::pattern::Patterns;
use crate::parse::slots::{Kind, Meaning, Slots};
use crate::timestamp::TimeContext;
use crate::{level, logfmt, timestamp};

/// Most services that the records of one file may name as their stream; further ones keep the
/// file's own.
const SERVICES_MAX: usize = 64;
/// Longest service name taken into a label.
const SERVICE_BYTES_MAX: usize = 128;
/// Longest text that patterns are tried on, and that is read as syslog or an access log; a longer
/// one stays text.
const NOTATION_BYTES_MAX: usize = 64 << 10;

/// One record's bytes, as framed.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    /// The bytes; of a text longer than the limit at least the head.
    pub bytes: &'a [u8],
    /// Length of the whole text.
    pub original_bytes: u64,
    /// The bytes as text, where they are known to be one.
    pub valid: Option<&'a str>,
}

impl<'a> Text<'a> {
    /// A text of which nothing is known but its bytes, which are all of it.
    pub fn whole(bytes: &'a [u8]) -> Self {
        Text::head(bytes, bytes.len() as u64)
    }

    /// The head of a text of so many bytes, or all of it.
    pub fn head(bytes: &'a [u8], original_bytes: u64) -> Self {
        Text { bytes, original_bytes, valid: None }
    }
}

/// What is known of a record beside its text.
#[derive(Clone, Copy, Debug, Default)]
pub struct Envelope<'a> {
    /// When its container wrote it. Then a time in the text counts only if it names its zone: the
    /// container's may be another than the machine's.
    pub time_ns: Option<i64>,
    /// Where its container wrote it.
    pub output: Option<Output>,
    /// The bytes that the text was decoded from, where they cannot be told from it.
    pub raw: Option<&'a [u8]>,
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
    /// The file's own stream.
    own: Stream,
    /// Streams by the service that records name, where it is not set by a label.
    services: Option<HashMap<String, Stream>>,
    /// Fields of all records, beside the labels.
    fields: Vec<(String, String)>,
    /// Who sends the records.
    client: Option<String>,
    format: Format,
    patterns: Option<Patterns>,
    /// The fields of JSON records so far.
    order: Order<Known>,
    slots: Slots,
}

/// A stream of the source.
#[derive(Debug)]
struct Stream {
    service: String,
    canonical: String,
    /// What it is in the batch of this number.
    code: Option<(u64, StreamCode)>,
}

impl Stream {
    fn new(labels: &StreamLabels) -> Self {
        let service = labels.get("service").unwrap_or_default().to_owned();
        Stream { service, canonical: labels.canonical(), code: None }
    }
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
        RecordParser::new(all, !labels.contains_key("service"))
    }

    /// For the log of a container: labels are `host`, those of the container, and those given.
    pub fn for_container(
        host: &str,
        facts: &ContainerFacts,
        labels: &BTreeMap<String, String>,
    ) -> Self {
        let mut all = StreamLabels::new();
        all.set("host", host);
        for (name, value) in facts.labels() {
            all.set(name, value);
        }
        for (name, value) in labels {
            all.set(name, value);
        }
        let mut parser = RecordParser::new(all, !labels.contains_key("service"));
        parser.fields = facts.fields();
        parser.fields.retain(|(name, _)| parser.labels.get(name).is_none());
        parser
    }

    /// For a listener: labels are `host`, `listener`, those given, and `service` where records name
    /// one.
    pub fn for_listener(host: &str, listener: &str, labels: &BTreeMap<String, String>) -> Self {
        let mut all = StreamLabels::new();
        all.set("host", host);
        all.set("listener", listener);
        for (name, value) in labels {
            all.set(name, value);
        }
        RecordParser::new(all, false)
    }

    /// Sets who sends the records that are appended next.
    pub fn sent_by(&mut self, client: Option<&str>) {
        if self.client.as_deref() != client {
            self.client = client.map(str::to_owned);
        }
    }

    fn new(labels: StreamLabels, learns_services: bool) -> Self {
        RecordParser {
            own: Stream::new(&labels),
            labels,
            services: learns_services.then(HashMap::new),
            fields: Vec::new(),
            client: None,
            format: Format::Auto,
            patterns: None,
            order: Order::default(),
            slots: Slots::default(),
        }
    }

    /// Lets go of what was only kept to be quick: there are as many parsers as files.
    pub fn rest(&mut self) {
        self.order.clear();
        self.slots = Slots::default();
    }

    /// The same parser for records of one notation, which patterns are tried on first.
    pub fn reading(mut self, format: Format, patterns: Option<Patterns>) -> Self {
        (self.format, self.patterns) = (format, patterns);
        self
    }

    /// Adds one record to `builder`.
    pub fn append(&mut self, builder: &mut BatchBuilder, text: Text<'_>, context: &Context<'_>) {
        self.append_enveloped(builder, text, Envelope::default(), context);
    }

    /// As [`Self::append`], for a record of which more is known than its text.
    pub fn append_enveloped(
        &mut self,
        builder: &mut BatchBuilder,
        text: Text<'_>,
        envelope: Envelope<'_>,
        context: &Context<'_>,
    ) {
        let bytes = text.bytes.get(..text.bytes.len().min(limits::LINE_BYTES_MAX));
        let bytes = bytes.unwrap_or_default();
        let cut = text.original_bytes.saturating_sub(bytes.len() as u64);
        let valid = text.valid.filter(|valid| valid.len() == bytes.len());
        let (decoded, damaged) = match valid {
            Some(valid) => (Cow::Borrowed(without_mark(valid)), false),
            None => decode(bytes, cut > 0),
        };
        let stated_ns = self.append_text(builder, &decoded, &envelope, context);
        if damaged || envelope.raw.is_some() {
            context.counters.invalid_utf8_records.increment();
            builder.field_str(field::RAW_BASE64, &STANDARD.encode(envelope.raw.unwrap_or(bytes)));
        }
        if cut > 0 {
            context.counters.dropped_bytes_long_lines.add(cut);
            builder.field_bool(field::TRUNCATED, true);
            builder.field_i64(field::ORIGINAL_BYTES, text.original_bytes as i64);
        }
        if let Some(output) = envelope.output {
            builder.field_str("log.iostream", output.name());
        }
        if let Some(client) = &self.client {
            builder.field_str("client.address", client);
        }
        let stream = self.set_stream(builder);
        let time_ns = stated_ns.or(envelope.time_ns).unwrap_or(context.time.now_ns);
        builder.finish_row(time_ns, stream);
    }

    /// Sets the labels of the record's stream, and beside them what the record says otherwise.
    fn set_stream(&mut self, builder: &mut BatchBuilder) -> StreamCode {
        let RecordParser { labels, own, services, fields, slots, .. } = self;
        let named = services.as_mut().and_then(|services| named_stream(services, slots, labels));
        let stream = named.unwrap_or(own);
        let code = match stream.code.filter(|(batch, _)| *batch == builder.batch()) {
            Some((_, code)) => code,
            None => {
                let fields = fields.iter().map(|(name, value)| (&**name, &**value));
                let service = &*stream.service;
                let labels = labels.iter();
                let labels = labels.map(|(n, v)| (n, if n == "service" { service } else { v }));
                let code = builder.stream_labelled(&stream.canonical, fields.chain(labels));
                stream.code = Some((builder.batch(), code));
                code
            }
        };
        builder.set_labels(code);
        for own in slots.like_labels() {
            let label = labels.get(&own.name).filter(|_| own.name != "service");
            if label.unwrap_or(&stream.service) != own.text {
                set_field(builder, &own.name, &own.value());
            }
        }
        code
    }

    /// Sets message and fields from the text; gives the time that it states.
    fn append_text(
        &mut self,
        builder: &mut BatchBuilder,
        text: &str,
        envelope: &Envelope<'_>,
        context: &Context<'_>,
    ) -> Option<i64> {
        self.slots.clear();
        let zoned_only = envelope.time_ns.is_some();
        let (labels, slots) = (&self.labels, &mut self.slots);
        let mut each = |name: &str, value: JsonValue<'_>| {
            if !slots.take(name, Meaning::of(name, labels), value) {
                set_field(builder, name, &value);
            }
        };
        if let Some(patterns) = &self.patterns {
            let matched = text.len() <= NOTATION_BYTES_MAX
                && patterns.for_each_field(text, |n, value| each(n, JsonValue::Number(value)));
            if matched {
                return slots.settle(builder, Some(text), &context.time, zoned_only);
            }
            context.counters.unmatched_records.increment();
        }
        let (json, pairs) = match self.format {
            Format::Auto | Format::Cri | Format::Docker => (true, true),
            format => (format == Format::Json, format == Format::Logfmt),
        };
        if json && text.starts_with('{') {
            let order = &mut self.order;
            order.begin();
            match json_object::walk(text, &mut Object { order, slots, builder, labels }) {
                Ok(()) => return slots.settle(builder, None, &context.time, zoned_only),
                Err(_) => {
                    builder.abandon_row();
                    slots.clear();
                }
            }
        } else if pairs && let Some(pairs) = logfmt::parse(text) {
            for (name, value) in &pairs {
                each(name, JsonValue::Number(value));
            }
            return slots.settle(builder, Some(text), &context.time, zoned_only);
        }
        if matches!(self.format, Format::Json | Format::Logfmt) {
            context.counters.unmatched_records.increment();
        }
        self.append_plain(builder, text, zoned_only, context)
    }

    /// A text that is no JSON and no pairs: the message, and what its head shows it to be.
    fn append_plain(
        &mut self,
        builder: &mut BatchBuilder,
        text: &str,
        zoned_only: bool,
        context: &Context<'_>,
    ) -> Option<i64> {
        let detects = matches!(self.format, Format::Auto | Format::Cri | Format::Docker);
        let fits = text.len() <= NOTATION_BYTES_MAX;
        let first_line = first_line(text);
        let found = timestamp::find(first_line.as_bytes(), &context.time);
        let stated_ns = found.filter(|f| f.zoned || !zoned_only).map(|found| found.time_ns);
        let mut each = |name: &str, value: JsonValue<'_>| {
            if self.labels.get(name) != Some(value.as_text()) {
                set_field(builder, name, &value);
            }
        };
        match self.format {
            Format::Syslog if fits => {
                let message = syslog::parse(text);
                set_syslog(&message, &mut each);
                let stamp = message.timestamp.and_then(|s| timestamp::parse(s, &context.time));
                let stamp = stamp.filter(|f| f.zoned || !zoned_only).map(|found| found.time_ns);
                if message.severity.is_none()
                    && let Some(level) = level::in_line(message.text)
                {
                    each("level", JsonValue::Text(level));
                }
                builder.message(message.text);
                return stamp.or(stated_ns);
            }
            Format::Access if fits && access::access_fields(text, &mut each) => {}
            Format::Access => context.counters.unmatched_records.increment(),
            _ if detects && fits => detect(first_line, found, &mut each),
            _ => {}
        }
        builder.message(text);
        stated_ns
    }
}

/// The stream of the service that the record names, if it names one and there is room for it.
fn named_stream<'s>(
    services: &'s mut HashMap<String, Stream>,
    slots: &Slots,
    labels: &StreamLabels,
) -> Option<&'s mut Stream> {
    let named = slots.like_labels().iter().find(|own| own.name == "service")?;
    let fits = named.kind == Kind::Text || named.kind == Kind::Number;
    if !fits || named.text.is_empty() || named.text.len() > SERVICE_BYTES_MAX {
        return None;
    }
    if !services.contains_key(&named.text) {
        if services.len() >= SERVICES_MAX {
            return None;
        }
        let mut labels = labels.clone();
        labels.set("service", &named.text);
        services.insert(named.text.clone(), Stream::new(&labels));
    }
    services.get_mut(&named.text)
}

/// Fields of a plain line that is surely an access log's, a web server's error or syslog, and the
/// level. What the line may be is told by its first bytes, or by where its time stands, so that
/// other lines cost nothing more.
fn detect(line: &str, found: Option<timestamp::Found>, each: &mut impl FnMut(&str, JsonValue<'_>)) {
    let first = line.as_bytes().first().copied().unwrap_or_default();
    if found.is_some_and(|found| found.is_access) && access::access_fields(line, &mut *each) {
        return;
    }
    let may_be_syslog = match first {
        b'<' | b'A'..=b'Z' => true,
        // RFC 3339 with a host name, and a tag with its process, behind it.
        b'0'..=b'9' => line.as_bytes().get(10) == Some(&b'T') && names_process(line.as_bytes()),
        _ => false,
    };
    let mut stated = None;
    if may_be_syslog
        && found.is_some()
        && let Some(message) = syslog::detect(line)
    {
        stated = message.severity;
        set_syslog(&message, each);
    } else if let Some(found) = found
        && line.get(found.end..).is_some_and(|behind| behind.starts_with(" ["))
    {
        access::error_fields(line.get(found.end..).unwrap_or_default(), &mut *each);
    }
    // No level stands within a time, unless the time stands behind other words.
    let behind = found.filter(|found| !found.is_access).and_then(|found| line.get(found.end..));
    if stated.is_none()
        && let Some(level) = level::klog(line).or_else(|| level::in_words(behind.unwrap_or(line)))
    {
        each("level", JsonValue::Text(level));
    }
}

/// Whether the head of a line has the end of a syslog tag with a process: `sshd[7]: `.
fn names_process(line: &[u8]) -> bool {
    /// A time, a host name and a tag at their limits.
    const HEAD_BYTES_MAX: usize = 600;
    let head = line.get(..line.len().min(HEAD_BYTES_MAX)).unwrap_or(line);
    memchr::memchr_iter(b']', head).any(|at| head.get(at + 1) == Some(&b':'))
}

fn set_syslog(message: &syslog::Message<'_>, each: &mut impl FnMut(&str, JsonValue<'_>)) {
    message.for_each_field(|name, value| each(name, JsonValue::Text(value)));
    if let Some(level) = message.severity.and_then(level::of_syslog_priority) {
        each("level", JsonValue::Text(level));
    }
}

/// The first line, without its end.
fn first_line(text: &str) -> &str {
    let end = memchr::memchr(b'\n', text.as_bytes()).unwrap_or(text.len());
    let line = text.get(..end).unwrap_or(text);
    line.strip_suffix('\r').unwrap_or(line)
}

/// The text of a record's bytes, and whether bytes had to be replaced.
fn decode(bytes: &[u8], is_cut: bool) -> (Cow<'_, str>, bool) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Cow::Borrowed(without_mark(text)), false),
        // A character that was cut at the line limit is no damage.
        Err(error) if is_cut && error.error_len().is_none() => {
            let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
            (String::from_utf8_lossy(valid), false)
        }
        Err(_) => (String::from_utf8_lossy(bytes), true),
    }
}

fn without_mark(text: &str) -> &str {
    text.trim_start_matches('\u{feff}')
}

/// The service that a file's name suggests: its stem without rotation numbers.
fn service_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.split('.').find(|part| !part.is_empty()).unwrap_or(&name);
    stem.to_owned()
}
