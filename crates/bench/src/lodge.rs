//! Lodge as a target: a real server on a free loopback port, filled by `lodge import`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::classes::{Class, Row, TOP_HOSTS};
use crate::corpus::Corpus;
use crate::process::{self, Process, Usage};
use crate::target::{Ingested, Target};
use crate::workload::facts::{BUCKET_NS, FAILED, NEWEST, REGEX, SUBSTRING};
use crate::workload::{Facts, MESSAGE_FIELD, STREAM_FIELDS, TIME_FIELD, planted};

/// How long a server may take to answer after its start.
const START_MAX: Duration = Duration::from_secs(60);
/// How long one request may take.
const REQUEST_MAX: Duration = Duration::from_secs(120);
/// How long an import may take.
const IMPORT_MAX: Duration = Duration::from_secs(3600);
/// How long building and merging may take after the last acknowledgement.
const SETTLE_MAX: Duration = Duration::from_secs(600);
/// A store is at rest when it used less than this over [`REST_TIME`].
const REST_CPU_S: f64 = 0.05;
const REST_TIME: Duration = Duration::from_secs(2);

/// The part of `/api/v1/status` that matters here.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Status {
    pub(crate) rows: u64,
    pub(crate) segments: Segments,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Segments {
    pub(crate) l0: u64,
}

/// A running server.
pub(crate) struct LodgeServer {
    process: Process,
    lodge: PathBuf,
    data_dir: PathBuf,
    log_dir: PathBuf,
    address: SocketAddr,
    http: reqwest::Client,
    version: String,
    /// The moment before the process was started.
    started: Instant,
}

impl LodgeServer {
    /// Starts `lodge server` on `data_dir` and waits until it is healthy. Logs go to `log_dir`.
    pub(crate) async fn start(
        lodge: &Path,
        data_dir: &Path,
        log_dir: &Path,
    ) -> anyhow::Result<Self> {
        let mut server = Self::spawn(lodge, data_dir, log_dir)?;
        let begun = Instant::now();
        while server.get("/health", &[]).await.is_err() {
            let running = server.process.is_running();
            if !running || begun.elapsed() > START_MAX {
                bail!(
                    "the server {} within {START_MAX:?}; its log ends: {}",
                    if running { "did not answer" } else { "ended" },
                    server.process.last_words()
                );
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(server)
    }

    /// Starts `lodge server` and does not wait.
    pub(crate) fn spawn(lodge: &Path, data_dir: &Path, log_dir: &Path) -> anyhow::Result<Self> {
        let version = version_of(lodge)?;
        let address = process::free_address()?;
        let listen = address.to_string();
        let data = data_dir.as_os_str();
        let args =
            ["server".as_ref(), "--data-dir".as_ref(), data, "--listen".as_ref(), listen.as_ref()];
        let http = reqwest::Client::builder().timeout(REQUEST_MAX).build()?;
        let started = Instant::now();
        let process = Process::start(lodge, &args, &log_dir.join("server.log"))?;
        Ok(Self {
            process,
            lodge: lodge.to_owned(),
            data_dir: data_dir.to_owned(),
            log_dir: log_dir.to_owned(),
            address,
            http,
            version,
            started,
        })
    }

    /// The moment before its process was started.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// `http://HOST:PORT`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The body of a good answer.
    pub(crate) async fn get(&self, path: &str, args: &[(&str, &str)]) -> anyhow::Result<Vec<u8>> {
        let request = self.http.get(format!("{}{path}", self.url())).query(args);
        Self::body(path, request).await
    }

    async fn body(path: &str, request: reqwest::RequestBuilder) -> anyhow::Result<Vec<u8>> {
        let answer = request.send().await.with_context(|| path.to_owned())?;
        let status = answer.status();
        let body = answer.bytes().await.with_context(|| path.to_owned())?;
        ensure!(status.is_success(), "{path}: {status}: {}", String::from_utf8_lossy(&body));
        Ok(body.into())
    }

    /// What the server says about itself.
    pub(crate) async fn status(&self) -> anyhow::Result<Status> {
        let body = self.get("/api/v1/status", &[]).await?;
        serde_json::from_slice(&body).context("/api/v1/status")
    }

    /// The rows of a LogsQL query.
    pub(crate) async fn logsql(&self, query: &str) -> anyhow::Result<Vec<Row>> {
        rows(&self.get("/select/logsql/query", &[("query", query)]).await?)
    }

    /// Fails with its last words if the process has ended.
    pub(crate) fn ensure_running(&mut self) -> anyhow::Result<()> {
        let running = self.process.is_running();
        ensure!(running, "the server has ended; its log ends: {}", self.process.last_words());
        Ok(())
    }

    /// Waits until every L0 is built and the server is idle.
    async fn settle(&self) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let before = self.usage()?.cpu_s;
            tokio::time::sleep(REST_TIME).await;
            let status = self.status().await?;
            if status.segments.l0 == 0 && self.usage()?.cpu_s - before < REST_CPU_S {
                return Ok(());
            }
            ensure!(begun.elapsed() < SETTLE_MAX, "not at rest after {SETTLE_MAX:?}: {status:?}");
        }
    }

    /// Stops the server in good order.
    pub(crate) async fn stop(mut self) {
        self.process.stop().await;
    }

