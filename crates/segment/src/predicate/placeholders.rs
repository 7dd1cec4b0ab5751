//! Patterns with placeholders, as `pattern_match("user <N> from <IP4>")` takes them.
//!
//! A pattern becomes a regular expression, so that the size of what it needs is limited and its time
//! is linear. What the language of expressions lacks is a look at the next character: where a
//! placeholder must not stop inside a number or word, the literal text behind it tells at once
//! whether it can.
//!
//! `<N>` is a run of digits, or of at least four hexadecimal digits, an even number of them. It is
//! not followed by a character of a word, but for `_` and those that units and times begin with.

use serde::{Deserialize, Serialize};

/// Where a pattern must lie in a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ends {
    /// Anywhere.
    Open,
    /// At the beginning.
    Prefix,
    /// At the end.
    Suffix,
    /// It is the value.
    Full,
}

impl Ends {
    /// All of them, by the names of their filters.
    pub const ALL: [(&'static str, Self); 4] = [
        ("pattern_match", Self::Open),
        ("pattern_match_full", Self::Full),
        ("pattern_match_prefix", Self::Prefix),
        ("pattern_match_suffix", Self::Suffix),
    ];

    /// The name of its filter.
    pub(super) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, ends)| *ends == self).map_or("", |(name, _)| *name)
    }

    fn at_start(self) -> bool {
        matches!(self, Self::Prefix | Self::Full)
    }

    fn at_end(self) -> bool {
        matches!(self, Self::Suffix | Self::Full)
    }
}

