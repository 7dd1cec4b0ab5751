//! Stats functions, written once more straight from their documentation and as plainly as possible.

use std::collections::BTreeMap;

use arrow::record_batch::RecordBatch;
use lodge_record::schema;
use proptest::prelude::*;

use crate::fixture::{Record, S};
use crate::naive::{number, value};

/// A row of an answer.
pub type Row = BTreeMap<String, String>;

/// The rows of an answer; empty values are left out.
pub fn table(batches: &[RecordBatch]) -> Vec<Row> {
    let mut rows = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let fields = batch.schema_ref().fields().iter().zip(batch.columns());
            let values = fields.filter_map(|(field, column)| {
                let value = schema::value_text(column, row).filter(|value| !value.is_empty())?;
                Some((field.name().clone(), value.into_owned()))
            });
            rows.push(values.collect());
        }
    }
    rows
}

/// What rows are grouped by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Key {
    Level,
    App,
    Mixed,
    Seconds,
    N,
}

impl Key {
    pub const ALL: &[Self] = &[Self::Level, Self::App, Self::Mixed, Self::Seconds, Self::N];

    pub fn text(self) -> &'static str {
        match self {
            Self::Level => "level",
            Self::App => "app",
            Self::Mixed => "mixed",
            Self::Seconds => "_time:10s",
            Self::N => "n:2",
        }
    }

    pub fn of_row(self, row: &Row) -> String {
        let name = self.text().split(':').next().unwrap();
        row.get(name).cloned().unwrap_or_default()
    }

    fn of_record(self, record: &Record) -> String {
        match self {
            Self::Seconds => lodge_record::time::format(record.time.div_euclid(10 * S) * 10 * S),
            Self::N => match value(record, "n").parse::<i64>() {
                Ok(number) => (number.div_euclid(2) * 2).to_string(),
                Err(_) => String::new(),
            },
            key => value(record, key.text()),
        }
    }
}

pub fn groups<'r>(records: &[&'r Record], keys: &[Key]) -> BTreeMap<Vec<String>, Vec<&'r Record>> {
    let mut groups: BTreeMap<Vec<String>, Vec<&Record>> = BTreeMap::new();
    if keys.is_empty() {
        groups.insert(Vec::new(), Vec::new());
    }
    for record in records {
        let key = keys.iter().map(|key| key.of_record(record)).collect();
        groups.entry(key).or_default().push(record);
    }
    groups
}

/// A function with the fields that it is about.
#[derive(Debug, Clone)]
pub struct Call {
    function: &'static str,
    fields: Vec<&'static str>,
}

const NUMBERS: &[&str] = &["sum", "avg", "median", "quantile(0.3", "stddev", "histogram"];
const VALUES: &[&str] = &[
    "count",
    "count_empty",
    "count_uniq",
    "count_uniq_hash",
    "count_uniq limit 2",
    "uniq_values",
    "uniq_values limit 2",
    "values",
    "values limit 2",
    "sum_len",
    "any",
    "json_values",
    "json_values sort",
    "row_any",
    "row_min",
    "row_max",
    "field_min",
    "field_max",
    "min",
    "max",
];

impl Call {
    pub fn any() -> impl Strategy<Value = Self> {
        let fields = proptest::sample::subsequence(&["n", "mixed", "level", "absent"][..], 1..=3);
        let numbers = (proptest::sample::select(NUMBERS), fields.clone());
        let values = (proptest::sample::select(VALUES), fields);
        prop_oneof![numbers, values].prop_map(|(function, fields)| match function {
            "histogram" => Self { function, fields: vec![fields[0]] },
            // What chooses the row is a number in all rows; the ids tell the rows apart.
            "row_min" | "row_max" | "field_min" | "field_max" => {
                Self { function, fields: vec!["n", "id"] }
            }
            "min" | "max" => Self { function, fields: vec!["n"] },
            "json_values" | "json_values sort" | "row_any" => {
                Self { function, fields: vec!["id", "level"] }
            }
            function => Self { function, fields },
        })
    }

    pub fn text(&self) -> String {
        let fields = self.fields.join(", ");
        match self.function {
            "quantile(0.3" => format!("quantile(0.3, {fields})"),
            "count_uniq limit 2" => format!("count_uniq({fields}) limit 2"),
            "uniq_values limit 2" => format!("uniq_values({fields}) limit 2"),
            "values limit 2" => format!("values({fields}) limit 2"),
            "json_values sort" => format!("json_values({fields}) sort by (id desc) limit 3"),
            function => format!("{function}({fields})"),
        }
    }

