//! What follows from the stream: which rows a stream has, and columns with one value a stream.
//!
//! ```text
//!  streams section: list of texts (see `strings`) │ Codes: number of rows of each
//!  runs section:    list of distinct texts │ Codes: by stream, 0 no value, else its text + 1
//! ```
//!
//! Invariant: the runs follow one another and cover all rows.

use std::ops::Range;

use arrow::array::{Array, StringArray};
use bytes::Bytes;

use super::strings;
use crate::SegmentError;
use crate::bits::{Codes, Mask};

/// The streams of a segment, sorted, and where the rows of each begin.
#[derive(Debug)]
pub(crate) struct Streams {
    pub(crate) texts: StringArray,
    /// One more than there are streams: the last is the number of rows.
    starts: Vec<u32>,
}

impl Streams {
    pub(crate) fn encode(texts: &StringArray, starts: &[u32], out: &mut Vec<u8>) {
        strings::encode(texts, out);
        let rows: Vec<u32> = starts
            .windows(2)
            .map(|pair| if let &[from, to] = pair { to.saturating_sub(from) } else { 0 })
            .collect();
        Codes::encode(&rows, out);
    }

    pub(crate) fn open(bytes: &Bytes, rows: usize) -> Result<Self, SegmentError> {
        let damaged = |trouble: &str| SegmentError::damaged("streams", trouble);
        let (texts, rest) = strings::open(bytes, rows)?;
        let (counts, _) = Codes::open(&rest)?;
        if counts.len() != texts.len() {
            return Err(damaged("have not as many counts as texts"));
        }
        let mut starts = Vec::with_capacity(texts.len() + 1);
        let mut end = 0u64;
        starts.push(0);
        for count in counts.values(0..counts.len()) {
            end += u64::from(count);
            starts.push(end.min(u64::from(u32::MAX)) as u32);
        }
        if end != rows as u64 {
            return Err(damaged("have not as many rows as the segment"));
        }
        Ok(Self { texts, starts })
    }

    pub(crate) fn len(&self) -> usize {
        self.texts.len()
    }

    /// The stream that `row` is of.
    fn at(&self, row: usize) -> usize {
        self.starts.partition_point(|start| *start as usize <= row).saturating_sub(1)
    }

    /// The runs that overlap `rows`: `(stream, its rows within)`.
    pub(crate) fn within(
        &self,
        rows: Range<usize>,
    ) -> impl Iterator<Item = (usize, Range<usize>)> + '_ {
        let first = self.at(rows.start);
        let pairs = self.starts.windows(2).enumerate().skip(first);
        let clipped = pairs.map(move |(stream, pair)| {
            let (from, to) = if let &[from, to] = pair { (from, to) } else { (0, 0) };
            (stream, rows.start.max(from as usize)..rows.end.min(to as usize), from as usize)
        });
        let end = rows.end;
        clipped
            .take_while(move |(_, _, from)| *from < end)
            .filter(|(_, within, _)| !within.is_empty())
            .map(|(stream, within, _)| (stream, within))
    }

    /// The rows of a range whose stream is marked; bit 0 is the first of the range.
    pub(crate) fn marked(&self, wanted: &[bool], rows: Range<usize>) -> Mask {
        let first = rows.start;
        let mut mask = Mask::none(rows.len());
        for (stream, within) in self.within(rows) {
            if wanted.get(stream).copied().unwrap_or(false) {
                mask.set_range(within.start - first..within.end - first);
            }
        }
        mask
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.starts.len() * 4 + self.texts.get_buffer_memory_size()
    }
}

/// A column with at most one value a stream.
#[derive(Debug)]
pub(crate) struct Runs {
    /// The distinct values.
    pub(crate) texts: StringArray,
    /// By stream: 0 for no value, else the value's place + 1.
    pub(crate) codes: Vec<u32>,
}

impl Runs {
    pub(crate) fn encode(texts: &StringArray, codes: &[u32], out: &mut Vec<u8>) {
        strings::encode(texts, out);
        Codes::encode(codes, out);
    }

    pub(crate) fn open(bytes: &Bytes, streams: usize) -> Result<Self, SegmentError> {
        let (texts, rest) = strings::open(bytes, streams)?;
        let (codes, _) = Codes::open(&rest)?;
        let codes = codes.values(0..codes.len().min(streams));
        if codes.len() != streams || codes.iter().any(|code| *code as usize > texts.len()) {
            return Err(SegmentError::damaged("a column of runs", "does not fit the streams"));
        }
        Ok(Self { texts, codes })
    }

    /// The value of a stream.
    pub(crate) fn value(&self, stream: usize) -> Option<&str> {
        let place = self.codes.get(stream)?.checked_sub(1)? as usize;
        (place < self.texts.len()).then(|| self.texts.value(place))
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.codes.len() * 4 + self.texts.get_buffer_memory_size()
    }
}
