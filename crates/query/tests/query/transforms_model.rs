//! Random records through random pipes: the engine and an evaluator written straight from the
//! documentation, with nothing but maps of texts, must agree.

use std::collections::BTreeMap;

use lodge_record::{field, overflow, schema};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value as Json;
use serde_json::value::RawValue;

use crate::fixture::{DAY, Lab, Record, S, record};

type Row = BTreeMap<String, String>;

/// Not `c`, which only JSON writes: it stays free of quotes, so that logfmt of it is simple.
const NAMES: &[&str] = &["a", "b", "x.y", "ümlaut", "_msg", "deep.k", "k1"];
const TEXTS: &[&str] = &[
    "",
    " ",
    "a",
    "k1=v k2=w",
    "k=1 l=2 end",
    "x=",
    "ошибка ü 😀 \u{0}\t",
    "a,b,,c",
    "[1,2]",
    r#"["p","q",{"k1":"r"}]"#,
    "[",
    r#"{"a":"1","k1":{"k":"v","l":[1,"2"]},"ümlaut":"é\n\"q\"\ud83d\ude00","b":null}"#,
    r#"{"deep":{"k":{"m":{"n":7}}},"c":true,"":"nameless","a":""}"#,
    r#"{"a":1,"a":2}"#,
    r#"{"a":1"#,
    "{}",
    "10",
    "-2.5",
    "1s",
    "not a number 17",
];

/// A pipe that can be written and applied.
#[derive(Debug, Clone)]
enum Ask {
    UnpackJson { from: String, prefix: String, keep: Keep },
    UnpackLogfmt { from: String, keep: Keep },
    Extract { from: String, before: String, name: String, after: String, keep: Keep },
    Format { parts: Vec<(String, String)>, to: String, keep: Keep },
    Replace { old: String, new: String, at: String, limit: usize },
    Len { from: String, to: String },
    Coalesce { from: Vec<String>, to: String },
    Split { separator: String, from: String, to: String },
    Concat { from: String, to: String },
    Words { from: String, to: String },
    Unroll { fields: Vec<String> },
    PackJson { fields: Vec<String>, to: String },
    Add { left: String, right: String, to: String },
    Copy { from: String, to: String },
    Rename { from: String, to: String },
    MovePrefix { from: String, to: String },
    Delete { name: String },
    Fields { names: Vec<String> },
    Filter { name: String, value: String },
    If { name: String, value: String, at: String },
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Keep {
    No,
    Original,
    Found,
}

impl Keep {
    fn text(self) -> &'static str {
        match self {
            Self::No => "",
            Self::Original => " keep_original_fields",
            Self::Found => " skip_empty_results",
        }
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\u{0}' => out.push_str("\\x00"),
            c => out.push(c),
        }
    }
    format!("\"{out}\"")
}

fn value(row: &Row, name: &str) -> String {
    row.get(name).cloned().unwrap_or_default()
}

fn set(row: &mut Row, name: &str, value: &str, keep: Keep) {
    let is_kept = match keep {
        Keep::No => false,
        Keep::Original => row.get(name).is_some_and(|old| !old.is_empty()),
        Keep::Found => value.is_empty(),
    };
    if !is_kept {
        row.insert(name.to_owned(), value.to_owned());
    }
    row.retain(|_, value| !value.is_empty());
}

fn json_text(json: &Json) -> String {
    match json {
        Json::Null => String::new(),
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The fields of an object as they stand: a name that occurs twice is there twice.
struct Pairs(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Pairs;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let next = || map.next_entry().transpose();
                std::iter::from_fn(next).collect::<Result<_, _>>().map(Pairs)
            }
        }
        from.deserialize_map(All)
    }
}

/// The last of several fields of one name counts.
fn flatten(prefix: &str, text: &str, out: &mut Vec<(String, String)>) {
    let Ok(Pairs(fields)) = serde_json::from_str(text) else { return };
    for (name, value) in fields {
        let name = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
        match serde_json::from_str(value.get()).unwrap() {
            Json::Object(_) => flatten(&name, value.get(), out),
            other => {
                out.retain(|(known, _)| *known != name);
                out.push((name, json_text(&other)));
            }
        }
    }
}

