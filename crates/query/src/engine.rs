//! The query engine: admits a query, takes its snapshot, runs it on threads of its own.
//!
//! Invariants:
//! - queries run on the engine's own runtime, so that a heavy query never starves the callers'
//!   (commits, health checks);
//! - at most [`EngineLimits::queries_max`] queries run at once; the others wait within their own
//!   time budget.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};
use futures::StreamExt;
use lodge_record::TenantId;
use lodge_store::{Snapshot, Store};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::budget::{ProcessMemory, QueryControl, QueryMemory};
use crate::error::{QueryError, QueryErrorKind};
use crate::request::{
    Budget, FieldsRequest, HitsGroup, HitsRequest, LogsqlRequest, SqlRequest, StatsRangeRequest,
    StatsRequest, StatsSample, StatsSeries, ValueHits,
};
use crate::scan::Source;
use crate::stream::QueryStream;
use crate::tail::TailQuery;
use crate::{discover, hits, logsql, plan, sql, stats_query, tail};

/// Batches that may wait between the query and its reader.
const BATCHES_READY_MAX: usize = 2;

/// What all queries together may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineLimits {
    /// Bytes held by all running queries together.
    pub memory_bytes_max: usize,
    /// Queries that run at once.
    pub queries_max: usize,
    /// Threads that queries run on.
    pub threads: usize,
}

impl Default for EngineLimits {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        Self { memory_bytes_max: 1 << 30, queries_max: 32, threads }
    }
}

/// Answers queries over one [`Store`].
#[derive(Debug)]
pub struct Engine {
    store: Arc<Store>,
    limits: EngineLimits,
    memory: Arc<ProcessMemory>,
    environment: Arc<RuntimeEnv>,
    running: Arc<Semaphore>,
    runtime: Option<tokio::runtime::Runtime>,
}

/// One admitted query: its place among the running ones, its clock and its DataFusion session.
pub(crate) struct Admitted {
    pub(crate) control: Arc<QueryControl>,
    pub(crate) session: SessionContext,
    pub(crate) partitions: usize,
    permit: OwnedSemaphorePermit,
}

