//! One JSON object, walked field by field: nested objects become dotted names, arrays stay JSON text.
//!
//! Invariants: the depth is checked before the text is parsed, so no input can exhaust the stack;
//! numbers are handed out as the text that was sent.

use lodge_record::limits;
use sonic_rs::{JsonType, JsonValueTrait, LazyValue, ObjectJsonIter};

/// A value inside an object, as it was sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum JsonValue<'a> {
    /// A text, unescaped.
    Text(&'a str),
    /// A number in the digits it was sent in.
    Number(&'a str),
    /// `true` or `false`.
    Bool(bool),
    /// An array, or an object beyond the depth limit: JSON text.
    Json(&'a str),
}

impl<'a> JsonValue<'a> {
    /// The value as text.
    pub fn as_text(&self) -> &'a str {
        match self {
            JsonValue::Text(text) | JsonValue::Number(text) | JsonValue::Json(text) => text,
            JsonValue::Bool(true) => "true",
            JsonValue::Bool(false) => "false",
        }
    }
}

/// Why a text is not one JSON object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// It is something else, or damaged.
    #[error("not a JSON object: {0}")]
    Syntax(String),
    /// It nests deeper than the parser goes.
    #[error("JSON nested more than {DEPTH_MAX} deep")]
    TooDeep,
}

/// Deepest nesting of objects and arrays that is parsed at all. Deeper than
/// [`limits::NEST_DEPTH_MAX`] objects are kept as JSON text.
pub const DEPTH_MAX: usize = 128;

/// Calls `each(name, value)` for every leaf of the object `text`, in order. `null` is left out.
/// When this fails, some fields may have been handed out already.
pub fn for_each_field(
    text: &str,
    mut each: impl FnMut(&str, JsonValue<'_>),
) -> Result<(), JsonError> {
    check_depth(text.as_bytes())?;
    if !text.trim_ascii_start().starts_with('{') {
        return Err(JsonError::Syntax("expected '{' at column 1".into()));
    }
    let begin = text.as_ptr() as usize;
    let mut walk = Walk { name: String::new(), each: &mut each, last_end: begin };
    walk.object(sonic_rs::to_object_iter(text), 1)?;
    // The iterator does not look beyond the object's closing brace, so this does.
    let rest = text.get(walk.last_end - begin..).unwrap_or_default().trim_ascii();
    let rest = if walk.last_end == begin { rest.get(1..).unwrap_or_default() } else { rest };
    if rest.trim_ascii() == "}" {
        return Ok(());
    }
    Err(JsonError::Syntax(format!("more text after the object's end, near column {}", {
        text.len() - rest.len() + 1
    })))
}

fn check_depth(text: &[u8]) -> Result<(), JsonError> {
    // Few texts have enough brackets to be too deep: count those first, which is much cheaper.
    if memchr::memchr2_iter(b'{', b'[', text).take(DEPTH_MAX + 1).count() <= DEPTH_MAX {
        return Ok(());
    }
    let (mut depth, mut in_text, mut escaped) = (0usize, false, false);
    for &byte in text {
        if in_text {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_text = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_text = true,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            return Err(JsonError::TooDeep);
        }
    }
    Ok(())
}

struct Walk<'f, F> {
    name: String,
    each: &'f mut F,
    /// Address in the text where the last value of the outermost object ended.
    last_end: usize,
}

