//! What a field's value must be: one test on one text.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Bound;

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::json;
use super::kind::ValueKind;
use super::number::{parse_ipv4, parse_ipv6, parse_number};
use super::placeholders::{self, Ends};
use super::travel;
use super::words::Phrase;

/// Bytes that one compiled regular expression may take.
const REGEX_BYTES_MAX: usize = 2 << 20;

/// A compiled regular expression with its source text.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(into = "travel::Pattern", try_from = "travel::Pattern")]
pub struct Pattern {
    text: String,
    regex: Regex,
    /// It was written with placeholders, not as an expression.
    ends: Option<Ends>,
    /// Texts that are in every value that it matches, as far as they are known.
    literals: Vec<String>,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
            && self.ends == other.ends
            && self.regex.as_str() == other.regex.as_str()
    }
}

impl Pattern {
    /// An expression that may match anywhere in a value.
    pub fn new(text: &str) -> Result<Self, String> {
        Self::compile(text, text)
    }

    /// An expression that must match a whole value.
    pub fn anchored(text: &str) -> Result<Self, String> {
        Self::compile(text, &format!("^(?:{text})$"))
    }

    /// A text with placeholders such as `<N>` for a number.
    pub fn placeholders(text: &str, ends: Ends) -> Result<Self, String> {
        let (source, literals) = placeholders::compile(text, ends);
        let pattern = Self::compile(text, &source)?;
        Ok(Self { ends: Some(ends), literals, ..pattern })
    }

    pub(super) fn compile(text: &str, source: &str) -> Result<Self, String> {
        let regex = regex::RegexBuilder::new(source)
            .size_limit(REGEX_BYTES_MAX)
            .dfa_size_limit(REGEX_BYTES_MAX)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { text: text.to_owned(), regex, ends: None, literals: Vec::new() })
    }

    /// Where it lies in a value, if it was written with placeholders.
    pub(crate) fn ends(&self) -> Option<Ends> {
        self.ends
    }

    /// Texts that are in every value that it matches, as far as they are known.
    pub(crate) fn literals(&self) -> &[String] {
        &self.literals
    }

    /// The expression as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The expression as it is compiled.
    pub(crate) fn source(&self) -> &str {
        self.regex.as_str()
    }

    /// Whether it matches.
    pub fn is_match(&self, value: &str) -> bool {
        self.regex.is_match(value)
    }
}

/// A range of numbers; either end may be excluded.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "travel::NumberRange", from = "travel::NumberRange")]
pub struct NumberRange {
    /// Lower end.
    pub min: f64,
    /// Whether the lower end itself is left out.
    pub min_open: bool,
    /// Upper end.
    pub max: f64,
    /// Whether the upper end itself is left out.
    pub max_open: bool,
}

impl NumberRange {
    /// Whether `value` is in the range.
    pub fn contains(&self, value: f64) -> bool {
        (if self.min_open { value > self.min } else { value >= self.min })
            && (if self.max_open { value < self.max } else { value <= self.max })
    }
}

/// A range of texts in byte order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TextRange {
    /// Lower end.
    pub min: Bound<String>,
    /// Upper end.
    pub max: Bound<String>,
}

impl TextRange {
    /// Whether `value` is in the range.
    pub fn contains(&self, value: &str) -> bool {
        let above = match &self.min {
            Bound::Unbounded => true,
            Bound::Included(min) => value >= min.as_str(),
            Bound::Excluded(min) => value > min.as_str(),
        };
        above
            && match &self.max {
                Bound::Unbounded => true,
                Bound::Included(max) => value <= max.as_str(),
                Bound::Excluded(max) => value < max.as_str(),
            }
    }
}

/// A test of a field's value; a missing field has the empty value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FieldTest {
    /// The value is empty.
    Empty,
    /// The value is not empty.
    Any,
    /// A word, phrase or prefix of one occurs in the value.
    Contains(Phrase),
    /// As `Contains`, letter case aside; the phrase is in lower case.
    ContainsAnyCase(Phrase),
    /// All of these occur in the value.
    ContainsAll(Vec<Phrase>),
    /// At least one of these occurs in the value.
    ContainsAny(Vec<Phrase>),
    /// These occur in the value one after the other.
    Sequence(Vec<Phrase>),
    /// The value is this text.
    Exact(String),
    /// The value begins with this text.
    ExactPrefix(String),
    /// This text occurs in the value, word borders aside.
    Substring(String),
    /// The expression matches somewhere in the value.
    Regex(Pattern),
    /// The value is one of these.
    In(BTreeSet<String>),
    /// The value is a number in this range.
    Number(NumberRange),
    /// The value is a text in this range.
    Text(TextRange),
    /// The value is an IPv4 address in this range, both ends included.
    Ipv4 {
        /// Lowest address.
        min: u32,
        /// Highest address.
        max: u32,
    },
    /// The value is an IPv6 address in this range, both ends included.
    Ipv6 {
        /// Lowest address.
        min: u128,
        /// Highest address.
        max: u128,
    },
    /// The value is of this kind.
    Kind(ValueKind),
    /// The value is a JSON array with one of these among its members.
    JsonArray(BTreeSet<String>),
    /// The value has this many characters, both ends included.
    Length {
        /// Fewest characters.
        min: u64,
        /// Most characters.
        max: u64,
    },
}

impl FieldTest {
    /// A regular expression that may match anywhere in a value. One without special characters is
    /// what it says: a text.
    pub fn regex(text: &str) -> Result<Self, String> {
        if !text.is_empty() && regex::escape(text) == text {
            return Ok(Self::Substring(text.to_owned()));
        }
        Pattern::new(text).map(Self::Regex)
    }

