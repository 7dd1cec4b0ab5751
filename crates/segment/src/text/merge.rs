//! Columns that are split already, made one without their texts.
//!
//! The templates of all columns become those of the new one; the values of a slot are handed on as
//! the numbers, codes or bytes that they are. Only raw texts are split anew: together they may have
//! templates that none of the columns could learn.
//!
//! Invariants:
//! - the values of each column are taken in their order;
//! - what a value's text would be in the old column it is in the new one.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::column::{Template, TextColumn};
use super::encode::TextEncoder;
use super::raw::RawCursor;
use super::slot::{Digits, Kind, Slot, Stored, Words, wide};
use super::values::Values;
use super::{MARK_UUID, Outcome};
use crate::SegmentError;
use crate::sections::{SectionWriter, Sections};

/// A word that has no code in the new column yet.
const UNKNOWN: u32 = u32::MAX;
/// What a slot is taken to add to the length of a text.
const SLOT_BYTES: usize = 6;

/// The values of a column that is split, one after the other.
pub(crate) struct Feed<'c> {
    column: &'c TextColumn,
    sections: &'c Sections,
    /// The template of each value.
    numbers: Vec<u32>,
    next: usize,
    /// By template number less one.
    templates: Vec<Taken<'c>>,
    raw: RawCursor,
    next_raw: usize,
}

/// A template of a feed.
struct Taken<'c> {
    /// The number of its form in the new column.
    to: u32,
    /// The template of that form to which the last value went: codes of words are those of its slots.
    at: usize,
    text_bytes: usize,
    next: usize,
    slots: Vec<Unpacked<'c>>,
}

