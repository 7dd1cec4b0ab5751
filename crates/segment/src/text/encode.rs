//! Texts in, sections out.
//!
//! A text that is pushed is only taken apart: its template is looked up, and the tokens in its slots
//! are appended to one buffer, in row order. The values of a slot come together in the end, template
//! by template, so that all that is written to at a time is small. Templates with too few rows leave
//! no trace: their rows go to the raw texts, as do texts that are too long or have too many slots.

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

use super::column::is_mark;
use super::cursor::{put_text, put_varint};
use super::tokens::{Shape, Tokens};
use super::values::Values;
use super::{MARK_TOKEN, MARK_UUID, Outcome, TEMPLATES_MAX, pack, raw, rows};
use crate::SegmentError;
use crate::sections::{SECTION_BYTES_MAX, SectionWriter};

/// Longer texts are not split.
const TEXT_BYTES_MAX: usize = 4096;
/// Texts with more slots are not split.
const SLOTS_MAX: usize = 64;
/// Texts with a longer slot are not split.
pub(super) const TOKEN_BYTES_MAX: usize = 512;
/// Rows from which on a template pays.
const TEMPLATE_ROWS_MIN: u32 = 8;
/// Texts that look like templates at first; beyond so many, new ones are raw.
const CANDIDATES_MAX: usize = 1 << 17;
/// After so many rows it is asked again whether the split is worth it.
const REVIEW_ROWS: usize = 16_384;
/// Section C is ended after a template with which it reaches this.
const GROUP_BYTES: usize = 64 << 10;

/// The candidate that stands for the raw texts.
const RAW: u32 = 0;

#[derive(Default)]
struct Candidate {
    hash: u64,
    key: std::ops::Range<usize>,
    slots: u32,
    rows: u32,
    /// Bytes of its texts, while it has too few rows.
    bytes: usize,
}

/// Splits the texts of a column, in row order.
pub(crate) struct TextEncoder {
    split: Tokens,
    key: Vec<u8>,
    hasher: RandomState,
    table: HashTable<u32>,
    keys: Vec<u8>,
    candidates: Vec<Candidate>,
    /// The candidate of each value.
    rows: Vec<u32>,
    /// What is in the slots of all values, and raw texts as they are.
    bytes: Vec<u8>,
    /// The length of each slot's token, with [`DIGITS`] if it is all digits.
    lengths: Vec<u16>,
    /// How many of `bytes` are of each value.
    row_bytes: Vec<u32>,
    /// Bytes of texts that are raw so far, and of all.
    raw_bytes: usize,
    text_bytes: usize,
    hopeless: bool,
}

/// Marks the length of a token of digits.
const DIGITS: u16 = 1 << 15;

/// Where a value is in `bytes`, and its first token in `lengths`.
#[derive(Clone, Copy, Default)]
struct Place {
    byte: usize,
    token: usize,
}

