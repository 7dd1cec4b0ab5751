//! `GET /api/v1/ledger` and `POST /api/v1/agents/{id}`: what is durable of each source, what is on
//! its way, and what is missing.
//!
//! What is durable comes from the catalog and is exact. What is on its way is what agents said last;
//! it is kept in memory only, and the agents say it again within seconds.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Path, Query, Request, State};
use axum::response::Response;
use http::StatusCode;
use lodge_record::{ProducerId, TenantId, time};
use lodge_store::{LedgerRow, StoreError};
use lodge_wire::agent_report::{self, LiveSource, REPORT_BYTES_MAX, Report};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::{self, ApiError};
use crate::app::App;
use crate::body::{Arriving, Reserved};
use crate::identity::Identity;
use crate::metrics::Limit;

/// Agents whose reports are kept.
const AGENTS_MAX: usize = 10_000;
/// Sources in all kept reports.
const LIVE_SOURCES_MAX: usize = 100_000;
/// Agents say something at least every minute; one that is silent for longer is shown as such.
const SILENT_AFTER: Duration = Duration::from_secs(150);
/// Silent agents are forgotten after this.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(7 * 86_400);
/// Rows read from the catalog at once.
const PAGE_ROWS: usize = 1_000;
/// Sources in one answer, by default and at most.
const SOURCES_DEFAULT: usize = 100;
const SOURCES_MAX: usize = 10_000;

/// What agents said last.
#[derive(Debug, Default)]
pub(crate) struct Agents {
    reports: Mutex<HashMap<(TenantId, String), Kept>>,
}

#[derive(Debug)]
struct Kept {
    report: Report,
    at: Instant,
}

impl Agents {
    /// Keeps a report; false if there are too many.
    fn keep(&self, agent: (TenantId, String), report: Report) -> bool {
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        reports.retain(|_, kept| kept.at.elapsed() < FORGOTTEN_AFTER);
        let others = reports.iter().filter(|(known, _)| **known != agent);
        let sources: usize = others.map(|(_, kept)| kept.report.sources.len()).sum();
        let is_new = !reports.contains_key(&agent);
        if (is_new && reports.len() >= AGENTS_MAX)
            || sources + report.sources.len() > LIVE_SOURCES_MAX
        {
            return false;
        }
        reports.insert(agent, Kept { report, at: Instant::now() });
        true
    }

    /// The agents of a tenant as the answer shows them, and what is on its way by producer.
    fn shown(&self, tenant: &TenantId) -> (Vec<Value>, HashMap<String, LiveSource>) {
        let reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        let mut agents = BTreeMap::new();
        let mut live = HashMap::new();
        for ((_, agent), kept) in reports.iter().filter(|((of, _), _)| of == tenant) {
            let ago = kept.at.elapsed();
            let sum = |of: fn(&LiveSource) -> u64| {
                kept.report.sources.iter().map(of).fold(0, u64::saturating_add)
            };
            let shown = json!({
                "agent": agent,
                "host": kept.report.host,
                "version": kept.report.version,
                "reported_s_ago": ago.as_secs(),
                "silent": ago > SILENT_AFTER,
                "unread_bytes": sum(|source| source.unread_bytes),
                "in_flight_records": sum(|source| source.in_flight_records),
                "more_sources": kept.report.more_sources,
                "counters": kept.report.counters,
            });
            agents.insert((kept.report.host.clone(), agent.clone()), shown);
            for source in &kept.report.sources {
                live.insert(source.producer.clone(), source.clone());
            }
        }
        (agents.into_values().collect(), live)
    }
}

/// `POST /api/v1/agents/{id}`
pub(crate) async fn report(
    State(app): State<Arc<App>>,
    identity: Identity,
    Path(agent): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let agent: ProducerId = agent.parse().map_err(|e| ApiError::bad_request(format!("{e}")))?;
    let mut memory = Reserved::new(&app, identity.tenant());
    let arriving = Arriving::new(&app, request.into_body());
    let body = arriving.whole(REPORT_BYTES_MAX, &mut memory).await;
    let body = body.map_err(|error| error.into_answer(&app.metrics))?;
    let report = agent_report::decode(&body).map_err(|e| ApiError::bad_request(e.to_string()))?;
    if !app.agents.keep((identity.tenant().clone(), agent.to_string()), report) {
        app.metrics.hit(Limit::Agents);
        let problem = format!("more than {AGENTS_MAX} agents or {LIVE_SOURCES_MAX} busy sources");
        return Err(ApiError::overloaded(problem, 60));
    }
    Ok(answer::json(StatusCode::OK, &json!({})))
}

/// Which sources to show.
#[derive(Debug, Deserialize)]
pub(crate) struct Wanted {
    /// Only where host, source or agent contain this text.
    #[serde(default)]
    contains: String,
    /// Only sources with holes.
    #[serde(default)]
    holes: bool,
    /// How many at most.
    limit: Option<usize>,
}

#[derive(Debug, Default)]
struct Totals {
    sources: u64,
    read: u64,
    stored: u64,
    dropped: u64,
    unread_bytes: u64,
    in_flight: u64,
    holes: u64,
    unexplained: u64,
    told_otherwise: u64,
}

