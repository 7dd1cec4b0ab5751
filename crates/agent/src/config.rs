//! The agent's settings: raw TOML, checked into [`AgentConfig`].
//!
//! Unknown keys are errors that name the nearest known key. Every setting has a default that works,
//! but for what to read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::tz::TimeZone;
use regex::bytes::Regex;
use serde::Deserialize;

use crate::connection::Credentials;
use crate::containers::{ContainerSource, ContainersMode, KubernetesApi};
use crate::listen::{LISTEN_KEYS, ListenSource, RawListen, Sockets};
use crate::parse::format::Format;
use crate::parse::pattern::Patterns;
use crate::pipeline::settings::{self, RawPipeline};
use crate::pipeline::{Pipeline, PipelineConfig, environment};
use crate::timestamp;
use crate::trace::Rule;

/// Most file sources of one agent.
const FILE_SOURCES_MAX: usize = 256;
/// Most listeners of one agent.
const LISTENERS_MAX: usize = 64;
/// Default port of a Lodge server.
const DEFAULT_SERVER: &str = "http://127.0.0.1:9420";
/// Where state is kept when nothing is said, if the agent runs as root.
const DEFAULT_STATE_DIR: &str = "/var/lib/lodge-agent";

/// Checked settings of an agent.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Servers, tried in order; they share one catalog. `http://HOST:PORT`, no path.
    pub servers: Vec<String>,
    /// How the agent shows who it is, and whom it trusts.
    pub credentials: Credentials,
    /// Folder of the agent's identity, checkpoints and dead letters.
    pub state_dir: PathBuf,
    /// The `host` label.
    pub host: String,
    /// Files to tail.
    pub files: Vec<FileSource>,
    /// The systemd journal.
    pub journal: JournalSource,
    /// The container logs of this machine.
    pub containers: ContainerSource,
    /// Addresses that records are sent to.
    pub listen: Vec<ListenSource>,
    /// Sockets that stay open from one run of the agent to the next; not a setting.
    pub sockets: Sockets,
    /// What happens to records between parsing and shipping.
    pub pipeline: PipelineConfig,
    /// Internal deadlines; not settings.
    pub timing: Timing,
}

/// A set of files and how to read them.
#[derive(Clone, Debug)]
pub struct FileSource {
    /// Globs; `**` crosses folders.
    pub paths: Vec<String>,
    /// Globs of paths that are left out.
    pub exclude: Vec<String>,
    /// Labels of the streams, beside `host`, `file` and `service`.
    pub labels: BTreeMap<String, String>,
    /// Servers of its own; those of all sources where there are none.
    pub servers: Vec<String>,
    /// By what lines are joined to records.
    pub multiline: Rule,
    /// In what notation the records are.
    pub format: Format,
    /// What is tried first to make fields of a record.
    pub patterns: Option<Patterns>,
    /// Zone of times that name none; `None` is the machine's.
    pub zone: Option<TimeZone>,
    /// Whether `.gz` files are read, too. Their lines may come twice: see GUARANTEES.md.
    pub compressed: bool,
    /// Where a file is begun that no one knows yet and that was there before the agent.
    pub start: Start,
}

/// Where to begin in a source that was never read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// At its first byte (journal: at the present boot).
    #[default]
    Beginning,
    /// With what comes from now on.
    End,
}

/// Whether the systemd journal is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum JournalMode {
    /// Not.
    #[default]
    Off,
    /// Where there is one.
    Auto,
}

/// The systemd journal as a source.
#[derive(Clone, Debug, Default)]
pub struct JournalSource {
    /// Whether to read it.
    pub mode: JournalMode,
    /// Where to begin.
    pub start: Start,
    /// Labels of its streams, beside `host` and `unit`.
    pub labels: BTreeMap<String, String>,
    /// Servers of its own; those of all sources where there are none.
    pub servers: Vec<String>,
    /// Program that is run instead of `journalctl`; not a setting.
    pub program: Option<PathBuf>,
}

