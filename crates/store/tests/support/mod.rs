//! Records to store, and what is stored as text.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use lodge_record::builder::BatchBuilder;
use lodge_record::{Batch, Origin, Position, ProducerId, TenantId, field, overflow, schema};
use lodge_store::{Committed, Outcome, Store, StoreOptions};

/// A record as text: every field with a value, `_overflow` spread out.
pub type Row = BTreeMap<String, String>;

pub fn producer(name: &str) -> ProducerId {
    ProducerId::derive(&[name.as_bytes()])
}

/// `rows` records whose messages begin with `mark`.
pub fn records(mark: &str, rows: usize) -> RecordBatch {
    let mut builder = BatchBuilder::new();
    for row in 0..rows {
        builder.message(&format!("{mark} {row}"));
        builder.field_str("service", "cart");
        builder.field_i64("n", row as i64);
        let stream = builder.stream("{service=\"cart\"}");
        builder.finish_row(1_700_000_000_000_000_000 + row as i64, stream);
    }
    builder.finish().unwrap()
}

/// A batch of three records of the default tenant.
pub fn batch(mark: &str, origin: Option<(&str, u32, u64)>) -> Batch {
    of_tenant(TenantId::default(), mark, origin)
}

pub fn of_tenant(tenant: TenantId, mark: &str, origin: Option<(&str, u32, u64)>) -> Batch {
    let position = origin.map(|(_, epoch, seq)| Position::new(format!("{epoch}:{seq}")).unwrap());
    let origin = origin.map(|(name, epoch, seq)| Origin { producer: producer(name), epoch, seq });
    Batch::new(tenant, origin, position, records(mark, 3)).unwrap()
}

/// Options under which nothing happens by itself or waits for long.
pub fn options() -> StoreOptions {
    StoreOptions {
        disk_reserve_bytes: Some(0),
        garbage_grace: Duration::from_secs(3_600),
        orphan_grace: Duration::from_secs(3_600),
        ..StoreOptions::default()
    }
}

pub async fn open(dir: &Path) -> Arc<Store> {
    Store::open(dir, options()).await.unwrap()
}

/// Commits one batch, which must be taken.
pub async fn put(store: &Store, batch: Batch) -> Committed {
    match store.commit(vec![batch]).await.unwrap().remove(0) {
        Outcome::Committed(committed) => committed,
        refused => panic!("{refused:?}"),
    }
}

pub fn rows_of(batch: &RecordBatch) -> Vec<Row> {
    let schema = batch.schema();
    let row = |row: usize| {
        let mut values = Row::new();
        for (field, column) in schema.fields().iter().zip(batch.columns()) {
            let Some(text) = schema::value_text(column, row) else { continue };
            if field.name() == field::OVERFLOW {
                overflow::for_each(&text, |name, value| {
                    values.insert(name.into(), value.into());
                });
            } else {
                values.insert(field.name().clone(), text.into_owned());
            }
        }
        values
    };
    (0..batch.num_rows()).map(row).collect()
}

/// All records of a tenant through a snapshot, sorted.
pub async fn stored(store: &Store, tenant: &TenantId) -> Vec<Row> {
    let snapshot = store.snapshot(tenant, None).await.unwrap();
    let mut rows = Vec::new();
    for segment in &snapshot.segments {
        let open = store.open_segment(segment).await.unwrap();
        let names: Vec<&str> = segment.schema.fields().iter().map(|f| f.name().as_str()).collect();
        for (index, info) in open.blocks().iter().enumerate() {
            let batch = open.read(index, &names, None).await.unwrap();
            assert_eq!(batch.num_rows(), info.rows);
            rows.extend(rows_of(&batch));
        }
    }
    rows.sort();
    rows
}

/// The first words of all messages of the default tenant, each once, sorted.
pub async fn marks(store: &Store) -> Vec<String> {
    let rows = stored(store, &TenantId::default()).await;
    let mut marks: Vec<String> =
        rows.iter().map(|row| row[field::MSG].split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(marks.len() % 3, 0, "every batch has three records");
    marks.sort();
    marks.dedup();
    marks
}

/// Files below `dir/objects`.
pub fn objects(dir: &Path) -> Vec<std::path::PathBuf> {
    fn walk(dir: &Path, found: &mut Vec<std::path::PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let mut found = Vec::new();
    walk(&dir.join("objects"), &mut found);
    found.sort();
    found
}
