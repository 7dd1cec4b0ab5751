//! The leaf of every plan: one snapshot's records, filtered.
//!
//! ```text
//!  Snapshot ─ prune (time, streams, columns) ─► Work per partition ─► Reader: segment by segment
//!      prepare ─► per block: which rows ─► of those: times, groups, columns ─► Shape: the table's
//!      types
//! ```
//!
//! Aggregates over the leaf are a leaf of their own ([`Aggregate`]), which needs no rows.
//!
//! Invariants:
//! - rows leave the leaf exactly if they match its predicate;
//! - a partition holds one block at a time, accounted for in the query's memory pool, and little more
//!   until there is a batch that is worth handing on;
//! - a dropped stream reads no further block; the deadline is looked at before every block.

mod aggregate;
mod blocks;
mod context;
mod cost;
mod exec;
mod fold;
mod leaf;
mod newest;
mod reach;
mod reader;
mod shape;
mod spilled;
mod spread;
mod table;
mod tally;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::physical_plan::ExecutionPlan;
use lodge_segment::predicate::{Facts, Predicate, Verdict};
use lodge_store::{OpenSegment, Prepared, SegmentRef, Snapshot, Store};
use tokio::sync::OnceCell;

use crate::budget::QueryControl;
use crate::cluster::Among;
use crate::error::QueryError;
use crate::logsql::Query;

pub(crate) use aggregate::{Aggregate, GroupLimit, counts, give_groups};
pub(crate) use blocks::{MadeBlocks, StoredBlocks};
pub(crate) use context::Context;
pub(crate) use cost::leaf_costs;
pub use cost::{LeafCost, Share};
pub(crate) use exec::{Scan, give_rows};
pub(crate) use fold::{fold, on_runtime};
pub(crate) use newest::give_newest;
pub(crate) use reach::Reach;
pub(crate) use reader::{Columns, Found, TextOf, Wanted};
pub(crate) use shape::{Shape, Types, stream_ids, table_schema};
pub(crate) use spilled::spilled_type;
pub(crate) use table::{LogsTable, TopByTime};
pub(crate) use tally::{Function, Grouping, Key, Through, bucket_floor};

/// Segments of more rows than this are shared among the partitions block by block.
const SHARED_ROWS_MIN: u64 = 2 * 65_536;
/// So few rows are the work of one partition: to share them costs more than it saves.
const ALONE_ROWS_MAX: u64 = 65_536;

/// What a query reads: a snapshot, and which of its records.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) store: Arc<Store>,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) predicate: Arc<Predicate>,
    pub(crate) control: Arc<QueryControl>,
    /// What queries within the query may read of the snapshot.
    pub(crate) reach: Arc<Reach>,
    /// The servers that may read some of it.
    among: Option<Arc<Among>>,
}

/// A segment, or some of its blocks, to be read by one partition.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    pub(crate) segment: Arc<SegmentRef>,
    pub(crate) verdict: Verdict,
    blocks: Blocks,
    /// The segment once opened, for those that share it.
    shared: Option<Arc<OnceCell<Arc<Opened>>>>,
}

/// Which blocks of a segment a partition reads.
#[derive(Debug, Clone)]
enum Blocks {
    /// `next`, `next + step`, `next + 2 × step`, …: the same whenever it is asked.
    Every { next: usize, step: usize },
    /// Whatever no other partition has taken: a partition that comes late costs no time.
    Free(Arc<AtomicUsize>),
}

impl Blocks {
    /// The next block to read, beyond the last one at the end.
    fn take(&mut self) -> usize {
        match self {
            Self::Every { next, step } => {
                let this = *next;
                *next += *step;
                this
            }
            Self::Free(next) => next.fetch_add(1, Ordering::Relaxed),
        }
    }
}

/// A segment that is open, and what the predicate comes to in it.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) segment: OpenSegment,
    pub(crate) prepared: Prepared,
}

impl Opened {
    async fn of(source: &Source, segment: &Arc<SegmentRef>) -> Result<Arc<Self>, QueryError> {
        let segment = source.store.open_segment(segment).await?;
        let prepared = segment.prepare(&source.predicate).await?;
        Ok(Arc::new(Self { segment, prepared }))
    }

