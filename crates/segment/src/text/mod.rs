//! A text column split into templates and typed slots, after CLP (Rodrigues et al., OSDI '21).
//!
//! ```text
//!  texts ─ TextEncoder ─► sections B (template numbers) │ C (slots) │ D (raw texts)
//!                         │ filter │ words │ postings │ A (templates)
//!  meta  ─ TextReader ─ refutes: words and filter alone
//!                     └ load: section A ─► TextColumn ─ prepare ─► TextTest ─ select ─► Mask
//!                                                     └ append ─► texts
//!
//!  meta       varint values │ varint first section │ varint sections C │ varint sections D
//!             │ varint sections of the filter
//!             sections in this order: B, one per 65,536 values; C; D; filter; words; postings; A
//!  section A  varint templates │ of each: varint rows, varint bytes of its key, of its slots here and
//!             of its values in section C │ per section C: varint templates in it
//!             │ the raw index (see `raw`) │ the keys, a `9` behind each │ the slots (see `pack`)
//!  section B  see `rows`      section C  the values of some templates' slots, see `pack`
//!  section D  see `raw`       filter  see `filter`       words, postings  see `vocabulary`
//! ```
//! A template is opened when it is first asked for; a word that no template has costs a look at the
//! words.
//!
//! A value is a run of literals and slots; its template is the literals with a mark for each slot. A
//! slot holds a whole token (see `tokens`): behind mark `0` one with a digit in it, behind `1` a UUID,
//! behind `2` any token, letters alone included. No literal holds a digit. A text may fit several
//! templates: which one it was given to is the writer's choice. Template 0 stands for the raw texts:
//! those without a template.
//!
//! Invariants:
//! - every text comes back byte by byte;
//! - `select` is exact: the rows for which `FieldTest::matches` is true on the text, and no other;
//! - what a hash says is verified by comparing bytes;
//! - no bytes whatever lead to a panic.

mod append;
mod automaton;
mod check;
mod column;
mod cursor;
mod encode;
mod filter;
mod forms;
mod learn;
mod merge;
mod needle;
mod pack;
mod path;
mod pen;
mod prepare;
mod raw;
mod reader;
#[cfg(test)]
mod regex_tests;
mod rows;
mod select;
mod slot;
#[cfg(test)]
mod tests;
mod tokens;
mod values;
mod vocabulary;
mod walk;
mod words;

pub(crate) use append::Texts;
pub(crate) use column::TextColumn;
pub(crate) use encode::TextEncoder;
pub(crate) use merge::Merger;
pub(crate) use prepare::TextTest;
pub(crate) use reader::TextReader;
pub use words::{Words, word_fields};

/// Stands for a token with a digit in a template's key.
const MARK_TOKEN: u8 = b'0';
/// Stands for a UUID in a template's key.
const MARK_UUID: u8 = b'1';
/// Stands for any token in a template's key.
const MARK_ANY: u8 = b'2';
/// Most templates of a column, the raw texts aside.
const TEMPLATES_MAX: usize = 65_535;
/// Most values of a column.
const VALUES_MAX: usize = 1 << 24;

/// What became of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was written.
    Written,
    /// Nothing was written: the texts have too little in common.
    NotWorth,
}
