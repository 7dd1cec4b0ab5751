//! Which batch of a producer is new: the rules of exactly-once, as a function of values.
//!
//! Invariant: for each producer the catalog holds the highest `(epoch, seq)` committed; a batch is
//! new only if it is the very next one.

use lodge_record::{Origin, Position};

/// What is committed of a producer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProducerState {
    /// Epoch of the last batch; 0 when nothing was ever committed.
    pub epoch: u32,
    /// Sequence of the last batch; 0 when nothing was ever committed.
    pub seq: u64,
    /// Where the producer stood with it.
    pub position: Option<Position>,
}

/// What a batch is to a producer's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The next one: store it.
    New,
    /// Stored before: acknowledge it again.
    Duplicate,
    /// Batches before it are missing: refuse it.
    Gap,
    /// Of an epoch that has ended: refuse it.
    StaleEpoch,
}

/// Judges a batch of `origin` against the committed `state` of its producer, `None` if the producer
/// was never seen. A first batch, of a producer or of an epoch, has sequence 1.
pub fn judge(state: Option<&ProducerState>, origin: &Origin) -> Verdict {
    let Some(state) = state else {
        return if origin.seq == 1 { Verdict::New } else { Verdict::Gap };
    };
    if origin.epoch < state.epoch {
        Verdict::StaleEpoch
    } else if origin.epoch > state.epoch {
        if origin.seq == 1 { Verdict::New } else { Verdict::Gap }
    } else if origin.seq <= state.seq {
        Verdict::Duplicate
    } else if state.seq.checked_add(1) == Some(origin.seq) {
        Verdict::New
    } else {
        Verdict::Gap
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lodge_record::ProducerId;

    fn at(epoch: u32, seq: u64) -> Origin {
        Origin { producer: ProducerId::derive(&[b"p"]), epoch, seq }
    }

    #[test]
    fn judges_every_case() {
        let state = ProducerState { epoch: 2, seq: 5, position: None };
        let known = Some(&state);
        assert_eq!(judge(None, &at(1, 1)), Verdict::New);
        assert_eq!(judge(None, &at(1, 2)), Verdict::Gap);
        assert_eq!(judge(None, &at(7, 1)), Verdict::New);
        assert_eq!(judge(known, &at(2, 6)), Verdict::New);
        assert_eq!(judge(known, &at(2, 5)), Verdict::Duplicate);
        assert_eq!(judge(known, &at(2, 0)), Verdict::Duplicate);
        assert_eq!(judge(known, &at(2, 7)), Verdict::Gap);
        assert_eq!(judge(known, &at(3, 1)), Verdict::New);
        assert_eq!(judge(known, &at(3, 2)), Verdict::Gap);
        assert_eq!(judge(known, &at(1, 6)), Verdict::StaleEpoch);
        assert_eq!(judge(known, &at(1, 1)), Verdict::StaleEpoch);
    }

    #[test]
    fn the_last_sequence_has_no_next() {
        let state = ProducerState { epoch: 1, seq: u64::MAX, position: None };
        assert_eq!(judge(Some(&state), &at(1, u64::MAX)), Verdict::Duplicate);
    }
}
