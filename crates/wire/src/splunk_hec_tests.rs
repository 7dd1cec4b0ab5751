//! Tests of HEC: events as Splunk's own clients, Docker's log driver and OpenTelemetry send them.

use lodge_record::limits;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::test_support::{Damage, column, only, text};

fn events(body: &[u8]) -> Decoded<Code> {
    decode_events(&Metadata::default(), 7, body).expect("a body")
}

fn told(decoded: &Decoded<Code>) -> String {
    let (code, event) = refusal(decoded).expect("a refusal");
    let mut out = Vec::new();
    write_refusal(code, event, &mut out);
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn events_need_no_line_ends_between() {
    let body = concat!(
        r#"{"time":1772366400.123,"host":"h1","source":"/var/log/x","sourcetype":"app","#,
        r#""index":"main","event":"hello \"you\"","fields":{"env":"prod","severity":"WARN"}}"#,
        r#"{"event":{"message":"m","level":"error","traceId":"AB12","host":"inner","k":{"a":1}},"#,
        r#""time":"1772366401.5","host":"h2"} "#,
        "\r\n",
        r#"{"event":{"line":"from docker","source":"stdout","tag":"c1"},"time":1772366402000}"#,
        r#"{"event":42,"time":"soon"}{"event":["a"],"fields":{"_msg":"x","host.name":"f"}}"#,
    );
    let metadata = Metadata { source: Some("query".into()), ..Metadata::default() };
    let decoded = decode_events(&metadata, 7, body.as_bytes()).expect("a body");
    assert_eq!((decoded.items, decoded.failed_total, refusal(&decoded)), (5, 0, None));
    let records = only(&decoded.records);
    assert_eq!(column(records, "_msg"), ["hello \"you\"", "m", "from docker", "42", "[\"a\"]"]);
    let times = column(records, "_time");
    assert_eq!(times[0], "2026-03-01T12:00:00.123Z");
    assert_eq!(times[1], "2026-03-01T12:00:01.5Z");
    assert_eq!(times[2], "2026-03-01T12:00:02Z");
    assert_eq!(times[3], "1970-01-01T00:00:00.000000007Z");
    assert_eq!(column(records, "time")[3], "soon");
    assert_eq!(column(records, "host.name"), ["h1", "h2", "", "", ""]);
    assert_eq!(column(records, "event.host")[1], "inner");
    assert_eq!(column(records, "event.source")[2], "stdout");
    assert_eq!(column(records, "source")[2], "query");
    assert_eq!(column(records, "env")[0], "prod");
    assert_eq!(column(records, "level"), ["warn", "error", "", "", ""]);
    assert_eq!(column(records, "trace_id")[1], "ab12");
    assert_eq!(column(records, "k.a")[1], "1");
    assert_eq!(column(records, "fields._msg")[4], "x");
    assert_eq!(column(records, "fields.host.name")[4], "f");
    let streams = column(records, "_stream");
    let first = r#"{host.name="h1",index="main",source="/var/log/x",sourcetype="app"}"#;
    assert_eq!(streams[0], first);
    assert_eq!(streams[1], r#"{host.name="h2",source="query"}"#);
    assert_eq!(streams[2], r#"{source="query"}"#);
}

#[test]
fn errors_are_in_splunks_words() {
    for (body, reply) in [
        ("", r#"{"text":"No data","code":5}"#),
        (" \r\n", r#"{"text":"No data","code":5}"#),
        ("{\"event\":", r#"{"text":"Invalid data format","code":6,"invalid-event-number":0}"#),
        (
            "{\"event\":\"a\"}{\"event\":}",
            r#"{"text":"Invalid data format","code":6,"invalid-event-number":1}"#,
        ),
        (
            "{\"evnt\":1}",
            r#"{"text":"Event field is required","code":12,"invalid-event-number":0}"#,
        ),
        (
            "{\"event\":\"\"}",
            r#"{"text":"Event field cannot be blank","code":13,"invalid-event-number":0}"#,
        ),
        (
            "{\"event\":{}}",
            r#"{"text":"Event field cannot be blank","code":13,"invalid-event-number":0}"#,
        ),
    ] {
        assert_eq!(told(&events(body.as_bytes())), reply, "{body}");
    }
}

#[test]
fn a_bad_event_does_not_lose_the_others() {
    let body = b"{\"event\":\"a\"}{\"event\":,}{\"x\":{}}\nplain text\n{\"event\":\"caf\xe9\"}{\"event\":\"b\"";
    let decoded = events(body);
    assert_eq!((decoded.items, decoded.failed_total), (6, 4));
    let records = only(&decoded.records);
    assert_eq!(column(records, "_msg"), ["a", "caf\u{fffd}"]);
    assert!(text(records, "lodge.raw_base64", 1).is_some());
    let errors: Vec<_> = decoded.errors.iter().map(|e| (e.item, e.offset, e.code)).collect();
    let expected = [
        (1, 13, Code::InvalidFormat),
        (2, 24, Code::EventRequired),
        (3, 33, Code::InvalidFormat),
        (5, 60, Code::InvalidFormat),
    ];
    assert_eq!(errors, expected);
}

#[test]
fn raw_lines_have_the_metadata_of_the_query() {
    let metadata = Metadata {
        host: Some("h".into()),
        index: Some("main".into()),
        time: Some("1772366400".into()),
        ..Metadata::default()
    };
    let decoded = decode_raw(&metadata, 7, b"one\r\n\n  \ntwo \xff\n{\"event\":1}").expect("lines");
    let records = only(&decoded.records);
    assert_eq!(column(records, "_msg"), ["one", "two \u{fffd}", "{\"event\":1}"]);
    assert_eq!(text(records, "_stream", 2).as_deref(), Some(r#"{host.name="h",index="main"}"#));
    assert_eq!(text(records, "host.name", 0).as_deref(), Some("h"));
    assert_eq!(text(records, "_time", 0).as_deref(), Some("2026-03-01T12:00:00Z"));
    assert!(text(records, "lodge.raw_base64", 1).is_some());
    assert_eq!(decoded.items, 3);
    let none = decode_raw(&metadata, 7, b"\n").expect("lines");
    assert_eq!(told(&none), r#"{"text":"No data","code":5}"#);
}

#[test]
fn long_events_keep_their_head() {
    let body =
        format!("{{\"event\":\"{}\",\"host\":\"h\"}}", "x".repeat(limits::LINE_BYTES_MAX + 1));
    let decoded = events(body.as_bytes());
    let records = only(&decoded.records);
    assert_eq!(text(records, "_msg", 0).map(|m| m.len()), Some(limits::LINE_BYTES_MAX));
    assert_eq!(text(records, "truncated", 0).as_deref(), Some("true"));
    assert_eq!(text(records, "_stream", 0).as_deref(), Some(r#"{host.name="h"}"#));
}

#[test]
fn bombs_are_bounded() {
    for body in ["{\"event\":{".repeat(50_000), "[".repeat(100_000), "}".repeat(1 << 20)] {
        let decoded = events(body.as_bytes());
        assert!(decoded.records.is_empty());
        assert_eq!(decoded.items, decoded.failed_total);
    }
    // None of these may be looked at again from each of its lines.
    for line in ["[\n", "\"\n", "\"\\\n", "x,\n", "]{}\n"] {
        let decoded = events(line.repeat(200_000).as_bytes());
        assert_eq!(decoded.items, decoded.failed_total, "{line}");
    }
    let body = "{}\n".repeat(300_000);
    let decoded = events(body.as_bytes());
    assert_eq!((decoded.failed_total, decoded.errors.len()), (300_000, batches::ITEM_ERRORS_MAX));
    let metadata = Metadata { host: Some("h".repeat(16_000)), ..Metadata::default() };
    let many = decode_raw(&metadata, 7, "x\n".repeat(300_000).as_bytes());
    // A host that repeats is held once in a batch; what is not is refused.
    assert!(many.is_err() || many.is_ok_and(|decoded| decoded.items == 300_000));
}

#[test]
fn every_event_is_a_record_or_an_error_fuzz() {
    let corpus = [
        r#"{"event":"a","time":1772366400,"host":"h"}"#,
        r#"{"event":{"message":"m","level":"x","a":{"b":[1,{}]}},"fields":{"k":"v","level":"err"}}"#,
        r#"{"event":"","time":"1e9"}"#,
        r#"{"event":{},"index":5,"source":{"a":1}}"#,
        r#"{"time":-1.5,"event":null}"#,
        r#"{"event":true,"fields":null,"eventual":1,"event.x":"y"}"#,
        "[{\"event\":1},{\"event\":2}]",
        "\n",
        "plain",
        r#"{"event":"\ud83d\ude80 \u00e9 \\ \" }{","host":"\n"}"#,
    ];
    let mut random = SmallRng::seed_from_u64(4);
    let metadata = Metadata { index: Some("i".into()), ..Metadata::default() };
    for _ in 0..2_000 {
        let mut body = Vec::new();
        for _ in 0..random.random_range(1..8) {
            body.extend_from_slice(corpus[random.random_range(0..corpus.len())].as_bytes());
        }
        for _ in 0..random.random_range(0..4) {
            Damage(&mut random).of(&mut body);
        }
        for decode in [decode_events, decode_raw] {
            let decoded = decode(&metadata, 7, &body).expect("a body");
            let rows: usize = decoded.records.iter().map(|records| records.num_rows()).sum();
            assert_eq!(rows as u64 + decoded.failed_total, decoded.items);
            assert_eq!(decoded.errors.len() as u64, decoded.failed_total);
            for records in &decoded.records {
                lodge_record::schema::check(records).expect("shape");
            }
        }
    }
}
