//! `lodge agent`: the agent in the foreground, from flags or from its configuration file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use lodge_agent::config::{AgentConfig, FileSource, Start, host_name};
use tokio_util::sync::CancellationToken;

use crate::client::{DEFAULT_SERVER, SERVER_VARIABLE, causes};
use crate::failure::{Exit, Failure};

const EXAMPLES: &str = "\
Examples:
  lodge agent --path '/var/log/**/*.log' --journal
  lodge agent --path './demo-logs/*.log' --label env=demo --state-dir ./agent-state
  lodge agent --config /etc/lodge/agent.toml      several sources with labels of their own

Give patterns in quotes: the agent looks for new files itself. It goes on where it stopped; each
record is stored once. LODGE_LOG sets what it logs to stderr (default: info).";

/// Tail files and the journal and ship them to the server, each record exactly once
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct AgentArgs {
    /// Pattern of files to tail, in quotes; ** crosses folders; may be repeated
    #[arg(long, value_name = "PATTERN", num_args = 1.., conflicts_with = "config")]
    path: Vec<String>,

    /// Configuration file instead of the other flags; see `lodge check-config`
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Address of a server; repeat it for more, which are tried in order
    ///
    /// [default: the environment variable LODGE_SERVER, else http://127.0.0.1:9420]
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    server: Vec<String>,

    /// Pattern of files to leave out; may be repeated
    #[arg(long, value_name = "PATTERN", num_args = 1.., conflicts_with = "config")]
    exclude: Vec<String>,

    /// Read the systemd journal too, where there is one
    #[arg(long, conflicts_with = "config")]
    journal: bool,

    /// Label for the streams of the files; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = label, conflicts_with = "config")]
    label: Vec<(String, String)>,

    /// Begin files that are there already at their end, not at their first line
    #[arg(long, conflicts_with = "config")]
    from_end: bool,

    /// Folder of the agent's identity and of how far it has read
    #[arg(
        long,
        value_name = "DIR",
        default_value = "./lodge-agent-state",
        conflicts_with = "config"
    )]
    state_dir: PathBuf,

    /// The label `host`
    ///
    /// [default: this machine's name]
    #[arg(long, value_name = "NAME", conflicts_with = "config")]
    host: Option<String>,
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as NAME=VALUE".to_owned()),
    }
}

/// Runs the command.
pub fn run(args: &AgentArgs) -> Result<(), Failure> {
    let config = match &args.config {
        Some(path) => AgentConfig::load(path)
            .map_err(|e| Failure::usage(causes(&e)).at(format!("--config {}", path.display())))?,
        None => args.configuration()?,
    };
    crate::serve::start_logging();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let shutdown = CancellationToken::new();
        tokio::spawn(stop_on_signal(shutdown.clone()));
        lodge_agent::run(config, shutdown).await.map_err(|e| Failure::new(causes(&e)))
    })?;
    Ok(())
}

/// The first signal asks the agent to stop, the second ends the process: what is not acknowledged
/// is read again at the next start.
async fn stop_on_signal(shutdown: CancellationToken) {
    crate::serve::interrupt().await;
    shutdown.cancel();
    crate::serve::interrupt().await;
    std::process::exit(Exit::Interrupted as i32);
}

impl AgentArgs {
    fn configuration(&self) -> Result<AgentConfig, Failure> {
        if self.path.is_empty() && !self.journal {
            return Err(Failure::usage("there is nothing to read").mend(
                "name files, as in lodge agent --path '/var/log/**/*.log', or add --journal",
            ));
        }
        let mut servers = self.server.clone();
        if servers.is_empty() {
            let from_environment = std::env::var(SERVER_VARIABLE).ok().filter(|v| !v.is_empty());
            servers.push(from_environment.unwrap_or_else(|| DEFAULT_SERVER.to_owned()));
        }
        let mut config = AgentConfig::new(DEFAULT_SERVER, &self.state_dir);
        config.servers = servers;
        config.host = self.host.clone().unwrap_or_else(host_name);
        if !self.path.is_empty() {
            let labels: BTreeMap<String, String> = self.label.iter().cloned().collect();
            config.files.push(FileSource {
                paths: self.path.clone(),
                exclude: self.exclude.clone(),
                labels,
                start: if self.from_end { Start::End } else { Start::Beginning },
                ..FileSource::default()
            });
        }
        if self.journal {
            config = config.with_journal();
        }
        config.check().map_err(|e| Failure::usage(causes(&e)))?;
        Ok(config)
    }
}
