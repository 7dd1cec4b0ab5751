//! Pieces of all connections of a protocol, gathered into batches.
//!
//! ```text
//!  pieces ─► gather (by size, or for a moment) ─► decode on a thread ─► commit, a few at once
//! ```
//!
//! Invariants: a batch is of one tenant; what waits is bounded by the queue's length, by
//! [`COMMITS_MAX`] batches behind it, and by the memory that each piece has reserved; while no
//! commit gets through, nothing more is taken from the queue, so that connections are not read.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use lodge_record::limits;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::commit::{Commit, Waiting};
use super::counters::{Counters, Dropped};
use super::piece::Piece;
use crate::app::App;

/// Pieces that wait to be gathered.
pub(super) const QUEUE_PIECES_MAX: usize = 256;
/// How long the first piece of a batch waits for company, if nobody waits for it.
const LINGER: Duration = Duration::from_millis(20);
/// The same when the batch before had at least so many bytes: a commit costs as much for few
/// records as for many.
const LOADED_LINGER: Duration = Duration::from_millis(100);
const LOADED_BYTES: usize = 256 << 10;
/// A batch of this size is decoded at once.
const BATCH_BYTES: usize = 4 << 20;
/// Batches that are being committed.
const COMMITS_MAX: usize = 3;
/// How often a decoder that holds unfinished messages looks at the clock.
const TICK: Duration = Duration::from_secs(1);
/// Records of this size are committed before more messages are decoded: what was sent compressed
/// may be much larger than what was received.
pub(super) const DECODED_BYTES_MAX: usize = 64 << 20;
/// Rows and bytes after which a decoder cuts its records.
const CUT_ROWS: usize = 1 << 16;
const CUT_BYTES: usize = 16 << 20;
/// What a cell of a column costs beside its text.
const CELL_BYTES: usize = 8;

/// Whether a decoder with so much in hand should cut its records.
pub(super) fn is_full(rows: usize, bytes: usize, columns: usize) -> bool {
    let cells_bytes = rows.saturating_mul(columns).saturating_mul(CELL_BYTES);
    rows >= CUT_ROWS || bytes >= CUT_BYTES || cells_bytes >= limits::CELLS_MAX
}

/// Turns the messages of a protocol into records.
pub(super) trait Decode: Send {
    /// Decodes the messages of a piece.
    fn piece(&mut self, piece: &Piece, out: &mut Decoded);

    /// Bytes of the records in hand, roughly.
    fn bytes(&self) -> usize;

    /// Gives out all records that are in hand.
    fn finish(&mut self, out: &mut Decoded);

    /// Whether it holds parts of messages whose time may run out.
    fn is_waiting(&self) -> bool {
        false
    }

    /// Nothing more will come: what is held is lost.
    fn end(&mut self, _out: &mut Decoded) {}
}

/// What a decoder made.
#[derive(Default)]
pub(super) struct Decoded {
    records: Vec<RecordBatch>,
    records_bytes: usize,
    /// Messages that are not of the protocol.
    pub(super) malformed: u64,
    /// What is to be written back once the piece in hand is durable.
    pub(super) reply: Vec<u8>,
    dropped: Vec<(Dropped, u64)>,
}

impl Decoded {
    /// Adds records, none of them or the error of making columns of so many rows.
    pub(super) fn add(
        &mut self,
        rows: usize,
        records: Result<impl IntoIterator<Item = RecordBatch>, ArrowError>,
    ) {
        match records {
            Ok(records) => {
                for records in records {
                    self.records_bytes += records.get_array_memory_size();
                    self.records.push(records);
                }
            }
            Err(error) => {
                tracing::error!(%error, rows, "decoded messages could not be made into columns");
                self.drop_messages(Dropped::Internal, rows as u64);
            }
        }
    }

    /// Bytes of the records so far.
    pub(super) fn bytes(&self) -> usize {
        self.records_bytes
    }

    /// Notes messages that give no record.
    pub(super) fn drop_messages(&mut self, reason: Dropped, count: u64) {
        if count > 0 {
            self.dropped.push((reason, count));
        }
    }
}

/// Makes the decoder of a protocol.
pub(super) type NewDecoder = Box<dyn Fn() -> Box<dyn Decode> + Send>;

/// Gathers the pieces of one door.
pub(super) struct Gatherer {
    app: Arc<App>,
    counters: Counters,
    pieces: mpsc::Receiver<Piece>,
    new_decoder: NewDecoder,
    decoder: Box<dyn Decode>,
    /// Pieces that did not fit into the batch before, or are of another tenant.
    carry: VecDeque<Piece>,
    /// Whether the batch before was large for its time.
    is_loaded: bool,
    /// How long a batch is tried again whose senders cannot wait.
    patience: Option<Duration>,
}

