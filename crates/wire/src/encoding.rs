//! Content encodings of request bodies, with a cap on what they may expand to.

use std::fmt;
use std::io::Read;

use crate::snappy;

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Not at all.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 1950 (HTTP's "deflate").
    Deflate,
    /// RFC 8878.
    Zstd,
    /// Snappy, in frames or as one block.
    Snappy,
}

impl Encoding {
    /// From the value of a Content-Encoding header; `None` for one that Lodge does not know.
    pub fn from_header(value: &str) -> Option<Self> {
        let value = value.trim();
        [
            ("", Encoding::Identity),
            ("identity", Encoding::Identity),
            ("gzip", Encoding::Gzip),
            ("x-gzip", Encoding::Gzip),
            ("deflate", Encoding::Deflate),
            ("zstd", Encoding::Zstd),
            ("snappy", Encoding::Snappy),
            ("x-snappy-framed", Encoding::Snappy),
        ]
        .into_iter()
        .find_map(|(name, encoding)| value.eq_ignore_ascii_case(name).then_some(encoding))
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Encoding::Identity => "identity",
            Encoding::Gzip => "gzip",
            Encoding::Deflate => "deflate",
            Encoding::Zstd => "zstd",
            Encoding::Snappy => "snappy",
        })
    }
}

/// Why a body could not be expanded.
#[derive(Debug, thiserror::Error)]
pub enum DecompressError {
    /// It expands to more than allowed.
    #[error("the {encoding} body expands to more than {bytes_max} bytes: send smaller requests")]
    TooLarge {
        /// How it is compressed.
        encoding: Encoding,
        /// The cap.
        bytes_max: usize,
    },
    /// It is not what it claims to be.
    #[error(
        "the body is not valid {encoding}, damaged after {bytes_read} expanded bytes: {reason}"
    )]
    Damaged {
        /// How it claims to be compressed.
        encoding: Encoding,
        /// How much could be expanded.
        bytes_read: usize,
        /// What the decompressor said.
        reason: String,
    },
}

/// A reader of the expanded bytes of `body`. It has no cap: the caller counts.
pub fn reader<'b>(
    encoding: Encoding,
    body: impl Read + Send + 'b,
) -> std::io::Result<Box<dyn Read + Send + 'b>> {
    Ok(match encoding {
        Encoding::Identity => Box::new(body),
        Encoding::Gzip => Box::new(flate2::read::MultiGzDecoder::new(body)),
        Encoding::Deflate => Box::new(flate2::read::ZlibDecoder::new(body)),
        Encoding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::new(body)?;
            // 2^27 bytes: what `zstd --ultra` may need, and a bound on memory per request.
            decoder.window_log_max(27)?;
            Box::new(decoder)
        }
        Encoding::Snappy => Box::new(snappy::Reader::new(body)),
    })
}

/// The expanded bytes of `body`, at most `bytes_max` of them.
pub fn decompress(
    encoding: Encoding,
    body: &[u8],
    bytes_max: usize,
) -> Result<Vec<u8>, DecompressError> {
    let too_large = || DecompressError::TooLarge { encoding, bytes_max };
    if encoding == Encoding::Identity {
        return if body.len() > bytes_max { Err(too_large()) } else { Ok(body.to_vec()) };
    }
    let mut out = Vec::with_capacity((body.len().saturating_mul(4)).min(bytes_max));
    let done = reader(encoding, body)
        .and_then(|reader| reader.take(bytes_max as u64 + 1).read_to_end(&mut out));
    match done {
        Err(error) => Err(DecompressError::Damaged {
            encoding,
            bytes_read: out.len(),
            reason: error.to_string(),
        }),
        Ok(_) if out.len() > bytes_max => Err(too_large()),
        Ok(_) => Ok(out),
    }
}

/// A table of matches of so many bits stays in the first cache: on logs that is faster than the
/// level's own and finds as much.
const HASH_LOG: u32 = 12;

/// `bytes` as one zstd frame of level 1.
pub fn compress_zstd(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut compressor = zstd::bulk::Compressor::new(1)?;
    compressor.set_parameter(zstd::zstd_safe::CParameter::HashLog(HASH_LOG))?;
    compressor.compress(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(bytes).expect("to memory");
        out.finish().expect("to memory")
    }

    #[test]
    fn expands_up_to_the_cap_and_no_further() {
        let zeros = vec![0u8; 1 << 20];
        for (encoding, body) in
            [(Encoding::Gzip, gzip(&zeros)), (Encoding::Zstd, compress_zstd(&zeros).expect("zstd"))]
        {
            assert_eq!(decompress(encoding, &body, 1 << 20).expect("fits"), zeros);
            let error = decompress(encoding, &body, (1 << 20) - 1).expect_err("a bomb");
            assert!(matches!(error, DecompressError::TooLarge { .. }), "{error}");
            let error = decompress(encoding, &body[..body.len() / 2], 1 << 20).expect_err("cut");
            assert!(matches!(error, DecompressError::Damaged { .. }), "{error}");
        }
    }
}
