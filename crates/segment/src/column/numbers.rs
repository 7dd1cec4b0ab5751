//! Values that integers stand for, as such or as a sorted dictionary of them with codes.
//!
//! ```text
//!  integers section := packed integers          the values, or the different ones, sorted
//!  codes section    := packed codes             only with a dictionary
//! ```

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float64Array, Int64Array, StringArray};
use arrow::datatypes::DataType;
use bytes::Bytes;

use super::dict::{dictionary_array, encode_codes, open_codes, select_codes};
use super::intern::{intern, repeats};
use super::meta::{Kind, Meta};
use super::test::{How, by_text, by_value};
use super::{Form, Grouped, ROWS_MAX, Texts, Values, keep};
use crate::bits::{Codes, Ints, Words};
use crate::predicate::FieldTest;
use crate::sections::SectionWriter;
use crate::{Mask, SegmentError};

/// So few different values are a dictionary even if that is no smaller: they are grouped by.
const FEW_VALUES: usize = 256;
/// Values of a packed group.
const GROUP: usize = 1024;

/// Writes a column of integers that stand for what `form` says; chooses by itself whether as a
/// dictionary.
pub(crate) fn encode_numbers(
    form: Form,
    values: &[i64],
    w: &mut SectionWriter<'_>,
    meta: &mut Vec<u8>,
) -> Result<(), SegmentError> {
    let mut bytes = Vec::new();
    let dictionary = dictionary_of(values);
    let first = match &dictionary {
        Some((distinct, codes)) => {
            Ints::encode(distinct, &mut bytes);
            let first = w.squeezed(&bytes)?;
            encode_codes(codes, w)?;
            first
        }
        None => {
            Ints::encode(values, &mut bytes);
            w.squeezed(&bytes)?
        }
    };
    let kind = Kind::Numbers { form, dictionary: dictionary.is_some() };
    Meta { len: values.len(), sections: first..w.next(), kind }.write(meta);
    Ok(())
}

/// A dictionary, if it is smaller than the packed integers or has few values and is hardly larger.
fn dictionary_of(values: &[i64]) -> Option<(Vec<i64>, Vec<u32>)> {
    let plain: usize = values.chunks(GROUP).map(packed_bits).sum();
    // More different values than this would have codes of nearly the width of the integers.
    let pays_bits = (plain / values.len().max(1)) as u32 * 3 / 4;
    let cap = (values.len() / 4).min(1usize.checked_shl(pays_bits).unwrap_or(usize::MAX));
    let cap = cap.max(FEW_VALUES);
    if plain == 0 || !repeats(values, cap) {
        return None;
    }
    let (distinct, codes) = intern(values, cap)?;
    let width = (usize::BITS - distinct.len().saturating_sub(1).leading_zeros()) as usize;
    let size = values.len() * width + distinct.chunks(GROUP).map(packed_bits).sum::<usize>();
    let pays =
        if distinct.len() <= FEW_VALUES { size <= plain * 5 / 4 } else { size <= plain / 4 * 3 };
    pays.then_some((distinct, codes))
}

/// Bits of a group when it is packed, its head aside.
fn packed_bits(group: &[i64]) -> usize {
    let (Some(min), Some(max)) = (group.iter().min(), group.iter().max()) else { return 0 };
    group.len() * (64 - max.abs_diff(*min).leading_zeros()) as usize
}

/// Values that integers stand for.
#[derive(Debug)]
pub(crate) struct Numbers {
    form: Form,
    plain: Ints,
    dictionary: Option<Dictionary>,
}

#[derive(Debug)]
struct Dictionary {
    integers: Vec<i64>,
    /// What the integers stand for, as text.
    texts: StringArray,
    shared: ArrayRef,
    codes: Codes,
}

impl Numbers {
    pub(super) fn open(
        form: Form,
        integers: &Bytes,
        codes: Option<&Bytes>,
    ) -> Result<Self, SegmentError> {
        let (plain, rest) = Ints::open(integers)?;
        if plain.len() > ROWS_MAX || !rest.is_empty() {
            return Err(SegmentError::damaged("integers", "have another length"));
        }
        let dictionary = match codes {
            None => None,
            Some(codes) => {
                let integers = plain.values(0..plain.len());
                if !integers.is_sorted_by(|a, b| a < b) {
                    return Err(SegmentError::damaged("dictionary", "is not sorted"));
                }
                let texts = texts_of(form, &integers)?;
                Some(Dictionary {
                    integers,
                    shared: Arc::new(texts.clone()),
                    texts,
                    codes: open_codes(codes)?,
                })
            }
        };
        Ok(Self { form, plain, dictionary })
    }

    /// The picked integers of a range.
    fn picked(&self, values: Range<usize>, picked: Option<&Mask>) -> Vec<i64> {
        if let Some(dictionary) = &self.dictionary {
            let codes = dictionary.codes.picked(values, picked);
            let integer = |code: u32| dictionary.integers.get(code as usize).copied().unwrap_or(0);
            return codes.into_iter().map(integer).collect();
        }
        /// A look-up alone costs so many times what it costs among its neighbours.
        const ALONE: usize = 16;
        match picked {
            Some(picked) if picked.count().saturating_mul(ALONE) < values.len() => {
                picked.iter().map(|at| self.plain.get(values.start + at)).collect()
            }
            _ => keep(self.plain.values(values), picked),
        }
    }

