//! Where records are durable: objects, the catalog that names them, and the one way in.
//!
//! ```text
//!  commit(group) ─► L0 object, synced ─► ONE transaction {segment rows, producers} ─► Committed
//!  background    ─► L0s ─► segment, synced ─► ONE transaction {swap rows, old keys to garbage}
//!  snapshot      ─► rows of one catalog version ─► open_segment ─► select ─► read
//! ```
//!
//! Invariants:
//! - a [`Committed`] exists only after the object is synced and the transaction committed;
//! - every object that the catalog names is whole and synced; what it does not name is swept after
//!   a grace period;
//! - object keys are never used twice, objects never change;
//! - nothing but the catalog and the objects holds state: a killed process leaves only orphans.

mod asked;
mod background;
pub mod backup;
mod build;
pub mod catalog;
mod commit;
mod counters;
mod direct;
mod error;
mod held;
mod hot;
pub mod ledger;
mod objects;
mod options;
mod producer;
mod read;
mod snapshot;
mod space;
mod stats;
mod store;
mod sweep;
pub mod token;
mod worker;

pub use background::Background;
pub use commit::{Committed, Outcome};
pub use error::{CommitError, StoreError};
pub use ledger::{KeptHole, LedgerEntry, LedgerRow};
pub use objects::{Bucket, CacheReads, HIDDEN, ObjectRequests, is_secret};
pub use options::{CatalogAddress, StoreOptions};
pub use producer::{ProducerState, Verdict, judge};
pub use read::{BlockInfo, Counts, FieldUse, Groups, OpenSegment, Prepared};
pub use snapshot::{SegmentFacts, SegmentId, SegmentRef, Snapshot};
pub use stats::StoreStats;
pub use store::{Store, make_private};
pub use worker::behind_queries;
