//! Rig K at named points: the server or the agent is killed at the N-th call of a chosen system
//! call, for every call that a short scripted load makes.
//!
//! A point is a system call, perhaps on one path, and a number: the thread that first makes so
//! many of these calls dies before it makes the next, and its process with it. So each is the
//! moment after one step and before the following: object written and not synced, synced and not
//! named, committed and not answered, built and not swapped, deleted and not forgotten.
//!
//! The server starts from a folder in which all is due at once: objects to build, segments to
//! merge, garbage and an orphan to sweep.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;

use crate::agent::Agent;
use crate::clock::Clock;
use crate::ledger::{Judgement, Outcome};
use crate::load::{self, FileWriter, Form, Load};
use crate::mint::Mint;
use crate::process::{Binaries, Server, Wrap};
use crate::report::{Floor, Report};
use crate::rig::{self, Finished, Options, RigError};
use crate::strace::{self, Injection};

/// Segments of one size class are merged when there are so many.
const MERGE_FAN_IN: u32 = 8;

/// Requests that prepared the folder, each of so many lines.
const PREPARED_LINES: u64 = 40;

/// Requests that a server is sent while it waits to be killed.
const REQUESTS: u32 = 4;

/// How long the work that the script caused may take until its process counts as not hit.
const SCRIPT_MAX: Duration = Duration::from_millis(1_500);

const HOUR_SECONDS: i64 = 3_600;

/// What the server does to its disk and what it says to its clients.
const SERVER_CALLS: [&str; 7] =
    ["fsync", "pwrite64", "openat", "ftruncate", "mkdir", "unlink,unlinkat", "write,writev,sendto"];

/// What the agent does to its state, what it reads, and what it says and hears.
const AGENT_CALLS: [&str; 6] =
    ["openat", "fsync", "rename", "write", "read,pread64", "writev,sendto,recvfrom"];

/// Which process a point is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Server,
    Agent,
}

/// One place to be killed at.
#[derive(Debug, Clone)]
struct Point {
    target: Target,
    calls: &'static str,
    path: Option<PathBuf>,
    number: usize,
}

/// What all points of a run found out.
#[derive(Debug, Default)]
struct Tally {
    judgement: Judgement,
    hit: u64,
    missed: u64,
    retries: u64,
    recoveries: Vec<Duration>,
    names: BTreeMap<String, u64>,
    other: Vec<String>,
}

impl Tally {
    fn add(&mut self, point: &Point, judgement: Judgement) {
        if !judgement.is_clean() && self.other.len() < 20 {
            self.other.push(format!("{point:?}: {}", judgement.counts()));
        }
        self.judgement.add(judgement);
    }

    fn wrong(&mut self, point: &Point, what: &str) {
        if self.other.len() < 20 {
            self.other.push(format!("{point:?}: {what}"));
        }
    }
}

/// Runs every point, in the order that the seed decides, or as many as `seconds` allow (0: all).
pub fn run(options: &Options, progress: &mut dyn FnMut(&str)) -> Result<Finished, RigError> {
    strace::check()?;
    let folder = options.make_folder("points")?;
    let mut bench = Bench::prepare(options, &folder)?;
    let walks = bench.reconnoitre()?;
    let points = interleave(walks, options.seed);
    progress(&format!("{} points to be killed at", points.len()));
    let started = Instant::now();
    let mut tally = Tally::default();
    let mut tried = 0;
    for point in &points {
        let over = options.seconds > 0.0 && started.elapsed().as_secs_f64() > options.seconds;
        if over || options.rounds.is_some_and(|rounds| tried >= u64::from(rounds)) {
            break;
        }
        tried += 1;
        let hit = match point.target {
            Target::Server => bench.kill_server(point, &mut tally)?,
            Target::Agent => bench.kill_agent(point, &mut tally)?,
        };
        let Point { target, calls, number, .. } = point;
        match &hit {
            Some(name) => {
                tally.hit += 1;
                *tally.names.entry(format!("{target:?} {name}")).or_default() += 1;
            }
            None => tally.missed += 1,
        }
        let hit = hit.unwrap_or_else(|| "not hit".to_owned());
        progress(&format!("point {tried:>4}: {target:?} {calls} {number}: {hit}"));
    }
    let report = bench.finish(tally, points.len())?;
    // A few points are not hit each time: threads share the work differently in each run.
    let floor = Floor { acknowledged_min: tried * 20, retries_min: 0, faults_min: tried / 2 };
    Ok(Finished::close(report, floor, folder)?)
}