fn items(text: &str) -> Vec<String> {
    match serde_json::from_str::<Json>(text) {
        Ok(Json::Array(items)) => items.iter().map(json_text).collect(),
        _ => Vec::new(),
    }
}

fn array(items: &[&str]) -> String {
    serde_json::to_string(items).unwrap()
}

fn number(text: &str) -> f64 {
    let (digits, unit) = text.strip_suffix('s').map_or((text, 1.0), |digits| (digits, 1e9));
    let is_number = digits.ends_with(|c: char| c.is_ascii_digit());
    digits.parse::<f64>().ok().filter(|_| is_number).map_or(f64::NAN, |number| number * unit)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

impl Ask {
    fn text(&self) -> String {
        let q = |text: &String| quoted(text);
        let list = |names: &[String]| names.iter().map(q).collect::<Vec<_>>().join(", ");
        match self {
            Self::UnpackJson { from, prefix, keep } => {
                format!("unpack_json from {} result_prefix {}{}", q(from), q(prefix), keep.text())
            }
            Self::UnpackLogfmt { from, keep } => {
                format!("unpack_logfmt from {}{}", q(from), keep.text())
            }
            Self::Extract { from, before, name, after, keep } => {
                let pattern = format!("{before}<{name}>{after}");
                format!("extract {} from {}{}", q(&pattern), q(from), keep.text())
            }
            Self::Format { parts, to, keep } => {
                let template: String =
                    parts.iter().map(|(text, name)| format!("{text}<{name}>")).collect();
                format!("format {} as {}{}", q(&template), q(to), keep.text())
            }
            Self::Replace { old, new, at, limit } => {
                format!("replace ({}, {}) at {} limit {limit}", q(old), q(new), q(at))
            }
            Self::Len { from, to } => format!("len({}) as {}", q(from), q(to)),
            Self::Coalesce { from, to } => format!("coalesce({}) as {}", list(from), q(to)),
            Self::Split { separator, from, to } => {
                format!("split {} from {} as {}", q(separator), q(from), q(to))
            }
            Self::Concat { from, to } => {
                format!("json_array_concat \"-\" from {} as {}", q(from), q(to))
            }
            Self::Words { from, to } => format!("unpack_words from {} as {}", q(from), q(to)),
            Self::Unroll { fields } => format!("unroll by ({})", list(fields)),
            Self::PackJson { fields, to } => {
                format!("pack_json fields ({}) as {}", list(fields), q(to))
            }
            Self::Add { left, right, to } => {
                format!("math {} + {} as {}", q(left), q(right), q(to))
            }
            Self::Copy { from, to } => format!("copy {} as {}", q(from), q(to)),
            Self::Rename { from, to } => format!("rename {} as {}", q(from), q(to)),
            Self::MovePrefix { from, to } => format!("rename {from}* as {to}*"),
            Self::Delete { name } => format!("delete {}", q(name)),
            Self::Fields { names } => format!("fields {}", list(names)),
            Self::Filter { name, value } => format!("filter {}:!={}", q(name), q(value)),
            Self::If { name, value, at } => {
                format!("replace if ({}:={}) (\"a\", \"A\") at {}", q(name), q(value), q(at))
            }
        }
    }

    fn apply(&self, mut row: Row) -> Vec<Row> {
        match self {
            Self::UnpackJson { from, prefix, keep } => {
                let mut found = Vec::new();
                flatten("", &value(&row, from), &mut found);
                let before = row.clone();
                for (name, value) in found {
                    let name = format!("{prefix}{name}");
                    // What was there counts, not what another field of the object was.
                    let old = value_of(&before, &name);
                    let is_kept = (*keep == Keep::Original && !old.is_empty())
                        || (*keep == Keep::Found && value.is_empty());
                    if !is_kept {
                        set(&mut row, &name, &value, Keep::No);
                    }
                }
            }
            Self::UnpackLogfmt { from, keep } => {
                let text = value(&row, from);
                let before = row.clone();
                let mut found: Vec<(String, String)> = Vec::new();
                for pair in text.split([' ', '\n']).filter(|pair| !pair.is_empty()) {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    if !name.is_empty() {
                        found.retain(|(known, _)| known != name);
                        found.push((name.to_owned(), value.to_owned()));
                    }
                }
                for (name, value) in found {
                    let is_kept = *keep == Keep::Original && before.contains_key(&name);
                    if !is_kept {
                        set(&mut row, &name, &value, *keep);
                    }
                }
            }
            Self::Extract { from, before, name, after, keep } => {
                let text = value(&row, from);
                let found = text.split_once(before.as_str()).map_or(String::new(), |(_, rest)| {
                    let mut quoted = serde_json::Deserializer::from_str(rest).into_iter::<String>();
                    if let Some(Ok(text)) = quoted.next().filter(|_| rest.starts_with('"')) {
                        return text;
                    }
                    if after.is_empty() {
                        return rest.to_owned();
                    }
                    rest.split_once(after.as_str())
                        .map(|(found, _)| found.to_owned())
                        .unwrap_or_default()
                });
                set(&mut row, name, &found, *keep);
            }
            Self::Format { parts, to, keep } => {
                let made: String = parts
                    .iter()
                    .map(|(text, name)| format!("{text}{}", value(&row, name)))
                    .collect();
                set(&mut row, to, &made, *keep);
            }
            Self::Replace { old, new, at, limit } => {
                let text = value(&row, at);
                let made = match (old.is_empty(), limit) {
                    (true, _) => text,
                    (_, 0) => text.replace(old.as_str(), new),
                    (_, limit) => text.replacen(old.as_str(), new, *limit),
                };
                set(&mut row, at, &made, Keep::No);
            }
            Self::Len { from, to } => {
                let length = value(&row, from).len().to_string();
                set(&mut row, to, &length, Keep::No);
            }
            Self::Coalesce { from, to } => {
                let first =
                    from.iter().map(|name| value(&row, name)).find(|value| !value.is_empty());
                set(&mut row, to, &first.unwrap_or_default(), Keep::No);
            }
            Self::Split { separator, from, to } => {
                let text = value(&row, from);
                let parts: Vec<&str> = if text.is_empty() {
                    Vec::new()
                } else {
                    text.split(separator.as_str()).collect()
                };
                set(&mut row, to, &array(&parts), Keep::No);
            }
            Self::Concat { from, to } => {
                let made = items(&value(&row, from)).join("-");
                set(&mut row, to, &made, Keep::No);
            }
            Self::Words { from, to } => {
                let text = value(&row, from);
                let words: Vec<&str> =
                    text.split(|c| !is_word(c)).filter(|w| !w.is_empty()).collect();
                set(&mut row, to, &array(&words), Keep::No);
            }
            Self::Unroll { fields } => {
                let lists: Vec<Vec<String>> =
                    fields.iter().map(|name| items(&value(&row, name))).collect();
                let count = lists.iter().map(Vec::len).max().unwrap_or(0).max(1);
                return (0..count)
                    .map(|at| {
                        let mut row = row.clone();
                        for (name, list) in fields.iter().zip(&lists) {
                            let item = list.get(at).cloned().unwrap_or_default();
                            set(&mut row, name, &item, Keep::No);
                        }
                        row
                    })
                    .collect();
            }
            Self::PackJson { fields, to } => {
                let mut pairs: Vec<String> = Vec::new();
                for name in fields {
                    let value = value(&row, name);
                    let pair =
                        format!("{}:{}", Json::from(name.as_str()), Json::from(value.as_str()));
                    if !value.is_empty() && !pairs.contains(&pair) {
                        pairs.push(pair);
                    }
                }
                let made = format!("{{{}}}", pairs.join(","));
                set(&mut row, to, &made, Keep::No);
            }
            Self::Add { left, right, to } => {
                let sum = number(&value(&row, left)) + number(&value(&row, right));
                let text =
                    if sum.is_nan() { "NaN".to_owned() } else { schema::float_text(sum + 0.0) };
                set(&mut row, to, &text, Keep::No);
            }
            Self::Copy { from, to } => {
                let value = value(&row, from);
                set(&mut row, to, &value, Keep::No);
            }
            Self::Rename { from, to } => {
                if from != to {
                    let value = row.remove(from).unwrap_or_default();
                    set(&mut row, to, &value, Keep::No);
                }
            }
            Self::MovePrefix { from, to } => {
                let found: Vec<(String, String)> = row
                    .iter()
                    .filter(|(name, _)| name.starts_with(from.as_str()))
                    .map(|(name, value)| (name.clone(), value.clone()))
                    .collect();
                found.iter().for_each(|(name, _)| drop(row.remove(name)));
                for (name, value) in found {
                    let rest = name.strip_prefix(from.as_str()).unwrap_or_default();
                    let moved = format!("{to}{rest}");
                    row.insert(if moved.is_empty() { name.clone() } else { moved }, value);
                }
            }
            Self::Delete { name } => drop(row.remove(name)),
            Self::Fields { names } => row.retain(|name, _| names.contains(name)),
            Self::Filter { name, value: unwanted } => {
                if value(&row, name) == *unwanted {
                    return Vec::new();
                }
            }
            Self::If { name, value: wanted, at } => {
                if value(&row, name) == *wanted {
                    let text = value(&row, at).replace('a', "A");
                    set(&mut row, at, &text, Keep::No);
                }
            }
        }
        vec![row]
    }
}

fn value_of(row: &Row, name: &str) -> String {
    value(row, name)
}

fn name() -> impl Strategy<Value = String> + Clone {
    proptest::sample::select(NAMES).prop_map(str::to_owned)
}

fn text() -> impl Strategy<Value = String> + Clone {
    proptest::sample::select(TEXTS).prop_map(str::to_owned)
}

fn part() -> impl Strategy<Value = String> + Clone {
    proptest::sample::select(&["a", "=", ",", " ", "k1", "ü", "😀", "1"][..])
        .prop_map(str::to_owned)
}

fn keep() -> impl Strategy<Value = Keep> + Clone {
    proptest::sample::select(&[Keep::No, Keep::Original, Keep::Found][..])
}

fn ask() -> impl Strategy<Value = Ask> {
    let prefix = proptest::sample::select(&["", "p.", "k"][..]).prop_map(str::to_owned);
    let after = prop_oneof![part(), Just(String::new())];
    prop_oneof![
        4 => (name(), prefix.clone(), keep())
            .prop_map(|(from, prefix, keep)| Ask::UnpackJson { from, prefix, keep }),
        1 => keep().prop_map(|keep| Ask::UnpackLogfmt { from: "c".into(), keep }),
        2 => (name(), part(), name(), after, keep()).prop_map(|(from, before, name, after, keep)| {
            Ask::Extract { from, before, name, after, keep }
        }),
        2 => (vec((part(), name()), 0..3), name(), keep())
            .prop_map(|(parts, to, keep)| Ask::Format { parts, to, keep }),
        2 => (part(), part(), name(), 0usize..3)
            .prop_map(|(old, new, at, limit)| Ask::Replace { old, new, at, limit }),
        1 => (name(), name()).prop_map(|(from, to)| Ask::Len { from, to }),
        1 => (vec(name(), 1..4), name()).prop_map(|(from, to)| Ask::Coalesce { from, to }),
        1 => (part(), name(), name())
            .prop_map(|(separator, from, to)| Ask::Split { separator, from, to }),
        1 => (name(), name()).prop_map(|(from, to)| Ask::Concat { from, to }),
        1 => (name(), name()).prop_map(|(from, to)| Ask::Words { from, to }),
        2 => proptest::sample::subsequence(NAMES, 1..3).prop_map(|names| {
            Ask::Unroll { fields: names.into_iter().map(str::to_owned).collect() }
        }),
        1 => (vec(name(), 1..3), name()).prop_map(|(fields, to)| Ask::PackJson { fields, to }),
        1 => (name(), name(), name()).prop_map(|(left, right, to)| Ask::Add { left, right, to }),
        1 => (name(), name()).prop_map(|(from, to)| Ask::Copy { from, to }),
        1 => (name(), name()).prop_map(|(from, to)| Ask::Rename { from, to }),
        1 => proptest::sample::select(&[("k", "q"), ("deep.", ""), ("x", "deep."), ("p", "k")][..])
            .prop_map(|(from, to)| Ask::MovePrefix { from: from.into(), to: to.into() }),
        1 => name().prop_map(|name| Ask::Delete { name }),
        1 => vec(name(), 1..5).prop_map(|names| Ask::Fields { names }),
        1 => (name(), text()).prop_map(|(name, value)| Ask::Filter { name, value }),
        1 => (name(), text(), name()).prop_map(|(name, value, at)| Ask::If { name, value, at }),
    ]
}

fn records() -> impl Strategy<Value = Vec<Record>> {
    let one = (text(), proptest::option::of(text()), proptest::option::of(text()), part());
    vec(one, 1..20).prop_map(|rows| {
        let mut records = Vec::new();
        for (at, (msg, a, b, c)) in rows.into_iter().enumerate() {
            let mut record = record(DAY + at as i64 * S, &msg);
            for (name, value) in [("a", a), ("b", b), ("c", Some(format!("k1={c} {c}=2")))] {
                if let Some(value) = value {
                    record = record.with(name, value.as_str());
                }
            }
            records.push(record);
        }
        records
    })
}

fn row_of(record: &Record) -> Row {
    let mut row: Row =
        record.fields.iter().map(|(name, value)| (name.clone(), value.text())).collect();
    row.insert("_msg".into(), record.msg.clone().unwrap_or_default());
    row.retain(|_, value| !value.is_empty());
    row
}

/// The engine's rows, without the fields that the store adds.
async fn found(lab: &Lab, query: &str) -> Vec<Row> {
    let batches = lab.engine.logsql(lab.request(query)).await;
    let batches = batches.unwrap_or_else(|error| panic!("{query}: {error}"));
    let batches = batches.collect().await.unwrap_or_else(|error| panic!("{query}: {error}"));
    let mut rows = Vec::new();
    for batch in &batches {
        for at in 0..batch.num_rows() {
            let mut row = Row::new();
            let mut add = |name: &str, value: &str| {
                let is_new = row.insert(name.to_owned(), value.to_owned()).is_none();
                assert!(is_new, "{query}: {name} is there twice");
            };
            for (known, column) in batch.schema().fields().iter().zip(batch.columns()) {
                let Some(value) = schema::value_text(column, at).filter(|v| !v.is_empty()) else {
                    continue;
                };
                match known.name().as_str() {
                    field::TIME | field::STREAM => {}
                    field::OVERFLOW => overflow::for_each(&value, &mut add),
                    name => add(name, &value),
                }
            }
            rows.push(row);
        }
    }
    rows.sort();
    rows
}

#[test]
fn pipes_agree_with_the_documentation_model() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let config = Config { cases: 60, failure_persistence: None, ..Config::default() };
    let strategy = (records(), vec(vec(ask(), 1..6), 12));
    TestRunner::new(config)
        .run(&strategy, |(records, asks)| {
            runtime.block_on(async {
                let lab = Lab::new().await;
                lab.fill(&records).await;
                for asks in asks {
                    let pipes: Vec<String> = asks.iter().map(Ask::text).collect();
                    let query = format!("* | {}", pipes.join(" | "));
                    let mut rows: Vec<Row> = records.iter().map(row_of).collect();
                    for ask in &asks {
                        rows = rows.into_iter().flat_map(|row| ask.apply(row)).collect();
                    }
                    rows.sort();
                    prop_assert_eq!(found(&lab, &query).await, rows, "{}", query);
                }
                Ok(())
            })
        })
        .unwrap();
}