const NUMBER: &str = "(?:[0-9]+|(?:[0-9A-Fa-f]{2}){2,})";
const WORD_CLASS: &str = r"[\p{Alphabetic}\p{N}_]";
const QUOTED: &str = concat!(r#""(?:[^"\\\n]|\\.)*""#, r"|'(?:[^'\\\n]|\\.)*'", "|`[^`]*`");
/// Matches nothing.
const NEVER: &str = "[a&&b]";

#[derive(Clone, Copy, Debug, PartialEq)]
enum Part<'p> {
    Literal(&'p str),
    Number,
    Uuid,
    Ip4,
    Time,
    Date,
    DateTime,
    Word,
}

/// What follows a placeholder.
#[derive(Clone, Copy, Debug)]
enum Next<'p> {
    /// The end of the pattern, with more of the value behind it, perhaps.
    Anything,
    /// The end of the value.
    End,
    Literal(&'p str),
    Word,
    /// A placeholder that begins with a number.
    Number,
}

/// The source of a regular expression for `text`, and the literal texts that a matching value holds.
pub(super) fn compile(text: &str, ends: Ends) -> (String, Vec<String>) {
    let parts = parts(text);
    let mut source = String::new();
    if ends.at_start() {
        source.push('^');
    } else if !matches!(parts.first(), None | Some(Part::Literal(_) | Part::Word)) {
        // A number does not begin inside a word, but for what stands in front of times and versions.
        source.push_str("(?:^|[^0-9A-Za-z_]|[_TXxvshm])");
    }
    for (at, part) in parts.iter().enumerate() {
        let next = match parts.get(at + 1) {
            None if ends.at_end() => Next::End,
            None => Next::Anything,
            Some(Part::Literal(text)) => Next::Literal(text),
            Some(Part::Word) => Next::Word,
            Some(_) => Next::Number,
        };
        let after_number = at > 0
            && !matches!(parts.get(at - 1), Some(Part::Literal(_) | Part::Word | Part::DateTime));
        source.push_str(&expression(*part, next, after_number));
    }
    if ends.at_end() {
        source.push('$');
    }
    let literals = parts.iter().filter_map(|part| match part {
        Part::Literal(text) => Some((*text).to_owned()),
        _ => None,
    });
    (source, literals.collect())
}

fn parts(text: &str) -> Vec<Part<'_>> {
    const NAMES: [(&str, Part<'static>); 7] = [
        ("<N>", Part::Number),
        ("<UUID>", Part::Uuid),
        ("<IP4>", Part::Ip4),
        ("<TIME>", Part::Time),
        ("<DATE>", Part::Date),
        ("<DATETIME>", Part::DateTime),
        ("<W>", Part::Word),
    ];
    let mut parts = Vec::new();
    let (mut from, mut at) = (0, 0);
    while let Some(rest) = text.get(at..)
        && let Some(found) = rest.find('<')
    {
        at += found;
        let rest = text.get(at..).unwrap_or_default();
        let Some((name, part)) = NAMES.iter().find(|(name, _)| rest.starts_with(name)) else {
            at += 1;
            continue;
        };
        parts.extend(text.get(from..at).filter(|t| !t.is_empty()).map(Part::Literal));
        parts.push(*part);
        at += name.len();
        from = at;
    }
    parts.extend(text.get(from..).filter(|t| !t.is_empty()).map(Part::Literal));
    parts
}

fn expression(part: Part<'_>, next: Next<'_>, after_number: bool) -> String {
    let n = NUMBER;
    match part {
        Part::Literal(text) => regex::escape(text),
        Part::Number => ended(n, next),
        Part::Uuid => ended(&format!("{n}-{n}-{n}-{n}-{n}"), next),
        Part::Ip4 => ended(&format!(r"{n}\.{n}\.{n}\.{n}"), next),
        Part::Time => ended(&time(), next),
        Part::Date => ended(&date(), next),
        Part::DateTime => {
            let moment = format!("{}[T ]{}", date(), time());
            // Behind a `Z` anything may follow.
            let zoned = format!("{moment}Z");
            let rest = ended(&format!("{moment}(?:[+-]{n}:{n})?"), next);
            format!("(?:{zoned}|{rest})")
        }
        Part::Word => {
            let first = if after_number {
                r"[_TZsmhun[\p{Alphabetic}\p{N}&&[^\x00-\x7f]]]"
            } else {
                WORD_CLASS
            };
            let is_word = |c: char| c.is_alphanumeric() || c == '_';
            // A word goes on as far as there are characters of words.
            let goes_on = match next {
                Next::Literal(text) => text.starts_with(is_word),
                Next::Word | Next::Number => true,
                Next::Anything | Next::End => false,
            };
            if goes_on {
                format!("(?:{QUOTED})")
            } else {
                format!("(?:{first}{WORD_CLASS}*|{QUOTED})")
            }
        }
    }
}

fn time() -> String {
    format!("{NUMBER}:{NUMBER}:{NUMBER}(?:[.,]{NUMBER})?")
}

fn date() -> String {
    format!("(?:{NUMBER}-{NUMBER}-{NUMBER}|{NUMBER}/{NUMBER}/{NUMBER})")
}

/// An expression that ends in a number, where the number ends.
fn ended(expression: &str, next: Next<'_>) -> String {
    let ends = |c: char| !c.is_ascii_alphanumeric() || "TZsmhun".contains(c);
    match next {
        Next::End | Next::Word => format!("(?:{expression})"),
        Next::Literal(text) if text.starts_with(ends) => format!("(?:{expression})"),
        // One more character is looked at; nothing comes behind it.
        Next::Anything => format!("(?:{expression})(?:$|[^0-9A-Za-z]|[TZsmhun])"),
        Next::Literal(_) | Next::Number => NEVER.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use crate::predicate::{FieldTest, Pattern};

    use super::*;

    #[test]
    fn placeholders_stand_for_what_they_name() {
        let matches = |pattern: &str, ends: Ends, value: &str| {
            let pattern = Pattern::placeholders(pattern, ends).expect("is one");
            FieldTest::Regex(pattern).matches(value)
        };
        let uuid = "2edfed59-3e98-4073-bbb2-28d321ca71a7";
        for (pattern, value) in [
            ("<N>", "123"),
            ("<N>", "v12"),
            ("<N>", "abcd1234"),
            ("<N>", "took 10ms"),
            ("<UUID>", uuid),
            ("<IP4>/<N>", "net 10.0.0.0/8"),
            ("<TIME>", "10:20:30,123"),
            ("<DATE>", "2025/10/20"),
            ("<DATETIME>", "2025-10-20 08:09:11.5+02:00"),
            ("<DATETIME>abc", "2025-10-20T08:09:11Zabc"),
            ("user <W>!", "the user \"J. Doe\"!"),
            ("user <W>!", "user ошибка!"),
            ("<x> <N>", "<x> 5"),
            ("a x <N> y", "a x nope a x 12 y"),
            ("", "anything"),
            ("<N><W>", "10ms"),
        ] {
            assert!(matches(pattern, Ends::Open, value), "{pattern} in {value}");
        }
        for (pattern, value) in [
            ("<N>", "abc"),
            ("<N>", "abcde"),
            ("<N>", "12q"),
            ("<N>", "q12"),
            ("<N>.", "123"),
            ("<N>5", "15"),
            ("<N><N>", "15"),
            ("<W>bar", "foobar"),
            ("<UUID>", "1-2-3-4"),
            ("<DATETIME>abc", "2025-10-20T08:09:11abc"),
        ] {
            assert!(!matches(pattern, Ends::Open, value), "{pattern} in {value}");
        }
        assert!(matches("job-<N>", Ends::Full, "job-42"));
        assert!(!matches("job-<N>", Ends::Full, "job-42 done"));
        assert!(matches("job-<N>", Ends::Prefix, "job-42 done"));
        assert!(!matches("job-<N>", Ends::Prefix, "a job-42"));
        assert!(matches("job-<N>", Ends::Suffix, "a job-42"));
        assert!(!matches("job-<N>", Ends::Suffix, "job-42 done"));
    }
}
