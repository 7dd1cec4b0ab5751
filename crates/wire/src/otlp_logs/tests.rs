//! Tests of OTLP logs: requests as the SDKs write them, in both formats.

use lodge_record::limits::LINE_BYTES_MAX;
use lodge_record::schema::check;
use serde_json::{Map, Value};

use super::reply::{Code, response, status};
use super::*;
use crate::json_rows;
use crate::protobuf::{put_bytes_field, put_varint, put_varint_field};

const NOW_NS: i64 = 1_767_225_600_000_000_000;
const MAX: usize = 64 << 20;

/// A message: its parts one after the other.
fn message(parts: &[Vec<u8>]) -> Vec<u8> {
    parts.concat()
}

fn bytes(number: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes_field(&mut out, number, payload);
    out
}

fn varint(number: u32, value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint_field(&mut out, number, value);
    out
}

fn fixed64(number: u32, value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, u64::from(number) << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
    out
}

fn fixed32(number: u32, value: u32) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, u64::from(number) << 3 | 5);
    out.extend_from_slice(&value.to_le_bytes());
    out
}

fn text(value: &str) -> Vec<u8> {
    bytes(1, value.as_bytes())
}

fn pair(key: &str, value: &[u8]) -> Vec<u8> {
    message(&[bytes(1, key.as_bytes()), bytes(2, value)])
}

fn map(pairs: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let pairs: Vec<_> = pairs.iter().map(|(key, value)| bytes(1, &pair(key, value))).collect();
    bytes(6, &message(&pairs))
}

fn array(values: &[Vec<u8>]) -> Vec<u8> {
    let values: Vec<_> = values.iter().map(|value| bytes(1, value)).collect();
    bytes(5, &message(&values))
}

/// A request of one resource and one scope.
fn request(resource: &[u8], scope: &[u8], records: &[Vec<u8>]) -> Vec<u8> {
    let records: Vec<_> = records.iter().map(|record| bytes(2, record)).collect();
    let scope_logs = message(&[bytes(1, scope), message(&records), bytes(3, b"http://schema")]);
    bytes(1, &message(&[bytes(1, resource), bytes(2, &scope_logs)]))
}

/// What would be found of a request, and what its decoding said.
fn found(format: Format, body: &[u8]) -> (Vec<Map<String, Value>>, Decoded) {
    let decoded = decode(format, NOW_NS, body, MAX).expect("a request");
    let mut out = Vec::new();
    for batch in &decoded.batches {
        check(batch).expect("shape");
        json_rows::write_rows(batch, &mut out);
    }
    let lines = out.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    let rows: Vec<Map<String, Value>> =
        lines.map(|line| serde_json::from_slice(line).expect("JSON")).collect();
    assert_eq!(rows.len() as u64, decoded.accepted);
    (rows, decoded)
}

fn protobuf_example() -> Vec<u8> {
    let resource = message(&[
        bytes(1, &pair("service.name", &text("cart"))),
        bytes(1, &pair("k8s.pod.name", &text("cart-7"))),
        bytes(1, &pair("process.pid", &varint(3, 4711))),
        varint(2, 2),
    ]);
    let scope = message(&[
        bytes(1, b"my.library"),
        bytes(2, b"1.0.0"),
        bytes(3, &pair("team", &text("shop"))),
    ]);
    let full = message(&[
        fixed64(1, 1_544_712_660_300_000_001),
        fixed64(11, 1_544_712_661_000_000_000),
        varint(2, 17),
        bytes(3, b"Error"),
        bytes(5, &text("payment failed")),
        bytes(6, &pair("http.response.status_code", &varint(3, 502))),
        bytes(6, &pair("negative", &varint(3, (-5i64).cast_unsigned()))),
        bytes(6, &pair("ratio", &fixed64(4, 0.25f64.to_bits()))),
        bytes(6, &pair("ok", &varint(2, 0))),
        bytes(6, &pair("list", &array(&[text("a\"b"), varint(3, 1), map(&[("k", text("v"))])]))),
        bytes(6, &pair("nested", &map(&[("a", map(&[("b", text("deep"))])), ("c", vec![])]))),
        bytes(6, &pair("raw", &bytes(7, &[0, 1, 254]))),
        varint(7, 3),
        fixed32(8, 1),
        bytes(
            9,
            &[
                0x5b, 0x8e, 0xff, 0xf7, 0x98, 3, 0x81, 3, 0xd2, 0x69, 0xb6, 0x33, 0x81, 0x3f, 0xc6,
                0x0c,
            ],
        ),
        bytes(10, &[0xee, 0xe1, 0x9b, 0x7e, 0xc3, 0xc1, 0xb1, 0x74]),
        bytes(12, b"payment.failed"),
    ]);
    let structured = message(&[
        fixed64(11, 1_544_712_662_000_000_000),
        bytes(3, b"warning"),
        bytes(
            5,
            &map(&[("log", text("not this")), ("message", text("this")), ("n", varint(3, 7))]),
        ),
        bytes(9, &[0; 16]),
    ]);
    request(&resource, &scope, &[full, structured, Vec::new()])
}

