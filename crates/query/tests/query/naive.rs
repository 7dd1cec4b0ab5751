//! LogsQL's filters, written once more straight from its documentation and as plainly as possible.

use crate::fixture::{Record, S};

/// A filter that can be written as a query and decided for a record.
#[derive(Debug, Clone)]
pub enum Ask {
    All,
    Time {
        from: i64,
        to: i64,
        to_open: bool,
    },
    Stream {
        label: String,
        value: String,
        negated: bool,
    },
    StreamRegex {
        label: String,
        regex: String,
    },
    Field {
        field: String,
        test: Test,
    },
    /// Any field whose name begins so.
    AnyField {
        prefix: String,
        test: Test,
    },
    Compare {
        left: String,
        function: String,
        right: String,
    },
    /// Minutes of the day, and an offset in seconds.
    DayRange {
        from: i64,
        to: i64,
        from_open: bool,
        to_open: bool,
        offset: i64,
    },
    /// Days from Sunday, and an offset in hours.
    WeekRange {
        from: usize,
        to: usize,
        from_open: bool,
        to_open: bool,
        offset: i64,
    },
    StreamIn {
        label: String,
        values: Vec<String>,
        negated: bool,
    },
    Group {
        field: String,
        tests: Vec<Test>,
        any: bool,
    },
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
    AnyCasePrefix(String),
    Sequence(Vec<String>),
    ContainsAny(Vec<String>),
    ContainsAll(Vec<String>),
    In(Vec<String>),
    Range { min: f64, max: f64, min_open: bool, max_open: bool },
    Compare { operator: String, number: f64 },
    TextCompare { operator: String, text: String },
    Length(usize, usize),
    TextRange { min: String, max: String },
    Ipv4(String, String),
    Ipv6(String, String),
    Kind(String),
    JsonArray(Vec<String>),
    ContainsCommonCase(Vec<String>),
    EqualsCommonCase(Vec<String>),
    Pattern { function: String, pattern: String },
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
            Self::AnyField { prefix, test } => format!("{prefix}*:{}", test.text()),
            Self::Compare { left, function, right } => format!("{left}:{function}({right})"),
            Self::DayRange { from, to, from_open, to_open, offset } => {
                let clock = |minute: &i64| format!("{:02}:{:02}", minute / 60, minute % 60);
                let (open, close) = brackets(*from_open, *to_open);
                let (from, to) = (clock(from), clock(to));
                format!("_time:day_range{open}{from}, {to}{close} offset {offset}s")
            }
            Self::WeekRange { from, to, from_open, to_open, offset } => {
                let (open, close) = brackets(*from_open, *to_open);
                let (from, to) = (DAYS[*from], DAYS[*to]);
                format!("_time:week_range{open}{from}, {to}{close} offset {offset}h")
            }
            Self::StreamIn { label, values, negated } => {
                let values: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
                let word = if *negated { "not_in" } else { "in" };
                format!("{{{label} {word} ({})}}", values.join(", "))
            }
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
            Self::AnyField { prefix, test } => {
                let message_name = "_msg".to_owned();
                let fields = record.fields.iter().map(|(name, value)| (name, value.text()));
                let labels = record.labels.iter().map(|(name, value)| (name, value.clone()));
                let message = record.msg.iter().map(|msg| (&message_name, msg.clone()));
                let mut there = fields
                    .chain(labels)
                    .chain(message)
                    .filter(|(name, value)| name.starts_with(prefix.as_str()) && !value.is_empty());
                match test {
                    // None of them has a value; `=""` asks the same.
                    test if test.is_empty_test() => there.next().is_none(),
                    test => there.any(|(_, value)| test.matches(&value)),
                }
            }
            Self::Compare { left, function, right } => {
                let (left, right) = (value(record, left), value(record, right));
                match function.as_str() {
                    "eq_field" => left == right,
                    "lt_field" => less(&left, &right),
                    _ => !less(&right, &left),
                }
            }
            Self::DayRange { from, to, from_open, to_open, offset } => {
                let of_day = (record.time + offset * S).rem_euclid(DAY_LENGTH);
                within(of_day, from * 60 * S, to * 60 * S, *from_open, *to_open)
            }
            Self::WeekRange { from, to, from_open, to_open, offset } => {
                let days = (record.time + offset * 3600 * S).div_euclid(DAY_LENGTH);
                // 1970-01-01 was a Thursday.
                within((days + 4).rem_euclid(7), *from as i64, *to as i64, *from_open, *to_open)
            }
            Self::StreamIn { label, values, negated } => {
                let found = record.labels.iter().find(|(name, _)| name == label);
                let found = found.map(|(_, value)| value.clone()).unwrap_or_default();
                values.contains(&found) != *negated
            }
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

/// A day, in nanoseconds.
const DAY_LENGTH: i64 = 86_400 * S;
const DAYS: [&str; 7] = ["Sun", "Monday", "Tue", "Wed", "Thursday", "Fri", "Sat"];

fn brackets(open: bool, close: bool) -> (char, char) {
    (if open { '(' } else { '[' }, if close { ')' } else { ']' })
}

fn within(value: i64, from: i64, to: i64, from_open: bool, to_open: bool) -> bool {
    (if from_open { value > from } else { value >= from })
        && (if to_open { value < to } else { value <= to })
}

/// Numbers by number, times by time, addresses by address, anything else by its text.
fn less(left: &str, right: &str) -> bool {
    if let (Some(left), Some(right)) = (number(left), number(right)) {
        return left < right;
    }
    let address = |text: &str| text.parse::<std::net::Ipv4Addr>().ok();
    if let (Some(left), Some(right)) = (address(left), address(right)) {
        return left < right;
    }
    left < right
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
            Self::AnyCasePrefix(text) => format!("i({text:?}*)"),
            Self::TextRange { min, max } => format!("string_range({min:?}, {max:?})"),
            Self::Ipv4(min, max) => format!("ipv4_range({min}, {max})"),
            Self::Ipv6(min, max) => format!("ipv6_range({min}, {max})"),
            Self::Kind(kind) => format!("value_type({kind})"),
            Self::JsonArray(words) => format!("json_array_contains_any({})", list(words)),
            Self::ContainsCommonCase(words) => format!("contains_common_case({})", list(words)),
            Self::EqualsCommonCase(words) => format!("equals_common_case({})", list(words)),
            Self::Pattern { function, pattern } => format!("{function}({pattern:?})"),
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

    fn is_empty_test(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Exact(text) => text.is_empty(),
            _ => false,
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
            Self::AnyCasePrefix(text) => {
                phrase_ends(&value.to_lowercase(), &text.to_lowercase(), 0, false).is_some()
            }
            Self::TextRange { min, max } => min.as_str() <= value && value < max.as_str(),
            Self::Ipv4(min, max) => {
                let address = |text: &str| text.parse::<std::net::Ipv4Addr>().ok();
                address(value).is_some_and(|found| {
                    address(min).unwrap() <= found && found <= address(max).unwrap()
                })
            }
            Self::Ipv6(min, max) => {
                let address = |text: &str| text.parse::<std::net::Ipv6Addr>().ok();
                address(value).is_some_and(|found| {
                    address(min).unwrap() <= found && found <= address(max).unwrap()
                })
            }
            Self::Kind(kind) => kinds(value).contains(&kind.as_str()),
            Self::JsonArray(words) => match serde_json::from_str(value) {
                Ok(serde_json::Value::Array(members)) => members.iter().any(|member| {
                    let text = match member {
                        serde_json::Value::String(text) => text.clone(),
                        serde_json::Value::Array(_) | serde_json::Value::Object(_) => return false,
                        plain => plain.to_string(),
                    };
                    words.contains(&text)
                }),
                _ => false,
            },
            Self::ContainsCommonCase(words) => words
                .iter()
                .flat_map(|word| cases(word))
                .any(|case| phrase_ends(value, &case, 0, true).is_some()),
            Self::EqualsCommonCase(words) => {
                words.iter().flat_map(|word| cases(word)).any(|case| case == value)
            }
            Self::Pattern { function, pattern } => {
                let source = regex::escape(pattern).replace("<N>", "[0-9]+");
                let source = match function.as_str() {
                    "pattern_match_full" => format!("^{source}$"),
                    "pattern_match_prefix" => format!("^{source}"),
                    "pattern_match_suffix" => format!("{source}$"),
                    _ => source,
                };
                regex::Regex::new(&source).unwrap().is_match(value)
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

/// A word as it is, in capitals, in small letters, and with each capital small or not.
fn cases(word: &str) -> Vec<String> {
    let mut cases = vec![String::new()];
    for c in word.chars() {
        let small = cases.clone().into_iter().map(|case| case + &c.to_lowercase().to_string());
        let small: Vec<String> = small.collect();
        cases.iter_mut().for_each(|case| case.push(c));
        if c.is_uppercase() {
            cases.extend(small);
        }
    }
    cases.extend([word.to_uppercase(), word.to_lowercase()]);
    cases
}

/// The kinds that can hold a value and give its text back.
fn kinds(value: &str) -> Vec<&'static str> {
    let is = |expression: &str| regex::Regex::new(expression).unwrap().is_match(value);
    let mut kinds = Vec::new();
    if is("^(0|[1-9][0-9]*)$") {
        let number: f64 = value.parse().unwrap();
        let fits = |bits: i32| number < 2f64.powi(bits);
        let unsigned = [("uint8", 8), ("uint16", 16), ("uint32", 32), ("uint64", 64)];
        kinds.extend(unsigned.iter().filter(|(_, bits)| fits(*bits)).map(|(name, _)| name));
    }
    if is("^(0|-?[1-9][0-9]*)$") && value.parse::<i64>().is_ok() {
        kinds.push("int64");
    }
    if is(r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?$") {
        kinds.push("float64");
    }
    if value.parse::<std::net::Ipv4Addr>().is_ok() {
        kinds.push("ipv4");
    }
    if is("^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]+)?Z$") {
        kinds.push("iso8601");
    }
    if kinds.is_empty() && !value.is_empty() {
        kinds.push("string");
    }
    kinds
}

/// The number that a value is.
pub fn number(value: &str) -> Option<f64> {
    let units = [("KiB", 1024.0), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("", 1.0)];
    units.iter().find_map(|(unit, factor)| {
        let plain = value.strip_suffix(unit)?;
        let digits = plain.strip_prefix('-').unwrap_or(plain);
        let numeric = digits.starts_with(|c: char| c.is_ascii_digit())
            && digits.chars().all(|c| c.is_ascii_digit() || c == '.');
        numeric.then(|| plain.parse::<f64>().ok()).flatten().map(|number| number * factor)
    })
}
