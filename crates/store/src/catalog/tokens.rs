//! Tokens in SQLite.
//!
//! Invariant: whatever changes the tokens raises their version in the same transaction, so that a
//! server that knows the version knows the tokens.

use lodge_record::TenantId;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::SqliteCatalog;
use super::sqlite::failed;
use super::transaction::WriteTx;
use crate::StoreError;
use crate::token::{Credential, Scopes, TOKENS_MAX, Token};

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
        let (kind, value): (_, &[u8]) = match &token.credential {
            Credential::Secret(hash) => ("secret", hash),
            Credential::Subject(name) => ("subject", name.as_bytes()),
            Credential::SharedKey(key) => ("shared_key", key.as_bytes()),
        };
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
        let rows = sqlx::query(
            "SELECT id, name, tenant, scopes, only_filter, kind, value, created_ms, expires_ms \
             FROM tokens ORDER BY created_ms, id",
        )
        .fetch_all(&mut *tx)
        .await
        .map_err(failed("read the tokens"))?;
        let tokens = rows.iter().map(token).collect::<Result<_, _>>()?;
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

fn token(row: &SqliteRow) -> Result<Token, StoreError> {
    let get = failed("read a token");
    let read = || -> Result<_, sqlx::Error> {
        let texts: [String; 5] = [
            row.try_get("id")?,
            row.try_get("name")?,
            row.try_get("tenant")?,
            row.try_get("scopes")?,
            row.try_get("kind")?,
        ];
        let only: Option<String> = row.try_get("only_filter")?;
        let value: Vec<u8> = row.try_get("value")?;
        let times: (i64, Option<i64>) = (row.try_get("created_ms")?, row.try_get("expires_ms")?);
        Ok((texts, only, value, times))
    };
    let ([id, name, tenant, scopes, kind], only, value, (created_ms, expires_ms)) =
        read().map_err(get)?;
    let damaged = |what: &str| StoreError::CatalogDamaged(format!("token {id}: {what}"));
    let text = |value: Vec<u8>| String::from_utf8(value).map_err(|_| damaged("no text"));
    let credential = match kind.as_str() {
        "secret" => Credential::Secret(value.try_into().map_err(|_| damaged("no hash"))?),
        "subject" => Credential::Subject(text(value)?),
        "shared_key" => Credential::SharedKey(text(value)?),
        other => return Err(damaged(&format!("unknown kind {other}"))),
    };
    let tenant: TenantId = tenant.parse().map_err(|_| damaged("no tenant"))?;
    let scopes: Scopes = scopes.parse().map_err(|_| damaged("no scopes"))?;
    Ok(Token { id, name, tenant, scopes, only, credential, created_ms, expires_ms })
}
