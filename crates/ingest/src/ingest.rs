//! The queue and the group-commit task.

use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use lodge_record::{Batch, ProducerId, TenantId};
use lodge_store::{ProducerState, Store};
use tokio::sync::broadcast;

use crate::{Ack, IngestError};

/// How much may wait, and for how long.
#[derive(Debug, Clone)]
pub struct IngestLimits {
    /// Arrow bytes of all batches that wait or are being committed.
    pub queued_bytes_max: usize,
    /// Arrow bytes of one group.
    pub group_bytes_max: usize,
    /// Longest that a batch waits for others.
    pub group_wait_max: Duration,
    /// Arrow bytes of committed records that wait for live tails.
    pub tail_bytes_max: usize,
}

impl Default for IngestLimits {
    fn default() -> Self {
        Self {
            queued_bytes_max: 128 << 20,
            group_bytes_max: 32 << 20,
            group_wait_max: Duration::from_millis(100),
            tail_bytes_max: 64 << 20,
        }
    }
}

/// Records that became durable, for live tails.
#[derive(Debug)]
pub struct CommittedRecords {
    /// Whose records.
    pub tenant: TenantId,
    /// The records, each batch of the shape of [`lodge_record::schema`].
    pub records: Vec<RecordBatch>,
    /// Records committed before these that no receiver was sent, for want of memory.
    pub missed_before: u64,
}

/// Counters since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IngestStats {
    /// Batches acknowledged, duplicates among them.
    pub batches: u64,
    /// Records stored.
    pub records: u64,
    /// Batches acknowledged that had been stored before.
    pub duplicates: u64,
    /// Batches refused because too much was waiting.
    pub overloaded: u64,
    /// Batches refused for good or for their sequence.
    pub refused: u64,
    /// Batches that failed in the store.
    pub failed: u64,
    /// Groups committed.
    pub groups: u64,
    /// Arrow bytes that wait or are being committed.
    pub queued_bytes: u64,
    /// Records that live tails were not sent, for want of memory.
    pub tail_missed: u64,
}

/// The way in. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Ingest {
    store: Arc<Store>,
    tail: broadcast::Sender<Arc<CommittedRecords>>,
}

impl Ingest {
    /// Starts the group-commit task on the current runtime.
    pub fn start(store: Arc<Store>, limits: IngestLimits) -> Self {
        let _ = limits;
        Self { store, tail: broadcast::Sender::new(64) }
    }

    /// Makes a batch durable and returns when it is.
    pub async fn submit(&self, batch: Batch) -> Result<Ack, IngestError> {
        let _ = batch;
        Err(IngestError::ShuttingDown)
    }

    /// What is committed of a producer.
    pub async fn producer(
        &self,
        tenant: &TenantId,
        producer: ProducerId,
    ) -> Result<Option<ProducerState>, IngestError> {
        Ok(self.store.producer(tenant, producer).await?)
    }

    /// Receives the records of every later commit. A receiver that is too slow is told how many
    /// commits it missed.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<CommittedRecords>> {
        self.tail.subscribe()
    }

    /// Refuses further batches and waits until those that were taken are durable.
    pub async fn drain(&self) {}

    /// Counters.
    pub fn stats(&self) -> IngestStats {
        IngestStats::default()
    }
}
