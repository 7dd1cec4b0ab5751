//! Times, which mostly rise: blocks of 128, each its first time and bit-packed steps.
//!
//! ```text
//!  sections := pieces of 32,768 times
//!  piece    := values u32 · unit u64 · head{blocks} · steps…
//!  head     := first i64 (in units) · width u8, bit 7 if the steps are zig-zag
//!  steps    := one less than there are values in the block, `width` bits each from the least
//!              significant bit on; a block's steps begin at a whole byte
//! ```
//!
//! The unit is the largest of 1 s, 1 ms, 1 µs, 1 ns that divides all times of a piece. A block in which a time is
//! smaller than the one before has zig-zag steps: between the runs of two streams, or unsorted input.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, TimestampNanosecondArray};
use arrow::datatypes::DataType;
use bytes::Bytes;

use super::form::Form;
use super::meta::{Kind, Meta};
use super::pieces::{Cut, Piece, Pieces};
use super::test::{How, by_text};
use super::{ROWS_MAX, Values, Want};
use crate::bits::Words;
use crate::predicate::FieldTest;
use crate::sections::SectionWriter;
use crate::{Mask, SegmentError};

/// Times of a block.
pub(crate) const BLOCK: usize = 128;
/// A piece has 2^15 times: some 64 KiB. Tests have many short pieces.
const SHIFT: u8 = if cfg!(test) { 6 } else { 15 };
const HEAD_BYTES: usize = 9;
const ZIGZAG: u8 = 0x80;
const UNITS_NS: [i64; 3] = [1_000_000_000, 1_000_000, 1_000];

/// Writes a column of times.
pub(crate) fn encode_times(
    values: &[i64],
    w: &mut SectionWriter<'_>,
    meta: &mut Vec<u8>,
) -> Result<(), SegmentError> {
    let cut = Cut { len: values.len(), shift: SHIFT };
    let first = w.next();
    cut.write(values, w, encode_piece)?;
    let kind = Kind::Times { shift: cut.shift };
    Meta { len: values.len(), sections: first..w.next(), kind }.write(meta);
    Ok(())
}

