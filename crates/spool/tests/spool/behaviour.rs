//! What a caller sees on a disk that is well.

use lodge_spool::{AppendError, Options, Position, Read, Reason, Refused, Spool, StdDisk};

use crate::driver::{drain, frame, options};
use crate::simulated::Simulated;

fn open(disk: &Simulated) -> Spool<Simulated> {
    Spool::open_on(disk.clone(), options(), None).unwrap().0
}

fn position(file: u64, offset: u64) -> Position {
    Position { file, offset }
}

/// `count` frames of `bytes` each, synced.
fn fill(spool: &mut Spool<Simulated>, count: u32, bytes: usize) -> Vec<Position> {
    let positions = (0..count).map(|id| spool.append(&frame(id, bytes)).unwrap()).collect();
    spool.sync().unwrap();
    positions
}

#[test]
fn frames_come_back_in_order_on_a_real_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state/spool");
    let limits = Options { file_bytes_max: 9 << 20, ..Options::default() };
    let (mut spool, recovery) = Spool::open(&path, limits.clone(), None).unwrap();
    assert_eq!(recovery, Default::default());
    let frames: Vec<Vec<u8>> =
        (0..40).map(|id| frame(id, [0, 1000, 300_000, 1 << 20][id as usize % 4])).collect();
    let (mut at, mut read) = (Position::START, Vec::new());
    for (index, frame) in frames.iter().enumerate() {
        spool.append(frame).unwrap();
        if index % 7 == 6 {
            spool.sync().unwrap();
            let Some(Read::Frame { bytes, next }) = spool.read(at).unwrap() else { panic!() };
            read.push(bytes);
            at = next;
        }
    }
    let end = spool.sync().unwrap();
    assert_eq!(spool.durable(), end);
    drop(spool);
    let (mut spool, recovery) = Spool::open_on(StdDisk::new(&path), limits, None).unwrap();
    assert_eq!((recovery.frames, recovery.files), (40, 2));
    while let Some(Read::Frame { bytes, next }) = spool.read(at).unwrap() {
        read.push(bytes);
        at = next;
    }
    assert_eq!(read, frames);
    assert_eq!(at, end);
    spool.acknowledge(end).unwrap();
    let files = std::fs::read_dir(&path).unwrap().count();
    assert_eq!((files, spool.counters().bytes_unacknowledged), (1, 0));
}

#[test]
fn only_what_is_synced_is_read() {
    let mut spool = open(&Simulated::default());
    assert_eq!(spool.sync().unwrap(), Position::START);
    let end = spool.append(b"one").unwrap();
    assert_eq!(spool.read(Position::START).unwrap(), None);
    assert_eq!(spool.sync().unwrap(), end);
    let one = Read::Frame { bytes: b"one".to_vec(), next: end };
    assert_eq!(spool.read(Position::START).unwrap(), Some(one));
    assert_eq!(spool.read(end).unwrap(), None);
    spool.append(b"").unwrap();
    assert_eq!(spool.read(end).unwrap(), None);
    let behind = spool.sync().unwrap();
    assert_eq!(spool.read(end).unwrap(), Some(Read::Frame { bytes: vec![], next: behind }));
}

#[test]
fn a_full_spool_refuses_and_takes_again_when_something_is_acknowledged() {
    let mut spool = open(&Simulated::default());
    let mut positions = Vec::new();
    let full = loop {
        match spool.append(&frame(0, 200)) {
            Ok(position) => positions.push(position),
            Err(full) => break full,
        }
    };
    let AppendError::Full { bytes, bytes_max: 3000, files: 8, .. } = full else { panic!("{full}") };
    assert!(bytes <= 3000 && bytes + 216 + 120 > 3000);
    assert_eq!((spool.counters().full, spool.counters().bytes), (1, bytes));
    // What came before is not touched by the refusal.
    assert_eq!(spool.sync().unwrap(), *positions.last().unwrap());
    spool.acknowledge(positions[0]).unwrap();
    spool.append(&frame(0, 200)).unwrap();
    let Err(AppendError::TooLarge { bytes: 201, bytes_max: 200 }) = spool.append(&[0; 201]) else {
        panic!()
    };
}

