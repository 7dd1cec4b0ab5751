//! The queue and the group-commit task.
//!
//! ```text
//!  submit ─► admitted (bytes, batches) ─► turns by tenant ─► group ─► Store::commit ─► Ack to each
//! ```
//!
//! Invariants:
//! - one group is committed at a time; what comes meanwhile is the next one;
//! - tenants share the room of the queue and take turns; one of which too much is not built waits for
//!   that, and the others go on meanwhile;
//! - a batch waits for others at most [`IngestLimits::group_wait_max`], and not at all when nothing
//!   was committed just before;
//! - every batch that was admitted gets an answer, whatever becomes of its group.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arrow::array::{Array, ArrayRef, RecordBatch};
use lodge_record::{Batch, ProducerId, TenantId, limits};
use lodge_store::{CommitError, Outcome, ProducerState, Store, StoreError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use crate::follow::Follow;
use crate::shares::{Share, Shares};
use crate::tail::{Commits, Tail};
use crate::turns::Turns;
use crate::{Ack, IngestError};

/// Bytes that one unit of the queue stands for.
const UNIT_BYTES: usize = 1 << 10;
/// What a batch takes at least: a million empty ones are not for free either.
const BATCH_COST_BYTES: usize = 4 << 10;
/// A group of so many bytes is worth a commit at once.
const EAGER_BYTES: usize = 1 << 20;
/// Small groups are begun no closer together than this, or syncing would be all there is to do.
const GROUP_GAP: Duration = Duration::from_millis(20);
/// Arrow bytes of a group where there are several tenants: each waits for the groups of others.
const SHARED_GROUP_BYTES: usize = 8 << 20;
/// What an overloaded sender is told to wait.
const RETRY_AFTER_S: u64 = 1;

/// How much may wait, and for how long.
#[derive(Debug, Clone)]
pub struct IngestLimits {
    /// Arrow bytes of all batches that wait or are being committed.
    pub queued_bytes_max: usize,
    /// Arrow bytes of one group; a single larger batch is a group of its own.
    pub group_bytes_max: usize,
    /// Longest that a batch waits for others.
    pub group_wait_max: Duration,
    /// Arrow bytes of one batch.
    pub batch_bytes_max: usize,
    /// Arrow bytes of committed records that wait for live tails.
    pub tail_bytes_max: usize,
}

impl Default for IngestLimits {
    fn default() -> Self {
        Self {
            queued_bytes_max: 128 << 20,
            group_bytes_max: 32 << 20,
            group_wait_max: Duration::from_millis(100),
            batch_bytes_max: limits::BATCH_BYTES_MAX,
            tail_bytes_max: 64 << 20,
        }
    }
}

/// Counters since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IngestStats {
    /// Batches acknowledged, duplicates among them.
    pub batches: u64,
    /// Records stored.
    pub records: u64,
    /// Batches acknowledged that had been stored before.
    pub duplicates: u64,
    /// Batches refused because too much was waiting.
    pub overloaded: u64,
    /// Batches refused for their size or their sequence.
    pub refused: u64,
    /// Batches that were not stored because the store failed or the disk was full.
    pub failed: u64,
    /// Groups committed.
    pub groups: u64,
    /// Microseconds spent in commits.
    pub commit_us: u64,
    /// Arrow bytes that wait or are being committed.
    pub queued_bytes: u64,
    /// Records that live tails were not sent, for want of memory.
    pub tail_missed: u64,
}

#[derive(Debug, Default)]
struct Counters {
    batches: AtomicU64,
    records: AtomicU64,
    duplicates: AtomicU64,
    overloaded: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    groups: AtomicU64,
    commit_us: AtomicU64,
}

/// A batch in the queue.
struct Queued {
    batch: Batch,
    bytes: usize,
    answer: oneshot::Sender<Result<Ack, IngestError>>,
    _place: Share,
}

/// The way in. Cheap to clone; when the last clone is dropped the task ends.
#[derive(Debug, Clone)]
pub struct Ingest {
    shared: Arc<Shared>,
    queue: mpsc::UnboundedSender<Queued>,
    stop: watch::Sender<bool>,
    ended: watch::Receiver<bool>,
}

#[derive(Debug)]
struct Shared {
    store: Arc<Store>,
    limits: IngestLimits,
    /// Free units of the queue.
    room: Shares,
    tail: Tail,
    /// Where others commit, too.
    follow: Option<Follow>,
    counters: Counters,
    /// Whether the last group failed.
    troubled: AtomicBool,
}

