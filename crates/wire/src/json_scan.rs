//! Runs of bytes that need no look each: the inside of JSON texts and the blank space between.
//!
//! Invariant: what is found in strides is what would be found byte by byte.

/// Bytes at the front of `bytes` that neither end a JSON text nor need care in it: all up to the
/// first quote, backslash or control character.
#[inline]
pub(crate) fn plain_run(bytes: &[u8]) -> usize {
    let (strides, _) = bytes.as_chunks::<STRIDE>();
    let mut run = 0;
    for stride in strides {
        let special = specials(stride);
        if special != 0 {
            return run + special.trailing_zeros() as usize / 8;
        }
        run += STRIDE;
    }
    let tail = bytes.get(run..).unwrap_or_default();
    run + tail.iter().position(|&b| is_special(b)).unwrap_or(tail.len())
}

#[inline]
fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// Bytes of JSON's blank space at the front of `bytes`.
pub(crate) fn space_run(bytes: &[u8]) -> usize {
    let is_space = |b: &u8| matches!(b, b' ' | b'\t' | b'\n' | b'\r');
    bytes.iter().position(|b| !is_space(b)).unwrap_or(bytes.len())
}

/// Bytes looked at in one step: a machine word.
const STRIDE: usize = 8;

/// A bit in the highest place of each special byte. Above the first one there may be bits too many,
/// where a subtraction borrowed; the first one is right.
#[inline]
fn specials(stride: &[u8; STRIDE]) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; STRIDE]);
    const TOPS: u64 = ONES << 7;
    const QUOTES: u64 = ONES * b'"' as u64;
    const BACKSLASHES: u64 = ONES * b'\\' as u64;
    const SPACES: u64 = ONES * 0x20;
    let bytes = u64::from_le_bytes(*stride);
    let (quote, backslash) = (bytes ^ QUOTES, bytes ^ BACKSLASHES);
    let control = bytes.wrapping_sub(SPACES) & !bytes;
    let quote = quote.wrapping_sub(ONES) & !quote;
    let backslash = backslash.wrapping_sub(ONES) & !backslash;
    (control | quote | backslash) & TOPS
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn strides_find_what_single_bytes_find(
            bytes in proptest::collection::vec(
                prop_oneof![9 => b'a'..=b'c', 1 => any::<u8>()], 0..100,
            ),
        ) {
            let plain = bytes.iter().take_while(|b| !is_special(**b)).count();
            prop_assert_eq!(plain_run(&bytes), plain);
        }
    }
}
