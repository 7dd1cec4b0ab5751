//! Which templates can hold a word, without a look at any of them.
//!
//! A word or phrase asks for runs of letters and digits that the text has as whole tokens. A token of
//! a text is in a literal of its template, among the words of a slot, or has the form of a slot: so
//! many hex digits, digits between the same letters. A template is listed here under all these. All
//! tokens but those that a form tells are in the `filter`, and the forms are in the directory: a
//! segment that does not have a word is ruled out by these two alone.
//!
//! ```text
//!  forms            := flags u8 │ varint count │ hash u32{…}, ascending      in the directory
//!                      flags: 1 all texts are ASCII, 2 there is no filter: any token can be there;
//!                      hashes of all keys whose tokens are not in the filter
//!  words section    := hash u32{…}, ascending
//!  postings section := codes: of each hash, where its numbers end │ codes: template numbers
//!  hash             := CRC-32C of kind u8 · what the kind asks for, in lower case
//! ```
//!
//! Invariant: a template with a text that holds the run is always among those named; others may be.

use bytes::Bytes;

use super::MARK_TOKEN;
use super::column::TextColumn;
use super::cursor::{Cursor, put_varint};
use super::filter;
use super::slot::{Digits, Kind};
use crate::SegmentError;
use crate::bits::Codes;

/// A slot with more words than this is not listed word by word.
const WORDS_MAX: usize = 1024;
/// Raw texts of more bytes than this are not listed token by token.
const RAW_BYTES_MAX: usize = 4 << 20;
/// A column with more different tokens than half of this has no filter: 32 MiB while it is made. Tests
/// come to it sooner.
const FILTERED_MAX: usize = if cfg!(test) { 1 << 11 } else { 1 << 22 };

/// What a template is listed under; the text is in lower case. The numbers of kinds are persisted.
enum Key<'t> {
    /// 0: anything.
    Any,
    /// 1: this token.
    Token(&'t [u8]),
    /// 2: digits between these letters.
    Decimal(&'t [u8], &'t [u8]),
    /// 3, 4: so many hex digits, or these after `0x`.
    Hex { digits: usize, prefixed: bool },
    /// 5: so many bytes, a digit among them.
    NumberOf(usize),
    /// 6: so many bytes.
    AnyOf(usize),
    /// 7: a part of a UUID.
    UuidPart,
    /// 8: a digit somewhere.
    Number,
}

impl Key<'_> {
    /// Whether the tokens under it are in the filter: it is a token, or stands for texts of any kind.
    fn is_filtered(&self) -> bool {
        self.is_of_any() || matches!(self, Self::Token(_))
    }

    fn is_of_any(&self) -> bool {
        matches!(self, Self::Any | Self::NumberOf(_) | Self::AnyOf(_) | Self::Number)
    }

    fn hash(&self) -> u32 {
        let of = |kind: u8, text: &[u8]| crc32c::crc32c_append(crc32c::crc32c(&[kind]), text);
        let count = |kind: u8, count: usize| of(kind, &(count as u32).to_le_bytes());
        match self {
            Self::Any => of(0, b""),
            Self::Token(text) => of(1, text),
            // No letter or digit can be mistaken for what stands between the two.
            Self::Decimal(before, after) => {
                crc32c::crc32c_append(crc32c::crc32c_append(of(2, before), b"-"), after)
            }
            Self::Hex { digits, prefixed: false } => count(3, *digits),
            Self::Hex { digits, prefixed: true } => count(4, *digits),
            Self::NumberOf(bytes) => count(5, *bytes),
            Self::AnyOf(bytes) => count(6, *bytes),
            Self::UuidPart => of(7, b""),
            Self::Number => of(8, b""),
        }
    }
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

/// Every key under which a text with this token, in lower case, can be listed.
fn keys_of<'r>(run: &'r [u8]) -> impl Iterator<Item = Key<'r>> {
    let digit = run.iter().any(u8::is_ascii_digit);
    let is_hex = |digits: &[u8]| digits.iter().all(u8::is_ascii_hexdigit);
    let prefixed = run.strip_prefix(b"0x").filter(|digits| is_hex(digits));
    let hex = is_hex(run);
    [
        Some(Key::Token(run)),
        Some(Key::AnyOf(run.len())),
        Some(Key::Any),
        digit.then_some(Key::NumberOf(run.len())),
        digit.then_some(Key::Number),
        around(run).map(|(before, after)| Key::Decimal(before, after)),
        hex.then_some(Key::Hex { digits: run.len(), prefixed: false }),
        (hex && matches!(run.len(), 4 | 8 | 12)).then_some(Key::UuidPart),
        prefixed.map(|digits| Key::Hex { digits: digits.len(), prefixed: true }),
    ]
    .into_iter()
    .flatten()
}