    /// Whether `found` is an answer for these rows.
    pub fn agrees(&self, rows: &[&Record], found: &str) -> bool {
        let tuples: Vec<Vec<String>> = rows
            .iter()
            .map(|row| self.fields.iter().map(|field| value(row, field)).collect())
            .collect();
        let numbers: Vec<f64> = tuples.iter().flatten().filter_map(|text| number(text)).collect();
        let is = |expected: f64| close(found, expected);
        let sum: f64 = numbers.iter().sum();
        let total = if numbers.is_empty() { f64::NAN } else { sum };
        match self.function {
            "sum" => is(total),
            "avg" => is(total / numbers.len() as f64),
            "median" => is(quantile(&numbers, 0.5)),
            "quantile(0.3" => is(quantile(&numbers, 0.3)),
            "stddev" => {
                let mean = total / numbers.len() as f64;
                let squares: f64 = numbers.iter().map(|number| (number - mean).powi(2)).sum();
                is((squares / numbers.len() as f64).sqrt())
            }
            "histogram" => {
                let hits: u64 =
                    array(found).iter().map(|range| range["hits"].as_u64().unwrap()).sum();
                numbers.iter().filter(|number| **number >= 0.0).count() as u64 == hits
            }
            "min" => extreme(&numbers, found, f64::min),
            "max" => extreme(&numbers, found, f64::max),
            _ => self.agrees_on_values(rows, &tuples, found),
        }
    }

    fn agrees_on_values(&self, rows: &[&Record], tuples: &[Vec<String>], found: &str) -> bool {
        let is_empty = |tuple: &&Vec<String>| tuple.iter().all(String::is_empty);
        let some = || tuples.iter().filter(|tuple| !is_empty(tuple));
        let different = |mut things: Vec<Vec<String>>| {
            things.sort();
            things.dedup();
            things
        };
        let count = |number: usize| found == number.to_string();
        let texts = || -> Vec<String> {
            let mut texts: Vec<String> = tuples.iter().flatten().cloned().collect();
            texts.sort();
            texts
        };
        let uniq = || -> Vec<String> {
            let mut texts = texts();
            texts.retain(|text| !text.is_empty());
            texts.dedup();
            texts
        };
        let strings = || -> Vec<String> {
            let mut strings: Vec<String> =
                array(found).iter().map(|text| text.as_str().unwrap().to_owned()).collect();
            strings.sort();
            strings
        };
        let some_of = |all: Vec<String>, limit: usize| {
            let strings = strings();
            strings.len() == all.len().min(limit) && strings.iter().all(|one| all.contains(one))
        };
        let ids = || -> Vec<i64> { rows.iter().map(|row| id(&value(row, "id"))).collect() };
        let found_ids = || -> Vec<i64> { array(found).iter().map(object_id).collect() };
        match self.function {
            "count" => count(some().count()),
            "count_empty" => count(tuples.iter().filter(is_empty).count()),
            "count_uniq" | "count_uniq_hash" => count(different(some().cloned().collect()).len()),
            "count_uniq limit 2" => count(different(some().cloned().collect()).len().min(2)),
            "uniq_values" => strings() == uniq(),
            "uniq_values limit 2" => some_of(uniq(), 2),
            "values" => strings() == texts(),
            "values limit 2" => some_of(texts(), 2),
            "sum_len" => count(tuples.iter().flatten().map(String::len).sum()),
            "any" => match uniq().as_slice() {
                [] => found.is_empty(),
                values => values.contains(&found.to_owned()),
            },
            "json_values" => {
                let (mut ids, mut found) = (ids(), found_ids());
                ids.sort_unstable();
                found.sort_unstable();
                ids == found
            }
            "json_values sort" => {
                let mut ids = ids();
                ids.sort_unstable_by_key(|id| std::cmp::Reverse(*id));
                ids.truncate(3);
                ids == found_ids()
            }
            "row_any" => match rows.is_empty() {
                true => found == "{}",
                false => ids().contains(&object_id(&serde_json::from_str(found).unwrap())),
            },
            function => {
                let of_row = |row: &&&Record| value(row, "n").parse::<i64>().ok();
                let numbers = rows.iter().filter_map(|row| of_row(&row));
                let best = match function.ends_with("min") {
                    true => numbers.min(),
                    false => numbers.max(),
                };
                let found = match function.starts_with("row") {
                    true if found == "{}" => None,
                    true => Some(object_id(&serde_json::from_str(found).unwrap())),
                    false => found.parse().ok(),
                };
                let Some(best) = best else { return found.is_none() };
                let mut candidates = rows.iter().filter(|row| of_row(row) == Some(best));
                candidates.any(|row| Some(id(&value(row, "id"))) == found)
            }
        }
    }
}

fn id(text: &str) -> i64 {
    text.parse().unwrap()
}

fn object_id(object: &serde_json::Value) -> i64 {
    id(object["id"].as_str().unwrap())
}

fn array(text: &str) -> Vec<serde_json::Value> {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn extreme(numbers: &[f64], found: &str, better: fn(f64, f64) -> f64) -> bool {
    match numbers.iter().copied().reduce(better) {
        Some(best) => close(found, best),
        None => found.is_empty(),
    }
}

/// Between the two nearest numbers it is interpolated.
fn quantile(numbers: &[f64], phi: f64) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let rank = phi * last as f64;
    let (low, high) = (sorted[rank.floor() as usize], sorted[rank.ceil() as usize]);
    low + (high - low) * rank.fract()
}

/// The same number but for what adding in another order makes of it.
fn close(found: &str, expected: f64) -> bool {
    if expected.is_nan() {
        return found == "NaN";
    }
    let found: f64 = found.parse().unwrap_or(f64::NAN);
    (found - expected).abs() <= expected.abs().max(1.0) * 1e-9
}
