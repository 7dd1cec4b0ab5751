//! Fluent Forward over a connection, with the handshake of a shared key where keys are set.
//!
//! Invariants: a chunk is acknowledged when its records are durable; with keys set nothing of a
//! client is read as a message before it has shown that it knows one; what cannot be decoded within
//! a message is counted and the rest is stored, since to send it again would not mend it.

use lodge_wire::forward::handshake::{self, Helo};
use lodge_wire::forward::{Decoder, ForwardError, Frames, Limits, ack};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::counters::Dropped;
use super::gather::{Decode, Decoded, is_full};
use super::piece::Piece;
use super::stream::{self, Framing, Refused};
use super::{Door, Peer};
use crate::config::ServerConfig;
use crate::identity::{Denied, Identity};
use crate::metrics::Limit;

/// Longest message, and what its entries may expand to.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// What the records of a message may take.
const DECODED_BYTES_MAX: usize = 128 << 20;
/// A message and its records take four times its bytes. Of the memory for all inserts one may use
/// half, so that there is room for it some time.
const MEMORY_SHARE: u64 = 8;
/// Longest message of a handshake.
const HANDSHAKE_BYTES_MAX: usize = 8 << 10;
/// The heartbeat: nil.
const HEARTBEAT: &[u8] = &[0xc0];

/// Keys of which a client must know one, with whose they are; without any none is asked for.
#[derive(Default)]
pub(super) struct SharedKeys(Vec<(String, Identity)>);

impl SharedKeys {
    /// These keys.
    pub(super) fn new(keys: Vec<(String, Identity)>) -> Self {
        SharedKeys(keys)
    }

    /// Whether there is any.
    pub(super) fn is_any(&self) -> bool {
        !self.0.is_empty()
    }
}

/// How much a connection may send at once.
fn limits(config: &ServerConfig) -> Limits {
    let share = usize::try_from(config.insert_memory_bytes_max / MEMORY_SHARE);
    let message_bytes_max = share.unwrap_or(usize::MAX).min(MESSAGE_BYTES_MAX);
    Limits {
        message_bytes_max,
        expanded_bytes_max: MESSAGE_BYTES_MAX,
        decoded_bytes_max: DECODED_BYTES_MAX,
    }
}

/// Serves one connection until it ends or the server stops.
pub(super) async fn serve_connection<S>(door: &Door, peer: &Peer, mut stream: S, keys: &SharedKeys)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let known;
    let mut peer = peer;
    if keys.is_any() {
        let time_max = door.app.config.stall_time_max;
        let shaken = tokio::select! {
            shaken = timeout(time_max, shake_hands(&mut stream, keys)) => shaken,
            () = door.app.stopping.cancelled() => return,
        };
        let shaken = match shaken {
            Ok(Ok(identity)) => Ok(identity),
            Ok(Err(problem)) => Err(problem),
            Err(_) => {
                door.app.metrics.hit(Limit::SlowFrame);
                Err("the handshake took too long".to_owned())
            }
        };
        match shaken {
            Ok(identity) => {
                known = Peer { address: peer.address, tenant: identity.tenant().clone() };
                peer = &known;
            }
            Err(problem) => {
                door.app.metrics.denied(Denied::Unknown.name());
                tracing::warn!(peer = %peer.address, "a Forward client is refused: {problem}");
                timeout(time_max, stream.shutdown()).await.ok();
                return;
            }
        }
    }
    let framing = Framed { frames: None, limits: limits(&door.app.config), is_broken: false };
    stream::receive(door, peer, stream, framing).await;
}

