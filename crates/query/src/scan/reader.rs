//! Reads the matching records of some segments, block by block, in their stored types: which rows
//! first, then of those alone what is wanted.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arrow::array::{RecordBatchOptions, StringArray};
use arrow::datatypes::Schema;
use arrow::record_batch::RecordBatch;
use datafusion::execution::memory_pool::MemoryReservation;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use futures::{FutureExt, StreamExt};
use lodge_record::{field, schema};
use lodge_segment::Mask;
use lodge_segment::predicate::Verdict;
use lodge_store::{Counts, Groups, SegmentRef};
use serde::{Deserialize, Serialize};

use super::shape::Shape;
use super::{Opened, Source, Work};
use crate::budget::QueryControl;
use crate::cluster::{Origin, WHOLE};
use crate::error::QueryError;

/// So long a turn takes, after which others get the thread; and a block more.
const TURN: Duration = Duration::from_millis(1);

/// So many segments are being opened at once: what one waits for, another one computes.
const OPEN_AHEAD: usize = 4;

/// A segment that is opened, if that is needed.
type Opening = BoxFuture<'static, Result<(Work, Option<Arc<Opened>>), QueryError>>;

/// One partition's reading.
pub(crate) struct Reader {
    source: Source,
    works: VecDeque<Work>,
    opening: FuturesOrdered<Opening>,
    wanted: Wanted,
    reservation: MemoryReservation,
    open: Option<Open>,
    /// Blocks whose rows somebody has already.
    without: HashSet<Origin>,
    /// When others had the thread last.
    turn: Instant,
}

/// What is wanted of matching records.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// Fields as they are stored.
    pub(crate) columns: Columns,
    /// `_time`.
    pub(crate) times: bool,
    /// Fields as the different texts that they have.
    pub(crate) groups: Vec<TextOf>,
    /// How `groups` are wanted.
    pub(crate) detail: Detail,
    /// Of records with none of `columns` nothing but sums is wanted. Of the others there are groups
    /// for each record then, too.
    pub(crate) valued: bool,
    /// Which of `groups` are still wanted, where that may change: of the others there is nothing.
    pub(crate) live: Option<Arc<[AtomicBool]>>,
}

/// What is wanted of the texts of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// That of each record.
    Each,
    /// How many records have each text.
    Counts,
    /// Which texts there are.
    Different,
}

/// A text of each record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TextOf {
    pub(crate) field: String,
    /// Not the text itself but its pattern.
    pub(crate) pattern: bool,
}

impl TextOf {
    /// The field's own text.
    pub(crate) fn field(name: impl Into<String>) -> Self {
        Self { field: name.into(), pattern: false }
    }
}

/// Which fields are wanted as they are stored.
#[derive(Debug, Clone)]
pub(crate) enum Columns {
    /// These fields.
    Named(Vec<String>),
    /// What this shape is made of.
    Of(Shape),
}

impl Wanted {
    /// Nothing but `columns`.
    pub(crate) fn of(columns: Columns) -> Self {
        let (groups, detail, live) = (Vec::new(), Detail::Each, None);
        Self { columns, times: false, groups, detail, valued: false, live }
    }

    /// The stored columns that are read for it, beside `columns`.
    pub(super) fn names<'n>(&'n self, columns: &'n [String]) -> impl Iterator<Item = &'n str> {
        let times = self.times.then_some(field::TIME);
        let live = self.groups.iter().enumerate().filter(|(place, _)| self.is_live(*place));
        let groups = live.map(|(_, text)| match text.field.as_str() {
            field::STREAM_ID => field::STREAM,
            name => name,
        });
        columns.iter().map(String::as_str).chain(times).chain(groups)
    }

    /// Whether the texts at this place of `groups` are still wanted.
    fn is_live(&self, place: usize) -> bool {
        let live = self.live.as_ref().and_then(|live| live.get(place));
        live.is_none_or(|live| live.load(Ordering::Relaxed))
    }

    /// Whether the number of records is enough.
    pub(super) fn is_count(&self) -> bool {
        let columns = match &self.columns {
            Columns::Named(names) => names.is_empty(),
            Columns::Of(shape) => shape.output().fields().is_empty(),
        };
        columns && !self.times && self.groups.is_empty()
    }
}

impl Columns {
    /// The names of the columns to read of a segment with the columns `stored`.
    pub(super) fn stored(&self, stored: &Schema) -> Vec<String> {
        match self {
            Self::Named(names) => stored_names(stored, names.iter().map(String::as_str)),
            Self::Of(shape) => {
                stored_names(stored, shape.columns(stored).iter().map(String::as_str))
            }
        }
    }
}