    /// Path and arguments of a class.
    fn request(class: Class, facts: &Facts) -> (&'static str, Vec<(&'static str, String)>) {
        let query = match class {
            Class::NeedleCount => count_of(planted::NEEDLE),
            Class::PerMilleCount => count_of(planted::PER_MILLE),
            Class::PerCentCount => count_of(planted::PER_CENT),
            Class::CountAll => count_of("*"),
            Class::Regex => count_of(&format!("_msg:~`{REGEX}`")),
            Class::Substring => count_of(&format!("_msg:~`{SUBSTRING}`")),
            Class::NeedleRows => planted::NEEDLE.to_owned(),
            Class::ScatteredRows => planted::HUNDRED.to_owned(),
            Class::NewestErrors => {
                format!("level:error {FAILED} | sort by (_time desc) limit {NEWEST}")
            }
            Class::TopHosts => format!(
                "level:error | stats by (host) count() as n | sort by (n desc) | limit {TOP_HOSTS}"
            ),
            Class::TraceRows => format!("trace_id:=\"{}\"", facts.trace.id),
            Class::NumbersByService => "* | stats by (service) count(duration_ms) as n, \
                 sum(duration_ms) as sum, avg(duration_ms) as avg, \
                 quantile(0.99, duration_ms) as p99"
                .to_owned(),
            Class::StreamHour => {
                let hour = &facts.stream_hour;
                let args = vec![
                    ("query", format!("{{pod=\"{}\"}}", hour.pod)),
                    ("start", hour.start_ns.to_string()),
                    ("end", hour.end_ns.to_string()),
                ];
                return ("/select/logsql/query", args);
            }
            Class::Histogram => {
                let args = vec![
                    ("query", "*".to_owned()),
                    ("step", format!("{}s", BUCKET_NS / 1_000_000_000)),
                    ("field", "level".to_owned()),
                ];
                return ("/select/logsql/hits", args);
            }
            Class::SqlGroup => {
                let sql = "SELECT level, count(*) AS n FROM logs GROUP BY level";
                let args = vec![("query", sql.to_owned()), ("format", "jsonl".to_owned())];
                return ("/api/v1/sql", args);
            }
        };
        ("/select/logsql/query", vec![("query", query)])
    }
}

fn count_of(filter: &str) -> String {
    format!("{filter} | stats count() as n")
}

impl Target for LodgeServer {
    fn version(&self) -> &str {
        &self.version
    }

    async fn ingest(&mut self, corpus: &Corpus) -> anyhow::Result<Ingested> {
        let (url, streams) = (self.url(), STREAM_FIELDS.join(","));
        let args = [
            "import".as_ref(),
            corpus.path.as_os_str(),
            "--quiet".as_ref(),
            "--server".as_ref(),
            url.as_ref(),
            "--time-field".as_ref(),
            TIME_FIELD.as_ref(),
            "--msg-field".as_ref(),
            MESSAGE_FIELD.as_ref(),
            "--stream-fields".as_ref(),
            streams.as_ref(),
        ];
        let before = self.usage()?;
        let begun = Instant::now();
        let mut import = Process::start(&self.lodge, &args, &self.log_dir.join("import.log"))?;
        let client = import.finish(IMPORT_MAX).await?;
        let acknowledged = begun.elapsed();
        self.settle().await?;
        let after = self.usage()?;
        let status = self.status().await?;
        let records = corpus.facts.records;
        ensure!(status.rows == records, "{} records stored instead of {records}", status.rows);
        Ok(Ingested {
            acknowledged,
            settled: begun.elapsed().saturating_sub(REST_TIME),
            client,
            server: Usage { cpu_s: after.cpu_s - before.cpu_s, ..after },
            disk_bytes: self.disk_bytes()?,
        })
    }

    fn question(&self, class: Class, facts: &Facts) -> String {
        let (path, args) = Self::request(class, facts);
        let args: Vec<String> =
            args.iter().map(|(name, value)| format!("{name}={value}")).collect();
        format!("{path} {}", args.join(" "))
    }

    async fn ask(&self, class: Class, facts: &Facts) -> anyhow::Result<Vec<u8>> {
        let (path, args) = Self::request(class, facts);
        let args: Vec<(&str, &str)> =
            args.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.get(path, &args).await
    }

    fn read(&self, class: Class, answer: &[u8]) -> anyhow::Result<Vec<Row>> {
        match class {
            Class::Histogram => hits(answer),
            _ => rows(answer),
        }
    }

    fn usage(&self) -> anyhow::Result<Usage> {
        self.process.usage()
    }

    fn disk_bytes(&self) -> anyhow::Result<u64> {
        process::disk_bytes(&self.data_dir)
    }
}

fn version_of(lodge: &Path) -> anyhow::Result<String> {
    let output = Command::new(lodge)
        .arg("--version")
        .output()
        .with_context(|| format!("cannot run {} --version", lodge.display()))?;
    ensure!(output.status.success(), "{} --version: {}", lodge.display(), output.status);
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// JSON lines as rows of texts.
fn rows(body: &[u8]) -> anyhow::Result<Vec<Row>> {
    let lines = body.split(|&b| b == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let object: serde_json::Map<String, Value> = serde_json::from_slice(line)
                .with_context(|| String::from_utf8_lossy(line).into_owned())?;
            Ok(object.into_iter().map(|(name, value)| (name, value_text(value))).collect())
        })
        .collect()
}

fn value_text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// `{"hits":[{"fields":{…},"timestamps":[…],"values":[…]}]}` as one row a bucket and level.
fn hits(body: &[u8]) -> anyhow::Result<Vec<Row>> {
    #[derive(Deserialize)]
    struct Group {
        fields: Row,
        timestamps: Vec<String>,
        values: Vec<u64>,
    }
    #[derive(Deserialize)]
    struct Answer {
        hits: Vec<Group>,
    }
    let answer: Answer = serde_json::from_slice(body).context("/select/logsql/hits")?;
    let mut rows = Vec::new();
    for group in answer.hits {
        for (time, n) in group.timestamps.into_iter().zip(group.values) {
            let mut row = group.fields.clone();
            row.insert("time".to_owned(), time);
            row.insert("n".to_owned(), n.to_string());
            rows.push(row);
        }
    }
    Ok(rows)
}
