//! What the server counts, in Prometheus' text form at `/metrics`.
//!
//! Invariant: every limit of the server has a label of `lodge_limit_hits_total`, so that a refusal
//! is never silent.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lodge_ingest::IngestStats;
use lodge_query::EngineStats;
use lodge_store::StoreStats;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::kafka::KafkaMetrics;
use crate::sockets::SocketMetrics;

type Label = [(&'static str, &'static str); 1];
type TwoLabels = Vec<(&'static str, String)>;

/// The limits that can be hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// `connections_max`.
    Connections,
    /// [`crate::limits::URL_BYTES_MAX`].
    UrlBytes,
    /// `insert_bytes_max` or the agent batch's size.
    BodyBytes,
    /// `insert_memory_bytes_max`.
    InsertMemory,
    /// `stall_time_max` or the least rate of a body.
    SlowBody,
    /// `stall_time_max`, on the way out.
    SlowReader,
    /// `queries_max`.
    Queries,
    /// `query_time_max`.
    QueryTime,
    /// `query_memory_bytes_max`.
    QueryMemory,
    /// `query_bytes_max`.
    QueryBytes,
    /// `query_rows_max`.
    QueryRows,
    /// `tenant_time_per_minute`, `tenant_bytes_per_minute` or `tenant_rows_per_minute`.
    TenantQueries,
    /// `tails_max`.
    Tails,
    /// The live tail's own queue.
    TailLag,
    /// The commit queue of the ingest side.
    IngestQueue,
    /// `disk_free_bytes_min`.
    DiskFree,
    /// Agents that report, or busy sources of them.
    Agents,
    /// Journal uploads at once.
    Uploads,
    /// A Host or Origin header of another site.
    ForeignSite,
    /// A TLS handshake that failed or took too long.
    TlsHandshake,
    /// Requests that are remembered, so that a repeat is known.
    Requests,
    /// The longest message of a door that speaks no HTTP.
    FrameBytes,
    /// `stall_time_max` or the least rate of such a message.
    SlowFrame,
}

impl Limit {
    const fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::UrlBytes => "url_bytes",
            Self::BodyBytes => "body_bytes",
            Self::InsertMemory => "insert_memory",
            Self::SlowBody => "slow_body",
            Self::SlowReader => "slow_reader",
            Self::Queries => "queries",
            Self::QueryTime => "query_time",
            Self::QueryMemory => "query_memory",
            Self::QueryBytes => "query_bytes",
            Self::QueryRows => "query_rows",
            Self::TenantQueries => "tenant_queries",
            Self::Tails => "tails",
            Self::TailLag => "tail_lag",
            Self::IngestQueue => "ingest_queue",
            Self::DiskFree => "disk_free",
            Self::Agents => "agents",
            Self::Uploads => "uploads",
            Self::ForeignSite => "foreign_site",
            Self::TlsHandshake => "tls_handshake",
            Self::Requests => "remembered_requests",
            Self::FrameBytes => "frame_bytes",
            Self::SlowFrame => "slow_frame",
        }
    }

    const ALL: [Self; 23] = [
        Self::Connections,
        Self::UrlBytes,
        Self::BodyBytes,
        Self::InsertMemory,
        Self::SlowBody,
        Self::SlowReader,
        Self::Queries,
        Self::QueryTime,
        Self::QueryMemory,
        Self::QueryBytes,
        Self::QueryRows,
        Self::TenantQueries,
        Self::Tails,
        Self::TailLag,
        Self::IngestQueue,
        Self::DiskFree,
        Self::Agents,
        Self::Uploads,
        Self::ForeignSite,
        Self::TlsHandshake,
        Self::Requests,
        Self::FrameBytes,
        Self::SlowFrame,
    ];
}

/// Figures of the engines, read at the moment of a scrape.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Scraped {
    /// What is stored.
    pub(crate) store: StoreStats,
    /// What is on its way in.
    pub(crate) ingest: IngestStats,
    /// What queries have done.
    pub(crate) queries: EngineStats,
}

