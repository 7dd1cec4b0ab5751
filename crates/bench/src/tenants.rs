//! `lodge-bench tenants`: what a tenant that sends and asks as much as it can costs another one.
//!
//! Invariants: the quiet tenant sends and asks at the same rate in each phase, and what it asks for
//! does not change; each answer is checked; it is alone before and after, which shows the machine's
//! own noise.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use bytes::Bytes;
use reqwest::{Client, RequestBuilder, StatusCode};
use serde::Serialize;
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::lodge::{LodgeServer, Setup};
use crate::report::{Machine, Times};
use crate::run::run_dir;
use crate::sender::Generated;
use crate::table;
use crate::target::Target as _;
use crate::workload::{Kind, MESSAGE_FIELD, TIME_FIELD, WorkloadOptions};

/// What each stores before, as JSON lines.
const NOISY_BYTES: usize = 200_000_000;
const QUIET_BYTES: usize = 20_000_000;
/// A request of the quiet one, and how often it sends and asks.
const QUIET_REQUEST_BYTES: usize = 100_000;
const QUIET_SENDS_EVERY: Duration = Duration::from_millis(100);
const QUIET_ASKS_EVERY: Duration = Duration::from_millis(100);
/// The noisy one's requests and connections.
const NOISY_REQUEST_BYTES: usize = 1 << 20;
const NOISY_SENDERS: usize = 16;
const NOISY_ASKERS: usize = 32;
/// Different requests; each is sent many times.
const BODIES: usize = 40;
/// How long a request may take before it counts as failed.
const REQUEST_MAX: Duration = Duration::from_secs(30);
/// How much less the kernel prefers the noisy one's clients: they stand for other machines.
const CLIENTS_BEHIND: i32 = 10;
/// The noisy one goes over every message.
const NOISY_QUERY: &str = "_msg:~\"a[b-y]+z.*[0-9]{7}\" | stats count() n";
const QUIET_QUERY: &str = "level:=error | stats count() n";

/// How to measure.
#[derive(Clone, Debug)]
pub struct TenantsOptions {
    /// The `lodge` binary.
    pub lodge: PathBuf,
    /// Where the run's folder is made; removed at its end.
    pub dir: PathBuf,
    /// How long each phase takes.
    pub time: Duration,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct TenantsFound {
    /// What was measured, with its version.
    pub target: String,
    /// Where.
    pub machine: Machine,
    /// One after the other.
    pub phases: Vec<Phase>,
}

/// What the quiet tenant saw, and what the noisy one did meanwhile.
#[derive(Clone, Debug, Serialize)]
pub struct Phase {
    /// What the noisy one does.
    pub name: &'static str,
    /// Milliseconds of the quiet one's inserts.
    pub inserts: Times,
    /// Milliseconds of its queries.
    pub queries: Times,
    /// Its requests that failed.
    pub failed: u64,
    /// The first of these.
    pub failure: Option<String>,
    /// MB a second that the noisy one stored.
    pub noisy_mb_per_s: f64,
    /// Its queries a second.
    pub noisy_queries_per_s: f64,
    /// Its requests that were answered 429 or 503.
    pub noisy_refused: u64,
}

/// What the noisy one does in the phases: whether it inserts, and asks. It asks first, over what was
/// stored before, and not over what it adds.
const PHASES: [(&str, bool, bool); 5] = [
    ("alone", false, false),
    ("beside queries", false, true),
    ("beside inserts", true, false),
    ("beside both", true, true),
    ("alone again", false, false),
];

/// One tenant's way to the server.
#[derive(Clone)]
struct Access {
    address: SocketAddr,
    token: String,
    client: Client,
}

impl Access {
    fn new(address: SocketAddr, token: &str) -> anyhow::Result<Self> {
        let client = Client::builder().tls_certs_only([]).timeout(REQUEST_MAX).build()?;
        Ok(Self { address, token: token.to_owned(), client })
    }

    fn insert(&self, body: Bytes) -> RequestBuilder {
        let streams = Kind::Fleet.stream_fields().join(",");
        let url = format!(
            "http://{}/insert/jsonline?_stream_fields={streams}&_msg_field={MESSAGE_FIELD}&\
             _time_field={TIME_FIELD}",
            self.address
        );
        self.client.post(url).bearer_auth(&self.token).body(body)
    }

    async fn ask(&self, query: &str) -> anyhow::Result<(StatusCode, Bytes)> {
        let url = format!("http://{}/select/logsql/query", self.address);
        let request = self.client.get(url).query(&[("query", query)]).bearer_auth(&self.token);
        let answer = request.send().await?;
        Ok((answer.status(), answer.bytes().await?))
    }

