//! Texts written in pieces of 8 and 16 bytes, so that short ones take no call to copy them.
//!
//! A piece may be written beyond its end: what is there is written later, or cut off in the end.

/// Room behind the text for pieces that are written beyond it.
const SLACK_BYTES: usize = 64;
/// Bytes by which the room grows at least.
const STEP_BYTES: usize = 16 << 10;
const PIECE_BYTES: usize = 16;
const EIGHT_DIGITS: u64 = 100_000_000;

/// Appends to a text.
pub(super) struct Pen<'o> {
    out: &'o mut Vec<u8>,
    at: usize,
}

impl<'o> Pen<'o> {
    pub(super) fn new(out: &'o mut Vec<u8>) -> Self {
        Self { at: out.len(), out }
    }

    /// Where the text ends.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Makes room for so many bytes.
    pub(super) fn reserve(&mut self, bytes: usize) {
        let end = self.at + bytes + SLACK_BYTES;
        if end > self.out.len() {
            let step = STEP_BYTES.max(self.out.len() / 2);
            self.out.resize(end + step, 0);
        }
    }

    /// Cuts off what is written beyond the end.
    pub(super) fn finish(self) -> usize {
        self.out.truncate(self.at);
        self.at
    }

    /// Appends the first `len` bytes; what comes after them may be read, too.
    pub(super) fn text(&mut self, text: &[u8], len: usize) {
        let mut done = 0;
        while done < len {
            let from = text.get(done..).and_then(|rest| rest.first_chunk::<PIECE_BYTES>());
            let to = self.out.get_mut(self.at + done..);
            let to = to.and_then(|rest| rest.first_chunk_mut::<PIECE_BYTES>());
            match (from, to) {
                (Some(from), Some(to)) => *to = *from,
                _ => {
                    let from = text.get(done..len).unwrap_or_default();
                    if let Some(to) = self.out.get_mut(self.at + done..self.at + done + from.len())
                    {
                        to.copy_from_slice(from);
                    }
                    break;
                }
            }
            done += PIECE_BYTES;
        }
        self.at += len;
    }

    fn eight(&mut self, digits: u64, len: usize) {
        let to = self.out.get_mut(self.at..).and_then(|rest| rest.first_chunk_mut::<8>());
        if let Some(to) = to {
            *to = digits.to_le_bytes();
        }
        self.at += len;
    }

    /// Appends a number with at least `width` digits, at most 20.
    pub(super) fn decimal(&mut self, number: u64, width: usize) {
        if number < EIGHT_DIGITS && width <= 8 {
            let len = digits_of(number).max(width);
            return self.eight(eight_decimals(number) >> (64 - 8 * len), len);
        }
        let width = width.saturating_sub(8).max(1);
        self.decimal(number / EIGHT_DIGITS, width);
        self.eight(eight_decimals(number % EIGHT_DIGITS), 8);
    }

    /// Appends the last `width` hex digits of a number, at most 32.
    pub(super) fn hex(&mut self, number: u128, width: usize, upper: bool) {
        let mut left = width.min(32);
        while left > 0 {
            let len = if left.is_multiple_of(8) { 8 } else { left % 8 };
            left -= len;
            let digits = eight_hex((number >> (4 * left)) as u32, upper);
            self.eight(digits >> (64 - 8 * len), len);
        }
    }

    /// Appends a UUID in lower case.
    pub(super) fn uuid(&mut self, number: u128) {
        for (shift, width) in [(96, 8), (80, 4), (64, 4), (48, 4), (0, 12)] {
            if shift < 96 {
                self.eight(u64::from(b'-'), 1);
            }
            self.hex(number >> shift, width, false);
        }
    }
}

/// How many digits a number has.
pub(super) fn digits_of(number: u64) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

