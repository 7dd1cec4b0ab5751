//! What each protocol costs: the same records, encoded as its clients do, sent flat out to a fresh
//! server, and followed until they have their final form.

use std::fmt::Write as _;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use serde::Serialize;

use super::encode::encode;
use super::record::Record;
use super::{DoorsOptions, send};
use crate::lodge::{LodgeServer, Setup};
use crate::sender::Generated;
use crate::table;
use crate::target::Target;
use crate::workload::{Kind, WorkloadOptions};

/// How long records may take to be found that nobody acknowledges.
const ARRIVAL_MAX: Duration = Duration::from_secs(300);
const ASK_EVERY: Duration = Duration::from_millis(20);

/// A protocol by which logs come in, in one of its forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// `/insert/jsonline`.
    JsonLines,
    /// Elasticsearch's `_bulk`.
    Bulk,
    /// OTLP over HTTP in protobuf.
    OtlpProtobuf,
    /// OTLP over HTTP in JSON.
    OtlpJson,
    /// OTLP over gRPC.
    OtlpGrpc,
    /// Loki's push in protobuf and snappy.
    LokiProtobuf,
    /// Loki's push in JSON.
    LokiJson,
    /// Splunk HEC, `/event`.
    Splunk,
    /// Datadog's v2.
    Datadog,
    /// GELF over HTTP, many messages in a request.
    GelfHttp,
    /// The systemd journal's upload.
    Journal,
    /// Fluent Forward: PackedForward with acknowledgements.
    Forward,
    /// Syslog of RFC 5424 over TCP, each message counted.
    SyslogTcp,
    /// JSON lines over TCP.
    JsonTcp,
    /// GELF over TCP.
    GelfTcp,
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Self::JsonLines => "JSON lines",
            Self::Bulk => "Elasticsearch _bulk",
            Self::OtlpProtobuf => "OTLP/HTTP, protobuf",
            Self::OtlpJson => "OTLP/HTTP, JSON",
            Self::OtlpGrpc => "OTLP/gRPC",
            Self::LokiProtobuf => "Loki, protobuf in snappy",
            Self::LokiJson => "Loki, JSON",
            Self::Splunk => "Splunk HEC, event",
            Self::Datadog => "Datadog v2",
            Self::GelfHttp => "GELF over HTTP",
            Self::Journal => "systemd-journal-upload",
            Self::Forward => "Fluent Forward, acknowledged",
            Self::SyslogTcp => "syslog RFC 5424 over TCP",
            Self::JsonTcp => "JSON lines over TCP",
            Self::GelfTcp => "GELF over TCP",
        }
    }

    /// The setting of its socket, if it has no HTTP.
    pub(super) fn socket(self) -> Option<&'static str> {
        match self {
            Self::Forward => Some("forward"),
            Self::SyslogTcp => Some("syslog_tcp"),
            Self::JsonTcp => Some("json_tcp"),
            Self::GelfTcp => Some("gelf_tcp"),
            _ => None,
        }
    }

    /// Path and content type of its requests.
    pub(super) fn route(self) -> Option<(&'static str, &'static str)> {
        const JSON: &str = "application/json";
        const PROTOBUF: &str = "application/x-protobuf";
        let path = match self {
            Self::JsonLines => ("/insert/jsonline", "application/stream+json"),
            Self::Bulk => ("/elasticsearch/_bulk", "application/x-ndjson"),
            Self::OtlpProtobuf => ("/v1/logs", PROTOBUF),
            Self::OtlpJson => ("/v1/logs", JSON),
            Self::OtlpGrpc => {
                ("/opentelemetry.proto.collector.logs.v1.LogsService/Export", "application/grpc")
            }
            Self::LokiProtobuf => ("/loki/api/v1/push", PROTOBUF),
            Self::LokiJson => ("/loki/api/v1/push", JSON),
            Self::Splunk => ("/services/collector/event", JSON),
            Self::Datadog => ("/api/v2/logs", JSON),
            Self::GelfHttp => ("/gelf", JSON),
            Self::Journal => ("/upload", "application/vnd.fdo.journal"),
            Self::Forward | Self::SyslogTcp | Self::JsonTcp | Self::GelfTcp => return None,
        };
        Some(path)
    }

    /// CPU seconds per GB that it is meant to cost at most, where that was said.
    fn goal_cpu_s_per_gb(self) -> Option<f64> {
        match self {
            Self::JsonLines | Self::Bulk => Some(10.0),
            Self::OtlpProtobuf | Self::OtlpGrpc | Self::LokiProtobuf => Some(8.0),
            _ => None,
        }
    }
}

