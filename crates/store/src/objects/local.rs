//! Objects on the local file system, durable when [`Local::put`] returns.
//!
//! Invariants:
//! - `put` syncs the file, its folder and every folder made for it: `object_store` syncs nothing, so
//!   it reads, lists and deletes here, and does not write;
//! - a failed write or sync is never retried and trusted: the object is removed and the error
//!   returned. What a killed process left half written is an orphan, which the sweep removes.

use std::collections::HashSet;
use std::fs::File;
use std::io::{ErrorKind, IoSliceMut};
use std::num::NonZeroU64;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};
use rustix::fs::{Advice, fadvise};
use rustix::io::{ReadWriteFlags, preadv2};

use super::failed;
use crate::StoreError;
use crate::direct::{self, Buffers};

/// More bytes than this are never read on the caller's thread, which others wait for.
const INLINE_BYTES_MAX: u64 = 2 << 20;

/// The objects of a data folder.
#[derive(Debug)]
pub(super) struct Local {
    store: Arc<dyn ObjectStore>,
    root: PathBuf,
    synced_dirs: Mutex<HashSet<PathBuf>>,
    buffers: Arc<Buffers>,
}

fn file_failed(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::File { action, path, source }
}

/// Runs file work on a thread that may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(stopped) => Err(StoreError::Stopped(stopped.to_string())),
    }
}

/// Syncs a folder, so that the names in it survive a power cut.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(file_failed("sync folder", dir))
}

impl Local {
    /// Opens the folder and makes it if it is not there.
    pub(super) async fn open(root: PathBuf) -> Result<Self, StoreError> {
        let folder = root.clone();
        blocking(move || {
            std::fs::create_dir_all(&folder).map_err(file_failed("make folder", &folder))?;
            folder.parent().map_or(Ok(()), sync_dir)
        })
        .await?;
        let store = LocalFileSystem::new_with_prefix(&root).map_err(failed("open", "objects"))?;
        Ok(Self {
            store: Arc::new(store),
            synced_dirs: Mutex::new(HashSet::from([root.clone()])),
            root,
            buffers: Arc::default(),
        })
    }

    pub(super) fn store(&self) -> &dyn ObjectStore {
        &*self.store
    }

    /// Creates an object; it is durable when this returns.
    pub(super) async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        let path = self.root.join(key);
        self.sync_new_dirs(path.parent().unwrap_or(&self.root).to_owned()).await?;
        let buffers = Arc::clone(&self.buffers);
        let put = blocking(move || {
            direct::write_synced(&path, &bytes, &buffers).map_err(file_failed("write", &path))?;
            path.parent().map_or(Ok(()), sync_dir)
        })
        .await;
        match &put {
            Err(StoreError::File { source, .. }) if source.kind() == ErrorKind::AlreadyExists => {}
            Err(_) => drop(self.store.delete(&Key::from(key)).await),
            Ok(()) => {}
        }
        put
    }

    /// Makes the folder of an object and syncs every folder that got a new name in it.
    async fn sync_new_dirs(&self, dir: PathBuf) -> Result<(), StoreError> {
        let known = |dir: &Path| {
            self.synced_dirs.lock().unwrap_or_else(PoisonError::into_inner).contains(dir)
        };
        if known(&dir) {
            return Ok(());
        }
        let mut new: Vec<PathBuf> = dir
            .ancestors()
            .take_while(|d| d.starts_with(&self.root) && !known(d))
            .map(Path::to_owned)
            .collect();
        new.reverse();
        let made = new.clone();
        blocking(move || {
            for dir in &made {
                std::fs::create_dir_all(dir).map_err(file_failed("make folder", dir))?;
                dir.parent().map_or(Ok(()), sync_dir)?;
            }
            Ok(())
        })
        .await?;
        self.synced_dirs.lock().unwrap_or_else(PoisonError::into_inner).extend(new);
        Ok(())
    }

    /// Parts of an object. What the kernel has in memory is read at once, on the caller's thread; only
    /// what the disk must be waited for goes to a thread that may wait.
    pub(super) async fn ranges(
        &self,
        key: &str,
        ranges: &[Range<u64>],
    ) -> Result<Vec<Bytes>, StoreError> {
        if let Some(read) = self.resident(key, ranges) {
            return Ok(read);
        }
        if ranges.len() > 1 {
            self.call_up(key, ranges).await?;
        }
        self.store.get_ranges(&Key::from(key), ranges).await.map_err(failed("read", key))
    }

    /// Has the disk bring parts of an object all at once: read one after the other, each would be waited
    /// for alone. An object that cannot be opened is for the read that follows to report.
    async fn call_up(&self, key: &str, ranges: &[Range<u64>]) -> Result<(), StoreError> {
        let (path, ranges) = (self.root.join(key), ranges.to_vec());
        blocking(move || {
            let Ok(file) = File::open(path) else { return Ok(()) };
            for range in ranges {
                let len = NonZeroU64::new(range.end.saturating_sub(range.start));
                // Only advice: where it is not taken, the read waits longer.
                len.map(|len| fadvise(&file, range.start, Some(len), Advice::WillNeed).ok());
            }
            Ok(())
        })
        .await
    }

    /// Parts of an object, if the kernel has all of them in memory and they are not much.
    fn resident(&self, key: &str, ranges: &[Range<u64>]) -> Option<Vec<Bytes>> {
        let bytes = ranges.iter().map(|range| range.end.saturating_sub(range.start)).sum::<u64>();
        if bytes > INLINE_BYTES_MAX {
            return None;
        }
        let file = File::open(self.root.join(key)).ok()?;
        let read = |range: &Range<u64>| {
            let mut buffer = vec![0; usize::try_from(range.end.checked_sub(range.start)?).ok()?];
            let pieces = &mut [IoSliceMut::new(&mut buffer)];
            let read = preadv2(&file, pieces, range.start, ReadWriteFlags::NOWAIT).ok()?;
            (read == buffer.len()).then(|| Bytes::from(buffer))
        };
        ranges.iter().map(read).collect()
    }
}
