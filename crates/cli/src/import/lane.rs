//! Sends chunks to the server, each exactly once.
//!
//! The chunks of a source are dealt to [`LANES`] lanes in turn. A lane is a producer of its own to
//! the server: its batches are numbered, and the server stores number n only after n-1 and only
//! once. With each batch goes a position, the index of its chunk, which the server keeps with the
//! number and hands back. So a second run asks what is stored, and goes on behind it.
//!
//! Invariants: a lane has one batch in flight; which chunk goes to which lane follows from the
//! chunk's index alone; a chunk counts as done only after the server's acknowledgement.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use lodge_record::{Batch, Origin, Position, ProducerId, TenantId};
use lodge_wire::agent_batch;
use lodge_wire::encoding::compress_zstd;
use rand::Rng as _;
use reqwest::{Method, StatusCode};
use serde::Deserialize;

use super::cutter::Chunk;
use super::decode::Decoder;
use super::progress::{Counters, Progress};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::terminal::escape_text;

/// How many batches of a source are in flight. Part of every producer's identity.
pub const LANES: usize = 4;
/// An import numbers its batches in one epoch: what would change it changes the identity instead.
const EPOCH: u32 = 1;
/// How long a request is tried again before the import gives up.
const RETRY_TIME_MAX: Duration = Duration::from_secs(300);
/// How long one request may take; the server tells a repeated batch from a new one.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(120);
/// How long it is tried again before the user is told.
const RETRY_QUIET: Duration = Duration::from_secs(2);
const BACK_OFF_MIN: Duration = Duration::from_millis(200);
const BACK_OFF_MAX: Duration = Duration::from_secs(10);

/// What the server has of a producer.
#[derive(Deserialize, Debug)]
struct Committed {
    epoch: u32,
    seq: u64,
    #[serde(default)]
    position: Option<String>,
    #[serde(default)]
    duplicate: bool,
}

/// Where a lane stands: the number of its last batch on the server, and what that batch held.
#[derive(Debug, Default, Clone)]
pub struct LaneState {
    seq: u64,
    /// Index of the last chunk stored.
    chunk: Option<u64>,
    /// Whether that was the last chunk of the source.
    last: bool,
}

impl LaneState {
    fn of(committed: &Committed, what: &str) -> Result<Self, Failure> {
        let position = committed.position.as_deref().unwrap_or_default();
        let foreign = || {
            Failure::new("the server has a position for this import that it cannot have sent")
                .at(format!("{what}: {position:?}"))
                .mend("import with --again to send the data as a new import")
        };
        if committed.epoch != EPOCH {
            return Err(foreign());
        }
        if committed.seq == 0 {
            return Ok(Self::default());
        }
        let (index, last) = parse_position(position).ok_or_else(foreign)?;
        Ok(Self { seq: committed.seq, chunk: Some(index), last })
    }
}

fn position_text(chunk: &Chunk) -> String {
    let last = if chunk.last { ";last" } else { "" };
    format!("chunk={};end={}{last}", chunk.index, chunk.end)
}

fn parse_position(text: &str) -> Option<(u64, bool)> {
    let rest = text.strip_prefix("chunk=")?;
    let (index, rest) = rest.split_once(';')?;
    Some((index.parse().ok()?, rest.ends_with(";last")))
}

/// One source on its way to the server.
pub struct Shipment {
    name: String,
    producers: [ProducerId; LANES],
    lanes: [Mutex<LaneState>; LANES],
    decoder: Decoder,
}

impl Shipment {
    /// A shipment whose producers follow from `identity`: the same identity goes on where an
    /// earlier run stopped.
    pub fn new(name: String, identity: &[&[u8]], decoder: Decoder) -> Self {
        let producer = |lane: usize| {
            let lane = [lane as u8, LANES as u8];
            let mut parts = vec![&b"lodge import"[..]];
            parts.extend_from_slice(identity);
            parts.push(&lane);
            ProducerId::derive(&parts)
        };
        Self {
            name,
            producers: std::array::from_fn(producer),
            lanes: std::array::from_fn(|_| Mutex::default()),
            decoder,
        }
    }

    /// Asks the server what it has already, and says whether that is everything.
    pub async fn recall(&self, client: &Client) -> Result<bool, Failure> {
        let asked = self.producers.iter().map(|producer| recall_one(client, *producer));
        let states = futures::future::try_join_all(asked).await?;
        for (lane, state) in self.lanes.iter().zip(&states) {
            *lane.lock().unwrap_or_else(PoisonError::into_inner) = state.clone();
        }
        Ok(is_whole(&states))
    }

