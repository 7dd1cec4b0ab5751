//! What `backup`, `restore` and `migrate` share: where the two ends are, and a bar while it is copied.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use lodge_server::config::{self, ServerConfig};
use lodge_store::backup::{BackupError, BackupPlace, Moved, Work};
use lodge_store::{Bucket, StoreError, StoreOptions};
use tokio::time::interval;

use crate::failure::{Exit, Failure};
use crate::terminal::stderr_is_terminal;

/// How often the bar moves, and how often a line is printed where there is no terminal.
const BAR_EVERY: Duration = Duration::from_millis(200);
const BARS_PER_LINE: u32 = 25;

/// An installation on the command line.
#[derive(clap::Args, Debug)]
pub struct InstallationArgs {
    /// The server's data folder
    ///
    /// [default: data_dir of --config, else ./lodge-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// The server's configuration file: it says where catalog and objects are
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl InstallationArgs {
    /// The data folder, and how the store is opened.
    pub fn read(&self) -> Result<(PathBuf, StoreOptions), Failure> {
        let config = match &self.config {
            Some(path) => load(path, "--config")?,
            None => ServerConfig::default(),
        };
        let options = options(&config)?;
        Ok((self.data_dir.clone().unwrap_or(config.data_dir), options))
    }
}

/// Reads the configuration file that a flag names.
pub fn load(path: &Path, flag: &str) -> Result<ServerConfig, Failure> {
    config::load(path)
        .map_err(|e| Failure::usage(e.to_string()).at(format!("{flag} {}", path.display())))
}

/// Where a configuration has catalog and objects.
pub fn options(config: &ServerConfig) -> Result<StoreOptions, Failure> {
    let bucket = config.bucket().map_err(|reason| Failure::usage(reason).at("objects"))?;
    Ok(StoreOptions { bucket, catalog: config.catalog_address(), ..StoreOptions::default() })
}

/// A backup on the command line: a folder, or a bucket with options.
pub fn place(text: &str, given: &[String]) -> Result<BackupPlace, Failure> {
    if !text.contains("://") {
        if !given.is_empty() {
            return Err(Failure::usage("--option is for a bucket").at(text));
        }
        return Ok(BackupPlace::Folder(PathBuf::from(text)));
    }
    let mut options = BTreeMap::new();
    for option in given {
        let (name, value) = option.split_once('=').ok_or_else(|| {
            Failure::usage("an option is NAME=VALUE").at(format!("--option {option}"))
        })?;
        options.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let bucket = Bucket::new(text, options).map_err(|reason| Failure::usage(reason).at(text))?;
    Ok(BackupPlace::Bucket(bucket))
}

/// A failure with the exit code that scripts test.
pub fn failed(error: &BackupError) -> Failure {
    let failure = Failure::new(crate::client::causes(error));
    match error {
        BackupError::Stopped => failure.exit(Exit::Interrupted),
        BackupError::Busy { .. } => failure.exit(Exit::Unavailable),
        BackupError::Store(StoreError::Postgres { .. } | StoreError::Object { .. }) => {
            failure.exit(Exit::Unavailable)
        }
        BackupError::NotEmpty { .. }
        | BackupError::NoPoint { .. }
        | BackupError::NotABackup { .. }
        | BackupError::NoInstallation { .. } => failure.exit(Exit::Usage),
        _ => failure,
    }
}

/// Runs a copy and shows how far it is, until it ends or is interrupted.
pub async fn watched<T>(
    verb: &str,
    work: &Work,
    quiet: bool,
    copy: impl Future<Output = Result<T, BackupError>>,
) -> Result<T, Failure> {
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    let on_terminal = stderr_is_terminal() && !dumb && !quiet;
    let bar = if on_terminal { drawn_bar(verb) } else { ProgressBar::hidden() };
    let mut ticks = interval(BAR_EVERY);
    let mut count = 0u32;
    let mut copy = std::pin::pin!(copy);
    let done = loop {
        tokio::select! {
            done = &mut copy => break done,
            _ = ticks.tick() => {}
        }
        count = count.wrapping_add(1);
        bar.set_length(work.bytes.load(Relaxed));
        bar.set_position(work.bytes_done.load(Relaxed));
        bar.set_message(objects(work));
        if !on_terminal && !quiet && count.is_multiple_of(BARS_PER_LINE) {
            let bytes = HumanBytes(work.bytes_done.load(Relaxed));
            let of = HumanBytes(work.bytes.load(Relaxed));
            // When stderr is gone there is nobody left to tell.
            let line = format!("{verb}: {bytes} of {of}, {}", objects(work));
            let _ = writeln!(std::io::stderr().lock(), "{line}");
        }
    };
    bar.finish_and_clear();
    done.map_err(|error| failed(&error))
}

fn objects(work: &Work) -> String {
    let (done, of) = (work.objects_done.load(Relaxed), work.objects.load(Relaxed));
    let rows = work.rows_done.load(Relaxed);
    format!("{} of {} objects, {} rows", HumanCount(done), HumanCount(of), HumanCount(rows))
}

fn drawn_bar(verb: &str) -> ProgressBar {
    let template =
        format!("{verb} {{bar:20}} {{percent:>3}}%  {{bytes}} of {{total_bytes}}  {{wide_msg}}");
    let style = ProgressStyle::with_template(&template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸─");
    ProgressBar::new(0).with_style(style)
}

/// What was or would be moved, as lines.
pub fn summary(moved: &Moved) -> String {
    let rows = &moved.rows;
    format!(
        "  records    {}\n  segments   {}\n  objects    {} ({})\n  producers  {}\n  tokens     {}\n",
        HumanCount(moved.records),
        HumanCount(rows.segments),
        HumanCount(moved.objects),
        HumanBytes(moved.bytes),
        HumanCount(rows.producers),
        HumanCount(rows.tokens),
    )
}

/// How much had to be written, and how much was there.
pub fn sent(work: &Work) -> String {
    let (sent, done) = (work.objects_sent.load(Relaxed), work.objects_done.load(Relaxed));
    let bytes = HumanBytes(work.bytes_sent.load(Relaxed));
    let there = HumanCount(done.saturating_sub(sent));
    format!("  written    {} objects ({bytes}); {there} were there already\n", HumanCount(sent))
}
