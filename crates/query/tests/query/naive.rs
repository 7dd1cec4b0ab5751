//! LogsQL's filters, written once more straight from its documentation and as plainly as possible.

use crate::fixture::Record;

/// A filter that can be written as a query and decided for a record.
#[derive(Debug, Clone)]
pub enum Ask {
    All,
    Time { from: i64, to: i64, to_open: bool },
    Stream { label: String, value: String, negated: bool },
    StreamRegex { label: String, regex: String },
    Field { field: String, test: Test },
    Group { field: String, tests: Vec<Test>, any: bool },
    And(Vec<Ask>),
    Or(Vec<Ask>),
    Not(Box<Ask>),
}

/// A test of one value.
#[derive(Debug, Clone)]
pub enum Test {
    Phrase(String),
    Prefix(String),
    Exact(String),
    ExactPrefix(String),
    AnyCase(String),
    Substring(String),
    Regex(String),
    Sequence(Vec<String>),
    ContainsAny(Vec<String>),
    ContainsAll(Vec<String>),
    In(Vec<String>),
    Range { min: f64, max: f64, min_open: bool, max_open: bool },
    Compare { operator: String, number: f64 },
    TextCompare { operator: String, text: String },
    Length(usize, usize),
    Empty,
    Any,
}

/// The value of a field of a record; missing is empty.
pub fn value(record: &Record, name: &str) -> String {
    if name == "_msg" {
        return record.msg.clone().unwrap_or_default();
    }
    let label = record.labels.iter().find(|(label, _)| label == name);
    if let Some((_, value)) = label {
        return value.clone();
    }
    let field = record.fields.iter().find(|(field, _)| field == name);
    field.map(|(_, value)| value.text()).unwrap_or_default()
}

impl Ask {
    /// As LogsQL text.
    pub fn text(&self) -> String {
        match self {
            Self::All => "*".into(),
            Self::Time { from, to, to_open } => {
                let end = if *to_open { ')' } else { ']' };
                let time = lodge_record::time::format;
                // A whole second has no fraction and would name the whole second.
                format!("_time:[{}, {}{end}", precise(&time(*from)), precise(&time(*to)))
            }
            Self::Stream { label, value, negated } => {
                format!("{{{label}{}{value:?}}}", if *negated { "!=" } else { "=" })
            }
            Self::StreamRegex { label, regex } => format!("{{{label}=~{regex:?}}}"),
            // A star alone is every record, not only those with a message.
            Self::Field { field, test } if field == "_msg" && !matches!(test, Test::Any) => {
                test.text()
            }
            Self::Field { field, test } => format!("{field}:{}", test.text()),
            Self::Group { field, tests, any } => {
                let tests: Vec<String> = tests.iter().map(Test::text).collect();
                format!("{field}:({})", tests.join(if *any { " or " } else { " " }))
            }
            Self::And(parts) => joined(parts, " "),
            Self::Or(parts) => joined(parts, " OR "),
            Self::Not(inner) => format!("!({})", inner.text()),
        }
    }

    pub fn matches(&self, record: &Record) -> bool {
        match self {
            Self::All => true,
            Self::Time { from, to, to_open } => {
                *from <= record.time
                    && if *to_open { record.time < *to } else { record.time <= *to }
            }
            Self::Stream { label, value, negated } => {
                let found = record.labels.iter().find(|(name, _)| name == label);
                let found = found.map(|(_, value)| value.as_str()).unwrap_or_default();
                (found == value) != *negated
            }
            Self::StreamRegex { label, regex } => {
                let found = record.labels.iter().find(|(name, _)| name == label);
                let found = found.map(|(_, value)| value.as_str()).unwrap_or_default();
                regex::Regex::new(&format!("^({regex})$")).unwrap().is_match(found)
            }
            Self::Field { field, test } => test.matches(&value(record, field)),
            Self::Group { field, tests, any } => {
                let value = value(record, field);
                if *any {
                    tests.iter().any(|test| test.matches(&value))
                } else {
                    tests.iter().all(|test| test.matches(&value))
                }
            }
            Self::And(parts) => parts.iter().all(|part| part.matches(record)),
            Self::Or(parts) => parts.iter().any(|part| part.matches(record)),
            Self::Not(inner) => !inner.matches(record),
        }
    }
}

fn precise(time: &str) -> String {
    if time.contains('.') {
        pad(time)
    } else {
        format!("{}.000000000Z", time.trim_end_matches('Z'))
    }
}

fn pad(time: &str) -> String {
    let (whole, fraction) = time.trim_end_matches('Z').split_once('.').unwrap();
    format!("{whole}.{fraction:0<9}Z")
}

fn joined(parts: &[Ask], between: &str) -> String {
    let parts: Vec<String> = parts.iter().map(Ask::text).collect();
    format!("({})", parts.join(between))
}

