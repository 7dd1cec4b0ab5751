//! Rig K: a real server and a real agent under load, killed and stopped at random moments.
//!
//! Files are written and rotated and HTTP requests are sent all the time; each round picks a fault
//! by the seed. Every few rounds, and at the end, the load rests, the rig waits until everything has
//! arrived, and the oracle compares. At the end it does so twice, before and after everything was
//! built into segments, and sends a fresh line through file and request.

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use crate::far_end::{FarEnd, Found, ReadError};
use crate::ledger::{Judgement, Outcome};
use crate::load::{self, FileWriter, Form, Load};
use crate::mint::Mint;
use crate::process::{self, Binaries, Process, ProcessError, Server};
use crate::proxy::Proxy;
use crate::report::{Floor, Report};

/// How long the far end may stand still, short of lines, before they are called lost.
const DRAIN_STILL_MAX: Duration = Duration::from_secs(30);

/// After how many rounds the load rests and everything is compared.
const ROUNDS_PER_CHECK: u32 = 10;

const HTTP_WRITERS: u64 = 2;

/// What a run of rig K is asked to do.
#[derive(Debug, Clone)]
pub struct KillOptions {
    /// Number of faults.
    pub rounds: u32,
    /// Decides the faults, their moments and the lines.
    pub seed: u64,
    /// The longest time between two faults, in seconds.
    pub seconds_per_round: f64,
    /// Log files written at the same time.
    pub files: u32,
    /// Lines per second and file.
    pub lines_per_second: u64,
    /// Where the run's folder is made; it is removed after a good run.
    pub parent: PathBuf,
}

impl KillOptions {
    /// What a run must reach to prove anything.
    pub fn floor(&self) -> Floor {
        let rounds = u64::from(self.rounds);
        Floor { acknowledged_min: rounds * 100, retries_min: 1, faults_min: rounds }
    }
}

/// Why a run could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum KillError {
    /// A process could not be started, or did not start again after a fault.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The far end could not be read, though nothing was wrong at the time.
    #[error("reading back: {0}")]
    Read(#[from] ReadError),
    /// The run's folder could not be used.
    #[error("the run's folder: {0}")]
    Folder(#[from] io::Error),
}

/// A fault of rig K.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9` of the server.
    KillServer,
    /// `kill -9` of the agent.
    KillAgent,
    /// `kill -9` of both.
    KillBoth,
    /// `kill -9` of the server, and again while it starts.
    KillServerTwice,
    /// SIGSTOP of the server, then SIGCONT.
    StopServer,
    /// SIGSTOP of the agent, then SIGCONT.
    StopAgent,
    /// SIGSTOP of the server, then `kill -9`.
    StopThenKillServer,
    /// SIGTERM of the server, which may end its work in peace.
    EndServer,
    /// SIGTERM of the agent.
    EndAgent,
    /// Requests arrive, their answers are lost, then the connections are cut.
    LoseAnswers,
    /// As before, and the server is killed before anyone could ask again.
    LoseAnswersKillServer,
    /// As before, and the agent is killed: its checkpoint knows nothing of the last commits.
    LoseAnswersKillAgent,
}

impl Fault {
    /// Every fault, the likelier ones more than once, in the order that the seed decides: a short
    /// run meets each kind as a long one does.
    fn deck(random: &mut SmallRng) -> Vec<Fault> {
        use Fault::{
            EndAgent, EndServer, KillAgent, KillBoth, KillServer, KillServerTwice, LoseAnswers,
            LoseAnswersKillAgent, LoseAnswersKillServer, StopAgent, StopServer, StopThenKillServer,
        };
        let mut rare = [EndAgent, EndServer, StopAgent, StopServer, StopThenKillServer];
        let mut often = [
            KillServer,
            KillAgent,
            KillBoth,
            KillServerTwice,
            LoseAnswers,
            LoseAnswersKillAgent,
            LoseAnswersKillServer,
        ];
        let mut deck = Vec::new();
        often.shuffle(random);
        deck.extend(often);
        rare.shuffle(random);
        deck.extend(rare);
        often.shuffle(random);
        deck.extend(often);
        deck.reverse();
        deck
    }

