//! The servers that share a catalog: how they find each other, and how they know each other.
//!
//! ```text
//!  start ─► announce{name, address, roles, version} ─► again every 3 s ─► depart at the stop
//!                                                        └► who else is there ─► Engine::join
//!  address: http://peer:KEY@IP:PORT/        KEY: made at the start, shown as `Authorization: Bearer`
//!           https://peer:KEY@IP:PORT/#HASH  HASH: of the certificate, which must be that one
//! ```
//!
//! Invariants:
//! - the catalog is what they trust: who may read it may read every record anyway. A key is of one
//!   process, is in no setting, and no token is one;
//! - a server is asked only by what the catalog says of it, and only one of the same version;
//! - who left or fell silent for [`LASTS`] is asked no more.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, header};
use lodge_query::{Cluster, Engine, Peer, channels};
use lodge_store::catalog::Node;
use lodge_store::token::secret_hash;
use rand::RngCore as _;
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;
use url::Url;

use crate::app::App;
use crate::peer_tls;
use crate::tls::Tls;

/// How long a server counts as there after it said so last.
const LASTS: Duration = Duration::from_secs(15);
/// How often it says so, and looks who else is there.
const EVERY: Duration = Duration::from_secs(3);
/// How long leaving may take.
const DEPART_MAX: Duration = Duration::from_secs(2);
/// The path under which tasks come: the service's name.
pub(crate) const TASKS: &str = "/worker.WorkerService/{method}";

/// What other servers must show here.
pub(crate) struct PeerKey {
    text: String,
    hash: [u8; 32],
}

impl PeerKey {
    /// One that nobody knows yet.
    pub(crate) fn random() -> Self {
        let mut bytes = [0; 32];
        rand::rng().fill_bytes(&mut bytes);
        let text = URL_SAFE_NO_PAD.encode(bytes);
        Self { hash: secret_hash(&text), text }
    }

    /// As it is shown.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Whether a request shows it. Hashes are compared: how long that takes tells nothing of the key.
    pub(crate) fn is_shown(&self, headers: &HeaderMap) -> bool {
        let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let shown = shown.and_then(|value| value.strip_prefix("Bearer "));
        shown.is_some_and(|shown| secret_hash(shown) == self.hash)
    }
}

/// The service of tasks.
pub(crate) type Tasks = BoxCloneSyncService<Request, Response, Infallible>;

/// The service of the tasks that an engine does.
pub(crate) fn tasks(engine: &Arc<Engine>) -> Tasks {
    let service = engine.worker().into_worker_server();
    let service = ServiceExt::<Request>::map_response(service, |answer| answer.map(Body::new));
    BoxCloneSyncService::new(service)
}

/// Does a task of another server.
pub(crate) async fn task(State(app): State<Arc<App>>, request: Request) -> Response {
    match app.tasks.clone().oneshot(request).await {
        Ok(answer) => answer,
        Err(never) => match never {},
    }
}

/// Announces this server and follows who else is there, until it stops.
pub(crate) async fn follow(app: Arc<App>, bound: SocketAddr, tls: Option<Arc<Tls>>) {
    let unlike = URL_SAFE_NO_PAD.encode(rand::rng().next_u64().to_be_bytes());
    let name = format!("{}-{unlike}", std::process::id());
    let started_ms = crate::app::now_ns() / 1_000_000;
    let mut known = Known::default();
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = app.stopping.cancelled() => break,
        }
        let Some(address) = address(&app, bound, tls.as_deref()) else { continue };
        let node = Node {
            name: name.clone(),
            address: address.to_string(),
            roles: app.config.roles.names().join(","),
            version: lodge_query::version(),
            started_ms,
        };
        let looked = async {
            app.store.announce(node, LASTS).await?;
            app.store.nodes().await
        };
        match looked.await {
            Ok(nodes) if app.config.roles.query => {
                known.follow(&app.engine, &name, nodes, app.config.spread_rows_min);
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "other servers may not find this one"),
        }
    }
    match tokio::time::timeout(DEPART_MAX, app.store.depart(name)).await {
        Ok(Ok(())) => {}
        // It falls silent, which comes to the same a little later.
        Ok(Err(error)) => tracing::info!(%error, "the catalog was not told of the stop"),
        Err(_) => tracing::info!("the catalog was not told of the stop in time"),
    }
}

