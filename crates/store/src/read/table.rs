//! L0 tables: Arrow chunks by block and column, read by the ranges that are needed.
//!
//! Invariant: bytes are used only after their checksum held; damage is [`StoreError::Damaged`] with
//! object, block and column.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use lodge_segment::{Footer, TRAILER_BYTES};

use super::cache::Opened;
use super::{BlockInfo, Cache, damaged, read_one};
use crate::objects::{Objects, blocking};
use crate::{SegmentRef, StoreError};

/// So many bytes at the end of a table are read first; most footers are within them.
const TAIL_BYTES: u64 = 64 << 10;
/// So many bytes of chunks are decoded where they were read; more on a thread that may take long.
const DECODE_INLINE_BYTES: usize = 32 << 10;

/// The footer of a table, and its dictionaries once they were needed.
#[derive(Debug)]
pub(crate) struct OpenTable {
    key: Arc<str>,
    offset: u64,
    footer: Footer,
    dictionaries: Vec<OnceLock<ArrayRef>>,
    bytes: AtomicUsize,
}

impl OpenTable {
    /// The table of a segment; its footer is read if it is not kept.
    pub(super) async fn of(
        objects: &Objects,
        cache: &Cache,
        segment: &SegmentRef,
    ) -> Result<Arc<Self>, StoreError> {
        if let Some(Opened::Table(table)) = cache.get(segment.id) {
            return Ok(table);
        }
        let table = Arc::new(Self::open(objects, segment).await?);
        cache.keep(segment.id, Opened::Table(Arc::clone(&table)));
        Ok(table)
    }

    async fn open(objects: &Objects, segment: &SegmentRef) -> Result<Self, StoreError> {
        let damaged = damaged(&segment.object_key);
        let end = segment.object_offset.saturating_add(segment.bytes);
        let mut wanted = segment.bytes.min(TAIL_BYTES);
        loop {
            let tail = read_one(objects, &segment.object_key, end - wanted..end).await?;
            let trailer = tail.get(tail.len().saturating_sub(TRAILER_BYTES)..).unwrap_or_default();
            let needed = Footer::tail_bytes(trailer).map_err(&damaged)? as u64;
            if needed > wanted && needed <= segment.bytes {
                wanted = needed;
                continue;
            }
            let footer = Footer::parse(&tail, segment.bytes).map_err(&damaged)?;
            return Ok(Self {
                key: Arc::clone(&segment.object_key),
                offset: segment.object_offset,
                dictionaries: footer.schema().fields().iter().map(|_| OnceLock::new()).collect(),
                bytes: AtomicUsize::new(footer.memory_bytes()),
                footer,
            });
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        self.footer.schema()
    }

    pub(super) fn infos(&self) -> Arc<[BlockInfo]> {
        let info = |b: &lodge_segment::BlockMeta| BlockInfo {
            rows: b.rows as usize,
            time_min_ns: b.time_min_ns,
            time_max_ns: b.time_max_ns,
        };
        self.footer.blocks().iter().map(info).collect()
    }

    /// Stored bytes of a column's chunk in a block.
    pub(super) fn column_bytes(&self, block: usize, name: &str) -> u64 {
        let chunk = self.footer.column(name).and_then(|at| self.footer.chunk_range(block, at));
        chunk.map_or(0, |range| range.end.saturating_sub(range.start))
    }

    /// Stored bytes of a column's dictionary, and how many values it has.
    pub(super) fn dictionary(&self, name: &str) -> (u64, u64) {
        let column = self.footer.column(name);
        let range = column.and_then(|at| self.footer.dictionary_range(at));
        let values = column.and_then(|at| self.footer.dictionary_values(at));
        (range.map_or(0, |range| range.end.saturating_sub(range.start)), values.unwrap_or(0))
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

    /// The named columns of a block, all rows.
    pub(super) async fn read(
        self: &Arc<Self>,
        objects: &Objects,
        block: usize,
        projection: &[&str],
    ) -> Result<RecordBatch, StoreError> {
        let mut columns: Vec<usize> =
            projection.iter().filter_map(|name| self.footer.column(name)).collect();
        columns.sort_unstable();
        columns.dedup();
        let needs = self.needs(block, &columns);
        let ranges: Vec<Range<u64>> = needs.iter().map(|(_, r)| r.clone()).collect();
        let read = match ranges.is_empty() {
            true => Vec::new(),
            false => objects.ranges(&self.key, &ranges).await?,
        };
        let bytes: usize = read.iter().map(Bytes::len).sum();
        let read = needs.into_iter().map(|(need, _)| need).zip(read).collect();
        if bytes <= DECODE_INLINE_BYTES {
            return self.decode(block, &columns, read);
        }
        let table = Arc::clone(self);
        blocking(move || table.decode(block, &columns, read)).await
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
