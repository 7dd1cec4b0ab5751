//! Asking another server for its part of a query.
//!
//! Invariants: a task that is dropped ends on the other side, too; who says nothing for
//! [`SILENCE_MAX`] is gone; what the other side was charged with is charged here as it is told.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion_distributed::{
    ExecuteTaskRequest, MaybeEncoded, ProducerHead, SetPlanRequest, TaskKey, WorkerToCoordinatorMsg,
};
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use http::{HeaderMap, HeaderValue, header};
use tokio::sync::oneshot;

use super::frames::{Charged, End, Frame};
use super::serve::TaskExec;
use super::task::{Task, Work};
use super::{Among, Peer};
use crate::budget::QueryControl;
use crate::error::{QueryError, QueryErrorKind};
use crate::request::Budget;
use crate::scan::Source;

/// How long a server may take to be reached and to begin.
const OPEN_MAX: Duration = Duration::from_secs(3);
/// How long it may say nothing: it says something every half second.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// Why a part was not answered.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server went away, or cannot do it: what it had is read here.
    Lost(QueryError),
    /// The query has no answer, whoever is asked.
    Query(QueryError),
}

/// What another server has to do of a query.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) among: Arc<Among>,
    pub(crate) peer: Peer,
    /// Its segments.
    pub(crate) source: Source,
}

/// A task on its way.
pub(crate) struct Asked {
    frames: BoxStream<'static, Result<RecordBatch, DataFusionError>>,
    /// Keep the task on the other side; it ends without them.
    _messages: BoxStream<'static, Result<WorkerToCoordinatorMsg, DataFusionError>>,
    _open: oneshot::Sender<()>,
    ready: VecDeque<Frame>,
    charged: Charged,
    control: Arc<QueryControl>,
    part: Part,
}

impl Part {
    /// Begins the task; with its memory of `pool`.
    pub(crate) async fn ask(
        &self,
        work: &Work,
        pool: &Arc<dyn MemoryPool>,
    ) -> Result<Asked, Failure> {
        self.source.control.sent();
        let opening = self.open(work, pool);
        let opened = tokio::time::timeout(OPEN_MAX, opening).await;
        let failed = match opened {
            Ok(Ok(asked)) => return Ok(asked),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("it did not begin within {OPEN_MAX:?}"),
        };
        Err(self.lost(&failed))
    }

    fn lost(&self, why: &str) -> Failure {
        self.among.went(&self.peer, why);
        self.source.control.lost();
        let Peer { name, url, .. } = &self.peer;
        let host = url.host_str().unwrap_or_default();
        Failure::Lost(QueryError::internal(format!("the server {name} ({host}) failed: {why}")))
    }

    async fn open(
        &self,
        work: &Work,
        pool: &Arc<dyn MemoryPool>,
    ) -> Result<Asked, DataFusionError> {
        let control = Arc::clone(&self.source.control);
        let budget = Budget { time_max: control.left(), ..*control.budget() };
        let task = Task::new(&self.source.snapshot, &self.source.predicate, &budget, work)?;
        let plan = Arc::new(TaskExec::to_send(task.encode()?));
        let disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
        let environment = RuntimeEnvBuilder::new()
            .with_disk_manager_builder(disk)
            .with_memory_pool(Arc::clone(pool))
            .build_arc()?;
        let config = self.among.config.clone();
        let context = TaskContext::default().with_session_config(config).with_runtime(environment);
        let context = Arc::new(context);
        let mut headers = HeaderMap::new();
        let shown = HeaderValue::from_str(&format!("Bearer {}", self.peer.key));
        let mut shown = shown.map_err(|error| DataFusionError::External(Box::new(error)))?;
        shown.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, shown);
        let query_id = uuid::Uuid::new_v4();
        let task_key = TaskKey { query_id, stage_id: 0, task_number: 0 };
        let (open, closed) = oneshot::channel::<()>();
        let until_closed = closed.map(|_| ()).into_stream().filter_map(async |()| None).boxed();
        let channels = &self.among.cluster.channels;
        let mut channel = channels.get_worker_client_for_url(&self.peer.url).await?;
        let request = SetPlanRequest {
            task_key,
            task_count: 1,
            plan: MaybeEncoded::Decoded(plan),
            work_unit_feed_declarations: Vec::new(),
            target_worker_url: self.peer.url.clone(),
            query_start_time_ns: 0,
        };
        let metrics = ExecutionPlanMetricsSet::new;
        let messages = channel
            .coordinator_channel(headers.clone(), request, until_closed, metrics(), &context)
            .await?;
        let request = ExecuteTaskRequest {
            task_key,
            target_partition_start: 0,
            target_partition_end: 1,
            producer_head: ProducerHead::None,
        };
        let frames = channel.execute_task(headers, request, metrics(), &context).await?.pop();
        let frames = frames.ok_or_else(|| QueryError::internal("a task has no stream"))?;
        Ok(Asked {
            frames,
            _messages: messages,
            _open: open,
            ready: VecDeque::new(),
            charged: Charged::default(),
            control,
            part: self.clone(),
        })
    }
}

impl Asked {
    /// The next piece of rows or sums; `None` once all have come, or if the query has to end with what
    /// there is.
    pub(crate) async fn next(&mut self) -> Result<Option<Frame>, Failure> {
        loop {
            match self.ready.pop_front() {
                Some(Frame::Progress(charged)) => {
                    if !self.charge(charged)? {
                        return Ok(None);
                    }
                }
                Some(Frame::End(End { charged, partial })) => {
                    if let Some(excess) = partial {
                        self.control.end_with(excess).map_err(Failure::Query)?;
                    }
                    self.charge(charged)?;
                    return Ok(None);
                }
                Some(Frame::Failed(error)) => {
                    return Err(match error.kind() {
                        QueryErrorKind::Internal | QueryErrorKind::Damaged => {
                            self.part.lost(error.message())
                        }
                        _ => Failure::Query(error),
                    });
                }
                Some(frame) => return Ok(Some(frame)),
                None => self.hear().await?,
            }
        }
    }

    async fn hear(&mut self) -> Result<(), Failure> {
        let heard = match tokio::time::timeout(SILENCE_MAX, self.frames.next()).await {
            Ok(Some(Ok(batch))) => Frame::decode(&batch),
            Ok(Some(Err(error))) => match QueryError::from(error) {
                // It is here that there is no memory for what has come.
                error if error.kind() == QueryErrorKind::BudgetMemory => {
                    return Err(Failure::Query(error));
                }
                error => return Err(self.part.lost(error.message())),
            },
            Ok(None) => return Err(self.part.lost("it ended in the midst")),
            Err(_) => return Err(self.part.lost(&format!("nothing came for {SILENCE_MAX:?}"))),
        };
        self.ready.extend(heard.map_err(|error| self.part.lost(error.message()))?);
        Ok(())
    }

    /// Charges what is new; whether the query goes on.
    fn charge(&mut self, now: Charged) -> Result<bool, Failure> {
        let before = std::mem::replace(&mut self.charged, now);
        let more = Charged {
            blocks: now.blocks.saturating_sub(before.blocks),
            rows: now.rows.saturating_sub(before.rows),
            bytes: now.bytes.saturating_sub(before.bytes),
            rows_found: now.rows_found.saturating_sub(before.rows_found),
        };
        self.control.charge_other(more).map_err(Failure::Query)
    }
}
