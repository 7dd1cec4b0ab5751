//! Which tokens are in slots of any text: identifiers of a kind of their own, names, words in great
//! number. They are not listed one by one, so a filter says of most tokens that no value has them.
//!
//! ```text
//!  sections := pieces: piece k of 2^n has the tokens whose hash begins with the n bits of k
//!  piece    := block{…}      block := 8 words u32
//!  hash     := XXH3 of the token in lower case, 64 bits
//! ```
//! A split-block Bloom filter, as Parquet has it: a token has one bit in each word of one block. It is
//! in pieces because a question about a token needs one of them.
//!
//! Invariant: a token that was put in is in.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use crate::SegmentError;

/// Bits for each token: about one token in a hundred is taken for one that is there.
const TOKEN_BITS: usize = 10;
/// Bytes of a piece, at most about.
const PIECE_BYTES: usize = 32 << 10;
/// There are at most 2^12 pieces.
const PIECE_BITS_MAX: u32 = 12;
const BLOCK_BYTES: usize = 32;
/// Odd numbers, each of which picks a bit of its word: those of Parquet's filter.
const SALTS: [u32; 8] = [
    0x47b6_137b,
    0x4497_4d91,
    0x8824_ad5b,
    0xa2b7_289d,
    0x7054_95c7,
    0x2df1_424b,
    0x9efc_4947,
    0x5c6b_fb31,
];

/// The hash of a token in lower case.
pub(super) fn hash(token: &[u8]) -> u64 {
    xxh3_64(token)
}

/// The piece of a filter of so many (a power of two) that a hash is in.
pub(super) fn piece_of(hash: u64, pieces: u32) -> u32 {
    match pieces.checked_ilog2() {
        None | Some(0) => 0,
        Some(bits) => (hash >> (64 - bits)) as u32,
    }
}

/// The pieces of a filter of these hashes; none for none.
pub(super) fn encode(hashes: &mut Vec<u64>) -> Vec<Vec<u8>> {
    hashes.sort_unstable();
    hashes.dedup();
    if hashes.is_empty() {
        return Vec::new();
    }
    let bytes = hashes.len() * TOKEN_BITS / 8;
    let count = (bytes.div_ceil(PIECE_BYTES) as u32).next_power_of_two().min(1 << PIECE_BITS_MAX);
    let mut left = hashes.as_slice();
    (0..count)
        .map(|piece| {
            let (here, rest) =
                left.split_at(left.partition_point(|h| piece_of(*h, count) <= piece));
            left = rest;
            let blocks = (here.len() * TOKEN_BITS / 8).div_ceil(BLOCK_BYTES);
            let mut bytes = vec![0; blocks * BLOCK_BYTES];
            for hash in here {
                if let Some(block) = block_of(*hash, blocks).and_then(|at| bytes.get_mut(at)) {
                    for (word, bit) in block.as_chunks_mut::<4>().0.iter_mut().zip(bits(*hash)) {
                        *word = (u32::from_le_bytes(*word) | bit).to_le_bytes();
                    }
                }
            }
            bytes
        })
        .collect()
}

/// Whether a hash can be in its piece.
pub(super) fn may_hold(piece: &Bytes, hash: u64) -> Result<bool, SegmentError> {
    if !piece.len().is_multiple_of(BLOCK_BYTES) {
        return Err(SegmentError::damaged("filter", "is cut short"));
    }
    let block = block_of(hash, piece.len() / BLOCK_BYTES).and_then(|at| piece.get(at));
    Ok(block.is_some_and(|block| {
        let mut words = block.as_chunks::<4>().0.iter().zip(bits(hash));
        words.all(|(word, bit)| u32::from_le_bytes(*word) & bit != 0)
    }))
}

/// Where the block of a hash is.
fn block_of(hash: u64, blocks: usize) -> Option<std::ops::Range<usize>> {
    // The upper bits chose the piece.
    let at = ((u64::from((hash >> 20) as u32) * blocks as u64) >> 32) as usize * BLOCK_BYTES;
    (blocks > 0).then_some(at..at + BLOCK_BYTES)
}

/// The bit of each word.
fn bits(hash: u64) -> impl Iterator<Item = u32> {
    SALTS.into_iter().map(move |salt| 1 << ((hash as u32).wrapping_mul(salt) >> 27))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_found_and_few_others() {
        let token = |no: u32| format!("req{no:x}").into_bytes();
        for count in [0u32, 1, 40_000, 300_000] {
            let mut hashes: Vec<u64> = (0..count).map(|no| hash(&token(no))).collect();
            let pieces: Vec<Bytes> = encode(&mut hashes).into_iter().map(Bytes::from).collect();
            let holds = |no: u32| {
                let hash = hash(&token(no));
                let piece = pieces.get(piece_of(hash, pieces.len() as u32) as usize);
                piece.is_some_and(|piece| may_hold(piece, hash).expect("whole"))
            };
            assert!((0..count).all(holds), "{count}");
            let others = (count..count + 100_000).filter(|no| holds(*no)).count();
            assert!(others < 2_500, "{others} of 100,000 beside {count}");
        }
        assert!(may_hold(&Bytes::from_static(b"short"), 7).is_err());
    }
}