    /// A word or phrase; the empty one asks for the empty value.
    pub fn phrase(text: &str) -> Self {
        if text.is_empty() { Self::Empty } else { Self::Contains(Phrase::whole(text)) }
    }

    /// A prefix of a word or phrase; the empty one asks for any value.
    pub fn prefix(text: &str) -> Self {
        if text.is_empty() { Self::Any } else { Self::Contains(Phrase::prefix(text)) }
    }

    /// A word or phrase in any letter case.
    pub fn phrase_any_case(text: &str) -> Self {
        if text.is_empty() {
            return Self::Empty;
        }
        Self::ContainsAnyCase(Phrase::whole(&text.to_lowercase()))
    }

    /// A prefix of a word or phrase in any letter case.
    pub fn prefix_any_case(text: &str) -> Self {
        if text.is_empty() {
            return Self::Any;
        }
        Self::ContainsAnyCase(Phrase::prefix(&text.to_lowercase()))
    }

    /// A value with exactly this text.
    pub fn exact(text: &str) -> Self {
        if text.is_empty() { Self::Empty } else { Self::Exact(text.to_owned()) }
    }

    /// Whether a value passes.
    pub fn matches(&self, value: &str) -> bool {
        match self {
            Self::Empty => value.is_empty(),
            Self::Any => !value.is_empty(),
            Self::Contains(phrase) => phrase.occurs_in(value),
            Self::ContainsAnyCase(phrase) => phrase.occurs_in(&lower(value)),
            Self::ContainsAll(phrases) => phrases.iter().all(|phrase| phrase.occurs_in(value)),
            Self::ContainsAny(phrases) => phrases.iter().any(|phrase| phrase.occurs_in(value)),
            Self::Sequence(phrases) => {
                phrases.iter().try_fold(0, |from, phrase| phrase.find(value, from)).is_some()
            }
            Self::Exact(text) => value == text,
            Self::ExactPrefix(text) => value.starts_with(text.as_str()),
            Self::Substring(text) => value.contains(text.as_str()),
            Self::Regex(pattern) => pattern.is_match(value),
            Self::In(values) => values.contains(value),
            Self::Number(range) => parse_number(value).is_some_and(|n| range.contains(n)),
            Self::Text(range) => range.contains(value),
            Self::Ipv4 { min, max } => {
                parse_ipv4(value).is_some_and(|address| (*min..=*max).contains(&address))
            }
            Self::Ipv6 { min, max } => {
                parse_ipv6(value).is_some_and(|address| (*min..=*max).contains(&address))
            }
            Self::Kind(kind) => kind.holds(value),
            Self::JsonArray(wanted) => json::array_holds(value, wanted),
            Self::Length { min, max } => {
                let length = value.chars().count() as u64;
                (*min..=*max).contains(&length)
            }
        }
    }

    /// How dear one evaluation is, in no unit; tests are ordered by it.
    pub(super) fn cost(&self) -> u32 {
        match self {
            Self::Empty | Self::Any | Self::Exact(_) | Self::ExactPrefix(_) => 2,
            Self::In(_) | Self::Number(_) | Self::Text(_) | Self::Ipv4 { .. } => 3,
            Self::Ipv6 { .. } | Self::Kind(_) => 4,
            Self::Contains(_) | Self::Substring(_) => 5,
            Self::Length { .. } | Self::ContainsAll(_) | Self::Sequence(_) => 6,
            Self::ContainsAny(_) => 8,
            Self::ContainsAnyCase(_) => 10,
            Self::Regex(_) => 12,
            Self::JsonArray(_) => 15,
        }
    }
}

/// `value` in lower case, borrowed where it already is.
fn lower(value: &str) -> Cow<'_, str> {
    if value.is_ascii() {
        if value.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Cow::Owned(value.to_ascii_lowercase());
        }
        return Cow::Borrowed(value);
    }
    Cow::Owned(value.to_lowercase())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn documented_examples() {
        let sequence =
            FieldTest::Sequence(vec![Phrase::whole("error"), Phrase::whole("open file")]);
        assert!(sequence.matches("some error: cannot open file /foo/bar"));
        assert!(!sequence.matches("cannot open file: error"));
        let error = FieldTest::phrase_any_case("Error");
        for text in ["unknown error happened", "ERROR: cannot read", "An ErRoR occurred"] {
            assert!(error.matches(text), "{text}");
        }
        assert!(!error.matches("FooError") && !error.matches("too many Errors"));
        let regex = FieldTest::Regex(Pattern::new("err|warn").unwrap());
        assert!(regex.matches("data transferring finished"));
        assert!(!regex.matches("it is warmer than usual"));
        let length = FieldTest::Length { min: 5, max: 10 };
        assert!(length.matches("foobar") && length.matches("foo bar"));
        assert!(!length.matches("foo") && !length.matches("foo bar baz abc"));
        let range = NumberRange { min: 1.0, min_open: true, max: 10.0, max_open: false };
        let range = FieldTest::Number(range);
        assert!(range.matches("10") && range.matches("1.5") && !range.matches("1"));
        assert!(!range.matches("the request took 4.2 seconds") && !range.matches(""));
    }

    #[test]
    fn a_huge_expression_is_refused() {
        let error = Pattern::new(r"(\w{100}){100}").unwrap_err();
        assert!(error.contains("size limit"), "{error}");
    }
}
