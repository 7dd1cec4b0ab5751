//! Sums up matching records without DataFusion: counts per time, value or field.

use std::sync::Arc;
use std::time::Instant;

use datafusion::common::runtime::SpawnedTask;
use datafusion::execution::memory_pool::MemoryConsumer;
use tokio::runtime::Handle;

use super::Source;
use super::reader::{Found, Reader, Wanted};
use crate::engine::Admitted;
use crate::error::QueryError;

/// Runs `step` over the matching records of every block, in as many tasks as there are partitions,
/// and gives each task's sum.
pub(crate) async fn fold<T: Send + Default + 'static>(
    runtime: &Handle,
    admitted: &Admitted,
    source: &Source,
    wanted: &Wanted,
    step: impl Fn(&mut T, &Found) -> Result<(), QueryError> + Send + Sync + 'static,
) -> Result<Vec<T>, QueryError> {
    let step = Arc::new(step);
    let pool = admitted.session.runtime_env().memory_pool.clone();
    let works = source.divide(admitted.partitions, wanted.is_count());
    let mut tasks = Vec::with_capacity(works.len());
    for works in works {
        let reservation = MemoryConsumer::new("reading a block").register(&pool);
        let mut reader = Reader::new(source.clone(), works, wanted.clone(), reservation);
        let step = step.clone();
        let _on_our_threads = runtime.enter();
        // Dropping the handle, when the caller goes away, stops the task.
        tasks.push(SpawnedTask::spawn(async move {
            let mut sum = T::default();
            while let Some(found) = reader.next().await? {
                step(&mut sum, &found)?;
            }
            Ok::<_, QueryError>(sum)
        }));
    }
    let deadline = tokio::time::Instant::from_std(admitted.control.hard_deadline());
    let mut sums = Vec::with_capacity(tasks.len());
    for task in tasks {
        match tokio::time::timeout_at(deadline, task.join()).await {
            Ok(joined) => sums.push(joined.map_err(crate::engine::died)??),
            Err(_) => {
                debug_assert!(Instant::now() >= admitted.control.hard_deadline());
                if let Some(error) = admitted.control.overdue() {
                    return Err(error);
                }
            }
        }
    }
    Ok(sums)
}
