//! Whole consumers against a mock of a Kafka cluster, with a real store: partitions that move,
//! brokers that go away, a store that fails.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};

use lodge_ingest::{Ingest, IngestLimits};
use lodge_query::{Engine, EngineLimits, LogsqlRequest, View};
use lodge_record::schema::value_text;
use lodge_record::{Batch, Origin, Position, ProducerId, TenantId};
use lodge_store::{Store, StoreOptions};
use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{DefaultProducerContext, FutureProducer, FutureRecord};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use tokio::time::Instant;

use super::settings::{Start, options};
use super::*;
use crate::config::ServerConfig;
use crate::decoders::Decoders;
use crate::metrics::Metrics;

/// How long anything may take that is waited for.
const TIME_MAX: Duration = Duration::from_secs(90);

type Mock = MockCluster<'static, DefaultProducerContext>;

/// A store, as a server has it, and a cluster.
struct Rig {
    app: Arc<App>,
    mock: Mock,
    producer: FutureProducer,
    dir: tempfile::TempDir,
}

async fn app(dir: &Path) -> Arc<App> {
    let options = StoreOptions { disk_reserve_bytes: Some(0), ..StoreOptions::default() };
    let store = Store::open(dir, options).await.unwrap();
    let ingest = Ingest::start(store.clone(), IngestLimits::default());
    let engine = Engine::new(store.clone(), EngineLimits::default());
    let config = ServerConfig { data_dir: dir.to_path_buf(), ..ServerConfig::default() };
    let (metrics, decoders) = (Arc::new(Metrics::new()), Decoders::new().unwrap());
    let tokens = crate::identity::Tokens::default();
    Arc::new(App::new(config, store, ingest, engine, metrics, decoders, tokens))
}

impl Rig {
    async fn start(brokers: i32, partitions: i32) -> Self {
        let mock = MockCluster::new(brokers).unwrap();
        let replicas = i16::try_from(brokers).unwrap();
        mock.create_topic("logs", partitions, i32::from(replicas)).unwrap();
        let producer = ClientConfig::new()
            .set("bootstrap.servers", mock.bootstrap_servers())
            .set("enable.idempotence", "true")
            .set("linger.ms", "5")
            .create()
            .unwrap();
        let dir = tempfile::tempdir().unwrap();
        Self { app: app(dir.path()).await, mock, producer, dir }
    }

    fn settings(&self) -> KafkaSettings {
        let quick = "\"session.timeout.ms\" = 6000\n\"heartbeat.interval.ms\" = 200\n\
                     \"reconnect.backoff.max.ms\" = 500\n\"fetch.wait.max.ms\" = 50\n\
                     \"topic.metadata.refresh.interval.ms\" = 1000";
        let quick: toml::Table = quick.parse().unwrap();
        KafkaSettings {
            brokers: self.mock.bootstrap_servers(),
            topics: vec!["logs".to_owned()],
            options: options(&toml::Value::Table(quick)).unwrap(),
            ..KafkaSettings::default()
        }
    }

    /// A consumer with its own status.
    fn consume(&self, settings: &KafkaSettings) -> (Consuming, Arc<Shared>) {
        let shared = Arc::new(Shared::new(self.app.metrics.kafka.clone()));
        (start(&self.app, &shared, settings).unwrap().unwrap(), shared)
    }

    async fn produce(&self, number: i64, partition: Option<i32>) {
        let payload = format!("{{\"n\":{number},\"msg\":\"record {number}\"}}");
        let mut record = FutureRecord::<str, str>::to("logs").payload(&payload);
        record.partition = partition;
        // A broker that is down for longer than the client tries would be another test.
        self.producer.send(record, TIME_MAX).await.unwrap();
    }

