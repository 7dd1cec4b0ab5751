//! Batches from a spool to the server, one in flight, in their order.
//!
//! The producer's position is the place in the spool behind the batch. Invariant: the server's word
//! decides where reading goes on; the spool forgets only what the server has committed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lodge_record::{Account, Batch, Hole, ProducerId, Tally, TenantId};
use lodge_spool::{Damage, Position, Read, Reason};
use lodge_wire::agent_batch;
use lodge_wire::agent_report::LiveSource;
use lodge_wire::encoding::{Encoding, decompress};
use tokio_util::sync::CancellationToken;

use super::{Parts, Queue, RETRY};
use crate::account::carry_refused;
use crate::sequence::{Reply, Sequence, ServerState, Step};
use crate::state::ListenerCheckpoint;

/// Largest batch that a frame may unpack to.
const BATCH_BYTES_MAX: usize = 64 << 20;
/// How often what cannot be read is tried again before it is passed over.
const READ_ATTEMPTS_MAX: u32 = 5;
/// How often what was counted is written down.
const SAVE_PERIOD: Duration = Duration::from_secs(1);
/// How long nothing new is waited for before the spool is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// One listener's way from its spool to the server.
pub(super) struct Deliver {
    name: String,
    queue: Arc<Queue>,
    parts: Parts,
    sequence: Sequence,
    /// Behind the last batch that the server has committed.
    base: Option<Position>,
    /// Where to read on.
    at: Position,
    /// What the next batch has to account for beside its own.
    unsaid: Account,
    /// What was counted up to `base`; none while only the server knows.
    tally: Option<Tally>,
    saved_at: Option<Instant>,
    read_failures: u32,
    /// What was found damaged at the start and is not told yet.
    damaged: Vec<Damage>,
}

/// What was found in the spool.
enum Found {
    Batch(Box<Batch>, Position),
    Nothing,
    Again,
}

impl Deliver {
    pub(super) fn new(
        name: &str,
        producer: ProducerId,
        queue: Arc<Queue>,
        parts: &Parts,
        damaged: Vec<Damage>,
    ) -> Self {
        Deliver {
            name: name.to_owned(),
            queue,
            parts: parts.clone(),
            sequence: Sequence::unknown(producer),
            base: None,
            at: Position::START,
            unsaid: Account::default(),
            tally: Some(Tally::default()),
            saved_at: None,
            read_failures: 0,
            damaged,
        }
    }

    /// Delivers until the agent stops; when `received` is set nothing new will come, and it ends
    /// with the spool.
    pub(super) async fn run(mut self, received: CancellationToken) {
        self.deliver_all(received).await;
        self.save();
    }

    async fn deliver_all(&mut self, received: CancellationToken) {
        let shipper = Arc::clone(&self.parts.shipper);
        let Some(known) = shipper.recall(self.sequence.producer()).await else { return };
        self.take_count(known.as_ref());
        if let Some(known) = known {
            self.sequence.recall(&known);
            if let Some(position) = known.position {
                self.adopt(&position);
                // Files that were delivered may have come back with a crash.
                self.acknowledge(self.at).await;
            }
        }
        for damage in std::mem::take(&mut self.damaged) {
            // What stood before the server's position was delivered.
            if (Position { file: damage.file, offset: damage.to }) > self.at {
                self.tell_damage(&damage);
            }
        }
        loop {
            let was_last = received.is_cancelled();
            match self.next().await {
                Found::Batch(batch, next) => {
                    if !self.deliver(*batch, next).await {
                        return;
                    }
                }
                Found::Again if was_last && self.read_failures > 0 => return,
                Found::Again => tokio::time::sleep(RETRY).await,
                Found::Nothing if was_last => return,
                Found::Nothing => tokio::select! {
                    () = self.queue.grown.notified() => {}
                    () = tokio::time::sleep(LOOK_AGAIN) => {}
                    () = received.cancelled() => {}
                },
            }
        }
    }

    async fn next(&mut self) -> Found {
        let at = self.at;
        match self.queue.with(move |spool| spool.read(at)).await {
            Ok(None) => Found::Nothing,
            Ok(Some(Read::Lost { damage, next })) => {
                self.tell_damage(&damage);
                self.at = next;
                Found::Again
            }
            Ok(Some(Read::Frame { bytes, next })) => {
                self.read_failures = 0;
                let decoded = tokio::task::spawn_blocking(move || {
                    let plain = decompress(Encoding::Zstd, &bytes, BATCH_BYTES_MAX)
                        .map_err(|error| error.to_string())?;
                    agent_batch::decode(TenantId::default(), plain.into())
                        .map_err(|error| error.to_string())
                });
                match decoded.await.expect("decoding does not panic") {
                    Ok(batch) => Found::Batch(Box::new(batch), next),
                    Err(error) => {
                        tracing::error!(listener = self.name, %at, error,
                            "a batch in the spool cannot be read; it is passed over");
                        self.hole(at, next, "a batch in the spool could not be read");
                        self.at = next;
                        Found::Again
                    }
                }
            }
            Err(error) => {
                tracing::warn!(listener = self.name, %error, "the spool cannot be read");
                self.read_failures += 1;
                if self.read_failures >= READ_ATTEMPTS_MAX {
                    self.read_failures = 0;
                    self.hole(error.at, error.next, "the spool could not be read");
                    self.at = error.next;
                }
                Found::Again
            }
        }
    }

