//! Words and phrases in text, after LogsQL.
//!
//! A word is a run of Unicode letters, digits and underscores. A phrase occurs in a text where its
//! bytes occur and neither of its ends cuts a word: an end that is a word character must not touch
//! another word character of the text.

use std::sync::Arc;

use memchr::memmem::Finder;
use serde::{Deserialize, Serialize};

use super::travel;

/// Whether `c` belongs to a word.
pub fn is_word_char(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_alphanumeric() || c == '_' } else { c.is_alphanumeric() }
}

/// A text to be found at word borders; compiled once, searched often.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(into = "travel::Phrase", from = "travel::Phrase")]
pub struct Phrase {
    finder: Arc<Finder<'static>>,
    text: Box<str>,
    /// The phrase begins with a word character.
    word_first: bool,
    /// The phrase ends with a word character, and that end counts (it does not for a prefix).
    word_last: bool,
}

impl PartialEq for Phrase {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text && self.word_last == other.word_last
    }
}

impl Phrase {
    /// A phrase that must begin and end at word borders.
    pub fn whole(text: &str) -> Self {
        Self::new(text, text.chars().next_back().is_some_and(is_word_char))
    }

    /// A phrase that must begin at a word border and may end anywhere.
    pub fn prefix(text: &str) -> Self {
        Self::new(text, false)
    }

    pub(super) fn new(text: &str, word_last: bool) -> Self {
        Self {
            finder: Arc::new(Finder::new(text).into_owned()),
            text: text.into(),
            word_first: text.chars().next().is_some_and(is_word_char),
            word_last,
        }
    }

    /// The text looked for.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the phrase must end at a word border, and ends with a character that makes it count.
    pub(crate) fn ends_at_border(&self) -> bool {
        self.word_last
    }

    /// Whether the phrase must begin and whether it must end at a word border.
    pub(crate) fn borders(&self) -> (bool, bool) {
        (self.word_first, self.word_last)
    }

    /// Finds the phrase's bytes, borders aside.
    pub(crate) fn finder(&self) -> &Finder<'static> {
        &self.finder
    }

    /// Whether the phrase occurs in `value`.
    pub fn occurs_in(&self, value: &str) -> bool {
        self.find(value, 0).is_some()
    }

    /// The end of the first occurrence that starts at byte `from` of `value` or later.
    pub fn find(&self, value: &str, from: usize) -> Option<usize> {
        let bytes = value.as_bytes();
        let mut at = from;
        loop {
            let start = at + self.finder.find(bytes.get(at..)?)?;
            let end = start + self.text.len();
            if self.borders_hold(value, start, end) {
                return Some(end);
            }
            at = start + 1;
        }
    }

    /// Whether the occurrence at `start..end` of `value` cuts no word.
    pub(super) fn borders_hold(&self, value: &str, start: usize, end: usize) -> bool {
        let before = || value.get(..start).and_then(|head| head.chars().next_back());
        let after = || value.get(end..).and_then(|tail| tail.chars().next());
        if self.word_first && before().is_some_and(is_word_char) {
            return false;
        }
        !self.word_last || !after().is_some_and(is_word_char)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documented_examples_of_words_and_phrases() {
        let word = Phrase::whole("error");
        for text in ["error", "an error happened", "error: cannot open file", "x error"] {
            assert!(word.occurs_in(text), "{text}");
        }
        for text in ["ERROR", "multiple errors occurred", "fooerror", "error_code", "", "érror"] {
            assert!(!word.occurs_in(text), "{text}");
        }
        let phrase = Phrase::whole("cannot open file");
        assert!(phrase.occurs_in("ERROR: cannot open file /foo/bar/baz"));
        assert!(phrase.occurs_in("cannot open file: permission denied"));
        assert!(!phrase.occurs_in("cannot  open  file"));
        assert!(!phrase.occurs_in("cannot open files"));
        assert!(phrase.occurs_in("cannot open files, cannot open file"));
    }

    #[test]
    fn documented_examples_of_prefixes() {
        let prefix = Phrase::prefix("err");
        assert!(prefix.occurs_in("err: foobar"));
        assert!(prefix.occurs_in("cannot open file: error occurred"));
        assert!(!prefix.occurs_in("fooerror"));
        let phrase = Phrase::prefix("unexpected fail");
        assert!(phrase.occurs_in("error:unexpected failure"));
        assert!(!phrase.occurs_in("unexpectedly failed"));
    }

    #[test]
    fn ends_that_are_no_word_characters_match_anywhere() {
        assert!(Phrase::whole("(bar,").occurs_in("foo(bar,baz)"));
        assert!(Phrase::whole("-1").occurs_in("x-1"));
        assert!(!Phrase::whole("-1").occurs_in("x-12"));
        assert!(Phrase::whole("ошибка").occurs_in("(ошибка)"));
        assert!(!Phrase::whole("ошибка").occurs_in("ошибками"));
    }
}
