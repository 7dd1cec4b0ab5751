//! What the runner asks of a store that it measures.

use std::time::Duration;

use crate::check::Row;
use crate::corpus::Corpus;
use crate::process::Usage;
use crate::question::Question;

/// What it took to store a corpus.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ingested {
    /// Until the client had its last acknowledgement.
    pub(crate) acknowledged: Duration,
    /// Until everything had its final form and the store was at rest.
    pub(crate) settled: Duration,
    /// What the client used, where there is one beside the store.
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

    /// How it is set up and reached, for the report.
    fn setup(&self) -> &str;

    /// Stores the corpus; returns when all of it is durable and in its final form.
    async fn ingest(&mut self, corpus: &Corpus) -> anyhow::Result<Ingested>;

    /// The question in the target's language, or none when it cannot answer such a question.
    fn translate(&self, question: &Question) -> Option<String>;

    /// Asks and reads the whole answer; this is what is timed.
    async fn ask(&mut self, question: &Question) -> anyhow::Result<Vec<u8>>;

    /// The answer as rows.
    fn read(&self, question: &Question, answer: &[u8]) -> anyhow::Result<Vec<Row>>;

    /// What its processes have used so far.
    fn usage(&self) -> anyhow::Result<Usage>;

    /// Size of all its files.
    fn disk_bytes(&self) -> anyhow::Result<u64>;

    /// Ends it in good order.
    async fn stop(self);
}
