//! The records of one body as batches of bounded size, and what was wrong with single items of it.
//!
//! Invariants: no batch is much larger than [`PIECE_BYTES_MAX`] or has more rows than
//! [`PIECE_ROWS_MAX`]; a body whose records take far more than it (labels that are repeated in
//! every record) is refused before that costs memory; errors are counted, and only the first kept.

use arrow::array::RecordBatch;
use arrow::error::ArrowError;

/// Bytes of records as text after which a batch is cut.
pub const PIECE_BYTES_MAX: usize = 32 << 20;
/// Most rows of a batch.
pub const PIECE_ROWS_MAX: usize = 1 << 17;
/// How many times its own bytes the records of a body may take, and what those of any body may.
pub const EXPANSION_MAX: usize = 16;
/// See [`EXPANSION_MAX`].
pub const EXPANDED_BYTES_MIN: usize = 128 << 20;
/// As [`EXPANSION_MAX`] with every repeated text counted each time: a bound on the work.
pub const TEXT_EXPANSION_MAX: usize = 64;
/// See [`TEXT_EXPANSION_MAX`].
pub const TEXT_EXPANDED_BYTES_MIN: usize = 256 << 20;
/// Most errors of items that are reported one by one; beyond that they are only counted.
pub const ITEM_ERRORS_MAX: usize = 100;

/// The records of a body would take too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{body_bytes} bytes expand to more than {bytes_max} bytes of records, as each repeats its \
     labels: send fewer records in a request"
)]
pub struct ExpandsError {
    /// The body.
    pub body_bytes: usize,
    /// What its records may take.
    pub bytes_max: usize,
}

/// Why a body gave nothing at all.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Its records would take too much.
    #[error(transparent)]
    Expands(#[from] ExpandsError),
    /// Its records could not be made into columns: a bug.
    #[error(transparent)]
    Columns(#[from] ArrowError),
}

/// Batches that are done, and how much more may come.
#[derive(Debug)]
pub(crate) struct Batches {
    done: Vec<RecordBatch>,
    /// Memory that they take.
    bytes: usize,
    /// Bytes of their values, each counted.
    text_bytes: usize,
    body_bytes: usize,
}

impl Batches {
    pub(crate) fn new(body_bytes: usize) -> Self {
        Batches { done: Vec::new(), bytes: 0, text_bytes: 0, body_bytes }
    }

    /// Whether a batch in hand of so many rows and bytes is to be cut.
    pub(crate) fn is_full(rows: usize, bytes: usize) -> bool {
        rows >= PIECE_ROWS_MAX || bytes >= PIECE_BYTES_MAX
    }

    /// Adds what was cut, whose values were so many bytes as text.
    pub(crate) fn push(
        &mut self,
        text_bytes: usize,
        records: Result<Option<RecordBatch>, ArrowError>,
    ) -> Result<(), ArrowError> {
        if let Some(records) = records? {
            self.bytes += records.get_array_memory_size();
            self.text_bytes += text_bytes;
            self.done.push(records);
        }
        Ok(())
    }

    /// Checks that what is done, and the values in hand of so many bytes, are not too much.
    pub(crate) fn check(&self, text_bytes: usize) -> Result<(), ExpandsError> {
        let body_bytes = self.body_bytes;
        let allowed = |factor, least| body_bytes.saturating_mul(factor).max(least);
        let bytes_max = allowed(EXPANSION_MAX, EXPANDED_BYTES_MIN);
        if self.bytes > bytes_max {
            return Err(ExpandsError { body_bytes, bytes_max });
        }
        let bytes_max = allowed(TEXT_EXPANSION_MAX, TEXT_EXPANDED_BYTES_MIN);
        if self.text_bytes.saturating_add(text_bytes) > bytes_max {
            return Err(ExpandsError { body_bytes, bytes_max });
        }
        Ok(())
    }

    pub(crate) fn into_records(self) -> Vec<RecordBatch> {
        self.done
    }
}

/// An item of a body that is not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemError<C = ()> {
    /// Its number in the body, from 0.
    pub item: u64,
    /// Where it begins in the body, in bytes.
    pub offset: usize,
    /// The protocol's own word for what is wrong.
    pub code: C,
    /// What is wrong with it.
    pub reason: String,
}

/// What came out of a body.
#[derive(Debug)]
pub struct Decoded<C = ()> {
    /// The records, in order.
    pub records: Vec<RecordBatch>,
    /// Items seen, those with errors too.
    pub items: u64,
    /// Items that are not stored, counted.
    pub failed_total: u64,
    /// The first of them.
    pub errors: Vec<ItemError<C>>,
}

impl<C> Decoded<C> {
    pub(crate) fn new() -> Self {
        Decoded { records: Vec::new(), items: 0, failed_total: 0, errors: Vec::new() }
    }

    /// Adds an item that is not stored.
    pub(crate) fn fail(&mut self, offset: usize, code: C, reason: impl FnOnce() -> String) {
        if self.errors.len() < ITEM_ERRORS_MAX {
            self.errors.push(ItemError { item: self.items, offset, code, reason: reason() });
        }
        self.items += 1;
        self.failed_total += 1;
    }
}
