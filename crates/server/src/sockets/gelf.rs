//! GELF: chunked and compressed over UDP, ended by NUL over a connection.

use std::time::Instant;

use lodge_record::TenantId;
use lodge_record::limits::LINE_BYTES_MAX;
use lodge_wire::gelf::Decoder;
use lodge_wire::gelf_chunks::{Assembler, Limits};
use tokio::io::{AsyncRead, AsyncWrite};

use super::counters::Dropped;
use super::delimited::Delimited;
use super::gather::{DECODED_BYTES_MAX, Decode, Decoded, is_full};
use super::piece::Piece;
use super::{Door, Peer, stream};
use crate::app::App;
use crate::body::Reserved;

/// Memory of messages whose chunks have not all come.
const UNDER_WAY_BYTES_MAX: usize = 16 << 20;
/// Messages whose chunks have not all come.
const UNDER_WAY_MESSAGES_MAX: usize = 16 << 10;
/// What a compressed message may expand to.
const EXPANDED_BYTES_MAX: usize = 8 << 20;

/// Serves one connection until it ends or the server stops.
pub(super) async fn serve_connection<S>(door: &Door, peer: &Peer, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    stream::receive(door, peer, stream, Delimited::new(0, LINE_BYTES_MAX)).await;
}

/// Records of whole messages.
pub(super) struct Records(Decoder);

impl Records {
    /// A decoder with nothing in it.
    pub(super) fn new() -> Self {
        Records(Decoder::new(0))
    }

    /// Takes a message, or the head of one that was too long.
    fn take(&mut self, bytes: &[u8], original_bytes: u64, out: &mut Decoded) {
        let original = usize::try_from(original_bytes).unwrap_or(usize::MAX);
        let problem = if bytes.len() < original {
            Some(format!("message of {original} bytes is longer than {LINE_BYTES_MAX}"))
        } else {
            self.0.message(bytes).err().map(|error| error.to_string())
        };
        if let Some(problem) = problem {
            self.0.keep_as_text(bytes, original, &problem);
            out.malformed += 1;
        }
        if is_full(self.0.rows(), self.0.bytes(), self.0.columns()) {
            self.cut(out);
        }
    }

    fn cut(&mut self, out: &mut Decoded) {
        let rows = self.0.rows();
        out.add(rows, self.0.finish());
    }
}

impl Decode for Records {
    fn piece(&mut self, piece: &Piece, out: &mut Decoded) {
        self.0.set_received_ns(piece.received_ns);
        for message in piece.messages() {
            self.take(message.bytes, message.original_bytes, out);
        }
    }

    fn bytes(&self) -> usize {
        self.0.bytes()
    }

    fn finish(&mut self, out: &mut Decoded) {
        self.cut(out);
    }
}

/// Records of datagrams, which are messages or chunks of them.
pub(super) struct Datagrams {
    records: Records,
    assembler: Assembler,
    /// Chunks' ages are told by a clock that does not go back.
    started: Instant,
    /// Chunks that are counted as lost already.
    lost: u64,
    _memory: Reserved,
}

impl Datagrams {
    /// A decoder with nothing in it, and the memory that it may take.
    pub(super) fn new(app: &App) -> Self {
        let mut memory = Reserved::new(app, &TenantId::default());
        if memory.grow_to(UNDER_WAY_BYTES_MAX).is_err() {
            tracing::warn!("chunks of GELF messages are held beyond insert_memory_bytes_max");
        }
        let limits = Limits {
            messages_max: UNDER_WAY_MESSAGES_MAX,
            bytes_max: UNDER_WAY_BYTES_MAX,
            expanded_bytes_max: EXPANDED_BYTES_MAX,
        };
        Datagrams {
            records: Records::new(),
            assembler: Assembler::new(limits),
            started: Instant::now(),
            lost: 0,
            _memory: memory,
        }
    }

    fn now_ns(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_nanos()).unwrap_or(i64::MAX)
    }

    /// Counts the chunks that will be in no message any more.
    fn count_lost(&mut self, out: &mut Decoded) {
        let counts = self.assembler.counts();
        let lost = counts.expired_chunks + counts.evicted_chunks;
        out.drop_messages(Dropped::Incomplete, lost - self.lost);
        self.lost = lost;
    }
}

impl Decode for Datagrams {
    fn piece(&mut self, piece: &Piece, out: &mut Decoded) {
        self.records.0.set_received_ns(piece.received_ns);
        let now_ns = self.now_ns();
        for datagram in piece.messages() {
            // Datagrams that expand a thousand times are no log, and nobody can be told to wait.
            if out.bytes() + self.bytes() > 2 * DECODED_BYTES_MAX {
                out.drop_messages(Dropped::Memory, 1);
                continue;
            }
            match self.assembler.push(datagram.from, datagram.bytes, now_ns) {
                Ok(Some(message)) => self.records.take(&message, message.len() as u64, out),
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(%error, from = %datagram.from, "a datagram is refused");
                    out.malformed += 1;
                    out.drop_messages(Dropped::Malformed, 1);
                }
            }
        }
    }

    fn bytes(&self) -> usize {
        self.records.bytes()
    }

    fn finish(&mut self, out: &mut Decoded) {
        self.assembler.expire(self.now_ns());
        self.count_lost(out);
        self.records.finish(out);
    }

    fn is_waiting(&self) -> bool {
        self.assembler.messages() > 0
    }

    fn end(&mut self, out: &mut Decoded) {
        self.assembler.expire(i64::MAX);
        self.count_lost(out);
    }
}
