//! GELF over UDP: chunks put together to messages, and messages expanded.
//!
//! Specification: <https://go2docs.graylog.org/current/getting_in_log_data/gelf.html>.
//!
//! ```text
//! chunk    1e 0f | id 8 | number 1 | count 1 | part        numbers from 0, at most 128 of them
//! message  plain, gzip (1f 8b) or zlib (78 ..)
//! ```
//!
//! Sans-I/O: the caller says what came from whom, and when. Invariants: at most the limits' bytes
//! and messages are held, with what it costs to hold them; a message that is not whole after
//! [`CHUNKS_NS_MAX`] is dropped; every chunk ends in a message or in one of the counts.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::SocketAddr;

use hashbrown::HashMap;

use crate::encoding::{self, DecompressError, Encoding};

/// Most chunks of a message.
pub const CHUNKS_MAX: u8 = 128;
/// How long a message may take to become whole, in nanoseconds.
pub const CHUNKS_NS_MAX: i64 = 5_000_000_000;
const MAGIC: [u8; 2] = [0x1e, 0x0f];
const HEAD_BYTES: usize = 12;
/// What a message under way costs beside its parts, and what each of its chunks does.
const MESSAGE_COST_BYTES: usize = 200;
const CHUNK_COST_BYTES: usize = 32;

/// How much is held.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most messages under way; beyond, the oldest is dropped.
    pub messages_max: usize,
    /// Most bytes of messages under way; beyond, the oldest is dropped.
    pub bytes_max: usize,
    /// What a message may expand to.
    pub expanded_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { messages_max: 16 << 10, bytes_max: 64 << 20, expanded_bytes_max: 8 << 20 }
    }
}

/// Why a datagram gives no message.
#[derive(Debug, thiserror::Error)]
pub enum GelfError {
    /// It begins as a chunk, and ends before its head does.
    #[error("GELF chunk of {0} bytes: its head alone has {HEAD_BYTES}")]
    ShortChunk(usize),
    /// Its number is not below its count, or that is not within 1 to [`CHUNKS_MAX`].
    #[error("GELF chunk number {number} of {count}: a message has 1 to {CHUNKS_MAX} chunks")]
    BadNumber {
        /// Its number, from 0.
        number: u8,
        /// How many there are.
        count: u8,
    },
    /// An earlier chunk of the message told another count.
    #[error("GELF chunk of a message of {count} chunks, which had {expected} before")]
    OtherCount {
        /// What it tells.
        count: u8,
        /// What the first one told.
        expected: u8,
    },
    /// The message cannot be expanded.
    #[error("GELF message: {0}")]
    Expansion(#[from] DecompressError),
}

/// What became of chunks that are in no message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages that were not whole in time.
    pub expired_messages: u64,
    /// Their chunks.
    pub expired_chunks: u64,
    /// Messages that had to make room.
    pub evicted_messages: u64,
    /// Their chunks.
    pub evicted_chunks: u64,
    /// Chunks that came twice.
    pub repeated_chunks: u64,
    /// Chunks that are in no message because of an error.
    pub refused_chunks: u64,
}

type Key = (SocketAddr, [u8; 8]);

struct UnderWay {
    /// Which message it is, counted from the first.
    order: u64,
    begun_ns: i64,
    parts: Vec<Option<Box<[u8]>>>,
    missing: u8,
    bytes: usize,
}

/// Puts chunks together.
pub struct Assembler {
    limits: Limits,
    under_way: HashMap<Key, UnderWay>,
    /// The messages under way, the oldest first.
    order: BTreeMap<u64, Key>,
    next_order: u64,
    held_bytes: usize,
    counts: Counts,
}

impl Assembler {
    /// An assembler with nothing in it.
    pub fn new(limits: Limits) -> Self {
        Assembler {
            limits,
            under_way: HashMap::new(),
            order: BTreeMap::new(),
            next_order: 0,
            held_bytes: 0,
            counts: Counts::default(),
        }
    }

