//! Any bytes in the folder: it opens, invents nothing, and works afterwards.

use lodge_spool::{Position, Spool};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::driver::{Driver, Promises, check, drain, options};
use crate::simulated::{Image, Simulated};

fn runner(cases: u32) -> TestRunner {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

/// Random files, most of them with names of the spool's, some that begin as one would.
#[test]
fn random_files_fuzz() {
    let begun = Simulated::default();
    let (mut spool, _) = Spool::open_on(begun.clone(), options(), None).unwrap();
    spool.append(b"frame").unwrap();
    spool.sync().unwrap();
    let (name, begin) = begun.image().pop_first().unwrap();
    let file = (0u64..5, any::<bool>(), any::<bool>(), vec(any::<u8>(), 0..600));
    runner(3000)
        .run(&vec(file, 0..4), |files| {
            let mut image = Image::new();
            for (number, ours, begins, bytes) in files {
                let name = match (ours, number) {
                    (true, 1) => name.clone(),
                    (true, 4) => format!("{:020}-{:016x}.spool", u64::MAX - 1, 7),
                    (true, _) => format!("{number:020}-{:016x}.spool", 7),
                    (false, _) => format!("{number}.spool"),
                };
                let head = if begins { &begin[..] } else { &[] };
                image.insert(name, [head, &bytes].concat());
            }
            let opened = Spool::open_on(Simulated::holding(&image), options(), None);
            let (mut spool, recovery) = opened.unwrap();
            // The one frame that the beginning holds is all that can be there.
            let mut at = Position::START;
            let mut frames = 0;
            while let Some(item) = spool.read(at).unwrap() {
                at = match item {
                    lodge_spool::Read::Frame { bytes, next } => {
                        assert_eq!(bytes, b"frame");
                        frames += 1;
                        next
                    }
                    lodge_spool::Read::Lost { next, .. } => next,
                };
            }
            assert!(frames <= 1 && recovery.frames <= 1);
            if let Ok(position) = spool.append(b"next") {
                assert!(position > at);
                assert_eq!(spool.sync().unwrap(), position);
                assert!(spool.read(at).unwrap().is_some());
            }
            Ok(())
        })
        .unwrap();
}

/// Changes to files of a real spool: bytes, ranges that are cut out, copied or zeroed, ends cut off.
#[test]
fn mutated_files_fuzz() {
    let mut driver = Driver::new(Simulated::default(), options());
    for bytes in [4, 100, 200, 30, 60, 90, 150, 10, 10, 10, 80, 120, 33] {
        assert!(driver.append(bytes) && driver.sync());
    }
    let image = driver.disk.image();
    let promises = driver.promises(driver.disk.log_len());
    let change = (any::<u16>(), 0u8..6, any::<u16>(), any::<u16>(), 1usize..80);
    runner(5000)
        .run(&vec(change, 1..4), |changes| {
            let mut image = image.clone();
            for (which, kind, at, to, length) in changes {
                let file = usize::from(which) % image.len();
                let content = image.values_mut().nth(file).unwrap();
                let at = usize::from(at) % content.len().max(1);
                let range = at..(at + length).min(content.len());
                let to = usize::from(to) % content.len().max(1);
                match kind {
                    0 => content[range].iter_mut().for_each(|byte| *byte = !*byte),
                    1 => content[range].fill(0),
                    2 => drop(content.drain(range)),
                    3 => content.truncate(at),
                    4 => {
                        let piece = content[range].to_vec();
                        content.splice(to..to, piece);
                    }
                    _ => {
                        let piece = content[range].to_vec();
                        let end = (to + piece.len()).min(content.len());
                        content[to..end].copy_from_slice(&piece[..end - to]);
                    }
                }
            }
            // Nothing is promised of what was damaged but order, and that nothing is invented.
            let promises = Promises { durable: Default::default(), ..promises.clone() };
            check(&image, &promises, &[]);
            Ok(())
        })
        .unwrap();
}

/// A payload full of headers costs the search for the next frame no more than another.
#[test]
fn a_payload_of_frames_is_not_taken_for_frames_fuzz() {
    let disk = Simulated::default();
    let limits = lodge_spool::Options {
        bytes_max: 1 << 20,
        file_bytes_max: 1 << 19,
        frame_bytes_max: 1 << 18,
        ..options()
    };
    let (mut spool, _) = Spool::open_on(disk.clone(), limits.clone(), None).unwrap();
    spool.append(&[1, 0, 0, 0]).unwrap();
    spool.sync().unwrap();
    // A real frame of this very spool, over and over: someone who can read it logs it.
    let stolen = disk.image().pop_first().unwrap().1[120..].to_vec();
    spool.append(&stolen.repeat(10_000)).unwrap();
    spool.append(&[2, 0, 0, 0]).unwrap();
    spool.sync().unwrap();
    let mut image = disk.image();
    image.first_entry().unwrap().get_mut()[140 + 5] ^= 1;
    let (mut spool, recovery) = Spool::open_on(Simulated::holding(&image), limits, None).unwrap();
    assert_eq!((recovery.frames, recovery.damaged.len()), (2, 1));
    let sizes = [(1, 4), (2, 4)].into();
    let read = drain(&mut spool, Position::START, &sizes);
    // `frame` fills up to the size, and four bytes are the number alone.
    assert_eq!(read.ids(), [1, 2]);
}
