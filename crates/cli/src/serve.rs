//! `lodge server`: the server in the foreground, until SIGTERM or Ctrl-C.

use std::io::Write as _;
use std::path::PathBuf;

use lodge_server::ServerError;
use lodge_server::config::{self, Bind, ServerConfig};
use tokio::signal::unix::{SignalKind, signal};

use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  lodge server                                    data in ./lodge-data, http://127.0.0.1:9420
  lodge server --data-dir /srv/lodge --listen 127.0.0.1:9500
  lodge server --config lodge.toml                see `lodge check-config` for what it may hold

The environment variable LODGE_LOG sets what the server logs to stderr (default: info).";

/// Run the server: takes logs, stores them, answers queries and serves the web page
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct ServerArgs {
    /// Folder of everything the server keeps
    ///
    /// [default: data_dir of --config, else ./lodge-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Address to listen on; port 0 takes any free one, tls:// in front speaks TLS
    ///
    /// Other machines can reach it only once there is a token: see `lodge token create`.
    ///
    /// [default: listen of --config, else 127.0.0.1:9420]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,

    /// Configuration file; none is needed
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &ServerArgs) -> Result<(), Failure> {
    let config = configuration(args)?;
    start_logging();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(config))
}

fn configuration(args: &ServerArgs) -> Result<ServerConfig, Failure> {
    let mut config = match &args.config {
        Some(path) => config::load(path).map_err(|e| {
            Failure::usage(e.to_string()).at(format!("--config {}", path.display()))
        })?,
        None => ServerConfig::default(),
    };
    if let Some(dir) = &args.data_dir {
        config.data_dir.clone_from(dir);
    }
    if let Some(listen) = &args.listen {
        config.listen =
            Bind::parse(listen).map_err(|e| Failure::usage(e).at(format!("--listen {listen}")))?;
    }
    Ok(config)
}

async fn serve(config: ServerConfig) -> Result<(), Failure> {
    let data_dir = config.data_dir.clone();
    let mut server = lodge_server::start(config)
        .await
        .map_err(|e| cannot_start(&e).at(data_dir.display().to_string()))?;
    announce(&server, &data_dir)?;
    tokio::select! {
        () = interrupt() => {}
        () = server.wait() => {}
    }
    tokio::select! {
        () = server.stop() => Ok(()),
        // What is acknowledged is durable: a second signal may cut the rest short.
        () = interrupt() => Ok(()),
    }
}

/// An address that is refused is the configuration's fault, and trying again does not help.
fn cannot_start(error: &ServerError) -> Failure {
    let what = crate::client::causes(error);
    match error {
        ServerError::NotLoopback { .. }
        | ServerError::NoCertificate { .. }
        | ServerError::HalfCertificate => Failure::usage(what),
        _ => Failure::new(what),
    }
}

/// The first line is read by programs: it must stay as it is.
fn announce(
    server: &lodge_server::RunningServer,
    data_dir: &std::path::Path,
) -> Result<(), Failure> {
    let address = server.url();
    let text = format!(
        "Lodge is listening on {address}\n\
         \n  open     {address}/ in a browser\
         \n  send     lodge import app.jsonl --server {address}\
         \n  ask      lodge query 'error' --since 1h --server {address}\
         \n  data     {}\
         \n  stop     Ctrl-C\n",
        data_dir.display()
    );
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    // A server whose stdout is closed serves all the same.
    written.or_else(|e| match e.kind() {
        std::io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(e.into()),
    })
}

/// Logs to stderr, filtered by `LODGE_LOG`.
pub fn start_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("LODGE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,object_store=warn"));
    // Only a second call fails, and the first one's settings then stand.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(crate::terminal::Ink::for_stderr().is_on())
        .try_init();
}

/// Returns at SIGTERM or SIGINT (Ctrl-C).
pub async fn interrupt() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        // Without a handler the signal ends the process by itself.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