/// Takes a point of each walk in turn, so that a short run has some of each.
fn interleave(mut walks: Vec<Vec<Point>>, seed: u64) -> Vec<Point> {
    let mut random = SmallRng::seed_from_u64(seed);
    for walk in &mut walks {
        walk.shuffle(&mut random);
    }
    walks.shuffle(&mut random);
    let mut points = Vec::new();
    while walks.iter().any(|walk| !walk.is_empty()) {
        points.extend(walks.iter_mut().filter_map(Vec::pop));
    }
    points
}

/// The prepared folder, and what is needed to run points.
struct Bench {
    folder: PathBuf,
    prepared: PathBuf,
    data: PathBuf,
    seed: u64,
    binaries: Binaries,
    server: Server,
    /// A server without faults, for the agents that are killed.
    agents_server: Server,
    agents_load: Arc<Load>,
    agents: u32,
    trace: PathBuf,
    clock_missing: Option<String>,
}

impl Bench {
    fn prepare(options: &Options, folder: &Path) -> Result<Bench, RigError> {
        let binaries = Binaries::find()?;
        let data = folder.join("data");
        let mut agents_server = Server::new(&binaries.lodge, &folder.join("far-data"), folder)?;
        agents_server.start()?;
        let mut bench = Bench {
            folder: folder.to_owned(),
            prepared: folder.join("prepared"),
            seed: options.seed,
            server: Server::new(&binaries.lodge, &data, folder)?,
            data,
            binaries,
            agents_server,
            agents_load: Load::new(Mint::new(options.seed ^ 1)),
            agents: 0,
            trace: folder.join("strace.log"),
            clock_missing: Clock::fixed(0).err().map(|e| e.to_string()),
        };
        let load = Load::new(Mint::new(options.seed));
        for number in 0..MERGE_FAN_IN {
            // Each start is later than the last: what was stored then is due to be built now.
            bench.server.set_wrap(bench.clock(i64::from(number) * 10));
            bench.server.start()?;
            rig::wait_built(bench.server.far_end()).map_err(io::Error::other)?;
            let name = format!("prepared-{number}");
            load::send_once(&load, bench.server.far_end(), &name, PREPARED_LINES);
            bench.server.kill();
        }
        let orphan = bench.data.join("objects/l0/00000000000000000000000000000000.l0");
        fs::write(orphan, b"no transaction names this")?;
        fs::rename(&bench.data, &bench.prepared)?;
        Ok(bench)
    }

    /// How a process is started so many seconds later.
    fn clock(&self, seconds: i64) -> Wrap {
        match Clock::fixed(seconds) {
            Ok(wrap) => wrap,
            Err(_) => {
                if seconds < HOUR_SECONDS {
                    // Without another clock, the true one must tell that objects are old.
                    std::thread::sleep(Duration::from_millis(3_300));
                }
                Wrap::default()
            }
        }
    }

    /// The books of a server's run, which begin with what the prepared folder holds.
    fn books(&self) -> Arc<Load> {
        let load = Load::new(Mint::new(self.seed));
        for number in 0..MERGE_FAN_IN {
            let source = load.ledger.open_requests(&format!("prepared-{number}"));
            let (request, _) = load.ledger.sending(source, PREPARED_LINES);
            load.ledger.settled(request, Outcome::Acknowledged);
        }
        load
    }

