//! The query engine: admits a query, takes its snapshot, runs it on threads of its own.
//!
//! Invariants:
//! - queries run on the engine's own runtime, so that a heavy query never starves the callers'
//!   (commits, health checks);
//! - at most [`EngineLimits::queries_max`] queries run at once; the others wait within their own
//!   time budget.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use arrow::record_batch::RecordBatch;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::DataFrame;
use datafusion_distributed::Worker;
use futures::{FutureExt, StreamExt};
use lodge_record::TenantId;
use lodge_store::Store;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::budget::{ProcessMemory, QueryControl, QueryMemory, ReadCounters};
use crate::cluster::{self, Among, Away, Cluster, Kit};
use crate::error::{QueryError, QueryErrorKind};
use crate::explain::{Explanation, explanation};
use crate::plan::Functions;
use crate::request::{Budget, LogsqlRequest, SqlRequest, View};
use crate::scan::{Reach, Source, Types, on_runtime};
use crate::session::{Sessions, task_context};
use crate::stream::{Beginning, QueryStream, Step};
use crate::subqueries::{Asked, Understood, asked};
use crate::tail::TailQuery;
use crate::tenant::{TenantLimits, Tenants};
use crate::{logsql, plan, sql, tail};

/// Batches that may wait between the query and its reader.
const BATCHES_READY_MAX: usize = 2;

/// How often a query is planned anew because a field turned out to hold text.
const CLASHES_MAX: usize = 8;
/// Fields that are remembered to hold text.
const TEXT_FIELDS_MAX: usize = 4_096;

/// What all queries together may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineLimits {
    /// Bytes held by all running queries together.
    pub memory_bytes_max: usize,
    /// Queries that run at once.
    pub queries_max: usize,
    /// Threads that queries run on.
    pub threads: usize,
    /// What the queries of each tenant may take together.
    pub tenant: TenantLimits,
}

/// What the queries of an engine have done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EngineStats {
    /// Blocks that were looked at.
    pub blocks_read: u64,
    /// Blocks of opened segments that need not be looked at: indexes or times said so.
    pub blocks_skipped: u64,
    /// Records of the blocks that were looked at.
    pub rows_read: u64,
    /// Bytes that queries were charged with: see [`Budget::bytes_max`].
    pub bytes_read: u64,
    /// Answers that were marked as partial.
    pub partial_answers: u64,
    /// Parts of queries that other servers were asked to do.
    pub tasks_sent: u64,
    /// Those of them that they did not do, so that they were done here.
    pub tasks_lost: u64,
    /// Parts of other servers' queries that were done here.
    pub tasks_done: u64,
    /// Those that are being done.
    pub tasks_running: u64,
}

impl Default for EngineLimits {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        let tenant = TenantLimits::default();
        Self { memory_bytes_max: 1 << 30, queries_max: 32, threads, tenant }
    }
}

/// Answers queries over one [`Store`].
#[derive(Debug)]
pub struct Engine {
    store: Arc<Store>,
    limits: EngineLimits,
    memory: Arc<ProcessMemory>,
    environment: Arc<RuntimeEnv>,
    sessions: Sessions,
    text_fields: TextFields,
    tenants: Tenants,
    counters: Arc<ReadCounters>,
    running: Arc<Semaphore>,
    /// Places of what is done for other servers.
    tasks: Arc<Semaphore>,
    functions: Arc<Functions>,
    /// The servers that work on queries together, if there are others.
    among: RwLock<Option<Arc<Among>>>,
    away: Away,
    runtime: Option<tokio::runtime::Runtime>,
}

/// One admitted query: its place among the running ones, its clock and its memory.
pub(crate) struct Admitted {
    pub(crate) control: Arc<QueryControl>,
    pub(crate) partitions: usize,
    environment: Arc<RuntimeEnv>,
    permit: OwnedSemaphorePermit,
}

/// A SQL query on its way.
struct PlannedSql {
    state: SessionState,
    plan: LogicalPlan,
    /// Whether fields may be where every value is text.
    spilled: bool,
}

