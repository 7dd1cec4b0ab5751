//! Doors for clients that speak no HTTP: syslog, Fluent Forward, GELF and JSON lines over TCP and
//! UDP.
//!
//! ```text
//!  connection ─ stream: frame ─┐
//!                              ├─► gather: pieces ─ decode on a thread ─► commit ─► lodge-ingest
//!  socket ─ datagrams ─────────┘
//!  connection ◄─ acknowledgements (Forward) ◄──────────────────────────── durable
//! ```
//!
//! Invariants:
//! - a door is open only if its setting says so; what it takes goes through the one commit path;
//! - what was received is stored, or counted as dropped with the reason; who can be made to wait is
//!   not dropped but made to wait;
//! - whose records they are is decided in one place, [`Peer::new`];
//! - a connection's protocol works on any stream of bytes: that it is TCP is known here only.

mod commit;
mod counters;
mod datagrams;
mod delimited;
mod forward;
mod gather;
mod gelf;
mod json_lines;
mod piece;
mod stream;
mod syslog;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use lodge_record::TenantId;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

pub(crate) use self::counters::SocketMetrics;

use self::counters::Counters;
use self::forward::SharedKeys;
use self::gather::{Decode, Gatherer, NewDecoder, QUEUE_PIECES_MAX};
use self::piece::Piece;
use crate::app::App;
use crate::config::{Bind, ServerConfig};
use crate::limits::TLS_TIME_MAX;
use crate::metrics::Limit;
use crate::serve::ServerError;
use crate::tls::{self, Tls};

/// How long a batch of datagrams is tried again: nobody can be told to wait, and more come.
const DATAGRAMS_PATIENCE: Duration = Duration::from_secs(2);
/// How long a listener is left alone that cannot accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a door speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Syslog, a datagram each.
    SyslogUdp,
    /// Syslog over connections.
    SyslogTcp,
    /// Fluent Forward.
    Forward,
    /// GELF, in one datagram or several.
    GelfUdp,
    /// GELF over connections.
    GelfTcp,
    /// JSON lines over connections.
    JsonTcp,
}

impl Protocol {
    const ALL: [Self; 6] = [
        Self::SyslogUdp,
        Self::SyslogTcp,
        Self::Forward,
        Self::GelfUdp,
        Self::GelfTcp,
        Self::JsonTcp,
    ];

    /// The name of its setting, and of its label in the metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::SyslogUdp => "syslog_udp",
            Self::SyslogTcp => "syslog_tcp",
            Self::Forward => "forward",
            Self::GelfUdp => "gelf_udp",
            Self::GelfTcp => "gelf_tcp",
            Self::JsonTcp => "json_tcp",
        }
    }

    fn bind(self, config: &ServerConfig) -> Option<Bind> {
        match self {
            Self::SyslogUdp => config.syslog_udp,
            Self::SyslogTcp => config.syslog_tcp,
            Self::Forward => config.forward,
            Self::GelfUdp => config.gelf_udp,
            Self::GelfTcp => config.gelf_tcp,
            Self::JsonTcp => config.json_tcp,
        }
    }

    const fn is_datagrams(self) -> bool {
        matches!(self, Self::SyslogUdp | Self::GelfUdp)
    }

    fn new_decoder(self, app: &Arc<App>) -> NewDecoder {
        let app = app.clone();
        Box::new(move || -> Box<dyn Decode> {
            match self {
                Self::SyslogUdp | Self::SyslogTcp => Box::new(syslog::Records::new()),
                Self::Forward => Box::new(forward::Records::new(&app.config)),
                Self::GelfUdp => Box::new(gelf::Datagrams::new(&app)),
                Self::GelfTcp => Box::new(gelf::Records::new()),
                Self::JsonTcp => Box::new(json_lines::Records::new()),
            }
        })
    }
}

/// Who is at the other end, and whose records it sends.
pub(crate) struct Peer {
    /// Its address; of a socket for datagrams its own.
    pub(crate) address: SocketAddr,
    /// Whose records they become.
    pub(crate) tenant: TenantId,
}

impl Peer {
    /// Who is at the other end of a connection, if it may send.
    fn new(app: &App, address: SocketAddr, subject: Option<&str>) -> Option<Self> {
        let trusted = &app.config.trusted_networks;
        match app.tokens.of_socket(address.ip(), subject, trusted) {
            Ok(identity) => Some(Peer { address, tenant: identity.tenant().clone() }),
            Err(denied) => {
                app.metrics.denied(denied.name());
                tracing::debug!(%address, reason = denied.name(), "a connection is refused");
                None
            }
        }
    }
}

