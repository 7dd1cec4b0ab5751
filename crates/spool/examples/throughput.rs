//! MB/s that are appended and synced, by size of frame and of group.
//!
//! `cargo run --release -p lodge-spool --example throughput [folder]`
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::PathBuf;
use std::time::Instant;

use lodge_spool::{Options, Position, Read, Spool};

const BYTES: usize = 512 << 20;

fn main() {
    let base = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    for (frame_bytes, group) in [(1 << 20, 1), (1 << 20, 8), (4 << 10, 64), (4 << 10, 1024)] {
        let folder = base.join(format!("lodge-spool-{}", std::process::id()));
        let options = Options::default();
        let (mut spool, _) = Spool::open(&folder, options.clone(), None).unwrap();
        let frame: Vec<u8> = (0..frame_bytes).map(|byte| ((byte * 31) >> 3) as u8).collect();
        let frames = BYTES / frame_bytes;
        let mb = BYTES as f64 / 1e6;

        let started = Instant::now();
        for index in 1..=frames {
            spool.append(&frame).unwrap();
            if index % group == 0 {
                spool.sync().unwrap();
            }
        }
        spool.sync().unwrap();
        let written = mb / started.elapsed().as_secs_f64();
        drop(spool);

        let started = Instant::now();
        let (mut spool, recovery) = Spool::open(&folder, options, None).unwrap();
        let opened_ms = started.elapsed().as_secs_f64() * 1e3;
        assert_eq!(recovery.frames, frames as u64);

        let started = Instant::now();
        let mut at = Position::START;
        while let Some(Read::Frame { next, .. }) = spool.read(at).unwrap() {
            at = next;
        }
        let read = mb / started.elapsed().as_secs_f64();
        println!(
            "{:5} KiB frames, {group:4} a sync: {written:5.0} MB/s appended and synced, \
             open {opened_ms:4.0} ms, {read:5.0} MB/s read",
            frame_bytes >> 10
        );
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
