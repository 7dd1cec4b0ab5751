//! The agent under test: started again and again with the same arguments and the same state.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::process::{self, Process, ProcessError, Wrap};

/// A `lodge-agent` that tails one folder.
#[derive(Debug)]
pub struct Agent {
    binary: PathBuf,
    args: Vec<String>,
    log: PathBuf,
    log_seen: usize,
    wrap: Wrap,
    running: Option<Process>,
}

impl Agent {
    /// Describes an agent that tails `logs` and keeps `state`; `log` takes its output.
    pub fn new(binary: &Path, state: &Path, logs: &Path, log: &Path, server: &str) -> Agent {
        let args = process::agent_args(server, state, &format!("{}/*.log*", logs.display()));
        Agent {
            binary: binary.to_owned(),
            args,
            log: log.to_owned(),
            log_seen: 0,
            wrap: Wrap::default(),
            running: None,
        }
    }

    /// A further server that it may turn to, from the next start on.
    pub fn add_server(&mut self, server: &str) {
        self.args.extend(["--server".to_owned(), format!("http://{server}")]);
    }

    /// Says how it is started from the next start on.
    pub fn set_wrap(&mut self, wrap: Wrap) {
        self.wrap = wrap;
    }

    /// Starts it; it is at work at once, or tries until it is.
    pub fn start(&mut self) -> Result<(), ProcessError> {
        self.running = Some(Process::start(&self.binary, &self.args, &self.wrap, &self.log)?);
        Ok(())
    }

    /// The process, while there is one.
    pub fn process(&mut self) -> Option<&mut Process> {
        self.running.as_mut()
    }

    /// Whether it runs; one that ended by itself does not, and is started again.
    pub fn is_running(&mut self) -> bool {
        self.running.as_mut().is_some_and(|process| process.ended().is_none())
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(process) = &mut self.running {
            process.kill();
        }
        self.running = None;
    }

    /// SIGSTOP.
    pub fn stop(&self) {
        if let Some(process) = &self.running {
            process.stop();
        }
    }

    /// SIGCONT.
    pub fn go_on(&self) {
        if let Some(process) = &self.running {
            process.go_on();
        }
    }

    /// SIGTERM, then waits for the end, at most `limit`.
    pub fn terminate(&mut self, limit: Duration) {
        if let Some(process) = &mut self.running {
            process.terminate(limit);
        }
    }

    /// Lines of its log, since the last call, that tell of a retry.
    pub fn retries_since_last_look(&mut self) -> u64 {
        let log = fs::read(&self.log).unwrap_or_default();
        let new = String::from_utf8_lossy(log.get(self.log_seen..).unwrap_or_default());
        self.log_seen = log.len();
        new.lines().filter(|line| line.contains("trying again")).count() as u64
    }

    /// Lines of its log that speak of a panic.
    pub fn panics(&self) -> Vec<String> {
        process::panics_in(&self.log)
    }
}
