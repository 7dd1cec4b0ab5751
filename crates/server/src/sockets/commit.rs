//! Decoded batches made durable, again and again if it must be.
//!
//! Invariants: who waits for a piece is told of it only when every record of its batch is durable;
//! a batch whose senders can wait is tried until the server stops, one whose senders cannot is
//! dropped after a while; a dropped record is counted with the reason.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use lodge_ingest::IngestError;
use lodge_record::{Batch, TenantId};
use tokio::sync::oneshot;

use super::counters::{Counters, Dropped};
use super::piece::Piece;
use crate::app::App;
use crate::body::Reserved;
use crate::metrics::Limit;

/// First and longest pause before a batch is tried again.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Who waits for a batch, and the memory that it takes.
#[derive(Default)]
pub(super) struct Waiting {
    memory: Vec<Reserved>,
    replies: Vec<(oneshot::Sender<Vec<u8>>, Vec<u8>)>,
}

impl Waiting {
    /// Adds a piece that was decoded, with the reply to it.
    pub(super) fn add(&mut self, piece: Piece, reply: Vec<u8>) {
        self.memory.extend(piece.memory);
        if let Some(done) = piece.done {
            self.replies.push((done, reply));
        }
    }
}

/// A batch to be committed.
pub(super) struct Commit {
    pub(super) app: Arc<App>,
    pub(super) counters: Counters,
    pub(super) tenant: TenantId,
    pub(super) records: VecDeque<RecordBatch>,
    pub(super) waiting: Waiting,
    /// How long to try again; for ever if none.
    pub(super) patience: Option<Duration>,
}

impl Commit {
    /// Commits all records, then tells who waits.
    pub(super) async fn run(mut self) {
        self.reserve();
        let mut is_whole = true;
        while let Some(records) = self.records.pop_front() {
            let rows = records.num_rows();
            match self.store(&records).await {
                Ok(()) => {}
                Err(Dropped::TooLarge) if rows > 1 => {
                    let half = rows / 2;
                    self.records.push_front(records.slice(half, rows - half));
                    self.records.push_front(records.slice(0, half));
                }
                Err(reason) => {
                    self.counters.drop_messages(reason, rows as u64);
                    is_whole = false;
                }
            }
        }
        if is_whole {
            for (done, reply) in self.waiting.replies {
                // The connection may be gone; the records are durable all the same.
                done.send(reply).ok();
            }
        }
    }

    /// Records may take more than was reserved for the messages. They are there already, so this
    /// only keeps others out while they are.
    fn reserve(&mut self) {
        let reserved: usize = self.waiting.memory.iter().map(Reserved::bytes).sum();
        let taken: usize = self.records.iter().map(RecordBatch::get_array_memory_size).sum();
        if let Some(more) = taken.checked_sub(reserved).filter(|more| *more > 0) {
            let mut memory = Reserved::new(&self.app, &self.tenant);
            if memory.grow_to(more).is_err() {
                self.app.metrics.hit(Limit::InsertMemory);
            }
            self.waiting.memory.push(memory);
        }
    }

    async fn store(&self, records: &RecordBatch) -> Result<(), Dropped> {
        let batch = Batch::new(self.tenant.clone(), None, None, records.clone());
        let batch = batch.map_err(|error| {
            tracing::error!(%error, "decoded messages are no batch");
            Dropped::Internal
        })?;
        let metrics = &self.app.metrics;
        let (started, mut pause) = (Instant::now(), PAUSE_MIN);
        loop {
            let error = match self.app.ingest.submit(batch.clone()).await {
                Ok(ack) => {
                    metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
                    metrics.ingest_records.inc_by(ack.records());
                    return Ok(());
                }
                Err(error) => error,
            };
            let (reason, limit) = match &error {
                IngestError::Overloaded { .. } => (Dropped::Overloaded, Some(Limit::IngestQueue)),
                IngestError::DiskFull { .. } => (Dropped::DiskFull, Some(Limit::DiskFree)),
                IngestError::Store(_) => (Dropped::Store, None),
                IngestError::TooLarge { .. } => return Err(Dropped::TooLarge),
                IngestError::ShuttingDown => return Err(Dropped::Stopping),
                IngestError::Gap { .. } | IngestError::StaleEpoch { .. } => {
                    return Err(Dropped::Internal);
                }
            };
            limit.into_iter().for_each(|limit| metrics.hit(limit));
            if self.patience.is_some_and(|patience| started.elapsed() >= patience) {
                tracing::warn!(%error, rows = records.num_rows(), "messages are dropped");
                return Err(reason);
            }
            if pause == PAUSE_MIN {
                tracing::warn!(%error, "a batch of messages waits to be stored");
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}
