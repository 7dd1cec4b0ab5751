//! What ships files: Lodge's agent and its peers, each set up as its documentation says for logs
//! that must not be lost.
//!
//! ```text
//! file ─► lodge-agent ─► lodge server (acknowledged: synced)
//!     ├─► fluent-bit ──► lodge server (JSON lines over HTTP, acknowledged: synced)
//!     └─► rsyslogd ────► TCP sink that counts lines (no acknowledgement)
//! ```

use std::ffi::OsStr;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::process::Process;

/// A program that ships.
pub(crate) enum Tool {
    Agent(PathBuf),
    Rsyslog(PathBuf),
    FluentBit(PathBuf),
}

/// What is shipped.
#[derive(Clone, Copy)]
pub(crate) struct Job<'j> {
    /// Where the shipper may write.
    pub(crate) folder: &'j Path,
    /// Where to.
    pub(crate) to: SocketAddr,
    /// A file or a glob.
    pub(crate) file: &'j Path,
    /// Lines are JSON, and are parsed.
    pub(crate) is_json: bool,
}

impl Tool {
    pub(crate) fn program(&self) -> &Path {
        match self {
            Tool::Agent(program) | Tool::Rsyslog(program) | Tool::FluentBit(program) => program,
        }
    }

    /// For names of folders.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Tool::Agent(_) => "agent",
            Tool::Rsyslog(_) => "rsyslog",
            Tool::FluentBit(_) => "fluent-bit",
        }
    }

    /// Whether its far end is a Lodge server; else it is a socket that counts lines.
    pub(crate) fn ships_to_lodge(&self) -> bool {
        !matches!(self, Tool::Rsyslog(_))
    }

    /// Its name and version.
    pub(crate) fn name(&self) -> anyhow::Result<String> {
        let flag = if matches!(self, Tool::Rsyslog(_)) { "-v" } else { "--version" };
        let output = Command::new(self.program()).arg(flag).output();
        let output = output.with_context(|| format!("cannot run {}", self.program().display()))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let first = text.lines().next().unwrap_or_default();
        Ok(first.split(" (aka").next().unwrap_or(first).trim().to_owned())
    }

    /// How it is set up, for the report.
    pub(crate) fn setup(&self) -> &'static str {
        match self {
            Tool::Agent(_) => {
                "no configuration; batches over HTTP/2 to a Lodge server, acknowledged means synced"
            }
            Tool::Rsyslog(_) => {
                "imfile, a disk-assisted queue, omfwd to a TCP socket that counts lines: no \
                 acknowledgement; JSON by mmjsonparse, written anew"
            }
            Tool::FluentBit(_) => {
                "in_tail with its offsets in a database and chunks on the disk (storage.type \
                 filesystem), out_http as JSON lines to a Lodge server, acknowledged means synced; \
                 JSON by its json parser"
            }
        }
    }

    pub(crate) fn start(&self, job: &Job<'_>) -> anyhow::Result<Process> {
        match self {
            Tool::Agent(program) => start_agent(program, job.folder, &job.to, job.file),
            Tool::Rsyslog(program) => {
                let config = job.folder.join("rsyslog.conf");
                fs::write(&config, rsyslog_config(job)).context("rsyslog's configuration")?;
                let pid_file = job.folder.join("pid");
                let args = ["-n", "-f"].map(OsStr::new);
                let args = [args[0], args[1], config.as_os_str(), "-i".as_ref(), pid_file.as_ref()];
                Process::start(program, &args, &job.folder.join("rsyslog.log"))
            }
            Tool::FluentBit(program) => {
                let config = job.folder.join("fluent-bit.conf");
                let parsers = job.folder.join("parsers.conf");
                fs::write(&parsers, FLUENT_BIT_PARSERS).context("Fluent Bit's parsers")?;
                fs::write(&config, fluent_bit_config(job)).context("its configuration")?;
                let args = ["-c".as_ref(), config.as_os_str()];
                Process::start(program, &args, &job.folder.join("fluent-bit.log"))
            }
        }
    }
}

/// Starts an agent whose state and log are in `folder`.
pub(crate) fn start_agent(
    agent: &Path,
    folder: &Path,
    to: &SocketAddr,
    file: &Path,
) -> anyhow::Result<Process> {
    let (url, state) = (format!("http://{to}"), folder.join("state"));
    let args = [
        "--server".as_ref(),
        url.as_ref(),
        "--state-dir".as_ref(),
        state.as_os_str(),
        "--path".as_ref(),
        file.as_os_str(),
    ];
    Process::start(agent, &args, &folder.join("agent.log"))
}

/// As rsyslog's documentation says for files that are forwarded reliably: a disk-assisted queue in
/// front of an action that is tried for ever. JSON is parsed and written anew.
fn rsyslog_config(job: &Job<'_>) -> String {
    let (parse, template) = match job.is_json {
        true => ("action(type=\"mmjsonparse\" cookie=\"\")\n", "%$!all-json%"),
        false => ("", "%msg%"),
    };
    format!(
        "global(workDirectory=\"{folder}\" maxMessageSize=\"64k\")\n\
         module(load=\"imfile\" mode=\"inotify\")\n\
         module(load=\"mmjsonparse\")\n\
         template(name=\"line\" type=\"string\" string=\"{template}\\n\")\n\
         input(type=\"imfile\" File=\"{file}\" Tag=\"app:\" reopenOnTruncate=\"on\")\n\
         {parse}\
         action(type=\"omfwd\" target=\"{ip}\" port=\"{port}\" protocol=\"tcp\" \
         template=\"line\" queue.type=\"LinkedList\" queue.filename=\"forward\" \
         queue.maxDiskSpace=\"4g\" queue.saveOnShutdown=\"on\" action.resumeRetryCount=\"-1\")\n",
        folder = job.folder.display(),
        file = job.file.display(),
        ip = job.to.ip(),
        port = job.to.port(),
    )
}

const FLUENT_BIT_PARSERS: &str = "[PARSER]\n    Name json\n    Format json\n    Time_Key _time\n    \
                                  Time_Format %Y-%m-%dT%H:%M:%S.%L%z\n";

/// As Fluent Bit's documentation says for files that must not be lost: offsets in a database, chunks
/// in the file system, tried for ever.
fn fluent_bit_config(job: &Job<'_>) -> String {
    let folder = job.folder.display();
    let (parser, message) =
        if job.is_json { ("    Parser json\n", "message") } else { ("", "log") };
    format!(
        "[SERVICE]\n    Log_Level warn\n    Parsers_File {folder}/parsers.conf\n    \
         storage.path {folder}/chunks\n    storage.sync normal\n    storage.checksum off\n\
         [INPUT]\n    Name tail\n    Path {file}\n    DB {folder}/tail.db\n    \
         Read_from_Head on\n    Path_Key file\n    storage.type filesystem\n{parser}\
         [OUTPUT]\n    Name http\n    Match *\n    Host {ip}\n    Port {port}\n    \
         URI /insert/jsonline?_stream_fields=file&_msg_field={message}&_time_field=date\n    \
         Format json_lines\n    Json_Date_Format iso8601\n    Retry_Limit no_limits\n",
        file = job.file.display(),
        ip = job.to.ip(),
        port = job.to.port(),
    )
}
