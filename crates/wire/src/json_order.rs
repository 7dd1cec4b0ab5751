//! Which field of a JSON object comes after which, with what is known of each.
//!
//! Most programs write the same fields in the same order. So for every field it is remembered which
//! ones came after it, and an object's names are compared with those before any is looked up.
//!
//! Invariant: a guess only saves the look-up, it never changes which field is found.

use hashbrown::HashMap;

use crate::json_object::Guess;

/// Most fields that are remembered; more are looked up each time.
const SEEN_MAX: usize = 2_048;
/// No field: before the first and after the last of an object.
const NONE: usize = usize::MAX;

/// Fields in the order in which objects have them, each with a `T` of its own.
#[derive(Debug)]
pub struct Order<T> {
    seen: Vec<Seen<T>>,
    places: HashMap<Box<str>, usize>,
    /// What begins objects, the latest first.
    first: [usize; 2],
    /// The field of the object in hand that came last.
    last: usize,
}

/// A field that an object had.
#[derive(Debug)]
struct Seen<T> {
    name: Box<str>,
    guess: Guess,
    /// Fields that came after it, the latest first.
    next: [usize; 2],
    known: T,
}

impl<T> Default for Order<T> {
    fn default() -> Self {
        Order { seen: Vec::new(), places: HashMap::new(), first: [NONE; 2], last: NONE }
    }
}

impl<T> Order<T> {
    /// Begins an object.
    #[inline]
    pub fn begin(&mut self) {
        self.last = NONE;
    }

    /// Forgets all fields.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    #[inline]
    fn next(&self) -> [usize; 2] {
        self.seen.get(self.last).map_or(self.first, |seen| seen.next)
    }

    /// What is likely to come next, the likeliest first.
    #[inline]
    pub fn guesses(&self) -> [Option<&Guess>; 2] {
        self.next().map(|next| self.seen.get(next).map(|seen| &seen.guess))
    }

    /// The field of the guess of this number, which is there; it is the last one now.
    #[inline]
    pub fn guessed(&mut self, guess: usize) -> usize {
        let [likeliest, second] = self.next();
        let at = if guess == 0 { likeliest } else { second };
        if guess != 0 {
            self.follow(at);
        }
        self.last = at;
        at
    }

    /// The field of this name, if it is remembered; it is the last one now.
    pub fn find(&mut self, name: &str) -> Option<usize> {
        let guessed = self.next().into_iter().find(|&next| {
            // The fields of inner objects are not guessed before their names are known.
            self.seen.get(next).is_some_and(|seen| *seen.name == *name)
        });
        let at = guessed.or_else(|| self.places.get(name).copied())?;
        self.follow(at);
        self.last = at;
        Some(at)
    }

    /// Remembers a field that [`Self::find`] did not find; the last one now. `None` if there are too
    /// many.
    #[cold]
    pub fn add(&mut self, name: &str, known: T) -> Option<usize> {
        if self.seen.len() >= SEEN_MAX {
            return None;
        }
        let at = self.seen.len();
        let guess = Guess::new(name);
        self.seen.push(Seen { name: name.into(), guess, next: [NONE; 2], known });
        self.places.insert(name.into(), at);
        self.follow(at);
        self.last = at;
        Some(at)
    }

    /// A field's name and what is known of it.
    #[inline]
    pub fn get_mut(&mut self, at: usize) -> Option<(&str, &mut T)> {
        self.seen.get_mut(at).map(|seen| (&*seen.name, &mut seen.known))
    }

    /// Remembers that this field came after the last one.
    #[inline]
    fn follow(&mut self, at: usize) {
        let last = self.seen.get_mut(self.last).map_or(&mut self.first, |seen| &mut seen.next);
        if last[0] != at {
            *last = [at, last[0]];
        }
    }
}
