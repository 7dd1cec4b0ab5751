//! What every rig stands on: a server and an agent under load, the books, and the comparison.
//!
//! A rig causes faults between [`Rig::quiet`] and [`Rig::mended`]; what is owed, how everything
//! comes to rest and what must hold in the end is the same for all of them.
//!
//! Invariant: a run's folder is removed only after a run without violations.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use crate::agent::Agent;
use crate::far_end::{FarEnd, Found, ReadError};
use crate::ledger::{Judgement, Outcome};
use crate::load::{self, FileWriter, Form, Load, Repeats, Rotation};
use crate::mint::Mint;
use crate::process::{Binaries, ProcessError, Server, Wrap};
use crate::proxy::Proxy;
use crate::report::{Floor, Report};

/// How long the far end may stand still, short of lines, before they are called lost.
const DRAIN_STILL_MAX: Duration = Duration::from_secs(45);

/// How long requests, and then lines of files, may take to pass again after a fault.
const RECOVERY_MAX: Duration = Duration::from_secs(120);

/// After how many faults the load rests and everything is compared.
const FAULTS_PER_CHECK: u64 = 10;

const HTTP_WRITERS: u64 = 4;

/// What a run is asked to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// Decides the faults, their moments and the lines.
    pub seed: u64,
    /// About how long faults are caused, in seconds; starting and comparing come on top.
    pub seconds: f64,
    /// Exactly so many faults instead, where the rig counts them.
    pub rounds: Option<u32>,
    /// The longest time between two faults, in seconds.
    pub seconds_per_round: f64,
    /// Log files written at the same time.
    pub files: u32,
    /// Lines per second and file.
    pub lines_per_second: u64,
    /// Where the run's folder is made; it is removed after a good run.
    pub parent: PathBuf,
}

impl Options {
    /// What `lodge-faults` runs when it is not told otherwise.
    pub fn new(seed: u64, seconds: f64) -> Options {
        Options {
            seed,
            seconds,
            rounds: None,
            seconds_per_round: 2.0,
            files: 8,
            lines_per_second: 300,
            parent: std::env::temp_dir(),
        }
    }

    /// Makes the empty folder of a run of the rig `name`.
    pub fn make_folder(&self, name: &str) -> io::Result<PathBuf> {
        let folder = self.parent.join(format!("lodge-faults-{name}-{}", self.seed));
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(folder.join("logs"))?;
        Ok(folder)
    }
}

