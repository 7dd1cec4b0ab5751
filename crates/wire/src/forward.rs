//! Fluent Forward: what Fluentd, Fluent Bit, Docker and the fluent-logger libraries speak.
//!
//! Specification: Forward Protocol Specification v1 in Fluentd's wiki.
//!
//! ```text
//! Message        [tag, time, record, option?]
//! Forward        [tag, [[time, record], …], option?]
//! PackedForward  [tag, bytes of [time, record] …, option?]     compressed where the option says so
//! heartbeat      nil
//! reply          {"ack": chunk}                                where option has a chunk
//! ```
//!
//! ```text
//! tag              label fluent.tag of the stream, and a field
//! time             _time: EventTime, or a number in the unit that its size tells; 0: when received
//! record           dotted fields; the message is its _msg, message, msg or log
//! [time, metadata] in time's place (Fluent Bit): fields fluent.metadata.<name>
//! ```
//!
//! Bytes count as text; what is not UTF-8 is kept beside it in base64. Invariants: every entry
//! becomes a record or is told as trouble, whatever becomes of the others; a record that is no map
//! is kept as its text with `lodge.error`. A connection whose messages cannot be told apart any
//! more ends with an error.

mod frames;
pub mod handshake;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use lodge_record::field;
use lodge_record::stream::StreamLabels;

pub use self::frames::Frames;
use crate::encoding::{self, Encoding};
use crate::msgpack::{self, DEPTH_MAX, MsgpackError, Reader, Token, put_str};
use crate::rows::{RowWriter, Scalar};

/// Longest tag that is kept; of a longer one the head is.
pub const TAG_BYTES_MAX: usize = 1024;
/// Longest chunk name that is acknowledged.
pub const CHUNK_BYTES_MAX: usize = 1024;
/// Most troubles of a message that are told one by one.
pub const TROUBLES_MAX: usize = 100;
/// The label that has the tag.
pub const TAG_LABEL: &str = "fluent.tag";

/// How much a connection may send at once.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest message as sent.
    pub message_bytes_max: usize,
    /// What its compressed entries may expand to.
    pub expanded_bytes_max: usize,
    /// What the records of a message may take, with the tag that each has.
    pub decoded_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            message_bytes_max: 64 << 20,
            expanded_bytes_max: 64 << 20,
            decoded_bytes_max: 256 << 20,
        }
    }
}

/// Why a connection cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// Its first bytes begin no message.
    #[error("this is not Fluent Forward: a message is an array in MessagePack")]
    NotForward,
    /// A message is damaged so that its end is not known.
    #[error("damaged Forward message: {0}")]
    Damaged(#[from] MsgpackError),
    /// A message is too large.
    #[error(
        "a Forward message announces {announced} bytes, more than {bytes_max}: send smaller chunks \
         (chunk_limit_size in Fluentd)"
    )]
    TooLarge {
        /// What it announces, at least.
        announced: u64,
        /// The limit.
        bytes_max: usize,
    },
}

/// Why an entry of a message is not stored as what it was meant to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Index of the entry.
    pub entry: u64,
    /// What is wrong with it.
    pub reason: String,
}

/// What was decoded of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// To be acknowledged with [`ack`] when its records are durable.
    pub chunk: Option<Vec<u8>>,
    /// Its records.
    pub accepted: u64,
    /// Entries that are lost. Where entries cannot be told apart, all that follow are one.
    pub rejected: u64,
    /// Records that are kept as text.
    pub kept_as_text: u64,
    /// The first of both.
    pub troubles: Vec<Trouble>,
}

impl Message {
    fn trouble(&mut self, reason: String) {
        if self.troubles.len() < TROUBLES_MAX {
            self.troubles.push(Trouble { entry: self.accepted + self.rejected, reason });
        }
    }

    fn reject(&mut self, reason: String) {
        self.trouble(reason);
        self.rejected += 1;
    }
}

/// The reply to a message with this chunk.
pub fn ack(chunk: &[u8]) -> Vec<u8> {
    let mut out = vec![0x81];
    put_str(&mut out, b"ack");
    put_str(&mut out, chunk);
    out
}

