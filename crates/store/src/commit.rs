//! The one way in: a group of batches becomes durable.
//!
//! ```text
//!  judge each batch ─► encode one L0 object ─► put, synced ─► ONE transaction ─► Committed
//!        ▲                                                        │ a producer was advanced
//!        └────────────────────────────────────────────────────────┘ by another meanwhile
//! ```
//!
//! Invariants:
//! - a [`Committed`] is made only after the transaction, or for a batch that a former transaction
//!   holds;
//! - the batches of a group are judged in their order, each against the state that those before it
//!   will have made;
//! - whatever fails, the object is at most an orphan.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use lodge_record::{Batch, Origin, Position, ProducerId, TenantId};
use lodge_segment::{Words, l0};

use crate::catalog::{Applied, NewSegment, Producer, ProducerAdvance};
use crate::hot::HotBlocks;
use crate::ledger::{LedgerEntry, Stretch};
use crate::producer::{ProducerState, Verdict, judge};
use crate::read::BlockInfo;
use crate::store::{Store, now_ms, object_key};
use crate::worker::Begun;
use crate::{CommitError, StoreError};

/// A transaction is tried so often while other writers advance the same producers.
const ATTEMPTS_MAX: u32 = 8;

/// Room in an object for what surrounds its records.
const OBJECT_EXTRA_BYTES: usize = 64 << 10;

/// Proof that a batch is durable. Only [`Store::commit`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    origin: Option<Origin>,
    position: Option<Position>,
    records: u64,
    duplicate: bool,
}

impl Committed {
    /// The producer and its sequence: that of this batch, or for a duplicate the highest committed;
    /// `None` for a batch without an origin.
    pub fn origin(&self) -> Option<Origin> {
        self.origin
    }

    /// The position stored with that sequence.
    pub fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// Records that this batch added: 0 for a duplicate.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Whether the batch had been stored before.
    pub fn is_duplicate(&self) -> bool {
        self.duplicate
    }
}

/// What became of one batch of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is durable, now or since an earlier attempt.
    Committed(Committed),
    /// Earlier batches of its producer are missing; nothing of it was stored.
    Gap(ProducerState),
    /// Its epoch has ended; nothing of it was stored.
    StaleEpoch(ProducerState),
}

type ProducerKey = (TenantId, ProducerId);

/// A producer within a group: as the catalog has it, and as it will be after the batches so far.
#[derive(Debug, Default)]
struct Standing {
    committed: Option<ProducerState>,
    now: Option<ProducerState>,
    /// Its entry in the ledger, and whether the group changes it.
    entry: Option<LedgerEntry>,
    is_accounted: bool,
    /// From when it may be forgotten.
    forget_ms: Option<i64>,
    /// Holes without a reason that the group brings.
    unexplained: u64,
}

impl Standing {
    fn of(producer: Option<Producer>) -> Self {
        let Producer { state, entry } = match producer {
            Some(known) => known,
            None => return Self::default(),
        };
        Self { committed: Some(state.clone()), now: Some(state), entry, ..Self::default() }
    }

    /// Takes the next batch in.
    fn advance(&mut self, batch: &Batch, origin: Origin, now_ms: i64) {
        let before = self.now.take().and_then(|state| state.position);
        if let Some(account) = &batch.account {
            let stretch = Stretch {
                account,
                committed: before.as_ref(),
                position: batch.position.as_ref(),
                rows: batch.rows() as u64,
                now_ms,
            };
            let entry = self.entry.take().unwrap_or_default();
            let after = entry.after(&stretch);
            self.unexplained += after.unexplained_total - entry.unexplained_total;
            self.entry = Some(after);
            self.is_accounted = true;
        }
        self.forget_ms = batch.forget_ms;
        let position = batch.position.clone().or(before);
        self.now = Some(ProducerState { epoch: origin.epoch, seq: origin.seq, position });
    }
}

/// A group, judged.
struct Judged {
    verdicts: Vec<Verdict>,
    standings: HashMap<ProducerKey, Standing>,
}

fn key_of(batch: &Batch) -> Option<ProducerKey> {
    batch.origin.map(|origin| (batch.tenant.clone(), origin.producer))
}

