//! Numbers of payment cards in text.
//!
//! A card number is 13 to 19 digits with the length and the first digits of an issuer and a right
//! Luhn sum, written in one run or in the groups that are printed on cards (4-4-4-4, 4-6-5, …) with
//! one blank or hyphen between them. What is part of a longer run of digits, of a word or of a
//! decimal fraction is another number. One in thirty of all numbers of 16 digits passes for a card
//! number; of timestamps and UUIDs none does.

use std::ops::Range;

/// Fewest digits of a card number.
pub const DIGITS_MIN: usize = 13;
/// Most digits of a card number.
const DIGITS_MAX: usize = 19;
/// Groups in which card numbers are written, longest first.
const GROUPINGS: [&[usize]; 9] = [
    &[4, 4, 4, 4, 3],
    &[4, 4, 4, 4, 2],
    &[4, 4, 4, 4, 1],
    &[4, 4, 4, 4],
    &[6, 13],
    &[4, 6, 5],
    &[4, 6, 4],
    &[4, 4, 5],
    &[4, 3, 3, 3],
];

/// First digits (from, to) of an issuer and the lengths of its numbers (from, to).
const ISSUERS: [(u32, u32, usize, usize); 24] = [
    (2200, 2204, 16, 16), // Mir
    (2221, 2720, 16, 16), // Mastercard
    (300, 305, 14, 14),   // Diners Club
    (3095, 3095, 14, 14),
    (34, 34, 15, 15), // American Express
    (37, 37, 15, 15),
    (3528, 3589, 16, 16), // JCB
    (36, 36, 14, 14),     // Diners Club
    (38, 39, 14, 14),
    (4, 4, 13, 13), // Visa
    (4, 4, 16, 16),
    (5018, 5018, 13, 19), // Maestro
    (5020, 5020, 13, 19),
    (5038, 5038, 13, 19),
    (51, 55, 16, 16), // Mastercard
    (5893, 5893, 13, 19),
    (6011, 6011, 16, 16), // Discover
    (62, 62, 16, 19),     // UnionPay
    (6304, 6304, 13, 19),
    (644, 649, 16, 16),
    (65, 65, 16, 16),
    (6759, 6759, 13, 19),
    (6761, 6763, 13, 19),
    (81, 81, 16, 16),
];

/// Calls `each` with the place of every run of digits and separators that is long enough to hold a
/// card number. Looks at one byte of twelve where there are none.
pub fn for_each_run(text: &[u8], mut each: impl FnMut(Range<usize>)) {
    let part_of_run = |b: &u8| b.is_ascii_digit() || matches!(b, b' ' | b'-');
    let mut at = DIGITS_MIN - 1;
    let mut behind = 0;
    while let Some(byte) = text.get(at) {
        if !part_of_run(byte) {
            at += DIGITS_MIN - 1;
            continue;
        }
        let before = text.get(behind..at).unwrap_or_default();
        let start = at - before.iter().rev().take_while(|b| part_of_run(b)).count();
        let after = text.get(at..).unwrap_or_default();
        let end = at + after.iter().take_while(|b| part_of_run(b)).count();
        let run = text.get(start..end).unwrap_or_default();
        if run.len() >= DIGITS_MIN
            && run.iter().filter(|b| b.is_ascii_digit()).count() >= DIGITS_MIN
        {
            each(start..end);
        }
        behind = end;
        at = end + DIGITS_MIN - 1;
    }
}

/// Calls `each` with the place of every card number in `text`; places may overlap.
pub fn find(text: &[u8], mut each: impl FnMut(Range<usize>)) {
    for_each_run(text, |run| find_in_run(text, run, &mut each));
}

/// Whether the decimal digits of `value` are a card number.
pub fn is_card_number(value: u64) -> bool {
    if value < 1_000_000_000_000 {
        return false;
    }
    let mut digits = [0u8; 20];
    let mut rest = value;
    let mut from = digits.len();
    while rest > 0 {
        from -= 1;
        if let Some(digit) = digits.get_mut(from) {
            *digit = b'0' + (rest % 10) as u8;
        }
        rest /= 10;
    }
    is_card(digits.get(from..).unwrap_or_default(), false)
}

fn find_in_run(text: &[u8], run: Range<usize>, each: &mut impl FnMut(Range<usize>)) {
    let bytes = text.get(run.clone()).unwrap_or_default();
    let mut groups: Vec<Range<usize>> = Vec::with_capacity(8);
    let mut at = run.start;
    for group in bytes.split(|byte| !byte.is_ascii_digit()) {
        if !group.is_empty() {
            groups.push(at..at + group.len());
        }
        at += group.len() + 1;
    }
    // Groups before a number may seem to begin one with it, so every group is tried.
    for next in 0..groups.len() {
        if let Some(place) = groups.get(next..).and_then(|rest| card_at(text, rest)) {
            each(place);
        }
    }
}

/// The place of the card number that begins with the first of `groups`.
fn card_at(text: &[u8], groups: &[Range<usize>]) -> Option<Range<usize>> {
    let first = groups.first()?;
    if (DIGITS_MIN..=DIGITS_MAX).contains(&first.len()) {
        let digits = text.get(first.clone())?;
        return (is_card(digits, false) && stands_alone(text, first)).then(|| first.clone());
    }
    GROUPINGS.iter().find_map(|grouping| {
        let taken = groups.get(..grouping.len())?;
        if !taken.iter().zip(*grouping).all(|(group, length)| group.len() == *length) {
            return None;
        }
        let place = first.start..taken.last()?.end;
        let separator = text.get(first.end)?;
        let joined = |(a, b): (&Range<usize>, &Range<usize>)| {
            b.start == a.end + 1 && text.get(a.end) == Some(separator)
        };
        if !taken.iter().zip(taken.iter().skip(1)).all(joined) {
            return None;
        }
        let written = text.get(place.clone())?;
        let digits: Vec<u8> = written.iter().copied().filter(u8::is_ascii_digit).collect();
        (is_card(&digits, true) && stands_alone(text, &place)).then_some(place)
    })
}

