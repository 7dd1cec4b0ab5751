//! Lodge as a target: a real server on a free loopback port, filled over HTTP or by `lodge import`.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde::Deserialize;

use crate::check::Row;
use crate::corpus::Corpus;
use crate::logsql::{self, Client, Request};
use crate::process::{self, Process, Usage};
use crate::question::{Filter, Question, Shape};
use crate::sender::{self, FileLines};
use crate::target::{Ingested, Target};
use crate::workload::{MESSAGE_FIELD, TIME_FIELD};

/// How long a server may take to answer after its start.
const START_MAX: Duration = Duration::from_secs(60);
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

/// What a server is started with beside its folder and its address.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setup {
    /// The only processor that it may run on.
    cpu: Option<usize>,
    /// Lines of its configuration file.
    settings: Vec<String>,
    doors: Vec<(&'static str, SocketAddr)>,
}

impl Setup {
    /// On one processor only.
    pub(crate) fn on_cpu(cpu: usize) -> Self {
        Self { cpu: Some(cpu), ..Self::default() }
    }

    /// Opens the door of a setting at a free address.
    pub(crate) fn open_door(&mut self, setting: &'static str) -> anyhow::Result<()> {
        let address = match setting.ends_with("_udp") {
            true => process::free_udp_address()?,
            false => process::free_address()?,
        };
        self.set(format!("{setting} = \"{address}\""));
        self.doors.push((setting, address));
        Ok(())
    }

    /// Adds a line of the configuration file.
    pub(crate) fn set(&mut self, line: String) {
        self.settings.push(line);
    }
}