/// HELO, PING, PONG; an error says why the client is not let in.
async fn shake_hands<S>(stream: &mut S, keys: &SharedKeys) -> Result<Identity, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let broken = |error: std::io::Error| format!("the connection broke in the handshake: {error}");
    let nonce: [u8; 16] = rand::random();
    let helo = Helo { nonce: nonce[..].into(), auth_salt: (&[][..]).into(), keepalive: true };
    stream.write_all(&helo.write()).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    let mut frames = Frames::new(HANDSHAKE_BYTES_MAX);
    let mut bytes = [0; 1_024];
    let (answer, outcome) = loop {
        let length = stream.read(&mut bytes).await.map_err(broken)?;
        if length == 0 {
            return Err("it left in the handshake".to_owned());
        }
        frames.push(bytes.get(..length).unwrap_or_default());
        let frame = frames.next_frame().map_err(|error: ForwardError| error.to_string())?;
        let Some(frame) = frame else { continue };
        let ping = handshake::read_ping(frame).map_err(|error| error.to_string())?;
        let known = keys.0.iter().find(|(key, _)| ping.has_key(&nonce, key.as_bytes()));
        break match known {
            Some((key, identity)) => {
                (ping.accept(HOSTNAME, &nonce, key.as_bytes()), Ok(identity.clone()))
            }
            None => {
                let problem = "shared_key mismatch";
                (handshake::refuse(problem), Err(problem.to_owned()))
            }
        };
    };
    if frames.held_bytes() > 0 {
        return Err("it went on before the handshake was over".to_owned());
    }
    stream.write_all(&answer).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    outcome
}

/// What the server calls itself in a handshake: part of the digest, and of no other meaning.
const HOSTNAME: &str = "lodge";

/// Cuts a connection into messages.
struct Framed {
    /// None between two messages, so that it holds nothing.
    frames: Option<Frames>,
    limits: Limits,
    is_broken: bool,
}

impl Framing for Framed {
    fn push(&mut self, bytes: &[u8], piece: &mut Piece) -> Result<(), Refused> {
        let mut frames =
            self.frames.take().unwrap_or_else(|| Frames::new(self.limits.message_bytes_max));
        frames.push(bytes);
        loop {
            match frames.next_frame() {
                Ok(Some(HEARTBEAT)) => {}
                Ok(Some(frame)) => piece.push(frame, frame.len() as u64),
                Ok(None) => break,
                Err(error) => {
                    self.is_broken = true;
                    let is_too_long = matches!(error, ForwardError::TooLarge { .. });
                    return Err(Refused { problem: error.to_string(), is_too_long });
                }
            }
        }
        self.frames = Some(frames).filter(|frames| frames.held_bytes() > 0);
        Ok(())
    }

    fn is_inside(&self) -> bool {
        self.frames.is_some()
    }

    fn held_bytes(&self) -> usize {
        self.frames.as_ref().map_or(0, Frames::held_bytes)
    }

    fn finish(&mut self, _: &mut Piece) -> u64 {
        // A part of a message cannot be decoded. Its client was not told that it is stored.
        u64::from(self.is_inside() && !self.is_broken)
    }

    fn has_replies(&self) -> bool {
        true
    }
}

/// Records of messages.
pub(super) struct Records(Decoder);

impl Records {
    /// A decoder with nothing in it.
    pub(super) fn new(config: &ServerConfig) -> Self {
        Records(Decoder::new(limits(config)))
    }

    fn cut(&mut self, out: &mut Decoded) {
        let rows = self.0.rows();
        out.add(rows, self.0.take_batches());
    }
}

impl Decode for Records {
    fn piece(&mut self, piece: &Piece, out: &mut Decoded) {
        for frame in piece.messages() {
            let message = match self.0.frame(frame.bytes, piece.received_ns) {
                Ok(message) => message,
                Err(error) => {
                    tracing::warn!(%error, from = %frame.from, "a Forward message is dropped");
                    out.malformed += 1;
                    out.drop_messages(Dropped::Malformed, 1);
                    continue;
                }
            };
            if let Some(trouble) = message.troubles.first() {
                tracing::debug!(from = %frame.from, entry = trouble.entry,
                    rejected = message.rejected, "a Forward entry: {}", trouble.reason);
            }
            out.malformed += message.rejected + message.kept_as_text;
            out.drop_messages(Dropped::Malformed, message.rejected);
            if let Some(chunk) = &message.chunk {
                out.reply.extend_from_slice(&ack(chunk));
            }
            if is_full(self.0.rows(), self.0.bytes(), 1) {
                self.cut(out);
            }
        }
    }

    fn bytes(&self) -> usize {
        self.0.bytes()
    }

    fn finish(&mut self, out: &mut Decoded) {
        self.cut(out);
    }
}
