//! Owning a partition in the catalog, and its places in Kafka.
//!
//! ```text
//! what is known of it ─ an empty batch of the next epoch ─ what is known now: the place
//! ```
//!
//! Whoever had it before may send until the empty batch is committed, and not after: so the place is
//! looked up behind it, and stays.

use std::sync::Arc;
use std::time::Duration;

use lodge_ingest::{Ack, IngestError};
use lodge_record::builder::BatchBuilder;
use lodge_record::{Batch, Origin, Position};
use rdkafka::Offset;
use rdkafka::consumer::Consumer;

use super::client::GroupConsumer;
use super::commit::Source;
use super::partition::{Claim, ClaimError, Place, fence, owned, position};
use super::settings::Start;

/// How long Kafka may take to say where a partition begins and ends.
const LOOK_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a seek may take.
const SEEK_TIME_MAX: Duration = Duration::from_secs(5);

/// Claims a partition.
pub(super) async fn claim(
    source: &Source,
    consumer: &Arc<GroupConsumer>,
    start: Start,
) -> Result<Claim, ClaimError> {
    let known = source.app.ingest.producer(&source.tenant, source.producer).await;
    let origin = fence(known.map_err(failed)?.as_ref(), source.producer)?;
    commit(source, origin, None).await?;
    let found = source.app.ingest.producer(&source.tenant, source.producer).await;
    let mut claim = owned(origin.epoch, found.map_err(failed)?.as_ref())?;
    if claim.next.is_none() && start == Start::Latest {
        // From now on the end that there is now is where it begins.
        let Some((_, end)) = look(source, consumer).await else {
            return Err(ClaimError::Failed("Kafka does not tell its end".to_owned()));
        };
        let origin = Origin { seq: claim.seq + 1, ..origin };
        commit(source, origin, position(end)).await?;
        (claim.seq, claim.next) = (origin.seq, Some(end));
    }
    Ok(claim)
}

fn failed(error: IngestError) -> ClaimError {
    match error {
        IngestError::Gap { .. } | IngestError::StaleEpoch { .. } => ClaimError::Taken,
        other => ClaimError::Failed(other.to_string()),
    }
}

/// Commits an empty batch. If its answer is lost, nobody knows whose it was, and it counts as taken.
async fn commit(
    source: &Source,
    origin: Origin,
    position: Option<Position>,
) -> Result<Ack, ClaimError> {
    let no_batch = |error: &dyn std::fmt::Display| ClaimError::Failed(error.to_string());
    let records = BatchBuilder::new().finish().map_err(|error| no_batch(&error))?;
    let batch = Batch::new(source.tenant.clone(), Some(origin), position, records)
        .map_err(|error| no_batch(&error))?;
    let ack = source.app.ingest.submit(batch).await.map_err(failed)?;
    if ack.duplicate() { Err(ClaimError::Taken) } else { Ok(ack) }
}

/// The first offset of a partition and the one behind its last, if Kafka says them.
pub(super) async fn look(source: &Source, consumer: &Arc<GroupConsumer>) -> Option<(i64, i64)> {
    let (consumer, topic, partition) = (consumer.clone(), source.topic.clone(), source.partition);
    let shared = source.shared.clone();
    let _place = source.looks.acquire().await.ok()?;
    let ends = tokio::task::spawn_blocking(move || {
        consumer.client().fetch_watermarks(&topic, partition, LOOK_TIME_MAX)
    });
    match ends.await.ok()? {
        Ok((low, high)) if low >= 0 && high >= low => Some((low, high)),
        Ok(_) => None,
        Err(error) => {
            shared.failed(&error.to_string());
            None
        }
    }
}

/// Seeks a partition that is paused. When this is done, nothing of before the seek comes any more.
pub(super) async fn seek(source: &Source, consumer: &Arc<GroupConsumer>, place: Place) -> bool {
    let (consumer, topic, partition) = (consumer.clone(), source.topic.clone(), source.partition);
    let offset = match place {
        Place::Beginning => Offset::Beginning,
        Place::At(next) => Offset::Offset(next),
    };
    let done = tokio::task::spawn_blocking(move || {
        consumer.seek(&topic, partition, offset, SEEK_TIME_MAX)
    });
    match done.await {
        Ok(Ok(())) => true,
        // Just after an assignment it is too early now and then.
        Ok(Err(error)) => {
            tracing::debug!(%error, topic = %source.topic, partition, "not sought yet");
            false
        }
        Err(_) => false,
    }
}
