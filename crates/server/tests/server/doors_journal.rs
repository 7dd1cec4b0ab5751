//! Journal uploads: endless requests whose records are there before the request ends.

use super::rig::{Rig, answer};
use bytes::Bytes;
use futures::channel::mpsc;
use reqwest::{RequestBuilder, StatusCode};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const EXPORT: &str = "application/vnd.fdo.journal";

/// An entry as systemd-journal-upload writes it.
fn entry(number: u64) -> String {
    format!(
        "__CURSOR=s=1;i={number:x}\n__REALTIME_TIMESTAMP={}\n_HOSTNAME=web-1\n\
         _SYSTEMD_UNIT=shop.service\nPRIORITY=3\n_PID=812\nMESSAGE=entry {number}\n\n",
        1_772_366_400_000_000 + number
    )
}

fn upload(rig: &Rig, body: impl Into<reqwest::Body>) -> RequestBuilder {
    rig.post("/upload").header("content-type", EXPORT).body(body)
}

/// A body that goes on as long as the sender lives.
fn endless() -> (mpsc::UnboundedSender<Result<Bytes, std::io::Error>>, reqwest::Body) {
    let (sender, parts) = mpsc::unbounded();
    (sender, reqwest::Body::wrap_stream(parts))
}

async fn until_there_are(rig: &Rig, count: u64) {
    let give_up = std::time::Instant::now() + Duration::from_secs(60);
    loop {
        let found = rig.count().await;
        if found == count {
            return;
        }
        assert!(found < count && std::time::Instant::now() < give_up, "{found} of {count}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_an_upload_are_there_while_it_goes_on() {
    let rig = Rig::start().await;
    let (sender, body) = endless();
    let request = tokio::spawn(upload(&rig, body).send());
    // Cut within an entry: the rest comes later.
    let second = entry(2);
    let (head, rest) = second.split_at(60);
    sender.unbounded_send(Ok((entry(1) + head).into())).unwrap();
    until_there_are(&rig, 1).await;
    assert!(!request.is_finished(), "an upload is answered at its end");
    sender.unbounded_send(Ok(rest.to_owned().into())).unwrap();
    until_there_are(&rig, 2).await;
    // The end of the body ends an entry, too.
    sender.unbounded_send(Ok(entry(3).trim_end_matches('\n').to_owned().into())).unwrap();
    sender.unbounded_send(Ok("\n".into())).unwrap();
    drop(sender);
    let response = request.await.unwrap().unwrap();
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    assert_eq!(response.text().await.unwrap(), "OK.\n");
    assert_eq!(rig.count().await, 3);
    let row = &rig.rows("_msg:=\"entry 2\"").await[0];
    assert_eq!(row["_time"], "2026-03-01T12:00:00.000002Z");
    assert_eq!(row["_stream"], r#"{host="web-1",unit="shop.service"}"#);
    assert_eq!((&row["level"], &row["pid"]), (&"error".into(), &"812".into()));
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_before_a_break_is_kept_and_the_rest_is_refused_with_a_count() {
    let rig = Rig::start().await;
    let damaged = [entry(1).as_bytes(), b"F\n\x01\0\0\0\0\0\0\0xy\n\n"].concat();
    let (status, body) = answer(upload(&rig, damaged)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    assert_eq!(body["records_stored"], 1, "{body}");
    let (status, body) = answer(upload(&rig, entry(2) + "MESSAGE=cut")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    assert_eq!(rig.count().await, 2);

    // A connection that breaks, by hand: a client library may keep back what it has not sent.
    let mut connection = TcpStream::connect(rig.server.addr()).await.unwrap();
    let (third, fourth) = (entry(3), entry(4));
    let head = format!(
        "POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Type: {EXPORT}\r\n\
         Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{third}\r\n",
        third.len()
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    until_there_are(&rig, 3).await;
    let chunk = format!("{:x}\r\n{fourth}\r\n5\r\nMESSA", fourth.len());
    connection.write_all(chunk.as_bytes()).await.unwrap();
    drop(connection);
    until_there_are(&rig, 4).await;

    for (kind, encoding) in [("application/json", "identity"), (EXPORT, "gzip")] {
        let request = rig.post("/upload").header("content-type", kind);
        let (status, _) = answer(request.header("content-encoding", encoding).body("")).await;
        assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{kind} {encoding}");
    }
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_stalls_within_an_entry_ends_with_what_it_brought() {
    let rig = Rig::with(|config| config.stall_time_max = Duration::from_secs(1)).await;
    let (sender, body) = endless();
    let request = tokio::spawn(answer(upload(&rig, body)));
    sender.unbounded_send(Ok((entry(1) + "MESSAGE=never").into())).unwrap();
    let (status, body) = request.await.unwrap();
    assert_eq!(status, StatusCode::REQUEST_TIMEOUT, "{body}");
    assert_eq!(body["records_stored"], 1, "{body}");
    assert_eq!(rig.count().await, 1);
    drop(sender);
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_far_larger_than_the_memory_for_inserts_is_taken_in_pieces() {
    let rig = Rig::with(|config| config.insert_memory_bytes_max = 32 << 20).await;
    let (sender, body) = endless();
    let request = tokio::spawn(upload(&rig, body).send());
    let big = "x".repeat(2 << 20);
    for number in 0..40 {
        let entry = format!("MESSAGE=entry {number}\nBIG={big}\n\n");
        sender.unbounded_send(Ok(entry.into())).unwrap();
    }
    drop(sender);
    assert_eq!(request.await.unwrap().unwrap().status(), StatusCode::ACCEPTED);
    assert_eq!(rig.count().await, 40);
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_ends_an_upload_and_keeps_what_it_brought() {
    let rig = Rig::start().await;
    let (sender, body) = endless();
    let request = tokio::spawn(answer(upload(&rig, body)));
    sender.unbounded_send(Ok(entry(1).into())).unwrap();
    until_there_are(&rig, 1).await;
    let rig = rig.restart().await;
    let (status, body) = request.await.unwrap();
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
    assert_eq!((&body["code"], &body["records_stored"]), (&"stopping".into(), &1.into()));
    assert_eq!(rig.count().await, 1);
    drop(sender);
    rig.server.stop().await;
}