    fn codes_of(dictionary: &Dictionary, how: &How) -> How {
        let integers = &dictionary.integers;
        match how {
            How::Interval(min, max) => {
                let first = integers.partition_point(|value| value < min);
                let end = integers.partition_point(|value| value <= max);
                let mut marked = Mask::none(integers.len());
                marked.set_range(first..end);
                How::codes(&marked)
            }
            How::Integers(set) => {
                let mut marked = Mask::none(integers.len());
                let found = set.iter().filter_map(|value| integers.binary_search(value).ok());
                found.for_each(|at| marked.set(at));
                How::codes(&marked)
            }
            other => other.clone(),
        }
    }
}

impl Values for Numbers {
    fn len(&self) -> usize {
        self.dictionary.as_ref().map_or(self.plain.len(), |d| d.codes.len())
    }

    fn data_type(&self) -> DataType {
        self.form.data_type()
    }

    fn prepare(&self, test: &FieldTest) -> How {
        let how = self.form.prepare(test);
        match (&self.dictionary, how) {
            (Some(dictionary), How::Text(test)) => by_value(&dictionary.shared, &test),
            (Some(dictionary), how) => Self::codes_of(dictionary, &how),
            (None, how) => how,
        }
    }

    fn select(
        &self,
        how: &How,
        values: Range<usize>,
        within: Option<&Mask>,
    ) -> Result<Mask, SegmentError> {
        match (how, &self.dictionary) {
            (How::Text(test), _) => by_text(self, test, values, within),
            (How::Codes(set), Some(dictionary)) => {
                Ok(select_codes(set, &dictionary.codes, values, within))
            }
            (_, Some(_)) => Ok(Mask::none(values.len())),
            (How::Interval(min, max), None) => {
                Ok(matching(&self.plain, values, within, *min, *max, |v| v >= *min && v <= *max))
            }
            (How::Integers(set), None) => {
                let (Some(min), Some(max)) = (set.first(), set.last()) else {
                    return Ok(Mask::none(values.len()));
                };
                let one = *min;
                Ok(if min == max {
                    matching(&self.plain, values, within, one, one, |v| v == one)
                } else {
                    let test = |v| set.binary_search(&v).is_ok();
                    matching(&self.plain, values, within, *min, *max, test)
                })
            }
            _ => Ok(Mask::none(values.len())),
        }
    }

    fn array(&self, values: Range<usize>, picked: Option<&Mask>) -> Result<ArrayRef, SegmentError> {
        array_of(self.form, self.picked(values, picked))
    }

    fn dictionary(
        &self,
        values: Range<usize>,
        picked: Option<&Mask>,
    ) -> Option<Result<ArrayRef, SegmentError>> {
        let dictionary = self.dictionary.as_ref()?;
        Some(dictionary_array(&dictionary.shared, &dictionary.codes, values, picked))
    }

    fn groups(&self, values: Range<usize>, picked: Option<&Mask>) -> Option<Grouped> {
        let dictionary = self.dictionary.as_ref()?;
        Some(Ok((dictionary.texts.clone(), dictionary.codes.picked(values, picked))))
    }

    fn numbers(&self, values: Range<usize>, picked: Option<&Mask>) -> Option<Vec<f64>> {
        self.form.is_number().then(|| self.form.numbers(&self.picked(values, picked)))
    }

    fn memory_bytes(&self) -> usize {
        let dictionary = self
            .dictionary
            .as_ref()
            .map_or(0, |d| d.integers.len() * 16 + d.texts.get_array_memory_size());
        self.plain.memory_bytes() + dictionary
    }
}

/// Integers as an array of what they stand for.
pub(super) fn array_of(form: Form, integers: Vec<i64>) -> Result<ArrayRef, SegmentError> {
    Ok(match form {
        Form::Int64 => Arc::new(Int64Array::from(integers)),
        Form::Float { .. } => Arc::new(Float64Array::from(form.numbers(&integers))),
        Form::Time => super::times::array_of(integers),
        Form::IntText | Form::Ip | Form::Decimal { .. } => Arc::new(texts_of(form, &integers)?),
    })
}

fn texts_of(form: Form, integers: &[i64]) -> Result<StringArray, SegmentError> {
    let mut texts = Texts::with_capacity(integers.len(), integers.len() * 12);
    integers.iter().for_each(|value| texts.push_with(|out| form.write(*value, out)));
    texts.finish()
}

/// Which integers of a range pass `test`, which none below `min` or above `max` does. Groups that
/// lie outside of these bounds, or that nobody asks about, are not unpacked.
fn matching(
    ints: &Ints,
    values: Range<usize>,
    within: Option<&Mask>,
    min: i64,
    max: i64,
    test: impl Fn(i64) -> bool,
) -> Mask {
    let mut words = Words::new(values.len());
    let mut at = values.start;
    while at < values.end {
        let end = values.end.min((at / GROUP + 1) * GROUP);
        let asked = || {
            let here = at - values.start..end - values.start;
            within.is_none_or(|within| within.count_range(here) > 0)
        };
        match ints.bounds(at) {
            Some((low, high)) if low <= max && high >= min && asked() => {
                ints.for_each(at..end, |_, piece| words.append(piece, &test));
            }
            _ => words.append_same(false, end - at),
        }
        at = end;
    }
    words.finish()
}