impl TextEncoder {
    pub(crate) fn new() -> Self {
        Self {
            split: Tokens::default(),
            key: Vec::new(),
            hasher: RandomState::default(),
            table: HashTable::new(),
            keys: Vec::new(),
            candidates: vec![Candidate::default()],
            rows: Vec::new(),
            bytes: Vec::new(),
            lengths: Vec::new(),
            row_bytes: Vec::new(),
            raw_bytes: 0,
            text_bytes: 0,
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
        let text = text.as_bytes();
        self.text_bytes += text.len();
        let fits = text.len() <= TEXT_BYTES_MAX
            && self.split.split(text, SLOTS_MAX)
            && self.split.spans.iter().all(|s| (s.end - s.start) as usize <= TOKEN_BYTES_MAX);
        let no = if fits { self.candidate(text) } else { RAW };
        self.rows.push(no);
        let before = self.bytes.len();
        if no == RAW {
            self.raw_bytes += text.len();
            self.bytes.extend_from_slice(text);
        } else {
            self.add(no, text);
        }
        self.row_bytes.push((self.bytes.len() - before) as u32);
        if self.rows.len().is_multiple_of(REVIEW_ROWS) {
            self.hopeless = self.raw_bytes / 4 > self.text_bytes / 5;
        }
    }

    fn add(&mut self, no: u32, text: &[u8]) {
        if let Some(candidate) = self.candidates.get_mut(no as usize) {
            candidate.rows += 1;
            if candidate.rows < TEMPLATE_ROWS_MIN {
                candidate.bytes += text.len();
                self.raw_bytes += text.len();
            } else if candidate.rows == TEMPLATE_ROWS_MIN {
                self.raw_bytes -= candidate.bytes;
            }
        }
        for span in &self.split.spans {
            let token = text.get(span.start as usize..span.end as usize).unwrap_or_default();
            let digits = if span.shape == Shape::Digits { DIGITS } else { 0 };
            self.lengths.push(token.len() as u16 | digits);
            self.bytes.extend_from_slice(token);
        }
    }

    /// The candidate of a text whose slots are known; [`RAW`] if there is none and there are too many.
    fn candidate(&mut self, text: &[u8]) -> u32 {
        template_key(text, &self.split, &mut self.key);
        let hash = self.hasher.hash_one(self.key.as_slice());
        let (candidates, keys, key) = (&self.candidates, &self.keys, &self.key);
        let same = |no: &u32| {
            candidates.get(*no as usize).is_some_and(|known| {
                known.hash == hash && keys.get(known.key.clone()) == Some(key.as_slice())
            })
        };
        if let Some(no) = self.table.find(hash, same) {
            return *no;
        }
        if self.candidates.len() > CANDIDATES_MAX {
            return RAW;
        }
        let no = self.candidates.len() as u32;
        let start = self.keys.len();
        self.keys.extend_from_slice(&self.key);
        let slots = self.split.spans.len() as u32;
        let key = start..self.keys.len();
        self.candidates.push(Candidate { hash, key, slots, rows: 0, bytes: 0 });
        let candidates = &self.candidates;
        let hash_of = |no: &u32| candidates.get(*no as usize).map_or(0, |known| known.hash);
        self.table.insert_unique(hash, no, hash_of);
        no
    }

    /// Where the values of each candidate are, candidate by candidate, and where each one's begin.
    fn places(&self) -> (Vec<Place>, Vec<usize>) {
        let mut starts = vec![0; self.candidates.len() + 1];
        for no in &self.rows {
            if let Some(count) = starts.get_mut(*no as usize + 1) {
                *count += 1;
            }
        }
        let mut sum = 0;
        for start in &mut starts {
            sum += *start;
            *start = sum;
        }
        let mut next = starts.clone();
        let mut places = vec![Place::default(); self.rows.len()];
        let mut at = Place::default();
        for (no, bytes) in self.rows.iter().zip(&self.row_bytes) {
            if let Some(next) = next.get_mut(*no as usize) {
                if let Some(place) = places.get_mut(*next) {
                    *place = at;
                }
                *next += 1;
            }
            at.byte += *bytes as usize;
            at.token += self.candidates.get(*no as usize).map_or(0, |known| known.slots as usize);
        }
        (places, starts)
    }

    /// The lengths of some tokens, and whether each is all digits.
    fn tokens(&self, first: usize, count: usize) -> impl Iterator<Item = (usize, bool)> + '_ {
        let lengths = self.lengths.get(first..first + count).unwrap_or_default();
        lengths.iter().map(|length| (usize::from(length & !DIGITS), length & DIGITS != 0))
    }

    /// The values of a candidate's slots.
    fn values(&self, candidate: &Candidate, places: &[Place]) -> Vec<Values> {
        let key = self.keys.get(candidate.key.clone()).unwrap_or_default();
        let uuids = key.iter().filter(|byte| is_mark(**byte)).map(|byte| *byte == MARK_UUID);
        let mut slots: Vec<Values> = Vec::with_capacity(candidate.slots as usize);
        let (first, rest) = places.split_first().unwrap_or((&Place { byte: 0, token: 0 }, &[]));
        let token =
            |start: usize, len: usize| self.bytes.get(start..start + len).unwrap_or_default();
        let mut byte = first.byte;
        for ((len, digits), uuid) in self.tokens(first.token, candidate.slots as usize).zip(uuids) {
            slots.push(Values::new(token(byte, len), digits, uuid, places.len()));
            byte += len;
        }
        for place in rest {
            let mut byte = place.byte;
            let tokens = self.tokens(place.token, candidate.slots as usize);
            for (values, (len, digits)) in slots.iter_mut().zip(tokens) {
                values.push(token(byte, len), digits);
                byte += len;
            }
        }
        slots
    }

