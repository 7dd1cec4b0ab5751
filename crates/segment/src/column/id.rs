//! Hexadecimal identifiers of one length, with or without the dashes of a UUID.
//!
//! ```text
//!  head section     := entries u32 · prefix_len u8 · prefix · bucket_bytes u8 (0, 1, 2)
//!                      · [first entry of each bucket, as packed codes]
//!  entries sections := bytes of each u8 · entries, big-endian       in pieces
//!  codes sections   := packed codes, in pieces                      only with a dictionary
//! ```
//!
//! With a dictionary the entries are the different identifiers, sorted; those that begin (behind the
//! common prefix) with the same one or two bytes are a bucket, and do not hold these bytes. Without,
//! the entries are the values, in their order, and there are no buckets.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::DataType;

use super::dict::{dictionary_array, encode_codes};
use super::entries::{Entries, encode_entries};
use super::intern::{intern, repeats};
use super::meta::{Kind, Meta};
use super::pieces::{Cut, Pieces};
use super::test::{How, by_text, by_value, is_refuted};
use super::{Grouped, Texts, Values, Want, indexes};
use crate::bits::Codes;
use crate::predicate::{FieldTest, Phrase};
use crate::sections::{SectionNo, SectionWriter, Sections, for_all};
use crate::{Mask, SegmentError};

/// Most digits of an identifier.
const DIGITS_MAX: usize = 32;
/// Shorter ones are words or small numbers, and better in a dictionary of texts.
const DIGITS_MIN: usize = 8;
/// Places of a UUID's dashes.
const DASHES: [usize; 4] = [8, 13, 18, 23];
/// Marks a byte that is no digit.
const NO_DIGIT: u8 = 0x80;
const LOWER_VALUES: [u8; 256] = digit_values(b'a');
const UPPER_VALUES: [u8; 256] = digit_values(b'A');

/// The value of each byte as a digit, in one case.
const fn digit_values(first_letter: u8) -> [u8; 256] {
    let mut values = [NO_DIGIT; 256];
    let mut digit = 0u8;
    while digit < 16 {
        let byte = if digit < 10 { b'0' + digit } else { first_letter + digit - 10 };
        values[byte as usize] = digit;
        digit += 1;
    }
    values
}

/// How the identifiers of a column are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Hexadecimal digits.
    pub(crate) digits: u8,
    /// In upper case.
    pub(crate) upper: bool,
    /// With the dashes of a UUID.
    pub(crate) dashes: bool,
}

/// The identifiers that most systems have: those of traces.
const COMMON: Shape = Shape { digits: DIGITS_MAX as u8, upper: false, dashes: false };

/// The identifier that a text is, if it is 32 lower-case hexadecimal digits.
pub fn identifier(text: &str) -> Option<u128> {
    COMMON.parse(text)
}

impl Shape {
    /// The shape of a text; its letters' case is that of the first one, lower if there is none.
    pub(super) fn of(text: &str) -> Option<Self> {
        let dashes = text.len() == DIGITS_MAX + DASHES.len();
        let digits = if dashes { DIGITS_MAX } else { text.len() };
        if !(DIGITS_MIN..=DIGITS_MAX).contains(&digits) {
            return None;
        }
        let upper =
            text.bytes().find(u8::is_ascii_alphabetic).is_some_and(|b| b.is_ascii_uppercase());
        let shape = Self { digits: digits as u8, upper, dashes };
        shape.parse(text).map(|_| shape)
    }

    /// Whether there can be such identifiers.
    pub(super) fn is_sound(self) -> bool {
        let digits = usize::from(self.digits);
        (DIGITS_MIN..=DIGITS_MAX).contains(&digits) && (!self.dashes || digits == DIGITS_MAX)
    }

    /// The identifier that is written exactly so.
    pub(super) fn parse(self, text: &str) -> Option<u128> {
        let dashes = if self.dashes { DASHES.len() } else { 0 };
        if text.len() != usize::from(self.digits) + dashes {
            return None;
        }
        let bytes = text.as_bytes();
        if !self.dashes {
            return self.digits_of(0, bytes);
        }
        let parts = [0..8, 9..13, 14..18, 19..23, 24..36];
        let dashed = DASHES.into_iter().all(|at| bytes.get(at) == Some(&b'-'));
        let digits = |id, part: Range<usize>| self.digits_of(id, bytes.get(part)?);
        dashed.then_some(())?;
        parts.into_iter().try_fold(0, digits)
    }

