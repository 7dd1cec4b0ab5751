//! The live tail.

use super::rig::{Rig, THREE, answer};
use reqwest::{Response, StatusCode};
use serde_json::Value;

/// Reads the stream until it holds `count` lines.
async fn lines(response: &mut Response, count: usize) -> Vec<Value> {
    let mut text = Vec::new();
    while text.iter().filter(|b| **b == b'\n').count() < count {
        text.extend_from_slice(&response.chunk().await.unwrap().expect("the tail goes on"));
    }
    let text = String::from_utf8(text).unwrap();
    text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn committed_records_arrive_filtered() {
    let rig = Rig::start().await;
    let mut tail = rig.get("/select/logsql/tail?query=level:error").send().await.unwrap();
    assert_eq!(tail.status(), StatusCode::OK);
    rig.inserted(THREE).await;
    rig.inserted("{\"level\":\"error\",\"_msg\":\"second\"}\n").await;
    let rows = lines(&mut tail, 2).await;
    assert_eq!(rows[0]["_msg"], "it broke");
    assert_eq!(rows[0]["_stream"], "{service=\"api\"}");
    assert_eq!(rows[1]["_msg"], "second");
    rig.server.stop().await;
    assert!(tail.chunk().await.is_ok_and(|c| c.is_none()), "a stop ends the tail properly");
}

#[tokio::test(flavor = "multi_thread")]
async fn history_comes_first_and_nothing_twice() {
    let rig = Rig::start().await;
    for i in 0..5 {
        rig.inserted(&format!("{{\"_msg\":\"earlier {i}\"}}\n")).await;
    }
    let request = rig.get("/select/logsql/tail?query=*&start_offset=1h&refresh_interval=10ms");
    let mut tail = request.send().await.unwrap();
    rig.inserted("{\"_msg\":\"live\"}\n").await;
    let rows = lines(&mut tail, 6).await;
    let messages: Vec<_> = rows.iter().map(|r| r["_msg"].as_str().unwrap()).collect();
    let expected = ["earlier 0", "earlier 1", "earlier 2", "earlier 3", "earlier 4", "live"];
    assert_eq!(messages, expected);
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pipes_that_need_all_rows_are_refused() {
    let rig = Rig::start().await;
    for query in ["* | stats count()", "* | sort by (_time)", "* | limit 3"] {
        let request = rig.get("/select/logsql/tail").query(&[("query", query)]);
        let (status, body) = answer(request).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{query}: {body}");
    }
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tails_are_counted_and_limited() {
    let rig = Rig::with(|c| c.tails_max = 1).await;
    let first = rig.get("/select/logsql/tail?query=*").send().await.unwrap();
    let (status, body) = answer(rig.get("/select/logsql/tail?query=*")).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS, "{body}");
    drop(first);
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_shows_records_in_the_order_of_their_times() {
    let rig = Rig::start().await;
    let request = rig.get("/select/logsql/tail?query=*&offset=1s&refresh_interval=10ms");
    let mut tail = request.send().await.unwrap();
    let now = jiff::Timestamp::now();
    let line = |back_ms: i64, msg: &str| {
        let time = now - jiff::SignedDuration::from_millis(back_ms);
        format!("{{\"_time\":\"{time}\",\"_msg\":\"{msg}\"}}\n")
    };
    rig.inserted(&line(100, "second")).await;
    rig.inserted(&line(300, "first")).await;
    rig.inserted(&line(0, "third")).await;
    let rows = lines(&mut tail, 3).await;
    let messages: Vec<_> = rows.iter().map(|r| r["_msg"].as_str().unwrap()).collect();
    assert_eq!(messages, ["first", "second", "third"]);
    for offset in ["-1s", "2h"] {
        let request = rig.get("/select/logsql/tail").query(&[("query", "*"), ("offset", offset)]);
        assert_eq!(answer(request).await.0, StatusCode::BAD_REQUEST);
    }
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relative_time_does_not_end_a_tail() {
    let rig = Rig::start().await;
    let mut tail = rig.get("/select/logsql/tail?query=_time:1m").send().await.unwrap();
    rig.inserted("{\"_msg\":\"now\"}\n{\"_time\":\"2020-01-01\",\"_msg\":\"old\"}\n").await;
    rig.inserted("{\"_msg\":\"later\"}\n").await;
    let rows = lines(&mut tail, 2).await;
    assert_eq!((&rows[0]["_msg"], &rows[1]["_msg"]), (&"now".into(), &"later".into()));
    rig.server.stop().await;
}
