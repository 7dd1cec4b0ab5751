//! A list of small numbers: dictionary codes, template numbers, references.
//!
//! ```text
//!  u32 count │ u8 width │ packed values (see `lanes`)
//! ```

use std::ops::Range;

use bytes::Bytes;

use super::lanes;
use super::{Mask, Words};
use crate::SegmentError;

/// Bytes before the packed values.
const HEAD_BYTES: usize = 5;

/// Numbers below 2^32, each readable at once.
#[derive(Clone, Debug)]
pub(crate) struct Codes {
    bytes: Bytes,
    len: usize,
    width: u32,
}

impl Codes {
    /// Appends `values`. At most 2^32 - 1 of them.
    pub(crate) fn encode(values: &[u32], out: &mut Vec<u8>) {
        let width = lanes::width_of(values.iter().fold(0, |all, value| all | value));
        out.extend_from_slice(&(values.len() as u32).to_le_bytes());
        out.push(width as u8);
        lanes::pack(values, width, out);
    }

    /// Reads a list from the front of `bytes`, and gives what comes after it.
    pub(crate) fn open(bytes: &Bytes) -> Result<(Self, Bytes), SegmentError> {
        let damaged = || SegmentError::damaged("packed codes", "are cut short or too wide");
        let head = bytes.first_chunk::<HEAD_BYTES>().ok_or_else(damaged)?;
        let [a, b, c, d, width] = *head;
        let (len, width) = (u32::from_le_bytes([a, b, c, d]) as usize, u32::from(width));
        if width > 32 {
            return Err(damaged());
        }
        let end = HEAD_BYTES + lanes::packed_bytes(len, width);
        if end > bytes.len() {
            return Err(damaged());
        }
        Ok((Self { bytes: bytes.slice(HEAD_BYTES..end), len, width }, bytes.slice(end..)))
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The number at `index`; 0 beyond the end.
    pub(crate) fn get(&self, index: usize) -> u32 {
        if index >= self.len {
            return 0;
        }
        lanes::get(&self.bytes, self.len, self.width, index)
    }

    /// Hands out a range in pieces: `each(index of the first, values)`.
    pub(crate) fn for_each(&self, range: Range<usize>, each: impl FnMut(usize, &[u32])) {
        lanes::for_each_group(&self.bytes, self.len, self.width, range, each);
    }

    /// A range of them.
    pub(crate) fn values(&self, range: Range<usize>) -> Vec<u32> {
        let mut out = Vec::with_capacity(range.len().min(self.len));
        self.for_each(range, |_, piece| out.extend_from_slice(piece));
        out
    }

    /// The picked ones of a range (`picked` is over the range; all without it). Few are looked up
    /// alone.
    pub(crate) fn picked(&self, range: Range<usize>, picked: Option<&Mask>) -> Vec<u32> {
        let Some(picked) = picked else { return self.values(range) };
        let count = picked.count();
        let len = range.len().min(self.len);
        if count.saturating_mul(LOOK_UP_COST) < len {
            let end = range.end.min(self.len);
            let places = picked.iter().map(|at| range.start + at);
            return places.take_while(|at| *at < end).map(|at| self.get(at)).collect();
        }
        let mut out = Vec::with_capacity(count);
        self.for_each(range.clone(), |first, piece| {
            let start = first - range.start;
            picked.for_each_in(start..start + piece.len(), |at| {
                out.extend(piece.get(at - start));
            });
        });
        out
    }

    /// Which of a range are `wanted`: bit 0 is the first of the range.
    pub(crate) fn equal(&self, wanted: u32, range: Range<usize>) -> Mask {
        self.matching(range, |value| value == wanted)
    }

    /// Which of a range are marked in `wanted`, by number.
    pub(crate) fn marked(&self, wanted: &[bool], range: Range<usize>) -> Mask {
        self.matching(range, |value| wanted.get(value as usize).copied().unwrap_or(false))
    }

    /// Which of a range pass `test`.
    pub(crate) fn matching(&self, range: Range<usize>, test: impl Fn(u32) -> bool) -> Mask {
        let len = range.end.min(self.len).saturating_sub(range.start);
        let mut words = Words::new(len);
        self.append_matching(range, test, &mut words);
        words.finish()
    }

    /// Appends for each of a range whether it passes `test`.
    pub(crate) fn append_matching(
        &self,
        range: Range<usize>,
        test: impl Fn(u32) -> bool,
        words: &mut Words,
    ) {
        lanes::append_matching(&self.bytes, self.len, self.width, range, test, words);
    }
}

/// Counts codes.
#[derive(Debug)]
pub(crate) struct Counter {
    /// Neighbours often have the same code, and adding to one number again and again waits for itself:
    /// they take turns.
    turns: Vec<[u64; TURNS]>,
}

/// Numbers that count the same code.
const TURNS: usize = 4;
/// So few different codes are each looked for.
const LOOKED_FOR: usize = 8;

impl Counter {
    /// Counts codes below `codes`; others are of no account.
    pub(crate) fn new(codes: usize) -> Self {
        Self { turns: vec![[0; TURNS]; codes] }
    }

