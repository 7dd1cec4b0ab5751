//! A short version of every rig but the random kills, which `kill_crash` runs: a few faults each, as
//! part of every test run. The long ones are `make faults`.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::io::Write;

use lodge_faults::report::Verdict;
use lodge_faults::rig::Options;
use lodge_faults::suite::{self, RIGS};

/// Runs a rig; what it finds wrong fails the test, and what it cannot show is said aloud.
fn run(rig: &str, rounds: Option<u32>, seconds: f64) {
    let kind = RIGS.into_iter().find(|kind| kind.name == rig).unwrap();
    // Beside other runs of these tests on the same machine.
    let parent = std::env::temp_dir().join(format!("lodge-rigs-{}", std::process::id()));
    let options = Options {
        rounds,
        seconds_per_round: 1.0,
        files: 4,
        parent: parent.clone(),
        ..Options::new(20_260_101, seconds)
    };
    let row = suite::run_one(kind, &options, &mut |line| println!("{line}"));
    // Goes with the last of the tests, unless one of them has left something to look at.
    let _not_empty_yet = std::fs::remove_dir(parent);
    assert!(row.verdict != Verdict::Bad, "rig {rig}, seed {}: {}", row.seed, row.why);
    if row.verdict == Verdict::Skipped {
        // Past the capture of the test harness: nothing is skipped in silence.
        let loud = format!("\n!!! rig {rig} was NOT RUN: {}\n", row.why);
        std::io::stderr().write_all(loud.as_bytes()).unwrap();
    }
}

#[test]
fn kills_while_every_protocol_sends_lose_nothing_crash() {
    run("doors", Some(8), 0.0);
}

#[test]
fn kills_at_named_points_lose_nothing_crash() {
    run("points", Some(15), 0.0);
}

#[test]
fn full_disks_lose_nothing_crash() {
    run("disk", Some(3), 0.0);
}

#[test]
fn failing_system_calls_lose_nothing_and_are_not_acknowledged_crash() {
    run("syscalls", Some(6), 0.0);
}

#[test]
fn a_bad_network_loses_and_doubles_nothing_crash() {
    run("network", Some(4), 0.0);
}

#[test]
fn an_object_store_that_fails_loses_and_doubles_nothing_crash() {
    run("objects", Some(5), 0.0);
}

#[test]
fn a_cluster_of_which_any_part_fails_loses_and_doubles_nothing_crash() {
    run("cluster", Some(6), 0.0);
}

#[test]
fn hostile_input_under_a_memory_limit_harms_nobody_crash() {
    run("memory", Some(2), 0.0);
}

#[test]
fn clocks_that_jump_lose_nothing_crash() {
    run("clock", Some(3), 0.0);
}
