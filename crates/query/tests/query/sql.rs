//! SQL over `logs`, and that it agrees with LogsQL.

use lodge_query::QueryErrorKind;

use crate::fixture::{DAY, Lab, Record, S, record};

fn logs() -> Vec<Record> {
    (0..100)
        .map(|i| {
            let mut record = record(DAY + i * S, &format!("request {i} took {}ms", i % 7))
                .label("app", if i % 4 == 0 { "api" } else { "web" })
                .with("status", if i % 10 == 0 { 500 } else { 200 })
                .with("kubernetes.pod", format!("pod-{}", i % 5).as_str())
                .with("ok", i % 2 == 0);
            if i % 3 == 0 {
                record = record.with("ratio", 0.25 * i as f64);
            }
            record
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_and_logsql_count_the_same() {
    let lab = Lab::new().await;
    lab.fill(&logs()).await;
    let pairs = [
        ("*", "true"),
        ("app:=api", "app = 'api'"),
        ("status:>=500", "status >= 500"),
        ("status:=200 ok:=true", "status = 200 AND ok"),
        ("_time:<2026-01-02T00:00:30Z", "_time < '2026-01-02T00:00:30Z'"),
        (
            "_time:[2026-01-02T00:00:10.0Z, 2026-01-02T00:00:20.0Z)",
            "_time >= TIMESTAMP '2026-01-02 00:00:10' AND _time < TIMESTAMP '2026-01-02 00:00:20'",
        ),
        ("_msg:*\"took 3\"*", "_msg LIKE '%took 3%'"),
        ("_msg:=\"request 1\"*", "_msg LIKE 'request 1%'"),
        ("app:in(api, none)", "app IN ('api', 'none')"),
        ("kubernetes.pod:=pod-3 or status:=500", "\"kubernetes.pod\" = 'pod-3' OR status = 500"),
        ("ratio:>10", "ratio > 10"),
        ("ratio:\"\"", "ratio IS NULL"),
        ("!app:=api", "NOT app = 'api'"),
        ("status:range[200, 500)", "status BETWEEN 200 AND 499"),
    ];
    for (logsql, sql) in pairs {
        let expected = lab.logsql(&format!("{logsql} | count() n")).await;
        let counted = lab.sql(&format!("SELECT count(*) AS n FROM logs WHERE {sql}")).await;
        assert_eq!(counted, expected, "{logsql} and {sql}");
        assert_ne!(expected, ["n=0"], "{logsql} selects nothing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_groups_joins_and_orders() {
    let lab = Lab::new().await;
    lab.fill(&logs()).await;
    assert_eq!(
        lab.sql(
            "SELECT app, count(*) AS n, max(status) AS worst FROM logs GROUP BY app ORDER BY app"
        )
        .await,
        ["app=api n=25 worst=500", "app=web n=75 worst=500"]
    );
    assert_eq!(
        lab.sql("SELECT _msg FROM logs ORDER BY _time DESC LIMIT 2").await,
        ["_msg=request 99 took 1ms", "_msg=request 98 took 0ms"]
    );
    assert_eq!(
        lab.sql(
            "WITH slow AS (SELECT app, _time FROM logs WHERE status = 500) \
             SELECT count(*) AS n FROM slow a JOIN slow b ON a.app = b.app AND a._time < b._time"
        )
        .await,
        ["n=20"]
    );
    assert_eq!(
        lab.sql(
            "SELECT date_trunc('minute', _time) AS m, count(*) AS n FROM logs GROUP BY 1 ORDER BY 1"
        )
        .await,
        ["m=2026-01-02T00:00:00Z n=60", "m=2026-01-02T00:01:00Z n=40"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_conditions_reach_the_leaf() {
    let lab = Lab::new().await;
    lab.fill(&logs()).await;
    let plan = lab
        .sql(
            "EXPLAIN SELECT status FROM logs WHERE _time >= '2026-01-02T00:01:30Z' AND app = 'api'",
        )
        .await
        .join("\n");
    assert!(plan.contains("SegmentScan"), "{plan}");
    assert!(plan.contains("_time:>=2026-01-02T00:01:30Z"), "{plan}");
    assert!(plan.contains("app:=\"api\""), "{plan}");
    assert!(!plan.contains("FilterExec"), "{plan}");
    // Only the segments that reach so far are read.
    assert!(!plan.contains("segments=8/8"), "{plan}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_only_reads() {
    let lab = Lab::new().await;
    lab.fill(&logs()).await;
    for statement in [
        "DROP TABLE logs",
        "CREATE TABLE x AS SELECT 1",
        "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'",
        "INSERT INTO logs VALUES (1)",
        "COPY logs TO '/tmp/x.csv'",
        "COPY (SELECT 1) TO '/tmp/x.csv' STORED AS CSV",
        "SET datafusion.execution.batch_size = 1",
        "DELETE FROM logs",
        "UPDATE logs SET app = 'x'",
        "EXPLAIN ANALYZE INSERT INTO logs SELECT * FROM logs",
        "SHOW TABLES",
    ] {
        let error = lab.try_sql(statement).await.expect_err(statement);
        assert!(
            matches!(error.kind(), QueryErrorKind::Invalid | QueryErrorKind::Parse { .. }),
            "{statement}: {error:?}"
        );
    }
    let error = lab.try_sql("DROP TABLE logs").await.unwrap_err();
    assert!(error.message().contains("only statements that read"), "{error}");
    // No file is a table.
    assert!(lab.try_sql("SELECT * FROM '/etc/passwd'").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_errors_say_where_and_what() {
    let lab = Lab::new().await;
    lab.fill(&logs()).await;
    let error = lab.try_sql("SELECT * FORM logs").await.unwrap_err();
    assert!(matches!(error.kind(), QueryErrorKind::Parse { column } if column > 5), "{error:?}");
    let error = lab.try_sql("SELECT statuss FROM logs").await.unwrap_err();
    assert_eq!(error.kind(), QueryErrorKind::Invalid);
    assert!(error.message().contains("statuss"), "{error}");
    let error = lab.try_sql("SELECT * FROM nothing").await.unwrap_err();
    assert_eq!(error.kind(), QueryErrorKind::Invalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_keep_their_types_beside_a_record_with_too_many_fields() {
    let lab = Lab::new().await;
    lab.fill(&logs()).await;
    let mut wide = record(DAY, "wide").with("status", 7);
    for i in 0..1200 {
        wide = wide.with(&format!("f{i:04}"), i);
    }
    lab.commit(&[wide, record(DAY, "narrow").with("f1199", "text")]).await;
    let types = "SELECT arrow_typeof(status) AS t FROM logs LIMIT 1";
    assert_eq!(lab.sql(types).await, ["t=Int64"]);
    assert_eq!(lab.sql("SELECT max(status) AS m FROM logs WHERE status < 8").await, ["m=7"]);
    // A number here and, where there is no column for it, a text there is text.
    lab.commit(&[record(DAY, "odd").with("f1197", 5)]).await;
    let mut text = record(DAY, "wide, too").with("f1197", "x");
    for i in 0..1100 {
        text = text.with(&format!("f{i:04}"), i);
    }
    lab.commit(&[text]).await;
    let mut all = lab.sql("SELECT f1197 FROM logs WHERE f1197 IS NOT NULL").await;
    all.sort();
    assert_eq!(all.len(), 3, "{all:?}");
    let counted = "SELECT f1197, count(*) AS n FROM logs WHERE f1197 IS NOT NULL GROUP BY f1197";
    assert_eq!(lab.sql(counted).await.len(), all.len());
}
