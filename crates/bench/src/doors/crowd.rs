//! A steady client and a person who asks, alone and beside thousands of connections that do
//! nothing and hundreds that send a byte a second.
//!
//! Every query comes over a connection of its own, as from somebody who was not there before: a
//! server that is full of idle connections does not let that one in.
//!
//! Invariants: what is asked for does not change while the load flows, and its answer is checked
//! each time; the machine's own noise is shown, by the same phase before and after.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use futures::StreamExt as _;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::DoorsOptions;
use crate::lodge::{LodgeServer, Setup};
use crate::process::raise_open_files;
use crate::report::Times;
use crate::sender::{self, Generated};
use crate::table;
use crate::target::Target;
use crate::workload::{Kind, MESSAGE_FIELD, TIME_FIELD, WorkloadOptions};

/// Stored before, as JSON lines.
const STORED_BYTES: u64 = 50_000_000;
/// A request of the steady client, and how often one is due of each of its connections: one waits
/// for the disk while the other is sent.
const REQUEST_BYTES: usize = 100_000;
const REQUEST_EVERY: Duration = Duration::from_millis(80);
const CONNECTIONS: u32 = 4;
/// How often is asked.
const QUERY_EVERY: Duration = Duration::from_millis(100);
/// Different requests.
const BODIES: usize = 50;
/// How long a request of theirs may take before it counts as failed.
const REQUEST_MAX: Duration = Duration::from_secs(5);
/// How long one of the crowd waits to be let in.
const ENTER_MAX: Duration = Duration::from_secs(3);
/// How many of the crowd come at once.
const ENTER_AT_ONCE: usize = 64;
/// Between two bytes of a slow connection.
const DRIP: Duration = Duration::from_secs(1);
/// Connections and files beside the crowd.
const FILES_BESIDE: u64 = 500;

/// A crowd.
#[derive(Clone, Debug, Serialize)]
pub struct CrowdOptions {
    /// Connections that do nothing.
    pub idle: usize,
    /// Connections that send a byte a second.
    pub slow: usize,
    /// The server's `connections_max`, if not its default.
    pub connections_max: Option<u64>,
    /// How long each phase takes.
    pub seconds: u64,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Crowd {
    /// The crowd.
    pub options: CrowdOptions,
    /// What the machine does not allow.
    pub note: Option<String>,
    /// Idle connections that came in.
    pub entered: usize,
    /// Those that did not: refused, or not answered in time.
    pub not_entered: usize,
    /// Those that the server had closed at the end.
    pub idle_closed: usize,
    /// How often the server closed a slow connection, which then came again.
    pub slow_closed: u64,
    /// Alone, beside the crowd, and alone again.
    pub phases: Vec<Phase>,
}

/// What the others saw.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Phase {
    /// Milliseconds of each insert.
    #[serde(skip)]
    inserts_ms: Vec<f64>,
    /// Milliseconds of each query, its connection included.
    #[serde(skip)]
    queries_ms: Vec<f64>,
    /// Inserts or queries that failed.
    pub failed: u64,
    /// The first failure.
    pub failure: Option<String>,
    /// Of the inserts.
    pub inserts: Times,
    /// Of the queries.
    pub queries: Times,
}

impl Phase {
    fn fail(&mut self, error: &anyhow::Error) {
        self.failed += 1;
        self.failure.get_or_insert_with(|| format!("{error:#}"));
    }
}

