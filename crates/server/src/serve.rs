//! Starting, serving and stopping.
//!
//! Order of a graceful stop: no new connection and no new live tail; requests that run may finish
//! within `shutdown_time_max`, and what the other doors received is committed within as long; the
//! group commit drains; background work ends; the data folder is
//! free for the next process. What was acknowledged before is durable whatever happens here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use lodge_ingest::{Ingest, IngestLimits};
use lodge_query::{Engine, EngineLimits};
use lodge_store::{Background, Store, StoreError, StoreOptions};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinHandle, JoinSet};

use crate::app::App;
use crate::config::{self, ServerConfig};
use crate::decoders::Decoders;
use crate::limits::{
    CONNECTION_BUFFER_BYTES, EXPORT_TIME_MAX, FORM_BYTES_MAX, GARBAGE_MARGIN, HEADER_BYTES_MAX,
    HEADERS_MAX, HEADERS_TIME_MAX, STREAMS_PER_CONNECTION_MAX,
};
use crate::metrics::{Limit, Metrics};
use crate::sockets::{self, Sockets};
use crate::stall::StallGuard;
use crate::{batches, doors, guard, jsonline, ledger, select, status, tables, tail, ui};

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address is not of this machine alone.
    #[error("refusing to listen: {0}")]
    NotLoopback(String),
    /// The address is taken or not of this machine.
    #[error("cannot listen on {address}: {source}; {}", listen_hint(source))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The address of a door is taken or not of this machine.
    #[error("cannot listen on {address} for `{setting}`: {source}; {}", door_hint(source))]
    Socket {
        /// The setting that asks for it.
        setting: &'static str,
        /// The address.
        address: SocketAddr,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A door that should speak TLS.
    #[error(
        "`{setting}` asks for TLS on {address}, which this version does not have; leave tls:// out, \
         or let a proxy on this machine take TLS off"
    )]
    NoTls {
        /// The setting that asks for it.
        setting: &'static str,
        /// The address.
        address: SocketAddr,
    },
    /// No threads.
    #[error(
        "cannot start threads to take records in: {0}; look at the limits of this user (ulimit -u)"
    )]
    Threads(#[source] std::io::Error),
    /// The store did not open.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn listen_hint(source: &std::io::Error) -> &'static str {
    match source.kind() {
        std::io::ErrorKind::AddrInUse => {
            "another program listens there: stop it, or choose another port with --listen"
        }
        _ => "choose another address with --listen",
    }
}

fn door_hint(source: &std::io::Error) -> &'static str {
    match source.kind() {
        std::io::ErrorKind::AddrInUse => "stop the program that has it, or set another port",
        std::io::ErrorKind::PermissionDenied => {
            "ports below 1024 need a privilege (CAP_NET_BIND_SERVICE): set another port"
        }
        _ => "set another address",
    }
}

/// A server that runs. Dropping it does not stop it; [`RunningServer::stop`] does.
pub struct RunningServer {
    app: Arc<App>,
    address: SocketAddr,
    /// Gone once it was waited for.
    accepting: Option<JoinHandle<()>>,
    sockets: Sockets,
    background: Background,
}

/// Opens the data folder and serves it until it is stopped.
///
/// Must be called within a Tokio runtime with more than one thread.
pub async fn start(config: ServerConfig) -> Result<RunningServer, ServerError> {
    config::loopback_only(config.listen).map_err(ServerError::NotLoopback)?;
    let listener = TcpListener::bind(config.listen)
        .await
        .map_err(|source| ServerError::Listen { address: config.listen, source })?;
    let address = listener.local_addr().unwrap_or(config.listen);
    let bound = sockets::bind(&config).await?;
    let options = StoreOptions {
        disk_reserve_bytes: config.disk_free_bytes_min,
        // An object that a query reads must outlive the query.
        garbage_grace: config.query_time_max.max(EXPORT_TIME_MAX) + GARBAGE_MARGIN,
        ..StoreOptions::default()
    };
    let store = Store::open(&config.data_dir, options).await?;
    let background = Store::spawn_background(&store);
    let ingest = Ingest::start(store.clone(), IngestLimits::default());
    let memory = usize::try_from(config.query_memory_bytes_max).unwrap_or(usize::MAX);
    let defaults = EngineLimits::default();
    let engine_limits = EngineLimits {
        queries_max: config.queries_max,
        memory_bytes_max: defaults.memory_bytes_max.max(memory),
        ..defaults
    };
    let engine = Engine::new(store.clone(), engine_limits);
    if let Err(error) = engine.warm_up().await {
        tracing::warn!(%error, "the first query will be slow: none could be tried");
    }
    let metrics = Arc::new(Metrics::new());
    let decoders = Decoders::new().map_err(ServerError::Threads)?;
    let app = Arc::new(App::new(config, store, ingest, engine, metrics, decoders));
    tokio::spawn(sample_rate(app.clone()));
    let accepting = Some(tokio::spawn(accept(app.clone(), listener)));
    let sockets = sockets::serve(&app, bound);
    tracing::info!(%address, data_dir = %app.config.data_dir.display(), "serving");
    Ok(RunningServer { app, address, accepting, sockets, background })
}

