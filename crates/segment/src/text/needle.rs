//! Where a text can occur in the values of a template.
//!
//! A slot's value is a whole token: what stands before and behind it is no ASCII letter or digit. So
//! wherever an occurrence runs into a slot, the run of letters and digits that the needle has there
//! must be the value (or its beginning or end, at the needle's own ends), and what follows must be
//! the next literal. There are few such alignments, and each is a condition on a few slots. A needle
//! without digits can also lie in one literal, which is the same for all rows; a run of it without
//! digits is the whole value of no slot but one of any token.

use std::borrow::Cow;
use std::ops::Range;

use super::check::{Holds, Tree, Where, decide};
use super::column::{Template, TextColumn, is_mark};
use super::slot::Slot;
use super::tokens::{UUID_BYTES, UUID_DASHES};
use super::vocabulary::runs;
use super::{MARK_TOKEN, MARK_UUID};
use crate::SegmentError;
use crate::predicate::{FieldTest, Phrase, is_word_char};
use crate::sections::{Sections, for_all};

/// A text to be found.
#[derive(Debug)]
pub(super) struct Needle<'a> {
    text: &'a [u8],
    word_first: bool,
    word_last: bool,
    /// It must stand at the beginning of the value.
    starts: bool,
    /// It must stand at the end of the value.
    ends: bool,
    /// Values are taken in lower case.
    any_case: bool,
    /// Bytes of the letters and digits that it begins with.
    head: usize,
    /// Where behind its first byte a slot can begin.
    entries: Vec<usize>,
}

fn run(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count()
}

fn run_back(text: &[u8]) -> usize {
    text.iter().rev().take_while(|byte| byte.is_ascii_alphanumeric()).count()
}

impl<'a> Needle<'a> {
    /// A word, phrase or prefix.
    pub(super) fn phrase(phrase: &'a Phrase, any_case: bool) -> Self {
        let (word_first, word_last) = phrase.borders();
        Self::new(phrase.text(), word_first, word_last, any_case)
    }

    /// A text that may occur anywhere.
    pub(super) fn substring(text: &'a str) -> Self {
        Self::new(text, false, false, false)
    }

    /// A text that the value begins with.
    pub(super) fn start(text: &'a str) -> Self {
        let needle = Self::new(text, false, false, false);
        Self { starts: true, ..needle }
    }

    /// A text that the value is.
    pub(super) fn whole(text: &'a str) -> Self {
        Self { ends: true, ..Self::start(text) }
    }

    fn new(text: &'a str, word_first: bool, word_last: bool, any_case: bool) -> Self {
        let text = text.as_bytes();
        let alnum = |at: usize| text.get(at).is_some_and(u8::is_ascii_alphanumeric);
        let entries = (1..text.len()).filter(|at| alnum(*at) && !alnum(*at - 1)).collect();
        let (starts, ends, head) = (false, false, run(text));
        Self { text, word_first, word_last, starts, ends, any_case, head, entries }
    }

    /// Whether a test asks for whole tokens: whether [`Needle::refute`] can hold.
    pub(super) fn has_tokens(test: &FieldTest) -> bool {
        Self::refute(test, true, |needle| Ok(needle.tokens().next().is_some())).unwrap_or(false)
    }