    /// What digits behind those of `id` make of it.
    fn digits_of(self, id: u128, digits: &[u8]) -> Option<u128> {
        let values = if self.upper { &UPPER_VALUES } else { &LOWER_VALUES };
        let mut id = id;
        for piece in digits.chunks(16) {
            let (mut low, mut all) = (0u64, 0u8);
            for byte in piece {
                let digit = values.get(usize::from(*byte)).copied().unwrap_or(NO_DIGIT);
                all |= digit;
                low = low << 4 | u64::from(digit & 15);
            }
            if all & NO_DIGIT != 0 {
                return None;
            }
            id = id << (4 * piece.len()) | u128::from(low);
        }
        Some(id)
    }

    fn write(self, id: u128, out: &mut Vec<u8>) {
        let digits: &[u8; 16] = if self.upper { b"0123456789ABCDEF" } else { b"0123456789abcdef" };
        let mut text = [0u8; DIGITS_MAX];
        let from_top = id << (128 - 4 * u32::from(self.digits));
        let (pairs, _) = text.as_chunks_mut::<2>();
        for ([high, low], byte) in pairs.iter_mut().zip(from_top.to_be_bytes()) {
            *high = digits.get(usize::from(byte >> 4)).copied().unwrap_or(b'0');
            *low = digits.get(usize::from(byte & 15)).copied().unwrap_or(b'0');
        }
        if !self.dashes {
            return out.extend_from_slice(text.get(..usize::from(self.digits)).unwrap_or_default());
        }
        for (nth, part) in [0..8, 8..12, 12..16, 16..20, 20..32].into_iter().enumerate() {
            if nth > 0 {
                out.push(b'-');
            }
            out.extend_from_slice(text.get(part).unwrap_or_default());
        }
    }

    /// Bytes of an identifier.
    pub(super) fn bytes(self) -> usize {
        usize::from(self.digits).div_ceil(2)
    }

    fn chars(self) -> u64 {
        u64::from(self.digits) + if self.dashes { DASHES.len() as u64 } else { 0 }
    }

    /// The identifiers in which a phrase occurs, if it can only be the whole of one.
    fn words(self, phrase: &Phrase, any_case: bool) -> Option<Vec<u128>> {
        let text = phrase.text();
        if self.dashes && (text.len() as u64) < self.chars() {
            return None;
        }
        if !phrase.ends_at_border() && (text.len() as u64) < self.chars() {
            return None;
        }
        let upper = (any_case && self.upper).then(|| text.to_ascii_uppercase());
        if any_case && text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Some(Vec::new());
        }
        Some(self.parse(upper.as_deref().unwrap_or(text)).into_iter().collect())
    }
}

/// Writes a column of identifiers of one shape; chooses by itself whether with a dictionary.
pub(crate) fn encode_ids(
    shape: Shape,
    values: &[u128],
    w: &mut SectionWriter<'_>,
    meta: &mut Vec<u8>,
) -> Result<(), SegmentError> {
    // Where nearly all differ, a dictionary is larger than what it lists.
    let cap = values.len() / 4 * 3 + 1;
    let interned = if repeats(values, cap) { intern(values, cap) } else { None };
    if let Some((distinct, codes)) = &interned {
        return encode_coded_ids(shape, distinct, codes, w, meta);
    }
    let first = w.next();
    let shift = encode_entries(shape, values, false, w)?.shift;
    let kind = Kind::Ids { shape, shift, entries: None };
    Meta { len: values.len(), sections: first..w.next(), kind }.write(meta);
    Ok(())
}

