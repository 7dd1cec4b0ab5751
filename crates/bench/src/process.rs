//! Programs under measurement as child processes, and what the kernel says they used.
//!
//! Invariants: a child ends with its handle, by its own process id, also on a panic or Ctrl-C
//! (both drop the handle); a child's use is read from `/proc` while it is still there, at the
//! latest as a zombie, so that nothing it did is missed.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Resource, Signal, getrlimit, kill_process, setrlimit};

/// The unit of times in `/proc/PID/stat`: Linux fixes it to 100 a second for user space.
const CLOCK_TICKS_PER_S: f64 = 100.0;
/// How often a child is looked at while we wait for its end.
const WATCH_EVERY: Duration = Duration::from_millis(10);
/// How long a server may take to stop before it is killed.
const STOP_MAX: Duration = Duration::from_secs(30);
/// How much of a log is quoted in an error.
const LOG_TAIL_BYTES: usize = 2000;

/// What a process has used since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// User and system time.
    pub cpu_s: f64,
    /// Most resident memory at any time.
    pub rss_peak_bytes: u64,
}

/// A running child.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts `program`; its output goes to the file `log`.
    ///
    /// # Errors
    /// When the program is not there or the log cannot be written.
    pub fn start<S: AsRef<OsStr>>(program: &Path, args: &[S], log: &Path) -> anyhow::Result<Self> {
        let out = File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
        let errors = out.try_clone().context("cannot duplicate the log's handle")?;
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(out).stderr(errors);
        Self::spawn(&mut command, program, log)
    }

    /// As [`start`](Self::start), on one processor only, if that is said, by `taskset`.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_on<S: AsRef<OsStr>>(
        cpu: Option<usize>,
        program: &Path,
        args: &[S],
        log: &Path,
    ) -> anyhow::Result<Self> {
        let Some(cpu) = cpu else { return Self::start(program, args, log) };
        // It becomes the program, so what is measured of the child is the program's.
        let cpu = cpu.to_string();
        let mut all: Vec<&OsStr> = vec!["--cpu-list".as_ref(), cpu.as_ref(), program.as_ref()];
        all.extend(args.iter().map(AsRef::as_ref));
        Self::start(Path::new("taskset"), &all, log)
            .context("it is to run on one processor, which takes taskset (util-linux)")
    }

    /// Starts `program` with its standard input and output in our hands; what it says on standard
    /// error goes to the file `log`.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_piped<S: AsRef<OsStr>>(
        program: &Path,
        args: &[S],
        log: &Path,
    ) -> anyhow::Result<(Self, ChildStdin, ChildStdout)> {
        let errors =
            File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
        let mut process = Self::spawn(&mut command, program, log)?;
        let stdin = process.child.stdin.take().context("no standard input")?;
        let stdout = process.child.stdout.take().context("no standard output")?;
        Ok((process, stdin, stdout))
    }

    fn spawn(command: &mut Command, program: &Path, log: &Path) -> anyhow::Result<Self> {
        let child =
            command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { child, name, log: log.to_owned() })
    }

    /// What it has used so far.
    ///
    /// # Errors
    /// When it has ended and been waited for.
    pub fn usage(&self) -> anyhow::Result<Usage> {
        let (cpu_s, _) = self.stat()?;
        Ok(Usage { cpu_s, rss_peak_bytes: self.rss_peak_bytes() })
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its good end and returns what it used.
    ///
    /// # Errors
    /// When it does not end within `time_max` or ends with a failure; its last words are quoted.
    pub async fn finish(&mut self, time_max: Duration) -> anyhow::Result<Usage> {
        let begun = Instant::now();
        let mut usage = Usage::default();
        loop {
            let (cpu_s, ended) = self.stat()?;
            usage.cpu_s = cpu_s;
            usage.rss_peak_bytes = usage.rss_peak_bytes.max(self.rss_peak_bytes());
            if ended {
                break;
            }
            if begun.elapsed() > time_max {
                bail!(
                    "{} did not end within {time_max:?}; its log ends: {}",
                    self.name,
                    self.last_words()
                );
            }
            tokio::time::sleep(WATCH_EVERY).await;
        }
        let status = self.child.wait().with_context(|| format!("waiting for {}", self.name))?;
        if !status.success() {
            bail!("{} ended with {status}; its log ends: {}", self.name, self.last_words());
        }
        Ok(usage)
    }

    /// Kills it as a power cut would.
    pub fn kill(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to stop and waits; kills it if it does not.
    pub async fn stop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let begun = Instant::now();
        while self.is_running() && begun.elapsed() < STOP_MAX {
            tokio::time::sleep(WATCH_EVERY).await;
        }
        self.kill();
    }

    /// The end of its log.
    pub fn last_words(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let from = log.len().saturating_sub(LOG_TAIL_BYTES);
        String::from_utf8_lossy(log.get(from..).unwrap_or_default()).trim().to_owned()
    }

    /// CPU seconds, and whether it has ended.
    fn stat(&self) -> anyhow::Result<(f64, bool)> {
        let path = format!("/proc/{}/stat", self.child.id());
        let text = fs::read_to_string(&path).with_context(|| {
            format!("{} is gone; its log ends: {}", self.name, self.last_words())
        })?;
        parse_stat(&text).with_context(|| format!("cannot read {path}: {text}"))
    }

    /// Zero for a zombie, which has no memory any more.
    fn rss_peak_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        status.ok().as_deref().and_then(parse_rss_peak).unwrap_or(0)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// User plus system seconds, and whether the state is zombie, of a `/proc/PID/stat` line.
fn parse_stat(text: &str) -> Option<(f64, bool)> {
    // The name in parentheses may hold anything; what follows the last parenthesis is regular.
    let (_, fields) = text.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let ticks = |i: usize| fields.get(i)?.parse::<f64>().ok();
    let state = *fields.first()?;
    Some(((ticks(11)? + ticks(12)?) / CLOCK_TICKS_PER_S, matches!(state, "Z" | "X")))
}

fn parse_rss_peak(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// CPU seconds of this process, and of all its children that have ended.
///
/// # Errors
/// When the kernel does not say.
pub fn own_and_childrens_cpu_s() -> anyhow::Result<(f64, f64)> {
    let text = fs::read_to_string("/proc/self/stat").context("/proc/self/stat")?;
    let read = || {
        let (_, fields) = text.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        let ticks = |i: usize| fields.get(i)?.parse::<f64>().ok();
        let own = ticks(11)? + ticks(12)?;
        let children = ticks(13)? + ticks(14)?;
        Some((own / CLOCK_TICKS_PER_S, children / CLOCK_TICKS_PER_S))
    };
    read().with_context(|| format!("cannot read /proc/self/stat: {text}"))
}

/// Makes the kernel forget what it keeps in memory of the files below `dir`.
///
/// # Errors
/// When a folder or file cannot be read or synced.
pub fn drop_file_cache(dir: &Path) -> anyhow::Result<()> {
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder)
            .with_context(|| format!("cannot read the folder {}", folder.display()))?;
        for entry in entries.flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
                continue;
            }
            let file = File::open(&path).with_context(|| path.display().to_string())?;
            // What is not yet on the disk cannot be forgotten.
            file.sync_all().with_context(|| path.display().to_string())?;
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)
                .with_context(|| path.display().to_string())?;
        }
    }
    Ok(())
}

