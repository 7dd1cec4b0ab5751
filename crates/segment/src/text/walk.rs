//! An automaton led along the rows of a page as they are stored, slot by slot.
//!
//! ```text
//!  rows that are open, each with its state ─► values of a slot ─► states before the next one ─► …
//! ```
//!
//! Where a slot has fewer values than there are rows, where each of them leads is found once, and a
//! row is one look-up; else it is the bytes of its value that are walked. A row is done with as soon
//! as its state says what becomes of it.

use std::ops::Range;

use super::automaton::{MATCHED, State, Table, UNKNOWN};
use super::path::{Path, Step};
use super::pen::{digits_of, eight_decimals, eight_hex};
use super::prepare::PAGE_ROWS;
use super::slot::{Digits, Kind, Slot, Stored, wide};
use super::values::{put_hex, put_uuid};
use crate::bits::Mask;

/// If at least one row in this many is open, a slot is unpacked for all.
const SPARSE: usize = 16;
/// Stands for a state that is led on by the value. No state has this number.
const BY_VALUE: State = State::MAX;
/// Decimal digits that are written at once.
const EIGHT_DIGITS: u64 = 100_000_000;

// A row's number within its page has as many bits as a state.
const _: () = assert!(PAGE_ROWS <= 1 << 16);

/// What became of the rows of a page.
pub(super) struct Passed {
    pub(super) matched: Mask,
    /// Of these nothing is known: a slot has a value that its parameters do not tell of.
    pub(super) unknown: Mask,
}

/// A row whose state leaves it open what becomes of it.
#[derive(Clone, Copy)]
struct Row {
    at: u16,
    state: State,
}

struct Walk<'w> {
    table: &'w Table,
    ordinals: &'w Range<usize>,
    open: Vec<Row>,
    /// Per state before the slot at hand: where it leads, or `BY_VALUE`.
    fixed: Vec<State>,
    /// Per state right behind a value of it: where that leads.
    after: Vec<State>,
    matched: Vec<u64>,
    unknown: Mask,
}

impl Path {
    /// Leads the automaton along rows of the template, at most [`PAGE_ROWS`].
    pub(super) fn follow(
        &self,
        table: &Table,
        slots: &[Slot],
        stored: &[Stored],
        ordinals: &Range<usize>,
    ) -> Passed {
        let len = ordinals.len();
        let mut walk = Walk {
            table,
            ordinals,
            open: (0..len).map(|at| Row { at: at as u16, state: self.start }).collect(),
            fixed: vec![UNKNOWN; table.len()],
            after: vec![UNKNOWN; table.len()],
            matched: vec![0; len.div_ceil(64)],
            unknown: Mask::none(len),
        };
        for step in &self.steps {
            match (slots.get(step.slot), stored.get(step.slot)) {
                (Some(slot), Some(stored)) => walk.step(step, slot, stored),
                _ => walk.open.iter_mut().for_each(|row| row.state = UNKNOWN),
            }
            walk.settle();
            if walk.open.is_empty() {
                break;
            }
        }
        Passed { matched: Mask::from_words(walk.matched, len), unknown: walk.unknown }
    }
}

