//! `lodge check-config`: reads a configuration as the server or the agent would, and prints every
//! setting with its meaning, its range and where its value comes from.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use lodge_agent::config::{AgentConfig, FileSource, JournalMode};
use lodge_agent::{ContainersMode, ListenSource};
use lodge_server::config;

use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  lodge check-config                              every setting of the server with its default
  lodge check-config lodge.toml
  lodge check-config --kind agent /etc/lodge/agent.toml
  lodge check-config > lodge.toml                 a file to start from";

/// Check a configuration file and print the settings that are in force
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct CheckConfigArgs {
    /// The file; without one the server's defaults are printed
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,

    /// Whose configuration it is
    #[arg(long, value_enum, default_value_t = Kind::Auto)]
    kind: Kind,
}

/// Whose configuration a file is.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The agent's if it says what to read or where to send it, else the server's
    Auto,
    /// The server's
    Server,
    /// The agent's
    Agent,
}

/// Keys that only an agent's file has.
const AGENT_KEYS: &[&str] =
    &["servers", "files", "journal", "containers", "rules", "redact", "state_dir"];

/// Runs the command.
pub fn run(args: &CheckConfigArgs) -> Result<(), Failure> {
    let text = match (&args.file, args.kind) {
        (None, Kind::Agent) => {
            return Err(Failure::usage("an agent has no defaults for what to read")
                .mend("name its file: lodge check-config --kind agent FILE"));
        }
        (None, _) => config::explain(&config::ServerConfig::default()),
        (Some(path), kind) => {
            if kind == Kind::Agent || (kind == Kind::Auto && is_agent_file(path)) {
                let config = AgentConfig::load(path).map_err(|e| wrong(path, &e))?;
                format!("# {} is a valid agent configuration\n{}", path.display(), agent(&config))
            } else {
                let config = config::load(path).map_err(|e| wrong(path, &e))?;
                let head = format!("# {} is a valid server configuration\n\n", path.display());
                head + &config::explain(&config)
            }
        }
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}

fn wrong(path: &Path, error: &dyn std::error::Error) -> Failure {
    Failure::usage(crate::client::causes(error)).at(path.display().to_string())
}

/// Whether a file looks like an agent's. One that cannot be read or parsed is taken for a server's:
/// its reader then says what is wrong.
fn is_agent_file(path: &Path) -> bool {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let table: toml::Table = text.parse().unwrap_or_default();
    AGENT_KEYS.iter().any(|key| table.contains_key(*key))
}

/// An agent's settings as commented TOML.
fn agent(config: &AgentConfig) -> String {
    let mut out = String::new();
    let mut add = |doc: &str, line: String| out.push_str(&format!("\n# {doc}\n{line}\n"));
    add(
        "Servers, tried in order. Takes http://HOST:PORT or https://; default [\"http://127.0.0.1:9420\"].",
        format!("servers = {:?}", config.servers),
    );
    let credentials = &config.credentials;
    for (name, doc, path) in [
        ("token_file", "File with the API token to show", &credentials.token_file),
        ("server_ca", "Authority of the servers' certificates, PEM", &credentials.server_ca),
        ("client_certificate", "Certificate to show, PEM", &credentials.client_certificate),
        ("client_key", "Its key, PEM", &credentials.client_key),
    ] {
        if let Some(path) = path {
            let line = format!("{name} = {:?}", path.display().to_string());
            add(&format!("{doc}. Takes a path; default none."), line);
        }
    }
    add(
        "Folder of the agent's identity and checkpoints. Takes a path.",
        format!("state_dir = {:?}", config.state_dir.display().to_string()),
    );
    add(
        "The label `host`. Takes a text; default this machine's name.",
        format!("host = {:?}", config.host),
    );
    for source in &config.files {
        out.push_str(&files(source));
    }
    let journal = match config.journal.mode {
        JournalMode::Auto => "auto",
        JournalMode::Off => "off",
    };
    out.push_str(&format!(
        "\n[journal]\n# Whether the systemd journal is read: \"auto\" (where there is one) or \
         \"off\", the default.\nenabled = \"{journal}\"\n"
    ));
    let containers = match config.containers.mode {
        ContainersMode::Auto => "auto",
        ContainersMode::Off => "off",
    };
    out.push_str(&format!(
        "\n[containers]\n# Whether the logs of containers are read: \"auto\" (where there are any) \
         or \"off\", the default.\nenabled = \"{containers}\"\n"
    ));
    config.listen.iter().for_each(|source| out.push_str(&listener(source)));
    out
}

fn listener(source: &ListenSource) -> String {
    format!(
        "\n[[listen]]\n\
         # Where records are sent to: udp://IP:PORT, tcp://IP:PORT, unix:///PATH or stdin.\n\
         address = {:?}\n\
         # Notation, as of files; default syslog for UDP and TCP, else auto.\n\
         format = \"{}\"\n\
         # When the disk queue is full: \"block\" senders, or \"drop\" and count, UDP's default.\n\
         when_full = \"{}\"\n\
         # Most bytes of the disk queue; default 1073741824.\n\
         spool_bytes_max = {}\n",
        source.address.to_string(),
        source.format.name(),
        format!("{:?}", source.when_full).to_lowercase(),
        source.spool_bytes_max,
    )
}

fn files(source: &FileSource) -> String {
    let labels: Vec<String> =
        source.labels.iter().map(|(name, value)| format!("{name:?} = {value:?}")).collect();
    format!(
        "\n[[files]]\n\
         # Patterns of files to tail; ** crosses folders.\n\
         paths = {:?}\n\
         # Patterns of files to leave out; default [].\n\
         exclude = {:?}\n\
         # Labels beside host, file and service; default {{}}.\n\
         labels = {{ {} }}\n\
         # How lines are joined: \"auto\" (stack traces), the default, \"off\", or a regex of lines\n\
         # that begin a record or continue one: {{ begins = '…' }}, {{ continues = '…' }}.\n\
         multiline = {}\n\
         # Notation: \"auto\", the default, or one of text, json, logfmt, access, syslog, cri, docker.\n\
         format = \"{}\"\n\
         # Where a new file is begun: \"beginning\", the default, or \"end\".\n\
         start = \"{}\"\n",
        source.paths,
        source.exclude,
        labels.join(", "),
        source.multiline.text(),
        source.format.name(),
        format!("{:?}", source.start).to_lowercase(),
    )
}
