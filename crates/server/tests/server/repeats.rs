//! Requests that come twice, because a client did not hear that the first was stored.

use super::rig::{Rig, answer};
use lodge_server::ServerConfig;
use reqwest::{RequestBuilder, StatusCode};
use serde_json::json;

fn bulk(rig: &Rig, message: &str) -> RequestBuilder {
    rig.post("/elasticsearch/logs/_bulk")
        .body(format!("{{\"create\":{{}}}}\n{{\"message\":\"{message}\"}}\n"))
}

async fn ok(request: RequestBuilder) {
    let response = request.send().await.unwrap();
    let status = response.status();
    assert!(status.is_success(), "{status}: {}", response.text().await.unwrap());
}

async fn suppressed(rig: &Rig) -> u64 {
    let (_, status) = answer(rig.get("/api/v1/status")).await;
    status["ingest"]["duplicate_batches_total"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_a_key_is_stored_once_also_after_a_crash() {
    let rig = Rig::start().await;
    let keyed = |rig: &Rig, key: &str| bulk(rig, "once").header("Idempotency-Key", key);
    ok(keyed(&rig, "a")).await;
    ok(keyed(&rig, "a")).await;
    assert_eq!((rig.count().await, suppressed(&rig).await), (1, 1));
    // Another key, another route, another key's owner: other requests.
    ok(keyed(&rig, "b")).await;
    let gelf = rig.post("/gelf").header("Idempotency-Key", "a");
    ok(gelf.json(&json!({"short_message": "once"}))).await;
    assert_eq!(rig.count().await, 3);
    let rig = rig.restart().await;
    ok(keyed(&rig, "a")).await;
    assert_eq!((rig.count().await, suppressed(&rig).await), (3, 1));
    let long = keyed(&rig, &"k".repeat(256));
    assert_eq!(long.send().await.unwrap().status(), StatusCode::BAD_REQUEST);
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_with_a_key_are_stored_once_however_large() {
    let rig = Rig::start().await;
    let mut lines = String::new();
    for i in 0..300_000 {
        lines.push_str(&format!("{{\"_msg\":\"line {i:0>120}\"}}\n"));
    }
    for _ in 0..2 {
        let insert = rig.post("/insert/jsonline").header("Idempotency-Key", "large");
        let (status, body) = answer(insert.body(lines.clone())).await;
        assert_eq!(status, StatusCode::OK, "{body}");
    }
    assert_eq!(rig.count().await, 300_000);
    assert!(suppressed(&rig).await > 1, "it came in pieces, and each was known");
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_requests_are_repeats_only_where_that_is_switched_on() {
    let same = |rig: &Rig| {
        let lines = rig.post("/insert/jsonline").body("{\"_msg\":\"equal\"}\n");
        [bulk(rig, "equal"), bulk(rig, "equal"), lines.try_clone().unwrap(), lines]
    };
    let rig = Rig::start().await;
    for request in same(&rig) {
        ok(request).await;
    }
    assert_eq!((rig.count().await, suppressed(&rig).await), (4, 0));
    rig.server.stop().await;
    let on = |config: &mut ServerConfig| config.suppress_repeats = vec!["listen".to_owned()];
    let rig = Rig::with(on).await;
    for request in same(&rig) {
        ok(request).await;
    }
    ok(bulk(&rig, "another")).await;
    assert_eq!((rig.count().await, suppressed(&rig).await), (3, 2));
    rig.server.stop().await;
}
