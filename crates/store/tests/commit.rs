//! Commits: durable once, recognised again, refused in order.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod support;

use std::time::Duration;

use lodge_record::{Position, TenantId};
use lodge_store::{CommitError, Outcome, Store, StoreError, StoreOptions};
use support::{batch, marks, objects, of_tenant, open, options, producer, put, stored};

#[tokio::test]
async fn what_is_committed_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let committed = put(&store, batch("a", Some(("p", 1, 1)))).await;
    assert_eq!(committed.records(), 3);
    assert!(!committed.is_duplicate());
    assert_eq!(committed.position().unwrap().as_str(), "1:1");
    put(&store, batch("b", None)).await;
    let before = stored(&store, &TenantId::default()).await;
    assert_eq!(before.len(), 6);
    store.close().await;
    drop(store);
    let store = open(dir.path()).await;
    assert_eq!(stored(&store, &TenantId::default()).await, before);
    let state = store.producer(&TenantId::default(), producer("p")).await.unwrap().unwrap();
    assert_eq!((state.epoch, state.seq), (1, 1));
    assert_eq!(store.stats().rows, 6);
}

#[tokio::test]
async fn a_retry_is_acknowledged_and_not_stored_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    for seq in 1..=3 {
        put(&store, batch(&format!("m{seq}"), Some(("p", 1, seq)))).await;
    }
    let again = put(&store, batch("m2", Some(("p", 1, 2)))).await;
    assert!(again.is_duplicate());
    assert_eq!(again.records(), 0);
    assert_eq!(again.origin().unwrap().seq, 3, "the highest committed");
    assert_eq!(again.position(), Some(&Position::new("1:3").unwrap()));
    assert_eq!(marks(&store).await, ["m1", "m2", "m3"]);
    assert_eq!(store.stats().duplicates, 1);
    assert_eq!(store.stats().rows, 9);
}

#[tokio::test]
async fn gaps_and_ended_epochs_are_refused_and_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let outcome = |group| async { store.commit(group).await.unwrap().remove(0) };
    let first = outcome(vec![batch("x", Some(("p", 1, 2)))]).await;
    assert!(matches!(first, Outcome::Gap(s) if (s.epoch, s.seq) == (0, 0)));
    put(&store, batch("a", Some(("p", 5, 1)))).await;
    let gap = outcome(vec![batch("x", Some(("p", 5, 3)))]).await;
    assert!(matches!(gap, Outcome::Gap(s) if (s.epoch, s.seq) == (5, 1) && s.position.is_some()));
    let stale = outcome(vec![batch("x", Some(("p", 4, 2)))]).await;
    assert!(matches!(stale, Outcome::StaleEpoch(s) if (s.epoch, s.seq) == (5, 1)));
    let late = outcome(vec![batch("x", Some(("p", 6, 2)))]).await;
    assert!(matches!(late, Outcome::Gap(_)), "an epoch begins with 1");
    put(&store, batch("b", Some(("p", 6, 1)))).await;
    assert_eq!(marks(&store).await, ["a", "b"]);
    assert_eq!(objects(dir.path()).len(), 2, "what was refused wrote nothing");
}

#[tokio::test]
async fn a_group_is_judged_in_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let group = vec![
        batch("a", Some(("p", 1, 1))),
        batch("q", Some(("q", 1, 1))),
        batch("a", Some(("p", 1, 1))),
        batch("b", Some(("p", 1, 2))),
        batch("x", Some(("p", 1, 4))),
        batch("none", None),
        batch("c", Some(("p", 2, 1))),
        batch("x", Some(("p", 1, 3))),
    ];
    let outcomes = store.commit(group).await.unwrap();
    let told: Vec<&str> = outcomes
        .iter()
        .map(|o| match o {
            Outcome::Committed(c) if c.is_duplicate() => "again",
            Outcome::Committed(_) => "new",
            Outcome::Gap(_) => "gap",
            Outcome::StaleEpoch(_) => "stale",
        })
        .collect();
    assert_eq!(told, ["new", "new", "again", "new", "gap", "new", "new", "stale"]);
    assert_eq!(marks(&store).await, ["a", "b", "c", "none", "q"]);
    assert_eq!(objects(dir.path()).len(), 1, "one object for a group");
}

