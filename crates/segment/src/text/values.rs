//! The values of one slot of one template while a segment is written.
//!
//! Values are kept as numbers as long as all of them have one numeric form, from which their texts
//! come back exactly; the first value that breaks the form turns all of them into texts.

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

/// Most digits of a number kept as one: any such number is below 2^63.
pub(super) const DECIMAL_DIGITS_MAX: usize = 18;
/// Most hex digits of a `u64`.
pub(super) const HEX_DIGITS_MAX: usize = 16;
/// Most hex digits of a `u128`.
pub(super) const WIDE_DIGITS_MAX: usize = 32;

/// Values of a slot, in the order of the template's rows.
#[derive(Debug)]
pub(super) enum Values {
    /// Decimal numbers. `plain`: all without needless zeros; `width`: the digits of each, 0 if they
    /// differ. One of both always holds.
    Decimal { plain: bool, width: u8, numbers: Vec<u64> },
    /// Hex numbers of one width. `upper`: the case of the letters, if one was seen.
    Hex { width: u8, upper: Option<bool>, numbers: Vec<u64> },
    /// The same, of more digits than a `u64` has.
    Wide { width: u8, upper: Option<bool>, numbers: Vec<u128> },
    /// UUIDs in lower case.
    Uuid { numbers: Vec<u128> },
    /// Texts of which there are few distinct ones.
    Words { words: Words, codes: Vec<u32> },
    /// Anything.
    Texts { bytes: Vec<u8>, ends: Vec<u32> },
}

/// Beyond so many distinct texts, they are kept as they are.
const WORDS_MAX: usize = 4096;

/// A text of at most 15 bytes with its length in one number, so that two are compared at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Short(u128);

impl Short {
    const BYTES_MAX: usize = 15;

    /// Of the first `len` of these bytes, the first one lowest.
    pub(super) fn of_first(bytes: u128, len: usize) -> Option<Self> {
        let text = bytes & !(u128::MAX << (8 * len.min(Self::BYTES_MAX)));
        (len <= Self::BYTES_MAX).then_some(Self(text | (len as u128) << (8 * Self::BYTES_MAX)))
    }

    fn of(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; 16];
        bytes.get_mut(..text.len())?.copy_from_slice(text);
        Self::of_first(u128::from_le_bytes(bytes), text.len())
    }
}

/// Distinct texts, numbered as they come.
#[derive(Debug, Default)]
pub(super) struct Words {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    /// By code, where a text is short.
    shorts: Vec<Option<Short>>,
    table: HashTable<u32>,
    hasher: RandomState,
}

impl Words {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// A text; the empty one beyond the end.
    pub(super) fn get(&self, code: usize) -> &[u8] {
        between(&self.bytes, &self.ends, code)
    }

    fn is(&self, code: u32, short: Short) -> bool {
        self.shorts.get(code as usize) == Some(&Some(short))
    }

    /// The code of a short text that has one.
    fn known(&self, short: Short) -> Option<u32> {
        self.table.find(self.hasher.hash_one(short), |code| self.is(*code, short)).copied()
    }

    /// The code of a text; a new one if there is room.
    fn code(&mut self, text: &[u8]) -> Option<u32> {
        let short = Short::of(text);
        let known = match short {
            Some(short) => self.known(short),
            None => {
                let same = |code: &u32| between(&self.bytes, &self.ends, *code as usize) == text;
                self.table.find(self.hasher.hash_one(text), same).copied()
            }
        };
        if known.is_some() || self.len() == WORDS_MAX {
            return known;
        }
        let code = self.len() as u32;
        self.bytes.extend_from_slice(text);
        self.ends.push(self.bytes.len() as u32);
        self.shorts.push(short);
        let (bytes, ends, shorts) = (&self.bytes, &self.ends, &self.shorts);
        let hasher = &self.hasher;
        let hash_of = |code: &u32| match shorts.get(*code as usize).copied().flatten() {
            Some(short) => hasher.hash_one(short),
            None => hasher.hash_one(between(bytes, ends, *code as usize)),
        };
        self.table.insert_unique(hash_of(&code), code, hash_of);
        Some(code)
    }
}

/// The text number `at` of those that end at `ends`.
fn between<'b>(bytes: &'b [u8], ends: &[u32], at: usize) -> &'b [u8] {
    let end = ends.get(at).map_or(0, |end| *end as usize);
    let start = at.checked_sub(1).and_then(|before| ends.get(before)).map_or(0, |s| *s as usize);
    bytes.get(start..end).unwrap_or_default()
}

