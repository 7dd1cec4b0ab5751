//! One answer row: a JSON object a line, its fields in the order the server wrote them.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

/// The fields of a row, as text. To LogsQL null, empty and missing are the same, so null is empty.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Row {
    fields: Vec<(String, String)>,
}

impl Row {
    /// Reads one line of an answer.
    pub fn parse(line: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(line)
    }

    /// A row of these fields.
    pub fn new(fields: Vec<(String, String)>) -> Self {
        Self { fields }
    }

    /// The fields in the server's order.
    pub fn fields(&self) -> &[(String, String)] {
        &self.fields
    }

    /// The text of a field, when the row has one that is not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(field, _)| field == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// The first of `names` that the row has.
    pub fn first_of(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| self.get(name))
    }
}

impl<'de> Deserialize<'de> for Row {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RowVisitor)
    }
}

struct RowVisitor;

impl<'de> Visitor<'de> for RowVisitor {
    type Value = Row;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Row, A::Error> {
        let mut fields = Vec::with_capacity(map.size_hint().unwrap_or(16));
        while let Some((name, value)) = map.next_entry::<String, serde_json::Value>()? {
            match value {
                serde_json::Value::Null => fields.push((name, String::new())),
                serde_json::Value::String(text) => fields.push((name, text)),
                other => fields.push((name, other.to_string())),
            }
        }
        Ok(Row { fields })
    }
}

/// Cuts a stream of bytes into lines.
#[derive(Default)]
pub struct LineCutter {
    carry: Vec<u8>,
}

impl LineCutter {
    /// Takes the next bytes and hands over the whole lines in them, each without its line end.
    pub fn push<E>(
        &mut self,
        mut bytes: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some(at) = memchr::memchr(b'\n', bytes) {
            let (line, rest) = bytes.split_at(at);
            bytes = rest.get(1..).unwrap_or_default();
            if self.carry.is_empty() {
                each(line)?;
            } else {
                self.carry.extend_from_slice(line);
                let line = std::mem::take(&mut self.carry);
                each(&line)?;
            }
        }
        self.carry.extend_from_slice(bytes);
        Ok(())
    }

    /// What came after the last line end.
    pub fn rest(&self) -> &[u8] {
        &self.carry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_keeps_the_servers_order_and_null_is_empty() {
        let row = Row::parse(r#"{"z":"1","a":2.5,"n":null,"b":true}"#).expect("row");
        let names: Vec<_> = row.fields().iter().map(|(n, v)| format!("{n}={v}")).collect();
        assert_eq!(names, ["z=1", "a=2.5", "n=", "b=true"]);
        assert_eq!((row.get("n"), row.get("b")), (None, Some("true")));
    }

    #[test]
    fn lines_are_whole_however_the_bytes_arrive() {
        let mut lines = Vec::new();
        let mut cutter = LineCutter::default();
        for chunk in [&b"ab"[..], b"c\nd", b"", b"\n\nef"] {
            let each = |line: &[u8]| {
                lines.push(String::from_utf8_lossy(line).into_owned());
                Ok::<(), ()>(())
            };
            cutter.push(chunk, each).expect("infallible");
        }
        assert_eq!(lines, ["abc", "d", ""]);
        assert_eq!(cutter.rest(), b"ef");
    }
}
