//! What is special about a catalog that several processes share: broken connections, restarts of the
//! server, lost answers, writers that get in each other's way.
#![allow(clippy::unwrap_used)]

#[path = "support/proxy.rs"]
mod proxy;
#[path = "support/server.rs"]
mod server;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use arrow::datatypes::{DataType, Schema, SchemaRef};
use lodge_record::{ProducerId, TenantId, schema};
use lodge_store::catalog::{Applied, Catalog, NewSegment, PostgresCatalog, ProducerAdvance};
use lodge_store::{Outcome, ProducerState, Store, StoreError, StoreOptions};
use proxy::{Harm, Proxy};
use support::{batch, marks, options, stored};

fn columns() -> SchemaRef {
    let mut fields = schema::leading_fields().to_vec();
    fields[1] = fields[1].clone().with_data_type(DataType::Utf8);
    Arc::new(Schema::new(fields))
}

fn segment(key: &str) -> NewSegment {
    NewSegment {
        tenant: TenantId::default(),
        level: 0,
        object_key: key.into(),
        object_offset: 0,
        bytes: 100,
        rows: 10,
        arrow_bytes: 400,
        time_min_ns: 0,
        time_max_ns: 1,
        schema: columns(),
        streams: None,
        created_ms: 1,
    }
}

fn step(producer: &str, from: u64) -> ProducerAdvance {
    ProducerAdvance {
        tenant: TenantId::default(),
        producer: ProducerId::derive(&[producer.as_bytes()]),
        from: (from > 0).then_some((1, from)),
        to: ProducerState { epoch: 1, seq: from + 1, position: None },
        entry: None,
        forget_ms: None,
    }
}

async fn seq_of(catalog: &dyn Catalog, producer: &str) -> u64 {
    let wanted = [(TenantId::default(), ProducerId::derive(&[producer.as_bytes()]))];
    let found = catalog.producers(&wanted).await.unwrap().remove(0);
    found.map_or(0, |producer| producer.state.seq)
}

/// How many segments each object has.
async fn objects(catalog: &dyn Catalog) -> BTreeMap<String, usize> {
    let (_, segments) = catalog.snapshot(&TenantId::default(), None).await.unwrap();
    let mut found = BTreeMap::new();
    for segment in segments {
        *found.entry(segment.object_key().to_string()).or_default() += 1;
    }
    found
}

fn port_of(url: &str) -> u16 {
    url.split("127.0.0.1:").nth(1).unwrap().split('/').next().unwrap().parse().unwrap()
}

fn schema_of(url: &str) -> &str {
    url.rsplit('=').next().unwrap()
}

/// A catalog, another by a proxy that does harm, and the proxy.
async fn harmed(harm: Harm) -> (PostgresCatalog, PostgresCatalog, Proxy) {
    let url = server::fresh().await;
    let direct = PostgresCatalog::open(&url).await.unwrap();
    let proxy = Proxy::start(port_of(&url), harm).await;
    let through = PostgresCatalog::open(&server::url(proxy.port, schema_of(&url))).await.unwrap();
    // Column lists are added before the transaction; a first one has nothing to do with it.
    through.commit(&[segment("l0/first")], &[step("p", 0)]).await.unwrap().unwrap();
    (direct, through, proxy)
}

