//! Syslog messages: RFC 5424 with its structured data, and RFC 3164 in the forms that are in use.
//!
//! ```text
//! 5424  <PRI>1 TIMESTAMP HOSTNAME APP-NAME PROCID MSGID [id name="value"] MSG
//! 3164  <PRI>Mmm dd hh:mm:ss HOSTNAME TAG[PID]: MSG      each part but MSG may be missing
//! ```
//!
//! Sans-I/O, no copies but of escaped values. Invariants: every text is a message, what is not
//! understood of it is its `text`; times stay text, as their year and zone are the caller's to say.

pub mod stamps;

use std::borrow::Cow;

/// Field of where a message was logged.
pub const HOSTNAME: &str = "syslog.hostname";
/// Field of what logged it.
pub const APPNAME: &str = "syslog.appname";
/// Field of its process.
pub const PROCID: &str = "syslog.procid";
/// Field of the kind of message.
pub const MSGID: &str = "syslog.msgid";
/// Field of the facility's name.
pub const FACILITY: &str = "syslog.facility";

/// Most elements of structured data, and most parameters of all of them, that are read; a message
/// with more keeps them all in its text.
const ELEMENTS_MAX: usize = 64;
const PARAMETERS_MAX: usize = 512;
/// Longest name of an element or a parameter (RFC 5424 says 32).
const NAME_BYTES_MAX: usize = 64;
/// Longest host name and tag that are taken for one.
const HOST_BYTES_MAX: usize = 255;
const TAG_BYTES_MAX: usize = 128;
/// Highest priority: facility 23, severity 7.
const PRIORITY_MAX: u16 = 191;

/// What a message says. A part that is missing or `-` is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message<'m> {
    /// 0 to 23.
    pub facility: Option<u8>,
    /// 0 (emergency) to 7 (debug).
    pub severity: Option<u8>,
    /// As it stands there: RFC 3339, or `Jan  2 15:04:05`.
    pub timestamp: Option<&'m str>,
    /// Where it was logged.
    pub hostname: Option<&'m str>,
    /// What logged it: APP-NAME or TAG.
    pub appname: Option<&'m str>,
    /// Its process.
    pub procid: Option<&'m str>,
    /// The kind of message.
    pub msgid: Option<&'m str>,
    /// Element, parameter, value.
    pub structured: Vec<(&'m str, &'m str, Cow<'m, str>)>,
    /// The message itself.
    pub text: &'m str,
}

/// Reads a text that is known to be a message: from a syslog socket, or from a file that is said to
/// hold nothing else.
pub fn parse(text: &str) -> Message<'_> {
    read(text, false).unwrap_or(Message { text, ..Message::default() })
}

/// Reads a text that may be something else: `None` unless it can hardly be anything but a message.
pub fn detect(text: &str) -> Option<Message<'_>> {
    read(text, true)
}

/// The name of a facility, as `syslog.facility` has it.
pub fn facility_name(facility: u8) -> &'static str {
    const NAMES: [&str; 24] = [
        "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron",
        "authpriv", "ftp", "ntp", "audit", "alert", "clock", "local0", "local1", "local2",
        "local3", "local4", "local5", "local6", "local7",
    ];
    NAMES.get(usize::from(facility)).copied().unwrap_or("unknown")
}

/// Appends the name of the field that a parameter of structured data becomes.
pub(crate) fn push_data_name(name: &mut String, element: &str, parameter: &str) {
    for part in ["syslog.data.", element, ".", parameter] {
        name.push_str(part);
    }
}

impl<'m> Message<'m> {
    /// The parts as fields, but for time, severity and text.
    pub fn for_each_field(&self, mut each: impl FnMut(&str, &str)) {
        let named = [
            (HOSTNAME, self.hostname),
            (APPNAME, self.appname),
            (PROCID, self.procid),
            (MSGID, self.msgid),
            (FACILITY, self.facility.map(facility_name)),
        ];
        for (name, value) in named {
            if let Some(value) = value {
                each(name, value);
            }
        }
        let mut name = String::new();
        for (element, parameter, value) in &self.structured {
            name.clear();
            push_data_name(&mut name, element, parameter);
            each(&name, value);
        }
    }

    fn set_priority(&mut self, priority: u16) {
        self.facility = u8::try_from(priority >> 3).ok();
        self.severity = u8::try_from(priority & 7).ok();
    }
}

