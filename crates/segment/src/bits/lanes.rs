//! Bit-packing of numbers below 2^32, laid out so that a compiler turns it into vector code.
//!
//! ```text
//!  1,024 values of w bits: 32 lanes of 32 values; value i is value i / 32 of lane i % 32.
//!  A lane is w words of 32 bits, its values from the least significant bit on;
//!  word k of lane l is at byte (32 k + l) * 4, little-endian.  A group is 128 w bytes.
//!  The values after the last whole group follow one after the other, from the least significant bit
//!  on, in as many bytes as they need.
//! ```
//!
//! Invariant: nothing here panics or reads beyond its slice, whatever the bytes are.

use std::ops::Range;

use super::Words;

/// Values of a whole group.
pub(crate) const GROUP: usize = 1024;
/// Lanes of a group.
const LANES: usize = 32;
/// Fewer values are read one by one.
const FEW: usize = 48;

/// Bits that a number needs.
pub(crate) fn width_of(value: u32) -> u32 {
    32 - value.leading_zeros()
}

/// Bytes that `len` values of `width` bits take.
pub(crate) fn packed_bytes(len: usize, width: u32) -> usize {
    let (groups, rest) = (len / GROUP, len % GROUP);
    groups * 128 * width as usize + (rest * width as usize).div_ceil(8)
}

/// Appends `values`, each below 2^`width`.
pub(crate) fn pack(values: &[u32], width: u32, out: &mut Vec<u8>) {
    if width == 0 {
        return;
    }
    let (groups, rest) = values.as_chunks::<GROUP>();
    for group in groups {
        pack_group(group, width, out);
    }
    let (mut held, mut bits) = (0u64, 0u32);
    for value in rest {
        held |= u64::from(*value) << bits;
        bits += width;
        while bits >= 8 {
            out.push(held as u8);
            held >>= 8;
            bits -= 8;
        }
    }
    if bits > 0 {
        out.push(held as u8);
    }
}

