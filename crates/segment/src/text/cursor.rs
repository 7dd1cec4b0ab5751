//! Reading of untrusted bytes from the front, and the numbers of variable length in them: seven bits
//! a byte, low ones first, the top bit set on all bytes but the last.

use crate::SegmentError;

/// What is left of some bytes.
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

fn cut_short() -> SegmentError {
    SegmentError::damaged("text column", "ends before its time")
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn byte(&mut self) -> Result<u8, SegmentError> {
        let (first, rest) = self.rest.split_first().ok_or_else(cut_short)?;
        self.rest = rest;
        Ok(*first)
    }

    pub(super) fn bytes(&mut self, len: usize) -> Result<&'a [u8], SegmentError> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or_else(cut_short)?;
        self.rest = rest;
        Ok(head)
    }

    pub(super) fn varint(&mut self) -> Result<u64, SegmentError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(SegmentError::damaged("text column", "has a number of more than 64 bits"))
    }

    /// A number that may be at most `max`.
    pub(super) fn at_most(&mut self, max: usize) -> Result<usize, SegmentError> {
        let value = self.varint()?;
        match usize::try_from(value) {
            Ok(value) if value <= max => Ok(value),
            _ => Err(SegmentError::damaged(
                "text column",
                format!("counts {value} where {max} is the most"),
            )),
        }
    }

    /// A count of things that take at least a byte each.
    pub(super) fn count(&mut self) -> Result<usize, SegmentError> {
        let value = self.at_most(usize::MAX)?;
        if value > self.rest.len() { Err(cut_short()) } else { Ok(value) }
    }

    /// A length, and as many bytes.
    pub(super) fn text(&mut self) -> Result<&'a [u8], SegmentError> {
        let len = self.count()?;
        self.bytes(len)
    }
}

pub(super) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn put_text(text: &[u8], out: &mut Vec<u8>) {
    put_varint(text.len() as u64, out);
    out.extend_from_slice(text);
}
