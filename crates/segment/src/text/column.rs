//! A column as it is read: its templates, and its sections as they are needed.

use std::ops::Range;
use std::sync::OnceLock;

use super::cursor::Cursor;
use super::raw::RawIndex;
use super::rows::{self, BLOCK_VALUES, Block, Local, SECTION_VALUES};
use super::slot::{Slot, Stored};
use super::vocabulary::Vocabulary;
use super::{MARK_ANY, MARK_TOKEN, MARK_UUID, TEMPLATES_MAX, VALUES_MAX};
use crate::SegmentError;
use crate::bits::Mask;
use crate::pattern::VARIABLE;
use crate::sections::{SectionNo, Sections};

/// A column before its templates are read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TextReader {
    values: usize,
    first: SectionNo,
    /// Number of sections B, C and D.
    numbers: u32,
    slots: u32,
    raw: u32,
}

impl TextReader {
    /// Reads what the directory holds of a column from the front of `meta`.
    pub(crate) fn open(meta: &mut &[u8]) -> Result<Self, SegmentError> {
        let mut cursor = Cursor::new(meta);
        let values = cursor.at_most(VALUES_MAX)?;
        let first = cursor.at_most(u32::MAX as usize / 4)? as SectionNo;
        let slots = cursor.at_most(TEMPLATES_MAX)? as u32;
        let raw = cursor.at_most(VALUES_MAX)? as u32;
        *meta = cursor.rest();
        let numbers = values.div_ceil(SECTION_VALUES) as u32;
        Ok(Self { values, first, numbers, slots, raw })
    }

    /// Number of values.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.values
    }

    /// All sections of the column.
    #[cfg(test)]
    pub(crate) fn sections(&self) -> Range<SectionNo> {
        self.first..self.head() + 1
    }

    fn head(&self) -> SectionNo {
        self.first + self.numbers + self.slots + self.raw
    }

    /// Reads the templates, which takes the last section alone.
    pub(crate) fn load(&self, sections: &Sections) -> Result<TextColumn, SegmentError> {
        TextColumn::parse(*self, sections.get(self.head())?)
    }
}

/// A template.
#[derive(Debug)]
pub(super) struct Template {
    /// Where its key is in the keys of all templates.
    pub(super) key: Range<usize>,
    /// Number of its rows.
    pub(super) rows: usize,
    pub(super) slots: Vec<Slot>,
    /// Where in the key the marks of the slots are.
    pub(super) marks: Vec<u32>,
    /// Whether one of them is a UUID.
    pub(super) uuids: bool,
    /// Which section C holds its slots, and the number of its first slot in there.
    pub(super) group: usize,
    pub(super) first_slot: usize,
}

/// A template as it is shown.
#[cfg(test)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TemplateInfo {
    /// Its number in the column; 0 stands for all texts without a template.
    pub(crate) number: u32,
    /// Its text with `<_>` for each slot.
    pub(crate) text: String,
    /// Number of rows.
    pub(crate) rows: u64,
}

/// A column whose templates are in memory.
#[derive(Debug)]
pub(crate) struct TextColumn {
    reader: TextReader,
    /// Template `no` is at `no - 1`.
    pub(super) templates: Vec<Template>,
    /// The keys one after the other, each with a [`SEPARATOR`] behind it.
    pub(super) keys: Vec<u8>,
    lower_keys: OnceLock<Vec<u8>>,
    vocabulary: OnceLock<Vocabulary>,
    pub(super) raw: RawIndex,
    numbers: Vec<OnceLock<Vec<Block>>>,
    /// The templates in each section C, and its slots once they are open.
    groups: Vec<(Range<usize>, OnceLock<Vec<Stored>>)>,
}

/// Stands between keys: a digit, which no literal holds, and no mark.
pub(super) const SEPARATOR: u8 = b'9';

