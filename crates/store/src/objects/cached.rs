//! What was read of a bucket's objects, kept on this machine's disk, so that a segment that is asked
//! again, also after a restart, costs no request.
//!
//! ```text
//!  ranges ─► on the disk? ─► yes: from there
//!                        └─► no: under way for another? ─► yes: wait with it
//!                                                      └─► no: one read of all that is missing, kept
//! ```
//!
//! Invariants:
//! - objects never change and their keys are never used again, so what is kept is never old;
//! - what comes back is what the bucket gave: foyer keeps a checksum with each part, and a part that is
//!   damaged is read from the bucket again;
//! - it never takes more of the disk than it may, and the disk's trouble costs speed, never an answer;
//! - of L0 objects nothing is kept on the disk: they are gone before they would be read there.

use std::collections::HashMap;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use foyer::{
    BlockEngineConfig, Code, DeviceBuilder, FsDeviceBuilder, HybridCache, HybridCachePolicy,
    PsyncIoEngineConfig,
};
use futures::future::{BoxFuture, FutureExt, Shared, WeakShared, join_all};

use super::failed;
use crate::StoreError;

/// Parts that were read last stay in memory, too. Little is enough: what questions use is kept by
/// [`crate::read::Cache`], decoded.
const MEMORY_BYTES: usize = 8 << 20;
/// What waits to be written; beyond it parts are not kept.
const WAITING_BYTES_MAX: usize = 16 << 20;
/// The disk is given back in blocks of at least this size, a file each; a larger part is not kept.
const BLOCK_BYTES_MIN: usize = 8 << 20;
/// About so many blocks.
const BLOCKS: usize = 512;
/// With less there would be too few blocks to give back one and write another.
const BYTES_MIN: usize = 8 * BLOCK_BYTES_MIN;
/// The folder in the data folder. In it is one of the name of the cache's size: the files of another
/// size are of no use to it.
const FOLDER: &str = "cache";
/// Of what is free on the disk, or its own already, it takes this part at most.
const FREE_DIVISOR: u64 = 2;

/// Parts by name that one read brought, or why it did not.
type Read = Result<Arc<HashMap<String, Bytes>>, Arc<StoreError>>;
type Reading = Shared<BoxFuture<'static, Read>>;

/// The parts that are kept, and those that are being read.
#[derive(Debug)]
pub(super) struct Cached {
    disk: Option<HybridCache<String, Bytes>>,
    under_way: UnderWay,
    counters: CacheCounters,
}

/// The reads that have not ended, by the parts that they bring. Who waits for a read drives it, so it
/// ends when nobody waits any more.
#[derive(Debug, Clone, Default)]
struct UnderWay(Arc<Mutex<HashMap<String, WeakShared<BoxFuture<'static, Read>>>>>);

#[derive(Debug, Default)]
struct CacheCounters {
    hits: AtomicU64,
    misses: AtomicU64,
    joined: AtomicU64,
}

/// How reads of a bucket's objects were answered since the start, counted by part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheReads {
    /// From the cache on the disk.
    pub hits: u64,
    /// From the bucket.
    pub misses: u64,
    /// From the bucket, by a read that was under way for another question.
    pub joined: u64,
}

impl Cached {
    /// Keeps nothing; reads are still shared.
    pub(super) fn nothing() -> Self {
        Self { disk: None, under_way: UnderWay::default(), counters: CacheCounters::default() }
    }

    /// Keeps up to `bytes_max` in a folder of `data_dir`, on whose disk there are `free_bytes`. A folder
    /// that cannot be used is told in the log, and nothing kept.
    pub(super) async fn open(data_dir: &Path, bytes_max: u64, free_bytes: u64) -> Self {
        let folder = data_dir.join(FOLDER);
        let bytes = size(bytes_max, free_bytes.saturating_add(taken_bytes(&folder)));
        let own = folder.join(bytes.to_string());
        // What another size left there.
        for other in entries(&folder).filter(|path| *path != own) {
            std::fs::remove_dir_all(&other).ok();
        }
        if bytes == 0 {
            std::fs::remove_dir(&folder).ok();
            return Self::nothing();
        }
        match open_disk(&own, bytes).await {
            Ok(disk) => Self { disk: Some(disk), ..Self::nothing() },
            Err(error) => {
                tracing::warn!(folder = %folder.display(), %error,
                    "no cache on the disk: what queries need is read from the bucket each time; \
                     check the folder and its permissions, then start again");
                Self::nothing()
            }
        }
    }

    /// Ends the cache when all that was read is on the disk.
    pub(super) async fn close(&self) {
        if let Some(disk) = &self.disk
            && let Err(error) = disk.close().await
        {
            tracing::warn!(%error, "the cache on the disk was not written to its end");
        }
    }

