//! Which rows have a value, and the way between a row and the index of its value.
//!
//! ```text
//!  presence := kind u8 · rows u32 · …
//!  1 all     nothing more
//!  2 bits    one bit per row, least significant first, in words of 64
//!  3 sparse  the rows, ascending, as packed codes
//! ```
//!
//! Invariant: a value's index is the number of rows before its row that have one.

use std::ops::Range;

use bytes::Bytes;

use super::ROWS_MAX;
use crate::bits::Codes;
use crate::{Mask, SegmentError};

const ALL: u8 = 1;
const BITS: u8 = 2;
const SPARSE: u8 = 3;
/// Rows between two entries of the rank index.
const RANK_ROWS: usize = 512;
const RANK_WORDS: usize = RANK_ROWS / 64;
/// Rows are listed if at most one in this many has a value: a listed row takes up to 20 bits.
const SPARSE_ROWS: usize = 24;

/// The rows in which a field is present.
#[derive(Clone, Debug)]
pub(crate) enum Presence {
    /// All of so many.
    All(usize),
    /// Those whose bit is set.
    Bits {
        /// Of all rows.
        mask: Mask,
        /// Rows set before each group of [`RANK_ROWS`].
        ranks: Vec<u32>,
        /// Rows set.
        values: usize,
    },
    /// Those listed, ascending.
    Sparse {
        /// The rows.
        rows: Vec<u32>,
        /// Of so many.
        len: usize,
    },
}

impl Presence {
    /// Appends the rows of `present`. A field that no row has is not stored: this would still say so.
    pub(crate) fn encode(present: &Mask, out: &mut Vec<u8>) {
        let (len, count) = (present.len(), present.count());
        let kind = match count {
            _ if count == len => ALL,
            _ if count * SPARSE_ROWS <= len => SPARSE,
            _ => BITS,
        };
        out.push(kind);
        out.extend_from_slice(&(len as u32).to_le_bytes());
        match kind {
            BITS => present.words().iter().for_each(|w| out.extend_from_slice(&w.to_le_bytes())),
            SPARSE => {
                let rows: Vec<u32> = present.iter().map(|row| row as u32).collect();
                Codes::encode(&rows, out);
            }
            _ => {}
        }
    }

    /// Reads from the front of `bytes`, and gives what comes after it.
    pub(crate) fn open(bytes: &Bytes) -> Result<(Self, Bytes), SegmentError> {
        let damaged = |trouble: &str| SegmentError::damaged("presence", trouble);
        let head = bytes.first_chunk::<5>().ok_or_else(|| damaged("is cut short"))?;
        let [kind, a, b, c, d] = *head;
        let len = u32::from_le_bytes([a, b, c, d]) as usize;
        if len > ROWS_MAX {
            return Err(damaged("has too many rows"));
        }
        match kind {
            ALL => Ok((Self::All(len), bytes.slice(5..))),
            BITS => {
                let end = 5 + len.div_ceil(64) * 8;
                let words = bytes.get(5..end).ok_or_else(|| damaged("is cut short"))?;
                let words = words.as_chunks::<8>().0.iter().map(|w| u64::from_le_bytes(*w));
                let mask = Mask::from_words(words.collect(), len);
                Ok((Self::of(mask), bytes.slice(end..)))
            }
            SPARSE => {
                let (codes, rest) = Codes::open(&bytes.slice(5..))?;
                if codes.len() > len {
                    return Err(damaged("lists more rows than there are"));
                }
                let rows = codes.values(0..codes.len());
                if !rows.is_sorted_by(|a, b| a < b)
                    || rows.last().is_some_and(|row| *row as usize >= len)
                {
                    return Err(damaged("lists rows out of order"));
                }
                Ok((Self::Sparse { rows, len }, rest))
            }
            _ => Err(damaged("is of a kind that this program does not know")),
        }
    }

    fn of(mask: Mask) -> Self {
        let mut before = 0u32;
        let rank = |words: &[u64]| {
            let here = before;
            before += words.iter().map(|word| word.count_ones()).sum::<u32>();
            here
        };
        let ranks = mask.words().chunks(RANK_WORDS).map(rank).collect();
        Self::Bits { mask, ranks, values: before as usize }
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        match self {
            Self::All(len) | Self::Sparse { len, .. } => *len,
            Self::Bits { mask, .. } => mask.len(),
        }
    }

    /// Number of rows that have a value.
    pub(crate) fn values(&self) -> usize {
        match self {
            Self::All(len) => *len,
            Self::Bits { values, .. } => *values,
            Self::Sparse { rows, .. } => rows.len(),
        }
    }

