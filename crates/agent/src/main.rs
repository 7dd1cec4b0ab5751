//! The agent's own binary.
//!
//! It keeps the system's allocator: batches are built on one thread and freed on others, and the
//! faster allocators hold several times the memory for that (measured: 107 MB against 38 MB).

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use lodge_agent::{AgentConfig, ConfigError};
use tokio_util::sync::CancellationToken;

/// Ships log files and the systemd journal to a Lodge server, each record exactly once.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Examples:
  lodge-agent --path '/var/log/**/*.log' --journal
  lodge-agent --server http://logs:9420 --path /srv/app/*.log --state-dir /var/lib/lodge-agent
  lodge-agent --config /etc/lodge/agent.toml"
)]
struct Arguments {
    /// Configuration file (TOML) instead of --server, --path, --journal and --containers
    #[arg(long, value_name = "FILE",
        conflicts_with_all = ["server", "path", "journal", "containers"])]
    config: Option<PathBuf>,
    /// Server to ship to; several are tried in order
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9420")]
    server: Vec<String>,
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
    /// Folder for the agent's identity and checkpoints
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// The `host` label [default: name of this machine]
    #[arg(long)]
    host: Option<String>,
}

impl Arguments {
    fn config(self) -> Result<AgentConfig, ConfigError> {
        let mut config = match &self.config {
            Some(path) => AgentConfig::load(path)?,
            None => {
                let mut config = AgentConfig::new("", "./lodge-agent-state");
                config.servers = self.server;
                if !self.path.is_empty() {
                    config = config.with_files(self.path);
                }
                if self.journal {
                    config = config.with_journal();
                }
                if self.containers {
                    config = config.with_containers();
                }
                for source in &mut config.files {
                    source.exclude = self.exclude.clone();
                }
                config
            }
        };
        if let Some(state_dir) = self.state_dir {
            config.state_dir = state_dir;
        }
        if let Some(host) = self.host {
            config.host = host;
        }
        config.check()?;
        Ok(config)
    }
}

fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_env("LODGE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let outcome = Arguments::parse().config().map_err(|error| error.to_string()).and_then(serve);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(config: AgentConfig) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    runtime.block_on(async {
        let shutdown = CancellationToken::new();
        tokio::spawn(stop_on_signal(shutdown.clone()));
        lodge_agent::run(config, shutdown).await.map(drop).map_err(|error| error.to_string())
    })
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