impl Walk<'_> {
    fn step(&mut self, step: &Step, slot: &Slot, stored: &Stored) {
        spread(&mut self.fixed, &step.fixed);
        spread(&mut self.after, &step.after);
        for state in &step.walked {
            if let Some(to) = self.fixed.get_mut(usize::from(*state)) {
                *to = BY_VALUE;
            }
        }
        let first = self.ordinals.start;
        match (&slot.kind, stored) {
            (Kind::Words(words), Stored::Codes(codes)) => {
                let text =
                    |code: usize, text: &mut Vec<u8>| text.extend_from_slice(words.get(code));
                if self.is_sparse() {
                    self.words(step, words.len(), text, |at| codes.get(first + at) as usize);
                } else {
                    let codes = codes.values(self.ordinals.clone());
                    let code = |at: usize| codes.get(at).copied().unwrap_or(u32::MAX) as usize;
                    self.words(step, words.len(), text, code);
                }
            }
            (Kind::Number { digits, before, after }, Stored::Numbers(numbers)) => {
                let affixes = [before.as_slice(), after.as_slice()];
                if self.is_sparse() {
                    self.numbers(*digits, affixes, |at| numbers.get(first + at) as u64);
                } else {
                    let numbers = numbers.values(self.ordinals.clone());
                    self.unpacked(step, *digits, affixes, &numbers);
                }
            }
            (Kind::Wide { width, upper }, stored) => {
                let (width, upper) = (usize::from(*width), *upper);
                let mut text = Vec::new();
                self.by_value(|table, state, at| {
                    text.clear();
                    put_hex(wide(stored.bytes(first + at)), width, upper, &mut text);
                    table.walk(state, &text)
                });
            }
            (Kind::Uuid, stored) => {
                let mut text = Vec::new();
                self.by_value(|table, state, at| {
                    text.clear();
                    put_uuid(wide(stored.bytes(first + at)), &mut text);
                    table.walk(state, &text)
                });
            }
            (Kind::Const(text), _) => self.by_value(|table, state, _| table.walk(state, text)),
            (_, stored) => {
                self.by_value(|table, state, at| table.walk(state, stored.bytes(first + at)));
            }
        }
    }

    fn is_sparse(&self) -> bool {
        self.open.len().saturating_mul(SPARSE) < self.ordinals.len()
    }

    /// Leads each row on by its value.
    fn by_value(&mut self, mut walk: impl FnMut(&Table, State, usize) -> State) {
        let (fixed, after) = (self.fixed.as_slice(), self.after.as_slice());
        for row in &mut self.open {
            let mut to = of(fixed, row.state);
            if to == BY_VALUE {
                to = of(after, walk(self.table, row.state, usize::from(row.at)));
            }
            row.state = to;
        }
    }

    /// Leads each row on by the code of its value; `text` gives that of a code.
    fn words(
        &mut self,
        step: &Step,
        count: usize,
        text: impl Fn(usize, &mut Vec<u8>),
        code: impl Fn(usize) -> usize,
    ) {
        let mut word = Vec::new();
        if count.saturating_mul(step.fixed.len() + step.walked.len()) > 2 * self.open.len() {
            return self.by_value(|table, state, at| {
                word.clear();
                text(code(at), &mut word);
                table.walk(state, &word)
            });
        }
        // Per state a line with where each word leads, and per state where that begins.
        let mut lines = Vec::new();
        let mut begins = vec![usize::MAX / 2; self.fixed.len()];
        let mut begin = |state: State, at: usize| {
            if let Some(begin) = begins.get_mut(usize::from(state)) {
                *begin = at;
            }
        };
        for (state, to) in &step.fixed {
            begin(*state, lines.len());
            lines.resize(lines.len() + count, *to);
        }
        let walked = lines.len();
        for (at, state) in step.walked.iter().enumerate() {
            begin(*state, walked + at * count);
        }
        lines.resize(walked + step.walked.len() * count, UNKNOWN);
        for no in 0..count {
            word.clear();
            text(no, &mut word);
            for (at, state) in step.walked.iter().enumerate() {
                if let Some(to) = lines.get_mut(walked + at * count + no) {
                    *to = of(&self.after, self.table.walk(*state, &word));
                }
            }
        }
        for row in &mut self.open {
            let begin = begins.get(usize::from(row.state)).copied().unwrap_or(usize::MAX / 2);
            let code = code(usize::from(row.at));
            // A code beyond the words must not be taken for one of the next line.
            let place = if code < count { begin + code } else { usize::MAX };
            row.state = lines.get(place).copied().unwrap_or(UNKNOWN);
        }
    }

    /// Leads each row on by its number, of which all of the page are unpacked.
    fn unpacked(&mut self, step: &Step, digits: Digits, affixes: [&[u8]; 2], numbers: &[i64]) {
        let bounds = numbers.iter().map(|number| *number as u64);
        let (least, most) =
            bounds.fold((u64::MAX, 0), |(least, most), n| (least.min(n), most.max(n)));
        let number = |at: usize| numbers.get(at).copied().unwrap_or(0) as u64;
        let count = most.saturating_sub(least).saturating_add(1);
        if count > self.open.len() as u64 {
            return self.numbers(digits, affixes, number);
        }
        let [before, after] = affixes;
        let text = |code: usize, text: &mut Vec<u8>| {
            text.extend_from_slice(before);
            digits.put(least + code as u64, text);
            text.extend_from_slice(after);
        };
        let code = |at: usize| number(at).wrapping_sub(least) as usize;
        self.words(step, count as usize, text, code);
    }

    /// Leads each row on by the digits of its number.
    fn numbers(&mut self, digits: Digits, affixes: [&[u8]; 2], number: impl Fn(usize) -> u64) {
        let [before, after] = affixes;
        let mut text = Vec::new();
        match digits {
            Digits::Decimal { width: width @ ..=8, .. } => self.by_value(|table, state, at| {
                let (state, number) = (table.walk(state, before), number(at));
                let state = if number < EIGHT_DIGITS {
                    let len = digits_of(number).max(width.into()).max(1);
                    short(table, state, eight_decimals(number), len)
                } else {
                    text.clear();
                    digits.put(number, &mut text);
                    table.walk(state, &text)
                };
                table.walk(state, after)
            }),
            Digits::Hex { width: width @ 1..=8, upper } => self.by_value(|table, state, at| {
                let state = table.walk(state, before);
                let state = short(table, state, eight_hex(number(at) as u32, upper), width.into());
                table.walk(state, after)
            }),
            _ => self.by_value(|table, state, at| {
                text.clear();
                text.extend_from_slice(before);
                digits.put(number(at), &mut text);
                text.extend_from_slice(after);
                table.walk(state, &text)
            }),
        }
    }

    /// Takes out the rows of which it is known what becomes of them.
    fn settle(&mut self) {
        let mut kept = 0;
        for at in 0..self.open.len() {
            let Some(row) = self.open.get(at).copied() else { break };
            if let Some(to) = self.open.get_mut(kept) {
                *to = row;
            }
            kept += usize::from(row.state > UNKNOWN);
            if let Some(word) = self.matched.get_mut(usize::from(row.at) / 64) {
                *word |= u64::from(row.state == MATCHED) << (row.at % 64);
            }
            if row.state == UNKNOWN {
                self.unknown.set(row.at.into());
            }
        }
        self.open.truncate(kept);
    }
}

/// Where the last `len` of eight digits lead.
fn short(table: &Table, mut state: State, digits: u64, len: usize) -> State {
    let mut left = digits >> (64 - 8 * len.min(8));
    for _ in 0..len {
        state = table.step(state, left as u8);
        left >>= 8;
    }
    state
}

fn of(states: &[State], state: State) -> State {
    states.get(usize::from(state)).copied().unwrap_or(UNKNOWN)
}

/// Sets where states lead; others become unknown.
fn spread(to: &mut [State], pairs: &[(State, State)]) {
    to.fill(UNKNOWN);
    for (from, state) in pairs {
        if let Some(to) = to.get_mut(usize::from(*from)) {
            *to = *state;
        }
    }
}