impl Gatherer {
    /// A gatherer that ends when all senders of `pieces` are gone.
    pub(super) fn new(
        app: Arc<App>,
        counters: Counters,
        pieces: mpsc::Receiver<Piece>,
        new_decoder: NewDecoder,
        patience: Option<Duration>,
    ) -> Self {
        let decoder = new_decoder();
        Gatherer {
            app,
            counters,
            pieces,
            new_decoder,
            decoder,
            carry: VecDeque::new(),
            is_loaded: false,
            patience,
        }
    }

    /// Gathers until nothing more can come; returns when all of it is durable, or dropped.
    pub(super) async fn run(mut self) {
        let places = Arc::new(Semaphore::new(COMMITS_MAX));
        let mut committing = JoinSet::new();
        while let Ok(place) = places.clone().acquire_owned().await {
            while committing.try_join_next().is_some() {}
            let Some(pieces) = self.gather().await else { break };
            if let Some(commit) = self.decode(pieces).await {
                committing.spawn(async move {
                    commit.run().await;
                    drop(place);
                });
            }
        }
        let mut out = Decoded::default();
        self.decoder.end(&mut out);
        self.count(&out);
        while committing.join_next().await.is_some() {}
    }

    /// The pieces of the next batch; none if only the decoder's clock has gone on.
    async fn gather(&mut self) -> Option<VecDeque<Piece>> {
        let first = match self.carry.pop_front() {
            Some(carry) => carry,
            None if self.decoder.is_waiting() => match timeout(TICK, self.pieces.recv()).await {
                Ok(first) => first?,
                Err(_) => return Some(VecDeque::new()),
            },
            None => self.pieces.recv().await?,
        };
        let linger = if self.is_loaded { LOADED_LINGER } else { LINGER };
        let deadline = Instant::now() + linger;
        let (mut bytes, mut is_urgent) = (first.cost_bytes(), first.is_urgent);
        let tenant = first.tenant.clone();
        let mut pieces = VecDeque::from([first]);
        while bytes < BATCH_BYTES {
            let next = match self.carry.pop_front().ok_or(()).or_else(|()| self.pieces.try_recv()) {
                Ok(next) => next,
                Err(_) if is_urgent => break,
                Err(_) => match timeout_at(deadline, self.pieces.recv()).await {
                    Ok(Some(next)) => next,
                    Ok(None) | Err(_) => break,
                },
            };
            if next.tenant != tenant {
                self.carry.push_front(next);
                break;
            }
            bytes += next.cost_bytes();
            is_urgent |= next.is_urgent;
            pieces.push_back(next);
        }
        self.is_loaded = bytes >= LOADED_BYTES;
        Some(pieces)
    }

    /// Decodes a batch on a thread.
    async fn decode(&mut self, mut pieces: VecDeque<Piece>) -> Option<Commit> {
        let messages: usize = pieces.iter().map(Piece::len).sum();
        let tenant = pieces.front().map(|first| first.tenant.clone());
        let mut decoder = std::mem::replace(&mut self.decoder, Box::new(Nothing));
        let work = self.app.decoders.run(move || {
            let (mut out, mut waiting) = (Decoded::default(), Waiting::default());
            while let Some(mut piece) = pieces.pop_front() {
                decoder.piece(&piece, &mut out);
                piece.forget_messages();
                waiting.add(piece, std::mem::take(&mut out.reply));
                if out.bytes() + decoder.bytes() >= DECODED_BYTES_MAX {
                    break;
                }
            }
            decoder.finish(&mut out);
            (decoder, out, waiting, pieces)
        });
        let (decoder, mut out, waiting, mut rest) = match work.await {
            Ok(done) => done,
            Err(error) => {
                tracing::error!(%error, messages, "decoding died; its messages are lost");
                self.counters.drop_messages(Dropped::Internal, messages as u64);
                self.decoder = (self.new_decoder)();
                return None;
            }
        };
        self.decoder = decoder;
        self.count(&out);
        rest.append(&mut self.carry);
        self.carry = rest;
        Some(Commit {
            app: self.app.clone(),
            counters: self.counters.clone(),
            tenant: tenant?,
            records: std::mem::take(&mut out.records).into(),
            waiting,
            patience: self.patience,
        })
    }

    fn count(&self, out: &Decoded) {
        self.counters.malformed.inc_by(out.malformed);
        for (reason, count) in &out.dropped {
            self.counters.drop_messages(*reason, *count);
        }
    }
}

/// Stands in for a decoder that is at work.
struct Nothing;

impl Decode for Nothing {
    fn piece(&mut self, _: &Piece, _: &mut Decoded) {}

    fn bytes(&self) -> usize {
        0
    }

    fn finish(&mut self, _: &mut Decoded) {}
}
