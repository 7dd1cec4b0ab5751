//! Rules against an evaluator that goes record by record over plain maps.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use lodge_record::builder::BatchBuilder;
use lodge_record::schema;
use lodge_record::stream::StreamLabels;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::*;
use crate::AgentConfig;

type Record = BTreeMap<String, String>;

const HEAD: &str = "[[files]]\npaths = ['x']\n";

fn rules(text: &str) -> Rules {
    let config = AgentConfig::parse(&format!("{HEAD}{text}")).expect("a right configuration");
    Rules::new(config.pipeline.rules)
}

fn labels_of(record: &Record) -> StreamLabels {
    let mut labels = StreamLabels::new();
    labels.set("host", "h");
    labels.set("service", &record["service"]);
    labels
}

fn batch(records: &[Record]) -> RecordBatch {
    let mut builder = BatchBuilder::new();
    for (row, record) in records.iter().enumerate() {
        for (name, value) in record {
            match name.as_str() {
                "_stream" | "_time" => {}
                "n" => builder.field_number_text(name, value),
                _ => builder.field_str(name, value),
            }
        }
        let stream = builder.stream(&record["_stream"]);
        builder.finish_row(row as i64, stream);
    }
    builder.finish().expect("a batch")
}

fn records_of(batch: &RecordBatch) -> Vec<Record> {
    schema::check(batch).expect("the shape of a batch");
    let names = batch.schema();
    let record = |row: usize| {
        let values = names.fields().iter().zip(batch.columns());
        let values = values.filter(|(field, _)| field.name() != "_time");
        values
            .filter_map(|(field, column)| {
                Some((field.name().clone(), schema::value_text(column, row)?.into_owned()))
            })
            .collect()
    };
    (0..batch.num_rows()).map(record).collect()
}

fn generated(rng: &mut SmallRng, count: usize) -> Vec<Record> {
    let mut pick = |all: &[&str]| (*all.choose(rng).expect("some")).to_owned();
    let mut record = || {
        let mut record = Record::new();
        record.insert("service".into(), pick(&["api", "web", "db"]));
        record.insert("_msg".into(), pick(&["GET /health", "boom", "user 7 in", "user 99 in"]));
        for (name, values) in [
            ("level", &["debug", "info", "WARN", "error", "odd", ""][..]),
            ("n", &["1", "5", "10", "2.5", "-3", ""]),
            ("team", &["x", "y", ""]),
        ] {
            let value = pick(values);
            if !value.is_empty() {
                record.insert(name.into(), value);
            }
        }
        record.insert("_stream".into(), labels_of(&record).canonical());
        record
    };
    (0..count).map(|_| record()).collect()
}

/// One test as text in a rule and as a plain function.
type Case = (&'static str, fn(&Record) -> bool);

fn get<'r>(record: &'r Record, name: &str) -> &'r str {
    record.get(name).map_or("", String::as_str)
}

fn number(record: &Record) -> Option<f64> {
    get(record, "n").parse().ok()
}

fn severity(record: &Record) -> Option<usize> {
    let known = ["debug", "info", "warn", "error"];
    known.iter().position(|level| level.eq_ignore_ascii_case(get(record, "level")))
}

const CASES: [Case; 13] = [
    ("service = 'api'", |r| get(r, "service") == "api"),
    ("service = ['api', 'db']", |r| get(r, "service") != "web"),
    ("_msg = { contains = 'user' }", |r| get(r, "_msg").contains("user")),
    ("_msg = { matches = 'user \\d in$' }", |r| get(r, "_msg") == "user 7 in"),
    ("team = { exists = true }", |r| !get(r, "team").is_empty()),
    ("team = { exists = false }", |r| get(r, "team").is_empty()),
    ("team = ''", |r| get(r, "team").is_empty()),
    ("n = 5", |r| get(r, "n") == "5"),
    ("n = { above = 1, at_most = 5 }", |r| number(r).is_some_and(|n| n > 1.0 && n <= 5.0)),
    ("n = { below = 2.5 }", |r| number(r).is_some_and(|n| n < 2.5)),
    ("level = { below = 'info' }", |r| severity(r).is_some_and(|s| s < 1)),
    ("level = { at_least = 'warn' }", |r| severity(r).is_some_and(|s| s >= 2)),
    ("not = { service = 'api', team = 'x' }", |r| {
        !(get(r, "service") == "api" && get(r, "team") == "x")
    }),
];

