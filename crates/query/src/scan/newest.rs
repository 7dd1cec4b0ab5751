//! "The last N": the first rows in order of `_time`, with an early stop.
//!
//! Segments are taken in the order of the best time they can hold. Of each block only which rows match
//! is asked, and of those only place and time are kept, N at most in all.
//! As soon as no further segment can hold a better row than the worst one kept, the search ends; only
//! then are the rows themselves read.
//!
//! Invariant: the rows are the same as those of a full sort by `_time`, equal times aside.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow::array::{AsArray, Int64Array};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::runtime::SpawnedTask;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::physical_expr::PhysicalSortExpr;
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::physical_plan::execution_plan::EmissionType;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, TryStreamExt, stream};
use lodge_record::field;
use lodge_segment::Mask;
use lodge_segment::predicate::Verdict;
use lodge_store::{OpenSegment, SegmentRef};
use tokio::task::JoinError;

use super::leaf::{Leaf, LeafExec, Reads};
use super::reader::{Columns, Wanted, arrow_error, rows_only, stored_names};
use super::shape::Shape;
use super::spread::Spread;
use super::{ALONE_ROWS_MAX, Opened, Source, TopByTime};
use crate::budget::QueryControl;
use crate::cluster::{self, Failure, Frame, Out, Part};
use crate::error::QueryError;

/// Rows of a batch handed on.
const BATCH_ROWS: usize = 8192;

/// Where a matching row is. Ordered by `key`, the better the greater; then by place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Hit {
    key: i64,
    segment: Reverse<u32>,
    block: Reverse<u32>,
    row: Reverse<u32>,
}

/// Finds the first rows by time.
#[derive(Debug)]
pub(super) struct Top {
    source: Source,
    shape: Shape,
    parallel: usize,
    top: TopByTime,
}

impl Top {
    pub(super) fn plan(
        source: Source,
        shape: Shape,
        parallel: usize,
        top: TopByTime,
    ) -> Arc<LeafExec<Self>> {
        let schema = shape.output().clone();
        let leaf = Self { source, shape, parallel: parallel.max(1), top };
        LeafExec::new(leaf, schema, 1, EmissionType::Final)
    }

    /// The same, in place of a sort by the column `time`: it promises the order in which its rows come
    /// anyway.
    pub(super) fn plan_in_order(
        source: Source,
        shape: Shape,
        parallel: usize,
        top: TopByTime,
        time: PhysicalSortExpr,
    ) -> Arc<LeafExec<Self>> {
        let schema = shape.output().clone();
        LeafExec::in_order(Self { source, shape, parallel: parallel.max(1), top }, schema, time)
    }
}

impl Leaf for Top {
    const NAME: &'static str = "SegmentTop";

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let which = if self.top.newest { "newest" } else { "oldest" };
        write!(f, "{which}={}, filter={}", self.top.rows, self.source.predicate)
    }

    fn reads(&self) -> Reads {
        let which = if self.top.newest { "newest" } else { "oldest" };
        let mut wanted = Wanted::of(Columns::Of(self.shape.clone()));
        wanted.times = true;
        let does = format!("finds the {} {which} matching records", self.top.rows);
        Reads { source: self.source.clone(), wanted, does, may_stop: true }
    }

    fn rows(&self, _: usize, context: &TaskContext) -> Result<SendableRecordBatchStream> {
        let search = Search {
            source: self.source.clone(),
            shape: self.shape.clone(),
            parallel: self.parallel,
            top: self.top,
            bar: Arc::new(AtomicI64::new(i64::MIN)),
            reservation: MemoryConsumer::new("the last rows").register(context.memory_pool()),
        };
        let pool = context.memory_pool().clone();
        let rows = stream::once(search.run_with_others(pool))
            .map_ok(|found| stream::iter(found.into_batches()))
            .try_flatten()
            .map_err(DataFusionError::from);
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.shape.output().clone(), rows)))
    }
}

