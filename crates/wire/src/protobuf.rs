//! The protobuf wire format: fields read from bytes without copies, and written.
//!
//! ```text
//! field   tag payload            tag = varint(number << 3 | wire type)
//! 0 varint   1 eight bytes   2 varint(length) bytes   5 four bytes   3, 4 groups: refused
//! ```
//!
//! Specification: <https://protobuf.dev/programming-guides/encoding/>. Invariants: a reader never
//! goes beyond the message that it was given, and no length is believed that is longer than what
//! is there; every error says at which byte of the outermost message. Nesting is the caller's:
//! [`Reader::deeper`] counts it.

/// Deepest nesting of messages that [`Reader::deeper`] allows.
pub const DEPTH_MAX: usize = 128;
/// Highest number that a field may have.
const FIELD_NUMBER_MAX: u64 = (1 << 29) - 1;
/// Most bytes of a varint.
const VARINT_BYTES_MAX: usize = 10;

/// Why bytes are no protobuf message. Offsets count from the outermost message's start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    /// A message ends within a field.
    #[error("protobuf cut off at byte {offset}: {needed} more bytes were announced")]
    Cut {
        /// Where the bytes end.
        offset: usize,
        /// How many were missing, at least.
        needed: u64,
    },
    /// A number of more than 64 bits.
    #[error("protobuf varint at byte {offset} has more than 64 bits")]
    VarintTooLong {
        /// Where it begins.
        offset: usize,
    },
    /// A tag that no field can have, or that of a group.
    #[error("protobuf tag {tag} at byte {offset} is no field's: is this another format?")]
    BadTag {
        /// Number and wire type.
        tag: u64,
        /// Where it begins.
        offset: usize,
    },
    /// Messages within messages beyond [`DEPTH_MAX`].
    #[error("protobuf nested more than {DEPTH_MAX} deep at byte {offset}")]
    TooDeep {
        /// Where the innermost message begins.
        offset: usize,
    },
}

/// The payload of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload<'b> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64(u64),
    /// Wire type 2: bytes, a text, or a message.
    Bytes(&'b [u8]),
    /// Wire type 5.
    Fixed32(u32),
}

/// A field as it stands in a message. What has another wire type than the one asked for is `None`,
/// and to be passed over as a field that is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'b> {
    /// Its number.
    pub number: u32,
    /// What it holds.
    pub payload: Payload<'b>,
    offset: usize,
    depth: usize,
}

impl<'b> Field<'b> {
    /// The varint that it is: `uint`, `bool`, `enum`, or the two's complement of an `int`.
    pub fn varint(&self) -> Option<u64> {
        if let Payload::Varint(value) = self.payload { Some(value) } else { None }
    }

    /// The eight bytes that it is, as a number: `fixed64`, or the bits of a `double`.
    pub fn fixed64(&self) -> Option<u64> {
        if let Payload::Fixed64(value) = self.payload { Some(value) } else { None }
    }

    /// The four bytes that it is, as a number.
    pub fn fixed32(&self) -> Option<u32> {
        if let Payload::Fixed32(value) = self.payload { Some(value) } else { None }
    }

    /// The bytes that it is; of a text too, whose UTF-8 the caller checks.
    pub fn bytes(&self) -> Option<&'b [u8]> {
        if let Payload::Bytes(bytes) = self.payload { Some(bytes) } else { None }
    }

    /// The message that it is, one level deeper than its own.
    pub fn message(&self) -> Option<Reader<'b>> {
        let bytes = self.bytes()?;
        Some(Reader { bytes, at: 0, offset: self.offset, depth: self.depth + 1 })
    }
}

/// Reads the fields of one message.
#[derive(Clone, Debug)]
pub struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
    /// Where `bytes` begins in the outermost message.
    offset: usize,
    depth: usize,
}

impl<'b> Reader<'b> {
    /// A reader of an outermost message.
    pub fn new(bytes: &'b [u8]) -> Self {
        Reader { bytes, at: 0, offset: 0, depth: 0 }
    }

    /// Where the reader stands in the outermost message.
    pub fn offset(&self) -> usize {
        self.offset + self.at
    }

