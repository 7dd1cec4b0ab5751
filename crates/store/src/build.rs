//! L0s become segments, small segments become larger ones: planned by values, swapped in one
//! transaction.
//!
//! Invariants:
//! - a step reads at most one segment's worth of records and writes one segment;
//! - rows in = rows out: checked before the swap;
//! - steps run one at a time ([`Store::build_step`] holds a lock), and of a tenant in one process at
//!   a time: a lease, which the swap looks at;
//! - a segment is rewritten at most once per size class, so writing stays in proportion to what
//!   comes in.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arrow::record_batch::RecordBatch;
use lodge_record::TenantId;
use lodge_segment::l0::TableInfo;
use lodge_segment::{SegmentError, segment};

use crate::catalog::{Candidates, Lease, NewSegment};
use crate::read;
use crate::store::{Store, now_ms, object_key};
use crate::{SegmentRef, StoreError, StoreOptions};

/// Most L0 segments that one step looks at.
const CANDIDATES_MAX: usize = 8_192;
/// Segments below this size are all of the first size class.
const CLASS_BYTES_MIN: u64 = 64 << 10;
/// Where others build, too, it is looked for something to merge at every so-manyth look.
const MERGE_LOOKS: u32 = 10;
/// Highest level: beyond it merged segments keep it.
const LEVEL_MAX: u8 = 9;

/// What waits to be built, by tenant: kept by commits and steps so that looking costs nothing.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    known: Mutex<Known>,
    /// Told when there is less.
    less: tokio::sync::Notify,
    /// Whether building goes on and succeeds.
    pub(crate) is_worked_on: AtomicBool,
}

#[derive(Debug, Default)]
struct Known {
    tenants: HashMap<TenantId, Waiting>,
    /// What was added since the last [`Pending::replace`], in order.
    recent: Vec<Arc<SegmentRef>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Waiting {
    arrow_bytes: u64,
    rows: u64,
    oldest_ms: i64,
}

impl Waiting {
    fn add(&mut self, segment: &SegmentRef) {
        if self.rows == 0 || segment.created_ms < self.oldest_ms {
            self.oldest_ms = segment.created_ms;
        }
        self.arrow_bytes += segment.arrow_bytes;
        self.rows += segment.rows;
    }

    fn is_due(&self, options: &StoreOptions, now_ms: i64) -> bool {
        let age_ms = i64::try_from(options.build_age.as_millis()).unwrap_or(i64::MAX);
        // A clock that was set back must not leave L0s lying: "created in the future" is due too.
        let aged = now_ms >= self.oldest_ms.saturating_add(age_ms) || now_ms < self.oldest_ms;
        self.rows > 0
            && (aged
                || self.arrow_bytes >= options.build_bytes
                || self.rows >= options.built_rows_max)
    }
}

impl Pending {
    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, segments: &[Arc<SegmentRef>]) {
        let mut known = self.known();
        for segment in segments {
            known.tenants.entry(segment.tenant.clone()).or_default().add(segment);
        }
        known.recent.extend(segments.iter().cloned());
    }

    /// Whether some tenant's L0s should be built.
    pub(crate) fn is_due(&self, options: &StoreOptions, now_ms: i64) -> bool {
        self.known().tenants.values().any(|waiting| waiting.is_due(options, now_ms))
    }

    fn is_empty(&self) -> bool {
        self.known().tenants.is_empty()
    }

    /// A mark for [`Pending::replace`], set before the catalog is asked: what is added later may
    /// be missing from its answer.
    fn mark(&self) -> usize {
        self.known().recent.len()
    }

    /// Takes what the catalog said for it, and what was added since `mark`: a commit that ends while
    /// a build is under way must not be forgotten, for it may be the last for long.
    fn replace(&self, mark: usize, l0: &[Arc<SegmentRef>], without: &[Arc<SegmentRef>]) {
        let mut known = self.known();
        let before = mark.min(known.recent.len());
        known.recent.drain(..before);
        let mut tenants: HashMap<TenantId, Waiting> = HashMap::new();
        let left = l0.iter().filter(|s| !without.iter().any(|w| w.id == s.id));
        let later = known.recent.iter().filter(|s| !l0.iter().any(|listed| listed.id == s.id));
        for segment in left.chain(later) {
            tenants.entry(segment.tenant.clone()).or_default().add(segment);
        }
        known.tenants = tenants;
        drop(known);
        self.less.notify_waiters();
    }

    /// Whether there are `bytes_max`, and as much of them is a tenant's as each would have if all had
    /// the same.
    fn has_its_part(&self, tenant: &TenantId, bytes_max: u64) -> bool {
        let known = self.known();
        let all: u64 = known.tenants.values().map(|waiting| waiting.arrow_bytes).sum();
        let part = bytes_max / known.tenants.len().max(1) as u64;
        all >= bytes_max && known.tenants.get(tenant).is_some_and(|own| own.arrow_bytes >= part)
    }

