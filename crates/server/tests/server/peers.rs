//! Tasks of other servers: only who shares the catalog may send any, also over TLS.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;
use lodge_query::{Budget, Cluster, Engine, EngineLimits, LogsqlRequest, Peer, View, channels};
use lodge_server::config::Bind;
use lodge_server::tokens::{Kind, Wanted, make};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use url::Url;

use super::rig::{Rig, THREE};
use crate::peer_tls;

const TASK: &str = "/worker.WorkerService/GetWorkerInfo";

/// Whether an engine beside the server gets its answer with the server's part of the work.
async fn is_helped(rig: &Rig, key: &str, open: impl Fn(&Url) -> channels::Channel) -> bool {
    let scheme = if rig.server.url().starts_with("https") { "https" } else { "http" };
    let url = Url::parse(&format!("{scheme}://127.0.0.1:{}/", rig.server.addr().port())).unwrap();
    let engine = Engine::new(rig.server.store().clone(), EngineLimits::default());
    let by_url = BTreeMap::from([(url.to_string(), open(&url))]);
    // Segments are few: one of many names is that of the server which has them.
    let names = (0..8).map(|number| format!("server-{number}"));
    engine.join(Cluster {
        name: "asked".to_owned(),
        peers: names.map(|name| Peer { name, url: url.clone(), key: key.to_owned() }).collect(),
        channels: Arc::new(channels::Channels::new(by_url)),
        rows_min: 1,
    });
    let request = LogsqlRequest {
        view: View::default(),
        query: "* | stats by (level) count() n".to_owned(),
        start_ns: None,
        end_ns: None,
        limit: None,
        offset: None,
        now_ns: 0,
        budget: Budget::default(),
    };
    let mut rows = engine.logsql(request).await.unwrap();
    let mut count = 0;
    while let Some(batch) = rows.next().await {
        count += batch.unwrap().num_rows();
    }
    assert_eq!(count, 2);
    let stats = engine.stats();
    assert!(stats.tasks_sent > 0, "{stats:?}");
    stats.tasks_lost == 0
}

async fn fill(rig: &Rig) {
    for line in THREE.lines().filter(|line| !line.is_empty()) {
        rig.inserted(line).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_servers_of_the_cluster_send_tasks() {
    let rig = Rig::start().await;
    fill(&rig).await;
    let open = |url: &Url| channels::open(url).unwrap();
    let key = rig.server.app().peer_key.text().to_owned();
    assert!(is_helped(&rig, &key, open).await);
    for wrong in ["", "peer", &key[1..]] {
        assert!(!is_helped(&rig, wrong, open).await, "{wrong}");
    }
    // Nor is a token such a key, whatever it may do else.
    let wanted = Wanted {
        name: "all".to_owned(),
        kind: Kind::Secret,
        tenant: "default".parse().unwrap(),
        scopes: "admin,read,ingest".parse().unwrap(),
        expires_ms: None,
        only: None,
    };
    let (made, token) = make(wanted).unwrap();
    let token = token.unwrap();
    assert!(rig.server.store().add_token(made).await.unwrap());
    rig.server.tokens_read().await;
    assert!(!is_helped(&rig, &token, open).await);
    assert!(is_helped(&rig, &key, open).await);
    for shown in [None, Some(token)] {
        let mut request = rig.post(TASK).header("content-type", "application/grpc");
        if let Some(token) = shown {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), reqwest::StatusCode::UNAUTHORIZED);
        assert!(answer.text().await.unwrap().contains("no_peer"));
    }
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_another_server_is_known_by_its_certificate() {
    let files = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["lodge".to_owned()]).unwrap();
    let (certificate, key) = (files.path().join("c.pem"), files.path().join("k.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let rig = Rig::with(|config| {
        config.listen = Bind::parse("tls://127.0.0.1:0").unwrap();
        config.tls_certificate = Some(certificate);
        config.tls_key = Some(key);
        config.otlp = Some(Bind::parse("127.0.0.1:0").unwrap());
    })
    .await;
    let lines = THREE.trim().to_owned();
    let client = super::rig::client().tls_danger_accept_invalid_certs(true).build().unwrap();
    let url = format!("{}/insert/jsonline?_stream_fields=service", rig.server.url());
    for line in lines.lines() {
        let answer = client.post(&url).body(line.to_owned()).send().await.unwrap();
        assert!(answer.status().is_success());
    }
    let key = rig.server.app().peer_key.text().to_owned();
    let der = CertificateDer::from_pem_slice(made.cert.pem().as_bytes()).unwrap();
    let right = peer_tls::fingerprint(&der);
    let other = rcgen::generate_simple_self_signed(vec!["lodge".to_owned()]).unwrap();
    let wrong = peer_tls::fingerprint(other.cert.der());
    let open = |hash: &str| {
        let connector = peer_tls::Connector::new(hash).unwrap();
        move |url: &Url| channels::open_with(url, connector.clone()).unwrap()
    };
    assert!(is_helped(&rig, &key, open(&right)).await);
    assert!(!is_helped(&rig, &key, open(&wrong)).await);
    rig.server.stop().await;
}
