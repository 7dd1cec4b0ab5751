//! What the runner asks of a store that it measures.

use std::time::Duration;

use crate::classes::{Class, Row};
use crate::corpus::Corpus;
use crate::process::Usage;
use crate::workload::Facts;

/// What it took to store a corpus.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ingested {
    /// Until the client had its last acknowledgement.
    pub(crate) acknowledged: Duration,
    /// Until everything had its final form and the store was at rest.
    pub(crate) settled: Duration,
    /// What the client used, if it is a process of its own.
    pub(crate) client: Usage,
    /// What the store used.
    pub(crate) server: Usage,
    /// Its files right after it came to rest, superseded ones included.
    pub(crate) disk_bytes: u64,
}

/// A store that runs, empty at first.
pub(crate) trait Target {
    /// Its name and version.
    fn version(&self) -> &str;

    /// Stores the corpus; returns when all of it is durable and in its final form.
    async fn ingest(&mut self, corpus: &Corpus) -> anyhow::Result<Ingested>;

    /// The question of a class in the target's language, for the report.
    fn question(&self, class: Class, facts: &Facts) -> String;

    /// Asks it and reads the whole answer; this is what is timed.
    async fn ask(&self, class: Class, facts: &Facts) -> anyhow::Result<Vec<u8>>;

    /// The answer as rows.
    fn read(&self, class: Class, answer: &[u8]) -> anyhow::Result<Vec<Row>>;

    /// What its processes have used so far.
    fn usage(&self) -> anyhow::Result<Usage>;

    /// Size of all its files.
    fn disk_bytes(&self) -> anyhow::Result<u64>;
}