/// One run of the search.
struct Search {
    source: Source,
    shape: Shape,
    parallel: usize,
    top: TopByTime,
    /// The key that a row must exceed to be of use, once enough rows are known.
    bar: Arc<AtomicI64>,
    reservation: MemoryReservation,
}

/// A segment that was opened on another thread.
type Opening = std::result::Result<Arc<Opened>, QueryError>;

/// A searched block's segment and hits.
type Searched = Result<(Arc<Opened>, Vec<Hit>), QueryError>;

impl Search {
    async fn run(self) -> Result<Rows, QueryError> {
        if self.top.rows == 0 {
            return Ok(self.rows(Vec::new(), Vec::new()));
        }
        let (hits, opened) = self.find().await?;
        self.fetch(hits, &opened).await
    }

    fn rows(self, batches: Vec<RecordBatch>, order: Vec<(i64, usize, usize)>) -> Rows {
        let schema = self.shape.output().clone();
        Rows { schema, batches, order, _reservations: vec![self.reservation] }
    }

    /// The same search of another source, for rows better than `bar`.
    fn of(&self, source: Source, bar: i64, pool: &Arc<dyn MemoryPool>) -> Self {
        Self {
            source,
            shape: self.shape.clone(),
            parallel: self.parallel,
            top: self.top,
            bar: Arc::new(AtomicI64::new(bar)),
            reservation: MemoryConsumer::new("the last rows").register(pool),
        }
    }

    /// The rows, which other servers look for, too, where it is worth their while: window by window,
    /// the best first.
    async fn run_with_others(self, pool: Arc<dyn MemoryPool>) -> Result<Rows, QueryError> {
        let windows = if self.top.rows == 0 { None } else { self.source.windows() };
        let Some(mut windows) = windows else { return self.run().await };
        let mut left = self.source.segments();
        left.sort_by_key(|(segment, _)| Reverse(self.best_of(segment)));
        let mut left: Vec<Arc<SegmentRef>> = left.into_iter().map(|(segment, _)| segment).collect();
        let (top, mut bar) = (self.top, i64::MIN);
        let mut best = Rows::none(self.shape.output().clone());
        while !left.is_empty() && self.source.control.proceed()? {
            let window = windows.take(&mut left);
            let Spread { own, parts } = windows.spread(&self.source, window);
            let work = cluster::Work::newest(&self.shape, top, bar)?;
            let asking: Vec<_> = parts
                .iter()
                .map(|part| {
                    let (of, work, pool) = (part.clone(), work.clone(), pool.clone());
                    let schema = self.shape.output().clone();
                    let asked = async move { of_other(&of, &work, schema, &pool).await };
                    (part, SpawnedTask::spawn(asked))
                })
                .collect();
            best.add(self.of(own, bar, &pool).run().await?, top.rows);
            for (part, asked) in asking {
                let found = match asked.join().await.map_err(crate::engine::died)? {
                    Ok(found) => Some(found),
                    Err(Failure::Query(error)) => return Err(error),
                    Err(Failure::Lost(lost)) => {
                        let again = self.of(part.source.clone(), bar, &pool).run();
                        let again = async move { again.await.map(Some) };
                        part.source.instead(lost, again).await?
                    }
                };
                if let Some(found) = found {
                    best.add(found, top.rows);
                }
            }
            if let Some((worst, ..)) = best.order.get(top.rows - 1) {
                bar = *worst;
            }
            left.retain(|segment| bar == i64::MIN || self.best_of(segment) > bar);
        }
        Ok(best)
    }

    /// The best key that a row of a segment can have.
    fn best_of(&self, segment: &SegmentRef) -> i64 {
        self.best_key(segment.time_min_ns, segment.time_max_ns)
    }

    /// The best key of a range of times: greater is better, also for the oldest.
    fn best_key(&self, min_ns: i64, max_ns: i64) -> i64 {
        if self.top.newest { max_ns } else { !min_ns }
    }