    /// Number of values in the rows before this one.
    pub(crate) fn values_before(&self, row: usize) -> usize {
        match self {
            Self::All(len) => row.min(*len),
            Self::Bits { mask, ranks, values } => {
                if row >= mask.len() {
                    return *values;
                }
                let before = ranks.get(row / RANK_ROWS).map_or(0, |rank| *rank as usize);
                before + mask.count_range(row / RANK_ROWS * RANK_ROWS..row)
            }
            Self::Sparse { rows, .. } => rows.partition_point(|at| (*at as usize) < row),
        }
    }

    /// The index of the value of this row, if it has one.
    #[cfg(test)]
    pub(crate) fn index_of(&self, row: usize) -> Option<usize> {
        match self {
            Self::All(len) => (row < *len).then_some(row),
            Self::Bits { mask, .. } => mask.get(row).then(|| self.values_before(row)),
            Self::Sparse { rows, .. } => rows.binary_search(&u32::try_from(row).ok()?).ok(),
        }
    }

    /// The indexes of the values of these rows.
    pub(crate) fn dense_range(&self, rows: Range<usize>) -> Range<usize> {
        let start = self.values_before(rows.start);
        start..self.values_before(rows.end.max(rows.start))
    }

    /// Which of these rows have a value; bit 0 is the first of them.
    pub(crate) fn mask(&self, rows: Range<usize>) -> Mask {
        let rows = self.clamp(rows);
        match self {
            Self::All(_) => Mask::all(rows.len()),
            Self::Bits { mask, .. } => mask.part(rows),
            Self::Sparse { rows: listed, .. } => {
                let mut mask = Mask::none(rows.len());
                let present = listed.get(self.dense_range(rows.clone())).unwrap_or_default();
                present.iter().for_each(|row| mask.set(*row as usize - rows.start));
                mask
            }
        }
    }

    /// From values to rows: the rows of a range whose value is in `dense`, a mask over
    /// [`Presence::dense_range`] of it.
    pub(crate) fn spread(&self, rows: Range<usize>, dense: &Mask) -> Mask {
        let rows = self.clamp(rows);
        match self {
            Self::All(_) => Mask::from_words(dense.words().to_vec(), rows.len()),
            Self::Bits { mask, .. } => {
                let mut at = 0;
                let words = (rows.start..rows.end).step_by(64).map(|row| {
                    let end = rows.end - row;
                    let present = head_of(word_at(mask, row), end);
                    let word = deposit(word_at(dense, at), present);
                    at += present.count_ones() as usize;
                    word
                });
                Mask::from_words(words.collect(), rows.len())
            }
            Self::Sparse { rows: listed, .. } => {
                let mut mask = Mask::none(rows.len());
                let present = listed.get(self.dense_range(rows.clone())).unwrap_or_default();
                for at in dense.iter() {
                    if let Some(row) = present.get(at) {
                        mask.set(*row as usize - rows.start);
                    }
                }
                mask
            }
        }
    }

    /// From rows to values: which values of [`Presence::dense_range`] belong to a row in `wanted`, a
    /// mask over `rows`.
    pub(crate) fn gather(&self, rows: Range<usize>, wanted: &Mask) -> Mask {
        let rows = self.clamp(rows);
        match self {
            Self::All(_) => Mask::from_words(wanted.words().to_vec(), rows.len()),
            Self::Bits { mask, .. } => {
                let len = self.dense_range(rows.clone()).len();
                let mut words = vec![0u64; len.div_ceil(64)];
                let mut at = 0;
                for (row, wanted) in (rows.start..rows.end).step_by(64).zip(wanted.words()) {
                    let present = head_of(word_at(mask, row), rows.end - row);
                    let bits = extract(*wanted, present);
                    let (word, shift) = (at / 64, at % 64);
                    if let Some(place) = words.get_mut(word) {
                        *place |= bits << shift;
                    }
                    if shift > 0
                        && let Some(place) = words.get_mut(word + 1)
                    {
                        *place |= bits >> (64 - shift);
                    }
                    at += present.count_ones() as usize;
                }
                Mask::from_words(words, len)
            }
            Self::Sparse { rows: listed, .. } => {
                let present = listed.get(self.dense_range(rows.clone())).unwrap_or_default();
                Mask::collect(present.len(), |at| {
                    present.get(at).is_some_and(|row| wanted.get(*row as usize - rows.start))
                })
            }
        }
    }

    /// Bytes in memory.
    pub(crate) fn memory_bytes(&self) -> usize {
        match self {
            Self::All(_) => 0,
            Self::Bits { mask, ranks, .. } => mask.words().len() * 8 + ranks.len() * 4,
            Self::Sparse { rows, .. } => rows.len() * 4,
        }
    }

    fn clamp(&self, rows: Range<usize>) -> Range<usize> {
        let end = rows.end.min(self.rows());
        rows.start.min(end)..end
    }
}

