//! What happens to files on a real file system, and what arrives of it.
#![allow(clippy::unwrap_used)]

mod checkpoints;
mod compressed;
mod containers;
mod pipeline;
mod receiver;
mod running;

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use lodge_agent::Start;
use lodge_record::Account;
use receiver::{Faults, Receiver, text};
use running::{RunningAgent, config, wait_until};

fn append(path: &Path, bytes: impl AsRef<[u8]>) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(bytes.as_ref()).unwrap();
}

fn lines(prefix: &str, count: usize) -> String {
    (0..count).map(|n| format!("{prefix} line {n}\n")).collect()
}

async fn set_up() -> (tempfile::TempDir, Receiver) {
    (tempfile::tempdir().unwrap(), Receiver::start(1).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_is_sent_when_it_is_complete() {
    let (folder, receiver) = set_up().await;
    let log = folder.path().join("a.log");
    append(&log, "first\nsec");
    let agent = RunningAgent::start(config(&receiver.url, folder.path(), "*.log"));
    receiver.wait_for_rows(1).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(receiver.messages(), ["first"]);
    append(&log, "ond\n");
    receiver.wait_for_rows(2).await;
    assert_eq!(receiver.messages(), ["first", "second"]);
    let totals = agent.stop().await;
    assert_eq!((totals.read_lines, totals.acknowledged_records), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_deleted_unread_is_read_to_its_end() {
    let (folder, receiver) = set_up().await;
    let log = folder.path().join("a.log");
    append(&log, lines("early", 10));
    let agent = RunningAgent::start(config(&receiver.url, folder.path(), "*.log"));
    receiver.wait_for_rows(10).await;
    receiver.set_faults(Faults { down: true, ..Faults::default() });
    let mut file = OpenOptions::new().append(true).open(&log).unwrap();
    for _ in 0..40 {
        file.write_all(lines("late", 5_000).as_bytes()).unwrap();
    }
    fs::remove_file(&log).unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    // The writer goes on, though no name leads there any more; its last line has no end.
    file.write_all(b"last words").unwrap();
    drop(file);
    receiver.set_faults(Faults::default());
    receiver.wait_for_rows(10 + 200_000 + 1).await;
    assert_eq!(receiver.messages().last().unwrap(), "last words");
    assert_eq!(agent.stop().await.acknowledged_records, 200_011);
    assert_eq!(receiver.alarms(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_renamed_out_of_the_globs_while_the_agent_was_away_is_read_to_its_end() {
    let (folder, receiver) = set_up().await;
    let log = folder.path().join("a.log");
    append(&log, lines("one", 10));
    let config = || config(&receiver.url, folder.path(), "*.log");
    let agent = RunningAgent::start(config());
    receiver.wait_for_rows(10).await;
    agent.stop().await;
    append(&log, lines("two", 10));
    fs::rename(&log, folder.path().join("a.log.1")).unwrap();
    append(&log, lines("three", 10));
    let agent = RunningAgent::start(config());
    receiver.wait_for_rows(30).await;
    // It is still followed under its new name, and keeps its label.
    append(&folder.path().join("a.log.1"), lines("four", 10));
    receiver.wait_for_rows(40).await;
    agent.stop().await;
    let rows = receiver.rows();
    assert!(rows.iter().all(|row| text(row, "file").ends_with("a.log")));
    assert_eq!(rows.len(), 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn content_replaced_under_the_same_inode_is_read_from_its_start() {
    let (folder, receiver) = set_up().await;
    let log = folder.path().join("a.log");
    append(&log, lines("old", 100));
    let config = || config(&receiver.url, folder.path(), "*.log");
    let agent = RunningAgent::start(config());
    receiver.wait_for_rows(100).await;
    // Longer than before, so that its size does not tell.
    fs::write(&log, lines("new", 500)).unwrap();
    receiver.wait_for_rows(600).await;
    // The old content's ledger says that it was cut off, though nothing that was seen is missing.
    let holes = receiver.accounts().into_iter().flat_map(|account| account.holes);
    let holes: Vec<_> = holes.map(|hole| (hole.reason, hole.bytes)).collect();
    assert_eq!(holes, [("its content was cut off or replaced".to_owned(), Some(0))]);
    // And while the agent is away.
    agent.stop().await;
    fs::write(&log, lines("newest", 900)).unwrap();
    let agent = RunningAgent::start(config());
    receiver.wait_for_rows(1500).await;
    let totals = agent.stop().await;
    assert_eq!(totals.truncated_files, 1);
    let messages = receiver.messages();
    for (prefix, count) in [("old ", 100), ("new ", 500), ("newest ", 900)] {
        assert_eq!(messages.iter().filter(|m| m.starts_with(prefix)).count(), count, "{prefix}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn content_replaced_by_as_many_bytes_is_read() {
    let (folder, receiver) = set_up().await;
    let log = folder.path().join("a.log");
    append(&log, "the one line\n");
    let agent = RunningAgent::start(config(&receiver.url, folder.path(), "*.log"));
    receiver.wait_for_rows(1).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    fs::write(&log, "THE ONE LINE\n").unwrap();
    receiver.wait_for_rows(2).await;
    assert_eq!(receiver.messages(), ["the one line", "THE ONE LINE"]);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_copy_of_a_copytruncate_rotation_is_not_read_again_but_for_what_was_unread() {
    let (folder, receiver) = set_up().await;
    let (log, copy) = (folder.path().join("a.log"), folder.path().join("a.log.1"));
    append(&log, lines("one", 1000));
    let config = || config(&receiver.url, folder.path(), "*.log*");
    let agent = RunningAgent::start(config());
    receiver.wait_for_rows(1000).await;
    fs::copy(&log, &copy).unwrap();
    append(&copy, lines("unread", 10));
    File::create(&log).unwrap();
    append(&log, lines("two", 10));
    receiver.wait_for_rows(1020).await;
    let counters = std::sync::Arc::clone(&agent.counters);
    wait_until("recognised", || counters.copied_files.get() == 1).await;
    agent.stop().await;
    // And again without memory.
    fs::remove_file(folder.path().join("state/files.json")).unwrap();
    let agent = RunningAgent::start(config());
    append(&log, lines("three", 10));
    receiver.wait_for_rows(1030).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    agent.stop().await;
    let messages: std::collections::HashSet<_> = receiver.messages().into_iter().collect();
    assert_eq!((receiver.row_count(), messages.len()), (1030, 1030));
}

#[tokio::test(flavor = "multi_thread")]
async fn links_and_names_of_one_file_are_one_source() {
    let (folder, receiver) = set_up().await;
    let log = folder.path().join("a.log");
    append(&log, lines("x", 10));
    std::os::unix::fs::symlink(&log, folder.path().join("link.log")).unwrap();
    fs::hard_link(&log, folder.path().join("hard.log")).unwrap();
    std::os::unix::fs::symlink(folder.path().join("nowhere"), folder.path().join("b.log")).unwrap();
    let agent = RunningAgent::start(config(&receiver.url, folder.path(), "*.log"));
    receiver.wait_for_rows(10).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    // A link that is turned to another file brings that file.
    let other = folder.path().join("other.txt");
    append(&other, lines("y", 5));
    fs::remove_file(folder.path().join("link.log")).unwrap();
    std::os::unix::fs::symlink(&other, folder.path().join("link.log")).unwrap();
    receiver.wait_for_rows(15).await;
    agent.stop().await;
    assert_eq!(receiver.row_count(), 15);
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_and_binary_files_are_left_out_and_counted() {
    let (folder, receiver) = set_up().await;
    append(&folder.path().join("a.log"), lines("x", 3));
    append(&folder.path().join("a.log.2.gz"), b"\x1f\x8b\x08\0abc\n");
    append(&folder.path().join("renamed.log"), b"\x1f\x8b\x08\0abc\n");
    append(&folder.path().join("wtmp"), [0u8, 1, 2, 10].repeat(100));
    append(&folder.path().join("blob.log"), [1u8, 2, 3, 200, 10, 5].repeat(100));
    let agent = RunningAgent::start(config(&receiver.url, folder.path(), "*"));
    receiver.wait_for_rows(3).await;
    let counters = std::sync::Arc::clone(&agent.counters);
    wait_until("skipped", || counters.files_skipped.get() >= 4).await;
    agent.stop().await;
    assert_eq!(receiver.row_count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_longer_than_the_limit_keeps_its_head() {
    let (folder, receiver) = set_up().await;
    let log = folder.path().join("a.log");
    append(&log, "before\n");
    let agent = RunningAgent::start(config(&receiver.url, folder.path(), "*.log"));
    for _ in 0..20 {
        append(&log, vec![b'x'; 5 << 20]);
    }
    append(&log, format!("\r\n{}", lines("after", 3)));
    receiver.wait_for_rows(5).await;
    agent.stop().await;
    let rows = receiver.rows();
    assert_eq!(text(&rows[1], "truncated"), "true");
    assert_eq!(text(&rows[1], "lodge.original_bytes"), ((100 << 20) + 1).to_string());
    assert_eq!(text(&rows[1], "_msg").len(), lodge_record::limits::LINE_BYTES_MAX);
    assert_eq!(text(&rows[4], "_msg"), "after line 2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_written_in_pieces_is_one_record() {
    let (folder, receiver) = set_up().await;
    let log = folder.path().join("a.log");
    let agent = RunningAgent::start(config(&receiver.url, folder.path(), "*.log"));
    let trace = "2024-01-02 15:04:05 ERROR boom\njava.lang.Error: x\n\tat a.B.c(B.java:1)\n";
    for piece in trace.as_bytes().chunks(9) {
        append(&log, piece);
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    receiver.wait_for_rows(1).await;
    append(&log, "2024-01-02 15:04:06 INFO on\n");
    receiver.wait_for_rows(2).await;
    agent.stop().await;
    assert_eq!(receiver.messages()[0], trace.trim_end());
}

#[tokio::test(flavor = "multi_thread")]
async fn starting_at_the_end_skips_what_was_there_once_and_never_again() {
    let (folder, receiver) = set_up().await;
    let log = folder.path().join("a.log");
    append(&log, lines("old", 10));
    let config = || {
        let mut config = config(&receiver.url, folder.path(), "*.log");
        config.files[0].start = Start::End;
        config
    };
    let agent = RunningAgent::start(config());
    let counters = std::sync::Arc::clone(&agent.counters);
    wait_until("found", || counters.files_found.get() == 1).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    append(&log, lines("new", 10));
    // A file that comes later is read whole.
    append(&folder.path().join("b.log"), lines("other", 10));
    receiver.wait_for_rows(20).await;
    agent.stop().await;
    // Without its checkpoint the agent asks the server where it was.
    fs::remove_file(folder.path().join("state/files.json")).unwrap();
    append(&log, lines("newer", 10));
    let agent = RunningAgent::start(config());
    receiver.wait_for_rows(30).await;
    agent.stop().await;
    let messages = receiver.messages();
    assert!(messages.iter().all(|message| !message.starts_with("old")));
    assert_eq!(messages.len(), 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_refuses_for_good_is_in_the_dead_letter_file() {
    let (folder, receiver) = set_up().await;
    receiver.set_faults(Faults { poison: Some("poison".into()), ..Faults::default() });
    let log = folder.path().join("a.log");
    append(&log, lines("good", 10));
    let agent = RunningAgent::start(config(&receiver.url, folder.path(), "*.log"));
    receiver.wait_for_rows(10).await;
    append(&log, lines("poison", 10));
    let counters = std::sync::Arc::clone(&agent.counters);
    wait_until("dead letter", || counters.dead_letter_records.get() == 10).await;
    append(&log, lines("fine", 10));
    receiver.wait_for_rows(20).await;
    let totals = agent.stop().await;
    assert_eq!((totals.acknowledged_records, totals.dead_letter_records), (20, 10));
    // The ledger has them as read, dropped, and as a hole with a reason.
    assert_eq!(receiver.alarms(), [""; 0]);
    let sum = |of: fn(&Account) -> u64| receiver.accounts().iter().map(of).sum::<u64>();
    assert_eq!((sum(|a| a.read_records), sum(Account::dropped_records)), (30, 10));
    let holes = receiver.accounts().into_iter().flat_map(|account| account.holes);
    let holes: Vec<_> = holes.map(|hole| (hole.records, hole.reason)).collect();
    assert!(holes.iter().all(|(_, reason)| reason.starts_with("refused by the server")));
    assert_eq!(holes.iter().filter_map(|(records, _)| *records).sum::<u64>(), 10);
    let dead = fs::read_to_string(folder.path().join("state/dead-letter.jsonl")).unwrap();
    // One entry a batch: how the lines fell into batches depends on when they were read.
    let mut records = 0;
    for line in dead.lines() {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(entry["status"], 400);
        assert!(entry["reason"].as_str().unwrap().contains("poison"));
        records += entry["records"].as_u64().unwrap();
    }
    assert_eq!(records, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_forgot_gets_a_new_epoch_and_no_line_twice() {
    let (folder, receiver) = set_up().await;
    let log = folder.path().join("a.log");
    append(&log, lines("one", 10));
    let agent = RunningAgent::start(config(&receiver.url, folder.path(), "*.log"));
    receiver.wait_for_rows(10).await;
    append(&log, lines("two", 10));
    receiver.wait_for_rows(20).await;
    receiver.forget_producers();
    append(&log, lines("three", 10));
    receiver.wait_for_rows(30).await;
    append(&log, lines("four", 10));
    receiver.wait_for_rows(40).await;
    let totals = agent.stop().await;
    assert_eq!(totals.gaps, 1);
    assert_eq!(receiver.row_count(), 40);
    // What it was told is durable is more than what the server has: that does not go unnoticed.
    let alarms = receiver.alarms();
    assert!(alarms.iter().any(|alarm| alarm.contains("durable_records: 20")), "{alarms:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_files_with_few_descriptors() {
    const FILES: usize = 10_000;
    let (folder, receiver) = set_up().await;
    for n in 0..FILES {
        let sub = folder.path().join(format!("d{}", n % 50));
        fs::create_dir_all(&sub).unwrap();
        fs::write(sub.join(format!("f{n}.log")), format!("file {n}\n")).unwrap();
    }
    let agent = RunningAgent::start(config(&receiver.url, folder.path(), "**/*.log"));
    receiver.wait_for_rows(FILES).await;
    for n in (0..FILES).step_by(500) {
        append(&folder.path().join(format!("d{}/f{n}.log", n % 50)), format!("again {n}\n"));
    }
    receiver.wait_for_rows(FILES + 20).await;
    agent.stop().await;
    let messages: std::collections::HashSet<_> = receiver.messages().into_iter().collect();
    assert_eq!((receiver.row_count(), messages.len()), (FILES + 20, FILES + 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_state_folder_serves_one_agent() {
    let (folder, receiver) = set_up().await;
    let config = || config(&receiver.url, folder.path(), "*.log");
    let agent = RunningAgent::start(config());
    let lock = folder.path().join("state/agent-id");
    wait_until("started", || lock.exists()).await;
    let error = lodge_agent::run(config(), Default::default()).await.unwrap_err();
    assert!(error.to_string().contains("in use by another agent"), "{error}");
    agent.stop().await;
}

fn utf16(text: &str, big: bool) -> Vec<u8> {
    let bytes = |unit: u16| if big { unit.to_be_bytes() } else { unit.to_le_bytes() };
    text.encode_utf16().flat_map(bytes).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn utf_16_is_read_in_both_orders_and_its_damage_is_kept() {
    for big in [false, true] {
        let (folder, receiver) = set_up().await;
        let log = folder.path().join("a.log");
        // U+0A0A and U+0A00 have bytes that are a line feed elsewhere.
        let texts = ["first ä", "\u{a0a}\u{a00}\u{d0a}", "smile \u{1f600}", "ERROR x\n\tat a.b"];
        append(&log, utf16("\u{feff}", big));
        for text in texts {
            append(&log, utf16(&format!("{}\r\n", text.replace('\n', "\r\n")), big));
        }
        let config = || config(&receiver.url, folder.path(), "*.log");
        let agent = RunningAgent::start(config());
        receiver.wait_for_rows(4).await;
        agent.stop().await;
        // Half a pair, a unit in two writes, and a line that is longer than a turn and the limit.
        let lone = if big { [0xd8, 0x00] } else { [0x00, 0xd8] };
        let line = [&utf16("a", big)[..], &lone, &utf16("b\n", big)].concat();
        append(&log, &line[..3]);
        let agent = RunningAgent::start(config());
        tokio::time::sleep(Duration::from_millis(100)).await;
        append(&log, &line[3..]);
        append(&log, utf16(&format!("{}\nlast\n", "é".repeat(5 << 20)), big));
        receiver.wait_for_rows(7).await;
        agent.stop().await;
        let rows = receiver.rows();
        let messages = receiver.messages();
        assert_eq!(messages[..4], texts);
        assert_eq!(messages[4], "a\u{fffd}b");
        let raw = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &line);
        assert_eq!(text(&rows[4], "lodge.raw_base64"), raw);
        assert!(messages[5].starts_with("ééé") && !messages[5].contains('\u{fffd}'));
        assert_eq!(text(&rows[5], "truncated"), "true");
        assert_eq!(text(&rows[5], "lodge.original_bytes"), (10 << 20).to_string());
        assert_eq!(messages[6], "last");
        assert!(rows.iter().filter(|row| !text(row, "lodge.raw_base64").is_empty()).count() == 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_swapped_brings_both_files_once_and_whole() {
    let (folder, receiver) = set_up().await;
    let data = folder.path().join("data");
    fs::create_dir_all(&data).unwrap();
    let link = folder.path().join("current.log");
    let agent = RunningAgent::start(config(&receiver.url, folder.path(), "*.log"));
    for n in 0..5 {
        let file = data.join(format!("{n}.txt"));
        append(&file, lines(&format!("file {n}"), 100));
        // A link is swapped by a rename, so that there is always one.
        let next = folder.path().join("next");
        std::os::unix::fs::symlink(&file, &next).unwrap();
        fs::rename(&next, &link).unwrap();
        receiver.wait_for_rows(n * 102 + 100).await;
        // A file that the link led to is still written to when it leads elsewhere.
        let before = data.join(format!("{}.txt", n.saturating_sub(1)));
        append(&before, lines(&format!("late {n}"), 2));
        receiver.wait_for_rows(n * 102 + 102).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    agent.stop().await;
    let messages: std::collections::HashSet<_> = receiver.messages().into_iter().collect();
    assert_eq!((receiver.row_count(), messages.len()), (510, 510));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_file_lets_the_others_have_their_turns() {
    let (folder, receiver) = set_up().await;
    let busy = folder.path().join("0-busy.log");
    let line = format!("busy {}\n", "x".repeat(1000));
    append(&busy, line.repeat(60_000));
    for n in 0..20 {
        append(&folder.path().join(format!("quiet{n}.log")), format!("quiet {n}\n"));
    }
    let agent = RunningAgent::start(config(&receiver.url, folder.path(), "*.log"));
    receiver.wait_for_rows(60_020).await;
    agent.stop().await;
    let messages = receiver.messages();
    let last = messages.iter().rposition(|message| message.starts_with("quiet")).unwrap();
    // Of sixty turns that the busy file needs it had a few when all others had theirs.
    assert!(last < 40_000, "the last of the quiet files came behind {last} records");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_excluded_are_never_opened() {
    let (folder, receiver) = set_up().await;
    append(&folder.path().join("a.log"), "a\n");
    append(&folder.path().join("debug-a.log"), "not wanted\n");
    fs::create_dir_all(folder.path().join("sub")).unwrap();
    append(&folder.path().join("sub/b.log"), "not wanted\n");
    let mut config = config(&receiver.url, folder.path(), "**/*.log");
    let exclude = ["debug-*", "sub/*"].map(|glob| folder.path().join(glob));
    config.files[0].exclude = exclude.map(|glob| glob.to_string_lossy().into_owned()).to_vec();
    let agent = RunningAgent::start(config);
    receiver.wait_for_rows(1).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let totals = agent.stop().await;
    assert_eq!((receiver.messages(), totals.files_found), (vec!["a".to_owned()], 1));
}

/// A program that plays `journalctl`: entries 0 to 99 behind the cursor that it is given.
const JOURNAL: &str = r#"#!/bin/sh
at=-1
for argument in "$@"; do
  case "$argument" in --after-cursor=*) at=${argument#--after-cursor=c} ;; esac
done
echo "$@" >> "$(dirname "$0")/calls"
at=$((at + 1))
while [ $at -lt 100 ]; do
  printf '__CURSOR=c%s\n__REALTIME_TIMESTAMP=1704207845000000\n_HOSTNAME=x\nPRIORITY=3\n' $at
  printf '_SYSTEMD_UNIT=a.service\nMESSAGE=entry %s\n_PID=7\n\n' $at
  at=$((at + 1))
done
exec sleep 1000
"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_journal_arrives_once_through_restarts() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, receiver) = set_up().await;
    receiver.set_faults(Faults { lost_after: 0.5, busy: 0.2, ..Faults::default() });
    let program = folder.path().join("journalctl");
    fs::write(&program, JOURNAL).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let config = || {
        let mut config = config(&receiver.url, folder.path(), "*.log").with_journal();
        config.files.clear();
        config.journal.program = Some(program.clone());
        config
    };
    let agent = RunningAgent::start(config());
    receiver.wait_for_rows(100).await;
    // The records are there, but their acknowledgement may have been lost: then nothing is noted yet.
    let noted = folder.path().join("state/journal.json");
    for _ in 0..200 {
        if noted.exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    agent.stop().await;
    fs::remove_file(noted).unwrap();
    let agent = RunningAgent::start(config());
    tokio::time::sleep(Duration::from_millis(400)).await;
    agent.stop().await;
    let rows = receiver.rows();
    assert_eq!(rows.len(), 100);
    let row = &rows[99];
    assert_eq!(text(row, "_msg"), "entry 99");
    assert_eq!(text(row, "_time"), "2024-01-02T15:04:05Z");
    assert_eq!(text(row, "_stream"), r#"{host="test-host",unit="a.service"}"#);
    assert_eq!((text(row, "level"), text(row, "pid")), ("error".into(), "7".into()));
    let mut calls = String::new();
    File::open(folder.path().join("calls")).unwrap().read_to_string(&mut calls).unwrap();
    assert!(calls.contains("--after-cursor=c99"), "{calls}");
}