async fn is_committed_once(harm: Harm) {
    let (direct, through, proxy) = harmed(harm).await;
    proxy.arm(1);
    let applied: Applied =
        through.commit(&[segment("l0/a")], &[step("p", 1)]).await.unwrap().unwrap();
    assert!(proxy.is_done());
    assert_eq!(applied.added.len(), 1);
    assert_eq!(objects(&direct).await, [("l0/a".into(), 1), ("l0/first".into(), 1)].into());
    assert_eq!(seq_of(&direct, "p").await, 2);
    let (version, seen) = direct.snapshot(&TenantId::default(), None).await.unwrap();
    assert!(version >= applied.version);
    assert_eq!(seen[1].id, applied.added[0].id, "what is told is what is there");
    // Without segments, too.
    proxy.arm(1);
    through.commit(&[], &[step("p", 2)]).await.unwrap().unwrap();
    assert!(proxy.is_done());
    assert_eq!(seq_of(&direct, "p").await, 3);
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_known_to_have_happened() {
    is_committed_once(Harm::LoseAnswer).await;
}

#[tokio::test]
async fn a_commit_that_did_not_arrive_is_done_again() {
    is_committed_once(Harm::LoseCommit).await;
}

#[tokio::test]
async fn a_commit_that_arrives_late_is_waited_for() {
    is_committed_once(Harm::Delay(Duration::from_millis(300))).await;
}

/// The connection is there and says nothing: that is noticed here, not by the network.
#[tokio::test]
async fn a_connection_that_says_nothing_does_not_hold_a_commit_up() {
    let (direct, through, proxy) = harmed(Harm::Silence).await;
    proxy.arm(1);
    through.commit(&[segment("l0/a")], &[step("p", 1)]).await.unwrap().unwrap();
    assert!(proxy.is_done());
    assert_eq!(seq_of(&direct, "p").await, 2);
}

#[tokio::test]
async fn many_lost_commits_are_many_repetitions() {
    let (direct, through, proxy) = harmed(Harm::LoseCommit).await;
    proxy.arm(4);
    through.commit(&[segment("l0/a")], &[step("p", 1)]).await.unwrap().unwrap();
    assert!(proxy.is_done());
    assert_eq!(objects(&direct).await["l0/a"], 1);
}

/// An object is deleted only if no transaction names it or ever will.
#[tokio::test]
async fn an_object_is_disowned_only_when_its_transaction_cannot_come_any_more() {
    let (direct, through, proxy) = harmed(Harm::Delay(Duration::from_millis(400))).await;
    proxy.arm(1);
    let committing =
        tokio::spawn(async move { through.commit(&[segment("l0/a")], &[step("p", 1)]).await });
    while !proxy.is_done() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // The transaction is under way: whoever asks waits for its end.
    assert_eq!(direct.disown(&["l0/a".to_owned()]).await.unwrap(), [true]);
    committing.await.unwrap().unwrap().unwrap();
    // One that has not begun fails.
    assert_eq!(direct.disown(&["l0/b".to_owned()]).await.unwrap(), [false]);
    let late = direct.commit(&[segment("l0/b")], &[step("p", 2)]).await.unwrap_err();
    assert!(matches!(late, StoreError::Disowned { .. }), "{late}");
    assert!(!objects(&direct).await.contains_key("l0/b"));
    assert_eq!(seq_of(&direct, "p").await, 2);
}

/// What writers were told, by the keys of their objects.
#[derive(Debug, Default)]
struct Told {
    committed: BTreeSet<String>,
    not: BTreeSet<String>,
    unknown: BTreeSet<String>,
}

async fn write_until(
    catalog: Arc<PostgresCatalog>,
    writer: String,
    stop: Arc<AtomicBool>,
    commits: Arc<AtomicU32>,
) -> Told {
    let mut told = Told::default();
    let mut attempt = 0;
    let mut seq = 0;
    while !stop.load(Ordering::Relaxed) {
        attempt += 1;
        let key = format!("l0/{writer}-{attempt}");
        match catalog.commit(&[segment(&key)], &[step(&writer, seq)]).await {
            Ok(Some(_)) => {
                seq += 1;
                commits.fetch_add(1, Ordering::Relaxed);
                told.committed.insert(key);
            }
            Ok(None) => panic!("nobody else advances {writer}"),
            Err(StoreError::Unsettled { .. }) => {
                told.unknown.insert(key);
                seq = seq_of(&*catalog, &writer).await;
            }
            Err(_) => drop(told.not.insert(key)),
        }
    }
    assert_eq!(seq_of(&*catalog, &writer).await, seq);
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_told_is_true_when_the_server_restarts_crash() {
    let mut server = server::start().await;
    let url = server::fresh_on(server.port()).await;
    let catalog = Arc::new(PostgresCatalog::open(&url).await.unwrap());
    let stop = Arc::new(AtomicBool::new(false));
    let commits = Arc::new(AtomicU32::new(0));
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (stop, commits) = (Arc::clone(&stop), Arc::clone(&commits));
            tokio::spawn(write_until(Arc::clone(&catalog), format!("w{writer}"), stop, commits))
        })
        .collect();
    for _ in 0..4 {
        let before = commits.load(Ordering::Relaxed);
        while commits.load(Ordering::Relaxed) < before + 100 {
            assert!(!writers.iter().any(|writer| writer.is_finished()), "a writer gave up");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        server = tokio::task::spawn_blocking(move || {
            server.crash().unwrap();
            server
        })
        .await
        .unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    let mut told = Told::default();
    for writer in writers {
        let mut one = writer.await.unwrap();
        told.committed.append(&mut one.committed);
        told.not.append(&mut one.not);
        told.unknown.append(&mut one.unknown);
    }
    let there = objects(&*catalog).await;
    assert!(there.values().all(|segments| *segments == 1), "each once");
    for key in &told.committed {
        assert!(there.contains_key(key), "{key} was told as committed");
    }
    for key in &told.not {
        assert!(!there.contains_key(key), "{key} was told as not committed");
    }
    let known = |key: &&String| told.committed.contains(*key) || told.unknown.contains(*key);
    assert!(there.keys().all(|key| known(&key)), "nothing is there that nobody has written");
    assert!(told.committed.len() >= 400);
    catalog.close().await;
}

/// Sixteen writers that each advance some of the same producers, in any order, new ones too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_of_the_same_producers_never_wait_in_a_circle() {
    // After so many rounds other producers are advanced, which are new to all.
    const ROUNDS: usize = 4;
    const GENERATIONS: usize = 20;
    const PRODUCERS: usize = 12;
    let server = server::start().await;
    let url = server::fresh_on(server.port()).await;
    let catalogs = [
        Arc::new(PostgresCatalog::open(&url).await.unwrap()),
        Arc::new(PostgresCatalog::open(&url).await.unwrap()),
    ];
    let mut writers = Vec::new();
    for writer in 0..16u64 {
        let catalog = Arc::clone(&catalogs[usize::from(writer % 2 == 0)]);
        writers.push(tokio::spawn(async move {
            let mut random = 0x9e37_79b9 + writer * 7_919;
            let mut done = [[0u64; PRODUCERS]; GENERATIONS];
            for round in 0..ROUNDS * GENERATIONS {
                let generation = round / ROUNDS;
                let mut picked: Vec<usize> = Vec::new();
                for _ in 0..6 {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    picked.push((random >> 33) as usize % PRODUCERS);
                }
                picked.sort_unstable();
                picked.dedup();
                // The order that a caller gives must not matter.
                let turn = (random >> 20) as usize % picked.len();
                picked.rotate_left(turn);
                let mut steps = Vec::new();
                for p in &picked {
                    let name = format!("p{generation}-{p}");
                    steps.push(step(&name, seq_of(&*catalog, &name).await));
                }
                let key = format!("l0/{writer}-{round}");
                if catalog.commit(&[segment(&key)], &steps).await.unwrap().is_some() {
                    picked.iter().for_each(|p| done[generation][*p] += 1);
                }
            }
            done
        }));
    }
    let mut sums = [[0u64; PRODUCERS]; GENERATIONS];
    for writer in writers {
        let done = writer.await.unwrap();
        let sums = sums.as_flattened_mut().iter_mut();
        sums.zip(done.as_flattened()).for_each(|(sum, n)| *sum += n);
    }
    for (generation, sums) in sums.iter().enumerate() {
        assert!(sums.iter().sum::<u64>() > 0);
        for (p, sum) in sums.iter().enumerate() {
            let at = seq_of(&*catalogs[0], &format!("p{generation}-{p}")).await;
            assert_eq!(at, *sum, "each step by one");
        }
    }
    let log = std::fs::read_to_string(server.dir().join("log")).unwrap();
    assert!(!log.contains("deadlock detected"), "{log}");
}

async fn open_shared(dir: &Path, objects: &Path, url: &str) -> Arc<Store> {
    std::fs::create_dir_all(dir).unwrap();
    std::fs::create_dir_all(objects).unwrap();
    std::os::unix::fs::symlink(objects, dir.join("objects")).unwrap();
    let options = StoreOptions {
        catalog: Some(url.to_owned().into()),
        build_age: Duration::from_millis(100),
        ..options()
    };
    Store::open(dir, options).await.unwrap()
}

/// Two servers, an agent that sends each batch to both, builders at work in both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_stores_store_each_batch_once() {
    let url = server::fresh().await;
    let dir = tempfile::tempdir().unwrap();
    let objects = dir.path().join("shared");
    let a = open_shared(&dir.path().join("a"), &objects, &url).await;
    let b = open_shared(&dir.path().join("b"), &objects, &url).await;
    let background = [a.spawn_background(), b.spawn_background()];
    let mut expected = Vec::new();
    for seq in 1..=40 {
        let mark = format!("m{seq:03}");
        let (told_a, told_b) = tokio::join!(
            a.commit(vec![batch(&mark, Some(("p", 1, seq)))]),
            b.commit(vec![batch(&mark, Some(("p", 1, seq)))]),
        );
        let new = [told_a, told_b].map(|told| match told.unwrap().remove(0) {
            Outcome::Committed(committed) => usize::from(!committed.is_duplicate()),
            refused => panic!("{refused:?}"),
        });
        assert_eq!(new.iter().sum::<usize>(), 1, "of batch {seq}");
        expected.push(mark);
        // What one has acknowledged the other finds at once.
        let reader = if seq % 2 == 0 { &a } else { &b };
        assert_eq!(marks(reader).await, expected);
    }
    a.wait_built().await;
    b.wait_built().await;
    for store in [&a, &b] {
        assert_eq!(stored(store, &TenantId::default()).await.len(), 120, "rows in, rows out");
        assert_eq!(marks(store).await, expected);
        let snapshot = store.snapshot(&TenantId::default(), None).await.unwrap();
        assert!(snapshot.segments.iter().all(|segment| segment.level > 0), "all is built");
    }
    for background in background {
        background.shutdown().await;
    }
    for store in [a, b] {
        store.close().await;
    }
}

