//! Rows out of PostgreSQL and into it: see `catalog/copy.rs`.
//!
//! Invariants:
//! - rows come out of one repeatable-read transaction, page by page, so that no answer is large;
//! - filling is one statement for some rows of a kind; done twice it is done once;
//! - what is half filled says so (`loading` in `meta`), and nothing else may use it.

use sqlx::{AssertSqlSafe, Row};

use super::PostgresCatalog;
use super::connection::{Tx, limit, retrying};
use crate::StoreError;
use crate::catalog::copy::{self, CopyCounts, CopyRow, PAGE, RowSink, hex, unhex};
use crate::catalog::rows;

const READ: &str = "read the catalog's rows";
const WRITE: &str = "fill the catalog";

/// Pages are written elsewhere between one question and the next.
const SNAPSHOT: &str = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY; \
     SET LOCAL idle_in_transaction_session_timeout = '15min'";

impl PostgresCatalog {
    /// Gives all rows to `sink`, of one moment; tells the highest number that a segment ever had.
    pub(super) async fn give_rows(&self, sink: &mut dyn RowSink) -> Result<u64, StoreError> {
        let mut tx = self.database.begin().await?;
        let done = limit(sqlx::raw_sql(SNAPSHOT).execute(tx.ask())).await;
        tx.told(READ, done)?;
        // Not part of the snapshot: it is as high as any number in it, or higher.
        let highest = sqlx::query_scalar::<_, i64>(
            "SELECT COALESCE(pg_sequence_last_value( \
             pg_get_serial_sequence('segments', 'id')::regclass), 0)",
        );
        let highest = limit(highest.fetch_one(tx.ask())).await;
        let highest = tx.told(READ, highest)?;
        give_numbered(&mut tx, sink).await?;
        let (mut tenant, mut producer) = (String::new(), Vec::new());
        loop {
            let page = sqlx::query(copy::PRODUCERS_PAGE).bind(&tenant).bind(&producer).bind(PAGE);
            let page = limit(page.fetch_all(tx.ask())).await;
            let page = tx.told(READ, page)?;
            let found = page.iter().map(copy::producer).collect::<Result<Vec<_>, _>>()?;
            let Some(last) = found.last() else { break };
            (tenant, producer) = (last.tenant.clone(), unhex(&last.producer)?);
            sink.take(found.into_iter().map(CopyRow::Producer).collect()).await?;
        }
        let sql = format!("SELECT {} FROM tokens ORDER BY id", rows::TOKEN_COLUMNS);
        let found = limit(sqlx::query(AssertSqlSafe(sql)).fetch_all(tx.ask())).await;
        let found = tx.told(READ, found)?;
        let found = found.iter().map(copy::token).collect::<Result<Vec<_>, _>>()?;
        sink.take(found.into_iter().map(CopyRow::Token).collect()).await?;
        tx.rollback().await;
        Ok(highest.cast_unsigned())
    }

    /// Begins to fill the catalog; what an earlier attempt has filled is removed. False if it holds
    /// anything else, or servers use it.
    pub(super) async fn begin_filling(&self) -> Result<bool, StoreError> {
        retrying!(WRITE, self.try_begin_filling())
    }

    async fn try_begin_filling(&self) -> Result<bool, StoreError> {
        let mut tx = self.database.begin().await?;
        // The row is locked: of two that begin, the second sees what the first has done.
        let was = sqlx::query_scalar::<_, i64>(
            "INSERT INTO meta (name, value) VALUES ('loading', 0) \
             ON CONFLICT (name) DO UPDATE SET value = meta.value RETURNING value",
        );
        let was = limit(was.fetch_one(tx.ask())).await;
        let was = tx.told(WRITE, was)?;
        let is_used = sqlx::query_scalar::<_, bool>(
            "SELECT EXISTS (SELECT 1 FROM nodes WHERE expires > clock_timestamp()) OR ($1 = 0 AND \
             (EXISTS (SELECT 1 FROM segments) OR EXISTS (SELECT 1 FROM producers) \
             OR EXISTS (SELECT 1 FROM tokens) OR EXISTS (SELECT 1 FROM garbage)))",
        )
        .bind(was);
        let is_used = limit(is_used.fetch_one(tx.ask())).await;
        if tx.told(WRITE, is_used)? {
            tx.rollback().await;
            return Ok(false);
        }
        let clear = "TRUNCATE segments, schemas, producers, tokens; \
             UPDATE meta SET value = 1 WHERE name = 'loading'";
        let done = limit(sqlx::raw_sql(clear).execute(tx.ask())).await;
        tx.told(WRITE, done)?;
        tx.commit().await?;
        Ok(true)
    }

