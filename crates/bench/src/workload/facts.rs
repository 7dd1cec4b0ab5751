//! What is true of a generated corpus: the right answers to the benchmark's questions.
//!
//! Invariant: facts are gathered from the lines as written (words are searched for in the text),
//! not from what the generator meant to write; the tests hold the two against each other.

use std::collections::BTreeMap;

use memchr::memmem::Finder;
use regex::bytes::Regex;
use serde::{Deserialize, Serialize};

use super::{Level, PODS, Workload, Written, planted, trace_text};

/// The width of the histogram's buckets.
pub const BUCKET_NS: i64 = 600_000_000_000;
/// The regular expression that the benchmark looks for: part of an address, so no word of it is a
/// literal.
pub const REGEX: &str = r"[0-9]{3}\.[0-9]{2,3}\.1[0-9]\.";
/// Looked for inside words ("receiver").
pub const SUBSTRING: &str = "ceiver";
/// A word that belongs to the templates of failures.
pub const FAILED: &str = "failed";
/// How many newest failures are kept.
pub const NEWEST: usize = 100;

/// The `duration_ms` of one service's records.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceNumbers {
    /// How many records have the numeric fields.
    pub count: u64,
    /// Sum of `duration_ms` in thousandths, exact.
    pub duration_us_sum: u64,
    /// `duration_ms` in thousandths at ranks 0.985, 0.99 and 0.995: what a p99 may be.
    pub duration_us_p99: [u64; 3],
}

/// The trace that is looked up: the first to begin after the middle of the corpus.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceFacts {
    /// Its 32 hex digits.
    pub id: String,
    /// How many records carry it.
    pub records: u64,
}

/// The last hour of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamHour {
    /// The pod whose stream it is.
    pub pod: String,
    /// First nanosecond of the hour.
    pub start_ns: i64,
    /// First nanosecond after it.
    pub end_ns: i64,
    /// How many records are in it.
    pub records: u64,
}

/// The right answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// How many records.
    pub records: u64,
    /// Their size as JSON lines.
    pub bytes: u64,
    /// The part of it that is messages.
    pub message_bytes: u64,
    /// Records by word in the message: the planted ones and [`FAILED`].
    pub words: BTreeMap<String, u64>,
    /// Records whose message matches [`REGEX`].
    pub regex: u64,
    /// Records whose message contains [`SUBSTRING`].
    pub substring: u64,
    /// Records by level.
    pub levels: BTreeMap<String, u64>,
    /// Records by bucket start (nanoseconds, multiples of [`BUCKET_NS`]), in the order of
    /// [`Level::ALL`].
    pub histogram: BTreeMap<i64, [u64; 4]>,
    /// Records of level error by host.
    pub errors_by_host: BTreeMap<String, u64>,
    /// Times of the newest [`NEWEST`] records of level error with [`FAILED`] in the message, newest
    /// first.
    pub newest_failures_ns: Vec<i64>,
    /// Numeric fields by service.
    pub services: BTreeMap<String, ServiceNumbers>,
    /// One trace to look up.
    pub trace: TraceFacts,
    /// One stream's last hour.
    pub stream_hour: StreamHour,
    /// Earliest time.
    pub time_min_ns: i64,
    /// Latest time.
    pub time_max_ns: i64,
}

/// Gathers [`Facts`] while a corpus is written.
pub struct Observer {
    facts: Facts,
    words: Vec<(&'static str, Finder<'static>, u64)>,
    substring: Finder<'static>,
    regex: Regex,
    errors_by_pod: Vec<u64>,
    durations_us: Vec<Vec<u32>>,
    failures_ns: Vec<i64>,
    trace: Option<[u64; 2]>,
    middle: u64,
    /// The pod whose last hour is counted.
    pod: usize,
}

impl Observer {
    /// For a corpus that is about to be written by `workload`.
    pub fn new(workload: &Workload) -> Self {
        let options = workload.options();
        let end_ns = options.start_ns + i64::try_from(options.span.as_nanos()).unwrap_or(0);
        let pod = PODS / 2;
        let words =
            [planted::NEEDLE, planted::HUNDRED, planted::PER_MILLE, planted::PER_CENT, FAILED];
        Self {
            facts: Facts {
                stream_hour: StreamHour {
                    pod: workload.pod_name(pod).to_owned(),
                    start_ns: end_ns - 3_600_000_000_000,
                    end_ns,
                    records: 0,
                },
                time_min_ns: i64::MAX,
                time_max_ns: i64::MIN,
                ..Facts::default()
            },
            words: words.map(|word| (word, Finder::new(word), 0)).into(),
            substring: Finder::new(SUBSTRING),
            regex: Regex::new(REGEX).expect("REGEX is valid"),
            errors_by_pod: vec![0; PODS],
            durations_us: vec![Vec::new(); workload.service_names().len()],
            failures_ns: Vec::new(),
            trace: None,
            middle: options.records / 2,
            pod,
        }
    }