/// Writes a column of identifiers as the different ones, sorted, and a code for each value.
pub(super) fn encode_coded_ids(
    shape: Shape,
    distinct: &[u128],
    codes: &[u32],
    w: &mut SectionWriter<'_>,
    meta: &mut Vec<u8>,
) -> Result<(), SegmentError> {
    let first = w.next();
    let entries = Some(encode_entries(shape, distinct, true, w)?);
    let shift = encode_codes(codes, distinct.len(), w)?;
    let kind = Kind::Ids { shape, shift, entries };
    Meta { len: codes.len(), sections: first..w.next(), kind }.write(meta);
    Ok(())
}

/// So many identifiers are each looked for alone.
const SCANS_MAX: usize = 4;

/// Hexadecimal identifiers.
#[derive(Debug)]
pub(crate) struct Ids {
    shape: Shape,
    entries: Entries,
    codes: Option<Pieces<Codes>>,
}

impl Ids {
    /// Opens the column whose head is section `first`.
    pub(super) fn open(
        shape: Shape,
        entries: Cut,
        codes: Option<Cut>,
        first: SectionNo,
        sections: &Arc<Sections>,
    ) -> Result<Self, SegmentError> {
        let held = Pieces::new(entries, first + 1, sections);
        let codes = codes.map(|codes| Pieces::new(codes, first + 1 + entries.pieces(), sections));
        Ok(Self { shape, entries: Entries::open(shape, sections.get(first)?, held)?, codes })
    }

    fn texts(
        &self,
        entries: impl ExactSizeIterator<Item = usize>,
    ) -> Result<StringArray, SegmentError> {
        let mut texts =
            Texts::with_capacity(entries.len(), entries.len() * self.shape.chars() as usize);
        let mut bucket = 0;
        for at in entries {
            let id = self.entries.get_from(at, &mut bucket)?;
            texts.push_with(|out| self.shape.write(id, out));
        }
        texts.finish()
    }

    fn all_texts(&self) -> Result<StringArray, SegmentError> {
        self.entries.held.require(&(0..self.entries.len), None)?;
        self.texts(0..self.entries.len)
    }

    /// A set of identifiers, as codes if there is a dictionary.
    fn set(&self, mut ids: Vec<u128>) -> Result<How, SegmentError> {
        if self.codes.is_some() {
            let mut marked = Mask::none(self.entries.len);
            let found = for_all(ids, |id| self.entries.find(id))?;
            found.into_iter().flatten().for_each(|at| marked.set(at));
            return Ok(How::codes(&marked));
        }
        ids.sort_unstable();
        Ok(if ids.is_empty() { How::Fixed(false) } else { How::Ids(ids) })
    }
}

impl Values for Ids {
    fn len(&self) -> usize {
        self.codes.as_ref().map_or(self.entries.len, Pieces::len)
    }

    fn data_type(&self) -> DataType {
        DataType::Utf8
    }

    fn prepare(&self, test: &FieldTest) -> Result<How, SegmentError> {
        let alphabet = |byte: u8| byte.is_ascii_hexdigit() || (self.shape.dashes && byte == b'-');
        let by_text = || match &self.codes {
            Some(_) => Ok(by_value(&(Arc::new(self.all_texts()?) as ArrayRef), test)),
            None => Ok(How::Text(test.clone())),
        };
        let words = |phrase: &Phrase, any_case: bool| match self.shape.words(phrase, any_case) {
            Some(ids) => self.set(ids),
            None => by_text(),
        };
        Ok(match test {
            _ if is_refuted(test, alphabet) => How::Fixed(false),
            FieldTest::Any => How::Fixed(true),
            FieldTest::Empty
            | FieldTest::Ipv4 { .. }
            | FieldTest::Ipv6 { .. }
            | FieldTest::JsonArray(_) => How::Fixed(false),
            FieldTest::Length { min, max } => {
                How::Fixed((*min..=*max).contains(&self.shape.chars()))
            }
            FieldTest::Exact(text) => self.set(self.shape.parse(text).into_iter().collect())?,
            FieldTest::In(texts) => {
                self.set(texts.iter().filter_map(|text| self.shape.parse(text)).collect())?
            }
            FieldTest::Contains(phrase) => words(phrase, false)?,
            FieldTest::ContainsAnyCase(phrase) => words(phrase, true)?,
            _ => by_text()?,
        })
    }

