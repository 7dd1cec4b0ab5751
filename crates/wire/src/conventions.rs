//! The names that fields of all JSON protocols are kept under: OpenTelemetry's semantic conventions
//! where the sender's ecosystem has a word of its own for the same thing.
//!
//! Invariants: a name that is not in the table stays as it was sent; no name becomes one that Lodge
//! itself defines.

use std::borrow::Cow;

use lodge_record::{field, schema};

/// What a field is kept as.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kept<'n> {
    /// A field of this name.
    As(Cow<'n, str>),
    /// An identifier of a trace or a span: lower-case hex digits under this name. One that is sent
    /// as a decimal number gets so many digits.
    Id(&'static str, Option<usize>),
    /// Nothing: it says nothing about the record.
    Not,
}

/// Says what the field of a name is kept as.
pub(crate) type Naming = fn(&str) -> Kept<'_>;

/// Every field under the name that it was sent with.
pub(crate) fn as_sent(name: &str) -> Kept<'_> {
    Kept::As(Cow::Borrowed(name))
}

/// What senders write, and the name of the convention.
const ALIASES: [(&str, &str); 24] = [
    ("kubernetes.container.name", "k8s.container.name"),
    ("kubernetes.container_name", "k8s.container.name"),
    ("kubernetes.cronjob.name", "k8s.cronjob.name"),
    ("kubernetes.daemonset.name", "k8s.daemonset.name"),
    ("kubernetes.deployment.name", "k8s.deployment.name"),
    ("kubernetes.host", "k8s.node.name"),
    ("kubernetes.job.name", "k8s.job.name"),
    ("kubernetes.namespace", "k8s.namespace.name"),
    ("kubernetes.namespace_name", "k8s.namespace.name"),
    ("kubernetes.namespace_uid", "k8s.namespace.uid"),
    ("kubernetes.node.name", "k8s.node.name"),
    ("kubernetes.node.uid", "k8s.node.uid"),
    ("kubernetes.pod.name", "k8s.pod.name"),
    ("kubernetes.pod.uid", "k8s.pod.uid"),
    ("kubernetes.pod_id", "k8s.pod.uid"),
    ("kubernetes.pod_name", "k8s.pod.name"),
    ("kubernetes.replicaset.name", "k8s.replicaset.name"),
    ("kubernetes.statefulset.name", "k8s.statefulset.name"),
    ("kube_container_name", "k8s.container.name"),
    ("kube_deployment", "k8s.deployment.name"),
    ("kube_namespace", "k8s.namespace.name"),
    ("kube_node", "k8s.node.name"),
    ("pod_name", "k8s.pod.name"),
    ("container_id", "container.id"),
];

/// Spellings of the identifiers of traces and spans.
const TRACE_IDS: [&str; 5] = ["trace_id", "trace.id", "traceId", "traceID", "TraceId"];
const SPAN_IDS: [&str; 5] = ["span_id", "span.id", "spanId", "spanID", "SpanId"];

/// The name of the conventions for what was sent under `name`.
pub(crate) fn conventional(name: &str) -> Kept<'_> {
    if TRACE_IDS.contains(&name) {
        return Kept::Id("trace_id", None);
    }
    if SPAN_IDS.contains(&name) {
        return Kept::Id("span_id", None);
    }
    let known = ALIASES.iter().find(|(sent, _)| *sent == name);
    Kept::As(Cow::Borrowed(known.map_or(name, |(_, kept)| kept)))
}

/// A name that was freed of a prefix, unless that made it one of Lodge's own: then as it was sent.
pub(crate) fn without_prefix<'n>(sent: &'n str, bare: &'n str) -> Kept<'n> {
    if bare.is_empty() || schema::is_reserved(bare) || bare == field::ERROR {
        return as_sent(sent);
    }
    conventional(bare)
}

/// An identifier in lower-case hex digits; of a decimal number as many as `decimal_digits` says.
/// What is no identifier is left as it is.
pub(crate) fn hex_id(text: &str, decimal_digits: Option<usize>) -> Cow<'_, str> {
    if let Some(digits) = decimal_digits
        && let Ok(number) = text.parse::<u64>()
    {
        return Cow::Owned(format!("{number:0digits$x}"));
    }
    // Nearly all are in lower case. All bytes are looked at in any case: that takes many at a time.
    let has_capitals = text.bytes().fold(false, |any, b| any | b.is_ascii_uppercase());
    if has_capitals && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Cow::Owned(text.to_ascii_lowercase());
    }
    Cow::Borrowed(text)
}
