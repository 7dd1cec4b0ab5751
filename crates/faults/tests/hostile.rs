//! Hostile input to a real server: every byte that a stranger may send ends in a stored record or in
//! an error that names the trouble — never in a panic, a lost line without a word, or much memory.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use lodge_faults::hostile::zstd_bomb;
use lodge_faults::http;
use serde_json::{Value, json};
use support::{Bench, assert_clear_refusal, server};

/// Sends a body of which some lines are no records, and checks that the lines add up: stored ones
/// and ones that the answer names.
fn assert_nothing_silent(bench: &Bench, body: &[u8], lines: u64) -> Value {
    let before = bench.count("*");
    let answer = bench.insert(body);
    let stored = bench.count("*") - before;
    if !answer.is_success() {
        assert_clear_refusal(&answer);
        assert_eq!(stored, 0, "refused, and yet stored in part: {}", answer.text());
        return Value::Null;
    }
    let told = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
    assert_eq!(stored, lines, "stored or named: {}", answer.text());
    told
}

#[test]
fn malformed_json_lines_are_kept_and_named_e2e() {
    let mut bench = server();
    let malformed: [&str; 14] = [
        "{\"a\":",
        "not json at all",
        "[1,2,3]",
        "\"a string\"",
        "42",
        "null",
        "{\"_msg\":\"x\"} trailing",
        "{'single':'quotes'}",
        "{\"a\":01}",
        "{\"a\":\"\\ud800\"}",
        "{\"a\":\"\\x\"}",
        "{\"a\":1,}",
        "{\"unclosed\":\"string}",
        "}{",
    ];
    let mut body = String::from("{\"_msg\":\"good first\"}\n");
    for line in malformed {
        body.push_str(line);
        body.push('\n');
    }
    body.push_str("\n\n{\"_msg\":\"good last\"}");
    let lines = malformed.len() as u64 + 2;
    let told = assert_nothing_silent(&bench, body.as_bytes(), lines);
    assert_eq!(bench.count("\"good first\""), 1);
    assert_eq!(bench.count("\"good last\""), 1);
    // The text of a line that is no JSON is searchable, and why it is none stands beside it.
    assert_eq!(bench.count("\"not json at all\""), 1);
    let named = bench.count("lodge.error:*");
    assert!(named >= 10, "only {named} of {} lines are marked; answer: {told}", malformed.len());
    bench.assert_unharmed();
}

#[test]
fn an_empty_body_and_empty_objects_are_no_trouble_e2e() {
    let mut bench = server();
    for body in ["", "\n", "\r\n\r\n", "   ", "\u{feff}"] {
        let answer = bench.insert(body.as_bytes());
        assert!(answer.status < 500, "{body:?}: {}", answer.text());
    }
    let before = bench.count("*");
    let answer = bench.insert(b"{}\n{\"a\":\"\"}\n{\"a\":null}\n{\"\":\"no name\"}\n");
    assert!(answer.status < 500, "{}", answer.text());
    let stored = bench.count("*") - before;
    assert!(stored == 4 || !answer.body.is_empty(), "{stored} of 4 lines, and not a word");
    bench.assert_unharmed();
}

#[test]
fn a_line_of_100_mb_is_kept_or_refused_by_name_e2e() {
    let mut bench = server();
    let mut body = b"{\"_msg\":\"before the monster\"}\n{\"_msg\":\"".to_vec();
    body.resize(body.len() + 100_000_000, b'x');
    body.extend_from_slice(b"\"}\n{\"_msg\":\"after the monster\"}\n");
    let answer = bench.insert(&body);
    drop(body);
    let around = bench.count("monster");
    if answer.is_success() {
        assert_eq!(around, 2, "its neighbours are stored");
        let total = bench.count("*");
        let text = answer.text();
        assert!(total == 3 || text.contains("line"), "{total} stored, and not a word: {text:?}");
    } else {
        assert_clear_refusal(&answer);
        assert_eq!(around, 0, "a refused request is not stored");
    }
    bench.assert_unharmed();
}

#[test]
fn a_line_of_100_mb_in_a_tailed_file_keeps_its_neighbours_e2e() {
    let mut bench = server();
    let logs = bench.folder.path().join("logs");
    std::fs::create_dir_all(&logs).unwrap();
    let mut file = std::fs::File::create(logs.join("app.log")).unwrap();
    file.write_all(b"2026-01-01T00:00:00Z INFO before the monster\n").unwrap();
    let mut agent = bench.agent(&format!("{}/*.log", logs.display()));
    file.write_all(b"2026-01-01T00:00:01Z INFO monster head ").unwrap();
    let piece = vec![b'y'; 1_000_000];
    for _ in 0..100 {
        file.write_all(&piece).unwrap();
    }
    file.write_all(b" tail\n2026-01-01T00:00:02Z INFO after the monster\n").unwrap();
    bench.wait_count("\"before the monster\"", 1);
    bench.wait_count("\"after the monster\"", 1);
    bench.wait_count("\"monster head\"", 1);
    assert_eq!(bench.count("*"), 3);
    assert!(agent.ended().is_none(), "{}", agent.log_tail());
    support::assert_no_panic(&bench.agent_log());
    let peak = agent.memory_peak().unwrap();
    assert!(peak <= support::AGENT_MEMORY_BYTES_MAX, "the agent took {} MiB", peak >> 20);
    bench.assert_unharmed();
}

