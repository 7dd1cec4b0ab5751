//! What a run found out: as JSON to keep and as a table to read.

use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::table;
use crate::workload::Kind;

/// Everything about one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// When, RFC 3339.
    pub date: String,
    /// The command that repeats it.
    pub command: String,
    /// Where.
    pub machine: Machine,
    /// What was found with each workload.
    pub workloads: Vec<WorkloadFigures>,
}

/// The machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// Cores that this process may use.
    pub cores: usize,
    /// Its memory.
    pub memory_bytes: u64,
    /// The processor's name.
    pub processor: String,
    /// The kernel's version.
    pub kernel: String,
}

impl Machine {
    /// In a few words.
    pub fn text(&self) -> String {
        format!(
            "{} cores of {}, {:.0} GB, Linux {}",
            self.cores,
            self.processor,
            self.memory_bytes as f64 / 1e9,
            self.kernel
        )
    }

    /// This machine.
    pub fn this() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let value = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let memory = value(&read("/proc/meminfo"), "MemTotal");
        let memory_kib: u64 = memory
            .and_then(|text| text.strip_suffix("kB")?.trim().parse().ok())
            .unwrap_or_default();
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: memory_kib * 1024,
            processor: value(&read("/proc/cpuinfo"), "model name").unwrap_or_default(),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        }
    }
}

/// One workload in every store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WorkloadFigures {
    /// Which.
    pub kind: Kind,
    /// Its seed.
    pub seed: u64,
    /// Records.
    pub records: u64,
    /// Size as JSON lines: the "raw" in all figures per GB.
    pub bytes: u64,
    /// The part of it that is messages.
    pub message_bytes: u64,
    /// The classes of queries, in the order of the table.
    pub classes: Vec<String>,
    /// The stores, Lodge first.
    pub targets: Vec<TargetFigures>,
}

/// One store.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TargetFigures {
    /// Its name and version.
    pub name: String,
    /// How it is set up and reached.
    pub setup: String,
    /// Why there are no figures of it.
    pub not_measured: Option<String>,
    /// What storing took.
    pub ingest: Option<IngestFigures>,
    /// What each class of queries took that it can answer.
    pub queries: Vec<QueryFigures>,
}

impl TargetFigures {
    pub(crate) fn not_measured(name: &str, why: &str) -> Self {
        let not_measured = Some(why.to_owned());
        Self { name: name.to_owned(), not_measured, ..Self::default() }
    }
}

/// What storing took. GB are 10^9 bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IngestFigures {
    /// Seconds until the client had its last acknowledgement.
    pub acknowledged_s: f64,
    /// Seconds until all was built and the server idle.
    pub settled_s: f64,
    /// CPU seconds of the server from the first byte until then.
    pub server_cpu_s: f64,
    /// CPU seconds of the client, where it is not part of the store.
    pub client_cpu_s: f64,
    /// The server's, per GB of JSON lines.
    pub server_cpu_s_per_gb: f64,
    /// Both, per GB of JSON lines.
    pub cpu_s_per_gb: f64,
    /// Most memory of the server during it.
    pub server_rss_peak_bytes: u64,
    /// Most memory of the client.
    pub client_rss_peak_bytes: u64,
    /// Files right after it, superseded ones that wait for their deletion included.
    pub disk_bytes_at_once: u64,
    /// Files after the superseded ones were deleted.
    pub disk_bytes: u64,
}

/// One class of queries.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct QueryFigures {
    /// Its name.
    pub class: String,
    /// The question as it was asked.
    pub question: String,
    /// Rows in the answer.
    pub rows: u64,
    /// What is wrong with the answer; none if it was exactly right.
    pub wrong: Option<String>,
    /// The first run, in milliseconds.
    pub first_ms: f64,
    /// The middle one of the others.
    pub median_ms: f64,
    /// The 99th percentile (with few runs: the slowest).
    pub p99_ms: f64,
    /// The slowest.
    pub max_ms: f64,
    /// CPU of the server per run.
    pub cpu_ms: f64,
    /// How many runs after the first.
    pub runs: usize,
}

impl Report {
    /// Writes it as JSON.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        std::fs::write(path, serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// The tables, in Markdown.
    pub fn table(&self) -> String {
        let mut out = format!("{}, {}\n`{}`\n", self.date, self.machine.text(), self.command);
        for workload in &self.workloads {
            out.push_str(&table::workload(workload));
        }
        out
    }

    /// The answers of Lodge that are wrong or refused.
    pub fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for workload in &self.workloads {
            for query in workload.targets.iter().take(1).flat_map(|target| &target.queries) {
                if let Some(what) = &query.wrong {
                    wrong.push(format!("{}, {}: {what}", workload.kind.name(), query.class));
                }
            }
        }
        wrong
    }
}

/// Median, 99th percentile and maximum of some samples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    /// The middle one.
    pub median: f64,
    /// The smallest that at least 99 % do not exceed.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of `samples`, which are put in order; all zero when there are none.
    pub fn of(samples: &mut [f64]) -> Self {
        samples.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| {
            let rank = (samples.len() as f64 * share).ceil() as usize;
            samples.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
        };
        Self { median: at(0.5), p99: at(0.99), max: at(1.0) }
    }
}

/// How long each of several things took, in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Times {
    /// How many.
    pub count: usize,
    /// The middle one.
    pub median_ms: f64,
    /// The 99th percentile.
    pub p99_ms: f64,
}

impl Times {
    /// Of samples in milliseconds; all zero when there are none.
    pub fn of(samples: &[f64]) -> Self {
        let mut samples = samples.to_vec();
        let spread = Spread::of(&mut samples);
        Self { count: samples.len(), median_ms: spread.median, p99_ms: spread.p99 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_takes_the_ranks_that_it_names() {
        let mut samples: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        let spread = Spread::of(&mut samples);
        assert_eq!(spread, Spread { median: 100.0, p99: 198.0, max: 200.0 });
        assert_eq!(Spread::of(&mut [7.0]), Spread { median: 7.0, p99: 7.0, max: 7.0 });
        assert_eq!(Spread::of(&mut []), Spread::default());
    }
}
