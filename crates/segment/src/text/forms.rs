//! Which templates a text fits, and what it has in their slots.
//!
//! A form is a template's key made ready for comparing: its literals as words of eight bytes. What is
//! in a slot is found by walking along the text: as no literal before a slot ends with a letter or a
//! digit, and none behind begins with one, there is one way at most in which a text fits a form.
//!
//! Forms that begin alike are walked together, as a tree: lines of one program often begin with a
//! time, and to read that again for each of its templates would be most of the work.
//!
//! ```text
//!  node ─ literal, mark ─► node ─ literal, mark ─► node ─ literal, end ─► form
//! ```

use super::column::is_mark;
use super::tokens::{TOP, UUID_BYTES, classes, is_uuid};
use super::values::{DECIMAL_DIGITS_MAX, Short, parse_digits, parse_eight};
use super::{MARK_TOKEN, MARK_UUID};

/// Longer tokens are in no slot.
pub(super) const TOKEN_BYTES_MAX: usize = 512;
/// Bytes of zeros behind a text, so that words can be read up to its end.
const PAD_BYTES: usize = 16;
/// Ends the last literal of a form.
const END: u8 = 0;
/// The node at which forms begin that begin with a slot, or are empty.
const SLOT_FIRST: usize = 256;
/// So many nodes are beginnings of forms.
const ROOTS: usize = SLOT_FIRST + 1;

/// A text from which words can be read up to its end.
#[derive(Default)]
pub(super) struct Padded {
    bytes: Vec<u8>,
    len: usize,
}

impl Padded {
    pub(super) fn set(&mut self, text: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(text);
        self.bytes.extend_from_slice(&[0; PAD_BYTES]);
        self.len = text.len();
    }

    pub(super) fn text(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn word(&self, at: usize) -> Option<u64> {
        self.bytes.get(at..)?.first_chunk().map(|word| u64::from_le_bytes(*word))
    }

    /// What is in a slot, if it is short.
    pub(super) fn short(&self, found: &Found) -> Option<Short> {
        let bytes = self.bytes.get(found.start..)?.first_chunk()?;
        Short::of_first(u128::from_le_bytes(*bytes), found.len)
    }
}

/// What a text has in a slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) start: usize,
    pub(super) len: usize,
    /// It is all digits.
    pub(super) digits: bool,
    /// The number that it is, if it is all digits and they are few enough.
    pub(super) number: u64,
}

/// Bytes of which those under the mask count.
#[derive(Clone, Copy, Default, PartialEq)]
struct Masked {
    bytes: u64,
    mask: u64,
}

impl Masked {
    /// Up to eight bytes, the first one lowest.
    fn of(bytes: &[u8]) -> Self {
        bytes.iter().take(8).enumerate().fold(Self::default(), |all, (at, byte)| Self {
            bytes: all.bytes | u64::from(*byte) << (8 * at),
            mask: all.mask | 0xff << (8 * at),
        })
    }

    fn fits(self, word: u64) -> bool {
        (word ^ self.bytes) & self.mask == 0
    }
}

/// A literal, what comes behind it, and where that leads.
#[derive(Clone, Copy)]
struct Edge {
    /// The literal's first eight bytes.
    head: Masked,
    /// Its further ones.
    first: u32,
    words: u32,
    len: u32,
    mark: u8,
    /// The next node; behind the last literal the form.
    to: u32,
}

/// The forms of a column's templates.
pub(super) struct Forms {
    words: Vec<Masked>,
    /// Those before [`ROOTS`] are the beginnings of forms, by their first byte. Of the edges of a
    /// node, the one that fitted last comes first.
    nodes: Vec<Vec<Edge>>,
    count: u32,
}

impl Forms {
    pub(super) fn new() -> Self {
        Self { words: Vec::new(), nodes: vec![Vec::new(); ROOTS], count: 0 }
    }

    /// Appends the form of a template's key.
    pub(super) fn add(&mut self, key: &[u8]) {
        let mut node = match key.first() {
            Some(first) if !is_mark(*first) => usize::from(*first),
            _ => SLOT_FIRST,
        };
        let mut rest = key;
        loop {
            let len = rest.iter().position(|byte| is_mark(*byte)).unwrap_or(rest.len());
            let (literal, behind) = rest.split_at(len);
            let Some((mark, behind)) = behind.split_first() else {
                self.grow(node, literal, END, self.count);
                break;
            };
            node = match self.next(node, literal, *mark) {
                Some(known) => known,
                None => {
                    self.nodes.push(Vec::new());
                    let new = self.nodes.len() - 1;
                    self.grow(node, literal, *mark, new as u32);
                    new
                }
            };
            rest = behind;
        }
        self.count += 1;
    }

