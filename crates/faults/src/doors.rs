//! The front doors by which a writer sends: each in the words of its protocol, with the same lines.
//!
//! Invariant: whichever door a line comes by, it is stored with the same message, number and source,
//! so the oracle need not know which it was.

use rand::Rng;
use rand::rngs::SmallRng;
use serde_json::{Value, json};

use crate::load::Load;
use crate::mint::LineId;

/// A door that acknowledges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// JSON lines.
    Lines,
    /// Elasticsearch's `_bulk`.
    Elastic,
    /// Loki's push, in JSON.
    Loki,
    /// OpenTelemetry over HTTP, in JSON.
    Otlp,
    /// Splunk's HEC.
    Splunk,
    /// Datadog's logs.
    Datadog,
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

impl Door {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Lines, Self::Elastic, Self::Loki, Self::Otlp, Self::Splunk, Self::Datadog];

    /// Any of them.
    pub fn any(random: &mut SmallRng) -> Self {
        *Self::ALL.get(random.random_range(0..Self::ALL.len())).unwrap_or(&Self::Lines)
    }

    /// Where it is.
    pub fn target(self) -> &'static str {
        match self {
            Self::Lines => {
                "/insert/jsonline?_time_field=_time&_msg_field=_msg&_stream_fields=source"
            }
            Self::Elastic => "/elasticsearch/_bulk",
            Self::Loki => "/loki/api/v1/push",
            Self::Otlp => "/v1/logs",
            Self::Splunk => "/services/collector/event",
            Self::Datadog => "/api/v2/logs",
        }
    }

    /// A request's body with minted lines.
    pub fn body(self, load: &Load, lines: Lines<'_>) -> Vec<u8> {
        let now = load.now();
        let (now_ns, now_ms) = (now.as_nanosecond(), now.as_millisecond());
        let made = (lines.first..lines.first + lines.count).map(|number| {
            let id = LineId { source: lines.source, number };
            (load.mint.text(id), load.mint.number_field(id))
        });
        let source = lines.name;
        let separated = |items: &mut dyn Iterator<Item = Value>| {
            let mut body = String::new();
            for item in items {
                body.push_str(&item.to_string());
                body.push('\n');
            }
            body.into_bytes()
        };
        match self {
            Self::Lines => separated(&mut made.map(|(text, number)| {
                json!({"_time": now.to_string(), "_msg": text, "source": source,
                    "oracle": {"number": number}})
            })),
            Self::Elastic => separated(&mut made.flat_map(|(text, number)| {
                let document = json!({"@timestamp": now.to_string(), "message": text,
                    "source": source, "oracle": {"number": number}});
                [json!({"create": {"_index": "oracle"}}), document]
            })),
            Self::Loki => {
                let values: Vec<Value> = made
                    .map(|(text, number)| {
                        json!([now_ns.to_string(), text, {"oracle.number": number.to_string()}])
                    })
                    .collect();
                let stream = json!({"stream": {"source": source}, "values": values});
                json!({"streams": [stream]}).to_string().into_bytes()
            }
            Self::Otlp => {
                let records: Vec<Value> = made
                    .map(|(text, number)| {
                        json!({"timeUnixNano": now_ns.to_string(), "body": {"stringValue": text},
                            "attributes": [{"key": "oracle.number",
                                "value": {"intValue": number.to_string()}}]})
                    })
                    .collect();
                let resource =
                    json!({"attributes": [{"key": "source", "value": {"stringValue": source}}]});
                json!({"resourceLogs": [{"resource": resource,
                    "scopeLogs": [{"logRecords": records}]}]})
                .to_string()
                .into_bytes()
            }
            Self::Splunk => separated(&mut made.map(|(text, number)| {
                json!({"time": now_ms as f64 / 1_000.0, "source": source, "event": text,
                    "fields": {"oracle.number": number}})
            })),
            Self::Datadog => {
                let items: Vec<Value> = made
                    .map(|(text, number)| {
                        json!({"timestamp": now_ms, "message": text, "source": source,
                            "oracle": {"number": number}})
                    })
                    .collect();
                Value::from(items).to_string().into_bytes()
            }
        }
    }
}