impl Ingest {
    /// Starts the group-commit task on the current runtime.
    pub fn start(store: Arc<Store>, limits: IngestLimits) -> Self {
        let shared = Arc::new(Shared {
            room: Shares::new((limits.queued_bytes_max / UNIT_BYTES).max(1)),
            tail: Tail::new(limits.tail_bytes_max),
            follow: store.is_shared().then(Follow::default),
            store,
            limits,
            counters: Counters::default(),
            troubled: AtomicBool::new(false),
        });
        let (queue, queued) = mpsc::unbounded_channel();
        let (stop, stopping) = watch::channel(false);
        let (end, ended) = watch::channel(false);
        let committer = Committer {
            shared: Arc::clone(&shared),
            queued,
            stopping,
            turns: Turns::default(),
            held_up_until: None,
            last: None,
        };
        let following = Arc::clone(&shared);
        tokio::spawn(async move {
            let committed = committer.run();
            match &following.follow {
                None => committed.await,
                Some(follow) => tokio::select! {
                    () = committed => {}
                    () = follow.run(&following.store, &following.tail) => {}
                },
            }
            end.send_replace(true);
        });
        Self { shared, queue, stop, ended }
    }

    /// Makes a batch durable and returns when it is.
    pub async fn submit(&self, batch: Batch) -> Result<Ack, IngestError> {
        let bytes = self.admitted_bytes(&batch)?;
        let place = self.place(&batch.tenant, bytes)?;
        let (answer, answered) = oneshot::channel();
        let queued = Queued { batch, bytes, answer, _place: place };
        if *self.stop.borrow() || self.queue.send(queued).is_err() {
            return Err(IngestError::ShuttingDown);
        }
        answered.await.unwrap_or(Err(IngestError::ShuttingDown))
    }

    /// What the batch counts for in the queue, if it is not too large.
    fn admitted_bytes(&self, batch: &Batch) -> Result<usize, IngestError> {
        let limit_bytes = self.shared.limits.batch_bytes_max;
        let bytes = used_bytes(batch.records());
        if bytes > limit_bytes {
            self.shared.counters.refused.fetch_add(1, Relaxed);
            return Err(IngestError::TooLarge { bytes, limit_bytes });
        }
        Ok(bytes.saturating_add(BATCH_COST_BYTES))
    }

    fn place(&self, tenant: &TenantId, bytes: usize) -> Result<Share, IngestError> {
        // A batch larger than the whole queue waits for an empty one rather than for ever.
        let room = &self.shared.room;
        let units = bytes.div_ceil(UNIT_BYTES).min(room.total());
        room.try_take(tenant, units).ok_or_else(|| {
            self.shared.counters.overloaded.fetch_add(1, Relaxed);
            IngestError::Overloaded {
                retry_after_s: RETRY_AFTER_S,
                queued_bytes: self.shared.queued_bytes(),
                limit_bytes: self.shared.limits.queued_bytes_max,
            }
        })
    }

    /// What is committed of a producer; `None` for one that was never seen.
    pub async fn producer(
        &self,
        tenant: &TenantId,
        producer: ProducerId,
    ) -> Result<Option<ProducerState>, IngestError> {
        Ok(self.shared.store.producer(tenant, producer).await?)
    }

    /// Receives the records of every later commit, in the order of commits; where other processes
    /// commit, too, those of `tenant` that any of them commits. A receiver that is too slow is told how
    /// many messages it missed.
    pub async fn subscribe(&self, tenant: &TenantId) -> Result<Commits, IngestError> {
        let Shared { store, tail, follow, .. } = &*self.shared;
        match follow {
            None => Ok(Commits { receiver: tail.subscribe(), _wanted: None }),
            Some(follow) => Ok(follow.begin(store, tail, tenant).await?),
        }
    }

    /// Waits until receivers have got all that is committed.
    pub async fn catch_up(&self, tenant: &TenantId) -> Result<(), IngestError> {
        let Shared { store, tail, follow, .. } = &*self.shared;
        match follow {
            None => Ok(()),
            Some(follow) => Ok(follow.catch_up(store, tail, tenant).await?),
        }
    }

    /// Refuses further batches and waits until those that were taken are answered.
    pub async fn drain(&self) {
        self.stop.send_replace(true);
        self.ended.clone().wait_for(|ended| *ended).await.ok();
    }

    /// Counters.
    pub fn stats(&self) -> IngestStats {
        let counters = &self.shared.counters;
        IngestStats {
            batches: counters.batches.load(Relaxed),
            records: counters.records.load(Relaxed),
            duplicates: counters.duplicates.load(Relaxed),
            overloaded: counters.overloaded.load(Relaxed),
            refused: counters.refused.load(Relaxed),
            failed: counters.failed.load(Relaxed),
            groups: counters.groups.load(Relaxed),
            commit_us: counters.commit_us.load(Relaxed),
            queued_bytes: self.shared.queued_bytes() as u64,
            tail_missed: self.shared.tail.missed(),
        }
    }
}

