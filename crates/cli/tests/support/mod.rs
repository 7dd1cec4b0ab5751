//! A real server process per test, and the `lodge` binary as a user runs it.
// Each test file is a crate of its own and uses a part of this.
#![allow(dead_code, unreachable_pub, missing_docs)]

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

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
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("lodge.toml"), text).unwrap();
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
