//! The records of a stream around those that match: `stream_context`.
//!
//! ```text
//!  matching records ─► their streams and times ─► the streams' records around them, as places
//!      ─► which of them ─► the records themselves, stream by stream, batch by batch
//! ```
//!
//! Invariants: what is around is looked for at any time, but only in what the query's view shows; until
//! the end only places and times are held.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, RecordBatchOptions, StringArray, TimestampNanosecondArray, new_null_array,
};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::physical_plan::SendableRecordBatchStream;
use futures::StreamExt;
use lodge_record::{field, schema, stream};
use lodge_segment::predicate::{FieldTest, Predicate, Verdict};
use lodge_store::Groups;

use super::newest::read_rows;
use super::reader::arrow_error;
use super::shape::Shape;
use super::{Opened, Source};
use crate::error::{QueryError, QueryErrorKind};
use crate::logsql::ContextPipe;
use crate::stage::{Batches, Stage};

/// Most streams whose records are looked at.
const STREAMS_MAX: usize = 1_000;
/// Most matching records.
const MATCHES_MAX: usize = 100_000;
/// Rows of a batch that leaves.
const BATCH_ROWS: usize = 8_192;
/// The message of the row between records that are apart.
const DELIMITER: &str = "---";

/// The leaf that finds records and what is around them.
#[derive(Debug)]
pub(crate) struct Context {
    source: Source,
    schema: SchemaRef,
    pipe: ContextPipe,
}

impl Context {
    /// Around the records of `source`, with the columns `schema`.
    pub(crate) fn new(source: Source, schema: SchemaRef, pipe: ContextPipe) -> Self {
        Self { source, schema, pipe }
    }
}

impl Stage for Context {
    fn name(&self) -> &'static str {
        "StreamContext"
    }

    fn output(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn run(
        self: Arc<Self>,
        _: Vec<SendableRecordBatchStream>,
        memory: MemoryReservation,
    ) -> Batches {
        let found = async move {
            let mut search = Search { context: self, memory, opened: Vec::new() };
            let rows = search.rows().await.map_err(DataFusionError::from)?;
            Ok::<_, DataFusionError>(Rows { search, rows, next: 0 })
        };
        let batches = |rows: Result<Rows>| match rows {
            Ok(rows) => futures::stream::try_unfold(rows, |mut rows| async move {
                let batch = rows.batch().await.map_err(DataFusionError::from)?;
                Ok(batch.map(|batch| (batch, rows)))
            })
            .boxed(),
            Err(error) => futures::stream::iter([Err(error)]).boxed(),
        };
        futures::stream::once(found).map(batches).flatten().boxed()
    }
}

/// Where a record is, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    time_ns: i64,
    segment: u32,
    block: u32,
    row: u32,
    matches: bool,
}

/// A row that leaves.
#[derive(Debug, Clone)]
enum Row {
    Record(Place),
    /// Between records that are apart: the time of the one before, and its stream.
    Delimiter(i64, Arc<str>),
}

struct Search {
    context: Arc<Context>,
    memory: MemoryReservation,
    /// The segments that records around are in.
    opened: Vec<Arc<Opened>>,
}

impl Search {
    /// The streams of matching records, each with the first and the last of their times.
    async fn streams(&self) -> Result<BTreeMap<String, (i64, i64)>, QueryError> {
        let source = &self.context.source;
        let mut streams: BTreeMap<String, (i64, i64)> = BTreeMap::new();
        let mut matches = 0;
        for (segment, _) in source.segments() {
            let opened = Opened::of(source, &segment).await?;
            if opened.prepared.verdict() == Verdict::None {
                continue;
            }
            for block in 0..opened.segment.blocks().len() {
                if !source.control.proceed()? {
                    return Ok(streams);
                }
                let mask = opened.segment.select(&opened.prepared, block, None).await?;
                if mask.is_empty() {
                    continue;
                }
                matches += mask.count();
                source.control.find(mask.count());
                if matches > MATCHES_MAX {
                    return Err(too_much("records match", MATCHES_MAX));
                }
                let times = opened.segment.times(block, Some(&mask)).await?;
                let groups = opened.segment.groups(block, field::STREAM, Some(&mask)).await?;
                for (time_ns, code) in times.into_iter().zip(&groups.codes) {
                    let Some(name) = text(&groups, *code) else { continue };
                    match streams.get_mut(name) {
                        Some((first, last)) => {
                            (*first, *last) = (time_ns.min(*first), time_ns.max(*last));
                        }
                        None => drop(streams.insert(name.to_owned(), (time_ns, time_ns))),
                    }
                }
                if streams.len() > STREAMS_MAX {
                    return Err(too_much("streams have matching records", STREAMS_MAX));
                }
                tokio::task::yield_now().await;
            }
        }
        Ok(streams)
    }