/// Measures each crowd with a fresh server.
pub(super) async fn measure(
    options: &DoorsOptions,
    dir: &Path,
    tell: &mut impl FnMut(&str),
) -> anyhow::Result<Vec<Crowd>> {
    let mut all = Vec::new();
    for (number, crowd) in options.crowds.iter().enumerate() {
        let folder = dir.join(format!("crowd-{number}"));
        fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
        all.push(one(options, crowd, &folder, tell).await?);
        fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    Ok(all)
}

async fn one(
    options: &DoorsOptions,
    crowd: &CrowdOptions,
    folder: &Path,
    tell: &mut impl FnMut(&str),
) -> anyhow::Result<Crowd> {
    let (crowd, note) = allowed(crowd);
    let mut setup = Setup::default();
    setup.open_door("syslog_tcp")?;
    setup.open_door("json_tcp")?;
    if let Some(connections_max) = crowd.connections_max {
        setup.set(format!("connections_max = {connections_max}"));
    }
    let data = folder.join("data");
    let server = LodgeServer::start_with(&options.lodge, &data, folder, setup).await?;
    let others = Others::new(&server, options.seed).await?;
    let time = Duration::from_secs(crowd.seconds);
    // So that caches are as warm in the first phase as in the last.
    others.phase(time).await;
    tell("a steady client alone");
    let mut phases = vec![others.phase(time).await];
    tell(&format!("{} idle and {} slow connections come", crowd.idle, crowd.slow));
    let (mut idle, not_entered) = enter(&server, crowd.idle).await;
    let entered = idle.len();
    let slow = Slow::start(server.client().address(), crowd.slow);
    tell(&format!("a steady client beside {entered} and {}", crowd.slow));
    phases.push(others.phase(time).await);
    let idle_closed = idle.iter_mut().filter_map(is_closed).filter(|closed| *closed).count();
    let slow_closed = slow.end();
    drop(idle);
    sleep(Duration::from_secs(2)).await;
    tell("a steady client alone again");
    phases.push(others.phase(time).await);
    server.stop().await;
    Ok(Crowd { options: crowd, note, entered, not_entered, idle_closed, slow_closed, phases })
}

/// As much of the crowd as this machine allows.
fn allowed(crowd: &CrowdOptions) -> (CrowdOptions, Option<String>) {
    let files = raise_open_files();
    let needed = (crowd.idle + crowd.slow) as u64 + FILES_BESIDE;
    if files >= needed {
        return (crowd.clone(), None);
    }
    let idle = files.saturating_sub(FILES_BESIDE + crowd.slow as u64) as usize;
    let note = format!(
        "{} idle connections instead of {}: a process may have {files} open files (ulimit -Hn)",
        idle, crowd.idle
    );
    (CrowdOptions { idle, ..crowd.clone() }, Some(note))
}

/// Whoever else uses the server.
struct Others<'s> {
    server: &'s LodgeServer,
    bodies: Vec<Bytes>,
    query: String,
    answer: Vec<u8>,
}

impl<'s> Others<'s> {
    async fn new(server: &'s LodgeServer, seed: u64) -> anyhow::Result<Self> {
        let mut stored = WorkloadOptions { seed, ..WorkloadOptions::default() };
        stored.records = Kind::Fleet.records_for_bytes(&stored, STORED_BYTES);
        let start_ns = stored.start_ns;
        let generated =
            Generated { generator: Kind::Fleet.generator(stored), each: |_: &[u8]| Ok(()) };
        let lines = Mutex::new(generated);
        sender::send(server.client(), Kind::Fleet, &lines, &AtomicU64::new(0)).await?;
        server.settle().await?;
        // The load is of the day before, so that no answer changes.
        let usual = WorkloadOptions::default();
        let day_ns = i64::try_from(usual.span.as_nanos()).context("the span")?;
        let load = WorkloadOptions { seed, start_ns: start_ns - day_ns, ..usual };
        let generator = Kind::Fleet.generator(load);
        let mut generated = Generated { generator, each: |_: &[u8]| Ok(()) };
        let bodies = (0..BODIES).map(|_| generated.next_of(REQUEST_BYTES).map(Bytes::from));
        let time = jiff::Timestamp::from_nanosecond(start_ns.into())?;
        let query = format!("_time:[{time}, {}) level:=error failed", time + usual.span);
        let mut others =
            Self { server, bodies: bodies.collect::<Result<_, _>>()?, query, answer: Vec::new() };
        others.answer = others.ask().await?;
        ensure!(!others.answer.is_empty(), "nothing is found by {}", others.query);
        Ok(others)
    }

    fn client(connections_idle: usize) -> anyhow::Result<reqwest::Client> {
        let builder = reqwest::Client::builder().tls_certs_only([]).timeout(REQUEST_MAX);
        Ok(builder.pool_max_idle_per_host(connections_idle).build()?)
    }

    /// Asks over a new connection.
    async fn ask(&self) -> anyhow::Result<Vec<u8>> {
        let url = format!("{}/select/logsql/query", self.server.client().url());
        let query = format!("{} | stats count() as n", self.query);
        let request = Self::client(0)?.get(url).query(&[("query", &query)]);
        let answer = request.send().await?.error_for_status()?;
        Ok(answer.bytes().await?.into())
    }

