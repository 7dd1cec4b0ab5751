//! Rows out of SQLite and into it: see `copy`.
//!
//! Invariant: what is half filled says so (`loading` in `meta`), and nothing else may use it.

use sqlx::{AssertSqlSafe, Row, SqliteConnection};

use super::copy::{self, CopyCounts, CopyRow, PAGE, RowSink, unhex};
use super::sqlite::failed;
use super::{SqliteCatalog, rows};
use crate::StoreError;

const READ: &str = "read the catalog's rows";
const WRITE: &str = "fill the catalog";

impl SqliteCatalog {
    /// Gives all rows to `sink`, of one moment; tells the highest number that a segment ever had.
    pub(super) async fn give_rows(&self, sink: &mut dyn RowSink) -> Result<u64, StoreError> {
        let mut tx = self.readers().begin().await.map_err(failed("begin to read"))?;
        let highest: Option<i64> =
            sqlx::query_scalar("SELECT seq FROM sqlite_sequence WHERE name = 'segments'")
                .fetch_optional(&mut *tx)
                .await
                .map_err(failed(READ))?;
        let mut after = i64::MIN;
        loop {
            let page = sqlx::query(copy::COLUMNS_PAGE).bind(after).bind(PAGE);
            let page = page.fetch_all(&mut *tx).await.map_err(failed(READ))?;
            let found = page.iter().map(copy::columns).collect::<Result<Vec<_>, _>>()?;
            let Some(last) = found.last() else { break };
            after = last.id;
            sink.take(found.into_iter().map(CopyRow::Columns).collect()).await?;
        }
        after = i64::MIN;
        loop {
            let page = sqlx::query(AssertSqlSafe(copy::segments_page())).bind(after).bind(PAGE);
            let page = page.fetch_all(&mut *tx).await.map_err(failed(READ))?;
            let found = page.iter().map(copy::segment).collect::<Result<Vec<_>, _>>()?;
            let Some(last) = found.last() else { break };
            after = last.id;
            sink.take(found.into_iter().map(CopyRow::Segment).collect()).await?;
        }
        let (mut tenant, mut producer) = (String::new(), Vec::new());
        loop {
            let page = sqlx::query(copy::PRODUCERS_PAGE).bind(&tenant).bind(&producer).bind(PAGE);
            let page = page.fetch_all(&mut *tx).await.map_err(failed(READ))?;
            let found = page.iter().map(copy::producer).collect::<Result<Vec<_>, _>>()?;
            let Some(last) = found.last() else { break };
            (tenant, producer) = (last.tenant.clone(), unhex(&last.producer)?);
            sink.take(found.into_iter().map(CopyRow::Producer).collect()).await?;
        }
        let sql = format!("SELECT {} FROM tokens ORDER BY id", rows::TOKEN_COLUMNS);
        let found = sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut *tx).await;
        let found = found.map_err(failed(READ))?;
        let found = found.iter().map(copy::token).collect::<Result<Vec<_>, _>>()?;
        sink.take(found.into_iter().map(CopyRow::Token).collect()).await?;
        tx.rollback().await.map_err(failed("end reading"))?;
        Ok(highest.unwrap_or(0).cast_unsigned())
    }

    /// Begins to fill the catalog; what an earlier attempt has filled is removed. False if it holds
    /// anything else.
    pub(super) async fn begin_filling(&self) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let is_used: bool = sqlx::query_scalar(
            "SELECT NOT EXISTS (SELECT 1 FROM meta WHERE name = 'loading' AND value = 1) AND ( \
             EXISTS (SELECT 1 FROM segments) OR EXISTS (SELECT 1 FROM producers) \
             OR EXISTS (SELECT 1 FROM tokens) OR EXISTS (SELECT 1 FROM garbage))",
        )
        .fetch_one(&mut *tx)
        .await
        .map_err(failed(WRITE))?;
        if is_used {
            tx.rollback().await?;
            return Ok(false);
        }
        for statement in [
            "DELETE FROM segments",
            "DELETE FROM producers",
            "DELETE FROM tokens",
            "DELETE FROM schemas",
            "INSERT INTO meta (name, value) VALUES ('loading', 1) \
             ON CONFLICT (name) DO UPDATE SET value = 1",
        ] {
            sqlx::query(statement).execute(&mut *tx).await.map_err(failed(WRITE))?;
        }
        tx.commit().await?;
        Ok(true)
    }

    pub(super) async fn fill_rows(&self, rows: &[CopyRow]) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        for row in rows {
            put(&mut tx, row).await?;
        }
        tx.commit().await
    }

    pub(super) async fn end_filling(
        &self,
        wanted: CopyCounts,
        highest: u64,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let row = sqlx::query(
            "SELECT (SELECT count(*) FROM schemas), (SELECT count(*) FROM segments), \
             (SELECT count(*) FROM producers), (SELECT count(*) FROM tokens)",
        )
        .fetch_one(&mut *tx)
        .await
        .map_err(failed(WRITE))?;
        let number = |index: usize| -> Result<u64, StoreError> {
            row.try_get::<i64, _>(index).map(i64::cast_unsigned).map_err(failed(WRITE))
        };
        let there = CopyCounts {
            columns: number(0)?,
            segments: number(1)?,
            producers: number(2)?,
            tokens: number(3)?,
        };
        copy::check_counts(there, wanted)?;
        // A row is there once a segment was: where none is, a row for its number is made.
        for statement in [
            "UPDATE sqlite_sequence SET seq = max(seq, $1) WHERE name = 'segments'",
            "INSERT INTO sqlite_sequence (name, seq) SELECT 'segments', $1 \
             WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'segments')",
        ] {
            let done = sqlx::query(statement).bind(highest.cast_signed());
            done.execute(&mut *tx).await.map_err(failed(WRITE))?;
        }
        for statement in [
            "UPDATE meta SET value = value + 1 WHERE name IN ('data_version', 'tokens_version')",
            "DELETE FROM meta WHERE name = 'loading'",
        ] {
            sqlx::query(statement).execute(&mut *tx).await.map_err(failed(WRITE))?;
        }
        tx.commit().await
    }

    pub(super) async fn is_being_filled(&self) -> Result<bool, StoreError> {
        sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM meta WHERE name = 'loading' AND value = 1)",
        )
        .fetch_one(self.readers())
        .await
        .map_err(failed("read the version"))
    }
}

