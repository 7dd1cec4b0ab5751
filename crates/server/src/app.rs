//! What all handlers share: the engines, the gates and the counters.
//!
//! Invariant: a query or a tail runs only while it holds its place in a gate; the place is given
//! back when the last byte is sent or the client is gone, whichever is first.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lodge_ingest::{Ingest, Share, Shares};
use lodge_query::{Budget, Engine, QueryError, QueryErrorKind};
use lodge_record::TenantId;
use lodge_store::Store;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use http::StatusCode;

use crate::answer::ApiError;
use crate::args::Args;
use crate::config::ServerConfig;
use crate::decoders::Decoders;
use crate::identity::Tokens;
use crate::kafka;
use crate::ledger::Agents;
use crate::limits::{LARGE_BODIES_MAX, QUERY_WAIT};
use crate::metrics::{Limit, Metrics};
use crate::peers::{self, PeerKey, Tasks};
use crate::places::Places;
use crate::rate::Rate;

/// The state behind every route.
pub(crate) struct App {
    /// The settings.
    pub(crate) config: ServerConfig,
    /// Segments and catalog.
    pub(crate) store: Arc<Store>,
    /// Group commit.
    pub(crate) ingest: Ingest,
    /// Queries.
    pub(crate) engine: Arc<Engine>,
    /// Counters.
    pub(crate) metrics: Arc<Metrics>,
    /// Memory of inserts on their way in.
    pub(crate) insert_memory: Shares,
    /// Threads that wait for large bodies.
    pub(crate) large_bodies: Arc<Semaphore>,
    /// Cancelled when the server begins to stop: live tails end then.
    pub(crate) stopping: CancellationToken,
    /// Records per second.
    pub(crate) rate: Rate,
    /// What agents said last.
    pub(crate) agents: Agents,
    /// Threads that decode what comes in.
    pub(crate) decoders: Decoders,
    /// Who is who.
    pub(crate) tokens: Tokens,
    /// What other servers of the cluster must show.
    pub(crate) peer_key: PeerKey,
    /// Does the tasks that they send.
    pub(crate) tasks: Tasks,
    /// Places for connections of all HTTP listeners.
    pub(crate) connections: Arc<Places>,
    /// Places for connections of all other listeners: shippers that keep theirs open for ever
    /// shut nobody out who asks a question.
    pub(crate) socket_connections: Arc<Semaphore>,
    /// What the Kafka consumer says of itself.
    pub(crate) kafka: Arc<kafka::Shared>,
    queries: Shares,
    tails: Arc<Semaphore>,
}

/// Bytes that one unit of [`App::insert_memory`] stands for.
pub(crate) const MEMORY_UNIT_BYTES: usize = 4_096;

impl App {
    /// The state over running engines.
    pub(crate) fn new(
        config: ServerConfig,
        store: Arc<Store>,
        ingest: Ingest,
        engine: Arc<Engine>,
        metrics: Arc<Metrics>,
        decoders: Decoders,
        tokens: Tokens,
    ) -> Self {
        let memory = usize::try_from(config.insert_memory_bytes_max).unwrap_or(usize::MAX);
        Self {
            decoders,
            tokens,
            peer_key: PeerKey::random(),
            tasks: peers::tasks(&engine),
            connections: Places::new(config.connections_max),
            socket_connections: Arc::new(Semaphore::new(config.connections_max)),
            queries: Shares::new(config.queries_max),
            tails: Arc::new(Semaphore::new(config.tails_max)),
            insert_memory: Shares::new(memory / MEMORY_UNIT_BYTES),
            large_bodies: Arc::new(Semaphore::new(LARGE_BODIES_MAX)),
            stopping: CancellationToken::new(),
            rate: Rate::default(),
            agents: Agents::default(),
            kafka: Arc::new(kafka::Shared::new(metrics.kafka.clone())),
            config,
            store,
            ingest,
            engine,
            metrics,
        }
    }

    /// A place among the running queries for a tenant, waited for a moment.
    pub(crate) async fn begin_query(
        &self,
        tenant: &TenantId,
        endpoint: &'static str,
    ) -> Result<Running, ApiError> {
        let waiting = self.queries.take(tenant, 1);
        let Ok(place) = tokio::time::timeout(QUERY_WAIT, waiting).await else {
            self.metrics.hit(Limit::Queries);
            return Err(ApiError::overloaded(
                format!(
                    "as many queries run already as may: `queries_max` is {}, and one tenant leaves \
                     some of them to others; try again later",
                    self.config.queries_max
                ),
                2,
            ));
        };
        self.metrics.queries_running.inc();
        Ok(Running {
            metrics: self.metrics.clone(),
            endpoint,
            started: Instant::now(),
            _place: place,
        })
    }