impl TextColumn {
    fn parse(reader: TextReader, head: &[u8]) -> Result<Self, SegmentError> {
        let damaged = |what: &str| SegmentError::damaged("text column", what);
        let mut cursor = Cursor::new(head);
        let count = cursor.count()?.min(TEMPLATES_MAX + 1);
        if count > TEMPLATES_MAX {
            return Err(damaged("has too many templates"));
        }
        let mut templates = Vec::with_capacity(count);
        let mut keys = Vec::new();
        let mut values = 0usize;
        for _ in 0..count {
            let rows = cursor.at_most(VALUES_MAX)?;
            let start = keys.len();
            keys.extend_from_slice(cursor.text()?);
            let key = start..keys.len();
            let uuids = keys.get(start..).unwrap_or_default().contains(&MARK_UUID);
            keys.push(SEPARATOR);
            values += rows;
            let slots = Vec::new();
            let marks = Vec::new();
            templates.push(Template { key, rows, slots, marks, uuids, group: 0, first_slot: 0 });
        }
        // The groups come after the slots, so the places of slots are counted from their template's
        // beginning and moved by where that begins in its section.
        for template in &mut templates {
            let key = keys.get(template.key.clone()).unwrap_or_default();
            let mut start = 0;
            for (at, _) in key.iter().enumerate().filter(|(_, byte)| is_mark(**byte)) {
                template.marks.push(at as u32);
                let slot = Slot::parse(&mut cursor, start)?;
                start = slot.place.end;
                template.slots.push(slot);
            }
        }
        let mut groups = Vec::with_capacity(reader.slots as usize);
        let mut from = 0;
        for group in 0..reader.slots as usize {
            let until = from + cursor.at_most(count - from)?;
            let (mut bytes, mut first_slot) = (0, 0);
            for template in templates.get_mut(from..until).unwrap_or_default() {
                (template.group, template.first_slot) = (group, first_slot);
                first_slot += template.slots.len();
                for slot in &mut template.slots {
                    slot.place = slot.place.start + bytes..slot.place.end + bytes;
                }
                bytes = template.slots.last().map_or(bytes, |slot| slot.place.end);
            }
            groups.push((from..until, OnceLock::new()));
            from = until;
        }
        let first = reader.first + reader.numbers + reader.slots;
        let raw = RawIndex::parse(&mut cursor, first, reader.raw as usize)?;
        if from != count || values.saturating_add(raw.len()) != reader.values {
            return Err(damaged("counts other values than it has"));
        }
        let numbers = (0..reader.numbers).map(|_| OnceLock::new()).collect();
        let (lower_keys, vocabulary) = (OnceLock::new(), OnceLock::new());
        Ok(Self { reader, templates, keys, lower_keys, vocabulary, raw, numbers, groups })
    }

    /// Number of values.
    pub(crate) fn len(&self) -> usize {
        self.reader.values
    }

    /// Bytes in memory, sections aside.
    pub(crate) fn memory_bytes(&self) -> usize {
        let slots = |template: &Template| -> usize {
            template.slots.iter().map(|slot| slot.memory_bytes() + size_of::<Stored>() + 4).sum()
        };
        let of = |template| slots(template) + size_of::<Template>();
        let templates: usize = self.templates.iter().map(of).sum();
        let blocks = |lock: &OnceLock<Vec<Block>>| {
            let blocks = lock.get().map_or(&[][..], Vec::as_slice);
            blocks.iter().map(Block::memory_bytes).sum::<usize>()
        };
        let numbers: usize = self.numbers.iter().map(blocks).sum();
        let lower = self.lower_keys.get().map_or(0, Vec::len);
        let vocabulary = self.vocabulary.get().map_or(0, Vocabulary::memory_bytes);
        templates + self.keys.len() + lower + vocabulary + self.raw.memory_bytes() + numbers
    }

    /// A template; none for 0, which stands for raw texts.
    pub(super) fn template(&self, no: u32) -> Option<&Template> {
        self.templates.get((no as usize).checked_sub(1)?)
    }

