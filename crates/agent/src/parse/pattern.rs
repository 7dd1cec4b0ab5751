//! Patterns of a configuration: regular expressions whose named groups become fields, written out
//! or put together from named parts (`%{IP:client.address} %{WORD:method}`, as grok does).
//!
//! Invariants: a pattern is compiled once and within a limit of size; matching takes time that is
//! linear in the text, whatever the pattern; a text that does not match is only counted.

use regex::Regex;

/// Most patterns of a source, the longest, and the largest when compiled.
const PATTERNS_MAX: usize = 64;
const PATTERN_BYTES_MAX: usize = 8 << 10;
const COMPILED_BYTES_MAX: usize = 4 << 20;
/// How deep named parts may be made of named parts.
const DEPTH_MAX: usize = 8;

/// Named parts, by what they mean. Parts may use parts.
const PARTS: &[(&str, &str)] = &[
    ("WORD", r"\b\w+\b"),
    ("NOTSPACE", r"\S+"),
    ("SPACE", r"\s*"),
    ("DATA", r".*?"),
    ("GREEDYDATA", r".*"),
    ("INT", r"[+-]?\d+"),
    ("POSINT", r"[1-9]\d*"),
    ("NONNEGINT", r"\d+"),
    ("NUMBER", r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"),
    ("BASE10NUM", r"%{NUMBER}"),
    ("BASE16NUM", r"[+-]?(?:0x)?[0-9A-Fa-f]+"),
    ("BOOL", r"(?i:true|false|yes|no|on|off)"),
    ("QUOTEDSTRING", r#""(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'"#),
    ("QS", r"%{QUOTEDSTRING}"),
    ("UUID", r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}"),
    ("MAC", r"(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}"),
    ("IPV4", r"(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)"),
    ("IPV6", r"[0-9A-Fa-f:]*:[0-9A-Fa-f:]+(?:%{IPV4})?(?:%\w+)?|::"),
    ("IP", r"(?:%{IPV4}|%{IPV6})"),
    ("HOSTNAME", r"\b[0-9A-Za-z](?:[0-9A-Za-z._-]{0,253}[0-9A-Za-z])?\b"),
    ("IPORHOST", r"(?:%{IP}|%{HOSTNAME})"),
    ("HOSTPORT", r"%{IPORHOST}:%{POSINT}"),
    ("USERNAME", r"[A-Za-z0-9._-]+"),
    ("USER", r"%{USERNAME}"),
    ("EMAILADDRESS", r"[\w.+=:-]+@%{HOSTNAME}"),
    ("UNIXPATH", r"/[^\s,;]*"),
    ("PATH", r"(?:%{UNIXPATH}|[A-Za-z]:\\[^\s,;]*)"),
    ("URIPROTO", r"[A-Za-z][A-Za-z0-9+.-]*"),
    ("URIHOST", r"%{IPORHOST}(?::\d+)?"),
    ("URIPATH", r"/[^\s?#]*"),
    ("URIPARAM", r"\?[^\s#]*"),
    ("URIPATHPARAM", r"%{URIPATH}(?:%{URIPARAM})?"),
    ("URI", r"%{URIPROTO}://(?:%{USER}@)?(?:%{URIHOST})?(?:%{URIPATHPARAM})?"),
    (
        "LOGLEVEL",
        r"(?i:trace|debug|info(?:rmation)?|notice|warn(?:ing)?|err(?:or)?|crit(?:ical)?|fatal|severe|alert|emerg(?:ency)?|panic)",
    ),
    ("YEAR", r"\d{4}"),
    ("MONTHNUM", r"(?:0?[1-9]|1[0-2])"),
    ("MONTHDAY", r"(?:0[1-9]|[12]\d|3[01]|[1-9])"),
    (
        "MONTH",
        r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sep(?:tember)?|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?)",
    ),
    ("DAY", r"(?:Mon|Tue(?:s)?|Wed(?:nes)?|Thu(?:rs)?|Fri|Sat(?:ur)?|Sun)(?:day)?"),
    ("HOUR", r"(?:[01]?\d|2[0-3])"),
    ("MINUTE", r"[0-5]\d"),
    ("SECOND", r"(?:[0-5]?\d|60)(?:[.,]\d+)?"),
    ("TIME", r"%{HOUR}:%{MINUTE}(?::%{SECOND})?"),
    ("TZ", r"(?:[A-Z]{3,4})"),
    ("ISO8601_TIMEZONE", r"(?:Z|[+-]%{HOUR}:?%{MINUTE})"),
    (
        "TIMESTAMP_ISO8601",
        r"%{YEAR}-%{MONTHNUM}-%{MONTHDAY}[T ]%{HOUR}:?%{MINUTE}(?::?%{SECOND})?\s?(?:%{ISO8601_TIMEZONE})?",
    ),
    ("SYSLOGTIMESTAMP", r"%{MONTH} +%{MONTHDAY} %{TIME}"),
    ("HTTPDATE", r"%{MONTHDAY}/%{MONTH}/%{YEAR}:%{TIME} [+-]\d{4}"),
    ("PROG", r"[\w./%-]+"),
    ("SYSLOGPROG", r"%{PROG}(?:\[%{POSINT}\])?"),
    ("JAVACLASS", r"(?:[A-Za-z$_][A-Za-z$_0-9]*\.)*[A-Za-z$_][A-Za-z$_0-9]*"),
];

/// The patterns of one source, compiled.
#[derive(Clone, Debug)]
pub struct Patterns(Vec<Regex>);

impl Patterns {
    /// Compiles `patterns`; the error says which one is wrong and why.
    pub fn new(patterns: &[String]) -> Result<Self, String> {
        if patterns.len() > PATTERNS_MAX {
            return Err(format!("more than {PATTERNS_MAX} patterns"));
        }
        patterns.iter().map(|pattern| compile(pattern)).collect::<Result<_, _>>().map(Patterns)
    }

    /// Gives the named groups of the first pattern that matches to `each`; false if none does.
    pub fn for_each_field(&self, text: &str, mut each: impl FnMut(&str, &str)) -> bool {
        let Some((regex, groups)) = self.0.iter().find_map(|r| Some((r, r.captures(text)?))) else {
            return false;
        };
        for name in regex.capture_names().flatten() {
            if let Some(group) = groups.name(name) {
                each(name, group.as_str());
            }
        }
        true
    }
}

fn compile(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(format!("a pattern longer than {PATTERN_BYTES_MAX} bytes"));
    }
    let mut written = String::new();
    write_out(pattern, 0, &mut written).map_err(|error| format!("{pattern:?}: {error}"))?;
    let built = regex::RegexBuilder::new(&written)
        .size_limit(COMPILED_BYTES_MAX)
        .dfa_size_limit(COMPILED_BYTES_MAX)
        .build()
        .map_err(|error| format!("{pattern:?}: {error}"))?;
    if built.capture_names().flatten().next().is_none() {
        return Err(format!("{pattern:?} names no group: write (?<name>…) or %{{PART:name}}"));
    }
    Ok(built)
}

