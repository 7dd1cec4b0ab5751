//! The `_overflow` column: the fields of a record beyond the column limit, as JSON object text.
//!
//! Invariant: the text is one flat JSON object whose values are strings, written by [`append`]
//! alone, in the order of the record's fields.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};

/// Appends `"name":"value"` to a growing object text (empty at first). End it with [`close`].
pub fn append(text: &mut String, name: &str, value: &str) {
    text.push(if text.is_empty() { '{' } else { ',' });
    push_json_string(text, name);
    text.push(':');
    push_json_string(text, value);
}

/// Ends an object text that [`append`] began.
pub fn close(text: &mut String) {
    if !text.is_empty() {
        text.push('}');
    }
}

/// Appends all fields of the closed object text `other` to the growing text `text`.
pub fn append_all(text: &mut String, other: &str) {
    for_each(other, |name, value| append(text, name, value));
}

/// Calls `each(name, value)` for every field of `text`, in order.
/// A text that is not such an object (damage) ends the walk early.
pub fn for_each(text: &str, each: impl FnMut(&str, &str)) {
    let mut reader = serde_json::Deserializer::from_str(text);
    // The text is our own; where it is damaged, what was read so far has been handed out.
    let _ = reader.deserialize_map(Walk(each));
}

/// The value of field `name` in `text`, if it is there.
pub fn get<'t>(text: &'t str, name: &str) -> Option<Cow<'t, str>> {
    // Most records do not have the field: a plain search for its quoted name is enough to know.
    if !text.contains(name) && !name.contains(['"', '\\']) && !name.contains(char::is_control) {
        return None;
    }
    let mut found = None;
    for_each(text, |field, value| {
        if found.is_none() && field == name {
            found = Some(Cow::Owned(value.to_owned()));
        }
    });
    found
}

/// Appends `text` as a JSON string with its quotes.
pub fn push_json_string(out: &mut String, text: &str) {
    out.push('"');
    let is_plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
    // Without a way out of the loop many bytes are looked at together.
    if text.bytes().fold(true, |plain, byte| plain & is_plain(byte)) {
        out.push_str(text);
        return out.push('"');
    }
    let mut from = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..0x20 => "",
            _ => continue,
        };
        // Escaped bytes are ASCII, so both ends are character borders.
        out.push_str(text.get(from..at).unwrap_or_default());
        if escape.is_empty() {
            out.push_str("\\u00");
            out.push(char::from(b'0' + (byte >> 4)));
            out.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
        } else {
            out.push_str(escape);
        }
        from = at + 1;
    }
    out.push_str(text.get(from..).unwrap_or_default());
    out.push('"');
}

struct Walk<F>(F);

impl<'de, F: FnMut(&str, &str)> Visitor<'de> for Walk<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a flat object of strings")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some((name, value)) = map.next_entry::<CowStr<'de>, CowStr<'de>>()? {
            (self.0)(&name.0, &value.0);
        }
        Ok(())
    }
}

#[derive(serde::Deserialize)]
#[serde(transparent)]
struct CowStr<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back_as_they_went_in() {
        let fields =
            [("a", "1"), ("quote\"d", "back\\slash"), ("c.d", "line\nbreak\u{1}\u{7f}é"), ("", "")];
        let mut text = String::new();
        for (name, value) in fields {
            append(&mut text, name, value);
        }
        close(&mut text);
        let mut seen = Vec::new();
        for_each(&text, |n, v| seen.push((n.to_owned(), v.to_owned())));
        let expected: Vec<_> = fields.map(|(n, v)| (n.to_owned(), v.to_owned())).into();
        assert_eq!(seen, expected);
        for (name, value) in fields {
            assert_eq!(get(&text, name).as_deref(), Some(value));
        }
        assert_eq!(get(&text, "absent"), None);
        serde_json::from_str::<serde_json::Value>(&text).expect("plain JSON");
    }
}