/// 0..=15 for a hex digit, with 0x10 for a lower-case letter and 0x20 for an upper-case one; 0xff for
/// any other byte.
const HEX: [u8; 256] = {
    let mut table = [0xff; 256];
    let mut digit = 0;
    while digit < 10 {
        table[b'0' as usize + digit] = digit as u8;
        digit += 1;
    }
    let mut letter = 0;
    while letter < 6 {
        table[b'a' as usize + letter] = 0x10 | (10 + letter) as u8;
        table[b'A' as usize + letter] = 0x20 | (10 + letter) as u8;
        letter += 1;
    }
    table
};

/// The number that up to 32 hex digits are, and the case of its letters; `None` if it is none or of
/// both cases.
pub(super) fn parse_hex(token: &[u8]) -> Option<(u128, Option<bool>)> {
    if token.len() > WIDE_DIGITS_MAX {
        return None;
    }
    let (head, tail) = token.split_at(token.len().saturating_sub(HEX_DIGITS_MAX));
    let (mut seen, mut halves) = (0u8, [0u64; 2]);
    for (half, digits) in halves.iter_mut().zip([head, tail]) {
        for byte in digits {
            let digit = HEX.get(usize::from(*byte)).copied().unwrap_or(0xff);
            seen |= digit;
            *half = *half << 4 | u64::from(digit & 15);
        }
    }
    let upper = match seen & 0xf0 {
        0 => None,
        0x10 => Some(false),
        0x20 => Some(true),
        _ => return None,
    };
    Some((u128::from(halves[0]) << 64 | u128::from(halves[1]), upper))
}

/// The number that up to 18 digits are.
pub(super) fn parse_digits(digits: &[u8]) -> u64 {
    let (head, words) = digits.as_rchunks::<8>();
    let mut value = 0;
    for byte in head {
        value = value * 10 + u64::from(byte & 15);
    }
    for word in words {
        value = value * 100_000_000 + parse_eight(u64::from_le_bytes(*word));
    }
    value
}

/// The number that eight digits are, the first one lowest; a zero byte is a zero, too.
pub(super) fn parse_eight(digits: u64) -> u64 {
    let digits = digits & 0x0f0f_0f0f_0f0f_0f0f;
    let pairs = digits.wrapping_mul(2561) >> 8 & 0x00ff_00ff_00ff_00ff;
    let fours = pairs.wrapping_mul(6_553_601) >> 16 & 0x0000_ffff_0000_ffff;
    fours.wrapping_mul(42_949_672_960_001) >> 32
}

/// The number that the 36 bytes of a UUID are.
pub(super) fn parse_uuid(text: &[u8]) -> u128 {
    text.iter().filter(|byte| **byte != b'-').fold(0, |value, byte| {
        value << 4 | u128::from(HEX.get(usize::from(*byte)).copied().unwrap_or(0) & 15)
    })
}

/// Whether `digits` are a number as it is usually written.
pub(super) fn is_plain(digits: &[u8]) -> bool {
    digits.len() == 1 || digits.first() != Some(&b'0')
}

fn same_case(a: Option<bool>, b: Option<bool>) -> bool {
    a.is_none() || b.is_none() || a == b
}

/// The least number of so many digits that is written without needless zeros.
const LEAST_PLAIN: [u64; DECIMAL_DIGITS_MAX + 1] = {
    let mut least = [0; DECIMAL_DIGITS_MAX + 1];
    let (mut at, mut number) = (2, 10);
    while at <= DECIMAL_DIGITS_MAX {
        least[at] = number;
        number *= 10;
        at += 1;
    }
    least
};

impl Values {
    /// Hands out the texts of all values, each of them once or more.
    pub(super) fn for_each_text(&self, each: &mut dyn FnMut(&[u8])) {
        match self {
            Self::Words { words, .. } => (0..words.len()).for_each(|code| each(words.get(code))),
            Self::Texts { .. } => (0..self.len()).for_each(|index| each(self.text(index))),
            _ => {
                let mut text = Vec::new();
                for index in 0..self.len() {
                    text.clear();
                    self.render(index, &mut text);
                    each(&text);
                }
            }
        }
    }

