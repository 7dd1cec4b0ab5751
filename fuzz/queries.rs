//! What has to hold of any text that somebody asks for as a query.
//!
//! Shared by the fuzzer (`fuzz/main.rs`) and by the test that replays the corpus
//! (`crates/query/tests/query/fuzzed.rs`).

use std::sync::{Arc, OnceLock};

use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampNanosecondArray};
use lodge_logsql::{self as logsql, Given, Options, Query};
use lodge_segment::predicate::evaluate;

/// A name, and what is checked of any bytes.
pub type Target = (&'static str, fn(&[u8]));

/// The targets of queries.
pub const TARGETS: [Target; 1] = [("logsql", logsql)];

/// The moment that relative times count from.
const NOW_NS: i64 = 1_767_225_600_000_000_000;
/// Most characters of a message, whatever the text: a terminal shows it whole.
const MESSAGE_CHARS_MAX: usize = 2_000;

/// A query is understood, or refused with a reason and a place that is in the text. What is understood
/// means the same once it is written out, and can be asked of records.
fn logsql(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let query = match logsql::parse(text, NOW_NS) {
        Ok(query) => query,
        Err(error) => {
            let characters = text.chars().count();
            assert!((1..=characters + 1).contains(&error.column), "at {}: {error}", error.column);
            assert!(!error.message.is_empty());
            assert!(error.message.chars().count() <= MESSAGE_CHARS_MAX, "{error}");
            return;
        }
    };
    let filter = logsql::without_pipes(text, NOW_NS).expect("the filter of a query");
    assert!(text.starts_with(filter), "{filter}");
    if query.subqueries.is_empty() {
        check(&query);
        return;
    }
    for inner in &query.subqueries {
        assert!(text.contains(&inner.text), "{}", inner.text);
    }
    let answers = vec![vec!["1".to_owned(), "a b".to_owned()]; query.subqueries.len()];
    let given = Given { now_ns: NOW_NS, options: Options::default(), answers: &answers };
    // With the values of the queries within it, a query can be refused for what they are.
    if let Ok(query) = logsql::parse_given(text, given) {
        assert!(query.subqueries.is_empty(), "answered, and asked again");
        check(&query);
    }
}

fn check(query: &Query) {
    let written = query.predicate.to_string();
    let again = logsql::parse(&written, NOW_NS);
    // Written out, a query near the limits of length or depth can be beyond them.
    if let Ok(again) = again {
        assert_eq!(again.predicate.to_string(), written, "it means something else");
    } else if written.len() < logsql::QUERY_BYTES_MAX / 2 && !written.contains("((((((((") {
        panic!("not a query once it is written out: {written}");
    }
    let matching = evaluate(&query.predicate, records());
    assert_eq!(matching.len(), records().num_rows());
}

/// Some records that there may be anywhere.
fn records() -> &'static RecordBatch {
    static RECORDS: OnceLock<RecordBatch> = OnceLock::new();
    RECORDS.get_or_init(|| {
        let times = TimestampNanosecondArray::from(vec![NOW_NS - 1, NOW_NS, NOW_NS + 1]);
        let texts = |values: [Option<&str>; 3]| -> ArrayRef {
            Arc::new(StringArray::from(values.to_vec()))
        };
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("_time", Arc::new(times.with_timezone("UTC"))),
            (
                "_stream",
                texts([Some("{app=\"api\"}"), Some("{}"), Some("{app=\"db\",zone=\"eu\"}")]),
            ),
            ("_msg", texts([Some("error: 10.0.0.1 took 12ms"), None, Some("Straße ÄÖ \u{0}\n")])),
            ("a", texts([Some("1"), Some("-1.5e3"), Some("")])),
        ];
        RecordBatch::try_from_iter(columns).expect("columns of one length")
    })
}