/// The forms that tokens of a column have, beside those that are in its filter.
#[derive(Clone, Debug, Default)]
pub(super) struct Forms {
    ascii: bool,
    any: bool,
    hashes: Vec<u32>,
}

impl Forms {
    pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Self, SegmentError> {
        let flags = cursor.byte()?;
        let (ascii, any) = (flags & 1 != 0, flags & 2 != 0);
        let count = cursor.count()?;
        let bytes = cursor.bytes(count.saturating_mul(4))?.as_chunks::<4>().0;
        Ok(Self {
            ascii,
            any,
            hashes: bytes.iter().map(|hash| u32::from_le_bytes(*hash)).collect(),
        })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.ascii) | u8::from(self.any) << 1);
        put_varint(self.hashes.len() as u64, out);
        self.hashes.iter().for_each(|hash| out.extend_from_slice(&hash.to_le_bytes()));
    }

    /// Whether all texts are ASCII.
    pub(super) fn is_ascii(&self) -> bool {
        self.ascii
    }

    /// Whether there is no filter, so that any token can be there.
    pub(super) fn is_any(&self) -> bool {
        self.any
    }

    /// Whether a form tells that a text can have this run, in lower case, as a whole token.
    pub(super) fn tell(&self, run: &[u8]) -> bool {
        let of_form = |key: &Key<'_>| !key.is_filtered();
        keys_of(run).filter(of_form).any(|key| self.hashes.binary_search(&key.hash()).is_ok())
    }
}

/// The words of a column.
#[derive(Debug)]
pub(super) struct Words {
    hashes: Bytes,
}

impl Words {
    pub(super) fn open(section: &Bytes) -> Result<Self, SegmentError> {
        if !section.len().is_multiple_of(4) {
            return Err(SegmentError::damaged("words", "are cut short"));
        }
        Ok(Self { hashes: section.clone() })
    }

    fn len(&self) -> usize {
        self.hashes.len() / 4
    }

    fn find(&self, key: &Key<'_>) -> Option<usize> {
        let hashes = self.hashes.as_chunks::<4>().0;
        hashes.binary_search_by_key(&key.hash(), |hash| u32::from_le_bytes(*hash)).ok()
    }
}

/// The templates under each word.
#[derive(Debug)]
pub(super) struct Postings {
    ends: Codes,
    numbers: Codes,
}

impl Postings {
    pub(super) fn open(section: &Bytes, words: &Words) -> Result<Self, SegmentError> {
        let (ends, rest) = Codes::open(section)?;
        let (numbers, rest) = Codes::open(&rest)?;
        if ends.len() != words.len() || !rest.is_empty() {
            return Err(SegmentError::damaged("postings", "are of other words"));
        }
        Ok(Self { ends, numbers })
    }

    /// The templates, ascending, 0 for the raw texts, that can hold each of `wanted` as a whole token;
    /// with each token, in lower case, whether the filter has it.
    pub(super) fn templates(&self, words: &Words, wanted: &[(Vec<u8>, bool)]) -> Vec<u32> {
        let mut all: Option<Vec<u32>> = None;
        for (run, filtered) in wanted {
            let mut found = Vec::new();
            let keys = keys_of(run).filter(|key| *filtered || !key.is_filtered());
            for at in keys.filter_map(|key| words.find(&key)) {
                let start = at.checked_sub(1).map_or(0, |before| self.ends.get(before));
                found.extend(self.numbers.values(start as usize..self.ends.get(at) as usize));
            }
            found.sort_unstable();
            found.dedup();
            all = Some(match all {
                None => found,
                Some(before) => {
                    before.into_iter().filter(|no| found.binary_search(no).is_ok()).collect()
                }
            });
        }
        all.unwrap_or_default()
    }
}

/// What is written of a column's words.
pub(super) struct Written {
    pub(super) forms: Forms,
    pub(super) words: Vec<u8>,
    pub(super) postings: Vec<u8>,
    /// The hashes of the tokens for the filter.
    pub(super) filtered: Vec<u64>,
}

