//! The systemd journal as a source, read through `journalctl -o export`.
//!
//! The journal's cursor is the position. Invariants: one batch is in flight and nothing is read
//! meanwhile, so the pipe from journalctl is what holds the rest back; after an adopted
//! position journalctl is started again behind it.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use lodge_record::builder::BatchBuilder;
use lodge_record::{Account, Batch, Position, ProducerId, Tally, TenantId};
use lodge_wire::journal_export::{EntryRows, ExportError, Parser};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::account::carry_refused;
use crate::config::{AgentConfig, Start};
use crate::counters::Counters;
use crate::pipeline::Pipeline;
use crate::reader::now_ns;
use crate::sequence::{Reply, Sequence, ServerState, Step};
use crate::ship::Shipper;
use crate::state::{JournalCheckpoint, StateDir};

/// A batch is sent when its values take this many bytes.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// How long the first entry of a batch waits for company.
const LINGER: Duration = Duration::from_millis(100);
/// Pause before journalctl is started again when it ended by itself.
const RESTART_PAUSE: Duration = Duration::from_secs(5);
const READ_BYTES: usize = 64 << 10;

/// The journal source.
pub struct Journal {
    config: Arc<AgentConfig>,
    state: Arc<StateDir>,
    shipper: Arc<Shipper>,
    pipeline: Arc<Pipeline>,
    counters: Arc<Counters>,
    sequence: Sequence,
    /// Cursor behind the last entry that is done with.
    cursor: Option<String>,
    /// Cursor behind the last entry that is stored.
    base: Option<String>,
    /// What the next batch has to account for beside its own records.
    unsaid: Account,
    /// What was counted up to `base`; none while only the server knows.
    tally: Option<Tally>,
    rows: EntryRows,
}

/// Records of entries and the cursor of the last one.
struct Pending {
    builder: BatchBuilder,
    cursor: String,
}

/// Why reading stopped.
enum End {
    /// The agent stops.
    Stopped,
    /// Go on from the acknowledged cursor.
    Adopted,
    /// journalctl ended.
    Exited,
}

/// Whether this machine has a journal that could be read.
pub fn is_here() -> bool {
    ["/var/log/journal", "/run/log/journal"]
        .iter()
        .any(|folder| std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()))
}

impl Journal {
    /// The journal of this machine, from where an earlier run stopped.
    pub fn new(
        config: Arc<AgentConfig>,
        state: Arc<StateDir>,
        shipper: Arc<Shipper>,
        pipeline: Arc<Pipeline>,
        counters: Arc<Counters>,
    ) -> Self {
        let producer = ProducerId::derive(&[&state.agent().to_bytes(), b"journal"]);
        let checkpoint = state.load_journal();
        let known = checkpoint.cursor.is_some();
        let sequence = if known {
            Sequence::resume(producer, checkpoint.epoch, checkpoint.seq)
        } else {
            Sequence::unknown(producer)
        };
        let rows = EntryRows::new(Some(&config.host), &config.journal.labels);
        let (cursor, base) = (checkpoint.cursor, checkpoint.base);
        let base = base.or_else(|| cursor.clone());
        let unsaid = checkpoint.unsaid.unwrap_or_default();
        let tally = if known { checkpoint.tally } else { Some(Tally::default()) };
        Journal {
            config,
            state,
            shipper,
            pipeline,
            counters,
            sequence,
            cursor,
            base,
            unsaid,
            tally,
            rows,
        }
    }

