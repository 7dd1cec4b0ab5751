//! A mask in the making.

use super::Mask;

/// Bits appended one after the other.
#[derive(Debug)]
pub(crate) struct Words {
    done: Vec<u64>,
    now: u64,
    bits: usize,
}

impl Words {
    /// No bits, with room for `len`.
    pub(crate) fn new(len: usize) -> Self {
        Self { done: Vec::with_capacity(len.div_ceil(64)), now: 0, bits: 0 }
    }

    /// Appends a bit for each value: whether it passes `test`.
    pub(crate) fn append<T: Copy>(&mut self, piece: &[T], test: impl Fn(T) -> bool) {
        let (whole, rest) = piece.as_chunks::<64>();
        for values in whole {
            let mut flags = [0u8; 64];
            flags.iter_mut().zip(values).for_each(|(f, value)| *f = u8::from(test(*value)));
            let word = gathered(&flags);
            self.done.push(self.now | word << self.bits);
            self.now = word.checked_shr(64 - self.bits as u32).unwrap_or(0);
        }
        for value in rest {
            self.push(test(*value));
        }
    }

    /// Appends whole words.
    pub(crate) fn append_words(&mut self, words: &[u64]) {
        for word in words {
            self.done.push(self.now | word << self.bits);
            self.now = word.checked_shr(64 - self.bits as u32).unwrap_or(0);
        }
    }

    /// Appends the same bit so many times.
    pub(crate) fn append_same(&mut self, bit: bool, times: usize) {
        let mut left = times;
        while left > 0 && self.bits != 0 {
            self.push(bit);
            left -= 1;
        }
        let word = if bit { u64::MAX } else { 0 };
        self.done.extend(std::iter::repeat_n(word, left / 64));
        for _ in 0..left % 64 {
            self.push(bit);
        }
    }

    /// How many bits there are.
    pub(crate) fn len(&self) -> usize {
        self.done.len() * 64 + self.bits
    }

    fn push(&mut self, bit: bool) {
        self.now |= u64::from(bit) << self.bits;
        self.bits += 1;
        if self.bits == 64 {
            self.done.push(std::mem::take(&mut self.now));
            self.bits = 0;
        }
    }

    /// The bits as a mask.
    pub(crate) fn finish(mut self) -> Mask {
        let len = self.len();
        if self.bits > 0 {
            self.done.push(self.now);
        }
        Mask::from_words(self.done, len)
    }
}

/// Bits of flags that are 0 or 1.
fn gathered(flags: &[u8; 64]) -> u64 {
    /// Moves bit 0 of byte i to bit i of the highest byte.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let (eights, _) = flags.as_chunks::<8>();
    let bits = |eight: &[u8; 8]| u64::from_le_bytes(*eight).wrapping_mul(GATHER) >> 56;
    eights.iter().rev().fold(0, |word, eight| word << 8 | bits(eight))
}
