//! Objects: bytes under a key that are durable when [`Objects::put`] returns.
//!
//! Invariants, wherever they are:
//! - an object is created once and never changes; its key is never used again;
//! - a put that failed leaves nothing or an orphan, which the sweep removes;
//! - an object between its put and the end of its transaction is never swept.

mod cached;
mod local;
mod place;
mod remote;
mod requests;

use std::collections::HashSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::StoreError;
pub use cached::CacheReads;
use cached::Cached;
use local::Local;
pub use place::{Bucket, HIDDEN, is_secret};
use remote::Remote;

pub(crate) use remote::MARK;

pub(crate) use local::{blocking, sync_dir};

/// An object as a listing shows it.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    pub(crate) key: String,
    pub(crate) modified: SystemTime,
    pub(crate) bytes: u64,
}

/// The objects of a store.
#[derive(Debug)]
pub(crate) struct Objects {
    place: Place,
    /// Keys between their put and the end of their transaction: never swept.
    in_flight: Arc<Mutex<HashSet<String>>>,
}

#[derive(Debug)]
enum Place {
    Local(Local),
    Remote(Arc<Remote>, Cached),
}

/// Requests to an object store since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ObjectRequests {
    /// That wrote.
    pub puts: u64,
    /// That read.
    pub gets: u64,
    /// That deleted, or did anything else.
    pub others: u64,
    /// Answered with 5xx or 429, or not at all.
    pub failed: u64,
    /// Bytes of what was sent.
    pub sent_bytes: u64,
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

impl Objects {
    /// Opens the folder of objects, which is made if it is not there.
    pub(crate) async fn open_folder(root: PathBuf) -> Result<Self, StoreError> {
        let place = Place::Local(Local::open(root).await?);
        Ok(Self { place, in_flight: Arc::default() })
    }

    /// Opens a bucket that belongs to `owner`: a catalog's number, or a word for what else it holds.
    ///
    /// # Errors
    /// [`StoreError::Bucket`] if the bucket cannot be used as it is. One that does not answer now is
    /// no error: it is asked again with each write.
    pub(crate) async fn open_bucket(bucket: &Bucket, owner: String) -> Result<Self, StoreError> {
        let place = Place::Remote(Arc::new(Remote::open(bucket, owner).await?), Cached::nothing());
        Ok(Self { place, in_flight: Arc::default() })
    }

    /// Keeps what is read of a bucket's objects in a folder of `data_dir`, up to so many bytes and half of
    /// what is free there.
    pub(crate) async fn kept_in(
        mut self,
        data_dir: &Path,
        bytes_max: u64,
        free_bytes: u64,
    ) -> Self {
        if let Place::Remote(_, cached) = &mut self.place {
            *cached = Cached::open(data_dir, bytes_max, free_bytes).await;
        }
        self
    }

    /// Opens a bucket, whoever's it is, to read from it.
    pub(crate) fn read_bucket(bucket: &Bucket) -> Result<Self, StoreError> {
        let place = Place::Remote(Arc::new(Remote::of_any(bucket)?), Cached::nothing());
        Ok(Self { place, in_flight: Arc::default() })
    }

    /// Whether objects take room on this machine's disk.
    pub(crate) fn is_local(&self) -> bool {
        matches!(self.place, Place::Local(_))
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
        match &self.place {
            Place::Local(local) => local.put(key, bytes).await,
            Place::Remote(remote, _) => remote.put(key, bytes).await,
        }
    }

    /// Parts of an object.
    pub(crate) async fn ranges(
        &self,
        key: &str,
        ranges: &[Range<u64>],
    ) -> Result<Vec<Bytes>, StoreError> {
        match &self.place {
            Place::Local(local) => local.ranges(key, ranges).await,
            Place::Remote(remote, cached) => {
                let (remote, of) = (Arc::clone(remote), key.to_owned());
                let read =
                    |missing: Vec<Range<u64>>| async move { remote.ranges(&of, &missing).await };
                cached.ranges(key, ranges, read).await
            }
        }
    }

    /// A part of an object that nobody will ask for again: no cache keeps it.
    pub(crate) async fn part_once(
        &self,
        key: &str,
        range: Range<u64>,
    ) -> Result<Bytes, StoreError> {
        let read = match &self.place {
            Place::Local(local) => local.ranges(key, &[range]).await?,
            Place::Remote(remote, _) => remote.ranges(key, &[range]).await?,
        };
        Ok(read.into_iter().next().unwrap_or_default())
    }

    /// A whole object, of about so many bytes.
    pub(crate) async fn read(&self, key: &str, about_bytes: u64) -> Result<Bytes, StoreError> {
        if let Place::Remote(remote, _) = &self.place {
            return remote.read(key, about_bytes).await;
        }
        let found = self.store().get(&Key::from(key)).await.map_err(failed("read", key))?;
        found.bytes().await.map_err(failed("read", key))
    }

    /// Deletes an object; one that is not there is no error.
    pub(crate) async fn delete(&self, key: &str) -> Result<(), StoreError> {
        if let Place::Remote(remote, _) = &self.place {
            remote.check_owner().await?;
        }
        match self.store().delete(&Key::from(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(failed("delete", key)(source)),
        }
    }

    /// All objects.
    pub(crate) async fn list(&self) -> Result<Vec<Listed>, StoreError> {
        self.list_under(None).await
    }

    /// Objects in a folder, or all.
    pub(crate) async fn list_under(&self, folder: Option<&str>) -> Result<Vec<Listed>, StoreError> {
        let folder = folder.map(Key::from);
        let listed = self.store().list(folder.as_ref()).map_ok(|meta| Listed {
            key: meta.location.to_string(),
            modified: meta.last_modified.into(),
            bytes: meta.size,
        });
        let mut listed: Vec<Listed> =
            listed.try_collect().await.map_err(failed("list", "objects"))?;
        listed.retain(|object| object.key != MARK);
        Ok(listed)
    }

    /// Ends the cache of a bucket's objects when it is written.
    pub(crate) async fn close_cache(&self) {
        if let Place::Remote(_, cached) = &self.place {
            cached.close().await;
        }
    }

    /// How reads were answered so far; none where objects are files.
    pub(crate) fn cache_reads(&self) -> CacheReads {
        match &self.place {
            Place::Local(_) => CacheReads::default(),
            Place::Remote(_, cached) => cached.reads(),
        }
    }

    /// Requests so far; none where objects are files.
    pub(crate) fn requests(&self) -> ObjectRequests {
        let Place::Remote(remote, _) = &self.place else { return ObjectRequests::default() };
        let requests = remote.requests();
        ObjectRequests {
            puts: requests.puts.load(Relaxed),
            gets: requests.gets.load(Relaxed),
            others: requests.others.load(Relaxed),
            failed: requests.failed.load(Relaxed),
            sent_bytes: requests.sent_bytes.load(Relaxed),
        }
    }

    fn store(&self) -> &dyn ObjectStore {
        match &self.place {
            Place::Local(local) => local.store(),
            Place::Remote(remote, _) => remote.store(),
        }
    }
}
