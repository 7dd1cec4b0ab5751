//! What goes in through the doors that speak no HTTP, over real sockets: each protocol field by
//! field, what is acknowledged and when, and what happens at the limits.

use super::rig::Rig;
use lodge_server::ServerConfig;
use lodge_server::config::Bind;
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, sleep, timeout};

#[path = "sockets/forward.rs"]
mod forward;
#[path = "sockets/limits.rs"]
mod limits;

/// Longest wait for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Any free port.
fn any_port() -> Option<Bind> {
    Some(Bind { address: "127.0.0.1:0".parse().unwrap(), tls: false })
}

fn all_doors(config: &mut ServerConfig) {
    config.syslog_udp = any_port();
    config.syslog_tcp = any_port();
    config.forward = any_port();
    config.gelf_udp = any_port();
    config.gelf_tcp = any_port();
    config.json_tcp = any_port();
}

fn door(rig: &Rig, name: &str) -> SocketAddr {
    rig.server.bound(name).unwrap()
}

async fn connect(rig: &Rig, name: &str) -> TcpStream {
    TcpStream::connect(door(rig, name)).await.unwrap()
}

async fn sender() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").await.unwrap()
}

/// Waits until a condition holds.
async fn wait_until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
        sleep(Duration::from_millis(30)).await;
    }
}

async fn wait_for_records(rig: &Rig, count: u64) {
    wait_until(&format!("{count} records"), async || rig.count().await >= count).await;
    assert_eq!(rig.count().await, count);
}

/// The one row of a query.
async fn row(rig: &Rig, query: &str) -> Value {
    let rows = rig.rows(query).await;
    assert_eq!(rows.len(), 1, "{query}: {rows:?}");
    rows.into_iter().next().unwrap()
}

/// Fields of a row, in the order asked for; empty where it has none.
fn fields<'r, const N: usize>(row: &'r Value, names: [&str; N]) -> [&'r str; N] {
    names.map(|name| row[name].as_str().unwrap_or_default())
}

/// A metric's value; 0 if there is none.
async fn metric(rig: &Rig, series: &str) -> u64 {
    let text = rig.get("/metrics").send().await.unwrap().text().await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0, |value| value.parse::<f64>().unwrap() as u64)
}

async fn dropped(rig: &Rig, door: &str, reason: &str) -> u64 {
    let labels = format!("{{protocol=\"{door}\",reason=\"{reason}\"}}");
    metric(rig, &format!("lodge_socket_dropped_messages_total{labels}")).await
}

async fn counted(rig: &Rig, what: &str, door: &str) -> u64 {
    metric(rig, &format!("lodge_socket_{what}{{protocol=\"{door}\"}}")).await
}

async fn limit_hits(rig: &Rig, limit: &str) -> u64 {
    metric(rig, &format!("lodge_limit_hits_total{{limit=\"{limit}\"}}")).await
}

/// What comes back until the other side ends the connection.
async fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut back = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut back)).await.expect("an end");
    back
}

