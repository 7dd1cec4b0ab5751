//! The disk fails at any call, once or for a while: nothing is called durable that is not, and the
//! spool goes on by itself when the disk is well again.

use lodge_spool::{AppendError, Position, Read, ReadError, Spool};

use crate::driver::{Driver, Fact, check, frame, options};
use crate::simulated::{Fate, Fault, Moment, Simulated};

const GROUPS: [&[usize]; 3] = [&[4, 30, 100], &[200, 90], &[90, 17, 180, 5]];

fn scenario(driver: &mut Driver) {
    for (round, group) in GROUPS.iter().cycle().take(8).enumerate() {
        for bytes in *group {
            driver.append(*bytes);
        }
        driver.sync();
        if round % 2 == 1 {
            driver.read(6);
            driver.acknowledge();
        }
        if round == 4 {
            driver.restart();
        }
    }
}

/// Runs the scenario on a failing disk, mends the disk, and holds the spool to its word.
fn run(from: u64, calls: u64, fault: Fault) {
    let mut driver = Driver::new(Simulated::default(), options());
    driver.reads_promise = false;
    driver.disk.fail(from, calls, fault);
    scenario(&mut driver);
    driver.disk.fail(0, 0, fault);
    driver.sync();
    assert!(driver.append(50) && driver.sync(), "{fault:?} at {from}, {calls} calls");
    driver.read(1000);
    let at = format!("{fault:?} at {from}, {calls} calls: {:?}", driver.delivered);
    assert!(driver.delivered.is_sorted_by(|a, b| a < b), "not in order, or twice: {at}");
    for event in &driver.events {
        if let Fact::Durable(id) = event.fact {
            assert!(driver.delivered.contains(&id), "{id} was durable and did not come: {at}");
        }
    }
    let log = driver.disk.log();
    for operations in (from as usize % 5..=log.len()).step_by(5).chain([log.len()]) {
        let moment = Moment::after(&log[..operations]);
        for fate in [Fate::Lost, Fate::Kept] {
            check(&moment.image(|_| fate), &driver.promises(operations), &[]);
        }
    }
}

#[test]
fn every_call_fails_once_or_for_a_while() {
    let mut well = Driver::new(Simulated::default(), options());
    scenario(&mut well);
    let calls = well.disk.calls();
    assert!(calls > 150, "{calls}");
    for fault in [Fault::Nothing, Fault::Half, Fault::Forgets] {
        for from in 0..calls {
            for failing in [1, 2, 7] {
                run(from, failing, fault);
            }
        }
    }
}

/// A full disk is an error at some byte; when there is room again, appending goes on.
#[test]
fn a_full_disk_costs_nothing_that_was_durable() {
    for room in (0..900).step_by(13) {
        let mut driver = Driver::new(Simulated::default(), options());
        driver.reads_promise = false;
        driver.disk.limit(Some(room));
        scenario(&mut driver);
        driver.disk.limit(None);
        driver.sync();
        assert!(driver.append(50) && driver.sync(), "{room}");
        driver.read(1000);
        assert!(driver.delivered.is_sorted_by(|a, b| a < b));
        assert_eq!(driver.delivered.last(), Some(&(driver.sizes.len() as u32 - 1)), "{room}");
        let operations = driver.disk.log_len();
        let lost = Moment::after(&driver.disk.log()).image(|_| Fate::Lost);
        check(&lost, &driver.promises(operations), &[]);
    }
}

