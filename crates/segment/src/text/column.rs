//! A column as it is read: its templates, and its sections as they are needed.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::cursor::Cursor;
use super::needle::Needle;
use super::raw::RawIndex;
use super::reader::TextReader;
use super::rows::{self, BLOCK_VALUES, Block, Local, SECTION_VALUES};
use super::slot::{Slot, Stored};
use super::vocabulary::{Postings, Words};
use super::{MARK_ANY, MARK_TOKEN, MARK_UUID, TEMPLATES_MAX, VALUES_MAX};
use crate::SegmentError;
use crate::bits::Mask;
use crate::pattern::VARIABLE;
use crate::sections::{SECTION_BYTES_MAX, SectionNo, Sections};

/// Where a template is, before it is opened.
#[derive(Clone, Copy, Debug)]
struct Entry {
    rows: u32,
    /// Where its key, its slots, and its values in its section C end; they begin where those of the
    /// one before end, the values of the first template of a section at 0.
    key_end: u32,
    slots_end: u32,
    data_end: u32,
}

/// A template that was opened.
#[derive(Debug)]
pub(super) struct Template {
    /// Number of its rows.
    pub(super) rows: usize,
    pub(super) slots: Vec<Slot>,
    /// Where in the key the marks of the slots are.
    pub(super) marks: Vec<u32>,
    /// Whether one of them is a UUID.
    pub(super) uuids: bool,
    /// The section C with its values; none if there is nothing in it.
    section: Option<SectionNo>,
    stored: OnceLock<Vec<Stored>>,
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

/// A column whose list of templates is in memory. A template is opened when it is asked for.
#[derive(Debug)]
pub(crate) struct TextColumn {
    reader: TextReader,
    /// Template `no` is at `no - 1`.
    entries: Vec<Entry>,
    opened: Vec<OnceLock<Box<Template>>>,
    opened_bytes: AtomicUsize,
    /// The keys one after the other, each with a [`SEPARATOR`] behind it.
    keys: Bytes,
    /// The slots, template by template.
    slots: Bytes,
    lower_keys: OnceLock<Vec<u8>>,
    words: OnceLock<(Words, Postings)>,
    pub(super) raw: RawIndex,
    numbers: Vec<OnceLock<Vec<Block>>>,
    /// The first template of each section C.
    groups: Vec<u32>,
}

/// Stands between keys: a digit, which no literal holds, and no mark.
pub(super) const SEPARATOR: u8 = b'9';

impl TextColumn {
    pub(super) fn parse(reader: TextReader, head: &Bytes) -> Result<Self, SegmentError> {
        let damaged = |what: &str| SegmentError::damaged("text column", what);
        let mut cursor = Cursor::new(head);
        let count = cursor.count()?.min(TEMPLATES_MAX + 1);
        if count > TEMPLATES_MAX {
            return Err(damaged("has too many templates"));
        }
        let mut entries: Vec<Entry> = Vec::with_capacity(count);
        let (mut values, mut key_end, mut slots_end) = (0usize, 0usize, 0usize);
        // The groups come after the templates, so the places of values are lengths until then.
        for _ in 0..count {
            let rows = cursor.at_most(VALUES_MAX)?;
            values += rows;
            key_end += cursor.at_most(head.len())? + 1;
            slots_end += cursor.at_most(head.len())?;
            let data = cursor.at_most(SECTION_BYTES_MAX)?;
            if key_end + slots_end > head.len() {
                return Err(damaged("has keys or slots beyond its end"));
            }
            entries.push(Entry {
                rows: rows as u32,
                key_end: key_end as u32,
                slots_end: slots_end as u32,
                data_end: data as u32,
            });
        }
        let mut groups = Vec::with_capacity(reader.slots as usize);
        let mut from = 0;
        for _ in 0..reader.slots {
            let until = from + cursor.at_most(count - from)?;
            let mut end = 0usize;
            for entry in entries.get_mut(from..until).unwrap_or_default() {
                end += entry.data_end as usize;
                if end > SECTION_BYTES_MAX {
                    return Err(damaged("has a section of more than 1 GiB"));
                }
                entry.data_end = end as u32;
            }
            groups.push(from as u32);
            from = until;
        }
        let first = reader.first + reader.numbers + reader.slots;
        let raw = RawIndex::parse(&mut cursor, first, reader.raw as usize)?;
        if from != count || values.saturating_add(raw.len()) != reader.values {
            return Err(damaged("counts other values than it has"));
        }
        let keys = head.slice_ref(cursor.bytes(key_end)?);
        let slots = head.slice_ref(cursor.bytes(slots_end)?);
        let separated = |entry: &Entry| keys.get(entry.key_end as usize - 1) == Some(&SEPARATOR);
        if !cursor.rest().is_empty() || !entries.iter().all(separated) {
            return Err(damaged("has other keys than it lists"));
        }
        Ok(Self {
            numbers: (0..reader.numbers).map(|_| OnceLock::new()).collect(),
            opened: entries.iter().map(|_| OnceLock::new()).collect(),
            opened_bytes: AtomicUsize::new(0),
            lower_keys: OnceLock::new(),
            words: OnceLock::new(),
            reader,
            entries,
            keys,
            slots,
            raw,
            groups,
        })
    }

