//! What a slot's value must be, decided on the values as they are stored.

use std::borrow::Cow;
use std::ops::Range;

use super::pen::{Short, digits_of, eight_decimals, eight_hex};
use super::slot::{Digits, Kind, Slot, Stored};
use super::tokens::UUID_BYTES;
use super::values::{
    DECIMAL_DIGITS_MAX, HEX_DIGITS_MAX, WIDE_DIGITS_MAX, parse_digits, parse_hex, parse_uuid,
    put_hex, put_uuid,
};
use crate::bits::{Ints, Mask};

/// Where a text must be in a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Where {
    /// It is the value.
    Whole,
    Start,
    End,
    Anywhere,
    /// From this byte on.
    At(usize),
}

/// A text that a value must hold somewhere.
#[derive(Clone, Debug)]
pub(super) struct Holds<'t> {
    pub(super) place: Where,
    pub(super) text: Cow<'t, [u8]>,
    /// The value is taken in lower case.
    pub(super) any_case: bool,
}

impl Holds<'_> {
    fn into_owned(self) -> Holds<'static> {
        Holds { text: Cow::Owned(self.text.into_owned()), ..self }
    }

    /// Whether a value passes.
    pub(super) fn test(&self, value: &[u8]) -> bool {
        if self.any_case && value.iter().any(u8::is_ascii_uppercase) {
            return self.test_as_is(&value.to_ascii_lowercase());
        }
        self.test_as_is(value)
    }

    fn test_as_is(&self, value: &[u8]) -> bool {
        let text = self.text.as_ref();
        match self.place {
            Where::Whole => value == text,
            Where::Start => value.starts_with(text),
            Where::End => value.ends_with(text),
            Where::Anywhere => {
                let first = text.first();
                let mut windows = value.windows(text.len().max(1));
                text.is_empty() || windows.any(|window| window.first() == first && window == text)
            }
            Where::At(from) => value.get(from..).is_some_and(|rest| rest.starts_with(text)),
        }
    }
}

/// A test of a slot's values.
#[derive(Clone, Debug)]
pub(super) enum Check {
    /// The code is one of these.
    Codes(Vec<bool>),
    /// The code is this.
    Code(u32),
    /// The number is this.
    Number(u64),
    /// The bytes as stored are these.
    Bytes(Vec<u8>),
    /// The value as text.
    Text(Holds<'static>),
}

/// Conditions on the slots of a template.
#[derive(Clone, Debug)]
pub(super) enum Tree {
    None,
    All,
    Slot(usize, Check),
    And(Vec<Tree>),
    Or(Vec<Tree>),
}

impl Tree {
    pub(super) fn and(parts: impl IntoIterator<Item = Tree>) -> Self {
        let mut kept = Vec::new();
        for part in parts {
            match part {
                Self::None => return Self::None,
                Self::All => {}
                part => kept.push(part),
            }
        }
        match kept.len() {
            0 => Self::All,
            1 => kept.swap_remove(0),
            _ => Self::And(kept),
        }
    }

    pub(super) fn or(parts: impl IntoIterator<Item = Tree>) -> Self {
        let mut kept = Vec::new();
        for part in parts {
            match part {
                Self::All => return Self::All,
                Self::None => {}
                part => kept.push(part),
            }
        }
        match kept.len() {
            0 => Self::None,
            1 => kept.swap_remove(0),
            _ => Self::Or(kept),
        }
    }

