//! logfmt: a line that is nothing but `key=value` pairs, values bare or in double quotes.
//!
//! Strict on purpose: a sentence that happens to hold `a=b` is text, not logfmt.

use std::borrow::Cow;

/// Most pairs of a line that are looked at; a line with more is text.
const PAIRS_MAX: usize = 1000;
/// Longest key.
const KEY_BYTES_MAX: usize = 128;

/// Reads `line` as logfmt: at least two pairs and nothing else. Keys keep their order.
pub fn parse(line: &str) -> Option<Vec<(&str, Cow<'_, str>)>> {
    let mut rest = line.trim_ascii();
    // Most lines are no logfmt; say so before allocating.
    key_of(rest)?;
    let mut pairs = Vec::new();
    while !rest.is_empty() {
        let key = key_of(rest)?;
        let (value, behind) = value_of(rest.get(key.len() + 1..)?)?;
        pairs.push((key, value));
        if pairs.len() > PAIRS_MAX {
            return None;
        }
        let next = behind.trim_ascii_start();
        if next.len() == behind.len() && !next.is_empty() {
            return None;
        }
        rest = next;
    }
    (pairs.len() >= 2).then_some(pairs)
}

fn key_of(text: &str) -> Option<&str> {
    let mut length = 0;
    for byte in text.bytes().take(KEY_BYTES_MAX) {
        match byte {
            b'=' => break,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'@' => {}
            b'0'..=b'9' | b'.' | b'-' | b'/' if length > 0 => {}
            _ => return None,
        }
        length += 1;
    }
    (length > 0 && text.as_bytes().get(length) == Some(&b'=')).then(|| text.get(..length))?
}

fn value_of(text: &str) -> Option<(Cow<'_, str>, &str)> {
    if let Some(quoted) = text.strip_prefix('"') {
        return quoted_value(quoted);
    }
    let end = text.bytes().position(|b| b.is_ascii_whitespace()).unwrap_or(text.len());
    let (value, rest) = (text.get(..end)?, text.get(end..)?);
    // A stray quote means that this is some other notation.
    (!value.contains('"')).then_some((Cow::Borrowed(value), rest))
}

fn quoted_value(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let plain_end = memchr::memchr2(b'"', b'\\', text.as_bytes())?;
    if text.as_bytes().get(plain_end) == Some(&b'"') {
        return Some((Cow::Borrowed(text.get(..plain_end)?), text.get(plain_end + 1..)?));
    }
    let mut value = String::from(text.get(..plain_end)?);
    let mut chars = text.get(plain_end..)?.char_indices();
    while let Some((at, character)) = chars.next() {
        match character {
            '"' => return Some((Cow::Owned(value), text.get(plain_end + at + 1..)?)),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                't' => value.push('\t'),
                'r' => value.push('\r'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}
