//! Writers that send by every protocol that acknowledges, each on a thread of its own.
//!
//! ```text
//! books ◄─ sending ─ request or message ─► door ─► answer or acknowledgement ─► books
//! ```
//!
//! Invariants: a request is entered before it is sent and settled by what came back; none is sent
//! twice, but for those with an `Idempotency-Key`, which are sent byte by byte as they were until
//! they are answered; what is no answer of an honest, loaded server is noted as wrong.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::doors::forward::{Connection, Mode};
use crate::doors::{Door, Lines, grpc};
use crate::http::{self, Answer, Trouble};
use crate::ledger::{Ledger, Outcome, RequestId, Terms};
use crate::load::Load;

/// How long the other side may keep a writer waiting: longer than a loaded server takes, so that
/// what breaks is the kill's doing.
const WAIT: Duration = Duration::from_secs(60);

/// Beyond so many bytes the server stores JSON lines in parts; a large body is this and more.
const LARGE_BYTES: usize = 36 << 20;
/// What makes its lines long: few records, many bytes.
const BALLAST_BYTES: usize = 64 << 10;

/// Splunk's channel of the writer.
const CHANNEL: (&str, &str) = ("X-Splunk-Request-Channel", "0b0e2f6a-3f0a-4f0e-9a52-7c1f1ab4c0de");

/// A protocol that acknowledges, in one of its forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// One request over HTTP, one answer.
    Http(Door),
    /// Splunk's HEC, acknowledged when `/services/collector/ack` says so.
    HecAcks,
    /// JSON lines in a body that takes its time, and is stored whole or not at all.
    Streamed,
    /// JSON lines in a body so large that it is stored in parts.
    Large,
    /// The systemd journal's upload.
    Journal,
    /// OpenTelemetry over gRPC.
    Grpc,
    /// Fluent Forward with acknowledgements.
    Forward,
}

/// Where the doors are.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// The server's own address.
    pub http: SocketAddr,
    /// Loki's own.
    pub loki: SocketAddr,
    /// OTLP's own, over HTTP.
    pub otlp: SocketAddr,
    /// OTLP's own, over gRPC.
    pub otlp_grpc: SocketAddr,
    /// Forward.
    pub forward: SocketAddr,
}

/// What others may know of a writer while it writes.
#[derive(Debug, Default)]
pub struct Progress {
    in_flight: AtomicBool,
    acknowledged: AtomicU64,
    interrupted: AtomicU64,
    repeats: AtomicU64,
    lasted_us: AtomicU64,
}

impl Progress {
    /// Whether something was sent that is not answered.
    pub fn in_flight(&self) -> bool {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// Requests that were acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// Times that a connection broke while something was in flight.
    pub fn interrupted(&self) -> u64 {
        self.interrupted.load(Ordering::SeqCst)
    }

    /// Times that a request was sent again under its key.
    pub fn repeats(&self) -> u64 {
        self.repeats.load(Ordering::SeqCst)
    }

    /// How long the last one was in flight that was acknowledged.
    pub fn lasted(&self) -> Duration {
        Duration::from_micros(self.lasted_us.load(Ordering::SeqCst))
    }
}

impl Protocol {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        let http = Door::ALL.into_iter().map(Self::Http);
        http.chain([
            Self::HecAcks,
            Self::Streamed,
            Self::Large,
            Self::Journal,
            Self::Grpc,
            Self::Forward,
        ])
    }

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http(door) => door.name(),
            Self::HecAcks => "Splunk HEC, acks polled",
            Self::Streamed => "JSON lines, slow body",
            Self::Large => "JSON lines, large body",
            Self::Journal => "systemd-journal-upload",
            Self::Grpc => "OTLP/gRPC",
            Self::Forward => "Fluent Forward, ack",
        }
    }

    fn terms(self) -> Terms {
        Terms { is_in_parts: matches!(self, Self::Large | Self::Journal), is_keyed: false }
    }

    /// Whether its clients can send a key.
    fn takes_keys(self) -> bool {
        !matches!(self, Self::HecAcks | Self::Streamed | Self::Journal | Self::Forward)
    }

    fn addr(self, addresses: &Addresses) -> SocketAddr {
        match self {
            Self::Http(Door::LokiProtobuf) => addresses.loki,
            Self::Http(Door::OtlpProtobuf) => addresses.otlp,
            Self::Grpc => addresses.otlp_grpc,
            Self::Forward => addresses.forward,
            _ => addresses.http,
        }
    }
}