impl<F: FnMut(&str, JsonValue<'_>)> Walk<'_, F> {
    fn object(&mut self, fields: ObjectJsonIter<'_>, depth: usize) -> Result<(), JsonError> {
        let base = self.name.len();
        for entry in fields {
            let (key, value) = entry.map_err(|e| JsonError::Syntax(describe(&e)))?;
            if depth == 1 {
                let raw = value.as_raw_str();
                self.last_end = raw.as_ptr() as usize + raw.len();
                self.value(Some(&key), value, depth)?;
            } else {
                self.name.push('.');
                self.name.push_str(&key);
                self.value(None, value, depth)?;
                self.name.truncate(base);
            }
        }
        Ok(())
    }

    /// `key` is the name of a field of the outermost object, which needs no copy of its name.
    fn value(
        &mut self,
        key: Option<&str>,
        value: LazyValue<'_>,
        depth: usize,
    ) -> Result<(), JsonError> {
        let raw = value.as_raw_str();
        let kind = value.get_type();
        if kind == JsonType::Object && depth < limits::NEST_DEPTH_MAX {
            if let Some(key) = key {
                self.name.clear();
                self.name.push_str(key);
            }
            if let Some(inner) = value.into_object_iter() {
                self.object(inner, depth + 1)?;
            }
            if key.is_some() {
                self.name.clear();
            }
            return Ok(());
        }
        let name = key.unwrap_or(&self.name);
        match kind {
            JsonType::Null => {}
            JsonType::Boolean => (self.each)(name, JsonValue::Bool(raw == "true")),
            JsonType::Number => (self.each)(name, JsonValue::Number(raw)),
            JsonType::String => {
                let inner = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
                if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
                    (self.each)(name, JsonValue::Text(inner));
                } else {
                    let text = unescape(raw)?;
                    (self.each)(name, JsonValue::Text(&text));
                }
            }
            JsonType::Array | JsonType::Object => (self.each)(name, JsonValue::Json(raw)),
        }
        Ok(())
    }
}

/// The text of a JSON string with escapes. A lone surrogate, which no UTF-8 text can hold, stays
/// visible as the escape that was sent.
fn unescape(raw: &str) -> Result<String, JsonError> {
    match sonic_rs::from_str::<String>(raw) {
        Ok(text) => Ok(text),
        Err(_) if raw.contains("\\u") => {
            let inner = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
            Ok(inner.to_owned())
        }
        Err(error) => Err(JsonError::Syntax(describe(&error))),
    }
}

/// The first line of what the parser says; the rest shows the text, which the caller has.
fn describe(error: &sonic_rs::Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Result<Vec<String>, JsonError> {
        let mut out = Vec::new();
        for_each_field(text, |name, value| out.push(format!("{name}={value:?}")))?;
        Ok(out)
    }

    #[test]
    fn leaves_with_dotted_names() {
        let text =
            r#" {"a":1.50,"b":{"c":"x\ny","d":{"e":true}},"f":[1,{"g":2}],"h":null,"i":{}} "#;
        let expected = [
            "a=Number(\"1.50\")",
            "b.c=Text(\"x\\ny\")",
            "b.d.e=Bool(true)",
            "f=Json(\"[1,{\\\"g\\\":2}]\")",
        ];
        assert_eq!(fields(text), Ok(expected.map(String::from).to_vec()));
        assert_eq!(fields("{}"), Ok(vec![]));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for bad in [
            "",
            "[]",
            "1",
            "{",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{\"a\":1",
            "{\"a\":1} x",
            "nul",
            "{\"a\":tru}",
            "{\"a\":\"b}",
            "{\"a\":1}}",
            "{\"a\":1}{\"b\":2}",
            "{'a':1}",
            "{\"a\":01}",
            "{\"a\":[1,2}",
            "{\"a\":\"\t\"}",
        ] {
            let outcome = fields(bad);
            assert!(outcome.is_err(), "{bad:?} gave {outcome:?}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let deep = |n: usize| format!("{{\"a\":{}1{}}}", "[".repeat(n), "]".repeat(n));
        assert!(fields(&deep(100)).is_ok());
        assert_eq!(fields(&deep(100_000)), Err(JsonError::TooDeep));
        let objects = format!("{}1{}", "{\"a\":".repeat(60), "}".repeat(60));
        let found = fields(&objects).expect("kept");
        assert!(found[0].contains("Json("), "{found:?}");
        let brackets = format!("{{\"a\":\"{}\"}}", "[".repeat(1000));
        assert_eq!(fields(&brackets).map(|f| f.len()), Ok(1));
    }

    #[test]
    fn a_lone_surrogate_is_kept_visible() {
        assert_eq!(fields(r#"{"a":"x\ud800"}"#), Ok(vec![r#"a=Text("x\\ud800")"#.into()]));
    }
}
