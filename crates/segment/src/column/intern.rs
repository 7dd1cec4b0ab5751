//! Different values, and for each value which it is.

use std::hash::{BuildHasher, Hash};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// The different values, sorted, and a code for each value: its place among them. `None` if there
/// are more than `cap` different ones.
pub(super) fn intern<T: Copy + Ord + Hash>(values: &[T], cap: usize) -> Option<(Vec<T>, Vec<u32>)> {
    let hasher = RandomState::default();
    let mut distinct: Vec<T> = Vec::new();
    let mut table: HashTable<u32> = HashTable::new();
    let mut codes = Vec::with_capacity(values.len());
    // Sorted by stream, many a value is the one before.
    let mut last: Option<(T, u32)> = None;
    for value in values {
        if let Some((_, code)) = last.filter(|(before, _)| before == value) {
            codes.push(code);
            continue;
        }
        let hash = hasher.hash_one(value);
        let same = |code: &u32| distinct.get(*code as usize) == Some(value);
        let code = match table.find(hash, same) {
            Some(code) => *code,
            None => {
                if distinct.len() >= cap {
                    return None;
                }
                let code = distinct.len() as u32;
                distinct.push(*value);
                let rehash =
                    |code: &u32| distinct.get(*code as usize).map_or(0, |v| hasher.hash_one(v));
                table.insert_unique(hash, code, rehash);
                code
            }
        };
        codes.push(code);
        last = Some((*value, code));
    }
    Some(ranked(distinct, codes))
}

/// Sorts the different values, and renumbers the codes.
fn ranked<T: Copy + Ord>(distinct: Vec<T>, mut codes: Vec<u32>) -> (Vec<T>, Vec<u32>) {
    let mut order: Vec<(T, u32)> = distinct.into_iter().zip(0u32..).collect();
    order.sort_unstable();
    let mut rank = vec![0u32; order.len()];
    for ((_, before), after) in order.iter().zip(0u32..) {
        if let Some(place) = rank.get_mut(*before as usize) {
            *place = after;
        }
    }
    for code in &mut codes {
        *code = rank.get(*code as usize).copied().unwrap_or(0);
    }
    (order.into_iter().map(|(value, _)| value).collect(), codes)
}

/// Whether samples say that there can be at most about `cap` different values.
///
/// Of values drawn at random from `d` different ones, `s` draws have about s² / 2d pairs of the same.
/// Values that repeat only among neighbours show in stretches.
pub(super) fn repeats<T: Copy + Ord>(values: &[T], cap: usize) -> bool {
    const SAMPLE: usize = 4_096;
    const STRETCH: usize = 256;
    if values.len() <= SAMPLE {
        return true;
    }
    let pairs = |mut sample: Vec<T>| {
        let taken = sample.len();
        sample.sort_unstable();
        sample.dedup();
        taken - sample.len()
    };
    let step = values.len() / SAMPLE;
    let scattered = pairs(values.iter().copied().step_by(step).take(SAMPLE).collect());
    if scattered.saturating_mul(cap).saturating_mul(4) >= SAMPLE * SAMPLE {
        return true;
    }
    let stretches = values.chunks(STRETCH).step_by(step.max(1));
    let near: usize = stretches.map(|stretch| pairs(stretch.to_vec())).sum();
    let asked = values.len().div_ceil(step);
    near.saturating_mul(4) >= asked
}
