//! How a command fails: what went wrong, where, and how to mend it, plus the exit code.
//!
//! Every failure that reaches the user goes through [`Failure`], so that the three parts and the
//! exit codes (see [`Exit`]) stay the same over all commands.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use crate::terminal::{Ink, escape_text};

/// The exit codes. They are part of the interface: scripts test them. `lodge --help` lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Whoever read our output has had enough (`| head`): no failure at all.
    ReaderGone = 0,
    /// Something failed on the way: a file, the disk, an answer of the server.
    Failed = 1,
    /// The command line, a configuration file or a query is wrong. Trying again does not help.
    Usage = 2,
    /// The server cannot be reached or is overloaded. Trying again later may help.
    Unavailable = 3,
    /// The answer was cut short by a limit of the server: what was printed is not everything.
    Partial = 4,
    /// Stopped by Ctrl-C or SIGTERM before the end.
    Interrupted = 130,
}

/// One failure, ready to be printed.
#[derive(Debug)]
pub struct Failure {
    /// What went wrong, as a sentence without a full stop.
    pub what: String,
    /// The file, address or query it happened in.
    pub place: Option<String>,
    /// What the user can do about it.
    pub mend: Option<String>,
    /// The query and the 1-based column (in characters) at which it went wrong.
    pub caret: Option<(String, usize)>,
    /// The exit code.
    pub exit: Exit,
}

impl Failure {
    /// A failure with exit code 1.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), place: None, mend: None, caret: None, exit: Exit::Failed }
    }

    /// A failure that is the command line's, the configuration's or the query's fault.
    pub fn usage(what: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, ..Self::new(what) }
    }

    /// The same failure, saying where it happened.
    #[must_use]
    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.place = Some(place.into());
        self
    }

    /// The same failure, saying how to mend it.
    #[must_use]
    pub fn mend(mut self, mend: impl Into<String>) -> Self {
        self.mend = Some(mend.into());
        self
    }

    /// The same failure with another exit code.
    #[must_use]
    pub fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// The text for stderr: `error:`, `where:`, the query with a caret, `mend:`.
    pub fn render(&self, ink: Ink) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "{} {}", ink.red("error:"), escape_lines(&self.what));
        if let Some(place) = &self.place {
            let _ = writeln!(out, "  {} {}", ink.bold("where:"), escape_text(place));
        }
        if let Some((query, column)) = &self.caret {
            render_caret(&mut out, query, *column, ink);
        }
        if let Some(mend) = &self.mend {
            let _ = writeln!(out, "  {} {}", ink.bold("mend:"), escape_lines(mend));
        }
        out
    }

    /// Prints the failure on stderr and gives the process's exit code.
    pub fn report(&self) -> ExitCode {
        if self.exit != Exit::ReaderGone {
            let text = self.render(Ink::for_stderr());
            // When stderr is gone there is nobody left to tell.
            let _ = std::io::stderr().lock().write_all(text.as_bytes());
        }
        ExitCode::from(self.exit as u8)
    }
}

/// Escapes a message of several lines, line by line: line breaks are ours, the rest may be not.
fn escape_lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(|line| escape_text(line).into_owned()).collect();
    lines.join("\n         ")
}

/// Writes the line of the query that holds `column`, and a caret under that column.
fn render_caret(out: &mut String, query: &str, column: usize, ink: Ink) {
    let mut left = column.saturating_sub(1);
    let mut shown = "";
    for line in query.split('\n') {
        shown = line;
        let chars = line.chars().count();
        if left <= chars {
            break;
        }
        left -= chars + 1;
    }
    let before: String = shown.chars().take(left).collect();
    let pad = unicode_width::UnicodeWidthStr::width(escape_text(&before).as_ref());
    let _ =
        writeln!(out, "\n    {}\n    {}{}\n", escape_text(shown), " ".repeat(pad), ink.red("^"));
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        let exit = match error.kind() {
            std::io::ErrorKind::BrokenPipe => Exit::ReaderGone,
            _ => Exit::Failed,
        };
        Self::new(error.to_string()).exit(exit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_where_how_and_points_at_the_column() {
        let mut failure = Failure::usage("expected ')'").at("the query").mend("close it");
        failure.caret = Some(("_time:5m (error".into(), 10));
        assert_eq!(
            failure.render(Ink::none()),
            "error: expected ')'\n  where: the query\n\n    _time:5m (error\n             ^\n\n  \
             mend: close it\n"
        );
    }

    #[test]
    fn the_caret_finds_its_line_and_stands_under_wide_characters() {
        let mut failure = Failure::usage("no");
        failure.caret = Some(("a\n日本 |x".into(), 6));
        assert_eq!(failure.render(Ink::none()), "error: no\n\n    日本 |x\n         ^\n\n");
    }
}
