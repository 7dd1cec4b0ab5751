//! Aggregates that the leaf computes: the same answers as DataFusion's own plan over rows.

use lodge_query::HitsRequest;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::fixture::{DAY, Lab, S, record};
use crate::model::{ask, records};

const LOGSQL_KEYS: &[&str] = &[
    "level",
    "n",
    "mixed",
    "app",
    "absent",
    "rare",
    "trace",
    "_msg",
    "_stream",
    "_stream_id",
    "_time:10s",
    "_time:1m offset 7s",
    "n:2",
    "mixed:5",
];

const LOGSQL_CALLS: &[&str] = &[
    "count()",
    "count(n)",
    "count(mixed, rare)",
    "count_empty(level)",
    "sum(n)",
    "avg(n)",
    "sum(n, mixed)",
    "min(n)",
    "max(mixed)",
    "min(_time)",
    "sum_len(_msg)",
    "quantile(0.3, n)",
    "median(mixed)",
    "count_uniq(level)",
    "count_uniq(mixed)",
    "count_uniq(trace)",
    "count_uniq(_stream_id)",
    "count() if (level:error)",
    "max(n) if (app:api or error)",
];

const SQL_KEYS: &[&str] = &[
    "level",
    "n",
    "app",
    "_msg",
    "_stream",
    "lower(level)",
    "coalesce(level, 'none')",
    "date_bin(INTERVAL '7 seconds', _time)",
    "date_trunc('minute', _time)",
    "date_trunc('week', _time)",
];

const SQL_CALLS: &[&str] = &[
    "count(*)",
    "count(n)",
    "count(level)",
    "sum(n)",
    "avg(n)",
    "min(_msg)",
    "max(n)",
    "min(_time)",
    "count(*) FILTER (WHERE n > 0)",
    "sum(n + 1)",
    "count(DISTINCT level)",
];

const SQL_CONDITIONS: &[&str] =
    &["true", "level = 'error'", "n > 0", "_msg LIKE '%error%'", "level IS NOT NULL", "n + 1 > 2"];

fn some(
    from: &'static [&'static str],
    range: std::ops::RangeInclusive<usize>,
) -> impl Strategy<Value = Vec<&'static str>> {
    let most = from.len();
    proptest::sample::subsequence(from, *range.start()..=(*range.end()).min(most))
}

fn named(calls: &[&str], word: &str) -> String {
    let named = calls.iter().enumerate().map(|(place, call)| format!("{call} {word} c{place}"));
    named.collect::<Vec<_>>().join(", ")
}

#[test]
fn leaf_aggregates_agree_with_a_plain_plan_model() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let config = Config { cases: 32, failure_persistence: None, ..Config::default() };
    let question = (ask(), some(LOGSQL_KEYS, 0..=3), some(LOGSQL_CALLS, 1..=4));
    TestRunner::new(config)
        .run(&(records(), vec(question, 10)), |(records, questions)| {
            runtime.block_on(async {
                let lab = Lab::new().await;
                lab.fill(&records).await;
                for (ask, mut keys, calls) in questions {
                    // A field can be a key only once.
                    keys.sort_unstable();
                    keys.dedup_by_key(|key| key.split(':').next());
                    let by = match keys.as_slice() {
                        [] => String::new(),
                        keys => format!("by ({}) ", keys.join(", ")),
                    };
                    let stats = format!("stats {by}{}", named(&calls, "as"));
                    let query = format!("{} | {stats}", ask.text());
                    // What is sorted first is not the leaf's to aggregate.
                    let plain = format!("{} | sort by (id) | {stats}", ask.text());
                    let (leaf, rows) = (lab.sorted(&query).await, lab.sorted(&plain).await);
                    prop_assert_eq!(leaf, rows, "{}", query);
                }
                Ok(())
            })
        })
        .unwrap();
}

