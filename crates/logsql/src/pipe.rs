//! The pipes of a query, as data.

use lodge_segment::predicate::{Predicate, float_bits};
use serde::{Deserialize, Serialize};

use super::Query;
use super::transform::TransformPipe;

/// One step of a query after its filter.
#[derive(Debug, Clone, PartialEq)]
pub enum Pipe {
    /// Keep these fields only.
    Fields(Vec<FieldPattern>),
    /// Drop these fields.
    Delete(Vec<FieldPattern>),
    /// Copy fields: `(from, to)`.
    Copy(Vec<(String, String)>),
    /// Rename fields: `(from, to)`.
    Rename(Vec<(String, String)>),
    /// Keep the rows that match.
    Filter(Predicate),
    /// Order the rows, and perhaps keep some.
    Sort(SortPipe),
    /// Keep this many rows.
    Limit(u64),
    /// Skip this many rows.
    Offset(u64),
    /// Aggregate.
    Stats(StatsPipe),
    /// The most frequent combinations of values.
    Top {
        /// How many.
        limit: u64,
        /// Fields that are combined.
        by: Vec<String>,
        /// Name of the count.
        hits: String,
        /// Name of the rank, if it is asked for.
        rank: Option<String>,
    },
    /// The different combinations of values.
    Uniq {
        /// Fields that are combined.
        by: Vec<String>,
        /// Name of the count, if it is asked for.
        hits: Option<String>,
        /// At most so many combinations.
        limit: Option<u64>,
    },
    /// The most frequent patterns of a field's texts, with when they were seen.
    Patterns(PatternsPipe),
    /// Make fields of fields.
    Transform(Box<TransformPipe>),
    /// The most frequent values of every field.
    Facets(FacetsPipe),
    /// The fields that there are, each with the number of rows that have it.
    FieldNames,
    /// The values of a field that are not empty, each with the number of its rows.
    FieldValues {
        /// The field.
        field: String,
        /// At most so many values.
        limit: Option<u64>,
    },
    /// The number of blocks with rows.
    BlocksCount,
    /// What each field takes in each block.
    BlockStats,
    /// What the query has done.
    QueryStats,
    /// Add what another query finds to the rows that have the same values.
    Join(Box<JoinPipe>),
    /// The rows, then those of another query.
    Union(Box<Query>),
    /// The rows of a stream around each row.
    StreamContext(ContextPipe),
    /// Add results over the rows so far, or over all, to each row.
    Running(RunningPipe),
    /// So many rows with their numbers, whatever there was before.
    Sequence(u64),
}

/// The most frequent values of every field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FacetsPipe {
    /// How many of each field.
    pub limit: u64,
    /// Fields of more different values are left out.
    pub values_per_field_max: u64,
    /// Fields with longer values, bytes, are left out.
    pub value_len_max: u64,
    /// Fields that have the same value everywhere are not left out.
    pub keep_const_fields: bool,
}

/// Add what another query finds to the rows that have the same values.
#[derive(Debug, Clone, PartialEq)]
pub struct JoinPipe {
    /// The fields whose values have to be the same; never empty.
    pub by: Vec<String>,
    /// The other query.
    pub query: Query,
    /// Rows for which it finds nothing are left out.
    pub is_inner: bool,
    /// What comes before the names of the fields that it finds.
    pub prefix: String,
}

/// The rows of a stream around each row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContextPipe {
    /// So many earlier ones.
    pub before: u64,
    /// So many later ones.
    pub after: u64,
    /// No further away than this.
    pub window_ns: i64,
}

/// Add results over the rows so far, or over all, to each row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningPipe {
    /// Over the rows with the same values of these.
    pub by: Vec<String>,
    /// What is computed; never empty.
    pub calls: Vec<RunningCall>,
    /// Over all rows, not over those up to the row.
    pub is_total: bool,
}

/// One result of a [`RunningPipe`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningCall {
    /// What is computed.
    pub function: RunningFunction,
    /// Over which fields; for `count` empty if it counts all rows.
    pub fields: Vec<FieldPattern>,
    /// Name of the result.
    pub name: String,
}

