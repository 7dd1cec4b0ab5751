//! Tests of Kafka's messages: every format, what is not of it, and damage.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::protobuf::{put_bytes_field, put_varint};
use crate::test_support::{Damage, column, text};

const TIME_NS: i64 = 1_772_366_400_000_000_000;

fn message(offset: i64, payload: impl Into<Vec<u8>>) -> Message {
    Message { offset, time_ns: TIME_NS, payload: Some(payload.into()), ..Message::default() }
}

/// The records of payloads, and what became of each message.
fn decoded(format: Format, payloads: &[&[u8]]) -> (RecordBatch, Vec<Fate>) {
    let mut decoder = Decoder::new(format, "logs", 3, false);
    let fates = (0..)
        .zip(payloads)
        .map(|(offset, payload)| decoder.message(&message(offset, *payload)).expect("columns"));
    let fates = fates.collect();
    let records = decoder.finish().expect("columns").expect("records");
    lodge_record::schema::check(&records).expect("shape");
    assert_eq!(decoder.rows(), 0);
    (records, fates)
}

fn field(number: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes_field(&mut out, number, payload);
    out
}

/// A request with one record for each text, of a service.
fn request(service: &str, texts: &[&str]) -> Vec<u8> {
    let pair = [field(1, b"service.name"), field(2, &field(1, service.as_bytes()))].concat();
    let record = |text: &&str| {
        let mut record = Vec::new();
        put_varint(&mut record, 1 << 3 | 1);
        record.extend_from_slice(&(TIME_NS + 5).to_le_bytes());
        record.extend(field(5, &field(1, text.as_bytes())));
        field(2, &record)
    };
    let records: Vec<u8> = texts.iter().flat_map(record).collect();
    field(1, &[field(1, &field(1, &pair)), field(2, &records)].concat())
}

