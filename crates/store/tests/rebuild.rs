//! Building and merging: the same records, in fewer and larger segments.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use lodge_record::builder::BatchBuilder;
use lodge_record::{Batch, TenantId};
use lodge_store::{Store, StoreError, StoreOptions};
use proptest::prelude::*;
use support::{batch, marks, objects, of_tenant, open, options, put, rows_of, stored};

#[tokio::test]
async fn built_segments_hold_the_same_records() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    for i in 0..30 {
        put(&store, batch(&format!("m{i:02}"), None)).await;
    }
    let before = stored(&store, &TenantId::default()).await;
    store.wait_built().await;
    assert_eq!(stored(&store, &TenantId::default()).await, before);
    let stats = store.stats();
    assert_eq!((stats.l0_segments, stats.built_segments, stats.rows), (0, 1, 90));
    assert_eq!(stats.hot_bytes, 0);
    let snapshot = store.snapshot(&TenantId::default(), None).await.unwrap();
    assert_eq!(snapshot.segments[0].level, 1);
    assert_eq!(snapshot.segments[0].streams.as_deref().unwrap(), ["{service=\"cart\"}"]);
}

#[tokio::test]
async fn small_segments_are_merged() {
    let dir = tempfile::tempdir().unwrap();
    let store =
        Store::open(dir.path(), StoreOptions { merge_fan_in: 4, ..options() }).await.unwrap();
    for i in 0..16 {
        put(&store, batch(&format!("m{i:02}"), None)).await;
        store.wait_built().await;
    }
    assert_eq!(marks(&store).await.len(), 16);
    let snapshot = store.snapshot(&TenantId::default(), None).await.unwrap();
    assert!(snapshot.segments.len() <= 4, "{} segments", snapshot.segments.len());
    assert!(snapshot.segments.iter().any(|s| s.level >= 2));
    assert!(store.stats().merges >= 3);
}

#[tokio::test]
async fn an_object_that_tenants_share_stays_until_all_are_built() {
    let dir = tempfile::tempdir().unwrap();
    let hasty = StoreOptions { garbage_grace: Duration::ZERO, ..options() };
    let store = Store::open(dir.path(), hasty).await.unwrap();
    let other: TenantId = "other".parse().unwrap();
    let group = vec![batch("mine", None), of_tenant(other.clone(), "theirs", None)];
    store.commit(group).await.unwrap();
    let shared = objects(dir.path());
    assert_eq!(shared.len(), 1);
    store.wait_built().await;
    let background = store.spawn_background();
    while store.stats().garbage_deleted == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    background.shutdown().await;
    assert_eq!(objects(dir.path()).len(), 2, "a segment for each tenant");
    assert!(!shared[0].exists());
    assert_eq!(marks(&store).await, ["mine"]);
    assert_eq!(stored(&store, &other).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_of_a_thousand_l0s_is_read_and_built() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    for i in 0..1_000 {
        put(&store, batch(&format!("m{i:04}"), None)).await;
    }
    store.close().await;
    drop(store);
    let store = open(dir.path()).await;
    assert_eq!(store.stats().l0_segments, 1_000);
    let background = store.spawn_background();
    // Queries see all of it at any moment, whatever is being swapped.
    for _ in 0..3 {
        assert_eq!(marks(&store).await.len(), 1_000);
    }
    store.wait_built().await;
    background.shutdown().await;
    assert_eq!(store.stats().l0_segments, 0);
    assert!(store.stats().builds <= 3, "in big steps, not {}", store.stats().builds);
    assert_eq!(marks(&store).await.len(), 1_000);
}

#[tokio::test]
async fn damage_is_an_error_that_names_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    put(&store, batch("a", None)).await;
    store.wait_built().await;
    let path = objects(dir.path()).into_iter().find(|p| p.extension().unwrap() == "seg").unwrap();
    let right = std::fs::read(&path).unwrap();
    store.close().await;
    drop(store);
    for place in (0..right.len()).step_by(3) {
        let mut damaged = right.clone();
        damaged[place] ^= 0x10;
        std::fs::write(&path, damaged).unwrap();
        let store = open(dir.path()).await;
        let snapshot = store.snapshot(&TenantId::default(), None).await.unwrap();
        let segment = &snapshot.segments[0];
        let names: Vec<&str> = segment.schema.fields().iter().map(|f| f.name().as_str()).collect();
        let read = async { store.open_segment(segment).await?.read(0, &names, None).await };
        match read.await {
            Err(error) => {
                assert!(error.is_damage(), "byte {place}: {error}");
                assert!(matches!(error, StoreError::Damaged { .. }));
                assert!(error.to_string().contains("seg/default/"), "{error}");
            }
            Ok(batch) => panic!("byte {place} went unnoticed: {:?}", rows_of(&batch)),
        }
        store.close().await;
    }
}

#[tokio::test]
async fn a_damaged_l0_does_not_keep_others_from_being_built() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    for i in 0..5 {
        put(&store, batch(&format!("m{i}"), None)).await;
    }
    let path = objects(dir.path()).remove(2);
    store.close().await;
    drop(store);
    let mut damaged = std::fs::read(&path).unwrap();
    damaged[20] ^= 1;
    std::fs::write(&path, damaged).unwrap();

    let store = open(dir.path()).await;
    store.wait_built().await;
    store.wait_built().await;
    assert_eq!((store.stats().l0_segments, store.stats().built_segments), (1, 1));
    assert_eq!(store.stats().rows, 15);
    let snapshot = store.snapshot(&TenantId::default(), None).await.unwrap();
    let open = store.open_segment(&snapshot.segments[0]).await.unwrap();
    let error = open.read(0, &["_time"], None).await.unwrap_err();
    assert!(error.is_damage(), "queries are told: {error}");
}

