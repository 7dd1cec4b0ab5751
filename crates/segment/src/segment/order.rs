//! The order of a segment's rows: by the text of `_stream`, then by `_time`, equal ones as given.

use arrow::array::Array;
use arrow::array::StringArray;
use lodge_record::field;

use crate::SegmentError;
use crate::dictionary::{self, Dictionary, Want};
use crate::sources::Sources;

/// The rows of some sources in the order of a segment.
pub(crate) struct Order {
    /// `(source, row)` of each row.
    pub(crate) rows: Vec<(u32, u32)>,
    /// `_time` of each row.
    pub(crate) times: Vec<i64>,
    /// The streams, sorted.
    pub(crate) streams: StringArray,
    /// Where each stream begins, and the number of rows.
    pub(crate) starts: Vec<u32>,
}

impl Order {
    /// Sorts the rows of `sources`.
    pub(crate) fn of(sources: &Sources<'_>) -> Result<Self, SegmentError> {
        let stream_field = sources.fields.iter().find(|f| f.name() == field::STREAM);
        let stream_field =
            stream_field.ok_or_else(|| SegmentError::Encode("records without _stream".into()))?;
        let mut stream = dictionary::unite(&sources.column(stream_field)?, Want::Always)?
            .ok_or_else(|| SegmentError::Encode("_stream without a dictionary".into()))?;
        stream.sort()?;
        sorted(sources, stream)
    }

    /// Which stream each row is of, run by run: `(stream, rows)`.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (usize, std::ops::Range<usize>)> + '_ {
        self.starts.windows(2).enumerate().map(|(stream, pair)| match pair {
            &[from, to] => (stream, from as usize..to as usize),
            _ => (stream, 0..0),
        })
    }
}

/// A counting sort by stream, then each stream by time, which is nearly in order already.
fn sorted(sources: &Sources<'_>, stream: Dictionary) -> Result<Order, SegmentError> {
    let times = sources.times()?;
    let streams = stream.values.len();
    let mut starts = vec![0u32; streams + 1];
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
    let mut keyed: Vec<(i64, u32, u32)> = vec![(0, 0, 0); sum as usize];
    let mut next = starts.clone();
    for (source, times) in times.iter().enumerate() {
        let codes = codes(source).map(|c| c.values().as_ref()).unwrap_or_default();
        for (row, (code, time)) in codes.iter().zip(times.iter()).enumerate() {
            let slot = next.get_mut(*code as usize).and_then(|place| {
                *place += 1;
                keyed.get_mut(*place as usize - 1)
            });
            if let Some(slot) = slot {
                *slot = (*time, source as u32, row as u32);
            }
        }
    }
    for pair in starts.windows(2) {
        if let &[from, to] = pair
            && let Some(run) = keyed.get_mut(from as usize..to as usize)
            && !run.is_sorted_by_key(|(time, _, _)| *time)
        {
            run.sort_by_key(|(time, _, _)| *time);
        }
    }
    let (times, rows) = keyed.into_iter().map(|(time, source, row)| (time, (source, row))).unzip();
    // A stream that the dictionaries name but no row has is no run.
    let used: Vec<bool> = starts.windows(2).map(|pair| matches!(pair, [a, b] if a < b)).collect();
    let kept = |stream: &usize| used.get(*stream).copied().unwrap_or(false);
    let texts = (0..streams).filter(kept).map(|at| Some(stream.values.value(at))).collect();
    let mut firsts: Vec<u32> =
        (0..streams).filter(kept).filter_map(|at| starts.get(at).copied()).collect();
    firsts.push(sum);
    Ok(Order { rows, times, streams: texts, starts: firsts })
}
