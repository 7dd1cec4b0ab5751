//! Lodge asked in SQL: each question as the statement that means the same as its LogsQL.

use anyhow::bail;

use crate::check::Row;
use crate::corpus::Corpus;
use crate::lodge::LodgeServer;
use crate::logsql::{Client, Request, time_text};
use crate::process::Usage;
use crate::question::{Filter, Question, Shape};
use crate::target::{Ingested, Target};

/// A running server, filled already.
pub(crate) struct InSql<'s> {
    server: &'s LodgeServer,
    version: String,
}

impl<'s> InSql<'s> {
    pub(crate) fn of(server: &'s LodgeServer) -> Self {
        Self { version: format!("{} in SQL", server.version()), server }
    }
}

impl Target for InSql<'_> {
    fn version(&self) -> &str {
        &self.version
    }

    fn setup(&self) -> &str {
        "the same server and data, asked in SQL with the functions match, stream and time_bucket"
    }

    async fn ingest(&mut self, _: &Corpus) -> anyhow::Result<Ingested> {
        bail!("what is asked in SQL was stored before")
    }

    fn translate(&self, question: &Question) -> Option<String> {
        Some(request(question).text())
    }

    async fn ask(&mut self, question: &Question) -> anyhow::Result<Vec<u8>> {
        let client: &Client = self.server.client();
        client.ask(&request(question)).await
    }

    fn read(&self, question: &Question, answer: &[u8]) -> anyhow::Result<Vec<Row>> {
        request(question).read(answer)
    }

    fn usage(&self) -> anyhow::Result<Usage> {
        self.server.usage()
    }

    fn disk_bytes(&self) -> anyhow::Result<u64> {
        self.server.disk_bytes()
    }

    async fn stop(self) {}
}

/// The question as a request.
pub(crate) fn request(question: &Question) -> Request {
    let args = vec![("query", select(question)), ("format", "jsonl".to_owned())];
    Request { path: "/api/v1/sql", args }
}

fn select(question: &Question) -> String {
    let from = match &question.filter {
        Filter::All => "FROM logs".to_owned(),
        filter => format!("FROM logs WHERE {}", condition(filter)),
    };
    let counts = |field: &str| {
        let field = name(field);
        format!("SELECT {field}, count(*) AS n {from} GROUP BY {field}")
    };
    match &question.shape {
        Shape::Count => format!("SELECT count(*) AS n {from}"),
        Shape::Rows => format!("SELECT * {from}"),
        Shape::Newest(n) => format!("SELECT * {from} ORDER BY _time DESC LIMIT {n}"),
        Shape::Histogram(step_ns, field) => {
            let (seconds, field) = (step_ns / 1_000_000_000, name(field));
            format!(
                "SELECT time_bucket('{seconds}s', _time) AS time, {field}, count(*) AS n {from} \
                 GROUP BY 1, {field}"
            )
        }
        Shape::Top(field, n) => format!("{} ORDER BY n DESC LIMIT {n}", counts(field)),
        Shape::SqlCounts(field) => counts(field),
        Shape::Numbers(by, field) => {
            let (by, field) = (name(by), name(field));
            format!(
                "SELECT {by}, count({field}) AS n, sum({field}) AS sum, avg({field}) AS avg, \
                 percentile_cont(0.99) WITHIN GROUP (ORDER BY {field}) AS p99 {from} \
                 GROUP BY {by}"
            )
        }
        Shape::Distinct(field) => format!("SELECT count(DISTINCT {}) AS n {from}", name(field)),
    }
}

fn name(field: &str) -> String {
    format!("\"{}\"", field.replace('"', "\"\""))
}

fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// A field's value as a constant of the type that such a field has.
fn constant(value: &str) -> String {
    let is_number = value.parse::<i64>().is_ok_and(|number| number.to_string() == value);
    if is_number { value.to_owned() } else { text(value) }
}

fn condition(filter: &Filter) -> String {
    let joined = |filters: &[Filter], with: &str| {
        let parts: Vec<String> = filters.iter().map(condition).collect();
        format!("({})", parts.join(with))
    };
    match filter {
        Filter::All => "true".to_owned(),
        Filter::Word(words) | Filter::Phrase(words) => format!("match(_msg, {})", text(words)),
        Filter::Prefix(begin) => format!("match_prefix(_msg, {})", text(begin)),
        Filter::Substring(part) => format!("match_substring(_msg, {})", text(part)),
        Filter::Regex(expression) => format!("match_regexp(_msg, {})", text(expression)),
        Filter::Is(field, value) => format!("{} = {}", name(field), constant(value)),
        Filter::Stream(field, value) => {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"");
            format!("stream({})", text(&format!("{{{field}=\"{value}\"}}")))
        }
        Filter::In(field, values) => {
            let values: Vec<String> = values.iter().map(|value| constant(value)).collect();
            format!("{} IN ({})", name(field), values.join(", "))
        }
        Filter::Between(field, low, high) => {
            format!("{} BETWEEN {low:?} AND {high:?}", name(field))
        }
        Filter::Window(start_ns, end_ns) => {
            let (start, end) = (time_text(*start_ns), time_text(*end_ns));
            format!("(_time >= '{start}' AND _time < '{end}')")
        }
        Filter::And(filters) => joined(filters, " AND "),
        Filter::Or(filters) => joined(filters, " OR "),
        Filter::Not(filter) => format!("NOT {}", condition(filter)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_become_statements() {
        let errors = Filter::is("level", "it's").and(Filter::word("failed").negated());
        let question = |filter: Filter, shape| select(&Question::new("x", filter, shape));
        assert_eq!(
            question(errors, Shape::Newest(3)),
            "SELECT * FROM logs WHERE (\"level\" = 'it''s' AND NOT match(_msg, 'failed')) \
             ORDER BY _time DESC LIMIT 3"
        );
        let stream = Filter::stream("pod", "a\"b").and(Filter::Between("n".into(), 1.0, 2.5));
        assert_eq!(
            question(stream, Shape::Top("k8s.pod".to_owned(), 2)),
            "SELECT \"k8s.pod\", count(*) AS n FROM logs WHERE (stream('{pod=\"a\\\"b\"}') AND \
             \"n\" BETWEEN 1.0 AND 2.5) GROUP BY \"k8s.pod\" ORDER BY n DESC LIMIT 2"
        );
        assert_eq!(
            question(Filter::is("status", "503"), Shape::Count),
            "SELECT count(*) AS n FROM logs WHERE \"status\" = 503"
        );
    }
}
