//! Rotated files that are there only compressed: the unread rest comes, once.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use lodge_agent::{AgentConfig, Start};

use crate::receiver::{Faults, Receiver, text};
use crate::running::{RunningAgent, config, wait_until};
use crate::{append, lines, set_up};

/// Does what `gzip FILE` does.
fn gzip(path: &Path) -> PathBuf {
    let to = PathBuf::from(format!("{}.gz", path.display()));
    fs::write(&to, gzipped(&fs::read(path).unwrap())).unwrap();
    fs::remove_file(path).unwrap();
    to
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn assert_each_once(receiver: &Receiver, count: usize) {
    let messages = receiver.messages();
    let distinct: BTreeSet<_> = messages.iter().collect();
    assert_eq!((messages.len(), distinct.len()), (count, count));
}

async fn all_came(receiver: &Receiver, count: usize) {
    receiver.wait_for_rows(count).await;
    // Long enough for a line that comes twice to come.
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert_each_once(receiver, count);
}

/// A source that reads compressed files, too.
fn compressed_too(url: &str, folder: &Path, glob: &str) -> AgentConfig {
    let mut config = config(url, folder, glob);
    config.files[0].compressed = true;
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rest_of_a_file_compressed_while_the_agent_was_away_comes_once() {
    // How much was read before: nothing, one line, some batches, all.
    for (read, lost_answers) in [(0, 0.0), (1, 0.0), (500, 0.0), (500, 1.0), (1000, 0.0)] {
        let (folder, receiver) = set_up().await;
        let log = folder.path().join("a.log");
        let all = lines("x", 1000);
        let bytes: usize = all.lines().take(read).map(|line| line.len() + 1).sum();
        let config = || {
            let mut config = compressed_too(&receiver.url, folder.path(), "*.log*");
            config.timing.drain = Duration::ZERO;
            config
        };
        receiver.set_faults(Faults { lost_after: lost_answers, ..Faults::default() });
        append(&log, &all.as_bytes()[..bytes]);
        let agent = RunningAgent::start(config());
        receiver.wait_for_rows(read).await;
        agent.stop().await;
        receiver.set_faults(Faults::default());
        append(&log, &all.as_bytes()[bytes..]);
        let rotated = folder.path().join("a.log.1");
        fs::rename(&log, &rotated).unwrap();
        gzip(&rotated);
        append(&log, lines("new", 10));
        let agent = RunningAgent::start(config());
        all_came(&receiver, 1010).await;
        agent.stop().await;
        // And no more of it, whatever happens then.
        fs::rename(folder.path().join("a.log.1.gz"), folder.path().join("a.log.2.gz")).unwrap();
        append(&log, lines("newer", 10));
        let agent = RunningAgent::start(config());
        all_came(&receiver, 1020).await;
        agent.stop().await;
        let labels: BTreeSet<_> = receiver.rows().iter().map(|row| text(row, "file")).collect();
        assert!(read == 0 || labels.len() == 1, "{labels:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_compressed_under_the_agents_eyes_is_not_read_again() {
    let (folder, receiver) = set_up().await;
    let log = folder.path().join("a.log");
    let agent = RunningAgent::start(compressed_too(&receiver.url, folder.path(), "*.log*"));
    for n in 0..4 {
        append(&log, lines(&format!("round {n}"), 50));
        receiver.wait_for_rows(50 * (n + 1)).await;
        let rotated = folder.path().join(format!("a.log.{n}"));
        fs::rename(&log, &rotated).unwrap();
        append(&rotated, format!("late {n}\n"));
        gzip(&rotated);
        append(&log, "");
        // The last line was written to a name that is gone: it comes from the open file, or from
        // the compressed one.
        append(&log, format!("after {n}\n"));
        receiver.wait_for_rows(50 * (n + 1)).await;
    }
    all_came(&receiver, 4 * 52).await;
    agent.stop().await;
    let agent = RunningAgent::start(compressed_too(&receiver.url, folder.path(), "*.log*"));
    append(&log, "end\n");
    all_came(&receiver, 4 * 52 + 1).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_file_that_no_one_knows_is_read_once_whatever_it_expands_to() {
    let (folder, receiver) = set_up().await;
    // Two members, as of a log that was compressed in parts; the text has no last line end.
    let mut bytes = gzipped(lines("one", 30_000).as_bytes());
    bytes.extend(gzipped(format!("{}last", lines("two", 30_000)).as_bytes()));
    fs::write(folder.path().join("a.log.3.gz"), &bytes).unwrap();
    // A thousand times as long when it is read: one line, of which the head is kept.
    let bomb = gzipped(&vec![b'z'; 60 << 20]);
    assert!(bomb.len() < 1 << 20);
    fs::write(folder.path().join("b.log.1.gz"), bomb).unwrap();
    fs::write(folder.path().join("c.tar.gz"), gzipped(b"no log\n")).unwrap();
    let config = || compressed_too(&receiver.url, folder.path(), "*.gz");
    let agent = RunningAgent::start(config());
    receiver.wait_for_rows(1000).await;
    agent.stop().await;
    fs::remove_file(folder.path().join("state/files.json")).unwrap();
    let agent = RunningAgent::start(config());
    all_came(&receiver, 60_002).await;
    agent.stop().await;
    let rows = receiver.rows();
    let long = rows.iter().find(|row| text(row, "truncated") == "true").unwrap();
    assert_eq!(text(long, "lodge.original_bytes"), (60 << 20).to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_file_still_being_written_waits_and_a_damaged_one_gives_what_it_has() {
    let (folder, receiver) = set_up().await;
    let bytes = gzipped(lines("x", 20_000).as_bytes());
    let whole = folder.path().join("a.log.1.gz");
    let mut config = compressed_too(&receiver.url, folder.path(), "*.gz");
    config.timing.partial_idle = Duration::from_millis(400);
    let agent = RunningAgent::start(config);
    let mut file = File::create(&whole).unwrap();
    for piece in bytes.chunks(bytes.len() / 9) {
        file.write_all(piece).unwrap();
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    all_came(&receiver, 20_000).await;
    let cut = gzipped(lines("y", 20_000).as_bytes());
    fs::write(folder.path().join("b.log.1.gz"), &cut[..cut.len() / 2]).unwrap();
    let counters = Arc::clone(&agent.counters);
    wait_until("read", || counters.acknowledged_records.get() > 25_000).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn starting_at_the_end_leaves_old_compressed_files_out_but_not_a_rest() {
    let (folder, receiver) = set_up().await;
    let log = folder.path().join("a.log");
    append(&log, lines("old", 10));
    fs::write(folder.path().join("a.log.9.gz"), gzipped(lines("older", 10).as_bytes())).unwrap();
    let config = || {
        let mut config = compressed_too(&receiver.url, folder.path(), "*.log*");
        config.files[0].start = Start::End;
        config
    };
    let agent = RunningAgent::start(config());
    let counters = Arc::clone(&agent.counters);
    wait_until("left out", || counters.files_skipped.get() == 1).await;
    append(&log, lines("new", 10));
    receiver.wait_for_rows(10).await;
    agent.stop().await;
    append(&log, lines("rest", 10));
    fs::rename(&log, folder.path().join("a.log.1")).unwrap();
    gzip(&folder.path().join("a.log.1"));
    let agent = RunningAgent::start(config());
    all_came(&receiver, 20).await;
    agent.stop().await;
    assert!(receiver.messages().iter().all(|message| !message.starts_with("old")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_on_an_inode_that_was_anothers_has_its_own_name() {
    let (folder, receiver) = set_up().await;
    let log = folder.path().join("a.log");
    append(&log, lines("old", 10));
    let config = || config(&receiver.url, folder.path(), "*.log*");
    let agent = RunningAgent::start(config());
    receiver.wait_for_rows(10).await;
    agent.stop().await;
    // As if the inode had been that of a file which was deleted meanwhile.
    let checkpoint = folder.path().join("state/files.json");
    let remembered = fs::read_to_string(&checkpoint).unwrap();
    assert!(remembered.contains("/a.log\""));
    fs::write(&checkpoint, remembered.replace("/a.log\"", "/b.log.5\"")).unwrap();
    fs::write(&log, lines("new", 10)).unwrap();
    let agent = RunningAgent::start(config());
    all_came(&receiver, 20).await;
    // It is compressed while it is open: what was read of it does not come again.
    let rotated = folder.path().join("a.log.1");
    fs::rename(&log, &rotated).unwrap();
    gzip(&rotated);
    append(&log, lines("newer", 10));
    all_came(&receiver, 30).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    all_came(&receiver, 30).await;
    agent.stop().await;
    let labels: BTreeSet<_> = receiver.rows().iter().map(|row| text(row, "file")).collect();
    assert_eq!(labels.len(), 1, "{labels:?}");
}
