//! One JSON object, walked field by field: nested objects become dotted names, arrays stay JSON text.
//!
//! One pass over the bytes, which checks as it goes: what is accepted is exactly the JSON of RFC
//! 8259 whose outermost value is an object, nested at most [`DEPTH_MAX`] deep. Whoever takes the
//! fields may say which one is likely to come next ([`Leaves::guesses`]): most programs write the
//! same fields in the same order, and then a name is compared with one name and not looked up.
//!
//! Invariants: the depth is bounded, so no input can exhaust the stack; an object's own name is
//! never handed out longer than [`limits::FIELD_NAME_BYTES_MAX`], so names take no more than a
//! bounded multiple of the text; numbers are handed out as the text that was sent.

use std::borrow::Cow;

use lodge_record::builder::{Value, shorten_name};
use lodge_record::limits;

use crate::json_scan::{plain_run, space_run};

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

    /// The value as a record's field has it.
    #[inline]
    pub fn as_field(&self) -> Value<'a> {
        match self {
            JsonValue::Text(text) | JsonValue::Json(text) => Value::Text(text),
            JsonValue::Number(text) => Value::of_number(text),
            JsonValue::Bool(value) => Value::Bool(*value),
        }
    }
}

/// Why a text is not one JSON object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// It is something else, or damaged.
    #[error("not a JSON object: {what} at column {column}")]
    Syntax {
        /// What is wrong.
        what: &'static str,
        /// Where, in bytes from 1.
        column: usize,
    },
    /// It nests deeper than the parser goes.
    #[error("JSON nested more than {DEPTH_MAX} deep")]
    TooDeep,
}

/// Deepest nesting of objects and arrays that is parsed at all. Deeper than
/// [`limits::NEST_DEPTH_MAX`] objects are kept as JSON text.
pub const DEPTH_MAX: usize = 128;

/// A field's name as it stands in an object, `"name":`, to be recognised at once.
#[derive(Debug, Default)]
pub struct Guess {
    /// The first bytes, and which of them count.
    head: u128,
    mask: u128,
    text: Box<[u8]>,
}

impl Guess {
    /// The guess that the next field has this name. A name that JSON must escape is never found.
    pub fn new(name: &str) -> Self {
        if name.bytes().any(|b| b < 0x20 || b == b'"' || b == b'\\') {
            return Self::default();
        }
        let text = format!("\"{name}\":").into_bytes().into_boxed_slice();
        let mut head = [0; 16];
        let mut mask = [0; 16];
        for ((head, mask), byte) in head.iter_mut().zip(&mut mask).zip(&text) {
            (*head, *mask) = (*byte, 0xff);
        }
        Self { head: u128::from_le_bytes(head), mask: u128::from_le_bytes(mask), text }
    }

    /// Bytes of the name with its quotes and colon if `text` begins with them.
    #[inline]
    fn found(&self, text: &[u8]) -> Option<usize> {
        if self.text.is_empty() {
            return None;
        }
        let found = match text.first_chunk::<16>() {
            Some(head) if self.text.len() <= 16 => {
                u128::from_le_bytes(*head) & self.mask == self.head
            }
            _ => text.starts_with(&self.text),
        };
        found.then_some(self.text.len())
    }
}

/// What takes the leaves of an object.
pub trait Leaves {
    /// The fields of the outermost object that are likely to come next, the likeliest first.
    fn guesses(&self) -> [Option<&Guess>; 2] {
        [None, None]
    }

