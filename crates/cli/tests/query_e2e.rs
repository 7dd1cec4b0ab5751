//! `lodge query`, `export` and `tail` against a real server.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::RowAccessor as _;
use support::{Server, json_lines, lodge, text};

fn with_lines(count: u64) -> Server {
    let server = Server::start();
    let path = server.file("in.jsonl", &json_lines(0..count));
    server.import(&path, &["--quiet"]);
    server
}

#[test]
fn a_pipe_gets_json_lines_and_a_person_a_table() {
    let server = with_lines(100);
    let rows = server.ok(&["query", "*", "--limit", "3"]);
    assert_eq!(rows.lines().count(), 3);
    for row in rows.lines() {
        let row: serde_json::Value = serde_json::from_str(row).unwrap();
        assert!(row["_msg"].as_str().unwrap().starts_with("request "));
    }
    let table = server.ok(&["query", "n:=7", "--format", "table"]);
    assert_eq!(table, "2026-11-22T10:00:00.000Z  error  s2/h0  request 7 took 217 ms\n");
    let stats = server.ok(&[
        "query",
        "* | stats by (level) count() as hits | sort by (hits desc, level)",
        "--format",
        "table",
    ]);
    assert_eq!(stats, "level  hits\ninfo     50\nerror    25\nwarn     25\n");
    let sql = "SELECT level, count(*) AS hits FROM logs GROUP BY level ORDER BY hits DESC, level";
    assert_eq!(server.ok(&["query", "--sql", sql, "--format", "table"]), stats);
    assert_eq!(server.ok(&["query", "nothing_like_this", "--format", "table"]), "");
}

