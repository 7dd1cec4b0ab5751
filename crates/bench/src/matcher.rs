//! A [`Filter`] made ready to be tried on record after record.

use memchr::memmem::Finder;
use regex::Regex;
use serde_json::{Map, Value};

use crate::question::Filter;

/// One record as the oracle sees it: its line, parsed.
pub(crate) struct Record<'a> {
    pub(crate) time_ns: i64,
    pub(crate) message: &'a str,
    pub(crate) fields: &'a Map<String, Value>,
}

impl Record<'_> {
    /// The value at a dotted path, if the record has it.
    pub(crate) fn field(&self, path: &str) -> Option<&Value> {
        let mut names = path.split('.');
        let mut value = self.fields.get(names.next()?)?;
        for name in names {
            value = value.as_object()?.get(name)?;
        }
        Some(value)
    }
}

/// A field's value as text: what stores show for it.
pub(crate) fn text_of(value: &Value) -> std::borrow::Cow<'_, str> {
    match value {
        Value::String(text) => text.into(),
        other => other.to_string().into(),
    }
}

/// A filter with its searchers built.
pub(crate) enum Matcher {
    All,
    /// A text, and whether a word border must stand before and after it.
    Text(Box<Finder<'static>>, bool, bool),
    Regex(Regex),
    In(String, Vec<String>),
    Between(String, f64, f64),
    Window(i64, i64),
    And(Vec<Matcher>),
    Or(Vec<Matcher>),
    Not(Box<Matcher>),
}

impl Matcher {
    /// # Panics
    /// For a regular expression that is none: questions are part of this program.
    pub(crate) fn new(filter: &Filter) -> Self {
        let text = |text: &str, before, after| {
            Self::Text(Box::new(Finder::new(text.as_bytes()).into_owned()), before, after)
        };
        let all = |filters: &[Filter]| filters.iter().map(Self::new).collect();
        match filter {
            Filter::All => Self::All,
            Filter::Word(word) | Filter::Phrase(word) => text(word, true, true),
            Filter::Prefix(word) => text(word, true, false),
            Filter::Substring(word) => text(word, false, false),
            Filter::Regex(regex) => Self::Regex(Regex::new(regex).expect("a question's regex")),
            Filter::Is(field, value) | Filter::Stream(field, value) => {
                Self::In(field.clone(), vec![value.clone()])
            }
            Filter::In(field, values) => Self::In(field.clone(), values.clone()),
            Filter::Between(field, low, high) => Self::Between(field.clone(), *low, *high),
            Filter::Window(start_ns, end_ns) => Self::Window(*start_ns, *end_ns),
            Filter::And(filters) => Self::And(all(filters)),
            Filter::Or(filters) => Self::Or(all(filters)),
            Filter::Not(filter) => Self::Not(Box::new(Self::new(filter))),
        }
    }

    /// Whether the record is asked for.
    pub(crate) fn fits(&self, record: &Record<'_>) -> bool {
        match self {
            Self::All => true,
            Self::Text(finder, before, after) => {
                has_text(finder, *before, *after, record.message.as_bytes())
            }
            Self::Regex(regex) => regex.is_match(record.message),
            Self::In(field, values) => record.field(field).is_some_and(|value| {
                let text = text_of(value);
                values.iter().any(|wanted| *wanted == text)
            }),
            Self::Between(field, low, high) => record
                .field(field)
                .and_then(Value::as_f64)
                .is_some_and(|number| (*low..=*high).contains(&number)),
            Self::Window(start_ns, end_ns) => (*start_ns..*end_ns).contains(&record.time_ns),
            Self::And(parts) => parts.iter().all(|part| part.fits(record)),
            Self::Or(parts) => parts.iter().any(|part| part.fits(record)),
            Self::Not(part) => !part.fits(record),
        }
    }
}

/// Whether the text occurs, with word borders where they are asked for.
fn has_text(finder: &Finder<'_>, before: bool, after: bool, message: &[u8]) -> bool {
    let length = finder.needle().len();
    let is_word = |byte: Option<&u8>| {
        byte.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_' || *b >= 0x80)
    };
    finder.find_iter(message).any(|start| {
        let left = start.checked_sub(1).and_then(|at| message.get(at));
        let right = message.get(start + length);
        (!before || !is_word(left)) && (!after || !is_word(right))
    })
}