    /// Lets both scripts run unharmed and counts the calls that each thread makes.
    fn reconnoitre(&mut self) -> Result<Vec<Vec<Point>>, RigError> {
        let mut walks = Vec::new();
        let all = Injection::all(SERVER_CALLS_ALL, "");
        let load = self.books();
        self.run_server(&all, &load)?;
        let counts = self.count_calls()?;
        let wal = self.data.join("catalog.db-wal");
        let folders = ["objects/l0", "objects/seg/default"].map(|name| self.data.join(name));
        for calls in SERVER_CALLS {
            walks.push(walk(Target::Server, calls, None, &counts));
        }
        for path in folders {
            walks.push(walk(Target::Server, "fsync", Some(path), &counts));
        }
        walks.push(walk(Target::Server, "fsync", Some(wal), &counts));
        let all = Injection::all(AGENT_CALLS_ALL, "");
        self.run_agent(&all)?;
        let counts = self.count_calls()?;
        for calls in AGENT_CALLS {
            walks.push(walk(Target::Agent, calls, None, &counts));
        }
        Ok(walks)
    }

    fn injection(&self, point: &Point) -> Injection {
        let paths: Vec<PathBuf> = point.path.iter().cloned().collect();
        Injection::all(point.calls, "signal=SIGKILL").when(&point.number.to_string()).on(&paths)
    }

