//! Rig O: the object store that the server keeps its records in fails by script, under load: errors,
//! lost answers, torn requests, slow bodies, silence, outages, and the server killed amid them.

use std::fs;
use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;

use crate::object_store::{FailingProxy, Failure, ObjectStore};
use crate::report::Floor;
use crate::rig::{Finished, Options, Plan, Rig, RigError};

/// A fault of rig O: so many of a hundred requests fail for a while.
#[derive(Debug, Clone, Copy)]
struct Fault {
    failure: Failure,
    percent: u32,
    hold_ms: u64,
    /// The server is killed in the middle of it and starts again before its end.
    with_kill: bool,
}

/// Every fault, in the order that the seed decides.
fn deck(random: &mut SmallRng) -> Vec<Fault> {
    let mut deck = Vec::new();
    let mut add = |failure, percent, hold_ms, with_kill| {
        deck.push(Fault { failure, percent, hold_ms, with_kill });
    };
    add(Failure::Status(500), 50, random.random_range(500..3_000), false);
    add(Failure::Status(503), 100, random.random_range(500..3_000), false);
    add(Failure::Status(429), 70, random.random_range(500..3_000), false);
    add(Failure::LoseAnswers, 100, random.random_range(300..1_500), false);
    add(Failure::LoseAnswers, 50, random.random_range(1_000..4_000), false);
    add(Failure::LoseAnswers, 100, random.random_range(300..1_500), true);
    add(Failure::CutRequests, 60, random.random_range(500..3_000), false);
    add(Failure::CutRequests, 100, random.random_range(300..1_500), true);
    add(Failure::CutAnswers, 60, random.random_range(500..3_000), false);
    add(Failure::Trickle(random.random_range(8..200)), 100, 1_500, false);
    add(Failure::Hang, 100, random.random_range(500..3_000), false);
    // Longer than a call is tried: what was sent must be refused, and sent again.
    add(Failure::Hang, 100, 35_000, false);
    add(Failure::Down, 100, random.random_range(500..3_000), false);
    add(Failure::Down, 100, 35_000, false);
    add(Failure::Down, 100, 1_000, true);
    deck.shuffle(random);
    // The long ones last, so that a short run has many kinds.
    deck.sort_by_key(|fault| std::cmp::Reverse(fault.hold_ms / 10_000));
    deck
}

/// Runs rig O.
pub fn run(options: &Options, progress: &mut dyn FnMut(&str)) -> Result<Finished, RigError> {
    let folder = options.make_folder("objects")?;
    let store = ObjectStore::start(&folder)?;
    let proxy = FailingProxy::start(store.addr())?;
    let config = folder.join("server.toml");
    fs::write(&config, ObjectStore::settings(&format!("run-{}", options.seed), proxy.addr()))?;
    let mut plan = Plan::new(&folder);
    plan.server_args = vec!["--config".to_owned(), config.display().to_string()];
    let mut rig = Rig::start(options, plan)?;
    let faults = rig.go_through(deck, |rig, fault| cause(rig, &proxy, fault), progress)?;
    let requests = rig.server.far_end().metric("lodge_object_puts_total", "").unwrap_or(0.0);
    rig.notes.push(format!("{} requests failed by script", proxy.hit()));
    // The server itself tries again, so agents often notice nothing: what struck is what counts here.
    if proxy.hit() < faults {
        rig.other.push(format!(
            "an idle run proves nothing: {faults} faults struck {} requests",
            proxy.hit()
        ));
    }
    if requests < 1.0 {
        rig.other.push("the server did not write to the object store".to_owned());
    }
    if fs::exists(folder.join("data/objects"))? {
        rig.other.push("the server kept objects as files, too".to_owned());
    }
    let report = rig.finish(progress)?;
    drop((proxy, store));
    let floor = Floor { acknowledged_min: 500, retries_min: 0, faults_min: faults };
    Ok(Finished::close(report, floor, folder)?)
}

/// Causes a fault and ends it; gives the moment when it ended.
fn cause(rig: &mut Rig<'_>, proxy: &FailingProxy, fault: Fault) -> Result<Instant, RigError> {
    let half = Duration::from_millis(fault.hold_ms / 2);
    proxy.set(fault.failure, fault.percent);
    std::thread::sleep(half);
    if fault.with_kill {
        rig.server.kill();
        rig.server.start()?;
    }
    std::thread::sleep(half);
    proxy.set(Failure::None, 0);
    Ok(Instant::now())
}
