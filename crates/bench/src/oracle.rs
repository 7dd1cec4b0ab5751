//! The right answers, gathered while a corpus is written.
//!
//! Invariant: they are gathered from the lines as written, parsed again, and by the plainest means
//! (every question is tried on every record), so that nothing clever is shared with the measured.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::Context;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::matcher::{Matcher, Record, text_of};
use crate::question::{Question, Shape};
use crate::workload::{MESSAGE_FIELD, TIME_FIELD};

/// The right answer to one question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fact {
    /// One number.
    Count(u64),
    /// So many records; the sum of their [`fingerprint`]s.
    Rows(u64, u64),
    /// Times of the newest, newest first.
    Newest(Vec<i64>),
    /// Bucket start, value, records.
    Histogram(Vec<(i64, String, u64)>),
    /// Records by value.
    Counts(BTreeMap<String, u64>),
    /// Numbers by value.
    Numbers(BTreeMap<String, NumberFact>),
}

/// What is true of the numbers of one group.
///
/// In thousandths, which all numbers of the workloads are whole multiples of: exact in any order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumberFact {
    /// How many records have one.
    pub count: u64,
    /// Their sum.
    pub sum_thousandths: i64,
    /// The values at ranks 0.985 and 0.995: between them a 0.99 quantile is right.
    pub p99_thousandths: (i64, i64),
}

/// What is true of a corpus.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// How many records.
    pub records: u64,
    /// Their size as JSON lines.
    pub bytes: u64,
    /// The part of it that is messages.
    pub message_bytes: u64,
    /// The right answer of each class.
    pub answers: BTreeMap<String, Fact>,
}

/// A record's time and message as a number; the sum over records identifies a set of them whatever
/// their order (FNV-1a).
pub fn fingerprint(time_ns: i64, message: &str) -> u64 {
    let bytes = time_ns.to_le_bytes();
    let all = bytes.iter().chain(message.as_bytes());
    all.fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Gathers [`Facts`].
pub struct Oracle {
    facts: Facts,
    questions: Vec<(Question, Matcher, State)>,
}

enum State {
    Count(u64),
    Rows(u64, u64),
    /// Unsorted; cut now and then.
    Newest(usize, Vec<i64>),
    Histogram(i64, String, HashMap<(i64, String), u64>),
    Counts(String, HashMap<String, u64>),
    Distinct(String, HashSet<String>),
    Numbers(String, String, HashMap<String, Vec<i64>>),
}

impl State {
    fn new(shape: &Shape) -> Self {
        match shape {
            Shape::Count => Self::Count(0),
            Shape::Rows => Self::Rows(0, 0),
            Shape::Newest(n) => Self::Newest(*n, Vec::new()),
            Shape::Histogram(step_ns, field) => {
                Self::Histogram(*step_ns, field.clone(), HashMap::new())
            }
            Shape::Top(field, _) | Shape::SqlCounts(field) => {
                Self::Counts(field.clone(), HashMap::new())
            }
            Shape::Distinct(field) => Self::Distinct(field.clone(), HashSet::new()),
            Shape::Numbers(by, field) => Self::Numbers(by.clone(), field.clone(), HashMap::new()),
        }
    }

    fn add(&mut self, record: &Record<'_>) {
        let text = |field: &str| {
            let value = record.field(field).map(text_of).unwrap_or_default();
            value.into_owned()
        };
        match self {
            Self::Count(n) => *n += 1,
            Self::Rows(n, print) => {
                *n += 1;
                *print = print.wrapping_add(fingerprint(record.time_ns, record.message));
            }
            Self::Newest(n, times) => {
                times.push(record.time_ns);
                if times.len() > 64 * *n {
                    newest(times, *n);
                }
            }
            Self::Histogram(step_ns, field, counts) => {
                let bucket_ns = record.time_ns.div_euclid(*step_ns) * *step_ns;
                *counts.entry((bucket_ns, text(field))).or_default() += 1;
            }
            Self::Counts(field, counts) => *counts.entry(text(field)).or_default() += 1,
            Self::Distinct(field, values) => {
                if let Some(value) = record.field(field) {
                    values.insert(text_of(value).into_owned());
                }
            }
            Self::Numbers(by, field, groups) => {
                let group = groups.entry(text(by)).or_default();
                let number = record.field(field).and_then(Value::as_f64);
                group.extend(number.map(|number| (number * 1000.0).round() as i64));
            }
        }
    }

    fn finish(self) -> Fact {
        match self {
            Self::Count(n) => Fact::Count(n),
            Self::Rows(n, print) => Fact::Rows(n, print),
            Self::Newest(n, mut times) => {
                newest(&mut times, n);
                Fact::Newest(times)
            }
            Self::Histogram(_, _, counts) => {
                let rows = counts.into_iter().map(|((bucket_ns, value), n)| (bucket_ns, value, n));
                let mut rows: Vec<_> = rows.collect();
                rows.sort_unstable();
                Fact::Histogram(rows)
            }
            Self::Counts(_, counts) => Fact::Counts(counts.into_iter().collect()),
            Self::Distinct(_, values) => Fact::Count(values.len() as u64),
            Self::Numbers(_, _, groups) => {
                let groups = groups.into_iter().map(|(name, values)| (name, number_fact(values)));
                Fact::Numbers(groups.collect())
            }
        }
    }
}

fn newest(times: &mut Vec<i64>, n: usize) {
    times.sort_unstable_by(|a, b| b.cmp(a));
    times.truncate(n);
}

fn number_fact(mut values: Vec<i64>) -> NumberFact {
    values.sort_unstable();
    let at = |share: f64, round: fn(f64) -> f64| {
        let last = values.len().saturating_sub(1);
        values.get(round(last as f64 * share) as usize).copied().unwrap_or_default()
    };
    NumberFact {
        count: values.len() as u64,
        sum_thousandths: values.iter().sum(),
        p99_thousandths: (at(0.985, f64::floor), at(0.995, f64::ceil)),
    }
}

impl Oracle {
    /// For a corpus of which `questions` will be asked.
    pub fn new(questions: Vec<Question>) -> Self {
        let ready = |question: Question| {
            let (matcher, state) = (Matcher::new(&question.filter), State::new(&question.shape));
            (question, matcher, state)
        };
        Self { facts: Facts::default(), questions: questions.into_iter().map(ready).collect() }
    }

    /// Takes one record's line, with its line feed.
    ///
    /// # Errors
    /// When it is no line of a workload.
    pub fn observe(&mut self, line: &[u8]) -> anyhow::Result<()> {
        let fields: Map<String, Value> = serde_json::from_slice(line).context("a line")?;
        let text = |name: &str| fields.get(name).and_then(Value::as_str).context(name.to_owned());
        let message = text(MESSAGE_FIELD)?;
        let time: Timestamp = text(TIME_FIELD)?.parse().context(TIME_FIELD)?;
        let time_ns = i64::try_from(time.as_nanosecond()).context(TIME_FIELD)?;
        self.facts.records += 1;
        self.facts.bytes += line.len() as u64;
        self.facts.message_bytes += message.len() as u64;
        let record = Record { time_ns, message, fields: &fields };
        for (_, matcher, state) in &mut self.questions {
            if matcher.fits(&record) {
                state.add(&record);
            }
        }
        Ok(())
    }

    /// The facts, after the last record.
    pub fn finish(mut self) -> Facts {
        for (question, _, state) in self.questions {
            self.facts.answers.insert(question.class.to_owned(), state.finish());
        }
        self.facts
    }
}
