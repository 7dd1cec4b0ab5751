//! The most frequent values of every field of matching records.
//!
//! One pass over the records; a field with too many different values, or a value that is too long, is
//! not looked at any more as soon as that is known, by none of the parts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use lodge_record::{field, overflow, schema};
use lodge_store::Groups;
use tokio::runtime::Handle;

use crate::discover::{Hits, ranked};
use crate::engine::Admitted;
use crate::error::QueryError;
use crate::logsql::{FacetsPipe, Pipe};
use crate::request::{Facet, FacetsRequest, ValueHits};
use crate::scan::{Columns, Found, Source, TextOf, Wanted, fold, on_runtime};

/// Values of a field without a limit.
const VALUES_DEFAULT: usize = 10;
/// Fields that are looked at: the first ones by their names beyond that.
const FIELDS_MAX: usize = 4_096;

/// What was counted so far; `None` of a field that is left out.
#[derive(Debug, Default)]
struct Counted {
    rows: u64,
    fields: BTreeMap<String, Option<Hits>>,
    /// About the bytes of the values.
    bytes: usize,
}

/// Which values a field may have.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    values_max: usize,
    value_bytes_max: usize,
}

impl Counted {
    /// Counts a value; whether the field is still looked at.
    fn add(&mut self, name: &str, value: &str, more: u64, bounds: Bounds) -> bool {
        if value.is_empty() {
            return true;
        }
        if !self.fields.contains_key(name) {
            if self.fields.len() >= FIELDS_MAX {
                return false;
            }
            self.fields.insert(name.to_owned(), Some(Hits::default()));
        }
        let Some(kept) = self.fields.get_mut(name) else { return false };
        let Some(hits) = kept else { return false };
        let is_full = hits.len() >= bounds.values_max;
        match hits.get_mut(value) {
            Some(count) => *count += more,
            None if is_full || value.len() > bounds.value_bytes_max => {
                self.bytes = self.bytes.saturating_sub(bytes_of(hits));
                *kept = None;
                return false;
            }
            None => {
                hits.insert(value.to_owned(), more);
                self.bytes += value_bytes(value);
            }
        }
        true
    }

    fn spilled(&mut self, text: &str, bounds: Bounds, skip: impl Fn(&str) -> bool) {
        overflow::for_each(text, |name, value| {
            if !skip(name) {
                self.add(name, value, 1, bounds);
            }
        });
    }

    fn merge(&mut self, other: Self, bounds: Bounds) {
        self.rows += other.rows;
        for (name, hits) in other.fields {
            match hits {
                None => drop(self.fields.insert(name, None)),
                Some(hits) => hits.into_iter().for_each(|(value, more)| {
                    self.add(&name, &value, more, bounds);
                }),
            }
        }
    }

    /// The answer, by the fields' names.
    fn facets(self, request: &FacetsRequest) -> Vec<Facet> {
        let limit = request.records.limit.unwrap_or(VALUES_DEFAULT);
        let rows = self.rows;
        let is_const = |hits: &Hits| hits.len() == 1 && hits.values().all(|count| *count == rows);
        let kept = self.fields.into_iter().filter_map(|(field, hits)| {
            let hits = hits.filter(|hits| !hits.is_empty())?;
            (request.keep_const_fields || !is_const(&hits)).then_some((field, hits))
        });
        kept.map(|(field, hits)| Facet { field, values: ranked(hits, Some(limit)) }).collect()
    }
}

/// About the bytes that a counted value takes.
fn value_bytes(value: &str) -> usize {
    value.len() + 64
}

fn bytes_of(hits: &Hits) -> usize {
    hits.keys().map(|value| value_bytes(value)).sum()
}

fn bounds(request: &FacetsRequest) -> Bounds {
    let FacetsRequest { values_max, value_bytes_max, .. } = *request;
    Bounds { values_max, value_bytes_max }
}

/// A part's counts, and its memory.
struct Part {
    counted: Counted,
    reservation: MemoryReservation,
}