#[tokio::test(flavor = "multi_thread")]
async fn doors_are_shut_unless_set_and_say_what_is_wrong() {
    let rig = Rig::start().await;
    assert_eq!(rig.server.bound("syslog_udp"), None);
    let taken = Some(Bind { address: rig.server.addr(), tls: false });
    let refused = async |change: &dyn Fn(&mut ServerConfig)| {
        let dir = tempfile::tempdir().unwrap();
        let mut config = super::rig::config(dir.path());
        change(&mut config);
        lodge_server::start(config).await.err().unwrap().to_string()
    };
    let error = refused(&|c| c.forward = Bind::parse("tls://127.0.0.1:0").ok()).await;
    assert!(error.contains("`forward`") && error.contains("set tls_certificate"), "{error}");
    let error = refused(&|c| c.gelf_udp = Bind::parse("0.0.0.0:0").ok()).await;
    assert!(error.contains("has no credentials"), "{error}");
    let error = refused(&|c| c.json_tcp = taken).await;
    assert!(error.contains("`json_tcp`") && error.contains("set another port"), "{error}");
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn syslog_datagrams_are_stored_field_by_field() {
    let rig = Rig::with(all_doors).await;
    let (socket, at) = (sender().await, door(&rig, "syslog_udp"));
    for datagram in [
        &b"<165>1 2026-03-01T10:00:00.5Z web-1 shop 77 ID47 [a@1 k=\"v\"] paid\nand sent\n"[..],
        b"<34>Feb 28 2026 22:14:15 web-2 su[9]: 'su root' failed\0",
        b"no header: ERROR caf\xe9",
        b"\r\n",
    ] {
        socket.send_to(datagram, at).await.unwrap();
    }
    wait_for_records(&rig, 3).await;
    let paid = row(&rig, "paid").await;
    assert_eq!(
        fields(&paid, ["_msg", "_time", "_stream", "syslog.hostname", "syslog.appname"]),
        [
            "paid\nand sent",
            "2026-03-01T10:00:00.5Z",
            "{syslog.appname=\"shop\",syslog.hostname=\"web-1\"}",
            "web-1",
            "shop"
        ]
    );
    assert_eq!(
        fields(&paid, ["syslog.procid", "syslog.msgid", "syslog.facility", "level"]),
        ["77", "ID47", "local4", "notice"]
    );
    assert_eq!(fields(&paid, ["syslog.data.a@1.k", "client.address"]), ["v", "127.0.0.1"]);
    let failed = row(&rig, "failed").await;
    assert_eq!(
        fields(&failed, ["_msg", "_time", "level", "syslog.procid", "syslog.facility"]),
        ["'su root' failed", "2026-02-28T22:14:15Z", "critical", "9", "auth"]
    );
    let bare = row(&rig, "header").await;
    assert_eq!(
        fields(&bare, ["_msg", "level", "_stream"]),
        ["no header: ERROR caf\u{fffd}", "error", "{client.address=\"127.0.0.1\"}"]
    );
    assert!(!fields(&bare, ["lodge.raw_base64"])[0].is_empty());
    assert_eq!(counted(&rig, "messages_total", "syslog_udp").await, 3);
    assert_eq!(counted(&rig, "malformed_messages_total", "syslog_udp").await, 1);
    assert!(counted(&rig, "bytes_total", "syslog_udp").await > 100);
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn syslog_in_both_framings_on_one_connection_and_without_a_last_line_end() {
    let rig = Rig::with(all_doors).await;
    let mut stream = connect(&rig, "syslog_tcp").await;
    let counted_frame = "<165>1 2026-03-01T10:00:00Z web-1 shop - - - one\nin two lines";
    let text = format!(
        "{} {counted_frame}<11>Mar  1 2026 03:04:05 web-2 cron[9]: two\r\n{} {counted_frame}three\n",
        counted_frame.len(),
        counted_frame.len(),
    );
    // In small parts, so that frames are cut anywhere.
    for part in text.as_bytes().chunks(17) {
        stream.write_all(part).await.unwrap();
        stream.flush().await.unwrap();
    }
    stream.write_all(b"<13>Mar  1 2026 03:04:05 web-3 app: last words").await.unwrap();
    drop(stream);
    // A frame that announced more than came before its sender died.
    let mut stream = connect(&rig, "syslog_tcp").await;
    stream.write_all(b"100 <13>Mar  1 2026 03:04:05 web-4 app: half").await.unwrap();
    drop(stream);
    wait_for_records(&rig, 6).await;
    assert_eq!(rig.rows("_msg:=\"one\\nin two lines\"").await.len(), 2);
    let two = row(&rig, "two \"syslog.procid\":9").await;
    assert_eq!(fields(&two, ["_msg", "level", "client.address"]), ["two", "error", "127.0.0.1"]);
    assert_eq!(fields(&row(&rig, "three").await, ["_msg"]), ["three"]);
    let last = row(&rig, "words").await;
    assert_eq!(
        fields(&last, ["_msg", "syslog.hostname", "truncated"]),
        ["last words", "web-3", ""]
    );
    let half = row(&rig, "half").await;
    assert_eq!(
        fields(&half, ["_msg", "truncated", "lodge.original_bytes"]),
        ["half", "true", "100"]
    );
    assert_eq!(dropped(&rig, "syslog_tcp", "incomplete").await, 0);
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn json_lines_are_what_they_are_over_http() {
    let rig = Rig::with(all_doors).await;
    let lines = "{\"_time\":\"2026-03-01T12:00:00Z\",\"message\":\"one\",\"k\":{\"n\":7}}\r\n\
                 \n{broken\n{\"msg\":\"last\",\"_time\":\"2026-03-01T12:00:01Z\"}";
    let mut stream = connect(&rig, "json_tcp").await;
    stream.write_all(lines.as_bytes()).await.unwrap();
    drop(stream);
    wait_for_records(&rig, 3).await;
    let one = row(&rig, "one").await;
    assert_eq!(
        fields(&one, ["_msg", "_time", "k.n", "_stream"]),
        ["one", "2026-03-01T12:00:00Z", "7", "{}"]
    );
    let broken = row(&rig, "broken").await;
    assert_eq!(fields(&broken, ["_msg"]), ["{broken"]);
    assert!(!fields(&broken, ["lodge.error"])[0].is_empty());
    assert_eq!(fields(&row(&rig, "last").await, ["_time"]), ["2026-03-01T12:00:01Z"]);
    assert_eq!(counted(&rig, "malformed_messages_total", "json_tcp").await, 1);
    assert_eq!(counted(&rig, "messages_total", "json_tcp").await, 3);
    rig.server.stop().await;
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// A message in so many chunks.
fn chunks(id: u8, message: &[u8], count: usize) -> Vec<Vec<u8>> {
    let parts = message.chunks(message.len().div_ceil(count));
    let head = |number: usize| [0x1e, 0x0f, id, 0, 0, 0, 0, 0, 0, 0, number as u8, count as u8];
    parts.enumerate().map(|(n, part)| [&head(n)[..], part].concat()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn gelf_datagrams_are_put_together_and_expanded() {
    let rig = Rig::with(all_doors).await;
    let (socket, at) = (sender().await, door(&rig, "gelf_udp"));
    let message = |n: u8| {
        format!(
            "{{\"version\":\"1.1\",\"host\":\"h{n}\",\"short_message\":\"number {n}\",\
             \"timestamp\":1772366400.5,\"level\":3,\"_user_id\":{n},\"full_message\":\"{}\"}}",
            "long text ".repeat(40)
        )
        .into_bytes()
    };
    let mut sent = vec![message(1), gzip(&message(2)), zlib(&message(3))];
    let mut in_disorder = chunks(4, &message(4), 5);
    in_disorder.swap(0, 4);
    in_disorder.swap(1, 2);
    sent.extend(in_disorder);
    // Two messages' chunks, interleaved, of compressed messages.
    let (five, six) = (chunks(5, &gzip(&message(5)), 2), chunks(6, &zlib(&message(6)), 2));
    sent.extend([five[1].clone(), six[0].clone(), five[0].clone(), six[1].clone()]);
    sent.push(b"not JSON".to_vec());
    // These are no record: damaged, refused, and one whose other half never comes.
    sent.push(gzip(&message(7))[..30].to_vec());
    sent.push(vec![0x1e, 0x0f, 1]);
    sent.push(chunks(8, &message(8), 2)[0].clone());
    for datagram in &sent {
        socket.send_to(datagram, at).await.unwrap();
    }
    wait_for_records(&rig, 7).await;
    for n in 1..=6 {
        let row = row(&rig, &format!("_msg:=\"number {n}\"")).await;
        let (host, stream) = (format!("h{n}"), format!("{{host.name=\"h{n}\"}}"));
        assert_eq!(
            fields(&row, ["_time", "level", "host.name", "_stream", "user_id"]),
            ["2026-03-01T12:00:00.5Z", "error", &host, &stream, &n.to_string()]
        );
    }
    let odd = row(&rig, "_msg:=\"not JSON\"").await;
    assert!(!fields(&odd, ["lodge.error"])[0].is_empty(), "{odd}");
    assert_eq!(counted(&rig, "messages_total", "gelf_udp").await, sent.len() as u64);
    assert_eq!(counted(&rig, "malformed_messages_total", "gelf_udp").await, 3);
    assert_eq!(dropped(&rig, "gelf_udp", "malformed").await, 2);
    // With nothing more to come the half message is given up all the same.
    wait_until("given up", async || dropped(&rig, "gelf_udp", "incomplete").await == 1).await;
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gelf_over_a_connection_ends_with_nul() {
    let rig = Rig::with(all_doors).await;
    let mut stream = connect(&rig, "gelf_tcp").await;
    let text = b"{\"short_message\":\"one\",\n\"host\":\"h\",\"_container_name\":\"web\"}\0\
                 {\"short_message\":\"two\"}\0\0{\"short_message\":\"cut";
    for part in text.chunks(11) {
        stream.write_all(part).await.unwrap();
        stream.flush().await.unwrap();
    }
    drop(stream);
    wait_for_records(&rig, 3).await;
    let one = row(&rig, "_msg:=one").await;
    assert_eq!(fields(&one, ["container.name", "host.name"]), ["web", "h"]);
    assert_eq!(fields(&row(&rig, "_msg:=two").await, ["_stream"]), ["{}"]);
    let cut = row(&rig, "cut").await;
    assert_eq!(fields(&cut, ["_msg"]), ["{\"short_message\":\"cut"]);
    assert!(!fields(&cut, ["lodge.error"])[0].is_empty());
    rig.server.stop().await;
}
