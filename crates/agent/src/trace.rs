//! Which lines belong together: the stack traces of Java, Python, Go and Rust, and indented
//! continuation lines.
//!
//! Sans-I/O: a state machine over lines. Invariants:
//! - a JSON object is a record of its own and is never continued;
//! - a line that begins with a timestamp begins a record;
//! - a trace is joined to the record before it, if that is plain text.
//!
//! Or as a rule of the configuration says; then nothing of the above holds.

use regex::bytes::Regex;

use crate::level;
use crate::timestamp::{self, TimeContext};

/// Most lines of a joined record.
pub const JOINED_LINES_MAX: u32 = 2_000;
/// Most bytes of a joined record; the line that would exceed it begins the next record.
pub const JOINED_BYTES_MAX: usize = 256 << 10;
/// How much of a line a rule of the configuration looks at.
const RULE_SEARCH_BYTES_MAX: usize = 4 << 10;

/// What a line is to the record before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Nothing: an empty line between records.
    Blank,
    /// It begins a record.
    Begins,
    /// It is part of the record before it.
    Continues,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No record is open that could be continued.
    Closed,
    /// Text that a trace or indented lines may follow.
    Plain,
    Java,
    Python {
        in_block: bool,
    },
    /// The line that names the exception has come; only a chained exception may follow.
    PythonEnd,
    Go,
    Rust {
        message_follows: bool,
    },
}

/// By what lines are joined.
#[derive(Clone, Debug, Default)]
pub enum Rule {
    /// The traces and indented lines that are known here.
    #[default]
    Auto,
    /// Nothing: every line is a record.
    Off,
    /// A line that matches begins a record, any other continues it.
    Begins(Regex),
    /// A line that matches continues the record before it.
    Continues(Regex),
}

impl Rule {
    /// As a configuration writes it.
    pub fn text(&self) -> String {
        match self {
            Rule::Auto => "\"auto\"".to_owned(),
            Rule::Off => "\"off\"".to_owned(),
            Rule::Begins(pattern) => format!("{{ begins = {:?} }}", pattern.as_str()),
            Rule::Continues(pattern) => format!("{{ continues = {:?} }}", pattern.as_str()),
        }
    }
}

/// Follows the lines of one file.
#[derive(Debug)]
pub struct Joiner {
    state: State,
    rule: Rule,
}

impl Joiner {
    /// A joiner at the start of a record.
    pub fn new(rule: Rule) -> Self {
        Joiner { state: State::Closed, rule }
    }

    /// Whether a further line may still continue the open record.
    pub fn may_continue(&self) -> bool {
        !matches!(self.rule, Rule::Off) && self.state != State::Closed
    }

    /// Whether the open record is, or by its text announces, a stack trace.
    pub fn in_trace(&self) -> bool {
        !matches!(self.state, State::Closed | State::Plain)
    }

    /// Ends the open record whatever comes next.
    pub fn close(&mut self) {
        self.state = State::Closed;
    }

    /// Places `line` (without its line end), given the first line of the open record.
    pub fn place(&mut self, line: &[u8], open: &[u8]) -> Role {
        match &self.rule {
            Rule::Auto => {}
            Rule::Off => return if line.is_empty() { Role::Blank } else { Role::Begins },
            Rule::Begins(begins) => {
                let continues = !begins.is_match(head_of(line));
                return self.place_by_rule(line, continues);
            }
            Rule::Continues(pattern) => {
                let continues = pattern.is_match(head_of(line));
                return self.place_by_rule(line, continues);
            }
        }
        if line.trim_ascii().is_empty() {
            return self.place_blank();
        }
        if self.continues(line, open) {
            return Role::Continues;
        }
        self.state = opening_state(line);
        Role::Begins
    }

    /// An empty line continues an open record if the rule says so, and is nothing elsewhere.
    fn place_by_rule(&mut self, line: &[u8], continues: bool) -> Role {
        let open = self.state != State::Closed;
        if continues && open {
            return Role::Continues;
        }
        if line.trim_ascii().is_empty() {
            self.state = State::Closed;
            return Role::Blank;
        }
        self.state = State::Plain;
        Role::Begins
    }

    fn place_blank(&mut self) -> Role {
        match self.state {
            State::Go | State::Python { .. } | State::PythonEnd => Role::Continues,
            _ => {
                self.state = State::Closed;
                Role::Blank
            }
        }
    }

    fn continues(&mut self, line: &[u8], open: &[u8]) -> bool {
        let indented = matches!(line.first(), Some(b' ' | b'\t'));
        match self.state {
            State::Closed => false,
            _ if indented => {
                if let State::Python { .. } | State::PythonEnd = self.state {
                    self.state = State::Python { in_block: true };
                }
                true
            }
            State::Plain => self.trace_follows(line, open),
            State::Java => is_java_part(line),
            State::Python { in_block } => {
                let names = in_block && is_python_exception(line) && !is_headed(line);
                if names {
                    self.state = State::PythonEnd;
                }
                names || self.python_chain(line)
            }
            State::PythonEnd => self.python_chain(line),
            State::Go => is_go_part(line),
            State::Rust { message_follows } => {
                self.state = State::Rust { message_follows: false };
                line.starts_with(b"note: ")
                    || line.starts_with(b"stack backtrace:")
                    || (message_follows && !is_headed(line))
            }
        }
    }

