//! A regular expression against templates.
//!
//! The states that an automaton can be in are pushed through a template: literals byte by byte,
//! slots over all values that they can have, and more. So where no state has matched at the end no
//! row matches, and where all have, every row does.

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use regex_automata::Input;
use regex_automata::hybrid::LazyStateID;
use regex_automata::hybrid::dfa::{Cache, DFA};

use super::slot::{Digits, Kind, Slot};

/// Bytes that the states may take; an expression that needs more is decided on texts.
const CACHE_BYTES: usize = 1 << 20;
/// States at one place; beyond, texts are looked at.
const STATES_MAX: usize = 64;
/// Larger dictionaries are taken as all texts of letters and digits.
const WORDS_MAX: usize = 64;
/// A token of unknown length is taken to be this long at most, then of any length.
const STEPS_MAX: usize = 600;

const DIGITS: u8 = 0;
const HEX: [u8; 2] = [1, 2];
const UUID: u8 = 3;
const ALNUM: u8 = 4;
const ALPHABETS: [&[u8]; 5] = [
    b"0123456789",
    b"0123456789abcdef",
    b"0123456789ABCDEF",
    b"0123456789abcdef-",
    b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ",
];

/// An expression as an automaton that is built as far as it is walked.
pub(super) struct Automaton {
    dfa: DFA,
    cache: Cache,
    /// Where a state leads over any text of some alphabet and length.
    known: HashMap<(LazyStateID, u8, usize, usize), States, RandomState>,
}

/// States in which nothing has matched yet, and whether something has on another path.
#[derive(Clone, Default)]
struct States {
    open: Vec<LazyStateID>,
    matched: bool,
}

impl States {
    fn add(&mut self, state: LazyStateID) -> Option<()> {
        if state.is_match() {
            self.matched = true;
        } else if !self.open.contains(&state) {
            if self.open.len() == STATES_MAX {
                return None;
            }
            self.open.push(state);
        }
        Some(())
    }

    fn merge(&mut self, other: Self) -> Option<()> {
        self.matched |= other.matched;
        other.open.into_iter().try_for_each(|state| self.add(state))
    }
}

impl Automaton {
    /// `None` if the expression is nothing for an automaton of this kind.
    pub(super) fn new(source: &str) -> Option<Self> {
        // A full cache is an error instead of a reset, so that states stay what they are.
        let config = DFA::config()
            .cache_capacity(CACHE_BYTES)
            .minimum_cache_clear_count(Some(0))
            .unicode_word_boundary(true);
        let dfa = DFA::builder().configure(config).build(source).ok()?;
        // An empty match within a character would have to be left out.
        if dfa.get_nfa().has_empty() && source.contains("-u") {
            return None;
        }
        let cache = dfa.create_cache();
        Some(Self { dfa, cache, known: HashMap::default() })
    }

    /// Whether all or none of a template's rows match; `None` if that differs or is not known.
    pub(super) fn decide(&mut self, literals: &[&[u8]], slots: &[Slot]) -> Option<bool> {
        let start = self.dfa.start_state_forward(&mut self.cache, &Input::new("")).ok()?;
        let mut states = States::default();
        states.add(start)?;
        for (at, literal) in literals.iter().enumerate() {
            states = self.walk(states, literal)?;
            if let Some(slot) = slots.get(at) {
                states = self.through(states, slot)?;
            }
            if states.open.is_empty() {
                break;
            }
        }
        let mut end = States { open: Vec::new(), matched: states.matched };
        for state in states.open {
            end.add(self.dfa.next_eoi_state(&mut self.cache, state).ok()?)?;
        }
        match (end.matched, end.open.is_empty()) {
            (false, _) => Some(false),
            (true, true) => Some(true),
            (true, false) => None,
        }
    }

    fn next(&mut self, state: LazyStateID, byte: u8) -> Option<LazyStateID> {
        let next = self.dfa.next_state(&mut self.cache, state, byte).ok()?;
        (!next.is_quit()).then_some(next)
    }

    fn walk(&mut self, states: States, text: &[u8]) -> Option<States> {
        let mut after = States { open: Vec::new(), matched: states.matched };
        'states: for mut state in states.open {
            for byte in text {
                state = self.next(state, *byte)?;
                if state.is_match() {
                    after.matched = true;
                    continue 'states;
                }
                if state.is_dead() {
                    break;
                }
            }
            after.add(state)?;
        }
        Some(after)
    }

    fn through(&mut self, states: States, slot: &Slot) -> Option<States> {
        match &slot.kind {
            Kind::Const(text) => self.walk(states, text),
            Kind::Words(words) if words.len() <= WORDS_MAX => {
                let mut after = States::default();
                for word in words.iter() {
                    let of_word = self.walk(states.clone(), word)?;
                    after.merge(of_word)?;
                }
                Some(after)
            }
            Kind::Number { digits, before, after } => {
                let states = self.walk(states, before)?;
                let states = match digits {
                    Digits::Decimal { width, least, most } => {
                        let digits = |n: &u64| n.checked_ilog10().map_or(1, |log| log as usize + 1);
                        let width = usize::from(*width);
                        let (short, long) = (digits(least).max(width), digits(most).max(width));
                        self.repeat(states, DIGITS, short, long)?
                    }
                    Digits::Hex { width, upper } => {
                        let width = usize::from(*width);
                        self.repeat(states, HEX[usize::from(*upper)], width, width)?
                    }
                };
                self.walk(states, after)
            }
            Kind::Wide { width, upper } => {
                let width = usize::from(*width);
                self.repeat(states, HEX[usize::from(*upper)], width, width)
            }
            Kind::Uuid => self.repeat(states, UUID, 36, 36),
            Kind::Fixed(width) => self.repeat(states, ALNUM, *width, *width),
            Kind::Words(_) | Kind::Varied => self.repeat(states, ALNUM, 1, STEPS_MAX),
        }
    }

    /// Any text of `short` to `long` bytes of an alphabet.
    fn repeat(
        &mut self,
        states: States,
        alphabet: u8,
        short: usize,
        long: usize,
    ) -> Option<States> {
        let mut after = States { open: Vec::new(), matched: states.matched };
        for state in states.open {
            let key = (state, alphabet, short, long);
            if !self.known.contains_key(&key) {
                let known = self.repeat_from(state, alphabet, short, long)?;
                self.known.insert(key, known);
            }
            let known = self.known.get(&key)?;
            after.matched |= known.matched;
            known.open.iter().try_for_each(|state| after.add(*state))?;
        }
        Some(after)
    }

    fn repeat_from(
        &mut self,
        state: LazyStateID,
        alphabet: u8,
        short: usize,
        long: usize,
    ) -> Option<States> {
        let bytes = ALPHABETS.get(usize::from(alphabet)).copied().unwrap_or_default();
        let mut now = States { open: vec![state], matched: false };
        let mut after = if short == 0 { now.clone() } else { States::default() };
        for step in 1..=long {
            let mut next = States { open: Vec::new(), matched: now.matched };
            for state in &now.open {
                for byte in bytes {
                    next.add(self.next(*state, *byte)?)?;
                }
            }
            next.open.sort_unstable();
            // Where a step leads back to the same states, so do all that follow.
            let settled = next.open == now.open && next.matched == now.matched;
            now = next;
            if step >= short || settled {
                after.merge(now.clone())?;
            }
            if settled || now.open.is_empty() {
                break;
            }
        }
        after.matched |= now.matched;
        Some(after)
    }
}
