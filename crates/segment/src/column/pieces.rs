//! A list in pieces: a section for each 2^shift of its values, so that a few rows are read without
//! the rest of their column.
//!
//! Invariants:
//! - every piece but the last has 2^shift values;
//! - a piece whose section is not in memory is [`SegmentError::Missing`], never other values.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::test::CodeSet;
use crate::bits::{Codes, Counter, Ints, LOOK_UP_COST, Words};
use crate::sections::{SectionNo, SectionWriter, Sections};
use crate::{Mask, SegmentError};

/// Bytes of a piece, about: what one row of a column costs to read. Tests have many short pieces.
const PIECE_BYTES: usize = if cfg!(test) { 64 } else { 64 << 10 };
/// A piece has 2^12 to 2^22 values: whole packed groups, and never more than a column.
const SHIFT_MIN: u8 = if cfg!(test) { 3 } else { 12 };
const SHIFT_MAX: u8 = 22;

/// How a list is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// Values of the whole list.
    pub(super) len: usize,
    /// A piece has 2^shift of them.
    pub(super) shift: u8,
}

impl Cut {
    /// Cuts a list of `len` values that take about `bytes`.
    pub(super) fn of(len: usize, bytes: usize) -> Self {
        let values = (PIECE_BYTES * len.max(1) / bytes.max(1)).max(1);
        Self { len, shift: (values.ilog2() as u8).clamp(SHIFT_MIN, SHIFT_MAX) }
    }

    /// What the directory says, if there can be such a list.
    pub(super) fn sound(self) -> Option<Self> {
        (SHIFT_MIN..=SHIFT_MAX).contains(&self.shift).then_some(self)
    }

    /// Number of pieces, each a section.
    pub(super) fn pieces(self) -> u32 {
        self.len.div_ceil(1 << self.shift) as u32
    }

    /// Writes each piece of `values` as `encode` has it; zstd'ed where that pays.
    pub(super) fn write<T>(
        self,
        values: &[T],
        w: &mut SectionWriter<'_>,
        mut encode: impl FnMut(&[T], &mut Vec<u8>),
    ) -> Result<(), SegmentError> {
        let mut bytes = Vec::new();
        for piece in values.chunks(1 << self.shift) {
            bytes.clear();
            encode(piece, &mut bytes);
            w.squeezed(&bytes)?;
        }
        Ok(())
    }
}

/// A piece of a list.
pub(super) trait Piece: Sized {
    /// Reads a section.
    fn open(bytes: &Bytes) -> Result<Self, SegmentError>;
    /// Number of values.
    fn len(&self) -> usize;
    /// Bytes in memory beside those of the section.
    fn memory_bytes(&self) -> usize;
}

impl Piece for Codes {
    fn open(bytes: &Bytes) -> Result<Self, SegmentError> {
        whole(Codes::open(bytes)?)
    }

    fn len(&self) -> usize {
        Codes::len(self)
    }

    fn memory_bytes(&self) -> usize {
        0
    }
}

impl Piece for Ints {
    fn open(bytes: &Bytes) -> Result<Self, SegmentError> {
        whole(Ints::open(bytes)?)
    }

    fn len(&self) -> usize {
        Ints::len(self)
    }

    fn memory_bytes(&self) -> usize {
        Ints::memory_bytes(self)
    }
}

fn whole<T>((list, rest): (T, Bytes)) -> Result<T, SegmentError> {
    if rest.is_empty() {
        return Ok(list);
    }
    Err(SegmentError::damaged("a piece of a column", "has bytes left over"))
}

/// A list whose pieces are opened as they are needed.
#[derive(Debug)]
pub(crate) struct Pieces<T> {
    sections: Arc<Sections>,
    first: SectionNo,
    cut: Cut,
    open: Vec<OnceLock<T>>,
    /// How many are open, and their bytes beside those of their sections.
    opened: AtomicUsize,
    opened_bytes: AtomicUsize,
}

