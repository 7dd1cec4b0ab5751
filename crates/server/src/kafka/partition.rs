//! What is done with one partition, as a function of what happened to it: no clock, no broker, no
//! store.
//!
//! ```text
//!  assigned ─► Claiming ─► Seeking ─► Reading ─► (a batch is committed, the next one gathers)
//!                 ▲           ▲          │
//!                 │           └── Held ◄─┤ no room, or the store is in trouble
//!                 │           └── Looking◄ a message of before the place
//!                 └─────────── stale epoch, gap
//! ```
//!
//! Invariants:
//! - only who owns an epoch sends in it: an epoch is owned by whoever's first batch of it, an empty
//!   one, was committed as a new one ([`fence`]); the place to read on from is looked up after that,
//!   so that nobody else moves it any more;
//! - messages are taken only while Reading, each behind the one before it; every change of the place
//!   is a seek of a paused partition, after which nothing of before the seek arrives;
//! - one batch is under way at a time, and the next one has the next sequence.

use std::time::Duration;

use lodge_ingest::ProducerState;
use lodge_record::{Origin, Position, ProducerId};

use super::settings::Start;

/// Waits after failures: the first, and the longest.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(10);
/// How long a partition is left to whoever took it over, while the group says that it is ours: the
/// group needs a moment to notice. Longer if it happens again.
const LEAVE_MIN: Duration = Duration::from_secs(5);
const LEAVE_MAX: Duration = Duration::from_secs(60);

/// A place in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The first message that there is.
    Beginning,
    /// This offset.
    At(i64),
}

/// What is known of a partition once it is owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    /// The epoch that is owned.
    pub(crate) epoch: u32,
    /// Sequence of its last batch.
    pub(crate) seq: u64,
    /// Where it is read on; `None` if nothing was ever stored.
    pub(crate) next: Option<i64>,
}

/// Why a partition could not be claimed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ClaimError {
    /// Somebody else claims it at the same time, or did since.
    #[error("another consumer took it over")]
    Taken,
    /// The catalog or Kafka did not answer; it may later.
    #[error("{0}")]
    Failed(String),
}

/// The empty batch whose commit owns the next epoch. It has no position: the one that is committed
/// stays.
pub(crate) fn fence(
    known: Option<&ProducerState>,
    producer: ProducerId,
) -> Result<Origin, ClaimError> {
    let epoch = known.map_or(0, |state| state.epoch).checked_add(1);
    let epoch = epoch.ok_or_else(|| ClaimError::Failed("its epochs are used up".to_owned()))?;
    Ok(Origin { producer, epoch, seq: 1 })
}

/// What is claimed, by the state that is found after the fence was committed as a new batch.
pub(crate) fn owned(epoch: u32, found: Option<&ProducerState>) -> Result<Claim, ClaimError> {
    let found = found.ok_or_else(|| ClaimError::Failed("its state is gone".to_owned()))?;
    if found.epoch != epoch {
        return Err(ClaimError::Taken);
    }
    let next = found.position.as_ref().map(offset_of).transpose()?;
    Ok(Claim { epoch, seq: found.seq, next })
}

/// The position of an offset: the next one to be read.
pub(crate) fn position(next: i64) -> Option<Position> {
    Position::new(next.to_string()).ok()
}

/// The offset of a position.
fn offset_of(position: &Position) -> Result<i64, ClaimError> {
    position.as_str().parse().ok().filter(|next| *next >= 0).ok_or_else(|| {
        ClaimError::Failed(format!("its position {:?} is no offset", position.as_str()))
    })
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Stop fetching the partition.
    Pause,
    /// Begin to fetch it.
    Resume,
    /// Forget the messages that were taken and are not under way.
    Forget,
    /// Own an epoch, after a wait.
    Claim(Duration),
    /// Seek, after a wait.
    Seek(Place, Duration),
    /// Ask Kafka where the partition begins and ends.
    Look,
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The next one.
    Take,
    /// Of no interest now: it comes again.
    Drop,
    /// Of before the place: Kafka went back on its own.
    Before,
}

