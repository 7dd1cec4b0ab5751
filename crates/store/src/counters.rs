//! The counters behind [`StoreStats`]: plain atomics, read without a lock.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::catalog::{NewSegment, Totals};
use crate::{Outcome, SegmentRef, StoreStats};

/// See [`StoreStats`] for what each is.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    l0: Sums,
    built: Sums,
    commits: AtomicU64,
    committed_rows: AtomicU64,
    committed_bytes: AtomicU64,
    duplicates: AtomicU64,
    gaps: AtomicU64,
    stale_epochs: AtomicU64,
    unexplained_holes: AtomicU64,
    conflicts: AtomicU64,
    delayed: AtomicU64,
    failures: AtomicU64,
    disk_full: AtomicU64,
    builds: AtomicU64,
    merges: AtomicU64,
    built_bytes: AtomicU64,
    build_us: AtomicU64,
    garbage_deleted: AtomicU64,
    orphans_deleted: AtomicU64,
    remembered: AtomicU64,
}

#[derive(Debug, Default)]
struct Sums {
    segments: AtomicU64,
    rows: AtomicU64,
    bytes: AtomicU64,
}

impl Sums {
    fn set(&self, totals: &Totals) {
        self.segments.store(totals.segments, Relaxed);
        self.rows.store(totals.rows, Relaxed);
        self.bytes.store(totals.bytes, Relaxed);
    }

    fn add(&self, rows: u64, bytes: u64) {
        self.segments.fetch_add(1, Relaxed);
        self.rows.fetch_add(rows, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }

    fn subtract(&self, rows: u64, bytes: u64) {
        // Another process may have added what this one removes before it was counted here.
        let less = |sum: &AtomicU64, n: u64| {
            sum.fetch_update(Relaxed, Relaxed, |sum| Some(sum.saturating_sub(n))).ok();
        };
        less(&self.segments, 1);
        less(&self.rows, rows);
        less(&self.bytes, bytes);
    }
}

impl Counters {
    pub(crate) fn new(totals: &(Totals, Totals)) -> Self {
        let counters = Self::default();
        counters.count_anew(totals);
        counters
    }

    /// Sets what is stored to what the catalog says.
    pub(crate) fn count_anew(&self, totals: &(Totals, Totals)) {
        self.l0.set(&totals.0);
        self.built.set(&totals.1);
    }

    pub(crate) fn count_outcomes(&self, outcomes: &[Outcome]) {
        for outcome in outcomes {
            match outcome {
                Outcome::Committed(c) if c.is_duplicate() => self.duplicates.fetch_add(1, Relaxed),
                Outcome::Committed(_) => continue,
                Outcome::Gap(_) => self.gaps.fetch_add(1, Relaxed),
                Outcome::StaleEpoch(_) => self.stale_epochs.fetch_add(1, Relaxed),
            };
        }
    }

    /// Sets how many producers are there that will be forgotten.
    pub(crate) fn remembered(&self, producers: u64) {
        self.remembered.store(producers, Relaxed);
    }

    /// One more of them was added.
    pub(crate) fn remember(&self, producers: u64) {
        self.remembered.fetch_add(producers, Relaxed);
    }

    pub(crate) fn count_failure(&self, disk_full: bool) {
        let counter = if disk_full { &self.disk_full } else { &self.failures };
        counter.fetch_add(1, Relaxed);
    }

    pub(crate) fn unexplained(&self, holes: u64) {
        self.unexplained_holes.fetch_add(holes, Relaxed);
    }

    pub(crate) fn conflict(&self) {
        self.conflicts.fetch_add(1, Relaxed);
    }

    pub(crate) fn delayed(&self) {
        self.delayed.fetch_add(1, Relaxed);
    }

    pub(crate) fn committed(&self, segments: &[NewSegment], object_bytes: usize) {
        self.commits.fetch_add(1, Relaxed);
        self.committed_bytes.fetch_add(object_bytes as u64, Relaxed);
        for segment in segments {
            self.committed_rows.fetch_add(segment.rows, Relaxed);
            self.l0.add(segment.rows, segment.bytes);
        }
    }

    pub(crate) fn swapped(&self, from: &[std::sync::Arc<SegmentRef>], to: &NewSegment, us: u64) {
        let mut counter = &self.merges;
        for segment in from {
            if segment.level == 0 {
                counter = &self.builds;
            }
            let sums = if segment.level == 0 { &self.l0 } else { &self.built };
            sums.subtract(segment.rows, segment.bytes);
        }
        counter.fetch_add(1, Relaxed);
        self.built.add(to.rows, to.bytes);
        self.built_bytes.fetch_add(to.bytes, Relaxed);
        self.build_us.fetch_add(us, Relaxed);
    }

    pub(crate) fn deleted(&self, garbage: u64, orphans: u64) {
        self.garbage_deleted.fetch_add(garbage, Relaxed);
        self.orphans_deleted.fetch_add(orphans, Relaxed);
    }

    pub(crate) fn stats(&self) -> StoreStats {
        let (l0, built) = (&self.l0, &self.built);
        StoreStats {
            // The built ones first: a swap that runs meanwhile may then count rows once too often,
            // which is less strange than too few.
            remembered_requests: self.remembered.load(Relaxed),
            rows: built.rows.load(Relaxed).saturating_add(l0.rows.load(Relaxed)),
            bytes: built.bytes.load(Relaxed).saturating_add(l0.bytes.load(Relaxed)),
            l0_segments: l0.segments.load(Relaxed),
            l0_bytes: l0.bytes.load(Relaxed),
            built_segments: built.segments.load(Relaxed),
            commits: self.commits.load(Relaxed),
            committed_rows: self.committed_rows.load(Relaxed),
            committed_bytes: self.committed_bytes.load(Relaxed),
            duplicates: self.duplicates.load(Relaxed),
            gaps: self.gaps.load(Relaxed),
            stale_epochs: self.stale_epochs.load(Relaxed),
            unexplained_holes: self.unexplained_holes.load(Relaxed),
            conflicts: self.conflicts.load(Relaxed),
            delayed: self.delayed.load(Relaxed),
            failures: self.failures.load(Relaxed),
            disk_full: self.disk_full.load(Relaxed),
            builds: self.builds.load(Relaxed),
            merges: self.merges.load(Relaxed),
            built_bytes: self.built_bytes.load(Relaxed),
            build_us: self.build_us.load(Relaxed),
            garbage_deleted: self.garbage_deleted.load(Relaxed),
            orphans_deleted: self.orphans_deleted.load(Relaxed),
            ..StoreStats::default()
        }
    }
}
