//! A real server process per test, and the `lodge` binary as a user runs it.
// Each test file is a crate of its own and uses a part of this.
#![allow(dead_code, unreachable_pub, missing_docs)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A server on a free port, with a data folder of its own. Killed when dropped.
pub struct Server {
    process: Child,
    pub url: String,
    dir: tempfile::TempDir,
}

impl Server {
    pub fn start() -> Self {
        Self::with_settings("")
    }

    /// With a configuration file of this text.
    pub fn with_settings(text: &str) -> Self {
        Self::with_files(&[], |_| text.to_owned())
    }

    /// With files, and a configuration file that can name them by the folder they are in.
    pub fn with_files(files: &[(&str, String)], settings: impl FnOnce(&Path) -> String) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(dir.path().join(name), content).unwrap();
        }
        std::fs::write(dir.path().join("lodge.toml"), settings(dir.path())).unwrap();
        let (process, url) = launch(dir.path(), "127.0.0.1:0");
        Self { process, url, dir }
    }

    /// Kills the server without warning and starts it again on the same address and data.
    pub fn crash_and_restart(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let address = self.url.strip_prefix("http://").unwrap().to_owned();
        let (process, url) = launch(self.dir.path(), &address);
        assert_eq!(url, self.url);
        self.process = process;
    }

    /// The server's process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// A path for a file of the test, gone with the server.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file and gives its path.
    pub fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// `lodge ARGS` against this server.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lodge"));
        command.args(args).env("LODGE_SERVER", &self.url).stdin(Stdio::null());
        command
    }

    /// Runs `lodge ARGS`.
    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs `lodge ARGS`, which must succeed, and gives its stdout.
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Runs `lodge import ARGS PATH`, which must succeed, and gives its stderr.
    pub fn import(&self, path: &Path, args: &[&str]) -> String {
        let output = self.command(&["import"]).args(args).arg(path).output().unwrap();
        assert!(output.status.success(), "{path:?}: {}", text(&output.stderr));
        text(&output.stderr)
    }

    /// Runs `lodge ARGS` with bytes on standard input.
    pub fn with_input(&self, args: &[&str], input: &[u8]) -> Output {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut stdin = process.stdin.take().unwrap();
        let input = input.to_vec();
        // A child that refuses its arguments closes its input early.
        let writer = std::thread::spawn(move || stdin.write_all(&input).is_ok());
        let output = process.wait_with_output().unwrap();
        writer.join().unwrap();
        output
    }

    /// How many records match.
    pub fn count(&self, filter: &str) -> u64 {
        let query = format!("{filter} | stats count() as n");
        let row = self.ok(&["query", &query, "--format", "jsonl"]);
        let row: serde_json::Value = serde_json::from_str(row.trim()).unwrap();
        row["n"].as_str().unwrap().parse().unwrap()
    }

    /// Stops the server as an operator would, and says whether it ended well.
    pub fn stop(mut self) -> bool {
        let pid = self.process.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        self.process.wait().unwrap().success()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn launch(dir: &Path, listen: &str) -> (Child, String) {
    let mut process = Command::new(env!("CARGO_BIN_EXE_lodge"))
        .args(["server", "--listen", listen, "--data-dir"])
        .arg(dir.join("data"))
        .arg("--config")
        .arg(dir.join("lodge.toml"))
        .env("LODGE_LOG", "warn")
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let first = lines.next().expect("the server ended before it listened").unwrap();
    let url = first.strip_prefix("Lodge is listening on ").expect("the first line").to_owned();
    // The rest of the greeting: read on, so that the pipe stays open.
    std::thread::spawn(move || lines.for_each(drop));
    (process, url)
}

/// `lodge ARGS` without a server.
pub fn lodge(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lodge")).args(args).stdin(Stdio::null()).output().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// JSON lines such as a service writes; line `i` is the same in every run.
pub fn json_lines(range: std::ops::Range<u64>) -> Vec<u8> {
    let mut out = Vec::new();
    for i in range {
        let level = ["info", "info", "warn", "error"][(i % 4) as usize];
        writeln!(
            out,
            "{{\"ts\":\"2026-11-22T10:{:02}:{:02}.{:06}Z\",\"level\":\"{level}\",\
             \"service\":\"s{}\",\"host\":\"h{}\",\"message\":\"request {i} took {} ms\",\
             \"id\":\"{:016x}\",\"n\":{i}}}",
            i / 60_000 % 60,
            i / 1_000 % 60,
            i % 1_000_000,
            i % 5,
            i % 7,
            i * 31 % 1_009,
            i.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        )
        .unwrap();
    }
    out
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    flate2::read::GzEncoder::new(bytes, flate2::Compression::fast()).read_to_end(&mut out).unwrap();
    out
}

/// This package's folder, asked when the test runs: a build may be kept over clones in other folders.
pub fn folder() -> PathBuf {
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap())
}

/// The Python that has the clients.
pub fn python() -> PathBuf {
    let python = std::env::var_os("LODGE_PYTHON").filter(|python| !python.is_empty());
    python.expect("LODGE_PYTHON names a Python with the clients; see scripts/test").into()
}

/// What `scripts/setup test` put into the build's folder.
pub fn installed(path: &str) -> PathBuf {
    let folders = Path::new(env!("CARGO_BIN_EXE_lodge")).ancestors();
    let there = folders.map(|folder| folder.join(path)).find(|path| path.exists());
    there.unwrap_or_else(|| {
        panic!("no {path} in the build's folder: run scripts/setup test with this CARGO_TARGET_DIR")
    })
}

/// A program of the system: some lie where only root looks.
pub fn found(name: &str) -> PathBuf {
    let folders = ["/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let there = folders.iter().map(|folder| Path::new(folder).join(name)).find(|p| p.exists());
    there.unwrap_or_else(|| panic!("{name} is not there; scripts/setup test installs it"))
}

/// A port that nothing listens on, below those that the system gives to outgoing connections: nobody
/// takes it before it is used.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let next = std::process::id().wrapping_mul(101) + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(10_000 + next % 20_000).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Has a client that runs on Node send `count` records, and gives what it said.
pub fn node(client: &str, to: &str, count: u64) -> String {
    let output = Command::new("node")
        .arg(folder().join("tests/clients/send.cjs"))
        .args([client, to, &count.to_string()])
        .env("NODE_PATH", installed("clients/node_modules"))
        .output()
        .unwrap();
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(output.status.success() && !said.contains("Error"), "{client}: {said}");
    said
}
