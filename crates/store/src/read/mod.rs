//! Reading a segment block by block: which rows match, and what is asked for of those.
//!
//! ```text
//!  open_segment ─► prepare(predicate) ─► per block: select ─► Mask ─► read | times | groups
//! ```
//!
//! Invariants:
//! - who reads does not know how a segment is stored: hot L0, table or anything later answer alike;
//! - [`OpenSegment::select`] is exact: the rows that match and no other;
//! - bytes are used only after their checksum held; damage is [`StoreError::Damaged`];
//! - L0 records come from memory where they still are; they are the same either way.

mod built;
mod cache;
mod groups;
mod table;
mod usage;

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, RecordBatchOptions, StringArray, new_null_array,
};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Schema, SchemaRef, TimestampNanosecondType};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use lodge_record::{field, schema};
use lodge_segment::predicate::{Facts, Predicate, Verdict, evaluate};
use lodge_segment::{Mask, SegmentError, segment, table as l0_table, word_fields};

use crate::asked::Asked;
use crate::hot::HotBlocks;
use crate::objects::Objects;
use crate::worker::Worker;
use crate::{SegmentRef, StoreError};

pub(crate) use cache::Cache;
pub use groups::{Counts, Groups};
pub use usage::FieldUse;

use built::OpenBuilt;
use table::OpenTable;

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
    segment: Arc<SegmentRef>,
    schema: SchemaRef,
    blocks: Arc<[BlockInfo]>,
    source: Source,
    asked: Arc<Asked>,
}

#[derive(Debug, Clone)]
enum Source {
    Hot(Arc<HotBlocks>),
    Table(Arc<OpenTable>, Arc<Objects>),
    Built(Arc<OpenBuilt>, Arc<Objects>, Arc<Cache>),
}

/// A predicate decided for one segment as far as that is possible without its rows. It is of use
/// only with the segment that made it.
#[derive(Debug, Clone)]
pub struct Prepared {
    predicate: Arc<Predicate>,
    verdict: Verdict,
    rows: u64,
    /// The stored columns that the predicate looks at.
    columns: Vec<String>,
    /// What was decided on the encoded columns of a built segment.
    built: Option<Arc<segment::Prepared>>,
}

impl Prepared {
    /// The stored columns that the predicate looks at.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Whether any or all rows of the segment match.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// How many rows match, if that is known without looking at them.
    pub fn count(&self) -> Option<u64> {
        if let Some(built) = &self.built {
            return built.count();
        }
        match self.verdict {
            Verdict::None => Some(0),
            Verdict::Some => None,
            Verdict::All => Some(self.rows),
        }
    }
}

impl OpenSegment {
    pub(crate) fn hot(
        segment: &Arc<SegmentRef>,
        blocks: Arc<HotBlocks>,
        asked: &Arc<Asked>,
    ) -> Self {
        Self {
            segment: Arc::clone(segment),
            schema: Arc::clone(&segment.schema),
            blocks: blocks.infos.clone().into(),
            source: Source::Hot(blocks),
            asked: Arc::clone(asked),
        }
    }

    /// Opens the object of a segment.
    pub(crate) async fn object(
        objects: &Arc<Objects>,
        cache: &Arc<Cache>,
        segment: &Arc<SegmentRef>,
        asked: &Arc<Asked>,
    ) -> Result<Self, StoreError> {
        let asked = Arc::clone(asked);
        if segment.level > 0 {
            let built = OpenBuilt::of(objects, cache, segment).await?;
            return Ok(Self {
                segment: Arc::clone(segment),
                schema: Arc::clone(built.segment().schema()),
                blocks: built.infos(),
                source: Source::Built(built, Arc::clone(objects), Arc::clone(cache)),
                asked,
            });
        }
        let table = OpenTable::of(objects, cache, segment).await?;
        Ok(Self {
            segment: Arc::clone(segment),
            schema: Arc::clone(table.schema()),
            blocks: table.infos(),
            source: Source::Table(table, Arc::clone(objects)),
            asked,
        })
    }

    /// The segment that this is.
    pub fn segment(&self) -> &Arc<SegmentRef> {
        &self.segment
    }

    /// Its blocks, in the order of their rows.
    pub fn blocks(&self) -> &[BlockInfo] {
        &self.blocks
    }

