//! The catalog in one SQLite file.
//!
//! Invariants:
//! - write-ahead journal with `synchronous = FULL`: a committed transaction survives a power cut;
//! - one connection writes, so transactions are one after another; others only read;
//! - rows of segments never change, so parsed ones are kept by number.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use lodge_record::{ProducerId, TenantId};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow,
    SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, Row, SqliteConnection};

use super::kept::{KeptLists, Writing};
use super::rows::{self, SEGMENT_COLUMNS};
use super::transaction::WriteTx;
use super::{
    Applied, Candidates, Catalog, CopyCounts, CopyRow, HOLD, Lease, NewSegment, Node, Producer,
    ProducerAdvance, RowSink, Totals, leases, migrations,
};
use crate::store::now_ms;
use crate::token::Token;
use crate::{LedgerRow, SegmentId, SegmentRef, Snapshot, StoreError};

/// Connections that only read.
const READERS: u32 = 4;
/// Parsed segments kept in memory.
const KNOWN_MAX: usize = 8_192;
/// Of so many unknown segments each is looked up by itself; of more all are read at once.
const LOOKUPS_MAX: usize = 16;

/// A catalog in a SQLite file.
#[derive(Debug)]
pub struct SqliteCatalog {
    writer: SqlitePool,
    readers: SqlitePool,
    known: Mutex<Known>,
    kept: KeptLists,
}

/// What was parsed before.
#[derive(Debug, Default)]
struct Known {
    segments: HashMap<i64, Arc<SegmentRef>>,
    schemas: HashMap<i64, SchemaRef>,
}

pub(super) fn failed(action: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |source| StoreError::Catalog { action, source }
}

