//! Unmodified clients of other products send to a real server; every record that they
//! sent is there once, field by field.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::{Map, Value};
use support::{Server, python, text};

/// Records that each client sends.
const COUNT: u64 = 10_000;
/// What a level is called by clients, and here.
const LEVELS: [&str; 3] = ["info", "warn", "error"];
/// The first record is of noon.
const START_S: u64 = 12 * 3600;

/// Has a client of Python's send `count` records to a server of its own.
fn server_after(client: &str, count: u64) -> (Server, String) {
    let server = Server::start();
    let script = support::folder().join("tests/clients/send.py");
    let output = Command::new(python())
        .arg(script)
        .args([client, &server.url, &count.to_string()])
        .output()
        .unwrap();
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(output.status.success() && !said.contains("Error"), "{client}: {said}");
    (server, said)
}

/// Has a client of Python's send; gives the records by their numbers.
fn sent_by(client: &str) -> BTreeMap<u64, Map<String, Value>> {
    let (server, said) = server_after(client, COUNT);
    stored(&server, client, &said)
}

/// As [`sent_by`], of a client of Node's; `path` is where it finds its door.
fn sent_from_node(client: &str, path: &str) -> BTreeMap<u64, Map<String, Value>> {
    let server = Server::start();
    let said = support::node(client, &format!("{}{path}", server.url), COUNT);
    stored(&server, client, &said)
}

/// The records of a server by their numbers, each once.
fn stored(server: &Server, client: &str, said: &str) -> BTreeMap<u64, Map<String, Value>> {
    assert_eq!(server.count("*"), COUNT, "{said}");
    let rows = server.ok(&["query", "*", "--limit", "100000", "--format", "jsonl"]);
    let mut records = BTreeMap::new();
    for row in rows.lines() {
        let row: Map<String, Value> = serde_json::from_str(row).unwrap();
        let message = row["_msg"].as_str().unwrap().to_owned();
        let number = message.strip_prefix("record ").unwrap();
        let (number, of) = number.split_once(" of ").unwrap();
        assert_eq!(of, client);
        let before = records.insert(number.parse().unwrap(), row);
        assert!(before.is_none(), "{message} came twice");
    }
    assert_eq!(records.len() as u64, COUNT);
    records
}

fn assert_fields(client: &str, number: u64, row: &Map<String, Value>, fields: &[(&str, String)]) {
    for (name, expected) in fields {
        let found = row.get(*name).and_then(Value::as_str).unwrap_or("(none)");
        assert_eq!(found, expected, "{client}, record {number}, {name}: {row:?}");
    }
}

