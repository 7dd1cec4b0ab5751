//! Streams: the label set that says which source a record belongs to.
//!
//! Canonical text: `{name="value",…}`, names sorted, each once, values JSON-escaped. Two label sets
//! are the same stream exactly if their canonical texts are equal.

use std::collections::BTreeMap;

use crate::overflow::push_json_string;

/// A stream's labels, sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamLabels(BTreeMap<String, String>);

impl StreamLabels {
    /// No labels: the stream `{}`.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a label; an empty value removes it, as an absent and an empty label are the same.
    pub fn set(&mut self, name: &str, value: &str) {
        if value.is_empty() {
            self.0.remove(name);
        } else {
            self.0.insert(name.to_owned(), value.to_owned());
        }
    }

    /// The labels in order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }

    /// The value of a label.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The canonical text, as stored in `_stream`.
    pub fn canonical(&self) -> String {
        let mut text = String::new();
        write_canonical(&mut text, self.iter());
        text
    }

    /// Parses a canonical text. Anything else gives `None`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut rest = text.strip_prefix('{')?.strip_suffix('}')?;
        let mut labels = StreamLabels::new();
        while !rest.is_empty() {
            let (name, after) = rest.split_once('=')?;
            let mut values = serde_json::Deserializer::from_str(after).into_iter::<String>();
            let value = values.next()?.ok()?;
            labels.0.insert(name.to_owned(), value);
            rest = after.get(values.byte_offset()..)?;
            rest = rest.strip_prefix(',').unwrap_or(rest);
        }
        Some(labels)
    }
}

/// Writes the canonical text of labels that are already sorted and unique by name.
pub fn write_canonical<'a>(out: &mut String, labels: impl Iterator<Item = (&'a str, &'a str)>) {
    out.push('{');
    let mut first = true;
    for (name, value) in labels {
        if value.is_empty() {
            continue;
        }
        if !first {
            out.push(',');
        }
        first = false;
        // `=` and `,` would end the name; the borders of a label must be unambiguous.
        match name.contains(['=', ',', '{', '}', '"']) {
            false => out.push_str(name),
            true => out.extend(name.chars().map(|c| if "=,{}\"".contains(c) { '_' } else { c })),
        }
        out.push('=');
        push_json_string(out, value);
    }
    out.push('}');
}

/// Identifier of the stream with this canonical text: 32 lower-case hex digits of its BLAKE3 hash.
pub fn stream_id(canonical: &str) -> String {
    blake3::hash(canonical.as_bytes()).to_hex().as_str().chars().take(32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_text_parses_back() {
        let mut labels = StreamLabels::new();
        labels.set("service", "api \"v2\"");
        labels.set("host", "a,b=c{}");
        labels.set("empty", "");
        let text = labels.canonical();
        assert_eq!(text, r#"{host="a,b=c{}",service="api \"v2\""}"#);
        assert_eq!(StreamLabels::parse(&text), Some(labels));
        assert_eq!(StreamLabels::parse("{}"), Some(StreamLabels::new()));
        for bad in ["", "{", "x", "{a}", "{a=}", "{a=\"b}"] {
            assert_eq!(StreamLabels::parse(bad), None, "{bad}");
        }
    }
}
