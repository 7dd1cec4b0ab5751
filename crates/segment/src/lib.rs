//! L0 and segment files: bytes in, bytes out. `FORMAT.md` specifies every byte.
//!
//! ```text
//!  RecordBatches ─ l0::append ──► L0 object: one table per tenant
//!  L0 tables     ─ segment::build ─► segment: templates and packed columns, by (_stream, _time)
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
mod column;
mod cursor;
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
mod text;

pub use bits::Mask;
pub use column::identifier;
pub use error::SegmentError;
pub use footer::{BlockMeta, FORMAT_VERSION, Footer, TRAILER_BYTES, field_of, type_number};
pub use sections::SectionNo;
pub use text::{Words, word_fields};