const JSON_EXAMPLE: &str = r#"{"resourceLogs":[{"resource":{"attributes":[
  {"key":"service.name","value":{"stringValue":"cart"}},
  {"key":"k8s.pod.name","value":{"stringValue":"cart-7"}},
  {"key":"process.pid","value":{"intValue":"4711"}}],"droppedAttributesCount":2},
 "scopeLogs":[{"schemaUrl":"http://schema","scope":{"name":"my.library","version":"1.0.0",
   "attributes":[{"value":{"stringValue":"shop"},"key":"team"}]},
  "logRecords":[
   {"timeUnixNano":"1544712660300000001","observedTimeUnixNano":1544712661000000000,
    "severityNumber":17,"severityText":"Error","body":{"stringValue":"payment failed"},
    "attributes":[
     {"key":"http.response.status_code","value":{"intValue":502}},
     {"key":"negative","value":{"intValue":"-5"}},
     {"key":"ratio","value":{"doubleValue":0.25}},
     {"key":"ok","value":{"boolValue":false}},
     {"key":"list","value":{"arrayValue":{"values":[{"stringValue":"a\"b"},{"intValue":"1"},
       {"kvlistValue":{"values":[{"key":"k","value":{"stringValue":"v"}}]}}]}}},
     {"key":"nested","value":{"kvlistValue":{"values":[{"key":"a","value":{"kvlistValue":
       {"values":[{"key":"b","value":{"stringValue":"deep"}}]}}},{"key":"c","value":{}}]}}},
     {"key":"raw","value":{"bytesValue":"AAH+"}}],
    "droppedAttributesCount":3,"flags":1,"unknownField":{"x":[1]},
    "traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"EEE19B7EC3C1B174",
    "eventName":"payment.failed"},
   {"observedTimeUnixNano":"1544712662000000000","severityText":"warning","body":{"kvlistValue":
    {"values":[{"key":"log","value":{"stringValue":"not this"}},
     {"key":"message","value":{"stringValue":"this"}},{"key":"n","value":{"intValue":"7"}}]}},
    "traceId":"00000000000000000000000000000000"},
   {}]}]}]}"#;

