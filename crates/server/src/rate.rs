//! Records per second over the last few seconds, for people who watch the status page.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Samples that are averaged over: one a second.
const SAMPLES: usize = 5;

/// A counter's rate.
#[derive(Debug, Default)]
pub(crate) struct Rate {
    counts: Mutex<VecDeque<u64>>,
}

impl Rate {
    /// Takes the counter's value; called once a second.
    pub(crate) fn sample(&self, count: u64) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.push_back(count);
        while counts.len() > SAMPLES + 1 {
            counts.pop_front();
        }
    }

    /// The mean over the samples.
    pub(crate) fn per_s(&self) -> f64 {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some(first), Some(last)) = (counts.front(), counts.back()) else { return 0.0 };
        let seconds = counts.len().saturating_sub(1).max(1);
        last.saturating_sub(*first) as f64 / seconds as f64
    }
}

#[cfg(test)]
mod tests {
    use super::Rate;

    #[test]
    fn the_rate_is_of_the_last_seconds() {
        let rate = Rate::default();
        assert!(rate.per_s() < f64::EPSILON);
        for count in [0, 0, 0, 0, 100, 200, 300, 400, 500] {
            rate.sample(count);
        }
        assert!((rate.per_s() - 100.0).abs() < f64::EPSILON);
    }
}