impl<T: Piece> Pieces<T> {
    /// The list whose first piece is section `first`.
    pub(super) fn new(cut: Cut, first: SectionNo, sections: &Arc<Sections>) -> Self {
        let open = (0..cut.pieces()).map(|_| OnceLock::new()).collect();
        let (opened, opened_bytes) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { sections: Arc::clone(sections), first, cut, open, opened, opened_bytes }
    }

    /// Number of values.
    pub(super) fn len(&self) -> usize {
        self.cut.len
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.open.len() * size_of::<OnceLock<T>>() + self.opened_bytes.load(Ordering::Relaxed)
    }

    /// Whether all pieces are open, so that nothing needs to be required.
    pub(super) fn is_open(&self) -> bool {
        self.opened.load(Ordering::Relaxed) == self.open.len()
    }

    /// Names all sections at once that the picked values of a range (all without `picked`) need.
    pub(super) fn require(
        &self,
        range: &Range<usize>,
        picked: Option<&Mask>,
    ) -> Result<(), SegmentError> {
        let missing = |no: &usize| self.open.get(*no).is_some_and(|lock| lock.get().is_none());
        let asked = |no: &usize| match picked {
            None => true,
            Some(picked) => {
                let values = self.values_of(*no);
                let from = values.start.max(range.start) - range.start;
                let to = values.end.min(range.end).max(range.start) - range.start;
                picked.count_range(from..to) > 0
            }
        };
        let needed = self.touched(range).filter(missing).filter(asked);
        self.sections.require(needed.map(|no| self.section(no)))
    }

    /// Names all sections at once that these values need.
    pub(super) fn require_each(
        &self,
        values: impl Iterator<Item = usize>,
    ) -> Result<(), SegmentError> {
        let mut needed = Mask::none(self.open.len());
        for value in values {
            needed.set((value >> self.cut.shift).min(self.open.len().saturating_sub(1)));
        }
        self.sections.require(needed.iter().map(|no| self.section(no)))
    }

    /// The piece that a value is in, and its place there.
    pub(super) fn at(&self, value: usize) -> Result<(&T, usize), SegmentError> {
        Ok((self.piece(value >> self.cut.shift)?, value & ((1 << self.cut.shift) - 1)))
    }

    /// Hands out the pieces that a range lies in, each with the part of the range that is in it
    /// (counted from the piece's first value) and the place of that part within the range.
    pub(super) fn for_each(
        &self,
        range: Range<usize>,
        each: impl FnMut(&T, Range<usize>, usize),
    ) -> Result<(), SegmentError> {
        self.for_each_asked(range, |_| true, each)
    }

    /// As [`Pieces::for_each`], only of the pieces of which `asked`, with their part of the range.
    pub(super) fn for_each_asked(
        &self,
        range: Range<usize>,
        asked: impl Fn(Range<usize>) -> bool,
        mut each: impl FnMut(&T, Range<usize>, usize),
    ) -> Result<(), SegmentError> {
        for no in self.touched(&range) {
            let values = self.values_of(no);
            let (from, to) = (values.start.max(range.start), values.end.min(range.end));
            if asked(from - range.start..to - range.start) {
                each(self.piece(no)?, from - values.start..to - values.start, from - range.start);
            }
        }
        Ok(())
    }

    /// As [`Pieces::for_each`], only of the pieces of which values are picked, with their part of
    /// `picked`.
    pub(super) fn for_each_picked(
        &self,
        range: Range<usize>,
        picked: &Mask,
        mut each: impl FnMut(&T, Range<usize>, &Mask),
    ) -> Result<(), SegmentError> {
        self.for_each_asked(
            range,
            |here| picked.count_range(here) > 0,
            |piece, part, at| {
                let here = picked.part(at..at + part.len());
                each(piece, part, &here);
            },
        )
    }

    fn section(&self, no: usize) -> SectionNo {
        self.first + no as SectionNo
    }

