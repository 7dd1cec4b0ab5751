//! A client that sends JSON lines over several connections as fast as they are acknowledged.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;

use crate::logsql::Client;
use crate::workload::{Generator, Kind, MESSAGE_FIELD, TIME_FIELD};

/// Connections at a time.
pub(crate) const CONNECTIONS: usize = 2;
/// A request holds about so much.
const BODY_BYTES: usize = 4 << 20;

/// Where the lines come from; each call gives the next whole lines, and none at the end.
pub(crate) trait Lines: Send {
    /// The next lines.
    fn next(&mut self) -> anyhow::Result<Vec<u8>>;
}

/// The lines of a file.
pub(crate) struct FileLines {
    file: File,
    /// The beginning of a line whose end is not yet read.
    rest: Vec<u8>,
}

impl FileLines {
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| path.display().to_string())?;
        Ok(Self { file, rest: Vec::new() })
    }
}

impl Lines for FileLines {
    fn next(&mut self) -> anyhow::Result<Vec<u8>> {
        let mut lines = std::mem::take(&mut self.rest);
        (&mut self.file).take(BODY_BYTES as u64).read_to_end(&mut lines)?;
        let end = memchr::memrchr(b'\n', &lines).map_or(lines.len(), |at| at + 1);
        self.rest = lines.split_off(end);
        Ok(lines)
    }
}

/// The lines of a workload, generated as they are sent; each is shown to a closure too.
pub(crate) struct Generated<F> {
    pub(crate) generator: Box<dyn Generator + Send>,
    pub(crate) each: F,
}

impl<F: FnMut(&[u8]) -> anyhow::Result<()> + Send> Generated<F> {
    /// The next lines, of about so many bytes.
    pub(crate) fn next_of(&mut self, bytes: usize) -> anyhow::Result<Vec<u8>> {
        let mut lines = Vec::with_capacity(bytes + 8192);
        while lines.len() < bytes {
            let start = lines.len();
            if !self.generator.next_line(&mut lines) {
                break;
            }
            (self.each)(&lines[start..])?;
        }
        Ok(lines)
    }
}

impl<F: FnMut(&[u8]) -> anyhow::Result<()> + Send> Lines for Generated<F> {
    fn next(&mut self) -> anyhow::Result<Vec<u8>> {
        self.next_of(BODY_BYTES)
    }
}

/// Sends everything; returns the bytes sent when the last request is acknowledged. `stop` ends it
/// early. Any refusal is an error.
pub(crate) async fn send(
    client: &Client,
    kind: Kind,
    lines: &Mutex<impl Lines>,
    sent_bytes: &AtomicU64,
) -> anyhow::Result<()> {
    let streams = kind.stream_fields().join(",");
    let args = [
        ("_stream_fields", streams.as_str()),
        ("_msg_field", MESSAGE_FIELD),
        ("_time_field", TIME_FIELD),
    ];
    let connection = || async {
        loop {
            let body = match lines.lock() {
                Ok(mut lines) => lines.next()?,
                Err(_) => anyhow::bail!("the other connection failed"),
            };
            if body.is_empty() {
                return Ok(());
            }
            let bytes = body.len() as u64;
            client.post("/insert/jsonline", &args, body).await?;
            sent_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    };
    const { assert!(CONNECTIONS == 2) };
    tokio::try_join!(connection(), connection())?;
    Ok(())
}