    /// Takes a leaf whose name was found by the guess of this number.
    fn guessed(&mut self, _guess: usize, _value: JsonValue<'_>) {}

    /// Takes a leaf.
    fn leaf(&mut self, name: &str, value: JsonValue<'_>);

    /// Takes the name of an inner object that has no fields.
    fn empty_object(&mut self, _name: &str) {}
}

struct Each<F>(F);

impl<F: FnMut(&str, JsonValue<'_>)> Leaves for Each<F> {
    #[inline]
    fn leaf(&mut self, name: &str, value: JsonValue<'_>) {
        (self.0)(name, value);
    }
}

/// Calls `each(name, value)` for every leaf of the object `text`, in order. `null` is left out.
/// When this fails, some fields may have been handed out already.
pub fn for_each_field(text: &str, each: impl FnMut(&str, JsonValue<'_>)) -> Result<(), JsonError> {
    walk(text, &mut Each(each))
}

/// Hands every leaf of the object `text` to `leaves`, in order. `null` is left out.
/// When this fails, some leaves may have been handed out already.
pub fn walk(text: &str, leaves: &mut impl Leaves) -> Result<(), JsonError> {
    let mut walk = Walk { text, bytes: text.as_bytes(), at: 0, name: String::new(), leaves };
    walk.space();
    if walk.peek() != Some(b'{') {
        return Err(walk.wrong("expected '{'"));
    }
    walk.at += 1;
    walk.outermost()?;
    walk.space();
    if walk.at < text.len() {
        return Err(walk.wrong("more text after the object's end"));
    }
    Ok(())
}

/// A value whose extent is known, and of a text whether it is as it stands.
enum Raw {
    Null,
    Bool(bool),
    Number,
    Plain,
    Escaped,
    Json,
    Object,
}

struct Walk<'t, 'l, L> {
    text: &'t str,
    bytes: &'t [u8],
    at: usize,
    /// The dotted name of the object in hand, empty for the outermost.
    name: String,
    leaves: &'l mut L,
}

impl<'t, L: Leaves> Walk<'t, '_, L> {
    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Skips blank space; most texts have none or one byte of it.
    #[inline]
    fn space(&mut self) {
        if self.peek().is_some_and(|b| b <= b' ') {
            self.at += space_run(self.bytes.get(self.at..).unwrap_or_default());
        }
    }

    #[cold]
    fn wrong(&self, what: &'static str) -> JsonError {
        JsonError::Syntax { what, column: self.at + 1 }
    }

    fn slice(&self, from: usize, to: usize) -> &'t str {
        // Both ends are at ASCII bytes of a text, so this never is the empty text.
        self.text.get(from..to).unwrap_or_default()
    }

    /// The fields of the outermost object, after its brace.
    fn outermost(&mut self) -> Result<(), JsonError> {
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            match self.guess() {
                Some(guess) => {
                    self.space();
                    self.guessed(guess)?;
                }
                None => {
                    let name = self.key()?;
                    self.field(&name)?;
                }
            }
            if self.is_last()? {
                return Ok(());
            }
        }
    }

    /// Which of the expected fields stands here; its name is taken.
    #[inline]
    fn guess(&mut self) -> Option<usize> {
        let rest = self.bytes.get(self.at..)?;
        let [first, second] = self.leaves.guesses();
        if let Some(length) = first?.found(rest) {
            self.at += length;
            return Some(0);
        }
        self.at += second?.found(rest)?;
        Some(1)
    }

    fn guessed(&mut self, guess: usize) -> Result<(), JsonError> {
        let from = self.at;
        let value = match self.value(1)? {
            Raw::Plain => JsonValue::Text(self.slice(from + 1, self.at - 1)),
            Raw::Number => JsonValue::Number(self.slice(from, self.at)),
            Raw::Bool(value) => JsonValue::Bool(value),
            Raw::Null => return Ok(()),
            Raw::Json => JsonValue::Json(self.slice(from, self.at)),
            Raw::Escaped => {
                let text = unescape(self.slice(from + 1, self.at - 1));
                self.leaves.guessed(guess, JsonValue::Text(&text));
                return Ok(());
            }
            Raw::Object => {
                // The name that was guessed is not kept, but it stands before the value.
                let name = self.name_before(from).to_owned();
                self.name.push_str(&name);
                self.object(2)?;
                self.name.clear();
                return Ok(());
            }
        };
        self.leaves.guessed(guess, value);
        Ok(())
    }

