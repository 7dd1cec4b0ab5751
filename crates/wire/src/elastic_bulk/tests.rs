//! Tests of `_bulk`: what clients send, what is stored, what they are told.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::test_support::{Damage, column, text};

fn bulk(body: &[u8]) -> Result<(Option<RecordBatch>, Outcomes), RequestError> {
    let mut decoder = Decoder::new(&default_options(), None, 7);
    decoder.part(body)?;
    decoder.end()?;
    let records = decoder.finish().expect("arrow");
    if let Some(records) = &records {
        lodge_record::schema::check(records).expect("shape");
    }
    Ok((records, decoder.into_outcomes()))
}

fn reply(outcomes: &Outcomes, detail: Detail) -> String {
    let mut out = Vec::new();
    outcomes.write_reply(3, detail, &mut out);
    let text = String::from_utf8(out).expect("UTF-8");
    serde_json::from_str::<serde_json::Value>(&text).expect("JSON");
    text
}

#[test]
fn filebeat_events_are_records() {
    let body = concat!(
        r#"{"create":{"_index":"filebeat-8.15.0"}}"#,
        "\n",
        r#"{"@timestamp":"2026-03-01T12:00:00.123Z","message":"disk \"sda\" full","#,
        r#""log":{"level":"WARNING","file":{"path":"/var/log/x"},"offset":12},"#,
        r#""host":{"name":"h1"},"kubernetes":{"pod":{"name":"p-1"},"namespace":"prod"},"#,
        r#""trace":{"id":"4BF92F3577B34DA6A3CE929D0E0E4736"},"agent":{"version":"8.15.0"}}"#,
        "\n",
        r#"{"create":{"_index":"filebeat-8.15.0"}}"#,
        "\n",
        r#"{"@timestamp":"2026-03-01T12:00:01Z","message":"ok","level":30}"#,
        "\n"
    );
    let (records, outcomes) = bulk(body.as_bytes()).expect("a bulk");
    let records = records.expect("records");
    let at = |name| text(&records, name, 0);
    assert_eq!(at("_time").as_deref(), Some("2026-03-01T12:00:00.123Z"));
    assert_eq!(at("_msg").as_deref(), Some("disk \"sda\" full"));
    assert_eq!(at("level").as_deref(), Some("warn"));
    assert_eq!(at("severity_text").as_deref(), Some("WARNING"));
    assert_eq!(at("trace_id").as_deref(), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
    assert_eq!(at("log.file.path").as_deref(), Some("/var/log/x"));
    assert_eq!(at("log.offset").as_deref(), Some("12"));
    assert_eq!(at("_index").as_deref(), Some("filebeat-8.15.0"));
    let stream = r#"{_index="filebeat-8.15.0",host.name="h1",k8s.namespace.name="prod","#;
    let stream = format!(r#"{stream}k8s.pod.name="p-1"}}"#);
    assert_eq!(at("_stream"), Some(stream));
    assert_eq!(text(&records, "level", 1).as_deref(), Some("info"));
    assert_eq!(text(&records, "severity_text", 1).as_deref(), Some("30"));
    assert_eq!(text(&records, "_stream", 1).as_deref(), Some(r#"{_index="filebeat-8.15.0"}"#));
    assert_eq!((outcomes.items(), outcomes.failed()), (2, 0));
}

#[test]
fn a_reply_is_what_clients_look_for() {
    let body = b"{\"index\":{\"_index\":\"a\",\"_id\":\"1\",\"_type\":\"_doc\"}}\r\n{\"message\":\"x\"}\r\n\
        {\"create\":{\"_index\":\"a\"}}\n{\"message\":\n\
        {\"update\":{\"_index\":\"b\",\"_id\":\"2\"}}\n{\"doc\":{}}\n\
        {\"delete\":{\"_index\":\"b\",\"_id\":3}}\n\n\
        {\"create\":{\"_index\":\"a\"}}\n{\"message\":\"last\"}";
    let (records, outcomes) = bulk(body).expect("a bulk");
    let records = records.expect("records");
    assert_eq!(column(&records, "_msg"), ["x", "last"]);
    assert_eq!(text(&records, "_id", 0).as_deref(), Some("1"));
    let full = reply(&outcomes, Detail::Full);
    let head = r#"{"took":3,"errors":true,"items":[{"index":{"_index":"a","_id":"1","_version":1,"result":"created","status":201}},{"create":{"_index":"a","_id":null,"status":400,"error":{"type":"document_parsing_exception","reason":""#;
    assert!(full.starts_with(head), "{full}");
    assert!(full.contains(r#"{"update":{"_index":"b","_id":"2","status":400,"error":{"type":"illegal_argument_exception""#));
    assert!(full.contains(r#"{"delete":{"_index":"b","_id":"3","status":400"#), "{full}");
    let made_up = full.rsplit_once(r#""_id":""#).expect("an id").1.split('"').next();
    assert_eq!(made_up.map(str::len), Some(20));
    let status = reply(&outcomes, Detail::Status);
    assert!(status.starts_with(r#"{"errors":true,"items":[{"index":{"status":201}},{"create":{"#));
    assert_eq!(outcomes.failures().map(|(at, _)| at).collect::<Vec<_>>(), [1, 2, 3]);
    let (_, outcomes) = bulk(b"{\"index\":{\"_index\":\"a\"}}\n{}\n").expect("a bulk");
    assert!(reply(&outcomes, Detail::Full).starts_with(r#"{"took":3,"errors":false,"items":[{"#));
}

#[test]
fn the_best_level_wins_and_no_value_is_lost() {
    let body = concat!(
        "{\"index\":{\"_index\":\"a\",\"_id\":\"1\"}}\n",
        "{\"level\":\"strange\",\"severity\":\"ERR\",\"_id\":\"own\"}\n",
        "{\"index\":{\"_index\":\"a\"}}\n",
        "{\"level\":\"strange\"}\n",
        "{\"index\":{\"_index\":\"a\"}}\n",
        "{\"level\":\"info\",\"lvl\":\"I\",\"severity\":\"Info\"}\n",
    );
    let (records, _) = bulk(body.as_bytes()).expect("a bulk");
    let records = records.expect("records");
    assert_eq!(column(&records, "level"), ["error", "strange", "info"]);
    assert_eq!(column(&records, "severity_text"), ["ERR", "", ""]);
    assert_eq!(column(&records, "severity_text#2"), ["strange", "", ""]);
    assert_eq!(column(&records, "severity"), ["", "", "Info"]);
    assert_eq!(column(&records, "lvl"), ["", "", "I"]);
    assert_eq!(
        (text(&records, "_id", 0), text(&records, "_id#2", 0)),
        (Some("1".into()), Some("own".into()))
    );
}

#[test]
fn a_bad_action_line_refuses_the_request() {
    for (body, kind, reason) in [
        ("{\"index\":{}}\n{}\n", "action_request_validation_exception", "index is missing"),
        ("{\"put\":{\"_index\":\"a\"}}\n{}\n", "illegal_argument_exception", "found [put]"),
        ("{\"abc\":true,\"index\":{\"_id\":\"1\"}}\n{}\n", "illegal_argument_exception", "[abc]"),
        ("{}\n{}\n", "illegal_argument_exception", "line [1], expected FIELD_NAME"),
        ("\n\nplain text\n", "illegal_argument_exception", "action/metadata line [3]"),
        ("{\"index\":{\"_index\":\"a\"}}\n", "illegal_argument_exception", "document is missing"),
        ("\n", "parse_exception", "body is required"),
        ("", "parse_exception", "body is required"),
        (
            &format!("{{\"index\":{{\"_index\":\"{}\"}}}}\n{{}}\n", "x".repeat(256)),
            "invalid_index_name_exception",
            "255 bytes",
        ),
    ] {
        let error = bulk(body.as_bytes()).expect_err(body);
        assert_eq!((error.kind(), error.status()), (kind, 400), "{body}");
        assert!(error.to_string().contains(reason), "{error}");
        let mut out = Vec::new();
        error.write_reply(&mut out);
        let told: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        assert_eq!(told["error"]["type"], kind);
        assert_eq!(told["error"]["root_cause"][0]["reason"], error.to_string());
        assert_eq!(told["status"], 400);
    }
    // The path's index is enough.
    let mut decoder = Decoder::new(&default_options(), Some("path"), 7);
    decoder.part(b"{\"create\":{}}\n{\"message\":\"m\"}\n").expect("a bulk");
    let records = decoder.finish().expect("arrow").expect("records");
    assert_eq!(column(&records, "_stream"), [r#"{_index="path"}"#]);
}

#[test]
fn long_and_damaged_documents_keep_what_can_be_kept() {
    let mut body = b"{\"create\":{\"_index\":\"a\"}}\n{\"message\":\"caf\xe9\",\"n\":1}\n".to_vec();
    body.extend_from_slice(b"{\"create\":{\"_index\":\"a\"}}\n{\"message\":\"");
    body.extend(vec![b'x'; 3 * limits::LINE_BYTES_MAX]);
    body.extend_from_slice(b"\"}\n");
    let mut decoder = Decoder::new(&default_options(), None, 7);
    for part in body.chunks(1 << 20) {
        decoder.part(part).expect("a bulk");
        assert!(decoder.carry.len() <= limits::LINE_BYTES_MAX + 1);
    }
    decoder.end().expect("a bulk");
    let records = decoder.finish().expect("arrow").expect("records");
    assert_eq!(decoder.outcomes().failed(), 0);
    assert_eq!(text(&records, "_msg", 0).as_deref(), Some("caf\u{fffd}"));
    assert_eq!(text(&records, "n", 0).as_deref(), Some("1"));
    assert!(text(&records, "lodge.raw_base64", 0).is_some());
    assert_eq!(text(&records, "_msg", 1).map(|m| m.len()), Some(limits::LINE_BYTES_MAX));
    let length = (3 * limits::LINE_BYTES_MAX + r#"{"message":""}"#.len()).to_string();
    assert_eq!(text(&records, "lodge.original_bytes", 1), Some(length));
    assert_eq!(text(&records, "_stream", 1).as_deref(), Some(r#"{_index="a"}"#));
}

#[test]
fn bombs_cost_their_item_alone() {
    let deep = format!("{{\"a\":{}", "[".repeat(100_000));
    let objects = "{\"a\":".repeat(100_000);
    let body = format!(
        "{{\"index\":{{\"_index\":\"a\"}}}}\n{deep}\n{{\"index\":{{\"_index\":\"a\"}}}}\n{objects}\n\
         {{\"index\":{{\"_index\":\"a\"}}}}\n{{\"message\":\"fine\"}}\n"
    );
    let (records, outcomes) = bulk(body.as_bytes()).expect("a bulk");
    assert_eq!(column(&records.expect("records"), "_msg"), ["fine"]);
    assert_eq!((outcomes.items(), outcomes.failed()), (3, 2));
    let long_action = format!("{{\"index\":{{\"_index\":\"{}\"}}}}\n", "x".repeat(100_000));
    let error = bulk(long_action.as_bytes()).expect_err("too long");
    assert_eq!(error.kind(), "illegal_argument_exception");
}

const CORPUS: [&str; 14] = [
    "{\"create\":{\"_index\":\"a\"}}\n{\"@timestamp\":\"2026-03-01T12:00:00Z\",\"message\":\"m\"}\n",
    "{\"index\":{\"_index\":\"b\",\"_id\":\"\\u00e9\"}}\n{\"log\":{\"level\":\"ERROR\",\"x\":[1]},\"log\":\"l\"}\n",
    "{\"index\":{}}\n{\"trace.id\":\"ABCD\",\"_msg\":1,\"_stream\":2,\"_index\":\"c\",\"_id\":{}}\n",
    "{\"update\":{\"_id\":\"1\"}}\n{\"doc\":{\"a\":1}}\n",
    "{\"delete\":{\"_id\":\"1\"}}\n",
    "{ \"create\" : { \"_id\" : null, \"routing\":{} } , \"x\":1}\r\n{\"level\":true,\"severity\":\"err\"}\r\n",
    "{\"create\":{\"_index\":\"a\"}}\nnot json\n",
    "{\"create\":{\"_index\":\"a\"}}\n\n",
    "{\"create\":{\"_index\":\"a\"}}\n{\"kubernetes\":{\"host\":\"n\",\"node\":{\"name\":\"n\"}},\"ts\":1}\n",
    "{\"index\":{}}\n{\"message\":\"\\ud83d\\ude80\",\"level\":50,\"lvl\":\"x\"}\n",
    "\n",
    "{\"index\":{}}\n{}\n",
    "{\"index\":{}}\n[]\n",
    "{\"index\":{}}\n{\"a\":{\"b\":{\"c\":{}}},\"time\":\"never\",\"timestamp\":1772366400000}\n",
];

#[test]
fn every_item_has_one_outcome_and_every_stored_one_a_record_fuzz() {
    let mut random = SmallRng::seed_from_u64(1);
    for _ in 0..3_000 {
        let mut body = Vec::new();
        for _ in 0..random.random_range(1..8) {
            let piece = CORPUS[random.random_range(0..CORPUS.len())];
            body.extend_from_slice(piece.as_bytes());
        }
        for _ in 0..random.random_range(0..3) {
            Damage(&mut random).of(&mut body);
        }
        let mut decoder = Decoder::new(&default_options(), Some("d"), 7);
        let cut = random.random_range(0..=body.len());
        let (head, tail) = body.split_at(cut);
        let parts =
            decoder.part(head).and_then(|()| decoder.part(tail)).and_then(|()| decoder.end());
        let mut whole = Decoder::new(&default_options(), Some("d"), 7);
        let at_once = whole.part(&body).and_then(|()| whole.end());
        assert_eq!(parts, at_once);
        let records = decoder.finish().expect("arrow");
        assert_eq!(records, whole.finish().expect("arrow"));
        if let Err(error) = parts {
            let mut out = Vec::new();
            error.write_reply(&mut out);
            serde_json::from_slice::<serde_json::Value>(&out).expect("JSON");
        }
        let rows = records.as_ref().map_or(0, RecordBatch::num_rows);
        if let Some(records) = &records {
            lodge_record::schema::check(records).expect("shape");
        }
        let outcomes = decoder.into_outcomes();
        assert_eq!(rows + outcomes.failed(), outcomes.items());
        let told: serde_json::Value =
            serde_json::from_str(&reply(&outcomes, Detail::Full)).expect("JSON");
        let items = told["items"].as_array().expect("items");
        assert_eq!(items.len(), outcomes.items());
        assert!(items.iter().all(|item| item.as_object().is_some_and(|o| o.len() == 1)));
    }
}
