//! From a record's text to its fields: time, level, message, labels.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use lodge_agent::counters::Counters;
use lodge_agent::parse::{Context, RecordParser, Text};
use lodge_agent::timestamp::{self, TimeContext};
use lodge_agent::{level, logfmt};
use lodge_record::builder::BatchBuilder;
use lodge_record::{limits, time};
use lodge_wire::json_rows;
use serde_json::{Map, Value};

/// 2024-03-01T00:00:00Z.
const NOW_NS: i64 = 1_709_251_200_000_000_000;

fn rows_of(texts: &[&[u8]], labels: &[(&str, &str)]) -> Vec<Map<String, Value>> {
    let labels: BTreeMap<String, String> =
        labels.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
    let mut parser = RecordParser::for_file("h1", Path::new("/var/log/shop.log.1"), &labels);
    let counters = Counters::default();
    let context = Context { time: TimeContext::utc(NOW_NS), counters: &counters };
    let mut builder = BatchBuilder::new();
    for bytes in texts {
        let text = Text { bytes, original_bytes: bytes.len() as u64 };
        parser.append(&mut builder, text, &context);
    }
    let mut lines = Vec::new();
    json_rows::write_rows(&builder.finish().unwrap(), &mut lines);
    let lines = String::from_utf8(lines).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn row(text: &str) -> Map<String, Value> {
    rows_of(&[text.as_bytes()], &[]).remove(0)
}

fn text(row: &Map<String, Value>, name: &str) -> String {
    row[name].as_str().unwrap().to_owned()
}

/// The fields of a row that do not come from its file.
fn own(row: &Map<String, Value>) -> String {
    let of_file = ["_stream", "_stream_id", "file", "host", "service"];
    let own = row.iter().filter(|(name, _)| !of_file.contains(&name.as_str()));
    let own: BTreeMap<_, _> = own.map(|(n, v)| (n.as_str(), v.as_str().unwrap())).collect();
    own.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("|")
}

#[test]
fn timestamps_at_the_start_of_lines() {
    for (line, expected) in [
        ("2024-01-02T15:04:05Z x", "2024-01-02T15:04:05Z"),
        ("2024-01-02T15:04:05.123456789+02:00 x", "2024-01-02T13:04:05.123456789Z"),
        ("2024-01-02 15:04:05,123 INFO x", "2024-01-02T15:04:05.123Z"),
        ("2024-01-02 15:04:05 -0800 x", "2024-01-02T23:04:05Z"),
        ("2024-01-02 15:04:05 UTC x", "2024-01-02T15:04:05Z"),
        ("2024-01-02 15:04:05 - x", "2024-01-02T15:04:05Z"),
        ("2024/01/02 15:04:05 [error] 7#7: x", "2024-01-02T15:04:05Z"),
        ("[2024-01-02T15:04:05Z] x", "2024-01-02T15:04:05Z"),
        ("[2024-01-02 15:04:05.5] x", "2024-01-02T15:04:05.5Z"),
        ("Jan  2 15:04:05 host app[1]: x", "2024-01-02T15:04:05Z"),
        ("Mar  1 15:04:05 host app[1]: x", "2024-03-01T15:04:05Z"),
        ("Dec 31 23:59:59 host app[1]: x", "2023-12-31T23:59:59Z"),
        ("Feb 29 12:00:00 host app[1]: x", "2024-02-29T12:00:00Z"),
        ("<34>Jan  2 15:04:05 host su: x", "2024-01-02T15:04:05Z"),
        ("<165>1 2024-01-02T15:04:05.003Z host app - - x", "2024-01-02T15:04:05.003Z"),
        ("10.0.0.1 - bob [02/Jan/2024:15:04:05 +0000] \"GET /\" 200", "2024-01-02T15:04:05Z"),
        ("10.0.0.1 - - [02/Jan/2024:15:04:05 +0130] \"GET /\" 200", "2024-01-02T13:34:05Z"),
        ("[Tue Jan 02 15:04:05 2024] [error] x", "2024-01-02T15:04:05Z"),
        ("[Tue Jan 02 15:04:05.120000 2024] [core:error] x", "2024-01-02T15:04:05.12Z"),
        ("E0102 15:04:05.000001 7 a.go:1] x", "2024-01-02T15:04:05.000001Z"),
    ] {
        let found = timestamp::find(line.as_bytes(), &TimeContext::utc(NOW_NS));
        let found = found.map(|found| time::format(found.time_ns));
        assert_eq!(found.as_deref(), Some(expected), "{line}");
    }
    for line in [
        "",
        "x",
        "2024",
        "2024-13-02 15:04:05",
        "2024-02-30 15:04:05",
        "2024-01-02 25:04:05",
        "Jam  2 15:04:05",
        "[x] y",
        "12 apples",
        "[99/Jan/2024:15:04:05 +0000]",
        "I know",
    ] {
        assert_eq!(timestamp::find(line.as_bytes(), &TimeContext::utc(NOW_NS)), None, "{line}");
    }
}

#[test]
fn a_time_without_zone_is_in_the_zone_of_the_machine() {
    let zone = Some(jiff::tz::TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap());
    let context = TimeContext { now_ns: NOW_NS, zone };
    for (line, expected) in [
        ("2024-01-02 15:04:05 x", "2024-01-02T14:04:05Z"),
        ("2024-07-02 15:04:05 x", "2024-07-02T13:04:05Z"),
        ("2024-07-02 15:04:05Z x", "2024-07-02T15:04:05Z"),
        ("Jan  2 15:04:05 host x", "2024-01-02T14:04:05Z"),
    ] {
        let found = timestamp::find(line.as_bytes(), &context).unwrap();
        assert_eq!(time::format(found.time_ns), expected, "{line}");
    }
}

#[test]
fn levels_in_their_usual_places() {
    for (line, expected) in [
        ("2024-01-02 15:04:05,123 ERROR [main] x", Some("error")),
        ("2024/01/02 15:04:05 [warn] 7#7: x", Some("warn")),
        ("[Tue Jan 02 15:04:05 2024] [core:error] x", Some("error")),
        ("WARNING:root:x", Some("warn")),
        ("Jan  2 15:04:05 host app[1]: error: x", Some("error")),
        ("I0102 15:04:05.000000 7 a.go:1] x", Some("info")),
        ("time now (DEBUG) x", Some("debug")),
        ("CRITICAL x", Some("critical")),
        ("a line about an error in the text", None),
        ("the panic room", None),
        ("GET /info 200", None),
        ("", None),
    ] {
        assert_eq!(level::in_line(line), expected, "{line}");
    }
}

#[test]
fn logfmt_is_pairs_and_nothing_else() {
    let pairs = logfmt::parse(r#"ts=1 level=info msg="a \"b\"\nc" empty= x.y=z"#).unwrap();
    let pairs: Vec<String> = pairs.iter().map(|(n, v)| format!("{n}={v}")).collect();
    assert_eq!(pairs, ["ts=1", "level=info", "msg=a \"b\"\nc", "empty=", "x.y=z"]);
    for text in ["a=1", "a=1 b", "hello a=1 b=2", "a=1 b=\"x", "a=1 b=x\"y", "=1 b=2", "a = 1"] {
        assert_eq!(logfmt::parse(text), None, "{text}");
    }
}

#[test]
fn json_becomes_fields() {
    let text = r#"{"time":"2024-01-02T15:04:05Z","level":"INFO","msg":"hi","n":7,"k":{"pod":"p"},
        "f":1.50,"ok":true,"no":null,"list":[1,2]}"#;
    assert_eq!(
        own(&row(text)),
        "_msg=hi|_time=2024-01-02T15:04:05Z|f=1.50|k.pod=p|level=INFO|list=[1,2]|n=7|ok=true"
    );
    // The best name wins, the others stay fields.
    assert_eq!(
        own(&row(r#"{"log":"raw\n","message":"m","ts":1704207845123,"severity":"WARNING"}"#)),
        "_msg=m|_time=2024-01-02T15:04:05.123Z|level=warn|log=raw\n|severity=WARNING"
    );
    assert_eq!(
        own(&row(r#"{"log":"from docker\n","stream":"stdout","time":"2024-01-02T15:04:05.5Z"}"#)),
        "_msg=from docker|_time=2024-01-02T15:04:05.5Z|stream=stdout"
    );
    // A time that is none stays a field, and the record gets the time of reading.
    assert_eq!(
        own(&row(r#"{"time":"soon","msg":"x"}"#)),
        "_msg=x|_time=2024-03-01T00:00:00Z|time=soon"
    );
}

#[test]
fn what_is_no_json_is_text() {
    for text in ["{\"a\":1", "{not json}", "{\"a\":1} trailing", "{}x", "{\"a\":01}"] {
        assert_eq!(own(&row(text)), format!("_msg={text}|_time=2024-03-01T00:00:00Z"));
    }
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(row(&deep)["_msg"].as_str(), Some(deep.as_str()));
}

#[test]
fn logfmt_and_plain_lines() {
    assert_eq!(
        own(&row(r#"ts=2024-01-02T15:04:05Z lvl=warning msg="slow query" ms=12 f=1.0"#)),
        "_msg=slow query|_time=2024-01-02T15:04:05Z|f=1.0|level=warn|lvl=warning|ms=12"
    );
    let trace = "2024-01-02 15:04:05,123 ERROR x\njava.lang.Error\n\tat a.b(C.java:1)";
    let expected = format!("_msg={trace}|_time=2024-01-02T15:04:05.123Z|level=error");
    assert_eq!(own(&row(trace)), expected);
}

#[test]
fn labels_name_the_stream() {
    let rows = rows_of(
        &[
            b"plain",
            br#"{"service":"shop","msg":"same"}"#,
            br#"{"service":"checkout","host":"inner","msg":"other"}"#,
        ],
        &[("env", "prod")],
    );
    let streams: Vec<_> = rows.iter().map(|row| row["_stream"].as_str().unwrap()).collect();
    let stream = |service: &str| {
        format!(r#"{{env="prod",file="/var/log/shop.log.1",host="h1",service="{service}"}}"#)
    };
    assert_eq!(streams, [stream("shop"), stream("shop"), stream("checkout")]);
    assert_eq!(rows[2]["service"], "checkout");
    // The label is the field; the record's own, different value is kept beside it.
    assert_eq!(rows[2]["host"], "h1");
    assert_eq!(rows[2]["host#2"], "inner");
    assert!(!rows[1].contains_key("service#2"));

    let rows = rows_of(&[br#"{"service":"checkout"}"#], &[("service", "fixed")]);
    assert_eq!(rows[0]["service"], "fixed");
    assert_eq!(rows[0]["service#2"], "checkout");
}

#[test]
fn a_file_names_a_bounded_number_of_services() {
    let lines: Vec<String> = (0..1000).map(|n| format!("{{\"service\":\"s{n}\"}}")).collect();
    let lines: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
    let rows = rows_of(&lines, &[]);
    let streams: BTreeSet<_> = rows.iter().map(|row| text(row, "_stream")).collect();
    assert!(streams.len() < 100, "{} streams", streams.len());
    assert_eq!(rows[999]["service#2"], "s999");
}

#[test]
fn hostile_bytes_are_kept() {
    let rows = rows_of(&[b"a\xff\xfeb", "\u{feff}{\"msg\":\"bom\"}".as_bytes(), b"x\0y"], &[]);
    assert_eq!(rows[0]["_msg"], "a\u{fffd}\u{fffd}b");
    assert_eq!(rows[0]["lodge.raw_base64"], "Yf/+Yg==");
    assert_eq!(rows[1]["_msg"], "bom");
    assert_eq!(rows[2]["_msg"], "x\0y");

    let long = vec![b'z'; limits::LINE_BYTES_MAX + 1000];
    let row = rows_of(&[&long], &[]).remove(0);
    assert_eq!(row["_msg"].as_str().unwrap().len(), limits::LINE_BYTES_MAX);
    assert_eq!(row["truncated"], "true");
    assert_eq!(row["lodge.original_bytes"], long.len().to_string());
}

#[test]
fn many_field_names_fit() {
    let members: Vec<String> = (0..100_000).map(|n| format!("\"f{n}\":{n}")).collect();
    let text = format!("{{{}}}", members.join(","));
    let row = row(&text);
    assert_eq!(row["f0"], "0");
    assert_eq!(row["f99999"], "99999");
}
