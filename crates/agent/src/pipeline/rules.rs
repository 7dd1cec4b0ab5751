//! Rules: which records are dropped, thinned out, or sent to another stream.
//!
//! Rules are asked in order; a later one sees what an earlier one changed. Invariants:
//! - a record that a rule drops or keeps is not seen by the rules behind it;
//! - whether a record is in a sample follows from its content, time included, and the rule's name,
//!   not from chance: reading it again decides the same.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int32Type;
use lodge_record::stream::StreamLabels;
use lodge_record::{field, overflow, schema};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::columns;
use super::condition::Condition;

/// Most rules of one agent.
pub const RULES_MAX: usize = 256;

/// A rule, checked.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its name, under which it counts.
    pub name: Arc<str>,
    /// Which records it is about.
    pub when: Condition,
    /// What becomes of them.
    pub then: Action,
}

/// What becomes of the records that a rule is about.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// They are dropped.
    Drop,
    /// No further rule is asked.
    Keep,
    /// This share of them stays, the others are dropped.
    Sample(f64),
    /// Their streams get these labels, and they the fields; an empty value takes a label off.
    Labels(BTreeMap<String, String>),
}

/// Rules with what they did.
#[derive(Debug)]
pub struct Rules {
    rules: Vec<Counted>,
}

#[derive(Debug)]
struct Counted {
    rule: Rule,
    matched: AtomicU64,
    dropped: AtomicU64,
}

/// What one rule did since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleTotals {
    /// The rule's name.
    pub name: Arc<str>,
    /// Records that it was about.
    pub matched: u64,
    /// Of these, records that it dropped.
    pub dropped: u64,
}

impl Rules {
    /// Rules that did nothing yet.
    pub fn new(rules: Vec<Rule>) -> Self {
        let counted =
            |rule| Counted { rule, matched: AtomicU64::new(0), dropped: AtomicU64::new(0) };
        Rules { rules: rules.into_iter().map(counted).collect() }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// What each rule did, in their order.
    pub fn totals(&self) -> Vec<RuleTotals> {
        let totals = |counted: &Counted| RuleTotals {
            name: Arc::clone(&counted.rule.name),
            matched: counted.matched.load(Ordering::Relaxed),
            dropped: counted.dropped.load(Ordering::Relaxed),
        };
        self.rules.iter().map(totals).collect()
    }

    /// Applies all rules; adds to `dropped` who dropped how many records.
    pub fn apply(
        &self,
        mut records: RecordBatch,
        dropped: &mut Vec<(Arc<str>, u64)>,
    ) -> RecordBatch {
        let rows = records.num_rows();
        let mut open = vec![true; rows];
        let mut kept = vec![true; rows];
        for Counted { rule, matched, dropped: dropped_total } in &self.rules {
            let selected = rule.when.select(&records, &open);
            let count = selected.iter().filter(|selected| **selected).count() as u64;
            if count == 0 {
                continue;
            }
            matched.fetch_add(count, Ordering::Relaxed);
            let goes: Vec<bool> = match &rule.then {
                Action::Drop => selected,
                Action::Sample(share) => {
                    let sample = Sample::new(&rule.name, *share);
                    let out =
                        |(row, selected): (usize, &bool)| *selected && !sample.has(&records, row);
                    selected.iter().enumerate().map(out).collect()
                }
                Action::Keep => {
                    exclude(&mut open, &selected);
                    continue;
                }
                Action::Labels(labels) => {
                    records = set_labels(&records, labels, &selected);
                    continue;
                }
            };
            exclude(&mut open, &goes);
            exclude(&mut kept, &goes);
            let count = goes.iter().filter(|goes| **goes).count() as u64;
            if count > 0 {
                dropped_total.fetch_add(count, Ordering::Relaxed);
                dropped.push((Arc::clone(&rule.name), count));
            }
        }
        if kept.iter().all(|kept| *kept) { records } else { columns::keep_rows(&records, &kept) }
    }
}

fn exclude(rows: &mut [bool], excluded: &[bool]) {
    for (row, excluded) in rows.iter_mut().zip(excluded) {
        *row &= !excluded;
    }
}

/// Which records belong to a sample.
struct Sample {
    seed: u64,
    /// A record whose hash is below belongs to it.
    limit: u64,
    all: bool,
}

impl Sample {
    fn new(rule: &str, share: f64) -> Self {
        let limit = (share * (u64::MAX as f64)) as u64;
        Sample { seed: xxh3_64(rule.as_bytes()), limit, all: share >= 1.0 }
    }

    fn has(&self, records: &RecordBatch, row: usize) -> bool {
        self.all
            || xxh3_64_with_seed(&content_hash(records, row).to_le_bytes(), self.seed) < self.limit
    }
}

/// Hash of a record's content, which does not depend on the order, type or place of its fields:
/// these follow from the other records of its batch.
fn content_hash(records: &RecordBatch, row: usize) -> u64 {
    let hash =
        |name: &str, value: &str| xxh3_64_with_seed(value.as_bytes(), xxh3_64(name.as_bytes()));
    let mut sum = 0u64;
    for (found, column) in records.schema_ref().fields().iter().zip(records.columns()) {
        let Some(value) = schema::value_text(column, row) else { continue };
        if found.name() == field::OVERFLOW {
            overflow::for_each(&value, |name, value| sum = sum.wrapping_add(hash(name, value)));
        } else {
            sum = sum.wrapping_add(hash(found.name(), &value));
        }
    }
    sum
}

/// Sets labels of the streams of the selected records, and the fields of the same names.
fn set_labels(
    records: &RecordBatch,
    labels: &BTreeMap<String, String>,
    selected: &[bool],
) -> RecordBatch {
    let mut out = records.clone();
    for (name, value) in labels {
        out = columns::set_field(&out, name, value, selected);
    }
    let mut parts = columns::take_apart(&out);
    if let Some((_, column)) = parts.iter_mut().find(|(found, _)| found.name() == field::STREAM)
        && let Some(coded) = column.as_dictionary_opt::<Int32Type>()
    {
        let mut changed: HashMap<usize, String> = HashMap::new();
        let streams = selected.iter().enumerate().map(|(row, selected)| {
            let before = schema::value_text(coded, row);
            match coded.key(row).filter(|_| *selected) {
                Some(code) => {
                    let relabel = || relabelled(before.as_deref().unwrap_or_default(), labels);
                    Some(changed.entry(code).or_insert_with(relabel).clone().into())
                }
                None => before,
            }
        });
        *column = columns::coded_texts(streams);
    }
    columns::assemble(out.num_rows(), parts)
}

fn relabelled(stream: &str, labels: &BTreeMap<String, String>) -> String {
    let mut all = StreamLabels::parse(stream).unwrap_or_default();
    for (name, value) in labels {
        all.set(name, value);
    }
    all.canonical()
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
