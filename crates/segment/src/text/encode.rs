//! Texts in, sections out.
//!
//! A text that fits a known template is taken apart at once: what is in its slots goes to the end of
//! the template's columns. Others wait until there are enough of them to learn templates from; those
//! that fit none of these either are raw. A template that is learnt later never takes a row from before
//! those that waited with it, so the columns of a template are in row order, as are the raw texts.
//! A form is what texts are matched with; it has one template after the other.

use std::ops::Range;

use bytes::Bytes;

use super::column::{SEPARATOR, TextColumn, is_mark};
use super::cursor::put_varint;
use super::forms::{Forms, Found, Padded};
use super::learn::Learner;
use super::values::Values;
use super::{MARK_UUID, Outcome, TEMPLATES_MAX, filter, pack, raw, rows, vocabulary};
use crate::SegmentError;
use crate::sections::{SECTION_BYTES_MAX, SectionWriter};

/// Longer texts are not split.
const TEXT_BYTES_MAX: usize = 4096;
/// So many texts, or bytes of them, wait at most.
const WAITING_TEXTS: usize = 16_384;
const WAITING_BYTES: usize = 8 << 20;
/// Templates are learnt from about so many texts at a time.
const SAMPLE_TEXTS: usize = 2048;
/// Section C is ended after a template with which it reaches this.
const GROUP_BYTES: usize = 64 << 10;
/// A template with so many rows is ended, and those that follow go to another of the same key: the
/// rows of a stream are together, and to read them takes no more of a template than they have. Tests
/// have many small ones.
const TEMPLATE_ROWS: usize = if cfg!(test) { 48 } else { 16_384 };

/// The template number that stands for the raw texts.
const RAW: u32 = 0;

/// A template and the columns of its slots.
struct Template {
    key: Range<usize>,
    rows: usize,
    /// About how many rows it and those of the same form after it will have, if that is known.
    expected: usize,
    slots: Vec<Values>,
}

/// Texts one after the other.
#[derive(Default)]
struct Pile {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Pile {
    fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.ends.push(self.bytes.len());
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            self.bytes.get(std::mem::replace(&mut start, *end)..*end).unwrap_or_default()
        })
    }
}

/// Splits the texts of a column, in row order.
pub(crate) struct TextEncoder {
    forms: Forms,
    keys: Vec<u8>,
    /// Template `no` is at `no - 1`.
    templates: Vec<Template>,
    /// Of each form the place of the template that takes rows now.
    open: Vec<u32>,
    /// The template of each value; [`RAW`] for those that wait.
    rows: Vec<u32>,
    waiting: Pile,
    /// The values that wait.
    waiting_rows: Vec<usize>,
    raw: Pile,
    text_bytes: usize,
    padded: Padded,
    found: Vec<Found>,
    hopeless: bool,
}

impl TextEncoder {
    pub(crate) fn new() -> Self {
        Self {
            forms: Forms::new(),
            keys: Vec::new(),
            templates: Vec::new(),
            open: Vec::new(),
            rows: Vec::new(),
            waiting: Pile::default(),
            waiting_rows: Vec::new(),
            raw: Pile::default(),
            text_bytes: 0,
            padded: Padded::default(),
            found: Vec::new(),
            hopeless: false,
        }
    }

    /// Appends a value.
    pub(crate) fn push(&mut self, text: &str) {
        if self.hopeless {
            return;
        }
        if text.len() > SECTION_BYTES_MAX / 2 {
            self.hopeless = true;
            return;
        }
        self.text_bytes += text.len();
        let no = self.split(text.as_bytes());
        self.rows.push(no);
        if no == RAW {
            self.waiting.push(text.as_bytes());
            self.waiting_rows.push(self.rows.len() - 1);
            if self.waiting_rows.len() >= WAITING_TEXTS || self.waiting.bytes.len() >= WAITING_BYTES
            {
                self.learn();
            }
        }
    }