/// Internal deadlines and periods, shortened by tests.
#[derive(Clone, Debug)]
pub struct Timing {
    /// How long the first unread byte of a file waits for company.
    pub linger: Duration,
    /// How long the last record at the end of a file waits for continuation lines.
    pub settle: Duration,
    /// The same where the record is a stack trace.
    pub settle_trace: Duration,
    /// How long a last line without line end waits once its file was renamed or deleted.
    pub partial_idle: Duration,
    /// How often globs are walked without a hint that they changed.
    pub rescan: Duration,
    /// How often a quiet file is looked at without a hint.
    pub poll: Duration,
    /// Least time between two checkpoints.
    pub checkpoint: Duration,
    /// How long a deleted file is held open after its last byte was acknowledged.
    pub deleted_linger: Duration,
    /// How long a stopping agent waits for acknowledgements.
    pub drain: Duration,
    /// First and longest pause between attempts to send.
    pub backoff: (Duration, Duration),
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            linger: Duration::from_millis(100),
            settle: Duration::from_millis(150),
            settle_trace: Duration::from_millis(500),
            partial_idle: Duration::from_secs(5),
            rescan: Duration::from_secs(5),
            poll: Duration::from_secs(1),
            checkpoint: Duration::from_millis(500),
            deleted_linger: Duration::from_secs(60),
            drain: Duration::from_secs(5),
            backoff: (Duration::from_millis(50), Duration::from_secs(5)),
        }
    }
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read {path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Not TOML, or a value of the wrong type.
    #[error("{0}")]
    Syntax(String),
    /// A key that means nothing.
    #[error("unknown key `{key}` in {place}{suggestion}")]
    UnknownKey {
        /// The key.
        key: String,
        /// The table it stands in.
        place: String,
        /// `; did you mean …?` or the list of known keys.
        suggestion: String,
    },
    /// A value out of range.
    #[error("`{key}`: {problem}")]
    Value {
        /// The key.
        key: String,
        /// What is wrong and how to mend it.
        problem: String,
    },
}

impl AgentConfig {
    /// An agent that ships to `server`, with nothing to read yet.
    pub fn new(server: impl Into<String>, state_dir: impl Into<PathBuf>) -> Self {
        AgentConfig {
            servers: vec![server.into()],
            credentials: Credentials::default(),
            state_dir: state_dir.into(),
            host: host_name(),
            files: Vec::new(),
            journal: JournalSource::default(),
            containers: ContainerSource::default(),
            listen: Vec::new(),
            sockets: Sockets::default(),
            pipeline: PipelineConfig::default(),
            timing: Timing::default(),
        }
    }

    /// Adds a source of files with default settings.
    pub fn with_files(mut self, paths: Vec<String>) -> Self {
        self.files.push(FileSource { paths, ..FileSource::default() });
        self
    }

    /// Switches the journal on, where there is one.
    pub fn with_journal(mut self) -> Self {
        self.journal.mode = JournalMode::Auto;
        self
    }

    /// Switches the container logs on, where there are any.
    pub fn with_containers(mut self) -> Self {
        self.containers.mode = ContainersMode::Auto;
        self
    }

    /// The well-known places of container logs as a source of files, if they are switched on.
    pub(crate) fn with_container_files(mut self) -> Self {
        if self.containers.mode == ContainersMode::Auto {
            self.files.insert(0, self.containers.files());
        }
        self
    }