    /// Whether the server has this chunk.
    pub fn has(&self, index: u64) -> bool {
        self.state(lane_of(index)).chunk.is_some_and(|stored| index <= stored)
    }

    fn state(&self, lane: usize) -> LaneState {
        let state = self.lanes.get(lane).map(|l| l.lock().unwrap_or_else(PoisonError::into_inner));
        state.map(|state| state.clone()).unwrap_or_default()
    }

    fn set_state(&self, lane: usize, state: LaneState) {
        if let Some(slot) = self.lanes.get(lane) {
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = state;
        }
    }
}

/// The lane of a chunk.
pub fn lane_of(index: u64) -> usize {
    (index % LANES as u64) as usize
}

/// Whether the lanes together hold every chunk up to one that is marked as the last.
fn is_whole(states: &[LaneState]) -> bool {
    let Some(last) = states.iter().filter(|s| s.last).filter_map(|s| s.chunk).max() else {
        return false;
    };
    states.iter().enumerate().all(|(lane, state)| {
        // The greatest index of this lane that is not beyond the last.
        let newest = (0..LANES as u64)
            .filter_map(|back| last.checked_sub(back))
            .find(|index| lane_of(*index) == lane);
        newest.is_none_or(|newest| state.chunk.is_some_and(|stored| stored >= newest))
    })
}

async fn recall_one(client: &Client, producer: ProducerId) -> Result<LaneState, Failure> {
    let path = format!("api/v1/producers/{producer}");
    let request = client.request(Method::GET, &path)?;
    let response = request.send().await.map_err(|e| client.unreachable(&e))?;
    if response.status() == StatusCode::NOT_FOUND {
        return Ok(LaneState::default());
    }
    if !response.status().is_success() {
        return Err(client.refused(response, "").await);
    }
    let committed = read_state(client, response).await?;
    LaneState::of(&committed, &path)
}

async fn read_state(client: &Client, response: reqwest::Response) -> Result<Committed, Failure> {
    let path = response.url().path().to_owned();
    let body = response.bytes().await.map_err(|e| client.unreachable(&e))?;
    serde_json::from_slice(&body).map_err(|e| {
        Failure::new(format!("the server's answer is not what a Lodge server says: {e}"))
            .at(format!("{}{path}", client.address()))
            .mend("check that --server is the address of a Lodge server of this version")
    })
}

/// A chunk on its way to a lane.
pub struct Job {
    /// What it is a part of.
    pub shipment: Arc<Shipment>,
    /// The lines.
    pub chunk: Chunk,
    /// Raw bytes of the source since the chunk before.
    pub raw: u64,
}

/// Decodes and sends one chunk and returns its buffer. Blocks until the server has it.
pub fn ship(
    job: Job,
    client: &Client,
    progress: &Progress,
    runtime: &tokio::runtime::Handle,
) -> Result<Vec<u8>, Failure> {
    let counters = progress.counters();
    let Job { shipment, chunk, raw } = job;
    let lane = lane_of(chunk.index);
    let state = shipment.state(lane);
    if shipment.has(chunk.index) {
        // Another import of the same file got here first.
        Counters::add(&counters.skipped, 1);
        Counters::add(&counters.skipped_bytes, chunk.bytes.len() as u64);
        Counters::add(&counters.raw_done, raw);
        return Ok(chunk.bytes);
    }
    let decoded = shipment.decoder.decode(&chunk.bytes).map_err(|f| f.at(&*shipment.name))?;
    if let Some(records) = decoded.records {
        let rows = records.num_rows() as u64;
        let producer = shipment.producers.get(lane).copied().unwrap_or_else(ProducerId::random);
        let origin = Origin { producer, epoch: EPOCH, seq: state.seq + 1 };
        let position = Position::new(position_text(&chunk)).ok();
        let batch = Batch::new(TenantId::default(), Some(origin), position, records)
            .map_err(|e| Failure::new(format!("the records have no valid shape: {e}")))?;
        let body = agent_batch::encode(&batch)
            .map_err(|e| Failure::new(format!("the batch cannot be encoded: {e}")))?;
        drop(batch);
        let committed = runtime.block_on(send(client, body, progress))?;
        let duplicate = committed.duplicate;
        shipment.set_state(lane, LaneState::of(&committed, &shipment.name)?);
        if duplicate {
            Counters::add(&counters.skipped, 1);
            Counters::add(&counters.skipped_bytes, chunk.bytes.len() as u64);
        } else {
            Counters::add(&counters.records, rows);
            Counters::add(&counters.stored_bytes, chunk.bytes.len() as u64);
            Counters::add(&counters.malformed, decoded.malformed);
            Counters::add(&counters.breaks, chunk.breaks);
        }
    }
    Counters::add(&counters.raw_done, raw);
    Ok(chunk.bytes)
}