/// Decodes what a connection sends.
pub struct Decoder {
    frames: Frames,
    entries: Entries,
}

/// Turns entries into records.
struct Entries {
    rows: RowWriter,
    limits: Limits,
    /// What the writer may hold when the message in hand is decoded.
    decoded_bytes_end: usize,
    received_ns: i64,
    tag: String,
    stream: String,
}

impl Decoder {
    /// A decoder of a new connection.
    pub fn new(limits: Limits) -> Self {
        Decoder {
            frames: Frames::new(limits.message_bytes_max),
            entries: Entries {
                rows: RowWriter::new(),
                limits,
                decoded_bytes_end: 0,
                received_ns: 0,
                tag: String::new(),
                stream: String::new(),
            },
        }
    }

    /// Takes the next bytes of the connection, in any cuts.
    pub fn push(&mut self, bytes: &[u8]) {
        self.frames.push(bytes);
    }

    /// Bytes of messages that are not decoded yet.
    pub fn held_bytes(&self) -> usize {
        self.frames.held_bytes()
    }

    /// Records since the last [`Self::take_batches`].
    pub fn rows(&self) -> usize {
        self.entries.rows.rows()
    }

    /// Bytes that those records take, roughly.
    pub fn bytes(&self) -> usize {
        self.entries.rows.decoded_bytes()
    }

    /// Decodes a message that was framed elsewhere, with [`Frames`]; no bytes of another may be held.
    pub fn frame(&mut self, frame: &[u8], received_ns: i64) -> Result<Message, ForwardError> {
        self.entries.received_ns = received_ns;
        let mut message = Message::default();
        self.entries.message(frame, &mut message)?;
        Ok(message)
    }

    /// The bytes of the next whole message, not decoded: for [`handshake`].
    pub fn next_frame(&mut self) -> Result<Option<&[u8]>, ForwardError> {
        self.frames.next_frame()
    }

    /// Decodes the next whole message; `None` until more is pushed. A heartbeat is a message without
    /// records. `received_ns` is the time of records that have none.
    pub fn next_message(&mut self, received_ns: i64) -> Result<Option<Message>, ForwardError> {
        let Some(frame) = self.frames.next_frame()? else { return Ok(None) };
        self.entries.received_ns = received_ns;
        let mut message = Message::default();
        self.entries.message(frame, &mut message)?;
        Ok(Some(message))
    }

    /// The records of all messages so far; no batch is empty.
    pub fn take_batches(&mut self) -> Result<Vec<RecordBatch>, ArrowError> {
        self.entries.rows.take_batches()
    }
}

/// What a message's option says.
#[derive(Default)]
struct MessageOption<'f> {
    chunk: Option<&'f [u8]>,
    compressed: &'f [u8],
    signal: u64,
}

fn bytes_of(token: Token<'_>) -> Option<&[u8]> {
    match token {
        Token::Str(bytes) | Token::Bin(bytes) => Some(bytes),
        _ => None,
    }
}

fn read_option<'f>(reader: &mut Reader<'f>) -> Result<MessageOption<'f>, MsgpackError> {
    let mut option = MessageOption::default();
    let Token::Map(pairs) = reader.token()? else { return Ok(option) };
    for _ in 0..pairs {
        let mut key = reader.clone();
        reader.skip()?;
        let mut value = reader.clone();
        reader.skip()?;
        match (bytes_of(key.token()?), value.token()?) {
            (Some(b"chunk"), token) => {
                option.chunk = bytes_of(token).filter(|chunk| chunk.len() <= CHUNK_BYTES_MAX);
            }
            (Some(b"compressed"), token) => option.compressed = bytes_of(token).unwrap_or(b"text"),
            (Some(b"fluent_signal"), Token::Uint(signal)) => option.signal = signal,
            _ => {}
        }
    }
    Ok(option)
}