/// What all connections of a door share.
pub(crate) struct Door {
    app: Arc<App>,
    protocol: Protocol,
    counters: Counters,
    gather: mpsc::Sender<Piece>,
}

impl Door {
    /// A door, and who gathers what comes through it until the door is gone.
    fn new(app: &Arc<App>, protocol: Protocol) -> (Self, Gatherer) {
        let counters = app.metrics.sockets.of(protocol);
        let (gather, pieces) = mpsc::channel(QUEUE_PIECES_MAX);
        let patience = protocol.is_datagrams().then_some(DATAGRAMS_PATIENCE);
        let new_decoder = protocol.new_decoder(app);
        let gatherer = Gatherer::new(app.clone(), counters.clone(), pieces, new_decoder, patience);
        (Door { app: app.clone(), protocol, counters, gather }, gatherer)
    }

    /// Counts what was received.
    fn count_received(&self, messages: u64, bytes: u64) {
        self.counters.messages.inc_by(messages);
        self.counters.bytes.inc_by(bytes);
        self.app.metrics.ingest_bytes.inc_by(bytes);
    }

    /// Speaks the door's protocol on a connection.
    async fn serve_connection<S>(&self, peer: &Peer, stream: S, keys: &SharedKeys)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        match self.protocol {
            Protocol::SyslogTcp => syslog::serve_connection(self, peer, stream).await,
            Protocol::Forward => forward::serve_connection(self, peer, stream, keys).await,
            Protocol::GelfTcp => gelf::serve_connection(self, peer, stream).await,
            Protocol::JsonTcp => json_lines::serve_connection(self, peer, stream).await,
            // These have no connections.
            Protocol::SyslogUdp | Protocol::GelfUdp => {}
        }
    }
}

/// An open socket that nobody reads yet.
pub(crate) struct Bound {
    protocol: Protocol,
    address: SocketAddr,
    socket: Socket,
}

enum Socket {
    Datagrams(UdpSocket),
    Connections(TcpListener, Option<Arc<Tls>>),
}

/// Refuses an address that others can reach from which nobody's messages would be taken.
fn check_reach(
    setting: &'static str,
    protocol: Protocol,
    bind: Bind,
    config: &ServerConfig,
) -> Result<(), ServerError> {
    let is_loopback = |network: &IpNet| network.addr().is_loopback();
    let by_certificate = bind.tls && config.tls_client_ca.is_some();
    let is_any = by_certificate
        || protocol == Protocol::Forward
        || !config.trusted_networks.iter().all(is_loopback);
    if bind.is_loopback() || is_any {
        return Ok(());
    }
    Err(ServerError::NobodyTrusted { setting, address: bind.address })
}

/// Opens the sockets that the settings ask for.
pub(crate) async fn bind(
    config: &ServerConfig,
    tls: Option<&Arc<Tls>>,
) -> Result<Vec<Bound>, ServerError> {
    let mut all = Vec::new();
    // The same settings serve all servers of a cluster, but for the roles.
    let protocols: &[Protocol] = if config.roles.ingest { &Protocol::ALL } else { &[] };
    for &protocol in protocols {
        let Some(bind) = protocol.bind(config) else { continue };
        let setting = protocol.name();
        check_reach(setting, protocol, bind, config)?;
        let tls = match (bind.tls, tls) {
            (false, _) => None,
            (true, Some(tls)) => Some(Arc::clone(tls)),
            (true, None) => {
                return Err(ServerError::NoCertificate { name: setting, address: bind.address });
            }
        };
        let failed = |source| ServerError::Socket { setting, address: bind.address, source };
        let (socket, address) = if protocol.is_datagrams() {
            let socket = datagrams::bind(bind.address).map_err(failed)?;
            let address = socket.local_addr();
            (Socket::Datagrams(socket), address)
        } else {
            let socket = TcpListener::bind(bind.address).await.map_err(failed)?;
            let address = socket.local_addr();
            (Socket::Connections(socket, tls), address)
        };
        all.push(Bound { protocol, address: address.map_err(failed)?, socket });
    }
    Ok(all)
}

/// Open doors.
pub(crate) struct Sockets {
    bound: Vec<(&'static str, SocketAddr)>,
    doors: JoinSet<()>,
}

/// Begins to take what comes.
pub(crate) fn serve(app: &Arc<App>, all: Vec<Bound>) -> Sockets {
    let mut sockets = Sockets { bound: Vec::new(), doors: JoinSet::new() };
    for Bound { protocol, address, socket } in all {
        tracing::info!(door = protocol.name(), %address, "taking messages");
        sockets.bound.push((protocol.name(), address));
        let app = app.clone();
        match socket {
            Socket::Datagrams(socket) => {
                sockets.doors.spawn(take_datagrams(app, socket, address, protocol));
            }
            Socket::Connections(listener, tls) => {
                sockets.doors.spawn(accept(app, listener, protocol, tls));
            }
        }
    }
    sockets
}

impl Sockets {
    /// Where the door of a setting is open.
    pub(crate) fn bound(&self, name: &str) -> Option<SocketAddr> {
        self.bound.iter().find(|(known, _)| *known == name).map(|(_, address)| *address)
    }

