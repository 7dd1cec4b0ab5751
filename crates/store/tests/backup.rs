//! Backups, restores and moves, out of both databases and into both, with files and in a bucket of a
//! real object store; stopped anywhere and done again; damage that is found.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "support/server.rs"]
mod server;
mod support;

use std::collections::BTreeMap;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use lodge_faults::object_store::ObjectStore;
use lodge_record::{Account, TenantId};
use lodge_store::backup::{
    BackupDone, BackupError, BackupOptions, BackupPlace, Installation, Moved, Point, Work, backup,
    migrate, points, restore, survey, verify,
};
use lodge_store::token::{Credential, Scope, Scopes, Token, secret_hash};
use lodge_store::{Bucket, CommitError, Outcome, Store, StoreError, StoreOptions};
use support::{Row, batch, objects, of_tenant, options, producer, put, stored};

/// Objects are swept as soon as nothing names them.
fn eager() -> StoreOptions {
    StoreOptions {
        garbage_grace: Duration::ZERO,
        sweep_every: Duration::from_millis(5),
        build_age: Duration::ZERO,
        ..options()
    }
}

fn other() -> TenantId {
    "other".parse().unwrap()
}

fn token() -> Token {
    Token {
        id: "0011aabb".to_owned(),
        name: "fluentd \"quoted\" é".to_owned(),
        tenant: other(),
        scopes: Scopes::default().with(Scope::Read).with(Scope::Ingest),
        only: Some("{app=\"shop\"}".to_owned()),
        credential: Credential::SharedKey("key\n".to_owned()),
        created_ms: 7,
        expires_ms: Some(i64::MAX),
    }
}

/// Records of two tenants, built and not built, producers with and without an account, tokens.
async fn fill(store: &Store) {
    for seq in 1..=3 {
        put(store, batch(&format!("a{seq}"), Some(("agent", 4, seq)))).await;
    }
    put(store, batch("plain", None)).await;
    let account = Account { agent: "me".to_owned(), read_records: 3, ..Account::default() };
    let mut accounted = of_tenant(other(), "o1", Some(("agent", 1, 1)));
    accounted.account = Some(Box::new(account));
    put(store, accounted).await;
    store.wait_built().await;
    put(store, of_tenant(other(), "o2", Some(("kafka", 1, 1)))).await;
    let secret = Credential::Secret(secret_hash("lodge_x"));
    let second = Token { id: "1".to_owned(), credential: secret, only: None, ..token() };
    assert!(store.add_token(token()).await.unwrap());
    assert!(store.add_token(second).await.unwrap());
}

/// Everything that anyone can see.
#[derive(Debug, PartialEq)]
struct Seen {
    records: BTreeMap<String, Vec<Row>>,
    producers: Vec<String>,
    ledger: Vec<String>,
    tokens: Vec<Token>,
}

async fn seen(store: &Store) -> Seen {
    let (mut records, mut producers, mut ledger) = (BTreeMap::new(), Vec::new(), Vec::new());
    for tenant in [TenantId::default(), other()] {
        records.insert(tenant.to_string(), stored(store, &tenant).await);
        for name in ["agent", "kafka"] {
            producers.push(format!("{:?}", store.source(&tenant, producer(name)).await.unwrap()));
        }
        ledger.push(format!("{:?}", store.ledger(&tenant, None, 10).await.unwrap()));
    }
    let tokens = store.tokens(None).await.unwrap().unwrap().1;
    Seen { records, producers, ledger, tokens }
}

/// What follows goes on as if nothing had been moved.
async fn goes_on(store: &Store) {
    let before = stored(store, &TenantId::default()).await.len();
    let again = store.commit(vec![batch("a3", Some(("agent", 4, 3)))]).await.unwrap().remove(0);
    assert!(matches!(&again, Outcome::Committed(c) if c.is_duplicate()), "{again:?}");
    assert_eq!(stored(store, &TenantId::default()).await.len(), before, "stored twice");
    put(store, batch("a4", Some(("agent", 4, 4)))).await;
    store.wait_built().await;
    assert_eq!(stored(store, &TenantId::default()).await.len(), before + 3);
    let gap = store.commit(vec![batch("a9", Some(("agent", 4, 9)))]).await.unwrap().remove(0);
    assert!(matches!(gap, Outcome::Gap(_)), "{gap:?}");
}

