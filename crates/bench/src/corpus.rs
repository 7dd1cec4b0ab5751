//! Writing a whole corpus: to any writer, or to a file that is kept and used again.
//!
//! Invariant: a corpus file that exists is complete: it is written beside its place and renamed
//! when its facts are on disk too, so that an interrupted run leaves nothing that a later one would
//! trust.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::oracle::{Facts, Oracle};
use crate::question::Question;
use crate::workload::{Kind, WorkloadOptions};

/// Lines are handed to the writer in pieces of about this size.
pub(crate) const CHUNK_BYTES: usize = 256 * 1024;

/// A corpus on disk with its right answers.
#[derive(Debug)]
pub struct Corpus {
    /// Which workload.
    pub kind: Kind,
    /// Its options.
    pub options: WorkloadOptions,
    /// The JSON lines.
    pub path: PathBuf,
    /// What is asked about it.
    pub questions: Vec<Question>,
    /// What a correct store answers.
    pub facts: Facts,
}

/// Writes every record to `out` and returns the right answers to `questions`; `progress` hears the
/// bytes written so far.
///
/// # Errors
/// What `out` fails with.
pub fn write(
    kind: Kind,
    options: WorkloadOptions,
    questions: Vec<Question>,
    out: &mut impl Write,
    mut progress: impl FnMut(u64),
) -> anyhow::Result<Facts> {
    let mut generator = kind.generator(options);
    let mut oracle = Oracle::new(questions);
    let mut chunk = Vec::with_capacity(CHUNK_BYTES + 8192);
    let mut written_bytes = 0;
    loop {
        let start = chunk.len();
        let more = generator.next_line(&mut chunk);
        if more {
            oracle.observe(&chunk[start..])?;
            if chunk.len() < CHUNK_BYTES {
                continue;
            }
        } else if chunk.is_empty() {
            return Ok(oracle.finish());
        }
        out.write_all(&chunk)?;
        written_bytes += chunk.len() as u64;
        progress(written_bytes);
        chunk.clear();
    }
}

#[derive(Serialize, Deserialize)]
struct Sidecar {
    /// The questions as they were asked: changed ones need new facts.
    questions: String,
    facts: Facts,
}

/// The corpus of these options in `dir`: the one that is there, or a new one.
///
/// # Errors
/// When `dir` cannot be written to.
pub fn cached(
    dir: &Path,
    kind: Kind,
    options: &WorkloadOptions,
    progress: impl FnMut(u64),
) -> anyhow::Result<Corpus> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let stem = format!(
        "{}-g{}-{}-seed{}-{}s-{}",
        kind.name(),
        kind.generation(),
        options.records,
        options.seed,
        options.span.as_secs(),
        options.start_ns / 1_000_000_000,
    );
    let path = dir.join(format!("{stem}.jsonl"));
    let sidecar_path = dir.join(format!("{stem}.facts.json"));
    let questions = kind.questions(options);
    let asked = format!("{questions:?}");
    let corpus = |facts| Corpus {
        kind,
        options: options.clone(),
        path: path.clone(),
        questions: questions.clone(),
        facts,
    };
    if let Some(facts) = read_sidecar(&path, &sidecar_path, &asked) {
        return Ok(corpus(facts));
    }
    let partial = dir.join(format!("{stem}.{}.partial", std::process::id()));
    let facts = File::create(&partial)
        .map_err(anyhow::Error::from)
        .and_then(|mut file| write(kind, options.clone(), questions.clone(), &mut file, progress))
        .inspect_err(|_| drop(fs::remove_file(&partial)))
        .with_context(|| format!("cannot write the corpus to {}", partial.display()))?;
    let sidecar = Sidecar { questions: asked, facts };
    fs::write(&sidecar_path, serde_json::to_vec(&sidecar)?)
        .with_context(|| format!("cannot write {}", sidecar_path.display()))?;
    fs::rename(&partial, &path)
        .with_context(|| format!("cannot rename the corpus to {}", path.display()))?;
    Ok(corpus(sidecar.facts))
}

/// The facts of a corpus that is complete and about which the same is asked.
fn read_sidecar(path: &Path, sidecar: &Path, asked: &str) -> Option<Facts> {
    let sidecar: Sidecar = serde_json::from_slice(&fs::read(sidecar).ok()?).ok()?;
    let complete = fs::metadata(path).ok()?.len() == sidecar.facts.bytes;
    (complete && sidecar.questions == asked).then_some(sidecar.facts)
}
