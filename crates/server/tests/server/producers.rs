//! The agent's protocol: new, again, missing, outdated.

use super::rig::{Rig, answer};
use lodge_record::{Account, Batch, Hole, Origin, Position, ProducerId, Tally, TenantId};
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
    let http2 = super::rig::client().http2_prior_knowledge().build().unwrap();
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

/// A stretch of `a.log` with one record, of which more may have been read or be missing.
fn stretch(producer: ProducerId, seq: u64, account: Account) -> Vec<u8> {
    let plain = batch(producer, 1, seq, &format!("at {seq}0"));
    let mut batch = agent_batch::decode(TenantId::default(), plain.into()).unwrap();
    let (agent, host) = (ProducerId::derive(&[b"agent"]).to_string(), "web-1".to_owned());
    batch.account = Some(Box::new(Account { agent, host, source: "/a.log".into(), ..account }));
    agent_batch::encode(&batch).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_shows_what_is_durable_on_its_way_and_missing() {
    let rig = Rig::start().await;
    let producer = ProducerId::random();
    let at = |position: &str| Some(position.to_owned());
    let first = Account { read_records: 1, ..Account::default() };
    let mut second = Account { from: at("at 10"), read_records: 4, ..Account::default() };
    second.drop_records("rule debug", 3);
    let (from, to, reason) = ("at 10".into(), "at 15".into(), "cut off".into());
    second.add_hole(Hole { from, to, reason, bytes: Some(5), records: None });
    for (seq, account) in [(1, first), (2, second)] {
        let (status, body) = send(&rig, stretch(producer, seq, account)).await;
        assert_eq!(status, StatusCode::OK, "{body}");
    }
    let report = json!({"host": "web-1", "version": "1", "sources": [{
        "producer": producer.to_string(), "source": "/a.log", "unread_bytes": 77,
        "in_flight_records": 5}]});
    let agent = ProducerId::derive(&[b"agent"]);
    let (status, body) = answer(rig.post(&format!("/api/v1/agents/{agent}")).json(&report)).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let (_, ledger) = answer(rig.get("/api/v1/ledger")).await;
    let expected = json!({"sources": 1, "read_records": 5, "stored_records": 2,
        "dropped_records": 3, "unread_bytes": 77, "in_flight_records": 5, "holes": 1,
        "unexplained_holes": 0, "sources_counted_otherwise": 0});
    assert_eq!(ledger["totals"], expected, "{ledger}");
    let source = &ledger["sources"][0];
    assert_eq!((&source["host"], &source["source"]), (&json!("web-1"), &json!("/a.log")));
    assert_eq!(
        (&source["position"], &source["dropped"]["rule debug"]),
        (&json!("at 20"), &json!(3))
    );
    assert_eq!(source["holes"][0]["reason"], "cut off");
    assert_eq!(ledger["agents"][0]["silent"], false);

    // The next stretch begins elsewhere: what lies between is missing, and no one says why.
    let third = Account { from: at("at 25"), read_records: 1, ..Account::default() };
    send(&rig, stretch(producer, 3, third)).await;
    let rig = rig.restart().await;
    let (_, ledger) = answer(rig.get("/api/v1/ledger?holes=true&contains=web-1")).await;
    assert_eq!(ledger["totals"]["unexplained_holes"], 1, "{ledger}");
    let hole = &ledger["sources"][0]["holes"][1];
    assert_eq!((&hole["from"], &hole["to"]), (&json!("at 20"), &json!("at 25")));
    assert_eq!(hole["unexplained"], true);
    let (_, none) = answer(rig.get("/api/v1/ledger?contains=web-2")).await;
    assert_eq!(none["totals"]["sources"], 0);
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_count_and_what_they_count_otherwise_is_an_alarm() {
    let rig = Rig::start().await;
    let producer = ProducerId::random();
    let counted = |from: Option<&str>, records: u64| {
        let tally = Tally { read_records: records, durable_records: records, ..Tally::default() };
        let (from, before) = (from.map(str::to_owned), Some(Box::new(tally)));
        Account { from, read_records: 1, before, ..Account::default() }
    };
    send(&rig, stretch(producer, 1, counted(None, 0))).await;
    send(&rig, stretch(producer, 2, counted(Some("at 10"), 1))).await;
    let (_, ledger) = answer(rig.get("/api/v1/ledger")).await;
    let both = json!({"read_records": 2, "durable_records": 2, "holes": 0});
    assert_eq!(ledger["sources"][0]["counted_by_agent"], both, "{ledger}");
    assert_eq!(ledger["sources"][0]["counted_otherwise"], false);
    let (_, known) = answer(rig.get(&format!("/api/v1/producers/{producer}"))).await;
    assert_eq!(known["counted"], both, "{known}");

    // An agent that was told of seven records that are not here.
    send(&rig, stretch(producer, 3, counted(Some("at 20"), 9))).await;
    let rig = rig.restart().await;
    let (_, ledger) = answer(rig.get("/api/v1/ledger")).await;
    assert_eq!(ledger["totals"]["sources_counted_otherwise"], 1, "{ledger}");
    assert_eq!(ledger["totals"]["unexplained_holes"], 1, "{ledger}");
    let source = &ledger["sources"][0];
    assert_eq!(source["counted_by_agent"]["durable_records"], 10);
    assert_eq!(source["stored_records"], 3);
    assert_eq!(source["holes"][0]["records"], 7);
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_and_accounts_beyond_their_limits_are_refused() {
    let rig = Rig::start().await;
    let agent = ProducerId::random();
    let path = format!("/api/v1/agents/{agent}");
    for body in ["7", "{\"sources\":7}", "{"] {
        let (status, answer) = answer(rig.post(&path).body(body)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    }
    let long = json!({"host": "h".repeat(2000)});
    let (status, body) = answer(rig.post(&path).json(&long)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    let mut account = Account::default();
    account.dropped.insert("r".repeat(2000), 1);
    let (status, body) = send(&rig, stretch(agent, 1, account)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body["error"].as_str().unwrap().contains("bytes in one text"), "{body}");
    rig.server.stop().await;
}