    /// Ships a batch until there is an answer for good; false if the agent stops.
    async fn deliver(&mut self, mut batch: Batch, next: Position) -> bool {
        let rows = batch.rows() as u64;
        let mut account = batch.account.take().map(|account| *account).unwrap_or_default();
        account.agent = self.parts.state.agent().to_string();
        account.host.clone_from(&self.parts.config.host);
        account.source.clone_from(&self.name);
        account.from = self.base.map(|base| base.to_string());
        account.before = self.tally.clone().map(Box::new);
        let before = std::mem::take(&mut self.unsaid);
        account.read_records += before.read_records;
        before.dropped.iter().for_each(|(why, count)| account.drop_records(why, *count));
        before.holes.into_iter().for_each(|hole| account.add_hole(hole));
        batch.account = Some(Box::new(account));
        batch.position = lodge_record::Position::new(next.to_string()).ok();
        self.parts.counters.sent_records.add(rows);
        loop {
            self.tell_live(rows).await;
            batch.origin = Some(self.sequence.next());
            let Some(reply) = self.parts.shipper.ship(&batch).await else { return false };
            match self.sequence.answered(&next.to_string(), &reply) {
                Step::Resend => self.parts.counters.gaps.increment(),
                Step::Acknowledged => {
                    self.parts.counters.acknowledged_records.add(rows);
                    self.base = Some(next);
                    match (&reply, &mut self.tally, &batch.account) {
                        (Reply::Committed(_), Some(tally), Some(account)) => {
                            tally.add(account, rows);
                        }
                        (Reply::Committed(_), ..) => {}
                        _ => self.recount().await,
                    }
                    break;
                }
                Step::MoveOn => {
                    let from = self.base.map(|base| base.to_string()).unwrap_or_default();
                    let account = batch.account.take().map(|account| *account);
                    let ends = (from, next.to_string());
                    let refused = account.unwrap_or_default();
                    self.unsaid = carry_refused(refused, Account::default(), ends, rows);
                    self.at = next;
                    return true;
                }
                Step::Adopt(position) => {
                    let account = batch.account.take().unwrap_or_default();
                    self.adopt(&position);
                    self.recount().await;
                    self.keep_holes(account.holes);
                    return true;
                }
            }
        }
        self.at = next;
        self.acknowledge(next).await;
        if self.saved_at.is_none_or(|at| at.elapsed() >= SAVE_PERIOD) {
            self.save();
        }
        self.tell_live(0).await;
        true
    }

    async fn acknowledge(&self, up_to: Position) {
        if let Err(error) = self.queue.with(move |spool| spool.acknowledge(up_to)).await {
            tracing::warn!(listener = self.name, %error, "delivered files stay in the spool");
        }
    }

    /// Takes over what the ledger has counted: of what was stored before its answer was lost only
    /// the server knows what it was told.
    async fn recount(&mut self) {
        let known = self.parts.shipper.recall(self.sequence.producer()).await;
        self.tally =
            known.map(|known| known.as_ref().map_or_else(<_>::default, ServerState::tally));
    }

    /// What an earlier run has counted holds where it ended with the batch that the server knows.
    fn take_count(&mut self, known: Option<&ServerState>) {
        let own = self.parts.state.load_listener(&self.name);
        self.tally = match known {
            Some(known) if (own.epoch, own.seq) != (known.epoch, known.seq) => Some(known.tally()),
            _ => Some(own.tally),
        };
    }

    fn save(&mut self) {
        let Some(tally) = self.tally.clone() else { return };
        let (epoch, seq) = (self.sequence.epoch(), self.sequence.acked());
        let counted = ListenerCheckpoint { epoch, seq, tally, ..ListenerCheckpoint::default() };
        if let Err(error) = self.parts.state.save_listener(&self.name, counted) {
            tracing::warn!(listener = self.name, %error, "what was counted cannot be written");
        }
        self.saved_at = Some(Instant::now());
    }

    /// The server has everything up to `text`.
    fn adopt(&mut self, text: &str) {
        match text.parse::<Position>() {
            Ok(position) => {
                self.base = Some(position);
                self.at = position;
                self.unsaid = Account::default();
            }
            Err(error) => tracing::error!(listener = self.name, %error,
                "the server's position is not one of this spool; going on from the agent's own"),
        }
    }

    /// Damage behind the server's position is still to be told: the spool tells of it once.
    fn keep_holes(&mut self, holes: Vec<Hole>) {
        let base = self.base;
        let behind = |hole: &Hole| hole.from.parse::<Position>().is_ok_and(|at| Some(at) >= base);
        holes.into_iter().filter(behind).for_each(|hole| self.unsaid.add_hole(hole));
    }

    async fn tell_live(&self, in_flight_records: u64) {
        let counters = self.queue.with(|spool| spool.counters()).await;
        self.parts.live.set(LiveSource {
            producer: self.sequence.producer().to_string(),
            source: self.name.clone(),
            unread_bytes: counters.bytes_unacknowledged,
            in_flight_records,
        });
    }

    fn tell_damage(&mut self, damage: &Damage) {
        if damage.reason == Reason::FileHeader {
            // A copy of a header; no frame is lost by it.
            return;
        }
        let place = |offset| Position { file: damage.file, offset };
        let kept = if damage.kept { "; its bytes are in quarantine" } else { "" };
        let reason = format!("the spool is damaged{kept}");
        self.hole(place(damage.from), place(damage.to), &reason);
    }

    fn hole(&mut self, from: Position, to: Position, reason: &str) {
        let bytes = (from.file == to.file).then(|| to.offset.saturating_sub(from.offset));
        let (from, to, reason) = (from.to_string(), to.to_string(), reason.to_owned());
        self.unsaid.add_hole(Hole { from, to, reason, bytes, records: None });
    }
}
