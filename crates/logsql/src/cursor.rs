//! Reads a query's text from left to right: spaces, quoted strings, bare words.
//!
//! Invariants: the position is always at a character border; the column of an error counts
//! characters from 1.

use crate::error::SyntaxError;

use super::{Given, Options, QUERY_BYTES_MAX, QUERY_DEPTH_MAX, Subquery};

/// Characters that end a bare word.
const WORD_ENDS: &str = "()[]{}|,:\"'`=<>!~*#";

/// Where the parser stands in a query's text.
#[derive(Debug)]
pub(super) struct Cursor<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
    pub(super) now_ns: i64,
    /// The options that hold here.
    pub(super) options: Options,
    /// The answers of the queries inside, as far as they are known.
    answers: &'t [Vec<String>],
    /// How many of the queries inside were met.
    met: usize,
    /// Those without an answer.
    awaited: Vec<Subquery>,
    /// How many queries there are around this place, the outermost aside.
    inside: usize,
}

/// A word of a query, with or without quotes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) quoted: bool,
}

impl<'t> Cursor<'t> {
    pub(super) fn new(text: &'t str, given: Given<'t>) -> Result<Self, SyntaxError> {
        if text.len() > QUERY_BYTES_MAX {
            return Err(SyntaxError::new(
                1,
                format!(
                    "the query is {} bytes long, the limit is {QUERY_BYTES_MAX}; shorten it, for \
                     example with a prefix or a regular expression instead of a long list",
                    text.len()
                ),
            ));
        }
        let Given { now_ns, options, answers } = given;
        let (met, awaited, inside) = (0, Vec::new(), 0);
        Ok(Self { text, at: 0, depth: 0, now_ns, options, answers, met, awaited, inside })
    }

    /// Runs `parse` on a query inside the query; its own ones are not asked for.
    pub(super) fn inside<T>(
        &mut self,
        parse: impl FnOnce(&mut Self) -> Result<T, SyntaxError>,
    ) -> Result<T, SyntaxError> {
        self.inside += 1;
        let result = parse(self);
        self.inside -= 1;
        result
    }

    /// The answer of a query inside, if it is known; else it is waited for.
    pub(super) fn answer_of(&mut self, subquery: Subquery) -> Option<Vec<String>> {
        if self.inside > 0 {
            return None;
        }
        let answer = self.answers.get(self.met).cloned();
        self.met += 1;
        if answer.is_none() {
            self.awaited.push(subquery);
        }
        answer
    }

    /// The queries inside without an answer.
    pub(super) fn into_awaited(self) -> Vec<Subquery> {
        self.awaited
    }

    /// What is left.
    pub(super) fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// The text from `start` (an earlier [`Cursor::at`]) to here.
    pub(super) fn since(&self, start: usize) -> &'t str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Goes back (or forth) to a position that [`Cursor::at`] gave.
    pub(super) fn go_to(&mut self, at: usize) {
        self.at = at;
    }

