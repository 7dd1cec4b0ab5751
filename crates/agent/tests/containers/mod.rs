//! Container logs: parts joined, outputs kept apart, and whose they are.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::routing::get;
use lodge_agent::{AgentConfig, KubernetesApi};
use serde_json::{Map, Value};

use crate::receiver::{Receiver, text};
use crate::running::{RunningAgent, fast};
use crate::{append, set_up};

const UID: &str = "0b1c2d3e-0000-4000-8000-000000000001";
const ID: &str = "4f0e1d2c3b4a59687766554433221100ffeeddccbbaa99887766554433221100";

/// An agent that reads the containers of a machine whose root is `folder`.
fn config(receiver: &Receiver, folder: &Path) -> AgentConfig {
    let mut config = AgentConfig::new(&receiver.url, folder.join("state")).with_containers();
    config.host = "test-host".into();
    config.containers.root = folder.to_path_buf();
    config.containers.kubernetes = KubernetesApi::Off;
    config.timing = fast();
    config
}

/// A pod's log under both of its paths.
fn pod_log(folder: &Path, pod: &str, container: &str) -> PathBuf {
    let pods = folder.join(format!("var/log/pods/shop_{pod}_{UID}/{container}"));
    let links = folder.join("var/log/containers");
    fs::create_dir_all(&pods).unwrap();
    fs::create_dir_all(&links).unwrap();
    let log = pods.join("0.log");
    append(&log, "");
    symlink(&log, links.join(format!("{pod}_shop_{container}-{ID}.log"))).unwrap();
    log
}

fn stamp(second: u32) -> String {
    format!("2024-01-02T15:04:{second:02}.5Z")
}

fn by_message<'r>(rows: &'r [Map<String, Value>], start: &str) -> &'r Map<String, Value> {
    let found: Vec<_> = rows.iter().filter(|row| text(row, "_msg").starts_with(start)).collect();
    assert_eq!(found.len(), 1, "{start}: {found:?}");
    found[0]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pods_records_are_joined_parsed_and_named_and_come_once() {
    let (folder, receiver) = set_up().await;
    let log = pod_log(folder.path(), "web-0", "app");
    let (a, b, c) = (stamp(1), stamp(2), stamp(3));
    append(
        &log,
        format!(
            "{a} stdout F plain\n\
             {a} stdout P one \n{a} stderr F ERROR broke\n{a} stdout P and \n\
             {a} stderr F java.lang.IllegalStateException: no\n{a} stdout F two\n\
             {a} stderr F \tat a.B.c(B.java:1)\n\
             {b} stdout F {{\"msg\":\"json\",\"level\":\"warn\",\"n\":7}}\n\
             not of any form\n\
             {b} stdout F 2020-01-01T00:00:00Z its own time\n\
             {b} stdout F 2020-01-01 00:00:00 no zone\n\
             {c} stdout F \n{c} stdout F last\n"
        ),
    );
    let agent = RunningAgent::start(config(&receiver, folder.path()));
    receiver.wait_for_rows(8).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let totals = agent.stop().await;
    let rows = receiver.rows();
    assert_eq!((rows.len(), totals.files_found, totals.dropped_lines_blank), (8, 1, 1));
    let plain = by_message(&rows, "plain");
    let stream = "{host=\"test-host\",kubernetes.container.name=\"app\",\
        kubernetes.namespace=\"shop\",kubernetes.pod.name=\"web-0\",service=\"app\"}";
    assert_eq!(text(plain, "_stream"), stream);
    for (name, value) in [
        ("kubernetes.pod.uid", UID),
        ("container.id", ID),
        ("log.iostream", "stdout"),
        ("_time", "2024-01-02T15:04:01.5Z"),
    ] {
        assert_eq!(text(plain, name), value, "{name}");
    }
    assert_eq!(text(by_message(&rows, "one"), "_msg"), "one and two");
    let trace = by_message(&rows, "ERROR");
    assert_eq!(
        text(trace, "_msg"),
        "ERROR broke\njava.lang.IllegalStateException: no\n\tat a.B.c(B.java:1)"
    );
    assert_eq!(
        (text(trace, "log.iostream"), text(trace, "level")),
        ("stderr".into(), "error".into())
    );
    let json = by_message(&rows, "json");
    assert_eq!(
        (text(json, "n"), text(json, "_time")),
        ("7".into(), "2024-01-02T15:04:02.5Z".into())
    );
    assert_eq!(text(by_message(&rows, "not of any form"), "log.iostream"), "");
    assert_eq!(text(by_message(&rows, "2020-01-01T"), "_time"), "2020-01-01T00:00:00Z");
    assert_eq!(text(by_message(&rows, "2020-01-01 "), "_time"), "2024-01-02T15:04:02.5Z");
}