    /// The ordinals of a range for which it holds.
    pub(super) fn evaluate(
        &self,
        slots: &[Slot],
        stored: &[Stored],
        ordinals: &Range<usize>,
    ) -> Mask {
        match self {
            Self::None => Mask::none(ordinals.len()),
            Self::All => Mask::all(ordinals.len()),
            Self::Slot(at, check) => match (slots.get(*at), stored.get(*at)) {
                (Some(slot), Some(stored)) => check.evaluate(slot, stored, ordinals),
                _ => Mask::none(ordinals.len()),
            },
            Self::And(parts) => {
                let mut mask = Mask::all(ordinals.len());
                for part in parts {
                    mask.and(&part.evaluate(slots, stored, ordinals));
                    if mask.is_empty() {
                        break;
                    }
                }
                mask
            }
            Self::Or(parts) => {
                let mut mask = Mask::none(ordinals.len());
                parts.iter().for_each(|part| mask.or(&part.evaluate(slots, stored, ordinals)));
                mask
            }
        }
    }
}

/// What a slot's parameters alone say about a text that its values must hold.
pub(super) fn decide(at: usize, slot: &Slot, holds: Holds<'_>) -> Tree {
    let check = match &slot.kind {
        Kind::Const(text) => return if holds.test(text) { Tree::All } else { Tree::None },
        Kind::Words(words) => {
            if holds.place == Where::Whole && (!holds.any_case || words.is_lower()) {
                return match words.find(&holds.text) {
                    None => Tree::None,
                    Some(_) if words.len() == 1 => Tree::All,
                    Some(code) => Tree::Slot(at, Check::Code(code as u32)),
                };
            }
            if !words.may_hold(&holds) {
                return Tree::None;
            }
            let wanted: Vec<bool> = words.iter().map(|word| holds.test(word)).collect();
            match wanted.iter().filter(|wanted| **wanted).count() {
                0 => return Tree::None,
                all if all == wanted.len() => return Tree::All,
                _ => Check::Codes(wanted),
            }
        }
        Kind::Number { digits, before, after } => {
            if holds.place == Where::Whole && !holds.any_case {
                match number(*digits, before, after, &holds.text) {
                    Some(number) => Check::Number(number),
                    None => return Tree::None,
                }
            } else if !possible(*digits, before, after, &holds) {
                return Tree::None;
            } else {
                Check::Text(holds.into_owned())
            }
        }
        Kind::Wide { width, upper } => {
            if !holds.text.iter().all(u8::is_ascii_hexdigit) || holds.text.len() > (*width).into() {
                return Tree::None;
            }
            if holds.place == Where::Whole && !holds.any_case {
                match wide_bytes(*width, *upper, &holds.text) {
                    Some(bytes) => Check::Bytes(bytes),
                    None => return Tree::None,
                }
            } else {
                Check::Text(holds.into_owned())
            }
        }
        Kind::Uuid => {
            let fits = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-');
            if !holds.text.iter().all(fits) || holds.text.len() > UUID_BYTES {
                return Tree::None;
            }
            if holds.text.len() == UUID_BYTES {
                match uuid_bytes(&holds.text) {
                    Some(bytes) => Check::Bytes(bytes),
                    None => return Tree::None,
                }
            } else {
                Check::Text(holds.into_owned())
            }
        }
        Kind::Fixed(width) => {
            let shorter = holds.place == Where::Whole && holds.text.len() < *width;
            if shorter || holds.text.len() > *width {
                return Tree::None;
            }
            Check::Text(holds.into_owned())
        }
        Kind::Varied => Check::Text(holds.into_owned()),
    };
    Tree::Slot(at, check)
}

/// The number whose text is `text`, if the slot can hold it.
fn number(digits: Digits, before: &[u8], after: &[u8], text: &[u8]) -> Option<u64> {
    let body = text.strip_prefix(before)?.strip_suffix(after)?;
    let number = match digits {
        Digits::Decimal { least, most, .. } => {
            if body.len() > DECIMAL_DIGITS_MAX || !body.iter().all(u8::is_ascii_digit) {
                return None;
            }
            let number = parse_digits(body);
            (least..=most).contains(&number).then_some(number)?
        }
        Digits::Hex { .. } if body.len() > HEX_DIGITS_MAX => return None,
        Digits::Hex { .. } => parse_hex(body)?.0 as u64,
    };
    let mut again = Vec::with_capacity(body.len());
    digits.put(number, &mut again);
    (again == body).then_some(number)
}

/// Whether a number between affixes can hold the text at all.
fn possible(digits: Digits, before: &[u8], after: &[u8], holds: &Holds<'_>) -> bool {
    let text = holds.text.as_ref();
    let (letters, longest) = match digits {
        Digits::Decimal { width, most, .. } => {
            let longest = most.checked_ilog10().map_or(1, |log| log as usize + 1);
            (false, longest.max(width.into()))
        }
        Digits::Hex { width, .. } => (true, width.into()),
    };
    let longest = before.len() + longest + after.len();
    let fold = |byte: u8| if holds.any_case { byte.to_ascii_lowercase() } else { byte };
    let fits = |byte: &u8| {
        byte.is_ascii_digit()
            || letters && byte.is_ascii_hexdigit()
            || before.iter().chain(after).any(|affix| fold(*affix) == *byte)
    };
    text.len() <= longest && text.iter().all(fits)
}

fn wide_bytes(width: u8, upper: bool, text: &[u8]) -> Option<Vec<u8>> {
    let width = usize::from(width).min(WIDE_DIGITS_MAX);
    let (number, _) = parse_hex(text)?;
    let mut again = Vec::with_capacity(width);
    put_hex(number, width, upper, &mut again);
    let bytes = number.to_be_bytes();
    let stored = bytes.get(bytes.len() - width.div_ceil(2)..)?;
    (again == text).then(|| stored.to_vec())
}

fn uuid_bytes(text: &[u8]) -> Option<Vec<u8>> {
    let number = parse_uuid(text);
    let mut again = Vec::with_capacity(UUID_BYTES);
    put_uuid(number, &mut again);
    (again == text).then(|| number.to_be_bytes().to_vec())
}

impl Check {
    fn evaluate(&self, slot: &Slot, stored: &Stored, ordinals: &Range<usize>) -> Mask {
        let len = ordinals.len();
        match (self, stored) {
            (Self::Code(wanted), Stored::Codes(codes)) => codes.equal(*wanted, ordinals.clone()),
            (Self::Codes(wanted), Stored::Codes(codes)) => {
                // Most often one word is wanted, and that is the faster comparison.
                let mut codes_wanted = wanted.iter().enumerate().filter(|(_, wanted)| **wanted);
                match (codes_wanted.next(), codes_wanted.next()) {
                    (Some((only, _)), None) => codes.equal(only as u32, ordinals.clone()),
                    _ => codes.marked(wanted, ordinals.clone()),
                }
            }
            (Self::Number(wanted), Stored::Numbers(numbers)) => {
                numbers.equal(*wanted as i64, ordinals.clone())
            }
            (Self::Bytes(wanted), stored) => {
                stored.holding(wanted, ordinals, |value| value == wanted.as_slice())
            }
            (Self::Text(holds), Stored::Fixed { .. } | Stored::Varied { .. })
                if matches!(slot.kind, Kind::Fixed(_) | Kind::Varied) =>
            {
                if holds.any_case {
                    return Mask::collect(len, |at| holds.test(stored.bytes(ordinals.start + at)));
                }
                stored.holding(&holds.text, ordinals, |value| holds.test(value))
            }
            (Self::Text(holds), Stored::Numbers(numbers)) => {
                let Kind::Number { digits, before, after } = &slot.kind else {
                    return Mask::none(len);
                };
                if let Some(mask) = among_digits(*digits, [before, after], holds, numbers, ordinals)
                {
                    return mask;
                }
                let mut mask = Mask::none(len);
                let mut text = before.clone();
                numbers.for_each(ordinals.clone(), |first, piece| {
                    for (at, number) in piece.iter().enumerate() {
                        text.truncate(before.len());
                        digits.put(*number as u64, &mut text);
                        text.extend_from_slice(after);
                        if holds.test(&text) {
                            mask.set(first - ordinals.start + at);
                        }
                    }
                });
                mask
            }
            (Self::Text(holds), stored) => {
                let mut text = Vec::new();
                Mask::collect(len, |at| {
                    text.clear();
                    slot.render(stored, ordinals.start + at, &mut text);
                    holds.test(&text)
                })
            }
            _ => Mask::none(len),
        }
    }
}

/// Which numbers have a short text among their digits; none if that is not what is asked.
fn among_digits(
    digits: Digits,
    affixes: [&[u8]; 2],
    holds: &Holds<'_>,
    numbers: &Ints,
    ordinals: &Range<usize>,
) -> Option<Mask> {
    const EIGHT_DIGITS: u64 = 100_000_000;
    let affix = affixes.concat().iter().any(|byte| holds.text.contains(byte));
    if holds.place != Where::Anywhere || holds.any_case || affix {
        return None;
    }
    let short = Short::new(&holds.text)?;
    let mut mask = Mask::none(ordinals.len());
    let mut wide = false;
    match digits {
        Digits::Decimal { width, .. } if width <= 8 => {
            numbers.for_each(ordinals.clone(), |first, piece| {
                for (at, number) in piece.iter().enumerate() {
                    let number = *number as u64;
                    wide |= number >= EIGHT_DIGITS;
                    let len = digits_of(number).clamp(usize::from(width).max(1), 8);
                    if short.is_in(eight_decimals(number) >> (64 - 8 * len)) {
                        mask.set(first - ordinals.start + at);
                    }
                }
            });
        }
        Digits::Hex { width: width @ 1..=8, upper } => {
            numbers.for_each(ordinals.clone(), |first, piece| {
                for (at, number) in piece.iter().enumerate() {
                    let word = eight_hex(*number as u32, upper) >> (64 - 8 * u32::from(width));
                    if short.is_in(word) {
                        mask.set(first - ordinals.start + at);
                    }
                }
            });
        }
        _ => return None,
    }
    (!wide).then_some(mask)
}
