//! Servers that keep their records in a bucket of a real object store: what they refuse to start
//! with, that their own folder is not needed for the records, and that each keeps to its roles.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use lodge_faults::object_store::ObjectStore;
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
    let refused = ask(&query, "/select/logsql/tail?query=*", b"");
    assert!(refused.status == 503 && refused.text().contains("has not the role `ingest`"));
    assert!(TcpStream::connect(syslog).is_err(), "a server without the role ingest takes syslog");

    let mut ingest = server(folder, "ingest", &settings("\"ingest\", \"build\""));
    ingest.start().unwrap();
    assert!(TcpStream::connect(syslog).is_ok());
    assert!(ask(&ingest, "/insert/jsonline", b"{\"_msg\":\"kept\"}").is_success());
    assert_eq!(query.far_end().count("kept").unwrap(), 1, "what one took the other finds");
    let refused = ask(&ingest, "/select/logsql/query?query=*", b"");
    assert!(refused.status == 503 && refused.text().contains("ask one that has the role `query`"));
}
