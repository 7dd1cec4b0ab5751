//! A table: blocks of rows, each column of a block a chunk, and a footer that finds them.
//! L0 sections are tables; see `FORMAT.md`.
//!
//! Invariants:
//! - a table is written column by column, so that only one column is in memory twice;
//! - a block holds at most [`BLOCK_ROWS_MAX`] rows and, of a wide table, at most
//!   [`BLOCK_CELLS_MAX`] cells.

use std::sync::Arc;

use arrow::array::ArrayData;
use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, Int32Array, MutableArrayData, PrimitiveArray,
    RecordBatch, RecordBatchOptions, StringArray, make_array, new_null_array,
};
use arrow::buffer::{Buffer, NullBuffer, ScalarBuffer};
use arrow::compute::interleave;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Field, Int32Type, Schema, SchemaRef, UInt8Type, UInt16Type,
};
use bytes::Bytes;
use lodge_record::{field, schema};

use crate::SegmentError;
use crate::chunk::{self, ChunkWriter, encode_error};
use crate::dictionary::{self, Dictionary, Want};
use crate::footer::{BlockMeta, ColumnMeta, DictionarySpan, Footer, Span};
use crate::sources::Sources;

/// Most rows of a block.
pub const BLOCK_ROWS_MAX: usize = 65_536;
/// Most rows × columns of a block: what a reader of all columns must hold at once.
pub const BLOCK_CELLS_MAX: usize = 4 << 20;
/// A block of a wide table has at least so many rows (if there are any more).
const BLOCK_ROWS_MIN: usize = 1_024;

/// Most rows of a block of a table of so many columns.
pub(crate) fn block_rows_max(columns: usize) -> usize {
    (BLOCK_CELLS_MAX / columns.max(1)).clamp(BLOCK_ROWS_MIN, BLOCK_ROWS_MAX)
}

/// Which rows of which sources make a block.
pub(crate) enum BlockRows {
    /// All rows of one source, in their order.
    Whole(usize),
    /// These `(source, row)`, in this order.
    Picked(Vec<(usize, usize)>),
}

impl BlockRows {
    fn len(&self, sources: &Sources<'_>) -> usize {
        match self {
            BlockRows::Whole(source) => sources.rows.get(*source).copied().unwrap_or(0),
            BlockRows::Picked(rows) => rows.len(),
        }
    }
}

/// What was written.
pub(crate) struct Written {
    pub(crate) footer: Footer,
    /// The blocks as a reader would see them; only if they were to be kept.
    pub(crate) kept: Vec<RecordBatch>,
    /// About the bytes that the columns take in memory.
    pub(crate) arrow_bytes: usize,
}

/// Appends the table of `blocks` to `out`. `stream` is the dictionary of `_stream` if the caller
/// has made it already.
pub(crate) fn write(
    out: &mut Vec<u8>,
    sources: &Sources<'_>,
    blocks: &[BlockRows],
    mut stream: Option<Dictionary>,
    keep: bool,
) -> Result<Written, SegmentError> {
    let mut writer = TableWriter { start: out.len(), out, chunks: ChunkWriter::new()? };
    let mut metas = block_metas(sources, blocks)?;
    let mut columns = Vec::with_capacity(sources.fields.len());
    let mut kept: Vec<Vec<(Arc<Field>, ArrayRef)>> = blocks.iter().map(|_| Vec::new()).collect();
    let mut arrow_bytes = 0usize;
    for field in &sources.fields {
        let given = (field.name() == field::STREAM).then(|| stream.take()).flatten();
        let column = match given {
            Some(dictionary) => Column::Coded(dictionary),
            None => Column::of(sources, field)?,
        };
        let (meta, values) = writer.dictionary(field, &column)?;
        arrow_bytes += values.as_ref().map_or(0, |v| v.get_buffer_memory_size());
        for ((rows, meta), kept) in blocks.iter().zip(&mut metas).zip(&mut kept) {
            let array = column.block(rows, rows.len(sources))?;
            let (span, bytes) = writer.chunk(array.as_ref(), values.as_ref())?;
            meta.chunks.push(span);
            arrow_bytes += bytes;
            if let Some(array) = array.filter(|_| keep) {
                kept.push(readable(field, array, values.as_ref())?);
            }
        }
        columns.push(meta);
    }
    let footer = Footer::new(columns, metas);
    footer.write(writer.out)?;
    let kept = if keep { batches(kept, &footer)? } else { Vec::new() };
    Ok(Written { footer, kept, arrow_bytes })
}

