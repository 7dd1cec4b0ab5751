//! What callers ask the [`Engine`](crate::Engine) and what they get back.
//!
//! All times are nanoseconds since the Unix epoch, UTC. A request's time range is half open:
//! `start_ns` is included, `end_ns` is not; a missing bound is unbounded.

use std::sync::Arc;
use std::time::Duration;

use lodge_record::TenantId;
use lodge_segment::predicate::{FieldTest, LabelMatcher, LabelTest, Predicate, StreamSelector};

use crate::error::QueryError;
use crate::{logsql, plan};

/// What a caller may see: the records of a tenant, or some of them. Whatever is asked is answered
/// from these alone.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct View {
    /// Whose records.
    pub tenant: TenantId,
    /// Only those that this selects; `None`: all.
    only: Option<Arc<Predicate>>,
}

impl From<TenantId> for View {
    fn from(tenant: TenantId) -> Self {
        Self { tenant, only: None }
    }
}

impl View {
    /// This view, narrowed to what a filter in LogsQL selects; relative times count from `now_ns`.
    ///
    /// # Errors
    /// If the text is no filter, or has pipes.
    pub fn narrowed(&self, filter: &str, now_ns: i64) -> Result<Self, QueryError> {
        let query = logsql::parse(filter, now_ns)?.without_subqueries("this filter")?;
        Ok(self.with(plan::only_filter(query)?))
    }

    /// This view, narrowed to the records whose field `name` has one of `values`.
    #[must_use]
    pub fn with_field(&self, name: &str, values: Vec<String>) -> Self {
        let test = match values.as_slice() {
            [one] => FieldTest::exact(one),
            _ => FieldTest::In(values.into_iter().collect()),
        };
        self.with(Predicate::field(name, test))
    }

    /// This view, narrowed to the records whose stream has a label `name` with one of `values`.
    #[must_use]
    pub fn with_label(&self, name: &str, values: Vec<String>) -> Self {
        let matcher = LabelMatcher { name: name.to_owned(), test: LabelTest::In(values) };
        self.with(Predicate::Stream(StreamSelector { groups: vec![vec![matcher]] }))
    }

    fn with(&self, predicate: Predicate) -> Self {
        Self { tenant: self.tenant.clone(), only: Some(Arc::new(self.bounded(predicate))) }
    }

    /// Whether it shows all records of its tenant.
    pub fn is_whole(&self) -> bool {
        self.only.is_none()
    }

    /// A view of the same tenant that shows no record.
    #[must_use]
    pub fn nothing(&self) -> Self {
        Self { tenant: self.tenant.clone(), only: Some(Arc::new(Predicate::None)) }
    }

    /// What of `predicate` lies within this view.
    pub(crate) fn bounded(&self, predicate: Predicate) -> Predicate {
        match &self.only {
            Some(only) => Predicate::and([only.as_ref().clone(), predicate]),
            None => predicate,
        }
    }
}

/// What one query may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Wall-clock time from the call to the last row.
    pub time_max: Duration,
    /// Bytes held at once by sorting, grouping and the blocks being read.
    pub memory_bytes_max: usize,
    /// Stored bytes of the columns that are looked at; `None`: as many as it takes. Of a block it is
    /// the share of its records in the columns' size, whether they are on disk or in memory.
    pub bytes_max: Option<u64>,
    /// Records that are looked at; `None`: as many as it takes. Records of segments and blocks that
    /// need not be looked at do not count.
    pub rows_max: Option<u64>,
    /// When any of these is used up: end with what there is and say so
    /// ([`QueryStream::partial`](crate::QueryStream::partial), [`Marked`]), instead of an error.
    pub allow_partial: bool,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            time_max: Duration::from_secs(30),
            memory_bytes_max: 512 << 20,
            bytes_max: None,
            rows_max: None,
            allow_partial: false,
        }
    }
}

/// An answer that is given whole, and whether it is all there is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Marked<T> {
    /// The answer.
    pub value: T,
    /// Which budget was used up before everything was read, if the caller allowed that.
    pub partial: Option<QueryError>,
}

/// A LogsQL query for rows.
#[derive(Debug, Clone)]
pub struct LogsqlRequest {
    /// Whose records.
    pub view: View,
    /// The LogsQL text.
    pub query: String,
    /// Records at or after this.
    pub start_ns: Option<i64>,
    /// Records before this.
    pub end_ns: Option<i64>,
    /// At most this many rows; of plain records (no aggregating or reordering pipe) the newest ones,
    /// newest first.
    pub limit: Option<usize>,
    /// Skip this many rows first.
    pub offset: Option<usize>,
    /// The moment that relative times (`_time:5m`) count from.
    pub now_ns: i64,
    /// What the query may cost.
    pub budget: Budget,
}

/// A SQL query over the table `logs`.
#[derive(Debug, Clone)]
pub struct SqlRequest {
    /// Whose records.
    pub view: View,
    /// One SELECT-like statement.
    pub query: String,
    /// Records at or after this.
    pub start_ns: Option<i64>,
    /// Records before this.
    pub end_ns: Option<i64>,
    /// What the query may cost.
    pub budget: Budget,
}

