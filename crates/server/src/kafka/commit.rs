//! From messages of a partition to an answer of the store.
//!
//! ```text
//! messages ─ decode (a thread) ─ parts ─ dead letters written ─ part submitted, until it is stored
//! ```
//!
//! Invariants: a part ends where a message ends, and its position is the next offset; what belongs
//! to dead letters is there before the part's position advances; a part that the store cannot take
//! now is submitted again, the same with the same sequence, for as long as the partition is ours.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use lodge_ingest::IngestError;
use lodge_record::builder::BatchBuilder;
use lodge_record::{Account, Batch, Hole, Origin, ProducerId, TenantId};
use lodge_wire::kafka_message::{Decoder, Format, Message};

use tokio::sync::Semaphore;

use super::dead_letters::{DeadLetterError, DeadLetters};
use super::partition::{Answer, Sent, position};
use super::status::{Shared, Tally};
use crate::app::App;
use crate::body::Reserved;
use crate::metrics::Limit;

/// Waits after failures: the first, and the longest.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// Reason in the ledger of what went to the dead letters.
const DEAD_LETTER: &str = "dead letter";

/// What is the same for all batches of a partition.
pub(super) struct Source {
    pub(super) app: Arc<App>,
    pub(super) shared: Arc<Shared>,
    pub(super) dead_letters: Option<Arc<DeadLetters>>,
    pub(super) format: Format,
    pub(super) tenant: TenantId,
    pub(super) producer: ProducerId,
    pub(super) cluster: Arc<str>,
    pub(super) group: Arc<str>,
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    /// Places among the questions to Kafka.
    pub(super) looks: Arc<Semaphore>,
}

/// Messages on their way into the store.
pub(super) struct Job {
    pub(super) source: Arc<Source>,
    pub(super) epoch: u32,
    /// Sequence of the first part.
    pub(super) seq: u64,
    /// The position that is committed.
    pub(super) committed: Option<i64>,
    /// Offsets that Kafka had deleted before they were read.
    pub(super) deleted: Option<Range<i64>>,
    pub(super) messages: Arc<Vec<Message>>,
    /// Held until all is stored.
    pub(super) _memory: Reserved,
}

/// How messages are made into records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// By their format.
    Format,
    /// As text with a reason: their records were more than the store takes in one batch.
    Text,
}

/// Messages that are stored together.
#[derive(Debug)]
struct Part {
    messages: Range<usize>,
    records: Option<RecordBatch>,
    undecoded: u64,
    set_aside: Vec<(usize, String)>,
}

/// The server is stopping.
#[derive(Debug)]
struct Stopping;

impl Job {
    /// Stores the messages; `None` if the server is stopping. `trouble` is called when the store
    /// or the topic of dead letters cannot take something now.
    pub(super) async fn run(mut self, trouble: impl Fn()) -> Option<Answer> {
        let mut todo = VecDeque::from([(0..self.messages.len(), Mode::Format)]);
        let mut last = None;
        let mut refused = false;
        while let Some((range, mode)) = todo.pop_front() {
            let sets_aside = self.source.dead_letters.is_some() && !refused;
            let parts = match self.decode(range.clone(), mode, sets_aside).await {
                Ok(parts) => parts,
                Err(error) => {
                    self.source.shared.failed(&format!("messages are no batch: {error}"));
                    trouble();
                    self.split(range, &mut todo);
                    tokio::time::sleep(RETRY_MIN).await;
                    continue;
                }
            };
            for part in parts {
                if let Err(DeadLetterError::Refused(error)) = self.letters(&part, &trouble).await {
                    self.source.shared.failed(&format!("a dead letter is kept here: {error}"));
                    refused = true;
                    todo.push_front((part.messages.start..range.end, mode));
                    break;
                }
                match self.submit(&part, &trouble).await {
                    Ok(Submitted::Answer(answer)) if self.is_expected(&answer) => {
                        self.stored(&part);
                        last = Some(answer);
                    }
                    Ok(Submitted::Answer(answer)) => return Some(answer),
                    Ok(Submitted::TooLarge) => {
                        let behind = part.messages.end..range.end;
                        if !behind.is_empty() {
                            todo.push_front((behind, mode));
                        }
                        self.split(part.messages, &mut todo);
                        break;
                    }
                    Err(Stopping) => return None,
                }
            }
        }
        last
    }

