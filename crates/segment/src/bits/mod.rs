//! Rows as bits, and numbers in as few bits as they need.

mod codes;
mod ints;
mod lanes;
mod mask;
mod words;

pub(crate) use codes::{Codes, Counter, LOOK_UP_COST};
pub(crate) use ints::Ints;
pub use mask::Mask;
pub(crate) use words::Words;
