//! What is wrong with a text that is no query.

/// A text that is no query: where that shows, and what was expected there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SyntaxError {
    /// Where, in characters, the first being 1; at most one behind the last.
    pub column: usize,
    /// What was expected instead, for people.
    pub message: String,
}

impl SyntaxError {
    pub(crate) fn new(column: usize, message: impl Into<String>) -> Self {
        Self { column, message: message.into() }
    }
}
