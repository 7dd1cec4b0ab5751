//! Records on their way into the spool: parsed, gathered for a moment, made durable.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lodge_record::builder::BatchBuilder;
use lodge_record::{Account, Batch, TenantId};
use lodge_spool::AppendError;
use lodge_wire::agent_batch;
use lodge_wire::encoding::compress_zstd;

use super::{Parts, Queue, RETRY};
use crate::counters::Counters;
use crate::listen::config::{ListenSource, WhenFull};
use crate::parse::format::Format;
use crate::parse::{Context, RecordParser, Text};
use crate::pipeline::Pipeline;
use crate::reader::now_ns;
use crate::timestamp::TimeContext;

/// A batch goes into the spool when its values take this many bytes.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// How long the first record of a batch waits for company.
pub(super) const LINGER: Duration = Duration::from_millis(100);
/// How often a failing disk is tried before a listener that may drop does so.
const ATTEMPTS_MAX: u32 = 5;

/// One listener's way into its spool; shared by its connections.
pub(super) struct Intake {
    gathering: Mutex<Gathering>,
    /// Held while a batch goes to the disk, so that batches stay in order.
    writing: tokio::sync::Mutex<()>,
    queue: Arc<Queue>,
    pipeline: Arc<Pipeline>,
    counters: Arc<Counters>,
    when_full: WhenFull,
    format: Format,
    /// The agent stops and has waited long enough for the disk.
    is_late: AtomicBool,
}

struct Gathering {
    parser: RecordParser,
    builder: BatchBuilder,
    account: Account,
    time: TimeContext,
}

impl Intake {
    pub(super) fn new(
        source: &ListenSource,
        parser: RecordParser,
        queue: Arc<Queue>,
        parts: &Parts,
    ) -> Self {
        let gathering = Gathering {
            parser,
            builder: BatchBuilder::new(),
            account: Account::default(),
            time: TimeContext::system(now_ns()),
        };
        Intake {
            gathering: Mutex::new(gathering),
            writing: tokio::sync::Mutex::default(),
            queue,
            pipeline: Arc::clone(&parts.pipeline),
            counters: Arc::clone(&parts.counters),
            when_full: source.when_full,
            format: source.format,
            is_late: AtomicBool::new(false),
        }
    }

    /// Takes a record in; `client` is who sent it. True when a batch is full: then [`Self::flush`].
    pub(super) fn take(&self, text: Text<'_>, client: Option<&str>) -> bool {
        let mut gathering = self.gathering.lock().unwrap_or_else(PoisonError::into_inner);
        let Gathering { parser, builder, account, time } = &mut *gathering;
        time.now_ns = now_ns();
        let context = Context { time: time.clone(), counters: &self.counters };
        parser.sent_by(client);
        parser.append(builder, text, &context);
        account.read_records += 1;
        self.counters.read_lines.increment();
        self.counters.read_bytes.add(text.original_bytes);
        builder.bytes() >= BATCH_BYTES_MAX
    }

    /// Counts records that never came in.
    pub(super) fn missed(&self, records: u64, reason: &str) {
        self.counters.dropped_records_listen.add(records);
        let mut gathering = self.gathering.lock().unwrap_or_else(PoisonError::into_inner);
        gathering.account.read_records += records;
        gathering.account.drop_records(reason, records);
    }

    /// Whether syslog is spoken.
    pub(super) fn is_syslog(&self) -> bool {
        self.format == Format::Syslog
    }

    /// Puts what was gathered into the spool; returns when it is durable there, or was dropped.
    pub(super) async fn flush(self: &Arc<Self>) {
        let intake = Arc::clone(self);
        // In a task of its own: a caller that is cancelled must not take records with it.
        let written = tokio::spawn(async move { intake.write().await });
        written.await.expect("writing to the spool does not panic");
    }

    async fn write(&self) {
        let _in_order = self.writing.lock().await;
        let Some((frame, account)) = self.gathered().await else { return };
        let mut failures = 0;
        loop {
            let bytes = frame.clone();
            let written = self.queue.with(move |spool| {
                spool.append(&bytes)?;
                spool.sync()?;
                Ok::<_, AppendError>(())
            });
            let (reason, error) = match written.await {
                Ok(()) => {
                    self.queue.grown.notify_one();
                    return;
                }
                Err(error @ AppendError::Full { .. }) => ("spool full", error),
                Err(error @ AppendError::TooLarge { .. }) => ("too large for the spool", error),
                Err(error) => ("spool cannot be written", error),
            };
            if failures == 0 {
                tracing::warn!(%error, "records wait for the spool");
                self.counters.spool_waits.increment();
            }
            failures += 1;
            let gives_up = match error {
                AppendError::Full { .. } => self.when_full == WhenFull::Drop,
                AppendError::TooLarge { .. } => true,
                AppendError::NotDurable(_) => {
                    self.when_full == WhenFull::Drop && failures >= ATTEMPTS_MAX
                }
            };
            if gives_up || self.is_late.load(Ordering::Relaxed) {
                return self.give_up(&account, reason);
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// The batch as a frame, and its account; none if nothing was gathered.
    async fn gathered(&self) -> Option<(Arc<[u8]>, Account)> {
        let (mut builder, account) = {
            let mut gathering = self.gathering.lock().unwrap_or_else(PoisonError::into_inner);
            if gathering.account == Account::default() {
                return None;
            }
            (
                std::mem::replace(&mut gathering.builder, BatchBuilder::new()),
                std::mem::take(&mut gathering.account),
            )
        };
        let mut account = account;
        let pipeline = Arc::clone(&self.pipeline);
        let processed = tokio::task::spawn_blocking(move || {
            let records = builder.finish().expect("a builder's columns have the shape of a batch");
            pipeline.apply(records)
        });
        let processed = processed.await.expect("the pipeline does not panic");
        self.counters.dropped_records_rules.add(processed.dropped_records());
        processed.tell(&mut account);
        let (said, records) = (account.clone(), processed.records);
        let encoded = tokio::task::spawn_blocking(move || {
            let mut batch = Batch::new(TenantId::default(), None, None, records)
                .expect("the builder gives the shape that a batch has");
            batch.account = Some(Box::new(said));
            let bytes = agent_batch::encode(&batch).expect("Arrow writes a checked batch");
            compress_zstd(&bytes).expect("zstd compresses into memory")
        });
        let frame = encoded.await.expect("encoding a checked batch does not panic");
        Some((frame.into(), account))
    }

    /// Drops a batch; the next one tells the ledger.
    fn give_up(&self, account: &Account, reason: &str) {
        let lost = account.read_records.saturating_sub(account.dropped_records());
        tracing::error!(records = lost, reason, "records are dropped");
        self.counters.dropped_records_listen.add(lost);
        let mut gathering = self.gathering.lock().unwrap_or_else(PoisonError::into_inner);
        let next = &mut gathering.account;
        next.read_records += account.read_records;
        account.dropped.iter().for_each(|(why, count)| next.drop_records(why, *count));
        next.drop_records(reason, lost);
    }

    /// Puts the rest into the spool. What cannot be written then is lost with the process.
    pub(super) async fn finish(self: &Arc<Self>) {
        /// How long a stopping agent waits for a disk that takes nothing.
        const LAST_WAIT: Duration = Duration::from_secs(5);
        if tokio::time::timeout(LAST_WAIT, self.flush()).await.is_err() {
            self.is_late.store(true, Ordering::Relaxed);
            tracing::error!("stopping with records that the spool did not take; they are lost");
        }
    }
}
