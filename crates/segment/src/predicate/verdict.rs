//! What is known about a predicate before a row is read.

use arrow::datatypes::Schema;
use lodge_record::{field, stream};

use super::Predicate;
use crate::Words;

/// Whether any or all rows match, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No row matches.
    None,
    /// Rows must be looked at.
    Some,
    /// Every row matches.
    All,
}

/// What is known about some rows without reading them.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Their `_time` lies between these, both included.
    pub time: (i64, i64),
    /// Their streams are among these; `None` if unknown.
    pub streams: Option<&'a [String]>,
    /// Their columns are these; `None` if unknown.
    pub schema: Option<&'a Schema>,
    /// The words of some of their fields are these; `None` if unknown.
    pub words: Option<&'a Words>,
}

impl Predicate {
    /// What `facts` say about this predicate.
    pub fn verdict(&self, facts: &Facts<'_>) -> Verdict {
        match self {
            Self::All => Verdict::All,
            Self::None => Verdict::None,
            Self::And(parts) => combine(parts, facts, Verdict::None, Verdict::All),
            Self::Or(parts) => combine(parts, facts, Verdict::All, Verdict::None),
            Self::Not(inner) => match inner.verdict(facts) {
                Verdict::None => Verdict::All,
                Verdict::Some => Verdict::Some,
                Verdict::All => Verdict::None,
            },
            Self::Time { min_ns, max_ns } => {
                let (first, last) = facts.time;
                if last < *min_ns || *max_ns < first {
                    Verdict::None
                } else if *min_ns <= first && last <= *max_ns {
                    Verdict::All
                } else {
                    Verdict::Some
                }
            }
            Self::DayRange { .. } | Self::WeekRange { .. } => Verdict::Some,
            Self::Stream(selector) => {
                let selector = selector.prepared();
                of_streams(facts, |stream| selector.matches(stream))
            }
            Self::Field { name, test } if name == field::STREAM => {
                of_streams(facts, |stream| test.matches(stream))
            }
            Self::Field { name, test } if name == field::STREAM_ID => {
                of_streams(facts, |stream| test.matches(&stream::stream_id(stream)))
            }
            Self::AnyField { prefix, .. } => {
                let may_be_there = facts.schema.is_none_or(|schema| {
                    schema.fields().iter().any(|field| {
                        field.name() == field::OVERFLOW || field.name().starts_with(prefix.as_str())
                    })
                });
                let derived = field::STREAM_ID.starts_with(prefix.as_str());
                if may_be_there || derived { Verdict::Some } else { Verdict::None }
            }
            Self::Compare { left, order, right } => {
                let there = |name| (!is_absent(facts, name)).then_some(name);
                let simpler = order.of_absent(there(left.as_str()), there(right.as_str()));
                simpler.map_or(Verdict::Some, |simpler| simpler.verdict(facts))
            }
            Self::Field { name, test } => {
                let absent = is_absent(facts, name);
                match (absent, absent && test.matches("")) {
                    (false, _) if facts.words.is_some_and(|words| words.refute(name, test)) => {
                        Verdict::None
                    }
                    (false, _) => Verdict::Some,
                    (true, true) => Verdict::All,
                    (true, false) => Verdict::None,
                }
            }
        }
    }
}

/// Whether no record has a field.
fn is_absent(facts: &Facts<'_>, name: &str) -> bool {
    let stored = if name == field::STREAM_ID { field::STREAM } else { name };
    facts.schema.is_some_and(|schema| {
        schema.index_of(stored).is_err() && schema.index_of(field::OVERFLOW).is_err()
    })
}

/// `And` (one `None` decides) and `Or` (one `All` decides) are the same but for these two.
fn combine(parts: &[Predicate], facts: &Facts<'_>, decisive: Verdict, neutral: Verdict) -> Verdict {
    let mut verdict = neutral;
    for part in parts {
        let this = part.verdict(facts);
        if this == decisive {
            return decisive;
        }
        if this == Verdict::Some {
            verdict = Verdict::Some;
        }
    }
    verdict
}

fn of_streams(facts: &Facts<'_>, matches: impl Fn(&str) -> bool) -> Verdict {
    let Some(streams) = facts.streams else {
        return Verdict::Some;
    };
    let matching = streams.iter().filter(|stream| matches(stream)).count();
    match matching {
        0 => Verdict::None,
        all if all == streams.len() => Verdict::All,
        _ => Verdict::Some,
    }
}
