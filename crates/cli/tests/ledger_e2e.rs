//! `lodge ledger` with a real agent: both sides count, and what they count differently is told.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Server, text};

/// Appends lines to the log, and lets an agent run until the server has that many.
fn ship(server: &Server, log: &Path, lines: std::ops::Range<u64>) {
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
    for n in lines.clone() {
        writeln!(file, "2026-11-22T10:00:00Z INFO line {n}").unwrap();
    }
    let state = server.path("state");
    let (state, log) = (state.to_str().unwrap(), log.to_str().unwrap());
    let mut command = server.command(&["agent", "--state-dir", state, "--path", log]);
    let mut agent = command.spawn().unwrap();
    let begun = Instant::now();
    while server.count("*") < lines.end && begun.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(50));
    }
    Command::new("kill").args(["-TERM", &agent.id().to_string()]).status().unwrap();
    assert!(agent.wait().unwrap().success());
    assert_eq!(server.count("*"), lines.end);
}

fn source(server: &Server) -> Value {
    let ledger: Value = serde_json::from_str(&server.ok(&["ledger", "--json"])).unwrap();
    ledger["sources"][0].clone()
}

#[test]
fn an_agent_that_has_counted_more_than_the_server_has_is_an_alarm() {
    let server = Server::start();
    let log = server.path("a.log");
    ship(&server, &log, 0..10);
    ship(&server, &log, 10..25);
    let both = source(&server);
    assert_eq!(both["stored_records"], 25);
    assert_eq!(both["counted_by_agent"]["durable_records"], 25, "{both}");
    assert_eq!(both["counted_otherwise"], false);
    server.ok(&["ledger", "--check"]);

    // As if the server had lost five records that the agent was told are durable.
    let checkpoint = server.path("state").join("files.json");
    let mut state: Value = serde_json::from_slice(&std::fs::read(&checkpoint).unwrap()).unwrap();
    let tally = &mut state["files"][0]["tally"];
    assert_eq!(tally["durable_records"], 25, "what the agent has in its state: {tally}");
    for count in ["read_records", "durable_records"] {
        tally[count] = 30.into();
    }
    std::fs::write(&checkpoint, serde_json::to_vec(&state).unwrap()).unwrap();
    ship(&server, &log, 25..26);

    let differ = source(&server);
    assert_eq!(differ["stored_records"], 26);
    assert_eq!(differ["counted_by_agent"]["durable_records"], 31);
    assert_eq!(differ["counted_otherwise"], true);
    let shown = server.ok(&["ledger"]);
    assert!(shown.contains("31 (DIFFERS)"), "{shown}");
    assert!(shown.contains("ALARM: 1 sources are counted otherwise by their agents"), "{shown}");
    let checked = server.run(&["ledger", "--check"]);
    assert_eq!(checked.status.code(), Some(1), "{}", text(&checked.stderr));
}