    /// The rows that leave, in their order.
    async fn rows(&mut self) -> Result<Vec<Row>, QueryError> {
        let streams = self.streams().await?;
        let mut places = self.places(&streams).await?;
        let mut ordered: Vec<(i64, String)> =
            streams.into_iter().map(|(name, (first, _))| (first, name)).collect();
        ordered.sort();
        let mut rows: Vec<Row> = Vec::new();
        // The stream of the last row.
        let mut last: Arc<str> = Arc::from("");
        for (_, name) in ordered {
            let places = places.remove(&name).unwrap_or_default();
            let name: Arc<str> = Arc::from(name);
            for run in around(&places, self.context.pipe) {
                if let Some(Row::Record(before)) = rows.last() {
                    rows.push(Row::Delimiter(before.time_ns, Arc::clone(&last)));
                }
                last = Arc::clone(&name);
                self.hold(run.len() * size_of::<Row>())?;
                rows.extend(run.iter().map(|place| Row::Record(*place)));
            }
        }
        Ok(rows)
    }

    fn hold(&mut self, bytes: usize) -> Result<(), QueryError> {
        self.memory.try_grow(bytes).map_err(QueryError::from)
    }

    /// The records of the streams that may be near enough, in the order of their times.
    async fn places(
        &mut self,
        streams: &BTreeMap<String, (i64, i64)>,
    ) -> Result<BTreeMap<String, Vec<Place>>, QueryError> {
        let mut places: BTreeMap<String, Vec<Place>> = BTreeMap::new();
        let context = Arc::clone(&self.context);
        let window_ns = context.pipe.window_ns;
        let first = streams.values().map(|(first, _)| first.saturating_sub(window_ns)).min();
        let last = streams.values().map(|(_, last)| last.saturating_add(window_ns)).max();
        let (Some(first), Some(last)) = (first, last) else { return Ok(places) };
        let names: BTreeSet<String> = streams.keys().cloned().collect();
        let of_streams = Predicate::field(field::STREAM, FieldTest::In(names));
        let source = context.source.at_any_time(of_streams.within(first, last));
        for (segment, _) in source.segments() {
            let opened = Opened::of(&source, &segment).await?;
            if opened.prepared.verdict() == Verdict::None {
                continue;
            }
            let matching = opened.segment.prepare(&context.source.predicate).await?;
            let number = self.opened.len() as u32;
            for block in 0..opened.segment.blocks().len() {
                if !source.control.proceed()? {
                    return Ok(places);
                }
                let mask = opened.segment.select(&opened.prepared, block, None).await?;
                if mask.is_empty() {
                    continue;
                }
                let matches = opened.segment.select(&matching, block, Some(&mask)).await?;
                let times = opened.segment.times(block, Some(&mask)).await?;
                let groups = opened.segment.groups(block, field::STREAM, Some(&mask)).await?;
                self.hold(times.len() * size_of::<Place>())?;
                let found = times.into_iter().zip(&groups.codes).zip(mask.iter());
                for ((time_ns, code), row) in found {
                    let Some(name) = text(&groups, *code) else { continue };
                    let Some((first, last)) = streams.get(name) else { continue };
                    let is_near = first.saturating_sub(window_ns) <= time_ns
                        && time_ns <= last.saturating_add(window_ns);
                    if !is_near {
                        continue;
                    }
                    let matches = matches.get(row);
                    let (block, row) = (block as u32, row as u32);
                    let place = Place { time_ns, segment: number, block, row, matches };
                    match places.get_mut(name) {
                        Some(places) => places.push(place),
                        None => drop(places.insert(name.to_owned(), vec![place])),
                    }
                }
                tokio::task::yield_now().await;
            }
            self.opened.push(opened);
        }
        places.values_mut().for_each(|places| places.sort_unstable());
        Ok(places)
    }
}

fn text(groups: &Groups, code: u32) -> Option<&str> {
    let place = usize::try_from(code).ok().filter(|place| *place < groups.values.len())?;
    Some(groups.values.value(place))
}

