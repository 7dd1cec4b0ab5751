//! Looks at the first lines of a source and chooses what the command line left open: JSON or text,
//! and for JSON the fields that hold the time and the message and those that make up the stream.
//!
//! Invariant: the choice follows from the bytes alone, so that a second run chooses the same.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Map, Value};

/// How much of the source is looked at.
const SAMPLE_BYTES: usize = 1 << 20;
const SAMPLE_LINES: usize = 4_000;
/// Deepest nesting that is looked into for names such as `kubernetes.pod.name`.
const DEPTH_MAX: usize = 4;

/// The wire decoder's usual names first, in its order, then more.
const TIME_NAMES: &[&str] =
    &["_time", "@timestamp", "timestamp", "time", "ts", "datetime", "eventTime", "date", "t"];
const MESSAGE_NAMES: &[&str] =
    &["_msg", "message", "msg", "log", "body", "text", "event", "MESSAGE", "short_message"];

/// Fields that say where a line comes from. Of each group the first that fits is taken.
const STREAM_NAMES: &[&[&str]] = &[
    &[
        "service",
        "service.name",
        "service_name",
        "kubernetes.labels.app",
        "app",
        "app.name",
        "application",
        "job",
        "program",
        "appname",
        "SYSLOG_IDENTIFIER",
    ],
    &[
        "namespace",
        "kubernetes.namespace",
        "kubernetes.namespace_name",
        "kubernetes.namespace.name",
        "k8s.namespace.name",
        "k8s_namespace",
    ],
    &[
        "container",
        "container.name",
        "container_name",
        "kubernetes.container.name",
        "kubernetes.container_name",
        "k8s.container.name",
    ],
    &[
        "pod",
        "pod_name",
        "kubernetes.pod",
        "kubernetes.pod.name",
        "kubernetes.pod_name",
        "k8s.pod.name",
        "instance",
    ],
    &["host", "hostname", "host.name", "host_name", "node", "kubernetes.node.name", "_HOSTNAME"],
];

/// What the first lines look like.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Guess {
    /// Most lines are JSON objects.
    pub json: bool,
    /// The field with the time.
    pub time_field: Option<String>,
    /// The field with the message.
    pub msg_field: Option<String>,
    /// The fields of the stream.
    pub stream_fields: Vec<String>,
}

/// So many streams are few, however short the sample is.
const FEW_STREAMS: usize = 50;

type Flat = BTreeMap<String, String>;

/// Looks at the first lines of `head`.
pub fn guess(head: &[u8]) -> Guess {
    let sample = head.get(..SAMPLE_BYTES).unwrap_or(head);
    let cut_off = sample.len() < head.len();
    let mut lines: Vec<&[u8]> =
        sample.split(|b| *b == b'\n').filter(|l| !l.trim_ascii().is_empty()).collect();
    if cut_off && lines.len() > 1 {
        lines.pop();
    }
    lines.truncate(SAMPLE_LINES);
    let rows: Vec<Flat> = lines.iter().filter_map(|line| flatten_line(line)).collect();
    if rows.is_empty() || rows.len() * 2 < lines.len() {
        return Guess::default();
    }
    Guess {
        json: true,
        time_field: first_common(&rows, TIME_NAMES),
        msg_field: first_common(&rows, MESSAGE_NAMES),
        stream_fields: stream_fields(&rows),
    }
}

fn flatten_line(line: &[u8]) -> Option<Flat> {
    let Ok(Value::Object(object)) = serde_json::from_slice(line.trim_ascii()) else {
        return None;
    };
    let mut flat = Flat::new();
    flatten(&object, "", 0, &mut flat);
    Some(flat)
}

fn flatten(object: &Map<String, Value>, prefix: &str, depth: usize, out: &mut Flat) {
    for (name, value) in object {
        let path = format!("{prefix}{name}");
        match value {
            Value::Object(inner) if depth < DEPTH_MAX => {
                flatten(inner, &format!("{path}."), depth + 1, out);
            }
            Value::String(text) if text.is_empty() => {}
            Value::String(text) => {
                out.insert(path, text.clone());
            }
            Value::Number(number) => {
                out.insert(path, number.to_string());
            }
            _ => {}
        }
    }
}

/// The first of `names` that at least half of the rows have.
fn first_common(rows: &[Flat], names: &[&str]) -> Option<String> {
    let common = |name: &&&str| rows.iter().filter(|r| r.contains_key(**name)).count() * 2;
    names.iter().find(|name| common(name) >= rows.len()).map(|name| (*name).to_owned())
}

/// One field of each group, as long as the streams stay few compared with the rows: a stream for
/// every other row would make storage large and queries slow.
fn stream_fields(rows: &[Flat]) -> Vec<String> {
    let streams_max = (rows.len() / 4).max(FEW_STREAMS);
    let mut chosen: Vec<String> = Vec::new();
    for group in STREAM_NAMES {
        let Some(name) = first_common(rows, group) else { continue };
        chosen.push(name);
        let streams: HashSet<Vec<Option<&String>>> =
            rows.iter().map(|row| chosen.iter().map(|field| row.get(field)).collect()).collect();
        if streams.len() > streams_max {
            chosen.pop();
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: impl IntoIterator<Item = String>) -> Guess {
        guess(lines.into_iter().map(|l| l + "\n").collect::<String>().as_bytes())
    }

    #[test]
    fn well_known_names_are_found_nested_and_flat() {
        let line = |i: usize| {
            format!(
                r#"{{"ts":"2026-01-01T00:00:00Z","msg":"m{i}","service.name":"s{}","id":"{i}",
                 "kubernetes":{{"pod":{{"name":"p{}"}}}},"host":"h{i}"}}"#,
                i % 3,
                i % 10
            )
            .replace('\n', "")
        };
        let guess = of((0..200).map(line));
        assert!(guess.json);
        assert_eq!(guess.time_field.as_deref(), Some("ts"));
        assert_eq!(guess.msg_field.as_deref(), Some("msg"));
        // Every row has a host of its own here: that is no stream.
        assert_eq!(guess.stream_fields, ["service.name", "kubernetes.pod.name"]);
    }

    #[test]
    fn text_is_text_even_with_some_json_in_it() {
        assert_eq!(of((0..9).map(|i| format!("plain {i}"))), Guess::default());
        let mixed = (0..9).map(|i| if i % 3 == 0 { r#"{"a":1}"# } else { "x" }.to_owned());
        assert!(!of(mixed).json);
        assert!(!of(["".to_owned()]).json);
        assert!(!of(["[1]".to_owned(), "17".to_owned()]).json);
    }

    #[test]
    fn a_few_rows_may_have_a_few_streams() {
        let lines = ["a", "b", "c"].map(|s| format!(r#"{{"service":"{s}","message":"x"}}"#));
        assert_eq!(of(lines).stream_fields, ["service"]);
    }
}
