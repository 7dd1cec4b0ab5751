//! Random records and random filters: the engine and the naive evaluator must agree.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::fixture::{DAY, Lab, Record, S, Value, record};
use crate::naive::{Ask, Test};

const TEXTS: &[&str] = &[
    "",
    "error",
    "errors",
    "Error",
    "an error happened",
    "error: cannot open file /foo/bar",
    "cannot open file: error",
    "ошибка чтения",
    "foo_error(bar)",
    "10",
    "-3",
    "2.5",
    "007",
    "true",
    "10ms",
    "1s",
    "2KiB",
    "host-9",
    "host-10",
    "10.0.0.7",
    "10.0.1.200",
    "2001:db8::1",
    "2026-01-02T03:04:05Z",
    "ERROR",
    "[\"error\", 10]",
    "a\"quote\\and\nline",
];

const WORDS: &[&str] =
    &["error", "err", "open file", "cannot", "ошибка", "10", "true", "host", "bar)", "-3", "foo"];

const FIELDS: &[&str] = &["_msg", "level", "n", "mixed", "app", "absent", "rare", "trace"];

const TRACES: &[&str] = &[
    "0af7651916cd43dd8448eb211c80319c",
    "0af7651916cd43dd8448eb211c80319d",
    "00000000000000000000000000000001",
    "ffffffffffffffffffffffffffffffff",
];
/// What stands where an identifier should.
const NO_TRACES: &[&str] = &["", "0AF7651916CD43DD8448EB211C80319C", "-"];

fn pick(from: &'static [&'static str]) -> impl Strategy<Value = String> + Clone {
    proptest::sample::select(from).prop_map(str::to_owned)
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        pick(TEXTS).prop_map(Value::Str),
        (-20i64..20).prop_map(Value::Int),
        proptest::sample::select(&[0.5, 2.5, -1.25, 1000.0, 3.0][..]).prop_map(Value::Float),
        any::<bool>().prop_map(Value::Bool),
    ]
}

/// Records with distinct times, some with fields of one type, some with fields of any.
pub fn records() -> impl Strategy<Value = Vec<Record>> {
    let one = (
        proptest::option::weighted(0.9, pick(TEXTS)),
        pick(&["api", "web", "db"]),
        proptest::option::of(pick(&["a", "b"])),
        proptest::option::of(pick(&["info", "warn", "error", ""])),
        proptest::option::of(-5i64..5),
        proptest::option::of(value()),
        proptest::option::weighted(0.1, value()),
        0i64..1000,
        proptest::option::weighted(0.7, prop_oneof![50 => pick(TRACES), 1 => pick(NO_TRACES)]),
    );
    vec(one, 1..60).prop_map(|rows| {
        let mut records = Vec::new();
        for (index, row) in rows.into_iter().enumerate() {
            let (msg, app, host, level, n, mixed, rare, jitter, trace) = row;
            // Times in no order, none twice.
            let place = (index as i64 * 37) % 64;
            let mut record = record(DAY + place * S + jitter, "").label("app", &app);
            record.msg = msg;
            if let Some(host) = host {
                record = record.label("host", &host);
            }
            if let Some(level) = level {
                record = record.with("level", level.as_str());
            }
            if let Some(n) = n {
                record = record.with("n", n);
            }
            if let Some(mixed) = mixed {
                record.fields.push(("mixed".into(), mixed));
            }
            if let Some(rare) = rare {
                record.fields.push(("rare".into(), rare));
            }
            if let Some(trace) = trace {
                record = record.with("trace", trace.as_str());
            }
            records.push(record.with("id", index as i64));
        }
        records
    })
}

