//! A regular expression as an automaton over the bytes that templates and their slots can have.
//!
//! Its states get small numbers, and where they lead a table that is filled as far as the automaton
//! is walked: so what was walked once is looked up later, by all that share the table.
//!
//! Invariants:
//! - the first match ends it: `MATCHED` and `DEAD` lead to themselves;
//! - what is not in the table is `UNKNOWN`, which leads to itself, too, and says nothing.

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
/// Larger dictionaries are taken as all texts of letters and digits, unless there are
/// [`ROWS_PER_WORD`] rows for each word: then to go through them is little beside the rows.
const WORDS_MAX: usize = 64;
const ROWS_PER_WORD: usize = 8;
/// A token of unknown length is taken to be this long at most, then of any length.
const STEPS_MAX: usize = 600;

/// The number of a state.
pub(super) type State = u16;
/// The expression has matched, whatever comes.
pub(super) const MATCHED: State = 0;
/// The expression will not match, whatever comes.
pub(super) const DEAD: State = 1;
/// Nothing is known.
pub(super) const UNKNOWN: State = 2;
/// Number of the first state of the automaton itself.
const FIRST: usize = 3;
/// Most states, so that there are numbers that are none.
const NUMBERS_MAX: usize = 1 << 15;

const DIGITS: u8 = 0;
const HEX: [u8; 2] = [1, 2];
const ALNUM: u8 = 3;
const ALPHABETS: [&[u8]; 4] = [
    b"0123456789",
    b"0123456789abcdef",
    b"0123456789ABCDEF",
    b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ",
];

/// Where states lead, as far as they were walked.
#[derive(Debug)]
pub(super) struct Table {
    /// Bytes of a class lead to the same states.
    classes: [u8; 256],
    /// The line of a state begins at its number shifted by this.
    shift: u32,
    /// Per state and class; the class behind those of bytes is the end of the text.
    next: Vec<State>,
    end: usize,
}

impl Table {
    fn new(dfa: &DFA) -> Self {
        let mut classes = [0; 256];
        let bytes = (0..=u8::MAX).zip(&mut classes);
        bytes.for_each(|(byte, class)| *class = dfa.byte_classes().get(byte));
        // As many as there are classes, that of the end included.
        let len = dfa.byte_classes().alphabet_len().max(2);
        let shift = len.next_power_of_two().ilog2();
        let mut table = Self { classes, shift, next: Vec::new(), end: len - 1 };
        (0..FIRST as State).for_each(|state| table.add(state));
        table
    }

    /// Adds a state, of which all leads to `to`.
    fn add(&mut self, to: State) {
        self.next.resize(self.next.len() + (1 << self.shift), to);
    }

    /// Number of states.
    pub(super) fn len(&self) -> usize {
        self.next.len() >> self.shift
    }

    fn place(&self, state: State, class: usize) -> usize {
        usize::from(state) << self.shift | class
    }

    /// Where a byte leads.
    #[inline]
    pub(super) fn step(&self, state: State, byte: u8) -> State {
        let class = self.classes.get(usize::from(byte)).copied().unwrap_or(0);
        self.next.get(self.place(state, class.into())).copied().unwrap_or(UNKNOWN)
    }

    /// Where a text leads.
    #[inline]
    pub(super) fn walk(&self, mut state: State, text: &[u8]) -> State {
        for byte in text {
            state = self.step(state, *byte);
            if state <= UNKNOWN {
                break;
            }
        }
        state
    }
}

/// States, ascending.
pub(super) type States = Vec<State>;

/// Adds a state, unless these are too many then.
pub(super) fn add(states: &mut States, state: State) -> Option<()> {
    if let Err(at) = states.binary_search(&state) {
        if states.len() == STATES_MAX {
            return None;
        }
        states.insert(at, state);
    }
    Some(())
}