/// Whether a number is not part of a word or of a decimal fraction.
fn stands_alone(text: &[u8], place: &Range<usize>) -> bool {
    let at = |at: Option<usize>| at.and_then(|at| text.get(at)).copied().unwrap_or(b' ');
    let before = at(place.start.checked_sub(1));
    let before_that = at(place.start.checked_sub(2));
    let (after, after_that) = (at(Some(place.end)), at(Some(place.end + 1)));
    // `blk_-4980916519894289629` and `id_4…` are names.
    let in_name = before == b'_' || after == b'_' || (before == b'-' && before_that == b'_');
    let fraction = before == b'.' && before_that.is_ascii_digit();
    let has_fraction = after == b'.' && after_that.is_ascii_digit();
    !in_name
        && !before.is_ascii_alphanumeric()
        && !after.is_ascii_alphanumeric()
        && !fraction
        && !has_fraction
}

fn is_card(digits: &[u8], is_grouped: bool) -> bool {
    (DIGITS_MIN..=DIGITS_MAX).contains(&digits.len())
        && is_issued(digits, is_grouped)
        && luhn(digits)
}

/// Whether an issuer has such numbers. More than 16 digits are rare on cards and frequent in
/// identifiers, so most issuers' count only in the groups of a card.
fn is_issued(digits: &[u8], is_grouped: bool) -> bool {
    let head = digits.iter().take(4).fold(0u32, |head, b| head * 10 + u32::from(b - b'0'));
    ISSUERS.iter().any(|&(from, to, shortest, longest)| {
        let scale = 10u32.pow(4 - from.ilog10() - 1);
        let longest = if is_grouped && longest >= 16 { DIGITS_MAX } else { longest };
        (from..=to).contains(&(head / scale)) && (shortest..=longest).contains(&digits.len())
    })
}

/// The sum of ISO/IEC 7812-1: every second digit from the right is doubled.
fn luhn(digits: &[u8]) -> bool {
    let digit = |(at, byte): (usize, &u8)| {
        let value = u32::from(byte - b'0');
        match at % 2 {
            1 if value > 4 => value * 2 - 9,
            1 => value * 2,
            _ => value,
        }
    };
    digits.iter().rev().enumerate().map(digit).sum::<u32>() % 10 == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<&str> {
        let mut found = Vec::new();
        find(text.as_bytes(), |place| found.push(&text[place]));
        found
    }

    #[test]
    fn card_numbers_are_found_however_they_are_written() {
        for (text, expected) in [
            ("4111111111111111", "4111111111111111"),
            ("pan=4111 1111 1111 1111.", "4111 1111 1111 1111"),
            ("pan=4111-1111-1111-1111,", "4111-1111-1111-1111"),
            ("id 42 5555555555554444 7", "5555555555554444"),
            ("2026-11-23 4111 1111 1111 1111 paid", "4111 1111 1111 1111"),
            ("exp 2712 4111 1111 1111 1111 ok", "4111 1111 1111 1111"),
            ("amex 3782 822463 10005", "3782 822463 10005"),
            ("378282246310005", "378282246310005"),
            ("diners 30569309025904", "30569309025904"),
            ("6011111111111117", "6011111111111117"),
            ("jcb:3530111333300000", "3530111333300000"),
            ("2223003122003222", "2223003122003222"),
            ("visa13 4222222222222", "4222222222222"),
            ("unionpay 6250941006528599", "6250941006528599"),
            (";4111111111111111=2512", "4111111111111111"),
            ("visa19 4917 6100 0000 0000 003", "4917 6100 0000 0000 003"),
            ("card-4111111111111111", "4111111111111111"),
            ("\"4111111111111111\"", "4111111111111111"),
        ] {
            assert_eq!(found(text), [expected], "{text}");
        }
        assert_eq!(found("4111111111111111 4111-1111-1111-1111").len(), 2);
    }

    #[test]
    fn other_numbers_are_left_alone() {
        for text in [
            "4111111111111112",                          // wrong sum
            "1111111111111117",                          // no issuer
            "41111111111111111111",                      // too long
            "a4111111111111111",                         // part of a word
            "4111111111111111f",                         //
            "0.4111111111111111",                        // a fraction
            "4111111111111111.25",                       //
            "blk_-4111111111111111 id_4111111111111111", // part of a name
            "4917610000000000003",                       // as long as identifiers are
            "4111 1111-1111 1111",                       // mixed separators
            "411111 1111 1111 11",                       // no card is written so
            "1763924129123456789",                       // nanoseconds
            "1763924129123",                             // milliseconds
            "2026-11-23 18:55:29,123 4 4 4 4",           //
            "550e8400-e29b-41d4-a716-446655440000",      //
            "+49 171 1234567 192.168.100.200",           //
            "",
        ] {
            assert_eq!(found(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn integers_are_looked_at_by_their_digits() {
        assert!(is_card_number(4_111_111_111_111_111));
        for other in [0, 42, 4_111_111_111_111_112, 1_763_924_129_123, u64::MAX] {
            assert!(!is_card_number(other), "{other}");
        }
    }
}
