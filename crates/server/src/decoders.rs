//! Threads that decode what comes in.
//!
//! Invariant: they come behind the threads of queries wherever both want the processor: records may
//! wait a little to be taken in, a person who asks may not. Tenants take turns of whole bodies.

use lodge_ingest::{Share, Shares};
use lodge_record::TenantId;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// The threads; they end when this is dropped and their work is done.
pub(crate) struct Decoders {
    /// Runs nothing but blocking work, so nobody drives it. None while it is dropped.
    runtime: Option<Runtime>,
    turns: Shares,
}

impl Decoders {
    /// # Errors
    /// If the operating system gives no means to start threads.
    pub(crate) fn new() -> std::io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .thread_name("lodge-decode")
            .on_thread_start(lodge_store::behind_queries)
            .build()?;
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self { runtime: Some(runtime), turns: Shares::turns(processors) })
    }

    /// A tenant's turn to decode what is whole: to be held while that is done. What waits for its client
    /// takes no turn.
    pub(crate) async fn turn(&self, tenant: &TenantId) -> Share {
        self.turns.take(tenant, 1).await
    }

    /// Does `work` on one of the threads.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        match &self.runtime {
            Some(runtime) => runtime.spawn_blocking(work),
            None => tokio::task::spawn_blocking(work),
        }
    }
}

impl Drop for Decoders {
    fn drop(&mut self) {
        // It may be dropped by a task, which must not wait.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
