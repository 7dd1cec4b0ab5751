//! The data folder as a place: who holds it, and how much room there is.
//!
//! Invariants:
//! - one process at a time holds the lock of a data folder;
//! - commits stop while there is still room for the catalog to work: the reserve.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FlockOperation, flock, statvfs};

use crate::StoreError;

/// Most bytes of the default reserve.
const RESERVE_BYTES_MAX: u64 = 256 << 20;
/// The default reserve is this part of the file system.
const RESERVE_DIVISOR: u64 = 20;

/// The lock on a data folder; held until dropped, or until the process ends in whatever way.
#[derive(Debug)]
pub(crate) struct DirLock {
    file: File,
}

impl Drop for DirLock {
    fn drop(&mut self) {
        // Closing is not enough: a program that this process starts has the file open, too, until it
        // has begun to run. If it fails, the lock goes with the last of them.
        flock(&self.file, FlockOperation::Unlock).ok();
    }
}

impl DirLock {
    pub(crate) fn take(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join("lodge.lock");
        let failed = |source| StoreError::File { action: "open", path: path.clone(), source };
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { file }),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                Err(StoreError::Locked { dir: dir.to_owned(), lock: path })
            }
            Err(error) => Err(StoreError::File { action: "lock", path, source: error.into() }),
        }
    }
}

/// The free space of the file system that holds the data folder.
#[derive(Debug)]
pub(crate) struct Space {
    dir: PathBuf,
    reserve_bytes: AtomicU64,
}

impl Space {
    /// `reserve_bytes`: `None` for the default.
    pub(crate) fn new(dir: &Path, reserve_bytes: Option<u64>) -> Result<Self, StoreError> {
        let stat = statvfs(dir).map_err(|error| StoreError::File {
            action: "inspect the file system of",
            path: dir.to_owned(),
            source: error.into(),
        })?;
        let whole = stat.f_blocks.saturating_mul(stat.f_frsize);
        let reserve = reserve_bytes.unwrap_or((whole / RESERVE_DIVISOR).min(RESERVE_BYTES_MAX));
        Ok(Self { dir: dir.to_owned(), reserve_bytes: AtomicU64::new(reserve) })
    }

    /// Free bytes for this process; all there could be if the file system does not tell.
    pub(crate) fn free_bytes(&self) -> u64 {
        statvfs(&self.dir).map_or(u64::MAX, |s| s.f_bavail.saturating_mul(s.f_frsize))
    }

    pub(crate) fn reserve_bytes(&self) -> u64 {
        self.reserve_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn set_reserve_bytes(&self, bytes: u64) {
        self.reserve_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Refuses to write so many bytes if the reserve, or the part of it that may not be used for
    /// this, would be touched. Building may use half of the reserve, because it frees more than it
    /// takes.
    pub(crate) fn check(&self, bytes: u64, building: bool) -> Result<(), StoreError> {
        let free_bytes = self.free_bytes();
        let reserve = self.reserve_bytes();
        let kept = if building { reserve / 2 } else { reserve };
        if free_bytes.saturating_sub(bytes) < kept || free_bytes < bytes {
            return Err(StoreError::DiskFull { free_bytes, reserve_bytes: reserve });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_lock_ends_with_its_holder_though_others_have_the_file_open() {
        let dir = tempfile::tempdir().unwrap();
        let lock = DirLock::take(dir.path()).unwrap();
        // As a program has it that was started and does not run yet.
        let other = lock.file.try_clone().unwrap();
        assert!(matches!(DirLock::take(dir.path()), Err(StoreError::Locked { .. })));
        drop(lock);
        DirLock::take(dir.path()).unwrap();
        drop(other);
    }
}
