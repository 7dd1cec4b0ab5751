//! The same question in LogsQL and in SQL has the same answer.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::fixture::{DAY, Lab, S, record};
use crate::model::records;
use crate::naive_stats::{Row, table};

/// A condition in both languages.
#[derive(Debug, Clone)]
struct Both {
    logsql: String,
    sql: String,
}

fn both(logsql: impl Into<String>, sql: impl Into<String>) -> Both {
    // SQL's "unknown" is false, as a missing value is in LogsQL.
    Both { logsql: logsql.into(), sql: format!("coalesce({}, false)", sql.into()) }
}

fn leaf() -> impl Strategy<Value = Both> {
    let text = proptest::sample::select(&["error", "info", "warn", "host-9", "10"][..]);
    let field = || proptest::sample::select(&["level", "app", "_msg"][..]);
    prop_oneof![
        (field(), text.clone())
            .prop_map(|(f, t)| both(format!("{f}:={t:?}"), format!("{f} = '{t}'"))),
        (field(), text.clone())
            .prop_map(|(f, t)| both(format!("{f}:={t:?}*"), format!("{f} LIKE '{t}%'"))),
        (field(), text.clone())
            .prop_map(|(f, t)| both(format!("{f}:*{t:?}*"), format!("strpos({f}, '{t}') > 0"))),
        (field(), vec(text, 1..4)).prop_map(|(f, texts)| {
            let quoted: Vec<String> = texts.iter().map(|t| format!("'{t}'")).collect();
            both(format!("{f}:in({})", texts.join(", ")), format!("{f} IN ({})", quoted.join(", ")))
        }),
        field().prop_map(|f| both(format!("{f}:\"\""), format!("coalesce({f}, '') = ''"))),
        field().prop_map(|f| both(format!("{f}:*"), format!("{f} <> ''"))),
        field().prop_map(|f| both(
            format!("{f}:len_range(3, 5)"),
            format!("character_length({f}) BETWEEN 3 AND 5")
        )),
        (field(), proptest::sample::select(&["^e", "[0-9]$", "rr"][..]))
            .prop_map(|(f, r)| both(format!("{f}:~{r:?}"), format!("{f} ~ '{r}'"))),
        (proptest::sample::select(&[">", ">=", "<", "<=", "="][..]), -5i64..5)
            .prop_map(|(o, n)| both(format!("n:{o}{n}"), format!("n {o} {n}"))),
        (-5i64..5, 0i64..6).prop_map(|(low, more)| both(
            format!("n:range[{low}, {}]", low + more),
            format!("n BETWEEN {low} AND {}", low + more)
        )),
        Just(both("(n:* n:lt_field(id))", "n < id")),
        Just(both("level:eq_field(app)", "level = app")),
        (0i64..64).prop_map(|seconds| {
            let time = lodge_record::time::format(DAY + seconds * S + 1);
            both(format!("_time:>={time}"), format!("_time >= TIMESTAMP '{time}'"))
        }),
    ]
}

fn condition() -> impl Strategy<Value = Both> {
    leaf().prop_recursive(3, 10, 3, |inner| {
        let joined = |parts: Vec<Both>, word: &str| {
            let of = |part: fn(&Both) -> &str| {
                let texts: Vec<String> = parts.iter().map(|p| format!("({})", part(p))).collect();
                texts.join(&format!(" {word} "))
            };
            Both { logsql: of(|both| &both.logsql), sql: of(|both| &both.sql) }
        };
        prop_oneof![
            vec(inner.clone(), 2..4).prop_map(move |parts| joined(parts, "and")),
            vec(inner.clone(), 2..4).prop_map(move |parts| joined(parts, "or")),
            inner.prop_map(|both| Both {
                logsql: format!("!({})", both.logsql),
                sql: format!("NOT ({})", both.sql)
            }),
        ]
    })
}

const KEYS: &[(&str, &str)] = &[
    ("level", "coalesce(level, '')"),
    ("app", "app"),
    ("n", "n"),
    ("_time:7s", "date_bin(INTERVAL '7 seconds', _time)"),
    ("_time:hour", "date_trunc('hour', _time)"),
];

