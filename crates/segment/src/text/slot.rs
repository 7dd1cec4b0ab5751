//! A slot of a template as it is read: its kind and parameters from section A, its values from
//! section C. `pack` has the bytes.

use std::ops::Range;

use bytes::Bytes;

use super::check::Holds;
use super::cursor::Cursor;
use super::pack;
use super::values::{put_decimal, put_hex, put_uuid};
use crate::SegmentError;
use crate::bits::{Codes, Ints, Mask};

/// Sorted texts.
#[derive(Debug, Default)]
pub(super) struct Words {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    /// Bytes of the longest.
    longest: usize,
    /// Whether there is a letter in upper case.
    upper: bool,
}

impl Words {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// A word; the empty one beyond the end.
    pub(super) fn get(&self, code: usize) -> &[u8] {
        let Some(end) = self.ends.get(code) else { return &[] };
        let start = code.checked_sub(1).and_then(|before| self.ends.get(before)).unwrap_or(&0);
        self.bytes.get(*start as usize..*end as usize).unwrap_or_default()
    }

    /// A word with what comes after it, and its length.
    pub(super) fn piece(&self, code: usize) -> (&[u8], usize) {
        let Some(end) = self.ends.get(code) else { return (&[], 0) };
        let start = code.checked_sub(1).and_then(|before| self.ends.get(before)).unwrap_or(&0);
        let piece = self.bytes.get(*start as usize..).unwrap_or_default();
        (piece, end.saturating_sub(*start) as usize)
    }

    /// Bytes of the longest word.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// The code of a word.
    pub(super) fn find(&self, word: &[u8]) -> Option<usize> {
        let (mut from, mut until) = (0, self.len());
        while from < until {
            let middle = from.midpoint(until);
            match self.get(middle).cmp(word) {
                std::cmp::Ordering::Less => from = middle + 1,
                std::cmp::Ordering::Equal => return Some(middle),
                std::cmp::Ordering::Greater => until = middle,
            }
        }
        None
    }

    /// Whether words are the same in lower case.
    pub(super) fn is_lower(&self) -> bool {
        !self.upper
    }

    /// Whether a word may hold a text: whether all words one after the other do.
    pub(super) fn may_hold(&self, holds: &Holds<'_>) -> bool {
        holds.any_case && self.upper || memchr::memmem::find(&self.bytes, &holds.text).is_some()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|code| self.get(code))
    }

    fn parse(cursor: &mut Cursor<'_>) -> Result<Self, SegmentError> {
        let count = cursor.count()?;
        let mut words = Self { ends: Vec::with_capacity(count), ..Self::default() };
        for _ in 0..count {
            let word = cursor.text()?;
            words.longest = words.longest.max(word.len());
            words.bytes.extend_from_slice(word);
            words.ends.push(u32::try_from(words.bytes.len()).unwrap_or(u32::MAX));
        }
        words.upper = words.bytes.iter().any(u8::is_ascii_uppercase);
        Ok(words)
    }
}

/// How a number of a slot reads as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Digits {
    /// Decimal, with at least this many digits: 1 is the usual form.
    Decimal { width: u8, least: u64, most: u64 },
    /// Hex, with exactly this many digits.
    Hex { width: u8, upper: bool },
}

impl Digits {
    pub(super) fn put(self, number: u64, out: &mut Vec<u8>) {
        match self {
            Self::Decimal { width, .. } => put_decimal(number, usize::from(width), out),
            Self::Hex { width, upper } => put_hex(number.into(), usize::from(width), upper, out),
        }
    }
}

/// What a slot is.
#[derive(Debug)]
pub(super) enum Kind {
    /// The same text in every row.
    Const(Vec<u8>),
    /// One of these.
    Words(Words),
    /// A number between two texts.
    Number { digits: Digits, before: Vec<u8>, after: Vec<u8> },
    /// A hex number of this many digits.
    Wide { width: u8, upper: bool },
    /// A UUID in lower case.
    Uuid,
    /// A text of this many bytes.
    Fixed(usize),
    /// A text.
    Varied,
}

/// A slot: what it is, and where its values are within its section.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) kind: Kind,
    pub(super) place: Range<usize>,
}

