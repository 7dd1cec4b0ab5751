//! What is asked about wide events.

use crate::question::{Filter, Question, Shape};
use crate::workload::{WorkloadOptions, planted};

const HOUR_NS: i64 = 3_600_000_000_000;

/// All classes of questions, in the order of the report.
pub fn questions(options: &WorkloadOptions) -> Vec<Question> {
    use Shape::{Count, Newest, Rows};
    let end_ns = options.end_ns();
    let (from_ns, to_ns) = options.window_ns(1_000);
    let errors = || Filter::is("level", "error");
    let name = |name: &str| name.to_owned();
    let status = "http.response.status_code";
    let stream = Filter::stream("service", "payments").and(Filter::stream("env", "dev"));
    let risky = Filter::is("payment.method", "wallet").and(Filter::Between(
        name("payment.risk_score"),
        0.0,
        0.05,
    ));
    vec![
        Question::new("needle word, count", Filter::word(planted::NEEDLE), Count),
        Question::new("100 scattered rows of 150 fields", Filter::word(planted::HUNDRED), Rows),
        Question::new("1 % word, count", Filter::word(planted::PER_CENT), Count),
        Question::new("count of everything", Filter::All, Count),
        Question::new(
            "rare value of a field, count",
            Filter::is("error.type", "PermissionDenied"),
            Count,
        ),
        Question::new(
            "common value of a field, count",
            Filter::is("http.request.method", "POST"),
            Count,
        ),
        Question::new("value in a field, newest 100", Filter::is(status, "503"), Newest(100)),
        Question::new(
            "last 100 of level + word",
            errors().and(Filter::word("refused")),
            Newest(100),
        ),
        Question::new(
            "in-list of two fields, count",
            Filter::any_of("user.plan", &["plus", "pro"])
                .and(Filter::any_of("client.geo.country", &["DE", "SE", "AT"])),
            Count,
        ),
        Question::new("sparse text and number, count", risky, Count),
        Question::new(
            "numeric range, count",
            Filter::Between(name("timing.total_ms"), 3000.0, 4000.0),
            Count,
        ),
        Question::new(
            "sum, avg, p99 of a number by service",
            Filter::All,
            Shape::Numbers(name("service"), name("timing.total_ms")),
        ),
        Question::new(
            "sum, avg, p99 of a sparse number",
            Filter::is("cart.currency", "SEK"),
            Shape::Numbers(name("user.plan"), name("cart.total")),
        ),
        Question::new(
            "10 min x event, everything",
            Filter::All,
            Shape::Histogram(600_000_000_000, name("event")),
        ),
        Question::new("top users of errors", errors(), Shape::Top(name("user.id"), 10)),
        Question::new("top pods", Filter::All, Shape::Top(name("k8s.pod"), 10)),
        Question::new("SQL count by plan", Filter::All, Shape::SqlCounts(name("user.plan"))),
        Question::new("distinct users", Filter::All, Shape::Distinct(name("user.id"))),
        Question::new(
            "negation, count",
            errors().and(Filter::is("http.request.method", "GET").negated()),
            Count,
        ),
        Question::new(
            "one stream's last hour",
            stream.and(Filter::Window(end_ns - HOUR_NS, end_ns)),
            Rows,
        ),
        Question::new("1,000 events out", Filter::Window(from_ns, to_ns), Rows),
    ]
}
