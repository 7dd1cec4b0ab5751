//! The agent's protocol: new, again, missing, outdated.

use super::rig::{Rig, answer};
use lodge_record::{Batch, Origin, Position, ProducerId, TenantId};
use lodge_wire::{agent_batch, jsonline};
use reqwest::StatusCode;
use serde_json::{Value, json};

fn batch(producer: ProducerId, epoch: u32, seq: u64, position: &str) -> Vec<u8> {
    let line = format!("{{\"_msg\":\"batch {epoch} {seq}\",\"service\":\"agent\"}}\n");
    let decoded = jsonline::decode(&jsonline::Options::default(), 1, line.as_bytes()).unwrap();
    let batch = Batch::new(
        TenantId::default(),
        Some(Origin { producer, epoch, seq }),
        Some(Position::new(position).unwrap()),
        decoded.records.unwrap(),
    );
    agent_batch::encode(&batch.unwrap()).unwrap()
}

async fn send(rig: &Rig, body: Vec<u8>) -> (StatusCode, Value) {
    answer(rig.post("/api/v1/batches").body(body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_stored_once_however_often_it_is_sent() {
    let rig = Rig::start().await;
    let producer = ProducerId::random();
    let (status, body) = send(&rig, batch(producer, 1, 1, "at 10")).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let expected = json!({
        "producer": producer.to_string(), "epoch": 1, "seq": 1, "position": "at 10",
        "records": 1, "duplicate": false,
    });
    assert_eq!(body, expected);
    send(&rig, batch(producer, 1, 2, "at 20")).await;
    let (status, body) = send(&rig, batch(producer, 1, 1, "at 10")).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(body["duplicate"], true);
    assert_eq!((&body["seq"], &body["position"]), (&json!(2), &json!("at 20")), "{body}");
    assert_eq!(rig.count().await, 2);
    let rig = rig.restart().await;
    let (_, body) = send(&rig, batch(producer, 1, 2, "at 20")).await;
    assert_eq!(body["duplicate"], true, "{body}");
    let (status, state) = answer(rig.get(&format!("/api/v1/producers/{producer}"))).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(state["position"], "at 20");
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_and_a_stale_epoch_are_refused_with_what_is_committed() {
    let rig = Rig::start().await;
    let producer = ProducerId::random();
    let (status, body) = send(&rig, batch(producer, 1, 2, "x")).await;
    assert_eq!((status, &body["code"]), (StatusCode::CONFLICT, &json!("gap")), "{body}");
    send(&rig, batch(producer, 1, 1, "a")).await;
    let (status, body) = send(&rig, batch(producer, 1, 3, "c")).await;
    assert_eq!((status, &body["code"]), (StatusCode::CONFLICT, &json!("gap")));
    assert_eq!(
        (&body["epoch"], &body["seq"], &body["position"]),
        (&json!(1), &json!(1), &json!("a"))
    );
    let (status, _) = send(&rig, batch(producer, 2, 1, "b")).await;
    assert_eq!(status, StatusCode::OK);
    let (status, body) = send(&rig, batch(producer, 1, 2, "b")).await;
    assert_eq!((status, &body["code"]), (StatusCode::CONFLICT, &json!("stale_epoch")), "{body}");
    assert_eq!(rig.count().await, 2);
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_batches_over_http2_and_garbage() {
    let rig = Rig::start().await;
    let http2 = reqwest::Client::builder().http2_prior_knowledge().no_proxy().build().unwrap();
    let body = zstd::encode_all(batch(ProducerId::random(), 1, 1, "p").as_slice(), 3).unwrap();
    let request = http2.post(rig.url("/api/v1/batches")).header("Content-Encoding", "zstd");
    let response = request.body(body).send().await.unwrap();
    assert_eq!(response.version(), reqwest::Version::HTTP_2);
    assert_eq!(response.status(), StatusCode::OK);
    for (encoding, body, expected) in [
        ("identity", b"garbage".to_vec(), StatusCode::BAD_REQUEST),
        ("zstd", b"garbage".to_vec(), StatusCode::BAD_REQUEST),
        ("br", b"garbage".to_vec(), StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ("identity", vec![0; 70 << 20], StatusCode::PAYLOAD_TOO_LARGE),
    ] {
        let request = rig.post("/api/v1/batches").header("Content-Encoding", encoding);
        let (status, body) = answer(request.body(body)).await;
        assert_eq!(status, expected, "{body}");
    }
    let (status, _) = answer(rig.get("/api/v1/producers/nobody")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let unknown = format!("/api/v1/producers/{}", ProducerId::random());
    assert_eq!(answer(rig.get(&unknown)).await.0, StatusCode::NOT_FOUND);
    assert_eq!(rig.count().await, 1);
    rig.server.stop().await;
}
