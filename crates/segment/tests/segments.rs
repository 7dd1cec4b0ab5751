//! Segments: what is written is what is read, what is found is what a look at every row finds, and
//! damage is noticed.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::TimestampNanosecondType;
use bytes::Bytes;
use lodge_record::builder::BatchBuilder;
use lodge_record::{field, schema};
use lodge_segment::predicate::{
    Ends, FieldOrder, FieldTest, LabelMatcher, LabelTest, NumberRange, Pattern, Phrase, Predicate,
    StreamSelector, TextRange, ValueKind, Verdict, evaluate,
};
use lodge_segment::segment::{self, Segment, Source, ask};
use lodge_segment::{Mask, SegmentError, identifier};
use proptest::prelude::*;

mod whole;
use whole::{Row, read_all, rows};

fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort();
    rows
}

/// Records whose messages look like those of a service.
fn records(count: usize, seed: u64) -> RecordBatch {
    let mut builder = BatchBuilder::new();
    let mut state = seed | 1;
    let mut random = move |below: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for row in 0..count {
        let service = random(4);
        let stream = builder.stream(&format!("{{service=\"s{service}\"}}"));
        builder.field_str("service", &format!("s{service}"));
        builder.field_str("level", ["info", "warn", "error"][random(3) as usize]);
        builder.field_str("trace_id", &format!("{:032x}", u128::from(random(1 << 40)) << 60));
        builder.field_i64("status", 200 + random(4) as i64 * 100);
        if random(3) == 0 {
            builder.field_number_text("duration", &format!("{}.{:03}", random(900), random(1000)));
        }
        if random(2) == 0 {
            builder.field_bool("ok", random(2) == 0);
        }
        builder.field_str("ip", &format!("10.0.{}.{}", random(256), random(256)));
        let message = match random(5) {
            0 => format!("GET /api/v1/items/{} took {}ms", random(100_000), random(500)),
            1 => format!("user u{} logged in from 10.1.2.{}", random(1000), random(256)),
            2 => format!(
                "connection {:016x} closed, {} bytes sent",
                random(1 << 50),
                random(1 << 30)
            ),
            3 => {
                format!("panic: index out of range [{}]\n\tat main.go:{}\n", random(9), random(900))
            }
            _ => format!("ünïcode “{}” über {}", random(10), ["alpha", "beta"][random(2) as usize]),
        };
        builder.message(&message);
        let time_ns =
            1_700_000_000_000_000_000 + (row as i64) * 1_000_003 + random(5_000_000) as i64;
        builder.finish_row(time_ns, stream);
    }
    builder.finish().unwrap()
}

struct Opened {
    segment: Segment,
    bytes: Bytes,
}

impl Opened {
    fn new(batches: &[RecordBatch]) -> Self {
        let (bytes, info) = segment::build(batches).unwrap();
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        assert_eq!((info.offset, info.len, info.rows), (0, bytes.len() as u64, rows as u64));
        let bytes = Bytes::from(bytes);
        let tail = bytes.len() - Segment::tail_bytes(&bytes).unwrap();
        let segment = Segment::open(&bytes[tail..], bytes.len() as u64).unwrap();
        assert_eq!(segment.schema(), &info.schema);
        Self { segment, bytes }
    }

    fn select(&self, predicate: &Predicate) -> Vec<Mask> {
        let prepared = ask(&self.segment, &self.bytes, |s| s.prepare(predicate)).unwrap();
        let chunks = 0..self.segment.chunks().len();
        let masks: Vec<Mask> = chunks
            .map(|chunk| {
                ask(&self.segment, &self.bytes, |s| s.select(&prepared, chunk, None)).unwrap()
            })
            .collect();
        let found: usize = masks.iter().map(Mask::count).sum();
        if let Some(count) = prepared.count() {
            assert_eq!(count, found as u64, "{predicate}");
        }
        match prepared.verdict() {
            Verdict::None => assert_eq!(found, 0, "{predicate}"),
            Verdict::All => assert_eq!(found, self.segment.rows(), "{predicate}"),
            Verdict::Some => {}
        }
        masks
    }
}

