//! Rig N: the network between agent, writers and server delays, drops, resets, doubles, trickles
//! and parts, under load.
//!
//! The proxies make what happens to a connection; a network namespace with a cable of its own
//! makes what happens to packets.

use std::io;
use std::time::{Duration, Instant};

use rand::Rng;
use rand::seq::SliceRandom;

use crate::netns::Namespace;
use crate::proxy::Weather;
use crate::report::Floor;
use crate::rig::{Finished, Options, Plan, Rig, RigError};

/// A fault of rig N.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    Weather(Weather),
    /// Weather, and every connection is cut when it ends.
    WeatherThenCut(Weather),
    /// The cable is pulled for so many milliseconds.
    Pull(u64),
    /// The cable is bad.
    Bad(&'static [&'static str]),
}

/// Every fault, in the order that the seed decides.
fn deck(rig: &mut Rig<'_>, cable: bool, netem: bool) -> Vec<Fault> {
    use Fault::{Bad, Pull, WeatherThenCut};
    let weather = |weather| Fault::Weather(weather);
    let mut deck = vec![
        weather(Weather::Delay(rig.random.random_range(20..300))),
        weather(Weather::BlackHole),
        WeatherThenCut(Weather::BlackHole),
        weather(Weather::ResetRequests(rig.random.random_range(1..4_000))),
        weather(Weather::ResetAnswers),
        WeatherThenCut(Weather::LoseAnswers),
        WeatherThenCut(Weather::LoseAnswers),
        weather(Weather::Duplicate),
        weather(Weather::Duplicate),
        weather(Weather::Trickle(rig.random.random_range(1..200))),
        WeatherThenCut(Weather::Trickle(rig.random.random_range(1..20))),
        weather(Weather::HalfOpen),
    ];
    if cable {
        deck.extend([Pull(700), Pull(3_000), Pull(12_000)]);
    }
    if cable && netem {
        deck.extend([
            Bad(&["delay", "80ms", "60ms"]),
            Bad(&["loss", "20%"]),
            Bad(&["duplicate", "30%"]),
            Bad(&["delay", "10ms", "reorder", "30%", "50%"]),
            Bad(&["corrupt", "5%"]),
        ]);
    }
    deck.shuffle(&mut rig.random);
    deck
}

/// Runs rig N. Without root there is no cable: the report says so.
pub fn run(options: &Options, progress: &mut dyn FnMut(&str)) -> Result<Finished, RigError> {
    let folder = options.make_folder("network")?;
    let mut plan = Plan::new(&folder);
    let cable = Namespace::make(&folder);
    if let Ok(cable) = &cable {
        plan.agent_side = cable.host();
        plan.agent_side_name = "localhost";
        plan.agent_wrap = cable.wrap();
    }
    let mut rig = Rig::start(options, plan)?;
    let netem = match &cable {
        Ok(cable) => cable.make_bad(&["delay", "1ms"]).and_then(|()| cable.make_good()),
        Err(e) => Err(io::Error::other(e.to_string())),
    };
    for (what, result) in [("a cable", cable.as_ref().err()), ("netem", netem.as_ref().err())] {
        if let Some(e) = result {
            rig.notes.push(format!("NOT SHOWN: there was no {what} here: {e}"));
        }
    }
    let cable = cable.ok();
    let mut deck_left = Vec::new();
    let (mut faults, mut known_again) = (0, 0);
    while rig.quiet() {
        if deck_left.is_empty() {
            deck_left = deck(&mut rig, cable.is_some(), netem.is_ok());
        }
        let Some(fault) = deck_left.pop() else { break };
        let known = rig.duplicates();
        let mended = cause(&mut rig, fault, cable.as_ref())?;
        rig.mended_for_agent(&format!("{fault:?}"), mended, progress)?;
        known_again += rig.duplicates() - known;
        faults += 1;
    }
    let hit = rig.agent_proxy.hit() + rig.writer_proxy.hit();
    rig.notes.push(format!(
        "the weather struck {hit} times; {known_again} batches were recognised as stored before"
    ));
    let report = rig.finish(progress)?;
    drop(cable);
    let floor = Floor { acknowledged_min: 500, retries_min: 1, faults_min: faults };
    Ok(Finished::close(report, floor, folder)?)
}

/// Causes a fault and ends it; gives the moment when it ended.
fn cause(rig: &mut Rig<'_>, fault: Fault, cable: Option<&Namespace>) -> Result<Instant, RigError> {
    let hold = Duration::from_millis(rig.random.random_range(400..2_000));
    match (fault, cable) {
        (Fault::Weather(weather) | Fault::WeatherThenCut(weather), _) => {
            rig.agent_proxy.set(weather);
            if weather != Weather::Duplicate {
                // What a client without an identity says twice is stored twice, by right.
                rig.writer_proxy.set(weather);
            }
            std::thread::sleep(hold);
            if matches!(fault, Fault::WeatherThenCut(_)) {
                rig.agent_proxy.cut();
                rig.writer_proxy.cut();
            }
            rig.agent_proxy.set(Weather::Good);
            rig.writer_proxy.set(Weather::Good);
        }
        (Fault::Pull(milliseconds), Some(cable)) => {
            cable.pull()?;
            std::thread::sleep(Duration::from_millis(milliseconds));
            cable.put_back()?;
        }
        (Fault::Bad(how), Some(cable)) => {
            cable.make_bad(how)?;
            std::thread::sleep(hold * 2);
            cable.make_good()?;
        }
        (Fault::Pull(_) | Fault::Bad(_), None) => {}
    }
    Ok(Instant::now())
}
