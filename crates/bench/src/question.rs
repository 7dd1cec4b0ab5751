//! What is asked of every store, in no store's language.
//!
//! A [`Question`] is a [`Filter`] and the [`Shape`] of the answer. Each target translates it or
//! says that it cannot; the [`crate::oracle`] evaluates it record by record. Invariant: a question
//! means the same to all of them, so an answer is right or wrong without looking at who gave it.

/// A class of queries of one workload.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// Its name in reports; never changed, so that reports can be compared.
    pub class: &'static str,
    /// Which records.
    pub filter: Filter,
    /// What about them.
    pub shape: Shape,
}

impl Question {
    /// A question.
    pub fn new(class: &'static str, filter: Filter, shape: Shape) -> Self {
        Self { class, filter, shape }
    }
}

/// Which records are asked for. Text filters are about the message; words are runs of letters,
/// digits and underscores, and their case counts.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// Every record.
    All,
    /// Has this word.
    Word(String),
    /// Has these words, in this order and with what stands between them.
    Phrase(String),
    /// Has a word that begins so.
    Prefix(String),
    /// Has this text, also inside a word.
    Substring(String),
    /// Has a match of this regular expression.
    Regex(String),
    /// The field (by its dotted path) has exactly this value.
    Is(String, String),
    /// As [`Is`](Self::Is), for a field that is part of the stream.
    Stream(String, String),
    /// The field has one of these values.
    In(String, Vec<String>),
    /// The field is a number from the first to the second, both included.
    Between(String, f64, f64),
    /// The time is in `start_ns..end_ns`.
    Window(i64, i64),
    /// All of these.
    And(Vec<Filter>),
    /// Any of these.
    Or(Vec<Filter>),
    /// Not this.
    Not(Box<Filter>),
}

/// What is asked about the records.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// How many they are. Row: `n`.
    Count,
    /// All of them, whole, in any order. Rows with `_time` and `_msg` among their fields.
    Rows,
    /// So many of the newest, whole.
    Newest(usize),
    /// How many by bucket of time and value of a field. Rows: `time`, the field, `n`.
    Histogram(i64, String),
    /// The values of a field with the most records. Rows: the field, `n`.
    Top(String, usize),
    /// By the first field: count, sum, mean and 0.99 quantile of the second, a number that some
    /// records have. Rows: the field, `n`, `sum`, `avg`, `p99`.
    Numbers(String, String),
    /// How many different values a field has. Row: `n`.
    Distinct(String),
    /// How many by value of a field, asked in SQL where the store knows it. Rows: the field, `n`.
    SqlCounts(String),
}

impl Filter {
    /// [`Filter::Word`].
    pub fn word(word: &str) -> Self {
        Self::Word(word.to_owned())
    }

    /// [`Filter::Is`].
    pub fn is(field: &str, value: &str) -> Self {
        Self::Is(field.to_owned(), value.to_owned())
    }

    /// [`Filter::Stream`].
    pub fn stream(field: &str, value: &str) -> Self {
        Self::Stream(field.to_owned(), value.to_owned())
    }

    /// [`Filter::In`].
    pub fn any_of(field: &str, values: &[&str]) -> Self {
        Self::In(field.to_owned(), values.iter().map(|&value| value.to_owned()).collect())
    }

    /// Both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self::And(vec![self, other])
    }

    /// One of them or both.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self::Or(vec![self, other])
    }

    /// The others.
    #[must_use]
    pub fn negated(self) -> Self {
        Self::Not(Box::new(self))
    }
}