/// Lists the words of a column and its raw texts. `values` hands out the values of a slot of a
/// template, each of them once or more.
pub(super) fn write<'t>(
    column: &TextColumn,
    raw: impl Iterator<Item = &'t [u8]>,
    raw_bytes: usize,
    values: impl Fn(u32, usize, &mut dyn FnMut(&[u8])),
) -> Result<Written, SegmentError> {
    let mut listing = Listing::default();
    let mut ascii = column.keys().is_ascii();
    let many = raw_bytes > RAW_BYTES_MAX;
    if many {
        listing.add(&Key::Any);
    }
    for text in raw {
        ascii &= text.is_ascii();
        if many { listing.filtered(text) } else { listing.tokens(text) }
    }
    for number in 1..=column.templates() as u32 {
        listing.number = number.into();
        let (template, key) = (column.template(number)?, column.key(number));
        // The marks of slots are tokens of one digit here, which do no harm.
        listing.tokens(key);
        for (at, (slot, mark)) in template.slots.iter().zip(&template.marks).enumerate() {
            let with_digit = key.get(*mark as usize) == Some(&MARK_TOKEN);
            if listing.slot(&slot.kind, with_digit, template.uuids) {
                values(number, at, &mut |value| listing.filtered(value));
            }
        }
    }
    let mut entries = std::mem::take(&mut listing.entries);
    entries.sort_unstable();
    entries.dedup();
    let mut words = Vec::new();
    let (mut ends, mut numbers) = (Vec::new(), Vec::with_capacity(entries.len()));
    for (at, entry) in entries.iter().enumerate() {
        numbers.push(*entry as u32);
        let hash = entry >> 32;
        if entries.get(at + 1).is_none_or(|next| next >> 32 != hash) {
            words.extend_from_slice(&(hash as u32).to_le_bytes());
            ends.push(numbers.len() as u32);
        }
    }
    let mut postings = Vec::new();
    Codes::encode(&ends, &mut postings);
    Codes::encode(&numbers, &mut postings);
    let mut hashes = listing.forms;
    hashes.sort_unstable();
    hashes.dedup();
    let forms = Forms { ascii, any: listing.any, hashes };
    Ok(Written { forms, words, postings, filtered: listing.filtered })
}

/// An index in the making.
#[derive(Default)]
struct Listing {
    /// Upper half a hash, lower half a template's number.
    entries: Vec<u64>,
    /// Hashes for the filter.
    filtered: Vec<u64>,
    /// There are too many for one.
    any: bool,
    /// Hashes of keys whose tokens are not in the filter.
    forms: Vec<u32>,
    lower: Vec<u8>,
    /// The template that is being listed.
    number: u64,
}

impl Listing {
    fn add(&mut self, key: &Key<'_>) {
        let hash = key.hash();
        self.entries.push(u64::from(hash) << 32 | self.number);
        match key {
            Key::Token(run) => self.filter(run),
            key if !key.is_filtered() => self.forms.push(hash),
            _ => {}
        }
    }

    fn filter(&mut self, run: &[u8]) {
        if self.any {
            return;
        }
        if self.filtered.len() == FILTERED_MAX {
            self.filtered.sort_unstable();
            self.filtered.dedup();
            if self.filtered.len() > FILTERED_MAX / 2 {
                self.any = true;
                self.filtered = Vec::new();
                return;
            }
        }
        self.filtered.push(filter::hash(run));
    }

    fn each(&mut self, text: &[u8], mut each: impl FnMut(&mut Self, &[u8])) {
        let mut lower = std::mem::take(&mut self.lower);
        lower.clear();
        lower.extend(text.iter().map(u8::to_ascii_lowercase));
        runs(&lower).for_each(|run| each(self, run));
        self.lower = lower;
    }

    fn tokens(&mut self, text: &[u8]) {
        self.each(text, |listing, run| listing.add(&Key::Token(run)));
    }

    fn filtered(&mut self, text: &[u8]) {
        self.each(text, Self::filter);
    }

    /// Lists a slot, and gives whether its values belong in the filter.
    fn slot(&mut self, kind: &Kind, with_digit: bool, uuids: bool) -> bool {
        let key = match kind {
            Kind::Const(text) => {
                self.tokens(text);
                return false;
            }
            Kind::Words(words) if words.len() <= WORDS_MAX => {
                words.iter().for_each(|word| self.tokens(word));
                return false;
            }
            Kind::Number { digits: Digits::Decimal { .. }, before, after } => {
                let (before, after) = (before.to_ascii_lowercase(), after.to_ascii_lowercase());
                self.add(&Key::Decimal(&before, &after));
                return false;
            }
            Kind::Number { digits: Digits::Hex { width, .. }, before, after }
                if after.is_empty() && (before.is_empty() || before == b"0x") =>
            {
                Key::Hex { digits: usize::from(*width), prefixed: !before.is_empty() }
            }
            Kind::Wide { width, .. } => Key::Hex { digits: usize::from(*width), prefixed: false },
            Kind::Uuid => Key::UuidPart,
            Kind::Fixed(bytes) if with_digit => Key::NumberOf(*bytes),
            Kind::Fixed(bytes) if !uuids => Key::AnyOf(*bytes),
            Kind::Words(_) | Kind::Varied if with_digit => Key::Number,
            Kind::Words(_) | Kind::Number { .. } | Kind::Fixed(_) | Kind::Varied => Key::Any,
        };
        self.add(&key);
        key.is_of_any()
    }
}
