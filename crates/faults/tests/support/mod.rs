//! What the end-to-end tests share: one real server per test, and the checks that end each of them.
#![allow(clippy::unwrap_used, dead_code)]

use std::path::Path;
use std::time::{Duration, Instant};

use lodge_faults::far_end::FarEnd;
use lodge_faults::http::{self, Answer};
use lodge_faults::process::{Binaries, Process, Server, Wrap, agent_args};
use serde_json::Value;
use tempfile::TempDir;

/// More memory than this a server must not take for any input.
pub const MEMORY_BYTES_MAX: u64 = 1 << 30;

/// More memory than this an agent must not take for any input.
pub const AGENT_MEMORY_BYTES_MAX: u64 = 128 << 20;

/// A server that one test has to itself.
pub struct Bench {
    pub folder: TempDir,
    pub server: Server,
    pub far_end: FarEnd,
}

pub fn server() -> Bench {
    server_with(&[])
}

pub fn server_with(args: &[&str]) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let binaries = Binaries::find().unwrap_or_else(|e| panic!("{e}"));
    let data = folder.path().join("data");
    let mut server = Server::new(&binaries.lodge, &data, folder.path()).unwrap().with_args(args);
    server.start().unwrap_or_else(|e| panic!("{e}"));
    let far_end = server.far_end();
    Bench { folder, server, far_end }
}

impl Bench {
    pub fn post(&self, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let wait = Duration::from_secs(120);
        http::request(self.far_end.addr(), "POST", target, headers, body, wait)
            .unwrap_or_else(|e| panic!("POST {target}: {e}"))
    }

    pub fn get(&self, target: &str) -> Answer {
        let wait = Duration::from_secs(120);
        http::request(self.far_end.addr(), "GET", target, &[], b"", wait)
            .unwrap_or_else(|e| panic!("GET {target}: {e}"))
    }

    /// Sends JSON lines to the plain insert route.
    pub fn insert(&self, body: &[u8]) -> Answer {
        self.post("/insert/jsonline", &[], body)
    }

    /// Sends JSON lines that must be taken whole.
    pub fn insert_ok(&self, body: &[u8]) {
        let answer = self.insert(body);
        assert!(answer.is_success(), "{}: {}", answer.status, answer.text());
    }

    pub fn count(&self, filter: &str) -> u64 {
        self.far_end.count(filter).unwrap_or_else(|e| panic!("{e}"))
    }

    pub fn rows(&self, query: &str) -> Vec<serde_json::Map<String, Value>> {
        self.far_end.rows(query).unwrap_or_else(|e| panic!("{e}"))
    }

    /// An agent that tails `glob` into this server.
    pub fn agent(&self, glob: &str) -> Process {
        let binaries = Binaries::find().unwrap_or_else(|e| panic!("{e}"));
        let state = self.folder.path().join("agent");
        std::fs::create_dir_all(&state).unwrap();
        let args = agent_args(self.far_end.addr(), &state, glob);
        let log = self.agent_log();
        Process::start(&binaries.agent, &args, &Wrap::default(), &log).unwrap()
    }

    pub fn agent_log(&self) -> std::path::PathBuf {
        self.folder.path().join("agent.log")
    }

    /// Waits until `filter` matches `expected` records; panics with what is there instead.
    pub fn wait_count(&self, filter: &str, expected: u64) {
        let started = Instant::now();
        let mut count = self.count(filter);
        while count != expected && started.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(100));
            count = self.count(filter);
        }
        assert_eq!(count, expected, "records that match {filter}");
    }

    /// Waits until everything is built into segments.
    pub fn wait_built(&self) {
        let started = Instant::now();
        loop {
            let left = self.far_end.l0_segments().unwrap_or_else(|e| panic!("{e}"));
            if left == 0 {
                return;
            }
            assert!(started.elapsed() < Duration::from_secs(120), "{left} L0s are not built");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// What must hold after any input: the server lives, serves, never panicked, kept to its memory.
    pub fn assert_unharmed(&mut self) {
        assert!(self.far_end.is_healthy(), "{}", self.server.process().log_tail());
        self.insert_ok(b"{\"_msg\":\"a fresh record after all that\"}\n");
        assert_eq!(self.count("\"a fresh record after all that\""), 1);
        assert_eq!(self.server.panics(), Vec::<String>::new());
        let peak = self.server.process().memory_peak().unwrap();
        assert!(peak <= MEMORY_BYTES_MAX, "the server took {} MiB", peak >> 20);
    }
}

/// A refusal that helps: 4xx, JSON, and a message that is more than a word.
#[track_caller]
pub fn assert_clear_refusal(answer: &Answer) -> String {
    let text = answer.text();
    assert!((400..500).contains(&answer.status), "{}: {text}", answer.status);
    let json: Value = serde_json::from_slice(&answer.body)
        .unwrap_or_else(|e| panic!("{}: the refusal is no JSON ({e}): {text}", answer.status));
    let message = json["error"].as_str().unwrap_or_else(|| panic!("no `error` in {text}"));
    assert!(message.split(' ').count() >= 3, "says too little: {text}");
    assert!(json["code"].is_string(), "no `code` for programs in {text}");
    message.to_owned()
}

/// The lines of a panic in a log file, for agents.
#[track_caller]
pub fn assert_no_panic(log: &Path) {
    assert_eq!(lodge_faults::process::panics_in(log), Vec::<String>::new());
}
