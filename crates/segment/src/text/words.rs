//! Which words the texts of some fields have, told by a filter that is made while they are in memory as
//! they came: of records that no segment holds yet, and never written to a file.
//!
//! ```text
//!  texts ─ runs of letters and digits ─► hash of each, in lower case ─► four bits of one word u64
//! ```
//!
//! Invariants:
//! - a token that a text has is in the filter; of others few are;
//! - so a test that is refuted passes for no record of those that the filter was made of.

use std::collections::BTreeSet;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Int32Type};
use lodge_record::{field, schema};

use super::needle::Needle;
use super::tokens::classes;
use crate::predicate::{FieldTest, Predicate};

/// Bytes of text for each byte of its filter: about 20 bits for each different token of logs.
const TEXT_BYTES: usize = 8;
/// Bytes of text that are looked at in one step.
const STEP: usize = 64;
/// Factors of the hash: odd, half of their bits set.
const FACTORS: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93];
/// Turns letters into lower case; digits and the zeros behind a token's end become what they become.
const LOWER: u64 = 0x2020_2020_2020_2020;

/// Filters of the words of some fields of some records.
#[derive(Debug, Default)]
pub struct Words {
    fields: Vec<FieldWords>,
}

#[derive(Debug)]
struct FieldWords {
    name: Box<str>,
    /// All texts are ASCII.
    ascii: bool,
    bits: Vec<u64>,
}

impl Words {
    /// Of the fields `names`, as far as all that `batches` have of them is in columns of text.
    pub fn of<'n>(batches: &[RecordBatch], names: impl IntoIterator<Item = &'n str>) -> Self {
        let fields = names.into_iter().filter_map(|name| FieldWords::of(batches, name));
        Self { fields: fields.collect() }
    }

    /// Whether no record has a value of field `name` that passes `test`, as far as words tell.
    pub fn refute(&self, name: &str, test: &FieldTest) -> bool {
        let field = self.fields.iter().find(|field| *field.name == *name);
        field.is_some_and(|field| field.refutes(test))
    }

    /// Bytes that they take.
    pub fn memory_bytes(&self) -> usize {
        self.fields.iter().map(|field| field.bits.len() * size_of::<u64>()).sum()
    }
}

/// The fields of which `predicate` asks for words: [`Words`] of these can be of use to it.
pub fn word_fields(predicate: &Predicate) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    collect(predicate, &mut found);
    found
}

fn collect<'p>(predicate: &'p Predicate, found: &mut BTreeSet<&'p str>) {
    match predicate {
        Predicate::And(parts) | Predicate::Or(parts) => {
            parts.iter().for_each(|part| collect(part, found));
        }
        Predicate::Not(inner) => collect(inner, found),
        // Streams are listed one by one, and times are no texts.
        Predicate::Field { name, test }
            if ![field::STREAM, field::STREAM_ID, field::TIME].contains(&name.as_str())
                && Needle::has_tokens(test) =>
        {
            found.insert(name);
        }
        _ => {}
    }
}

impl FieldWords {
    fn of(batches: &[RecordBatch], name: &str) -> Option<Self> {
        let mut texts = Vec::with_capacity(batches.len());
        for batch in batches {
            let spilled = batch.column_by_name(field::OVERFLOW);
            if spilled.is_some_and(|s| s.null_count() < s.len()) && !schema::is_reserved(name) {
                return None;
            }
            if let Some(column) = batch.column_by_name(name) {
                texts.push(texts_of(column)?);
            }
        }
        let ranges = texts.iter().map(|texts| texts.value_offsets());
        let bytes = ranges.filter_map(|at| Some((*at.last()? - *at.first()?) as usize)).sum();
        let bytes: usize = bytes;
        let bits = vec![0; bytes.div_ceil(TEXT_BYTES * size_of::<u64>())];
        let mut words = Self { name: name.into(), ascii: true, bits };
        texts.iter().for_each(|texts| words.add(texts));
        Some(words)
    }

    fn add(&mut self, texts: &StringArray) {
        let (data, offsets) = (texts.value_data(), texts.value_offsets());
        let (Some(first), Some(last)) = (offsets.first(), offsets.last()) else { return };
        self.ascii &= data.get(*first as usize..*last as usize).is_some_and(<[u8]>::is_ascii);
        for bounds in offsets.windows(2) {
            let [start, end] = bounds else { continue };
            for_each_token(data, *start as usize, *end as usize, |hash| {
                if let Some(word) =
                    place(hash, self.bits.len()).and_then(|at| self.bits.get_mut(at))
                {
                    *word |= bits(hash);
                }
            });
        }
    }

