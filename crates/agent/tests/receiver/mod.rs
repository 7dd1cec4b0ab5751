//! A server for the agent's tests: the contract of `POST /api/v1/batches`, kept in memory, with
//! failures on request. It listens on a real socket and is spoken to over real HTTP/2.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use lodge_record::{Account, Origin, ProducerId, Tally, TenantId};
use lodge_wire::encoding::{Encoding, decompress};
use lodge_wire::{agent_batch, json_rows};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

/// How the receiver fails.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Probability of 503 before anything is done.
    pub busy: f64,
    /// Probability that the answer is lost before the commit.
    pub lost_before: f64,
    /// Probability that the answer is lost after the commit.
    pub lost_after: f64,
    /// Answer every batch with 503.
    pub down: bool,
    /// Refuse for good what contains this.
    pub poison: Option<String>,
}

#[derive(Default)]
struct Inner {
    producers: HashMap<ProducerId, (u32, u64, Option<String>)>,
    rows: Vec<serde_json::Map<String, Value>>,
    faults: Faults,
    batches: u64,
    accounts: Vec<Account>,
    alarms: Vec<String>,
    tallies: HashMap<ProducerId, Tally>,
}

#[derive(Clone)]
pub struct Receiver {
    inner: Arc<Mutex<Inner>>,
    rng: Arc<Mutex<SmallRng>>,
    pub url: String,
}

impl Receiver {
    pub async fn start(seed: u64) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let receiver = Receiver {
            inner: Arc::default(),
            rng: Arc::new(Mutex::new(SmallRng::seed_from_u64(seed))),
            url,
        };
        let app = Router::new()
            .route("/api/v1/batches", post(batch))
            .route("/api/v1/producers/{id}", get(producer))
            .layer(axum::extract::DefaultBodyLimit::max(64 << 20))
            .with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        receiver
    }

    pub fn set_faults(&self, faults: Faults) {
        self.inner.lock().unwrap().faults = faults;
    }

    /// Loses what it knew of all producers, as a server restored from an old backup.
    pub fn forget_producers(&self) {
        let mut inner = self.inner.lock().unwrap();
        inner.producers.clear();
        inner.tallies.clear();
    }

    pub fn rows(&self) -> Vec<serde_json::Map<String, Value>> {
        self.inner.lock().unwrap().rows.clone()
    }

    pub fn row_count(&self) -> usize {
        self.inner.lock().unwrap().rows.len()
    }

    /// What producers said of the stretches that were committed, in order.
    pub fn accounts(&self) -> Vec<Account> {
        self.inner.lock().unwrap().accounts.clone()
    }

    /// Stretches that do not add up, or do not begin where the one before them ended.
    pub fn alarms(&self) -> Vec<String> {
        self.inner.lock().unwrap().alarms.clone()
    }

    pub fn batches(&self) -> u64 {
        self.inner.lock().unwrap().batches
    }

    pub fn messages(&self) -> Vec<String> {
        let inner = self.inner.lock().unwrap();
        inner.rows.iter().map(|row| text(row, "_msg")).collect()
    }

    /// Waits until there are `count` rows.
    pub async fn wait_for_rows(&self, count: usize) {
        let came = self.came(count).await;
        assert!(came, "{} of {count} rows", self.row_count());
    }

    /// Whether there come to be `count` rows; gives up after half a minute without a new one.
    pub async fn came(&self, count: usize) -> bool {
        let mut last = (self.row_count(), Instant::now());
        while self.row_count() < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
            if self.row_count() != last.0 {
                last = (self.row_count(), Instant::now());
            }
            if last.1.elapsed() > Duration::from_secs(30) {
                return false;
            }
        }
        true
    }

    fn chance(&self, probability: f64) -> bool {
        self.rng.lock().unwrap().random_bool(probability)
    }
}