/// Counts of matching records per time bucket.
#[derive(Debug, Clone)]
pub struct HitsRequest {
    /// Whose records.
    pub view: View,
    /// The LogsQL text; only its filters and row-wise pipes count.
    pub query: String,
    /// Records at or after this.
    pub start_ns: Option<i64>,
    /// Records before this.
    pub end_ns: Option<i64>,
    /// Width of a bucket; must be positive.
    pub step_ns: i64,
    /// Shifts the buckets' edges: time zone offset.
    pub offset_ns: i64,
    /// One group per distinct combination of these fields' values.
    pub fields: Vec<String>,
    /// Keep this many groups, those with the most hits; the others are summed up in one group
    /// without fields.
    pub fields_limit: Option<usize>,
    /// The moment that relative times (`_time:5m`) count from.
    pub now_ns: i64,
    /// What the query may cost.
    pub budget: Budget,
}

/// One group of [`Engine::hits`](crate::Engine::hits): ascending bucket starts and their counts;
/// buckets without hits are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HitsGroup {
    /// Names and values that make the group; empty for the group of everything (else).
    pub fields: Vec<(String, String)>,
    /// Starts of the buckets.
    pub timestamps_ns: Vec<i64>,
    /// Records per bucket.
    pub values: Vec<u64>,
    /// Sum of `values`.
    pub total: u64,
}

/// A query that ends in a `stats` pipe, evaluated once.
#[derive(Debug, Clone)]
pub struct StatsRequest {
    /// Whose records.
    pub view: View,
    /// The LogsQL text; must have a `stats` pipe.
    pub query: String,
    /// Records at or after this.
    pub start_ns: Option<i64>,
    /// Records before this.
    pub end_ns: Option<i64>,
    /// The moment of evaluation: relative times count from here and the samples carry it.
    pub time_ns: i64,
    /// What the query may cost.
    pub budget: Budget,
}

/// A query that ends in a `stats` pipe, evaluated per time bucket.
#[derive(Debug, Clone)]
pub struct StatsRangeRequest {
    /// Whose records.
    pub view: View,
    /// The LogsQL text; must have a `stats` pipe.
    pub query: String,
    /// Records at or after this.
    pub start_ns: Option<i64>,
    /// Records before this.
    pub end_ns: Option<i64>,
    /// Width of a bucket; must be positive.
    pub step_ns: i64,
    /// Shifts the buckets' edges: time zone offset.
    pub offset_ns: i64,
    /// The moment that relative times (`_time:5m`) count from.
    pub now_ns: i64,
    /// What the query may cost.
    pub budget: Budget,
}

/// One sample of [`Engine::stats_query`](crate::Engine::stats_query).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatsSample {
    /// `__name__` (the result's name) and the `by` fields with their values.
    pub metric: Vec<(String, String)>,
    /// The value's text form.
    pub value: String,
}

/// One series of [`Engine::stats_query_range`](crate::Engine::stats_query_range).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatsSeries {
    /// `__name__` (the result's name) and the `by` fields with their values.
    pub metric: Vec<(String, String)>,
    /// Bucket starts, ascending, with the value's text form.
    pub values: Vec<(i64, String)>,
}

/// A question about the fields, a field's values or the streams of matching records.
#[derive(Debug, Clone)]
pub struct FieldsRequest {
    /// Whose records.
    pub view: View,
    /// The LogsQL text; only its filters and row-wise pipes count.
    pub query: String,
    /// Records at or after this.
    pub start_ns: Option<i64>,
    /// Records before this.
    pub end_ns: Option<i64>,
    /// At most this many answers, those with the most hits.
    pub limit: Option<usize>,
    /// The moment that relative times (`_time:5m`) count from.
    pub now_ns: i64,
    /// What the query may cost.
    pub budget: Budget,
}

/// A name or value and in how many matching records it occurs; lists of them are sorted by
/// descending hits, then by value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueHits {
    /// The name or value.
    pub value: String,
    /// Records that have it.
    pub hits: u64,
}

/// The most frequent values of each field of matching records.
#[derive(Debug, Clone)]
pub struct FacetsRequest {
    /// Of which records; its limit is that of the values of each field, 10 without one.
    pub records: FieldsRequest,
    /// Fields with more different values are left out.
    pub values_max: usize,
    /// Fields with a value of more bytes are left out.
    pub value_bytes_max: usize,
    /// Whether fields are kept that have the same value in all records.
    pub keep_const_fields: bool,
}

impl FacetsRequest {
    /// With the limits that VictoriaLogs documents.
    pub fn new(records: FieldsRequest) -> Self {
        Self { records, values_max: 1_000, value_bytes_max: 128, keep_const_fields: false }
    }
}

/// The most frequent values of one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facet {
    /// The field.
    pub field: String,
    /// By descending hits.
    pub values: Vec<ValueHits>,
}

/// The most frequent patterns of a field's texts: see [`lodge_segment::pattern`].
#[derive(Debug, Clone)]
pub struct PatternsRequest {
    /// Which records.
    pub records: FieldsRequest,
    /// Whose texts.
    pub field: String,
    /// Into how many equal parts the time is divided for the trends; at least one.
    pub buckets: usize,
}

/// What a [`PatternsRequest`] found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Patterns {
    /// Where the first part of the trends begins, nanoseconds.
    pub trend_start_ns: i64,
    /// How long each part is, nanoseconds.
    pub trend_step_ns: i64,
    /// By descending hits.
    pub patterns: Vec<PatternHits>,
}

/// One pattern.
#[derive(Debug, Clone, PartialEq)]
pub struct PatternHits {
    /// The text with its variables left out.
    pub pattern: String,
    /// Records that have it.
    pub hits: u64,
    /// Their share among all records with the field, 0 to 1.
    pub share: f64,
    /// The earliest of them, nanoseconds.
    pub first_ns: i64,
    /// The latest of them, nanoseconds.
    pub last_ns: i64,
    /// Hits per part of the time.
    pub trend: Vec<u64>,
}
