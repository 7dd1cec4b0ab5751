//! The same records in the words of each protocol, as its usual clients write them.
//!
//! Invariant: nothing is left out: time, message, level, where it comes from, trace and numbers of
//! a record are in its request, in whatever place the protocol has for them.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::Protocol;
use super::binary;
use super::record::{Record, by_source};

/// A request, or a piece of a stream.
pub(super) struct Encoded {
    /// What is sent.
    pub(super) body: Vec<u8>,
    /// How many bytes that is before the compression that the protocol always has.
    pub(super) plain_bytes: u64,
}

/// Writes `records`, whose lines are `lines`, as one request.
pub(super) fn encode(
    protocol: Protocol,
    lines: &[u8],
    records: &[Record<'_>],
) -> anyhow::Result<Encoded> {
    let each = |write: fn(&Record<'_>, &mut Vec<u8>) -> anyhow::Result<()>| {
        let mut out = Vec::with_capacity(lines.len() * 2);
        records.iter().try_for_each(|record| write(record, &mut out)).map(|()| out)
    };
    let plain = match protocol {
        Protocol::JsonLines | Protocol::JsonTcp => lines.to_vec(),
        Protocol::Bulk => bulk(lines),
        Protocol::OtlpProtobuf => otlp_protobuf(records),
        Protocol::OtlpGrpc => grpc_frame(&otlp_protobuf(records)),
        Protocol::OtlpJson => otlp_json(records)?,
        Protocol::LokiProtobuf => loki_protobuf(records),
        Protocol::LokiJson => loki_json(records)?,
        Protocol::Splunk => each(splunk)?,
        Protocol::Datadog => datadog(records)?,
        Protocol::GelfHttp => each(|record, out| gelf(record, b'\n', out))?,
        Protocol::GelfTcp => each(|record, out| gelf(record, 0, out))?,
        Protocol::Journal => each(journal)?,
        Protocol::Forward => packed_forward(records),
        Protocol::SyslogTcp => each(syslog_counted)?,
    };
    let plain_bytes = plain.len() as u64;
    let body = match protocol {
        Protocol::LokiProtobuf => snap::raw::Encoder::new().compress_vec(&plain)?,
        _ => plain,
    };
    Ok(Encoded { body, plain_bytes })
}

/// As Elasticsearch's own libraries write it: the action names the index, and the time has the name
/// that its documents have.
fn bulk(lines: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(lines.len() * 2);
    for line in lines.split_inclusive(|&b| b == b'\n') {
        out.extend_from_slice(b"{\"create\":{\"_index\":\"logs-fleet-default\"}}\n{\"@timestamp\"");
        // `{"_time"` is what each line begins with.
        out.extend_from_slice(line.get(8..).unwrap_or_default());
    }
    out
}

fn resource(record: &Record<'_>) -> [(&'static str, String); 5] {
    [
        ("service.name", record.service.to_string()),
        ("service.version", record.version.to_string()),
        ("k8s.namespace.name", record.namespace.to_string()),
        ("k8s.pod.name", record.pod.to_string()),
        ("host.name", record.host.to_string()),
    ]
}

fn otlp_protobuf(records: &[Record<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for group in by_source(records) {
        let Some(first) = group.first() else { continue };
        binary::message(&mut out, 1, |logs| {
            binary::message(logs, 1, |out| {
                for (name, value) in resource(first) {
                    attribute(out, 1, name, |out| binary::bytes(out, 1, value.as_bytes()));
                }
            });
            binary::message(logs, 2, |logs| {
                binary::message(logs, 1, |scope| binary::bytes(scope, 1, b"fleet.logger"));
                for record in group {
                    binary::message(logs, 2, |out| otlp_record(record, out));
                }
            });
        });
    }
    out
}

fn otlp_record(record: &Record<'_>, out: &mut Vec<u8>) {
    binary::fixed64(out, 1, record.time_ns);
    binary::varint(out, 2, record.severity_number());
    binary::bytes(out, 3, record.level.as_bytes());
    binary::message(out, 5, |body| binary::bytes(body, 1, record.message.as_bytes()));
    if let Some(status) = record.status {
        attribute(out, 6, "status", |out| binary::varint(out, 3, status.into()));
    }
    if let Some(duration) = record.duration_ms {
        attribute(out, 6, "duration_ms", |out| binary::fixed64(out, 4, duration.to_bits()));
    }
    if let Some(bytes) = record.bytes {
        attribute(out, 6, "bytes", |out| binary::varint(out, 3, bytes));
    }
    let trace = u128::from_str_radix(&record.trace_id, 16).unwrap_or_default();
    binary::bytes(out, 9, &trace.to_be_bytes());
    binary::fixed64(out, 11, record.time_ns);
}

fn attribute(out: &mut Vec<u8>, number: u32, name: &str, value: impl FnOnce(&mut Vec<u8>)) {
    binary::message(out, number, |out| {
        binary::bytes(out, 1, name.as_bytes());
        binary::message(out, 2, value);
    });
}

/// A message of gRPC: whether it is compressed, its length, its bytes.
fn grpc_frame(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 5);
    out.push(0);
    out.extend_from_slice(&(message.len() as u32).to_be_bytes());
    out.extend_from_slice(message);
    out
}

