//! Where batches go that the server refuses for good: a file of JSON lines, one per batch, with the
//! reason and the batch itself in base64 (as `lodge_wire::agent_batch` encodes it), so that it can
//! be read, mended and sent again.
//!
//! Invariant: an appended batch is synced before [`DeadLetters::append`] returns.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lodge_record::Batch;
use lodge_wire::agent_batch;
use serde::{Deserialize, Serialize};

/// Most bytes of the file; what is refused beyond is dropped and counted.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// The dead-letter file.
#[derive(Debug, Clone)]
pub struct DeadLetters {
    path: PathBuf,
    writing: Arc<Mutex<()>>,
}

/// A batch that was refused. Persisted: the members keep their names.
#[derive(Debug, Serialize, Deserialize)]
pub struct Refusal {
    refused_at_s: u64,
    status: u16,
    reason: String,
    producer: Option<String>,
    position: Option<String>,
    records: usize,
    pub(crate) batch_base64: String,
}

impl Refusal {
    /// A refusal of `batch`, now.
    pub fn new(batch: &Batch, status: u16, reason: String) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Refusal {
            refused_at_s: now.as_secs(),
            status,
            reason,
            producer: batch.origin.map(|origin| origin.producer.to_string()),
            position: batch.position.as_ref().map(ToString::to_string),
            records: batch.rows(),
            batch_base64: STANDARD.encode(agent_batch::encode(batch).unwrap_or_default()),
        }
    }
}

impl DeadLetters {
    /// Keeps refused batches at `path`; the file is made when the first one comes.
    pub fn new(path: &Path) -> Self {
        DeadLetters { path: path.to_path_buf(), writing: Arc::default() }
    }

    /// Appends and syncs; false if the file is full.
    pub async fn append(&self, refusal: Refusal) -> io::Result<bool> {
        let this = self.clone();
        let written = tokio::task::spawn_blocking(move || this.append_blocking(&refusal));
        written.await.unwrap_or_else(|panic| Err(io::Error::other(panic)))
    }

    fn append_blocking(&self, refusal: &Refusal) -> io::Result<bool> {
        let mut line = serde_json::to_vec(refusal)?;
        line.push(b'\n');
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file: File =
            OpenOptions::new().create(true).read(true).append(true).open(&self.path)?;
        let length = file.metadata()?.len();
        if length + line.len() as u64 > FILE_BYTES_MAX {
            return Ok(false);
        }
        let mut last = [b'\n'];
        if length > 0 {
            file.read_exact_at(&mut last, length - 1)?;
        }
        if last != [b'\n'] {
            // A crash cut the last line; it must not swallow this one.
            file.write_all(b"\n")?;
        }
        file.write_all(&line)?;
        file.sync_all()?;
        Ok(true)
    }
}