    /// Takes one record's line (with its line feed); `written.message` must point into `line`.
    pub fn observe(&mut self, written: &Written, line: &[u8]) {
        let message = &line[written.message.clone()];
        self.facts.records += 1;
        self.facts.bytes += line.len() as u64;
        self.facts.message_bytes += message.len() as u64;
        self.facts.time_min_ns = self.facts.time_min_ns.min(written.time_ns);
        self.facts.time_max_ns = self.facts.time_max_ns.max(written.time_ns);
        let bucket = written.time_ns.div_euclid(BUCKET_NS) * BUCKET_NS;
        self.facts.histogram.entry(bucket).or_default()[written.level as usize] += 1;
        self.observe_message(written, message);
        if written.level == Level::Error {
            self.errors_by_pod[written.pod] += 1;
        }
        if let Some(numbers) = &written.numbers {
            let duration_us = u32::try_from(numbers.duration_us).unwrap_or(u32::MAX);
            self.durations_us[written.service].push(duration_us);
        }
        if self.trace.is_none() && written.trace_begins && self.facts.records > self.middle {
            self.trace = Some(written.trace);
        }
        if self.trace == Some(written.trace) {
            self.facts.trace.records += 1;
        }
        let hour = &mut self.facts.stream_hour;
        if written.pod == self.pod && (hour.start_ns..hour.end_ns).contains(&written.time_ns) {
            hour.records += 1;
        }
    }

    fn observe_message(&mut self, written: &Written, message: &[u8]) {
        for (word, finder, count) in &mut self.words {
            if !has_word(finder, message) {
                continue;
            }
            *count += 1;
            if *word == FAILED && written.level == Level::Error {
                self.failures_ns.push(written.time_ns);
            }
        }
        self.facts.substring += u64::from(self.substring.find(message).is_some());
        self.facts.regex += u64::from(self.regex.is_match(message));
    }

    /// The facts, after the last record.
    pub fn finish(mut self, workload: &Workload) -> Facts {
        for level in Level::ALL {
            let count = self.facts.histogram.values().map(|row| row[level as usize]).sum();
            self.facts.levels.insert(level.name().to_owned(), count);
        }
        for (word, _, count) in &self.words {
            self.facts.words.insert((*word).to_owned(), *count);
        }
        for (pod, &count) in self.errors_by_pod.iter().enumerate() {
            if count > 0 {
                *self.facts.errors_by_host.entry(workload.host_of(pod)).or_default() += count;
            }
        }
        self.failures_ns.sort_unstable_by(|a, b| b.cmp(a));
        self.failures_ns.truncate(NEWEST);
        self.facts.newest_failures_ns = self.failures_ns;
        for (name, durations) in workload.service_names().iter().zip(self.durations_us) {
            self.facts.services.insert((*name).to_owned(), service_numbers(durations));
        }
        self.facts.trace.id = self.trace.map(trace_text).unwrap_or_default();
        self.facts
    }
}

fn service_numbers(mut durations_us: Vec<u32>) -> ServiceNumbers {
    durations_us.sort_unstable();
    let at = |share: f64| {
        let last = durations_us.len().saturating_sub(1);
        durations_us.get((last as f64 * share).round() as usize).copied().map_or(0, u64::from)
    };
    ServiceNumbers {
        count: durations_us.len() as u64,
        duration_us_sum: durations_us.iter().copied().map(u64::from).sum(),
        duration_us_p99: [at(0.985), at(0.99), at(0.995)],
    }
}

/// Whether the needle occurs as a word: with no letter, digit or underscore beside it.
fn has_word(finder: &Finder<'_>, message: &[u8]) -> bool {
    let length = finder.needle().len();
    let is_word = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
    finder.find_iter(message).any(|start| {
        let before = start.checked_sub(1).and_then(|i| message.get(i));
        !is_word(before) && !is_word(message.get(start + length))
    })
}
