//! Matching records per time bucket: the histogram above a list of logs.
//!
//! Counted straight from the stored columns: times, and codes of dictionaries where there are any.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::TimestampNanosecondType;
use hashbrown::HashMap;
use lodge_record::{field, limits, overflow, schema};
use tokio::runtime::Handle;

use crate::engine::Admitted;
use crate::error::{QueryError, QueryErrorKind};
use crate::plan::bucket_floor;
use crate::request::{HitsGroup, HitsRequest};
use crate::scan::{Source, fold, stream_ids};

/// Most groups × buckets that one answer counts.
const CELLS_MAX: usize = 1_000_000;
/// Most fields to group by.
const FIELDS_MAX: usize = 16;

/// Counts of one task: per group's values, per bucket's start.
type Counts = HashMap<Vec<String>, HashMap<i64, u64>>;

/// A task's counts and how many cells they take.
#[derive(Debug, Default)]
struct Sum {
    counts: Counts,
    cells: usize,
}

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
    let fields: Arc<[String]> = request.fields.clone().into();
    let mut columns = vec![field::TIME.to_owned()];
    columns.extend(fields.iter().cloned());
    let names = fields.clone();
    let sums = fold(runtime, admitted, &source, &columns, move |sum: &mut Sum, found| {
        let batch = &found.batch;
        let times = batch
            .column_by_name(field::TIME)
            .and_then(|column| column.as_primitive_opt::<TimestampNanosecondType>())
            .ok_or_else(|| QueryError::internal("a block has no _time"))?;
        let values: Vec<FieldValues> =
            names.iter().map(|name| FieldValues::of(batch, name)).collect();
        count(sum, times.values(), &values, step_ns, offset_ns)
    })
    .await?;
    let mut counts = Counts::new();
    for sum in sums {
        for (group, buckets) in sum.counts {
            let into = counts.entry(group).or_default();
            for (start, hits) in buckets {
                *into.entry(start).or_default() += hits;
            }
        }
    }
    Ok(groups(counts, &fields, request.fields_limit))
}

/// Adds rows to the counts. Neighbours mostly share group and bucket (records of a stream are stored
/// together, in the order of time), so a run is counted at once.
fn count(
    sum: &mut Sum,
    times: &[i64],
    values: &[FieldValues],
    step_ns: i64,
    offset_ns: i64,
) -> Result<(), QueryError> {
    let mut row = 0;
    while let Some(time) = times.get(row) {
        let start = bucket_floor(*time, step_ns, offset_ns);
        let end = start.saturating_add(step_ns);
        let same = |other: usize| {
            times.get(other).is_some_and(|time| start <= *time && *time < end)
                && values.iter().all(|values| values.same(row, other))
        };
        let mut next = row + 1;
        while same(next) {
            next += 1;
        }
        let group: Vec<String> = values.iter().map(|values| values.text(row)).collect();
        let buckets = sum.counts.entry(group).or_default();
        let before = buckets.len();
        *buckets.entry(start).or_default() += (next - row) as u64;
        sum.cells += buckets.len() - before;
        if sum.cells > CELLS_MAX {
            return Err(QueryError::new(
                QueryErrorKind::BudgetMemory,
                format!(
                    "the answer has more than {CELLS_MAX} counts; use a larger step, a shorter \
                     time range, or fields with fewer values"
                ),
            ));
        }
        row = next;
    }
    Ok(())
}

/// A field's values in a batch, from its column or `_overflow`.
struct FieldValues {
    name: String,
    column: Option<ArrayRef>,
    spilled: Option<ArrayRef>,
}

impl FieldValues {
    fn of(batch: &arrow::record_batch::RecordBatch, name: &str) -> Self {
        let column = match batch.column_by_name(name) {
            Some(column) => Some(column.clone()),
            None if name == field::STREAM_ID => batch.column_by_name(field::STREAM).map(stream_ids),
            None => None,
        };
        let spilled = batch.column_by_name(field::OVERFLOW).cloned();
        Self { name: name.to_owned(), column, spilled }
    }

    fn text(&self, row: usize) -> String {
        if let Some(text) = self.column.as_ref().and_then(|column| schema::value_text(column, row))
        {
            return text.into_owned();
        }
        let spilled = self.spilled.as_ref().and_then(|spilled| schema::value_text(spilled, row));
        spilled
            .and_then(|spilled| Some(overflow::get(&spilled, &self.name)?.into_owned()))
            .unwrap_or_default()
    }

    /// Whether two rows surely have the same value.
    fn same(&self, a: usize, b: usize) -> bool {
        if self.spilled.as_ref().is_some_and(|spilled| spilled.is_valid(a) || spilled.is_valid(b)) {
            return false;
        }
        let Some(column) = &self.column else { return true };
        if let Some(dictionary) = column.as_dictionary_opt::<arrow::datatypes::Int32Type>() {
            let keys = dictionary.keys();
            return keys.is_valid(a) == keys.is_valid(b) && keys.value(a) == keys.value(b);
        }
        schema::value_text(column, a) == schema::value_text(column, b)
    }
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
