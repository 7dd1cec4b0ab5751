//! Bytes of a file into records: lines, joined where they belong together.
//!
//! Sans-I/O and stateless between reads: a chunk begins at a record boundary, and what is not
//! complete at its end stays in the file and is framed again with the next chunk. Invariants:
//! - records come in file order, without overlap; every byte of the chunk before
//!   [`Frames::consumed`] belongs to a record, a blank line, or a counted hole;
//! - a record is given out only when it is complete: the next one has begun, or the caller says
//!   that the end of the file has settled.

use crate::trace::{JOINED_BYTES_MAX, JOINED_LINES_MAX, Joiner, Role, Rule};

/// A run of zeros at a line's start that is at least this long is a hole that a writer left when
/// its file was truncated under it, not text.
const HOLE_BYTES_MIN: usize = 512;

/// One record's text in the chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'c> {
    /// The text, without its last line end.
    pub text: &'c [u8],
    /// Chunk offset of the text.
    pub start: usize,
    /// How many lines were joined.
    pub lines: u32,
    /// Chunk offset behind the record: a record boundary.
    pub end: usize,
}

/// What framing passed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Blank lines between records.
    pub blank_lines: u64,
    /// Bytes of holes.
    pub hole_bytes: u64,
    /// Records ended by the limit on joined lines or bytes.
    pub capped: u64,
}

/// Walks over the records of a chunk.
#[derive(Debug)]
pub struct Frames<'c> {
    chunk: &'c [u8],
    at: usize,
    joiner: Joiner,
    open: Option<Open>,
    passed: Passed,
    consumed: usize,
    end_settled: bool,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    start: usize,
    first_line_end: usize,
    end: usize,
    lines: u32,
}

impl<'c> Frames<'c> {
    /// Frames the complete lines of `chunk`. With `multiline` lines are joined. With `end_settled`
    /// the last record is taken as complete, and a last line without its line end as a line.
    pub fn new(chunk: &'c [u8], multiline: bool, end_settled: bool) -> Self {
        let rule = if multiline { Rule::Auto } else { Rule::Off };
        Frames::by_rule(chunk, rule, end_settled)
    }

    /// As [`Self::new`], with lines joined by `rule`.
    pub fn by_rule(chunk: &'c [u8], rule: Rule, end_settled: bool) -> Self {
        Frames {
            chunk,
            at: 0,
            joiner: Joiner::new(rule),
            open: None,
            passed: Passed::default(),
            consumed: 0,
            end_settled,
        }
    }

    /// Chunk offset behind the last record (or blank line) given out.
    pub fn consumed(&self) -> usize {
        self.consumed
    }

    /// What was passed over so far.
    pub fn passed(&self) -> Passed {
        self.passed
    }

    /// Whether a record is held back because more lines may belong to it, and it looks like a
    /// stack trace.
    pub fn holds_trace(&self) -> bool {
        self.open.is_some() && self.joiner.in_trace()
    }

    /// Whether a record is held back.
    pub fn holds(&self) -> bool {
        self.open.is_some()
    }

    /// The held-back record, taken as complete.
    pub fn take_held(&mut self) -> Option<Frame<'c>> {
        let open = self.open.take()?;
        self.joiner.close();
        Some(self.give(open))
    }

    fn give(&mut self, open: Open) -> Frame<'c> {
        let text = self.chunk.get(open.start..open.end).unwrap_or_default();
        let text = without_line_ends(text);
        self.consumed = open.end;
        Frame { text, start: open.start, lines: open.lines, end: open.end }
    }

    /// Takes the next line into the open record; gives the record that it completes.
    fn take_line(&mut self, start: usize, line_end: usize, end: usize) -> Option<Frame<'c>> {
        let line = without_line_ends(self.chunk.get(start..line_end).unwrap_or_default());
        let first_line = match self.open {
            Some(open) => self.chunk.get(open.start..open.first_line_end).unwrap_or_default(),
            None => &[],
        };
        if self.open.is_none() {
            self.joiner.close();
        }
        match self.joiner.place(line, first_line) {
            Role::Continues => {
                if let Some(open) = &mut self.open {
                    if open.lines < JOINED_LINES_MAX && end - open.start <= JOINED_BYTES_MAX {
                        open.end = end;
                        open.lines += 1;
                        return None;
                    }
                    self.passed.capped += 1;
                }
                let done = self.open.take().map(|open| self.give(open));
                self.open = Some(Open { start, first_line_end: line_end, end, lines: 1 });
                done
            }
            Role::Begins => {
                let done = self.open.take().map(|open| self.give(open));
                self.open = Some(Open { start, first_line_end: line_end, end, lines: 1 });
                done
            }
            Role::Blank => {
                self.passed.blank_lines += 1;
                let done = self.open.take().map(|open| self.give(open));
                self.consumed = end;
                done
            }
        }
    }

    /// Length of the hole at `self.at`.
    fn hole(&self) -> usize {
        let rest = self.chunk.get(self.at..).unwrap_or_default();
        if rest.first() != Some(&0) {
            return 0;
        }
        let zeros = rest.iter().position(|b| *b != 0).unwrap_or(rest.len());
        if zeros >= HOLE_BYTES_MIN { zeros } else { 0 }
    }
}

impl<'c> Iterator for Frames<'c> {
    type Item = Frame<'c>;

    fn next(&mut self) -> Option<Frame<'c>> {
        loop {
            let hole = self.hole();
            if hole > 0 {
                // The record before the hole is complete: its writer's file was cut.
                if let Some(open) = self.open.take() {
                    return Some(self.give(open));
                }
                self.passed.hole_bytes += hole as u64;
                self.at += hole;
                self.consumed = self.at;
                continue;
            }
            let rest = self.chunk.get(self.at..)?;
            let (line_end, end) = match memchr::memchr(b'\n', rest) {
                Some(newline) => (self.at + newline, self.at + newline + 1),
                None if self.end_settled && !rest.is_empty() => {
                    (self.chunk.len(), self.chunk.len())
                }
                None => break,
            };
            let start = std::mem::replace(&mut self.at, end);
            if let Some(frame) = self.take_line(start, line_end, end) {
                return Some(frame);
            }
        }
        // A record that nothing can continue is complete without waiting.
        if self.end_settled || !self.joiner.may_continue() {
            return self.take_held();
        }
        None
    }
}

fn without_line_ends(mut text: &[u8]) -> &[u8] {
    while let [rest @ .., b'\n' | b'\r'] = text {
        text = rest;
    }
    text
}
