//! The sockets of listeners: bytes come in, records go to the intake.
//!
//! Limits: connections at once, bytes of a record, the time a connection may be silent is not
//! limited (a quiet daemon is no fault), the time in which it may hold a part of a record is.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lodge_record::limits::LINE_BYTES_MAX;
use lodge_wire::syslog_frames::Framer;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::config::{Address, ListenSource};
use super::intake::{Intake, LINGER};
use super::lines::Lines;
use crate::parse::Text;

/// Connections of one listener; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 1_024;
/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;
/// Largest datagram.
const DATAGRAM_BYTES_MAX: usize = 64 << 10;
/// What the kernel is asked to hold for a UDP socket; it may give less.
const UDP_BUFFER_BYTES: usize = 8 << 20;
/// Longest that a connection may hold the part of a record back.
const PART_TIME_MAX: Duration = Duration::from_secs(60);
/// How long is read on when the agent stops.
const LAST_READ_TIME_MAX: Duration = Duration::from_secs(1);
/// Batches of datagrams that may wait for the disk.
const BATCHES_WAITING_MAX: usize = 2;
/// How often the kernel is asked what it dropped.
const KERNEL_DROPS_PERIOD: Duration = Duration::from_secs(1);

/// An open socket.
pub(super) enum Socket {
    /// With what the kernel is known to have dropped of it.
    Udp(UdpSocket, Arc<AtomicU64>),
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
    Stdin,
}

/// Sockets that stay open while the agent takes up another configuration: what is sent meanwhile
/// waits in the kernel. Clones are the same sockets.
#[derive(Clone, Debug, Default)]
pub struct Sockets {
    kept: Arc<Mutex<HashMap<String, Kept>>>,
}

#[derive(Debug)]
enum Kept {
    /// With what the kernel is known to have dropped of it.
    Udp(std::net::UdpSocket, Arc<AtomicU64>),
    Tcp(std::net::TcpListener),
}

impl Sockets {
    /// Closes the sockets of all other addresses.
    pub fn keep_only(&self, sources: &[ListenSource]) {
        let names: Vec<String> = sources.iter().map(|s| s.address.to_string()).collect();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|name, _| names.contains(name));
    }

    fn udp(&self, at: &SocketAddr) -> io::Result<(std::net::UdpSocket, Arc<AtomicU64>)> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let name = Address::Udp(*at).to_string();
        if let Some(Kept::Udp(socket, drops)) = kept.get(&name) {
            return Ok((socket.try_clone()?, Arc::clone(drops)));
        }
        let socket = std::net::UdpSocket::bind(at)?;
        socket.set_nonblocking(true)?;
        // The kernel's own limit decides; less is no fault.
        socket2::SockRef::from(&socket).set_recv_buffer_size(UDP_BUFFER_BYTES).ok();
        let drops = Arc::new(AtomicU64::new(0));
        kept.insert(name, Kept::Udp(socket.try_clone()?, Arc::clone(&drops)));
        Ok((socket, drops))
    }

    fn tcp(&self, at: &SocketAddr) -> io::Result<std::net::TcpListener> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let name = Address::Tcp(*at).to_string();
        if let Some(Kept::Tcp(listener)) = kept.get(&name) {
            return listener.try_clone();
        }
        let listener = std::net::TcpListener::bind(at)?;
        listener.set_nonblocking(true)?;
        kept.insert(name, Kept::Tcp(listener.try_clone()?));
        Ok(listener)
    }
}

/// Opens the socket of an address, or goes on with the one that is open.
pub(super) async fn bind(address: &Address, kept: &Sockets) -> io::Result<Socket> {
    Ok(match address {
        Address::Udp(at) => {
            let (socket, drops) = kept.udp(at)?;
            Socket::Udp(UdpSocket::from_std(socket)?, drops)
        }
        Address::Tcp(at) => Socket::Tcp(TcpListener::from_std(kept.tcp(at)?)?),
        Address::Unix(path) => {
            // What an agent left that was killed; one that lives answers.
            if UnixStream::connect(path).await.is_err() {
                std::fs::remove_file(path).ok();
            }
            Socket::Unix(UnixListener::bind(path)?, path.clone())
        }
        Address::Stdin => Socket::Stdin,
    })
}

impl Socket {
    /// Receives until `stop`, or until there can come no more.
    pub(super) async fn receive(self, intake: Arc<Intake>, stop: CancellationToken) {
        let ended = stop.child_token();
        let ticking = tokio::spawn(flush_often(Arc::clone(&intake), ended.clone()));
        let received = async {
            match self {
                Socket::Udp(socket, drops) => datagrams(&socket, drops, &intake, &stop).await,
                Socket::Tcp(listener) => connections(&listener, &intake, &stop).await,
                Socket::Unix(listener, path) => {
                    connections(&listener, &intake, &stop).await;
                    std::fs::remove_file(path).ok();
                }
                Socket::Stdin => stream(tokio::io::stdin(), None, &intake, &stop).await,
            }
        };
        tokio::pin!(received);
        tokio::select! {
            () = &mut received => {}
            () = stop.cancelled() => {
                // What the kernel has taken from the senders already is read, if it ends.
                tokio::time::timeout(LAST_READ_TIME_MAX, received).await.ok();
            }
        }
        ended.cancel();
        ticking.await.ok();
    }
}

async fn flush_often(intake: Arc<Intake>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        tokio::time::sleep(LINGER).await;
        intake.flush().await;
    }
}