impl SqliteCatalog {
    /// Opens the file, makes it if it is not there, and brings its tables to this program's
    /// version.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(10))
            .pragma("journal_size_limit", "67108864");
        let pool = |connections| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .idle_timeout(None)
                .max_lifetime(None)
                .test_before_acquire(false)
        };
        let writer =
            pool(1).connect_with(options.clone()).await.map_err(failed("open catalog.db"))?;
        migrate(&writer, path).await?;
        let readers = pool(READERS)
            .connect_with(options.read_only(true))
            .await
            .map_err(failed("open catalog.db for reading"))?;
        Ok(Self { writer, readers, known: Mutex::default(), kept: KeptLists::default() })
    }

    pub(super) async fn begin(&self) -> Result<WriteTx, StoreError> {
        WriteTx::begin(&self.writer).await
    }

    pub(super) fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    fn with_known<T>(&self, run: impl FnOnce(&mut Known) -> T) -> T {
        run(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn known_segment(&self, id: i64) -> Option<Arc<SegmentRef>> {
        self.with_known(|known| known.segments.get(&id).cloned())
    }

    fn keep_segment(&self, segment: SegmentRef) -> Arc<SegmentRef> {
        let segment = Arc::new(segment);
        self.with_known(|known| {
            if known.segments.len() >= KNOWN_MAX {
                known.segments.clear();
            }
            known.segments.insert(segment.id.0.cast_signed(), Arc::clone(&segment));
        });
        segment
    }

    fn keep_schema(&self, id: i64, schema: SchemaRef) -> SchemaRef {
        self.with_known(|known| {
            if known.schemas.len() >= KNOWN_MAX {
                known.schemas.clear();
            }
            known.schemas.insert(id, Arc::clone(&schema));
        });
        schema
    }

    async fn schema(
        &self,
        connection: &mut SqliteConnection,
        id: i64,
    ) -> Result<SchemaRef, StoreError> {
        if let Some(schema) = self.with_known(|known| known.schemas.get(&id).cloned()) {
            return Ok(schema);
        }
        let text: Option<String> = sqlx::query_scalar("SELECT columns FROM schemas WHERE id = $1")
            .bind(id)
            .fetch_optional(connection)
            .await
            .map_err(failed("read a column list"))?;
        let text =
            text.ok_or_else(|| StoreError::CatalogDamaged(format!("column list {id} is missing")))?;
        Ok(self.keep_schema(id, rows::schema_of(&text)?))
    }

    async fn parse(
        &self,
        connection: &mut SqliteConnection,
        row: &SqliteRow,
    ) -> Result<Arc<SegmentRef>, StoreError> {
        let schema = self.schema(connection, rows::schema_id(row)?).await?;
        Ok(self.keep_segment(rows::segment(row, schema)?))
    }

    /// The segments with these numbers, which exist in the transaction of `connection`.
    async fn resolve(
        &self,
        connection: &mut SqliteConnection,
        ids: &[i64],
    ) -> Result<Vec<Arc<SegmentRef>>, StoreError> {
        let mut found: HashMap<i64, Arc<SegmentRef>> = HashMap::new();
        let mut missing = Vec::new();
        for id in ids {
            match self.known_segment(*id) {
                Some(segment) => drop(found.insert(*id, segment)),
                None => missing.push(*id),
            }
        }
        let fetched = if missing.len() <= LOOKUPS_MAX {
            let sql = format!("SELECT {SEGMENT_COLUMNS} FROM segments WHERE id = $1");
            let mut fetched = Vec::with_capacity(missing.len());
            for id in &missing {
                let row = sqlx::query(AssertSqlSafe(sql.as_str()))
                    .bind(id)
                    .fetch_one(&mut *connection)
                    .await
                    .map_err(failed("read a segment"))?;
                fetched.push(row);
            }
            fetched
        } else {
            // The numbers as one JSON text: a statement has a limit on its parameters.
            let list = serde_json::to_string(&missing)
                .map_err(|e| StoreError::CatalogDamaged(e.to_string()))?;
            let sql = format!(
                "SELECT {SEGMENT_COLUMNS} FROM segments \
                 WHERE id IN (SELECT value FROM json_each($1))"
            );
            sqlx::query(AssertSqlSafe(sql))
                .bind(list)
                .fetch_all(&mut *connection)
                .await
                .map_err(failed("read segments"))?
        };
        for row in &fetched {
            let segment = self.parse(connection, row).await?;
            found.insert(segment.id.0.cast_signed(), segment);
        }
        ids.iter()
            .map(|id| {
                let gone = || StoreError::CatalogDamaged(format!("segment {id} is not there"));
                found.remove(id).ok_or_else(gone)
            })
            .collect()
    }

    async fn insert_schema(
        &self,
        connection: &mut SqliteConnection,
        schema: &SchemaRef,
    ) -> Result<(i64, SchemaRef), StoreError> {
        let text = rows::schema_text(schema)?;
        let hash = blake3::hash(text.as_bytes());
        // The update changes nothing; it makes RETURNING give the number of a row that was there.
        let id: i64 = sqlx::query_scalar(
            "INSERT INTO schemas (hash, columns) VALUES ($1, $2) \
             ON CONFLICT (hash) DO UPDATE SET hash = excluded.hash RETURNING id",
        )
        .bind(hash.as_bytes().as_slice())
        .bind(text)
        .fetch_one(connection)
        .await
        .map_err(failed("add a column list"))?;
        let shared = self.with_known(|known| known.schemas.get(&id).cloned());
        Ok((id, shared.unwrap_or_else(|| Arc::clone(schema))))
    }

    async fn insert_segment(
        &self,
        connection: &mut SqliteConnection,
        new: &NewSegment,
    ) -> Result<(i64, SegmentRef), StoreError> {
        let (schema_id, schema) = self.insert_schema(connection, &new.schema).await?;
        let id: i64 = sqlx::query_scalar(
            "INSERT INTO segments (tenant, level, object_key, object_offset, bytes, row_count, \
             arrow_bytes, time_min_ns, time_max_ns, schema_id, streams, created_ms) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) RETURNING id",
        )
        .bind(new.tenant.as_str())
        .bind(i64::from(new.level))
        .bind(new.object_key.as_ref())
        .bind(new.object_offset.cast_signed())
        .bind(new.bytes.cast_signed())
        .bind(new.rows.cast_signed())
        .bind(new.arrow_bytes.cast_signed())
        .bind(new.time_min_ns)
        .bind(new.time_max_ns)
        .bind(schema_id)
        .bind(rows::streams_text(new.streams.as_ref()))
        .bind(new.created_ms)
        .fetch_one(connection)
        .await
        .map_err(failed("add a segment"))?;
        let segment = SegmentRef {
            id: SegmentId(id.cast_unsigned()),
            tenant: new.tenant.clone(),
            level: new.level,
            rows: new.rows,
            bytes: new.bytes,
            arrow_bytes: new.arrow_bytes,
            time_min_ns: new.time_min_ns,
            time_max_ns: new.time_max_ns,
            schema,
            streams: new.streams.clone(),
            created_ms: new.created_ms,
            object_key: Arc::clone(&new.object_key),
            object_offset: new.object_offset,
        };
        Ok((schema_id, segment))
    }

    /// Adds segments, raises the version, commits; what is kept in memory is kept only then.
    async fn finish(
        &self,
        mut tx: WriteTx,
        segments: &[NewSegment],
        removed: &[SegmentId],
    ) -> Result<Applied, StoreError> {
        let mut added = Vec::with_capacity(segments.len());
        for new in segments {
            added.push(self.insert_segment(&mut tx, new).await?);
        }
        let version: i64 = sqlx::query_scalar(
            "UPDATE meta SET value = value + 1 WHERE name = 'data_version' RETURNING value",
        )
        .fetch_one(&mut *tx)
        .await
        .map_err(failed("raise the version"))?;
        let writing = Writing::begin(&self.kept);
        tx.commit().await?;
        let keep = |(schema_id, segment): (i64, SegmentRef)| {
            self.keep_schema(schema_id, Arc::clone(&segment.schema));
            self.keep_segment(segment)
        };
        let added: Vec<_> = added.into_iter().map(keep).collect();
        let version = version.cast_unsigned();
        self.kept.apply(version, &added, removed);
        writing.settle();
        Ok(Applied { version, added })
    }
}

async fn migrate(writer: &SqlitePool, path: &Path) -> Result<(), StoreError> {
    let action = "bring catalog.db to this version";
    let mut tx = writer.begin_with("BEGIN IMMEDIATE").await.map_err(failed(action))?;
    sqlx::query(migrations::META).execute(&mut *tx).await.map_err(failed(action))?;
    let found: Option<i64> =
        sqlx::query_scalar("SELECT value FROM meta WHERE name = 'catalog_version'")
            .fetch_optional(&mut *tx)
            .await
            .map_err(failed(action))?;
    let found = found.unwrap_or(0);
    let known = migrations::known();
    if found > known {
        let path = path.display().to_string();
        return Err(StoreError::NewerCatalog { path, found, known });
    }
    let done = usize::try_from(found)
        .map_err(|_| StoreError::CatalogDamaged(format!("its version is {found}")))?;
    for statement in migrations::STEPS.iter().skip(done).flat_map(|step| step.iter()) {
        sqlx::query(*statement).execute(&mut *tx).await.map_err(failed(action))?;
    }
    sqlx::query(
        "INSERT INTO meta (name, value) VALUES ('catalog_version', $1) \
         ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    )
    .bind(known)
    .execute(&mut *tx)
    .await
    .map_err(failed(action))?;
    tx.commit().await.map_err(failed(action))
}

/// Advances a producer; `false` if it does not stand where it should.
async fn advance(
    connection: &mut SqliteConnection,
    step: &ProducerAdvance,
) -> Result<bool, StoreError> {
    let id = step.producer.to_bytes();
    let position = step.to.position.as_ref().map(|p| p.as_str());
    let entry = step.entry.as_ref().map(serde_json::to_string).transpose();
    let entry = entry.map_err(|e| StoreError::CatalogDamaged(e.to_string()))?;
    let statement = match step.from {
        None => sqlx::query(
            "INSERT INTO producers (tenant, producer, epoch, seq, position, ledger, expires_ms) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (tenant, producer) DO UPDATE SET \
             epoch = excluded.epoch, seq = excluded.seq, position = excluded.position, \
             ledger = excluded.ledger, expires_ms = excluded.expires_ms \
             WHERE producers.expires_ms <= $8",
        ),
        Some(_) => sqlx::query(
            "UPDATE producers SET epoch = $3, seq = $4, position = $5, \
             ledger = COALESCE($6, ledger), expires_ms = $7 \
             WHERE tenant = $1 AND producer = $2 AND epoch = $8 AND seq = $9",
        ),
    };
    let statement = statement
        .bind(step.tenant.as_str())
        .bind(id.as_slice())
        .bind(i64::from(step.to.epoch))
        .bind(step.to.seq.cast_signed())
        .bind(position)
        .bind(entry)
        .bind(step.forget_ms);
    let statement = match step.from {
        None => statement.bind(now_ms()),
        Some((epoch, seq)) => statement.bind(i64::from(epoch)).bind(seq.cast_signed()),
    };
    let done = statement.execute(connection).await.map_err(failed("advance a producer"))?;
    Ok(done.rows_affected() == 1)
}

#[async_trait]
impl Catalog for SqliteCatalog {
    async fn number(&self) -> Result<u64, StoreError> {
        let random = (uuid::Uuid::new_v4().as_u64_pair().0 >> 1).cast_signed();
        let mut tx = self.begin().await?;
        // The update changes nothing; it makes RETURNING give the number that was there.
        let number: i64 = sqlx::query_scalar(
            "INSERT INTO meta (name, value) VALUES ('catalog_number', $1) \
             ON CONFLICT (name) DO UPDATE SET value = value RETURNING value",
        )
        .bind(random)
        .fetch_one(&mut *tx)
        .await
        .map_err(failed("number the catalog"))?;
        tx.commit().await?;
        Ok(number.cast_unsigned())
    }

    fn is_shared(&self) -> bool {
        false
    }

    async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    fn kept(&self, tenant: &TenantId) -> Option<Arc<Snapshot>> {
        self.kept.get(tenant)
    }

    async fn snapshot_to_keep(
        &self,
        tenant: &TenantId,
        time: Option<(i64, i64)>,
    ) -> Result<Arc<Snapshot>, StoreError> {
        if self.kept.is_large(tenant) {
            let (version, segments) = self.snapshot(tenant, time).await?;
            return Ok(Arc::new(Snapshot::new(version, tenant.clone(), segments)));
        }
        let reading = self.kept.begin_reading();
        let (version, segments) = self.snapshot(tenant, None).await?;
        let whole = Arc::new(Snapshot::new(version, tenant.clone(), segments));
        self.kept.keep(reading, &whole);
        Ok(whole.within(time))
    }

    async fn commit(
        &self,
        segments: &[NewSegment],
        producers: &[ProducerAdvance],
    ) -> Result<Option<Applied>, StoreError> {
        let mut tx = self.begin().await?;
        for step in producers {
            if !advance(&mut tx, step).await? {
                tx.rollback().await?;
                return Ok(None);
            }
        }
        self.finish(tx, segments, &[]).await.map(Some)
    }

    async fn swap(
        &self,
        remove: &[SegmentId],
        add: &[NewSegment],
        now_ms: i64,
        lease: Option<&Lease>,
    ) -> Result<Option<Applied>, StoreError> {
        let mut tx = self.begin().await?;
        if let Some(lease) = lease
            && !leases::is_held(&mut tx, lease).await?
        {
            tx.rollback().await?;
            return Ok(None);
        }
        let mut keys: Vec<String> = Vec::new();
        for id in remove {
            let key: Option<String> =
                sqlx::query_scalar("DELETE FROM segments WHERE id = $1 RETURNING object_key")
                    .bind(id.0.cast_signed())
                    .fetch_optional(&mut *tx)
                    .await
                    .map_err(failed("remove a segment"))?;
            match key {
                Some(key) => keys.push(key),
                None => {
                    tx.rollback().await?;
                    return Ok(None);
                }
            }
        }
        keys.sort_unstable();
        keys.dedup();
        for key in &keys {
            sqlx::query(
                "INSERT INTO garbage (object_key, since_ms) SELECT $1, $2 \
                 WHERE NOT EXISTS (SELECT 1 FROM segments WHERE object_key = $1)",
            )
            .bind(key)
            .bind(now_ms)
            .execute(&mut *tx)
            .await
            .map_err(failed("add to the garbage"))?;
        }
        let applied = self.finish(tx, add, remove).await?;
        self.with_known(|known| {
            for id in remove {
                known.segments.remove(&id.0.cast_signed());
            }
        });
        Ok(Some(applied))
    }

    async fn snapshot(
        &self,
        tenant: &TenantId,
        time: Option<(i64, i64)>,
    ) -> Result<(u64, Vec<Arc<SegmentRef>>), StoreError> {
        let (from, to) = time.unwrap_or((i64::MIN, i64::MAX));
        // One read transaction: all of it sees the same version.
        let mut tx = self.readers.begin().await.map_err(failed("begin to read"))?;
        let version: i64 = sqlx::query_scalar("SELECT value FROM meta WHERE name = 'data_version'")
            .fetch_one(&mut *tx)
            .await
            .map_err(failed("read the version"))?;
        let ids: Vec<i64> = sqlx::query_scalar(
            "SELECT id FROM segments \
             WHERE tenant = $1 AND time_max_ns >= $2 AND time_min_ns <= $3 ORDER BY id",
        )
        .bind(tenant.as_str())
        .bind(from)
        .bind(to)
        .fetch_all(&mut *tx)
        .await
        .map_err(failed("list segments"))?;
        let segments = self.resolve(&mut tx, &ids).await?;
        tx.rollback().await.map_err(failed("end reading"))?;
        Ok((version.cast_unsigned(), segments))
    }

    async fn producers(
        &self,
        wanted: &[(TenantId, ProducerId)],
    ) -> Result<Vec<Option<Producer>>, StoreError> {
        let mut tx = self.readers.begin().await.map_err(failed("begin to read"))?;
        let mut states = Vec::with_capacity(wanted.len());
        for (tenant, producer) in wanted {
            let row = sqlx::query(
                "SELECT epoch, seq, position, ledger FROM producers \
                 WHERE tenant = $1 AND producer = $2 AND (expires_ms IS NULL OR expires_ms > $3)",
            )
            .bind(tenant.as_str())
            .bind(producer.to_bytes().as_slice())
            .bind(now_ms())
            .fetch_optional(&mut *tx)
            .await
            .map_err(failed("read a producer"))?;
            states.push(row.as_ref().map(rows::producer).transpose()?);
        }
        tx.rollback().await.map_err(failed("end reading"))?;
        Ok(states)
    }

    async fn forget_producers(
        &self,
        before_ms: i64,
        limit: usize,
    ) -> Result<(u64, u64), StoreError> {
        let mut tx = self.begin().await?;
        let removed = sqlx::query(
            "DELETE FROM producers WHERE rowid IN \
             (SELECT rowid FROM producers WHERE expires_ms <= $1 LIMIT $2)",
        )
        .bind(before_ms)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .execute(&mut *tx)
        .await
        .map_err(failed("forget producers"))?;
        let left: i64 =
            sqlx::query_scalar("SELECT count(*) FROM producers WHERE expires_ms IS NOT NULL")
                .fetch_one(&mut *tx)
                .await
                .map_err(failed("count producers"))?;
        tx.commit().await?;
        Ok((removed.rows_affected(), left.cast_unsigned()))
    }

    async fn ledger(
        &self,
        tenant: &TenantId,
        after: Option<ProducerId>,
        limit: usize,
    ) -> Result<Vec<LedgerRow>, StoreError> {
        let after = after.map_or(Vec::new(), |producer| producer.to_bytes().to_vec());
        let found = sqlx::query(
            "SELECT producer, epoch, seq, position, ledger FROM producers \
             WHERE tenant = $1 AND producer > $2 AND ledger IS NOT NULL ORDER BY producer LIMIT $3",
        )
        .bind(tenant.as_str())
        .bind(after)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(&self.readers)
        .await
        .map_err(failed("read the ledger"))?;
        found.iter().map(rows::ledger).collect()
    }

    async fn settle(&self, object_key: &str) -> Result<Option<Vec<Arc<SegmentRef>>>, StoreError> {
        // On the one connection that writes: whatever transaction was begun before has ended. It
        // only reads, so that a full disk does not keep it from telling.
        let mut tx = self.writer.begin().await.map_err(failed("begin to read"))?;
        let ids: Vec<i64> =
            sqlx::query_scalar("SELECT id FROM segments WHERE object_key = $1 ORDER BY id")
                .bind(object_key)
                .fetch_all(&mut *tx)
                .await
                .map_err(failed("look for an object"))?;
        let segments = self.resolve(&mut tx, &ids).await?;
        // The builder may have been there already.
        let is_garbage: bool =
            sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM garbage WHERE object_key = $1)")
                .bind(object_key)
                .fetch_one(&mut *tx)
                .await
                .map_err(failed("look for an object"))?;
        tx.rollback().await.map_err(failed("end reading"))?;
        // Whoever asks was in doubt about a write; now that it is settled, lists are read anew.
        self.kept.doubt();
        Ok((is_garbage || !segments.is_empty()).then_some(segments))
    }

    async fn candidates(
        &self,
        which: Candidates,
        limit: usize,
    ) -> Result<Vec<Arc<SegmentRef>>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let query = match which {
            Candidates::L0 => sqlx::query_scalar(
                "SELECT id FROM segments WHERE level = 0 ORDER BY tenant, id LIMIT $1",
            )
            .bind(limit),
            Candidates::BuiltBelow(bytes) => sqlx::query_scalar(
                "SELECT id FROM segments WHERE level > 0 AND arrow_bytes < $2 \
                 ORDER BY tenant, id LIMIT $1",
            )
            .bind(limit)
            .bind(i64::try_from(bytes).unwrap_or(i64::MAX)),
        };
        let mut tx = self.readers.begin().await.map_err(failed("begin to read"))?;
        let ids: Vec<i64> =
            query.fetch_all(&mut *tx).await.map_err(failed("list segments to build"))?;
        let segments = self.resolve(&mut tx, &ids).await?;
        tx.rollback().await.map_err(failed("end reading"))?;
        Ok(segments)
    }

    async fn names_objects(&self, keys: &[String]) -> Result<Vec<bool>, StoreError> {
        let mut tx = self.readers.begin().await.map_err(failed("begin to read"))?;
        let mut named = Vec::with_capacity(keys.len());
        for key in keys {
            let found: bool = sqlx::query_scalar(
                "SELECT EXISTS (SELECT 1 FROM segments WHERE object_key = $1) \
                 OR EXISTS (SELECT 1 FROM garbage WHERE object_key = $1)",
            )
            .bind(key)
            .fetch_one(&mut *tx)
            .await
            .map_err(failed("look for an object"))?;
            named.push(found);
        }
        tx.rollback().await.map_err(failed("end reading"))?;
        Ok(named)
    }

    async fn disown(&self, keys: &[String]) -> Result<Vec<bool>, StoreError> {
        self.names_objects(keys).await
    }

    async fn garbage(&self, before_ms: i64, limit: usize) -> Result<Vec<String>, StoreError> {
        sqlx::query_scalar(
            "SELECT object_key FROM garbage WHERE since_ms <= $1 AND NOT EXISTS \
             (SELECT 1 FROM leases WHERE name = $3 AND expires_ms > $4) \
             ORDER BY since_ms LIMIT $2",
        )
        .bind(before_ms)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .bind(HOLD)
        .bind(now_ms())
        .fetch_all(&self.readers)
        .await
        .map_err(failed("list the garbage"))
    }

    async fn forget_garbage(&self, keys: &[String]) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        for key in keys {
            sqlx::query("DELETE FROM garbage WHERE object_key = $1")
                .bind(key)
                .execute(&mut *tx)
                .await
                .map_err(failed("take out of the garbage"))?;
        }
        tx.commit().await
    }

    async fn drop_unused_schemas(&self) -> Result<(), StoreError> {
        let unused: Vec<i64> = sqlx::query_scalar(
            "DELETE FROM schemas \
             WHERE NOT EXISTS (SELECT 1 FROM segments WHERE schema_id = schemas.id) RETURNING id",
        )
        .fetch_all(&self.writer)
        .await
        .map_err(failed("remove unused column lists"))?;
        self.with_known(|known| {
            for id in &unused {
                known.schemas.remove(id);
            }
        });
        Ok(())
    }

    async fn prune(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn lease(
        &self,
        name: &str,
        holder: &str,
        lasts: Duration,
    ) -> Result<Option<Lease>, StoreError> {
        self.take_lease(name, holder, lasts).await
    }

    async fn renew(&self, lease: &Lease, lasts: Duration) -> Result<bool, StoreError> {
        self.renew_lease(lease, lasts).await
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        self.lease_until(lease, i64::MIN).await.map(drop)
    }

    async fn announce(&self, node: &Node, lasts: Duration) -> Result<(), StoreError> {
        self.put_node(node, lasts).await
    }

    async fn depart(&self, name: &str) -> Result<(), StoreError> {
        self.delete_node(name).await
    }

    async fn nodes(&self) -> Result<Vec<Node>, StoreError> {
        self.read_nodes().await
    }

    async fn totals(&self) -> Result<(Totals, Totals), StoreError> {
        let rows = sqlx::query(
            "SELECT level > 0, COUNT(*), SUM(row_count), SUM(bytes) FROM segments GROUP BY 1",
        )
        .fetch_all(&self.readers)
        .await
        .map_err(failed("sum up segments"))?;
        let mut totals = (Totals::default(), Totals::default());
        for row in &rows {
            let number = |index: usize| -> Result<u64, StoreError> {
                let value: i64 = row.try_get(index).map_err(failed("sum up segments"))?;
                Ok(value.cast_unsigned())
            };
            let place = if number(0)? > 0 { &mut totals.1 } else { &mut totals.0 };
            *place = Totals { segments: number(1)?, rows: number(2)?, bytes: number(3)? };
        }
        Ok(totals)
    }

    async fn add_token(&self, token: &Token) -> Result<bool, StoreError> {
        self.insert_token(token).await
    }

    async fn remove_token(&self, id: &str) -> Result<bool, StoreError> {
        self.delete_token(id).await
    }

    async fn tokens(&self, known: Option<u64>) -> Result<Option<(u64, Vec<Token>)>, StoreError> {
        self.select_tokens(known).await
    }

    async fn give(&self, sink: &mut dyn RowSink) -> Result<u64, StoreError> {
        self.give_rows(sink).await
    }

    async fn begin_fill(&self) -> Result<bool, StoreError> {
        self.begin_filling().await
    }

    async fn fill(&self, rows: &[CopyRow]) -> Result<(), StoreError> {
        self.fill_rows(rows).await
    }

    async fn end_fill(&self, wanted: CopyCounts, highest: u64) -> Result<(), StoreError> {
        self.end_filling(wanted, highest).await
    }

    async fn is_filling(&self) -> Result<bool, StoreError> {
        self.is_being_filled().await
    }
}