impl Scraped {
    /// Names, help and values of what only ever rises.
    fn counters(&self) -> [(&'static str, &'static str, u64); 36] {
        let (s, i, q) = (&self.store, &self.ingest, &self.queries);
        [
            ("query_blocks_read", "Blocks that queries looked at", q.blocks_read),
            ("query_blocks_skipped", "Blocks that indexes or times ruled out", q.blocks_skipped),
            ("query_rows_read", "Records of the blocks that queries looked at", q.rows_read),
            ("query_bytes_read", "Stored bytes of what queries looked at", q.bytes_read),
            ("query_partial_answers", "Answers marked as partial", q.partial_answers),
            ("query_tasks_sent", "Parts of queries sent to other servers", q.tasks_sent),
            ("query_tasks_lost", "Those that were done here after all", q.tasks_lost),
            ("query_tasks_done", "Parts of other servers' queries done", q.tasks_done),
            ("ingest_batches", "Batches acknowledged", i.batches),
            ("ingest_overloaded", "Batches refused because too much was waiting", i.overloaded),
            ("ingest_refused", "Batches refused for good or for their sequence", i.refused),
            ("ingest_failed", "Batches that failed in the store", i.failed),
            ("ingest_groups", "Groups committed", i.groups),
            ("tail_missed_records", "Records not sent to tails for want of memory", i.tail_missed),
            ("store_commits", "Group commits", s.commits),
            ("store_committed_bytes", "Bytes of committed objects", s.committed_bytes),
            ("store_delayed_commits", "Commits that waited for building", s.delayed),
            ("store_conflicts", "Transactions tried again", s.conflicts),
            ("ledger_unexplained_holes", "Missing parts without a reason", s.unexplained_holes),
            ("store_failures", "Commits and builds that failed", s.failures),
            ("store_disk_full", "Commits refused for want of disk space", s.disk_full),
            ("store_builds", "Segments built from commits", s.builds),
            ("store_merges", "Segments merged from segments", s.merges),
            ("store_built_bytes", "Bytes written by builds and merges", s.built_bytes),
            ("store_hot_hits", "Reads of recent records from memory", s.hot_hits),
            ("store_hot_misses", "Reads of recent records from disk", s.hot_misses),
            ("store_garbage_deleted", "Objects deleted after use", s.garbage_deleted),
            ("store_orphans_deleted", "Objects deleted that nothing named", s.orphans_deleted),
            ("object_puts", "Writing requests to the object store", s.requests.puts),
            ("object_gets", "Reading requests to the object store", s.requests.gets),
            ("object_other_requests", "Its other requests, deleting ones too", s.requests.others),
            ("object_failed_requests", "Answered with 5xx, 429, or not at all", s.requests.failed),
            ("cache_hits", "Parts of objects read from the cache on the disk", s.cache.hits),
            ("cache_misses", "Parts of objects read from the object store", s.cache.misses),
            ("cache_joined", "Those that another question was reading already", s.cache.joined),
            ("object_sent_bytes", "Bytes sent to the object store", s.requests.sent_bytes),
        ]
    }

    /// Names, help and values of what rises and falls.
    fn gauges(&self) -> [(&'static str, &'static str, u64); 7] {
        let (s, i) = (&self.store, &self.ingest);
        [
            ("stored_records", "Committed records", s.rows),
            ("stored_bytes", "Size of all segments", s.bytes),
            ("l0_bytes", "Size of the segments that wait to be built", s.l0_bytes),
            ("hot_bytes", "Recent records kept in memory", s.hot_bytes),
            ("ingest_queued_bytes", "Records that wait for their commit", i.queued_bytes),
            ("disk_free_bytes", "Free space on the data folder's disk", s.disk_free_bytes),
            ("disk_reserve_bytes", "Free space that is kept", s.disk_reserve_bytes),
        ]
    }
}