    /// The key of a template.
    pub(super) fn key(&self, template: &Template) -> &[u8] {
        self.keys.get(template.key.clone()).unwrap_or_default()
    }

    /// The keys with ASCII letters in lower case.
    pub(super) fn lower_keys(&self) -> &[u8] {
        self.lower_keys.get_or_init(|| self.keys.to_ascii_lowercase())
    }

    /// Which templates can hold a word.
    pub(super) fn vocabulary(&self) -> &Vocabulary {
        self.vocabulary.get_or_init(|| Vocabulary::new(self))
    }

    /// The literals of a template: one more than it has slots.
    pub(super) fn literals(&self, template: &Template) -> Vec<&[u8]> {
        self.key(template).split(|byte| is_mark(*byte)).collect()
    }

    /// The templates and their numbers of rows, the raw texts first if there are any.
    #[cfg(test)]
    pub(crate) fn templates(&self) -> impl Iterator<Item = TemplateInfo> + '_ {
        let rows = self.raw.len() as u64;
        let raw = (rows > 0).then(|| TemplateInfo { number: 0, text: "<_>".to_owned(), rows });
        let patterns = self.patterns().into_iter();
        let templates = self.templates.iter().zip(patterns).enumerate();
        let templates = templates.map(|(at, (template, text))| TemplateInfo {
            number: at as u32 + 1,
            text,
            rows: template.rows as u64,
        });
        raw.into_iter().chain(templates)
    }

    /// The patterns of the templates, by number less one.
    pub(crate) fn patterns(&self) -> Vec<String> {
        let text = |template: &Template| {
            let literals = self.literals(template);
            let texts: Vec<_> = literals.iter().map(|text| String::from_utf8_lossy(text)).collect();
            texts.join(VARIABLE)
        };
        self.templates.iter().map(text).collect()
    }

    /// The section with the template numbers of the values from `section` * 65,536 on.
    fn number_section(&self, section: usize) -> SectionNo {
        self.reader.first + section as SectionNo
    }

    /// The section with the slots of a template, if it has any.
    pub(super) fn slot_section(&self, template: &Template) -> Option<SectionNo> {
        let first = self.reader.first + self.reader.numbers;
        (!template.slots.is_empty()).then(|| first + template.group as SectionNo)
    }

    /// The values of a template's slots.
    pub(super) fn stored(
        &self,
        template: &Template,
        sections: &Sections,
    ) -> Result<&[Stored], SegmentError> {
        if template.slots.is_empty() {
            return Ok(&[]);
        }
        let damaged = || SegmentError::damaged("text column", "has a template without a section");
        let (templates, opened) = self.groups.get(template.group).ok_or_else(damaged)?;
        let stored = match opened.get() {
            Some(stored) => stored,
            None => {
                let no = self.reader.first + self.reader.numbers + template.group as SectionNo;
                let section = sections.get(no)?;
                let templates = self.templates.get(templates.clone()).unwrap_or_default();
                let slots = templates.iter().flat_map(|template| {
                    template.slots.iter().map(|slot| slot.open(section, template.rows))
                });
                let stored = slots.collect::<Result<_, _>>()?;
                opened.get_or_init(|| stored)
            }
        };
        let range = template.first_slot..template.first_slot + template.slots.len();
        stored.get(range).ok_or_else(damaged)
    }

    /// The blocks that hold a range of values, each with the part of its values that is in the range
    /// and the place of that part within the range.
    pub(super) fn blocks(
        &self,
        sections: &Sections,
        values: Range<usize>,
    ) -> Result<Vec<Part<'_>>, SegmentError> {
        let values = values.start..values.end.min(self.len());
        if values.is_empty() {
            return Ok(Vec::new());
        }
        let of_range = values.start / SECTION_VALUES..values.end.div_ceil(SECTION_VALUES);
        let absent = |no: &usize| self.numbers.get(*no).is_some_and(|lock| lock.get().is_none());
        sections.require(of_range.clone().filter(absent).map(|no| self.number_section(no)))?;
        let mut parts = Vec::with_capacity(values.len() / BLOCK_VALUES + 2);
        for no in of_range {
            let start = no * SECTION_VALUES;
            let Some(lock) = self.numbers.get(no) else { continue };
            let blocks = match lock.get() {
                Some(blocks) => blocks,
                None => {
                    let len = SECTION_VALUES.min(self.len() - start);
                    let blocks = rows::parse(sections.get(self.number_section(no))?, len)?;
                    blocks.iter().try_for_each(|block| self.verify(block))?;
                    lock.get_or_init(|| blocks)
                }
            };
            for (at, block) in blocks.iter().enumerate() {
                let first = start + at * BLOCK_VALUES;
                let from = values.start.max(first);
                let until = values.end.min(first + block.len());
                if from < until {
                    parts.push(Part {
                        block,
                        values: from - first..until - first,
                        at: from - values.start,
                    });
                }
            }
        }
        Ok(parts)
    }

    /// Checks that a block names rows that its templates have.
    fn verify(&self, block: &Block) -> Result<(), SegmentError> {
        let fits = |local: &Local| {
            let rows = match local.template {
                0 => Some(self.raw.len()),
                no => self.template(no).map(|template| template.rows),
            };
            rows.is_some_and(|rows| local.first + local.count <= rows)
        };
        if block.locals.iter().all(fits) {
            return Ok(());
        }
        Err(SegmentError::damaged("template numbers", "name rows that no template has"))
    }

    /// The number of each value's template.
    pub(crate) fn template_numbers(
        &self,
        sections: &Sections,
        values: Range<usize>,
    ) -> Result<Vec<u32>, SegmentError> {
        let mut numbers = Vec::with_capacity(values.len().min(self.len()));
        for part in self.blocks(sections, values)? {
            part.block.for_each(part.values.clone(), |_, place| {
                numbers.push(part.block.locals.get(place).map_or(0, |local| local.template));
            });
        }
        Ok(numbers)
    }
}

