//! Writing a whole corpus: to any writer, or to a file that is kept and used again.
//!
//! Invariant: a corpus file that exists is complete: it is written beside its place and renamed
//! when its facts are on disk too, so that an interrupted run leaves nothing that a later one would
//! trust.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::workload::{Facts, Observer, Workload, WorkloadOptions};

/// Lines are handed to the writer in pieces of about this size.
const CHUNK_BYTES: usize = 256 * 1024;
/// Counted into the file names; raised when the generator's bytes change.
const GENERATION: u32 = 1;

/// A corpus on disk with its right answers.
#[derive(Debug)]
pub struct Corpus {
    /// The JSON lines.
    pub path: PathBuf,
    /// What a correct store answers about them.
    pub facts: Facts,
}

/// Writes every record to `out` and returns the facts; `progress` hears the bytes written so far.
///
/// # Errors
/// What `out` fails with.
pub fn write(
    options: WorkloadOptions,
    out: &mut impl Write,
    mut progress: impl FnMut(u64),
) -> io::Result<Facts> {
    let mut workload = Workload::new(options);
    let mut observer = Observer::new(&workload);
    let mut chunk = Vec::with_capacity(CHUNK_BYTES + 4096);
    let mut written_bytes = 0;
    loop {
        let start = chunk.len();
        let record = workload.next_record(&mut chunk);
        if let Some(mut record) = record {
            record.message = record.message.start - start..record.message.end - start;
            observer.observe(&record, &chunk[start..]);
            if chunk.len() < CHUNK_BYTES {
                continue;
            }
        } else if chunk.is_empty() {
            return Ok(observer.finish(&workload));
        }
        out.write_all(&chunk)?;
        written_bytes += chunk.len() as u64;
        progress(written_bytes);
        chunk.clear();
    }
}

#[derive(Serialize, Deserialize)]
struct Sidecar {
    records: u64,
    seed: u64,
    start_ns: i64,
    span_s: u64,
    facts: Facts,
}

/// The corpus of these options in `dir`: the one that is there, or a new one.
///
/// # Errors
/// When `dir` cannot be written to.
pub fn cached(
    dir: &Path,
    options: &WorkloadOptions,
    progress: impl FnMut(u64),
) -> anyhow::Result<Corpus> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let stem = format!(
        "fleet-g{GENERATION}-{}-seed{}-{}s-{}",
        options.records,
        options.seed,
        options.span.as_secs(),
        options.start_ns / 1_000_000_000,
    );
    let path = dir.join(format!("{stem}.jsonl"));
    let sidecar_path = dir.join(format!("{stem}.facts.json"));
    if let Some(facts) = read_sidecar(&path, &sidecar_path, options) {
        return Ok(Corpus { path, facts });
    }
    let partial = dir.join(format!("{stem}.{}.partial", std::process::id()));
    let facts = write_file(&partial, options, progress)
        .inspect_err(|_| drop(fs::remove_file(&partial)))
        .with_context(|| format!("cannot write the corpus to {}", partial.display()))?;
    let sidecar = Sidecar {
        records: options.records,
        seed: options.seed,
        start_ns: options.start_ns,
        span_s: options.span.as_secs(),
        facts,
    };
    fs::write(&sidecar_path, serde_json::to_vec(&sidecar)?)
        .with_context(|| format!("cannot write {}", sidecar_path.display()))?;
    fs::rename(&partial, &path)
        .with_context(|| format!("cannot rename the corpus to {}", path.display()))?;
    Ok(Corpus { path, facts: sidecar.facts })
}

fn write_file(
    path: &Path,
    options: &WorkloadOptions,
    progress: impl FnMut(u64),
) -> io::Result<Facts> {
    let mut file = File::create(path)?;
    write(options.clone(), &mut file, progress)
}

/// The facts of a corpus that is complete and of these options.
fn read_sidecar(path: &Path, sidecar: &Path, options: &WorkloadOptions) -> Option<Facts> {
    let sidecar: Sidecar = serde_json::from_slice(&fs::read(sidecar).ok()?).ok()?;
    let same = sidecar.records == options.records
        && sidecar.seed == options.seed
        && sidecar.start_ns == options.start_ns
        && sidecar.span_s == options.span.as_secs();
    let complete = fs::metadata(path).ok()?.len() == sidecar.facts.bytes;
    (same && complete).then_some(sidecar.facts)
}