/// Judges the batches of a group in their order.
fn judge_group(group: &[Batch], mut standings: HashMap<ProducerKey, Standing>) -> Judged {
    let now_ms = now_ms();
    let mut verdicts = Vec::with_capacity(group.len());
    for batch in group {
        let (Some(key), Some(origin)) = (key_of(batch), batch.origin) else {
            verdicts.push(Verdict::New);
            continue;
        };
        let standing = standings.entry(key).or_default();
        let verdict = judge(standing.now.as_ref(), &origin);
        if verdict == Verdict::New {
            standing.advance(batch, origin, now_ms);
        }
        verdicts.push(verdict);
    }
    Judged { verdicts, standings }
}

impl Judged {
    fn advances(&self) -> Vec<ProducerAdvance> {
        let mut advances: Vec<ProducerAdvance> = self
            .standings
            .iter()
            .filter(|(_, s)| s.now != s.committed)
            .filter_map(|((tenant, producer), standing)| {
                Some(ProducerAdvance {
                    tenant: tenant.clone(),
                    producer: *producer,
                    from: standing.committed.as_ref().map(|s| (s.epoch, s.seq)),
                    to: standing.now.clone()?,
                    entry: standing.entry.clone().filter(|_| standing.is_accounted),
                    forget_ms: standing.forget_ms,
                })
            })
            .collect();
        // In one order everywhere, so that two transactions never wait for each other.
        advances.sort_by(|a, b| (&a.tenant, a.producer).cmp(&(&b.tenant, b.producer)));
        advances
    }

    fn outcomes(&self, group: &[Batch]) -> Vec<Outcome> {
        let state = |batch: &Batch| {
            let standing = key_of(batch).and_then(|key| self.standings.get(&key));
            standing.and_then(|s| s.now.clone()).unwrap_or_default()
        };
        let outcome = |(batch, verdict): (&Batch, &Verdict)| match verdict {
            Verdict::New => Outcome::Committed(Committed {
                origin: batch.origin,
                position: batch.position.clone(),
                records: batch.rows() as u64,
                duplicate: false,
            }),
            Verdict::Duplicate => {
                let state = state(batch);
                let origin = batch.origin.map(|origin| Origin {
                    producer: origin.producer,
                    epoch: state.epoch,
                    seq: state.seq,
                });
                let (records, duplicate) = (0, true);
                Outcome::Committed(Committed {
                    origin,
                    position: state.position,
                    records,
                    duplicate,
                })
            }
            Verdict::Gap => Outcome::Gap(state(batch)),
            Verdict::StaleEpoch => Outcome::StaleEpoch(state(batch)),
        };
        group.iter().zip(&self.verdicts).map(outcome).collect()
    }
}

/// An L0 object before it is put.
struct Encoded {
    bytes: Bytes,
    sections: Vec<(TenantId, l0::Section)>,
}

/// `bytes_expected` is about how many it will be: growing means copying.
fn encode(
    by_tenant: Vec<(TenantId, Vec<RecordBatch>)>,
    bytes_expected: usize,
) -> Result<Encoded, StoreError> {
    let mut bytes = Vec::with_capacity(bytes_expected);
    let mut sections = Vec::with_capacity(by_tenant.len());
    for (tenant, batches) in by_tenant {
        let section = l0::append(&mut bytes, &batches).map_err(StoreError::Encode)?;
        sections.push((tenant, section));
    }
    Ok(Encoded { bytes: bytes.into(), sections })
}

fn new_segments(encoded: &Encoded, key: &Arc<str>) -> Vec<NewSegment> {
    let created_ms = now_ms();
    let segment = |(tenant, section): &(TenantId, l0::Section)| NewSegment {
        tenant: tenant.clone(),
        level: 0,
        object_key: Arc::clone(key),
        object_offset: section.info.offset,
        bytes: section.info.len,
        rows: section.info.rows,
        arrow_bytes: section.info.arrow_bytes,
        time_min_ns: section.info.time_min_ns,
        time_max_ns: section.info.time_max_ns,
        schema: Arc::clone(&section.info.schema),
        streams: section.info.streams.clone().map(Into::into),
        created_ms,
    };
    encoded.sections.iter().map(segment).collect()
}

