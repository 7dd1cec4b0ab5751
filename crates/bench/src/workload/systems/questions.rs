//! What is asked about the systems' lines.

use crate::question::{Filter, Question, Shape};
use crate::workload::{WorkloadOptions, planted};

const HOUR_NS: i64 = 3_600_000_000_000;

/// All classes of questions, in the order of the report.
pub fn questions(options: &WorkloadOptions) -> Vec<Question> {
    use Shape::{Count, Newest, Rows};
    let end_ns = options.end_ns();
    let (from_ns, to_ns) = options.window_ns(10_000);
    let errors = || Filter::is("level", "error");
    let java = || Filter::stream("system", "java");
    let phrase = |text: &str| Filter::Phrase(text.to_owned());
    let system = || "system".to_owned();
    let host = || "host".to_owned();
    vec![
        Question::new("needle word, count", Filter::word(planted::NEEDLE), Count),
        Question::new("100 scattered rows", Filter::word(planted::HUNDRED), Rows),
        Question::new("0.1 % word, count", Filter::word(planted::PER_MILLE), Count),
        Question::new("1 % word, count", Filter::word(planted::PER_CENT), Count),
        Question::new("count of everything", Filter::All, Count),
        Question::new("phrase, count", phrase("Failed password for root"), Count),
        Question::new("prefix, count", Filter::Prefix("Timed".to_owned()), Count),
        Question::new("substring inside a word", Filter::Substring("ceiver".to_owned()), Count),
        Question::new(
            "regex over all messages",
            Filter::Regex(r"size [0-9]{8} from|rt=[0-9]{2}\.".to_owned()),
            Count,
        ),
        Question::new("word of the stack traces", Filter::word("NullPointerException"), Count),
        Question::new(
            "last 100 stack traces of a system",
            java().and(Filter::word("OutOfMemoryError")),
            Newest(100),
        ),
        Question::new(
            "last 100 of level + phrase",
            errors().and(phrase("duplicate key")),
            Newest(100),
        ),
        Question::new(
            "two words, count",
            Filter::word("Connection").and(Filter::word("available")),
            Count,
        ),
        Question::new("negation, count", errors().and(Filter::word("Exception").negated()), Count),
        Question::new(
            "one stream's last hour",
            Filter::stream("host", "postgresql-03").and(Filter::Window(end_ns - HOUR_NS, end_ns)),
            Rows,
        ),
        Question::new(
            "10 min x system, everything",
            Filter::All,
            Shape::Histogram(600_000_000_000, system()),
        ),
        Question::new("top hosts of a phrase", phrase("Failed password"), Shape::Top(host(), 10)),
        Question::new("SQL count by system", Filter::All, Shape::SqlCounts(system())),
        Question::new("distinct hosts of errors", errors(), Shape::Distinct(host())),
        Question::new("10,000 rows out", Filter::Window(from_ns, to_ns), Rows),
    ]
}
