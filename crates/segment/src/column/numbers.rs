//! Values that integers stand for, as such or as a sorted dictionary of them with codes.
//!
//! ```text
//!  without a dictionary: integers sections := packed integers, in pieces
//!  with one:             integers section  := packed integers          the different ones, sorted
//!                        codes sections    := packed codes, in pieces
//! ```

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float64Array, Int64Array, StringArray};
use arrow::datatypes::DataType;
use bytes::Bytes;

use super::dict::{dictionary_array, encode_codes};
use super::intern::{intern, repeats};
use super::meta::{Kind, Meta};
use super::pieces::{Cut, Pieces};
use super::test::{How, by_text, by_value};
use super::{Counted, Form, Grouped, ROWS_MAX, Texts, Values, Want, keep};
use crate::bits::{Codes, Ints, LOOK_UP_COST, Words};
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
    let first = w.next();
    let bits: usize = values.chunks(GROUP).map(packed_bits).sum();
    let dictionary = dictionary_of(values, bits);
    let shift = match &dictionary {
        Some((distinct, codes)) => {
            let mut bytes = Vec::new();
            Ints::encode(distinct, &mut bytes);
            w.squeezed(&bytes)?;
            encode_codes(codes, distinct.len(), w)?
        }
        None => {
            let cut = Cut::of(values.len(), bits / 8);
            cut.write(values, w, Ints::encode)?;
            cut.shift
        }
    };
    let kind = Kind::Numbers { form, dictionary: dictionary.is_some(), shift };
    Meta { len: values.len(), sections: first..w.next(), kind }.write(meta);
    Ok(())
}

/// A dictionary, if it is smaller than the packed integers, of `plain` bits, or has few values and is
/// hardly larger.
fn dictionary_of(values: &[i64], plain: usize) -> Option<(Vec<i64>, Vec<u32>)> {
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
    held: Held,
}

#[derive(Debug)]
enum Held {
    Plain(Pieces<Ints>),
    Dictionary(Dictionary),
}

#[derive(Debug)]
struct Dictionary {
    integers: Vec<i64>,
    /// What the integers stand for, as text.
    texts: StringArray,
    shared: ArrayRef,
    codes: Pieces<Codes>,
}

impl Numbers {
    pub(super) fn plain(form: Form, integers: Pieces<Ints>) -> Self {
        Self { form, held: Held::Plain(integers) }
    }

    pub(super) fn coded(
        form: Form,
        integers: &Bytes,
        codes: Pieces<Codes>,
    ) -> Result<Self, SegmentError> {
        let (integers, rest) = Ints::open(integers)?;
        if integers.len() > ROWS_MAX || !rest.is_empty() {
            return Err(SegmentError::damaged("integers", "have another length"));
        }
        let integers = integers.values(0..integers.len());
        if !integers.is_sorted_by(|a, b| a < b) {
            return Err(SegmentError::damaged("dictionary", "is not sorted"));
        }
        let texts = texts_of(form, &integers)?;
        let shared = Arc::new(texts.clone());
        Ok(Self { form, held: Held::Dictionary(Dictionary { integers, texts, shared, codes }) })
    }

    /// The picked integers of a range.
    fn picked(
        &self,
        values: Range<usize>,
        picked: Option<&Mask>,
    ) -> Result<Vec<i64>, SegmentError> {
        let plain = match &self.held {
            Held::Plain(plain) => plain,
            Held::Dictionary(Dictionary { integers, codes, .. }) => {
                let integer = |code: u32| integers.get(code as usize).copied().unwrap_or(0);
                return Ok(codes.picked(values, picked)?.into_iter().map(integer).collect());
            }
        };
        let mut out = Vec::with_capacity(picked.map_or(values.len(), Mask::count));
        match picked {
            None => plain.for_each(values, |ints, part, _| {
                ints.for_each(part, |_, piece| out.extend_from_slice(piece));
            })?,
            Some(picked) => plain.for_each_picked(values, picked, |ints, part, here| {
                if here.count().saturating_mul(LOOK_UP_COST) < part.len() {
                    out.extend(here.iter().map(|at| ints.get(part.start + at)));
                } else {
                    out.append(&mut keep(ints.values(part), Some(here)));
                }
            })?,
        }
        Ok(out)
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
        match &self.held {
            Held::Plain(plain) => plain.len(),
            Held::Dictionary(dictionary) => dictionary.codes.len(),
        }
    }

    fn data_type(&self) -> DataType {
        self.form.data_type()
    }