impl Entries {
    /// Decodes a whole frame, whose structure is known to be sound.
    fn message(&mut self, frame: &[u8], message: &mut Message) -> Result<(), ForwardError> {
        let mut reader = Reader::new(frame);
        let Token::Array(parts) = reader.token()? else { return Ok(()) };
        if parts < 2 {
            message.reject("a message of less than a tag and entries".to_owned());
            return Ok(());
        }
        let tag = bytes_of(reader.token()?);
        let mut content = reader.clone();
        reader.skip()?;
        let head = content.clone().token()?;
        let is_message_mode = !matches!(head, Token::Array(_) | Token::Str(_) | Token::Bin(_));
        let mut left = parts - 2;
        if is_message_mode && left > 0 {
            reader.skip()?;
            left -= 1;
        }
        let option = if left > 0 { read_option(&mut reader)? } else { MessageOption::default() };
        message.chunk = option.chunk.map(<[u8]>::to_vec);
        let Some(tag) = tag else {
            message.reject("the tag is no text".to_owned());
            return Ok(());
        };
        if option.signal != 0 {
            message.reject("metrics or traces, and this is for logs".to_owned());
            return Ok(());
        }
        self.set_tag(tag);
        self.decoded_bytes_end = self.rows.decoded_bytes() + self.limits.decoded_bytes_max;
        match head {
            Token::Array(entries) => {
                content.token()?;
                for _ in 0..entries {
                    let mut entry = content.clone();
                    content.skip()?;
                    self.entry(&mut entry, message);
                }
            }
            Token::Str(bytes) | Token::Bin(bytes) => {
                self.packed(bytes, option.compressed, message);
            }
            _ => self.record(&mut content, parts > 2, message),
        }
        Ok(())
    }

    fn set_tag(&mut self, tag: &[u8]) {
        let tag = String::from_utf8_lossy(tag);
        let head = tag.get(..tag.floor_char_boundary(TAG_BYTES_MAX)).unwrap_or_default();
        if head == self.tag && !self.stream.is_empty() {
            return;
        }
        head.clone_into(&mut self.tag);
        let mut labels = StreamLabels::new();
        labels.set(TAG_LABEL, head);
        self.stream = labels.canonical();
    }

    /// A stream of entries, compressed or not.
    fn packed(&mut self, bytes: &[u8], compressed: &[u8], message: &mut Message) {
        let encoding = match compressed {
            b"" | b"text" => None,
            b"gzip" => Some(Encoding::Gzip),
            b"zstd" => Some(Encoding::Zstd),
            other => {
                let name = String::from_utf8_lossy(other.get(..16).unwrap_or(other)).into_owned();
                return message
                    .reject(format!("compressed as {name:?}: only gzip and zstd are known"));
            }
        };
        let expanded;
        let bytes = match encoding {
            None => bytes,
            Some(encoding) => {
                match encoding::decompress(encoding, bytes, self.limits.expanded_bytes_max) {
                    Ok(plain) => {
                        expanded = plain;
                        expanded.as_slice()
                    }
                    Err(error) => return message.reject(error.to_string()),
                }
            }
        };
        let mut reader = Reader::new(bytes);
        while !reader.is_at_end() {
            let mut entry = reader.clone();
            if let Err(error) = reader.skip() {
                return message.reject(format!("the entries from here on: {error}"));
            }
            self.entry(&mut entry, message);
        }
    }

    /// `[time, record]`.
    fn entry(&mut self, reader: &mut Reader<'_>, message: &mut Message) {
        match reader.token() {
            Ok(Token::Array(parts)) if parts > 0 => self.record(reader, parts > 1, message),
            Ok(_) => message.reject("an entry that is not [time, record]".to_owned()),
            Err(error) => message.reject(error.to_string()),
        }
    }

