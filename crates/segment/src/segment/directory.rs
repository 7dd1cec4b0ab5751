//! The directory at the end of a segment: its columns, its chunks, and where its sections lie.
//! `FORMAT.md` has the grammar.
//!
//! Invariants:
//! - a [`Directory`] that was parsed had the right checksum, every section lies within the segment
//!   before the directory, and the chunks have as many rows as the segment;
//! - numbers of types and codecs are persisted: never renumbered.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};

use crate::SegmentError;
use crate::cursor::{Cursor, put_text, put_varint};
use crate::footer::{field_of, type_number};
use crate::sections::{SECTION_BYTES_MAX, SectionNo, Span};

/// Version of the segment format that this program writes, and the highest it reads. Versions 1 and 2
/// were never released.
pub const SEGMENT_VERSION: u32 = 3;
/// Bytes at the very end of a segment that say how long its directory is.
pub const TRAILER_BYTES: usize = 20;
/// Rows of a chunk: the step in which queries go through a segment.
pub const CHUNK_ROWS: usize = 65_536;
/// Most rows of a segment.
pub const ROWS_MAX: usize = 1 << 22;
/// The last bytes of a segment.
const MAGIC: [u8; 8] = *b"LODGESEG";
/// Most bytes of a directory.
const DIRECTORY_BYTES_MAX: usize = 256 << 20;

/// How the values of a column are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One of the codecs of `column`.
    Plain,
    /// Templates and variables: `text`.
    Text,
    /// One value per stream: `runs`.
    Runs,
}

impl Kind {
    fn number(self) -> u8 {
        match self {
            Kind::Plain => 0,
            Kind::Text => 1,
            Kind::Runs => 2,
        }
    }

    fn of(number: u8) -> Option<Self> {
        [Kind::Plain, Kind::Text, Kind::Runs].into_iter().find(|kind| kind.number() == number)
    }
}

/// A column as the directory has it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    /// Its field, text as `Utf8`.
    pub(crate) field: Arc<Field>,
    /// The section with the rows that have a value; `None` if all have one.
    pub(crate) presence: Option<SectionNo>,
    pub(crate) kind: Kind,
    /// What the codec says of itself.
    pub(crate) meta: Vec<u8>,
}

/// Some of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkInfo {
    /// How many.
    pub rows: usize,
    /// Earliest `_time`, nanoseconds.
    pub time_min_ns: i64,
    /// Latest `_time`, nanoseconds.
    pub time_max_ns: i64,
}

/// What the end of a segment says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Directory {
    pub(crate) rows: usize,
    pub(crate) chunks: Vec<ChunkInfo>,
    /// The section with the streams and where each begins.
    pub(crate) streams: SectionNo,
    pub(crate) columns: Vec<Entry>,
    pub(crate) spans: Vec<Span>,
}

impl Directory {
    pub(crate) fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.columns.iter().map(|c| Arc::clone(&c.field)).collect::<Vec<_>>()))
    }

    /// Appends directory and trailer.
    pub(crate) fn write(&self, out: &mut Vec<u8>) -> Result<(), SegmentError> {
        let start = out.len();
        put_varint(out, self.rows as u64);
        for chunk in &self.chunks {
            out.extend_from_slice(&chunk.time_min_ns.to_le_bytes());
            out.extend_from_slice(&chunk.time_max_ns.to_le_bytes());
        }
        put_varint(out, self.spans.len() as u64);
        for span in &self.spans {
            // They follow one another from the first byte on, so a length says where one is.
            put_varint(out, u64::from(span.stored));
            put_varint(out, if span.zstd { u64::from(span.unpacked) + 1 } else { 0 });
            out.extend_from_slice(&span.crc32c.to_le_bytes());
        }
        put_varint(out, u64::from(self.streams));
        put_varint(out, self.columns.len() as u64);
        for column in &self.columns {
            put_text(out, column.field.name());
            out.push(type_number(&column.field)?);
            put_varint(out, column.presence.map_or(0, |no| u64::from(no) + 1));
            out.push(column.kind.number());
            put_varint(out, column.meta.len() as u64);
            out.extend_from_slice(&column.meta);
        }
        let body = out.get(start..).unwrap_or_default();
        let len = u32::try_from(body.len())
            .ok()
            .filter(|len| *len as usize <= DIRECTORY_BYTES_MAX)
            .ok_or_else(|| SegmentError::Encode("a directory of more than 256 MiB".into()))?;
        let crc = checksum(body, SEGMENT_VERSION);
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&SEGMENT_VERSION.to_le_bytes());
        out.extend_from_slice(&MAGIC);
        Ok(())
    }

    /// How many bytes at the end of a segment hold directory and trailer, by its last
    /// [`TRAILER_BYTES`] bytes.
    pub(crate) fn tail_bytes(trailer: &[u8]) -> Result<usize, SegmentError> {
        Ok(Trailer::parse(trailer)?.len + TRAILER_BYTES)
    }

    /// Parses the directory of a segment of `segment_bytes` from its last bytes.
    pub(crate) fn parse(tail: &[u8], segment_bytes: u64) -> Result<Self, SegmentError> {
        let damaged = |trouble: &str| SegmentError::damaged("directory", trouble);
        let trailer = Trailer::parse(tail)?;
        let end = tail.len().saturating_sub(TRAILER_BYTES);
        let start = end
            .checked_sub(trailer.len)
            .ok_or_else(|| damaged("the trailer gives a length beyond the segment"))?;
        let body = tail.get(start..end).unwrap_or_default();
        if checksum(body, trailer.version) != trailer.crc32c {
            return Err(damaged("the checksum does not hold"));
        }
        let sections_end = segment_bytes
            .checked_sub((trailer.len + TRAILER_BYTES) as u64)
            .ok_or_else(|| damaged("the segment is shorter than its directory"))?;
        let mut cursor = Cursor { bytes: body };
        let parsed =
            directory(&mut cursor, sections_end).ok_or_else(|| damaged("it does not parse"))?;
        if !cursor.bytes.is_empty() {
            return Err(damaged("it has bytes left over"));
        }
        Ok(parsed)
    }
}

