//! Reads the matching records of some segments, block by block, in their stored types.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::RecordBatchOptions;
use arrow::compute::filter_record_batch;
use arrow::datatypes::{FieldRef, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::execution::memory_pool::MemoryReservation;
use lodge_record::{field, schema};
use lodge_segment::predicate::{Facts, Predicate, Verdict, evaluate};
use lodge_store::{OpenSegment, SegmentRef};

use super::shape::Shape;
use super::{Source, Work};
use crate::error::QueryError;

/// Rows of a batch that stands for rows nobody looks at.
const COUNT_ROWS: u64 = 65_536;

/// One partition's reading.
#[derive(Debug)]
pub(crate) struct Reader {
    source: Source,
    works: VecDeque<Work>,
    columns: Columns,
    reservation: MemoryReservation,
    open: Option<Open>,
}

/// What is wanted of a matching record.
#[derive(Debug, Clone)]
pub(crate) enum Columns {
    /// These fields.
    Named(Vec<String>),
    /// What this shape is made of.
    Of(Shape),
}

impl Columns {
    fn is_empty(&self) -> bool {
        match self {
            Self::Named(names) => names.is_empty(),
            Self::Of(shape) => shape.output().fields().is_empty(),
        }
    }

    /// The names to look for in a segment.
    pub(super) fn of(&self, stored: &Schema) -> Vec<String> {
        match self {
            Self::Named(names) => names.clone(),
            Self::Of(shape) => shape.columns(stored),
        }
    }
}

/// The segment that is being read.
#[derive(Debug)]
struct Open {
    work: Work,
    segment: OpenSegment,
    columns: Vec<String>,
    next: usize,
}

/// Matching records of one block.
#[derive(Debug)]
pub(crate) struct Found {
    /// The wanted columns that the segment has (and `_overflow`), in their stored types.
    pub(crate) batch: RecordBatch,
    /// Where they are from.
    pub(crate) segment: Arc<SegmentRef>,
}

impl Reader {
    /// Reads `columns` of the matching records of `works`.
    pub(crate) fn new(
        source: Source,
        works: Vec<Work>,
        columns: Columns,
        reservation: MemoryReservation,
    ) -> Self {
        Self { source, works: works.into(), columns, reservation, open: None }
    }

    /// The matching records of the next block that has any; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Found>, QueryError> {
        loop {
            if !self.source.control.proceed()? {
                return Ok(None);
            }
            let Some(mut open) = self.open.take() else {
                let Some(work) = self.works.pop_front() else {
                    self.reservation.free();
                    return Ok(None);
                };
                if work.verdict == Verdict::All && self.columns.is_empty() {
                    return self.count_only(work).map(Some);
                }
                let segment = self.source.store.open_segment(&work.segment).await?;
                let columns = self.columns.of(&work.segment.schema);
                self.open = Some(Open { next: work.part, work, segment, columns });
                continue;
            };
            if open.next >= open.segment.blocks().len() {
                continue;
            }
            let index = open.next;
            open.next += open.work.of;
            let block = Block { open: &open.segment, segment: &open.work.segment, index };
            let batch = block.matching(&self.source.predicate, &open.columns).await?;
            let segment = open.work.segment.clone();
            self.open = Some(open);
            if let Some(batch) = batch {
                let held = self.reservation.try_resize(batch.get_array_memory_size());
                held.map_err(QueryError::from)?;
                return Ok(Some(Found { batch, segment }));
            }
        }
    }

    /// Rows of a segment that all match and of which no column is wanted: nothing is read.
    fn count_only(&mut self, mut work: Work) -> Result<Found, QueryError> {
        let rows = work.segment.rows.min(COUNT_ROWS);
        let segment = work.segment.clone();
        if work.segment.rows > rows {
            let mut rest = work.segment.as_ref().clone();
            rest.rows -= rows;
            work.segment = Arc::new(rest);
            self.works.push_front(work);
        }
        Ok(Found { batch: rows_only(rows as usize)?, segment })
    }
}

/// A batch of rows without columns.
pub(super) fn rows_only(rows: usize) -> Result<RecordBatch, QueryError> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options)
        .map_err(|error| QueryError::internal(error.to_string()))
}

/// One block of an open segment.
pub(super) struct Block<'a> {
    pub(super) open: &'a OpenSegment,
    pub(super) segment: &'a SegmentRef,
    pub(super) index: usize,
}