    /// Where this literal and this mark lead from a node.
    fn next(&self, node: usize, literal: &[u8], mark: u8) -> Option<usize> {
        let same = |edge: &&Edge| {
            let further = literal.get(8..).unwrap_or_default().chunks(8).map(Masked::of);
            edge.mark == mark
                && edge.len as usize == literal.len()
                && edge.head == Masked::of(literal)
                && self.further(edge).iter().copied().eq(further)
        };
        self.nodes.get(node)?.iter().find(same).map(|edge| edge.to as usize)
    }

    fn grow(&mut self, node: usize, literal: &[u8], mark: u8, to: u32) {
        let first = self.words.len();
        self.words.extend(literal.get(8..).unwrap_or_default().chunks(8).map(Masked::of));
        let words = (self.words.len() - first) as u32;
        let (head, len) = (Masked::of(literal), literal.len() as u32);
        if let Some(edges) = self.nodes.get_mut(node) {
            edges.push(Edge { head, first: first as u32, words, len, mark, to });
        }
    }

    fn further(&self, edge: &Edge) -> &[Masked] {
        let first = edge.first as usize;
        self.words.get(first..first + edge.words as usize).unwrap_or_default()
    }

    /// A form that the text fits, and what is in its slots.
    pub(super) fn find(&mut self, text: &Padded, found: &mut Vec<Found>) -> Option<u32> {
        found.clear();
        let first = text.text().first().map_or(SLOT_FIRST, |first| usize::from(*first));
        if first != SLOT_FIRST
            && let Some(form) = self.walk(first, text, 0, found)
        {
            return Some(form);
        }
        self.walk(SLOT_FIRST, text, 0, found)
    }

    /// The form that a text fits from a node on, at which it is read up to `at`.
    fn walk(
        &mut self,
        node: usize,
        text: &Padded,
        at: usize,
        found: &mut Vec<Found>,
    ) -> Option<u32> {
        let word = text.word(at)?;
        let mut next = 0;
        while let Some(edge) = self.nodes.get(node)?.get(next).copied() {
            if edge.head.fits(word)
                && let Some(form) = self.follow(&edge, text, at, found)
            {
                if next > 0 {
                    self.nodes.get_mut(node)?.get_mut(..=next)?.rotate_right(1);
                }
                return Some(form);
            }
            next += 1;
        }
        None
    }

    /// The form that a text fits which goes on with this edge, whose head it has.
    fn follow(
        &mut self,
        edge: &Edge,
        text: &Padded,
        at: usize,
        found: &mut Vec<Found>,
    ) -> Option<u32> {
        let end = at + edge.len as usize;
        let slot = self.passes(edge, text, at)?;
        let Some(slot) = slot else {
            // Zeros behind the text may have passed for a literal's.
            return (end == text.len).then_some(edge.to);
        };
        found.push(slot);
        let form = self.walk(edge.to as usize, text, end + slot.len, found);
        if form.is_none() {
            found.pop();
        }
        form
    }

    /// What is in the slot behind a literal of which the text has the head: `None` if it does not have
    /// all of it or nothing is there, and no slot at the end of a form.
    fn passes(&self, edge: &Edge, text: &Padded, at: usize) -> Option<Option<Found>> {
        let mut word_at = at + 8;
        for word in self.further(edge) {
            if !word.fits(text.word(word_at)?) {
                return None;
            }
            word_at += 8;
        }
        let start = at + edge.len as usize;
        match edge.mark {
            END => Some(None),
            MARK_UUID => is_uuid(text.text(), start).then_some(Some(Found {
                start,
                len: UUID_BYTES,
                digits: false,
                number: 0,
            })),
            mark => token(text, start, mark == MARK_TOKEN).map(Some),
        }
    }

    /// Hands out all forms that the text fits: `each(number, what is in its slots)`.
    #[cfg(test)]
    pub(super) fn all(&self, text: &Padded, mut each: impl FnMut(usize, &[Found])) {
        let mut open: Vec<(usize, usize, Vec<Found>)> =
            (0..ROOTS).map(|root| (root, 0, Vec::new())).collect();
        while let Some((node, at, found)) = open.pop() {
            let word = text.word(at).unwrap_or(0);
            for edge in self.nodes[node].iter().filter(|edge| edge.head.fits(word)) {
                match self.passes(edge, text, at) {
                    None => {}
                    Some(None) if at + edge.len as usize == text.len => {
                        each(edge.to as usize, &found);
                    }
                    Some(None) => {}
                    Some(Some(slot)) => {
                        let found = found.iter().copied().chain([slot]).collect();
                        open.push((edge.to as usize, slot.start + slot.len, found));
                    }
                }
            }
        }
    }
}

