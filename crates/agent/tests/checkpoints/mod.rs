//! Checkpoints that do not say what was last: lost, or put back from the past. What the server has
//! says then where to go on.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::receiver::Receiver;
use crate::running::{RunningAgent, config};
use crate::{append, lines, set_up};

/// Lets an agent deliver all that is there.
async fn deliver(receiver: &Receiver, folder: &Path, rows: usize) {
    let agent = RunningAgent::start(config(&receiver.url, folder, "*.log"));
    receiver.wait_for_rows(rows).await;
    agent.stop().await;
}

/// Twenty lines came three times each with another word, and each once.
fn assert_all_once(receiver: &Receiver) {
    let mut came = receiver.messages();
    came.sort();
    let expected = ["first", "second", "third"].map(|word| lines(word, 20)).concat();
    let mut expected: Vec<_> = expected.lines().collect();
    expected.sort_unstable();
    assert_eq!(came, expected);
    assert_eq!(receiver.alarms(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn content_begun_without_a_checkpoint_is_not_read_again_with_one_from_the_past() {
    let (folder, receiver) = set_up().await;
    let (log, checkpoint) = (folder.path().join("a.log"), folder.path().join("state/files.json"));
    append(&log, lines("first", 20));
    deliver(&receiver, folder.path(), 20).await;
    let past = fs::read(&checkpoint).unwrap();
    // The same inode, other content.
    fs::write(&log, lines("second", 20)).unwrap();
    fs::remove_file(&checkpoint).unwrap();
    deliver(&receiver, folder.path(), 40).await;
    fs::write(&checkpoint, past).unwrap();
    append(&log, lines("third", 20));
    deliver(&receiver, folder.path(), 60).await;
    assert_all_once(&receiver);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_on_the_inode_of_a_deleted_one_is_not_taken_for_what_became_of_that() {
    let (folder, receiver) = set_up().await;
    let (log, checkpoint) = (folder.path().join("a.log"), folder.path().join("state/files.json"));
    append(&log, lines("first", 20));
    deliver(&receiver, folder.path(), 20).await;
    let past = fs::read_to_string(&checkpoint).unwrap();
    let inode = |path| format!("\"ino\":{},", fs::metadata(path).unwrap().ino());
    let before = inode(&log);
    // What is written anew has another inode while the old one is there.
    fs::write(folder.path().join("new"), lines("second", 20)).unwrap();
    fs::rename(folder.path().join("new"), &log).unwrap();
    fs::remove_file(&checkpoint).unwrap();
    deliver(&receiver, folder.path(), 40).await;
    // The file system would give the inode again at its own time.
    assert!(past.contains(&before));
    fs::write(&checkpoint, past.replace(&before, &inode(&log))).unwrap();
    append(&log, lines("third", 20));
    deliver(&receiver, folder.path(), 60).await;
    assert_all_once(&receiver);
}