fn stated_time(number: u64) -> String {
    let s = START_S + number;
    format!("2026-03-01T{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
}

fn level(number: u64) -> String {
    LEVELS[(number % 3) as usize].to_owned()
}

#[test]
fn elasticsearch_bulk_helpers_store_every_document() {
    for (number, row) in sent_by("elasticsearch") {
        let fields = [
            ("n", number.to_string()),
            ("level", level(number)),
            ("host.name", format!("host-{}", number % 5)),
            ("_index", "logs-app-default".to_owned()),
        ];
        assert_fields("elasticsearch", number, &row, &fields);
        assert!(row["_time"].as_str().unwrap().starts_with(&stated_time(number)), "{row:?}");
    }
}

#[test]
fn opentelemetry_exports_every_log_record_over_http() {
    assert_exported("opentelemetry");
}

#[test]
fn opentelemetry_exports_every_log_record_over_grpc() {
    assert_exported("opentelemetry_grpc");
}

fn assert_exported(client: &str) {
    for (number, row) in sent_by(client) {
        let fields = [
            ("n", number.to_string()),
            ("level", level(number)),
            ("host", format!("host-{}", number % 5)),
            ("service.name", "shop".to_owned()),
        ];
        assert_fields(client, number, &row, &fields);
        assert!(row["_time"].as_str().unwrap().starts_with(&stated_time(number)), "{row:?}");
    }
}

#[test]
fn a_loki_handler_pushes_every_line() {
    for (number, row) in sent_by("loki") {
        let fields = [
            ("app", "shop".to_owned()),
            ("rack", format!("rack-{}", number % 5)),
            ("level", level(number)),
            ("logger", format!("sender-{}", number % 20)),
        ];
        assert_fields("loki", number, &row, &fields);
    }
}

#[test]
fn a_splunk_handler_delivers_every_event() {
    for (number, row) in sent_by("splunk") {
        let fields = [
            ("host.name", "web-1".to_owned()),
            ("source", "sender".to_owned()),
            ("sourcetype", "text".to_owned()),
            ("index", "main".to_owned()),
        ];
        assert_fields("splunk", number, &row, &fields);
    }
}

#[test]
fn a_datadog_client_submits_every_log() {
    for (number, row) in sent_by("datadog") {
        let fields = [
            ("n", number.to_string()),
            ("level", level(number)),
            ("host.name", format!("host-{}", number % 5)),
            ("service.name", "shop".to_owned()),
            ("deployment.environment.name", "staging".to_owned()),
            ("team", "a".to_owned()),
        ];
        assert_fields("datadog", number, &row, &fields);
    }
}

/// Its own transport, with a request for each record.
#[test]
fn winston_posts_every_record() {
    for (number, row) in sent_from_node("winston_http", "") {
        let fields = [
            ("_time", format!("{}Z", stated_time(number))),
            ("level", level(number)),
            ("n", number.to_string()),
            ("rack", format!("rack-{}", number % 5)),
            ("_stream", "{service=\"shop\"}".to_owned()),
        ];
        assert_fields("winston_http", number, &row, &fields);
    }
}

#[test]
fn winston_loki_pushes_every_line() {
    for (number, row) in sent_from_node("winston_loki", "") {
        let fields = [
            ("_time", format!("{}Z", stated_time(number))),
            ("level", level(number)),
            ("app", "shop".to_owned()),
            ("rack", format!("rack-{}", number % 5)),
        ];
        assert_fields("winston_loki", number, &row, &fields);
    }
}

#[test]
fn pino_elasticsearch_stores_every_document() {
    for (number, row) in sent_from_node("pino_elasticsearch", "/elasticsearch") {
        let fields = [
            ("_time", format!("{}Z", stated_time(number))),
            ("level", level(number)),
            ("n", number.to_string()),
            ("hostname", "web-1".to_owned()),
            ("rack", format!("rack-{}", number % 5)),
            ("_index", "logs-shop".to_owned()),
        ];
        assert_fields("pino_elasticsearch", number, &row, &fields);
    }
}

#[test]
fn pino_loki_pushes_every_line() {
    for (number, row) in sent_from_node("pino_loki", "") {
        let fields = [
            ("_time", format!("{}Z", stated_time(number))),
            ("level", level(number)),
            ("n", number.to_string()),
            ("app", "shop".to_owned()),
            ("hostname", "web-1".to_owned()),
            ("rack", format!("rack-{}", number % 5)),
        ];
        assert_fields("pino_loki", number, &row, &fields);
    }
}

#[test]
fn systemd_journal_upload_sends_every_entry() {
    for (number, row) in sent_by("journal") {
        let fields = [
            ("n", number.to_string()),
            ("level", level(number)),
            ("host", format!("host-{}", number % 5)),
            ("unit", "shop.service".to_owned()),
            ("pid", (1000 + number).to_string()),
            ("note", format!("two\nlines of {number}")),
        ];
        assert_fields("journal", number, &row, &fields);
        assert!(row["_time"].as_str().unwrap().starts_with(&stated_time(number)), "{row:?}");
    }
}

/// The answer has the client save how far it got. Its own way is to begin with the last entry that
/// it sent (systemd 252): that one is there twice, and no other.
#[test]
fn systemd_journal_upload_goes_on_where_the_answer_left_it() {
    let (server, said) = server_after("journal_resumed", 1_000);
    for number in [0, 498, 500, 999] {
        let found = server.count(&format!("_msg:=\"record {number} of journal\""));
        assert_eq!(found, 1, "{number}: {said}");
    }
    let again = server.count("_msg:=\"record 499 of journal\"");
    assert!((1..=2).contains(&again), "{again}");
    assert_eq!(server.count("*"), 999 + again, "{said}");
}
