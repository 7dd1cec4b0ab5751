//! A started server on a port of its own, and the few calls that all tests make.

use lodge_server::{RunningServer, ServerConfig, start};
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::Value;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use tempfile::TempDir;

pub struct Rig {
    pub server: RunningServer,
    pub http: Client,
    pub dir: TempDir,
}

pub fn config(dir: &Path) -> ServerConfig {
    ServerConfig {
        data_dir: dir.to_path_buf(),
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into(),
        disk_free_bytes_min: Some(0),
        ..ServerConfig::default()
    }
}

/// A client of plain HTTP.
pub fn client() -> reqwest::ClientBuilder {
    // An error says that it was done before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().no_proxy().tls_certs_only([])
}

impl Rig {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut ServerConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path());
        change(&mut config);
        let server = start(config).await.unwrap();
        let http = client().build().unwrap();
        Self { server, http, dir }
    }

    /// Stops the server and starts it again on the same folder.
    pub async fn restart(self) -> Self {
        let Self { server, http, dir } = self;
        server.stop().await;
        let server = start(config(dir.path())).await.unwrap();
        Self { server, http, dir }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.addr())
    }

    pub fn get(&self, path: &str) -> RequestBuilder {
        self.http.get(self.url(path))
    }

    pub fn post(&self, path: &str) -> RequestBuilder {
        self.http.post(self.url(path))
    }

    /// Inserts lines with `service` as the stream and gives the answer.
    pub async fn insert(&self, lines: impl Into<reqwest::Body>) -> (StatusCode, Value) {
        let request = self.post("/insert/jsonline?_stream_fields=service").body(lines);
        answer(request).await
    }

    /// Inserts lines that must be stored, all of them.
    pub async fn inserted(&self, lines: &str) {
        let count = lines.lines().filter(|l| !l.trim().is_empty()).count();
        let (status, body) = self.insert(lines.to_owned()).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        assert_eq!(body["records"], count, "{body}");
        assert_eq!(body["malformed_total"], 0, "{body}");
    }

    /// The rows of a LogsQL query.
    pub async fn rows(&self, query: &str) -> Vec<Value> {
        let request = self.get("/select/logsql/query").query(&[("query", query)]);
        let response = request.send().await.unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        assert_eq!(status, StatusCode::OK, "{query}: {text}");
        text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    }

    /// `* | stats count()`.
    pub async fn count(&self) -> u64 {
        let rows = self.rows("* | stats count() as n").await;
        rows.first().map_or(0, |row| row["n"].as_str().unwrap().parse().unwrap())
    }

    /// A form POST to a JSON endpoint.
    pub async fn ask(&self, path: &str, form: &[(&str, &str)]) -> (StatusCode, Value) {
        answer(self.post(path).form(form)).await
    }
}

/// Status and JSON of an answer.
pub async fn answer(request: RequestBuilder) -> (StatusCode, Value) {
    let response = request.send().await.unwrap();
    let status = response.status();
    let text = response.text().await.unwrap();
    let value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{status} {e}: {text}"));
    (status, value)
}

/// Three records of two services, a minute apart.
pub const THREE: &str = r#"
{"_time":"2026-03-01T12:00:00Z","service":"api","level":"info","_msg":"started","code":200}
{"_time":"2026-03-01T12:01:00Z","service":"api","level":"error","_msg":"it broke","code":500}
{"_time":"2026-03-01T12:02:00.25Z","service":"db","level":"info","_msg":"checkpoint done"}
"#;