    /// The name, free of escapes, whose value begins at `from`.
    fn name_before(&self, from: usize) -> &'t str {
        let head = self.text.get(..from).unwrap_or_default();
        let head = head.trim_ascii_end().strip_suffix("\":").unwrap_or_default();
        head.rsplit_once('"').map_or("", |(_, name)| name)
    }

    /// A field of the outermost object, from its value on.
    fn field(&mut self, name: &str) -> Result<(), JsonError> {
        let from = self.at;
        match self.value(1)? {
            Raw::Object => {
                self.name.push_str(name);
                self.object(2)?;
                self.name.clear();
            }
            raw => self.leaf(name, raw, from),
        }
        Ok(())
    }

    /// The fields of an inner object, after its brace.
    fn object(&mut self, depth: usize) -> Result<(), JsonError> {
        if self.name.len() > limits::FIELD_NAME_BYTES_MAX {
            // Else a long name would be copied and hashed for each of the fields below it.
            let short = shorten_name(&self.name);
            let long = std::mem::replace(&mut self.name, short);
            let done = self.object(depth);
            self.name = long;
            return done;
        }
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            self.leaves.empty_object(&self.name);
            return Ok(());
        }
        let base = self.name.len();
        loop {
            let key = self.key()?;
            self.name.push('.');
            self.name.push_str(&key);
            let from = self.at;
            match self.value(depth)? {
                Raw::Object => self.object(depth + 1)?,
                raw => {
                    let name = std::mem::take(&mut self.name);
                    self.leaf(&name, raw, from);
                    self.name = name;
                }
            }
            self.name.truncate(base);
            if self.is_last()? {
                return Ok(());
            }
        }
    }

    /// Whether the object ends here; else another field follows.
    #[inline]
    fn is_last(&mut self) -> Result<bool, JsonError> {
        self.space();
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                self.space();
                Ok(false)
            }
            Some(b'}') => {
                self.at += 1;
                Ok(true)
            }
            _ => Err(self.wrong("expected ',' or '}'")),
        }
    }

    /// A name and its colon.
    fn key(&mut self) -> Result<Cow<'t, str>, JsonError> {
        if self.peek() != Some(b'"') {
            return Err(self.wrong("expected a quoted name"));
        }
        let from = self.at + 1;
        let escaped = self.string()?;
        let raw = self.slice(from, self.at - 1);
        self.space();
        if self.peek() != Some(b':') {
            return Err(self.wrong("expected ':'"));
        }
        self.at += 1;
        self.space();
        Ok(if escaped { Cow::Owned(unescape(raw)) } else { Cow::Borrowed(raw) })
    }

    fn leaf(&mut self, name: &str, raw: Raw, from: usize) {
        let inner = || self.slice(from + 1, self.at - 1);
        let value = match raw {
            Raw::Plain => JsonValue::Text(inner()),
            Raw::Number => JsonValue::Number(self.slice(from, self.at)),
            Raw::Bool(value) => JsonValue::Bool(value),
            Raw::Json => JsonValue::Json(self.slice(from, self.at)),
            Raw::Escaped => {
                let text = unescape(inner());
                return self.leaves.leaf(name, JsonValue::Text(&text));
            }
            Raw::Null | Raw::Object => return,
        };
        self.leaves.leaf(name, value);
    }

    /// Takes a value; of an object that is to be walked only its brace. `depth` is that of the
    /// object that the value is in.
    #[inline]
    fn value(&mut self, depth: usize) -> Result<Raw, JsonError> {
        match self.peek() {
            Some(b'"') => Ok(if self.string()? { Raw::Escaped } else { Raw::Plain }),
            Some(b'-' | b'0'..=b'9') => self.number().map(|()| Raw::Number),
            Some(b'{') if depth < limits::NEST_DEPTH_MAX => {
                self.at += 1;
                Ok(Raw::Object)
            }
            Some(b'[' | b'{') => self.nested(depth).map(|()| Raw::Json),
            _ => self.word(),
        }
    }

    fn word(&mut self) -> Result<Raw, JsonError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let (word, raw) = match rest.first() {
            Some(b't') => ("true", Raw::Bool(true)),
            Some(b'f') => ("false", Raw::Bool(false)),
            Some(b'n') => ("null", Raw::Null),
            _ => return Err(self.wrong("expected a value")),
        };
        if !rest.starts_with(word.as_bytes()) {
            return Err(self.wrong("expected a value"));
        }
        self.at += word.len();
        Ok(raw)
    }

    /// Takes a text from its quote on; true if it has escapes.
    #[inline]
    fn string(&mut self) -> Result<bool, JsonError> {
        self.at += 1;
        self.at += plain_run(self.bytes.get(self.at..).unwrap_or_default());
        if self.peek() == Some(b'"') {
            self.at += 1;
            return Ok(false);
        }
        self.escaped().map(|()| true)
    }

    /// Takes the rest of a text from its first escape on.
    fn escaped(&mut self) -> Result<(), JsonError> {
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                Some(_) => return Err(self.wrong("a control character that is not escaped")),
                None => return Err(self.wrong("a text that does not end")),
            }
            self.at += plain_run(self.bytes.get(self.at..).unwrap_or_default());
        }
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        let digits = match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 0,
            Some(b'u') => 4,
            _ => return Err(self.wrong("an escape that JSON does not have")),
        };
        let from = self.at + 2;
        let hex = self.bytes.get(from..from + digits);
        if !hex.is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) {
            return Err(self.wrong("an escape without its four digits"));
        }
        self.at = from + digits;
        Ok(())
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let from = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == from { Err(self.wrong("expected a digit")) } else { Ok(()) }
    }

    #[inline]
    fn number(&mut self) -> Result<(), JsonError> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// Takes an array, or an object that stays text, and checks all that is in it. `depth` is that
    /// of the object that it is in.
    fn nested(&mut self, depth: usize) -> Result<(), JsonError> {
        // One bit for each open bracket: whether it is an object's.
        let (mut kinds, mut open) = (0u128, 0usize);
        loop {
            // At a value.
            match self.peek() {
                Some(bracket @ (b'[' | b'{')) => {
                    if depth + open >= DEPTH_MAX {
                        return Err(JsonError::TooDeep);
                    }
                    self.at += 1;
                    self.space();
                    let is_object = bracket == b'{';
                    (kinds, open) = (kinds << 1 | u128::from(is_object), open + 1);
                    if self.peek() != Some(if is_object { b'}' } else { b']' }) {
                        if is_object {
                            self.key()?;
                        }
                        continue;
                    }
                }
                Some(b'"') => {
                    self.string()?;
                }
                Some(b'-' | b'0'..=b'9') => self.number()?,
                _ => {
                    self.word()?;
                }
            }
            // After a value, or at the end of an empty bracket.
            loop {
                self.space();
                let is_object = kinds & 1 == 1;
                match self.peek() {
                    Some(b',') => {
                        self.at += 1;
                        self.space();
                        if is_object {
                            self.key()?;
                        }
                        break;
                    }
                    Some(b'}') if is_object => {}
                    Some(b']') if !is_object => {}
                    _ => return Err(self.wrong("expected ',' or a closing bracket")),
                }
                self.at += 1;
                (kinds, open) = (kinds >> 1, open - 1);
                if open == 0 {
                    return Ok(());
                }
            }
        }
    }
}

