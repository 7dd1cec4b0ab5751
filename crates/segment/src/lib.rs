//! L0 and segment files: bytes in, bytes out. `FORMAT.md` specifies every byte.
//!
//! ```text
//!  RecordBatches ─ l0::append ──► L0 object: one table per tenant, LZ4
//!  L0 tables     ─ segment::build ─► segment: one table, sorted by (_stream, _time), zstd
//!  table         ─ Footer::parse ─► ranges of the columns asked for ─► decode ─► RecordBatch
//! ```
//!
//! Invariants:
//! - no file, clock, lock or thread is known here;
//! - every byte of a file is under a checksum; damage is a [`SegmentError`] that names its place,
//!   never a panic and never a wrong row;
//! - what is read back has the same values as what was written, by
//!   [`lodge_record::schema::value_text`].

mod bits;
mod chunk;
mod dictionary;
mod error;
mod footer;
pub mod l0;
pub mod pattern;
pub mod predicate;
mod sections;
pub mod segment;
mod sources;
pub mod table;

pub use bits::Mask;
pub use error::SegmentError;
pub use footer::{
    BlockMeta, FORMAT_VERSION, Footer, TRAILER_BYTES, TableKind, field_of, type_number,
};
pub use sections::SectionNo;
