//! Servers that keep their records in a bucket of a real object store: what they refuse to start
//! with, that their own folder is not needed for the records, that each keeps to its roles, and how a
//! single machine's records get there.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use lodge_faults::object_store::{FailingProxy, Failure, ObjectStore};
use lodge_faults::postgres::Postgres;
use lodge_faults::process::{Binaries, ProcessError, Server, free_addr};
use lodge_faults::{http, rig};

fn server(folder: &Path, name: &str, settings: &str) -> Server {
    let config = folder.join(format!("{name}.toml"));
    fs::write(&config, settings).unwrap();
    let lodge = Binaries::find().unwrap().lodge;
    Server::new(&lodge, &folder.join(name), folder)
        .unwrap()
        .with_args(&["--config", config.to_str().unwrap()])
}

/// What a server says that ends instead of starting.
fn refusal(folder: &Path, name: &str, settings: &str) -> String {
    match server(folder, name, settings).start() {
        Err(ProcessError::Ended { log, .. }) => log,
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn records_are_in_the_bucket_and_it_is_nobody_elses() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let store = ObjectStore::start(folder).unwrap();
    let settings = ObjectStore::settings("lodge", store.addr());

    let mut first = server(folder, "first", &settings);
    first.start().unwrap();
    let lines: String =
        (0..10_000).map(|n| format!("{{\"_msg\":\"line {n} of many\",\"n\":{n}}}\n")).collect();
    let path = "/insert/jsonline?_stream_fields=app";
    let limit = Duration::from_secs(60);
    let sent = http::request(first.addr(), "POST", path, &[], lines.as_bytes(), limit).unwrap();
    assert!(sent.is_success(), "{}", sent.text());
    let count = |server: &Server, filter: &str| server.far_end().count(filter).unwrap();
    assert_eq!(count(&first, "many"), 10_000);
    first.kill();
    first.start().unwrap();
    assert_eq!(count(&first, "many"), 10_000, "read from the bucket, uncached");
    rig::wait_built(first.far_end()).unwrap();
    assert_eq!(count(&first, "n:<250"), 250);
    assert!(!folder.join("first/objects").exists(), "objects are files, too");

    let log = refusal(folder, "second", &settings);
    assert!(log.contains("s3://logs/lodge: its objects belong to another catalog"), "{log}");
    let log = refusal(folder, "absent", &settings.replace("s3://logs", "s3://no-such-bucket"));
    assert!(log.contains("check that the bucket is there"), "{log}");
    let log = refusal(folder, "denied", &settings.replace("not-a-secret", "a-guess"));
    assert!(
        log.contains("that the credentials may read, write") && !log.contains("a-guess"),
        "{log}"
    );
    // Another folder of the bucket is free.
    server(folder, "third", &ObjectStore::settings("lodge-3", store.addr())).start().unwrap();
    assert_eq!(count(&first, "many"), 10_000);
}

#[test]
fn what_was_asked_once_is_answered_while_the_bucket_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let store = ObjectStore::start(folder).unwrap();
    let proxy = FailingProxy::start(store.addr()).unwrap();
    let settings = ObjectStore::settings("cached", proxy.addr());
    let mut server = server(folder, "server", &settings);
    server.start().unwrap();
    let lines: String =
        (0..20_000).map(|n| format!("{{\"_msg\":\"line {n} of many\",\"n\":{n}}}\n")).collect();
    let limit = Duration::from_secs(60);
    let path = "/insert/jsonline";
    let sent = http::request(server.addr(), "POST", path, &[], lines.as_bytes(), limit).unwrap();
    assert!(sent.is_success(), "{}", sent.text());
    rig::wait_built(server.far_end()).unwrap();
    // Nothing of the segment is in memory after this start, nor on the disk.
    server.process().terminate(limit).unwrap();
    server.start().unwrap();
    let answers = |server: &Server| {
        let count = |filter: &str| server.far_end().count(filter).unwrap();
        (count("1234"), count("n:<250"), count("line"))
    };
    assert_eq!(answers(&server), (1, 250, 20_000));
    assert!(server.far_end().metric("lodge_cache_misses_total", "").unwrap() > 0.0);
    server.process().terminate(limit).unwrap();

    proxy.set(Failure::Down, 100);
    server.start().unwrap();
    assert_eq!(answers(&server), (1, 250, 20_000), "from the cache on the disk");
    assert!(server.far_end().metric("lodge_cache_hits_total", "").unwrap() > 0.0);
    proxy.set(Failure::None, 0);
}

