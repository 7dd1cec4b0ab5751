//! What every catalog must do. Each catalog runs the same suite through [`contract!`].
#![allow(clippy::unwrap_used)]

#[path = "support/server.rs"]
mod server;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use arrow::datatypes::{DataType, Schema, SchemaRef};
use lodge_record::{Position, ProducerId, TenantId, schema};
use lodge_store::catalog::{
    Applied, Candidates, Catalog, HOLD, Lease, NewSegment, Node, PostgresCatalog, ProducerAdvance,
    SqliteCatalog,
};
use lodge_store::token::{Credential, Token, secret_hash};
use lodge_store::{LedgerEntry, ProducerState, SegmentId, StoreError};

fn columns(extra: &[&str]) -> SchemaRef {
    let mut fields = schema::leading_fields().to_vec();
    fields[1] = fields[1].clone().with_data_type(DataType::Utf8);
    fields.extend(extra.iter().map(|name| schema::make_field(name, DataType::Int64, true)));
    Arc::new(Schema::new(fields))
}

fn segment(tenant: &str, key: &str, time: (i64, i64)) -> NewSegment {
    NewSegment {
        tenant: tenant.parse().unwrap(),
        level: 0,
        object_key: key.into(),
        object_offset: 5,
        bytes: 100,
        rows: 10,
        arrow_bytes: 400,
        time_min_ns: time.0,
        time_max_ns: time.1,
        schema: columns(&["n"]),
        streams: Some(vec!["{a=\"b\"}".to_owned()].into()),
        created_ms: 1,
    }
}

fn state(epoch: u32, seq: u64, position: &str) -> ProducerState {
    ProducerState { epoch, seq, position: Some(Position::new(position).unwrap()) }
}

fn step(name: &str, from: Option<(u32, u64)>, to: ProducerState) -> ProducerAdvance {
    let producer = ProducerId::derive(&[name.as_bytes()]);
    ProducerAdvance {
        tenant: TenantId::default(),
        producer,
        from,
        to,
        entry: None,
        forget_ms: None,
    }
}

async fn known(catalog: &dyn Catalog, name: &str) -> Option<ProducerState> {
    let wanted = [(TenantId::default(), ProducerId::derive(&[name.as_bytes()]))];
    catalog.producers(&wanted).await.unwrap().remove(0).map(|producer| producer.state)
}

async fn ids(catalog: &dyn Catalog, tenant: &str, time: Option<(i64, i64)>) -> Vec<SegmentId> {
    let (_, segments) = catalog.snapshot(&tenant.parse().unwrap(), time).await.unwrap();
    segments.iter().map(|s| s.id).collect()
}

async fn a_catalog_has_one_number_for_ever(catalog: Arc<dyn Catalog>) {
    let number = catalog.number().await.unwrap();
    catalog.commit(&[segment("default", "l0/a", (1, 2))], &[]).await.unwrap().unwrap();
    assert_eq!(catalog.number().await.unwrap(), number);
    assert_ne!(number, 0);
}

async fn a_commit_is_seen_whole(catalog: Arc<dyn Catalog>) {
    let before = catalog.snapshot(&TenantId::default(), None).await.unwrap().0;
    let new = segment("default", "l0/a", (10, 20));
    let done = catalog
        .commit(std::slice::from_ref(&new), &[step("p", None, state(1, 1, "one"))])
        .await
        .unwrap()
        .unwrap();
    assert!(done.version > before);
    let (version, seen) = catalog.snapshot(&TenantId::default(), None).await.unwrap();
    assert!(version >= done.version, "whoever commits finds it");
    let seen = &seen[0];
    assert_eq!(seen.id, done.added[0].id);
    assert_eq!(seen.schema, new.schema, "with the marks of its fields");
    assert_eq!(seen.streams, new.streams);
    assert_eq!((seen.rows, seen.bytes, seen.arrow_bytes, seen.level), (10, 100, 400, 0));
    assert_eq!((seen.time_min_ns, seen.time_max_ns, seen.created_ms), (10, 20, 1));
    assert_eq!(known(&*catalog, "p").await, Some(state(1, 1, "one")));
}

