//! The settings of the Kafka consumer: what may be set, and why not the rest.
//!
//! Invariants: what decides about exactly once is ours and cannot be set; a property is handed on
//! only if librdkafka takes it; a secret is never shown, neither by `lodge check-config` nor in an
//! error nor in a log.

use std::collections::BTreeMap;
use std::fmt;

use lodge_wire::kafka_message::Format;
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;

/// Most topics and patterns that are named one by one.
const TOPICS_MAX: usize = 1_000;
/// Longest name of a topic, as Kafka has it.
const TOPIC_BYTES_MAX: usize = 249;
/// Longest name of a group.
const GROUP_BYTES_MAX: usize = 255;
/// Stands for a secret where settings are shown.
const HIDDEN: &str = "(hidden)";

/// Where a partition is begun of which nothing was ever stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Start {
    /// With the oldest message that Kafka has.
    #[default]
    Earliest,
    /// With the first message that comes after the partition was first taken up.
    Latest,
}

/// What is read from Kafka, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaSettings {
    /// `host:port` of some brokers, with commas between; empty switches the consumer off.
    pub brokers: String,
    /// Names of topics, and patterns that begin with `^`.
    pub topics: Vec<String>,
    /// The consumer group.
    pub group: String,
    /// How messages are written.
    pub format: Format,
    /// Where messages go that can be no record; empty keeps them as records as far as may be.
    pub dead_letter_topic: String,
    /// Where a partition is begun.
    pub start: Start,
    /// Properties of librdkafka.
    pub options: KafkaOptions,
}

impl Default for KafkaSettings {
    fn default() -> Self {
        Self {
            brokers: String::new(),
            topics: Vec::new(),
            group: "lodge".to_owned(),
            format: Format::Json,
            dead_letter_topic: String::new(),
            start: Start::default(),
            options: KafkaOptions::default(),
        }
    }
}

impl KafkaSettings {
    /// Whether there is anything to read.
    pub(crate) fn is_on(&self) -> bool {
        !self.brokers.is_empty()
    }

    /// What two settings say against each other: the name of one of them, and why.
    pub(crate) fn check(&self) -> Result<(), (&'static str, String)> {
        if self.is_on() && self.topics.is_empty() {
            let reason = "`kafka_brokers` is set, but no topic is named".to_owned();
            return Err(("kafka_topics", reason));
        }
        if !self.is_on() && !self.topics.is_empty() {
            let reason = "topics are named, but no broker is (\"host:9092\")".to_owned();
            return Err(("kafka_brokers", reason));
        }
        if self.topics.contains(&self.dead_letter_topic) {
            let reason = "it is among `kafka_topics`: what cannot be read would be read for ever";
            return Err(("kafka_dead_letter_topic", reason.to_owned()));
        }
        Ok(())
    }
}

/// Properties of librdkafka by name.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct KafkaOptions(BTreeMap<String, String>);

impl KafkaOptions {
    /// Names and values, secrets too.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// As a TOML table in one line, without secrets.
    pub(crate) fn shown(&self) -> String {
        let shown = |(name, value): (&str, &str)| {
            let value = if is_secret(name) { HIDDEN } else { value };
            format!("{} = {}", quoted(name), quoted(value))
        };
        let all: Vec<String> = self.iter().map(shown).collect();
        if all.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", all.join(", ")) }
    }
}

impl fmt::Debug for KafkaOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// Whether the value of a property is not for other eyes.
fn is_secret(name: &str) -> bool {
    let parts = ["password", "secret", "key.pem", "oauthbearer.config", "jaas", "assertion"];
    parts.iter().any(|part| name.contains(part))
}

