//! The server's settings: one table holds each setting's name, meaning, default, unit and range.
//!
//! A file is read into raw TOML values first and becomes a [`ServerConfig`] only when every key is
//! known and every value lies in its range. `lodge check-config` prints [`explain`].
//!
//! Invariant: [`SETTINGS`] names every field of [`ServerConfig`], so that what is documented is what
//! can be set; a setting is there only where no default can serve everybody.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use lodge_store::{Bucket, HIDDEN};

mod cluster;
mod values;

pub use cluster::{CatalogUrl, ObjectsOptions, Roles};

use values::{
    bind, bytes, count, datagrams_bind, duration, limit, listeners, networks, options, path,
    show_bind, show_bytes, show_duration, show_limit, show_options, show_path, shown_options, text,
};

use crate::kafka::settings as kafka;
pub use crate::kafka::settings::{KafkaOptions, KafkaSettings, Start as KafkaStart};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Everything that can be set, validated. `ServerConfig::default()` is a working server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// Folder of the catalog and the objects.
    pub data_dir: PathBuf,
    /// Address of the bucket that objects are in; empty: files in the data folder.
    pub objects: String,
    /// Options of that object store's client.
    pub objects_options: ObjectsOptions,
    /// Bytes of that bucket's objects that are kept in the data folder for queries.
    pub cache_bytes_max: u64,
    /// Where the catalog is that several servers share.
    pub catalog: CatalogUrl,
    /// What this server does.
    pub roles: Roles,
    /// Address of the HTTP listener.
    pub listen: Bind,
    /// Where Elasticsearch's clients find `_bulk` at the root, as on port 9200.
    pub elasticsearch: Option<Bind>,
    /// Where Loki's clients find its push, as on port 3100.
    pub loki: Option<Bind>,
    /// Where OpenTelemetry's clients find its HTTP, as on port 4318.
    pub otlp: Option<Bind>,
    /// Where OpenTelemetry's clients find its gRPC, as on port 4317.
    pub otlp_grpc: Option<Bind>,
    /// The server's certificate, PEM.
    pub tls_certificate: Option<PathBuf>,
    /// Its key, PEM.
    pub tls_key: Option<PathBuf>,
    /// Authorities of client certificates, PEM.
    pub tls_client_ca: Option<PathBuf>,
    /// Who may send over sockets that know no credentials.
    pub trusted_networks: Vec<IpNet>,
    /// Listeners where a request that equals one of the last hour is taken for a repeat of it.
    pub suppress_repeats: Vec<String>,
    /// A query that takes longer ends with an error or, if the caller allowed it, a marked part.
    pub query_time_max: Duration,
    /// Memory that one query may use.
    pub query_memory_bytes_max: u64,
    /// Stored bytes that one query may look at; `None` is as many as it takes.
    pub query_bytes_max: Option<u64>,
    /// Records that one query may look at; `None` is as many as it takes.
    pub query_rows_max: Option<u64>,
    /// Memory that the running queries of one tenant may use together.
    pub tenant_memory_bytes_max: Option<u64>,
    /// How long the queries of one tenant may run within a minute, added up.
    pub tenant_time_per_minute: Option<Duration>,
    /// Stored bytes that the queries of one tenant may look at within a minute.
    pub tenant_bytes_per_minute: Option<u64>,
    /// Records that the queries of one tenant may look at within a minute.
    pub tenant_rows_per_minute: Option<u64>,
    /// Records that a query must have to read before other servers take part in it.
    pub spread_rows_min: u64,
    /// Queries that run at once.
    pub queries_max: usize,
    /// Live tails that are open at once.
    pub tails_max: usize,
    /// Connections that are open at once over HTTP, and as many to all other listeners.
    pub connections_max: usize,
    /// Size of one insert request after decompression.
    pub insert_bytes_max: u64,
    /// Memory of all insert requests that are being received and decoded.
    pub insert_memory_bytes_max: u64,
    /// Free disk space below which inserts are refused; `None` is 5 % of the disk, at most 256 MiB.
    pub disk_free_bytes_min: Option<u64>,
    /// A client that sends or takes no byte for this long is disconnected.
    pub stall_time_max: Duration,
    /// How long a stopping server waits for running requests.
    pub shutdown_time_max: Duration,
    /// What is read from Kafka: the settings `kafka_…`.
    pub kafka: KafkaSettings,
    /// Where syslog is taken, a datagram each.
    pub syslog_udp: Option<Bind>,
    /// Where syslog is taken over connections.
    pub syslog_tcp: Option<Bind>,
    /// Where Fluent Forward is taken.
    pub forward: Option<Bind>,
    /// Where GELF is taken in datagrams.
    pub gelf_udp: Option<Bind>,
    /// Where GELF is taken over connections.
    pub gelf_tcp: Option<Bind>,
    /// Where JSON lines are taken over connections.
    pub json_tcp: Option<Bind>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("lodge-data"),
            objects: String::new(),
            objects_options: ObjectsOptions::default(),
            cache_bytes_max: 16 * GIB,
            catalog: CatalogUrl::default(),
            roles: Roles::default(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9420)).into(),
            elasticsearch: None,
            loki: None,
            otlp: None,
            otlp_grpc: None,
            tls_certificate: None,
            tls_key: None,
            tls_client_ca: None,
            trusted_networks: vec![
                Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8).into(),
                Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128).into(),
            ],
            suppress_repeats: Vec::new(),
            query_time_max: Duration::from_secs(30),
            query_memory_bytes_max: 512 * MIB,
            query_bytes_max: None,
            query_rows_max: None,
            tenant_memory_bytes_max: None,
            tenant_time_per_minute: None,
            tenant_bytes_per_minute: None,
            tenant_rows_per_minute: None,
            spread_rows_min: lodge_query::SPREAD_ROWS_MIN,
            queries_max: 16,
            tails_max: 64,
            connections_max: 10_000,
            insert_bytes_max: 16 * GIB,
            insert_memory_bytes_max: 512 * MIB,
            disk_free_bytes_min: None,
            stall_time_max: Duration::from_secs(30),
            shutdown_time_max: Duration::from_secs(10),
            kafka: KafkaSettings::default(),
            syslog_udp: None,
            syslog_tcp: None,
            forward: None,
            gelf_udp: None,
            gelf_tcp: None,
            json_tcp: None,
        }
    }
}

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error(
        "cannot read the configuration file {path}: {source}; check the path and its permissions"
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{path} is not valid TOML: {reason}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The parser's message, with line and column.
        reason: String,
    },
    /// A key that no setting has.
    #[error("{place}: unknown setting `{key}`{suggestion}; `lodge check-config` lists all of them")]
    Unknown {
        /// Where it was found.
        place: String,
        /// The key as written.
        key: String,
        /// "; did you mean `x`?" or nothing.
        suggestion: String,
    },
    /// A value out of its range or of another type.
    #[error("{place}: `{key}` = {value} is not accepted: {reason} (it takes {range})")]
    Value {
        /// Where it was found.
        place: String,
        /// The setting.
        key: &'static str,
        /// The value as written.
        value: String,
        /// What is wrong with it.
        reason: String,
        /// What would be right.
        range: &'static str,
    },
}

