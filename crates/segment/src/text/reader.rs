//! A column before its templates are read: where its sections are, and which words it cannot have.
//!
//! Invariant: what is refuted here is the value of no row.

use std::sync::Arc;

use super::column::TextColumn;
use super::cursor::Cursor;
use super::filter;
use super::needle::Needle;
use super::rows::SECTION_VALUES;
use super::vocabulary::Forms;
use super::{TEMPLATES_MAX, VALUES_MAX};
use crate::SegmentError;
use crate::predicate::FieldTest;
use crate::sections::{SectionNo, Sections};

/// A column before its templates are read.
#[derive(Clone, Debug)]
pub(crate) struct TextReader {
    pub(super) values: usize,
    pub(super) first: SectionNo,
    /// Number of sections B, C and D.
    pub(super) numbers: u32,
    pub(super) slots: u32,
    pub(super) raw: u32,
    /// Number of sections of the filter.
    pub(super) filter: u32,
    pub(super) forms: Arc<Forms>,
}

impl TextReader {
    /// Reads what the directory holds of a column from the front of `meta`.
    pub(crate) fn open(meta: &mut &[u8]) -> Result<Self, SegmentError> {
        let mut cursor = Cursor::new(meta);
        let values = cursor.at_most(VALUES_MAX)?;
        let first = cursor.at_most(u32::MAX as usize / 4)? as SectionNo;
        let slots = cursor.at_most(TEMPLATES_MAX)? as u32;
        let raw = cursor.at_most(VALUES_MAX)? as u32;
        let filter = cursor.at_most(TEMPLATES_MAX)? as u32;
        let forms = Arc::new(Forms::parse(&mut cursor)?);
        *meta = cursor.rest();
        let numbers = values.div_ceil(SECTION_VALUES) as u32;
        Ok(Self { values, first, numbers, slots, raw, filter, forms })
    }

    /// Number of values.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.values
    }

    /// All sections of the column.
    pub(crate) fn sections(&self) -> std::ops::Range<SectionNo> {
        self.first..self.head() + 1
    }

    /// The sections that tell which words no value has, or which templates have a word.
    pub(crate) fn filters(&self) -> std::ops::Range<SectionNo> {
        self.filter_section()..self.head()
    }

    /// The section of the templates.
    pub(crate) fn templates(&self) -> std::ops::Range<SectionNo> {
        self.head()..self.head() + 1
    }

    fn filter_section(&self) -> SectionNo {
        self.first + self.numbers + self.slots + self.raw
    }

    pub(super) fn words_section(&self) -> SectionNo {
        self.filter_section() + self.filter
    }

    pub(super) fn postings_section(&self) -> SectionNo {
        self.words_section() + 1
    }

    pub(super) fn head(&self) -> SectionNo {
        self.words_section() + 2
    }

    /// Whether forms and filter alone say that no value passes.
    pub(crate) fn refutes(
        &self,
        test: &FieldTest,
        sections: &Sections,
    ) -> Result<bool, SegmentError> {
        if !Needle::has_tokens(test) {
            return Ok(false);
        }
        Needle::refute(test, self.forms.is_ascii(), |needle| self.lacks(needle, sections))
    }

    /// Whether no value has one of the whole tokens of a needle.
    pub(super) fn lacks(
        &self,
        needle: &Needle<'_>,
        sections: &Sections,
    ) -> Result<bool, SegmentError> {
        let mut missing = Vec::new();
        for run in needle.tokens() {
            let run = run.to_ascii_lowercase();
            if !self.forms.tell(&run) && !self.may_filter(&run, sections, &mut missing)? {
                return Ok(true);
            }
        }
        if missing.is_empty() { Ok(false) } else { Err(SegmentError::Missing(missing)) }
    }

    /// Whether the filter has a token, or its piece is missing.
    pub(super) fn may_filter(
        &self,
        run: &[u8],
        sections: &Sections,
        missing: &mut Vec<SectionNo>,
    ) -> Result<bool, SegmentError> {
        if self.forms.is_any() || self.filter == 0 {
            return Ok(self.forms.is_any());
        }
        let hash = filter::hash(run);
        match sections.get(self.filter_section() + filter::piece_of(hash, self.filter)) {
            Ok(piece) => filter::may_hold(piece, hash),
            Err(SegmentError::Missing(more)) => {
                missing.extend(more);
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    /// Checks that words and postings are in memory, if a test asks for them.
    pub(crate) fn require_postings(
        &self,
        test: &FieldTest,
        sections: &Sections,
    ) -> Result<(), SegmentError> {
        let needed = self.words_section()..self.head();
        sections.require(Needle::has_tokens(test).then_some(needed).into_iter().flatten())
    }

    /// Reads the list of the templates, which takes the last section alone.
    pub(crate) fn load(&self, sections: &Sections) -> Result<TextColumn, SegmentError> {
        TextColumn::parse(self.clone(), sections.get(self.head())?)
    }
}
