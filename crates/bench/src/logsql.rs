//! Questions in LogsQL over HTTP: what Lodge and VictoriaLogs both understand.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::check::Row;
use crate::question::{Filter, Question, Shape};

/// How long one request may take.
const REQUEST_MAX: Duration = Duration::from_secs(120);
const QUERY: &str = "/select/logsql/query";
const HITS: &str = "/select/logsql/hits";

/// A question as a request.
#[derive(Debug, PartialEq)]
pub(crate) struct Request {
    pub(crate) path: &'static str,
    pub(crate) args: Vec<(&'static str, String)>,
}

impl Request {
    /// The request for a question.
    pub(crate) fn of(question: &Question) -> Self {
        let filter = filter_text(&question.filter);
        let query = |text: String| Self { path: QUERY, args: vec![("query", text)] };
        match &question.shape {
            Shape::Count => query(format!("{filter} | stats count() as n")),
            Shape::Rows => query(filter),
            Shape::Newest(n) => query(format!("{filter} | sort by (_time desc) limit {n}")),
            Shape::Histogram(step_ns, field) => {
                let step = format!("{}s", step_ns / 1_000_000_000);
                let args = vec![("query", filter), ("step", step), ("field", field.clone())];
                Self { path: HITS, args }
            }
            Shape::Top(field, n) => {
                let field = quoted(field);
                query(format!(
                    "{filter} | stats by ({field}) count() as n | sort by (n desc) | limit {n}"
                ))
            }
            Shape::Numbers(by, field) => {
                let (by, field) = (quoted(by), quoted(field));
                query(format!(
                    "{filter} | stats by ({by}) count({field}) as n, sum({field}) as sum, \
                     avg({field}) as avg, quantile(0.99, {field}) as p99"
                ))
            }
            Shape::Distinct(field) => {
                query(format!("{filter} | stats count_uniq({}) as n", quoted(field)))
            }
            Shape::SqlCounts(field) => {
                query(format!("{filter} | stats by ({}) count() as n", quoted(field)))
            }
        }
    }

    /// As a line of the report.
    pub(crate) fn text(&self) -> String {
        let args: Vec<String> =
            self.args.iter().map(|(name, value)| format!("{name}={value}")).collect();
        format!("{} {}", self.path, args.join(" "))
    }

    /// The answer as rows.
    pub(crate) fn read(&self, answer: &[u8]) -> anyhow::Result<Vec<Row>> {
        if self.path == HITS { hits(answer) } else { rows(answer) }
    }
}

/// A name or value in quotes.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn filter_text(filter: &Filter) -> String {
    let joined = |filters: &[Filter], with: &str| {
        let parts: Vec<String> = filters.iter().map(filter_text).collect();
        format!("({})", parts.join(with))
    };
    match filter {
        Filter::All => "*".to_owned(),
        Filter::Word(text) | Filter::Phrase(text) => quoted(text),
        Filter::Prefix(text) => format!("{}*", quoted(text)),
        // A regular expression without special characters; both know that it is a substring.
        Filter::Substring(text) | Filter::Regex(text) => format!("~{}", quoted(text)),
        Filter::Is(field, value) => format!("{}:={}", quoted(field), quoted(value)),
        Filter::Stream(field, value) => format!("{{{field}={}}}", quoted(value)),
        Filter::In(field, values) => {
            let values: Vec<String> = values.iter().map(|value| quoted(value)).collect();
            format!("{}:in({})", quoted(field), values.join(","))
        }
        Filter::Between(field, low, high) => format!("{}:range[{low}, {high}]", quoted(field)),
        Filter::Window(start_ns, end_ns) => {
            format!("_time:[{}, {})", time_text(*start_ns), time_text(*end_ns))
        }
        Filter::And(filters) => joined(filters, " "),
        Filter::Or(filters) => joined(filters, " or "),
        Filter::Not(filter) => format!("!{}", filter_text(filter)),
    }
}

/// RFC 3339 with nanoseconds.
pub(crate) fn time_text(time_ns: i64) -> String {
    let time = Timestamp::from_nanosecond(i128::from(time_ns)).unwrap_or_default();
    time.strftime("%Y-%m-%dT%H:%M:%S.%9fZ").to_string()
}