/// Whether `text` has the pattern's literals in their order, with something for each variable.
fn fits(pattern: &str, text: &str) -> bool {
    let mut literals = pattern.split("<_>");
    let first = literals.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    for literal in literals {
        // At least one character for the variable.
        let Some(skipped) = rest.get(1..) else { return false };
        match skipped.find(literal) {
            Some(at) => rest = &skipped[at + literal.len()..],
            None => return false,
        }
    }
    true
}

/// The segment and a naive scan over its rows agree on `predicate`, in rows and in values.
fn agree(opened: &Opened, all: &RecordBatch, predicate: &Predicate) {
    let expected = evaluate(predicate, all);
    let masks = opened.select(predicate);
    let mut found = Vec::new();
    let mut first = 0;
    let names: Vec<&str> = all.schema_ref().fields().iter().map(|f| f.name().as_str()).collect();
    let mut read = Vec::new();
    let mut times = Vec::new();
    for (chunk, mask) in masks.iter().enumerate() {
        found.extend(mask.iter().map(|row| first + row));
        first += mask.len();
        let question = |s: &Segment| s.read(chunk, &names, Some(mask));
        read.push(ask(&opened.segment, &opened.bytes, question).unwrap());
        let question = |s: &Segment| s.times(chunk, Some(mask));
        times.extend(ask(&opened.segment, &opened.bytes, question).unwrap());
        for name in &names {
            let question = |s: &Segment| s.numbers(chunk, name, Some(mask));
            if let Some(numbers) = ask(&opened.segment, &opened.bytes, question).unwrap() {
                let column = read.last().unwrap().column_by_name(name).unwrap();
                let parsed = (0..column.len())
                    .map(|row| schema::value_text(column, row).map(|t| t.parse::<f64>().unwrap()));
                assert!(numbers.into_iter().eq(parsed), "{name}");
            }
            let question = |s: &Segment| s.patterns(chunk, name, Some(mask));
            if let Some(patterns) = ask(&opened.segment, &opened.bytes, question).unwrap() {
                let column = read.last().unwrap().column_by_name(name).unwrap();
                for (row, code) in patterns.codes.iter().enumerate() {
                    let text = schema::value_text(column, row);
                    assert_eq!(text.is_some(), *code > 0);
                    let Some(text) = text else { continue };
                    let pattern = patterns.values.value(*code as usize - 1);
                    assert!(fits(pattern, &text), "{text:?} is not of {pattern:?}");
                }
            }
            agree_in_sum(opened, chunk, (name, mask), read.last().unwrap());
            let question = |s: &Segment| s.groups(chunk, name, Some(mask));
            let Some(groups) = ask(&opened.segment, &opened.bytes, question).unwrap() else {
                continue;
            };
            let batch = read.last().unwrap();
            let column = batch.column_by_name(name).unwrap();
            assert_eq!(groups.codes.len(), mask.count());
            for (row, code) in groups.codes.iter().enumerate() {
                let text =
                    code.checked_sub(1).map(|at| groups.values.value(at as usize).to_owned());
                assert_eq!(text, schema::value_text(column, row).map(Into::into), "{name}");
            }
        }
    }
    let wanted: Vec<usize> = (0..all.num_rows()).filter(|row| expected.value(*row)).collect();
    assert_eq!(found, wanted, "{predicate}");
    let survivors = filter_record_batch(all, &expected).unwrap();
    assert_eq!(rows(&read), rows(std::slice::from_ref(&survivors)), "{predicate}");
    let column = survivors.column(0).as_primitive::<TimestampNanosecondType>();
    assert_eq!(times, column.values().to_vec(), "{predicate}");
}