fn read(text: &str, strict: bool) -> Option<Message<'_>> {
    let mut message = Message::default();
    let mut rest = text;
    if let Some((priority, behind)) = priority(text) {
        message.set_priority(priority);
        if let Some(headed) = behind.strip_prefix("1 ") {
            return Some(rfc_5424(message, headed));
        }
        rest = behind;
    } else if strict && !text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric) {
        return None;
    }
    rfc_3164(message, rest, strict)
}

fn priority(text: &str) -> Option<(u16, &str)> {
    let (digits, rest) = text.strip_prefix('<')?.split_once('>')?;
    let plain = (1..=3).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let priority = digits.parse().ok().filter(|p| plain && *p <= PRIORITY_MAX)?;
    Some((priority, rest))
}

fn rfc_5424<'m>(mut message: Message<'m>, header: &'m str) -> Message<'m> {
    let mut rest = header;
    let mut part = || {
        let (part, behind) = rest.split_once(' ').unwrap_or((rest, ""));
        rest = behind;
        Some(part).filter(|part| !part.is_empty() && *part != "-")
    };
    message.timestamp = part();
    message.hostname = part();
    message.appname = part();
    message.procid = part();
    message.msgid = part();
    message.text = match structured_data(rest) {
        Some((structured, behind)) => {
            message.structured = structured;
            behind
        }
        None => rest,
    };
    message.text = message.text.strip_prefix('\u{feff}').unwrap_or(message.text);
    message
}

type Structured<'m> = Vec<(&'m str, &'m str, Cow<'m, str>)>;

/// Structured data and the text behind it; `None` if it is malformed or too much.
fn structured_data(text: &str) -> Option<(Structured<'_>, &str)> {
    let mut found = Vec::new();
    if let Some(rest) = text.strip_prefix('-') {
        return blank_or_end(rest).map(|rest| (found, rest));
    }
    let (mut rest, mut elements) = (text, 0);
    while let Some(inner) = rest.strip_prefix('[') {
        elements += 1;
        if elements > ELEMENTS_MAX {
            return None;
        }
        let (element, mut behind) = name(inner)?;
        while let Some(next) = behind.strip_prefix(' ') {
            let (parameter, next) = name(next)?;
            let (value, next) = quoted(next.strip_prefix("=\"")?)?;
            found.push((element, parameter, value));
            if found.len() > PARAMETERS_MAX {
                return None;
            }
            behind = next;
        }
        rest = behind.strip_prefix(']')?;
    }
    if elements == 0 {
        return None;
    }
    blank_or_end(rest).map(|rest| (found, rest))
}

fn blank_or_end(rest: &str) -> Option<&str> {
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix(' ') }
}

fn name(text: &str) -> Option<(&str, &str)> {
    let end = text.bytes().position(|b| matches!(b, b' ' | b'=' | b']' | b'"'))?;
    let valid = (1..=NAME_BYTES_MAX).contains(&end);
    valid.then(|| Some((text.get(..end)?, text.get(end..)?)))?
}

/// A value up to its closing quote, in which `"`, `\` and `]` are escaped.
fn quoted(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let bytes = text.as_bytes();
    let first = memchr::memchr2(b'"', b'\\', bytes)?;
    if bytes.get(first) == Some(&b'"') {
        return Some((Cow::Borrowed(text.get(..first)?), text.get(first + 1..)?));
    }
    let mut value = text.get(..first)?.to_owned();
    let mut chars = text.get(first..)?.char_indices();
    while let Some((at, character)) = chars.next() {
        match character {
            '"' => return Some((Cow::Owned(value), text.get(first + at + 1..)?)),
            '\\' => match chars.next()?.1 {
                escaped @ ('"' | '\\' | ']') => value.push(escaped),
                other => value.extend(['\\', other]),
            },
            other => value.push(other),
        }
    }
    None
}

