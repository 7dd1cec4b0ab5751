//! What comes back of a task, piece by piece.
//!
//! ```text
//!  kind │ segment │ block │ body
//!  what   of rows alone     Arrow's stream of one batch, or JSON, or eight bytes
//! ```
//!
//! The columns are the same for every task, so that what a task gives need not be told beforehand.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, LargeBinaryArray, UInt8Array, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt8Type, UInt32Type, UInt64Type};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use serde::{Deserialize, Serialize};

use crate::budget::Done;
use crate::error::QueryError;

/// Stands for all blocks of a segment.
pub(crate) const WHOLE: u32 = u32::MAX;

/// Where rows are from: the segment, and the block of it or [`WHOLE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    pub(crate) segment: u64,
    pub(crate) block: u32,
}

/// What a task was charged with until now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Charged {
    pub(crate) blocks: u64,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) rows_found: u64,
}

impl From<Done> for Charged {
    fn from(done: Done) -> Self {
        let Done { blocks, rows, bytes, rows_found, .. } = done;
        Self { blocks, rows, bytes, rows_found }
    }
}

/// The last word of a task.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct End {
    pub(crate) charged: Charged,
    /// Why not all was read, if it was not.
    pub(crate) partial: Option<QueryError>,
}

/// A piece of what comes back.
#[derive(Debug)]
pub(crate) enum Frame {
    /// All matching rows of a block.
    Rows(Origin, RecordBatch),
    /// As many matching rows, of which nothing else is wanted.
    Count(Origin, u64),
    /// Rows and their keys, the best first.
    Newest(RecordBatch),
    /// Groups, as `Tally::absorb` takes them.
    Groups(RecordBatch),
    /// Nothing but that the work goes on.
    Progress(Charged),
    /// That was all.
    End(End),
    /// There is no answer.
    Failed(QueryError),
}

const ROWS: u8 = 1;
const COUNT: u8 = 2;
const NEWEST: u8 = 3;
const GROUPS: u8 = 4;
const PROGRESS: u8 = 5;
const END: u8 = 6;
const FAILED: u8 = 7;

/// The columns of frames.
pub(crate) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("kind", DataType::UInt8, false),
        Field::new("segment", DataType::UInt64, false),
        Field::new("block", DataType::UInt32, false),
        Field::new("body", DataType::LargeBinary, false),
    ]))
}

/// Bytes of a batch that has arrived. Its columns are parts of one piece of memory, each of which would
/// count as the whole.
pub(crate) fn bytes_of(batch: &RecordBatch) -> usize {
    let of = |column: &ArrayRef| column.to_data().get_slice_memory_size().unwrap_or(0);
    batch.columns().iter().map(of).sum()
}

fn broken(error: &dyn std::fmt::Display) -> QueryError {
    QueryError::internal(format!("what another server sent cannot be read: {error}"))
}

fn stream_of(batch: &RecordBatch) -> Result<Vec<u8>, QueryError> {
    let bytes = batch.get_array_memory_size() + 1024;
    let to = Vec::with_capacity(bytes);
    let mut writer = StreamWriter::try_new(to, batch.schema_ref()).map_err(|e| broken(&e))?;
    writer.write(batch).map_err(|e| broken(&e))?;
    writer.into_inner().map_err(|e| broken(&e))
}

fn batch_of(bytes: &[u8]) -> Result<RecordBatch, QueryError> {
    let mut reader = StreamReader::try_new(bytes, None).map_err(|e| broken(&e))?;
    let batch = reader.next().ok_or_else(|| broken(&"a batch is missing"))?;
    batch.map_err(|e| broken(&e))
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, QueryError> {
    serde_json::to_vec(value).map_err(|error| broken(&error))
}

impl Frame {
    /// As it travels.
    pub(crate) fn encode(&self) -> Result<RecordBatch, QueryError> {
        let nowhere = Origin { segment: 0, block: 0 };
        let (kind, origin, body) = match self {
            Self::Rows(origin, batch) => (ROWS, *origin, stream_of(batch)?),
            Self::Count(origin, rows) => (COUNT, *origin, rows.to_le_bytes().to_vec()),
            Self::Newest(batch) => (NEWEST, nowhere, stream_of(batch)?),
            Self::Groups(batch) => (GROUPS, nowhere, stream_of(batch)?),
            Self::Progress(charged) => (PROGRESS, nowhere, json(charged)?),
            Self::End(end) => (END, nowhere, json(end)?),
            Self::Failed(error) => (FAILED, nowhere, json(error)?),
        };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt8Array::from(vec![kind])),
            Arc::new(UInt64Array::from(vec![origin.segment])),
            Arc::new(UInt32Array::from(vec![origin.block])),
            Arc::new(LargeBinaryArray::from_vec(vec![&body])),
        ];
        RecordBatch::try_new(schema(), columns).map_err(|error| broken(&error))
    }

    /// What has arrived.
    pub(crate) fn decode(batch: &RecordBatch) -> Result<Vec<Self>, QueryError> {
        let column = |place: usize| {
            let found = batch.columns().get(place);
            found.ok_or_else(|| broken(&"a column is missing"))
        };
        let other = || broken(&"a column is of another type");
        let kinds = column(0)?.as_primitive_opt::<UInt8Type>().ok_or_else(other)?;
        let segments = column(1)?.as_primitive_opt::<UInt64Type>().ok_or_else(other)?;
        let blocks = column(2)?.as_primitive_opt::<UInt32Type>().ok_or_else(other)?;
        let bodies = column(3)?.as_binary_opt::<i64>().ok_or_else(other)?;
        let frame = |row: usize| {
            let origin = Origin { segment: segments.value(row), block: blocks.value(row) };
            let body = bodies.value(row);
            Ok(match kinds.value(row) {
                ROWS => Self::Rows(origin, batch_of(body)?),
                COUNT => {
                    let rows = body.try_into().map_err(|error| broken(&error))?;
                    Self::Count(origin, u64::from_le_bytes(rows))
                }
                NEWEST => Self::Newest(batch_of(body)?),
                GROUPS => Self::Groups(batch_of(body)?),
                PROGRESS => Self::Progress(serde_json::from_slice(body).map_err(|e| broken(&e))?),
                END => Self::End(serde_json::from_slice(body).map_err(|e| broken(&e))?),
                FAILED => Self::Failed(serde_json::from_slice(body).map_err(|e| broken(&e))?),
                kind => return Err(broken(&format!("there is no kind {kind}"))),
            })
        };
        (0..batch.num_rows()).map(frame).collect()
    }
}