impl Admitted {
    /// What its parts may take of memory.
    pub(crate) fn memory(&self) -> Arc<dyn MemoryPool> {
        self.environment.memory_pool.clone()
    }
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
        let sessions = Sessions::new(&environment, limits.threads.max(1));
        Arc::new(Self {
            store,
            limits,
            memory: ProcessMemory::new(limits.memory_bytes_max),
            functions: Arc::new(Functions::new(sessions.functions().clone())),
            sessions,
            tasks: Arc::new(Semaphore::new(limits.queries_max.max(1))),
            among: RwLock::default(),
            away: Away::default(),
            text_fields: TextFields::default(),
            tenants: Tenants::new(limits.tenant),
            counters: Arc::default(),
            environment,
            running: Arc::new(Semaphore::new(limits.queries_max.max(1))),
            runtime: Some(runtime),
        })
    }

    /// Says which servers work on queries together from now on; without others, none is asked.
    pub fn join(&self, cluster: Cluster) {
        let among = Among::new(cluster, Arc::clone(&self.away), Arc::clone(&self.functions));
        *self.among.write().unwrap_or_else(PoisonError::into_inner) = among;
    }

    /// What does the tasks that other servers send. Who reaches it may read every tenant's records:
    /// whoever serves it looks at who asks.
    pub fn worker(self: &Arc<Self>) -> Worker {
        cluster::worker(self, Arc::clone(&self.environment))
    }

    /// What tasks are done with.
    pub(crate) fn kit(&self) -> Kit {
        Kit {
            store: Arc::clone(&self.store),
            memory: Arc::clone(&self.memory),
            counters: Arc::clone(&self.counters),
            partitions: self.limits.threads.max(1),
            places: Arc::clone(&self.tasks),
            functions: Arc::clone(&self.functions),
            runtime: self.runtime().clone(),
        }
    }

    /// Rows of a LogsQL query.
    ///
    /// Columns: of plain records those of the record shape (`_time`, `_stream`, `_msg`, the other
    /// fields by name); after a pipe what the pipe makes. Rows come in the order that the query asks
    /// for; with [`LogsqlRequest::limit`] newest first; else in no order.
    pub async fn logsql(&self, request: LogsqlRequest) -> Result<QueryStream, QueryError> {
        let understood = self.understood(&request.query, asked!(request, now_ns)).await?;
        let page = plan::Page { limit: request.limit, offset: request.offset.unwrap_or(0) };
        self.run_understood(&request.view, &understood, page).await
    }

    /// Runs a query that has no open questions.
    pub(crate) async fn run_understood(
        &self,
        view: &View,
        understood: &Understood,
        page: plan::Page,
    ) -> Result<QueryStream, QueryError> {
        let (admitted, source) = self.ready(view, understood).await?;
        self.run_logsql(admitted, source, &understood.query, page).await
    }

    /// A query's place among the running ones, and what it reads.
    pub(crate) async fn ready(
        &self,
        view: &View,
        understood: &Understood,
    ) -> Result<(Admitted, Source), QueryError> {
        let Understood { query, start_ns, end_ns, budget } = understood;
        let admitted = self.admit(view, budget, query.options).await?;
        let source = self.source_of(view, *start_ns, *end_ns, query, &admitted).await?;
        Ok((admitted, source))
    }

    /// Answers two questions that no record matches, so that the first one that matters does not wait
    /// for what only a first one needs: code read from disk, threads, tables, memory.
    pub async fn warm_up(&self) -> Result<(), QueryError> {
        for query in ["level:=error a | stats by (level) count() n", "a | sort by (_time desc)"] {
            let mut rows = self
                .logsql(LogsqlRequest {
                    view: View::default(),
                    query: query.to_owned(),
                    start_ns: Some(0),
                    end_ns: Some(1),
                    limit: Some(1),
                    offset: None,
                    now_ns: 1,
                    budget: Budget::default(),
                })
                .await?;
            while rows.next().await.transpose()?.is_some() {}
        }
        Ok(())
    }

    /// Rows of a SQL query over the table `logs`, whose columns are the fields of the tenant's
    /// records in the time range.
    pub async fn sql(&self, request: SqlRequest) -> Result<QueryStream, QueryError> {
        sql::check_length(&request.query)?;
        for _ in 0..CLASHES_MAX {
            let (stream, spilled) = self.sql_once(&request).await?;
            if !spilled {
                return Ok(stream);
            }
            match stream.next_error().and_then(QueryError::clash) {
                Some(field) => self.text_fields.remember(&request.view.tenant, field),
                None => return Ok(stream),
            }
        }
        self.sql_once(&request).await.map(|(stream, _)| stream)
    }

    /// The rows, and whether fields may be where every value is text.
    async fn sql_once(&self, request: &SqlRequest) -> Result<(QueryStream, bool), QueryError> {
        let (admitted, planned) = self.plan_sql(request).await?;
        let stream = self.run(admitted, planned.state, planned.plan).await?;
        Ok((stream, planned.spilled))
    }

    async fn plan_sql(&self, request: &SqlRequest) -> Result<(Admitted, PlannedSql), QueryError> {
        let options = logsql::Options::default();
        let admitted = self.admit(&request.view, &request.budget, options).await?;
        let all = lodge_segment::predicate::Predicate::All;
        let source =
            self.source(&request.view, request.start_ns, request.end_ns, &all, &admitted).await?;
        let spilled = source.snapshot.schema().index_of(lodge_record::field::OVERFLOW).is_ok();
        let texts = self.text_fields.of(&request.view.tenant);
        let mut types = Types { own: true, texts, ..Types::default() };
        let functions = self.sessions.functions();
        let (runtime, query) = (self.runtime(), request.query.as_str());
        let plan =
            sql::query_plan(functions, &admitted, runtime, source, query, &mut types).await?;
        let state = self.sessions.sql(&plan)?;
        Ok((admitted, PlannedSql { state, plan, spilled }))
    }

    /// What [`Engine::logsql`] would read for `request`, and how. The queries inside its filters are
    /// answered, as what the query around them reads depends on it.
    pub async fn explain_logsql(&self, request: LogsqlRequest) -> Result<Explanation, QueryError> {
        let understood = self.understood(&request.query, asked!(request, now_ns)).await?;
        let (admitted, source) = self.ready(&request.view, &understood).await?;
        let page = plan::Page { limit: request.limit, offset: request.offset.unwrap_or(0) };
        let frame = self.frame(&admitted, source, &understood.query, page)?;
        let (state, plan) = frame.into_parts();
        self.explain(&request.view, admitted, state, plan).await
    }

    /// What [`Engine::sql`] would read for `request`, and how.
    pub async fn explain_sql(&self, request: SqlRequest) -> Result<Explanation, QueryError> {
        sql::check_length(&request.query)?;
        let (admitted, planned) = self.plan_sql(&request).await?;
        self.explain(&request.view, admitted, planned.state, planned.plan).await
    }

    async fn explain(
        &self,
        view: &View,
        admitted: Admitted,
        state: SessionState,
        plan: LogicalPlan,
    ) -> Result<Explanation, QueryError> {
        // Who may see some records only is not told how many there are.
        let all = match view.is_whole() {
            true => Some(self.store.snapshot(&view.tenant, None).await?),
            false => None,
        };
        let control = Arc::clone(&admitted.control);
        let work = async move {
            let _held = admitted;
            let plan = state.create_physical_plan(&plan).await?;
            explanation(plan, all.as_deref()).await.map(Some)
        };
        // Without an answer in time there is an error: half an estimate is none.
        let explained = on_runtime(self.runtime(), &control, work).await?;
        match (explained, control.partial()) {
            (Some(explained), None) => Ok(explained),
            (_, Some(excess)) => Err(excess.clone()),
            (None, None) => Err(QueryError::internal("the query was not explained")),
        }
    }

    /// What all queries have done so far.
    pub fn stats(&self) -> EngineStats {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        EngineStats {
            blocks_read: of(&counters.blocks),
            blocks_skipped: of(&counters.blocks_skipped),
            rows_read: of(&counters.rows),
            bytes_read: of(&counters.bytes),
            partial_answers: of(&counters.partial_answers),
            tasks_sent: of(&counters.tasks_sent),
            tasks_lost: of(&counters.tasks_lost),
            tasks_done: of(&counters.tasks_done),
            tasks_running: (self.limits.queries_max.max(1) - self.tasks.available_permits()) as u64,
        }
    }

    /// A filter for live records. Only filters and the pipes that work record by record are
    /// allowed.
    pub fn tail(&self, view: &View, query: &str, now_ns: i64) -> Result<TailQuery, QueryError> {
        tail::compile(view, query, now_ns)
    }

    pub(crate) async fn admit(
        &self,
        view: &View,
        budget: &Budget,
        options: logsql::Options,
    ) -> Result<Admitted, QueryError> {
        let tenant = self.tenants.of(&view.tenant);
        if let Some(excess) = tenant.excess() {
            return Err(excess);
        }
        let memory = QueryMemory::new(&self.memory, &tenant, budget.memory_bytes_max);
        let counters = Arc::clone(&self.counters);
        let control = QueryControl::start(budget, Arc::clone(&memory), tenant, counters);
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
        let mut environment = self.environment.as_ref().clone();
        environment.memory_pool = memory;
        let environment = Arc::new(environment);
        let threads = self.limits.threads.max(1);
        let partitions = options.concurrency.map_or(threads, |parts| parts.clamp(1, threads));
        Ok(Admitted { control, partitions, environment, permit })
    }

    async fn source(
        &self,
        view: &View,
        start_ns: Option<i64>,
        end_ns: Option<i64>,
        predicate: &lodge_segment::predicate::Predicate,
        admitted: &Admitted,
    ) -> Result<Source, QueryError> {
        let query = logsql::Query::new(predicate.clone(), Vec::new());
        self.source_of(view, start_ns, end_ns, &query, admitted).await
    }

    /// What `query` reads, and the queries within it.
    async fn source_of(
        &self,
        view: &View,
        start_ns: Option<i64>,
        end_ns: Option<i64>,
        query: &logsql::Query,
        admitted: &Admitted,
    ) -> Result<Source, QueryError> {
        let start = start_ns.unwrap_or(i64::MIN);
        // Half open outside, inclusive inside; an end at the beginning of time matches nothing.
        let last = match end_ns {
            Some(end) => end.checked_sub(1),
            None => Some(i64::MAX),
        };
        let all = view.bounded(lodge_segment::predicate::Predicate::All);
        let reach = Reach::new(all, last.map(|last| (start, last)));
        let snapshot = match reach.time_bounds(query) {
            Some(time) => self.store.snapshot(&view.tenant, Some(time)).await?,
            None => self.store.snapshot(&view.tenant, Some((i64::MAX, i64::MAX))).await?,
        };
        let control = admitted.control.clone();
        let among = self.among.read().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(Source::new(self.store.clone(), snapshot, query, reach, control).among(among))
    }

    pub(crate) async fn run_logsql(
        &self,
        admitted: Admitted,
        source: Source,
        query: &logsql::Query,
        page: plan::Page,
    ) -> Result<QueryStream, QueryError> {
        let frame = self.frame(&admitted, source, query, page)?;
        let (state, plan) = frame.into_parts();
        self.run(admitted, state, plan).await
    }

    fn frame(
        &self,
        admitted: &Admitted,
        source: Source,
        query: &logsql::Query,
        page: plan::Page,
    ) -> Result<DataFrame, QueryError> {
        let state = self.sessions.logsql();
        plan::query_frame(state, admitted.partitions, source, query, page)
    }

    /// Plans and starts `plan` on the engine's threads.
    async fn run(
        &self,
        admitted: Admitted,
        state: SessionState,
        plan: LogicalPlan,
    ) -> Result<QueryStream, QueryError> {
        let Admitted { control, environment, permit, .. } = admitted;
        let (sender, receiver) = mpsc::channel(BATCHES_READY_MAX);
        let (begun, beginning) = oneshot::channel();
        // One task plans and runs: a small question needs no second change of threads.
        let driver = self.runtime().spawn(async move {
            // The permit lives as long as the work.
            let _held = permit;
            let context = Arc::new(task_context(&state, &environment));
            match state.create_physical_plan(&plan).await {
                Ok(plan) => {
                    // The plan stays while it runs, the rest of planning need not.
                    drop(state);
                    drive(plan, context, begun, sender).await;
                }
                // Nobody listens to the error of a query that nobody waits for.
                Err(error) => drop(begun.send(Err(QueryError::from(error)))),
            }
        });
        let abort = AbortOnDrop(driver.abort_handle());
        let deadline = tokio::time::Instant::from_std(control.hard_deadline());
        let Ok(answer) = tokio::time::timeout_at(deadline, beginning).await else {
            return Err(control.overdue().unwrap_or_else(|| {
                QueryError::new(
                    QueryErrorKind::BudgetTime,
                    "the query gave nothing within its time budget, not even a part of an answer; \
                     raise the timeout",
                )
            }));
        };
        let beginning = match answer {
            Ok(beginning) => beginning?,
            // The task ended without a word: its own end tells why.
            Err(_) => match driver.await {
                Ok(()) => return Err(QueryError::internal("the query did not begin")),
                Err(error) => return Err(died(error)),
            },
        };
        Ok(QueryStream::new(beginning, receiver, abort, control))
    }

    pub(crate) fn runtime(&self) -> &tokio::runtime::Handle {
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

/// Fields that hold text in some records though their columns are of another type.
#[derive(Debug, Default)]
struct TextFields(Mutex<BTreeSet<(TenantId, String)>>);

impl TextFields {
    fn with<T>(&self, run: impl FnOnce(&mut BTreeSet<(TenantId, String)>) -> T) -> T {
        run(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn remember(&self, tenant: &TenantId, field: &str) {
        self.with(|fields| {
            if fields.len() >= TEXT_FIELDS_MAX {
                fields.clear();
            }
            fields.insert((tenant.clone(), field.to_owned()));
        });
    }

    fn of(&self, tenant: &TenantId) -> BTreeSet<String> {
        self.with(|fields| {
            let own = fields.iter().filter(|(of, _)| of == tenant);
            own.map(|(_, field)| field.clone()).collect()
        })
    }
}

/// Ends a task when it goes.
#[derive(Debug)]
pub(crate) struct AbortOnDrop(tokio::task::AbortHandle);

impl AbortOnDrop {
    pub(crate) fn of<T>(task: &tokio::task::JoinHandle<T>) -> Self {
        Self(task.abort_handle())
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Sends a plan's batches until it ends, fails or nobody listens.
async fn drive(
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<datafusion::execution::TaskContext>,
    begun: oneshot::Sender<Result<Beginning, QueryError>>,
    sender: mpsc::Sender<Step>,
) {
    let schema = plan.schema();
    let mut rows = match execute_stream(plan, context) {
        Ok(rows) => rows,
        Err(error) => {
            let _ = begun.send(Err(error.into()));
            return;
        }
    };
    let mut steps = VecDeque::from([step(rows.next().await)]);
    // An answer of one batch is whole now.
    if let (Some(Step::Item(Ok(_))), Some(more)) = (steps.back(), rows.next().now_or_never()) {
        steps.push_back(step(more));
    }
    let goes_on = matches!(steps.back(), Some(Step::Item(Ok(_))));
    if begun.send(Ok(Beginning { schema, steps })).is_err() || !goes_on {
        return;
    }
    loop {
        let next = step(rows.next().await);
        let goes_on = matches!(next, Step::Item(Ok(_)));
        if sender.send(next).await.is_err() || !goes_on {
            return;
        }
    }
}

fn step(next: Option<datafusion::error::Result<RecordBatch>>) -> Step {
    match next {
        Some(item) => Step::Item(item.map_err(QueryError::from)),
        None => Step::End,
    }
}

/// A task of ours that ended without an answer.
pub(crate) fn died(error: tokio::task::JoinError) -> QueryError {
    QueryError::internal(format!("the query's task ended early: {error}"))
}
