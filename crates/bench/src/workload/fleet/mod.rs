//! A deterministic Kubernetes-like fleet as JSON lines: what benchmarks store and search.
//!
//! 20 services on 200 hosts in 400 pods write records of about 365 bytes: time, labels, level, a
//! trace id shared by about five records, three numeric fields on a third of them, and a message
//! from more than 200 templates with random variables (so it is hard to compress, as identifiers
//! and addresses are). Four words are planted to be searched for: see [`planted`].
//!
//! Invariants: the same options give the same bytes, in every release; what is random comes from
//! [`Rng`] alone.

mod catalogue;
mod questions;

use std::ops::Range;

use super::pieces::Scene;
use super::plants::Plants;
use super::stack::Stacks;
use super::variables::{hex_fixed, host_name, number, padded, pod_name};
use super::{ClockText, Generator, Level, WorkloadOptions, record_time};
use crate::rng::Rng;

use catalogue::Catalogue;
pub use questions::questions;

/// How many hosts the fleet has.
pub const HOSTS: usize = 200;
/// How many pods the fleet has; each is one stream.
pub const PODS: usize = 400;
/// The fields that make a record's stream.
pub const STREAM_FIELDS: &[&str] = &["service", "namespace", "host", "pod"];

/// The numeric fields that a third of the records have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// HTTP status code.
    pub status: u16,
    /// The `duration_ms` field in thousandths of a millisecond.
    pub duration_us: u64,
    /// The `bytes` field.
    pub bytes: u64,
}

/// What one call of [`Fleet::next_record`] wrote.
#[derive(Clone, Debug)]
pub struct Written {
    /// Its time, nanoseconds since 1970.
    pub time_ns: i64,
    /// Its level.
    pub level: Level,
    /// Index into [`Fleet::service_names`].
    pub service: usize,
    /// Index of the pod, `0..PODS`; see [`Fleet::pod_name`].
    pub pod: usize,
    /// Which message template.
    pub template: u16,
    /// The trace it belongs to; [`trace_text`] gives the field's text.
    pub trace: [u64; 2],
    /// Whether it is the first record of its trace.
    pub trace_begins: bool,
    /// Its numeric fields.
    pub numbers: Option<Numbers>,
    /// Where its message (JSON-escaped) is in the buffer.
    pub message: Range<usize>,
}

/// The 32 hex digits of a trace id.
pub fn trace_text(trace: [u64; 2]) -> String {
    let mut out = Vec::with_capacity(32);
    hex_fixed(&mut out, trace[0], 16);
    hex_fixed(&mut out, trace[1], 16);
    String::from_utf8_lossy(&out).into_owned()
}

struct Pod {
    service: usize,
    host: usize,
    /// `,"service":…,"version":"…"`: the part of the line that never changes.
    labels: Vec<u8>,
    name: String,
}

/// How many traces are going on at any time.
const TRACES_OPEN: usize = 64;
/// How many records share a trace on average.
const RECORDS_PER_TRACE: u64 = 5;
/// Draws of a pod are one look-up in a table of this many entries.
const POD_TABLE: usize = 1 << 14;

/// The generator. Call [`next_record`](Self::next_record) until it returns `None`.
pub struct Fleet {
    stacks: Stacks,
    options: WorkloadOptions,
    catalogue: Catalogue,
    pods: Vec<Pod>,
    pod_table: Vec<u16>,
    rng: Rng,
    traces: [[u64; 2]; TRACES_OPEN],
    index: u64,
    plants: Plants,
    clock: ClockText,
}

impl Fleet {
    /// A generator at the first record.
    pub fn new(options: WorkloadOptions) -> Self {
        let catalogue = Catalogue::load();
        let mut rng = Rng::new(options.seed);
        let pods = build_pods(&catalogue, &mut rng);
        let pod_table = build_pod_table(&catalogue, &pods);
        let mut traces = [[0; 2]; TRACES_OPEN];
        for trace in &mut traces {
            *trace = [rng.next_u64(), rng.next_u64()];
        }
        let plants = Plants::new(options.records, rng.next_u64());
        let clock = ClockText::default();
        let stacks = Stacks::new();
        Self { stacks, options, catalogue, pods, pod_table, rng, traces, index: 0, plants, clock }
    }

    /// The options it runs with.
    pub fn options(&self) -> &WorkloadOptions {
        &self.options
    }

    /// How many message templates it draws from.
    pub fn templates(&self) -> usize {
        self.catalogue.templates()
    }

