//! Cuts a stream of bytes into line-aligned chunks of bounded size.
//!
//! Invariants: no chunk splits a line, except one line that is longer than the whole buffer may be:
//! of it the head is kept and the rest is skipped (decoders mark such a line as cut); what is held
//! never exceeds [`ATOMIC_BYTES_MAX`] by more than one read.

use std::io::{self, Read};

use crate::limits::ATOMIC_BYTES_MAX;

/// Size of one read.
const READ_BYTES: usize = 256 << 10;

/// The cutter.
pub(crate) struct Chunks<R> {
    reader: R,
    held: Vec<u8>,
    ended: bool,
    /// Bytes read so far.
    total: u64,
}

impl<R: Read> Chunks<R> {
    /// Nothing is read yet.
    pub(crate) fn new(reader: R) -> Self {
        Self { reader, held: Vec::new(), ended: false, total: 0 }
    }

    /// Bytes read so far.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// Bytes that are held.
    pub(crate) fn held(&self) -> &[u8] {
        &self.held
    }

    /// Reads once; false at the end.
    pub(crate) fn read_more(&mut self) -> io::Result<bool> {
        if self.ended {
            return Ok(false);
        }
        let before = self.held.len();
        let limit = READ_BYTES as u64;
        let n = (&mut self.reader).take(limit).read_to_end(&mut self.held)?;
        self.total += n as u64;
        self.ended = self.held.len() - before < READ_BYTES;
        Ok(!self.ended)
    }

    /// Takes the next chunk: whole lines of at most `bytes_max` bytes and `lines_max` lines, or one
    /// longer line; `None` at the end.
    pub(crate) fn next(
        &mut self,
        bytes_max: usize,
        lines_max: usize,
    ) -> io::Result<Option<Vec<u8>>> {
        while self.held.len() < bytes_max && self.read_more()? {}
        if self.held.is_empty() {
            return Ok(None);
        }
        if let Some(end) = self.fitting(bytes_max, lines_max) {
            let rest = self.held.split_off(end);
            return Ok(Some(std::mem::replace(&mut self.held, rest)));
        }
        self.one_long_line().map(Some)
    }

    /// End of the last line that fits.
    fn fitting(&self, bytes_max: usize, lines_max: usize) -> Option<usize> {
        let window = self.held.get(..bytes_max).unwrap_or(&self.held);
        if let Some(last) = memchr::memchr_iter(b'\n', window).nth(lines_max.saturating_sub(1)) {
            return Some(last + 1);
        }
        if self.ended && window.len() == self.held.len() {
            return Some(window.len());
        }
        memchr::memrchr(b'\n', window).map(|last| last + 1)
    }

    /// The line at the front, which is longer than a chunk; its head if it is longer than the
    /// buffer.
    fn one_long_line(&mut self) -> io::Result<Vec<u8>> {
        let mut searched = 0;
        loop {
            let unseen = self.held.get(searched..).unwrap_or_default();
            if let Some(at) = memchr::memchr(b'\n', unseen) {
                let rest = self.held.split_off(searched + at + 1);
                return Ok(std::mem::replace(&mut self.held, rest));
            }
            searched = self.held.len();
            if searched >= ATOMIC_BYTES_MAX {
                break;
            }
            if !self.read_more()? && self.held.len() == searched {
                return Ok(std::mem::take(&mut self.held));
            }
        }
        let mut head = std::mem::take(&mut self.held);
        head.push(b'\n');
        // Skip to the end of the line; what follows it stays.
        while self.read_more()? || !self.held.is_empty() {
            if let Some(at) = memchr::memchr(b'\n', &self.held) {
                self.held.drain(..=at);
                break;
            }
            self.held.clear();
        }
        Ok(head)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn cut(text: &[u8], bytes_max: usize, lines_max: usize) -> Vec<Vec<u8>> {
        let mut chunks = Chunks::new(text);
        let mut all = Vec::new();
        while let Some(chunk) = chunks.next(bytes_max, lines_max).unwrap() {
            all.push(chunk);
        }
        assert_eq!(chunks.total(), text.len() as u64);
        all
    }

    #[test]
    fn lines_stay_whole_and_nothing_is_lost() {
        let text = b"one\ntwo\nthree is longer\n\nfour";
        for bytes_max in 1..40 {
            for lines_max in 1..6 {
                let chunks = cut(text, bytes_max, lines_max);
                assert_eq!(chunks.concat(), text, "{bytes_max} {lines_max}");
                let (last, others) = chunks.split_last().unwrap();
                assert!(others.iter().all(|c| c.ends_with(b"\n")), "{bytes_max} {lines_max}");
                assert!(last.ends_with(b"four"));
                for chunk in &chunks {
                    let lines = chunk.split_inclusive(|b| *b == b'\n').count();
                    assert!(lines <= lines_max, "{bytes_max} {lines_max}");
                    assert!(chunk.len() <= bytes_max || lines == 1, "{bytes_max} {lines_max}");
                }
            }
        }
        assert!(cut(b"", 10, 10).is_empty());
        assert_eq!(cut(b"a\n", 10, 10), [b"a\n"]);
    }

    #[test]
    fn a_line_longer_than_the_buffer_keeps_its_head() {
        let mut text = b"before\n".to_vec();
        text.extend(std::iter::repeat_n(b'x', 100 << 20));
        text.extend_from_slice(b"\nafter\n");
        let chunks = cut(&text, 4 << 20, 1_000);
        assert_eq!(chunks.len(), 3);
        assert_eq!(chunks[0], b"before\n");
        assert!(chunks[1].len() > ATOMIC_BYTES_MAX && chunks[1].ends_with(b"x\n"));
        assert!(chunks[1].len() <= ATOMIC_BYTES_MAX + READ_BYTES);
        assert_eq!(chunks[2], b"after\n");
        let endless = vec![b'y'; 40 << 20];
        assert_eq!(cut(&endless, 1 << 20, 10).len(), 1);
    }
}