    /// Reads and checks a TOML file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Read { path: path.to_path_buf(), error })?;
        Self::parse(&text)
    }

    /// Reads and checks TOML text.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let table: toml::Table =
            toml::from_str(text).map_err(|error| ConfigError::Syntax(error.to_string()))?;
        check_keys(&table)?;
        let raw: RawConfig =
            toml::from_str(text).map_err(|error| ConfigError::Syntax(error.to_string()))?;
        raw.validate()
    }

    /// Checks what a constructor cannot: addresses and globs. Called by [`crate::run`].
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.servers.is_empty() {
            return Err(value_error("servers", "name at least one, such as http://127.0.0.1:9420"));
        }
        let of_files = self.files.iter().flat_map(|source| &source.servers);
        for server in self.servers.iter().chain(of_files).chain(&self.journal.servers) {
            check_server(server)?;
        }
        if self.credentials.client_certificate.is_some() != self.credentials.client_key.is_some() {
            let problem = "client_certificate and client_key go together: set both or none";
            return Err(value_error("client_certificate", problem));
        }
        Pipeline::new(&self.pipeline)?;
        let machine =
            self.journal.mode == JournalMode::Auto || self.containers.mode == ContainersMode::Auto;
        if self.files.is_empty() && self.listen.is_empty() && !machine {
            let problem = "nothing to read; name `paths` or an address to `listen` on, or set \
                           `enabled = \"auto\"` in [journal] or [containers]";
            return Err(value_error("files", problem));
        }
        if self.listen.len() > LISTENERS_MAX {
            return Err(value_error("listen", format!("more than {LISTENERS_MAX} addresses")));
        }
        for (at, source) in self.listen.iter().enumerate() {
            if self.listen.iter().take(at).any(|other| other.address == source.address) {
                return Err(value_error("listen.address", format!("{} twice", source.address)));
            }
        }
        if self.files.len() > FILE_SOURCES_MAX {
            return Err(value_error("files", format!("more than {FILE_SOURCES_MAX} sources")));
        }
        for source in &self.files {
            if source.paths.is_empty() {
                return Err(value_error("files.paths", "name at least one glob"));
            }
            for pattern in source.paths.iter().chain(&source.exclude) {
                glob::Pattern::new(pattern)
                    .map_err(|e| value_error("files.paths", format!("glob {pattern:?}: {e}")))?;
            }
        }
        Ok(())
    }
}

impl Default for FileSource {
    fn default() -> Self {
        FileSource {
            paths: Vec::new(),
            exclude: Vec::new(),
            labels: BTreeMap::new(),
            servers: Vec::new(),
            multiline: Rule::Auto,
            format: Format::Auto,
            patterns: None,
            zone: None,
            compressed: false,
            start: Start::Beginning,
        }
    }
}

/// Name of this machine, for the `host` label.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// A value that cannot be used: what is wrong with it, and how to mend it.
pub(crate) fn value_error(key: &str, problem: impl Into<String>) -> ConfigError {
    ConfigError::Value { key: key.to_owned(), problem: problem.into() }
}

fn check_server(server: &str) -> Result<(), ConfigError> {
    let error = |problem: &str| Err(value_error("servers", format!("{server:?} {problem}")));
    let bare = server.strip_prefix("http://").or_else(|| server.strip_prefix("https://"));
    let Some(authority) = bare else {
        return error("is not of the form http://HOST:PORT or https://HOST:PORT");
    };
    let authority = authority.trim_end_matches('/');
    if authority.is_empty() || authority.contains(['/', '?', '#', ' ']) {
        return error("is not of the form http://HOST:PORT");
    }
    Ok(())
}

#[derive(Deserialize)]
struct RawConfig {
    servers: Option<Vec<String>>,
    token_file: Option<PathBuf>,
    server_ca: Option<PathBuf>,
    client_certificate: Option<PathBuf>,
    client_key: Option<PathBuf>,
    state_dir: Option<PathBuf>,
    host: Option<String>,
    #[serde(default)]
    files: Vec<RawFiles>,
    #[serde(default)]
    journal: RawJournal,
    #[serde(default)]
    containers: RawContainers,
    #[serde(default)]
    listen: Vec<RawListen>,
    #[serde(flatten)]
    pipeline: RawPipeline,
}

#[derive(Deserialize)]
struct RawFiles {
    paths: Vec<String>,
    #[serde(default)]
    exclude: Vec<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    servers: Vec<String>,
    #[serde(default)]
    multiline: RawMultiline,
    #[serde(default)]
    format: Format,
    pattern: Option<OneOrMore>,
    zone: Option<String>,
    #[serde(default)]
    compressed: bool,
    #[serde(default)]
    start: Start,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "lowercase")]