    async fn store(&self, bodies: &[Bytes]) -> anyhow::Result<()> {
        for body in bodies {
            self.insert(body.clone()).send().await?.error_for_status()?;
        }
        Ok(())
    }
}

/// Requests of about so many bytes, of records of one day that begins so many days before the usual one.
fn bodies(count: usize, bytes: usize, days_before: i64) -> anyhow::Result<Vec<Bytes>> {
    let usual = WorkloadOptions::default();
    let day_ns = i64::try_from(usual.span.as_nanos()).context("the span")?;
    let options = WorkloadOptions { start_ns: usual.start_ns - days_before * day_ns, ..usual };
    let generator = Kind::Fleet.generator(options);
    let mut generated = Generated { generator, each: |_: &[u8]| Ok(()) };
    (0..count).map(|_| generated.next_of(bytes).map(Bytes::from)).collect()
}

fn token(lodge: &Path, data_dir: &Path, tenant: &str) -> anyhow::Result<String> {
    let made = Command::new(lodge)
        .args(["token", "create", "--name", tenant, "--tenant", tenant, "--scope", "ingest,read"])
        .arg("--data-dir")
        .arg(data_dir)
        .output()
        .context("cannot start lodge token")?;
    let printed = String::from_utf8_lossy(&made.stdout);
    let secret = printed.split_whitespace().find(|word| word.starts_with("lodge_"));
    secret
        .map(str::to_owned)
        .with_context(|| format!("no token was made: {}", String::from_utf8_lossy(&made.stderr)))
}

/// Stores something of both, and measures each phase; `tell` hears what is going on.
///
/// # Errors
/// When the server fails or an answer changes.
pub async fn measure(
    options: &TenantsOptions,
    mut tell: impl FnMut(&str),
) -> anyhow::Result<TenantsFound> {
    let dir = run_dir(&options.dir)?;
    let data_dir = dir.path().join("data");
    let [noisy, quiet] = ["noisy", "quiet"].map(|name| token(&options.lodge, &data_dir, name));
    let server =
        LodgeServer::start_with(&options.lodge, &data_dir, dir.path(), Setup::default()).await?;
    let address = server.client().address();
    let (noisy, quiet) = (Access::new(address, &noisy?)?, Access::new(address, &quiet?)?);
    tell("storing");
    let sent = bodies(BODIES, NOISY_REQUEST_BYTES, 1)?;
    for _ in 0..NOISY_BYTES / NOISY_REQUEST_BYTES / BODIES {
        noisy.store(&sent).await?;
    }
    quiet.store(&bodies(QUIET_BYTES / QUIET_REQUEST_BYTES, QUIET_REQUEST_BYTES, 1)?).await?;
    let mut phases = Vec::new();
    for (name, inserts, queries) in PHASES {
        // What was stored before is built then.
        sleep(Duration::from_secs(10)).await;
        tell(name);
        let load = Load { noisy: noisy.clone(), bodies: sent.clone(), inserts, queries };
        phases.push(phase(name, &quiet, load, options.time).await?);
    }
    let target = server.version().to_owned();
    server.stop().await;
    Ok(TenantsFound { target, machine: Machine::this(), phases })
}

/// What the noisy one does until it is stopped.
struct Load {
    noisy: Access,
    bodies: Vec<Bytes>,
    inserts: bool,
    queries: bool,
}

#[derive(Default)]
struct Done {
    bytes: AtomicU64,
    queries: AtomicU64,
    refused: AtomicU64,
}

impl Load {
    /// On a thread that comes behind everything that is measured.
    fn run(self, done: &Done, stopped: oneshot::Receiver<()>) -> anyhow::Result<()> {
        rustix::process::nice(CLIENTS_BEHIND).context("the clients' priority")?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let senders = if self.inserts { NOISY_SENDERS } else { 0 };
        let askers = if self.queries { NOISY_ASKERS } else { 0 };
        let senders = (0..senders).map(|number| self.send(number, done));
        let askers = (0..askers).map(|_| self.ask(done));
        let all = futures::future::join(
            futures::future::join_all(senders),
            futures::future::join_all(askers),
        );
        runtime.block_on(async {
            tokio::select! {
                _ = all, if self.inserts || self.queries => {}
                _ = stopped => {}
            }
        });
        Ok(())
    }

    async fn send(&self, number: usize, done: &Done) {
        for body in self.bodies.iter().cycle().skip(number) {
            match self.noisy.insert(body.clone()).send().await {
                Ok(answer) if answer.status().is_success() => {
                    done.bytes.fetch_add(body.len() as u64, Relaxed);
                }
                _ => refused(done).await,
            }
        }
    }

