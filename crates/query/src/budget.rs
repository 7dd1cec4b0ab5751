//! What a query may cost, while it runs: its deadline, what it reads, and its share of the memory.
//!
//! Invariants:
//! - no query holds more than its own memory budget, those of one tenant no more than the tenant's,
//!   and all together no more than the process's;
//! - a query beyond a budget stops at the next block: with an error, or, where the caller allows a
//!   partial answer, by ending its scans and saying so;
//! - what is read is charged by what the data is, not by what happens to be in memory, so the same
//!   query over the same data costs the same; only records that are not built yet cost less where a
//!   filter of their words rules them out.

use std::fmt;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use datafusion::common::DataFusionError;
use datafusion::execution::memory_pool::{MemoryLimit, MemoryPool, MemoryReservation};

use crate::cluster::Charged;
use crate::error::{QueryError, QueryErrorKind};
use crate::request::Budget;
use crate::tenant::TenantUse;

/// How long a partial answer may still take to be put together after its deadline.
pub(crate) const PARTIAL_GRACE: Duration = Duration::from_secs(5);

/// What all queries of an engine have read and skipped so far.
#[derive(Debug, Default)]
pub(crate) struct ReadCounters {
    pub(crate) blocks: AtomicU64,
    pub(crate) blocks_skipped: AtomicU64,
    pub(crate) rows: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) partial_answers: AtomicU64,
    pub(crate) tasks_sent: AtomicU64,
    pub(crate) tasks_lost: AtomicU64,
    pub(crate) tasks_done: AtomicU64,
}

/// The running query's budget and its partial mark; shared by all its parts.
#[derive(Debug)]
pub(crate) struct QueryControl {
    started: Instant,
    deadline: Instant,
    budget: Budget,
    blocks: AtomicU64,
    rows: AtomicU64,
    bytes: AtomicU64,
    rows_found: AtomicU64,
    /// Time that its tenant was charged with, nanoseconds.
    charged_ns: AtomicU64,
    memory: Arc<QueryMemory>,
    tenant: Arc<TenantUse>,
    counters: Arc<ReadCounters>,
    partial: OnceLock<QueryError>,
}

/// What a query has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Done {
    /// Blocks that were looked at.
    pub(crate) blocks: u64,
    /// Records of these blocks.
    pub(crate) rows: u64,
    /// Bytes that it was charged with.
    pub(crate) bytes: u64,
    /// Records that matched its filter, as far as they were looked for.
    pub(crate) rows_found: u64,
    /// Time since it began.
    pub(crate) elapsed_ns: u64,
}

impl QueryControl {
    pub(crate) fn start(
        budget: &Budget,
        memory: Arc<QueryMemory>,
        tenant: Arc<TenantUse>,
        counters: Arc<ReadCounters>,
    ) -> Arc<Self> {
        let now = Instant::now();
        Arc::new(Self {
            started: now,
            // A budget of centuries is no deadline; thirty years do not overflow the clock.
            deadline: now + budget.time_max.min(Duration::from_secs(1 << 30)),
            budget: *budget,
            blocks: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            rows_found: AtomicU64::new(0),
            charged_ns: AtomicU64::new(0),
            memory,
            tenant,
            counters,
            partial: OnceLock::new(),
        })
    }

    /// Whether scanning goes on: `false` means end here, the answer has been marked partial.
    pub(crate) fn proceed(&self) -> Result<bool, QueryError> {
        if self.partial.get().is_some() {
            return Ok(false);
        }
        match self.excess() {
            None => Ok(true),
            Some(excess) => self.stop(excess).map_or(Ok(false), Err),
        }
    }

    /// Charges the records of a block that are to be looked at, and the bytes of the columns that are
    /// looked at for that; as [`QueryControl::proceed`], before they are read.
    pub(crate) fn charge_block(&self, rows: usize, bytes: u64) -> Result<bool, QueryError> {
        self.blocks.fetch_add(1, Ordering::Relaxed);
        self.counters.blocks.fetch_add(1, Ordering::Relaxed);
        self.charge(rows as u64, bytes)
    }

