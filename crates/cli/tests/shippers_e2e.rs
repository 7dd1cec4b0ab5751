//! Unmodified shippers of other products send over sockets to a real server; every message that they
//! were given is there once, field by field.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use support::{Server, text};

/// Messages that each shipper is given.
const COUNT: u64 = 10_000;
const TIME_MAX: Duration = Duration::from_secs(60);

/// A server with one door, and the door's port.
fn server_with(door: &str) -> (Server, u16) {
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    (Server::with_settings(&format!("{door} = \"127.0.0.1:{port}\"\n")), port)
}

/// A file with the messages, one a line.
fn messages(server: &Server, of: &str) -> PathBuf {
    let lines: String = (0..COUNT).map(|i| format!("record {i} of {of}\n")).collect();
    server.file("messages.log", lines.as_bytes())
}

/// A program that is ended with the test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn program(command: &mut Command) -> Program {
    let name = command.get_program().to_string_lossy().into_owned();
    let started = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
    Program(started.unwrap_or_else(|e| panic!("{name}: {e}; scripts/setup test installs it")))
}

/// Waits until all are there, and looks at each.
fn assert_all(server: &Server, of: &str, fields: &[(&str, &str)]) {
    let started = Instant::now();
    while server.count("*") < COUNT {
        assert!(started.elapsed() < TIME_MAX, "{of}: {} came", server.count("*"));
        std::thread::sleep(Duration::from_millis(100));
    }
    let rows = server.ok(&["query", "*", "--limit", "100000", "--format", "jsonl"]);
    let mut numbers = BTreeSet::new();
    for row in rows.lines() {
        let row: Map<String, Value> = serde_json::from_str(row).unwrap();
        let message = row["_msg"].as_str().unwrap().trim();
        let number = message.strip_prefix("record ").and_then(|rest| rest.split_once(" of "));
        let (number, found) = number.unwrap_or_else(|| panic!("{of}: {row:?}"));
        assert_eq!(found, of);
        assert!(numbers.insert(number.parse::<u64>().unwrap()), "{message} came twice");
        for (name, expected) in fields {
            let found = row.get(*name).and_then(Value::as_str).unwrap_or("(none)");
            assert_eq!(found, *expected, "{of}, {name}: {row:?}");
        }
    }
    assert_eq!(numbers.len() as u64, COUNT);
}

fn write(server: &Server, name: &str, content: &str) -> PathBuf {
    server.file(name, content.as_bytes())
}

#[test]
fn rsyslog_forwards_every_line_over_tcp() {
    let (server, port) = server_with("syslog_tcp");
    let file = messages(&server, "rsyslog");
    let work = server.path("rsyslog");
    std::fs::create_dir(&work).unwrap();
    let config = format!(
        "global(workDirectory=\"{work}\")\nmodule(load=\"imfile\")\n\
         input(type=\"imfile\" File=\"{file}\" Tag=\"shop\" Severity=\"warning\" \
         Facility=\"local3\")\n\
         action(type=\"omfwd\" Target=\"127.0.0.1\" Port=\"{port}\" Protocol=\"tcp\" \
         Template=\"RSYSLOG_SyslogProtocol23Format\" TCP_Framing=\"octet-counted\")\n",
        work = work.display(),
        file = file.display(),
    );
    let config = write(&server, "rsyslog.conf", &config);
    let pid = server.path("rsyslog.pid");
    let _rsyslog = program(Command::new(found("rsyslogd")).arg("-n").args([
        Path::new("-f"),
        &config,
        Path::new("-i"),
        &pid,
    ]));
    let fields = [("syslog.appname", "shop"), ("level", "warn"), ("syslog.facility", "local3")];
    assert_all(&server, "rsyslog", &fields);
}

#[test]
fn logger_sends_every_line_in_each_of_its_ways() {
    for ways in [
        &["--tcp", "--rfc5424"][..],
        &["--tcp", "--rfc5424", "--octet-count"],
        &["--tcp", "--rfc3164"],
    ] {
        let (server, port) = server_with("syslog_tcp");
        let file = messages(&server, "logger");
        let output = Command::new(found("logger"))
            .args(["--server", "127.0.0.1", "--port", &port.to_string()])
            .args(["--tag", "shop", "--priority", "local3.err"])
            .args(ways)
            .arg("--file")
            .arg(&file)
            .output()
            .unwrap();
        assert!(output.status.success(), "{ways:?}: {}", text(&output.stderr));
        let fields = [("syslog.appname", "shop"), ("level", "error")];
        assert_all(&server, "logger", &fields);
    }
}

#[test]
fn fluent_logger_delivers_every_event() {
    let (server, port) = server_with("forward");
    let python = std::env::var_os("LODGE_PYTHON").filter(|python| !python.is_empty());
    let python = python.expect("LODGE_PYTHON names a Python with the clients; see scripts/test");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/send.py");
    let output = Command::new(python)
        .arg(script)
        .args(["fluent", &format!("127.0.0.1:{port}"), &COUNT.to_string()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let fields = [("fluent.tag", "shop.web"), ("rack", "r1")];
    assert_all(&server, "fluent", &fields);
}

/// A program of the system: some lie where only root looks.
fn found(name: &str) -> PathBuf {
    let folders = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let there = folders.iter().map(|folder| Path::new(folder).join(name)).find(|p| p.exists());
    there.unwrap_or_else(|| panic!("{name} is not there; scripts/setup test installs it"))
}
