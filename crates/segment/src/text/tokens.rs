//! Where the tokens of a text are.
//!
//! A token is a maximal run of ASCII letters and digits; a lower-case UUID is one as a whole. All that
//! is between tokens is literal in any template, and so may be tokens without a digit.

/// Bytes of a UUID with its dashes.
pub(super) const UUID_BYTES: usize = 36;
/// Where its dashes are.
pub(super) const UUID_DASHES: [usize; 4] = [8, 13, 18, 23];

/// A token in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) shape: Shape,
}

/// What a token looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Letters alone.
    Word,
    /// At least one digit.
    Number,
    /// A UUID in lower case.
    Uuid,
}

/// Puts the tokens of `text` into `spans`.
pub(super) fn split(text: &[u8], spans: &mut Vec<Span>) {
    spans.clear();
    let mut start = 0;
    while let Some(rest) = text.get(start..) {
        let Some(gap) = rest.iter().position(u8::is_ascii_alphanumeric) else { break };
        start += gap;
        let run = rest.get(gap..).unwrap_or_default();
        let run = run.split(|byte| !byte.is_ascii_alphanumeric()).next().unwrap_or_default();
        let (mut end, mut shape) = (start + run.len(), Shape::Word);
        if run.len() == 8 && is_uuid(text, start) {
            (end, shape) = (start + UUID_BYTES, Shape::Uuid);
        } else if run.iter().any(u8::is_ascii_digit) {
            shape = Shape::Number;
        }
        spans.push(Span { start, end, shape });
        start = end;
    }
}

/// The top bit of each byte.
pub(super) const TOP: u64 = 0x8080_8080_8080_8080;

/// Of eight bytes, the top bits of those that are letters or digits, and of those that are digits.
pub(super) fn classes(word: u64) -> (u64, u64) {
    const ONES: u64 = 0x0101_0101_0101_0101;
    // A byte plus (0x80 - low) reaches its top bit from `low` on.
    let seven = word & !TOP;
    let small = seven | (0x20 * ONES);
    let digits = (seven + (0x80 - 0x30) * ONES) & !(seven + (0x80 - 0x3a) * ONES);
    let letters = (small + (0x80 - 0x61) * ONES) & !(small + (0x80 - 0x7b) * ONES);
    let digits = digits & !word & TOP;
    (letters & !word & TOP | digits, digits)
}

/// Whether the run that begins at `start` begins a UUID, and the UUID ends with a run.
pub(super) fn is_uuid(text: &[u8], start: usize) -> bool {
    let Some(id) = text.get(start..start + UUID_BYTES) else { return false };
    text.get(start + UUID_BYTES).is_none_or(|next| !next.is_ascii_alphanumeric())
        && id.iter().enumerate().all(|(at, byte)| {
            if UUID_DASHES.contains(&at) {
                *byte == b'-'
            } else {
                matches!(byte, b'0'..=b'9' | b'a'..=b'f')
            }
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bytes_are_of_their_classes(bytes in any::<[u8; 8]>()) {
            let (alnum, digit) = classes(u64::from_le_bytes(bytes));
            for (at, byte) in bytes.iter().enumerate() {
                prop_assert_eq!(alnum >> (8 * at + 7) & 1 == 1, byte.is_ascii_alphanumeric());
                prop_assert_eq!(digit >> (8 * at + 7) & 1 == 1, byte.is_ascii_digit());
            }
        }

        #[test]
        fn between_tokens_is_no_letter_and_no_digit(
            pieces in proptest::collection::vec(
                prop_oneof![
                    "[a-z]{0,40}", "[0-9]{1,70}", "[ -~]{0,9}", Just("é".to_owned()), Just("\0".to_owned()),
                    Just("c1356168-b896-4634-91f1-026a2900aa6c".to_owned()),
                ],
                0..12,
            ),
        ) {
            let text = pieces.concat();
            let mut spans = Vec::new();
            split(text.as_bytes(), &mut spans);
            let mut at = 0;
            for span in &spans {
                let token = &text.as_bytes()[span.start..span.end];
                let between = &text.as_bytes()[at..span.start];
                prop_assert!(!between.iter().any(u8::is_ascii_alphanumeric));
                if span.shape == Shape::Uuid {
                    prop_assert_eq!(token.len(), UUID_BYTES);
                } else {
                    prop_assert!(token.iter().all(u8::is_ascii_alphanumeric) && !token.is_empty());
                    let digits = token.iter().any(u8::is_ascii_digit);
                    prop_assert_eq!(span.shape == Shape::Number, digits);
                }
                let next = text.as_bytes().get(span.end);
                prop_assert!(next.is_none_or(|byte| !byte.is_ascii_alphanumeric()));
                at = span.end;
            }
            prop_assert!(!text.as_bytes()[at..].iter().any(u8::is_ascii_alphanumeric));
        }
    }
}