fn hot_blocks(section: l0::Section, words: Words) -> HotBlocks {
    let bytes = section.info.arrow_bytes as usize + words.memory_bytes();
    let times = section.times;
    let infos = section
        .blocks
        .iter()
        .zip(times)
        .map(|(batch, (time_min_ns, time_max_ns))| BlockInfo {
            rows: batch.num_rows(),
            time_min_ns,
            time_max_ns,
        })
        .collect();
    HotBlocks { batches: section.blocks, infos, words, bytes }
}

fn refused(error: StoreError) -> CommitError {
    match error {
        StoreError::DiskFull { free_bytes, reserve_bytes } => {
            CommitError::DiskFull { free_bytes, reserve_bytes }
        }
        other => CommitError::Store(other),
    }
}

impl Store {
    /// Makes a group of batches durable: one L0 object and one transaction for all of them. Gives
    /// one [`Outcome`] for each batch, in their order. On an error none of them is known to be
    /// stored.
    pub async fn commit(&self, group: Vec<Batch>) -> Result<Vec<Outcome>, CommitError> {
        let done = self.try_commit(&group).await;
        match &done {
            Ok(outcomes) => self.counters.count_outcomes(outcomes),
            Err(error) => {
                let full = match error {
                    CommitError::DiskFull { .. } => true,
                    CommitError::Store(e) | CommitError::Unknown(e) => e.is_disk_full(),
                    CommitError::Contended { .. } => false,
                };
                self.counters.count_failure(full);
            }
        }
        // SQLite and the file system may notice a full disk before the reserve does.
        done.map_err(|error| match error {
            CommitError::Store(e) if e.is_disk_full() => CommitError::DiskFull {
                free_bytes: self.space.free_bytes(),
                reserve_bytes: self.space.reserve_bytes(),
            },
            other => other,
        })
    }

    async fn try_commit(&self, group: &[Batch]) -> Result<Vec<Outcome>, CommitError> {
        for attempt in 0..ATTEMPTS_MAX {
            if attempt > 0 {
                self.counters.conflict();
            }
            let judged = self.judge(group).await?;
            if !judged.verdicts.contains(&Verdict::New) {
                return Ok(judged.outcomes(group));
            }
            if self.commit_judged(group, &judged).await? {
                self.report_unexplained(&judged);
                return Ok(judged.outcomes(group));
            }
        }
        Err(CommitError::Contended { attempts: ATTEMPTS_MAX })
    }

    /// Something of a source is missing and no one has said why: that is for people to look into.
    fn report_unexplained(&self, judged: &Judged) {
        for ((_, producer), standing) in &judged.standings {
            if let (Some(entry), true) = (&standing.entry, standing.unexplained > 0) {
                self.counters.unexplained(standing.unexplained);
                let hole = entry.holes.iter().rev().find(|kept| kept.unexplained);
                tracing::error!(%producer, host = entry.host, source = entry.source,
                    hole = ?hole.map(|kept| &kept.hole),
                    "records of a source are missing and no reason is known; see `lodge ledger`");
            }
        }
    }

    async fn judge(&self, group: &[Batch]) -> Result<Judged, StoreError> {
        let mut wanted: Vec<ProducerKey> = group.iter().filter_map(key_of).collect();
        wanted.sort();
        wanted.dedup();
        let states = match wanted.is_empty() {
            true => Vec::new(),
            false => self.catalog.producers(&wanted).await?,
        };
        let standings = wanted.into_iter().zip(states.into_iter().map(Standing::of)).collect();
        Ok(judge_group(group, standings))
    }