fn test() -> impl Strategy<Value = Test> {
    let number = proptest::sample::select(&[-3.0, 0.0, 2.5, 10.0, 1e7, 2048.0][..]);
    let operator = pick(&[">", ">=", "<", "<="]);
    prop_oneof![
        3 => pick(WORDS).prop_map(Test::Phrase),
        2 => pick(WORDS).prop_map(Test::Prefix),
        1 => pick(TEXTS).prop_map(Test::Exact),
        1 => pick(WORDS).prop_map(Test::ExactPrefix),
        1 => pick(WORDS).prop_map(Test::AnyCase),
        1 => pick(WORDS).prop_map(Test::Substring),
        1 => pick(&["err|warn", "^a", "o+", "[0-9]$", "(?i)ERROR", r"\d{2}"]).prop_map(Test::Regex),
        1 => vec(pick(WORDS), 1..3).prop_map(Test::Sequence),
        1 => vec(pick(WORDS), 1..3).prop_map(Test::ContainsAny),
        1 => vec(pick(WORDS), 1..3).prop_map(Test::ContainsAll),
        1 => vec(pick(TEXTS), 0..4).prop_map(Test::In),
        1 => (number.clone(), number.clone(), any::<bool>(), any::<bool>()).prop_map(
            |(min, max, min_open, max_open)| Test::Range { min, max, min_open, max_open }
        ),
        1 => (operator.clone(), number)
            .prop_map(|(operator, number)| Test::Compare { operator, number }),
        1 => (operator, pick(&["error", "host-9", "z"]))
            .prop_map(|(operator, text)| Test::TextCompare { operator, text }),
        1 => (0usize..6, 0usize..20).prop_map(|(min, more)| Test::Length(min, min + more)),
        1 => (pick(TEXTS), pick(TEXTS)).prop_map(|(min, max)| Test::TextRange { min, max }),
        1 => pick(WORDS).prop_map(Test::AnyCasePrefix),
        1 => pick(&["10.0.0.0", "10.0.1.0"])
            .prop_map(|min| Test::Ipv4(min, "10.0.1.200".to_owned())),
        1 => pick(&["::", "2001:db8::1", "2001:db8::2"])
            .prop_map(|min| Test::Ipv6(min, "2001:db9::".to_owned())),
        1 => pick(&["string", "uint8", "uint64", "int64", "float64", "ipv4", "iso8601"])
            .prop_map(Test::Kind),
        1 => vec(pick(&["error", "10", "host"]), 0..3).prop_map(Test::JsonArray),
        1 => vec(pick(&["Error", "error", "Host", "OPEN"]), 1..3)
            .prop_map(Test::ContainsCommonCase),
        1 => vec(pick(&["Error", "ERROR", "True"]), 1..3).prop_map(Test::EqualsCommonCase),
        1 => (
            pick(&[
                "pattern_match",
                "pattern_match_full",
                "pattern_match_prefix",
                "pattern_match_suffix",
            ]),
            pick(&["host-<N>", "error", "-<N>"]),
        )
            .prop_map(|(function, pattern)| Test::Pattern { function, pattern }),
        1 => Just(Test::Empty),
        1 => Just(Test::Any),
    ]
}

pub fn ask() -> impl Strategy<Value = Ask> {
    let leaf = prop_oneof![
        8 => (pick(FIELDS), test()).prop_map(|(field, test)| Ask::Field { field, test }),
        1 => (pick(FIELDS), vec(test(), 1..4), any::<bool>())
            .prop_map(|(field, tests, any)| Ask::Group { field, tests, any }),
        1 => (0i64..64, 0i64..64, any::<bool>()).prop_map(|(from, to, to_open)| Ask::Time {
            from: DAY + from * S,
            to: DAY + to * S,
            to_open,
        }),
        1 => (pick(&["app", "host", "absent"]), pick(&["api", "a", ""]), any::<bool>())
            .prop_map(|(label, value, negated)| Ask::Stream { label, value, negated }),
        1 => (pick(&["app", "host"]), pick(&["api|web", "a.*", ".*"]))
            .prop_map(|(label, regex)| Ask::StreamRegex { label, regex }),
        1 => (pick(&["_m", "m", "l", "h", "absent", "app", "n"]), test())
            .prop_map(|(prefix, test)| Ask::AnyField { prefix, test }),
        1 => (
            pick(FIELDS),
            pick(&["eq_field", "lt_field", "le_field"]),
            pick(FIELDS),
        )
            .prop_map(|(left, function, right)| Ask::Compare { left, function, right }),
        1 => (0i64..3, 0i64..1440, any::<bool>(), any::<bool>(), -90i64..90).prop_map(
            |(from, to, from_open, to_open, offset)| Ask::DayRange {
                from, to, from_open, to_open, offset
            }
        ),
        1 => (0usize..7, 0usize..7, any::<bool>(), any::<bool>(), -60i64..60).prop_map(
            |(from, to, from_open, to_open, offset)| Ask::WeekRange {
                from, to, from_open, to_open, offset
            }
        ),
        1 => (pick(&["app", "host"]), vec(pick(&["api", "a", ""]), 0..3), any::<bool>())
            .prop_map(|(label, values, negated)| Ask::StreamIn { label, values, negated }),
        1 => Just(Ask::All),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 1..4).prop_map(Ask::And),
            vec(inner.clone(), 1..4).prop_map(Ask::Or),
            inner.prop_map(|inner| Ask::Not(Box::new(inner))),
        ]
    })
}

