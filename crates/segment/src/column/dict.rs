//! Texts of which few differ: the different ones, sorted, and a code for each value.
//!
//! ```text
//!  texts section  := lengths (packed codes) · the texts, one after the other
//!  codes sections := packed codes, in pieces
//! ```
//!
//! Invariant: the texts are sorted, no two are the same, and all occur.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, DictionaryArray, Int32Array, StringArray};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Int32Type};
use bytes::Bytes;

use super::meta::{Kind, Meta};
use super::pieces::{Cut, Pieces};
use super::test::{How, by_text, by_value};
use super::{Counted, Grouped, ROWS_MAX, Texts, Values, Want};
use crate::bits::Codes;
use crate::predicate::FieldTest;
use crate::sections::SectionWriter;
use crate::{Mask, SegmentError};

/// Writes a column of texts as the different ones (sorted) and a code for each value.
pub(crate) fn encode_dict(
    distinct: &[&str],
    codes: &[u32],
    w: &mut SectionWriter<'_>,
    meta: &mut Vec<u8>,
) -> Result<(), SegmentError> {
    let mut bytes = Vec::new();
    let lengths: Vec<u32> = distinct.iter().map(|text| text.len() as u32).collect();
    Codes::encode(&lengths, &mut bytes);
    distinct.iter().for_each(|text| bytes.extend_from_slice(text.as_bytes()));
    let first = w.squeezed(&bytes)?;
    let shift = encode_codes(codes, distinct.len(), w)?;
    let sections = first..w.next();
    Meta { len: codes.len(), sections, kind: Kind::Dict { shift } }.write(meta);
    Ok(())
}

/// Writes codes of so many `distinct` values in pieces, and gives how they are cut. Rows of a stream
/// are neighbours and alike, so zstd often pays.
pub(super) fn encode_codes(
    codes: &[u32],
    distinct: usize,
    w: &mut SectionWriter<'_>,
) -> Result<u8, SegmentError> {
    let width = (usize::BITS - distinct.saturating_sub(1).leading_zeros()) as usize;
    let cut = Cut::of(codes.len(), codes.len() * width / 8);
    cut.write(codes, w, Codes::encode)?;
    Ok(cut.shift)
}

/// A dictionary array of the values' codes.
pub(super) fn dictionary_array(
    texts: &ArrayRef,
    codes: &Pieces<Codes>,
    values: Range<usize>,
    picked: Option<&Mask>,
) -> Result<ArrayRef, SegmentError> {
    let keys = codes.picked(values, picked)?.into_iter().map(|code| code as i32);
    let keys: Int32Array = keys.collect::<Vec<i32>>().into();
    let array = DictionaryArray::<Int32Type>::try_new(keys, Arc::clone(texts))
        .map_err(|error| SegmentError::damaged("codes", error.to_string()))?;
    Ok(Arc::new(array))
}

/// Texts of which few differ.
#[derive(Debug)]
pub(crate) struct Dict {
    texts: StringArray,
    shared: ArrayRef,
    codes: Pieces<Codes>,
}

impl Dict {
    pub(super) fn open(texts: &Bytes, codes: Pieces<Codes>) -> Result<Self, SegmentError> {
        let damaged = |trouble: String| SegmentError::damaged("dictionary", trouble);
        let (lengths, rest) = Codes::open(texts)?;
        if lengths.len() > ROWS_MAX {
            return Err(damaged("has too many texts".into()));
        }
        let mut offsets = Vec::with_capacity(lengths.len() + 1);
        let mut end = 0i64;
        offsets.push(0i32);
        lengths.for_each(0..lengths.len(), |_, piece| {
            offsets.extend(piece.iter().map(|len| {
                end += i64::from(*len);
                end as i32
            }));
        });
        if end != rest.len() as i64 || i32::try_from(end).is_err() {
            return Err(damaged("has another number of bytes".into()));
        }
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        let texts = StringArray::try_new(offsets, Buffer::from(rest), None)
            .map_err(|error| damaged(error.to_string()))?;
        if !(1..texts.len()).all(|at| texts.value(at - 1) < texts.value(at)) {
            return Err(damaged("is not sorted".into()));
        }
        Ok(Self { shared: Arc::new(texts.clone()), texts, codes })
    }

    fn find(&self, text: &str) -> Option<usize> {
        let (mut low, mut high) = (0, self.texts.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.texts.value(middle).cmp(text) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Some(middle),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }
}

impl Values for Dict {
    fn len(&self) -> usize {
        self.codes.len()
    }

    fn data_type(&self) -> DataType {
        DataType::Utf8
    }

    fn prepare(&self, test: &FieldTest) -> Result<How, SegmentError> {
        let found = |texts: &mut dyn Iterator<Item = &str>| {
            let mut marked = Mask::none(self.texts.len());
            texts.filter_map(|text| self.find(text)).for_each(|at| marked.set(at));
            How::codes(&marked)
        };
        Ok(match test {
            FieldTest::Exact(text) => found(&mut std::iter::once(text.as_str())),
            FieldTest::Empty => found(&mut std::iter::once("")),
            FieldTest::In(texts) => found(&mut texts.iter().map(String::as_str)),
            _ => by_value(&self.shared, test),
        })
    }

    fn require(
        &self,
        _want: Want,
        values: &Range<usize>,
        picked: Option<&Mask>,
    ) -> Result<(), SegmentError> {
        self.codes.require(values, picked)
    }

    fn select(
        &self,
        how: &How,
        values: Range<usize>,
        within: Option<&Mask>,
    ) -> Result<Mask, SegmentError> {
        match how {
            How::Codes(set) => self.codes.select(set, values, within),
            How::Text(test) => by_text(self, test, values, within),
            _ => Ok(Mask::none(values.len())),
        }
    }

    fn array(&self, values: Range<usize>, picked: Option<&Mask>) -> Result<ArrayRef, SegmentError> {
        let codes = self.codes.picked(values, picked)?;
        let mut texts = Texts::with_capacity(codes.len(), codes.len() * 8);
        for code in codes {
            let code = code as usize;
            let text = if code < self.texts.len() { self.texts.value(code) } else { "" };
            texts.push(text.as_bytes());
        }
        Ok(Arc::new(texts.finish()?))
    }

    fn dictionary(
        &self,
        values: Range<usize>,
        picked: Option<&Mask>,
    ) -> Option<Result<ArrayRef, SegmentError>> {
        Some(dictionary_array(&self.shared, &self.codes, values, picked))
    }

    fn groups(&self, values: Range<usize>, picked: Option<&Mask>) -> Option<Grouped> {
        Some(self.codes.picked(values, picked).map(|codes| (self.texts.clone(), codes)))
    }

    fn entries(&self) -> usize {
        self.texts.len()
    }

    fn counts(&self, values: Range<usize>, picked: Option<&Mask>) -> Option<Counted> {
        let counts = self.codes.counts(values, picked, self.texts.len())?;
        Some(counts.map(|counts| (self.texts.clone(), counts)))
    }

    fn memory_bytes(&self) -> usize {
        self.texts.len() * 4 + self.codes.memory_bytes()
    }
}
