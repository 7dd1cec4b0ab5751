//! Fluent Forward: the modes, what is acknowledged and when, and who is let in.

use super::*;
use lodge_server::tokens::{Kind, Wanted, make};
use lodge_wire::forward::handshake;
use std::collections::BTreeSet;

fn text(text: &str) -> Vec<u8> {
    let mut out = vec![0xd9, u8::try_from(text.len()).unwrap()];
    out.extend_from_slice(text.as_bytes());
    out
}

fn bin(bytes: &[u8]) -> Vec<u8> {
    [&[0xc6][..], &u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

fn array(values: &[Vec<u8>]) -> Vec<u8> {
    [&[0xdc][..], &u16::try_from(values.len()).unwrap().to_be_bytes(), &values.concat()].concat()
}

fn map(pairs: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let pairs: Vec<u8> = pairs.iter().flat_map(|(k, v)| [text(k), v.clone()].concat()).collect();
    let count = pairs_count(&pairs);
    [&[0xde][..], &count.to_be_bytes(), &pairs].concat()
}

/// Pairs of a map whose keys and values are written without a length of their own.
fn pairs_count(bytes: &[u8]) -> u16 {
    let (mut values, mut at) = (0, 0);
    while at < bytes.len() {
        at += match bytes[at] {
            0xd9 => 2 + usize::from(bytes[at + 1]),
            0xce => 5,
            other => panic!("{other:x}"),
        };
        values += 1;
    }
    values / 2
}

fn int(number: u32) -> Vec<u8> {
    [&[0xce][..], &number.to_be_bytes()].concat()
}

/// 2026-03-01T12:00:00.000000005Z
fn event_time() -> Vec<u8> {
    [&[0xd7, 0][..], &1_772_366_400_u32.to_be_bytes(), &5_u32.to_be_bytes()].concat()
}

fn record(number: u32) -> Vec<u8> {
    map(&[("message", text(&format!("line {number}"))), ("n", int(number))])
}

fn entry(number: u32) -> Vec<u8> {
    array(&[event_time(), record(number)])
}

/// A message of one packed entry.
fn chunk_of(number: u32, chunk: &str) -> Vec<u8> {
    array(&[text("app"), bin(&entry(number)), map(&[("chunk", text(chunk))])])
}

/// Reads what acknowledges a chunk.
async fn acknowledged(stream: &mut TcpStream, chunk: &str) {
    let expected = lodge_wire::forward::ack(chunk.as_bytes());
    let mut back = vec![0; expected.len()];
    timeout(PATIENCE, stream.read_exact(&mut back)).await.expect("an answer").unwrap();
    assert_eq!(back, expected, "{chunk}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mode_is_acknowledged_when_a_query_finds_its_records() {
    let rig = Rig::with(all_doors).await;
    let mut stream = connect(&rig, "forward").await;
    let option = |chunk: &str| map(&[("chunk", text(chunk))]);
    let packed = |first: u32| [entry(first), entry(first + 1)].concat();
    let compressed =
        |kind: &str, chunk: &str| map(&[("compressed", text(kind)), ("chunk", text(chunk))]);
    let zstd = zstd::encode_all(packed(8).as_slice(), 1).unwrap();
    let messages = [
        ("c1", 1, array(&[text("app.web"), event_time(), record(1), option("c1")])),
        ("c2", 3, array(&[text("app.db"), array(&[entry(2), entry(3)]), option("c2")])),
        ("c3", 5, array(&[text("app.db"), bin(&packed(4)), option("c3")])),
        ("c4", 7, array(&[text("app.db"), bin(&gzip(&packed(6))), compressed("gzip", "c4")])),
        ("c5", 9, array(&[text("app.db"), bin(&zstd), compressed("zstd", "c5")])),
    ];
    for (chunk, records_after, message) in &messages {
        stream.write_all(&[&[0xc0][..], message].concat()).await.unwrap();
        acknowledged(&mut stream, chunk).await;
        assert_eq!(rig.count().await, *records_after, "{chunk} was acknowledged too early");
    }
    let one = row(&rig, "_msg:=\"line 1\"").await;
    assert_eq!(
        fields(&one, ["_time", "n", "fluent.tag", "_stream"]),
        ["2026-03-01T12:00:00.000000005Z", "1", "app.web", "{fluent.tag=\"app.web\"}"]
    );
    assert_eq!(fields(&row(&rig, "_msg:=\"line 9\"").await, ["fluent.tag"]), ["app.db"]);
    // Several at once are answered in order; one without a chunk is stored without an answer.
    let silent = array(&[text("app"), event_time(), record(10)]);
    let many = [chunk_of(11, "d1"), silent, chunk_of(12, "d2"), chunk_of(13, "d3")].concat();
    stream.write_all(&many).await.unwrap();
    for chunk in ["d1", "d2", "d3"] {
        acknowledged(&mut stream, chunk).await;
    }
    assert_eq!(rig.count().await, 13);
    // An entry that is none does not keep its chunk from being settled.
    let odd = [entry(14), text("no entry")].concat();
    let odd = array(&[text("app"), bin(&odd), option("e1")]);
    stream.write_all(&odd).await.unwrap();
    acknowledged(&mut stream, "e1").await;
    assert_eq!(rig.count().await, 14);
    assert_eq!(dropped(&rig, "forward", "malformed").await, 1);
    drop(stream);
    wait_until("closed", async || counted(&rig, "connections_open", "forward").await == 0).await;
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_message_ends_the_connection_and_what_came_before_is_stored() {
    let rig = Rig::with(all_doors).await;
    let mut stream = connect(&rig, "forward").await;
    let sent = [&chunk_of(1, "c1")[..], b"GET / HTTP/1.1\r\n\r\n"].concat();
    stream.write_all(&sent).await.unwrap();
    assert_eq!(read_to_end(&mut stream).await, lodge_wire::forward::ack(b"c1"));
    assert_eq!(rig.count().await, 1);
    assert_eq!(dropped(&rig, "forward", "malformed").await, 1);
    // A client that dies in the middle of a message loses that one and no other.
    let mut stream = connect(&rig, "forward").await;
    let half = chunk_of(3, "c3");
    stream.write_all(&[&chunk_of(2, "c2")[..], &half[..20]].concat()).await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(read_to_end(&mut stream).await, lodge_wire::forward::ack(b"c2"));
    assert_eq!(rig.count().await, 2);
    assert_eq!(dropped(&rig, "forward", "incomplete").await, 1);
    // A message that announces too much is refused at its announcement.
    let mut stream = connect(&rig, "forward").await;
    stream.write_all(b"\x92\xd9\x01t\xc6\x7f\xff\xff\xff").await.unwrap();
    assert_eq!(read_to_end(&mut stream).await, b"");
    assert_eq!(limit_hits(&rig, "frame_bytes").await, 1);
    rig.server.stop().await;
}

/// The rest of a handshake with this key: what the server decided, and why.
async fn shake_hands(stream: &mut TcpStream, key: &[u8]) -> (bool, String) {
    let mut bytes = [0; 1_024];
    let length = stream.read(&mut bytes).await.unwrap();
    let helo = handshake::read_helo(&bytes[..length]).unwrap();
    let ping = handshake::write_ping(&helo, "client", b"salt", key, None);
    let nonce = helo.nonce.to_vec();
    stream.write_all(&ping).await.unwrap();
    let length = stream.read(&mut bytes).await.unwrap();
    let pong = handshake::read_pong(&bytes[..length]).unwrap();
    assert_eq!(pong.has_key(b"salt", &nonce, key), pong.accepted);
    (pong.accepted, String::from_utf8_lossy(pong.reason).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn with_shared_keys_only_who_knows_one_is_let_in() {
    let rig = Rig::with(|config| config.forward = Some(Bind::parse("127.0.0.1:0").unwrap())).await;
    let at = rig.server.bound("forward").unwrap();
    let mut keys = Vec::new();
    for tenant in ["default", "shop"] {
        let wanted = Wanted {
            name: "fluentd".into(),
            tenant: tenant.parse().unwrap(),
            scopes: "ingest".parse().unwrap(),
            only: None,
            expires_ms: None,
            kind: Kind::SharedKey,
        };
        let (token, key) = make(wanted).unwrap();
        assert!(rig.server.store().add_token(token).await.unwrap());
        keys.push(key.unwrap());
    }
    let reader = Wanted {
        name: "reader".into(),
        tenant: "shop".parse().unwrap(),
        scopes: "read".parse().unwrap(),
        only: None,
        expires_ms: None,
        kind: Kind::Secret,
    };
    let (token, secret) = make(reader).unwrap();
    assert!(rig.server.store().add_token(token).await.unwrap());
    rig.server.tokens_read().await;
    for (number, key) in (1..).zip(&keys) {
        let mut stream = TcpStream::connect(at).await.unwrap();
        assert_eq!(shake_hands(&mut stream, key.as_bytes()).await, (true, String::new()));
        stream.write_all(&chunk_of(number, "c")).await.unwrap();
        acknowledged(&mut stream, "c").await;
    }
    let mut stream = TcpStream::connect(at).await.unwrap();
    let (accepted, reason) = shake_hands(&mut stream, b"wrong").await;
    assert_eq!((accepted, reason.as_str()), (false, "shared_key mismatch"));
    let _ = stream.write_all(&chunk_of(3, "c")).await;
    assert_eq!(read_to_end(&mut stream).await, b"");
    // Without the handshake nothing is read as a message.
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(&chunk_of(4, "c")).await.unwrap();
    let back = read_to_end(&mut stream).await;
    assert!(handshake::read_helo(&back).is_ok(), "{back:?}");
    // Each key's records are its tenant's.
    let query = rig.get("/select/logsql/query?query=*").bearer_auth(secret.unwrap());
    let rows = query.send().await.unwrap().text().await.unwrap();
    assert_eq!(rows.lines().count(), 1, "{rows}");
    rig.server.stop().await;
}

/// Sends chunks one after the other until the server is gone; the numbers of those acknowledged.
async fn send_until_stopped(at: SocketAddr, from: u32) -> BTreeSet<u32> {
    let mut done = BTreeSet::new();
    let Ok(mut stream) = TcpStream::connect(at).await else { return done };
    for number in from..from + 100_000 {
        let chunk = format!("chunk-{number}");
        if stream.write_all(&chunk_of(number, &chunk)).await.is_err() {
            return done;
        }
        let mut back = vec![0; lodge_wire::forward::ack(chunk.as_bytes()).len()];
        if stream.read_exact(&mut back).await.is_err() {
            return done;
        }
        assert_eq!(back, lodge_wire::forward::ack(chunk.as_bytes()));
        done.insert(number);
    }
    done
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_loses_nothing_that_was_acknowledged() {
    let rig = Rig::with(all_doors).await;
    let at = door(&rig, "forward");
    let senders =
        [1_000_000, 2_000_000, 3_000_000].map(|n| tokio::spawn(send_until_stopped(at, n)));
    // What a syslog sender was rid of before the stop is kept, too.
    let mut lines = connect(&rig, "syslog_tcp").await;
    for number in 0..100 {
        let line = format!("<13>Mar  1 2026 03:04:05 web app: early {number}\n");
        lines.write_all(line.as_bytes()).await.unwrap();
    }
    let busy = async || {
        rig.count().await > 110 && counted(&rig, "messages_total", "syslog_tcp").await >= 100
    };
    wait_until("some are stored", busy).await;
    lines.write_all(b"<13>Mar  1 2026 03:04:05 web app: at last\n").await.unwrap();
    let rig = rig.restart().await;
    let mut acknowledged = BTreeSet::new();
    for sender in senders {
        acknowledged.extend(sender.await.unwrap());
    }
    assert!(!acknowledged.is_empty());
    let rows = rig.rows("fluent.tag:=app").await;
    let stored: BTreeSet<u32> =
        rows.iter().map(|row| row["n"].as_str().unwrap().parse().unwrap()).collect();
    assert_eq!(stored.len(), rows.len(), "each once, as nobody sent anything again");
    let lost: Vec<_> = acknowledged.difference(&stored).collect();
    assert!(lost.is_empty(), "acknowledged and not stored: {lost:?}");
    assert_eq!(rig.rows("early").await.len(), 100);
    assert_eq!(rig.rows("_msg:=\"at last\"").await.len(), 1);
    rig.server.stop().await;
}