    /// Its columns, as in [`SegmentRef::schema`].
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// About how many bytes the named columns take in a block: stored ones where the segment is a file,
    /// else those in memory. Of a column whose sections span blocks it is the block's share by rows.
    pub fn block_bytes<'n>(&self, block: usize, names: impl Iterator<Item = &'n str>) -> u64 {
        let Some(info) = self.blocks.get(block) else { return 0 };
        let of = |name: &str| -> u64 {
            match &self.source {
                Source::Hot(blocks) => {
                    let column =
                        blocks.batches.get(block).and_then(|batch| batch.column_by_name(name));
                    column.and_then(|c| c.to_data().get_slice_memory_size().ok()).unwrap_or(0)
                        as u64
                }
                Source::Table(table, _) => table.column_bytes(block, name),
                Source::Built(built, ..) => {
                    let segment = built.segment();
                    let share = info.rows as f64 / segment.rows().max(1) as f64;
                    (segment.column_bytes(name) as f64 * share).ceil() as u64
                }
            }
        };
        names.map(of).sum()
    }

    /// Decides `predicate` once for all blocks.
    pub async fn prepare(&self, predicate: &Arc<Predicate>) -> Result<Prepared, StoreError> {
        let time = (self.segment.time_min_ns, self.segment.time_max_ns);
        let reads = predicate.reads();
        let stored = self.schema.fields().iter().map(|field| field.name());
        let columns: Vec<String> = stored.filter(|name| reads.has(name)).cloned().collect();
        let mut verdict = predicate.verdict(&self.facts(time));
        if verdict == Verdict::Some {
            self.asked.note(&self.segment.tenant, word_fields(predicate));
        }
        if let (Source::Hot(blocks), Verdict::Some) = (&self.source, verdict) {
            verdict = predicate.verdict(&Facts { words: Some(&blocks.words), ..self.facts(time) });
        }
        let mut built = None;
        if let (Source::Built(open, objects, cache), Verdict::Some) = (&self.source, verdict) {
            let prepared = open.ask(objects, cache, |segment| segment.prepare(predicate)).await?;
            verdict = prepared.verdict();
            built = Some(Arc::new(prepared));
        }
        let rows = self.segment.rows;
        Ok(Prepared { predicate: Arc::clone(predicate), verdict, rows, columns, built })
    }

    /// Whether any or all rows of a block can match, as far as its times and what was prepared tell.
    pub fn block_verdict(&self, prepared: &Prepared, block: usize) -> Result<Verdict, StoreError> {
        let info = self.info(block)?;
        Ok(match prepared.verdict {
            // What is not decided for all blocks may be for the times of this one.
            Verdict::Some => {
                prepared.predicate.verdict(&self.facts((info.time_min_ns, info.time_max_ns)))
            }
            decided => decided,
        })
    }

    /// The rows of a block that match: those of `within`, if it is given, that the predicate selects.
    pub async fn select(
        &self,
        prepared: &Prepared,
        block: usize,
        within: Option<&Mask>,
    ) -> Result<Mask, StoreError> {
        let info = self.info(block)?;
        let mut mask = match self.block_verdict(prepared, block)? {
            Verdict::None => return Ok(Mask::none(info.rows)),
            Verdict::All => Mask::all(info.rows),
            Verdict::Some
                if let (Source::Built(open, objects, cache), Some(built)) =
                    (&self.source, &prepared.built) =>
            {
                let select = |segment: &segment::Segment| segment.select(built, block, within);
                open.ask(objects, cache, select).await?
            }
            Verdict::Some => {
                let names: Vec<&str> = prepared.columns.iter().map(String::as_str).collect();
                let batch = self.columns(block, &names).await?;
                Mask::from_arrow(evaluate(&prepared.predicate, &batch).values())
            }
        };
        if let Some(within) = within {
            mask.and(within);
        }
        Ok(mask)
    }

    /// The columns of block `block` that are named in `projection` and that the segment has, in the
    /// order of the segment's schema, whatever the order of `projection`; of the rows in `rows`, or of
    /// all. Text columns may be `Dictionary(Int32, Utf8)`, `_stream` always is. A column without a
    /// value in the block is all null. With no column left the batch still has its number of rows.
    pub async fn read(
        &self,
        block: usize,
        projection: &[&str],
        rows: Option<&Mask>,
    ) -> Result<RecordBatch, StoreError> {
        self.info(block)?;
        if let Source::Built(open, objects, cache) = &self.source {
            let read = |segment: &segment::Segment| segment.read(block, projection, rows);
            return open.ask(objects, cache, read).await;
        }
        let batch = self.columns(block, projection).await?;
        match rows.filter(|rows| !rows.is_full()) {
            Some(rows) => {
                let picked = BooleanArray::new(rows.to_arrow(), None);
                filter_record_batch(&batch, &picked).map_err(not_in_shape)
            }
            None => Ok(batch),
        }
    }

    /// `_time` of the rows in `rows`, or of all, nanoseconds, in the order of the rows.
    pub async fn times(&self, block: usize, rows: Option<&Mask>) -> Result<Vec<i64>, StoreError> {
        self.info(block)?;
        if let Source::Built(open, objects, cache) = &self.source {
            return open.ask(objects, cache, |segment| segment.times(block, rows)).await;
        }
        let batch = self.columns(block, &[field::TIME]).await?;
        let times = batch
            .column_by_name(field::TIME)
            .and_then(|times| times.as_primitive_opt::<TimestampNanosecondType>())
            .ok_or_else(|| StoreError::Encode(SegmentError::Encode("no _time".to_owned())))?
            .values();
        Ok(match rows.filter(|rows| !rows.is_full()) {
            Some(rows) => rows.iter().filter_map(|row| times.get(row).copied()).collect(),
            None => times.to_vec(),
        })
    }

    /// The text of a field in the rows in `rows`, or in all: the different texts once and a number
    /// per row, in the order of the rows. The field may be in a column, in `_overflow`, in neither, or
    /// be `_stream_id`.
    pub async fn groups(
        &self,
        block: usize,
        name: &str,
        rows: Option<&Mask>,
    ) -> Result<Groups, StoreError> {
        self.info(block)?;
        let column = if name == field::STREAM_ID { field::STREAM } else { name };
        let mut names = vec![column];
        if !schema::is_reserved(column) {
            names.push(field::OVERFLOW);
        }
        if let Some((open, objects, cache)) = self.encoded(name) {
            let groups = |segment: &segment::Segment| segment.groups(block, name, rows);
            if let Some(groups) = open.ask(objects, cache, groups).await? {
                return Ok(groups.into());
            }
        }
        let batch = self.read(block, &names, rows).await?;
        Ok(Groups::of(&batch, name))
    }

    /// How many rows have each text of a field, of the rows in `rows`, or of all: what
    /// [`OpenSegment::groups`] gives summed up.
    pub async fn counts(
        &self,
        block: usize,
        name: &str,
        rows: Option<&Mask>,
    ) -> Result<Counts, StoreError> {
        self.info(block)?;
        if let Some((open, objects, cache)) = self.encoded(name) {
            let counts = |segment: &segment::Segment| segment.counts(block, name, rows);
            if let Some(counts) = open.ask(objects, cache, counts).await? {
                return Ok(counts.into());
            }
        }
        Ok(self.groups(block, name, rows).await?.into())
    }

    /// The rows of a block that have at least one of the fields `names`, where that can be told without
    /// reading the fields.
    pub async fn present(&self, block: usize, names: &[&str]) -> Result<Option<Mask>, StoreError> {
        self.info(block)?;
        let Source::Built(open, objects, cache) = &self.source else { return Ok(None) };
        open.ask(objects, cache, |segment| segment.present(block, names)).await.map(Some)
    }

    /// The identifiers of a field in the rows in `rows`, or in all, each once or more; those of rows
    /// that have none are of no account. `None` if the field is not stored as such: see
    /// [`lodge_segment::identifier`].
    pub async fn identifiers(
        &self,
        block: usize,
        name: &str,
        rows: Option<&Mask>,
    ) -> Result<Option<Vec<u128>>, StoreError> {
        self.info(block)?;
        let Some((open, objects, cache)) = self.encoded(name) else { return Ok(None) };
        let found = |segment: &segment::Segment| segment.identifiers(block, name, rows);
        open.ask(objects, cache, found).await
    }

    /// As [`OpenSegment::groups`], of the patterns of the texts: see [`lodge_segment::pattern`].
    pub async fn patterns(
        &self,
        block: usize,
        name: &str,
        rows: Option<&Mask>,
    ) -> Result<Groups, StoreError> {
        self.info(block)?;
        if let Some((open, objects, cache)) = self.encoded(name) {
            let patterns = |segment: &segment::Segment| segment.patterns(block, name, rows);
            if let Some(patterns) = open.ask(objects, cache, patterns).await? {
                return Ok(patterns.into());
            }
        }
        let texts = self.groups(block, name, rows).await?;
        let values = texts.values.iter().flatten().map(lodge_segment::pattern::of);
        Ok(Groups { values: StringArray::from_iter_values(values), codes: texts.codes })
    }

    /// The built segment, if all that it has of field `name` is in a column of that name.
    fn encoded(&self, name: &str) -> Option<(&Arc<OpenBuilt>, &Arc<Objects>, &Arc<Cache>)> {
        match &self.source {
            Source::Built(open, objects, cache)
                if name != field::STREAM_ID
                    && (schema::is_reserved(name) || !self.has(field::OVERFLOW)) =>
            {
                Some((open, objects, cache))
            }
            _ => None,
        }
    }

    fn has(&self, name: &str) -> bool {
        self.schema.index_of(name).is_ok()
    }

    fn facts(&self, time: (i64, i64)) -> Facts<'_> {
        let streams = self.segment.streams.as_deref();
        Facts { time, streams, schema: Some(&self.schema), words: None }
    }

    fn info(&self, block: usize) -> Result<&BlockInfo, StoreError> {
        let segment = self.segment.id.0;
        self.blocks.get(block).ok_or(StoreError::NoSuchBlock { segment, block })
    }

    /// All rows of the named columns.
    async fn columns(&self, block: usize, names: &[&str]) -> Result<RecordBatch, StoreError> {
        let info = self.info(block)?;
        match &self.source {
            Source::Hot(blocks) => {
                let segment = self.segment.id.0;
                let no_such = StoreError::NoSuchBlock { segment, block };
                let batch = blocks.batches.get(block).ok_or(no_such)?;
                project(batch, &self.schema, names, info.rows)
            }
            Source::Table(table, objects) => table.read(objects, block, names).await,
            Source::Built(open, objects, cache) => {
                open.ask(objects, cache, |segment| segment.read(block, names, None)).await
            }
        }
    }
}