async fn datagrams(
    socket: &UdpSocket,
    drops: Arc<AtomicU64>,
    intake: &Arc<Intake>,
    stop: &CancellationToken,
) {
    let mut counting = JoinSet::new();
    counting.spawn(count_kernel_drops(socket.local_addr(), drops, Arc::clone(intake)));
    let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
    let waiting = Arc::new(Semaphore::new(BATCHES_WAITING_MAX));
    loop {
        let received = tokio::select! {
            biased;
            received = socket.recv_from(&mut datagram) => received,
            () = stop.cancelled() => return,
        };
        let (length, from) = match received {
            Ok(received) => received,
            Err(error) => {
                tracing::warn!(%error, "a datagram could not be received");
                tokio::time::sleep(LINGER).await;
                continue;
            }
        };
        let bytes = datagram.get(..length).unwrap_or_default().trim_ascii_end();
        let client = from.ip().to_string();
        let text = Text::whole(bytes);
        if !bytes.is_empty() && intake.take(text, Some(&client)) {
            // The socket is emptied while the disk works, as long as memory allows.
            let Ok(place) = Arc::clone(&waiting).acquire_owned().await else { return };
            let intake = Arc::clone(intake);
            tokio::spawn(async move {
                intake.flush().await;
                drop(place);
            });
        }
    }
}

/// Counts the datagrams that the kernel dropped because the socket was full.
async fn count_kernel_drops(
    at: io::Result<SocketAddr>,
    known: Arc<AtomicU64>,
    intake: Arc<Intake>,
) {
    let Ok(at) = at else { return };
    loop {
        let Some(drops) = kernel_drops(at) else { return };
        let before = known.swap(drops, Ordering::Relaxed);
        if drops > before {
            intake.missed(drops - before, "UDP socket full");
        }
        tokio::time::sleep(KERNEL_DROPS_PERIOD).await;
    }
}

/// The last column of the socket's line in `/proc/net/udp`.
fn kernel_drops(at: SocketAddr) -> Option<u64> {
    let table = if at.is_ipv4() { "/proc/net/udp" } else { "/proc/net/udp6" };
    let text = std::fs::read_to_string(table).ok()?;
    let port = format!(":{:04X}", at.port());
    let of_socket =
        |line: &&str| line.split_whitespace().nth(1).is_some_and(|a| a.ends_with(&port));
    let line = text.lines().skip(1).find(of_socket)?;
    line.split_whitespace().last()?.parse().ok()
}

/// A socket that takes connections.
trait Accept: Sync {
    type Stream: AsyncRead + Unpin + Send + 'static;

    /// The next connection, and from where it comes.
    fn accept(&self)
    -> impl Future<Output = io::Result<(Self::Stream, Option<SocketAddr>)>> + Send;
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, Option<SocketAddr>)> {
        let (stream, from) = TcpListener::accept(self).await?;
        Ok((stream, Some(from)))
    }
}

impl Accept for UnixListener {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<(UnixStream, Option<SocketAddr>)> {
        Ok((UnixListener::accept(self).await?.0, None))
    }
}

async fn connections<A: Accept>(listener: &A, intake: &Arc<Intake>, stop: &CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut open = JoinSet::new();
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((socket, from)) => {
                let (intake, stop) = (Arc::clone(intake), stop.clone());
                open.spawn(async move {
                    stream(socket, from, &intake, &stop).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(LINGER).await;
            }
        }
        while open.try_join_next().is_some() {}
    }
    // What the kernel had taken from the senders when the stop came is read to its end.
    while open.join_next().await.is_some() {}
}

/// How a stream is cut into records.
enum Cutter {
    Syslog(Framer),
    Lines(Lines),
}

impl Cutter {
    /// Gives the whole records of `bytes` to the intake; whether a batch is full.
    fn push(&mut self, bytes: &[u8], intake: &Intake, client: Option<&str>) -> bool {
        let mut full = false;
        let mut take = |bytes: &[u8], original_bytes| {
            full |= intake.take(Text::head(bytes, original_bytes), client);
        };
        match self {
            Cutter::Syslog(framer) => {
                framer.push(bytes);
                while let Some(frame) = framer.next_frame() {
                    take(&frame.bytes, frame.original_bytes);
                }
            }
            Cutter::Lines(lines) => lines.push(bytes, take),
        }
        full
    }

    fn finish(&mut self, intake: &Intake, client: Option<&str>) {
        let take = |bytes: &[u8], original_bytes| {
            intake.take(Text::head(bytes, original_bytes), client);
        };
        match self {
            Cutter::Syslog(framer) => {
                while let Some(frame) = framer.finish() {
                    take(&frame.bytes, frame.original_bytes);
                }
            }
            Cutter::Lines(lines) => lines.finish(take),
        }
    }
}

async fn stream<S: AsyncRead + Unpin>(
    mut socket: S,
    from: Option<SocketAddr>,
    intake: &Arc<Intake>,
    stop: &CancellationToken,
) {
    let client = from.map(|from| from.ip().to_string());
    let mut cutter = match intake.is_syslog() {
        true => Cutter::Syslog(Framer::new(LINE_BYTES_MAX)),
        false => Cutter::Lines(Lines::new(LINE_BYTES_MAX)),
    };
    let mut bytes = vec![0; READ_BYTES];
    loop {
        let read = tokio::select! {
            // What is there is read before the stop counts.
            biased;
            read = tokio::time::timeout(PART_TIME_MAX, socket.read(&mut bytes)) => read,
            () = stop.cancelled() => break,
        };
        match read {
            // A part that waits so long is a record without its end.
            Err(_) => cutter.finish(intake, client.as_deref()),
            Ok(Ok(0) | Err(_)) => break,
            Ok(Ok(length)) => {
                let read = bytes.get(..length).unwrap_or_default();
                if cutter.push(read, intake, client.as_deref()) {
                    intake.flush().await;
                }
            }
        }
    }
    cutter.finish(intake, client.as_deref());
    intake.flush().await;
}