impl Slot {
    /// Reads a slot whose values begin at `start` of its section.
    pub(super) fn parse(cursor: &mut Cursor<'_>, start: usize) -> Result<Self, SegmentError> {
        let kind = match cursor.byte()? {
            pack::CONST => Kind::Const(cursor.text()?.to_vec()),
            pack::WORDS => Kind::Words(Words::parse(cursor)?),
            pack::UUID => Kind::Uuid,
            pack::FIXED => Kind::Fixed(cursor.at_most(u16::MAX.into())?),
            pack::VARIED => Kind::Varied,
            pack::WIDE => {
                let (width, upper) = (cursor.byte()?, cursor.byte()? != 0);
                if width > 32 {
                    return Err(SegmentError::damaged("text column", "has too wide a number"));
                }
                Kind::Wide { width, upper }
            }
            kind @ (pack::DECIMAL | pack::PADDED | pack::HEX) => {
                let (before, after) = (cursor.text()?.to_vec(), cursor.text()?.to_vec());
                let digits = if kind == pack::HEX {
                    Digits::Hex { width: cursor.byte()?, upper: cursor.byte()? != 0 }
                } else {
                    let (least, most) = (cursor.varint()?, cursor.varint()?);
                    let width = if kind == pack::PADDED { cursor.byte()? } else { 1 };
                    Digits::Decimal { width, least, most }
                };
                let (Digits::Decimal { width, .. } | Digits::Hex { width, .. }) = digits;
                if width > 20 {
                    return Err(SegmentError::damaged("text column", "has too wide a number"));
                }
                Kind::Number { digits, before, after }
            }
            kind => {
                let trouble = format!("has a slot of unknown kind {kind}");
                return Err(SegmentError::damaged("text column", trouble));
            }
        };
        let bytes = cursor.at_most(crate::sections::SECTION_BYTES_MAX)?;
        Ok(Self { kind, place: start..start + bytes })
    }

    /// Opens the slot's values, one for each of `rows`, in its section.
    pub(super) fn open(&self, section: &Bytes, rows: usize) -> Result<Stored, SegmentError> {
        if self.place.end > section.len() {
            return Err(SegmentError::damaged("text column", "has a slot beyond its section"));
        }
        let bytes = section.slice(self.place.clone());
        let stored = match &self.kind {
            Kind::Const(_) => Stored::Nothing,
            Kind::Words(_) => Stored::Codes(Codes::open(&bytes)?.0),
            Kind::Number { .. } => Stored::Numbers(Ints::open(&bytes)?.0),
            Kind::Wide { width, .. } => {
                Stored::Fixed { bytes, width: usize::from(*width).div_ceil(2) }
            }
            Kind::Uuid => Stored::Fixed { bytes, width: 16 },
            Kind::Fixed(width) => Stored::Fixed { bytes, width: *width },
            Kind::Varied => {
                let (ends, bytes) = Ints::open(&bytes)?;
                Stored::Varied { ends, bytes }
            }
        };
        let fits = match &stored {
            Stored::Nothing => true,
            Stored::Codes(codes) => codes.len() == rows,
            Stored::Numbers(numbers) => numbers.len() == rows,
            Stored::Fixed { bytes, width } => Some(bytes.len()) == rows.checked_mul(*width),
            Stored::Varied { ends, .. } => ends.len() == rows,
        };
        if !fits {
            return Err(SegmentError::damaged("text column", "has a slot of other rows"));
        }
        Ok(stored)
    }

