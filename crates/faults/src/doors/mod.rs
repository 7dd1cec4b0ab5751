//! The front doors by which a writer sends: each in the words of its protocol, with the same lines.
//!
//! What is one HTTP request with one answer is a [`Door`]; [`forward`] and [`grpc`] have connections
//! of their own, and [`crate::writers`] knows the rest of what a protocol asks for.
//!
//! Invariant: whichever door a line comes by, it is stored with the same message, number and source,
//! so the oracle need not know which it was. The encoders are the oracle's own: one that used
//! Lodge's would not notice what both have wrong.

mod binary;
pub mod forward;
pub mod grpc;

use rand::Rng;
use rand::rngs::SmallRng;
use serde_json::{Value, json};

use crate::load::Load;
use crate::mint::LineId;

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/x-protobuf";

/// A door that acknowledges, of one request over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// JSON lines.
    Lines,
    /// Elasticsearch's `_bulk`.
    Elastic,
    /// Loki's push, in JSON.
    Loki,
    /// Loki's push, in protobuf and snappy.
    LokiProtobuf,
    /// OpenTelemetry over HTTP, in JSON.
    Otlp,
    /// OpenTelemetry over HTTP, in protobuf.
    OtlpProtobuf,
    /// Splunk's HEC.
    Splunk,
    /// Splunk's HEC, raw lines.
    SplunkRaw,
    /// Datadog's logs, v2.
    Datadog,
    /// Datadog's logs, v1.
    DatadogFirst,
    /// GELF, several messages in a request.
    Gelf,
}

/// The lines of one request.
#[derive(Debug, Clone, Copy)]
pub struct Lines<'a> {
    /// Their source in the ledger.
    pub source: u16,
    /// The source's name.
    pub name: &'a str,
    /// The first of them.
    pub first: u64,
    /// How many.
    pub count: u64,
}

impl Lines<'_> {
    /// Text and number of each, as minted.
    pub fn made(self, load: &Load) -> impl Iterator<Item = (String, i64)> + '_ {
        let Self { source, first, count, .. } = self;
        (first..first + count).map(move |number| {
            let id = LineId { source, number };
            (load.mint.text(id), load.mint.number_field(id))
        })
    }
}

impl Door {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Lines,
        Self::Elastic,
        Self::Loki,
        Self::LokiProtobuf,
        Self::Otlp,
        Self::OtlpProtobuf,
        Self::Splunk,
        Self::SplunkRaw,
        Self::Datadog,
        Self::DatadogFirst,
        Self::Gelf,
    ];

    /// Any of them.
    pub fn any(random: &mut SmallRng) -> Self {
        *Self::ALL.get(random.random_range(0..Self::ALL.len())).unwrap_or(&Self::Lines)
    }

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lines => "JSON lines",
            Self::Elastic => "Elasticsearch _bulk",
            Self::Loki => "Loki, JSON",
            Self::LokiProtobuf => "Loki, protobuf in snappy",
            Self::Otlp => "OTLP/HTTP, JSON",
            Self::OtlpProtobuf => "OTLP/HTTP, protobuf",
            Self::Splunk => "Splunk HEC, event",
            Self::SplunkRaw => "Splunk HEC, raw",
            Self::Datadog => "Datadog v2",
            Self::DatadogFirst => "Datadog v1",
            Self::Gelf => "GELF over HTTP",
        }
    }

    /// Where it is.
    pub fn target(self) -> &'static str {
        match self {
            Self::Lines => {
                "/insert/jsonline?_time_field=_time&_msg_field=_msg&_stream_fields=source"
            }
            Self::Elastic => "/elasticsearch/_bulk",
            Self::Loki | Self::LokiProtobuf => "/loki/api/v1/push",
            Self::Otlp | Self::OtlpProtobuf => "/v1/logs",
            Self::Splunk => "/services/collector/event",
            Self::SplunkRaw => "/services/collector/raw?source=oracle",
            Self::Datadog => "/api/v2/logs",
            Self::DatadogFirst => "/v1/input",
            Self::Gelf => "/gelf",
        }
    }

    /// The type of its bodies.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::LokiProtobuf | Self::OtlpProtobuf => PROTOBUF,
            Self::Elastic => "application/x-ndjson",
            Self::SplunkRaw => "text/plain",
            _ => JSON,
        }
    }

    /// A request's body with minted lines.
    pub fn body(self, load: &Load, lines: Lines<'_>) -> Vec<u8> {
        let made: Vec<(String, i64)> = lines.made(load).collect();
        let request = Request { now: load.now(), source: lines.name, lines: &made };
        match self {
            Self::Lines => request.lines(),
            Self::Elastic => request.elastic(),
            Self::Loki => request.loki(),
            Self::LokiProtobuf => request.loki_protobuf(),
            Self::Otlp => request.otlp(),
            Self::OtlpProtobuf => request.otlp_protobuf(),
            Self::Splunk => request.splunk(),
            Self::SplunkRaw => request.splunk_raw(),
            Self::Datadog | Self::DatadogFirst => request.datadog(),
            Self::Gelf => request.gelf(),
        }
    }
}

