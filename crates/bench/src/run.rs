//! `lodge-bench run`: stores a corpus in a fresh server and asks every class of queries.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use jiff::Timestamp;

use crate::classes::Class;
use crate::corpus::Corpus;
use crate::lodge::LodgeServer;
use crate::report::{IngestFigures, Machine, QueryFigures, Report, Spread, WorkloadFigures};
use crate::target::{Ingested, Target};
use crate::workload::Facts;

/// Each class is asked at least so often after its first run …
const RUNS_MIN: usize = 5;
/// … and until it has run so long in all …
const CLASS_TIME: Duration = Duration::from_secs(3);
/// … but not more often than this.
const RUNS_MAX: usize = 300;
/// How often we look whether superseded files are gone.
const SWEEP_LOOK_EVERY: Duration = Duration::from_secs(5);

/// What to measure with.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The `lodge` binary.
    pub lodge: PathBuf,
    /// Where the data and logs of the run go; emptied of them at its end.
    pub dir: PathBuf,
    /// The corpus's seed, for the report.
    pub seed: u64,
    /// How long to wait for the deletion of superseded files before disk use is taken.
    pub sweep_wait: Duration,
    /// The command line, for the report.
    pub command: String,
}

/// Measures Lodge; `tell` hears what is going on.
///
/// # Errors
/// When a process fails or a query is refused. A wrong answer is in the report, not an error.
pub async fn run(
    options: &RunOptions,
    corpus: &Corpus,
    mut tell: impl FnMut(&str),
) -> anyhow::Result<Report> {
    let dir = tempfile::Builder::new()
        .prefix("lodge-bench-")
        .tempdir_in(&options.dir)
        .with_context(|| format!("cannot make a folder in {}", options.dir.display()))?;
    let data_dir = dir.path().join("data");
    let mut server = LodgeServer::start(&options.lodge, &data_dir, dir.path()).await?;
    let report = measure(&mut server, options, corpus, &mut tell).await?;
    server.stop().await;
    Ok(report)
}

async fn measure<T: Target>(
    target: &mut T,
    options: &RunOptions,
    corpus: &Corpus,
    tell: &mut impl FnMut(&str),
) -> anyhow::Result<Report> {
    let facts = &corpus.facts;
    tell("storing the corpus");
    let ingested = target.ingest(corpus).await?;
    let at_rest = Instant::now();
    let mut queries = Vec::new();
    for class in Class::ALL {
        tell(class.name());
        let question = target.question(class, facts);
        let figures = ask(target, class, facts).await.with_context(|| question.clone())?;
        queries.push(QueryFigures { question, ..figures });
    }
    tell("waiting until superseded files are deleted");
    let disk_bytes = swept_disk_bytes(target, at_rest, options.sweep_wait).await?;
    Ok(Report {
        target: target.version().to_owned(),
        date: Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        command: options.command.clone(),
        machine: Machine::this(),
        workload: WorkloadFigures {
            seed: options.seed,
            records: facts.records,
            bytes: facts.bytes,
            message_bytes: facts.message_bytes,
        },
        ingest: ingest_figures(&ingested, facts, disk_bytes),
        queries,
    })
}

fn ingest_figures(ingested: &Ingested, facts: &Facts, disk_bytes: u64) -> IngestFigures {
    let cpu_s = ingested.server.cpu_s + ingested.client.cpu_s;
    IngestFigures {
        acknowledged_s: ingested.acknowledged.as_secs_f64(),
        settled_s: ingested.settled.as_secs_f64(),
        server_cpu_s: ingested.server.cpu_s,
        client_cpu_s: ingested.client.cpu_s,
        cpu_s_per_gb: cpu_s / (facts.bytes as f64 / 1e9),
        server_rss_peak_bytes: ingested.server.rss_peak_bytes,
        client_rss_peak_bytes: ingested.client.rss_peak_bytes,
        disk_bytes_at_once: ingested.disk_bytes,
        disk_bytes,
    }
}

/// Asks one class until its figures are steady. The first run, which warms caches and is checked,
/// is reported apart.
async fn ask<T: Target>(target: &T, class: Class, facts: &Facts) -> anyhow::Result<QueryFigures> {
    let begun = Instant::now();
    let answer = target.ask(class, facts).await?;
    let first_ms = begun.elapsed().as_secs_f64() * 1e3;
    let rows = target.read(class, &answer)?;
    let wrong = class.check(facts, &rows).err().map(|error| format!("WRONG: {error:#}"));

    let cpu_before_s = target.usage()?.cpu_s;
    let begun = Instant::now();
    let mut samples_ms = Vec::new();
    while samples_ms.len() < RUNS_MIN
        || (samples_ms.len() < RUNS_MAX && begun.elapsed() < CLASS_TIME)
    {
        let run = Instant::now();
        target.ask(class, facts).await?;
        samples_ms.push(run.elapsed().as_secs_f64() * 1e3);
    }
    let cpu_s = target.usage()?.cpu_s - cpu_before_s;
    let spread = Spread::of(&mut samples_ms);
    Ok(QueryFigures {
        class: class.name().to_owned(),
        question: String::new(),
        rows: rows.len() as u64,
        wrong,
        first_ms,
        median_ms: spread.median,
        p99_ms: spread.p99,
        max_ms: spread.max,
        cpu_ms: cpu_s * 1e3 / samples_ms.len() as f64,
        runs: samples_ms.len(),
    })
}

/// The disk use once `wait` has passed since the store came to rest.
async fn swept_disk_bytes<T: Target>(
    target: &T,
    at_rest: Instant,
    wait: Duration,
) -> anyhow::Result<u64> {
    while at_rest.elapsed() < wait {
        tokio::time::sleep(SWEEP_LOOK_EVERY.min(wait - at_rest.elapsed().min(wait))).await;
    }
    target.disk_bytes()
}

/// The folder for corpora: kept between runs, so that they are generated once.
pub fn corpus_dir(dir: &Path) -> PathBuf {
    dir.join("corpus")
}
