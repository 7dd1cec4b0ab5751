//! Snappy: the block format, as Prometheus and Loki clients send it, and the framed one, which some
//! clients of OpenTelemetry call by the same name.
//!
//! Invariant: the length that a block declares is checked against the cap, and against what its
//! bytes can expand to at most, before any memory is taken; of a stream of frames one is held.

use std::io::{self, Chain, Cursor, Read};

use snap::read::FrameDecoder;

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

/// What a stream of frames begins with.
const STREAM_HEAD: &[u8; 10] = b"\xff\x06\x00\x00sNaPpY";
/// Largest block that [`Reader`] takes, as sent and as expanded: a block is held as a whole.
pub const READ_BLOCK_BYTES_MAX: usize = 16 << 20;

/// Reads what is in either format.
pub struct Reader<R: Read>(State<R>);

enum State<R: Read> {
    Unread(R),
    Frames(Box<FrameDecoder<Chain<Cursor<Vec<u8>>, R>>>),
    Block(Cursor<Vec<u8>>),
    Failed,
}

impl<R: Read> Reader<R> {
    /// A reader of the expanded bytes of `body`.
    pub fn new(body: R) -> Self {
        Self(State::Unread(body))
    }

    fn begin(mut body: R) -> io::Result<State<R>> {
        let mut head = Vec::new();
        body.by_ref().take(STREAM_HEAD.len() as u64).read_to_end(&mut head)?;
        if head == STREAM_HEAD {
            let whole = Cursor::new(head).chain(body);
            return Ok(State::Frames(Box::new(FrameDecoder::new(whole))));
        }
        let mut block = head;
        body.take(READ_BLOCK_BYTES_MAX as u64).read_to_end(&mut block)?;
        let plain = decompress_block(&block, READ_BLOCK_BYTES_MAX).map_err(io::Error::other)?;
        Ok(State::Block(Cursor::new(plain)))
    }
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match &mut self.0 {
                State::Frames(frames) => return frames.read(buf),
                State::Block(plain) => return plain.read(buf),
                State::Failed => return Err(io::Error::other("the body is no snappy")),
                State::Unread(_) => {
                    let State::Unread(body) = std::mem::replace(&mut self.0, State::Failed) else {
                        continue;
                    };
                    self.0 = Self::begin(body)?;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn either_format_is_read_to_its_end_or_is_an_error() {
        let plain: Vec<u8> = (0..300_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        let block = snap::raw::Encoder::new().compress_vec(&plain).expect("a block");
        let mut frames = snap::write::FrameEncoder::new(Vec::new());
        frames.write_all(&plain).expect("frames");
        let frames = frames.into_inner().expect("frames");
        for sent in [block, frames] {
            let mut read = Vec::new();
            Reader::new(sent.as_slice()).read_to_end(&mut read).expect("all of it");
            assert!(read == plain, "{} bytes", read.len());
            let cut = sent.len() / 2 + 1;
            let mut rest = Reader::new(&sent[..cut]);
            rest.read_to_end(&mut Vec::new()).expect_err("half of it");
        }
        // One gigabyte declared by five bytes; nothing at all.
        for bomb in [&[0x80, 0x80, 0x80, 0x80, 0x04][..], &[]] {
            Reader::new(bomb).read_to_end(&mut Vec::new()).expect_err("a bomb");
        }
        let zeros = vec![0; READ_BLOCK_BYTES_MAX + 1];
        let large = snap::raw::Encoder::new().compress_vec(&zeros).expect("a block");
        Reader::new(large.as_slice()).read_to_end(&mut Vec::new()).expect_err("too large");
    }

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