    /// Runs the script against a server that starts from the prepared folder; whether it died.
    fn run_server(&mut self, injection: &Injection, load: &Load) -> Result<bool, RigError> {
        if self.data.exists() {
            fs::remove_dir_all(&self.data)?;
        }
        copy_folder(&self.prepared, &self.data)?;
        let _no_trace_yet = fs::remove_file(&self.trace);
        let wrap = injection.wrap(&self.clock(HOUR_SECONDS), &self.trace);
        self.server.set_wrap(wrap);
        self.server.launch()?;
        let started = Instant::now();
        let far_end = self.server.far_end();
        while self.server.is_running() && !far_end.is_healthy() {
            if started.elapsed() > Duration::from_secs(30) {
                let log = self.server.process().log_tail();
                let after = started.elapsed();
                return Err(RigError::NotRecovered { what: "a start under strace", after, log });
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        for number in 0..REQUESTS {
            if self.server.is_running() {
                load::send_once(load, far_end, &format!("script-{number}"), 20);
            }
        }
        let sent = Instant::now();
        while self.server.is_running() && sent.elapsed() < SCRIPT_MAX {
            std::thread::sleep(Duration::from_millis(10));
        }
        let died = !self.server.is_running();
        self.server.kill();
        Ok(died)
    }

    fn kill_server(
        &mut self,
        point: &Point,
        tally: &mut Tally,
    ) -> Result<Option<String>, RigError> {
        let load = self.books();
        let died = self.run_server(&self.injection(point), &load)?;
        let name = died.then(|| self.name_of_last_call(point));
        // Later than anything may wait: all is built, merged and swept at once.
        self.server.set_wrap(self.clock(2 * HOUR_SECONDS));
        let recovery = self.server.start()?;
        tally.recoveries.push(recovery);
        let far_end = self.server.far_end();
        let found = far_end.read_all(&load.mint)?;
        let before = load.ledger.judge(&found);
        if let Err(what) = rig::wait_built(far_end) {
            tally.wrong(point, &what);
        }
        let built = far_end.read_all(&load.mint)?;
        if built.rows != found.rows {
            let what = format!("{} rows before building, {} after it", found.rows, built.rows);
            tally.wrong(point, &what);
        }
        tally.add(point, load.ledger.judge(&built));
        if !before.is_clean() {
            tally.wrong(point, &format!("before building: {}", before.counts()));
        }
        self.server.kill();
        if self.clock_missing.is_none() {
            self.check_swept(point, tally)?;
        }
        Ok(name)
    }

    /// Hours later, the disk holds what the catalog names and nothing else. A merge leaves garbage
    /// for the next start to sweep, so there are a few.
    fn check_swept(&mut self, point: &Point, tally: &mut Tally) -> Result<(), RigError> {
        let mut told = String::new();
        for hours in [4, 6, 8] {
            self.server.set_wrap(self.clock(hours * HOUR_SECONDS));
            self.server.start()?;
            let started = Instant::now();
            while started.elapsed() < Duration::from_secs(2) {
                let status = self.server.far_end().status()?;
                let count = |pointer| status.pointer(pointer).and_then(serde_json::Value::as_u64);
                let named = ["/segments/l0", "/segments/built"].map(count);
                let files = files_in(&self.data.join("objects"))?;
                if named.into_iter().flatten().sum::<u64>() == files {
                    self.server.kill();
                    return Ok(());
                }
                told = format!("{files} objects on the disk, {named:?} are named");
                std::thread::sleep(Duration::from_millis(20));
            }
            self.server.kill();
        }
        tally.wrong(point, &told);
        Ok(())
    }

    /// Runs an agent that is new to its files; gives it back, and whether it died.
    fn run_agent(&mut self, injection: &Injection) -> Result<(Agent, bool), RigError> {
        self.agents += 1;
        let folder = self.folder.join(format!("agent-{}", self.agents));
        let (logs, state) = (folder.join("logs"), folder.join("state"));
        fs::create_dir_all(&logs)?;
        fs::create_dir_all(&state)?;
        let log = self.folder.join("agent.log");
        let addr = self.agents_server.addr().to_string();
        let mut agent = Agent::new(&self.binaries.agent, &state, &logs, &log, &addr);
        let name = format!("{}-a", self.agents);
        let load = &self.agents_load;
        let mut writer = FileWriter::open(load, &logs, &name, Form::Plain, 60, self.seed)?;
        for _ in 0..50 {
            writer.write_record()?;
        }
        let _no_trace_yet = fs::remove_file(&self.trace);
        agent.set_wrap(injection.wrap(&Wrap::default(), &self.trace));
        agent.start()?;
        let started = Instant::now();
        let mut written = 0;
        while agent.is_running() && started.elapsed() < SCRIPT_MAX {
            // A rotation falls into this.
            if written < 60 {
                writer.write_record()?;
                written += 1;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let died = !agent.is_running();
        agent.kill();
        agent.set_wrap(Wrap::default());
        Ok((agent, died))
    }

    fn kill_agent(&mut self, point: &Point, tally: &mut Tally) -> Result<Option<String>, RigError> {
        let (mut agent, died) = self.run_agent(&self.injection(point))?;
        let name = died.then(|| self.name_of_last_call(point));
        agent.start()?;
        let load = Arc::clone(&self.agents_load);
        let (judgement, _) = rig::drain(&load, self.agents_server.far_end())?;
        if !judgement.is_clean() {
            tally.wrong(point, &judgement.counts());
        }
        tally.other.extend(agent.panics());
        agent.kill();
        Ok(name)
    }

    /// Calls that each thread made, by name and path, as strace has written them.
    fn count_calls(&self) -> Result<Vec<Call>, RigError> {
        self.wait_trace_ended();
        let text = fs::read_to_string(&self.trace)?;
        Ok(text.lines().filter_map(Call::parse).collect())
    }

    fn wait_trace_ended(&self) {
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(5) {
            let text = fs::read_to_string(&self.trace).unwrap_or_default();
            // The rig's own kill ends it, too, where the script was not hit.
            if text.lines().last().is_some_and(|line| line.contains("+++ killed by SIGKILL")) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The call before which the process was killed, without what differs from run to run.
    fn name_of_last_call(&self, point: &Point) -> String {
        self.wait_trace_ended();
        let text = fs::read_to_string(&self.trace).unwrap_or_default();
        let ours = |call: &Call| point.calls.split(',').any(|name| name == call.name);
        let cut = |line: &&str| line.ends_with("= ?") || line.ends_with("<unfinished ...>");
        let mut calls = text.lines().rev().filter(cut);
        let last = calls.find_map(|line| Call::parse(line).filter(ours));
        last.map_or_else(|| point.calls.to_owned(), |call| call.place(&self.folder))
    }

    fn finish(mut self, mut tally: Tally, points: usize) -> Result<Report, RigError> {
        let far_end = self.agents_server.far_end();
        if let Err(what) = rig::wait_built(far_end) {
            tally.other.push(what);
        }
        let (judgement, _) = rig::drain(&self.agents_load, far_end)?;
        let status = far_end.status()?;
        let pointer = "/ingest/duplicate_batches_total";
        tally.retries = status.pointer(pointer).and_then(serde_json::Value::as_u64).unwrap_or(0);
        tally.judgement.add(judgement);
        tally.other.extend(self.server.panics());
        self.agents_server.kill();
        let names: Vec<_> = tally.names.iter().map(|(name, n)| format!("{name} ×{n}")).collect();
        let mut notes = vec![
            format!("{} of {points} points hit, {} not reached", tally.hit, tally.missed),
            format!("killed before: {}", names.join("; ")),
        ];
        if let Some(why) = self.clock_missing {
            notes.push(format!("NOT SHOWN: kills while sweeping: {why}"));
        }
        Ok(Report {
            judgement: tally.judgement,
            retries: tally.retries,
            faults: tally.hit,
            recoveries: tally.recoveries,
            notes,
            other: tally.other,
            ..Report::default()
        })
    }
}

const SERVER_CALLS_ALL: &str =
    "fsync,pwrite64,openat,ftruncate,mkdir,unlink,unlinkat,write,writev,sendto";
const AGENT_CALLS_ALL: &str = "openat,fsync,rename,write,read,pread64,writev,sendto,recvfrom";

/// A line of strace.
#[derive(Debug)]
struct Call {
    thread: String,
    name: String,
    /// The path that it is about, if any.
    path: Option<String>,
}

impl Call {
    fn parse(line: &str) -> Option<Call> {
        let (thread, rest) = line.split_once(' ')?;
        let (name, args) = rest.trim_start().split_once('(')?;
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return None;
        }
        // The path in quotes is what is opened; else it is beside the descriptor.
        let quoted = args.split('"').nth(1).filter(|text| text.starts_with('/'));
        let beside = || args.split_once('<')?.1.split_once('>').map(|(path, _)| path);
        let path = quoted.or_else(beside).map(str::to_owned);
        Some(Call { thread: thread.to_owned(), name: name.to_owned(), path })
    }

    /// The call and its path below `folder`, with stars for numbers.
    fn place(&self, folder: &Path) -> String {
        let path = self.path.as_deref().unwrap_or_default();
        let path = path.strip_prefix(&*folder.to_string_lossy()).unwrap_or(path);
        let mut short = String::new();
        for word in path.split_inclusive(|letter: char| !letter.is_ascii_alphanumeric()) {
            let (letters, end) = match word.char_indices().last() {
                Some((at, last)) if !last.is_ascii_alphanumeric() => word.split_at(at),
                _ => (word, ""),
            };
            let number = letters.bytes().all(|byte| byte.is_ascii_digit());
            let id = letters.len() >= 16 && letters.bytes().all(|byte| byte.is_ascii_hexdigit());
            let differs = !letters.is_empty() && (number || id);
            short.push_str(if differs { "*" } else { letters });
            short.push_str(end);
        }
        format!("{} {short}", self.name)
    }
}

/// The points of one kind of call, as far as some thread gets.
fn walk(target: Target, calls: &'static str, path: Option<PathBuf>, made: &[Call]) -> Vec<Point> {
    let mut per_thread: BTreeMap<&str, usize> = BTreeMap::new();
    let wanted: BTreeSet<&str> = calls.split(',').collect();
    for call in made.iter().filter(|call| wanted.contains(call.name.as_str())) {
        let there = path.as_ref().is_none_or(|path| call.path.as_deref() == path.to_str());
        if there {
            *per_thread.entry(&call.thread).or_default() += 1;
        }
    }
    let most = per_thread.values().copied().max().unwrap_or(0);
    (1..=most).map(|number| Point { target, calls, path: path.clone(), number }).collect()
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn files_in(folder: &Path) -> io::Result<u64> {
    let mut files = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        files += if entry.file_type()?.is_dir() { files_in(&entry.path())? } else { 1 };
    }
    Ok(files)
}
