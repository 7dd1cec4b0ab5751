//! The store.

use std::path::Path;
use std::sync::Arc;

use lodge_record::{Batch, Origin, Position, ProducerId, TenantId};

use crate::{
    CommitError, OpenSegment, ProducerState, SegmentRef, Snapshot, StoreError, StoreOptions,
    StoreStats,
};

/// Proof that a batch is durable. Only [`Store::commit`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    origin: Option<Origin>,
    position: Option<Position>,
    records: u64,
    duplicate: bool,
}

impl Committed {
    /// The producer and its highest sequence committed; `None` for a batch without an origin.
    pub fn origin(&self) -> Option<Origin> {
        self.origin
    }

    /// The position stored with that sequence.
    pub fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// Records that this batch added: 0 for a duplicate.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Whether the batch had been stored before.
    pub fn is_duplicate(&self) -> bool {
        self.duplicate
    }
}

/// What became of one batch of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is durable, now or since an earlier attempt.
    Committed(Committed),
    /// Earlier batches of its producer are missing; nothing of it was stored.
    Gap(ProducerState),
    /// Its epoch has ended; nothing of it was stored.
    StaleEpoch(ProducerState),
}

/// Objects and catalog of one data folder.
#[derive(Debug)]
pub struct Store {}

/// The background tasks: build, merge, sweep.
#[derive(Debug)]
pub struct Background {}

impl Background {
    /// Stops them, waiting for a step that is under way.
    pub async fn shutdown(self) {}
}

impl Store {
    /// Opens the data folder, which is made if it is not there.
    pub async fn open(data_dir: &Path, options: StoreOptions) -> Result<Arc<Self>, StoreError> {
        let _ = (data_dir, options);
        Ok(Arc::new(Store {}))
    }

    /// Makes a group of batches durable; one [`Outcome`] for each, in their order.
    pub async fn commit(&self, group: Vec<Batch>) -> Result<Vec<Outcome>, CommitError> {
        let _ = group;
        Ok(Vec::new())
    }

    /// What is committed of a producer.
    pub async fn producer(
        &self,
        tenant: &TenantId,
        producer: ProducerId,
    ) -> Result<Option<ProducerState>, StoreError> {
        let _ = (tenant, producer);
        Ok(None)
    }

    /// The segments of `tenant` that overlap `time` (both ends inclusive; `None` is all time).
    pub async fn snapshot(
        &self,
        tenant: &TenantId,
        time: Option<(i64, i64)>,
    ) -> Result<Snapshot, StoreError> {
        let _ = time;
        Ok(Snapshot::new(0, tenant.clone(), Vec::new()))
    }

    /// Opens a segment of a snapshot for reading.
    pub async fn open_segment(&self, segment: &SegmentRef) -> Result<OpenSegment, StoreError> {
        Err(StoreError::NoSuchBlock { segment: segment.id.0, block: 0 })
    }

    /// Starts building, merging and sweeping.
    pub fn spawn_background(self: &Arc<Self>) -> Background {
        Background {}
    }

    /// Counters.
    pub fn stats(&self) -> StoreStats {
        StoreStats::default()
    }

    /// Waits until nothing is left to build or merge.
    pub async fn wait_built(&self) {}
}
