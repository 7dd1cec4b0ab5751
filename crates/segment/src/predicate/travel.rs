//! A predicate on its way to another server of the same version: what its parts are made of.
//!
//! Invariants: what arrives is equal to what was sent; numbers travel by their bits, as no decimal
//! text is exact everywhere; expressions are compiled anew, under the limits of any other.

use serde::{Deserialize, Serialize};

use super::placeholders::Ends;

/// A phrase: its text, and whether its end is to be the end of a word.
#[derive(Serialize, Deserialize)]
pub(super) struct Phrase {
    text: String,
    word_last: bool,
}

impl From<super::Phrase> for Phrase {
    fn from(phrase: super::Phrase) -> Self {
        Self { text: phrase.text().to_owned(), word_last: phrase.ends_at_border() }
    }
}

impl From<Phrase> for super::Phrase {
    fn from(Phrase { text, word_last }: Phrase) -> Self {
        Self::new(&text, word_last)
    }
}

/// An expression: as it was written, as it is compiled, and where it must lie if it has placeholders.
#[derive(Serialize, Deserialize)]
pub(super) struct Pattern {
    text: String,
    source: String,
    ends: Option<Ends>,
}

impl From<super::Pattern> for Pattern {
    fn from(pattern: super::Pattern) -> Self {
        let (text, source) = (pattern.text().to_owned(), pattern.source().to_owned());
        Self { text, source, ends: pattern.ends() }
    }
}

impl TryFrom<Pattern> for super::Pattern {
    type Error = String;

    fn try_from(pattern: Pattern) -> Result<Self, String> {
        match pattern.ends {
            Some(ends) => Self::placeholders(&pattern.text, ends),
            None => Self::compile(&pattern.text, &pattern.source),
        }
    }
}

/// A range of numbers.
#[derive(Serialize, Deserialize)]
pub(super) struct NumberRange {
    #[serde(with = "float_bits")]
    min: f64,
    min_open: bool,
    #[serde(with = "float_bits")]
    max: f64,
    max_open: bool,
}

impl From<super::NumberRange> for NumberRange {
    fn from(range: super::NumberRange) -> Self {
        let super::NumberRange { min, min_open, max, max_open } = range;
        Self { min, min_open, max, max_open }
    }
}

impl From<NumberRange> for super::NumberRange {
    fn from(range: NumberRange) -> Self {
        let NumberRange { min, min_open, max, max_open } = range;
        Self { min, min_open, max, max_open }
    }
}

/// A number as its bits, for `#[serde(with)]`.
pub mod float_bits {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Writes the bits.
    pub fn serialize<S: Serializer>(number: &f64, to: S) -> Result<S::Ok, S::Error> {
        number.to_bits().serialize(to)
    }

    /// Reads the bits.
    pub fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<f64, D::Error> {
        u64::deserialize(from).map(f64::from_bits)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::ops::Bound;

    use super::super::{
        Ends, FieldOrder, FieldTest, LabelMatcher, LabelTest, NumberRange, Pattern, Phrase,
        Predicate, StreamSelector, TextRange, ValueKind,
    };

    fn tests() -> Vec<FieldTest> {
        let set = || ["a".to_owned(), "\u{1}ß".to_owned()].into_iter().collect();
        let number = |min, max| NumberRange { min, min_open: true, max, max_open: false };
        vec![
            FieldTest::Empty,
            FieldTest::Contains(Phrase::whole("a b")),
            FieldTest::ContainsAnyCase(Phrase::prefix("ab")),
            FieldTest::ContainsAll(vec![Phrase::whole("-1"), Phrase::whole("é")]),
            FieldTest::Regex(Pattern::new("a.*b|c").unwrap()),
            FieldTest::Regex(Pattern::anchored("a|b").unwrap()),
            FieldTest::Regex(Pattern::placeholders("took <N> ms", Ends::Prefix).unwrap()),
            FieldTest::In(set()),
            FieldTest::JsonArray(set()),
            FieldTest::Number(number(f64::NEG_INFINITY, 0.1 + 0.2)),
            FieldTest::Number(number(-0.0, f64::INFINITY)),
            FieldTest::Text(TextRange {
                min: Bound::Excluded("a".to_owned()),
                max: Bound::Unbounded,
            }),
            FieldTest::Ipv6 { min: 1, max: u128::MAX },
            FieldTest::Kind(ValueKind::Iso8601),
            FieldTest::Length { min: 0, max: u64::MAX },
        ]
    }

    #[test]
    fn what_arrives_is_what_was_sent() {
        let label = |name: &str, test| LabelMatcher { name: name.to_owned(), test };
        let mut parts: Vec<Predicate> =
            tests().into_iter().map(|test| Predicate::field("f", test)).collect();
        parts.extend([
            Predicate::All,
            Predicate::Time { min_ns: i64::MIN, max_ns: i64::MAX },
            Predicate::WeekRange { days: 0x7f, offset_ns: -1 },
            Predicate::Stream(StreamSelector {
                groups: vec![vec![
                    label("a", LabelTest::NotIn(vec!["x".to_owned()])),
                    label("b", LabelTest::Regex(Pattern::anchored("w-.*").unwrap())),
                ]],
            }),
            Predicate::AnyField { prefix: "k8s.".to_owned(), test: FieldTest::Any },
            Predicate::Compare {
                left: "a".to_owned(),
                order: FieldOrder::LessOrEqual,
                right: "b".to_owned(),
            },
        ]);
        let sent =
            Predicate::And(vec![Predicate::Or(parts), Predicate::Not(Predicate::None.into())]);
        let text = serde_json::to_string(&sent).unwrap();
        let arrived: Predicate = serde_json::from_str(&text).unwrap();
        assert_eq!(arrived, sent);
        assert_eq!(serde_json::to_string(&arrived).unwrap(), text);
        // Also of what equality does not look at.
        for value in ["took 12 ms", "a", "xaxb", "b"] {
            for test in tests() {
                let text = serde_json::to_string(&test).unwrap();
                let arrived: FieldTest = serde_json::from_str(&text).unwrap();
                assert_eq!(arrived.matches(value), test.matches(value), "{test:?} of {value}");
            }
        }
    }

    #[test]
    fn what_cannot_be_compiled_is_refused() {
        let wrong = "{\"Regex\":{\"text\":\"(\",\"source\":\"(\",\"ends\":null}}";
        assert!(serde_json::from_str::<FieldTest>(wrong).is_err());
    }
}
