//! Rig doors: a server with all its doors open, written to by every protocol that acknowledges, and
//! killed with SIGKILL again and again.
//!
//! What was acknowledged must be found, once and unharmed; what was never sent must not be. Every
//! other kill is aimed: it strikes while a request of that protocol is in flight which was
//! interrupted least so far. Kills wait for a protocol whose requests take so long that they would
//! never be acknowledged. A run goes on until each was interrupted and acknowledged often enough.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::far_end::{Found, READ_SETTING};
use crate::ledger::Account;
use crate::load::{self, Load};
use crate::mint::Mint;
use crate::process::{Binaries, ProcessError, Server, free_addr};
use crate::report::{Floor, Report, Table};
use crate::rig::{Finished, Options, RigError, drain, wait_built};
use crate::writers::{Addresses, Progress, Protocol, Writer};

/// How long requests may take to be acknowledged again after a kill.
const RECOVERY_MAX: Duration = Duration::from_secs(120);
/// How long an aimed kill waits for its moment.
const AIM_MAX: Duration = Duration::from_secs(5);
/// How long a kill waits for an acknowledgement of a protocol that had few.
const PATIENCE_MAX: Duration = Duration::from_secs(20);
/// After how many kills the load rests and everything is compared.
const KILLS_PER_CHECK: u64 = 50;
/// Requests of each protocol that must be acknowledged, and interrupted, in the shortest run.
const ACKNOWLEDGED_MIN: u64 = 5;
const INTERRUPTED_MIN: u64 = 3;

/// One writer, from outside.
struct Watched {
    protocol: Protocol,
    progress: Arc<Progress>,
}

struct Rig<'o> {
    options: &'o Options,
    random: SmallRng,
    load: Arc<Load>,
    server: Server,
    watched: Vec<Watched>,
    writers: Vec<JoinHandle<()>>,
    watcher: Option<JoinHandle<()>>,
    started: Instant,
    mended: Instant,
    kills: u64,
    recoveries: Vec<Duration>,
    other: Vec<String>,
}

/// Runs rig doors. `progress` is given a line per kill.
pub fn run(options: &Options, progress: &mut dyn FnMut(&str)) -> Result<Finished, RigError> {
    let folder = options.make_folder("doors")?;
    let mut rig = Rig::start(options, &folder)?;
    while rig.goes_on() {
        rig.wait_for_the_slow();
        rig.wait_for_a_moment();
        rig.kill(progress)?;
        if rig.kills.is_multiple_of(KILLS_PER_CHECK) {
            rig.check_at_rest(progress)?;
        }
    }
    let report = rig.finish(progress)?;
    let faults_min = options.rounds.map_or(1, u64::from);
    let floor = Floor { acknowledged_min: report.faults * 100, retries_min: 1, faults_min };
    Ok(Finished::close(report, floor, folder)?)
}

/// Addresses that differ, and the configuration that opens every door of the server.
fn doors(http: SocketAddr) -> Result<(Addresses, String), ProcessError> {
    const DOORS: [&str; 10] = [
        "elasticsearch",
        "loki",
        "otlp",
        "otlp_grpc",
        "forward",
        "syslog_tcp",
        "syslog_udp",
        "gelf_tcp",
        "gelf_udp",
        "json_tcp",
    ];
    let mut taken = vec![http];
    while taken.len() <= DOORS.len() {
        let addr = free_addr()?;
        if !taken.contains(&addr) {
            taken.push(addr);
        }
    }
    let addresses =
        Addresses { http, loki: taken[2], otlp: taken[3], otlp_grpc: taken[4], forward: taken[5] };
    let lines = DOORS.iter().zip(taken.iter().skip(1));
    Ok((addresses, lines.map(|(door, addr)| format!("{door} = \"{addr}\"\n")).collect()))
}

impl<'o> Rig<'o> {
    fn start(options: &'o Options, folder: &Path) -> Result<Self, RigError> {
        let binaries = Binaries::find()?;
        let data = folder.join("data");
        fs::create_dir_all(&data)?;
        let server = Server::new(&binaries.lodge, &data, folder)?;
        let (addresses, config) = doors(server.addr())?;
        let file = folder.join("lodge.toml");
        fs::write(&file, config + READ_SETTING)?;
        let mut server = server.with_args(&["--config", &file.display().to_string()]);
        server.start()?;
        let load = Load::new(Mint::new(options.seed));
        let (mut watched, mut writers, mut sources) = (Vec::new(), Vec::new(), Vec::new());
        for (number, protocol) in (0..).zip(Protocol::all()) {
            let seed = options.seed ^ number << 48;
            let writer = Writer::open(&load, protocol, &addresses, seed)?;
            sources.extend(writer.sources());
            watched.push(Watched { protocol, progress: writer.progress() });
            writers.push(writer);
        }
        let writers = writers.into_iter().map(Writer::spawn).collect();
        let watcher = Some(load::spawn_watcher(&load, server.far_end(), sources));
        Ok(Self {
            options,
            random: SmallRng::seed_from_u64(options.seed),
            load,
            server,
            watched,
            writers,
            watcher,
            started: Instant::now(),
            mended: Instant::now(),
            kills: 0,
            recoveries: Vec::new(),
            other: Vec::new(),
        })
    }

