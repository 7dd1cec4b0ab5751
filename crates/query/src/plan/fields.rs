//! Which fields a query needs of the stored records, and each pipe of the one before it.
//!
//! The pipes are walked from the last to the first: a field is needed if something behind looks at it
//! before it is written anew.

use std::collections::BTreeSet;

use lodge_record::field;
use lodge_segment::predicate::Predicate;

use crate::logsql::{FieldPattern, Pipe, StatsPipe, Targets, TransformPipe};
use crate::transform::Later;

/// The fields that the input of a pipe has to have.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Needed {
    /// All of them, and not only those that are named.
    pub(super) all: bool,
    /// These are named, so each must have a column of its own.
    pub(super) named: BTreeSet<String>,
    /// These are written anew: where there are fields without a column, they must not be among them.
    pub(super) made: BTreeSet<String>,
}

impl Needed {
    /// What who gets the rows wants.
    pub(super) fn everything() -> Self {
        Self { all: true, ..Self::default() }
    }

    /// Just these.
    pub(super) fn only<'n>(names: impl IntoIterator<Item = &'n String>) -> Self {
        Self { named: names.into_iter().cloned().collect(), ..Self::default() }
    }

    /// Fields that get a column.
    pub(super) fn columns(&self) -> BTreeSet<String> {
        let mut columns: BTreeSet<String> = self.named.union(&self.made).cloned().collect();
        columns.remove(field::OVERFLOW);
        columns
    }

    /// The same for a pipe that makes any field.
    pub(super) fn later(&self) -> Later {
        Later { named: self.columns(), all: self.all }
    }

    fn name(&mut self, name: &str) {
        self.named.insert(name.to_owned());
    }

    /// Takes a field out that is written anew; tells whether it is wanted.
    fn make(&mut self, name: &str) -> bool {
        self.made.insert(name.to_owned());
        self.named.remove(name) || self.all
    }

    fn add_predicate(&mut self, predicate: &Predicate) {
        self.named.extend(predicate.fields());
        self.all |= predicate.reads().is_open();
    }

    fn add_patterns(&mut self, patterns: &[FieldPattern]) {
        for pattern in patterns {
            match pattern {
                FieldPattern::Name(name) => self.name(name),
                FieldPattern::Prefix(_) => self.all = true,
            }
        }
    }
}

/// What each of `pipes` needs of its input, and at the end what comes behind them: `tail`.
pub(super) fn needed(pipes: &[Pipe], tail: Needed) -> Vec<Needed> {
    let mut needs = vec![tail];
    for pipe in pipes.iter().rev() {
        let after = needs.last().cloned().unwrap_or_default();
        needs.push(before(pipe, after));
    }
    needs.reverse();
    needs
}

/// Whether nobody sees what `pipe` does.
pub(super) fn is_idle(pipe: &Pipe, after: &Needed) -> bool {
    let Pipe::Transform(pipe) = pipe else { return false };
    match pipe.targets() {
        Targets::Named(names) => {
            let is_wanted = |name: &String| after.all || after.named.contains(name);
            pipe.keeps_count() && !names.iter().any(is_wanted)
        }
        Targets::Any => false,
    }
}

fn before(pipe: &Pipe, after: Needed) -> Needed {
    let mut need = after;
    match pipe {
        Pipe::Fields(patterns) => {
            let is_wild = patterns.iter().any(|p| matches!(p, FieldPattern::Prefix(_)));
            need.named.retain(|name| patterns.iter().any(|pattern| pattern.matches(name)));
            if need.all {
                need.add_patterns(patterns);
                need.all = is_wild;
            }
        }
        Pipe::Delete(patterns) => {
            need.named.retain(|name| !patterns.iter().any(|pattern| pattern.matches(name)));
        }
        Pipe::Copy(pairs) => {
            for (from, to) in pairs.iter().rev().filter(|(from, to)| from != to) {
                if need.make(to) {
                    need.name(from);
                }
            }
        }
        Pipe::Rename(pairs) => {
            for (from, to) in pairs.iter().rev().filter(|(from, to)| from != to) {
                let is_wanted = need.make(to);
                need.make(from);
                if is_wanted {
                    need.name(from);
                }
            }
        }
        Pipe::Filter(predicate) => need.add_predicate(predicate),
        Pipe::Sort(sort) => {
            if let Some(rank) = &sort.rank {
                need.make(rank);
            }
            need.named.extend(sort.by.iter().map(|key| key.name.clone()));
            need.named.extend(sort.partition_by.iter().cloned());
        }
        Pipe::Limit(_) | Pipe::Offset(_) | Pipe::Union(_) => {}
        Pipe::Stats(stats) => need = of_stats(stats),
        Pipe::Patterns(patterns) => {
            need = Needed::only([&patterns.field, &field::TIME.to_owned()]);
        }
        Pipe::Top { by, .. } | Pipe::Uniq { by, .. } => need = Needed::only(by),
        Pipe::Transform(transform) => add_transform(&mut need, transform),
        Pipe::Facets(_) | Pipe::FieldNames | Pipe::BlockStats | Pipe::QueryStats => {
            need = Needed::everything()
        }
        Pipe::FieldValues { field, .. } => need = Needed::only([field]),
        Pipe::BlocksCount => need = Needed::only([&field::TIME.to_owned()]),
        Pipe::Join(join) => need.named.extend(join.by.iter().cloned()),
        Pipe::StreamContext(_) => {
            [field::TIME, field::STREAM, field::MSG].iter().for_each(|name| need.name(name));
        }
        Pipe::Running(running) => {
            for call in running.calls.iter().rev() {
                need.make(&call.name);
            }
            running.calls.iter().for_each(|call| need.add_patterns(&call.fields));
            need.named.extend(running.by.iter().cloned());
            need.name(field::TIME);
        }
        Pipe::Sequence(_) => need = Needed::default(),
    }
    need
}

fn add_transform(need: &mut Needed, transform: &TransformPipe) {
    if let Targets::Named(names) = transform.targets() {
        let mut is_wanted = !transform.keeps_count();
        for name in &names {
            let keeps = need.named.contains(name);
            is_wanted |= need.make(name);
            if keeps && !transform.overwrites() {
                need.name(name);
            }
        }
        if !is_wanted {
            return;
        }
    }
    let (named, are_all) = transform.sources();
    need.named.extend(named);
    need.all |= are_all;
    if let Some(condition) = &transform.condition {
        need.add_predicate(condition);
    }
}

fn of_stats(stats: &StatsPipe) -> Needed {
    let mut need = Needed::only(stats.by.iter().map(|key| &key.name));
    for call in &stats.calls {
        need.add_patterns(&call.fields);
        need.named.extend(call.function.ordering().map(str::to_owned));
        if let Some(filter) = &call.filter {
            need.add_predicate(filter);
        }
    }
    need
}