/// The facets of the records that `source` selects.
pub(crate) async fn facets(
    runtime: &Handle,
    admitted: &Admitted,
    source: Source,
    request: &FacetsRequest,
) -> Result<Vec<Facet>, QueryError> {
    let bounds = bounds(request);
    let stored = source.snapshot.schema();
    let names = stored.fields().iter().map(|field| field.name().as_str());
    let mut names: Vec<&str> = names.filter(|name| *name != field::OVERFLOW).collect();
    names.push(field::STREAM_ID);
    names.truncate(FIELDS_MAX);
    let live: Arc<[AtomicBool]> = names.iter().map(|_| AtomicBool::new(true)).collect();
    let mut wanted = Wanted::of(Columns::Named(vec![field::OVERFLOW.to_owned()]));
    wanted.groups = names.iter().map(|name| TextOf::field(*name)).collect();
    wanted.live = Some(Arc::clone(&live));
    let names: Arc<[String]> = names.into_iter().map(str::to_owned).collect();
    let step = move |part: &mut Part, found: &Found| {
        let counted = &mut part.counted;
        counted.rows += found.rows as u64;
        for (place, (name, groups)) in names.iter().zip(&found.groups).enumerate() {
            let is_live = live.get(place).is_some_and(|live| live.load(Ordering::Relaxed));
            if (!is_live || !add_groups(counted, name, groups, bounds))
                && let Some(live) = live.get(place)
            {
                counted.fields.insert(name.clone(), None);
                live.store(false, Ordering::Relaxed);
            }
        }
        if let Some(spilled) = found.batch.column_by_name(field::OVERFLOW) {
            for row in 0..spilled.len() {
                if let Some(text) = schema::value_text(spilled, row) {
                    // What has a column somewhere was found by its name.
                    counted.spilled(&text, bounds, |name| names.iter().any(|n| n == name));
                }
            }
        }
        part.reservation.try_resize(counted.bytes).map_err(QueryError::from)
    };
    let (partitions, pool) = (admitted.partitions, admitted.memory());
    let work = async move {
        let start = || {
            let reservation = MemoryConsumer::new("values of fields").register(&pool);
            Ok(Part { counted: Counted::default(), reservation })
        };
        let parts = fold(&source, partitions, &pool, &wanted, start, step).await?;
        let mut whole = Counted::default();
        parts.into_iter().for_each(|part| whole.merge(part.counted, bounds));
        Ok(whole)
    };
    let counted = on_runtime(runtime, &admitted.control, work).await?;
    Ok(counted.facets(request))
}

/// The pipe that counts the values of records which pipes made.
pub(crate) fn counting(request: &FacetsRequest) -> Pipe {
    Pipe::Facets(FacetsPipe {
        limit: request.records.limit.unwrap_or(VALUES_DEFAULT) as u64,
        values_per_field_max: request.values_max as u64,
        value_len_max: request.value_bytes_max as u64,
        keep_const_fields: request.keep_const_fields,
    })
}

/// From the rows of [`counting`]: the values of a field are one after the other.
pub(crate) fn made(rows: &[RecordBatch]) -> Vec<Facet> {
    let mut facets: Vec<Facet> = Vec::new();
    for batch in rows {
        let text = |name: &str| batch.column_by_name(name).and_then(|c| c.as_string_opt::<i32>());
        let hits = batch.column_by_name("hits").and_then(|c| c.as_primitive_opt::<Int64Type>());
        let (Some(fields), Some(values), Some(hits)) =
            (text("field_name"), text("field_value"), hits)
        else {
            continue;
        };
        for ((name, value), hits) in fields.iter().zip(values).zip(hits.values()) {
            let (name, value) = (name.unwrap_or_default(), value.unwrap_or_default().to_owned());
            if facets.last().is_none_or(|last| last.field != name) {
                facets.push(Facet { field: name.to_owned(), values: Vec::new() });
            }
            if let Some(facet) = facets.last_mut() {
                facet.values.push(ValueHits { value, hits: hits.cast_unsigned() });
            }
        }
    }
    facets
}

/// Counts a block's values of a field; whether the field is still looked at.
fn add_groups(counted: &mut Counted, name: &str, groups: &Groups, bounds: Bounds) -> bool {
    let mut hits = vec![0u64; groups.values.len()];
    for code in &groups.codes {
        if let Some(count) = hits.get_mut(*code as usize) {
            *count += 1;
        }
    }
    let values = groups.values.iter().zip(hits).filter(|(_, hits)| *hits > 0);
    values
        .into_iter()
        .all(|(value, hits)| value.is_none_or(|value| counted.add(name, value, hits, bounds)))
}