#[tokio::test]
async fn two_commits_of_the_same_batch_store_it_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    for seq in 1..=20 {
        let commit = || store.commit(vec![batch(&format!("m{seq}"), Some(("p", 1, seq)))]);
        let (a, b, c) = tokio::join!(commit(), commit(), commit());
        let stored = [a, b, c]
            .into_iter()
            .map(|o| o.unwrap().remove(0))
            .filter(|o| matches!(o, Outcome::Committed(c) if !c.is_duplicate()))
            .count();
        assert_eq!(stored, 1, "of batch {seq}");
    }
    assert_eq!(stored(&store, &TenantId::default()).await.len(), 60);
}

#[tokio::test]
async fn tenants_see_only_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let other: TenantId = "other".parse().unwrap();
    let group = vec![batch("mine", None), of_tenant(other.clone(), "theirs", None)];
    store.commit(group).await.unwrap();
    assert_eq!(objects(dir.path()).len(), 1);
    assert_eq!(marks(&store).await, ["mine"]);
    assert!(stored(&store, &other).await.iter().all(|r| r["_msg"].starts_with("theirs")));
}

#[tokio::test]
async fn a_batch_without_records_advances_its_producer() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let full = batch("a", Some(("p", 1, 1)));
    let empty = lodge_record::Batch::new(
        full.tenant.clone(),
        full.origin,
        full.position.clone(),
        full.records().slice(0, 0),
    );
    assert_eq!(put(&store, empty.unwrap()).await.records(), 0);
    assert!(put(&store, full).await.is_duplicate());
    assert!(objects(dir.path()).is_empty());
}

#[tokio::test]
async fn a_snapshot_does_not_change() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    put(&store, batch("a", None)).await;
    let snapshot = store.snapshot(&TenantId::default(), None).await.unwrap();
    put(&store, batch("b", None)).await;
    store.wait_built().await;
    assert_eq!(snapshot.rows(), 3);
    let open = store.open_segment(&snapshot.segments[0]).await.unwrap();
    let block = open.read(0, &["_msg"], None).await.unwrap();
    assert_eq!((block.num_rows(), block.num_columns()), (3, 1), "its object is still there");
    assert!(store.snapshot(&TenantId::default(), None).await.unwrap().version > snapshot.version);
}

#[tokio::test]
async fn commits_wait_while_too_much_is_not_built() {
    async fn wait(store: &Store) {
        if store.has_much_unbuilt(&TenantId::default()) {
            store.wait_for_building(store.hold_up()).await;
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let narrow = StoreOptions {
        l0_bytes_max: 1,
        l0_wait_max: Duration::from_secs(600),
        build_age: Duration::ZERO,
        ..options()
    };
    let store = Store::open(dir.path(), narrow).await.unwrap();
    // Nobody builds yet, so that waiting would be of no use.
    put(&store, batch("a", None)).await;
    wait(&store).await;
    put(&store, batch("b", None)).await;
    assert_eq!(store.stats().l0_segments, 2);
    let background = store.spawn_background();
    store.wait_built().await;
    let tenant = TenantId::default();
    for mark in ["c", "d", "e", "f"] {
        wait(&store).await;
        assert!(!store.has_much_unbuilt(&tenant));
        put(&store, batch(mark, None)).await;
        assert!(store.stats().l0_segments <= 1, "{:?}", store.stats());
    }
    assert!(store.stats().delayed > 0);
    background.shutdown().await;
    put(&store, batch("g", None)).await;
    wait(&store).await;
    put(&store, batch("h", None)).await;
    assert_eq!(marks(&store).await, ["a", "b", "c", "d", "e", "f", "g", "h"]);
}

#[tokio::test]
async fn a_data_folder_has_one_server() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let error = Store::open(dir.path(), options()).await.unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    assert!(error.to_string().contains("in use by another lodge server"), "{error}");
    drop(store);
    open(dir.path()).await;
}

#[tokio::test]
async fn below_the_reserve_commits_are_refused_until_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    put(&store, batch("a", Some(("p", 1, 1)))).await;
    store.set_disk_reserve_bytes(u64::MAX);
    let refused = store.commit(vec![batch("b", Some(("p", 1, 2)))]).await.unwrap_err();
    assert!(matches!(refused, CommitError::DiskFull { reserve_bytes: u64::MAX, .. }), "{refused}");
    assert_eq!(marks(&store).await, ["a"], "reading goes on");
    assert_eq!(store.stats().disk_full, 1);
    store.wait_built().await;
    assert_eq!(store.stats().l0_segments, 1, "building waits too");
    store.set_disk_reserve_bytes(0);
    put(&store, batch("b", Some(("p", 1, 2)))).await;
    store.wait_built().await;
    assert_eq!(marks(&store).await, ["a", "b"]);
}