    /// Half of them first, or one alone as text.
    fn split(&self, range: Range<usize>, todo: &mut VecDeque<(Range<usize>, Mode)>) {
        if range.len() > 1 {
            let middle = range.start + range.len() / 2;
            todo.push_front((middle..range.end, Mode::Format));
            todo.push_front((range.start..middle, Mode::Format));
        } else {
            todo.push_front((range, Mode::Text));
        }
    }

    async fn decode(
        &self,
        range: Range<usize>,
        mode: Mode,
        sets_aside: bool,
    ) -> Result<Vec<Part>, String> {
        let (source, messages) = (Arc::clone(&self.source), Arc::clone(&self.messages));
        let work = self.source.app.decoders.run(move || {
            let Source { format, topic, partition, .. } = &*source;
            let decoder = Decoder::new(*format, topic, *partition, sets_aside);
            parts(decoder, &messages, range, mode).map_err(|error| error.to_string())
        });
        work.await.map_err(|error| format!("decoding died: {error}"))?
    }

    /// Writes the dead letters of a part. The only error is that the topic never takes one.
    async fn letters(&self, part: &Part, trouble: &impl Fn()) -> Result<(), DeadLetterError> {
        let Source { dead_letters, topic, partition, shared, .. } = &*self.source;
        let Some(dead_letters) = dead_letters else { return Ok(()) };
        for (index, reason) in &part.set_aside {
            let Some(message) = self.messages.get(*index) else { continue };
            let mut wait = RETRY_MIN;
            while let Err(error) = dead_letters.hand_over(topic, *partition, message, reason).await
            {
                if matches!(error, DeadLetterError::Refused(_)) {
                    return Err(error);
                }
                shared.failed(&error.to_string());
                trouble();
                wait = pause(wait).await;
            }
            shared.count(topic, Tally { dead_letters: 1, ..Tally::default() });
        }
        Ok(())
    }

    async fn submit(&mut self, part: &Part, trouble: &impl Fn()) -> Result<Submitted, Stopping> {
        let next = self.messages.get(part.messages.end - 1).map_or(0, |last| last.offset + 1);
        let batch = match self.batch(part, next) {
            Ok(batch) => batch,
            Err(error) => {
                self.source.shared.failed(&format!("messages are no batch: {error}"));
                return Ok(Submitted::TooLarge);
            }
        };
        let (app, sent) = (&self.source.app, Sent { seq: self.seq, next });
        let mut wait = RETRY_MIN;
        loop {
            let started = Instant::now();
            let error = match app.ingest.submit(batch.clone()).await {
                Ok(ack) => {
                    app.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
                    app.metrics.ingest_records.inc_by(ack.records());
                    if ack.duplicate() {
                        app.metrics.ingest_duplicates.inc();
                    }
                    let (epoch, seq) = ack.origin().map_or((0, 0), |o| (o.epoch, o.seq));
                    let position = ack.position().cloned();
                    return Ok(Submitted::Answer(Answer::Acked { sent, epoch, seq, position }));
                }
                Err(error) => error,
            };
            match error {
                IngestError::Gap { .. } => return Ok(Submitted::Answer(Answer::Gap)),
                IngestError::StaleEpoch { .. } => {
                    return Ok(Submitted::Answer(Answer::StaleEpoch));
                }
                IngestError::TooLarge { .. } => {
                    app.metrics.hit(Limit::BodyBytes);
                    return Ok(Submitted::TooLarge);
                }
                IngestError::ShuttingDown => return Err(Stopping),
                IngestError::Overloaded { .. } => app.metrics.hit(Limit::IngestQueue),
                IngestError::DiskFull { .. } => app.metrics.hit(Limit::DiskFree),
                IngestError::Store(_) => {}
            }
            self.source.shared.failed(&format!("messages wait for the store: {error}"));
            trouble();
            wait = pause(wait).await;
        }
    }