    fn prepare(&self, test: &FieldTest) -> Result<How, SegmentError> {
        let how = self.form.prepare(test);
        Ok(match (&self.held, how) {
            (Held::Dictionary(dictionary), How::Text(test)) => by_value(&dictionary.shared, &test),
            (Held::Dictionary(dictionary), how) => Self::codes_of(dictionary, &how),
            (Held::Plain(_), how) => how,
        })
    }

    fn require(
        &self,
        _want: Want,
        values: &Range<usize>,
        picked: Option<&Mask>,
    ) -> Result<(), SegmentError> {
        match &self.held {
            Held::Plain(plain) => plain.require(values, picked),
            Held::Dictionary(dictionary) => dictionary.codes.require(values, picked),
        }
    }

    fn select(
        &self,
        how: &How,
        values: Range<usize>,
        within: Option<&Mask>,
    ) -> Result<Mask, SegmentError> {
        match (how, &self.held) {
            (How::Text(test), _) => by_text(self, test, values, within),
            (How::Codes(set), Held::Dictionary(dictionary)) => {
                dictionary.codes.select(set, values, within)
            }
            (_, Held::Dictionary(_)) => Ok(Mask::none(values.len())),
            (How::Interval(min, max), Held::Plain(plain)) => {
                matching(plain, values, within, *min, *max, |v| v >= *min && v <= *max)
            }
            (How::Integers(set), Held::Plain(plain)) => {
                let (Some(min), Some(max)) = (set.first(), set.last()) else {
                    return Ok(Mask::none(values.len()));
                };
                let one = *min;
                if min == max {
                    matching(plain, values, within, one, one, |v| v == one)
                } else {
                    let test = |v| set.binary_search(&v).is_ok();
                    matching(plain, values, within, *min, *max, test)
                }
            }
            _ => Ok(Mask::none(values.len())),
        }
    }

    fn array(&self, values: Range<usize>, picked: Option<&Mask>) -> Result<ArrayRef, SegmentError> {
        array_of(self.form, self.picked(values, picked)?)
    }

    fn dictionary(
        &self,
        values: Range<usize>,
        picked: Option<&Mask>,
    ) -> Option<Result<ArrayRef, SegmentError>> {
        let Held::Dictionary(dictionary) = &self.held else { return None };
        Some(dictionary_array(&dictionary.shared, &dictionary.codes, values, picked))
    }

    fn groups(&self, values: Range<usize>, picked: Option<&Mask>) -> Option<Grouped> {
        let Held::Dictionary(Dictionary { texts, codes, .. }) = &self.held else { return None };
        Some(codes.picked(values, picked).map(|codes| (texts.clone(), codes)))
    }

    fn counts(&self, values: Range<usize>, picked: Option<&Mask>) -> Option<Counted> {
        let Held::Dictionary(Dictionary { texts, codes, .. }) = &self.held else { return None };
        let counts = codes.counts(values, picked, texts.len())?;
        Some(counts.map(|counts| (texts.clone(), counts)))
    }

    fn numbers(
        &self,
        values: Range<usize>,
        picked: Option<&Mask>,
    ) -> Option<Result<Vec<f64>, SegmentError>> {
        let numbers = |integers: Vec<i64>| self.form.numbers(&integers);
        self.form.is_number().then(|| self.picked(values, picked).map(numbers))
    }

    fn entries(&self) -> usize {
        match &self.held {
            Held::Plain(_) => 0,
            Held::Dictionary(dictionary) => dictionary.integers.len(),
        }
    }

    fn memory_bytes(&self) -> usize {
        match &self.held {
            Held::Plain(plain) => plain.memory_bytes(),
            Held::Dictionary(Dictionary { integers, texts, codes, .. }) => {
                integers.len() * 16 + texts.get_array_memory_size() + codes.memory_bytes()
            }
        }
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
    plain: &Pieces<Ints>,
    values: Range<usize>,
    within: Option<&Mask>,
    min: i64,
    max: i64,
    test: impl Fn(i64) -> bool,
) -> Result<Mask, SegmentError> {
    let mut words = Words::new(values.len());
    let len = values.len();
    let asked =
        |here: Range<usize>| within.is_none_or(|within| within.count_range(here.clone()) > 0);
    plain.for_each_asked(values, asked, |ints, part, place| {
        words.append_same(false, place - words.len());
        let mut at = part.start;
        while at < part.end {
            let end = part.end.min((at / GROUP + 1) * GROUP);
            let here = at - part.start + place..end - part.start + place;
            match ints.bounds(at) {
                Some((low, high)) if low <= max && high >= min && asked(here) => {
                    ints.for_each(at..end, |_, piece| words.append(piece, &test));
                }
                _ => words.append_same(false, end - at),
            }
            at = end;
        }
    })?;
    words.append_same(false, len.saturating_sub(words.len()));
    Ok(words.finish())
}