    /// A slot with its first value.
    pub(super) fn new(token: &[u8], digits: bool, uuid: bool) -> Self {
        let width = token.len();
        if uuid {
            return Self::Uuid { numbers: vec![parse_uuid(token)] };
        }
        if digits && width <= DECIMAL_DIGITS_MAX {
            let numbers = vec![parse_digits(token)];
            return Self::Decimal { plain: is_plain(token), width: width as u8, numbers };
        }
        match parse_hex(token) {
            Some((number, upper)) if width <= HEX_DIGITS_MAX => {
                Self::Hex { width: width as u8, upper, numbers: vec![number as u64] }
            }
            Some((number, upper)) => {
                Self::Wide { width: width as u8, upper, numbers: vec![number] }
            }
            None => {
                let mut first = Self::Words { words: Words::default(), codes: Vec::new() };
                first.push(token, digits);
                first
            }
        }
    }

    /// Makes room for so many values in all.
    pub(super) fn reserve(&mut self, values: usize) {
        let more = values.saturating_sub(self.len());
        match self {
            Self::Decimal { numbers, .. } | Self::Hex { numbers, .. } => {
                numbers.reserve_exact(more)
            }
            Self::Wide { numbers, .. } | Self::Uuid { numbers } => numbers.reserve_exact(more),
            Self::Words { codes, .. } => codes.reserve_exact(more),
            Self::Texts { ends, .. } => ends.reserve_exact(more),
        }
    }

    /// Appends the number that a token of `len` digits is, if that keeps the form. The usual case,
    /// and the fastest.
    pub(super) fn push_number(&mut self, number: u64, len: usize) -> bool {
        let Self::Decimal { plain, width, numbers } = self else { return false };
        // Of the numbers of that many digits, those without needless zeros are the larger ones.
        let plain_now = *plain && number >= LEAST_PLAIN.get(len).copied().unwrap_or(u64::MAX);
        let width_now = if usize::from(*width) == len { *width } else { 0 };
        let fits = (plain_now || width_now > 0) && len <= DECIMAL_DIGITS_MAX;
        if fits {
            (*plain, *width) = (plain_now, width_now);
            numbers.push(number);
        }
        fits
    }

    /// Appends a short text if all are words and it is one that came before.
    pub(super) fn push_known(&mut self, word: Short) -> bool {
        let Self::Words { words, codes } = self else { return false };
        // In rows of one stream the same word often comes again.
        let last = codes.last().copied().filter(|last| words.is(*last, word));
        let code = last.or_else(|| words.known(word));
        codes.extend(code);
        code.is_some()
    }

    /// Appends a value. `digits`: it has nothing else.
    pub(super) fn push(&mut self, token: &[u8], digits: bool) {
        match self {
            Self::Decimal { plain, width, numbers } if digits => {
                let plain_now = *plain && is_plain(token);
                let width_now = if usize::from(*width) == token.len() { *width } else { 0 };
                if (plain_now || width_now > 0) && token.len() <= DECIMAL_DIGITS_MAX {
                    (*plain, *width) = (plain_now, width_now);
                    return numbers.push(parse_digits(token));
                }
            }
            Self::Decimal { width, .. }
                if usize::from(*width) == token.len() && parse_hex(token).is_some() =>
            {
                self.turn_to_hex();
                return self.push(token, digits);
            }
            Self::Hex { width, upper, numbers } if usize::from(*width) == token.len() => {
                if let Some((number, case)) = parse_hex(token)
                    && same_case(*upper, case)
                {
                    *upper = upper.or(case);
                    return numbers.push(number as u64);
                }
            }
            Self::Wide { width, upper, numbers } if usize::from(*width) == token.len() => {
                if let Some((number, case)) = parse_hex(token)
                    && same_case(*upper, case)
                {
                    *upper = upper.or(case);
                    return numbers.push(number);
                }
            }
            Self::Uuid { numbers } => return numbers.push(parse_uuid(token)),
            Self::Words { words, codes }
                if codes.last().is_some_and(|last| words.get(*last as usize) == token) =>
            {
                let last = codes.last().copied().unwrap_or(0);
                return codes.push(last);
            }
            Self::Words { words, codes } => match words.code(token) {
                Some(code) => return codes.push(code),
                None => {
                    self.turn_to_texts();
                    return self.push(token, digits);
                }
            },
            Self::Texts { bytes, ends } => {
                bytes.extend_from_slice(token);
                return ends.push(bytes.len() as u32);
            }
            _ => {}
        }
        self.turn_to_words();
        self.push(token, digits);
    }

