//! The decoders of `lodge-wire` under many damaged inputs: no panic, no line without its record, and
//! nothing that was decoded is without a text.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;

use lodge_record::{Batch, Origin, Position, ProducerId, TenantId};
use lodge_wire::encoding::{self, Encoding};
use lodge_wire::{agent_batch, json_rows, jsonline};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Map, Value};

const NOW_NS: i64 = 1_767_225_600_000_000_000;

const CORPUS: [&[u8]; 24] = [
    br#"{"_msg":"hello","_time":"2026-01-01T00:00:00Z","level":"info"}"#,
    br#"{"message":"m","@timestamp":1767225600123,"k8s":{"pod":{"name":"p-1"},"labels":["a","b"]}}"#,
    br#"{"a":1,"a":2,"A":"x","":"empty name","_stream":"{x=\"y\"}","_stream_id":"1"}"#,
    br#"{"n":-0,"m":1e400,"o":1.0,"p":0.1e-7,"q":123456789012345678901234567890,"r":9007199254740993}"#,
    br#"{"b":true,"c":false,"d":null,"e":{},"f":[],"g":[[[]]],"h":"\u0000\ud83d\ude80\ud800"}"#,
    br#"{"_overflow":"{\"x\":1}","lodge.error":"mine","_time":"never","_msg":{"nested":1}}"#,
    b"plain text",
    b"\xff\xfe\x00invalid",
    b"{\"latin\":\"\xe9\"}",
    b"{",
    b"}",
    b"[]",
    b"\"",
    b"{\"a\":",
    b"{\"a\":\"\\",
    b"{\"a\":\"\\u12",
    b"\xef\xbb\xbf{\"bom\":1}",
    b"\0\0\0\0",
    b"   {\"spaces\" :\t1 }  ",
    b"\r",
    b"{\"_time\":\"9999-99-99T99:99:99Z\"}",
    b"{\"_time\":-9223372036854775808}",
    br#"{"_msg":"a\nb\r\u2028c"}"#,
    br#"{"lodge.field._msg":"x","a#2":"y","a":"z"}"#,
];

/// A body of corpus lines, damaged in a few places.
fn damaged_body(random: &mut SmallRng) -> Vec<u8> {
    let mut body = Vec::new();
    for _ in 0..random.random_range(1..12) {
        body.extend_from_slice(CORPUS[random.random_range(0..CORPUS.len())]);
        body.extend_from_slice([&b"\n"[..], b"\r\n", b"\n\n"][random.random_range(0..3)]);
    }
    for _ in 0..random.random_range(0..6) {
        damage(&mut body, random);
    }
    body
}

fn damage(bytes: &mut Vec<u8>, random: &mut SmallRng) {
    if bytes.is_empty() {
        return;
    }
    let at = random.random_range(0..bytes.len());
    match random.random_range(0..6_u8) {
        0 => bytes[at] = random.random(),
        1 => bytes[at] ^= 1 << random.random_range(0..8_u8),
        2 => drop(bytes.remove(at)),
        3 => bytes.insert(at, b"{}[]\",:\\\n\0\xff9-"[random.random_range(0..13)]),
        4 => bytes.truncate(at),
        _ => {
            let end = (at + random.random_range(0..40)).min(bytes.len());
            let piece = bytes[at..end].to_vec();
            let to = random.random_range(0..=bytes.len());
            bytes.splice(to..to, piece).for_each(drop);
        }
    }
}

fn rows_of(bytes: &[u8]) -> Vec<Map<String, Value>> {
    bytes
        .split(|b| *b == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| {
            serde_json::from_slice(line)
                .unwrap_or_else(|e| panic!("no JSON: {e}: {}", String::from_utf8_lossy(line)))
        })
        .collect()
}

#[test]
fn every_line_that_is_not_blank_is_one_record_fuzz() {
    let mut random = SmallRng::seed_from_u64(1);
    let options = jsonline::Options {
        stream_fields: vec!["level".into(), "a".into()],
        ..jsonline::Options::default()
    };
    for _ in 0..20_000 {
        let body = damaged_body(&mut random);
        let lines = body.split(|b| *b == b'\n').filter(|l| !l.trim_ascii().is_empty()).count();
        let decoded = jsonline::decode(&options, NOW_NS, &body).unwrap();
        let rows = decoded.records.as_ref().map_or(0, |records| records.num_rows());
        let shown = String::from_utf8_lossy(&body).into_owned();
        assert_eq!(rows, lines, "{shown:?}");
        let Some(records) = decoded.records else {
            continue;
        };
        let batch = Batch::new(TenantId::default(), None, None, records)
            .unwrap_or_else(|e| panic!("{e}: {shown:?}"));
        let mut out = Vec::new();
        json_rows::write_rows(batch.records(), &mut out);
        let written = rows_of(&out);
        assert_eq!(written.len(), rows, "{shown:?}");
        let named = written.iter().filter(|row| row.contains_key("lodge.error")).count() as u64;
        assert!(named >= decoded.malformed_total, "{shown:?}");
    }
}