/// A file system that is truly full: a small tmpfs, where that may be mounted.
#[tokio::test]
async fn a_full_disk_loses_nothing_and_recovers_crash() {
    let dir = tempfile::tempdir().unwrap();
    let mount = |args: &[&str]| {
        std::process::Command::new("mount")
            .args(args)
            .arg(dir.path())
            .status()
            .is_ok_and(|s| s.success())
    };
    if !mount(&["-t", "tmpfs", "-o", "size=6m", "tmpfs"]) {
        eprintln!("not run: mounting a tmpfs needs root");
        return;
    }
    let _unmount = Unmount(dir.path().to_owned());
    let filled = fill_and_recover(&dir.path().join("data")).await;
    assert!(filled > 0, "the disk was never full");
}

struct Unmount(std::path::PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        std::process::Command::new("umount").arg("-l").arg(&self.0).status().unwrap();
    }
}

async fn fill_and_recover(data: &std::path::Path) -> u64 {
    let ballast = data.with_file_name("ballast");
    std::fs::write(&ballast, vec![1u8; 3 << 20]).unwrap();
    // No reserve: the writes themselves meet the end of the disk.
    let store = open(data).await;
    let (mut seq, mut full) = (1, 0);
    let mut acknowledged = Vec::new();
    while full < 3 {
        let mark = format!("m{seq:04}");
        match store.commit(vec![batch(&mark, Some(("p", 1, seq)))]).await {
            Ok(outcomes) => {
                assert!(matches!(outcomes[0], Outcome::Committed(_)));
                acknowledged.push(mark);
                seq += 1;
            }
            Err(CommitError::DiskFull { .. }) => full += 1,
            Err(other) => panic!("{other}"),
        }
        assert!(seq < 5_000, "6 MiB hold so many batches");
    }
    assert_eq!(marks(&store).await, acknowledged, "reading goes on");
    std::fs::remove_file(&ballast).unwrap();
    put(&store, batch("after", Some(("p", 1, seq)))).await;
    store.wait_built().await;
    acknowledged.insert(0, "after".into());
    assert_eq!(marks(&store).await, acknowledged);
    store.close().await;
    full
}

#[tokio::test]
async fn an_object_without_a_transaction_is_swept_after_its_grace_crash() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    put(&store, batch("a", None)).await;
    let kept = objects(dir.path());
    store.close().await;
    drop(store);
    // What a process leaves that was killed between put and transaction, and during a put.
    let orphan = dir.path().join("objects/l0/0123456789abcdef0123456789abcdef.l0");
    std::fs::copy(&kept[0], &orphan).unwrap();
    let half = dir.path().join("objects/l0/fedcba9876543210fedcba9876543210.l0");
    std::fs::write(&half, b"half").unwrap();

    let store = open(dir.path()).await;
    let background = store.spawn_background();
    tokio::time::sleep(Duration::from_millis(300)).await;
    background.shutdown().await;
    assert!(orphan.exists() && half.exists(), "they are within their grace");
    store.close().await;
    drop(store);

    let hasty = StoreOptions { orphan_grace: Duration::ZERO, ..options() };
    let store = Store::open(dir.path(), hasty).await.unwrap();
    let background = store.spawn_background();
    while store.stats().orphans_deleted < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    background.shutdown().await;
    assert!(!orphan.exists() && !half.exists());
    assert_eq!(marks(&store).await, ["a"]);
}

/// With no grace at all and a sweeper that never rests, no object of a commit is ever swept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_in_flight_are_never_swept() {
    let dir = tempfile::tempdir().unwrap();
    let hasty = StoreOptions {
        orphan_grace: Duration::ZERO,
        garbage_grace: Duration::ZERO,
        sweep_every: Duration::ZERO,
        build_age: Duration::from_millis(20),
        ..options()
    };
    let store = Store::open(dir.path(), hasty).await.unwrap();
    let background = store.spawn_background();
    for i in 0..200 {
        put(&store, batch(&format!("m{i:03}"), None)).await;
    }
    background.shutdown().await;
    assert_eq!(marks(&store).await.len(), 200);
    store.close().await;
}
