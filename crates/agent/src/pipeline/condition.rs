//! Which records a rule is about: tests on fields, all of which must hold.
//!
//! A test sees the one text form of a value ([`lodge_record::schema::value_text`]), so the type of
//! a column never matters, and finds the field in `_overflow` too. A field that is empty counts as
//! absent, as in queries.

use std::borrow::Cow;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int32Type;
use lodge_record::{field, overflow, schema};
use regex::Regex;

use crate::config::{ConfigError, value_error};
use crate::level;

/// Most tests of one condition.
const TESTS_MAX: usize = 64;
/// Deepest nesting of `not`.
const NEST_MAX: usize = 4;
/// Most bytes of a compiled regular expression.
pub const REGEX_BYTES_MAX: usize = 1 << 20;
/// Levels from the least to the most severe.
const LEVELS: [&str; 8] =
    ["trace", "debug", "info", "notice", "warn", "error", "critical", "fatal"];

/// A condition: all tests hold, and what stands under `not` does not.
#[derive(Clone, Debug, Default)]
pub struct Condition {
    tests: Vec<(String, Vec<Test>)>,
    not: Option<Box<Condition>>,
}

#[derive(Clone, Debug)]
enum Test {
    AnyOf(Vec<String>),
    Matches(Regex),
    Contains(String),
    Exists(bool),
    /// Compares with a limit; true where the order is one of these.
    Order(&'static [std::cmp::Ordering], Limit),
}

#[derive(Clone, Copy, Debug)]
enum Limit {
    Integer(i64),
    Float(f64),
    Level(usize),
}

impl Condition {
    /// Reads a condition from TOML; `key` is where it stands.
    pub fn parse(key: &str, table: &toml::Table) -> Result<Self, ConfigError> {
        Self::parse_nested(key, table, 0)
    }

    fn parse_nested(key: &str, table: &toml::Table, depth: usize) -> Result<Self, ConfigError> {
        if table.len() > TESTS_MAX || depth > NEST_MAX {
            let problem = format!("more than {TESTS_MAX} tests, or {NEST_MAX} times `not`");
            return Err(value_error(key, problem));
        }
        let mut condition = Condition::default();
        for (name, value) in table {
            let key = format!("{key}.{name}");
            match (name.as_str(), value) {
                ("not", toml::Value::Table(inner)) if !inner.is_empty() => {
                    let inner = Self::parse_nested(&key, inner, depth + 1)?;
                    condition.not = Some(Box::new(inner));
                }
                ("not", _) => {
                    let problem = "takes a table of tests, such as not = { level = \"debug\" }";
                    return Err(value_error(&key, problem));
                }
                _ => condition.tests.push((name.clone(), tests_of(&key, value)?)),
            }
        }
        Ok(condition)
    }