/// Properties that are not handed on, and why.
const OURS: [(&str, &str); 19] = [
    ("bootstrap.servers", "it is the setting `kafka_brokers`"),
    ("metadata.broker.list", "it is the setting `kafka_brokers`"),
    ("group.id", "it is the setting `kafka_group`"),
    ("auto.offset.reset", "it is the setting `kafka_start`"),
    ("enable.auto.commit", "offsets are committed with the records, here"),
    ("enable.auto.offset.store", "offsets are committed with the records, here"),
    ("auto.commit.interval.ms", "offsets are committed with the records, here"),
    ("auto.commit.enable", "offsets are committed with the records, here"),
    ("isolation.level", "only committed messages are read (read_committed)"),
    ("partition.assignment.strategy", "partitions move one by one (cooperative-sticky)"),
    ("group.protocol", "partitions move one by one (classic, cooperative-sticky)"),
    ("enable.partition.eof", "the consumer does not wait for ends"),
    ("topic.blacklist", "the topic of dead letters stands there"),
    ("statistics.interval.ms", "the lag is taken from statistics"),
    ("check.crcs", "checksums are always checked"),
    ("queued.min.messages", "the consumer's memory is bounded here"),
    ("queued.max.messages.kbytes", "the consumer's memory is bounded here"),
    ("receive.message.max.bytes", "the consumer's memory is bounded here"),
    ("plugin.library.paths", "no foreign code is loaded"),
];

/// What is handed on: properties, and beginnings of properties.
const HANDED_ON: [&str; 24] = [
    "security.protocol",
    "sasl.",
    "ssl.",
    "enable.ssl.certificate.verification",
    "https.ca.",
    "enable.sasl.oauthbearer.unsecure.jwt",
    "client.",
    "broker.",
    "socket.",
    "connections.max.idle.ms",
    "reconnect.",
    "retry.backoff.",
    "api.version.",
    "metadata.",
    "topic.metadata.",
    "allow.auto.create.topics",
    "session.timeout.ms",
    "heartbeat.interval.ms",
    "max.poll.interval.ms",
    "group.instance.id",
    "fetch.",
    "max.partition.fetch.bytes",
    "message.max.bytes",
    "debug",
];

/// What of it is also for the producer of dead letters.
const OF_ANY_CLIENT: [&str; 12] = [
    "security.protocol",
    "sasl.",
    "ssl.",
    "enable.ssl.certificate.verification",
    "https.ca.",
    "enable.sasl.oauthbearer.unsecure.jwt",
    "client.",
    "broker.",
    "socket.",
    "reconnect.",
    "message.max.bytes",
    "debug",
];

/// Whether a property is for a producer, too.
pub(crate) fn is_of_any_client(name: &str) -> bool {
    OF_ANY_CLIENT.iter().any(|begin| name.starts_with(begin))
}

/// The text of `kafka_brokers`.
pub(crate) fn brokers(value: &toml::Value) -> Result<String, String> {
    let text = string(value)?;
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    if text.is_empty() {
        return Ok(text.to_owned());
    }
    for part in &parts {
        let (host, port) = part.rsplit_once(':').unwrap_or((part, "9092"));
        if host.is_empty() || part.contains(char::is_whitespace) || port.parse::<u16>().is_err() {
            return Err(format!("`{part}` is not a host and a port"));
        }
    }
    Ok(parts.join(","))
}

/// The names and patterns of `kafka_topics`.
pub(crate) fn topics(value: &toml::Value) -> Result<Vec<String>, String> {
    let names = match value {
        toml::Value::Array(names) => names.iter().map(string).collect::<Result<Vec<_>, _>>()?,
        one => vec![string(one)?],
    };
    if names.len() > TOPICS_MAX {
        return Err(format!("more than {TOPICS_MAX} topics; a pattern takes many: \"^logs-.*\""));
    }
    let mut topics: Vec<String> = Vec::new();
    for name in names {
        match name.strip_prefix('^') {
            Some("") => return Err("the pattern `^` says nothing; \"^.*\" is every topic".into()),
            Some(_) => {}
            None => check_topic(name)?,
        }
        if !topics.iter().any(|known| known == name) {
            topics.push(name.to_owned());
        }
    }
    Ok(topics)
}

/// The name of `kafka_dead_letter_topic`.
pub(crate) fn dead_letter_topic(value: &toml::Value) -> Result<String, String> {
    let name = string(value)?;
    if !name.is_empty() {
        check_topic(name)?;
    }
    Ok(name.to_owned())
}

