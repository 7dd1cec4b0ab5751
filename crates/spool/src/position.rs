//! Where a frame of the spool ends: the file's number and the offset in it.
//!
//! Invariant: positions are ordered as the frames were appended, and none is ever given out twice.

use std::fmt;
use std::str::FromStr;

/// A place in the spool, ordered by file and offset; its text is `file:offset` in decimal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Number of the file; the first one is 1.
    pub file: u64,
    /// Bytes from the beginning of the file.
    pub offset: u64,
}

impl Position {
    /// Before everything that a spool can hold.
    pub const START: Position = Position { file: 0, offset: 0 };
}

impl fmt::Display for Position {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.file, self.offset)
    }
}

/// The text is not a position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a spool position; one looks like 7:4096 (file:offset)")]
pub struct PositionError(String);

impl FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        // Only the text that Display writes: a number has one form.
        let number = |text: &str| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            let padded = text.len() > 1 && text.starts_with('0');
            if digits && !padded { text.parse().ok() } else { None }
        };
        text.split_once(':')
            .and_then(|(file, offset)| {
                Some(Position { file: number(file)?, offset: number(offset)? })
            })
            .ok_or_else(|| PositionError(text.chars().take(64).collect()))
    }
}
