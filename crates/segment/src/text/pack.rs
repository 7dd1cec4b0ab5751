//! How the values of a slot are stored: the choice, and the bytes.
//!
//! ```text
//!  of each slot, in section A:
//!  u8 kind │ kind's parameters │ varint bytes in section C
//!   0 const    text
//!   1 words    varint count │ texts, sorted            C: codes (see `bits::codes`)
//!   2 decimal  affixes │ varint least │ varint most    C: integers (see `bits::ints`)
//!   3 padded   affixes │ least │ most │ u8 digits      C: integers
//!   4 hex      affixes │ u8 digits │ u8 upper          C: integers, their 64 bits as they are
//!   5 wide     u8 digits │ u8 upper                    C: (digits + 1) / 2 bytes each, big-endian
//!   6 uuid                                             C: 16 bytes each, big-endian
//!   7 fixed    varint bytes                            C: texts of that many bytes
//!   8 varied                                           C: integers (where each text ends) │ texts
//!  text: varint length │ bytes     affixes: text before the number │ text after it
//! ```

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::cursor::{put_text, put_varint};
use super::values::{
    DECIMAL_DIGITS_MAX, HEX_DIGITS_MAX, Values, is_plain, parse_digits, parse_hex, put_decimal,
    put_hex, put_uuid,
};
use crate::bits::{Codes, Ints};

pub(super) const CONST: u8 = 0;
pub(super) const WORDS: u8 = 1;
pub(super) const DECIMAL: u8 = 2;
pub(super) const PADDED: u8 = 3;
pub(super) const HEX: u8 = 4;
pub(super) const WIDE: u8 = 5;
pub(super) const UUID: u8 = 6;
pub(super) const FIXED: u8 = 7;
pub(super) const VARIED: u8 = 8;

/// Numbers with more distinct values than this are not looked up in a dictionary.
const DISTINCT_NUMBERS_MAX: usize = 4096;
/// Numbers that differ by less bits are counted in a table.
const TABLE_BITS_MAX: u32 = 16;
/// After so many values, a slot in which most are distinct gets no dictionary.
const SAMPLE_VALUES: usize = 512;

/// Appends the parameters of a slot to `params`, and its values to `packed`.
pub(super) fn pack(values: &Values, params: &mut Vec<u8>, packed: &mut Vec<u8>) {
    let start = packed.len();
    match values {
        Values::Decimal { plain, width, numbers } => {
            let form = if *plain { Form::Decimal } else { Form::Padded(*width) };
            pack_numbers(numbers, form, (b"", b""), params, packed);
        }
        Values::Hex { width, upper, numbers } => {
            let form = Form::Hex(*width, *upper == Some(true));
            pack_numbers(numbers, form, (b"", b""), params, packed);
        }
        Values::Wide { width, upper, numbers } => {
            let upper = *upper == Some(true);
            let text = |number: u128, out: &mut Vec<u8>| {
                put_hex(number, usize::from(*width), upper, out);
            };
            if !pack_few(numbers, text, params, packed) {
                params.extend_from_slice(&[WIDE, *width, u8::from(upper)]);
                pack_wide(numbers, usize::from(*width).div_ceil(2), packed);
            }
        }
        Values::Uuid { numbers } => {
            if !pack_few(numbers, put_uuid, params, packed) {
                params.push(UUID);
                pack_wide(numbers, 16, packed);
            }
        }
        Values::Words { words, codes } if words.len() <= codes.len() / 3 || words.len() == 1 => {
            let text = |code: usize, out: &mut Vec<u8>| out.extend_from_slice(words.get(code));
            pack_words(words.len(), text, codes.iter().copied(), params, packed);
        }
        Values::Words { .. } | Values::Texts { .. } => pack_texts(values, params, packed),
    }
    put_varint((packed.len() - start) as u64, params);
}

/// How a number reads.
#[derive(Clone, Copy)]
enum Form {
    Decimal,
    Padded(u8),
    Hex(u8, bool),
}

impl Form {
    fn put(self, number: u64, out: &mut Vec<u8>) {
        match self {
            Self::Decimal => put_decimal(number, 1, out),
            Self::Padded(width) => put_decimal(number, usize::from(width), out),
            Self::Hex(width, upper) => put_hex(number.into(), usize::from(width), upper, out),
        }
    }
}

