//! Budgets, cancellation and hostile queries.

use std::time::Duration;

use futures::StreamExt;
use lodge_query::{
    Budget, Engine, EngineLimits, QueryErrorKind, SUBQUERY_VALUES_MAX, TenantLimits, View, logsql,
};

use crate::fixture::{DAY, Lab, Record, S, record};

fn many(count: i64) -> Vec<Record> {
    (0..count)
        .map(|i| {
            record(DAY + i, &format!("message number {i} with some text to make it longer"))
                .with("id", i)
                .with("key", format!("value-{i}").as_str())
        })
        .collect()
}

async fn filled(count: i64) -> Lab {
    let lab = Lab::new().await;
    for chunk in many(count).chunks(50_000) {
        lab.commit(chunk).await;
    }
    lab
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_beyond_the_budget_is_an_error_that_says_so() {
    let lab = filled(60_000).await;
    for query in [
        "* | stats by (key, _msg) count() n",
        "* | sort by (_msg)",
        "* | sort by (_time desc) limit 60000",
        "* | stats count_uniq(_msg) n",
        "* | stats uniq_values(_msg) all",
    ] {
        let mut request = lab.request(query);
        request.budget.memory_bytes_max = 1 << 20;
        let error = lab.ask(request).await.expect_err(query);
        assert_eq!(error.kind(), QueryErrorKind::BudgetMemory, "{query}: {error}");
        assert!(error.message().contains("memory"), "{error}");
    }
    // The same engine answers the next query.
    assert_eq!(lab.logsql("* | count() n").await, ["n=60000"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn time_beyond_the_budget_is_an_error_or_a_marked_answer() {
    let lab = filled(60_000).await;
    let mut request = lab.request("* | stats by (key) count() n");
    request.budget.time_max = Duration::ZERO;
    let error = lab.ask(request.clone()).await.unwrap_err();
    assert_eq!(error.kind(), QueryErrorKind::BudgetTime, "{error}");
    let mut request = lab.request("*");
    request.budget = Budget { time_max: Duration::ZERO, allow_partial: true, ..request.budget };
    match lab.engine.logsql(request).await {
        Ok(mut rows) => {
            while let Some(batch) = rows.next().await {
                batch.unwrap();
            }
            // The time is over before the first block is read.
            assert!(rows.partial().is_some_and(|why| why.message().contains("time budget")));
        }
        // The query could not even be planned in time.
        Err(error) => assert_eq!(error.kind(), QueryErrorKind::BudgetTime, "{error}"),
    }
    let endless = "SELECT count(*) FROM logs a CROSS JOIN logs b CROSS JOIN logs c";
    let budget = Budget { time_max: Duration::from_millis(300), ..Budget::default() };
    let error = lab.sql_within(endless, budget).await.unwrap_err();
    assert_eq!(error.kind(), QueryErrorKind::BudgetTime, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_stream_stops_the_query() {
    let lab = filled(60_000).await;
    let mut rows = lab.engine.logsql(lab.request("*")).await.unwrap();
    rows.next().await.unwrap().unwrap();
    drop(rows);
    let budget = Budget { time_max: Duration::from_secs(600), ..Budget::default() };
    let endless = lodge_query::SqlRequest {
        view: lodge_query::View::default(),
        query: "SELECT count(*) FROM logs a CROSS JOIN logs b CROSS JOIN logs c".to_owned(),
        start_ns: None,
        end_ns: None,
        budget,
    };
    // Far more abandoned queries than may run at once: each gives its place back.
    for _ in 0..40 {
        let asked = lab.engine.sql(endless.clone());
        tokio::time::timeout(Duration::from_millis(20), asked).await.expect_err("it is endless");
    }
    assert_eq!(lab.logsql("* | count() n").await, ["n=60000"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn huge_and_deep_queries_are_refused_at_once() {
    let lab = Lab::new().await;
    lab.commit(&[record(DAY, "x")]).await;
    let mut hostile = vec![
        "a".repeat(1 << 20),
        "a ".repeat(1 << 19),
        format!("{}a{}", "(".repeat(10_000), ")".repeat(10_000)),
        "!".repeat(10_000) + "a",
        "not ".repeat(10_000) + "a",
        format!("a:{}b", "x:(".repeat(10_000)),
        "(".repeat(200_000),
        r#"~"((((a{100}){100}){100}){100})""#.to_owned(),
        format!("* | stats count() if ({}a{}) n", "(".repeat(5_000), ")".repeat(5_000)),
    ];
    hostile.push(format!("\"{}", "\\".repeat(100_001)));
    for query in hostile {
        let error = lab.ask(lab.request(&query)).await.unwrap_err();
        assert!(matches!(error.kind(), QueryErrorKind::Parse { .. }), "{}…: {error}", &query[..20]);
        assert!(error.message().len() < 1000, "{error}");
    }
    for query in [
        format!("SELECT {}1{}", "(".repeat(10_000), ")".repeat(10_000)),
        "SELECT 1 -- ".to_owned() + &"x".repeat(1 << 20),
        format!("SELECT {}1", "NOT ".repeat(10_000)),
        format!("SELECT {}1", "- ".repeat(10_000)),
        format!("SELECT {}1{}", "CASE WHEN true THEN ".repeat(5_000), " END".repeat(5_000)),
    ] {
        let error = lab.try_sql(&query).await.unwrap_err();
        assert!(
            matches!(error.kind(), QueryErrorKind::Parse { .. } | QueryErrorKind::Invalid),
            "{}…: {error:?}",
            &query[..30]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catastrophic_regex_is_no_catastrophe() {
    let lab = Lab::new().await;
    let evil = "a".repeat(50_000) + "!";
    lab.commit(&[record(DAY, &evil), record(DAY + S, "b")]).await;
    assert_eq!(lab.logsql("~\"(a+)+$\" | count() n").await, ["n=0"]);
    assert_eq!(lab.logsql("~\"^(a|aa)+!$\" | count() n").await, ["n=1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_inside_filters_have_a_limit_of_values() {
    let over = SUBQUERY_VALUES_MAX as i64 + 100;
    let lab = filled(over).await;
    let query = "id:in(* | fields id) | count() n";
    let error = lab.ask(lab.request(query)).await.expect_err(query);
    assert_eq!(error.kind(), QueryErrorKind::BudgetMemory, "{error}");
    let expected = format!(
        "in the query at column 7: the queries inside filters give more than \
                            {SUBQUERY_VALUES_MAX} different values"
    );
    assert!(error.message().starts_with(&expected), "{error}");
    // Just as many as there may be, in two queries of one request.
    let half = over / 2;
    let query = format!(
        "(id:in(id:<{half} | fields id) or id:in(id:range[{half}, {}) | fields id)) | count() n",
        SUBQUERY_VALUES_MAX
    );
    assert_eq!(lab.logsql(&query).await, [format!("n={SUBQUERY_VALUES_MAX}")]);
    // Other questions about everything are answered within the usual budget.
    for (query, rows) in [
        ("* | stats by (id, _msg) count() n | count() groups", format!("groups={over}")),
        ("* | sort by (_msg) | offset 5 | count() n", format!("n={}", over - 5)),
        ("~\"(x+x+)+y\" | count() n", "n=0".to_owned()),
        ("~\"(.*.*)*some text to make it longer$\" | count() n", format!("n={over}")),
    ] {
        assert_eq!(lab.logsql(query).await, [rows], "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_groups_are_answered_or_refused_within_the_budget() {
    const GROUPS: i64 = 1_000_000;
    let lab = Lab::new().await;
    for from in (0..GROUPS).step_by(100_000) {
        let numbers = from..from + 100_000;
        let records: Vec<Record> = numbers
            .map(|i| record(DAY + i, "x").with("id", i).with("key", format!("k{i:07}").as_str()))
            .collect();
        lab.commit(&records).await;
    }
    let sql = "SELECT count(*) AS n FROM (SELECT key FROM logs GROUP BY key)";
    for (query, expected) in [
        ("* | stats by (id) count() hits | count() n", format!("n={GROUPS}")),
        (
            "* | stats by (key) max(id) id | sort by (id desc) limit 1",
            "key=k0999999 id=999999".into(),
        ),
        ("* | top 1 by (key)", "key=k0000000 hits=1".into()),
        ("* | uniq by (key) | count() n", format!("n={GROUPS}")),
        ("* | stats count_uniq(key) n", format!("n={GROUPS}")),
        ("* | sort by (key desc) | offset 999999 | fields key", "key=k0000000".into()),
    ] {
        assert_eq!(lab.logsql(query).await, [expected], "{query}");
        // A budget that this does not fit into ends the query and nothing else.
        let mut small = lab.request(query);
        small.budget.memory_bytes_max = 8 << 20;
        let error = lab.ask(small).await.expect_err(query);
        assert_eq!(error.kind(), QueryErrorKind::BudgetMemory, "{query}: {error}");
    }
    assert_eq!(lab.sql(sql).await, [format!("n={GROUPS}")]);
    let error =
        lab.sql_within(sql, Budget { memory_bytes_max: 8 << 20, ..Budget::default() }).await;
    assert_eq!(error.unwrap_err().kind(), QueryErrorKind::BudgetMemory);
    assert_eq!(lab.logsql("* | count() n").await, [format!("n={GROUPS}")]);
}

#[test]
fn queries_that_are_too_long_or_too_deep_are_refused_with_a_reason() {
    let refused = |query: &str, reason: &str| {
        let error = logsql::parse(query, DAY).expect_err("this is too much");
        assert!(error.message.contains(reason), "{error}");
    };
    refused(&"error or ".repeat(120_000), "the limit is");
    refused(&format!("a:in({})", "value,".repeat(200_000)), "the limit is");
    let deep =
        |open: &str, close: &str| format!("{}a{}", open.repeat(10_000), close.repeat(10_000));
    refused(&deep("(", ")"), "levels deep");
    refused(&deep("!", ""), "levels deep");
    refused(&deep("not ", ""), "levels deep");
    refused(&deep("a:in(", " | fields a)"), "levels deep");
    refused(&deep("a:(", ")"), "levels deep");
    refused(&format!("_time:{}5m", "!".repeat(10_000)), "levels deep");
    refused(r#"~"(\\w{100}){100}""#, "size limit");
    refused(&format!("pattern_match(\"{}\")", "<UUID>-".repeat(20_000)), "size limit");
    // A long one within the limits.
    let long = format!("a:in({}b)", "value,".repeat(40_000));
    assert_eq!(logsql::parse(&long, DAY).unwrap().predicate.to_string(), r#"a:in("b","value")"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_and_bytes_beyond_the_budget_are_an_error_or_a_marked_answer() {
    let lab = filled(150_000).await;
    lab.build().await;
    type Change = fn(&mut Budget);
    let cases: [(Change, QueryErrorKind, &str); 2] = [
        (|b| b.rows_max = Some(70_000), QueryErrorKind::BudgetRows, "budget of 70000 records"),
        (|b| b.bytes_max = Some(1_000), QueryErrorKind::BudgetBytes, "budget of 1000 bytes"),
    ];
    for (change, kind, words) in cases {
        for query in ["number | stats by (key) count() n", "message", "* | sort by (_time) limit 3"]
        {
            let mut request = lab.request(query);
            change(&mut request.budget);
            let error = lab.ask(request.clone()).await.expect_err(query);
            assert_eq!(error.kind(), kind, "{query}: {error}");
            assert!(error.message().contains(words), "{query}: {error}");
            request.budget.allow_partial = true;
            let mut rows = lab.engine.logsql(request).await.unwrap();
            while let Some(batch) = rows.next().await {
                batch.unwrap();
            }
            assert_eq!(rows.partial().expect(query).kind(), kind, "{query}");
        }
        let mut request = lab.fields_request("message");
        change(&mut request.budget);
        let error = lab.engine.field_values(request.clone(), "key").await.unwrap_err();
        assert_eq!(error.kind(), kind);
        request.budget.allow_partial = true;
        let values = lab.engine.field_values(request, "key").await.unwrap();
        assert_eq!(values.partial.expect("it is marked").kind(), kind);
    }
    // What the catalog or an index knows costs nothing.
    for query in ["* | count() n", "nosuchword | count() n"] {
        let mut request = lab.request(query);
        request.budget.rows_max = Some(1);
        request.budget.bytes_max = Some(1);
        assert_eq!(lab.ask(request).await.unwrap().len(), 1, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_beyond_the_budget_is_a_marked_answer_where_that_is_allowed() {
    let lab = Lab::new().await;
    for chunk in many(60_000).chunks(2_500) {
        lab.commit(chunk).await;
    }
    let mut request = lab.request("* | stats by (key, _msg) count() n");
    request.budget.memory_bytes_max = 8 << 20;
    request.budget.allow_partial = true;
    let mut rows = lab.engine.logsql(request).await.unwrap();
    let mut groups = 0;
    while let Some(batch) = rows.next().await {
        groups += batch.unwrap().num_rows();
    }
    let excess = rows.partial().expect("it is marked");
    assert_eq!(excess.kind(), QueryErrorKind::BudgetMemory, "{excess}");
    assert!(groups > 0 && groups < 60_000, "{groups} groups");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_used_up_its_minute_waits_and_others_do_not() {
    let lab = filled(60_000).await;
    let of = |tenant: TenantLimits| {
        let limits = EngineLimits { threads: 2, tenant, ..EngineLimits::default() };
        Engine::new(lab.store.clone(), limits)
    };
    let cases = [
        TenantLimits { rows_max_per_minute: Some(50_000), ..TenantLimits::default() },
        TenantLimits { bytes_max_per_minute: Some(1_000), ..TenantLimits::default() },
        TenantLimits {
            time_max_per_minute: Some(Duration::from_nanos(1)),
            ..TenantLimits::default()
        },
    ];
    for limits in cases {
        let engine = of(limits);
        let ask = |view: &View| {
            let view = view.clone();
            let request = lodge_query::LogsqlRequest { view, ..lab.request("message") };
            let engine = engine.clone();
            async move { engine.logsql(request).await?.collect().await }
        };
        let mut outcome = ask(&View::default()).await;
        for _ in 0..2 {
            // At the latest the next query finds that all is used up.
            if outcome.is_ok() {
                outcome = ask(&View::default()).await;
            }
        }
        let error = outcome.expect_err("the minute is used up");
        let QueryErrorKind::BudgetTenant { retry_after_s } = error.kind() else {
            panic!("{limits:?}: {error}");
        };
        assert!((1..=60).contains(&retry_after_s), "{error}");
        if limits.time_max_per_minute.is_some() {
            // Nobody can ask anything within a nanosecond.
            continue;
        }
        let other = View::from("other".parse::<lodge_record::TenantId>().unwrap());
        assert!(ask(&other).await.is_ok(), "{limits:?}");
    }
    let limits = TenantLimits { memory_bytes_max: Some(1 << 20), ..TenantLimits::default() };
    let request = lab.request("* | sort by (_msg)");
    let error = match of(limits).logsql(request).await {
        Ok(rows) => rows.collect().await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.kind(), QueryErrorKind::BudgetMemory);
    assert!(error.message().contains("the limit of its tenant"), "{error}");
}