/// What a request says, in no protocol's words yet.
struct Request<'r> {
    now: jiff::Timestamp,
    source: &'r str,
    lines: &'r [(String, i64)],
}

impl Request<'_> {
    /// Each line as JSON on a line of its own.
    fn separated(&self, item: impl Fn(&str, i64) -> Value) -> Vec<u8> {
        let mut body = String::new();
        for (text, number) in self.lines {
            body.push_str(&item(text, *number).to_string());
            body.push('\n');
        }
        body.into_bytes()
    }

    fn array(&self, item: impl Fn(&str, i64) -> Value) -> Value {
        self.lines.iter().map(|(text, number)| item(text, *number)).collect()
    }

    fn now_ms(&self) -> i64 {
        self.now.as_millisecond()
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.now.as_nanosecond()).unwrap_or_default()
    }

    fn lines(&self) -> Vec<u8> {
        let (now, source) = (self.now.to_string(), self.source);
        self.separated(|text, number| {
            json!({"_time": now, "_msg": text, "source": source, "oracle": {"number": number}})
        })
    }

    fn elastic(&self) -> Vec<u8> {
        let (now, source) = (self.now.to_string(), self.source);
        let mut body = Vec::new();
        for document in self
            .separated(|text, number| {
                json!({"@timestamp": now, "message": text, "source": source,
                    "oracle": {"number": number}})
            })
            .split_inclusive(|&byte| byte == b'\n')
        {
            body.extend_from_slice(b"{\"create\":{\"_index\":\"oracle\"}}\n");
            body.extend_from_slice(document);
        }
        body
    }

    fn loki(&self) -> Vec<u8> {
        let now = self.now_ns().to_string();
        let values =
            self.array(|text, number| json!([now, text, {"oracle.number": number.to_string()}]));
        let stream = json!({"stream": {"source": self.source}, "values": values});
        json!({"streams": [stream]}).to_string().into_bytes()
    }

    fn loki_protobuf(&self) -> Vec<u8> {
        let now_ns = self.now_ns();
        let mut plain = Vec::new();
        binary::message(&mut plain, 1, |stream| {
            binary::bytes(stream, 1, format!("{{source={:?}}}", self.source).as_bytes());
            for (text, number) in self.lines {
                binary::message(stream, 2, |entry| {
                    binary::message(entry, 1, |time| {
                        binary::varint(time, 1, now_ns / 1_000_000_000);
                        binary::varint(time, 2, now_ns % 1_000_000_000);
                    });
                    binary::bytes(entry, 2, text.as_bytes());
                    binary::message(entry, 3, |pair| {
                        binary::bytes(pair, 1, b"oracle.number");
                        binary::bytes(pair, 2, number.to_string().as_bytes());
                    });
                });
            }
        });
        binary::snappy_block(&plain)
    }

    fn otlp(&self) -> Vec<u8> {
        let now = self.now_ns().to_string();
        let records = self.array(|text, number| {
            json!({"timeUnixNano": now, "body": {"stringValue": text},
                "attributes": [{"key": "oracle.number",
                    "value": {"intValue": number.to_string()}}]})
        });
        let source = json!({"key": "source", "value": {"stringValue": self.source}});
        json!({"resourceLogs": [{"resource": {"attributes": [source]},
            "scopeLogs": [{"logRecords": records}]}]})
        .to_string()
        .into_bytes()
    }

    fn otlp_protobuf(&self) -> Vec<u8> {
        let mut body = Vec::new();
        binary::message(&mut body, 1, |logs| {
            binary::message(logs, 1, |resource| {
                binary::attribute(resource, 1, "source", |value| {
                    binary::bytes(value, 1, self.source.as_bytes());
                });
            });
            binary::message(logs, 2, |scope| {
                for (text, number) in self.lines {
                    binary::message(scope, 2, |record| {
                        binary::fixed64(record, 1, self.now_ns());
                        binary::message(record, 5, |body| binary::bytes(body, 1, text.as_bytes()));
                        binary::attribute(record, 6, "oracle.number", |value| {
                            binary::varint(value, 3, number.cast_unsigned());
                        });
                    });
                }
            });
        });
        body
    }

    fn splunk(&self) -> Vec<u8> {
        let (seconds, source) = (self.now_ms() as f64 / 1_000.0, self.source);
        self.separated(|text, number| {
            json!({"time": seconds, "source": source, "event": text,
                "fields": {"oracle.number": number}})
        })
    }

    fn splunk_raw(&self) -> Vec<u8> {
        let texts: Vec<&str> = self.lines.iter().map(|(text, _)| text.as_str()).collect();
        texts.join("\n").into_bytes()
    }

    fn datadog(&self) -> Vec<u8> {
        let (now_ms, source) = (self.now_ms(), self.source);
        let items = self.array(|text, number| {
            json!({"timestamp": now_ms, "message": text, "source": source,
                "oracle": {"number": number}})
        });
        items.to_string().into_bytes()
    }

    fn gelf(&self) -> Vec<u8> {
        let (seconds, source) = (self.now_ms() as f64 / 1_000.0, self.source);
        self.separated(|text, number| {
            json!({"version": "1.1", "host": "oracle", "short_message": text,
                "timestamp": seconds, "_source": source, "_oracle.number": number})
        })
    }
}
