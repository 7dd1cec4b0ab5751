//! What a query can answer instead of rows.
//!
//! Invariant: the message alone tells the user what was wrong, where, and how to mend it; the kind
//! tells the caller (HTTP, CLI) how to present it. Nothing here knows HTTP.

use datafusion::error::DataFusionError;
use serde::{Deserialize, Serialize};

/// Which class of failure a [`QueryError`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum QueryErrorKind {
    /// The query text cannot be read; `column` counts characters from 1.
    Parse {
        /// Where in the query text, in characters, the first being 1.
        column: usize,
    },
    /// The query was understood but cannot be answered as asked (unknown column, wrong argument…).
    Invalid,
    /// The query ran longer than its budget.
    BudgetTime,
    /// The query needed more memory than its budget.
    BudgetMemory,
    /// The query had to read more bytes than its budget.
    BudgetBytes,
    /// The query had to look at more records than its budget.
    BudgetRows,
    /// The tenant's queries have used up what they may within a minute.
    BudgetTenant {
        /// After so many seconds the tenant may ask again.
        retry_after_s: u64,
    },
    /// What the request names does not exist.
    NotFound,
    /// Lodge failed.
    Internal,
    /// Stored data failed its checksum or cannot be decoded.
    Damaged,
}

/// A query's failure: a [kind](QueryErrorKind) and a message for the user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct QueryError {
    kind: QueryErrorKind,
    message: String,
    /// The field that turned out to hold text where the plan took it for something else.
    clash: Option<String>,
}

impl QueryError {
    /// An error of this kind with this message.
    pub fn new(kind: QueryErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), clash: None }
    }

    /// The query text is wrong at `column` (characters, from 1).
    pub fn parse(column: usize, message: impl Into<String>) -> Self {
        Self::new(QueryErrorKind::Parse { column }, message)
    }

    /// The query cannot be answered as asked.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(QueryErrorKind::Invalid, message)
    }

    /// A field of another type holds text in some records. Planned anew with the field as text, the
    /// query can be answered.
    pub(crate) fn type_clash(field: &str) -> Self {
        let message = format!(
            "the field `{field}` holds text in some records and no text in others; run the query \
             again, and it is read as text"
        );
        Self { clash: Some(field.to_owned()), ..Self::invalid(message) }
    }

    /// The field of a [`QueryError::type_clash`].
    pub(crate) fn clash(&self) -> Option<&str> {
        self.clash.as_deref()
    }

    /// Lodge failed.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(QueryErrorKind::Internal, message)
    }

    /// The class of this failure.
    pub fn kind(&self) -> QueryErrorKind {
        self.kind
    }

    /// The message for the user.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl From<lodge_logsql::SyntaxError> for QueryError {
    fn from(error: lodge_logsql::SyntaxError) -> Self {
        Self::parse(error.column, error.message)
    }
}

impl From<lodge_store::StoreError> for QueryError {
    fn from(error: lodge_store::StoreError) -> Self {
        let kind =
            if error.is_damage() { QueryErrorKind::Damaged } else { QueryErrorKind::Internal };
        Self::new(kind, error.to_string())
    }
}

impl From<QueryError> for DataFusionError {
    fn from(error: QueryError) -> Self {
        DataFusionError::External(Box::new(error))
    }
}

impl From<DataFusionError> for QueryError {
    fn from(error: DataFusionError) -> Self {
        if let Some(own) = own_error(&error) {
            return own;
        }
        let root = error.find_root();
        match root {
            DataFusionError::ResourcesExhausted(detail) => Self::new(
                QueryErrorKind::BudgetMemory,
                format!(
                    "the query needs more memory than its budget allows: {detail}; narrow the time \
                     range, filter more, group by fewer values, or raise the memory budget"
                ),
            ),
            DataFusionError::SQL(parser, _) => {
                let text = parser.to_string();
                let column = sql_column(&text).unwrap_or(1);
                Self::parse(column, text)
            }
            DataFusionError::Plan(detail) => Self::invalid(detail.clone()),
            DataFusionError::SchemaError(detail, _) => Self::invalid(detail.to_string()),
            DataFusionError::NotImplemented(detail) => {
                Self::invalid(format!("not supported: {detail}"))
            }
            // Values that do not fit an expression (a failed CAST, a division by zero) are the
            // query's doing, not ours.
            DataFusionError::ArrowError(detail, _) => Self::invalid(detail.to_string()),
            DataFusionError::Execution(detail) => Self::invalid(detail.clone()),
            other => Self::internal(other.to_string()),
        }
    }
}

/// The error that our own code raised inside a DataFusion plan, if that is what this is.
fn own_error(error: &DataFusionError) -> Option<QueryError> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(this) = cause {
        if let Some(own) = this.downcast_ref::<QueryError>() {
            return Some(own.clone());
        }
        // A shared error hides its inner one from `source()`.
        if let Some(DataFusionError::Shared(inner)) = this.downcast_ref::<DataFusionError>() {
            return own_error(inner);
        }
        cause = this.source();
    }
    None
}

/// The column in a SQL parser's message (`… at Line: 1, Column: 8`).
fn sql_column(text: &str) -> Option<usize> {
    let tail = text.rsplit_once("Column: ")?.1;
    let digits = tail.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}
