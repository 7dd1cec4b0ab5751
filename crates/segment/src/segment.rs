//! Segments: many records of one tenant, sorted, compressed, for good.
//!
//! Invariants:
//! - rows are sorted by the text of `_stream`, then by `_time`; among equal ones in the order in
//!   which they were given;
//! - the rows out are the rows in.

use arrow::array::{Array, RecordBatch};
use lodge_record::field;

use crate::SegmentError;
use crate::dictionary::{self, Dictionary, Want};
use crate::footer::TableKind;
use crate::l0::{TableInfo, info};
use crate::sources::Sources;
use crate::table::{self, BlockRows};

/// Most streams that a segment lists.
const STREAMS_MAX: usize = 2_048;
/// Most bytes of text of the streams that a segment lists.
const STREAMS_BYTES_MAX: usize = 256 << 10;

/// Builds one segment of all records of `batches`, which have the record shape, their text columns
/// plain or dictionaries: blocks of L0 sections or of other segments. Gives the bytes of the
/// object.
pub fn build(batches: &[RecordBatch]) -> Result<(Vec<u8>, TableInfo), SegmentError> {
    let batches: Vec<RecordBatch> = batches.iter().filter(|b| b.num_rows() > 0).cloned().collect();
    let sources = Sources::new(&batches)?;
    let stream_field = sources.fields.iter().find(|f| f.name() == field::STREAM);
    let stream_field =
        stream_field.ok_or_else(|| SegmentError::Encode("records without _stream".into()))?;
    let mut stream = dictionary::unite(&sources.column(stream_field)?, Want::Always)?
        .ok_or_else(|| SegmentError::Encode("_stream without a dictionary".into()))?;
    stream.sort()?;
    let streams = table::stream_list(&stream.values, STREAMS_MAX, STREAMS_BYTES_MAX);
    let rows_max = table::block_rows_max(sources.fields.len());
    let sorted = sorted_rows(&sources, &stream)?;
    let blocks: Vec<BlockRows> =
        sorted.chunks(rows_max).map(|rows| BlockRows::Picked(rows.to_vec())).collect();
    drop(sorted);
    let mut out = Vec::new();
    let written =
        table::write(&mut out, TableKind::Segment, &sources, &blocks, Some(stream), false)?;
    let info = info(0, out.len(), &written, streams);
    Ok((out, info))
}

/// All `(source, row)` by (stream, time): a counting sort by stream, then each stream by time,
/// which is nearly in order already.
fn sorted_rows(
    sources: &Sources,
    stream: &Dictionary,
) -> Result<Vec<(usize, usize)>, SegmentError> {
    let times = sources.times()?;
    let streams = stream.values.len();
    let mut starts = vec![0usize; streams + 1];
    let codes = |source: usize| stream.codes.get(source).and_then(Option::as_ref);
    for source in 0..times.len() {
        let codes = codes(source)
            .filter(|c| c.null_count() == 0)
            .ok_or_else(|| SegmentError::Encode("a record without a stream".into()))?;
        for code in codes.values() {
            if let Some(count) = starts.get_mut(*code as usize + 1) {
                *count += 1;
            }
        }
    }
    let mut sum = 0;
    for start in &mut starts {
        sum += *start;
        *start = sum;
    }
    let mut rows: Vec<(i64, u32, u32)> = vec![(0, 0, 0); sum];
    let mut next = starts.clone();
    for (source, times) in times.iter().enumerate() {
        let codes = codes(source).map(|c| c.values().as_ref()).unwrap_or_default();
        for (row, (code, time)) in codes.iter().zip(times.iter()).enumerate() {
            let slot = next.get_mut(*code as usize).and_then(|place| {
                *place += 1;
                rows.get_mut(*place - 1)
            });
            if let Some(slot) = slot {
                *slot = (*time, source as u32, row as u32);
            }
        }
    }
    for pair in starts.windows(2) {
        if let &[from, to] = pair
            && let Some(run) = rows.get_mut(from..to)
        {
            run.sort_by_key(|(time, _, _)| *time);
        }
    }
    Ok(rows.into_iter().map(|(_, source, row)| (source as usize, row as usize)).collect())
}
