//! How far a copy has come, for who watches it, and the copying of an object.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;

use super::BackupError;
use crate::objects::Objects;

/// Counters of a copy; they rise while it is made.
#[derive(Debug, Default)]
pub struct Work {
    /// Objects there are.
    pub objects: AtomicU64,
    /// Their bytes, as far as they are known.
    pub bytes: AtomicU64,
    /// Objects that are done.
    pub objects_done: AtomicU64,
    /// Their bytes.
    pub bytes_done: AtomicU64,
    /// Those that had to be written.
    pub objects_sent: AtomicU64,
    /// Their bytes.
    pub bytes_sent: AtomicU64,
    /// Rows of the catalog that are done.
    pub rows_done: AtomicU64,
}

impl Work {
    pub(super) fn plan(&self, objects: u64, bytes: u64) {
        self.objects.store(objects, Relaxed);
        self.bytes.store(bytes, Relaxed);
    }

    pub(super) fn done(&self, bytes: u64, sent: bool) {
        self.objects_done.fetch_add(1, Relaxed);
        self.bytes_done.fetch_add(bytes, Relaxed);
        if sent {
            self.objects_sent.fetch_add(1, Relaxed);
            self.bytes_sent.fetch_add(bytes, Relaxed);
        }
    }

    pub(super) fn rows(&self, count: usize) {
        self.rows_done.fetch_add(count as u64, Relaxed);
    }
}

/// So many objects are copied at once.
pub(super) const AT_ONCE: usize = 4;

/// Writes an object unless the same is there already, and makes sure that it reads as it should.
/// What an attempt that was killed has left half written is replaced.
pub(super) async fn write(
    to: &Objects,
    at: &str,
    key: &str,
    bytes: &Bytes,
    there: Option<u64>,
) -> Result<bool, BackupError> {
    let about = bytes.len() as u64;
    if there.is_some() {
        if there == Some(about) && to.read(key, about).await? == *bytes {
            return Ok(false);
        }
        to.delete(key).await?;
    }
    to.put(key, bytes.clone()).await?;
    if to.read(key, about).await? != *bytes {
        return Err(BackupError::Unfaithful { at: at.to_owned(), key: key.to_owned() });
    }
    Ok(true)
}

/// An object, which must have as many bytes as its segments need.
pub(super) async fn read(from: &Objects, key: &str, wanted: u64) -> Result<Bytes, BackupError> {
    let found = from.read(key, wanted).await?;
    let bytes = found.len() as u64;
    if bytes < wanted {
        return Err(BackupError::Short { key: key.to_owned(), bytes, wanted });
    }
    Ok(found)
}