#[tokio::test]
async fn a_missing_object_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    put(&store, batch("a", None)).await;
    store.wait_built().await;
    let snapshot = store.snapshot(&TenantId::default(), None).await.unwrap();
    objects(dir.path()).iter().for_each(|p| std::fs::remove_file(p).unwrap());
    let error = store.open_segment(&snapshot.segments[0]).await.unwrap_err();
    assert!(error.is_damage(), "{error}");
}

#[tokio::test]
async fn only_the_columns_asked_for_are_given() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    put(&store, batch("a", None)).await;
    for built in [false, true] {
        if built {
            store.wait_built().await;
        }
        let snapshot = store.snapshot(&TenantId::default(), None).await.unwrap();
        let open = store.open_segment(&snapshot.segments[0]).await.unwrap();
        let block = open.read(0, &["n", "nowhere", "_time"], None).await.unwrap();
        let names: Vec<String> = block.schema().fields().iter().map(|f| f.name().clone()).collect();
        assert_eq!(names, ["_time", "n"]);
        let none = open.read(0, &[], None).await.unwrap();
        assert_eq!((none.num_rows(), none.num_columns()), (3, 0));
        assert!(matches!(
            open.read(1, &["n"], None).await.unwrap_err(),
            StoreError::NoSuchBlock { block: 1, .. }
        ));
        let types = snapshot.schema();
        let plain = |f: &arrow::datatypes::FieldRef| {
            !matches!(f.data_type(), arrow::datatypes::DataType::Dictionary(..))
        };
        assert!(types.fields().iter().all(plain));
    }
}

#[tokio::test]
async fn a_time_range_opens_only_what_overlaps() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    for seconds in [0i64, 4_102_444_800, -86_400] {
        let mut builder = BatchBuilder::new();
        builder.message("far");
        let stream = builder.stream("{}");
        builder.finish_row(seconds * 1_000_000_000, stream);
        let records = builder.finish().unwrap();
        put(&store, Batch::new(TenantId::default(), None, None, records).unwrap()).await;
    }
    let tenant = TenantId::default();
    assert_eq!(store.snapshot(&tenant, Some((0, 0))).await.unwrap().rows(), 1);
    assert_eq!(store.snapshot(&tenant, Some((i64::MIN, -1))).await.unwrap().rows(), 1);
    assert_eq!(store.snapshot(&tenant, Some((0, i64::MAX))).await.unwrap().rows(), 2);
    store.wait_built().await;
    assert_eq!(stored(&store, &tenant).await.len(), 3);
}

/// What a sender may send: fields whose type changes from record to record, and many of them.
#[derive(Debug, Clone)]
enum Value {
    Text(String),
    Int(i64),
    Float(f64),
    Bool(bool),
}

fn any_record() -> impl Strategy<Value = Vec<(u16, Value)>> {
    let value = prop_oneof![
        "[a-z ]{0,8}".prop_map(Value::Text),
        any::<i64>().prop_map(Value::Int),
        (-1e6..1e6f64).prop_map(Value::Float),
        any::<bool>().prop_map(Value::Bool),
    ];
    proptest::collection::vec((0u16..40, value), 0..12)
}

fn batch_of(records: &[Vec<(u16, Value)>], wide: usize) -> Batch {
    let mut builder = BatchBuilder::new();
    for (row, fields) in records.iter().enumerate() {
        builder.message(&format!("row {row}"));
        let mut seen = std::collections::BTreeSet::new();
        for (name, value) in fields.iter().filter(|(name, _)| seen.insert(*name)) {
            let name = format!("field{}", usize::from(*name) + wide * 40);
            match value {
                Value::Text(text) => builder.field_str(&name, text),
                Value::Int(int) => builder.field_i64(&name, *int),
                Value::Float(float) => builder.field_f64(&name, *float),
                Value::Bool(bool) => builder.field_bool(&name, *bool),
            }
        }
        let stream = builder.stream(&format!("{{n=\"{}\"}}", row % 5));
        builder.finish_row(row as i64, stream);
    }
    Batch::new(TenantId::default(), None, None, builder.finish().unwrap()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Any batches come back with the same values after commit, after build and after merge, from
    /// memory and from objects.
    #[test]
    fn values_survive_commit_build_and_merge_model(
        groups in proptest::collection::vec(
            proptest::collection::vec(proptest::collection::vec(any_record(), 1..40), 1..4), 1..6),
        hot in any::<bool>(),
        spread in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let hot_bytes_max = if hot { 64 << 20 } else { 0 };
            let options = StoreOptions { hot_bytes_max, merge_fan_in: 2, ..options() };
            let store = Store::open(dir.path(), options).await.unwrap();
            let tenant = TenantId::default();
            let mut expected = Vec::new();
            for (number, group) in groups.iter().enumerate() {
                let wide = if spread { number } else { 0 };
                let group: Vec<Batch> = group.iter().map(|r| batch_of(r, wide)).collect();
                expected.extend(group.iter().flat_map(|b| rows_of(b.records())));
                store.commit(group).await.unwrap();
                expected.sort();
                assert_eq!(stored(&store, &tenant).await, expected, "after commit");
                if number % 2 == 1 {
                    store.wait_built().await;
                    assert_eq!(stored(&store, &tenant).await, expected, "after build");
                }
            }
            store.wait_built().await;
            assert_eq!(stored(&store, &tenant).await, expected, "in the end");
            store.close().await;
        });
    }
}