#[test]
fn leaf_aggregates_of_sql_agree_with_a_plain_plan_model() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let config = Config { cases: 24, failure_persistence: None, ..Config::default() };
    let condition = proptest::sample::select(SQL_CONDITIONS);
    let question = (condition, some(SQL_KEYS, 0..=3), some(SQL_CALLS, 1..=4));
    TestRunner::new(config)
        .run(&(records(), vec(question, 8)), |(records, questions)| {
            runtime.block_on(async {
                let lab = Lab::new().await;
                lab.fill(&records).await;
                // Every field that is asked for is there.
                let mut whole = record(DAY, "whole").label("app", "api");
                whole = whole.with("level", "info").with("n", 1);
                lab.commit(&[whole]).await;
                for (condition, keys, calls) in questions {
                    let columns: Vec<String> = keys
                        .iter()
                        .enumerate()
                        .map(|(place, key)| format!("{key} AS k{place}"))
                        .chain([named(&calls, "AS")])
                        .collect();
                    let columns = columns.join(", ");
                    let by = match keys.as_slice() {
                        [] => String::new(),
                        keys => format!(" GROUP BY {}", keys.join(", ")),
                    };
                    let of = |table: &str| {
                        format!("SELECT {columns} FROM {table} WHERE {condition}{by}")
                    };
                    let query = of("logs");
                    // Rows behind a limit are not the leaf's to aggregate.
                    let plain = of("(SELECT * FROM logs LIMIT 1000000)");
                    let (mut leaf, mut rows) = (lab.sql(&query).await, lab.sql(&plain).await);
                    leaf.sort();
                    rows.sort();
                    prop_assert_eq!(leaf, rows, "{}", query);
                }
                Ok(())
            })
        })
        .unwrap();
}

