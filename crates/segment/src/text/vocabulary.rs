//! Which templates can hold a word, without a look at each of them.
//!
//! A word or phrase asks for runs of letters and digits that the text has as whole tokens. A token of
//! a text is in a literal of its template, among the words of a slot, or has the form of a slot: so
//! many hex digits, digits between the same letters. All these are listed here by their hash.
//!
//! Invariant: a template with a text that holds the run is always among those named; others may be.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;

use super::MARK_TOKEN;
use super::column::{Template, TextColumn};
use super::slot::{Digits, Kind};

/// A slot with more words than this is not listed word by word.
const WORDS_MAX: usize = 1024;

/// What a template is listed under; the text is in lower case.
#[derive(Hash)]
enum Key<'t> {
    /// This token.
    Token(&'t [u8]),
    /// Digits between these letters.
    Decimal(&'t [u8], &'t [u8]),
    /// So many hex digits, or these after `0x`.
    Hex { digits: usize, prefixed: bool },
    /// So many bytes, a digit among them.
    NumberOf(usize),
    /// So many bytes.
    AnyOf(usize),
    /// A part of a UUID.
    UuidPart,
    /// A digit somewhere.
    Number,
    /// Anything.
    Any,
}

/// The index: upper half the hash of a key, lower half the place of a template.
#[derive(Debug)]
pub(super) struct Vocabulary {
    entries: Vec<u64>,
}

fn hash(key: &Key<'_>) -> u64 {
    FixedState::with_seed(0).hash_one(key) & 0xffff_ffff_0000_0000
}

/// The runs of letters and digits of a text.
pub(super) fn runs(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| !byte.is_ascii_alphanumeric()).filter(|run| !run.is_empty())
}

/// What is before and after the digits of a token, if there is nothing but digits between the first
/// and the last of them.
fn around(run: &[u8]) -> Option<(&[u8], &[u8])> {
    let first = run.iter().position(u8::is_ascii_digit)?;
    let last = run.iter().rposition(u8::is_ascii_digit)?;
    let digits = run.get(first..=last)?;
    digits.iter().all(u8::is_ascii_digit).then_some((run.get(..first)?, run.get(last + 1..)?))
}

impl Vocabulary {
    pub(super) fn new(column: &TextColumn) -> Self {
        let mut listing = Listing { entries: Vec::new(), lower: Vec::new(), place: 0 };
        for (place, template) in column.templates.iter().enumerate() {
            listing.place = place as u64;
            listing.template(template, column.key(template));
        }
        let mut entries = listing.entries;
        entries.sort_unstable();
        entries.dedup();
        entries.shrink_to_fit();
        Self { entries }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.entries.len() * size_of::<u64>()
    }

    fn listed(&self, key: &Key<'_>, into: &mut Vec<usize>) {
        let hash = hash(key);
        let first = self.entries.partition_point(|entry| *entry < hash);
        let rest = self.entries.get(first..).unwrap_or_default();
        let same = rest.iter().take_while(|entry| **entry & 0xffff_ffff_0000_0000 == hash);
        into.extend(same.map(|entry| *entry as u32 as usize));
    }

    /// The templates, ascending, that can hold each of `runs` as a whole token; `None` without runs.
    pub(super) fn templates<'r>(&self, runs: impl Iterator<Item = &'r [u8]>) -> Option<Vec<usize>> {
        let mut all: Option<Vec<usize>> = None;
        for run in runs {
            if all.as_ref().is_some_and(Vec::is_empty) {
                break;
            }
            let found = self.holding(&run.to_ascii_lowercase());
            all = Some(match all {
                None => found,
                Some(before) => {
                    before.into_iter().filter(|at| found.binary_search(at).is_ok()).collect()
                }
            });
        }
        all
    }

    fn holding(&self, run: &[u8]) -> Vec<usize> {
        let mut found = Vec::new();
        self.listed(&Key::Token(run), &mut found);
        self.listed(&Key::AnyOf(run.len()), &mut found);
        self.listed(&Key::Any, &mut found);
        if run.iter().any(u8::is_ascii_digit) {
            self.listed(&Key::NumberOf(run.len()), &mut found);
            self.listed(&Key::Number, &mut found);
        }
        if let Some((before, after)) = around(run) {
            self.listed(&Key::Decimal(before, after), &mut found);
        }
        let is_hex = |digits: &[u8]| digits.iter().all(u8::is_ascii_hexdigit);
        if is_hex(run) {
            self.listed(&Key::Hex { digits: run.len(), prefixed: false }, &mut found);
            if matches!(run.len(), 4 | 8 | 12) {
                self.listed(&Key::UuidPart, &mut found);
            }
        }
        if let Some(digits) = run.strip_prefix(b"0x").filter(|digits| is_hex(digits)) {
            self.listed(&Key::Hex { digits: digits.len(), prefixed: true }, &mut found);
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// An index in the making.
struct Listing {
    entries: Vec<u64>,
    lower: Vec<u8>,
    /// The template that is being listed.
    place: u64,
}

impl Listing {
    fn add(&mut self, key: &Key<'_>) {
        self.entries.push(hash(key) | self.place);
    }

    fn tokens(&mut self, text: &[u8]) {
        let mut lower = std::mem::take(&mut self.lower);
        lower.clear();
        lower.extend(text.iter().map(u8::to_ascii_lowercase));
        runs(&lower).for_each(|run| self.add(&Key::Token(run)));
        self.lower = lower;
    }

    fn template(&mut self, template: &Template, key: &[u8]) {
        // The marks of slots are tokens of one digit here, which do no harm.
        self.tokens(key);
        for (slot, mark) in template.slots.iter().zip(&template.marks) {
            let with_digit = key.get(*mark as usize) == Some(&MARK_TOKEN);
            match &slot.kind {
                Kind::Const(text) => self.tokens(text),
                Kind::Words(words) if words.len() <= WORDS_MAX => {
                    words.iter().for_each(|word| self.tokens(word));
                }
                Kind::Number { digits: Digits::Decimal { .. }, before, after } => {
                    let (before, after) = (before.to_ascii_lowercase(), after.to_ascii_lowercase());
                    self.add(&Key::Decimal(&before, &after));
                }
                Kind::Number { digits: Digits::Hex { width, .. }, before, after }
                    if after.is_empty() && (before.is_empty() || before == b"0x") =>
                {
                    let digits = usize::from(*width);
                    self.add(&Key::Hex { digits, prefixed: !before.is_empty() });
                }
                Kind::Wide { width, .. } => {
                    self.add(&Key::Hex { digits: usize::from(*width), prefixed: false });
                }
                Kind::Uuid => self.add(&Key::UuidPart),
                Kind::Fixed(bytes) if with_digit => self.add(&Key::NumberOf(*bytes)),
                Kind::Fixed(bytes) if !template.uuids => self.add(&Key::AnyOf(*bytes)),
                Kind::Words(_) | Kind::Varied if with_digit => self.add(&Key::Number),
                Kind::Words(_) | Kind::Number { .. } | Kind::Fixed(_) | Kind::Varied => {
                    self.add(&Key::Any);
                }
            }
        }
    }
}
