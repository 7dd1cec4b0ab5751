//! What clients of other products are told, in their own words: good items, bad ones, nonsense.

use super::rig::Rig;
use reqwest::header::HeaderMap;
use reqwest::{RequestBuilder, StatusCode};

/// Status, headers and body of an answer.
async fn said(request: RequestBuilder) -> (StatusCode, HeaderMap, String) {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    (status, headers, response.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bulk_request_has_an_outcome_for_each_item_and_every_answer_names_the_product() {
    let rig = Rig::start().await;
    let body = "{\"create\":{\"_id\":\"1\"}}\n{\"message\":\"good\"}\n\
                {\"index\":{}}\n{broken\n{\"delete\":{\"_id\":\"1\"}}\n";
    let (status, headers, reply) = said(rig.post("/elasticsearch/logs/_bulk").body(body)).await;
    assert_eq!(status, StatusCode::OK, "{reply}");
    assert_eq!(headers["x-elastic-product"], "Elasticsearch");
    assert!(
        reply.contains("\"errors\":true,\"items\":[{\"create\":{\"_index\":\"logs\""),
        "{reply}"
    );
    assert!(reply.contains("document_parsing_exception"), "{reply}");
    assert_eq!(rig.rows("good").await[0]["_stream"], "{_index=\"logs\"}");
    assert_eq!(rig.count().await, 1);

    let (status, headers, reply) =
        said(rig.post("/elasticsearch/_bulk").body("no action\n{}\n")).await;
    assert_eq!(
        (status, &headers["x-elastic-product"]),
        (StatusCode::BAD_REQUEST, &"Elasticsearch".parse().unwrap())
    );
    assert!(reply.contains("illegal_argument_exception"), "{reply}");
    for (path, known) in [
        ("/elasticsearch", true),
        ("/elasticsearch/", true),
        ("/elasticsearch/_license", true),
        ("/elasticsearch/_index_template/logs", true),
        ("/elasticsearch/_refresh", true),
        ("/elasticsearch/logs/_refresh", true),
        ("/elasticsearch/logs/_search", false),
    ] {
        let (status, headers, reply) = said(rig.get(path)).await;
        let expected = if known { StatusCode::OK } else { StatusCode::NOT_FOUND };
        assert_eq!(status, expected, "{path}: {reply}");
        assert_eq!(headers["x-elastic-product"], "Elasticsearch", "{path}");
    }
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_keeps_what_can_be_taken_and_says_what_cannot() {
    let rig = Rig::start().await;
    let push = |body: &'static str| {
        rig.post("/loki/api/v1/push").header("content-type", "application/json").body(body)
    };
    let good = r#"{"streams":[{"stream":{"app":"a"},"values":[["1772366400000000001","one"]]}]}"#;
    let (status, _, reply) = said(push(good)).await;
    assert_eq!((status, reply.as_str()), (StatusCode::NO_CONTENT, ""));
    let rows = rig.rows("one").await;
    assert_eq!(rows[0]["_time"], "2026-03-01T12:00:00.000000001Z");
    assert_eq!(rows[0]["_stream"], "{app=\"a\"}");
    let (status, _, reply) = said(push("{\"streams\":7")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{reply}");
    let (status, _, reply) = said(rig.post("/loki/api/v1/push").body("no snappy block")).await;
    assert!(status == StatusCode::BAD_REQUEST && reply.contains("snappy"), "{status} {reply}");
    assert_eq!(rig.count().await, 1);
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_answered_in_its_own_notation() {
    let rig = Rig::start().await;
    let json = r#"{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name",
        "value":{"stringValue":"shop"}}]},"scopeLogs":[{"logRecords":[{
        "timeUnixNano":"1772366400000000000","severityNumber":17,"body":{"stringValue":"it broke"},
        "traceId":"5B8EFFF798038103D269B633813FC60C"}]}]}]}"#;
    let export = |kind: &'static str, body: &'static str| {
        rig.post("/v1/logs").header("content-type", kind).body(body)
    };
    let (status, headers, reply) = said(export("application/json", json)).await;
    assert_eq!(status, StatusCode::OK, "{reply}");
    assert_eq!(headers["content-type"], "application/json");
    let rows = rig.rows("it broke").await;
    assert_eq!((&rows[0]["level"], &rows[0]["service.name"]), (&"error".into(), &"shop".into()));
    assert_eq!(rows[0]["trace_id"], "5b8efff798038103d269b633813fc60c");
    let (status, headers, _) = said(export("application/x-protobuf", "\u{1}\u{1}\u{1}")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(headers["content-type"], "application/x-protobuf");
    let (status, _, reply) = said(export("text/csv", "a,b")).await;
    assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{reply}");
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_of_events_uses_its_numbers() {
    let rig = Rig::start().await;
    let events = "{\"event\":\"one\",\"host\":\"h\"}{\"event\":{\"message\":\"two\",\"n\":2}}";
    let (status, _, reply) = said(rig.post("/services/collector").body(events)).await;
    assert_eq!((status, reply.as_str()), (StatusCode::OK, r#"{"code":0,"text":"Success"}"#));
    assert_eq!(rig.rows("two").await[0]["n"], "2");
    for (path, body, code) in [
        ("/services/collector/event", "", "\"code\":5"),
        ("/services/collector/event", "{\"event\":\"a\"}{\"no\":1}", "\"invalid-event-number\":1"),
        ("/services/collector/ack", "{\"acks\":[0]}", "\"code\":10"),
    ] {
        let (status, _, reply) = said(rig.post(path).body(body)).await;
        assert!(status == StatusCode::BAD_REQUEST && reply.contains(code), "{path}: {reply}");
    }
    let channel = |path: &str, body: &'static str| {
        rig.post(path).header("X-Splunk-Request-Channel", "c").body(body)
    };
    let (_, _, reply) = said(channel("/services/collector/raw", "a line\nanother\n")).await;
    let reply: serde_json::Value = serde_json::from_str(&reply).unwrap();
    assert!(reply["ackId"].is_u64(), "{reply}");
    let (_, _, reply) = said(channel("/services/collector/ack", "{\"acks\":[7]}")).await;
    assert_eq!(reply, r#"{"acks":{"7":true}}"#);
    assert_eq!(rig.count().await, 5);
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_and_messages_are_taken_and_a_keep_alive_stores_nothing() {
    let rig = Rig::start().await;
    let logs = r#"[{"message":"one","ddtags":"env:prod","service":"s"},{"message":"two"}]"#;
    for (path, body, status) in [
        ("/api/v2/logs", logs, StatusCode::ACCEPTED),
        ("/v1/input/key", "{}", StatusCode::OK),
        ("/api/v2/logs", "[{\"message\":\"three\"},{broken]", StatusCode::BAD_REQUEST),
        ("/gelf", "{\"short_message\":\"four\",\"host\":\"h\",\"level\":3}", StatusCode::ACCEPTED),
        ("/gelf", "no JSON", StatusCode::BAD_REQUEST),
    ] {
        let (found, _, reply) = said(rig.post(path).body(body)).await;
        assert_eq!(found, status, "{path} {body}: {reply}");
    }
    assert_eq!(rig.rows("one").await[0]["deployment.environment.name"], "prod");
    assert_eq!(rig.rows("four").await[0]["level"], "error");
    assert_eq!(rig.count().await, 4);
    let (status, _, reply) = said(rig.post("/api/v2/logs").header("content-encoding", "br")).await;
    assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{reply}");
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_in_snappy_are_taken_in_frames_and_as_a_block() {
    let rig = Rig::start().await;
    let message = b"{\"short_message\":\"in snappy\",\"_msg\":\"in snappy\"}\n".repeat(100);
    let mut frames = snap::write::FrameEncoder::new(Vec::new());
    std::io::Write::write_all(&mut frames, &message).unwrap();
    let frames = frames.into_inner().unwrap();
    let block = snap::raw::Encoder::new().compress_vec(&message).unwrap();
    for path in ["/gelf", "/insert/jsonline"] {
        for (name, body) in [("snappy", &frames), ("x-snappy-framed", &frames), ("snappy", &block)]
        {
            let request = rig.post(path).header("content-encoding", name).body(body.clone());
            let (status, _, reply) = said(request).await;
            assert!(status.is_success(), "{path} {name}: {status} {reply}");
        }
        let cut = rig.post(path).header("content-encoding", "snappy").body(block[..30].to_vec());
        let (status, _, reply) = said(cut).await;
        assert!(status == StatusCode::BAD_REQUEST && reply.contains("snappy"), "{path}: {reply}");
    }
    assert_eq!(rig.count().await, 600);
    rig.server.stop().await;
}

/// A request that each door takes, and how its protocol words "later": while there is too much at
/// once, and while there is no room on the disk.
const LATER: [(&str, &str, &str, &str); 9] = [
    (
        "/elasticsearch/logs/_bulk",
        "{\"create\":{}}\n{\"message\":\"m\"}\n",
        "es_rejected_execution_exception",
        "unavailable_shards_exception",
    ),
    (
        "/loki/api/v1/push",
        r#"{"streams":[{"stream":{"a":"b"},"values":[["1772366400000000001","m"]]}]}"#,
        "too many inserts at once",
        "disk",
    ),
    (
        "/v1/logs",
        r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"m"}}]}]}]}"#,
        "\"code\":8",
        "\"code\":14",
    ),
    ("/services/collector/event", "{\"event\":\"m\"}", "\"code\":9", "\"code\":9"),
    ("/services/collector/raw", "m\n", "\"code\":9", "\"code\":9"),
    ("/api/v2/logs", "[{\"message\":\"m\"}]", "\"status\":\"429\"", "\"status\":\"503\""),
    ("/v1/input", "[{\"message\":\"m\"}]", "\"status\":\"429\"", "\"status\":\"503\""),
    ("/gelf", "{\"short_message\":\"m\"}", "\"code\":\"overloaded\"", "\"code\":\"disk_full\""),
    ("/insert/jsonline", "{\"_msg\":\"m\"}\n", "\"code\":\"overloaded\"", "\"code\":\"disk_full\""),
];

