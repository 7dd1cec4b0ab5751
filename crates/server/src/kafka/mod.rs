//! The Kafka consumer: topics are read into the store, each message exactly once.
//!
//! ```text
//!  group ─► reader ─┬─ claim: an epoch of the partition's producer, and the place in the catalog
//!                   ├─ messages, bounded ─ commit: decode, dead letters, submit
//!                   └─ partition: what to do next, as a function of what happened
//! ```
//!
//! Every partition is a producer of its own, named by cluster, group, topic and number. Its position
//! is the next offset and advances in the transaction that adds its records, so the catalog knows
//! what is stored and Kafka's own offsets are only for the tools that show lag. Invariants: a message
//! is stored once, whoever reads it and whatever is killed; what cannot be decoded is kept or handed
//! to the dead letters before its offset advances; the store's trouble pauses partitions and loses
//! nothing; what Kafka is asked for never blocks the server's other work.

mod claim;
mod client;
mod commit;
mod dead_letters;
mod partition;
mod reader;
pub(crate) mod settings;
mod status;

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::client::GroupConsumer;
use self::dead_letters::DeadLetters;
use self::reader::{Ended, Reader};
use self::settings::KafkaSettings;
pub(crate) use self::status::{KafkaMetrics, Shared};
use crate::app::App;

/// How long Kafka may take to say which cluster it is, before it is asked again.
const ASK_TIME_MAX: Duration = Duration::from_secs(2);
/// Waits before a client that broke is made anew, and before an unreachable cluster is asked again.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// How long a consumer may take to leave its group.
const LEAVE_TIME_MAX: Duration = Duration::from_secs(5);

/// Why the consumer cannot be started.
#[derive(Debug, thiserror::Error)]
#[error("the Kafka settings are not accepted: {0}; see the settings `kafka_…`")]
pub struct KafkaStartError(#[from] KafkaError);

/// A consumer that runs.
pub(crate) struct Consuming {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// Starts the consumer that `settings` describe, if they name a cluster.
pub(crate) fn start(
    app: &Arc<App>,
    shared: &Arc<Shared>,
    settings: &KafkaSettings,
) -> Result<Option<Consuming>, KafkaStartError> {
    if !settings.is_on() {
        return Ok(None);
    }
    let settings = Arc::new(settings.clone());
    // Made here, so that settings which are never right stop the server at its start.
    let parts = Parts::new(&settings, shared)?;
    let stop = CancellationToken::new();
    let task = consume(app.clone(), shared.clone(), settings, parts, stop.clone());
    Ok(Some(Consuming { stop, task: tokio::spawn(task) }))
}

impl Consuming {
    /// Stops reading; what is under way in the store is not waited for beyond a moment.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the Kafka consumer died");
        }
    }
}

/// The clients.
struct Parts {
    consumer: Arc<GroupConsumer>,
    dead_letters: Option<Arc<DeadLetters>>,
}

impl Parts {
    fn new(settings: &KafkaSettings, shared: &Arc<Shared>) -> Result<Self, KafkaError> {
        let consumer = client::consumer(settings, shared.clone())?;
        let dead_letters = DeadLetters::new(settings)?.map(Arc::new);
        Ok(Self { consumer, dead_letters })
    }
}

/// Reads, with a new client whenever one breaks, until it is stopped.
async fn consume(
    app: Arc<App>,
    shared: Arc<Shared>,
    settings: Arc<KafkaSettings>,
    first: Parts,
    stop: CancellationToken,
) {
    let mut parts = Some(first);
    while !stop.is_cancelled() {
        let now = parts.take().map_or_else(|| Parts::new(&settings, &shared), Ok);
        let ended = match now {
            Ok(parts) => {
                let consumer = parts.consumer.clone();
                let ended = read(&app, &shared, &settings, parts, &stop).await;
                leave(consumer).await;
                ended
            }
            Err(error) => Ended::Broken(error),
        };
        if let Ended::Broken(error) = ended {
            shared.failed(&format!("the client broke and is made anew: {error}"));
            stop.run_until_cancelled(tokio::time::sleep(AGAIN_AFTER)).await;
        }
    }
}

async fn read(
    app: &Arc<App>,
    shared: &Arc<Shared>,
    settings: &Arc<KafkaSettings>,
    Parts { consumer, dead_letters }: Parts,
    stop: &CancellationToken,
) -> Ended {
    let Some(cluster) = stop.run_until_cancelled(cluster_id(&consumer, shared)).await else {
        return Ended::Stopped;
    };
    shared.connected(&cluster);
    let topics: Vec<&str> = settings.topics.iter().map(String::as_str).collect();
    if let Err(error) = consumer.subscribe(&topics) {
        return Ended::Broken(error);
    }
    tracing::info!(%cluster, group = settings.group, ?topics, "reading from Kafka");
    let (app, shared, settings) = (app.clone(), shared.clone(), settings.clone());
    Reader::new(app, shared, settings, consumer, dead_letters, &cluster).run(stop).await
}

/// The identity of the cluster, which is a part of every producer's: brokers may be renamed, and
/// another cluster has other messages at the same offsets.
async fn cluster_id(consumer: &Arc<GroupConsumer>, shared: &Shared) -> String {
    loop {
        let asked = consumer.clone();
        let answer = tokio::task::spawn_blocking(move || {
            if let Some(id) = asked.client().fetch_cluster_id(ASK_TIME_MAX) {
                return Ok(id);
            }
            // Nobody answered, or it was answered that the cluster has no name.
            asked.client().fetch_metadata(None, ASK_TIME_MAX)?;
            Ok(asked.client().fetch_cluster_id(Duration::ZERO).unwrap_or_default())
        });
        match answer.await {
            Ok(Ok(id)) => return id,
            Ok(Err(error)) => {
                let error: KafkaError = error;
                shared.failed(&format!("no broker answers: {error}"));
            }
            Err(error) => shared.failed(&error.to_string()),
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

/// Leaves the group, so that others get the partitions at once.
async fn leave(consumer: Arc<GroupConsumer>) {
    let left = tokio::task::spawn_blocking(move || {
        let mut shared = consumer;
        for _ in 0..LEAVE_TIME_MAX.as_millis() / 10 {
            // What was asked of Kafka last may still have its part of the client.
            match Arc::try_unwrap(shared) {
                Ok(consumer) => return drop(consumer),
                Err(again) => shared = again,
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    if tokio::time::timeout(LEAVE_TIME_MAX, left).await.is_err() {
        tracing::warn!("leaving the Kafka group takes long; it is not waited for");
    }
}

#[cfg(test)]
mod tests;
