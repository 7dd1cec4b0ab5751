//! Deterministic workloads as JSON lines: what benchmarks store and search.
//!
//! - [`fleet`]: a Kubernetes-like fleet with labels, trace ids, numbers and short messages;
//! - [`systems`]: raw log lines of ten kinds of system, each in its own format;
//! - [`wide`]: events of 150 fields in nested objects.
//!
//! Each says which [`Question`]s are asked about it. Four words are planted to be searched for: see
//! [`planted`].
//!
//! Invariants: the same options give the same bytes, in every release; what is random comes from
//! [`Rng`] alone; every line has the fields [`TIME_FIELD`], `level` and, as its last one,
//! [`MESSAGE_FIELD`].

pub mod fleet;
pub mod systems;
pub mod wide;

mod pieces;
mod plants;
mod stack;
mod variables;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::question::Question;
use crate::rng::Rng;

pub use fleet::Fleet;
use variables::padded;

/// The field that holds the message.
pub const MESSAGE_FIELD: &str = "message";
/// The field that holds the time.
pub const TIME_FIELD: &str = "_time";

/// One of the workloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A Kubernetes-like fleet.
    Fleet,
    /// Raw lines of ten kinds of system.
    Systems,
    /// Events of 150 fields.
    Wide,
}

impl Kind {
    /// All workloads, in the order of the report.
    pub const ALL: [Self; 3] = [Self::Fleet, Self::Systems, Self::Wide];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fleet => "fleet",
            Self::Systems => "systems",
            Self::Wide => "wide",
        }
    }

    /// What it is, for the report.
    pub fn about(self) -> &'static str {
        match self {
            Self::Fleet => "a Kubernetes-like fleet: labels, trace ids, numbers, random variables",
            Self::Systems => "raw lines of ten kinds of system in their own formats",
            Self::Wide => "wide JSON events: 150 fields, nested objects",
        }
    }

    /// Raised when the generator's bytes change, so that no old corpus is taken for a new one.
    pub fn generation(self) -> u32 {
        match self {
            Self::Fleet | Self::Wide => 1,
            Self::Systems => 2,
        }
    }

    /// The fields that make a record's stream.
    pub fn stream_fields(self) -> &'static [&'static str] {
        match self {
            Self::Fleet => fleet::STREAM_FIELDS,
            Self::Systems => systems::STREAM_FIELDS,
            Self::Wide => wide::STREAM_FIELDS,
        }
    }

    /// A generator at the first record.
    pub fn generator(self, options: WorkloadOptions) -> Box<dyn Generator + Send> {
        match self {
            Self::Fleet => Box::new(Fleet::new(options)),
            Self::Systems => Box::new(systems::Systems::new(options)),
            Self::Wide => Box::new(wide::Wide::new(options)),
        }
    }

    /// What is asked about a corpus of these options.
    pub fn questions(self, options: &WorkloadOptions) -> Vec<Question> {
        match self {
            Self::Fleet => fleet::questions(options),
            Self::Systems => systems::questions(options),
            Self::Wide => wide::questions(options),
        }
    }

    /// How many records about `bytes` bytes of these options have (their count is ignored).
    pub fn records_for_bytes(self, options: &WorkloadOptions, bytes: u64) -> u64 {
        const SAMPLE: u64 = 20_000;
        let sample = WorkloadOptions { records: SAMPLE, ..options.clone() };
        let mut generator = self.generator(sample);
        let mut out = Vec::new();
        while generator.next_line(&mut out) {}
        (u128::from(bytes) * u128::from(SAMPLE) / out.len() as u128) as u64
    }
}

/// Writes a workload line by line.
pub trait Generator {
    /// Appends the next record as one JSON line to `out`; false after the last one.
    fn next_line(&mut self, out: &mut Vec<u8>) -> bool;
}

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

impl WorkloadOptions {
    /// The end of the span: the first nanosecond after it.
    pub fn end_ns(&self) -> i64 {
        self.start_ns.saturating_add(i64::try_from(self.span.as_nanos()).unwrap_or(i64::MAX))
    }

    /// A window in the middle of the span that holds about `records` records.
    pub(crate) fn window_ns(&self, records: u64) -> (i64, i64) {
        let span_ns = self.span.as_nanos();
        let width = span_ns * u128::from(records) / u128::from(self.records.max(1));
        let width = i64::try_from(width.clamp(1, span_ns / 2)).unwrap_or(i64::MAX);
        let start = self.start_ns.saturating_add(i64::try_from(span_ns / 2).unwrap_or(0));
        (start, start.saturating_add(width))
    }
}

impl Default for WorkloadOptions {
    /// 4.2 million records over the 24 hours of 2026-11-20: 1.5 GB of the fleet.
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

    pub(crate) fn from_letter(letter: &str) -> Option<Self> {
        match letter {
            "D" => Some(Self::Debug),
            "I" => Some(Self::Info),
            "W" => Some(Self::Warn),
            "E" => Some(Self::Error),
            _ => None,
        }
    }

    pub(crate) fn draw(rng: &mut Rng) -> Self {
        match rng.below(100) {
            0..=84 => Self::Info,
            85..=92 => Self::Debug,
            93..=97 => Self::Warn,
            _ => Self::Error,
        }
    }
}

/// Evenly spaced with up to 200 ms of delay; one record in a hundred is up to 5 s late, as shippers
/// are.
pub(crate) fn record_time(options: &WorkloadOptions, index: u64, rng: &mut Rng) -> i64 {
    let share = u128::from(index) * options.span.as_nanos() / u128::from(options.records.max(1));
    let r = rng.next_u64();
    let delay_ns_max: u64 = if r.is_multiple_of(100) { 5_000_000_000 } else { 200_000_000 };
    let delay = (u128::from(r) * u128::from(delay_ns_max)) >> 64;
    options.start_ns.saturating_add(i64::try_from(share + delay).unwrap_or(i64::MAX))
}

/// Writes RFC 3339 with nanoseconds; keeps the text up to the minute, which rarely changes.
#[derive(Default)]
pub(crate) struct ClockText {
    minute: Option<i64>,
    prefix: Vec<u8>,
}

impl ClockText {
    pub(crate) fn write(&mut self, time_ns: i64, out: &mut Vec<u8>) {
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
