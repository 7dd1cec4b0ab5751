//! Cuts a stream of bytes into chunks of whole lines.
//!
//! Invariant: where the cuts fall follows from the bytes alone, never from how they arrive. A
//! second run over the same bytes cuts the same chunks, which is what lets the server recognise
//! them. Changing [`CHUNK_BYTES`], [`CHUNK_LINES_MAX`] or the rule needs a new
//! [`CUTTING_VERSION`], or an import that was interrupted before would lose or double lines.

use std::io::{self, Read};

use lodge_record::limits::LINE_BYTES_MAX;

/// Names the cutting rule in every producer's identity.
pub const CUTTING_VERSION: u8 = 1;
/// Most bytes in a chunk, before decoding.
pub const CHUNK_BYTES: usize = 4 << 20;
/// Most lines in a chunk: very short lines grow when they become columns.
pub const CHUNK_LINES_MAX: usize = 1 << 16;

/// What some programs put before UTF-8 text; it belongs to no line.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Whole lines out of a source.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    /// Counts from 0 over the source.
    pub index: u64,
    /// The lines.
    pub bytes: Vec<u8>,
    /// Bytes of the source up to the end of this chunk.
    pub end: u64,
    /// Whether nothing comes after it.
    pub last: bool,
    /// How often a line was broken because it is longer than a record may be.
    pub breaks: u64,
}

/// The cutter over one source.
pub struct Cutter<R> {
    source: R,
    buffer: Vec<u8>,
    at_end: bool,
    next_index: u64,
    end: u64,
}

/// Where to cut: the end of the chunk, and the places at which a line end has to be put in.
struct Cut {
    end: usize,
    breaks: Vec<usize>,
}

impl<R: Read> Cutter<R> {
    /// Starts at the source's first byte.
    pub fn new(source: R) -> Self {
        Self { source, buffer: Vec::new(), at_end: false, next_index: 0, end: 0 }
    }

    /// The first bytes, at most one chunk of them, without taking them.
    pub fn peek(&mut self) -> io::Result<&[u8]> {
        self.fill()?;
        Ok(&self.buffer)
    }

    /// The next chunk, in a buffer that takes the place of `spare`; `None` at the end. A chunk of
    /// nothing but blank space is skipped: there is no record in it.
    pub fn next(&mut self, mut spare: Vec<u8>) -> io::Result<Option<Chunk>> {
        loop {
            self.fill()?;
            if self.buffer.is_empty() {
                return Ok(None);
            }
            let cut = find_cut(&self.buffer, self.at_end);
            self.end += cut.end as u64;
            let last = self.at_end && cut.end == self.buffer.len();
            spare.clear();
            let rest = self.buffer.get(cut.end..).unwrap_or_default();
            spare.extend_from_slice(rest);
            self.buffer.truncate(cut.end);
            let bytes = std::mem::replace(&mut self.buffer, spare);
            if bytes.iter().all(u8::is_ascii_whitespace) {
                spare = bytes;
                continue;
            }
            let index = self.next_index;
            self.next_index += 1;
            let breaks = cut.breaks.len() as u64;
            let bytes = put_in_line_ends(bytes, &cut.breaks);
            return Ok(Some(Chunk { index, bytes, end: self.end, last, breaks }));
        }
    }

    /// Fills the buffer to one byte more than a chunk may have, or to the end of the source.
    fn fill(&mut self) -> io::Result<()> {
        let missing = (CHUNK_BYTES + 1).saturating_sub(self.buffer.len());
        if self.at_end || missing == 0 {
            return Ok(());
        }
        self.buffer.reserve(missing);
        let read = self.source.by_ref().take(missing as u64).read_to_end(&mut self.buffer)?;
        self.at_end = read < missing;
        if self.end == 0 && self.buffer.starts_with(BYTE_ORDER_MARK) {
            self.buffer.drain(..BYTE_ORDER_MARK.len());
            self.end = BYTE_ORDER_MARK.len() as u64;
        }
        Ok(())
    }
}

/// The longest run of whole lines at the front of `buffer` that fits into a chunk.
fn find_cut(buffer: &[u8], at_end: bool) -> Cut {
    let limit = buffer.len().min(CHUNK_BYTES);
    let mut end = 0;
    let mut breaks = Vec::new();
    while end < limit {
        let window = buffer.get(end..limit.min(end + LINE_BYTES_MAX)).unwrap_or_default();
        if let Some(at) = memchr::memrchr(b'\n', window) {
            end += at + 1;
        } else if window.len() == LINE_BYTES_MAX {
            end += character_start(window);
            breaks.push(end);
        } else if at_end && buffer.len() <= CHUNK_BYTES {
            end = buffer.len();
        } else {
            break;
        }
    }
    let kept = buffer.get(..end).unwrap_or_default();
    if let Some(at) = memchr::memchr_iter(b'\n', kept).nth(CHUNK_LINES_MAX - 1) {
        end = at + 1;
        breaks.retain(|at| *at <= end);
    }
    Cut { end, breaks }
}

