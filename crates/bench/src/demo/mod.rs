//! The demo fleet: a small web shop whose five services write log files as such services do.
//!
//! | file | shape |
//! |---|---|
//! | `gateway.log` | nginx access log |
//! | `shop-api.log` | JSON |
//! | `payments.log` | Java: plain text, stack traces over many lines |
//! | `worker.log` | logfmt |
//! | `scheduler.log` | Python: plain text, tracebacks over many lines |
//!
//! Requests flow through the services under one trace id, and every few minutes something goes
//! wrong (see [`story`]), so that a histogram, a search and a trace have something to show.
//!
//! Invariants: what is written depends on the seed and the clock alone; a record is never split
//! between two files; rotation renames (`x.log` to `x.log.1` and so on), it never truncates.

mod log_file;
pub mod story;
mod voices;

use std::collections::BinaryHeap;
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, MissedTickBehavior, interval};

use log_file::LogFile;
use story::{Line, Service, Story};

/// How the fleet writes.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// Where the files go; made if missing.
    pub dir: PathBuf,
    /// Lines a second over all files (a stack trace counts as its lines).
    pub lines_per_s: u32,
    /// Same seed, same story.
    pub seed: u64,
    /// A file that reaches this size is rotated.
    pub rotate_bytes: u64,
    /// How many rotated files of each service are kept.
    pub keep_files: u32,
    /// When to stop by itself.
    pub duration: Option<Duration>,
}

impl DemoOptions {
    /// A fleet in `dir` at a pace that a human can follow and a laptop does not feel.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            lines_per_s: 60,
            seed: 1,
            rotate_bytes: 4 << 20,
            keep_files: 3,
            duration: None,
        }
    }
}

/// What a run wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DemoSummary {
    /// Records; a stack trace belongs to the record that it follows.
    pub records: u64,
    /// Lines.
    pub lines: u64,
    /// Bytes.
    pub bytes: u64,
    /// How often a file was rotated.
    pub rotations: u64,
}

/// How often lines are written.
const TICK: Duration = Duration::from_millis(50);
/// Above this the demo would no longer keep its pace.
const LINES_PER_S_MAX: u32 = 200_000;

/// Writes logs until `shutdown` is ready or the duration is over.
///
/// # Errors
/// When an option makes no sense, or a file cannot be written or renamed.
pub async fn run(
    options: DemoOptions,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<DemoSummary> {
    let mut fleet = Fleet::open(&options)?;
    let deadline = options.duration.map(|duration| Instant::now() + duration);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            now = ticks.tick() => {
                if deadline.is_some_and(|deadline| now >= deadline) {
                    break;
                }
                fleet.advance(Timestamp::now())?;
            }
        }
    }
    Ok(fleet.summary)
}

struct Fleet {
    story: Story,
    files: Vec<LogFile>,
    /// Lines whose time has not come: the end of a request is written when it ends.
    pending: BinaryHeap<Line>,
    lines_per_s: f64,
    /// Lines that may be produced now; negative after a long stack trace.
    credit: f64,
    last: Option<Timestamp>,
    summary: DemoSummary,
}

impl Fleet {
    fn open(options: &DemoOptions) -> anyhow::Result<Self> {
        let lines_per_s = options.lines_per_s;
        ensure!(
            (1..=LINES_PER_S_MAX).contains(&lines_per_s),
            "lines per second must be from 1 to {LINES_PER_S_MAX}, not {lines_per_s}"
        );
        std::fs::create_dir_all(&options.dir)
            .with_context(|| format!("cannot make the folder {}", options.dir.display()))?;
        let open = |service: &Service| {
            let path = options.dir.join(format!("{}.log", service.name()));
            LogFile::open(path, options.rotate_bytes, options.keep_files)
        };
        Ok(Self {
            story: Story::new(options.seed),
            files: Service::ALL.iter().map(open).collect::<anyhow::Result<_>>()?,
            pending: BinaryHeap::new(),
            lines_per_s: f64::from(lines_per_s),
            credit: 0.0,
            last: None,
            summary: DemoSummary::default(),
        })
    }

    /// Lets the story go on until `now` and writes what is due.
    fn advance(&mut self, now: Timestamp) -> anyhow::Result<()> {
        let last = self.last.replace(now).unwrap_or(now);
        // A clock that was set or a machine that slept must not cause a flood.
        let elapsed =
            now.duration_since(last).clamp(SignedDuration::ZERO, SignedDuration::from_secs(1));
        self.credit += elapsed.as_secs_f64() * self.lines_per_s;
        while self.credit > 0.0 {
            for line in self.story.scene(now) {
                self.credit -= line.lines() as f64;
                self.pending.push(line);
            }
        }
        while self.pending.peek().is_some_and(|line| line.due <= now) {
            let Some(line) = self.pending.pop() else {
                break;
            };
            self.summary.records += 1;
            self.summary.lines += line.lines();
            self.summary.bytes += line.text.len() as u64 + 1;
            let rotated = self.files[line.service as usize].append(&line.text)?;
            self.summary.rotations += u64::from(rotated);
        }
        self.files.iter_mut().try_for_each(LogFile::flush)
    }
}