pub fn text(row: &serde_json::Map<String, Value>, name: &str) -> String {
    row.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn lost_answer() -> Response {
    let failure = futures_error();
    (StatusCode::OK, Body::from_stream(failure)).into_response()
}

fn futures_error() -> impl futures::Stream<Item = Result<Bytes, std::io::Error>> + Send {
    futures::stream::once(async { Err(std::io::Error::other("connection lost")) })
}

fn committed(origin: Origin, state: &(u32, u64, Option<String>), duplicate: bool) -> Response {
    let (epoch, seq, position) = state;
    Json(json!({"producer": origin.producer.to_string(), "epoch": epoch, "seq": seq,
        "position": position, "records": 0, "duplicate": duplicate}))
    .into_response()
}

fn conflict(code: &str, state: &(u32, u64, Option<String>)) -> Response {
    let (epoch, seq, position) = state;
    let body = json!({"error": code, "code": code, "epoch": epoch, "seq": seq,
        "position": position});
    (StatusCode::CONFLICT, Json(body)).into_response()
}

async fn batch(State(receiver): State<Receiver>, body: Bytes) -> Response {
    let faults = receiver.inner.lock().unwrap().faults.clone();
    if faults.down || receiver.chance(faults.busy) {
        return (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "0")], "{}").into_response();
    }
    if receiver.chance(faults.lost_before) {
        return lost_answer();
    }
    let bytes = decompress(Encoding::Zstd, &body, 64 << 20).unwrap();
    let batch = agent_batch::decode(TenantId::default(), bytes.into()).unwrap();
    let mut lines = Vec::new();
    json_rows::write_rows(batch.records(), &mut lines);
    let text = String::from_utf8(lines).unwrap();
    if faults.poison.is_some_and(|poison| text.contains(&poison)) {
        return (StatusCode::BAD_REQUEST, "{\"error\":\"poison\"}").into_response();
    }
    let origin = batch.origin.unwrap();
    let position = batch.position.as_ref().map(ToString::to_string);
    // All but dead letters that are sent again give one.
    let account = batch.account.as_deref().cloned();
    let answer = receiver.commit(origin, position, &text, account);
    if receiver.chance(faults.lost_after) { lost_answer() } else { answer }
}

impl Receiver {
    fn commit(
        &self,
        origin: Origin,
        position: Option<String>,
        text: &str,
        account: Option<Account>,
    ) -> Response {
        let mut inner = self.inner.lock().unwrap();
        inner.batches += 1;
        let known = inner.producers.get(&origin.producer).cloned();
        let state = known.unwrap_or((0, 0, None));
        if origin.epoch < state.0 {
            return conflict("stale_epoch", &state);
        }
        if origin.epoch == state.0 && origin.seq <= state.1 {
            return committed(origin, &state, true);
        }
        let expected = if origin.epoch == state.0 { state.1 + 1 } else { 1 };
        if origin.seq != expected {
            return conflict("gap", &state);
        }
        let rows = text.lines().count() as u64;
        if let Some(account) = account {
            let follows = state.2.is_none() || state.2 == account.from;
            if !follows || account.read_records != rows + account.dropped_records() {
                inner.alarms.push(format!("{rows} rows after {state:?}: {account:?}"));
            }
            let tally = inner.tallies.entry(origin.producer).or_default();
            let counted = tally.clone();
            tally.add(&account, rows);
            if account.before.as_deref() != Some(&counted) {
                inner.alarms.push(format!("counted here {counted:?}, there {account:?}"));
            }
            inner.accounts.push(account);
        }
        let state = (origin.epoch, origin.seq, position);
        inner.producers.insert(origin.producer, state.clone());
        for line in text.lines() {
            inner.rows.push(serde_json::from_str(line).unwrap());
        }
        committed(origin, &state, false)
    }
}

async fn producer(State(receiver): State<Receiver>, Path(id): Path<String>) -> Response {
    let id: ProducerId = id.parse().unwrap();
    let inner = receiver.inner.lock().unwrap();
    match inner.producers.get(&id) {
        Some((epoch, seq, position)) => {
            let counted = inner.tallies.get(&id);
            let body = json!({"epoch": epoch, "seq": seq, "position": position,
                "counted": counted});
            Json(body).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