fn encode_piece(values: &[i64], bytes: &mut Vec<u8>) {
    let unit = UNITS_NS.into_iter().find(|unit| values.iter().all(|v| v % unit == 0)).unwrap_or(1);
    bytes.extend_from_slice(&(values.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&unit.to_le_bytes());
    let mut steps = Vec::with_capacity(values.len() * 4);
    let mut units = Vec::with_capacity(BLOCK);
    for block in values.chunks(BLOCK) {
        units.clear();
        units.extend(block.iter().map(|time| if unit == 1 { *time } else { time / unit }));
        let width = pack(&units, &mut steps);
        bytes.extend_from_slice(&units.first().map_or(0, |first| *first).to_le_bytes());
        bytes.push(width);
    }
    bytes.extend_from_slice(&steps);
}

/// Appends the steps of a block, and gives their width and whether they are zig-zag.
fn pack(block: &[i64], out: &mut Vec<u8>) -> u8 {
    let rising = block.is_sorted();
    let mut steps = [0u64; BLOCK];
    for (step, pair) in steps.iter_mut().zip(block.windows(2)) {
        let &[a, b] = pair else { continue };
        let raw = b.wrapping_sub(a);
        *step = if rising { raw as u64 } else { (raw << 1 ^ raw >> 63) as u64 };
    }
    let steps = steps.get(..block.len().saturating_sub(1)).unwrap_or_default();
    let width = 64 - steps.iter().fold(0, |all, step| all | step).leading_zeros();
    let (mut held, mut bits) = (0u128, 0u32);
    for step in steps {
        held |= u128::from(*step) << bits;
        bits += width;
        if bits >= 64 {
            out.extend_from_slice(&(held as u64).to_le_bytes());
            held >>= 64;
            bits -= 64;
        }
    }
    let rest = (held as u64).to_le_bytes();
    out.extend_from_slice(rest.get(..bits.div_ceil(8) as usize).unwrap_or_default());
    width as u8 | if rising { 0 } else { ZIGZAG }
}

/// Times of a piece, each readable at once.
#[derive(Debug)]
pub(crate) struct Run {
    bytes: Bytes,
    heads: Vec<Head>,
    unit: i64,
    len: usize,
}

#[derive(Debug, Clone, Copy)]
struct Head {
    first: i64,
    start: u32,
    width: u8,
    zigzag: bool,
}

impl Piece for Run {
    fn open(bytes: &Bytes) -> Result<Self, SegmentError> {
        let damaged = |trouble: &str| SegmentError::damaged("times", trouble);
        let cut = || damaged("are cut short");
        let ([a, b, c, d], rest) = bytes.split_first_chunk::<4>().ok_or_else(cut)?;
        let unit = i64::from_le_bytes(*rest.first_chunk::<8>().ok_or_else(cut)?);
        let len = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
        if len > ROWS_MAX || unit < 1 {
            return Err(damaged("are too many, or of no unit"));
        }
        let blocks = len.div_ceil(BLOCK);
        let mut start = 12 + blocks * HEAD_BYTES;
        let packed = bytes.get(12..start).ok_or_else(cut)?;
        let mut heads = Vec::with_capacity(blocks);
        for (at, head) in packed.as_chunks::<HEAD_BYTES>().0.iter().enumerate() {
            let [first @ .., width] = *head;
            let (width, zigzag) = (width & !ZIGZAG, width & ZIGZAG != 0);
            if width > 64 {
                return Err(damaged("have too wide steps"));
            }
            let from = u32::try_from(start).map_err(|_| damaged("are too long"))?;
            heads.push(Head { first: i64::from_le_bytes(first), start: from, width, zigzag });
            let steps = BLOCK.min(len - at * BLOCK) - 1;
            start += (steps * usize::from(width)).div_ceil(8);
        }
        if start != bytes.len() {
            return Err(cut());
        }
        Ok(Self { bytes: bytes.clone(), heads, unit, len })
    }

    fn len(&self) -> usize {
        self.len
    }

    fn memory_bytes(&self) -> usize {
        self.heads.len() * size_of::<Head>()
    }
}

impl Run {
    /// Bounds of a block's times: none is outside of them. Cheap, and wide where steps differ much.
    fn bounds(&self, block: usize) -> (i64, i64) {
        let Some(head) = self.heads.get(block) else { return (0, 0) };
        let largest = if head.width == 0 { 0 } else { u64::MAX >> (64 - head.width) };
        let reach = if head.zigzag { largest / 2 + 1 } else { largest };
        let steps = BLOCK.min(self.len - block * BLOCK) as i128 - 1;
        let (first, reach) = (i128::from(head.first), steps * i128::from(reach));
        let low = if head.zigzag { first - reach } else { first };
        let ns = |units: i128| i64::try_from(units * i128::from(self.unit)).ok();
        // Steps wrap around where a time could be beyond the ends: then it can be anywhere.
        match (ns(low), ns(first + reach)) {
            (Some(low), Some(high)) => (low, high),
            (Some(low), None) if !head.zigzag => (low, i64::MAX),
            _ => (i64::MIN, i64::MAX),
        }
    }

    /// Appends the picked times of a range (bit 0 is the range's first). Blocks without any are not
    /// unpacked.
    fn append_picked(&self, range: Range<usize>, picked: &Mask, out: &mut Vec<i64>) {
        let (mut open, mut times) = (None, [0; BLOCK]);
        for at in picked.iter().map(|at| range.start + at) {
            if at >= range.end.min(self.len) {
                break;
            }
            if open != Some(at / BLOCK) {
                open = Some(at / BLOCK);
                self.block(at / BLOCK, &mut times);
            }
            out.extend(times.get(at % BLOCK));
        }
    }

    /// Hands out a range in pieces, none larger than a block: `each(index of the first, times)`.
    fn for_each(&self, range: Range<usize>, mut each: impl FnMut(usize, &[i64])) {
        let (mut at, end) = (range.start, range.end.min(self.len));
        let mut times = [0; BLOCK];
        while at < end {
            let first = at / BLOCK * BLOCK;
            let stop = end.min(first + BLOCK);
            let piece = self.block(at / BLOCK, &mut times);
            each(at, piece.get(at - first..stop - first).unwrap_or_default());
            at = stop;
        }
    }

    /// The first index of a range, in which times rise, whose time is not `before`; the range's end
    /// if there is none.
    fn partition_point(&self, range: Range<usize>, before: impl Fn(i64) -> bool) -> usize {
        let (mut low, mut high) = (range.start, range.end.min(self.len));
        // By the first times of blocks, which need no unpacking; then within one block.
        while low / BLOCK < high.saturating_sub(1) / BLOCK {
            let block = (low / BLOCK + 1).midpoint((high - 1) / BLOCK);
            let first = self.heads.get(block).map_or(0, |head| head.first.wrapping_mul(self.unit));
            if before(first) {
                low = block * BLOCK;
            } else {
                high = block * BLOCK;
            }
        }
        if low >= high {
            return low.min(range.end);
        }
        let mut times = [0; BLOCK];
        let first = low / BLOCK * BLOCK;
        let piece = self.block(low / BLOCK, &mut times).get(low - first..high - first);
        low + piece.unwrap_or_default().partition_point(|time| before(*time))
    }

    /// Unpacks a block.
    fn block<'t>(&self, block: usize, times: &'t mut [i64; BLOCK]) -> &'t [i64] {
        let Some(head) = self.heads.get(block) else { return &[] };
        let len = BLOCK.min(self.len - block * BLOCK);
        let bytes = self.bytes.get(head.start as usize..).unwrap_or_default();
        let width = usize::from(head.width);
        let mask = if width == 0 { 0 } else { u64::MAX >> (64 - width) };
        let mut steps;
        // One word holds any step of up to 57 bits; each row of eight is whole bytes apart.
        match bytes.get(..BLOCK * width / 8 + 8).filter(|_| width <= 57) {
            Some(bytes) => {
                let step = |at: usize| {
                    let (byte, shift) = (at * width / 8, at * width % 8);
                    let word = bytes.get(byte..byte + 8).and_then(|eight| eight.first_chunk::<8>());
                    word.map_or(0, |word| u64::from_le_bytes(*word)) >> shift & mask
                };
                if !head.zigzag {
                    let mut now = head.first;
                    for (at, time) in times.iter_mut().enumerate() {
                        *time = now.wrapping_mul(self.unit);
                        now = now.wrapping_add(step(at) as i64);
                    }
                    return times.get(..len).unwrap_or_default();
                }
                steps = [0u64; BLOCK];
                steps.iter_mut().enumerate().for_each(|(at, to)| *to = step(at));
            }
            None => {
                steps = [0u64; BLOCK];
                for (at, step) in steps.iter_mut().take(len).enumerate() {
                    *step = step_at(bytes, at * width, width) & mask;
                }
            }
        }
        if head.zigzag {
            steps.iter_mut().for_each(|step| *step = *step >> 1 ^ (*step & 1).wrapping_neg());
        }
        let mut now = head.first;
        for (time, step) in times.iter_mut().zip(&steps) {
            *time = now.wrapping_mul(self.unit);
            now = now.wrapping_add(*step as i64);
        }
        times.get(..len).unwrap_or_default()
    }
}