#[test]
fn histograms_agree_with_stats_model() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let config = Config { cases: 16, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&(records(), ask(), 1i64..40), |(records, ask, step)| {
            runtime.block_on(async {
                let lab = Lab::new().await;
                lab.fill(&records).await;
                let request = lab.request(&ask.text());
                let hits = HitsRequest {
                    view: request.view,
                    query: request.query,
                    start_ns: None,
                    end_ns: None,
                    step_ns: step * S,
                    offset_ns: 0,
                    fields: vec!["level".into(), "n".into()],
                    fields_limit: None,
                    now_ns: request.now_ns,
                    budget: request.budget,
                };
                let mut counted: Vec<String> = Vec::new();
                for group in lab.engine.hits(hits).await.unwrap().value {
                    for (start, hits) in group.timestamps_ns.iter().zip(&group.values) {
                        let mut row = format!("_time={}", lodge_record::time::format(*start));
                        for (name, value) in group.fields.iter().filter(|(_, v)| !v.is_empty()) {
                            row += &format!(" {name}={value}");
                        }
                        counted.push(format!("{row} h={hits}"));
                    }
                }
                counted.sort();
                let stats =
                    format!("{} | stats by (_time:{step}s, level, n) count() h", ask.text());
                prop_assert_eq!(counted, lab.sorted(&stats).await, "{}", stats);
                Ok(())
            })
        })
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leaf_aggregates_where_it_can() {
    let lab = Lab::new().await;
    let one = record(DAY, "hello").label("app", "api").with("level", "info").with("x", 1.5);
    lab.commit(&[one.with("n", 1)]).await;
    let explained = async |query: &str| lab.sql(&format!("EXPLAIN {query}")).await.join("\n");
    for query in [
        "SELECT count(*) FROM logs",
        "SELECT level, count(*) FROM logs WHERE n > 0 GROUP BY level",
        "SELECT app, level, n, sum(x), avg(n) FROM logs GROUP BY app, level, n",
        "SELECT date_bin(INTERVAL '1 minute', _time), count(*) FROM logs GROUP BY 1",
        "SELECT upper(level), min(_time) FROM logs GROUP BY upper(level)",
        "SELECT level, count(*) FROM logs GROUP BY level ORDER BY 2 DESC LIMIT 3",
    ] {
        let plan = explained(query).await;
        assert!(plan.contains("SegmentAggregate"), "{query}: {plan}");
    }
    for query in [
        "SELECT x, count(*) FROM logs GROUP BY x",
        "SELECT level, count(*) FROM (SELECT * FROM logs LIMIT 5) GROUP BY level",
        "SELECT n % 2, count(*) FROM logs GROUP BY n % 2",
    ] {
        let plan = explained(query).await;
        assert!(plan.contains("SegmentScan"), "{query}: {plan}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn identifiers_are_counted_once_however_they_are_stored() {
    let lab = Lab::new().await;
    let trace = |number: u128| format!("{number:032x}");
    let of = |id: i64, trace: &str| record(DAY + id * S, "m").with("id", id).with("trace", trace);
    // A segment with nothing but identifiers, one with other texts among them, and L0s.
    let only: Vec<_> = (0..40i64).map(|id| of(id, &trace(id as u128 % 10))).collect();
    lab.commit(&only).await;
    lab.build().await;
    let texts =
        [trace(3), trace(0xabc).to_uppercase(), "none".to_owned(), String::new(), trace(77)];
    let mixed: Vec<_> = (40..).zip(&texts).map(|(id, text)| of(id, text)).collect();
    lab.commit(&mixed).await;
    lab.commit(&[of(50, &trace(5)), of(51, "none"), of(52, ""), of(53, &trace(78))]).await;
    lab.commit(&[record(DAY + 60 * S, "without").with("id", 60)]).await;
    for (query, expected) in [
        ("* | stats count_uniq(trace) n", "n=14"),
        ("id:<10 | stats count_uniq(trace) n", "n=10"),
        ("id:>=40 | stats count_uniq(trace) n", "n=6"),
        ("id:60 | stats count_uniq(trace) n", "n=0"),
        ("id:<40 | stats by (_stream) count_uniq(trace) n | fields n", "n=10"),
    ] {
        assert_eq!(lab.logsql(query).await, [expected], "{query}");
    }
    // In SQL the empty text is one more.
    for (query, expected) in [
        ("SELECT count(DISTINCT trace) AS n FROM logs", "n=15"),
        ("SELECT count(DISTINCT l.trace) AS n FROM logs l WHERE l.id < 10", "n=10"),
        ("SELECT count(DISTINCT trace) AS n FROM logs WHERE id >= 40", "n=7"),
        ("SELECT count(DISTINCT trace) AS n FROM logs WHERE id = 60", "n=0"),
        ("SELECT count(DISTINCT trace) AS n FROM logs WHERE id % 2 = 0 AND id < 40", "n=5"),
        ("SELECT count(DISTINCT trace) AS n, max(id) AS m FROM logs", "n=15 m=60"),
        ("SELECT count(DISTINCT trace) AS n, count(DISTINCT id) AS m FROM logs", "n=15 m=50"),
        ("SELECT count(DISTINCT trace) FILTER (WHERE id < 4) AS n FROM logs", "n=4"),
        ("SELECT count(DISTINCT upper(trace)) AS n FROM logs WHERE id < 40", "n=10"),
        ("SELECT count(DISTINCT trace) AS n FROM (SELECT trace FROM logs LIMIT 0)", "n=0"),
        ("SELECT count(DISTINCT trace) AS n FROM logs GROUP BY id < 0", "n=15"),
        ("SELECT count(*) AS n FROM (SELECT DISTINCT trace FROM logs WHERE id < 60)", "n=15"),
    ] {
        assert_eq!(lab.sql(query).await, [expected], "{query}");
    }
    // The leaf counts them: no value becomes a row.
    let plan = lab.sql("EXPLAIN SELECT count(DISTINCT trace) FROM logs WHERE id < 9").await;
    assert!(plan.join("\n").contains("SegmentAggregate: keys=0"), "{plan:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_without_a_number_are_groups() {
    let lab = Lab::new().await;
    let of = |id: i64, app: &str| record(DAY + id * S, "m").label("app", app).with("id", id);
    let built: Vec<_> = (0..30i64)
        .map(|id| match (id % 3, id % 2) {
            (0, 0) => of(id, "some").with("n", id),
            (0, _) => of(id, "some"),
            (1, _) => of(id, "all").with("n", 1),
            _ => of(id, "none"),
        })
        .collect();
    lab.commit(&built).await;
    lab.build().await;
    lab.commit(&[of(30, "late"), of(31, "none"), of(32, "all").with("n", 3)]).await;
    let stats = "* | stats by (app) count() rows, count(n) n, sum(n) sum, max(n) max, median(n) m";
    let mut found = lab.logsql(stats).await;
    found.sort();
    assert_eq!(
        found,
        [
            "app=all rows=11 n=11 sum=13 max=3 m=1",
            "app=late rows=1 n=0 sum=NaN m=NaN",
            "app=none rows=11 n=0 sum=NaN m=NaN",
            "app=some rows=10 n=5 sum=60 max=24 m=12",
        ]
    );
}
