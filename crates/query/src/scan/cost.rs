//! What the leaves of a plan would read, told without reading a record: segments are opened and the
//! predicate is prepared for each, which looks at directories, dictionaries and word indexes alone.
//!
//! Invariant: what is told is what a run is charged with ([`QueryControl`]) if it goes to its end and
//! every record of every block that is looked at matches: no run costs more.
//!
//! [`QueryControl`]: crate::budget::QueryControl

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::physical_plan::ExecutionPlan;
use lodge_segment::predicate::Verdict;
use lodge_store::Snapshot;

use super::Opened;
use super::aggregate::Aggregate;
use super::exec::Scan;
use super::leaf::{Leaf, LeafExec, Reads};
use super::newest::Top;
use super::reader::Columns;
use crate::error::QueryError;

/// How much there is, and how much of it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Share {
    /// What is read, at most.
    pub read: u64,
    /// What there is.
    pub total: u64,
}

/// What one leaf reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafCost {
    /// What it does with the records, for people.
    pub does: String,
    /// Which records, in LogsQL.
    pub filter: String,
    /// Fields that are read of these, as far as they have columns.
    pub columns: Vec<String>,
    /// Whether it may stop before it has read all of this.
    pub may_stop: bool,
    /// Servers that read it, at most.
    pub servers: u64,
    /// Segments; those are read that can hold matching records as far as their indexes tell.
    pub segments: Share,
    /// Blocks of 65,536 records or fewer in the segments that were opened.
    pub blocks: Share,
    /// Records.
    pub rows: Share,
    /// Stored bytes; of the blocks that are read the columns that are needed.
    pub bytes: Share,
}

/// The costs of all leaves of `plan`, whose tenant has the segments of `all`; without these there is no
/// more in all than is read. Of the leaves after the deadline of a query that may be partial nothing is
/// told.
pub(crate) async fn leaf_costs(
    plan: &Arc<dyn ExecutionPlan>,
    all: Option<&Snapshot>,
) -> Result<Vec<LeafCost>, QueryError> {
    let mut found = Vec::new();
    collect(plan, &mut found);
    let mut costs = Vec::with_capacity(found.len());
    for reads in found {
        costs.push(cost(&reads, all).await?);
    }
    Ok(costs)
}

fn collect(plan: &Arc<dyn ExecutionPlan>, found: &mut Vec<Reads>) {
    if let Some(reads) = reads(plan.as_ref()) {
        found.push(reads);
    }
    plan.children().into_iter().for_each(|child| collect(child, found));
}

fn reads(plan: &dyn ExecutionPlan) -> Option<Reads> {
    let of_scan = || plan.downcast_ref::<LeafExec<Scan>>().map(|exec| exec.leaf.reads());
    let of_top = || plan.downcast_ref::<LeafExec<Top>>().map(|exec| exec.leaf.reads());
    let of_aggregate = || plan.downcast_ref::<LeafExec<Aggregate>>().map(|exec| exec.leaf.reads());
    of_scan().or_else(of_top).or_else(of_aggregate)
}

async fn cost(reads: &Reads, all: Option<&Snapshot>) -> Result<LeafCost, QueryError> {
    let source = &reads.source;
    let of_all = |of: fn(&lodge_store::SegmentRef) -> u64| {
        let segments = all.iter().flat_map(|all| &all.segments);
        segments.map(|segment| of(segment)).sum::<u64>()
    };
    let mut cost = LeafCost {
        does: reads.does.clone(),
        filter: source.predicate.to_string(),
        columns: columns(reads),
        may_stop: reads.may_stop,
        servers: source.servers(reads.wanted.is_count()),
        segments: Share { read: 0, total: of_all(|_| 1) },
        blocks: Share::default(),
        rows: Share { read: 0, total: of_all(|segment| segment.rows) },
        bytes: Share { read: 0, total: of_all(|segment| segment.bytes) },
    };
    let counting = reads.wanted.is_count();
    for (segment, verdict) in source.segments() {
        if !source.control.proceed()? {
            break;
        }
        if counting && verdict == Verdict::All {
            // The catalog knows how many there are.
            continue;
        }
        let opened = Opened::of(source, &segment).await?;
        add(&mut cost, reads, &opened)?;
    }
    for share in [&mut cost.segments, &mut cost.blocks, &mut cost.rows, &mut cost.bytes] {
        share.total = share.total.max(share.read);
    }
    Ok(cost)
}

fn add(cost: &mut LeafCost, reads: &Reads, opened: &Opened) -> Result<(), QueryError> {
    let segment = &opened.segment;
    cost.blocks.total += segment.blocks().len() as u64;
    let count = opened.prepared.count();
    if count == Some(0) || (reads.wanted.is_count() && count.is_some()) {
        return Ok(());
    }
    let stored = reads.wanted.columns.stored(segment.schema());
    let names: BTreeSet<&str> = reads.wanted.names(&stored).collect();
    let before = cost.blocks.read;
    for (block, info) in segment.blocks().iter().enumerate() {
        let verdict = segment.block_verdict(&opened.prepared, block)?;
        if verdict == Verdict::None {
            continue;
        }
        let untested = |name: &&str| !opened.is_tested(name, verdict);
        let more = segment.block_bytes(block, names.iter().copied().filter(|n| untested(n)));
        cost.blocks.read += 1;
        cost.rows.read += info.rows as u64;
        cost.bytes.read += opened.tested_bytes(block, verdict).saturating_add(more);
    }
    if cost.blocks.read > before {
        cost.segments.read += 1;
    }
    Ok(())
}

/// The fields that are handed on, and those that tell records apart.
fn columns(reads: &Reads) -> Vec<String> {
    let mut names: BTreeSet<String> = reads.source.predicate.fields();
    let of = match &reads.wanted.columns {
        Columns::Named(names) => names.clone(),
        Columns::Of(shape) => shape.output().fields().iter().map(|f| f.name().clone()).collect(),
    };
    names.extend(reads.wanted.names(&of).map(str::to_owned));
    names.into_iter().collect()
}