    /// Whether no value passes a test, if the needles of which `absent` is true occur in none.
    /// `any_case`: whether it can be said of needles in any case.
    pub(super) fn refute(
        test: &FieldTest,
        any_case: bool,
        absent: impl Fn(&Needle<'_>) -> Result<bool, SegmentError>,
    ) -> Result<bool, SegmentError> {
        // What is missing is named for all of them at once.
        let all =
            |phrases: &[Phrase]| for_all(phrases, |phrase| absent(&Needle::phrase(phrase, false)));
        match test {
            FieldTest::Contains(phrase) => absent(&Needle::phrase(phrase, false)),
            FieldTest::ContainsAnyCase(phrase) if any_case => absent(&Needle::phrase(phrase, true)),
            FieldTest::ContainsAll(phrases) | FieldTest::Sequence(phrases) => {
                Ok(all(phrases)?.contains(&true))
            }
            FieldTest::ContainsAny(phrases) => {
                Ok(!phrases.is_empty() && !all(phrases)?.contains(&false))
            }
            FieldTest::Exact(text) => Ok(!text.is_empty() && absent(&Needle::whole(text))?),
            FieldTest::In(texts) => {
                let whole = |text: &String| Ok(!text.is_empty() && absent(&Needle::whole(text))?);
                Ok(!texts.is_empty() && !for_all(texts, whole)?.contains(&false))
            }
            FieldTest::ExactPrefix(text) => absent(&Needle::start(text)),
            FieldTest::Substring(text) => absent(&Needle::substring(text)),
            FieldTest::Regex(pattern) => {
                let found = for_all(pattern.literals(), |text| absent(&Needle::substring(text)));
                Ok(found?.contains(&true))
            }
            _ => Ok(false),
        }
    }

    /// Of each template with values in which the text can occur, ascending, under which conditions it
    /// does.
    pub(super) fn trees(
        &self,
        column: &TextColumn,
        sections: &Sections,
    ) -> Result<Vec<(u32, Tree)>, SegmentError> {
        let all = 1..=column.templates() as u32;
        if self.text.is_empty() {
            return Ok(all.map(|no| (no, Tree::All)).collect());
        }
        let keys = if self.any_case { column.lower_keys() } else { column.keys() };
        let possible = column.holding(self, sections)?;
        let literal = !self.text.iter().any(u8::is_ascii_digit);
        let found = match &possible {
            None if literal => Some(self.find_in_literals(column, keys)),
            _ => None,
        };
        let in_literal = |no: &u32, key: &[u8]| match &found {
            Some(found) => found.binary_search(no).is_ok(),
            None => literal && self.is_in_literal(key),
        };
        let possible = possible.unwrap_or_else(|| all.collect());
        let mut trees = Vec::new();
        for no in possible.into_iter().filter(|no| *no > 0) {
            let key = keys.get(column.key_place(no)).unwrap_or_default();
            if in_literal(&no, key) {
                trees.push((no, Tree::All));
                continue;
            }
            if !key.iter().any(|byte| is_mark(*byte)) {
                continue;
            }
            let template = column.template(no)?;
            match (Alignment { needle: self, template, key }).tree() {
                Tree::None => {}
                tree => trees.push((no, tree)),
            }
        }
        Ok(trees)
    }

    /// Whether the text can be a value of a template with this key.
    pub(super) fn fits(&self, key: &[u8]) -> bool {
        let Some(first) = key.iter().position(|byte| is_mark(*byte)) else {
            return self.text == key;
        };
        let last = key.iter().rposition(|byte| is_mark(*byte)).unwrap_or(first);
        let (head, tail) = (key.get(..first), key.get(last + 1..));
        // A slot takes at least a byte, as its mark does.
        self.text.len() >= key.len()
            && self.text.starts_with(head.unwrap_or_default())
            && self.text.ends_with(tail.unwrap_or_default())
    }

    /// The conditions under which the text, which [fits](Needle::fits), is a template's value.
    pub(super) fn tree_of_whole(&self, template: &Template, key: &[u8]) -> Tree {
        match template.marks.first() {
            None => Tree::All,
            Some(first) => Alignment { needle: self, template, key }.enter_at(0, *first as usize),
        }
    }

    /// The templates that have the text in a literal, ascending. Marks and separators are digits, so
    /// what is found lies in one literal.
    fn find_in_literals(&self, column: &TextColumn, keys: &[u8]) -> Vec<u32> {
        let finder = memchr::memmem::Finder::new(self.text);
        let (mut found, mut at) = (Vec::new(), 0);
        while let Some(ahead) = keys.get(at..).and_then(|rest| finder.find(rest)) {
            let start = at + ahead;
            at = start + 1;
            let no = column.template_at(start);
            let place = column.key_place(no);
            let key = keys.get(place.clone()).unwrap_or_default();
            if start >= place.start && self.fits_at(key, start - place.start) {
                found.push(no);
                at = place.end;
            }
        }
        found
    }

    /// Whether the text is in a literal of a key.
    fn is_in_literal(&self, key: &[u8]) -> bool {
        let first = self.text.first();
        let mut windows = key.windows(self.text.len()).enumerate();
        windows.any(|(at, window)| {
            window.first() == first && window == self.text && self.fits_at(key, at)
        })
    }

    /// Whether the text, which is at this byte of a key, may begin and end there.
    fn fits_at(&self, key: &[u8], start: usize) -> bool {
        let end = start + self.text.len();
        // A mark counts as the digit that it is, as would the value in its place.
        let cut =
            self.word_first && word_before(key, start) || self.word_last && word_after(key, end);
        !cut && (!self.starts || start == 0) && (!self.ends || end == key.len())
    }

    /// The runs of letters and digits that are whole tokens of any text with an occurrence.
    pub(super) fn tokens(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let text = self.text;
        let skip = if self.word_first || self.starts { 0 } else { self.head };
        let cut = if self.word_last || self.ends { 0 } else { run_back(text) };
        runs(text.get(skip..(text.len() - cut).max(skip)).unwrap_or_default())
    }
}

/// Whether a word character ends at `at`.
pub(super) fn word_before(text: &[u8], at: usize) -> bool {
    let head = text.get(..at).unwrap_or_default();
    match head.last() {
        None => false,
        Some(byte) if byte.is_ascii() => is_word_char(char::from(*byte)),
        Some(_) => {
            let start = head.iter().rposition(|byte| *byte & 0xc0 != 0x80).unwrap_or(0);
            let last = head.get(start..).and_then(|last| std::str::from_utf8(last).ok());
            last.and_then(|last| last.chars().next_back()).is_some_and(is_word_char)
        }
    }
}

/// Whether a word character begins at `at`.
pub(super) fn word_after(text: &[u8], at: usize) -> bool {
    let tail = text.get(at..).unwrap_or_default();
    match tail.first() {
        None => false,
        Some(byte) if byte.is_ascii() => is_word_char(char::from(*byte)),
        Some(_) => {
            let more = tail.iter().skip(1).take_while(|byte| *byte & 0xc0 == 0x80).count();
            let first = tail.get(..=more).and_then(|first| std::str::from_utf8(first).ok());
            first.and_then(|first| first.chars().next()).is_some_and(is_word_char)
        }
    }
}

/// A needle against a template.
struct Alignment<'n> {
    needle: &'n Needle<'n>,
    template: &'n Template,
    key: &'n [u8],
}