#[test]
fn a_request_in_protobuf_and_in_json_is_the_same_records() {
    let (rows, decoded) = found(Format::Protobuf, &protobuf_example());
    assert_eq!((decoded.rejected, decoded.kept_as_text, decoded.message().as_str()), (0, 0, ""));
    assert_eq!(rows.len(), 3);
    let expected: Value = serde_json::from_str(
        r#"{"_time":"2018-12-13T14:51:00.300000001Z",
        "_stream":"{k8s.pod.name=\"cart-7\",service.name=\"cart\"}","_msg":"payment failed",
        "service.name":"cart","k8s.pod.name":"cart-7","process.pid":"4711",
        "resource.dropped_attributes_count":"2","otel.scope.name":"my.library",
        "otel.scope.version":"1.0.0","otel.scope.team":"shop","level":"error",
        "severity_number":"17","severity_text":"Error","http.response.status_code":"502",
        "negative":"-5","ratio":"0.25","ok":"false","list":"[\"a\\\"b\",1,{\"k\":\"v\"}]",
        "nested.a.b":"deep","raw":"AAH+","dropped_attributes_count":"3","flags":"1",
        "trace_id":"5b8efff798038103d269b633813fc60c","span_id":"eee19b7ec3c1b174",
        "event.name":"payment.failed","observed_time_unix_nano":"1544712661000000000"}"#,
    )
    .expect("JSON");
    let mut first = rows[0].clone();
    first.remove("_stream_id");
    assert_eq!(Value::Object(first), expected);

    let second = &rows[1];
    assert_eq!(second["_time"], "2018-12-13T14:51:02Z", "the observed time stands in");
    assert_eq!((&second["level"], &second["severity_text"]), (&"warn".into(), &"warning".into()));
    assert_eq!((&second["_msg"], &second["log"]), (&"this".into(), &"not this".into()));
    assert_eq!(second["n"], "7");
    for absent in ["message", "trace_id", "observed_time_unix_nano", "severity_number"] {
        assert!(!second.contains_key(absent), "{absent}");
    }
    assert_eq!(rows[2]["_time"], "2026-01-01T00:00:00Z", "when it was received");
    assert_eq!(rows[2]["service.name"], "cart");
    assert!(!rows[2].contains_key("_msg"));

    let (of_json, decoded) = found(Format::Json, JSON_EXAMPLE.as_bytes());
    assert_eq!((decoded.rejected, decoded.message().as_str()), (0, ""));
    assert_eq!(of_json, rows);
}

#[test]
fn bodies_of_every_type_are_messages() {
    for (body, expected) in [
        (varint(3, 42), "42"),
        (varint(2, 1), "true"),
        (fixed64(4, 1.5f64.to_bits()), "1.5"),
        (fixed64(4, f64::NAN.to_bits()), "\"NaN\""),
        (array(&[text("a"), vec![], varint(2, 1)]), "[\"a\",null,true]"),
        (bytes(7, b"plain"), "plain"),
        (map(&[("message", map(&[("x", text("y"))]))]), ""),
    ] {
        let (rows, _) = found(Format::Protobuf, &request(b"", b"", &[bytes(5, &body)]));
        let message = rows[0].get("_msg").and_then(Value::as_str).unwrap_or_default();
        assert_eq!(message, expected);
    }
    let (rows, _) = found(Format::Protobuf, &request(b"", b"", &[bytes(5, &bytes(1, b"a\xffb"))]));
    assert_eq!(rows[0]["_msg"], "a\u{fffd}b");
    assert_eq!(rows[0]["lodge.raw_base64"], "Yf9i");
    let json = br#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":"plain"}]}]}]}"#;
    assert_eq!(found(Format::Json, json).0[0]["_msg"], "plain");
}

#[test]
fn severity_names_and_words_become_levels() {
    for (number, level) in
        [(1, "trace"), (8, "debug"), (9, "info"), (16, "warn"), (20, "error"), (24, "fatal")]
    {
        let record = message(&[varint(2, number), bytes(3, b"odd")]);
        let row = &found(Format::Protobuf, &request(b"", b"", &[record])).0[0];
        assert_eq!(row["level"], level);
        assert_eq!(row["severity_number"], number.to_string());
        assert_eq!(row["severity_text"], "odd");
    }
    for (word, level) in [
        ("Information", Some("info")),
        ("CRITICAL", Some("fatal")),
        ("notice", Some("info")),
        ("ERROR3", Some("error")),
        ("odd", None),
    ] {
        let row = &found(Format::Protobuf, &request(b"", b"", &[bytes(3, word.as_bytes())])).0[0];
        assert_eq!(row.get("level").and_then(Value::as_str), level, "{word}");
    }
    let json = br#"{"resource_logs":[{"scope_logs":[{"log_records":[
        {"severity_number":"SEVERITY_NUMBER_WARN2"},{"severityNumber":99}]}]}]}"#;
    let rows = found(Format::Json, json).0;
    assert_eq!((&rows[0]["level"], &rows[0]["severity_number"]), (&"warn".into(), &"14".into()));
    assert!(!rows[1].contains_key("level"));
    assert_eq!(rows[1]["severity_number"], "99");
}