impl Totals {
    fn add(&mut self, row: &LedgerRow, live: &LiveSource) {
        let entry = &row.entry;
        let sums = [
            (&mut self.sources, 1),
            (&mut self.read, entry.read_records),
            (&mut self.stored, entry.stored_records),
            (&mut self.dropped, entry.dropped_records()),
            (&mut self.unread_bytes, live.unread_bytes),
            (&mut self.in_flight, live.in_flight_records),
            (&mut self.holes, entry.holes_total),
            (&mut self.unexplained, entry.unexplained_total),
            (&mut self.told_otherwise, u64::from(entry.is_told_otherwise())),
        ];
        for (sum, more) in sums {
            *sum = sum.saturating_add(more);
        }
    }

    fn shown(&self) -> Value {
        json!({
            "sources": self.sources,
            "read_records": self.read,
            "stored_records": self.stored,
            "dropped_records": self.dropped,
            "unread_bytes": self.unread_bytes,
            "in_flight_records": self.in_flight,
            "holes": self.holes,
            "unexplained_holes": self.unexplained,
            "sources_counted_otherwise": self.told_otherwise,
        })
    }
}

/// `GET /api/v1/ledger`: all sources are summed up, the worst and then the latest are shown.
pub(crate) async fn ledger(
    State(app): State<Arc<App>>,
    identity: Identity,
    Query(wanted): Query<Wanted>,
) -> Result<Response, ApiError> {
    if !identity.view().is_whole() {
        let problem = "this token may read some records only; the ledger tells of all sources";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "scope", problem));
    }
    // It reads all sources of the catalog: as much work as a query.
    let _running = app.begin_query(identity.tenant(), "ledger").await?;
    let limit = wanted.limit.unwrap_or(SOURCES_DEFAULT).min(SOURCES_MAX);
    let (agents, live) = app.agents.shown(identity.tenant());
    let mut totals = Totals::default();
    let mut shown: Vec<(LedgerRow, LiveSource)> = Vec::new();
    let mut after = None;
    loop {
        let page = app.store.ledger(identity.tenant(), after, PAGE_ROWS).await;
        let page = page.map_err(|error| unreadable(&error))?;
        after = page.last().map(|row| row.producer);
        let is_last = page.len() < PAGE_ROWS;
        for row in page.into_iter().filter(|row| wanted.includes(row)) {
            let live = live.get(&row.producer.to_string()).cloned().unwrap_or_default();
            totals.add(&row, &live);
            shown.push((row, live));
        }
        // Only so many are ever held at once.
        if is_last || shown.len() > limit.saturating_mul(2).max(PAGE_ROWS) {
            let worth = |(row, _): &(LedgerRow, LiveSource)| {
                let entry = &row.entry;
                let is_alarm = entry.unexplained_total > 0 || entry.is_told_otherwise();
                std::cmp::Reverse((is_alarm, entry.updated_ms))
            };
            shown.sort_by_key(worth);
            shown.truncate(limit);
        }
        if is_last {
            break;
        }
    }
    let body = json!({
        "totals": totals.shown(),
        "sources": shown.iter().map(|(row, live)| source(row, live)).collect::<Vec<_>>(),
        "agents": agents,
    });
    Ok(answer::json(StatusCode::OK, &body))
}

impl Wanted {
    fn includes(&self, row: &LedgerRow) -> bool {
        let entry = &row.entry;
        let texts = [&entry.host, &entry.source, &entry.agent];
        (!self.holes || entry.holes_total > 0 || entry.is_told_otherwise())
            && (self.contains.is_empty() || texts.iter().any(|text| text.contains(&self.contains)))
    }
}

fn source(row: &LedgerRow, live: &LiveSource) -> Value {
    let entry = &row.entry;
    let at = |ms: i64| time::format(ms.saturating_mul(1_000_000));
    let hole = |kept: &lodge_store::KeptHole| {
        json!({
            "from": kept.hole.from,
            "to": kept.hole.to,
            "reason": kept.hole.reason,
            "bytes": kept.hole.bytes,
            "records": kept.hole.records,
            "unexplained": kept.unexplained,
            "at": at(kept.at_ms),
        })
    };
    json!({
        "producer": row.producer.to_string(),
        "agent": entry.agent,
        "host": entry.host,
        "source": entry.source,
        "begun_at": entry.begun_at,
        "position": row.state.position.as_ref().map(|position| position.as_str()),
        "read_records": entry.read_records,
        "stored_records": entry.stored_records,
        "dropped": entry.dropped,
        "counted_by_agent": entry.told,
        "counted_otherwise": entry.is_told_otherwise(),
        "unread_bytes": live.unread_bytes,
        "in_flight_records": live.in_flight_records,
        "holes": entry.holes.iter().map(hole).collect::<Vec<_>>(),
        "holes_total": entry.holes_total,
        "unexplained_holes": entry.unexplained_total,
        "updated": at(entry.updated_ms),
    })
}

fn unreadable(error: &StoreError) -> ApiError {
    tracing::error!(%error, "the ledger cannot be read");
    ApiError::unavailable("store", format!("the ledger cannot be read: {error}"), 5)
}
