//! Which severity a record states, in one spelling for all.
//!
//! Canonical levels: `trace`, `debug`, `info`, `notice`, `warn`, `error`, `critical`, `fatal`.

/// How many words from a line's start its level is looked for.
const WORDS_MAX: usize = 12;
/// How many bytes from a line's start its level is looked for.
const SEARCH_BYTES_MAX: usize = 256;

/// The canonical name of a level's spelling (`WARNING`, `Err`, `E`… of no other text).
pub fn canonical(word: &str) -> Option<&'static str> {
    canonical_bytes(word.as_bytes())
}

fn canonical_bytes(word: &[u8]) -> Option<&'static str> {
    // Longest spelling is "INFORMATIONAL".
    let mut lower = [0u8; 13];
    let lower = lower.get_mut(..word.len())?;
    lower.copy_from_slice(word);
    lower.make_ascii_lowercase();
    Some(match &*lower {
        b"trace" | b"trc" | b"finest" | b"finer" => "trace",
        b"debug" | b"dbg" | b"debg" | b"fine" | b"verbose" => "debug",
        b"info" | b"inf" | b"information" | b"informational" => "info",
        b"notice" => "notice",
        b"warn" | b"warning" | b"wrn" => "warn",
        b"error" | b"err" | b"eror" | b"severe" => "error",
        b"crit" | b"critical" => "critical",
        b"fatal" | b"ftl" | b"panic" | b"emerg" | b"emergency" | b"alert" => "fatal",
        _ => return None,
    })
}

/// The level that a plain line states in its usual places: as one of its first words, in capitals
/// (`ERROR`), in brackets (`[error]`, `<warn>`) or before a colon (`error:`).
pub fn in_line(line: &str) -> Option<&'static str> {
    klog(line).or_else(|| in_words(line))
}

/// As [`in_line`], of a text that does not begin with one of Kubernetes' own times.
pub fn in_words(text: &str) -> Option<&'static str> {
    let bytes = text.as_bytes();
    let head = bytes.get(..bytes.len().min(SEARCH_BYTES_MAX))?;
    let words = head.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    words.take(WORDS_MAX).find_map(in_word)
}

/// The level within one word, whose marks say that it is meant as one.
fn in_word(word: &[u8]) -> Option<&'static str> {
    // Most words of a line's head are numbers and times.
    let first = word.first()?;
    if first.is_ascii_digit() {
        return None;
    }
    // "WARNING:root:text" and "error:" name it before the first colon; "[core:error]" (Apache)
    // behind it.
    let opened = b"[(<|".contains(first);
    let bare = trim(word, b"[]()<>|,-\"'");
    let colon = bare.iter().position(|b| *b == b':');
    let (before, after) = match colon {
        Some(at) => (bare.get(..at)?, bare.get(at + 1..)),
        None => (bare, None),
    };
    let before = trim_end(before, b"])>|,");
    if let Some(level) = canonical_bytes(before) {
        let capitals = before.iter().all(u8::is_ascii_uppercase);
        // "Info" of Windows' CBS logs, "Warning" of others: a capital, then a comma or nothing.
        let marked = opened || after.is_some();
        if (capitals && before.len() > 2) || marked {
            return Some(level);
        }
    }
    match after {
        Some(after) if opened => canonical_bytes(trim_end(after, b"])>")),
        _ => word.strip_prefix(b"level=").and_then(|l| canonical_bytes(trim(l, b"\""))),
    }
}

fn trim<'w>(word: &'w [u8], marks: &[u8]) -> &'w [u8] {
    let mut word = trim_end(word, marks);
    while let [first, rest @ ..] = word
        && marks.contains(first)
    {
        word = rest;
    }
    word
}

fn trim_end<'w>(mut word: &'w [u8], marks: &[u8]) -> &'w [u8] {
    while let [rest @ .., last] = word
        && marks.contains(last)
    {
        word = rest;
    }
    word
}

/// `I0102 15:04:05.000000 …` of Kubernetes' own programs.
pub fn klog(line: &str) -> Option<&'static str> {
    let bytes = line.as_bytes();
    let digits = bytes.get(1..5)?.iter().all(u8::is_ascii_digit);
    if !digits || bytes.get(5) != Some(&b' ') || bytes.get(8) != Some(&b':') {
        return None;
    }
    match bytes.first()? {
        b'I' => Some("info"),
        b'W' => Some("warn"),
        b'E' => Some("error"),
        b'F' => Some("fatal"),
        _ => None,
    }
}

/// The level of an OpenTelemetry severity number: 1 to 24, four for each level.
pub fn of_severity_number(number: u64) -> Option<&'static str> {
    Some(match number {
        1..=4 => "trace",
        5..=8 => "debug",
        9..=12 => "info",
        13..=16 => "warn",
        17..=20 => "error",
        21..=24 => "fatal",
        _ => return None,
    })
}

/// The level of a severity text: its word in any spelling, or OpenTelemetry's short names
/// (`INFO2`).
pub fn of_severity_text(text: &str) -> Option<&'static str> {
    let word = text.trim();
    of_word(word.strip_suffix(['2', '3', '4']).unwrap_or(word))
}

/// The level of a word in any case, of the six that OpenTelemetry has: `notice` and `critical`
/// count as the ones next to them.
pub fn of_word(word: &str) -> Option<&'static str> {
    canonical(word.trim()).map(of_six)
}

/// The level of a word, or of a number as bunyan and pino write it (10 is trace, 60 fatal).
pub(crate) fn of_word_or_tens(text: &str) -> Option<&'static str> {
    Some(match text {
        "10" => "trace",
        "20" => "debug",
        "30" => "info",
        "40" => "warn",
        "50" => "error",
        "60" => "fatal",
        _ => return of_word(text),
    })
}

/// The level of a syslog severity as text, or of a word.
pub(crate) fn of_syslog_or_word(text: &str) -> Option<&'static str> {
    match text.parse::<u8>() {
        Ok(number) => of_syslog_priority(number).map(of_six),
        Err(_) => of_word(text),
    }
}

fn of_six(level: &'static str) -> &'static str {
    match level {
        "notice" => "info",
        "critical" => "fatal",
        level => level,
    }
}

/// The level of a syslog priority or a journal's `PRIORITY` field.
pub fn of_syslog_priority(priority: u8) -> Option<&'static str> {
    Some(match priority {
        0 | 1 => "fatal",
        2 => "critical",
        3 => "error",
        4 => "warn",
        5 => "notice",
        6 => "info",
        7 => "debug",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_many_loggers() {
        for (word, level) in [
            ("WARNING", Some("warn")),
            (" Err ", Some("error")),
            ("Informational", Some("info")),
            ("NOTICE", Some("info")),
            ("crit", Some("fatal")),
            ("", None),
            ("é", None),
            ("a text that is no level at all", None),
        ] {
            assert_eq!(of_word(word), level, "{word}");
        }
        assert_eq!(of_word_or_tens("40"), Some("warn"));
        assert_eq!(of_word_or_tens("4"), None);
        assert_eq!(of_syslog_or_word("4"), Some("warn"));
        assert_eq!(of_syslog_or_word("8"), None);
        assert_eq!(of_syslog_or_word("emerg"), Some("fatal"));
    }
}
