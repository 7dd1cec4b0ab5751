//! `lodge-bench run`: stores each workload in Lodge and in its peers and asks every question.
//!
//! Invariants: one store runs at a time, on the same machine and the same bytes; a peer that is
//! absent or fails leaves a reason in the report, never a gap.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::ValueEnum;

use crate::clickhouse::{ClickHouse, TextIndex};
use crate::corpus::Corpus;
use crate::lodge::LodgeServer;
use crate::lodge_sql::InSql;
use crate::measure;
use crate::report::{IngestFigures, TargetFigures, WorkloadFigures};
use crate::ripgrep::Ripgrep;
use crate::target::{Ingested, Target};
use crate::victoria_logs::VictoriaLogs;

/// How often we look whether superseded files are gone.
const SWEEP_LOOK_EVERY: Duration = Duration::from_secs(5);

/// A store that Lodge is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    /// VictoriaLogs, the single binary.
    VictoriaLogs,
    /// ClickHouse with a text index.
    ClickhouseText,
    /// ClickHouse with a token Bloom filter.
    ClickhouseTokenbf,
    /// ripgrep over zstd files.
    Ripgrep,
}

impl Peer {
    fn name(self) -> &'static str {
        match self {
            Self::VictoriaLogs => "VictoriaLogs",
            Self::ClickhouseText => "ClickHouse, text index",
            Self::ClickhouseTokenbf => "ClickHouse, tokenbf_v1",
            Self::Ripgrep => "ripgrep",
        }
    }
}

/// What to measure with.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The `lodge` binary.
    pub lodge: PathBuf,
    /// Where the data and logs of the run go; emptied of them at its end.
    pub dir: PathBuf,
    /// How long to wait for the deletion of superseded files before disk use is taken.
    pub sweep_wait: Duration,
    /// Which peers.
    pub peers: Vec<Peer>,
    /// A Python that has the module `chdb`, if there is one.
    pub python: Option<PathBuf>,
    /// The `rg` program, if there is one.
    pub ripgrep: Option<PathBuf>,
    /// The `victoria-logs` program, if there is one.
    pub victoria_logs: Option<PathBuf>,
}

/// Measures Lodge and the peers on one corpus; `tell` hears what is going on.
///
/// # Errors
/// When Lodge fails. A wrong answer is in the report, not an error.
pub async fn run(
    options: &RunOptions,
    corpus: &Corpus,
    mut tell: impl FnMut(&str),
) -> anyhow::Result<WorkloadFigures> {
    let facts = &corpus.facts;
    let mut figures = WorkloadFigures {
        kind: corpus.kind,
        seed: corpus.options.seed,
        records: facts.records,
        bytes: facts.bytes,
        message_bytes: facts.message_bytes,
        classes: corpus.questions.iter().map(|question| question.class.to_owned()).collect(),
        targets: lodge(options, corpus, &mut tell).await?,
    };
    for &peer in &options.peers {
        let dir = run_dir(&options.dir)?;
        let measured = measure_peer(peer, options, corpus, dir.path(), &mut tell).await;
        let target = measured.unwrap_or_else(|error| {
            tell(&format!("{} is not measured: {error:#}", peer.name()));
            TargetFigures::not_measured(peer.name(), &format!("{error:#}"))
        });
        figures.targets.push(target);
    }
    Ok(figures)
}

/// Lodge twice: filled by `lodge import`, which is measured alone, and over HTTP, asked in LogsQL and in
/// SQL.
async fn lodge(
    options: &RunOptions,
    corpus: &Corpus,
    tell: &mut impl FnMut(&str),
) -> anyhow::Result<Vec<TargetFigures>> {
    let (over_http, in_sql) = {
        let dir = run_dir(&options.dir)?;
        let data_dir = dir.path().join("data");
        let server = LodgeServer::start(&options.lodge, &data_dir, dir.path()).await?;
        let (figures, server) = measured(server, corpus, options.sweep_wait, tell).await?;
        let mut sql = InSql::of(&server);
        let queries = measure::ask_all(&mut sql, corpus, tell).await;
        let in_sql = TargetFigures {
            name: sql.version().to_owned(),
            setup: sql.setup().to_owned(),
            queries,
            ..TargetFigures::default()
        };
        server.stop().await;
        (figures, in_sql)
    };
    let dir = run_dir(&options.dir)?;
    let data_dir = dir.path().join("data");
    let mut server = LodgeServer::start(&options.lodge, &data_dir, dir.path()).await?;
    tell(&format!("{}: importing the {} workload", server.version(), corpus.kind.name()));
    let ingested = server.import(corpus).await?;
    // Its files are of the same form as those of the other, whose superseded ones are gone.
    let disk_bytes = over_http.ingest.as_ref().map_or(0, |ingest| ingest.disk_bytes);
    let by_import = TargetFigures {
        name: format!("{} by import", server.version()),
        setup: "`lodge import` of the file; its CPU is in the sum".to_owned(),
        not_measured: None,
        ingest: Some(ingest_figures(&ingested, corpus, disk_bytes)),
        queries: Vec::new(),
    };
    server.stop().await;
    Ok(vec![over_http, in_sql, by_import])
}

