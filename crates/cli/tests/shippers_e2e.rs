//! Unmodified shippers of other products send over sockets to a real server; every message that they
//! were given is there once, field by field.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::{Map, Value};
use support::{Server, found, free_port, installed, python, text};

/// Messages that each shipper is given.
const COUNT: u64 = 10_000;
const TIME_MAX: Duration = Duration::from_secs(60);
/// Severities of syslog as a number, as rsyslog and as Lodge write them.
const SEVERITIES: [(u8, &str); 3] = [(6, "info"), (4, "warn"), (3, "error")];

type Fields = Vec<(&'static str, String)>;

/// A server with one door, and the door's port.
fn server_with(door: &str) -> (Server, u16) {
    let port = free_port();
    (Server::with_settings(&format!("{door} = \"127.0.0.1:{port}\"\n")), port)
}

/// A server that takes syslog over TLS, and the port. `ca.pem` in its folder is who signed its
/// certificate, which is for `localhost`.
fn server_with_tls() -> (Server, u16) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    // Unlike the server's, as a certificate that seems to be signed by itself is not trusted.
    params.distinguished_name.push(DnType::CommonName, "authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, "lodge");
    let certificate = params.signed_by(&key, &authority).unwrap();
    let files = [
        ("server.pem", certificate.pem()),
        ("server.key", key.serialize_pem()),
        ("ca.pem", authority.pem()),
    ];
    let port = free_port();
    let server = Server::with_files(&files, |folder| {
        let folder = folder.display();
        format!(
            "syslog_tcp = \"tls://127.0.0.1:{port}\"\ntls_certificate = \"{folder}/server.pem\"\n\
             tls_key = \"{folder}/server.key\"\n"
        )
    });
    (server, port)
}

/// A file with the messages, one a line.
fn messages(server: &Server, of: &str) -> PathBuf {
    let lines: String = (0..COUNT).map(|i| format!("record {i} of {of}\n")).collect();
    server.file("messages.log", lines.as_bytes())
}

/// Messages of many hosts with everything that RFC 5424 has, one a line.
fn syslog_lines(of: &str) -> String {
    let line = |i: u64| {
        let priority = 16 * 8 + SEVERITIES[(i % 3) as usize].0;
        let (time, host, pid) = (stated_time(i), i % 5, 1000 + i);
        format!(
            "<{priority}>1 {time}.250000Z host-{host} shop {pid} ID{} \
             [order@32473 n=\"{i}\" note=\"a \\\"b\\\" \\] c\"] record {i} of {of}\n",
            i % 7
        )
    };
    (0..COUNT).map(line).collect()
}

/// What those are here.
fn syslog_fields(i: u64) -> Fields {
    vec![
        ("_time", format!("{}.25Z", stated_time(i))),
        ("level", SEVERITIES[(i % 3) as usize].1.to_owned()),
        ("syslog.facility", "local0".to_owned()),
        ("syslog.hostname", format!("host-{}", i % 5)),
        ("syslog.appname", "shop".to_owned()),
        ("syslog.procid", (1000 + i).to_string()),
        ("syslog.msgid", format!("ID{}", i % 7)),
        ("syslog.data.order@32473.n", i.to_string()),
        ("syslog.data.order@32473.note", "a \"b\" ] c".to_owned()),
    ]
}

fn stated_time(i: u64) -> String {
    let s = 12 * 3600 + i;
    format!("2026-03-01T{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
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
fn assert_all(server: &Server, of: &str, expected: impl Fn(u64) -> Fields) {
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
        let number = number.parse().unwrap();
        assert!(numbers.insert(number), "{message} came twice");
        for (name, expected) in expected(number) {
            let found = row.get(name).and_then(Value::as_str).unwrap_or("(none)");
            assert_eq!(found, expected, "{of}, {name}: {row:?}");
        }
    }
    assert_eq!(numbers.len() as u64, COUNT);
}

/// rsyslog with this configuration, in a folder of its own.
fn rsyslog(server: &Server, config: &str) -> Program {
    let work = server.path("rsyslog");
    std::fs::create_dir(&work).unwrap();
    let config = format!("global(workDirectory=\"{}\")\n{config}", work.display());
    let config = server.file("rsyslog.conf", config.as_bytes());
    let pid = server.path("rsyslog.pid");
    let args = [Path::new("-f"), &config, Path::new("-i"), &pid];
    program(Command::new(found("rsyslogd")).arg("-n").args(args))
}

/// rsyslog that passes on what it is sent; `action` says where to. Ended with what is given.
fn rsyslog_relay(server: &Server, of: &str, action: &str) -> Program {
    let port = free_port();
    // Its queue is in memory: all that it has taken waits there.
    let rsyslog = rsyslog(
        server,
        &format!(
            "module(load=\"imtcp\")\nmodule(load=\"omelasticsearch\")\n\
             input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\")\n{action}"
        ),
    );
    let deadline = Instant::now() + TIME_MAX;
    let mut stream = loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => break stream,
            Err(error) => assert!(Instant::now() < deadline, "rsyslog does not listen: {error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    stream.write_all(syslog_lines(of).as_bytes()).unwrap();
    rsyslog
}

#[test]
fn rsyslog_forwards_every_line_over_tcp() {
    let (server, port) = server_with("syslog_tcp");
    let file = messages(&server, "rsyslog");
    let config = format!(
        "module(load=\"imfile\")\n\
         input(type=\"imfile\" File=\"{file}\" Tag=\"shop\" Severity=\"warning\" \
         Facility=\"local3\")\n\
         action(type=\"omfwd\" Target=\"127.0.0.1\" Port=\"{port}\" Protocol=\"tcp\" \
         Template=\"RSYSLOG_SyslogProtocol23Format\" TCP_Framing=\"octet-counted\")\n",
        file = file.display(),
    );
    let _rsyslog = rsyslog(&server, &config);
    assert_all(&server, "rsyslog", |_| {
        vec![
            ("syslog.appname", "shop".to_owned()),
            ("level", "warn".to_owned()),
            ("syslog.facility", "local3".to_owned()),
        ]
    });
}

#[test]
fn rsyslog_relays_every_message_over_tls() {
    let (server, port) = server_with_tls();
    let action = format!(
        "global(DefaultNetstreamDriverCAFile=\"{ca}\")\n\
         action(type=\"omfwd\" Target=\"127.0.0.1\" Port=\"{port}\" Protocol=\"tcp\" \
         Template=\"RSYSLOG_SyslogProtocol23Format\" TCP_Framing=\"octet-counted\" \
         StreamDriver=\"gtls\" StreamDriverMode=\"1\" StreamDriverAuthMode=\"x509/name\" \
         StreamDriverPermittedPeers=\"localhost\")\n",
        ca = server.path("ca.pem").display(),
    );
    let _rsyslog = rsyslog_relay(&server, "rsyslog over TLS", &action);
    assert_all(&server, "rsyslog over TLS", syslog_fields);
}

#[test]
fn rsyslog_stores_every_message_as_in_elasticsearch() {
    let (server, port) = server_with("elasticsearch");
    let action = format!(
        "template(name=\"document\" type=\"list\" option.jsonf=\"on\") {{\n\
         property(outname=\"@timestamp\" name=\"timereported\" dateFormat=\"rfc3339\" \
         format=\"jsonf\")\n\
         property(outname=\"message\" name=\"msg\" format=\"jsonf\")\n\
         property(outname=\"log.level\" name=\"syslogseverity-text\" format=\"jsonf\")\n\
         property(outname=\"host.name\" name=\"hostname\" format=\"jsonf\")\n\
         property(outname=\"service.name\" name=\"app-name\" format=\"jsonf\")\n\
         property(outname=\"process.pid\" name=\"procid\" format=\"jsonf\")\n\
         property(outname=\"data\" name=\"structured-data\" format=\"jsonf\")\n}}\n\
         action(type=\"omelasticsearch\" server=\"127.0.0.1\" serverport=\"{port}\" \
         searchIndex=\"logs-shop\" searchType=\"_doc\" bulkmode=\"on\" template=\"document\" \
         action.resumeRetryCount=\"-1\" action.resumeInterval=\"1\")\n"
    );
    let _rsyslog = rsyslog_relay(&server, "omelasticsearch", &action);
    assert_all(&server, "omelasticsearch", |i| {
        let data = format!("[order@32473 n=\"{i}\" note=\"a \\\"b\\\" \\] c\"]");
        vec![
            ("_time", format!("{}.25Z", stated_time(i))),
            ("level", SEVERITIES[(i % 3) as usize].1.to_owned()),
            ("host.name", format!("host-{}", i % 5)),
            ("service.name", "shop".to_owned()),
            ("process.pid", (1000 + i).to_string()),
            ("data", data),
            ("_index", "logs-shop".to_owned()),
        ]
    });
}

/// syslog-ng that reads a file of messages; `transport` says how it passes them on. It comes unpacked,
/// as systems have either it or rsyslog.
fn syslog_ng(server: &Server, of: &str, transport: &str) -> Program {
    let root = installed("syslog-ng/usr");
    let libraries = root.join("lib/syslog-ng");
    let is_version = |path: &PathBuf| path.join("libafsocket.so").exists();
    let entries = std::fs::read_dir(&libraries).unwrap().map(|entry| entry.unwrap().path());
    let modules = entries.into_iter().find(is_version).expect("a folder of modules");
    let version = modules.file_name().unwrap().to_string_lossy().into_owned();
    let file = server.file("messages.log", syslog_lines(of).as_bytes());
    let config = format!(
        "@version: {version}\n\
         options {{ keep-hostname(yes); use-dns(no); dns-cache(no); frac-digits(6); }};\n\
         source s {{ file(\"{}\" flags(syslog-protocol)); }};\n\
         destination d {{ syslog(\"localhost\" ip-protocol(4) {transport}); }};\n\
         log {{ source(s); destination(d); flags(flow-control); }};\n",
        file.display(),
    );
    let config = server.file("syslog-ng.conf", config.as_bytes());
    let mut command = Command::new(root.join("sbin/syslog-ng"));
    command.env("LD_LIBRARY_PATH", &libraries).env("TZ", "UTC");
    command.arg("--foreground").arg("--no-caps").arg("--cfgfile").arg(config);
    command.arg("--module-path").arg(modules);
    for (flag, name) in [("--persist-file", "persist"), ("--pidfile", "pid"), ("--control", "ctl")]
    {
        command.arg(flag).arg(server.path(name));
    }
    program(&mut command)
}

#[test]
fn syslog_ng_sends_every_message_over_tcp() {
    let (server, port) = server_with("syslog_tcp");
    let transport = format!("transport(\"tcp\") port({port})");
    let _syslog_ng = syslog_ng(&server, "syslog-ng", &transport);
    assert_all(&server, "syslog-ng", syslog_fields);
}

#[test]
fn syslog_ng_sends_every_message_over_tls() {
    let (server, port) = server_with_tls();
    let ca = server.path("ca.pem");
    let transport = format!(
        "transport(\"tls\") port({port}) tls(ca-file(\"{}\") peer-verify(required-trusted))",
        ca.display()
    );
    let _syslog_ng = syslog_ng(&server, "syslog-ng over TLS", &transport);
    assert_all(&server, "syslog-ng over TLS", syslog_fields);
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
        assert_all(&server, "logger", |_| {
            vec![
                ("syslog.appname", "shop".to_owned()),
                ("syslog.facility", "local3".to_owned()),
                ("level", "error".to_owned()),
            ]
        });
    }
}

#[test]
fn fluent_logger_delivers_every_event() {
    let (server, port) = server_with("forward");
    let script = support::folder().join("tests/clients/send.py");
    let output = Command::new(python())
        .arg(script)
        .args(["fluent", &format!("127.0.0.1:{port}"), &COUNT.to_string()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_all(&server, "fluent", |i| {
        vec![
            ("_time", format!("{}Z", stated_time(i))),
            ("fluent.tag", "shop.web".to_owned()),
            ("n", i.to_string()),
            ("rack", "r1".to_owned()),
        ]
    });
}

#[test]
fn pino_socket_sends_every_line() {
    let (server, port) = server_with("json_tcp");
    support::node("pino_socket", &format!("127.0.0.1:{port}"), COUNT);
    assert_all(&server, "pino_socket", |i| {
        vec![
            ("_time", format!("{}Z", stated_time(i))),
            ("level", SEVERITIES[(i % 3) as usize].1.to_owned()),
            ("hostname", "web-1".to_owned()),
            ("n", i.to_string()),
            ("rack", format!("rack-{}", i % 5)),
        ]
    });
}
