//! What a producer says of the stretch of its source that a batch ends: how much was read there and
//! what became of it. The ledger is made of these.
//!
//! Invariant: `read_records` is what the batch holds and what was dropped, together. Where a stretch
//! does not add up, does not begin where the one before it ended, or where its reader has counted
//! otherwise so far ([`Tally`]), something is missing and no one has said why ([`crate::limits`]
//! bounds all of it).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::limits::{ACCOUNT_TEXT_BYTES_MAX, DROP_REASONS_MAX, HOLES_MAX};

/// Reason under which drops are counted once there are too many different reasons.
const OTHER_REASONS: &str = "other";

/// One stretch of a producer's source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// Who reads the source: the agent's identity, as text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub agent: String,
    /// The machine it is read on.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// What people call the source: a file's path, `journal`, a listener's address.
    pub source: String,
    /// Position at which the stretch begins: where the batch before it ended. Absent for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Records read in the stretch.
    pub read_records: u64,
    /// Those of them that are not in the batch, by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dropped: BTreeMap<String, u64>,
    /// What was never read, or refused by the server, with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holes: Vec<Hole>,
    /// What the reader has counted of all stretches before this one; absent where it does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Box<Tally>>,
}

/// What was counted of a source so far. Both sides keep one: the reader, of what was acknowledged,
/// and the ledger, of what was committed. They are the same at the same sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tally {
    /// Records read.
    pub read_records: u64,
    /// Records that are durable.
    pub durable_records: u64,
    /// Records dropped, by reason.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub dropped: BTreeMap<String, u64>,
    /// Holes that were told.
    pub holes: u64,
}

impl Tally {
    /// Adds one stretch, of which so many records are durable.
    pub fn add(&mut self, account: &Account, durable_records: u64) {
        self.read_records = self.read_records.saturating_add(account.read_records);
        self.durable_records = self.durable_records.saturating_add(durable_records);
        for (reason, count) in &account.dropped {
            add_reason(&mut self.dropped, reason, *count);
        }
        self.holes = self.holes.saturating_add(account.holes.len() as u64);
    }

    /// All that was dropped.
    pub fn dropped_records(&self) -> u64 {
        self.dropped.values().fold(0, |sum, count| sum.saturating_add(*count))
    }
}

/// A part of a source that is not stored, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hole {
    /// Position behind which it begins.
    pub from: String,
    /// Position at which it ends.
    pub to: String,
    /// Why, in a few words.
    pub reason: String,
    /// Bytes of the source, where they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Records, where they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<u64>,
}

/// An account was beyond its limits.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the account has {what}, the limit is {limit}")]
pub struct AccountTooLarge {
    what: String,
    limit: usize,
}

impl Account {
    /// Counts records that were read and are not in the batch.
    pub fn drop_records(&mut self, reason: &str, records: u64) {
        if records > 0 {
            add_reason(&mut self.dropped, reason, records);
        }
    }

    /// Adds a hole. Beyond the limit the last one is widened, so that none is forgotten.
    pub fn add_hole(&mut self, hole: Hole) {
        let full = self.holes.len() >= HOLES_MAX;
        match self.holes.last_mut().filter(|_| full) {
            None => self.holes.push(hole),
            Some(last) => {
                let sum = |a: Option<u64>, b: Option<u64>| Some(a?.saturating_add(b?));
                last.to = hole.to;
                last.bytes = sum(last.bytes, hole.bytes);
                last.records = sum(last.records, hole.records);
                if last.reason != hole.reason {
                    last.reason = "several reasons".to_owned();
                }
            }
        }
    }

    /// All that was dropped.
    pub fn dropped_records(&self) -> u64 {
        self.dropped.values().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Checks what came from outside against the limits.
    pub fn check(&self) -> Result<(), AccountTooLarge> {
        let texts = [&self.agent, &self.host, &self.source];
        let of_holes = self.holes.iter().flat_map(|hole| [&hole.from, &hole.to, &hole.reason]);
        let before = self.before.as_deref().map(|tally| &tally.dropped);
        let reasons = self.dropped.keys().chain(before.into_iter().flat_map(BTreeMap::keys));
        let all = texts.into_iter().chain(&self.from).chain(reasons).chain(of_holes);
        let longest = all.map(String::len).max().unwrap_or(0);
        let within = |what: &str, count: usize, limit: usize| match count <= limit {
            true => Ok(()),
            false => Err(AccountTooLarge { what: format!("{count} {what}"), limit }),
        };
        within("bytes in one text", longest, ACCOUNT_TEXT_BYTES_MAX)?;
        within("reasons", self.dropped.len(), DROP_REASONS_MAX)?;
        within("reasons", before.map_or(0, BTreeMap::len), DROP_REASONS_MAX)?;
        within("holes", self.holes.len(), HOLES_MAX)
    }
}

/// Adds to a count by reason; there are never more than the limit of different reasons.
pub fn add_reason(counts: &mut BTreeMap<String, u64>, reason: &str, records: u64) {
    let known = counts.contains_key(reason) || counts.len() + 1 < DROP_REASONS_MAX;
    let reason = if known { reason } else { OTHER_REASONS };
    let count = counts.entry(reason.to_owned()).or_insert(0);
    *count = count.saturating_add(records);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hole(from: u64, to: u64, reason: &str) -> Hole {
        let (from, to) = (from.to_string(), to.to_string());
        Hole { from, to, reason: reason.into(), bytes: Some(1), records: None }
    }

    #[test]
    fn reasons_and_holes_beyond_the_limit_are_put_together_and_none_is_forgotten() {
        let mut account = Account::default();
        for n in 0..1000u64 {
            account.drop_records(&format!("rule {n}"), 2);
            account.add_hole(hole(n, n + 1, "cut"));
        }
        assert_eq!(account.check(), Ok(()));
        assert_eq!(account.dropped_records(), 2000);
        assert_eq!(account.holes.iter().filter_map(|hole| hole.bytes).sum::<u64>(), 1000);
        assert_eq!(account.holes.last().map(|hole| hole.to.as_str()), Some("1000"));
    }

    #[test]
    fn what_is_too_large_is_told() {
        let source = "x".repeat(ACCOUNT_TEXT_BYTES_MAX + 1);
        let error = Account { source, ..Account::default() }.check().unwrap_err();
        assert!(error.to_string().contains("1025 bytes in one text, the limit is 1024"), "{error}");
        let holes = (0..100).map(|n| hole(n, n, "cut")).collect();
        assert!(Account { holes, ..Account::default() }.check().is_err());
    }
}
