//! Columns: the values of one field in the rows where it is present, dense, in row order.
//!
//! ```text
//!  encode_* / Choice::encode ──► sections, and the column's bytes in the directory
//!  directory ─ Column::open ─► Column ─ load(sections) ─► Loaded ─► prepare, select, array, …
//!
//!  column := kind u8 · values u32 · first section u32 · sections u32 · what the kind asks for
//! ```
//!
//! | kind | values | kind's own bytes | sections |
//! |---|---|---|---|
//! | 1 | one value for all | type u8 · len u32 · text | none |
//! | 2 | texts, few different ones | shift u8 | texts; codes in pieces |
//! | 3 | what an integer stands for: see [`Form`] | form u8 · scale u8 · dictionary u8 · shift u8 | integers in pieces; or integers, and codes in pieces |
//! | 4 | decimals of several scales, as text | | mantissas and scales |
//! | 5 | floats | | planes of their bytes |
//! | 6 | booleans | | bits |
//! | 7 | identifiers | digits u8 · flags u8 · shift u8 · how the entries are cut, if dictionary | head; entries in pieces; codes in pieces if dictionary |
//! | 8 | times | shift u8 | blocks, in pieces |
//! | 9 | any texts | values u32 of each section | zstd'ed blocks |
//!
//! A list in [`pieces`] has a section for each 2^shift of its values, read when one of these is asked
//! for.
//!
//! Invariants:
//! - a value's index counts the values of the column, not the rows: `presence` maps between them;
//! - what [`Loaded::select`] says of a value is what [`FieldTest::matches`] says of its text form;
//! - bytes that were not written by this module give an error or other values, never a panic; on
//!   their word alone memory is reserved for at most [`ROWS_MAX`] values, or one block of [`raw`].
//!
//! What asks for values gives a `Result`: it names all sections that it misses.

mod choose;
mod constant;
mod dict;
mod entries;
mod flags;
mod floats;
mod form;
mod id;
mod intern;
mod meta;
mod numbers;
mod pieces;
mod presence;
mod raw;
mod scaled;
mod test;
#[cfg(test)]
mod tests;
mod texts;
mod times;

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::DataType;

pub(crate) use choose::{choose, encode_coded, encode_float64, encode_int64};
pub(crate) use constant::encode_const;
use dict::encode_dict;
pub(crate) use flags::encode_bools;
pub(crate) use floats::encode_floats;
pub(crate) use form::Form;
pub use id::identifier;
pub(crate) use id::{Shape, encode_ids};
pub(crate) use numbers::encode_numbers;
pub(crate) use presence::Presence;
pub(crate) use raw::encode_raw;
pub(crate) use scaled::encode_scaled;
pub(crate) use test::ColumnTest;
pub(crate) use texts::Texts;
pub(crate) use times::{Times, encode_times};

use crate::predicate::FieldTest;
use crate::sections::{SectionNo, Sections};
use crate::{Mask, SegmentError};
use meta::{Kind, Meta};
use pieces::{Cut, Pieces};
use test::How;

/// Most rows of a segment, so most values of a column.
pub(crate) const ROWS_MAX: usize = 1 << 22;

/// A column as the directory describes it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Column {
    meta: Meta,
}

impl Column {
    /// Reads a column's description from the front of `meta`, and moves `meta` behind it.
    pub(crate) fn open(meta: &mut &[u8]) -> Result<Self, SegmentError> {
        Ok(Self { meta: Meta::read(meta)? })
    }

    /// All sections of the column; [`Column::load`] needs those that are not pieces.
    pub(crate) fn sections(&self) -> Range<SectionNo> {
        self.meta.sections.clone()
    }

    /// The name of its kind, and which of its sections are a dictionary.
    pub(crate) fn layout(&self) -> (&'static str, Range<SectionNo>) {
        let first = self.sections().start;
        let dictionary = |sections: u32| first..first.saturating_add(sections);
        match &self.meta.kind {
            Kind::Const { .. } => ("const", dictionary(0)),
            Kind::Dict { .. } => ("dict", dictionary(1)),
            Kind::Numbers { form, dictionary: has, .. } => (form.name(), dictionary((*has).into())),
            Kind::Scaled | Kind::Floats => ("float64", dictionary(0)),
            Kind::Bools => ("bool", dictionary(0)),
            Kind::Ids { entries, .. } => {
                ("id", dictionary(entries.map_or(0, |entries| entries.pieces() + 1)))
            }
            Kind::Times { .. } => ("time", dictionary(0)),
            Kind::Raw { .. } => ("string", dictionary(0)),
        }
    }

