//! What keeps other machines and other web pages out.

use super::rig::{Rig, answer};
use lodge_server::ServerConfig;
use lodge_server::config::Bind;
use reqwest::StatusCode;

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_others_can_reach_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let config = ServerConfig {
        data_dir: dir.path().to_path_buf(),
        listen: Bind::parse("0.0.0.0:0").unwrap(),
        ..ServerConfig::default()
    };
    let error = lodge_server::start(config).await.err().unwrap().to_string();
    assert!(error.contains("lodge token create") && error.contains("ssh -L"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_token_others_can_reach_it() {
    let rig = Rig::start().await;
    let (token, _) = lodge_server::tokens::make(lodge_server::tokens::Wanted {
        name: "first".into(),
        tenant: "default".parse().unwrap(),
        scopes: "read".parse().unwrap(),
        only: None,
        expires_ms: None,
        kind: lodge_server::tokens::Kind::Secret,
    })
    .unwrap();
    assert!(rig.server.store().add_token(token).await.unwrap());
    rig.server.stop().await;
    let mut config = super::rig::config(rig.dir.path());
    config.listen = Bind::parse("0.0.0.0:0").unwrap();
    config.gelf_udp = Some(Bind::parse("0.0.0.0:0").unwrap());
    let error = lodge_server::start(config.clone()).await.err().unwrap().to_string();
    assert!(error.contains("`gelf_udp`") && error.contains("trusted_networks"), "{error}");
    config.trusted_networks = vec!["10.0.0.0/8".parse().unwrap()];
    let server = lodge_server::start(config).await.unwrap();
    assert!(server.bound("gelf_udp").is_some());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_on_the_same_folder_is_refused() {
    let rig = Rig::start().await;
    let error = lodge_server::start(super::rig::config(rig.dir.path())).await.err().unwrap();
    assert!(error.to_string().contains("in use by another"), "{error}");
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_hosts_and_pages_get_nothing() {
    let rig = Rig::start().await;
    let query = || rig.get("/select/logsql/query?query=*");
    let (status, _) = answer(query().header("Host", "evil.example")).await;
    assert_eq!(status, StatusCode::MISDIRECTED_REQUEST);
    for (name, value) in [("Origin", "http://evil.example"), ("Sec-Fetch-Site", "cross-site")] {
        let insert = rig.post("/insert/jsonline").body("{\"_msg\":\"planted\"}\n");
        assert_eq!(answer(insert.header(name, value)).await.0, StatusCode::FORBIDDEN);
        assert_eq!(answer(query().header(name, value)).await.0, StatusCode::FORBIDDEN);
    }
    let (status, body) = answer(query().header("AccountID", "12")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    let own = format!("http://{}", rig.server.addr());
    assert_eq!(query().header("Origin", own).send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(rig.count().await, 0);
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_carry_the_headers_that_protect_them() {
    let rig = Rig::start().await;
    let response = rig.get("/").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let headers = response.headers();
    assert!(headers["content-security-policy"].to_str().unwrap().starts_with("default-src 'self'"));
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(headers["x-frame-options"], "DENY");
    assert!(headers["content-type"].to_str().unwrap().starts_with("text/html"));
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_paths_methods_and_long_urls_are_named() {
    let rig = Rig::start().await;
    for path in ["/api/v1/nothing", "/select/logsql/nothing", "/missing.js"] {
        assert_eq!(answer(rig.get(path)).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(answer(rig.get("/insert/jsonline")).await.0, StatusCode::METHOD_NOT_ALLOWED);
    let long = format!("/select/logsql/query?query={}", "a".repeat(20_000));
    assert_eq!(answer(rig.get(&long)).await.0, StatusCode::URI_TOO_LONG);
    let json = rig.post("/select/logsql/query").header("Content-Type", "application/json");
    let (status, body) = answer(json.body("{\"query\":\"*\"}")).await;
    assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{body}");
    rig.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_wire_does_no_harm() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let rig = Rig::start().await;
    let many_headers = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(500));
    for bytes in [b"\x16\x03\x01\x00\xff".as_slice(), b"GET", b"\r\n\r\n", many_headers.as_bytes()]
    {
        let mut stream = tokio::net::TcpStream::connect(rig.server.addr()).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut back = Vec::new();
        let _ = stream.read_to_end(&mut back).await;
    }
    let response = rig.get("/health").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    rig.server.stop().await;
}