/// At least `width` bits from bit `at` on; what lies beyond the end is 0.
fn step_at(bytes: &[u8], at: usize, width: usize) -> u64 {
    let (byte, shift) = (at / 8, at % 8);
    let Some(rest) = bytes.get(byte..) else { return 0 };
    let word = |from: usize| match rest.get(from..).and_then(|r| r.first_chunk::<8>()) {
        Some(eight) => u64::from_le_bytes(*eight),
        None => {
            let mut eight = [0u8; 8];
            let tail = rest.get(from..).unwrap_or_default();
            eight.iter_mut().zip(tail).for_each(|(to, from)| *to = *from);
            u64::from_le_bytes(eight)
        }
    };
    let low = word(0) >> shift;
    if shift + width > 64 { low | word(8) << (64 - shift) } else { low }
}

/// Times as Arrow has them.
pub(super) fn array_of(times: Vec<i64>) -> ArrayRef {
    Arc::new(TimestampNanosecondArray::from(times).with_timezone("UTC"))
}

/// Times of a column.
#[derive(Debug)]
pub(crate) struct Times {
    runs: Pieces<Run>,
}

impl Times {
    pub(super) fn open(runs: Pieces<Run>) -> Self {
        Self { runs }
    }

    /// The picked times of a range (`picked` is over the range; all without it).
    pub(crate) fn picked(
        &self,
        range: Range<usize>,
        picked: Option<&Mask>,
    ) -> Result<Vec<i64>, SegmentError> {
        self.runs.require(&range, picked)?;
        let mut out = Vec::with_capacity(picked.map_or(range.len(), Mask::count));
        match picked {
            None => self.runs.for_each(range, |run, part, _| {
                run.for_each(part, |_, piece| out.extend_from_slice(piece));
            })?,
            Some(picked) => self.runs.for_each_picked(range, picked, |run, part, here| {
                run.append_picked(part, here, &mut out);
            })?,
        }
        Ok(out)
    }

