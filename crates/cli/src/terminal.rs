//! What may reach a terminal. Log text is hostile: an escape sequence in a log line can rename the
//! window, move the cursor over what was printed before, or hide the rest of the line.
//!
//! Invariant: [`escape_text`] and [`escape_json`] let no control character, no bidirectional
//! control and no invisible formatting character through.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::IsTerminal as _;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Whether a character must be shown as an escape: it acts on the terminal, reorders text that is
/// already there, or cannot be seen at all.
fn is_hostile(c: char) -> bool {
    matches!(c,
        '\0'..='\x1f' | '\x7f'..='\u{9f}'
        | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        | '\u{200b}' | '\u{2028}' | '\u{2029}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}'
        | '\u{ad}' | '\u{180e}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Only these leading bytes can begin a hostile character; everything else is skipped quickly.
fn may_be_hostile(byte: u8) -> bool {
    byte < 0x20 || byte == 0x7f || matches!(byte, 0xc2 | 0xd8 | 0xe1 | 0xe2 | 0xef | 0xf3)
}

/// Log text as it may be printed: hostile characters become `\n`, `\t`, `\x1b`, `\u{202e}`.
pub fn escape_text(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(may_be_hostile) || !text.chars().any(is_hostile) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        push_escaped(&mut out, c);
    }
    Cow::Owned(out)
}

fn push_escaped(out: &mut String, c: char) {
    // Writing into a String cannot fail.
    let _ = match c {
        '\n' => out.write_str("\\n"),
        '\r' => out.write_str("\\r"),
        '\t' => out.write_str("\\t"),
        c if !is_hostile(c) => out.write_char(c),
        c if (c as u32) < 0x100 => write!(out, "\\x{:02x}", c as u32),
        c => write!(out, "\\u{{{:x}}}", c as u32),
    };
}

/// JSON text as it may be printed: the hostile characters that JSON lets stand as they are become
/// `\uXXXX`, so the text stays the same JSON value. Line ends between rows are kept.
pub fn escape_json(json: &str) -> Cow<'_, str> {
    if !json.bytes().any(|b| may_be_hostile(b) && b != b'\n') {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len() + 16);
    let mut units = [0u16; 2];
    for c in json.chars() {
        if c == '\n' || !is_hostile(c) {
            out.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut units) {
            let _ = write!(out, "\\u{unit:04x}");
        }
    }
    Cow::Owned(out)
}

/// Columns that already escaped text takes on the terminal.
pub fn width(text: &str) -> usize {
    text.width()
}

/// The longest start of `text` that fits into `columns`, ending in `…` when something was cut.
pub fn truncate(text: &str, columns: usize) -> Cow<'_, str> {
    if text.len() <= columns || width(text) <= columns {
        return Cow::Borrowed(text);
    }
    let mut used = 0;
    for (at, c) in text.char_indices() {
        let next = used + c.width().unwrap_or(0);
        if next > columns.saturating_sub(1) {
            let mut out = text.get(..at).unwrap_or_default().to_owned();
            if columns > 0 {
                out.push('…');
            }
            return Cow::Owned(out);
        }
        used = next;
    }
    Cow::Borrowed(text)
}

/// Whether stdout is a terminal.
pub fn stdout_is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// Whether stderr is a terminal.
pub fn stderr_is_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// The terminal's width in columns, when stdout is one.
pub fn stdout_columns() -> Option<usize> {
    if !stdout_is_terminal() {
        return None;
    }
    terminal_size::terminal_size().map(|(columns, _)| usize::from(columns.0))
}

/// Colours, or none: no ANSI unless the stream is a terminal and `NO_COLOR` is unset or empty.
#[derive(Clone, Copy, Debug)]
pub struct Ink {
    on: bool,
}

impl Ink {
    /// No colours.
    pub fn none() -> Self {
        Self { on: false }
    }

    fn when(terminal: bool) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { on: terminal && !refused && !dumb }
    }

    /// What stdout takes.
    pub fn for_stdout() -> Self {
        Self::when(stdout_is_terminal())
    }

    /// What stderr takes.
    pub fn for_stderr() -> Self {
        Self::when(stderr_is_terminal())
    }

    /// Whether colours are written.
    pub fn is_on(self) -> bool {
        self.on
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Bold.
    pub fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// Dim: what is context, not content.
    pub fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    /// Red: errors.
    pub fn red(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    /// A level in its colour; `text` may be padded.
    pub fn level(self, level: &str, text: &str) -> String {
        match level.to_ascii_lowercase().as_str() {
            "error" | "err" | "fatal" | "critical" | "crit" | "panic" | "alert" | "emerg" => {
                self.red(text)
            }
            "warn" | "warning" => self.paint("33", text),
            "info" | "notice" => self.paint("32", text),
            _ => self.dim(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_on_a_terminal_becomes_visible() {
        assert_eq!(escape_text("plain – 日本 ok"), "plain – 日本 ok");
        assert_eq!(escape_text("a\x1b[2Jb\r\n\tc\0"), "a\\x1b[2Jb\\r\\n\\tc\\x00");
        assert_eq!(escape_text("\u{9b}31m \u{7f}"), "\\x9b31m \\x7f");
        assert_eq!(escape_text("ab\u{202e}cd\u{2066}"), "ab\\u{202e}cd\\u{2066}");
        assert_eq!(escape_text("\u{200b}\u{feff}\u{e0041}"), "\\u{200b}\\u{feff}\\u{e0041}");
    }

    #[test]
    fn json_stays_the_same_value() {
        let json = "{\"a\":\"x\u{9b}y\u{202e}z\u{e0041}\"}\n";
        let safe = escape_json(json);
        assert_eq!(safe, "{\"a\":\"x\\u009by\\u202ez\\udb40\\udc41\"}\n");
        let old: serde_json::Value = serde_json::from_str(json).expect("JSON");
        let new: serde_json::Value = serde_json::from_str(&safe).expect("JSON");
        assert_eq!(old, new);
    }

    #[test]
    fn truncation_counts_columns_not_bytes() {
        assert_eq!(truncate("日本語", 6), "日本語");
        assert_eq!(truncate("日本語", 5), "日本…");
        assert_eq!(truncate("abcdef", 4), "abc…");
        assert_eq!(truncate("äöü", 3), "äöü");
    }

    #[test]
    fn every_hostile_character_begins_with_a_byte_that_is_looked_at() {
        for c in ('\0'..=char::MAX).filter(|c| is_hostile(*c)) {
            let mut bytes = [0; 4];
            let first = c.encode_utf8(&mut bytes).as_bytes()[0];
            assert!(may_be_hostile(first), "U+{:04X}", c as u32);
        }
    }
}