/// How many rows have each text of a field, and which identifiers there are, follows from the rows.
fn agree_in_sum(opened: &Opened, chunk: usize, (name, mask): (&str, &Mask), rows: &RecordBatch) {
    let column = rows.column_by_name(name).unwrap();
    let mut expected: BTreeMap<Option<String>, u64> = BTreeMap::new();
    for row in 0..column.len() {
        *expected.entry(schema::value_text(column, row).map(Into::into)).or_default() += 1;
    }
    let picked = (!mask.is_full()).then_some(mask);
    let question = |s: &Segment| s.counts(chunk, name, picked);
    if let Some(counts) = ask(&opened.segment, &opened.bytes, question).unwrap() {
        let text = |code: u32| code.checked_sub(1).map(|at| counts.values.value(at as usize));
        let counts = counts.counts.iter().map(|(code, rows)| (text(*code).map(Into::into), *rows));
        assert_eq!(counts.collect::<BTreeMap<Option<String>, u64>>(), expected, "{name}");
    }
    let question = |s: &Segment| s.identifiers(chunk, name, picked);
    if let Some(found) = ask(&opened.segment, &opened.bytes, question).unwrap() {
        let texts = expected.keys().flatten().map(|text| identifier(text).unwrap());
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), texts.collect(), "{name}");
    }
}

/// All rows of a segment as one batch without dictionaries.
fn all_rows(bytes: &Bytes) -> RecordBatch {
    let batches = read_all(bytes).unwrap();
    let target = schema::unify_batches(&batches);
    let conformed: Vec<_> = batches.iter().map(|b| schema::conform(b, &target).unwrap()).collect();
    concat_batches(conformed[0].schema_ref(), &conformed).unwrap()
}

#[test]
fn a_segment_holds_the_rows_sorted_by_stream_and_time() {
    let batches = [records(70_000, 1), records(3_000, 2), records(1, 3)];
    let opened = Opened::new(&batches);
    let out = read_all(&opened.bytes).unwrap();
    assert_eq!(sorted(rows(&out)), sorted(rows(&batches)));
    let mut keys = Vec::new();
    for batch in &out {
        let times = batch.column(0).as_primitive::<TimestampNanosecondType>();
        for row in 0..batch.num_rows() {
            let stream = schema::value_text(batch.column(1), row).unwrap().into_owned();
            keys.push((stream, times.value(row)));
        }
    }
    assert!(keys.is_sorted());
    let again = Opened::new(&out);
    assert_eq!(rows(&read_all(&again.bytes).unwrap()), rows(&out));
    assert!(opened.bytes.len() < 74_000 * 60, "{} bytes", opened.bytes.len());
}

#[test]
fn a_merge_is_what_a_build_of_the_same_records_is() {
    let parts = [records(40_000, 1), records(500, 2), records(70_000, 3), records(33_000, 4)];
    let built: Vec<Bytes> =
        parts.iter().map(|part| Opened::new(std::slice::from_ref(part)).bytes).collect();
    let sources: Vec<Source> = built.iter().map(|bytes| Source::open(bytes).unwrap()).collect();
    let (bytes, info) = segment::merge(&sources, 1 << 20).unwrap();
    assert_eq!((info.rows, info.arrow_bytes), (143_500, 1 << 20));
    let whole = Opened::new(&parts);
    let merged = Bytes::from(bytes);
    assert_eq!(rows(&read_all(&merged).unwrap()), rows(&read_all(&whole.bytes).unwrap()));
    let (a, b) = (merged.len(), whole.bytes.len());
    assert!(a < b + b / 20, "merged {a} bytes, built {b}");
    // And once more: a merge of merges.
    let sources = [Source::open(&merged).unwrap(), Source::open(&built[0]).unwrap()];
    let again = Bytes::from(segment::merge(&sources, 1).unwrap().0);
    let both = [parts.to_vec(), vec![parts[0].clone()]].concat();
    let whole = Opened::new(&both);
    assert_eq!(
        sorted(rows(&read_all(&again).unwrap())),
        sorted(rows(&read_all(&whole.bytes).unwrap()))
    );
}

