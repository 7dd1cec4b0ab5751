//! How batches come in: admitted within limits, committed in groups, acknowledged when durable.
//!
//! Invariants:
//! - an [`Ack`] is only ever made from the store's `Committed`;
//! - what waits is bounded in bytes and in batches; beyond it [`IngestError::Overloaded`].

mod ack;
mod ingest;

pub use ack::{Ack, IngestError};
pub use ingest::{CommittedRecords, Ingest, IngestLimits, IngestStats};
pub use lodge_store::ProducerState;