/// Even if the last file, which is never deleted, is all that there is.
#[test]
fn a_spool_whose_reader_keeps_up_is_never_full() {
    let disk = Simulated::default();
    let least = Options { bytes_max: 840, files_max: 3, ..options() };
    let (mut spool, _) = Spool::open_on(disk.clone(), least, None).unwrap();
    for id in 0..100 {
        spool.append(&frame(id, (id as usize * 37) % 200)).unwrap();
        let end = spool.sync().unwrap();
        spool.acknowledge(end).unwrap();
        assert!(disk.image().len() <= 2);
    }
    assert_eq!(spool.counters().bytes_unacknowledged, 0);
}

#[test]
fn whole_files_go_when_they_are_acknowledged() {
    let disk = Simulated::default();
    let mut spool = open(&disk);
    let positions = fill(&mut spool, 8, 100);
    let names = || disk.image().into_keys().map(|name| name[..20].parse::<u64>().unwrap());
    assert_eq!(names().collect::<Vec<_>>(), [1, 2, 3, 4]);
    spool.acknowledge(positions[2]).unwrap();
    assert_eq!(names().collect::<Vec<_>>(), [2, 3, 4]);
    let counters = spool.counters();
    assert_eq!((counters.frames, counters.bytes_unacknowledged), (6, 5 * 116));
    // Backwards is no step, and what is not here yet cannot be acknowledged.
    spool.acknowledge(Position::START).unwrap();
    spool.acknowledge(position(99, 0)).unwrap();
    assert_eq!(names().collect::<Vec<_>>(), [4]);
    spool.append(b"next").unwrap();
    spool.sync().unwrap();
    assert!(spool.read(positions[7]).unwrap().is_some());
}

#[test]
fn positions_are_above_a_floor_after_the_folder_was_lost() {
    let floor = Some(position(41, 5000));
    let (mut spool, _) = Spool::open_on(Simulated::default(), options(), floor).unwrap();
    // The floor is acknowledged, and costs nothing that comes.
    spool.acknowledge(position(41, 5000)).unwrap();
    let end = spool.append(b"first").unwrap();
    assert_eq!(end.file, 42);
    spool.sync().unwrap();
    let first = Read::Frame { bytes: b"first".to_vec(), next: end };
    assert_eq!(spool.read(position(41, 5000)).unwrap(), Some(first));
    let ends = Some(position(u64::MAX, 0));
    let (mut spool, _) = Spool::open_on(Simulated::default(), options(), ends).unwrap();
    let error = spool.append(b"none").unwrap_err().to_string();
    assert!(error.contains("numbers are used up"), "{error}");
}

#[test]
fn damage_is_reported_once_and_kept_aside() {
    let disk = Simulated::default();
    let mut spool = open(&disk);
    let positions = fill(&mut spool, 8, 100);
    drop(spool);
    let mut image = disk.image();
    let names: Vec<String> = image.keys().cloned().collect();
    // A payload in the first file, a header in the second.
    image.get_mut(&names[0]).unwrap()[150] ^= 1;
    image.get_mut(&names[1]).unwrap()[121] ^= 1;
    let disk = Simulated::holding(&image);
    let (mut spool, recovery) = Spool::open_on(disk.clone(), options(), None).unwrap();
    let [damage] = &recovery.damaged[..] else { panic!("{recovery:?}") };
    assert_eq!((damage.file, damage.from, damage.to), (2, 120, 236));
    assert_eq!((damage.reason, damage.kept), (Reason::FrameHeader, true));
    let Some(Read::Lost { damage, next }) = spool.read(Position::START).unwrap() else { panic!() };
    assert_eq!((damage.file, damage.from, damage.to), (1, 120, 236));
    assert_eq!((damage.reason, next), (Reason::Payload, positions[0]));
    let sizes = (0..8).map(|id| (id, 100)).collect();
    let given = drain(&mut spool, Position::START, &sizes);
    assert_eq!((given.ids(), given.lost), (vec![1, 3, 4, 5, 6, 7], vec![]));
    let counters = spool.counters();
    assert_eq!((counters.damaged, counters.damaged_bytes), (2, 232));
    assert_eq!((counters.quarantine_bytes, counters.quarantine_missed), (232, 0));
    let now = disk.image();
    for (file, name) in [(1, &names[0]), (2, &names[1])] {
        let aside = &now[&format!("quarantine/{file:020}-120-236.damaged")];
        assert_eq!(aside[..], image[name][120..236]);
    }
    // Found again, kept once.
    let (spool, recovery) = Spool::open_on(disk, options(), None).unwrap();
    assert!(recovery.damaged[0].kept);
    assert_eq!(spool.counters().quarantine_bytes, 232);
}

