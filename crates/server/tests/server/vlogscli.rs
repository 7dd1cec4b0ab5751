//! What VictoriaLogs' command-line client sends, as it was observed: a form with the query in its
//! canonical text, headers of a tenant, and answers read line by line.

use super::rig::{Rig, THREE};
use reqwest::StatusCode;
use serde_json::Value;

/// Sends as the client does; gives the rows of the answer.
async fn send(rig: &Rig, path: &str, query: &str) -> (StatusCode, String) {
    let body = form(query);
    let request = rig
        .post(path)
        .header("User-Agent", "Go-http-client/1.1")
        .header("Content-Type", "application/x-www-form-urlencoded")
        .header("AccountID", "0")
        .header("ProjectID", "0")
        .header("Accept-Encoding", "gzip")
        .body(body);
    let response = request.send().await.unwrap();
    (response.status(), response.text().await.unwrap())
}

/// `query=…` as Go encodes forms: spaces as plus signs.
fn form(query: &str) -> String {
    let mut out = String::from("query=");
    for byte in query.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            b' ' => out.push('+'),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clients_requests_are_answered() {
    let rig = Rig::start().await;
    rig.inserted(THREE).await;
    // Left: as it is typed; right: as it is sent.
    for (typed, sent, rows) in [
        ("*;", "*", 3),
        ("error;", "error", 0),
        ("level:error;", "level:error", 1),
        ("{service=\"api\"};", "{service=\"api\"}", 2),
        ("* | count();", "* | stats count(*) as \"count(*)\"", 1),
        ("* | stats by (level) count() n;", "* | stats by (level) count(*) as n", 2),
        ("level:info | sort by (_time) | limit 1;", "level:info | sort by (_time) limit 1", 1),
        ("it or done | fields _msg;", "it or done | fields _msg", 2),
        ("_time:2026-03-01 | fields _time;", "_time:2026-03-01 | fields _time", 3),
    ] {
        let (status, text) = send(&rig, "/select/logsql/query", sent).await;
        assert_eq!(status, StatusCode::OK, "{typed}: {text}");
        assert_eq!(text.lines().count(), rows, "{typed}: {text}");
        for line in text.lines() {
            let row: Value = serde_json::from_str(line).unwrap();
            assert!(row.as_object().unwrap().values().all(Value::is_string), "{line}");
        }
    }
    let (status, text) = send(&rig, "/select/logsql/query", "level:(").await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{text}");
    rig.server.stop().await;
}
