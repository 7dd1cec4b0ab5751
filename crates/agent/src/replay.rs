//! Sends the batches of the dead-letter file again, once whatever made the server refuse them is
//! mended.
//!
//! Each batch is sent under a producer of its own that follows from its bytes, so sending the file
//! twice, or after a crash in between, stores nothing twice. What is stored leaves the file; what is
//! refused again stays, byte by byte.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lodge_record::{Batch, Origin, ProducerId, TenantId};
use lodge_wire::agent_batch;
use tokio_util::sync::CancellationToken;

use crate::config::AgentConfig;
use crate::counters::Counters;
use crate::dead_letter::{DeadLetters, Refusal};
use crate::sequence::Reply;
use crate::ship::Shipper;
use crate::state::{self, StateDir};
use crate::{AgentError, StateError};

/// What became of the dead letters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Records that are stored now.
    pub stored_records: u64,
    /// Records that were stored by an earlier replay.
    pub known_records: u64,
    /// Records that the server refused again; they are in the file.
    pub refused_records: u64,
    /// Lines that are no dead letters; they are in the file.
    pub unreadable_lines: u64,
}

/// Sends the dead letters of the agent that has `config`, which must not run meanwhile.
pub async fn replay(
    config: &AgentConfig,
    mut progress: impl FnMut(&Replayed),
) -> Result<Replayed, AgentError> {
    let state = StateDir::open(&config.state_dir, &config.host)?;
    let path = state.dead_letter_path();
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |error| AgentError::State(StateError::Io { path, error })
    };
    let file = match std::fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(<_>::default()),
        Err(error) => return Err(failed(&path)(error)),
    };
    // What is refused again goes to a file of its own, which takes the first one's place. The
    // shipper's own note of it names the producer of the replay, and is of no more use.
    let left: PathBuf = path.with_extension("jsonl.left");
    let noted: PathBuf = path.with_extension("jsonl.noted");
    std::fs::remove_file(&left).ok();
    let shipper = Shipper::new(
        &config.servers,
        &config.credentials,
        config.timing.backoff,
        DeadLetters::new(&noted),
        Arc::new(Counters::default()),
        CancellationToken::new(),
    )?;
    let mut done = Replayed::default();
    for line in BufReader::new(file).split(b'\n') {
        let line = line.map_err(failed(&path))?;
        if line.is_empty() {
            continue;
        }
        let is_done = match read_batch(&line) {
            Some(batch) => send(&shipper, batch, &mut done).await,
            None => {
                done.unreadable_lines += 1;
                false
            }
        };
        if !is_done {
            keep(&left, &line).map_err(failed(&left))?;
        }
        progress(&done);
    }
    std::fs::remove_file(&noted).ok();
    if left.exists() {
        std::fs::rename(&left, &path).map_err(failed(&path))?;
    } else {
        std::fs::remove_file(&path).map_err(failed(&path))?;
    }
    state::sync_folder(&path).map_err(failed(&path))?;
    Ok(done)
}

/// Sends a batch; whether it is stored.
async fn send(shipper: &Shipper, batch: Batch, done: &mut Replayed) -> bool {
    let rows = batch.rows() as u64;
    let (count, is_stored) = match shipper.ship(&batch).await {
        Some(Reply::Committed(_)) => (&mut done.stored_records, true),
        Some(Reply::Duplicate(_)) => (&mut done.known_records, true),
        // A producer that sends one batch has neither a gap nor a later epoch.
        Some(Reply::Refused | Reply::Gap(_) | Reply::StaleEpoch(_)) | None => {
            (&mut done.refused_records, false)
        }
    };
    *count += rows;
    is_stored
}

/// The batch of a line, under a producer that its bytes name. It has no account: the source's own
/// said that these records were refused.
fn read_batch(line: &[u8]) -> Option<Batch> {
    let refusal: Refusal = serde_json::from_slice(line).ok()?;
    let bytes = STANDARD.decode(&refusal.batch_base64).ok()?;
    let producer = ProducerId::derive(&[b"dead letter", &bytes]);
    let mut batch = agent_batch::decode(TenantId::default(), bytes.into()).ok()?;
    batch.origin = Some(Origin { producer, epoch: 1, seq: 1 });
    (batch.position, batch.account) = (None, None);
    Some(batch)
}

fn keep(path: &Path, line: &[u8]) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
    file.write_all(line)?;
    file.write_all(b"\n")?;
    file.sync_all()
}