    /// Charges for looking at which rows of a block match; whether that is to be done: not where none
    /// can match, and not where a partial answer ends (`None`).
    fn charge(&self, block: usize, control: &QueryControl) -> Result<Option<Verdict>, QueryError> {
        let verdict = self.segment.block_verdict(&self.prepared, block)?;
        if verdict == Verdict::None {
            control.skip_blocks(1);
            return Ok(None);
        }
        let rows = self.segment.blocks().get(block).map_or(0, |info| info.rows);
        let goes_on = control.charge_block(rows, self.tested_bytes(block, verdict))?;
        Ok(goes_on.then_some(verdict))
    }

    /// Charges for reading `names` of some rows of a block; whether that is to be done.
    fn charge_rows<'n>(
        &self,
        (block, rows): (usize, usize),
        verdict: Verdict,
        names: impl Iterator<Item = &'n str>,
        control: &QueryControl,
    ) -> Result<bool, QueryError> {
        let bytes =
            self.segment.block_bytes(block, names.filter(|name| !self.is_tested(name, verdict)));
        let total = self.segment.blocks().get(block).map_or(0, |info| info.rows);
        let share = rows as f64 / total.max(1) as f64;
        control.charge_bytes((bytes as f64 * share).ceil() as u64)
    }

    /// Whether a column was looked at to tell which rows of a block match.
    fn is_tested(&self, name: &str, verdict: Verdict) -> bool {
        verdict == Verdict::Some && self.prepared.columns().iter().any(|column| column == name)
    }

    /// The bytes of the columns that tell which rows of a block match.
    fn tested_bytes(&self, block: usize, verdict: Verdict) -> u64 {
        match verdict {
            Verdict::Some => {
                let columns = self.prepared.columns().iter().map(String::as_str);
                self.segment.block_bytes(block, columns)
            }
            Verdict::None | Verdict::All => 0,
        }
    }
}

impl Work {
    fn whole(segment: Arc<SegmentRef>, verdict: Verdict) -> Self {
        Self { segment, verdict, blocks: Blocks::Every { next: 0, step: 1 }, shared: None }
    }

    /// Whether it begins with the first block, which one of those that share a segment does.
    fn is_first(&self) -> bool {
        matches!(self.blocks, Blocks::Every { next: 0, .. })
    }

    /// Opens its segment, or takes what another part opened.
    async fn open(&self, source: &Source) -> Result<Arc<Opened>, QueryError> {
        let opening = || Opened::of(source, &self.segment);
        match &self.shared {
            Some(shared) => shared.get_or_try_init(opening).await.cloned(),
            None => opening().await,
        }
    }
}

impl Source {
    /// What `query` reads of a snapshot, within `reach`.
    pub(crate) fn new(
        store: Arc<Store>,
        snapshot: Arc<Snapshot>,
        query: &Query,
        reach: Reach,
        control: Arc<QueryControl>,
    ) -> Self {
        let predicate = Arc::new(reach.bounded(query));
        Self { store, snapshot, predicate, control, reach: Arc::new(reach), among: None }
    }

    /// What another server asked for.
    pub(crate) fn sent(
        store: Arc<Store>,
        snapshot: Arc<Snapshot>,
        predicate: Predicate,
        control: Arc<QueryControl>,
    ) -> Self {
        let reach = Arc::new(Reach::new(predicate.clone(), None));
        Self { store, snapshot, predicate: Arc::new(predicate), control, reach, among: None }
    }

    /// The same, which these servers may read together.
    pub(crate) fn among(self, among: Option<Arc<Among>>) -> Self {
        Self { among, ..self }
    }

    /// What another query reads of the same snapshot, within the same reach.
    pub(crate) fn within_reach(&self, query: &Query) -> Self {
        Self { predicate: Arc::new(self.reach.bounded(query)), ..self.clone() }
    }

    /// The same at any time: records around those of the query.
    fn at_any_time(&self, predicate: Predicate) -> Self {
        let predicate = Predicate::and([self.reach.view().clone(), predicate]);
        Self { predicate: Arc::new(predicate), ..self.clone() }
    }