/// Where the last character of a full window begins if the window cuts it in two, else its end.
fn character_start(window: &[u8]) -> usize {
    let tail = window.iter().rev().take(4);
    let continuation = tail.take_while(|b| (**b & 0xc0) == 0x80).count();
    let lead_at = window.len().saturating_sub(continuation + 1);
    let needed = match window.get(lead_at) {
        Some(0xc0..=0xdf) => 2,
        Some(0xe0..=0xef) => 3,
        Some(0xf0..=0xf7) => 4,
        _ => 1,
    };
    if needed > continuation + 1 { lead_at } else { window.len() }
}

/// Puts a line end after each of `breaks`.
fn put_in_line_ends(bytes: Vec<u8>, breaks: &[usize]) -> Vec<u8> {
    if breaks.is_empty() {
        return bytes;
    }
    let mut out = Vec::with_capacity(bytes.len() + breaks.len());
    let mut from = 0;
    for at in breaks {
        out.extend_from_slice(bytes.get(from..*at).unwrap_or_default());
        out.push(b'\n');
        from = *at;
    }
    out.extend_from_slice(bytes.get(from..).unwrap_or_default());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives its bytes in pieces of a given size.
    struct Dribble<'a>(&'a [u8], usize);

    impl Read for Dribble<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let n = self.1.min(out.len()).min(self.0.len());
            let (now, later) = self.0.split_at(n);
            out[..n].copy_from_slice(now);
            self.0 = later;
            Ok(n)
        }
    }

    fn cut(bytes: &[u8], piece: usize) -> Vec<Chunk> {
        let mut cutter = Cutter::new(Dribble(bytes, piece));
        std::iter::from_fn(|| cutter.next(Vec::new()).expect("no I/O")).collect()
    }

    fn lines(count: usize, bytes: usize) -> Vec<u8> {
        let line = |i: usize| format!("{i:0width$}\n", width = bytes - 1).into_bytes();
        (0..count).flat_map(line).collect()
    }

    #[test]
    fn chunks_hold_every_byte_once_wherever_the_reads_fall() {
        let bytes = lines(31_000, 300);
        let chunks = cut(&bytes, 1 << 20);
        assert_eq!(chunks.len(), 3);
        assert_eq!(chunks, cut(&bytes, 77_777));
        assert_eq!(chunks.iter().map(|c| c.index).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(chunks.iter().map(|c| c.last).collect::<Vec<_>>(), [false, false, true]);
        assert!(chunks.iter().all(|c| c.bytes.ends_with(b"\n") && c.bytes.len() <= CHUNK_BYTES));
        assert_eq!(chunks.last().map(|c| c.end), Some(bytes.len() as u64));
        assert_eq!(chunks.into_iter().flat_map(|c| c.bytes).collect::<Vec<_>>(), bytes);
    }

    #[test]
    fn a_last_line_without_an_end_is_a_line_and_blank_chunks_are_none() {
        assert_eq!(cut(b"", 9), []);
        assert_eq!(cut(b" \n\r\n\n", 9), []);
        let chunks = cut(b"a\nb", 1);
        assert_eq!(chunks.len(), 1);
        assert_eq!((chunks[0].bytes.as_slice(), chunks[0].last), (&b"a\nb"[..], true));
        let chunks = cut(b"\xef\xbb\xbf{}\n", 1);
        assert_eq!((chunks[0].bytes.as_slice(), chunks[0].end), (&b"{}\n"[..], 6));
        let mut exact = lines(CHUNK_BYTES / 1024, 1024);
        assert!(cut(&exact, 1 << 16)[0].last, "exactly one chunk");
        exact.push(b'x');
        let chunks = cut(&exact, 1 << 16);
        assert_eq!(chunks[1].bytes, b"x");
    }

    #[test]
    fn short_lines_are_bounded_by_their_number() {
        let bytes = b"1\n".repeat(CHUNK_LINES_MAX * 2 + 1);
        let sizes: Vec<_> = cut(&bytes, 1 << 20).iter().map(|c| c.bytes.len() / 2).collect();
        assert_eq!(sizes, [CHUNK_LINES_MAX, CHUNK_LINES_MAX, 1]);
    }

    #[test]
    fn a_line_beyond_the_limit_is_broken_at_a_character_and_nothing_of_it_is_lost() {
        let mut bytes = b"first\n".to_vec();
        bytes.extend("xä日".repeat(2_000_000).bytes());
        bytes.extend_from_slice(b"\nlast");
        let chunks = cut(&bytes, 1 << 20);
        let joined: Vec<u8> = chunks.iter().flat_map(|c| c.bytes.clone()).collect();
        let pieces: Vec<_> = joined.split(|b| *b == b'\n').collect();
        assert!(pieces.iter().all(|p| p.len() <= LINE_BYTES_MAX && str::from_utf8(p).is_ok()));
        assert_eq!(chunks.iter().map(|c| c.breaks).sum::<u64>(), pieces.len() as u64 - 3);
        let without = |b: &[u8]| b.iter().filter(|b| **b != b'\n').copied().collect::<Vec<_>>();
        assert_eq!(without(&joined), without(&bytes));
        assert_eq!(pieces.last(), Some(&&b"last"[..]));
    }
}
