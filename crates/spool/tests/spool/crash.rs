//! The power goes after every single disk operation, in every way that a disk allows; and one bit
//! turns, anywhere.

use lodge_spool::Position;

use crate::driver::{Driver, Given, check, options};
use crate::simulated::{Fate, Image, Moment, Simulated};

/// Groups of all sizes, several files, readers behind and at the front, deletions, restarts in the
/// middle of a group.
fn scenario(driver: &mut Driver) {
    let groups: [&[usize]; 4] = [&[4, 30, 0, 100], &[200], &[90, 90, 90], &[17, 180, 5, 60, 33]];
    for (round, group) in groups.iter().cycle().take(10).enumerate() {
        for bytes in *group {
            assert!(driver.append(*bytes), "the spool is full");
        }
        if round % 5 != 3 {
            assert!(driver.sync());
        }
        if round % 2 == 1 {
            driver.read(4 + round);
            driver.acknowledge();
        }
        if round == 3 || round == 6 {
            driver.restart();
            // What the last life left without a sync is read, and not done with for some time.
            driver.read(20);
        }
    }
    assert!(driver.sync());
    driver.read(3);
    driver.acknowledge();
    driver.restart();
    driver.append(40);
    assert!(driver.sync());
}

fn recorded() -> Driver {
    let mut driver = Driver::new(Simulated::default(), options());
    scenario(&mut driver);
    assert!(driver.done > Position { file: 4, offset: 0 }, "files were done with");
    driver
}

/// A number that looks like chance, from a seed.
fn chance(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

/// Every image that the power can leave at this moment, or many of them if there are too many.
fn images(moment: &Moment, seed: &mut u64) -> Vec<Image> {
    let pending = moment.pending();
    let mut images = Vec::new();
    if pending <= 8 {
        // Every subset, and so also all lost and all kept.
        for subset in 0u32..1 << pending {
            let fate = |index| if subset >> index & 1 == 1 { Fate::Kept } else { Fate::Lost };
            images.push(moment.image(fate));
        }
    } else {
        images.push(moment.image(|_| Fate::Lost));
        images.push(moment.image(|_| Fate::Kept));
        for _ in 0..300 {
            let subset = chance(seed) << 31 ^ chance(seed);
            images.push(
                moment.image(
                    |index| {
                        if subset >> index & 1 == 1 { Fate::Kept } else { Fate::Lost }
                    },
                ),
            );
        }
    }
    if let Some((last, bytes)) = moment.last_write() {
        for cut in 0..bytes {
            for torn in [Fate::Cut(cut), Fate::Zeros(cut)] {
                images.push(moment.image(|index| if index == last { torn } else { Fate::Kept }));
            }
        }
    }
    images
}

#[test]
fn every_prefix_of_the_disk_operations_crash() {
    let driver = recorded();
    let log = driver.disk.log();
    let (mut seed, mut checked) = (1, 0);
    for operations in 0..=log.len() {
        let moment = Moment::after(&log[..operations]);
        let promises = driver.promises(operations);
        for image in images(&moment, &mut seed) {
            check(&image, &promises, &[]);
            checked += 1;
        }
    }
    assert!(log.len() > 150 && checked > 10_000, "{} operations, {checked} images", log.len());
}

/// Only what no sync covered may be missing, and what is there is all that was kept.
#[test]
fn what_is_kept_unsynced_comes_back_whole_crash() {
    let driver = recorded();
    let log = driver.disk.log();
    let kept = Moment::after(&log).image(|_| Fate::Kept);
    let given = check(&kept, &driver.promises(log.len()), &[]);
    assert_eq!(given.recovery.tails, []);
    assert_eq!(given.recovery.damaged, []);
    assert_eq!(given.recovery.frames as usize, {
        let all = check(
            &kept,
            &crate::driver::Promises { done: Position::START, ..driver.promises(log.len()) },
            &[],
        );
        all.frames.len()
    });
}

/// Turns a bit and compares with what the whole image gives.
fn flip(image: &Image, name: &str, byte: usize, bit: u8, driver: &Driver, operations: usize) {
    let promises = driver.promises(operations);
    let whole = check(image, &promises, &[]);
    flip_against(&whole, image, name, byte, bit, driver, operations);
}

fn flip_against(
    whole: &Given,
    image: &Image,
    name: &str,
    byte: usize,
    bit: u8,
    driver: &Driver,
    operations: usize,
) {
    let promises = driver.promises(operations);
    let number: u64 = name.split('-').next().unwrap().parse().unwrap();
    let place = Position { file: number, offset: byte as u64 };
    let hit = whole.frames.iter().find(|(_, from, to)| (*from..*to).contains(&place));
    let excused: Vec<u32> = hit.iter().map(|(id, ..)| *id).collect();
    let mut turned = image.clone();
    turned.get_mut(name).unwrap()[byte] ^= 1 << bit;
    let given = check(&turned, &promises, &excused);
    let mut expected = whole.ids();
    expected.retain(|id| !excused.contains(id));
    assert_eq!(given.ids(), expected, "bit {bit} of byte {byte} of {name}");
    if hit.is_some() {
        assert!(given.reports(number, byte as u64), "{place} is not reported: {given:?}");
    }
}

/// One bit, at every moment of the scenario, at every seventh byte of every file.
#[test]
fn one_bit_turned_at_every_moment_crash() {
    let driver = recorded();
    let log = driver.disk.log();
    let mut turned = 0;
    for operations in 0..=log.len() {
        let image = Moment::after(&log[..operations]).image(|_| Fate::Kept);
        let whole = check(&image, &driver.promises(operations), &[]);
        for (name, content) in image.iter().filter(|(name, _)| name.ends_with(".spool")) {
            for byte in (operations % 7..content.len()).step_by(7) {
                let bit = (byte / 7 + operations) as u8 % 8;
                flip_against(&whole, &image, name, byte, bit, &driver, operations);
                turned += 1;
            }
        }
    }
    assert!(turned > 10_000, "{turned}");
}

/// Every bit of every file, at the end.
#[test]
fn every_bit_turned_at_the_end_crash() {
    let driver = recorded();
    let log = driver.disk.log();
    let image = Moment::after(&log).image(|_| Fate::Kept);
    let whole = check(&image, &driver.promises(log.len()), &[]);
    for (name, content) in &image {
        for byte in 0..content.len() {
            for bit in 0..8 {
                flip_against(&whole, &image, name, byte, bit, &driver, log.len());
            }
        }
    }
}

/// A damaged length is the worst: it says where the next frame is.
#[test]
fn a_damaged_length_costs_one_frame_crash() {
    let mut driver = Driver::new(Simulated::default(), options());
    for _ in 0..6 {
        assert!(driver.append(40));
    }
    assert!(driver.sync());
    let image = driver.disk.image();
    let name = image.keys().next().unwrap().clone();
    for byte in 120 + 4..120 + 8 {
        for bit in 0..8 {
            flip(&image, &name, byte, bit, &driver, driver.disk.log_len());
        }
    }
}
