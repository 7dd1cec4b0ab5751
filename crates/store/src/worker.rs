//! A thread that does one kind of heavy work, one job after the other.
//!
//! An allocator keeps what a thread frees for that thread. Jobs that take hundreds of megabytes would,
//! on whichever thread of a pool is free, leave as much behind on each of them; on one thread the next
//! job takes what the one before it left, and memory is touched for the first time once only.
//!
//! What takes records in comes behind what answers questions, wherever both want the processor.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread;

use tokio::sync::oneshot;

use crate::StoreError;

type Job = Box<dyn FnOnce() + Send>;

/// How much the kernel prefers the threads of queries: about nine tenths of a processor that both
/// want are theirs.
const BEHIND_QUERIES: i32 = 10;

/// Lets this thread come behind those of queries. Where the system does not allow it, it does not.
pub fn behind_queries() {
    if let Err(error) = rustix::process::nice(BEHIND_QUERIES) {
        tracing::debug!(%error, "this thread keeps its priority");
    }
}

/// The way to the thread, which ends with it.
#[derive(Debug)]
pub(crate) struct Worker {
    jobs: mpsc::Sender<Job>,
    name: &'static str,
}

impl Worker {
    /// Starts the thread. Its name has at most 15 bytes, so that the kernel shows all of it.
    pub(crate) fn start(name: &'static str) -> Result<Self, StoreError> {
        let (jobs, todo) = mpsc::channel::<Job>();
        let work = move || {
            behind_queries();
            for job in todo {
                // The panic was told by its hook; whoever waits for the answer hears of it, too.
                catch_unwind(AssertUnwindSafe(job)).ok();
            }
        };
        match thread::Builder::new().name(name.to_owned()).spawn(work) {
            Ok(_) => Ok(Self { jobs, name }),
            Err(error) => Err(StoreError::Stopped(format!("thread {name} did not start: {error}"))),
        }
    }

    /// Does a job after those before it. It is done also when nobody waits for it any more.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.begin(work).end().await
    }

    /// As [`Worker::run`], for who does something else until it is done.
    pub(crate) fn begin<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Begun<T> {
        let (tell, told) = oneshot::channel();
        let job: Job = Box::new(move || drop(tell.send(work())));
        // A thread that is no more drops the job, and with it `tell`.
        self.jobs.send(job).ok();
        Begun { told, name: self.name }
    }
}

/// A job that waits for its turn, or is done.
pub(crate) struct Begun<T> {
    told: oneshot::Receiver<Result<T, StoreError>>,
    name: &'static str,
}

impl<T> Begun<T> {
    /// Waits until it is done.
    pub(crate) async fn end(self) -> Result<T, StoreError> {
        let stopped = |_| Err(StoreError::Stopped(format!("thread {} failed", self.name)));
        self.told.await.unwrap_or_else(stopped)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    #[tokio::test]
    async fn a_job_that_panics_is_an_error_and_the_next_one_is_done() {
        let worker = Worker::start("test").unwrap();
        let failed = worker.run(|| -> Result<(), StoreError> { panic!("on purpose") }).await;
        assert!(matches!(failed, Err(StoreError::Stopped(_))));
        assert_eq!(worker.run(|| Ok(7)).await.unwrap(), 7);
    }
}