/// A batch that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Sequence of its last part.
    pub(crate) seq: u64,
    /// Where its last part ends.
    pub(crate) next: i64,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is durable, as far as is said here: epoch, sequence and position of the last
    /// acknowledgement.
    Acked {
        /// What was sent as the last part.
        sent: Sent,
        /// Epoch of the acknowledgement.
        epoch: u32,
        /// Its sequence.
        seq: u64,
        /// Its position.
        position: Option<Position>,
    },
    /// Batches before it are missing.
    Gap,
    /// The epoch is over.
    StaleEpoch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// An epoch is being claimed.
    Claiming,
    /// The place is being sought.
    Seeking(Place),
    /// Messages are taken; the place is unknown until the first one came.
    Reading(Option<i64>),
    /// Paused until there is room.
    Held(Place),
    /// Paused before `next`, until it is known why Kafka went back to `seen`.
    Looking { next: i64, seen: i64 },
}

/// One partition that the group gave us.
#[derive(Debug)]
pub(crate) struct Partition {
    start: Start,
    state: State,
    epoch: u32,
    /// Sequence of the last batch that was committed.
    seq: u64,
    /// What the catalog has as the next offset.
    committed: Option<i64>,
    is_sending: bool,
    is_troubled: bool,
    /// Failures in a row, and how often it was taken over.
    failures: u32,
    takeovers: u32,
}

impl Partition {
    /// A partition that was assigned.
    pub(crate) fn new(start: Start) -> (Self, Vec<Action>) {
        let partition = Self {
            start,
            state: State::Claiming,
            epoch: 0,
            seq: 0,
            committed: None,
            is_sending: false,
            is_troubled: false,
            failures: 0,
            takeovers: 0,
        };
        (partition, vec![Action::Pause, Action::Claim(Duration::ZERO)])
    }