/// The text that `raw`, which is between the quotes of a JSON text whose escapes were checked,
/// stands for. A lone surrogate, which no UTF-8 text can hold, stays visible: all is as it was sent.
pub(crate) fn unescape(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        out.push_str(rest.get(..at).unwrap_or_default());
        let escape = rest.as_bytes().get(at + 1).copied();
        rest = rest.get(at + 2..).unwrap_or_default();
        let plain = match escape {
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => match unicode_escape(rest) {
                Some((found, after)) => {
                    rest = after;
                    found
                }
                None => return raw.to_owned(),
            },
            Some(other) => char::from(other),
            None => break,
        };
        out.push(plain);
    }
    out.push_str(rest);
    out
}

/// The character of the digits after `\u`, with its second half if it has one, and what follows.
fn unicode_escape(text: &str) -> Option<(char, &str)> {
    let unit = |text: &str| u32::from_str_radix(text.get(..4)?, 16).ok();
    let first = unit(text)?;
    let rest = text.get(4..)?;
    if !(0xd800..0xdc00).contains(&first) {
        return Some((char::from_u32(first)?, rest));
    }
    let tail = rest.strip_prefix("\\u")?;
    let second = unit(tail).filter(|u| (0xdc00..0xe000).contains(u))?;
    let both = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
    Some((char::from_u32(both)?, tail.get(4..)?))
}

#[cfg(test)]
#[path = "json_object_tests.rs"]
mod tests;
