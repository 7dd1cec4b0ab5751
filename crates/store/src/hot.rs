//! Committed L0 records that stay in memory for queries and for the builder.
//!
//! Invariant: it never holds more than its limit; what is dropped from it is read from its object.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::record_batch::RecordBatch;
use lodge_segment::Words;

use crate::SegmentId;
use crate::read::BlockInfo;

/// The blocks of one L0 segment.
#[derive(Debug)]
pub(crate) struct HotBlocks {
    pub(crate) batches: Vec<RecordBatch>,
    pub(crate) infos: Vec<BlockInfo>,
    /// The words of the fields that are asked for them.
    pub(crate) words: Words,
    pub(crate) bytes: usize,
}

/// The cache; the oldest go first, because the builder takes them first.
#[derive(Debug)]
pub(crate) struct Hot {
    bytes_max: usize,
    inner: Mutex<Inner>,
    hits: AtomicU64,
    misses: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    blocks: HashMap<SegmentId, Arc<HotBlocks>>,
    order: VecDeque<SegmentId>,
    bytes: usize,
}

impl Inner {
    fn remove(&mut self, id: SegmentId) {
        if let Some(gone) = self.blocks.remove(&id) {
            self.bytes = self.bytes.saturating_sub(gone.bytes);
        }
    }
}

impl Hot {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, inner: Mutex::default(), hits: 0.into(), misses: 0.into() }
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn insert(&self, id: SegmentId, blocks: HotBlocks) {
        if blocks.bytes > self.bytes_max {
            return;
        }
        let mut inner = self.inner();
        inner.bytes += blocks.bytes;
        inner.blocks.insert(id, Arc::new(blocks));
        inner.order.push_back(id);
        while inner.bytes > self.bytes_max {
            let Some(oldest) = inner.order.pop_front() else { break };
            inner.remove(oldest);
        }
    }

    pub(crate) fn get(&self, id: SegmentId) -> Option<Arc<HotBlocks>> {
        let found = self.inner().blocks.get(&id).cloned();
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    pub(crate) fn remove(&self, ids: &[SegmentId]) {
        let mut inner = self.inner();
        for id in ids {
            inner.remove(*id);
        }
        let inner = &mut *inner;
        inner.order.retain(|id| inner.blocks.contains_key(id));
    }

    pub(crate) fn bytes(&self) -> usize {
        self.inner().bytes
    }

    /// Hits and misses since the start.
    pub(crate) fn reads(&self) -> (u64, u64) {
        (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed))
    }
}