#[test]
fn rules_do_what_a_plain_evaluator_does_model() {
    for seed in 0..300 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let count = rng.random_range(1..200);
        let records = generated(&mut rng, count);
        let mut text = String::new();
        let mut plan = Vec::new();
        for at in 0..rng.random_range(1..6) {
            let cases: Vec<Case> = CASES.choose_multiple(&mut rng, 2).copied().collect();
            let action = ["'drop'", "'keep'", "{ labels = { team = 'routed', zone = 'z' } }"];
            let action = *action.choose(&mut rng).expect("some");
            let same_name = |c: &Case| c.0.split('=').next();
            let cases =
                if same_name(&cases[0]) == same_name(&cases[1]) { &cases[..1] } else { &cases };
            let when: Vec<&str> = cases.iter().map(|case| case.0).collect();
            let when = when.join(", ");
            text += &format!("[[rules]]\nname = 'r{at}'\nwhen = {{ {when} }}\nthen = {action}\n");
            plan.push((cases.to_vec(), action));
        }
        let mut expected = Vec::new();
        let mut expected_drops = BTreeMap::new();
        'records: for record in &records {
            let mut record = record.clone();
            for (at, (cases, action)) in plan.iter().enumerate() {
                if !cases.iter().all(|case| (case.1)(&record)) {
                    continue;
                }
                match *action {
                    "'drop'" => {
                        *expected_drops.entry(format!("r{at}")).or_insert(0u64) += 1;
                        continue 'records;
                    }
                    "'keep'" => break,
                    _ => {
                        let mut labels =
                            StreamLabels::parse(&record["_stream"]).expect("canonical");
                        for (name, value) in [("team", "routed"), ("zone", "z")] {
                            labels.set(name, value);
                            record.insert(name.into(), value.into());
                        }
                        record.insert("_stream".into(), labels.canonical());
                    }
                }
            }
            expected.push(record);
        }
        let rules = rules(&text);
        let mut dropped = Vec::new();
        let out = rules.apply(batch(&records), &mut dropped);
        assert_eq!(records_of(&out), expected, "seed {seed}:\n{text}");
        let dropped: BTreeMap<String, u64> =
            dropped.into_iter().map(|(name, count)| (name.to_string(), count)).collect();
        assert_eq!(dropped, expected_drops, "seed {seed}");
        for totals in rules.totals() {
            let expected = expected_drops.get(&*totals.name).copied().unwrap_or(0);
            assert_eq!(totals.dropped, expected, "seed {seed}");
            assert!(totals.matched >= totals.dropped);
        }
    }
}

#[test]
fn a_sample_is_the_same_however_the_records_come() {
    let sample = "[[rules]]\nname = 's'\nwhen = { service = 'api' }\nthen = { sample = 0.2 }";
    let records: Vec<Record> = (0..5_000)
        .map(|n| {
            let mut record = Record::from([("service".into(), "api".into())]);
            record.insert("_msg".into(), format!("request {n}"));
            record.insert("_stream".into(), labels_of(&record).canonical());
            record
        })
        .collect();
    let whole = batch(&records);
    let rules = rules(sample);
    let all = records_of(&rules.apply(whole.clone(), &mut Vec::new()));
    assert!((800..1_200).contains(&all.len()), "{}", all.len());
    // Read again in other batches, where columns have other types and more fields.
    let mut again = Vec::new();
    for (from, length) in [(0, 7), (7, 993), (1_000, 4_000)] {
        let part = rules.apply(whole.slice(from, length), &mut Vec::new());
        again.extend(records_of(&part));
    }
    assert_eq!(again, all);
    let totals = &rules.totals()[0];
    assert_eq!((totals.matched, totals.dropped), (10_000, 2 * (5_000 - all.len() as u64)));
}

#[test]
fn what_was_dropped_is_in_no_dictionary() {
    let mut records = Vec::new();
    for n in 0..300 {
        let mut record = Record::from([("service".into(), "api".into())]);
        record.insert("kind".into(), if n % 3 == 0 { "unwanted" } else { "wanted" }.into());
        record.insert("_msg".into(), "m".into());
        record.insert("_stream".into(), labels_of(&record).canonical());
        records.push(record);
    }
    let rules = rules("[[rules]]\nname = 'd'\nwhen = { kind = 'unwanted' }\nthen = 'drop'");
    let out = rules.apply(batch(&records), &mut Vec::new());
    assert_eq!(out.num_rows(), 200);
    let batch = lodge_record::Batch::new(Default::default(), None, None, out).expect("the shape");
    let bytes = lodge_wire::agent_batch::encode(&batch).expect("it encodes");
    assert!(memchr::memmem::find(&bytes, b"unwanted").is_none());
}

#[test]
fn fields_in_the_overflow_are_seen_and_labels_find_room() {
    let mut builder = BatchBuilder::new();
    for n in 0..1_200 {
        builder.field_i64(&format!("f{n:04}"), n);
    }
    let stream = builder.stream("{host=\"h\"}");
    builder.finish_row(0, stream);
    let batch = builder.finish().expect("a batch");
    assert!(batch.column_by_name("f1100").is_none(), "it is in the overflow");
    let rules = rules(
        "[[rules]]\nname = 'r'\nwhen = { f1100 = { at_least = 1100 } }\n\
         then = { labels = { team = 'x', f1101 = 'y' } }",
    );
    let out = rules.apply(batch, &mut Vec::new());
    let record = &records_of(&out)[0];
    assert_eq!(record["_stream"], "{f1101=\"y\",host=\"h\",team=\"x\"}");
    for (name, value) in [("team", "x"), ("f1101", "y"), ("f1102", "1102")] {
        let found = lodge_record::overflow::get(&record["_overflow"], name);
        assert_eq!(found.as_deref(), Some(value));
    }
}
