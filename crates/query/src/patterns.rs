//! The answer of a `patterns` pipe as data.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int64Type, TimestampNanosecondType};
use arrow::record_batch::RecordBatch;

use crate::error::QueryError;
use crate::request::PatternHits;

/// From the rows that the pipe gives.
pub(crate) fn hits(rows: &[RecordBatch]) -> Result<Vec<PatternHits>, QueryError> {
    let mut found = Vec::new();
    for batch in rows {
        found.extend(of_batch(batch).ok_or_else(|| {
            QueryError::internal("the patterns came in another shape than expected")
        })?);
    }
    Ok(found)
}

fn of_batch(batch: &RecordBatch) -> Option<Vec<PatternHits>> {
    let pattern = batch.column_by_name("pattern")?.as_string_opt::<i32>()?;
    let hits = batch.column_by_name("hits")?.as_primitive_opt::<Int64Type>()?;
    let share = batch.column_by_name("share")?.as_primitive_opt::<Float64Type>()?;
    let first = batch.column_by_name("first")?.as_primitive_opt::<TimestampNanosecondType>()?;
    let last = batch.column_by_name("last")?.as_primitive_opt::<TimestampNanosecondType>()?;
    let trend = batch.column_by_name("trend")?.as_string_opt::<i32>()?;
    let of_row = |row: usize| PatternHits {
        pattern: pattern.value(row).to_owned(),
        hits: hits.value(row).cast_unsigned(),
        share: share.value(row),
        first_ns: first.value(row),
        last_ns: last.value(row),
        trend: counts(trend.value(row)),
    };
    Some((0..pattern.len()).map(of_row).collect())
}

/// The numbers of a JSON list.
fn counts(text: &str) -> Vec<u64> {
    let inner = text.trim_start_matches('[').trim_end_matches(']');
    inner.split(',').filter_map(|count| count.parse().ok()).collect()
}
