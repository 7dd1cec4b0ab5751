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
        vec![("query", "*"), ("extra_filters", "{\"a\":1}")],
        vec![("query", "*"), ("extra_stream_filters", "{\"a\":\"b\"")],
        vec![("query", "*"), ("max_rows", "some")],
        vec![("query", "*"), ("hidden_fields_filters", "secret*")],
        vec![("query", "*"), ("format", "csv"), ("allow_partial", "1")],
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

/// An answer as one line, to be compared with what is documented.
async fn text(rig: &Rig, path: &str, more: &[(&str, &str)]) -> String {
    let response = rig.post(path).form(&with(more)).send().await.unwrap();
    let (status, kind) = (response.status(), response.headers()["content-type"].clone());
    let text = response.text().await.unwrap();
    assert_eq!((status, kind.to_str().unwrap()), (StatusCode::OK, "application/json"), "{text}");
    text.trim_end().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_have_the_documented_shapes() {
    let rig = Rig::start().await;
    rig.inserted(THREE).await;
    let golden = [
        (
            "/select/logsql/hits",
            vec![("query", "info"), ("step", "1d"), ("offset", "2h"), ("field", "level")],
            r#"{"hits":[]}"#,
        ),
        (
            "/select/logsql/hits",
            vec![("query", "level:info"), ("step", "1d"), ("field", "level"), ("field", "service")],
            r#"{"hits":[{"fields":{"level":"info","service":"api"},"timestamps":["2026-03-01T00:00:00Z"],"total":1,"values":[1]},{"fields":{"level":"info","service":"db"},"timestamps":["2026-03-01T00:00:00Z"],"total":1,"values":[1]}]}"#,
        ),
        (
            "/select/logsql/hits",
            vec![("query", "*"), ("step", "1d"), ("field", "code"), ("fields_limit", "1")],
            r#"{"hits":[{"fields":{"code":""},"timestamps":["2026-03-01T00:00:00Z"],"total":1,"values":[1]},{"fields":{},"timestamps":["2026-03-01T00:00:00Z"],"total":2,"values":[2]}]}"#,
        ),
        (
            "/select/logsql/facets",
            vec![("query", "*"), ("max_values_per_field", "2"), ("max_value_len", "10")],
            r#"{"facets":[{"field_name":"code","values":[{"field_value":"200","hits":1},{"field_value":"500","hits":1}]},{"field_name":"level","values":[{"field_value":"info","hits":2},{"field_value":"error","hits":1}]},{"field_name":"service","values":[{"field_value":"api","hits":2},{"field_value":"db","hits":1}]}]}"#,
        ),
        (
            "/select/logsql/facets",
            vec![
                ("query", "level:error"),
                ("keep_const_fields", "1"),
                ("max_value_len", "8"),
                ("limit", "1"),
            ],
            r#"{"facets":[{"field_name":"_msg","values":[{"field_value":"it broke","hits":1}]},{"field_name":"code","values":[{"field_value":"500","hits":1}]},{"field_name":"level","values":[{"field_value":"error","hits":1}]},{"field_name":"service","values":[{"field_value":"api","hits":1}]}]}"#,
        ),
        (
            "/select/logsql/stats_query",
            vec![("query", "* | stats by (level) count(*)"), ("time", "2026-03-02")],
            r#"{"data":{"result":[{"metric":{"__name__":"count(*)","level":"error"},"value":[1772409600,"1"]},{"metric":{"__name__":"count(*)","level":"info"},"value":[1772409600,"2"]}],"resultType":"vector"},"status":"success"}"#,
        ),
        (
            "/select/logsql/stats_query_range",
            vec![("query", "* | stats by (level) count() n"), ("step", "6h")],
            r#"{"data":{"result":[{"metric":{"__name__":"n","level":"error"},"values":[[1772366400,"1"]]},{"metric":{"__name__":"n","level":"info"},"values":[[1772366400,"2"]]}],"resultType":"matrix"},"status":"success"}"#,
        ),
        (
            "/select/logsql/field_names",
            vec![("query", "level:error"), ("filter", "ev")],
            r#"{"values":[{"hits":1,"value":"level"}]}"#,
        ),
        (
            "/select/logsql/field_values",
            vec![("query", "*"), ("field", "level"), ("filter", "rr"), ("limit", "1")],
            r#"{"values":[{"hits":1,"value":"error"}]}"#,
        ),
        (
            "/select/logsql/streams",
            vec![("query", "*"), ("limit", "1")],
            r#"{"values":[{"hits":2,"value":"{service=\"api\"}"}]}"#,
        ),
        (
            "/select/logsql/stream_field_names",
            vec![("query", "*")],
            r#"{"values":[{"hits":3,"value":"service"}]}"#,
        ),
        (
            "/select/logsql/stream_field_values",
            vec![("query", "*"), ("field", "service")],
            r#"{"values":[{"hits":2,"value":"api"},{"hits":1,"value":"db"}]}"#,
        ),
    ];
    for (path, args, expected) in golden {
        let mut found: Value = serde_json::from_str(&text(&rig, path, &args).await).unwrap();
        if path.ends_with("stats_query") {
            // The groups of an instant come in no order.
            let samples = found["data"]["result"].as_array_mut().unwrap();
            samples.sort_by_key(|s| s["metric"]["level"].as_str().unwrap().to_owned());
        }
        let expected: Value = serde_json::from_str(expected).unwrap();
        assert_eq!(found, expected, "{path} {args:?}");
    }
    let ids = text(&rig, "/select/logsql/stream_ids", &[("query", "*")]).await;
    let ids: Value = serde_json::from_str(&ids).unwrap();
    assert_eq!(ids["values"][0]["hits"], 2, "{ids}");
    assert_eq!(ids["values"][0]["value"].as_str().unwrap().len(), 32, "{ids}");
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn extra_filters_are_json_or_logsql_and_bound_every_answer() {
    let rig = Rig::start().await;
    rig.inserted(THREE).await;
    for (name, filter, expected) in [
        ("extra_filters", "{\"level\":\"error\"}", 1),
        ("extra_filters", "{\"level\":[\"error\",\"info\"],\"service\":\"api\"}", 2),
        ("extra_filters", "{\"level\":[]}", 3),
        ("extra_filters", "-level:error", 2),
        ("extra_stream_filters", "{\"service\":\"db\"}", 1),
        ("extra_stream_filters", "{\"service\":[\"api\",\"db\"]}", 3),
        ("extra_stream_filters", "{service=\"api\"}", 2),
    ] {
        let form = with(&[("query", "*"), ("step", "1d"), (name, filter)]);
        let (status, body) = rig.ask("/select/logsql/hits", &form).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        assert_eq!(body["hits"][0]["total"], expected, "{name}={filter}: {body}");
    }
    let both = with(&[
        ("query", "*"),
        ("extra_filters", "{\"level\":\"info\"}"),
        ("extra_filters", "checkpoint"),
    ]);
    let (_, row) = rig.ask("/select/logsql/query", &both).await;
    assert_eq!(row["service"], "db");
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pipes_can_be_ignored() {
    let rig = Rig::start().await;
    rig.inserted(THREE).await;
    let total = |more: &'static [(&'static str, &'static str)]| {
        let rig = &rig;
        async move {
            let query = "* | rename level as l | filter l:error | stats count()";
            let mut form = with(&[("query", query), ("step", "1d")]);
            form.extend(more);
            rig.ask("/select/logsql/hits", &form).await.1["hits"][0]["total"].clone()
        }
    };
    assert_eq!(total(&[]).await, 1);
    assert_eq!(total(&[("ignore_pipes", "1")]).await, 3);
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_is_an_error_or_a_mark_and_counted() {
    let rig = Rig::with(|c| c.query_rows_max = Some(1_000)).await;
    let lines: String = (0..3_000)
        .map(|i| format!("{{\"_msg\":\"line {i}\",\"level\":\"l{}\"}}\n", i % 3))
        .collect();
    rig.inserted(&lines).await;
    let query = [("query", "line")];
    for (path, more) in [
        ("/select/logsql/query", vec![]),
        ("/select/logsql/hits", vec![("step", "1d")]),
        ("/select/logsql/facets", vec![]),
        ("/select/logsql/field_values", vec![("field", "level")]),
    ] {
        let mut form: Vec<_> = query.iter().copied().chain(more).collect();
        let (status, body) = rig.ask(path, &form).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{path}: {body}");
        assert_eq!(body["code"], "query_rows", "{path}: {body}");
        form.push(("allow_partial_response", "1"));
        let response = rig.post(path).form(&form).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let text = response.text().await.unwrap();
        let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        let mark = last["partial"].as_str().expect(&text);
        assert!(mark.contains("1000 records"), "{mark}");
    }
    // Less than the setting allows, and no more.
    let form = [("query", "line"), ("max_rows", "5")];
    let (_, body) = rig.ask("/select/logsql/query", &form).await;
    assert!(body["error"].as_str().unwrap().contains("5 records"), "{body}");
    let form = [("query", "line"), ("max_rows", "5000"), ("max_bytes", "1")];
    let (_, body) = rig.ask("/select/logsql/query", &form).await;
    assert_eq!(body["code"], "query_rows", "{body}");
    let metrics = rig.get("/metrics").send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("lodge_limit_hits_total{limit=\"query_rows\"} 10"), "{metrics}");
    assert!(metrics.contains("lodge_query_partial_answers_total 4"), "{metrics}");
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_beyond_its_budget_is_told_when_to_come_back() {
    let rig = Rig::with(|c| c.tenant_rows_per_minute = Some(2)).await;
    rig.inserted(THREE).await;
    let mut answers = Vec::new();
    for _ in 0..3 {
        answers.push(rig.get("/select/logsql/query?query=it+or+done").send().await.unwrap());
    }
    let refused = answers.pop().unwrap();
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    let after: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&after));
    assert!(refused.text().await.unwrap().contains("budget"));
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_are_explained_in_both_languages() {
    let rig = Rig::start().await;
    rig.inserted(THREE).await;
    let form = with(&[("query", "broke | stats by (level) count() n"), ("limit", "5")]);
    let (status, body) = rig.ask("/select/logsql/explain", &form).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(body["language"], "logsql");
    assert_eq!(body["rows"], json!({"read": 3, "total": 3}), "{body}");
    assert_eq!(body["segments"]["read"], 1, "{body}");
    assert!(body["bytes"]["read"].as_u64().unwrap() > 0, "{body}");
    let scan = &body["pushed_down"][0];
    assert!(scan["filter"].as_str().unwrap().contains("broke"), "{body}");
    assert!(scan["does"].as_str().unwrap().starts_with("groups"), "{body}");
    let sql = [("query", "SELECT upper(_msg) FROM logs WHERE match(_msg, 'broke') ORDER BY 1")];
    let (status, body) = rig.ask("/api/v1/sql/explain", &sql).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert!(body["pushed_down"][0]["filter"].as_str().unwrap().contains("broke"), "{body}");
    let rest = body["rest"].as_array().unwrap();
    assert!(rest.iter().any(|step| step.as_str().unwrap().contains("Sort")), "{body}");
    let (status, body) = rig.ask("/select/logsql/explain", &[("query", "((")]).await;
    assert_eq!((status, &body["code"]), (StatusCode::BAD_REQUEST, &json!("parse")));
    rig.server.stop().await;
}
