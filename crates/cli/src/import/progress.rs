//! What an import shows while it runs: a bar on a terminal, a line every few seconds elsewhere.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressStyle};

use crate::terminal::{Ink, escape_text, stderr_is_terminal};

const BAR_EVERY: Duration = Duration::from_millis(200);
const LINE_EVERY: Duration = Duration::from_secs(5);

/// The counters of an import. Everything but `read` counts what is durable on the server.
#[derive(Default)]
pub struct Counters {
    /// Raw (perhaps compressed) bytes of the sources that are done with: stored or skipped.
    pub raw_done: AtomicU64,
    /// Decompressed bytes that this run stored.
    pub stored_bytes: AtomicU64,
    /// Records that this run stored.
    pub records: AtomicU64,
    /// Lines that were not what they should be and were kept as text.
    pub malformed: AtomicU64,
    /// Chunks that an earlier run had stored.
    pub skipped: AtomicU64,
    /// Files that an earlier run had stored whole.
    pub files_skipped: AtomicU64,
    /// Decompressed bytes of those chunks.
    pub skipped_bytes: AtomicU64,
    /// How often a line was broken because it was too long.
    pub breaks: AtomicU64,
    /// Requests that had to be sent again.
    pub retries: AtomicU64,
}

impl Counters {
    /// Adds to one of the counters.
    pub fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    /// Reads one of the counters.
    pub fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}

/// Shows the counters until it is dropped or finished.
pub struct Progress {
    bar: ProgressBar,
    stop: Arc<AtomicBool>,
    ticker: Option<JoinHandle<()>>,
    started: Instant,
    counters: Arc<Counters>,
    file: Arc<Mutex<String>>,
}

impl Progress {
    /// Starts showing. `total` is the raw size of all sources, if it is known; `quiet` shows
    /// nothing.
    pub fn start(counters: Arc<Counters>, total: Option<u64>, quiet: bool) -> Self {
        // A dumb terminal gets lines: a bar moves the cursor even without colours.
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let on_terminal = stderr_is_terminal() && !dumb && !quiet;
        let bar = if on_terminal { drawn_bar(total) } else { ProgressBar::hidden() };
        let stop = Arc::new(AtomicBool::new(false));
        let file = Arc::new(Mutex::new(String::new()));
        let started = Instant::now();
        let ticker = (!quiet).then(|| {
            let shown = Shown { bar: bar.clone(), on_terminal, total, started };
            let (counters, stop, file) = (counters.clone(), stop.clone(), file.clone());
            std::thread::spawn(move || shown.run(&counters, &stop, &file))
        });
        Self { bar, stop, ticker, started, counters, file }
    }

    /// Names the source that is being read.
    pub fn file(&self, name: &str) {
        if let Ok(mut file) = self.file.lock() {
            *file = escape_text(name).into_owned();
        }
    }

    /// Prints a line without tearing the bar, unless nothing is to be shown.
    pub fn note(&self, text: &str) {
        use std::io::Write as _;
        if self.ticker.is_none() {
            return;
        }
        self.bar.suspend(|| {
            // When stderr is gone there is nobody left to tell.
            let _ = writeln!(std::io::stderr().lock(), "{text}");
        });
    }

    /// How long the import has taken.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The counters that are shown.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(ticker) = self.ticker.take() {
            ticker.thread().unpark();
            // The ticker only prints; if it panicked there is nothing to save.
            let _ = ticker.join();
        }
        self.bar.finish_and_clear();
    }
}

fn drawn_bar(total: Option<u64>) -> ProgressBar {
    let template = match total {
        Some(_) => "{bar:20} {percent:>3}%  {bytes} of {total_bytes}  {wide_msg}",
        None => "{spinner} {bytes}  {wide_msg}",
    };
    let style = ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸─");
    let bar = match total {
        Some(total) => ProgressBar::new(total),
        None => ProgressBar::new_spinner(),
    };
    bar.with_style(style)
}

/// What the ticking thread needs.
struct Shown {
    bar: ProgressBar,
    on_terminal: bool,
    total: Option<u64>,
    started: Instant,
}

impl Shown {
    fn run(&self, counters: &Counters, stop: &AtomicBool, file: &Mutex<String>) {
        let every = if self.on_terminal { BAR_EVERY } else { LINE_EVERY };
        let mut rate = Rate::default();
        let mut next = self.started + every;
        while !stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            if now < next {
                std::thread::park_timeout(next - now);
                continue;
            }
            next = now + every;
            let raw = Counters::get(&counters.raw_done);
            let per_second = rate.update(now, raw);
            let line = self.speed(counters, raw, per_second);
            if self.on_terminal {
                self.bar.set_position(raw);
                let name = file.lock().map(|name| name.clone()).unwrap_or_default();
                self.bar.set_message(format!("{line}  {}", Ink::for_stderr().dim(&name)));
                self.bar.tick();
            } else {
                self.line(raw, &line);
            }
        }
    }

    /// Rates and time left.
    fn speed(&self, counters: &Counters, raw: u64, raw_per_second: f64) -> String {
        let seconds = self.started.elapsed().as_secs_f64().max(0.001);
        let stored = Counters::get(&counters.stored_bytes) as f64;
        let records = Counters::get(&counters.records) as f64;
        let mut text =
            format!("{:.1} MB/s  {:.0} records/s", stored / seconds / 1e6, records / seconds);
        if let Some(total) = self.total
            && raw_per_second > 0.0
        {
            let left = total.saturating_sub(raw) as f64 / raw_per_second;
            let left = Duration::from_secs_f64(left.min(1e9).ceil());
            text.push_str(&format!("  {:#} left", HumanDuration(left)));
        }
        text
    }

    fn line(&self, raw: u64, speed: &str) {
        use std::io::Write as _;
        let done = match self.total {
            Some(total) => format!("{} of {}", HumanBytes(raw), HumanBytes(total)),
            None => HumanBytes(raw).to_string(),
        };
        let _ = writeln!(std::io::stderr().lock(), "importing: {done}  {speed}");
    }
}

/// A smoothed rate, so that the time left does not jump.
#[derive(Default)]
struct Rate {
    last: Option<(Instant, u64)>,
    per_second: f64,
}

impl Rate {
    fn update(&mut self, now: Instant, value: u64) -> f64 {
        if let Some((then, before)) = self.last {
            let seconds = (now - then).as_secs_f64().max(0.001);
            let current = value.saturating_sub(before) as f64 / seconds;
            // About ten samples of memory.
            self.per_second = if self.per_second == 0.0 {
                current
            } else {
                self.per_second * 0.9 + current * 0.1
            };
        }
        self.last = Some((now, value));
        self.per_second
    }
}