    /// Names all sections at once that a range needs.
    pub(crate) fn require(&self, range: &Range<usize>) -> Result<(), SegmentError> {
        self.runs.require(range, None)
    }

    /// The first index of a range, in which times rise, whose time is not `before`; the range's end
    /// if there is none.
    pub(crate) fn partition_point(
        &self,
        range: Range<usize>,
        before: impl Fn(i64) -> bool,
    ) -> Result<usize, SegmentError> {
        let end = range.end;
        let mut found = None;
        self.runs.for_each_asked(
            range.clone(),
            |_| true,
            |run, part, at| {
                if found.is_none() {
                    let place = run.partition_point(part.clone(), &before);
                    found = (place < part.end).then_some(range.start + at + place - part.start);
                }
            },
        )?;
        Ok(found.unwrap_or(end))
    }

    /// Which times of a range lie between two, both included.
    pub(crate) fn between(
        &self,
        values: Range<usize>,
        min: i64,
        max: i64,
    ) -> Result<Mask, SegmentError> {
        let mut words = Words::new(values.len());
        self.runs.for_each(values, |run, part, _| run.between(part, min, max, &mut words))?;
        Ok(words.finish())
    }
}

impl Values for Times {
    fn len(&self) -> usize {
        self.runs.len()
    }

    fn data_type(&self) -> DataType {
        Form::Time.data_type()
    }

    fn prepare(&self, test: &FieldTest) -> Result<How, SegmentError> {
        Ok(Form::Time.prepare(test))
    }

    fn require(
        &self,
        _want: Want,
        values: &Range<usize>,
        picked: Option<&Mask>,
    ) -> Result<(), SegmentError> {
        self.runs.require(values, picked)
    }

    fn select(
        &self,
        how: &How,
        values: Range<usize>,
        within: Option<&Mask>,
    ) -> Result<Mask, SegmentError> {
        let (min, max) = match how {
            How::Interval(min, max) => (*min, *max),
            How::Integers(set) => match (set.first(), set.last()) {
                (Some(min), Some(max)) => (*min, *max),
                _ => return Ok(Mask::none(values.len())),
            },
            How::Text(test) => return by_text(self, test, values, within),
            _ => return Ok(Mask::none(values.len())),
        };
        let mut mask = self.between(values.clone(), min, max)?;
        if let How::Integers(set) = how {
            let times = self.picked(values, Some(&mask))?;
            let mut times = times.into_iter();
            mask.retain(|_| times.next().is_some_and(|time| set.binary_search(&time).is_ok()));
        }
        Ok(mask)
    }

    fn array(&self, values: Range<usize>, picked: Option<&Mask>) -> Result<ArrayRef, SegmentError> {
        Ok(array_of(self.picked(values, picked)?))
    }

    fn memory_bytes(&self) -> usize {
        self.runs.memory_bytes()
    }
}

impl Run {
    /// Appends for each time of a range whether it lies between two, both included.
    fn between(&self, values: Range<usize>, min: i64, max: i64, words: &mut Words) {
        let values = values.start..values.end.min(self.len).max(values.start);
        let mut at = values.start;
        while at < values.end {
            let end = values.end.min((at / BLOCK + 1) * BLOCK);
            let (low, high) = self.bounds(at / BLOCK);
            if high < min || low > max {
                words.append_same(false, end - at);
            } else if min <= low && high <= max {
                words.append_same(true, end - at);
            } else {
                self.for_each(at..end, |_, piece| {
                    words.append(piece, |time| min <= time && time <= max);
                });
            }
            at = end;
        }
    }
}