async fn is_put_off(rig: &Rig, path: &str, body: String, status: StatusCode, words: &str) {
    let request = rig.post(path).header("content-type", "application/json").body(body);
    let (found, headers, reply) = said(request).await;
    assert_eq!(found, status, "{path}: {reply}");
    let seconds: u64 = headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=600).contains(&seconds), "{path}: Retry-After: {seconds}");
    assert!(reply.contains(words), "{path}: {reply}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_door_says_when_to_come_again_in_its_own_words() {
    let rig = Rig::with(|config| config.insert_memory_bytes_max = 8 << 10).await;
    for (path, body, too_much, _) in LATER {
        // The same many times: what is refused is not looked at.
        let much = body.repeat(1 + (64 << 10) / body.len());
        is_put_off(&rig, path, much, StatusCode::TOO_MANY_REQUESTS, too_much).await;
    }
    assert_eq!(rig.count().await, 0);
    rig.server.stop().await;
    let rig = Rig::with(|config| config.disk_free_bytes_min = Some(1 << 60)).await;
    for (path, body, _, no_room) in LATER {
        is_put_off(&rig, path, body.to_owned(), StatusCode::SERVICE_UNAVAILABLE, no_room).await;
    }
    assert_eq!(rig.count().await, 0);
    rig.server.stop().await;
}
