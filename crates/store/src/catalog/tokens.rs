//! Tokens in SQLite.
//!
//! Invariant: whatever changes the tokens raises their version in the same transaction, so that a
//! server that knows the version knows the tokens.

use sqlx::AssertSqlSafe;

use super::sqlite::failed;
use super::transaction::WriteTx;
use super::{SqliteCatalog, rows};
use crate::StoreError;
use crate::token::{TOKENS_MAX, Token};

impl SqliteCatalog {
    pub(super) async fn insert_token(&self, token: &Token) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM tokens")
            .fetch_one(&mut *tx)
            .await
            .map_err(failed("count the tokens"))?;
        if count >= TOKENS_MAX as i64 {
            tx.rollback().await?;
            return Err(StoreError::TooManyTokens);
        }
        let (kind, value) = rows::credential(&token.credential);
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
        .execute(&mut *tx)
        .await
        .map_err(failed("add a token"))?;
        finish(tx, added.rows_affected()).await
    }

    pub(super) async fn delete_token(&self, id: &str) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let removed = sqlx::query("DELETE FROM tokens WHERE id = $1")
            .bind(id)
            .execute(&mut *tx)
            .await
            .map_err(failed("revoke a token"))?;
        finish(tx, removed.rows_affected()).await
    }

    pub(super) async fn select_tokens(
        &self,
        known: Option<u64>,
    ) -> Result<Option<(u64, Vec<Token>)>, StoreError> {
        // One read transaction: the tokens are those of the version.
        let mut tx = self.readers().begin().await.map_err(failed("begin to read"))?;
        let version: i64 =
            sqlx::query_scalar("SELECT value FROM meta WHERE name = 'tokens_version'")
                .fetch_one(&mut *tx)
                .await
                .map_err(failed("read the version of the tokens"))?;
        let version = version.cast_unsigned();
        if known == Some(version) {
            return Ok(None);
        }
        let sql = format!("SELECT {} FROM tokens ORDER BY created_ms, id", rows::TOKEN_COLUMNS);
        let found = sqlx::query(AssertSqlSafe(sql))
            .fetch_all(&mut *tx)
            .await
            .map_err(failed("read the tokens"))?;
        let tokens = found.iter().map(rows::token).collect::<Result<_, _>>()?;
        Ok(Some((version, tokens)))
    }
}

async fn finish(mut tx: WriteTx, changed: u64) -> Result<bool, StoreError> {
    if changed == 0 {
        tx.rollback().await?;
        return Ok(false);
    }
    sqlx::query("UPDATE meta SET value = value + 1 WHERE name = 'tokens_version'")
        .execute(&mut *tx)
        .await
        .map_err(failed("raise the version of the tokens"))?;
    tx.commit().await?;
    Ok(true)
}
