//! A set of rows as bits.
//!
//! Invariant: bits beyond the length are never set, so that words can be counted and combined whole.

use std::ops::Range;

use arrow::buffer::{BooleanBuffer, Buffer};

/// Which of `len` rows: one bit each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    words: Vec<u64>,
    len: usize,
}

/// See [`Mask::ranks`].
pub(crate) struct Ranks<'m> {
    /// How many members are before each word.
    before: Vec<u32>,
    words: &'m [u64],
}

impl Ranks<'_> {
    /// How many members are before a row.
    pub(crate) fn of(&self, row: usize) -> u32 {
        let (Some(word), Some(before)) = (self.words.get(row / 64), self.before.get(row / 64))
        else {
            return 0;
        };
        before + (word & !(u64::MAX << (row % 64))).count_ones()
    }
}

impl Mask {
    /// No row of `len`.
    pub fn none(len: usize) -> Self {
        Self { words: vec![0; len.div_ceil(64)], len }
    }

    /// All of `len` rows.
    pub fn all(len: usize) -> Self {
        let mut mask = Self { words: vec![u64::MAX; len.div_ceil(64)], len };
        mask.trim();
        mask
    }

    /// The rows for which `test` is true.
    pub fn collect(len: usize, mut test: impl FnMut(usize) -> bool) -> Self {
        let mut mask = Self::none(len);
        for (at, word) in mask.words.iter_mut().enumerate() {
            let first = at * 64;
            for bit in 0..64.min(len - first) {
                *word |= u64::from(test(first + bit)) << bit;
            }
        }
        mask
    }

    /// Clears the bits beyond the length.
    fn trim(&mut self) {
        if let (Some(last), rest @ 1..) = (self.words.last_mut(), self.len % 64) {
            *last &= (1 << rest) - 1;
        }
    }

    /// Number of rows that could be in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Number of rows that are in it.
    pub fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether no row is in it.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Whether every row is in it.
    pub fn is_full(&self) -> bool {
        self.count() == self.len
    }

    /// Whether `row` is in it.
    pub fn get(&self, row: usize) -> bool {
        self.words.get(row / 64).is_some_and(|word| word >> (row % 64) & 1 == 1)
    }

    /// Puts `row` in. A row beyond the length is of no effect.
    pub fn set(&mut self, row: usize) {
        if row < self.len
            && let Some(word) = self.words.get_mut(row / 64)
        {
            *word |= 1 << (row % 64);
        }
    }

    /// Takes `row` out.
    pub fn clear(&mut self, row: usize) {
        if let Some(word) = self.words.get_mut(row / 64) {
            *word &= !(1 << (row % 64));
        }
    }

    /// Puts all rows of a range in.
    pub fn set_range(&mut self, rows: Range<usize>) {
        let (start, end) = (rows.start, rows.end.min(self.len));
        if start >= end {
            return;
        }
        let (first, last) = (start / 64, (end - 1) / 64);
        let head = u64::MAX << (start % 64);
        let tail = u64::MAX >> (63 - (end - 1) % 64);
        for at in first..=last {
            let mut bits = u64::MAX;
            if at == first {
                bits &= head;
            }
            if at == last {
                bits &= tail;
            }
            if let Some(word) = self.words.get_mut(at) {
                *word |= bits;
            }
        }
    }

    /// Number of rows of a range that are in it.
    pub fn count_range(&self, rows: Range<usize>) -> usize {
        let (start, end) = (rows.start, rows.end.min(self.len));
        if start >= end {
            return 0;
        }
        let (first, last) = (start / 64, (end - 1) / 64);
        let head = u64::MAX << (start % 64);
        let tail = u64::MAX >> (63 - (end - 1) % 64);
        let Some(words) = self.words.get(first..=last) else { return 0 };
        let mut count = 0;
        for (at, word) in words.iter().enumerate() {
            let mut bits = *word;
            if at == 0 {
                bits &= head;
            }
            if first + at == last {
                bits &= tail;
            }
            count += bits.count_ones() as usize;
        }
        count
    }

    /// The first row in it.
    pub(crate) fn first(&self) -> Option<usize> {
        self.iter().next()
    }

    /// The last row in it.
    pub(crate) fn last(&self) -> Option<usize> {
        let at = self.words.iter().rposition(|word| *word != 0)?;
        let word = self.words.get(at)?;
        Some(at * 64 + 63 - word.leading_zeros() as usize)
    }

    /// The rows of a range, the first of it as bit 0.
    pub(crate) fn part(&self, rows: Range<usize>) -> Self {
        let word = |at: usize| {
            let (word, shift) = (at / 64, at % 64);
            let low = self.words.get(word).copied().unwrap_or(0) >> shift;
            let high = self.words.get(word + 1).copied().unwrap_or(0);
            if shift == 0 { low } else { low | high << (64 - shift) }
        };
        let words = rows.clone().step_by(64).map(word);
        Self::from_words(words.collect(), rows.len())
    }

    /// Keeps what is in both.
    pub fn and(&mut self, other: &Mask) {
        self.words.iter_mut().zip(&other.words).for_each(|(a, b)| *a &= b);
    }

