//! JSON lines over a connection: what `/insert/jsonline` takes, without parameters.

use lodge_record::limits::LINE_BYTES_MAX;
use lodge_wire::jsonline::{Decoder, Options};
use tokio::io::{AsyncRead, AsyncWrite};

use super::delimited::Delimited;
use super::gather::{Decode, Decoded, is_full};
use super::piece::Piece;
use super::{Door, Peer, stream};

/// Serves one connection until it ends or the server stops.
pub(super) async fn serve_connection<S>(door: &Door, peer: &Peer, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    stream::receive(door, peer, stream, Delimited::new(b'\n', LINE_BYTES_MAX)).await;
}

/// Records of lines.
pub(super) struct Records(Decoder);

impl Records {
    /// A decoder with nothing in it.
    pub(super) fn new() -> Self {
        Records(Decoder::new(&Options::default(), 0))
    }

    fn cut(&mut self, out: &mut Decoded) {
        let rows = self.0.rows();
        let decoded = self.0.finish();
        out.malformed += decoded.as_ref().map_or(0, |decoded| decoded.malformed_total);
        out.add(rows, decoded.map(|decoded| decoded.records));
    }
}

impl Decode for Records {
    fn piece(&mut self, piece: &Piece, out: &mut Decoded) {
        self.0.set_received_ns(piece.received_ns);
        for line in piece.messages() {
            if (line.bytes.len() as u64) < line.original_bytes {
                let original_bytes = usize::try_from(line.original_bytes).unwrap_or(usize::MAX);
                self.0.cut_line(line.bytes, original_bytes);
            } else {
                self.0.line(line.bytes);
            }
            if is_full(self.0.rows(), self.0.bytes(), self.0.columns()) {
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
