//! The agent's own binary.
//!
//! It keeps the system's allocator: batches are built on one thread and freed on others, and the
//! faster allocators hold several times the memory for that (measured: 107 MB against 38 MB).

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lodge_agent::{Address, AgentConfig, ConfigError, ListenSource};
use tokio_util::sync::CancellationToken;

/// Ships log files and the systemd journal to a Lodge server, each record exactly once.
#[derive(Clone, Debug, Parser)]
#[command(
    version,
    after_help = "Examples:
  lodge-agent --path '/var/log/**/*.log' --journal
  lodge-agent --server http://logs:9420 --path /srv/app/*.log --state-dir /var/lib/lodge-agent
  lodge-agent --listen udp://0.0.0.0:514 --listen tcp://0.0.0.0:601
  my-program 2>&1 | lodge-agent --listen stdin
  lodge-agent --config /etc/lodge/agent.toml
  lodge-agent --config /etc/lodge/agent.toml --validate
  lodge-agent --state-dir /var/lib/lodge-agent replay

With --config, SIGHUP reads the file again: a faulty one is logged and changes nothing, a good
one is taken up where the old one stopped, without a loss."
)]
struct Arguments {
    /// Configuration file (TOML) instead of --server, --path, --journal and --containers
    #[arg(long, value_name = "FILE",
        conflicts_with_all = ["server", "path", "journal", "containers"])]
    config: Option<PathBuf>,
    /// Server to ship to; several are tried in order
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9420")]
    server: Vec<String>,
    /// File with the API token to show [default: the environment variable LODGE_TOKEN]
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    token_file: Option<PathBuf>,
    /// Authority of the servers' certificates, PEM [default: those of the system]
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    server_ca: Option<PathBuf>,
    /// Files to tail; `**` crosses folders
    #[arg(long, value_name = "GLOB", num_args = 1..)]
    path: Vec<String>,
    /// Files to leave out
    #[arg(long, value_name = "GLOB", num_args = 1..)]
    exclude: Vec<String>,
    /// Read the systemd journal, where there is one
    #[arg(long)]
    journal: bool,
    /// Read the logs of this machine's containers, where there are any
    #[arg(long)]
    containers: bool,
    /// Address to take records on: udp://IP:PORT, tcp://IP:PORT (syslog), unix:///PATH, stdin (lines)
    #[arg(long, value_name = "ADDRESS", conflicts_with = "config")]
    listen: Vec<String>,
    /// Check the configuration and end; exit code 1 if it is wrong
    #[arg(long)]
    validate: bool,
    /// Folder for the agent's identity and checkpoints
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// The `host` label [default: name of this machine]
    #[arg(long)]
    host: Option<String>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Send what the server once refused for good (dead-letter.jsonl) again; the agent must not run
    Replay,
}

impl Arguments {
    fn config(&self) -> Result<AgentConfig, ConfigError> {
        let given = self.clone();
        let mut config = match &self.config {
            Some(path) => AgentConfig::load(path)?,
            None => {
                let mut config = AgentConfig::new("", "./lodge-agent-state");
                config.servers = given.server;
                config.credentials.token_file = given.token_file;
                config.credentials.server_ca = given.server_ca;
                if !given.path.is_empty() {
                    config = config.with_files(given.path);
                }
                if self.journal {
                    config = config.with_journal();
                }
                if self.containers {
                    config = config.with_containers();
                }
                for address in &self.listen {
                    config.listen.push(ListenSource::new(Address::parse(address)?));
                }
                for source in &mut config.files {
                    source.exclude = self.exclude.clone();
                }
                config
            }
        };
        if let Some(state_dir) = given.state_dir {
            config.state_dir = state_dir;
        }
        if let Some(host) = given.host {
            config.host = host;
        }
        if self.command.is_none() {
            config.check()?;
        }
        Ok(config)
    }
}

fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_env("LODGE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let arguments = Arguments::parse();
    let outcome = arguments.config().map_err(|error| error.to_string());
    let outcome = outcome.and_then(|config| match &arguments.command {
        _ if arguments.validate => {
            tracing::info!("the configuration is right");
            Ok(())
        }
        Some(Command::Replay) => replay(&config),
        None => serve(&arguments, config),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))
}

fn replay(config: &AgentConfig) -> Result<(), String> {
    let progress = |done: &lodge_agent::Replayed| tracing::debug!(?done, "replaying");
    let done = runtime()?.block_on(lodge_agent::replay(config, progress));
    let done = done.map_err(|error| error.to_string())?;
    tracing::info!(
        stored_records = done.stored_records,
        known_records = done.known_records,
        "dead letters were sent again"
    );
    match done.refused_records + done.unreadable_lines {
        0 => Ok(()),
        _ => Err(format!(
            "{} records were refused again and {} lines cannot be read; they are still in \
             dead-letter.jsonl",
            done.refused_records, done.unreadable_lines
        )),
    }
}

fn serve(arguments: &Arguments, mut config: AgentConfig) -> Result<(), String> {
    runtime()?.block_on(async {
        let shutdown = CancellationToken::new();
        tokio::spawn(stop_on_signal(shutdown.clone()));
        let mut previous = None;
        loop {
            let run = shutdown.child_token();
            let reloaded = tokio::spawn(await_reload(arguments.clone(), run.clone()));
            let ended = lodge_agent::run(config.clone(), run.clone()).await;
            run.cancel();
            match (ended, previous.take()) {
                (Ok(_), _) => {}
                (Err(error), Some(before)) => {
                    // An address that is taken, a folder that cannot be written.
                    tracing::error!("the new configuration fails; back to the old one: {error}");
                    config = before;
                    continue;
                }
                (Err(error), None) => return Err(error.to_string()),
            }
            match reloaded.await {
                Ok(Some(next)) if !shutdown.is_cancelled() => {
                    let sockets = config.sockets.clone();
                    previous = Some(std::mem::replace(&mut config, next));
                    config.sockets = sockets;
                }
                _ => return Ok(()),
            }
        }
    })
}

/// Waits for SIGHUP and a configuration that is right, and ends the run so that it is taken up;
/// none if the run ends before.
async fn await_reload(arguments: Arguments, run: CancellationToken) -> Option<AgentConfig> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut hangup = signal(SignalKind::hangup()).ok()?;
    loop {
        tokio::select! {
            _ = hangup.recv() => {}
            () = run.cancelled() => return None,
        }
        match arguments.config() {
            Ok(config) => {
                tracing::info!("taking up the configuration anew");
                run.cancel();
                return Some(config);
            }
            Err(error) => {
                tracing::error!(
                    "the new configuration is wrong; going on with the old one: {error}"
                );
            }
        }
    }
}

/// Asks for a graceful stop at the first SIGTERM or SIGINT; the second ends the process.
async fn stop_on_signal(shutdown: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::warn!("signals cannot be caught; stopping will not wait for acknowledgements");
        return;
    };
    for attempt in 0..2 {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        if attempt == 1 {
            std::process::exit(1);
        }
        tracing::info!("stopping; once more to stop at once");
        shutdown.cancel();
    }
}