/// Why a run could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum RigError {
    /// A process could not be started, or did not start again after a fault.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The far end could not be read, though nothing was wrong at the time.
    #[error("reading back: {0}")]
    Read(#[from] ReadError),
    /// The run's folder, or a tool of the rig, failed.
    #[error("the rig itself: {0}")]
    Os(#[from] io::Error),
    /// This machine lacks what the rig needs; nothing was shown.
    #[error("{what}; {mend}")]
    Missing {
        /// What is missing.
        what: String,
        /// How to get it.
        mend: &'static str,
    },
    /// Something did not come back after its fault was over.
    #[error("{what} did not pass {after:?} after the fault was over; the log ends: {log}")]
    NotRecovered {
        /// Requests, or lines of files.
        what: &'static str,
        /// How long we waited.
        after: Duration,
        /// The end of the server's log.
        log: String,
    },
}

/// A run that was carried out.
#[derive(Debug)]
pub struct Finished {
    /// What it found.
    pub report: Report,
    /// What it had to do for that to mean something.
    pub floor: Floor,
    /// Its folder; gone when there were no violations.
    pub folder: PathBuf,
}

impl Finished {
    /// Closes a run: its folder goes if nothing was wrong.
    pub fn close(report: Report, floor: Floor, folder: PathBuf) -> io::Result<Finished> {
        if report.violations(&floor).is_empty() {
            fs::remove_dir_all(&folder)?;
        }
        Ok(Finished { report, floor, folder })
    }
}

/// Where and how the processes of a rig run.
#[derive(Debug)]
pub struct Plan {
    /// The run's folder.
    pub folder: PathBuf,
    /// The server's data folder.
    pub data: PathBuf,
    /// The agent's state folder.
    pub state: PathBuf,
    /// More arguments of `lodge server`.
    pub server_args: Vec<String>,
    /// How the server is started.
    pub server_wrap: Wrap,
    /// How the agent is started.
    pub agent_wrap: Wrap,
    /// The address that the agent's proxy listens on.
    pub agent_side: IpAddr,
    /// The name by which the agent calls that address.
    pub agent_side_name: &'static str,
    /// Servers that share the first one's catalog and objects.
    pub peers: Vec<Peer>,
}

/// A server beside the first.
#[derive(Debug)]
pub struct Peer {
    /// Its name, for its folder.
    pub name: &'static str,
    /// More arguments of `lodge server`.
    pub args: Vec<String>,
    /// Whether it takes records.
    pub ingests: bool,
    /// Whether it answers queries.
    pub queries: bool,
}

impl Plan {
    /// Everything in the run's folder and on loopback.
    pub fn new(folder: &Path) -> Plan {
        Plan {
            folder: folder.to_owned(),
            data: folder.join("data"),
            state: folder.join("agent"),
            server_args: Vec::new(),
            server_wrap: Wrap::default(),
            agent_wrap: Wrap::default(),
            agent_side: Ipv4Addr::LOCALHOST.into(),
            agent_side_name: "127.0.0.1",
            peers: Vec::new(),
        }
    }
}

/// A server and an agent under load.
pub struct Rig<'o> {
    /// What was asked.
    pub options: &'o Options,
    /// The run's folder.
    pub folder: PathBuf,
    /// What the seed decides.
    pub random: SmallRng,
    /// The writers' common state and the books.
    pub load: Arc<Load>,
    /// The server.
    pub server: Server,
    /// The agent.
    pub agent: Agent,
    /// Servers that share its catalog, and whether they answer queries.
    pub peers: Vec<(Server, Peer)>,
    /// Between the agent and the server.
    pub agent_proxy: Proxy,
    /// Between some of the HTTP writers and the server.
    pub writer_proxy: Proxy,
    /// Anything wrong that the comparison of lines does not tell.
    pub other: Vec<String>,
    /// Whether records are stored that are nobody's lines.
    pub only_ours: bool,
    /// Remarks for the report.
    pub notes: Vec<String>,
    writers: Vec<JoinHandle<()>>,
    watchers: Vec<JoinHandle<()>>,
    started: Instant,
    faults: u64,
    recoveries: Vec<Duration>,
    retries: u64,
    duplicates_seen: u64,
}