    /// Stores the new batches of a judged group; `false` if a producer was advanced meanwhile, and
    /// then nothing was stored.
    async fn commit_judged(&self, group: &[Batch], judged: &Judged) -> Result<bool, CommitError> {
        let mut by_tenant: HashMap<TenantId, Vec<RecordBatch>> = HashMap::new();
        let mut bytes = 0;
        for (batch, verdict) in group.iter().zip(&judged.verdicts) {
            if *verdict == Verdict::New && batch.rows() > 0 {
                bytes += batch.bytes();
                by_tenant.entry(batch.tenant.clone()).or_default().push(batch.records().clone());
            }
        }
        self.space.check(0, false).map_err(refused)?;
        let advances = judged.advances();
        let requests = advances.iter().filter(|a| a.forget_ms.is_some() && a.from.is_none());
        self.counters.remember(requests.count() as u64);
        if by_tenant.is_empty() {
            let done = self.catalog.commit(&[], &advances).await;
            return done.map(|applied| applied.is_some()).map_err(|error| match error {
                StoreError::Unsettled { .. } => CommitError::Unknown(error),
                other => CommitError::Store(other),
            });
        }
        let by_tenant = by_tenant.into_iter().collect();
        let expected = bytes + bytes / 16 + OBJECT_EXTRA_BYTES;
        let encoded = self.encoder.run(move || encode(by_tenant, expected)).await?;
        let on_disk = if self.objects.is_local() { encoded.bytes.len() as u64 } else { 0 };
        self.space.check(on_disk, false).map_err(refused)?;

        let key = object_key("l0", "l0");
        let in_flight = self.objects.begin(&key);
        fail::fail_point!("store::before_put");
        let words = self.words_of(&encoded);
        self.objects.put(&key, encoded.bytes.clone()).await?;
        fail::fail_point!("store::after_put");
        // They are there before the records can be seen.
        let words = match words {
            Some(begun) => begun.end().await?,
            None => Vec::new(),
        };
        let words = words.into_iter().chain(std::iter::repeat_with(Words::default));
        let segments = new_segments(&encoded, &key);
        fail::fail_point!("store::before_tx");
        let applied = match self.catalog.commit(&segments, &advances).await {
            Ok(Some(applied)) => applied,
            Ok(None) => {
                self.objects.delete(&key).await.ok();
                return Ok(false);
            }
            Err(error) => self.resolve_ambiguous(&key, error).await?,
        };
        fail::fail_point!("store::after_tx");
        drop(in_flight);
        self.counters.committed(&segments, encoded.bytes.len());
        let sections = encoded.sections.into_iter().map(|(_, section)| section);
        for ((segment, section), words) in applied.added.iter().zip(sections).zip(words) {
            self.hot.insert(segment.id, hot_blocks(section, words));
        }
        if self.options.builds {
            self.pending.add(&applied.added);
        }
        Ok(true)
    }

    /// Begins to make the words of what was encoded, by section, of the fields that are asked for them;
    /// `None` if there are no such fields.
    fn words_of(&self, encoded: &Encoded) -> Option<Begun<Vec<Words>>> {
        let fields = encoded.sections.iter().map(|(tenant, _)| self.asked.fields(tenant));
        let fields: Vec<Vec<String>> = fields.collect();
        if fields.iter().all(Vec::is_empty) {
            return None;
        }
        // The blocks share what they hold.
        let blocks: Vec<_> = encoded.sections.iter().map(|(_, s)| s.blocks.clone()).collect();
        let of = |(blocks, fields): (&Vec<RecordBatch>, &Vec<String>)| {
            Words::of(blocks, fields.iter().map(String::as_str))
        };
        Some(self.encoder.begin(move || Ok(blocks.iter().zip(&fields).map(of).collect())))
    }

    /// A transaction failed and may have been committed all the same: its object tells. A shared
    /// catalog has asked already, and says so where it was not answered.
    async fn resolve_ambiguous(
        &self,
        key: &str,
        error: StoreError,
    ) -> Result<Applied, CommitError> {
        if self.catalog.is_shared() && !matches!(error, StoreError::Unsettled { .. }) {
            return Err(CommitError::Store(error));
        }
        match self.catalog.settle(key).await {
            Ok(Some(added)) => Ok(Applied { version: 0, added }),
            Ok(None) => {
                // Nothing names it, and room is wanted. After another error than a full disk the
                // transaction might still be found in SQLite's journal by the next start: then the
                // object stays until the sweep asks again.
                if error.is_disk_full() {
                    self.objects.delete(key).await.ok();
                }
                Err(CommitError::Store(error))
            }
            Err(_) => Err(CommitError::Unknown(error)),
        }
    }
}
