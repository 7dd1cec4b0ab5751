//! The short version of rig K: a few rounds of kills under load, as part of every test run. The long
//! one is `lodge-faults kill --rounds 1000`.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use lodge_faults::kill;
use lodge_faults::rig::Options;

fn run(seed: u64, rounds: u32) {
    let options = Options {
        rounds: Some(rounds),
        seconds_per_round: 1.0,
        files: 4,
        ..Options::new(seed, 0.0)
    };
    let finished = kill::run(&options, &mut |line| println!("{line}"))
        .unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    let report = finished.report;
    println!("{report}");
    let violations = report.violations(&finished.floor);
    let kept = finished.folder.display();
    assert!(violations.is_empty(), "seed {seed}, kept in {kept}: {violations:#?}\n{report}");
}

#[test]
fn nothing_is_lost_invented_or_doubled_by_kills_crash() {
    run(20_260_101, 12);
}