    /// Reads and ships until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        if self.cursor.is_none() {
            let Some(known) = self.shipper.recall(self.sequence.producer()).await else { return };
            if let Some(known) = known {
                self.sequence.recall(&known);
                self.tally = Some(known.tally());
                self.base.clone_from(&known.position);
                self.cursor = known.position;
            }
        } else if self.tally.is_none() {
            self.recount().await;
        }
        while !stop.is_cancelled() {
            let mut child = match self.start() {
                Ok(child) => child,
                Err(error) => {
                    tracing::warn!(%error, "journalctl cannot be started; the journal is left out");
                    return;
                }
            };
            let end = self.follow(&mut child, &stop).await;
            if let Err(error) = child.kill().await {
                tracing::debug!(%error, "journalctl had ended");
            }
            match end {
                End::Stopped => return,
                End::Adopted => {}
                End::Exited => {
                    tracing::warn!("journalctl ended; starting it again");
                    tokio::select! {
                        () = tokio::time::sleep(RESTART_PAUSE) => {}
                        () = stop.cancelled() => return,
                    }
                }
            }
        }
    }

    fn start(&self) -> std::io::Result<Child> {
        let program = self.config.journal.program.as_deref();
        let mut command = Command::new(program.unwrap_or(Path::new("journalctl")));
        command.args(["--output=export", "--all", "--quiet", "--follow"]);
        match (&self.cursor, self.config.journal.start) {
            (Some(cursor), _) => {
                command.arg("--no-tail").arg(format!("--after-cursor={cursor}"));
            }
            (None, Start::Beginning) => {
                command.args(["--no-tail", "--boot"]);
            }
            (None, Start::End) => {
                command.arg("--lines=0");
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        command.kill_on_drop(true).spawn()
    }

    /// Reads entries and ships them until something ends it.
    async fn follow(&mut self, child: &mut Child, stop: &CancellationToken) -> End {
        let Some(mut output) = child.stdout.take() else { return End::Exited };
        let mut parser = Parser::default();
        let mut bytes = vec![0u8; READ_BYTES];
        loop {
            let mut pending = None;
            let mut deadline = Instant::now() + Duration::from_secs(3600);
            loop {
                match self.take_entries(&mut parser, &mut pending) {
                    Ok(true) => break,
                    Ok(false) => {}
                    Err(error) => {
                        tracing::error!(%error, "journalctl's output cannot be read");
                        return End::Exited;
                    }
                }
                if pending.is_some() {
                    deadline = deadline.min(Instant::now() + LINGER);
                }
                let read = tokio::select! {
                    read = timeout_at(deadline, output.read(&mut bytes)) => read,
                    () = stop.cancelled() => return End::Stopped,
                };
                match read {
                    Err(_) => break,
                    Ok(Ok(length)) if length > 0 => {
                        parser.push(bytes.get(..length).unwrap_or_default());
                    }
                    Ok(_) if pending.is_some() => break,
                    Ok(_) => return End::Exited,
                }
            }
            if let Some(pending) = pending
                && let Some(end) = self.ship(pending).await
            {
                return end;
            }
        }
    }

    /// Takes the parsed entries into `pending`; true when that is full.
    fn take_entries(
        &mut self,
        parser: &mut Parser,
        pending: &mut Option<Pending>,
    ) -> Result<bool, ExportError> {
        while let Some(entry) = parser.next_entry()? {
            let Some(cursor) = entry.text("__CURSOR") else { continue };
            let pending = pending.get_or_insert_with(|| Pending {
                builder: BatchBuilder::new(),
                cursor: String::new(),
            });
            pending.cursor = cursor.to_owned();
            self.rows.append(&mut pending.builder, &entry, now_ns());
            self.counters.read_lines.increment();
            let size: usize = entry.fields.iter().map(|f| f.name.len() + f.value.len()).sum();
            self.counters.read_bytes.add(size as u64);
            if pending.builder.bytes() >= BATCH_BYTES_MAX {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Ships one batch and takes in the answer; what ends the present reading, if anything.
    async fn ship(&mut self, mut pending: Pending) -> Option<End> {
        let records = match pending.builder.finish() {
            Ok(records) => records,
            Err(error) => {
                tracing::error!(%error, "journal entries cannot be put into a batch");
                return Some(End::Exited);
            }
        };
        let processed = self.pipeline.apply(records);
        self.counters.dropped_records_rules.add(processed.dropped_records());
        self.unsaid.read_records += processed.dropped_records();
        processed.tell(&mut self.unsaid);
        let records = processed.records;
        if records.num_rows() == 0 {
            self.stand_behind(pending.cursor);
            return None;
        }
        let position = match Position::new(pending.cursor.clone()) {
            Ok(position) => position,
            Err(error) => {
                tracing::error!(%error, "the journal's cursor cannot be kept");
                return Some(End::Exited);
            }
        };
        let rows = records.num_rows() as u64;
        self.counters.sent_records.add(rows);
        let mut account = std::mem::take(&mut self.unsaid);
        account.agent = self.state.agent().to_string();
        account.host.clone_from(&self.config.host);
        account.source = "journal".to_owned();
        account.from.clone_from(&self.base);
        account.before = self.tally.clone().map(Box::new);
        account.read_records += rows;
        loop {
            let mut batch = Batch::new(
                TenantId::default(),
                Some(self.sequence.next()),
                Some(position.clone()),
                records.clone(),
            )
            .expect("the builder gives the shape that a batch has");
            batch.account = Some(Box::new(account.clone()));
            let Some(reply) = self.shipper.ship(&batch).await else { return Some(End::Stopped) };
            match self.sequence.answered(position.as_str(), &reply) {
                Step::Resend => self.counters.gaps.increment(),
                Step::Acknowledged => {
                    self.counters.acknowledged_records.add(rows);
                    match (&reply, &mut self.tally) {
                        (Reply::Committed(_), Some(tally)) => tally.add(&account, rows),
                        (Reply::Committed(_), None) => {}
                        _ => self.recount().await,
                    }
                    self.base = Some(pending.cursor.clone());
                    self.stand_behind(pending.cursor);
                    return None;
                }
                Step::MoveOn => {
                    let from = self.base.clone().unwrap_or_default();
                    let ends = (from, pending.cursor.clone());
                    self.unsaid = carry_refused(account, Account::default(), ends, rows);
                    self.stand_behind(pending.cursor);
                    return None;
                }
                Step::Adopt(cursor) => {
                    self.recount().await;
                    self.base = Some(cursor.clone());
                    self.stand_behind(cursor);
                    return Some(End::Adopted);
                }
            }
        }
    }

    /// Takes over what the ledger has counted: of what was stored before its answer was lost only
    /// the server knows what it was told.
    async fn recount(&mut self) {
        let known = self.shipper.recall(self.sequence.producer()).await;
        self.tally =
            known.map(|known| known.as_ref().map_or_else(<_>::default, ServerState::tally));
    }

    fn stand_behind(&mut self, cursor: String) {
        self.cursor = Some(cursor);
        let is_beyond = self.base != self.cursor;
        let checkpoint = JournalCheckpoint {
            epoch: self.sequence.epoch(),
            seq: self.sequence.acked(),
            cursor: self.cursor.clone(),
            base: self.base.clone().filter(|_| is_beyond),
            unsaid: is_beyond.then(|| self.unsaid.clone()),
            tally: self.tally.clone(),
            ..JournalCheckpoint::default()
        };
        if let Err(error) = self.state.save_journal(checkpoint) {
            tracing::error!(%error, "cannot write the journal's checkpoint");
        }
    }
}
