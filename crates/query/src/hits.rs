//! Matching records per time bucket: the histogram above a list of logs.
//!
//! Counted from times and the codes of the fields' texts; no record is put together.

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{Int64Type, TimestampNanosecondType};
use hashbrown::HashMap;
use lodge_record::{limits, schema};
use tokio::runtime::Handle;

use crate::engine::Admitted;
use crate::error::QueryError;
use crate::request::{HitsGroup, HitsRequest};
use crate::scan::{self, GroupLimit, Key, Source, TextOf};

/// Most groups × buckets that one answer counts.
const CELLS_MAX: usize = 1_000_000;
/// Most fields to group by.
const FIELDS_MAX: usize = 16;

/// Counts per group's values, per bucket's start.
type Counts = HashMap<Vec<String>, HashMap<i64, u64>>;

/// Counts the records that `source` selects.
pub(crate) async fn hits(
    runtime: &Handle,
    admitted: &Admitted,
    source: Source,
    request: &HitsRequest,
) -> Result<Vec<HitsGroup>, QueryError> {
    let (step_ns, offset_ns) = (request.step_ns, request.offset_ns);
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
    let mut keys = vec![Key::Bucket { step_ns, offset_ns }];
    for field in &request.fields {
        keys.push(Key::Text { of: TextOf::field(field), through: None });
    }
    let message = format!(
        "the answer has more than {CELLS_MAX} counts; use a larger step, a shorter time range, or \
         fields with fewer values"
    );
    let limit = GroupLimit { groups: CELLS_MAX, message };
    let columns = scan::counts(runtime, admitted, source, keys, limit).await?;
    Ok(groups(counts(&columns), &request.fields, request.fields_limit))
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
