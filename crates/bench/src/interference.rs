//! `lodge-bench interference`: what ingest at full speed costs the queries.
//!
//! The load is the systems workload, on the day before the fleet's: it holds none of the words that
//! are asked for and nothing newer, so every answer stays what it was and is checked before and
//! during the load.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::{Context, anyhow, bail, ensure};
use serde::Serialize;
use tokio::runtime::Builder;
use tokio::sync::oneshot;

use crate::corpus::Corpus;
use crate::lodge::LodgeServer;
use crate::logsql::Client;
use crate::measure;
use crate::report::{Machine, QueryFigures};
use crate::run::run_dir;
use crate::sender::{self, Generated, Lines};
use crate::table;
use crate::target::Target;
use crate::workload::{Kind, WorkloadOptions};

/// The classes of the fleet that are asked: those whose answers the load does not change.
const CLASSES: [&str; 7] = [
    "needle word, rows",
    "100 scattered rows",
    "trace id, rows",
    "last 100 of level + word",
    "one stream's last hour",
    "in-list of two fields, count",
    "10,000 rows out",
];

/// How much less the kernel prefers the senders of the load.
const SENDERS_BEHIND: i32 = 10;
/// How many requests are made ready; each is sent many times.
const LOAD_BODIES: usize = 40;

/// How to measure.
#[derive(Clone, Debug)]
pub struct InterferenceOptions {
    /// The `lodge` binary.
    pub lodge: PathBuf,
    /// Where the run's folder is made; removed at its end.
    pub dir: PathBuf,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Interference {
    /// What was measured, with its version.
    pub target: String,
    /// Where.
    pub machine: Machine,
    /// Bytes that were stored before.
    pub stored_bytes: u64,
    /// MB of JSON lines a second that were acknowledged meanwhile.
    pub load_mb_per_s: f64,
    /// The questions with no load.
    pub quiet: Vec<QueryFigures>,
    /// The same under load.
    pub loaded: Vec<QueryFigures>,
}

/// Stores the corpus, asks, asks again under load; `tell` hears what is going on.
///
/// # Errors
/// When the server fails or an answer is wrong.
pub async fn measure(
    options: &InterferenceOptions,
    corpus: &Corpus,
    mut tell: impl FnMut(&str),
) -> anyhow::Result<Interference> {
    let dir = run_dir(&options.dir)?;
    let data_dir = dir.path().join("data");
    let mut server = LodgeServer::start(&options.lodge, &data_dir, dir.path()).await?;
    tell("storing");
    server.ingest(corpus).await?;
    tell("asking with no load");
    let quiet = ask(&mut server, corpus).await?;

    tell("asking under load");
    let usual = WorkloadOptions::default();
    let day_ns = i64::try_from(usual.span.as_nanos()).context("the span")?;
    // The usual rate of a corpus so long that its planted words lie far behind what is sent.
    let load = WorkloadOptions {
        records: usual.records << 16,
        span: usual.span * (1 << 16),
        start_ns: usual.start_ns - day_ns,
        ..usual
    };
    let lines = Mutex::new(Repeated::new(load)?);
    let sent_bytes = Arc::new(AtomicU64::new(0));
    let address = server.client().address();
    let (stop, stopped) = oneshot::channel::<()>();
    let begun = Instant::now();
    let sent = Arc::clone(&sent_bytes);
    let load = std::thread::spawn(move || send_behind(address, &lines, &sent, stopped));
    let loaded = ask(&mut server, corpus).await;
    drop(stop);
    load.join().map_err(|_| anyhow!("the load's thread failed"))?.context("the load")?;
    let loaded = loaded?;
    let load_mb_per_s =
        sent_bytes.load(Ordering::Relaxed) as f64 / 1e6 / begun.elapsed().as_secs_f64();
    let target = server.version().to_owned();
    server.stop().await;
    let machine = Machine::this();
    Ok(Interference {
        target,
        machine,
        stored_bytes: corpus.facts.bytes,
        load_mb_per_s,
        quiet,
        loaded,
    })
}

/// Sends the load until it is told to stop. Senders stand for other machines: their thread comes behind
/// everything that is measured, and shares nothing with what asks.
fn send_behind(
    address: SocketAddr,
    lines: &Mutex<Repeated>,
    sent_bytes: &AtomicU64,
    stopped: oneshot::Receiver<()>,
) -> anyhow::Result<()> {
    rustix::process::nice(SENDERS_BEHIND).context("the senders' priority")?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = Client::new(address)?;
        tokio::select! {
            sent = sender::send(&client, Kind::Systems, lines, sent_bytes) => {
                sent.and_then(|()| bail!("it ended too soon"))
            }
            _ = stopped => Ok(()),
        }
    })
}

/// A part of a workload again and again, so that generating it costs nothing while we measure.
struct Repeated {
    bodies: Vec<Vec<u8>>,
    next: usize,
}

impl Repeated {
    fn new(options: WorkloadOptions) -> anyhow::Result<Self> {
        let generator = Kind::Systems.generator(options);
        let mut generated = Generated { generator, each: |_: &[u8]| Ok(()) };
        let bodies = (0..LOAD_BODIES).map(|_| generated.next()).collect::<anyhow::Result<_>>()?;
        Ok(Self { bodies, next: 0 })
    }
}

impl Lines for Repeated {
    fn next(&mut self) -> anyhow::Result<Vec<u8>> {
        let body = self.bodies.get(self.next % LOAD_BODIES).cloned();
        self.next += 1;
        body.context("no load")
    }
}

async fn ask(server: &mut LodgeServer, corpus: &Corpus) -> anyhow::Result<Vec<QueryFigures>> {
    let mut all = Vec::new();
    for question in &corpus.questions {
        if !CLASSES.contains(&question.class) {
            continue;
        }
        let fact = corpus.facts.answers.get(question.class);
        let figures = measure::ask(server, question, fact).await.context(question.class)?;
        ensure!(figures.wrong.is_none(), "{}: {:?}", question.class, figures.wrong);
        all.push(figures);
    }
    Ok(all)
}

impl Interference {
    /// The table, in Markdown.
    pub fn table(&self) -> String {
        let head = ["ms: median / p99", "no load", "under load", "median grows by"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for (quiet, loaded) in self.quiet.iter().zip(&self.loaded) {
            let cell = |query: &QueryFigures| {
                [query.median_ms, query.p99_ms].map(table::milliseconds).join(" / ")
            };
            let grows = 100.0 * (loaded.median_ms / quiet.median_ms - 1.0);
            rows.push(vec![
                quiet.class.clone(),
                cell(quiet),
                cell(loaded),
                format!("{grows:.0} %"),
            ]);
        }
        format!(
            "{}, {}\n{:.0} MB stored; load {:.1} MB/s over {} connections\n\n{}",
            self.target,
            self.machine.text(),
            self.stored_bytes as f64 / 1e6,
            self.load_mb_per_s,
            sender::CONNECTIONS,
            table::markdown(&rows)
        )
    }
}
