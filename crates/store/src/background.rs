//! The tasks that keep the store in shape: build, merge, sweep.
//!
//! Invariant: a failure is logged once, tried again after a pause, and never ends a task.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{Store, StoreError};

/// How often it is looked whether L0s have become old enough.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often, where other processes write, too: each look is a question to the catalog.
const LOOK_EVERY_SHARED: Duration = Duration::from_secs(1);
/// How often it is looked whether another process has done the rest.
const WAIT_BUILT: Duration = Duration::from_millis(20);
/// Pause after a failure.
const FAILURE_PAUSE: Duration = Duration::from_secs(2);
/// Orphans are rare: they are looked for once in so many sweeps.
const ORPHAN_SWEEPS: u32 = 4;
/// In a bucket less often: every thousand objects that are listed are a request to pay for.
const ORPHAN_SWEEPS_IN_BUCKET: u32 = 60;

/// The background tasks of a store. They end when this is dropped or shut down.
#[derive(Debug)]
pub struct Background {
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Background {
    /// Stops the tasks and waits for a step that is under way.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        for task in std::mem::take(&mut self.tasks) {
            task.await.ok();
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Store {
    /// Starts building, merging and sweeping on the current runtime, or what is left of it for a
    /// process that does not build: counting what the others have done.
    pub fn spawn_background(self: &Arc<Self>) -> Background {
        let stop = CancellationToken::new();
        if !self.options.builds {
            let count = tokio::spawn(Arc::clone(self).count_until(stop.clone()));
            return Background { stop, tasks: vec![count] };
        }
        let build = tokio::spawn(Arc::clone(self).build_until(stop.clone()));
        let sweep = tokio::spawn(Arc::clone(self).sweep_until(stop.clone()));
        Background { stop, tasks: vec![build, sweep] }
    }

    /// Waits until nothing is left to build or merge, building whatever waits now.
    pub async fn wait_built(&self) {
        loop {
            match self.build_step(true).await {
                Ok(true) => {}
                Ok(false) if self.is_built() => return,
                Ok(false) if self.catalog.is_shared() => tokio::time::sleep(WAIT_BUILT).await,
                Ok(false) => tokio::task::yield_now().await,
                Err(error) => {
                    tracing::error!(%error, "building stopped");
                    return;
                }
            }
        }
    }

    async fn build_until(self: Arc<Self>, stop: CancellationToken) {
        let look_every = if self.catalog.is_shared() { LOOK_EVERY_SHARED } else { LOOK_EVERY };
        let mut troubled: Option<Instant> = None;
        while !stop.is_cancelled() {
            self.pending.is_worked_on.store(troubled.is_none(), Relaxed);
            let pause = match self.build_step(false).await {
                Ok(done) => {
                    if let Some(since) = troubled.take() {
                        tracing::info!(seconds = since.elapsed().as_secs(), "building again");
                    }
                    if done { Duration::ZERO } else { look_every }
                }
                Err(error) => {
                    if troubled.is_none() {
                        self.tell_build_trouble(&error);
                        troubled = Some(Instant::now());
                    }
                    FAILURE_PAUSE
                }
            };
            if !pause.is_zero() {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(pause) => {}
                }
            }
        }
        self.pending.is_worked_on.store(false, Relaxed);
    }

    fn tell_build_trouble(&self, error: &StoreError) {
        self.counters.count_failure(error.is_disk_full());
        if error.is_disk_full() {
            tracing::warn!(%error, "building pauses until there is room");
        } else {
            tracing::error!(%error, "building failed; it is tried again");
        }
    }

    async fn sweep_until(self: Arc<Self>, stop: CancellationToken) {
        let mut round = 0u32;
        loop {
            if self.catalog.is_shared()
                && let Err(error) = self.count_anew().await
            {
                tracing::warn!(%error, "counting what is stored failed; it is tried again");
            }
            // Its lease ends by itself: the next one, whoever it is, sweeps no sooner.
            match self.hold("sweep").await {
                Ok(Some(_held)) => self.sweep(round).await,
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "sweeping failed; it is tried again"),
            }
            round = round.wrapping_add(1);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.options.sweep_every) => {}
            }
        }
    }

    async fn sweep(&self, round: u32) {
        if let Err(error) = self.sweep_garbage().await {
            tracing::warn!(%error, "deleting garbage failed; it is tried again");
        }
        if let Err(error) = self.sweep_producers().await {
            tracing::warn!(%error, "forgetting old requests failed; it is tried again");
        }
        let every = if self.objects.is_local() { ORPHAN_SWEEPS } else { ORPHAN_SWEEPS_IN_BUCKET };
        if round.is_multiple_of(every)
            && let Err(error) = self.sweep_orphans().await
        {
            tracing::warn!(%error, "deleting orphans failed; it is tried again");
        }
    }

    async fn count_until(self: Arc<Self>, stop: CancellationToken) {
        loop {
            if let Err(error) = self.count_anew().await {
                tracing::warn!(%error, "counting what is stored failed; it is tried again");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.options.sweep_every) => {}
            }
        }
    }

    /// What others have added and built is not counted as it happens.
    async fn count_anew(&self) -> Result<(), StoreError> {
        self.counters.count_anew(&self.catalog.totals().await?);
        Ok(())
    }
}
