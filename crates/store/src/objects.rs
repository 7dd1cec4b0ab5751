//! Objects on the local file system, durable when [`Objects::put`] returns.
//!
//! Invariants:
//! - an object is created once and never changes; its key is never used again;
//! - `put` syncs the file, its folder and every folder made for it: `object_store` syncs nothing;
//! - a failed sync is never retried and trusted: the object is removed and the error returned.

use std::collections::HashSet;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use crate::StoreError;

/// An object as a listing shows it.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    pub(crate) key: String,
    pub(crate) modified: SystemTime,
}

/// The objects of a data folder.
#[derive(Debug)]
pub(crate) struct Objects {
    store: Arc<dyn ObjectStore>,
    root: PathBuf,
    synced_dirs: Mutex<HashSet<PathBuf>>,
    /// Keys between their put and the end of their transaction: never swept.
    in_flight: Arc<Mutex<HashSet<String>>>,
}

/// Keeps an object from being swept while its transaction is under way.
#[derive(Debug)]
pub(crate) struct InFlight {
    key: String,
    all: Arc<Mutex<HashSet<String>>>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

fn failed(action: &'static str, key: &str) -> impl FnOnce(object_store::Error) -> StoreError {
    let key = key.to_owned();
    move |source| StoreError::Object { action, key, source }
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

impl Objects {
    /// Opens the folder, makes it if it is not there, and removes what writes that never ended
    /// left.
    pub(crate) async fn open(root: PathBuf) -> Result<Self, StoreError> {
        let folder = root.clone();
        blocking(move || {
            std::fs::create_dir_all(&folder).map_err(file_failed("make folder", &folder))?;
            if let Some(parent) = folder.parent() {
                sync_dir(parent)?;
            }
            remove_staged(&folder)
        })
        .await?;
        let store = LocalFileSystem::new_with_prefix(&root).map_err(failed("open", "objects"))?;
        Ok(Self {
            store: Arc::new(store),
            synced_dirs: Mutex::new(HashSet::from([root.clone()])),
            root,
            in_flight: Arc::default(),
        })
    }

    /// Marks a key that is about to be put.
    pub(crate) fn begin(&self, key: &str) -> InFlight {
        let mut all = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(key.to_owned());
        InFlight { key: key.to_owned(), all: Arc::clone(&self.in_flight) }
    }

    /// Whether a key is between put and transaction.
    pub(crate) fn is_in_flight(&self, key: &str) -> bool {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner).contains(key)
    }

    /// Creates an object; it is durable when this returns.
    pub(crate) async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        let path = self.root.join(key);
        self.sync_new_dirs(path.parent().unwrap_or(&self.root).to_owned()).await?;
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        self.store
            .put_opts(&Key::from(key), bytes.into(), options)
            .await
            .map_err(failed("write", key))?;
        let synced = blocking(move || {
            File::open(&path).and_then(|f| f.sync_all()).map_err(file_failed("sync", &path))?;
            path.parent().map_or(Ok(()), sync_dir)
        })
        .await;
        if synced.is_err() {
            self.delete(key).await.ok();
        }
        synced
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

    /// Parts of an object.
    pub(crate) async fn ranges(
        &self,
        key: &str,
        ranges: &[Range<u64>],
    ) -> Result<Vec<Bytes>, StoreError> {
        self.store.get_ranges(&Key::from(key), ranges).await.map_err(failed("read", key))
    }

    /// Deletes an object; one that is not there is no error.
    pub(crate) async fn delete(&self, key: &str) -> Result<(), StoreError> {
        match self.store.delete(&Key::from(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(failed("delete", key)(source)),
        }
    }

    /// All objects.
    pub(crate) async fn list(&self) -> Result<Vec<Listed>, StoreError> {
        let listed = self.store.list(None).map_ok(|meta| Listed {
            key: meta.location.to_string(),
            modified: meta.last_modified.into(),
        });
        listed.try_collect().await.map_err(failed("list", "objects"))
    }
}

/// Removes the files that `object_store` writes before it gives them their name: `name#number`.
/// Nobody else writes here: the data folder is locked.
fn remove_staged(dir: &Path) -> Result<(), StoreError> {
    for entry in std::fs::read_dir(dir).map_err(file_failed("list folder", dir))? {
        let path = entry.map_err(file_failed("list folder", dir))?.path();
        if path.is_dir() {
            remove_staged(&path)?;
            continue;
        }
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let staged = name
            .rsplit_once('#')
            .is_some_and(|(_, n)| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        if staged {
            std::fs::remove_file(&path).map_err(file_failed("remove", &path))?;
        }
    }
    Ok(())
}