#[tokio::test(flavor = "multi_thread")]
async fn dockers_parts_are_joined_and_the_container_has_its_name_and_image() {
    let (folder, receiver) = set_up().await;
    let home = folder.path().join(format!("var/lib/docker/containers/{ID}"));
    fs::create_dir_all(&home).unwrap();
    fs::write(
        home.join("config.v2.json"),
        r#"{"ID":"x","Name":"/shop-db","Config":{"Image":"postgres:16","Env":[]}}"#,
    )
    .unwrap();
    let log = home.join(format!("{ID}-json.log"));
    let line = |log: &str, output: &str| {
        let log = serde_json::to_string(log).unwrap();
        format!("{{\"log\":{log},\"stream\":\"{output}\",\"time\":\"{}\"}}\n", stamp(4))
    };
    append(&log, line("one ", "stdout"));
    append(&log, line("other\n", "stderr"));
    append(&log, line("two\n", "stdout"));
    append(&log, line("{\"msg\":\"in json\",\"a\":{\"b\":1}}\n", "stdout"));
    let agent = RunningAgent::start(config(&receiver, folder.path()));
    receiver.wait_for_rows(3).await;
    agent.stop().await;
    let rows = receiver.rows();
    let row = by_message(&rows, "one two");
    assert_eq!(
        text(row, "_stream"),
        r#"{container.name="shop-db",host="test-host",service="shop-db"}"#
    );
    assert_eq!(
        (text(row, "container.image"), text(row, "container.id")),
        ("postgres:16".into(), ID.into())
    );
    assert_eq!(text(by_message(&rows, "other"), "log.iostream"), "stderr");
    assert_eq!(text(by_message(&rows, "in json"), "a.b"), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_in_any_number_of_parts_keeps_its_head_and_length() {
    let (folder, receiver) = set_up().await;
    let log = pod_log(folder.path(), "web-0", "app");
    let part = format!("{} stdout P {}\n", stamp(1), "x".repeat(16 << 10));
    let other = format!("{} stderr F beside\n", stamp(1));
    append(&log, part.repeat(320) + &other + &part.repeat(320));
    append(&log, format!("{} stdout F end\n{} stdout F after\n", stamp(1), stamp(1)));
    let agent = RunningAgent::start(config(&receiver, folder.path()));
    receiver.wait_for_rows(3).await;
    agent.stop().await;
    let rows = receiver.rows();
    let long = by_message(&rows, "xxx");
    assert_eq!(text(long, "_msg").len(), lodge_record::limits::LINE_BYTES_MAX);
    assert_eq!(text(long, "truncated"), "true");
    assert_eq!(text(long, "lodge.original_bytes"), (640 * (16 << 10) + 3).to_string());
    by_message(&rows, "beside");
    by_message(&rows, "after");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_whose_end_never_comes_is_kept() {
    let (folder, receiver) = set_up().await;
    let log = pod_log(folder.path(), "web-0", "app");
    append(&log, format!("{} stdout P half\n", stamp(1)));
    append(&log, format!("{} stderr F later\n", stamp(9)));
    let agent = RunningAgent::start(config(&receiver, folder.path()));
    receiver.wait_for_rows(2).await;
    append(&log, format!("{} stdout P at the end", stamp(10)));
    append(&log, "\n");
    receiver.wait_for_rows(3).await;
    agent.stop().await;
    let mut messages = receiver.messages();
    messages.sort();
    assert_eq!(messages, ["at the end", "half", "later"]);
}

/// Lines of two outputs in parts and traces, in every mixture, read in pieces of every size.
#[tokio::test(flavor = "multi_thread")]
async fn mixed_outputs_arrive_whole_and_once_through_restarts_model() {
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};
    let (folder, receiver) = set_up().await;
    receiver.set_faults(crate::receiver::Faults {
        busy: 0.1,
        lost_before: 0.1,
        lost_after: 0.2,
        ..Default::default()
    });
    let log = pod_log(folder.path(), "web-0", "app");
    let mut rng = SmallRng::seed_from_u64(7);
    let mut wanted = Vec::new();
    let mut queues: [Vec<String>; 2] = [Vec::new(), Vec::new()];
    for n in 0..3_000 {
        let output = rng.random_range(0..2);
        let name = ["stdout", "stderr"][output];
        let mut record = String::new();
        for line in 0..if rng.random_bool(0.2) { 3 } else { 1 } {
            let indent = if line > 0 { "\n\t" } else { "" };
            let mut start = if line > 0 { "\t" } else { "" }.to_owned();
            record.push_str(indent);
            for part in 0..rng.random_range(1..4) {
                let words = format!("{name}-{n}-{line}-{part} ");
                record.push_str(&words);
                start.push_str(&words);
                queues[output].push(format!("P {start}"));
                start.clear();
            }
            queues[output].push("F .".to_owned());
            record.push('.');
        }
        wanted.push(record);
    }
    let mut bytes = Vec::new();
    let mut places = [0, 0];
    while places[0] < queues[0].len() || places[1] < queues[1].len() {
        let output = rng.random_range(0..2);
        if let Some(entry) = queues[output].get(places[output]) {
            let name = ["stdout", "stderr"][output];
            bytes.extend(format!("{} {name} {entry}\n", stamp(1)).into_bytes());
            places[output] += 1;
        }
    }
    let mut agent = RunningAgent::start(config(&receiver, folder.path()));
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(rng.random_range(1..40_000).min(rest.len()));
        append(&log, piece);
        rest = behind;
        if rng.random_bool(0.3) {
            agent.stop().await;
            agent = RunningAgent::start(config(&receiver, folder.path()));
        }
    }
    receiver.wait_for_rows(wanted.len()).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    agent.stop().await;
    let mut messages = receiver.messages();
    messages.sort();
    wanted.sort();
    assert_eq!(messages, wanted);
}

fn pods(questions: std::sync::Arc<std::sync::Mutex<Vec<String>>>) -> Router {
    let pod = |State(questions): State<std::sync::Arc<std::sync::Mutex<Vec<String>>>>,
               UrlPath((namespace, pod)): UrlPath<(String, String)>| async move {
        questions.lock().unwrap().push(format!("{namespace}/{pod}"));
        if pod != "web-0" {
            return Err(StatusCode::NOT_FOUND);
        }
        Ok(axum::Json(serde_json::json!({
            "metadata": {"uid": UID, "labels": {"app": "shop", "tier": "front"}},
            "spec": {"nodeName": "node-7"},
            "status": {"containerStatuses": [
                {"name": "app", "image": "shop:1.2", "containerID": format!("containerd://{ID}")}
            ]}
        })))
    };
    Router::new().route("/api/v1/namespaces/{namespace}/pods/{pod}", get(pod)).with_state(questions)
}

async fn api(questions: std::sync::Arc<std::sync::Mutex<Vec<String>>>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, pods(questions)).await.unwrap() });
    url
}

