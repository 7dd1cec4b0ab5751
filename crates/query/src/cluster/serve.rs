//! Doing another server's part of a query.
//!
//! Invariants: a task runs on the engine's own threads, within its own budget and the process's
//! memory; it waits for no place among the running ones, as the servers would wait for each other: it
//! is refused, and who asked does the work; its stream's end is its end.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
    SendableRecordBatchStream,
};
use datafusion_distributed::{
    DistributedExt, Worker, WorkerPlanRewriteEvent, WorkerPlanRewriteEventResponse,
    WorkerQueryContext,
};
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalProtoConverterExtension};
use lodge_record::TenantId;
use lodge_store::Store;
use tokio::sync::{Semaphore, mpsc};

use super::frames::{self, End, Frame};
use super::task::{Task, Work};
use crate::budget::{ProcessMemory, QueryControl, QueryMemory, ReadCounters};
use crate::engine::{AbortOnDrop, Engine};
use crate::error::QueryError;
use crate::plan::Functions;
use crate::scan::{self, Source};
use crate::tenant::{TenantLimits, Tenants};

/// How often a task says that it goes on.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);
/// Frames that may wait for the network.
const FRAMES_READY_MAX: usize = 2;

/// What tasks are done with.
#[derive(Debug, Clone)]
pub(crate) struct Kit {
    pub(crate) store: Arc<Store>,
    pub(crate) memory: Arc<ProcessMemory>,
    pub(crate) counters: Arc<ReadCounters>,
    pub(crate) partitions: usize,
    /// Places of tasks.
    pub(crate) places: Arc<Semaphore>,
    pub(crate) functions: Arc<Functions>,
    pub(crate) runtime: tokio::runtime::Handle,
}

/// Where frames go.
#[derive(Debug, Clone)]
pub(crate) struct Out(mpsc::Sender<RecordBatch>);

impl Out {
    /// Hands a frame on; whether anybody still wants it.
    pub(crate) async fn send(&self, frame: &Frame) -> Result<bool, QueryError> {
        Ok(self.0.send(frame.encode()?).await.is_ok())
    }
}

impl Kit {
    fn stream(&self, task: &Arc<[u8]>) -> SendableRecordBatchStream {
        let (sender, receiver) = mpsc::channel(FRAMES_READY_MAX);
        let (kit, task) = (self.clone(), Arc::clone(task));
        let serving = self.runtime.spawn(async move { kit.serve(&task, Out(sender)).await });
        let held = (receiver, AbortOnDrop::of(&serving));
        let frames = futures::stream::unfold(held, |(mut receiver, serving)| async move {
            let frame = receiver.recv().await?;
            Some((Ok(frame), (receiver, serving)))
        });
        Box::pin(RecordBatchStreamAdapter::new(frames::schema(), frames))
    }

    async fn serve(self, task: &[u8], out: Out) {
        let last = match self.answer(task, &out).await {
            Ok(end) => Frame::End(end),
            Err(error) => Frame::Failed(error),
        };
        if let Err(error) = out.send(&last).await {
            tracing::warn!(%error, "a task's end cannot be told");
        }
    }

    async fn answer(self, task: &[u8], out: &Out) -> Result<End, QueryError> {
        let places = Arc::clone(&self.places);
        let _place = places
            .try_acquire()
            .map_err(|_| QueryError::internal("it has as many tasks as it takes"))?;
        let task = Task::decode(task)?;
        let budget = task.budget();
        // Who asked charges the tenant.
        let tenant = Tenants::new(TenantLimits::default()).of(&TenantId::default());
        let memory = QueryMemory::new(&self.memory, &tenant, budget.memory_bytes_max);
        let counters = Arc::clone(&self.counters);
        let control = QueryControl::start(&budget, Arc::clone(&memory), tenant, counters);
        let snapshot = Arc::new(task.snapshot()?);
        let predicate = task.predicate().clone();
        let source = Source::sent(self.store.clone(), snapshot, predicate, control.clone());
        let work = self.work(&task.work, source, memory, out);
        tokio::pin!(work);
        let mut progress = tokio::time::interval(PROGRESS_EVERY);
        progress.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        progress.reset();
        loop {
            tokio::select! {
                done = &mut work => {
                    done?;
                    break;
                }
                _ = progress.tick() => {
                    // Where frames wait already, the other side hears enough.
                    let frame = Frame::Progress(control.done().into()).encode()?;
                    drop(out.0.try_send(frame));
                }
            }
        }
        self.counters.tasks_done.fetch_add(1, Ordering::Relaxed);
        let partial = control.partial().cloned();
        Ok(End { charged: control.done().into(), partial })
    }