    pub(super) fn reads(&self) -> CacheReads {
        let CacheCounters { hits, misses, joined } = &self.counters;
        CacheReads {
            hits: hits.load(Relaxed),
            misses: misses.load(Relaxed),
            joined: joined.load(Relaxed),
        }
    }

    /// Parts of an object: from the disk, or by `read`, which gets the ranges that are missing.
    pub(super) async fn ranges<F>(
        &self,
        key: &str,
        ranges: &[Range<u64>],
        read: impl FnOnce(Vec<Range<u64>>) -> F,
    ) -> Result<Vec<Bytes>, StoreError>
    where
        F: Future<Output = Result<Vec<Bytes>, StoreError>> + Send + 'static,
    {
        let names: Vec<String> =
            ranges.iter().map(|r| format!("{key}@{}-{}", r.start, r.end)).collect();
        let is_kept = !key.starts_with("l0/");
        let mut parts = match &self.disk {
            Some(disk) if is_kept => self.kept(disk, &names).await,
            _ => vec![None; names.len()],
        };
        let wanted: Vec<(String, Range<u64>)> = names
            .iter()
            .zip(ranges)
            .zip(&parts)
            .filter(|(_, part)| part.is_none())
            .map(|((name, range), _)| (name.clone(), range.clone()))
            .collect();
        if !wanted.is_empty() {
            let disk = self.disk.clone().filter(|_| is_kept);
            let readings = self.under_way.join(wanted, disk, &self.counters, read);
            let missing = parts.iter_mut().zip(&names).filter(|(part, _)| part.is_none());
            for ((part, name), reading) in missing.zip(readings) {
                let read = reading.await.map_err(|error| again(key, error))?;
                *part = read.get(name).cloned();
            }
        }
        let all: Option<Vec<Bytes>> = parts.into_iter().collect();
        all.ok_or_else(|| failed("read", key)(too_few()))
    }

    async fn kept(
        &self,
        disk: &HybridCache<String, Bytes>,
        names: &[String],
    ) -> Vec<Option<Bytes>> {
        let found = join_all(names.iter().map(|name| disk.get(name))).await;
        let parts: Vec<Option<Bytes>> = found
            .into_iter()
            .map(|found| match found {
                Ok(found) => found.map(|entry| entry.value().clone()),
                Err(error) => {
                    tracing::debug!(%error, "a part of an object cannot be read from the cache");
                    None
                }
            })
            .collect();
        self.counters.hits.fetch_add(parts.iter().flatten().count() as u64, Relaxed);
        parts
    }
}

impl UnderWay {
    /// For each part the read that brings it: one that is under way, or a new one for all others.
    fn join<F>(
        &self,
        wanted: Vec<(String, Range<u64>)>,
        disk: Option<HybridCache<String, Bytes>>,
        counters: &CacheCounters,
        read: impl FnOnce(Vec<Range<u64>>) -> F,
    ) -> Vec<Reading>
    where
        F: Future<Output = Result<Vec<Bytes>, StoreError>> + Send + 'static,
    {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let others: Vec<Option<Reading>> =
            wanted.iter().map(|(name, _)| all.get(name).and_then(WeakShared::upgrade)).collect();
        let (names, ranges): (Vec<String>, Vec<Range<u64>>) = wanted
            .into_iter()
            .zip(&others)
            .filter_map(|(wanted, other)| other.is_none().then_some(wanted))
            .unzip();
        counters.misses.fetch_add(names.len() as u64, Relaxed);
        counters.joined.fetch_add((others.len() - names.len()) as u64, Relaxed);
        if names.is_empty() {
            return others.into_iter().flatten().collect();
        }
        let under_way = Listed { names: names.clone(), all: self.clone() };
        let reading = read(ranges);
        let reading = async move {
            let parts = reading.await.map_err(Arc::new)?;
            let parts: HashMap<String, Bytes> =
                under_way.names.iter().cloned().zip(parts).collect();
            if let Some(disk) = disk {
                for (name, part) in &parts {
                    disk.insert(name.clone(), part.clone());
                }
            }
            Ok(Arc::new(parts))
        };
        let reading = reading.boxed().shared();
        if let Some(weak) = reading.downgrade() {
            all.extend(names.into_iter().map(|name| (name, weak.clone())));
        }
        others.into_iter().map(|other| other.unwrap_or_else(|| reading.clone())).collect()
    }
}

/// Takes the parts of a read off the list when it has ended, in whatever way.
struct Listed {
    names: Vec<String>,
    all: UnderWay,
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut all = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        for name in &self.names {
            all.remove(name);
        }
    }
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path()))
}

/// What the caches in a folder take of the disk: their files have holes until they are full.
fn taken_bytes(folder: &Path) -> u64 {
    let files = entries(folder).flat_map(|cache| entries(&cache));
    files.filter_map(|file| Some(file.metadata().ok()?.blocks() * 512)).sum()
}

