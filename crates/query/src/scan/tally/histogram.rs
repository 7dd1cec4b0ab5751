//! Histograms: records counted by one text, or by time and one text, without a number for each row.
//!
//! Invariant: the groups and counts are those of the general way.

use std::ops::Range;

use hashbrown::HashMap;

use super::keys::{Numbers, bucket_floor};
use super::{Key, Tally, numbered, sum_of, text_of};
use crate::error::QueryError;
use crate::scan::reader::{Found, Sum};

/// Histograms by a text with more values than this are counted as any other groups.
const COUNTED_TEXTS_MAX: usize = 64;
/// So few different texts are each looked for.
const LOOKED_FOR: usize = 8;
/// Times that are compared at once.
const PIECE: usize = 16;
/// Counts of a histogram that are kept before they go to the groups.
const COUNTS_MAX: usize = 1 << 14;

impl Tally {
    /// Counts records by time and one text, which are the keys of histograms: records of one bucket
    /// mostly follow one another. Gives whether that is what is asked for.
    pub(super) fn count_buckets(&mut self, found: &Found) -> Result<bool, QueryError> {
        let grouping = self.grouping.clone();
        let [Key::Bucket { step_ns, offset_ns }, Key::Text { of, through: None }] =
            grouping.keys.as_slice()
        else {
            return Ok(false);
        };
        let only_counts = grouping.counts_only();
        let (Some(rows), Some(texts)) = (&mut self.rows, text_of(&self.texts, found, of)) else {
            return Ok(false);
        };
        let absent = texts.values.iter().len();
        if !only_counts || absent >= COUNTED_TEXTS_MAX || texts.codes.len() != found.times.len() {
            return Ok(false);
        }
        let ([Numbers::Times(times), Numbers::Texts(known)], [pairs]) =
            (self.numbers.as_mut_slice(), self.pairs.as_mut_slice())
        else {
            return Ok(false);
        };
        let mut counted = Counted { width: absent + 1, ..Counted::default() };
        let (mut left, mut codes) = (found.times.as_slice(), texts.codes.as_slice());
        while let Some(first) = left.first() {
            let start = bucket_floor(*first, *step_ns, *offset_ns);
            let bucket = start..start.saturating_add(*step_ns);
            let same = stretch(left, &bucket).max(1);
            let (these, later) = codes.split_at(same.min(codes.len()));
            counted.add(start, these);
            (left, codes) = (left.get(same..).unwrap_or_default(), later);
            if counted.is_full() || left.is_empty() {
                for (start, place, count) in counted.take() {
                    let text = (place < absent).then(|| texts.values.value(place));
                    let pair = (times.number(start)?, known.number(text)?);
                    let group = pairs.number(pair)? as usize;
                    rows.resize(rows.len().max(group + 1), 0);
                    if let Some(rows) = rows.get_mut(group) {
                        *rows += count;
                    }
                }
            }
        }
        Ok(true)
    }

    /// Counts records by one text, once per text of a block. Gives whether that is what was read.
    pub(super) fn count_texts(&mut self, found: &Found) -> Result<bool, QueryError> {
        let grouping = self.grouping.clone();
        let [Key::Text { of, through }] = grouping.keys.as_slice() else { return Ok(false) };
        let Some(Sum::Counts(read)) = sum_of(&self.texts, found, of) else { return Ok(false) };
        let [Numbers::Texts(known)] = self.numbers.as_mut_slice() else { return Ok(false) };
        let numbers = numbered(&read.groups, of, through.as_ref(), known)?;
        let Some(rows) = &mut self.rows else { return Ok(true) };
        for (group, count) in numbers.into_iter().zip(&read.counts) {
            let group = group as usize;
            rows.resize(rows.len().max(group + 1), 0);
            if let Some(rows) = rows.get_mut(group) {
                *rows += count;
            }
        }
        Ok(true)
    }
}

/// How many of `times` from the first on are in `bucket`. Those of a stream follow one another: they
/// are compared many at a time.
fn stretch(times: &[i64], bucket: &Range<i64>) -> usize {
    let last = bucket.end.saturating_sub(1);
    let mut known = 0;
    for piece in times.chunks(PIECE) {
        // A time outside makes one of the differences negative. One inside does not, or is so far from
        // an end of its bucket that it is looked at alone.
        let sign = piece.iter().fold(0, |sign, time| {
            sign | time.wrapping_sub(bucket.start) | last.wrapping_sub(*time)
        });
        if sign < 0 {
            return known + piece.iter().take_while(|time| bucket.contains(time)).count();
        }
        known += piece.len();
    }
    known
}

/// Records by bucket of time and place of their text.
#[derive(Default)]
struct Counted {
    /// Places of texts, that of the absent one last.
    width: usize,
    starts: Vec<i64>,
    places: HashMap<i64, usize>,
    /// The one that was counted last.
    last: usize,
    /// Of each bucket the count of each text.
    counts: Vec<u64>,
}

impl Counted {
    /// Counts records of one bucket by the codes of their texts.
    fn add(&mut self, start: i64, codes: &[u32]) {
        if self.starts.get(self.last) != Some(&start) {
            // The records of a stream go on to the next bucket.
            self.last = match self.starts.get(self.last + 1) {
                Some(next) if *next == start => self.last + 1,
                _ => *self.places.entry(start).or_insert_with(|| {
                    self.starts.push(start);
                    self.counts.resize(self.starts.len() * self.width, 0);
                    self.starts.len() - 1
                }),
            };
        }
        let place = self.last * self.width..(self.last + 1) * self.width;
        let counts = self.counts.get_mut(place).unwrap_or_default();
        let Some((absent, counts)) = counts.split_last_mut() else { return };
        if counts.len() > LOOKED_FOR {
            for code in codes {
                match counts.get_mut(*code as usize) {
                    Some(count) => *count += 1,
                    None => *absent += 1,
                }
            }
            return;
        }
        // Few different texts are looked for one by one, many records at a time: to add up one record
        // after the other waits for each sum.
        let mut left = codes.len() as u64;
        for (code, count) in (0u32..).zip(counts) {
            let here: u32 = codes.iter().map(|other| u32::from(*other == code)).sum();
            *count += u64::from(here);
            left -= u64::from(here).min(left);
        }
        *absent += left;
    }

    fn is_full(&self) -> bool {
        self.counts.len() >= COUNTS_MAX
    }

    /// What was counted: start of the bucket, place of the text, number of records.
    fn take(&mut self) -> Vec<(i64, usize, u64)> {
        let width = self.width;
        let Self { starts, counts, .. } =
            std::mem::replace(self, Self { width, ..Self::default() });
        let counted = counts.into_iter().enumerate().filter(|(_, count)| *count > 0);
        let counted = counted.filter_map(|(at, count)| {
            starts.get(at / width).map(|start| (*start, at % width, count))
        });
        counted.collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_stretch_ends_where_the_bucket_does(
            times in proptest::collection::vec(
                prop_oneof![
                    20 => -40i64..40,
                    1 => any::<i64>(),
                    1 => Just(i64::MIN),
                    1 => Just(i64::MAX),
                ],
                0..200,
            ),
            step in prop_oneof![1i64..200, Just(i64::MAX)],
        ) {
            let mut left = times.as_slice();
            while let Some(first) = left.first() {
                let start = bucket_floor(*first, step, 0);
                let bucket = start..start.saturating_add(step);
                let same = stretch(left, &bucket);
                let expected = left.iter().take_while(|time| bucket.contains(time)).count();
                prop_assert_eq!(same, expected);
                left = &left[same.max(1)..];
            }
        }
    }
}
