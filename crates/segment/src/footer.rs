//! The directory at the end of a table: its columns, its blocks and where each chunk lies.
//! `FORMAT.md` has the byte diagram.
//!
//! Invariants:
//! - a [`Footer`] that was parsed had the right checksum, and every range in it lies within the
//!   table before the footer;
//! - numbers of types and encodings are persisted: never renumbered.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use lodge_record::schema;

use crate::SegmentError;

/// Version of the format that this program writes, and the highest it reads.
pub const FORMAT_VERSION: u32 = 1;

/// Bytes at the very end of a table that say how long its footer is.
pub const TRAILER_BYTES: usize = 20;

/// The last bytes of a table.
const MAGIC: [u8; 8] = *b"LODGE-L0";

/// Where some bytes of a table lie, and their checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Span {
    pub(crate) offset: u64,
    pub(crate) len: u32,
    pub(crate) crc32c: u32,
}

impl Span {
    pub(crate) fn range(self) -> Range<u64> {
        self.offset..self.offset.saturating_add(u64::from(self.len))
    }
}

/// The dictionary of a text column: one for the whole table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DictionarySpan {
    pub(crate) values: u32,
    pub(crate) span: Span,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ColumnMeta {
    /// Its field, with the type that its values have: text, not dictionary.
    pub(crate) field: Arc<Field>,
    pub(crate) dictionary: Option<DictionarySpan>,
}

/// A block of a table: some rows, a chunk for each column that is not all null in them.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockMeta {
    /// Number of rows.
    pub rows: u32,
    /// Earliest `_time`, nanoseconds.
    pub time_min_ns: i64,
    /// Latest `_time`, nanoseconds.
    pub time_max_ns: i64,
    /// Where the chunk of each column lies; length 0 where all values are null.
    pub(crate) chunks: Vec<Span>,
}

/// The directory of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Footer {
    pub(crate) columns: Vec<ColumnMeta>,
    pub(crate) blocks: Vec<BlockMeta>,
    schema: SchemaRef,
    by_name: HashMap<String, usize>,
}

impl Footer {
    pub(crate) fn new(columns: Vec<ColumnMeta>, blocks: Vec<BlockMeta>) -> Self {
        let fields: Vec<Arc<Field>> = columns.iter().map(|c| Arc::clone(&c.field)).collect();
        let by_name = fields.iter().enumerate().map(|(i, f)| (f.name().clone(), i)).collect();
        Self { columns, blocks, schema: Arc::new(Schema::new(fields)), by_name }
    }

    /// The columns in the order of the record shape; text is `Utf8` even where it is stored as a
    /// dictionary.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The blocks, in the order of their rows.
    pub fn blocks(&self) -> &[BlockMeta] {
        &self.blocks
    }

    /// Number of rows.
    pub fn rows(&self) -> u64 {
        self.blocks.iter().map(|b| u64::from(b.rows)).sum()
    }

    /// The place of the column called `name`.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// About the bytes that this footer takes in memory.
    pub fn memory_bytes(&self) -> usize {
        let chunks = self.columns.len().saturating_mul(self.blocks.len());
        let names: usize = self.columns.iter().map(|c| c.field.name().len()).sum();
        chunks.saturating_mul(size_of::<Span>()) + names * 2 + self.columns.len() * 256
    }

