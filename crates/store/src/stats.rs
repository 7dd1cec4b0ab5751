//! Counters of the store, for metrics and for `/api/v1/status`.

use crate::objects::{CacheReads, ObjectRequests};

/// What the store holds and has done since it was opened. Counters only ever rise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Records stored, of all tenants.
    pub rows: u64,
    /// Bytes of all segments stored.
    pub bytes: u64,
    /// Requests that are remembered, so that they are stored once when they are repeated.
    pub remembered_requests: u64,
    /// L0 segments waiting to be built.
    pub l0_segments: u64,
    /// Bytes of them.
    pub l0_bytes: u64,
    /// Built segments.
    pub built_segments: u64,
    /// Arrow bytes of L0 records kept in memory.
    pub hot_bytes: u64,
    /// Reads of L0 segments served from memory.
    pub hot_hits: u64,
    /// Reads of L0 segments served from objects.
    pub hot_misses: u64,
    /// Groups committed.
    pub commits: u64,
    /// Records committed.
    pub committed_rows: u64,
    /// Bytes of L0 objects written.
    pub committed_bytes: u64,
    /// Batches acknowledged again and not stored again.
    pub duplicates: u64,
    /// Batches refused because earlier ones were missing.
    pub gaps: u64,
    /// Batches refused because their epoch had ended.
    pub stale_epochs: u64,
    /// Holes in producers' sources for which no one has given a reason.
    pub unexplained_holes: u64,
    /// Transactions tried again because a producer had been advanced meanwhile.
    pub conflicts: u64,
    /// Commits that waited because too much was not built: see
    /// [`StoreOptions::l0_bytes_max`](crate::StoreOptions::l0_bytes_max).
    pub delayed: u64,
    /// Commits and builds that failed.
    pub failures: u64,
    /// Commits refused for want of disk space.
    pub disk_full: u64,
    /// Segments built from L0s.
    pub builds: u64,
    /// Segments merged from segments.
    pub merges: u64,
    /// Bytes of segments written by builds and merges.
    pub built_bytes: u64,
    /// Microseconds spent building and merging.
    pub build_us: u64,
    /// Objects deleted after no segment was left in them.
    pub garbage_deleted: u64,
    /// Objects deleted because no transaction ever named them.
    pub orphans_deleted: u64,
    /// Requests to an object store.
    pub requests: ObjectRequests,
    /// Reads of a bucket's objects, by what answered them.
    pub cache: CacheReads,
    /// Free bytes on the disk.
    pub disk_free_bytes: u64,
    /// Free bytes below which commits are refused.
    pub disk_reserve_bytes: u64,
}