impl Block<'_> {
    /// What is known of the block before it is read.
    pub(super) fn verdict(&self, predicate: &Predicate) -> Verdict {
        let Some(info) = self.open.blocks().get(self.index) else {
            return Verdict::None;
        };
        predicate.verdict(&Facts {
            time: (info.time_min_ns, info.time_max_ns),
            streams: self.segment.streams.as_deref(),
            schema: Some(&self.segment.schema),
        })
    }

    /// `columns` of the matching rows, `None` if there are no such rows.
    async fn matching(
        &self,
        predicate: &Predicate,
        columns: &[String],
    ) -> Result<Option<RecordBatch>, QueryError> {
        let Some(info) = self.open.blocks().get(self.index) else {
            return Ok(None);
        };
        let wanted = self.stored(columns.iter().map(String::as_str));
        match self.verdict(predicate) {
            Verdict::None => Ok(None),
            Verdict::All if wanted.is_empty() => rows_only(info.rows).map(Some),
            Verdict::All => Ok(Some(self.open.read_block(self.index, &wanted).await?)),
            Verdict::Some => self.filtered(predicate, &wanted).await,
        }
    }

    /// Reads the predicate's columns, and the others only if rows match.
    async fn filtered(
        &self,
        predicate: &Predicate,
        wanted: &[&str],
    ) -> Result<Option<RecordBatch>, QueryError> {
        let tested = self.tested(predicate).await?;
        let mask = evaluate(predicate, &tested);
        let matches = mask.true_count();
        if matches == 0 {
            return Ok(None);
        }
        if wanted.is_empty() {
            return rows_only(matches).map(Some);
        }
        let missing: Vec<&str> =
            wanted.iter().copied().filter(|name| tested.column_by_name(name).is_none()).collect();
        let rest = if missing.is_empty() {
            None
        } else {
            Some(self.open.read_block(self.index, &missing).await?)
        };
        let batch = join(&tested, rest.as_ref(), wanted)?;
        if matches == batch.num_rows() {
            return Ok(Some(batch));
        }
        filter_record_batch(&batch, &mask).map(Some).map_err(arrow_error)
    }

    /// The columns that `predicate` looks at.
    pub(super) async fn tested(&self, predicate: &Predicate) -> Result<RecordBatch, QueryError> {
        let fields = predicate.fields();
        let mut names = self.stored(fields.iter().map(String::as_str));
        if names.is_empty() {
            // A batch must say how many rows it has; the smallest column does.
            names.push(field::TIME);
        }
        Ok(self.open.read_block(self.index, &names).await?)
    }

    /// Those of `names` that the segment has, `_stream` for `_stream_id`, and `_overflow` where a
    /// field could be in it.
    pub(super) fn stored<'n>(&self, names: impl Iterator<Item = &'n str>) -> Vec<&'n str> {
        let has = |name: &str| self.segment.schema.index_of(name).is_ok();
        let mut stored: Vec<&str> = Vec::new();
        let mut overflow = false;
        for name in names {
            let column = if name == field::STREAM_ID { field::STREAM } else { name };
            overflow |= !schema::is_reserved(column);
            if has(column) && !stored.contains(&column) {
                stored.push(column);
            }
        }
        if overflow && has(field::OVERFLOW) && !stored.contains(&field::OVERFLOW) {
            stored.push(field::OVERFLOW);
        }
        stored
    }
}

/// The `wanted` columns out of two batches of the same rows.
fn join(
    first: &RecordBatch,
    second: Option<&RecordBatch>,
    wanted: &[&str],
) -> Result<RecordBatch, QueryError> {
    let mut fields: Vec<FieldRef> = Vec::with_capacity(wanted.len());
    let mut columns = Vec::with_capacity(wanted.len());
    for name in wanted {
        let found = [Some(first), second].into_iter().flatten().find_map(|batch| {
            let index = batch.schema_ref().index_of(name).ok()?;
            Some((batch.schema_ref().fields().get(index)?.clone(), batch.column(index).clone()))
        });
        if let Some((field, column)) = found {
            fields.push(field);
            columns.push(column);
        }
    }
    let options = RecordBatchOptions::new().with_row_count(Some(first.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
        .map_err(arrow_error)
}

pub(super) fn arrow_error(error: arrow::error::ArrowError) -> QueryError {
    QueryError::internal(format!("a block could not be put together: {error}"))
}