enum RawMultiline {
    #[default]
    Auto,
    Off,
    Begins(String),
    Continues(String),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

#[derive(Deserialize, Default)]
struct RawContainers {
    #[serde(default)]
    enabled: ContainersMode,
    #[serde(default)]
    start: Start,
    #[serde(default)]
    exclude: Vec<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    kubernetes: Option<String>,
}

impl RawFiles {
    fn validate(self) -> Result<FileSource, ConfigError> {
        let patterns = match self.pattern {
            None => None,
            Some(OneOrMore::One(pattern)) => Some(vec![pattern]),
            Some(OneOrMore::More(patterns)) => Some(patterns),
        };
        let patterns = patterns.map(|patterns| Patterns::new(&patterns)).transpose();
        let zone = self.zone.map(|name| {
            timestamp::zone(&name).ok_or_else(|| {
                let problem = format!(
                    "{name:?} is neither in /usr/share/zoneinfo nor a POSIX rule such as \
                     \"CET-1CEST,M3.5.0,M10.5.0/3\"; install the system's zone files or write a rule"
                );
                value_error("files.zone", problem)
            })
        });
        Ok(FileSource {
            paths: self.paths,
            exclude: self.exclude,
            labels: self.labels,
            servers: self.servers,
            multiline: self.multiline.validate()?,
            format: self.format,
            patterns: patterns.map_err(|problem| value_error("files.pattern", problem))?,
            zone: zone.transpose()?,
            compressed: self.compressed,
            start: self.start,
        })
    }
}

impl RawMultiline {
    fn validate(self) -> Result<Rule, ConfigError> {
        /// Largest a rule may become when compiled.
        const RULE_BYTES_MAX: usize = 1 << 20;
        let compile = |pattern: &str| -> Result<Regex, ConfigError> {
            let builder = regex::bytes::RegexBuilder::new(pattern)
                .size_limit(RULE_BYTES_MAX)
                .dfa_size_limit(RULE_BYTES_MAX)
                .build();
            builder.map_err(|e| value_error("files.multiline", format!("{pattern:?}: {e}")))
        };
        Ok(match self {
            RawMultiline::Auto => Rule::Auto,
            RawMultiline::Off => Rule::Off,
            RawMultiline::Begins(pattern) => Rule::Begins(compile(&pattern)?),
            RawMultiline::Continues(pattern) => Rule::Continues(compile(&pattern)?),
        })
    }
}

impl RawContainers {
    fn validate(self) -> Result<ContainerSource, ConfigError> {
        let kubernetes = match self.kubernetes.as_deref() {
            None | Some("auto") => KubernetesApi::Auto,
            Some("off") => KubernetesApi::Off,
            Some(address) if address.starts_with("http") => KubernetesApi::At(address.into()),
            Some(other) => {
                let problem = format!(
                    "{other:?} is not \"auto\", \"off\" or an address such as \
                     http://127.0.0.1:8001 (kubectl proxy)"
                );
                return Err(value_error("containers.kubernetes", problem));
            }
        };
        Ok(ContainerSource {
            mode: self.enabled,
            start: self.start,
            exclude: self.exclude,
            labels: self.labels,
            kubernetes,
            ..ContainerSource::default()
        })
    }
}

#[derive(Deserialize, Default)]
struct RawJournal {
    #[serde(default)]
    enabled: RawJournalMode,
    #[serde(default)]
    start: Start,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    servers: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "lowercase")]
enum RawJournalMode {
    Auto,
    #[default]
    Off,
}

