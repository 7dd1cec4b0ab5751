//! A deterministic Kubernetes-like fleet as JSON lines: what benchmarks store and search.
//!
//! 20 services on 200 hosts in 400 pods write records of about 365 bytes: time, labels, level, a
//! trace id shared by about five records, three numeric fields on a third of them, and a message
//! from more than 200 templates with random variables (so it is hard to compress, as identifiers
//! and addresses are). Four words are planted to be searched for: see [`planted`].
//!
//! Invariants: the same options give the same bytes, in every release; what is random comes from
//! [`Rng`] alone.

pub mod facts;
mod templates;
mod variables;

use std::ops::Range;
use std::time::Duration;

use crate::rng::Rng;

pub use facts::{Facts, Observer};
use templates::Catalogue;
use variables::{hex_fixed, host_name, number, padded, pod_name};

/// How many hosts the fleet has.
pub const HOSTS: usize = 200;
/// How many pods the fleet has; each is one stream.
pub const PODS: usize = 400;
/// The fields that make a record's stream.
pub const STREAM_FIELDS: [&str; 4] = ["service", "namespace", "host", "pod"];
/// The field that holds the message.
pub const MESSAGE_FIELD: &str = "message";
/// The field that holds the time.
pub const TIME_FIELD: &str = "_time";

/// The words that are put into messages at known counts.
pub mod planted {
    /// In exactly one record.
    pub const NEEDLE: &str = "xyloneedle7q";
    /// In 100 records, spread evenly with random offsets.
    pub const HUNDRED: &str = "quokkahundred";
    /// In one of every thousand records.
    pub const PER_MILLE: &str = "zanzibarrare";
    /// In one of every hundred records.
    pub const PER_CENT: &str = "marmotcommon";
}

/// What to generate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadOptions {
    /// How many records.
    pub records: u64,
    /// Same seed, same bytes.
    pub seed: u64,
    /// Time of the first record, nanoseconds since 1970.
    pub start_ns: i64,
    /// The time from the first record to the last.
    pub span: Duration,
}

impl Default for WorkloadOptions {
    /// 4.2 million records over the 24 hours of 2026-11-20, about 1.5 GB.
    fn default() -> Self {
        Self {
            records: 4_200_000,
            seed: 1,
            start_ns: 1_795_132_800_000_000_000,
            span: Duration::from_secs(24 * 3600),
        }
    }
}

/// How bad a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// 8 % of the records.
    Debug,
    /// 85 %.
    Info,
    /// 5 %.
    Warn,
    /// 2 %.
    Error,
}

impl Level {
    /// All levels, mildest first.
    pub const ALL: [Self; 4] = [Self::Debug, Self::Info, Self::Warn, Self::Error];

    /// The text in the `level` field.
    pub fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }

    fn from_letter(letter: &str) -> Option<Self> {
        match letter {
            "D" => Some(Self::Debug),
            "I" => Some(Self::Info),
            "W" => Some(Self::Warn),
            "E" => Some(Self::Error),
            _ => None,
        }
    }

    fn draw(rng: &mut Rng) -> Self {
        match rng.below(100) {
            0..=84 => Self::Info,
            85..=92 => Self::Debug,
            93..=97 => Self::Warn,
            _ => Self::Error,
        }
    }
}

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

/// What one call of [`Workload::next_record`] wrote.
#[derive(Clone, Debug)]
pub struct Written {
    /// Its time, nanoseconds since 1970.
    pub time_ns: i64,
    /// Its level.
    pub level: Level,
    /// Index into [`Workload::service_names`].
    pub service: usize,
    /// Index of the pod, `0..PODS`; see [`Workload::pod_name`].
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
pub struct Workload {
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

impl Workload {
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
        Self { options, catalogue, pods, pod_table, rng, traces, index: 0, plants, clock }
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