    fn require(
        &self,
        want: Want,
        values: &Range<usize>,
        picked: Option<&Mask>,
    ) -> Result<(), SegmentError> {
        let Some(codes) = &self.codes else { return self.entries.held.require(values, picked) };
        codes.require(values, picked)?;
        match want {
            Want::Test => Ok(()),
            // Else the codes would be unpacked twice for nothing.
            Want::Texts if self.entries.held.is_open() => Ok(()),
            Want::Texts => {
                let codes = codes.picked(values.clone(), picked)?;
                self.entries.held.require_each(codes.into_iter().map(|code| code as usize))
            }
        }
    }

    fn select(
        &self,
        how: &How,
        values: Range<usize>,
        within: Option<&Mask>,
    ) -> Result<Mask, SegmentError> {
        match (how, &self.codes) {
            (How::Codes(set), Some(codes)) => codes.select(set, values, within),
            (How::Text(test), _) => by_text(self, test, values, within),
            (How::Ids(ids), None) if within.is_none() && ids.len() <= SCANS_MAX => {
                let mut mask = Mask::none(values.len());
                for id in ids {
                    self.entries.scan(*id, values.clone(), &mut mask)?;
                }
                Ok(mask)
            }
            (How::Ids(ids), None) => {
                let mut mask = within.cloned().unwrap_or_else(|| Mask::all(values.len()));
                for at in 0..values.len() {
                    if mask.get(at) {
                        let id = self.entries.get(values.start + at)?;
                        if ids.binary_search(&id).is_err() {
                            mask.clear(at);
                        }
                    }
                }
                Ok(mask)
            }
            _ => Ok(Mask::none(values.len())),
        }
    }

    fn array(&self, values: Range<usize>, picked: Option<&Mask>) -> Result<ArrayRef, SegmentError> {
        let entries = match &self.codes {
            Some(codes) => {
                let codes = codes.picked(values, picked)?;
                codes.into_iter().map(|code| code as usize).collect()
            }
            None => indexes(values, picked),
        };
        Ok(Arc::new(self.texts(entries.into_iter())?))
    }

    /// Where much is read at once, as for a merge: all different ones become texts for it.
    fn dictionary(
        &self,
        values: Range<usize>,
        picked: Option<&Mask>,
    ) -> Option<Result<ArrayRef, SegmentError>> {
        let codes = self.codes.as_ref()?;
        let pays = picked.is_none() && values.len() / 2 >= self.entries.len;
        let texts = || Ok(Arc::new(self.all_texts()?) as ArrayRef);
        pays.then(|| dictionary_array(&texts()?, codes, values, picked))
    }

    fn groups(&self, values: Range<usize>, picked: Option<&Mask>) -> Option<Grouped> {
        let codes = self.codes.as_ref()?.picked(values, picked);
        Some(codes.and_then(|mut codes| {
            // Of a large dictionary a block has a few: only these become texts.
            let mut used = Mask::none(self.entries.len);
            codes.iter().for_each(|code| used.set(*code as usize));
            let ranks = used.ranks();
            codes.iter_mut().for_each(|code| *code = ranks.of(*code as usize));
            let entries: Vec<usize> = used.iter().collect();
            Ok((self.texts(entries.into_iter())?, codes))
        }))
    }

    fn entries(&self) -> usize {
        self.codes.as_ref().map_or(0, |_| self.entries.len)
    }

    fn identifiers(
        &self,
        values: Range<usize>,
        picked: Option<&Mask>,
    ) -> Option<Result<Vec<u128>, SegmentError>> {
        if self.shape != COMMON {
            return None;
        }
        let entries = match &self.codes {
            None => Ok(indexes(values, picked)),
            Some(codes) => codes.picked(values, picked).map(|codes| {
                let mut used = Mask::none(self.entries.len);
                codes.iter().for_each(|code| used.set(*code as usize));
                used.iter().collect()
            }),
        };
        let mut bucket = 0;
        Some(entries.and_then(|entries| {
            entries.into_iter().map(|at| self.entries.get_from(at, &mut bucket)).collect()
        }))
    }

    fn memory_bytes(&self) -> usize {
        let codes = self.codes.as_ref().map_or(0, Pieces::memory_bytes);
        self.entries.memory_bytes() + codes
    }
}
