//! Words that are planted into messages at known counts, to be searched for.

use super::planted;
use crate::rng::Rng;

/// Where the planted words go. Draws from a generator of its own so that planting shifts nothing
/// else.
pub(super) struct Plants {
    records: u64,
    needle: u64,
    hundred: Cadence,
    per_mille: Cadence,
    per_cent: Cadence,
}

impl Plants {
    pub(super) fn new(records: u64, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let needle = records / 4 + rng.below(records / 2 + 1);
        let stride = (records / 100).max(1);
        Self {
            records,
            needle,
            hundred: Cadence::new(stride, 100, rng.next_u64()),
            per_mille: Cadence::new(1000, u64::MAX, rng.next_u64()),
            per_cent: Cadence::new(100, u64::MAX, rng.next_u64()),
        }
    }

    pub(super) fn write(&mut self, index: u64, out: &mut Vec<u8>) {
        let due = [
            (index == self.needle, planted::NEEDLE),
            (self.hundred.due(index, self.records), planted::HUNDRED),
            (self.per_mille.due(index, self.records), planted::PER_MILLE),
            (self.per_cent.due(index, self.records), planted::PER_CENT),
        ];
        for (due, word) in due {
            if due {
                out.push(b' ');
                out.extend_from_slice(word.as_bytes());
            }
        }
    }
}

/// One record of every full stretch of `stride` records, at a random place in it.
struct Cadence {
    stride: u64,
    stretches_max: u64,
    next: u64,
    rng: Rng,
}

impl Cadence {
    fn new(stride: u64, stretches_max: u64, seed: u64) -> Self {
        Self { stride, stretches_max, next: 0, rng: Rng::new(seed) }
    }

    fn due(&mut self, index: u64, records: u64) -> bool {
        let stretch = index / self.stride;
        if index.is_multiple_of(self.stride) {
            self.next = index + self.rng.below(self.stride);
        }
        // A stretch that the last record cuts short gets none: the counts stay exact.
        let full = (stretch + 1) * self.stride <= records;
        full && stretch < self.stretches_max && index == self.next
    }
}