/// What one protocol took.
#[derive(Clone, Debug, Serialize)]
pub struct ProtocolFigures {
    /// Which.
    pub protocol: Protocol,
    /// Records, each of which was stored once.
    pub records: u64,
    /// Bytes of all requests as they were sent.
    pub request_bytes: u64,
    /// The same before the compression that the protocol always has.
    pub plain_bytes: u64,
    /// Bytes of the same records as JSON lines.
    pub json_bytes: u64,
    /// Until the last acknowledgement; where there is none, until a query counted all records.
    pub acknowledged_s: f64,
    /// CPU seconds of the server until all was built and it was at rest.
    pub server_cpu_s: f64,
    /// Those of them until the last acknowledgement.
    pub acknowledged_cpu_s: f64,
    /// Most memory of the server.
    pub server_rss_peak_bytes: u64,
}

impl ProtocolFigures {
    fn per_gb(&self, bytes: u64) -> f64 {
        self.server_cpu_s / (bytes as f64 / 1e9)
    }
}

/// Measures the protocols that are asked for, one after the other.
pub(super) async fn measure(
    options: &DoorsOptions,
    dir: &std::path::Path,
    tell: &mut impl FnMut(&str),
) -> anyhow::Result<Vec<ProtocolFigures>> {
    let mut all = Vec::new();
    if options.protocols.is_empty() {
        return Ok(all);
    }
    tell("writing the records");
    let pieces = pieces(options)?;
    for &protocol in &options.protocols {
        tell(&format!("{}: encoding", protocol.name()));
        let prepared = Prepared::new(protocol, &pieces)?;
        tell(&format!("{}: sending {} records", protocol.name(), prepared.records));
        let folder = dir.join(format!("{protocol:?}"));
        let figures = one(options, protocol, &prepared, &folder).await;
        let figures = figures.with_context(|| protocol.name().to_owned())?;
        tell(&format!(
            "{}: {:.2} CPU-s per GB of requests",
            protocol.name(),
            figures.per_gb(figures.plain_bytes)
        ));
        all.push(figures);
        fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    Ok(all)
}

/// JSON lines, about as many in a piece as a client sends at once.
fn pieces(options: &DoorsOptions) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut workload = WorkloadOptions { seed: options.seed, ..WorkloadOptions::default() };
    workload.records = Kind::Fleet.records_for_bytes(&workload, options.bytes);
    let generator = Kind::Fleet.generator(workload);
    let mut generated = Generated { generator, each: |_: &[u8]| Ok(()) };
    let mut pieces = Vec::new();
    loop {
        let lines = generated.next_of(options.request_bytes)?;
        if lines.is_empty() {
            return Ok(pieces);
        }
        pieces.push(lines);
    }
}

/// Requests that are made before they are sent.
pub struct Prepared {
    /// What is sent, each in one request or as one piece of a stream.
    pub bodies: Vec<Bytes>,
    /// Records of all of them.
    pub records: u64,
    /// Bytes of all requests as they are sent.
    pub request_bytes: u64,
    /// The same before the compression that the protocol always has.
    pub plain_bytes: u64,
    /// Bytes of the same records as JSON lines.
    pub json_bytes: u64,
}

/// The requests that `protocol` is measured with.
///
/// # Errors
/// When a record cannot be said in the protocol's words, which would be a bug.
pub fn prepare(options: &DoorsOptions, protocol: Protocol) -> anyhow::Result<Prepared> {
    Prepared::new(protocol, &pieces(options)?)
}

impl Prepared {
    fn new(protocol: Protocol, pieces: &[Vec<u8>]) -> anyhow::Result<Self> {
        let mut prepared = Self {
            bodies: Vec::new(),
            records: 0,
            request_bytes: 0,
            plain_bytes: 0,
            json_bytes: 0,
        };
        for lines in pieces {
            let each = lines.split(|&b| b == b'\n').filter(|line| !line.is_empty());
            let records: Vec<Record<'_>> = each.map(Record::read).collect::<Result<_, _>>()?;
            let encoded = encode(protocol, lines, &records)?;
            prepared.records += records.len() as u64;
            prepared.json_bytes += lines.len() as u64;
            prepared.request_bytes += encoded.body.len() as u64;
            prepared.plain_bytes += encoded.plain_bytes;
            prepared.bodies.push(encoded.body.into());
        }
        Ok(prepared)
    }
}