    /// Partition, offset and number of every record; what was not produced here may have no number.
    async fn records(&self) -> Vec<(String, u64, Option<i64>)> {
        let request = LogsqlRequest {
            view: View::default(),
            query: "* | fields kafka.partition, kafka.offset, n".to_owned(),
            start_ns: None,
            end_ns: None,
            limit: None,
            offset: None,
            now_ns: 0,
            budget: lodge_query::Budget::default(),
        };
        let batches = self.app.engine.logsql(request).await.unwrap().collect().await.unwrap();
        let mut records = Vec::new();
        for batch in batches {
            for row in 0..batch.num_rows() {
                let text = |name: &str| {
                    let column = batch.column_by_name(name)?;
                    value_text(column, row).map(std::borrow::Cow::into_owned)
                };
                records.push((
                    text("kafka.partition").unwrap(),
                    text("kafka.offset").unwrap().parse().unwrap(),
                    text("n").and_then(|number| number.parse().ok()),
                ));
            }
        }
        records
    }

    fn rows(&self) -> u64 {
        self.app.store.stats().rows
    }

    async fn assert_once(&self, count: usize) {
        wait_for(&format!("{count} records"), || self.rows() >= count as u64).await;
        let stored = self.records().await;
        let different: BTreeSet<_> = stored.iter().map(|(of, offset, _)| (of, offset)).collect();
        assert_eq!((stored.len(), different.len()), (count, count), "stored, and places");
    }

    /// That every record of the topic is stored once, and each number that was sent is among them. The
    /// mock may hold a number twice: it does not know again what a producer repeats whose answer was
    /// lost with a broker.
    async fn assert_all_once(&self, sent: i64) {
        let deadline = Instant::now() + TIME_MAX;
        let has_all = |stored: &[(String, u64, Option<i64>)]| {
            let numbers: BTreeSet<i64> = stored.iter().filter_map(|(.., number)| *number).collect();
            numbers.into_iter().eq(0..sent)
        };
        let mut stored = self.records().await;
        while !has_all(&stored) {
            assert!(Instant::now() < deadline, "not all of {sent} numbers came");
            tokio::time::sleep(Duration::from_millis(100)).await;
            stored = self.records().await;
        }
        let mut partitions: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for (partition, offset, _) in &stored {
            partitions.entry(partition).or_default().push(*offset);
        }
        for (partition, offsets) in &mut partitions {
            offsets.sort_unstable();
            let all: Vec<u64> = (0..offsets.len() as u64).collect();
            assert_eq!(*offsets, all, "each offset of partition {partition} once");
        }
    }

    fn of_topic(&self, name: &str) -> u64 {
        let text = self.app.metrics.text(&crate::metrics::Scraped::default());
        let line = format!("lodge_kafka_{name}{{topic=\"logs\"}} ");
        let value = text.lines().find_map(|text| text.strip_prefix(&line));
        value.map_or(0, |value| value.parse().unwrap())
    }
}