    fn arrow_bytes(&self) -> u64 {
        self.known().tenants.values().map(|waiting| waiting.arrow_bytes).sum()
    }
}

/// The L0s that the next step builds: of one tenant that is due (or of any, if `force`), the oldest
/// first, as many as one segment takes.
pub(crate) fn plan_build(
    l0: &[Arc<SegmentRef>],
    options: &StoreOptions,
    now_ms: i64,
    force: bool,
) -> Vec<Arc<SegmentRef>> {
    let mut waiting: HashMap<&TenantId, Waiting> = HashMap::new();
    for segment in l0 {
        waiting.entry(&segment.tenant).or_default().add(segment);
    }
    let due = waiting
        .iter()
        .filter(|(_, w)| force || w.is_due(options, now_ms))
        .min_by_key(|(tenant, w)| (w.oldest_ms, tenant.as_str()))
        .map(|(tenant, _)| *tenant);
    let Some(due) = due else { return Vec::new() };
    let limits = (options.built_bytes_max, options.built_rows_max);
    take_within(l0.iter().filter(|s| s.tenant == *due), limits, usize::MAX)
}

/// The first ones that fit one segment of so many Arrow bytes and rows; at least one.
fn take_within<'s>(
    segments: impl Iterator<Item = &'s Arc<SegmentRef>>,
    (bytes_max, rows_max): (u64, u64),
    count_max: usize,
) -> Vec<Arc<SegmentRef>> {
    let mut taken = Vec::new();
    let (mut bytes, mut rows) = (0u64, 0u64);
    for segment in segments.take(count_max) {
        bytes = bytes.saturating_add(segment.arrow_bytes);
        rows = rows.saturating_add(segment.rows);
        let fits = bytes <= bytes_max && rows <= rows_max;
        if !taken.is_empty() && !fits {
            break;
        }
        taken.push(Arc::clone(segment));
    }
    taken
}

/// Size classes grow by the fan-in, so that a segment is merged once per class.
fn size_class(arrow_bytes: u64, fan_in: usize) -> u32 {
    let mut limit = CLASS_BYTES_MIN;
    let mut class = 0;
    while arrow_bytes > limit {
        limit = limit.saturating_mul(fan_in.max(2) as u64);
        class += 1;
    }
    class
}

/// The segments that the next step merges: of one tenant and size class, once there are
/// [`StoreOptions::merge_fan_in`] of them, or enough for a segment that is not merged again. `built`
/// is by tenant and number.
pub(crate) fn plan_merge(
    built: &[Arc<SegmentRef>],
    options: &StoreOptions,
) -> Vec<Arc<SegmentRef>> {
    let fan_in = options.merge_fan_in.max(2);
    let mut classes: HashMap<(&TenantId, u32), Vec<&Arc<SegmentRef>>> = HashMap::new();
    for segment in built.iter().filter(|s| is_mergeable(s, options)) {
        let class = size_class(segment.arrow_bytes, fan_in);
        classes.entry((&segment.tenant, class)).or_default().push(segment);
    }
    let is_ripe = |members: &[&Arc<SegmentRef>]| {
        let bytes: u64 = members.iter().map(|member| member.arrow_bytes).sum();
        members.len() >= fan_in || bytes >= options.segment_bytes_max / 2
    };
    let ripe = classes.into_iter().filter(|(_, members)| is_ripe(members));
    let Some((_, members)) = ripe.min_by_key(|((tenant, class), _)| (*class, tenant.as_str()))
    else {
        return Vec::new();
    };
    let limits = (options.segment_bytes_max, options.segment_rows_max);
    let taken = take_within(members.into_iter(), limits, fan_in);
    if taken.len() >= 2 { taken } else { Vec::new() }
}

fn is_mergeable(segment: &SegmentRef, options: &StoreOptions) -> bool {
    segment.arrow_bytes < options.segment_bytes_max / 2
        && segment.rows < options.segment_rows_max / 2
}

/// What becomes one segment.
enum Rewrite {
    /// Records of L0s.
    Build(Vec<RecordBatch>),
    /// Segments, and about their Arrow bytes.
    Merge(Vec<segment::Source>, u64),
}

impl Rewrite {
    fn run(self) -> Result<(Vec<u8>, TableInfo), SegmentError> {
        match self {
            Self::Build(batches) => segment::build(&batches),
            Self::Merge(segments, arrow_bytes) => segment::merge(&segments, arrow_bytes),
        }
    }
}

