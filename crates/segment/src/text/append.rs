//! Texts rebuilt from templates and slots.

use std::ops::Range;

use arrow::array::StringArray;
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};

use super::column::{Part, Template, TextColumn};
use super::raw::RawCursor;
use super::slot::{Kind, Slot, Stored};
use crate::SegmentError;
use crate::bits::Mask;
use crate::sections::{SectionNo, Sections};

/// If at least one value in this many is picked, slots are unpacked in whole ranges.
const SPARSE: usize = 8;

/// Texts in Arrow's layout.
#[derive(Debug)]
pub(crate) struct Texts {
    pub(crate) bytes: Vec<u8>,
    /// Where each text begins; the last one is where the texts end.
    pub(crate) offsets: Vec<i32>,
}

impl Default for Texts {
    fn default() -> Self {
        Self { bytes: Vec::new(), offsets: vec![0] }
    }
}

impl Texts {
    /// Number of texts.
    pub(crate) fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Forgets the texts, keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.offsets.truncate(1);
    }

    /// The texts as a column without nulls.
    pub(crate) fn into_array(self) -> Result<StringArray, SegmentError> {
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.offsets));
        StringArray::try_new(offsets, Buffer::from_vec(self.bytes), None)
            .map_err(|error| SegmentError::damaged("text column", error.to_string()))
    }

    pub(super) fn end(&mut self) -> Result<(), SegmentError> {
        let end = i32::try_from(self.bytes.len())
            .map_err(|_| SegmentError::Encode("more than 2 GiB of text at once".into()))?;
        self.offsets.push(end);
        Ok(())
    }
}

/// What is read of a template for one range of values.
struct Source<'c> {
    template: &'c Template,
    literals: Vec<&'c [u8]>,
    stored: &'c [Stored],
    /// Per slot, what was unpacked of it; the first value is that of ordinal `first`.
    unpacked: Vec<Unpacked>,
    first: usize,
}

/// The sources of a range.
struct Sources<'c> {
    /// Per template number: 1 and the place in `list`, 0 if there is none.
    of: Vec<u32>,
    list: Vec<Source<'c>>,
}

impl<'c> Sources<'c> {
    fn get(&self, template: u32) -> Option<&Source<'c>> {
        self.list.get((*self.of.get(template as usize)? as usize).checked_sub(1)?)
    }
}

enum Unpacked {
    Not,
    Codes(Vec<u32>),
    Numbers(Vec<i64>),
}

impl<'c> Source<'c> {
    fn put(&self, ordinal: usize, out: &mut Vec<u8>) {
        let mut literals = self.literals.iter();
        if let Some(literal) = literals.next() {
            out.extend_from_slice(literal);
        }
        let slots = self.template.slots.iter().zip(self.stored).zip(&self.unpacked);
        for (((slot, stored), unpacked), literal) in slots.zip(literals) {
            match (unpacked, &slot.kind) {
                (Unpacked::Codes(codes), Kind::Words(words)) => {
                    let code = codes.get(ordinal.wrapping_sub(self.first)).copied().unwrap_or(0);
                    out.extend_from_slice(words.get(code as usize));
                }
                (Unpacked::Numbers(numbers), Kind::Number { digits, before, after }) => {
                    out.extend_from_slice(before);
                    digits.put(
                        numbers.get(ordinal.wrapping_sub(self.first)).map_or(0, |n| *n as u64),
                        out,
                    );
                    out.extend_from_slice(after);
                }
                _ => slot.render(stored, ordinal, out),
            }
            out.extend_from_slice(literal);
        }
    }
}

fn unpack(slot: &Slot, stored: &Stored, ordinals: Range<usize>) -> Unpacked {
    match (&slot.kind, stored) {
        (Kind::Words(_), Stored::Codes(codes)) => Unpacked::Codes(codes.values(ordinals)),
        (Kind::Number { .. }, Stored::Numbers(numbers)) => {
            Unpacked::Numbers(numbers.values(ordinals))
        }
        _ => Unpacked::Not,
    }
}

impl TextColumn {
    /// Appends the texts of `values`, or of those `picked` of them (bit 0 is the first of `values`).
    ///
    /// # Errors
    /// [`SegmentError::Missing`] names all sections that are needed and not in memory: first those
    /// with the template numbers, then, once these are there, those with slots and raw texts.
    pub(crate) fn append(
        &self,
        sections: &Sections,
        values: Range<usize>,
        picked: Option<&Mask>,
        out: &mut Texts,
    ) -> Result<(), SegmentError> {
        self.append_with(&mut RawCursor::default(), sections, values, picked, out)
    }

