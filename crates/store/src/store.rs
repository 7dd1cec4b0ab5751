//! The store: objects and catalog of one data folder.

use std::collections::HashSet;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lodge_record::{ProducerId, TenantId};
use tokio::runtime::Handle;

use crate::asked::Asked;
use crate::build::Pending;
use crate::catalog::{self, Candidates, Catalog, Node};
use crate::counters::Counters;
use crate::hot::Hot;
use crate::objects::{Objects, sync_dir};
use crate::read::Cache;
use crate::space::{DirLock, Space};
use crate::token::Token;
use crate::worker::Worker;
use crate::{
    LedgerEntry, LedgerRow, OpenSegment, ProducerState, SegmentId, SegmentRef, Snapshot,
    StoreError, StoreOptions, StoreStats,
};

/// L0 segments that are looked at when the store is opened.
const L0_AT_START_MAX: usize = 1 << 20;

/// Objects and catalog of one data folder.
#[derive(Debug)]
pub struct Store {
    pub(crate) options: StoreOptions,
    pub(crate) catalog: Arc<dyn Catalog>,
    pub(crate) objects: Arc<Objects>,
    pub(crate) space: Space,
    pub(crate) hot: Hot,
    pub(crate) asked: Arc<Asked>,
    pub(crate) opened: Arc<Cache>,
    pub(crate) pending: Pending,
    pub(crate) merge_due: AtomicBool,
    pub(crate) building: tokio::sync::Mutex<()>,
    /// Encodes what is committed.
    pub(crate) encoder: Worker,
    /// Builds and merges segments.
    pub(crate) builder: Worker,
    /// Segments that could not be read or built: see `healthy` in `build.rs`.
    pub(crate) set_aside: Mutex<HashSet<SegmentId>>,
    pub(crate) counters: Counters,
    /// This process among those that share the catalog.
    pub(crate) holder: String,
    /// How often it was looked for something to build.
    pub(crate) looks: AtomicU32,
    runtime: Handle,
    lock: Mutex<Option<DirLock>>,
}

/// Milliseconds since 1970 by the wall clock.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A key that was never used: version 7 UUIDs are the time and 74 random bits.
pub(crate) fn object_key(folder: &str, extension: &str) -> Arc<str> {
    format!("{folder}/{}.{extension}", uuid::Uuid::now_v7().simple()).into()
}

impl Store {
    /// Opens the data folder, which is made if it is not there. The current runtime serves the
    /// catalog, whichever runtime asks.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if another process has it open, [`StoreError::NewerCatalog`] if a
    /// newer Lodge wrote the catalog; [`StoreError::CatalogAddress`] and [`StoreError::Postgres`]
    /// for [`StoreOptions::catalog`].
    pub async fn open(data_dir: &Path, options: StoreOptions) -> Result<Arc<Self>, StoreError> {
        let failed = |action| {
            let path = data_dir.to_owned();
            move |source| StoreError::File { action, path, source }
        };
        make_private(data_dir).map_err(failed("make folder"))?;
        let data_dir = data_dir.canonicalize().map_err(failed("find folder"))?;
        let lock = DirLock::take(&data_dir)?;
        let space = Space::new(&data_dir, options.disk_reserve_bytes)?;
        let catalog = catalog::open(&data_dir, options.catalog.as_ref()).await?;
        if catalog.is_filling().await? {
            return Err(StoreError::HalfFilled);
        }
        let objects = Arc::new(match &options.bucket {
            Some(bucket) => {
                let owner = catalog.number().await?.to_string();
                let objects = Objects::open_bucket(bucket, owner).await?;
                objects.kept_in(&data_dir, options.cache_bytes_max, space.free_bytes()).await
            }
            None => Objects::open_folder(data_dir.join("objects")).await?,
        });
        sync_dir(&data_dir)?;
        let counters = Counters::new(&catalog.totals().await?);
        let pending = Pending::default();
        if options.builds {
            pending.add(&catalog.candidates(Candidates::L0, L0_AT_START_MAX).await?);
        }
        Ok(Arc::new(Self {
            hot: Hot::new(options.hot_bytes_max),
            asked: Arc::default(),
            opened: Arc::new(Cache::new(options.open_bytes_max)),
            options,
            catalog,
            objects,
            space,
            pending,
            merge_due: AtomicBool::new(true),
            building: tokio::sync::Mutex::new(()),
            encoder: Worker::start("lodge-encode")?,
            builder: Worker::start("lodge-build")?,
            set_aside: Mutex::default(),
            counters,
            holder: crate::held::holder(),
            looks: AtomicU32::new(0),
            runtime: Handle::current(),
            lock: Mutex::new(Some(lock)),
        }))
    }

    /// Ends the cache of a bucket's objects once what was read is written to it: the next start finds it.
    pub async fn close_cache(&self) {
        self.objects.close_cache().await;
    }

    /// Closes the catalog; further calls fail. Background tasks must have been shut down. The data
    /// folder may then be opened again, whoever still holds this store.
    pub async fn close(&self) {
        self.close_cache().await;
        self.catalog.close().await;
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Runs on the runtime that the store was opened on: a caller's own runtime may end at any
    /// time, and a connection of the catalog must not end with it.
    async fn on_own_runtime<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let joined = self.runtime.spawn(work).await;
        joined.map_err(|stopped| StoreError::Stopped(stopped.to_string()))?
    }