/// The last scrape, written into the text by hand: its values are not ours to count.
#[derive(Debug, Default)]
struct Scrape(Mutex<Scraped>);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let scraped = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, help, value) in scraped.counters() {
            let metric = ConstCounter::new(value);
            metric.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        for (name, help, value) in scraped.gauges() {
            let metric = ConstGauge::new(value);
            metric.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        let help = "Segments by level";
        let mut family = encoder.encode_descriptor("segments", help, None, MetricType::Gauge)?;
        let levels = [("l0", scraped.store.l0_segments), ("built", scraped.store.built_segments)];
        for (level, count) in levels {
            let labels = [("level", level)];
            ConstGauge::new(count).encode(family.encode_family(&labels)?)?;
        }
        let cpu = ConstCounter::new(cpu_time().as_secs_f64());
        let help = "CPU time of this process, user and system";
        let descriptor =
            encoder.encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?;
        cpu.encode(descriptor)?;
        let help = "Memory of this process";
        let resident = ConstGauge::new(resident_bytes().unwrap_or(0));
        let descriptor = encoder.encode_descriptor(
            "process_resident_memory_bytes",
            help,
            None,
            MetricType::Gauge,
        )?;
        resident.encode(descriptor)
    }
}

/// Every counter of the server.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<TwoLabels, Counter>,
    limit_hits: Family<Label, Counter>,
    denied: Family<Label, Counter>,
    query_seconds: Family<Label, Histogram, fn() -> Histogram>,
    /// Records acknowledged.
    pub(crate) ingest_records: Counter,
    /// Bytes of insert bodies after decompression.
    pub(crate) ingest_bytes: Counter,
    /// Batches acknowledged as already stored.
    pub(crate) ingest_duplicates: Counter,
    /// Lines that were kept as they were because they did not parse.
    pub(crate) malformed_lines: Counter,
    /// From handing a batch over to its acknowledgement.
    pub(crate) commit_seconds: Histogram,
    /// Queries that run now.
    pub(crate) queries_running: Gauge,
    /// Tails that are open now.
    pub(crate) tails_open: Gauge,
    /// Connections that are open now.
    pub(crate) connections_open: Gauge,
    /// Commits that a tail did not see because its client was too slow.
    pub(crate) tail_missed: Counter,
    /// Of the Kafka consumer.
    pub(crate) kafka: KafkaMetrics,
    /// The doors that speak no HTTP.
    pub(crate) sockets: SocketMetrics,
    scrape: Arc<Scrape>,
    started: std::time::Instant,
}

fn latency() -> Histogram {
    // 0.5 ms to 65 s in steps of two.
    Histogram::new(exponential_buckets(0.000_5, 2.0, 18))
}

