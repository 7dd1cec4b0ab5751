//! Where one Forward message ends and the next begins, in a connection's bytes.
//!
//! Invariants: each byte is looked at once, whatever the parts in which it comes; at most one
//! message and one part are held; a message that announces more than the limit is refused at its
//! announcement.

use super::ForwardError;
use crate::msgpack::{DEPTH_MAX, Head, MsgpackError, head};

/// Cuts a connection's bytes into MessagePack values, each an array or nil.
#[derive(Debug)]
pub struct Frames {
    buffer: Vec<u8>,
    /// Where the message in hand begins.
    start: usize,
    /// How far it was looked at.
    scanned: usize,
    /// How many values are still to come, of each array or map that is open.
    open: Vec<u64>,
    message_bytes_max: usize,
}

impl Frames {
    /// Frames of a connection whose messages have at most so many bytes.
    pub fn new(message_bytes_max: usize) -> Self {
        Frames { buffer: Vec::new(), start: 0, scanned: 0, open: Vec::new(), message_bytes_max }
    }

    /// Takes the next bytes of the connection, in any cuts.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.scanned -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes of messages that were not given out yet.
    pub fn held_bytes(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// The next whole message; `None` until more is pushed.
    pub fn next_frame(&mut self) -> Result<Option<&[u8]>, ForwardError> {
        loop {
            let rest = self.buffer.get(self.scanned..).unwrap_or_default();
            let before = self.scanned - self.start;
            let (length, holds) = match head(rest) {
                Head::Whole(length) => (length, 0),
                Head::Holds(length, holds) => (length as u64, holds),
                Head::Short(_) => return Ok(None),
                Head::Bad => return Err(MsgpackError::NotMsgpack { offset: before }.into()),
            };
            if before == 0 && !matches!(rest.first(), Some(0x90..=0x9f | 0xdc | 0xdd | 0xc0)) {
                return Err(ForwardError::NotForward);
            }
            // Each value that it holds takes a byte at least.
            let announced = length.saturating_add(holds).saturating_add(before as u64);
            if announced > self.message_bytes_max as u64 {
                let bytes_max = self.message_bytes_max;
                return Err(ForwardError::TooLarge { announced, bytes_max });
            }
            if length > rest.len() as u64 {
                return Ok(None);
            }
            self.scanned += length as usize;
            if holds > 0 {
                if self.open.len() >= DEPTH_MAX {
                    return Err(MsgpackError::TooDeep { offset: before }.into());
                }
                self.open.push(holds);
                continue;
            }
            while let Some(left) = self.open.last_mut() {
                *left -= 1;
                if *left > 0 {
                    break;
                }
                self.open.pop();
            }
            if self.open.is_empty() {
                let frame = self.buffer.get(self.start..self.scanned);
                self.start = self.scanned;
                return Ok(frame);
            }
        }
    }
}