    fn values_of(&self, no: usize) -> Range<usize> {
        no << self.cut.shift..((no + 1) << self.cut.shift).min(self.cut.len)
    }

    fn touched(&self, range: &Range<usize>) -> Range<usize> {
        let end = range.end.min(self.cut.len);
        if range.start >= end {
            return 0..0;
        }
        range.start >> self.cut.shift..((end - 1) >> self.cut.shift) + 1
    }

    fn piece(&self, no: usize) -> Result<&T, SegmentError> {
        let damaged = |trouble: &str| SegmentError::damaged("a piece of a column", trouble);
        let lock = self.open.get(no).ok_or_else(|| damaged("is beyond the last one"))?;
        if let Some(piece) = lock.get() {
            return Ok(piece);
        }
        let piece = T::open(self.sections.get(self.section(no))?)?;
        if piece.len() != self.values_of(no).len() {
            return Err(damaged("has another number of values"));
        }
        let bytes = piece.memory_bytes();
        if lock.set(piece).is_ok() {
            self.opened.fetch_add(1, Ordering::Relaxed);
            self.opened_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        lock.get().ok_or_else(|| damaged("is not there"))
    }
}

impl Pieces<Codes> {
    /// How many of the picked codes of a range are each of those below `codes`; `None` if these are so
    /// many beside the picked ones that counters for all of them are no good.
    pub(super) fn counts(
        &self,
        range: Range<usize>,
        picked: Option<&Mask>,
        codes: usize,
    ) -> Option<Result<Vec<u64>, SegmentError>> {
        if codes > picked.map_or(range.len(), Mask::count) {
            return None;
        }
        let mut counter = Counter::new(codes);
        let counted = match picked {
            None => self.for_each(range, |codes, part, _| {
                codes.for_each(part, |_, piece| counter.add(piece));
            }),
            Some(picked) => self.for_each_picked(range, picked, |codes, part, here| {
                counter.add(&codes.picked(part, Some(here)));
            }),
        };
        Some(counted.map(|()| counter.finish()))
    }

    pub(super) fn get(&self, value: usize) -> Result<u32, SegmentError> {
        self.at(value).map(|(codes, at)| codes.get(at))
    }

    /// The picked codes of a range (`picked` is over the range; all without it).
    pub(super) fn picked(
        &self,
        range: Range<usize>,
        picked: Option<&Mask>,
    ) -> Result<Vec<u32>, SegmentError> {
        let mut out = Vec::with_capacity(picked.map_or(range.len().min(self.len()), Mask::count));
        match picked {
            None => self.for_each(range, |codes, part, _| {
                codes.for_each(part, |_, piece| out.extend_from_slice(piece));
            })?,
            Some(picked) => self.for_each_picked(range, picked, |codes, part, here| {
                out.append(&mut codes.picked(part, Some(here)));
            })?,
        }
        Ok(out)
    }

    /// Which of a range are in the set; right for those in `within`, of which few are looked up alone.
    pub(super) fn select(
        &self,
        set: &CodeSet,
        range: Range<usize>,
        within: Option<&Mask>,
    ) -> Result<Mask, SegmentError> {
        if let Some(within) = within
            && within.count().saturating_mul(LOOK_UP_COST) < range.len()
        {
            let mut mask = Mask::none(range.len());
            for at in within.iter().take_while(|at| *at < range.len()) {
                if set.contains(self.get(range.start + at)?) {
                    mask.set(at);
                }
            }
            return Ok(mask);
        }
        let (mut words, len) = (Words::new(range.len()), range.len());
        let asked = |here: Range<usize>| within.is_none_or(|within| within.count_range(here) > 0);
        self.for_each_asked(range, asked, |codes, part, at| {
            words.append_same(false, at - words.len());
            set.append(codes, part, &mut words);
        })?;
        words.append_same(false, len.saturating_sub(words.len()));
        Ok(words.finish())
    }
}
