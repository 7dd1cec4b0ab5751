//! `POST /upload`: the systemd journal as `systemd-journal-upload` sends it, one endless request.
//!
//! ```text
//! bytes as they come ─ decode on a thread ─ commit every COMMIT_BYTES or COMMIT_TIME ─ 202 at the end
//! ```
//!
//! Invariants: what came is durable and visible [`COMMIT_TIME`] later at most, whether or not the
//! request goes on; 202 comes when all of it is durable. An upload that ends in another way, even
//! by a break of the connection, keeps what it brought up to there, and the answer says how many
//! records that is. An upload holds little memory: it is not read while it waits for a commit, for
//! memory or for a server that has too much to do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use bytes::Bytes;
use futures::FutureExt;
use http::{StatusCode, header};
use lodge_wire::encoding::Encoding;
use lodge_wire::journal_export::{Decoder, EntryRows};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::{MEMORY_FACTOR, Taken, answer, store};
use crate::access::{INGEST, Routes};
use crate::answer::ApiError;
use crate::app::{App, now_ns};
use crate::body::{Arriving, BodyError, Reserved, encoding_of};
use crate::identity::Identity;
use crate::metrics::Limit;
use crate::repeats::RequestId;

const CONTENT_TYPE: &str = "application/vnd.fdo.journal";
/// Records are committed when they take so much,
const COMMIT_BYTES: usize = 4 << 20;
/// or so long after the first of them came.
const COMMIT_TIME: Duration = Duration::from_secs(1);
/// Bytes that are decoded at a time, where so many are there.
const DECODED_AT_ONCE_BYTES: usize = 256 << 10;
/// How long the next entry may take: a client with nothing to say ends its request sooner, and one
/// that sends what it reads from elsewhere may have little to say.
const ENTRY_TIME_MAX: Duration = Duration::from_secs(600);
/// How long a commit is tried again while the server has too much to do. To refuse it would have
/// the client send all of its request again.
const OVERLOAD_TIME_MAX: Duration = Duration::from_secs(60);
/// Uploads at once. Each may last for hours.
const UPLOADS_MAX: usize = 256;

static UPLOADS: Semaphore = Semaphore::const_new(UPLOADS_MAX);

pub(super) fn routes() -> Routes {
    Routes::new().add(INGEST, "/upload", post(upload))
}

async fn upload(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let (head, body) = request.into_parts();
    let identity = Identity::of_request(&head.extensions)?;
    let arriving = Arriving::new(&app, body);
    let stated = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = stated.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case(CONTENT_TYPE) {
        let problem = format!("Content-Type has to be {CONTENT_TYPE}: the journal's export format");
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type", problem));
    }
    if encoding_of(&head.headers)? != Encoding::Identity {
        let problem = "a journal upload is taken uncompressed only; leave Content-Encoding out";
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_encoding", problem));
    }
    let Ok(place) = UPLOADS.try_acquire() else {
        app.metrics.hit(Limit::Uploads);
        let problem = format!("{UPLOADS_MAX} journal uploads are open already; try again later");
        return Err(ApiError::overloaded(problem, 10));
    };
    let mut upload = Upload::new(&app, identity, arriving);
    // A task of its own: it does not end with the connection, and keeps what came.
    let work = tokio::spawn(async move {
        let _place = place;
        let ended = upload.run().await;
        let kept = upload.commit().await;
        ended.and(kept).map_err(|error| error.with("records_stored", upload.stored))
    });
    work.await.map_err(|error| ApiError::internal(format!("an upload died: {error}")))??;
    Ok(answer(StatusCode::ACCEPTED, "text/plain; charset=utf-8", "OK.\n"))
}

/// What an upload waits for.
enum Event {
    Bytes(Vec<Bytes>),
    CommitDue,
    End,
}

struct Upload {
    app: Arc<App>,
    /// Who sends it.
    identity: Identity,
    arriving: Arriving,
    /// What came of the body and is not looked at.
    ahead: Option<Result<Option<Bytes>, BodyError>>,
    /// Gone while a thread decodes, and for good if that died.
    decoder: Option<Box<Decoder>>,
    memory: Reserved,
    /// When the first of the entries came that are not committed.
    waiting_since: Option<Instant>,
    /// When the last entry was whole.
    entry_at: Instant,
    stored: u64,
}

impl Upload {
    fn new(app: &Arc<App>, identity: Identity, arriving: Arriving) -> Self {
        // The labels are those of the agent's journal source; the host is each entry's own.
        let decoder = Decoder::new(EntryRows::new(None, &BTreeMap::new()));
        let tenant = identity.tenant().clone();
        Self {
            app: Arc::clone(app),
            identity,
            arriving,
            ahead: None,
            decoder: Some(Box::new(decoder)),
            memory: Reserved::new(app, &tenant),
            waiting_since: None,
            entry_at: Instant::now(),
            stored: 0,
        }
    }

