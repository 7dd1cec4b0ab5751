//! Random operations, crashes and faults against what was promised.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::driver::{Driver, check, options};
use crate::simulated::{Fate, Fault, Moment, Simulated};

#[derive(Clone, Debug)]
enum Step {
    Append(usize),
    Sync,
    Read(usize),
    Acknowledge,
    Restart,
    Fail(u64, u64, Fault),
    /// The power goes now, for good: each pending operation has the fate of its bit.
    Crash(u64, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let fault = proptest::sample::select(vec![Fault::Nothing, Fault::Half, Fault::Forgets]);
    prop_oneof![
        10 => (0usize..=200).prop_map(Step::Append),
        5 => Just(Step::Sync),
        4 => (1usize..8).prop_map(Step::Read),
        3 => Just(Step::Acknowledge),
        1 => Just(Step::Restart),
        1 => (0u64..20, 1u64..4, fault).prop_map(|(in_calls, calls, fault)| {
            Step::Fail(in_calls, calls, fault)
        }),
        3 => (any::<u64>(), 0usize..200).prop_map(|(fates, cut)| Step::Crash(fates, cut)),
    ]
}

fn run(steps: &[Step]) {
    let mut driver = Driver::new(Simulated::default(), options());
    driver.reads_promise = false;
    for step in steps {
        match step {
            Step::Append(bytes) => drop(driver.append(*bytes)),
            Step::Sync => drop(driver.sync()),
            Step::Read(frames) => driver.read(*frames),
            Step::Acknowledge => driver.acknowledge(),
            Step::Restart => driver.restart(),
            Step::Fail(in_calls, calls, fault) => {
                driver.disk.fail(driver.disk.calls() + in_calls, *calls, *fault);
            }
            Step::Crash(fates, cut) => {
                let moment = Moment::after(&driver.disk.log());
                let torn = moment.last_write().map(|(index, _)| index);
                let image = moment.image(|index| match fates >> (index % 64) & 1 {
                    0 if torn == Some(index) && fates >> 63 == 0 => Fate::Cut(*cut),
                    0 => Fate::Lost,
                    _ => Fate::Kept,
                });
                check(&image, &driver.promises(driver.disk.log_len()), &[]);
            }
        }
        let ids = &driver.delivered;
        assert!(ids.is_sorted_by(|a, b| a < b), "not in order, or twice: {ids:?}");
    }
    // Well again: all that was called durable comes, if it has not come yet.
    driver.disk.fail(0, 0, Fault::Nothing);
    driver.read(10_000);
    let promises = driver.promises(driver.disk.log_len());
    for id in promises.durable {
        assert!(driver.delivered.contains(&id), "{id} is missing of {:?}", driver.delivered);
    }
}

#[test]
fn random_operations_faults_and_crashes_model() {
    let config = Config {
        cases: 5000,
        failure_persistence: None,
        max_shrink_iters: 5000,
        ..Config::default()
    };
    let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    TestRunner::new_with_rng(config, random)
        .run(&vec(step(), 1..60), |steps| {
            run(&steps);
            Ok(())
        })
        .unwrap();
}
/// A file whose begin and removal both seemed to fail was taken for the last one, for whose sake the
/// one before may go: then no name was left to keep its number from being used again.
#[test]
fn a_file_that_never_was_does_not_stand_in_for_the_last_one_model() {
    run(&[
        Step::Append(23),
        Step::Fail(8, 2, Fault::Half),
        Step::Sync,
        Step::Append(34),
        Step::Sync,
        Step::Append(75),
        Step::Append(105),
        Step::Read(3),
        Step::Acknowledge,
        Step::Crash(0, 0),
    ]);
}

/// A name that the process before had made, but not durably, was relied on to keep the number.
#[test]
fn a_name_seen_after_a_restart_is_durable_before_it_is_relied_on_model() {
    run(&[
        Step::Append(200),
        Step::Sync,
        // The header is not written, and the file not removed.
        Step::Fail(1, 2, Fault::Nothing),
        Step::Append(200),
        Step::Restart,
        Step::Read(3),
        // The first file is removed; the folder is not synced.
        Step::Fail(1, 1, Fault::Nothing),
        Step::Acknowledge,
        Step::Crash(0b10, 0),
    ]);
}
