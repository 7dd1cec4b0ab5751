//! The tables, and questions in ClickHouse's SQL.

use super::TextIndex;
use crate::question::{Filter, Question, Shape};
use crate::workload::{Kind, wide};

/// Types of the paths in the wide events' objects that are asked for, as is recommended for paths
/// that are known.
const WIDE_HINTS: [(&str, &str); 8] = [
    ("http", "response.status_code UInt16, request.method LowCardinality(String)"),
    ("user", "id String, plan LowCardinality(String)"),
    ("timing", "total_ms Float64"),
    ("cart", "total Nullable(Float64), currency LowCardinality(String)"),
    ("payment", "method LowCardinality(String), risk_score Nullable(Float64)"),
    ("client", "geo.country LowCardinality(String)"),
    ("error", "type LowCardinality(String)"),
    ("k8s", "pod LowCardinality(String)"),
];
/// Scalars of the wide events that have few values.
const WIDE_LABELS: [&str; 6] = ["service", "env", "region", "version", "event", "schema_url"];

/// What follows every statement: times as RFC 3339, both ways, and numbers as numbers.
const SETTINGS: &str = "SETTINGS date_time_input_format='best_effort', \
    date_time_output_format='iso', output_format_json_quote_64bit_integers=0";

/// Makes the table.
pub(super) fn create(kind: Kind, index: TextIndex) -> String {
    let order = match kind {
        Kind::Fleet | Kind::Wide => "service",
        Kind::Systems => "system",
    };
    let words = match index {
        TextIndex::Text => "text(tokenizer = splitByNonAlpha)",
        TextIndex::TokenBloom => "tokenbf_v1(32768, 3, 0) GRANULARITY 8",
    };
    let trace = match kind {
        Kind::Fleet | Kind::Wide => ", INDEX trace trace_id TYPE bloom_filter(0.001) GRANULARITY 1",
        Kind::Systems => "",
    };
    let columns = columns(kind).into_iter().map(|(name, kind)| {
        let codec = match kind.as_str() {
            "DateTime64(9, 'UTC')" => " CODEC(Delta(8), ZSTD(1))",
            kind if kind.starts_with("JSON") || kind.starts_with("LowCardinality") => "",
            _ => " CODEC(ZSTD(1))",
        };
        format!("{name} {kind}{codec}")
    });
    format!(
        "CREATE TABLE logs ({}, INDEX words message TYPE {words}{trace}) ENGINE = MergeTree \
         PARTITION BY toDate(_time) ORDER BY ({order}, level, _time) \
         SETTINGS fsync_after_insert=1, fsync_part_directory=1, ttl_only_drop_parts=1",
        columns.collect::<Vec<_>>().join(", ")
    )
}

/// Stores a file of JSON lines.
pub(super) fn insert(kind: Kind, path: &str) -> String {
    let columns = columns(kind);
    format!(
        "INSERT INTO logs ({0}) SELECT {0} FROM file('{path}', 'JSONEachRow', '{1}') {SETTINGS}",
        columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", "),
        columns
            .iter()
            .map(|(name, kind)| format!("{name} {}", kind.replace('\'', "\\'")))
            .collect::<Vec<_>>()
            .join(", ")
    )
}

/// The columns of the file and the table, and their types.
fn columns(kind: Kind) -> Vec<(&'static str, String)> {
    let mut columns = vec![
        ("_time", "DateTime64(9, 'UTC')".to_owned()),
        ("level", "LowCardinality(String)".to_owned()),
        ("message", "String".to_owned()),
    ];
    let low = |name| (name, "LowCardinality(String)".to_owned());
    match kind {
        Kind::Fleet => {
            columns.extend(["service", "namespace", "host", "pod", "version"].map(low));
            columns.push(("trace_id", "String".to_owned()));
            columns.push(("status", "Nullable(UInt16)".to_owned()));
            columns.push(("duration_ms", "Nullable(Float64)".to_owned()));
            columns.push(("bytes", "Nullable(UInt64)".to_owned()));
        }
        Kind::Systems => columns.extend(["system", "host"].map(low)),
        Kind::Wide => {
            for (name, is_object) in wide::top_level() {
                let hint = WIDE_HINTS.iter().find(|(object, _)| *object == name);
                let kind = match (is_object, hint) {
                    (true, Some((_, hint))) => format!("JSON({hint})"),
                    (true, None) => "JSON".to_owned(),
                    (false, _) if WIDE_LABELS.contains(&name) => {
                        "LowCardinality(String)".to_owned()
                    }
                    (false, _) if name == "sampled" => "Bool".to_owned(),
                    (false, _) => "String".to_owned(),
                };
                columns.push((name, kind));
            }
        }
    }
    columns
}