fn check_topic(name: &str) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    let is_fit = (1..=TOPIC_BYTES_MAX).contains(&name.len()) && name.bytes().all(plain);
    if is_fit && name != "." && name != ".." {
        return Ok(());
    }
    Err(format!(
        "`{name}` is not the name of a topic: 1 to {TOPIC_BYTES_MAX} of a-z, A-Z, 0-9, '.', '_' and \
         '-' (a pattern begins with '^')"
    ))
}

/// The name of `kafka_group`.
pub(crate) fn group(value: &toml::Value) -> Result<String, String> {
    let name = string(value)?;
    if name.is_empty() || name.len() > GROUP_BYTES_MAX || name.contains(char::is_control) {
        return Err(format!("a group has a name of 1 to {GROUP_BYTES_MAX} bytes"));
    }
    Ok(name.to_owned())
}

/// The word of `kafka_format`.
pub(crate) fn format(value: &toml::Value) -> Result<Format, String> {
    let name = string(value)?;
    Format::from_name(name).ok_or_else(|| format!("`{name}` is no format"))
}

/// The word of `kafka_start`.
pub(crate) fn start(value: &toml::Value) -> Result<Start, String> {
    match string(value)? {
        "earliest" => Ok(Start::Earliest),
        "latest" => Ok(Start::Latest),
        other => Err(format!("`{other}` is neither")),
    }
}

/// `earliest` or `latest`.
pub(crate) fn start_name(start: Start) -> &'static str {
    match start {
        Start::Earliest => "earliest",
        Start::Latest => "latest",
    }
}

/// The table of `kafka_options`.
pub(crate) fn options(value: &toml::Value) -> Result<KafkaOptions, String> {
    let table = value.as_table().ok_or_else(|| format!("it is a {}", value.type_str()))?;
    let mut options = BTreeMap::new();
    flatten(table, "", &mut options)?;
    for (name, value) in &options {
        check_option(name, value)?;
    }
    Ok(KafkaOptions(options))
}

/// TOML reads `ssl.ca.location = …` as tables within tables: they are one name again here.
fn flatten(
    table: &toml::Table,
    prefix: &str,
    into: &mut BTreeMap<String, String>,
) -> Result<(), String> {
    for (key, value) in table {
        let name = format!("{prefix}{key}");
        let text = match value {
            toml::Value::String(text) => text.clone(),
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Boolean(flag) => flag.to_string(),
            toml::Value::Table(inner) => {
                flatten(inner, &format!("{name}."), into)?;
                continue;
            }
            other => return Err(format!("`{name}` is a {}", other.type_str())),
        };
        into.insert(name, text);
    }
    Ok(())
}

fn check_option(name: &str, value: &str) -> Result<(), String> {
    if let Some((_, reason)) = OURS.iter().find(|(ours, _)| *ours == name) {
        return Err(format!("`{name}` cannot be set: {reason}"));
    }
    if !HANDED_ON.iter().any(|begin| name.starts_with(begin)) || name.ends_with("_cb") {
        return Err(format!("`{name}` is none of the properties that are handed on"));
    }
    if value == HIDDEN && is_secret(name) {
        return Err(format!("`{name}` is {HIDDEN}: put the secret there again"));
    }
    let mut config = ClientConfig::new();
    config.set(name, value);
    match config.create_native_config() {
        Ok(_) => Ok(()),
        Err(_) if is_secret(name) => Err(format!("librdkafka does not take the value of `{name}`")),
        Err(KafkaError::ClientConfig(_, reason, _, _)) => Err(reason),
        Err(error) => Err(format!("`{name}`: {error}")),
    }
}

/// A value as an error may show it.
pub(crate) fn shown(value: &toml::Value) -> String {
    let mut out = BTreeMap::new();
    match value {
        toml::Value::Table(table) if flatten(table, "", &mut out).is_ok() => {
            KafkaOptions(out).shown()
        }
        _ => HIDDEN.to_owned(),
    }
}

