//! Floats that are no short decimals.
//!
//! ```text
//!  section := eight planes, from the sign on: of every value the first byte, then the second, …
//! ```
//!
//! Values of a column are of like size, so that the first planes repeat and zstd finds it.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array};
use arrow::datatypes::DataType;
use bytes::Bytes;

use super::meta::{Kind, Meta};
use super::test::{How, by_text, is_refuted};
use super::{Values, indexes};
use crate::bits::Words;
use crate::predicate::FieldTest;
use crate::sections::SectionWriter;
use crate::{Mask, SegmentError};

/// Writes a column of floats, any bits of them.
pub(crate) fn encode_floats(
    values: &[f64],
    w: &mut SectionWriter<'_>,
    meta: &mut Vec<u8>,
) -> Result<(), SegmentError> {
    let mut bytes = Vec::with_capacity(values.len() * 8);
    for plane in (0..8).rev() {
        bytes.extend(values.iter().map(|value| (value.to_bits() >> (8 * plane)) as u8));
    }
    let first = w.squeezed(&bytes)?;
    Meta { len: values.len(), sections: first..first + 1, kind: Kind::Floats }.write(meta);
    Ok(())
}

/// Floats.
#[derive(Debug)]
pub(crate) struct Floats {
    values: Vec<f64>,
}

impl Floats {
    pub(super) fn open(len: usize, bytes: &Bytes) -> Result<Self, SegmentError> {
        if bytes.len() != len * 8 {
            return Err(SegmentError::damaged("floats", "have another length"));
        }
        let mut bits = vec![0u64; len];
        for plane in bytes.chunks(len.max(1)) {
            bits.iter_mut()
                .zip(plane)
                .for_each(|(bits, byte)| *bits = *bits << 8 | u64::from(*byte));
        }
        Ok(Self { values: bits.into_iter().map(f64::from_bits).collect() })
    }

    fn range(&self, values: Range<usize>) -> &[f64] {
        self.values.get(values).unwrap_or_default()
    }

    fn picked(&self, values: Range<usize>, picked: Option<&Mask>) -> Vec<f64> {
        match picked {
            None => self.range(values).to_vec(),
            Some(_) => {
                let picked = indexes(values, picked);
                picked.into_iter().filter_map(|at| self.values.get(at).copied()).collect()
            }
        }
    }
}

impl Values for Floats {
    fn len(&self) -> usize {
        self.values.len()
    }

    fn data_type(&self) -> DataType {
        DataType::Float64
    }

    fn prepare(&self, test: &FieldTest) -> Result<How, SegmentError> {
        // The letters are those of `NaN` and `inf`.
        let letter = |b: u8| matches!(b.to_ascii_lowercase(), b'n' | b'a' | b'i' | b'f');
        Ok(match test {
            FieldTest::Any => How::Fixed(true),
            FieldTest::Empty
            | FieldTest::Ipv4 { .. }
            | FieldTest::Ipv6 { .. }
            | FieldTest::JsonArray(_) => How::Fixed(false),
            _ if is_refuted(test, |b| {
                b.is_ascii_digit() || matches!(b, b'-' | b'.') || letter(b)
            }) =>
            {
                How::Fixed(false)
            }
            _ => How::Text(test.clone()),
        })
    }

    fn select(
        &self,
        how: &How,
        values: Range<usize>,
        within: Option<&Mask>,
    ) -> Result<Mask, SegmentError> {
        match how {
            How::Text(FieldTest::Number(range)) => {
                let mut words = Words::new(values.len());
                words
                    .append(self.range(values), |value| value.is_finite() && range.contains(value));
                Ok(words.finish())
            }
            How::Text(test) => by_text(self, test, values, within),
            _ => Ok(Mask::none(values.len())),
        }
    }

    fn array(&self, values: Range<usize>, picked: Option<&Mask>) -> Result<ArrayRef, SegmentError> {
        Ok(Arc::new(Float64Array::from(self.picked(values, picked))))
    }

    fn numbers(
        &self,
        values: Range<usize>,
        picked: Option<&Mask>,
    ) -> Option<Result<Vec<f64>, SegmentError>> {
        Some(Ok(self.picked(values, picked)))
    }

    fn memory_bytes(&self) -> usize {
        self.values.len() * 8
    }
}
