//! Numbers as text that are the very text their value prints as.
//!
//! Invariant: `int` and `float` only answer for a text that is the one text form of the answer, see
//! [`crate::schema::value_text`].

use crate::schema::float_text;

/// Largest exponent of ten that a float holds exactly and that is needed here.
const POWERS: [f64; 16] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

/// Digits that a float always tells apart.
const DIGITS_MAX: usize = 15;

/// The integer that prints as `text`.
pub(super) fn int(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical = match digits {
        [b'0'] => digits.len() == text.len(),
        [b'1'..=b'9', rest @ ..] => rest.len() < 19 && rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !canonical {
        return None;
    }
    if digits.len() == 19 {
        return std::str::from_utf8(text).ok()?.parse().ok();
    }
    let size = digits.iter().fold(0i64, |sum, b| sum * 10 + i64::from(b - b'0'));
    Some(if digits.len() < text.len() { -size } else { size })
}

/// The float that prints as `text`.
pub(super) fn float(text: &str) -> Option<f64> {
    short_decimal(text.as_bytes()).or_else(|| {
        let float = text.parse::<f64>().ok()?;
        (float.is_finite() && float_text(float) == text).then_some(float)
    })
}

/// A decimal of at most 15 digits, with a fraction that does not end in zero. No two of these are
/// the same float, so each is the shortest text of its own; and a quotient of two floats that are
/// exact is rounded once, as parsing would (Clinger, "How to read floating point numbers
/// accurately", 1990).
fn short_decimal(text: &[u8]) -> Option<f64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    if digits.len() > DIGITS_MAX + 1 {
        return None;
    }
    let (mut size, mut point) = (0u64, None);
    for (at, &byte) in digits.iter().enumerate() {
        match byte {
            b'0'..=b'9' => size = size * 10 + u64::from(byte - b'0'),
            b'.' if point.is_none() => point = Some(at),
            _ => return None,
        }
    }
    let point = point?;
    let canonical_head = point == 1 || (point > 1 && digits.first() != Some(&b'0'));
    let fraction = digits.len() - point - 1;
    if !canonical_head || fraction == 0 || digits.last() == Some(&b'0') {
        return None;
    }
    let value = size as f64 / POWERS.get(fraction)?;
    Some(if digits.len() < text.len() { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_number_is_taken_only_if_it_prints_the_same(
            text in "-?(0|[1-9][0-9]{0,18}|[0-9]{1,4})([.][0-9]{0,17})?(e-?[0-9])?",
        ) {
            let slow = text.parse::<f64>().ok().filter(|f| f.is_finite() && float_text(*f) == text);
            prop_assert_eq!(float(&text), slow);
            if let Some(value) = float(&text) {
                prop_assert_eq!(float_text(value), text.clone());
            }
            let whole = text.parse::<i64>().ok().filter(|i| i.to_string() == text);
            prop_assert_eq!(int(text.as_bytes()), whole);
        }
    }
}