impl RunningServer {
    /// The address that is listened on (with the real port, if 0 was asked for).
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// The address of the door that a setting opened, such as `syslog_udp`.
    pub fn bound(&self, name: &str) -> Option<SocketAddr> {
        self.sockets.bound(name)
    }

    /// The store, for tests and benchmarks that wait until everything is built.
    pub fn store(&self) -> &Arc<Store> {
        &self.app.store
    }

    /// The state behind the routes, for tests of what no setting reaches.
    #[cfg(test)]
    pub(crate) fn app(&self) -> Arc<App> {
        self.app.clone()
    }

    /// Returns when the server no longer accepts connections, which is only after a stop or if its
    /// listener died.
    pub async fn wait(&mut self) {
        if let Some(accepting) = &mut self.accepting {
            if let Err(error) = accepting.await {
                tracing::error!(%error, "the listener died");
            }
            self.accepting = None;
        }
    }

    /// Stops gracefully; see the order at the head of this file.
    pub async fn stop(self) {
        let Self { app, accepting, sockets, background, .. } = self;
        tracing::info!("stopping");
        app.stopping.cancel();
        if let Some(accepting) = accepting
            && let Err(error) = accepting.await
        {
            tracing::error!(%error, "the listener died");
        }
        sockets.stopped(app.config.shutdown_time_max).await;
        app.ingest.drain().await;
        background.shutdown().await;
        tracing::info!("stopped");
    }
}

/// Every route.
fn router(app: Arc<App>) -> Router {
    let metrics = app.metrics.clone();
    Router::new()
        .merge(doors::routes())
        .route("/insert/jsonline", post(jsonline::insert))
        .route("/api/v1/batches", post(batches::insert))
        .route("/api/v1/producers/{id}", get(batches::producer))
        .route("/api/v1/agents/{id}", post(ledger::report))
        .route("/api/v1/ledger", get(ledger::ledger))
        .route("/select/logsql/query", get(select::query).post(select::query))
        .route("/select/logsql/hits", get(select::hits).post(select::hits))
        .route("/select/logsql/stats_query", get(select::stats_query).post(select::stats_query))
        .route(
            "/select/logsql/stats_query_range",
            get(select::stats_query_range).post(select::stats_query_range),
        )
        .route("/select/logsql/tail", get(tail::tail).post(tail::tail))
        .route("/select/logsql/field_names", get(select::field_names).post(select::field_names))
        .route("/select/logsql/field_values", get(select::field_values).post(select::field_values))
        .route("/select/logsql/patterns", get(select::patterns).post(select::patterns))
        .route("/select/logsql/streams", get(select::streams).post(select::streams))
        .route("/api/v1/sql", get(tables::sql).post(tables::sql))
        .route("/api/v1/export", get(tables::export).post(tables::export))
        .route("/api/v1/status", get(status::status))
        .route("/health", get(status::health))
        .route("/ready", get(status::ready))
        .route("/metrics", get(status::metrics))
        .method_not_allowed_fallback(ui::method_not_allowed)
        .fallback(ui::serve)
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .layer(axum::middleware::from_fn_with_state(metrics, guard::guard))
        .with_state(app)
}

async fn sample_rate(app: Arc<App>) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = tick.tick() => app.rate.sample(app.metrics.ingest_records.get()),
            () = app.stopping.cancelled() => return,
        }
    }
}

/// Accepts connections until the server stops, then waits for those that are open.
async fn accept(app: Arc<App>, listener: TcpListener) {
    let router = router(app.clone());
    let builder = http_builder(&app.config);
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(app.config.connections_max));
    let mut open = JoinSet::new();
    loop {
        let place = tokio::select! {
            place = a_place(&app, &places) => place,
            () = app.stopping.cancelled() => break,
        };
        let stream = tokio::select! {
            accepted = listener.accept() => accepted,
            () = app.stopping.cancelled() => break,
        };
        while open.try_join_next().is_some() {}
        match stream {
            Ok((stream, _)) => {
                let io = TokioIo::new(guarded(&app, stream));
                let service = TowerToHyperService::new(router.clone());
                let connection = builder.serve_connection(io, service).into_owned();
                let connection = graceful.watch(connection);
                let app = app.clone();
                open.spawn(async move {
                    app.metrics.connections_open.inc();
                    if let Err(error) = connection.await {
                        tracing::debug!(error = %causes(error.as_ref()), "a connection ended");
                    }
                    app.metrics.connections_open.dec();
                    drop(place);
                });
            }
            Err(error) => {
                // Out of file descriptors, mostly: waiting a little lets some be closed.
                tracing::warn!(%error, "cannot accept a connection; trying again");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    let time_max = app.config.shutdown_time_max;
    if tokio::time::timeout(time_max, graceful.shutdown()).await.is_err() {
        tracing::warn!("some requests did not end within {time_max:?}; they are cut off");
    }
    open.shutdown().await;
}

async fn a_place(app: &App, places: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    if let Ok(place) = places.clone().try_acquire_owned() {
        return Some(place);
    }
    app.metrics.hit(Limit::Connections);
    places.clone().acquire_owned().await.ok()
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
