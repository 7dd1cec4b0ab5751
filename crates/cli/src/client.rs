//! The HTTP side of every command that talks to a server: one address, one way to turn a refusal
//! into a [`Failure`].

use std::path::PathBuf;
use std::time::Duration;

use lodge_agent::connection::{Credentials, CredentialsError};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;

use crate::failure::{Exit, Failure};

/// Where a server listens unless it is told otherwise.
pub const DEFAULT_SERVER: &str = "http://127.0.0.1:9420";
/// The environment variable that names the server when `--server` does not.
pub const SERVER_VARIABLE: &str = "LODGE_SERVER";
/// How long a connection may take to open.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// How much of an error answer is read: enough for any message, not for a flood.
const ERROR_BYTES_MAX: usize = 64 * 1024;

/// The flag that names the server, the same for every command that needs one.
#[derive(clap::Args, Debug, Clone)]
pub struct ServerFlag {
    /// Address of the server
    ///
    /// [default: the environment variable LODGE_SERVER, else http://127.0.0.1:9420]
    #[arg(long, value_name = "URL")]
    server: Option<String>,

    /// File with the API token to show
    ///
    /// [default: the environment variable LODGE_TOKEN, if the server wants one]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// Authority of the server's certificate, PEM
    ///
    /// [default: those that this system trusts]
    #[arg(long, value_name = "FILE")]
    server_ca: Option<PathBuf>,
}

/// A server to talk to.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<String>,
}

/// The body of an error answer; every part but the message may be missing.
#[derive(Deserialize, Default)]
struct Refusal {
    error: String,
    #[serde(default)]
    column: Option<usize>,
    #[serde(default)]
    hint: Option<String>,
}

impl Client {
    /// The client for `--server`, the environment or the default address.
    pub fn new(flag: &ServerFlag) -> Result<Self, Failure> {
        let from_environment = || std::env::var(SERVER_VARIABLE).ok().filter(|v| !v.is_empty());
        let text = flag.server.clone().or_else(from_environment);
        let credentials = Credentials {
            token_file: flag.token_file.clone(),
            server_ca: flag.server_ca.clone(),
            ..Credentials::default()
        };
        Self::at(text.as_deref().unwrap_or(DEFAULT_SERVER), &credentials)
    }

    fn at(text: &str, credentials: &Credentials) -> Result<Self, Failure> {
        let wrong = |what: String| {
            Failure::usage(what)
                .at(format!("--server {text}"))
                .mend(format!("give it as http://HOST:PORT, for example {DEFAULT_SERVER}"))
        };
        let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let mut base =
            Url::parse(&full).map_err(|e| wrong(format!("this is not an address: {e}")))?;
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
            return Err(wrong(format!("cannot speak {}", base.scheme())));
        }
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let wrong = |error: CredentialsError| Failure::usage(error.to_string());
        let token = credentials.token().map_err(wrong)?;
        let mut builder = credentials
            .client(&[base.as_str()])
            .map_err(wrong)?
            .user_agent(concat!("lodge/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIME_MAX)
            .tcp_nodelay(true);
        if is_loopback(&base) {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|e| Failure::new(format!("no HTTP client: {e}")))?;
        Ok(Self { http, base, token })
    }

    /// Whether the server is on this machine, so that compressing for it is wasted work.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.base)
    }

    /// The server's address, for messages.
    pub fn address(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// A request to `path` (without its leading slash).
    pub fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, Failure> {
        let url = self
            .base
            .join(path)
            .map_err(|e| Failure::usage(format!("{path} is not a path: {e}")))?;
        let request = self.http.request(method, url);
        Ok(match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
    }

    /// Sends a request. What comes back is an answer with a 2xx status; anything else is a failure.
    pub async fn send(&self, request: RequestBuilder, query: &str) -> Result<Response, Failure> {
        let response = request.send().await.map_err(|e| self.unreachable(&e))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.refused(response, query).await)
    }

    /// The failure for a request that got no answer.
    pub fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let what = if error.is_connect() {
            format!("no server answers at {}", self.address())
        } else {
            format!("the connection to {} broke", self.address())
        };
        Failure::new(what)
            .at(causes(error))
            .mend("start one with `lodge server`, or name yours with --server URL")
            .exit(Exit::Unavailable)
    }

    /// The failure for an answer with an error status.
    pub async fn refused(&self, mut response: Response, query: &str) -> Failure {
        let status = response.status();
        let path = response.url().path().to_owned();
        let mut body = Vec::new();
        while let Ok(Some(chunk)) = response.chunk().await {
            body.extend_from_slice(&chunk);
            if body.len() > ERROR_BYTES_MAX {
                body.truncate(ERROR_BYTES_MAX);
                break;
            }
        }
        let refusal = serde_json::from_slice(&body).unwrap_or_else(|_| Refusal {
            error: match String::from_utf8_lossy(&body).trim() {
                "" => format!("the server answered {status}"),
                text => text.to_owned(),
            },
            ..Refusal::default()
        });
        let mut failure = Failure::new(refusal.error).exit(exit_for(status));
        failure.mend = refusal.hint;
        match refusal.column {
            Some(column) => failure.caret = Some((query.to_owned(), column)),
            None => failure.place = Some(format!("{}{path} ({status})", self.address())),
        }
        failure
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn exit_for(status: StatusCode) -> Exit {
    match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Exit::Unavailable,
        status if status.is_client_error() => Exit::Usage,
        _ => Exit::Failed,
    }
}

/// An error with all its causes on one line: reqwest's own message names only the outermost.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_come_without_a_scheme_and_with_a_path() {
        let at = |text: &str| Client::at(text, &Credentials::default());
        let client = at("127.0.0.1:9420").expect("client");
        assert_eq!(client.address(), "http://127.0.0.1:9420");
        assert!(client.is_loopback());
        assert!(at("http://[::1]:9420").expect("client").is_loopback());
        let proxied = at("http://logs.example/lodge").expect("client");
        assert!(!proxied.is_loopback());
        assert_eq!(proxied.address(), "http://logs.example/lodge");
    }

    #[test]
    fn an_address_that_cannot_work_says_so() {
        assert!(Client::at("https://logs.example", &Credentials::default()).is_ok());
        for text in ["ftp://x", "http://", ":::"] {
            let failure = Client::at(text, &Credentials::default()).err().expect("refused");
            assert_eq!(failure.exit, Exit::Usage, "{text}");
        }
    }
}