    /// For each row of `rows` that is open whether the condition holds; false for the others.
    pub fn select(&self, records: &RecordBatch, open: &[bool]) -> Vec<bool> {
        let mut selected = open.to_vec();
        for (name, tests) in &self.tests {
            narrow(records, name, tests, &mut selected);
        }
        if let Some(not) = &self.not {
            let excluded = not.select(records, &selected);
            for (selected, excluded) in selected.iter_mut().zip(excluded) {
                *selected &= !excluded;
            }
        }
        selected
    }
}

/// Takes the rows out of `selected` whose field does not pass.
fn narrow(records: &RecordBatch, name: &str, tests: &[Test], selected: &mut [bool]) {
    let pass = |value: Option<&str>| {
        let value = value.filter(|value| !value.is_empty());
        tests.iter().all(|test| test.holds(value))
    };
    let column = records.column_by_name(name);
    let overflow = records
        .column_by_name(field::OVERFLOW)
        .filter(|_| name != field::OVERFLOW)
        .and_then(|column| column.as_string_opt::<i32>());
    let coded = column.and_then(|column| column.as_dictionary_opt::<Int32Type>());
    // What repeats is tested once.
    let by_code: Option<Vec<bool>> = coded.and_then(|coded| {
        let texts = coded.values().as_string_opt::<i32>()?;
        Some(texts.iter().map(pass).collect())
    });
    for (row, selected) in selected.iter_mut().enumerate().filter(|(_, selected)| **selected) {
        if let (Some(by_code), Some(coded)) = (&by_code, coded)
            && let Some(code) = coded.key(row)
        {
            *selected = by_code.get(code).copied().unwrap_or(false);
            continue;
        }
        let value = column.and_then(|column| schema::value_text(column, row)).or_else(|| {
            let overflow = overflow.filter(|overflow| overflow.is_valid(row))?;
            overflow::get(overflow.value(row), name)
        });
        *selected = pass(value.as_deref());
    }
}

impl Test {
    fn holds(&self, value: Option<&str>) -> bool {
        match (self, value) {
            (Test::Exists(wanted), value) => value.is_some() == *wanted,
            (Test::AnyOf(texts), value) => {
                texts.iter().any(|text| text == value.unwrap_or_default())
            }
            (Test::Matches(regex), value) => regex.is_match(value.unwrap_or_default()),
            (Test::Contains(part), value) => value.unwrap_or_default().contains(part.as_str()),
            (Test::Order(wanted, limit), Some(value)) => {
                limit.compare(value).is_some_and(|order| wanted.contains(&order))
            }
            (Test::Order(..), None) => false,
        }
    }
}

impl Limit {
    /// How `value` stands to the limit; `None` if it is of another kind.
    fn compare(self, value: &str) -> Option<std::cmp::Ordering> {
        match self {
            Limit::Level(limit) => Some(rank(value)?.cmp(&limit)),
            Limit::Integer(limit) => match value.parse::<i64>() {
                Ok(value) => Some(value.cmp(&limit)),
                Err(_) => value.parse::<f64>().ok()?.partial_cmp(&(limit as f64)),
            },
            Limit::Float(limit) => value.parse::<f64>().ok()?.partial_cmp(&limit),
        }
    }
}

fn rank(level: &str) -> Option<usize> {
    let canonical = level::canonical(level)?;
    LEVELS.iter().position(|known| *known == canonical)
}

fn tests_of(key: &str, value: &toml::Value) -> Result<Vec<Test>, ConfigError> {
    match value {
        toml::Value::Table(operators) if !operators.is_empty() => {
            operators.iter().map(|(name, value)| operator(key, name, value)).collect()
        }
        toml::Value::Array(all) if !all.is_empty() => {
            let texts = all.iter().map(|value| text_of(key, value).map(Cow::into_owned));
            Ok(vec![Test::AnyOf(texts.collect::<Result<_, _>>()?)])
        }
        _ => Ok(vec![Test::AnyOf(vec![text_of(key, value)?.into_owned()])]),
    }
}

/// The text that a value of a record must have to be equal.
fn text_of<'v>(key: &str, value: &'v toml::Value) -> Result<Cow<'v, str>, ConfigError> {
    Ok(match value {
        toml::Value::String(text) => Cow::Borrowed(text),
        toml::Value::Integer(number) => Cow::Owned(number.to_string()),
        toml::Value::Float(number) => Cow::Owned(schema::float_text(*number)),
        toml::Value::Boolean(flag) => Cow::Owned(flag.to_string()),
        _ => {
            let problem = "takes a text, a number, true or false, a list of these, or a table \
                           such as { matches = \"regex\" }";
            return Err(value_error(key, problem));
        }
    })
}

fn operator(key: &str, name: &str, value: &toml::Value) -> Result<Test, ConfigError> {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let key = format!("{key}.{name}");
    let text = || value.as_str().ok_or_else(|| value_error(&key, "takes a text"));
    Ok(match name {
        "matches" => Test::Matches(regex(&key, text()?)?),
        "contains" => Test::Contains(text()?.to_owned()),
        "exists" => match value.as_bool() {
            Some(wanted) => Test::Exists(wanted),
            None => return Err(value_error(&key, "takes true or false")),
        },
        "below" => Test::Order(&[Less], limit(&key, value)?),
        "at_most" => Test::Order(&[Less, Equal], limit(&key, value)?),
        "above" => Test::Order(&[Greater], limit(&key, value)?),
        "at_least" => Test::Order(&[Greater, Equal], limit(&key, value)?),
        _ => {
            let problem = "is no test; there are matches, contains, exists, below, at_most, above \
                           and at_least";
            return Err(value_error(&key, problem));
        }
    })
}

fn limit(key: &str, value: &toml::Value) -> Result<Limit, ConfigError> {
    let problem =
        || value_error(key, format!("takes a number, or one of the levels {}", LEVELS.join(", ")));
    match value {
        toml::Value::Integer(number) => Ok(Limit::Integer(*number)),
        toml::Value::Float(number) if !number.is_nan() => Ok(Limit::Float(*number)),
        toml::Value::String(level) => rank(level).map(Limit::Level).ok_or_else(problem),
        _ => Err(problem()),
    }
}

/// Compiles a regular expression of the configuration.
fn regex(key: &str, text: &str) -> Result<Regex, ConfigError> {
    regex::RegexBuilder::new(text)
        .size_limit(REGEX_BYTES_MAX)
        .build()
        .map_err(|error| value_error(key, error.to_string()))
}