    /// Keeps what is not in `other`.
    pub fn and_not(&mut self, other: &Mask) {
        self.words.iter_mut().zip(&other.words).for_each(|(a, b)| *a &= !b);
    }

    /// Adds what is in `other`.
    pub fn or(&mut self, other: &Mask) {
        self.words.iter_mut().zip(&other.words).for_each(|(a, b)| *a |= b);
    }

    /// The rows that are not in it.
    pub fn inverted(mut self) -> Self {
        self.words.iter_mut().for_each(|word| *word = !*word);
        self.trim();
        self
    }

    /// The rows in it, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(at, word)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                (left != 0).then(|| {
                    let bit = left.trailing_zeros() as usize;
                    left &= left - 1;
                    at * 64 + bit
                })
            })
        })
    }

    /// Tells of members how many are before them.
    pub(crate) fn ranks(&self) -> Ranks<'_> {
        let before = self.words.iter().scan(0, |before, word| {
            let count = word.count_ones();
            *before += count;
            Some(*before - count)
        });
        Ranks { before: before.collect(), words: &self.words }
    }

    /// Gives each row of a range that is in it, ascending.
    pub(crate) fn for_each_in(&self, rows: Range<usize>, mut each: impl FnMut(usize)) {
        let (start, end) = (rows.start, rows.end.min(self.len));
        for at in start / 64..end.div_ceil(64) {
            let mut left = self.words.get(at).copied().unwrap_or(0);
            if at == start / 64 {
                left &= u64::MAX << (start % 64);
            }
            if at == end / 64 {
                left &= !(u64::MAX << (end % 64));
            }
            while left != 0 {
                each(at * 64 + left.trailing_zeros() as usize);
                left &= left - 1;
            }
        }
    }

    /// Keeps the rows for which `test` is true.
    pub fn retain(&mut self, mut test: impl FnMut(usize) -> bool) {
        for (at, word) in self.words.iter_mut().enumerate() {
            let mut left = *word;
            while left != 0 {
                let bit = left.trailing_zeros();
                left &= left - 1;
                if !test(at * 64 + bit as usize) {
                    *word &= !(1 << bit);
                }
            }
        }
    }

    /// The words, least significant bit first.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// From words, least significant bit first; bits beyond `len` are dropped.
    pub fn from_words(mut words: Vec<u64>, len: usize) -> Self {
        words.resize(len.div_ceil(64), 0);
        let mut mask = Self { words, len };
        mask.trim();
        mask
    }

    /// As Arrow has it.
    pub fn to_arrow(&self) -> BooleanBuffer {
        BooleanBuffer::new(Buffer::from_vec(self.words.clone()), 0, self.len)
    }

    /// From Arrow's form.
    pub fn from_arrow(bits: &BooleanBuffer) -> Self {
        let words = bits.bit_chunks().iter_padded().take(bits.len().div_ceil(64)).collect();
        Self::from_words(words, bits.len())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_like_a_set(
            len in 0usize..300,
            a in proptest::collection::btree_set(0usize..300, 0..60),
            b in proptest::collection::btree_set(0usize..300, 0..60),
            from in 0usize..300,
            to in 0usize..300,
        ) {
            let (a, b): (BTreeSet<_>, BTreeSet<_>) = (
                a.into_iter().filter(|r| *r < len).collect(),
                b.into_iter().filter(|r| *r < len).collect(),
            );
            let of = |set: &BTreeSet<usize>| Mask::collect(len, |row| set.contains(&row));
            let rows = |mask: &Mask| mask.iter().collect::<BTreeSet<_>>();
            let (x, y) = (of(&a), of(&b));
            prop_assert_eq!(rows(&x), a.clone());
            prop_assert_eq!(x.count(), a.len());
            let mut both = x.clone();
            both.and(&y);
            prop_assert_eq!(rows(&both), &a & &b);
            let mut any = x.clone();
            any.or(&y);
            prop_assert_eq!(rows(&any), &a | &b);
            let mut less = x.clone();
            less.and_not(&y);
            prop_assert_eq!(rows(&less), &a - &b);
            prop_assert_eq!(x.clone().inverted().count(), len - a.len());
            prop_assert_eq!((x.first(), x.last()), (a.first().copied(), a.last().copied()));
            let part: BTreeSet<_> =
                x.part(from..to.max(from)).iter().map(|row| row + from).collect();
            let inside = a.iter().copied().filter(|row| (from..to).contains(row));
            prop_assert_eq!(part, inside.collect());
            let within = a.iter().filter(|r| (from..to).contains(r)).count();
            prop_assert_eq!(x.count_range(from..to), within);
            let mut ranged = Mask::none(len);
            ranged.set_range(from..to);
            prop_assert_eq!(ranged.count(), (from..to.min(len)).len());
            prop_assert_eq!(Mask::from_arrow(&x.to_arrow()), x.clone());
            let mut kept = x.clone();
            kept.retain(|row| row % 2 == 0);
            prop_assert_eq!(rows(&kept), a.iter().copied().filter(|r| r % 2 == 0).collect());
            prop_assert_eq!(Mask::all(len).count(), len);
        }
    }
}