    /// Loads and asks for so long.
    async fn phase(&self, time: Duration) -> Phase {
        let mut all = Phase::default();
        let until = Instant::now() + time;
        let loads = (0..CONNECTIONS).map(|number| self.load(number, until));
        let (loads, asked) = tokio::join!(futures::future::join_all(loads), self.ask_on(until));
        for part in loads.into_iter().chain([asked]) {
            all.inserts_ms.extend(part.inserts_ms);
            all.queries_ms.extend(part.queries_ms);
            all.failed += part.failed;
            all.failure = all.failure.or(part.failure);
        }
        all.inserts = Times::of(&all.inserts_ms);
        all.queries = Times::of(&all.queries_ms);
        all
    }

    /// One connection of the steady client.
    async fn load(&self, number: u32, until: Instant) -> Phase {
        let mut phase = Phase::default();
        let streams = Kind::Fleet.stream_fields().join(",");
        let url = format!(
            "{}/insert/jsonline?_stream_fields={streams}&_msg_field={MESSAGE_FIELD}&\
             _time_field={TIME_FIELD}",
            self.server.client().url()
        );
        let client = match Self::client(1) {
            Ok(client) => client,
            Err(error) => {
                phase.fail(&error);
                return phase;
            }
        };
        let mut due = Instant::now() + REQUEST_EVERY * number / CONNECTIONS;
        for body in self.bodies.iter().cycle().skip(number as usize) {
            sleep(due.saturating_duration_since(Instant::now())).await;
            if Instant::now() >= until {
                break;
            }
            let begun = Instant::now();
            let answer = client.post(&url).body(body.clone()).send().await;
            match answer.and_then(reqwest::Response::error_for_status) {
                Ok(_) => phase.inserts_ms.push(begun.elapsed().as_secs_f64() * 1e3),
                Err(error) => phase.fail(&anyhow::Error::new(error).context("an insert")),
            }
            due += REQUEST_EVERY;
        }
        phase
    }

    async fn ask_on(&self, until: Instant) -> Phase {
        let mut phase = Phase::default();
        let mut due = Instant::now();
        while Instant::now() < until {
            let begun = Instant::now();
            match self.ask().await {
                Ok(answer) if answer == self.answer => {
                    phase.queries_ms.push(begun.elapsed().as_secs_f64() * 1e3);
                }
                Ok(answer) => {
                    let text = String::from_utf8_lossy(&answer);
                    phase.fail(&anyhow::anyhow!("another answer than before: {text}"));
                }
                Err(error) => phase.fail(&error.context("a query")),
            }
            due += QUERY_EVERY;
            sleep(due.saturating_duration_since(Instant::now())).await;
        }
        phase
    }
}

/// Opens connections that then do nothing; gives them, and how many could not be opened.
async fn enter(server: &LodgeServer, number: usize) -> (Vec<TcpStream>, usize) {
    let all = futures::stream::iter(0..number).map(|number| async move {
        timeout(ENTER_MAX, enter_one(server, number)).await.ok()?.ok()
    });
    let all: Vec<Option<TcpStream>> = all.buffer_unordered(ENTER_AT_ONCE).collect().await;
    let entered: Vec<TcpStream> = all.into_iter().flatten().collect();
    let missing = number - entered.len();
    (entered, missing)
}

/// Of ten, one has sent a message of syslog, one is open to send JSON lines, four have made a
/// request, and four have said nothing yet.
async fn enter_one(server: &LodgeServer, number: usize) -> anyhow::Result<TcpStream> {
    let door = |setting| server.door(setting).context("no door");
    let mut stream = match number % 10 {
        0 => TcpStream::connect(door("syslog_tcp")?).await?,
        1 => TcpStream::connect(door("json_tcp")?).await?,
        _ => TcpStream::connect(server.client().address()).await?,
    };
    match number % 10 {
        0 => stream.write_all(b"<134>1 - host app - - - here, and idle from now on\n").await?,
        2..=5 => {
            stream.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").await?;
            let mut answer = [0; 4096];
            let length = stream.read(&mut answer).await?;
            ensure!(answer.get(..length).is_some_and(|a| a.starts_with(b"HTTP/1.1 200")), "no");
        }
        _ => {}
    }
    Ok(stream)
}