impl Engine {
    /// An engine over `store` that stays within `limits`.
    ///
    /// # Panics
    /// If the operating system gives no threads; a server cannot start without them.
    pub fn new(store: Arc<Store>, limits: EngineLimits) -> Arc<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(limits.threads.max(1))
            .thread_name("lodge-query")
            // Blocks are read and decoded there, about one per partition of a query at a time.
            .max_blocking_threads(64)
            .enable_all()
            .build()
            .expect("the operating system gives no threads to the query engine");
        let disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
        let environment = RuntimeEnvBuilder::new()
            .with_disk_manager_builder(disk)
            .build_arc()
            .expect("a runtime environment without files cannot fail to build");
        Arc::new(Self {
            store,
            limits,
            memory: ProcessMemory::new(limits.memory_bytes_max),
            environment,
            running: Arc::new(Semaphore::new(limits.queries_max.max(1))),
            runtime: Some(runtime),
        })
    }

    /// Rows of a LogsQL query.
    ///
    /// Columns: of plain records those of the record shape (`_time`, `_stream`, `_msg`, the other
    /// fields by name); after a pipe what the pipe makes. Rows come in the order that the query asks
    /// for; with [`LogsqlRequest::limit`] newest first; else in no order.
    pub async fn logsql(&self, request: LogsqlRequest) -> Result<QueryStream, QueryError> {
        let query = logsql::parse(&request.query, request.now_ns)?;
        let admitted = self.admit(&request.budget).await?;
        let source = self
            .source(&request.tenant, request.start_ns, request.end_ns, &query.predicate, &admitted)
            .await?;
        let page = plan::Page { limit: request.limit, offset: request.offset.unwrap_or(0) };
        let frame = plan::query_frame(&admitted, source, &query, page)?;
        self.run(admitted, frame).await
    }

    /// Rows of a SQL query over the table `logs`, whose columns are the fields of the tenant's
    /// records in the time range.
    pub async fn sql(&self, request: SqlRequest) -> Result<QueryStream, QueryError> {
        sql::check_length(&request.query)?;
        let admitted = self.admit(&request.budget).await?;
        let source = self
            .source(
                &request.tenant,
                request.start_ns,
                request.end_ns,
                &lodge_segment::predicate::Predicate::All,
                &admitted,
            )
            .await?;
        let frame = sql::query_frame(&admitted, source, &request.query).await?;
        self.run(admitted, frame).await
    }

    /// Matching records per time bucket (and per combination of fields' values).
    pub async fn hits(&self, request: HitsRequest) -> Result<Vec<HitsGroup>, QueryError> {
        let query = logsql::parse(&request.query, request.now_ns)?;
        let admitted = self.admit(&request.budget).await?;
        let predicate = plan::row_predicate(&query, "hits")?;
        let source = self
            .source(&request.tenant, request.start_ns, request.end_ns, &predicate, &admitted)
            .await?;
        hits::hits(self.runtime(), &admitted, source, &request).await
    }

    /// The results of a query that ends in a `stats` pipe, as Prometheus-like samples.
    pub async fn stats_query(&self, request: StatsRequest) -> Result<Vec<StatsSample>, QueryError> {
        let query = logsql::parse(&request.query, request.time_ns)?;
        let labels = stats_query::shape(&query)?;
        let admitted = self.admit(&request.budget).await?;
        let source = self
            .source(&request.tenant, request.start_ns, request.end_ns, &query.predicate, &admitted)
            .await?;
        let frame = plan::query_frame(&admitted, source, &query, plan::Page::default())?;
        let rows = self.run(admitted, frame).await?.collect().await?;
        stats_query::samples(&labels, &rows)
    }

    /// The results of a query that ends in a `stats` pipe, per time bucket, as series.
    pub async fn stats_query_range(
        &self,
        request: StatsRangeRequest,
    ) -> Result<Vec<StatsSeries>, QueryError> {
        let mut query = logsql::parse(&request.query, request.now_ns)?;
        let labels = stats_query::shape(&query)?;
        stats_query::add_time_bucket(&mut query, request.step_ns, request.offset_ns)?;
        let admitted = self.admit(&request.budget).await?;
        let source = self
            .source(&request.tenant, request.start_ns, request.end_ns, &query.predicate, &admitted)
            .await?;
        let frame = plan::query_frame(&admitted, source, &query, plan::Page::default())?;
        let rows = self.run(admitted, frame).await?.collect().await?;
        stats_query::series(&labels, &rows)
    }

    /// The names of fields in matching records; `hits` are exact while few records match, and
    /// beyond that an upper bound (see `discover`).
    pub async fn field_names(&self, request: FieldsRequest) -> Result<Vec<ValueHits>, QueryError> {
        let (admitted, source) = self.fields_source(&request).await?;
        discover::field_names(self.runtime(), &admitted, source, request.limit).await
    }

    /// The non-empty values of `field` in matching records.
    pub async fn field_values(
        &self,
        request: FieldsRequest,
        field: &str,
    ) -> Result<Vec<ValueHits>, QueryError> {
        let (admitted, source) = self.fields_source(&request).await?;
        discover::field_values(self.runtime(), &admitted, source, field, request.limit).await
    }

    /// The streams of matching records, as canonical text.
    pub async fn streams(&self, request: FieldsRequest) -> Result<Vec<ValueHits>, QueryError> {
        self.field_values(request, lodge_record::field::STREAM).await
    }

    /// A filter for live records. Only filters and the pipes that work record by record are
    /// allowed.
    pub fn tail(&self, query: &str, now_ns: i64) -> Result<TailQuery, QueryError> {
        tail::compile(query, now_ns)
    }

    async fn fields_source(
        &self,
        request: &FieldsRequest,
    ) -> Result<(Admitted, Source), QueryError> {
        let query = logsql::parse(&request.query, request.now_ns)?;
        let predicate = plan::row_predicate(&query, "a question about fields")?;
        let admitted = self.admit(&request.budget).await?;
        let source = self
            .source(&request.tenant, request.start_ns, request.end_ns, &predicate, &admitted)
            .await?;
        Ok((admitted, source))
    }

    async fn admit(&self, budget: &Budget) -> Result<Admitted, QueryError> {
        let control = QueryControl::start(budget);
        let waiting = self.running.clone().acquire_owned();
        let permit = tokio::time::timeout(budget.time_max, waiting)
            .await
            .map_err(|_| {
                QueryError::new(
                    QueryErrorKind::BudgetTime,
                    format!(
                        "{} queries are running already and none ended within {:?}; try again later",
                        self.limits.queries_max, budget.time_max
                    ),
                )
            })?
            .map_err(|_| QueryError::internal("the query engine is shutting down"))?;
        let partitions = self.limits.threads.max(1);
        let session = self.session(budget, partitions)?;
        Ok(Admitted { control, session, partitions, permit })
    }

    fn session(&self, budget: &Budget, partitions: usize) -> Result<SessionContext, QueryError> {
        let memory = QueryMemory::new(&self.memory, budget.memory_bytes_max);
        let environment = RuntimeEnvBuilder::from_runtime_env(&self.environment)
            .with_memory_pool(memory)
            .build_arc()?;
        let mut config = SessionConfig::new()
            .with_target_partitions(partitions)
            .with_information_schema(false)
            .with_create_default_catalog_and_schema(true);
        let options = config.options_mut();
        // Field names are case sensitive.
        options.sql_parser.enable_ident_normalization = false;
        // There is no disk to spill to, so nothing has to be set aside for merging spills.
        options.execution.sort_spill_reservation_bytes = 0;
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(environment)
            .with_default_features()
            .build();
        Ok(SessionContext::new_with_state(state))
    }

    async fn source(
        &self,
        tenant: &TenantId,
        start_ns: Option<i64>,
        end_ns: Option<i64>,
        predicate: &lodge_segment::predicate::Predicate,
        admitted: &Admitted,
    ) -> Result<Source, QueryError> {
        let start = start_ns.unwrap_or(i64::MIN);
        // Half open outside, inclusive inside; an end at the beginning of time matches nothing.
        let last = match end_ns {
            Some(end) => end.checked_sub(1),
            None => Some(i64::MAX),
        };
        let predicate = match last {
            Some(last) => predicate.clone().within(start, last),
            None => lodge_segment::predicate::Predicate::None,
        };
        let time = predicate.time_bounds();
        let snapshot: Snapshot = match time {
            Some(time) => self.store.snapshot(tenant, Some(time)).await?,
            None => self.store.snapshot(tenant, Some((i64::MAX, i64::MAX))).await?,
        };
        Ok(Source::new(self.store.clone(), snapshot, predicate, admitted.control.clone()))
    }

    /// Plans and starts `frame` on the engine's threads.
    async fn run(&self, admitted: Admitted, frame: DataFrame) -> Result<QueryStream, QueryError> {
        let Admitted { control, session, permit, .. } = admitted;
        let planning = self.runtime().spawn(async move {
            let context = frame.task_ctx();
            let plan = frame.create_physical_plan().await?;
            Ok::<_, QueryError>((plan, context))
        });
        // Planning is short, but a hostile query can make it long: the deadline holds here too.
        let abort = planning.abort_handle();
        let deadline = tokio::time::Instant::from_std(control.hard_deadline());
        let planned = tokio::time::timeout_at(deadline, planning).await;
        let Ok(joined) = planned else {
            abort.abort();
            return Err(control.overdue().unwrap_or_else(|| {
                QueryError::new(
                    QueryErrorKind::BudgetTime,
                    "the query could not be planned in time",
                )
            }));
        };
        let (plan, context) = joined.map_err(died)??;
        let schema: SchemaRef = plan.schema();
        let (sender, receiver) = mpsc::channel(BATCHES_READY_MAX);
        let driver = self.runtime().spawn(async move {
            // The permit and the session live as long as the work.
            let _held = (permit, session);
            drive(plan, Arc::new(context), sender).await;
        });
        Ok(QueryStream::new(schema, receiver, driver.abort_handle(), control))
    }

    fn runtime(&self) -> &tokio::runtime::Handle {
        // `None` only inside `drop`.
        self.runtime.as_ref().expect("the runtime lives as long as the engine").handle()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // The engine may be dropped by a task of another runtime, where waiting is forbidden.
            runtime.shutdown_background();
        }
    }
}

/// Sends a plan's batches until it ends, fails or nobody listens.
async fn drive(
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<datafusion::execution::TaskContext>,
    sender: mpsc::Sender<Result<arrow::record_batch::RecordBatch, QueryError>>,
) {
    let mut rows = match execute_stream(plan, context) {
        Ok(rows) => rows,
        Err(error) => {
            let _ = sender.send(Err(error.into())).await;
            return;
        }
    };
    while let Some(item) = rows.next().await {
        let item = item.map_err(QueryError::from);
        let failed = item.is_err();
        if matches!(&item, Ok(batch) if batch.num_rows() == 0) {
            continue;
        }
        if sender.send(item).await.is_err() || failed {
            return;
        }
    }
}

/// A task of ours that ended without an answer.
pub(crate) fn died(error: tokio::task::JoinError) -> QueryError {
    QueryError::internal(format!("the query's task ended early: {error}"))
}