impl Test {
    pub fn text(&self) -> String {
        let list = |words: &[String]| {
            words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ")
        };
        match self {
            Self::Phrase(text) => format!("{text:?}"),
            Self::Prefix(text) => format!("{text:?}*"),
            Self::Exact(text) => format!("={text:?}"),
            Self::ExactPrefix(text) => format!("={text:?}*"),
            Self::AnyCase(text) => format!("i({text:?})"),
            Self::Substring(text) => format!("*{text:?}*"),
            Self::Regex(text) => format!("~{text:?}"),
            Self::Sequence(words) => format!("seq({})", list(words)),
            Self::ContainsAny(words) => format!("contains_any({})", list(words)),
            Self::ContainsAll(words) => format!("contains_all({})", list(words)),
            Self::In(words) => format!("in({})", list(words)),
            Self::Range { min, max, min_open, max_open } => {
                let open = if *min_open { '(' } else { '[' };
                let close = if *max_open { ')' } else { ']' };
                format!("range{open}{min}, {max}{close}")
            }
            Self::Compare { operator, number } => format!("{operator}{number}"),
            Self::TextCompare { operator, text } => format!("{operator}{text:?}"),
            Self::Length(min, max) => format!("len_range({min}, {max})"),
            Self::Empty => "\"\"".into(),
            Self::Any => "*".into(),
        }
    }

    pub fn matches(&self, value: &str) -> bool {
        match self {
            Self::Phrase(text) => phrase_ends(value, text, 0, true).is_some(),
            Self::Prefix(text) => phrase_ends(value, text, 0, false).is_some(),
            Self::Exact(text) => value == text,
            Self::ExactPrefix(text) => value.starts_with(text.as_str()) && !value.is_empty(),
            Self::AnyCase(text) => {
                phrase_ends(&value.to_lowercase(), &text.to_lowercase(), 0, true).is_some()
            }
            Self::Substring(text) => value.contains(text.as_str()),
            Self::Regex(text) => regex::Regex::new(text).unwrap().is_match(value),
            Self::Sequence(words) => {
                let mut from = 0;
                words.iter().all(|word| match phrase_ends(value, word, from, true) {
                    Some(end) => {
                        from = end;
                        true
                    }
                    None => false,
                })
            }
            Self::ContainsAny(words) => {
                words.iter().any(|word| phrase_ends(value, word, 0, true).is_some())
            }
            Self::ContainsAll(words) => {
                words.iter().all(|word| phrase_ends(value, word, 0, true).is_some())
            }
            Self::In(words) => words.iter().any(|word| word == value),
            Self::Range { min, max, min_open, max_open } => number(value).is_some_and(|n| {
                (if *min_open { n > *min } else { n >= *min })
                    && (if *max_open { n < *max } else { n <= *max })
            }),
            Self::Compare { operator, number: bound } => {
                number(value).is_some_and(|n| match operator.as_str() {
                    ">" => n > *bound,
                    ">=" => n >= *bound,
                    "<" => n < *bound,
                    _ => n <= *bound,
                })
            }
            Self::TextCompare { operator, text } => match operator.as_str() {
                ">" => value > text.as_str(),
                ">=" => value >= text.as_str(),
                "<" => value < text.as_str(),
                _ => value <= text.as_str(),
            },
            Self::Length(min, max) => (*min..=*max).contains(&value.chars().count()),
            Self::Empty => value.is_empty(),
            Self::Any => !value.is_empty(),
        }
    }
}

/// Where the first occurrence of `phrase` at or after byte `from` ends that has word borders at its
/// beginning and, if asked for, at its end.
fn phrase_ends(value: &str, phrase: &str, from: usize, end_too: bool) -> Option<usize> {
    let word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    for start in (from..=value.len()).filter(|at| value.is_char_boundary(*at)) {
        if !value[start..].starts_with(phrase) {
            continue;
        }
        let end = start + phrase.len();
        let before = word(value[..start].chars().next_back()) && word(phrase.chars().next());
        let after =
            end_too && word(value[end..].chars().next()) && word(phrase.chars().next_back());
        if !before && !after {
            return Some(end);
        }
    }
    None
}

/// The number that a value is.
fn number(value: &str) -> Option<f64> {
    let units = [("KiB", 1024.0), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("", 1.0)];
    units.iter().find_map(|(unit, factor)| {
        let plain = value.strip_suffix(unit)?;
        let digits = plain.strip_prefix('-').unwrap_or(plain);
        let numeric = digits.starts_with(|c: char| c.is_ascii_digit())
            && digits.chars().all(|c| c.is_ascii_digit() || c == '.');
        numeric.then(|| plain.parse::<f64>().ok()).flatten().map(|number| number * factor)
    })
}
