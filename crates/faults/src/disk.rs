//! Rig L: the server's data and the agent's state on small disks that fill up and are freed by
//! turns, under load.
//!
//! With its disk full the server refuses and goes on reading, also after a restart; an agent that
//! cannot keep its checkpoint goes on, for the server knows the positions.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::Rng;

use crate::report::Floor;
use crate::rig::{Finished, Options, Plan, Rig, RigError};
use crate::small_disk::SmallDisk;

/// Small enough to be filled at once, large enough for what a run stores.
const SERVER_DISK_MIB: u64 = 192;
const AGENT_DISK_MIB: u64 = 4;

/// The disk's reserve for the server: with less than this left it refuses to write.
const RESERVE_BYTES: u64 = 16 << 20;

/// Runs rig L.
pub fn run(options: &Options, progress: &mut dyn FnMut(&str)) -> Result<Finished, RigError> {
    let folder = options.make_folder("disk")?;
    let missing = |e: io::Error| RigError::Missing {
        what: format!("no small file system can be mounted here: {e}"),
        mend: "run as root",
    };
    let server_disk = SmallDisk::mount(&folder.join("disk"), SERVER_DISK_MIB).map_err(missing)?;
    let agent_disk = SmallDisk::mount(&folder.join("agent"), AGENT_DISK_MIB).map_err(missing)?;
    let config = folder.join("lodge.toml");
    fs::write(&config, format!("disk_free_bytes_min = {RESERVE_BYTES}\n"))?;
    let mut plan = Plan::new(&folder);
    plan.data = server_disk.path().join("data");
    plan.state = agent_disk.path().join("state");
    plan.server_args = vec!["--config".to_owned(), config.display().to_string()];
    let mut rig = Rig::start(options, plan)?;
    let disks = [server_disk.path(), agent_disk.path()];
    let result = fill_by_turns(&mut rig, disks, progress);
    for disk in disks {
        // Also after a failure: what follows needs room.
        free(disk)?;
    }
    let faults_min = result?;
    let report = rig.finish(progress)?;
    drop((server_disk, agent_disk));
    let floor = Floor { acknowledged_min: 500, retries_min: 1, faults_min };
    Ok(Finished::close(report, floor, folder)?)
}

fn fill_by_turns(
    rig: &mut Rig<'_>,
    disks: [&Path; 2],
    progress: &mut dyn FnMut(&str),
) -> Result<u64, RigError> {
    let [server_disk, agent_disk] = disks;
    let mut round = 0;
    while rig.quiet() {
        // Each turn fills the server's disk to the last byte, to its reserve, or the agent's.
        let (disk, leave) = match round % 3 {
            0 => (server_disk, RESERVE_BYTES / 2),
            1 => (agent_disk, 0),
            _ => (server_disk, 0),
        };
        round += 1;
        fill(disk, leave)?;
        let from = Instant::now();
        std::thread::sleep(Duration::from_millis(rig.random.random_range(800..2_000)));
        let mut told = format!("{} filled to {} KiB", disk.display(), leave >> 10);
        if disk == server_disk {
            judge_full(rig, from);
        }
        if rig.random.random_ratio(1, 2) {
            told.push_str(", restarted while full");
            rig.server.kill();
            rig.agent.kill();
            rig.start_what_is_down()?;
            if rig.server.far_end().count("*").is_err() {
                rig.other.push("a full disk: no query is answered after a restart".into());
            }
        }
        free(disk)?;
        let mended = Instant::now();
        rig.start_what_is_down()?;
        rig.mended_for_agent(&told, mended, progress)?;
    }
    Ok(round)
}

/// What must hold while the server's disk is full: nothing new is acknowledged, reads go on.
fn judge_full(rig: &mut Rig<'_>, from: Instant) {
    let acknowledged = rig.load.acknowledged_within(from, Instant::now());
    if acknowledged > 0 {
        rig.other.push(format!("{acknowledged} requests were acknowledged on a full disk"));
    }
    if let Err(e) = rig.server.far_end().count("*") {
        rig.other.push(format!("a full disk: {e}"));
    }
}

fn ballast(disk: &Path) -> PathBuf {
    disk.join("ballast")
}

/// Fills a disk but for `leave` bytes.
fn fill(disk: &Path, leave: u64) -> io::Result<()> {
    let mut file = fs::File::create(ballast(disk))?;
    let piece = vec![0x5a; 64 << 10];
    loop {
        let stat = rustix::fs::statvfs(disk)?;
        let free = stat.f_bavail * stat.f_frsize;
        let Some(more) = free.checked_sub(leave).filter(|more| *more > 0) else { return Ok(()) };
        let more = usize::try_from(more).unwrap_or(usize::MAX).min(piece.len());
        match file.write_all(piece.get(..more).unwrap_or_default()) {
            Err(e) if e.kind() == io::ErrorKind::StorageFull => return Ok(()),
            other => other?,
        }
    }
}

fn free(disk: &Path) -> io::Result<()> {
    match fs::remove_file(ballast(disk)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
