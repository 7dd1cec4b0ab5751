//! Texts that are decimals, not all with the same number of digits after the point.
//!
//! ```text
//!  section := mantissas (packed integers) · digits after the point (packed codes)
//! ```

use std::ops::Range;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use bytes::Bytes;

use super::form::{DECIMAL_DIGITS_MAX, decimal_number, write_decimal};
use super::meta::{Kind, Meta};
use super::test::{How, by_text, is_refuted};
use super::{ROWS_MAX, Texts, Values, keep};
use crate::bits::{Codes, Ints, LOOK_UP_COST, Words};
use crate::predicate::FieldTest;
use crate::sections::SectionWriter;
use crate::{Mask, SegmentError};

/// Writes a column of decimals: their digits, and how many of them are after the point.
pub(crate) fn encode_scaled(
    mantissas: &[i64],
    scales: &[u32],
    w: &mut SectionWriter<'_>,
    meta: &mut Vec<u8>,
) -> Result<(), SegmentError> {
    let mut bytes = Vec::new();
    Ints::encode(mantissas, &mut bytes);
    Codes::encode(scales, &mut bytes);
    let first = w.squeezed(&bytes)?;
    Meta { len: mantissas.len(), sections: first..first + 1, kind: Kind::Scaled }.write(meta);
    Ok(())
}

/// Decimals of several scales.
#[derive(Debug)]
pub(crate) struct Scaled {
    mantissas: Ints,
    scales: Codes,
}

impl Scaled {
    pub(super) fn open(bytes: &Bytes) -> Result<Self, SegmentError> {
        let (mantissas, rest) = Ints::open(bytes)?;
        let (scales, rest) = Codes::open(&rest)?;
        if mantissas.len() > ROWS_MAX || scales.len() != mantissas.len() || !rest.is_empty() {
            return Err(SegmentError::damaged("decimals", "have another length"));
        }
        let too_many = |scale: u32| scale as usize >= DECIMAL_DIGITS_MAX;
        if !scales.matching(0..scales.len(), too_many).is_empty() {
            return Err(SegmentError::damaged("decimals", "have too many digits"));
        }
        Ok(Self { mantissas, scales })
    }

    fn picked(&self, values: Range<usize>, picked: Option<&Mask>) -> Vec<(i64, u8)> {
        let few = |picked: &&Mask| picked.count().saturating_mul(LOOK_UP_COST) < values.len();
        if let Some(picked) = picked.filter(few) {
            let one = |at: usize| (self.mantissas.get(at), self.scales.get(at) as u8);
            return picked.iter().map(|at| one(values.start + at)).collect();
        }
        let mantissas = self.mantissas.values(values.clone());
        let both = mantissas.into_iter().zip(self.scales.values(values));
        keep(both.map(|(mantissa, scale)| (mantissa, scale as u8)).collect(), picked)
    }
}

impl Values for Scaled {
    fn len(&self) -> usize {
        self.mantissas.len()
    }

    fn data_type(&self) -> DataType {
        DataType::Utf8
    }

    fn prepare(&self, test: &FieldTest) -> Result<How, SegmentError> {
        Ok(match test {
            FieldTest::Any => How::Fixed(true),
            FieldTest::Empty
            | FieldTest::Ipv4 { .. }
            | FieldTest::Ipv6 { .. }
            | FieldTest::JsonArray(_) => How::Fixed(false),
            _ if is_refuted(test, |b| b.is_ascii_digit() || matches!(b, b'-' | b'.')) => {
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
                words.append(&self.picked(values, None), |(mantissa, scale)| {
                    decimal_number(mantissa, scale).is_some_and(|number| range.contains(number))
                });
                Ok(words.finish())
            }
            How::Text(test) => by_text(self, test, values, within),
            _ => Ok(Mask::none(values.len())),
        }
    }

    fn array(&self, values: Range<usize>, picked: Option<&Mask>) -> Result<ArrayRef, SegmentError> {
        let picked = self.picked(values, picked);
        let mut texts = Texts::with_capacity(picked.len(), picked.len() * 12);
        for (mantissa, scale) in picked {
            texts.push_with(|out| write_decimal(mantissa, scale, out));
        }
        Ok(Arc::new(texts.finish()?))
    }

    fn numbers(
        &self,
        values: Range<usize>,
        picked: Option<&Mask>,
    ) -> Option<Result<Vec<f64>, SegmentError>> {
        let number = |(mantissa, scale)| decimal_number(mantissa, scale).unwrap_or(f64::NAN);
        Some(Ok(self.picked(values, picked).into_iter().map(number).collect()))
    }

    fn memory_bytes(&self) -> usize {
        self.mantissas.memory_bytes()
    }
}