    /// Takes in all of it; the last entries are still to be committed.
    async fn run(&mut self) -> Result<(), ApiError> {
        let stopping = self.app.stopping.clone();
        loop {
            let event = tokio::select! {
                event = self.event() => event?,
                () = stopping.cancelled() => {
                    let problem = "the server is stopping; send the upload again";
                    return Err(ApiError::unavailable("stopping", problem, 2));
                }
            };
            match event {
                Event::Bytes(parts) => self.decode(parts, false).await?,
                Event::CommitDue => {}
                Event::End => return self.decode(Vec::new(), true).await,
            }
            let is_full = self.decoder.as_ref().is_some_and(|d| d.bytes() >= COMMIT_BYTES);
            let due = self.waiting_since.is_some_and(|since| since.elapsed() >= COMMIT_TIME);
            if is_full || due {
                self.commit().await?;
            }
        }
    }

    async fn event(&mut self) -> Result<Event, ApiError> {
        let unfinished = self.decoder.as_ref().map_or(0, |decoder| decoder.unfinished_bytes());
        let left = (self.entry_at + ENTRY_TIME_MAX).saturating_duration_since(Instant::now());
        let silence_max =
            if unfinished > 0 { left.min(self.app.config.stall_time_max) } else { left };
        let came = match (self.ahead.take(), self.waiting_since) {
            (Some(came), _) => came,
            (None, None) => self.arriving.next_within(silence_max).await,
            (None, Some(since)) => {
                let next = self.arriving.next_within(silence_max);
                let Ok(came) = timeout_at(since + COMMIT_TIME, next).await else {
                    return Ok(Event::CommitDue);
                };
                came
            }
        };
        let Some(first) = self.refused(came)? else { return Ok(Event::End) };
        let mut bytes = first.len();
        let mut parts = vec![first];
        while bytes < DECODED_AT_ONCE_BYTES {
            match self.arriving.next_within(silence_max).now_or_never() {
                Some(Ok(Some(more))) => {
                    bytes += more.len();
                    parts.push(more);
                }
                other => {
                    self.ahead = other;
                    break;
                }
            }
        }
        Ok(Event::Bytes(parts))
    }

    fn refused<T>(&self, outcome: Result<T, BodyError>) -> Result<T, ApiError> {
        outcome.map_err(|error| error.into_answer(&self.app.metrics))
    }

    /// Memory of what is decoded and of so many bytes that are not.
    fn bytes_with(&self, more: usize) -> usize {
        let held = self.decoder.as_ref().map_or(0, |d| d.bytes() + d.unfinished_bytes());
        held.saturating_add(more).saturating_mul(MEMORY_FACTOR)
    }

    async fn decode(&mut self, parts: Vec<Bytes>, is_end: bool) -> Result<(), ApiError> {
        let bytes: usize = parts.iter().map(Bytes::len).sum();
        self.app.metrics.ingest_bytes.inc_by(bytes as u64);
        if self.memory.grow_to(self.bytes_with(bytes)).is_err() {
            // Two that wait for each other's memory would wait for ever: first give back.
            self.commit().await?;
            let time_max = self.app.config.stall_time_max;
            let waited = self.memory.wait_for(self.bytes_with(bytes), time_max).await;
            self.refused(waited)?;
        }
        let Some(mut decoder) = self.decoder.take() else { return Ok(()) };
        let rows_before = decoder.rows();
        let work = self.app.decoders.run(move || {
            let now = now_ns();
            let mut done = parts.iter().try_for_each(|part| decoder.part(part, now));
            if is_end && done.is_ok() {
                done = decoder.end(now);
            }
            (decoder, done)
        });
        let (decoder, done) =
            work.await.map_err(|error| ApiError::internal(format!("decoding died: {error}")))?;
        if decoder.rows() > rows_before {
            self.entry_at = Instant::now();
            self.waiting_since.get_or_insert(self.entry_at);
        }
        self.decoder = Some(decoder);
        done.map_err(|error| ApiError::bad_request(error.to_string()))
    }

    /// Commits the whole entries so far, and gives their memory back.
    async fn commit(&mut self) -> Result<(), ApiError> {
        self.waiting_since = None;
        let Some(decoder) = self.decoder.as_mut() else { return Ok(()) };
        let records = decoder.finish().map_err(|error| ApiError::internal(error.to_string()))?;
        let Some(records) = records else { return Ok(()) };
        let memory =
            std::mem::replace(&mut self.memory, Reserved::new(&self.app, self.identity.tenant()));
        // A client goes on where it stopped by its own cursor: nothing here tells a repeat.
        let (identity, request) = (self.identity.clone(), RequestId::NONE);
        let taken = Taken { identity, request, _memory: memory };
        self.stored += store_patiently(&self.app, &taken, records).await?;
        Ok(())
    }
}

/// Stores a batch; while there is too much to do it is tried again, for a time.
async fn store_patiently(app: &App, taken: &Taken, records: RecordBatch) -> Result<u64, ApiError> {
    let give_up = Instant::now() + OVERLOAD_TIME_MAX;
    loop {
        let error = match store(app, taken, vec![records.clone()]).await {
            Ok(stored) => return Ok(stored),
            Err(error) => error,
        };
        let pause = Duration::from_secs(error.retry_after_s().unwrap_or(1));
        let is_overload = error.status() == StatusCode::TOO_MANY_REQUESTS;
        if !is_overload || Instant::now() + pause > give_up || app.stopping.is_cancelled() {
            return Err(error);
        }
        tokio::time::sleep(pause).await;
    }
}
