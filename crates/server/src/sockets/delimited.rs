//! Messages that end with one byte: lines, and GELF's with NUL.
//!
//! Invariants: of a message longer than the limit the head is kept and the rest is passed over,
//! with its length told; a connection between two messages holds nothing.

use super::piece::Piece;
use super::stream::{Framing, Refused};

/// Cuts a stream at a byte.
pub(super) struct Delimited {
    delimiter: u8,
    message_bytes_max: usize,
    /// What has come of the message in hand, at most the limit of it.
    head: Vec<u8>,
    original_bytes: u64,
}

impl Delimited {
    /// Cuts at `delimiter`; of a message at most so many bytes are kept.
    pub(super) fn new(delimiter: u8, message_bytes_max: usize) -> Self {
        Delimited { delimiter, message_bytes_max, head: Vec::new(), original_bytes: 0 }
    }

    fn keep(&mut self, part: &[u8]) {
        let room = self.message_bytes_max.saturating_sub(self.head.len());
        self.head.extend_from_slice(part.get(..part.len().min(room)).unwrap_or_default());
        self.original_bytes += part.len() as u64;
    }

    fn give_held(&mut self, piece: &mut Piece) {
        give(&self.head, self.original_bytes, piece);
        self.head = Vec::new();
        self.original_bytes = 0;
    }
}

/// Gives a message out, if there is more in it than blanks.
fn give(bytes: &[u8], original_bytes: u64, piece: &mut Piece) {
    if !bytes.trim_ascii().is_empty() {
        piece.overlong += u64::from((bytes.len() as u64) < original_bytes);
        piece.push(bytes, original_bytes);
    }
}

impl Framing for Delimited {
    fn push(&mut self, bytes: &[u8], piece: &mut Piece) -> Result<(), Refused> {
        let mut start = 0;
        for end in memchr::memchr_iter(self.delimiter, bytes) {
            let message = bytes.get(start..end).unwrap_or_default();
            start = end + 1;
            if self.original_bytes == 0 && message.len() <= self.message_bytes_max {
                give(message, message.len() as u64, piece);
            } else {
                self.keep(message);
                self.give_held(piece);
            }
        }
        self.keep(bytes.get(start..).unwrap_or_default());
        Ok(())
    }

    fn is_inside(&self) -> bool {
        self.original_bytes > 0
    }

    fn held_bytes(&self) -> usize {
        self.head.len()
    }

    fn finish(&mut self, piece: &mut Piece) -> u64 {
        self.give_held(piece);
        0
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use lodge_record::TenantId;

    use super::*;
    use crate::sockets::Peer;

    fn cut(stream: &[u8], step: usize) -> Vec<(String, u64)> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let mut piece = Piece::new(&Peer { address, tenant: TenantId::default() });
        let mut framing = Delimited::new(b'\n', 8);
        for part in stream.chunks(step) {
            assert!(framing.push(part, &mut piece).is_ok());
            assert!(framing.held_bytes() <= 8);
        }
        assert!(framing.is_inside());
        assert_eq!(framing.finish(&mut piece), 0);
        assert!(!framing.is_inside());
        assert_eq!(piece.overlong, 1);
        let shown = |m: super::super::piece::Message<'_>| {
            (String::from_utf8_lossy(m.bytes).into_owned(), m.original_bytes)
        };
        piece.messages().map(shown).collect()
    }

    #[test]
    fn messages_are_the_same_in_whatever_parts_they_come() {
        let stream = b"one\r\n\n \r\ntwo\n0123456789abc\nlast";
        let expected = [("one\r", 4), ("two", 3), ("01234567", 13), ("last", 4)];
        let expected: Vec<_> = expected.iter().map(|(t, n)| ((*t).to_owned(), *n)).collect();
        for step in 1..=stream.len() {
            assert_eq!(cut(stream, step), expected, "in steps of {step}");
        }
    }
}