    /// Whether rows with keys up to `best` can still be of use.
    fn is_useful(&self, best: i64) -> bool {
        let bar = self.bar.load(Ordering::Relaxed);
        bar == i64::MIN || best > bar
    }

    /// The places of the best rows, and the segments they are in.
    async fn find(&self) -> Result<(Vec<Hit>, Vec<Option<Arc<Opened>>>), QueryError> {
        let mut segments = self.source.segments();
        segments.sort_by_key(|(segment, _)| Reverse(self.best_of(segment)));
        // To hand so few rows to another thread takes longer than to look at them.
        let alone = segments.iter().map(|(segment, _)| segment.rows).sum::<u64>() <= ALONE_ROWS_MAX;
        let mut opened: Vec<Option<Arc<Opened>>> = Vec::with_capacity(segments.len());
        let mut best: BinaryHeap<Reverse<Hit>> = BinaryHeap::new();
        let mut running = stream::FuturesOrdered::new();
        let mut segments = segments.into_iter().map(|(segment, _)| segment).peekable();
        // The first segment often is all that is needed, so no other is opened before it was searched; of
        // others, the next is opened meanwhile.
        let (mut opening, mut ahead) = (stream::FuturesOrdered::new(), 1);
        'segments: loop {
            while opening.len() < ahead
                && let Some(segment) =
                    segments.next_if(|segment| self.is_useful(self.best_of(segment)))
            {
                opening.push_back(self.open(segment));
            }
            let Some(this) = opening.next().await else { break };
            let this = this.map_err(crate::engine::died)??;
            ahead = self.parallel;
            let number = opened.len() as u32;
            if this.prepared.verdict() == Verdict::None {
                continue;
            }
            opened.push(None);
            for block in self.blocks(&this.segment) {
                if !self.source.control.proceed()? {
                    break 'segments;
                }
                if alone {
                    let place = (number, block as u32);
                    let control = &self.source.control;
                    let hits = search_block(&this, place, self.top, &self.bar, control).await?;
                    self.keep((this.clone(), hits), &mut best, &mut opened)?;
                    continue;
                }
                running.push_back(self.spawn(this.clone(), number, block));
                while running.len() >= self.parallel {
                    let Some(task) = running.next().await else { break };
                    self.keep(task.map_err(crate::engine::died)??, &mut best, &mut opened)?;
                }
            }
            while number == 0
                && let Some(task) = running.next().await
            {
                self.keep(task.map_err(crate::engine::died)??, &mut best, &mut opened)?;
            }
        }
        while let Some(task) = running.next().await {
            self.keep(task.map_err(crate::engine::died)??, &mut best, &mut opened)?;
        }
        Ok((best.into_iter().map(|Reverse(hit)| hit).collect(), opened))
    }

    /// The blocks of a segment that can be of use, the best first.
    fn blocks(&self, open: &OpenSegment) -> Vec<usize> {
        let mut ranked: Vec<(i64, usize)> = open
            .blocks()
            .iter()
            .enumerate()
            .map(|(index, info)| (self.best_key(info.time_min_ns, info.time_max_ns), index))
            .filter(|(best, _)| self.is_useful(*best))
            .collect();
        self.source.control.skip_blocks(open.blocks().len() - ranked.len());
        ranked.sort_by_key(|(best, index)| (Reverse(*best), *index));
        ranked.into_iter().map(|(_, index)| index).collect()
    }

    /// Opens a segment; on another thread, if there are several.
    fn open(
        &self,
        segment: Arc<SegmentRef>,
    ) -> impl Future<Output = std::result::Result<Opening, JoinError>> + use<> {
        let source = self.source.clone();
        SpawnedTask::spawn(async move { Opened::of(&source, &segment).await }).join()
    }

    fn spawn(
        &self,
        opened: Arc<Opened>,
        segment: u32,
        block: usize,
    ) -> impl Future<Output = std::result::Result<Searched, JoinError>> + use<> {
        let (top, bar) = (self.top, self.bar.clone());
        let control = Arc::clone(&self.source.control);
        let task = SpawnedTask::spawn(async move {
            let place = (segment, block as u32);
            let hits = search_block(&opened, place, top, &bar, &control).await?;
            Ok((opened, hits))
        });
        task.join()
    }

    /// Takes a block's hits among the best; remembers its segment if any of them stays.
    fn keep(
        &self,
        found: (Arc<Opened>, Vec<Hit>),
        best: &mut BinaryHeap<Reverse<Hit>>,
        opened: &mut [Option<Arc<Opened>>],
    ) -> Result<(), QueryError> {
        let (segment, hits) = found;
        let Some(number) = hits.first().map(|hit| hit.segment.0) else {
            return Ok(());
        };
        for hit in hits {
            if best.len() < self.top.rows {
                best.push(Reverse(hit));
            } else if best.peek().is_some_and(|Reverse(worst)| hit > *worst) {
                best.pop();
                best.push(Reverse(hit));
            }
        }
        if best.len() >= self.top.rows
            && let Some(Reverse(worst)) = best.peek()
        {
            self.bar.store(worst.key, Ordering::Relaxed);
        }
        if let Some(place) = opened.get_mut(number as usize) {
            *place = Some(segment);
        }
        let bytes = best.len() * size_of::<Hit>();
        self.reservation.try_resize(bytes).map_err(QueryError::from)
    }

    /// Reads the rows that were found, best first.
    async fn fetch(
        self,
        mut hits: Vec<Hit>,
        opened: &[Option<Arc<Opened>>],
    ) -> Result<Rows, QueryError> {
        hits.sort_unstable_by_key(|hit| Reverse(*hit));
        let mut blocks: BTreeMap<(u32, u32), Vec<(u32, usize)>> = BTreeMap::new();
        for (place, hit) in hits.iter().enumerate() {
            let rows = blocks.entry((hit.segment.0, hit.block.0)).or_default();
            rows.push((hit.row.0, place));
        }
        let mut reads = Vec::with_capacity(blocks.len());
        for ((segment, block), mut rows) in blocks {
            rows.sort_unstable();
            let Some(Some(from)) = opened.get(segment as usize) else {
                return Err(QueryError::internal("a segment with rows was closed too early"));
            };
            reads.push((from.clone(), block as usize, rows));
        }
        let alone = reads.len() == 1;
        let reads = stream::iter(reads).map(|(from, block, rows)| {
            let shape = self.shape.clone();
            let control = self.source.control.clone();
            async move {
                let names = row_columns(&from, &shape);
                let names = names.iter().map(String::as_str);
                if !from.charge_rows((block, rows.len()), Verdict::Some, names, &control)? {
                    // Rows that were found but can no longer be read are left out of a partial
                    // answer.
                    return Ok(None);
                }
                let (rows, places): (Vec<u32>, Vec<usize>) = rows.into_iter().unzip();
                let read = async move { read_rows(&from, block, &shape, &rows).await };
                let batch = match alone {
                    true => read.await?,
                    false => {
                        SpawnedTask::spawn(read).join().await.map_err(crate::engine::died)??
                    }
                };
                Ok::<_, QueryError>(Some((batch, places)))
            }
        });
        let mut reads = reads.buffered(self.parallel);
        let mut batches = Vec::new();
        // (place, batch, row in it)
        let mut order: Vec<(usize, usize, usize)> = Vec::with_capacity(hits.len());
        while let Some(read) = reads.next().await {
            if let Some((batch, places)) = read? {
                let more = batch.get_array_memory_size();
                self.reservation.try_grow(more).map_err(QueryError::from)?;
                let rows = places.into_iter().enumerate();
                order.extend(rows.map(|(row, place)| (place, batches.len(), row)));
                batches.push(batch);
            }
        }
        drop(reads);
        order.sort_unstable();
        let key = |place: usize| hits.get(place).map_or(i64::MIN, |hit| hit.key);
        let order = order.into_iter().map(|(place, batch, row)| (key(place), batch, row));
        Ok(self.rows(batches, order.collect()))
    }
}