#[test]
fn times_that_lodge_does_not_have_are_kept_as_fields() {
    let body = request(b"", b"", &[fixed64(1, u64::MAX)]);
    let row = &found(Format::Protobuf, &body).0[0];
    assert_eq!(row["_time"], "2026-01-01T00:00:00Z");
    assert_eq!(row["time_unix_nano"], u64::MAX.to_string());
}

#[test]
fn names_of_lodge_itself_are_safe() {
    let pairs = [("_msg", varint(3, 1)), ("_time", varint(3, 2)), ("", varint(3, 3))];
    let attributes: Vec<_> = pairs.iter().map(|(key, value)| bytes(6, &pair(key, value))).collect();
    let attributes = message(&attributes);
    let rows = found(
        Format::Protobuf,
        &request(b"", b"", &[attributes.clone(), message(&[attributes, bytes(5, &text("body"))])]),
    );
    assert_eq!((&rows.0[0]["_msg"], &rows.0[1]["_msg"]), (&"1".into(), &"body".into()));
    assert_eq!(rows.0[1]["_msg#2"], "1");
    assert_eq!(
        (&rows.0[1]["lodge.field._time"], &rows.0[1]["lodge.field."]),
        (&"2".into(), &"3".into())
    );
}

#[test]
fn a_damaged_record_does_not_lose_the_others() {
    let good = bytes(5, &text("good"));
    let mut damaged = bytes(5, &text("damaged"));
    damaged.truncate(damaged.len() - 2);
    let mut deep = text("bottom");
    for _ in 0..70 {
        deep = array(&[deep]);
    }
    let deep = bytes(6, &pair("deep", &deep));
    let body = request(b"", b"", &[good.clone(), damaged, deep, good.clone()]);
    let (rows, decoded) = found(Format::Protobuf, &body);
    assert_eq!((rows.len(), decoded.rejected, decoded.kept_as_text), (2, 2, 0));
    assert_eq!(
        decoded.troubles.iter().map(|t| t.place).collect::<Vec<_>>(),
        [[0, 0, 1], [0, 0, 2]]
    );
    let said = decoded.message();
    assert!(said.contains("2 log records rejected"), "{said}");
    assert!(said.contains("log_records[1]: protobuf cut off at byte"), "{said}");
    assert!(decoded.troubles[1].reason.contains("nested more than 128 deep"));

    // Damage around the records is damage of the whole.
    let cut = &body[..body.len() - 1];
    let error = decode(Format::Protobuf, NOW_NS, cut, MAX).expect_err("cut");
    assert!(matches!(error, OtlpError::Protobuf(_)), "{error}");
    for other in [&b"hello"[..], b"{}", b"\x1f\x8b\x08"] {
        assert!(decode(Format::Protobuf, NOW_NS, other, MAX).is_err());
    }
}

#[test]
fn json_that_is_no_log_record_is_kept_as_its_text() {
    let nested = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let waiting = (0..200).fold("1".to_owned(), |inner, _| {
        format!(r#"{{"kvlistValue":{{"values":[{{"value":{inner},"key":"k"}}]}}}}"#)
    });
    let body = format!(
        r#"{{"resourceLogs":[{{"resource":{{"attributes":[{{"key":"service.name","value":
        {{"stringValue":"s"}}}}]}},"scopeLogs":[{{"logRecords":["text",{{"body":{{"stringValue":
        "\ud800"}}}},{{"attributes":{nested}}},{{"body":{waiting}}},
        {{"body":{{"stringValue":"good"}}}}]}}]}}]}}"#
    );
    let (rows, decoded) = found(Format::Json, body.as_bytes());
    assert_eq!((rows.len(), decoded.rejected, decoded.kept_as_text), (5, 0, 4));
    assert_eq!(rows[0]["_msg"], "\"text\"");
    assert_eq!(rows[4]["_msg"], "good");
    for row in &rows[..4] {
        assert!(row["lodge.error"].as_str().expect("text").starts_with("not a log record: "));
        assert_eq!(row["_stream"], "{service.name=\"s\"}");
    }
    for other in ["", "[]", "{", "null x", r#"{"resourceLogs":{}}"#, r#"{"resourceLogs":[1]}"#] {
        let error = decode(Format::Json, NOW_NS, other.as_bytes(), MAX).expect_err("no request");
        assert!(error.to_string().starts_with("not an ExportLogsServiceRequest"), "{error}");
    }
    for empty in ["{}", r#"{"resourceLogs":null}"#, r#"{"resourceLogs":[{"scopeLogs":null}]}"#] {
        assert_eq!(found(Format::Json, empty.as_bytes()).0.len(), 0, "{empty}");
    }
}