    /// What is committed of a producer; `None` for one that was never seen.
    pub async fn producer(
        &self,
        tenant: &TenantId,
        producer: ProducerId,
    ) -> Result<Option<ProducerState>, StoreError> {
        let known = self.source(tenant, producer).await?;
        Ok(known.map(|(state, _)| state))
    }

    /// What is committed of a producer, and its entry in the ledger, if it gives an account.
    pub async fn source(
        &self,
        tenant: &TenantId,
        producer: ProducerId,
    ) -> Result<Option<(ProducerState, Option<LedgerEntry>)>, StoreError> {
        let wanted = [(tenant.clone(), producer)];
        let catalog = Arc::clone(&self.catalog);
        let states = self.on_own_runtime(async move { catalog.producers(&wanted).await }).await?;
        let known = states.into_iter().next().flatten();
        Ok(known.map(|producer| (producer.state, producer.entry)))
    }

    /// Sources of `tenant` in the ledger, by number of their producer, behind `after`, at most
    /// `limit`.
    pub async fn ledger(
        &self,
        tenant: &TenantId,
        after: Option<ProducerId>,
        limit: usize,
    ) -> Result<Vec<LedgerRow>, StoreError> {
        let (catalog, tenant) = (Arc::clone(&self.catalog), tenant.clone());
        self.on_own_runtime(async move { catalog.ledger(&tenant, after, limit).await }).await
    }

    /// The segments of `tenant` that overlap `time` (nanoseconds, both ends inclusive; `None` is
    /// all time), L0 and built, at one version of the catalog: the last one that anyone was told of.
    pub async fn snapshot(
        &self,
        tenant: &TenantId,
        time: Option<(i64, i64)>,
    ) -> Result<Arc<Snapshot>, StoreError> {
        if let Some(whole) = self.catalog.kept(tenant) {
            return Ok(whole.within(time));
        }
        let catalog = Arc::clone(&self.catalog);
        let of = tenant.clone();
        self.on_own_runtime(async move { catalog.snapshot_to_keep(&of, time).await }).await
    }

    /// Whether the catalog answers.
    pub async fn check_catalog(&self) -> Result<(), StoreError> {
        let catalog = Arc::clone(&self.catalog);
        // A snapshot of no time at all reads the catalog and nothing else.
        let no_time = Some((i64::MAX, i64::MAX));
        let asked = async move { catalog.snapshot(&TenantId::default(), no_time).await };
        self.on_own_runtime(asked).await.map(drop)
    }

    /// Says for so long from now that this process is there, for others that share the catalog.
    pub async fn announce(&self, node: Node, lasts: Duration) -> Result<(), StoreError> {
        let catalog = Arc::clone(&self.catalog);
        self.on_own_runtime(async move { catalog.announce(&node, lasts).await }).await
    }

    /// Says that a process is there no more.
    pub async fn depart(&self, name: String) -> Result<(), StoreError> {
        let catalog = Arc::clone(&self.catalog);
        self.on_own_runtime(async move { catalog.depart(&name).await }).await
    }

    /// The processes that share the catalog and are there, by name.
    pub async fn nodes(&self) -> Result<Vec<Node>, StoreError> {
        let catalog = Arc::clone(&self.catalog);
        self.on_own_runtime(async move { catalog.nodes().await }).await
    }

    /// Whether other processes may share the catalog.
    pub fn is_shared(&self) -> bool {
        self.catalog.is_shared()
    }

    /// The API tokens and their version; `None` if it is still `known`.
    pub async fn tokens(
        &self,
        known: Option<u64>,
    ) -> Result<Option<(u64, Vec<Token>)>, StoreError> {
        let catalog = Arc::clone(&self.catalog);
        self.on_own_runtime(async move { catalog.tokens(known).await }).await
    }

    /// Adds a token; false if its number or its credential is there already.
    pub async fn add_token(&self, token: Token) -> Result<bool, StoreError> {
        let catalog = Arc::clone(&self.catalog);
        self.on_own_runtime(async move { catalog.add_token(&token).await }).await
    }

    /// Revokes a token; false if it is not there.
    pub async fn remove_token(&self, id: String) -> Result<bool, StoreError> {
        let catalog = Arc::clone(&self.catalog);
        self.on_own_runtime(async move { catalog.remove_token(&id).await }).await
    }

    /// Opens a segment of a snapshot for reading.
    pub async fn open_segment(&self, segment: &Arc<SegmentRef>) -> Result<OpenSegment, StoreError> {
        if segment.level == 0
            && let Some(blocks) = self.hot.get(segment.id)
        {
            return Ok(OpenSegment::hot(segment, blocks, &self.asked));
        }
        OpenSegment::object(&self.objects, &self.opened, segment, &self.asked).await
    }

    /// Changes the reserve of [`StoreOptions::disk_reserve_bytes`] while running.
    pub fn set_disk_reserve_bytes(&self, bytes: u64) {
        self.space.set_reserve_bytes(bytes);
    }

    /// Counters and sums.
    pub fn stats(&self) -> StoreStats {
        let (hot_hits, hot_misses) = self.hot.reads();
        StoreStats {
            hot_bytes: self.hot.bytes() as u64,
            hot_hits,
            hot_misses,
            requests: self.objects.requests(),
            cache: self.objects.cache_reads(),
            disk_free_bytes: self.space.free_bytes(),
            disk_reserve_bytes: self.space.reserve_bytes(),
            ..self.counters.stats()
        }
    }
}

/// Makes the data folder if it is not there. It is for this user alone: it holds everybody's logs.
///
/// # Errors
/// If the folder cannot be made.
pub fn make_private(data_dir: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir)
}
