//! Datagrams: many for each time that the socket wakes this up.
//!
//! Invariants: the socket is emptied as fast as memory allows; a datagram is handed over, or counted
//! as dropped with the reason; what the kernel dropped before is read off its table, by the
//! socket's inode, each second and at the end.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};

use super::counters::Dropped;
use super::piece::Piece;
use super::{Door, Peer, Protocol};
use crate::app::now_ns;
use crate::body::Reserved;
use crate::metrics::Limit;

/// Largest datagram.
const DATAGRAM_BYTES_MAX: usize = 64 << 10;
/// What the kernel is asked to hold; it gives at most `net.core.rmem_max`.
const KERNEL_BUFFER_BYTES: usize = 16 << 20;
/// Datagrams that are read before others get their turn.
const TURN_DATAGRAMS: u64 = 512;
/// A piece of this size is handed over at once.
const PIECE_BYTES: usize = 256 << 10;
/// How long the first datagram of a piece waits for company.
const LINGER: Duration = Duration::from_millis(10);
/// How often the kernel is asked what it dropped.
const KERNEL_DROPS_PERIOD: Duration = Duration::from_secs(1);
/// How long a failing socket is left alone.
const ERROR_PAUSE: Duration = Duration::from_millis(100);
/// How long is received on when the server stops, and how long the last piece is tried.
const LAST_TIME_MAX: Duration = Duration::from_secs(1);
/// The pause that tells that nothing more is there.
const LAST_PAUSE: Duration = Duration::from_millis(50);

/// Opens a socket with as much room in the kernel as it gives.
pub(super) fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    let options = socket2::SockRef::from(&socket);
    // The kernel's own limit decides; less is no fault.
    options.set_recv_buffer_size(KERNEL_BUFFER_BYTES).ok();
    let kernel_buffer_bytes = options.recv_buffer_size().unwrap_or(0);
    tracing::debug!(%address, kernel_buffer_bytes, "a socket for datagrams is open");
    UdpSocket::from_std(socket)
}

/// Receives until the server stops.
pub(super) async fn receive(door: &Door, peer: &Peer, socket: &UdpSocket) {
    let mut taking = Taking {
        door,
        peer,
        piece: Piece::new(peer),
        flush_at: Instant::now(),
        kernel: KernelDrops::new(socket),
        is_text: door.protocol == Protocol::SyslogUdp,
        last: None,
    };
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    let mut ticks = interval(KERNEL_DROPS_PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = door.app.stopping.cancelled() => break,
            _ = ticks.tick() => taking.count_kernel_drops(),
            () = sleep_until(taking.flush_at), if !taking.piece.is_empty() => taking.flush_late(),
            readable = socket.readable() => {
                if let Err(error) = readable.and_then(|()| taking.turn(socket, &mut buffer)) {
                    tracing::warn!(%error, "datagrams cannot be received; trying again");
                    sleep(ERROR_PAUSE).await;
                }
            }
        }
    }
    let until = Instant::now() + LAST_TIME_MAX;
    while Instant::now() < until
        && timeout(LAST_PAUSE, socket.readable()).await.is_ok_and(|readable| readable.is_ok())
        && taking.turn(socket, &mut buffer).is_ok()
    {}
    taking.end().await;
}

struct Taking<'d> {
    door: &'d Door,
    peer: &'d Peer,
    piece: Piece,
    /// When the piece is handed over, if there is anything in it.
    flush_at: Instant,
    kernel: Option<KernelDrops>,
    /// A line's end is no part of a message.
    is_text: bool,
    /// The sender before, and whether it is trusted.
    last: Option<(IpAddr, bool)>,
}

