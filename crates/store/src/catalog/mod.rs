//! The catalog: what exists, as rows of tables. A trait, so that SQLite on one machine and
//! PostgreSQL in a cluster pass the same tests (`tests/catalog_contract.rs`).
//!
//! Invariants:
//! - [`Catalog::commit`] and [`Catalog::swap`] are one transaction each: all of it or nothing;
//! - an object is named by one such transaction, and of one whose answer was lost
//!   [`Catalog::settle`] tells for certain whether it has happened;
//! - a snapshot is of one version;
//! - numbers of segments rise and are never used again.

mod copies;
mod copy;
mod kept;
mod leases;
mod migrations;
mod postgres;
mod rows;
mod sqlite;
mod tokens;
mod transaction;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use lodge_record::{ProducerId, TenantId};

pub use copy::{ColumnsRow, CopyCounts, CopyRow, ProducerRow, RowSink, SegmentRow, TokenRow};
pub use postgres::PostgresCatalog;
pub(crate) use postgres::hint;
pub use sqlite::SqliteCatalog;

use crate::token::Token;
use crate::{
    CatalogAddress, LedgerEntry, LedgerRow, ProducerState, SegmentId, SegmentRef, Snapshot,
    StoreError,
};

/// The lease during which no garbage is given to be deleted: a copy of the objects is under way.
pub const HOLD: &str = "backup";

/// A segment to be added.
#[derive(Debug, Clone)]
pub struct NewSegment {
    /// Whose records it holds.
    pub tenant: TenantId,
    /// 0: L0; 1 and up: built.
    pub level: u8,
    /// The object that holds it.
    pub object_key: Arc<str>,
    /// Where in the object it begins.
    pub object_offset: u64,
    /// How many bytes it has.
    pub bytes: u64,
    /// Number of records.
    pub rows: u64,
    /// About the bytes that its records take in memory.
    pub arrow_bytes: u64,
    /// Earliest `_time`, nanoseconds.
    pub time_min_ns: i64,
    /// Latest `_time`, nanoseconds.
    pub time_max_ns: i64,
    /// Its columns, text as `Utf8`.
    pub schema: SchemaRef,
    /// Canonical texts of its streams, sorted; `None` if there are too many.
    pub streams: Option<Arc<[String]>>,
    /// When it was written, milliseconds since 1970.
    pub created_ms: i64,
}

/// A producer's step, made only if it still stands where it was read.
#[derive(Debug, Clone)]
pub struct ProducerAdvance {
    /// Whose producer.
    pub tenant: TenantId,
    /// Which producer.
    pub producer: ProducerId,
    /// Epoch and sequence it must have; `None`: it must be unknown.
    pub from: Option<(u32, u64)>,
    /// What it has afterwards.
    pub to: ProducerState,
    /// Its entry in the ledger afterwards; `None` leaves what is there.
    pub entry: Option<LedgerEntry>,
    /// From when it counts as unknown, milliseconds since 1970; `None`: never.
    pub forget_ms: Option<i64>,
}

/// A producer as the catalog has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Producer {
    /// How far it is committed.
    pub state: ProducerState,
    /// Its entry in the ledger, if it gives an account.
    pub entry: Option<LedgerEntry>,
}

/// A transaction that was committed.
#[derive(Debug, Clone)]
pub struct Applied {
    /// Version of the catalog after it: whoever asks from now on finds this one or a later one.
    pub version: u64,
    /// The segments it added, in the order given.
    pub added: Vec<Arc<SegmentRef>>,
}

/// Segments to look for; see [`Catalog::candidates`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Candidates {
    /// All L0 segments.
    L0,
    /// Built segments of fewer Arrow bytes than this.
    BuiltBelow(u64),
}

/// Sums over all segments of a kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Segments.
    pub segments: u64,
    /// Records.
    pub rows: u64,
    /// Bytes stored.
    pub bytes: u64,
}

/// The right to do some work, until it ends or another has got it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Which work.
    pub name: String,
    /// Rises with every holder of this work, so that what a former one sends late is known.
    pub fence: u64,
}