    /// The same snapshot, narrowed by one more predicate.
    pub(crate) fn narrowed(&self, more: Predicate) -> Self {
        let predicate = Predicate::and([self.predicate.as_ref().clone(), more]);
        Self { predicate: Arc::new(predicate), ..self.clone() }
    }

    /// First and last moment that a matching record can have, both included; `None` if there can be
    /// no such record.
    pub(crate) fn span(&self) -> Option<(i64, i64)> {
        let (from, to) = self.predicate.time_bounds()?;
        let segments = || self.snapshot.segments.iter();
        let first = segments().map(|segment| segment.time_min_ns).min()?.max(from);
        let last = segments().map(|segment| segment.time_max_ns).max()?.min(to);
        (first <= last).then_some((first, last))
    }

    /// The segments that can hold matching records, the newest first.
    pub(crate) fn segments(&self) -> Vec<(Arc<SegmentRef>, Verdict)> {
        let mut kept: Vec<_> = self
            .snapshot
            .segments
            .iter()
            .map(|segment| {
                let facts = Facts {
                    time: (segment.time_min_ns, segment.time_max_ns),
                    streams: segment.streams.as_deref(),
                    schema: Some(&segment.schema),
                    words: None,
                };
                (segment.clone(), self.predicate.verdict(&facts))
            })
            .filter(|(segment, verdict)| *verdict != Verdict::None && segment.rows > 0)
            .collect();
        kept.sort_by_key(|(segment, _)| std::cmp::Reverse((segment.time_max_ns, segment.id)));
        kept
    }

    /// All work, to be shared out while it is done: in how many parts (at most `partitions`), and the
    /// list for each of them.
    pub(crate) fn share(&self, partitions: usize, counting: bool) -> (usize, Vec<Work>) {
        let segments = self.segments();
        let parts = parts(&segments, partitions, counting);
        let work = |(segment, verdict)| Work {
            segment,
            verdict,
            blocks: Blocks::Free(Arc::new(AtomicUsize::new(0))),
            shared: Some(Arc::new(OnceCell::new())),
        };
        (parts, segments.into_iter().map(work).collect())
    }

    /// The work of each of at most `partitions`, evenly by rows. `counting`: nothing but the number
    /// of records is wanted, which whole segments give without being read.
    pub(crate) fn divide(&self, partitions: usize, counting: bool) -> Vec<Vec<Work>> {
        let segments = self.segments();
        let partitions = parts(&segments, partitions, counting);
        let mut works = vec![Vec::new(); partitions];
        let mut loads = vec![0u64; partitions];
        for (segment, verdict) in segments {
            let known = counting && verdict == Verdict::All;
            if segment.rows >= SHARED_ROWS_MIN && !known {
                let shared = Some(Arc::new(OnceCell::new()));
                for (part, list) in works.iter_mut().enumerate() {
                    let (segment, shared) = (segment.clone(), shared.clone());
                    let blocks = Blocks::Every { next: part, step: partitions };
                    list.push(Work { segment, verdict, blocks, shared });
                }
                continue;
            }
            let least = (0..partitions).min_by_key(|index| loads[*index]).unwrap_or(0);
            if !known {
                loads[least] += segment.rows;
            }
            if let Some(list) = works.get_mut(least) {
                list.push(Work::whole(segment, verdict));
            }
        }
        works
    }
}

/// How many partitions the work of `segments` is worth.
fn parts(segments: &[(Arc<SegmentRef>, Verdict)], partitions: usize, counting: bool) -> usize {
    let is_known = |verdict: Verdict| counting && verdict == Verdict::All;
    let read = segments.iter().filter(|(_, verdict)| !is_known(*verdict));
    let rows: u64 = read.map(|(segment, _)| segment.rows).sum();
    if rows <= ALONE_ROWS_MAX { 1 } else { partitions.max(1) }
}

/// The scan that `plan` is, if it is one.
pub(crate) fn as_scan(plan: &dyn ExecutionPlan) -> Option<&Scan> {
    plan.downcast_ref::<leaf::LeafExec<Scan>>().map(|exec| &exec.leaf)
}
