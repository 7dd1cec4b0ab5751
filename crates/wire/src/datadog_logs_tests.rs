//! Tests of Datadog's intake: bodies as its agent and its libraries build them.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::test_support::{Damage, column, only, text};

fn json(body: &[u8]) -> Decoded {
    decode_json(&Metadata::default(), 7, body).expect("a body")
}

#[test]
fn arrays_of_the_agent() {
    let body = br#"[{"message":"first","status":"warning","timestamp":1772366400123,
        "hostname":"h1","service":"web","ddsource":"nginx","ddtags":"env:prod, kube_namespace:n,beta,service:web,_msg:x,url:http://a:1"},
        {"message":"second","level":"ERROR","date":"2026-03-01T12:00:01Z","dd":{"trace_id":"1234567890","span_id":"255"},
         "ddtags":"","http":{"status_code":200}},
        {}, {"msg":"third","status":"ok","ddtags":["no","text"],"timestamp":"soon"}]"#;
    let decoded = json(body);
    assert_eq!((decoded.items, decoded.failed_total), (3, 0));
    let records = only(&decoded.records);
    let at = |name| text(records, name, 0);
    assert_eq!(column(records, "_msg"), ["first", "second", "third"]);
    assert_eq!(column(records, "level"), ["warn", "error", ""]);
    assert_eq!(column(records, "severity_text"), ["warning", "ERROR", ""]);
    assert_eq!(column(records, "status"), ["", "", "ok"]);
    assert_eq!(at("_time").as_deref(), Some("2026-03-01T12:00:00.123Z"));
    assert_eq!(column(records, "_time")[1], "2026-03-01T12:00:01Z");
    assert_eq!(column(records, "timestamp")[2], "soon");
    assert_eq!(at("host.name").as_deref(), Some("h1"));
    assert_eq!(at("service.name").as_deref(), Some("web"));
    assert_eq!(at("service.name#2"), None);
    assert_eq!(at("deployment.environment.name").as_deref(), Some("prod"));
    assert_eq!(at("k8s.namespace.name").as_deref(), Some("n"));
    assert_eq!(at("beta").as_deref(), Some("true"));
    assert_eq!(at("url").as_deref(), Some("http://a:1"));
    let trace_id = text(records, "trace_id", 1);
    assert_eq!(trace_id.as_deref(), Some("000000000000000000000000499602d2"));
    assert_eq!(text(records, "span_id", 1).as_deref(), Some("00000000000000ff"));
    assert_eq!(text(records, "http.status_code", 1).as_deref(), Some("200"));
    let stream = at("_stream").expect("a stream");
    let labels = StreamLabels::parse(&stream).expect("labels");
    assert_eq!(labels.get("deployment.environment.name"), Some("prod"));
    assert_eq!((labels.get("ddsource"), labels.get("ddtags")), (Some("nginx"), None));
    assert_eq!(column(records, "_stream")[1], "{}");
}

#[test]
fn single_objects_keep_alives_and_the_query() {
    let metadata = Metadata {
        tags: Some("env:dev,team:a".into()),
        service: Some("api".into()),
        ..Metadata::default()
    };
    let body = b"{\"message\":\"m\"}{\"message\":\"n\",\"service\":\"own\",\"ddtags\":\"env:own\"}";
    let decoded = decode_json(&metadata, 7, body).expect("a body");
    let records = only(&decoded.records);
    let streams = column(records, "_stream");
    let stream = r#"{deployment.environment.name="dev",service.name="api",team="a"}"#;
    assert_eq!(streams[0], stream);
    assert_eq!(streams[1], r#"{deployment.environment.name="own",service.name="own"}"#);
    assert_eq!(column(records, "team"), ["a", ""]);
    let lines = decode_text(&metadata, 7, b"one\r\n\ntwo\n").expect("a body");
    let records = only(&lines.records);
    assert_eq!(column(records, "_msg"), ["one", "two"]);
    assert_eq!(column(records, "_stream"), [stream, stream]);
    for nothing in ["{}", "[]", "", " [ { } ] "] {
        let decoded = json(nothing.as_bytes());
        assert_eq!((decoded.items, decoded.records.len()), (0, 0), "{nothing}");
    }
}

#[test]
fn a_bad_item_does_not_lose_the_others() {
    let decoded = json(b"[{\"message\":\"a\"},{\"message\":},7,{\"message\":\"b\xff\"},{\"mess");
    assert_eq!((decoded.items, decoded.failed_total), (5, 3));
    assert_eq!(column(only(&decoded.records), "_msg"), ["a", "b\u{fffd}"]);
    let mut out = Vec::new();
    write_errors(&decoded, &mut out);
    let told: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
    assert_eq!(told["errors"].as_array().map(Vec::len), Some(3));
    let detail = told["errors"][0]["detail"].as_str().expect("a text");
    assert!(detail.starts_with("log 1 at byte 17: not a JSON object"), "{detail}");
}

#[test]
fn bombs_are_bounded() {
    for body in ["[{\"a\":".repeat(50_000), "[".repeat(100_000), "{".repeat(100_000)] {
        let decoded = json(body.as_bytes());
        assert!(decoded.records.is_empty());
    }
    // Tags without end are taken apart only so far.
    let body = format!("{{\"message\":\"m\",\"ddtags\":\"{}\"}}", "a:b,".repeat(100_000));
    let decoded = json(body.as_bytes());
    assert!(only(&decoded.records).num_columns() < 2 * TAGS_MAX);
    // Tags of the query that a million items would repeat.
    let tags = Some((0..8).map(|n| format!("tag{n}:{},", "x".repeat(2_000))).collect());
    let metadata = Metadata { tags, ..Metadata::default() };
    let body = b"{\"message\":\"m\"}\n".repeat(100_000);
    assert!(matches!(decode_json(&metadata, 7, &body), Err(BodyError::Expands(_))));
}

#[test]
fn every_item_is_a_record_or_an_error_fuzz() {
    let corpus = [
        r#"{"message":"m","ddtags":"env:prod,a","hostname":"h","status":"info","timestamp":1}"#,
        r#"{"message":{"nested":1},"ddtags":5,"service":{"x":1},"host":"h","hostname":"i"}"#,
        r#"{"ddtags":"_msg:x,_stream:y,:z,,host:q,trace_id:AB,a:b:c","dd":{"trace_id":"x"}}"#,
        "{}",
        ",",
        "[",
        "]",
        "\n",
        r#"{"log":"\u0000","level":50,"date":null,"kube_node":"n","tag":"t"}"#,
    ];
    let mut random = SmallRng::seed_from_u64(5);
    let metadata = Metadata { tags: Some("q:r,env:e".into()), ..Metadata::default() };
    for _ in 0..2_000 {
        let mut body = Vec::new();
        for _ in 0..random.random_range(1..8) {
            body.extend_from_slice(corpus[random.random_range(0..corpus.len())].as_bytes());
        }
        for _ in 0..random.random_range(0..4) {
            Damage(&mut random).of(&mut body);
        }
        for decode in [decode_json, decode_text] {
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
