//! Datadog's log intake: `/api/v2/logs` and `/v1/input`, as its agents and libraries send to them.
//!
//! A body is an array of objects, one object, or (v1) objects one after the other; `{}` is a
//! keep-alive. Plain text has a record a line.
//!
//! | sent | kept |
//! |---|---|
//! | `message`, else `msg`, `log` | `_msg` |
//! | `timestamp`, else `date`, `@timestamp`, … in ms or as text | the record's time |
//! | `hostname`, else `host` | field and stream label `host.name` |
//! | `service` | field and stream label `service.name` |
//! | `ddsource` | field and stream label |
//! | `ddtags`, `k:v` between commas | the field, and each tag a field and a stream label: `env` as `deployment.environment.name`, `version` as `service.version`, `kube_namespace` as `k8s.namespace.name`, …; a tag without value is `true` |
//! | `status`, else `level`, `severity` | `level`, its original in `severity_text` |
//! | `dd.trace_id`, `dd.span_id`, decimal | `trace_id` (32 hex digits), `span_id` (16) |
//!
//! What an item lacks of `ddsource`, `ddtags`, `hostname` and `service` is that of the query.
//! Invariants: every item but a keep-alive is one record or one error; an error does not lose the
//! items behind it.

use std::borrow::Cow;

use lodge_record::schema;
use lodge_record::stream::StreamLabels;

use crate::batches::{Batches, BodyError, Decoded};
use crate::conventions::{self, Kept};
use crate::documents::{Document, Documents, set_named, text_lines};
use crate::json_fields::Dialect;
use crate::json_items::Items;
use crate::json_rows::push_json_string;
use crate::{jsonline, level, text_value};

/// Most tags of an item that are taken apart; the field `ddtags` has them all.
pub const TAGS_MAX: usize = 256;
/// Field of the tags.
const TAGS: &str = "ddtags";
/// Labels that an item or the query states.
const LABELS: [&str; 3] = ["ddsource", "host.name", "service.name"];

/// What the query's parameters say of all items.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// `ddsource`.
    pub source: Option<String>,
    /// `ddtags`.
    pub tags: Option<String>,
    /// `hostname`.
    pub hostname: Option<String>,
    /// `service`.
    pub service: Option<String>,
}

impl Metadata {
    /// The labels but for the tags, with their names.
    fn labels(&self) -> [(&'static str, &str); 3] {
        let values = [&self.source, &self.hostname, &self.service];
        let mut labels = [("", ""); 3];
        for ((label, name), value) in labels.iter_mut().zip(LABELS).zip(values) {
            *label = (name, value.as_deref().unwrap_or_default());
        }
        labels
    }

    fn tags(&self) -> &str {
        self.tags.as_deref().unwrap_or_default()
    }
}

const DIALECT: Dialect = Dialect {
    naming,
    levels: &["status", "level", "severity", "log.level", "syslog.severity"],
    level_of: level::of_word_or_tens,
    original_level: "severity_text",
    asked: "",
};

fn naming(name: &str) -> Kept<'_> {
    match name {
        "hostname" | "host" => conventions::as_sent("host.name"),
        "service" => conventions::as_sent("service.name"),
        "dd.trace_id" => Kept::Id("trace_id", Some(32)),
        "dd.span_id" => Kept::Id("span_id", Some(16)),
        _ => conventions::conventional(name),
    }
}

/// What a tag is kept as.
fn tag_naming(name: &str) -> Kept<'_> {
    match name {
        "env" => conventions::as_sent("deployment.environment.name"),
        "version" => conventions::as_sent("service.version"),
        "source" => conventions::as_sent("ddsource"),
        "container_name" => conventions::as_sent("container.name"),
        "image_name" => conventions::as_sent("container.image.name"),
        // A tag may not stand for what only a record says of itself.
        "" | "tag" => conventions::as_sent("tag"),
        _ if schema::is_reserved(name) => conventions::as_sent("tag"),
        _ => naming(name),
    }
}

fn options() -> jsonline::Options {
    let names = |all: &[&str]| all.iter().map(|n| n.to_string()).collect();
    let mut stream_fields: Vec<String> = names(&LABELS);
    stream_fields.push(TAGS.to_owned());
    jsonline::Options {
        time_fields: names(&[
            "timestamp",
            "date",
            "@timestamp",
            "_timestamp",
            "Timestamp",
            "eventTime",
            "published_date",
        ]),
        msg_fields: names(&["message", "msg", "log"]),
        stream_fields,
        ..jsonline::Options::default()
    }
}

