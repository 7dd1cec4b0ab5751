//! Protocol Buffers' wire format, read field by field where it lies.
//!
//! Invariants: a length is checked against the bytes that are there before anything else happens
//! with it, so no declared length costs memory; nothing recurses (who reads an inner message makes
//! a reader of its own); groups, which no protocol here has, are refused.

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("damaged protobuf: {what} at byte {offset}")]
pub struct ProtobufError {
    /// What is wrong.
    pub what: &'static str,
    /// Where, from the start of the body.
    pub offset: usize,
}

/// A field's value as the wire has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire<'b> {
    Varint(u64),
    Fixed64,
    Fixed32,
    /// A text, bytes or a message, and where it begins in the body.
    Bytes(&'b [u8], usize),
}

impl<'b> Wire<'b> {
    /// The bytes, or nothing of a field that should hold some but is of another type.
    pub(crate) fn bytes(self) -> &'b [u8] {
        match self {
            Wire::Bytes(bytes, _) => bytes,
            Wire::Varint(_) | Wire::Fixed64 | Wire::Fixed32 => &[],
        }
    }
}

/// Reads the fields of one message.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
    /// Where the message begins in the body.
    offset: usize,
}

impl<'b> Reader<'b> {
    pub(crate) fn new(bytes: &'b [u8]) -> Self {
        Reader { bytes, at: 0, offset: 0 }
    }

    /// The next field's number and value; `None` at the end.
    #[inline]
    pub(crate) fn field(&mut self) -> Result<Option<(u64, Wire<'b>)>, ProtobufError> {
        if self.at >= self.bytes.len() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => self.take(8).map(|_| Wire::Fixed64)?,
            2 => {
                let length = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
                let from = self.at;
                Wire::Bytes(self.take(length)?, self.offset + from)
            }
            5 => self.take(4).map(|_| Wire::Fixed32)?,
            _ => return Err(self.wrong("a field of an unknown type")),
        };
        match tag >> 3 {
            0 => Err(self.wrong("a field of number 0")),
            number => Ok(Some((number, value))),
        }
    }

    /// The inner message that a field of this message holds; an error if it holds something else.
    pub(crate) fn message(&self, value: Wire<'b>) -> Result<Reader<'b>, ProtobufError> {
        match value {
            Wire::Bytes(bytes, offset) => Ok(Reader { bytes, at: 0, offset }),
            Wire::Varint(_) | Wire::Fixed64 | Wire::Fixed32 => {
                Err(self.wrong("a number where a message should be"))
            }
        }
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, ProtobufError> {
        if let Some(&byte) = self.bytes.get(self.at)
            && byte < 0x80
        {
            self.at += 1;
            return Ok(u64::from(byte));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Result<u64, ProtobufError> {
        let mut value = 0u64;
        for place in 0..10u32 {
            let Some(&byte) = self.bytes.get(self.at) else {
                return Err(self.wrong("the end within a number"));
            };
            self.at += 1;
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.wrong("a number of more than ten bytes"))
    }

    #[inline]
    fn take(&mut self, length: usize) -> Result<&'b [u8], ProtobufError> {
        let taken = self.at.checked_add(length).and_then(|end| self.bytes.get(self.at..end));
        let Some(taken) = taken else {
            return Err(self.wrong("a length beyond the end"));
        };
        self.at += length;
        Ok(taken)
    }

    #[cold]
    fn wrong(&self, what: &'static str) -> ProtobufError {
        ProtobufError { what, offset: self.offset + self.at }
    }
}
