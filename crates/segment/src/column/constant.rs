//! One value for all: it is in the directory, and the column has no section.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, DictionaryArray, Float64Array, Int32Array, Int64Array,
    StringArray,
};
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type};

use super::form::{Form, decimal_number, parse_decimal, parse_int};
use super::meta::{CONST_BYTES_MAX, Kind, Meta};
use super::test::How;
use super::{Counted, Grouped, Values};
use crate::predicate::{FieldTest, passing};
use crate::sections::SectionWriter;
use crate::{Mask, SegmentError};

/// Writes a column of `len` times the same value, given as text, of a type (Utf8, Int64, Float64 or
/// Boolean). Gives `false`, and writes nothing, if the text is too long for a directory.
pub(crate) fn encode_const(
    data_type: &DataType,
    text: &str,
    len: usize,
    w: &mut SectionWriter<'_>,
    meta: &mut Vec<u8>,
) -> bool {
    if text.len() > CONST_BYTES_MAX {
        return false;
    }
    let kind = Kind::Const { data_type: data_type.clone(), text: text.to_owned() };
    Meta { len, sections: w.next()..w.next(), kind }.write(meta);
    true
}

/// One value for all.
#[derive(Debug)]
pub(crate) struct Const {
    len: usize,
    /// The value alone.
    value: ArrayRef,
    text: StringArray,
}

impl Const {
    pub(super) fn open(len: usize, data_type: &DataType, text: &str) -> Result<Self, SegmentError> {
        let damaged = || SegmentError::damaged("directory: column", "its value is of another type");
        let value: ArrayRef = match data_type {
            DataType::Int64 => {
                Arc::new(Int64Array::from(vec![parse_int(text).ok_or_else(damaged)?]))
            }
            DataType::Float64 => {
                Arc::new(Float64Array::from(vec![text.parse::<f64>().map_err(|_| damaged())?]))
            }
            DataType::Boolean => {
                Arc::new(BooleanArray::from(vec![text.parse::<bool>().map_err(|_| damaged())?]))
            }
            _ => Arc::new(StringArray::from(vec![text])),
        };
        Ok(Self { len, value, text: StringArray::from(vec![text]) })
    }

    fn picked(values: &Range<usize>, picked: Option<&Mask>) -> usize {
        picked.map_or(values.len(), |picked| picked.count_range(0..values.len()))
    }
}

impl Values for Const {
    fn len(&self) -> usize {
        self.len
    }

    fn data_type(&self) -> DataType {
        self.value.data_type().clone()
    }

    fn prepare(&self, test: &FieldTest) -> Result<How, SegmentError> {
        Ok(How::Fixed(passing(&self.value, test, None).value(0)))
    }

    fn select(
        &self,
        _how: &How,
        values: Range<usize>,
        _within: Option<&Mask>,
    ) -> Result<Mask, SegmentError> {
        Ok(Mask::none(values.len()))
    }

    fn array(&self, values: Range<usize>, picked: Option<&Mask>) -> Result<ArrayRef, SegmentError> {
        let zeros = Int32Array::from(vec![0; Self::picked(&values, picked)]);
        arrow::compute::take(&self.value, &zeros, None)
            .map_err(|error| SegmentError::Encode(error.to_string()))
    }

    fn dictionary(
        &self,
        values: Range<usize>,
        picked: Option<&Mask>,
    ) -> Option<Result<ArrayRef, SegmentError>> {
        let zeros = Int32Array::from(vec![0; Self::picked(&values, picked)]);
        let array = DictionaryArray::<Int32Type>::try_new(zeros, Arc::new(self.text.clone()));
        Some(match array {
            Ok(array) => Ok(Arc::new(array) as ArrayRef),
            Err(error) => Err(SegmentError::Encode(error.to_string())),
        })
    }

    fn groups(&self, values: Range<usize>, picked: Option<&Mask>) -> Option<Grouped> {
        Some(Ok((self.text.clone(), vec![0; Self::picked(&values, picked)])))
    }

    fn counts(&self, values: Range<usize>, picked: Option<&Mask>) -> Option<Counted> {
        Some(Ok((self.text.clone(), vec![Self::picked(&values, picked) as u64])))
    }

    fn numbers(
        &self,
        values: Range<usize>,
        picked: Option<&Mask>,
    ) -> Option<Result<Vec<f64>, SegmentError>> {
        let value = match self.value.data_type() {
            DataType::Int64 => self.value.as_primitive::<Int64Type>().value(0) as f64,
            DataType::Float64 => self.value.as_primitive::<Float64Type>().value(0),
            DataType::Utf8 => {
                let text = self.text.value(0);
                let decimal =
                    || parse_decimal(text).and_then(|(m, scale)| decimal_number(m, scale));
                Form::IntText.parse(text).map(|value| value as f64).or_else(decimal)?
            }
            _ => return None,
        };
        Some(Ok(vec![value; Self::picked(&values, picked)]))
    }

    fn memory_bytes(&self) -> usize {
        self.text.get_array_memory_size() * 2
    }
}
