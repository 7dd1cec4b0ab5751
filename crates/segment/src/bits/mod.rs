//! Rows as bits, and numbers in as few bits as they need.

mod codes;
mod ints;
mod lanes;
mod mask;

pub(crate) use codes::Codes;
pub(crate) use ints::Ints;
pub use mask::Mask;