/// Connections over TLS.
struct TlsListener(tokio::net::TcpListener, tokio_rustls::TlsAcceptor);

impl axum::serve::Listener for TlsListener {
    type Io = tokio_rustls::server::TlsStream<tokio::net::TcpStream>;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = self.0.accept().await.unwrap();
            // One who does not trust the certificate breaks off.
            if let Ok(stream) = self.1.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

/// An API over TLS that answers who shows the token of an account. Its address; the folder
/// `account` becomes that of the account.
async fn api_over_tls(
    questions: std::sync::Arc<std::sync::Mutex<Vec<String>>>,
    account: &Path,
) -> String {
    lodge_agent::connection::use_tls();
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    fs::create_dir_all(account).unwrap();
    fs::write(account.join("ca.crt"), cert.pem()).unwrap();
    fs::write(account.join("token"), "token-of-the-pod\n").unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(vec![cert.der().clone()], key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let known = |request: axum::extract::Request, next: axum::middleware::Next| async move {
        let shown = request.headers().get("authorization").and_then(|value| value.to_str().ok());
        if shown != Some("Bearer token-of-the-pod") {
            return Err(StatusCode::UNAUTHORIZED);
        }
        Ok(next.run(request).await)
    };
    let app = pods(questions).layer(axum::middleware::from_fn(known));
    tokio::spawn(async move { axum::serve(TlsListener(listener, acceptor), app).await.unwrap() });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_is_asked_over_tls_with_the_authority_and_the_token_of_the_account() {
    for (trusts, label) in [(true, "shop"), (false, "")] {
        let (folder, receiver) = set_up().await;
        let account = folder.path().join("account");
        let url = api_over_tls(std::sync::Arc::default(), &account).await;
        if !trusts {
            // The authority of another cluster.
            let other = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
            fs::write(account.join("ca.crt"), other.cert.pem()).unwrap();
        }
        let mut config = config(&receiver, folder.path());
        config.containers.kubernetes = KubernetesApi::AsPod(url, account);
        append(&pod_log(folder.path(), "web-0", "app"), format!("{} stdout F x\n", stamp(1)));
        let agent = RunningAgent::start(config);
        receiver.wait_for_rows(1).await;
        agent.stop().await;
        let rows = receiver.rows();
        assert_eq!(text(&rows[0], "kubernetes.pod.name"), "web-0");
        assert_eq!(text(&rows[0], "kubernetes.labels.app"), label, "trusts: {trusts}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_tells_a_pods_labels_and_is_asked_once() {
    let (folder, receiver) = set_up().await;
    let questions = std::sync::Arc::default();
    let mut config = config(&receiver, folder.path());
    config.containers.kubernetes = KubernetesApi::At(api(std::sync::Arc::clone(&questions)).await);
    let (known, other) =
        (pod_log(folder.path(), "web-0", "app"), pod_log(folder.path(), "x", "app"));
    append(&known, format!("{} stdout F known\n", stamp(1)));
    append(&other, format!("{} stdout F other\n", stamp(1)));
    let agent = RunningAgent::start(config);
    receiver.wait_for_rows(2).await;
    fs::rename(&known, known.with_file_name("0.log.20240102-150405")).unwrap();
    append(&known, format!("{} stdout F second file\n", stamp(1)));
    receiver.wait_for_rows(3).await;
    agent.stop().await;
    let rows = receiver.rows();
    for message in ["known", "second file"] {
        let row = by_message(&rows, message);
        for (name, value) in [
            ("kubernetes.labels.app", "shop"),
            ("kubernetes.labels.tier", "front"),
            ("kubernetes.node.name", "node-7"),
            ("container.image", "shop:1.2"),
        ] {
            assert_eq!(text(row, name), value, "{name}");
        }
    }
    assert_eq!(text(by_message(&rows, "other"), "kubernetes.pod.name"), "x");
    let mut questions = questions.lock().unwrap().clone();
    questions.sort();
    assert_eq!(questions, ["shop/web-0", "shop/x"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_does_not_answer_holds_no_record_back_for_long() {
    let (folder, receiver) = set_up().await;
    // A listener that never answers.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = config(&receiver, folder.path());
    let address = listener.local_addr().unwrap();
    config.containers.kubernetes = KubernetesApi::At(format!("http://{address}"));
    append(&pod_log(folder.path(), "web-0", "app"), format!("{} stdout F x\n", stamp(1)));
    let agent = RunningAgent::start(config);
    receiver.wait_for_rows(1).await;
    agent.stop().await;
    assert_eq!(text(&receiver.rows()[0], "kubernetes.pod.name"), "web-0");
}
