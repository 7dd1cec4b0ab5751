//! A connection of any protocol that is a stream of messages, over any stream of bytes.
//!
//! ```text
//!  read ─► framing ─► piece ─► memory ─► queue of the gatherer ─► (durable) ─► reply
//! ```
//!
//! Invariants:
//! - a connection that sends nothing holds no buffer and may do so for ever; one that has begun a
//!   message must go on: a pause of `stall_time_max`, or less than [`FRAME_BYTES_PER_S_MIN`] for
//!   longer than that, ends it;
//! - without room in memory or in the queue the connection is not read, so that its client waits;
//! - what was read is committed before the connection is closed from this side, and replies are
//!   written in the order of what they are about.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesOrdered;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::counters::Dropped;
use super::piece::Piece;
use super::{Door, Peer};
use crate::app::now_ns;
use crate::body::Reserved;
use crate::metrics::Limit;

/// Bytes that are read at once.
const READ_BYTES: usize = 64 << 10;
/// What a connection may hold of an unfinished message without asking for memory.
const FREE_BYTES: usize = 4 << 10;
/// Least rate of a message that takes longer than the stall time.
const FRAME_BYTES_PER_S_MIN: u64 = 1_024;
/// Pieces of a connection that wait for their commit.
const UNSETTLED_MAX: usize = 64;
/// How often memory is asked for that was refused.
const MEMORY_PAUSE: Duration = Duration::from_millis(50);
/// How long a stopping server reads what its kernel has taken from a client already, and the pause
/// that tells that this was all.
const LAST_READ_TIME_MAX: Duration = Duration::from_secs(1);
const LAST_READ_PAUSE: Duration = Duration::from_millis(50);

/// Why no more messages can be told apart.
pub(super) struct Refused {
    /// What is wrong, and how to mend it.
    pub(super) problem: String,
    /// A message is too long.
    pub(super) is_too_long: bool,
}

/// How the bytes of a protocol are cut into messages.
pub(super) trait Framing: Send {
    /// Takes the next bytes; messages that are whole go into `piece`.
    fn push(&mut self, bytes: &[u8], piece: &mut Piece) -> Result<(), Refused>;

    /// Whether a message has begun that is not whole.
    fn is_inside(&self) -> bool;

    /// Bytes that are held of it.
    fn held_bytes(&self) -> usize;

    /// The connection has ended: what is held goes into `piece` if it can be used, else the
    /// messages are counted that are lost with it.
    fn finish(&mut self, piece: &mut Piece) -> u64;

    /// Whether the client waits to be told that its messages are durable.
    fn has_replies(&self) -> bool {
        false
    }
}

/// Receives from a connection until it ends or the server stops.
pub(super) async fn receive<S, F>(door: &Door, peer: &Peer, stream: S, framing: F)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    F: Framing,
{
    let mut connection = Connection {
        door,
        peer,
        stream,
        framing,
        unsettled: FuturesOrdered::new(),
        held: None,
        begun: None,
        begun_bytes: 0,
        read_at: Instant::now(),
        is_given_up: false,
    };
    connection.run().await;
    connection.close().await;
}

/// What is read of a connection at once.
struct Read {
    bytes: usize,
    framed: Result<(), Refused>,
}

/// Whether to go on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    On,
    /// Commit what there is, then close.
    End,
}

struct Connection<'d, S, F> {
    door: &'d Door,
    peer: &'d Peer,
    stream: S,
    framing: F,
    /// Pieces that are not durable yet, each with the reply to come.
    unsettled: FuturesOrdered<oneshot::Receiver<Vec<u8>>>,
    /// Memory of the unfinished message.
    held: Option<Reserved>,
    /// When the unfinished message began, and what came of it.
    begun: Option<Instant>,
    begun_bytes: u64,
    read_at: Instant,
    /// There was no memory for its message.
    is_given_up: bool,
}

impl<S, F> Connection<'_, S, F>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    F: Framing,
{
    async fn run(&mut self) {
        let app = &self.door.app;
        let stall_time_max = app.config.stall_time_max;
        loop {
            let mut piece = Piece::new(self.peer);
            let is_full = self.unsettled.len() >= UNSETTLED_MAX;
            let stalled = sleep_until(self.read_at + stall_time_max);
            let flow = tokio::select! {
                biased;
                () = app.stopping.cancelled() => return self.drain().await,
                Some(reply) = self.unsettled.next(), if !self.unsettled.is_empty() => {
                    if is_full {
                        self.forgive();
                    }
                    self.settle(reply).await
                }
                read = read_some(&mut self.stream, &mut self.framing, &mut piece), if !is_full => {
                    self.take(read, piece).await
                }
                () = stalled, if self.begun.is_some() && !is_full => self.stalled(),
            };
            if flow == Flow::End {
                return;
            }
        }
    }

