//! Tests of JSON lines: what a sender would find stored.

use std::borrow::Cow;

use lodge_record::schema::{check, value_text};
use proptest::prelude::*;

use super::*;

fn decoded(options: &Options, body: &[u8]) -> (RecordBatch, Decoded) {
    let mut out = decode(options, 7, body).expect("arrow");
    let records = out.records.take().expect("records");
    check(&records).expect("shape");
    (records, out)
}

fn text(records: &RecordBatch, name: &str, row: usize) -> Option<String> {
    value_text(records.column_by_name(name)?, row).map(Cow::into_owned)
}

#[test]
fn usual_names_need_no_options() {
    let body = br#"{"timestamp":"2026-03-01T12:00:00Z","message":"hello","level":"info","n":5}

{"_time":"bad","msg":"second","log":"also","k":{"a":true}}
{"ts":1772366400.5,"only":"field"}"#;
    let (records, out) = decoded(&Options::default(), body);
    assert_eq!((out.lines, out.malformed_total), (4, 0));
    assert_eq!(text(&records, "_time", 0).as_deref(), Some("2026-03-01T12:00:00Z"));
    assert_eq!(text(&records, "_msg", 0).as_deref(), Some("hello"));
    assert_eq!(text(&records, "timestamp", 0), None);
    assert_eq!(text(&records, "_time", 1).as_deref(), Some("1970-01-01T00:00:00.000000007Z"));
    assert_eq!(text(&records, "lodge.field._time", 1).as_deref(), Some("bad"));
    assert_eq!(text(&records, "_msg", 1).as_deref(), Some("second"));
    assert_eq!(text(&records, "log", 1).as_deref(), Some("also"));
    assert_eq!(text(&records, "k.a", 1).as_deref(), Some("true"));
    assert_eq!(text(&records, "_time", 2).as_deref(), Some("2026-03-01T12:00:00.5Z"));
    assert_eq!(text(&records, "_msg", 2), None);
}

