//! OTLP logs: an `ExportLogsServiceRequest` in protobuf or JSON, into records; and the replies.
//!
//! Specification: <https://opentelemetry.io/docs/specs/otlp/> and the log data model beside it.
//!
//! ```text
//! body text, number, array        _msg
//! body map                        dotted fields; the message is its _msg, message, msg or log
//! time_unix_nano                  _time; else observed_time_unix_nano, else when it was received
//! observed_time_unix_nano         field of that name, where it is not the record's time
//! severity_number, severity_text  level, and fields of those names as sent
//! attributes                      fields of their own names, nested ones dotted
//! trace_id, span_id               lower-case hex; left out where all zeros
//! flags, dropped_attributes_count fields of those names, where not 0
//! event_name                      event.name
//! resource attributes             fields of their own names; those of LABELS are the stream too
//! resource's dropped count        resource.dropped_attributes_count
//! scope's name, version           otel.scope.name, otel.scope.version
//! scope's attributes              otel.scope.<name>
//! ```
//!
//! Schema URLs and entity references are passed over: they say nothing about the record. Of two
//! fields with one name the second is `name#2`, in the order resource, scope, severity, body,
//! attributes.
//!
//! Invariants: every log record becomes a record or is rejected with a reason, whatever becomes of
//! the others; JSON that is no log record is kept as its text with `lodge.error`. The records of a
//! request take at most the bytes that the caller allows: resources are repeated in each record, so
//! a short request could mean terabytes.

mod json_request;
mod log_record;
mod protobuf_request;
pub mod reply;

use std::borrow::Cow;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use lodge_record::stream::{StreamLabels, write_canonical};

use self::log_record::Severities;
use crate::protobuf::ProtobufError;
use crate::rows::{Kept, LabelledStream, RowWriter};

/// Resource attributes that are the labels of the stream: what OpenTelemetry says identifies a
/// service, a host, or what runs it in Kubernetes. Sorted.
pub const LABELS: [&str; 16] = [
    "deployment.environment",
    "deployment.environment.name",
    "host.name",
    "k8s.cluster.name",
    "k8s.container.name",
    "k8s.cronjob.name",
    "k8s.daemonset.name",
    "k8s.deployment.name",
    "k8s.job.name",
    "k8s.namespace.name",
    "k8s.node.name",
    "k8s.pod.name",
    "k8s.statefulset.name",
    "service.instance.id",
    "service.name",
    "service.namespace",
];

/// Most records that are reported one by one; beyond that they are only counted.
pub const REPORTED_MAX: usize = 100;

/// How a request is written. The reply is written so, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Binary protobuf.
    Protobuf,
    /// OTLP's JSON.
    Json,
}

impl Format {
    /// From the value of a Content-Type header; `None` for one that OTLP does not have.
    pub fn from_content_type(value: &str) -> Option<Self> {
        let kind = value.split(';').next().unwrap_or_default().trim();
        if kind.eq_ignore_ascii_case("application/x-protobuf")
            || kind.eq_ignore_ascii_case("application/protobuf")
        {
            return Some(Format::Protobuf);
        }
        kind.eq_ignore_ascii_case("application/json").then_some(Format::Json)
    }

    /// The Content-Type of a reply.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Protobuf => "application/x-protobuf",
            Format::Json => "application/json",
        }
    }
}

/// A log record that was rejected, or is not stored as what it was meant to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Indexes into the request's `resource_logs`, `scope_logs` and `log_records`.
    pub place: [usize; 3],
    /// What is wrong with it.
    pub reason: String,
}

/// What came out of a request.
#[derive(Debug, Default)]
pub struct Decoded {
    /// The records in their order; no batch is empty.
    pub batches: Vec<RecordBatch>,
    /// Records in the batches.
    pub accepted: u64,
    /// Log records that are not in the batches.
    pub rejected: u64,
    /// Log records that are in the batches as their text.
    pub kept_as_text: u64,
    /// The first of both.
    pub troubles: Vec<Trouble>,
}

impl Decoded {
    /// The error message of a partial success; empty if all is well.
    pub fn message(&self) -> String {
        let Some(Trouble { place: [resource, scope, record], reason }) = self.troubles.first()
        else {
            return String::new();
        };
        let (rejected, texts) = (self.rejected, self.kept_as_text);
        format!(
            "{rejected} log records rejected, {texts} kept as text; the first is \
             resource_logs[{resource}].scope_logs[{scope}].log_records[{record}]: {reason}"
        )
    }
}