    /// Appends a hex number of `width` digits, if that keeps the form.
    pub(super) fn push_hex(&mut self, number: u128, digits: u8, case: bool) -> bool {
        match self {
            Self::Hex { width, upper, numbers }
                if *width == digits && same_case(*upper, Some(case)) =>
            {
                *upper = Some(case);
                numbers.push(number as u64);
            }
            Self::Wide { width, upper, numbers }
                if *width == digits && same_case(*upper, Some(case)) =>
            {
                *upper = Some(case);
                numbers.push(number);
            }
            _ => return false,
        }
        true
    }

    /// Appends a UUID, if that keeps the form.
    pub(super) fn push_uuid(&mut self, number: u128) -> bool {
        let Self::Uuid { numbers } = self else { return false };
        numbers.push(number);
        true
    }

    /// Appends the word that got this code before, if all are words still.
    pub(super) fn push_code(&mut self, code: u32) -> bool {
        let Self::Words { codes, .. } = self else { return false };
        codes.push(code);
        true
    }

    /// The code of the value appended last, if all are words.
    pub(super) fn last_code(&self) -> Option<u32> {
        match self {
            Self::Words { codes, .. } => codes.last().copied(),
            _ => None,
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Decimal { numbers, .. } | Self::Hex { numbers, .. } => numbers.len(),
            Self::Wide { numbers, .. } | Self::Uuid { numbers } => numbers.len(),
            Self::Words { codes, .. } => codes.len(),
            Self::Texts { ends, .. } => ends.len(),
        }
    }

    /// Appends the text of a value.
    pub(super) fn render(&self, index: usize, out: &mut Vec<u8>) {
        let number = |numbers: &[u64]| numbers.get(index).copied().unwrap_or_default();
        let wide = |numbers: &[u128]| numbers.get(index).copied().unwrap_or_default();
        match self {
            Self::Decimal { plain: true, numbers, .. } => put_decimal(number(numbers), 1, out),
            Self::Decimal { width, numbers, .. } => {
                put_decimal(number(numbers), usize::from(*width), out);
            }
            Self::Hex { width, upper, numbers } => {
                put_hex(number(numbers).into(), usize::from(*width), *upper == Some(true), out);
            }
            Self::Wide { width, upper, numbers } => {
                put_hex(wide(numbers), usize::from(*width), *upper == Some(true), out);
            }
            Self::Uuid { numbers } => put_uuid(wide(numbers), out),
            Self::Words { .. } | Self::Texts { .. } => out.extend_from_slice(self.text(index)),
        }
    }

    /// A value that is kept as text.
    pub(super) fn text(&self, index: usize) -> &[u8] {
        match self {
            Self::Words { words, codes } => {
                codes.get(index).map_or(&[][..], |code| words.get(*code as usize))
            }
            Self::Texts { bytes, ends } => between(bytes, ends, index),
            _ => &[],
        }
    }

    fn turn_to_hex(&mut self) {
        let Self::Decimal { width, numbers, .. } = self else { return };
        let mut text = Vec::with_capacity(DECIMAL_DIGITS_MAX);
        let again = numbers.iter().map(|number| {
            text.clear();
            put_decimal(*number, usize::from(*width), &mut text);
            parse_hex(&text).map_or(0, |(number, _)| number)
        });
        *self = if usize::from(*width) <= HEX_DIGITS_MAX {
            let numbers = again.map(|number| number as u64).collect();
            Self::Hex { width: *width, upper: None, numbers }
        } else {
            Self::Wide { width: *width, upper: None, numbers: again.collect() }
        };
    }

    /// Numbers become words, or texts if they are too many.
    fn turn_to_words(&mut self) {
        let (mut words, mut codes) = (Words::default(), Vec::with_capacity(self.len()));
        let mut text = Vec::new();
        for index in 0..self.len() {
            text.clear();
            self.render(index, &mut text);
            match words.code(&text) {
                Some(code) => codes.push(code),
                None => return self.turn_to_texts(),
            }
        }
        *self = Self::Words { words, codes };
    }

    fn turn_to_texts(&mut self) {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for index in 0..self.len() {
            self.render(index, &mut bytes);
            ends.push(bytes.len() as u32);
        }
        *self = Self::Texts { bytes, ends };
    }
}

const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut at = 0;
    while at < 100 {
        pairs[at] = [b'0' + (at / 10) as u8, b'0' + (at % 10) as u8];
        at += 1;
    }
    pairs
};