fn damaged(key: &str) -> impl Fn(SegmentError) -> StoreError {
    move |source| StoreError::Damaged { key: key.to_owned(), source }
}

async fn read_one(objects: &Objects, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
    let read = objects.ranges(key, &[range]).await?;
    Ok(read.into_iter().next().unwrap_or_default())
}

/// The bytes of a segment, which is about to be replaced by what is made of it.
async fn bytes_of(objects: &Objects, segment: &SegmentRef) -> Result<Bytes, StoreError> {
    let start = segment.object_offset;
    objects.part_once(&segment.object_key, start..start.saturating_add(segment.bytes)).await
}

/// All records of an L0 from its object. Columns that are null throughout a block may be missing in
/// it.
pub(crate) async fn l0_records(
    objects: &Objects,
    worker: &Worker,
    segment: &SegmentRef,
) -> Result<Vec<RecordBatch>, StoreError> {
    let (bytes, key) = (bytes_of(objects, segment).await?, Arc::clone(&segment.object_key));
    worker.run(move || l0_table::read_all(&bytes).map_err(damaged(&key))).await
}

/// A built segment, to be merged with others.
pub(crate) async fn source(
    objects: &Objects,
    worker: &Worker,
    segment: &SegmentRef,
) -> Result<segment::Source, StoreError> {
    let (bytes, key) = (bytes_of(objects, segment).await?, Arc::clone(&segment.object_key));
    worker.run(move || segment::Source::open(&bytes).map_err(damaged(&key))).await
}

fn not_in_shape(error: ArrowError) -> StoreError {
    StoreError::Encode(SegmentError::Encode(error.to_string()))
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
            let column: ArrayRef = match batch.column_by_name(field.name()) {
                Some(column) => Arc::clone(column),
                None => new_null_array(field.data_type(), rows),
            };
            (field.clone().with_data_type(column.data_type().clone()), column)
        })
        .unzip();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
        .map_err(not_in_shape)
}