    fn batch(&self, part: &Part, next: i64) -> Result<Batch, String> {
        let Source { tenant, producer, .. } = &*self.source;
        let origin = Origin { producer: *producer, epoch: self.epoch, seq: self.seq };
        let records = match &part.records {
            Some(records) => records.clone(),
            None => BatchBuilder::new().finish().map_err(|error| error.to_string())?,
        };
        let account = self.account(part, records.num_rows() as u64);
        let mut batch = Batch::new(tenant.clone(), Some(origin), position(next), records)
            .map_err(|error| error.to_string())?;
        batch.account = Some(Box::new(account));
        Ok(batch)
    }

    /// What the ledger is told of the part.
    fn account(&self, part: &Part, rows: u64) -> Account {
        let source = &*self.source;
        let mut account = Account {
            agent: format!("kafka group {}", source.group),
            host: source.cluster.to_string(),
            source: format!("{}/{}", source.topic, source.partition),
            from: self.committed.map(|next| next.to_string()),
            read_records: rows + part.set_aside.len() as u64,
            ..Account::default()
        };
        account.drop_records(DEAD_LETTER, part.set_aside.len() as u64);
        if let Some(deleted) = &self.deleted {
            account.add_hole(Hole {
                from: deleted.start.to_string(),
                to: deleted.end.to_string(),
                reason: "deleted by Kafka before it was read".to_owned(),
                bytes: None,
                records: None,
            });
        }
        account
    }

    fn is_expected(&self, answer: &Answer) -> bool {
        let Answer::Acked { sent, epoch, seq, position: found } = answer else { return false };
        *epoch == self.epoch && *seq == sent.seq && *found == position(sent.next)
    }

    /// A part is durable: the next one follows it.
    fn stored(&mut self, part: &Part) {
        let messages = self.messages.get(part.messages.clone()).unwrap_or_default();
        let payload = |message: &Message| message.payload.as_ref().map_or(0, Vec::len) as u64;
        let tally = Tally {
            records: part.records.as_ref().map_or(0, |records| records.num_rows() as u64),
            bytes: messages.iter().map(payload).sum(),
            undecoded: part.undecoded,
            dead_letters: 0,
        };
        let Source { app, shared, topic, .. } = &*self.source;
        app.metrics.ingest_bytes.inc_by(tally.bytes);
        app.metrics.malformed_lines.inc_by(tally.undecoded);
        shared.count(topic, tally);
        self.seq += 1;
        self.committed = messages.last().map(|last| last.offset + 1);
        self.deleted = None;
    }
}

/// What became of a part.
enum Submitted {
    Answer(Answer),
    /// No batch may be so large.
    TooLarge,
}

async fn pause(wait: Duration) -> Duration {
    tokio::time::sleep(wait).await;
    (wait * 2).min(RETRY_MAX)
}

/// Decodes messages into parts of bounded size.
fn parts(
    mut decoder: Decoder,
    messages: &[Message],
    range: Range<usize>,
    mode: Mode,
) -> Result<Vec<Part>, ArrowError> {
    let mut parts = Vec::new();
    let mut part = Part::new(range.start);
    for index in range.clone() {
        let Some(message) = messages.get(index) else { break };
        if mode == Mode::Text {
            decoder.keep_as_text(message, "its records are more than a batch may hold")?;
            part.undecoded += 1;
        } else {
            let fate = decoder.message(message)?;
            part.undecoded += fate.kept_as_text;
            part.set_aside.extend(fate.set_aside.map(|reason| (index, reason)));
        }
        part.messages.end = index + 1;
        if decoder.is_full() && part.messages.end < range.end {
            part.records = decoder.finish()?;
            let next = Part::new(part.messages.end);
            parts.push(std::mem::replace(&mut part, next));
        }
    }
    part.records = decoder.finish()?;
    parts.push(part);
    Ok(parts)
}

impl Part {
    fn new(from: usize) -> Self {
        Part { messages: from..from, records: None, undecoded: 0, set_aside: Vec::new() }
    }
}