    /// The server stops: what the client was rid of already is read, if it ends.
    async fn drain(&mut self) {
        let until = Instant::now() + LAST_READ_TIME_MAX;
        while Instant::now() < until {
            let mut piece = Piece::new(self.peer);
            let read = read_some(&mut self.stream, &mut self.framing, &mut piece);
            let Ok(read) = timeout(LAST_READ_PAUSE, read).await else { return };
            if self.take(read, piece).await == Flow::End {
                return;
            }
        }
    }

    /// Takes what was read, whose messages are in `piece`.
    async fn take(&mut self, read: io::Result<Read>, piece: Piece) -> Flow {
        let read = match read {
            Ok(read) if read.bytes > 0 => read,
            Ok(_) => return Flow::End,
            Err(error) => {
                tracing::debug!(%error, peer = %self.peer.address, "a connection broke");
                return Flow::End;
            }
        };
        self.note_progress(&read, &piece);
        if self.hand_over(piece).await == Flow::End {
            return Flow::End;
        }
        if let Err(Refused { problem, is_too_long }) = read.framed {
            if is_too_long {
                self.door.app.metrics.hit(Limit::FrameBytes);
            }
            self.door.counters.malformed.inc();
            self.door.counters.drop_messages(Dropped::Malformed, 1);
            tracing::warn!(peer = %self.peer.address, door = self.door.protocol.name(),
                "a connection is closed: {problem}");
            return Flow::End;
        }
        if self.is_slow() {
            return self.stalled();
        }
        self.hold().await
    }

    /// Notes when the unfinished message began, and what came of it.
    fn note_progress(&mut self, read: &Read, piece: &Piece) {
        self.read_at = Instant::now();
        if !self.framing.is_inside() {
            self.begun = None;
        } else if self.begun.is_none() || !piece.is_empty() {
            self.begun = Some(self.read_at);
            self.begun_bytes = 0;
        } else {
            self.begun_bytes += read.bytes as u64;
        }
    }

    fn is_slow(&self) -> bool {
        let Some(begun) = self.begun else { return false };
        let elapsed = begun.elapsed();
        let owed = elapsed.as_secs().saturating_mul(FRAME_BYTES_PER_S_MIN);
        elapsed > self.door.app.config.stall_time_max && self.begun_bytes < owed
    }

    fn stalled(&self) -> Flow {
        self.door.app.metrics.hit(Limit::SlowFrame);
        tracing::info!(peer = %self.peer.address, door = self.door.protocol.name(),
            "a connection is closed: the end of its message did not come in time");
        Flow::End
    }

    /// Waiting for the server is no fault of the client's.
    fn forgive(&mut self) {
        self.read_at = Instant::now();
        if self.begun.is_some() {
            self.begun = Some(self.read_at);
            self.begun_bytes = 0;
        }
    }

    /// Gives a piece to the gatherer; waits for room.
    async fn hand_over(&mut self, mut piece: Piece) -> Flow {
        if piece.is_empty() {
            return Flow::On;
        }
        let door = self.door;
        piece.received_ns = now_ns();
        for _ in 0..piece.overlong {
            door.app.metrics.hit(Limit::FrameBytes);
        }
        door.count_received(piece.len() as u64, piece.bytes() as u64);
        let memory = self.held.take().unwrap_or_else(|| Reserved::new(&door.app, &piece.tenant));
        let Some(memory) = self.room(memory, piece.memory_bytes()).await else {
            door.counters.drop_messages(Dropped::Memory, piece.len() as u64);
            return Flow::End;
        };
        piece.memory = Some(memory);
        let (done, reply) = oneshot::channel();
        piece.done = Some(done);
        piece.is_urgent |= self.framing.has_replies();
        loop {
            let flow = tokio::select! {
                biased;
                place = door.gather.reserve() => {
                    let Ok(place) = place else { return Flow::End };
                    place.send(piece);
                    break;
                }
                Some(reply) = self.unsettled.next(), if !self.unsettled.is_empty() => {
                    self.settle(reply).await
                }
            };
            if flow == Flow::End {
                door.counters.drop_messages(Dropped::Store, piece.len() as u64);
                return Flow::End;
            }
        }
        self.unsettled.push_back(reply);
        self.forgive();
        Flow::On
    }