    /// As `append`, for a caller that reads on: `raw` keeps what was unpacked.
    pub(super) fn append_with(
        &self,
        raw: &mut RawCursor,
        sections: &Sections,
        values: Range<usize>,
        picked: Option<&Mask>,
        out: &mut Texts,
    ) -> Result<(), SegmentError> {
        let parts = self.blocks(sections, values.clone())?;
        let wanted = picked.map_or(values.len(), Mask::count);
        if wanted == 0 {
            return Ok(());
        }
        let needs = self.needs(&parts, picked);
        sections.require(self.sections_of(&needs))?;
        let dense = wanted.saturating_mul(SPARSE) >= values.len();
        let mut sources = Sources { of: vec![0; self.templates.len() + 1], list: Vec::new() };
        for (no, ordinals) in needs {
            let Some(template) = self.template(no) else { continue };
            let stored = self.stored(template, sections)?;
            let unpacked = template.slots.iter().zip(stored).map(|(slot, stored)| {
                if dense { unpack(slot, stored, ordinals.clone()) } else { Unpacked::Not }
            });
            let (unpacked, literals) = (unpacked.collect(), self.literals(template));
            let source = Source { template, literals, stored, unpacked, first: ordinals.start };
            sources.list.push(source);
            if let Some(of) = sources.of.get_mut(no as usize) {
                *of = sources.list.len() as u32;
            }
        }
        out.offsets.reserve(wanted);
        for part in &parts {
            self.append_part(part, picked, &sources, raw, sections, out)?;
        }
        Ok(())
    }

    fn append_part(
        &self,
        part: &Part<'_>,
        picked: Option<&Mask>,
        sources: &Sources<'_>,
        raw: &mut RawCursor,
        sections: &Sections,
        out: &mut Texts,
    ) -> Result<(), SegmentError> {
        if picked.is_some_and(|p| p.count_range(part.at..part.at + part.values.len()) == 0) {
            return Ok(());
        }
        let mut ordinals = part.block.ordinals_at(part.values.start);
        let mut outcome = Ok(());
        part.block.for_each(part.values.clone(), |at, place| {
            let Some(ordinal) = ordinals.get_mut(place) else { return };
            let this = *ordinal;
            *ordinal += 1;
            if outcome.is_err() || picked.is_some_and(|picked| !picked.get(part.at + at)) {
                return;
            }
            let template = part.block.locals.get(place).map_or(0, |local| local.template);
            match sources.get(template) {
                Some(source) => source.put(this, &mut out.bytes),
                None => match raw.text(&self.raw, sections, this) {
                    Ok(text) => out.bytes.extend_from_slice(text),
                    Err(error) => outcome = Err(error),
                },
            }
            if outcome.is_ok() {
                outcome = out.end();
            }
        });
        outcome
    }

    /// The templates of the values that are picked, each with the ordinals from the first to the
    /// last of them in these blocks.
    pub(super) fn needs(
        &self,
        parts: &[Part<'_>],
        picked: Option<&Mask>,
    ) -> Vec<(u32, Range<usize>)> {
        let mut needs: Vec<Option<Range<usize>>> = vec![None; self.templates.len() + 1];
        for part in parts {
            let range = part.at..part.at + part.values.len();
            let count = picked.map_or(range.len(), |picked| picked.count_range(range.clone()));
            if count == 0 {
                continue;
            }
            let mut seen = vec![count == range.len(); part.block.locals.len()];
            if let Some(picked) = picked.filter(|_| count < range.len()) {
                part.block.for_each(part.values.clone(), |at, place| {
                    if picked.get(part.at + at)
                        && let Some(seen) = seen.get_mut(place)
                    {
                        *seen = true;
                    }
                });
            }
            for (local, _) in part.block.locals.iter().zip(seen).filter(|(_, seen)| *seen) {
                if let Some(need) = needs.get_mut(local.template as usize) {
                    let start = need.as_ref().map_or(local.first, |need| need.start);
                    *need = Some(start..local.first + local.count);
                }
            }
        }
        let numbered = needs.into_iter().enumerate();
        numbered.filter_map(|(no, need)| Some((no as u32, need?))).collect()
    }

    /// The sections with the slots and raw texts of these ordinals of templates.
    pub(super) fn sections_of(&self, needs: &[(u32, Range<usize>)]) -> Vec<SectionNo> {
        let mut sections = Vec::new();
        for (no, ordinals) in needs {
            match self.template(*no) {
                Some(template) => sections.extend(self.slot_section(template)),
                None => sections.extend(self.raw.sections(ordinals.clone())),
            }
        }
        sections.sort_unstable();
        sections.dedup();
        sections
    }
}
