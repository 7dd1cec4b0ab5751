//! More connections than there are places.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::rig::Rig;

const PLACES: usize = 16;
const ANSWER_MAX: Duration = Duration::from_secs(10);

async fn get(stream: &mut TcpStream, path: &str) -> Option<String> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = vec![0; 4096];
    let length = timeout(ANSWER_MAX, stream.read(&mut answer)).await.expect("in time").ok()?;
    answer.truncate(length);
    Some(String::from_utf8(answer).unwrap()).filter(|answer| !answer.is_empty())
}

async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut rest = [0; 64];
    matches!(timeout(Duration::from_millis(300), stream.read(&mut rest)).await, Ok(Ok(0) | Err(_)))
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_shut_nobody_out_and_those_at_work_stay() {
    let rig = Rig::with(|config| config.connections_max = PLACES).await;
    let at = rig.server.addr();
    rig.inserted("{\"_msg\":\"one\"}\n").await;
    // At work for as long as the test takes: a live tail.
    let mut tail = TcpStream::connect(at).await.unwrap();
    let begun = get(&mut tail, "/select/logsql/tail?query=*").await.unwrap();
    assert!(begun.starts_with("HTTP/1.1 200"), "{begun}");
    // One that asks from time to time.
    let mut known = TcpStream::connect(at).await.unwrap();
    assert!(get(&mut known, "/health").await.is_some());
    // Far more than there are places: half say nothing, half begin a request and do not go on.
    let mut crowd = Vec::new();
    for number in 0..5 * PLACES {
        let mut stream = TcpStream::connect(at).await.unwrap();
        if number % 2 == 0 {
            stream.write_all(b"GET / HTTP/1.1\r\nhost: loc").await.unwrap();
        }
        crowd.push(stream);
        if number % PLACES == 0 {
            let mut new = TcpStream::connect(at).await.unwrap();
            let answer = get(&mut new, "/health").await.expect("who is new is served");
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
    }
    // The last of the crowd may still be on their way in.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut closed = 0;
    for stream in &mut crowd {
        closed += usize::from(is_closed(stream).await);
    }
    assert!(closed >= 4 * PLACES, "{closed} of {}", crowd.len());
    assert!(!is_closed(&mut tail).await);
    let answer = get(&mut known, "/health").await.expect("those that never asked left first");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    rig.inserted("{\"_msg\":\"two\"}\n").await;
    let mut line = vec![0; 4096];
    let length = timeout(ANSWER_MAX, tail.read(&mut line)).await.expect("in time").unwrap();
    assert!(String::from_utf8_lossy(&line[..length]).contains("two"));
    let metrics = rig.get("/metrics").send().await.unwrap().text().await.unwrap();
    let hits = "lodge_limit_hits_total{limit=\"connections\"} ";
    let hits = metrics.lines().find_map(|line| line.strip_prefix(hits)).unwrap();
    assert!(hits.parse::<u64>().unwrap() > 0);
    rig.server.stop().await;
}
