//! What the consumer tells of itself: metrics, and its part of `/api/v1/status`.
//!
//! The lag of a partition is the end of what may be read of it (the last stable offset, as the last
//! answer to a fetch told it, through librdkafka's statistics) less the position in the catalog: so
//! it counts what is not stored yet, not what is not fetched yet. It is as right as the broker's
//! answers; offsets that hold no message (of transactions, of compacted topics) count as well.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use rdkafka::Statistics;
use serde_json::{Value, json};

use super::settings::KafkaSettings;
use crate::app::now_ns;

/// Topics that have metrics of their own; further ones are counted as `other`.
const TOPICS_MAX: usize = 1_000;
/// Partitions that the status lists.
const PARTITIONS_LISTED_MAX: usize = 1_000;
/// Trouble is logged no more often than this: brokers that are away tell of it all the time.
const LOGGED_EVERY: Duration = Duration::from_secs(10);

type Topic = [(&'static str, String); 1];

/// Counters of the consumer.
#[derive(Debug, Clone, Default)]
pub(crate) struct KafkaMetrics {
    records: Family<Topic, Counter>,
    bytes: Family<Topic, Counter>,
    undecoded: Family<Topic, Counter>,
    dead_letters: Family<Topic, Counter>,
    skipped: Family<Topic, Counter>,
    deleted: Family<Topic, Counter>,
    lag: Family<Topic, Gauge>,
    partitions: Gauge,
    rebalances: Counter,
    takeovers: Counter,
    errors: Counter,
    last_error_s: Gauge,
}

impl KafkaMetrics {
    /// Makes them known.
    pub(crate) fn register(&self, to: &mut Registry) {
        to.register("kafka_records", "Records stored, by topic", self.records.clone());
        to.register_with_unit(
            "kafka",
            "Payloads of messages that are stored, by topic",
            Unit::Bytes,
            self.bytes.clone(),
        );
        let help = "Messages, or parts, kept as text because they are not of the format";
        to.register("kafka_undecoded", help, self.undecoded.clone());
        let help = "Messages handed to the topic of dead letters";
        to.register("kafka_dead_letters", help, self.dead_letters.clone());
        let help = "Offsets without a message: of transactions, compaction or retention";
        to.register("kafka_skipped_offsets", help, self.skipped.clone());
        let help = "Offsets that Kafka had deleted before they were read";
        to.register("kafka_deleted_before_read", help, self.deleted.clone());
        let help = "Offsets that are not stored yet, as far as the broker's answers are right";
        to.register("kafka_lag", help, self.lag.clone());
        to.register("kafka_partitions", "Partitions that are read", self.partitions.clone());
        let help = "Changes of the group's assignment";
        to.register("kafka_rebalances", help, self.rebalances.clone());
        let help = "Partitions that another consumer took over while they were read";
        to.register("kafka_takeovers", help, self.takeovers.clone());
        to.register("kafka_errors", "Troubles with Kafka", self.errors.clone());
        to.register_with_unit(
            "kafka_last_error_timestamp",
            "When the last trouble was, since 1970",
            Unit::Seconds,
            self.last_error_s.clone(),
        );
    }
}

/// What became of some messages of a topic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) undecoded: u64,
    pub(super) dead_letters: u64,
}

/// A partition, as the status shows it.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    pub(super) state: &'static str,
    pub(super) epoch: u32,
    pub(super) position: Option<i64>,
}

#[derive(Debug, Default)]
struct Inner {
    cluster: Option<String>,
    partitions: BTreeMap<(String, i32), Shown>,
    ends: BTreeMap<(String, i32), Ends>,
    /// Topics that have metrics of their own.
    named: BTreeSet<String>,
    last_error: Option<LastError>,
    logged: Option<Instant>,
}

/// What Kafka has of a partition.
#[derive(Debug, Clone, Copy)]
struct Ends {
    low: i64,
    end: i64,
}

#[derive(Debug)]
struct LastError {
    message: String,
    at_ns: i64,
}

/// What the consumer says of itself, for whoever asks.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    metrics: KafkaMetrics,
    inner: Mutex<Inner>,
}

