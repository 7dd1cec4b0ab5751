//! VictoriaLogs as a target: its single binary on a free loopback port.
//!
//! It runs as its documentation recommends for one machine: no settings but where its data is and
//! that the corpus's days are within its retention. It acknowledges when records are in memory and
//! writes them to disk within five seconds, so its ingest promises less than Lodge's.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::check::{Row, check};
use crate::corpus::Corpus;
use crate::logsql::{Client, Request};
use crate::oracle::Fact;
use crate::process::{self, Process, Usage};
use crate::question::{Filter, Question, Shape};
use crate::sender::{self, FileLines};
use crate::target::{Ingested, Target};

const START_MAX: Duration = Duration::from_secs(60);
const SETTLE_MAX: Duration = Duration::from_secs(600);
/// It is at rest when it used less than this over [`REST_TIME`], which is longer than the interval
/// at which it writes what it has in memory.
const REST_CPU_S: f64 = 0.1;
const REST_TIME: Duration = Duration::from_secs(6);

/// A running VictoriaLogs.
pub(crate) struct VictoriaLogs {
    process: Process,
    data_dir: PathBuf,
    client: Client,
    version: String,
}

impl VictoriaLogs {
    pub(crate) async fn start(program: &Path, dir: &Path) -> anyhow::Result<Self> {
        let output = Command::new(program)
            .arg("-version")
            .output()
            .with_context(|| format!("cannot run {}", program.display()))?;
        let version = version_text(&String::from_utf8_lossy(&output.stdout));
        let data_dir = dir.join("victoria-logs");
        let address = process::free_address()?;
        let args = [
            format!("-storageDataPath={}", data_dir.display()),
            format!("-httpListenAddr={address}"),
            "-retentionPeriod=100y".to_owned(),
            "-futureRetention=100y".to_owned(),
        ];
        let process = Process::start(program, &args, &dir.join("victoria-logs.log"))?;
        let mut this = Self { process, data_dir, client: Client::new(address)?, version };
        let begun = Instant::now();
        while this.client.get("/health", &[]).await.is_err() {
            if !this.process.is_running() || begun.elapsed() > START_MAX {
                bail!("it did not start; its log ends: {}", this.process.last_words());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(this)
    }

    async fn settle(&self) -> anyhow::Result<()> {
        self.client.get("/internal/force_flush", &[]).await?;
        let begun = Instant::now();
        loop {
            let before = self.usage()?.cpu_s;
            tokio::time::sleep(REST_TIME).await;
            if self.usage()?.cpu_s - before < REST_CPU_S {
                return Ok(());
            }
            ensure!(begun.elapsed() < SETTLE_MAX, "not at rest after {SETTLE_MAX:?}");
        }
    }
}

/// `victoria-logs-20250718-…-v1.26.0` as `VictoriaLogs 1.26.0`.
fn version_text(text: &str) -> String {
    let number = text.trim().rsplit_once("-v").map_or(text.trim(), |(_, number)| number);
    format!("VictoriaLogs {number}")
}

impl Target for VictoriaLogs {
    fn version(&self) -> &str {
        &self.version
    }

    fn setup(&self) -> &str {
        "its defaults; JSON lines over two HTTP connections, queries over HTTP; acknowledges \
         before the data is on disk (written within 5 s)"
    }

    async fn ingest(&mut self, corpus: &Corpus) -> anyhow::Result<Ingested> {
        let lines = Mutex::new(FileLines::open(&corpus.path)?);
        let before = self.usage()?;
        let (own_before_s, _) = process::own_and_childrens_cpu_s()?;
        let begun = Instant::now();
        sender::send(&self.client, corpus.kind, &lines, &AtomicU64::new(0)).await?;
        let acknowledged = begun.elapsed();
        let (own_after_s, _) = process::own_and_childrens_cpu_s()?;
        self.settle().await?;
        let after = self.usage()?;
        let all = Question::new("count of everything", Filter::All, Shape::Count);
        let rows = self.read(&all, &self.client.ask(&Request::of(&all)).await?)?;
        check(&all, &Fact::Count(corpus.facts.records), &rows).context("records stored")?;
        Ok(Ingested {
            acknowledged,
            settled: begun.elapsed().saturating_sub(REST_TIME),
            client: Usage { cpu_s: own_after_s - own_before_s, rss_peak_bytes: 0 },
            server: Usage { cpu_s: after.cpu_s - before.cpu_s, ..after },
            disk_bytes: self.disk_bytes()?,
        })
    }

    fn translate(&self, question: &Question) -> Option<String> {
        Some(Request::of(question).text())
    }

    async fn ask(&mut self, question: &Question) -> anyhow::Result<Vec<u8>> {
        self.client.ask(&Request::of(question)).await
    }

    fn read(&self, question: &Question, answer: &[u8]) -> anyhow::Result<Vec<Row>> {
        Request::of(question).read(answer)
    }

    fn usage(&self) -> anyhow::Result<Usage> {
        self.process.usage()
    }

    fn disk_bytes(&self) -> anyhow::Result<u64> {
        process::disk_bytes(&self.data_dir)
    }

    async fn stop(mut self) {
        self.process.stop().await;
    }
}