/// One row of the settings table.
pub struct Setting {
    /// The key in the file.
    pub name: &'static str,
    /// What it decides and when to change it.
    pub doc: &'static str,
    /// Unit and range, for people.
    pub range: &'static str,
    show: fn(&ServerConfig) -> String,
    set: fn(&mut ServerConfig, &toml::Value) -> Result<(), String>,
}

/// Every setting, in the order in which they are explained.
pub const SETTINGS: &[Setting] = &[
    Setting {
        name: "data_dir",
        doc: "Folder of everything the server keeps; another disk is the usual reason to set it.",
        range: "a path; relative to where the server starts",
        show: |c| format!("{:?}", c.data_dir.display().to_string()),
        set: |c, v| text(v).map(|s| c.data_dir = PathBuf::from(s)),
    },
    Setting {
        name: "objects",
        doc: "Bucket that records are kept in instead of files in data_dir.",
        range: "\"s3://bucket/folder\", \"gs://…\" or \"az://…\", or \"\" for files in data_dir",
        show: |c| format!("{:?}", c.objects),
        set: |c, v| match v.as_str() {
            Some(url) => Bucket::check_url(url).map(|()| c.objects = url.to_owned()),
            None => Err(format!("it is a {}, not a string in quotes", v.type_str())),
        },
    },
    Setting {
        name: "objects_options",
        doc: "Options of that store's client; what is missing comes from AWS_…, GOOGLE_…, AZURE_….",
        range: "a table, such as { endpoint = \"https://s3.example\", region = \"eu-1\" }",
        show: |c| show_options(&c.objects_options.0),
        set: |c, v| options(v).map(|o| c.objects_options = ObjectsOptions(o)),
    },
    Setting {
        name: "cache_bytes_max",
        doc: "Parts of the bucket's objects kept in data_dir for queries, at most half of its free disk.",
        range: "bytes from 0 (none) to 64TiB",
        show: |c| show_bytes(c.cache_bytes_max),
        set: |c, v| bytes(v, 0, 65_536 * GIB).map(|n| c.cache_bytes_max = n),
    },
    Setting {
        name: "catalog",
        doc: "PostgreSQL that says which objects are the records; any number of servers share it.",
        range: "\"postgres://user:password@host/database\", or \"\" for a file in data_dir",
        show: |c| format!("{:?}", c.catalog.shown()),
        set: |c, v| CatalogUrl::parse(v.as_str().unwrap_or("?")).map(|url| c.catalog = url),
    },
    Setting {
        name: "roles",
        doc: "What this server does of what all do that share its catalog.",
        range: "a list of \"ingest\", \"query\" and \"build\"",
        show: |c| c.roles.shown(),
        set: |c, v| Roles::parse(v).map(|roles| c.roles = roles),
    },
    Setting {
        name: "listen",
        doc: "Address of the HTTP listener; other machines are served once there is a token.",
        range: ADDRESS,
        show: |c| format!("\"{}\"", c.listen),
        set: |c, v| Bind::parse(&text(v)?).map(|a| c.listen = a),
    },
    Setting {
        name: "elasticsearch",
        doc: "Also take Elasticsearch's _bulk here, at the root, as on port 9200.",
        range: ADDRESS_OR_OFF,
        show: |c| show_bind(c.elasticsearch),
        set: |c, v| bind(v).map(|a| c.elasticsearch = a),
    },
    Setting {
        name: "loki",
        doc: "Also take Loki's push here, as on port 3100.",
        range: ADDRESS_OR_OFF,
        show: |c| show_bind(c.loki),
        set: |c, v| bind(v).map(|a| c.loki = a),
    },
    Setting {
        name: "otlp",
        doc: "Also take OpenTelemetry's logs over HTTP here, as on port 4318.",
        range: ADDRESS_OR_OFF,
        show: |c| show_bind(c.otlp),
        set: |c, v| bind(v).map(|a| c.otlp = a),
    },
    Setting {
        name: "otlp_grpc",
        doc: "Also take OpenTelemetry's logs over gRPC here, as on port 4317.",
        range: ADDRESS_OR_OFF,
        show: |c| show_bind(c.otlp_grpc),
        set: |c, v| bind(v).map(|a| c.otlp_grpc = a),
    },
    Setting {
        name: "tls_certificate",
        doc: "Certificate for tls:// addresses, with those up to its authority; read when it changes.",
        range: "a path to a PEM file, or \"\" for none",
        show: |c| show_path(c.tls_certificate.as_deref()),
        set: |c, v| path(v).map(|p| c.tls_certificate = p),
    },
    Setting {
        name: "tls_key",
        doc: "The key that belongs to tls_certificate.",
        range: "a path to a PEM file, or \"\" for none",
        show: |c| show_path(c.tls_key.as_deref()),
        set: |c, v| path(v).map(|p| c.tls_key = p),
    },
    Setting {
        name: "tls_client_ca",
        doc: "Authorities of client certificates; `lodge token create --subject` says what they may.",
        range: "a path to a PEM file, or \"\" for none",
        show: |c| show_path(c.tls_client_ca.as_deref()),
        set: |c, v| path(v).map(|p| c.tls_client_ca = p),
    },
    Setting {
        name: "trusted_networks",
        doc: "Who may send over sockets that know no credentials (syslog, GELF, JSON lines).",
        range: "a list of networks, such as [\"127.0.0.0/8\", \"10.2.0.0/16\"]",
        show: |c| {
            let all: Vec<String> = c.trusted_networks.iter().map(|n| format!("\"{n}\"")).collect();
            format!("[{}]", all.join(", "))
        },
        set: |c, v| networks(v).map(|n| c.trusted_networks = n),
    },
    Setting {
        name: "suppress_repeats",
        doc: "Listeners where a request equal to one of the last hour is taken for its repeat.",
        range: "a list of listen, elasticsearch, loki, otlp, otlp_grpc",
        show: |c| {
            let all: Vec<String> = c.suppress_repeats.iter().map(|n| format!("\"{n}\"")).collect();
            format!("[{}]", all.join(", "))
        },
        set: |c, v| listeners(v).map(|n| c.suppress_repeats = n),
    },
    Setting {
        name: "query_time_max",
        doc: "A query that runs longer is stopped; a request may ask for less with timeout=.",
        range: "a duration from 1s to 1h",
        show: |c| show_duration(c.query_time_max),
        set: |c, v| duration(v, 1, 3_600).map(|d| c.query_time_max = d),
    },
    Setting {
        name: "query_memory_bytes_max",
        doc: "Memory of one query; one that needs more ends with an error that says so.",
        range: "bytes from 16MiB to 1TiB",
        show: |c| show_bytes(c.query_memory_bytes_max),
        set: |c, v| bytes(v, 16 * MIB, 1_024 * GIB).map(|n| c.query_memory_bytes_max = n),
    },
    Setting {
        name: "query_bytes_max",
        doc: "Stored bytes of one query's columns, by the blocks that it looks at; how much is dear \
              depends on the disk. A request may ask for less with max_bytes=.",
        range: BYTES_OR_UNLIMITED,
        show: |c| show_limit(c.query_bytes_max, show_bytes),
        set: |c, v| limit(v, some_bytes).map(|n| c.query_bytes_max = n),
    },
    Setting {
        name: "query_rows_max",
        doc: "Records that one query looks at; a request may ask for less with max_rows=.",
        range: ROWS_OR_UNLIMITED,
        show: |c| show_limit(c.query_rows_max, |n| n.to_string()),
        set: |c, v| limit(v, some_rows).map(|n| c.query_rows_max = n),
    },
    Setting {
        name: "tenant_memory_bytes_max",
        doc: "Memory of all running queries of one tenant; who shares a server decides on shares.",
        range: BYTES_OR_UNLIMITED,
        show: |c| show_limit(c.tenant_memory_bytes_max, show_bytes),
        set: |c, v| limit(v, some_bytes).map(|n| c.tenant_memory_bytes_max = n),
    },
    Setting {
        name: "tenant_time_per_minute",
        doc: "How long one tenant's queries run within a minute, added up; then it gets 429.",
        range: "a duration from 1s to 10h, or \"unlimited\"",
        show: |c| show_limit(c.tenant_time_per_minute, show_duration),
        set: |c, v| limit(v, |v| duration(v, 1, 36_000)).map(|d| c.tenant_time_per_minute = d),
    },
    Setting {
        name: "tenant_bytes_per_minute",
        doc: "Stored bytes that one tenant's queries look at within a minute; then it gets 429.",
        range: BYTES_OR_UNLIMITED,
        show: |c| show_limit(c.tenant_bytes_per_minute, show_bytes),
        set: |c, v| limit(v, some_bytes).map(|n| c.tenant_bytes_per_minute = n),
    },
    Setting {
        name: "tenant_rows_per_minute",
        doc: "Records that one tenant's queries look at within a minute; then it gets 429.",
        range: ROWS_OR_UNLIMITED,
        show: |c| show_limit(c.tenant_rows_per_minute, |n| n.to_string()),
        set: |c, v| limit(v, some_rows).map(|n| c.tenant_rows_per_minute = n),
    },
    Setting {
        name: "spread_rows_min",
        doc: "Records that a query must have to read before other servers of the cluster take part: \
              more where the network between them is slow.",
        range: "a number from 1",
        show: |c| c.spread_rows_min.to_string(),
        set: |c, v| count(v, 1, i64::MAX as u64).map(|n| c.spread_rows_min = n as u64),
    },
    Setting {
        name: "queries_max",
        doc: "Queries that run at once; more wait a moment and are then refused with 429.",
        range: "a number from 1 to 1000",
        show: |c| c.queries_max.to_string(),
        set: |c, v| count(v, 1, 1_000).map(|n| c.queries_max = n),
    },
    Setting {
        name: "tails_max",
        doc: "Live tails that are open at once; more are refused with 429.",
        range: "a number from 1 to 10000",
        show: |c| c.tails_max.to_string(),
        set: |c, v| count(v, 1, 10_000).map(|n| c.tails_max = n),
    },
    Setting {
        name: "connections_max",
        doc: "Connections that are open at once over HTTP, and as many to all other listeners. Beyond \
              that, over HTTP one that does nothing is closed for each that comes; others wait.",
        range: "a number from 8 to 100000",
        show: |c| c.connections_max.to_string(),
        set: |c, v| count(v, 8, 100_000).map(|n| c.connections_max = n),
    },
    Setting {
        name: "insert_bytes_max",
        doc: "Size of one /insert request after decompression; what is larger gets 413.",
        range: "bytes from 1MiB to 1TiB",
        show: |c| show_bytes(c.insert_bytes_max),
        set: |c, v| bytes(v, MIB, 1_024 * GIB).map(|n| c.insert_bytes_max = n),
    },
    Setting {
        name: "insert_memory_bytes_max",
        doc: "Memory of all inserts being received; when it is used up, new ones get 429.",
        range: "bytes from 128MiB to 1TiB",
        show: |c| show_bytes(c.insert_memory_bytes_max),
        set: |c, v| bytes(v, 128 * MIB, 1_024 * GIB).map(|n| c.insert_memory_bytes_max = n),
    },
    Setting {
        name: "disk_free_bytes_min",
        doc: "Inserts get 503 before the disk is fuller than this, so that it can always recover.",
        range: "bytes from 0 to 1TiB, or \"auto\" for 5 % of the disk but at most 256MiB",
        show: |c| c.disk_free_bytes_min.map_or_else(|| "\"auto\"".to_owned(), show_bytes),
        set: |c, v| {
            c.disk_free_bytes_min = match v.as_str() {
                Some("auto") => None,
                _ => Some(bytes(v, 0, 1_024 * GIB)?),
            };
            Ok(())
        },
    },
    Setting {
        name: "stall_time_max",
        doc: "A client that sends or takes nothing for this long is disconnected.",
        range: "a duration from 1s to 1h",
        show: |c| show_duration(c.stall_time_max),
        set: |c, v| duration(v, 1, 3_600).map(|d| c.stall_time_max = d),
    },
    Setting {
        name: "shutdown_time_max",
        doc: "How long a stopping server waits for requests that still run.",
        range: "a duration from 0s to 10m",
        show: |c| show_duration(c.shutdown_time_max),
        set: |c, v| duration(v, 0, 600).map(|d| c.shutdown_time_max = d),
    },
    Setting {
        name: "kafka_brokers",
        doc: "Brokers of a Kafka cluster whose topics are read; empty reads nothing.",
        range: "hosts and ports with commas between, such as \"kafka-1:9092,kafka-2:9092\"",
        show: |c| format!("{:?}", c.kafka.brokers),
        set: |c, v| kafka::brokers(v).map(|b| c.kafka.brokers = b),
    },
    Setting {
        name: "kafka_topics",
        doc: "Topics that are read: names, and patterns of names that begin with ^.",
        range: "a list of names or patterns, such as [\"logs\", \"^app-.*\"], or one of them",
        show: |c| format!("{:?}", c.kafka.topics),
        set: |c, v| kafka::topics(v).map(|t| c.kafka.topics = t),
    },
    Setting {
        name: "kafka_group",
        doc: "Consumer group; another group reads and stores everything once more.",
        range: "a name of 1 to 255 bytes",
        show: |c| format!("{:?}", c.kafka.group),
        set: |c, v| kafka::group(v).map(|g| c.kafka.group = g),
    },
    Setting {
        name: "kafka_format",
        doc: "How messages are written; one that is not written so is kept as text.",
        range: "\"json\", \"otlp\", \"raw\" or \"syslog\"",
        show: |c| format!("{:?}", c.kafka.format.name()),
        set: |c, v| kafka::format(v).map(|f| c.kafka.format = f),
    },
    Setting {
        name: "kafka_dead_letter_topic",
        doc: "Topic for messages that are no text or too large; without one they are cut to fit.",
        range: "the name of a topic that is not read, or \"\" for none",
        show: |c| format!("{:?}", c.kafka.dead_letter_topic),
        set: |c, v| kafka::dead_letter_topic(v).map(|t| c.kafka.dead_letter_topic = t),
    },
    Setting {
        name: "kafka_start",
        doc: "Where a partition is begun of which nothing was ever stored.",
        range: "\"earliest\" or \"latest\"",
        show: |c| format!("{:?}", kafka::start_name(c.kafka.start)),
        set: |c, v| kafka::start(v).map(|s| c.kafka.start = s),
    },
    Setting {
        name: "kafka_options",
        doc: "Properties of librdkafka: security.protocol, sasl.*, ssl.*, session.timeout.ms, …",
        range: "a table, such as { \"security.protocol\" = \"ssl\" }; secrets are not shown",
        show: |c| c.kafka.options.shown(),
        set: |c, v| kafka::options(v).map(|o| c.kafka.options = o),
    },
    Setting {
        name: "syslog_udp",
        doc: "Address that takes syslog over UDP. Each such door is off until an address is set.",
        range: DATAGRAMS_RANGE,
        show: |c| show_bind(c.syslog_udp),
        set: |c, v| datagrams_bind(v).map(|b| c.syslog_udp = b),
    },
    Setting {
        name: "syslog_tcp",
        doc: "Address that takes syslog over TCP, in both framings.",
        range: CONNECTIONS_RANGE,
        show: |c| show_bind(c.syslog_tcp),
        set: |c, v| bind(v).map(|b| c.syslog_tcp = b),
    },
    Setting {
        name: "forward",
        doc: "Address that takes Fluent Forward (Fluentd, Fluent Bit, Docker); 24224 is usual.",
        range: CONNECTIONS_RANGE,
        show: |c| show_bind(c.forward),
        set: |c, v| bind(v).map(|b| c.forward = b),
    },
    Setting {
        name: "gelf_udp",
        doc: "Address that takes GELF over UDP, chunked and compressed; 12201 is usual.",
        range: DATAGRAMS_RANGE,
        show: |c| show_bind(c.gelf_udp),
        set: |c, v| datagrams_bind(v).map(|b| c.gelf_udp = b),
    },
    Setting {
        name: "gelf_tcp",
        doc: "Address that takes GELF over TCP, each message ended by NUL; 12201 is usual.",
        range: CONNECTIONS_RANGE,
        show: |c| show_bind(c.gelf_tcp),
        set: |c, v| bind(v).map(|b| c.gelf_tcp = b),
    },
    Setting {
        name: "json_tcp",
        doc: "Address that takes JSON lines over TCP, as /insert/jsonline does over HTTP.",
        range: CONNECTIONS_RANGE,
        show: |c| show_bind(c.json_tcp),
        set: |c, v| bind(v).map(|b| c.json_tcp = b),
    },
];