impl Shared {
    /// Nothing yet.
    pub(crate) fn new(metrics: KafkaMetrics) -> Self {
        Self { metrics, inner: Mutex::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Trouble that may pass. The last is in the status.
    pub(super) fn failed(&self, message: &str) {
        self.metrics.errors.inc();
        let at_ns = now_ns();
        self.metrics.last_error_s.set(at_ns / 1_000_000_000);
        let mut inner = self.inner();
        inner.last_error = Some(LastError { message: message.to_owned(), at_ns });
        if inner.logged.is_none_or(|logged| logged.elapsed() >= LOGGED_EVERY) {
            inner.logged = Some(Instant::now());
            drop(inner);
            tracing::warn!(error = message, "trouble with Kafka");
        }
    }

    /// The name of the cluster, once it is known.
    pub(super) fn connected(&self, cluster: &str) {
        self.inner().cluster = Some(cluster.to_owned());
    }

    /// The group changed what is ours.
    pub(super) fn rebalanced(&self) {
        self.metrics.rebalances.inc();
    }

    /// Another consumer took a partition over.
    pub(super) fn taken_over(&self) {
        self.metrics.takeovers.inc();
    }

    /// Ends of partitions.
    pub(super) fn take_statistics(&self, statistics: &Statistics) {
        let mut inner = self.inner();
        inner.ends.clear();
        for (name, topic) in &statistics.topics {
            for (number, partition) in &topic.partitions {
                // Negative is unknown.
                let stable = Some(partition.ls_offset).filter(|end| *end >= 0);
                let end = stable.unwrap_or(partition.hi_offset);
                if end >= 0 {
                    let ends = Ends { low: partition.lo_offset.max(0), end };
                    inner.ends.insert((name.clone(), *number), ends);
                }
            }
        }
    }

    /// The partitions as they are now.
    pub(super) fn show(&self, partitions: BTreeMap<(String, i32), Shown>) {
        let mut inner = self.inner();
        inner.partitions = partitions;
        let mut lags: BTreeMap<&str, i64> = BTreeMap::new();
        for ((topic, partition), shown) in &inner.partitions {
            let lag = inner.lag(topic, *partition, shown).unwrap_or(0);
            *lags.entry(topic).or_default() += lag;
        }
        self.metrics.partitions.set(i64::try_from(inner.partitions.len()).unwrap_or(i64::MAX));
        self.metrics.lag.clear();
        for (topic, lag) in lags.into_iter().take(TOPICS_MAX) {
            self.metrics.lag.get_or_create(&[("topic", topic.to_owned())]).set(lag);
        }
    }

    /// Counts what became of messages.
    pub(super) fn count(&self, topic: &str, tally: Tally) {
        let label = self.label(topic);
        self.metrics.records.get_or_create(&label).inc_by(tally.records);
        self.metrics.bytes.get_or_create(&label).inc_by(tally.bytes);
        self.metrics.undecoded.get_or_create(&label).inc_by(tally.undecoded);
        self.metrics.dead_letters.get_or_create(&label).inc_by(tally.dead_letters);
    }

    /// Counts offsets without a message.
    pub(super) fn skipped(&self, topic: &str, offsets: u64) {
        if offsets > 0 {
            self.metrics.skipped.get_or_create(&self.label(topic)).inc_by(offsets);
        }
    }

    /// Counts offsets that were deleted before they were read.
    pub(super) fn deleted(&self, topic: &str, offsets: u64) {
        self.metrics.deleted.get_or_create(&self.label(topic)).inc_by(offsets);
    }

    fn label(&self, topic: &str) -> Topic {
        let mut inner = self.inner();
        let is_named = inner.named.contains(topic)
            || (inner.named.len() < TOPICS_MAX && inner.named.insert(topic.to_owned()));
        [("topic", if is_named { topic } else { "other" }.to_owned())]
    }

    /// The part of the status.
    pub(crate) fn status(&self, settings: &KafkaSettings) -> Option<Value> {
        if !settings.is_on() {
            return None;
        }
        let inner = self.inner();
        let partitions: Vec<Value> = inner
            .partitions
            .iter()
            .take(PARTITIONS_LISTED_MAX)
            .map(|((topic, partition), shown)| {
                json!({
                    "topic": topic,
                    "partition": partition,
                    "state": shown.state,
                    "epoch": shown.epoch,
                    "position": shown.position,
                    "end": inner.ends.get(&(topic.clone(), *partition)).map(|ends| ends.end),
                    "lag": inner.lag(topic, *partition, shown),
                })
            })
            .collect();
        let last_error = inner.last_error.as_ref().map(
            |error| json!({"message": error.message, "at": lodge_record::time::format(error.at_ns)}),
        );
        Some(json!({
            "brokers": settings.brokers,
            "cluster": inner.cluster,
            "group": settings.group,
            "topics": settings.topics,
            "rebalances_total": self.metrics.rebalances.get(),
            "takeovers_total": self.metrics.takeovers.get(),
            "errors_total": self.metrics.errors.get(),
            "last_error": last_error,
            "partitions_total": inner.partitions.len(),
            "partitions": partitions,
        }))
    }
}

impl Inner {
    fn lag(&self, topic: &str, partition: i32, shown: &Shown) -> Option<i64> {
        let Ends { low, end } = *self.ends.get(&(topic.to_owned(), partition))?;
        Some(end.saturating_sub(shown.position.unwrap_or(low)).max(0))
    }
}