impl<'n> Alignment<'n> {
    fn slots(&self) -> &'n [Slot] {
        &self.template.slots
    }

    /// Where a literal is in the key: between two marks.
    fn place(&self, at: usize) -> Range<usize> {
        let mark = |at: usize| self.template.marks.get(at).map(|mark| *mark as usize);
        let start = at.checked_sub(1).map_or(Some(0), |before| Some(mark(before)? + 1));
        start.map_or(0..0, |start| start..mark(at).unwrap_or(self.key.len()))
    }

    fn literal(&self, at: usize) -> &'n [u8] {
        self.key.get(self.place(at)).unwrap_or_default()
    }

    fn mark(&self, slot: usize) -> Option<&'n u8> {
        self.key.get(*self.template.marks.get(slot)? as usize)
    }

    fn is_uuid(&self, slot: usize) -> bool {
        self.template.uuids && self.mark(slot) == Some(&MARK_UUID)
    }

    /// Any alignment in which the first slot that the needle touches is this or that one.
    fn tree(&self) -> Tree {
        let needle = self.needle;
        let mut ways = Vec::new();
        let mut push = |way: Tree| {
            if !matches!(way, Tree::None) {
                ways.push(way);
            }
        };
        for slot in 0..self.slots().len() {
            if self.is_uuid(slot) {
                // A text that may be cut out anywhere is searched for in one go; where it runs on
                // behind the UUID, from each place.
                let cut = !needle.word_first && !needle.word_last && !needle.starts && !needle.ends;
                let last = UUID_BYTES.checked_sub(needle.text.len()).filter(|_| cut);
                if last.is_some() {
                    push(self.holds(slot, Where::Anywhere, needle.text));
                }
                let first = last.map_or(0, |last| last + 1);
                (first..UUID_BYTES).for_each(|from| push(self.inside_uuid(slot, from)));
            } else if needle.head > 0 {
                push(self.inside_token(slot));
            }
            if needle.entries.is_empty() {
                continue;
            }
            let literal = self.literal(slot);
            for entry in &needle.entries {
                let (head, rest) = needle.text.split_at(*entry);
                if !literal.ends_with(head) {
                    continue;
                }
                let start = literal.len() - head.len();
                if self.may_start(slot, start) {
                    push(self.enter(slot, rest));
                }
            }
        }
        Tree::or(ways)
    }

    /// What the needle asks for from its byte `at` on, which is where a slot begins.
    fn enter_at(&self, slot: usize, at: usize) -> Tree {
        self.needle.text.get(at..).map_or(Tree::None, |rest| self.enter(slot, rest))
    }

    /// Whether an occurrence may start at a byte of the literal before a slot.
    fn may_start(&self, literal: usize, at: usize) -> bool {
        if at == 0 && literal > 0 {
            return !self.needle.word_first && !self.needle.starts;
        }
        if self.needle.starts {
            return at == 0;
        }
        !(self.needle.word_first && word_before(self.literal(literal), at))
    }

    /// Whether an occurrence may end at a byte of a literal.
    fn may_end(&self, literal: usize, at: usize) -> bool {
        let text = self.literal(literal);
        if self.needle.ends {
            return at == text.len() && literal == self.slots().len();
        }
        if !self.needle.word_last {
            return true;
        }
        if at == text.len() { literal == self.slots().len() } else { !word_after(text, at) }
    }

    fn holds(&self, slot: usize, place: Where, text: &[u8]) -> Tree {
        let whole = place == Where::Whole && self.mark(slot) == Some(&MARK_TOKEN);
        if whole && !text.iter().any(u8::is_ascii_digit) {
            return Tree::None;
        }
        let holds = Holds { place, text: Cow::Borrowed(text), any_case: self.needle.any_case };
        self.slots().get(slot).map_or(Tree::None, |known| decide(slot, known, holds))
    }

    /// The needle starts in a token: with the end of it, or with all of it, or lies in it.
    fn inside_token(&self, slot: usize) -> Tree {
        let needle = self.needle;
        let (head, rest) = needle.text.split_at(needle.head);
        // Where the value begins, an occurrence may begin if the literal before lets it.
        let at_start = needle.word_first || needle.starts;
        if at_start && !self.may_start(slot, self.literal(slot).len()) {
            return Tree::None;
        }
        if !rest.is_empty() {
            let place = if at_start { Where::Whole } else { Where::End };
            let tail = self.literal_from(slot + 1, rest);
            return self.then(tail, || self.holds(slot, place, head));
        }
        let at_end = needle.word_last || needle.ends;
        if at_end && !self.may_end(slot + 1, 0) {
            return Tree::None;
        }
        let place = match (at_start, at_end) {
            (true, true) => Where::Whole,
            (true, false) => Where::Start,
            (false, true) => Where::End,
            (false, false) => Where::Anywhere,
        };
        self.holds(slot, place, head)
    }

    /// The needle starts at a byte of a UUID.
    fn inside_uuid(&self, slot: usize, from: usize) -> Tree {
        let needle = self.needle;
        let len = needle.text.len().min(UUID_BYTES - from);
        let (head, rest) = needle.text.split_at(len);
        if !uuid_shaped(head, from) {
            return Tree::None;
        }
        let may_start = if from == 0 {
            self.may_start(slot, self.literal(slot).len())
        } else {
            !needle.starts && (!needle.word_first || UUID_DASHES.contains(&(from - 1)))
        };
        if !may_start {
            return Tree::None;
        }
        let tail = self.uuid_tail(slot, from + len, rest);
        let place = if len == UUID_BYTES { Where::Whole } else { Where::At(from) };
        self.then(tail, || self.holds(slot, place, head))
    }

    /// What the needle asks for behind byte `at` of a UUID.
    fn uuid_tail(&self, slot: usize, at: usize, rest: &[u8]) -> Tree {
        if !rest.is_empty() {
            return self.literal_from(slot + 1, rest);
        }
        let may_end = if at == UUID_BYTES {
            self.may_end(slot + 1, 0)
        } else {
            !self.needle.ends && (!self.needle.word_last || UUID_DASHES.contains(&at))
        };
        if may_end { Tree::All } else { Tree::None }
    }

    /// Both, the second only if the first can be.
    fn then(&self, first: Tree, second: impl FnOnce() -> Tree) -> Tree {
        if matches!(first, Tree::None) { Tree::None } else { Tree::and([second(), first]) }
    }

    /// The value of a slot begins with `rest`, which is not empty, or `rest` begins with the value.
    fn enter(&self, slot: usize, rest: &[u8]) -> Tree {
        if self.is_uuid(slot) {
            let len = rest.len().min(UUID_BYTES);
            let (head, rest) = rest.split_at(len);
            if !uuid_shaped(head, 0) {
                return Tree::None;
            }
            let tail = self.uuid_tail(slot, len, rest);
            let place = if len == UUID_BYTES { Where::Whole } else { Where::Start };
            return self.then(tail, || self.holds(slot, place, head));
        }
        let (head, rest) = rest.split_at(run(rest));
        if head.is_empty() {
            return Tree::None;
        }
        if !rest.is_empty() {
            let tail = self.literal_from(slot + 1, rest);
            return self.then(tail, || self.holds(slot, Where::Whole, head));
        }
        if !self.needle.word_last && !self.needle.ends {
            return self.holds(slot, Where::Start, head);
        }
        if !self.may_end(slot + 1, 0) {
            return Tree::None;
        }
        self.holds(slot, Where::Whole, head)
    }

    /// `rest`, which is not empty, stands from the beginning of a literal on.
    fn literal_from(&self, literal: usize, rest: &[u8]) -> Tree {
        let text = self.literal(literal);
        if text.starts_with(rest) {
            return if self.may_end(literal, rest.len()) { Tree::All } else { Tree::None };
        }
        match rest.strip_prefix(text) {
            Some(rest) if literal < self.slots().len() => self.enter(literal, rest),
            _ => Tree::None,
        }
    }
}

/// Whether `text` can stand from byte `from` of a UUID on.
fn uuid_shaped(text: &[u8], from: usize) -> bool {
    text.iter().zip(from..).all(|(byte, at)| {
        if UUID_DASHES.contains(&at) {
            *byte == b'-'
        } else {
            matches!(byte, b'0'..=b'9' | b'a'..=b'f')
        }
    })
}