async fn one(
    options: &DoorsOptions,
    protocol: Protocol,
    prepared: &Prepared,
    folder: &std::path::Path,
) -> anyhow::Result<ProtocolFigures> {
    fs::create_dir(folder).with_context(|| folder.display().to_string())?;
    let mut setup = Setup::default();
    if let Some(setting) = protocol.socket() {
        setup.open_door(setting)?;
    }
    let data = folder.join("data");
    let server = LodgeServer::start_with(&options.lodge, &data, folder, setup).await?;
    let before = server.usage()?;
    let begun = Instant::now();
    send::send(protocol, &server, &prepared.bodies).await?;
    if protocol.socket().is_some() {
        while count(&server).await? < prepared.records {
            ensure!(begun.elapsed() < ARRIVAL_MAX, "not all records were found in {ARRIVAL_MAX:?}");
            tokio::time::sleep(ASK_EVERY).await;
        }
    }
    let acknowledged_s = begun.elapsed().as_secs_f64();
    let acknowledged_cpu_s = server.usage()?.cpu_s - before.cpu_s;
    server.settle().await?;
    let after = server.usage()?;
    let found = count(&server).await?;
    ensure!(found == prepared.records, "{found} records are found of {}", prepared.records);
    server.stop().await;
    Ok(ProtocolFigures {
        protocol,
        records: prepared.records,
        request_bytes: prepared.request_bytes,
        plain_bytes: prepared.plain_bytes,
        json_bytes: prepared.json_bytes,
        acknowledged_s,
        server_cpu_s: after.cpu_s - before.cpu_s,
        acknowledged_cpu_s,
        server_rss_peak_bytes: after.rss_peak_bytes,
    })
}

/// The records that a query finds.
pub(super) async fn count(server: &LodgeServer) -> anyhow::Result<u64> {
    let rows = server.logsql("* | stats count() as n").await?;
    let text = rows.first().and_then(|row| row.get("n")).context("no count")?;
    text.parse().with_context(|| format!("the count {text}"))
}

/// The table, in Markdown.
pub(super) fn table(all: &[ProtocolFigures]) -> String {
    let head = [
        "protocol",
        "CPU-s/GB of requests",
        "goal",
        "CPU-s/GB of JSON lines",
        "µs/record",
        "until acknowledged",
        "requests, MB",
        "MB/s",
        "records/s",
        "peak RSS MB",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for figures in all {
        let records = figures.records as f64;
        let goal = figures.protocol.goal_cpu_s_per_gb();
        rows.push(vec![
            figures.protocol.name().to_owned(),
            format!("{:.2}", figures.per_gb(figures.plain_bytes)),
            goal.map_or_else(|| "–".to_owned(), |goal| format!("{goal:.0}")),
            format!("{:.2}", figures.per_gb(figures.json_bytes)),
            format!("{:.2}", figures.server_cpu_s * 1e6 / records),
            format!("{:.2}", figures.acknowledged_cpu_s * 1e6 / records),
            format!("{:.0}", figures.plain_bytes as f64 / 1e6),
            format!("{:.0}", figures.plain_bytes as f64 / 1e6 / figures.acknowledged_s),
            format!("{:.0}", records / figures.acknowledged_s),
            format!("{:.0}", figures.server_rss_peak_bytes as f64 / 1e6),
        ]);
    }
    let mut out = String::new();
    if let Some(first) = all.first() {
        let json_mb = first.json_bytes as f64 / 1e6;
        let _ = writeln!(out, "{} records, {json_mb:.0} MB as JSON lines\n", first.records);
    }
    out.push_str(&table::markdown(&rows));
    for figures in all.iter().filter(|figures| figures.request_bytes != figures.plain_bytes) {
        let _ = writeln!(
            out,
            "- {}: sizes are those before compression; {:.0} MB were sent",
            figures.protocol.name(),
            figures.request_bytes as f64 / 1e6
        );
    }
    out
}