impl Store {
    /// Builds or merges once if there is something to do; tells whether there was. With `force`,
    /// L0s are built whatever their age.
    pub(crate) async fn build_step(&self, force: bool) -> Result<bool, StoreError> {
        let _one_at_a_time = self.building.lock().await;
        // What other processes commit and build is not heard of here: it must be looked for.
        let shared = self.catalog.is_shared();
        let look = self.looks.fetch_add(1, Relaxed);
        let due = shared || self.pending.is_due(&self.options, now_ms());
        if (force || due) && self.build_once(force).await? {
            self.merge_due.store(true, Relaxed);
            return Ok(true);
        }
        let due = self.merge_due.load(Relaxed) || (shared && look.is_multiple_of(MERGE_LOOKS));
        if force || due {
            if self.merge_once().await? {
                return Ok(true);
            }
            self.merge_due.store(false, Relaxed);
        }
        Ok(false)
    }

    async fn build_once(&self, force: bool) -> Result<bool, StoreError> {
        let mut passed: HashSet<TenantId> = HashSet::new();
        loop {
            let mark = self.pending.mark();
            let l0 = self.healthy(Candidates::L0).await?;
            let plan = |l0: &[Arc<SegmentRef>], passed: &HashSet<TenantId>| {
                let free: Vec<_> =
                    l0.iter().filter(|s| !passed.contains(&s.tenant)).cloned().collect();
                plan_build(&free, &self.options, now_ms(), force)
            };
            let found = plan(&l0, &passed);
            let Some(tenant) = found.first().map(|segment| segment.tenant.clone()) else {
                self.pending.replace(mark, &l0, &[]);
                return Ok(false);
            };
            let Some(held) = self.hold(&format!("build/{tenant}")).await? else {
                passed.insert(tenant);
                continue;
            };
            // Whoever held it before may have built what was found.
            let (l0, found) = match held.lease() {
                None => (l0, found),
                Some(_) => {
                    let mut now = self.healthy(Candidates::L0).await?;
                    now.retain(|segment| segment.tenant == tenant);
                    let found = plan(&now, &passed);
                    (now, found)
                }
            };
            let done = match found.is_empty() {
                true => Ok(()),
                false => self.rewrite(&found, held.lease()).await,
            };
            held.release().await;
            done?;
            if !found.is_empty() {
                self.pending.replace(mark, &l0, &found);
                return Ok(true);
            }
            passed.insert(tenant);
        }
    }

    async fn merge_once(&self) -> Result<bool, StoreError> {
        let below = Candidates::BuiltBelow(self.options.segment_bytes_max / 2);
        let mut passed: HashSet<TenantId> = HashSet::new();
        loop {
            let mut built = self.healthy(below).await?;
            built.retain(|segment| !passed.contains(&segment.tenant));
            let plan = plan_merge(&built, &self.options);
            let Some(tenant) = plan.first().map(|segment| segment.tenant.clone()) else {
                return Ok(false);
            };
            let Some(held) = self.hold(&format!("merge/{tenant}")).await? else {
                passed.insert(tenant);
                continue;
            };
            let plan = match held.lease() {
                None => plan,
                Some(_) => {
                    let mut now = self.healthy(below).await?;
                    now.retain(|segment| segment.tenant == tenant);
                    plan_merge(&now, &self.options)
                }
            };
            let done = match plan.is_empty() {
                true => Ok(()),
                false => self.rewrite(&plan, held.lease()).await,
            };
            held.release().await;
            done?;
            if !plan.is_empty() {
                return Ok(true);
            }
            passed.insert(tenant);
        }
    }

    /// Whether so much is not built that what comes in must not take the processor from building, and this
    /// tenant has its part in that. Not where building failed, for then it may fail for long.
    pub fn has_much_unbuilt(&self, tenant: &TenantId) -> bool {
        self.pending.is_worked_on.load(Relaxed)
            && self.pending.has_its_part(tenant, self.options.l0_bytes_max)
    }

    /// Counts that somebody is held up by that, and says until when at most.
    pub fn hold_up(&self) -> tokio::time::Instant {
        self.counters.delayed();
        tokio::time::Instant::now() + self.options.l0_wait_max
    }

    /// Waits while so much is not built and building goes on.
    pub async fn wait_for_building(&self, until: tokio::time::Instant) {
        let pending = &self.pending;
        loop {
            // From here on it hears of everything that is built.
            let less = pending.less.notified();
            let is_full = pending.arrow_bytes() >= self.options.l0_bytes_max;
            if !is_full || !pending.is_worked_on.load(Relaxed) {
                return;
            }
            if tokio::time::timeout_at(until, less).await.is_err() {
                return;
            }
        }
    }

    /// Whether nothing waits to be built, as far as is known without asking the catalog.
    pub(crate) fn is_built(&self) -> bool {
        self.pending.is_empty()
    }

