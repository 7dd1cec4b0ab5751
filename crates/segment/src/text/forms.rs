//! Which templates a text fits, and what it has in their slots.
//!
//! A form is a template's key made ready for comparing: its literals as words of eight bytes. What is
//! in a slot is found by walking along the text: as no literal before a slot ends with a letter or a
//! digit, and none behind begins with one, there is one way at most in which a text fits a form.

use std::ops::Range;

use super::column::is_mark;
use super::tokens::{TOP, UUID_BYTES, classes, is_uuid};
use super::values::{DECIMAL_DIGITS_MAX, parse_digits, parse_eight};
use super::{MARK_TOKEN, MARK_UUID};

/// Longer tokens are in no slot.
pub(super) const TOKEN_BYTES_MAX: usize = 512;
/// Bytes of zeros behind a text, so that words can be read up to its end.
const PAD_BYTES: usize = 16;
/// Ends the last literal of a form.
const END: u8 = 0;
/// The bucket of the forms that begin with a slot, or are empty.
const SLOT_FIRST: usize = 256;

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

    /// The last eight bytes, the last one highest.
    fn tail(&self) -> u64 {
        match self.len {
            0 => 0,
            len @ 1..8 => self.word(0).unwrap_or(0) << (64 - 8 * len),
            len => self.word(len - 8).unwrap_or(0),
        }
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

/// A literal and what comes behind it.
struct Piece {
    words: Range<usize>,
    len: usize,
    mark: u8,
}

/// Bytes of which those under the mask count.
#[derive(Clone, Copy, Default)]
struct Masked {
    bytes: u64,
    mask: u64,
}

impl Masked {
    /// Up to eight bytes, the first one lowest.
    fn head(bytes: &[u8]) -> Self {
        bytes.iter().take(8).enumerate().fold(Self::default(), |all, (at, byte)| Self {
            bytes: all.bytes | u64::from(*byte) << (8 * at),
            mask: all.mask | 0xff << (8 * at),
        })
    }

    /// The last bytes up to eight, the last one highest.
    fn tail(bytes: &[u8]) -> Self {
        let len = bytes.len().min(8);
        let all = Self::head(bytes.get(bytes.len() - len..).unwrap_or_default());
        match len {
            0 => all,
            len => {
                let shift = 64 - 8 * len;
                Self { bytes: all.bytes << shift, mask: all.mask << shift }
            }
        }
    }

    fn fits(self, word: u64) -> bool {
        (word ^ self.bytes) & self.mask == 0
    }
}

struct Form {
    head: Masked,
    tail: Masked,
    pieces: Range<usize>,
}

/// The forms of a column's templates.
pub(super) struct Forms {
    words: Vec<Masked>,
    pieces: Vec<Piece>,
    forms: Vec<Form>,
    /// By their first byte; the one that fitted last comes first.
    buckets: Vec<Vec<u32>>,
}

impl Forms {
    pub(super) fn new() -> Self {
        let (words, pieces, forms) = (Vec::new(), Vec::new(), Vec::new());
        Self { words, pieces, forms, buckets: vec![Vec::new(); SLOT_FIRST + 1] }
    }

    /// Appends the form of a template's key.
    pub(super) fn add(&mut self, key: &[u8]) {
        let first_piece = self.pieces.len();
        let mut head = Masked::default();
        let mut from = 0;
        let tail = loop {
            let rest = key.get(from..).unwrap_or_default();
            let len = rest.iter().position(|byte| is_mark(*byte)).unwrap_or(rest.len());
            let literal = rest.get(..len).unwrap_or_default();
            let first = self.words.len();
            self.words.extend(literal.chunks(8).map(Masked::head));
            let mark = rest.get(len).copied().unwrap_or(END);
            self.pieces.push(Piece { words: first..self.words.len(), len, mark });
            if from == 0 {
                head = Masked::head(literal);
            }
            if mark == END {
                break Masked::tail(literal);
            }
            from += len + 1;
        };
        let bucket = match key.first() {
            Some(first) if !is_mark(*first) => usize::from(*first),
            _ => SLOT_FIRST,
        };
        if let Some(bucket) = self.buckets.get_mut(bucket) {
            bucket.push(self.forms.len() as u32);
        }
        self.forms.push(Form { head, tail, pieces: first_piece..self.pieces.len() });
    }

    /// A form that the text fits, and what is in its slots.
    pub(super) fn find(&mut self, text: &Padded, found: &mut Vec<Found>) -> Option<u32> {
        let (head, tail) = (text.word(0)?, text.tail());
        let first = text.text().first().map_or(SLOT_FIRST, |first| usize::from(*first));
        let buckets = [first, SLOT_FIRST];
        for bucket in buckets.get(usize::from(first == SLOT_FIRST)..).unwrap_or_default() {
            let list = self.buckets.get(*bucket).map_or(&[][..], Vec::as_slice);
            let at = list.iter().position(|no| {
                self.forms.get(*no as usize).is_some_and(|form| {
                    form.head.fits(head) && form.tail.fits(tail) && self.walk(form, text, found)
                })
            });
            if let Some(at) = at {
                let list = self.buckets.get_mut(*bucket)?.get_mut(..=at)?;
                list.rotate_right(1);
                return list.first().copied();
            }
        }
        None
    }

    #[cfg(test)]
    /// Hands out all forms that the text fits: `each(number, what is in its slots)`.
    pub(super) fn all(&self, text: &Padded, mut each: impl FnMut(usize, &[Found])) {
        let (head, tail) = (text.word(0).unwrap_or(0), text.tail());
        let mut found = Vec::new();
        for (no, form) in self.forms.iter().enumerate() {
            if form.head.fits(head) && form.tail.fits(tail) && self.walk(form, text, &mut found) {
                each(no, &found);
            }
        }
    }

    fn walk(&self, form: &Form, text: &Padded, found: &mut Vec<Found>) -> bool {
        found.clear();
        let mut at = 0;
        for piece in self.pieces.get(form.pieces.clone()).unwrap_or_default() {
            let words = self.words.get(piece.words.clone()).unwrap_or_default();
            let mut word_at = at;
            for word in words {
                if !text.word(word_at).is_some_and(|bytes| word.fits(bytes)) {
                    return false;
                }
                word_at += 8;
            }
            at += piece.len;
            let next = match piece.mark {
                // Zeros behind the text may have passed for a literal's.
                END => return at == text.len,
                MARK_UUID if is_uuid(text.text(), at) => {
                    Some(Found { start: at, len: UUID_BYTES, digits: false, number: 0 })
                }
                MARK_UUID => None,
                mark => token(text, at, mark == MARK_TOKEN),
            };
            let Some(next) = next else { return false };
            at += next.len;
            found.push(next);
        }
        false
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
