//! Which fields, values and streams there are among matching records.
//!
//! Hits of values are exact. Hits of field names are exact while no more than
//! [`EXACT_ROWS_MAX`] records per task match; of later blocks each stored field counts for every
//! matching record, an upper bound, as VictoriaLogs gives it: exactness would mean to read every
//! column of everything.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::Int32Type;
use hashbrown::HashMap;
use lodge_record::{field, overflow, schema};
use lodge_store::Groups;
use tokio::runtime::Handle;

use crate::engine::Admitted;
use crate::error::{QueryError, QueryErrorKind};
use crate::request::ValueHits;
use crate::scan::{Columns, Source, Wanted, fold};

/// Matching records per task up to which the fields of each are looked at.
const EXACT_ROWS_MAX: u64 = 200_000;
/// Most different values that are counted.
const VALUES_MAX: usize = 1_000_000;
/// Most bytes of different values that are counted, per task.
const VALUES_BYTES_MAX: usize = 64 << 20;

type Hits = HashMap<String, u64>;

/// The fields that matching records have, by descending hits.
pub(crate) async fn field_names(
    runtime: &Handle,
    admitted: &Admitted,
    source: Source,
    limit: Option<usize>,
) -> Result<Vec<ValueHits>, QueryError> {
    #[derive(Default)]
    struct Sum {
        rows: u64,
        hits: Hits,
    }
    // The first pass counts matching rows only; it costs no column beyond the predicate's.
    let exact_until = EXACT_ROWS_MAX;
    let counted = fold(runtime, admitted, &source, &Wanted::count(), |rows: &mut u64, found| {
        *rows += found.rows as u64;
        Ok(())
    })
    .await?;
    let total: u64 = counted.iter().sum();
    let exact = total <= exact_until;
    let columns: Vec<String> = if exact {
        source.snapshot.schema().fields().iter().map(|field| field.name().clone()).collect()
    } else {
        vec![field::OVERFLOW.to_owned()]
    };
    let wanted = Wanted::of(Columns::Named(columns));
    let sums = fold(runtime, admitted, &source, &wanted, move |sum: &mut Sum, found| {
        let rows = found.rows as u64;
        sum.rows += rows;
        if exact {
            for (stored, column) in
                found.batch.schema_ref().fields().iter().zip(found.batch.columns())
            {
                add(&mut sum.hits, stored.name(), non_empty(column));
            }
        } else {
            for stored in found.segment.schema.fields() {
                add(&mut sum.hits, stored.name(), rows);
            }
        }
        if let Some(spilled) = found.batch.column_by_name(field::OVERFLOW) {
            for row in 0..spilled.len() {
                if let Some(text) = schema::value_text(spilled, row) {
                    overflow::for_each(&text, |name, _| add(&mut sum.hits, name, 1));
                }
            }
        }
        within_limits(&sum.hits)
    })
    .await?;
    let mut hits = merged(sums.into_iter().map(|sum| sum.hits));
    hits.remove(field::OVERFLOW);
    if total > 0 {
        // Derived from `_stream`, so every record has it.
        hits.insert(field::STREAM_ID.to_owned(), total);
    }
    hits.retain(|_, hits| *hits > 0);
    Ok(ranked(hits, limit))
}

/// The non-empty values of `name` in matching records, by descending hits.
pub(crate) async fn field_values(
    runtime: &Handle,
    admitted: &Admitted,
    source: Source,
    name: &str,
    limit: Option<usize>,
) -> Result<Vec<ValueHits>, QueryError> {
    let wanted = Wanted { groups: vec![name.to_owned()], ..Wanted::count() };
    let sums = fold(runtime, admitted, &source, &wanted, move |hits: &mut Hits, found| {
        for groups in &found.groups {
            count_values(hits, groups);
        }
        within_limits(hits)
    })
    .await?;
    let mut hits = merged(sums.into_iter());
    hits.remove("");
    Ok(ranked(hits, limit))
}

fn count_values(hits: &mut Hits, groups: &Groups) {
    let mut counts = vec![0u64; groups.values.len()];
    for code in &groups.codes {
        if let Some(count) = counts.get_mut(*code as usize) {
            *count += 1;
        }
    }
    for (text, count) in groups.values.iter().flatten().zip(counts).filter(|(_, n)| *n > 0) {
        add(hits, text, count);
    }
}

fn add(hits: &mut Hits, value: &str, more: u64) {
    // `entry` would copy the value even where it is known.
    match hits.get_mut(value) {
        Some(count) => *count += more,
        None => {
            hits.insert(value.to_owned(), more);
        }
    }
}

/// How many values of a column are not empty.
fn non_empty(column: &ArrayRef) -> u64 {
    let valid = column.len() - column.null_count();
    let empty = match column.as_string_opt::<i32>() {
        Some(strings) => strings.iter().flatten().filter(|value| value.is_empty()).count(),
        None => match column.as_dictionary_opt::<Int32Type>() {
            Some(dictionary) => (0..dictionary.len())
                .filter(|row| schema::value_text(dictionary, *row).is_some_and(|v| v.is_empty()))
                .count(),
            None => 0,
        },
    };
    valid.saturating_sub(empty) as u64
}

fn within_limits(hits: &Hits) -> Result<(), QueryError> {
    // Bytes are only added up when there are many values: it costs a walk over all of them.
    let many = hits.len() > VALUES_MAX;
    let wide = hits.len().is_multiple_of(4096)
        && hits.keys().map(String::len).sum::<usize>() > VALUES_BYTES_MAX;
    if !many && !wide {
        return Ok(());
    }
    Err(QueryError::new(
        QueryErrorKind::BudgetMemory,
        format!(
            "there are more than {VALUES_MAX} different values or {VALUES_BYTES_MAX} bytes of them; \
             narrow the time range or filter more"
        ),
    ))
}

fn merged(sums: impl Iterator<Item = Hits>) -> Hits {
    sums.reduce(|mut into, from| {
        for (value, hits) in from {
            *into.entry(value).or_default() += hits;
        }
        into
    })
    .unwrap_or_default()
}

fn ranked(hits: Hits, limit: Option<usize>) -> Vec<ValueHits> {
    let mut ranked: Vec<ValueHits> =
        hits.into_iter().map(|(value, hits)| ValueHits { value, hits }).collect();
    ranked.sort_by(|a, b| b.hits.cmp(&a.hits).then_with(|| a.value.cmp(&b.value)));
    ranked.truncate(limit.unwrap_or(usize::MAX));
    ranked
}