async fn run(from: &Installation, to: &BackupPlace, keep: Option<usize>) -> BackupDone {
    let options = BackupOptions { keep, hold_lasts: Duration::from_millis(300) };
    backup(from, to, options, &Work::default(), pending()).await.unwrap()
}

async fn restored(from: &BackupPlace, point: &Point, dir: &Path, to: &StoreOptions) -> Moved {
    let target = Installation::to_fill(dir, to).await.unwrap();
    let moved = restore(from, point, &target, &Work::default()).await.unwrap();
    target.close().await;
    moved
}

/// A place for each kind of installation and of backup.
struct Places {
    dir: tempfile::TempDir,
    _store: ObjectStore,
    s3: String,
}

impl Places {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().to_owned();
        let store = tokio::task::spawn_blocking(move || ObjectStore::start(&folder).unwrap())
            .await
            .unwrap();
        let s3 = store.addr().to_string();
        Self { dir, _store: store, s3 }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn bucket(&self, folder: &str) -> Bucket {
        let options = [
            ("endpoint", format!("http://{}", self.s3)),
            ("region", "none".to_owned()),
            ("allow_http", "true".to_owned()),
            ("access_key_id", "lodge".to_owned()),
            ("secret_access_key", "not-a-secret".to_owned()),
        ];
        let options = options.map(|(name, value)| (name.to_owned(), value));
        Bucket::new(&format!("s3://logs/{folder}"), options.into()).unwrap()
    }