/// The tags of a text with the names that they are kept under.
fn tags(text: &str) -> impl Iterator<Item = (Cow<'_, str>, &str)> {
    let tags = text.split(',').map(str::trim).filter(|tag| !tag.is_empty());
    tags.take(TAGS_MAX).filter_map(|tag| {
        let (name, value) = tag.split_once(':').unwrap_or((tag, "true"));
        match tag_naming(name) {
            Kept::As(kept) => Some((kept, value)),
            Kept::Id(kept, _) => Some((Cow::Borrowed(kept), value)),
            Kept::Not => None,
        }
    })
}

/// Decodes a body of JSON. `received_ns` is the time of items that have none.
pub fn decode_json(
    metadata: &Metadata,
    received_ns: i64,
    body: &[u8],
) -> Result<Decoded, BodyError> {
    let mut documents = Documents::new(&options(), DIALECT, received_ns);
    let mut pieces = Batches::new(body.len());
    let mut decoded = Decoded::new();
    for item in Items::new(body) {
        documents.cut_into(&mut pieces)?;
        if is_keep_alive(item.bytes) {
            continue;
        }
        let document = Document::new(item.bytes);
        match documents.walk(&document.text) {
            Ok(()) => {
                let time_ns = documents.settle(&document.text);
                close(&mut documents, metadata, &document.text, time_ns, document.raw);
                decoded.items += 1;
            }
            Err(error) => decoded.fail(item.offset, (), || error.to_string()),
        }
    }
    decoded.records = documents.into_records(pieces)?;
    Ok(decoded)
}

/// Decodes a body of plain text: every line that is not blank is a record.
pub fn decode_text(
    metadata: &Metadata,
    received_ns: i64,
    body: &[u8],
) -> Result<Decoded, BodyError> {
    let mut documents = Documents::new(&options(), DIALECT, received_ns);
    let mut pieces = Batches::new(body.len());
    let mut decoded = Decoded::new();
    for line in text_lines(body) {
        documents.cut_into(&mut pieces)?;
        documents.abandon();
        text_value::set_message(&mut documents.builder, line, line.len());
        close(&mut documents, metadata, "", received_ns, None);
        decoded.items += 1;
    }
    decoded.records = documents.into_records(pieces)?;
    Ok(decoded)
}

fn is_keep_alive(item: &[u8]) -> bool {
    let inside = item.strip_prefix(b"{").and_then(|item| item.strip_suffix(b"}"));
    inside.is_some_and(|inside| inside.trim_ascii().is_empty())
}

/// Adds the tags and what the query says, and ends the record.
fn close(
    documents: &mut Documents,
    metadata: &Metadata,
    text: &str,
    time_ns: i64,
    raw: Option<&[u8]>,
) {
    let Documents { fields, builder, .. } = documents;
    for (name, value) in metadata.labels() {
        if !value.is_empty() && fields.label(name, text).is_empty() {
            builder.field_str(name, value);
        }
    }
    let mut all_tags = fields.label(TAGS, text);
    if all_tags.is_empty() && !metadata.tags().is_empty() {
        all_tags = metadata.tags();
        builder.field_str(TAGS, all_tags);
    }
    for (name, value) in tags(all_tags) {
        // What a tag repeats is there already.
        if fields.label(&name, text) != value {
            set_named(builder, conventions::as_sent, &name, value);
        }
    }
    let stream = documents.stream(text, b"", |labels| {
        let all_tags = labels.get(TAGS).unwrap_or(metadata.tags()).to_owned();
        labels.set(TAGS, "");
        for (name, value) in metadata.labels() {
            set_if_absent(labels, name, value);
        }
        for (name, value) in tags(&all_tags) {
            set_if_absent(labels, &name, value);
        }
    });
    documents.close(time_ns, stream, raw);
}

fn set_if_absent(labels: &mut StreamLabels, name: &str, value: &str) {
    if labels.get(name).is_none() {
        labels.set(name, value);
    }
}

/// Appends the body of a refusal, as v2 has it: `{"errors":[{"status":"400","title":…,"detail":…}]}`
/// with one entry for each error that is listed.
pub fn write_errors(decoded: &Decoded, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"errors\":[");
    for (number, error) in decoded.errors.iter().enumerate() {
        if number > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"status\":\"400\",\"title\":\"Bad Request\",\"detail\":");
        let detail = format!("log {} at byte {}: {}", error.item, error.offset, error.reason);
        push_json_string(out, &detail);
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
}

#[cfg(test)]
#[path = "datadog_logs_tests.rs"]
mod tests;