/// Writes `pattern` with its named parts written out.
fn write_out(pattern: &str, depth: usize, out: &mut String) -> Result<(), String> {
    if depth > DEPTH_MAX {
        return Err(format!("parts within parts deeper than {DEPTH_MAX}"));
    }
    let mut rest = pattern;
    while let Some((before, behind)) = rest.split_once("%{") {
        out.push_str(before);
        let (part, behind) = behind.split_once('}').ok_or("`%{` without `}`")?;
        rest = behind;
        let mut words = part.split(':');
        let name = words.next().unwrap_or_default();
        let Some((_, meaning)) = PARTS.iter().find(|(known, _)| *known == name) else {
            let known: Vec<_> = PARTS.iter().map(|(name, _)| *name).collect();
            return Err(format!("unknown part `{name}`; known are {}", known.join(", ")));
        };
        // A third word names a type elsewhere; here values are compared by what they are.
        match words.next() {
            Some(field) => {
                out.push_str("(?<");
                out.push_str(&group_name(field)?);
                out.push('>');
            }
            None => out.push_str("(?:"),
        }
        write_out(meaning, depth + 1, out)?;
        out.push(')');
        if out.len() > 4 * PATTERN_BYTES_MAX {
            return Err("too long when its parts are written out".to_owned());
        }
    }
    out.push_str(rest);
    Ok(())
}

/// `[http][method]` of others is `http.method` here.
fn group_name(field: &str) -> Result<String, String> {
    let field = field.trim_start_matches('[').trim_end_matches(']').replace("][", ".");
    let first = field.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.');
    if first && field.bytes().all(valid) {
        Ok(field)
    } else {
        Err(format!("`{field}` is no field's name: letters, digits, `_` and `.`"))
    }
}
