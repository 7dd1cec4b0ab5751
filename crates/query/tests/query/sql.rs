//! SQL over `logs`, and that it agrees with LogsQL.

use lodge_query::QueryErrorKind;

use crate::fixture::{DAY, Lab, Record, S, Value, record};

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
async fn sql_windows_look_at_the_rows_around() {
    let lab = Lab::new().await;
    lab.fill(&logs()).await;
    assert_eq!(
        lab.sql(
            "SELECT app, _msg FROM (SELECT app, _msg, _time, \
             row_number() OVER (PARTITION BY app ORDER BY _time DESC) AS place FROM logs) \
             WHERE place <= 2 ORDER BY app, _time"
        )
        .await,
        [
            "app=api _msg=request 92 took 1ms",
            "app=api _msg=request 96 took 5ms",
            "app=web _msg=request 98 took 0ms",
            "app=web _msg=request 99 took 1ms",
        ]
    );
    // How long nothing came, and what had come until then.
    assert_eq!(
        lab.sql(
            "SELECT app, max(gap) AS widest FROM (SELECT app, date_part('second', _time - \
             lag(_time) OVER (PARTITION BY app ORDER BY _time)) AS gap FROM logs) \
             GROUP BY app ORDER BY app"
        )
        .await,
        ["app=api widest=4", "app=web widest=2"]
    );
    assert_eq!(
        lab.sql(
            "SELECT _msg, sum(ratio) OVER (ORDER BY _time ROWS BETWEEN UNBOUNDED PRECEDING AND \
             CURRENT ROW) AS so_far FROM logs WHERE ratio IS NOT NULL ORDER BY _time LIMIT 3"
        )
        .await,
        [
            "_msg=request 0 took 0ms so_far=0",
            "_msg=request 3 took 3ms so_far=0.75",
            "_msg=request 6 took 6ms so_far=2.25",
        ]
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

#[tokio::test(flavor = "multi_thread")]
async fn functions_mean_what_logsql_means_and_reach_the_leaf() {
    let lab = Lab::new().await;
    lab.fill(&logs()).await;
    let pairs = [
        ("\"took 3ms\"", "match(_msg, 'took 3ms')"),
        ("request", "match(_msg, 'request')"),
        ("reque", "match(_msg, 'reque')"),
        ("tok*", "match_prefix(_msg, 'tok')"),
        ("reque*", "match_prefix(_msg, 'reque')"),
        ("i(REQUEST)", "match_i(_msg, 'REQUEST')"),
        ("contains_all(request, 3ms)", "match_all(_msg, 'request', '3ms')"),
        ("contains_any(3ms, 5ms)", "match_any(_msg, '3ms', '5ms')"),
        ("*ook*", "match_substring(_msg, 'ook')"),
        ("~\"took [35]ms\"", "match_regexp(_msg, 'took [35]ms')"),
        ("~\"took [35]ms\"", "_msg ~ 'took [35]ms'"),
        ("!\"took 3ms\"", "NOT match(_msg, 'took 3ms')"),
        ("{app=\"api\"}", "stream('{app=\"api\"}')"),
        ("{app=~\"a.*\"} status:500", "stream('{app=~\"a.*\"}') AND status = 500"),
        ("app:web -status:500", "logsql('app:web -status:500')"),
        ("app:web or ratio:>20", "logsql('app:web or ratio:>20')"),
        ("ratio:>10.5", "ratio > 10.5"),
        ("ratio:range[1.5, 9.25]", "ratio BETWEEN 1.5 AND 9.25"),
        ("ratio:range(1.5, 9.25]", "ratio <= 9.25 AND ratio > 1.5 AND ratio > -4.5"),
        ("ratio:range[1.5, 9.25] ratio:<4", "ratio BETWEEN 1.5 AND 9.25 AND ratio < 4.0"),
        ("status:range(200, 500)", "status > 200 AND status < 500"),
        ("kubernetes.pod:pod-3", "match(\"kubernetes.pod\", 'pod-3')"),
        ("status:500", "match(status, '500')"),
    ];
    for (logsql, sql) in pairs {
        let expected = lab.logsql(&format!("{logsql} | count() n")).await;
        let query = format!("SELECT count(*) AS n FROM logs WHERE {sql}");
        assert_eq!(lab.sql(&query).await, expected, "{logsql} and {sql}");
        let plan = lab.sql(&format!("EXPLAIN {query}")).await.join("\n");
        assert!(plan.contains("SegmentAggregate"), "{sql}: {plan}");
        assert!(!plan.contains("FilterExec"), "{sql}: {plan}");
    }
    // As a value, and over what is no field.
    assert_eq!(
        lab.sql("SELECT match(upper(_msg), 'REQUEST') AS m, count(*) AS n FROM logs GROUP BY 1")
            .await,
        ["m=true n=100"]
    );
    // A filter on any field sees all of them, wherever it stands.
    for filter in ["*:=web", "*:=500", "kube*:pod-3", "*:nothing"] {
        let expected = lab.logsql(&format!("{filter} | count() n")).await;
        for query in [
            format!("SELECT count(*) AS n FROM logs WHERE logsql('{filter}')"),
            format!("SELECT count(*) AS n FROM (SELECT logsql('{filter}') AS m FROM logs) WHERE m"),
            format!("SELECT sum(CASE WHEN logsql('{filter}') THEN 1 ELSE 0 END) AS n FROM logs"),
        ] {
            assert_eq!(lab.sql(&query).await, expected, "{query}");
        }
    }
    let buckets = "SELECT time_bucket('30s', _time) AS t, count(*) AS n FROM logs GROUP BY 1 \
                   ORDER BY 1 LIMIT 2";
    assert_eq!(
        lab.sql(buckets).await,
        ["t=2026-01-02T00:00:00Z n=30", "t=2026-01-02T00:00:30Z n=30"]
    );
    let plan = lab.sql(&format!("EXPLAIN {buckets}")).await.join("\n");
    assert!(plan.contains("SegmentAggregate"), "{plan}");
    let days = lab.sql("SELECT DISTINCT time_bucket('1d', _time, '1h') AS t FROM logs").await;
    assert_eq!(days, ["t=2026-01-01T23:00:00Z"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_that_are_misused_say_how_they_are_written() {
    let lab = Lab::new().await;
    lab.fill(&logs()).await;
    for (condition, words) in [
        ("match(_msg)", "match(field, 'a phrase')"),
        ("match(_msg, app)", "the texts are constants"),
        ("match(_msg, '')", "not empty"),
        ("stream('app')", "selector in braces"),
        ("stream('{app=')", "character"),
        ("logsql('* | limit 3')", "only a filter"),
        ("match_regexp(_msg, '(')", "match_regexp"),
        ("time_bucket('5 parsecs', _time) > _time", "no step of time"),
        ("time_bucket('5m', _msg) IS NULL", "a time"),
    ] {
        let error = lab.try_sql(&format!("SELECT 1 FROM logs WHERE {condition}")).await;
        let error = error.expect_err(condition);
        assert_eq!(error.kind(), QueryErrorKind::Invalid, "{condition}: {error}");
        assert!(error.message().contains(words), "{condition}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_rows_are_searched_for_and_not_sorted_out_of_all() {
    let lab = Lab::new().await;
    lab.fill(&logs()).await;
    for (order, pipe) in [("DESC", "sort by (_time desc) limit 7"), ("", "sort by (_time) limit 7")]
    {
        let query =
            format!("SELECT _msg FROM logs WHERE app = 'web' ORDER BY _time {order} LIMIT 7");
        let expected = lab.logsql(&format!("app:=web | {pipe} | fields _msg")).await;
        assert_eq!(lab.sql(&query).await, expected);
        let plan = lab.sql(&format!("EXPLAIN {query}")).await.join("\n");
        assert!(plan.contains("SegmentTop"), "{plan}");
        assert!(!plan.contains("SortExec"), "they come in order: {plan}");
    }
    let within = "SELECT status, count(*) AS n FROM (SELECT * FROM logs ORDER BY _time DESC LIMIT 5) \
                  GROUP BY status ORDER BY status";
    assert_eq!(lab.sql(within).await, ["status=200 n=5"]);
    let twice = "SELECT a._msg FROM (SELECT * FROM logs ORDER BY _time LIMIT 3) a \
                 JOIN (SELECT * FROM logs ORDER BY _time LIMIT 2) b ON a._time = b._time ORDER BY 1";
    assert_eq!(lab.sql(twice).await, ["_msg=request 0 took 0ms", "_msg=request 1 took 1ms"]);
    let offset = "SELECT _msg FROM logs ORDER BY _time DESC LIMIT 2 OFFSET 3";
    assert_eq!(lab.sql(offset).await, ["_msg=request 96 took 5ms", "_msg=request 95 took 4ms"]);
    let other = "SELECT _msg FROM logs ORDER BY _time DESC, app LIMIT 2";
    assert!(!lab.sql(&format!("EXPLAIN {other}")).await.join("\n").contains("SegmentTop"));
    let limited = "SELECT * FROM (SELECT * FROM logs LIMIT 50) ORDER BY _time DESC LIMIT 2";
    assert!(!lab.sql(&format!("EXPLAIN {limited}")).await.join("\n").contains("SegmentTop"));
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_without_a_column_have_names_and_types() {
    let lab = Lab::new().await;
    lab.fill(&logs()).await;
    let wide = |name: &str, at: i64, zi: Value| {
        let mut wide = record(DAY + at, name);
        for i in 0..1_200 {
            wide = wide.with(&format!("f{i:04}"), i);
        }
        wide.with("zt", "text").with("zi", zi).with("zf", 0.5).with("zb", true)
    };
    lab.commit(&[wide("one", 1, Value::Int(41)), wide("two", 2, Value::Int(42))]).await;
    let stored = lab.store.snapshot(&lodge_record::TenantId::default(), None).await.unwrap();
    assert!(stored.schema().index_of("zi").is_err(), "it is in no column");
    assert_eq!(
        lab.sql("SELECT sum(zi) AS s, max(zt) AS t FROM logs WHERE zi > 41 OR zb").await,
        ["s=83 t=text"]
    );
    let types = "SELECT arrow_typeof(zt) AS t, arrow_typeof(zi) AS i, arrow_typeof(zf) AS f, \
                 arrow_typeof(zb) AS b FROM logs LIMIT 1";
    assert_eq!(lab.sql(types).await, ["t=Utf8 i=Int64 f=Float64 b=Boolean"]);
    let joined = "WITH w AS (SELECT zi FROM logs WHERE zi IS NOT NULL) \
                  SELECT count(*) AS n FROM w JOIN logs l ON w.zi = l.zi";
    assert_eq!(lab.sql(joined).await, ["n=2"]);
    // A text among the numbers makes the field text, whenever it comes.
    lab.commit(&[wide("three", 3, "many".into())]).await;
    let mut all = lab.sql("SELECT zi FROM logs WHERE zi IS NOT NULL").await;
    all.sort();
    assert_eq!(all, ["zi=41", "zi=42", "zi=many"]);
    let error = lab.try_sql("SELECT nowhere FROM logs").await.unwrap_err();
    assert_eq!(error.kind(), QueryErrorKind::Invalid);
    assert!(error.message().contains("nowhere"), "{error}");
    assert_eq!(lab.sql("SELECT count(DISTINCT _stream_id) AS n FROM logs").await, ["n=3"]);
    // What nobody names stays where it is.
    assert!(lab.sql("SELECT * FROM logs LIMIT 1").await.len() == 1);
}

/// As `query`, in a form that is not plain: beside a table of one row.
fn beside_another(query: &str) -> String {
    format!("SELECT q.* FROM ({query}) AS q, (VALUES (1)) AS one(o)")
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_statements_are_answered_as_any_other() {
    let lab = Lab::new().await;
    lab.fill(&logs()).await;
    for query in [
        "SELECT count(*) AS n FROM logs",
        "SELECT count(*) AS n FROM logs l WHERE l.app = 'api' AND true",
        "SELECT count(*) AS n FROM logs WHERE false",
        "SELECT DISTINCT app, status FROM logs",
        "SELECT DISTINCT status + 1 AS s FROM logs WHERE app = 'api' OR ratio > 3",
        "SELECT app, count(DISTINCT status) AS n, count(DISTINCT ok) AS m FROM logs GROUP BY app",
        "SELECT count(DISTINCT \"kubernetes.pod\") AS n FROM logs",
        "SELECT app, sum(status) AS s FROM logs GROUP BY app HAVING sum(status) > 6000 AND app <> 'x'",
        "SELECT upper(app) AS a, length(upper(app)) + count(*) AS n FROM logs GROUP BY upper(app)",
        "SELECT status, max(ratio) AS m FROM logs GROUP BY status ORDER BY m DESC NULLS LAST LIMIT 1",
        "SELECT app, first_value(status ORDER BY _time) AS f, last_value(_msg ORDER BY _time) AS l \
         FROM logs GROUP BY app",
        "SELECT _msg, CASE WHEN ok THEN status ELSE -1 END AS c FROM logs ORDER BY c, _msg LIMIT 9",
        "SELECT _msg FROM logs WHERE app = 'web' ORDER BY _msg DESC OFFSET 70",
        "SELECT s FROM (SELECT status AS s, app AS a FROM logs) WHERE a = 'api' AND s > 200",
        "SELECT count(*) AS n FROM (SELECT DISTINCT status, ok FROM logs WHERE ratio IS NOT NULL)",
        "SELECT * FROM logs WHERE status = 500",
        "SELECT * FROM logs l WHERE l.app = 'api' ORDER BY upper(l._msg) DESC, 1 LIMIT 5 OFFSET 2",
        "SELECT * FROM logs ORDER BY length(_msg), _msg DESC LIMIT 4",
        "SELECT * FROM logs WHERE status IN (SELECT max(status) FROM logs) ORDER BY _time LIMIT 3",
        "SELECT DISTINCT * FROM logs WHERE ok",
        "SELECT * FROM logs ORDER BY 1 LIMIT 7",
        "SELECT *, status * 2 AS double FROM logs WHERE _msg LIKE '%3ms'",
        "SELECT date_trunc('minute', _time) AS t, avg(status) AS a FROM logs GROUP BY 1 ORDER BY 1",
        "SELECT 1 + 1 AS two",
        "SELECT DISTINCT ON (app) app, _msg FROM logs ORDER BY app, _time DESC",
        "SELECT median(status) AS m, percentile_cont(0.9) WITHIN GROUP (ORDER BY ratio DESC) AS p, \
         approx_percentile_cont(0.5) WITHIN GROUP (ORDER BY status) AS q FROM logs WHERE ok",
    ] {
        let mut plain = lab.sql(query).await;
        let mut beside = lab.sql(&beside_another(query)).await;
        plain.sort();
        beside.sort();
        assert_eq!(plain, beside, "{query}");
        assert!(!plain.is_empty(), "{query}");
    }
    let all = lab.sql("SELECT * FROM logs WHERE status = 500 ORDER BY _time LIMIT 1").await;
    assert_eq!(all, lab.logsql("status:=500 | sort by (_time) limit 1").await);
    // The limit reaches the leaf past the filter that went there.
    let plan = lab.sql("EXPLAIN SELECT _msg FROM logs WHERE app = 'api' LIMIT 3").await.join("\n");
    assert!(plan.contains("limit=3"), "{plan}");
    let times = lab.sql("SELECT count(*) AS n FROM logs WHERE _time < now()").await;
    assert_eq!(times, ["n=100"]);
    let series = lab.sql("SELECT sum(value) AS s FROM generate_series(1, 4)").await;
    assert_eq!(series, ["s=10"]);
    let counted = "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t WHERE n < 5) \
                   SELECT count(*) AS n FROM t";
    assert_eq!(lab.sql(counted).await, ["n=5"]);
    assert_eq!(lab.sql("SELECT count(*) AS n FROM public.logs").await, ["n=100"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_are_there_however_they_are_named() {
    let lab = Lab::new().await;
    lab.fill(&logs()).await;
    lab.commit(&[record(DAY, "odd").with("a\"b", "quoted").with("pair", 1)]).await;
    assert_eq!(lab.sql("SELECT \"a\"\"b\" AS q FROM logs WHERE pair = 1").await, ["q=quoted"]);
    assert_eq!(
        lab.sql(
            "SELECT count(*) AS n FROM (SELECT * FROM logs) WHERE \"kubernetes.pod\" = 'pod-3'"
        )
        .await,
        ["n=20"]
    );
    // All columns of the same names.
    let natural = "SELECT count(*) AS n FROM (SELECT app, status FROM logs WHERE status = 500) AS a \
                   NATURAL JOIN (SELECT app, ok FROM logs WHERE _time < '2026-01-02T00:00:04Z') AS b";
    let using = "SELECT count(*) AS n FROM (SELECT app, status FROM logs WHERE status = 500) AS a \
                 JOIN (SELECT app, ok FROM logs WHERE _time < '2026-01-02T00:00:04Z') AS b USING (app)";
    assert_eq!(lab.sql(natural).await, lab.sql(using).await);
    assert_eq!(
        lab.sql("SELECT count(*) AS n FROM logs WHERE logsql('kube*:pod-3')").await,
        ["n=20"]
    );
    let streams = "SELECT count(DISTINCT _stream_id) AS n FROM logs WHERE stream('{app=\"api\"}')";
    assert_eq!(lab.sql(streams).await, ["n=1"]);
    // Who slips is told of what there is.
    let error = lab.try_sql("SELECT statuss FROM logs").await.unwrap_err();
    assert!(error.message().contains("status") && error.message().contains("ratio"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_values_that_a_field_may_have_are_one_test_of_it() {
    let lab = Lab::new().await;
    lab.fill(&logs()).await;
    let pod = "\"kubernetes.pod\"";
    for (condition, tests) in [
        ("status IN (500, 404)", vec!["status:in(404,500)"]),
        ("status = 500 OR status = 404 OR status = 500", vec!["status:in(404,500)"]),
        (
            "app = 'api' OR status IN (500, 1) OR app = 'x'",
            vec!["app:in(api,x)", "status:in(1,500)"],
        ),
        ("app = 'api' OR app LIKE 'w%' OR app = 'x'", vec!["app:in(api,x)", "app:=w*"]),
        ("status = 500 OR app = 'api'", vec!["status:=500", "app:=api"]),
        ("ratio > 3.0 OR ratio = 0.75 OR status = 500", vec!["status:=500"]),
        ("{pod} IN ('pod-1', 'pod-2', 'pod-4', 'none') AND app IN ('web', 'x')", vec![":in("]),
    ] {
        let condition = condition.replace("{pod}", pod);
        let query = format!("SELECT count(*) AS n FROM logs WHERE {condition}");
        let slow = format!("SELECT count(*) AS n FROM logs WHERE coalesce({condition}, false)");
        let found = lab.sql(&query).await;
        assert_eq!(found, lab.sql(&slow).await, "{condition}");
        assert_ne!(found, ["n=0"], "{condition}");
        let plan = lab.sql(&format!("EXPLAIN {query}")).await.join("\n").replace('"', "");
        for test in tests {
            assert!(plan.contains(test), "{condition}: `{test}` is not in {plan}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_zeros_of_floats_are_told_apart_in_the_leaf() {
    let lab = Lab::new().await;
    let values = [-1.5, -0.0, 0.0, 0.25, 7.0];
    let rows = values
        .iter()
        .enumerate()
        .map(|(i, value)| record(DAY + i as i64 * S, &format!("row {i}")).with("x", *value));
    lab.fill(&rows.collect::<Vec<_>>()).await;
    for condition in [
        "x >= 0.0",
        "x > 0.0",
        "x < 0.0",
        "x <= 0.0",
        "x = 0.0",
        "x BETWEEN 0.0 AND 1e9",
        "x BETWEEN -1e9 AND 0.0",
        "x >= 0.0 AND x < 7.0",
    ] {
        let query = format!("SELECT count(*) AS n FROM logs WHERE {condition}");
        let slow = format!("SELECT count(*) AS n FROM logs WHERE coalesce({condition}, false)");
        assert_eq!(lab.sql(&query).await, lab.sql(&slow).await, "{condition}");
        let plan = lab.sql(&format!("EXPLAIN {query}")).await.join("\n");
        assert!(plan.contains("SegmentAggregate") && !plan.contains("FilterExec"), "{plan}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn percentiles_are_computed_in_the_leaf() {
    let lab = Lab::new().await;
    lab.fill(&logs()).await;
    let query = "SELECT app, percentile_cont(0.25) WITHIN GROUP (ORDER BY ratio) AS p FROM logs \
                 GROUP BY app ORDER BY app";
    let expected = lab.logsql("* | stats by (app) quantile(0.25, ratio) p | sort by (app)").await;
    assert_eq!(lab.sql(query).await, expected);
    let plan = lab.sql(&format!("EXPLAIN {query}")).await.join("\n");
    assert!(plan.contains("SegmentAggregate") && !plan.contains("AggregateExec"), "{plan}");
}
