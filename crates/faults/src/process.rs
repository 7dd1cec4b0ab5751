//! Servers and agents as child processes.
//!
//! Invariants: a child is killed by its own process id and reaped when its handle is dropped, even
//! while it is stopped; its output goes to a file in the run's folder, which later shows panics.

use std::ffi::OsStr;
use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rand::Rng;
use rustix::process::{Pid, Signal, kill_process};

use crate::far_end::FarEnd;

/// How long a server may take from its start to a good `/health`.
const START_MAX: Duration = Duration::from_secs(60);

/// Why a process could not be run.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The binary is not there.
    #[error(
        "{name} was not found (looked at: {looked}); build it with `cargo build --release -p \
         lodge-cli -p lodge-agent`, or set {variable} to its path"
    )]
    NoBinary {
        /// The binary's name.
        name: &'static str,
        /// Where it was looked for.
        looked: String,
        /// The environment variable that overrides the search.
        variable: &'static str,
    },
    /// The operating system refused.
    #[error("{what}: {source}")]
    Os {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The server ended instead of starting.
    #[error("the server ended with {status} instead of starting; its log ends: {log}")]
    Ended {
        /// How it ended.
        status: ExitStatus,
        /// The end of its log.
        log: String,
    },
    /// The server did not become healthy in time.
    #[error("the server was not healthy {after:?} after its start; its log ends: {log}")]
    NotHealthy {
        /// How long we waited.
        after: Duration,
        /// The end of its log.
        log: String,
    },
}

/// The two binaries under test.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// `lodge`.
    pub lodge: PathBuf,
    /// `lodge-agent`.
    pub agent: PathBuf,
}

impl Binaries {
    /// `LODGE_BIN` and `LODGE_AGENT_BIN`, or the binaries of the build that this program is of.
    pub fn find() -> Result<Binaries, ProcessError> {
        Ok(Binaries {
            lodge: find_binary("lodge", "LODGE_BIN")?,
            agent: find_binary("lodge-agent", "LODGE_AGENT_BIN")?,
        })
    }
}

fn find_binary(name: &'static str, variable: &'static str) -> Result<PathBuf, ProcessError> {
    let mut candidates = Vec::new();
    match std::env::var_os(variable) {
        Some(path) => candidates.push(PathBuf::from(path)),
        None => {
            let this = std::env::current_exe()
                .map_err(|source| ProcessError::Os { what: "current_exe".into(), source })?;
            // target/release/lodge-faults, or target/release/deps/some_test-0123
            candidates.extend(this.ancestors().skip(1).take(2).map(|folder| folder.join(name)));
        }
    }
    if let Some(path) = candidates.iter().find(|path| path.is_file()) {
        return Ok(path.clone());
    }
    let looked: Vec<_> = candidates.iter().map(|path| path.display().to_string()).collect();
    Err(ProcessError::NoBinary { name, looked: looked.join(", "), variable })
}

/// What surrounds a binary when it is started: programs that run it, and its environment.
#[derive(Debug, Clone, Default)]
pub struct Wrap {
    /// A command that ends by executing the binary under the same process id.
    pub prefix: Vec<String>,
    /// Variables of its environment.
    pub envs: Vec<(String, String)>,
}

