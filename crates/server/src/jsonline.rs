//! `POST /insert/jsonline`: JSON lines with VictoriaLogs' parameters.
//!
//! ```text
//!  body ─ head (async) ─┬─ ends: decode on a thread ───────────── one batch, one commit
//!                       └─ goes on: a thread reads, inflates, cuts ─► chunks ─► commits, in order
//! ```
//!
//! Invariants: the answer comes when everything it counts is durable; a body up to
//! [`ATOMIC_BYTES_MAX`] is stored whole or not at all; of a larger one an error says which lines
//! are not stored; a line that does not parse is kept as it was and listed; if the first lines of a
//! body hold not one JSON object, nothing is stored, since the body is of another format.

use std::io::{self, Read};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use http::{HeaderMap, StatusCode};
use lodge_ingest::IngestError;
use lodge_record::{Batch, TenantId, limits};
use lodge_wire::encoding::Encoding;
use lodge_wire::jsonline::{Decoded, Decoder, Options};
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::answer::{self, ApiError};
use crate::app::{App, now_ns};
use crate::args::Args;
use crate::batches::refused;
use crate::body::{Arriving, BodyError, Received, Reserved, encoding_of, plain_reader};
use crate::identity::Identity;
use crate::limits::{
    ATOMIC_BYTES_MAX, ATOMIC_LINES_MAX, BODY_HEAD_BYTES, CHUNK_BYTES, CHUNK_LINES_MAX,
    CHUNKS_IN_FLIGHT_MAX, MALFORMED_LISTED_MAX, QUERY_WAIT,
};
use crate::lines::Chunks;
use crate::repeats::{Repeats, RequestId};

/// How long chunks of one request wait for a full commit queue before the request gives up.
const CHUNK_WAIT_MAX: Duration = Duration::from_secs(60);
/// Memory that a byte of a body takes while it is held and decoded.
const MEMORY_FACTOR: usize = 3;

/// Whose records they are, and which request brings them.
#[derive(Clone)]
struct Sender {
    tenant: TenantId,
    request: RequestId,
}

/// A decoded chunk, with its place in the body.
struct Piece {
    records: Option<RecordBatch>,
    /// Numbers of its lines, from 1.
    lines: RangeInclusive<u64>,
    malformed: Vec<(u64, String)>,
    malformed_total: u64,
    truncated_total: u64,
}

/// Why decoding stopped early.
enum Stopped {
    Body(BodyError),
    /// Not one of the first lines is a JSON object.
    NoneParses(Piece),
    /// Decoded lines could not be made into columns: a bug.
    Ours(ArrowError),
}

/// What an answer tells.
#[derive(Default)]
struct Report {
    records: u64,
    lines: u64,
    malformed: Vec<(u64, String)>,
    malformed_total: u64,
}

