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
use axum::routing::{delete, get, post};
use lodge_ingest::{Ingest, IngestLimits};
use lodge_query::{Engine, EngineLimits, TenantLimits};
use lodge_store::{Background, Store, StoreError, StoreOptions};
use tokio::task::JoinSet;

use crate::access::{ADMIN, INGEST, Need, READ, Routes};
use crate::app::App;
use crate::config::{Bind, ServerConfig};
use crate::decoders::Decoders;
use crate::identity::{RELOAD_EVERY, Tokens};
use crate::limits::{EXPORT_TIME_MAX, FORM_BYTES_MAX, GARBAGE_MARGIN};
use crate::listeners::{self, Listener};
use crate::metrics::Metrics;
use crate::sockets::{self, Sockets};
use crate::tls::{Tls, TlsError, TlsFiles};
use crate::{
    batches, doors, explain, guard, jsonline, kafka, ledger, peers, select, status, tables, tail,
    tokens, ui,
};

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Other machines can reach the address, and anybody would be served.
    #[error(
        "refusing to listen on {address} (setting `{name}`): other machines can reach it, and there \
         is no token yet, so anyone there could read and write the logs. Make a token first, with \
         `lodge token create --name me --scope admin,read,ingest --data-dir DIR`, or listen on \
         127.0.0.1:{port} and reach it from elsewhere through a tunnel, such as `ssh -L \
         {port}:127.0.0.1:{port} HOST`", port = address.port()
    )]
    NotLoopback {
        /// The setting.
        name: &'static str,
        /// The address.
        address: SocketAddr,
    },
    /// TLS without a certificate.
    #[error(
        "cannot speak TLS on {address} (setting `{name}`): set tls_certificate and tls_key, or write \
         the address without tls://"
    )]
    NoCertificate {
        /// The setting.
        name: &'static str,
        /// The address.
        address: SocketAddr,
    },
    /// One of the two is missing.
    #[error("tls_certificate and tls_key go together: set both or none")]
    HalfCertificate,
    /// The certificate or its key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address is taken or not of this machine.
    #[error("cannot listen on {address} (setting `{name}`): {source}; {}", listen_hint(source))]
    Listen {
        /// The setting.
        name: &'static str,
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
    /// Nobody's messages would be taken there.
    #[error(
        "refusing to take messages on {address} (setting `{setting}`): other machines can reach it, \
         and its protocol has no credentials. Name the networks whose senders are trusted, such as \
         trusted_networks = [\"127.0.0.0/8\", \"10.0.0.0/8\"], or, over TCP, write the address as \
         tls://IP:PORT and set tls_client_ca"
    )]
    NobodyTrusted {
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
    /// The Kafka consumer cannot be set up.
    #[error(transparent)]
    Kafka(#[from] kafka::KafkaStartError),
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
    /// The listeners by their settings, and where they really are.
    bound: Vec<(&'static str, SocketAddr)>,
    accepting: JoinSet<()>,
    /// Announces this server to the others.
    following: JoinSet<()>,
    sockets: Sockets,
    background: Background,
    kafka: Option<kafka::Consuming>,
}

/// Opens the data folder and serves it until it is stopped.
///
/// Must be called within a Tokio runtime with more than one thread.
pub async fn start(config: ServerConfig) -> Result<RunningServer, ServerError> {
    raise_open_files(config.connections_max);
    let tls = certificates(&config)?;
    let mut listeners = Vec::new();
    for (name, bind) in binds(&config) {
        listeners.push(Listener::open(name, bind, tls.as_ref()).await?);
    }
    let doors = sockets::bind(&config, tls.as_ref()).await?;
    let bucket = config
        .bucket()
        .map_err(|reason| StoreError::Bucket { url: config.objects.clone(), reason })?;
    let options = StoreOptions {
        bucket,
        catalog: config.catalog_address(),
        builds: config.roles.build,
        disk_reserve_bytes: config.disk_free_bytes_min,
        cache_bytes_max: if config.roles.query { config.cache_bytes_max } else { 0 },
        // An object that a query reads must outlive the query.
        garbage_grace: config.query_time_max.max(EXPORT_TIME_MAX) + GARBAGE_MARGIN,
        ..StoreOptions::default()
    };
    let store = Store::open(&config.data_dir, options).await?;
    let tokens = Tokens::default();
    tokens.reload(&store).await?;
    for (name, bind) in binds(&config) {
        listeners::check_reach(name, bind, tokens.is_any())?;
    }
    let background = Store::spawn_background(&store);
    let ingest = Ingest::start(store.clone(), IngestLimits::default());
    let memory = usize::try_from(config.query_memory_bytes_max).unwrap_or(usize::MAX);
    let defaults = EngineLimits::default();
    let bytes = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let engine_limits = EngineLimits {
        queries_max: config.queries_max,
        tenant: TenantLimits {
            memory_bytes_max: config.tenant_memory_bytes_max.map(bytes),
            time_max_per_minute: config.tenant_time_per_minute,
            bytes_max_per_minute: config.tenant_bytes_per_minute,
            rows_max_per_minute: config.tenant_rows_per_minute,
        },
        memory_bytes_max: defaults.memory_bytes_max.max(memory),
        ..defaults
    };
    let engine = Engine::new(store.clone(), engine_limits);
    if let Err(error) = engine.warm_up().await {
        tracing::warn!(%error, "the first query will be slow: none could be tried");
    }
    let metrics = Arc::new(Metrics::new());
    let decoders = Decoders::new().map_err(ServerError::Threads)?;
    let app = Arc::new(App::new(config, store, ingest, engine, metrics, decoders, tokens));
    let kafka = match app.config.roles.ingest {
        true => kafka::start(&app, &app.kafka, &app.config.kafka)?,
        false => None,
    };
    tokio::spawn(sample_rate(app.clone()));
    tokio::spawn(follow_tokens(app.clone()));
    let main = listeners.first().map(|main| (main.address, app.config.listen.tls));
    let mut following = JoinSet::new();
    if let (Some((address, is_tls)), true) = (main, app.store.is_shared()) {
        let tls = tls.clone().filter(|_| is_tls);
        following.spawn(peers::follow(app.clone(), address, tls));
    }
    if let Some(tls) = tls {
        tokio::spawn(tls.follow(app.stopping.clone()));
    }
    let mut accepting = JoinSet::new();
    let mut bound = Vec::new();
    for listener in listeners {
        let routes = if listener.name == MAIN { routes() } else { door_routes(listener.name) };
        bound.push((listener.name, listener.address));
        accepting.spawn(listener.serve(app.clone(), router(&app, routes)));
    }
    let sockets = sockets::serve(&app, doors);
    tracing::info!(?bound, data_dir = %app.config.data_dir.display(), "serving");
    Ok(RunningServer { app, bound, accepting, following, sockets, background, kafka })
}

/// The setting of the main listener.
const MAIN: &str = "listen";
/// Files that the store and its queries may have open beside the connections.
const FILES_OF_STORE: u64 = 2_000;

/// The HTTP listeners that are asked for; the main one is the first.
fn binds(config: &ServerConfig) -> Vec<(&'static str, Bind)> {
    let doors = [
        ("elasticsearch", config.elasticsearch),
        ("loki", config.loki),
        ("otlp", config.otlp),
        ("otlp_grpc", config.otlp_grpc),
    ];
    let doors = doors.into_iter().filter_map(|(name, bind)| Some((name, bind?)));
    std::iter::once((MAIN, config.listen)).chain(doors).collect()
}

/// Lets this process open as many files as the system allows it: every connection is one.
fn raise_open_files(connections_max: usize) {
    let resource = rustix::process::Resource::Nofile;
    let mut limit = rustix::process::getrlimit(resource);
    limit.current = limit.maximum;
    if let Err(error) = rustix::process::setrlimit(resource, limit) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    // HTTP and all other listeners, and the store's own files.
    let wanted = 2 * connections_max as u64 + FILES_OF_STORE;
    if let Some(most) = limit.maximum.filter(|most| *most < wanted) {
        tracing::info!(
            open_files_max = most,
            wanted,
            "fewer connections than connections_max can be open; raise the limit of open files \
             (LimitNOFILE= of systemd, ulimit -n)"
        );
    }
}

fn certificates(config: &ServerConfig) -> Result<Option<Arc<Tls>>, ServerError> {
    let (certificate, key) = match (&config.tls_certificate, &config.tls_key) {
        (None, None) => return Ok(None),
        (Some(certificate), Some(key)) => (certificate.clone(), key.clone()),
        _ => return Err(ServerError::HalfCertificate),
    };
    let files = TlsFiles { certificate, key, client_ca: config.tls_client_ca.clone() };
    Ok(Some(Arc::new(Tls::load(files)?)))
}

impl RunningServer {
    /// The main listener's address (with the real port, if 0 was asked for).
    pub fn addr(&self) -> SocketAddr {
        self.bound(MAIN).unwrap_or(self.app.config.listen.address)
    }

    /// The main listener's address as a URL.
    pub fn url(&self) -> String {
        let scheme = if self.app.config.listen.tls { "https" } else { "http" };
        format!("{scheme}://{}", self.addr())
    }

    /// Where the listener of a setting really is, if it was asked for.
    pub fn bound(&self, setting: &str) -> Option<SocketAddr> {
        let known = self.bound.iter().find(|(name, _)| *name == setting);
        known.map(|(_, address)| *address).or_else(|| self.sockets.bound(setting))
    }

    /// Reads tokens that were made or revoked just now, which it does by itself every second.
    pub async fn tokens_read(&self) {
        if let Err(error) = self.app.tokens.reload(&self.app.store).await {
            tracing::error!(%error, "the tokens cannot be read");
        }
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

    /// Returns when a listener no longer accepts connections, which is only after a stop or if it
    /// died.
    pub async fn wait(&mut self) {
        if let Some(Err(error)) = self.accepting.join_next().await {
            tracing::error!(%error, "a listener died");
        }
    }

    /// Stops gracefully; see the order at the head of this file.
    pub async fn stop(self) {
        let Self { app, mut accepting, mut following, sockets, background, kafka, .. } = self;
        tracing::info!("stopping");
        app.stopping.cancel();
        // First: nobody should be sent here any more.
        while following.join_next().await.is_some() {}
        if let Some(kafka) = kafka {
            kafka.stop().await;
        }
        while let Some(ended) = accepting.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a listener died");
            }
        }
        sockets.stopped(app.config.shutdown_time_max).await;
        app.ingest.drain().await;
        background.shutdown().await;
        app.store.close_cache().await;
        tracing::info!("stopped");
    }
}

/// Every route of the main listener.
pub(crate) fn routes() -> Routes {
    Routes::new()
        .merge(doors::routes())
        .add(INGEST, "/insert/jsonline", post(jsonline::insert))
        .add(INGEST, "/api/v1/batches", post(batches::insert))
        .add(INGEST, "/api/v1/producers/{id}", get(batches::producer))
        .add(INGEST, "/api/v1/agents/{id}", post(ledger::report))
        .add(READ, "/api/v1/ledger", get(ledger::ledger))
        .add(READ, "/select/logsql/query", get(select::query).post(select::query))
        .add(READ, "/select/logsql/hits", get(select::hits).post(select::hits))
        .add(READ, "/select/logsql/stats_query", get(select::stats_query).post(select::stats_query))
        .add(
            READ,
            "/select/logsql/stats_query_range",
            get(select::stats_query_range).post(select::stats_query_range),
        )
        .add(READ, "/select/logsql/tail", get(tail::tail).post(tail::tail))
        .add(READ, "/select/logsql/field_names", get(select::field_names).post(select::field_names))
        .add(
            READ,
            "/select/logsql/field_values",
            get(select::field_values).post(select::field_values),
        )
        .add(READ, "/select/logsql/facets", get(select::facets).post(select::facets))
        .add(READ, "/select/logsql/stream_ids", get(select::stream_ids).post(select::stream_ids))
        .add(
            READ,
            "/select/logsql/stream_field_names",
            get(select::stream_field_names).post(select::stream_field_names),
        )
        .add(
            READ,
            "/select/logsql/stream_field_values",
            get(select::stream_field_values).post(select::stream_field_values),
        )
        .add(READ, "/select/logsql/explain", get(explain::logsql).post(explain::logsql))
        .add(READ, "/api/v1/sql/explain", get(explain::sql).post(explain::sql))
        .add(READ, "/select/logsql/patterns", get(select::patterns).post(select::patterns))
        .add(READ, "/select/logsql/streams", get(select::streams).post(select::streams))
        .add(READ, "/api/v1/sql", get(tables::sql).post(tables::sql))
        .add(READ, "/api/v1/export", get(tables::export).post(tables::export))
        .add(READ, "/api/v1/status", get(status::status))
        .add(READ, "/metrics", get(status::metrics))
        .add(Need::Peer, peers::TASKS, post(peers::task))
        .add(ADMIN, "/api/v1/tokens", get(tokens::list).post(tokens::create))
        .add(ADMIN, "/api/v1/tokens/{id}", delete(tokens::revoke))
        .merge(health())
        .fallback(READ, ui::serve)
}

/// Whether the server lives.
fn health() -> Routes {
    Routes::new().add(Need::Nothing, "/health", get(status::health)).add(
        Need::Nothing,
        "/ready",
        get(status::ready),
    )
}

/// What the doors that have an address of their own answer there, by the setting's name.
pub(crate) fn door_routes(name: &str) -> Routes {
    match name {
        "elasticsearch" => doors::elastic::routes(""),
        "loki" => doors::loki::routes(),
        _ => doors::otlp::routes().merge(doors::otlp_grpc::routes()),
    }
    .merge(health())
}

fn router(app: &Arc<App>, routes: Routes) -> Router {
    routes
        .into_router()
        .method_not_allowed_fallback(ui::method_not_allowed)
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(app), guard::guard))
        .with_state(Arc::clone(app))
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

/// Follows the tokens that others make and revoke.
async fn follow_tokens(app: Arc<App>) {
    let mut tick = tokio::time::interval(RELOAD_EVERY);
    let mut is_troubled = false;
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = app.stopping.cancelled() => return,
        }
        match app.tokens.reload(&app.store).await {
            Ok(()) => is_troubled = false,
            Err(error) if !is_troubled => {
                is_troubled = true;
                tracing::error!(%error, "the tokens cannot be read; those read before stay");
            }
            Err(_) => {}
        }
    }
}
