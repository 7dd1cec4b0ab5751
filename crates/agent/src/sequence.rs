//! A producer's side of exactly-once delivery: which sequence number comes next, and what an answer
//! of the server changes.
//!
//! Sans-I/O. Invariants:
//! - one batch is in flight at a time; its origin is `(epoch, acked + 1)`;
//! - what the server says it has committed wins over what the agent remembers, except after a gap
//!   (the server knows less): then a new epoch begins behind the agent's own acknowledged position.

use lodge_record::{Origin, ProducerId, Tally};
use serde::Deserialize;

/// The first epoch of a producer that no one knows.
const FIRST_EPOCH: u32 = 1;

/// What the server has committed of a producer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Default)]
#[serde(default)]
pub struct ServerState {
    /// Epoch of the highest batch.
    pub epoch: u32,
    /// Sequence of the highest batch.
    pub seq: u64,
    /// Position stored with it.
    pub position: Option<String>,
    /// What the ledger has counted up to there; only told where it is asked for.
    pub counted: Option<Tally>,
}

impl ServerState {
    /// What the ledger has counted of the producer: nothing, where it has no entry.
    pub fn tally(&self) -> Tally {
        self.counted.clone().unwrap_or_default()
    }
}

/// A final answer to a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Durable now.
    Committed(ServerState),
    /// Not stored again: the server has this sequence number already.
    Duplicate(ServerState),
    /// Not stored: earlier batches are missing at the server.
    Gap(ServerState),
    /// Not stored: the server has seen a later epoch of this producer.
    StaleEpoch(ServerState),
    /// Refused for good; the batch is in the dead-letter file.
    Refused,
}

/// What the producer does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The batch is durable; its position is the acknowledged one.
    Acknowledged,
    /// Everything up to this position of the server is durable, and maybe not what was sent: go
    /// there and read on.
    Adopt(String),
    /// Send the same records again under the new origin.
    Resend,
    /// The batch will never be stored; go on behind it under the same sequence number.
    MoveOn,
}

/// Epoch and sequence of one producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequence {
    producer: ProducerId,
    epoch: u32,
    acked: u64,
}

impl Sequence {
    /// A producer of which nothing is known here. If the server knows it, its first answer will say
    /// so.
    pub fn unknown(producer: ProducerId) -> Self {
        Sequence { producer, epoch: FIRST_EPOCH, acked: 0 }
    }

    /// A producer as remembered.
    pub fn resume(producer: ProducerId, epoch: u32, acked: u64) -> Self {
        Sequence { producer, epoch, acked }
    }

    /// Who this is.
    pub fn producer(&self) -> ProducerId {
        self.producer
    }

    /// The present epoch.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The highest acknowledged sequence of the epoch; 0 for none.
    pub fn acked(&self) -> u64 {
        self.acked
    }

    /// Origin of the next batch.
    pub fn next(&self) -> Origin {
        Origin { producer: self.producer, epoch: self.epoch, seq: self.acked + 1 }
    }

    /// Takes over what the server has committed, before anything was sent.
    pub fn recall(&mut self, state: &ServerState) {
        if (state.epoch, state.seq) > (self.epoch, self.acked) {
            (self.epoch, self.acked) = (state.epoch, state.seq);
        }
    }

    /// Judges the answer to the batch in flight, whose position was `sent`.
    pub fn answered(&mut self, sent: &str, reply: &Reply) -> Step {
        let origin = self.next();
        match reply {
            Reply::Committed(_) => {
                self.acked = origin.seq;
                Step::Acknowledged
            }
            Reply::Duplicate(state) => {
                let same = (state.epoch, state.seq) == (origin.epoch, origin.seq)
                    && state.position.as_deref() == Some(sent);
                (self.epoch, self.acked) = (state.epoch, state.seq);
                match &state.position {
                    _ if same => Step::Acknowledged,
                    Some(position) => Step::Adopt(position.clone()),
                    None => Step::Resend,
                }
            }
            Reply::StaleEpoch(state) => {
                (self.epoch, self.acked) = (state.epoch, state.seq);
                state.position.clone().map_or(Step::Resend, Step::Adopt)
            }
            Reply::Gap(state) => {
                self.epoch = self.epoch.max(state.epoch).saturating_add(1);
                self.acked = 0;
                Step::Resend
            }
            Reply::Refused => Step::MoveOn,
        }
    }
}
