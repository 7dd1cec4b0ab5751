//! A list of 64-bit integers, each group of 1,024 as distances from its smallest.
//!
//! ```text
//!  u32 count │ per group: i64 smallest │ u8 width (0..=64) │ … packed groups …
//!  a group of width ≤ 32: packed distances (see `lanes`)
//!  a group of a larger width: packed low halves of 32 bits, then packed high halves of width - 32
//! ```

use std::ops::Range;

use bytes::Bytes;

use super::lanes::{self, GROUP};
use crate::SegmentError;

/// Bytes that describe a group.
const FRAME_BYTES: usize = 9;

/// Integers, each readable at once.
#[derive(Clone, Debug)]
pub(crate) struct Ints {
    bytes: Bytes,
    frames: Vec<Frame>,
    len: usize,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    smallest: i64,
    width: u32,
    /// Where the packed distances begin.
    start: usize,
}

impl Frame {
    fn largest(self) -> i64 {
        let reach = if self.width == 0 { 0 } else { u64::MAX >> (64 - self.width) };
        self.smallest.saturating_add_unsigned(reach)
    }
}

fn group_bytes(len: usize, width: u32) -> usize {
    lanes::packed_bytes(len, width.min(32)) + lanes::packed_bytes(len, width.saturating_sub(32))
}

impl Ints {
    /// Appends `values`. At most 2^32 - 1 of them.
    pub(crate) fn encode(values: &[i64], out: &mut Vec<u8>) {
        out.extend_from_slice(&(values.len() as u32).to_le_bytes());
        let frame = |group: &[i64]| {
            let smallest = group.iter().copied().min().unwrap_or(0);
            let widest =
                group.iter().fold(0, |all, value| all | value.wrapping_sub(smallest) as u64);
            (smallest, 64 - widest.leading_zeros())
        };
        let frames: Vec<(i64, u32)> = values.chunks(GROUP).map(frame).collect();
        for (smallest, width) in &frames {
            out.extend_from_slice(&smallest.to_le_bytes());
            out.push(*width as u8);
        }
        let mut half = Vec::with_capacity(GROUP.min(values.len()));
        for (group, (smallest, width)) in values.chunks(GROUP).zip(frames) {
            half.clear();
            half.extend(group.iter().map(|value| value.wrapping_sub(smallest) as u32));
            lanes::pack(&half, width.min(32), out);
            if width > 32 {
                half.clear();
                half.extend(group.iter().map(|v| (v.wrapping_sub(smallest) as u64 >> 32) as u32));
                lanes::pack(&half, width - 32, out);
            }
        }
    }

    /// Reads a list from the front of `bytes`, and gives what comes after it.
    pub(crate) fn open(bytes: &Bytes) -> Result<(Self, Bytes), SegmentError> {
        let damaged = || SegmentError::damaged("packed integers", "are cut short or too wide");
        let len = u32::from_le_bytes(*bytes.first_chunk::<4>().ok_or_else(damaged)?) as usize;
        let groups = len.div_ceil(GROUP);
        let mut start = 4 + groups * FRAME_BYTES;
        let heads = bytes.get(4..start).ok_or_else(damaged)?;
        let mut frames = Vec::with_capacity(groups);
        for (at, head) in heads.as_chunks::<FRAME_BYTES>().0.iter().enumerate() {
            let [smallest @ .., width] = *head;
            let (smallest, width) = (i64::from_le_bytes(smallest), u32::from(width));
            if width > 64 {
                return Err(damaged());
            }
            frames.push(Frame { smallest, width, start });
            start += group_bytes(GROUP.min(len - at * GROUP), width);
        }
        if start > bytes.len() {
            return Err(damaged());
        }
        Ok((Self { bytes: bytes.slice(..start), frames, len }, bytes.slice(start..)))
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The bytes in memory beside the packed ones.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.frames.len() * size_of::<Frame>()
    }

    fn halves(&self, group: usize) -> Option<(Frame, usize, &[u8], &[u8])> {
        let frame = *self.frames.get(group)?;
        let len = GROUP.min(self.len - group * GROUP);
        let low = self.bytes.get(frame.start..)?;
        let high = low.get(lanes::packed_bytes(len, frame.width.min(32))..)?;
        Some((frame, len, low, high))
    }

    /// The integer at `index`; 0 beyond the end.
    pub(crate) fn get(&self, index: usize) -> i64 {
        if index >= self.len {
            return 0;
        }
        let Some((frame, len, low, high)) = self.halves(index / GROUP) else { return 0 };
        let within = index % GROUP;
        let mut distance = u64::from(lanes::get(low, len, frame.width.min(32), within));
        if frame.width > 32 {
            distance |= u64::from(lanes::get(high, len, frame.width - 32, within)) << 32;
        }
        frame.smallest.wrapping_add(distance as i64)
    }

    /// The smallest and about the largest of the group that `index` is in.
    pub(crate) fn bounds(&self, index: usize) -> Option<(i64, i64)> {
        let frame = self.frames.get(index / GROUP)?;
        Some((frame.smallest, frame.largest()))
    }

    /// Hands out a range in pieces, none larger than a group: `each(index of the first, values)`.
    pub(crate) fn for_each(&self, range: Range<usize>, mut each: impl FnMut(usize, &[i64])) {
        let (mut at, end) = (range.start, range.end.min(self.len));
        let mut values = [0i64; GROUP];
        while at < end {
            let group = at / GROUP;
            let first = group * GROUP;
            let stop = end.min(first + GROUP);
            let Some((frame, len, low, high)) = self.halves(group) else { return };
            let within = at - first..stop - first;
            let Some(out) = values.get_mut(..within.len()) else { return };
            lanes::for_each_group(low, len, frame.width.min(32), within.clone(), |_, piece| {
                for (value, distance) in out.iter_mut().zip(piece) {
                    *value = frame.smallest.wrapping_add(i64::from(*distance));
                }
            });
            if frame.width > 32 {
                lanes::for_each_group(high, len, frame.width - 32, within, |_, piece| {
                    for (value, distance) in out.iter_mut().zip(piece) {
                        *value = value.wrapping_add((u64::from(*distance) << 32) as i64);
                    }
                });
            }
            each(at, out);
            at = stop;
        }
    }

    /// A range of them.
    pub(crate) fn values(&self, range: Range<usize>) -> Vec<i64> {
        let mut out = Vec::with_capacity(range.len().min(self.len));
        self.for_each(range, |_, piece| out.extend_from_slice(piece));
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_packed_comes_out(
            mut values in proptest::collection::vec(any::<i64>(), 0..40),
            near in proptest::collection::vec(-900i64..900, 0..2500),
            base in any::<i64>(),
            from in 0usize..2500,
        ) {
            values.extend(near.iter().map(|v| v.wrapping_add(base)));
            let mut bytes = Vec::new();
            Ints::encode(&values, &mut bytes);
            bytes.push(7);
            let (ints, rest) = Ints::open(&Bytes::from(bytes)).expect("opens");
            prop_assert_eq!(&rest[..], &[7u8][..]);
            let from = from.min(values.len());
            prop_assert_eq!(&ints.values(from..values.len())[..], &values[from..]);
            for at in (0..values.len()).step_by(5) {
                prop_assert_eq!(ints.get(at), values[at]);
                let (low, high) = ints.bounds(at).expect("bounds");
                prop_assert!(low <= values[at] && values[at] <= high);
            }
        }

        #[test]
        fn any_bytes_open_or_are_refused_fuzz(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok((ints, _)) = Ints::open(&Bytes::from(bytes)) {
                ints.get(ints.len().saturating_sub(1));
            }
        }
    }
}
