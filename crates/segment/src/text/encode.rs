//! Texts in, sections out.
//!
//! The first rows of a template are kept as they are; with the [`PROMOTE_ROWS`]th, the template gets
//! slots and they move there. A template that never got so far leaves no trace: its rows go to the
//! raw texts, as do texts that are too long or have too many slots.

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

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
const PROMOTE_ROWS: u32 = 8;
/// Texts that look like templates at first; beyond so many, new ones are raw.
const CANDIDATES_MAX: usize = 1 << 17;
/// After so many rows it is asked again whether the split is worth it.
const REVIEW_ROWS: usize = 16_384;
/// Section C is ended after a template with which it reaches this.
const GROUP_BYTES: usize = 64 << 10;

/// The candidate that stands for the raw texts.
const RAW: u32 = 0;

struct Candidate {
    hash: u64,
    key: std::ops::Range<usize>,
    rows: u32,
    /// Where its first rows are in `early`, while it has no slots.
    young: Vec<u32>,
    slots: Vec<Values>,
}

/// Splits the texts of a column, in row order.
pub(crate) struct TextEncoder {
    tokens: Tokens,
    key: Vec<u8>,
    hasher: RandomState,
    table: HashTable<u32>,
    keys: Vec<u8>,
    candidates: Vec<Candidate>,
    /// The candidate of each value.
    rows: Vec<u32>,
    /// Texts kept as they are, and whose they are.
    early: Vec<u8>,
    early_ends: Vec<(u32, usize)>,
    /// Bytes of `early` whose rows have not moved to slots.
    raw_bytes: usize,
    bytes: usize,
    hopeless: bool,
}

impl TextEncoder {
    pub(crate) fn new() -> Self {
        Self {
            tokens: Tokens::default(),
            key: Vec::new(),
            hasher: RandomState::default(),
            table: HashTable::new(),
            keys: Vec::new(),
            candidates: vec![Candidate {
                hash: 0,
                key: 0..0,
                rows: 0,
                young: Vec::new(),
                slots: Vec::new(),
            }],
            rows: Vec::new(),
            early: Vec::new(),
            early_ends: Vec::new(),
            raw_bytes: 0,
            bytes: 0,
            hopeless: false,
        }
    }

    /// Appends a value.
    pub(crate) fn push(&mut self, text: &str) {
        if self.hopeless {
            return;
        }
        let text = text.as_bytes();
        self.bytes += text.len();
        let fits = text.len() <= TEXT_BYTES_MAX
            && self.tokens.split(text, SLOTS_MAX)
            && self.tokens.spans.iter().all(|s| (s.end - s.start) as usize <= TOKEN_BYTES_MAX);
        let candidate = if fits { self.candidate(text) } else { RAW };
        self.rows.push(candidate);
        if candidate == RAW {
            self.keep(RAW, text);
        } else {
            self.add(candidate, text);
        }
        if self.rows.len().is_multiple_of(REVIEW_ROWS) {
            self.hopeless = self.raw_bytes / 4 > self.bytes / 5;
        }
    }

    /// The candidate of a text whose slots are known; [`RAW`] if there is none and there are too many.
    fn candidate(&mut self, text: &[u8]) -> u32 {
        template_key(text, &self.tokens, &mut self.key);
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
        self.candidates.push(Candidate {
            hash,
            key: start..self.keys.len(),
            rows: 0,
            young: Vec::new(),
            slots: Vec::new(),
        });
        let candidates = &self.candidates;
        let hash_of = |no: &u32| candidates.get(*no as usize).map_or(0, |known| known.hash);
        self.table.insert_unique(hash, no, hash_of);
        no
    }

    fn keep(&mut self, candidate: u32, text: &[u8]) {
        self.early.extend_from_slice(text);
        self.early_ends.push((candidate, self.early.len()));
        self.raw_bytes += text.len();
    }

    /// Adds a row to a candidate.
    fn add(&mut self, no: u32, text: &[u8]) {
        let Some(candidate) = self.candidates.get_mut(no as usize) else { return };
        candidate.rows += 1;
        if candidate.rows > PROMOTE_ROWS {
            let slots = candidate.slots.iter_mut();
            for (values, span) in slots.zip(&self.tokens.spans) {
                let token = text.get(span.start as usize..span.end as usize).unwrap_or_default();
                values.push(token, span.shape == Shape::Digits);
            }
            return;
        }
        if candidate.rows < PROMOTE_ROWS {
            candidate.young.push(self.early_ends.len() as u32);
            return self.keep(no, text);
        }
        let young = std::mem::take(&mut candidate.young);
        let mut moved = 0;
        for at in young {
            let end = self.early_ends.get(at as usize).map_or(0, |(_, end)| *end);
            let before = (at as usize).checked_sub(1).and_then(|at| self.early_ends.get(at));
            let start = before.map_or(0, |(_, end)| *end);
            let text = self.early.get(start..end).unwrap_or_default();
            moved += text.len();
            self.tokens.split(text, SLOTS_MAX);
            add_values(&mut candidate.slots, &self.tokens, text);
        }
        self.raw_bytes -= moved;
        self.tokens.split(text, SLOTS_MAX);
        add_values(&mut candidate.slots, &self.tokens, text);
    }

    /// Writes the sections of the column and appends what the directory holds of it to `meta`; or
    /// writes nothing, if the texts have too little in common.
    pub(crate) fn finish(
        self,
        w: &mut SectionWriter<'_>,
        meta: &mut Vec<u8>,
    ) -> Result<Outcome, SegmentError> {
        if self.hopeless || self.raw_bytes > self.bytes / 2 {
            return Ok(Outcome::NotWorth);
        }
        // Numbers in the file: 0 is raw, then the templates in order of appearance.
        let mut number_of = vec![0u32; self.candidates.len()];
        let mut chosen: Vec<&Candidate> = Vec::new();
        for (no, candidate) in self.candidates.iter().enumerate() {
            if candidate.rows >= PROMOTE_ROWS {
                if chosen.len() == TEMPLATES_MAX {
                    return Ok(Outcome::NotWorth);
                }
                chosen.push(candidate);
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
        for (at, candidate) in chosen.iter().enumerate() {
            for values in &candidate.slots {
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
        for candidate in &chosen {
            put_varint(candidate.rows.into(), &mut head);
            put_text(self.keys.get(candidate.key.clone()).unwrap_or_default(), &mut head);
        }
        head.extend_from_slice(&params);
        templates.iter().for_each(|templates| put_varint(*templates, &mut head));
        let mut start = 0;
        let raw = self.early_ends.iter().filter_map(|(no, end)| {
            let text = self.early.get(std::mem::replace(&mut start, *end)..*end);
            text.filter(|_| number(*no) == 0)
        });
        let raw_sections = raw::write(raw, w, &mut head)?;
        w.squeezed(&head)?;
        put_varint(numbers.len() as u64, meta);
        put_varint(first.into(), meta);
        put_varint(groups.len() as u64, meta);
        put_varint(raw_sections as u64, meta);
        Ok(Outcome::Written)
    }
}

fn add_values(slots: &mut Vec<Values>, tokens: &Tokens, text: &[u8]) {
    for (at, span) in tokens.spans.iter().enumerate() {
        let token = text.get(span.start as usize..span.end as usize).unwrap_or_default();
        let digits = span.shape == Shape::Digits;
        match slots.get_mut(at) {
            Some(values) => values.push(token, digits),
            None => slots.push(Values::new(token, digits, span.shape == Shape::Uuid)),
        }
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