/// How large the cache is; 0 is none. Where the disk decides, it is a power of two: a size that followed
/// each change of what is free would begin an empty cache at each start.
fn size(bytes_max: u64, free_bytes: u64) -> usize {
    let room = free_bytes / FREE_DIVISOR;
    let bytes = if bytes_max <= room { bytes_max } else { 1 << room.max(1).ilog2() };
    usize::try_from(bytes).ok().filter(|bytes| *bytes >= BYTES_MIN).unwrap_or(0)
}

async fn open_disk(
    folder: &Path,
    bytes_max: usize,
) -> Result<HybridCache<String, Bytes>, foyer::Error> {
    let block_bytes = (bytes_max / BLOCKS).next_multiple_of(4096).max(BLOCK_BYTES_MIN);
    let device = FsDeviceBuilder::new(folder).with_capacity(bytes_max).build()?;
    let engine = BlockEngineConfig::new(device)
        .with_block_size(block_bytes)
        .with_buffer_pool_size(WAITING_BYTES_MAX)
        .with_submit_queue_size_threshold(WAITING_BYTES_MAX);
    HybridCache::builder()
        .with_name("lodge")
        .with_policy(HybridCachePolicy::WriteOnInsertion)
        .memory(MEMORY_BYTES)
        .with_weighter(|name: &String, part: &Bytes| name.estimated_size() + part.len())
        .storage()
        .with_io_engine_config(PsyncIoEngineConfig::new())
        .with_engine_config(engine)
        .build()
        .await
}

/// The error of a read that several waited for, for one of them.
fn again(key: &str, error: Arc<StoreError>) -> StoreError {
    match Arc::try_unwrap(error) {
        Ok(error) => error,
        Err(error) => failed("read", key)(match &*error {
            StoreError::Object {
                source: object_store::Error::NotFound { path, source }, ..
            } => object_store::Error::NotFound {
                path: path.clone(),
                source: source.to_string().into(),
            },
            StoreError::Object { source, .. } => generic(source.to_string()),
            other => generic(other.to_string()),
        }),
    }
}

fn generic(reason: String) -> object_store::Error {
    object_store::Error::Generic { store: "object store", source: reason.into() }
}