#[test]
fn long_texts_keep_their_head_and_deep_maps_become_text() {
    let long = "é".repeat(LINE_BYTES_MAX / 2 + 10);
    let record = message(&[bytes(5, &text(&format!("x{long}"))), bytes(6, &pair("a", &text("b")))]);
    let row = &found(Format::Protobuf, &request(b"", b"", &[record])).0[0];
    let kept = row["_msg"].as_str().expect("text");
    assert!(kept.len() <= LINE_BYTES_MAX && kept.len() > LINE_BYTES_MAX - 4);
    assert!(kept.ends_with('é') && !row.contains_key("lodge.raw_base64"));
    assert_eq!(row["truncated"], "true");
    assert_eq!(row["lodge.original_bytes"], (long.len() + 1).to_string());
    assert_eq!(row["a"], "b");

    let mut deep = text("v");
    for _ in 0..35 {
        deep = map(&[("k", deep)]);
    }
    let row = &found(Format::Protobuf, &request(b"", b"", &[bytes(5, &deep)])).0[0];
    let dotted = ["k"; 32].join(".");
    assert_eq!(row[&dotted], r#"{"k":{"k":{"k":"v"}}}"#);
    // A long name is shortened once, not for each of the fields below it.
    let wide: Vec<_> = (0..100_000).map(|_| ("x", varint(3, 1))).collect();
    let record = bytes(6, &pair(&"n".repeat(1 << 20), &map(&wide)));
    let row = &found(Format::Protobuf, &request(b"", b"", &[record])).0[0];
    assert!(row.keys().all(|name| name.len() <= 256 + "#100000".len()));
    assert!(row.values().filter(|value| *value == "1").count() == 100_000);
}

#[test]
fn what_resources_repeat_is_bounded() {
    // A megabyte in each of 100,000 records, in 1.2 MB.
    let resource = bytes(1, &pair("host.name", &text(&"h".repeat(1 << 20))));
    let records = vec![Vec::new(); 100_000];
    let body = request(&resource, b"", &records);
    let decoded = decode(Format::Protobuf, NOW_NS, &body, MAX).expect("a request");
    assert_eq!(decoded.accepted + decoded.rejected, 100_000);
    assert!(decoded.accepted >= 32 && decoded.accepted < 200, "{}", decoded.accepted);
    assert!(decoded.message().contains("send smaller requests"), "{}", decoded.message());
    assert_eq!(decoded.troubles.len(), REPORTED_MAX);
    // A thousand columns of which only the first record has a value.
    let wide: Vec<_> = (0..990).map(|i| bytes(6, &pair(&format!("f{i}"), &varint(3, 1)))).collect();
    let mut records = vec![Vec::new(); 30_000];
    records[0] = message(&wide);
    let body = request(b"", b"", &records);
    let decoded = decode(Format::Protobuf, NOW_NS, &body, 1 << 30).expect("a request");
    assert_eq!((decoded.accepted, decoded.rejected), (30_000, 0));
    let most = decoded.batches.iter().map(|b| b.get_array_memory_size()).max();
    assert!(most.expect("batches") < 160 << 20, "{most:?}");
    assert!(decoded.batches.len() > 1);
}

#[test]
fn labels_of_a_resource_are_fields_whatever_other_resources_have() {
    let name = |value: Vec<u8>| bytes(1, &pair("service.name", &value));
    let host = bytes(1, &pair("host.name", &text("h")));
    let number = || varint(3, 7);
    let resources = [
        message(&[name(text("7")), host.clone()]),
        // The same stream, of a number.
        message(&[name(number()), host.clone()]),
        // The same stream again, of a label that is there twice, the first time empty.
        message(&[name(text("")), name(text("7")), host.clone()]),
        message(&[name(text("7")), name(text("8")), host]),
        message(&[name(text("other"))]),
    ];
    let record = message(&[fixed64(1, 1), bytes(5, &text("m"))]);
    let requests: Vec<_> = resources
        .iter()
        .map(|resource| request(resource, b"", &vec![record.clone(); 200]))
        .collect();
    let (rows, decoded) = found(Format::Protobuf, &message(&requests));
    assert_eq!(decoded.accepted, 1_000);
    let seven = ["{host.name=\"h\",service.name=\"7\"}", "7", "", "h"];
    let expected = [
        seven,
        seven,
        ["{host.name=\"h\",service.name=\"7\"}", "", "7", "h"],
        ["{host.name=\"h\",service.name=\"7\"}", "7", "8", "h"],
        ["{service.name=\"other\"}", "other", "", ""],
    ];
    for (number, row) in rows.iter().enumerate() {
        let text = |name: &str| row.get(name).map_or("", |value| value.as_str().unwrap_or("?"));
        let found = ["_stream", "service.name", "service.name#2", "host.name"].map(text);
        assert_eq!(found, expected[number / 200], "{number}");
    }
}

#[test]
fn replies_are_in_the_format_of_the_request() {
    assert_eq!(response(Format::Protobuf, 0, ""), b"");
    assert_eq!(response(Format::Json, 0, ""), b"{}");
    assert_eq!(response(Format::Protobuf, 5, "bad"), b"\x0a\x07\x08\x05\x12\x03bad");
    assert_eq!(response(Format::Protobuf, 0, "odd"), b"\x0a\x05\x12\x03odd");
    assert_eq!(
        String::from_utf8_lossy(&response(Format::Json, 5, "a \"b\"")),
        r#"{"partialSuccess":{"errorMessage":"a \"b\"","rejectedLogRecords":"5"}}"#
    );
    let bad = status(Format::Protobuf, Code::InvalidArgument, "why", None);
    assert_eq!(bad, b"\x08\x03\x12\x03why");
    let busy = status(Format::Protobuf, Code::Unavailable, "busy", Some(5));
    let name = b"type.googleapis.com/google.rpc.RetryInfo";
    let any = [bytes(1, name), bytes(2, b"\x0a\x02\x08\x05")].concat();
    assert_eq!(busy, [&b"\x08\x0e\x12\x04busy"[..], &bytes(3, &any)].concat());
    let busy: Value =
        serde_json::from_slice(&status(Format::Json, Code::Unavailable, "b", Some(5)))
            .expect("JSON");
    assert_eq!((&busy["code"], &busy["details"][0]["retryDelay"]), (&14.into(), &"5s".into()));
    assert_eq!(status(Format::Protobuf, Code::Internal, &"é".repeat(5_000), None).len(), 4096 + 5);
}

#[test]
fn content_types_tell_the_format() {
    for (value, format) in [
        ("application/x-protobuf", Some(Format::Protobuf)),
        ("Application/JSON; charset=utf-8", Some(Format::Json)),
        ("text/plain", None),
        ("", None),
    ] {
        assert_eq!(Format::from_content_type(value), format, "{value}");
    }
}

/// A small generator of numbers that need not be good.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end.max(1) as u64) as usize
    }
}