    pub(super) fn at_end(&self) -> bool {
        self.at >= self.text.len()
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Moves over `length` bytes, which must end at a character border.
    pub(super) fn advance(&mut self, length: usize) {
        self.at += length;
    }

    /// Moves over white space and comments; tells whether there were any.
    pub(super) fn skip_space(&mut self) -> bool {
        let start = self.at;
        while let Some(c) = self.peek() {
            if c.is_whitespace() {
                self.at += c.len_utf8();
            } else if c == '#' {
                self.at += self.rest().find('\n').unwrap_or(self.rest().len());
            } else {
                break;
            }
        }
        self.at > start
    }

    /// Moves over `token` if it is next.
    pub(super) fn eat(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    /// Moves over `token` after spaces, or tells what should have been there.
    pub(super) fn expect(&mut self, token: &str, after: &str) -> Result<(), SyntaxError> {
        self.skip_space();
        if self.eat(token) {
            return Ok(());
        }
        let found = self.describe();
        Err(self.error(format!("expected `{token}` after {after}, not {found}")))
    }

    /// The bare word that is next, without moving.
    pub(super) fn peek_bare(&self) -> &'t str {
        let rest = self.rest();
        let end =
            rest.find(|c: char| c.is_whitespace() || WORD_ENDS.contains(c)).unwrap_or(rest.len());
        rest.get(..end).unwrap_or_default()
    }

    /// Moves over `keyword` if it is the next bare word, in any letter case.
    pub(super) fn eat_keyword(&mut self, keyword: &str) -> bool {
        let word = self.peek_bare();
        let found = word.eq_ignore_ascii_case(keyword);
        if found {
            self.at += word.len();
        }
        found
    }

    /// Reads a quoted or bare word; `None` if neither is next.
    pub(super) fn word(&mut self) -> Result<Option<Word>, SyntaxError> {
        match self.peek() {
            Some(quote @ ('"' | '\'' | '`')) => {
                let text = self.quoted(quote)?;
                Ok(Some(Word { text, quoted: true }))
            }
            _ => {
                let bare = self.peek_bare();
                self.at += bare.len();
                Ok((!bare.is_empty()).then(|| Word { text: bare.to_owned(), quoted: false }))
            }
        }
    }

    /// Reads a word after spaces, or tells that `what` should have been there.
    pub(super) fn expect_word(&mut self, what: &str) -> Result<Word, SyntaxError> {
        self.skip_space();
        match self.word()? {
            Some(word) => Ok(word),
            None => {
                let found = self.describe();
                Err(self.error(format!("expected {what}, not {found}")))
            }
        }
    }

    fn quoted(&mut self, quote: char) -> Result<String, SyntaxError> {
        let start = self.at;
        self.at += 1;
        let mut out = String::new();
        while let Some(c) = self.peek() {
            self.at += c.len_utf8();
            match c {
                c if c == quote => return Ok(out),
                '\\' if quote != '`' => self.escape(&mut out)?,
                c => out.push(c),
            }
        }
        self.at = start;
        Err(self.error(format!("the text that begins here has no closing {quote}")))
    }

    /// One escape sequence of a Go string literal, the backslash already read.
    fn escape(&mut self, out: &mut String) -> Result<(), SyntaxError> {
        let start = self.at - 1;
        let Some(c) = self.peek() else {
            return Ok(());
        };
        self.at += c.len_utf8();
        let plain = match c {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'v' => '\u{b}',
            '\\' | '"' | '\'' | '`' => c,
            'x' => self.code(start, 2, 16)?,
            'u' => self.code(start, 4, 16)?,
            'U' => self.code(start, 8, 16)?,
            '0'..='7' => {
                self.at -= 1;
                self.code(start, 3, 8)?
            }
            // Go refuses the rest; regular expressions in quotes (`"\d+"`) are too frequent for
            // that, so the backslash stays.
            other => {
                out.push('\\');
                other
            }
        };
        out.push(plain);
        Ok(())
    }

    fn code(&mut self, start: usize, digits: usize, radix: u32) -> Result<char, SyntaxError> {
        let code = self
            .rest()
            .get(..digits)
            .and_then(|text| u32::from_str_radix(text, radix).ok())
            .and_then(char::from_u32);
        match code {
            Some(c) => {
                self.at += digits;
                Ok(c)
            }
            None => {
                self.at = start;
                Err(self.error(format!(
                    "this escape needs {digits} digits of a character's code; write `\\\\` for a \
                     backslash"
                )))
            }
        }
    }

    /// An error if there is no level beneath this one.
    pub(super) fn check_depth(&self) -> Result<(), SyntaxError> {
        if self.depth < QUERY_DEPTH_MAX {
            return Ok(());
        }
        Err(self.error(format!(
            "the query is nested more than {QUERY_DEPTH_MAX} levels deep; remove parentheses"
        )))
    }

    /// Runs `parse` one level deeper, unless that is too deep.
    pub(super) fn nested<T>(
        &mut self,
        parse: impl FnOnce(&mut Self) -> Result<T, SyntaxError>,
    ) -> Result<T, SyntaxError> {
        self.check_depth()?;
        self.depth += 1;
        let result = parse(self);
        self.depth -= 1;
        result
    }

    /// What is next, for a message.
    pub(super) fn describe(&self) -> String {
        let bare = self.peek_bare();
        match self.peek() {
            None => "the end of the query".to_owned(),
            Some(_) if !bare.is_empty() => format!("`{}`", shorten(bare)),
            Some(c) => format!("`{c}`"),
        }
    }

    /// An error here.
    pub(super) fn error(&self, message: impl Into<String>) -> SyntaxError {
        self.error_at(self.at, message)
    }

    /// An error at a position that [`Cursor::at`] gave.
    pub(super) fn error_at(&self, at: usize, message: impl Into<String>) -> SyntaxError {
        SyntaxError::new(self.column(at), message)
    }

    /// The column of a position that [`Cursor::at`] gave.
    pub(super) fn column(&self, at: usize) -> usize {
        self.text.get(..at).map_or(0, |head| head.chars().count()) + 1
    }
}

/// The beginning of a text that is too long for a message.
pub(super) fn shorten(text: &str) -> String {
    const CHARS_MAX: usize = 40;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
