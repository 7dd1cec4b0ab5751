//! Texts made of fields: `format`.
//!
//! A value that is not of the kind that a rendering asks for is written as it is.

use std::borrow::Cow;
use std::net::Ipv4Addr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lodge_record::{schema, time};
use lodge_segment::predicate::{parse_duration_ns, parse_number};

use super::text::Text;
use crate::logsql::{Rendering, Template};

const NS_PER_S: f64 = 1e9;
/// Bytes that are encoded at once; a multiple of three, so that base64 has no padding inside.
const CHUNK_BYTES: usize = 3_072;

/// The text that `template` is with the values that `value` gives.
pub(super) fn rendered<'v>(template: &Template, value: impl Fn(&str) -> Cow<'v, str>) -> Text {
    let mut out = Text::default();
    for (before, rendering, field) in &template.parts {
        out.push_str(before);
        if !field.is_empty() {
            push(&mut out, *rendering, &value(field));
        }
        if out.is_too_long() {
            break;
        }
    }
    out.push_str(&template.tail);
    out
}

fn push(out: &mut Text, rendering: Rendering, value: &str) {
    let made: Option<String> = match rendering {
        Rendering::Plain => None,
        Rendering::Quoted => return out.push_quoted(value),
        Rendering::Uppercase => {
            return value.chars().flat_map(char::to_uppercase).for_each(|c| out.push(c));
        }
        Rendering::Lowercase => {
            return value.chars().flat_map(char::to_lowercase).for_each(|c| out.push(c));
        }
        Rendering::UrlEncode => return url_encode(out, value),
        Rendering::HexEncode => {
            return value.bytes().for_each(|byte| push_hex(out, byte));
        }
        Rendering::Base64Encode => {
            let chunks = value.as_bytes().chunks(CHUNK_BYTES);
            return chunks.for_each(|chunk| out.push_str(&STANDARD.encode(chunk)));
        }
        Rendering::UrlDecode => url_decode(value),
        Rendering::HexDecode => hex_decode(value).map(into_text),
        Rendering::Base64Decode => STANDARD.decode(value).ok().map(into_text),
        Rendering::DurationSeconds => {
            let ns = parse_duration_ns(value).map(|ns| ns as f64);
            ns.map(|ns| schema::float_text(ns / NS_PER_S))
        }
        Rendering::HexNumberDecode => {
            let is_plain = !value.is_empty() && value.bytes().all(|b| b.is_ascii_hexdigit());
            let number = u64::from_str_radix(value, 16).ok().filter(|_| is_plain);
            number.map(|number| number.to_string())
        }
        Rendering::HexNumberEncode => {
            value.parse::<u64>().ok().map(|number| format!("{number:016X}"))
        }
        Rendering::Time => {
            let is_number = value.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-'));
            time::parse(value).filter(|_| is_number).map(time::format)
        }
        Rendering::Duration => {
            let ns = parse_number(value).filter(|ns| ns.abs() < i64::MAX as f64);
            ns.map(|ns| duration(ns as i64))
        }
        Rendering::Ipv4 => {
            value.parse::<u32>().ok().map(|number| Ipv4Addr::from(number).to_string())
        }
    };
    out.push_str(made.as_deref().unwrap_or(value));
}

/// Bytes that are no text in UTF-8 become the sign for that.
fn into_text(bytes: Vec<u8>) -> String {
    match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    }
}

fn push_hex(out: &mut Text, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for half in [byte >> 4, byte & 15] {
        out.push(char::from(DIGITS.get(usize::from(half)).copied().unwrap_or(b'0')));
    }
}

/// As in the query of an address: a space is `+`.
fn url_encode(out: &mut Text, value: &str) {
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            b' ' => out.push('+'),
            other => {
                out.push('%');
                push_hex(out, other);
            }
        }
    }
}

fn url_decode(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let (high, low) = (hex_digit(rest.next()?)?, hex_digit(rest.next()?)?);
                bytes.push(high << 4 | low);
            }
            other => bytes.push(other),
        }
    }
    Some(into_text(bytes))
}

fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|digit| digit as u8)
}

fn hex_decode(value: &str) -> Option<Vec<u8>> {
    if !value.len().is_multiple_of(2) {
        return None;
    }
    let pairs = value.as_bytes().chunks(2);
    pairs.map(|pair| Some(hex_digit(*pair.first()?)? << 4 | hex_digit(*pair.last()?)?)).collect()
}

/// `1h2m3.5s`; below a second in the largest unit that has a whole part.
fn duration(ns: i64) -> String {
    const UNITS: [(u64, &str); 5] = [
        (7 * 86_400_000_000_000, "w"),
        (86_400_000_000_000, "d"),
        (3_600_000_000_000, "h"),
        (60_000_000_000, "m"),
        (1_000_000_000, "s"),
    ];
    const PARTS: [(u64, &str); 3] = [(1_000_000, "ms"), (1_000, "µs"), (1, "ns")];
    let mut out = String::from(if ns < 0 { "-" } else { "" });
    let mut rest = ns.unsigned_abs();
    if rest < 1_000_000_000 {
        let (unit, name) = PARTS.into_iter().find(|(unit, _)| rest >= *unit).unwrap_or((1, "ns"));
        out.push_str(&schema::float_text(rest as f64 / unit as f64));
        out.push_str(name);
        return out;
    }
    for (unit, name) in UNITS {
        let is_last = name == "s";
        if rest < unit && !(is_last && rest > 0) {
            continue;
        }
        if !is_last {
            out.push_str(&format!("{}{name}", rest / unit));
            rest %= unit;
            continue;
        }
        let (whole, fraction) = (rest / unit, rest % unit);
        out.push_str(&whole.to_string());
        if fraction > 0 {
            out.push_str(format!(".{fraction:09}").trim_end_matches('0'));
        }
        out.push_str(name);
    }
    out
}