    fn strikes_server(self) -> bool {
        !matches!(
            self,
            Fault::KillAgent
                | Fault::StopAgent
                | Fault::EndAgent
                | Fault::LoseAnswers
                | Fault::LoseAnswersKillAgent
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::KillServer => "kill -9 server",
            Fault::KillAgent => "kill -9 agent",
            Fault::KillBoth => "kill -9 server and agent",
            Fault::KillServerTwice => "kill -9 server, again while it starts",
            Fault::StopServer => "SIGSTOP server",
            Fault::StopAgent => "SIGSTOP agent",
            Fault::StopThenKillServer => "SIGSTOP server, kill -9",
            Fault::EndServer => "SIGTERM server",
            Fault::EndAgent => "SIGTERM agent",
            Fault::LoseAnswers => "lose answers, cut connections",
            Fault::LoseAnswersKillServer => "lose answers, kill -9 server",
            Fault::LoseAnswersKillAgent => "lose answers, kill -9 agent",
        })
    }
}

/// Runs rig K. `progress` is given a line per round. Returns the report and the run's folder, which
/// is removed when there were no violations.
pub fn run(
    options: &KillOptions,
    progress: &mut dyn FnMut(&str),
) -> Result<(Report, PathBuf), KillError> {
    let folder = options.parent.join(format!("lodge-faults-{}", options.seed));
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    for part in ["data", "logs", "agent"] {
        fs::create_dir_all(folder.join(part))?;
    }
    let mut rig = Rig::start(options, &folder)?;
    for round in 1..=options.rounds {
        rig.round(round, progress)?;
        if round % ROUNDS_PER_CHECK == 0 && round < options.rounds {
            rig.check_at_rest(progress)?;
        }
    }
    let report = rig.finish(progress)?;
    if report.violations(&options.floor()).is_empty() {
        fs::remove_dir_all(&folder)?;
    }
    Ok((report, folder))
}

struct Rig<'o> {
    options: &'o KillOptions,
    folder: PathBuf,
    random: SmallRng,
    deck: Vec<Fault>,
    load: Arc<Load>,
    writers: Vec<JoinHandle<()>>,
    watcher: Option<JoinHandle<()>>,
    server: Server,
    proxy: Proxy,
    agent: Agent,
    faults: u64,
    recoveries: Vec<Duration>,
    retries: u64,
    duplicates_seen: u64,
}

