//! What the generated workloads promise: same seed, same bytes; the planted counts; the shape that
//! each says it has; facts that agree with a naive reading.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use lodge_bench::corpus;
use lodge_bench::oracle::{Fact, Facts};
use lodge_bench::workload::fleet::{HOSTS, PODS};
use lodge_bench::workload::{Fleet, Kind, WorkloadOptions, planted, systems, wide};
use serde_json::Value;

fn options(records: u64, seed: u64) -> WorkloadOptions {
    WorkloadOptions { records, seed, ..WorkloadOptions::default() }
}

fn generate(kind: Kind, records: u64, seed: u64) -> Vec<u8> {
    let mut generator = kind.generator(options(records, seed));
    let mut out = Vec::new();
    while generator.next_line(&mut out) {}
    out
}

fn facts(kind: Kind, records: u64, seed: u64, out: &mut Vec<u8>) -> Facts {
    let options = options(records, seed);
    let questions = kind.questions(&options);
    corpus::write(kind, options, questions, out, |_| ()).unwrap()
}

fn rows(bytes: &[u8]) -> Vec<BTreeMap<String, Value>> {
    let text = std::str::from_utf8(bytes).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text<'a>(row: &'a BTreeMap<String, Value>, field: &str) -> &'a str {
    row[field].as_str().unwrap()
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    // Figures are compared across releases, so these bytes may only change together with
    // Kind::generation.
    let known = [
        (Kind::Fleet, "b6217965abbba736"),
        (Kind::Systems, "2fa2d44452aff1c0"),
        (Kind::Wide, "936fe92409828f35"),
    ];
    for (kind, known) in known {
        let hash = |seed| blake3::hash(&generate(kind, 5_000, seed)).to_hex().to_string();
        assert_eq!(hash(1), hash(1));
        assert_ne!(hash(1), hash(2));
        assert_eq!(&hash(1)[..16], known, "{kind:?}");
    }
}

#[test]
fn planted_words_occur_as_often_as_promised() {
    let records = 20_050;
    for kind in Kind::ALL {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for row in rows(&generate(kind, records, 7)) {
            for word in [planted::NEEDLE, planted::HUNDRED, planted::PER_MILLE, planted::PER_CENT] {
                let found = text(&row, "message").matches(word).count() as u64;
                *counts.entry(word).or_default() += found;
            }
        }
        assert_eq!(counts[planted::NEEDLE], 1);
        assert_eq!(counts[planted::HUNDRED], 100);
        assert_eq!(counts[planted::PER_MILLE], records / 1000);
        assert_eq!(counts[planted::PER_CENT], records / 100);
    }
}

#[test]
fn facts_agree_with_a_naive_reading_of_the_lines() {
    let mut bytes = Vec::new();
    let facts = facts(Kind::Fleet, 30_000, 3, &mut bytes);
    let rows = rows(&bytes);
    assert_eq!(facts.records, rows.len() as u64);
    assert_eq!(facts.bytes, bytes.len() as u64);
    let count = |keep: &dyn Fn(&BTreeMap<String, Value>) -> bool| {
        rows.iter().filter(|row| keep(row)).count() as u64
    };
    let Fact::Counts(levels) = &facts.answers["SQL count by level"] else { panic!() };
    for (level, &expected) in levels {
        assert_eq!(count(&|row| text(row, "level") == level), expected, "{level}");
    }
    let Fact::Counts(hosts) = &facts.answers["top hosts of errors"] else { panic!() };
    for (host, &expected) in hosts {
        let errors = count(&|row| text(row, "host") == host && text(row, "level") == "error");
        assert_eq!(errors, expected, "{host}");
    }
    let Fact::Numbers(services) = &facts.answers["sum, avg, p99 by service"] else { panic!() };
    assert_eq!(services.len(), 20);
    for (service, numbers) in services {
        let of_service = rows.iter().filter(|row| text(row, "service") == service);
        let durations: Vec<f64> =
            of_service.filter_map(|row| row.get("duration_ms")?.as_f64()).collect();
        assert_eq!(durations.len() as u64, numbers.count, "{service}");
        assert!(
            (durations.iter().sum::<f64>() - numbers.sum_thousandths as f64 / 1e3).abs() < 1e-3,
            "{service}"
        );
        let over = durations
            .iter()
            .filter(|&&ms| ms * 1e3 > numbers.p99_thousandths.1 as f64 + 0.5)
            .count();
        assert!(over as f64 <= 0.006 * durations.len() as f64, "{service}");
    }
    let word = |row: &BTreeMap<String, Value>, word: &str| {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        text(row, "message").split(|c| !is_word(c)).any(|token| token == word)
    };
    let error_failed =
        |row: &BTreeMap<String, Value>| text(row, "level") == "error" && word(row, "failed");
    let expected = [
        ("substring inside a word", count(&|row| text(row, "message").contains("ceiver"))),
        ("two words, count", count(&|row| word(row, "upstream") && word(row, "timeout"))),
        ("either word, count", count(&|row| word(row, "refused") || word(row, "timeout"))),
        ("negation, count", count(&|row| text(row, "level") == "error") - count(&error_failed)),
    ];
    for (class, expected) in expected {
        assert_eq!(facts.answers[class], Fact::Count(expected), "{class}");
    }
    let Fact::Newest(newest) = &facts.answers["last 100 of level + word"] else { panic!() };
    assert_eq!(newest.len() as u64, count(&error_failed).min(100));
    assert!(newest.is_sorted_by(|a, b| a >= b));
}

