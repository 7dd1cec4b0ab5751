//! Which fields, values and streams there are among matching records.
//!
//! Hits of values are exact. Hits of field names are exact while no more than
//! [`EXACT_ROWS_MAX`] records per task match; of later blocks each stored field counts for every
//! matching record, an upper bound, as VictoriaLogs gives it: exactness would mean to read every
//! column of everything.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{Int32Type, Int64Type};
use arrow::record_batch::RecordBatch;
use hashbrown::HashMap;
use lodge_record::stream::StreamLabels;
use lodge_record::{field, overflow, schema};
use tokio::runtime::Handle;

use crate::engine::Admitted;
use crate::error::{QueryError, QueryErrorKind};
use crate::logsql::{self, GroupKey, Pipe};
use crate::request::ValueHits;
use crate::scan::{
    self, Columns, Found, GroupLimit, Key, Source, TextOf, Wanted, fold, on_runtime,
};

/// Matching records per task up to which the fields of each are looked at.
const EXACT_ROWS_MAX: u64 = 200_000;
/// Most different values that are counted.
const VALUES_MAX: usize = 1_000_000;
/// Most bytes of different values that are counted, per task.
const VALUES_BYTES_MAX: usize = 64 << 20;

/// The column with the counts of records that pipes made.
const COUNT: &str = "__lodge_hits";

pub(crate) type Hits = HashMap<String, u64>;

/// The fields that matching records have, by descending hits.
pub(crate) async fn field_names(
    runtime: &Handle,
    admitted: &Admitted,
    source: Source,
    limit: Option<usize>,
) -> Result<Vec<ValueHits>, QueryError> {
    #[derive(Default)]
    struct Sum {
        hits: Hits,
    }
    // The first pass counts matching rows only; it costs no column.
    let none = GroupLimit { groups: 1, message: String::new() };
    let counted = scan::counts(runtime, admitted, source.clone(), Vec::new(), none).await?;
    let counted = counted.first().and_then(|rows| rows.as_primitive_opt::<Int64Type>());
    let total: u64 = counted.map_or(0, |rows| rows.values().iter().sum::<i64>()).cast_unsigned();
    let exact = total <= EXACT_ROWS_MAX;
    let columns: Vec<String> = if exact {
        source.snapshot.schema().fields().iter().map(|field| field.name().clone()).collect()
    } else {
        vec![field::OVERFLOW.to_owned()]
    };
    let wanted = Wanted::of(Columns::Named(columns));
    let step = move |sum: &mut Sum, found: &Found| {
        let rows = found.rows as u64;
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
    };
    let (partitions, pool) = (admitted.partitions, admitted.memory());
    let work =
        async move { fold(&source, partitions, &pool, &wanted, || Ok(Sum::default()), step).await };
    let sums = on_runtime(runtime, &admitted.control, work).await?;
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
    limit_rows: Option<usize>,
) -> Result<Vec<ValueHits>, QueryError> {
    let keys = vec![Key::Text { of: TextOf::field(name), through: None }];
    let limit = GroupLimit { groups: VALUES_MAX, message: too_many() };
    let columns = scan::counts(runtime, admitted, source, keys, limit).await?;
    let [values, counts] = columns.as_slice() else { return Ok(Vec::new()) };
    let counts = counts.as_primitive::<Int64Type>();
    let mut hits = Hits::with_capacity(values.len());
    for (row, count) in counts.values().iter().enumerate() {
        if let Some(value) = schema::value_text(values, row).filter(|value| !value.is_empty()) {
            add(&mut hits, &value, count.cast_unsigned());
        }
    }
    Ok(ranked(hits, limit_rows))
}

/// The field names of records that pipes made, from the rows of [`Pipe::FieldNames`], by descending
/// hits.
pub(crate) fn made_names(
    rows: &[RecordBatch],
    limit: Option<usize>,
) -> Result<Vec<ValueHits>, QueryError> {
    counted(rows, "name", "hits", limit)
}

/// The pipe that counts the values of `name` in records that pipes made.
pub(crate) fn counting(name: &str) -> Pipe {
    logsql::count_by(vec![GroupKey { name: name.to_owned(), bucket: None }], COUNT)
}

/// The values of `name` from the rows of [`counting`], by descending hits.
pub(crate) fn made_values(
    rows: &[RecordBatch],
    name: &str,
    limit: Option<usize>,
) -> Result<Vec<ValueHits>, QueryError> {
    counted(rows, name, COUNT, limit)
}

/// What is not empty in one column, with the hits that another one has.
fn counted(
    rows: &[RecordBatch],
    values: &str,
    counts: &str,
    limit: Option<usize>,
) -> Result<Vec<ValueHits>, QueryError> {
    let mut hits = Hits::default();
    for batch in rows {
        let counts = batch.column_by_name(counts).and_then(|c| c.as_primitive_opt::<Int64Type>());
        let (Some(values), Some(counts)) = (batch.column_by_name(values), counts) else { continue };
        for (row, count) in counts.values().iter().enumerate() {
            if let Some(value) = schema::value_text(values, row).filter(|v| !v.is_empty()) {
                add(&mut hits, &value, count.cast_unsigned());
            }
        }
        within_limits(&hits)?;
    }
    Ok(ranked(hits, limit))
}

/// The names of labels among streams with their hits, by descending hits.
pub(crate) fn label_names(streams: &[ValueHits], limit: Option<usize>) -> Vec<ValueHits> {
    let mut hits = Hits::default();
    each_label(streams, |name, _, more| add(&mut hits, name, more));
    ranked(hits, limit)
}

/// The values of a label among streams with their hits, by descending hits.
pub(crate) fn label_values(
    streams: &[ValueHits],
    label: &str,
    limit: Option<usize>,
) -> Vec<ValueHits> {
    let mut hits = Hits::default();
    each_label(streams, |name, value, more| {
        if name == label {
            add(&mut hits, value, more);
        }
    });
    ranked(hits, limit)
}

fn each_label(streams: &[ValueHits], mut each: impl FnMut(&str, &str, u64)) {
    for stream in streams {
        let labels = StreamLabels::parse(&stream.value).unwrap_or_default();
        labels.iter().for_each(|(name, value)| each(name, value, stream.hits));
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
    Err(QueryError::new(QueryErrorKind::BudgetMemory, too_many()))
}

fn too_many() -> String {
    format!(
        "there are more than {VALUES_MAX} different values or {VALUES_BYTES_MAX} bytes of them; \
         narrow the time range or filter more"
    )
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

pub(crate) fn ranked(hits: Hits, limit: Option<usize>) -> Vec<ValueHits> {
    let mut ranked: Vec<ValueHits> =
        hits.into_iter().map(|(value, hits)| ValueHits { value, hits }).collect();
    ranked.sort_by(|a, b| b.hits.cmp(&a.hits).then_with(|| a.value.cmp(&b.value)));
    ranked.truncate(limit.unwrap_or(usize::MAX));
    ranked
}