    /// Appends footer and trailer to a table whose chunks are written.
    pub(crate) fn write(&self, out: &mut Vec<u8>) -> Result<(), SegmentError> {
        let start = out.len();
        put_len(out, self.columns.len())?;
        put_len(out, self.blocks.len())?;
        for column in &self.columns {
            let name = column.field.name().as_bytes();
            let name_len = u16::try_from(name.len())
                .map_err(|_| SegmentError::Encode("a field name of 64 KiB".into()))?;
            out.extend_from_slice(&name_len.to_le_bytes());
            out.extend_from_slice(name);
            out.push(type_number(&column.field)?);
            match column.dictionary {
                None => out.push(0),
                Some(dictionary) => {
                    out.push(1);
                    out.extend_from_slice(&dictionary.values.to_le_bytes());
                    put_span(out, dictionary.span);
                }
            }
        }
        for block in &self.blocks {
            out.extend_from_slice(&block.rows.to_le_bytes());
            out.extend_from_slice(&block.time_min_ns.to_le_bytes());
            out.extend_from_slice(&block.time_max_ns.to_le_bytes());
            block.chunks.iter().for_each(|span| put_span(out, *span));
        }
        let footer = out.get(start..).unwrap_or_default();
        let checksum = trailer_checksum(footer, FORMAT_VERSION);
        let footer_len = footer.len();
        put_len(out, footer_len)?;
        out.extend_from_slice(&checksum.to_le_bytes());
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&MAGIC);
        Ok(())
    }

    /// How many bytes at the end of a table hold footer and trailer, by its last
    /// [`TRAILER_BYTES`] bytes.
    pub fn tail_bytes(trailer: &[u8]) -> Result<usize, SegmentError> {
        Ok(parse_trailer(trailer)?.footer_len + TRAILER_BYTES)
    }

    /// Parses the directory of a table of `table_len` bytes from `tail`, its last
    /// [`Footer::tail_bytes`] bytes or more.
    pub fn parse(tail: &[u8], table_len: u64) -> Result<Self, SegmentError> {
        let damaged = |trouble: &str| SegmentError::damaged("footer", trouble);
        let body_len = tail
            .len()
            .checked_sub(TRAILER_BYTES)
            .ok_or_else(|| damaged("the table is shorter than a trailer"))?;
        let (body, trailer) = tail.split_at(body_len);
        let trailer = parse_trailer(trailer)?;
        let start = body_len
            .checked_sub(trailer.footer_len)
            .ok_or_else(|| damaged("the trailer gives a length beyond the table"))?;
        let footer = body.get(start..).unwrap_or_default();
        if trailer_checksum(footer, trailer.version) != trailer.crc32c {
            return Err(damaged("the checksum does not hold"));
        }
        let chunks_end = table_len
            .checked_sub((trailer.footer_len + TRAILER_BYTES) as u64)
            .ok_or_else(|| damaged("the table is shorter than its footer"))?;
        let mut cursor = Cursor { bytes: footer };
        let parsed = cursor.footer(chunks_end).ok_or_else(|| damaged("it does not parse"))?;
        if !cursor.bytes.is_empty() {
            return Err(damaged("it has bytes left over"));
        }
        Ok(parsed)
    }
}

struct Trailer {
    footer_len: usize,
    crc32c: u32,
    version: u32,
}

fn parse_trailer(bytes: &[u8]) -> Result<Trailer, SegmentError> {
    let damaged = |trouble: &str| SegmentError::damaged("trailer", trouble);
    let start = bytes.len().checked_sub(TRAILER_BYTES).ok_or_else(|| damaged("is cut short"))?;
    let mut cursor = Cursor { bytes: bytes.get(start..).unwrap_or_default() };
    let mut next = || cursor.u32().ok_or_else(|| damaged("is cut short"));
    let (footer_len, crc32c, version) = (next()?, next()?, next()?);
    if cursor.bytes != MAGIC {
        return Err(damaged("the magic bytes are wrong"));
    }
    if version > FORMAT_VERSION {
        return Err(SegmentError::NewerVersion { found: version, known: FORMAT_VERSION });
    }
    Ok(Trailer { footer_len: footer_len as usize, crc32c, version })
}

/// The version is under the checksum too, so that a flipped bit in it is noticed as damage.
fn trailer_checksum(footer: &[u8], version: u32) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(footer), &version.to_le_bytes())
}

fn put_len(out: &mut Vec<u8>, len: usize) -> Result<(), SegmentError> {
    let len = u32::try_from(len).map_err(|_| SegmentError::Encode("4 Gi of a thing".into()))?;
    out.extend_from_slice(&len.to_le_bytes());
    Ok(())
}

