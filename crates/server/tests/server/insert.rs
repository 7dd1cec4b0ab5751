//! What goes in through `/insert/jsonline`, well formed and not.

use super::rig::{Rig, THREE, answer};
use reqwest::StatusCode;
use serde_json::json;
use std::io::Write as _;

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_stored_with_their_types_and_streams() {
    let rig = Rig::start().await;
    rig.inserted(THREE).await;
    let rows = rig.rows("it broke").await;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["_time"], "2026-03-01T12:01:00Z");
    assert_eq!(rows[0]["_stream"], "{service=\"api\"}");
    assert_eq!(rows[0]["_stream_id"].as_str().unwrap().len(), 32);
    assert_eq!(rows[0]["code"], "500");
    assert_eq!(rig.rows("{service=\"db\"}").await.len(), 1);
    assert_eq!(rig.rows("code:>=500").await.len(), 1);
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_come_as_arguments_and_as_headers() {
    let rig = Rig::start().await;
    let line = concat!(
        r#"{"date":"2026-03-01T12:00:00Z","log":{"message":"hello","level":"info"},"#,
        r#""secret":"x","app":"a"}"#
    );
    let path = "/insert/jsonline?_time_field=date&_msg_field=log.message&_stream_fields=app\
                &ignore_fields=secret&extra_fields=zone=eu";
    let (status, body) = answer(rig.post(path).body(line)).await;
    assert_eq!((status, &body["records"]), (StatusCode::OK, &json!(1)), "{body}");
    let by_headers = rig
        .post("/insert/jsonline")
        .header("VL-Time-Field", "date")
        .header("VL-Msg-Field", "log.message")
        .header("VL-Stream-Fields", "app")
        .header("VL-Ignore-Fields", "secret")
        .header("VL-Extra-Fields", "zone=eu")
        .body(line);
    assert_eq!(answer(by_headers).await.0, StatusCode::OK);
    let rows = rig.rows("hello").await;
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0], rows[1]);
    assert_eq!(rows[0]["_time"], "2026-03-01T12:00:00Z");
    assert_eq!(rows[0]["_stream"], "{app=\"a\"}");
    assert_eq!(rows[0]["zone"], "eu");
    assert_eq!(rows[0]["log.level"], "info");
    assert!(rows[0].get("secret").is_none());
    let (status, body) = answer(rig.post("/insert/jsonline?extra_fields=oops").body(line)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body["error"].as_str().unwrap().contains("name=value"), "{body}");
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn debug_stores_nothing() {
    let rig = Rig::start().await;
    let (status, body) = answer(rig.post("/insert/jsonline?debug=1").body(THREE)).await;
    assert_eq!((status, &body["records"]), (StatusCode::OK, &json!(3)));
    assert_eq!(rig.count().await, 0);
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_lines_are_kept_and_listed() {
    let rig = Rig::start().await;
    let (status, body) =
        rig.insert("{\"_msg\":\"good\"}\nnot json\n{\"_msg\":\"also good\"}\n").await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(body["records"], 3);
    assert_eq!(body["malformed_total"], 1);
    assert_eq!(body["malformed"][0]["line"], 2);
    assert!(!body["malformed"][0]["reason"].as_str().unwrap().is_empty());
    let rows = rig.rows("\"lodge.error\":*").await;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["_msg"], "not json");
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_another_format_stores_nothing() {
    let rig = Rig::start().await;
    let (status, body) = rig.insert("level=info msg=hello\nlevel=info msg=again\n").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body["error"].as_str().unwrap().contains("nothing was stored"), "{body}");
    assert_eq!(body["malformed_total"], 2);
    assert_eq!(rig.count().await, 0);
    let (status, body) = rig.insert("\n\n").await;
    assert_eq!((status, &body["records"]), (StatusCode::OK, &json!(0)));
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_lines_are_stored_or_named() {
    let rig = Rig::start().await;
    let mut body = b"{\"_msg\":\"nul \\u0000 inside\",\"id\":\"nul\"}\n".to_vec();
    body.extend_from_slice(b"{\"_msg\":\"raw \x00 nul\",\"id\":\"rawnul\"}\n");
    body.extend_from_slice(b"{\"_msg\":\"bad \xff utf-8\",\"id\":\"utf8\"}\n");
    body.extend_from_slice(
        b"{\"_msg\":\"then\",\"_time\":\"1970-01-01T00:00:00Z\",\"id\":\"old\"}\n",
    );
    body.extend_from_slice(
        b"{\"_msg\":\"later\",\"_time\":\"2100-01-01T00:00:00Z\",\"id\":\"new\"}\n",
    );
    let deep = "[".repeat(100_000);
    body.extend_from_slice(format!("{{\"_msg\":\"deep\",\"x\":{deep}\n").as_bytes());
    let (status, answer) = rig.insert(body).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(answer["records"], 6, "{answer}");
    assert_eq!(rig.count().await, 6);
    assert_eq!(rig.rows("id:=nul").await[0]["_msg"], "nul \u{0} inside");
    assert_eq!(rig.rows("id:=old").await[0]["_time"], "1970-01-01T00:00:00Z");
    assert_eq!(rig.rows("id:=new").await[0]["_time"], "2100-01-01T00:00:00Z");
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_field_names_are_all_found_again() {
    let rig = Rig::start().await;
    let mut lines = String::new();
    for line in 0..100 {
        let fields: Vec<String> =
            (0..1_000).map(|i| format!("\"f{}\":\"v{i}\"", line * 1_000 + i)).collect();
        lines.push_str(&format!("{{\"_msg\":\"wide\",{}}}\n", fields.join(",")));
    }
    rig.inserted(&lines).await;
    assert_eq!(rig.count().await, 100);
    for field in ["f0", "f50123", "f99999"] {
        let rows = rig.rows(&format!("{field}:*")).await;
        assert_eq!(rows.len(), 1, "{field}");
        assert_eq!(rows[0][field], format!("v{}", field[1..].parse::<u32>().unwrap() % 1_000));
    }
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_megabyte_line_keeps_its_head() {
    let rig = Rig::start().await;
    let mut body = b"{\"_msg\":\"before\"}\n{\"_msg\":\"".to_vec();
    body.resize(body.len() + (100 << 20), b'x');
    body.extend_from_slice(b"\"}\n{\"_msg\":\"after\"}\n");
    let (status, answer) = rig.insert(body).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(answer["records"], 3, "{answer}");
    assert_eq!(rig.rows("before").await.len(), 1);
    assert_eq!(rig.rows("after").await.len(), 1);
    assert_eq!(rig.count().await, 3);
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_bodies_are_read() {
    let rig = Rig::start().await;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(THREE.as_bytes()).unwrap();
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    zlib.write_all(THREE.as_bytes()).unwrap();
    for (encoding, body) in [
        ("gzip", gzip.finish().unwrap()),
        ("deflate", zlib.finish().unwrap()),
        ("zstd", zstd::encode_all(THREE.as_bytes(), 3).unwrap()),
    ] {
        let request = rig.post("/insert/jsonline").header("Content-Encoding", encoding);
        let (status, answer) = answer(request.body(body)).await;
        assert_eq!((status, &answer["records"]), (StatusCode::OK, &json!(3)), "{encoding}");
    }
    for (encoding, expected) in
        [("gzip", StatusCode::BAD_REQUEST), ("br", StatusCode::UNSUPPORTED_MEDIA_TYPE)]
    {
        let request = rig.post("/insert/jsonline").header("Content-Encoding", encoding);
        let (status, answer) = answer(request.body(THREE)).await;
        assert_eq!(status, expected, "{answer}");
    }
    assert_eq!(rig.count().await, 9);
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bomb_is_refused_and_counted() {
    let rig = Rig::with(|c| c.insert_bytes_max = 64 << 20).await;
    let bomb = zstd::encode_all(std::io::Read::take(std::io::repeat(b' '), 1 << 30), 3).unwrap();
    assert!(bomb.len() < 1 << 20);
    let request = rig.post("/insert/jsonline").header("Content-Encoding", "zstd").body(bomb);
    let (status, answer) = answer(request).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{answer}");
    let metrics = rig.get("/metrics").send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("lodge_limit_hits_total{limit=\"body_bytes\"} 1"), "{metrics}");
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_beyond_the_atomic_size_is_stored_in_chunks_and_whole() {
    let rig = Rig::start().await;
    let filler = "y".repeat(1_000);
    let mut body = String::new();
    let mut lines = 0;
    while body.len() < 40 << 20 {
        body.push_str(&format!(
            "{{\"_msg\":\"line {lines}\",\"n\":{lines},\"filler\":\"{filler}\"}}\n"
        ));
        lines += 1;
    }
    body.push_str("broken\n");
    let (status, answer) = rig.insert(body).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(answer["records"], lines + 1);
    assert_eq!(answer["malformed"][0]["line"], lines + 1);
    let rows = rig.rows("* | stats count_uniq(n) as n").await;
    assert_eq!(rows[0]["n"], lines.to_string());
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_and_says_when_to_come_back() {
    let rig = Rig::start().await;
    rig.inserted(THREE).await;
    let Rig { server, http, dir } = rig;
    server.stop().await;
    let mut config = super::rig::config(dir.path());
    config.disk_free_bytes_min = Some(1 << 60);
    let server = lodge_server::start(config).await.unwrap();
    let rig = Rig { server, http, dir };
    let response =
        rig.post("/insert/jsonline").body("{\"_msg\":\"no room\"}\n").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(response.headers().contains_key("retry-after"));
    let body: serde_json::Value = response.json().await.unwrap();
    assert_eq!(body["code"], "disk_full", "{body}");
    assert_eq!(rig.count().await, 3, "reading goes on");
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let rig = Rig::start().await;
    for i in 0..20 {
        rig.inserted(&format!("{{\"_msg\":\"line {i}\",\"service\":\"s{}\"}}\n", i % 3)).await;
    }
    let rig = rig.restart().await;
    assert_eq!(rig.count().await, 20);
    assert_eq!(rig.rows("{service=\"s1\"}").await.len(), 7);
    rig.inserted("{\"_msg\":\"after\"}\n").await;
    assert_eq!(rig.count().await, 21);
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_stalls_is_ended_and_stores_nothing() {
    let rig = Rig::with(|c| c.stall_time_max = std::time::Duration::from_secs(1)).await;
    let slow = futures::stream::unfold(0, |n| async move {
        if n > 0 {
            std::future::pending::<()>().await;
        }
        Some((Ok::<_, std::io::Error>("{\"_msg\":\"half\"}\n{\"_ms"), n + 1))
    });
    let (status, body) = rig.insert(reqwest::Body::wrap_stream(slow)).await;
    assert_eq!(status, StatusCode::REQUEST_TIMEOUT, "{body}");
    assert_eq!(rig.count().await, 0);
    rig.server.stop().await;
}
