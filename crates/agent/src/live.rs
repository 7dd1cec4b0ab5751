//! What the agent has still to read and to deliver, told to the server every few seconds.
//!
//! Only sources that are not at rest are told. A report that does not arrive is not repeated: the
//! next one says more.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lodge_record::ProducerId;
use lodge_wire::agent_report::{LiveSource, Report, SOURCES_MAX};
use tokio::time::Instant;

use crate::counters::Counters;
use crate::reader::now_ns;
use crate::ship::Shipper;

/// How often the server is told, where there is something new.
pub(crate) const PERIOD: Duration = Duration::from_secs(5);
/// How often it is told in any case.
const SIGN_OF_LIFE: Duration = Duration::from_secs(60);

/// The sources of one agent that are not at rest; shared by all of them.
#[derive(Debug, Default)]
pub struct Live {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    files: Vec<LiveSource>,
    more_files: u64,
    others: BTreeMap<String, LiveSource>,
}

impl Live {
    /// Takes the present state of all files, those that fit first.
    pub(crate) fn set_files(&self, files: Vec<LiveSource>, more_files: u64) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        (inner.files, inner.more_files) = (files, more_files);
    }

    /// Takes the present state of another source.
    pub(crate) fn set(&self, source: LiveSource) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if source.in_flight_records == 0 && source.unread_bytes == 0 {
            inner.others.remove(&source.producer);
        } else {
            inner.others.insert(source.producer.clone(), source);
        }
    }

    fn sources(&self) -> (Vec<LiveSource>, u64) {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sources: Vec<_> = inner.others.values().chain(&inner.files).cloned().collect();
        let beyond = sources.len().saturating_sub(SOURCES_MAX);
        sources.truncate(SOURCES_MAX);
        (sources, inner.more_files + beyond as u64)
    }

    /// Tells the server until the task is dropped.
    pub(crate) async fn report(
        self: Arc<Self>,
        agent: ProducerId,
        host: String,
        shipper: Arc<Shipper>,
        counters: Arc<Counters>,
    ) {
        let started_ms = now_ns() / 1_000_000;
        let mut told: Option<(Instant, Report)> = None;
        loop {
            let (sources, more_sources) = self.sources();
            let report = Report {
                host: host.clone(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                started_ms,
                sources,
                more_sources,
                counters: counters.totals().named(),
            };
            let is_due = told.as_ref().is_none_or(|(at, last)| {
                last.sources != report.sources || at.elapsed() >= SIGN_OF_LIFE
            });
            if is_due && shipper.report(agent, &report).await {
                told = Some((Instant::now(), report));
            }
            tokio::time::sleep(PERIOD).await;
        }
    }
}