#[test]
fn the_time_range_is_taken() {
    let server = with_lines(10_000);
    let all = |args: &[&str]| server.ok(args).lines().count();
    assert_eq!(all(&["query", "*", "--start", "2026-11-22T10:00:09Z"]), 1_000);
    let end = ["query", "*", "--start", "2026-11-22", "--end", "2026-11-22T10:00:02Z"];
    assert_eq!(all(&end), 2_000);
    assert_eq!(all(&["query", "*", "--since", "100y"]), 10_000);
    let output = server.run(&["query", "*", "--since", "soon"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("`soon` is not a duration"), "{:?}", output);
    let output = server.run(&["query", "*", "--since", "1h", "--start", "2026"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn log_text_cannot_act_on_a_terminal() {
    let server = Server::start();
    let evil = "{\"service\":\"x\\u001b]0;title\\u0007\",\
                \"message\":\"a\\u001b[2Jb\\r\\u0000\u{202e}c\u{9b}31m\\u0008\\ttab\\nline\"}\n";
    let output = server.with_input(&["import", "-", "--quiet"], evil.as_bytes());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = server.ok(&["query", "*", "--format", "table"]);
    assert!(table.contains("a\\x1b[2Jb\\r\\x00\\u{202e}c\\x9b31m\\x08\\ttab\\nline"), "{table}");
    let fields = server.ok(&["query", "* | fields service, _msg", "--format", "table"]);
    assert!(fields.contains("x\\x1b]0;title\\x07"), "{fields}");
    for shown in [table, fields] {
        let hostile = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!shown.contains(hostile), "{shown:?}");
    }
    let json = server.ok(&["query", "*"]);
    assert!(!json.contains(|c: char| c < ' ' && c != '\n'), "{json:?}");
}

#[test]
fn a_parse_error_points_at_the_column() {
    let server = with_lines(1);
    let output = server.run(&["query", "error and (level:warn"]);
    assert_eq!(output.status.code(), Some(2));
    let shown = text(&output.stderr);
    assert!(shown.starts_with("error: "), "{shown}");
    let lines: Vec<_> = shown.lines().collect();
    let at = lines.iter().position(|l| l.trim() == "^").expect(&shown);
    assert_eq!(lines[at - 1], "    error and (level:warn");
    assert!(lines[at].len() > 4 + "error and".len(), "{shown}");
    assert!(text(&output.stdout).is_empty() && !shown.contains('\x1b'), "{shown}");
    let output = server.run(&["query", "* | nosuchpipe x"]);
    assert!(text(&output.stderr).contains('^'), "{}", text(&output.stderr));
    let output = server.run(&["query", "--sql", "SELECT FROM WHERE"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    let output = server.run(&["tail", "(("]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
}

#[test]
fn a_query_is_explained_and_not_run() {
    let server = with_lines(10_000);
    let shown = server.ok(&["query", "--explain", "level:error request", "--format", "table"]);
    for words in ["reads at most", "records   10,000 of 10,000", "in the segments: gives all"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    let filter = shown.lines().find(|line| line.contains("filter")).unwrap();
    assert!(filter.contains("level:") && filter.contains("request"), "{shown}");
    assert!(shown.contains("after that: nothing"), "{shown}");
    let sql =
        "SELECT upper(level), count(*) FROM logs WHERE match(_msg, 'took') GROUP BY 1 ORDER BY 2";
    let shown = server.ok(&["query", "--explain", "--sql", sql, "--format", "table"]);
    assert!(shown.contains("in the segments: groups") && shown.contains("Sort"), "{shown}");
    let json = server.ok(&["query", "--explain", "nosuchword | count()"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["language"], "logsql");
    let output = server.run(&["query", "--explain", "error and ("]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains('^'), "{}", text(&output.stderr));
    let output = server.run(&["query", "--explain", "*", "--format", "csv"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn csv_has_a_header_and_no_formulas() {
    let server = Server::start();
    let lines = "{\"service\":\"a\",\"message\":\"=1+1\",\"n\":-5}\n\
                 {\"service\":\"b\",\"message\":\"x,\\\"y\\\"\",\"n\":7}\n";
    server.with_input(&["import", "-", "--quiet"], lines.as_bytes());
    let path = server.path("out.csv");
    let query = "* | fields _msg, n, service | sort by (service)";
    server.ok(&["export", query, "--output", path.to_str().unwrap()]);
    let csv = std::fs::read_to_string(&path).unwrap();
    assert_eq!(csv, "_msg,n,service\n'=1+1,-5,a\n\"x,\"\"y\"\"\",7,b\n");
}

#[test]
fn parquet_and_arrow_hold_the_same_rows() {
    let server = with_lines(20_000);
    let path = server.path("out.parquet");
    server.ok(&["export", "level:error", "--output", path.to_str().unwrap()]);
    let bytes = std::fs::read(&path).unwrap();
    assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
    let expected = (5_000u64, (0..20_000u64).filter(|n| n % 4 == 3).sum::<u64>());
    assert_eq!(rows_and_sum(&path), expected);
    let arrow = server.run(&["query", "level:error", "--format", "arrow"]);
    assert!(arrow.status.success(), "{}", text(&arrow.stderr));
    assert!(arrow.stdout.starts_with(&[0xff; 4]), "an IPC stream begins with a continuation mark");
    let leftovers = std::fs::read_dir(path.parent().unwrap()).unwrap();
    assert!(leftovers.flatten().all(|f| !f.file_name().to_string_lossy().ends_with(".part")));
    let output = server.run(&["query", "((", "--output", server.path("no.csv").to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(!server.path("no.csv").exists());
}

/// Rows and sum of `n`, as DuckDB reads them where `LODGE_PYTHON` names a Python that has it, else
/// as the Parquet reader does.
fn rows_and_sum(path: &std::path::Path) -> (u64, u64) {
    if let Some(python) = std::env::var_os("LODGE_PYTHON").filter(|p| !p.is_empty()) {
        let script = "import duckdb, sys\n\
                      q = \"select count(*), sum(n), count(distinct _msg) from read_parquet(?)\"\n\
                      print(*duckdb.execute(q, [sys.argv[1]]).fetchone())";
        let output = Command::new(python).args(["-c", script]).arg(path).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let shown = text(&output.stdout);
        let numbers: Vec<u64> = shown.split_whitespace().map(|n| n.parse().unwrap()).collect();
        assert_eq!(numbers[2], numbers[0], "every message is its own");
        return (numbers[0], numbers[1]);
    }
    let reader = SerializedFileReader::new(std::fs::File::open(path).unwrap()).unwrap();
    let schema = reader.metadata().file_metadata().schema().clone();
    let n = schema.get_fields().iter().position(|f| f.name() == "n").unwrap();
    let rows = reader.get_row_iter(None).unwrap().map(|row| row.unwrap().get_long(n).unwrap());
    rows.fold((0, 0), |(count, sum), n| (count + 1, sum + u64::try_from(n).unwrap()))
}

#[test]
fn a_reader_that_has_enough_is_no_failure() {
    let server = with_lines(50_000);
    let mut process = server
        .command(&["query", "*"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().starts_with('{'));
    drop(lines);
    let output = process.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
}

#[test]
fn a_tail_shows_what_is_committed() {
    let server = with_lines(10);
    let mut tail = server
        .command(&["tail", "level:error", "--format", "table"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    // Rows are sent until the tail, which needs a moment to connect, shows one.
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let shown = std::thread::scope(|scope| {
        let server = &server;
        scope.spawn(move || {
            let row = b"{\"service\":\"live\",\"level\":\"error\",\"message\":\"now\\u001b[1m\"}\n";
            while stopped.try_recv().is_err() {
                assert!(server.with_input(&["import", "-", "--quiet"], row).status.success());
            }
        });
        let line = lines.next().unwrap().unwrap();
        stop.send(()).unwrap();
        line
    });
    assert!(shown.ends_with("now\\x1b[1m") && shown.contains("error"), "{shown}");
    Command::new("kill").args(["-INT", &tail.id().to_string()]).status().unwrap();
    assert!(tail.wait().unwrap().success());
    assert!(server.stop(), "a graceful stop is a success");
}

#[test]
fn a_tail_outlives_its_server_and_shows_each_row_once_crash() {
    let mut server = Server::start();
    let send = |server: &Server, id: &str| {
        let row = format!("{{\"service\":\"live\",\"message\":\"{id}\"}}\n");
        let output = server.with_input(&["import", "-", "--quiet"], row.as_bytes());
        assert!(output.status.success(), "{}", text(&output.stderr));
    };
    let mut tail = server
        .command(&["tail", "*", "--since", "1h"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    let mut shown = Vec::new();
    let mut read_until = |id: &str| {
        while !shown.iter().any(|seen| seen == id) {
            let row: serde_json::Value =
                serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            shown.push(row["_msg"].as_str().unwrap().to_owned());
        }
        shown.clone()
    };
    send(&server, "before 1");
    send(&server, "before 2");
    read_until("before 2");
    server.crash_and_restart();
    // The tail may or may not be connected again when these arrive.
    for id in ["after 1", "after 2", "after 3"] {
        send(&server, id);
    }
    let shown = read_until("after 3");
    assert_eq!(shown, ["before 1", "before 2", "after 1", "after 2", "after 3"]);
    tail.kill().unwrap();
    tail.wait().unwrap();
}

#[test]
fn no_server_is_told_with_its_own_exit_code() {
    let output = lodge(&["query", "*", "--server", "127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(3));
    let output = lodge(&["query", "*", "--server", "ftp://logs.example"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("http://HOST:PORT"));
}