/// Those of `names` that are among the columns `stored`, `_stream` for `_stream_id`, and `_overflow`
/// where a field could be in it.
pub(super) fn stored_names<'n>(
    stored: &Schema,
    names: impl Iterator<Item = &'n str>,
) -> Vec<String> {
    let has = |name: &str| stored.index_of(name).is_ok();
    let mut found: Vec<String> = Vec::new();
    let mut overflow = false;
    for name in names {
        let column = if name == field::STREAM_ID { field::STREAM } else { name };
        overflow |= !schema::is_reserved(column);
        if has(column) && !found.iter().any(|name| name == column) {
            found.push(column.to_owned());
        }
    }
    if overflow && has(field::OVERFLOW) && !found.iter().any(|name| name == field::OVERFLOW) {
        found.push(field::OVERFLOW.to_owned());
    }
    found
}

/// The segment that is being read.
#[derive(Debug)]
struct Open {
    work: Work,
    opened: Arc<Opened>,
    columns: Vec<String>,
}

/// Matching records of one block, or of a whole segment if only their number is wanted.
#[derive(Debug)]
pub(crate) struct Found {
    /// How many there are; at least one.
    pub(crate) rows: usize,
    /// The wanted columns that the segment has (and `_overflow`), in their stored types.
    pub(crate) batch: RecordBatch,
    /// `_time`, if it is wanted as such.
    pub(crate) times: Vec<i64>,
    /// What was wanted as groups, in that order, if that is for each record.
    pub(crate) groups: Vec<Groups>,
    /// What was wanted as groups, in that order, if it is not for each record.
    pub(crate) sums: Vec<Sum>,
    /// Where they are from.
    pub(crate) segment: Arc<SegmentRef>,
    /// The block, or [`WHOLE`].
    pub(crate) block: u32,
}

/// The texts of a field in some records.
#[derive(Debug)]
pub(crate) enum Sum {
    /// The different ones, and the number of records of each.
    Counts(Counts),
    /// All of them, but for absent ones, are these identifiers: see [`lodge_segment::identifier`].
    Identifiers(Vec<u128>),
}

impl Found {
    fn count(rows: u64, segment: Arc<SegmentRef>) -> Result<Self, QueryError> {
        Ok(Self {
            rows: usize::try_from(rows).unwrap_or(usize::MAX),
            batch: rows_only(0)?,
            times: Vec::new(),
            groups: Vec::new(),
            sums: Vec::new(),
            segment,
            block: WHOLE,
        })
    }
}

impl Reader {
    /// Reads what is `wanted` of the matching records of `works`.
    pub(crate) fn new(
        source: Source,
        works: Vec<Work>,
        wanted: Wanted,
        reservation: MemoryReservation,
    ) -> Self {
        let (works, opening) = (works.into(), FuturesOrdered::new());
        let (open, without, turn) = (None, HashSet::new(), Instant::now());
        Self { source, works, opening, wanted, reservation, open, without, turn }
    }

    /// The same, but for some blocks; not for numbers of records alone.
    pub(crate) fn without(self, without: HashSet<Origin>) -> Self {
        Self { without, ..self }
    }

    /// The matching records of the next block that has any; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Found>, QueryError> {
        loop {
            if !self.source.control.proceed()? {
                return Ok(None);
            }
            let Some(mut open) = self.open.take() else {
                self.open_ahead();
                let Some(next) = self.opening.next().await else {
                    self.reservation.free();
                    return Ok(None);
                };
                let (work, opened) = next?;
                if let Some(found) = self.begin(work, opened)? {
                    self.source.control.find(found.rows);
                    return Ok(Some(found));
                }
                continue;
            };
            let block = open.work.blocks.take();
            if open.opened.segment.blocks().get(block).is_none() {
                continue;
            }
            let origin = Origin { segment: open.work.segment.id.0, block: block as u32 };
            if self.without.contains(&origin) {
                self.open = Some(open);
                continue;
            }
            if self.turn.elapsed() >= TURN {
                tokio::task::yield_now().await;
                self.turn = Instant::now();
            }
            let found = found(&self.wanted, &open, block, &self.source.control).await?;
            self.open = Some(open);
            if let Some(found) = found {
                self.source.control.find(found.rows);
                let held = self.reservation.try_resize(found.batch.get_array_memory_size());
                held.map_err(QueryError::from)?;
                return Ok(Some(found));
            }
        }
    }

    /// Begins to open the next segments; those of which only the known number of records is wanted
    /// need not be.
    fn open_ahead(&mut self) {
        let counting = self.wanted.is_count();
        while self.opening.len() < OPEN_AHEAD
            && let Some(work) = self.works.pop_front()
        {
            let source = self.source.clone();
            let opening = async move {
                let known = counting && work.verdict == Verdict::All;
                let opened = if known { None } else { Some(work.open(&source).await?) };
                Ok((work, opened))
            };
            self.opening.push_back(opening.boxed());
        }
    }

    /// Takes a segment; gives its count at once if nothing else is wanted and it is known.
    fn begin(
        &mut self,
        mut work: Work,
        opened: Option<Arc<Opened>>,
    ) -> Result<Option<Found>, QueryError> {
        let counting = self.wanted.is_count();
        let Some(opened) = opened else {
            return match work.blocks.take() {
                0 => Found::count(work.segment.rows, work.segment).map(Some),
                _ => Ok(None),
            };
        };
        let known = opened.prepared.count().filter(|rows| counting || *rows == 0);
        if let Some(rows) = known {
            // One part of the segment gives the rows of all.
            if work.blocks.take() > 0 {
                return Ok(None);
            }
            self.source.control.skip_blocks(opened.segment.blocks().len());
            return match rows {
                0 => Ok(None),
                _ => Found::count(rows, work.segment).map(Some),
            };
        }
        let columns = self.wanted.columns.stored(opened.segment.schema());
        self.open = Some(Open { work, opened, columns });
        Ok(None)
    }
}

