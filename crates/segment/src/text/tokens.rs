//! Where the slots of a text are.
//!
//! A token is a maximal run of ASCII letters and digits. One with a digit in it is a slot, and so is
//! a lower-case UUID as a whole. Everything else is literal: no literal holds a digit.

/// Bytes of a UUID with its dashes.
pub(super) const UUID_BYTES: usize = 36;
/// Where its dashes are.
pub(super) const UUID_DASHES: [usize; 4] = [8, 13, 18, 23];

/// A slot in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) shape: Shape,
}

/// What a slot looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Digits alone.
    Digits,
    /// Letters and at least one digit.
    Mixed,
    /// A UUID in lower case.
    Uuid,
}

/// Finds slots; keeps its buffers.
#[derive(Default)]
pub(super) struct Tokens {
    alnum: Vec<u64>,
    digit: Vec<u64>,
    pub(super) spans: Vec<Span>,
}

impl Tokens {
    /// Finds the slots of `text` and puts them into `spans`. Stops after `most` of them and says so
    /// with `false`.
    pub(super) fn split(&mut self, text: &[u8], most: usize) -> bool {
        self.classify(text);
        self.spans.clear();
        let mut open = 0;
        let mut skip = 0;
        for at in 0..self.alnum.len() {
            let (Some(&alnum), Some(&digit)) = (self.alnum.get(at), self.digit.get(at)) else {
                break;
            };
            let base = at * 64;
            let mut left = digit;
            if skip > base {
                left = if skip >= base + 64 { 0 } else { left & (u64::MAX << (skip - base)) };
            }
            while left != 0 {
                let bit = left.trailing_zeros();
                let below = (1u64 << bit) - 1;
                let gaps = !alnum & below;
                let start =
                    if gaps == 0 { open } else { base + 64 - gaps.leading_zeros() as usize };
                let after = !alnum & !below;
                let mut end = match after {
                    0 => self.run_end(at + 1, text.len()),
                    after => base + after.trailing_zeros() as usize,
                };
                let shape = if end - start == 8 && is_uuid(text, start) {
                    end = start + UUID_BYTES;
                    Shape::Uuid
                } else if self.all_digits(text, start, end) {
                    Shape::Digits
                } else {
                    Shape::Mixed
                };
                if self.spans.len() >= most {
                    return false;
                }
                self.spans.push(Span { start: start as u32, end: end as u32, shape });
                if end >= base + 64 {
                    break;
                }
                left &= u64::MAX << (end - base);
            }
            skip = self.spans.last().map_or(0, |span| span.end as usize);
            if alnum != u64::MAX {
                open = base + 64 - alnum.leading_ones() as usize;
            }
        }
        true
    }

    /// Where the run that reaches word `from` ends.
    fn run_end(&self, from: usize, len: usize) -> usize {
        let rest = self.alnum.get(from..).unwrap_or_default();
        match rest.iter().position(|word| *word != u64::MAX) {
            Some(at) => (from + at) * 64 + rest.get(at).map_or(0, |w| w.trailing_ones()) as usize,
            None => len,
        }
    }

    fn all_digits(&self, text: &[u8], start: usize, end: usize) -> bool {
        let (word, last) = (start / 64, (end - 1) / 64);
        if word == last {
            let mask = (u64::MAX >> (63 - (end - 1) % 64)) & (u64::MAX << (start % 64));
            return self.digit.get(word).is_some_and(|digit| digit & mask == mask);
        }
        text.get(start..end).is_some_and(|token| token.iter().all(u8::is_ascii_digit))
    }

    fn classify(&mut self, text: &[u8]) {
        self.alnum.clear();
        self.digit.clear();
        let (whole, rest) = text.as_chunks::<64>();
        for chunk in whole {
            let (alnum, digit) = classes(chunk);
            self.alnum.push(alnum);
            self.digit.push(digit);
        }
        if !rest.is_empty() {
            let mut padded = [0u8; 64];
            padded.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            let (alnum, digit) = classes(&padded);
            self.alnum.push(alnum);
            self.digit.push(digit);
        }
    }
}

/// One bit per byte: whether it is a letter or digit, and whether it is a digit.
fn classes(chunk: &[u8; 64]) -> (u64, u64) {
    const TOP: u64 = 0x8080_8080_8080_8080;
    const ONES: u64 = 0x0101_0101_0101_0101;
    let (mut alnum, mut digit) = (0, 0);
    let (words, _) = chunk.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // The top bits stand for the answers: a byte plus (0x80 - low) reaches 0x80 from `low` on.
        let seven = word & !TOP;
        let small = seven | (0x20 * ONES);
        let digits = (seven + (0x80 - 0x30) * ONES) & !(seven + (0x80 - 0x3a) * ONES);
        let letters = (small + (0x80 - 0x61) * ONES) & !(small + (0x80 - 0x7b) * ONES);
        let digits = digits & !word & TOP;
        let both = letters & !word & TOP | digits;
        digit |= gather(digits) << (at * 8);
        alnum |= gather(both) << (at * 8);
    }
    (alnum, digit)
}

/// The top bits of eight bytes as the lowest eight bits.
fn gather(tops: u64) -> u64 {
    (tops >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
}

fn is_uuid(text: &[u8], start: usize) -> bool {
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

    fn naive(text: &[u8]) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        let mut at = 0;
        while at < text.len() {
            let run = text[at..].iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
            if run == 0 {
                at += 1;
                continue;
            }
            let mut end = at + run;
            if text[at..end].iter().any(u8::is_ascii_digit) {
                if run == 8 && is_uuid(text, at) {
                    end = at + UUID_BYTES;
                }
                found.push((at, end));
            }
            at = end;
        }
        found
    }

    proptest! {
        #[test]
        fn slots_are_the_runs_with_a_digit(
            pieces in proptest::collection::vec(
                prop_oneof![
                    "[a-z]{0,40}", "[0-9]{1,70}", "[ -~]{0,9}", Just("é".to_owned()), Just("\0".to_owned()),
                    Just("c1356168-b896-4634-91f1-026a2900aa6c".to_owned()),
                ],
                0..12,
            ),
        ) {
            let text = pieces.concat();
            let mut tokens = Tokens::default();
            prop_assert!(tokens.split(text.as_bytes(), usize::MAX));
            let found: Vec<(usize, usize)> =
                tokens.spans.iter().map(|s| (s.start as usize, s.end as usize)).collect();
            prop_assert_eq!(found, naive(text.as_bytes()));
            for span in &tokens.spans {
                let token = &text.as_bytes()[span.start as usize..span.end as usize];
                prop_assert_eq!(
                    span.shape == Shape::Digits, token.iter().all(u8::is_ascii_digit)
                );
            }
        }
    }
}
