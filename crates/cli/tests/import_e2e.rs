//! `lodge import` against a real server: what is in the files is on the server, once.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::process::Stdio;
use std::time::Duration;

use support::{Server, gzip, json_lines, lodge, text};

#[test]
fn plain_gzip_zstd_and_standard_input_are_imported_exactly() {
    let server = Server::start();
    let plain = server.file("plain.jsonl", &json_lines(0..30_000));
    let gz = server.file("b.json.gz", &gzip(&json_lines(30_000..40_000)));
    let zst = zstd::encode_all(&json_lines(40_000..50_000)[..], 1).unwrap();
    let zst = server.file("c.json.zst", &zst);
    let shown = server.import(&plain, &[]);
    assert!(shown.contains("time: ts; message: message; stream: service,host"), "{shown}");
    assert!(shown.contains("imported 30,000 records"), "{shown}");
    server.import(&gz, &[]);
    server.import(&zst, &[]);
    let output = server.with_input(&["import", "-"], &json_lines(50_000..55_000));
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(server.count("*"), 55_000);
    assert_eq!(server.count("level:error"), 13_750);
    assert_eq!(server.count(r#"{service="s3"}"#), 11_000);
    assert_eq!(server.count(r#"_msg:"request 42 took""#), 1);
    let row = server.ok(&["query", "n:=54321", "--format", "jsonl"]);
    let row: serde_json::Value = serde_json::from_str(&row).unwrap();
    assert_eq!(row["_time"], "2026-11-22T10:00:54.054321Z");
    assert_eq!(row["_stream"], r#"{host="h1",service="s1"}"#);
}

#[test]
fn a_file_is_stored_once_unless_it_is_asked_for_again() {
    let server = Server::start();
    let path = server.file("app.jsonl", &json_lines(0..40_000));
    server.import(&path, &[]);
    let shown = server.import(&path, &[]);
    assert!(shown.contains("imported before, nothing sent"), "{shown}");
    let renamed = server.path("app.jsonl.1");
    std::fs::rename(&path, &renamed).unwrap();
    server.import(&renamed, &[]);
    assert_eq!(server.count("*"), 40_000);
    server.import(&renamed, &["--again"]);
    assert_eq!(server.count("*"), 80_000);
}

#[test]
fn patterns_many_files_and_quiet() {
    let server = Server::start();
    for i in 0..20 {
        server.file(&format!("part-{i}.log"), &json_lines(i * 100..(i + 1) * 100));
    }
    server.file("empty.log", b"");
    let pattern = server.path("*.log");
    let shown = server.import(&pattern, &["--quiet"]);
    assert_eq!(shown, "");
    assert_eq!(server.count("*"), 2_000);
    let shown = server.import(&pattern, &[]);
    assert!(shown.contains("files that were imported before: 20"), "{shown}");
    assert_eq!(server.count("*"), 2_000);
}

#[test]
fn an_import_that_is_killed_goes_on_where_it_stopped_crash() {
    let server = Server::start();
    let lines = 400_000;
    let path = server.file("large.jsonl", &json_lines(0..lines));
    let mut cut_short = 0;
    for round in 0..12u64 {
        let mut command = server.command(&["import", "--quiet"]);
        let mut client = command.arg(&path).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(20 + round * 23));
        cut_short += u64::from(client.try_wait().unwrap().is_none());
        client.kill().unwrap();
        client.wait().unwrap();
    }
    assert!(cut_short > 0, "no run was cut short: the test shows nothing");
    server.import(&path, &[]);
    assert_eq!(server.count("*"), lines);
    let row = server.ok(&["query", "* | stats count_uniq(n) as n", "--format", "jsonl"]);
    assert!(row.contains(&format!("\"{lines}\"")), "{row}");
    assert!(server.import(&path, &[]).contains("imported before"));
}

#[test]
fn two_imports_of_the_same_file_at_once_store_it_once() {
    let server = Server::start();
    let path = server.file("same.jsonl", &json_lines(0..150_000));
    let mut clients: Vec<_> = (0..2)
        .map(|_| server.command(&["import", "--quiet"]).arg(&path).spawn().unwrap())
        .collect();
    for client in &mut clients {
        assert!(client.wait().unwrap().success());
    }
    assert_eq!(server.count("*"), 150_000);
}

#[test]
fn what_cannot_be_read_is_kept_as_text_and_counted() {
    let server = Server::start();
    let mut lines = json_lines(0..10);
    lines.extend_from_slice(b"{\"ts\":\"2026-11-22T10:00:00Z\",\"message\":\"cut of\nnot json\n");
    lines.extend_from_slice(b"{\"message\":\"bad \xff utf-8\"}\n\n   \n");
    let path = server.file("bad.jsonl", &lines);
    let shown = server.import(&path, &[]);
    assert!(shown.contains("imported 13 records"), "{shown}");
    assert!(
        shown.contains(
            "lines that could not be read, stored as text with the reason in lodge.error: 3"
        ),
        "{shown}"
    );
    assert_eq!(server.count("*"), 13);
    assert_eq!(server.count("lodge.error:*"), 3);
    assert_eq!(server.count(r#""not json""#), 1);
}

#[test]
fn a_huge_line_is_broken_not_dropped() {
    let server = Server::start();
    let mut bytes = b"2026-11-22 10:00:00 start\n".to_vec();
    bytes.extend(b"2026-11-22 10:00:01 ".iter().chain(&[b'x'; 9 << 20]));
    bytes.extend_from_slice(b"\n2026-11-22 10:00:02 end\n");
    let path = server.file("huge.log", &bytes);
    let shown = server.import(&path, &[]);
    assert!(shown.contains("breaks put into lines"), "{shown}");
    assert_eq!(server.count(r#""start""#), 1);
    assert_eq!(server.count(r#""end""#), 1);
    assert_eq!(server.count("_time:2026-11-22"), server.count("*").min(3));
}

#[test]
fn text_lines_become_messages_with_their_times_and_traces_are_joined() {
    let server = Server::start();
    let log = "2026-11-22 10:00:00,123 INFO starting\n\
               2026-11-22 10:00:01,456 ERROR failed\n\
               java.lang.IllegalStateException: no\n\
               \tat shop.Cart.pay(Cart.java:17)\n\
               2026-11-22 10:00:02,789 INFO going on\n";
    let path = server.file("cart.log", log.as_bytes());
    let shown = server.import(&path, &[]);
    assert!(shown.contains("cart.log: text"), "{shown}");
    assert_eq!(server.count("*"), 3);
    assert_eq!(server.count(r#"{service="cart"}"#), 3);
    let rows = server.ok(&["query", "Cart.java", "--format", "table"]);
    assert!(rows.contains("\\n\\tat shop.Cart.pay"), "{rows}");
}

#[test]
fn an_import_without_a_server_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.log");
    std::fs::write(&path, "x\n").unwrap();
    let path = path.display().to_string();
    let output = lodge(&["import", &path, "--server", "http://127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(3));
    let shown = text(&output.stderr);
    assert!(shown.contains("error: no server answers at http://127.0.0.1:1"), "{shown}");
    assert!(shown.contains("mend: start one with `lodge server`"), "{shown}");
    let output = lodge(&["import", "/nonexistent/x.log"]);
    assert_eq!(output.status.code(), Some(2));
    let output = lodge(&["import", "/nonexistent/*.log"]);
    assert!(text(&output.stderr).contains("no file matches this pattern"));
}
