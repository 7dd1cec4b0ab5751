//! A full disk: writes are refused with a reason and a time to retry, reads go on, nothing that was
//! acknowledged is lost, a restart works, and with new space everything goes on by itself.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lodge_faults::doors::{Door, Lines};
use lodge_faults::http;
use lodge_faults::ledger::Outcome;
use lodge_faults::load::Load;
use lodge_faults::mint::Mint;
use lodge_faults::process::{Binaries, Server};
use lodge_faults::small_disk::SmallDisk;
use tempfile::TempDir;

const DISK_MIB: u64 = 64;
const BALLAST_MIB: u64 = 24;

/// A server on a disk of 64 MiB, of which a ballast file takes 24.
struct Scene {
    server: Server,
    data: PathBuf,
    ballast: PathBuf,
    load: Arc<Load>,
    // In this order: the server ends before its disk is unmounted and the folder removed.
    _disk: Option<SmallDisk>,
    _folder: TempDir,
}

fn scene(reserve_mib: u64) -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let disk_path = folder.path().join("disk");
    let (disk, reserve) = match SmallDisk::mount(&disk_path, DISK_MIB) {
        Ok(disk) => (Some(disk), reserve_mib << 20),
        Err(e) => {
            // Without a disk of our own, the server is told to leave all but 64 MiB free.
            let free = free_bytes(folder.path());
            println!("no small disk can be mounted here ({e}); a large reserve stands in for it");
            (None, free.saturating_sub((DISK_MIB - reserve_mib) << 20))
        }
    };
    fs::create_dir_all(&disk_path).unwrap();
    let ballast = disk_path.join("ballast");
    fs::write(&ballast, vec![0x5a; (BALLAST_MIB << 20) as usize]).unwrap();
    let config = folder.path().join("lodge.toml");
    fs::write(&config, format!("disk_free_bytes_min = {reserve}\n")).unwrap();
    let data = disk_path.join("data");
    let binaries = Binaries::find().unwrap_or_else(|e| panic!("{e}"));
    let mut server = Server::new(&binaries.lodge, &data, folder.path())
        .unwrap()
        .with_args(&["--config", config.to_str().unwrap()]);
    server.start().unwrap_or_else(|e| panic!("{e}"));
    let load = Load::new(Mint::new(77));
    load.ledger.open_requests("full");
    Scene { server, data, ballast, load, _disk: disk, _folder: folder }
}

fn free_bytes(path: &Path) -> u64 {
    let stat = rustix::fs::statvfs(path).unwrap();
    stat.f_bavail * stat.f_frsize
}

impl Scene {
    /// Sends one request of about 1 MiB.
    fn send(&self) -> http::Answer {
        let count = 4_000;
        let (request, first) = self.load.ledger.sending(0, count);
        let body = Door::Lines.body(&self.load, Lines { source: 0, name: "full", first, count });
        let wait = Duration::from_secs(60);
        let answer =
            http::request(self.server.addr(), "POST", Door::Lines.target(), &[], &body, wait)
                .unwrap();
        let outcome = if answer.is_success() { Outcome::Acknowledged } else { Outcome::Unknown };
        self.load.ledger.settled(request, outcome);
        answer
    }

    /// Sends until the disk is full; gives the refusal.
    fn fill(&self) -> http::Answer {
        for _ in 0..2_000 {
            let answer = self.send();
            if !answer.is_success() {
                return answer;
            }
        }
        panic!("2,000 requests went onto a disk of {DISK_MIB} MiB and none was refused");
    }

    #[track_caller]
    fn assert_all_acknowledged_readable(&self) {
        let found =
            self.server.far_end().read_all(&self.load.mint).unwrap_or_else(|e| panic!("{e}"));
        let judgement = self.load.ledger.judge(&found);
        assert!(judgement.is_clean(), "{judgement:?}");
        assert!(judgement.acknowledged > 0, "nothing was ever acknowledged");
    }

    /// With space again, writing must succeed without anybody's help.
    fn free_and_wait(&self) {
        fs::remove_file(&self.ballast).unwrap();
        let started = Instant::now();
        loop {
            let answer = self.send();
            if answer.is_success() {
                println!("writing again {:.1} s after space was freed", since(started));
                return;
            }
            assert!(started.elapsed() < Duration::from_secs(60), "still: {}", answer.text());
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

fn since(moment: Instant) -> f64 {
    moment.elapsed().as_secs_f64()
}

#[test]
fn a_disk_at_its_reserve_refuses_writes_and_recovers_e2e() {
    let mut scene = scene(12);
    let refusal = scene.fill();
    let text = refusal.text();
    assert_eq!(refusal.status, 503, "{text}");
    let retry_after = refusal.header("retry-after").unwrap_or_else(|| panic!("no Retry-After"));
    assert!(retry_after.parse::<u64>().is_ok_and(|s| (1..=600).contains(&s)), "{retry_after}");
    let message = serde_json::from_str::<serde_json::Value>(&text).unwrap()["error"].to_string();
    assert!(message.contains(|c: char| c.is_ascii_digit()), "no free bytes named: {message}");
    scene.assert_all_acknowledged_readable();

    // Restarted while full: it starts, answers queries, and still refuses with the same reason.
    scene.fill();
    scene.server.kill();
    scene.server.start().unwrap_or_else(|e| panic!("a restart on a full disk: {e}"));
    scene.assert_all_acknowledged_readable();
    assert_eq!(scene.fill().status, 503);

    scene.free_and_wait();
    scene.assert_all_acknowledged_readable();
    assert_eq!(scene.server.panics(), Vec::<String>::new());
    // Last, since a message that says too little is the least of the troubles looked for here.
    let folder = scene.data.display().to_string();
    assert!(message.contains(&folder), "{folder} is not named: {message}");
}

#[test]
fn a_disk_with_no_byte_left_loses_nothing_e2e() {
    // No reserve: the operating system itself says that there is no space, in the midst of things.
    let mut scene = scene(0);
    let refusal = scene.fill();
    assert!(refusal.status >= 500, "{}: {}", refusal.status, refusal.text());
    for _ in 0..5 {
        scene.send();
    }
    assert!(scene.server.far_end().is_healthy());
    scene.assert_all_acknowledged_readable();
    scene.free_and_wait();
    scene.assert_all_acknowledged_readable();
    scene.server.kill();
    scene.server.start().unwrap_or_else(|e| panic!("a restart after a full disk: {e}"));
    scene.assert_all_acknowledged_readable();
    assert_eq!(scene.server.panics(), Vec::<String>::new());
}
