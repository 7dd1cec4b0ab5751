//! A real broker, a client that knows nothing of Lodge, and a real server that reads what the client
//! wrote: every record is there once, field by field, whatever happens to the server meanwhile.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod support;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use support::{Server, found, free_port, python, text};

/// How long anything may take that is waited for.
const TIME_MAX: Duration = Duration::from_secs(120);
/// The first record is of noon.
const START_S: u64 = 12 * 3600;
/// A group that notices soon that a member is gone.
const QUICK: &str = "\"session.timeout.ms\" = 1000, \"heartbeat.interval.ms\" = 100, \
                     \"topic.metadata.refresh.interval.ms\" = 500";

fn script() -> PathBuf {
    support::folder().join("tests/clients/kafka.py")
}

/// A file of the packages that Python has.
fn path_of(what: &str) -> String {
    let output = Command::new(python()).arg(script()).arg(what).output().unwrap();
    assert!(output.status.success(), "{what}: {}", text(&output.stderr));
    text(&output.stdout).trim().to_owned()
}

/// A broker with its data in memory. Killed when dropped.
struct Broker {
    process: Child,
    address: String,
}

impl Broker {
    fn start() -> Self {
        let program = path_of("broker");
        // The broker does not say which port it took, so it is told one.
        let address = format!("127.0.0.1:{}", free_port());
        let url = format!("tcp://{address}");
        let process = Command::new(program)
            .args(["--listener-url", &url, "--advertised-listener-url", &url])
            .args(["--storage-engine", "memory://tansu/", "--silent"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let broker = Self { process, address };
        broker.client(&["wait"], &[]);
        broker
    }

    fn command(&self, args: &[&str]) -> Command {
        let (verb, rest) = args.split_first().unwrap();
        let mut command = Command::new(python());
        command.arg(script()).arg(verb).arg(&self.address).args(rest);
        command
    }

    /// Has the client do something, with bytes on its standard input.
    fn client(&self, args: &[&str], input: &[u8]) -> String {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        process.stdin.take().unwrap().write_all(input).unwrap();
        let output = process.wait_with_output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    fn produce(&self, topic: &str, format: &str, count: u64) {
        self.client(&["produce", topic, format, &count.to_string()], b"");
    }

    /// A server that reads topics of this broker.
    fn server(&self, topics: &str, more: &str) -> Server {
        Server::with_settings(&format!(
            "kafka_brokers = \"{}\"\nkafka_topics = {topics}\nkafka_options = {{ {QUICK} }}\n{more}\n",
            self.address
        ))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn wait_for(server: &Server, what: &str, mut is_done: impl FnMut() -> bool) {
    let deadline = Instant::now() + TIME_MAX;
    while !is_done() {
        assert!(Instant::now() < deadline, "{what}: {}", status(server));
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn wait_for_count(server: &Server, count: u64) {
    wait_for(server, &format!("{count} records"), || server.count("*") >= count);
    assert_eq!(server.count("*"), count, "{}", status(server));
}

/// Asks the server's own address over plain HTTP.
fn get(server: &Server, path: &str) -> String {
    use std::io::Read as _;
    let address = server.url.strip_prefix("http://").unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TIME_MAX)).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned())
}

fn status(server: &Server) -> Value {
    let status: Value = serde_json::from_str(&get(server, "/api/v1/status")).unwrap();
    status["kafka"].clone()
}

fn rows(server: &Server, query: &str) -> Vec<Map<String, Value>> {
    let rows = server.ok(&["query", query, "--limit", "1000000", "--format", "jsonl"]);
    rows.lines().map(|row| serde_json::from_str(row).unwrap()).collect()
}

fn field<'r>(row: &'r Map<String, Value>, name: &str) -> &'r str {
    row.get(name).and_then(Value::as_str).unwrap_or("(none)")
}

/// Every place in every partition has one record, and every number below `count` is there.
fn assert_once(server: &Server, count: u64) {
    let query = "* | stats by (kafka.topic, kafka.partition, kafka.offset) count() as n";
    let places = rows(server, query);
    let doubled: Vec<_> = places.iter().filter(|place| field(place, "n") != "1").collect();
    assert!(doubled.is_empty(), "stored more than once: {doubled:?}");
    let numbers: BTreeSet<u64> =
        rows(server, "* | fields n").iter().map(|row| field(row, "n").parse().unwrap()).collect();
    let missing: Vec<u64> = (0..count).filter(|number| !numbers.contains(number)).collect();
    assert!(missing.is_empty(), "{} missing, such as {:?}", missing.len(), missing.first());
    assert_eq!((places.len() as u64, numbers.len() as u64), (count, count));
}

#[test]
fn json_records_of_a_topic_are_stored_once_field_by_field() {
    const COUNT: u64 = 10_000;
    let broker = Broker::start();
    broker.client(&["create", "logs", "3"], b"");
    broker.produce("logs", "json", COUNT);
    let server = broker.server("\"logs\"", "");
    wait_for_count(&server, COUNT);
    assert_once(&server, COUNT);
    for row in rows(&server, "*") {
        let number: u64 = field(&row, "n").parse().unwrap();
        let s = START_S + number / 1000;
        let time = format!("2026-03-01T{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
        let level = ["info", "warn", "error"][(number % 3) as usize];
        for (name, expected) in [
            ("_msg", format!("record {number}")),
            ("level", level.to_owned()),
            ("severity_text", level.to_uppercase()),
            ("host.name", format!("host-{}", number % 5)),
            ("kafka.topic", "logs".to_owned()),
            ("kafka.key", format!("key-{}", number % 7)),
            ("kafka.header.source", "sender".to_owned()),
            ("kafka.header.number", number.to_string()),
            ("_stream", format!("{{host.name=\"host-{}\",kafka.topic=\"logs\"}}", number % 5)),
        ] {
            assert_eq!(field(&row, name), expected, "{name}: {row:?}");
        }
        assert!(field(&row, "_time").starts_with(&time), "{time}: {row:?}");
    }

    // What is known of it, for people and for Prometheus. It is told a moment after a commit.
    wait_for(&server, "no lag", || {
        let status = status(&server);
        let partitions = status["partitions"].as_array().unwrap();
        let stored: u64 = partitions.iter().filter_map(|p| p["position"].as_u64()).sum();
        let all_read = partitions.iter().all(|p| p["state"] == "reading");
        partitions.len() == 3 && all_read && stored == COUNT
    });
    assert_eq!(status(&server)["group"], "lodge");
    let metrics = get(&server, "/metrics");
    let line = format!("lodge_kafka_records_total{{topic=\"logs\"}} {COUNT}");
    assert!(metrics.contains(&line), "{metrics}");
    let ledger = server.ok(&["ledger"]);
    assert!(ledger.contains("logs/0") && !ledger.contains("ALARM"), "{ledger}");
}

#[test]
fn kcat_writes_records_that_are_stored_once_field_by_field() {
    const COUNT: u64 = 10_000;
    let broker = Broker::start();
    broker.client(&["create", "logs", "3"], b"");
    let line = |i: u64| {
        let (s, level) = (START_S + i, ["info", "warn", "error"][(i % 3) as usize]);
        format!(
            "key-{}|{{\"@timestamp\":\"2026-03-01T{:02}:{:02}:{:02}Z\",\"level\":\"{level}\",\
             \"service\":{{\"name\":\"shop\"}},\"message\":\"record {i}\",\"n\":{i}}}\n",
            i % 7,
            s / 3600,
            s / 60 % 60,
            s % 60
        )
    };
    // With a younger library than Debian's, 2.0.2, which cannot read the broker's first answer.
    let mut kcat = Command::new(found("kcat"))
        .env("LD_PRELOAD", path_of("librdkafka"))
        .args(["-P", "-b", &broker.address, "-t", "logs", "-K", "|", "-H", "source=kcat"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines: String = (0..COUNT).map(line).collect();
    kcat.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = kcat.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));

    let server = broker.server("\"logs\"", "");
    wait_for_count(&server, COUNT);
    assert_once(&server, COUNT);
    for row in rows(&server, "*") {
        let i: u64 = field(&row, "n").parse().unwrap();
        let s = START_S + i;
        for (name, expected) in [
            ("_msg", format!("record {i}")),
            ("_time", format!("2026-03-01T{:02}:{:02}:{:02}Z", s / 3600, s / 60 % 60, s % 60)),
            ("level", ["info", "warn", "error"][(i % 3) as usize].to_owned()),
            ("service.name", "shop".to_owned()),
            ("kafka.topic", "logs".to_owned()),
            ("kafka.key", format!("key-{}", i % 7)),
            ("kafka.header.source", "kcat".to_owned()),
        ] {
            assert_eq!(field(&row, name), expected, "{name}: {row:?}");
        }
    }
}

#[test]
fn every_format_and_topics_that_come_later_are_read() {
    const COUNT: u64 = 1_000;
    let broker = Broker::start();
    for format in ["otlp", "syslog", "raw", "array"] {
        let setting = if format == "array" { "json" } else { format };
        let (topics, topic) = (format!("[\"^{format}-.*\"]"), format!("{format}-1"));
        broker.client(&["create", &topic, "2"], b"");
        let more = format!("kafka_group = \"of-{format}\"\nkafka_format = \"{setting}\"");
        let server = broker.server(&topics, &more);
        broker.produce(&topic, format, COUNT);
        wait_for_count(&server, COUNT);
        // Nobody told the server of this one.
        let later = format!("{format}-2");
        broker.client(&["create", &later, "1"], b"");
        broker.produce(&later, format, COUNT);
        wait_for_count(&server, 2 * COUNT);

        let mut places = BTreeSet::new();
        for row in rows(&server, "*") {
            let place = ["kafka.topic", "kafka.partition", "kafka.offset"];
            assert!(places.insert(place.map(|name| field(&row, name).to_owned())), "{row:?}");
            let number: u64 = field(&row, "kafka.header.number").parse().unwrap();
            assert_eq!(field(&row, "_msg"), format!("record {number}"), "{row:?}");
            assert!(field(&row, "_time").starts_with("2026-03-01T12:00:"), "{row:?}");
            assert_eq!(field(&row, "lodge.error"), "(none)", "{row:?}");
            if format == "otlp" || format == "syslog" {
                let level = ["info", "warn", "error"][(number % 3) as usize];
                assert_eq!(field(&row, "level"), level, "{row:?}");
            }
            if format == "otlp" {
                assert_eq!(field(&row, "service.name"), "shop");
                assert_eq!(field(&row, "n"), number.to_string());
            }
            if format == "syslog" {
                assert_eq!(field(&row, "syslog.hostname"), format!("host-{}", number % 5));
            }
        }
        assert_eq!(places.len() as u64, 2 * COUNT);
        assert!(server.stop());
    }
}

/// Records come all the time; `KILLS=200` makes it longer.
#[test]
fn a_server_that_is_killed_again_and_again_stores_every_record_once_crash() {
    let kills = std::env::var("KILLS").map_or(20, |n| n.parse().expect("KILLS is a number"));
    let started = Instant::now();
    let broker = Broker::start();
    broker.client(&["create", "logs", "3"], b"");
    let mut server = broker.server("[\"logs\"]", "");
    let mut stream = broker
        .command(&["stream", "logs", "json", "300"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stored_last = 0;
    for kill in 0..kills {
        // Not idle: something more is stored each time.
        let deadline = Instant::now() + TIME_MAX;
        loop {
            let stored = server.count("*");
            if stored > stored_last {
                stored_last = stored;
                break;
            }
            assert!(Instant::now() < deadline, "kill {kill}: {}", status(&server));
            std::thread::sleep(Duration::from_millis(5));
        }
        // At any moment of a commit.
        std::thread::sleep(Duration::from_millis(kill * 37 % 150));
        assert!(stream.try_wait().unwrap().is_none(), "records come at every kill");
        server.crash_and_restart();
    }
    drop(stream.stdin.take());
    let output = stream.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let count = text(&output.stdout).trim().parse().unwrap();
    wait_for_count(&server, count);
    assert_once(&server, count);
    let after = started.elapsed().as_secs();
    println!("{kills} kills: each of {count} records is stored once, after {after} s");
}

#[test]
fn what_cannot_be_decoded_is_kept_or_handed_to_the_dead_letters() {
    let broker = Broker::start();
    for topic in ["logs", "dead.letters"] {
        broker.client(&["create", topic, "1"], b"");
    }
    // Base64 of: plain words, {"msg":"good"}, bytes, nothing at all, five million times "x".
    let mut input = b"cGxhaW4gd29yZHM=\neyJtc2ciOiJnb29kIn0=\n/wD+\nnull\n".to_vec();
    input.extend(b"eHh4".repeat(5_000_000 / 3));
    broker.client(&["raw", "logs"], &input);

    let kept = broker.server("\"logs\"", "kafka_group = \"kept\"");
    wait_for_count(&kept, 4);
    let by_offset = |server: &Server| {
        let mut rows = rows(server, "*");
        rows.sort_by_key(|row| field(row, "kafka.offset").parse::<i64>().unwrap());
        rows
    };
    let all = by_offset(&kept);
    assert_eq!(field(&all[0], "_msg"), "plain words");
    assert!(field(&all[0], "lodge.error").contains("not JSON"), "{:?}", all[0]);
    assert_eq!((field(&all[1], "_msg"), field(&all[1], "lodge.error")), ("good", "(none)"));
    assert_eq!(field(&all[2], "lodge.raw_base64"), "/wD+");
    assert_eq!(field(&all[3], "truncated"), "true");
    assert_eq!(field(&all[3], "kafka.key.raw_base64"), "/wA=");
    assert!(kept.stop());

    // The pattern fits the dead letters too, which are never read.
    let more = "kafka_group = \"handed-over\"\nkafka_dead_letter_topic = \"dead.letters\"";
    let server = broker.server("[\"^.*\"]", more);
    let letters = broker.client(&["read", "dead.letters", "2"], b"");
    let letters: Vec<Value> = letters.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!((&letters[0]["head"], &letters[0]["bytes"]), (&"/wD+".into(), &3.into()));
    assert_eq!(letters[1]["bytes"], 4_999_998);
    for (letter, offset) in letters.iter().zip(["2", "4"]) {
        assert_eq!(letter["key"], "/wA=", "{letter}");
        assert_eq!(letter["headers"]["h"], "v", "{letter}");
        assert_eq!(letter["headers"]["lodge.kafka.topic"], "logs", "{letter}");
        assert_eq!(letter["headers"]["lodge.kafka.offset"], offset, "{letter}");
        assert!(!letter["headers"]["lodge.error"].as_str().unwrap().is_empty(), "{letter}");
    }
    wait_for(&server, "position 5", || status(&server)["partitions"][0]["position"] == 5);
    assert_eq!(by_offset(&server).len(), 2);
    let metrics = get(&server, "/metrics");
    assert!(metrics.contains("lodge_kafka_dead_letters_total{topic=\"logs\"} 2"), "{metrics}");
    assert!(metrics.contains("lodge_kafka_undecoded_total{topic=\"logs\"} 1"), "{metrics}");
    assert!(server.stop());
}

#[test]
fn a_broker_that_is_away_keeps_the_server_neither_from_starting_nor_from_stopping() {
    let server = Server::with_settings("kafka_brokers = \"127.0.0.1:1\"\nkafka_topics = \"logs\"");
    wait_for(&server, "an error", || status(&server)["last_error"].is_object());
    assert_eq!(server.count("*"), 0);
    let stopping = Instant::now();
    assert!(server.stop());
    assert!(stopping.elapsed() < Duration::from_secs(20), "{:?}", stopping.elapsed());
}
