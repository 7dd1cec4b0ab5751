//! Committed records for live tails.
//!
//! Invariant: what waits for slow receivers is bounded in messages and in bytes; what does not fit
//! is not sent, and the next message says how many records that were.
//!
//! A process that has its catalog alone sends what it commits itself; where others commit, too, all comes
//! by way of the catalog: see [`crate::follow`].

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use arrow::record_batch::RecordBatch;
use lodge_record::TenantId;
use tokio::sync::broadcast::{self, error::RecvError};

use crate::follow::Wanted;
use crate::ingest::used_bytes;

/// Messages that wait for the slowest receiver; one more and it is told that it lags.
const MESSAGES_MAX: usize = 256;

/// Records that became durable, for live tails.
#[derive(Debug)]
pub struct CommittedRecords {
    /// Whose records.
    pub tenant: TenantId,
    /// The records, each batch of the shape of [`lodge_record::schema`].
    pub records: Vec<RecordBatch>,
    /// Records of any tenant committed before these that were sent to nobody, for want of memory.
    pub missed_before: u64,
    held: Held,
}

/// The records that become durable from now on.
#[derive(Debug)]
pub struct Commits {
    pub(crate) receiver: broadcast::Receiver<Arc<CommittedRecords>>,
    pub(crate) _wanted: Option<Arc<Wanted>>,
}

impl Commits {
    /// The next ones, of any tenant; or that some were skipped, as this receiver is too slow.
    ///
    /// # Errors
    /// `Lagged` with how many messages, `Closed` at the end.
    pub async fn recv(&mut self) -> Result<Arc<CommittedRecords>, RecvError> {
        self.receiver.recv().await
    }

    /// How many messages wait.
    pub fn waiting(&self) -> usize {
        self.receiver.len()
    }
}

/// Bytes that are given back when the last receiver has dropped the message.
#[derive(Debug)]
struct Held {
    bytes: usize,
    all: Arc<AtomicUsize>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Relaxed);
    }
}

/// The sending end.
#[derive(Debug)]
pub(crate) struct Tail {
    sender: broadcast::Sender<Arc<CommittedRecords>>,
    bytes_max: usize,
    held: Arc<AtomicUsize>,
    missed: AtomicU64,
    missed_ever: AtomicU64,
}

impl Tail {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            sender: broadcast::Sender::new(MESSAGES_MAX),
            bytes_max,
            held: Arc::default(),
            missed: 0.into(),
            missed_ever: 0.into(),
        }
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Arc<CommittedRecords>> {
        self.sender.subscribe()
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.sender.receiver_count() > 0
    }

    pub(crate) fn missed(&self) -> u64 {
        self.missed_ever.load(Relaxed)
    }

    /// Whether about so many bytes more may wait.
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        (self.held.load(Relaxed) as u64).saturating_add(bytes) <= self.bytes_max as u64
    }

    /// Counts records that are sent to nobody.
    pub(crate) fn miss(&self, rows: u64) {
        self.missed.fetch_add(rows, Relaxed);
        self.missed_ever.fetch_add(rows, Relaxed);
    }

    /// Sends the records of a group, a message for each tenant.
    pub(crate) fn send(&self, stored: Vec<(TenantId, RecordBatch)>) {
        let mut by_tenant: HashMap<TenantId, Vec<RecordBatch>> = HashMap::new();
        for (tenant, records) in stored {
            by_tenant.entry(tenant).or_default().push(records);
        }
        for (tenant, records) in by_tenant {
            let rows: usize = records.iter().map(RecordBatch::num_rows).sum();
            let bytes = records.iter().map(used_bytes).sum();
            if self.held.load(Relaxed).saturating_add(bytes) > self.bytes_max {
                self.miss(rows as u64);
                continue;
            }
            self.held.fetch_add(bytes, Relaxed);
            let held = Held { bytes, all: Arc::clone(&self.held) };
            let missed_before = self.missed.swap(0, Relaxed);
            let message = CommittedRecords { tenant, records, missed_before, held };
            // Without a receiver the message comes back as the error and is dropped.
            self.sender.send(Arc::new(message)).ok();
        }
    }
}

impl CommittedRecords {
    /// About the bytes that the records take in memory.
    pub fn bytes(&self) -> usize {
        self.held.bytes
    }
}