/// What is wanted of the matching rows of a block, `None` if there are no such rows, or if a partial
/// answer ends here.
async fn found(
    wanted: &Wanted,
    open: &Open,
    block: usize,
    control: &QueryControl,
) -> Result<Option<Found>, QueryError> {
    let Opened { segment, prepared } = open.opened.as_ref();
    let Some(verdict) = open.opened.charge(block, control)? else { return Ok(None) };
    let mask = segment.select(prepared, block, None).await?;
    let rows = mask.count();
    if rows == 0 {
        return Ok(None);
    }
    let names = wanted.names(&open.columns);
    if !open.opened.charge_rows((block, rows), verdict, names, control)? {
        return Ok(None);
    }
    let picked = (rows < mask.len()).then_some(&mask);
    let times = match wanted.times {
        true => segment.times(block, picked).await?,
        false => Vec::new(),
    };
    let mut sums = Vec::new();
    if wanted.detail != Detail::Each {
        for text in &wanted.groups {
            sums.push(sum(open, block, wanted.detail, text, picked).await?);
        }
    }
    let each = wanted.detail == Detail::Each || wanted.valued;
    let names: Vec<&str> = open.columns.iter().map(String::as_str).collect();
    let valued = match wanted.valued {
        true => segment.present(block, &names).await?,
        false => None,
    };
    let valued = valued.map(|mut valued| {
        valued.and(&mask);
        valued
    });
    let mask = valued.as_ref().unwrap_or(&mask);
    let (whole, picked) = (rows, (!mask.is_full()).then_some(mask));
    let rows = mask.count();
    let mut groups = Vec::with_capacity(wanted.groups.len());
    for (place, text) in wanted.groups.iter().enumerate().filter(|_| each && rows > 0) {
        if !wanted.is_live(place) {
            groups.push(Groups { values: StringArray::new_null(0), codes: Vec::new() });
            continue;
        }
        groups.push(match text.pattern {
            true => segment.patterns(block, &text.field, picked).await?,
            false => segment.groups(block, &text.field, picked).await?,
        });
    }
    let batch = match names.is_empty() || rows == 0 {
        true => rows_only(rows)?,
        false => segment.read(block, &names, picked).await?,
    };
    let rows = whole;
    let (segment, block) = (open.work.segment.clone(), u32::try_from(block).unwrap_or(WHOLE));
    Ok(Some(Found { rows, batch, times, groups, sums, segment, block }))
}

/// The texts of a field in some rows of a block.
async fn sum(
    open: &Open,
    block: usize,
    detail: Detail,
    text: &TextOf,
    rows: Option<&Mask>,
) -> Result<Sum, QueryError> {
    let (segment, name) = (&open.opened.segment, text.field.as_str());
    if text.pattern {
        return Ok(Sum::Counts(segment.patterns(block, name, rows).await?.into()));
    }
    if detail == Detail::Different
        && let Some(found) = segment.identifiers(block, name, rows).await?
    {
        return Ok(Sum::Identifiers(found));
    }
    Ok(Sum::Counts(segment.counts(block, name, rows).await?))
}

/// A batch of rows without columns.
pub(super) fn rows_only(rows: usize) -> Result<RecordBatch, QueryError> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options)
        .map_err(|error| QueryError::internal(error.to_string()))
}

pub(super) fn arrow_error(error: arrow::error::ArrowError) -> QueryError {
    QueryError::internal(format!("a block could not be put together: {error}"))
}