async fn a_producer_is_advanced_only_from_where_it_stands(catalog: Arc<dyn Catalog>) {
    let new = [segment("default", "l0/a", (0, 0))];
    let first = step("p", None, state(1, 1, "a"));
    assert!(catalog.commit(&new, std::slice::from_ref(&first)).await.unwrap().is_some());
    assert!(catalog.commit(&new, &[first]).await.unwrap().is_none(), "it is known by now");
    let wrong = step("p", Some((1, 7)), state(1, 8, "b"));
    assert!(catalog.commit(&new, &[wrong]).await.unwrap().is_none());
    let right = step("p", Some((1, 1)), state(1, 2, "b"));
    let new = [segment("default", "l0/b", (0, 0))];
    // One that does not hold undoes all.
    let other = step("q", Some((3, 3)), state(3, 4, "x"));
    assert!(catalog.commit(&new, &[right.clone(), other]).await.unwrap().is_none());
    assert_eq!(known(&*catalog, "p").await, Some(state(1, 1, "a")));
    assert_eq!(known(&*catalog, "q").await, None);
    assert_eq!(ids(&*catalog, "default", None).await.len(), 1, "nothing was added");
    assert!(catalog.commit(&new, &[right]).await.unwrap().is_some());
    let last = step("p", Some((1, 2)), state(u32::MAX, u64::MAX, "end"));
    assert!(catalog.commit(&[], &[last]).await.unwrap().is_some());
    assert_eq!(known(&*catalog, "p").await, Some(state(u32::MAX, u64::MAX, "end")));
}

async fn producers_are_apart_by_tenant(catalog: Arc<dyn Catalog>) {
    let mine = step("p", None, state(1, 1, "mine"));
    let theirs = ProducerAdvance { tenant: "other".parse().unwrap(), ..mine.clone() };
    assert!(catalog.commit(&[], std::slice::from_ref(&mine)).await.unwrap().is_some());
    assert!(catalog.commit(&[], std::slice::from_ref(&theirs)).await.unwrap().is_some());
    let wanted = [(mine.tenant, mine.producer), (theirs.tenant, theirs.producer)];
    assert!(catalog.producers(&wanted).await.unwrap().iter().all(Option::is_some));
}

async fn the_ledger_goes_with_its_producer(catalog: Arc<dyn Catalog>) {
    let tenant = TenantId::default();
    let entry = |read_records| LedgerEntry {
        source: "/var/log/\"a\".log".into(),
        read_records,
        ..LedgerEntry::default()
    };
    let with = |step: ProducerAdvance, n| ProducerAdvance { entry: Some(entry(n)), ..step };
    let first = [
        with(step("p", None, state(1, 1, "a")), 1),
        with(step("q", None, state(1, 1, "a")), 7),
        step("silent", None, state(1, 1, "a")),
    ];
    catalog.commit(&[], &first).await.unwrap().unwrap();
    let theirs = with(step("p", None, state(1, 1, "a")), 9);
    let theirs = ProducerAdvance { tenant: "other".parse().unwrap(), ..theirs };
    catalog.commit(&[], &[theirs]).await.unwrap().unwrap();
    // A step that does not hold changes no entry; one without an entry leaves it.
    let wrong = with(step("p", Some((1, 9)), state(1, 10, "x")), 100);
    assert!(catalog.commit(&[], &[wrong]).await.unwrap().is_none());
    let plain = step("q", Some((1, 1)), state(1, 2, "b"));
    let second = with(step("p", Some((1, 1)), state(1, 2, "b")), 3);
    catalog.commit(&[], &[plain, second]).await.unwrap().unwrap();
    let all = catalog.ledger(&tenant, None, 10).await.unwrap();
    let mut reads: Vec<u64> = all.iter().map(|row| row.entry.read_records).collect();
    reads.sort_unstable();
    assert_eq!(reads, [3, 7], "the silent one is not in it, nor is the other tenant's");
    assert!(all.iter().all(|row| row.state == state(1, 2, "b")));
    assert_eq!(all[0].entry.source, "/var/log/\"a\".log");
    let one = catalog.ledger(&tenant, None, 1).await.unwrap();
    let rest = catalog.ledger(&tenant, Some(one[0].producer), 10).await.unwrap();
    assert_eq!([&one[..], &rest[..]].concat(), all, "page by page");
}

