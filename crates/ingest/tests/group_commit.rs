//! Batches come in together and are answered one by one.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lodge_ingest::{Ingest, IngestError, IngestLimits};
use lodge_record::builder::BatchBuilder;
use lodge_record::{Batch, Origin, Position, ProducerId, TenantId};
use lodge_store::{Store, StoreOptions};

fn batch(rows: usize, origin: Option<(&str, u32, u64)>) -> Batch {
    let mut builder = BatchBuilder::new();
    for row in 0..rows {
        builder.message(&format!("message {row}"));
        let stream = builder.stream("{}");
        builder.finish_row(row as i64, stream);
    }
    let position = origin.map(|(_, _, seq)| Position::new(format!("at {seq}")).unwrap());
    let origin = origin.map(|(name, epoch, seq)| Origin {
        producer: ProducerId::derive(&[name.as_bytes()]),
        epoch,
        seq,
    });
    Batch::new(TenantId::default(), origin, position, builder.finish().unwrap()).unwrap()
}

fn of_tenant(name: &str, rows: usize) -> Batch {
    let records = batch(rows, None).records().clone();
    Batch::new(name.parse().unwrap(), None, None, records).unwrap()
}

async fn start(dir: &Path, limits: IngestLimits) -> (Arc<Store>, Ingest) {
    let options = StoreOptions { disk_reserve_bytes: Some(0), ..StoreOptions::default() };
    let store = Store::open(dir, options).await.unwrap();
    let ingest = Ingest::start(Arc::clone(&store), limits);
    (store, ingest)
}

#[tokio::test]
async fn many_senders_share_commits_and_each_gets_its_answer() {
    let dir = tempfile::tempdir().unwrap();
    let (store, ingest) = start(dir.path(), IngestLimits::default()).await;
    let mut senders = Vec::new();
    for sender in 0..50 {
        let ingest = ingest.clone();
        senders.push(tokio::spawn(async move {
            let name = format!("p{sender}");
            for seq in 1..=4 {
                let ack = ingest.submit(batch(2, Some((&name, 1, seq)))).await.unwrap();
                assert_eq!(ack.origin().unwrap().seq, seq);
                assert_eq!(ack.position().unwrap().as_str(), format!("at {seq}"));
                assert_eq!((ack.records(), ack.duplicate()), (2, false));
            }
        }));
    }
    for sender in senders {
        sender.await.unwrap();
    }
    let stats = ingest.stats();
    assert_eq!((stats.batches, stats.records, stats.queued_bytes), (200, 400, 0));
    assert!(stats.groups < 100, "{} groups for 200 batches", stats.groups);
    assert_eq!(store.stats().rows, 400);
}

#[tokio::test]
async fn a_retry_is_answered_with_what_is_committed() {
    let dir = tempfile::tempdir().unwrap();
    let (_store, ingest) = start(dir.path(), IngestLimits::default()).await;
    for seq in 1..=3 {
        ingest.submit(batch(1, Some(("p", 1, seq)))).await.unwrap();
    }
    let again = ingest.submit(batch(1, Some(("p", 1, 1)))).await.unwrap();
    assert!(again.duplicate());
    assert_eq!(again.origin().unwrap().seq, 3);
    assert_eq!(again.position().unwrap().as_str(), "at 3");
    let gap = ingest.submit(batch(1, Some(("p", 1, 9)))).await.unwrap_err();
    assert!(matches!(&gap, IngestError::Gap { committed } if committed.seq == 3), "{gap}");
    assert!(!gap.is_retryable());
    let stale = ingest.submit(batch(1, Some(("p", 0, 4)))).await.unwrap_err();
    assert!(matches!(stale, IngestError::StaleEpoch { .. }));
    let id = ProducerId::derive(&[b"p"]);
    let state = ingest.producer(&TenantId::default(), id).await.unwrap().unwrap();
    assert_eq!((state.epoch, state.seq), (1, 3));
    assert_eq!((ingest.stats().duplicates, ingest.stats().refused), (1, 2));
}

#[tokio::test]
async fn what_does_not_fit_is_refused_and_told_when_to_come_again() {
    let dir = tempfile::tempdir().unwrap();
    let limits = IngestLimits { queued_bytes_max: 64 << 10, ..IngestLimits::default() };
    let (_store, ingest) = start(dir.path(), limits).await;
    let answers = futures_of(&ingest, 200).await;
    let refused: Vec<_> = answers.iter().filter_map(|a| a.as_ref().err()).collect();
    assert!(!refused.is_empty() && refused.len() < 200);
    for error in refused {
        assert!(matches!(error, IngestError::Overloaded { retry_after_s: 1.., .. }), "{error}");
        assert!(error.is_retryable());
    }
    assert_eq!(ingest.stats().queued_bytes, 0, "all room was given back");
    ingest.submit(batch(1, None)).await.unwrap();
}