/// Where others reach the main listener, and with what key.
fn address(app: &App, bound: SocketAddr, tls: Option<&Tls>) -> Option<Url> {
    let mut reached = bound;
    if bound.ip().is_unspecified() {
        reached.set_ip(towards(app.config.catalog.host()?)?);
    }
    let scheme = if tls.is_some() { "https" } else { "http" };
    let mut url = Url::parse(&format!("{scheme}://{reached}/")).ok()?;
    url.set_username("peer").ok()?;
    url.set_password(Some(app.peer_key.text())).ok()?;
    url.set_fragment(tls.map(Tls::fingerprint).as_deref());
    Some(url)
}

/// The address of this machine from which packets to `host` go: nothing is sent.
fn towards((host, port): (String, u16)) -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect((host.as_str(), port)).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

/// The other servers that were heard of.
#[derive(Default)]
struct Known {
    peers: Vec<Peer>,
    channels: BTreeMap<String, channels::Channel>,
}

impl Known {
    fn follow(&mut self, engine: &Engine, own: &str, nodes: Vec<Node>, rows_min: u64) {
        let version = lodge_query::version();
        let others = nodes.into_iter().filter(|node| {
            let asks = node.roles.split(',').any(|role| role == "query");
            node.name != own && asks && node.version == version
        });
        let peers: Vec<(Peer, Option<String>)> = others.filter_map(peer).collect();
        let now: Vec<Peer> = peers.iter().map(|(peer, _)| peer.clone()).collect();
        if now == self.peers {
            return;
        }
        let mut channels = BTreeMap::new();
        for (peer, fingerprint) in peers {
            let at = format!("{}#{}", peer.url, fingerprint.as_deref().unwrap_or_default());
            let opened = match self.channels.remove(&at) {
                Some(channel) => Ok(channel),
                None => open(&peer.url, fingerprint.as_deref()),
            };
            match opened {
                Ok(channel) => drop(channels.insert(at, channel)),
                Err(error) => tracing::warn!(peer = peer.name, error, "cannot be asked"),
            }
        }
        tracing::info!(peers = ?now, "the servers that answer queries together have changed");
        let by_url = |(at, channel): (&String, &channels::Channel)| {
            let url = at.split_once('#').map_or(at.as_str(), |(url, _)| url);
            (url.to_owned(), channel.clone())
        };
        let channels_by_url = channels.iter().map(by_url).collect();
        engine.join(Cluster {
            name: own.to_owned(),
            peers: now.clone(),
            channels: Arc::new(channels::Channels::new(channels_by_url)),
            rows_min,
        });
        (self.peers, self.channels) = (now, channels);
    }
}

fn open(url: &Url, fingerprint: Option<&str>) -> Result<channels::Channel, String> {
    match fingerprint {
        None => channels::open(url),
        Some(hash) => channels::open_with(url, peer_tls::Connector::new(hash)?),
    }
}

/// A server as the catalog tells of it, and the hash of its certificate.
fn peer(node: Node) -> Option<(Peer, Option<String>)> {
    let mut url = Url::parse(&node.address).ok()?;
    let key = url.password()?.to_owned();
    let fingerprint = url.fragment().map(str::to_owned);
    if (url.scheme() == "https") != fingerprint.is_some() {
        return None;
    }
    url.set_fragment(None);
    url.set_password(None).ok()?;
    url.set_username("").ok()?;
    Some((Peer { name: node.name, url, key }, fingerprint))
}