    /// Charges what another server did of the query; as [`QueryControl::proceed`]. The engine's own
    /// counters are of what it did itself.
    pub(crate) fn charge_other(&self, done: Charged) -> Result<bool, QueryError> {
        self.blocks.fetch_add(done.blocks, Ordering::Relaxed);
        self.rows.fetch_add(done.rows, Ordering::Relaxed);
        self.bytes.fetch_add(done.bytes, Ordering::Relaxed);
        self.rows_found.fetch_add(done.rows_found, Ordering::Relaxed);
        self.tenant.charge(done.rows, done.bytes);
        self.proceed()
    }

    /// Ends the query with what there is and marks the answer; an error where that is not allowed.
    pub(crate) fn end_with(&self, why: QueryError) -> Result<(), QueryError> {
        self.stop(why).map_or(Ok(()), Err)
    }

    /// Counts a task that another server was asked to do.
    pub(crate) fn sent(&self) {
        self.counters.tasks_sent.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a task that another server did not do.
    pub(crate) fn lost(&self) {
        self.counters.tasks_lost.fetch_add(1, Ordering::Relaxed);
    }

    /// What it may cost.
    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Time until its deadline.
    pub(crate) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Charges the bytes of columns that are read of some records.
    pub(crate) fn charge_bytes(&self, bytes: u64) -> Result<bool, QueryError> {
        self.charge(0, bytes)
    }

    /// Notes blocks that need not be looked at.
    pub(crate) fn skip_blocks(&self, blocks: usize) {
        self.counters.blocks_skipped.fetch_add(blocks as u64, Ordering::Relaxed);
    }

    /// Notes records that match.
    pub(crate) fn find(&self, rows: usize) {
        self.rows_found.fetch_add(rows as u64, Ordering::Relaxed);
    }

    /// What was done so far.
    pub(crate) fn done(&self) -> Done {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let elapsed_ns = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Done {
            blocks: of(&self.blocks),
            rows: of(&self.rows),
            bytes: of(&self.bytes),
            rows_found: of(&self.rows_found),
            elapsed_ns,
        }
    }

    fn charge(&self, rows: u64, bytes: u64) -> Result<bool, QueryError> {
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.counters.rows.fetch_add(rows, Ordering::Relaxed);
        self.counters.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.tenant.charge(rows, bytes);
        self.proceed()
    }

    /// Which budget is used up, if one is.
    fn excess(&self) -> Option<QueryError> {
        let now = Instant::now();
        if now >= self.deadline {
            return Some(self.time_error());
        }
        let (rows, bytes) = (&self.rows, &self.bytes);
        if let Some(max) = self.budget.rows_max.filter(|max| rows.load(Ordering::Relaxed) > *max) {
            return Some(over(
                QueryErrorKind::BudgetRows,
                format!("the query has to look at more than its budget of {max} records"),
            ));
        }
        if let Some(max) = self.budget.bytes_max.filter(|max| bytes.load(Ordering::Relaxed) > *max)
        {
            return Some(over(
                QueryErrorKind::BudgetBytes,
                format!("the query has to read more than its budget of {max} bytes"),
            ));
        }
        // What sorts or groups needs room to finish with what it has.
        if self.budget.allow_partial && self.memory.is_half_used() {
            return Some(over(
                QueryErrorKind::BudgetMemory,
                format!(
                    "the query needs more than its memory budget of {} bytes",
                    self.budget.memory_bytes_max
                ),
            ));
        }
        self.charge_time(now);
        self.tenant.excess()
    }

    /// Charges the tenant with the time since it was charged last.
    fn charge_time(&self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.started).as_nanos();
        let elapsed = u64::try_from(elapsed).unwrap_or(u64::MAX);
        let before = self.charged_ns.fetch_max(elapsed, Ordering::Relaxed);
        self.tenant.charge_time(Duration::from_nanos(elapsed.saturating_sub(before)));
    }

    /// The error to end with, or none where the answer is marked instead.
    fn stop(&self, excess: QueryError) -> Option<QueryError> {
        if !self.budget.allow_partial {
            return Some(excess);
        }
        self.partial.get_or_init(|| {
            self.counters.partial_answers.fetch_add(1, Ordering::Relaxed);
            excess
        });
        None
    }

    /// When the caller stops waiting for rows.
    pub(crate) fn hard_deadline(&self) -> Instant {
        match self.budget.allow_partial {
            true => self.deadline + PARTIAL_GRACE,
            false => self.deadline,
        }
    }

