//! Texts rebuilt from templates and slots.

use std::collections::BTreeMap;
use std::ops::Range;

use arrow::array::StringArray;
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};

use super::column::{Part, Template, TextColumn, is_mark};
use super::pen::Pen;
use super::raw::RawCursor;
use super::slot::{Digits, Kind, Stored, Words, wide};
use super::tokens::UUID_BYTES;
use crate::SegmentError;
use crate::bits::Mask;
use crate::sections::{SectionNo, Sections};

/// If at least one value in this many is picked, slots are unpacked in whole ranges.
const SPARSE: usize = 8;
/// Most digits of a number.
const NUMBER_BYTES_MAX: usize = 20;

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

/// A step of writing a value.
enum Op<'c> {
    /// The first so many bytes.
    Text(&'c [u8], usize),
    /// A word; its codes begin there.
    Word(&'c Words, usize),
    /// A number; the numbers begin there.
    Number(Digits, usize),
    /// What is not unpacked.
    Stored(&'c Kind, &'c Stored),
}

/// How the values of a template in a block are written.
#[derive(Default)]
struct Source {
    ops: Range<usize>,
    /// Bytes that a value takes at most, stored texts aside.
    bytes_max: usize,
    /// Ordinal of the first value that is unpacked, and of the next one to be written.
    first: usize,
    next: usize,
}

/// The sources of a block, and what is unpacked for them.
#[derive(Default)]
struct Sources<'c> {
    list: Vec<Source>,
    ops: Vec<Op<'c>>,
    codes: Vec<u32>,
    numbers: Vec<i64>,
}

impl<'c> Sources<'c> {
    fn clear(&mut self) {
        self.list.clear();
        self.ops.clear();
        self.codes.clear();
        self.numbers.clear();
    }

    fn add(
        &mut self,
        template: &'c Template,
        key: &'c [u8],
        stored: &'c [Stored],
        ordinals: Range<usize>,
    ) {
        let from = self.ops.len();
        let mut bytes_max = key.len();
        let mut start = 0;
        let slots = template.slots.iter().zip(stored).zip(&template.marks);
        for ((slot, stored), mark) in slots {
            let mark = *mark as usize;
            self.text(key.get(start..).unwrap_or_default(), mark.saturating_sub(start));
            start = mark + 1;
            match (&slot.kind, stored) {
                (Kind::Const(text), _) => {
                    self.text(text, text.len());
                    bytes_max += text.len();
                }
                (Kind::Words(words), Stored::Codes(codes)) => {
                    self.ops.push(Op::Word(words, self.codes.len()));
                    let of = &mut self.codes;
                    codes.for_each(ordinals.clone(), |_, piece| of.extend_from_slice(piece));
                    bytes_max += words.longest();
                }
                (Kind::Number { digits, before, after }, Stored::Numbers(numbers)) => {
                    self.text(before, before.len());
                    self.ops.push(Op::Number(*digits, self.numbers.len()));
                    self.text(after, after.len());
                    let of = &mut self.numbers;
                    numbers.for_each(ordinals.clone(), |_, piece| of.extend_from_slice(piece));
                    bytes_max += before.len() + NUMBER_BYTES_MAX + after.len();
                }
                (kind, stored) => {
                    self.ops.push(Op::Stored(kind, stored));
                    bytes_max += UUID_BYTES;
                }
            }
        }
        self.text(key.get(start..).unwrap_or_default(), key.len().saturating_sub(start));
        let (ops, first) = (from..self.ops.len(), ordinals.start);
        self.list.push(Source { ops, bytes_max, first, next: first });
    }

    fn text(&mut self, text: &'c [u8], len: usize) {
        if len > 0 {
            self.ops.push(Op::Text(text, len));
        }
    }

    /// Writes a value.
    fn put(&self, source: &Source, ordinal: usize, pen: &mut Pen<'_>) {
        pen.reserve(source.bytes_max);
        let at = ordinal - source.first;
        for op in self.ops.get(source.ops.clone()).unwrap_or_default() {
            match op {
                Op::Text(text, len) => pen.text(text, *len),
                Op::Word(words, codes) => {
                    let code = self.codes.get(codes + at).copied().unwrap_or(0);
                    let (text, len) = words.piece(code as usize);
                    pen.text(text, len);
                }
                Op::Number(digits, numbers) => {
                    let number = self.numbers.get(numbers + at).copied().unwrap_or(0) as u64;
                    match digits {
                        Digits::Decimal { width, .. } => pen.decimal(number, usize::from(*width)),
                        Digits::Hex { width, upper } => {
                            pen.hex(number.into(), usize::from(*width), *upper);
                        }
                    }
                }
                Op::Stored(kind, stored) => {
                    let bytes = stored.bytes(ordinal);
                    match kind {
                        Kind::Wide { width, upper } => {
                            pen.hex(wide(bytes), usize::from(*width), *upper);
                        }
                        Kind::Uuid => pen.uuid(wide(bytes)),
                        _ => {
                            pen.reserve(bytes.len() + source.bytes_max);
                            pen.text(bytes, bytes.len());
                        }
                    }
                }
            }
        }
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
        out.offsets.reserve(wanted);
        let mut sources = Sources::default();
        for part in &parts {
            let range = part.at..part.at + part.values.len();
            let count = picked.map_or(range.len(), |picked| picked.count_range(range.clone()));
            if count == 0 {
                continue;
            }
            match picked {
                Some(picked) if count.saturating_mul(SPARSE) < range.len() => {
                    self.append_few(part, picked, raw, sections, out)?;
                }
                _ => self.append_part(part, picked, &mut sources, raw, sections, out)?,
            }
        }
        Ok(())
    }