#[test]
fn a_footer_is_all_that_a_count_of_everything_needs() {
    let opened = Opened::new(&[records(1_000, 5)]);
    let tail = opened.bytes.len() - Segment::tail_bytes(&opened.bytes).unwrap();
    let segment = Segment::open(&opened.bytes[tail..], opened.bytes.len() as u64).unwrap();
    assert_eq!(segment.rows(), 1_000);
    assert!(matches!(segment.read(0, &["level"], None), Err(SegmentError::Missing(_))));
}

#[test]
fn questions_on_a_segment_of_many_chunks() {
    let batches = [records(150_000, 11)];
    let opened = Opened::new(&batches);
    let all = all_rows(&opened.bytes);
    let message = |test| Predicate::field(field::MSG, test);
    let base = 1_700_000_000_000_000_000;
    let level = Predicate::field("level", FieldTest::exact("error"));
    for predicate in [
        Predicate::All,
        message(FieldTest::phrase("logged")),
        message(FieldTest::phrase("u77")),
        message(FieldTest::phrase("items/777")),
        message(FieldTest::Substring("77m".into())),
        message(FieldTest::Regex(Pattern::new(r"took \d{2}ms$").unwrap())),
        Predicate::and([level.clone(), message(FieldTest::phrase("panic"))]),
        Predicate::and([level.clone(), message(FieldTest::phrase("panic"))]).not(),
        Predicate::or([level.clone(), Predicate::field("ok", FieldTest::exact("true"))]),
        level.clone().within(base + 1_000_000_000, base + 50_000_000_000),
        Predicate::field("trace_id", FieldTest::Any),
        Predicate::field(
            "duration",
            FieldTest::Number(NumberRange {
                min: 100.0,
                min_open: false,
                max: 120.5,
                max_open: true,
            }),
        ),
        Predicate::field("ip", FieldTest::Ipv4 { min: 0x0a00_1000, max: 0x0a00_1fff }),
        Predicate::field("absent", FieldTest::Empty),
        Predicate::field("duration", FieldTest::Empty),
    ] {
        agree(&opened, &all, &predicate);
    }
}

const WORDS: &[&str] = &[
    "error",
    "a",
    "b1",
    "0",
    "00",
    "7",
    "42",
    "-1",
    "1.5",
    "2.50",
    "10.0.0.1",
    "10.0.0.255",
    "deadbeef",
    "DEAD01",
    "x_y",
    "ü",
    "é9",
    "9é",
    "_9",
    "9_",
    "a9b",
    "ms",
    "\n",
    "\t",
    "\0",
    " ",
    "  ",
    ":",
    "=",
    "/",
    "true",
    "false",
    "null",
    "18446744073709551616",
    "1e5",
    "0a1b2c3d-0a1b-2c3d-4e5f-001122334455",
    "0a1b2c3d0a1b2c3d4e5f001122334455",
    "2026-01-02T03:04:05Z",
    "::1",
    "2001:db8::",
    "[\"a\",7,",
    "\"b1\"]",
    "[42]",
];

fn any_text() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        6 => proptest::sample::select(WORDS).prop_map(str::to_owned),
        1 => "\\PC{0,6}",
        2 => any::<u16>().prop_map(|n| n.to_string()),
        1 => any::<u32>().prop_map(|n| format!("{n:08x}")),
    ];
    proptest::collection::vec(word, 0..6).prop_map(|words| words.concat())
}

#[derive(Clone, Debug)]
enum Value {
    Text(String),
    Int(i64),
    Number(String),
    Bool(bool),
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        3 => any_text().prop_map(Value::Text),
        2 => (-50i64..50).prop_map(Value::Int),
        1 => any::<i64>().prop_map(Value::Int),
        2 => (0u32..5, 0u32..100).prop_map(|(a, b)| Value::Number(format!("{a}.{b:02}"))),
        1 => any::<f64>().prop_map(|f| Value::Number(format!("{f}"))),
        1 => any::<bool>().prop_map(Value::Bool),
    ]
}

type Record = (u8, i64, Option<String>, Vec<(u8, Value)>);