    /// A time and, if there is one, a record.
    fn record(&mut self, reader: &mut Reader<'_>, has_record: bool, message: &mut Message) {
        if !has_record {
            return message.reject("an entry without a record".to_owned());
        }
        if self.rows.decoded_bytes() > self.decoded_bytes_end {
            return message.reject(format!(
                "the message's records take more than {} bytes, with the tag in each: send smaller \
                 chunks (chunk_limit_size in Fluentd)",
                self.limits.decoded_bytes_max
            ));
        }
        match self.told(reader) {
            Ok((time, is_map)) => {
                let mut reason = None;
                if !is_map {
                    let text = "the record is not a map";
                    self.rows.field(field::ERROR, Scalar::Text(text.as_bytes()));
                    reason = Some(text.to_owned());
                }
                let time_ns = time.unwrap_or(self.received_ns);
                if let Err(error) = self.rows.finish_row(time_ns, &self.stream) {
                    return message.reject(error.to_string());
                }
                if let Some(reason) = reason {
                    message.trouble(reason);
                    message.kept_as_text += 1;
                }
                message.accepted += 1;
            }
            Err(error) => {
                self.rows.abandon();
                message.reject(error.to_string());
            }
        }
    }

    /// Tells an entry's fields; its time, and whether its record is a map.
    fn told(&mut self, reader: &mut Reader<'_>) -> Result<(Option<i64>, bool), MsgpackError> {
        let rows = &mut self.rows;
        rows.field(TAG_LABEL, Scalar::Text(self.tag.as_bytes()));
        let mut time = reader.clone();
        reader.skip()?;
        let mut head = time.token()?;
        if let Token::Array(parts) = head {
            head = if parts > 0 { time.token()? } else { Token::Nil };
            if parts > 1 {
                rows.root("fluent.metadata");
                value(rows, &mut time)?;
            }
        }
        let is_map = matches!(reader.clone().token()?, Token::Map(_));
        rows.root_with_message();
        value(rows, reader)?;
        rows.end_message();
        Ok((msgpack::time_of(head), is_map))
    }
}

/// Tells a value.
fn value(rows: &mut RowWriter, reader: &mut Reader<'_>) -> Result<(), MsgpackError> {
    let offset = reader.offset();
    let scalar = match reader.token()? {
        Token::Array(_) | Token::Map(_) if rows.depth() >= DEPTH_MAX => {
            return Err(MsgpackError::TooDeep { offset });
        }
        Token::Array(count) => {
            rows.open_array();
            for _ in 0..count {
                value(rows, reader)?;
            }
            rows.close();
            return Ok(());
        }
        Token::Map(count) => {
            rows.open_map();
            for _ in 0..count {
                key(rows, reader)?;
                value(rows, reader)?;
            }
            rows.close();
            return Ok(());
        }
        Token::Nil => Scalar::Null,
        Token::Bool(value) => Scalar::Bool(value),
        Token::Int(value) => Scalar::Int(value),
        Token::Uint(value) => Scalar::Uint(value),
        Token::Float(value) => Scalar::Float(value),
        // Ruby's strings without an encoding come as bytes.
        Token::Str(bytes) | Token::Bin(bytes) => Scalar::Text(bytes),
        token @ Token::Ext(_, bytes) => match msgpack::time_of(token) {
            Some(time_ns) => {
                let time = lodge_record::time::format(time_ns);
                rows.scalar(Scalar::Text(time.as_bytes()));
                return Ok(());
            }
            None => Scalar::Bytes(bytes),
        },
    };
    rows.scalar(scalar);
    Ok(())
}

/// Tells a key; one that is no text as its text form, and of one that holds others nothing.
fn key(rows: &mut RowWriter, reader: &mut Reader<'_>) -> Result<(), MsgpackError> {
    let mut token = reader.clone();
    reader.skip()?;
    match token.token()? {
        Token::Str(bytes) | Token::Bin(bytes) => rows.key(bytes),
        Token::Bool(value) => rows.key(value.to_string().as_bytes()),
        Token::Int(value) => rows.key(value.to_string().as_bytes()),
        Token::Uint(value) => rows.key(value.to_string().as_bytes()),
        Token::Float(value) => rows.key(value.to_string().as_bytes()),
        Token::Nil | Token::Ext(..) | Token::Array(_) | Token::Map(_) => rows.key(b""),
    }
    Ok(())
}

#[cfg(test)]
mod tests;