fn rfc_3164<'m>(mut message: Message<'m>, text: &'m str, strict: bool) -> Option<Message<'m>> {
    let headed = message.severity.is_some();
    let (stamp, rest) = match stamp(text) {
        Some((stamp, rest)) => (Some(stamp), rest),
        None if strict && !headed => return None,
        None => (None, text),
    };
    message.timestamp = stamp;
    // On a machine's own socket the tag follows the time at once.
    let (tag, rest) = match tag(rest) {
        Some((tag, rest)) => (Some(tag), rest),
        None => {
            let (host, behind) = rest.split_once(' ').unwrap_or((rest, ""));
            let found = tag(behind).filter(|_| stamp.is_some() && is_host(host));
            if found.is_some() || (headed && stamp.is_some() && is_host(host)) {
                message.hostname = Some(host);
            }
            match found {
                Some((tag, behind)) => (Some(tag), behind),
                None if message.hostname.is_some() => (None, behind),
                None => (None, rest),
            }
        }
    };
    if let Some(tag) = tag {
        message.appname = Some(tag.name);
        message.procid = tag.process;
    }
    message.text = rest;
    if strict && !headed {
        // Many programs begin lines with a time and a word: only a host, or a process, tells.
        let iso = stamp.is_some_and(|stamp| stamp.starts_with(|c: char| c.is_ascii_digit()));
        let sure = message.hostname.is_some() && tag.is_some();
        return (sure && (!iso || message.procid.is_some())).then_some(message);
    }
    Some(message)
}

#[derive(Clone, Copy)]
struct Tag<'m> {
    name: &'m str,
    process: Option<&'m str>,
}

/// `sshd[7]: ` or `kernel: `, and what follows.
fn tag(text: &str) -> Option<(Tag<'_>, &str)> {
    let end = text.bytes().take(TAG_BYTES_MAX + 1).position(|b| matches!(b, b'[' | b':' | b' '))?;
    let name = text.get(..end).filter(|name| !name.is_empty())?;
    let behind = text.get(end..)?;
    if let Some(inner) = behind.strip_prefix('[') {
        let (process, rest) = inner.split_once(']')?;
        let fits = process.len() <= TAG_BYTES_MAX && !process.contains([' ', '[']);
        let rest = rest.strip_prefix(':').filter(|_| fits && !process.is_empty())?;
        return Some((Tag { name, process: Some(process) }, blank_or_end(rest)?));
    }
    let rest = blank_or_end(behind.strip_prefix(':')?)?;
    Some((Tag { name, process: None }, rest))
}

fn is_host(word: &str) -> bool {
    let host_byte = |b: u8| b.is_ascii_alphanumeric() || b"-._:%".contains(&b);
    !word.is_empty() && word.len() <= HOST_BYTES_MAX && word.bytes().all(host_byte)
}

/// `Jan  2 15:04:05`, with a year, a fraction or a zone where a device writes them, or RFC 3339;
/// and what follows behind a blank (or, of some routers, a colon and a blank).
fn stamp(text: &str) -> Option<(&str, &str)> {
    let bytes = text.as_bytes();
    let end = if bytes.first()?.is_ascii_digit() {
        let end = memchr::memchr(b' ', bytes.get(..bytes.len().min(40))?)?;
        let dated = bytes.get(4) == Some(&b'-') && bytes.get(10) == Some(&b'T');
        dated.then_some(end)?
    } else {
        month_stamp(bytes)?
    };
    let (stamp, rest) = (text.get(..end)?, text.get(end..)?);
    let rest = rest.strip_prefix(':').unwrap_or(rest).strip_prefix(' ')?;
    Some((stamp.trim_end_matches(':'), rest))
}

/// Length of `Jan  2 15:04:05` or `Jan  2 2024 15:04:05.123`.
fn month_stamp(bytes: &[u8]) -> Option<usize> {
    const MONTHS: [&[u8; 3]; 12] = [
        b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov",
        b"Dec",
    ];
    let month = bytes.get(..3)?;
    let day = bytes.get(4..6)?;
    let is_day = matches!(day, [b' ' | b'0'..=b'3', b'0'..=b'9']);
    let spaced = bytes.get(3) == Some(&b' ') && bytes.get(6) == Some(&b' ');
    if !is_day || !spaced || !MONTHS.iter().any(|m| m.as_slice() == month) {
        return None;
    }
    let year = bytes
        .get(7..12)
        .is_some_and(|y| y.iter().take(4).all(u8::is_ascii_digit) && y.last() == Some(&b' '));
    let clock = if year { 12 } else { 7 };
    let shape = bytes.get(clock..clock + 8)?;
    let is_clock = shape.iter().enumerate().all(|(at, b)| match at {
        2 | 5 => *b == b':',
        _ => b.is_ascii_digit(),
    });
    let mut end = clock + 8;
    if matches!(bytes.get(end), Some(b'.' | b',')) {
        let digits = bytes.get(end + 1..)?.iter().take_while(|b| b.is_ascii_digit()).count();
        end += if digits > 0 { digits + 1 } else { 0 };
    }
    is_clock.then_some(end)
}

#[cfg(test)]
mod tests;