/// Whether the server has closed a connection; none if that cannot be told.
fn is_closed(stream: &mut TcpStream) -> Option<bool> {
    let mut rest = [0; 4096];
    loop {
        match stream.try_read(&mut rest) {
            Ok(0) => return Some(true),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Some(false),
            Err(_) => return Some(true),
        }
    }
}

/// Connections that send a byte a second: the head of a request, or the body.
struct Slow {
    tasks: JoinSet<()>,
    closed: std::sync::Arc<AtomicU64>,
}

impl Slow {
    fn start(address: SocketAddr, number: usize) -> Self {
        let closed = std::sync::Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        for number in 0..number {
            let closed = closed.clone();
            let head: &[u8] = match number % 2 {
                0 => b"GET / HTTP/1.1\r\nhost: localhost\r\nx-slow: ",
                _ => {
                    b"POST /insert/jsonline HTTP/1.1\r\nhost: localhost\r\n\
                      content-length: 1000000\r\n\r\n{\"message\":\""
                }
            };
            tasks.spawn(async move {
                // Not all of them in the same moment.
                sleep(DRIP.mul_f64(number as f64 % 100.0 / 100.0)).await;
                loop {
                    if drip(address, head).await.is_err() {
                        closed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                    sleep(DRIP).await;
                }
            });
        }
        Self { tasks, closed }
    }

    /// Ends them; says how often one was closed.
    fn end(mut self) -> u64 {
        self.tasks.abort_all();
        self.closed.load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// Sends a byte a second until it is closed.
async fn drip(address: SocketAddr, head: &[u8]) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(head).await?;
    loop {
        sleep(DRIP).await;
        stream.write_all(b"a").await?;
    }
}

impl Crowd {
    /// The table, in Markdown.
    pub(super) fn table(&self) -> String {
        let limit = self.options.connections_max.map_or("default".to_owned(), |n| n.to_string());
        let mut out = format!(
            "{} idle connections ({} were not let in, {} were closed by the end) and {} that send \
             a byte a second (closed and come again {} times); connections_max: {limit}\n\n",
            self.entered, self.not_entered, self.idle_closed, self.options.slow, self.slow_closed
        );
        if let Some(note) = &self.note {
            out.push_str(&format!("Not all of what was asked for: {note}\n\n"));
        }
        let [before, beside, after] = self.phases.as_slice() else { return out };
        let pooled = |read: fn(&Phase) -> &[f64]| Times::of(&[read(before), read(after)].concat());
        let head = ["ms", "alone", "beside the crowd", "alone again", "beside / both alone"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        let mut add = |name: &str, read: fn(&Phase) -> &[f64], take: fn(&Times) -> f64| {
            let figure = |phase: &Phase| take(&Times::of(read(phase)));
            let ratio = figure(beside) / take(&pooled(read));
            rows.push(vec![
                name.to_owned(),
                table::milliseconds(figure(before)),
                table::milliseconds(figure(beside)),
                table::milliseconds(figure(after)),
                format!("{ratio:.2}"),
            ]);
        };
        add("insert of 100 KB, median", |p| &p.inserts_ms, |f| f.median_ms);
        add("insert of 100 KB, p99", |p| &p.inserts_ms, |f| f.p99_ms);
        add("query on a new connection, median", |p| &p.queries_ms, |f| f.median_ms);
        add("query on a new connection, p99", |p| &p.queries_ms, |f| f.p99_ms);
        let counts = |name: &str, read: fn(&Phase) -> u64| {
            let cells = [before, beside, after].map(|phase| read(phase).to_string());
            let [a, b, c] = cells;
            vec![name.to_owned(), a, b, c]
        };
        rows.push(counts("inserts", |p| p.inserts.count as u64));
        rows.push(counts("queries", |p| p.queries.count as u64));
        rows.push(counts("failed", |p| p.failed));
        out.push_str(&table::markdown(&rows));
        for phase in &self.phases {
            if let Some(failure) = &phase.failure {
                out.push_str(&format!("- the first failure: {failure}\n"));
            }
        }
        out
    }
}