    /// The texts of the values for which `raw` says so of their candidate.
    fn raw_texts(&self, raw: impl Fn(u32) -> bool) -> (Vec<u8>, Vec<usize>) {
        let (mut texts, mut ends) = (Vec::new(), Vec::new());
        let mut at = Place::default();
        for (no, bytes) in self.rows.iter().zip(&self.row_bytes) {
            let Some(candidate) = self.candidates.get(*no as usize) else { continue };
            let here = at;
            at.byte += *bytes as usize;
            at.token += candidate.slots as usize;
            if !raw(*no) {
                continue;
            }
            let mut rest = self.bytes.get(here.byte..at.byte).unwrap_or_default();
            if *no != RAW {
                let key = self.keys.get(candidate.key.clone()).unwrap_or_default();
                let mut literals = key.split(|byte| is_mark(*byte));
                texts.extend_from_slice(literals.next().unwrap_or_default());
                let tokens = self.tokens(here.token, candidate.slots as usize);
                for ((len, _), literal) in tokens.zip(literals) {
                    let (token, behind) = rest.split_at_checked(len).unwrap_or((rest, &[]));
                    texts.extend_from_slice(token);
                    texts.extend_from_slice(literal);
                    rest = behind;
                }
            }
            texts.extend_from_slice(rest);
            ends.push(texts.len());
        }
        (texts, ends)
    }

    /// Writes the sections of the column and appends what the directory holds of it to `meta`; or
    /// writes nothing, if the texts have too little in common.
    pub(crate) fn finish(
        self,
        w: &mut SectionWriter<'_>,
        meta: &mut Vec<u8>,
    ) -> Result<Outcome, SegmentError> {
        if self.hopeless || self.raw_bytes > self.text_bytes / 2 {
            return Ok(Outcome::NotWorth);
        }
        // Numbers in the file: 0 is raw, then the templates in order of appearance.
        let mut number_of = vec![0u32; self.candidates.len()];
        let mut chosen: Vec<(usize, &Candidate)> = Vec::new();
        for (no, candidate) in self.candidates.iter().enumerate() {
            if candidate.rows >= TEMPLATE_ROWS_MIN {
                if chosen.len() == TEMPLATES_MAX {
                    return Ok(Outcome::NotWorth);
                }
                chosen.push((no, candidate));
                if let Some(number) = number_of.get_mut(no) {
                    *number = chosen.len() as u32;
                }
            }
        }
        let number = |no: u32| number_of.get(no as usize).copied().unwrap_or(0);
        let (mut params, mut groups) = (Vec::new(), Vec::new());
        let mut group: Vec<u8> = Vec::new();
        // Per section C: how many templates it has.
        let mut templates = Vec::new();
        let mut held = 0u64;
        let (places, starts) = self.places();
        for (at, (no, candidate)) in chosen.iter().enumerate() {
            let start = starts.get(*no).copied().unwrap_or(0);
            let places = places.get(start..start + candidate.rows as usize).unwrap_or_default();
            for values in &self.values(candidate, places) {
                pack::pack(values, &mut params, &mut group);
            }
            held += 1;
            if group.len() >= GROUP_BYTES || at + 1 == chosen.len() {
                if group.len() > SECTION_BYTES_MAX {
                    return Ok(Outcome::NotWorth);
                }
                groups.push(std::mem::take(&mut group));
                templates.push(std::mem::take(&mut held));
            }
        }
        let first = w.next();
        let numbers: Vec<u32> = self.rows.iter().map(|no| number(*no)).collect();
        rows::encode(&numbers, |section| w.squeezed(section).map(drop))?;
        for group in &groups {
            w.squeezed(group)?;
        }
        let mut head = Vec::new();
        put_varint(chosen.len() as u64, &mut head);
        for (_, candidate) in &chosen {
            put_varint(candidate.rows.into(), &mut head);
            put_text(self.keys.get(candidate.key.clone()).unwrap_or_default(), &mut head);
        }
        head.extend_from_slice(&params);
        templates.iter().for_each(|templates| put_varint(*templates, &mut head));
        let (texts, ends) = self.raw_texts(|no| number(no) == 0);
        let mut start = 0;
        let raw =
            ends.iter().filter_map(|end| texts.get(std::mem::replace(&mut start, *end)..*end));
        let raw_sections = raw::write(raw, w, &mut head)?;
        w.squeezed(&head)?;
        put_varint(numbers.len() as u64, meta);
        put_varint(first.into(), meta);
        put_varint(groups.len() as u64, meta);
        put_varint(raw_sections as u64, meta);
        Ok(Outcome::Written)
    }
}

/// Writes the text with each slot replaced by a mark. As a literal never holds a digit, texts have
/// the same key only if they have the same literals and the same kind of slots between them.
pub(super) fn template_key(text: &[u8], tokens: &Tokens, key: &mut Vec<u8>) {
    key.clear();
    let mut at = 0;
    for span in &tokens.spans {
        key.extend_from_slice(text.get(at..span.start as usize).unwrap_or_default());
        key.push(if span.shape == Shape::Uuid { MARK_UUID } else { MARK_TOKEN });
        at = span.end as usize;
    }
    key.extend_from_slice(text.get(at..).unwrap_or_default());
}