#[test]
fn json_objects_and_arrays_become_records_with_their_place() {
    let (records, fates) = decoded(
        Format::Json,
        &[
            br#"{"message":"one","@timestamp":"2026-03-01T12:00:01Z","level":"WARN","n":1}"#,
            br#" [{"msg":"two","service":{"name":"api"}}, {"msg":"three"}] "#,
            b"[ ]",
            b"{\"msg\":\"four\"}\n{\"msg\":\"five\",\"kafka.offset\":99}",
        ],
    );
    assert_eq!(column(&records, "_msg"), ["one", "two", "three", "four", "five"]);
    assert_eq!(column(&records, "kafka.topic"), ["logs"; 5]);
    assert_eq!(column(&records, "kafka.partition"), ["3"; 5]);
    assert_eq!(column(&records, "kafka.offset"), ["0", "1", "1", "3", "3"]);
    assert_eq!(text(&records, "kafka.offset#2", 4).as_deref(), Some("99"));
    assert_eq!(text(&records, "_time", 0).as_deref(), Some("2026-03-01T12:00:01Z"));
    assert_eq!(text(&records, "_time", 1).as_deref(), Some("2026-03-01T12:00:00Z"));
    assert_eq!(text(&records, "level", 0).as_deref(), Some("warn"));
    assert_eq!(text(&records, "severity_text", 0).as_deref(), Some("WARN"));
    assert_eq!(text(&records, "n", 0).as_deref(), Some("1"));
    let streams = column(&records, "_stream");
    assert_eq!(streams[0], r#"{kafka.topic="logs"}"#);
    assert_eq!(streams[1], r#"{kafka.topic="logs",service.name="api"}"#);
    let records: Vec<usize> = fates.iter().map(|fate| fate.records).collect();
    assert_eq!(records, [1, 2, 0, 2]);
    assert!(fates.iter().all(|fate| fate.kept_as_text == 0 && fate.set_aside.is_none()));
}

#[test]
fn keys_and_headers_are_fields_and_bytes_are_kept_as_base64() {
    for format in [Format::Json, Format::Otlp, Format::Raw, Format::Syslog] {
        let payload = match format {
            Format::Otlp => request("api", &["m"]),
            _ => b"{\"msg\":\"m\"}".to_vec(),
        };
        let mut decoder = Decoder::new(format, "logs", 0, false);
        let sent = Message {
            key: Some(b"user-1".to_vec()),
            headers: vec![
                ("trace".to_owned(), Some(b"abc".to_vec())),
                ("trace".to_owned(), Some(b"def".to_vec())),
                ("bytes".to_owned(), Some(vec![0xff, 0x00])),
                ("none".to_owned(), None),
            ],
            ..message(7, payload)
        };
        decoder.message(&sent).expect("columns");
        decoder.message(&Message { key: Some(vec![0x80]), ..sent }).expect("columns");
        let records = decoder.finish().expect("columns").expect("records");
        let at = |name, row| text(&records, name, row);
        assert_eq!(at("kafka.key", 0).as_deref(), Some("user-1"), "{format:?}");
        assert_eq!(at("kafka.key", 1), None);
        assert_eq!(at("kafka.key.raw_base64", 1).as_deref(), Some("gA=="));
        assert_eq!(at("kafka.header.trace", 0).as_deref(), Some("abc"));
        assert_eq!(at("kafka.header.trace#2", 0).as_deref(), Some("def"));
        assert_eq!(at("kafka.header.bytes.raw_base64", 0).as_deref(), Some("/wA="));
        assert_eq!(at("kafka.header.none", 0), None);
    }
}

#[test]
fn otlp_requests_in_protobuf_and_json_keep_their_labels_beside_the_topic() {
    let json = br#"{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name",
        "value":{"stringValue":"shop"}}]},"scopeLogs":[{"logRecords":[
        {"body":{"stringValue":"third"},"severityNumber":17}]}]}]}"#;
    let (records, fates) =
        decoded(Format::Otlp, &[&request("api", &["first", "second"]), b"", json]);
    assert_eq!(column(&records, "_msg"), ["first", "second", "third"]);
    assert_eq!(column(&records, "kafka.offset"), ["0", "0", "2"]);
    assert_eq!(text(&records, "level", 2).as_deref(), Some("error"));
    assert_eq!(text(&records, "_time", 0).as_deref(), Some("2026-03-01T12:00:00.000000005Z"));
    assert_eq!(text(&records, "_time", 2).as_deref(), Some("2026-03-01T12:00:00Z"));
    let streams = column(&records, "_stream");
    assert_eq!(streams[0], r#"{kafka.topic="logs",service.name="api"}"#);
    assert_eq!(streams[2], r#"{kafka.topic="logs",service.name="shop"}"#);
    assert_eq!(fates.iter().map(|fate| fate.records).collect::<Vec<_>>(), [2, 0, 1]);
}

#[test]
fn raw_text_and_syslog_are_one_record_a_message() {
    let (records, _) = decoded(Format::Raw, &[b"a line\r\n", b"two\nlines", b""]);
    assert_eq!(column(&records, "_msg"), ["a line", "two\nlines", ""]);
    let (records, fates) = decoded(
        Format::Syslog,
        &[
            b"<165>1 2026-02-01T10:00:00.5Z web-1 app 7 ID1 [a b=\"c\"] it began",
            b"<34>Oct 11 22:14:15 web-2 su[9]: 'su root' failed",
            b"no syslog at all",
        ],
    );
    assert_eq!(column(&records, "_msg"), ["it began", "'su root' failed", "no syslog at all"]);
    assert_eq!(column(&records, "level"), ["info", "fatal", ""]);
    assert_eq!(text(&records, "_time", 0).as_deref(), Some("2026-02-01T10:00:00.5Z"));
    assert_eq!(text(&records, "_time", 1).as_deref(), Some("2026-03-01T12:00:00Z"));
    assert_eq!(text(&records, "syslog.timestamp", 1).as_deref(), Some("Oct 11 22:14:15"));
    assert_eq!(text(&records, "syslog.data.a.b", 0).as_deref(), Some("c"));
    let streams = column(&records, "_stream");
    assert_eq!(streams[1], r#"{kafka.topic="logs",syslog.appname="su",syslog.hostname="web-2"}"#);
    assert_eq!(streams[2], r#"{kafka.topic="logs"}"#);
    assert!(fates.iter().all(|fate| fate.records == 1 && fate.kept_as_text == 0));
}

#[test]
fn what_is_not_of_the_format_is_kept_as_text_or_bytes_with_the_reason() {
    let (records, fates) = decoded(
        Format::Json,
        &[b"plain words", b"{\"a\":1", b"[{\"msg\":\"good\"},nonsense]", b"\xff\xfe", b"[", b""],
    );
    let messages = column(&records, "_msg");
    assert_eq!(messages[..4], ["plain words", "{\"a\":1", "good", "nonsense"]);
    assert_eq!(messages[5..], ["[", ""]);
    assert_eq!(text(&records, "lodge.raw_base64", 4).as_deref(), Some("//4="));
    let errors = column(&records, "lodge.error");
    assert!(errors[0].contains("expected '{' or '['"), "{errors:?}");
    assert!(errors.iter().enumerate().all(|(row, e)| (row == 2) == e.is_empty()), "{errors:?}");
    assert!(fates.iter().all(|fate| fate.kept_as_text == 1 && fate.set_aside.is_none()));

    let (records, fates) = decoded(Format::Otlp, &[b"not protobuf", b"\xff\xff\xff", b"{}"]);
    assert_eq!(text(&records, "_msg", 0).as_deref(), Some("not protobuf"));
    assert_eq!(text(&records, "lodge.raw_base64", 1).as_deref(), Some("////"));
    assert_eq!(fates[2], Fate::default());
}

#[test]
fn bytes_and_what_is_too_large_are_set_aside_where_there_are_dead_letters() {
    let long = vec![b'x'; limits::LINE_BYTES_MAX + 1];
    for format in [Format::Json, Format::Otlp, Format::Raw, Format::Syslog] {
        for payload in [&b"\xff\x00\xfe"[..], &long] {
            let mut decoder = Decoder::new(format, "logs", 0, true);
            let fate = decoder.message(&message(1, payload)).expect("columns");
            assert!(fate.set_aside.is_some(), "{format:?}");
            assert_eq!((fate.records, decoder.rows()), (0, 0));

            let mut decoder = Decoder::new(format, "logs", 0, false);
            let fate = decoder.message(&message(1, payload)).expect("columns");
            assert_eq!((fate.records, fate.kept_as_text, fate.set_aside), (1, 1, None));
            let records = decoder.finish().expect("columns").expect("records");
            let is_cut = text(&records, "truncated", 0).as_deref() == Some("true");
            assert_eq!(is_cut, payload.len() > 3, "{format:?}");
        }
    }
    let mut decoder = Decoder::new(Format::Json, "logs", 0, true);
    let fate = decoder.message(&message(1, "text stays")).expect("columns");
    assert_eq!((fate.records, fate.set_aside), (1, None));
    let tombstone = Message { payload: None, ..message(2, "") };
    assert_eq!(decoder.message(&tombstone).expect("columns"), Fate::default());
}

#[test]
fn a_message_that_becomes_too_much_is_bounded_and_its_rest_is_kept() {
    // Each record repeats a long header.
    let header = "h".repeat(1 << 20);
    let payload = format!("[{}]", vec!["{\"msg\":\"m\"}"; 1_000].join(","));
    let headers = vec![("big".to_owned(), Some(header.into_bytes()))];
    let sent = Message { headers, ..message(5, payload) };
    let mut decoder = Decoder::new(Format::Json, "logs", 0, false);
    let fate = decoder.message(&sent).expect("columns");
    assert!(fate.records < 40 && fate.kept_as_text == 1, "{fate:?}");
    assert!(decoder.is_full());
    let records = decoder.finish().expect("columns").expect("records");
    let rest = text(&records, "_msg", fate.records - 1).expect("the rest");
    assert!(rest.len() > 9_000 && rest.starts_with("{\"msg\""), "{}", rest.len());

    let texts = vec!["m"; 1_000];
    let sent = Message { payload: Some(request("api", &texts)), ..sent };
    for sets_aside in [false, true] {
        let mut decoder = Decoder::new(Format::Otlp, "logs", 0, sets_aside);
        let fate = decoder.message(&sent).expect("columns");
        assert!(fate.records < 40, "{fate:?}");
        assert_eq!(
            (fate.kept_as_text, fate.set_aside.is_some()),
            (u64::from(!sets_aside), sets_aside)
        );
        assert!(decoder.finish().expect("columns").is_some());
    }
}

#[test]
fn every_message_is_a_record_or_set_aside_fuzz() {
    let good = [
        (
            Format::Json,
            br#"[{"msg":"a","level":3,"o":{"p":[1]}},{"time":"2026","log":"b"}]"#.to_vec(),
        ),
        (Format::Otlp, request("api", &["first", "second"])),
        (Format::Raw, b"text \xc3\xa9".to_vec()),
        (Format::Syslog, b"<165>1 2026-02-01T10:00:00Z h a 7 I [a b=\"c\"] text".to_vec()),
    ];
    let mut random = SmallRng::seed_from_u64(11);
    for round in 0..8_000 {
        let (format, payload) = &good[round % good.len()];
        let mut payload = payload.clone();
        for _ in 0..random.random_range(0..4) {
            Damage(&mut random).of(&mut payload);
        }
        let sets_aside = random.random();
        let mut decoder = Decoder::new(*format, "logs", 0, sets_aside);
        let fate = decoder.message(&message(1, payload.clone())).expect("columns");
        assert_eq!(fate.records, decoder.rows());
        assert!(sets_aside || fate.set_aside.is_none());
        if fate.records == 0 && fate.set_aside.is_none() {
            // Nothing but what holds no record is none.
            let text = String::from_utf8_lossy(&payload);
            let empty = text.trim().is_empty() || text.trim().starts_with(['[', '{']);
            assert!(empty || *format == Format::Otlp, "{format:?} {text:?}");
        }
        if let Some(records) = decoder.finish().expect("columns") {
            lodge_record::schema::check(&records).expect("shape");
        }
    }
}