const BYTES_OR_UNLIMITED: &str = "bytes from 1MiB to 1024TiB, or \"unlimited\"";
const ROWS_OR_UNLIMITED: &str = "a number from 1 to 10^15, or \"unlimited\"";

fn some_bytes(value: &toml::Value) -> Result<u64, String> {
    bytes(value, MIB, 1_048_576 * GIB)
}

fn some_rows(value: &toml::Value) -> Result<u64, String> {
    count(value, 1, 1_000_000_000_000_000).map(|n| n as u64)
}

const DATAGRAMS_RANGE: &str = "an IP address and port, such as \"127.0.0.1:514\", or \"off\"";
const CONNECTIONS_RANGE: &str =
    "an IP address and port, such as \"127.0.0.1:601\", \"tls://0.0.0.0:6514\", or \"off\"";

/// Reads and validates a configuration file.
pub fn load(path: &Path) -> Result<ServerConfig, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_path_buf(), source })?;
    parse(&text, &path.display().to_string())
}

/// Validates the text of a configuration file; `place` names it in errors.
pub fn parse(text: &str, place: &str) -> Result<ServerConfig, ConfigError> {
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| ConfigError::Syntax {
        path: PathBuf::from(place),
        reason: e.to_string().trim_end().to_owned(),
    })?;
    let mut config = ServerConfig::default();
    for (key, value) in &table {
        let Some(setting) = SETTINGS.iter().find(|s| s.name == key) else {
            return Err(ConfigError::Unknown {
                place: place.to_owned(),
                key: key.clone(),
                suggestion: closest(key)
                    .map(|name| format!("; did you mean `{name}`?"))
                    .unwrap_or_default(),
            });
        };
        let refused = |reason| refused(setting, Some(value), place, reason);
        (setting.set)(&mut config, value).map_err(refused)?;
    }
    if let Err((name, reason)) = config.check_cluster().and_then(|()| config.kafka.check())
        && let Some(setting) = SETTINGS.iter().find(|s| s.name == name)
    {
        return Err(refused(setting, table.get(name), place, reason));
    }
    Ok(config)
}