#[test]
fn a_long_name_around_many_fields_costs_no_more_than_the_line() {
    // Each of the names was copied, hashed and remembered: gigabytes for one line.
    let long = "n".repeat(1 << 20);
    let inner: Vec<String> = (0..50_000).map(|i| format!(r#""f{i}":{i}"#)).collect();
    let repeated = r#""a":1,"#.repeat(50_000);
    let line = format!(r#"{{"{long}":{{{}}},{repeated}"_msg":"m"}}"#, inner.join(","));
    let (records, out) = decoded(&Options::default(), line.as_bytes());
    assert_eq!((out.lines, out.malformed_total), (1, 0));
    assert_eq!(text(&records, "_msg", 0).as_deref(), Some("m"));
    let mut names: Vec<String> =
        records.schema().fields().iter().map(|f| f.name().clone()).collect();
    let overflow = text(&records, lodge_record::field::OVERFLOW, 0).expect("overflow");
    lodge_record::overflow::for_each(&overflow, |name, _| names.push(name.to_owned()));
    assert!(names.iter().all(|name| name.len() < 300));
    assert_eq!(names.len(), 100_000 + 4, "and time, stream, message, overflow");
}

#[test]
fn a_message_is_text_whatever_was_sent() {
    let body = b"{\"\":5}\n{\"\":true}\n{\"_msg\":1.5}";
    let (records, _) = decoded(&Options::default(), body);
    let messages: Vec<_> = (0..3).filter_map(|row| text(&records, "_msg", row)).collect();
    assert_eq!(messages, ["5", "true", "1.5"]);
    let options = Options { msg_fields: vec!["text".into()], ..Options::default() };
    let (records, _) = decoded(&options, b"{\"_msg\":7}\n{\"_msg\":\"seven\",\"text\":1}");
    assert_eq!(text(&records, "_msg", 0).as_deref(), Some("7"));
    assert_eq!(text(&records, "_msg", 1).as_deref(), Some("seven"));
    assert_eq!(text(&records, "_msg#2", 1).as_deref(), Some("1"));
}

#[test]
fn stream_ignore_and_extra_fields() {
    let options = Options {
        stream_fields: vec!["host".into(), "env".into(), "absent".into()],
        ignore_fields: vec!["secret".into(), "tmp.*".into()],
        extra_fields: vec![("env".into(), "prod".into())],
        ..Options::default()
    };
    let body = br#"{"host":"a","secret":"x","tmp":{"y":1},"_msg":"m"}
{"host":"b","_msg":"n"}
broken"#;
    let (records, out) = decoded(&options, body);
    assert_eq!(text(&records, "_stream", 0).as_deref(), Some(r#"{env="prod",host="a"}"#));
    assert_eq!(text(&records, "_stream", 1).as_deref(), Some(r#"{env="prod",host="b"}"#));
    assert_eq!(text(&records, "_stream", 2).as_deref(), Some(r#"{env="prod"}"#));
    assert_eq!(text(&records, "host", 0).as_deref(), Some("a"));
    assert!(records.column_by_name("secret").is_none());
    assert!(records.column_by_name("tmp.y").is_none());
    assert_eq!(out.malformed.first().map(|m| m.line), Some(3));
}

#[test]
fn malformed_lines_are_kept_and_reported() {
    let mut body = b"{\"a\":1,\"b\":\n\xff\xfe{}\n{\"ok\":\"nul \\u0000 in\"}\nraw\0nul\n".to_vec();
    body.extend(vec![b'x'; limits::LINE_BYTES_MAX + 5]);
    let (records, out) = decoded(&Options::default(), &body);
    assert_eq!(records.num_rows(), 5);
    assert_eq!(out.malformed.iter().map(|m| m.line).collect::<Vec<_>>(), [1, 2, 4, 5]);
    assert_eq!(text(&records, "_msg", 0).as_deref(), Some("{\"a\":1,\"b\":"));
    assert!(text(&records, "lodge.error", 0).is_some());
    assert_eq!(text(&records, "a", 0), None);
    assert_eq!(text(&records, "lodge.raw_base64", 1).as_deref(), Some("//57fQ=="));
    assert_eq!(text(&records, "ok", 2).as_deref(), Some("nul \0 in"));
    assert_eq!(text(&records, "_msg", 3).as_deref(), Some("raw\0nul"));
    assert_eq!(text(&records, "truncated", 4).as_deref(), Some("true"));
    let length = (limits::LINE_BYTES_MAX + 5).to_string();
    assert_eq!(text(&records, "lodge.original_bytes", 4), Some(length));
    assert_eq!(text(&records, "_msg", 4).map(|m| m.len()), Some(limits::LINE_BYTES_MAX));
}

proptest! {
    #[test]
    fn a_body_in_parts_is_the_body_fuzz(
        body in "([{]\"[ab]\":(\"é{0,3}\"|1)[}]\r?\n|x?\n|[{]\"c\":[{]\"d\":2[}][}]){0,9}",
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..6),
    ) {
        let whole = decode(&Options::default(), 7, body.as_bytes()).expect("arrow");
        let mut decoder = Decoder::new(&Options::default(), 7);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
        cuts.sort_unstable();
        let mut from = 0;
        for cut in cuts.into_iter().chain([body.len()]) {
            decoder.part(&body.as_bytes()[from..cut]);
            from = cut;
        }
        decoder.end();
        let parts = decoder.finish().expect("arrow");
        prop_assert_eq!(parts.records, whole.records);
        prop_assert_eq!((parts.lines, parts.malformed), (whole.lines, whole.malformed));
    }

    #[test]
    fn a_decoder_that_is_used_again_decodes_the_same_fuzz(
        bodies in proptest::collection::vec(
            "([{](\"[a-d]\":(\"[xy]\"|1|2.5),){0,4}\"_msg\":\"m\"[}]\n){1,5}", 1..5,
        ),
    ) {
        let options = Options { stream_fields: vec!["a".into(), "b".into()], ..Options::default() };
        let mut decoder = Decoder::new(&options, 7);
        for body in &bodies {
            decoder.body(body.as_bytes());
            let again = decoder.finish().expect("arrow").records;
            prop_assert_eq!(again, decode(&options, 7, body.as_bytes()).expect("arrow").records);
        }
    }

    #[test]
    fn any_bytes_become_one_record_a_line_fuzz(
        body in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let out = decode(&Options::default(), 7, &body).expect("arrow");
        let lines = body.split(|&b| b == b'\n').filter(|l| !l.trim_ascii().is_empty()).count();
        prop_assert_eq!(out.records.map_or(0, |r| r.num_rows()), lines);
    }

    #[test]
    fn near_json_becomes_one_record_a_line_fuzz(body in "[{}\\[\\]\":,a0-9.\\\\u e\n-]{0,80}") {
        let out = decode(&Options::default(), 7, body.as_bytes()).expect("arrow");
        let lines = body.split('\n').filter(|l| !l.trim().is_empty()).count();
        let records = out.records.map_or(0, |r| { check(&r).expect("shape"); r.num_rows() });
        prop_assert_eq!(records, lines);
    }

    #[test]
    fn agrees_with_serde_json_fuzz(
        fields in proptest::collection::btree_map("[a-z]{1,6}", "\\PC{0,12}", 0..6),
        number in any::<i64>(),
    ) {
        let mut object = serde_json::Map::new();
        for (name, value) in &fields {
            object.insert(format!("f_{name}"), value.clone().into());
        }
        object.insert("number".into(), number.into());
        let body = serde_json::to_vec(&object).expect("json");
        let (records, _) = decoded(&Options::default(), &body);
        for (name, value) in &fields {
            prop_assert_eq!(text(&records, &format!("f_{name}"), 0), Some(value.clone()));
        }
        prop_assert_eq!(text(&records, "number", 0), Some(number.to_string()));
    }
}