/// A function of a [`RunningPipe`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunningFunction {
    /// Rows, or rows where any of the fields is not empty.
    Count,
    /// Sum of the numbers.
    Sum,
    /// Smallest value that is not empty.
    Min,
    /// Largest value that is not empty.
    Max,
}

/// The most frequent patterns of a field's texts, of the records that have the field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatternsPipe {
    /// How many.
    pub limit: u64,
    /// The field.
    pub field: String,
    /// Into how many equal parts the time is divided for the trend; at least one.
    pub buckets: usize,
}

impl Pipe {
    /// The pipe's name in the language.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Fields(_) => "fields",
            Self::Delete(_) => "delete",
            Self::Copy(_) => "copy",
            Self::Rename(_) => "rename",
            Self::Filter(_) => "filter",
            Self::Sort(_) => "sort",
            Self::Limit(_) => "limit",
            Self::Offset(_) => "offset",
            Self::Stats(_) => "stats",
            Self::Top { .. } => "top",
            Self::Uniq { .. } => "uniq",
            Self::Patterns(_) => "patterns",
            Self::Transform(transform) => transform.name(),
            Self::Facets(_) => "facets",
            Self::FieldNames => "field_names",
            Self::FieldValues { .. } => "field_values",
            Self::BlocksCount => "blocks_count",
            Self::BlockStats => "block_stats",
            Self::QueryStats => "query_stats",
            Self::Join(_) => "join",
            Self::Union(_) => "union",
            Self::StreamContext(_) => "stream_context",
            Self::Running(running) if running.is_total => "total_stats",
            Self::Running(_) => "running_stats",
            Self::Sequence(_) => "generate_sequence",
        }
    }

    /// Whether the pipe looks at one row at a time.
    pub fn is_row_wise(&self) -> bool {
        matches!(
            self,
            Self::Fields(_)
                | Self::Delete(_)
                | Self::Copy(_)
                | Self::Rename(_)
                | Self::Filter(_)
                | Self::Transform(_)
        )
    }

    /// Whether the pipe gives a row for each row, in their order.
    pub fn keeps_rows(&self) -> bool {
        match self {
            Self::Filter(_) => false,
            Self::Transform(transform) => transform.keeps_count(),
            pipe => pipe.is_row_wise(),
        }
    }

    /// The query inside the pipe, if there is one.
    pub fn inner(&self) -> Option<&Query> {
        match self {
            Self::Join(join) => Some(&join.query),
            Self::Union(query) => Some(query),
            _ => None,
        }
    }
}

/// A field's name, or all names with a prefix (`foo*`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FieldPattern {
    /// This field.
    Name(String),
    /// Every field whose name begins so.
    Prefix(String),
}

impl FieldPattern {
    /// Whether `name` is meant.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Name(wanted) => wanted == name,
            Self::Prefix(prefix) => name.starts_with(prefix.as_str()),
        }
    }
}

/// Order the rows, and perhaps keep some.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SortPipe {
    /// Most significant first; never empty.
    pub by: Vec<SortKey>,
    /// Keep so many rows, per partition if there are any.
    pub limit: Option<u64>,
    /// After skipping so many.
    pub offset: u64,
    /// Count `limit` and `offset` anew for each combination of these fields.
    pub partition_by: Vec<String>,
    /// Put each row's place, from 1, into this field.
    pub rank: Option<String>,
}

/// One key of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SortKey {
    /// The field.
    pub name: String,
    /// Largest first.
    pub descending: bool,
}

/// Aggregate.
#[derive(Debug, Clone, PartialEq)]
pub struct StatsPipe {
    /// One result row per combination of these; one row in all if empty.
    pub by: Vec<GroupKey>,
    /// What is computed; never empty.
    pub calls: Vec<StatsCall>,
}

/// A field to group by.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupKey {
    /// The field.
    pub name: String,
    /// Group by this bucket of the value instead of the value.
    pub bucket: Option<Bucket>,
}