    /// An error if this message is nested too deeply. To be asked before a message that may hold
    /// its own kind is walked recursively.
    pub fn deeper(&self) -> Result<(), ProtobufError> {
        if self.depth > DEPTH_MAX {
            return Err(ProtobufError::TooDeep { offset: self.offset });
        }
        Ok(())
    }

    /// The next field; `None` at the message's end. After an error the reader is at its end.
    ///
    /// Whoever walks a message has it in line: to hand a field over takes longer than to read it.
    #[inline(always)]
    pub fn next_field(&mut self) -> Result<Option<Field<'b>>, ProtobufError> {
        if self.at >= self.bytes.len() {
            return Ok(None);
        }
        let field = self.field();
        if field.is_err() {
            self.at = self.bytes.len();
        }
        field.map(Some)
    }

    #[inline(always)]
    fn field(&mut self) -> Result<Field<'b>, ProtobufError> {
        let tag_offset = self.offset();
        let tag = self.varint()?;
        let number = tag >> 3;
        let bad = || ProtobufError::BadTag { tag, offset: tag_offset };
        if number == 0 || number > FIELD_NUMBER_MAX {
            return Err(bad());
        }
        let mut offset = self.offset();
        let payload = match tag & 7 {
            0 => Payload::Varint(self.varint()?),
            1 => Payload::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = self.varint()?;
                offset = self.offset();
                Payload::Bytes(self.take(length)?)
            }
            5 => Payload::Fixed32(u32::from_le_bytes(self.array()?)),
            _ => return Err(bad()),
        };
        Ok(Field { number: number as u32, payload, offset, depth: self.depth })
    }

    #[inline(always)]
    fn varint(&mut self) -> Result<u64, ProtobufError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        // Nearly all are tags and lengths of short texts and records.
        match *rest {
            [byte, ..] if byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(byte))
            }
            [low, high, ..] if high < 0x80 => {
                self.at += 2;
                Ok(u64::from(low & 0x7f) | u64::from(high) << 7)
            }
            _ => self.long_varint(rest),
        }
    }

    #[cold]
    fn long_varint(&mut self, rest: &[u8]) -> Result<u64, ProtobufError> {
        let too_long = ProtobufError::VarintTooLong { offset: self.offset() };
        let mut value = 0u64;
        for (place, &byte) in rest.iter().take(VARINT_BYTES_MAX).enumerate() {
            if place == VARINT_BYTES_MAX - 1 && byte > 1 {
                return Err(too_long);
            }
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                self.at += place + 1;
                return Ok(value);
            }
        }
        Err(self.cut(1))
    }

    #[inline(always)]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], ProtobufError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let Some(array) = rest.first_chunk::<N>() else {
            return Err(self.cut((N - rest.len()) as u64));
        };
        self.at += N;
        Ok(*array)
    }

    #[inline(always)]
    fn take(&mut self, length: u64) -> Result<&'b [u8], ProtobufError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = usize::try_from(length).ok().and_then(|length| rest.get(..length));
        let Some(taken) = taken else {
            return Err(self.cut(length - rest.len() as u64));
        };
        self.at += taken.len();
        Ok(taken)
    }

    #[cold]
    fn cut(&self, needed: u64) -> ProtobufError {
        ProtobufError::Cut { offset: self.offset + self.bytes.len(), needed }
    }
}

/// The key and the value of a pair that is nothing but a short text under 1 and a short message under
/// 2, in this order: what nearly all `KeyValue`s are. Any other is to be walked field by field.
#[inline]
pub(crate) fn short_pair(pair: &[u8]) -> Option<(&[u8], &[u8])> {
    let [0x0a, key_len @ ..0x80, rest @ ..] = pair else { return None };
    let (key, rest) = rest.split_at_checked(usize::from(*key_len))?;
    let [0x12, value_len @ ..0x80, value @ ..] = rest else { return None };
    (value.len() == usize::from(*value_len)).then_some((key, value))
}

/// Appends a varint.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a field of wire type 0.
pub fn put_varint_field(out: &mut Vec<u8>, number: u32, value: u64) {
    put_varint(out, u64::from(number) << 3);
    put_varint(out, value);
}

/// Appends a field of wire type 2: a text, bytes or a message.
pub fn put_bytes_field(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests;
