//! Questions about stored records: LogsQL and SQL, as DataFusion plans over one leaf.
//!
//! ```text
//!  LogsQL text ─ logsql::parse ─► Query{Predicate, pipes} ─ plan ─┐
//!                                                                 ├─► LogicalPlan ─► rows
//!  SQL text ──── DataFusion's parser ──────── sql ────────────────┘        │
//!                                                     scan::LogsTable (the leaf)
//!  hits, field names, field values, streams ──────────► scan::fold ────────┤
//!                                                                one catalog Snapshot
//! ```
//!
//! Invariants:
//! - a query reads one snapshot: all of a commit or nothing of it;
//! - the leaf evaluates its predicate exactly; no filter above it is needed for a right answer;
//! - the languages know nothing of each other: they meet in [`Predicate`] and `LogicalPlan`;
//! - every query has a budget ([`Budget`]) and ends when its [`QueryStream`] is dropped.

mod budget;
pub mod channels;
mod cluster;
mod discover;
mod engine;
mod error;
mod explain;
mod facets;
mod hits;
mod patterns;
mod plan;
mod questions;
mod request;
mod scan;
mod session;
mod sql;
mod stage;
mod stats_query;
mod stream;
mod subqueries;
mod tail;
mod tenant;
mod transform;

pub use cluster::{Cluster, Peer, SPREAD_ROWS_MIN, version};
pub use engine::{Engine, EngineLimits, EngineStats};
pub use error::{QueryError, QueryErrorKind};
pub use explain::Explanation;
pub use lodge_logsql as logsql;
pub use lodge_segment::predicate::Predicate;
pub use request::{
    Budget, Facet, FacetsRequest, FieldsRequest, HitsGroup, HitsRequest, LogsqlRequest, Marked,
    PatternHits, Patterns, PatternsRequest, SqlRequest, StatsRangeRequest, StatsRequest,
    StatsSample, StatsSeries, ValueHits, View,
};
pub use scan::{LeafCost, Share};
pub use stream::QueryStream;
pub use subqueries::{SUBQUERY_BYTES_MAX, SUBQUERY_VALUES_MAX};
pub use tail::TailQuery;
pub use tenant::TenantLimits;