fn otlp_json(records: &[Record<'_>]) -> anyhow::Result<Vec<u8>> {
    let text = |name: &str, value: &str| json!({"key": name, "value": {"stringValue": value}});
    let resources = by_source(records).into_iter().filter_map(|group| {
        let first = *group.first()?;
        let attributes: Vec<Value> =
            resource(first).iter().map(|(name, value)| text(name, value)).collect();
        let logs: Vec<Value> = group.into_iter().map(otlp_json_record).collect();
        Some(json!({
            "resource": {"attributes": attributes},
            "scopeLogs": [{"scope": {"name": "fleet.logger"}, "logRecords": logs}],
        }))
    });
    let resources: Vec<Value> = resources.collect();
    Ok(serde_json::to_vec(&json!({"resourceLogs": resources}))?)
}

fn otlp_json_record(record: &Record<'_>) -> Value {
    let time = record.time_ns.to_string();
    let mut attributes = Vec::new();
    if let Some(status) = record.status {
        attributes.push(json!({"key": "status", "value": {"intValue": status.to_string()}}));
    }
    if let Some(duration) = record.duration_ms {
        attributes.push(json!({"key": "duration_ms", "value": {"doubleValue": duration}}));
    }
    if let Some(bytes) = record.bytes {
        attributes.push(json!({"key": "bytes", "value": {"intValue": bytes.to_string()}}));
    }
    json!({
        "timeUnixNano": time,
        "observedTimeUnixNano": time,
        "severityNumber": record.severity_number(),
        "severityText": record.level,
        "body": {"stringValue": record.message},
        "attributes": attributes,
        "traceId": record.trace_id,
    })
}

fn loki_labels(record: &Record<'_>) -> [(&'static str, String); 4] {
    [
        ("service", record.service.to_string()),
        ("namespace", record.namespace.to_string()),
        ("host", record.host.to_string()),
        ("pod", record.pod.to_string()),
    ]
}

/// What is no label is structured metadata.
fn loki_metadata(record: &Record<'_>) -> Vec<(&'static str, String)> {
    let texts = [
        ("level", record.level.to_string()),
        ("version", record.version.to_string()),
        ("trace_id", record.trace_id.to_string()),
    ];
    texts.into_iter().chain(record.numbers()).collect()
}