impl<'o> Rig<'o> {
    fn start(options: &'o KillOptions, folder: &Path) -> Result<Rig<'o>, KillError> {
        let binaries = Binaries::find()?;
        let mut server = Server::new(&binaries.lodge, &folder.join("data"), folder)?;
        server.start()?;
        let proxy = Proxy::start(server.addr())?;
        let mut agent = Agent::new(&binaries.agent, folder, proxy.addr());
        agent.start()?;
        let load = Load::new(Mint::new(options.seed));
        let mut writers = Vec::new();
        for index in 0..options.files {
            let form = [Form::Plain, Form::Json, Form::Trace][index as usize % 3];
            let name = format!("file-{index}");
            let seed = options.seed ^ u64::from(index) << 32;
            // Different lengths, so that rotations do not fall together.
            let rotate_after = 700 + 350 * u64::from(index);
            let logs = folder.join("logs");
            let writer = FileWriter::open(&load, &logs, &name, form, rotate_after, seed)?;
            writers.push(writer.spawn(options.lines_per_second));
        }
        for index in 0..HTTP_WRITERS {
            let name = format!("http-{index}");
            let seed = options.seed ^ index << 48;
            // The first goes straight to the server, the others lose answers as the agent does.
            let far_end = if index == 0 { server.far_end() } else { FarEnd::new(proxy.addr()) };
            writers.push(load::spawn_http_writer(&load, far_end, &name, seed));
        }
        let first_http = u16::try_from(options.files).unwrap_or(u16::MAX);
        let watcher = Some(load::spawn_watcher(&load, server.far_end(), first_http));
        Ok(Rig {
            options,
            folder: folder.to_owned(),
            random: SmallRng::seed_from_u64(options.seed),
            deck: Vec::new(),
            load,
            writers,
            watcher,
            server,
            proxy,
            agent,
            faults: 0,
            recoveries: Vec::new(),
            retries: 0,
            duplicates_seen: 0,
        })
    }

    fn round(&mut self, round: u32, progress: &mut dyn FnMut(&str)) -> Result<(), KillError> {
        let quiet = self.random.random_range(0.1..self.options.seconds_per_round.max(0.2));
        std::thread::sleep(Duration::from_secs_f64(quiet));
        if self.deck.is_empty() {
            self.deck = Fault::deck(&mut self.random);
        }
        let Some(fault) = self.deck.pop() else { return Ok(()) };
        self.note_retries();
        let mended = self.cause(fault)?;
        self.faults += 1;
        let recovery = self.wait_recovered(mended)?;
        if fault.strikes_server() {
            self.recoveries.push(recovery);
        }
        progress(&format!(
            "round {round:>4}/{}: {fault}; acknowledged again after {:.2} s; {} acknowledged, \
             {} requests without success",
            self.options.rounds,
            recovery.as_secs_f64(),
            self.load.ledger.acknowledged(),
            self.load.troubles(),
        ));
        Ok(())
    }

    /// Causes a fault and mends it: gives the moment from which the service could recover.
    fn cause(&mut self, fault: Fault) -> Result<Instant, KillError> {
        let pause = Duration::from_millis(self.random.random_range(0..800));
        match fault {
            Fault::KillServer => self.server.kill(),
            Fault::KillAgent => self.agent.kill(),
            Fault::KillBoth if self.random.random_bool(0.5) => {
                self.server.kill();
                self.agent.kill();
            }
            Fault::KillBoth => {
                self.agent.kill();
                self.server.kill();
            }
            Fault::KillServerTwice => {
                self.server.kill();
                self.server.launch()?;
                std::thread::sleep(Duration::from_millis(self.random.random_range(0..60)));
                self.server.kill();
            }
            Fault::StopServer => {
                self.server.process().stop();
                std::thread::sleep(pause * 3);
                self.server.process().go_on();
            }
            Fault::StopAgent => {
                self.agent.stop();
                std::thread::sleep(pause * 3);
                self.agent.go_on();
            }
            Fault::StopThenKillServer => {
                self.server.process().stop();
                std::thread::sleep(pause);
                self.server.kill();
            }
            Fault::EndServer => {
                self.server.process().terminate(Duration::from_secs(15));
                self.server.kill();
            }
            Fault::EndAgent => {
                self.agent.terminate(Duration::from_secs(15));
                self.agent.kill();
            }
            Fault::LoseAnswers | Fault::LoseAnswersKillServer | Fault::LoseAnswersKillAgent => {
                self.proxy.swallow_answers();
                std::thread::sleep(pause);
                match fault {
                    Fault::LoseAnswersKillServer => self.server.kill(),
                    Fault::LoseAnswersKillAgent => self.agent.kill(),
                    _ => {}
                }
                self.proxy.cut();
            }
        }
        let whole = self.server.is_running() && self.agent.is_running();
        if !whole {
            std::thread::sleep(pause);
        }
        let mended = Instant::now();
        if !self.server.is_running() {
            self.server.start()?;
        }
        if !self.agent.is_running() {
            self.agent.start()?;
        }
        Ok(mended)
    }

    /// The time from a moment to the next acknowledgement.
    fn wait_recovered(&mut self, since: Instant) -> Result<Duration, KillError> {
        let limit = Duration::from_secs(60);
        loop {
            if let Some(after) = self.load.recovered_after(since) {
                return Ok(after);
            }
            if since.elapsed() > limit {
                let log = self.server.process().log_tail();
                return Err(ProcessError::NotHealthy { after: limit, log }.into());
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

    /// Rests the load, compares everything, and deletes the rotated files, which by then are
    /// read to their ends: new files will be given their inodes.
    fn check_at_rest(&mut self, progress: &mut dyn FnMut(&str)) -> Result<(), KillError> {
        if !self.load.pause(self.writers.len() as u64) {
            return Err(io::Error::other("the writers of the rig did not come to rest").into());
        }
        let (judgement, _) = self.drain()?;
        progress(&format!(
            "   at rest: {} acknowledged, {} lost, {} invented, {} corrupted, {} doubled, {} torn",
            judgement.acknowledged,
            judgement.lost,
            judgement.invented,
            judgement.corrupted,
            judgement.doubled,
            judgement.torn,
        ));
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
    fn drain(&mut self) -> Result<(Judgement, Found), KillError> {
        let far_end = self.server.far_end();
        let mut moved = Instant::now();
        let mut rows = 0;
        loop {
            let found = far_end.read_all(&self.load.mint)?;
            let judgement = self.load.ledger.judge(&found);
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

    fn finish(mut self, progress: &mut dyn FnMut(&str)) -> Result<Report, KillError> {
        self.load.end();
        for writer in self.writers.drain(..).chain(self.watcher.take()) {
            if writer.join().is_err() {
                return Err(io::Error::other("a thread of the rig panicked").into());
            }
        }
        let mut other = Vec::new();
        progress("the load has ended; waiting until everything has arrived");
        let (before, found) = self.drain()?;
        progress("waiting until everything is built into segments");
        if let Err(what) = self.wait_built() {
            other.push(what);
        }
        let built = self.server.far_end().read_all(&self.load.mint)?;
        if built.rows != found.rows {
            other.push(format!("{} rows before building, {} after it", found.rows, built.rows));
        }
        self.send_fresh(&mut other)?;
        self.server.kill();
        self.server.start()?;
        let (judgement, _) = self.drain()?;
        self.note_retries();
        if !before.is_clean() && judgement.is_clean() {
            other.push(format!("before building: {before:?}"));
        }
        if self.load.looks() == 0 {
            other.push("an idle run proves nothing: the watcher never had an answer".into());
        }
        other.extend(self.load.wrong());
        other.extend(self.server.panics());
        other.extend(process::panics_in(&self.agent.log));
        let Rig { retries, faults, recoveries, .. } = self;
        Ok(Report { judgement, retries, faults, recoveries, other })
    }

    /// Waits until the server says that nothing is left at level 0.
    fn wait_built(&self) -> Result<(), String> {
        let far_end = self.server.far_end();
        let started = Instant::now();
        let mut last = String::from("no status");
        while started.elapsed() < Duration::from_secs(90) {
            match far_end.l0_segments() {
                Ok(0) => return Ok(()),
                Ok(left) => last = format!("{left} L0 objects"),
                Err(e) => last = e.to_string(),
            }
            std::thread::sleep(Duration::from_millis(250));
        }
        Err(format!("not built after 90 s: {last}"))
    }

    /// After all faults, a new line through a file and a new request must pass as on the first day.
    fn send_fresh(&mut self, other: &mut Vec<String>) -> Result<(), KillError> {
        let logs = self.folder.join("logs");
        FileWriter::open(&self.load, &logs, "fresh", Form::Plain, 10, 1)?.write_record()?;
        let far_end = self.server.far_end();
        let outcome = load::send_once(&self.load, far_end, "http-fresh", 10);
        if outcome != Outcome::Acknowledged {
            other.push(format!("a fresh request after all faults: {outcome:?}"));
        }
        Ok(())
    }
}

/// The agent under test.
#[derive(Debug)]
struct Agent {
    binary: PathBuf,
    args: Vec<String>,
    log: PathBuf,
    log_seen: usize,
    running: Option<Process>,
}

impl Agent {
    fn new(binary: &Path, folder: &Path, server: SocketAddr) -> Agent {
        let args = process::agent_args(
            server,
            &folder.join("agent"),
            &format!("{}/*.log*", folder.join("logs").display()),
        );
        let log = folder.join("agent.log");
        Agent { binary: binary.to_owned(), args, log, log_seen: 0, running: None }
    }

    fn start(&mut self) -> Result<(), ProcessError> {
        let envs = [("RUST_BACKTRACE", "1")];
        self.running = Some(Process::start(&self.binary, &self.args, &envs, &self.log)?);
        Ok(())
    }

    /// Whether it runs; one that ended by itself does not, and is started again.
    fn is_running(&mut self) -> bool {
        self.running.as_mut().is_some_and(|process| process.ended().is_none())
    }

    fn kill(&mut self) {
        if let Some(process) = &mut self.running {
            process.kill();
        }
        self.running = None;
    }

    fn stop(&self) {
        if let Some(process) = &self.running {
            process.stop();
        }
    }

    fn go_on(&self) {
        if let Some(process) = &self.running {
            process.go_on();
        }
    }

    fn terminate(&mut self, limit: Duration) {
        if let Some(process) = &mut self.running {
            process.terminate(limit);
        }
    }

    /// Lines of its log, since the last call, that tell of a retry.
    fn retries_since_last_look(&mut self) -> u64 {
        let log = fs::read(&self.log).unwrap_or_default();
        let new = String::from_utf8_lossy(log.get(self.log_seen..).unwrap_or_default());
        self.log_seen = log.len();
        new.lines().filter(|line| line.contains("trying again")).count() as u64
    }
}