#[test]
fn a_server_does_what_its_roles_are_and_says_whom_to_ask_for_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (store, catalog) = (ObjectStore::start(folder).unwrap(), Postgres::start().unwrap());
    let syslog = free_addr().unwrap();
    let settings = |roles: &str| {
        let objects = ObjectStore::settings("roles", store.addr());
        let port = catalog.port();
        format!(
            "{objects}catalog = \"postgres://lodge@127.0.0.1:{port}/postgres\"\n\
             syslog_tcp = \"{syslog}\"\nroles = [{roles}]\n"
        )
    };
    let ask = |server: &Server, path: &str, body: &[u8]| {
        http::request(server.addr(), "POST", path, &[], body, Duration::from_secs(30)).unwrap()
    };

    let mut query = server(folder, "query", &settings("\"query\""));
    query.start().unwrap();
    let refused = ask(&query, "/insert/jsonline", b"{\"_msg\":\"lost?\"}");
    assert_eq!(refused.status, 503);
    assert!(refused.text().contains("the roles query; ask one that has the role `ingest`"));
    assert!(TcpStream::connect(syslog).is_err(), "a server without the role ingest takes syslog");

    let mut ingest = server(folder, "ingest", &settings("\"ingest\", \"build\""));
    ingest.start().unwrap();
    assert!(TcpStream::connect(syslog).is_ok());
    let taken = ask(&ingest, "/insert/jsonline", b"{\"_msg\":\"kept\"}");
    assert!(taken.is_success(), "{}: {}", taken.status, taken.text());
    assert_eq!(query.far_end().count("kept").unwrap(), 1, "what one took the other finds");
    let refused = ask(&ingest, "/select/logsql/query?query=*", b"");
    assert!(refused.status == 503 && refused.text().contains("ask one that has the role `query`"));
}

