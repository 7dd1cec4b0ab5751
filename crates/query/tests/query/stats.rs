//! Every stats function with the examples of its documentation, and all of them on random records
//! against functions written straight from it.

use expect_test::{Expect, expect};
use lodge_query::logsql;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::fixture::{DAY, Lab, Record, S, record};
use crate::model::{ask, records};
use crate::naive_stats::{Call, Key, table};

/// Requests to two hosts, one every ten seconds.
async fn requests() -> Lab {
    let lab = Lab::new().await;
    let rows = [
        ("a", "GET", Some("10ms"), Some(100), "10.0.0.1"),
        ("a", "POST", Some("1.5s"), Some(9_000), "10.0.0.2"),
        ("b", "GET", None, Some(15_000), "10.0.1.1"),
        ("b", "PUT", Some("2m"), Some(12_000), "10.0.0.1"),
        ("a", "GET", Some("none"), None, ""),
    ];
    let records: Vec<Record> = (rows.iter().zip(0i64..))
        .map(|((host, method, took, size, ip), id)| {
            let text = format!("{method} /{id}");
            let mut record = record(DAY + id * 10 * S, &text).label("host", host).with("id", id);
            if let Some(took) = took {
                record = record.with("duration", *took);
            }
            if let Some(size) = size {
                record = record.with("request_size", *size as i64);
            }
            if ip.is_empty() { record } else { record.with("ip", *ip) }
        })
        .collect();
    lab.fill(&records).await;
    lab
}