    /// What each protocol must have had for the run to mean something.
    fn least(&self) -> (u64, u64) {
        (ACKNOWLEDGED_MIN.max(self.kills / 4), INTERRUPTED_MIN.max(self.kills / 20))
    }

    fn is_idle(&self, watched: &Watched) -> bool {
        let (acknowledged_min, interrupted_min) = self.least();
        watched.progress.acknowledged() < acknowledged_min
            || watched.progress.interrupted() < interrupted_min
    }

    fn goes_on(&self) -> bool {
        let rounds = self.options.rounds.map(u64::from);
        let has_done = match rounds {
            Some(rounds) => self.kills >= rounds,
            None => self.started.elapsed().as_secs_f64() > self.options.seconds,
        };
        // More than that is no bad luck any more: the report says what was idle.
        let kills_max = 30 + 3 * rounds.unwrap_or(self.kills.min(30));
        !has_done
            || (self.kills < kills_max && self.watched.iter().any(|watched| self.is_idle(watched)))
    }

    /// Waits for the next acknowledgement of a protocol that had too few for its share of the kills.
    fn wait_for_the_slow(&self) {
        let (acknowledged_min, _) = self.least();
        let least = self.watched.iter().min_by_key(|watched| watched.progress.acknowledged());
        let Some(Watched { progress, .. }) = least else { return };
        let before = progress.acknowledged();
        let started = Instant::now();
        while before < acknowledged_min.min(self.kills)
            && progress.acknowledged() == before
            && started.elapsed() < PATIENCE_MAX
        {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Lets the load run for a while that the seed decides, and every other time until a request is
    /// in flight of the protocol that was interrupted least.
    fn wait_for_a_moment(&mut self) {
        let quiet = self.random.random_range(0.05..self.options.seconds_per_round.max(0.1));
        std::thread::sleep(Duration::from_secs_f64(quiet));
        if self.random.random_bool(0.5) {
            return;
        }
        let least = self.watched.iter().min_by_key(|watched| watched.progress.interrupted());
        let Some(Watched { progress, .. }) = least else { return };
        let aimed = Instant::now();
        while !progress.in_flight() && aimed.elapsed() < AIM_MAX {
            std::thread::sleep(Duration::from_micros(200));
        }
        let part = self.random.random_range(0.0..1.0);
        std::thread::sleep(progress.lasted().mul_f64(part).min(AIM_MAX));
    }

    /// Kills the server, now and then again while it starts, and waits until requests are
    /// acknowledged again.
    fn kill(&mut self, progress: &mut dyn FnMut(&str)) -> Result<(), RigError> {
        self.server.kill();
        self.kills += 1;
        std::thread::sleep(Duration::from_millis(self.random.random_range(0..200)));
        if self.random.random_ratio(1, 10) {
            self.server.launch()?;
            std::thread::sleep(Duration::from_millis(self.random.random_range(0..100)));
            self.server.kill();
        }
        self.mended = Instant::now();
        self.server.start()?;
        let recovery = loop {
            if let Some(after) = self.load.recovered_after(self.mended) {
                break after;
            }
            self.check_alive()?;
            std::thread::sleep(Duration::from_millis(5));
        };
        self.recoveries.push(recovery);
        let interrupted = self.watched.iter().map(|w| w.progress.interrupted());
        progress(&format!(
            "kill {:>4}: acknowledged again after {:.2} s; {} acknowledged; each protocol was \
             interrupted {} to {} times",
            self.kills,
            recovery.as_secs_f64(),
            self.load.ledger.acknowledged(),
            interrupted.clone().min().unwrap_or(0),
            interrupted.max().unwrap_or(0),
        ));
        Ok(())
    }

    /// A server that ended by itself, or answers nobody, is the end of the run.
    fn check_alive(&mut self) -> Result<(), RigError> {
        let is_late = self.mended.elapsed() > RECOVERY_MAX;
        if self.server.is_running() && !is_late {
            return Ok(());
        }
        let log = self.server.process().log_tail();
        Err(RigError::NotRecovered { what: "requests", after: RECOVERY_MAX, log })
    }

    fn check_at_rest(&mut self, progress: &mut dyn FnMut(&str)) -> Result<(), RigError> {
        if !self.load.pause(self.writers.len() as u64) {
            return Err(io::Error::other("the writers of the rig did not come to rest").into());
        }
        let (judgement, _) = drain(&self.load, self.server.far_end())?;
        progress(&format!("   at rest: {}", judgement.counts()));
        self.load.resume();
        Ok(())
    }

    /// Waits until every protocol has been acknowledged since the last kill.
    fn wait_all_recovered(&mut self) {
        let before: Vec<u64> = self.watched.iter().map(|w| w.progress.acknowledged()).collect();
        let started = Instant::now();
        while started.elapsed() < RECOVERY_MAX {
            let mut each = self.watched.iter().zip(&before);
            if each.all(|(w, before)| w.progress.acknowledged() > *before) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        for (watched, before) in self.watched.iter().zip(&before) {
            if watched.progress.acknowledged() == *before {
                let name = watched.protocol.name();
                self.other.push(format!("{name}: nothing was acknowledged after the last kill"));
            }
        }
    }

    /// Ends the load and judges what is there: before building, after it, and after another start.
    fn finish(mut self, progress: &mut dyn FnMut(&str)) -> Result<Report, RigError> {
        self.wait_all_recovered();
        self.load.end();
        for writer in self.writers.drain(..).chain(self.watcher.take()) {
            if writer.join().is_err() {
                return Err(io::Error::other("a thread of the rig panicked").into());
            }
        }
        progress("the load has ended; comparing");
        let far_end = self.server.far_end();
        let (before, found) = drain(&self.load, far_end)?;
        if let Err(what) = wait_built(far_end) {
            self.other.push(what);
        }
        let built = far_end.read_all(&self.load.mint)?;
        if built.rows != found.rows {
            self.other
                .push(format!("{} rows before building, {} after it", found.rows, built.rows));
        }
        self.server.kill();
        self.server.start()?;
        let (judgement, found) = drain(&self.load, self.server.far_end())?;
        if !before.is_clean() && judgement.is_clean() {
            self.other.push(format!("before building: {before:?}"));
        }
        if self.load.looks() == 0 {
            self.other.push("an idle run proves nothing: the watcher never had an answer".into());
        }
        self.other.extend(self.load.wrong());
        self.other.extend(self.server.panics());
        self.other.extend(self.idle());
        let parts = self.table(&found);
        let retries = self.watched.iter().map(|w| w.progress.repeats()).sum();
        let notes = vec![format!("{:.0} s", self.started.elapsed().as_secs_f64())];
        let Rig { kills: faults, recoveries, other, .. } = self;
        Ok(Report { judgement, retries, faults, recoveries, parts, notes, other })
    }

    /// What did not do enough for its verdict to mean something.
    fn idle(&self) -> Vec<String> {
        let (acknowledged_min, interrupted_min) = self.least();
        let idle = self.watched.iter().filter(|watched| self.is_idle(watched));
        idle.map(|Watched { protocol, progress }| {
            let (acknowledged, interrupted) = (progress.acknowledged(), progress.interrupted());
            format!(
                "an idle run proves nothing: {}: {acknowledged} requests acknowledged and \
                 {interrupted} interrupted, not {acknowledged_min} and {interrupted_min}",
                protocol.name()
            )
        })
        .collect()
    }

    fn table(&self, found: &Found) -> Table {
        let heads = vec![
            "protocol",
            "requests acknowledged",
            "records",
            "found",
            "lost",
            "invented",
            "corrupted",
            "doubled",
            "torn",
            "uncertain requests",
            "of them there",
        ];
        let accounts = self.load.ledger.judge_each(found);
        let mut all = [0; 10];
        let mut rows = Vec::new();
        for account in &accounts {
            let cells = cells(account);
            all.iter_mut().zip(cells).for_each(|(sum, cell)| *sum += cell);
            rows.push(row(&account.name, cells));
        }
        rows.push(row("all", all));
        Table { heads, rows }
    }
}

fn cells(account: &Account) -> [u64; 10] {
    let Account { acknowledged, unanswered, unanswered_there, judgement, .. } = account;
    [
        *acknowledged,
        judgement.acknowledged,
        judgement.acknowledged - judgement.lost,
        judgement.lost,
        judgement.invented,
        judgement.corrupted,
        judgement.doubled,
        judgement.torn,
        *unanswered,
        *unanswered_there,
    ]
}

fn row(name: &str, cells: [u64; 10]) -> Vec<String> {
    std::iter::once(name.to_owned()).chain(cells.map(|cell| cell.to_string())).collect()
}