#[test]
fn nul_bytes_are_stored_and_given_back_e2e() {
    let mut bench = server();
    bench.insert_ok(b"{\"_msg\":\"escaped \\u0000 nul\",\"k\\u0000ey\":\"v\\u0000\"}\n");
    let rows = bench.rows("escaped");
    assert_eq!(rows[0]["_msg"], "escaped \0 nul");
    assert_eq!(rows[0]["k\0ey"], "v\0");
    let raw = b"{\"_msg\":\"good neighbour\"}\n{\"_msg\":\"raw \0 nul\"}\n\0\0\0\n";
    let told = assert_nothing_silent(&bench, raw, 3);
    assert_eq!(bench.count("*"), 4, "{told}");
    assert_eq!(bench.count("raw"), 1, "{told}");
    bench.wait_built();
    assert_eq!(bench.rows("escaped")[0]["_msg"], "escaped \0 nul");
    bench.assert_unharmed();
}

#[test]
fn invalid_utf8_is_kept_e2e() {
    let mut bench = server();
    let body = b"{\"_msg\":\"good \xc3\xa9\"}\n{\"_msg\":\"bad \xff\xfe end\"}\n\xff\xff\xff\n\
        {\"na\xf0\x28me\":\"surrogate \xed\xa0\x80\"}\n{\"_msg\":\"good last\"}\n";
    assert_nothing_silent(&bench, body, 5);
    assert_eq!(bench.count("good"), 2);
    assert_eq!(bench.count("bad"), 1, "the readable part of a damaged line is searchable");
    bench.assert_unharmed();
}

#[test]
fn invalid_utf8_and_nul_bytes_in_a_tailed_file_are_kept_e2e() {
    let mut bench = server();
    let logs = bench.folder.path().join("logs");
    std::fs::create_dir_all(&logs).unwrap();
    let mut content = b"2026-01-01T00:00:00Z INFO first of all\n".to_vec();
    content.extend_from_slice(b"2026-01-01T00:00:01Z INFO latin \xe9\xff second\n");
    content.extend_from_slice(b"2026-01-01T00:00:02Z INFO with \0 nul third\n");
    content.extend_from_slice(b"2026-01-01T00:00:03Z INFO carriage fourth\r\n");
    content.extend_from_slice(b"2026-01-01T00:00:04Z INFO last of all\n");
    std::fs::write(logs.join("app.log"), content).unwrap();
    let agent = bench.agent(&format!("{}/*.log", logs.display()));
    for word in ["first", "second", "third", "fourth", "last"] {
        bench.wait_count(word, 1);
    }
    assert_eq!(bench.count("*"), 5);
    assert!(bench.rows("fourth")[0]["_msg"].as_str().unwrap().ends_with("fourth"));
    drop(agent);
    support::assert_no_panic(&bench.agent_log());
    bench.assert_unharmed();
}

#[test]
fn a_hundred_thousand_field_names_are_all_searchable_e2e() {
    let mut bench = server();
    let mut narrow = String::new();
    for line in 0..1_000 {
        let fields: serde_json::Map<_, _> = (0..100)
            .map(|i| (format!("field_{}", line * 100 + i), json!(format!("value{i}"))))
            .chain([("_msg".to_owned(), json!(format!("narrow {line}")))])
            .collect();
        narrow.push_str(&serde_json::to_string(&fields).unwrap());
        narrow.push('\n');
    }
    bench.insert_ok(narrow.as_bytes());
    let wide: serde_json::Map<_, _> = (0..100_000)
        .map(|i| (format!("wide_{i}"), json!(i)))
        .chain([("_msg".to_owned(), json!("one wide record"))])
        .collect();
    bench.insert_ok(serde_json::to_string(&wide).unwrap().as_bytes());
    for built in [false, true] {
        if built {
            bench.wait_built();
        }
        assert_eq!(bench.count("*"), 1_001, "built: {built}");
        for i in [0, 1, 999, 5_000, 54_321, 99_998, 99_999] {
            let filter = format!("field_{i}:=value{}", i % 100);
            assert_eq!(bench.count(&filter), 1, "{filter}, built: {built}");
            assert_eq!(bench.count(&format!("wide_{i}:={i}")), 1, "wide_{i}, built: {built}");
            assert_eq!(bench.count(&format!("wide_{i}:=x")), 0, "wide_{i}, built: {built}");
        }
        let rows = bench.rows("field_99999:=value99 | fields _msg, field_99999, field_99900");
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0]["_msg"], "narrow 999");
        assert_eq!(rows[0]["field_99900"], "value0");
    }
    bench.assert_unharmed();
}