    /// Opens a column that is being written by what its head will be; `slots` is its number of
    /// sections C.
    pub(super) fn in_the_making(
        values: usize,
        slots: usize,
        raw: usize,
        head: &Bytes,
    ) -> Result<Self, SegmentError> {
        let numbers = values.div_ceil(SECTION_VALUES) as u32;
        let (slots, raw, forms) = (slots as u32, raw as u32, Arc::default());
        let reader = TextReader { values, first: 0, numbers, slots, raw, filter: 0, forms };
        Self::parse(reader, head)
    }

    /// Number of values.
    pub(crate) fn len(&self) -> usize {
        self.reader.values
    }

    /// Bytes in memory, sections aside.
    pub(crate) fn memory_bytes(&self) -> usize {
        let of_entry = size_of::<Entry>() + size_of::<OnceLock<Box<Template>>>();
        let blocks = |lock: &OnceLock<Vec<Block>>| {
            let blocks = lock.get().map_or(&[][..], Vec::as_slice);
            blocks.iter().map(Block::memory_bytes).sum::<usize>()
        };
        let numbers: usize = self.numbers.iter().map(blocks).sum();
        let lower = self.lower_keys.get().map_or(0, Vec::len);
        let opened = self.opened_bytes.load(Ordering::Relaxed);
        self.entries.len() * of_entry + opened + lower + self.raw.memory_bytes() + numbers
    }

    /// Number of templates: they have the numbers from 1 on.
    pub(crate) fn templates(&self) -> usize {
        self.entries.len()
    }

    /// Rows of a template; of the raw texts for 0.
    pub(super) fn rows_of(&self, no: u32) -> usize {
        match (no as usize).checked_sub(1) {
            None => self.raw.len(),
            Some(at) => self.entries.get(at).map_or(0, |entry| entry.rows as usize),
        }
    }

    fn entry(&self, no: u32) -> Option<(Entry, Entry)> {
        let at = (no as usize).checked_sub(1)?;
        let none = Entry { rows: 0, key_end: 0, slots_end: 0, data_end: 0 };
        let before = at.checked_sub(1).and_then(|at| self.entries.get(at)).unwrap_or(&none);
        Some((*before, *self.entries.get(at)?))
    }

    /// A template.
    pub(super) fn template(&self, no: u32) -> Result<&Template, SegmentError> {
        let damaged = |what: &str| SegmentError::damaged("text column", what);
        let lock = (no as usize).checked_sub(1).and_then(|at| self.opened.get(at));
        let lock = lock.ok_or_else(|| damaged("names a template that it has not"))?;
        if let Some(template) = lock.get() {
            return Ok(template);
        }
        let template = self.open(no)?;
        let slots: usize =
            template.slots.iter().map(|slot| slot.memory_bytes() + size_of::<Stored>() + 4).sum();
        let template = lock.get_or_init(|| Box::new(template));
        self.opened_bytes.fetch_add(slots + size_of::<Template>(), Ordering::Relaxed);
        Ok(template)
    }

    #[cfg(test)]
    pub(super) fn template_mut(&mut self, no: u32) -> &mut Template {
        self.template(no).expect("opens");
        self.opened[no as usize - 1].get_mut().expect("is open")
    }

    fn open(&self, no: u32) -> Result<Template, SegmentError> {
        let damaged = |what: &str| SegmentError::damaged("text column", what);
        let (before, entry) = self.entry(no).ok_or_else(|| damaged("lacks a template"))?;
        let (group, begins) = self.group_of(no);
        let key = self.key(no);
        let slots = self.slots.get(before.slots_end as usize..entry.slots_end as usize);
        let mut cursor = Cursor::new(slots.unwrap_or_default());
        let data = if begins { 0 } else { before.data_end }..entry.data_end;
        // One without values of its own has no section.
        let start = if data.is_empty() { 0 } else { data.start as usize };
        let mut at = start;
        let (mut slots, mut marks) = (Vec::new(), Vec::new());
        for (mark, _) in key.iter().enumerate().filter(|(_, byte)| is_mark(**byte)) {
            marks.push(mark as u32);
            let slot = Slot::parse(&mut cursor, at)?;
            at = slot.place.end;
            slots.push(slot);
        }
        if !cursor.rest().is_empty() || at - start != data.len() {
            return Err(damaged("has a template of other slots"));
        }
        let section = self.reader.first + self.reader.numbers + group;
        Ok(Template {
            rows: entry.rows as usize,
            slots,
            marks,
            uuids: key.contains(&MARK_UUID),
            section: (!data.is_empty()).then_some(section),
            stored: OnceLock::new(),
        })
    }

    /// The how-manieth section C has a template, and whether it is the first in there.
    fn group_of(&self, no: u32) -> (u32, bool) {
        let at = no.saturating_sub(1);
        // Sections without templates begin where the next one does: the last of them has it.
        let group = self.groups.partition_point(|first| *first <= at).saturating_sub(1);
        (group as u32, self.groups.get(group) == Some(&at))
    }

