//! Reading a segment block by block: only the bytes of the columns asked for.
//!
//! Invariants:
//! - bytes are used only after their checksum held; damage is [`StoreError::Damaged`] with object,
//!   block and column;
//! - L0 records come from memory where they still are; they are the same either way.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arrow::array::{Array, ArrayRef, RecordBatchOptions, new_null_array};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use lodge_segment::{Footer, SegmentError, TRAILER_BYTES, TableKind};

use crate::hot::HotBlocks;
use crate::objects::{Objects, blocking};
use crate::{SegmentId, SegmentRef, StoreError};

/// So many bytes at the end of a table are read first; most footers are within them.
const TAIL_BYTES: u64 = 64 << 10;
/// So many bytes of chunks are decoded where they were read; more on a thread that may take long.
const DECODE_INLINE_BYTES: usize = 32 << 10;

/// One block of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockInfo {
    /// Number of records.
    pub rows: usize,
    /// Earliest `_time`, nanoseconds.
    pub time_min_ns: i64,
    /// Latest `_time`, nanoseconds.
    pub time_max_ns: i64,
}

/// A segment whose blocks can be read.
#[derive(Debug, Clone)]
pub struct OpenSegment {
    id: SegmentId,
    schema: SchemaRef,
    blocks: Arc<[BlockInfo]>,
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    Hot(Arc<HotBlocks>),
    Table(Arc<OpenTable>, Arc<Objects>),
}

/// The footer of a table, and its dictionaries once they were needed.
#[derive(Debug)]
pub(crate) struct OpenTable {
    key: Arc<str>,
    offset: u64,
    footer: Footer,
    dictionaries: Vec<OnceLock<ArrayRef>>,
    bytes: AtomicUsize,
}

fn damaged(key: &str) -> impl Fn(SegmentError) -> StoreError {
    move |source| StoreError::Damaged { key: key.to_owned(), source }
}

pub(crate) fn kind_of(segment: &SegmentRef) -> TableKind {
    if segment.level == 0 { TableKind::L0 } else { TableKind::Segment }
}

impl OpenTable {
    async fn open(objects: &Objects, segment: &SegmentRef) -> Result<Self, StoreError> {
        let kind = kind_of(segment);
        let damaged = damaged(&segment.object_key);
        let end = segment.object_offset.saturating_add(segment.bytes);
        let mut wanted = segment.bytes.min(TAIL_BYTES);
        loop {
            let tail = read_one(objects, &segment.object_key, end - wanted..end).await?;
            let trailer = tail.get(tail.len().saturating_sub(TRAILER_BYTES)..).unwrap_or_default();
            let needed = Footer::tail_bytes(trailer, kind).map_err(&damaged)? as u64;
            if needed > wanted && needed <= segment.bytes {
                wanted = needed;
                continue;
            }
            let footer = Footer::parse(&tail, segment.bytes, kind).map_err(&damaged)?;
            return Ok(Self {
                key: Arc::clone(&segment.object_key),
                offset: segment.object_offset,
                dictionaries: footer.schema().fields().iter().map(|_| OnceLock::new()).collect(),
                bytes: AtomicUsize::new(footer.memory_bytes()),
                footer,
            });
        }
    }

    fn infos(&self) -> Arc<[BlockInfo]> {
        let info = |b: &lodge_segment::BlockMeta| BlockInfo {
            rows: b.rows as usize,
            time_min_ns: b.time_min_ns,
            time_max_ns: b.time_max_ns,
        };
        self.footer.blocks().iter().map(info).collect()
    }

    fn at(&self, range: Range<u64>) -> Range<u64> {
        self.offset.saturating_add(range.start)..self.offset.saturating_add(range.end)
    }

