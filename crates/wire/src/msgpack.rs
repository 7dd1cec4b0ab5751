//! MessagePack, read token by token without copies; and the few forms that replies need, written.
//!
//! Specification: <https://github.com/msgpack/msgpack/blob/master/spec.md>. Invariants: no length
//! or count is believed beyond the bytes that are there; nothing here recurses, so nesting is the
//! caller's to bound.

use lodge_record::time;

/// Deepest nesting of arrays and maps that callers follow.
pub(crate) const DEPTH_MAX: usize = 128;

/// Why bytes are no MessagePack. Offsets count from the start of what is read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MsgpackError {
    /// They end within a value.
    #[error("MessagePack cut off at byte {offset}")]
    Cut {
        /// Where the bytes end.
        offset: usize,
    },
    /// A byte with which no value begins.
    #[error("byte {offset} is no MessagePack: is this another format?")]
    NotMsgpack {
        /// Where it is.
        offset: usize,
    },
    /// Arrays and maps beyond [`DEPTH_MAX`].
    #[error("MessagePack nested more than {DEPTH_MAX} deep at byte {offset}")]
    TooDeep {
        /// Where the innermost begins.
        offset: usize,
    },
}

/// A value, or the head of one that holds others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Token<'b> {
    Nil,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    /// A text, if it is UTF-8.
    Str(&'b [u8]),
    Bin(&'b [u8]),
    Ext(i8, &'b [u8]),
    /// So many values follow.
    Array(u32),
    /// So many keys and values follow.
    Map(u32),
}

/// What the first bytes of a value say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Head {
    /// The value takes so many bytes in all.
    Whole(u64),
    /// Its own bytes, and how many values follow.
    Holds(usize, u64),
    /// So many bytes are needed to say.
    Short(usize),
    /// No value begins so.
    Bad,
}

/// The big-endian number of `length` bytes at `from`.
fn number(bytes: &[u8], from: usize, length: usize) -> Option<u64> {
    let bytes = bytes.get(from..from + length)?;
    Some(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// What the value at the start of `bytes` is.
pub(crate) fn head(bytes: &[u8]) -> Head {
    let Some(&first) = bytes.first() else { return Head::Short(1) };
    // Bytes of the length or count that follows, and what it is one of.
    let (width, kind) = match first {
        0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => return Head::Whole(1),
        0x80..=0x8f => return Head::Holds(1, u64::from(first & 15) * 2),
        0x90..=0x9f => return Head::Holds(1, u64::from(first & 15)),
        0xa0..=0xbf => return Head::Whole(1 + u64::from(first & 31)),
        0xc1 => return Head::Bad,
        0xcc | 0xd0 => return Head::Whole(2),
        0xcd | 0xd1 => return Head::Whole(3),
        0xca | 0xce | 0xd2 => return Head::Whole(5),
        0xcb | 0xcf | 0xd3 => return Head::Whole(9),
        0xd4..=0xd8 => return Head::Whole(2 + (1 << (first - 0xd4))),
        0xc4 | 0xd9 => (1, 0),
        0xc5 | 0xda => (2, 0),
        0xc6 | 0xdb => (4, 0),
        0xc7 => (1, 1),
        0xc8 => (2, 1),
        0xc9 => (4, 1),
        0xdc => (2, 2),
        0xdd => (4, 2),
        0xde => (2, 3),
        0xdf => (4, 3),
    };
    let Some(count) = number(bytes, 1, width) else { return Head::Short(1 + width) };
    match kind {
        0 => Head::Whole(1 + width as u64 + count),
        1 => Head::Whole(2 + width as u64 + count),
        2 => Head::Holds(1 + width, count),
        _ => Head::Holds(1 + width, count * 2),
    }
}

/// Reads values one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Reader<'b> {
    pub(crate) fn new(bytes: &'b [u8]) -> Self {
        Reader { bytes, at: 0 }
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    pub(crate) fn offset(&self) -> usize {
        self.at
    }

    fn cut(&self) -> MsgpackError {
        MsgpackError::Cut { offset: self.bytes.len() }
    }

    /// The bytes of the next value, or of its head if it holds others.
    fn raw(&mut self) -> Result<(&'b [u8], u64), MsgpackError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let (length, holds) = match head(rest) {
            Head::Whole(length) => (length, 0),
            Head::Holds(length, holds) => (length as u64, holds),
            Head::Short(_) => return Err(self.cut()),
            Head::Bad => return Err(MsgpackError::NotMsgpack { offset: self.at }),
        };
        let raw = usize::try_from(length).ok().and_then(|length| rest.get(..length));
        let raw = raw.ok_or_else(|| self.cut())?;
        // Each takes a byte at least.
        if holds > (rest.len() - raw.len()) as u64 {
            return Err(self.cut());
        }
        self.at += raw.len();
        Ok((raw, holds))
    }

    /// Takes the next value, or the head of one that holds others.
    pub(crate) fn token(&mut self) -> Result<Token<'b>, MsgpackError> {
        let (raw, holds) = self.raw()?;
        let Some((&first, rest)) = raw.split_first() else { return Err(self.cut()) };
        let unsigned = number(rest, 0, rest.len().min(8)).unwrap_or(0);
        let signed = |bits: u32| (unsigned << (64 - bits)).cast_signed() >> (64 - bits);
        let behind = |skip: usize| rest.get(skip..).unwrap_or_default();
        let ext = |skip: usize| {
            let kind = rest.get(skip).copied().unwrap_or(0).cast_signed();
            Token::Ext(kind, behind(skip + 1))
        };
        Ok(match first {
            0x00..=0x7f => Token::Uint(u64::from(first)),
            0xe0..=0xff => Token::Int(i64::from(first.cast_signed())),
            0xc2 => Token::Bool(false),
            0xc3 => Token::Bool(true),
            0xcc..=0xcf => Token::Uint(unsigned),
            0xd0 => Token::Int(signed(8)),
            0xd1 => Token::Int(signed(16)),
            0xd2 => Token::Int(signed(32)),
            0xd3 => Token::Int(signed(64)),
            0xca => Token::Float(f64::from(f32::from_bits(unsigned as u32))),
            0xcb => Token::Float(f64::from_bits(unsigned)),
            0xa0..=0xbf => Token::Str(rest),
            0xd9 => Token::Str(behind(1)),
            0xda => Token::Str(behind(2)),
            0xdb => Token::Str(behind(4)),
            0xc4 => Token::Bin(behind(1)),
            0xc5 => Token::Bin(behind(2)),
            0xc6 => Token::Bin(behind(4)),
            0xd4..=0xd8 => ext(0),
            0xc7 => ext(1),
            0xc8 => ext(2),
            0xc9 => ext(4),
            0x90..=0x9f | 0xdc | 0xdd => Token::Array(holds as u32),
            0x80..=0x8f | 0xde | 0xdf => Token::Map((holds / 2) as u32),
            0xc0 | 0xc1 => Token::Nil,
        })
    }

    /// Passes over one value with all that it holds.
    pub(crate) fn skip(&mut self) -> Result<(), MsgpackError> {
        let mut left = 1u64;
        while left > 0 {
            left = (left - 1).saturating_add(self.raw()?.1);
        }
        Ok(())
    }
}

/// The time that a value is, in UTC nanoseconds: a number in the unit that its size tells, Fluentd's
/// EventTime (extension 0) or MessagePack's own timestamp (extension -1). 0 means unknown.
pub(crate) fn time_of(token: Token<'_>) -> Option<i64> {
    let time_ns = match token {
        Token::Int(value) => time::from_unix_number(value),
        Token::Uint(value) => i64::try_from(value).ok().and_then(time::from_unix_number),
        Token::Float(value) => time::from_unix_float(value),
        Token::Ext(kind @ (0 | -1), bytes) => {
            let (seconds, ns) = match (kind, bytes.len()) {
                (0, 8) => (number(bytes, 0, 4)?, number(bytes, 4, 4)?),
                (-1, 4) => (number(bytes, 0, 4)?, 0),
                (-1, 8) => {
                    let both = number(bytes, 0, 8)?;
                    (both & ((1 << 34) - 1), both >> 34)
                }
                (-1, 12) => (number(bytes, 4, 8)?, number(bytes, 0, 4)?),
                _ => return None,
            };
            let whole = seconds.cast_signed().checked_mul(1_000_000_000)?;
            whole.checked_add(i64::try_from(ns).ok()?)
        }
        _ => None,
    };
    time_ns.filter(|ns| *ns != 0)
}

/// Appends a text.
pub(crate) fn put_str(out: &mut Vec<u8>, text: &[u8]) {
    match text.len() {
        length @ 0..=31 => out.push(0xa0 | length as u8),
        length @ 32..=0xff => out.extend([0xd9, length as u8]),
        length @ 0x100..=0xffff => {
            out.push(0xda);
            out.extend((length as u16).to_be_bytes());
        }
        length => {
            out.push(0xdb);
            out.extend((length as u32).to_be_bytes());
        }
    }
    out.extend_from_slice(text);
}

/// Appends at most 255 bytes.
pub(crate) fn put_bin(out: &mut Vec<u8>, bytes: &[u8]) {
    let head = bytes.get(..255).unwrap_or(bytes);
    out.extend([0xc4, head.len() as u8]);
    out.extend_from_slice(head);
}

/// Appends a boolean.
pub(crate) fn put_bool(out: &mut Vec<u8>, value: bool) {
    out.push(if value { 0xc3 } else { 0xc2 });
}