fn refused(
    setting: &Setting,
    value: Option<&toml::Value>,
    place: &str,
    reason: String,
) -> ConfigError {
    let value = match value {
        Some(secret) if setting.name == "kafka_options" => kafka::shown(secret),
        Some(secret) if setting.name == "objects_options" => shown_options(secret),
        // It may be an address that was not understood, with a password in it.
        Some(_) if setting.name == "catalog" => format!("{:?}", HIDDEN),
        Some(value) => value.to_string(),
        None => "(not set)".to_owned(),
    };
    let place = place.to_owned();
    ConfigError::Value { place, key: setting.name, value, reason, range: setting.range }
}

/// An address to listen on, and whether TLS is spoken there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bind {
    /// Address and port; port 0 takes any free one.
    pub address: SocketAddr,
    /// Whether it is TLS.
    pub tls: bool,
}

const ADDRESS: &str = "an IP address and port, such as \"127.0.0.1:9420\" or, with TLS, \
                       \"tls://0.0.0.0:9420\"";
const ADDRESS_OR_OFF: &str = "an address as of `listen`, or \"off\"";

impl From<SocketAddr> for Bind {
    fn from(address: SocketAddr) -> Self {
        Self { address, tls: false }
    }
}

impl std::fmt::Display for Bind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", if self.tls { "tls://" } else { "" }, self.address)
    }
}

