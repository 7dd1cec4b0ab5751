//! Who reads from a real server: curl a million rows, pandas and DuckDB Arrow and CSV, and
//! VictoriaLogs' own command-line client.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use support::{Server, found, json_lines, python, text};

const MIB: u64 = 1 << 20;

/// A figure of `/proc/PID/status`, in bytes.
fn memory(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.trim_start_matches(':').split_whitespace().next());
    kib.map_or(0, |kib| kib.parse::<u64>().unwrap() * 1024)
}

struct Streamed {
    rows: u64,
    bytes: u64,
    curl_peak: u64,
}

/// Has curl read all rows of a query; they are counted and thrown away as they come.
fn stream(server: &Server, query: &str) -> Streamed {
    let mut curl = Command::new(found("curl"))
        .args(["--silent", "--show-error", "--fail", "--no-buffer", "--data-urlencode"])
        .arg(format!("query={query}"))
        .arg(format!("{}/select/logsql/query", server.url))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut reader = BufReader::with_capacity(1 << 16, curl.stdout.take().unwrap());
    let mut streamed = Streamed { rows: 0, bytes: 0, curl_peak: 0 };
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).unwrap() > 0 {
        streamed.rows += 1;
        streamed.bytes += line.len() as u64;
        if streamed.rows.is_multiple_of(50_000) {
            streamed.curl_peak = streamed.curl_peak.max(memory(curl.id(), "VmHWM"));
        }
        line.clear();
    }
    assert!(curl.wait().unwrap().success());
    streamed
}

/// Waits until what came is built into segments: building takes memory of its own.
fn rest(server: &Server) {
    let mut seen = (0, String::new());
    for _ in 0..1_200 {
        let status = Command::new(found("curl"))
            .args(["--silent", "--fail", &format!("{}/api/v1/status", server.url)])
            .output()
            .unwrap();
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
        let segments = status["segments"].to_string();
        let same = if segments == seen.1 { seen.0 + 1 } else { 0 };
        if same >= 20 && status["segments"]["l0"] == 0 {
            return;
        }
        seen = (same, segments);
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("after two minutes not all is built: {}", seen.1);
}

#[test]
fn curl_streams_a_million_rows_without_memory_growth_on_either_side_e2e() {
    const ROWS: u64 = 1_000_000;
    let server = Server::start();
    for part in 0..4 {
        let lines = json_lines(part * ROWS / 4..(part + 1) * ROWS / 4);
        let path = server.file(&format!("in{part}.jsonl"), &lines);
        server.import(&path, &["--quiet"]);
    }
    rest(&server);
    // The first reading fills caches, which have a limit of their own.
    let first = stream(&server, "*");
    assert_eq!(first.rows, ROWS);
    let before = memory(server.pid(), "VmRSS");
    // From here on the peak is counted anew.
    std::fs::write(format!("/proc/{}/clear_refs", server.pid()), "5").unwrap();
    let second = stream(&server, "*");
    let peak = memory(server.pid(), "VmHWM");
    assert_eq!((second.rows, second.bytes), (ROWS, first.bytes));
    assert!(second.bytes > 200 * MIB, "{} bytes", second.bytes);
    assert!(peak < before + 64 * MIB, "the server grew from {before} to {peak} bytes");
    assert!(second.curl_peak > 0 && second.curl_peak < 48 * MIB, "{} bytes", second.curl_peak);
}

#[test]
fn pandas_and_duckdb_read_arrow_and_csv_e2e() {
    const ROWS: u64 = 30_000;
    let server = Server::start();
    let path = server.file("in.jsonl", &json_lines(0..ROWS));
    server.import(&path, &["--quiet"]);
    let logsql = "* | fields n, _time, level, service, _msg";
    let sql = "SELECT n, _time, level, service, _msg FROM logs";
    for (language, query) in [(None, logsql), (Some("--sql"), sql)] {
        let write = |name: &str| {
            let out = server.path(name);
            let mut args = vec!["query", query, "--output", out.to_str().unwrap()];
            args.extend(language);
            server.ok(&args);
            out
        };
        let (arrow, csv) = (write("rows.arrow"), write("rows.csv"));
        let script = support::folder().join("tests/clients/read.py");
        let output = Command::new(python())
            .arg(script)
            .args([&arrow, &csv])
            .arg(ROWS.to_string())
            .output()
            .unwrap();
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert!(output.status.success() && said.contains("read 30000"), "{query}: {said}");
    }
}

/// The rows that VictoriaLogs' client shows for a query, where `VLOGSCLI` names that program, else those
/// that its request gets.
fn vlogscli(server: &Server, typed: &str, sent: &str) -> String {
    let url = format!("{}/select/logsql/query", server.url);
    let Some(program) = std::env::var_os("VLOGSCLI").filter(|program| !program.is_empty()) else {
        let output = Command::new(found("curl"))
            .args(["--silent", "--fail", "-H", "AccountID: 0", "-H", "ProjectID: 0"])
            .arg("--data-urlencode")
            .arg(format!("query={sent}"))
            .arg(url)
            .output()
            .unwrap();
        assert!(output.status.success(), "{sent}");
        return text(&output.stdout);
    };
    // It wants a file to write to.
    let (shown, log) = (server.path("shown"), server.path("log"));
    let mut process = Command::new(program)
        .arg(format!("-datasource.url={url}"))
        .arg(format!("-historyFile={}", server.path("history").display()))
        .stdin(Stdio::piped())
        .stdout(std::fs::File::create(&shown).unwrap())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let mut stdin = process.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, format!("\\s\n{typed};\n").as_bytes()).unwrap();
    drop(stdin);
    assert!(process.wait().unwrap().success(), "{typed}");
    let shown = std::fs::read_to_string(shown).unwrap();
    assert!(shown.contains(&format!("executing [{sent}]")), "{typed}: {shown}");
    let rows = shown.lines().filter(|line| line.starts_with('{'));
    rows.map(|row| format!("{row}\n")).collect()
}

#[test]
fn victorialogs_own_client_is_answered_e2e() {
    let server = Server::start();
    let path = server.file("in.jsonl", &json_lines(0..1_000));
    server.import(&path, &["--quiet", "--stream-fields", "service"]);
    for (typed, sent, rows) in [
        ("*", "*", 1_000),
        ("request", "request", 1_000),
        ("level:error", "level:error", 250),
        ("level:error n:<100", "level:error n:<100", 25),
        ("{service=\"s1\"}", "{service=\"s1\"}", 200),
        ("* | count()", "* | stats count(*) as \"count(*)\"", 1),
        ("* | stats by (level) count() n", "* | stats by (level) count(*) as n", 3),
        ("request | sort by (_time) | limit 7", "request | sort by (_time) limit 7", 7),
        ("\"request 17\" | fields _msg, n", "\"request 17\" | fields _msg, n", 1),
    ] {
        let shown = vlogscli(&server, typed, sent);
        assert_eq!(shown.lines().count(), rows, "{typed}: {shown}");
        for line in shown.lines() {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(row.as_object().is_some_and(|row| !row.is_empty()), "{line}");
        }
    }
}
