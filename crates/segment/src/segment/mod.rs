//! Segments: many records of one tenant, sorted, in Lodge's own columnar form.
//!
//! ```text
//!  RecordBatches ─ build: order ─► per column: runs | column | text ─► sections ─► directory
//!  segments ─ merge: texts stay split ─► one segment
//!  directory ─ Segment::open ─► prepare(predicate) ─► select(chunk) ─► read | times | groups
//! ```
//!
//! `FORMAT.md` specifies every byte.
//!
//! Invariants:
//! - rows are sorted by the text of `_stream`, then by `_time`; among equal ones in the order in
//!   which they were given;
//! - the rows out are the rows in.

mod build;
mod counts;
mod directory;
mod layout;
mod merge;
mod order;
mod read;
mod reader;
mod runs;
mod select;
mod strings;

pub use build::build;
pub use counts::Counts;
pub use directory::{CHUNK_ROWS, ChunkInfo, SEGMENT_VERSION, TRAILER_BYTES};
pub use layout::Layout;
pub use merge::{Source, merge};
pub use read::Groups;
pub use reader::{Segment, ask};
pub use select::Prepared;

#[cfg(test)]
#[path = "damage_tests.rs"]
mod tests;
