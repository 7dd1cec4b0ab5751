//! Syslog: a datagram is a message; over a connection each is counted or ends with its line.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use lodge_record::limits::LINE_BYTES_MAX;
use lodge_wire::syslog::stamps::Zone;
use lodge_wire::syslog_frames::Framer;
use lodge_wire::syslog_records::{Decoder, Received};
use tokio::io::{AsyncRead, AsyncWrite};

use super::gather::{Decode, Decoded, is_full};
use super::piece::Piece;
use super::stream::{self, Framing, Refused};
use super::{Door, Peer};

/// Serves one connection until it ends or the server stops.
pub(super) async fn serve_connection<S>(door: &Door, peer: &Peer, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    stream::receive(door, peer, stream, Frames(Framer::new(LINE_BYTES_MAX))).await;
}

struct Frames(Framer);

impl Framing for Frames {
    fn push(&mut self, bytes: &[u8], piece: &mut Piece) -> Result<(), Refused> {
        self.0.push(bytes);
        while let Some(frame) = self.0.next_borrowed() {
            piece.overlong += u64::from((frame.bytes.len() as u64) < frame.original_bytes);
            piece.push(frame.bytes, frame.original_bytes);
        }
        if !self.0.is_inside() {
            // A new one holds no buffer.
            self.0 = Framer::new(LINE_BYTES_MAX);
        }
        Ok(())
    }

    fn is_inside(&self) -> bool {
        self.0.is_inside()
    }

    fn held_bytes(&self) -> usize {
        self.0.held_bytes()
    }

    fn finish(&mut self, piece: &mut Piece) -> u64 {
        // The last words of a program that died are worth more than a whole frame.
        if let Some(frame) = self.0.finish_borrowed() {
            piece.push(frame.bytes, frame.original_bytes.saturating_add(frame.missing_bytes));
        }
        0
    }
}

/// Records of the messages of many senders.
pub(super) struct Records(Decoder);

impl Records {
    /// A decoder for senders in the zone of this machine, where they name none.
    pub(super) fn new() -> Self {
        Records(Decoder::new(zone(TimeZone::system())))
    }

    fn cut(&mut self, out: &mut Decoded) {
        let rows = self.0.rows();
        out.add(rows, self.0.finish());
    }
}

fn zone(zone: TimeZone) -> Zone {
    let zone = Arc::new(zone);
    Box::new(move |civil_ns| {
        let civil = Timestamp::from_nanosecond(civil_ns.into()).ok()?;
        let civil = civil.to_zoned(TimeZone::UTC).datetime();
        let instant = zone.to_ambiguous_timestamp(civil).compatible().ok()?;
        i64::try_from(instant.as_nanosecond()).ok()
    })
}

impl Decode for Records {
    fn piece(&mut self, piece: &Piece, out: &mut Decoded) {
        self.0.set_received_ns(piece.received_ns);
        for message in piece.messages() {
            let received = Received {
                bytes: message.bytes,
                original_bytes: message.original_bytes,
                client: message.from.ip(),
            };
            out.malformed += u64::from(!self.0.message(received));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_of_a_place_is_read_with_its_summer_time() {
        let zone = zone(TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a rule"));
        let hour_ns = 3_600_000_000_000;
        let noon_in_march = 1_772_366_400_000_000_000;
        let noon_in_july = noon_in_march + 122 * 24 * hour_ns;
        assert_eq!(zone(noon_in_march), Some(noon_in_march - hour_ns));
        assert_eq!(zone(noon_in_july), Some(noon_in_july - 2 * hour_ns));
    }
}
