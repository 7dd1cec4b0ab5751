//! Snappy's block format, as Prometheus and Loki clients send it.
//!
//! Invariant: the length that a block declares is checked against the cap, and against what its
//! bytes can expand to at most, before any memory is taken.

/// A copy of 64 bytes takes three: no block expands further than this many times.
const EXPANSION_MAX: usize = 22;

/// Why a block could not be expanded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnappyError {
    /// It expands to more than allowed.
    #[error(
        "the snappy body expands to {declared_bytes} bytes, more than {bytes_max}: send smaller \
         requests"
    )]
    TooLarge {
        /// What it says.
        declared_bytes: usize,
        /// The cap.
        bytes_max: usize,
    },
    /// It is no block, or a damaged one.
    #[error("the body is no snappy block: {0}; framed snappy and plain bodies are others")]
    Damaged(String),
}

/// The expanded bytes of a block, at most `bytes_max` of them.
pub fn decompress_block(body: &[u8], bytes_max: usize) -> Result<Vec<u8>, SnappyError> {
    let damaged = |error: snap::Error| SnappyError::Damaged(error.to_string());
    let declared_bytes = snap::raw::decompress_len(body).map_err(damaged)?;
    if declared_bytes > body.len().saturating_mul(EXPANSION_MAX) {
        let reason = format!("{} bytes cannot hold {declared_bytes}", body.len());
        return Err(SnappyError::Damaged(reason));
    }
    if declared_bytes > bytes_max {
        return Err(SnappyError::TooLarge { declared_bytes, bytes_max });
    }
    snap::raw::Decoder::new().decompress_vec(body).map_err(damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_expand_up_to_the_cap_and_no_further() {
        let zeros = vec![0u8; 1 << 20];
        let block = snap::raw::Encoder::new().compress_vec(&zeros).expect("a block");
        assert_eq!(decompress_block(&block, 1 << 20), Ok(zeros));
        let error = decompress_block(&block, (1 << 20) - 1).expect_err("a bomb");
        assert!(matches!(error, SnappyError::TooLarge { .. }), "{error}");
        let error = decompress_block(&block[..block.len() / 2], 1 << 20).expect_err("cut");
        assert!(matches!(error, SnappyError::Damaged(_)), "{error}");
        // One gigabyte declared by five bytes, and no number at all.
        for bomb in [&[0x80, 0x80, 0x80, 0x80, 0x04][..], &[0xff; 12], &[]] {
            let error = decompress_block(bomb, 64 << 20).expect_err("a bomb");
            assert!(matches!(error, SnappyError::Damaged(_)), "{error}");
        }
    }
}