#[test]
fn every_question_has_an_answer_that_tells_something() {
    for kind in Kind::ALL {
        let facts = facts(kind, 60_000, 1, &mut Vec::new());
        let questions = kind.questions(&options(60_000, 1));
        assert!(questions.len() >= 20, "{kind:?} asks {}", questions.len());
        assert_eq!(facts.answers.len(), questions.len(), "{kind:?} has a class twice");
        for (class, fact) in &facts.answers {
            let empty = match fact {
                Fact::Count(n) | Fact::Rows(n, _) => *n == 0,
                Fact::Newest(times) => times.is_empty(),
                Fact::Histogram(rows) => rows.is_empty(),
                Fact::Counts(counts) => counts.is_empty(),
                Fact::Numbers(groups) => groups.is_empty(),
            };
            assert!(!empty, "{kind:?}: nothing answers {class}");
        }
    }
}

#[test]
fn the_systems_write_as_their_systems_do() {
    let names = systems::Systems::new(options(1, 1)).names();
    assert!(names.len() >= 8);
    let rows = rows(&generate(Kind::Systems, 20_000, 1));
    for name in names {
        let shape = match name {
            "hdfs" => r"^\d{6} \d{6} \d+ (DEBUG|INFO|WARN|ERROR) dfs\.",
            "spark" => r"^\d\d/\d\d/\d\d \d\d:\d\d:\d\d (INFO|WARN|ERROR) \w+\.\w+: ",
            "zookeeper" => r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} - (INFO|WARN|ERROR) \[",
            "sshd" => r"^[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d bastion-\d+ sshd\[\d+\]: ",
            "nginx" => {
                r#"^\d+\.\d+\.\d+\.\d+ - - \[\d\d/[A-Z][a-z]{2}/\d{4}:[\d:]{8} \+0000\] "[A-Z]+ "#
            }
            "kernel" => r"^[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d node-\d+ kernel: \[\d+\.\d+\] ",
            "android" => r"^\d\d-\d\d [\d:]{8}\.\d{3} \d+ \d+ [DIWE] \w+: ",
            "postgresql" => r"^\d{4}-\d\d-\d\d [\d:]{8}\.\d{3} UTC \[\d+\] [\w.]+@\w+ [A-Z]+:  ",
            "java" => r"^\d{4}-\d\d-\d\d [\d:]{8}\.\d{3} [ A-Z]{5} \d --- \[",
            "openstack" => r"^nova-\w+\.log \d{4}-\d\d-\d\d [\d:]{8}\.\d{3} \d+ [A-Z]+ \w+\.",
            other => panic!("no shape of {other}"),
        };
        let shape = regex::Regex::new(shape).unwrap();
        let mut lines = 0;
        for row in rows.iter().filter(|row| text(row, "system") == name) {
            lines += 1;
            assert!(shape.is_match(text(row, "message")), "{name}: {}", text(row, "message"));
        }
        assert!(lines > 300, "{lines} of {name}");
    }
    let traces = rows.iter().filter(|row| text(row, "message").contains("\n\tat ")).count();
    assert!(traces > 50, "{traces} stack traces");
}

#[test]
fn events_are_wide_and_nested() {
    assert!(wide::fields() >= 150, "{} fields", wide::fields());
    let rows = rows(&generate(Kind::Wide, 2_000, 1));
    fn leaves(value: &Value) -> usize {
        value.as_object().map_or(1, |fields| fields.values().map(leaves).sum())
    }
    fn depth(value: &Value) -> usize {
        value.as_object().map_or(0, |fields| 1 + fields.values().map(depth).max().unwrap_or(0))
    }
    let most = rows.iter().map(|row| row.values().map(leaves).sum::<usize>()).max().unwrap();
    assert!(most >= 120, "{most} fields in one event");
    assert!(rows.iter().flat_map(|row| row.values()).map(depth).max().unwrap() >= 3);
}