/// The 64 bits from `at` on; those beyond the end are not set.
fn word_at(mask: &Mask, at: usize) -> u64 {
    let words = mask.words();
    let (word, shift) = (at / 64, at % 64);
    let low = words.get(word).copied().unwrap_or(0) >> shift;
    if shift == 0 {
        return low;
    }
    low | words.get(word + 1).copied().unwrap_or(0) << (64 - shift)
}

/// The first `len` bits of a word.
fn head_of(word: u64, len: usize) -> u64 {
    if len >= 64 { word } else { word & ((1 << len) - 1) }
}

/// Puts the lowest bits of `bits` where `places` has bits.
fn deposit(bits: u64, places: u64) -> u64 {
    if places == u64::MAX || places == 0 {
        return bits & places;
    }
    let (mut bits, mut left, mut word) = (head_of(bits, places.count_ones() as usize), places, 0);
    while bits != 0 {
        let place = left & left.wrapping_neg();
        if bits & 1 != 0 {
            word |= place;
        }
        bits >>= 1;
        left ^= place;
    }
    word
}

/// Takes the bits of `word` where `places` has bits, one next to the other.
fn extract(word: u64, places: u64) -> u64 {
    if places == u64::MAX || word & places == 0 {
        return word & places;
    }
    if word & places == places {
        return head_of(u64::MAX, places.count_ones() as usize);
    }
    let (mut left, mut bits, mut nth) = (word & places, 0u64, 0);
    let mut rest = places;
    while left != 0 {
        let place = rest & rest.wrapping_neg();
        bits |= u64::from(left & place != 0) << nth;
        left &= !place;
        rest ^= place;
        nth += 1;
    }
    bits
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Rows of every density, so that each kind occurs.
    fn rows() -> impl Strategy<Value = Vec<bool>> {
        (0usize..2500, 0u32..=64, any::<u64>()).prop_map(|(len, density, seed)| {
            let mut state = seed | 1;
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) as u32 % 64
            };
            (0..len).map(|_| next() < density).collect()
        })
    }

    proptest! {
        #[test]
        fn rows_and_values_find_each_other_model(
            rows in rows(), from in 0usize..2600, to in 0usize..2600, seed in any::<u64>(),
        ) {
            let present = Mask::collect(rows.len(), |row| rows[row]);
            let mut bytes = Vec::new();
            Presence::encode(&present, &mut bytes);
            bytes.push(7);
            let (presence, rest) = Presence::open(&Bytes::from(bytes)).expect("opens");
            prop_assert_eq!(&rest[..], &[7u8][..]);
            prop_assert_eq!((presence.rows(), presence.values()), (rows.len(), present.count()));
            let listed: Vec<usize> = present.iter().collect();
            for row in (0..rows.len() + 2).step_by(3) {
                prop_assert_eq!(presence.index_of(row), listed.iter().position(|at| *at == row));
                let before = listed.iter().filter(|at| **at < row).count();
                prop_assert_eq!(presence.values_before(row), before);
            }
            let (from, to) = (from.min(to).min(rows.len()), from.max(to).min(rows.len()));
            let dense = presence.dense_range(from..to);
            let here: Vec<usize> =
                listed.iter().copied().filter(|r| (from..to).contains(r)).collect();
            prop_assert_eq!(dense.len(), here.len());
            let mask: Vec<usize> = presence.mask(from..to).iter().map(|at| at + from).collect();
            prop_assert_eq!(&mask, &here);

            let chosen = Mask::collect(dense.len(), |at| (seed >> (at % 61)) & 1 == 1);
            let spread: Vec<usize> =
                presence.spread(from..to, &chosen).iter().map(|at| at + from).collect();
            let expected: Vec<usize> = chosen.iter().map(|at| here[at]).collect();
            prop_assert_eq!(spread, expected);

            let wanted = Mask::collect(to - from, |at| (seed >> (at % 59)) & 1 == 1);
            let gathered = presence.gather(from..to, &wanted);
            prop_assert_eq!(gathered.len(), here.len());
            let expected: Vec<usize> =
                (0..here.len()).filter(|at| wanted.get(here[*at] - from)).collect();
            prop_assert_eq!(gathered.iter().collect::<Vec<_>>(), expected);
        }

        #[test]
        fn any_bytes_open_or_are_refused_fuzz(
            kind in 0u8..5,
            len in 0u32..300,
            bytes in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let mut all = vec![kind];
            all.extend_from_slice(&len.to_le_bytes());
            all.extend_from_slice(&bytes);
            if let Ok((presence, _)) = Presence::open(&Bytes::from(all)) {
                presence.spread(0..400, &Mask::all(400));
                presence.gather(0..400, &Mask::all(400));
            }
        }
    }
}