    /// The state in a word.
    pub(crate) fn word(&self) -> &'static str {
        match self.state {
            State::Claiming => "claiming",
            State::Seeking(_) => "seeking",
            State::Reading(_) => "reading",
            State::Held(_) => "held",
            State::Looking { .. } => "looking",
        }
    }

    /// The epoch that is owned; 0 before the first claim.
    pub(crate) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The next offset, as the catalog has it.
    pub(crate) fn committed(&self) -> Option<i64> {
        self.committed
    }

    /// Whether the store has trouble with its batch.
    pub(crate) fn is_troubled(&self) -> bool {
        self.is_troubled
    }

    /// How the claim went.
    pub(crate) fn claimed(&mut self, claim: Result<Claim, ClaimError>) -> Vec<Action> {
        if self.state != State::Claiming {
            return Vec::new();
        }
        match claim {
            Ok(claim) => {
                (self.epoch, self.seq, self.committed) = (claim.epoch, claim.seq, claim.next);
                self.failures = 0;
                self.seek(claim.next.map_or(Place::Beginning, Place::At))
            }
            Err(ClaimError::Taken) => vec![Action::Claim(self.leave())],
            Err(ClaimError::Failed(_)) => vec![Action::Claim(self.back_off())],
        }
    }

    /// How the seek went. A seek may be answered when another one is wanted already.
    pub(crate) fn sought(&mut self, place: Place, is_done: bool) -> Vec<Action> {
        if self.state != State::Seeking(place) {
            return Vec::new();
        }
        if !is_done {
            return vec![Action::Seek(place, self.back_off())];
        }
        self.failures = 0;
        self.state = State::Reading(match place {
            Place::At(next) => Some(next),
            Place::Beginning => None,
        });
        vec![Action::Resume]
    }

    /// What the message at `offset` is.
    pub(crate) fn judge(&self, offset: i64) -> Verdict {
        match self.state {
            State::Reading(Some(next)) if offset < next => Verdict::Before,
            State::Reading(_) => Verdict::Take,
            _ => Verdict::Drop,
        }
    }

    /// A message was taken; gives how many offsets before it Kafka has nothing at.
    pub(crate) fn taken(&mut self, offset: i64) -> u64 {
        let State::Reading(next) = &mut self.state else { return 0 };
        let skipped = next.map_or(0, |next| offset.saturating_sub(next));
        *next = Some(offset.saturating_add(1));
        u64::try_from(skipped).unwrap_or(0)
    }

    /// There is no room for the next message.
    pub(crate) fn hold(&mut self) -> Vec<Action> {
        let State::Reading(next) = self.state else { return Vec::new() };
        self.state = State::Held(next.map_or(Place::Beginning, Place::At));
        vec![Action::Pause]
    }

    /// There is room again.
    pub(crate) fn go_on(&mut self) -> Vec<Action> {
        match self.state {
            State::Held(place) if !self.is_troubled => self.seek(place),
            _ => Vec::new(),
        }
    }

    /// A message of before the place came: that at `offset`.
    pub(crate) fn went_back(&mut self, offset: i64) -> Vec<Action> {
        let State::Reading(Some(next)) = self.state else { return Vec::new() };
        self.state = State::Looking { next, seen: offset };
        vec![Action::Pause, Action::Look]
    }

    /// The place of a partition of which it is not known why Kafka went back.
    pub(crate) fn looking(&self) -> Option<i64> {
        match self.state {
            State::Looking { next, .. } => Some(next),
            _ => None,
        }
    }

    /// Where the partition begins and ends, if Kafka said so. Behind its end nothing can be read: a
    /// topic of that name was made anew, or its log was cut, and what is there now is new. An end
    /// that is not behind the message that came is no answer to believe: to begin anew by mistake
    /// would double the whole partition. Gives what is to be done and whether it is so.
    pub(crate) fn looked(&mut self, ends: Option<(i64, i64)>) -> (Vec<Action>, bool) {
        let State::Looking { next, seen } = self.state else { return (Vec::new(), false) };
        match ends {
            Some((low, high)) if seen < high && high < next => {
                (self.seek(Place::At(low.max(0))), true)
            }
            _ => (self.seek(Place::At(next)), false),
        }
    }

    /// Epoch and sequence of the next batch, which is under way from now on; `None` if it has to
    /// wait.
    pub(crate) fn send(&mut self) -> Option<(u32, u64)> {
        if self.is_sending || self.state == State::Claiming {
            return None;
        }
        self.is_sending = true;
        Some((self.epoch, self.seq.saturating_add(1)))
    }

    /// The store cannot take the batch now; it is tried again and again.
    pub(crate) fn troubled(&mut self) -> Vec<Action> {
        self.is_troubled = true;
        self.hold()
    }

    /// What became of the batch that was under way.
    pub(crate) fn answered(&mut self, answer: Answer) -> Vec<Action> {
        (self.is_sending, self.is_troubled) = (false, false);
        let Answer::Acked { sent, epoch, seq, position } = answer else {
            let wait = if answer == Answer::Gap { Duration::ZERO } else { self.leave() };
            return self.claim_anew(wait);
        };
        let Some(Ok(next)) = position.as_ref().map(offset_of) else {
            return self.claim_anew(self.back_off_after());
        };
        if epoch != self.epoch {
            let wait = self.leave();
            return self.claim_anew(wait);
        }
        (self.seq, self.committed) = (seq, Some(next));
        self.takeovers = 0;
        if seq == sent.seq && next == sent.next {
            return self.go_on();
        }
        // The catalog knows better.
        let mut actions = vec![Action::Forget, Action::Pause];
        actions.extend(self.seek(Place::At(next)));
        actions
    }

    fn seek(&mut self, place: Place) -> Vec<Action> {
        self.state = State::Seeking(place);
        vec![Action::Seek(place, Duration::ZERO)]
    }

    fn claim_anew(&mut self, wait: Duration) -> Vec<Action> {
        self.state = State::Claiming;
        vec![Action::Forget, Action::Pause, Action::Claim(wait)]
    }

    fn back_off(&mut self) -> Duration {
        let wait = self.back_off_after();
        self.failures = self.failures.saturating_add(1);
        wait
    }

    fn back_off_after(&self) -> Duration {
        RETRY_MIN.saturating_mul(1 << self.failures.min(10)).min(RETRY_MAX)
    }

    fn leave(&mut self) -> Duration {
        let wait = LEAVE_MIN.saturating_mul(1 << self.takeovers.min(10)).min(LEAVE_MAX);
        self.takeovers = self.takeovers.saturating_add(1);
        wait
    }

    /// Where it is begun if nothing was ever stored of it.
    pub(crate) fn start(&self) -> Start {
        self.start
    }
}

#[cfg(test)]
#[path = "partition_tests.rs"]
mod tests;