    /// What is needed to ask anything of the column; values are read as they are asked for. From
    /// sections in memory; [`SegmentError::Missing`] names those that are not.
    pub(crate) fn load(&self, sections: &Arc<Sections>) -> Result<Loaded, SegmentError> {
        let (len, nos) = (self.meta.len, self.sections());
        let first = || sections.get(nos.start);
        let cut = |shift: u8| Cut { len, shift };
        let codes = |shift: u8| Pieces::new(cut(shift), nos.start.saturating_add(1), sections);
        let loaded = match &self.meta.kind {
            Kind::Const { data_type, text } => {
                Loaded::Const(constant::Const::open(len, data_type, text)?)
            }
            Kind::Dict { shift } => Loaded::Dict(dict::Dict::open(first()?, codes(*shift))?),
            Kind::Numbers { form, dictionary: true, shift } => {
                Loaded::Numbers(numbers::Numbers::coded(*form, first()?, codes(*shift))?)
            }
            Kind::Numbers { form, dictionary: false, shift } => {
                let integers = Pieces::new(cut(*shift), nos.start, sections);
                Loaded::Numbers(numbers::Numbers::plain(*form, integers))
            }
            Kind::Scaled => Loaded::Scaled(scaled::Scaled::open(first()?)?),
            Kind::Floats => Loaded::Floats(floats::Floats::open(len, first()?)?),
            Kind::Bools => Loaded::Bools(flags::Bools::open(len, first()?)?),
            Kind::Ids { shape, shift, entries } => {
                let codes = entries.map(|_| cut(*shift));
                let entries = entries.unwrap_or(cut(*shift));
                Loaded::Ids(id::Ids::open(*shape, entries, codes, nos.start, sections)?)
            }
            Kind::Times { shift } => {
                Loaded::Times(Times::open(Pieces::new(cut(*shift), nos.start, sections)))
            }
            Kind::Raw { values } => Loaded::Raw(raw::Raw::open(values, nos.start, sections)?),
        };
        if loaded.len() != len {
            return Err(SegmentError::damaged("column", "has another number of values"));
        }
        Ok(loaded)
    }
}

/// A column that can be asked.
#[derive(Debug)]
pub(crate) enum Loaded {
    /// One value for all.
    Const(constant::Const),
    /// Few different texts.
    Dict(dict::Dict),
    /// Integers, addresses, decimals of one scale.
    Numbers(numbers::Numbers),
    /// Decimals of several scales.
    Scaled(scaled::Scaled),
    /// Floats.
    Floats(floats::Floats),
    /// Booleans.
    Bools(flags::Bools),
    /// Hexadecimal identifiers.
    Ids(id::Ids),
    /// Times.
    Times(Times),
    /// Any texts.
    Raw(raw::Raw),
}

/// Texts, and of which of them each value is; see [`Loaded::groups`].
type Grouped = Result<(StringArray, Vec<u32>), SegmentError>;
/// Texts, and how many values are each of them; see [`Loaded::counts`].
type Counted = Result<(StringArray, Vec<u64>), SegmentError>;

/// What values are read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    /// To be tested.
    Test,
    /// To be handed out.
    Texts,
}

/// What each kind of column can do; [`Loaded`] has the words for callers.
trait Values: std::fmt::Debug {
    fn len(&self) -> usize;
    fn data_type(&self) -> DataType;
    fn prepare(&self, test: &FieldTest) -> Result<How, SegmentError>;
    /// Names all sections at once that some of the values need.
    fn require(
        &self,
        _want: Want,
        _values: &Range<usize>,
        _picked: Option<&Mask>,
    ) -> Result<(), SegmentError> {
        Ok(())
    }
    fn select(
        &self,
        how: &How,
        values: Range<usize>,
        within: Option<&Mask>,
    ) -> Result<Mask, SegmentError>;
    fn array(&self, values: Range<usize>, picked: Option<&Mask>) -> Result<ArrayRef, SegmentError>;
    /// As a dictionary array, where the column has one.
    fn dictionary(
        &self,
        _values: Range<usize>,
        _picked: Option<&Mask>,
    ) -> Option<Result<ArrayRef, SegmentError>> {
        None
    }
    fn groups(&self, _values: Range<usize>, _picked: Option<&Mask>) -> Option<Grouped> {
        None
    }
    fn counts(&self, _values: Range<usize>, _picked: Option<&Mask>) -> Option<Counted> {
        None
    }
    fn identifiers(
        &self,
        _values: Range<usize>,
        _picked: Option<&Mask>,
    ) -> Option<Result<Vec<u128>, SegmentError>> {
        None
    }
    fn numbers(
        &self,
        _values: Range<usize>,
        _picked: Option<&Mask>,
    ) -> Option<Result<Vec<f64>, SegmentError>> {
        None
    }
    /// How many different values its dictionary has, if it has one.
    fn entries(&self) -> usize {
        0
    }
    fn memory_bytes(&self) -> usize;
}

impl Loaded {
    fn values(&self) -> &dyn Values {
        match self {
            Self::Const(column) => column,
            Self::Dict(column) => column,
            Self::Numbers(column) => column,
            Self::Scaled(column) => column,
            Self::Floats(column) => column,
            Self::Bools(column) => column,
            Self::Ids(column) => column,
            Self::Times(column) => column,
            Self::Raw(column) => column,
        }
    }

    /// Number of values.
    pub(crate) fn len(&self) -> usize {
        self.values().len()
    }