impl<'o> Rig<'o> {
    /// Starts processes and load.
    pub fn start(options: &'o Options, mut plan: Plan) -> Result<Rig<'o>, RigError> {
        let planned = std::mem::take(&mut plan.peers);
        let binaries = Binaries::find()?;
        let Plan { folder, data, state, .. } = &plan;
        fs::create_dir_all(data)?;
        fs::create_dir_all(state)?;
        let args: Vec<&str> = plan.server_args.iter().map(String::as_str).collect();
        let mut server = Server::new(&binaries.lodge, data, folder)?.with_args(&args);
        server.set_wrap(plan.server_wrap.clone());
        server.start()?;
        let mut peers = Vec::new();
        for peer in planned {
            let args: Vec<&str> = peer.args.iter().map(String::as_str).collect();
            let home = folder.join(peer.name);
            fs::create_dir_all(&home)?;
            let mut started = Server::new(&binaries.lodge, &home, &home)?.with_args(&args);
            started.start()?;
            peers.push((started, peer));
        }
        let agent_proxy = Proxy::start(plan.agent_side, server.addr())?;
        let writer_proxy = Proxy::start(Ipv4Addr::LOCALHOST.into(), server.addr())?;
        let logs = folder.join("logs");
        let agent_log = folder.join("agent.log");
        let called = format!("{}:{}", plan.agent_side_name, agent_proxy.addr().port());
        let mut agent = Agent::new(&binaries.agent, state, &logs, &agent_log, &called);
        for (server, _) in peers.iter().filter(|(_, peer)| peer.ingests) {
            agent.add_server(&server.addr().to_string());
        }
        agent.set_wrap(plan.agent_wrap.clone());
        agent.start()?;
        let load = Load::new(Mint::new(options.seed));
        let mut rig = Rig {
            options,
            folder: folder.clone(),
            random: SmallRng::seed_from_u64(options.seed),
            load,
            server,
            agent,
            peers,
            agent_proxy,
            writer_proxy,
            other: Vec::new(),
            only_ours: false,
            notes: Vec::new(),
            writers: Vec::new(),
            watchers: Vec::new(),
            started: Instant::now(),
            faults: 0,
            recoveries: Vec::new(),
            retries: 0,
            duplicates_seen: 0,
        };
        rig.start_load(&logs)?;
        Ok(rig)
    }

    fn start_load(&mut self, logs: &Path) -> Result<(), RigError> {
        let seed = self.options.seed;
        for index in 0..self.options.files {
            let copied = Rotation::CopyTruncate(self.server.far_end());
            let (form, rotation) = match index % 4 {
                0 => (Form::Plain, Rotation::Rename),
                1 => (Form::Json, Rotation::Rename),
                2 => (Form::Trace, Rotation::Rename),
                _ => (Form::Plain, copied),
            };
            let seed = seed ^ u64::from(index) << 32;
            // Different lengths, so that rotations do not fall together.
            let rotate_after = 700 + 350 * u64::from(index);
            let name = format!("file-{index}");
            let writer = FileWriter::open(&self.load, logs, &name, form, rotate_after, seed)?;
            self.writers.push(writer.rotating(rotation).spawn(self.options.lines_per_second));
        }
        for index in 0..HTTP_WRITERS {
            let name = format!("http-{index}");
            let seed = seed ^ index << 48;
            // The first goes straight to the server, the others lose answers as the agent does; the
            // last two send again what was not answered, one of them with keys.
            let peer = self.peers.iter().find(|(_, peer)| peer.ingests);
            let far_end = match (index, peer) {
                (0, _) => self.server.far_end(),
                (1, Some((peer, _))) => peer.far_end(),
                _ => FarEnd::new(self.writer_proxy.addr()),
            };
            let repeats = match HTTP_WRITERS - index {
                1 => Repeats::Keyed,
                2 => Repeats::Plain,
                _ => Repeats::No,
            };
            self.writers.push(load::spawn_http_writer(&self.load, far_end, &name, seed, repeats));
        }
        let first_http = u16::try_from(self.options.files).unwrap_or(u16::MAX);
        let watched = vec![first_http];
        let far_ends = std::iter::once(&self.server)
            .chain(self.peers.iter().filter(|(_, peer)| peer.queries).map(|(server, _)| server))
            .map(Server::far_end);
        for far_end in far_ends {
            self.watchers.push(load::spawn_watcher(&self.load, far_end, watched.clone()));
        }
        Ok(())
    }

    /// Lets the load run for a while that the seed decides; false when the run has had its faults.
    pub fn quiet(&mut self) -> bool {
        let done = match self.options.rounds {
            Some(rounds) => self.faults >= u64::from(rounds),
            None => self.faults > 0 && self.started.elapsed().as_secs_f64() > self.options.seconds,
        };
        if done {
            return false;
        }
        let quiet = self.random.random_range(0.1..self.options.seconds_per_round.max(0.2));
        std::thread::sleep(Duration::from_secs_f64(quiet));
        self.note_retries();
        true
    }

    /// Causes one fault after the other until the run has had its faults, from decks that `deck` makes
    /// and whose last one comes first; `cause` gives the moment when its fault ended. Gives how many
    /// there were.
    pub fn go_through<F: std::fmt::Debug + Copy>(
        &mut self,
        deck: fn(&mut SmallRng) -> Vec<F>,
        mut cause: impl FnMut(&mut Self, F) -> Result<Instant, RigError>,
        progress: &mut dyn FnMut(&str),
    ) -> Result<u64, RigError> {
        let mut left = Vec::new();
        while self.quiet() {
            if left.is_empty() {
                left = deck(&mut self.random);
            }
            let Some(fault) = left.pop() else { break };
            let mended = cause(self, fault)?;
            self.mended_for_agent(&format!("{fault:?}"), mended, progress)?;
        }
        Ok(self.faults)
    }

    /// Starts whichever process does not run.
    pub fn start_what_is_down(&mut self) -> Result<(), RigError> {
        if !self.server.is_running() {
            self.server.start()?;
        }
        for (peer, _) in &mut self.peers {
            if !peer.is_running() {
                peer.start()?;
            }
        }
        if !self.agent.is_running() {
            self.agent.start()?;
        }
        Ok(())
    }

    /// Counts a fault that could be recovered from since `mended`, and waits until requests are
    /// acknowledged again. Compares everything after every tenth.
    pub fn mended(
        &mut self,
        fault: &str,
        mended: Instant,
        progress: &mut dyn FnMut(&str),
    ) -> Result<(), RigError> {
        self.faults += 1;
        let recovery = self.wait_recovered(mended)?;
        self.recoveries.push(recovery);
        progress(&format!(
            "fault {:>4}: {fault}; acknowledged again after {:.2} s; {} acknowledged, \
             {} requests without success",
            self.faults,
            recovery.as_secs_f64(),
            self.load.ledger.acknowledged(),
            self.load.troubles(),
        ));
        if self.faults.is_multiple_of(FAULTS_PER_CHECK) {
            self.check_at_rest(progress)?;
        }
        Ok(())
    }

    /// As [`Rig::mended`], and lines of files must pass again, too.
    pub fn mended_for_agent(
        &mut self,
        fault: &str,
        mended: Instant,
        progress: &mut dyn FnMut(&str),
    ) -> Result<(), RigError> {
        let id = self.load.ledger.next_line(0);
        let filter = self.load.mint.filter(id);
        let waited = Instant::now();
        while self.server.far_end().count(&filter).unwrap_or(0) == 0 {
            self.notice_death();
            if waited.elapsed() > RECOVERY_MAX {
                return Err(self.not_recovered("lines of files"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let after = mended.elapsed().as_secs_f64();
        let fault = format!("{fault}; files pass again after {after:.1} s");
        self.mended(&fault, mended, progress)
    }

    /// A server that ended by itself is a finding of its own; it is started again to go on.
    fn notice_death(&mut self) {
        if self.server.is_running() {
            return;
        }
        let log = self.server.process().log_tail();
        self.other.push(format!("the server ended by itself; its log ends: {log}"));
        if let Err(e) = self.server.start() {
            self.other.push(format!("and did not start again: {e}"));
        }
    }

    fn not_recovered(&mut self, what: &'static str) -> RigError {
        let log = self.server.process().log_tail();
        RigError::NotRecovered { what, after: RECOVERY_MAX, log }
    }

    /// The time from a moment to the next acknowledgement.
    fn wait_recovered(&mut self, since: Instant) -> Result<Duration, RigError> {
        loop {
            if let Some(after) = self.load.recovered_after(since) {
                return Ok(after);
            }
            self.notice_death();
            if since.elapsed() > RECOVERY_MAX {
                return Err(self.not_recovered("requests"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Adds up what tells of retries: batches that the server knew already (a counter that starts
    /// anew with each server, so it is read before the next fault), and the agent's own words.
    fn note_retries(&mut self) {
        self.retries += self.agent.retries_since_last_look();
        let Ok(status) = self.server.far_end().status() else { return };
        let duplicates =
            status.pointer("/ingest/duplicate_batches_total").and_then(Value::as_u64).unwrap_or(0);
        if duplicates < self.duplicates_seen {
            self.duplicates_seen = 0;
        }
        self.retries += duplicates - self.duplicates_seen;
        self.duplicates_seen = duplicates;
    }

    /// Batches that the running server has recognised as stored before.
    pub fn duplicates(&mut self) -> u64 {
        self.note_retries();
        self.duplicates_seen
    }

    /// Rests the load, compares everything, and deletes the rotated files, which by then are
    /// read to their ends: new files will be given their inodes.
    fn check_at_rest(&mut self, progress: &mut dyn FnMut(&str)) -> Result<(), RigError> {
        if !self.load.pause(self.writers.len() as u64) {
            return Err(io::Error::other("the writers of the rig did not come to rest").into());
        }
        let (judgement, _) = self.drain()?;
        progress(&format!("   at rest: {}", judgement.counts()));
        for entry in fs::read_dir(self.folder.join("logs"))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension != "log") {
                fs::remove_file(path)?;
            }
        }
        self.load.resume();
        Ok(())
    }

    /// Waits until nothing that is owed is missing, or nothing has moved for long.
    fn drain(&mut self) -> Result<(Judgement, Found), RigError> {
        let load = Arc::clone(&self.load);
        drain(&load, self.far_end())
    }

    fn far_end(&self) -> FarEnd {
        let far_end = self.server.far_end();
        if self.only_ours { far_end.only_ours() } else { far_end }
    }

    /// Ends the load, waits until everything has arrived and is built, and judges it, before
    /// building, after it, and after another start of the server. The faults must be over.
    pub fn finish(mut self, progress: &mut dyn FnMut(&str)) -> Result<Report, RigError> {
        self.load.end();
        for writer in self.writers.drain(..).chain(self.watchers.drain(..)) {
            if writer.join().is_err() {
                return Err(io::Error::other("a thread of the rig panicked").into());
            }
        }
        progress("the load has ended; waiting until everything has arrived");
        let (before, found) = self.drain()?;
        progress("waiting until everything is built into segments");
        let far_end = self.far_end();
        if let Err(what) = wait_built(far_end) {
            self.other.push(what);
        }
        let built = far_end.read_all(&self.load.mint)?;
        if built.rows != found.rows {
            self.other
                .push(format!("{} rows before building, {} after it", found.rows, built.rows));
        }
        self.send_fresh()?;
        self.server.kill();
        self.server.start()?;
        let (judgement, found) = self.drain()?;
        self.note_retries();
        if !before.is_clean() && judgement.is_clean() {
            self.other.push(format!("before building: {before:?}"));
        }
        if self.load.looks() == 0 {
            self.other.push("an idle run proves nothing: the watcher never had an answer".into());
        }
        self.other.extend(self.load.wrong());
        self.other.extend(self.server.panics());
        for (peer, Peer { name, queries, .. }) in &mut self.peers {
            self.other.extend(peer.panics());
            if !peer.is_running() {
                self.other.push(format!("{name} ended by itself"));
                continue;
            }
            let far_end = peer.far_end();
            if *queries && far_end.read_all(&self.load.mint)?.lines() != found.lines() {
                self.other.push(format!("{name} does not find what the first server finds"));
            }
        }
        self.other.extend(self.agent.panics());
        let mut notes = std::mem::take(&mut self.notes);
        notes.push(format!(
            "{} copytruncate rotations; {} surplus copies by HTTP writers that repeat, as they may",
            self.load.copied(),
            judgement.repeated,
        ));
        let Rig { retries, faults, recoveries, other, .. } = self;
        Ok(Report { judgement, retries, faults, recoveries, notes, other, ..Report::default() })
    }

    /// After all faults, a new line through a file and a new request must pass as on the first day.
    fn send_fresh(&mut self) -> Result<(), RigError> {
        let logs = self.folder.join("logs");
        FileWriter::open(&self.load, &logs, "fresh", Form::Plain, 10, 1)?.write_record()?;
        let far_end = self.server.far_end();
        let outcome = load::send_once(&self.load, far_end, "http-fresh", 10);
        if outcome != Outcome::Acknowledged {
            self.other.push(format!("a fresh request after all faults: {outcome:?}"));
        }
        Ok(())
    }
}

/// Reads back until nothing that is owed is missing, or nothing has moved for long.
pub fn drain(load: &Load, far_end: FarEnd) -> Result<(Judgement, Found), RigError> {
    let mut moved = Instant::now();
    let mut rows = 0;
    loop {
        let found = far_end.read_all(&load.mint)?;
        let judgement = load.ledger.judge(&found);
        if judgement.lost == 0 || moved.elapsed() > DRAIN_STILL_MAX {
            return Ok((judgement, found));
        }
        if found.rows != rows {
            rows = found.rows;
            moved = Instant::now();
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// Waits until the server says that nothing is left at level 0.
pub fn wait_built(far_end: FarEnd) -> Result<(), String> {
    let started = Instant::now();
    let mut last = String::from("no status");
    while started.elapsed() < Duration::from_secs(90) {
        match far_end.l0_segments() {
            Ok(0) => return Ok(()),
            Ok(left) => last = format!("{left} L0 objects"),
            Err(e) => last = e.to_string(),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(format!("not built after 90 s: {last}"))
}
