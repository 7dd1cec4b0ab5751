//! What the demo fleet promises: five files in five shapes, rotation by renaming, stack traces, a
//! story with incidents.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use lodge_bench::demo::story::{CALM, CYCLE, INCIDENT, Line, Mood, Service, Story};
use lodge_bench::demo::{self, DemoOptions};

/// What the shop logs in `cycles` cycles, one scene every 50 ms.
fn told(seed: u64, cycles: u32) -> Vec<Line> {
    let mut story = Story::new(seed);
    let start: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
    let steps = (CYCLE * cycles).as_millis() as u64 / 50;
    let mut lines: Vec<Line> =
        (0..steps).flat_map(|i| story.scene(start + Duration::from_millis(i * 50))).collect();
    lines.sort_by_key(|line| line.due);
    lines
}

fn of(lines: &[Line], service: Service) -> impl Iterator<Item = &str> {
    lines.iter().filter(move |line| line.service == service).map(|line| line.text.as_str())
}

#[test]
fn the_same_seed_tells_the_same_story() {
    assert_eq!(told(4, 1), told(4, 1));
    assert_ne!(told(4, 1), told(5, 1));
}

#[test]
fn each_service_writes_its_own_shape() {
    let lines = told(1, 2);
    for text in of(&lines, Service::ShopApi) {
        let row: BTreeMap<String, serde_json::Value> = serde_json::from_str(text).unwrap();
        for field in ["time", "level", "msg", "trace_id", "user_id"] {
            assert!(row.contains_key(field), "{text}");
        }
    }
    let access = regex::Regex::new(
        r#"(?x)^203\.0\.113\.\d+\x20-\x20-\x20\[\d\d/\w{3}/\d{4}:[\d:]{8}\x20\+0000\]\x20
        "[A-Z]+\x20/\S*\x20HTTP/1\.1"\x20\d{3}\x20\d+\x20"[^"]+"\x20"[^"]+"\x20
        rt=\d+\.\d{3}\x20trace=[0-9a-f]{32}$"#,
    )
    .unwrap();
    assert!(of(&lines, Service::Gateway).all(|text| access.is_match(text)));
    let logfmt = regex::Regex::new(
        r#"(?x)^time=2026-11-22T12:\d\d:[\d.]{6}Z\x20level=\w+\x20msg="[^"]+"\x20
        trace_id=[0-9a-f]{32}(\x20\w+=("[^"]+"|\S+))+$"#,
    )
    .unwrap();
    for text in of(&lines, Service::Worker) {
        assert!(logfmt.is_match(text), "{text}");
    }
    let plain =
        regex::Regex::new(r"^2026-11-22 12:\d\d:\d\d,\d{3} (DEBUG|INFO|WARN|ERROR)").unwrap();
    assert!(of(&lines, Service::Payments).all(|text| plain.is_match(text)));
    assert!(of(&lines, Service::Scheduler).all(|text| plain.is_match(text)));
}

#[test]
fn incidents_leave_traces_of_the_right_kind_at_the_right_time() {
    let lines = told(2, 2);
    let start = lines[0].due;
    let errors_in = |kind: Mood| {
        lines.iter().filter(move |line| {
            let mood = Story::mood_after(Duration::try_from(line.due - start).unwrap_or_default());
            mood == kind && line.text.contains("error") | line.text.contains("ERROR")
        })
    };
    let rate = |kind: Mood, seconds: f64| errors_in(kind).count() as f64 / seconds;
    let calm_s = ((CYCLE - INCIDENT) * 2).as_secs_f64();
    let calm = rate(Mood::Calm, calm_s);
    assert!(rate(Mood::PaymentTimeouts, INCIDENT.as_secs_f64()) > calm * 5.0);
    assert!(rate(Mood::DatabasePool, INCIDENT.as_secs_f64()) > calm * 5.0);

    let java = of(&lines, Service::Payments).find(|text| text.contains("\n\tat ")).unwrap();
    assert!(java.contains("\nCaused by: ") && java.lines().count() > 10, "{java}");
    let python = of(&lines, Service::Scheduler).find(|text| text.contains("Traceback")).unwrap();
    assert!(python.contains("\n  File \"/app/"), "{python}");
    for status in [502, 503, 504] {
        let wanted = format!("HTTP/1.1\" {status} ");
        assert!(of(&lines, Service::Gateway).any(|text| text.contains(&wanted)), "{status}");
    }
    assert_eq!(Story::mood_after(CALM - Duration::from_secs(1)), Mood::Calm);
}

#[test]
fn a_purchase_is_found_in_four_services_by_its_trace_id() {
    let lines = told(3, 1);
    let placed = of(&lines, Service::ShopApi).find(|text| text.contains("order placed")).unwrap();
    let row: BTreeMap<String, serde_json::Value> = serde_json::from_str(placed).unwrap();
    let trace = row["trace_id"].as_str().unwrap();
    let services: BTreeSet<&str> = lines
        .iter()
        .filter(|line| line.text.contains(trace))
        .map(|line| line.service.name())
        .collect();
    assert_eq!(services, BTreeSet::from(["gateway", "payments", "shop-api", "worker"]));
}

#[tokio::test]
async fn files_are_written_and_rotated_and_old_ones_removed() {
    let dir = tempfile::tempdir().unwrap();
    let options = DemoOptions {
        lines_per_s: 5_000,
        rotate_bytes: 20_000,
        keep_files: 2,
        duration: Some(Duration::from_millis(1500)),
        ..DemoOptions::new(dir.path())
    };
    let summary = demo::run(options, std::future::pending()).await.unwrap();
    assert!(summary.lines >= summary.records && summary.rotations > 5, "{summary:?}");
    for service in Service::ALL {
        assert!(dir.path().join(format!("{}.log", service.name())).exists());
    }
    assert!(dir.path().join("gateway.log.2").exists());
    assert!(!dir.path().join("gateway.log.3").exists());
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        // Records are whole: nothing begins or ends in the middle.
        assert!(text.is_empty() || text.ends_with('\n'));
        assert!(!text.starts_with([' ', '\t']) && !text.starts_with("Caused by"));
        assert!(text.len() < 60_000);
    }
}

#[tokio::test]
async fn shutdown_ends_it_and_a_second_run_continues_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let options = DemoOptions { lines_per_s: 2_000, ..DemoOptions::new(dir.path()) };
    let pause = || tokio::time::sleep(Duration::from_millis(400));
    demo::run(options.clone(), pause()).await.unwrap();
    let path = dir.path().join("shop-api.log");
    let first = std::fs::read_to_string(&path).unwrap();
    demo::run(options, pause()).await.unwrap();
    let second = std::fs::read_to_string(&path).unwrap();
    assert!(second.starts_with(&first) && second.len() > first.len());
}

#[tokio::test]
async fn a_rate_of_zero_is_refused_with_the_range() {
    let dir = tempfile::tempdir().unwrap();
    let options = DemoOptions { lines_per_s: 0, ..DemoOptions::new(dir.path()) };
    let error = demo::run(options, std::future::pending()).await.unwrap_err().to_string();
    assert!(error.contains("from 1 to"), "{error}");
}
