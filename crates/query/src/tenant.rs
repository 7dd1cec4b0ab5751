//! What the queries of one tenant may cost together: memory at once; time, bytes and records within a
//! minute.
//!
//! Invariants:
//! - every query of a tenant charges the same [`TenantUse`], whatever endpoint asked;
//! - a minute begins with the first charge after the last one has ended, so a tenant that used up its
//!   share waits a minute at most.

use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lodge_record::TenantId;

use crate::error::{QueryError, QueryErrorKind};

/// How long what was used counts.
const WINDOW: Duration = Duration::from_secs(60);
/// Tenants that are remembered; beyond it those without a running query are forgotten.
const TENANTS_MAX: usize = 10_000;

/// What each tenant's queries may take; `None`: no bound of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TenantLimits {
    /// Bytes that its running queries hold together.
    pub memory_bytes_max: Option<usize>,
    /// Time that its queries run within a minute, those that run at once added up.
    pub time_max_per_minute: Option<Duration>,
    /// Stored bytes that its queries look at within a minute.
    pub bytes_max_per_minute: Option<u64>,
    /// Records that its queries look at within a minute.
    pub rows_max_per_minute: Option<u64>,
}

/// All tenants that asked lately.
#[derive(Debug)]
pub(crate) struct Tenants {
    limits: TenantLimits,
    of: Mutex<HashMap<TenantId, Arc<TenantUse>>>,
}

impl Tenants {
    pub(crate) fn new(limits: TenantLimits) -> Self {
        Self { limits, of: Mutex::default() }
    }

    /// What a tenant uses.
    pub(crate) fn of(&self, tenant: &TenantId) -> Arc<TenantUse> {
        let mut known = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(tenant) {
            return Arc::clone(found);
        }
        if known.len() >= TENANTS_MAX {
            known.retain(|_, used| Arc::strong_count(used) > 1);
        }
        let used = Arc::new(TenantUse::new(self.limits));
        known.insert(tenant.clone(), Arc::clone(&used));
        used
    }
}

/// What one tenant's queries use.
#[derive(Debug)]
pub(crate) struct TenantUse {
    limits: TenantLimits,
    pub(crate) memory: AtomicUsize,
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    time: Duration,
    bytes: u64,
    rows: u64,
}

impl TenantUse {
    fn new(limits: TenantLimits) -> Self {
        let window = Window { began: Instant::now(), time: Duration::ZERO, bytes: 0, rows: 0 };
        Self { limits, memory: AtomicUsize::new(0), window: Mutex::new(window) }
    }

    pub(crate) fn memory_bytes_max(&self) -> usize {
        self.limits.memory_bytes_max.unwrap_or(usize::MAX)
    }

    /// Runs `change` on the minute that it is now.
    fn with<T>(&self, change: impl FnOnce(&mut Window, Instant) -> T) -> T {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if now.saturating_duration_since(window.began) >= WINDOW {
            *window = Window { began: now, time: Duration::ZERO, bytes: 0, rows: 0 };
        }
        change(&mut window, now)
    }

    pub(crate) fn charge(&self, rows: u64, bytes: u64) {
        let limits = &self.limits;
        if limits.bytes_max_per_minute.is_none() && limits.rows_max_per_minute.is_none() {
            return;
        }
        self.with(|window, _| {
            window.rows = window.rows.saturating_add(rows);
            window.bytes = window.bytes.saturating_add(bytes);
        });
    }

    pub(crate) fn charge_time(&self, time: Duration) {
        if self.limits.time_max_per_minute.is_some() {
            self.with(|window, _| window.time = window.time.saturating_add(time));
        }
    }

    /// Why no query of the tenant may go on, if that is so.
    pub(crate) fn excess(&self) -> Option<QueryError> {
        let limits = &self.limits;
        let TenantLimits { time_max_per_minute: time, .. } = limits;
        if (time, limits.bytes_max_per_minute, limits.rows_max_per_minute) == (&None, None, None) {
            return None;
        }
        self.with(|window, now| {
            let used_up = if let Some(max) = time.filter(|max| window.time > *max) {
                format!("ran for more than {max:?}")
            } else if let Some(max) = limits.bytes_max_per_minute.filter(|m| window.bytes > *m) {
                format!("looked at more than {max} bytes")
            } else if let Some(max) = limits.rows_max_per_minute.filter(|m| window.rows > *m) {
                format!("looked at more than {max} records")
            } else {
                return None;
            };
            let passed = now.saturating_duration_since(window.began);
            let retry_after_s = WINDOW.saturating_sub(passed).as_secs() + 1;
            Some(QueryError::new(
                QueryErrorKind::BudgetTenant { retry_after_s },
                format!(
                    "the queries of this tenant {used_up} within a minute, which is its budget; \
                     try again in {retry_after_s} s, or narrow the time range"
                ),
            ))
        })
    }
}