    /// What must be read for these columns of a block: each range with what it is for.
    fn needs(&self, block: usize, columns: &[usize]) -> Vec<(Need, Range<u64>)> {
        let mut needs = Vec::new();
        for &column in columns {
            let Some(chunk) = self.footer.chunk_range(block, column) else { continue };
            needs.push((Need::Chunk(column), self.at(chunk)));
            if self.dictionaries.get(column).is_some_and(|d| d.get().is_none())
                && let Some(dictionary) = self.footer.dictionary_range(column)
            {
                needs.push((Need::Dictionary(column), self.at(dictionary)));
            }
        }
        needs
    }

    fn decode(
        &self,
        block: usize,
        columns: &[usize],
        read: Vec<(Need, Bytes)>,
    ) -> Result<RecordBatch, StoreError> {
        let damaged = damaged(&self.key);
        let mut chunks: HashMap<usize, Bytes> = HashMap::new();
        for (need, bytes) in read {
            match need {
                Need::Chunk(column) => drop(chunks.insert(column, bytes)),
                Need::Dictionary(column) => {
                    let values = self.footer.decode_dictionary(column, &bytes).map_err(&damaged)?;
                    let bytes = values.get_array_memory_size();
                    if self.dictionaries.get(column).is_some_and(|d| d.set(values).is_ok()) {
                        self.bytes.fetch_add(bytes, Ordering::Relaxed);
                    }
                }
            }
        }
        let mut arrays = Vec::with_capacity(columns.len());
        for &column in columns {
            let dictionary = self.dictionaries.get(column).and_then(OnceLock::get);
            let array = self
                .footer
                .decode_chunk(block, column, chunks.get(&column), dictionary)
                .map_err(&damaged)?;
            arrays.push((column, array));
        }
        self.footer.batch(block, arrays).map_err(&damaged)
    }
}

#[derive(Debug, Clone, Copy)]
enum Need {
    Chunk(usize),
    Dictionary(usize),
}

async fn read_one(objects: &Objects, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
    let read = objects.ranges(key, &[range]).await?;
    Ok(read.into_iter().next().unwrap_or_default())
}

/// All records of a segment: from memory, or its whole table from its object. Columns that are null
/// throughout a block may be missing in it.
pub(crate) async fn read_all(
    objects: &Objects,
    segment: &SegmentRef,
) -> Result<Vec<RecordBatch>, StoreError> {
    let start = segment.object_offset;
    let range = start..start.saturating_add(segment.bytes);
    let bytes = read_one(objects, &segment.object_key, range).await?;
    let (kind, key) = (kind_of(segment), Arc::clone(&segment.object_key));
    blocking(move || lodge_segment::table::read_all(&bytes, kind).map_err(damaged(&key))).await
}

impl OpenSegment {
    pub(crate) fn hot(segment: &SegmentRef, blocks: Arc<HotBlocks>) -> Self {
        Self {
            id: segment.id,
            schema: Arc::clone(&segment.schema),
            blocks: blocks.infos.clone().into(),
            source: Source::Hot(blocks),
        }
    }

    pub(crate) async fn table(
        objects: &Arc<Objects>,
        footers: &Footers,
        segment: &SegmentRef,
    ) -> Result<Self, StoreError> {
        let table = match footers.get(segment.id) {
            Some(table) => table,
            None => footers.keep(segment.id, OpenTable::open(objects, segment).await?),
        };
        Ok(Self {
            id: segment.id,
            schema: Arc::clone(table.footer.schema()),
            blocks: table.infos(),
            source: Source::Table(table, Arc::clone(objects)),
        })
    }

    /// Its blocks, in the order of their rows.
    pub fn blocks(&self) -> &[BlockInfo] {
        &self.blocks
    }