#[test]
fn records_of_any_age_are_stored_e2e() {
    let mut bench = server();
    let body = "{\"_msg\":\"epoch\",\"_time\":\"1970-01-01T00:00:00Z\"}\n\
        {\"_msg\":\"moon\",\"_time\":\"1969-07-20T20:17:40Z\"}\n\
        {\"_msg\":\"future\",\"_time\":\"2100-12-31T23:59:59.999999999Z\"}\n\
        {\"_msg\":\"timeless\"}\n\
        {\"_msg\":\"unreadable\",\"_time\":\"yesterday, around noon\"}\n\
        {\"_msg\":\"wrong type\",\"_time\":{\"a\":[1]}}\n\
        {\"_msg\":\"far out\",\"_time\":\"9999-01-01T00:00:00Z\"}\n\
        {\"_msg\":\"number\",\"_time\":99999999999999999999999999}\n\
        {\"_msg\":\"negative\",\"_time\":-1}\n";
    assert_nothing_silent(&bench, body.as_bytes(), 9);
    for built in [false, true] {
        if built {
            bench.wait_built();
        }
        assert_eq!(bench.rows("epoch")[0]["_time"], "1970-01-01T00:00:00Z");
        assert_eq!(bench.rows("moon")[0]["_time"], "1969-07-20T20:17:40Z");
        assert_eq!(bench.rows("future")[0]["_time"], "2100-12-31T23:59:59.999999999Z");
        assert_eq!(bench.count("_time:1970"), 1, "built: {built}");
        assert_eq!(bench.count("_time:[2100-01-01, 2100-12-31]"), 1, "built: {built}");
        assert_eq!(bench.count("timeless _time:5m"), 1, "received now, built: {built}");
        for word in ["unreadable", "\"wrong type\"", "\"far out\"", "number", "negative"] {
            assert_eq!(bench.count(word), 1, "{word}, built: {built}");
        }
    }
    bench.assert_unharmed();
}

const UNPARSABLE: [&str; 30] = [
    "(",
    ")",
    "foo AND",
    "foo OR OR bar",
    "NOT",
    "!",
    "\"unclosed",
    "'unclosed",
    "`unclosed",
    "field:",
    "field:~\"[\"",
    "field:~\"(a{1000}){1000}{1000}\"",
    "_time:",
    "_time:[2026-01-01",
    "_time:sometime",
    "{service=",
    "{service=\"a\"",
    "{=\"a\"}",
    "field:range(1",
    "field:range(1,2",
    "field:in(",
    "field:in(a,",
    "* |",
    "* | nonsense",
    "* | stats",
    "* | stats count(",
    "* | stats by (",
    "* | limit x",
    "* | sort by (_time dsc",
    "* | fields ,,",
];

#[test]
fn unparsable_queries_are_refused_with_a_reason_e2e() {
    let mut bench = server();
    bench.insert_ok(b"{\"_msg\":\"foo bar\"}\n");
    for query in UNPARSABLE {
        for route in ["query", "hits", "stats_query", "field_names"] {
            let step = if route == "hits" { "&step=1h" } else { "" };
            let target = format!("/select/logsql/{route}?query={}{step}", http::encode(query));
            let answer = bench.get(&target);
            assert_eq!(answer.status, 400, "{route} {query}: {}", answer.text());
            assert_clear_refusal(&answer);
        }
    }
    for sql in ["", "SELEC 1", "SELECT * FROM", "SELECT * FROM nowhere", "DROP TABLE logs", ";;"] {
        let answer = bench.get(&format!("/api/v1/sql?query={}", http::encode(sql)));
        assert!((400..500).contains(&answer.status), "{sql}: {} {}", answer.status, answer.text());
        assert_clear_refusal(&answer);
    }
    bench.assert_unharmed();
}