async fn a_snapshot_has_what_overlaps(catalog: Arc<dyn Catalog>) {
    let times = [(0, 10), (10, 20), (21, 30), (i64::MIN, i64::MAX)];
    let new: Vec<_> = times.iter().map(|t| segment("default", "l0/a", *t)).collect();
    let added = catalog.commit(&new, &[]).await.unwrap().unwrap().added;
    catalog.commit(&[segment("other", "l0/b", (0, 100))], &[]).await.unwrap().unwrap();
    let id = |i: usize| added[i].id;
    assert_eq!(ids(&*catalog, "default", None).await, [id(0), id(1), id(2), id(3)]);
    assert_eq!(ids(&*catalog, "default", Some((10, 10))).await, [id(0), id(1), id(3)]);
    assert_eq!(ids(&*catalog, "default", Some((11, 21))).await, [id(1), id(2), id(3)]);
    assert_eq!(ids(&*catalog, "default", Some((31, i64::MAX))).await, [id(3)]);
    assert_eq!(ids(&*catalog, "nobody", None).await, []);
}

async fn a_swap_is_all_or_nothing(catalog: Arc<dyn Catalog>) {
    // Two tenants share an object; a third segment has its own.
    let new = [
        segment("default", "l0/shared", (0, 1)),
        segment("other", "l0/shared", (0, 1)),
        segment("default", "l0/own", (2, 3)),
    ];
    let added = catalog.commit(&new, &[]).await.unwrap().unwrap().added;
    let built = NewSegment { level: 1, ..segment("default", "seg/1", (0, 3)) };
    let both = [added[0].id, added[2].id];
    let done =
        catalog.swap(&both, std::slice::from_ref(&built), 1_000, None).await.unwrap().unwrap();
    assert_eq!(ids(&*catalog, "default", None).await, [done.added[0].id]);
    assert_eq!(catalog.garbage(1_000, 10).await.unwrap(), ["l0/own"], "the other is in use");
    assert!(catalog.garbage(999, 10).await.unwrap().is_empty());
    // Once more: they are gone, and nothing happens.
    assert!(
        catalog.swap(&both, std::slice::from_ref(&built), 2_000, None).await.unwrap().is_none()
    );
    let half = [added[1].id, added[0].id];
    assert!(catalog.swap(&half, &[built], 2_000, None).await.unwrap().is_none());
    assert_eq!(ids(&*catalog, "other", None).await, [added[1].id], "it was put back");
    let last = NewSegment { level: 1, ..segment("other", "seg/2", (0, 1)) };
    catalog.swap(&[added[1].id], &[last], 3_000, None).await.unwrap().unwrap();
    let garbage = catalog.garbage(i64::MAX, 10).await.unwrap();
    assert_eq!(garbage, ["l0/own", "l0/shared"]);
    catalog.forget_garbage(&garbage).await.unwrap();
    assert!(catalog.garbage(i64::MAX, 10).await.unwrap().is_empty());
}