fn batches(
    kept: Vec<Vec<(Arc<Field>, ArrayRef)>>,
    footer: &Footer,
) -> Result<Vec<RecordBatch>, SegmentError> {
    let batch = |(columns, meta): (Vec<(Arc<Field>, ArrayRef)>, &BlockMeta)| {
        let (fields, columns): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        let columns = own(columns)?;
        let options = RecordBatchOptions::new().with_row_count(Some(meta.rows as usize));
        RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
            .map_err(encode_error)
    };
    kept.into_iter().zip(&footer.blocks).map(batch).collect()
}

/// A column of a block with its field, as a reader gets it.
fn readable(
    field: &Arc<Field>,
    array: ArrayRef,
    values: Option<&ArrayRef>,
) -> Result<(Arc<Field>, ArrayRef), SegmentError> {
    let Some(values) = values else { return Ok((Arc::clone(field), array)) };
    let codes = array.as_primitive::<Int32Type>().clone();
    let coded = DictionaryArray::try_new(codes, Arc::clone(values)).map_err(encode_error)?;
    let field = field.as_ref().clone().with_data_type(schema::dictionary_type());
    Ok((Arc::new(field), Arc::new(coded)))
}

/// The columns of a block in no more memory than they need. Those that were decoded from a message
/// lie in its one buffer together: there they stay, unless they are the lesser part of it.
fn own(columns: Vec<ArrayRef>) -> Result<Vec<ArrayRef>, SegmentError> {
    let data: Vec<ArrayData> = columns.iter().map(|column| column.to_data()).collect();
    let used = |data: &ArrayData| data.get_slice_memory_size().unwrap_or(usize::MAX);
    let together = data.iter().map(used).fold(0, usize::saturating_add);
    let held = data.iter().flat_map(ArrayData::buffers).map(Buffer::capacity).max().unwrap_or(0);
    if held <= together.saturating_mul(2) {
        return Ok(columns);
    }
    let own_one = |(column, data): (ArrayRef, ArrayData)| {
        if column.get_buffer_memory_size() <= used(&data).saturating_mul(2) {
            return Ok(column);
        }
        let mut copy = MutableArrayData::new(vec![&data], false, data.len());
        copy.try_extend(0, 0, data.len()).map_err(encode_error)?;
        Ok(make_array(copy.freeze()))
    };
    columns.into_iter().zip(data).map(own_one).collect()
}

fn block_metas(
    sources: &Sources<'_>,
    blocks: &[BlockRows],
) -> Result<Vec<BlockMeta>, SegmentError> {
    let times = sources.times()?;
    let time =
        |&(source, row): &(usize, usize)| times.get(source).and_then(|t| t.get(row)).copied();
    let meta = |rows: &BlockRows| {
        let range = match rows {
            BlockRows::Whole(source) => {
                let times = times.get(*source).map_or(&[][..], |times| times.as_ref());
                times.iter().min().copied().zip(times.iter().max().copied())
            }
            BlockRows::Picked(rows) => {
                let times = || rows.iter().filter_map(time);
                times().min().zip(times().max())
            }
        };
        let (time_min_ns, time_max_ns) =
            range.ok_or_else(|| SegmentError::Encode("a block without rows".into()))?;
        let rows = u32::try_from(rows.len(sources))
            .map_err(|_| SegmentError::Encode("a block of 4 Gi rows".into()))?;
        Ok(BlockMeta { rows, time_min_ns, time_max_ns, chunks: Vec::new() })
    };
    blocks.iter().map(meta).collect()
}

/// A column of all sources, ready to be cut into blocks.
enum Column {
    /// Codes into a dictionary.
    Coded(Dictionary),
    /// Values as they are.
    Plain { sources: Vec<Option<ArrayRef>>, null: ArrayRef },
}

impl Column {
    fn of(sources: &Sources<'_>, field: &Field) -> Result<Self, SegmentError> {
        let mut columns = sources.column(field)?;
        if field.data_type() == &DataType::Utf8 && field.name() != field::OVERFLOW {
            let always = field.name() == field::STREAM;
            let want = if always { Want::Always } else { Want::IfRepeated };
            if let Some(dictionary) = dictionary::unite(&columns, want)? {
                return Ok(Column::Coded(dictionary));
            }
        }
        for column in columns.iter_mut().flatten() {
            if matches!(column.data_type(), DataType::Dictionary(..)) {
                *column = schema::cast_to(column, field.data_type()).map_err(encode_error)?;
            }
        }
        Ok(Column::Plain { sources: columns, null: new_null_array(field.data_type(), 1) })
    }