/// The rows that were found, and their order.
struct Rows {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    /// Key, batch and row in it, best first.
    order: Vec<(i64, usize, usize)>,
    _reservations: Vec<MemoryReservation>,
}

impl Rows {
    fn none(schema: SchemaRef) -> Self {
        Self { schema, batches: Vec::new(), order: Vec::new(), _reservations: Vec::new() }
    }

    /// Takes over those of `more` that are among the first `rows`.
    fn add(&mut self, more: Self, rows: usize) {
        let before = self.batches.len();
        self.batches.extend(more.batches);
        self._reservations.extend(more._reservations);
        let more = more.order.into_iter();
        self.order.extend(more.map(|(key, batch, row)| (key, before + batch, row)));
        // Stable: of equal ones those stay that were found first.
        self.order.sort_by_key(|(key, ..)| Reverse(*key));
        self.order.truncate(rows);
    }

    /// The rows in their order, put together as they are asked for.
    fn into_batches(self) -> impl Iterator<Item = Result<RecordBatch, QueryError>> {
        let chunks = self.order.len().div_ceil(BATCH_ROWS);
        (0..chunks).map(move |chunk| {
            let from = chunk * BATCH_ROWS;
            let to = self.order.len().min(from + BATCH_ROWS);
            let rows = self.order.get(from..to).unwrap_or_default();
            if self.schema.fields().is_empty() {
                return rows_only(rows.len());
            }
            let batches: Vec<&RecordBatch> = self.batches.iter().collect();
            let rows: Vec<(usize, usize)> = rows.iter().map(|(_, b, row)| (*b, *row)).collect();
            interleave_record_batch(&batches, &rows).map_err(arrow_error)
        })
    }
}