/// The endpoint.
pub(crate) async fn insert(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, ApiError> {
    let (head, body) = request.into_parts();
    let identity = Identity::of_request(&head.extensions)?;
    let repeats = Repeats::of(&app, &head, &identity)?;
    let mut from = Sender { tenant: identity.tenant().clone(), request: repeats.of_stream() };
    let mut arriving = Arriving::new(&app, body);
    let args = Args::of_uri(&head.uri)?;
    let options = options(&args, &head.headers)?;
    let debug = args.flag("debug") || header(&head.headers, "vl-debug") == Some("1");
    let encoding = encoding_of(&head.headers)?;
    let answer = |e: BodyError| e.into_answer(&app.metrics);
    let mut memory = Reserved::new(&app, identity.tenant());
    let head_bytes_max = match encoding {
        Encoding::Identity => ATOMIC_BYTES_MAX,
        _ => BODY_HEAD_BYTES,
    };
    let (frames, ended) = arriving.head(head_bytes_max, &mut memory).await.map_err(answer)?;
    let (sender, pieces) = mpsc::channel(1);
    let mut work = Work { app: app.clone(), options, memory, sender, place: None };
    let bytes_max = app.config.insert_bytes_max;
    let bytes: usize = frames.iter().map(Bytes::len).sum();
    let is_plain = encoding == Encoding::Identity && bytes as u64 <= bytes_max;
    if ended && is_plain && bytes <= ATOMIC_BYTES_MAX {
        if repeats.needs_content() {
            let content = frames.clone();
            let work = app.decoders.run(move || repeats.of_content(&content.concat()));
            from.request = work.await.map_err(|e| ApiError::internal(e.to_string()))?;
        }
        let turn = app.decoders.turn(identity.tenant()).await;
        app.decoders.run(move || {
            work.run_plain(frames, bytes);
            drop(turn);
        });
        return store(&app, from, pieces, debug).await;
    }
    let head = Received::whole(frames.concat().into());
    if ended {
        let reader = plain_reader(encoding, head, bytes_max);
        let reader = reader.map_err(|e| answer(BodyError::of_io(&e, encoding)))?;
        app.decoders.run(move || work.run(reader, encoding));
    } else {
        work.place = Some(large_body(&app).await?);
        let rest = arriving.into_reader();
        let reader = plain_reader(encoding, head.chain(rest), bytes_max);
        let reader = reader.map_err(|e| answer(BodyError::of_io(&e, encoding)))?;
        app.decoders.run(move || work.run(reader, encoding));
    }
    store(&app, from, pieces, debug).await
}

/// A place among the threads that wait for large bodies.
async fn large_body(app: &App) -> Result<OwnedSemaphorePermit, ApiError> {
    let waiting = app.large_bodies.clone().acquire_owned();
    match tokio::time::timeout(QUERY_WAIT, waiting).await {
        Ok(Ok(place)) => Ok(place),
        _ => Err(BodyError::Memory.into_answer(&app.metrics)),
    }
}

/// The thread's side: reads, cuts and decodes.
struct Work {
    app: Arc<App>,
    options: Options,
    memory: Reserved,
    sender: mpsc::Sender<Result<Piece, Stopped>>,
    /// Held while the thread waits for the network.
    place: Option<OwnedSemaphorePermit>,
}

impl Work {
    fn run(mut self, reader: Box<dyn Read + Send>, encoding: Encoding) {
        let mut chunks = Chunks::new(reader);
        if let Err(stopped) = self.decode(&mut chunks, encoding) {
            // Nobody listens any more if the client is gone.
            let _ = self.sender.blocking_send(Err(stopped));
        }
        self.app.metrics.ingest_bytes.inc_by(chunks.total());
    }

    /// As [`Self::run`], for a plain body that is here as a whole: its lines are decoded where the
    /// network put them.
    fn run_plain(mut self, frames: Vec<Bytes>, bytes: usize) {
        if let Err(stopped) = self.decode_plain(frames, bytes) {
            let _ = self.sender.blocking_send(Err(stopped));
        }
        self.app.metrics.ingest_bytes.inc_by(bytes as u64);
    }

    fn decode_plain(&mut self, frames: Vec<Bytes>, bytes: usize) -> Result<(), Stopped> {
        self.memory.grow_to(bytes.saturating_mul(MEMORY_FACTOR)).map_err(Stopped::Body)?;
        let lines: usize = frames.iter().map(|f| memchr::memchr_iter(b'\n', f).count()).sum();
        if lines <= ATOMIC_LINES_MAX {
            let mut decoder = Decoder::new(&self.options, now_ns());
            for frame in &frames {
                decoder.part(frame);
            }
            decoder.end();
            let piece = piece(decoder.finish(), 0)?;
            let bytes = piece.records.as_ref().map_or(0, RecordBatch::get_array_memory_size);
            if bytes <= limits::BATCH_BYTES_MAX {
                drop(frames);
                return self.hand_over(piece);
            }
        }
        let mut chunks = Chunks::new(Received::whole(frames.concat().into()));
        drop(frames);
        self.decode_chunks(&mut chunks, Encoding::Identity)
    }

    fn decode<R: Read>(
        &mut self,
        chunks: &mut Chunks<R>,
        encoding: Encoding,
    ) -> Result<(), Stopped> {
        let failed = |e: io::Error| Stopped::Body(BodyError::of_io(&e, encoding));
        let received_ns = now_ns();
        while chunks.held().len() <= ATOMIC_BYTES_MAX {
            let more = chunks.read_more().map_err(failed)?;
            let held = chunks.held().len().saturating_mul(MEMORY_FACTOR);
            self.memory.grow_to(held).map_err(Stopped::Body)?;
            if !more {
                break;
            }
        }
        if chunks.held().len() <= ATOMIC_BYTES_MAX
            && memchr::memchr_iter(b'\n', chunks.held()).nth(ATOMIC_LINES_MAX).is_none()
        {
            let mut decoder = Decoder::new(&self.options, received_ns);
            decoder.body(chunks.held());
            let piece = piece(decoder.finish(), 0)?;
            let bytes = piece.records.as_ref().map_or(0, RecordBatch::get_array_memory_size);
            if bytes <= limits::BATCH_BYTES_MAX {
                return self.hand_over(piece);
            }
        }
        self.decode_chunks(chunks, encoding)
    }

    /// Decodes what is not stored in one piece.
    fn decode_chunks<R: Read>(
        &mut self,
        chunks: &mut Chunks<R>,
        encoding: Encoding,
    ) -> Result<(), Stopped> {
        let failed = |e: io::Error| Stopped::Body(BodyError::of_io(&e, encoding));
        let mut decoder = Decoder::new(&self.options, now_ns());
        let mut lines = 0;
        while let Some(chunk) = chunks.next(CHUNK_BYTES, CHUNK_LINES_MAX).map_err(failed)? {
            decoder.body(&chunk);
            drop(chunk);
            let piece = piece(decoder.finish(), lines)?;
            lines = *piece.lines.end();
            self.hand_over(piece)?;
        }
        Ok(())
    }

    fn hand_over(&mut self, piece: Piece) -> Result<(), Stopped> {
        if *piece.lines.start() == 1 && piece.is_another_format() {
            return Err(Stopped::NoneParses(piece));
        }
        let gone = || Stopped::Body(BodyError::Broken("the request was given up".to_owned()));
        self.sender.blocking_send(Ok(piece)).map_err(|_| gone())
    }
}

impl Piece {
    /// Not one line is a JSON object. A line that was only too long says nothing of the format.
    fn is_another_format(&self) -> bool {
        let rows = self.records.as_ref().map_or(0, RecordBatch::num_rows) as u64;
        self.malformed_total >= rows && self.malformed_total > self.truncated_total
    }
}

/// What a decoder made of the lines after `lines_before`; it counts on from piece to piece.
fn piece(decoded: Result<Decoded, ArrowError>, lines_before: u64) -> Result<Piece, Stopped> {
    let decoded = decoded.map_err(Stopped::Ours)?;
    let listed = decoded.malformed.into_iter().take(MALFORMED_LISTED_MAX);
    Ok(Piece {
        records: decoded.records,
        lines: lines_before + 1..=decoded.lines,
        malformed: listed.map(|m| (m.line, m.reason)).collect(),
        malformed_total: decoded.malformed_total,
        truncated_total: decoded.truncated_total,
    })
}

/// The committing side: a few chunks at a time, answered in order.
async fn store(
    app: &Arc<App>,
    from: Sender,
    mut pieces: mpsc::Receiver<Result<Piece, Stopped>>,
    debug: bool,
) -> Result<Response, ApiError> {
    let mut report = Report::default();
    let mut in_flight = FuturesOrdered::new();
    let mut lost: Vec<(RangeInclusive<u64>, IngestError)> = Vec::new();
    let mut stopped = None;
    // The pieces of a request that can be known again follow each other, so that each is the next.
    let in_flight_max = if from.request == RequestId::NONE { CHUNKS_IN_FLIGHT_MAX } else { 1 };
    let mut number = 0;
    while lost.is_empty() && stopped.is_none() {
        tokio::select! {
            Some((lines, done)) = in_flight.next(), if !in_flight.is_empty() => {
                settle(app, &mut report, &mut lost, lines, done);
            }
            piece = pieces.recv(), if in_flight.len() < in_flight_max => match piece {
                Some(Ok(mut piece)) => {
                    let records = piece.records.take();
                    let lines = report.add(app, piece);
                    if let Some(records) = records {
                        let piece = (number, records);
                        in_flight.push_back(commit(app.clone(), from.clone(), piece, lines, debug));
                        number += 1;
                    }
                }
                Some(Err(why)) => stopped = Some(why),
                None => break,
            },
        }
    }
    drop(pieces);
    while let Some((lines, done)) = in_flight.next().await {
        settle(app, &mut report, &mut lost, lines, done);
    }
    report.answer(app, lost, stopped)
}

type Settled = (RangeInclusive<u64>, Result<u64, IngestError>);

/// Commits one chunk. A full queue is waited for: of a body that came in part the client cannot
/// know what to send again.
async fn commit(
    app: Arc<App>,
    from: Sender,
    (number, records): (u64, RecordBatch),
    lines: RangeInclusive<u64>,
    debug: bool,
) -> Settled {
    let rows = records.num_rows() as u64;
    if debug {
        tracing::info!(rows, fields = ?records.schema().fields().len(), "debug=1: not stored");
        return (lines, Ok(rows));
    }
    let batch = match Batch::new(from.tenant, None, None, records) {
        Ok(mut batch) => {
            from.request.mark(&mut batch, number);
            batch
        }
        Err(error) => {
            // The decoder made records of another shape: our bug, not the sender's.
            tracing::error!(%error, "decoded lines are not a batch");
            return (lines, Err(IngestError::ShuttingDown));
        }
    };
    let started = Instant::now();
    loop {
        match app.ingest.submit(batch.clone()).await {
            Ok(ack) => {
                app.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
                if ack.duplicate() {
                    app.metrics.ingest_duplicates.inc();
                }
                return (lines, Ok(ack.records()));
            }
            Err(IngestError::Overloaded { .. })
                if *lines.start() > 1 && started.elapsed() < CHUNK_WAIT_MAX =>
            {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Err(error) => return (lines, Err(error)),
        }
    }
}

fn settle(
    app: &App,
    report: &mut Report,
    lost: &mut Vec<(RangeInclusive<u64>, IngestError)>,
    lines: RangeInclusive<u64>,
    done: Result<u64, IngestError>,
) {
    match done {
        Ok(records) => {
            report.records += records;
            app.metrics.ingest_records.inc_by(records);
        }
        Err(error) => lost.push((lines, error)),
    }
}

impl Report {
    /// Adds a piece's lines to the answer; gives their numbers.
    fn add(&mut self, app: &App, piece: Piece) -> RangeInclusive<u64> {
        self.lines = *piece.lines.end();
        self.malformed_total += piece.malformed_total;
        app.metrics.malformed_lines.inc_by(piece.malformed_total);
        let room = MALFORMED_LISTED_MAX.saturating_sub(self.malformed.len());
        self.malformed.extend(piece.malformed.into_iter().take(room));
        piece.lines
    }

    fn malformed_json(&self) -> Value {
        let list = self.malformed.iter().map(|(line, why)| json!({"line": line, "reason": why}));
        list.collect()
    }

    fn answer(
        mut self,
        app: &App,
        lost: Vec<(RangeInclusive<u64>, IngestError)>,
        stopped: Option<Stopped>,
    ) -> Result<Response, ApiError> {
        let error = match (lost.first(), stopped) {
            (Some((_, error)), _) => refused(app, error, None),
            (None, Some(Stopped::Body(error))) => error.into_answer(&app.metrics),
            (None, Some(Stopped::NoneParses(piece))) => {
                self.add(app, piece);
                let message = "no line of the body is a JSON object, so nothing was stored; send \
                     one JSON object a line, as in {\"_msg\":\"hello\"}";
                ApiError::new(StatusCode::BAD_REQUEST, "malformed", message)
                    .with("malformed", self.malformed_json())
                    .with("malformed_total", self.malformed_total)
            }
            (None, Some(Stopped::Ours(error))) => {
                ApiError::internal(format!("decoded lines could not be stored: {error}"))
            }
            (None, None) => {
                let body = json!({
                    "records": self.records,
                    "malformed": self.malformed_json(),
                    "malformed_total": self.malformed_total,
                });
                return Ok(answer::json(StatusCode::OK, &body));
            }
        };
        if self.records == 0 {
            return Err(error);
        }
        // Part of a large body is stored: say which lines are not, so that only they come again.
        let ranges: Vec<Value> =
            lost.iter().map(|(l, _)| json!({"from": l.start(), "to": l.end()})).collect();
        Err(error
            .with("records", self.records)
            .with("lines_not_stored", ranges)
            .with("lines_after_not_stored", self.lines))
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|v| v.to_str().ok()).filter(|v| !v.is_empty())
}

/// VictoriaLogs' parameters: an argument of the URL wins over the header of the same meaning.
fn options(args: &Args, headers: &HeaderMap) -> Result<Options, ApiError> {
    for (name, alias) in [
        ("decolorize_fields", "vl-decolorize-fields"),
        ("preserve_json_keys", "vl-preserve-json-keys"),
    ] {
        if args.get(name).or(header(headers, alias)).is_some() {
            return Err(ApiError::bad_request(format!(
                "the parameter `{name}` is not supported; leave it out"
            )));
        }
    }
    let list = |name: &str, alias: &str| -> Vec<String> {
        let text = args.get(name).or(header(headers, alias)).unwrap_or_default();
        text.split(',').map(|f| f.trim().to_owned()).filter(|f| !f.is_empty()).collect()
    };
    let mut extra_fields = Vec::new();
    for pair in list("extra_fields", "vl-extra-fields") {
        let Some((name, value)) = pair.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            return Err(ApiError::bad_request(format!(
                "the parameter `extra_fields`: `{pair}` is not of the form name=value"
            )));
        };
        extra_fields.push((name.to_owned(), value.to_owned()));
    }
    let or = |names: Vec<String>, usual: Vec<String>| if names.is_empty() { usual } else { names };
    let usual = Options::default();
    Ok(Options {
        time_fields: or(list("_time_field", "vl-time-field"), usual.time_fields),
        msg_fields: or(list("_msg_field", "vl-msg-field"), usual.msg_fields),
        stream_fields: list("_stream_fields", "vl-stream-fields"),
        ignore_fields: list("ignore_fields", "vl-ignore-fields"),
        extra_fields,
    })
}