/// The values of a slot, as they are handed on.
enum Unpacked<'c> {
    Same(&'c [u8]),
    /// `known`: the codes in the new column.
    Words {
        words: &'c Words,
        codes: Vec<u32>,
        known: Vec<u32>,
    },
    Numbers {
        digits: Digits,
        numbers: Vec<i64>,
    },
    Hex {
        width: u8,
        upper: bool,
        stored: &'c Stored,
    },
    Uuid(&'c Stored),
    Other(&'c Stored),
}

impl TextColumn {
    /// Reads all that a [`Feed`] needs.
    pub(crate) fn load_all(&self, sections: &Sections) -> Result<(), SegmentError> {
        self.blocks(sections, 0..self.len())?;
        let all = || 1..=self.templates() as u32;
        let slots = all().filter_map(|no| self.slot_section(no));
        let mut needed: Vec<_> = slots.chain(self.raw.sections(0..self.raw.len())).collect();
        needed.sort_unstable();
        needed.dedup();
        sections.require(needed)?;
        all().try_for_each(|no| self.stored(self.template(no)?, sections).map(drop))
    }

    /// The template of each value; checks that the ordinals of each template count its values.
    fn numbers_in_order(&self, sections: &Sections) -> Result<Vec<u32>, SegmentError> {
        let mut counts = vec![0; self.templates() + 1];
        for part in self.blocks(sections, 0..self.len())? {
            for local in &part.block.locals {
                let count = counts.get_mut(local.template as usize);
                let count = count.filter(|count| **count == local.first);
                *count.ok_or_else(|| {
                    SegmentError::damaged("template numbers", "skip values of a template")
                })? += local.count;
            }
        }
        self.template_numbers(sections, 0..self.len())
    }
}

impl<'c> Unpacked<'c> {
    fn of(slot: &'c Slot, stored: &'c Stored, rows: usize) -> Self {
        match (&slot.kind, stored) {
            (Kind::Const(text), _) => Self::Same(text),
            (Kind::Words(words), Stored::Codes(codes)) => {
                let known = vec![UNKNOWN; words.len()];
                Self::Words { words, codes: codes.values(0..rows), known }
            }
            (Kind::Number { digits, before, after }, Stored::Numbers(numbers))
                if before.is_empty() && after.is_empty() =>
            {
                Self::Numbers { digits: *digits, numbers: numbers.values(0..rows) }
            }
            (Kind::Wide { width, upper }, stored) => {
                Self::Hex { width: *width, upper: *upper, stored }
            }
            (Kind::Uuid, stored) => Self::Uuid(stored),
            _ => Self::Other(stored),
        }
    }

    /// Appends the text of a value.
    fn render(&self, ordinal: usize, slot: &Slot, out: &mut Vec<u8>) {
        match self {
            Self::Same(text) => out.extend_from_slice(text),
            Self::Words { words, codes, .. } => {
                out.extend_from_slice(words.get(codes.get(ordinal).map_or(0, |c| *c as usize)));
            }
            Self::Numbers { digits, numbers } => {
                digits.put(numbers.get(ordinal).copied().unwrap_or(0) as u64, out);
            }
            Self::Hex { stored, .. } | Self::Uuid(stored) | Self::Other(stored) => {
                slot.render(stored, ordinal, out);
            }
        }
    }

    /// Hands a value on as it is, if the slot that it goes to takes such.
    fn hand_on(&self, ordinal: usize, to: &mut Values) -> bool {
        match self {
            Self::Words { codes, known, .. } => {
                let code = codes.get(ordinal).and_then(|code| known.get(*code as usize));
                code.is_some_and(|code| *code != UNKNOWN && to.push_code(*code))
            }
            Self::Numbers { digits, numbers } => {
                let number = numbers.get(ordinal).copied().unwrap_or(0) as u64;
                match *digits {
                    Digits::Decimal { width, .. } => {
                        let len = number.checked_ilog10().map_or(1, |log| log as usize + 1);
                        to.push_number(number, len.max(width.into()))
                    }
                    Digits::Hex { width, upper } => to.push_hex(number.into(), width, upper),
                }
            }
            Self::Hex { width, upper, stored } => {
                to.push_hex(wide(stored.bytes(ordinal)), *width, *upper)
            }
            Self::Uuid(stored) => to.push_uuid(wide(stored.bytes(ordinal))),
            Self::Same(_) | Self::Other(_) => false,
        }
    }

    /// Forgets the codes of words, which were those of another template's slots.
    fn forget(&mut self) {
        if let Self::Words { known, .. } = self {
            known.fill(UNKNOWN);
        }
    }

    /// Notes the code that a word got.
    fn learn(&mut self, ordinal: usize, to: &Values) {
        if let Self::Words { codes, known, .. } = self
            && let Some(code) = to.last_code()
            && let Some(known) = codes.get(ordinal).and_then(|code| known.get_mut(*code as usize))
        {
            *known = code;
        }
    }
}

/// A column that is made of others, or of texts.
pub(crate) struct Merger {
    encoder: TextEncoder,
    known: HashMap<Vec<u8>, u32, RandomState>,
    token: Vec<u8>,
}

impl Merger {
    pub(crate) fn new() -> Self {
        Self { encoder: TextEncoder::new(), known: HashMap::default(), token: Vec::new() }
    }

    /// Makes the templates of a column those of the new one. None if they are too many, or if the
    /// column was not [loaded](TextColumn::load_all).
    pub(crate) fn feed<'c>(
        &mut self,
        column: &'c TextColumn,
        sections: &'c Sections,
    ) -> Result<Option<Feed<'c>>, SegmentError> {
        let mut templates = Vec::with_capacity(column.templates());
        for no in 1..=column.templates() as u32 {
            let (template, key) = (column.template(no)?, column.key(no));
            let to = match self.known.get(key) {
                Some(no) => *no,
                None => {
                    let Some(no) = self.encoder.add_template(key) else { return Ok(None) };
                    self.known.insert(key.to_vec(), no);
                    no
                }
            };
            self.encoder.expect(to, template.rows);
            let stored = column.stored(template, sections)?;
            let slots = template.slots.iter().zip(stored);
            let slots = slots.map(|(slot, stored)| Unpacked::of(slot, stored, template.rows));
            let text_bytes = key.len() + template.slots.len() * SLOT_BYTES;
            templates.push(Taken {
                to,
                at: usize::MAX,
                text_bytes,
                next: 0,
                slots: slots.collect(),
            });
        }
        let numbers = column.numbers_in_order(sections)?;
        let raw = RawCursor::default();
        Ok(Some(Feed { column, sections, numbers, next: 0, templates, raw, next_raw: 0 }))
    }

    /// Appends a text.
    pub(crate) fn push(&mut self, text: &str) {
        self.encoder.push(text);
    }

    /// Appends the next value of a feed.
    pub(crate) fn take(&mut self, feed: &mut Feed<'_>) -> Result<(), SegmentError> {
        let damaged = |what: &str| SegmentError::damaged("text column", what);
        let no = feed.numbers.get(feed.next).ok_or_else(|| damaged("has too few values"))?;
        feed.next += 1;
        let Some(at) = (*no as usize).checked_sub(1) else {
            let text = feed.raw.text(&feed.column.raw, feed.sections, feed.next_raw)?;
            let text = std::str::from_utf8(text);
            self.encoder.push(text.map_err(|error| damaged(&error.to_string()))?);
            feed.next_raw += 1;
            return Ok(());
        };
        let template = feed.column.template(*no)?;
        let taken = feed.templates.get_mut(at);
        let taken = taken.ok_or_else(|| damaged("names a template that it has not"))?;
        let ordinal = taken.next;
        taken.next += 1;
        let Taken { to, at: last, text_bytes, slots, .. } = taken;
        let token = &mut self.token;
        self.encoder.push_split(*to, *text_bytes, |at, values| {
            if std::mem::replace(last, at) != at {
                slots.iter_mut().for_each(Unpacked::forget);
            }
            if values.is_empty() {
                let first =
                    slots.iter().zip(&template.slots).zip(marks(feed.column, *no, template));
                values.extend(first.map(|((unpacked, slot), mark)| {
                    token.clear();
                    unpacked.render(ordinal, slot, token);
                    Values::new(token, is_digits(token), mark == MARK_UUID)
                }));
                return;
            }
            for ((unpacked, slot), values) in
                slots.iter_mut().zip(&template.slots).zip(values.iter_mut())
            {
                if !unpacked.hand_on(ordinal, values) {
                    token.clear();
                    unpacked.render(ordinal, slot, token);
                    values.push(token, is_digits(token));
                    unpacked.learn(ordinal, values);
                }
            }
        });
        Ok(())
    }

    /// As [`TextEncoder::finish`].
    pub(crate) fn finish(
        self,
        w: &mut SectionWriter<'_>,
        meta: &mut Vec<u8>,
    ) -> Result<Outcome, SegmentError> {
        self.encoder.finish(w, meta)
    }
}

/// The marks of a template's slots.
fn marks<'c>(
    column: &'c TextColumn,
    no: u32,
    template: &'c Template,
) -> impl Iterator<Item = u8> + 'c {
    let key = column.key(no);
    template.marks.iter().map(|at| key.get(*at as usize).copied().unwrap_or_default())
}

fn is_digits(token: &[u8]) -> bool {
    token.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