fn any_record() -> impl Strategy<Value = Record> {
    let time = prop_oneof![4 => 0i64..2_000, 1 => any::<i64>()];
    let fields = proptest::collection::vec((0u8..5, any_value()), 0..5);
    (0u8..4, time, proptest::option::weighted(0.9, any_text()), fields)
}

fn batch_of(records: &[Record]) -> Option<RecordBatch> {
    let mut builder = BatchBuilder::new();
    for (stream, time_ns, message, fields) in records {
        if let Some(message) = message {
            builder.message(message);
        }
        for (name, value) in fields {
            let name = format!("f{name}");
            match value {
                Value::Text(text) => builder.field_str(&name, text),
                Value::Int(int) => builder.field_i64(&name, *int),
                Value::Number(text) => builder.field_number_text(&name, text),
                Value::Bool(value) => builder.field_bool(&name, *value),
            }
        }
        let code = builder.stream(&format!("{{s=\"{stream}\"}}"));
        builder.finish_row(*time_ns, code);
    }
    (!records.is_empty()).then(|| builder.finish().unwrap())
}

fn any_test() -> impl Strategy<Value = FieldTest> {
    let text = any_text();
    let phrases = || proptest::collection::vec(any_text().prop_map(|t| Phrase::whole(&t)), 1..3);
    prop_oneof![
        Just(FieldTest::Empty),
        Just(FieldTest::Any),
        any_text().prop_map(|t| FieldTest::phrase(&t)),
        any_text().prop_map(|t| FieldTest::prefix(&t)),
        any_text().prop_map(|t| FieldTest::phrase_any_case(&t)),
        any_text().prop_map(|t| FieldTest::prefix_any_case(&t)),
        any_text().prop_map(|t| FieldTest::exact(&t)),
        any_text().prop_map(FieldTest::ExactPrefix),
        text.prop_map(FieldTest::Substring),
        phrases().prop_map(FieldTest::ContainsAll),
        phrases().prop_map(FieldTest::ContainsAny),
        phrases().prop_map(FieldTest::Sequence),
        proptest::collection::btree_set(any_text(), 0..4).prop_map(FieldTest::In),
        proptest::sample::select(vec![
            r"\d+",
            "^a",
            "9$",
            "err|warn",
            r"(?i)ERROR",
            r"^$",
            r"b\d",
            r"[a-f0-9]{8}",
            ".",
            r"\.",
            "(a|9)+b?",
        ])
        .prop_map(|r| FieldTest::Regex(Pattern::new(r).unwrap())),
        (-60.0f64..60.0, 0.0f64..100.0, any::<bool>(), any::<bool>()).prop_map(
            |(min, size, a, b)| {
                FieldTest::Number(NumberRange { min, min_open: a, max: min + size, max_open: b })
            }
        ),
        (any_text(), any_text()).prop_map(|(a, b)| FieldTest::Text(TextRange {
            min: Bound::Included(a),
            max: Bound::Excluded(b),
        })),
        (any::<u32>(), any::<u32>())
            .prop_map(|(a, b)| FieldTest::Ipv4 { min: a.min(b), max: a.max(b) }),
        (0u64..20, 0u64..20).prop_map(|(min, max)| FieldTest::Length { min, max }),
        (any::<u128>(), any::<bool>()).prop_map(|(a, low)| match low {
            true => FieldTest::Ipv6 { min: 0, max: a },
            false => FieldTest::Ipv6 { min: a, max: u128::MAX },
        }),
        proptest::sample::select(ValueKind::ALL.map(|(_, kind)| kind).to_vec())
            .prop_map(FieldTest::Kind),
        proptest::collection::btree_set(any_text(), 0..4).prop_map(FieldTest::JsonArray),
        (
            proptest::sample::select(Ends::ALL.map(|(_, ends)| ends).to_vec()),
            proptest::sample::select(vec![
                "<N>",
                "a<N>",
                "<N>.<N>",
                "<IP4>",
                "<UUID>",
                "<W>",
                "<N>ms",
                "<DATETIME>",
                "x_y<W>",
                "<W>:<N>",
                "<N><W>",
                ":",
                "",
            ]),
        )
            .prop_map(|(ends, text)| {
                FieldTest::Regex(Pattern::placeholders(text, ends).unwrap())
            }),
    ]
}

