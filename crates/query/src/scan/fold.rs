//! Sums up matching records part by part, in parallel where there is enough to do.

use std::sync::Arc;

use datafusion::common::runtime::SpawnedTask;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool};
use tokio::runtime::Handle;

use super::Source;
use super::reader::{Found, Reader, Wanted};
use crate::budget::QueryControl;
use crate::error::QueryError;

/// Runs `step` over what is `wanted` of the matching records of every block, in at most `partitions`
/// parts, and gives each part's sum. Dropping the future ends all parts.
pub(crate) async fn fold<T: Send + 'static>(
    source: &Source,
    partitions: usize,
    pool: &Arc<dyn MemoryPool>,
    wanted: &Wanted,
    start: impl Fn() -> Result<T, QueryError>,
    step: impl Fn(&mut T, &Found) -> Result<(), QueryError> + Send + Sync + 'static,
) -> Result<Vec<T>, QueryError> {
    let step = Arc::new(step);
    let part = |works| {
        let sum = start();
        let reservation = MemoryConsumer::new("reading a block").register(pool);
        let mut reader = Reader::new(source.clone(), works, wanted.clone(), reservation);
        let step = step.clone();
        async move {
            let mut sum = sum?;
            while let Some(found) = reader.next().await? {
                step(&mut sum, &found)?;
            }
            Ok::<_, QueryError>(sum)
        }
    };
    let (parts, works) = source.share(partitions, wanted.is_count());
    let others: Vec<_> = (1..parts).map(|_| SpawnedTask::spawn(part(works.clone()))).collect();
    // The first part needs no task of its own: for small questions it is the only one.
    let first = part(works);
    let mut sums = vec![first.await?];
    for other in others {
        sums.push(other.join().await.map_err(crate::engine::died)??);
    }
    Ok(sums)
}

/// Runs `work` on the engine's threads within the query's time; nothing came of it where a partial
/// answer had to do without.
pub(crate) async fn on_runtime<T: Send + Default + 'static>(
    runtime: &Handle,
    control: &QueryControl,
    work: impl Future<Output = Result<T, QueryError>> + Send + 'static,
) -> Result<T, QueryError> {
    let task = {
        let _on_our_threads = runtime.enter();
        // Dropping the handle, when the caller goes away, stops the task.
        SpawnedTask::spawn(work)
    };
    let deadline = tokio::time::Instant::from_std(control.hard_deadline());
    match tokio::time::timeout_at(deadline, task.join()).await {
        Ok(joined) => joined.map_err(crate::engine::died)?,
        Err(_) => match control.overdue() {
            Some(error) => Err(error),
            None => Ok(T::default()),
        },
    }
}