    async fn ask(&self, done: &Done) {
        loop {
            match self.noisy.ask(NOISY_QUERY).await {
                Ok((StatusCode::OK, _)) => {
                    done.queries.fetch_add(1, Relaxed);
                }
                _ => refused(done).await,
            }
        }
    }
}

/// Clients that are told to wait come again soon, as bad ones do.
async fn refused(done: &Done) {
    done.refused.fetch_add(1, Relaxed);
    sleep(Duration::from_millis(100)).await;
}

async fn phase(
    name: &'static str,
    quiet: &Access,
    load: Load,
    time: Duration,
) -> anyhow::Result<Phase> {
    let question = question(quiet).await?;
    let (stop, stopped) = oneshot::channel();
    let done = Arc::new(Done::default());
    let noisy = std::thread::spawn({
        let done = Arc::clone(&done);
        move || load.run(&done, stopped)
    });
    let until = Instant::now() + time;
    let (inserts, queries) =
        tokio::join!(quiet_sends(quiet, until), quiet_asks(quiet, question, until));
    drop(stop);
    noisy.join().map_err(|_| anyhow!("the load's thread failed"))??;
    let inserts = inserts?;
    let seconds = time.as_secs_f64();
    Ok(Phase {
        name,
        inserts: Times::of(&inserts.ms),
        queries: Times::of(&queries.ms),
        failed: inserts.failed + queries.failed,
        failure: inserts.failure.or(queries.failure),
        noisy_mb_per_s: done.bytes.load(Relaxed) as f64 / 1e6 / seconds,
        noisy_queries_per_s: done.queries.load(Relaxed) as f64 / seconds,
        noisy_refused: done.refused.load(Relaxed),
    })
}

/// What became of the quiet one's requests.
#[derive(Default)]
struct Seen {
    ms: Vec<f64>,
    failed: u64,
    failure: Option<String>,
}

impl Seen {
    fn add(&mut self, begun: Instant, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => self.ms.push(begun.elapsed().as_secs_f64() * 1e3),
            Err(failure) => {
                self.failed += 1;
                self.failure.get_or_insert(failure);
            }
        }
    }
}

async fn quiet_sends(quiet: &Access, until: Instant) -> anyhow::Result<Seen> {
    let bodies = bodies(BODIES, QUIET_REQUEST_BYTES, 3)?;
    let (mut seen, mut due) = (Seen::default(), Instant::now());
    for body in bodies.iter().cycle() {
        sleep(due.saturating_duration_since(Instant::now())).await;
        let begun = Instant::now();
        if begun >= until {
            break;
        }
        let outcome = match quiet.insert(body.clone()).send().await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(format!("an insert: {}", answer.status())),
            Err(error) => Err(format!("an insert: {error}")),
        };
        seen.add(begun, outcome);
        due += QUIET_SENDS_EVERY;
    }
    Ok(seen)
}

/// What the quiet one asks for, and the answer. What is sent meanwhile lies two days before, so the
/// answer stays the same.
async fn question(quiet: &Access) -> anyhow::Result<(String, (StatusCode, Bytes))> {
    let usual = WorkloadOptions::default();
    let day = jiff::Timestamp::from_nanosecond((usual.start_ns).into())? - usual.span;
    let query = format!("_time:[{day}, {}) {QUIET_QUERY}", day + usual.span);
    let expected = quiet.ask(&query).await?;
    ensure!(expected.0 == StatusCode::OK && !expected.1.is_empty(), "{query}: {expected:?}");
    Ok((query, expected))
}

async fn quiet_asks(
    quiet: &Access,
    (query, expected): (String, (StatusCode, Bytes)),
    until: Instant,
) -> Seen {
    let (mut seen, mut due) = (Seen::default(), Instant::now());
    while Instant::now() < until {
        let begun = Instant::now();
        let outcome = match quiet.ask(&query).await {
            Ok(answer) if answer == expected => Ok(()),
            Ok(answer) => Err(format!("a query: {answer:?} instead of {expected:?}")),
            Err(error) => Err(format!("a query: {error}")),
        };
        seen.add(begun, outcome);
        due += QUIET_ASKS_EVERY;
        sleep(due.saturating_duration_since(Instant::now())).await;
    }
    seen
}

impl TenantsFound {
    /// The table, in Markdown.
    pub fn table(&self) -> String {
        let names = self.phases.iter().map(|phase| phase.name.to_owned());
        let mut rows = vec![std::iter::once("the quiet tenant".to_owned()).chain(names).collect()];
        let mut add = |name: &str, cell: &dyn Fn(&Phase) -> String| {
            let cells = self.phases.iter().map(cell);
            rows.push(std::iter::once(name.to_owned()).chain(cells).collect::<Vec<_>>());
        };
        let ms = |figures: &Times| {
            if figures.count == 0 {
                return "none ended".to_owned();
            }
            [figures.median_ms, figures.p99_ms].map(table::milliseconds).join(" / ")
        };
        add("insert of 100 KB, ms: median / p99", &|phase| ms(&phase.inserts));
        add("query, ms: median / p99", &|phase| ms(&phase.queries));
        add("inserts, queries", &|p| format!("{}, {}", p.inserts.count, p.queries.count));
        add("failed", &|phase| phase.failed.to_string());
        add("the noisy one: MB/s stored", &|phase| format!("{:.1}", phase.noisy_mb_per_s));
        add("its queries a second", &|phase| format!("{:.1}", phase.noisy_queries_per_s));
        add("its requests refused", &|phase| phase.noisy_refused.to_string());
        let failures = self.phases.iter().filter_map(|phase| phase.failure.as_ref());
        let failures: String = failures.map(|f| format!("- the first failure: {f}\n")).collect();
        format!("{}, {}\n\n{}{failures}", self.target, self.machine.text(), table::markdown(&rows))
    }
}