    /// The number of a template that a text fits, to which its slots were added.
    fn split(&mut self, text: &[u8]) -> u32 {
        if text.len() > TEXT_BYTES_MAX {
            return RAW;
        }
        self.padded.set(text);
        let Some(form) = self.forms.find(&self.padded, &mut self.found) else { return RAW };
        let at = self.turn(form as usize);
        let Some(template) = self.templates.get_mut(at) else { return RAW };
        template.rows += 1;
        let token =
            |found: &Found| text.get(found.start..found.start + found.len).unwrap_or_default();
        if template.slots.is_empty() {
            let key = self.keys.get(template.key.clone()).unwrap_or_default();
            let marks = key.iter().filter(|byte| is_mark(**byte));
            let first = |(found, mark): (&Found, &u8)| {
                Values::new(token(found), found.digits, *mark == MARK_UUID)
            };
            template.slots = self.found.iter().zip(marks).map(first).collect();
        } else {
            for (values, found) in template.slots.iter_mut().zip(&self.found) {
                let pushed = match found.digits {
                    true => values.push_number(found.number, found.len),
                    false => self.padded.short(found).is_some_and(|word| values.push_known(word)),
                };
                if !pushed {
                    values.push(token(found), found.digits);
                }
            }
        }
        at as u32 + 1
    }

    /// The place of the template that takes the next row of a form.
    fn turn(&mut self, form: usize) -> usize {
        let Some(open) = self.open.get_mut(form) else { return usize::MAX };
        let at = *open as usize;
        match self.templates.get(at) {
            Some(full) if full.rows >= TEMPLATE_ROWS && self.templates.len() < TEMPLATES_MAX => {
                let (key, expected) = (full.key.clone(), full.expected.saturating_sub(full.rows));
                *open = self.templates.len() as u32;
                self.templates.push(Template { key, rows: 0, expected, slots: Vec::new() });
                self.templates.len() - 1
            }
            _ => at,
        }
    }

    /// Learns templates from the texts that wait, and takes them apart by these: from some of them
    /// first, then from some of those that are left, until all that are left were looked at.
    fn learn(&mut self) {
        let mut waiting = std::mem::take(&mut self.waiting);
        let mut waiting_rows = std::mem::take(&mut self.waiting_rows);
        loop {
            let step = waiting.ends.len().div_ceil(SAMPLE_TEXTS).max(1);
            self.learn_from(waiting.iter().step_by(step));
            let (mut left, mut left_rows) = (Pile::default(), Vec::new());
            for (row, text) in waiting_rows.iter().zip(waiting.iter()) {
                let no = self.split(text);
                if no == RAW {
                    left.push(text);
                    left_rows.push(*row);
                } else if let Some(row) = self.rows.get_mut(*row) {
                    *row = no;
                }
            }
            if step == 1 || left.ends.len() > waiting.ends.len() / 10 * 9 {
                left.iter().for_each(|text| self.raw.push(text));
                break;
            }
            (waiting, waiting_rows) = (left, left_rows);
        }
        self.hopeless = self.raw.bytes.len() / 4 > self.text_bytes / 5;
    }

