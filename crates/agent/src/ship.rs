//! Batches to the server: encode, compress, send, and try again until there is a final answer.
//!
//! Invariants:
//! - a batch leaves here answered for good (stored, known, refused) or because the agent stops;
//!   failures and overload are waited out, however long they last;
//! - a retry sends the very same bytes, so the server's sequence check can recognise it;
//! - what the server refuses for good is durable in the dead-letter file before it counts as
//!   refused.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use lodge_record::{Batch, ProducerId};
use lodge_wire::agent_batch;
use lodge_wire::agent_report::Report;
use lodge_wire::encoding::compress_zstd;
use rand::Rng;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use reqwest::{RequestBuilder, StatusCode};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::AgentError;
use crate::connection::Credentials;
use crate::counters::Counters;
use crate::dead_letter::{DeadLetters, Refusal};
use crate::sequence::{Reply, ServerState};

/// Requests that are under way at once.
const CONCURRENCY: usize = 8;
/// Batches that are encoded at once: each takes its size in memory once more meanwhile.
const ENCODERS: usize = 2;
/// How long a server may take for an answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a server is asked whether it is there, and how long it may take: a connection that one
/// side has lost is given up within their sum.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(5));
/// Longest pause that a server's Retry-After is followed for.
const RETRY_AFTER_S_MAX: u64 = 60;
/// How often failures are logged.
const LOG_PERIOD: Duration = Duration::from_secs(10);
/// Longest text of an answer that is logged or kept.
const REASON_BYTES_MAX: usize = 500;

/// Sends batches; shared by all sources.
#[derive(Debug)]
pub struct Shipper {
    client: reqwest::Client,
    credentials: Credentials,
    servers: Vec<String>,
    /// Index of the server that answered last.
    current: AtomicUsize,
    permits: Semaphore,
    encoders: Semaphore,
    backoff: (Duration, Duration),
    dead_letters: DeadLetters,
    counters: Arc<Counters>,
    cancel: CancellationToken,
    failure_logged: Mutex<Option<Instant>>,
}

/// The shippers of all sources: one for each list of servers, so that a source has one destination
/// and sources with the same one share its limits.
pub struct Shippers<F> {
    default: Vec<String>,
    make: F,
    made: Vec<(Vec<String>, Arc<Shipper>)>,
}

impl<F: Fn(&[String]) -> Result<Shipper, AgentError>> Shippers<F> {
    /// Sources that name no servers ship to `default`.
    pub fn new(default: &[String], make: F) -> Self {
        Shippers { default: default.to_vec(), make, made: Vec::new() }
    }

    /// The shipper of a source that names these servers.
    pub fn to(&mut self, servers: &[String]) -> Result<Arc<Shipper>, AgentError> {
        let servers = if servers.is_empty() { self.default.clone() } else { servers.to_vec() };
        if let Some((_, shipper)) = self.made.iter().find(|(known, _)| *known == servers) {
            return Ok(Arc::clone(shipper));
        }
        let shipper = Arc::new((self.make)(&servers)?);
        self.made.push((servers, Arc::clone(&shipper)));
        Ok(shipper)
    }
}

/// What one attempt came to.
enum Attempt {
    Final(Reply),
    Refused { status: StatusCode, reason: String },
    Again { after: Option<Duration>, problem: String },
}

/// The body of an answer; missing members are zero.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Answer {
    code: String,
    duplicate: bool,
    #[serde(flatten)]
    state: ServerState,
}