fn pack_numbers(
    numbers: &[u64],
    form: Form,
    affixes: (&[u8], &[u8]),
    params: &mut Vec<u8>,
    packed: &mut Vec<u8>,
) {
    let least = numbers.iter().copied().min().unwrap_or(0);
    let most = numbers.iter().copied().max().unwrap_or(0);
    let text = |number: Option<u64>, out: &mut Vec<u8>| {
        out.extend_from_slice(affixes.0);
        form.put(number.unwrap_or(0), out);
        out.extend_from_slice(affixes.1);
    };
    if least == most {
        let mut only = Vec::new();
        text(Some(least), &mut only);
        params.push(CONST);
        return put_text(&only, params);
    }
    let bits = (most - least).checked_ilog2().map_or(0, |log| log + 1);
    // A word costs about four bytes once squeezed.
    let pays = |distinct: usize| {
        let narrow = usize::BITS - (distinct - 1).leading_zeros();
        (bits.saturating_sub(narrow) as usize * numbers.len()) / 8 > distinct * 4 + 16
    };
    if bits <= TABLE_BITS_MAX {
        let mut codes = vec![0u32; (most - least) as usize + 1];
        for number in numbers {
            if let Some(code) = codes.get_mut((number - least) as usize) {
                *code = 1;
            }
        }
        let found: Vec<u64> = (least..).zip(&codes).filter(|c| *c.1 > 0).map(|c| c.0).collect();
        if pays(found.len()) {
            for (code, number) in found.iter().enumerate() {
                if let Some(place) = codes.get_mut((number - least) as usize) {
                    *place = code as u32;
                }
            }
            let text = |code: usize, out: &mut Vec<u8>| text(found.get(code).copied(), out);
            let code_of = |n: &u64| codes.get((n - least) as usize).copied().unwrap_or(0);
            return pack_words(found.len(), text, numbers.iter().map(code_of), params, packed);
        }
    } else if let Some(distinct) = distinct(numbers.iter().copied(), DISTINCT_NUMBERS_MAX)
        && pays(distinct.len())
    {
        return pack_distinct(numbers, &distinct, |n, out| text(Some(n), out), params, packed);
    }
    let (kind, more): (u8, &[u8]) = match form {
        Form::Decimal => (DECIMAL, &[]),
        Form::Padded(width) => (PADDED, &[width]),
        Form::Hex(width, upper) => (HEX, &[width, u8::from(upper)]),
    };
    params.push(kind);
    put_text(affixes.0, params);
    put_text(affixes.1, params);
    if kind != HEX {
        put_varint(least, params);
        put_varint(most, params);
    }
    params.extend_from_slice(more);
    let numbers: Vec<i64> = numbers.iter().map(|number| *number as i64).collect();
    Ints::encode(&numbers, packed);
}

fn pack_wide(numbers: &[u128], bytes: usize, packed: &mut Vec<u8>) {
    for number in numbers {
        let number = number.to_be_bytes();
        packed.extend_from_slice(number.get(number.len() - bytes..).unwrap_or_default());
    }
}

type Distinct<T> = HashMap<T, u32, RandomState>;

/// The distinct values with their order of appearance, if there are few.
fn distinct<T: std::hash::Hash + Eq + Copy>(
    values: impl IntoIterator<Item = T>,
    most: usize,
) -> Option<Distinct<T>> {
    let mut found = Distinct::with_hasher(RandomState::default());
    for (at, value) in values.into_iter().enumerate() {
        if at == SAMPLE_VALUES && found.len() > SAMPLE_VALUES / 2 {
            return None;
        }
        let next = found.len() as u32;
        found.entry(value).or_insert(next);
        if found.len() > most {
            return None;
        }
    }
    Some(found)
}

/// Wide numbers as words, if they repeat often enough.
fn pack_few(
    numbers: &[u128],
    text: impl Fn(u128, &mut Vec<u8>),
    params: &mut Vec<u8>,
    packed: &mut Vec<u8>,
) -> bool {
    let Some(distinct) = distinct(numbers.iter().copied(), numbers.len() / 4) else { return false };
    pack_distinct(numbers, &distinct, text, params, packed);
    true
}

/// Values as codes of their sorted texts.
fn pack_distinct<T: std::hash::Hash + Eq + Copy>(
    values: &[T],
    distinct: &Distinct<T>,
    text: impl Fn(T, &mut Vec<u8>),
    params: &mut Vec<u8>,
    packed: &mut Vec<u8>,
) {
    let mut order: Vec<(T, u32)> = distinct.iter().map(|(value, code)| (*value, *code)).collect();
    order.sort_unstable_by_key(|(_, code)| *code);
    let text = |code: usize, out: &mut Vec<u8>| {
        if let Some((value, _)) = order.get(code) {
            text(*value, out);
        }
    };
    let codes = values.iter().map(|value| distinct.get(value).copied().unwrap_or(0));
    pack_words(order.len(), text, codes, params, packed);
}