async fn gives(lab: &Lab, query: &str, expected: &[&str]) {
    assert_eq!(lab.sorted(query).await, expected, "{query}");
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_of_numbers() {
    let lab = requests().await;
    for (query, expected) in [
        ("* | stats avg(request_size) mean", "mean=9025"),
        ("* | stats avg(host) mean", "mean=NaN"),
        ("* | stats avg(request*)", "avg(request*)=9025"),
        ("* | stats sum(request_size, id) s", "s=36110"),
        ("* | stats sum(duration) s", "s=121510000000"),
        ("* | stats sum(host) s", "s=NaN"),
        ("* | stats min(duration) a, max(duration) b", "a=10ms b=none"),
        ("* | stats min(request_size) a, max(request_size) b", "a=100 b=15000"),
        ("* | stats min(i*) a, max(i*) b", "a=0 b=10.0.1.1"),
        ("* | stats median(request_size) m", "m=10500"),
        ("* | stats quantile(0, request_size) a, quantile(1, request_size) b", "a=100 b=15000"),
        ("* | stats quantile(0.5, request_size, id) m", "m=4"),
        ("* | stats quantile(0.5, request*) m", "m=10500"),
        ("* | stats stddev(id) d, stddev(host) none", "d=1.4142135623730951 none=NaN"),
        ("* | stats sum_len(host, _msg) n", "n=36"),
    ] {
        gives(&lab, query, &[expected]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_that_count() {
    let lab = requests().await;
    for (query, expected) in [
        ("* | stats count() logs", "logs=5"),
        ("* | count()", "count()=5"),
        ("* | count(*) n", "n=5"),
        ("* | stats count(ip) n", "n=4"),
        ("* | stats count(ip, duration) n", "n=5"),
        ("* | stats count(request*) n, count(absent*) none", "n=4 none=0"),
        ("* | stats count_empty(ip) n, count_empty(ip, request_size) both", "n=1 both=1"),
        ("* | stats count_empty(request*) n", "n=1"),
        ("* | stats count_uniq(ip) ips, count_uniq(host, ip) pairs", "ips=3 pairs=5"),
        ("* | stats count_uniq(ip) limit 2 as few, count_uniq(ip) limit 1_000 all", "few=2 all=3"),
        ("* | stats count_uniq_hash(ip) n, count_uniq_hash(host, ip) pairs", "n=3 pairs=5"),
        ("* | count_uniq(absent) n, count_uniq(host)", "n=0 count_uniq(host)=2"),
        (
            "* | stats count() if (GET) gets, count() if (POST) posts, count() if (PUT) puts, \
             count() total, count() if (absent:x) none",
            "gets=3 posts=1 puts=1 total=5 none=0",
        ),
        ("* | count(), count() if (GET)", "count()=5 count() if (GET)=3"),
    ] {
        gives(&lab, query, &[expected]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_that_keep_values() {
    let lab = requests().await;
    for (query, expected) in [
        ("* | stats uniq_values(ip) ips", r#"ips=["10.0.0.1","10.0.0.2","10.0.1.1"]"#),
        (
            "* | stats uniq_values(ip, host) all",
            r#"all=["10.0.0.1","10.0.0.2","10.0.1.1","a","b"]"#,
        ),
        ("* | stats uniq_values(request*) all", r#"all=["100","9000","12000","15000"]"#),
        ("absent:x | stats uniq_values(ip) a, values(ip) b, json_values() c", "a=[] b=[] c=[]"),
        ("id:4 | stats values(ip) ips", r#"ips=[""]"#),
        ("id:4 | stats values(ip*) ips", "ips=[]"),
        ("id:1 | stats values(ip, host) all", r#"all=["a","10.0.0.2"]"#),
        (
            "id:<2 | stats json_values(_msg, id) sort by (id desc) as rows",
            r#"rows=[{"_msg":"POST /1","id":"1"},{"_msg":"GET /0","id":"0"}]"#,
        ),
        (
            "* | stats json_values(i*) sort by (host, id desc) limit 2 as rows",
            r#"rows=[{"id":"4"},{"id":"1","ip":"10.0.0.2"}]"#,
        ),
        (
            "id:0 | stats json_values() rows",
            r#"rows=[{"_msg":"GET /0","_stream":"{host=\"a\"}","_time":"2026-01-02T00:00:00Z","duration":"10ms","host":"a","id":"0","ip":"10.0.0.1","request_size":"100"}]"#,
        ),
        ("* | stats row_max(request_size, id, host) r", r#"r={"host":"b","id":"2"}"#),
        ("* | stats row_min(duration, id*) r", r#"r={"id":"0"}"#),
        ("* | stats row_max(_time, id) r", r#"r={"id":"4"}"#),
        ("* | stats row_max(absent, id) r", "r={}"),
        ("id:3 | stats row_any(id, ip) r", r#"r={"id":"3","ip":"10.0.0.1"}"#),
        ("absent:x | stats row_any() r, any(ip) a, field_max(id, ip) b", "r={}"),
        ("id:3 | stats any(absent, ip) v", "v=10.0.0.1"),
        ("* | stats field_max(request_size, ip) a, field_min(id, _msg) b", "a=10.0.1.1 b=GET /0"),
    ] {
        gives(&lab, query, &[expected]).await;
    }
    let limited =
        lab.logsql("* | stats uniq_values(ip) limit 2 as a, values(id) limit 3 as b").await;
    let commas: Vec<usize> =
        limited[0].split(" b=").map(|list| list.matches(',').count()).collect();
    assert_eq!(commas, [1, 2], "{limited:?}");
    let of_group = "* | stats by (host) row_max(id) r, row_any() x | fields host, r";
    let rows = lab.sorted(of_group).await;
    assert!(rows[0].contains(r#""id":"4""#) && rows[1].contains(r#""id":"3""#), "{rows:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn histograms() {
    let lab = Lab::new().await;
    let sizes = ["0", "1", "1.1", "1KiB", "1.25ms", "1e30", "-5", "x", "1.0"];
    let records: Vec<Record> =
        sizes.iter().zip(0i64..).map(|(size, id)| record(DAY + id, "m").with("s", *size)).collect();
    lab.fill(&records).await;
    let ranges = [
        ("0...1.000e-09", 1),
        ("8.799e-01...1.000e+00", 2),
        ("1.000e+00...1.136e+00", 1),
        ("1.000e+03...1.136e+03", 1),
        ("1.136e+06...1.292e+06", 1),
        ("1.000e+18...+Inf", 1),
    ];
    let ranges = ranges.map(|(range, hits)| format!(r#"{{"vmrange":"{range}","hits":{hits}}}"#));
    let expected = format!("h=[{}]", ranges.join(","));
    assert_eq!(lab.logsql("* | stats histogram(s) h").await, [expected]);
    assert_eq!(lab.logsql("* | stats histogram(absent) h").await, ["h=[]"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rates_are_per_second_of_the_time_that_is_asked_for() {
    let lab = requests().await;
    let within = "_time:[2026-01-02T00:00:00Z, 2026-01-02T00:00:50Z)";
    gives(&lab, &format!("{within} | stats rate() r"), &["r=0.1"]).await;
    let sums = format!("{within} | stats by (host) rate_sum(request_size) r, rate()");
    gives(&lab, &sums, &["host=a r=182 rate()=0.06", "host=b r=540 rate()=0.04"]).await;
    // Without bounds nothing is known to divide by.
    gives(&lab, "* | stats rate() r, rate_sum(request*) s", &["r=5 s=36100"]).await;
    let mut request = lab.request("GET | stats rate() r");
    (request.start_ns, request.end_ns) = (Some(DAY), Some(DAY + 10 * S));
    assert_eq!(lab.ask(request).await.unwrap(), ["r=0.1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_and_buckets() {
    let lab = requests().await;
    for (query, expected) in [
        (
            "* | stats by (host) count() n, count_uniq(ip) ips",
            &["host=a n=3 ips=2", "host=b n=2 ips=2"][..],
        ),
        ("* | stats (host) count() n", &["host=a n=3", "host=b n=2"]),
        ("* | by (host) count() n", &["host=a n=3", "host=b n=2"]),
        (
            "* | stats by (_time:20s) count() n",
            &[
                "_time=2026-01-02T00:00:00Z n=2",
                "_time=2026-01-02T00:00:20Z n=2",
                "_time=2026-01-02T00:00:40Z n=1",
            ],
        ),
        ("* | stats by (_time:minute) count() n", &["_time=2026-01-02T00:00:00Z n=5"]),
        ("* | stats by (_time:hour) count() n", &["_time=2026-01-02T00:00:00Z n=5"]),
        ("* | stats by (_time:1d) count() n", &["_time=2026-01-02T00:00:00Z n=5"]),
        ("* | stats by (_time:week) count() n", &["_time=2025-12-29T00:00:00Z n=5"]),
        ("* | stats by (_time:month) count() n", &["_time=2026-01-01T00:00:00Z n=5"]),
        ("* | stats by (_time:year) count() n", &["_time=2026-01-01T00:00:00Z n=5"]),
        ("* | stats by (_time:1d offset 2h) count() n", &["_time=2026-01-01T22:00:00Z n=5"]),
        ("* | stats by (_time:1d offset -2h) count() n", &["_time=2026-01-01T02:00:00Z n=5"]),
        ("* | stats by (_time:month offset -1h) count() n", &["_time=2026-01-01T01:00:00Z n=5"]),
        (
            "* | stats by (request_size:10KB) count() requests",
            &["request_size=0 requests=2", "request_size=10000 requests=2", "requests=1"],
        ),
        ("* | stats by (id:2 offset 1) count() n", &["id=-1 n=1", "id=1 n=2", "id=3 n=2"]),
        (
            "* | stats by (ip:/24) count() per_subnet",
            &["ip=10.0.0.0 per_subnet=3", "ip=10.0.1.0 per_subnet=1", "per_subnet=1"],
        ),
        (
            "* | stats by (duration:1s) count() n",
            &[
                "duration=0 n=1",
                "duration=1000000000 n=1",
                "duration=120000000000 n=1",
                "duration=none n=1",
                "n=1",
            ],
        ),
        ("* | stats by (host, host) count() n", &["host=a n=3", "host=b n=2"]),
        ("* | stats by (absent) count() n", &["n=5"]),
        ("nothing | stats by (host) count() n", &[]),
        ("nothing | stats count() n, sum(id) s", &["n=0 s=NaN"]),
    ] {
        gives(&lab, query, expected).await;
    }
}

#[test]
fn wrong_stats_point_at_the_column() {
    let wrong = |query: &str, expected: Expect| {
        let error = logsql::parse(query, DAY).expect_err(query);
        expected.assert_eq(&format!("{}: {error}", error.column));
    };
    wrong("* | stats histogram(a, b)", expect!["20: histogram(…) needs the name of one field"]);
    wrong(
        "* | stats rate(a)",
        expect!["15: rate(…) takes no fields; write rate() or rate_sum(field)"],
    );
    wrong(
        "* | stats row_max()",
        expect!["18: row_max(…) needs the name of a field first, by whose value it chooses"],
    );
    wrong(
        "* | stats row_min(a*)",
        expect!["18: row_min(…) needs the name of a field first, by whose value it chooses"],
    );
    wrong(
        "* | stats field_max(a)",
        expect![
            "20: field_max(…) needs the names of two fields: by whose value it chooses, and whose it gives"
        ],
    );
    wrong(
        "* | stats quantile(a)",
        expect![
            "19: quantile(phi, field) needs a number from 0 to 1 first, for example quantile(0.99, size)"
        ],
    );
    wrong("* | stats count_uniq(a) limit x", expect!["31: expected a number of values, not `x`"]);
    wrong(
        "* | stats count() if (a",
        expect!["24: expected `)` after the filters of `if`, not the end of the query"],
    );
    wrong(
        "* | stats by (ip:/33) count()",
        expect!["18: expected a network of 0 to 32 bits, for example /24"],
    );
    wrong(
        "* | stats by (_time:1d offset x) count()",
        expect![
            "31: `x` is no offset; write a duration like 2h or, for other fields than _time, a whole number"
        ],
    );
    wrong("* | stats by () count()", expect!["14: `stats by (…)` needs at least one field"]);
}

#[test]
fn stats_agree_with_the_documentation_model() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let config = Config { cases: 32, failure_persistence: None, ..Config::default() };
    let keys = proptest::sample::subsequence(Key::ALL, 0..=2);
    let question = (ask(), keys, vec((Call::any(), proptest::option::weighted(0.2, ask())), 1..5));
    TestRunner::new(config)
        .run(&(records(), vec(question, 12)), |(records, questions)| {
            runtime.block_on(async {
                let lab = Lab::new().await;
                lab.fill(&records).await;
                for (ask, keys, calls) in questions {
                    let by: Vec<&str> = keys.iter().map(|key| key.text()).collect();
                    let calls_text: Vec<String> = (calls.iter().enumerate())
                        .map(|(place, (call, only))| {
                            let only = only.as_ref().map(|only| format!(" if ({})", only.text()));
                            format!("{}{} as c{place}", call.text(), only.unwrap_or_default())
                        })
                        .collect();
                    let by = match by.as_slice() {
                        [] => String::new(),
                        by => format!("by ({}) ", by.join(", ")),
                    };
                    let query = format!("{} | stats {by}{}", ask.text(), calls_text.join(", "));
                    let rows = lab.engine.logsql(lab.request(&query)).await.unwrap();
                    let rows = table(&rows.collect().await.unwrap());
                    let matching: Vec<&Record> =
                        records.iter().filter(|record| ask.matches(record)).collect();
                    let groups = crate::naive_stats::groups(&matching, &keys);
                    prop_assert_eq!(rows.len(), groups.len(), "{}", query);
                    for row in &rows {
                        let key: Vec<String> = keys.iter().map(|key| key.of_row(row)).collect();
                        let Some(group) = groups.get(&key) else {
                            return Err(TestCaseError::fail(format!("{query}: no group {key:?}")));
                        };
                        for (place, (call, only)) in calls.iter().enumerate() {
                            let rows: Vec<&Record> = group
                                .iter()
                                .copied()
                                .filter(|record| {
                                    only.as_ref().is_none_or(|only| only.matches(record))
                                })
                                .collect();
                            let found = row.get(&format!("c{place}")).cloned().unwrap_or_default();
                            let agrees = call.agrees(&rows, &found);
                            prop_assert!(agrees, "{}: {:?} of {:?}: {}", query, call, key, found);
                        }
                    }
                }
                Ok(())
            })
        })
        .unwrap();
}
