//! Parts of texts.

use regex::Regex;

use super::writes::Writes;
use crate::logsql::Extraction;

/// Writes what the placeholders of `pattern` find; the empty value from the first one on whose text
/// is not there.
pub(super) fn by_texts(pattern: &Extraction, text: &str, writes: &mut Writes) {
    for name in pattern.names() {
        writes.set(&name, "");
    }
    let mut befores = pattern.steps.iter().map(|step| step.before.as_str());
    let Some(first) = befores.next() else { return };
    let Some(found) = text.find(first) else { return };
    let mut rest = text.get(found + first.len()..).unwrap_or_default();
    for (at, step) in pattern.steps.iter().enumerate() {
        let next = pattern.steps.get(at + 1).map_or(pattern.tail.as_str(), |step| &step.before);
        let quoted = if step.is_plain { None } else { unquoted(rest) };
        let (value, behind) = match quoted {
            Some((value, length)) => (value, rest.get(length..).and_then(|r| r.strip_prefix(next))),
            None if next.is_empty() => (rest.to_owned(), Some("")),
            None => match rest.split_once(next) {
                Some((value, behind)) => (value.to_owned(), Some(behind)),
                None => return,
            },
        };
        if let Some(name) = &step.field {
            writes.set(name, &value);
        }
        match behind {
            Some(behind) => rest = behind,
            None => return,
        }
    }
}

/// Writes what the named groups of `pattern` find.
pub(super) fn by_groups(pattern: &Regex, text: &str, writes: &mut Writes) {
    let found = pattern.captures(text);
    for name in pattern.capture_names().flatten() {
        let group = found.as_ref().and_then(|found| found.name(name));
        writes.set(name, group.map_or("", |group| group.as_str()));
    }
}

/// The text in the quotes that `text` begins with, and how many bytes it takes with them.
pub(super) fn unquoted(text: &str) -> Option<(String, usize)> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '`'))?;
    let inner = text.get(1..)?;
    if quote == '`' {
        let end = inner.find('`')?;
        return Some((inner.get(..end)?.to_owned(), end + 2));
    }
    let mut out = String::new();
    let mut chars = inner.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((out, at + 2)),
            '\n' => return None,
            '\\' => {
                let (_, escape) = chars.next()?;
                let mut code = |digits: usize, radix: u32| {
                    let mut value = 0;
                    for _ in 0..digits {
                        value = value * radix + chars.next()?.1.to_digit(radix)?;
                    }
                    Some(value)
                };
                let plain = match escape {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    'a' => '\u{7}',
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    'v' => '\u{b}',
                    'x' => char::from_u32(code(2, 16)?)?,
                    'U' => char::from_u32(code(8, 16)?)?,
                    'u' => {
                        let first = code(4, 16)?;
                        match char::from_u32(first) {
                            Some(c) => c,
                            // JSON writes what lies beyond the first plane as two halves.
                            None => {
                                if (chars.next()?.1, chars.next()?.1) != ('\\', 'u') {
                                    return None;
                                }
                                let mut second = 0;
                                for _ in 0..4 {
                                    second = second * 16 + chars.next()?.1.to_digit(16)?;
                                }
                                let halves = [first as u16, second as u16];
                                char::decode_utf16(halves).next()?.ok()?
                            }
                        }
                    }
                    '\\' | '"' | '\'' | '/' => escape,
                    _ => return None,
                };
                out.push(plain);
            }
            c => out.push(c),
        }
    }
    None
}
