//! SQL and exports, read back by what reads such files.

use super::rig::{Rig, THREE, answer};
use arrow::array::{Array, Int64Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use reqwest::StatusCode;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn sql_answers_in_every_format() {
    let rig = Rig::start().await;
    rig.inserted(THREE).await;
    let sql = "SELECT level, count(*) AS n FROM logs GROUP BY level ORDER BY level";
    let (status, body) = rig.ask("/api/v1/sql", &[("query", sql)]).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(
        body["columns"],
        json!([{"name": "level", "type": "text"}, {"name": "n", "type": "integer"}])
    );
    assert_eq!(body["rows"], json!([["error", 1], ["info", 2]]));
    let text = |format: &'static str| {
        let request = rig.get("/api/v1/sql").query(&[("query", sql), ("format", format)]);
        async move { request.send().await.unwrap().bytes().await.unwrap() }
    };
    assert_eq!(text("csv").await, "level,n\nerror,1\ninfo,2\n");
    let lines = text("jsonl").await;
    let first: Value =
        serde_json::from_slice(lines.split(|b| *b == b'\n').next().unwrap()).unwrap();
    assert_eq!(first, json!({"level": "error", "n": 1}));
    let arrow = text("arrow").await;
    let reader = arrow::ipc::reader::StreamReader::try_new(arrow.as_ref(), None).unwrap();
    let batches: Vec<_> = reader.map(|b| b.unwrap()).collect();
    let n: &Int64Array = batches[0].column(1).as_any().downcast_ref().unwrap();
    assert_eq!(n.values(), &[1, 2]);
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_that_is_wrong_or_writes_is_refused() {
    let rig = Rig::start().await;
    rig.inserted(THREE).await;
    for sql in ["SELEC 1", "SELECT nothere FROM logs", "DROP TABLE logs", "SELECT * FROM nowhere"] {
        let (status, body) = rig.ask("/api/v1/sql", &[("query", sql)]).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{sql}: {body}");
    }
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn csv_cells_cannot_be_formulas() {
    let rig = Rig::start().await;
    rig.inserted("{\"_msg\":\"=cmd|' /C calc'!A0\",\"x\":\"@SUM(1)\"}\n").await;
    let request = rig.get("/api/v1/export?query=*|fields+_msg,x&format=csv");
    let text = request.send().await.unwrap().text().await.unwrap();
    assert_eq!(text, "_msg,x\n'=cmd|' /C calc'!A0,'@SUM(1)\n");
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exported_parquet_file_has_the_same_rows() {
    let rig = Rig::start().await;
    let lines: String = (0..50_000)
        .map(|i| format!("{{\"_msg\":\"line {i}\",\"n\":{i},\"service\":\"s{}\"}}\n", i % 7))
        .collect();
    rig.inserted(&lines).await;
    let response = rig.get("/api/v1/export?query=*&format=parquet").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "application/vnd.apache.parquet");
    let disposition = response.headers()["content-disposition"].to_str().unwrap().to_owned();
    assert!(disposition.contains("lodge.parquet"), "{disposition}");
    let bytes = response.bytes().await.unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
    let mut seen = vec![false; 50_000];
    for batch in reader {
        let batch = batch.unwrap();
        let n = batch.column_by_name("n").unwrap();
        let n: &Int64Array = n.as_any().downcast_ref().unwrap();
        let text = cast(batch.column_by_name("_msg").unwrap(), &DataType::Utf8).unwrap();
        let text: &StringArray = text.as_any().downcast_ref().unwrap();
        for row in 0..batch.num_rows() {
            assert_eq!(text.value(row), format!("line {}", n.value(row)));
            let seen = &mut seen[usize::try_from(n.value(row)).unwrap()];
            assert!(!std::mem::replace(seen, true));
        }
    }
    assert!(seen.iter().all(|s| *s));
    let form = [("sql", "SELECT n FROM logs"), ("query", "*")];
    assert_eq!(rig.ask("/api/v1/export", &form).await.0, StatusCode::BAD_REQUEST);
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn status_health_and_metrics_tell_the_state() {
    let rig = Rig::start().await;
    rig.inserted(THREE).await;
    for path in ["/health", "/ready"] {
        let response = rig.get(path).send().await.unwrap();
        assert_eq!(
            (response.status(), response.text().await.unwrap().as_str()),
            (StatusCode::OK, "OK\n")
        );
    }
    let (status, body) = answer(rig.get("/api/v1/status")).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(body["rows"], 3, "{body}");
    assert!(body["segments"]["l0"].is_u64(), "{body}");
    assert!(body["disk_free_bytes"].as_u64().unwrap() > 0);
    let text = rig.get("/metrics").send().await.unwrap().text().await.unwrap();
    for line in [
        "lodge_ingest_records_total 3",
        "lodge_stored_records 3",
        "lodge_http_requests_total{endpoint=\"/insert/jsonline\",status=\"200\"} 1",
        "lodge_process_resident_memory_bytes ",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
    rig.server.stop().await;
}
