//! Opened segments, kept within a limit of bytes; those not used for longest go first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::built::OpenBuilt;
use super::table::OpenTable;
use crate::SegmentId;

/// A segment that was opened: its directory, and what was read of it.
#[derive(Debug, Clone)]
pub(crate) enum Opened {
    Table(Arc<OpenTable>),
    Built(Arc<OpenBuilt>),
}

impl Opened {
    fn memory_bytes(&self) -> usize {
        match self {
            Self::Table(table) => table.memory_bytes(),
            Self::Built(built) => built.memory_bytes(),
        }
    }
}

/// The cache.
#[derive(Debug)]
pub(crate) struct Cache {
    bytes_max: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    opened: HashMap<SegmentId, (Opened, u64)>,
    /// Counts uses.
    clock: u64,
}

impl Cache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, inner: Mutex::default() }
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, id: SegmentId) -> Option<Opened> {
        let mut inner = self.inner();
        inner.clock += 1;
        let now = inner.clock;
        let (opened, used) = inner.opened.get_mut(&id)?;
        *used = now;
        Some(opened.clone())
    }

    pub(super) fn keep(&self, id: SegmentId, opened: Opened) {
        let mut inner = self.inner();
        inner.clock += 1;
        let now = inner.clock;
        inner.opened.insert(id, (opened, now));
        drop(inner);
        self.trim();
    }

    /// Lets go of what is beyond the limit. Summing up anew costs little beside the read that led
    /// here, and counts what opened segments have read since.
    pub(super) fn trim(&self) {
        let mut inner = self.inner();
        let mut bytes: usize = inner.opened.values().map(|(o, _)| o.memory_bytes()).sum();
        while bytes > self.bytes_max {
            let oldest = inner.opened.iter().min_by_key(|(_, (_, used))| *used);
            let Some(id) = oldest.map(|(id, _)| *id) else { break };
            if let Some((gone, _)) = inner.opened.remove(&id) {
                bytes = bytes.saturating_sub(gone.memory_bytes());
            }
        }
    }

    pub(crate) fn remove(&self, ids: &[SegmentId]) {
        let mut inner = self.inner();
        for id in ids {
            inner.opened.remove(id);
        }
    }
}