/// A source in the books.
#[derive(Debug, Clone)]
struct Source {
    index: u16,
    name: String,
}

impl Source {
    fn open(ledger: &Ledger, name: String, terms: Terms) -> Self {
        Self { index: ledger.open_on_terms(&name, terms), name }
    }
}

/// What became of something that was sent.
struct Said {
    outcome: Outcome,
    /// The connection broke while it was in flight.
    is_cut: bool,
}

impl Said {
    const STORED: Self = Self { outcome: Outcome::Acknowledged, is_cut: false };
    const REFUSED: Self = Self { outcome: Outcome::Refused, is_cut: false };
    const PERHAPS: Self = Self { outcome: Outcome::Unknown, is_cut: false };
    const CUT: Self = Self { outcome: Outcome::Unknown, is_cut: true };
}

/// A client's connection, where it keeps one.
enum Client {
    None,
    Grpc(grpc::Client),
    Forward(Option<Connection>),
}

/// One writer.
pub struct Writer {
    load: Arc<Load>,
    protocol: Protocol,
    addr: SocketAddr,
    plain: Source,
    keyed: Option<Source>,
    client: Client,
    progress: Arc<Progress>,
    random: SmallRng,
}

impl Writer {
    /// Opens the books of a writer, and gives their sources.
    pub fn open(
        load: &Arc<Load>,
        protocol: Protocol,
        addresses: &Addresses,
        seed: u64,
    ) -> std::io::Result<Self> {
        let (name, terms) = (protocol.name().to_owned(), protocol.terms());
        let keyed_name = format!("{name}; by key");
        let keyed = Terms { is_keyed: true, ..terms };
        let keyed = || Source::open(&load.ledger, keyed_name, keyed);
        let addr = protocol.addr(addresses);
        Ok(Self {
            load: Arc::clone(load),
            protocol,
            addr,
            plain: Source::open(&load.ledger, name, terms),
            keyed: protocol.takes_keys().then(keyed),
            client: match protocol {
                Protocol::Grpc => Client::Grpc(grpc::Client::new(addr, WAIT)?),
                Protocol::Forward => Client::Forward(None),
                _ => Client::None,
            },
            progress: Arc::default(),
            random: SmallRng::seed_from_u64(seed),
        })
    }

    /// Its sources in the books.
    pub fn sources(&self) -> Vec<u16> {
        std::iter::once(&self.plain).chain(&self.keyed).map(|source| source.index).collect()
    }

    /// What others may know of it.
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Writes on a thread of its own until the load ends.
    pub fn spawn(mut self) -> JoinHandle<()> {
        std::thread::spawn(move || {
            while !self.load.ended() {
                self.load.rest();
                let last = match self.protocol {
                    Protocol::HecAcks => self.send_and_ask(),
                    Protocol::Forward => self.send_chunks(),
                    _ => self.send(),
                };
                self.pause(last);
            }
        })
    }

    fn pause(&mut self, last: Outcome) {
        let pause_ms = match (last, self.protocol) {
            (Outcome::Acknowledged, Protocol::Large) => 200..1_500,
            (Outcome::Acknowledged, _) => 0..30,
            _ => 20..80,
        };
        std::thread::sleep(Duration::from_millis(self.random.random_range(pause_ms)));
    }

