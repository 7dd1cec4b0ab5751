//! What the generated fleet promises: same seed, same bytes; the planted counts; the shape that it
//! says it has.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use lodge_bench::corpus;
use lodge_bench::workload::{HOSTS, PODS, Workload, WorkloadOptions, planted};
use serde_json::Value;

fn options(records: u64, seed: u64) -> WorkloadOptions {
    WorkloadOptions { records, seed, ..WorkloadOptions::default() }
}

fn generate(records: u64, seed: u64) -> Vec<u8> {
    let mut workload = Workload::new(options(records, seed));
    let mut out = Vec::new();
    while workload.next_record(&mut out).is_some() {}
    out
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
    let hash = |seed| blake3::hash(&generate(5_000, seed)).to_hex().to_string();
    assert_eq!(hash(1), hash(1));
    assert_ne!(hash(1), hash(2));
    // Figures are compared across releases, so these bytes may only change together with
    // corpus::GENERATION.
    assert_eq!(&hash(1)[..16], "b6217965abbba736");
}

#[test]
fn planted_words_occur_as_often_as_promised() {
    let records = 20_050;
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for row in rows(&generate(records, 7)) {
        for word in [planted::NEEDLE, planted::HUNDRED, planted::PER_MILLE, planted::PER_CENT] {
            *counts.entry(word).or_default() += text(&row, "message").matches(word).count() as u64;
        }
    }
    assert_eq!(counts[planted::NEEDLE], 1);
    assert_eq!(counts[planted::HUNDRED], 100);
    assert_eq!(counts[planted::PER_MILLE], records / 1000);
    assert_eq!(counts[planted::PER_CENT], records / 100);
}

#[test]
fn facts_agree_with_a_naive_reading_of_the_lines() {
    let mut bytes = Vec::new();
    let facts = corpus::write(options(30_000, 3), &mut bytes, |_| ()).unwrap();
    let rows = rows(&bytes);
    assert_eq!(facts.records, rows.len() as u64);
    assert_eq!(facts.bytes, bytes.len() as u64);
    let count = |keep: &dyn Fn(&BTreeMap<String, Value>) -> bool| {
        rows.iter().filter(|row| keep(row)).count() as u64
    };
    for (level, &expected) in &facts.levels {
        assert_eq!(count(&|row| text(row, "level") == level), expected, "{level}");
    }
    for (host, &expected) in &facts.errors_by_host {
        let errors = count(&|row| text(row, "host") == host && text(row, "level") == "error");
        assert_eq!(errors, expected, "{host}");
    }
    for (service, numbers) in &facts.services {
        let of_service = rows.iter().filter(|row| text(row, "service") == service);
        let durations: Vec<f64> =
            of_service.filter_map(|row| row.get("duration_ms")?.as_f64()).collect();
        assert_eq!(durations.len() as u64, numbers.count, "{service}");
        let sum: f64 = durations.iter().sum();
        assert!((sum - numbers.duration_us_sum as f64 / 1000.0).abs() < 1e-3, "{service}");
    }
    let regex = regex::Regex::new(lodge_bench::workload::facts::REGEX).unwrap();
    assert_eq!(count(&|row| regex.is_match(text(row, "message"))), facts.regex);
    assert_eq!(count(&|row| text(row, "message").contains("ceiver")), facts.substring);
    assert_eq!(count(&|row| text(row, "trace_id") == facts.trace.id), facts.trace.records);
    assert!(facts.trace.records >= 1 && facts.regex > 20 && facts.substring > 100);
    assert!(facts.newest_failures_ns.is_sorted_by(|a, b| a >= b));
    assert_eq!(facts.histogram.values().flatten().sum::<u64>(), facts.records);
}

#[test]
fn the_fleet_has_the_shape_that_it_says() {
    let records = 60_000;
    let bytes = generate(records, 11);
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
    let mut workload = Workload::new(options(60_000, 5));
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
    let mut workload = Workload::new(options(10_000, 1));
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
    let first = corpus::cached(dir.path(), &options, |_| ()).unwrap();
    let mut written_again = false;
    let second = corpus::cached(dir.path(), &options, |_| written_again = true).unwrap();
    assert!(!written_again);
    assert_eq!(first.facts, second.facts);
    // A truncated file is not trusted.
    std::fs::write(&first.path, b"{}\n").unwrap();
    corpus::cached(dir.path(), &options, |_| written_again = true).unwrap();
    assert!(written_again);
    assert_eq!(std::fs::metadata(&first.path).unwrap().len(), first.facts.bytes);
}

#[test]
fn a_size_in_bytes_is_met_within_a_percent() {
    let wanted = 8_000_000;
    let records = Workload::records_for_bytes(&options(0, 1), wanted);
    let got = generate(records, 1).len() as f64;
    assert!((got / wanted as f64 - 1.0).abs() < 0.01, "{got}");
}