    /// Waits, once the server is stopping, until all that was received is durable.
    pub(crate) async fn stopped(mut self, time_max: Duration) {
        let all = async {
            while let Some(ended) = self.doors.join_next().await {
                if let Err(error) = ended {
                    tracing::error!(%error, "a door died");
                }
            }
        };
        if tokio::time::timeout(time_max, all).await.is_err() {
            tracing::error!("messages were received that could not be stored within {time_max:?}");
            self.doors.shutdown().await;
        }
    }
}

/// Takes datagrams until the server stops and all of them are durable or dropped.
async fn take_datagrams(app: Arc<App>, socket: UdpSocket, address: SocketAddr, protocol: Protocol) {
    let (door, gatherer) = Door::new(&app, protocol);
    let mut gathering = JoinSet::new();
    gathering.spawn(gatherer.run());
    // Senders are looked at one by one; those that are taken send to the first tenant.
    let peer = Peer { address, tenant: TenantId::default() };
    datagrams::receive(&door, &peer, &socket).await;
    drop(door);
    while gathering.join_next().await.is_some() {}
}

/// Accepts connections until the server stops, then waits until what they sent is durable. Of all
/// these listeners at most `connections_max` connections are served; one more of each waits here,
/// others in the kernel.
async fn accept(app: Arc<App>, listener: TcpListener, protocol: Protocol, tls: Option<Arc<Tls>>) {
    let (door, gatherer) = Door::new(&app, protocol);
    let door = Arc::new(door);
    let mut gathering = JoinSet::new();
    gathering.spawn(gatherer.run());
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = app.stopping.cancelled() => break,
        };
        while open.try_join_next().is_some() {}
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, mostly: waiting a little lets some be closed.
                tracing::warn!(%error, door = protocol.name(), "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Only now: a door that nobody comes to takes no place from the others.
        let place = tokio::select! {
            place = a_place(&app) => place,
            () = app.stopping.cancelled() => break,
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection stays with delayed small packets");
        }
        let (door, tls) = (door.clone(), tls.clone());
        open.spawn(async move {
            let _open = Open::new(&door.counters);
            serve_one(&door, stream, address, tls).await;
            drop(place);
        });
    }
    drop(listener);
    while open.join_next().await.is_some() {}
    drop(door);
    while gathering.join_next().await.is_some() {}
}

/// Serves one connection of somebody who may send.
async fn serve_one(door: &Door, stream: TcpStream, address: SocketAddr, tls: Option<Arc<Tls>>) {
    let app = &door.app;
    let keys = match door.protocol {
        Protocol::Forward => SharedKeys::new(app.tokens.shared_keys()),
        _ => SharedKeys::default(),
    };
    // Who has to know a key is known by it.
    let peer = |subject: Option<&str>| match keys.is_any() {
        true => Some(Peer { address, tenant: TenantId::default() }),
        false => Peer::new(app, address, subject),
    };
    let Some(tls) = tls else {
        let Some(peer) = peer(None) else { return };
        return door.serve_connection(&peer, stream, &keys).await;
    };
    match timeout(TLS_TIME_MAX, tls.plain().accept(stream)).await {
        Ok(Ok(stream)) => {
            let subject = tls::subject(stream.get_ref().1);
            let Some(peer) = peer(subject.as_deref()) else { return };
            door.serve_connection(&peer, stream, &keys).await;
        }
        Ok(Err(error)) => {
            app.metrics.hit(Limit::TlsHandshake);
            tracing::debug!(%address, %error, "a TLS handshake failed");
        }
        Err(_) => {
            app.metrics.hit(Limit::TlsHandshake);
            tracing::debug!(%address, "a TLS handshake took too long");
        }
    }
}

async fn a_place(app: &App) -> Option<OwnedSemaphorePermit> {
    let places = &app.socket_connections;
    if let Ok(place) = places.clone().try_acquire_owned() {
        return Some(place);
    }
    app.metrics.hit(Limit::Connections);
    places.clone().acquire_owned().await.ok()
}

/// An open connection in the metrics.
struct Open(prometheus_client::metrics::gauge::Gauge);

impl Open {
    fn new(counters: &Counters) -> Self {
        counters.open.inc();
        Open(counters.open.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}