    /// Its columns, as in [`crate::SegmentRef::schema`].
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The columns of block `index` that are named in `projection` and that the segment has, in the
    /// order of the segment's schema, whatever the order of `projection`. Text columns may be
    /// `Dictionary(Int32, Utf8)`, `_stream` always is. A column without a value in the block is all
    /// null. With no column left the batch still has the number of rows of the block.
    pub async fn read_block(
        &self,
        index: usize,
        projection: &[&str],
    ) -> Result<RecordBatch, StoreError> {
        let no_such = || StoreError::NoSuchBlock { segment: self.id.0, block: index };
        let info = self.blocks.get(index).ok_or_else(no_such)?;
        match &self.source {
            Source::Hot(blocks) => {
                let batch = blocks.batches.get(index).ok_or_else(no_such)?;
                project(batch, &self.schema, projection, info.rows)
            }
            Source::Table(table, objects) => {
                let mut columns: Vec<usize> =
                    projection.iter().filter_map(|name| table.footer.column(name)).collect();
                columns.sort_unstable();
                columns.dedup();
                let needs = table.needs(index, &columns);
                let ranges: Vec<Range<u64>> = needs.iter().map(|(_, r)| r.clone()).collect();
                let read = match ranges.is_empty() {
                    true => Vec::new(),
                    false => objects.ranges(&table.key, &ranges).await?,
                };
                let bytes: usize = read.iter().map(Bytes::len).sum();
                let read = needs.into_iter().map(|(need, _)| need).zip(read).collect();
                if bytes <= DECODE_INLINE_BYTES {
                    return table.decode(index, &columns, read);
                }
                let table = Arc::clone(table);
                blocking(move || table.decode(index, &columns, read)).await
            }
        }
    }
}

/// The columns asked for of a block in memory, in the order of the segment's schema.
fn project(
    batch: &RecordBatch,
    schema: &SchemaRef,
    projection: &[&str],
    rows: usize,
) -> Result<RecordBatch, StoreError> {
    let mut places: Vec<usize> =
        projection.iter().filter_map(|name| schema.index_of(name).ok()).collect();
    places.sort_unstable();
    places.dedup();
    let (fields, columns): (Vec<_>, Vec<_>) = places
        .iter()
        .map(|&place| {
            let field = schema.field(place);
            let column = match batch.column_by_name(field.name()) {
                Some(column) => Arc::clone(column),
                None => new_null_array(field.data_type(), rows),
            };
            (field.clone().with_data_type(column.data_type().clone()), column)
        })
        .unzip();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
        .map_err(|e| StoreError::Encode(SegmentError::Encode(e.to_string())))
}

/// Opened tables, kept by segment within a limit of bytes; the oldest go first.
#[derive(Debug)]
pub(crate) struct Footers {
    bytes_max: usize,
    inner: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    tables: HashMap<SegmentId, Arc<OpenTable>>,
    order: VecDeque<SegmentId>,
}

impl Footers {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, inner: Mutex::default() }
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, id: SegmentId) -> Option<Arc<OpenTable>> {
        self.inner().tables.get(&id).cloned()
    }

    /// Keeps a table. Summing up anew each time costs little beside the read that led here, and
    /// counts the dictionaries that came since.
    fn keep(&self, id: SegmentId, table: OpenTable) -> Arc<OpenTable> {
        let table = Arc::new(table);
        let mut inner = self.inner();
        if inner.tables.insert(id, Arc::clone(&table)).is_none() {
            inner.order.push_back(id);
        }
        let weight = |table: &Arc<OpenTable>| table.bytes.load(Ordering::Relaxed);
        let mut bytes: usize = inner.tables.values().map(weight).sum();
        while bytes > self.bytes_max {
            let Some(oldest) = inner.order.pop_front() else { break };
            if let Some(gone) = inner.tables.remove(&oldest) {
                bytes = bytes.saturating_sub(weight(&gone));
            }
        }
        table
    }

    pub(crate) fn remove(&self, ids: &[SegmentId]) {
        let mut inner = self.inner();
        for id in ids {
            inner.tables.remove(id);
        }
        let inner = &mut *inner;
        inner.order.retain(|id| inner.tables.contains_key(id));
    }
}