fn pack_group(values: &[u32; GROUP], width: u32, out: &mut Vec<u8>) {
    let mut words = [[0u32; LANES]; 32];
    let (rows, _) = values.as_chunks::<LANES>();
    for (at, row) in rows.iter().enumerate() {
        let bit = at as u32 * width;
        let (word, shift) = ((bit / 32) as usize, bit % 32);
        if let Some(words) = words.get_mut(word) {
            words.iter_mut().zip(row).for_each(|(word, value)| *word |= value << shift);
        }
        if shift + width > 32
            && let Some(words) = words.get_mut(word + 1)
        {
            words.iter_mut().zip(row).for_each(|(word, value)| *word |= value >> (32 - shift));
        }
    }
    for row in words.iter().take(width as usize) {
        for word in row {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }
}

/// Gives the values of a group, in rows of [`LANES`]. `bytes` are those of the group.
fn unpack_group(bytes: &[u8], width: u32, out: &mut [u32; GROUP]) {
    if width == 0 {
        out.fill(0);
        return;
    }
    let (words, _) = bytes.as_chunks::<4>();
    let mask = u32::MAX >> (32 - width);
    let (rows, _) = out.as_chunks_mut::<LANES>();
    for (at, row) in rows.iter_mut().enumerate() {
        let bit = at as u32 * width;
        let (word, shift) = ((bit / 32) as usize, bit % 32);
        let line = |word: usize| -> Option<&[[u8; 4]; LANES]> {
            words.get(word * LANES..)?.first_chunk::<LANES>()
        };
        let Some(low) = line(word) else { continue };
        if shift + width <= 32 {
            for (value, low) in row.iter_mut().zip(low) {
                *value = u32::from_le_bytes(*low) >> shift & mask;
            }
        } else if let Some(high) = line(word + 1) {
            let up = 32 - shift;
            for ((value, low), high) in row.iter_mut().zip(low).zip(high) {
                let low = u32::from_le_bytes(*low) >> shift;
                *value = (low | u32::from_le_bytes(*high) << up) & mask;
            }
        }
    }
}

/// Which values of a group pass `test`, in order. `bytes` are those of the group.
#[inline]
fn matching_group(bytes: &[u8], width: u32, test: impl Fn(u32) -> bool) -> [u64; GROUP / 64] {
    // Of each lane the bits of its values: the rows of lanes are tested many at a time.
    let mut passed = [0u32; LANES];
    let (words, _) = bytes.as_chunks::<4>();
    let mask = u32::MAX >> (32 - width.clamp(1, 32));
    for at in 0..GROUP / LANES {
        let bit = at as u32 * width;
        let (word, shift) = ((bit / 32) as usize, bit % 32);
        let line = |word: usize| -> Option<&[[u8; 4]; LANES]> {
            words.get(word * LANES..)?.first_chunk::<LANES>()
        };
        let Some(low) = line(word) else { continue };
        if shift + width <= 32 {
            for (passed, low) in passed.iter_mut().zip(low) {
                let value = u32::from_le_bytes(*low) >> shift & mask;
                *passed |= u32::from(test(value)) << at;
            }
        } else if let Some(high) = line(word + 1) {
            let up = 32 - shift;
            for ((passed, low), high) in passed.iter_mut().zip(low).zip(high) {
                let low = u32::from_le_bytes(*low) >> shift;
                let value = (low | u32::from_le_bytes(*high) << up) & mask;
                *passed |= u32::from(test(value)) << at;
            }
        }
    }
    transpose(&mut passed);
    let (pairs, _) = passed.as_chunks::<2>();
    let mut out = [0; GROUP / 64];
    for (to, [low, high]) in out.iter_mut().zip(pairs) {
        *to = u64::from(*low) | u64::from(*high) << 32;
    }
    out
}

/// Turns bit `i` of number `j` into bit `j` of number `i`.
fn transpose(bits: &mut [u32; LANES]) {
    let (mut half, mut mask) = (LANES / 2, u32::MAX >> (LANES / 2));
    while half > 0 {
        for block in bits.chunks_exact_mut(2 * half) {
            let (low, high) = block.split_at_mut(half);
            for (low, high) in low.iter_mut().zip(high) {
                let swapped = (*low >> half ^ *high) & mask;
                *low ^= swapped << half;
                *high ^= swapped;
            }
        }
        half /= 2;
        mask ^= mask << half;
    }
}

/// Appends for each value of a range whether it passes `test`.
pub(crate) fn append_matching(
    bytes: &[u8],
    len: usize,
    width: u32,
    range: Range<usize>,
    test: impl Fn(u32) -> bool,
    words: &mut Words,
) {
    let (mut at, end) = (range.start, range.end.min(len));
    while at < end {
        let first = at / GROUP * GROUP;
        let stop = end.min(first + GROUP);
        if at == first && stop == first + GROUP && width > 0 {
            let start = at / GROUP * 128 * width as usize;
            let group = bytes.get(start..).unwrap_or_default();
            words.append_words(&matching_group(group, width, &test));
        } else {
            for_each_group(bytes, len, width, at..stop, |_, piece| words.append(piece, &test));
        }
        at = stop;
    }
}

/// Eight bytes at `from`, those beyond the end zero.
fn eight(bytes: &[u8], from: usize) -> u64 {
    match bytes.get(from..).and_then(|rest| rest.first_chunk::<8>()) {
        Some(whole) => u64::from_le_bytes(*whole),
        None => {
            let mut padded = [0u8; 8];
            let rest = bytes.get(from..).unwrap_or_default();
            padded.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            u64::from_le_bytes(padded)
        }
    }
}

/// Value `index` of `len` packed ones.
pub(crate) fn get(bytes: &[u8], len: usize, width: u32, index: usize) -> u32 {
    if width == 0 || width > 32 {
        return 0;
    }
    let mask = u64::from(u32::MAX >> (32 - width));
    let (group, within) = (index / GROUP, index % GROUP);
    let start = group * 128 * width as usize;
    if (group + 1) * GROUP > len {
        let bit = within * width as usize;
        return (eight(bytes, start + bit / 8) >> (bit % 8) & mask) as u32;
    }
    let (lane, bit) = (within % LANES, (within / LANES) as u32 * width);
    let (word, shift) = ((bit / 32) as usize, bit % 32);
    let line = |word: usize| -> u64 {
        let at = start + (word * LANES + lane) * 4;
        let four = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>());
        four.map_or(0, |four| u64::from(u32::from_le_bytes(*four)))
    };
    let low = line(word);
    let both = if shift + width > 32 { low | line(word + 1) << 32 } else { low };
    (both >> shift & mask) as u32
}

