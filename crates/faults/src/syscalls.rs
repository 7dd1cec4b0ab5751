//! Rig P: system calls of the server and of the agent fail for a while, under load.
//!
//! While everything that makes data durable fails, no request may be acknowledged; when the
//! failures end, or after another start, everything goes on.

use std::path::Path;
use std::time::{Duration, Instant};

use rand::Rng;
use rand::seq::SliceRandom;

use crate::report::Floor;
use crate::rig::{Finished, Options, Plan, Rig, RigError};
use crate::strace::{self, Injection, Strace};

/// Which process is made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Server,
    Agent,
}

/// A fault of rig P.
#[derive(Debug, Clone)]
struct Fault {
    target: Target,
    injection: Injection,
    /// Nothing can become durable meanwhile, so nothing may be acknowledged.
    no_ack: bool,
    /// A fault that need not be hit in a second or two of load.
    rare: bool,
}

fn server(injection: Injection) -> Fault {
    Fault { target: Target::Server, injection, no_ack: false, rare: false }
}

fn agent(injection: Injection) -> Fault {
    Fault { target: Target::Agent, ..server(injection) }
}

fn no_ack(injection: Injection) -> Fault {
    Fault { no_ack: true, ..server(injection) }
}

/// Every fault, in the order that the seed decides.
fn deck(rig: &mut Rig<'_>, plan_state: &Path) -> Vec<Fault> {
    let all = Injection::all;
    let checkpoint = [plan_state.join("files.tmp"), plan_state.join("files.json")];
    let logs: Vec<_> = (0..rig.options.files)
        .map(|index| rig.folder.join("logs").join(format!("file-{index}.log")))
        .collect();
    let rare = |fault| Fault { rare: true, ..fault };
    let mut deck = vec![
        no_ack(all("fsync,fdatasync", "error=EIO")),
        no_ack(all("fsync,fdatasync", "error=ENOSPC")),
        no_ack(all("pwrite64", "error=ENOSPC")),
        no_ack(all("pwrite64", "error=EIO")),
        // A write that takes nothing is the one short write that tells the truth when it is faked.
        no_ack(all("pwrite64", "retval=0")),
        server(all("fsync,fdatasync", "error=EIO").when("2+3")),
        server(all("pwrite64", "error=EIO").when("3+7")),
        server(all("pwrite64", "retval=0").when("5+11")),
        server(all("ftruncate", "error=EIO").when("1+2")),
        server(all("openat", "error=EMFILE").when("2+2")),
        server(all("fsync", "delay_enter=150000")),
        rare(server(all("pread64,preadv2", "error=EIO").when("2+3"))),
        rare(server(all("unlink,unlinkat", "error=EIO"))),
        agent(all("fsync,fdatasync", "error=EIO")),
        agent(all("rename,renameat,renameat2", "error=EIO")),
        agent(all("write", "error=ENOSPC").on(&checkpoint)),
        agent(all("write", "retval=0").on(&checkpoint)),
        rare(agent(all("read,pread64", "error=EIO").on(&logs))),
        rare(agent(all("openat", "error=EMFILE"))),
    ];
    deck.shuffle(&mut rig.random);
    deck
}

/// Runs rig P.
pub fn run(options: &Options, progress: &mut dyn FnMut(&str)) -> Result<Finished, RigError> {
    strace::check()?;
    let folder = options.make_folder("syscalls")?;
    let plan = Plan::new(&folder);
    let state = plan.state.clone();
    let mut rig = Rig::start(options, plan)?;
    let mut hits = 0;
    let mut deck_left = Vec::new();
    let mut faults = 0;
    while rig.quiet() {
        if deck_left.is_empty() {
            deck_left = deck(&mut rig, &state);
        }
        let Some(fault) = deck_left.pop() else { break };
        let (hit, mended) = cause(&mut rig, &fault)?;
        hits += hit;
        faults += 1;
        let Injection { calls, action, when, .. } = &fault.injection;
        let every = if when.is_empty() { "all" } else { when };
        let told = format!("{:?} {calls} {action} ({every}), {hit} times", fault.target);
        if hit == 0 && !fault.rare {
            rig.other.push(format!("an idle fault proves nothing: {told}"));
        }
        match fault.target {
            Target::Server => rig.mended(&told, mended, progress)?,
            Target::Agent => rig.mended_for_agent(&told, mended, progress)?,
        }
    }
    rig.notes.push(format!("{hits} system calls failed"));
    let report = rig.finish(progress)?;
    let floor = Floor { acknowledged_min: 500, retries_min: 1, faults_min: faults };
    Ok(Finished::close(report, floor, folder)?)
}

/// Causes a fault for a second or two; gives how many calls failed and when the fault was over.
fn cause(rig: &mut Rig<'_>, fault: &Fault) -> Result<(u64, Instant), RigError> {
    let log = rig.folder.join("strace.log");
    let pid = match fault.target {
        Target::Server => rig.server.process().id(),
        Target::Agent => rig.agent.process().map_or(0, |process| process.id()),
    };
    let hold = Duration::from_millis(rig.random.random_range(1_200..2_500));
    let restart = rig.random.random_ratio(1, 3);
    let strace = Strace::attach(pid, &fault.injection, &log)?;
    let from = Instant::now();
    std::thread::sleep(hold);
    let to = Instant::now();
    if restart {
        // Killed while it fails, and started when the disk is good again.
        match fault.target {
            Target::Server => rig.server.kill(),
            Target::Agent => rig.agent.kill(),
        }
    }
    let hit = strace.detach()?;
    if fault.no_ack {
        let acknowledged = rig.load.acknowledged_within(from, to);
        if acknowledged > 0 {
            let Injection { calls, action, .. } = &fault.injection;
            rig.other.push(format!(
                "{acknowledged} requests were acknowledged while each {calls} had {action}"
            ));
        }
    }
    let ended = !rig.server.is_running() && !restart;
    let mended = Instant::now();
    if ended {
        rig.other.push("the server ended by itself when a system call failed".into());
    }
    rig.start_what_is_down()?;
    Ok((hit, mended))
}