#[test]
fn deep_nesting_is_no_stack_overflow_e2e() {
    let mut bench = server();
    let deep = 100_000;
    let objects = "{\"a\":".repeat(deep) + "1" + &"}".repeat(deep);
    let arrays = format!("{{\"_msg\":\"arrays\",\"a\":{}1{}}}", "[".repeat(deep), "]".repeat(deep));
    let unclosed = "[".repeat(deep) + "\n" + &"{\"a\":".repeat(deep);
    for (body, lines) in [(objects, 1), (arrays, 1), (unclosed, 2)] {
        assert_nothing_silent(&bench, body.as_bytes(), lines);
        assert!(bench.far_end.is_healthy());
    }
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    for (open, close) in [("(", ")"), ("!", ""), ("not ", ""), ("a and (", ")"), ("-(", ")")] {
        let query = open.repeat(deep) + "x" + &close.repeat(deep);
        let body = format!("query={}", http::encode(&query));
        let answer = bench.post("/select/logsql/query", &form, body.as_bytes());
        assert!(answer.status < 500, "{open:?} {deep} deep: {} {}", answer.status, answer.text());
        assert!(bench.far_end.is_healthy(), "{open:?} {deep} deep");
    }
    let sql = format!("SELECT {}1{}", "(".repeat(deep), ")".repeat(deep));
    let body = format!("query={}", http::encode(&sql));
    assert_clear_refusal(&bench.post("/api/v1/sql", &form, body.as_bytes()));
    bench.assert_unharmed();
}

#[test]
fn decompression_bombs_stay_small_e2e() {
    let mut bench = server();
    // 500 MB of one line, and many lines of nothing and of rubbish: a few MB on the wire.
    for fill in [&b"x"[..], b"\n", b"{}x\n"] {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        let piece = fill.repeat(1_000_000 / fill.len());
        let pieces = if fill == b"x" { 500 } else { 100 };
        for _ in 0..pieces {
            encoder.write_all(&piece).unwrap();
        }
        let bomb = encoder.finish().unwrap();
        let answer = bench.post("/insert/jsonline", &[("Content-Encoding", "gzip")], &bomb);
        assert!(answer.status < 500, "{}: {}", answer.status, answer.text());
        assert!(bench.far_end.is_healthy());
        let answer = bench.post("/api/v1/batches", &[("Content-Encoding", "gzip")], &bomb);
        assert!((400..500).contains(&answer.status), "{}: {}", answer.status, answer.text());
    }
    let bomb = zstd_bomb(5_000);
    for route in ["/insert/jsonline", "/api/v1/batches"] {
        let answer = bench.post(route, &[("Content-Encoding", "zstd")], &bomb);
        assert!(answer.status < 500, "{route}: {}: {}", answer.status, answer.text());
        assert!(bench.far_end.is_healthy());
    }
    for encoding in ["gzip", "deflate", "zstd", "br", "gzip, gzip", "nonsense"] {
        let headers = [("Content-Encoding", encoding)];
        let answer = bench.post("/insert/jsonline", &headers, b"{\"_msg\":\"not compressed\"}\n");
        assert_clear_refusal(&answer);
    }
    assert_eq!(bench.count("\"not compressed\""), 0);
    bench.assert_unharmed();
}

#[test]
fn half_requests_store_nothing_and_block_nobody_e2e() {
    let mut bench = server();
    let addr = bench.far_end.addr();
    let mut hanging = Vec::new();
    for _ in 0..60 {
        let mut head_only = TcpStream::connect(addr).unwrap();
        head_only.write_all(b"POST /insert/jsonline HTTP/1.1\r\nHost: x\r\nConte").unwrap();
        let mut body_begun = TcpStream::connect(addr).unwrap();
        let begun = b"POST /insert/jsonline HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n\
            {\"_msg\":\"half a request\"}\n{\"_msg\":\"half a request\"}\n";
        body_begun.write_all(begun).unwrap();
        let mut chunk_begun = TcpStream::connect(addr).unwrap();
        let begun = b"POST /insert/jsonline HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\
            \r\n1a\r\n{\"_msg\":\"half a request\"}\n\r\n";
        chunk_begun.write_all(begun).unwrap();
        let silent = TcpStream::connect(addr).unwrap();
        hanging.extend([head_only, body_begun, chunk_begun, silent]);
    }
    // 240 connections that say no more are open; others are served all the same.
    bench.insert_ok(b"{\"_msg\":\"whole request\"}\n");
    assert_eq!(bench.count("\"whole request\""), 1);
    drop(hanging);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(bench.count("\"half a request\""), 0, "a request that broke off is not stored");
    bench.assert_unharmed();
}

#[test]
fn a_query_whose_client_leaves_is_cancelled_e2e() {
    let mut bench = server();
    let line = "{\"_msg\":\"some message that is long enough to fill the buffers of a socket\"}\n";
    for _ in 0..4 {
        bench.insert_ok(line.repeat(50_000).as_bytes());
    }
    let addr = bench.far_end.addr();
    // More than the queries that may run at once: were they not cancelled, the last would wait.
    for _ in 0..64 {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.write_all(b"GET /select/logsql/query?query=* HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    }
    assert_eq!(bench.count("*"), 200_000);
    bench.assert_unharmed();
}
