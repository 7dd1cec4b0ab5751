//! What a sender is told.

use lodge_record::{Origin, Position};
use lodge_store::{CommitError, Committed, ProducerState, StoreError};

/// Acknowledgement: the batch is durable. Can only be made from what the commit returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    committed: Committed,
}

impl From<Committed> for Ack {
    fn from(committed: Committed) -> Self {
        Self { committed }
    }
}

impl Ack {
    /// The producer with its highest sequence committed; `None` for a batch without an origin.
    pub fn origin(&self) -> Option<Origin> {
        self.committed.origin()
    }

    /// The position stored with that sequence: everything up to it is durable.
    pub fn position(&self) -> Option<&Position> {
        self.committed.position()
    }

    /// Records that the batch added: 0 for a duplicate.
    pub fn records(&self) -> u64 {
        self.committed.records()
    }

    /// Whether the batch had been stored before.
    pub fn duplicate(&self) -> bool {
        self.committed.is_duplicate()
    }
}

/// Why a batch is not acknowledged.
#[derive(Debug, Clone, thiserror::Error)]
pub enum IngestError {
    /// Too much is waiting to be committed.
    #[error(
        "too much waits to be committed ({queued_bytes} bytes, the limit is {limit_bytes}, of which \
         one tenant leaves some to others); send the batch again in {retry_after_s} s"
    )]
    Overloaded {
        /// When to try again, seconds.
        retry_after_s: u64,
        /// Bytes that wait.
        queued_bytes: usize,
        /// How many may.
        limit_bytes: usize,
    },
    /// The disk is full.
    #[error(
        "the disk is full ({free_bytes} bytes free, {reserve_bytes} are kept in reserve); free \
         some space on the server and send the batch again"
    )]
    DiskFull {
        /// Free bytes.
        free_bytes: u64,
        /// Bytes kept free.
        reserve_bytes: u64,
    },
    /// Earlier batches of the producer are missing.
    #[error(
        "batches are missing before this one: committed is epoch {}, sequence {}; start a new \
         epoch from the last position acknowledged", .committed.epoch, .committed.seq
    )]
    Gap {
        /// What is committed of the producer; epoch and sequence 0 if nothing.
        committed: ProducerState,
    },
    /// The producer has gone on to a later epoch.
    #[error("the epoch of this batch has ended: committed is epoch {}, sequence {}",
        .committed.epoch, .committed.seq)]
    StaleEpoch {
        /// What is committed of the producer.
        committed: ProducerState,
    },
    /// The batch is larger than a batch may be.
    #[error("the batch has {bytes} bytes in memory, the limit is {limit_bytes}; send it in parts")]
    TooLarge {
        /// Arrow bytes of the batch.
        bytes: usize,
        /// The limit.
        limit_bytes: usize,
    },
    /// The server is stopping.
    #[error("the server is shutting down; send the batch again")]
    ShuttingDown,
    /// The store failed; the batch may be sent again.
    #[error("{0}")]
    Store(std::sync::Arc<CommitError>),
}

impl IngestError {
    /// Whether sending the same batch again, later, may succeed.
    pub fn is_retryable(&self) -> bool {
        match self {
            IngestError::Overloaded { .. }
            | IngestError::DiskFull { .. }
            | IngestError::ShuttingDown
            | IngestError::Store(_) => true,
            IngestError::Gap { .. }
            | IngestError::StaleEpoch { .. }
            | IngestError::TooLarge { .. } => false,
        }
    }
}

impl From<StoreError> for IngestError {
    fn from(error: StoreError) -> Self {
        IngestError::Store(std::sync::Arc::new(CommitError::Store(error)))
    }
}
