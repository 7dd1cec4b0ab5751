//! Matching records per time bucket: the histogram above a list of logs.
//!
//! Counted from times and the codes of the fields' texts; no record is put together.

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{Int64Type, TimestampNanosecondType};
use arrow::record_batch::RecordBatch;
use hashbrown::HashMap;
use lodge_record::{field, limits, schema};
use tokio::runtime::Handle;

use crate::engine::Admitted;
use crate::error::{QueryError, QueryErrorKind};
use crate::logsql::{self, Bucket, GroupKey, Pipe};
use crate::request::{HitsGroup, HitsRequest};
use crate::scan::{self, GroupLimit, Key, Source, TextOf};

/// Most groups × buckets that one answer counts.
const CELLS_MAX: usize = 1_000_000;
/// The column with the counts of records that pipes made.
const COUNT: &str = "__lodge_hits";
/// Most fields to group by.
const FIELDS_MAX: usize = 16;

/// Counts per group's values, per bucket's start.
type Counts = HashMap<Vec<String>, HashMap<i64, u64>>;

/// Checks what is asked before anything is read.
pub(crate) fn check(request: &HitsRequest) -> Result<(), QueryError> {
    let step_ns = request.step_ns;
    if step_ns <= 0 {
        return Err(QueryError::invalid(format!(
            "step is {step_ns} ns; it must be a positive duration, for example 1h"
        )));
    }
    if request.fields.len() > FIELDS_MAX {
        return Err(QueryError::invalid(format!(
            "hits can be grouped by {FIELDS_MAX} fields at most, not {}",
            request.fields.len()
        )));
    }
    Ok(())
}

/// Counts the records that `source` selects.
pub(crate) async fn hits(
    runtime: &Handle,
    admitted: &Admitted,
    source: Source,
    request: &HitsRequest,
) -> Result<Vec<HitsGroup>, QueryError> {
    let (step_ns, offset_ns) = (request.step_ns, request.offset_ns);
    let mut keys = vec![Key::Bucket { step_ns, offset_ns }];
    for field in &request.fields {
        keys.push(Key::Text { of: TextOf::field(field), through: None });
    }
    let limit = GroupLimit { groups: CELLS_MAX, message: too_many() };
    let columns = scan::counts(runtime, admitted, source, keys, limit).await?;
    Ok(groups(counts(&columns), &request.fields, request.fields_limit))
}

/// The pipe that counts records which pipes made.
pub(crate) fn counting(request: &HitsRequest) -> Pipe {
    let (step_ns, offset_ns) = (request.step_ns, request.offset_ns);
    let bucket = Some(Bucket::Step { step: step_ns as f64, step_ns, offset_ns });
    let mut by = vec![GroupKey { name: field::TIME.to_owned(), bucket }];
    by.extend(request.fields.iter().map(|name| GroupKey { name: name.clone(), bucket: None }));
    logsql::count_by(by, COUNT)
}

/// From the rows of [`counting`].
pub(crate) fn made(
    rows: &[RecordBatch],
    request: &HitsRequest,
) -> Result<Vec<HitsGroup>, QueryError> {
    let mut all = Counts::new();
    let mut cells = 0;
    for batch in rows {
        cells += batch.num_rows();
        if cells > CELLS_MAX {
            return Err(QueryError::new(QueryErrorKind::BudgetMemory, too_many()));
        }
        let fields = request.fields.iter().map(String::as_str);
        let names = std::iter::once(field::TIME).chain(fields).chain([COUNT]);
        let columns: Option<Vec<ArrayRef>> =
            names.map(|name| batch.column_by_name(name).cloned()).collect();
        let is_time =
            |column: &ArrayRef| column.as_primitive_opt::<TimestampNanosecondType>().is_some();
        if !batch.column_by_name(field::TIME).is_some_and(is_time) {
            return Err(QueryError::invalid(
                "this query drops or changes `_time` before its filter, and hits are counted by it",
            ));
        }
        for (group, buckets) in counts(&columns.unwrap_or_default()) {
            let into = all.entry(group).or_default();
            for (start, hits) in buckets {
                *into.entry(start).or_default() += hits;
            }
        }
    }
    Ok(groups(all, &request.fields, request.fields_limit))
}

fn too_many() -> String {
    format!(
        "the answer has more than {CELLS_MAX} counts; use a larger step, a shorter time range, or \
         fields with fewer values"
    )
}

/// From the columns of bucket, fields and count.
fn counts(columns: &[ArrayRef]) -> Counts {
    let mut counts = Counts::new();
    let [starts, fields @ .., hits] = columns else { return counts };
    let starts = starts.as_primitive_opt::<TimestampNanosecondType>();
    let hits = hits.as_primitive_opt::<Int64Type>();
    let rows = starts.zip(hits).into_iter().flat_map(|(starts, hits)| starts.iter().zip(hits));
    for (row, (start, hits)) in rows.enumerate() {
        let texts = fields.iter().map(|column| schema::value_text(column, row));
        let group = texts.map(|text| text.unwrap_or_default().into_owned()).collect();
        // An absent field and an empty one are the same.
        let hits = hits.unwrap_or_default().cast_unsigned();
        *counts.entry(group).or_default().entry(start.unwrap_or_default()).or_default() += hits;
    }
    counts
}

/// The answer: most hits first; beyond the limit one group of all the rest, without fields.
fn groups(counts: Counts, fields: &[String], limit: Option<usize>) -> Vec<HitsGroup> {
    let limit = limit.unwrap_or(limits::COLUMNS_MAX).max(1);
    let mut ranked: Vec<(u64, Vec<String>, HashMap<i64, u64>)> = counts
        .into_iter()
        .map(|(group, buckets)| (buckets.values().sum(), group, buckets))
        .collect();
    ranked.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    let mut rest: HashMap<i64, u64> = HashMap::new();
    let mut answer = Vec::new();
    for (place, (_, group, buckets)) in ranked.into_iter().enumerate() {
        if place >= limit {
            for (start, hits) in buckets {
                *rest.entry(start).or_default() += hits;
            }
            continue;
        }
        answer.push(group_of(fields.iter().cloned().zip(group).collect(), buckets));
    }
    if !rest.is_empty() {
        answer.push(group_of(Vec::new(), rest));
    }
    answer
}

fn group_of(fields: Vec<(String, String)>, buckets: HashMap<i64, u64>) -> HitsGroup {
    let mut sorted: Vec<(i64, u64)> = buckets.into_iter().collect();
    sorted.sort_unstable();
    let total = sorted.iter().map(|(_, hits)| hits).sum();
    let (timestamps_ns, values) = sorted.into_iter().unzip();
    HitsGroup { fields, timestamps_ns, values, total }
}