    /// Appends the values that are picked of a part one by one.
    fn append_few(
        &self,
        part: &Part<'_>,
        picked: &Mask,
        raw: &mut RawCursor,
        sections: &Sections,
        out: &mut Texts,
    ) -> Result<(), SegmentError> {
        let mut outcome = Ok(());
        picked.for_each_in(part.at..part.at + part.values.len(), |at| {
            if outcome.is_ok() {
                let value = part.values.start + at - part.at;
                outcome = self.append_one(part, value, raw, sections, out);
            }
        });
        outcome
    }

    fn append_one(
        &self,
        part: &Part<'_>,
        value: usize,
        raw: &mut RawCursor,
        sections: &Sections,
        out: &mut Texts,
    ) -> Result<(), SegmentError> {
        let found = part.block.find(value);
        let found = found.and_then(|(place, at)| Some((part.block.locals.get(place)?, at)));
        let (local, ordinal) =
            found.ok_or_else(|| SegmentError::damaged("text column", "lacks a value"))?;
        match local.template {
            no @ 1.. => {
                let template = self.template(no)?;
                let stored = self.stored(template, sections)?;
                self.render(no, template, stored, ordinal, &mut out.bytes);
            }
            0 => out.bytes.extend_from_slice(raw.text(&self.raw, sections, ordinal)?),
        }
        out.end()
    }

    /// Appends the text of a row.
    pub(super) fn render(
        &self,
        no: u32,
        template: &Template,
        stored: &[Stored],
        ordinal: usize,
        out: &mut Vec<u8>,
    ) {
        let mut slots = template.slots.iter().zip(stored);
        for literal in self.key(no).split(|byte| is_mark(*byte)) {
            out.extend_from_slice(literal);
            if let Some((slot, stored)) = slots.next() {
                slot.render(stored, ordinal, out);
            }
        }
    }

    fn append_part<'c>(
        &'c self,
        part: &Part<'_>,
        picked: Option<&Mask>,
        sources: &mut Sources<'c>,
        raw: &mut RawCursor,
        sections: &Sections,
        out: &mut Texts,
    ) -> Result<(), SegmentError> {
        sources.clear();
        for local in &part.block.locals {
            let values = part.block.values_of(local);
            let before = |end: usize| values.partition_point(|value| usize::from(*value) < end);
            let (from, until) = if part.values.len() == part.block.len() {
                (0, local.count)
            } else {
                (before(part.values.start), before(part.values.end))
            };
            let ordinals = local.first + from..local.first + until;
            match local.template {
                no @ 1.. if !ordinals.is_empty() => {
                    let template = self.template(no)?;
                    let stored = self.stored(template, sections)?;
                    sources.add(template, self.key(no), stored, ordinals);
                }
                _ => sources.list.push(Source { next: ordinals.start, ..Source::default() }),
            }
        }
        let mut list = std::mem::take(&mut sources.list);
        let mut outcome = Ok(());
        let mut pen = Pen::new(&mut out.bytes);
        part.block.for_each(part.values.clone(), |at, place| {
            let Some(source) = list.get_mut(place) else { return };
            let ordinal = source.next;
            source.next += 1;
            if picked.is_some_and(|picked| !picked.get(part.at + at)) {
                return;
            }
            if part.block.locals.get(place).is_some_and(|local| local.template == 0) {
                match raw.text(&self.raw, sections, ordinal) {
                    Ok(text) => {
                        pen.reserve(text.len());
                        pen.text(text, text.len());
                    }
                    Err(error) => outcome = Err(error),
                }
            } else {
                sources.put(source, ordinal, &mut pen);
            }
            out.offsets.push(pen.at() as i32);
        });
        sources.list = list;
        if i32::try_from(pen.finish()).is_err() {
            return Err(SegmentError::Encode("more than 2 GiB of text at once".into()));
        }
        outcome
    }

    /// The templates of the values that are picked, each with the ordinals from the first to the
    /// last of them in these blocks.
    pub(super) fn needs(
        &self,
        parts: &[Part<'_>],
        picked: Option<&Mask>,
    ) -> Vec<(u32, Range<usize>)> {
        let mut needs: BTreeMap<u32, Range<usize>> = BTreeMap::new();
        for part in parts {
            let range = part.at..part.at + part.values.len();
            let count = picked.map_or(range.len(), |picked| picked.count_range(range.clone()));
            if count == 0 {
                continue;
            }
            let mut seen = vec![count == range.len(); part.block.locals.len()];
            if let Some(picked) = picked.filter(|_| count < range.len()) {
                picked.for_each_in(range, |at| {
                    let value = part.values.start + at - part.at;
                    part.block.for_each(value..value + 1, |_, place| {
                        if let Some(seen) = seen.get_mut(place) {
                            *seen = true;
                        }
                    });
                });
            }
            for (local, _) in part.block.locals.iter().zip(seen).filter(|(_, seen)| *seen) {
                let need = needs.entry(local.template).or_insert(local.first..local.first);
                need.end = local.first + local.count;
            }
        }
        needs.into_iter().collect()
    }

    /// The sections with the slots and raw texts of these ordinals of templates.
    pub(super) fn sections_of(&self, needs: &[(u32, Range<usize>)]) -> Vec<SectionNo> {
        let mut sections = Vec::new();
        for (no, ordinals) in needs {
            match no {
                0 => sections.extend(self.raw.sections(ordinals.clone())),
                no => sections.extend(self.slot_section(*no)),
            }
        }
        sections.sort_unstable();
        sections.dedup();
        sections
    }
}