    /// Appends the text of a value.
    pub(super) fn render(&self, stored: &Stored, ordinal: usize, out: &mut Vec<u8>) {
        match (&self.kind, stored) {
            (Kind::Const(text), _) => out.extend_from_slice(text),
            (Kind::Words(words), Stored::Codes(codes)) => {
                out.extend_from_slice(words.get(codes.get(ordinal) as usize));
            }
            (Kind::Number { digits, before, after }, Stored::Numbers(numbers)) => {
                out.extend_from_slice(before);
                digits.put(numbers.get(ordinal) as u64, out);
                out.extend_from_slice(after);
            }
            (Kind::Wide { width, upper }, stored) => {
                put_hex(wide(stored.bytes(ordinal)), usize::from(*width), *upper, out);
            }
            (Kind::Uuid, stored) => put_uuid(wide(stored.bytes(ordinal)), out),
            (_, stored) => out.extend_from_slice(stored.bytes(ordinal)),
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let held = match &self.kind {
            Kind::Const(text) => text.len(),
            Kind::Words(words) => words.bytes.len() + words.ends.len() * 4,
            Kind::Number { before, after, .. } => before.len() + after.len(),
            _ => 0,
        };
        held + size_of::<Self>()
    }
}

/// The number that up to 16 bytes are, the first one highest.
pub(super) fn wide(bytes: &[u8]) -> u128 {
    match bytes.first_chunk::<16>() {
        Some(all) => u128::from_be_bytes(*all),
        None => bytes.iter().fold(0, |number, byte| number << 8 | u128::from(*byte)),
    }
}

/// The values of a slot.
#[derive(Debug)]
pub(super) enum Stored {
    Nothing,
    Codes(Codes),
    Numbers(Ints),
    Fixed { bytes: Bytes, width: usize },
    Varied { ends: Ints, bytes: Bytes },
}

impl Stored {
    /// Which of the values that are kept as bytes pass; none does that has not `text` in it, which is
    /// searched for in all of them at once.
    pub(super) fn holding(
        &self,
        text: &[u8],
        ordinals: &Range<usize>,
        passes: impl Fn(&[u8]) -> bool,
    ) -> Mask {
        let mut mask = Mask::none(ordinals.len());
        if text.is_empty() {
            mask.set_range(0..ordinals.len());
            mask.retain(|at| passes(self.bytes(ordinals.start + at)));
            return mask;
        }
        let Some((from, bytes)) = self.all_bytes(ordinals) else { return mask };
        let finder = memchr::memmem::Finder::new(text);
        let mut at = 0;
        while let Some(found) = bytes.get(at..).and_then(|rest| finder.find(rest)) {
            let start = at + found;
            let ordinal = self.ordinal_of(from + start, ordinals);
            if passes(self.bytes(ordinal)) {
                mask.set(ordinal - ordinals.start);
            }
            at = start + 1;
        }
        mask
    }

    /// The bytes of some values, and where they begin within those of all.
    fn all_bytes(&self, ordinals: &Range<usize>) -> Option<(usize, &[u8])> {
        let (start, end, bytes) = match self {
            Self::Fixed { bytes, width } => {
                (ordinals.start.checked_mul(*width)?, ordinals.end.checked_mul(*width)?, bytes)
            }
            Self::Varied { ends, bytes } => {
                let end = |ordinal: usize| match ordinal {
                    0 => Some(0),
                    ordinal => usize::try_from(ends.get(ordinal - 1)).ok(),
                };
                (end(ordinals.start)?, end(ordinals.end)?, bytes)
            }
            _ => return None,
        };
        Some((start, bytes.get(start..end)?))
    }

    /// The value of a range that a byte belongs to.
    fn ordinal_of(&self, byte: usize, ordinals: &Range<usize>) -> usize {
        let last = ordinals.end.saturating_sub(1).max(ordinals.start);
        match self {
            Self::Fixed { width, .. } => (byte / (*width).max(1)).clamp(ordinals.start, last),
            Self::Varied { ends, .. } => {
                let (mut low, mut high) = (ordinals.start, last);
                while low < high {
                    let middle = low.midpoint(high);
                    match usize::try_from(ends.get(middle)) {
                        Ok(end) if end <= byte => low = middle + 1,
                        _ => high = middle,
                    }
                }
                low
            }
            _ => ordinals.start,
        }
    }

    /// The bytes of a value that is kept as bytes; none beyond the end.
    pub(super) fn bytes(&self, ordinal: usize) -> &[u8] {
        match self {
            Self::Fixed { bytes, width } => {
                let start = ordinal.saturating_mul(*width);
                bytes.get(start..start.saturating_add(*width)).unwrap_or_default()
            }
            Self::Varied { ends, bytes } => {
                let start = if ordinal == 0 { 0 } else { ends.get(ordinal - 1) };
                let end = ends.get(ordinal);
                match (usize::try_from(start), usize::try_from(end)) {
                    (Ok(start), Ok(end)) => bytes.get(start..end).unwrap_or_default(),
                    _ => &[],
                }
            }
            _ => &[],
        }
    }
}