/// The column of the keys of rows on their way to another server, behind those of the rows.
const KEY: &str = "lodge.key";

/// The rows that another server found.
async fn of_other(
    part: &Part,
    work: &cluster::Work,
    schema: SchemaRef,
    pool: &Arc<dyn MemoryPool>,
) -> Result<Rows, Failure> {
    let mut found = Rows::none(schema);
    let mut asked = part.ask(work, pool).await?;
    let other = || Failure::Query(QueryError::internal("another server's rows have no keys"));
    while let Some(frame) = asked.next().await? {
        let Frame::Newest(batch) = frame else { return Err(other()) };
        let reservation = MemoryConsumer::new("the last rows").register(pool);
        let grown = reservation.try_grow(cluster::bytes_of(&batch));
        grown.map_err(|error| Failure::Query(error.into()))?;
        found._reservations.push(reservation);
        let last = batch.num_columns().checked_sub(1).ok_or_else(other)?;
        let keys = batch.column(last).as_primitive_opt::<Int64Type>().ok_or_else(other)?.clone();
        let places: Vec<usize> = (0..last).collect();
        let rows = batch.project(&places).and_then(|rows| rows.with_schema(found.schema.clone()));
        let rows = rows.map_err(|error| Failure::Query(arrow_error(error)))?;
        let number = found.batches.len();
        let keys = keys.values().iter().enumerate();
        found.order.extend(keys.map(|(row, key)| (*key, number, row)));
        found.batches.push(rows);
    }
    Ok(found)
}