/// An expression as an automaton that is built as far as it is walked.
pub(super) struct Automaton {
    dfa: DFA,
    cache: Cache,
    /// The states by their numbers less [`FIRST`], and back.
    ids: Vec<LazyStateID>,
    numbers: HashMap<LazyStateID, State, RandomState>,
    table: Table,
    /// Where a state leads over any text of some alphabet and length.
    known: HashMap<(State, u8, usize, usize), States, RandomState>,
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
        let (cache, table) = (dfa.create_cache(), Table::new(&dfa));
        let (ids, numbers, known) = (Vec::new(), HashMap::default(), HashMap::default());
        Some(Self { dfa, cache, ids, numbers, table, known })
    }

    /// The table of what was walked.
    pub(super) fn into_table(self) -> Table {
        self.table
    }

    /// The state before a text.
    pub(super) fn start(&mut self) -> Option<State> {
        let start = self.dfa.start_state_forward(&mut self.cache, &Input::new("")).ok()?;
        self.number(start)
    }

    fn number(&mut self, id: LazyStateID) -> Option<State> {
        if id.is_match() {
            return Some(MATCHED);
        }
        if id.is_dead() {
            return Some(DEAD);
        }
        if let Some(number) = self.numbers.get(&id) {
            return Some(*number);
        }
        if id.is_quit() || self.table.len() == NUMBERS_MAX {
            return None;
        }
        let number = self.table.len() as State;
        self.table.add(UNKNOWN);
        self.ids.push(id);
        self.numbers.insert(id, number);
        Some(number)
    }

    /// Where a class leads; `byte` is one of it, or there is none at the end of a text.
    fn next(&mut self, state: State, class: usize, byte: Option<u8>) -> Option<State> {
        let place = self.table.place(state, class);
        let known = *self.table.next.get(place)?;
        if known != UNKNOWN {
            return Some(known);
        }
        let id = *self.ids.get(usize::from(state).checked_sub(FIRST)?)?;
        let next = match byte {
            Some(byte) => self.dfa.next_state(&mut self.cache, id, byte),
            None => self.dfa.next_eoi_state(&mut self.cache, id),
        };
        let next = self.number(next.ok()?)?;
        *self.table.next.get_mut(place)? = next;
        Some(next)
    }

    fn step(&mut self, state: State, byte: u8) -> Option<State> {
        let class = self.table.classes.get(usize::from(byte)).copied().unwrap_or(0);
        self.next(state, class.into(), Some(byte))
    }

    /// Where a text leads; `None` if that is not known.
    pub(super) fn walk(&mut self, state: State, text: &[u8]) -> Option<State> {
        text.iter().try_fold(state, |state, byte| self.step(state, *byte))
    }

    /// Whether the expression has matched if the text ends here, as `MATCHED` or `DEAD`.
    pub(super) fn end(&mut self, state: State) -> Option<State> {
        let end = self.next(state, self.table.end, None)?;
        Some(if end == MATCHED { MATCHED } else { DEAD })
    }

    /// Adds to `after` where the values of a slot lead, and maybe others; `None` if that is not known.
    pub(super) fn through(
        &mut self,
        state: State,
        slot: &Slot,
        rows: usize,
        after: &mut States,
    ) -> Option<()> {
        if state <= DEAD {
            return add(after, state);
        }
        match &slot.kind {
            Kind::Const(text) => add(after, self.walk(state, text)?),
            Kind::Words(words) if words.len() <= WORDS_MAX.max(rows / ROWS_PER_WORD) => {
                words.iter().try_for_each(|word| add(after, self.walk(state, word)?))
            }
            Kind::Number { digits, before, after: behind } => {
                let state = self.walk(state, before)?;
                let (alphabet, short, long) = match digits {
                    Digits::Decimal { width, least, most } => {
                        let digits = |n: &u64| n.checked_ilog10().map_or(1, |log| log as usize + 1);
                        let width = usize::from(*width);
                        (DIGITS, digits(least).max(width), digits(most).max(width))
                    }
                    Digits::Hex { width, upper } => {
                        let width = usize::from(*width);
                        (HEX[usize::from(*upper)], width, width)
                    }
                };
                if behind.is_empty() {
                    return self.repeat(state, alphabet, short, long, after);
                }
                let mut states = States::new();
                self.repeat(state, alphabet, short, long, &mut states)?;
                states.into_iter().try_for_each(|state| add(after, self.walk(state, behind)?))
            }
            Kind::Wide { width, upper } => {
                let width = usize::from(*width);
                self.repeat(state, HEX[usize::from(*upper)], width, width, after)
            }
            Kind::Uuid => {
                let mut states = States::new();
                self.repeat(state, HEX[0], 8, 8, &mut states)?;
                for width in [4, 4, 4, 12] {
                    let mut behind = States::new();
                    for state in states {
                        let state = self.step(state, b'-')?;
                        self.repeat(state, HEX[0], width, width, &mut behind)?;
                    }
                    states = behind;
                }
                states.into_iter().try_for_each(|state| add(after, state))
            }
            Kind::Fixed(width) => self.repeat(state, ALNUM, *width, *width, after),
            Kind::Words(_) | Kind::Varied => self.repeat(state, ALNUM, 1, STEPS_MAX, after),
        }
    }

    /// Any text of `short` to `long` bytes of an alphabet.
    fn repeat(
        &mut self,
        state: State,
        alphabet: u8,
        short: usize,
        long: usize,
        after: &mut States,
    ) -> Option<()> {
        let key = (state, alphabet, short, long);
        if !self.known.contains_key(&key) {
            let known = self.repeat_from(state, alphabet, short, long)?;
            self.known.insert(key, known);
        }
        self.known.get(&key)?.iter().try_for_each(|state| add(after, *state))
    }

    fn repeat_from(
        &mut self,
        state: State,
        alphabet: u8,
        short: usize,
        long: usize,
    ) -> Option<States> {
        let bytes = ALPHABETS.get(usize::from(alphabet)).copied().unwrap_or_default();
        let mut now = vec![state];
        let mut after = if short == 0 { now.clone() } else { States::new() };
        for step in 1..=long {
            let mut next = States::new();
            for state in &now {
                for byte in bytes {
                    add(&mut next, self.step(*state, *byte)?)?;
                }
            }
            // Where a step leads back to the same states, so do all that follow.
            let settled = next == now;
            now = next;
            if step >= short || settled {
                now.iter().try_for_each(|state| add(&mut after, *state))?;
            }
            if settled {
                break;
            }
        }
        Some(after)
    }
}
