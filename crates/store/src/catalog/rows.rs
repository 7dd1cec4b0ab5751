//! Rows of the catalog as values and back.
//!
//! Invariant: what does not parse is [`StoreError::CatalogDamaged`], never a default.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use lodge_record::{Position, ProducerId, TenantId};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::Producer;
use crate::{LedgerEntry, LedgerRow, ProducerState, SegmentId, SegmentRef, StoreError};

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

fn get<'r, T>(row: &'r SqliteRow, column: &'static str) -> Result<T, StoreError>
where
    T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
{
    row.try_get(column).map_err(|e| StoreError::CatalogDamaged(format!("column {column}: {e}")))
}

fn unsigned(row: &SqliteRow, column: &'static str) -> Result<u64, StoreError> {
    let value: i64 = get(row, column)?;
    u64::try_from(value)
        .map_err(|_| StoreError::CatalogDamaged(format!("column {column} is {value}")))
}

pub(super) fn schema_id(row: &SqliteRow) -> Result<i64, StoreError> {
    get(row, "schema_id")
}

/// A segment from a row of [`SEGMENT_COLUMNS`].
pub(super) fn segment(row: &SqliteRow, schema: SchemaRef) -> Result<SegmentRef, StoreError> {
    let damaged = |detail: String| StoreError::CatalogDamaged(format!("a segment: {detail}"));
    let tenant: &str = get(row, "tenant")?;
    let streams: Option<&str> = get(row, "streams")?;
    let streams = streams
        .map(serde_json::from_str::<Vec<String>>)
        .transpose()
        .map_err(|e| damaged(e.to_string()))?;
    let level: i64 = get(row, "level")?;
    let object_key: &str = get(row, "object_key")?;
    Ok(SegmentRef {
        id: SegmentId(unsigned(row, "id")?),
        tenant: tenant.parse::<TenantId>().map_err(|e| damaged(e.to_string()))?,
        level: u8::try_from(level).map_err(|_| damaged(format!("level {level}")))?,
        rows: unsigned(row, "row_count")?,
        bytes: unsigned(row, "bytes")?,
        arrow_bytes: unsigned(row, "arrow_bytes")?,
        time_min_ns: get(row, "time_min_ns")?,
        time_max_ns: get(row, "time_max_ns")?,
        schema,
        streams: streams.map(Into::into),
        created_ms: get(row, "created_ms")?,
        object_key: object_key.into(),
        object_offset: unsigned(row, "object_offset")?,
    })
}

/// A producer from a row of `epoch, seq, position, ledger`.
pub(super) fn producer(row: &SqliteRow) -> Result<Producer, StoreError> {
    let damaged = |detail: String| StoreError::CatalogDamaged(format!("a producer: {detail}"));
    let epoch: i64 = get(row, "epoch")?;
    let seq: i64 = get(row, "seq")?;
    let position: Option<String> = get(row, "position")?;
    let entry: Option<&str> = get(row, "ledger")?;
    let entry = entry.map(serde_json::from_str::<LedgerEntry>).transpose();
    let state = ProducerState {
        epoch: u32::try_from(epoch).map_err(|_| damaged(format!("epoch {epoch}")))?,
        seq: seq.cast_unsigned(),
        position: position.map(Position::new).transpose().map_err(|e| damaged(e.to_string()))?,
    };
    Ok(Producer { state, entry: entry.map_err(|e| damaged(e.to_string()))? })
}

/// A source of the ledger from a row of `producer, epoch, seq, position, ledger`.
pub(super) fn ledger(row: &SqliteRow) -> Result<LedgerRow, StoreError> {
    let id: &[u8] = get(row, "producer")?;
    let id: [u8; 16] = id.try_into().map_err(|_| {
        StoreError::CatalogDamaged(format!("a producer's id has {} bytes", id.len()))
    })?;
    let Producer { state, entry } = producer(row)?;
    let producer = ProducerId::from_bytes(id);
    Ok(LedgerRow { producer, state, entry: entry.unwrap_or_default() })
}