    pub(crate) fn add(&mut self, codes: &[u32]) {
        if self.turns.len() <= LOOKED_FOR {
            for (code, [count, ..]) in (0u32..).zip(&mut self.turns) {
                for piece in codes.chunks(1 << 16) {
                    let here: u32 = piece.iter().map(|other| u32::from(*other == code)).sum();
                    *count += u64::from(here);
                }
            }
            return;
        }
        for turn in codes.chunks(TURNS) {
            for (at, code) in turn.iter().enumerate() {
                let count = self.turns.get_mut(*code as usize).and_then(|turns| turns.get_mut(at));
                if let Some(count) = count {
                    *count += 1;
                }
            }
        }
    }

    /// How often each code was there.
    pub(crate) fn finish(self) -> Vec<u64> {
        self.turns.into_iter().map(|turns| turns.iter().sum()).collect()
    }
}

/// A look-up alone costs about so many times what it costs among its neighbours.
pub(crate) const LOOK_UP_COST: usize = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn finds_what_is_in_it(
            values in proptest::collection::vec(0u32..40, 0..2500),
            wanted in 0u32..40,
            from in 0usize..2500,
        ) {
            let mut bytes = Vec::new();
            Codes::encode(&values, &mut bytes);
            bytes.push(7);
            let (codes, rest) = Codes::open(&Bytes::from(bytes)).expect("opens");
            prop_assert_eq!((codes.len(), &rest[..]), (values.len(), &[7u8][..]));
            let from = from.min(values.len());
            let found: Vec<usize> = codes.equal(wanted, from..values.len()).iter().collect();
            let expected: Vec<usize> =
                (from..values.len()).filter(|i| values[*i] == wanted).map(|i| i - from).collect();
            prop_assert_eq!(found, expected);
            for step in [1usize, 3, 40] {
                let picked = Mask::collect(values.len() - from, |at| at % step == 0);
                let expected: Vec<u32> = values[from..].iter().step_by(step).copied().collect();
                prop_assert_eq!(codes.picked(from..values.len(), Some(&picked)), expected);
            }
            prop_assert_eq!(codes.values(0..values.len()), values);
        }

        #[test]
        fn counts_what_is_there(
            few in any::<bool>(),
            pieces in proptest::collection::vec(proptest::collection::vec(0u32..30, 0..40), 0..9),
        ) {
            let known = if few { LOOKED_FOR } else { 25 };
            let mut counter = Counter::new(known);
            pieces.iter().for_each(|piece| counter.add(piece));
            let count = |code| pieces.iter().flatten().filter(|other| **other == code).count();
            let expected: Vec<u64> = (0..known as u32).map(|code| count(code) as u64).collect();
            prop_assert_eq!(counter.finish(), expected);
        }

        #[test]
        fn any_bytes_open_or_are_refused_fuzz(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            if let Ok((codes, _)) = Codes::open(&Bytes::from(bytes)) {
                codes.get(codes.len().saturating_sub(1));
            }
        }
    }
}