/// Bytes that the values take. The buffers that they lie in would mislead: all columns of a batch
/// that came as one message share its buffer, and each would count all of it.
pub(crate) fn used_bytes(records: &RecordBatch) -> usize {
    let used = |c: &ArrayRef| {
        c.to_data().get_slice_memory_size().unwrap_or_else(|_| c.get_array_memory_size())
    };
    records.columns().iter().map(used).fold(0, usize::saturating_add)
}

impl Shared {
    fn queued_bytes(&self) -> usize {
        (self.room.total() - self.room.free()).saturating_mul(UNIT_BYTES)
    }
}

/// The task that commits.
struct Committer {
    shared: Arc<Shared>,
    queued: mpsc::UnboundedReceiver<Queued>,
    stopping: watch::Receiver<bool>,
    /// What was taken out of the queue and is not in a group yet.
    turns: Turns<Queued>,
    /// Until when who is held up waits at most because too much is unbuilt.
    held_up_until: Option<Instant>,
    /// When the last commit was begun.
    last: Option<Instant>,
}

/// Which tenants' batches may be in a group.
#[derive(Clone, Copy, PartialEq)]
enum Pass {
    All,
    /// Only of tenants of which not too much waits to be built.
    WithLittleUnbuilt,
}

impl Committer {
    async fn run(mut self) {
        while self.is_something_there().await {
            let pass = self.pass().await;
            let group = self.collect(pass).await;
            if !group.is_empty() {
                self.last = Some(Instant::now());
                self.commit(group).await;
            }
        }
    }

    /// Waits for a batch; false when there will be none.
    async fn is_something_there(&mut self) -> bool {
        self.fetch();
        if !self.turns.is_empty() {
            return true;
        }
        if !*self.stopping.borrow_and_update() {
            tokio::select! {
                first = self.queued.recv() => return self.push(first),
                // An error: all handles are gone, and with them the queue ends.
                _ = self.stopping.changed() => {}
            }
        }
        // No more are taken; those that were are still received.
        self.queued.close();
        let first = self.queued.recv().await;
        self.push(first)
    }

    fn push(&mut self, queued: Option<Queued>) -> bool {
        let Some(queued) = queued else { return false };
        let tenant = queued.batch.tenant.clone();
        self.turns.push(&tenant, queued);
        true
    }

    /// Takes over what is in the queue.
    fn fetch(&mut self) {
        while let Ok(next) = self.queued.try_recv() {
            self.push(Some(next));
        }
    }

    /// Who may have a turn. If too much is unbuilt of all that wait, it waits for that or for somebody
    /// else. Nobody is held up for longer than the store says, whoever comes meanwhile.
    async fn pass(&mut self) -> Pass {
        let store = Arc::clone(&self.shared.store);
        loop {
            let mut held_up = self.turns.tenants().map(|tenant| store.has_much_unbuilt(tenant));
            let first = held_up.next().unwrap_or(false);
            let (any, all) = held_up.fold((first, first), |(any, all), one| (any | one, all & one));
            if !any {
                self.held_up_until = None;
                return Pass::WithLittleUnbuilt;
            }
            if *self.stopping.borrow() {
                break;
            }
            let until = *self.held_up_until.get_or_insert_with(|| store.hold_up());
            if Instant::now() >= until {
                break;
            }
            if !all {
                return Pass::WithLittleUnbuilt;
            }
            tokio::select! {
                () = store.wait_for_building(until) => {}
                _ = self.stopping.changed() => {}
                next = self.queued.recv() => {
                    if !self.push(next) {
                        // All handles are gone: nobody else will come.
                        break;
                    }
                }
            }
        }
        self.held_up_until = None;
        Pass::All
    }

    async fn collect(&mut self, pass: Pass) -> Vec<Queued> {
        let now = Instant::now();
        let idle = self.last.is_none_or(|last| now >= last + GROUP_GAP);
        let deadline = match self.last {
            Some(last) if !idle => (last + GROUP_GAP).min(now + self.shared.limits.group_wait_max),
            _ => now,
        };
        let store = Arc::clone(&self.shared.store);
        let may = |tenant: &TenantId| pass == Pass::All || !store.has_much_unbuilt(tenant);
        let mut bytes_max = self.shared.limits.group_bytes_max;
        if self.shared.room.is_shared() {
            bytes_max = bytes_max.min(SHARED_GROUP_BYTES);
        }
        let (mut bytes, mut group): (usize, Vec<Queued>) = (0, Vec::new());
        loop {
            self.fetch();
            // A single larger batch is a group of its own.
            let is_first = group.is_empty();
            let fits = |next: &Queued| is_first || bytes.saturating_add(next.bytes) <= bytes_max;
            if let Some(next) = self.turns.take(may, fits) {
                bytes += next.bytes;
                group.push(next);
                continue;
            }
            if bytes >= EAGER_BYTES || self.turns.tenants().any(may) || *self.stopping.borrow() {
                break;
            }
            match timeout_at(deadline, self.queued.recv()).await {
                Ok(next @ Some(_)) => self.push(next),
                Ok(None) | Err(_) => break,
            };
        }
        group
    }

