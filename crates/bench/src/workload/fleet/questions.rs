//! What is asked about the fleet.

use super::{Fleet, trace_text};
use crate::question::{Filter, Question, Shape};
use crate::workload::{WorkloadOptions, planted};

/// Part of an address, so no word of it is a literal.
pub const REGEX: &str = r"[0-9]{3}\.[0-9]{2,3}\.1[0-9]\.";
/// Looked for inside words ("receiver").
pub const SUBSTRING: &str = "ceiver";

const HOUR_NS: i64 = 3_600_000_000_000;
/// The trace that is looked up is found at the latest here.
const TRACE_AFTER_MAX: u64 = 1_000_000;

/// All classes of questions, in the order of the report.
pub fn questions(options: &WorkloadOptions) -> Vec<Question> {
    use Shape::{Count, Newest, Rows};
    let level = || "level".to_owned();
    let end_ns = options.end_ns();
    let pod = Fleet::new(options.clone()).pod_name(super::PODS / 2).to_owned();
    let (from_ns, to_ns) = options.window_ns(10_000);
    let errors = || Filter::is("level", "error");
    let last_hour = Filter::stream("pod", &pod).and(Filter::Window(end_ns - HOUR_NS, end_ns));
    let in_list = Filter::any_of("service", &["payments", "billing", "checkout"])
        .and(Filter::any_of("level", &["error", "warn"]));
    let duration = || "duration_ms".to_owned();
    vec![
        Question::new("needle word, count", Filter::word(planted::NEEDLE), Count),
        Question::new("needle word, rows", Filter::word(planted::NEEDLE), Rows),
        Question::new("100 scattered rows", Filter::word(planted::HUNDRED), Rows),
        Question::new(
            "last 100 of level + word",
            errors().and(Filter::word("failed")),
            Newest(100),
        ),
        Question::new(
            "10 min x level, everything",
            Filter::All,
            Shape::Histogram(600_000_000_000, level()),
        ),
        Question::new("top hosts of errors", errors(), Shape::Top("host".to_owned(), 10)),
        Question::new("regex over all messages", Filter::Regex(REGEX.to_owned()), Count),
        Question::new("substring inside a word", Filter::Substring(SUBSTRING.to_owned()), Count),
        Question::new("trace id, rows", Filter::is("trace_id", &trace(options)), Rows),
        Question::new("0.1 % word, count", Filter::word(planted::PER_MILLE), Count),
        Question::new("1 % word, count", Filter::word(planted::PER_CENT), Count),
        Question::new("count of everything", Filter::All, Count),
        Question::new(
            "sum, avg, p99 by service",
            Filter::All,
            Shape::Numbers("service".to_owned(), duration()),
        ),
        Question::new("one stream's last hour", last_hour, Rows),
        Question::new("SQL count by level", Filter::All, Shape::SqlCounts(level())),
        Question::new("phrase, count", Filter::Phrase("connect timeout after".to_owned()), Count),
        Question::new("prefix, count", Filter::Prefix("reject".to_owned()), Count),
        Question::new("negation, count", errors().and(Filter::word("failed").negated()), Count),
        Question::new(
            "two words, count",
            Filter::word("upstream").and(Filter::word("timeout")),
            Count,
        ),
        Question::new(
            "either word, count",
            Filter::word("refused").or(Filter::word("timeout")),
            Count,
        ),
        Question::new("in-list of two fields, count", in_list, Count),
        Question::new("numeric range, count", Filter::Between(duration(), 1000.0, 1500.0), Count),
        Question::new("rare number, newest 100", Filter::is("status", "503"), Newest(100)),
        Question::new("distinct pods", Filter::All, Shape::Distinct("pod".to_owned())),
        Question::new(
            "distinct trace ids of errors",
            errors(),
            Shape::Distinct("trace_id".to_owned()),
        ),
        Question::new(
            "top status of requests",
            Filter::Between(duration(), 0.0, 1e9),
            Shape::Top("status".to_owned(), 5),
        ),
        Question::new("10,000 rows out", Filter::Window(from_ns, to_ns), Rows),
    ]
}

/// The first trace to begin after the middle of the corpus or the millionth record; in a corpus
/// where none does, the last one to begin.
fn trace(options: &WorkloadOptions) -> String {
    let mut fleet = Fleet::new(options.clone());
    let after = (options.records / 2).min(TRACE_AFTER_MAX);
    let (mut line, mut index, mut latest) = (Vec::new(), 0, [0; 2]);
    while let Some(written) = fleet.next_record(&mut line) {
        line.clear();
        index += 1;
        if written.trace_begins {
            latest = written.trace;
            if index > after {
                break;
            }
        }
    }
    trace_text(latest)
}