    /// Candidates without those that could not be read or built before: one damaged object must not
    /// keep all others from being built. They stay as they are, and queries tell what is wrong.
    async fn healthy(&self, which: Candidates) -> Result<Vec<Arc<SegmentRef>>, StoreError> {
        let mut found = self.catalog.candidates(which, CANDIDATES_MAX).await?;
        let set_aside = self.set_aside.lock().unwrap_or_else(PoisonError::into_inner);
        found.retain(|s| !set_aside.contains(&s.id));
        Ok(found)
    }

    fn set_aside(&self, segments: &[Arc<SegmentRef>]) {
        let mut set_aside = self.set_aside.lock().unwrap_or_else(PoisonError::into_inner);
        set_aside.extend(segments.iter().map(|s| s.id));
    }

    /// What is to be rewritten, in memory: L0s, or built segments.
    async fn read_for_rewrite(&self, from: &[Arc<SegmentRef>]) -> Result<Rewrite, StoreError> {
        if from.iter().all(|segment| segment.level > 0) {
            let mut sources = Vec::with_capacity(from.len());
            for segment in from {
                let read = read::source(&self.objects, &self.builder, segment).await;
                sources.push(self.noting_damage(segment, read)?);
            }
            let arrow_bytes = from.iter().map(|segment| segment.arrow_bytes).sum();
            return Ok(Rewrite::Merge(sources, arrow_bytes));
        }
        let mut batches: Vec<RecordBatch> = Vec::new();
        for segment in from {
            if let Some(hot) = self.hot.get(segment.id) {
                batches.extend(hot.batches.iter().cloned());
                continue;
            }
            let read = read::l0_records(&self.objects, &self.builder, segment).await;
            batches.extend(self.noting_damage(segment, read)?);
        }
        Ok(Rewrite::Build(batches))
    }

    /// Sets a segment aside that turned out to be damaged.
    fn noting_damage<T>(
        &self,
        segment: &Arc<SegmentRef>,
        read: Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if read.as_ref().is_err_and(StoreError::is_damage) {
            self.set_aside(std::slice::from_ref(segment));
        }
        read
    }

    /// Reads segments, writes one of all their records, swaps.
    async fn rewrite(
        &self,
        from: &[Arc<SegmentRef>],
        lease: Option<&Lease>,
    ) -> Result<(), StoreError> {
        let started = Instant::now();
        let on_disk = from.iter().map(|s| s.bytes).sum();
        self.space.check(if self.objects.is_local() { on_disk } else { 0 }, true)?;
        let Some(first) = from.first() else { return Ok(()) };
        let rewrite = self.read_for_rewrite(from).await?;
        let built = self.builder.run(move || rewrite.run().map_err(StoreError::Encode)).await;
        let rows: u64 = from.iter().map(|s| s.rows).sum();
        let (bytes, info) = match built {
            Ok((bytes, info)) if info.rows == rows => (bytes, info),
            wrong => {
                self.set_aside(from);
                let found = wrong?.1.rows;
                let detail = format!("{found} records were built from {rows}");
                return Err(StoreError::Encode(SegmentError::Encode(detail)));
            }
        };

        let key = object_key(&format!("seg/{}", first.tenant), "seg");
        let in_flight = self.objects.begin(&key);
        self.objects.put(&key, bytes.into()).await?;
        let level =
            from.iter().map(|s| s.level).max().unwrap_or(0).saturating_add(1).min(LEVEL_MAX);
        let new = NewSegment {
            tenant: first.tenant.clone(),
            level,
            object_key: Arc::clone(&key),
            object_offset: info.offset,
            bytes: info.len,
            rows: info.rows,
            arrow_bytes: info.arrow_bytes,
            time_min_ns: info.time_min_ns,
            time_max_ns: info.time_max_ns,
            schema: info.schema,
            streams: info.streams.map(Into::into),
            created_ms: now_ms(),
        };
        let ids: Vec<_> = from.iter().map(|s| s.id).collect();
        fail::fail_point!("build::before_swap");
        let swapped = self.catalog.swap(&ids, std::slice::from_ref(&new), now_ms(), lease).await;
        fail::fail_point!("build::after_swap");
        drop(in_flight);
        match swapped {
            Ok(Some(_)) => {}
            // Another has taken one of them meanwhile, or the work: what was built is of no use.
            Ok(None) => {
                self.objects.delete(&key).await.ok();
                return Ok(());
            }
            // It may have been swapped all the same; if so the object is named, else swept.
            Err(error) => {
                if !matches!(self.catalog.settle(&key).await, Ok(Some(_))) {
                    return Err(error);
                }
            }
        }
        self.hot.remove(&ids);
        self.opened.remove(&ids);
        let us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.counters.swapped(from, &new, us);
        Ok(())
    }
}

#[cfg(test)]
#[path = "build_tests.rs"]
mod tests;