/// A loopback address that is free now.
///
/// # Errors
/// When there is no free port.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    listener.local_addr().context("no free port")
}

/// A loopback address for datagrams that is free now.
///
/// # Errors
/// When there is no free port.
pub fn free_udp_address() -> anyhow::Result<SocketAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    socket.local_addr().context("no free port")
}

/// Lets this process, and those that it starts, have as many open files as the machine allows;
/// gives how many that are.
pub fn raise_open_files() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // What it was before is in force then.
    let _ = setrlimit(Resource::Nofile, limit);
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// The size of all files below `dir`, as the file system accounts for them.
///
/// # Errors
/// When a folder cannot be read; files that vanish meanwhile count nothing.
pub fn disk_bytes(dir: &Path) -> anyhow::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut total = 0;
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder)
            .with_context(|| format!("cannot read the folder {}", folder.display()))?;
        for entry in entries.flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                Ok(metadata) => total += metadata.blocks() * 512,
                Err(_) => {}
            }
        }
    }
    Ok(total)
}

/// The `lodge` binary: the one that was named, or the one beside this program.
///
/// # Errors
/// When it is not there; the message says how to build it.
pub fn find_lodge(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    let path = match named {
        Some(path) => path.to_owned(),
        None => std::env::current_exe().context("this program's own path")?.with_file_name("lodge"),
    };
    if !path.is_file() {
        bail!(
            "there is no {}; build it with `cargo build --release -p lodge-cli` or name it with \
             --lodge PATH",
            path.display()
        );
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_stat_line_is_read_even_with_a_nasty_name() {
        let line = "17 (a) b (c)) Z 1 17 17 0 -1 4228100 0 0 0 0 250 50 0 0 20 0 1 0 5 0 0";
        assert_eq!(parse_stat(line), Some((3.0, true)));
        assert_eq!(parse_stat("17 (x) S 1"), None);
        assert_eq!(parse_rss_peak("VmPeak:\t 9 kB\nVmHWM:\t   2048 kB\n"), Some(2 << 20));
    }

    #[tokio::test]
    async fn a_child_is_measured_to_its_end_and_failures_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let run = |script: &str| {
            let log = dir.path().join("log");
            Process::start(Path::new("/bin/sh"), &["-c", script], &log).unwrap()
        };
        let mut good = run("i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done");
        let usage = good.finish(Duration::from_secs(60)).await.unwrap();
        assert!(usage.cpu_s > 0.0 && usage.rss_peak_bytes > 0, "{usage:?}");
        let mut bad = run("echo alas >&2; exit 3");
        let error = bad.finish(Duration::from_secs(60)).await.unwrap_err().to_string();
        assert!(error.contains("alas") && error.contains('3'), "{error}");
    }

    #[test]
    fn a_child_ends_with_its_handle() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let child = Process::start(Path::new("/bin/sleep"), &["600"], &log).unwrap();
        let stat = format!("/proc/{}/stat", child.child.id());
        assert!(Path::new(&stat).exists());
        drop(child);
        assert!(!Path::new(&stat).exists());
    }
}
