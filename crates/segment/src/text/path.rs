//! The way of an automaton through the rows of a template: which slots decide about a row, from the
//! template and the parameters of its slots alone.
//!
//! States are pushed through literals byte by byte and through slots over all values that they can
//! have, and more. Then, from the last slot to the first, a state from which every way leads to a
//! match, or none does, is taken as what it leads to. What is left are the slots of which the value
//! matters, for the states in which it does; where none is left the template decides.

use super::automaton::{Automaton, DEAD, MATCHED, State, States, add};
use super::slot::Slot;

/// What an expression comes to for the rows of a template.
#[derive(Debug)]
pub(super) enum Outcome {
    /// All or none match.
    Known(bool),
    Open(Path),
}

/// The slots that decide.
#[derive(Clone, Debug)]
pub(super) struct Path {
    /// The state of each row before the first of `steps`.
    pub(super) start: State,
    /// Not empty.
    pub(super) steps: Vec<Step>,
}

/// Leads from before a slot to before the next one that decides, or to the end.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) slot: usize,
    /// Where states lead, whatever the value is.
    pub(super) fixed: Vec<(State, State)>,
    /// The states for which the value matters. Not empty.
    pub(super) walked: Vec<State>,
    /// Where these lead, by the state right behind the value.
    pub(super) after: Vec<(State, State)>,
}

impl Step {
    pub(super) fn memory_bytes(&self) -> usize {
        (self.fixed.len() + self.after.len()) * size_of::<(State, State)>()
            + self.walked.len() * size_of::<State>()
            + size_of::<Self>()
    }
}

/// Where the states before a slot lead.
struct Links {
    /// The states, each with one right behind a value of the slot; those of a state are together.
    values: Vec<(State, State)>,
    /// Per state behind a value: that before the next slot, or at the end.
    after: Vec<(State, State)>,
}

impl Path {
    /// The way through a template of so many rows; `None` if it is not known.
    pub(super) fn of(
        automaton: &mut Automaton,
        literals: &[&[u8]],
        slots: &[Slot],
        rows: usize,
    ) -> Option<Outcome> {
        let (first, rest) = literals.split_first()?;
        let start = automaton.start()?;
        let mut start = automaton.walk(start, first)?;
        if slots.is_empty() {
            start = automaton.end(start)?;
        }
        let mut before = vec![start];
        let mut links = Vec::with_capacity(slots.len());
        let mut behind = States::new();
        for (at, (slot, literal)) in slots.iter().zip(rest).enumerate() {
            if before.iter().all(|state| *state <= DEAD) {
                break;
            }
            let (mut values, mut reached, mut next) = (Vec::new(), States::new(), States::new());
            for state in before {
                behind.clear();
                automaton.through(state, slot, rows, &mut behind)?;
                for to in &behind {
                    add(&mut reached, *to)?;
                    values.push((state, *to));
                }
            }
            let mut after = Vec::with_capacity(reached.len());
            for state in reached {
                let mut to = automaton.walk(state, literal)?;
                if at + 1 == slots.len() {
                    to = automaton.end(to)?;
                }
                add(&mut next, to)?;
                after.push((state, to));
            }
            links.push(Links { values, after });
            before = next;
        }
        let mut steps = Vec::with_capacity(links.len());
        let mut known = Vec::new();
        for (slot, links) in links.into_iter().enumerate().rev() {
            let (step, known_before) = settle(slot, links, &known);
            steps.push(step);
            known = known_before;
        }
        steps.reverse();
        Some(reachable(lookup(&known, start), steps))
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.steps.iter().map(Step::memory_bytes).sum::<usize>() + size_of::<Self>()
    }
}

fn lookup(pairs: &[(State, State)], state: State) -> State {
    pairs.iter().find(|(from, _)| *from == state).map_or(state, |(_, to)| *to)
}

/// The step through a slot, where `known` says of some states before the next slot what they lead to;
/// and the same for the states before this slot.
fn settle(slot: usize, links: Links, known: &[(State, State)]) -> (Step, Vec<(State, State)>) {
    let settled = |(from, to): (State, State)| (from, lookup(known, to));
    let after: Vec<_> = links.after.into_iter().map(settled).collect();
    let (mut fixed, mut walked, mut known) = (Vec::new(), Vec::new(), Vec::new());
    for values in links.values.chunk_by(|a, b| a.0 == b.0) {
        let mut ends = values.iter().map(|(state, behind)| (*state, lookup(&after, *behind)));
        let Some((state, end)) = ends.next() else { continue };
        if ends.any(|(_, other)| other != end) {
            walked.push(state);
            continue;
        }
        fixed.push((state, end));
        if end <= DEAD {
            known.push((state, end));
        }
    }
    (Step { slot, fixed, walked, after }, known)
}

/// Leaves out what is not reached and the slots whose value never matters.
fn reachable(start: State, steps: Vec<Step>) -> Outcome {
    let mut path = Path { start, steps: Vec::new() };
    let mut now = vec![start];
    for mut step in steps {
        step.fixed.retain(|(from, _)| now.contains(from));
        step.walked.retain(|from| now.contains(from));
        if step.walked.is_empty() {
            // The states move on all the same: what led to them leads on now.
            let on = |to: &mut State| *to = lookup(&step.fixed, *to);
            match path.steps.last_mut() {
                Some(last) => {
                    last.fixed.iter_mut().chain(&mut last.after).for_each(|(_, to)| on(to));
                }
                None => on(&mut path.start),
            }
            now.iter_mut().for_each(on);
        } else {
            let ends = step.fixed.iter().chain(&step.after);
            let kept = now.iter().copied().filter(|state| *state <= DEAD);
            now = kept.chain(ends.map(|(_, to)| *to)).collect();
            path.steps.push(step);
        }
        now.sort_unstable();
        now.dedup();
    }
    if path.steps.is_empty() { Outcome::Known(path.start == MATCHED) } else { Outcome::Open(path) }
}
