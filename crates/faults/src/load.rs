//! The load under which faults are caused: file writers with rotation, HTTP writers, and a watcher
//! that checks while it lasts what must hold at every moment.
//!
//! Writers enter what they do into the ledger; they never stop for a fault of the service.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::doors::{Door, Lines};
use crate::far_end::{FarEnd, ReadError};
use crate::http::{self, Trouble};
use crate::ledger::{Ledger, Outcome};
use crate::mint::{LineId, Mint};

/// How a file writer shapes its lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `2026-01-01T00:00:00Z INFO <text>`
    Plain,
    /// One JSON object a line.
    Json,
    /// Plain lines, some of them followed by a stack trace.
    Trace,
}

/// How a file writer rotates.
#[derive(Debug, Clone, Copy)]
pub enum Rotation {
    /// `x.log` becomes `x.log.1`, a new `x.log` is made.
    Rename,
    /// `x.log` is copied to `x.log.1` and truncated, once this far end shows its last line: what is
    /// written between the agent's last read and the truncation is lost by the rotation itself, and
    /// must not be blamed on anyone.
    CopyTruncate(FarEnd),
}

/// How long a writer waits for its last line to be shown before it truncates.
const SHOWN_MAX: Duration = Duration::from_secs(20);

/// What the writers and the watcher share.
#[derive(Debug)]
pub struct Load {
    /// The books.
    pub ledger: Ledger,
    /// The mint.
    pub mint: Mint,
    paused: AtomicBool,
    ended: AtomicBool,
    idle: AtomicU64,
    troubles: AtomicU64,
    looks: AtomicU64,
    copied: AtomicU64,
    skew_seconds: AtomicI64,
    acknowledgements: Mutex<Vec<(Instant, Instant)>>,
    wrong: Mutex<Vec<String>>,
}

impl Load {
    /// Nothing written yet.
    pub fn new(mint: Mint) -> Arc<Load> {
        Arc::new(Load {
            ledger: Ledger::default(),
            mint,
            paused: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            idle: AtomicU64::new(0),
            troubles: AtomicU64::new(0),
            looks: AtomicU64::new(0),
            copied: AtomicU64::new(0),
            skew_seconds: AtomicI64::new(0),
            acknowledgements: Mutex::new(Vec::new()),
            wrong: Mutex::new(Vec::new()),
        })
    }

