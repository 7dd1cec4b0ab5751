//! A steady load of log lines, written into files that are rotated, as applications do.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use jiff::Timestamp;

use crate::workload::{Fleet, WorkloadOptions};

/// Files that the load is spread over.
const LOAD_FILES: usize = 4;
/// A load file is renamed and begun anew at this size.
const ROTATE_BYTES: u64 = 64 << 20;
/// The load is written in steps of this length.
const STEP: Duration = Duration::from_millis(10);

/// The thread that writes the load.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    written_bytes: Arc<AtomicU64>,
    written_lines: Arc<AtomicU64>,
    thread: Option<JoinHandle<anyhow::Result<Written>>>,
}

/// What a load came to.
pub(crate) struct Written {
    pub(crate) lines: u64,
    pub(crate) bytes: u64,
}

impl Load {
    /// Writes for at most about `time_max`, until it is stopped.
    pub(crate) fn start(
        rate_bytes_per_s: u64,
        time_max: Duration,
        seed: u64,
        logs: &Path,
    ) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let written_bytes = Arc::new(AtomicU64::new(0));
        let written_lines = Arc::new(AtomicU64::new(0));
        let stopped = Arc::clone(&stop);
        let progress = (Arc::clone(&written_bytes), Arc::clone(&written_lines));
        let logs = logs.to_owned();
        let start_ns = i64::try_from(Timestamp::now().as_nanosecond()).context("the clock")?;
        let workload = WorkloadOptions {
            // More than can flow; the time of each record is about when it is written.
            records: rate_bytes_per_s * time_max.as_secs() / 365 * 2 + 1_000_000,
            seed,
            start_ns,
            span: time_max * 2,
        };
        let thread = std::thread::Builder::new()
            .name("load".to_owned())
            .spawn(move || {
                write_load(Fleet::new(workload), &logs, rate_bytes_per_s, &stopped, &progress)
            })
            .context("cannot start the load's thread")?;
        Ok(Self { stop, written_bytes, written_lines, thread: Some(thread) })
    }

    /// Bytes written so far.
    pub(crate) fn written_bytes(&self) -> u64 {
        self.written_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of a line, on average.
    pub(crate) fn line_bytes(&self) -> f64 {
        self.written_bytes() as f64 / self.written_lines.load(Ordering::Relaxed).max(1) as f64
    }

    /// Ends it, and tells what was written.
    pub(crate) fn stop(mut self) -> anyhow::Result<Written> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("the load was stopped before")?;
        thread.join().map_err(|_| anyhow::anyhow!("the load's thread panicked"))?
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn write_load(
    mut workload: Fleet,
    logs: &Path,
    rate_bytes_per_s: u64,
    stop: &AtomicBool,
    (written_bytes, written_lines): &(Arc<AtomicU64>, Arc<AtomicU64>),
) -> anyhow::Result<Written> {
    let paths: Vec<PathBuf> = (0..LOAD_FILES).map(|i| logs.join(format!("load-{i}.log"))).collect();
    let mut files: Vec<(File, u64)> =
        paths.iter().map(|path| Ok((append_to(path)?, 0))).collect::<anyhow::Result<_>>()?;
    let begun = Instant::now();
    let mut written = Written { lines: 0, bytes: 0 };
    let mut chunk = Vec::new();
    let mut rotations = 0;
    for turn in (0..LOAD_FILES).cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let due = (begun.elapsed().as_secs_f64() * rate_bytes_per_s as f64) as u64;
        chunk.clear();
        while written.bytes + (chunk.len() as u64) < due
            && workload.next_record(&mut chunk).is_some()
        {
            written.lines += 1;
        }
        let (file, size) = &mut files[turn];
        file.write_all(&chunk).with_context(|| paths[turn].display().to_string())?;
        written.bytes += chunk.len() as u64;
        written_bytes.store(written.bytes, Ordering::Relaxed);
        written_lines.store(written.lines, Ordering::Relaxed);
        *size += chunk.len() as u64;
        if *size >= ROTATE_BYTES {
            // No name is used twice, so that nothing is overwritten before it was read.
            rotations += 1;
            fs::rename(&paths[turn], logs.join(format!("load-{turn}.log.{rotations}")))
                .context("cannot rotate a load file")?;
            files[turn] = (append_to(&paths[turn])?, 0);
        }
        std::thread::sleep(STEP);
    }
    Ok(written)
}

/// Opens a file to write at its end.
pub(crate) fn append_to(path: &Path) -> anyhow::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))
}