/// Lines that a live tail gave so far: the messages of a request that is under way.
fn follow(server: &Server, query: &str) -> mpsc::Receiver<String> {
    let mut stream = TcpStream::connect(server.addr()).unwrap();
    let host = server.addr();
    let asked = format!("GET /select/logsql/tail?{query} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    stream.write_all(asked.as_bytes()).unwrap();
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        // Records among the lines are those of the answer's pieces that are objects.
        let lines = BufReader::new(stream).lines().map_while(Result::ok);
        for line in lines.filter(|line| line.starts_with('{')) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    lines
}

/// The field `n` of a line that a tail shows.
fn number_of(line: &str) -> u64 {
    let (_, n) = line.split_once("\"n\":\"").unwrap_or_else(|| panic!("{line}"));
    n.split_once('"').unwrap().0.parse().unwrap()
}

/// Those of the next lines.
fn numbers(lines: &mpsc::Receiver<String>, count: usize) -> Vec<u64> {
    let next = |_| number_of(&lines.recv_timeout(Duration::from_secs(60)).unwrap());
    (0..count).map(next).collect()
}

/// Whichever server is asked, it shows what any took in, each record once; also to one that begins with
/// what there was before.
#[test]
fn a_live_tail_shows_what_other_servers_take_in() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (store, catalog) = (ObjectStore::start(folder).unwrap(), Postgres::start().unwrap());
    let objects = ObjectStore::settings("tails", store.addr());
    let port = catalog.port();
    let settings = |roles: &str| {
        let catalog = format!("catalog = \"postgres://lodge@127.0.0.1:{port}/postgres\"");
        format!("{objects}{catalog}\nroles = [{roles}]\n")
    };
    let mut query = server(folder, "query", &settings("\"query\""));
    let mut ingest = server(folder, "ingest", &settings("\"ingest\", \"query\", \"build\""));
    query.start().unwrap();
    ingest.start().unwrap();
    let send = |numbers: std::ops::Range<u64>| {
        let lines: String =
            numbers.map(|n| format!("{{\"_msg\":\"line {n}\",\"n\":\"{n}\"}}\n")).collect();
        let limit = Duration::from_secs(60);
        let path = "/insert/jsonline";
        let sent = http::request(ingest.addr(), "POST", path, &[], lines.as_bytes(), limit);
        assert!(sent.unwrap().is_success());
    };
    send(0..3);
    let all = [follow(&query, "query=line"), follow(&ingest, "query=line")];
    let odd = follow(&query, "query=n:in(11,13)&start_offset=1h");
    // A tail has begun once its answer has: a record that it shows says so.
    let mut next = 3;
    let mut shown: Vec<Vec<u64>> = vec![Vec::new(), Vec::new()];
    while shown.iter().any(Vec::is_empty) {
        send(next..next + 1);
        next += 1;
        for (lines, shown) in all.iter().zip(&mut shown) {
            let line = lines.recv_timeout(Duration::from_millis(500)).ok();
            shown.extend(line.map(|line| number_of(&line)));
        }
        assert!(next < 10, "no tail shows anything");
    }
    for from in [10, 20, 30] {
        send(from..from + 10);
    }
    for (lines, mut shown) in all.iter().zip(shown) {
        let first = shown.first().copied().unwrap();
        assert!(first >= 3, "what came before the tail is not shown");
        let count = (first..next).count() + 30;
        shown.extend(numbers(lines, count - shown.len()));
        shown.sort_unstable();
        let expected: Vec<u64> = (first..next).chain(10..40).collect();
        assert_eq!(shown, expected, "each record once");
    }
    assert_eq!(numbers(&odd, 2), [11, 13]);

    let late = follow(&query, "query=line&start_offset=1h");
    let mut shown = numbers(&late, next as usize + 30);
    shown.sort_unstable();
    assert_eq!(shown, (0..next).chain(10..40).collect::<Vec<_>>());
    send(40..50);
    assert_eq!(numbers(&late, 10), (40..50).collect::<Vec<_>>(), "and what comes then, once");
}

fn lodge(args: &[&str]) -> Output {
    Command::new(Binaries::find().unwrap().lodge).args(args).output().unwrap()
}

fn lodge_ok(args: &[&str]) -> String {
    let output = lodge(args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// Starts the command again and again, and kills it a little later each time; then lets it end.
fn killed_and_done(args: &[&str]) -> String {
    let binary = Binaries::find().unwrap().lodge;
    for ms in [5, 20, 40, 60, 80, 110] {
        let mut process = Command::new(&binary).args(args).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(ms));
        let has_ended = process.try_wait().unwrap().is_some();
        process.kill().ok();
        process.wait().unwrap();
        if has_ended {
            break;
        }
    }
    let last = lodge(args);
    let said = String::from_utf8_lossy(&last.stderr).into_owned();
    // One that was to be killed was quicker.
    assert!(last.status.success() || said.contains("already holds records"), "{args:?}: {said}");
    String::from_utf8(last.stdout).unwrap()
}

/// Appends lines and lets an agent run until the server has that many.
fn ship(server: &Server, log: &Path, state: &Path, lines: std::ops::Range<u64>) {
    use std::io::Write as _;
    let mut file = fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
    for n in lines.clone() {
        writeln!(file, "2026-11-22T10:00:00Z INFO shipped {n}").unwrap();
    }
    let url = format!("http://{}", server.addr());
    let args = ["agent", "--server", &url, "--state-dir", state.to_str().unwrap(), "--path"];
    let mut agent =
        Command::new(Binaries::find().unwrap().lodge).args(args).arg(log).spawn().unwrap();
    let begun = Instant::now();
    let count = || server.far_end().count("shipped").unwrap();
    while count() < lines.end && begun.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(50));
    }
    Command::new("kill").args(["-TERM", &agent.id().to_string()]).status().unwrap();
    agent.wait().unwrap();
    assert_eq!(count(), lines.end, "lost or doubled");
}