impl RawConfig {
    fn validate(self) -> Result<AgentConfig, ConfigError> {
        let lookup = &environment::of_process;
        let pipeline = self.pipeline.validate(lookup)?;
        let labels_of = |key: &str, own: &BTreeMap<String, String>| {
            environment::expand_labels(key, &pipeline.labels, own, lookup)
        };
        let files = self.files.into_iter().map(|raw| {
            let labels = labels_of("files.labels", &raw.labels)?;
            Ok(FileSource { labels, ..raw.validate()? })
        });
        let listen = self.listen.into_iter().map(|raw| {
            let source = raw.validate()?;
            let labels = labels_of("listen.labels", &source.labels)?;
            Ok(ListenSource { labels, ..source })
        });
        let containers = self.containers.validate()?;
        let labels = labels_of("containers.labels", &containers.labels)?;
        let config = AgentConfig {
            servers: self.servers.unwrap_or_else(|| vec![DEFAULT_SERVER.to_owned()]),
            credentials: Credentials {
                token_file: self.token_file,
                server_ca: self.server_ca,
                client_certificate: self.client_certificate,
                client_key: self.client_key,
            },
            state_dir: self.state_dir.unwrap_or_else(|| DEFAULT_STATE_DIR.into()),
            host: match self.host {
                Some(host) => environment::expand("host", &host, lookup)?,
                None => host_name(),
            },
            files: files.collect::<Result<_, ConfigError>>()?,
            containers: ContainerSource { labels, ..containers },
            listen: listen.collect::<Result<_, ConfigError>>()?,
            sockets: Sockets::default(),
            journal: JournalSource {
                mode: match self.journal.enabled {
                    RawJournalMode::Auto => JournalMode::Auto,
                    RawJournalMode::Off => JournalMode::Off,
                },
                start: self.journal.start,
                labels: labels_of("journal.labels", &self.journal.labels)?,
                servers: self.journal.servers,
                program: None,
            },
            pipeline,
            timing: Timing::default(),
        };
        config.check()?;
        Ok(config)
    }
}

const ROOT_KEYS: &[&str] = &[
    "servers",
    "token_file",
    "server_ca",
    "client_certificate",
    "client_key",
    "state_dir",
    "host",
    "files",
    "journal",
    "containers",
    "listen",
];
const FILES_KEYS: &[&str] = &[
    "paths",
    "exclude",
    "labels",
    "servers",
    "multiline",
    "format",
    "pattern",
    "zone",
    "compressed",
    "start",
];
const CONTAINERS_KEYS: &[&str] = &["enabled", "start", "exclude", "labels", "kubernetes"];
const JOURNAL_KEYS: &[&str] = &["enabled", "start", "labels", "servers"];

fn check_keys(root: &toml::Table) -> Result<(), ConfigError> {
    check_table(root, "the file", &[ROOT_KEYS, &settings::ROOT_KEYS].concat())?;
    settings::check_keys(root)?;
    if let Some(toml::Value::Array(sources)) = root.get("files") {
        for source in sources.iter().filter_map(toml::Value::as_table) {
            check_table(source, "[[files]]", FILES_KEYS)?;
        }
    }
    if let Some(toml::Value::Array(sources)) = root.get("listen") {
        for source in sources.iter().filter_map(toml::Value::as_table) {
            check_table(source, "[[listen]]", LISTEN_KEYS)?;
        }
    }
    if let Some(toml::Value::Table(journal)) = root.get("journal") {
        check_table(journal, "[journal]", JOURNAL_KEYS)?;
    }
    if let Some(toml::Value::Table(containers)) = root.get("containers") {
        check_table(containers, "[containers]", CONTAINERS_KEYS)?;
    }
    Ok(())
}

/// Checks that a table has known keys only; the error names the nearest one.
pub(crate) fn check_table(
    table: &toml::Table,
    place: &str,
    known: &[&str],
) -> Result<(), ConfigError> {
    let Some(key) = table.keys().find(|key| !known.contains(&key.as_str())) else {
        return Ok(());
    };
    let nearest = known.iter().min_by_key(|name| strsim::osa_distance(key, name));
    let suggestion = match nearest {
        Some(name) if strsim::osa_distance(key, name) <= 1 + key.len() / 3 => {
            format!("; did you mean `{name}`?")
        }
        _ => format!("; known keys are {}", known.join(", ")),
    };
    Err(ConfigError::UnknownKey { key: key.clone(), place: place.to_owned(), suggestion })
}
