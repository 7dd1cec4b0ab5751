//! A test as a column sees it: decided, a set of codes, an interval of integers, or text by text.

use std::ops::Range;

use arrow::array::ArrayRef;

use super::Values;
use crate::bits::{Codes, Words};
use crate::predicate::{FieldTest, Verdict, passing};
use crate::{Mask, SegmentError};

/// A value array of fewer picked rows than one in this many is made of the picked ones alone.
const SPARSE_VALUES: usize = 8;

/// A test prepared by one column, for that column.
#[derive(Clone, Debug)]
pub(crate) struct ColumnTest {
    how: How,
}

impl ColumnTest {
    pub(super) fn new(how: How) -> Self {
        Self { how }
    }

    /// Whether all or none of the column's values pass, where it is known.
    pub(crate) fn verdict(&self) -> Verdict {
        match self.how {
            How::Fixed(true) => Verdict::All,
            How::Fixed(false) => Verdict::None,
            _ => Verdict::Some,
        }
    }

    /// Whether each value asked for is turned into text: to be done last.
    pub(crate) fn by_text(&self) -> bool {
        matches!(self.how, How::Text(_))
    }

    pub(super) fn how(&self) -> &How {
        &self.how
    }
}

/// How values are tested.
#[derive(Clone, Debug)]
pub(super) enum How {
    /// All pass, or none.
    Fixed(bool),
    /// By their codes.
    Codes(CodeSet),
    /// Integers in this range, both ends included.
    Interval(i64, i64),
    /// These integers, sorted.
    Integers(Vec<i64>),
    /// These identifiers, sorted.
    Ids(Vec<u128>),
    /// Whether true passes, and whether false does.
    Flags(bool, bool),
    /// Text by text.
    Text(FieldTest),
}

impl How {
    /// An interval, if it is not empty.
    pub(super) fn interval(min: i64, max: i64) -> Self {
        if min > max { Self::Fixed(false) } else { Self::Interval(min, max) }
    }

    /// A set of integers, if it is not empty.
    pub(super) fn integers(mut set: Vec<i64>) -> Self {
        set.sort_unstable();
        set.dedup();
        if set.is_empty() { Self::Fixed(false) } else { Self::Integers(set) }
    }

    /// The codes of a dictionary's values that pass, all of which occur.
    pub(super) fn codes(marked: &Mask) -> Self {
        let count = marked.count();
        if count == marked.len() {
            return Self::Fixed(true);
        }
        let (Some(first), Some(last)) = (marked.first(), marked.last()) else {
            return Self::Fixed(false);
        };
        if last + 1 - first == count {
            return Self::Codes(CodeSet::Range(first as u32..last as u32 + 1));
        }
        if count <= FEW {
            let mut few = [first as u32; FEW];
            few.iter_mut().zip(marked.iter()).for_each(|(to, code)| *to = code as u32);
            return Self::Codes(CodeSet::Few(few));
        }
        Self::Codes(CodeSet::Marked((0..marked.len()).map(|at| marked.get(at)).collect()))
    }
}

/// Some codes of a dictionary.
#[derive(Clone, Debug)]
pub(super) enum CodeSet {
    Range(Range<u32>),
    /// These, some perhaps more than once.
    Few([u32; FEW]),
    Marked(Vec<bool>),
}

/// So few codes are each compared.
const FEW: usize = 4;

impl CodeSet {
    pub(super) fn contains(&self, code: u32) -> bool {
        match self {
            Self::Range(range) => range.contains(&code),
            Self::Few(few) => few.contains(&code),
            Self::Marked(marked) => marked.get(code as usize).is_some_and(|marked| *marked),
        }
    }

    /// Appends for each of a range of codes whether it is in the set.
    pub(super) fn append(&self, codes: &Codes, values: Range<usize>, words: &mut Words) {
        match self {
            Self::Range(range) => {
                let (first, count) = (range.start, range.end.saturating_sub(range.start));
                let test = |code: u32| code.wrapping_sub(first) < count;
                codes.append_matching(values, test, words);
            }
            Self::Few([a, b, c, d]) => {
                let test = |code: u32| (code == *a) | (code == *b) | (code == *c) | (code == *d);
                codes.append_matching(values, test, words);
            }
            Self::Marked(marked) => {
                let test = |code: u32| marked.get(code as usize).copied().unwrap_or(false);
                // Tests that look something up are done one by one.
                codes.for_each(values, |_, piece| words.append(piece, test));
            }
        }
    }
}

/// Tests values through an array of them; of few values, through an array of these alone.
pub(super) fn by_text(
    column: &dyn Values,
    test: &FieldTest,
    values: Range<usize>,
    within: Option<&Mask>,
) -> Result<Mask, SegmentError> {
    let Some(within) = within else {
        let array = column.array(values, None)?;
        return Ok(Mask::from_arrow(&passing(&array, test, None)));
    };
    if within.count().saturating_mul(SPARSE_VALUES) >= values.len() {
        let array = column.array(values, None)?;
        return Ok(Mask::from_arrow(&passing(&array, test, Some(&within.to_arrow()))));
    }
    let array = column.array(values.clone(), Some(within))?;
    let passed = Mask::from_arrow(&passing(&array, test, None));
    let mut mask = Mask::none(values.len());
    for (nth, at) in within.iter().enumerate() {
        if passed.get(nth) {
            mask.set(at);
        }
    }
    Ok(mask)
}

/// The test on all values of a dictionary.
pub(super) fn by_value(values: &ArrayRef, test: &FieldTest) -> How {
    How::codes(&Mask::from_arrow(&passing(values, test, None)))
}

/// Whether a test can be refuted because it needs a byte that no text of a column has. `alphabet`
/// must hold the lower and the upper case of a letter, or neither.
pub(super) fn is_refuted(test: &FieldTest, alphabet: impl Fn(u8) -> bool) -> bool {
    let alien = |text: &str| !text.bytes().all(&alphabet);
    match test {
        FieldTest::Contains(phrase) | FieldTest::ContainsAnyCase(phrase) => alien(phrase.text()),
        FieldTest::Exact(text) | FieldTest::ExactPrefix(text) | FieldTest::Substring(text) => {
            alien(text)
        }
        FieldTest::ContainsAll(phrases) | FieldTest::Sequence(phrases) => {
            phrases.iter().any(|phrase| alien(phrase.text()))
        }
        FieldTest::ContainsAny(phrases) => phrases.iter().all(|phrase| alien(phrase.text())),
        FieldTest::In(texts) => texts.iter().all(|text| alien(text)),
        FieldTest::Regex(pattern) => pattern.literals().iter().any(|text| alien(text)),
        _ => false,
    }
}
