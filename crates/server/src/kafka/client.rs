//! librdkafka's clients: how they are set up, and what they call back.
//!
//! Invariants: a partition that was assigned is paused before anything of it can be taken; what the
//! group gives and takes is noted in its order and worked off before the next message is looked at.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance, StreamConsumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::{ClientConfig, ClientContext, Statistics, TopicPartitionList};
use tokio::sync::Notify;

use super::settings::{self, KafkaSettings};
use super::status::Shared;

/// A consumer that tells what the group does.
pub(super) type GroupConsumer = StreamConsumer<Context>;

/// What librdkafka may hold that was not taken yet, kilobytes.
const QUEUED_KBYTES_MAX: u32 = 16 << 10;
/// Messages of a partition that it fetches ahead.
const QUEUED_MESSAGES: u32 = 20_000;
/// How often it tells statistics, milliseconds.
const STATISTICS_MS: u32 = 2_000;
/// How often offsets are told to Kafka, for the tools that show lag.
const COMMIT_INTERVAL_MS: u32 = 5_000;
/// How soon new topics that fit a pattern are found.
const METADATA_REFRESH_MS: u32 = 30_000;

/// Something that the group did.
#[derive(Debug)]
pub(super) enum Change {
    /// These partitions are ours now.
    Assigned(Vec<(String, i32)>),
    /// These are no more.
    Revoked(Vec<(String, i32)>),
}

/// What librdkafka calls back.
pub(super) struct Context {
    changes: Mutex<VecDeque<Change>>,
    changed: Notify,
    shared: Arc<Shared>,
}

impl Context {
    /// What the group did and nobody has looked at yet.
    pub(super) fn changes(&self) -> VecDeque<Change> {
        std::mem::take(&mut *self.changes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns when the group did something.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn note(&self, change: Change) {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).push_back(change);
        self.changed.notify_one();
    }
}

fn partitions(list: &TopicPartitionList) -> Vec<(String, i32)> {
    list.elements().iter().map(|e| (e.topic().to_owned(), e.partition())).collect()
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        self.shared.take_statistics(&statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.shared.failed(&format!("{error}: {reason}"));
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(list) = rebalance {
            self.note(Change::Revoked(partitions(list)));
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(list) => {
                if list.count() > 0
                    && let Err(error) = consumer.pause(list)
                {
                    // What comes before its place is known is not taken anyway.
                    tracing::debug!(%error, "new partitions are not paused at once");
                }
                self.note(Change::Assigned(partitions(list)));
            }
            Rebalance::Revoke(_) => {}
            Rebalance::Error(error) => self.shared.failed(&error.to_string()),
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            // Only the tools that show lag look at them.
            tracing::debug!(%error, "offsets were not told to Kafka");
        }
    }
}

/// librdkafka's own words.
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        // A broker that is away, of which it also tells by `ClientContext::error`.
        RDKafkaLogLevel::Error if facility == "FAIL" => {
            tracing::debug!(target: "librdkafka", facility, message);
        }
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(target: "librdkafka", facility, message);
        }
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
            tracing::warn!(target: "librdkafka", facility, message);
        }
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
            tracing::info!(target: "librdkafka", facility, message);
        }
        RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, message),
    }
}

fn common(settings: &KafkaSettings) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("client.id", "lodge").set("bootstrap.servers", settings.brokers.as_str());
    config.set_log_level(RDKafkaLogLevel::Notice);
    config
}

/// A consumer of the group, which has not joined it yet.
///
/// # Errors
/// If librdkafka does not take the settings; the network is not asked.
pub(super) fn consumer(
    settings: &KafkaSettings,
    shared: Arc<Shared>,
) -> KafkaResult<Arc<GroupConsumer>> {
    let mut config = common(settings);
    config.set("topic.metadata.refresh.interval.ms", METADATA_REFRESH_MS.to_string());
    // Less than the usual second: a queue that is full is emptied in much less.
    config.set("fetch.queue.backoff.ms", "50");
    for (name, value) in settings.options.iter() {
        config.set(name, value);
    }
    // From here on nothing can be set by the user.
    config.set("group.id", settings.group.as_str());
    config.set("partition.assignment.strategy", "cooperative-sticky");
    config.set("isolation.level", "read_committed");
    // The place comes from the catalog; this is for places that Kafka does not have any more.
    config.set("auto.offset.reset", "earliest");
    config.set("enable.auto.offset.store", "false");
    config.set("enable.auto.commit", "true");
    config.set("auto.commit.interval.ms", COMMIT_INTERVAL_MS.to_string());
    config.set("check.crcs", "true");
    config.set("queued.max.messages.kbytes", QUEUED_KBYTES_MAX.to_string());
    config.set("queued.min.messages", QUEUED_MESSAGES.to_string());
    config.set("statistics.interval.ms", STATISTICS_MS.to_string());
    if !settings.dead_letter_topic.is_empty() {
        let pattern = settings.dead_letter_topic.replace('.', "\\.");
        config.set("topic.blacklist", format!("^{pattern}$"));
    }
    let context = Context { changes: Mutex::default(), changed: Notify::new(), shared };
    config.create_with_context(context).map(Arc::new)
}

/// How a producer of dead letters is set up.
pub(super) fn producer_config(settings: &KafkaSettings) -> ClientConfig {
    let mut config = common(settings);
    for (name, value) in settings.options.iter() {
        if settings::is_of_any_client(name) {
            config.set(name, value);
        }
    }
    config.set("acks", "all");
    config.set("compression.type", "zstd");
    config.set("queue.buffering.max.kbytes", QUEUED_KBYTES_MAX.to_string());
    config.set("message.timeout.ms", "30000");
    // What is read may be larger than what is usually written.
    if settings.options.iter().all(|(name, _)| name != "message.max.bytes") {
        config.set("message.max.bytes", "100000000");
    }
    config
}