fn too_few() -> object_store::Error {
    generic("it gave fewer parts than were asked for".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::single_range_in_vec_init)]

    use std::sync::atomic::AtomicUsize;

    use tempfile::TempDir;
    use tokio::sync::Notify;

    use super::*;

    /// The bytes of the only object, as many as asked for.
    fn bucket(ranges: &[Range<u64>]) -> Vec<Bytes> {
        let of =
            |r: &Range<u64>| Bytes::from((r.start..r.end).map(|i| i as u8).collect::<Vec<_>>());
        ranges.iter().map(of).collect()
    }

    async fn open(dir: &TempDir, bytes_max: u64) -> Cached {
        Cached::open(dir.path(), bytes_max, u64::MAX).await
    }

    async fn read(
        cached: &Cached,
        key: &str,
        ranges: &[Range<u64>],
        asked: &Arc<AtomicUsize>,
    ) -> Vec<Bytes> {
        let counter = Arc::clone(asked);
        let from_bucket = |missing: Vec<Range<u64>>| async move {
            counter.fetch_add(missing.len(), Relaxed);
            Ok(bucket(&missing))
        };
        cached.ranges(key, ranges, from_bucket).await.unwrap()
    }

    #[tokio::test]
    async fn what_was_read_is_there_after_a_restart_and_damage_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let (wanted, asked) = ([0..5_000, 7_000..7_001, 9_000..80_000], Arc::default());
        let cached = open(&dir, BYTES_MIN as u64).await;
        for _ in 0..2 {
            assert_eq!(read(&cached, "seg/a", &wanted, &asked).await, bucket(&wanted));
        }
        assert_eq!(asked.load(Relaxed), 3, "each part once");
        cached.close().await;

        let cached = open(&dir, BYTES_MIN as u64).await;
        assert_eq!(read(&cached, "seg/a", &wanted, &asked).await, bucket(&wanted));
        assert_eq!((asked.load(Relaxed), cached.reads().hits), (3, 3), "all from the disk");
        // Another object has other bytes.
        read(&cached, "seg/b", &wanted[..1], &asked).await;
        assert_eq!(asked.load(Relaxed), 4);
        cached.close().await;

        // Every value byte that is not zero, of every file.
        let files: Vec<PathBuf> =
            entries(&dir.path().join(FOLDER)).flat_map(|cache| entries(&cache)).collect();
        assert!(!files.is_empty());
        for path in files {
            let mut bytes = std::fs::read(&path).unwrap();
            bytes.iter_mut().skip(4_200).filter(|byte| **byte != 0).for_each(|byte| *byte ^= 0x55);
            std::fs::write(&path, bytes).unwrap();
        }
        let cached = open(&dir, BYTES_MIN as u64).await;
        assert_eq!(read(&cached, "seg/a", &wanted, &asked).await, bucket(&wanted));
    }

    #[tokio::test]
    async fn a_cache_of_another_size_leaves_nothing_on_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let asked = Arc::default();
        for blocks in [12, 8, 9] {
            let bytes = blocks * BLOCK_BYTES_MIN;
            let cached = open(&dir, bytes as u64).await;
            read(&cached, "seg/a", &[0..10], &asked).await;
            cached.close().await;
            let caches: Vec<PathBuf> = entries(&dir.path().join(FOLDER)).collect();
            assert_eq!(caches, [dir.path().join(FOLDER).join(bytes.to_string())]);
            let files = entries(&caches[0]).map(|file| file.metadata().unwrap().len());
            assert!(files.sum::<u64>() <= bytes as u64);
        }
        assert_eq!(asked.load(Relaxed), 3);
    }

    #[test]
    fn its_size_is_that_of_the_setting_or_of_the_disk() {
        let least = BYTES_MIN as u64;
        assert_eq!(size(3 * least, 6 * least), 3 * BYTES_MIN);
        assert_eq!(size(3 * least, 6 * least - 2), 2 * BYTES_MIN);
        assert_eq!(size(u64::MAX, 5 * least), 2 * BYTES_MIN);
        for (bytes_max, free) in [(0, u64::MAX), (least - 1, u64::MAX), (least, least), (1, 0)] {
            assert_eq!(size(bytes_max, free), 0, "{bytes_max} {free}");
        }
    }

    #[tokio::test]
    async fn of_l0s_and_without_room_nothing_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let asked = Arc::default();
        let cached = open(&dir, BYTES_MIN as u64).await;
        for _ in 0..2 {
            read(&cached, "l0/a", &[0..10], &asked).await;
        }
        assert_eq!(asked.load(Relaxed), 2);
        cached.close().await;
        assert!(dir.path().join(FOLDER).exists());
        let cached = open(&dir, 0).await;
        assert!(!dir.path().join(FOLDER).exists(), "what an earlier setting left is gone");
        assert_eq!(read(&cached, "seg/a", &[3..4], &asked).await, bucket(&[3..4]));
    }

    #[tokio::test]
    async fn questions_at_once_share_a_read_and_its_error() {
        let cached = Arc::new(Cached::nothing());
        let (asked, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let question = |fails: bool| {
            let (cached, asked, go) = (Arc::clone(&cached), Arc::clone(&asked), Arc::clone(&go));
            tokio::spawn(async move {
                let read = |missing: Vec<Range<u64>>| async move {
                    asked.fetch_add(1, Relaxed);
                    go.notified().await;
                    let gone = object_store::Error::NotFound {
                        path: "seg/a".to_owned(),
                        source: "gone".into(),
                    };
                    if fails { Err(failed("read", "seg/a")(gone)) } else { Ok(bucket(&missing)) }
                };
                cached.ranges("seg/a", &[0..9], read).await
            })
        };
        for fails in [false, true] {
            let before = cached.reads();
            let questions: Vec<_> = (0..4).map(|_| question(fails)).collect();
            while cached.reads().joined < before.joined + 3 {
                tokio::task::yield_now().await;
            }
            go.notify_one();
            for question in questions {
                match question.await.unwrap() {
                    Ok(parts) => assert!(!fails && parts == bucket(&[0..9])),
                    Err(error) => assert!(fails && error.is_damage(), "{error}"),
                }
            }
        }
        assert_eq!(asked.load(Relaxed), 2);
        assert!(cached.under_way.0.lock().unwrap().is_empty());
    }

    /// Who began a read may go away; those who wait with it get it all the same.
    #[tokio::test]
    async fn a_read_goes_on_without_who_began_it() {
        let cached = Arc::new(Cached::nothing());
        let go = Arc::new(Notify::new());
        let question = || {
            let (cached, go) = (Arc::clone(&cached), Arc::clone(&go));
            tokio::spawn(async move {
                let read = |missing: Vec<Range<u64>>| async move {
                    go.notified().await;
                    Ok(bucket(&missing))
                };
                cached.ranges("seg/a", &[0..9], read).await.unwrap()
            })
        };
        let first = question();
        while cached.reads().misses < 1 {
            tokio::task::yield_now().await;
        }
        let second = question();
        while cached.reads().joined < 1 {
            tokio::task::yield_now().await;
        }
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        go.notify_one();
        assert_eq!(second.await.unwrap(), bucket(&[0..9]));
    }
}