/// Gives another server the first rows of `source` that are better than a bar.
pub(crate) async fn give_newest(
    source: Source,
    shape: Shape,
    parallel: usize,
    (top, bar): (TopByTime, i64),
    pool: &Arc<dyn MemoryPool>,
    out: &Out,
) -> Result<(), QueryError> {
    let reservation = MemoryConsumer::new("the last rows").register(pool);
    let (bar, parallel) = (Arc::new(AtomicI64::new(bar)), parallel.max(1));
    let found = Search { source, shape, parallel, top, bar, reservation }.run().await?;
    let keys: Vec<i64> = found.order.iter().map(|(key, ..)| *key).collect();
    let mut keys = keys.chunks(BATCH_ROWS);
    for batch in found.into_batches() {
        let (batch, keys) = (batch?, keys.next().unwrap_or_default());
        let mut fields: Vec<FieldRef> = batch.schema().fields().iter().cloned().collect();
        fields.push(Arc::new(Field::new(KEY, DataType::Int64, false)));
        let mut columns = batch.columns().to_vec();
        columns.push(Arc::new(Int64Array::from(keys.to_vec())));
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns);
        if !out.send(&Frame::Newest(batch.map_err(arrow_error)?)).await? {
            break;
        }
    }
    Ok(())
}

/// The matching rows of a block that are better than the bar, N of them at most.
async fn search_block(
    opened: &Opened,
    (number, block): (u32, u32),
    top: TopByTime,
    bar: &AtomicI64,
    control: &QueryControl,
) -> Result<Vec<Hit>, QueryError> {
    let Opened { segment, prepared } = opened;
    let index = block as usize;
    let Some(verdict) = opened.charge(index, control)? else { return Ok(Vec::new()) };
    let rows = segment.blocks().get(index).map_or(0, |info| info.rows);
    if !opened.charge_rows((index, rows), verdict, [field::TIME].into_iter(), control)? {
        return Ok(Vec::new());
    }
    let bar = bar.load(Ordering::Relaxed);
    let key = |time: i64| if top.newest { time } else { !time };
    let hit = |time: i64, row: usize| {
        let (segment, row) = (Reverse(number), Reverse(row as u32));
        Hit { key: key(time), segment, block: Reverse(block), row }
    };
    let mut hits: Vec<Hit> = if bar == i64::MIN {
        let mask = segment.select(prepared, index, None).await?;
        control.find(mask.count());
        if mask.is_empty() {
            return Ok(Vec::new());
        }
        let times = segment.times(index, Some(&mask)).await?;
        times.into_iter().zip(mask.iter()).map(|(time, row)| hit(time, row)).collect()
    } else {
        // Times are cheap to have: with a bar, most blocks end here.
        let times = segment.times(index, None).await?;
        let better = |row: usize| times.get(row).is_some_and(|time| key(*time) > bar);
        let within = Mask::collect(times.len(), better);
        if within.is_empty() {
            return Ok(Vec::new());
        }
        let mask = segment.select(prepared, index, Some(&within)).await?;
        control.find(mask.count());
        mask.iter().filter_map(|row| Some(hit(*times.get(row)?, row))).collect()
    };
    if hits.len() > top.rows {
        hits.select_nth_unstable_by_key(top.rows, |hit| Reverse(*hit));
        hits.truncate(top.rows);
    }
    Ok(hits)
}

/// The stored columns that rows are made of.
fn row_columns(opened: &Opened, shape: &Shape) -> Vec<String> {
    let schema = opened.segment.schema();
    stored_names(schema, shape.columns(schema).iter().map(String::as_str))
}

/// Some rows of a block, ascending, in the shape of the plan.
pub(super) async fn read_rows(
    opened: &Opened,
    block: usize,
    shape: &Shape,
    rows: &[u32],
) -> Result<RecordBatch, QueryError> {
    let segment = &opened.segment;
    let names = row_columns(opened, shape);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut mask = Mask::none(segment.blocks().get(block).map_or(0, |info| info.rows));
    rows.iter().for_each(|row| mask.set(*row as usize));
    let batch = segment.read(block, &names, Some(&mask)).await?;
    shape.apply(&batch)
}