fn of_stream(stream: u8) -> Predicate {
    let matcher = LabelMatcher { name: "s".into(), test: LabelTest::In(vec![stream.to_string()]) };
    Predicate::Stream(StreamSelector { groups: vec![vec![matcher]] })
}

fn other_name() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec!["_msg", "f0", "f1", "none", "_stream", "_stream_id", "_time"])
}

fn any_predicate() -> impl Strategy<Value = Predicate> {
    let name =
        proptest::sample::select(vec!["_msg", "f0", "f1", "f2", "f3", "f4", "none", "_stream"]);
    let leaf = prop_oneof![
        12 => (name, any_test()).prop_map(|(name, test)| Predicate::field(name, test)),
        2 => (proptest::sample::select(vec!["", "f", "f1", "none", "_", "_stream"]), any_test())
            .prop_map(|(prefix, test)| Predicate::AnyField { prefix: prefix.into(), test }),
        2 => (other_name(), other_name(), 0usize..3).prop_map(|(left, right, order)| {
            let (left, right) = (left.to_owned(), right.to_owned());
            Predicate::Compare { left, order: FieldOrder::ALL[order].1, right }
        }),
        1 => Just(Predicate::All),
        1 => Just(Predicate::None),
        2 => (-10i64..2_010, 0i64..900)
            .prop_map(|(a, b)| Predicate::Time { min_ns: a, max_ns: a + b }),
        1 => (0i64..1_000_000, any::<i32>()).prop_map(|(a, b)| Predicate::DayRange {
            min_ns: a, max_ns: a * 3, offset_ns: b.into(),
        }),
        2 => (0u8..4).prop_map(of_stream),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 1..3).prop_map(Predicate::And),
            proptest::collection::vec(inner.clone(), 1..3).prop_map(Predicate::Or),
            inner.prop_map(|p| Predicate::Not(Box::new(p))),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn any_records_come_back_and_any_question_is_answered_as_by_a_naive_scan_model(
        groups in proptest::collection::vec(proptest::collection::vec(any_record(), 0..60), 1..4),
        predicates in proptest::collection::vec(any_predicate(), 1..12),
    ) {
        let batches: Vec<RecordBatch> = groups.iter().filter_map(|g| batch_of(g)).collect();
        prop_assume!(!batches.is_empty());
        let opened = Opened::new(&batches);
        let all = all_rows(&opened.bytes);
        prop_assert_eq!(sorted(rows(&batches)), sorted(rows(std::slice::from_ref(&all))));
        for predicate in &predicates {
            agree(&opened, &all, predicate);
        }
    }

    #[test]
    fn any_bytes_are_an_error_fuzz(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(read_all(&Bytes::from(bytes)).is_err());
    }
}

/// How often a question must be asked until all that it needs is in memory.
fn rounds(bytes: &Bytes, predicate: &Predicate, rows: usize) -> usize {
    let segment = Segment::open(bytes, bytes.len() as u64).unwrap();
    let mut rounds = 0;
    let mut found = 0;
    let prepared = ask(&segment, bytes, |segment| {
        rounds += 1;
        segment.prepare(predicate)
    });
    let prepared = prepared.unwrap();
    for chunk in 0..segment.chunks().len() {
        let mask = ask(&segment, bytes, |segment| {
            rounds += 1;
            let mask = segment.select(&prepared, chunk, None)?;
            segment.read(chunk, &["id", "_msg"], Some(&mask))?;
            Ok(mask)
        });
        found += mask.unwrap().count();
    }
    assert_eq!(found, rows, "{predicate}");
    rounds
}