/// A store goes on by itself when its server was away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_rides_out_a_restart_of_the_server_crash() {
    let mut server = server::start().await;
    let url = server::fresh_on(server.port()).await;
    let dir = tempfile::tempdir().unwrap();
    let store = open_shared(&dir.path().join("a"), &dir.path().join("shared"), &url).await;
    support::put(&store, batch("before", Some(("p", 1, 1)))).await;
    assert_eq!(marks(&store).await, ["before"]);
    let restarting = tokio::task::spawn_blocking(move || {
        server.stop().unwrap();
        std::thread::sleep(Duration::from_millis(500));
        server.go_on().unwrap();
        server
    });
    // Each of these waits for the server instead of failing.
    for seq in 2..=20 {
        support::put(&store, batch(&format!("m{seq:03}"), Some(("p", 1, seq)))).await;
        assert_eq!(marks(&store).await.len() as u64, seq);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(restarting.await.unwrap());
    let refused = store.commit(vec![batch("late", Some(("p", 1, 21)))]).await.unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("postgres://lodge@127.0.0.1") && text.contains("running"), "{text}");
}

#[tokio::test]
async fn lists_in_memory_hear_of_what_was_begun_early_and_committed_late() {
    use sqlx::Connection as _;
    let url = server::fresh().await;
    let catalog = PostgresCatalog::open(&url).await.unwrap();
    let tenant = TenantId::default();
    catalog.commit(&[segment("l0/a")], &[]).await.unwrap().unwrap();
    let mut early = sqlx::PgConnection::connect(&url).await.unwrap();
    let insert = "BEGIN; INSERT INTO segments (tenant, level, object_key, object_offset, bytes, \
        row_count, arrow_bytes, time_min_ns, time_max_ns, schema_id, created_ms) \
        SELECT tenant, level, 'l0/early', 0, bytes, row_count, arrow_bytes, time_min_ns, \
        time_max_ns, schema_id, created_ms FROM segments LIMIT 1";
    sqlx::raw_sql(insert).execute(&mut early).await.unwrap();
    let count = async || {
        let snapshot = catalog.snapshot_to_keep(&tenant, None).await.unwrap();
        (snapshot.version, snapshot.segments.len())
    };
    let first = count().await;
    assert_eq!(first.1, 1);
    for i in 0..5 {
        catalog.commit(&[segment(&format!("l0/{i}"))], &[]).await.unwrap().unwrap();
    }
    let second = count().await;
    assert_eq!(second.1, 6);
    sqlx::raw_sql("COMMIT").execute(&mut early).await.unwrap();
    let third = count().await;
    assert_eq!(third.1, 7, "it has a lower number than what was seen before");
    assert!(first.0 < second.0 && second.0 < third.0);
    early.close().await.unwrap();
}