/// What a range of values has of a block.
pub(super) struct Part<'a> {
    pub(super) block: &'a Block,
    /// Values within the block.
    pub(super) values: Range<usize>,
    /// Where they begin within the range.
    pub(super) at: usize,
}

impl<'a> Part<'a> {
    /// The values of a local template that are in the part, as numbers within the block.
    pub(super) fn values_of(&self, local: &Local) -> &'a [u16] {
        let values = self.block.values_of(local);
        if self.values.len() == self.block.len() {
            return values;
        }
        let before = |end: usize| values.partition_point(|value| usize::from(*value) < end);
        values.get(before(self.values.start)..before(self.values.end)).unwrap_or_default()
    }

    /// Where a value of the part is within the range.
    pub(super) fn row(&self, value: u16) -> usize {
        self.at + usize::from(value) - self.values.start.min(value.into())
    }

    /// Gives where the values of a local template are within the range whose ordinals are in `mask`,
    /// of which bit 0 is ordinal `first`.
    pub(super) fn for_each_in(
        &self,
        mask: &Mask,
        first: usize,
        local: &Local,
        mut each: impl FnMut(usize),
    ) {
        let values = self.block.values_of(local);
        let start = local.first.saturating_sub(first);
        let end = (local.first + local.count).saturating_sub(first);
        mask.for_each_in(start..end, |at| {
            let value = values.get(first + at - local.first).copied();
            if let Some(value) = value.filter(|value| self.values.contains(&usize::from(*value))) {
                each(self.row(value));
            }
        });
    }
}

pub(super) fn is_mark(byte: u8) -> bool {
    byte == MARK_TOKEN || byte == MARK_UUID || byte == MARK_ANY
}