    fn learn_from<'t>(&mut self, texts: impl Iterator<Item = &'t [u8]>) {
        let mut learner = Learner::default();
        texts.filter(|text| text.len() <= TEXT_BYTES_MAX).for_each(|text| learner.add(text));
        learner.templates(|key| {
            self.add_template(key);
        });
    }

    /// The number of a new form; none if there are too many.
    pub(super) fn add_template(&mut self, key: &[u8]) -> Option<u32> {
        if self.templates.len() >= TEMPLATES_MAX {
            return None;
        }
        self.forms.add(key);
        let start = self.keys.len();
        self.keys.extend_from_slice(key);
        let key = start..self.keys.len();
        self.open.push(self.templates.len() as u32);
        self.templates.push(Template { key, rows: 0, expected: 0, slots: Vec::new() });
        Some(self.open.len() as u32)
    }

    /// Makes room for values of a form that come.
    pub(super) fn expect(&mut self, no: u32, rows: usize) {
        if let Some(at) = (no as usize).checked_sub(1).and_then(|form| self.open.get(form))
            && let Some(template) = self.templates.get_mut(*at as usize)
        {
            template.expected += rows;
        }
    }

    /// Appends a value of a form: `fill` appends to the slots, or makes them if it is the first.
    /// It is told the place of the template that has them. `text_bytes` is about its length as text.
    pub(super) fn push_split(
        &mut self,
        no: u32,
        text_bytes: usize,
        fill: impl FnOnce(usize, &mut Vec<Values>),
    ) {
        let Some(at) = (no as usize).checked_sub(1).map(|form| self.turn(form)) else { return };
        let Some(template) = self.templates.get_mut(at) else { return };
        template.rows += 1;
        let begins = template.slots.is_empty();
        let expected = template.expected.min(TEMPLATE_ROWS);
        fill(at, &mut template.slots);
        if begins {
            template.slots.iter_mut().for_each(|values| values.reserve(expected));
        }
        self.text_bytes += text_bytes;
        self.rows.push(at as u32 + 1);
    }

    /// Writes the sections of the column and appends what the directory holds of it to `meta`; or
    /// writes nothing, if the texts have too little in common.
    pub(crate) fn finish(
        mut self,
        w: &mut SectionWriter<'_>,
        meta: &mut Vec<u8>,
    ) -> Result<Outcome, SegmentError> {
        if !self.hopeless {
            self.learn();
        }
        if self.hopeless || self.raw.bytes.len() > self.text_bytes / 2 {
            return Ok(Outcome::NotWorth);
        }
        // A template whose texts all fit another one as well may have got none.
        let mut numbers = vec![RAW];
        let mut written = 0;
        for template in &self.templates {
            written += u32::from(template.rows > 0);
            numbers.push(written);
        }
        let templates = || self.templates.iter().filter(|template| template.rows > 0);
        let (mut head, mut keys, mut slots) = (Vec::new(), Vec::new(), Vec::new());
        put_varint(written.into(), &mut head);
        let (mut groups, mut group, mut held) = (Vec::new(), Vec::new(), 0u64);
        // Per section C: how many templates it has.
        let mut counts = Vec::new();
        for (at, template) in templates().enumerate() {
            let (slots_start, group_start) = (slots.len(), group.len());
            template.slots.iter().for_each(|values| pack::pack(values, &mut slots, &mut group));
            let key = self.keys.get(template.key.clone()).unwrap_or_default();
            keys.extend_from_slice(key);
            keys.push(SEPARATOR);
            put_varint(template.rows as u64, &mut head);
            put_varint(key.len() as u64, &mut head);
            put_varint((slots.len() - slots_start) as u64, &mut head);
            put_varint((group.len() - group_start) as u64, &mut head);
            held += 1;
            if group.len() >= GROUP_BYTES || at + 1 == written as usize {
                if group.len() > SECTION_BYTES_MAX {
                    return Ok(Outcome::NotWorth);
                }
                groups.push(std::mem::take(&mut group));
                put_varint(std::mem::take(&mut held), &mut counts);
            }
        }
        let first = w.next();
        for no in &mut self.rows {
            *no = numbers.get(*no as usize).copied().unwrap_or(RAW);
        }
        rows::encode(&self.rows, |section| w.squeezed(section).map(drop))?;
        for group in &groups {
            w.squeezed(group)?;
        }
        head.extend_from_slice(&counts);
        let raw_sections = raw::write(self.raw.iter(), w, &mut head)?;
        head.append(&mut keys);
        head.append(&mut slots);
        let head = Bytes::from(head);
        let column = TextColumn::in_the_making(self.rows.len(), groups.len(), raw_sections, &head)?;
        let written: Vec<&Template> = templates().collect();
        let values = |no: u32, slot: usize, each: &mut dyn FnMut(&[u8])| {
            let template = written.get((no as usize).wrapping_sub(1));
            if let Some(values) = template.and_then(|template| template.slots.get(slot)) {
                values.for_each_text(each);
            }
        };
        let raw_bytes = self.raw.bytes.len();
        let mut words = vocabulary::write(&column, self.raw.iter(), raw_bytes, values)?;
        let filter = filter::encode(&mut words.filtered);
        for piece in &filter {
            w.plain(piece)?;
        }
        w.plain(&words.words)?;
        w.squeezed(&words.postings)?;
        w.squeezed(&head)?;
        put_varint(self.rows.len() as u64, meta);
        put_varint(first.into(), meta);
        put_varint(groups.len() as u64, meta);
        put_varint(raw_sections as u64, meta);
        put_varint(filter.len() as u64, meta);
        words.forms.write(meta);
        Ok(Outcome::Written)
    }
}