    async fn commit(&self, group: Vec<Queued>) {
        let batches: Vec<Batch> = group.iter().map(|q| q.batch.clone()).collect();
        match self.try_commit(batches).await {
            Ok(outcomes) => self.answer(group, outcomes),
            Err(Failure::Poisoned(_)) if group.len() > 1 => {
                // One of them cannot be stored, and the others must not suffer for it.
                for queued in group {
                    let alone = self.try_commit(vec![queued.batch.clone()]).await;
                    match alone {
                        Ok(outcomes) => self.answer(vec![queued], outcomes),
                        Err(failure) => self.fail(vec![queued], failure.into_error()),
                    }
                }
            }
            Err(failure) => self.fail(group, failure.into_error()),
        }
    }

    /// Commits in a task of its own, so that a panic there is a failure here and not the end.
    async fn try_commit(&self, batches: Vec<Batch>) -> Result<Vec<Outcome>, Failure> {
        let store = Arc::clone(&self.shared.store);
        let started = Instant::now();
        let done = tokio::spawn(async move { store.commit(batches).await }).await;
        let us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.shared.counters.commit_us.fetch_add(us, Relaxed);
        self.shared.counters.groups.fetch_add(1, Relaxed);
        match done {
            Ok(Ok(outcomes)) => Ok(outcomes),
            Ok(Err(CommitError::Store(error @ StoreError::Encode(_)))) => {
                Err(Failure::Poisoned(error))
            }
            Ok(Err(error)) => Err(Failure::Store(error)),
            Err(panic) => Err(Failure::Poisoned(StoreError::Stopped(panic.to_string()))),
        }
    }

    fn answer(&self, group: Vec<Queued>, outcomes: Vec<Outcome>) {
        if self.shared.troubled.swap(false, Relaxed) {
            tracing::info!("commits succeed again");
        }
        let counters = &self.shared.counters;
        let wanted = self.shared.follow.is_none() && self.shared.tail.is_wanted();
        let mut stored = Vec::new();
        let mut answers = Vec::with_capacity(group.len());
        for (queued, outcome) in group.into_iter().zip(outcomes) {
            let answer = match outcome {
                Outcome::Committed(committed) => {
                    counters.batches.fetch_add(1, Relaxed);
                    counters.records.fetch_add(committed.records(), Relaxed);
                    if committed.is_duplicate() {
                        counters.duplicates.fetch_add(1, Relaxed);
                    } else if wanted && committed.records() > 0 {
                        stored.push((queued.batch.tenant.clone(), queued.batch.records().clone()));
                    }
                    Ok(Ack::from(committed))
                }
                Outcome::Gap(committed) => Err(IngestError::Gap { committed }),
                Outcome::StaleEpoch(committed) => Err(IngestError::StaleEpoch { committed }),
            };
            if answer.is_err() {
                counters.refused.fetch_add(1, Relaxed);
            }
            answers.push((queued, answer));
        }
        self.shared.tail.send(stored);
        for (queued, answer) in answers {
            // The sender may have gone; the batch is durable all the same.
            queued.answer.send(answer).ok();
        }
    }

    fn fail(&self, group: Vec<Queued>, error: IngestError) {
        self.shared.counters.failed.fetch_add(group.len() as u64, Relaxed);
        // Senders come again and again while the trouble lasts: it is told once.
        if !self.shared.troubled.swap(true, Relaxed) {
            tracing::warn!(batches = group.len(), %error, "commits fail; senders are told to retry");
        }
        for queued in group {
            queued.answer.send(Err(error.clone())).ok();
        }
    }
}

/// Why a group was not committed.
enum Failure {
    /// The store could not; any group would have failed.
    Store(CommitError),
    /// One of the batches could not be encoded.
    Poisoned(StoreError),
}

impl Failure {
    fn into_error(self) -> IngestError {
        match self {
            Failure::Store(CommitError::DiskFull { free_bytes, reserve_bytes }) => {
                IngestError::DiskFull { free_bytes, reserve_bytes }
            }
            Failure::Store(error) => IngestError::Store(Arc::new(error)),
            Failure::Poisoned(error) => error.into(),
        }
    }
}
