//! Limits and times of the store, each with the default that works.

use std::fmt;
use std::time::Duration;

use crate::objects::Bucket;

/// `postgres://user:password@host:5432/database`. It is not shown: it may hold a password.
#[derive(Clone, PartialEq, Eq)]
pub struct CatalogAddress(String);

impl CatalogAddress {
    pub(crate) fn url(&self) -> &str {
        &self.0
    }
}

impl From<String> for CatalogAddress {
    fn from(url: String) -> Self {
        Self(url)
    }
}

impl fmt::Debug for CatalogAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CatalogAddress")
    }
}

/// How a [`crate::Store`] behaves. `StoreOptions::default()` is right for a server.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Where objects are; `None`: files in the data folder.
    pub bucket: Option<Bucket>,
    /// Where the catalog is, if not in the data folder. Several processes may share it, each with a
    /// data folder of its own.
    pub catalog: Option<CatalogAddress>,
    /// Whether this process builds, merges and sweeps. With a catalog that several share, one that
    /// does is enough.
    pub builds: bool,
    /// Free bytes on the disk below which commits are refused and building pauses.
    /// `None`: 5 % of the file system, at most 256 MiB.
    pub disk_reserve_bytes: Option<u64>,
    /// Arrow bytes of committed L0 records that stay in memory for queries and the builder.
    pub hot_bytes_max: usize,
    /// Bytes of opened segments (directories, dictionaries, sections that queries read) that stay in
    /// memory.
    pub open_bytes_max: usize,
    /// Bytes of a bucket's objects that are kept on the data folder's disk, at most half of what is free
    /// there at the start; with less than 64 MiB nothing is.
    pub cache_bytes_max: u64,
    /// Commits wait while so many Arrow bytes of L0 records are not built: else what comes in would take
    /// the processor from building, and queries would have ever more to look at as it came.
    pub l0_bytes_max: u64,
    /// The longest that a commit waits for that. Longer than building a segment takes.
    pub l0_wait_max: Duration,
    /// L0 records of a tenant are built once there are this many Arrow bytes of them …
    pub build_bytes: u64,
    /// … or once the oldest has waited so long.
    pub build_age: Duration,
    /// Most Arrow bytes of a segment that is built of L0s: all of them are in memory at once.
    pub built_bytes_max: u64,
    /// About the most rows of such a segment; so many are built at once.
    pub built_rows_max: u64,
    /// Most Arrow bytes of a segment that is merged of others. What a query costs in each segment
    /// counts less the larger they are.
    pub segment_bytes_max: u64,
    /// About the most rows of a merged segment.
    pub segment_rows_max: u64,
    /// So many segments of one size class are merged into one.
    pub merge_fan_in: usize,
    /// How long an object stays after the transaction that made it unreachable. Longer than any
    /// query may run.
    pub garbage_grace: Duration,
    /// How long an object that no transaction names stays. Longer than any commit may take.
    pub orphan_grace: Duration,
    /// How often garbage and orphans are looked for.
    pub sweep_every: Duration,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            bucket: None,
            catalog: None,
            builds: true,
            disk_reserve_bytes: None,
            hot_bytes_max: 320 << 20,
            open_bytes_max: 256 << 20,
            cache_bytes_max: 16 << 30,
            l0_bytes_max: 304 << 20,
            l0_wait_max: Duration::from_secs(5),
            build_bytes: 144 << 20,
            build_age: Duration::from_secs(3),
            built_bytes_max: 160 << 20,
            built_rows_max: 1 << 20,
            segment_bytes_max: 256 << 20,
            segment_rows_max: 2 << 20,
            merge_fan_in: 8,
            garbage_grace: Duration::from_secs(120),
            orphan_grace: Duration::from_secs(600),
            sweep_every: Duration::from_secs(30),
        }
    }
}