#[test]
fn damaged_requests_are_refused_or_all_records_told_of_fuzz() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let examples = [protobuf_example(), JSON_EXAMPLE.as_bytes().to_vec()];
    for round in 0..3_000 {
        let format = if round % 2 == 0 { Format::Protobuf } else { Format::Json };
        let mut body = examples[round % 2].clone();
        for _ in 0..=dice.below(4) {
            let at = dice.below(body.len());
            match dice.below(5) {
                0 => body[at] = dice.below(256) as u8,
                1 => body[at] ^= 1 << dice.below(8),
                2 if body.len() > 1 => drop(body.remove(at)),
                3 => body.insert(at, b"{}[]\",:\\\n\0\xff9-"[dice.below(13)]),
                _ => body.truncate(at + 1),
            }
        }
        let Ok(decoded) = decode(format, NOW_NS, &body, MAX) else { continue };
        let rows: usize = decoded.batches.iter().map(RecordBatch::num_rows).sum();
        assert_eq!(rows as u64, decoded.accepted);
        assert_eq!(decoded.troubles.len() as u64, decoded.rejected + decoded.kept_as_text);
        for batch in &decoded.batches {
            check(batch).expect("shape");
            json_rows::write_rows(batch, &mut Vec::new());
        }
    }
}

/// Writes every length of a pair in two bytes, as an encoder may that leaves room for it beforehand.
fn wide_pair(key: &str, value: &[u8]) -> Vec<u8> {
    let wide = |number: u8, bytes: &[u8]| {
        let head = [number << 3 | 2, bytes.len() as u8 | 0x80, 0];
        [&head[..], bytes].concat()
    };
    message(&[wide(1, key.as_bytes()), wide(2, value)])
}