    /// The values (or codes) of a block; `None` if all are null.
    fn block(&self, rows: &BlockRows, len: usize) -> Result<Option<ArrayRef>, SegmentError> {
        let array = match (self, rows) {
            (Column::Coded(dictionary), BlockRows::Whole(source)) => dictionary
                .codes
                .get(*source)
                .and_then(Option::as_ref)
                .map(|codes| Arc::new(codes.clone()) as ArrayRef),
            (Column::Plain { sources, .. }, BlockRows::Whole(source)) => {
                sources.get(*source).cloned().flatten()
            }
            (Column::Coded(dictionary), BlockRows::Picked(rows)) => {
                Some(Arc::new(pick_codes(&dictionary.codes, rows)) as ArrayRef)
            }
            (Column::Plain { sources, null }, BlockRows::Picked(rows)) => {
                Some(pick(sources, null, rows)?)
            }
        };
        Ok(array.filter(|a| a.null_count() < len))
    }
}

fn pick_codes(sources: &[Option<Int32Array>], rows: &[(usize, usize)]) -> Int32Array {
    let code = |&(source, row): &(usize, usize)| {
        let codes = sources.get(source)?.as_ref()?;
        if codes.is_null(row) { None } else { codes.values().get(row).copied() }
    };
    if sources.iter().all(|s| s.as_ref().is_some_and(|s| s.null_count() == 0)) {
        let codes: Vec<i32> = rows.iter().map(|at| code(at).unwrap_or(0)).collect();
        return Int32Array::new(ScalarBuffer::from(codes), None);
    }
    rows.iter().map(code).collect()
}

fn pick(
    sources: &[Option<ArrayRef>],
    null: &ArrayRef,
    rows: &[(usize, usize)],
) -> Result<ArrayRef, SegmentError> {
    if sources.iter().all(Option::is_some) {
        let arrays: Vec<&dyn Array> = sources.iter().flatten().map(AsRef::as_ref).collect();
        return interleave(&arrays, rows).map_err(encode_error);
    }
    // Rows of sources without the column come from one null at the end.
    let mut arrays: Vec<&dyn Array> = Vec::with_capacity(sources.len() + 1);
    let mut places = Vec::with_capacity(sources.len());
    for source in sources {
        places.push(source.as_ref().map(|array| {
            arrays.push(array.as_ref());
            arrays.len() - 1
        }));
    }
    let nowhere = arrays.len();
    arrays.push(null.as_ref());
    let place = |&(source, row): &(usize, usize)| match places.get(source) {
        Some(Some(place)) => (*place, row),
        _ => (nowhere, 0),
    };
    let rows: Vec<(usize, usize)> = rows.iter().map(place).collect();
    if rows.iter().all(|(source, _)| *source == nowhere) {
        return Ok(new_null_array(null.data_type(), rows.len()));
    }
    interleave(&arrays, &rows).map_err(encode_error)
}

struct TableWriter<'o> {
    start: usize,
    out: &'o mut Vec<u8>,
    chunks: ChunkWriter,
}

impl TableWriter<'_> {
    fn append(&mut self, array: &ArrayRef) -> Result<Span, SegmentError> {
        let from = self.out.len();
        self.chunks.append(array, self.out)?;
        let bytes = self.out.get(from..).unwrap_or_default();
        let len = u32::try_from(bytes.len())
            .map_err(|_| SegmentError::Encode("a chunk of 4 GiB".into()))?;
        Ok(Span { offset: (from - self.start) as u64, len, crc32c: crc32c::crc32c(bytes) })
    }

    /// Writes the dictionary of a column, if it has one.
    fn dictionary(
        &mut self,
        field: &Arc<Field>,
        column: &Column,
    ) -> Result<(ColumnMeta, Option<ArrayRef>), SegmentError> {
        let Column::Coded(dictionary) = column else {
            return Ok((ColumnMeta { field: Arc::clone(field), dictionary: None }, None));
        };
        let values: ArrayRef = Arc::new(dictionary.values.clone());
        let span = self.append(&values)?;
        let count = u32::try_from(values.len())
            .map_err(|_| SegmentError::Encode("a dictionary of 4 Gi values".into()))?;
        let dictionary = Some(DictionarySpan { values: count, span });
        Ok((ColumnMeta { field: Arc::clone(field), dictionary }, Some(values)))
    }

    /// Writes one column of one block; also gives the bytes that it takes in memory.
    fn chunk(
        &mut self,
        array: Option<&ArrayRef>,
        values: Option<&ArrayRef>,
    ) -> Result<(Span, usize), SegmentError> {
        let Some(array) = array else { return Ok((Span::default(), 0)) };
        let narrow = values.map(|values| narrow_codes(array.as_primitive(), values.len()));
        let bytes = memory_bytes(array);
        Ok((self.append(narrow.as_ref().unwrap_or(array))?, bytes))
    }
}

