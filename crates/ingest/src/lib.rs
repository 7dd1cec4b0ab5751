//! How batches come in: admitted within limits, committed in groups, acknowledged when durable.
//!
//! Invariants:
//! - an [`Ack`] is only ever made from the store's `Committed`;
//! - what waits is bounded in bytes and in batches; beyond it [`IngestError::Overloaded`];
//! - tenants take turns: one that sends much has no more than its part of the room ([`Shares`]).

mod ack;
mod follow;
mod ingest;
mod shares;
mod tail;
mod turns;

pub use ack::{Ack, IngestError};
pub use ingest::{Ingest, IngestLimits, IngestStats};
pub use lodge_store::ProducerState;
pub use shares::{Share, Shares};
pub use tail::{Commits, CommittedRecords};