const CALLS: &[(&str, &str)] = &[
    ("count()", "count(*)"),
    ("count(level)", "count(nullif(level, ''))"),
    ("count_empty(n)", "count(*) FILTER (WHERE n IS NULL)"),
    ("count_uniq(level)", "count(DISTINCT nullif(level, ''))"),
    ("sum(n)", "sum(n)"),
    ("min(n)", "min(n)"),
    ("max(id)", "max(id)"),
    ("avg(n)", "avg(n)"),
    ("sum_len(_msg)", "coalesce(sum(octet_length(_msg)), 0)"),
    ("min(_time)", "min(_time)"),
    ("count() if (n:>0)", "count(*) FILTER (WHERE n > 0)"),
    ("median(id)", "median(CAST(id AS DOUBLE))"),
    ("quantile(0.75, id)", "percentile_cont(0.75) WITHIN GROUP (ORDER BY id)"),
    ("stddev(id)", "stddev_pop(id)"),
];

/// Rows in an order, numbers but for their last digits, and no number as no value.
fn plain(rows: Vec<Row>) -> Vec<Vec<(String, String)>> {
    let text = |value: String| match value.parse::<f64>() {
        Ok(number) if number.is_finite() => format!("{:.6}", number + 0.0),
        _ => value,
    };
    let mut rows: Vec<Vec<(String, String)>> = rows
        .into_iter()
        .map(|row| {
            let values = row.into_iter().map(|(name, value)| (name, text(value)));
            values.filter(|(_, value)| value != "NaN").collect()
        })
        .collect();
    rows.sort();
    rows
}

#[test]
fn logsql_and_sql_agree_model() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let config = Config { cases: 32, failure_persistence: None, ..Config::default() };
    let keys = proptest::sample::subsequence(KEYS, 0..=2);
    let calls = proptest::sample::subsequence(CALLS, 1..=4);
    let question = (condition(), keys, calls);
    TestRunner::new(config)
        .run(&(records(), vec(question, 12)), |(records, questions)| {
            runtime.block_on(async {
                let lab = Lab::new().await;
                lab.fill(&records).await;
                // Every field that is asked for is there.
                let whole = record(DAY + 100 * S, "whole").label("app", "api");
                lab.commit(&[whole.with("level", "info").with("n", 1).with("id", 1_000)]).await;
                for (condition, mut keys, calls) in questions {
                    keys.dedup_by_key(|(logsql, _)| logsql.split(':').next());
                    let ids = format!("{} | fields id", condition.logsql);
                    let sql = format!("SELECT id FROM logs WHERE {}", condition.sql);
                    let mut found = (lab.sorted(&ids).await, lab.sql(&sql).await);
                    found.1.sort();
                    prop_assert_eq!(found.0, found.1, "{} and {}", ids, sql);
                    let by: Vec<&str> = keys.iter().map(|(logsql, _)| *logsql).collect();
                    let by = match by.as_slice() {
                        [] => String::new(),
                        by => format!("by ({}) ", by.join(", ")),
                    };
                    let named = |side: fn(&(&'static str, &'static str)) -> &'static str| {
                        let calls = calls.iter().enumerate();
                        let calls = calls.map(|(at, call)| format!("{} AS c{at}", side(call)));
                        calls.collect::<Vec<_>>().join(", ")
                    };
                    let stats = format!("{} | stats {by}{}", condition.logsql, named(|c| c.0));
                    let columns: Vec<String> = (keys.iter())
                        .map(|(logsql, sql)| {
                            let name = logsql.split(':').next().unwrap();
                            format!("{sql} AS \"{name}\", ")
                        })
                        .collect();
                    let groups: Vec<String> = (1..=keys.len()).map(|at| at.to_string()).collect();
                    let grouped = match groups.as_slice() {
                        [] => String::new(),
                        groups => format!(" GROUP BY {}", groups.join(", ")),
                    };
                    let sql = format!(
                        "SELECT {}{} FROM logs WHERE {}{grouped}",
                        columns.concat(),
                        named(|c| c.1),
                        condition.sql
                    );
                    let logsql = lab.engine.logsql(lab.request(&stats)).await.unwrap();
                    let logsql = table(&logsql.collect().await.unwrap());
                    let rows = table(&lab.sql_batches(&sql).await);
                    prop_assert_eq!(plain(logsql), plain(rows), "{} and {}", stats, sql);
                }
                Ok(())
            })
        })
        .unwrap();
}