    /// The services' names, by [`Written::service`].
    pub fn service_names(&self) -> Vec<&'static str> {
        self.catalogue.services.iter().map(|service| service.name).collect()
    }

    /// A pod's name, by [`Written::pod`].
    pub fn pod_name(&self, pod: usize) -> &str {
        &self.pods[pod].name
    }

    /// The name of the host that a pod runs on.
    pub fn host_of(&self, pod: usize) -> String {
        let mut out = Vec::new();
        host_name(&mut out, self.pods[pod].host as u64);
        String::from_utf8_lossy(&out).into_owned()
    }

    /// Appends the next record as one JSON line to `out`, or returns `None` after the last.
    pub fn next_record(&mut self, out: &mut Vec<u8>) -> Option<Written> {
        if self.index >= self.options.records {
            return None;
        }
        let index = self.index;
        self.index += 1;
        let rng = &mut self.rng;
        let time_ns = record_time(&self.options, index, rng);
        let pod_index = usize::from(self.pod_table[rng.below(POD_TABLE as u64) as usize]);
        let pod = &self.pods[pod_index];
        let level = Level::draw(rng);
        let (trace, trace_begins) = draw_trace(&mut self.traces, rng);

        out.extend_from_slice(b"{\"_time\":\"");
        self.clock.write(time_ns, out);
        out.push(b'"');
        out.extend_from_slice(&pod.labels);
        out.extend_from_slice(b",\"level\":\"");
        out.extend_from_slice(level.name().as_bytes());
        out.extend_from_slice(b"\",\"trace_id\":\"");
        hex_fixed(out, trace[0], 16);
        hex_fixed(out, trace[1], 16);
        out.push(b'"');
        let numbers = rng.one_in(3).then(|| draw_numbers(level, rng));
        if let Some(numbers) = &numbers {
            write_numbers(numbers, out);
        }
        out.extend_from_slice(b",\"message\":\"");
        let message_start = out.len();
        let template = self.catalogue.choose(pod.service, level, rng);
        let scene = Scene { time_ns, index, level, stacks: &self.stacks };
        self.catalogue.write(template, scene, rng, out);
        self.plants.write(index, out);
        let message = message_start..out.len();
        out.extend_from_slice(b"\"}\n");
        let service = pod.service;
        Some(Written {
            time_ns,
            level,
            service,
            pod: pod_index,
            template,
            trace,
            trace_begins,
            numbers,
            message,
        })
    }
}

fn draw_trace(traces: &mut [[u64; 2]; TRACES_OPEN], rng: &mut Rng) -> ([u64; 2], bool) {
    let r = rng.below(TRACES_OPEN as u64 * RECORDS_PER_TRACE) as usize;
    let begins = r < TRACES_OPEN;
    let slot = &mut traces[r % TRACES_OPEN];
    if begins {
        *slot = [rng.next_u64(), rng.next_u64()];
    }
    (*slot, begins)
}

fn draw_numbers(level: Level, rng: &mut Rng) -> Numbers {
    let statuses: &[u16] = match level {
        Level::Debug | Level::Info => &[200, 200, 200, 200, 200, 200, 201, 204, 301, 304],
        Level::Warn => &[400, 401, 403, 404, 404, 409, 429],
        Level::Error => &[500, 500, 502, 503, 504],
    };
    let status = statuses[rng.below(statuses.len() as u64) as usize];
    // The product of three uniform draws has the long tail that latencies have.
    let tail = (rng.below(2000) + 1) * (rng.below(2000) + 1) * (rng.below(2000) + 1);
    let duration_us = tail / 1000 + 50;
    let bytes = 40 + rng.below(1000) * rng.below(1000);
    Numbers { status, duration_us, bytes }
}

fn write_numbers(numbers: &Numbers, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"status\":");
    number(out, u64::from(numbers.status));
    out.extend_from_slice(b",\"duration_ms\":");
    number(out, numbers.duration_us / 1000);
    if !numbers.duration_us.is_multiple_of(1000) {
        // The shortest form, as every JSON encoder of floats writes it: no zeros at the end.
        out.push(b'.');
        padded(out, numbers.duration_us % 1000, 3);
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
    out.extend_from_slice(b",\"bytes\":");
    number(out, numbers.bytes);
}

fn build_pods(catalogue: &Catalogue, rng: &mut Rng) -> Vec<Pod> {
    let mut pods = Vec::with_capacity(PODS);
    for (service, spec) in catalogue.services.iter().enumerate() {
        let version = format!("v{}.{}.{}", rng.between(1, 4), rng.below(60), rng.below(10));
        for _ in 0..spec.pods {
            // 73 shares no factor with 200, so that two pods share a host and a service is spread.
            let host = (pods.len() * 73 + pods.len() / HOSTS) % HOSTS;
            let (mut name, mut host_text) = (Vec::new(), Vec::new());
            pod_name(&mut name, spec.name, rng.next_u64());
            host_name(&mut host_text, host as u64);
            let name = String::from_utf8_lossy(&name).into_owned();
            let labels = format!(
                r#","service":"{}","namespace":"{}","host":"{}","pod":"{}","version":"{}""#,
                spec.name,
                spec.namespace,
                String::from_utf8_lossy(&host_text),
                name,
                version
            );
            pods.push(Pod { service, host, labels: labels.into_bytes(), name });
        }
    }
    assert_eq!(pods.len(), PODS, "templates.txt must give {PODS} pods");
    pods
}

/// Each pod as often as its share says: its service's weight divided among the service's pods.
fn build_pod_table(catalogue: &Catalogue, pods: &[Pod]) -> Vec<u16> {
    let total: u64 = catalogue.services.iter().map(|service| service.weight).sum();
    let mut table = Vec::with_capacity(POD_TABLE);
    let mut filled = 0.0;
    for (index, pod) in pods.iter().enumerate() {
        let service = &catalogue.services[pod.service];
        filled += service.weight as f64 / service.pods as f64 / total as f64 * POD_TABLE as f64;
        let end = (filled.round() as usize).min(POD_TABLE);
        table.resize(end.max(table.len()), index as u16);
    }
    table.resize(POD_TABLE, (pods.len() - 1) as u16);
    table
}

impl Generator for Fleet {
    fn next_line(&mut self, out: &mut Vec<u8>) -> bool {
        self.next_record(out).is_some()
    }
}
