//! The bytes of version 1 stay readable, and those of a later one are refused and left alone.
//!
//! `LODGE_GOLDEN=write cargo test -p lodge-spool golden` writes them anew, for a new version.

use std::fs;
use std::path::PathBuf;

use lodge_spool::{Options, Position, Read, Refused, Spool};

use crate::driver::options;
use crate::simulated::{Image, Simulated};

/// The folder that version 1 wrote: three frames, a failed sync, one frame more.
fn written() -> Image {
    let disk = Simulated::default();
    let (mut spool, _) = Spool::open_on(disk.clone(), options(), None).unwrap();
    for frame in [&b"first"[..], b"", &[0x9F; 40]] {
        spool.append(frame).unwrap();
    }
    spool.sync().unwrap();
    spool.append(b"not durable").unwrap();
    disk.fail(disk.calls(), 1, crate::simulated::Fault::Nothing);
    spool.sync().unwrap_err();
    spool.append(b"again").unwrap();
    spool.sync().unwrap();
    disk.image()
}

fn folder() -> PathBuf {
    // Asked when the test runs: a build may be kept over clones in other folders.
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("tests/golden/v1")
}

fn golden() -> Image {
    let entries = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read(path).unwrap())
        })
        .collect()
}

#[test]
fn version_1_is_written_as_it_was() {
    if std::env::var("LODGE_GOLDEN").is_ok_and(|v| v == "write") {
        fs::create_dir_all(folder()).unwrap();
        written().iter().for_each(|(name, bytes)| fs::write(folder().join(name), bytes).unwrap());
    }
    assert_eq!(written(), golden());
}

#[test]
fn version_1_is_read() {
    let disk = Simulated::holding(&golden());
    let (mut spool, recovery) = Spool::open_on(disk, Options::default(), None).unwrap();
    assert_eq!((recovery.files, recovery.frames, recovery.bytes), (2, 4, 3 * 16 + 45 + 21));
    assert_eq!((recovery.damaged.len(), recovery.tails.len()), (0, 0));
    let mut at = Position::START;
    for (expected, place) in
        [(&b"first"[..], "1:141"), (b"", "1:157"), (&[0x9F; 40], "1:213"), (b"again", "2:141")]
    {
        let Some(Read::Frame { bytes, next }) = spool.read(at).unwrap() else { panic!() };
        assert_eq!((&bytes[..], next.to_string()), (expected, place.to_owned()));
        at = next;
    }
    assert_eq!(spool.read(at).unwrap(), None);
}

#[test]
fn a_later_version_is_refused_and_left_alone() {
    let mut image = golden();
    let (name, later) = image.pop_last().unwrap();
    let mut preamble = b"LODGESPL\x02\0\0\0".to_vec();
    preamble.extend_from_slice(&crc32c_of(&preamble).to_le_bytes());
    let mut changed = later.clone();
    changed[..16].copy_from_slice(&preamble);
    changed[60..76].copy_from_slice(&preamble);
    // A version with one damaged bit is not a later version.
    let mut bit = later;
    bit[8] ^= 2;
    let known = Simulated::holding(&[(name.clone(), bit)].into());
    assert_eq!(Spool::open_on(known, options(), None).unwrap().1.refused, []);

    image.insert(name.clone(), changed.clone());
    let disk = Simulated::holding(&image);
    let (mut spool, recovery) = Spool::open_on(disk.clone(), options(), None).unwrap();
    let [refused @ Refused::Version { version: 2, .. }] = &recovery.refused[..] else {
        panic!("{recovery:?}")
    };
    let text = refused.to_string();
    assert!(text.contains(&name) && text.contains("version 2") && text.contains("newer program"));
    assert_eq!(spool.append(b"above").unwrap().file, 3);
    let end = spool.sync().unwrap();
    spool.acknowledge(end).unwrap();
    assert_eq!(disk.image()[&name], changed);
}

/// CRC32C, bit by bit, from its polynomial: the format does not depend on a library's word.
fn crc32c_of(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (0x82F6_3B78 & 0u32.wrapping_sub(sum & 1))
        })
    })
}