#[tokio::test]
async fn a_list_that_is_older_than_the_removals_is_read_anew() {
    let url = server::fresh().await;
    let (a, b) =
        (PostgresCatalog::open(&url).await.unwrap(), PostgresCatalog::open(&url).await.unwrap());
    let tenant = TenantId::default();
    let added = a.commit(&[segment("l0/a")], &[]).await.unwrap().unwrap().added;
    assert_eq!(a.snapshot_to_keep(&tenant, None).await.unwrap().segments.len(), 1);
    b.swap(&[added[0].id], &[], 1, None).await.unwrap().unwrap();
    server::sql(&url, "UPDATE removals SET removed_ms = 0").await;
    b.prune().await.unwrap();
    assert!(a.snapshot_to_keep(&tenant, None).await.unwrap().segments.is_empty());
}

/// Two tenants share an object; both are built at the same moment.
#[tokio::test]
async fn an_object_that_two_leave_at_once_is_garbage() {
    let url = server::fresh().await;
    let (a, b) =
        (PostgresCatalog::open(&url).await.unwrap(), PostgresCatalog::open(&url).await.unwrap());
    for round in 0..20 {
        let key = format!("l0/{round}");
        let other = NewSegment { tenant: "other".parse().unwrap(), ..segment(&key) };
        let added = a.commit(&[segment(&key), other], &[]).await.unwrap().unwrap().added;
        let (mine, theirs) = ([added[0].id], [added[1].id]);
        let (one, two) = tokio::join!(a.swap(&mine, &[], 1, None), b.swap(&theirs, &[], 1, None));
        assert!(one.unwrap().is_some() && two.unwrap().is_some());
        assert_eq!(a.garbage(1, 100).await.unwrap().len(), round + 1);
    }
}