fn put_span(out: &mut Vec<u8>, span: Span) {
    out.extend_from_slice(&span.offset.to_le_bytes());
    out.extend_from_slice(&span.len.to_le_bytes());
    out.extend_from_slice(&span.crc32c.to_le_bytes());
}

/// The persisted number of a field's type: also in the catalog.
pub fn type_number(field: &Field) -> Result<u8, SegmentError> {
    let wide = field.metadata().contains_key(schema::WIDE);
    match field.data_type() {
        DataType::Utf8 if field.is_nullable() => Ok(1),
        DataType::Int64 if !wide => Ok(2),
        DataType::Float64 => Ok(3),
        DataType::Boolean => Ok(4),
        DataType::Timestamp(..) => Ok(5),
        DataType::Int64 => Ok(6),
        DataType::Utf8 => Ok(7),
        other => Err(SegmentError::Encode(format!("column {} has type {other}", field.name()))),
    }
}

/// The field of a persisted type number; `None` for a number that is not known.
pub fn field_of(name: &str, number: u8) -> Option<Field> {
    Some(match number {
        1 => Field::new(name, DataType::Utf8, true),
        2 => schema::make_field(name, DataType::Int64, false),
        3 => Field::new(name, DataType::Float64, true),
        4 => Field::new(name, DataType::Boolean, true),
        5 => Field::new(name, schema::time_type(), false),
        6 => schema::make_field(name, DataType::Int64, true),
        7 => Field::new(name, DataType::Utf8, false),
        _ => return None,
    })
}

/// Reads from the front; `None` where there are not enough bytes or they make no sense.
struct Cursor<'b> {
    bytes: &'b [u8],
}

impl<'b> Cursor<'b> {
    fn take(&mut self, len: usize) -> Option<&'b [u8]> {
        let (head, rest) = self.bytes.split_at_checked(len)?;
        self.bytes = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    fn span(&mut self, end: u64) -> Option<Span> {
        let offset = self.array().map(u64::from_le_bytes)?;
        let (len, crc32c) = (self.u32()?, self.u32()?);
        (offset.checked_add(u64::from(len))? <= end).then_some(Span { offset, len, crc32c })
    }

    fn column(&mut self, end: u64) -> Option<ColumnMeta> {
        let name_len = self.array().map(u16::from_le_bytes)?;
        let name = std::str::from_utf8(self.take(usize::from(name_len))?).ok()?;
        let [number, encoding] = self.array()?;
        let dictionary = match encoding {
            0 => None,
            1 => Some(DictionarySpan { values: self.u32()?, span: self.span(end)? }),
            _ => return None,
        };
        Some(ColumnMeta { field: Arc::new(field_of(name, number)?), dictionary })
    }

    fn block(&mut self, columns: usize, end: u64) -> Option<BlockMeta> {
        let rows = self.u32()?;
        let (time_min_ns, time_max_ns) = (self.i64()?, self.i64()?);
        let chunks = (0..columns).map(|_| self.span(end)).collect::<Option<Vec<_>>>()?;
        Some(BlockMeta { rows, time_min_ns, time_max_ns, chunks })
    }

    fn footer(&mut self, end: u64) -> Option<Footer> {
        let (columns, blocks) = (self.u32()? as usize, self.u32()? as usize);
        // Every column takes at least four bytes and every block twenty, so that a count beyond the
        // footer's own length is refused before memory is reserved for it.
        if columns.checked_mul(4)? > self.bytes.len() || blocks.checked_mul(20)? > self.bytes.len()
        {
            return None;
        }
        let columns = (0..columns).map(|_| self.column(end)).collect::<Option<Vec<_>>>()?;
        let blocks = (0..blocks).map(|_| self.block(columns.len(), end)).collect::<Option<_>>()?;
        Some(Footer::new(columns, blocks))
    }
}