struct Trailer {
    len: usize,
    crc32c: u32,
    version: u32,
}

impl Trailer {
    fn parse(tail: &[u8]) -> Result<Self, SegmentError> {
        let damaged = |trouble: &str| SegmentError::damaged("trailer", trouble);
        let bytes = tail.last_chunk::<TRAILER_BYTES>().ok_or_else(|| damaged("is cut short"))?;
        let mut cursor = Cursor { bytes };
        let mut next = || cursor.u32().ok_or_else(|| damaged("is cut short"));
        let (len, crc32c, version) = (next()? as usize, next()?, next()?);
        if cursor.bytes != MAGIC {
            return Err(damaged("the magic bytes are wrong"));
        }
        if version > SEGMENT_VERSION {
            return Err(SegmentError::NewerVersion { found: version, known: SEGMENT_VERSION });
        }
        if version < SEGMENT_VERSION || len > DIRECTORY_BYTES_MAX {
            return Err(damaged("the version or the length is of no segment"));
        }
        Ok(Self { len, crc32c, version })
    }
}

/// The version is under the checksum too, so that a flipped bit in it is noticed as damage.
fn checksum(body: &[u8], version: u32) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(body), &version.to_le_bytes())
}

fn directory(cursor: &mut Cursor<'_>, sections_end: u64) -> Option<Directory> {
    let rows = usize::try_from(cursor.varint()?).ok().filter(|rows| *rows <= ROWS_MAX)?;
    let mut chunks = Vec::with_capacity(rows.div_ceil(CHUNK_ROWS));
    for first in (0..rows).step_by(CHUNK_ROWS) {
        let rows = CHUNK_ROWS.min(rows - first);
        let (time_min_ns, time_max_ns) = (cursor.i64()?, cursor.i64()?);
        chunks.push(ChunkInfo { rows, time_min_ns, time_max_ns });
    }
    let count = count(cursor)?;
    let mut spans = Vec::with_capacity(count);
    let mut offset = 0u64;
    for _ in 0..count {
        let span = span(cursor, offset)?;
        offset = offset.checked_add(u64::from(span.stored))?;
        spans.push(span);
    }
    if offset > sections_end {
        return None;
    }
    let known = |no: &SectionNo| (*no as usize) < spans.len();
    let streams = cursor.varint32().filter(known)?;
    let count = self::count(cursor)?;
    let mut columns = Vec::with_capacity(count);
    for _ in 0..count {
        let entry = entry(cursor)?;
        if !entry.presence.iter().all(known) {
            return None;
        }
        columns.push(entry);
    }
    Some(Directory { rows, chunks, streams, columns, spans })
}

/// A count of things that take at least three bytes each: one beyond the bytes that are left is
/// refused before memory is reserved for it.
fn count(cursor: &mut Cursor<'_>) -> Option<usize> {
    let count = usize::try_from(cursor.varint()?).ok()?;
    (count.checked_mul(3)? <= cursor.bytes.len()).then_some(count)
}

fn span(cursor: &mut Cursor<'_>, offset: u64) -> Option<Span> {
    let stored = cursor.varint32()?;
    let unpacked = cursor.varint()?;
    let crc32c = cursor.u32()?;
    let zstd = unpacked > 0;
    let unpacked = if zstd { u32::try_from(unpacked - 1).ok()? } else { stored };
    let fits = unpacked as usize <= SECTION_BYTES_MAX;
    fits.then_some(Span { offset, stored, unpacked, crc32c, zstd })
}

fn entry(cursor: &mut Cursor<'_>) -> Option<Entry> {
    let name = cursor.text()?;
    let field = Arc::new(field_of(name, cursor.u8()?)?);
    let presence = match cursor.varint32()? {
        0 => None,
        no => Some(no - 1),
    };
    let kind = Kind::of(cursor.u8()?)?;
    let meta_bytes = usize::try_from(cursor.varint()?).ok()?;
    let meta = cursor.take(meta_bytes)?.to_vec();
    Some(Entry { field, presence, kind, meta })
}