#[test]
fn attributes_are_the_same_however_they_are_written() {
    let values: Vec<(&str, Vec<u8>)> = vec![
        ("text", text("a b")),
        ("empty", text("")),
        ("no.text", bytes(1, b"\xff")),
        ("small", varint(3, 7)),
        ("middle", varint(3, 300)),
        ("status", varint(3, 70_000)),
        ("large", varint(3, 1 << 40)),
        ("minus", varint(3, (-5i64).cast_unsigned())),
        ("yes", varint(2, 1)),
        ("no", varint(2, 0)),
        ("odd", varint(2, 2)),
        ("half", fixed64(4, 0.5f64.to_bits())),
        ("nan", fixed64(4, f64::NAN.to_bits())),
        ("raw", bytes(7, b"\0\x01")),
        ("map", map(&[("inner", varint(3, 1))])),
        ("array", array(&[text("x")])),
        ("nothing", Vec::new()),
        ("twice", message(&[varint(3, 1), text("last")])),
        ("", text("no name")),
        ("text", text("again")),
        ("_msg", text("no message")),
        ("_time", text("no time")),
    ];
    let record = |write: fn(&str, &[u8]) -> Vec<u8>, skip: usize| {
        let some = values.iter().enumerate().filter(|(at, _)| skip == 0 || at % skip > 0);
        let pairs: Vec<_> = some.map(|(_, (key, value))| bytes(6, &write(key, value))).collect();
        message(&[fixed64(1, 1), bytes(5, &text("m")), message(&pairs)])
    };
    // Some have all attributes, others lack some, so that what comes next is no sure guess.
    let records = |write: fn(&str, &[u8]) -> Vec<u8>| -> Vec<Vec<u8>> {
        [0, 0, 2, 3, 0].into_iter().map(|skip| record(write, skip)).collect()
    };
    let (short, _) = found(Format::Protobuf, &request(b"", b"", &records(pair)));
    let (wide, _) = found(Format::Protobuf, &request(b"", b"", &records(wide_pair)));
    assert_eq!(short.len(), 5);
    assert_eq!(short, wide);
    assert_eq!(short[0]["status"], "70000");
    assert_eq!(short[0]["middle"], "300");
    assert_eq!(short[1]["text"], "a b");
    assert_eq!(short[1]["text#2"], "again");
    assert_eq!(short[1]["map.inner"], "1");
}

#[test]
fn labels_are_known_by_their_names() {
    assert!(LABELS.is_sorted());
    let resource = |attributes: &[(&str, &str)]| {
        let pairs = attributes.iter().map(|(key, value)| bytes(1, &pair(key, &text(value))));
        message(&pairs.collect::<Vec<_>>())
    };
    let stream = |attributes: &[(&str, &str)]| {
        let record = message(&[fixed64(1, 1), bytes(5, &text("m"))]);
        let (rows, _) = found(Format::Protobuf, &request(&resource(attributes), b"", &[record]));
        rows[0]["_stream"].as_str().expect("a text").to_owned()
    };
    let plain = [("service.name", "a\"b"), ("zone", "z"), ("host.name", "h")];
    assert_eq!(stream(&plain), r#"{host.name="h",service.name="a\"b"}"#);
    assert_eq!(stream(&[("host.name", ""), ("service.name", "s")]), r#"{service.name="s"}"#);
    assert_eq!(stream(&[("host.name", "1"), ("host.name", "2")]), r#"{host.name="1"}"#);
    assert_eq!(stream(&[("zone", "z")]), "{}");
}