    /// How many lines the next request has.
    fn count(&mut self) -> u64 {
        match self.protocol {
            Protocol::Large => {
                (LARGE_BYTES / BALLAST_BYTES) as u64 + self.random.random_range(0..60)
            }
            Protocol::Streamed => self.random.random_range(100..1_000),
            Protocol::Journal => self.random.random_range(1..200),
            _ => self.random.random_range(1..=50),
        }
    }

    /// Sends one request, one with a key until it is answered.
    fn send(&mut self) -> Outcome {
        let keyed = self.keyed.clone().filter(|_| self.random.random_ratio(1, 3));
        let is_keyed = keyed.is_some();
        let source = keyed.unwrap_or_else(|| self.plain.clone());
        let count = self.count();
        let (request, first) = self.load.ledger.sending(source.index, count);
        let key = is_keyed.then(|| format!("{} {first}", source.name));
        let lines = Lines { source: source.index, name: &source.name, first, count };
        let body = self.body(lines);
        loop {
            let sent = self.sending();
            let said = self.exchange(&body, key.as_deref());
            let outcome = self.settle(request, sent, said);
            if !is_keyed || outcome == Outcome::Acknowledged || self.load.ended() {
                return outcome;
            }
            self.pause(outcome);
            self.load.rest();
            if outcome == Outcome::Unknown {
                self.load.ledger.repeating(request);
                self.progress.repeats.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    fn sending(&self) -> Instant {
        self.progress.in_flight.store(true, Ordering::SeqCst);
        Instant::now()
    }

    fn settle(&self, request: RequestId, sent: Instant, said: Said) -> Outcome {
        let progress = &self.progress;
        progress.in_flight.store(false, Ordering::SeqCst);
        if said.is_cut {
            progress.interrupted.fetch_add(1, Ordering::SeqCst);
        }
        if said.outcome == Outcome::Acknowledged {
            progress.acknowledged.fetch_add(1, Ordering::SeqCst);
            let lasted_us = u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX);
            progress.lasted_us.store(lasted_us, Ordering::SeqCst);
        }
        self.load.answered(sent, said.outcome);
        self.load.ledger.settled(request, said.outcome);
        said.outcome
    }

    fn body(&self, lines: Lines<'_>) -> Vec<u8> {
        match self.protocol {
            Protocol::Http(door) => door.body(&self.load, lines),
            Protocol::HecAcks => Door::Splunk.body(&self.load, lines),
            Protocol::Streamed | Protocol::Forward => Door::Lines.body(&self.load, lines),
            Protocol::Large => large_body(&self.load, lines),
            Protocol::Journal => journal(&self.load, lines),
            Protocol::Grpc => grpc::message(&self.load, lines),
        }
    }

    fn exchange(&mut self, body: &[u8], key: Option<&str>) -> Said {
        if let Client::Grpc(client) = &mut self.client {
            let reply = client.call(body, key);
            return self.said_by_call(reply);
        }
        let (target, content_type) = match self.protocol {
            Protocol::Http(door) => (door.target(), door.content_type()),
            Protocol::HecAcks => (Door::Splunk.target(), Door::Splunk.content_type()),
            Protocol::Journal => ("/upload", "application/vnd.fdo.journal"),
            _ => (Door::Lines.target(), Door::Lines.content_type()),
        };
        let mut headers = vec![("Content-Type", content_type)];
        headers.extend(key.map(|key| ("Idempotency-Key", key)));
        let (piece_bytes, pause_ms_max) = match self.protocol {
            Protocol::Large => (256 << 10, 3),
            Protocol::Streamed => (8 << 10, 10),
            // Now and then so slowly that a part of it is committed before the rest comes.
            Protocol::Journal if self.random.random_ratio(1, 4) => (2 << 10, 150),
            Protocol::Journal => (2 << 10, 10),
            _ => {
                let answer = http::request(self.addr, "POST", target, &headers, body, WAIT);
                return self.said(answer);
            }
        };
        let mut random = SmallRng::from_rng(&mut self.random);
        let mut left = body;
        let mut pieces = std::iter::from_fn(|| {
            std::thread::sleep(Duration::from_millis(random.random_range(0..pause_ms_max)));
            let bytes = random.random_range(1..=piece_bytes * 2).min(left.len());
            let (piece, rest) = left.split_at(bytes);
            left = rest;
            (!piece.is_empty()).then(|| piece.to_vec())
        });
        let (method, pieces) = ("POST", &mut pieces);
        let answer = http::request_in_pieces(self.addr, method, target, &headers, pieces, WAIT);
        self.said(answer)
    }

    /// What an answer over HTTP says of a request.
    fn said(&self, answer: Result<Answer, Trouble>) -> Said {
        match answer {
            Ok(answer) if answer.is_success() => Said::STORED,
            // Of a body that is taken in parts some may be stored all the same.
            Ok(answer) if [429, 503].contains(&answer.status) => match self.protocol.terms() {
                terms if terms.is_in_parts || answer.status == 503 => Said::PERHAPS,
                _ => Said::REFUSED,
            },
            Ok(answer) => {
                let (status, text) = (answer.status, answer.text());
                self.is_wrong(&format!("a request was answered {status}: {text}"));
                Said::PERHAPS
            }
            Err(trouble) => self.said_by(&trouble),
        }
    }

    fn said_by_call(&self, reply: Result<grpc::Reply, Trouble>) -> Said {
        const RESOURCE_EXHAUSTED: u32 = 8;
        const UNAVAILABLE: u32 = 14;
        match reply {
            Ok(reply) if reply.status == 0 && reply.message.is_empty() => Said::STORED,
            Ok(reply) if reply.status == RESOURCE_EXHAUSTED => Said::REFUSED,
            Ok(reply) if reply.status == UNAVAILABLE => Said::PERHAPS,
            Ok(reply) => {
                self.is_wrong(&format!("a call was answered {reply:?}"));
                Said::PERHAPS
            }
            Err(trouble) => self.said_by(&trouble),
        }
    }

    fn said_by(&self, trouble: &Trouble) -> Said {
        match trouble {
            Trouble::Connect { .. } => Said::REFUSED,
            Trouble::Broken { .. } => Said::CUT,
            Trouble::NotHttp { .. } | Trouble::Other { .. } => {
                self.is_wrong(&trouble.to_string());
                Said::PERHAPS
            }
        }
    }

    fn is_wrong(&self, what: &str) {
        self.load.is_wrong(format!("{}: {what}", self.protocol.name()));
    }

    /// Sends a few requests of events, then asks after their identifiers until all are true: only
    /// then they count as acknowledged, whichever server took them.
    fn send_and_ask(&mut self) -> Outcome {
        let mut waiting = Vec::new();
        let mut last = Outcome::Unknown;
        for _ in 0..self.random.random_range(1..=3_u8) {
            let count = self.count();
            let source = self.plain.clone();
            let (request, first) = self.load.ledger.sending(source.index, count);
            let lines = Lines { source: source.index, name: &source.name, first, count };
            let body = self.body(lines);
            let headers = [("Content-Type", Door::Splunk.content_type()), CHANNEL];
            let sent = self.sending();
            let target = Door::Splunk.target();
            match http::request(self.addr, "POST", target, &headers, &body, WAIT) {
                Ok(answer) if answer.is_success() => match ack_id(&answer) {
                    Some(id) => waiting.push((id, request, sent)),
                    None => self.is_wrong(&format!("no ackId in {}", answer.text())),
                },
                other => {
                    let said = self.said(other);
                    last = self.settle(request, sent, said);
                }
            }
        }
        while !waiting.is_empty() {
            let asked: Vec<u64> = waiting.iter().map(|(id, ..)| *id).collect();
            let body = json!({ "acks": asked }).to_string().into_bytes();
            let headers = [("Content-Type", "application/json"), CHANNEL];
            let target = "/services/collector/ack";
            let answer = http::request(self.addr, "POST", target, &headers, &body, WAIT);
            if let Ok(answer) = &answer
                && answer.is_success()
            {
                let told: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
                let is_true = |id: &u64| told["acks"][id.to_string()] == Value::Bool(true);
                for (_, request, sent) in waiting.extract_if(.., |(id, ..)| is_true(id)) {
                    last = self.settle(request, sent, Said::STORED);
                }
            }
            if waiting.is_empty() {
                break;
            }
            if self.load.ended() {
                self.is_wrong(&format!("no acknowledgement of {asked:?}: {answer:?}"));
                break;
            }
            self.pause(Outcome::Unknown);
        }
        last
    }

    /// Sends a few messages over one connection, then waits for their acknowledgements.
    fn send_chunks(&mut self) -> Outcome {
        let deadline = WAIT;
        let kept = match &mut self.client {
            Client::Forward(kept) => kept.take(),
            _ => None,
        };
        let kept = kept.filter(|connection| !connection.is_closed());
        let kept = kept.filter(|_| self.random.random_ratio(9, 10));
        let mut connection = match kept.map_or_else(|| Connection::open(self.addr, deadline), Ok) {
            Ok(connection) => connection,
            Err(_) => return Outcome::Refused,
        };
        let (mut waiting, mut broken) = (Vec::new(), None);
        for _ in 0..self.random.random_range(1..=3_u8) {
            let count = if self.random.random_ratio(1, 4) { 1 } else { self.count() };
            let source = &self.plain;
            let (request, first) = self.load.ledger.sending(source.index, count);
            let lines = Lines { source: source.index, name: &source.name, first, count };
            let chunk = format!("oracle-{first}");
            let mode = Mode::any(&mut self.random, count);
            let message = mode.message(&self.load, lines, &chunk);
            let sent = self.sending();
            waiting.push((chunk, request, sent));
            if let Err(trouble) = connection.send(&message) {
                broken = Some(trouble);
                break;
            }
        }
        let mut last = Outcome::Unknown;
        for (chunk, request, sent) in waiting {
            if broken.is_none() {
                broken = connection.acknowledgement(&chunk).err();
            }
            let said = broken.as_ref().map_or(Said::STORED, |trouble| self.said_by(trouble));
            last = self.settle(request, sent, said);
        }
        if broken.is_none() {
            self.client = Client::Forward(Some(connection));
        }
        last
    }
}

fn ack_id(answer: &Answer) -> Option<u64> {
    let told: Value = serde_json::from_slice(&answer.body).ok()?;
    told.get("ackId")?.as_u64()
}

/// JSON lines that are few and long.
fn large_body(load: &Load, lines: Lines<'_>) -> Vec<u8> {
    let now = load.now().to_string();
    let ballast = "ballast ".repeat(BALLAST_BYTES / 8);
    let mut body = Vec::with_capacity(LARGE_BYTES * 5 / 4);
    for (text, number) in lines.made(load) {
        let line = json!({"_time": now, "_msg": text, "source": lines.name,
            "oracle": {"number": number}, "ballast": ballast});
        body.extend_from_slice(line.to_string().as_bytes());
        body.push(b'\n');
    }
    body
}

/// The journal's export format: `NAME=value` a line, an empty line behind each entry.
fn journal(load: &Load, lines: Lines<'_>) -> Vec<u8> {
    let us = load.now().as_microsecond();
    let mut body = Vec::new();
    for (text, number) in lines.made(load) {
        let entry = format!(
            "__CURSOR=s=0b0e;i={us:x};b=7c1f;m=1;t={us:x};x=1\n__REALTIME_TIMESTAMP={us}\n\
             _HOSTNAME=oracle\n_SYSTEMD_UNIT=oracle.service\nPRIORITY=6\nSOURCE={}\n\
             ORACLE_NUMBER={number}\nMESSAGE={text}\n\n",
            lines.name,
        );
        body.extend_from_slice(entry.as_bytes());
    }
    body
}