    /// Makes room for so many bytes. `None` if memory that this connection holds might be what all
    /// others wait for: then it gives up.
    async fn room(&mut self, mut memory: Reserved, bytes: usize) -> Option<Reserved> {
        if memory.grow_to(bytes).is_ok() {
            return Some(memory);
        }
        self.door.app.metrics.hit(Limit::InsertMemory);
        let give_up = Instant::now() + self.door.app.config.stall_time_max;
        loop {
            if memory.bytes() > 0 && Instant::now() > give_up {
                tracing::warn!(peer = %self.peer.address, door = self.door.protocol.name(), bytes,
                    "a connection is closed: no memory for its message; raise \
                     insert_memory_bytes_max or let it send less at once");
                self.is_given_up = true;
                return None;
            }
            tokio::select! {
                () = sleep(MEMORY_PAUSE) => {}
                Some(reply) = self.unsettled.next(), if !self.unsettled.is_empty() => {
                    if self.settle(reply).await == Flow::End {
                        return None;
                    }
                }
            }
            if memory.grow_to(bytes).is_ok() {
                self.forgive();
                return Some(memory);
            }
        }
    }

    /// Asks for the memory of an unfinished message.
    async fn hold(&mut self) -> Flow {
        let bytes = self.framing.held_bytes();
        if bytes <= FREE_BYTES {
            self.held = None;
            return Flow::On;
        }
        let memory =
            self.held.take().unwrap_or_else(|| Reserved::new(&self.door.app, &self.peer.tenant));
        self.held = self.room(memory, bytes).await;
        if self.held.is_some() { Flow::On } else { Flow::End }
    }

    /// Writes the reply to a piece that is durable.
    async fn settle(&mut self, reply: Result<Vec<u8>, oneshot::error::RecvError>) -> Flow {
        let reply = match reply {
            Ok(reply) if !reply.is_empty() => reply,
            // A client that waits to be told must send again what is not durable.
            Err(_) if self.framing.has_replies() => return Flow::End,
            _ => return Flow::On,
        };
        let write = async {
            self.stream.write_all(&reply).await?;
            self.stream.flush().await
        };
        match timeout(self.door.app.config.stall_time_max, write).await {
            Ok(Ok(())) => Flow::On,
            Ok(Err(_)) => Flow::End,
            Err(_) => {
                self.door.app.metrics.hit(Limit::SlowReader);
                Flow::End
            }
        }
    }

    /// Commits what is left, writes the last replies and ends the connection.
    async fn close(mut self) {
        let mut piece = Piece::new(self.peer);
        let lost = self.framing.finish(&mut piece);
        self.door.counters.drop_messages(Dropped::Incomplete, lost);
        piece.is_urgent = self.door.app.stopping.is_cancelled();
        if self.is_given_up {
            self.door.counters.drop_messages(Dropped::Memory, piece.len() as u64);
        } else {
            self.hand_over(piece).await;
        }
        while let Some(reply) = self.unsettled.next().await {
            if self.settle(reply).await == Flow::End {
                break;
            }
        }
        timeout(self.door.app.config.stall_time_max, self.stream.shutdown()).await.ok();
    }
}

thread_local! {
    /// Where all connections of a thread read to: one that waits holds no buffer of its own.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// Reads once; what comes goes through the framing into `piece`. Nothing is lost if the future is
/// dropped before it is ready.
async fn read_some<S: AsyncRead + Unpin, F: Framing>(
    stream: &mut S,
    framing: &mut F,
    piece: &mut Piece,
) -> io::Result<Read> {
    poll_fn(|cx| {
        SCRATCH.with_borrow_mut(|scratch| {
            let bytes = ready!(poll_bytes(stream, cx, scratch))?;
            Poll::Ready(Ok(Read { bytes: bytes.len(), framed: framing.push(bytes, piece) }))
        })
    })
    .await
}

fn poll_bytes<'b, S: AsyncRead + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
    scratch: &'b mut [u8],
) -> Poll<io::Result<&'b [u8]>> {
    let mut buffer = ReadBuf::new(scratch);
    ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
    let length = buffer.filled().len();
    Poll::Ready(Ok(scratch.get(..length).unwrap_or_default()))
}