#[tokio::test]
async fn a_column_list_that_another_process_removed_is_added_again() {
    let url = server::fresh().await;
    let (a, b) =
        (PostgresCatalog::open(&url).await.unwrap(), PostgresCatalog::open(&url).await.unwrap());
    let added = a.commit(&[segment("l0/a")], &[]).await.unwrap().unwrap().added;
    b.swap(&[added[0].id], &[], 1, None).await.unwrap().unwrap();
    b.drop_unused_schemas().await.unwrap();
    // `a` believes that it is there.
    a.commit(&[segment("l0/b")], &[]).await.unwrap().unwrap();
    let (_, seen) = b.snapshot(&TenantId::default(), None).await.unwrap();
    assert_eq!(seen[0].schema, columns());
}

#[tokio::test]
async fn tables_are_made_once_by_all_who_start_at_once() {
    let url = server::fresh().await;
    let opening = (0..8).map(|_| {
        let url = url.clone();
        tokio::spawn(async move { PostgresCatalog::open(&url).await.unwrap() })
    });
    for (i, opened) in opening.collect::<Vec<_>>().into_iter().enumerate() {
        let catalog = opened.await.unwrap();
        catalog.commit(&[segment(&format!("l0/{i}"))], &[]).await.unwrap().unwrap();
        assert_eq!(objects(&catalog).await.len(), i + 1);
    }
}