async fn futures_of(ingest: &Ingest, count: usize) -> Vec<Result<lodge_ingest::Ack, IngestError>> {
    let tasks: Vec<_> = (0..count)
        .map(|_| {
            let ingest = ingest.clone();
            tokio::spawn(async move { ingest.submit(batch(1, None)).await })
        })
        .collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    answers
}

#[tokio::test]
async fn a_batch_beyond_the_limit_is_refused_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let limits = IngestLimits { batch_bytes_max: 10_000, ..IngestLimits::default() };
    let (_store, ingest) = start(dir.path(), limits).await;
    let error = ingest.submit(batch(5_000, None)).await.unwrap_err();
    assert!(matches!(error, IngestError::TooLarge { limit_bytes: 10_000, .. }), "{error}");
    ingest.submit(batch(10, None)).await.unwrap();
}

/// All columns of a decoded message lie in its one buffer, which is to be counted once.
#[tokio::test]
async fn a_batch_that_came_as_one_message_counts_once() {
    use arrow::ipc::{reader::StreamReader, writer::StreamWriter};
    let dir = tempfile::tempdir().unwrap();
    let limits = IngestLimits { batch_bytes_max: 1 << 20, ..IngestLimits::default() };
    let (_store, ingest) = start(dir.path(), limits).await;
    let whole = batch(15_000, None);
    let mut stream = StreamWriter::try_new(Vec::new(), whole.records().schema_ref()).unwrap();
    stream.write(whole.records()).unwrap();
    let bytes = stream.into_inner().unwrap();
    assert!((1 << 18..1 << 20).contains(&bytes.len()), "{}", bytes.len());
    let records = StreamReader::try_new(&bytes[..], None).unwrap().next().unwrap().unwrap();
    assert!(records.get_array_memory_size() > 1 << 20);
    let whole = Batch::new(TenantId::default(), None, None, records).unwrap();
    assert_eq!(ingest.submit(whole).await.unwrap().records(), 15_000);
}

#[tokio::test]
async fn draining_answers_what_was_taken_and_refuses_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let (store, ingest) = start(dir.path(), IngestLimits::default()).await;
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let ingest = ingest.clone();
            tokio::spawn(async move { ingest.submit(batch(1, None)).await })
        })
        .collect();
    tokio::task::yield_now().await;
    ingest.drain().await;
    let mut durable = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(_) => durable += 1,
            Err(IngestError::ShuttingDown) => {}
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(store.stats().rows, durable);
    assert!(matches!(ingest.submit(batch(1, None)).await, Err(IngestError::ShuttingDown)));
    ingest.drain().await;
}

#[tokio::test]
async fn tails_get_what_is_committed_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (_store, ingest) = start(dir.path(), IngestLimits::default()).await;
    ingest.submit(batch(1, Some(("p", 1, 1)))).await.unwrap();
    let mut tail = ingest.subscribe(&TenantId::default()).await.unwrap();
    ingest.submit(batch(1, Some(("p", 1, 1)))).await.unwrap();
    ingest.submit(batch(3, Some(("p", 1, 2)))).await.unwrap();
    ingest.submit(batch(5, Some(("p", 1, 9)))).await.unwrap_err();
    ingest.submit(batch(4, Some(("p", 1, 3)))).await.unwrap();
    for rows in [3, 4] {
        let committed = tail.recv().await.unwrap();
        assert_eq!(committed.tenant, TenantId::default());
        let found: usize = committed.records.iter().map(|b| b.num_rows()).sum();
        assert_eq!(found, rows, "the duplicate and the gap are not shown");
        assert_eq!(committed.missed_before, 0);
    }
    assert!(tail.waiting() == 0);
}

#[tokio::test]
async fn a_tail_that_cannot_be_held_is_told_what_it_missed() {
    let dir = tempfile::tempdir().unwrap();
    let limits = IngestLimits { tail_bytes_max: 100_000, ..IngestLimits::default() };
    let (_store, ingest) = start(dir.path(), limits).await;
    let mut tail = ingest.subscribe(&TenantId::default()).await.unwrap();
    ingest.submit(batch(30_000, None)).await.unwrap();
    assert!(tail.waiting() == 0, "larger than all that may wait");
    ingest.submit(batch(2, None)).await.unwrap();
    let committed = tail.recv().await.unwrap();
    assert_eq!(committed.missed_before, 30_000);
    assert_eq!(ingest.stats().tail_missed, 30_000);
}