async fn objects_are_known_by_name(catalog: Arc<dyn Catalog>) {
    let keys = ["l0/a", "l0/b", "seg/1"].map(str::to_owned);
    let added = catalog.commit(&[segment("default", "l0/a", (0, 0))], &[]).await.unwrap().unwrap();
    assert_eq!(catalog.names_objects(&keys).await.unwrap(), [true, false, false]);
    assert_eq!(catalog.settle("l0/a").await.unwrap().map(|s| s.len()), Some(1));
    assert!(catalog.settle("l0/b").await.unwrap().is_none());
    let built = NewSegment { level: 1, ..segment("default", "seg/1", (0, 0)) };
    catalog.swap(&[added.added[0].id], &[built], 1, None).await.unwrap().unwrap();
    // Garbage is still named: it is not an orphan.
    assert_eq!(catalog.names_objects(&keys).await.unwrap(), [true, false, true]);
}

async fn numbers_are_never_used_again(catalog: Arc<dyn Catalog>) {
    let new = [segment("default", "l0/a", (0, 0))];
    let first = catalog.commit(&new, &[]).await.unwrap().unwrap().added[0].id;
    catalog.swap(&[first], &[], 1, None).await.unwrap().unwrap();
    let new = [segment("default", "l0/b", (0, 0))];
    let second = catalog.commit(&new, &[]).await.unwrap().unwrap().added[0].id;
    assert!(second > first);
}

async fn candidates_and_totals_are_by_level(catalog: Arc<dyn Catalog>) {
    let l0 = segment("default", "l0/a", (0, 0));
    let small = NewSegment { level: 1, ..segment("default", "seg/1", (0, 0)) };
    let large = NewSegment { level: 2, arrow_bytes: 1 << 40, ..segment("a", "seg/2", (0, 0)) };
    let added = catalog.commit(&[l0, small, large], &[]).await.unwrap().unwrap().added;
    let found = catalog.candidates(Candidates::L0, 10).await.unwrap();
    assert_eq!(found.iter().map(|s| s.id).collect::<Vec<_>>(), [added[0].id]);
    let found = catalog.candidates(Candidates::BuiltBelow(1_000), 10).await.unwrap();
    assert_eq!(found.iter().map(|s| s.id).collect::<Vec<_>>(), [added[1].id]);
    let (l0, built) = catalog.totals().await.unwrap();
    assert_eq!((l0.segments, l0.rows, l0.bytes), (1, 10, 100));
    assert_eq!((built.segments, built.rows, built.bytes), (2, 20, 200));
}

async fn column_lists_are_kept_while_used(catalog: Arc<dyn Catalog>) {
    let one = segment("default", "l0/a", (0, 0));
    let two = NewSegment { schema: columns(&["x", "y"]), ..segment("default", "l0/b", (0, 0)) };
    let added = catalog.commit(&[one, two.clone()], &[]).await.unwrap().unwrap().added;
    catalog.swap(&[added[0].id], &[], 1, None).await.unwrap().unwrap();
    catalog.drop_unused_schemas().await.unwrap();
    let (_, left) = catalog.snapshot(&TenantId::default(), None).await.unwrap();
    assert_eq!(left[0].schema, two.schema);
    let again = segment("default", "l0/c", (0, 0));
    catalog.commit(std::slice::from_ref(&again), &[]).await.unwrap().unwrap();
    let (_, left) = catalog.snapshot(&TenantId::default(), None).await.unwrap();
    assert_eq!(left[1].schema, again.schema);
}

async fn many_segments_are_read_at_once(catalog: Arc<dyn Catalog>) {
    for i in 0..40 {
        let new: Vec<_> = (0..5).map(|j| segment("default", &format!("l0/{i}"), (j, j))).collect();
        catalog.commit(&new, &[]).await.unwrap().unwrap();
    }
    assert_eq!(ids(&*catalog, "default", None).await.len(), 200);
}