    /// What the caller gets at the hard deadline: the end (`None`) or an error.
    pub(crate) fn overdue(&self) -> Option<QueryError> {
        self.stop(self.time_error())
    }

    /// Why the answer is partial, if it is.
    pub(crate) fn partial(&self) -> Option<&QueryError> {
        self.partial.get()
    }

    fn time_error(&self) -> QueryError {
        over(
            QueryErrorKind::BudgetTime,
            format!("the query ran longer than its time budget of {:?}", self.budget.time_max),
        )
    }
}

impl Drop for QueryControl {
    fn drop(&mut self) {
        self.charge_time(Instant::now());
    }
}

fn over(kind: QueryErrorKind, what: String) -> QueryError {
    let raise = match kind {
        QueryErrorKind::BudgetTime => "raise the timeout",
        _ => "raise the budget",
    };
    QueryError::new(kind, format!("{what}; narrow the time range, filter by stream, or {raise}"))
}

/// Memory of all queries of the process.
#[derive(Debug)]
pub(crate) struct ProcessMemory {
    used: AtomicUsize,
    bytes_max: usize,
}

impl ProcessMemory {
    pub(crate) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), bytes_max })
    }
}

/// One query's memory pool: bounded by the query's budget, its tenant's and the process's.
#[derive(Debug)]
pub(crate) struct QueryMemory {
    process: Arc<ProcessMemory>,
    tenant: Arc<TenantUse>,
    used: AtomicUsize,
    bytes_max: usize,
}

impl QueryMemory {
    pub(crate) fn new(
        process: &Arc<ProcessMemory>,
        tenant: &Arc<TenantUse>,
        bytes_max: usize,
    ) -> Arc<Self> {
        let (process, tenant) = (Arc::clone(process), Arc::clone(tenant));
        Arc::new(Self { process, tenant, used: AtomicUsize::new(0), bytes_max })
    }

    fn is_half_used(&self) -> bool {
        self.used.load(Ordering::Relaxed) > self.bytes_max / 2
    }

    fn refuse(&self, what: &str, wanted: usize, limit: &str, bytes_max: usize) -> DataFusionError {
        DataFusionError::ResourcesExhausted(format!(
            "{what} wanted {wanted} more bytes, {} are in use by this query, {limit} is {bytes_max}",
            self.used.load(Ordering::Relaxed)
        ))
    }
}

/// Adds `more` to `used` unless that exceeds `max`.
fn try_add(used: &AtomicUsize, more: usize, max: usize) -> bool {
    used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
        now.checked_add(more).filter(|sum| *sum <= max)
    })
    .is_ok()
}

impl MemoryPool for QueryMemory {
    fn name(&self) -> &str {
        "query"
    }

    fn grow(&self, _reservation: &MemoryReservation, additional: usize) {
        for used in [&self.used, &self.tenant.memory, &self.process.used] {
            used.fetch_add(additional, Ordering::Relaxed);
        }
    }

    fn shrink(&self, _reservation: &MemoryReservation, shrink: usize) {
        for used in [&self.used, &self.tenant.memory, &self.process.used] {
            used.fetch_sub(shrink, Ordering::Relaxed);
        }
    }

    fn try_grow(
        &self,
        reservation: &MemoryReservation,
        additional: usize,
    ) -> Result<(), DataFusionError> {
        let bounds = [
            (&self.used, self.bytes_max, "its budget"),
            (&self.tenant.memory, self.tenant.memory_bytes_max(), "the limit of its tenant"),
            (&self.process.used, self.process.bytes_max, "the limit for all queries together"),
        ];
        for (place, (used, max, limit)) in bounds.iter().enumerate() {
            if !try_add(used, additional, *max) {
                for (taken, ..) in bounds.iter().take(place) {
                    taken.fetch_sub(additional, Ordering::Relaxed);
                }
                return Err(self.refuse(reservation.consumer().name(), additional, limit, *max));
            }
        }
        Ok(())
    }

    fn reserved(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn memory_limit(&self) -> MemoryLimit {
        let max = self.bytes_max.min(self.tenant.memory_bytes_max()).min(self.process.bytes_max);
        MemoryLimit::Finite(max)
    }
}

impl fmt::Display for QueryMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "query(used: {}, max: {})", self.used.load(Ordering::Relaxed), self.bytes_max)
    }
}
