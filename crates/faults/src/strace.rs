//! System calls that fail, or kill, by `strace -e inject=`: faults at points that have a name,
//! without a line in the product.
//!
//! Invariants:
//! * strace runs beside the process, never as its parent: the process keeps its id, its signals and
//!   its parent, and goes on alone when strace ends;
//! * strace ends when its handle is dropped.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::process::Wrap;
use crate::rig::RigError;

/// How long strace may take to attach to all threads, or to let go of them.
const ATTACH_MAX: Duration = Duration::from_secs(20);

/// What is done to which system calls.
#[derive(Debug, Clone)]
pub struct Injection {
    /// Names of system calls, with commas between them.
    pub calls: &'static str,
    /// What strace does to them: `error=EIO`, `signal=SIGKILL`, `retval=0`, `delay_enter=…`.
    pub action: String,
    /// Which of the calls of a thread: `3`, `2+`, `2+3`; all when empty.
    pub when: String,
    /// Only calls on these paths, if any.
    pub paths: Vec<PathBuf>,
}

impl Injection {
    /// All calls of these names, on any path.
    pub fn all(calls: &'static str, action: &str) -> Injection {
        let (action, when) = (action.to_owned(), String::new());
        Injection { calls, action, when, paths: Vec::new() }
    }

    /// Only these calls of each thread.
    pub fn when(mut self, when: &str) -> Injection {
        self.when = when.to_owned();
        self
    }

    /// Only calls on these paths.
    pub fn on(mut self, paths: &[PathBuf]) -> Injection {
        self.paths.extend_from_slice(paths);
        self
    }

    fn args(&self, log: &Path) -> Vec<String> {
        let mut args: Vec<String> = ["-f", "-y", "-q", "-s", "0", "-o"].map(str::to_owned).into();
        args.push(log.display().to_string());
        args.extend(["-e".to_owned(), format!("trace={}", self.calls)]);
        for path in &self.paths {
            args.extend(["-P".to_owned(), path.display().to_string()]);
        }
        if !self.action.is_empty() {
            let when = match self.when.as_str() {
                "" => String::new(),
                when => format!(":when={when}"),
            };
            let inject = format!("inject={}:{}{when}", self.calls, self.action);
            args.extend(["-e".to_owned(), inject]);
        }
        args
    }

    /// A wrap that starts a process under this injection; strace's words go to `log`.
    pub fn wrap(&self, inner: &Wrap, log: &Path) -> Wrap {
        let mut prefix = vec!["strace".to_owned(), "-D".to_owned()];
        prefix.extend(self.args(log));
        for (name, value) in &inner.envs {
            prefix.extend(["-E".to_owned(), format!("{name}={value}")]);
        }
        prefix.extend(inner.prefix.iter().cloned());
        Wrap { prefix, envs: Vec::new() }
    }
}

/// A strace that is attached to a running process.
#[derive(Debug)]
pub struct Strace {
    child: Child,
    log: PathBuf,
}

/// Checks that strace is there and may trace; the error says what to do.
pub fn check() -> Result<(), RigError> {
    let traced = Command::new("strace")
        .args(["-q", "-o", "/dev/null", "-e", "trace=none", "true"])
        .stdin(Stdio::null())
        .output();
    match traced {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(RigError::Missing {
            what: format!(
                "strace may not trace here: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            ),
            mend: "allow ptrace (in a container: --cap-add SYS_PTRACE)",
        }),
        Err(e) => Err(RigError::Missing {
            what: format!("strace cannot be run: {e}"),
            mend: "apt-get install strace",
        }),
    }
}

impl Strace {
    /// Attaches to all threads of a process; what it injects goes to `log`.
    pub fn attach(pid: u32, injection: &Injection, log: &Path) -> io::Result<Strace> {
        let words = log.with_extension("strace-words");
        let mut args = injection.args(log);
        // Not quiet here: the word that it is attached is waited for.
        args.retain(|arg| arg != "-q");
        let child = Command::new("strace")
            .args(args)
            .args(["-p", &pid.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&words)?)
            .spawn()?;
        let mut strace = Strace { child, log: log.to_owned() };
        let started = Instant::now();
        loop {
            let said = fs::read_to_string(&words)?;
            if said.contains("attached") {
                return Ok(strace);
            }
            if let Some(status) = strace.child.try_wait()? {
                return Err(io::Error::other(format!("strace ended with {status}: {said}")));
            }
            if started.elapsed() > ATTACH_MAX {
                return Err(io::Error::other(format!("strace did not attach: {said}")));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Lets go of the process; gives how many calls were tampered with.
    pub fn detach(mut self) -> io::Result<u64> {
        self.end();
        let log = fs::read(&self.log)?;
        let text = String::from_utf8_lossy(&log);
        Ok(text.lines().filter(|line| tampered(line)).count() as u64)
    }

    fn end(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let (Some(pid), Ok(None)) = (pid, self.child.try_wait()) {
            // On SIGTERM strace lets go of each thread where it may go on, which a kill does not.
            let _gone = kill_process(pid, Signal::TERM);
            let started = Instant::now();
            while started.elapsed() < ATTACH_MAX && matches!(self.child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let _ended_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        self.end();
    }
}

fn tampered(line: &str) -> bool {
    line.ends_with("(INJECTED)") || line.ends_with("(DELAYED)")
}