async fn measure_peer(
    peer: Peer,
    options: &RunOptions,
    corpus: &Corpus,
    dir: &Path,
    tell: &mut impl FnMut(&str),
) -> anyhow::Result<TargetFigures> {
    let clickhouse = |index| {
        let python = options.python.as_deref();
        let python = python.context("no Python with the module chdb is named (--python)")?;
        ClickHouse::start(python, dir, corpus.kind, index)
    };
    let none = Duration::ZERO;
    match peer {
        Peer::ClickhouseText => measure(clickhouse(TextIndex::Text)?, corpus, none, tell).await,
        Peer::ClickhouseTokenbf => {
            measure(clickhouse(TextIndex::TokenBloom)?, corpus, none, tell).await
        }
        Peer::VictoriaLogs => {
            let program = options.victoria_logs.as_deref();
            let program = program.context("no victoria-logs program is named (--victoria-logs)")?;
            measure(VictoriaLogs::start(program, dir).await?, corpus, none, tell).await
        }
        Peer::Ripgrep => {
            let program = options.ripgrep.as_deref();
            let program = program.context("no rg program is named (--ripgrep)")?;
            measure(Ripgrep::new(program, dir)?, corpus, none, tell).await
        }
    }
}

async fn measure<T: Target>(
    target: T,
    corpus: &Corpus,
    sweep_wait: Duration,
    tell: &mut impl FnMut(&str),
) -> anyhow::Result<TargetFigures> {
    let (figures, target) = measured(target, corpus, sweep_wait, tell).await?;
    target.stop().await;
    Ok(figures)
}

/// Stores and asks; gives the store back, still running.
async fn measured<T: Target>(
    mut target: T,
    corpus: &Corpus,
    sweep_wait: Duration,
    tell: &mut impl FnMut(&str),
) -> anyhow::Result<(TargetFigures, T)> {
    tell(&format!("{}: storing the {} workload", target.version(), corpus.kind.name()));
    let ingested = target.ingest(corpus).await?;
    let at_rest = Instant::now();
    let queries = measure::ask_all(&mut target, corpus, tell).await;
    // Superseded files count until they are deleted; waiting longer than needed changes nothing.
    while at_rest.elapsed() < sweep_wait {
        let left = sweep_wait.saturating_sub(at_rest.elapsed());
        tokio::time::sleep(SWEEP_LOOK_EVERY.min(left)).await;
    }
    let disk_bytes = target.disk_bytes()?;
    let figures = TargetFigures {
        name: target.version().to_owned(),
        setup: target.setup().to_owned(),
        not_measured: None,
        ingest: Some(ingest_figures(&ingested, corpus, disk_bytes)),
        queries,
    };
    Ok((figures, target))
}

fn ingest_figures(ingested: &Ingested, corpus: &Corpus, disk_bytes: u64) -> IngestFigures {
    let gb = corpus.facts.bytes as f64 / 1e9;
    IngestFigures {
        acknowledged_s: ingested.acknowledged.as_secs_f64(),
        settled_s: ingested.settled.as_secs_f64(),
        server_cpu_s: ingested.server.cpu_s,
        client_cpu_s: ingested.client.cpu_s,
        server_cpu_s_per_gb: ingested.server.cpu_s / gb,
        cpu_s_per_gb: (ingested.server.cpu_s + ingested.client.cpu_s) / gb,
        server_rss_peak_bytes: ingested.server.rss_peak_bytes,
        client_rss_peak_bytes: ingested.client.rss_peak_bytes,
        disk_bytes_at_once: ingested.disk_bytes,
        disk_bytes,
    }
}

/// A folder for one store; removed when the handle is dropped.
pub(crate) fn run_dir(dir: &Path) -> anyhow::Result<tempfile::TempDir> {
    tempfile::Builder::new()
        .prefix("lodge-bench-")
        .tempdir_in(dir)
        .with_context(|| format!("cannot make a folder in {}", dir.display()))
}

/// The folder for corpora: kept between runs, so that they are generated once.
pub fn corpus_dir(dir: &Path) -> PathBuf {
    dir.join("corpus")
}