    /// The keys of all templates, one after the other, each with a [`SEPARATOR`] behind it.
    pub(super) fn keys(&self) -> &[u8] {
        &self.keys
    }

    /// The place of a template's key among [`TextColumn::keys`].
    pub(super) fn key_place(&self, no: u32) -> Range<usize> {
        let (before, entry) = self.entry(no).unzip();
        let start = before.map_or(0, |before| before.key_end as usize);
        start..entry.map_or(start, |entry| entry.key_end as usize - 1)
    }

    /// The template whose key is at a byte of [`TextColumn::keys`].
    pub(super) fn template_at(&self, byte: usize) -> u32 {
        self.entries.partition_point(|entry| entry.key_end as usize <= byte) as u32 + 1
    }

    /// The key of a template.
    pub(super) fn key(&self, no: u32) -> &[u8] {
        self.keys.get(self.key_place(no)).unwrap_or_default()
    }

    /// The keys with ASCII letters in lower case.
    pub(super) fn lower_keys(&self) -> &[u8] {
        self.lower_keys.get_or_init(|| self.keys.to_ascii_lowercase())
    }

    /// The templates that can hold all the tokens of a needle, 0 for the raw texts; `None` if it has
    /// no token.
    pub(super) fn holding(
        &self,
        needle: &Needle<'_>,
        sections: &Sections,
    ) -> Result<Option<Vec<u32>>, SegmentError> {
        let reader = &self.reader;
        let (mut missing, mut wanted) = (Vec::new(), Vec::new());
        for run in needle.tokens() {
            let run = run.to_ascii_lowercase();
            let filtered = reader.may_filter(&run, sections, &mut missing)?;
            if !filtered && !reader.forms.tell(&run) {
                return Ok(Some(Vec::new()));
            }
            wanted.push((run, filtered));
        }
        if !missing.is_empty() {
            return Err(SegmentError::Missing(missing));
        }
        if wanted.is_empty() {
            return Ok(None);
        }
        let (words, postings) = match self.words.get() {
            Some(words) => words,
            None => {
                sections.require(reader.words_section()..reader.head())?;
                let words = Words::open(sections.get(reader.words_section())?)?;
                let postings = sections.get(reader.postings_section())?;
                let postings = Postings::open(postings, &words)?;
                self.words.get_or_init(|| (words, postings))
            }
        };
        Ok(Some(postings.templates(words, &wanted)))
    }

    /// Whether all texts are ASCII.
    pub(super) fn is_ascii(&self) -> bool {
        self.reader.forms.is_ascii()
    }

    /// The literals of a template: one more than it has slots.
    pub(super) fn literals(&self, no: u32) -> Vec<&[u8]> {
        self.key(no).split(|byte| is_mark(*byte)).collect()
    }

    /// The templates and their numbers of rows, the raw texts first if there are any.
    #[cfg(test)]
    pub(crate) fn infos(&self) -> impl Iterator<Item = TemplateInfo> + '_ {
        let rows = self.raw.len() as u64;
        let raw = (rows > 0).then(|| TemplateInfo { number: 0, text: "<_>".to_owned(), rows });
        let patterns = self.patterns().into_iter();
        let templates = (1..).zip(patterns);
        let templates = templates.map(|(number, text)| TemplateInfo {
            number,
            text,
            rows: self.rows_of(number) as u64,
        });
        raw.into_iter().chain(templates)
    }

    /// The patterns of the templates, by number less one.
    pub(crate) fn patterns(&self) -> Vec<String> {
        let text = |no: u32| {
            let literals = self.literals(no);
            let texts: Vec<_> = literals.iter().map(|text| String::from_utf8_lossy(text)).collect();
            texts.join(VARIABLE)
        };
        (1..=self.templates() as u32).map(text).collect()
    }

    /// The section with the template numbers of the values from `section` * 65,536 on.
    fn number_section(&self, section: usize) -> SectionNo {
        self.reader.first + section as SectionNo
    }

    /// The section with the values of a template's slots, if there are any.
    pub(super) fn slot_section(&self, no: u32) -> Option<SectionNo> {
        let (before, entry) = self.entry(no)?;
        let (group, begins) = self.group_of(no);
        let start = if begins { 0 } else { before.data_end };
        let section = self.reader.first + self.reader.numbers + group;
        (entry.data_end > start).then_some(section)
    }

    /// The values of a template's slots.
    pub(super) fn stored<'t>(
        &self,
        template: &'t Template,
        sections: &Sections,
    ) -> Result<&'t [Stored], SegmentError> {
        if let Some(stored) = template.stored.get() {
            return Ok(stored);
        }
        let none = Bytes::new();
        let section = match template.section {
            Some(section) => sections.get(section)?,
            None => &none,
        };
        let open = |slot: &Slot| slot.open(section, template.rows);
        let stored = template.slots.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        Ok(template.stored.get_or_init(|| stored))
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
        let fits = |local: &Local| local.first + local.count <= self.rows_of(local.template);
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