#[test]
fn a_machine_moves_into_a_cluster_and_back_and_its_agent_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (store, catalog) = (ObjectStore::start(folder).unwrap(), Postgres::start().unwrap());
    let (log, state, backup) =
        (folder.join("app.log"), folder.join("state"), folder.join("backup"));
    let backup = backup.to_str().unwrap();
    let machine_dir = folder.join("machine");
    let machine_dir = machine_dir.to_str().unwrap();

    let mut machine = server(folder, "machine", "");
    machine.start().unwrap();
    let lines: String =
        (0..20_000).map(|n| format!("{{\"_msg\":\"line {n} of many\",\"n\":{n}}}\n")).collect();
    let limit = Duration::from_secs(60);
    let path = "/insert/jsonline?_stream_fields=app";
    for _ in 0..10 {
        http::request(machine.addr(), "POST", path, &[], lines.as_bytes(), limit).unwrap();
    }
    ship(&machine, &log, &state, 0..500);
    // A restore point while the server runs; what comes later is not in it.
    let made = lodge_ok(&["backup", "--to", backup, "--data-dir", machine_dir, "--keep", "2"]);
    assert!(made.contains("Restore point") && made.contains("200,500"), "{made}");
    ship(&machine, &log, &state, 500..700);
    lodge_ok(&["backup", "--to", backup, "--data-dir", machine_dir, "--keep", "2"]);
    let points = lodge_ok(&["restore", "--from", backup, "--list", "--json"]);
    let points: Vec<serde_json::Value> =
        points.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let records: Vec<_> = points.iter().map(|point| point["records"].as_u64().unwrap()).collect();
    assert_eq!(records, [200_500, 200_700]);
    assert!(lodge_ok(&["backup", "--to", backup, "--verify"]).contains("every checksum is right"));

    // Into a cluster, once the server has stopped.
    let config = folder.join("cluster.toml");
    let objects = ObjectStore::settings("moved", store.addr());
    let port = catalog.port();
    let data = folder.join("cluster");
    fs::write(
        &config,
        format!(
            "{objects}catalog = \"postgres://lodge@127.0.0.1:{port}/postgres\"\ndata_dir = {data:?}\n"
        ),
    )
    .unwrap();
    let config = config.to_str().unwrap();
    let refused = lodge(&["migrate", "--data-dir", machine_dir, "--to", config]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("is in use by another lodge"), "{said}");
    machine.process().terminate(limit).unwrap();
    let plan = ["migrate", "--data-dir", machine_dir, "--to", config, "--dry-run"];
    let plan = lodge_ok(&plan);
    assert!(plan.contains("Would move") && plan.contains("200,700"), "{plan}");
    killed_and_done(&["migrate", "--data-dir", machine_dir, "--to", config, "--quiet"]);
    let mut cluster = server(folder, "cluster", &fs::read_to_string(config).unwrap());
    cluster.start().unwrap();
    let count = |server: &Server, filter: &str| server.far_end().count(filter).unwrap();
    assert_eq!((count(&cluster, "many"), count(&cluster, "shipped")), (200_000, 700));
    ship(&cluster, &log, &state, 700..900);

    // The cluster's backup into a bucket, and both kinds of backup into new machines.
    let access = ["access_key_id=lodge", "secret_access_key=not-a-secret", "allow_http=true"];
    let endpoint = format!("endpoint=http://{}", store.addr());
    let mut bucket = vec!["--option", "region=none", "--option", &endpoint];
    access.iter().for_each(|option| bucket.extend(["--option", option]));
    let to = [&["backup", "--to", "s3://logs/backup", "--config", config], bucket.as_slice()];
    lodge_ok(&to.concat());
    let first = points[0]["time"].as_str().unwrap();
    let (early, late) = (folder.join("early"), folder.join("late"));
    let early = early.to_str().unwrap();
    killed_and_done(&["restore", "--from", backup, "--at", first, "--data-dir", early, "-q"]);
    let from = ["restore", "--from", "s3://logs/backup", "--data-dir", late.to_str().unwrap()];
    lodge_ok(&[&from, bucket.as_slice()].concat());
    for (name, shipped) in [("early", 500), ("late", 900)] {
        let mut machine = server(folder, name, "");
        machine.start().unwrap();
        assert_eq!((count(&machine, "many"), count(&machine, "shipped")), (200_000, shipped));
    }
}