/// Sends one batch until the server has it, or will not take it.
async fn send(client: &Client, body: Vec<u8>, progress: &Progress) -> Result<Committed, Failure> {
    let (body, encoding) =
        if client.is_loopback() { (body, "identity") } else { (compress_zstd(&body)?, "zstd") };
    let body = Bytes::from(body);
    let started = Instant::now();
    let mut back_off = BACK_OFF_MIN;
    let mut told = false;
    loop {
        let (failure, wait) = match attempt(client, &body, encoding).await {
            Ok(committed) => return Ok(committed),
            Err(refused) => refused,
        };
        if failure.exit != Exit::Unavailable {
            return Err(failure);
        }
        if started.elapsed() > RETRY_TIME_MAX {
            let mend = "run the same command again: it goes on where it stopped";
            return Err(failure.mend(mend));
        }
        Counters::add(&progress.counters().retries, 1);
        if !told && started.elapsed() > RETRY_QUIET {
            told = true;
            progress.note(&format!("trying again: {}", escape_text(&failure.what)));
        }
        let jitter = rand::rng().random_range(0.5..1.0);
        tokio::time::sleep(wait.unwrap_or(back_off).mul_f64(jitter)).await;
        back_off = (back_off * 2).min(BACK_OFF_MAX);
    }
}

/// Sends a batch once. A failure with [`Exit::Unavailable`] may be tried again, after the time
/// that the server asked for.
async fn attempt(
    client: &Client,
    body: &Bytes,
    encoding: &str,
) -> Result<Committed, (Failure, Option<Duration>)> {
    let request = client.request(Method::POST, "api/v1/batches").map_err(|f| (f, None))?;
    let request = request
        .header(reqwest::header::CONTENT_ENCODING, encoding)
        .timeout(REQUEST_TIME_MAX)
        .body(body.clone());
    let response = request.send().await.map_err(|e| (client.unreachable(&e), None))?;
    if response.status().is_success() {
        return read_state(client, response).await.map_err(|f| (f, None));
    }
    let wait = retry_after(&response);
    let conflicting = response.status() == StatusCode::CONFLICT;
    let failure = client.refused(response, "").await;
    Err(if conflicting { (conflict(failure), None) } else { (failure, wait) })
}

/// The server knows another past than this run: it was put back to an older state meanwhile.
fn conflict(failure: Failure) -> Failure {
    failure
        .exit(Exit::Failed)
        .mend("run the same command again: it asks the server anew and sends what is missing")
}

fn retry_after(response: &reqwest::Response) -> Option<Duration> {
    let value = response.headers().get(reqwest::header::RETRY_AFTER)?;
    let seconds: u64 = value.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(BACK_OFF_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(chunk: Option<u64>, last: bool) -> LaneState {
        LaneState { seq: 1, chunk, last }
    }

    #[test]
    fn an_import_is_whole_when_every_lane_reaches_the_last_chunk() {
        let none = || lane(None, false);
        assert!(!is_whole(&[none(), none(), none(), none()]));
        assert!(is_whole(&[lane(Some(0), true), none(), none(), none()]));
        assert!(is_whole(&[
            lane(Some(4), false),
            lane(Some(5), true),
            lane(Some(2), false),
            lane(Some(3), false)
        ]));
        assert!(!is_whole(&[
            lane(Some(0), false),
            lane(Some(5), true),
            lane(Some(2), false),
            lane(Some(3), false)
        ]));
        assert!(is_whole(&[lane(Some(0), false), lane(Some(1), true), none(), none()]));
        assert!(!is_whole(&[none(), lane(Some(1), true), none(), none()]));
    }

    #[test]
    fn a_position_reads_back() {
        let chunk = Chunk { index: 17, end: 99, last: true, ..Chunk::default() };
        assert_eq!(parse_position(&position_text(&chunk)), Some((17, true)));
        let chunk = Chunk { last: false, ..chunk };
        assert_eq!(parse_position(&position_text(&chunk)), Some((17, false)));
        assert_eq!(parse_position("file:3"), None);
    }
}