fn string(value: &toml::Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| format!("it is a {}, not a string in quotes", value.type_str()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::{explain, parse};

    #[test]
    fn what_is_set_is_what_is_explained_but_for_secrets() {
        let text = r#"
            kafka_brokers = "a:9092, b"
            kafka_topics = ["logs", "^app-.*", "logs"]
            kafka_group = "g"
            kafka_format = "otlp"
            kafka_start = "latest"
            kafka_dead_letter_topic = "dead"
            [kafka_options]
            security.protocol = "sasl_ssl"
            sasl.username = "reader"
            sasl.password = "hunter2"
            "ssl.key.pem" = "-----BEGIN"
            session.timeout.ms = 45000
        "#;
        let config = parse(text, "lodge.toml").unwrap();
        assert_eq!(config.kafka.brokers, "a:9092,b");
        assert_eq!(config.kafka.topics, ["logs", "^app-.*"]);
        assert_eq!((config.kafka.format, config.kafka.start), (Format::Otlp, Start::Latest));
        let options: BTreeMap<&str, &str> = config.kafka.options.iter().collect();
        assert_eq!(options["sasl.password"], "hunter2");
        assert_eq!(options["session.timeout.ms"], "45000");
        for shown in [explain(&config), format!("{config:?}")] {
            assert!(!shown.contains("hunter2") && !shown.contains("BEGIN"), "{shown}");
            assert!(shown.contains("reader"), "{shown}");
        }
        // The text that is shown asks for its secrets, and is right in all else.
        let error = parse(&explain(&config), "lodge.toml").unwrap_err().to_string();
        assert!(error.contains("put the secret there again"), "{error}");
        let whole = explain(&config).replacen(HIDDEN, "hunter2", 1);
        let error = parse(&whole, "lodge.toml").unwrap_err().to_string();
        assert!(error.contains("`ssl.key.pem` is (hidden)"), "{error}");
        assert_eq!(parse(&whole.replacen(HIDDEN, "-----BEGIN", 1), "x").unwrap(), config);
    }

    #[test]
    fn what_would_break_exactly_once_is_refused_with_the_reason() {
        let with = |line: &str| {
            let text =
                format!("kafka_brokers = \"a\"\nkafka_topics = \"t\"\n[kafka_options]\n{line}");
            parse(&text, "lodge.toml").unwrap_err().to_string()
        };
        for (line, part) in [
            ("enable.auto.commit = true", "offsets are committed with the records"),
            ("enable.auto.offset.store = true", "offsets are committed with the records"),
            ("group.id = \"x\"", "`kafka_group`"),
            ("auto.offset.reset = \"latest\"", "`kafka_start`"),
            ("isolation.level = \"read_uncommitted\"", "read_committed"),
            ("plugin.library.paths = \"x.so\"", "no foreign code"),
            ("transactional.id = \"x\"", "none of the properties that are handed on"),
            ("ssl.nonsense = \"x\"", "No such configuration property: \"ssl.nonsense\""),
            ("security.protocol = \"morse\"", "Invalid value"),
            ("session.timeout.ms = [1]", "`session.timeout.ms` is a array"),
        ] {
            let error = with(line);
            assert!(error.contains(part) && error.contains("it takes a table"), "{line}: {error}");
        }
        let error = with("sasl.password = \"hunter2\"\ngroup.id = \"x\"");
        assert!(error.contains("`kafka_group`") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn values_that_do_not_fit_say_what_is_taken() {
        for (text, part) in [
            ("kafka_brokers = \"a b\"", "`a b` is not a host and a port (it takes"),
            ("kafka_brokers = \"a:9092\"", "no topic is named"),
            ("kafka_brokers = \"a:9092,:1\"\nkafka_topics = \"t\"", "`:1` is not"),
            ("kafka_topics = \"t\"", "no broker is"),
            ("kafka_brokers = \"a\"\nkafka_topics = [\"a/b\"]", "`a/b` is not the name"),
            ("kafka_brokers = \"a\"\nkafka_topics = [7]", "it is a integer"),
            ("kafka_brokers = \"a\"\nkafka_topics = \"^\"", "says nothing"),
            ("kafka_group = \"\"", "1 to 255"),
            ("kafka_format = \"avro\"", "`avro` is no format (it takes \"json\", \"otlp\""),
            ("kafka_start = \"now\"", "`now` is neither (it takes \"earliest\""),
            (
                "kafka_brokers = \"a\"\nkafka_topics = \"t\"\nkafka_dead_letter_topic = \"t\"",
                "read for ever",
            ),
        ] {
            let error = parse(text, "lodge.toml").unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
