//! Rig C: a server with a memory limit, and an agent, under input that wants to fill their memory.
//!
//! The server must refuse before the kernel kills it, and go on serving honest writers. What the
//! agent held at most is told.

use std::fmt;
use std::time::{Duration, Instant};

use rand::seq::SliceRandom;

use crate::cgroup::MemoryLimit;
use crate::doors::Door;
use crate::hostile;
use crate::http;
use crate::load::{FileWriter, Form};
use crate::report::Floor;
use crate::rig::{Finished, Options, Plan, Rig, RigError};

/// What the server may hold, the kernel's pages of its files included.
const SERVER_BYTES_MAX: u64 = 2 << 30;

/// Clients that send the same hostile input at once.
const CLIENTS: usize = 3;

/// A run of at least so many seconds uses lines of a whole GB.
const LONG_SECONDS: f64 = 20.0;

/// Hostile input to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    EndlessLine,
    Bomb,
    MillionNames,
    MillionStreams,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::EndlessLine => "an endless line",
            Fault::Bomb => "a decompression bomb",
            Fault::MillionNames => "a million field names",
            Fault::MillionStreams => "a million streams",
        })
    }
}

/// Runs rig C.
pub fn run(options: &Options, progress: &mut dyn FnMut(&str)) -> Result<Finished, RigError> {
    let folder = options.make_folder("memory")?;
    let mut plan = Plan::new(&folder);
    let limit = MemoryLimit::make(SERVER_BYTES_MAX);
    if let Ok(limit) = &limit {
        plan.server_wrap = limit.wrap();
    }
    let line_bytes = if options.seconds >= LONG_SECONDS { 1 << 30 } else { 256 << 20 };
    let mut rig = Rig::start(options, plan)?;
    // Hostile records have none of our lines, and there are millions of them.
    rig.only_ours = true;
    if let Err(e) = &limit {
        rig.notes
            .push(format!("NOT SHOWN: a limit by the kernel: {e}; the peak is judged instead"));
    }
    let logs = rig.folder.join("logs");
    hostile::write_hard_files(&logs, line_bytes)?;
    FileWriter::open(&rig.load, &logs, "behind", Form::Plain, 10, 1)?.write_record()?;
    let mut deck = Vec::new();
    let (mut round, mut answers) = (0, Vec::new());
    while rig.quiet() {
        if deck.is_empty() {
            use Fault::{Bomb, EndlessLine, MillionNames, MillionStreams};
            deck = vec![EndlessLine, Bomb, MillionNames, MillionStreams];
            deck.shuffle(&mut rig.random);
        }
        let Some(fault) = deck.pop() else { break };
        round += 1;
        let statuses = attack(&rig, fault, round, line_bytes);
        if !rig.server.is_running() {
            let log = rig.server.process().log_tail();
            rig.other.push(format!("{fault} ended the server; its log ends: {log}"));
        }
        let mended = Instant::now();
        rig.start_what_is_down()?;
        rig.mended_for_agent(&format!("{fault}: {statuses:?}"), mended, progress)?;
        answers.extend(statuses);
    }
    judge(&mut rig, &answers, limit.as_ref().ok());
    let report = rig.finish(progress)?;
    drop(limit);
    let floor = Floor { acknowledged_min: 500, retries_min: 0, faults_min: round };
    Ok(Finished::close(report, floor, folder)?)
}

/// Several clients at once; the status that each was answered, 0 for none.
fn attack(rig: &Rig<'_>, fault: Fault, round: u64, line_bytes: u64) -> Vec<u16> {
    let addr = rig.server.addr();
    let client = move |client: u64| {
        let wait = Duration::from_secs(120);
        let post = |headers: &[(&str, &str)], body: &[u8]| {
            http::request(addr, "POST", Door::Lines.target(), headers, body, wait)
                .map_or(0, |answer| answer.status)
        };
        let mark = round * 10 + client;
        match fault {
            Fault::EndlessLine => {
                hostile::post_endless_line(addr, Door::Lines.target(), line_bytes).unwrap_or(0)
            }
            Fault::Bomb => post(&[("Content-Encoding", "zstd")], &hostile::zstd_bomb(8_000)),
            Fault::MillionNames => post(&[], &hostile::million_names(mark)),
            Fault::MillionStreams => post(&[], &hostile::million_streams(mark)),
        }
    };
    let clients: Vec<_> =
        (0..CLIENTS as u64).map(|number| std::thread::spawn(move || client(number))).collect();
    clients.into_iter().map(|client| client.join().unwrap_or(0)).collect()
}

fn judge(rig: &mut Rig<'_>, answers: &[u16], limit: Option<&MemoryLimit>) {
    let kills = limit.map_or(0, MemoryLimit::kills);
    if kills > 0 {
        rig.other.push(format!("the kernel killed {kills} processes for the memory limit"));
    }
    if answers.iter().all(|status| *status == 0) {
        rig.other.push("an idle run proves nothing: no hostile request was answered".into());
    }
    for status in answers.iter().filter(|status| **status >= 500 && **status != 503) {
        rig.other.push(format!("a hostile request was answered {status}"));
    }
    let mib = |bytes: Option<u64>| bytes.map_or(0, |bytes| bytes >> 20);
    let server = rig.server.process().memory_peak();
    if limit.is_none() && server.is_some_and(|bytes| bytes > SERVER_BYTES_MAX) {
        rig.other.push(format!("the server held {} MiB", mib(server)));
    }
    let refused = answers.iter().filter(|status| (400..504).contains(*status)).count();
    let agent = rig.agent.process().and_then(|process| process.memory_peak());
    rig.notes.push(format!(
        "{} hostile requests, {refused} refused; the server held at most {} MiB, the agent {} MiB",
        answers.len(),
        mib(server),
        mib(agent),
    ));
}