impl Taking<'_> {
    /// Reads what is there, up to a turn.
    fn turn(&mut self, socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<()> {
        let (mut messages, mut bytes) = (0, 0);
        let mut read = Ok(());
        for _ in 0..TURN_DATAGRAMS {
            let (length, from) = match socket.try_recv_from(buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    read = Err(error);
                    break;
                }
            };
            let datagram = buffer.get(..length).unwrap_or_default();
            let datagram = if self.is_text { trim_end(datagram) } else { datagram };
            if !datagram.is_empty() {
                messages += 1;
                bytes += datagram.len() as u64;
                self.take(datagram, from);
            }
        }
        self.door.count_received(messages, bytes);
        read
    }

    fn take(&mut self, datagram: &[u8], from: SocketAddr) {
        if !self.is_trusted(from.ip()) {
            return self.door.counters.drop_messages(Dropped::Untrusted, 1);
        }
        if self.piece.cost_bytes() >= PIECE_BYTES
            && let Err(reason) = self.flush()
        {
            return self.door.counters.drop_messages(reason, 1);
        }
        if self.piece.is_empty() {
            self.flush_at = Instant::now() + LINGER;
        }
        self.piece.from = from;
        self.piece.push(datagram, datagram.len() as u64);
    }

    /// Whether messages of this sender are taken; most come from the one before.
    fn is_trusted(&mut self, ip: IpAddr) -> bool {
        if let Some((_, is_trusted)) = self.last.filter(|(last, _)| *last == ip) {
            return is_trusted;
        }
        let app = &self.door.app;
        let is_trusted = app.tokens.of_socket(ip, None, &app.config.trusted_networks).is_ok();
        self.last = Some((ip, is_trusted));
        is_trusted
    }

    /// Hands the piece over; says why it cannot be taken now.
    fn flush(&mut self) -> Result<(), Dropped> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let metrics = &self.door.app.metrics;
        let place = self.door.gather.try_reserve().map_err(|_| {
            metrics.hit(Limit::IngestQueue);
            Dropped::Queue
        })?;
        let mut memory = Reserved::new(&self.door.app, &self.piece.tenant);
        memory.grow_to(self.piece.memory_bytes()).map_err(|_| {
            metrics.hit(Limit::InsertMemory);
            Dropped::Memory
        })?;
        let mut piece = std::mem::replace(&mut self.piece, Piece::new(self.peer));
        piece.memory = Some(memory);
        piece.received_ns = now_ns();
        place.send(piece);
        Ok(())
    }

    /// Hands the piece over that has waited long enough; if it cannot be taken it goes on growing.
    fn flush_late(&mut self) {
        if self.flush().is_err() {
            self.flush_at = Instant::now() + LINGER;
        }
    }

    fn count_kernel_drops(&mut self) {
        let dropped = self.kernel.as_mut().map_or(0, KernelDrops::newly);
        self.door.counters.drop_messages(Dropped::Kernel, dropped);
    }

    /// Hands over what is left, if it is taken in time.
    async fn end(mut self) {
        self.count_kernel_drops();
        let until = Instant::now() + LAST_TIME_MAX;
        while let Err(reason) = self.flush() {
            if Instant::now() > until {
                let lost = self.piece.len() as u64;
                tracing::error!(messages = lost, "datagrams are dropped by the stop");
                return self.door.counters.drop_messages(reason, lost);
            }
            sleep(LINGER).await;
        }
    }
}

/// Without line ends and the NUL that some senders write.
fn trim_end(datagram: &[u8]) -> &[u8] {
    let kept = datagram.iter().rposition(|b| !matches!(b, b'\n' | b'\r' | 0));
    datagram.get(..kept.map_or(0, |last| last + 1)).unwrap_or_default()
}

/// What the kernel dropped because the socket's buffer was full.
struct KernelDrops {
    /// The kernel's table of such sockets.
    table: &'static str,
    inode: u64,
    known: u64,
}

impl KernelDrops {
    fn new(socket: &UdpSocket) -> Option<Self> {
        let is_v4 = socket.local_addr().ok()?.is_ipv4();
        let table = if is_v4 { "/proc/net/udp" } else { "/proc/net/udp6" };
        let inode = rustix::fs::fstat(socket).ok()?.st_ino;
        Some(KernelDrops { table, inode, known: 0 })
    }

    /// How many since the last time.
    fn newly(&mut self) -> u64 {
        let Ok(text) = std::fs::read_to_string(self.table) else { return 0 };
        let Some(now) = drops_of(&text, self.inode) else { return 0 };
        now.saturating_sub(std::mem::replace(&mut self.known, now))
    }
}

/// The last column of a socket's line.
fn drops_of(table: &str, inode: u64) -> Option<u64> {
    /// The column of inodes, from 0.
    const INODE: usize = 9;
    let inode = inode.to_string();
    let is_of_socket = |line: &&str| line.split_whitespace().nth(INODE) == Some(&inode);
    let line = table.lines().skip(1).find(is_of_socket)?;
    line.split_whitespace().last()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::drops_of;

    #[test]
    fn drops_are_those_of_the_socket() {
        let table = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   \
            uid  timeout inode ref pointer drops\n\
            1082: 0100007F:0202 00000000:0000 07 00000000:00000000 00:00000000 00000000     0  \
            0 5150 2 0000000000000000 7\n\
            1083: 0A00000A:0202 00000000:0000 07 00000000:00000000 00:00000000 00000000     0  \
            0 5151 2 0000000000000000 12\n";
        assert_eq!(drops_of(table, 5151), Some(12));
        assert_eq!(drops_of(table, 5150), Some(7));
        assert_eq!(drops_of(table, 515), None);
        assert_eq!(drops_of("", 5150), None);
    }
}