fn loki_protobuf(records: &[Record<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for group in by_source(records) {
        let Some(first) = group.first() else { continue };
        let labels: Vec<String> =
            loki_labels(first).iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        binary::message(&mut out, 1, |stream| {
            binary::bytes(stream, 1, format!("{{{}}}", labels.join(", ")).as_bytes());
            for record in group {
                binary::message(stream, 2, |entry| {
                    binary::message(entry, 1, |time| {
                        binary::varint(time, 1, record.time_ns / 1_000_000_000);
                        binary::varint(time, 2, record.time_ns % 1_000_000_000);
                    });
                    binary::bytes(entry, 2, record.message.as_bytes());
                    for (name, value) in loki_metadata(record) {
                        binary::message(entry, 3, |pair| {
                            binary::bytes(pair, 1, name.as_bytes());
                            binary::bytes(pair, 2, value.as_bytes());
                        });
                    }
                });
            }
        });
    }
    out
}

fn loki_json(records: &[Record<'_>]) -> anyhow::Result<Vec<u8>> {
    let object = |pairs: &[(&str, String)]| -> Value {
        let fields = pairs.iter().map(|(name, value)| ((*name).to_owned(), json!(value)));
        Value::Object(fields.collect())
    };
    let streams = by_source(records).into_iter().filter_map(|group| {
        let stream = object(&loki_labels(group.first()?));
        let values = group.into_iter().map(|record| {
            let metadata = object(&loki_metadata(record));
            json!([record.time_ns.to_string(), record.message, metadata])
        });
        Some(json!({"stream": stream, "values": values.collect::<Vec<Value>>()}))
    });
    let streams: Vec<Value> = streams.collect();
    Ok(serde_json::to_vec(&json!({"streams": streams}))?)
}

/// The fields that are neither message nor place, and beside them `more`.
fn fields(record: &Record<'_>, more: &[(&str, &str)]) -> Map<String, Value> {
    let mut fields = Map::new();
    for (name, value) in more {
        fields.insert((*name).to_owned(), json!(value));
    }
    fields.insert("trace_id".to_owned(), json!(record.trace_id));
    let numbers = [
        ("status", record.status.map(Value::from)),
        ("duration_ms", record.duration_ms.map(Value::from)),
        ("bytes", record.bytes.map(Value::from)),
    ];
    for (name, value) in numbers {
        if let Some(value) = value {
            fields.insert(name.to_owned(), value);
        }
    }
    fields
}

fn splunk(record: &Record<'_>, out: &mut Vec<u8>) -> anyhow::Result<()> {
    let event = fields(
        record,
        &[
            ("message", &record.message),
            ("level", &record.level),
            ("namespace", &record.namespace),
            ("pod", &record.pod),
            ("version", &record.version),
        ],
    );
    let event = json!({
        "time": record.time_ns as f64 / 1e9,
        "host": record.host,
        "source": record.service,
        "sourcetype": "_json",
        "index": "fleet",
        "event": event,
    });
    line(&event, b'\n', out)
}

fn datadog(records: &[Record<'_>]) -> anyhow::Result<Vec<u8>> {
    let items = records.iter().map(|record| {
        let mut item = fields(
            record,
            &[
                ("message", &record.message),
                ("status", &record.level),
                ("hostname", &record.host),
                ("service", &record.service),
                ("ddsource", "fleet"),
            ],
        );
        // Datadog's name for what the fleet calls `status`.
        if let Some(status) = record.status {
            item.insert("http.status_code".to_owned(), json!(status));
        }
        item.insert("status".to_owned(), json!(record.level));
        item.insert("timestamp".to_owned(), json!(record.time_ns / 1_000_000));
        let tags = format!(
            "kube_namespace:{},pod_name:{},version:{}",
            record.namespace, record.pod, record.version
        );
        item.insert("ddtags".to_owned(), json!(tags));
        item
    });
    Ok(serde_json::to_vec(&items.collect::<Vec<_>>())?)
}

fn gelf(record: &Record<'_>, end: u8, out: &mut Vec<u8>) -> anyhow::Result<()> {
    let mut message = Map::new();
    for (name, value) in [
        ("version", "1.1"),
        ("host", &record.host),
        ("short_message", &record.message),
        ("_service", &record.service),
        ("_namespace", &record.namespace),
        ("_pod", &record.pod),
        ("_app_version", &record.version),
    ] {
        message.insert(name.to_owned(), json!(value));
    }
    message.insert("timestamp".to_owned(), json!((record.time_ns / 1_000_000) as f64 / 1e3));
    message.insert("level".to_owned(), json!(record.severity()));
    for (name, value) in fields(record, &[]) {
        message.insert(format!("_{name}"), value);
    }
    line(&message, end, out)
}

fn line(value: &impl Serialize, end: u8, out: &mut Vec<u8>) -> anyhow::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.push(end);
    Ok(())
}

/// The journal's export format: `NAME=value` a line, an empty line behind each entry.
fn journal(record: &Record<'_>, out: &mut Vec<u8>) -> anyhow::Result<()> {
    let mut text = String::new();
    let us = record.time_ns / 1_000;
    writeln!(text, "__CURSOR=s=5f0c;i={us:x};b=9d2e;m=1;t={us:x};x=1")?;
    writeln!(text, "__REALTIME_TIMESTAMP={us}\n__MONOTONIC_TIMESTAMP={us}")?;
    writeln!(text, "_BOOT_ID=9d2e2f1f4b6c4f0aa3b1c6c3d5e7f901\n_TRANSPORT=journal")?;
    writeln!(text, "_HOSTNAME={}\n_SYSTEMD_UNIT={}.service", record.host, record.service)?;
    writeln!(text, "SYSLOG_IDENTIFIER={}\nPRIORITY={}", record.service, record.severity())?;
    writeln!(text, "NAMESPACE={}\nPOD={}", record.namespace, record.pod)?;
    writeln!(text, "VERSION={}\nTRACE_ID={}", record.version, record.trace_id)?;
    for (name, value) in record.numbers() {
        writeln!(text, "{}={value}", name.to_uppercase())?;
    }
    out.extend_from_slice(text.as_bytes());
    if record.message.contains('\n') {
        // A value of several lines is counted.
        out.extend_from_slice(b"MESSAGE\n");
        out.extend_from_slice(&(record.message.len() as u64).to_le_bytes());
    } else {
        out.extend_from_slice(b"MESSAGE=");
    }
    out.extend_from_slice(record.message.as_bytes());
    out.extend_from_slice(b"\n\n");
    Ok(())
}

/// PackedForward without its option, which has the chunk that is acknowledged: see
/// [`super::sockets`].
fn packed_forward(records: &[Record<'_>]) -> Vec<u8> {
    let mut entries = Vec::new();
    for record in records {
        binary::array(&mut entries, 2);
        binary::event_time(&mut entries, record.time_ns);
        let texts = [
            ("service", &record.service),
            ("namespace", &record.namespace),
            ("host", &record.host),
            ("pod", &record.pod),
            ("version", &record.version),
            ("level", &record.level),
            ("trace_id", &record.trace_id),
        ];
        let numbers = usize::from(record.status.is_some())
            + usize::from(record.duration_ms.is_some())
            + usize::from(record.bytes.is_some());
        binary::map(&mut entries, (texts.len() + numbers + 1) as u8);
        for (name, value) in texts {
            binary::text(&mut entries, name);
            binary::text(&mut entries, value);
        }
        for (name, value) in [("status", record.status.map(u64::from)), ("bytes", record.bytes)] {
            if let Some(value) = value {
                binary::text(&mut entries, name);
                binary::uint(&mut entries, value);
            }
        }
        if let Some(value) = record.duration_ms {
            binary::text(&mut entries, "duration_ms");
            binary::float(&mut entries, value);
        }
        binary::text(&mut entries, "message");
        binary::text(&mut entries, &record.message);
    }
    let mut out = Vec::with_capacity(entries.len() + 128);
    binary::array(&mut out, 3);
    binary::text(&mut out, "kube.fleet");
    binary::binary(&mut out, &entries);
    out
}

/// RFC 5424 behind its length (RFC 6587), with what is no part of the header as structured data.
fn syslog_counted(record: &Record<'_>, out: &mut Vec<u8>) -> anyhow::Result<()> {
    let message = syslog_5424(record);
    write!(CountedText(out), "{} {message}", message.len())?;
    Ok(())
}

/// A message of RFC 5424, of facility local0.
fn syslog_5424(record: &Record<'_>) -> String {
    let mut text = format!(
        "<{}>1 {} {} {} - - [fleet@32473 namespace=\"{}\" pod=\"{}\" version=\"{}\" \
         trace_id=\"{}\"",
        128 + record.severity(),
        record.time,
        record.host,
        record.service,
        record.namespace,
        record.pod,
        record.version,
        record.trace_id,
    );
    for (name, value) in record.numbers() {
        // Writing to a text cannot fail.
        let _ = write!(text, " {name}=\"{value}\"");
    }
    text.push_str("] ");
    text.push_str(&record.message);
    text
}

/// Text at the end of some bytes.
struct CountedText<'o>(&'o mut Vec<u8>);

impl std::fmt::Write for CountedText<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}