#[test]
fn the_fleet_has_the_shape_that_it_says() {
    let records = 60_000;
    let bytes = generate(Kind::Fleet, records, 11);
    let rows = rows(&bytes);
    let share = |keep: &dyn Fn(&BTreeMap<String, Value>) -> bool| {
        rows.iter().filter(|row| keep(row)).count() as f64 / records as f64
    };
    let distinct = |field: &str| rows.iter().map(|row| text(row, field)).collect::<BTreeSet<_>>();
    assert_eq!(distinct("service").len(), 20);
    assert_eq!(distinct("host").len(), HOSTS);
    assert_eq!(distinct("pod").len(), PODS);
    assert_eq!(distinct("namespace").len(), 5);
    let streams: BTreeSet<_> = rows
        .iter()
        .map(|row| (text(row, "service"), text(row, "host"), text(row, "pod")))
        .collect();
    assert_eq!(streams.len(), PODS, "a pod keeps its host and service");

    let mean_bytes = bytes.len() as f64 / records as f64;
    assert!((350.0..380.0).contains(&mean_bytes), "{mean_bytes} bytes a record");
    let level = |name: &'static str| share(&move |row| text(row, "level") == name);
    assert!((level("info") - 0.85).abs() < 0.01);
    assert!((level("debug") - 0.08).abs() < 0.01);
    assert!((level("warn") - 0.05).abs() < 0.005);
    assert!((level("error") - 0.02).abs() < 0.003);
    assert!((share(&|row| row.contains_key("duration_ms")) - 1.0 / 3.0).abs() < 0.01);
    let per_trace = records as f64 / distinct("trace_id").len() as f64;
    assert!((4.5..5.5).contains(&per_trace), "{per_trace} records a trace");
    assert!(distinct("trace_id").iter().all(|id| id.len() == 32));
}

#[test]
fn messages_come_from_more_than_200_templates() {
    let mut workload = Fleet::new(options(60_000, 5));
    assert!(workload.templates() >= 200);
    let mut out = Vec::new();
    let mut used = BTreeSet::new();
    while let Some(written) = workload.next_record(&mut out) {
        used.insert(written.template);
        let message = String::from_utf8_lossy(&out[written.message]).into_owned();
        assert!(!message.contains('{') && message.len() > 20, "{message:?}");
        out.clear();
    }
    assert!(used.len() >= 200, "{} templates in use", used.len());
}

#[test]
fn times_nearly_increase_over_the_span() {
    let mut workload = Fleet::new(options(10_000, 1));
    let start_ns = workload.options().start_ns;
    let span_ns = workload.options().span.as_nanos() as i64;
    let (mut out, mut latest) = (Vec::new(), start_ns);
    while let Some(written) = workload.next_record(&mut out) {
        assert!(written.time_ns >= start_ns);
        assert!(written.time_ns <= start_ns + span_ns + 5_000_000_000);
        assert!(written.time_ns > latest - 5_000_000_000);
        latest = latest.max(written.time_ns);
    }
    assert!(latest > start_ns + span_ns / 100 * 99);
    let first: BTreeMap<String, Value> =
        serde_json::from_slice(out.split(|&b| b == b'\n').next().unwrap()).unwrap();
    let time: jiff::Timestamp = text(&first, "_time").parse().unwrap();
    assert!((0..5_000_000_000).contains(&(time.as_nanosecond() as i64 - start_ns)));
    assert_eq!(text(&first, "_time").len(), "2026-11-20T00:00:00.000000000Z".len());
}

#[test]
fn a_corpus_is_written_once_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(2_000, 1);
    let cached = |progress: &mut dyn FnMut(u64)| {
        corpus::cached(dir.path(), Kind::Fleet, &options, progress).unwrap()
    };
    let first = cached(&mut |_| ());
    let mut written_again = false;
    let second = cached(&mut |_| written_again = true);
    assert!(!written_again);
    assert!(first.facts == second.facts, "the facts were not kept as they were");
    // A truncated file is not trusted.
    std::fs::write(&first.path, b"{}\n").unwrap();
    cached(&mut |_| written_again = true);
    assert!(written_again);
    assert_eq!(std::fs::metadata(&first.path).unwrap().len(), first.facts.bytes);
}

#[test]
fn a_size_in_bytes_is_met_within_two_percent() {
    let wanted = 8_000_000;
    for kind in Kind::ALL {
        let records = kind.records_for_bytes(&options(0, 1), wanted);
        let got = generate(kind, records, 1).len() as f64;
        assert!((got / wanted as f64 - 1.0).abs() < 0.02, "{kind:?}: {got}");
    }
}
