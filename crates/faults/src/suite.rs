//! All rigs, one after another, and one table of them.
//!
//! Invariant: a rig that could not be run is a row that says why; nothing is left out in silence.

use crate::report::{Row, Summary, Verdict};
use crate::rig::{Finished, Options, RigError};
use crate::{clock, cluster, disk, doors_kill, kill, memory, network, objects, points, syscalls};

/// How a rig is run.
pub type Run = fn(&Options, &mut dyn FnMut(&str)) -> Result<Finished, RigError>;

/// A rig: the name of its subcommand, what it does, and how it is run.
#[derive(Debug, Clone, Copy)]
pub struct RigKind {
    /// Its subcommand.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    /// How it is run.
    pub run: Run,
}

/// Every rig, in the order in which they are run.
pub const RIGS: [RigKind; 10] = [
    RigKind {
        name: "kill",
        about: "kill -9, SIGSTOP, lost answers at random times",
        run: kill::run,
    },
    RigKind {
        name: "doors",
        about: "kill -9 of the server while every protocol that acknowledges sends",
        run: doors_kill::run,
    },
    RigKind {
        name: "points",
        about: "kill -9 at each system call of a short load",
        run: points::run,
    },
    RigKind { name: "disk", about: "full disks under server and agent", run: disk::run },
    RigKind { name: "syscalls", about: "system calls that fail", run: syscalls::run },
    RigKind { name: "network", about: "delays, resets, partitions", run: network::run },
    RigKind {
        name: "objects",
        about: "an object store that fails: errors, lost answers, silence, outages",
        run: objects::run,
    },
    RigKind {
        name: "cluster",
        about: "servers with different roles over one PostgreSQL and one bucket",
        run: cluster::run,
    },
    RigKind { name: "memory", about: "hostile input under a memory limit", run: memory::run },
    RigKind { name: "clock", about: "clocks that jump by an hour", run: clock::run },
];

/// Runs one rig with one seed, tells everything through `progress`, and gives its row.
pub fn run_one(kind: RigKind, options: &Options, progress: &mut dyn FnMut(&str)) -> Row {
    let RigKind { name: rig, run, .. } = kind;
    let seed = options.seed;
    progress(&format!("== rig {rig}, seed {seed}"));
    match run(options, progress) {
        Ok(Finished { report, floor, folder }) => {
            progress(&format!("\n{report}"));
            let violations = report.violations(&floor);
            for violation in &violations {
                progress(&format!("VIOLATION: {violation}"));
            }
            if violations.is_empty() {
                let report = Some(report);
                return Row { rig, seed, report, verdict: Verdict::Good, why: String::new() };
            }
            let kept = folder.display();
            progress(&format!("rig {rig}, seed {seed}: data and logs are kept in {kept}"));
            let why = violations.join("; ");
            Row { rig, seed, report: Some(report), verdict: Verdict::Bad, why }
        }
        Err(RigError::Missing { what, mend }) => {
            progress(&format!("!!! rig {rig} was NOT RUN: {what}; {mend}"));
            let why = format!("{what}; {mend}");
            Row { rig, seed, report: None, verdict: Verdict::Skipped, why }
        }
        Err(e) => {
            progress(&format!("rig {rig}, seed {seed}: could not be carried out: {e}"));
            let why = e.to_string().lines().next().unwrap_or_default().to_owned();
            Row { rig, seed, report: None, verdict: Verdict::Bad, why }
        }
    }
}

/// Runs each rig with each seed, one after another.
pub fn run(
    rigs: &[RigKind],
    seeds: &[u64],
    template: &Options,
    progress: &mut dyn FnMut(&str),
) -> Summary {
    let mut summary = Summary::default();
    for kind in rigs {
        for &seed in seeds {
            let options = Options { seed, ..template.clone() };
            summary.rows.push(run_one(*kind, &options, progress));
        }
    }
    summary
}
