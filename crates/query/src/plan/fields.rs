//! Which fields a query needs of the stored records.

use std::collections::BTreeSet;

use lodge_record::field;
use lodge_segment::predicate::Predicate;

use crate::logsql::{FieldPattern, Pipe, StatsPipe};

/// The fields that the leaf must provide.
#[derive(Debug, Default)]
pub(super) struct Needed {
    /// Only these; `None`: all of them.
    pub(super) only: Option<Vec<String>>,
    /// These are named by the query, so each must have a column of its own.
    pub(super) named: BTreeSet<String>,
}

/// Walks the pipes up to the first that keeps nothing but what it names.
pub(super) fn needed(pipes: &[Pipe]) -> Needed {
    let mut named: BTreeSet<String> = BTreeSet::new();
    let mut prefixes = false;
    for pipe in pipes {
        let closes = match pipe {
            Pipe::Fields(patterns) => {
                let wild = add_patterns(&mut named, patterns);
                prefixes |= wild;
                !wild
            }
            Pipe::Delete(_) | Pipe::Limit(_) | Pipe::Offset(_) => false,
            Pipe::Copy(pairs) | Pipe::Rename(pairs) => {
                named.extend(pairs.iter().map(|(from, _)| from.clone()));
                false
            }
            Pipe::Filter(predicate) => {
                prefixes |= add_predicate(&mut named, predicate);
                false
            }
            Pipe::Sort(sort) => {
                named.extend(sort.by.iter().map(|key| key.name.clone()));
                named.extend(sort.partition_by.iter().cloned());
                false
            }
            Pipe::Stats(stats) => {
                prefixes |= add_stats(&mut named, stats);
                true
            }
            Pipe::Patterns(patterns) => {
                named.extend([patterns.field.clone(), field::TIME.to_owned()]);
                true
            }
            Pipe::Top { by, .. } | Pipe::Uniq { by, .. } => {
                named.extend(by.iter().cloned());
                true
            }
        };
        if closes {
            named.remove(field::OVERFLOW);
            let only = (!prefixes).then(|| named.iter().cloned().collect());
            return Needed { only, named };
        }
    }
    Needed { only: None, named }
}

/// Adds the names; tells whether the predicate looks at fields that it does not name.
fn add_predicate(named: &mut BTreeSet<String>, predicate: &Predicate) -> bool {
    named.extend(predicate.fields());
    predicate.reads().is_open()
}

/// Adds the names; tells whether there are prefixes, which any field may match.
fn add_patterns(named: &mut BTreeSet<String>, patterns: &[FieldPattern]) -> bool {
    let mut prefixes = false;
    for pattern in patterns {
        match pattern {
            FieldPattern::Name(name) => {
                named.insert(name.clone());
            }
            FieldPattern::Prefix(_) => prefixes = true,
        }
    }
    prefixes
}

fn add_stats(named: &mut BTreeSet<String>, stats: &StatsPipe) -> bool {
    named.extend(stats.by.iter().map(|key| key.name.clone()));
    let mut prefixes = false;
    for call in &stats.calls {
        prefixes |= add_patterns(named, &call.fields);
        named.extend(call.function.ordering().map(str::to_owned));
        if let Some(filter) = &call.filter {
            prefixes |= add_predicate(named, filter);
        }
    }
    prefixes
}