/// A question as a statement.
pub(super) fn select(question: &Question) -> String {
    let filter = condition(&question.filter);
    let counts = |field: &str| {
        format!(
            "SELECT {field} AS `{field}`, count() AS n FROM logs WHERE {filter} GROUP BY {field}"
        )
    };
    let statement = match &question.shape {
        Shape::Count => format!("SELECT count() AS n FROM logs WHERE {filter}"),
        Shape::Rows => format!("SELECT * FROM logs WHERE {filter}"),
        Shape::Newest(n) => {
            format!("SELECT * FROM logs WHERE {filter} ORDER BY _time DESC LIMIT {n}")
        }
        Shape::Histogram(step_ns, field) => {
            let seconds = step_ns / 1_000_000_000;
            format!(
                "SELECT toStartOfInterval(_time, INTERVAL {seconds} SECOND) AS time, \
                 {field} AS `{field}`, count() AS n FROM logs WHERE {filter} GROUP BY time, {field}"
            )
        }
        Shape::Top(field, n) => format!("{} ORDER BY n DESC LIMIT {n}", counts(field)),
        Shape::SqlCounts(field) => counts(field),
        Shape::Numbers(by, field) => format!(
            "SELECT {by} AS `{by}`, count({field}) AS n, sum({field}) AS sum, avg({field}) AS avg, \
             quantileTDigest(0.99)({field}) AS p99 FROM logs WHERE {filter} GROUP BY {by}"
        ),
        Shape::Distinct(field) => {
            format!("SELECT uniqExact({field}) AS n FROM logs WHERE {filter}")
        }
    };
    format!("{statement} {SETTINGS}")
}

fn text(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

fn condition(filter: &Filter) -> String {
    let joined = |filters: &[Filter], with: &str| {
        let parts: Vec<String> = filters.iter().map(condition).collect();
        format!("({})", parts.join(with))
    };
    match filter {
        Filter::All => "1".to_owned(),
        Filter::Word(word) => format!("hasToken(message, {})", text(word)),
        Filter::Phrase(phrase) => {
            let words = phrase.split(' ').map(|word| format!("hasToken(message, {})", text(word)));
            let words: Vec<String> = words.collect();
            format!("({} AND message LIKE {})", words.join(" AND "), text(&format!("%{phrase}%")))
        }
        Filter::Prefix(word) => format!("match(message, {})", text(&format!(r"\b{word}"))),
        Filter::Substring(part) => format!("message LIKE {}", text(&format!("%{part}%"))),
        Filter::Regex(regex) => format!("match(message, {})", text(regex)),
        Filter::Is(field, value) | Filter::Stream(field, value) => {
            format!("{field} = {}", text(value))
        }
        Filter::In(field, values) => {
            let values: Vec<String> = values.iter().map(|value| text(value)).collect();
            format!("{field} IN ({})", values.join(", "))
        }
        Filter::Between(field, low, high) => format!("{field} BETWEEN {low} AND {high}"),
        Filter::Window(start_ns, end_ns) => format!(
            "(_time >= fromUnixTimestamp64Nano({start_ns}, 'UTC') \
             AND _time < fromUnixTimestamp64Nano({end_ns}, 'UTC'))"
        ),
        Filter::And(filters) => joined(filters, " AND "),
        Filter::Or(filters) => joined(filters, " OR "),
        Filter::Not(filter) => format!("NOT {}", condition(filter)),
    }
}