/// Bytes that the values of `array` take, whatever larger buffer they may lie in.
fn memory_bytes(array: &ArrayRef) -> usize {
    array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_buffer_memory_size())
}

/// The type of codes as they are stored: the narrowest that holds them.
fn code_type(values: usize) -> DataType {
    match values {
        0..=0x100 => DataType::UInt8,
        0x101..=0x1_0000 => DataType::UInt16,
        _ => DataType::Int32,
    }
}

fn narrow_codes(codes: &Int32Array, values: usize) -> ArrayRef {
    fn cast<T: ArrowPrimitiveType>(codes: &Int32Array, to: impl Fn(i32) -> T::Native) -> ArrayRef {
        let narrow: Vec<T::Native> = codes.values().iter().map(|code| to(*code)).collect();
        Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::from(narrow), codes.nulls().cloned()))
    }
    // Codes are below `values`, and codes of nulls are of no account: nothing is lost.
    match code_type(values) {
        DataType::UInt8 => cast::<UInt8Type>(codes, |code| code as u8),
        DataType::UInt16 => cast::<UInt16Type>(codes, |code| code as u16),
        _ => Arc::new(codes.clone()),
    }
}

fn wide_codes(stored: &ArrayRef) -> Int32Array {
    fn cast<T: ArrowPrimitiveType>(array: &ArrayRef, to: impl Fn(T::Native) -> i32) -> Int32Array {
        let array = array.as_primitive::<T>();
        let wide: Vec<i32> = array.values().iter().map(|code| to(*code)).collect();
        let nulls: Option<NullBuffer> = array.nulls().cloned();
        Int32Array::new(ScalarBuffer::from(wide), nulls)
    }
    match stored.data_type() {
        DataType::UInt8 => cast::<UInt8Type>(stored, i32::from),
        DataType::UInt16 => cast::<UInt16Type>(stored, i32::from),
        _ => stored.as_primitive::<Int32Type>().clone(),
    }
}

/// Reading: which bytes are needed, and what they hold.
impl Footer {
    /// Where the dictionary of a column lies; `None` if it has none.
    pub fn dictionary_range(&self, column: usize) -> Option<std::ops::Range<u64>> {
        Some(self.columns.get(column)?.dictionary?.span.range())
    }

    /// How many values the dictionary of a column has; `None` if it has none.
    pub fn dictionary_values(&self, column: usize) -> Option<u64> {
        Some(self.columns.get(column)?.dictionary?.values.into())
    }

    /// Where the chunk of a column in a block lies; `None` if all its values are null.
    pub fn chunk_range(&self, block: usize, column: usize) -> Option<std::ops::Range<u64>> {
        let span = self.blocks.get(block)?.chunks.get(column)?;
        (span.len > 0).then(|| span.range())
    }

    /// The values of a dictionary, from the bytes of [`Footer::dictionary_range`].
    pub fn decode_dictionary(
        &self,
        column: usize,
        bytes: &Bytes,
    ) -> Result<ArrayRef, SegmentError> {
        let place = || format!("dictionary of column `{}`", self.column_name(column));
        let dictionary = self
            .columns
            .get(column)
            .and_then(|c| c.dictionary)
            .ok_or_else(|| SegmentError::damaged(place(), "there is none"))?;
        check(dictionary.span, bytes)
            .and_then(|()| chunk::decode(bytes, &DataType::Utf8, dictionary.values as usize))
            .map_err(|trouble| SegmentError::damaged(place(), trouble))
    }

    /// A column of a block, from the bytes of [`Footer::chunk_range`] (none if that is `None`) and
    /// the values of the column's dictionary, if it has one.
    pub fn decode_chunk(
        &self,
        block: usize,
        column: usize,
        bytes: Option<&Bytes>,
        dictionary: Option<&ArrayRef>,
    ) -> Result<ArrayRef, SegmentError> {
        let decoded = self.try_decode_chunk(block, column, bytes, dictionary);
        decoded.map_err(|trouble| {
            let place = format!("block {block}, column `{}`", self.column_name(column));
            SegmentError::damaged(place, trouble)
        })
    }