impl Metrics {
    /// All counters at zero.
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("lodge");
        let metrics = Self {
            requests: Family::default(),
            limit_hits: Family::default(),
            denied: Family::default(),
            query_seconds: Family::new_with_constructor(latency),
            ingest_records: Counter::default(),
            ingest_bytes: Counter::default(),
            ingest_duplicates: Counter::default(),
            malformed_lines: Counter::default(),
            commit_seconds: latency(),
            queries_running: Gauge::default(),
            tails_open: Gauge::default(),
            connections_open: Gauge::default(),
            tail_missed: Counter::default(),
            kafka: KafkaMetrics::default(),
            sockets: SocketMetrics::default(),
            scrape: Arc::default(),
            started: std::time::Instant::now(),
            registry: Registry::default(),
        };
        metrics.register_requests(&mut registry);
        metrics.register_ingest(&mut registry);
        metrics.kafka.register(&mut registry);
        metrics.sockets.register(&mut registry);
        registry.register_collector(Box::new(metrics.scrape.clone()));
        for limit in Limit::ALL {
            // Touch them all, so that a limit that was never hit reads 0 and not "absent".
            let _ = metrics.limit_hits.get_or_create(&[("limit", limit.name())]);
        }
        Self { registry, ..metrics }
    }

    fn register_requests(&self, to: &mut Registry) {
        to.register("http_requests", "Answers by endpoint and status", self.requests.clone());
        to.register("limit_hits", "Refusals by the limit that was hit", self.limit_hits.clone());
        to.register("denied", "Requests of nobody, by the reason", self.denied.clone());
        to.register_with_unit(
            "query",
            "From a query's arrival to the last byte of its answer",
            Unit::Seconds,
            self.query_seconds.clone(),
        );
        to.register("queries_running", "Queries that run now", self.queries_running.clone());
        to.register("tails_open", "Live tails that are open now", self.tails_open.clone());
        to.register("connections_open", "Open connections", self.connections_open.clone());
        to.register(
            "tail_missed_commits",
            "Commits that a live tail skipped because its client was too slow",
            self.tail_missed.clone(),
        );
    }

    fn register_ingest(&self, to: &mut Registry) {
        to.register("ingest_records", "Records acknowledged", self.ingest_records.clone());
        to.register_with_unit(
            "ingest",
            "Insert bodies after decompression",
            Unit::Bytes,
            self.ingest_bytes.clone(),
        );
        to.register(
            "ingest_duplicate_batches",
            "Batches acknowledged again without storing them again",
            self.ingest_duplicates.clone(),
        );
        to.register(
            "ingest_malformed_lines",
            "Lines kept as they were because they are not JSON objects",
            self.malformed_lines.clone(),
        );
        to.register_with_unit(
            "ingest_commit",
            "From handing a batch over until it is durable",
            Unit::Seconds,
            self.commit_seconds.clone(),
        );
    }

    /// Counts a request of nobody.
    pub(crate) fn denied(&self, reason: &'static str) {
        self.denied.get_or_create(&[("reason", reason)]).inc();
    }

    /// Counts an answer.
    pub(crate) fn request(&self, endpoint: &str, status: u16) {
        let labels = vec![("endpoint", endpoint.to_owned()), ("status", status.to_string())];
        self.requests.get_or_create(&labels).inc();
    }

    /// Counts a limit that was hit.
    pub(crate) fn hit(&self, limit: Limit) {
        self.limit_hits.get_or_create(&[("limit", limit.name())]).inc();
    }

    /// How often a limit was hit.
    pub(crate) fn hits(&self) -> Vec<(&'static str, u64)> {
        Limit::ALL
            .iter()
            .map(|l| (l.name(), self.limit_hits.get_or_create(&[("limit", l.name())]).get()))
            .filter(|(_, n)| *n > 0)
            .collect()
    }

    /// Records how long a query took, to the last byte of its answer.
    pub(crate) fn query_took(&self, endpoint: &'static str, time: Duration) {
        let seconds = time.as_secs_f64();
        self.query_seconds.get_or_create(&[("endpoint", endpoint)]).observe(seconds);
    }

    /// Time since the start.
    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// The text for `/metrics`.
    pub(crate) fn text(&self, scraped: &Scraped) -> String {
        *self.scrape.0.lock().unwrap_or_else(PoisonError::into_inner) = *scraped;
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            let _ = writeln!(text, "# the metrics could not be written whole");
        }
        text
    }
}

/// Resident memory of this process, where the system tells it.
pub(crate) fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1_024)
}

/// CPU time of this process, user and system.
pub(crate) fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_every_limit_and_what_was_counted() {
        let metrics = Metrics::new();
        metrics.request("/health", 200);
        metrics.hit(Limit::Queries);
        metrics.query_took("/select/logsql/query", Duration::from_millis(3));
        let store = StoreStats { rows: 7, l0_segments: 3, ..StoreStats::default() };
        let text = metrics.text(&Scraped { store, ..Scraped::default() });
        for line in [
            "lodge_http_requests_total{endpoint=\"/health\",status=\"200\"} 1",
            "lodge_limit_hits_total{limit=\"queries\"} 1",
            "lodge_limit_hits_total{limit=\"tail_lag\"} 0",
            "lodge_query_seconds_count{endpoint=\"/select/logsql/query\"} 1",
            "lodge_stored_records 7",
            "lodge_segments{level=\"l0\"} 3",
            "lodge_store_commits_total 0",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }
}