async fn put(connection: &mut SqliteConnection, row: &CopyRow) -> Result<(), StoreError> {
    let query = match row {
        CopyRow::Columns(row) => {
            let hash = blake3::hash(row.columns.as_bytes()).as_bytes().to_vec();
            sqlx::query("INSERT INTO schemas (id, hash, columns) VALUES ($1, $2, $3)")
                .bind(row.id)
                .bind(hash)
                .bind(&row.columns)
        }
        CopyRow::Segment(row) => sqlx::query(
            "INSERT INTO segments (id, tenant, level, object_key, object_offset, bytes, row_count, \
             arrow_bytes, time_min_ns, time_max_ns, schema_id, streams, created_ms) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
        )
        .bind(row.id)
        .bind(&row.tenant)
        .bind(row.level)
        .bind(&row.object_key)
        .bind(row.object_offset)
        .bind(row.bytes)
        .bind(row.row_count)
        .bind(row.arrow_bytes)
        .bind(row.time_min_ns)
        .bind(row.time_max_ns)
        .bind(row.schema_id)
        .bind(&row.streams)
        .bind(row.created_ms),
        CopyRow::Producer(row) => sqlx::query(
            "INSERT INTO producers (tenant, producer, epoch, seq, position, ledger, expires_ms) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(&row.tenant)
        .bind(unhex(&row.producer)?)
        .bind(row.epoch)
        .bind(row.seq)
        .bind(&row.position)
        .bind(&row.ledger)
        .bind(row.expires_ms),
        CopyRow::Token(row) => sqlx::query(
            "INSERT INTO tokens (id, name, tenant, scopes, only_filter, kind, value, created_ms, \
             expires_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(&row.id)
        .bind(&row.name)
        .bind(&row.tenant)
        .bind(&row.scopes)
        .bind(&row.only_filter)
        .bind(&row.kind)
        .bind(unhex(&row.value)?)
        .bind(row.created_ms)
        .bind(row.expires_ms),
    };
    query.execute(connection).await.map(drop).map_err(failed(WRITE))
}