/// Flat objects with any names and texts: what comes out is what went in.
#[test]
fn flat_objects_come_back_as_they_were_model() {
    let mut random = SmallRng::seed_from_u64(2);
    let alphabet: Vec<char> = "abc._-0 \"\\/\u{1}\t\néß日🚀{}[]:,#'\u{2028}".chars().collect();
    let text = |random: &mut SmallRng, min: usize| -> String {
        let length = random.random_range(min..12);
        (0..length).map(|_| alphabet[random.random_range(0..alphabet.len())]).collect()
    };
    for _ in 0..3_000 {
        let mut sent = Vec::new();
        let mut body = Vec::new();
        for _ in 0..random.random_range(1..20) {
            let mut object = BTreeMap::new();
            for _ in 0..random.random_range(1..8) {
                // A prefix keeps clear of names that mean something.
                let value = text(&mut random, 1);
                object.insert(format!("f{}", text(&mut random, 0)), value);
            }
            body.extend(serde_json::to_vec(&object).unwrap());
            body.push(b'\n');
            sent.push(object);
        }
        let decoded = jsonline::decode(&jsonline::Options::default(), NOW_NS, &body).unwrap();
        assert_eq!(decoded.malformed_total, 0, "{}", String::from_utf8_lossy(&body));
        let mut out = Vec::new();
        json_rows::write_rows(&decoded.records.unwrap(), &mut out);
        for (row, object) in rows_of(&out).iter().zip(&sent) {
            for (name, value) in object {
                let came = row.get(name).and_then(Value::as_str);
                assert_eq!(came, Some(value.as_str()), "{name:?} of {object:?} in {row:?}");
            }
            let own = row.keys().filter(|name| name.starts_with('f')).count();
            assert_eq!(own, object.len(), "{object:?} became {row:?}");
        }
    }
}

fn sample_batch() -> Batch {
    let body = CORPUS.concat();
    let mut lines = body.clone();
    for line in CORPUS {
        lines.extend_from_slice(line);
        lines.push(b'\n');
    }
    let decoded = jsonline::decode(&jsonline::Options::default(), NOW_NS, &lines).unwrap();
    let origin = Origin { producer: ProducerId::derive(&[b"fuzz"]), epoch: 1, seq: 1 };
    let position = Some(Position::new("somewhere").unwrap());
    Batch::new(TenantId::default(), Some(origin), position, decoded.records.unwrap()).unwrap()
}

#[test]
fn damaged_agent_batches_are_refused_or_readable_fuzz() {
    let good = agent_batch::encode(&sample_batch()).unwrap();
    assert!(agent_batch::decode(TenantId::default(), good.clone().into()).is_ok());
    // Panics inside the Arrow reader are caught by the decoder; their messages would be noise here.
    std::panic::set_hook(Box::new(|_| {}));
    let mut random = SmallRng::seed_from_u64(3);
    for round in 0..20_000_u32 {
        let mut bytes = good.clone();
        for _ in 0..=round % 4 {
            damage(&mut bytes, &mut random);
        }
        let Ok(batch) = agent_batch::decode(TenantId::default(), bytes.clone().into()) else {
            continue;
        };
        let read = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let mut out = Vec::new();
            json_rows::write_rows(batch.records(), &mut out);
            rows_of(&out).len()
        }));
        match read {
            Ok(rows) => assert_eq!(rows, batch.rows()),
            Err(_) => {
                let _default_again = std::panic::take_hook();
                panic!("round {round}: an accepted batch cannot be read");
            }
        }
    }
    let _default_again = std::panic::take_hook();
}

#[test]
fn damaged_and_expanding_bodies_are_bounded_fuzz() {
    let mut random = SmallRng::seed_from_u64(4);
    let good = encoding::compress_zstd(&b"some log line\n".repeat(1_000)).unwrap();
    for _ in 0..20_000 {
        let mut bytes = good.clone();
        for _ in 0..random.random_range(0..5) {
            damage(&mut bytes, &mut random);
        }
        for kind in [
            Encoding::Zstd,
            Encoding::Gzip,
            Encoding::Deflate,
            Encoding::Snappy,
            Encoding::Identity,
        ] {
            if let Ok(plain) = encoding::decompress(kind, &bytes, 50_000) {
                assert!(plain.len() <= 50_000);
            }
        }
    }
    let bomb = encoding::compress_zstd(&vec![0; 64 << 20]).unwrap();
    assert!(encoding::decompress(Encoding::Zstd, &bomb, 1 << 20).is_err());
}
