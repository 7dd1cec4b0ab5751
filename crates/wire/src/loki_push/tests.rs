//! Tests of pushes: bytes as Promtail, Alloy and Fluent Bit build them.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::snappy;
use crate::test_support::{Damage, column, text};

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn field_bytes(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    varint(out, number << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn field_number(out: &mut Vec<u8>, number: u64, value: i64) {
    varint(out, number << 3);
    varint(out, value.cast_unsigned());
}

fn entry(seconds: i64, nanos: i64, line: &[u8], metadata: &[(&str, &str)]) -> Vec<u8> {
    let (mut out, mut time) = (Vec::new(), Vec::new());
    field_number(&mut time, 1, seconds);
    field_number(&mut time, 2, nanos);
    field_bytes(&mut out, 1, &time);
    field_bytes(&mut out, 2, line);
    for (name, value) in metadata {
        let mut pair = Vec::new();
        field_bytes(&mut pair, 1, name.as_bytes());
        field_bytes(&mut pair, 2, value.as_bytes());
        field_bytes(&mut out, 3, &pair);
    }
    out
}

fn push(streams: &[(&str, Vec<Vec<u8>>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (labels, entries) in streams {
        let mut stream = Vec::new();
        field_bytes(&mut stream, 1, labels.as_bytes());
        for entry in entries {
            field_bytes(&mut stream, 2, entry);
        }
        field_number(&mut stream, 3, 77);
        field_bytes(&mut out, 1, &stream);
    }
    field_bytes(&mut out, 2, b"loki");
    out
}

fn only(decoded: &Decoded) -> &RecordBatch {
    assert_eq!(decoded.records.len(), 1);
    lodge_record::schema::check(&decoded.records[0]).expect("shape");
    &decoded.records[0]
}

#[test]
fn streams_of_protobuf_in_a_snappy_block() {
    let metadata = [("traceID", "0AF7651916CD43DD8448EB211C80319C"), ("detected_level", "warn")];
    let body = push(&[
        (
            r#"{app="web", level="error"}"#,
            vec![
                entry(1_772_366_400, 5, b"first", &metadata),
                entry(1_772_366_401, 0, b"caf\xe9", &[]),
            ],
        ),
        ("{}", vec![entry(1_772_366_402, 0, b"", &[("level", "odd")])]),
        ("{broken", vec![entry(-62_135_596_800, 0, b"no time", &[])]),
    ]);
    let block = snap::raw::Encoder::new().compress_vec(&body).expect("a block");
    let plain = snappy::decompress_block(&block, 1 << 20).expect("a block");
    let decoded = decode_protobuf(&plain, 7).expect("a push");
    let records = only(&decoded);
    assert_eq!((decoded.entries, decoded.rejected_total), (4, 0));
    assert_eq!(column(records, "_msg"), ["first", "caf\u{fffd}", "", "no time"]);
    assert_eq!(column(records, "_time")[0], "2026-03-01T12:00:00.000000005Z");
    assert_eq!(column(records, "_time")[3], "1970-01-01T00:00:00.000000007Z");
    assert_eq!(text(records, "timestamp", 3).as_deref(), Some("-62135596800.000000000"));
    let stream = r#"{app="web",level="error"}"#;
    assert_eq!(column(records, "_stream"), [stream, stream, "{}", "{}"]);
    assert_eq!(column(records, "app"), ["web", "web", "", ""]);
    assert_eq!(column(records, "level"), ["warn", "error", "odd", ""]);
    assert_eq!(text(records, "trace_id", 0).as_deref(), Some("0af7651916cd43dd8448eb211c80319c"));
    assert_eq!(text(records, "severity_text", 0).as_deref(), Some("error"));
    assert_eq!(text(records, "lodge.raw_base64", 1).as_deref(), Some("Y2Fm6Q=="));
    assert_eq!(text(records, "loki.labels", 3).as_deref(), Some("{broken"));
    assert_eq!((decoded.troubles.len(), decoded.troubles[0].stream), (1, 2));
}

#[test]
fn labels_may_come_after_their_entries() {
    let mut stream = Vec::new();
    field_bytes(&mut stream, 2, &entry(1, 0, b"early", &[]));
    field_bytes(&mut stream, 1, br#"{late="yes"}"#);
    let mut body = Vec::new();
    field_bytes(&mut body, 1, &stream);
    let decoded = decode_protobuf(&body, 7).expect("a push");
    assert_eq!(column(only(&decoded), "_stream"), [r#"{late="yes"}"#]);
}

#[test]
fn json_of_both_generations() {
    let body = r#"{"streams":[
        {"values":[["1772366400000000001","a \"b\" \u00e9",{"traceID":"AB","n":5,"level":"WARN"}],
                   ["1772366401000000000","plain"], ["never","x"], {"no":"array"}, ["1"]],
         "stream":{"app":"w\u0065b","_msg":"mine"}},
        {"labels":"{job=\"old\"}","entries":[{"ts":"2026-03-01T12:00:02Z","line":"old one"}]}]}"#;
    let decoded = decode_json(body.as_bytes(), 7).expect("a push");
    let records = only(&decoded);
    assert_eq!((decoded.entries, decoded.rejected_total), (6, 2));
    assert_eq!(decoded.troubles.iter().map(|t| t.entry).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(column(records, "_msg"), ["a \"b\" é", "plain", "x", "old one"]);
    assert_eq!(column(records, "lodge.field._msg"), ["mine", "mine", "mine", ""]);
    let times = column(records, "_time");
    assert_eq!(times[0], "2026-03-01T12:00:00.000000001Z");
    assert_eq!(times[2], "1970-01-01T00:00:00.000000007Z");
    assert_eq!(times[3], "2026-03-01T12:00:02Z");
    assert_eq!(column(records, "timestamp"), ["", "", "never", ""]);
    assert_eq!(column(records, "trace_id")[0], "ab");
    assert_eq!(column(records, "level")[0], "warn");
    assert_eq!(column(records, "severity_text")[0], "WARN");
    assert_eq!(column(records, "n")[0], "5");
    assert_eq!(column(records, "_stream")[3], r#"{job="old"}"#);
    for bad in ["", "[]", "{\"streams\":{}}", "{\"streams\":[}", "{\"streams\":[[1,}]}"] {
        assert!(matches!(decode_json(bad.as_bytes(), 7), Err(PushError::Json { .. })), "{bad}");
    }
    let none = decode_json(b"{\"streams\":[]}", 7).expect("a push");
    assert!(none.records.is_empty());
}

#[test]
fn lines_beyond_the_limit_keep_their_head() {
    let line = vec![b'x'; limits::LINE_BYTES_MAX + 9];
    let decoded = decode_protobuf(&push(&[("{}", vec![entry(1, 0, &line, &[])])]), 7);
    let decoded = decoded.expect("a push");
    let records = only(&decoded);
    assert_eq!(text(records, "_msg", 0).map(|m| m.len()), Some(limits::LINE_BYTES_MAX));
    assert_eq!(text(records, "lodge.original_bytes", 0), Some(line.len().to_string()));
}

#[test]
fn bombs_are_refused_at_once() {
    // A stream of 1 GB in nine bytes; a number without end; a group.
    for bomb in [
        &[0x0a, 0x80, 0x80, 0x80, 0x80, 0x04, 0x12, 0x00][..],
        &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        &[0xff; 20],
        &[0x0b, 0x0b, 0x0b],
        &[0x02, 0x00],
    ] {
        let error = decode_protobuf(bomb, 7).expect_err("a bomb");
        assert!(matches!(error, PushError::Protobuf(_)), "{error}");
    }
    let deep = format!("{{\"streams\":[{}", "[".repeat(100_000));
    assert!(decode_json(deep.as_bytes(), 7).is_err());
    let nested = format!("{{\"streams\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(decode_json(nested.as_bytes(), 7).expect("no streams").entries, 0);
    // Labels that every entry repeats: 2 MB that would be 60 GB of records.
    let labels = format!("{{a=\"{}\"}}", "x".repeat(LABELS_BYTES_MAX - 8));
    let body = push(&[(&labels, vec![vec![]; 1_000_000])]);
    let error = decode_protobuf(&body, 7).expect_err("too much");
    assert!(matches!(error, PushError::Expands(_)), "{error}");
}

fn check_decoded(decoded: &Decoded) {
    let rows: usize = decoded.records.iter().map(RecordBatch::num_rows).sum();
    assert_eq!(rows as u64 + decoded.rejected_total, decoded.entries);
    for records in &decoded.records {
        lodge_record::schema::check(records).expect("shape");
    }
}

#[test]
fn damaged_pushes_are_refused_or_whole_fuzz() {
    let mut random = SmallRng::seed_from_u64(2);
    let labels = [r#"{a="b"}"#, r#"{level="warn",_stream="x",b="\n"}"#, "{", "", r#"{é="é",}"#];
    let metadata =
        [("trace_id", "AA"), ("level", "x"), ("_msg", "m"), ("", "e"), ("severity", "error")];
    for _ in 0..2_500 {
        let mut streams = Vec::new();
        for _ in 0..random.random_range(0..4) {
            let mut entries = Vec::new();
            for _ in 0..random.random_range(0..4) {
                let from = random.random_range(0..metadata.len());
                let line = [&b"line"[..], b"\xff", b"", b"a\nb"][random.random_range(0..4)];
                let seconds = [0, 1_772_366_400, i64::MAX, -5][random.random_range(0..4)];
                entries.push(entry(seconds, 1, line, &metadata[from..]));
            }
            streams.push((labels[random.random_range(0..labels.len())], entries));
        }
        let mut body = push(&streams);
        let sent: usize = streams.iter().map(|(_, entries)| entries.len()).sum();
        let whole = decode_protobuf(&body, 7).expect("a push");
        check_decoded(&whole);
        assert_eq!(whole.entries, sent as u64);
        for _ in 0..random.random_range(1..4) {
            Damage(&mut random).of(&mut body);
        }
        if let Ok(decoded) = decode_protobuf(&body, 7) {
            check_decoded(&decoded);
        }
        let mut block = snap::raw::Encoder::new().compress_vec(&body).expect("a block");
        Damage(&mut random).of(&mut block);
        if let Ok(plain) = snappy::decompress_block(&block, 4_000) {
            assert!(plain.len() <= 4_000);
        }
    }
}

#[test]
fn damaged_json_is_refused_or_whole_fuzz() {
    let good = r#"{"streams":[{"stream":{"a":"b","level":"e"},"values":[["1772366400000000000","l\n",{"k":"v"}],["1","x",{}],[2,{"y":[1]}]]},{"labels":"{a=\"b\"}","entries":[{"ts":"2026-03-01T12:00:00Z","line":"x"}]},{"stream":[],"values":{}},{"values":[[],["1"]]}]}"#;
    let mut random = SmallRng::seed_from_u64(3);
    for _ in 0..6_000 {
        let mut body = good.as_bytes().to_vec();
        for _ in 0..random.random_range(0..4) {
            Damage(&mut random).of(&mut body);
        }
        if let Ok(decoded) = decode_json(&body, 7) {
            check_decoded(&decoded);
        }
    }
}

#[test]
fn metadata_of_any_names_in_any_order() {
    let names: Vec<String> = (0..2 * NAMES_MAX).map(|no| format!("name{no}")).collect();
    let of = |places: &[usize]| {
        let value = |no: usize| format!("value{no}");
        let pairs: Vec<(String, String)> =
            places.iter().map(|no| (names[*no].clone(), value(*no))).collect();
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(n, v)| (&**n, &**v)).collect();
        entry(1, 0, b"line", &pairs)
    };
    let all: Vec<usize> = (0..names.len()).collect();
    let backwards: Vec<usize> = all.iter().rev().copied().collect();
    let entries = vec![of(&all), of(&backwards), of(&[5, 3, 70, 5]), of(&[]), of(&[3, 5])];
    let decoded = decode_protobuf(&push(&[("{}", entries)]), 1).expect("a push");
    let records = only(&decoded);
    for (no, name) in names.iter().enumerate() {
        let value = format!("value{no}");
        let is_there = |row: usize| match row {
            0 | 1 => true,
            2 => [5, 3, 70].contains(&no),
            4 => [3, 5].contains(&no),
            _ => false,
        };
        for row in 0..5 {
            let expected = is_there(row).then(|| value.clone());
            assert_eq!(text(records, name, row), expected, "{name} of {row}");
        }
    }
    assert_eq!(text(records, "name5#2", 2).as_deref(), Some("value5"));
}