impl Bind {
    /// Reads `IP:PORT`, `localhost:PORT` or either behind `tls://`.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (tls, rest) = match text.strip_prefix("tls://") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let numeric = match rest.strip_prefix("localhost:") {
            Some(port) => format!("127.0.0.1:{port}"),
            None => rest.to_owned(),
        };
        let address =
            numeric.parse().map_err(|_| format!("`{rest}` is not an IP address with a port"))?;
        Ok(Self { address, tls })
    }

    /// Whether only this machine can reach it.
    pub fn is_loopback(&self) -> bool {
        self.address.ip().is_loopback()
    }
}

/// The settings in force as commented TOML: what `lodge check-config` prints.
pub fn explain(config: &ServerConfig) -> String {
    let default = ServerConfig::default();
    let mut out = String::new();
    for setting in SETTINGS {
        let value = (setting.show)(config);
        let standard = (setting.show)(&default);
        let origin = if value == standard {
            "the default".to_owned()
        } else {
            format!("default {standard}")
        };
        out.push_str(&format!(
            "# {}\n# Takes {}; {origin}.\n{} = {value}\n\n",
            setting.doc, setting.range, setting.name
        ));
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

/// The known setting whose name is nearest to `key`, if it is near enough to be a slip.
fn closest(key: &str) -> Option<&'static str> {
    SETTINGS
        .iter()
        .map(|s| (strsim::osa_distance(key, s.name), s.name))
        .min()
        .filter(|(distance, name)| *distance <= name.len() / 3 + 1)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_explained_reads_back_as_the_same_configuration() {
        let mut config = ServerConfig { queries_max: 3, ..ServerConfig::default() };
        config.query_time_max = Duration::from_millis(1_500);
        config.disk_free_bytes_min = Some(12_345);
        config.otlp = Some(Bind::parse("tls://127.0.0.1:4318").unwrap());
        config.tls_key = Some("a \"key\".pem".into());
        config.trusted_networks = vec!["10.0.0.0/8".parse().unwrap()];
        config.syslog_udp = Bind::parse("127.0.0.1:514").ok();
        config.forward = Bind::parse("tls://[::1]:24224").ok();
        let text = explain(&config);
        assert_eq!(parse(&text, "explained").unwrap(), config);
        assert!(text.contains("# Takes a number from 1 to 1000; default 16."), "{text}");
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_closest_name() {
        let error = parse("query_timemax = \"3s\"", "lodge.toml").unwrap_err().to_string();
        assert!(error.contains("did you mean `query_time_max`?"), "{error}");
        let error = parse("colour = 3", "lodge.toml").unwrap_err().to_string();
        assert!(error.contains("unknown setting `colour`;"), "{error}");
    }

    #[test]
    fn values_out_of_range_say_what_is_taken() {
        for (text, part) in [
            ("queries_max = 0", "out of range (it takes a number from 1 to 1000)"),
            ("query_time_max = 5", "write it as a string with a unit"),
            ("query_time_max = \"2h\"", "out of range"),
            ("query_memory_bytes_max = \"5 parsecs\"", "not a unit of bytes"),
            ("loki = \"tls://here\"", "`here` is not an IP address with a port"),
            ("trusted_networks = [\"10.0.0.0\"]", "not a network"),
            ("listen = \"nonsense\"", "not an IP address with a port"),
            ("data_dir = \"\"", "it is empty"),
            ("objects = \"ftp://logs\"", "begins with s3://"),
            ("objects = \"s3://logs\"\nobjects_options = { colour = 1 }", "no option of that"),
            ("syslog_tcp = 601", "not a string"),
            ("syslog_udp = \"tls://127.0.0.1:6514\"", "TLS needs connections"),
            ("forward = \"tls://fluentd:24224\"", "not an IP address with a port"),
        ] {
            let error = parse(text, "lodge.toml").unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn bytes_are_taken_as_numbers_and_with_units() {
        let config = parse("query_memory_bytes_max = \"64MiB\"", "x").unwrap();
        assert_eq!(config.query_memory_bytes_max, 64 * MIB);
        let config = parse("query_memory_bytes_max = 33554432", "x").unwrap();
        assert_eq!(config.query_memory_bytes_max, 32 * MIB);
        assert_eq!(parse("listen = \"localhost:1\"", "x").unwrap().listen.address.port(), 1);
        let config = parse("loki = \"tls://[::]:3100\"\nelasticsearch = \"off\"", "x").unwrap();
        assert_eq!(config.loki.unwrap().to_string(), "tls://[::]:3100");
        assert_eq!(config.elasticsearch, None);
    }
}
