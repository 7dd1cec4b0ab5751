//! A writing transaction that leaves nothing behind, however it ends.
//!
//! sqlx counts the depth of transactions itself, and after a COMMIT that fails (SQLite has then
//! rolled back by itself, as on a full disk) its count stays wrong, and no transaction begins on
//! that connection any more. Here the statements are plain, and a connection whose transaction did
//! not end as it should is closed: the pool opens another.

use std::ops::{Deref, DerefMut};

use sqlx::pool::PoolConnection;
use sqlx::sqlite::SqlitePool;
use sqlx::{Sqlite, SqliteConnection};

use crate::StoreError;

/// A transaction that holds the write lock. Dropped without an end it is rolled back.
#[derive(Debug)]
pub(super) struct WriteTx {
    connection: PoolConnection<Sqlite>,
    ended: bool,
}

impl WriteTx {
    pub(super) async fn begin(pool: &SqlitePool) -> Result<Self, StoreError> {
        let action = "begin a transaction";
        let failed = |source| StoreError::Catalog { action, source };
        let connection = pool.acquire().await.map_err(failed)?;
        let mut tx = Self { connection, ended: false };
        // Takes the write lock at once: a transaction that first reads and then writes could
        // otherwise find that it may not.
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *tx.connection).await.map_err(failed)?;
        Ok(tx)
    }

    pub(super) async fn commit(self) -> Result<(), StoreError> {
        self.end("COMMIT", "commit a transaction").await
    }

    pub(super) async fn rollback(self) -> Result<(), StoreError> {
        self.end("ROLLBACK", "roll a transaction back").await
    }

    async fn end(mut self, sql: &'static str, action: &'static str) -> Result<(), StoreError> {
        let done = sqlx::query(sql).execute(&mut *self.connection).await;
        self.ended = done.is_ok();
        done.map(|_| ()).map_err(|source| StoreError::Catalog { action, source })
    }
}

impl Drop for WriteTx {
    fn drop(&mut self) {
        if !self.ended {
            self.connection.close_on_drop();
        }
    }
}

impl Deref for WriteTx {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.connection
    }
}

impl DerefMut for WriteTx {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }
}