/// The eight decimal digits of a number below 10^8 as text, the first one in the lowest byte.
pub(super) fn eight_decimals(number: u64) -> u64 {
    let (high, low) = (number / 10_000, number % 10_000);
    // Halves, then quarters, then digits, each in its part of the word.
    let halves = high | low << 32;
    let tops = (halves.wrapping_mul(10_486) >> 20) & 0x7f_0000_007f;
    let quarters = tops | halves.wrapping_sub(tops.wrapping_mul(100)) << 16;
    let tens = (quarters.wrapping_mul(103) >> 10) & 0x000f_000f_000f_000f;
    let digits = tens | quarters.wrapping_sub(tens.wrapping_mul(10)) << 8;
    digits | 0x3030_3030_3030_3030
}

/// The eight hex digits of a number as text, the first one in the lowest byte.
pub(super) fn eight_hex(number: u32, upper: bool) -> u64 {
    let number = u64::from(number);
    let halves = number >> 16 | (number & 0xffff) << 32;
    let quarters = (halves >> 8 & 0xff_0000_00ff) | (halves & 0xff_0000_00ff) << 16;
    let digits = (quarters >> 4 & 0x000f_000f_000f_000f) | (quarters & 0x000f_000f_000f_000f) << 8;
    let letters = (digits + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
    let gap = if upper { b'A' - b'9' - 1 } else { b'a' - b'9' - 1 };
    digits + 0x3030_3030_3030_3030 + letters * u64::from(gap)
}

/// The bytes of a word that are 0 have their highest bit set.
fn zeros(word: u64) -> u64 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    !(((word & LOW) + LOW) | word | LOW)
}

/// A text of at most 8 bytes, to be found in words of 8 bytes.
pub(super) struct Short {
    bytes: [u64; 8],
    len: usize,
}

impl Short {
    pub(super) fn new(text: &[u8]) -> Option<Self> {
        if text.is_empty() || text.len() > 8 {
            return None;
        }
        let mut bytes = [0; 8];
        let every = |byte: &u8| u64::from(*byte) * 0x0101_0101_0101_0101;
        bytes.iter_mut().zip(text).for_each(|(to, byte)| *to = every(byte));
        Some(Self { bytes, len: text.len() })
    }

    /// Whether it occurs in a word; behind its last byte the word is 0.
    pub(super) fn is_in(&self, word: u64) -> bool {
        let bytes = self.bytes.iter().take(self.len).zip(0u32..);
        bytes.fold(u64::MAX, |at, (byte, no)| at & zeros(word ^ byte) >> (8 * no)) != 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_are_written_as_they_are_printed(
            numbers in proptest::collection::vec((any::<u128>(), 0u32..128), 1..40),
            text in "[ -~]{0,70}",
        ) {
            let (mut out, mut expected) = (Vec::new(), String::new());
            let mut pen = Pen::new(&mut out);
            for (number, shift) in numbers {
                let number = number >> shift;
                let small = number as u64;
                pen.reserve(400);
                pen.decimal(small, 1);
                pen.text(text.as_bytes(), text.len());
                pen.decimal(small, 5);
                pen.decimal(small % 1000, 19);
                pen.hex(number, 32, true);
                pen.hex(u128::from(small as u32), 8, false);
                pen.hex(u128::from(small & 0xfffff), 5, false);
                expected += &format!(
                    "{small}{text}{small:05}{:019}{number:032X}{:08x}{:05x}",
                    small % 1000, small as u32, small & 0xfffff,
                );
            }
            prop_assert_eq!(pen.finish(), expected.len());
            prop_assert_eq!(String::from_utf8(out).expect("is text"), expected);
        }

        #[test]
        fn short_texts_are_found(word in "[0-3]{0,8}", text in "[0-3]{1,8}") {
            let mut bytes = [0; 8];
            bytes.iter_mut().zip(word.as_bytes()).for_each(|(to, byte)| *to = *byte);
            let short = Short::new(text.as_bytes()).expect("is short");
            prop_assert_eq!(short.is_in(u64::from_le_bytes(bytes)), word.contains(&text));
        }
    }
}
