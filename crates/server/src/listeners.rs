//! HTTP listeners: the main one and those where other systems' clients look by themselves.
//!
//! ```text
//!  accept ─ place ─ TLS, in a task ─ stall ─ HTTP/1.1 or HTTP/2 ─► router, with the peer beside it
//! ```
//!
//! Invariants: an address that other machines can reach is listened on only if there is a token;
//! all HTTP listeners share `connections_max`, and who does nothing gives way to who comes
//! (see `places`); a connection must make its first request, and each further one, within
//! [`HEADERS_TIME_MAX`]; a slow handshake holds nobody else up.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use crate::app::App;
use crate::config::{Bind, ServerConfig};
use crate::identity::Peer;
use crate::limits::{
    CONNECTION_BUFFER_BYTES, HEADER_BYTES_MAX, HEADERS_MAX, HEADERS_TIME_MAX,
    STREAMS_PER_CONNECTION_MAX, TLS_TIME_MAX,
};
use crate::metrics::Limit;
use crate::places::Place;
use crate::serve::ServerError;
use crate::stall::StallGuard;
use crate::tls::{self, Tls};

/// An open listener.
pub(crate) struct Listener {
    /// The setting that asked for it.
    pub(crate) name: &'static str,
    /// Where it really is.
    pub(crate) address: SocketAddr,
    socket: TcpListener,
    tls: Option<Arc<Tls>>,
}

/// How long a connection that has to give its place to another has for the rest of a request that
/// it has begun.
const LEAVE_TIME_MAX: Duration = Duration::from_millis(100);

/// Refuses an address that others can reach while anybody would be served there.
pub(crate) fn check_reach(
    name: &'static str,
    bind: Bind,
    is_any_token: bool,
) -> Result<(), ServerError> {
    if bind.is_loopback() || is_any_token {
        if !bind.is_loopback() && !bind.tls {
            tracing::warn!(
                listener = name,
                address = %bind.address,
                "other machines send logs and tokens to this address in the clear; set \
                 tls_certificate and tls_key, and write the address as tls://IP:PORT"
            );
        }
        return Ok(());
    }
    Err(ServerError::NotLoopback { name, address: bind.address })
}

impl Listener {
    /// Opens it.
    pub(crate) async fn open(
        name: &'static str,
        bind: Bind,
        tls: Option<&Arc<Tls>>,
    ) -> Result<Self, ServerError> {
        let tls = match (bind.tls, tls) {
            (false, _) => None,
            (true, Some(tls)) => Some(Arc::clone(tls)),
            (true, None) => return Err(ServerError::NoCertificate { name, address: bind.address }),
        };
        let failed = |source| ServerError::Listen { name, address: bind.address, source };
        let socket = TcpListener::bind(bind.address).await.map_err(failed)?;
        let address = socket.local_addr().unwrap_or(bind.address);
        Ok(Self { name, address, socket, tls })
    }

    /// Accepts connections until the server stops, then waits for those that are open.
    pub(crate) async fn serve(self, app: Arc<App>, router: Router) {
        let builder = Arc::new(http_builder(&app.config));
        let mut open = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                () = app.stopping.cancelled() => break,
            };
            while open.try_join_next().is_some() {}
            let (stream, from) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, mostly: waiting a little lets some be closed.
                    tracing::warn!(%error, "cannot accept a connection; trying again");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            // Only now: a listener that nobody comes to takes no place from the others.
            let place = tokio::select! {
                place = app.connections.take(&app.metrics) => place,
                () = app.stopping.cancelled() => break,
            };
            let Some(place) = place else { break };
            let connection = Connection {
                app: app.clone(),
                router: router.clone(),
                builder: builder.clone(),
                peer: Peer { ip: from.ip(), listener: self.name, subject: None },
                place: Arc::new(place),
            };
            open.spawn(connection.run(stream, self.tls.clone()));
        }
        drop(self.socket);
        let time_max = app.config.shutdown_time_max;
        let all = async { while open.join_next().await.is_some() {} };
        if tokio::time::timeout(time_max, all).await.is_err() {
            tracing::warn!("some requests did not end within {time_max:?}; they are cut off");
        }
        open.shutdown().await;
    }
}

/// One connection on its way.
struct Connection {
    app: Arc<App>,
    router: Router,
    builder: Arc<auto::Builder<TokioExecutor>>,
    peer: Peer,
    place: Arc<Place>,
}

impl Connection {
    async fn run(mut self, stream: TcpStream, tls: Option<Arc<Tls>>) {
        let app = Arc::clone(&self.app);
        app.metrics.connections_open.inc();
        let guarded = guarded(&app, stream);
        match tls {
            None => self.http(guarded).await,
            Some(tls) => {
                let handshake = tls.http().accept(guarded);
                match tokio::time::timeout(TLS_TIME_MAX, handshake).await {
                    Ok(Ok(stream)) => {
                        self.peer.subject = tls::subject(stream.get_ref().1);
                        self.http(stream).await;
                    }
                    Ok(Err(error)) => {
                        app.metrics.hit(Limit::TlsHandshake);
                        tracing::debug!(from = %self.peer.ip, %error, "a TLS handshake failed");
                    }
                    Err(_) => {
                        app.metrics.hit(Limit::TlsHandshake);
                        tracing::debug!(from = %self.peer.ip, "a TLS handshake took too long");
                    }
                }
            }
        }
        app.metrics.connections_open.dec();
    }

    async fn http(self, stream: impl AsyncRead + AsyncWrite + Unpin + 'static) {
        let Self { app, router, peer, place, builder } = self;
        let at = place.clone();
        let service = tower::service_fn(move |mut request: Request<Incoming>| {
            let working = at.begin();
            request.extensions_mut().insert(peer.clone());
            let answer = router.clone().oneshot(request);
            async move { answer.await.map(|answer| answer.map(|body| working.until_sent(body))) }
        });
        let service = TowerToHyperService::new(service);
        let mut connection =
            pin!(builder.serve_connection(TokioIo::new(stream), service).into_owned());
        // As long as the protocol is not known nobody else looks at the clock.
        let first_request = async {
            tokio::time::sleep(HEADERS_TIME_MAX).await;
            if place.is_known() {
                std::future::pending::<()>().await;
            }
        };
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = app.stopping.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.as_mut().await
            }
            // Who never made a request loses nothing by an end without ceremony.
            () = place.is_wanted() => if place.is_known() {
                connection.as_mut().graceful_shutdown();
                let left = tokio::time::timeout(LEAVE_TIME_MAX, connection.as_mut()).await;
                match left {
                    Ok(ended) => ended,
                    // A request came at the last moment: it is served, and the last one.
                    Err(_) if place.is_busy() => connection.as_mut().await,
                    Err(_) => Ok(()),
                }
            } else {
                Ok(())
            },
            () = first_request => Ok(()),
        };
        if let Err(error) = ended {
            tracing::debug!(error = %causes(error.as_ref()), "a connection ended");
        }
    }
}

fn guarded(app: &App, stream: TcpStream) -> StallGuard {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection stays with delayed small packets");
    }
    StallGuard::new(stream, app.config.stall_time_max, app.metrics.clone())
}

/// HTTP/1.1 and HTTP/2 with prior knowledge, told apart by the first bytes.
fn http_builder(config: &ServerConfig) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_TIME_MAX)
        .max_headers(HEADERS_MAX)
        .max_buf_size(CONNECTION_BUFFER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .max_header_list_size(HEADER_BYTES_MAX)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(config.stall_time_max);
    builder
}

fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
