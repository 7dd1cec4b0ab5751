//! Segment lists of tenants in memory, so that a query that asks again needs no look at the file.
//!
//! Invariants:
//! - a list is that of exactly its version: a write that was committed changes it or takes it away
//!   before anyone is told of the commit;
//! - after a write of which it is not known whether it was committed, nothing is kept that was read
//!   before its end is known.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use lodge_record::TenantId;

use crate::{SegmentId, SegmentRef, Snapshot};

/// Segments that all lists together may have.
pub(super) const SEGMENTS_MAX: usize = 65_536;

/// The lists.
#[derive(Debug, Default)]
pub(super) struct KeptLists {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    tenants: HashMap<TenantId, Arc<Snapshot>>,
    /// Tenants with too many segments to keep a list of.
    large: HashSet<TenantId>,
    segments: usize,
    /// Version after the last write that was seen.
    latest: u64,
    /// Raised when everything is forgotten.
    epoch: u64,
}

impl Inner {
    fn forget(&mut self) {
        self.tenants.clear();
        self.segments = 0;
        self.epoch += 1;
    }
}

/// The moment before a list is read from the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    epoch: u64,
}

impl KeptLists {
    fn with<T>(&self, run: impl FnOnce(&mut Inner) -> T) -> T {
        run(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The list of a tenant as of now.
    pub(super) fn get(&self, tenant: &TenantId) -> Option<Arc<Snapshot>> {
        self.with(|inner| inner.tenants.get(tenant).cloned())
    }

    /// Whether a tenant had too many segments to keep a list of when it was last looked at.
    pub(super) fn is_large(&self, tenant: &TenantId) -> bool {
        self.with(|inner| inner.large.contains(tenant))
    }

    pub(super) fn begin_reading(&self) -> Reading {
        self.with(|inner| Reading { epoch: inner.epoch })
    }

    /// Keeps what was read since, unless something was written meanwhile.
    pub(super) fn keep(&self, reading: Reading, snapshot: &Arc<Snapshot>) {
        self.with(|inner| {
            if inner.epoch != reading.epoch || snapshot.version < inner.latest {
                return;
            }
            inner.latest = snapshot.version;
            let more = snapshot.segments.len();
            if inner.segments + more > SEGMENTS_MAX {
                inner.tenants.clear();
                inner.segments = 0;
            }
            if more > SEGMENTS_MAX {
                inner.large.insert(snapshot.tenant.clone());
            } else {
                let before = inner.tenants.insert(snapshot.tenant.clone(), Arc::clone(snapshot));
                inner.segments += more;
                inner.segments -= before.map_or(0, |before| before.segments.len());
            }
        });
    }

    /// Brings the lists to `version`, which a committed write made.
    pub(super) fn apply(&self, version: u64, added: &[Arc<SegmentRef>], removed: &[SegmentId]) {
        self.with(|inner| {
            if inner.latest + 1 != version {
                // Another write's news is still on its way, or was lost.
                inner.forget();
            }
            inner.latest = inner.latest.max(version);
            if !removed.is_empty() {
                // Merges make large lists small again.
                inner.large.clear();
            }
            let mut count = 0;
            for (tenant, kept) in &mut inner.tenants {
                let gone = |segment: &Arc<SegmentRef>| removed.contains(&segment.id);
                let mut more = added.iter().filter(|segment| segment.tenant == *tenant).peekable();
                if more.peek().is_none() && (removed.is_empty() || !kept.segments.iter().any(gone))
                {
                    // The same segments; only the version is another.
                    *kept = Arc::new(kept.at(version));
                } else {
                    let left = kept.segments.iter().filter(|segment| !gone(segment));
                    let mut segments: Vec<_> = left.chain(more).cloned().collect();
                    segments.sort_by_key(|segment| segment.id);
                    *kept = Arc::new(Snapshot::new(version, tenant.clone(), segments));
                }
                count += kept.segments.len();
            }
            inner.segments = count;
            if count > SEGMENTS_MAX {
                inner.forget();
            }
        });
    }

    /// Forgets everything: a write may or may not have been committed.
    pub(super) fn doubt(&self) {
        self.with(Inner::forget);
    }
}

/// A write on its way: dropped before it is known to be settled, it puts everything in doubt.
#[derive(Debug)]
pub(super) struct Writing<'k> {
    lists: &'k KeptLists,
    settled: bool,
}

impl<'k> Writing<'k> {
    pub(super) fn begin(lists: &'k KeptLists) -> Self {
        Self { lists, settled: false }
    }

    /// It is committed and the lists know.
    pub(super) fn settle(mut self) {
        self.settled = true;
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        if !self.settled {
            self.lists.doubt();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty(version: u64) -> Arc<Snapshot> {
        Arc::new(Snapshot::new(version, TenantId::default(), Vec::new()))
    }

    fn version(lists: &KeptLists) -> Option<u64> {
        lists.get(&TenantId::default()).map(|snapshot| snapshot.version)
    }

    #[test]
    fn a_list_follows_the_writes_one_by_one() {
        let lists = KeptLists::default();
        lists.keep(lists.begin_reading(), &empty(5));
        lists.apply(6, &[], &[]);
        assert_eq!(version(&lists), Some(6));
        // The news of 7 is still on its way.
        lists.apply(8, &[], &[]);
        assert_eq!(version(&lists), None);
        lists.apply(7, &[], &[]);
        assert_eq!(version(&lists), None);
        lists.keep(lists.begin_reading(), &empty(8));
        assert_eq!(version(&lists), Some(8));
    }

    #[test]
    fn what_was_read_before_a_write_is_not_kept_after_it() {
        let lists = KeptLists::default();
        let reading = lists.begin_reading();
        lists.apply(6, &[], &[]);
        lists.keep(reading, &empty(5));
        assert_eq!(version(&lists), None);
    }

    #[test]
    fn a_write_without_an_end_puts_everything_in_doubt() {
        let lists = KeptLists::default();
        lists.keep(lists.begin_reading(), &empty(5));
        let reading = lists.begin_reading();
        Writing::begin(&lists).settle();
        assert_eq!(version(&lists), Some(5));
        drop(Writing::begin(&lists));
        assert_eq!(version(&lists), None);
        lists.keep(reading, &empty(5));
        assert_eq!(version(&lists), None, "it was read before the end was known");
    }
}
