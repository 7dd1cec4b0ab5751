//! `lodge-bench freshness`: how long after a line was appended to a file a query finds it, while
//! logs flow into other files of the same agent.
//!
//! Invariants: the clock starts before the line is written; a probe that is not found within
//! [`PROBE_MAX`] ends the run with an error; at the end every line that was written must have been
//! stored, or the run fails.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use jiff::Timestamp;
use serde::Serialize;

use crate::load::{Load, append_to};
use crate::lodge::LodgeServer;
use crate::process::Process;
use crate::report::{Machine, Spread};
use crate::target::Target;

/// The time between two probes.
const PROBE_EVERY: Duration = Duration::from_millis(500);
/// How long one probe may take.
const PROBE_MAX: Duration = Duration::from_secs(30);
/// How long a query that found nothing waits before it is asked again.
const ASK_EVERY: Duration = Duration::from_millis(3);
/// How long the last lines may take to arrive.
const ARRIVAL_MAX: Duration = Duration::from_secs(120);

/// How to measure.
#[derive(Clone, Debug)]
pub struct FreshnessOptions {
    /// The `lodge` binary.
    pub lodge: PathBuf,
    /// Where the run's folder is made; removed at its end.
    pub dir: PathBuf,
    /// Load in bytes a second.
    pub rate_bytes_per_s: u64,
    /// How long the load flows.
    pub time: Duration,
    /// The load's seed.
    pub seed: u64,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Freshness {
    /// What was measured, with its version.
    pub target: String,
    /// Where.
    pub machine: Machine,
    /// Probes found, each within the times below.
    pub probes: usize,
    /// The middle time from append to answer.
    pub median_ms: f64,
    /// The 99th percentile.
    pub p99_ms: f64,
    /// The slowest.
    pub max_ms: f64,
    /// The load that really flowed, in MB a second.
    pub load_mb_per_s: f64,
    /// Lines written, all of which were stored.
    pub lines: u64,
    /// Until the last line was stored, after the load had ended.
    pub drained_s: f64,
    /// CPU seconds of the server.
    pub server_cpu_s: f64,
    /// CPU seconds of the agent.
    pub agent_cpu_s: f64,
    /// Most memory of the server.
    pub server_rss_peak_bytes: u64,
    /// Most memory of the agent.
    pub agent_rss_peak_bytes: u64,
}

/// Measures it with a real server and a real agent.
///
/// # Errors
/// When a process fails, a probe is not found, or a line is missing at the end.
pub async fn measure(options: &FreshnessOptions) -> anyhow::Result<Freshness> {
    let dir = tempfile::Builder::new()
        .prefix("lodge-freshness-")
        .tempdir_in(&options.dir)
        .with_context(|| format!("cannot make a folder in {}", options.dir.display()))?;
    let logs = dir.path().join("logs");
    fs::create_dir(&logs).context("the folder of the log files")?;
    let mut server =
        LodgeServer::start(&options.lodge, &dir.path().join("data"), dir.path()).await?;
    let agent = start_agent(&options.lodge, &server.client().url(), dir.path(), &logs)?;
    let begun = Instant::now();
    let load = Load::start(options.rate_bytes_per_s, options.time, options.seed, &logs)?;
    let samples = probe(&mut server, &logs, options.time).await;
    let load_s = begun.elapsed().as_secs_f64();
    let written = load.stop()?;
    let mut samples_ms = samples?;
    let lines = written.lines + samples_ms.len() as u64;
    let drained = arrival(&mut server, lines).await?;
    let (server_usage, agent_usage) = (server.usage()?, agent.usage()?);
    let probes = samples_ms.len();
    let spread = Spread::of(&mut samples_ms);
    let result = Freshness {
        target: server.version().to_owned(),
        machine: Machine::this(),
        probes,
        median_ms: spread.median,
        p99_ms: spread.p99,
        max_ms: spread.max,
        load_mb_per_s: written.bytes as f64 / 1e6 / load_s,
        lines,
        drained_s: drained.as_secs_f64(),
        server_cpu_s: server_usage.cpu_s,
        agent_cpu_s: agent_usage.cpu_s,
        server_rss_peak_bytes: server_usage.rss_peak_bytes,
        agent_rss_peak_bytes: agent_usage.rss_peak_bytes,
    };
    drop(agent);
    server.stop().await;
    Ok(result)
}

fn start_agent(lodge: &Path, url: &str, dir: &Path, logs: &Path) -> anyhow::Result<Process> {
    let config = dir.join("agent.toml");
    let (state, pattern) = (dir.join("agent-state"), logs.join("*.log"));
    let text = format!(
        "servers = [{url:?}]\nstate_dir = {:?}\n\n[[files]]\npaths = [{:?}]\n",
        state.display().to_string(),
        pattern.display().to_string()
    );
    fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
    let args = ["agent".as_ref(), "--config".as_ref(), config.as_os_str()];
    Process::start(lodge, &args, &dir.join("agent.log"))
}

/// Appends a line with a word of its own, asks until it is found, and so on; gives milliseconds.
async fn probe(server: &mut LodgeServer, logs: &Path, time: Duration) -> anyhow::Result<Vec<f64>> {
    let path = logs.join("probe.log");
    let mut file = append_to(&path)?;
    let begun = Instant::now();
    let mut samples_ms = Vec::new();
    while begun.elapsed() < time {
        let word = format!("probe{:06}x{}", samples_ms.len(), std::process::id());
        let line = format!("{{\"_time\":\"{}\",\"message\":\"{word}\"}}\n", Timestamp::now());
        let query = format!("_time:5m {word}");
        let appended = Instant::now();
        file.write_all(line.as_bytes()).context("the probe's file")?;
        while server.logsql(&query).await?.is_empty() {
            if appended.elapsed() > PROBE_MAX {
                server.ensure_running()?;
                bail!("the line with {word} was not found within {PROBE_MAX:?}");
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
        samples_ms.push(appended.elapsed().as_secs_f64() * 1e3);
        tokio::time::sleep(PROBE_EVERY.saturating_sub(appended.elapsed())).await;
    }
    Ok(samples_ms)
}

/// Waits until as many records are stored as lines were written: none fewer, and none more.
pub(crate) async fn arrival(server: &mut LodgeServer, lines: u64) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    loop {
        server.ensure_running()?;
        let rows = server.status().await?.rows;
        ensure!(rows <= lines, "{rows} records stored of {lines} lines");
        if rows == lines {
            return Ok(begun.elapsed());
        }
        let waited = begun.elapsed();
        ensure!(waited < ARRIVAL_MAX, "{rows} of {lines} lines stored after {waited:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
