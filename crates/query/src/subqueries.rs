//! Queries inside filters: answered one after the other before the query around them begins.
//!
//! Invariants:
//! - a query inside sees the same view and, unless its options say otherwise, the same time range as
//!   the query around it; both together have one time budget;
//! - it never holds a place among the running queries while another one of the same request waits
//!   for one;
//! - its answer is whole or an error: [`SUBQUERY_VALUES_MAX`] and [`SUBQUERY_BYTES_MAX`] bound all
//!   answers of a request together.

use std::time::Instant;

use futures::StreamExt;
use lodge_record::schema;

use crate::engine::Engine;
use crate::error::{QueryError, QueryErrorKind};
use crate::logsql::{self, Given, Options, Pipe, Query, Subquery};
use crate::plan::Page;
use crate::request::{Budget, View};

/// Values that the queries inside one query may give, all together.
pub const SUBQUERY_VALUES_MAX: usize = 200_000;
/// Bytes of these values.
pub const SUBQUERY_BYTES_MAX: usize = 32 << 20;

/// What all queries of one request have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'r> {
    pub(crate) view: &'r View,
    pub(crate) start_ns: Option<i64>,
    pub(crate) end_ns: Option<i64>,
    pub(crate) now_ns: i64,
    pub(crate) budget: &'r Budget,
}

/// What the queries of a request have in common; `now_ns` is the moment that it counts from.
macro_rules! asked {
    ($request:expr, $now_ns:ident) => {
        Asked {
            view: &$request.view,
            start_ns: $request.start_ns,
            end_ns: $request.end_ns,
            now_ns: $request.$now_ns,
            budget: &$request.budget,
        }
    };
}
pub(crate) use asked;

/// A query that can be run, and what it is run with.
#[derive(Debug)]
pub(crate) struct Understood {
    pub(crate) query: Query,
    pub(crate) start_ns: Option<i64>,
    pub(crate) end_ns: Option<i64>,
    /// What the queries inside left of the request's budget.
    pub(crate) budget: Budget,
}

/// How much more the answers of the queries inside may hold.
#[derive(Debug)]
struct Room {
    values: usize,
    bytes: usize,
}

impl Room {
    fn take(&mut self, value: &str) -> Result<(), QueryError> {
        match (self.values.checked_sub(1), self.bytes.checked_sub(value.len())) {
            (Some(values), Some(bytes)) => *self = Self { values, bytes },
            (None, _) => return Err(too_much(format!("{SUBQUERY_VALUES_MAX} different values"))),
            (_, None) => {
                return Err(too_much(format!("{SUBQUERY_BYTES_MAX} bytes of different values")));
            }
        }
        Ok(())
    }
}

fn too_much(limit: String) -> QueryError {
    QueryError::new(
        QueryErrorKind::BudgetMemory,
        format!(
            "the queries inside filters give more than {limit}, which is the limit; narrow them, or \
             ask them by themselves"
        ),
    )
}

impl Engine {
    /// Parses a request's query and answers the queries inside it.
    pub(crate) async fn understood(
        &self,
        text: &str,
        asked: Asked<'_>,
    ) -> Result<Understood, QueryError> {
        let began = Instant::now();
        let mut room = Room { values: SUBQUERY_VALUES_MAX, bytes: SUBQUERY_BYTES_MAX };
        let query = self.answered(text, Options::default(), asked, began, &mut room).await?;
        let inside = (room.values, room.bytes) != (SUBQUERY_VALUES_MAX, SUBQUERY_BYTES_MAX);
        let budget = if inside { left_of(asked.budget, began)? } else { *asked.budget };
        let (start_ns, end_ns) = range(asked, query.options);
        Ok(Understood { query, start_ns, end_ns, budget })
    }

    /// A query without open questions.
    async fn answered(
        &self,
        text: &str,
        options: Options,
        asked: Asked<'_>,
        began: Instant,
        room: &mut Room,
    ) -> Result<Query, QueryError> {
        let given = Given { now_ns: asked.now_ns, options, answers: &[] };
        let query = logsql::parse_given(text, given)?;
        if query.subqueries.is_empty() {
            return Ok(query);
        }
        let mut answers = Vec::with_capacity(query.subqueries.len());
        for subquery in query.subqueries {
            let column = subquery.column;
            let values = Box::pin(self.values_of(subquery, asked, began, room)).await;
            answers.push(values.map_err(|error| {
                let message = format!("in the query at column {column}: {}", error.message());
                QueryError::new(error.kind(), message)
            })?);
        }
        Ok(logsql::parse_given(text, Given { answers: &answers, ..given })?)
    }

    /// The different values of a query's field that are not empty.
    async fn values_of(
        &self,
        subquery: Subquery,
        asked: Asked<'_>,
        began: Instant,
        room: &mut Room,
    ) -> Result<Vec<String>, QueryError> {
        let Subquery { text, field, options, .. } = subquery;
        let mut query = self.answered(&text, options, asked, began, room).await?;
        if !matches!(query.pipes.last(), Some(Pipe::Uniq { .. })) {
            query.pipes.push(Pipe::Uniq { by: vec![field], hits: None, limit: None });
        }
        // A part of an answer would make the query around it wrong.
        let budget = Budget { allow_partial: false, ..left_of(asked.budget, began)? };
        let (start_ns, end_ns) = range(asked, query.options);
        let understood = Understood { query, start_ns, end_ns, budget };
        let mut rows = self.run_understood(asked.view, &understood, Page::default()).await?;
        let mut values = Vec::new();
        while let Some(batch) = rows.next().await.transpose()? {
            let Some(column) = batch.columns().first() else { continue };
            for row in 0..batch.num_rows() {
                let value = schema::value_text(column, row).filter(|value| !value.is_empty());
                if let Some(value) = value {
                    room.take(&value)?;
                    values.push(value.into_owned());
                }
            }
        }
        Ok(values)
    }
}

/// The request's time range, unless the query does without.
fn range(asked: Asked<'_>, options: Options) -> (Option<i64>, Option<i64>) {
    match options.ignore_global_time_filter {
        true => (None, None),
        false => (asked.start_ns, asked.end_ns),
    }
}

/// What is left of a budget of which the time began to run.
fn left_of(budget: &Budget, began: Instant) -> Result<Budget, QueryError> {
    match budget.time_max.checked_sub(began.elapsed()) {
        Some(time_max) => Ok(Budget { time_max, ..*budget }),
        None => Err(QueryError::new(
            QueryErrorKind::BudgetTime,
            format!(
                "the queries inside filters took all of the time budget of {:?}; narrow them, or \
                 raise the timeout",
                budget.time_max
            ),
        )),
    }
}