    /// Makes all `writers` rest between two lines; false when they did not come to rest.
    pub fn pause(&self, writers: u64) -> bool {
        self.paused.store(true, Ordering::SeqCst);
        let started = Instant::now();
        while self.idle.load(Ordering::SeqCst) < writers {
            if started.elapsed() > Duration::from_secs(30) {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }

    /// Lets the writers go on.
    pub fn resume(&self) {
        self.paused.store(false, Ordering::SeqCst);
    }

    /// Tells every thread to end.
    pub fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
    }

    /// Requests that had no answer, or one that asks for a later try.
    pub fn troubles(&self) -> u64 {
        self.troubles.load(Ordering::SeqCst)
    }

    /// Queries of the watcher that were answered.
    pub fn looks(&self) -> u64 {
        self.looks.load(Ordering::SeqCst)
    }

    /// The first acknowledgement of an HTTP writer after a moment, as the time from it.
    pub fn recovered_after(&self, moment: Instant) -> Option<Duration> {
        let acknowledgements = self.acknowledgements.lock().unwrap_or_else(PoisonError::into_inner);
        let after = acknowledgements.iter().find(|(_, at)| *at > moment);
        after.map(|(_, at)| at.duration_since(moment))
    }

    /// Requests that were sent and acknowledged within a stretch of time.
    pub fn acknowledged_within(&self, from: Instant, to: Instant) -> usize {
        let acknowledgements = self.acknowledgements.lock().unwrap_or_else(PoisonError::into_inner);
        acknowledgements.iter().filter(|(sent, at)| *sent > from && *at < to).count()
    }

    /// Rotations by copying and truncating so far.
    pub fn copied(&self) -> u64 {
        self.copied.load(Ordering::SeqCst)
    }

    /// Makes the writers' clocks differ from the true one.
    pub fn set_skew_seconds(&self, seconds: i64) {
        self.skew_seconds.store(seconds, Ordering::SeqCst);
    }

    /// The time that writers put into their lines.
    pub fn now(&self) -> jiff::Timestamp {
        let skew = jiff::SignedDuration::from_secs(self.skew_seconds.load(Ordering::SeqCst));
        jiff::Timestamp::now().saturating_add(skew).unwrap_or(jiff::Timestamp::MAX)
    }

    /// What the watcher and the writers saw that must never be.
    pub fn wrong(&self) -> Vec<String> {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes something that must never be.
    pub(crate) fn is_wrong(&self, what: String) {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        if wrong.len() < 20 {
            wrong.push(what);
        }
    }

    /// A query that fails while the server dies says nothing; one that is refused is wrong.
    fn look(&self, answer: Result<u64, ReadError>) -> Option<u64> {
        match answer {
            Ok(count) => {
                self.looks.fetch_add(1, Ordering::SeqCst);
                Some(count)
            }
            Err(e @ ReadError::Refused { status: 400..500, .. }) => {
                self.is_wrong(e.to_string());
                None
            }
            Err(_) => None,
        }
    }

    /// Notes the answer to a request that was sent at `sent`.
    pub(crate) fn answered(&self, sent: Instant, outcome: Outcome) {
        if outcome == Outcome::Acknowledged {
            let mut times = self.acknowledgements.lock().unwrap_or_else(PoisonError::into_inner);
            times.push((sent, Instant::now()));
        } else {
            self.troubles.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Whether the writers are to end.
    pub(crate) fn ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// Rests while the load is paused. The caller has nothing half done.
    pub(crate) fn rest(&self) {
        if self.paused.load(Ordering::SeqCst) {
            self.idle.fetch_add(1, Ordering::SeqCst);
            while self.paused.load(Ordering::SeqCst) && !self.ended() {
                std::thread::sleep(Duration::from_millis(5));
            }
            self.idle.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// One writer of one log file, with rename rotation (`x.log` → `x.log.1` → `x.log.2` …).
#[derive(Debug)]
pub struct FileWriter {
    load: Arc<Load>,
    source: u16,
    form: Form,
    path: PathBuf,
    file: File,
    number: u64,
    rotate_after: u64,
    since_rotation: u64,
    rotation: Rotation,
    random: SmallRng,
}

impl FileWriter {
    /// Opens `name.log` in `folder` and its books.
    pub fn open(
        load: &Arc<Load>,
        folder: &Path,
        name: &str,
        form: Form,
        rotate_after: u64,
        seed: u64,
    ) -> io::Result<FileWriter> {
        let path = folder.join(format!("{name}.log"));
        Ok(FileWriter {
            load: Arc::clone(load),
            source: load.ledger.open_file(name),
            form,
            file: append_to(&path)?,
            path,
            number: 0,
            rotate_after,
            since_rotation: 0,
            rotation: Rotation::Rename,
            random: SmallRng::seed_from_u64(seed),
        })
    }

    /// Says how it rotates.
    pub fn rotating(mut self, rotation: Rotation) -> FileWriter {
        self.rotation = rotation;
        self
    }

    /// Writes on a thread of its own, about `lines_per_second`, until the load ends.
    pub fn spawn(mut self, lines_per_second: u64) -> JoinHandle<()> {
        std::thread::spawn(move || {
            let burst = (lines_per_second / 50).max(1);
            while !self.load.ended() {
                self.load.rest();
                for _ in 0..self.random.random_range(1..=burst * 2) {
                    if let Err(e) = self.write_record() {
                        let path = self.path.display();
                        return self.load.is_wrong(format!("the rig cannot write {path}: {e}"));
                    }
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        })
    }

    /// Writes one record (of one or more lines), now and then in two halves, and rotates when due.
    pub fn write_record(&mut self) -> io::Result<()> {
        if self.since_rotation >= self.rotate_after {
            match self.rotation {
                Rotation::Rename => {
                    make_room(&self.path)?;
                    fs::rename(&self.path, numbered(&self.path, 1))?;
                    self.file = append_to(&self.path)?;
                }
                Rotation::CopyTruncate(far_end) if self.is_shown(far_end) => {
                    make_room(&self.path)?;
                    fs::copy(&self.path, numbered(&self.path, 1))?;
                    self.file.set_len(0)?;
                    self.load.copied.fetch_add(1, Ordering::SeqCst);
                }
                Rotation::CopyTruncate(_) => {}
            }
            self.since_rotation = 0;
        }
        let traced = self.form == Form::Trace && self.random.random_ratio(1, 10);
        let lines = if traced { self.random.random_range(2..8) } else { 1 };
        let mut record = String::new();
        for line in 0..lines {
            self.append_line(&mut record, line);
        }
        let torn = self.random.random_ratio(1, 500);
        let half = if torn { record.floor_char_boundary(record.len() / 2) } else { 0 };
        if torn {
            // An application that is preempted within a line: the agent must wait for its end.
            self.file.write_all(&record.as_bytes()[..half])?;
            std::thread::sleep(Duration::from_millis(self.random.random_range(1..40)));
        }
        self.file.write_all(&record.as_bytes()[half..])?;
        self.number += lines;
        self.since_rotation += lines;
        self.load.ledger.written(self.source, lines);
        Ok(())
    }

    /// Waits until the last line written is stored; false when the load rests or ends before.
    fn is_shown(&self, far_end: FarEnd) -> bool {
        let Some(number) = self.number.checked_sub(1) else { return true };
        let filter = self.load.mint.filter(LineId { source: self.source, number });
        let started = Instant::now();
        while !self.load.paused.load(Ordering::SeqCst) && !self.load.ended() {
            if far_end.count(&filter).is_ok_and(|count| count > 0) {
                return true;
            }
            if started.elapsed() > SHOWN_MAX {
                return false;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        false
    }

    fn append_line(&self, record: &mut String, line: u64) {
        let id = LineId { source: self.source, number: self.number + line };
        let text = self.load.mint.text(id);
        let now = self.load.now();
        match self.form {
            Form::Json => {
                let number = self.load.mint.number_field(id);
                let object = serde_json::json!({
                    "time": now.to_string(), "level": "info", "msg": text,
                    "oracle": {"number": number},
                });
                record.push_str(&object.to_string());
            }
            Form::Plain | Form::Trace if line == 0 => {
                record.push_str(&format!("{now} INFO {text}"));
            }
            Form::Plain | Form::Trace => record.push_str(&format!("\tat com.example.Shop {text}")),
        }
        record.push('\n');
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn numbered(path: &Path, n: u64) -> PathBuf {
    PathBuf::from(format!("{}.{n}", path.display()))
}

/// `x.log.2` → `x.log.3`, `x.log.1` → `x.log.2`: as logrotate does; nothing is deleted, for a file
/// that is deleted while no agent runs is lost by right.
fn make_room(path: &Path) -> io::Result<()> {
    let mut last = 0;
    while numbered(path, last + 1).exists() {
        last += 1;
    }
    for n in (1..=last).rev() {
        fs::rename(numbered(path, n), numbered(path, n + 1))?;
    }
    Ok(())
}

/// Whether a writer sends a request again that had no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeats {
    /// Never.
    No,
    /// Until it is answered; it may then be there several times.
    Plain,
    /// Until it is answered, with a key by which the server knows it again.
    Keyed,
}

/// Sends lines over HTTP until the load ends, each request by any of the doors. A request that was
/// answered is never repeated.
pub fn spawn_http_writer(
    load: &Arc<Load>,
    far_end: FarEnd,
    name: &str,
    seed: u64,
    repeats: Repeats,
) -> JoinHandle<()> {
    let load = Arc::clone(load);
    let source = match repeats {
        Repeats::Keyed => load.ledger.open_keyed(name),
        Repeats::No | Repeats::Plain => load.ledger.open_requests(name),
    };
    let name = name.to_owned();
    std::thread::spawn(move || {
        let mut random = SmallRng::seed_from_u64(seed);
        while !load.ended() {
            load.rest();
            let count = random.random_range(1..=120);
            let (request, first) = load.ledger.sending(source, count);
            let door = Door::any(&mut random);
            let key = (repeats == Repeats::Keyed).then(|| format!("{name}-{first}"));
            loop {
                let body = door.body(&load, Lines { source, name: &name, first, count });
                let (outcome, pause_ms) = send(&load, far_end, door, &body, key.as_deref());
                load.ledger.settled(request, outcome);
                std::thread::sleep(Duration::from_millis(random.random_range(pause_ms)));
                let is_over = outcome != Outcome::Unknown || load.ended();
                if is_over || repeats == Repeats::No {
                    break;
                }
                load.rest();
                load.ledger.repeating(request);
            }
        }
    })
}

/// Sends one request of a source of its own.
pub fn send_once(load: &Load, far_end: FarEnd, name: &str, count: u64) -> Outcome {
    let source = load.ledger.open_requests(name);
    let (request, first) = load.ledger.sending(source, count);
    let body = Door::Lines.body(load, Lines { source, name, first, count });
    let outcome = send(load, far_end, Door::Lines, &body, None).0;
    load.ledger.settled(request, outcome);
    outcome
}

fn send(
    load: &Load,
    far_end: FarEnd,
    door: Door,
    body: &[u8],
    key: Option<&str>,
) -> (Outcome, std::ops::Range<u64>) {
    let mut headers = vec![("Content-Type", door.content_type())];
    headers.extend(key.map(|key| ("Idempotency-Key", key)));
    let wait = Duration::from_secs(5);
    let sent = Instant::now();
    let answer = http::request(far_end.addr(), "POST", door.target(), &headers, body, wait);
    let (outcome, pause_ms) = settle(answer);
    load.answered(sent, outcome);
    (outcome, pause_ms)
}

fn settle(answer: Result<http::Answer, Trouble>) -> (Outcome, std::ops::Range<u64>) {
    match answer {
        Ok(answer) if answer.is_success() => (Outcome::Acknowledged, 1..40),
        Ok(answer) if (400..500).contains(&answer.status) => (Outcome::Refused, 50..100),
        // A 5xx may have struck after the commit.
        Ok(_) => (Outcome::Unknown, 50..100),
        Err(Trouble::Connect { .. }) => (Outcome::Refused, 10..50),
        Err(_) => (Outcome::Unknown, 10..50),
    }
}

/// Watches over the load: a count never goes back (what was visible stays), and what a source of
/// requests had acknowledged before a query is visible to it, once; the sources by turns.
pub fn spawn_watcher(load: &Arc<Load>, far_end: FarEnd, sources: Vec<u16>) -> JoinHandle<()> {
    let load = Arc::clone(load);
    std::thread::spawn(move || {
        let mut most = 0;
        let mut turns = sources.iter().cycle();
        while !load.ended() {
            if let Some(count) = load.look(far_end.count("*")) {
                if count < most {
                    load.is_wrong(format!("count() went back from {most} to {count}"));
                }
                most = most.max(count);
            }
            let source = turns.next();
            if let Some(id) = source.and_then(|source| load.ledger.last_acknowledged(*source)) {
                let filter = load.mint.filter(id);
                match load.look(far_end.count(&filter)) {
                    Some(1) | None => {}
                    Some(n) => {
                        load.is_wrong(format!("{filter}, acknowledged, was visible {n} times"));
                    }
                }
            }
            std::thread::sleep(Duration::from_millis(150));
        }
    })
}