    fn holds(&self, token: &[u8]) -> bool {
        let hash = hash(token, 0, token.len());
        let word = place(hash, self.bits.len()).and_then(|at| self.bits.get(at));
        word.is_some_and(|word| word & bits(hash) == bits(hash))
    }

    fn refutes(&self, test: &FieldTest) -> bool {
        let absent = |needle: &Needle<'_>| Ok(needle.tokens().any(|token| !self.holds(token)));
        Needle::refute(test, self.ascii, absent).unwrap_or(false)
    }
}

/// The texts of a column, those of a dictionary once; `None` if it holds something else.
fn texts_of(column: &ArrayRef) -> Option<&StringArray> {
    match column.data_type() {
        DataType::Utf8 => column.as_string_opt::<i32>(),
        DataType::Dictionary(..) => {
            column.as_dictionary_opt::<Int32Type>()?.values().as_string_opt::<i32>()
        }
        _ => None,
    }
}

/// The hashes of the tokens of the text at `start..end` of `data`.
fn for_each_token(data: &[u8], start: usize, end: usize, mut each: impl FnMut(u64)) {
    let mut token: Option<usize> = None;
    let mut at = start;
    while at < end {
        let here = (end - at).min(STEP);
        let inside = u64::MAX >> (STEP - here);
        let alnum = letters_and_digits(&step(data, at)) & inside;
        // Set where a token begins, and behind its end.
        let mut edges = (alnum ^ (alnum << 1 | u64::from(token.is_some()))) & inside;
        while edges != 0 {
            let edge = at + edges.trailing_zeros() as usize;
            edges &= edges - 1;
            match token.take() {
                None => token = Some(edge),
                Some(first) => each(hash(data, first, edge)),
            }
        }
        at += here;
    }
    if let Some(first) = token {
        each(hash(data, first, end));
    }
}

/// The bytes from `at` on, zeros behind the end.
fn step(data: &[u8], at: usize) -> [u8; STEP] {
    let rest = data.get(at..).unwrap_or_default();
    match rest.first_chunk::<STEP>() {
        Some(step) => *step,
        None => {
            let mut step = [0; STEP];
            step.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            step
        }
    }
}

/// A bit for each byte.
fn letters_and_digits(step: &[u8; STEP]) -> u64 {
    let mut mask = 0;
    for (at, eight) in step.as_chunks::<8>().0.iter().enumerate() {
        let (alnum, _) = classes(u64::from_le_bytes(*eight));
        // The eight top bits, side by side.
        mask |= ((alnum >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56) << (8 * at);
    }
    mask
}

/// Eight bytes from `at` on, zeros behind the end.
fn eight(data: &[u8], at: usize) -> u64 {
    let rest = data.get(at..).unwrap_or_default();
    match rest.first_chunk::<8>() {
        Some(eight) => u64::from_le_bytes(*eight),
        None => rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    }
}

/// The hash of the token at `start..end` of `data`, letter case aside.
fn hash(data: &[u8], start: usize, end: usize) -> u64 {
    let mut hash = (end - start) as u64;
    let mut at = start;
    while end - at > 8 {
        hash = mix(hash ^ (eight(data, at) | LOWER));
        at += 8;
    }
    let beyond = 8 * (8 - (end - at).min(8)) as u32;
    let last = eight(data, at) & u64::MAX.checked_shr(beyond).unwrap_or(0);
    mix(hash ^ (last | LOWER))
}

fn mix(word: u64) -> u64 {
    let wide = u128::from(word ^ FACTORS[0]) * u128::from(FACTORS[1]);
    wide as u64 ^ (wide >> 64) as u64
}

/// The word that a hash has its bits in.
fn place(hash: u64, words: usize) -> Option<usize> {
    (words > 0).then(|| (((hash >> 32) * words as u64) >> 32) as usize)
}

fn bits(hash: u64) -> u64 {
    let bit = |by: u32| 1 << (hash >> by & 63);
    bit(0) | bit(6) | bit(12) | bit(18)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bits_stand_for_bytes(step in any::<[u8; STEP]>()) {
            let mask = letters_and_digits(&step);
            for (at, byte) in step.iter().enumerate() {
                prop_assert_eq!(mask >> at & 1 == 1, byte.is_ascii_alphanumeric(), "{}", at);
            }
        }
    }
}