    fn try_decode_chunk(
        &self,
        block: usize,
        column: usize,
        bytes: Option<&Bytes>,
        dictionary: Option<&ArrayRef>,
    ) -> Result<ArrayRef, String> {
        let meta = self.columns.get(column).ok_or("there is no such column")?;
        let block = self.blocks.get(block).ok_or("there is no such block")?;
        let span = block.chunks.get(column).ok_or("there is no such column")?;
        let rows = block.rows as usize;
        let (Some(bytes), true) = (bytes, span.len > 0) else {
            if span.len > 0 {
                return Err("its bytes were not read".into());
            }
            if !meta.field.is_nullable() {
                return Err("has no values".into());
            }
            return Ok(match meta.dictionary {
                Some(_) => new_null_array(&schema::dictionary_type(), rows),
                None => new_null_array(meta.field.data_type(), rows),
            });
        };
        check(*span, bytes)?;
        let Some(coded) = meta.dictionary else {
            return chunk::decode(bytes, meta.field.data_type(), rows);
        };
        let values = dictionary.ok_or("its dictionary was not read")?;
        let stored = chunk::decode(bytes, &code_type(coded.values as usize), rows)?;
        let array = DictionaryArray::try_new(wide_codes(&stored), Arc::clone(values))
            .map_err(|e| format!("its codes do not fit its dictionary: {e}"))?;
        Ok(Arc::new(array))
    }

    fn column_name(&self, column: usize) -> &str {
        self.columns.get(column).map_or("?", |c| c.field.name())
    }

    /// The fields of a block that was read: types as read, dictionaries as dictionaries.
    pub fn batch(
        &self,
        block: usize,
        columns: Vec<(usize, ArrayRef)>,
    ) -> Result<RecordBatch, SegmentError> {
        let rows = self.blocks.get(block).map_or(0, |b| b.rows as usize);
        let field = |(column, array): &(usize, ArrayRef)| {
            let field = self.schema().field(*column).clone();
            field.with_data_type(array.data_type().clone())
        };
        let schema: SchemaRef =
            Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
        let arrays = columns.into_iter().map(|(_, array)| array).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(schema, arrays, &options)
            .map_err(|e| SegmentError::damaged(format!("block {block}"), e.to_string()))
    }
}

/// All blocks of a table from all its bytes. Columns that are null throughout a block are left out
/// of it: for rebuilding, where they would only cost memory.
pub fn read_all(table: &Bytes) -> Result<Vec<RecordBatch>, SegmentError> {
    let footer = Footer::parse(table, table.len() as u64)?;
    // Ranges lie within the table: the footer was checked for it.
    let slice = |range: std::ops::Range<u64>| table.slice(range.start as usize..range.end as usize);
    let mut dictionaries = Vec::with_capacity(footer.columns.len());
    for column in 0..footer.columns.len() {
        let range = footer.dictionary_range(column);
        dictionaries.push(match range {
            Some(range) => Some(footer.decode_dictionary(column, &slice(range))?),
            None => None,
        });
    }
    let block = |block: usize| {
        let mut columns = Vec::new();
        for (column, dictionary) in dictionaries.iter().enumerate() {
            if let Some(range) = footer.chunk_range(block, column) {
                let bytes = slice(range);
                let array =
                    footer.decode_chunk(block, column, Some(&bytes), dictionary.as_ref())?;
                columns.push((column, array));
            }
        }
        footer.batch(block, columns)
    };
    (0..footer.blocks.len()).map(block).collect()
}

fn check(span: Span, bytes: &Bytes) -> Result<(), String> {
    if bytes.len() as u64 != u64::from(span.len) {
        return Err(format!("has {} bytes instead of {}", bytes.len(), span.len));
    }
    if crc32c::crc32c(bytes) != span.crc32c {
        return Err("the checksum does not hold".into());
    }
    Ok(())
}

/// Canonical texts of all streams, sorted, if there are at most `streams_max` of at most
/// `bytes_max` bytes together.
pub(crate) fn stream_list(
    values: &StringArray,
    streams_max: usize,
    bytes_max: usize,
) -> Option<Vec<String>> {
    if values.len() > streams_max || values.value_data().len() > bytes_max {
        return None;
    }
    let mut streams: Vec<String> = values.iter().flatten().map(str::to_owned).collect();
    streams.sort_unstable();
    Some(streams)
}
