//! Everything that is one statement: producers, garbage, leases, nodes, tokens, sums.
//!
//! Invariant: whatever is tried again here may be done twice. Deletes pass by rows that others have
//! locked, so that no one waits for them and they wait for no one.

use std::sync::Arc;
use std::time::Duration;

use lodge_record::{ProducerId, TenantId};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Postgres, Row};

use super::PostgresCatalog;
use super::connection::limit;
use crate::catalog::rows::{self, CatalogRow, SEGMENT_COLUMNS};
use crate::catalog::{Candidates, HOLD, Lease, Node, Producer, Totals};
use crate::store::now_ms;
use crate::token::{TOKENS_MAX, Token};
use crate::{LedgerRow, SegmentRef, StoreError};

/// How long it is kept that a transaction was committed: longer than anyone asks.
const PUBLISHES_KEPT: &str = "1 hour";
/// How long it is kept that a transaction must not be committed: longer than a process may sleep
/// between an object and its transaction.
const TOMBSTONES_KEPT: &str = "30 days";
/// How long removals are kept for lists in memory; older lists are read anew.
const REMOVALS_KEPT_MS: i64 = 15 * 60 * 1_000;
/// Rows that are removed at once.
const CHUNK: u64 = 10_000;

fn limited(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

impl PostgresCatalog {
    async fn fetch(
        &self,
        action: &'static str,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, StoreError> {
        let mut connection = self.database.acquire(action).await?;
        let found = limit(query.fetch_all(connection.ask())).await;
        connection.told(action, found)
    }

    /// Gives how many rows were changed.
    async fn execute(
        &self,
        action: &'static str,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<u64, StoreError> {
        let mut connection = self.database.acquire(action).await?;
        let done = limit(query.execute(connection.ask())).await;
        Ok(connection.told(action, done)?.rows_affected())
    }

    fn column<'r, T>(&self, row: &'r PgRow, column: usize) -> Result<T, StoreError>
    where
        T: sqlx::Decode<'r, Postgres> + sqlx::Type<Postgres>,
    {
        row.try_get(column).map_err(self.database.failed("read a row"))
    }

    pub(super) async fn read_producers(
        &self,
        wanted: &[(TenantId, ProducerId)],
    ) -> Result<Vec<Option<Producer>>, StoreError> {
        let query = sqlx::query(
            "SELECT p.producer, p.epoch, p.seq, p.position, p.ledger \
             FROM unnest($1::text[], $2::bytea[]) WITH ORDINALITY AS w (tenant, producer, i) \
             LEFT JOIN producers p ON p.tenant = w.tenant AND p.producer = w.producer \
             AND (p.expires_ms IS NULL OR p.expires_ms > $3) ORDER BY w.i",
        )
        .bind(wanted.iter().map(|(tenant, _)| tenant.as_str()).collect::<Vec<_>>())
        .bind(wanted.iter().map(|(_, id)| id.to_bytes().to_vec()).collect::<Vec<_>>())
        .bind(now_ms());
        let found = self.fetch("read producers", query).await?;
        let known = |row: &PgRow| match row.opt_bytes("producer")? {
            Some(_) => rows::producer(row).map(Some),
            None => Ok(None),
        };
        found.iter().map(known).collect()
    }

    pub(super) async fn delete_producers(
        &self,
        before_ms: i64,
        limit: usize,
    ) -> Result<(u64, u64), StoreError> {
        let query = sqlx::query(
            "DELETE FROM producers WHERE ctid = ANY(ARRAY(SELECT ctid FROM producers \
             WHERE expires_ms <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED))",
        )
        .bind(before_ms)
        .bind(limited(limit));
        let removed = self.execute("forget producers", query).await?;
        let count = "SELECT count(*) FROM producers WHERE expires_ms IS NOT NULL";
        let left = self.fetch("count producers", sqlx::query(count)).await?;
        let left: i64 = left.first().map_or(Ok(0), |row| self.column(row, 0))?;
        Ok((removed, left.cast_unsigned()))
    }

    pub(super) async fn read_ledger(
        &self,
        tenant: &TenantId,
        after: Option<ProducerId>,
        limit: usize,
    ) -> Result<Vec<LedgerRow>, StoreError> {
        let query = sqlx::query(
            "SELECT producer, epoch, seq, position, ledger FROM producers \
             WHERE tenant = $1 AND producer > $2 AND ledger IS NOT NULL ORDER BY producer LIMIT $3",
        )
        .bind(tenant.as_str())
        .bind(after.map_or(Vec::new(), |producer| producer.to_bytes().to_vec()))
        .bind(limited(limit));
        self.fetch("read the ledger", query).await?.iter().map(rows::ledger).collect()
    }

    /// Segments of rows that were just read; one whose column list is gone is gone itself.
    async fn segments(
        &self,
        action: &'static str,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<Vec<Arc<SegmentRef>>, StoreError> {
        let found = self.fetch(action, query).await?;
        let found: Vec<&PgRow> = found.iter().collect();
        Ok(self.parse(&found).await?.unwrap_or_default())
    }

    pub(super) async fn segments_of(
        &self,
        object_key: &str,
    ) -> Result<Vec<Arc<SegmentRef>>, StoreError> {
        let sql =
            format!("SELECT {SEGMENT_COLUMNS} FROM segments WHERE object_key = $1 ORDER BY id");
        self.segments("look for an object", sqlx::query(AssertSqlSafe(sql)).bind(object_key)).await
    }

    pub(super) async fn read_candidates(
        &self,
        which: Candidates,
        limit: usize,
    ) -> Result<Vec<Arc<SegmentRef>>, StoreError> {
        let such = match which {
            Candidates::L0 => "level = 0 AND $2 > 0",
            Candidates::BuiltBelow(_) => "level > 0 AND arrow_bytes < $2",
        };
        let below = match which {
            Candidates::L0 => i64::MAX,
            Candidates::BuiltBelow(bytes) => i64::try_from(bytes).unwrap_or(i64::MAX),
        };
        let sql = format!(
            "SELECT {SEGMENT_COLUMNS} FROM segments WHERE {such} ORDER BY tenant, id LIMIT $1"
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(limited(limit)).bind(below);
        self.segments("list segments to build", query).await
    }

    pub(super) async fn read_names(&self, keys: &[String]) -> Result<Vec<bool>, StoreError> {
        let query = sqlx::query(
            "SELECT EXISTS (SELECT 1 FROM segments s WHERE s.object_key = w.key) \
             OR EXISTS (SELECT 1 FROM garbage g WHERE g.object_key = w.key) \
             FROM unnest($1::text[]) WITH ORDINALITY AS w (key, i) ORDER BY w.i",
        )
        .bind(keys);
        let found = self.fetch("look for objects", query).await?;
        found.iter().map(|row| self.column(row, 0)).collect()
    }

    pub(super) async fn read_garbage(
        &self,
        before_ms: i64,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        let query = sqlx::query(
            "SELECT object_key FROM garbage WHERE since_ms <= $1 AND NOT EXISTS \
             (SELECT 1 FROM leases WHERE name = $3 AND expires > clock_timestamp()) \
             ORDER BY since_ms LIMIT $2",
        )
        .bind(before_ms)
        .bind(limited(limit))
        .bind(HOLD);
        let found = self.fetch("list the garbage", query).await?;
        found.iter().map(|row| self.column(row, 0)).collect()
    }

    pub(super) async fn delete_garbage(&self, keys: &[String]) -> Result<(), StoreError> {
        let query = sqlx::query(
            "DELETE FROM garbage WHERE ctid = ANY(ARRAY(SELECT ctid FROM garbage \
             WHERE object_key = ANY($1) FOR UPDATE SKIP LOCKED))",
        )
        .bind(keys);
        self.execute("take out of the garbage", query).await.map(drop)
    }

    /// A list that a transaction under way has just begun to use is locked, or the database refuses
    /// to remove it: then it is tried at the next occasion.
    pub(super) async fn delete_schemas(&self) -> Result<(), StoreError> {
        let query = sqlx::query(
            "DELETE FROM schemas WHERE ctid = ANY(ARRAY(SELECT ctid FROM schemas s \
             WHERE NOT EXISTS (SELECT 1 FROM segments WHERE schema_id = s.id) \
             FOR UPDATE SKIP LOCKED)) RETURNING id",
        );
        let unused = match self.fetch("remove unused column lists", query).await {
            Err(StoreError::Postgres { source, .. })
                if source.as_database_error().is_some_and(|e| e.is_foreign_key_violation()) =>
            {
                return Ok(());
            }
            found => found?,
        };
        for row in &unused {
            let id = row.int("id")?;
            self.with_schemas(|known| {
                known.by_id.remove(&id);
                known.ids.retain(|_, of| *of != id);
            });
        }
        Ok(())
    }

    pub(super) async fn delete_publishes(&self) -> Result<(), StoreError> {
        loop {
            let sql = format!(
                "DELETE FROM publishes WHERE ctid = ANY(ARRAY(SELECT ctid FROM publishes \
                 WHERE at < now() - interval '{PUBLISHES_KEPT}' \
                 AND (committed OR at < now() - interval '{TOMBSTONES_KEPT}') \
                 LIMIT {CHUNK} FOR UPDATE SKIP LOCKED))"
            );
            let query = sqlx::query(AssertSqlSafe(sql));
            if self.execute("forget old transactions", query).await? < CHUNK {
                return Ok(());
            }
        }
    }

    /// In one statement, so that a reader sees that they are forgotten or sees them.
    pub(super) async fn delete_removals(&self) -> Result<(), StoreError> {
        let query = sqlx::query(
            "WITH last AS (SELECT max(removed) AS removed FROM removals WHERE removed_ms < $1), \
             gone AS (DELETE FROM removals r USING last WHERE r.removed <= last.removed) \
             UPDATE meta SET value = GREATEST(value, last.removed::text::bigint + 1) FROM last \
             WHERE name = 'removals_pruned' AND last.removed IS NOT NULL",
        )
        .bind(now_ms().saturating_sub(REMOVALS_KEPT_MS));
        self.execute("forget old removals", query).await.map(drop)
    }

    /// A row that is locked is held, or about to be.
    pub(super) async fn take_lease(
        &self,
        name: &str,
        holder: &str,
        lasts: Duration,
    ) -> Result<Option<Lease>, StoreError> {
        let query = sqlx::query(
            "WITH free AS ( \
               SELECT name FROM leases WHERE name = $1 AND expires <= clock_timestamp() \
               FOR UPDATE SKIP LOCKED \
             ), taken AS ( \
               UPDATE leases l SET holder = $2, fence = l.fence + 1, \
                 expires = clock_timestamp() + make_interval(secs => $3) \
               FROM free WHERE l.name = free.name RETURNING l.fence \
             ), made AS ( \
               INSERT INTO leases (name, holder, fence, expires) \
               SELECT $1, $2, 1, clock_timestamp() + make_interval(secs => $3) \
               WHERE NOT EXISTS (SELECT 1 FROM leases WHERE name = $1) \
               ON CONFLICT DO NOTHING RETURNING fence \
             ) SELECT fence FROM taken UNION ALL SELECT fence FROM made",
        )
        .bind(name)
        .bind(holder)
        .bind(lasts.as_secs_f64());
        let taken = self.fetch("take a lease", query).await?;
        let lease =
            |row: &PgRow| Ok(Lease { name: name.to_owned(), fence: row.unsigned("fence")? });
        taken.first().map(lease).transpose()
    }

    /// `None`: it ends now. False if another holds the work.
    pub(super) async fn extend_lease(
        &self,
        lease: &Lease,
        lasts: Option<Duration>,
    ) -> Result<bool, StoreError> {
        let query = sqlx::query(
            "UPDATE leases SET expires = CASE WHEN $3::float8 IS NULL THEN '-infinity' \
             ELSE clock_timestamp() + make_interval(secs => $3) END \
             WHERE name = $1 AND fence = $2",
        )
        .bind(&lease.name)
        .bind(lease.fence.cast_signed())
        .bind(lasts.map(|lasts| lasts.as_secs_f64()));
        Ok(self.execute("change a lease", query).await? == 1)
    }

    pub(super) async fn put_node(&self, node: &Node, lasts: Duration) -> Result<(), StoreError> {
        let query = sqlx::query(
            "INSERT INTO nodes (name, address, roles, version, started_ms, expires) \
             VALUES ($1, $2, $3, $4, $5, clock_timestamp() + make_interval(secs => $6)) \
             ON CONFLICT (name) DO UPDATE SET address = excluded.address, roles = excluded.roles, \
             version = excluded.version, started_ms = excluded.started_ms, \
             expires = excluded.expires",
        )
        .bind(&node.name)
        .bind(&node.address)
        .bind(&node.roles)
        .bind(&node.version)
        .bind(node.started_ms)
        .bind(lasts.as_secs_f64());
        self.execute("announce a node", query).await.map(drop)
    }

    pub(super) async fn delete_node(&self, name: &str) -> Result<(), StoreError> {
        let query = sqlx::query("DELETE FROM nodes WHERE name = $1").bind(name);
        self.execute("remove a node", query).await.map(drop)
    }

    /// Those that did not say that they went.
    pub(super) async fn delete_nodes(&self) -> Result<(), StoreError> {
        let gone = "DELETE FROM nodes WHERE expires < now() - interval '1 hour'";
        self.execute("forget nodes", sqlx::query(gone)).await.map(drop)
    }

    pub(super) async fn read_nodes(&self) -> Result<Vec<Node>, StoreError> {
        let query = sqlx::query(
            "SELECT name, address, roles, version, started_ms FROM nodes \
             WHERE expires > clock_timestamp() ORDER BY name",
        );
        self.fetch("list nodes", query).await?.iter().map(rows::node).collect()
    }

    pub(super) async fn read_totals(&self) -> Result<(Totals, Totals), StoreError> {
        let query = sqlx::query(
            "SELECT level > 0, COUNT(*), SUM(row_count)::bigint, SUM(bytes)::bigint \
             FROM segments GROUP BY 1",
        );
        let mut totals = (Totals::default(), Totals::default());
        for row in &self.fetch("sum up segments", query).await? {
            let number = |index| self.column::<i64>(row, index).map(i64::cast_unsigned);
            let place = if self.column(row, 0)? { &mut totals.1 } else { &mut totals.0 };
            *place = Totals { segments: number(1)?, rows: number(2)?, bytes: number(3)? };
        }
        Ok(totals)
    }

    pub(super) async fn read_number(&self) -> Result<u64, StoreError> {
        // The update changes nothing; it makes RETURNING give the number that was there.
        let query = sqlx::query(
            "INSERT INTO meta (name, value) VALUES ('catalog_number', $1) \
             ON CONFLICT (name) DO UPDATE SET value = meta.value RETURNING value",
        )
        .bind((uuid::Uuid::new_v4().as_u64_pair().0 >> 1).cast_signed());
        let rows = self.fetch("number the catalog", query).await?;
        let row = rows.first().ok_or(StoreError::CatalogDamaged("it has no number".to_owned()))?;
        self.column::<i64>(row, 0).map(i64::cast_unsigned)
    }

    pub(super) async fn insert_token(&self, token: &Token) -> Result<bool, StoreError> {
        let (kind, value) = rows::credential(&token.credential);
        // Whoever changes tokens has this row: they are counted, and the version rises, one by one.
        let mut tx = self.database.begin().await?;
        let version =
            sqlx::query("UPDATE meta SET value = value + 1 WHERE name = 'tokens_version'");
        let version = limit(version.execute(tx.ask())).await;
        tx.told("raise the version of the tokens", version)?;
        let count = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM tokens");
        let count = limit(count.fetch_one(tx.ask())).await;
        if tx.told("count the tokens", count)? >= TOKENS_MAX as i64 {
            tx.rollback().await;
            return Err(StoreError::TooManyTokens);
        }
        let added = sqlx::query(
            "INSERT INTO tokens (id, name, tenant, scopes, only_filter, kind, value, created_ms, \
             expires_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING",
        )
        .bind(&token.id)
        .bind(&token.name)
        .bind(token.tenant.as_str())
        .bind(token.scopes.to_string())
        .bind(&token.only)
        .bind(kind)
        .bind(value)
        .bind(token.created_ms)
        .bind(token.expires_ms)
        .execute(tx.ask());
        let added = limit(added).await;
        if tx.told("add a token", added)?.rows_affected() == 0 {
            tx.rollback().await;
            return Ok(false);
        }
        tx.commit().await?;
        Ok(true)
    }

    pub(super) async fn delete_token(&self, id: &str) -> Result<bool, StoreError> {
        let query = sqlx::query(
            "WITH gone AS (DELETE FROM tokens WHERE id = $1 RETURNING 1) \
             UPDATE meta SET value = value + 1 WHERE name = 'tokens_version' \
             AND EXISTS (SELECT 1 FROM gone)",
        )
        .bind(id);
        Ok(self.execute("revoke a token", query).await? == 1)
    }

    pub(super) async fn read_tokens(
        &self,
        known: Option<u64>,
    ) -> Result<Option<(u64, Vec<Token>)>, StoreError> {
        let action = "read the tokens";
        // Most who ask know them already.
        let version = "SELECT value FROM meta WHERE name = 'tokens_version'";
        let version = self.fetch(action, sqlx::query(version)).await?;
        if known.is_some() && version.first().map(|row| row.unsigned("value")).transpose()? == known
        {
            return Ok(None);
        }
        let sql = format!(
            "SELECT m.value AS version, t.* FROM meta m \
             LEFT JOIN (SELECT {} FROM tokens) AS t ON true \
             WHERE m.name = 'tokens_version' ORDER BY t.created_ms, t.id",
            rows::TOKEN_COLUMNS
        );
        let found = self.fetch(action, sqlx::query(AssertSqlSafe(sql))).await?;
        let none = || StoreError::CatalogDamaged("the version of the tokens is missing".to_owned());
        let version = found.first().ok_or_else(none)?.unsigned("version")?;
        let is_token = |row: &&PgRow| row.opt_bytes("id").is_ok_and(|id| id.is_some());
        let tokens = found.iter().filter(is_token).map(rows::token).collect::<Result<_, _>>()?;
        Ok(Some((version, tokens)))
    }
}