/// Writes `number` with at least `width` digits.
pub(super) fn put_decimal(number: u64, width: usize, out: &mut Vec<u8>) {
    let mut digits = [b'0'; 32];
    let (mut left, mut start) = (number, digits.len());
    while left >= 10 {
        let pair = PAIRS.get((left % 100) as usize).copied().unwrap_or_default();
        start -= 2;
        if let Some(to) = digits.get_mut(start..start + 2) {
            to.copy_from_slice(&pair);
        }
        left /= 100;
    }
    // A number of an odd count of digits has its first one left; so has 0.
    if left > 0 || start == digits.len() {
        start -= 1;
        if let Some(to) = digits.get_mut(start) {
            *to = b'0' + left as u8;
        }
    }
    let start = start.min(digits.len().saturating_sub(width));
    out.extend_from_slice(digits.get(start..).unwrap_or_default());
}

/// The eight hex digits of a number. `gap`: what lies between `9` and the letter for ten.
fn eight_hex(number: u32, gap: u64) -> [u8; 8] {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let spread = u64::from(number);
    let spread = (spread | spread << 16) & 0x0000_ffff_0000_ffff;
    let spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff;
    let spread = (spread | spread << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    let letters = (spread + 6 * ONES) >> 4 & ONES;
    (spread + 0x30 * ONES + letters * gap).to_be_bytes()
}

/// All hex digits of a number.
fn all_hex(number: u128, upper: bool) -> [u8; WIDE_DIGITS_MAX] {
    let gap = if upper { 7 } else { 39 };
    let mut digits = [0; WIDE_DIGITS_MAX];
    let (eights, _) = digits.as_chunks_mut::<8>();
    for (at, eight) in eights.iter_mut().rev().enumerate() {
        *eight = eight_hex((number >> (32 * at)) as u32, gap);
    }
    digits
}

/// Writes the last `width` hex digits of `number`, at most 32.
pub(super) fn put_hex(number: u128, width: usize, upper: bool, out: &mut Vec<u8>) {
    let digits = all_hex(number, upper);
    out.extend_from_slice(digits.get(digits.len().saturating_sub(width)..).unwrap_or_default());
}

/// Writes a UUID in lower case.
pub(super) fn put_uuid(number: u128, out: &mut Vec<u8>) {
    let digits = all_hex(number, false);
    let mut text = [b'-'; 36];
    for (from, to, len) in [(0, 0, 8), (8, 9, 4), (12, 14, 4), (16, 19, 4), (20, 24, 12)] {
        if let (Some(to), Some(from)) = (text.get_mut(to..to + len), digits.get(from..from + len)) {
            to.copy_from_slice(from);
        }
    }
    out.extend_from_slice(&text);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_pushed_comes_out(
            tokens in proptest::collection::vec(
                prop_oneof![
                    "[0-9]{1,3}", "[0-9]{4}", "[0-9a-f]{4}", "[0-9A-F]{4}", "[0-9a-f]{20}", "[0-9]{17,40}",
                    "[0-9]{1,5}ms",
                ],
                1..20,
            ),
            same in any::<bool>(),
        ) {
            let tokens: Vec<&String> =
                tokens.iter().filter(|t| !same || t.len() == tokens[0].len()).collect();
            let digits = |t: &str| t.bytes().all(|byte| byte.is_ascii_digit());
            let mut values = Values::new(tokens[0].as_bytes(), digits(tokens[0]), false);
            for token in &tokens[1..] {
                let number = token.parse().unwrap_or(0);
                if !(digits(token) && values.push_number(number, token.len())) {
                    values.push(token.as_bytes(), digits(token));
                }
            }
            prop_assert_eq!(values.len(), tokens.len());
            for (at, token) in tokens.iter().enumerate() {
                let mut out = Vec::new();
                values.render(at, &mut out);
                prop_assert_eq!(String::from_utf8_lossy(&out), token.as_str());
            }
        }

        #[test]
        fn uuids_come_back(number in any::<u128>()) {
            let mut text = Vec::new();
            put_uuid(number, &mut text);
            prop_assert_eq!(text.len(), 36);
            prop_assert_eq!(parse_uuid(&text), number);
        }
    }

    #[test]
    fn decimals_are_written_as_usual() {
        for number in [0, 7, 10, 99, 100, 101, 12_345, u64::MAX] {
            let mut out = Vec::new();
            put_decimal(number, 1, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), number.to_string());
            assert!(number == u64::MAX || parse_digits(&out) == number);
        }
        let mut out = Vec::new();
        put_decimal(42, 5, &mut out);
        assert_eq!(out, b"00042");
    }
}