    /// Whether a trace begins here that belongs to the plain record before it.
    fn trace_follows(&mut self, line: &[u8], open: &[u8]) -> bool {
        if is_java_part(line) || is_java_exception(line) {
            self.state = State::Java;
            return true;
        }
        if line.starts_with(PYTHON_TRACEBACK) && may_have_failed(open) {
            self.state = State::Python { in_block: false };
            return true;
        }
        false
    }

    fn python_chain(&mut self, line: &[u8]) -> bool {
        let chain = line.starts_with(PYTHON_TRACEBACK)
            || line.starts_with(b"During handling of the above exception")
            || line.starts_with(b"The above exception was the direct cause");
        if chain {
            self.state = State::Python { in_block: false };
        }
        chain
    }
}

/// The part of a line that a rule's regex looks at.
fn head_of(line: &[u8]) -> &[u8] {
    line.get(..line.len().min(RULE_SEARCH_BYTES_MAX)).unwrap_or(line)
}

const PYTHON_TRACEBACK: &[u8] = b"Traceback (most recent call last):";

fn opening_state(line: &[u8]) -> State {
    if line.trim_ascii_start().first() == Some(&b'{') {
        return State::Closed;
    }
    if line.starts_with(b"panic: ") || line.starts_with(b"fatal error: ") || is_goroutine(line) {
        return State::Go;
    }
    if line.starts_with(b"thread '") && memchr::memmem::find(line, b"' panicked at ").is_some() {
        // Since Rust 1.73 the line ends with the place and the message follows on the next.
        return State::Rust { message_follows: line.ends_with(b":") };
    }
    if line.starts_with(PYTHON_TRACEBACK) {
        return State::Python { in_block: false };
    }
    if line.starts_with(b"Exception in thread ") || is_java_exception(line) {
        return State::Java;
    }
    State::Plain
}

/// Whether the line begins with a timestamp (as the first line of any framework's record does).
fn is_headed(line: &[u8]) -> bool {
    timestamp::find(line, &TimeContext::utc(0)).is_some()
}

/// Whether a record that begins with `open` may be one that a trace was logged with: not one that
/// says that all is well.
fn may_have_failed(open: &[u8]) -> bool {
    let text = std::str::from_utf8(open).unwrap_or_default();
    !matches!(level::in_line(text), Some("info" | "debug" | "trace"))
}

fn is_java_part(line: &[u8]) -> bool {
    line.starts_with(b"Caused by: ") || line.starts_with(b"Suppressed: ")
}

/// `java.lang.IllegalStateException: text`: a dotted name whose last part begins with a capital
/// and ends in Exception, Error or Throwable.
fn is_java_exception(line: &[u8]) -> bool {
    if !line.first().is_some_and(u8::is_ascii_alphabetic) {
        return false;
    }
    let name_byte = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'$');
    let end = line.iter().position(|b| !name_byte(b)).unwrap_or(line.len());
    let Some(name) = line.get(..end) else { return false };
    let ends_well = matches!(line.get(end), None | Some(b':'));
    let Some(dot) = memchr::memrchr(b'.', name) else { return false };
    let class = name.get(dot + 1..).unwrap_or_default();
    ends_well
        && class.first().is_some_and(u8::is_ascii_uppercase)
        && [&b"Exception"[..], b"Error", b"Throwable"].iter().any(|e| class.ends_with(e))
}

/// `ValueError: text`, `app.errors.NotFound`, `KeyboardInterrupt`.
fn is_python_exception(line: &[u8]) -> bool {
    let name_byte = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_');
    let end = line.iter().position(|b| !name_byte(b)).unwrap_or(line.len());
    end > 0
        && line.first().is_some_and(|b| b.is_ascii_alphabetic() || *b == b'_')
        && matches!(line.get(end), None | Some(b':'))
}

fn is_goroutine(line: &[u8]) -> bool {
    line.strip_prefix(b"goroutine ")
        .is_some_and(|rest| rest.first().is_some_and(u8::is_ascii_digit) && rest.ends_with(b":"))
}

/// A line of a Go trace that is not indented: `goroutine 1 [running]:`, `main.run(0x1, {…})`,
/// `created by main.start`.
fn is_go_part(line: &[u8]) -> bool {
    if is_goroutine(line)
        || line.starts_with(b"[signal ")
        || line.starts_with(b"created by ")
        || line.starts_with(b"exit status ")
    {
        return true;
    }
    let name_byte =
        |b: &u8| b.is_ascii_alphanumeric() || b".-_/*()[]{}".contains(b) || !b.is_ascii();
    let end = line.iter().position(|b| !name_byte(b)).unwrap_or(line.len());
    let called = line.get(..end).is_some_and(|name| memchr::memchr(b'(', name).is_some());
    called && line.ends_with(b")") && !is_headed(line)
}