async fn ids(lab: &Lab, query: &str) -> Vec<i64> {
    let rows = lab.logsql(&format!("{query} | fields id")).await;
    let mut ids: Vec<i64> =
        rows.iter().map(|row| row.trim_start_matches("id=").parse().unwrap()).collect();
    ids.sort_unstable();
    ids
}

fn id(record: &Record) -> i64 {
    match record.fields.iter().find(|(name, _)| name == "id") {
        Some((_, Value::Int(id))) => *id,
        _ => panic!("a record without id"),
    }
}

#[test]
fn engine_agrees_with_the_documentation_model() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let config = Config { cases: 48, failure_persistence: None, ..Config::default() };
    let strategy = (records(), vec(ask(), 16));
    TestRunner::new(config)
        .run(&strategy, |(records, asks)| {
            runtime.block_on(async {
                let lab = Lab::new().await;
                lab.fill(&records).await;
                for ask in asks {
                    let query = ask.text();
                    let mut expected: Vec<i64> =
                        records.iter().filter(|record| ask.matches(record)).map(id).collect();
                    expected.sort_unstable();
                    prop_assert_eq!(ids(&lab, &query).await, expected, "{}", query);
                }
                Ok(())
            })
        })
        .unwrap();
}

#[test]
fn last_n_agrees_with_a_full_sort_model() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let config = Config { cases: 24, failure_persistence: None, ..Config::default() };
    let strategy = (records(), vec((ask(), 0usize..70, 0usize..5), 6));
    TestRunner::new(config)
        .run(&strategy, |(records, asks)| {
            runtime.block_on(async {
                let lab = Lab::new().await;
                lab.fill(&records).await;
                for (ask, limit, offset) in asks {
                    let query = ask.text();
                    let mut newest: Vec<&Record> =
                        records.iter().filter(|record| ask.matches(record)).collect();
                    newest.sort_by_key(|record| std::cmp::Reverse(record.time));
                    let wanted = |records: &[&Record]| -> Vec<String> {
                        records
                            .iter()
                            .skip(offset)
                            .take(limit)
                            .map(|record| format!("id={}", id(record)))
                            .collect()
                    };
                    let expected = wanted(&newest);
                    let mut request = lab.request(&format!("{query} | fields id"));
                    request.limit = Some(limit);
                    request.offset = Some(offset);
                    prop_assert_eq!(lab.ask(request).await.unwrap(), expected.clone(), "{}", query);
                    let sorted = format!(
                        "{query} | sort by (_time desc) offset {offset} limit {limit} | fields id"
                    );
                    prop_assert_eq!(lab.logsql(&sorted).await, expected.clone(), "{}", sorted);
                    newest.reverse();
                    let oldest = format!("{query} | sort by (_time) | limit {limit} | fields id");
                    let first: Vec<String> = newest
                        .iter()
                        .take(limit)
                        .map(|record| format!("id={}", id(record)))
                        .collect();
                    prop_assert_eq!(lab.logsql(&oldest).await, first, "{}", oldest);
                }
                Ok(())
            })
        })
        .unwrap();
}