    pub(super) async fn fill_rows(&self, rows: &[CopyRow]) -> Result<(), StoreError> {
        let mut kinds: [Vec<serde_json::Value>; 4] = Default::default();
        for row in rows {
            let (kind, value) = as_json(row)?;
            if let Some(kind) = kinds.get_mut(kind) {
                kind.push(value);
            }
        }
        for (sql, rows) in FILL.iter().zip(kinds) {
            if !rows.is_empty() {
                let rows = serde_json::Value::Array(rows).to_string();
                retrying!(WRITE, self.try_fill(sql, &rows))?;
            }
        }
        Ok(())
    }

    async fn try_fill(&self, sql: &'static str, rows: &str) -> Result<(), StoreError> {
        let mut connection = self.database.acquire(WRITE).await?;
        let done = limit(sqlx::query(sql).bind(rows).execute(connection.ask())).await;
        connection.told(WRITE, done).map(drop)
    }

    pub(super) async fn end_filling(
        &self,
        wanted: CopyCounts,
        highest: u64,
    ) -> Result<(), StoreError> {
        retrying!(WRITE, self.try_end_filling(wanted, highest))
    }

    async fn try_end_filling(&self, wanted: CopyCounts, highest: u64) -> Result<(), StoreError> {
        let mut tx = self.database.begin().await?;
        let counts = sqlx::query(
            "SELECT (SELECT count(*) FROM schemas), (SELECT count(*) FROM segments), \
             (SELECT count(*) FROM producers), (SELECT count(*) FROM tokens)",
        );
        let counts = limit(counts.fetch_one(tx.ask())).await;
        let counts = tx.told(WRITE, counts)?;
        let number = |index: usize| -> Result<u64, StoreError> {
            let number = counts.try_get::<i64, _>(index).map(i64::cast_unsigned);
            number.map_err(self.database.failed(WRITE))
        };
        let there = CopyCounts {
            columns: number(0)?,
            segments: number(1)?,
            producers: number(2)?,
            tokens: number(3)?,
        };
        copy::check_counts(there, wanted)?;
        let numbers = sqlx::query(
            "SELECT setval(pg_get_serial_sequence('segments', 'id'), GREATEST($1, 1), $1 > 0), \
             setval(pg_get_serial_sequence('schemas', 'id'), \
             (SELECT COALESCE(max(id), 0) + 1 FROM schemas), false)",
        )
        .bind(highest.cast_signed());
        let numbers = limit(numbers.execute(tx.ask())).await;
        tx.told(WRITE, numbers)?;
        let end = "UPDATE meta SET value = value + 1 WHERE name = 'tokens_version'; \
             UPDATE meta SET value = 0 WHERE name = 'loading'";
        let done = limit(sqlx::raw_sql(end).execute(tx.ask())).await;
        tx.told(WRITE, done)?;
        tx.commit().await
    }

    pub(super) async fn read_filling(&self) -> Result<bool, StoreError> {
        let mut connection = self.database.acquire(READ).await?;
        let found = sqlx::query_scalar::<_, bool>(
            "SELECT EXISTS (SELECT 1 FROM meta WHERE name = 'loading' AND value = 1)",
        );
        let found = limit(found.fetch_one(connection.ask())).await;
        connection.told(READ, found)
    }
}

