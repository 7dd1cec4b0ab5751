//! The filter of a live tail: a query without anything that needs more than one record.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatchOptions};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{Field, Schema};
use arrow::record_batch::RecordBatch;
use lodge_record::field;
use lodge_segment::predicate::{Predicate, evaluate};

use crate::error::QueryError;
use crate::logsql::{self, Pipe, TransformPipe};
use crate::plan;
use crate::request::View;
use crate::stage::{self, Stage};
use crate::transform::{Later, Step};

/// A query that means another thing so much later has relative times.
const LATER_NS: i64 = 3_600_000_000_000;

/// A query that is applied to records as they are committed.
#[derive(Debug, Clone)]
pub struct TailQuery {
    predicate: Predicate,
    pipes: Vec<Pipe>,
    /// Per pipe what those behind it look at.
    later: Vec<Later>,
    /// What it was made from, if the same text means something else at another time.
    relative: Option<Box<(View, String)>>,
}

/// Parses a live tail's query.
pub(crate) fn compile(view: &View, text: &str, now_ns: i64) -> Result<TailQuery, QueryError> {
    let at = |now_ns| logsql::parse(text, now_ns)?.without_subqueries("a live tail");
    let query = at(now_ns)?;
    let is_relative = at(now_ns.saturating_add(LATER_NS))? != query;
    let relative = is_relative.then(|| Box::new((view.clone(), text.to_owned())));
    if let Some(pipe) = query.pipes.iter().find(|pipe| !pipe.is_row_wise()) {
        return Err(QueryError::invalid(format!(
            "`| {}` cannot be used in a live tail, which shows records one by one as they come; \
             filter, fields, delete, copy, rename and the pipes that make fields of fields can",
            pipe.name()
        )));
    }
    let later = plan::later(&query.pipes);
    let predicate = view.bounded(query.predicate);
    Ok(TailQuery { predicate, pipes: query.pipes, later, relative })
}

impl TailQuery {
    /// This query when the clock shows `now_ns`: `_time:5m` goes along with the time.
    pub fn at(&self, now_ns: i64) -> Result<Cow<'_, Self>, QueryError> {
        match self.relative.as_deref() {
            None => Ok(Cow::Borrowed(self)),
            Some((view, text)) => compile(view, text, now_ns).map(Cow::Owned),
        }
    }

    /// The matching records of `batch`, with the fields that the query keeps; perhaps no rows.
    ///
    /// Columns keep the types of `batch`.
    pub fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch, QueryError> {
        let mut rows = filter_record_batch(batch, &evaluate(&self.predicate, batch))
            .map_err(|error| QueryError::internal(error.to_string()))?;
        for (pipe, later) in self.pipes.iter().zip(&self.later) {
            if rows.num_rows() == 0 {
                break;
            }
            rows = match pipe {
                Pipe::Transform(pipe) => transformed(&rows, pipe, later)?,
                pipe => step(&rows, pipe)?,
            };
        }
        Ok(rows)
    }
}

/// What a pipe that makes fields makes of `rows`, as one batch.
fn transformed(
    rows: &RecordBatch,
    pipe: &TransformPipe,
    later: &Later,
) -> Result<RecordBatch, QueryError> {
    let step = Arc::new(Step::new(pipe, rows.schema_ref(), later));
    let pieces = step.whole(rows)?;
    concat_batches(&step.output(), &pieces).map_err(|error| QueryError::internal(error.to_string()))
}

fn step(rows: &RecordBatch, pipe: &Pipe) -> Result<RecordBatch, QueryError> {
    let mut columns: Vec<(String, ArrayRef)> = rows
        .schema_ref()
        .fields()
        .iter()
        .zip(rows.columns())
        .map(|(field, column)| (field.name().clone(), column.clone()))
        .collect();
    match pipe {
        Pipe::Filter(predicate) => {
            return filter_record_batch(rows, &evaluate(predicate, rows))
                .map_err(|error| QueryError::internal(error.to_string()));
        }
        Pipe::Fields(patterns) => {
            let stream_id = patterns.iter().any(|pattern| pattern.matches(field::STREAM_ID));
            if stream_id
                && rows.column_by_name(field::STREAM_ID).is_none()
                && let Some(streams) = rows.column_by_name(field::STREAM)
            {
                let ids = crate::scan::stream_ids(streams);
                columns.push((field::STREAM_ID.to_owned(), ids));
            }
            retain(&mut columns, |name| patterns.iter().any(|pattern| pattern.matches(name)));
        }
        Pipe::Delete(patterns) => {
            retain(&mut columns, |name| !patterns.iter().any(|pattern| pattern.matches(name)));
        }
        Pipe::Copy(pairs) => pairs.iter().for_each(|(from, to)| copy(&mut columns, from, to)),
        Pipe::Rename(pairs) => {
            for (from, to) in pairs.iter().filter(|(from, to)| from != to) {
                copy(&mut columns, from, to);
                columns.retain(|(name, _)| name != from);
            }
        }
        // `compile` let no other pipe through.
        _ => {}
    }
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, column)| Field::new(name, column.data_type().clone(), true))
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
        .map_err(|error| QueryError::internal(error.to_string()))
}

/// Keeps some fields, in columns and beside them.
fn retain(columns: &mut Vec<(String, ArrayRef)>, is_kept: impl Fn(&str) -> bool) {
    columns.retain(|(name, _)| name == field::OVERFLOW || is_kept(name));
    let spilled = columns.iter_mut().find(|(name, _)| name == field::OVERFLOW);
    if let Some((_, column)) = spilled
        && let Some(texts) = column.as_string_opt::<i32>()
    {
        *column = stage::without(texts, |name| !is_kept(name));
    }
}

fn copy(columns: &mut Vec<(String, ArrayRef)>, from: &str, to: &str) {
    let value = columns.iter().find(|(name, _)| name == from).map(|(_, column)| column.clone());
    if from == to {
        return;
    }
    columns.retain(|(name, _)| name != to);
    if let Some(value) = value {
        columns.push((to.to_owned(), value));
    }
}