#[tokio::test]
async fn a_full_disk_is_told_and_passes() {
    let dir = tempfile::tempdir().unwrap();
    let (store, ingest) = start(dir.path(), IngestLimits::default()).await;
    store.set_disk_reserve_bytes(u64::MAX);
    let error = ingest.submit(batch(1, Some(("p", 1, 1)))).await.unwrap_err();
    assert!(matches!(error, IngestError::DiskFull { .. }), "{error}");
    assert!(error.is_retryable());
    store.set_disk_reserve_bytes(0);
    ingest.submit(batch(1, Some(("p", 1, 1)))).await.unwrap();
}

#[tokio::test]
async fn when_idle_nothing_waits_for_company() {
    let dir = tempfile::tempdir().unwrap();
    let patient = Duration::from_secs(3_600);
    let limits = IngestLimits { group_wait_max: patient, ..IngestLimits::default() };
    let (_store, ingest) = start(dir.path(), limits).await;
    // Would take hours if the first batch, or any after it, waited for the longest time.
    for seq in 1..=5 {
        ingest.submit(batch(1, Some(("p", 1, seq)))).await.unwrap();
    }
}

#[tokio::test]
async fn a_tenant_that_floods_leaves_room_to_others() {
    let dir = tempfile::tempdir().unwrap();
    let limits = IngestLimits { queued_bytes_max: 64 << 10, ..IngestLimits::default() };
    let (store, ingest) = start(dir.path(), limits).await;
    for name in ["noisy", "quiet"] {
        ingest.submit(of_tenant(name, 1)).await.unwrap();
    }
    let noisy: Vec<_> = (0..200)
        .map(|_| {
            let ingest = ingest.clone();
            tokio::spawn(async move { ingest.submit(of_tenant("noisy", 1)).await.is_ok() })
        })
        .collect();
    tokio::task::yield_now().await;
    for n in 0..20 {
        let taken = ingest.submit(of_tenant("quiet", 1)).await;
        taken.unwrap_or_else(|error| panic!("the quiet one's batch {n}: {error}"));
    }
    let mut taken = 0;
    for noisy in noisy {
        taken += u64::from(noisy.await.unwrap());
    }
    assert!((1..200).contains(&taken), "{taken} of 200 fit");
    assert_eq!(store.stats().rows, 2 + 20 + taken);
}

/// A store in which nothing is ever due to be built, with too much of a tenant's in it already.
async fn start_held_up(dir: &Path, l0_wait_max: Duration) -> (Arc<Store>, Ingest) {
    let options = StoreOptions {
        disk_reserve_bytes: Some(0),
        l0_bytes_max: 200_000,
        l0_wait_max,
        build_age: Duration::from_secs(3_600),
        ..StoreOptions::default()
    };
    let store = Store::open(dir, options).await.unwrap();
    // It goes on until the store is gone.
    std::mem::forget(store.spawn_background());
    let limits = IngestLimits { group_bytes_max: 1, ..IngestLimits::default() };
    let ingest = Ingest::start(Arc::clone(&store), limits);
    ingest.submit(of_tenant("noisy", 20_000)).await.unwrap();
    while !store.has_much_unbuilt(&"noisy".parse().unwrap()) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    (store, ingest)
}

#[tokio::test]
async fn who_has_much_unbuilt_waits_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (store, ingest) = start_held_up(dir.path(), Duration::from_secs(3_600)).await;
    let wait = || {
        let ingest = ingest.clone();
        tokio::spawn(async move { ingest.submit(of_tenant("noisy", 2)).await })
    };
    let waits = [wait(), wait(), wait()];
    while ingest.stats().queued_bytes == 0 {
        tokio::task::yield_now().await;
    }
    for _ in 0..10 {
        ingest.submit(of_tenant("quiet", 1)).await.unwrap();
    }
    assert!(!store.has_much_unbuilt(&"quiet".parse().unwrap()));
    assert!(waits.iter().all(|waits| !waits.is_finished()));
    assert_eq!(store.stats().delayed, 1, "counted once, however many go by");
    // A server that stops waits for nothing, of however many groups.
    ingest.drain().await;
    for waits in waits {
        waits.await.unwrap().unwrap();
    }
    assert_eq!(store.stats().rows, 20_016);
}

/// Though nothing is built and somebody else comes again and again.
#[tokio::test]
async fn nobody_is_held_up_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let (store, ingest) = start_held_up(dir.path(), Duration::from_millis(200)).await;
    let waits = tokio::spawn({
        let ingest = ingest.clone();
        async move { ingest.submit(of_tenant("noisy", 2)).await }
    });
    while !waits.is_finished() {
        ingest.submit(of_tenant("quiet", 1)).await.unwrap();
        assert!(ingest.stats().batches < 3_000, "the noisy one is never let in");
    }
    waits.await.unwrap().unwrap();
    assert!(store.stats().delayed > 0);
}