    /// Takes a datagram; the expanded message if it is one or completes one. `now_ns` is of any
    /// clock that does not go back.
    pub fn push<'d>(
        &mut self,
        sender: SocketAddr,
        datagram: &'d [u8],
        now_ns: i64,
    ) -> Result<Option<Cow<'d, [u8]>>, GelfError> {
        if !datagram.starts_with(&MAGIC) {
            return Ok(Some(expand(Cow::Borrowed(datagram), self.limits.expanded_bytes_max)?));
        }
        match self.chunk(sender, datagram, now_ns) {
            Ok(Some(message)) => {
                let expanded = expand(Cow::Owned(message), self.limits.expanded_bytes_max)?;
                Ok(Some(expanded))
            }
            Ok(None) => Ok(None),
            Err(error) => {
                self.counts.refused_chunks += 1;
                Err(error)
            }
        }
    }

    fn chunk(
        &mut self,
        sender: SocketAddr,
        datagram: &[u8],
        now_ns: i64,
    ) -> Result<Option<Vec<u8>>, GelfError> {
        self.expire(now_ns);
        let short = GelfError::ShortChunk(datagram.len());
        let Some((head, part)) = datagram.split_first_chunk::<HEAD_BYTES>() else {
            return Err(short);
        };
        let [_, _, id @ .., number, count] = *head;
        if count == 0 || count > CHUNKS_MAX || number >= count {
            return Err(GelfError::BadNumber { number, count });
        }
        let key = (sender, id);
        let next_order = &mut self.next_order;
        let message = self.under_way.entry(key).or_insert_with(|| {
            let order = *next_order;
            *next_order += 1;
            self.order.insert(order, key);
            let bytes = MESSAGE_COST_BYTES + usize::from(count) * CHUNK_COST_BYTES;
            self.held_bytes += bytes;
            let parts = vec![None; usize::from(count)];
            UnderWay { order, begun_ns: now_ns, parts, missing: count, bytes }
        });
        let expected = message.parts.len() as u8;
        if count != expected {
            return Err(GelfError::OtherCount { count, expected });
        }
        match message.parts.get_mut(usize::from(number)) {
            Some(place @ None) => *place = Some(part.into()),
            _ => {
                self.counts.repeated_chunks += 1;
                return Ok(None);
            }
        }
        message.missing -= 1;
        message.bytes += part.len();
        self.held_bytes += part.len();
        if message.missing == 0 {
            let parts = self.forget(key).map(|whole| whole.parts).unwrap_or_default();
            return Ok(Some(parts.into_iter().flatten().collect::<Vec<_>>().concat()));
        }
        self.make_room();
        Ok(None)
    }

    fn forget(&mut self, key: Key) -> Option<UnderWay> {
        let message = self.under_way.remove(&key)?;
        self.order.remove(&message.order);
        self.held_bytes -= message.bytes;
        Some(message)
    }

    fn make_room(&mut self) {
        while self.held_bytes > self.limits.bytes_max
            || self.under_way.len() > self.limits.messages_max
        {
            let Some(&oldest) = self.order.values().next() else { return };
            let chunks = self.forget(oldest).map_or(0, |message| message.chunks());
            self.counts.evicted_messages += 1;
            self.counts.evicted_chunks += chunks;
        }
    }

    /// Drops the messages that are not whole in time. [`Self::push`] does so, too.
    pub fn expire(&mut self, now_ns: i64) {
        while let Some(&oldest) = self.order.values().next() {
            let begun_ns = self.under_way.get(&oldest).map_or(i64::MIN, |m| m.begun_ns);
            if now_ns.saturating_sub(begun_ns) < CHUNKS_NS_MAX {
                return;
            }
            let chunks = self.forget(oldest).map_or(0, |message| message.chunks());
            self.counts.expired_messages += 1;
            self.counts.expired_chunks += chunks;
        }
    }

    /// Bytes of the messages under way, with what it costs to hold them.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Messages under way.
    pub fn messages(&self) -> usize {
        self.under_way.len()
    }

    /// What was dropped since the assembler was made.
    pub fn counts(&self) -> Counts {
        self.counts
    }
}

impl UnderWay {
    fn chunks(&self) -> u64 {
        self.parts.iter().flatten().count() as u64
    }
}

/// A message's text: expanded if its first bytes are those of gzip or zlib, to at most `bytes_max`.
pub fn expand(message: Cow<'_, [u8]>, bytes_max: usize) -> Result<Cow<'_, [u8]>, DecompressError> {
    let encoding = match *message {
        [0x1f, 0x8b, ..] => Encoding::Gzip,
        // Deflate with any window, and the two bytes' check.
        [first, second, ..]
            if first & 0x8f == 8 && u16::from_be_bytes([first, second]).is_multiple_of(31) =>
        {
            Encoding::Deflate
        }
        _ => return Ok(message),
    };
    encoding::decompress(encoding, &message, bytes_max).map(Cow::Owned)
}

#[cfg(test)]
mod tests;