impl Wrap {
    /// The command for `binary`, still without its arguments.
    fn command(&self, binary: &Path) -> Command {
        let mut command = match self.prefix.split_first() {
            None => Command::new(binary),
            Some((first, more)) => {
                let mut command = Command::new(first);
                command.args(more).arg(binary);
                command
            }
        };
        command.env("RUST_BACKTRACE", "1");
        command.envs(self.envs.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// A child process.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `binary` with its output appended to `log`.
    pub fn start<A: AsRef<OsStr>>(
        binary: &Path,
        args: &[A],
        wrap: &Wrap,
        log: &Path,
    ) -> Result<Process, ProcessError> {
        let os = |what: String| move |source| ProcessError::Os { what, source };
        let output = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .map_err(os(format!("opening {}", log.display())))?;
        let also_errors: File = output.try_clone().map_err(os("a second log handle".into()))?;
        let child = wrap
            .command(binary)
            .args(args)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(also_errors)
            .spawn()
            .map_err(os(format!("starting {}", binary.display())))?;
        Ok(Process { child, log: log.to_owned() })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`, and waits until the process is gone.
    pub fn kill(&mut self) {
        // Both fail only for a process that is gone already, which is what is wanted.
        let _already_gone = self.child.kill();
        let _reaped = self.child.wait();
    }

    /// SIGSTOP: the process stands still with its connections open.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    /// SIGTERM, then waits for the end; `None` when it did not end within `limit`.
    pub fn terminate(&mut self, limit: Duration) -> Option<ExitStatus> {
        self.signal(Signal::TERM);
        let started = Instant::now();
        while started.elapsed() < limit {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }

    /// How the process ended, when it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// The most memory the process ever held, in bytes.
    pub fn memory_peak(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
        line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
    }

    /// The last lines of the process's output.
    pub fn log_tail(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let start = text.len().saturating_sub(2000);
        String::from_utf8_lossy(text.get(start..).unwrap_or_default()).into_owned()
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.id()).ok().and_then(Pid::from_raw) {
            // Not reaped yet, so the id is still this child's; a zombie takes any signal.
            let _gone = kill_process(pid, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A `lodge server` on a fixed port, which is restarted on the same data.
#[derive(Debug)]
pub struct Server {
    binary: PathBuf,
    data: PathBuf,
    addr: SocketAddr,
    log: PathBuf,
    more_args: Vec<String>,
    wrap: Wrap,
    running: Option<Process>,
}

impl Server {
    /// Describes a server; [`Server::start`] starts it. `folder` takes the log.
    pub fn new(binary: &Path, data: &Path, folder: &Path) -> Result<Server, ProcessError> {
        Ok(Server {
            binary: binary.to_owned(),
            data: data.to_owned(),
            addr: free_addr()?,
            log: folder.join("server.log"),
            more_args: Vec::new(),
            wrap: Wrap::default(),
            running: None,
        })
    }

    /// Adds arguments to `lodge server`.
    pub fn with_args(mut self, args: &[&str]) -> Server {
        self.more_args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// Says how it is started from the next start on.
    pub fn set_wrap(&mut self, wrap: Wrap) {
        self.wrap = wrap;
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The oracle's way to it.
    pub fn far_end(&self) -> FarEnd {
        FarEnd::new(self.addr)
    }

    /// The running process.
    ///
    /// # Panics
    /// When the server was not started.
    pub fn process(&mut self) -> &mut Process {
        self.running.as_mut().expect("the server was started")
    }

    /// Starts it without waiting for anything.
    pub fn launch(&mut self) -> Result<(), ProcessError> {
        let mut args = vec!["server".to_owned(), "--data-dir".to_owned()];
        args.push(self.data.display().to_string());
        args.extend(["--listen".to_owned(), self.addr.to_string()]);
        args.extend(self.more_args.iter().cloned());
        self.running = Some(Process::start(&self.binary, &args, &self.wrap, &self.log)?);
        Ok(())
    }

    /// Starts it and waits until it is healthy; gives the time that took.
    pub fn start(&mut self) -> Result<Duration, ProcessError> {
        self.launch()?;
        self.wait_healthy()
    }

    /// Waits until it is healthy.
    pub fn wait_healthy(&mut self) -> Result<Duration, ProcessError> {
        let started = Instant::now();
        loop {
            if self.far_end().is_healthy() {
                return Ok(started.elapsed());
            }
            let process = self.process();
            if let Some(status) = process.ended() {
                return Err(ProcessError::Ended { status, log: process.log_tail() });
            }
            if started.elapsed() > START_MAX {
                let log = process.log_tail();
                return Err(ProcessError::NotHealthy { after: START_MAX, log });
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether it was started and has not ended.
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

    /// Lines in its log that speak of a panic.
    pub fn panics(&self) -> Vec<String> {
        panics_in(&self.log)
    }
}

/// The arguments with which `lodge-agent` tails `glob` and ships to `server`.
pub fn agent_args(server: impl Display, state: &Path, glob: &str) -> Vec<String> {
    vec![
        "--server".to_owned(),
        format!("http://{server}"),
        "--state-dir".to_owned(),
        state.display().to_string(),
        "--path".to_owned(),
        glob.to_owned(),
    ]
}

/// Lines in a log that speak of a panic.
pub fn panics_in(log: &Path) -> Vec<String> {
    let text = fs::read(log).unwrap_or_default();
    String::from_utf8_lossy(&text)
        .lines()
        .filter(|line| line.contains("panicked at") || line.contains("has overflowed its stack"))
        .map(|line| format!("{}: {line}", log.display()))
        .collect()
}

/// An address on loopback that is free now and stays ours over restarts.
///
/// Ports that the kernel hands out for outgoing connections are avoided: while the server is down, a
/// client could be given its port — or even connect to itself on it.
pub fn free_addr() -> Result<SocketAddr, ProcessError> {
    let mut random = rand::rng();
    let mut refused = io::Error::other("no port tried");
    for _ in 0..200 {
        let addr = SocketAddr::from(([127, 0, 0, 1], random.random_range(20_000..32_000)));
        match TcpListener::bind(addr) {
            Ok(_) => return Ok(addr),
            Err(e) => refused = e,
        }
    }
    Err(ProcessError::Os { what: "finding a free port".into(), source: refused })
}