/// How values are rounded down to buckets.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Bucket {
    /// Multiples of a number (of a duration in nanoseconds for times), shifted by an offset.
    Step {
        /// Width; positive.
        #[serde(with = "float_bits")]
        step: f64,
        /// The same width if it is a whole number of nanoseconds.
        step_ns: i64,
        /// Where buckets begin.
        offset_ns: i64,
    },
    /// Weeks of times, from Monday on; of other values multiples of a week in nanoseconds.
    Week {
        /// Time zone offset.
        offset_ns: i64,
    },
    /// Calendar months.
    Month {
        /// Time zone offset.
        offset_ns: i64,
    },
    /// Calendar years.
    Year {
        /// Time zone offset.
        offset_ns: i64,
    },
    /// Networks of this many leading bits, of IPv4 addresses.
    Ipv4 {
        /// 0 to 32.
        bits: u8,
    },
}

/// One aggregate of a `stats` pipe.
#[derive(Debug, Clone, PartialEq)]
pub struct StatsCall {
    /// What is computed.
    pub function: StatsFunction,
    /// Over which fields; for `count` empty if it counts all rows.
    pub fields: Vec<FieldPattern>,
    /// Over matching rows only.
    pub filter: Option<Predicate>,
    /// Name of the result.
    pub name: String,
}

/// An aggregate function.
#[derive(Debug, Clone, PartialEq)]
pub enum StatsFunction {
    /// Rows, or rows where any of the fields is not empty.
    Count,
    /// Rows where all of the fields are empty.
    CountEmpty,
    /// Different combinations of values that are not all empty, counted up to a limit.
    CountUniq {
        /// Count no further than this.
        limit: Option<u64>,
    },
    /// Different hashes of such combinations: as good as exact, in less memory.
    CountUniqHash {
        /// Count no further than this.
        limit: Option<u64>,
    },
    /// Sum of the numbers.
    Sum,
    /// Mean of the numbers.
    Avg,
    /// Smallest value that is not empty.
    Min,
    /// Largest value that is not empty.
    Max,
    /// Quantile of the numbers.
    Quantile {
        /// 0 to 1.
        phi: f64,
    },
    /// How many of the numbers there are in each range, as a JSON array.
    Histogram,
    /// Sum of the lengths in bytes.
    SumLen,
    /// Rows per second.
    Rate {
        /// Of how much time; `None` if the query has no bounds: the number of rows.
        span_ns: Option<i64>,
    },
    /// Sum of the numbers per second.
    RateSum {
        /// Of how much time; `None` if the query has no bounds: the sum.
        span_ns: Option<i64>,
    },
    /// The different values, sorted, as a JSON array.
    UniqValues {
        /// At most so many.
        limit: Option<u64>,
    },
    /// All values, as a JSON array.
    Values {
        /// At most so many.
        limit: Option<u64>,
    },
    /// The rows, as a JSON array of objects.
    JsonValues {
        /// In this order; in none if empty.
        sort: Vec<SortKey>,
        /// At most so many.
        limit: Option<u64>,
    },
    /// Any value that is not empty.
    Any,
    /// The standard deviation of the numbers.
    Stddev,
    /// The value in the row with the smallest value.
    FieldMin {
        /// Of this field.
        by: String,
    },
    /// The value in the row with the largest value.
    FieldMax {
        /// Of this field.
        by: String,
    },
    /// Any row, as a JSON object.
    RowAny,
    /// The row with the smallest value, as a JSON object.
    RowMin {
        /// Of this field.
        by: String,
    },
    /// The row with the largest value, as a JSON object.
    RowMax {
        /// Of this field.
        by: String,
    },
}

impl StatsFunction {
    /// The fields by whose values it chooses or orders rows.
    pub fn ordering(&self) -> impl Iterator<Item = &str> {
        let (by, sort) = match self {
            Self::RowMin { by }
            | Self::RowMax { by }
            | Self::FieldMin { by }
            | Self::FieldMax { by } => (Some(by.as_str()), [].as_slice()),
            Self::JsonValues { sort, .. } => (None, sort.as_slice()),
            _ => (None, [].as_slice()),
        };
        by.into_iter().chain(sort.iter().map(|key| key.name.as_str()))
    }
}
