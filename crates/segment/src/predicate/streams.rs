//! Selecting streams by their labels: `{service="api",host=~"web-.*" or host="db"}`.

use lodge_record::overflow::push_json_string;
use lodge_record::stream::StreamLabels;
use memchr::memmem::Finder;
use serde::{Deserialize, Serialize};

use super::Pattern;

/// Which streams: those that match every matcher of at least one group. No groups match all.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct StreamSelector {
    /// Alternatives.
    pub groups: Vec<Vec<LabelMatcher>>,
}

/// One condition on a label; an absent label is an empty one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelMatcher {
    /// The label's name.
    pub name: String,
    /// What its value must be.
    pub test: LabelTest,
}

/// What a label's value must be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum LabelTest {
    /// One of these, exactly.
    In(Vec<String>),
    /// None of these.
    NotIn(Vec<String>),
    /// Matched as a whole by this expression.
    Regex(Pattern),
    /// Not matched as a whole by this expression.
    NotRegex(Pattern),
}

impl StreamSelector {
    /// Whether the stream with this canonical label text is selected.
    pub fn matches(&self, canonical: &str) -> bool {
        self.prepared().matches(canonical)
    }

    /// The same, made ready for many streams.
    pub fn prepared(&self) -> PreparedSelector<'_> {
        let needles = self.groups.iter().map(|group| {
            group.iter().filter_map(LabelMatcher::needles).map(Needles::from).collect()
        });
        PreparedSelector { selector: self, needles: needles.collect() }
    }
}

/// A [`StreamSelector`] that is made ready: most streams are refused by a search for the texts that a
/// selected one must have, without their labels being told apart.
#[derive(Debug)]
pub struct PreparedSelector<'s> {
    selector: &'s StreamSelector,
    /// Of each group texts, of each list of which a stream must have one.
    needles: Vec<Vec<Needles>>,
}

#[derive(Debug)]
struct Needles(Vec<Finder<'static>>);

impl From<Vec<String>> for Needles {
    fn from(texts: Vec<String>) -> Self {
        Self(texts.iter().map(|text| Finder::new(text).into_owned()).collect())
    }
}

impl PreparedSelector<'_> {
    /// Whether the stream with this canonical label text is selected.
    pub fn matches(&self, canonical: &str) -> bool {
        let groups = &self.selector.groups;
        if groups.is_empty() {
            return true;
        }
        // Where nothing is escaped, a label's value is there as it is, in quotes.
        let plain = memchr::memchr(b'\\', canonical.as_bytes()).is_none();
        let mut labels = None;
        groups.iter().zip(&self.needles).any(|(group, needles)| {
            let refused = |Needles(finders): &Needles| {
                finders.iter().all(|finder| finder.find(canonical.as_bytes()).is_none())
            };
            if plain && needles.iter().any(refused) {
                return false;
            }
            // Text that is not canonical has no labels that could be told apart.
            let labels =
                labels.get_or_insert_with(|| StreamLabels::parse(canonical).unwrap_or_default());
            group.iter().all(|matcher| matcher.matches(labels))
        })
    }
}

impl LabelMatcher {
    /// Texts of which a stream without escapes that matches has at least one, if there are such.
    fn needles(&self) -> Option<Vec<String>> {
        let LabelTest::In(values) = &self.test else { return None };
        let needle = |value: &String| {
            // An absent label is an empty one.
            (!value.is_empty()).then(|| {
                let mut text = String::new();
                push_json_string(&mut text, value);
                text
            })
        };
        values.iter().map(needle).collect()
    }

    fn matches(&self, labels: &StreamLabels) -> bool {
        let value = labels.get(&self.name).unwrap_or_default();
        match &self.test {
            LabelTest::In(values) => values.iter().any(|wanted| wanted == value),
            LabelTest::NotIn(values) => values.iter().all(|unwanted| unwanted != value),
            LabelTest::Regex(pattern) => pattern.is_match(value),
            LabelTest::NotRegex(pattern) => !pattern.is_match(value),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn matcher(name: &str, test: LabelTest) -> LabelMatcher {
        LabelMatcher { name: name.into(), test }
    }

    #[test]
    fn labels_match_as_in_prometheus() {
        let select = |test| StreamSelector { groups: vec![vec![matcher("app", test)]] };
        let api = r#"{app="api",host="a"}"#;
        assert!(select(LabelTest::In(vec!["api".into()])).matches(api));
        assert!(!select(LabelTest::In(vec!["ap".into()])).matches(api));
        assert!(select(LabelTest::Regex(Pattern::anchored("a.i").unwrap())).matches(api));
        assert!(!select(LabelTest::Regex(Pattern::anchored("a").unwrap())).matches(api));
        // An absent label is an empty one.
        assert!(select(LabelTest::NotIn(vec!["api".into()])).matches("{}"));
        assert!(select(LabelTest::In(vec![String::new()])).matches("{}"));
        assert!(StreamSelector::default().matches("{}"));
    }

    #[test]
    fn what_is_searched_for_and_what_is_parsed_agree() {
        let values = ["api", "a", "", "i\"", "a\\b", "ü", "x\n", "api\",b=\"c"];
        let mut texts: Vec<String> =
            ["", "{", "{app}", "{app= \"api\"}", r#"{app="\u0061pi"}"#, r#"{app="api""#]
                .map(str::to_owned)
                .to_vec();
        for name in ["app", "ap", "zapp"] {
            for value in values {
                let mut labels = StreamLabels::new();
                labels.set(name, value);
                labels.set("host", "api");
                texts.push(labels.canonical());
            }
        }
        for wanted in values {
            for other in values {
                let test = LabelTest::In(vec![wanted.to_owned(), other.to_owned()]);
                let matcher = matcher("app", test);
                let selector = StreamSelector {
                    groups: vec![vec![matcher.clone()], vec![matcher.clone(), matcher.clone()]],
                };
                for text in &texts {
                    let labels = StreamLabels::parse(text).unwrap_or_default();
                    let expected = matcher.matches(&labels);
                    assert_eq!(selector.matches(text), expected, "{selector} of {text}");
                }
            }
        }
    }
}