/// Hands out the values of `range` in pieces: `each(index of the first, values)`. Pieces are whole
/// groups but for the ends of the range.
pub(crate) fn for_each_group(
    bytes: &[u8],
    len: usize,
    width: u32,
    range: Range<usize>,
    mut each: impl FnMut(usize, &[u32]),
) {
    let (mut at, end) = (range.start, range.end.min(len));
    let mut values = [0u32; GROUP];
    while at < end {
        let group = at / GROUP;
        let first = group * GROUP;
        let stop = end.min(first + GROUP);
        if stop - at < FEW {
            let few = values.iter_mut().enumerate().take(stop - first).skip(at - first);
            few.for_each(|(within, value)| *value = get(bytes, len, width, first + within));
        } else if first + GROUP <= len {
            let start = group * 128 * width as usize;
            unpack_group(bytes.get(start..).unwrap_or_default(), width, &mut values);
        } else {
            let rest = values.iter_mut().enumerate().take(len - first);
            rest.for_each(|(within, value)| *value = get(bytes, len, width, first + within));
        }
        each(at, values.get(at - first..stop - first).unwrap_or_default());
        at = stop;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_packed_comes_out(
            width in 0u32..=32, len in 0usize..3000, seed in any::<u64>(), cut in 0usize..3000,
        ) {
            let mask = if width == 0 { 0 } else { u32::MAX >> (32 - width) };
            let mut state = seed | 1;
            let values: Vec<u32> = (0..len).map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 32) as u32 & mask
            }).collect();
            let mut bytes = Vec::new();
            pack(&values, width, &mut bytes);
            prop_assert_eq!(bytes.len(), packed_bytes(len, width));
            let cut = cut.min(len);
            let mut out = Vec::new();
            for_each_group(&bytes, len, width, cut..len, |at, piece| {
                assert_eq!(at, cut + out.len());
                out.extend_from_slice(piece);
            });
            prop_assert_eq!(&out[..], &values[cut..]);
            let mut words = Words::new(0);
            words.append_same(true, seed as usize % 3);
            let test = |value: u32| value & 1 == 0 && value <= mask / 2;
            append_matching(&bytes, len, width, cut..len, test, &mut words);
            let passed = words.finish();
            prop_assert_eq!(passed.len(), seed as usize % 3 + len - cut);
            for (at, value) in values[cut..].iter().enumerate() {
                prop_assert_eq!(passed.get(seed as usize % 3 + at), test(*value));
            }
            for at in (0..len).step_by(7) {
                prop_assert_eq!(get(&bytes, len, width, at), values[at]);
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic_fuzz(
            bytes in proptest::collection::vec(any::<u8>(), 0..600),
            len in 0usize..5000, width in 0u32..=32,
        ) {
            let mut seen = 0;
            for_each_group(&bytes, len, width, 0..len, |_, piece| seen += piece.len());
            prop_assert_eq!(seen, len);
            get(&bytes, len, width, len.saturating_sub(1));
        }
    }
}