async fn concurrent_writers_are_one_after_another(catalog: Arc<dyn Catalog>) {
    let mut tasks = Vec::new();
    for writer in 0..4 {
        let catalog = Arc::clone(&catalog);
        tasks.push(tokio::spawn(async move {
            let mut done = 0;
            for seq in 1..=10u64 {
                let from = (seq > 1).then(|| (1, seq - 1));
                let advance = step("shared", from, state(1, seq, "s"));
                let new = segment("default", &format!("l0/{writer}-{seq}"), (0, 0));
                done += u64::from(catalog.commit(&[new], &[advance]).await.unwrap().is_some());
            }
            done
        }));
    }
    let mut done = 0;
    for task in tasks {
        done += task.await.unwrap();
    }
    let at = known(&*catalog, "shared").await.unwrap();
    assert_eq!(done, at.seq, "each step was made by exactly one");
    assert_eq!(ids(&*catalog, "default", None).await.len() as u64, done);
}

async fn a_producer_that_may_be_forgotten_is_unknown_then(catalog: Arc<dyn Catalog>) {
    let now_ms = 1_000 * i64::try_from(UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap();
    let until = |name: &str, forget_ms: Option<i64>| ProducerAdvance {
        forget_ms,
        ..step(name, None, state(1, 1, "x"))
    };
    let steps = [
        until("over", Some(now_ms - 1)),
        until("lasts", Some(now_ms + 3_600_000)),
        until("stays", None),
    ];
    assert!(catalog.commit(&[], &steps).await.unwrap().is_some());
    assert_eq!(known(&*catalog, "over").await, None);
    assert!(known(&*catalog, "lasts").await.is_some());
    // One that is over may begin anew before it is swept away, the others may not.
    let again = until("over", Some(now_ms - 1));
    assert!(catalog.commit(&[], &[again]).await.unwrap().is_some());
    for name in ["lasts", "stays"] {
        assert!(catalog.commit(&[], &[until(name, None)]).await.unwrap().is_none(), "{name}");
    }
    assert_eq!(catalog.forget_producers(now_ms, 10).await.unwrap(), (1, 1));
    assert_eq!(catalog.forget_producers(now_ms, 10).await.unwrap(), (0, 1));
    assert!(known(&*catalog, "lasts").await.is_some());
    assert!(known(&*catalog, "stays").await.is_some());
}

async fn tokens_are_kept_and_their_version_rises(catalog: Arc<dyn Catalog>) {
    let token = |id: &str, credential| Token {
        id: id.to_owned(),
        name: "web".to_owned(),
        tenant: "shop".parse().unwrap(),
        scopes: "ingest,read".parse().unwrap(),
        only: Some("{app=\"x\"}".to_owned()),
        credential,
        created_ms: 5,
        expires_ms: Some(9),
    };
    let (none, tokens) = catalog.tokens(None).await.unwrap().unwrap();
    assert_eq!(tokens, []);
    let all = [
        token("a", Credential::Secret(secret_hash("lodge_1"))),
        token("b", Credential::Subject("host-1".to_owned())),
        token("c", Credential::SharedKey("key".to_owned())),
    ];
    for one in &all {
        assert!(catalog.add_token(one).await.unwrap());
    }
    assert!(!catalog.add_token(&token("a", Credential::Subject("x".into()))).await.unwrap());
    assert!(!catalog.add_token(&token("d", Credential::SharedKey("key".into()))).await.unwrap());
    let (version, kept) = catalog.tokens(Some(none)).await.unwrap().unwrap();
    assert_eq!(kept, all);
    assert!(catalog.tokens(Some(version)).await.unwrap().is_none());
    assert!(catalog.remove_token("b").await.unwrap());
    assert!(!catalog.remove_token("b").await.unwrap());
    let (later, kept) = catalog.tokens(Some(version)).await.unwrap().unwrap();
    assert!(later > version);
    assert_eq!(kept.iter().map(|t| t.id.as_str()).collect::<Vec<_>>(), ["a", "c"]);
}

async fn versions_tell_states_apart(catalog: Arc<dyn Catalog>) {
    let tenant = TenantId::default();
    let mut seen = vec![catalog.snapshot(&tenant, None).await.unwrap().0];
    let mut last = None;
    for i in 0..5 {
        let new = segment("default", &format!("l0/{i}"), (i, i));
        let done = catalog.commit(&[new], &[]).await.unwrap().unwrap();
        seen.push(catalog.snapshot(&tenant, None).await.unwrap().0);
        assert!(done.version <= *seen.last().unwrap(), "whoever commits finds it");
        last = Some(done.added[0].id);
    }
    catalog.swap(&[last.unwrap()], &[], 1, None).await.unwrap().unwrap();
    seen.push(catalog.snapshot(&tenant, None).await.unwrap().0);
    assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
}

/// What is kept in memory is what a look at everything finds, whoever writes.
async fn kept_lists_are_as_good_as_new(catalog: Arc<dyn Catalog>) {
    let tenants: [TenantId; 2] = ["default".parse().unwrap(), "other".parse().unwrap()];
    let told = Arc::new(AtomicU64::new(0));
    let writing = {
        let (catalog, told) = (Arc::clone(&catalog), Arc::clone(&told));
        tokio::spawn(async move {
            for i in 0..60 {
                let new = [
                    segment("default", &format!("l0/{i}"), (i, i)),
                    segment("other", &format!("l0/{i}"), (i, i)),
                ];
                let Applied { version, added } = catalog.commit(&new, &[]).await.unwrap().unwrap();
                told.store(version, Ordering::SeqCst);
                if i % 3 == 0 {
                    let built =
                        NewSegment { level: 1, ..segment("default", &format!("seg/{i}"), (i, i)) };
                    catalog.swap(&[added[0].id], &[built], 1, None).await.unwrap().unwrap();
                }
            }
        })
    };
    let numbers = |segments: &[Arc<lodge_store::SegmentRef>]| -> Vec<SegmentId> {
        segments.iter().map(|s| s.id).collect()
    };
    let mut rounds = 0;
    while !writing.is_finished() || rounds < 3 {
        for tenant in &tenants {
            let before = catalog.snapshot(tenant, None).await.unwrap();
            let told = told.load(Ordering::SeqCst);
            let kept = match catalog.kept(tenant) {
                Some(kept) => kept,
                None => catalog.snapshot_to_keep(tenant, None).await.unwrap(),
            };
            let after = catalog.snapshot(tenant, None).await.unwrap();
            assert!(told <= kept.version, "whoever was told of a commit finds it");
            assert!(kept.version <= after.0);
            // Versions that are the same saw the same.
            for (version, segments) in [&before, &after] {
                if *version == kept.version {
                    assert_eq!(numbers(segments), numbers(&kept.segments), "at {version}");
                }
            }
        }
        rounds += 1;
    }
    writing.await.unwrap();
    for tenant in &tenants {
        let kept = catalog.snapshot_to_keep(tenant, None).await.unwrap();
        assert_eq!(numbers(&kept.segments), ids(&*catalog, tenant.as_str(), None).await);
        let some = catalog.snapshot_to_keep(tenant, Some((10, 20))).await.unwrap();
        assert_eq!(numbers(&some.segments), ids(&*catalog, tenant.as_str(), Some((10, 20))).await);
    }
}

async fn what_was_settled_stays_so(catalog: Arc<dyn Catalog>) {
    let new = segment("default", "l0/a", (0, 0));
    let added = catalog.commit(&[new], &[]).await.unwrap().unwrap().added;
    let settled = catalog.settle("l0/a").await.unwrap().unwrap();
    assert_eq!(settled[0].id, added[0].id);
    // A builder may be quicker than who asks.
    let built = NewSegment { level: 1, ..segment("default", "seg/1", (0, 0)) };
    catalog.swap(&[added[0].id], &[built], 1, None).await.unwrap().unwrap();
    assert_eq!(catalog.settle("l0/a").await.unwrap().map(|s| s.len()), Some(0));
    let keys = ["l0/a", "seg/1", "l0/never"].map(str::to_owned);
    assert_eq!(catalog.disown(&keys).await.unwrap(), [true, true, false]);
    catalog.prune().await.unwrap();
    assert_eq!(catalog.disown(&keys).await.unwrap(), [true, true, false]);
}

async fn a_lease_has_one_holder(catalog: Arc<dyn Catalog>) {
    let (long, short) = (Duration::from_secs(600), Duration::from_millis(50));
    let first = catalog.lease("build", "a", long).await.unwrap().unwrap();
    assert!(catalog.lease("build", "b", long).await.unwrap().is_none());
    assert!(catalog.lease("merge", "b", long).await.unwrap().is_some(), "another work");
    assert!(catalog.renew(&first, long).await.unwrap());
    catalog.release(&first).await.unwrap();
    let second = catalog.lease("build", "b", short).await.unwrap().unwrap();
    assert!(second.fence > first.fence);
    assert!(!catalog.renew(&first, long).await.unwrap(), "another has it");
    catalog.release(&first).await.unwrap();
    // It ends by itself.
    let third = loop {
        match catalog.lease("build", "c", long).await.unwrap() {
            Some(lease) => break lease,
            None => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    assert!(third.fence > second.fence);
    // At the same moment, one gets it.
    let takers = (0..8).map(|i| {
        let catalog = Arc::clone(&catalog);
        tokio::spawn(async move { catalog.lease("sweep", &i.to_string(), long).await.unwrap() })
    });
    let mut taken = 0;
    for taker in takers.collect::<Vec<_>>() {
        taken += usize::from(taker.await.unwrap().is_some());
    }
    assert_eq!(taken, 1);
}

async fn only_who_holds_the_work_may_swap(catalog: Arc<dyn Catalog>) {
    let new = segment("default", "l0/a", (0, 0));
    let old = catalog.commit(&[new], &[]).await.unwrap().unwrap().added[0].id;
    let late = catalog.lease("build", "a", Duration::ZERO).await.unwrap().unwrap();
    let held = loop {
        match catalog.lease("build", "b", Duration::from_secs(600)).await.unwrap() {
            Some(lease) => break lease,
            None => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    };
    let built = |key| NewSegment { level: 1, ..segment("default", key, (0, 0)) };
    let swap = async |key, lease: &Lease| {
        catalog.swap(&[old], &[built(key)], 1, Some(lease)).await.unwrap()
    };
    assert!(swap("seg/late", &late).await.is_none());
    assert_eq!(ids(&*catalog, "default", None).await, [old], "nothing has happened");
    assert!(swap("seg/held", &held).await.is_some());
}

/// What is garbage stays while a copy is made; what was garbage before may go.
async fn a_hold_keeps_the_garbage(catalog: Arc<dyn Catalog>) {
    let add = async |key: &str| {
        let applied = catalog.commit(&[segment("default", key, (0, 1))], &[]).await.unwrap();
        let id = applied.unwrap().added[0].id;
        catalog.swap(&[id], &[], 5, None).await.unwrap().unwrap();
    };
    add("l0/a").await;
    assert_eq!(catalog.garbage(5, 9).await.unwrap(), ["l0/a"]);
    let hold = catalog.lease(HOLD, "me", Duration::from_secs(60)).await.unwrap().unwrap();
    add("l0/b").await;
    assert_eq!(catalog.garbage(5, 9).await.unwrap(), [""; 0]);
    catalog.release(&hold).await.unwrap();
    let mut found = catalog.garbage(5, 9).await.unwrap();
    found.sort();
    assert_eq!(found, ["l0/a", "l0/b"]);
    // One that was not released ends by itself.
    catalog.lease(HOLD, "me", Duration::from_millis(5)).await.unwrap().unwrap();
    while catalog.garbage(5, 9).await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn nodes_are_there_while_they_say_so(catalog: Arc<dyn Catalog>) {
    let node = |name: &str, roles: &str| Node {
        name: name.to_owned(),
        address: "10.0.0.1:9428".to_owned(),
        roles: roles.to_owned(),
        version: "0.1.0".to_owned(),
        started_ms: 7,
    };
    let long = Duration::from_secs(600);
    assert_eq!(catalog.nodes().await.unwrap(), []);
    catalog.announce(&node("b", "ingest"), long).await.unwrap();
    catalog.announce(&node("a", "query"), long).await.unwrap();
    catalog.announce(&node("b", "ingest,query"), long).await.unwrap();
    let both = [node("a", "query"), node("b", "ingest,query")];
    assert_eq!(catalog.nodes().await.unwrap(), both);
    catalog.announce(&node("a", "query"), Duration::ZERO).await.unwrap();
    while catalog.nodes().await.unwrap().len() == 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(catalog.nodes().await.unwrap(), both[1..]);
    catalog.depart("b").await.unwrap();
    catalog.depart("b").await.unwrap();
    catalog.prune().await.unwrap();
    assert_eq!(catalog.nodes().await.unwrap(), []);
}

macro_rules! contract {
    ($make:expr; $($name:ident),* $(,)?) => {$(
        #[tokio::test]
        async fn $name() {
            let dir = tempfile::tempdir().unwrap();
            super::$name(Arc::new($make(dir.path().to_owned()).await)).await;
        }
    )*};
}

macro_rules! every_catalog {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            use super::*;

            async fn make(dir: std::path::PathBuf) -> SqliteCatalog {
                SqliteCatalog::open(&dir.join("catalog.db")).await.unwrap()
            }

            contract!(make; $($name),*);
        }

        mod postgres {
            use super::*;

            async fn make(_: std::path::PathBuf) -> PostgresCatalog {
                PostgresCatalog::open(&server::fresh().await).await.unwrap()
            }

            contract!(make; $($name),*);
        }
    };
}

every_catalog!(
    a_catalog_has_one_number_for_ever,
    a_commit_is_seen_whole,
    a_producer_is_advanced_only_from_where_it_stands,
    producers_are_apart_by_tenant,
    the_ledger_goes_with_its_producer,
    a_snapshot_has_what_overlaps,
    a_swap_is_all_or_nothing,
    objects_are_known_by_name,
    numbers_are_never_used_again,
    candidates_and_totals_are_by_level,
    column_lists_are_kept_while_used,
    many_segments_are_read_at_once,
    concurrent_writers_are_one_after_another,
    tokens_are_kept_and_their_version_rises,
    a_producer_that_may_be_forgotten_is_unknown_then,
    versions_tell_states_apart,
    kept_lists_are_as_good_as_new,
    what_was_settled_stays_so,
    a_lease_has_one_holder,
    only_who_holds_the_work_may_swap,
    nodes_are_there_while_they_say_so,
    a_hold_keeps_the_garbage,
);

#[tokio::test]
async fn what_is_parsed_after_reopening_is_what_was_added() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.db");
    let catalog = SqliteCatalog::open(&path).await.unwrap();
    let new = segment("default", "l0/a", (-5, 7));
    let added =
        catalog.commit(&[new], &[step("p", None, state(3, 9, "x"))]).await.unwrap().unwrap();
    catalog.close().await;
    let catalog = SqliteCatalog::open(&path).await.unwrap();
    let (version, seen) = catalog.snapshot(&TenantId::default(), None).await.unwrap();
    assert_eq!(version, added.version);
    assert_eq!(format!("{:?}", seen[0]), format!("{:?}", added.added[0]));
    assert_eq!(known(&catalog, "p").await, Some(state(3, 9, "x")));
}

#[tokio::test]
async fn a_newer_catalog_is_refused_clearly() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.db");
    SqliteCatalog::open(&path).await.unwrap().close().await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    sqlx::query("UPDATE meta SET value = 99 WHERE name = 'catalog_version'")
        .execute(&pool)
        .await
        .unwrap();
    pool.close().await;
    let error = SqliteCatalog::open(&path).await.unwrap_err();
    assert!(matches!(error, StoreError::NewerCatalog { found: 99, .. }), "{error}");
    assert!(error.to_string().contains("newer Lodge"), "{error}");
}
