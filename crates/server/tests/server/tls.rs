//! TLS: certificates that are read again, and clients that are known by theirs.

use std::path::Path;
use std::time::{Duration, Instant};

use super::rig::Rig;
use lodge_server::config::Bind;
use lodge_server::tokens::{Kind, Wanted, make};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use reqwest::{Certificate, Client, Identity, StatusCode};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate and its key, PEM.
fn certificate(by: &Authority, common_name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, common_name);
    (params.signed_by(&key, by).unwrap().pem(), key.serialize_pem())
}

fn write(dir: &Path, (certificate, key): &(String, String)) {
    // The key first: in between the two do not go together, and what was before stays in use.
    std::fs::write(dir.join("key.pem"), key).unwrap();
    std::fs::write(dir.join("certificate.pem"), certificate).unwrap();
}

fn client(trusted: &Authority, own: Option<&(String, String)>) -> Client {
    let root = Certificate::from_pem(trusted.pem().as_bytes()).unwrap();
    let mut builder = super::rig::client().tls_certs_only([root]);
    if let Some((certificate, key)) = own {
        let pem = format!("{certificate}\n{key}");
        builder = builder.identity(Identity::from_pem(pem.as_bytes()).unwrap());
    }
    builder.build().unwrap()
}

async fn rig(files: &Path, client_ca: bool) -> Rig {
    Rig::with(|config| {
        config.listen = Bind::parse("tls://127.0.0.1:0").unwrap();
        config.tls_certificate = Some(files.join("certificate.pem"));
        config.tls_key = Some(files.join("key.pem"));
        config.tls_client_ca = client_ca.then(|| files.join("clients.pem"));
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn https_is_spoken_and_a_new_certificate_is_used() {
    let files = tempfile::tempdir().unwrap();
    let (first, second) = (authority("first"), authority("second"));
    write(files.path(), &certificate(&first, "lodge"));
    let rig = rig(files.path(), false).await;
    let url = format!("https://localhost:{}/health", rig.server.addr().port());
    let health = |trusted| client(trusted, None).get(&url).send();
    assert_eq!(health(&first).await.unwrap().status(), StatusCode::OK);
    assert!(health(&second).await.is_err());
    // In the clear nothing is answered.
    let plain = url.replace("https", "http");
    assert!(rig.http.get(&plain).send().await.is_err());
    // What cannot be used is not.
    std::fs::write(files.path().join("certificate.pem"), "nonsense").unwrap();
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(health(&first).await.unwrap().status(), StatusCode::OK);
    write(files.path(), &certificate(&second, "lodge"));
    let started = Instant::now();
    while health(&second).await.is_err() {
        assert!(started.elapsed() < Duration::from_secs(20), "the certificate was not read again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(health(&first).await.is_err());
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_a_token() {
    let files = tempfile::tempdir().unwrap();
    let (own, clients, other) = (authority("own"), authority("clients"), authority("other"));
    write(files.path(), &certificate(&own, "lodge"));
    std::fs::write(files.path().join("clients.pem"), clients.pem()).unwrap();
    let rig = rig(files.path(), true).await;
    let wanted = Wanted {
        name: "host one".into(),
        tenant: "fleet".parse().unwrap(),
        scopes: "ingest".parse().unwrap(),
        only: None,
        expires_ms: None,
        kind: Kind::Subject("host-1".into()),
    };
    let (token, secret) = make(wanted).unwrap();
    assert_eq!(secret, None);
    assert!(rig.server.store().add_token(token).await.unwrap());
    rig.server.tokens_read().await;
    let base = format!("https://localhost:{}", rig.server.addr().port());
    let insert = |client: Client| {
        client.post(format!("{base}/insert/jsonline")).body("{\"_msg\":\"hello\"}\n").send()
    };
    let by = |by: &Authority, name: &str| client(&own, Some(&certificate(by, name)));
    assert_eq!(insert(by(&clients, "host-1")).await.unwrap().status(), StatusCode::OK);
    let unknown = insert(by(&clients, "host-2")).await.unwrap();
    assert_eq!(unknown.status(), StatusCode::UNAUTHORIZED);
    let none = insert(client(&own, None)).await.unwrap();
    assert_eq!(none.status(), StatusCode::UNAUTHORIZED);
    // The same name by another authority does not even get in.
    assert!(insert(by(&other, "host-1")).await.is_err());
    let read = by(&clients, "host-1").get(format!("{base}/select/logsql/query?query=*"));
    assert_eq!(read.send().await.unwrap().status(), StatusCode::FORBIDDEN);
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn syslog_over_tls_is_whose_the_certificate_says() {
    use tokio::io::AsyncWriteExt;
    let files = tempfile::tempdir().unwrap();
    let (own, clients) = (authority("own"), authority("clients"));
    write(files.path(), &certificate(&own, "lodge"));
    std::fs::write(files.path().join("clients.pem"), clients.pem()).unwrap();
    let rig = Rig::with(|config| {
        config.syslog_tcp = Some(Bind::parse("tls://127.0.0.1:0").unwrap());
        config.tls_certificate = Some(files.path().join("certificate.pem"));
        config.tls_key = Some(files.path().join("key.pem"));
        config.tls_client_ca = Some(files.path().join("clients.pem"));
        config.trusted_networks = Vec::new();
    })
    .await;
    let wanted = |name: &str, scopes: &str, kind| Wanted {
        name: name.into(),
        tenant: "fleet".parse().unwrap(),
        scopes: scopes.parse().unwrap(),
        only: None,
        expires_ms: None,
        kind,
    };
    let (host, _) = make(wanted("host", "ingest", Kind::Subject("host-1".into()))).unwrap();
    let (reader, secret) = make(wanted("reader", "read", Kind::Secret)).unwrap();
    for token in [host, reader] {
        assert!(rig.server.store().add_token(token).await.unwrap());
    }
    rig.server.tokens_read().await;
    let at = rig.server.bound("syslog_tcp").unwrap();
    for name in ["host-1", "host-2"] {
        let (pem, key) = certificate(&clients, name);
        let mut roots = rustls::RootCertStore::empty();
        roots.add(own.der().clone()).unwrap();
        use rustls::pki_types::pem::PemObject as _;
        let chain = rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![chain], key)
            .unwrap();
        let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
        let stream = tokio::net::TcpStream::connect(at).await.unwrap();
        let server = "localhost".try_into().unwrap();
        let mut stream = connector.connect(server, stream).await.unwrap();
        let line = format!("<13>Mar  1 12:00:00 {name} app: hello of {name}\n");
        stream.write_all(line.as_bytes()).await.ok();
        stream.shutdown().await.ok();
    }
    let started = Instant::now();
    let secret = secret.unwrap();
    loop {
        let query = rig.get("/select/logsql/query?query=hello").bearer_auth(&secret);
        let rows = query.send().await.unwrap().text().await.unwrap();
        assert!(!rows.contains("host-2"), "{rows}");
        if rows.contains("hello of host-1") {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "nothing came: {rows}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_for_tls_is_said_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let start = |change: fn(&mut lodge_server::ServerConfig)| {
        let mut config = super::rig::config(dir.path());
        change(&mut config);
        async { lodge_server::start(config).await.err().unwrap().to_string() }
    };
    let error = start(|c| c.loki = Some(Bind::parse("tls://127.0.0.1:0").unwrap())).await;
    assert!(error.contains("setting `loki`") && error.contains("tls_certificate"), "{error}");
    let error = start(|c| c.tls_key = Some("key.pem".into())).await;
    assert!(error.contains("go together"), "{error}");
    let error = start(|c| {
        c.tls_key = Some("/nowhere/key.pem".into());
        c.tls_certificate = Some("/nowhere/certificate.pem".into());
    })
    .await;
    assert!(
        error.contains("/nowhere/certificate.pem") && error.contains("No such file"),
        "{error}"
    );
}