#[test]
fn what_does_not_fit_into_quarantine_is_counted() {
    let disk = Simulated::default();
    let mut spool = open(&disk);
    fill(&mut spool, 8, 100);
    let mut image = disk.image();
    for (name, at) in image.keys().cloned().zip([121, 121, 121]).collect::<Vec<_>>() {
        image.get_mut(&name).unwrap()[at] ^= 1;
    }
    let small = Options { quarantine_bytes_max: 250, ..options() };
    let disk = Simulated::holding(&image);
    let (spool, recovery) = Spool::open_on(disk, small, None).unwrap();
    let kept: Vec<bool> = recovery.damaged.iter().map(|damage| damage.kept).collect();
    assert_eq!(kept, [true, true, false]);
    let counters = spool.counters();
    assert_eq!((counters.quarantine_bytes, counters.quarantine_missed), (232, 1));
}

#[test]
fn a_file_cut_short_in_the_middle_of_the_spool_is_damage() {
    let disk = Simulated::default();
    fill(&mut open(&disk), 6, 100);
    let mut image = disk.image();
    image.first_entry().unwrap().get_mut().truncate(240);
    let (_, recovery) = Spool::open_on(Simulated::holding(&image), options(), None).unwrap();
    let ranges: Vec<_> = recovery.damaged.iter().map(|d| (d.from, d.to, d.reason)).collect();
    assert_eq!(ranges, [(236, 240, Reason::FrameHeader), (240, 352, Reason::Missing)]);
}

#[test]
fn a_lost_first_block_loses_no_frame() {
    let disk = Simulated::default();
    fill(&mut open(&disk), 4, 100);
    let mut image = disk.image();
    for content in image.values_mut() {
        content[..120].fill(0);
    }
    let (mut spool, recovery) =
        Spool::open_on(Simulated::holding(&image), options(), None).unwrap();
    assert!(recovery.damaged.iter().all(|damage| damage.reason == Reason::FileHeader));
    assert_eq!((recovery.frames, recovery.damaged.len()), (4, 2));
    let sizes = (0..4).map(|id| (id, 100)).collect();
    assert_eq!(drain(&mut spool, Position::START, &sizes).ids(), [0, 1, 2, 3]);
}

#[test]
fn a_copy_of_a_frame_or_file_at_another_place_is_no_frame() {
    let disk = Simulated::default();
    fill(&mut open(&disk), 4, 100);
    let mut image = disk.image();
    let (name, content) = image.pop_first().unwrap();
    // The second frame stands where the first one was, and a file under a name of its own making.
    let mut moved = content.clone();
    moved.copy_within(236..352, 120);
    image.insert(name.clone(), moved);
    let other = name.replacen('1', "9", 1);
    image.insert(other.clone(), content);
    image.insert("notes.txt".to_owned(), b"not ours".to_vec());
    let disk = Simulated::holding(&image);
    let (mut spool, recovery) = Spool::open_on(disk.clone(), options(), None).unwrap();
    assert_eq!(recovery.refused, [Refused::Misnamed { name: other.clone() }]);
    let sizes = (0..4).map(|id| (id, 100)).collect();
    assert_eq!(drain(&mut spool, Position::START, &sizes).ids(), [1, 2, 3]);
    assert!(spool.append(b"above").unwrap().file > 9);
    let end = spool.sync().unwrap();
    spool.acknowledge(end).unwrap();
    let left = disk.image();
    assert!(left.contains_key(&other) && left.contains_key("notes.txt"), "not ours to delete");
}

#[test]
fn limits_that_contradict_each_other_are_refused() {
    for (limits, word) in [
        (Options { bytes_max: 800, ..options() }, "bytes_max"),
        (Options { file_bytes_max: 335, ..options() }, "file_bytes_max"),
        (Options { files_max: 2, ..options() }, "files_max"),
        (Options { frame_bytes_max: u32::MAX, ..options() }, "frame_bytes_max"),
    ] {
        let error = Spool::open_on(Simulated::default(), limits, None).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn a_position_has_one_text() {
    for (file, offset, text) in [(0, 0, "0:0"), (7, 4096, "7:4096")] {
        assert_eq!(position(file, offset).to_string(), text);
        assert_eq!(text.parse(), Ok(position(file, offset)));
    }
    for wrong in ["", ":", "7", "7:", ":7", "07:1", "+7:1", "7:1:1", "18446744073709551616:0"] {
        let error = wrong.parse::<Position>().unwrap_err().to_string();
        assert!(error.contains("7:4096"), "{error}");
    }
    assert!(position(2, 0) > position(1, 9999));
}
