//! What a query may cost, while it runs: its deadline and its share of the memory.
//!
//! Invariants:
//! - no query holds more than its own memory budget, and all together no more than the process's;
//! - a query past its deadline stops at the next block: with an error, or, where the caller allows a
//!   partial answer, by ending its scans and saying so.

use std::fmt;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use datafusion::common::DataFusionError;
use datafusion::execution::memory_pool::{MemoryLimit, MemoryPool, MemoryReservation};

use crate::error::{QueryError, QueryErrorKind};
use crate::request::Budget;

/// How long a partial answer may still take to be put together after its deadline.
pub(crate) const PARTIAL_GRACE: Duration = Duration::from_secs(5);

/// The running query's deadline and its partial mark; shared by all its parts.
#[derive(Debug)]
pub(crate) struct QueryControl {
    deadline: Instant,
    time_max: Duration,
    allow_partial: bool,
    partial: OnceLock<String>,
}

impl QueryControl {
    pub(crate) fn start(budget: &Budget) -> Arc<Self> {
        let now = Instant::now();
        Arc::new(Self {
            // A budget of centuries is no deadline; thirty years do not overflow the clock.
            deadline: now + budget.time_max.min(Duration::from_secs(1 << 30)),
            time_max: budget.time_max,
            allow_partial: budget.allow_partial,
            partial: OnceLock::new(),
        })
    }

    /// Whether scanning goes on: `false` means end here, the answer has been marked partial.
    pub(crate) fn proceed(&self) -> Result<bool, QueryError> {
        if Instant::now() < self.deadline {
            return Ok(true);
        }
        if self.allow_partial {
            self.mark_partial();
            return Ok(false);
        }
        Err(self.time_error())
    }

    /// When the caller stops waiting for rows.
    pub(crate) fn hard_deadline(&self) -> Instant {
        if self.allow_partial { self.deadline + PARTIAL_GRACE } else { self.deadline }
    }

    /// What the caller gets at the hard deadline: the end (`None`) or an error.
    pub(crate) fn overdue(&self) -> Option<QueryError> {
        if self.allow_partial {
            self.mark_partial();
            return None;
        }
        Some(self.time_error())
    }

    pub(crate) fn partial(&self) -> Option<&str> {
        self.partial.get().map(String::as_str)
    }

    fn mark_partial(&self) {
        self.partial.get_or_init(|| {
            format!("stopped after the time budget of {:?}; not all data was read", self.time_max)
        });
    }

    fn time_error(&self) -> QueryError {
        QueryError::new(
            QueryErrorKind::BudgetTime,
            format!(
                "the query ran longer than its time budget of {:?}; narrow the time range, filter \
                 by stream, or raise the timeout",
                self.time_max
            ),
        )
    }
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

/// One query's memory pool: bounded by the query's budget and by the process's.
#[derive(Debug)]
pub(crate) struct QueryMemory {
    process: Arc<ProcessMemory>,
    used: AtomicUsize,
    bytes_max: usize,
}

impl QueryMemory {
    pub(crate) fn new(process: &Arc<ProcessMemory>, bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { process: process.clone(), used: AtomicUsize::new(0), bytes_max })
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
        self.used.fetch_add(additional, Ordering::Relaxed);
        self.process.used.fetch_add(additional, Ordering::Relaxed);
    }

    fn shrink(&self, _reservation: &MemoryReservation, shrink: usize) {
        self.used.fetch_sub(shrink, Ordering::Relaxed);
        self.process.used.fetch_sub(shrink, Ordering::Relaxed);
    }

    fn try_grow(
        &self,
        reservation: &MemoryReservation,
        additional: usize,
    ) -> Result<(), DataFusionError> {
        let what = reservation.consumer().name();
        if !try_add(&self.used, additional, self.bytes_max) {
            return Err(self.refuse(what, additional, "its budget", self.bytes_max));
        }
        if !try_add(&self.process.used, additional, self.process.bytes_max) {
            self.used.fetch_sub(additional, Ordering::Relaxed);
            let max = self.process.bytes_max;
            return Err(self.refuse(what, additional, "the limit for all queries together", max));
        }
        Ok(())
    }

    fn reserved(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.bytes_max.min(self.process.bytes_max))
    }
}

impl fmt::Display for QueryMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "query(used: {}, max: {})", self.used.load(Ordering::Relaxed), self.bytes_max)
    }
}
