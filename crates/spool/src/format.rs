//! The bytes of a spool file, as the crate's page describes them. Values in, values out; no I/O.
//!
//! Persisted: numbers and layouts below are never changed under the same version.

use std::fmt;

use crate::position::Position;

/// The version that is written, and the only one that is read.
pub(crate) const VERSION: u32 = 1;
/// Where the first frame begins: behind both copies of the file's header.
pub(crate) const FRAMES_AT: u64 = 2 * HEADER_BYTES as u64;
/// What a frame costs beyond its payload.
pub(crate) const FRAME_HEADER_BYTES: usize = 16;
/// One copy of the file's header.
pub(crate) const HEADER_BYTES: usize = 60;
/// Longest payload that any setting allows.
pub(crate) const PAYLOAD_BYTES_MAX: u32 = 64 << 20;
/// What a frame begins with; no byte of it begins a UTF-8 text.
pub(crate) const FRAME_MAGIC: [u8; 4] = [0x9F, 0xF5, 0xC0, 0xFE];

const FILE_MAGIC: [u8; 8] = *b"LODGESPL";
const SUFFIX: &str = ".spool";

/// Which file: its number, and the salt under which its frames are summed. Both are in its name, so
/// that frames are found again even when the whole header is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    pub(crate) number: u64,
    pub(crate) salt: u64,
}

impl FileId {
    /// Reads a file name; `None` if it is not one of the spool's.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (number, salt) = name.strip_suffix(SUFFIX)?.split_once('-')?;
        let id = FileId { number: number.parse().ok()?, salt: u64::from_str_radix(salt, 16).ok()? };
        (id.to_string() == name).then_some(id)
    }

    /// The checksum that those of a frame at `offset` go on from.
    fn seed(self, offset: u64) -> u32 {
        let mut place = [0; 28];
        place[..8].copy_from_slice(&self.salt.to_le_bytes());
        place[8..16].copy_from_slice(&self.number.to_le_bytes());
        place[16..24].copy_from_slice(&offset.to_le_bytes());
        place[24..].copy_from_slice(&VERSION.to_le_bytes());
        crc32c::crc32c(&place)
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:020}-{:016x}{SUFFIX}", self.number, self.salt)
    }
}

/// What a file says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileHeader {
    pub(crate) id: FileId,
    /// Unix milliseconds when it was begun.
    pub(crate) begun_ms: u64,
    /// Where the frames of the files before it end: what stands behind that in them is void.
    pub(crate) ends: Position,
}

impl FileHeader {
    /// Both copies.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut one = Vec::with_capacity(2 * HEADER_BYTES);
        one.extend_from_slice(&FILE_MAGIC);
        one.extend_from_slice(&VERSION.to_le_bytes());
        one.extend_from_slice(&crc32c::crc32c(&one).to_le_bytes());
        let ends = self.ends;
        for number in [self.id.number, self.id.salt, self.begun_ms, ends.file, ends.offset] {
            one.extend_from_slice(&number.to_le_bytes());
        }
        one.extend_from_slice(&crc32c::crc32c(&one).to_le_bytes());
        one.repeat(2)
    }
}

/// What the beginning of a file shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderRead {
    /// A header; `whole` if both copies say so.
    Found { header: FileHeader, whole: bool },
    /// A version that this program does not know.
    Version(u32),
    /// No copy can be read.
    Damaged,
}

/// Reads the header from the first bytes of a file, from whichever copy is in order.
pub(crate) fn read_header(head: &[u8]) -> HeaderRead {
    let copies = [head.get(..HEADER_BYTES), head.get(HEADER_BYTES..2 * HEADER_BYTES)];
    let copies = copies.map(|copy| copy.map_or(HeaderRead::Damaged, read_copy));
    match copies {
        [HeaderRead::Found { header, .. }, second] => {
            HeaderRead::Found { header, whole: second == copies[0] }
        }
        [_, HeaderRead::Found { header, .. }] => HeaderRead::Found { header, whole: false },
        [HeaderRead::Version(version), _] | [_, HeaderRead::Version(version)] => {
            HeaderRead::Version(version)
        }
        _ => HeaderRead::Damaged,
    }
}

fn read_copy(copy: &[u8]) -> HeaderRead {
    let mut fields = Fields(copy);
    let preamble = (|| {
        let magic = fields.take::<8>()?;
        let (version, sum) = (fields.u32()?, fields.u32()?);
        (magic == FILE_MAGIC && sum == crc32c::crc32c(copy.get(..12)?)).then_some(version)
    })();
    match preamble {
        None => return HeaderRead::Damaged,
        Some(VERSION) => {}
        Some(version) => return HeaderRead::Version(version),
    }
    let header = (|| {
        let id = FileId { number: fields.u64()?, salt: fields.u64()? };
        let begun_ms = fields.u64()?;
        let ends = Position { file: fields.u64()?, offset: fields.u64()? };
        let summed = copy.get(..HEADER_BYTES - 4)?;
        (fields.u32()? == crc32c::crc32c(summed)).then_some(FileHeader { id, begun_ms, ends })
    })();
    header.map_or(HeaderRead::Damaged, |header| HeaderRead::Found { header, whole: true })
}

/// What stands before a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// Bytes of the payload.
    pub(crate) length: u32,
    sum: u32,
}

impl FrameHeader {
    /// The bytes that go before `payload` at `offset` of `id`; `length` is that of the payload.
    pub(crate) fn encode(
        id: FileId,
        offset: u64,
        length: u32,
        payload: &[u8],
    ) -> [u8; FRAME_HEADER_BYTES] {
        let seed = id.seed(offset);
        let mut sum = PayloadSum::new(id, offset, length);
        sum.add(payload);
        let mut out = [0; FRAME_HEADER_BYTES];
        out[..4].copy_from_slice(&FRAME_MAGIC);
        out[4..8].copy_from_slice(&length.to_le_bytes());
        out[8..12].copy_from_slice(&sum.0.to_le_bytes());
        let own = crc32c::crc32c_append(seed, &out[..12]);
        out[12..].copy_from_slice(&own.to_le_bytes());
        out
    }

    /// Reads the header at `offset` of `id`; `None` if it is not one of this place.
    pub(crate) fn decode(id: FileId, offset: u64, bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let magic = fields.take::<4>()?;
        let (length, sum, own) = (fields.u32()?, fields.u32()?, fields.u32()?);
        let fits = magic == FRAME_MAGIC
            && length <= PAYLOAD_BYTES_MAX
            && own == crc32c::crc32c_append(id.seed(offset), bytes.get(..12)?);
        fits.then_some(FrameHeader { length, sum })
    }

    /// Where the frame that begins at `offset` ends.
    pub(crate) fn end(&self, offset: u64) -> u64 {
        offset + FRAME_HEADER_BYTES as u64 + u64::from(self.length)
    }

    /// Whether the payload is the one that was written here.
    pub(crate) fn fits(&self, sum: &PayloadSum) -> bool {
        self.sum == sum.0
    }
}

/// Checksum of a payload at its place, taken piece by piece.
#[derive(Debug)]
pub(crate) struct PayloadSum(u32);

impl PayloadSum {
    pub(crate) fn new(id: FileId, offset: u64, length: u32) -> Self {
        PayloadSum(crc32c::crc32c_append(id.seed(offset), &length.to_le_bytes()))
    }

    pub(crate) fn add(&mut self, piece: &[u8]) {
        self.0 = crc32c::crc32c_append(self.0, piece);
    }
}

/// Little-endian numbers, one after the other.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}