async fn wait_for(what: &str, mut is_done: impl FnMut() -> bool) {
    let deadline = Instant::now() + TIME_MAX;
    while !is_done() {
        assert!(Instant::now() < deadline, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn partitions_of(shared: &Shared, settings: &KafkaSettings) -> usize {
    let status = shared.status(settings).unwrap();
    let partitions = status["partitions"].as_array().unwrap();
    partitions.iter().filter(|p| p["state"] == "reading").count()
}

/// Produces numbers until it is told to stop; gives how many.
async fn produce_until(rig: &Rig, sent: &AtomicI64, stop: &CancellationToken) {
    while !stop.is_cancelled() {
        let from = sent.load(Ordering::Relaxed);
        let all = (from..from + 50).map(|number| rig.produce(number, None));
        futures::future::join_all(all).await;
        sent.store(from + 50, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_that_move_while_they_are_sent_are_stored_once() {
    let rig = Rig::start(1, 6).await;
    let settings = rig.settings();
    let (sent, stop) = (AtomicI64::new(0), CancellationToken::new());
    let moving = async {
        let (first, shared) = rig.consume(&settings);
        wait_for("all for the first", || partitions_of(&shared, &settings) == 6).await;
        let (mut newest, mut newest_shared) = (first, shared);
        for round in 0..3 {
            let rows = rig.rows();
            let (another, shared) = rig.consume(&settings);
            wait_for("a share for another", || {
                partitions_of(&shared, &settings) == 3
                    && partitions_of(&newest_shared, &settings) == 3
            })
            .await;
            wait_for("records of both", || rig.rows() > rows + 200).await;
            if round == 1 {
                // Gone without a word: its batches may still land.
                newest.task.abort();
            } else {
                newest.stop().await;
            }
            wait_for("all for the other", || partitions_of(&shared, &settings) == 6).await;
            (newest, newest_shared) = (another, shared);
        }
        stop.cancel();
        newest
    };
    let (last, ()) = tokio::join!(moving, produce_until(&rig, &sent, &stop));
    let count = usize::try_from(sent.load(Ordering::Relaxed)).unwrap();
    rig.assert_once(count).await;
    assert!(count > 1_000, "{count} records are too few to tell");
    last.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_that_go_away_and_answer_with_errors_cost_nothing() {
    let rig = Rig::start(3, 4).await;
    let settings = rig.settings();
    let (sent, stop) = (AtomicI64::new(0), CancellationToken::new());
    let failing = async {
        let (consuming, shared) = rig.consume(&settings);
        wait_for("all partitions", || partitions_of(&shared, &settings) == 4).await;
        for broker in 1..=3 {
            let rows = rig.rows();
            rig.mock.broker_down(broker).unwrap();
            let errors = [
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
                RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT,
            ];
            rig.mock.request_errors(RDKafkaApiKey::Fetch, &errors);
            rig.mock.request_errors(RDKafkaApiKey::Heartbeat, &errors[1..2]);
            rig.mock.request_errors(RDKafkaApiKey::OffsetCommit, &errors[..2]);
            tokio::time::sleep(Duration::from_millis(500)).await;
            rig.mock.broker_up(broker).unwrap();
            wait_for("more records", || rig.rows() > rows + 200).await;
        }
        stop.cancel();
        assert!(shared.status(&settings).unwrap()["errors_total"].as_u64().unwrap() > 0);
        consuming
    };
    let (consuming, ()) = tokio::join!(failing, produce_until(&rig, &sent, &stop));
    rig.assert_all_once(sent.load(Ordering::Relaxed)).await;
    consuming.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_fails_pauses_partitions_and_loses_nothing() {
    let rig = Rig::start(1, 2).await;
    let settings = rig.settings();
    let (consuming, shared) = rig.consume(&settings);
    for number in 0..100 {
        rig.produce(number, None).await;
    }
    wait_for("the first records", || rig.rows() == 100).await;
    // No object can be written while its folder is a file.
    let (objects, aside) = (rig.dir.path().join("objects"), rig.dir.path().join("aside"));
    std::fs::rename(&objects, &aside).unwrap();
    std::fs::write(&objects, "").unwrap();
    for number in 100..1_100 {
        rig.produce(number, None).await;
    }
    let waits = |shared: &Shared| {
        let status = shared.status(&settings).unwrap();
        let partitions = status["partitions"].as_array().unwrap().clone();
        partitions.len() == 2 && partitions.iter().all(|p| p["state"] == "waiting for the store")
    };
    wait_for("the partitions to wait", || waits(&shared)).await;
    assert_eq!(rig.rows(), 100);
    let rebalances =
        |shared: &Shared| shared.status(&settings).unwrap()["rebalances_total"].clone();
    let before = rebalances(&shared);
    // Longer than a session: who does not poll is thrown out of the group by then.
    tokio::time::sleep(Duration::from_secs(7)).await;
    std::fs::remove_file(&objects).unwrap();
    std::fs::rename(&aside, &objects).unwrap();
    rig.assert_once(1_100).await;
    assert_eq!(rebalances(&shared), before, "it stayed in the group");
    consuming.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_kafka_deleted_before_it_was_read_is_told_and_in_the_ledger() {
    let rig = Rig::start(1, 1).await;
    let settings = rig.settings();
    for number in 0..10 {
        rig.produce(number, Some(0)).await;
    }
    let (consuming, _) = rig.consume(&settings);
    wait_for("the first records", || rig.rows() == 10).await;
    consuming.stop().await;
    // The mock keeps 5 MB of a partition.
    let payload = format!("{{\"msg\":\"{}\"}}", "x".repeat(500_000));
    for _ in 0..20 {
        let record = FutureRecord::<str, str>::to("logs").payload(&payload).partition(0);
        rig.producer.send(record, TIME_MAX).await.unwrap();
    }
    let (consuming, shared) = rig.consume(&settings);
    let position = || shared.status(&settings).unwrap()["partitions"][0]["position"].as_i64();
    wait_for("the end", || position() == Some(30)).await;
    let deleted = rig.of_topic("deleted_before_read_total");
    assert!(deleted > 5, "{deleted} deleted");
    rig.assert_once(30 - usize::try_from(deleted).unwrap()).await;
    let ledger = rig.app.store.ledger(&TenantId::default(), None, 10).await.unwrap();
    let entry = &ledger.first().unwrap().entry;
    assert_eq!((entry.holes_total, entry.unexplained_total), (1, 0), "{entry:?}");
    assert_eq!(entry.holes[0].hole.from, "10");
    assert_eq!(entry.holes[0].hole.to, (10 + deleted).to_string());
    consuming.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn latest_is_the_end_when_the_partition_was_first_taken_up() {
    let rig = Rig::start(1, 1).await;
    let settings = KafkaSettings { start: Start::Latest, ..rig.settings() };
    for number in 0..20 {
        rig.produce(number, Some(0)).await;
    }
    let (consuming, shared) = rig.consume(&settings);
    wait_for("the partition", || partitions_of(&shared, &settings) == 1).await;
    consuming.stop().await;
    // Nobody reads while these come, and they are not passed over.
    for number in 20..50 {
        rig.produce(number, Some(0)).await;
    }
    let (consuming, _) = rig.consume(&settings);
    rig.assert_once(30).await;
    consuming.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_was_made_anew_is_read_whole() {
    let rig = Rig::start(1, 1).await;
    let settings = rig.settings();
    // A former topic of the same name was read to 1,000.
    let cluster = {
        let shared = Arc::new(Shared::default());
        let asked = client::consumer(&settings, shared.clone()).unwrap();
        cluster_id(&asked, &shared).await
    };
    let producer =
        ProducerId::derive(&[b"kafka", cluster.as_bytes(), b"lodge", b"logs", &0i32.to_be_bytes()]);
    let origin = Origin { producer, epoch: 1, seq: 1 };
    let empty = lodge_record::builder::BatchBuilder::new().finish().unwrap();
    let position = Position::new("1000").unwrap();
    let batch = Batch::new(TenantId::default(), Some(origin), Some(position), empty).unwrap();
    rig.app.ingest.submit(batch).await.unwrap();
    for number in 0..40 {
        rig.produce(number, Some(0)).await;
    }
    let (consuming, shared) = rig.consume(&settings);
    rig.assert_once(40).await;
    let position = || shared.status(&settings).unwrap()["partitions"][0]["position"].as_i64();
    wait_for("its place", || position() == Some(40)).await;
    consuming.stop().await;
}

#[test]
fn settings_that_librdkafka_refuses_stop_the_start() {
    let table: toml::Table = "\"sasl.mechanisms\" = \"GSSAPI\"\n\
                              \"security.protocol\" = \"sasl_plaintext\""
        .parse()
        .unwrap();
    let settings = KafkaSettings {
        brokers: "127.0.0.1:1".to_owned(),
        topics: vec!["logs".to_owned()],
        options: options(&toml::Value::Table(table)).unwrap(),
        ..KafkaSettings::default()
    };
    let Err(error) = Parts::new(&settings, &Arc::default()) else { panic!("it was accepted") };
    assert!(error.to_string().contains("GSSAPI"), "{error}");
}