/// A process that shares the catalog, as it says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is known by; no other process has it.
    pub name: String,
    /// Where the others reach it.
    pub address: String,
    /// What it does: `ingest,query`.
    pub roles: String,
    /// The version of its program.
    pub version: String,
    /// When it was started, milliseconds since 1970.
    pub started_ms: i64,
}

/// Opens the catalog at an address, or the file in the data folder.
///
/// # Errors
/// See [`PostgresCatalog::open`] and [`SqliteCatalog::open`].
pub async fn open(
    data_dir: &Path,
    address: Option<&CatalogAddress>,
) -> Result<Arc<dyn Catalog>, StoreError> {
    match address.map(CatalogAddress::url) {
        None => Ok(Arc::new(SqliteCatalog::open(&data_dir.join("catalog.db")).await?)),
        Some(url) if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
            Ok(Arc::new(PostgresCatalog::open(url).await?))
        }
        // It may hold a password, whatever it is.
        Some(_) => Err(StoreError::CatalogAddress("it names no known database".to_owned())),
    }
}

/// What exists.
#[async_trait]
pub trait Catalog: std::fmt::Debug + Send + Sync + 'static {
    /// A random number that this catalog has for ever: what a bucket's folder is marked with, so that
    /// no other catalog takes its objects for orphans.
    async fn number(&self) -> Result<u64, StoreError>;

    /// Whether other processes write to this catalog, too, so that what this one has heard of is
    /// not all there is.
    fn is_shared(&self) -> bool;

    /// Closes all connections, waiting for those in use; further calls fail.
    async fn close(&self);

    /// In one transaction: adds `segments`, advances `producers`, raises the version. `None`, and
    /// nothing done, if a producer no longer stands where [`ProducerAdvance::from`] says. All
    /// segments are in one object, which no commit and no swap has named before.
    ///
    /// # Errors
    /// After [`StoreError::Unsettled`] it may have happened; after any other error of PostgreSQL
    /// it has not.
    async fn commit(
        &self,
        segments: &[NewSegment],
        producers: &[ProducerAdvance],
    ) -> Result<Option<Applied>, StoreError>;

    /// In one transaction: removes the segments `remove`, adds `add`, puts objects in which no
    /// segment is left among the garbage as of `now_ms`, raises the version. `None`, and nothing
    /// done, if one of `remove` is no longer there, or if another holds the work of `lease`.
    async fn swap(
        &self,
        remove: &[SegmentId],
        add: &[NewSegment],
        now_ms: i64,
        lease: Option<&Lease>,
    ) -> Result<Option<Applied>, StoreError>;

    /// The version and the segments of `tenant` that overlap `time` (inclusive), by number.
    async fn snapshot(
        &self,
        tenant: &TenantId,
        time: Option<(i64, i64)>,
    ) -> Result<(u64, Vec<Arc<SegmentRef>>), StoreError>;

    /// The segments of `tenant` as they are now, if that is known without asking anyone.
    fn kept(&self, tenant: &TenantId) -> Option<Arc<Snapshot>>;

    /// As [`Catalog::snapshot`], to be kept in memory if it is not too large; what is kept already
    /// needs only what has changed since.
    async fn snapshot_to_keep(
        &self,
        tenant: &TenantId,
        time: Option<(i64, i64)>,
    ) -> Result<Arc<Snapshot>, StoreError>;

    /// Producers in the order asked for; `None` for one that is not known.
    async fn producers(
        &self,
        wanted: &[(TenantId, ProducerId)],
    ) -> Result<Vec<Option<Producer>>, StoreError>;

    /// Removes producers that have counted as unknown since `before_ms` or longer, at most `limit`;
    /// gives how many were removed and how many that will be forgotten are left.
    async fn forget_producers(
        &self,
        before_ms: i64,
        limit: usize,
    ) -> Result<(u64, u64), StoreError>;

    /// Producers of `tenant` that have an entry in the ledger, by number, behind `after`, at most
    /// `limit`.
    async fn ledger(
        &self,
        tenant: &TenantId,
        after: Option<ProducerId>,
        limit: usize,
    ) -> Result<Vec<LedgerRow>, StoreError>;

    /// Whether the transaction that names an object has happened: waits for it if it is still under
    /// way, and if it has not happened, it never will. `None` if it has not; otherwise those of its
    /// segments that are still there.
    async fn settle(&self, object_key: &str) -> Result<Option<Vec<Arc<SegmentRef>>>, StoreError>;

    /// Segments to build or merge, at most `limit`, by tenant and number.
    async fn candidates(
        &self,
        which: Candidates,
        limit: usize,
    ) -> Result<Vec<Arc<SegmentRef>>, StoreError>;

    /// Of each key whether a segment or the garbage names it.
    async fn names_objects(&self, keys: &[String]) -> Result<Vec<bool>, StoreError>;

    /// As [`Catalog::names_objects`], and no transaction of any process will ever name those that
    /// are not named now. A catalog that is not shared leaves it to its process to ask only for
    /// objects that it is not about to name.
    async fn disown(&self, keys: &[String]) -> Result<Vec<bool>, StoreError>;

    /// Objects that have been garbage since `before_ms` or longer, at most `limit`. None while
    /// the lease [`HOLD`] is held: whoever holds it and reads the rows after that finds all objects
    /// that they name, until the lease ends.
    async fn garbage(&self, before_ms: i64, limit: usize) -> Result<Vec<String>, StoreError>;

    /// Takes deleted objects out of the garbage.
    async fn forget_garbage(&self, keys: &[String]) -> Result<(), StoreError>;

    /// Removes column lists that no segment uses any more.
    async fn drop_unused_schemas(&self) -> Result<(), StoreError>;

    /// Removes what is kept of transactions for a while only.
    async fn prune(&self) -> Result<(), StoreError>;

    /// Takes the work `name` for `holder` and so long; `None` if another holds it.
    async fn lease(
        &self,
        name: &str,
        holder: &str,
        lasts: Duration,
    ) -> Result<Option<Lease>, StoreError>;

    /// Holds a work for so long from now; false if another has got it.
    async fn renew(&self, lease: &Lease, lasts: Duration) -> Result<bool, StoreError>;

    /// Ends holding a work; nothing happens if another has got it.
    async fn release(&self, lease: &Lease) -> Result<(), StoreError>;

    /// Says that a process is there, for so long from now.
    async fn announce(&self, node: &Node, lasts: Duration) -> Result<(), StoreError>;

    /// Says that a process is there no more.
    async fn depart(&self, name: &str) -> Result<(), StoreError>;

    /// The processes that are there, by name.
    async fn nodes(&self) -> Result<Vec<Node>, StoreError>;

    /// Sums over L0 and over built segments.
    async fn totals(&self) -> Result<(Totals, Totals), StoreError>;

    /// Adds a token; false, and nothing done, if its number or its credential is there already.
    async fn add_token(&self, token: &Token) -> Result<bool, StoreError>;

    /// Revokes a token; false if it is not there.
    async fn remove_token(&self, id: &str) -> Result<bool, StoreError>;

    /// Gives all rows that are copied to `sink`, of one moment; tells the highest number that a
    /// segment ever had.
    async fn give(&self, sink: &mut dyn RowSink) -> Result<u64, StoreError>;

    /// Begins to fill an empty catalog with the rows of another; what an earlier attempt has filled
    /// is removed. False, and nothing done, if the catalog holds anything else.
    async fn begin_fill(&self) -> Result<bool, StoreError>;

    /// Adds rows of another catalog; those that a row refers to come before it.
    async fn fill(&self, rows: &[CopyRow]) -> Result<(), StoreError>;

    /// Ends filling, if as many rows are there as `wanted`. Segments get numbers above `highest`.
    async fn end_fill(&self, wanted: CopyCounts, highest: u64) -> Result<(), StoreError>;

    /// Whether filling has begun and not ended, so that it must not be used.
    async fn is_filling(&self) -> Result<bool, StoreError>;

    /// All tokens in the order in which they were made, and their version, which rises whenever
    /// one is added or revoked; `None` if it is still `known`.
    async fn tokens(&self, known: Option<u64>) -> Result<Option<(u64, Vec<Token>)>, StoreError>;
}