/// The token that begins at a byte.
#[inline]
fn token(text: &Padded, start: usize, with_digit: bool) -> Option<Found> {
    let (mut len, mut digits, mut any) = (0, true, false);
    let mut word;
    loop {
        word = text.word(start + len)?;
        let (alnum, digit) = classes(word);
        let gaps = !alnum & TOP;
        // The bytes of the token, up to the first gap.
        let within = gaps.wrapping_sub(1) & !gaps;
        let within = if gaps == 0 { u64::MAX } else { within };
        any |= digit & within != 0;
        digits &= (alnum ^ digit) & within & TOP == 0;
        if gaps != 0 {
            len += gaps.trailing_zeros() as usize / 8;
            break;
        }
        len += 8;
    }
    if len == 0 || with_digit && !any || len > TOKEN_BYTES_MAX {
        return None;
    }
    let number = match len {
        _ if !digits || len > DECIMAL_DIGITS_MAX => 0,
        1..8 => parse_eight(word << (64 - 8 * len)),
        _ => parse_digits(text.bytes.get(start..start + len)?),
    };
    Some(Found { start, len, digits, number })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Whether a text is a key with tokens in its slots, told byte by byte.
    fn fills(text: &str, key: &str) -> bool {
        let (mut text, mut key) = (text.as_bytes(), key.as_bytes());
        while let Some((first, behind)) = key.split_first() {
            let len = match is_mark(*first) {
                false => usize::from(text.first() == Some(first)),
                true => text.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count(),
            };
            let token = &text[..len];
            let lacks_digit = *first == MARK_TOKEN && !token.iter().any(u8::is_ascii_digit);
            if len == 0 || lacks_digit {
                return false;
            }
            (text, key) = (&text[len..], behind);
        }
        text.is_empty()
    }

    #[test]
    fn a_text_fits_the_forms_that_it_fills() {
        let mut forms = Forms::new();
        for key in ["user 2 took 0ms", "user 2 took 0", "id 1 ok", "", "2", "a\0"] {
            forms.add(key.as_bytes());
        }
        let fits = |text: &str| {
            let (mut padded, mut fits) = (Padded::default(), Vec::new());
            padded.set(text.as_bytes());
            forms.all(&padded, |no, found| {
                let slots = found.iter().map(|f| &text[f.start..f.start + f.len]);
                fits.push((no, slots.collect::<Vec<_>>().join("|")));
            });
            fits
        };
        assert_eq!(fits("user bob took 17"), [(1, "bob|17".to_owned())]);
        assert_eq!(fits("user bob took x"), []);
        assert_eq!(fits("user bob took 123456789012"), [(1, "bob|123456789012".to_owned())]);
        assert_eq!(fits("bob"), [(4, "bob".to_owned())]);
        assert_eq!(fits(""), [(3, String::new())]);
        assert_eq!(fits("a"), [(4, "a".to_owned())]);
        assert_eq!(fits("a\0"), [(5, String::new())]);
        let uuid = "c1356168-b896-4634-91f1-026a2900aa6c";
        assert_eq!(fits(&format!("id {uuid} ok")), [(2, uuid.to_owned())]);
    }

    proptest! {
        #[test]
        fn a_form_is_found_exactly_if_one_fits(
            keys in proptest::collection::vec("([a02][ -]|longer literals ){0,6}[a02]?", 0..12),
            texts in proptest::collection::vec("([a7][ -]|longer literals ){0,6}[ab7]{0,2}", 0..20),
        ) {
            let mut forms = Forms::new();
            keys.iter().for_each(|key| forms.add(key.as_bytes()));
            let (mut padded, mut found) = (Padded::default(), Vec::new());
            for text in &texts {
                padded.set(text.as_bytes());
                let spans = |found: &[Found]| -> Vec<(usize, usize)> {
                    found.iter().map(|found| (found.start, found.len)).collect()
                };
                let mut fits = Vec::new();
                forms.all(&padded, |no, found| fits.push((no, spans(found))));
                let of_keys = keys.iter().enumerate().filter(|(_, key)| fills(text, key));
                fits.sort();
                prop_assert_eq!(
                    fits.iter().map(|(no, _)| *no).collect::<Vec<_>>(),
                    of_keys.map(|(no, _)| no).collect::<Vec<_>>()
                );
                match forms.find(&padded, &mut found) {
                    Some(no) => prop_assert!(fits.contains(&(no as usize, spans(&found)))),
                    None => prop_assert!(fits.is_empty()),
                }
            }
        }

        #[test]
        fn numbers_are_read_with_the_token(text in "[0-9a-f]{1,24}[ ,]?") {
            let mut padded = Padded::default();
            padded.set(text.as_bytes());
            let found = token(&padded, 0, false).expect("a token");
            let token = text.trim_end_matches([' ', ',']);
            prop_assert_eq!(found.len, token.len());
            prop_assert_eq!(found.digits, token.bytes().all(|byte| byte.is_ascii_digit()));
            if found.digits && found.len <= DECIMAL_DIGITS_MAX {
                prop_assert_eq!(Ok(found.number), token.parse());
            }
        }
    }
}
