//! `/select/logsql/*` in VictoriaLogs' shapes.

use super::rig::{Rig, THREE, answer};
use reqwest::StatusCode;
use serde_json::{Value, json};

const RANGE: [(&str, &str); 2] = [("start", "2026-03-01"), ("end", "2026-03-02")];

fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    RANGE.iter().chain(more).copied().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn query_gives_lines_newest_first_with_limit_and_offset() {
    let rig = Rig::start().await;
    rig.inserted(THREE).await;
    let request = rig.get("/select/logsql/query?query=*&limit=2");
    let response = request.send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/stream+json");
    assert!(response.headers().contains_key("vl-request-duration-seconds"));
    let text = response.text().await.unwrap();
    let times: Vec<String> = text
        .lines()
        .map(|l| serde_json::from_str::<Value>(l).unwrap()["_time"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(times, ["2026-03-01T12:02:00.25Z", "2026-03-01T12:01:00Z"]);
    let paged = rig.post("/select/logsql/query").form(&with(&[
        ("query", "*"),
        ("limit", "1"),
        ("offset", "2"),
    ]));
    let (_, row) = answer(paged).await;
    assert_eq!(row["_msg"], "started");
    let none = rig.get("/select/logsql/query?query=*&end=2026-03-01T12:00:00Z");
    assert_eq!(none.send().await.unwrap().text().await.unwrap(), "", "the end is exclusive");
    let one = rig.get("/select/logsql/query?query=*&start=1772366400&end=1772366401");
    assert_eq!(one.send().await.unwrap().text().await.unwrap().lines().count(), 1);
    let csv = rig.get("/select/logsql/query?query=code:500|fields+_msg,code&format=csv");
    let text = csv.send().await.unwrap().text().await.unwrap();
    assert_eq!(text, "_msg,code\nit broke,500\n");
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hits_are_bucketed_and_grouped() {
    let rig = Rig::start().await;
    rig.inserted(THREE).await;
    let (status, body) =
        rig.ask("/select/logsql/hits", &with(&[("query", "*"), ("step", "1m")])).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let expected = json!({"hits": [{
        "fields": {},
        "timestamps": ["2026-03-01T12:00:00Z", "2026-03-01T12:01:00Z", "2026-03-01T12:02:00Z"],
        "values": [1, 1, 1],
        "total": 3,
    }]});
    assert_eq!(body, expected);
    let form = with(&[("query", "*"), ("step", "1h"), ("field", "level")]);
    let (_, body) = rig.ask("/select/logsql/hits", &form).await;
    let info = body["hits"].as_array().unwrap().iter().find(|g| g["fields"]["level"] == "info");
    assert_eq!(info.unwrap()["total"], 2, "{body}");
    let form = with(&[("query", "*"), ("step", "1ms")]);
    let (status, body) = rig.ask("/select/logsql/hits", &form).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stats_come_as_prometheus_gives_them() {
    let rig = Rig::start().await;
    rig.inserted(THREE).await;
    let form = with(&[("query", "* | stats by (level) count() as n"), ("time", "2026-03-02")]);
    let (status, body) = rig.ask("/select/logsql/stats_query", &form).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(body["status"], "success");
    assert_eq!(body["data"]["resultType"], "vector");
    let samples = body["data"]["result"].as_array().unwrap();
    let info = samples.iter().find(|s| s["metric"]["level"] == "info").unwrap();
    assert_eq!(info["metric"]["__name__"], "n");
    assert_eq!(info["value"], json!([1_772_409_600, "2"]));
    let form = with(&[("query", "* | stats count() as n"), ("step", "1m")]);
    let (status, body) = rig.ask("/select/logsql/stats_query_range", &form).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(body["data"]["resultType"], "matrix");
    assert_eq!(
        body["data"]["result"][0]["values"],
        json!([[1_772_366_400, "1"], [1_772_366_460, "1"], [1_772_366_520, "1"]])
    );
    let (status, body) = rig.ask("/select/logsql/stats_query", &[("query", "*")]).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(body["status"], "error", "{body}");
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_values_and_streams_are_listed_with_hits() {
    let rig = Rig::start().await;
    rig.inserted(THREE).await;
    let (_, names) = rig.ask("/select/logsql/field_names", &[("query", "*")]).await;
    let names = names["values"].as_array().unwrap();
    for name in ["_time", "_msg", "_stream", "level", "code", "service"] {
        assert!(names.iter().any(|v| v["value"] == name), "{name} is missing in {names:?}");
    }
    let (_, levels) =
        rig.ask("/select/logsql/field_values", &[("query", "*"), ("field", "level")]).await;
    let expected = json!({"values": [{"value": "info", "hits": 2}, {"value": "error", "hits": 1}]});
    assert_eq!(levels, expected);
    let (_, streams) = rig.ask("/select/logsql/streams", &[("query", "info or level:*")]).await;
    assert_eq!(streams["values"][0], json!({"value": "{service=\"api\"}", "hits": 2}));
    let (status, body) = rig.ask("/select/logsql/field_values", &[("query", "*")]).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body["error"].as_str().unwrap().contains("`field`"), "{body}");
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_say_what_where_and_how() {
    let rig = Rig::start().await;
    let (status, body) = rig.ask("/select/logsql/query", &[("query", "level:(a or")]).await;
    assert_eq!((status, &body["code"]), (StatusCode::BAD_REQUEST, &json!("parse")), "{body}");
    assert!(body["column"].as_u64().unwrap() > 1, "{body}");
    for form in [
        vec![],
        vec![("query", "*"), ("start", "whenever")],
        vec![("query", "*"), ("limit", "many")],
        vec![("query", "*"), ("timeout", "0s")],
        vec![("query", "*"), ("format", "xml")],
        vec![("query", "*"), ("extra_filters", "{\"a\":\"b\"}")],
    ] {
        let (status, body) = rig.ask("/select/logsql/query", &form).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{form:?} {body}");
        assert!(body["error"].as_str().unwrap().contains('`'), "{body}");
    }
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_connection_frees_its_place() {
    let rig = Rig::with(|c| c.queries_max = 1).await;
    let filler = "z".repeat(2_000);
    let lines: String =
        (0..12_000).map(|i| format!("{{\"_msg\":\"line {i}\",\"f\":\"{filler}\"}}\n")).collect();
    rig.inserted(&lines).await;
    for _ in 0..3 {
        let mut response = rig.get("/select/logsql/query?query=*").send().await.unwrap();
        assert!(response.chunk().await.unwrap().is_some());
        drop(response);
    }
    assert_eq!(rig.count().await, 12_000);
    rig.server.stop().await;
}
