//! Rows of the catalog as values and back, the same for every database.
//!
//! Invariant: what does not parse is [`StoreError::CatalogDamaged`], never a default.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use lodge_record::{Position, ProducerId, TenantId};
use sqlx::Row;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;

use super::{Node, Producer};
use crate::token::{Credential, Scopes, Token};
use crate::{LedgerEntry, LedgerRow, ProducerState, SegmentId, SegmentRef, StoreError};

/// A row of either database.
pub(super) trait CatalogRow {
    /// A number.
    fn int(&self, column: &'static str) -> Result<i64, StoreError>;
    /// A number, or none.
    fn opt_int(&self, column: &'static str) -> Result<Option<i64>, StoreError>;
    /// Bytes; a text is its UTF-8.
    fn bytes(&self, column: &'static str) -> Result<&[u8], StoreError>;
    /// Bytes or the UTF-8 of a text, or none.
    fn opt_bytes(&self, column: &'static str) -> Result<Option<&[u8]>, StoreError>;

    /// A text.
    fn text(&self, column: &'static str) -> Result<&str, StoreError> {
        utf8(column, self.bytes(column)?)
    }

    /// A text, or none.
    fn opt_text(&self, column: &'static str) -> Result<Option<&str>, StoreError> {
        self.opt_bytes(column)?.map(|bytes| utf8(column, bytes)).transpose()
    }

    /// A number that is not negative.
    fn unsigned(&self, column: &'static str) -> Result<u64, StoreError> {
        let value = self.int(column)?;
        u64::try_from(value)
            .map_err(|_| StoreError::CatalogDamaged(format!("column {column} is {value}")))
    }
}

fn utf8<'b>(column: &'static str, bytes: &'b [u8]) -> Result<&'b str, StoreError> {
    std::str::from_utf8(bytes).map_err(|e| StoreError::CatalogDamaged(format!("{column}: {e}")))
}

/// Both databases give a text as the bytes it is stored in, and neither checks again what the
/// column's type says.
macro_rules! catalog_row {
    ($($row:ty),*) => {$(
        impl CatalogRow for $row {
            fn int(&self, column: &'static str) -> Result<i64, StoreError> {
                self.try_get(column).map_err(|e| unreadable(column, &e))
            }

            fn opt_int(&self, column: &'static str) -> Result<Option<i64>, StoreError> {
                self.try_get(column).map_err(|e| unreadable(column, &e))
            }

            fn bytes(&self, column: &'static str) -> Result<&[u8], StoreError> {
                self.try_get_unchecked(column).map_err(|e| unreadable(column, &e))
            }

            fn opt_bytes(&self, column: &'static str) -> Result<Option<&[u8]>, StoreError> {
                self.try_get_unchecked(column).map_err(|e| unreadable(column, &e))
            }
        }
    )*};
}

catalog_row!(SqliteRow, PgRow);

fn unreadable(column: &'static str, error: &sqlx::Error) -> StoreError {
    StoreError::CatalogDamaged(format!("column {column}: {error}"))
}

/// The columns of a segment's row, in the order in which [`segment`] reads them.
pub(super) const SEGMENT_COLUMNS: &str = "id, tenant, level, object_key, object_offset, bytes, \
     row_count, arrow_bytes, time_min_ns, time_max_ns, schema_id, streams, created_ms";

/// A column list as the catalog stores it: JSON, `[["name", type number], …]`.
pub(super) fn schema_text(schema: &SchemaRef) -> Result<String, StoreError> {
    let columns = schema
        .fields()
        .iter()
        .map(|f| Ok((f.name().as_str(), lodge_segment::type_number(f)?)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(StoreError::Encode)?;
    serde_json::to_string(&columns).map_err(|e| StoreError::CatalogDamaged(e.to_string()))
}

pub(super) fn schema_of(text: &str) -> Result<SchemaRef, StoreError> {
    let damaged = |detail: String| StoreError::CatalogDamaged(format!("a column list: {detail}"));
    let columns: Vec<(String, u8)> =
        serde_json::from_str(text).map_err(|e| damaged(e.to_string()))?;
    let field = |(name, number): (String, u8)| {
        lodge_segment::field_of(&name, number)
            .ok_or_else(|| damaged(format!("column {name} has type number {number}")))
    };
    let fields = columns.into_iter().map(field).collect::<Result<Vec<Field>, _>>()?;
    Ok(Arc::new(Schema::new(fields)))
}

pub(super) fn streams_text(streams: Option<&Arc<[String]>>) -> Option<String> {
    streams.and_then(|list| serde_json::to_string(list.as_ref()).ok())
}

pub(super) fn schema_id(row: &impl CatalogRow) -> Result<i64, StoreError> {
    row.int("schema_id")
}

/// A segment from a row of [`SEGMENT_COLUMNS`].
pub(super) fn segment(row: &impl CatalogRow, schema: SchemaRef) -> Result<SegmentRef, StoreError> {
    let damaged = |detail: String| StoreError::CatalogDamaged(format!("a segment: {detail}"));
    let tenant = row.text("tenant")?;
    let streams = row
        .opt_text("streams")?
        .map(serde_json::from_str::<Vec<String>>)
        .transpose()
        .map_err(|e| damaged(e.to_string()))?;
    let level = row.int("level")?;
    let object_key = row.text("object_key")?;
    Ok(SegmentRef {
        id: SegmentId(row.unsigned("id")?),
        tenant: tenant.parse::<TenantId>().map_err(|e| damaged(e.to_string()))?,
        level: u8::try_from(level).map_err(|_| damaged(format!("level {level}")))?,
        rows: row.unsigned("row_count")?,
        bytes: row.unsigned("bytes")?,
        arrow_bytes: row.unsigned("arrow_bytes")?,
        time_min_ns: row.int("time_min_ns")?,
        time_max_ns: row.int("time_max_ns")?,
        schema,
        streams: streams.map(Into::into),
        created_ms: row.int("created_ms")?,
        object_key: object_key.into(),
        object_offset: row.unsigned("object_offset")?,
    })
}

/// A producer from a row of `epoch, seq, position, ledger`.
pub(super) fn producer(row: &impl CatalogRow) -> Result<Producer, StoreError> {
    let damaged = |detail: String| StoreError::CatalogDamaged(format!("a producer: {detail}"));
    let (epoch, seq) = (row.int("epoch")?, row.int("seq")?);
    let position = row.opt_text("position")?;
    let entry = row.opt_text("ledger")?;
    let entry = entry.map(serde_json::from_str::<LedgerEntry>).transpose();
    let state = ProducerState {
        epoch: u32::try_from(epoch).map_err(|_| damaged(format!("epoch {epoch}")))?,
        seq: seq.cast_unsigned(),
        position: position.map(Position::new).transpose().map_err(|e| damaged(e.to_string()))?,
    };
    Ok(Producer { state, entry: entry.map_err(|e| damaged(e.to_string()))? })
}

/// A source of the ledger from a row of `producer, epoch, seq, position, ledger`.
pub(super) fn ledger(row: &impl CatalogRow) -> Result<LedgerRow, StoreError> {
    let id = row.bytes("producer")?;
    let id: [u8; 16] = id.try_into().map_err(|_| {
        StoreError::CatalogDamaged(format!("a producer's id has {} bytes", id.len()))
    })?;
    let Producer { state, entry } = producer(row)?;
    let producer = ProducerId::from_bytes(id);
    Ok(LedgerRow { producer, state, entry: entry.unwrap_or_default() })
}

/// What a credential is stored as: its kind and its value.
pub(super) fn credential(credential: &Credential) -> (&'static str, &[u8]) {
    match credential {
        Credential::Secret(hash) => ("secret", hash),
        Credential::Subject(name) => ("subject", name.as_bytes()),
        Credential::SharedKey(key) => ("shared_key", key.as_bytes()),
    }
}

/// The columns of a token's row, as [`token`] reads them.
pub(super) const TOKEN_COLUMNS: &str =
    "id, name, tenant, scopes, only_filter, kind, value, created_ms, expires_ms";

/// A token from a row of [`TOKEN_COLUMNS`].
pub(super) fn token(row: &impl CatalogRow) -> Result<Token, StoreError> {
    let id = row.text("id")?;
    let damaged = |what: &str| StoreError::CatalogDamaged(format!("token {id}: {what}"));
    let value = row.bytes("value")?;
    let text = || String::from_utf8(value.to_vec()).map_err(|_| damaged("no text"));
    let credential = match row.text("kind")? {
        "secret" => Credential::Secret(value.try_into().map_err(|_| damaged("no hash"))?),
        "subject" => Credential::Subject(text()?),
        "shared_key" => Credential::SharedKey(text()?),
        other => return Err(damaged(&format!("unknown kind {other}"))),
    };
    let tenant: TenantId = row.text("tenant")?.parse().map_err(|_| damaged("no tenant"))?;
    let scopes: Scopes = row.text("scopes")?.parse().map_err(|_| damaged("no scopes"))?;
    Ok(Token {
        id: id.to_owned(),
        name: row.text("name")?.to_owned(),
        tenant,
        scopes,
        only: row.opt_text("only_filter")?.map(str::to_owned),
        credential,
        created_ms: row.int("created_ms")?,
        expires_ms: row.opt_int("expires_ms")?,
    })
}

/// A node from a row of `name, address, roles, version, started_ms`.
pub(super) fn node(row: &impl CatalogRow) -> Result<Node, StoreError> {
    Ok(Node {
        name: row.text("name")?.to_owned(),
        address: row.text("address")?.to_owned(),
        roles: row.text("roles")?.to_owned(),
        version: row.text("version")?.to_owned(),
        started_ms: row.int("started_ms")?,
    })
}