/// The runs of `places` that are near matching ones, those that touch as one.
fn around(places: &[Place], pipe: ContextPipe) -> Vec<&[Place]> {
    let before = usize::try_from(pipe.before).unwrap_or(usize::MAX);
    let after = usize::try_from(pipe.after).unwrap_or(usize::MAX);
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (at, place) in places.iter().enumerate().filter(|(_, place)| place.matches) {
        let first_ns = place.time_ns.saturating_sub(pipe.window_ns);
        let last_ns = place.time_ns.saturating_add(pipe.window_ns);
        let start = places.partition_point(|other| other.time_ns < first_ns);
        let end = places.partition_point(|other| other.time_ns <= last_ns);
        let start = start.max(at.saturating_sub(before));
        let end = end.min(at.saturating_add(1).saturating_add(after));
        match runs.last_mut() {
            Some((_, last)) if start <= *last => *last = end.max(*last),
            _ => runs.push((start, end)),
        }
    }
    runs.into_iter().filter_map(|(start, end)| places.get(start..end)).collect()
}

fn too_much(what: &str, most: usize) -> QueryError {
    QueryError::new(
        QueryErrorKind::BudgetMemory,
        format!(
            "more than {most} {what} before `| stream_context`, which is the most; narrow the time \
             range, or filter by stream or by a rarer word"
        ),
    )
}

/// The rows on their way out.
struct Rows {
    search: Search,
    rows: Vec<Row>,
    next: usize,
}

impl Rows {
    async fn batch(&mut self) -> Result<Option<RecordBatch>, QueryError> {
        let context = Arc::clone(&self.search.context);
        let end = self.rows.len().min(self.next + BATCH_ROWS);
        if self.next == end || !context.source.control.proceed()? {
            return Ok(None);
        }
        let rows = self.rows.get(self.next..end).unwrap_or_default();
        let mut blocks: BTreeMap<(u32, u32), Vec<(u32, usize)>> = BTreeMap::new();
        let mut batches: Vec<RecordBatch> = Vec::new();
        let mut order: Vec<(usize, usize)> = vec![(0, 0); rows.len()];
        for (at, row) in rows.iter().enumerate() {
            match row {
                Row::Record(place) => {
                    let rows = blocks.entry((place.segment, place.block)).or_default();
                    rows.push((place.row, at));
                }
                Row::Delimiter(time_ns, name) => {
                    if let Some(order) = order.get_mut(at) {
                        *order = (batches.len(), 0);
                    }
                    batches.push(delimiter(&context.schema, *time_ns, name)?);
                }
            }
        }
        let shape = Shape::new(Arc::clone(&context.schema), Arc::clone(&context.schema));
        for ((segment, block), mut places) in blocks {
            places.sort_unstable();
            let (rows, places): (Vec<u32>, Vec<usize>) = places.into_iter().unzip();
            let Some(opened) = self.search.opened.get(segment as usize) else { continue };
            let batch = read_rows(opened, block as usize, &shape, &rows).await?;
            for (row, at) in places.into_iter().enumerate() {
                if let Some(order) = order.get_mut(at) {
                    *order = (batches.len(), row);
                }
            }
            batches.push(batch);
        }
        self.next = end;
        let batches: Vec<&RecordBatch> = batches.iter().collect();
        if context.schema.fields().is_empty() {
            return super::reader::rows_only(order.len()).map(Some);
        }
        interleave_record_batch(&batches, &order).map(Some).map_err(arrow_error)
    }
}

/// The row between records that are apart.
fn delimiter(output: &SchemaRef, time_ns: i64, name: &str) -> Result<RecordBatch, QueryError> {
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(output.fields().len());
    for wanted in output.fields() {
        let text = |text: &str| Arc::new(StringArray::from(vec![text.to_owned()])) as ArrayRef;
        let column: ArrayRef = match wanted.name().as_str() {
            field::TIME => Arc::new(TimestampNanosecondArray::from(vec![time_ns])),
            field::STREAM => text(name),
            field::STREAM_ID => text(&stream::stream_id(name)),
            field::MSG => text(DELIMITER),
            _ => new_null_array(wanted.data_type(), 1),
        };
        columns.push(schema::cast_to(&column, wanted.data_type()).map_err(arrow_error)?);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    RecordBatch::try_new_with_options(Arc::clone(output), columns, &options).map_err(arrow_error)
}
