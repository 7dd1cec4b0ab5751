//! Booleans.
//!
//! ```text
//!  section := one bit per value, least significant first, in words of 64
//! ```

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray};
use arrow::datatypes::DataType;
use bytes::Bytes;

use super::meta::{Kind, Meta};
use super::test::How;
use super::{Values, encode_const, indexes};
use crate::predicate::FieldTest;
use crate::sections::SectionWriter;
use crate::{Mask, SegmentError};

/// Writes a column of booleans: those in the mask are true.
pub(crate) fn encode_bools(
    values: &Mask,
    w: &mut SectionWriter<'_>,
    meta: &mut Vec<u8>,
) -> Result<(), SegmentError> {
    if values.is_empty() || values.is_full() {
        let text = if values.is_full() { "true" } else { "false" };
        encode_const(&DataType::Boolean, text, values.len(), w, meta);
        return Ok(());
    }
    let bytes: Vec<u8> = values.words().iter().flat_map(|word| word.to_le_bytes()).collect();
    let first = w.squeezed(&bytes)?;
    Meta { len: values.len(), sections: first..first + 1, kind: Kind::Bools }.write(meta);
    Ok(())
}

/// Booleans.
#[derive(Debug)]
pub(crate) struct Bools {
    bits: Mask,
}

impl Bools {
    pub(super) fn open(len: usize, bytes: &Bytes) -> Result<Self, SegmentError> {
        if bytes.len() != len.div_ceil(64) * 8 {
            return Err(SegmentError::damaged("booleans", "have another length"));
        }
        let words = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
        Ok(Self { bits: Mask::from_words(words.collect(), len) })
    }
}

impl Values for Bools {
    fn len(&self) -> usize {
        self.bits.len()
    }

    fn data_type(&self) -> DataType {
        DataType::Boolean
    }

    fn prepare(&self, test: &FieldTest) -> Result<How, SegmentError> {
        Ok(match (test.matches("true"), test.matches("false")) {
            (true, true) => How::Fixed(true),
            (false, false) => How::Fixed(false),
            (on, off) => How::Flags(on, off),
        })
    }

    fn select(
        &self,
        how: &How,
        values: Range<usize>,
        _within: Option<&Mask>,
    ) -> Result<Mask, SegmentError> {
        let bits = self.bits.part(values.clone());
        Ok(match how {
            How::Flags(true, _) => bits,
            How::Flags(_, true) => bits.inverted(),
            _ => Mask::none(values.len()),
        })
    }

    fn array(&self, values: Range<usize>, picked: Option<&Mask>) -> Result<ArrayRef, SegmentError> {
        let array: BooleanArray = match picked {
            None => BooleanArray::new(self.bits.part(values).to_arrow(), None),
            Some(_) => {
                let picked = indexes(values, picked);
                picked.into_iter().map(|at| self.bits.get(at)).collect::<Vec<bool>>().into()
            }
        };
        Ok(Arc::new(array))
    }

    fn memory_bytes(&self) -> usize {
        self.bits.words().len() * 8
    }
}