    /// How many records about `bytes` bytes of these options have (their count is ignored).
    pub fn records_for_bytes(options: &WorkloadOptions, bytes: u64) -> u64 {
        const SAMPLE: u64 = 20_000;
        let mut sample = Self::new(WorkloadOptions { records: SAMPLE, ..options.clone() });
        let mut out = Vec::new();
        while sample.next_record(&mut out).is_some() {}
        (u128::from(bytes) * u128::from(SAMPLE) / out.len() as u128) as u64
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
        self.catalogue.write(template, rng, out);
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

/// Evenly spaced with up to 200 ms of delay; one record in a hundred is up to 5 s late, as shippers
/// are.
fn record_time(options: &WorkloadOptions, index: u64, rng: &mut Rng) -> i64 {
    let share = u128::from(index) * options.span.as_nanos() / u128::from(options.records.max(1));
    let r = rng.next_u64();
    let delay_ns_max: u64 = if r.is_multiple_of(100) { 5_000_000_000 } else { 200_000_000 };
    let delay = (u128::from(r) * u128::from(delay_ns_max)) >> 64;
    options.start_ns.saturating_add(i64::try_from(share + delay).unwrap_or(i64::MAX))
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

/// Where the planted words go. Draws from a generator of its own so that planting shifts nothing
/// else.
struct Plants {
    records: u64,
    needle: u64,
    hundred: Cadence,
    per_mille: Cadence,
    per_cent: Cadence,
}

impl Plants {
    fn new(records: u64, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let needle = records / 4 + rng.below(records / 2 + 1);
        let stride = (records / 100).max(1);
        Self {
            records,
            needle,
            hundred: Cadence::new(stride, 100, rng.next_u64()),
            per_mille: Cadence::new(1000, u64::MAX, rng.next_u64()),
            per_cent: Cadence::new(100, u64::MAX, rng.next_u64()),
        }
    }

    fn write(&mut self, index: u64, out: &mut Vec<u8>) {
        let due = [
            (index == self.needle, planted::NEEDLE),
            (self.hundred.due(index, self.records), planted::HUNDRED),
            (self.per_mille.due(index, self.records), planted::PER_MILLE),
            (self.per_cent.due(index, self.records), planted::PER_CENT),
        ];
        for (due, word) in due {
            if due {
                out.push(b' ');
                out.extend_from_slice(word.as_bytes());
            }
        }
    }
}

/// One record of every full stretch of `stride` records, at a random place in it.
struct Cadence {
    stride: u64,
    stretches_max: u64,
    next: u64,
    rng: Rng,
}

impl Cadence {
    fn new(stride: u64, stretches_max: u64, seed: u64) -> Self {
        Self { stride, stretches_max, next: 0, rng: Rng::new(seed) }
    }

    fn due(&mut self, index: u64, records: u64) -> bool {
        let stretch = index / self.stride;
        if index.is_multiple_of(self.stride) {
            self.next = index + self.rng.below(self.stride);
        }
        // A stretch that the last record cuts short gets none: the counts stay exact.
        let full = (stretch + 1) * self.stride <= records;
        full && stretch < self.stretches_max && index == self.next
    }
}

/// Writes RFC 3339 with nanoseconds; keeps the text up to the minute, which rarely changes.
#[derive(Default)]
struct ClockText {
    minute: Option<i64>,
    prefix: Vec<u8>,
}

impl ClockText {
    fn write(&mut self, time_ns: i64, out: &mut Vec<u8>) {
        const MINUTE_NS: i64 = 60_000_000_000;
        let minute = time_ns.div_euclid(MINUTE_NS);
        if self.minute != Some(minute) {
            self.minute = Some(minute);
            self.prefix = minute_text(minute);
        }
        out.extend_from_slice(&self.prefix);
        let within = time_ns.rem_euclid(MINUTE_NS) as u64;
        padded(out, within / 1_000_000_000, 2);
        out.push(b'.');
        padded(out, within % 1_000_000_000, 9);
        out.push(b'Z');
    }
}

fn minute_text(minute: i64) -> Vec<u8> {
    let time = jiff::Timestamp::from_second(minute.saturating_mul(60)).unwrap_or_default();
    time.strftime("%Y-%m-%dT%H:%M:").to_string().into_bytes()
}
