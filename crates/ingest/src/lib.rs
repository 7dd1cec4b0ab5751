//! How batches come in: admitted within limits, committed in groups, acknowledged when durable.
//!
//! Invariants:
//! - an [`Ack`] is only ever made from the store's `Committed`;
//! - what waits is bounded in bytes and in batches; beyond it [`IngestError::Overloaded`].

mod ack;
mod follow;
mod ingest;
mod tail;

pub use ack::{Ack, IngestError};
pub use ingest::{Ingest, IngestLimits, IngestStats};
pub use lodge_store::ProducerState;
pub use tail::{Commits, CommittedRecords};
