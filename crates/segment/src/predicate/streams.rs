//! Selecting streams by their labels: `{service="api",host=~"web-.*" or host="db"}`.

use lodge_record::stream::StreamLabels;

use super::Pattern;

/// Which streams: those that match every matcher of at least one group. No groups match all.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct StreamSelector {
    /// Alternatives.
    pub groups: Vec<Vec<LabelMatcher>>,
}

/// One condition on a label; an absent label is an empty one.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelMatcher {
    /// The label's name.
    pub name: String,
    /// What its value must be.
    pub test: LabelTest,
}

/// What a label's value must be.
#[derive(Clone, Debug, PartialEq)]
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
        if self.groups.is_empty() {
            return true;
        }
        // Text that is not canonical has no labels that could be told apart.
        let labels = StreamLabels::parse(canonical).unwrap_or_default();
        self.groups.iter().any(|group| group.iter().all(|matcher| matcher.matches(&labels)))
    }
}

impl LabelMatcher {
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
}
