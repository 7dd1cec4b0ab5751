//! Random bytes to every route of a real server: no 500, no panic, no hang, and it lives on.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use lodge_faults::http;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use support::server;

const ROUTES: [&str; 36] = [
    "/elasticsearch/",
    "/elasticsearch/_bulk",
    "/elasticsearch/%ff/_bulk",
    "/elasticsearch/_index_template/a",
    "/loki/api/v1/push",
    "/v1/logs",
    "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    "/upload",
    "/services/collector/event",
    "/services/collector/raw",
    "/services/collector/ack",
    "/api/v2/logs",
    "/v1/input/key",
    "/gelf",
    "/",
    "/health",
    "/ready",
    "/metrics",
    "/insert/jsonline",
    "/api/v1/batches",
    "/api/v1/producers/00000000-0000-0000-0000-000000000000",
    "/api/v1/producers/%ff%00",
    "/api/v1/agents/00000000-0000-0000-0000-000000000000",
    "/api/v1/agents/%ff%00",
    "/api/v1/ledger",
    "/api/v1/status",
    "/api/v1/sql",
    "/select/logsql/query",
    "/select/logsql/hits",
    "/select/logsql/stats_query",
    "/select/logsql/stats_query_range",
    "/select/logsql/field_names",
    "/select/logsql/field_values",
    "/select/logsql/streams",
    "/../../etc/passwd",
    "/nowhere",
];

const ARGUMENTS: [&str; 14] = [
    "query",
    "start",
    "end",
    "limit",
    "offset",
    "step",
    "field",
    "fields_limit",
    "timeout",
    "time",
    "_time_field",
    "_msg_field",
    "_stream_fields",
    "format",
];

const HINTS: [&str; 20] = [
    "*",
    "error",
    "* | stats count()",
    "{a=\"b\"}",
    "SELECT 1",
    "-1",
    "0",
    "99999999999999999999",
    "1h",
    "1ns",
    "-5m",
    "NaN",
    "2026-01-01T00:00:00Z",
    "9999-99-99",
    "\0",
    "%",
    "a,b,,",
    "parquet",
    "_msg",
    "é\u{202e}",
];

fn random_bytes(random: &mut SmallRng, bytes_max: usize) -> Vec<u8> {
    let mut bytes = vec![0; random.random_range(0..bytes_max)];
    random.fill(&mut bytes[..]);
    bytes
}

fn random_target(random: &mut SmallRng) -> String {
    let mut target = ROUTES[random.random_range(0..ROUTES.len())].to_owned();
    for i in 0..random.random_range(0..6) {
        let name = ARGUMENTS[random.random_range(0..ARGUMENTS.len())];
        let value = match random.random_range(0..3_u8) {
            0 => String::from_utf8_lossy(&random_bytes(random, 24)).into_owned(),
            _ => HINTS[random.random_range(0..HINTS.len())].to_owned(),
        };
        let joint = if i == 0 { '?' } else { '&' };
        target.push_str(&format!("{joint}{name}={}", http::encode(&value)));
    }
    target
}

#[test]
fn random_requests_to_every_route_fuzz() {
    let mut bench = server();
    bench.insert_ok(b"{\"_msg\":\"something to find\",\"a\":\"b\",\"n\":1}\n");
    let mut random = SmallRng::seed_from_u64(9420);
    let methods = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "NONSENSE"];
    for _ in 0..1_500 {
        let target = random_target(&mut random);
        // Mostly the two methods that the routes take, or nothing would get past the router.
        let method = methods[random.random_range(0..14_usize) % 7 % random.random_range(2..8)];
        let body = random_bytes(&mut random, 2_000);
        let encoding = ["identity", "gzip", "zstd"][random.random_range(0..3)];
        let headers = match random.random_range(0..3_u8) {
            0 => vec![("Content-Encoding", encoding)],
            1 => vec![("Content-Type", "application/x-www-form-urlencoded")],
            _ => vec![],
        };
        // The answer to HEAD has a length and no body, which this client does not know about.
        let method = if method == "HEAD" { "GET" } else { method };
        let wait = Duration::from_secs(60);
        let answer = http::request(bench.far_end.addr(), method, &target, &headers, &body, wait)
            .unwrap_or_else(|e| panic!("{method} {target}: {e}"));
        assert_ne!(answer.status, 500, "{method} {target}: {}", answer.text());
    }
    bench.assert_unharmed();
}

#[test]
fn bytes_that_are_no_http_fuzz() {
    let mut bench = server();
    let mut random = SmallRng::seed_from_u64(42);
    let wait = Duration::from_millis(300);
    for round in 0..120 {
        let mut bytes = random_bytes(&mut random, 3_000);
        match round % 4 {
            0 => {}
            1 => bytes.splice(0..0, *b"POST /insert/jsonline HTTP/1.1\r\n").for_each(drop),
            2 => bytes.splice(0..0, *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").for_each(drop),
            _ => {
                let head = b"POST /api/v1/batches HTTP/1.1\r\nHost: x\r\n\
                    Transfer-Encoding: chunked\r\n\r\n";
                bytes.splice(0..0, *head).for_each(drop);
            }
        }
        http::raw(bench.far_end.addr(), &bytes, true, wait);
    }
    // A megabyte of one header, and a hundred thousand headers, are refused and not collected.
    let long = format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "a".repeat(1 << 20));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(100_000));
    for bytes in [long, many] {
        let back = http::raw(bench.far_end.addr(), bytes.as_bytes(), true, wait);
        assert!(!back.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&back));
    }
    assert_eq!(bench.count("*"), 0, "nothing of that was a record");
    bench.assert_unharmed();
}
