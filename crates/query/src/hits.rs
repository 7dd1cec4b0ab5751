//! Matching records per time bucket: the histogram above a list of logs.
//!
//! Counted from times and the codes of the fields' texts; no record is put together.

use std::sync::Arc;

use arrow::array::Array;
use hashbrown::HashMap;
use lodge_record::limits;
use lodge_store::Groups;
use tokio::runtime::Handle;

use crate::engine::Admitted;
use crate::error::{QueryError, QueryErrorKind};
use crate::plan::bucket_floor;
use crate::request::{HitsGroup, HitsRequest};
use crate::scan::{Source, Wanted, fold};

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
    let wanted = Wanted { times: true, groups: fields.to_vec(), ..Wanted::count() };
    let sums = fold(runtime, admitted, &source, &wanted, move |sum: &mut Sum, found| {
        count(sum, &found.times, &found.groups, step_ns, offset_ns)
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
    values: &[Groups],
    step_ns: i64,
    offset_ns: i64,
) -> Result<(), QueryError> {
    let mut row = 0;
    while let Some(time) = times.get(row) {
        let start = bucket_floor(*time, step_ns, offset_ns);
        let end = start.saturating_add(step_ns);
        let same = |other: usize| {
            times.get(other).is_some_and(|time| start <= *time && *time < end)
                && values.iter().all(|values| values.codes.get(row) == values.codes.get(other))
        };
        let mut next = row + 1;
        while same(next) {
            next += 1;
        }
        let group: Vec<String> = values.iter().map(|values| text(values, row).to_owned()).collect();
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

/// A row's text; empty where the field is absent.
fn text(values: &Groups, row: usize) -> &str {
    let code = values.codes.get(row).map_or(usize::MAX, |code| *code as usize);
    if code < values.values.len() { values.values.value(code) } else { "" }
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
