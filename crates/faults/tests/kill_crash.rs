//! The short version of rig K: a few rounds of kills under load, as part of every test run. The long
//! one is `lodge-faults kill --rounds 100`.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use lodge_faults::kill::{self, KillOptions};

fn run(seed: u64, rounds: u32) {
    let options = KillOptions {
        rounds,
        seed,
        seconds_per_round: 1.0,
        files: 3,
        lines_per_second: 300,
        parent: std::env::temp_dir(),
    };
    let (report, folder) = kill::run(&options, &mut |line| println!("{line}"))
        .unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    println!("{report}");
    let violations = report.violations(&options.floor());
    let kept = folder.display();
    assert!(violations.is_empty(), "seed {seed}, kept in {kept}: {violations:#?}\n{report}");
}

#[test]
fn nothing_is_lost_invented_or_doubled_by_kills_crash() {
    run(20_260_101, 12);
}