    async fn work(
        &self,
        work: &Work,
        source: Source,
        pool: Arc<dyn MemoryPool>,
        out: &Out,
    ) -> Result<(), QueryError> {
        match work {
            Work::Rows(shape) => {
                scan::give_rows(source, shape.shape()?, self.partitions, &pool, out).await
            }
            Work::Newest { shape, rows, newest, bar } => {
                let top = scan::TopByTime { rows: *rows, newest: *newest };
                let shape = shape.shape()?;
                scan::give_newest(source, shape, self.partitions, (top, *bar), &pool, out).await
            }
            Work::Groups(sent) => {
                let grouping = Arc::new(sent.grouping(&self.functions)?);
                let limit = sent.limit();
                scan::give_groups(source, grouping, self.partitions, &pool, limit, out).await
            }
        }
    }
}

/// A task as a plan, which is how it travels.
pub(super) struct TaskExec {
    task: Arc<[u8]>,
    /// Who does it, where it has arrived.
    kit: Option<Kit>,
    properties: Arc<PlanProperties>,
}

impl TaskExec {
    pub(super) fn to_send(task: Vec<u8>) -> Self {
        Self::new(task.into(), None)
    }

    fn new(task: Arc<[u8]>, kit: Option<Kit>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(frames::schema()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { task, kit, properties: Arc::new(properties) }
    }
}

impl fmt::Debug for TaskExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Task({} bytes)", self.task.len())
    }
}

impl DisplayAs for TaskExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl ExecutionPlan for TaskExec {
    fn name(&self) -> &str {
        "Task"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, _: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        match &self.kit {
            Some(kit) => Ok(kit.stream(&self.task)),
            None => Err(DataFusionError::Internal("a task runs where it was sent".to_owned())),
        }
    }
}

/// Tasks as bytes.
#[derive(Debug, Default)]
pub(super) struct Codec {
    kit: Option<Kit>,
}

impl PhysicalExtensionCodec for Codec {
    fn try_decode(
        &self,
        task: &[u8],
        _: &[Arc<dyn ExecutionPlan>],
        _: &TaskContext,
        _: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(TaskExec::new(task.into(), self.kit.clone())))
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        bytes: &mut Vec<u8>,
        _: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        match node.downcast_ref::<TaskExec>() {
            Some(exec) => bytes.extend_from_slice(&exec.task),
            None => return Err(DataFusionError::Internal("only tasks are sent".to_owned())),
        }
        Ok(())
    }
}

/// A plan that is no task is not run, whatever it would read.
fn only_tasks(event: WorkerPlanRewriteEvent<'_>) -> Result<WorkerPlanRewriteEventResponse> {
    match event.plan.is::<TaskExec>() {
        true => Ok(WorkerPlanRewriteEventResponse::new(event.plan)),
        false => Err(DataFusionError::Plan("this server runs tasks of its own kind".to_owned())),
    }
}

/// The worker of an engine: what serves the tasks that other servers send.
pub(crate) fn worker(engine: &Arc<Engine>, environment: Arc<RuntimeEnv>) -> Worker {
    let engine = Arc::downgrade(engine);
    Worker::from_session_builder(move |asked: WorkerQueryContext| {
        let engine = Weak::clone(&engine);
        async move { session(&engine, asked) }
    })
    .with_runtime_env(environment)
    .with_version(super::version())
}

fn session(engine: &Weak<Engine>, asked: WorkerQueryContext) -> Result<SessionState> {
    let stopped = || DataFusionError::Internal("this server is stopping".to_owned());
    let kit = engine.upgrade().ok_or_else(stopped)?.kit();
    let mut builder = asked.builder;
    let config = builder.config().take().unwrap_or_default();
    let config = config
        .with_distributed_user_codec(Codec { kit: Some(kit) })
        .with_distributed_compression(None)?
        .with_distributed_metrics_collection(false)?
        .with_distributed_worker_plan_rewrite_handler(only_tasks);
    let environment = builder.runtime_env().clone().unwrap_or_default();
    // None of the functions that it was given is needed.
    Ok(SessionStateBuilder::new().with_config(config).with_runtime_env(environment).build())
}