/// A running server.
pub(crate) struct LodgeServer {
    process: Process,
    lodge: PathBuf,
    setup: Setup,
    data_dir: PathBuf,
    log_dir: PathBuf,
    client: Client,
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
        Self::spawn(lodge, data_dir, log_dir)?.healthy().await
    }

    /// As [`start`](Self::start), with a configuration.
    pub(crate) async fn start_with(
        lodge: &Path,
        data_dir: &Path,
        log_dir: &Path,
        setup: Setup,
    ) -> anyhow::Result<Self> {
        Self::spawn_at(process::free_address()?, lodge, data_dir, log_dir, setup)?.healthy().await
    }

    /// Kills it, waits for `pause`, and starts it again at the same address.
    pub(crate) async fn killed_for(mut self, pause: Duration) -> anyhow::Result<Self> {
        self.process.kill();
        tokio::time::sleep(pause).await;
        let address = self.client.address();
        let again = Self::spawn_at(
            address,
            &self.lodge,
            &self.data_dir,
            &self.log_dir,
            self.setup.clone(),
        )?;
        again.healthy().await
    }

    /// Waits until it answers.
    async fn healthy(self) -> anyhow::Result<Self> {
        let mut server = self;
        let begun = Instant::now();
        while server.client.get("/health", &[]).await.is_err() {
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
        Self::spawn_at(process::free_address()?, lodge, data_dir, log_dir, Setup::default())
    }

    fn spawn_at(
        address: SocketAddr,
        lodge: &Path,
        data_dir: &Path,
        log_dir: &Path,
        setup: Setup,
    ) -> anyhow::Result<Self> {
        let version = version_of(lodge)?;
        let listen = address.to_string();
        let data = data_dir.as_os_str();
        let mut args: Vec<&OsStr> =
            ["server", "--listen", &listen, "--data-dir"].map(OsStr::new).to_vec();
        args.push(data);
        let config = log_dir.join("server.toml");
        if !setup.settings.is_empty() {
            std::fs::write(&config, setup.settings.join("\n"))
                .with_context(|| format!("cannot write {}", config.display()))?;
            args.extend(["--config".as_ref(), config.as_os_str()]);
        }
        let client = Client::new(address)?;
        let started = Instant::now();
        let process = Process::start_on(setup.cpu, lodge, &args, &log_dir.join("server.log"))?;
        Ok(Self {
            process,
            lodge: lodge.to_owned(),
            setup,
            data_dir: data_dir.to_owned(),
            log_dir: log_dir.to_owned(),
            client,
            version,
            started,
        })
    }

    /// The moment before its process was started.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// Where it is reached.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Where the door of a setting is, if it was opened.
    pub(crate) fn door(&self, setting: &str) -> Option<SocketAddr> {
        let mut doors = self.setup.doors.iter();
        doors.find(|(name, _)| *name == setting).map(|(_, address)| *address)
    }

    /// What the server says about itself.
    pub(crate) async fn status(&self) -> anyhow::Result<Status> {
        let body = self.client.get("/api/v1/status", &[]).await?;
        serde_json::from_slice(&body).context("/api/v1/status")
    }

    /// The rows of a LogsQL query.
    pub(crate) async fn logsql(&self, query: &str) -> anyhow::Result<Vec<Row>> {
        logsql::rows(&self.client.get("/select/logsql/query", &[("query", query)]).await?)
    }

    /// Fails with its last words if the process has ended.
    pub(crate) fn ensure_running(&mut self) -> anyhow::Result<()> {
        let running = self.process.is_running();
        ensure!(running, "the server has ended; its log ends: {}", self.process.last_words());
        Ok(())
    }

    /// Waits until every L0 is built and the server is idle.
    pub(crate) async fn settle(&self) -> anyhow::Result<()> {
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

    /// Stores the corpus with `lodge import`.
    pub(crate) async fn import(&mut self, corpus: &Corpus) -> anyhow::Result<Ingested> {
        let (url, streams) = (self.client.url(), corpus.kind.stream_fields().join(","));
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
        self.stored(corpus, begun, before, client).await
    }

    /// Waits until what was acknowledged just now has its final form.
    async fn stored(
        &self,
        corpus: &Corpus,
        begun: Instant,
        before: Usage,
        client: Usage,
    ) -> anyhow::Result<Ingested> {
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

    fn request(question: &Question) -> Request {
        if let (Shape::SqlCounts(field), Filter::All) = (&question.shape, &question.filter) {
            let sql = format!("SELECT \"{field}\", count(*) AS n FROM logs GROUP BY \"{field}\"");
            let args = vec![("query", sql), ("format", "jsonl".to_owned())];
            return Request { path: "/api/v1/sql", args };
        }
        Request::of(question)
    }
}

impl Target for LodgeServer {
    fn version(&self) -> &str {
        &self.version
    }

    fn setup(&self) -> &str {
        "no configuration; JSON lines over two HTTP connections, queries over HTTP; acknowledged \
         means synced"
    }

    async fn ingest(&mut self, corpus: &Corpus) -> anyhow::Result<Ingested> {
        let lines = Mutex::new(FileLines::open(&corpus.path)?);
        let before = self.usage()?;
        let (own_before_s, _) = process::own_and_childrens_cpu_s()?;
        let begun = Instant::now();
        sender::send(&self.client, corpus.kind, &lines, &AtomicU64::new(0)).await?;
        let (own_after_s, _) = process::own_and_childrens_cpu_s()?;
        let client = Usage { cpu_s: own_after_s - own_before_s, rss_peak_bytes: 0 };
        self.stored(corpus, begun, before, client).await
    }

    fn translate(&self, question: &Question) -> Option<String> {
        Some(Self::request(question).text())
    }

    async fn ask(&mut self, question: &Question) -> anyhow::Result<Vec<u8>> {
        self.client.ask(&Self::request(question)).await
    }

    fn read(&self, question: &Question, answer: &[u8]) -> anyhow::Result<Vec<Row>> {
        Self::request(question).read(answer)
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

pub(crate) fn version_of(lodge: &Path) -> anyhow::Result<String> {
    let output = Command::new(lodge)
        .arg("--version")
        .output()
        .with_context(|| format!("cannot run {} --version", lodge.display()))?;
    ensure!(output.status.success(), "{} --version: {}", lodge.display(), output.status);
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