impl Shipper {
    /// Ships to `servers` until `cancel`.
    pub fn new(
        servers: &[String],
        credentials: &Credentials,
        backoff: (Duration, Duration),
        dead_letters: DeadLetters,
        counters: Arc<Counters>,
        cancel: CancellationToken,
    ) -> Result<Self, AgentError> {
        let client = credentials
            .client(servers)?
            .http2_prior_knowledge()
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE.0)
            .http2_keep_alive_timeout(KEEP_ALIVE.1)
            .user_agent(concat!("lodge-agent/", env!("CARGO_PKG_VERSION")))
            .build()?;
        let servers = servers.iter().map(|s| s.trim_end_matches('/').to_owned()).collect();
        Ok(Shipper {
            client,
            credentials: credentials.clone(),
            servers,
            current: AtomicUsize::new(0),
            permits: Semaphore::new(CONCURRENCY),
            encoders: Semaphore::new(ENCODERS),
            backoff,
            dead_letters,
            counters,
            cancel,
            failure_logged: Mutex::default(),
        })
    }

    /// Sends `batch` until there is a final answer; `None` if the agent stops before.
    pub async fn ship(&self, batch: &Batch) -> Option<Reply> {
        tokio::select! {
            reply = self.ship_uncancelled(batch) => Some(reply),
            () = self.cancel.cancelled() => None,
        }
    }

    /// What the server has committed of `producer`, if it knows it; outer `None` if the agent stops
    /// before there is an answer.
    pub async fn recall(&self, producer: ProducerId) -> Option<Option<ServerState>> {
        tokio::select! {
            state = self.recall_uncancelled(producer) => Some(state),
            () = self.cancel.cancelled() => None,
        }
    }

    /// Tells the server what is still to be read and delivered; one attempt, whether it arrived.
    pub async fn report(&self, agent: ProducerId, report: &Report) -> bool {
        let url = format!("{}/api/v1/agents/{agent}", self.server());
        let Ok(request) = self.signed(self.client.post(url)) else { return false };
        let sent = request.json(report).send().await;
        sent.is_ok_and(|response| response.status().is_success())
    }

    async fn ship_uncancelled(&self, batch: &Batch) -> Reply {
        let _permit = self.permits.acquire().await;
        let body = {
            let _encoding = self.encoders.acquire().await;
            encode(batch).await
        };
        let mut failures = 0;
        loop {
            self.counters.sent_bytes.add(body.len() as u64);
            match self.attempt(body.clone()).await {
                Attempt::Final(reply) => {
                    if matches!(reply, Reply::Duplicate(_)) {
                        self.counters.duplicate_batches.increment();
                    }
                    return reply;
                }
                Attempt::Refused { status, reason } => {
                    match self.bury(batch, status, reason).await {
                        Ok(()) => return Reply::Refused,
                        Err(problem) => self.pause(&mut failures, None, &problem).await,
                    }
                }
                Attempt::Again { after, problem } => {
                    self.pause(&mut failures, after, &problem).await;
                }
            }
            self.counters.retried_requests.increment();
        }
    }

    async fn recall_uncancelled(&self, producer: ProducerId) -> Option<ServerState> {
        let _permit = self.permits.acquire().await;
        let mut failures = 0;
        loop {
            let url = format!("{}/api/v1/producers/{producer}", self.server());
            let asked = match self.signed(self.client.get(url)) {
                Ok(request) => request.send().await,
                Err(problem) => {
                    self.pause(&mut failures, None, &problem).await;
                    continue;
                }
            };
            let problem = match asked {
                Ok(response) if response.status() == StatusCode::NOT_FOUND => return None,
                Ok(response) if response.status().is_success() => match read_json(response).await {
                    Ok(answer) => return Some(answer.state),
                    Err(problem) => problem,
                },
                Ok(response) => {
                    let status = response.status();
                    format!("status {status}: {}", read_text(response).await)
                }
                Err(error) => self.fail_over(&error),
            };
            self.pause(&mut failures, None, &problem).await;
        }
    }

    async fn attempt(&self, body: Bytes) -> Attempt {
        let request = self.client.post(format!("{}/api/v1/batches", self.server()));
        let request = match self.signed(request) {
            Ok(request) => request,
            Err(problem) => return Attempt::Again { after: None, problem },
        };
        let request = request
            .header(CONTENT_TYPE, "application/vnd.lodge.batch")
            .header(CONTENT_ENCODING, "zstd")
            .body(body);
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Attempt::Again { after: None, problem: self.fail_over(&error) },
        };
        let status = response.status();
        let after = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok());
        let after = after.and_then(|text| text.trim().parse::<u64>().ok());
        let after = after.map(|s| Duration::from_secs(s.min(RETRY_AFTER_S_MAX)));
        match status {
            StatusCode::OK | StatusCode::CONFLICT => match read_json(response).await {
                Ok(answer) => judge(status, answer),
                Err(problem) => Attempt::Again { after, problem },
            },
            StatusCode::BAD_REQUEST
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNSUPPORTED_MEDIA_TYPE
            | StatusCode::UNPROCESSABLE_ENTITY => {
                Attempt::Refused { status, reason: read_text(response).await }
            }
            _ => {
                let problem = format!("status {status}: {}", read_text(response).await);
                Attempt::Again { after, problem }
            }
        }
    }

    /// The request with the token, if there is one.
    fn signed(&self, request: RequestBuilder) -> Result<RequestBuilder, String> {
        Ok(match self.credentials.token().map_err(|error| error.to_string())? {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
    }

    fn server(&self) -> &str {
        let at = self.current.load(Ordering::Relaxed) % self.servers.len().max(1);
        self.servers.get(at).map_or("", String::as_str)
    }

    /// Turns to the next server after a failure to reach the present one.
    fn fail_over(&self, error: &reqwest::Error) -> String {
        let problem = format!("{}: {}", self.server(), root_cause(error));
        self.current.fetch_add(1, Ordering::Relaxed);
        problem
    }

    /// Waits before the next attempt: exponentially longer, by a random part shorter; as long as
    /// the server asked for, if it did.
    async fn pause(&self, failures: &mut u32, after: Option<Duration>, problem: &str) {
        self.log_failure(problem, *failures);
        let (first, longest) = self.backoff;
        let doubled = first.saturating_mul(1 << (*failures).min(16)).min(longest);
        *failures = failures.saturating_add(1);
        let jitter = rand::rng().random_range(0.5..1.0);
        let pause = match after {
            Some(after) => after.max(first) + first.mul_f64(jitter),
            None => doubled.mul_f64(jitter),
        };
        tokio::time::sleep(pause).await;
    }

    /// Says that shipping fails: all batches do together, so once for all now and then.
    fn log_failure(&self, problem: &str, failures: u32) {
        let mut logged = self.failure_logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.is_none_or(|at| at.elapsed() >= LOG_PERIOD) {
            *logged = Some(Instant::now());
            tracing::warn!(problem, failures, "cannot ship yet, trying again");
        }
    }

    /// Writes a refused batch to the dead-letter file.
    async fn bury(&self, batch: &Batch, status: StatusCode, reason: String) -> Result<(), String> {
        let rows = batch.rows() as u64;
        tracing::error!(
            status = status.as_u16(),
            reason,
            records = rows,
            "the server refuses a batch for good; it goes to the dead-letter file"
        );
        let refusal = Refusal::new(batch, status.as_u16(), reason);
        let kept = self.dead_letters.append(refusal).await.map_err(|e| e.to_string())?;
        if kept {
            self.counters.dead_letter_records.add(rows);
        } else {
            self.counters.dropped_records_dead_letter_full.add(rows);
        }
        Ok(())
    }
}

fn judge(status: StatusCode, answer: Answer) -> Attempt {
    Attempt::Final(match (status, answer.code.as_str()) {
        (StatusCode::OK, _) if answer.duplicate => Reply::Duplicate(answer.state),
        (StatusCode::OK, _) => Reply::Committed(answer.state),
        (_, "gap") => Reply::Gap(answer.state),
        (_, "stale_epoch") => Reply::StaleEpoch(answer.state),
        (_, code) => {
            let problem = format!("status {status} with unknown code {code:?}");
            return Attempt::Again { after: None, problem };
        }
    })
}

/// The compressed bytes of a batch. Costs milliseconds of CPU, so not on the async threads.
async fn encode(batch: &Batch) -> Bytes {
    let batch = batch.clone();
    let encoded = tokio::task::spawn_blocking(move || {
        let bytes = agent_batch::encode(&batch).expect("Arrow writes a checked batch");
        compress_zstd(&bytes).expect("zstd compresses into memory")
    });
    Bytes::from(encoded.await.expect("encoding a checked batch does not panic"))
}

async fn read_json(response: reqwest::Response) -> Result<Answer, String> {
    let bytes = response.bytes().await.map_err(|error| root_cause(&error))?;
    serde_json::from_slice(&bytes).map_err(|error| format!("answer is no JSON: {error}"))
}

async fn read_text(response: reqwest::Response) -> String {
    let text = response.text().await.unwrap_or_default();
    text.chars().take(REASON_BYTES_MAX).collect()
}

/// The innermost cause, where the reason stands (the outer ones repeat the address).
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
