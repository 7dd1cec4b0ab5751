//! `lodge-bench scale`: how the time of a query grows with what is stored, warm and cold.
//!
//! Each size is a fleet of the same rate of records over a longer span, in a fresh server. The four
//! questions match about the same number of records at every size, so their times should not grow.
//! Cold means: the server was stopped, the kernel forgot all of the store's files, and this is the
//! first question to the new server.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Serialize;

use crate::check::check;
use crate::lodge::LodgeServer;
use crate::measure;
use crate::oracle::Oracle;
use crate::process;
use crate::question::Question;
use crate::report::{Machine, QueryFigures, Spread};
use crate::run::run_dir;
use crate::sender::{self, Generated};
use crate::table;
use crate::target::Target;
use crate::workload::{Kind, WorkloadOptions};

/// The classes of the fleet that are asked.
pub(crate) const CLASSES: [&str; 4] =
    ["needle word, count", "trace id, rows", "last 100 of level + word", "one stream's last hour"];

/// How to measure.
#[derive(Clone, Debug)]
pub struct ScaleOptions {
    /// The `lodge` binary.
    pub lodge: PathBuf,
    /// Where each run's folder is made; removed at its end.
    pub dir: PathBuf,
    /// Bytes of JSON lines of each size.
    pub sizes_bytes: Vec<u64>,
    /// The generator's seed.
    pub seed: u64,
    /// How often each question is asked cold.
    pub cold_runs: usize,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Scale {
    /// What was measured, with its version.
    pub target: String,
    /// Where.
    pub machine: Machine,
    /// One for each size.
    pub sizes: Vec<SizeFigures>,
}

/// One size.
#[derive(Clone, Debug, Serialize)]
pub struct SizeFigures {
    /// JSON lines.
    pub bytes: u64,
    /// Records.
    pub records: u64,
    /// Seconds until the last acknowledgement.
    pub acknowledged_s: f64,
    /// CPU seconds of the server per GB until at rest.
    pub server_cpu_s_per_gb: f64,
    /// Most memory of the server during it.
    pub server_rss_peak_bytes: u64,
    /// Files when at rest, superseded ones included.
    pub disk_bytes: u64,
    /// The questions, warm.
    pub warm: Vec<QueryFigures>,
    /// The medians of the same questions, cold, in milliseconds.
    pub cold_median_ms: Vec<f64>,
}

/// Measures every size; `tell` hears what is going on.
///
/// # Errors
/// When a server fails or an answer is wrong.
pub async fn measure(options: &ScaleOptions, mut tell: impl FnMut(&str)) -> anyhow::Result<Scale> {
    let (mut sizes, mut target) = (Vec::new(), String::new());
    for &bytes in &options.sizes_bytes {
        let (size, version) = measure_size(options, bytes, &mut tell).await?;
        sizes.push(size);
        target = version;
    }
    Ok(Scale { target, machine: Machine::this(), sizes })
}

async fn measure_size(
    options: &ScaleOptions,
    bytes: u64,
    tell: &mut impl FnMut(&str),
) -> anyhow::Result<(SizeFigures, String)> {
    let mut fleet = WorkloadOptions { seed: options.seed, ..WorkloadOptions::default() };
    let usual = fleet.records;
    fleet.records = Kind::Fleet.records_for_bytes(&fleet, bytes).max(1);
    // The usual rate: twice the records take twice the time.
    fleet.span = fleet.span.mul_f64(fleet.records as f64 / usual as f64);
    let mut questions = Kind::Fleet.questions(&fleet);
    questions.retain(|question| CLASSES.contains(&question.class));

    let dir = run_dir(&options.dir)?;
    let data_dir = dir.path().join("data");
    let mut server = LodgeServer::start(&options.lodge, &data_dir, dir.path()).await?;
    tell(&format!("{}: storing", size_text(bytes)));
    let mut oracle = Oracle::new(questions.clone());
    let begun = Instant::now();
    let generated = Generated {
        generator: Kind::Fleet.generator(fleet),
        each: |line: &[u8]| oracle.observe(line),
    };
    let lines = Mutex::new(generated);
    sender::send(server.client(), Kind::Fleet, &lines, &AtomicU64::new(0)).await?;
    let acknowledged_s = begun.elapsed().as_secs_f64();
    drop(lines);
    server.settle().await?;
    let facts = oracle.finish();
    let (usage, disk_bytes) = (server.usage()?, server.disk_bytes()?);
    let mut warm = Vec::new();
    for question in &questions {
        tell(&format!("{}: {}", size_text(bytes), question.class));
        let fact = facts.answers.get(question.class);
        let figures = measure::ask(&mut server, question, fact).await.context(question.class)?;
        ensure!(figures.wrong.is_none(), "{}: {:?}", question.class, figures.wrong);
        warm.push(figures);
    }
    let version = server.version().to_owned();
    server.stop().await;

    let mut cold_median_ms = Vec::new();
    for question in &questions {
        tell(&format!("{}: {}, cold", size_text(bytes), question.class));
        let mut samples_ms = Vec::new();
        for _ in 0..options.cold_runs {
            process::drop_file_cache(&data_dir)?;
            let mut server = LodgeServer::start(&options.lodge, &data_dir, dir.path()).await?;
            let (took, rows) = ask_once(&mut server, question).await?;
            let fact = facts.answers.get(question.class).context("no fact")?;
            check(question, fact, &rows).with_context(|| format!("{}, cold", question.class))?;
            samples_ms.push(took.as_secs_f64() * 1e3);
            server.stop().await;
        }
        cold_median_ms.push(Spread::of(&mut samples_ms).median);
    }
    let figures = SizeFigures {
        bytes: facts.bytes,
        records: facts.records,
        acknowledged_s,
        server_cpu_s_per_gb: usage.cpu_s / (facts.bytes as f64 / 1e9),
        server_rss_peak_bytes: usage.rss_peak_bytes,
        disk_bytes,
        warm,
        cold_median_ms,
    };
    Ok((figures, version))
}

async fn ask_once(
    server: &mut LodgeServer,
    question: &Question,
) -> anyhow::Result<(Duration, Vec<crate::check::Row>)> {
    let begun = Instant::now();
    let answer = server.ask(question).await?;
    let took = begun.elapsed();
    Ok((took, server.read(question, &answer)?))
}

fn size_text(bytes: u64) -> String {
    match bytes as f64 {
        bytes if bytes >= 1e9 => format!("{:.1} GB", bytes / 1e9),
        bytes => format!("{:.0} MB", bytes / 1e6),
    }
}

impl Scale {
    /// The table, in Markdown.
    pub fn table(&self) -> String {
        let head = self.sizes.iter().map(|size| size_text(size.bytes));
        let mut rows: Vec<Vec<String>> =
            vec![std::iter::once("ms: warm median / p99 / cold".to_owned()).chain(head).collect()];
        for class in CLASSES {
            let cells = self.sizes.iter().map(|size| {
                let warm = size.warm.iter().find(|query| query.class == class);
                let at = size.warm.iter().position(|query| query.class == class);
                let cold = at.and_then(|at| size.cold_median_ms.get(at)).copied();
                let warm = warm.map_or((0.0, 0.0), |query| (query.median_ms, query.p99_ms));
                [warm.0, warm.1, cold.unwrap_or_default()].map(table::milliseconds).join(" / ")
            });
            rows.push(std::iter::once(class.to_owned()).chain(cells).collect());
        }
        let line = |name: &str, read: fn(&SizeFigures) -> String| {
            std::iter::once(name.to_owned()).chain(self.sizes.iter().map(read)).collect()
        };
        rows.push(line("server CPU-s/GB", |size| format!("{:.2}", size.server_cpu_s_per_gb)));
        rows.push(line("peak RSS MB", |size| {
            format!("{:.0}", size.server_rss_peak_bytes as f64 / 1e6)
        }));
        rows.push(line("disk MB, L0s not swept yet among them", |size| {
            format!("{:.0}", size.disk_bytes as f64 / 1e6)
        }));
        format!("{}, {}\n\n{}", self.target, self.machine.text(), table::markdown(&rows))
    }
}
