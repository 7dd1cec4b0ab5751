//! Leases and nodes in SQLite. One process has the file, so leases only keep its own tasks apart;
//! what they promise is the same as in a cluster.
//!
//! Invariant: rows stay, so that a fence is never used again.

use std::time::Duration;

use super::sqlite::failed;
use super::transaction::WriteTx;
use super::{Lease, Node, SqliteCatalog, rows};
use crate::StoreError;
use crate::store::now_ms;

fn until(lasts: Duration) -> i64 {
    now_ms().saturating_add(i64::try_from(lasts.as_millis()).unwrap_or(i64::MAX))
}

impl SqliteCatalog {
    pub(super) async fn take_lease(
        &self,
        name: &str,
        holder: &str,
        lasts: Duration,
    ) -> Result<Option<Lease>, StoreError> {
        let mut tx = self.begin().await?;
        let fence: Option<i64> = sqlx::query_scalar(
            "INSERT INTO leases (name, holder, fence, expires_ms) VALUES ($1, $2, 1, $3) \
             ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, fence = fence + 1, \
             expires_ms = excluded.expires_ms WHERE expires_ms <= $4 RETURNING fence",
        )
        .bind(name)
        .bind(holder)
        .bind(until(lasts))
        .bind(now_ms())
        .fetch_optional(&mut *tx)
        .await
        .map_err(failed("take a lease"))?;
        tx.commit().await?;
        Ok(fence.map(|fence| Lease { name: name.to_owned(), fence: fence.cast_unsigned() }))
    }

    /// Changes the end of a lease; false if another holds the work.
    pub(super) async fn lease_until(&self, lease: &Lease, ms: i64) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let done = sqlx::query("UPDATE leases SET expires_ms = $1 WHERE name = $2 AND fence = $3")
            .bind(ms)
            .bind(&lease.name)
            .bind(lease.fence.cast_signed())
            .execute(&mut *tx)
            .await
            .map_err(failed("change a lease"))?;
        tx.commit().await?;
        Ok(done.rows_affected() == 1)
    }

    pub(super) async fn renew_lease(
        &self,
        lease: &Lease,
        lasts: Duration,
    ) -> Result<bool, StoreError> {
        self.lease_until(lease, until(lasts)).await
    }
}

impl SqliteCatalog {
    pub(super) async fn put_node(&self, node: &Node, lasts: Duration) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query("DELETE FROM nodes WHERE expires_ms <= $1 OR name = $2")
            .bind(now_ms())
            .bind(&node.name)
            .execute(&mut *tx)
            .await
            .map_err(failed("announce a node"))?;
        sqlx::query(
            "INSERT INTO nodes (name, address, roles, version, started_ms, expires_ms) \
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(&node.name)
        .bind(&node.address)
        .bind(&node.roles)
        .bind(&node.version)
        .bind(node.started_ms)
        .bind(until(lasts))
        .execute(&mut *tx)
        .await
        .map_err(failed("announce a node"))?;
        tx.commit().await
    }

    pub(super) async fn delete_node(&self, name: &str) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query("DELETE FROM nodes WHERE name = $1")
            .bind(name)
            .execute(&mut *tx)
            .await
            .map_err(failed("remove a node"))?;
        tx.commit().await
    }

    pub(super) async fn read_nodes(&self) -> Result<Vec<Node>, StoreError> {
        let found = sqlx::query(
            "SELECT name, address, roles, version, started_ms FROM nodes \
             WHERE expires_ms > $1 ORDER BY name",
        )
        .bind(now_ms())
        .fetch_all(self.readers())
        .await
        .map_err(failed("list nodes"))?;
        found.iter().map(rows::node).collect()
    }
}

/// Whether nobody else has got the work.
pub(super) async fn is_held(tx: &mut WriteTx, lease: &Lease) -> Result<bool, StoreError> {
    sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM leases WHERE name = $1 AND fence = $2)")
        .bind(&lease.name)
        .bind(lease.fence.cast_signed())
        .fetch_one(&mut **tx)
        .await
        .map_err(failed("look at a lease"))
}
