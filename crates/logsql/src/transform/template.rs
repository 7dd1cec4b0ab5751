//! Patterns with placeholders: `ip=<ip> user=<_>` to take texts apart, `<uc:name>` to put them
//! together.

use super::super::cursor::Cursor;
use crate::error::SyntaxError;

/// Most placeholders of a pattern.
const PLACEHOLDERS_MAX: usize = 500;

/// What to look for in a text: texts with placeholders between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extraction {
    /// In their order.
    pub steps: Vec<Placeholder>,
    /// The text behind the last placeholder; empty: up to the end.
    pub tail: String,
}

/// A placeholder and the text before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placeholder {
    /// The text before it.
    pub before: String,
    /// The field; `None` if nobody wants it.
    pub field: Option<String>,
    /// A quoted text is taken as it is, with its quotes.
    pub is_plain: bool,
}

impl Extraction {
    /// The fields that it finds, each once.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for name in self.steps.iter().filter_map(|step| step.field.as_ref()) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        names
    }
}

/// A text with fields in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Each text and the field behind it.
    pub parts: Vec<(String, Rendering, String)>,
    /// The text at the end.
    pub tail: String,
}

impl Template {
    /// The fields in it.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().map(|(_, _, field)| field.as_str())
    }
}

/// How a field is written into a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rendering {
    /// As it is.
    Plain,
    /// The seconds of a duration.
    DurationSeconds,
    /// As a JSON string.
    Quoted,
    /// In capitals.
    Uppercase,
    /// In small letters.
    Lowercase,
    /// Percent-encoded.
    UrlEncode,
    /// Percent-decoded.
    UrlDecode,
    /// The bytes in hex digits.
    HexEncode,
    /// The bytes of hex digits.
    HexDecode,
    /// In base64.
    Base64Encode,
    /// From base64.
    Base64Decode,
    /// The number of hex digits.
    HexNumberDecode,
    /// The 16 hex digits of a number.
    HexNumberEncode,
    /// The time of a Unix timestamp.
    Time,
    /// The duration of so many nanoseconds.
    Duration,
    /// The address of a number.
    Ipv4,
}

const RENDERINGS: &[(&str, Rendering)] = &[
    ("duration_seconds", Rendering::DurationSeconds),
    ("q", Rendering::Quoted),
    ("uc", Rendering::Uppercase),
    ("lc", Rendering::Lowercase),
    ("urlencode", Rendering::UrlEncode),
    ("urldecode", Rendering::UrlDecode),
    ("hexencode", Rendering::HexEncode),
    ("hexdecode", Rendering::HexDecode),
    ("base64encode", Rendering::Base64Encode),
    ("base64decode", Rendering::Base64Decode),
    ("hexnumdecode", Rendering::HexNumberDecode),
    ("hexnumencode", Rendering::HexNumberEncode),
    ("time", Rendering::Time),
    ("duration", Rendering::Duration),
    ("ipv4", Rendering::Ipv4),
];

/// The pattern of `extract`.
pub(super) fn parse_extraction(cursor: &mut Cursor<'_>) -> Result<Extraction, SyntaxError> {
    cursor.skip_space();
    let start = cursor.at();
    let text = cursor.expect_word("a pattern in quotes, as in \"ip=<ip> \"")?.text;
    let (parts, tail) = split(&text).map_err(|problem| cursor.error_at(start, problem))?;
    let mut steps: Vec<Placeholder> = Vec::new();
    for (place, (before, inner)) in parts.into_iter().enumerate() {
        if place > 0 && before.is_empty() {
            let problem =
                format!("expected a text between `<{inner}>` and the placeholder before it");
            return Err(cursor.error_at(start, problem));
        }
        let (name, is_plain) = match inner.strip_prefix("plain:") {
            Some(name) => (name, true),
            None => (inner.as_str(), false),
        };
        let name = name.trim();
        let field = (!matches!(name, "" | "_" | "*")).then(|| name.to_owned());
        steps.push(Placeholder { before, field, is_plain });
    }
    let extraction = Extraction { steps, tail };
    if extraction.names().is_empty() {
        let problem = "expected a pattern with a named placeholder, as in \"ip=<ip> \"";
        return Err(cursor.error_at(start, problem));
    }
    Ok(extraction)
}

/// The text of `format`.
pub(super) fn parse_template(cursor: &mut Cursor<'_>) -> Result<Template, SyntaxError> {
    cursor.skip_space();
    let start = cursor.at();
    let text = cursor.expect_word("a text in quotes, as in \"request from <ip>\"")?.text;
    let (parts, tail) = split(&text).map_err(|problem| cursor.error_at(start, problem))?;
    let parts = parts.into_iter().map(|(before, inner)| {
        let known = inner.split_once(':').and_then(|(how, field)| {
            let (_, rendering) = RENDERINGS.iter().find(|(name, _)| *name == how)?;
            Some((*rendering, field.to_owned()))
        });
        let (rendering, field) = known.unwrap_or((Rendering::Plain, inner));
        (before, rendering, field)
    });
    Ok(Template { parts: parts.collect(), tail })
}

/// Each text with what is in the angle brackets behind it, and the text at the end.
fn split(text: &str) -> Result<(Vec<(String, String)>, String), String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('<') {
        let Some((inner, after)) = behind.split_once('>') else {
            return Err("a `<` has no `>`; write `&lt;` for the sign itself".to_owned());
        };
        if parts.len() == PLACEHOLDERS_MAX {
            return Err(format!("the pattern has more than {PLACEHOLDERS_MAX} placeholders"));
        }
        parts.push((unescaped(before), inner.to_owned()));
        rest = after;
    }
    Ok((parts, unescaped(rest)))
}

fn unescaped(text: &str) -> String {
    let signs = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&apos;", "'")];
    let mut text = text.to_owned();
    for (name, sign) in signs {
        if text.contains(name) {
            text = text.replace(name, sign);
        }
    }
    text.replace("&amp;", "&")
}