    /// Utf8, Int64, Float64, Boolean or Timestamp(ns, UTC).
    pub(crate) fn data_type(&self) -> DataType {
        self.values().data_type()
    }

    /// Decides a test as far as it can be without looking at the values one by one: once for each
    /// value of a dictionary, or as an interval of integers. To be done once per segment.
    pub(crate) fn prepare(&self, test: &FieldTest) -> Result<ColumnTest, SegmentError> {
        self.values().prepare(test).map(ColumnTest::new)
    }

    /// Which of a range of values pass a test prepared by this column: bit 0 is the first of the
    /// range. `within` is over the same range; nothing outside of it is selected.
    pub(crate) fn select(
        &self,
        test: &ColumnTest,
        values: Range<usize>,
        within: Option<&Mask>,
    ) -> Result<Mask, SegmentError> {
        let values = self.clamp(values);
        let mut mask = match test.how() {
            How::Fixed(true) => Mask::all(values.len()),
            How::Fixed(false) => return Ok(Mask::none(values.len())),
            how => {
                let want = if test.by_text() { Want::Texts } else { Want::Test };
                self.values().require(want, &values, within)?;
                self.values().select(how, values, within)?
            }
        };
        if let Some(within) = within {
            mask.and(within);
        }
        Ok(mask)
    }

    /// The picked values of a range (`picked` is over the range; all without it), of
    /// [`Loaded::data_type`]; with `dictionary`, texts of a column with a dictionary are
    /// `Dictionary(Int32, Utf8)` over the whole of it.
    pub(crate) fn array(
        &self,
        values: Range<usize>,
        picked: Option<&Mask>,
        dictionary: bool,
    ) -> Result<ArrayRef, SegmentError> {
        let values = self.clamp(values);
        self.values().require(Want::Texts, &values, picked)?;
        if dictionary
            && self.data_type() == DataType::Utf8
            && let Some(array) = self.values().dictionary(values.clone(), picked)
        {
            return array;
        }
        self.values().array(values, picked)
    }

    /// Different values as text, and for each picked value of a range its index among them, if the
    /// column has a dictionary. There may be texts that none of the picked values has.
    pub(crate) fn groups(
        &self,
        values: Range<usize>,
        picked: Option<&Mask>,
    ) -> Result<Option<(StringArray, Vec<u32>)>, SegmentError> {
        let values = self.clamp(values);
        self.values().require(Want::Texts, &values, picked)?;
        self.values().groups(values, picked).transpose()
    }

    /// Different values as text, and how many of the picked values of a range are each of them, if the
    /// column has a small dictionary.
    pub(crate) fn counts(
        &self,
        values: Range<usize>,
        picked: Option<&Mask>,
    ) -> Result<Option<(StringArray, Vec<u64>)>, SegmentError> {
        let values = self.clamp(values);
        self.values().require(Want::Texts, &values, picked)?;
        self.values().counts(values, picked).transpose()
    }

    /// The picked values of a range, each once or more, if the column is one of identifiers of 32
    /// lower-case digits without dashes.
    pub(crate) fn identifiers(
        &self,
        values: Range<usize>,
        picked: Option<&Mask>,
    ) -> Result<Option<Vec<u128>>, SegmentError> {
        let values = self.clamp(values);
        self.values().require(Want::Texts, &values, picked)?;
        self.values().identifiers(values, picked).transpose()
    }

    /// The picked values of a range, if all values of the column are numbers (as such or as text).
    /// A dictionary of texts gives none: decide once for each of [`Loaded::groups`].
    pub(crate) fn numbers(
        &self,
        values: Range<usize>,
        picked: Option<&Mask>,
    ) -> Result<Option<Vec<f64>>, SegmentError> {
        let values = self.clamp(values);
        self.values().require(Want::Texts, &values, picked)?;
        self.values().numbers(values, picked).transpose()
    }

    /// The times themselves, for searches in them.
    pub(crate) fn times(&self) -> Option<&Times> {
        match self {
            Self::Times(times) => Some(times),
            _ => None,
        }
    }

    /// How many different values its dictionary has, 0 without one.
    pub(crate) fn entries(&self) -> usize {
        self.values().entries()
    }

    /// Bytes in memory beside those of the sections.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.values().memory_bytes()
    }

    fn clamp(&self, values: Range<usize>) -> Range<usize> {
        let end = values.end.min(self.len());
        values.start.min(end)..end
    }
}

/// The indexes that are picked from a range.
fn indexes(values: Range<usize>, picked: Option<&Mask>) -> Vec<usize> {
    match picked {
        None => values.collect(),
        Some(picked) => {
            let len = values.len();
            picked.iter().take_while(|at| *at < len).map(|at| values.start + at).collect()
        }
    }
}

/// Keeps the picked ones of the values of a range.
fn keep<T: Copy>(all: Vec<T>, picked: Option<&Mask>) -> Vec<T> {
    match picked {
        None => all,
        Some(picked) => picked.iter().filter_map(|at| all.get(at).copied()).collect(),
    }
}