/// Column lists and segments.
async fn give_numbered(tx: &mut Tx<'_>, sink: &mut dyn RowSink) -> Result<(), StoreError> {
    let mut after = i64::MIN;
    loop {
        let page = sqlx::query(copy::COLUMNS_PAGE).bind(after).bind(PAGE);
        let page = limit(page.fetch_all(tx.ask())).await;
        let page = tx.told(READ, page)?;
        let found = page.iter().map(copy::columns).collect::<Result<Vec<_>, _>>()?;
        let Some(last) = found.last() else { break };
        after = last.id;
        sink.take(found.into_iter().map(CopyRow::Columns).collect()).await?;
    }
    after = i64::MIN;
    loop {
        let page = sqlx::query(AssertSqlSafe(copy::segments_page())).bind(after).bind(PAGE);
        let page = limit(page.fetch_all(tx.ask())).await;
        let page = tx.told(READ, page)?;
        let found = page.iter().map(copy::segment).collect::<Result<Vec<_>, _>>()?;
        let Some(last) = found.last() else { return Ok(()) };
        after = last.id;
        sink.take(found.into_iter().map(CopyRow::Segment).collect()).await?;
    }
}

/// Which statement of [`FILL`] a row is for, and the row as it reads it.
fn as_json(row: &CopyRow) -> Result<(usize, serde_json::Value), StoreError> {
    let wrong = |error: serde_json::Error| StoreError::CopyDiffers(error.to_string());
    Ok(match row {
        CopyRow::Columns(row) => {
            let hash = hex(blake3::hash(row.columns.as_bytes()).as_bytes());
            (0, serde_json::json!({ "id": row.id, "hash": hash, "columns": row.columns }))
        }
        CopyRow::Segment(row) => (1, serde_json::to_value(row).map_err(wrong)?),
        CopyRow::Producer(row) => {
            // A position may have bytes that a text of this database may not have.
            let position = row.position.as_ref().map(|position| hex(position.as_bytes()));
            let mut value = serde_json::to_value(row).map_err(wrong)?;
            value["position"] = position.into();
            (2, value)
        }
        CopyRow::Token(row) => (3, serde_json::to_value(row).map_err(wrong)?),
    })
}

const FILL: [&str; 4] = [
    "INSERT INTO schemas (id, hash, columns) OVERRIDING SYSTEM VALUE \
     SELECT id, decode(hash, 'hex'), columns FROM json_to_recordset($1::json) \
     AS r (id bigint, hash text, columns text) ON CONFLICT DO NOTHING",
    "INSERT INTO segments (id, tenant, level, object_key, object_offset, bytes, row_count, \
     arrow_bytes, time_min_ns, time_max_ns, schema_id, streams, created_ms) \
     OVERRIDING SYSTEM VALUE SELECT id, tenant, level, object_key, object_offset, bytes, \
     row_count, arrow_bytes, time_min_ns, time_max_ns, schema_id, streams, created_ms \
     FROM json_to_recordset($1::json) AS r (id bigint, tenant text, level bigint, \
     object_key text, object_offset bigint, bytes bigint, row_count bigint, arrow_bytes bigint, \
     time_min_ns bigint, time_max_ns bigint, schema_id bigint, streams text, created_ms bigint) \
     ON CONFLICT DO NOTHING",
    "INSERT INTO producers (tenant, producer, epoch, seq, position, ledger, expires_ms) \
     SELECT tenant, decode(producer, 'hex'), epoch, seq, decode(position, 'hex'), ledger, \
     expires_ms FROM json_to_recordset($1::json) AS r (tenant text, producer text, epoch bigint, \
     seq bigint, position text, ledger text, expires_ms bigint) ON CONFLICT DO NOTHING",
    "INSERT INTO tokens (id, name, tenant, scopes, only_filter, kind, value, created_ms, \
     expires_ms) SELECT id, name, tenant, scopes, only_filter, kind, decode(value, 'hex'), \
     created_ms, expires_ms FROM json_to_recordset($1::json) AS r (id text, name text, \
     tenant text, scopes text, only_filter text, kind text, value text, created_ms bigint, \
     expires_ms bigint) ON CONFLICT DO NOTHING",
];