/// Codes as codes of the sorted texts; `text` gives that of a code.
fn pack_words(
    count: usize,
    text: impl Fn(usize, &mut Vec<u8>),
    codes: impl Iterator<Item = u32>,
    params: &mut Vec<u8>,
    packed: &mut Vec<u8>,
) {
    let mut words: Vec<(Vec<u8>, usize)> = (0..count)
        .map(|code| {
            let mut word = Vec::new();
            text(code, &mut word);
            (word, code)
        })
        .collect();
    words.sort_unstable();
    if let [(only, _)] = words.as_slice() {
        params.push(CONST);
        return put_text(only, params);
    }
    params.push(WORDS);
    put_varint(words.len() as u64, params);
    let mut sorted = vec![0u32; count];
    for (at, (word, code)) in words.iter().enumerate() {
        put_text(word, params);
        if let Some(place) = sorted.get_mut(*code) {
            *place = at as u32;
        }
    }
    let codes: Vec<u32> =
        codes.map(|code| sorted.get(code as usize).copied().unwrap_or(0)).collect();
    Codes::encode(&codes, packed);
}

fn pack_texts(values: &Values, params: &mut Vec<u8>, packed: &mut Vec<u8>) {
    let texts = || (0..values.len()).map(|index| values.text(index));
    // Words were counted before.
    if matches!(values, Values::Texts { .. })
        && let Some(distinct) = distinct(texts(), values.len() / 3)
    {
        let texts: Vec<&[u8]> = texts().collect();
        let text = |word: &[u8], out: &mut Vec<u8>| out.extend_from_slice(word);
        return pack_distinct(&texts, &distinct, text, params, packed);
    }
    if let Some((form, before, after, numbers)) = affixed(values, values.len()) {
        return pack_numbers(&numbers, form, (before, after), params, packed);
    }
    let width = values.text(0).len();
    if texts().all(|text| text.len() == width) {
        params.push(FIXED);
        put_varint(width as u64, params);
        return texts().for_each(|text| packed.extend_from_slice(text));
    }
    params.push(VARIED);
    let mut end = 0;
    let ends = texts().map(|text| {
        end += text.len() as i64;
        end
    });
    Ints::encode(&ends.collect::<Vec<_>>(), packed);
    texts().for_each(|text| packed.extend_from_slice(text));
}

/// The numbers of texts, their form, and what is before and after each.
type Affixed<'v> = (Form, &'v [u8], &'v [u8], Vec<u64>);

/// Texts that are all a number between the same letters: `12ms`, `0x7f`, `worker3`.
fn affixed(values: &Values, len: usize) -> Option<Affixed<'_>> {
    let first = values.text(0);
    if let Some(body) = first.strip_prefix(b"0x") {
        let (width, mut upper) = (body.len(), None);
        if width == 0 || width > HEX_DIGITS_MAX {
            return None;
        }
        let mut numbers = Vec::with_capacity(len);
        for index in 0..len {
            let body = values.text(index).strip_prefix(b"0x").filter(|b| b.len() == width)?;
            let (number, case) = parse_hex(body)?;
            if upper.is_some() && case.is_some() && upper != case {
                return None;
            }
            upper = upper.or(case);
            numbers.push(number as u64);
        }
        let form = Form::Hex(width as u8, upper == Some(true));
        return Some((form, b"0x", b"", numbers));
    }
    let start = first.iter().position(u8::is_ascii_digit)?;
    let end = first.iter().rposition(u8::is_ascii_digit)? + 1;
    let (before, rest) = first.split_at_checked(start)?;
    let (body, after) = rest.split_at_checked(end - start)?;
    let (mut plain, mut same) = (true, true);
    let mut numbers = Vec::with_capacity(len);
    for index in 0..len {
        let digits = values.text(index).strip_prefix(before)?.strip_suffix(after)?;
        let fits = !digits.is_empty() && digits.len() <= DECIMAL_DIGITS_MAX;
        if !fits || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        plain &= is_plain(digits);
        same &= digits.len() == body.len();
        if !plain && !same {
            return None;
        }
        numbers.push(parse_digits(digits));
    }
    let form = if plain { Form::Decimal } else { Form::Padded(body.len() as u8) };
    Some((form, before, after, numbers))
}