/// A server on this machine.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    address: SocketAddr,
    http: reqwest::Client,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> anyhow::Result<Self> {
        // An error says that it was done before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().tls_certs_only([]).timeout(REQUEST_MAX).build()?;
        Ok(Self { address, http })
    }

    /// Where the server listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://HOST:PORT`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The body of a good answer.
    pub(crate) async fn get(&self, path: &str, args: &[(&str, &str)]) -> anyhow::Result<Vec<u8>> {
        let request = self.http.get(format!("{}{path}", self.url())).query(args);
        Self::body(path, request).await
    }

    /// The body of a good answer to these bytes.
    pub(crate) async fn post(
        &self,
        path: &str,
        args: &[(&str, &str)],
        body: Vec<u8>,
    ) -> anyhow::Result<Vec<u8>> {
        let request = self.http.post(format!("{}{path}", self.url())).query(args).body(body);
        Self::body(path, request).await
    }

    /// The body of a good answer to a question.
    pub(crate) async fn ask(&self, request: &Request) -> anyhow::Result<Vec<u8>> {
        let args: Vec<(&str, &str)> =
            request.args.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.get(request.path, &args).await
    }

    async fn body(path: &str, request: reqwest::RequestBuilder) -> anyhow::Result<Vec<u8>> {
        let answer = request.send().await.with_context(|| path.to_owned())?;
        let status = answer.status();
        let body = answer.bytes().await.with_context(|| path.to_owned())?;
        ensure!(status.is_success(), "{path}: {status}: {}", String::from_utf8_lossy(&body));
        Ok(body.into())
    }
}

/// JSON lines as rows of texts, nested objects by their dotted paths.
pub(crate) fn rows(body: &[u8]) -> anyhow::Result<Vec<Row>> {
    let lines = body.split(|&b| b == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let value: Value = serde_json::from_slice(line)
                .with_context(|| String::from_utf8_lossy(line).into_owned())?;
            let mut row = Row::new();
            flatten("", value, &mut row);
            Ok(row)
        })
        .collect()
}

fn flatten(path: &str, value: Value, row: &mut Row) {
    let text = match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if path.is_empty() { name } else { format!("{path}.{name}") };
                flatten(&path, value, row);
            }
            return;
        }
        Value::String(text) => text,
        // A missing number.
        Value::Null => String::new(),
        other => other.to_string(),
    };
    row.insert(path.to_owned(), text);
}

/// `{"hits":[{"fields":{…},"timestamps":[…],"values":[…]}]}` as one row a bucket and value.
fn hits(body: &[u8]) -> anyhow::Result<Vec<Row>> {
    #[derive(Deserialize)]
    struct Group {
        fields: Row,
        timestamps: Vec<String>,
        values: Vec<u64>,
    }
    #[derive(Deserialize)]
    struct Answer {
        hits: Vec<Group>,
    }
    let answer: Answer = serde_json::from_slice(body).context(HITS)?;
    let mut rows = Vec::new();
    for group in answer.hits {
        for (time, n) in group.timestamps.into_iter().zip(group.values) {
            let mut row = group.fields.clone();
            row.insert("time".to_owned(), time);
            row.insert("n".to_owned(), n.to_string());
            rows.push(row);
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_reads_as_a_user_would_write_it() {
        let filter = Filter::is("level", "error")
            .and(Filter::word("failed").negated())
            .and(Filter::Between("ms".to_owned(), 1.0, 2.5));
        let question = Question::new("test", filter, Shape::Count);
        assert_eq!(
            Request::of(&question).text(),
            "/select/logsql/query query=((\"level\":=\"error\" !\"failed\") \
             \"ms\":range[1, 2.5]) | stats count() as n"
        );
    }

    #[test]
    fn objects_become_dotted_paths() {
        let rows = rows(b"{\"a\":{\"b\":1,\"c\":null},\"d\":\"x\"}\n").unwrap_or_default();
        let fields = [("a.b", "1"), ("a.c", ""), ("d", "x")];
        let row: Row = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        assert_eq!(rows, [row]);
    }
}
