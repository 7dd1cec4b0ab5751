//! ClickHouse as a target: `chdb`, the engine as a Python module, in a process of its own.
//!
//! The table is what ClickHouse's documentation recommends for logs: sorted by service, level and
//! time, low-cardinality labels, delta and zstd codecs, a Bloom filter on trace ids, JSON columns
//! for nested objects, and for the message either the text index or a token Bloom filter
//! ([`TextIndex`]). All rows come in one bulk insert, which is the best case for it, with `fsync`
//! on; questions come through a pipe, which costs less than HTTP.

mod sql;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::check::Row;
use crate::corpus::Corpus;
use crate::logsql;
use crate::process::{self, Process, Usage};
use crate::question::Question;
use crate::target::{Ingested, Target};
use crate::workload::{Kind, MESSAGE_FIELD};

const WORKER: &str = include_str!("worker.py");
const SETTLE_MAX: Duration = Duration::from_secs(600);
const REST_CPU_S: f64 = 0.1;
const REST_TIME: Duration = Duration::from_secs(2);

/// How words of messages are indexed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextIndex {
    /// `text(tokenizer = splitByNonAlpha)`, an inverted index.
    Text,
    /// `tokenbf_v1(32768, 3, 0)`, the Bloom filter of the documentation's OpenTelemetry schema.
    TokenBloom,
}

/// A running engine.
pub(crate) struct ClickHouse {
    process: Process,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    data_dir: PathBuf,
    kind: Kind,
    index: TextIndex,
    version: String,
}

impl ClickHouse {
    /// `python` must have the module `chdb`.
    pub(crate) fn start(
        python: &Path,
        dir: &Path,
        kind: Kind,
        index: TextIndex,
    ) -> anyhow::Result<Self> {
        let name = match index {
            TextIndex::Text => "clickhouse-text",
            TextIndex::TokenBloom => "clickhouse-tokenbf",
        };
        let worker = dir.join(format!("{name}.py"));
        std::fs::write(&worker, WORKER).with_context(|| worker.display().to_string())?;
        let data_dir = dir.join(name);
        let args = [worker.as_os_str(), data_dir.as_os_str()];
        let log = dir.join(format!("{name}.log"));
        let (process, input, output) = Process::start_piped(python, &args, &log)?;
        let output = BufReader::new(output);
        let version = String::new();
        let mut this = Self { process, input, output, data_dir, kind, index, version };
        let answer = this.sql("SELECT version() AS v").context("is chdb installed?")?;
        let rows = logsql::rows(&answer)?;
        let number = rows.first().and_then(|row| row.get("v")).context("no version")?;
        let index = match index {
            TextIndex::Text => "text index",
            TextIndex::TokenBloom => "tokenbf_v1",
        };
        this.version = format!("ClickHouse {number} (chdb), {index}");
        Ok(this)
    }

    /// The answer to one statement.
    fn sql(&mut self, sql: &str) -> anyhow::Result<Vec<u8>> {
        let mut exchange = || -> anyhow::Result<(String, Vec<u8>)> {
            let mut line = serde_json::to_string(sql)?;
            line.push('\n');
            self.input.write_all(line.as_bytes())?;
            self.input.flush()?;
            let mut head = String::new();
            self.output.read_line(&mut head)?;
            let (state, bytes) = head.trim().split_once(' ').context("it has ended")?;
            let mut body = vec![0; bytes.parse().context("length of the answer")?];
            self.output.read_exact(&mut body)?;
            Ok((state.to_owned(), body))
        };
        let answered = exchange();
        let (state, body) = answered
            .with_context(|| format!("ClickHouse; its log ends: {}", self.process.last_words()))?;
        if state != "ok" {
            bail!("ClickHouse: {}: {sql}", String::from_utf8_lossy(&body).trim());
        }
        Ok(body)
    }

    async fn settle(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let before = self.usage()?.cpu_s;
            tokio::time::sleep(REST_TIME).await;
            let used_s = self.usage()?.cpu_s - before;
            let merges = logsql::rows(&self.sql("SELECT count() AS n FROM system.merges")?)?;
            let idle = merges.first().and_then(|row| row.get("n")).is_some_and(|n| n == "0");
            if idle && used_s < REST_CPU_S {
                return Ok(());
            }
            ensure!(begun.elapsed() < SETTLE_MAX, "not at rest after {SETTLE_MAX:?}");
        }
    }
}

impl Target for ClickHouse {
    fn version(&self) -> &str {
        &self.version
    }

    fn setup(&self) -> &str {
        "the documentation's schema for logs; one bulk insert from the file with fsync, queries \
         through a pipe without HTTP"
    }

    async fn ingest(&mut self, corpus: &Corpus) -> anyhow::Result<Ingested> {
        let before = self.usage()?;
        let begun = Instant::now();
        self.sql(&sql::create(self.kind, self.index))?;
        let path = corpus.path.canonicalize().context("the corpus")?;
        self.sql(&sql::insert(self.kind, &path.display().to_string()))?;
        let acknowledged = begun.elapsed();
        self.settle().await?;
        let after = self.usage()?;
        let rows = logsql::rows(&self.sql("SELECT count() AS n FROM logs")?)?;
        let stored = rows.first().and_then(|row| row.get("n")).context("no count")?;
        let records = corpus.facts.records.to_string();
        ensure!(*stored == records, "{stored} records stored instead of {records}");
        Ok(Ingested {
            acknowledged,
            settled: begun.elapsed().saturating_sub(REST_TIME),
            client: Usage::default(),
            server: Usage { cpu_s: after.cpu_s - before.cpu_s, ..after },
            disk_bytes: self.disk_bytes()?,
        })
    }

    fn translate(&self, question: &Question) -> Option<String> {
        Some(sql::select(question))
    }

    async fn ask(&mut self, question: &Question) -> anyhow::Result<Vec<u8>> {
        self.sql(&sql::select(question))
    }

    fn read(&self, _question: &Question, answer: &[u8]) -> anyhow::Result<Vec<Row>> {
        let mut rows = logsql::rows(answer)?;
        for row in &mut rows {
            if let Some(message) = row.remove(MESSAGE_FIELD) {
                row.insert("_msg".to_owned(), message);
            }
        }
        Ok(rows)
    }

    fn usage(&self) -> anyhow::Result<Usage> {
        self.process.usage()
    }

    fn disk_bytes(&self) -> anyhow::Result<u64> {
        process::disk_bytes(&self.data_dir)
    }

    async fn stop(mut self) {
        drop(self.input);
        self.process.kill();
    }
}