#[test]
fn after_a_failed_sync_the_frames_are_not_there_and_can_be_appended_again() {
    let disk = Simulated::default();
    let (mut spool, _) = Spool::open_on(disk.clone(), options(), None).unwrap();
    spool.append(&frame(0, 40)).unwrap();
    let durable = spool.sync().unwrap();
    spool.append(&frame(1, 40)).unwrap();
    spool.append(&frame(2, 40)).unwrap();
    disk.fail(disk.calls(), 1, Fault::Forgets);
    let lost = spool.sync().unwrap_err();
    assert_eq!((lost.durable, lost.frames), (durable, 2));
    assert!(lost.to_string().contains("2 frames have to be appended again"), "{lost}");
    assert_eq!(spool.read(durable).unwrap(), None);
    // The sync is not tried again and trusted.
    assert_eq!(spool.sync().unwrap(), durable);
    assert_eq!(spool.read(durable).unwrap(), None);

    let again = spool.append(&frame(1, 40)).unwrap();
    assert!(again.file > durable.file, "a new file is begun");
    spool.append(&frame(2, 40)).unwrap();
    spool.sync().unwrap();
    assert_eq!(spool.counters().failures, 1);
    // The old copies, which the disk may still show, are not read by the next life.
    let (mut spool, _) = Spool::open_on(disk, options(), None).unwrap();
    let mut ids = Vec::new();
    let mut at = Position::START;
    while let Some(Read::Frame { bytes, next }) = spool.read(at).unwrap() {
        ids.push(bytes[0]);
        at = next;
    }
    assert_eq!(ids, [0, 1, 2]);
}

#[test]
fn a_failed_write_gives_up_the_group() {
    let disk = Simulated::default();
    let (mut spool, _) = Spool::open_on(disk.clone(), options(), None).unwrap();
    spool.append(&frame(0, 40)).unwrap();
    disk.fail(disk.calls() + 1, 1, Fault::Half);
    let Err(AppendError::NotDurable(lost)) = spool.append(&frame(1, 40)) else { panic!() };
    assert_eq!((lost.durable, lost.frames), (Position::START, 1));
    assert_eq!(spool.sync().unwrap(), Position::START);
    assert_eq!(spool.read(Position::START).unwrap(), None);
}

/// An unreadable frame is not given up behind the caller's back: it says when.
#[test]
fn what_cannot_be_read_now_can_be_read_later_or_gone_over() {
    let disk = Simulated::default();
    let (mut spool, _) = Spool::open_on(disk.clone(), options(), None).unwrap();
    let first = spool.append(&frame(0, 40)).unwrap();
    let second = spool.append(&frame(1, 40)).unwrap();
    spool.sync().unwrap();
    let Some(Read::Frame { .. }) = spool.read(Position::START).unwrap() else { panic!() };
    // The header's window and the payload are one call each.
    disk.fail(disk.calls() + 1, 1, Fault::Nothing);
    let ReadError { at, next, .. } = spool.read(Position::START).unwrap_err();
    assert_eq!((at.offset, next), (120, first));
    assert!(matches!(spool.read(at).unwrap(), Some(Read::Frame { next, .. }) if next == first));
    assert!(matches!(spool.read(next).unwrap(), Some(Read::Frame { next, .. }) if next == second));
}

/// A disk that fails while the spool opens does not make it cut anything off.
#[test]
fn an_error_at_the_start_cuts_nothing_off() {
    let disk = Simulated::default();
    let (mut spool, _) = Spool::open_on(disk.clone(), options(), None).unwrap();
    for id in 0..5 {
        spool.append(&frame(id, 40)).unwrap();
    }
    spool.sync().unwrap();
    drop(spool);
    let before = disk.calls();
    drop(Spool::open_on(disk.clone(), options(), None).unwrap());
    for call in 0..disk.calls() - before {
        let again = Simulated::holding(&disk.image());
        again.fail(again.calls() + call, 1, Fault::Nothing);
        let spool = match Spool::open_on(again.clone(), options(), None) {
            Ok((spool, _)) => spool,
            Err(_) => Spool::open_on(again, options(), None).unwrap().0,
        };
        let mut spool = spool;
        spool.append(&frame(5, 40)).unwrap();
        spool.sync().unwrap();
        let mut at = Position::START;
        for id in 0..6 {
            let Some(Read::Frame { bytes, next }) = spool.read(at).unwrap() else {
                panic!("frame {id} is missing after an error at call {call}")
            };
            assert_eq!(bytes, frame(id, 40));
            at = next;
        }
    }
}
