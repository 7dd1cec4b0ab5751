//! Severities in one spelling for all protocols: `trace`, `debug`, `info`, `warn`, `error` and
//! `fatal`.
//!
//! Invariant: what is not known as a severity gives `None`, so that the sender's own value stays
//! where it was; the original of one that is known is kept beside it by the decoders.

/// Longest spelling: `INFORMATIONAL`.
const WORD_BYTES_MAX: usize = 13;

/// The level of a word in any case: `WARNING`, `Err`, `notice`.
pub fn of_word(word: &str) -> Option<&'static str> {
    let word = word.trim();
    let mut lower = [0u8; WORD_BYTES_MAX];
    let lower = lower.get_mut(..word.len())?;
    lower.copy_from_slice(word.as_bytes());
    lower.make_ascii_lowercase();
    Some(match &*lower {
        b"trace" | b"trc" | b"finest" | b"finer" => "trace",
        b"debug" | b"dbg" | b"fine" | b"verbose" => "debug",
        b"info" | b"inf" | b"information" | b"informational" | b"notice" => "info",
        b"warn" | b"warning" | b"wrn" => "warn",
        b"error" | b"err" | b"severe" => "error",
        b"fatal" | b"ftl" | b"crit" | b"critical" | b"panic" | b"alert" | b"emerg"
        | b"emergency" => "fatal",
        _ => return None,
    })
}

/// The level of a syslog severity, 0 (emergency) to 7 (debug).
pub fn of_syslog(severity: u8) -> Option<&'static str> {
    Some(match severity {
        0..=2 => "fatal",
        3 => "error",
        4 => "warn",
        5 | 6 => "info",
        7 => "debug",
        _ => return None,
    })
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
        Ok(number) => of_syslog(number),
        Err(_) => of_word(text),
    }
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
