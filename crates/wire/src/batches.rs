//! The records of one body as batches of bounded size.
//!
//! Invariants: no batch is much larger than [`PIECE_BYTES_MAX`] or has more rows than
//! [`PIECE_ROWS_MAX`]; a body whose records take far more than it (labels that are repeated in
//! every record) is refused before that costs memory.

use arrow::array::RecordBatch;
use arrow::error::ArrowError;

/// Bytes of records, roughly, after which a batch is cut.
pub const PIECE_BYTES_MAX: usize = 32 << 20;
/// Most rows of a batch.
pub const PIECE_ROWS_MAX: usize = 1 << 17;
/// How many times its bytes a body's records may take, and what every body may take.
pub const EXPANSION_MAX: usize = 64;
const EXPANDED_BYTES_MIN: usize = 64 << 20;

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

/// Batches that are done, and how much more may come.
#[derive(Debug)]
pub(crate) struct Batches {
    done: Vec<RecordBatch>,
    bytes: usize,
    body_bytes: usize,
}

impl Batches {
    pub(crate) fn new(body_bytes: usize) -> Self {
        Batches { done: Vec::new(), bytes: 0, body_bytes }
    }

    /// Whether a batch in hand of so many rows and bytes is to be cut.
    pub(crate) fn is_full(rows: usize, bytes: usize) -> bool {
        rows >= PIECE_ROWS_MAX || bytes >= PIECE_BYTES_MAX
    }

    /// Adds what was cut.
    pub(crate) fn push(
        &mut self,
        bytes: usize,
        records: Result<Option<RecordBatch>, ArrowError>,
    ) -> Result<(), ArrowError> {
        self.bytes += bytes;
        self.done.extend(records?);
        Ok(())
    }

    /// Checks that what is done and the bytes in hand are not too much.
    pub(crate) fn check(&self, bytes: usize) -> Result<(), ExpandsError> {
        let bytes_max = self.body_bytes.saturating_mul(EXPANSION_MAX).max(EXPANDED_BYTES_MIN);
        if self.bytes.saturating_add(bytes) > bytes_max {
            return Err(ExpandsError { body_bytes: self.body_bytes, bytes_max });
        }
        Ok(())
    }

    pub(crate) fn into_records(self) -> Vec<RecordBatch> {
        self.done
    }
}