/// What the first version made is brought up to this one, while programs that know it go on.
#[tokio::test]
async fn a_catalog_of_the_first_version_is_brought_up_to_this_one() {
    let url = server::fresh().await;
    let older = PostgresCatalog::open(&url).await.unwrap();
    older.commit(&[segment("l0/a")], &[]).await.unwrap().unwrap();
    let back = "DROP TABLE nodes; DROP INDEX segments_by_tenant_added; \
                UPDATE meta SET value = 1 WHERE name = 'catalog_version'";
    server::sql(&url, back).await;
    let newer = PostgresCatalog::open(&url).await.unwrap();
    assert_eq!(newer.nodes().await.unwrap(), []);
    older.commit(&[segment("l0/b")], &[]).await.unwrap().unwrap();
    assert_eq!(objects(&newer).await.len(), 2);
}

#[tokio::test]
async fn a_newer_catalog_is_used_as_long_as_it_allows_it() {
    let url = server::fresh().await;
    PostgresCatalog::open(&url).await.unwrap().close().await;
    // A newer program has added something that this one need not know.
    server::sql(&url, "UPDATE meta SET value = 99 WHERE name = 'catalog_version'").await;
    let catalog = PostgresCatalog::open(&url).await.unwrap();
    catalog.commit(&[segment("l0/a")], &[]).await.unwrap().unwrap();
    server::sql(&url, "UPDATE meta SET value = 98 WHERE name = 'needs_version'").await;
    let error = PostgresCatalog::open(&url).await.unwrap_err();
    assert!(matches!(error, StoreError::NewerCatalog { found: 99, .. }), "{error}");
    assert!(error.to_string().contains("newer Lodge"), "{error}");
}

#[tokio::test]
async fn a_socket_is_as_good_as_a_port() {
    let url = server::fresh().await;
    let dir = server::shared().await.dir().display().to_string();
    let url = format!("{url}&host={dir}");
    let catalog = PostgresCatalog::open(&url).await.unwrap();
    catalog.commit(&[segment("l0/a")], &[step("p", 0)]).await.unwrap().unwrap();
    assert_eq!(seq_of(&catalog, "p").await, 1);
}

#[tokio::test]
async fn errors_say_what_where_and_how_to_mend_it_and_no_password() {
    let port = port_of(&server::fresh().await);
    let text = async |url: String| {
        let error = PostgresCatalog::open(&url).await.unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(!text.contains("hunter2"), "{text}");
        text
    };
    let none = text(format!("postgres://lodge:hunter2@127.0.0.1:{port}/nowhere")).await;
    assert!(
        none.contains("createdb") && none.contains(&format!("lodge@127.0.0.1:{port}")),
        "{none}"
    );
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let none = text(format!("postgres://lodge:hunter2@127.0.0.1:{closed}/x")).await;
    assert!(none.contains("cannot connect") && none.contains("is PostgreSQL running"), "{none}");
    let schema = "options[search_path]=not_there";
    let none = text(format!("postgres://lodge:hunter2@127.0.0.1:{port}/postgres?{schema}")).await;
    assert!(none.contains("schema"), "{none}");
    let options = StoreOptions {
        catalog: Some("mysql://lodge:hunter2@host/x".to_owned().into()),
        ..options()
    };
    assert!(!format!("{options:?}").contains("hunter2"));
    let dir = tempfile::tempdir().unwrap();
    let error = Store::open(dir.path(), options).await.unwrap_err().to_string();
    assert!(
        error.contains("postgres://user:password@host") && !error.contains("hunter2"),
        "{error}"
    );
}