    /// A place among the open tails.
    pub(crate) fn begin_tail(&self) -> Result<OpenTail, ApiError> {
        let Ok(place) = self.tails.clone().try_acquire_owned() else {
            self.metrics.hit(Limit::Tails);
            return Err(ApiError::overloaded(
                format!(
                    "{} live tails are open already, which is the limit `tails_max`; close one",
                    self.config.tails_max
                ),
                10,
            ));
        };
        self.metrics.tails_open.inc();
        Ok(OpenTail { metrics: self.metrics.clone(), _place: place })
    }

    /// What a query may cost: the settings, or less if the request asks for less with `timeout`,
    /// `max_memory`, `max_bytes` or `max_rows`.
    pub(crate) fn budget(&self, args: &Args) -> Result<Budget, ApiError> {
        let mut time_max = self.config.query_time_max;
        if let Some(ns) = args.duration_ns("timeout")? {
            let asked = u64::try_from(ns).ok().filter(|ns| *ns > 0).ok_or_else(|| {
                ApiError::bad_request("the argument `timeout`: it must be longer than nothing")
            })?;
            time_max = time_max.min(Duration::from_nanos(asked));
        }
        let least = |set: Option<u64>, asked: Option<u64>| match (set, asked) {
            (Some(set), Some(asked)) => Some(set.min(asked)),
            (set, asked) => set.or(asked),
        };
        let memory = least(Some(self.config.query_memory_bytes_max), args.number("max_memory")?);
        Ok(Budget {
            time_max,
            memory_bytes_max: memory.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX),
            bytes_max: least(self.config.query_bytes_max, args.number("max_bytes")?),
            rows_max: least(self.config.query_rows_max, args.number("max_rows")?),
            allow_partial: args.flag("allow_partial") || args.flag("allow_partial_response"),
        })
    }

    /// What is said of an answer that a budget cut short.
    pub(crate) fn partial_answer(&self, excess: &QueryError) -> String {
        self.hit_budget(excess);
        format!("not all records were looked at: {}", excess.message())
    }

    /// Counts a budget that is used up.
    fn hit_budget(&self, excess: &QueryError) {
        let limit = match excess.kind() {
            QueryErrorKind::BudgetTime => Limit::QueryTime,
            QueryErrorKind::BudgetMemory => Limit::QueryMemory,
            QueryErrorKind::BudgetBytes => Limit::QueryBytes,
            QueryErrorKind::BudgetRows => Limit::QueryRows,
            QueryErrorKind::BudgetTenant { .. } => Limit::TenantQueries,
            _ => return,
        };
        self.metrics.hit(limit);
    }

    /// A query's failure as an answer.
    pub(crate) fn query_failed(&self, error: &QueryError) -> ApiError {
        self.hit_budget(error);
        let message = error.message();
        let refused = |code| ApiError::new(StatusCode::BAD_REQUEST, code, message);
        // Not 5xx: the same query would fail again, so nobody should repeat it by itself.
        let too_costly = |code| ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, code, message);
        match error.kind() {
            QueryErrorKind::Parse { column } => refused("parse").with("column", column),
            QueryErrorKind::Invalid => refused("invalid"),
            QueryErrorKind::NotFound => ApiError::new(StatusCode::NOT_FOUND, "not_found", message),
            QueryErrorKind::BudgetTime => too_costly("query_time"),
            QueryErrorKind::BudgetMemory => too_costly("query_memory"),
            QueryErrorKind::BudgetBytes => too_costly("query_bytes"),
            QueryErrorKind::BudgetRows => too_costly("query_rows"),
            QueryErrorKind::BudgetTenant { retry_after_s } => {
                ApiError::overloaded(message, retry_after_s)
            }
            QueryErrorKind::Damaged => {
                ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "damaged", message)
            }
            QueryErrorKind::Internal => ApiError::internal(message),
        }
    }
}

/// A query that runs; dropping it gives its place back and records how long it took.
pub(crate) struct Running {
    metrics: Arc<Metrics>,
    endpoint: &'static str,
    started: Instant,
    _place: Share,
}

impl Running {
    /// Time since the query came in.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.metrics.queries_running.dec();
        self.metrics.query_took(self.endpoint, self.started.elapsed());
    }
}

/// A live tail that is open; dropping it gives its place back.
pub(crate) struct OpenTail {
    metrics: Arc<Metrics>,
    _place: OwnedSemaphorePermit,
}

impl Drop for OpenTail {
    fn drop(&mut self) {
        self.metrics.tails_open.dec();
    }
}

/// Nanoseconds since 1970 by the wall clock.
pub(crate) fn now_ns() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.ok().and_then(|d| i64::try_from(d.as_nanos()).ok()).unwrap_or(0)
}