    async fn cluster(&self, folder: &str) -> StoreOptions {
        StoreOptions {
            bucket: Some(self.bucket(folder)),
            catalog: Some(server::fresh().await.into()),
            ..options()
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_either_is_restored_into_either() {
    let places = Places::new().await;
    let machine = options();
    let cluster = places.cluster("first").await;
    for (name, source, into) in [
        ("m-c", &machine, places.cluster("second").await),
        ("c-m", &cluster, options()),
        ("m-m", &machine, options()),
        ("c-c", &cluster, places.cluster("third").await),
    ] {
        let source_dir = places.path(&name[..1]);
        let store = Store::open(&source_dir, source.clone()).await.unwrap();
        if stored(&store, &other()).await.is_empty() {
            fill(&store).await;
        }
        let expected = seen(&store).await;
        // The server runs; the backup is in a bucket for one half of the cases.
        let place = match name {
            "m-c" | "c-c" => BackupPlace::Bucket(places.bucket(&format!("backup-{name}"))),
            _ => BackupPlace::Folder(places.path(&format!("backup-{name}"))),
        };
        let from = Installation::beside(&source_dir, source).await.unwrap();
        let done = run(&from, &place, None).await;
        from.close().await;
        assert!(verify(&place, &Work::default()).await.unwrap().damage.is_empty());
        // What comes later is not in it.
        put(&store, batch("later", None)).await;
        store.close().await;

        let dir = places.path(name);
        let moved = restored(&place, &done.point, &dir, &into).await;
        assert_eq!(moved.records, done.point.records);
        assert_eq!((moved.rows, moved.objects), (done.point.rows, done.point.objects));
        let store = Store::open(&dir, into.clone()).await.unwrap();
        let now = seen(&store).await;
        let is_first = expected.records["default"].len() == now.records["default"].len();
        assert!(is_first && now == expected, "{name}: {now:#?}\n{expected:#?}");
        goes_on(&store).await;
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_moves_into_a_cluster_and_agents_go_on() {
    let places = Places::new().await;
    let (from_dir, to_dir) = (places.path("machine"), places.path("node"));
    let store = Store::open(&from_dir, options()).await.unwrap();
    fill(&store).await;
    let expected = seen(&store).await;
    let busy = Installation::alone(&from_dir, &options()).await.unwrap_err();
    assert!(matches!(busy, BackupError::Store(StoreError::Locked { .. })), "{busy}");
    store.close().await;

    let cluster = places.cluster("moved").await;
    let from = Installation::alone(&from_dir, &options()).await.unwrap();
    let planned = survey(&from).await.unwrap();
    // Stopped after each object, and begun again.
    for objects in 1..=planned.objects {
        let to = Installation::to_fill(&to_dir, &cluster).await.unwrap();
        let work = Work::default();
        let reached = async {
            while work.objects_done.load(Relaxed) < objects {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            () = reached => {}
            moved = migrate(&from, &to, &work) => drop(moved.unwrap()),
        }
        to.close().await;
        let refused = Store::open(&to_dir, cluster.clone()).await.unwrap_err();
        assert!(matches!(refused, StoreError::HalfFilled), "{refused}");
    }
    let to = Installation::to_fill(&to_dir, &cluster).await.unwrap();
    let work = Work::default();
    assert_eq!(migrate(&from, &to, &work).await.unwrap(), planned);
    assert_eq!(work.objects_sent.load(Relaxed), 0, "they had been sent");
    // Once it is there, nothing is put over it.
    let again = migrate(&from, &to, &Work::default()).await.unwrap_err();
    assert!(matches!(again, BackupError::NotEmpty { .. }), "{again}");
    to.close().await;
    from.close().await;
    let store = Store::open(&to_dir, cluster).await.unwrap();
    assert_eq!(seen(&store).await, expected);
    goes_on(&store).await;
    store.close().await;
    // The old one is as it was.
    let store = Store::open(&from_dir, options()).await.unwrap();
    assert_eq!(seen(&store).await, expected);
}

/// Builders and sweepers are at work all the time, with no grace, while points are made.
async fn points_hold(source: StoreOptions, dir: &Path, place: BackupPlace, into: &Path) {
    let store = Store::open(dir, source.clone()).await.unwrap();
    let background = Store::spawn_background(&store);
    let from = Installation::beside(dir, &source).await.unwrap();
    let mut committed = 0;
    let mut made: Vec<(Point, usize)> = Vec::new();
    for round in 0..6 {
        for n in 0..4 {
            put(&store, batch(&format!("r{round}n{n}"), None)).await;
            committed += 3;
        }
        // More comes while the point is made.
        let writer = async {
            for n in 0..4 {
                put(&store, batch(&format!("w{round}n{n}"), None)).await;
            }
        };
        let (done, ()) = tokio::join!(run(&from, &place, Some(3)), writer);
        assert!(done.point.records as usize >= committed, "{done:?}");
        committed += 12;
        made.push((done.point.clone(), done.point.records as usize));
    }
    from.close().await;
    background.shutdown().await;
    store.close().await;
    let kept = points(&place).await.unwrap();
    assert_eq!(kept, made[3..].iter().map(|(point, _)| point.clone()).collect::<Vec<_>>());
    let found = verify(&place, &Work::default()).await.unwrap();
    assert_eq!(found.damage, Vec::<String>::new());
    for (point, records) in &made[3..] {
        let dir = into.join(&point.id);
        restored(&place, point, &dir, &options()).await;
        let store = Store::open(&dir, options()).await.unwrap();
        assert_eq!(stored(&store, &TenantId::default()).await.len(), *records);
        store.close().await;
    }
}

/// A copy stands still half-way, while what it has yet to copy is built into others and swept.
async fn a_point_keeps_its_objects(source: StoreOptions, dir: &Path, place: BackupPlace) {
    let store = Store::open(dir, source.clone()).await.unwrap();
    for n in 0..12 {
        put(&store, batch(&format!("m{n}"), None)).await;
    }
    let from = Installation::beside(dir, &source).await.unwrap();
    let work = Work::default();
    let mut copying =
        std::pin::pin!(backup(&from, &place, BackupOptions::default(), &work, pending()));
    let reached = async {
        while work.objects_done.load(Relaxed) < 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        () = reached => {}
        done = &mut copying => panic!("it did not stand still: {done:?}"),
    }
    store.wait_built().await;
    let background = Store::spawn_background(&store);
    let swept_by_then = Duration::from_millis(300);
    tokio::time::sleep(swept_by_then).await;
    let done = copying.await.unwrap();
    assert_eq!(done.point.objects, 12);
    assert_eq!(verify(&place, &Work::default()).await.unwrap().damage, Vec::<String>::new());
    background.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_copied_is_not_swept_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let place = BackupPlace::Folder(dir.path().join("backup"));
    let data = dir.path().join("data");
    a_point_keeps_its_objects(eager(), &data, place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_copied_is_not_swept_by_a_cluster_meanwhile() {
    let places = Places::new().await;
    let StoreOptions { bucket, catalog, .. } = places.cluster("held").await;
    let source = StoreOptions { bucket, catalog, ..eager() };
    let place = BackupPlace::Bucket(places.bucket("held-backup"));
    a_point_keeps_its_objects(source, &places.path("node"), place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn points_are_whole_while_files_are_built_and_swept() {
    let dir = tempfile::tempdir().unwrap();
    let place = BackupPlace::Folder(dir.path().join("backup"));
    points_hold(eager(), &dir.path().join("data"), place, &dir.path().join("into")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn points_are_whole_while_a_cluster_builds_and_sweeps() {
    let places = Places::new().await;
    let StoreOptions { bucket, catalog, .. } = places.cluster("busy").await;
    let source = StoreOptions { bucket, catalog, ..eager() };
    let place = BackupPlace::Bucket(places.bucket("busy-backup"));
    points_hold(source, &places.path("node"), place, &places.path("into")).await;
}

#[tokio::test]
async fn what_is_in_a_backup_is_not_copied_again_and_what_no_point_names_goes() {
    let dir = tempfile::tempdir().unwrap();
    let (data, place) = (dir.path().join("data"), dir.path().join("backup"));
    let place = BackupPlace::Folder(place);
    let store = Store::open(&data, options()).await.unwrap();
    put(&store, batch("first", None)).await;
    let from = Installation::beside(&data, &options()).await.unwrap();
    run(&from, &place, Some(2)).await;
    put(&store, batch("second", None)).await;
    let work = Work::default();
    let quick = BackupOptions { keep: Some(2), ..BackupOptions::default() };
    backup(&from, &place, quick, &work, pending()).await.unwrap();
    assert_eq!((work.objects_done.load(Relaxed), work.objects_sent.load(Relaxed)), (2, 1));
    assert_eq!(objects(&dir.path().join("backup")).len(), 2);
    // L0s become a segment; the first two points name them, the newest does not.
    store.wait_built().await;
    let done = run(&from, &place, Some(1)).await;
    assert_eq!((done.points_removed, done.objects_removed), (2, 2));
    assert_eq!(objects(&dir.path().join("backup")).len(), 1);
    assert_eq!(points(&place).await.unwrap(), [done.point]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_was_cut_short_is_taken_up_again() {
    let dir = tempfile::tempdir().unwrap();
    let (data, folder) = (dir.path().join("data"), dir.path().join("backup"));
    let place = BackupPlace::Folder(folder.clone());
    let store = Store::open(&data, options()).await.unwrap();
    for n in 0..12 {
        put(&store, batch(&format!("m{n}"), None)).await;
    }
    let from = Installation::beside(&data, &options()).await.unwrap();
    let options = BackupOptions { keep: None, hold_lasts: Duration::from_millis(300) };
    for cut in 1..12 {
        let work = Work::default();
        let reached = async {
            while work.objects_done.load(Relaxed) < cut {
                tokio::task::yield_now().await;
            }
        };
        // Dropped where it is, as by a kill: its hold ends by itself.
        tokio::select! {
            biased;
            () = reached => {}
            done = backup(&from, &place, options, &work, pending()) => drop(done.unwrap()),
        }
    }
    // One that a kill left half written.
    let half = objects(&folder).remove(0);
    std::fs::write(&half, b"half").unwrap();
    let before = points(&place).await.unwrap().len();
    let work = Work::default();
    let done = backup(&from, &place, options, &work, pending()).await.unwrap();
    assert_eq!(done.point.objects, 12);
    assert!(work.objects_sent.load(Relaxed) < 12, "all were copied again");
    assert_eq!(points(&place).await.unwrap().len(), before + 1);
    let found = verify(&place, &Work::default()).await.unwrap();
    assert_eq!((found.damage.len(), found.objects), (0, 12));
    // Nothing is left of those that were cut short.
    let ids = std::fs::read_dir(folder.join("points")).unwrap().count();
    let files = std::fs::read_dir(folder.join("points")).unwrap();
    let with = files.filter(|f| f.as_ref().unwrap().path().join("point.json").exists()).count();
    assert!(with == before + 1 && ids >= with, "{ids} folders, {with} points");
    // Stopped as by Ctrl-C, it gives its right back.
    let stopped = backup(&from, &place, BackupOptions::default(), &work, async {}).await;
    assert!(matches!(stopped, Err(BackupError::Stopped)), "{stopped:?}");
    run(&from, &place, None).await;
}

#[tokio::test]
async fn damage_in_a_backup_is_an_error_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let (data, folder) = (dir.path().join("data"), dir.path().join("backup"));
    let place = BackupPlace::Folder(folder.clone());
    let store = Store::open(&data, options()).await.unwrap();
    put(&store, batch("first", Some(("agent", 1, 1)))).await;
    let from = Installation::beside(&data, &options()).await.unwrap();
    let point = run(&from, &place, None).await.point;
    let mut files = objects(&folder);
    files.extend(
        point.parts.iter().map(|part| folder.join("points").join(&point.id).join(&part.name)),
    );
    files.push(folder.join("points").join(&point.id).join("point.json"));
    assert_eq!(files.len(), 4);
    for (n, file) in files.iter().enumerate() {
        let whole = std::fs::read(file).unwrap();
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        for (kind, bytes) in
            [("flip", Some(flipped)), ("cut", Some(whole[1..].to_vec())), ("gone", None)]
        {
            if kind == "gone" && file.ends_with("point.json") {
                continue;
            }
            match bytes {
                Some(bytes) => std::fs::write(file, bytes).unwrap(),
                None => std::fs::remove_file(file).unwrap(),
            }
            let name = file.file_name().unwrap().to_str().unwrap();
            let found = match verify(&place, &Work::default()).await {
                Ok(found) => found.damage.join("\n"),
                Err(error @ BackupError::Damaged { .. }) => error.to_string(),
                Err(error) => panic!("{error}"),
            };
            assert!(found.contains(name), "{kind} {name}: {found}");
            let into = dir.path().join(format!("into-{n}-{kind}"));
            let target = Installation::to_fill(&into, &options()).await.unwrap();
            let restored = match points(&place).await {
                Ok(all) => restore(&place, &all[0], &target, &Work::default()).await.unwrap_err(),
                Err(error) => error,
            };
            assert!(restored.to_string().contains(name), "{kind} {name}: {restored}");
            assert!(matches!(restored, BackupError::Damaged { .. }));
            std::fs::write(file, &whole).unwrap();
            // Mended, the same command ends well.
            restore(&place, &point, &target, &Work::default()).await.unwrap();
            target.close().await;
        }
    }
}

#[tokio::test]
async fn nothing_is_put_over_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let (data, folder) = (dir.path().join("data"), dir.path().join("backup"));
    let place = BackupPlace::Folder(folder.clone());
    let store = Store::open(&data, options()).await.unwrap();
    put(&store, batch("first", None)).await;
    let from = Installation::beside(&data, &options()).await.unwrap();
    let point = run(&from, &place, None).await.point;
    // Another catalog's backups, and a folder that holds something else.
    let second = dir.path().join("second");
    let other_store = Store::open(&second, options()).await.unwrap();
    put(&other_store, batch("second", None)).await;
    other_store.close().await;
    let other = Installation::alone(&second, &options()).await.unwrap();
    let quick = BackupOptions::default();
    let refused = backup(&other, &place, quick, &Work::default(), pending()).await.unwrap_err();
    assert!(refused.to_string().contains("this is catalog"), "{refused}");
    let full = BackupPlace::Folder(dir.path().to_owned());
    let refused = backup(&other, &full, quick, &Work::default(), pending()).await.unwrap_err();
    assert!(refused.to_string().contains("holds other things"), "{refused}");
    // A catalog with records.
    let refused = restore(&place, &point, &other, &Work::default()).await.unwrap_err();
    assert!(matches!(refused, BackupError::NotEmpty { .. }), "{refused}");
    other.close().await;
    // Objects whose catalog is lost.
    for file in ["catalog.db", "catalog.db-wal", "catalog.db-shm"] {
        std::fs::remove_file(second.join(file)).ok();
    }
    let lost = Installation::to_fill(&second, &options()).await.unwrap();
    let refused = restore(&place, &point, &lost, &Work::default()).await.unwrap_err();
    assert!(matches!(refused, BackupError::NotEmpty { .. }), "{refused}");
    lost.close().await;
    assert_eq!(objects(&second).len(), 1);
    let refused = points(&BackupPlace::Folder(data.clone())).await.unwrap_err();
    assert!(refused.to_string().contains("is missing"), "{refused}");
    let none = Installation::beside(&dir.path().join("nowhere"), &options()).await.unwrap_err();
    assert!(matches!(none, BackupError::NoInstallation { .. }), "{none}");
    assert_eq!(stored(&store, &TenantId::default()).await.len(), 3);
    assert!(!matches!(store.commit(vec![batch("on", None)]).await, Err(CommitError::Unknown(_))));
}