#[test]
fn all_that_is_missing_is_named_at_once() {
    // Identifiers, and tokens of a kind of their own, in many pieces.
    let mut builder = BatchBuilder::new();
    let stream = builder.stream("{a=\"b\"}");
    let id = |no: u64| format!("{:032x}", u128::from(no).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c));
    let token = |no: u64| format!("q{:x}z{:x}k", no.wrapping_mul(0x9e37_79b9), no % 7);
    for no in 0..60_000u64 {
        builder.field_str("id", &id(no / 2));
        builder.message(&format!("request {} is done", token(no)));
        builder.finish_row(no as i64, stream);
    }
    let (bytes, _) = segment::build(&[builder.finish().unwrap()]).unwrap();
    let bytes = Bytes::from(bytes);
    let every = |step: usize| (0..60_000u64).step_by(step);
    let ids: BTreeSet<String> = every(200).map(|no| id(no / 2)).collect();
    let words = every(200).map(|no| Phrase::whole(&token(no))).collect();
    let questions = [
        (Predicate::field("id", FieldTest::In(ids)), 600),
        (Predicate::field("id", FieldTest::Regex(Pattern::new("^0*$").unwrap())), 2),
        (Predicate::field("_msg", FieldTest::ContainsAny(words)), 300),
        (Predicate::field("_msg", FieldTest::phrase(&token(77))), 1),
    ];
    for (predicate, rows) in questions {
        let rounds = rounds(&bytes, &predicate, rows);
        assert!(rounds <= 12, "{rounds} rounds for {rows} rows");
    }
}

#[test]
fn a_flipped_bit_is_an_error_or_of_no_account_fuzz() {
    let batch = records(700, 9);
    let (bytes, _) = segment::build(&[batch]).unwrap();
    // All rows, and those with a word, which asks for what no row needs.
    let read = |bytes: Vec<u8>| -> Result<(Vec<Row>, usize), SegmentError> {
        let bytes = Bytes::from(bytes);
        let segment = Segment::open(&bytes, bytes.len() as u64)?;
        let wanted = Predicate::field(field::MSG, FieldTest::phrase("took"));
        let found = ask(&segment, &bytes, |segment| {
            segment.select(&segment.prepare(&wanted)?, 0, None).map(|rows| rows.count())
        })?;
        Ok((rows(&read_all(&bytes)?), found))
    };
    let right = read(bytes.clone()).unwrap();
    assert!(right.1 > 0);
    let mut harmless = BTreeSet::new();
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        match read(flipped) {
            Ok(answer) => {
                assert_eq!(answer, right, "byte {at}");
                harmless.insert(at);
            }
            Err(SegmentError::Damaged { place, .. }) => assert!(!place.is_empty()),
            Err(SegmentError::NewerVersion { .. }) => {}
            Err(other) => panic!("byte {at}: {other}"),
        }
    }
    assert_eq!(harmless, BTreeSet::new(), "every byte is under a checksum");
}

#[test]
fn a_cut_segment_is_an_error_fuzz() {
    let (bytes, _) = segment::build(&[records(60, 4)]).unwrap();
    let bytes = Bytes::from(bytes);
    for end in 0..bytes.len() {
        assert!(read_all(&bytes.slice(..end)).is_err(), "cut at {end}");
    }
}

#[test]
fn fields_beyond_the_limit_go_to_overflow_and_are_found() {
    let mut builder = BatchBuilder::new();
    for row in 0..5i64 {
        for field in 0..1_200 {
            builder.field_i64(&format!("f{field:04}"), row * 10_000 + field);
        }
        let stream = builder.stream("{}");
        builder.finish_row(row, stream);
    }
    let batch = builder.finish().unwrap();
    let opened = Opened::new(std::slice::from_ref(&batch));
    let all = all_rows(&opened.bytes);
    assert_eq!(rows(std::slice::from_ref(&batch)), rows(std::slice::from_ref(&all)));
    assert!(all.column_by_name(field::OVERFLOW).is_some());
    let predicate = Predicate::field("f1150", FieldTest::exact("21150"));
    agree(&opened, &all, &predicate);
    assert_eq!(opened.select(&predicate)[0].count(), 1);
}
