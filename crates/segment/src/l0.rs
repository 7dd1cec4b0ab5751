//! L0: what one group commit makes durable. One object, a table for each tenant in it.
//!
//! Invariant: rows keep the order of their batches; the batches of one tenant in an object are one
//! table, whatever their shapes.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use lodge_record::field;

use crate::SegmentError;
use crate::dictionary::{self, Want};
use crate::sources::Sources;
use crate::table::{self, BlockRows};

/// Sources of fewer rows share blocks with their neighbours.
const WHOLE_ROWS_MIN: usize = 4_096;
/// Most streams that a table lists.
const STREAMS_MAX: usize = 256;
/// Most bytes of text of the streams that a table lists.
const STREAMS_BYTES_MAX: usize = 16 << 10;

/// A table that was written: an L0 section or a segment.
#[derive(Debug, Clone)]
pub struct TableInfo {
    /// Where it begins in the bytes.
    pub offset: u64,
    /// How many bytes it has.
    pub len: u64,
    /// Number of rows.
    pub rows: u64,
    /// About the bytes that its columns take in memory.
    pub arrow_bytes: u64,
    /// Earliest `_time`, nanoseconds.
    pub time_min_ns: i64,
    /// Latest `_time`, nanoseconds.
    pub time_max_ns: i64,
    /// Its columns; text is `Utf8` even where it is stored as a dictionary.
    pub schema: SchemaRef,
    /// Canonical texts of its streams, sorted; `None` if there are too many to list.
    pub streams: Option<Vec<String>>,
}

/// A section of an L0 object.
#[derive(Debug, Clone)]
pub struct Section {
    /// What was written.
    pub info: TableInfo,
    /// Its blocks as a reader gets them, text columns that repeat as dictionaries.
    pub blocks: Vec<RecordBatch>,
    /// Earliest and latest `_time` of each block, nanoseconds.
    pub times: Vec<(i64, i64)>,
}

/// Appends the records of one tenant to an L0 object. `batches` have rows and the record shape.
pub fn append(out: &mut Vec<u8>, batches: &[RecordBatch]) -> Result<Section, SegmentError> {
    let batches: Vec<RecordBatch> = batches.iter().filter(|b| b.num_rows() > 0).cloned().collect();
    let sources = Sources::new(&batches)?;
    let blocks = plan(&sources);
    let stream_field = sources.fields.iter().find(|f| f.name() == field::STREAM);
    let stream_field =
        stream_field.ok_or_else(|| SegmentError::Encode("records without _stream".into()))?;
    let stream = dictionary::unite(&sources.column(stream_field)?, Want::Always)?;
    let streams =
        stream.as_ref().and_then(|s| table::stream_list(&s.values, STREAMS_MAX, STREAMS_BYTES_MAX));
    let offset = out.len();
    let written = table::write(out, &sources, &blocks, stream, true)?;
    let info = info(offset, out.len(), &written, streams);
    let times = written.footer.blocks().iter().map(|b| (b.time_min_ns, b.time_max_ns)).collect();
    Ok(Section { info, blocks: written.kept, times })
}

pub(crate) fn info(
    offset: usize,
    end: usize,
    written: &table::Written,
    streams: Option<Vec<String>>,
) -> TableInfo {
    let blocks = written.footer.blocks();
    TableInfo {
        offset: offset as u64,
        len: (end - offset) as u64,
        rows: written.footer.rows(),
        arrow_bytes: written.arrow_bytes as u64,
        time_min_ns: blocks.iter().map(|b| b.time_min_ns).min().unwrap_or(0),
        time_max_ns: blocks.iter().map(|b| b.time_max_ns).max().unwrap_or(0),
        schema: Arc::clone(written.footer.schema()),
        streams,
    }
}

/// Large batches are blocks as they are, so that nothing is copied; runs of small ones share
/// blocks.
fn plan(sources: &Sources<'_>) -> Vec<BlockRows> {
    let rows_max = table::block_rows_max(sources.fields.len());
    let mut blocks = Vec::new();
    let mut picked: Vec<(usize, usize)> = Vec::new();
    for (source, &rows) in sources.rows.iter().enumerate() {
        if (WHOLE_ROWS_MIN..=rows_max).contains(&rows) {
            if !picked.is_empty() {
                blocks.push(BlockRows::Picked(std::mem::take(&mut picked)));
            }
            blocks.push(BlockRows::Whole(source));
            continue;
        }
        for row in 0..rows {
            picked.push((source, row));
            if picked.len() == rows_max {
                blocks.push(BlockRows::Picked(std::mem::take(&mut picked)));
            }
        }
    }
    match (picked.is_empty(), sources.rows.len()) {
        (true, _) => {}
        (false, 1) if blocks.is_empty() => blocks.push(BlockRows::Whole(0)),
        (false, _) => blocks.push(BlockRows::Picked(picked)),
    }
    blocks
}
