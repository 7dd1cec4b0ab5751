//! The rows of a catalog as they leave it and enter another: of either database, into either.
//!
//! What is copied is what the records mean: column lists, segments, producers with their ledger,
//! tokens. What only the processes of one installation know of each other is not: leases, nodes,
//! the garbage, transactions of the last hour. A new catalog gets a number of its own.
//!
//! Invariants:
//! - rows come out of one transaction, so they are of one moment;
//! - numbers stay as they are: segments keep their order, and none is used again;
//! - these are names of persisted members: docs/backup.md has them, and they stay.

use serde::{Deserialize, Serialize};

use super::rows::{CatalogRow, SEGMENT_COLUMNS};
use crate::StoreError;

/// Rows that are read and given on at once.
pub(super) const PAGE: i64 = 1_000;

/// A row of the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CopyRow {
    /// A column list.
    Columns(ColumnsRow),
    /// A segment.
    Segment(SegmentRow),
    /// A producer and its entry in the ledger.
    Producer(ProducerRow),
    /// A token.
    Token(TokenRow),
}

/// A column list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnsRow {
    /// Its number, by which segments name it.
    pub id: i64,
    /// JSON: `[["name", type number], …]`.
    pub columns: String,
}

/// A segment; members as [`super::NewSegment`] has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "they are the columns of the table")]
pub struct SegmentRow {
    pub id: i64,
    pub tenant: String,
    pub level: i64,
    pub object_key: String,
    pub object_offset: i64,
    pub bytes: i64,
    pub row_count: i64,
    pub arrow_bytes: i64,
    pub time_min_ns: i64,
    pub time_max_ns: i64,
    pub schema_id: i64,
    pub streams: Option<String>,
    pub created_ms: i64,
}

/// A producer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerRow {
    /// Whose it is.
    pub tenant: String,
    /// Its id in hex.
    pub producer: String,
    /// Its epoch.
    pub epoch: i64,
    /// Its sequence; the bits of an unsigned number.
    pub seq: i64,
    /// Its position.
    pub position: Option<String>,
    /// Its entry in the ledger, JSON.
    pub ledger: Option<String>,
    /// From when it counts as unknown.
    pub expires_ms: Option<i64>,
}

/// A token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "they are the columns of the table")]
pub struct TokenRow {
    pub id: String,
    pub name: String,
    pub tenant: String,
    pub scopes: String,
    pub only_filter: Option<String>,
    pub kind: String,
    /// The hash of its secret, a name of a certificate or a shared key, in hex.
    pub value: String,
    pub created_ms: i64,
    pub expires_ms: Option<i64>,
}

// Written by hand: a shared key must not get into a log.
impl std::fmt::Debug for TokenRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokenRow({:?})", self.id)
    }
}

/// How many rows of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyCounts {
    /// Column lists.
    pub columns: u64,
    /// Segments.
    pub segments: u64,
    /// Producers.
    pub producers: u64,
    /// Tokens.
    pub tokens: u64,
}

impl CopyCounts {
    /// Counts one more row.
    pub fn add(&mut self, row: &CopyRow) {
        let count = match row {
            CopyRow::Columns(_) => &mut self.columns,
            CopyRow::Segment(_) => &mut self.segments,
            CopyRow::Producer(_) => &mut self.producers,
            CopyRow::Token(_) => &mut self.tokens,
        };
        *count += 1;
    }
}

/// Takes the rows of a catalog, some at a time.
#[async_trait::async_trait]
pub trait RowSink: Send {
    /// Takes some.
    async fn take(&mut self, rows: Vec<CopyRow>) -> Result<(), StoreError>;
}

pub(super) const COLUMNS_PAGE: &str =
    "SELECT id, columns FROM schemas WHERE id > $1 ORDER BY id LIMIT $2";
pub(super) const PRODUCERS_PAGE: &str = "SELECT tenant, producer, epoch, seq, position, ledger, expires_ms FROM producers \
     WHERE (tenant, producer) > ($1, $2) ORDER BY tenant, producer LIMIT $3";

pub(super) fn segments_page() -> String {
    format!("SELECT {SEGMENT_COLUMNS} FROM segments WHERE id > $1 ORDER BY id LIMIT $2")
}

fn text(row: &impl CatalogRow, column: &'static str) -> Result<String, StoreError> {
    row.text(column).map(str::to_owned)
}

fn opt_text(row: &impl CatalogRow, column: &'static str) -> Result<Option<String>, StoreError> {
    Ok(row.opt_text(column)?.map(str::to_owned))
}

pub(super) fn columns(row: &impl CatalogRow) -> Result<ColumnsRow, StoreError> {
    Ok(ColumnsRow { id: row.int("id")?, columns: text(row, "columns")? })
}

pub(super) fn segment(row: &impl CatalogRow) -> Result<SegmentRow, StoreError> {
    Ok(SegmentRow {
        id: row.int("id")?,
        tenant: text(row, "tenant")?,
        level: row.int("level")?,
        object_key: text(row, "object_key")?,
        object_offset: row.int("object_offset")?,
        bytes: row.int("bytes")?,
        row_count: row.int("row_count")?,
        arrow_bytes: row.int("arrow_bytes")?,
        time_min_ns: row.int("time_min_ns")?,
        time_max_ns: row.int("time_max_ns")?,
        schema_id: row.int("schema_id")?,
        streams: opt_text(row, "streams")?,
        created_ms: row.int("created_ms")?,
    })
}

pub(super) fn producer(row: &impl CatalogRow) -> Result<ProducerRow, StoreError> {
    Ok(ProducerRow {
        tenant: text(row, "tenant")?,
        producer: hex(row.bytes("producer")?),
        epoch: row.int("epoch")?,
        seq: row.int("seq")?,
        position: opt_text(row, "position")?,
        ledger: opt_text(row, "ledger")?,
        expires_ms: row.opt_int("expires_ms")?,
    })
}

pub(super) fn token(row: &impl CatalogRow) -> Result<TokenRow, StoreError> {
    Ok(TokenRow {
        id: text(row, "id")?,
        name: text(row, "name")?,
        tenant: text(row, "tenant")?,
        scopes: text(row, "scopes")?,
        only_filter: opt_text(row, "only_filter")?,
        kind: text(row, "kind")?,
        value: hex(row.bytes("value")?),
        created_ms: row.int("created_ms")?,
        expires_ms: row.opt_int("expires_ms")?,
    })
}

/// Whether as many rows are there as should be.
pub(super) fn check_counts(there: CopyCounts, wanted: CopyCounts) -> Result<(), StoreError> {
    if there == wanted {
        return Ok(());
    }
    Err(StoreError::CopyDiffers(format!("{there:?} are there instead of {wanted:?}")))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

/// The bytes of a text in hex.
pub(super) fn unhex(text: &str) -> Result<Vec<u8>, StoreError> {
    let wrong = || StoreError::CopyDiffers("a row has bytes that are not in hex".to_owned());
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return Err(wrong());
    }
    let pair = |at: usize| text.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    (0..text.len()).step_by(2).map(|at| pair(at).ok_or_else(wrong)).collect()
}