/// Why nothing of a request can be taken.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    /// The message around the log records is damaged.
    #[error("not an ExportLogsServiceRequest: {0}")]
    Protobuf(#[from] ProtobufError),
    /// The text around the log records is damaged.
    #[error("not an ExportLogsServiceRequest in JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// Decoded records could not be made into columns: a bug.
    #[error("log records cannot be put into columns: {0}")]
    Columns(#[from] ArrowError),
}

/// Decodes a request. `received_ns` is the time of records that have none; records beyond
/// `decoded_bytes_max` bytes of values in all are rejected.
pub fn decode(
    format: Format,
    received_ns: i64,
    body: &[u8],
    decoded_bytes_max: usize,
) -> Result<Decoded, OtlpError> {
    let mut export = Export { received_ns, decoded_bytes_max, ..Export::new() };
    export.request(format, body)?;
    let Export { mut rows, mut decoded, .. } = export;
    decoded.batches = rows.take_batches()?;
    Ok(decoded)
}

/// A request that is being decoded.
pub(crate) struct Export {
    pub(crate) rows: RowWriter,
    /// Time of records that have none.
    pub(crate) received_ns: i64,
    /// Bytes of values beyond which records are rejected.
    pub(crate) decoded_bytes_max: usize,
    place: [usize; 3],
    /// Length of the request in hand.
    body_bytes: usize,
    severities: Severities,
    pub(crate) decoded: Decoded,
    /// Fields that every record gets before its own, and labels of every stream.
    pub(crate) common: Vec<Kept>,
    pub(crate) labels: Vec<(String, String)>,
}

/// What all records of a resource have in common.
#[derive(Default)]
struct Resource {
    stream: LabelledStream,
    /// The fields that are not set with the labels.
    fields: Vec<Kept>,
}

impl Resource {
    /// Sets what all of its records have in common in the record in hand.
    fn begin(&self, rows: &mut RowWriter) {
        rows.set_labels(&self.stream);
        rows.replay(&self.fields);
    }
}

/// Whether a resource's attribute is a label of its stream.
fn is_label(field: &Kept) -> bool {
    LABELS.binary_search(&field.name.as_str()).is_ok()
}

/// The canonical text of the stream of a resource that has each label once at most, and none empty.
fn plain_stream(own: &[Kept], are_labels: &[bool]) -> Option<String> {
    let mut labels: Vec<(&str, Cow<'_, str>)> = Vec::with_capacity(own.len());
    let fields = own.iter().zip(are_labels).filter(|(_, is_label)| **is_label);
    labels.extend(fields.map(|(field, _)| (field.name.as_str(), field.text())));
    labels.sort_unstable_by_key(|(name, _)| *name);
    let is_plain = labels.iter().all(|(_, value)| !value.is_empty())
        && labels.windows(2).all(|pair| !matches!(pair, [(a, _), (b, _)] if a == b));
    let mut canonical = String::new();
    write_canonical(&mut canonical, labels.iter().map(|(name, value)| (*name, &**value)));
    is_plain.then_some(canonical)
}

impl Export {
    pub(crate) fn new() -> Self {
        Export {
            rows: RowWriter::new(),
            received_ns: 0,
            decoded_bytes_max: usize::MAX,
            place: [0; 3],
            body_bytes: 0,
            severities: Severities::default(),
            decoded: Decoded::default(),
            common: Vec::new(),
            labels: Vec::new(),
        }
    }

    /// Decodes a request; its records join those of the requests before it.
    pub(crate) fn request(&mut self, format: Format, body: &[u8]) -> Result<(), OtlpError> {
        self.body_bytes = body.len();
        match format {
            Format::Protobuf => protobuf_request::decode(self, body),
            Format::Json => json_request::decode(self, body),
        }
    }

    /// A resource with what is common to all.
    fn resource(&self, own: Vec<Kept>) -> Resource {
        let are_labels: Vec<bool> = own.iter().map(is_label).collect();
        match plain_stream(&own, &are_labels) {
            Some(canonical) if self.common.is_empty() && self.labels.is_empty() => {
                let count = are_labels.iter().filter(|is_label| **is_label).count();
                let mut labels = Vec::with_capacity(count);
                let mut fields = Vec::with_capacity(own.len() - count);
                for (field, is_label) in own.into_iter().zip(are_labels) {
                    match is_label {
                        true => labels.push(field.into_label()),
                        false => fields.push(field),
                    }
                }
                Resource { stream: LabelledStream::new(canonical, labels), fields }
            }
            _ => self.resource_in_order(own),
        }
    }

    /// As [`Self::resource`], whatever its labels are.
    fn resource_in_order(&self, own: Vec<Kept>) -> Resource {
        let mut labels = StreamLabels::new();
        for (name, value) in &self.labels {
            labels.set(name, value);
        }
        for field in own.iter().filter(|field| is_label(field)) {
            // The first of two, as it is the one that keeps the name.
            if labels.get(&field.name).is_none() {
                labels.set(&field.name, &field.text());
            }
        }
        let mut fields = self.common.clone();
        // An empty one is no label, of two with one name the second is another field, and what is
        // common comes before: then all are set one by one, in their order.
        let own_labels = || own.iter().filter(|field| is_label(field));
        let is_plain = own_labels().all(|field| {
            labels.get(&field.name).is_some_and(|value| !value.is_empty())
                && own_labels().filter(|other| other.name == field.name).count() == 1
        }) && !fields.iter().any(is_label);
        let mut set = Vec::new();
        if is_plain {
            set.extend(own_labels().map(|field| (field.name.clone(), field.text().into_owned())));
        }
        fields.extend(own.into_iter().filter(|field| !is_plain || !is_label(field)));
        Resource { stream: LabelledStream::new(labels.canonical(), set), fields }
    }

    /// Whether the record in hand has room; if not it is rejected.
    fn has_room(&mut self) -> bool {
        if self.rows.decoded_bytes() <= self.decoded_bytes_max {
            return true;
        }
        self.reject(format!(
            "the request's records take more than {} bytes, with what their resources repeat in \
             each: send smaller requests",
            self.decoded_bytes_max
        ));
        false
    }

    fn reject(&mut self, reason: String) {
        self.rows.abandon();
        self.decoded.rejected += 1;
        self.trouble(reason);
    }

    fn trouble(&mut self, reason: String) {
        if self.decoded.troubles.len() < REPORTED_MAX {
            self.decoded.troubles.push(Trouble { place: self.place, reason });
        }
    }
}

#[cfg(test)]
mod tests;
