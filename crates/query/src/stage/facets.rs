//! The most frequent values of every field: `facets`.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::physical_plan::SendableRecordBatchStream;
use futures::StreamExt;
use hashbrown::HashMap;
use lodge_record::{field, overflow, schema};

use super::{Batches, Stage, failed, not_put_together};
use crate::error::{QueryError, QueryErrorKind};
use crate::logsql::FacetsPipe;

/// Most fields whose values are counted.
const FIELDS_MAX: usize = 100_000;
/// What a counted value takes in memory beside its text.
const VALUE_BYTES: usize = 64;

/// Counts the values of every field.
#[derive(Debug)]
pub(crate) struct Facets(pub(crate) FacetsPipe);

impl Stage for Facets {
    fn name(&self) -> &'static str {
        "Facets"
    }

    fn output(&self) -> SchemaRef {
        let text = |name| Field::new(name, DataType::Utf8, true);
        let hits = Field::new("hits", DataType::Int64, true);
        Arc::new(Schema::new(vec![text("field_name"), text("field_value"), hits]))
    }

    fn run(
        self: Arc<Self>,
        inputs: Vec<SendableRecordBatchStream>,
        memory: MemoryReservation,
    ) -> Batches {
        let counted = async move {
            let mut counts = Counts { memory, rows: 0, fields: BTreeMap::new() };
            let mut rows = futures::stream::iter(inputs).flatten();
            while let Some(batch) = rows.next().await {
                counts.add(&batch?, &self.0)?;
            }
            counts.finish(&self.0, self.output())
        };
        futures::stream::once(counted).boxed()
    }
}

/// The values of a field so far; `None` once they are too many or too long.
type Values = Option<HashMap<String, u64>>;

struct Counts {
    memory: MemoryReservation,
    rows: u64,
    fields: BTreeMap<String, Values>,
}

impl Counts {
    fn add(&mut self, batch: &RecordBatch, pipe: &FacetsPipe) -> Result<()> {
        self.rows += batch.num_rows() as u64;
        for (found, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            if found.name() == field::OVERFLOW {
                self.add_spilled(column, pipe)?;
                continue;
            }
            let known = self.field(found.name())?;
            let mut given = known.take();
            let held = add_column(&mut given, column, pipe);
            if let Some(known) = self.fields.get_mut(found.name()) {
                *known = given;
            }
            self.memory.try_grow(held)?;
        }
        Ok(())
    }

    fn add_spilled(&mut self, column: &ArrayRef, pipe: &FacetsPipe) -> Result<()> {
        let mut held = Ok(0);
        for row in 0..column.len() {
            let Some(text) = schema::value_text(column, row) else { continue };
            overflow::for_each(&text, |name, value| {
                if let Ok(bytes) = &mut held {
                    match self.field(name) {
                        Ok(values) => *bytes += add_value(values, value, 1, pipe),
                        Err(error) => held = Err(error),
                    }
                }
            });
        }
        self.memory.try_grow(held?)
    }

    fn field(&mut self, name: &str) -> Result<&mut Values> {
        if !self.fields.contains_key(name) {
            if self.fields.len() == FIELDS_MAX {
                return Err(failed(too_many_fields("facets", FIELDS_MAX)));
            }
            self.memory.try_grow(name.len() + VALUE_BYTES)?;
        }
        Ok(self.fields.entry(name.to_owned()).or_insert_with(|| Some(HashMap::new())))
    }

    /// By name, and of each field by falling hits.
    fn finish(self, pipe: &FacetsPipe, output: SchemaRef) -> Result<RecordBatch> {
        let (mut names, mut texts, mut counts) = (Vec::new(), Vec::new(), Vec::new());
        for (name, values) in self.fields {
            let mut values: Vec<(String, u64)> = values.unwrap_or_default().into_iter().collect();
            let is_constant = matches!(values.as_slice(), [(_, hits)] if *hits == self.rows);
            if is_constant && !pipe.keep_const_fields {
                continue;
            }
            values.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            values.truncate(usize::try_from(pipe.limit).unwrap_or(usize::MAX));
            for (value, hits) in values {
                names.push(name.clone());
                texts.push(value);
                counts.push(i64::try_from(hits).unwrap_or(i64::MAX));
            }
        }
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(names)),
            Arc::new(StringArray::from(texts)),
            Arc::new(Int64Array::from(counts)),
        ];
        RecordBatch::try_new(output, columns).map_err(not_put_together)
    }
}

pub(super) fn too_many_fields(pipe: &str, most: usize) -> QueryError {
    QueryError::new(
        QueryErrorKind::BudgetMemory,
        format!(
            "`| {pipe}` sees more than {most} different fields; put `| fields …` before it, or \
             narrow the time range"
        ),
    )
}

/// Counts a column's values that are not empty; gives the bytes that this takes more.
fn add_column(values: &mut Values, column: &ArrayRef, pipe: &FacetsPipe) -> usize {
    let mut held = 0;
    if let Some(dictionary) = column.as_dictionary_opt::<Int32Type>() {
        let mut codes = vec![0u64; dictionary.values().len()];
        for code in dictionary.keys().iter().flatten() {
            if let Some(count) = usize::try_from(code).ok().and_then(|code| codes.get_mut(code)) {
                *count += 1;
            }
        }
        for (code, hits) in codes.into_iter().enumerate().filter(|(_, hits)| *hits > 0) {
            let value = schema::value_text(dictionary.values(), code).unwrap_or_default();
            held += add_value(values, &value, hits, pipe);
        }
        return held;
    }
    for row in 0..column.len() {
        if values.is_none() {
            break;
        }
        if let Some(value) = schema::value_text(column, row) {
            held += add_value(values, &value, 1, pipe);
        }
    }
    held
}

fn add_value(values: &mut Values, value: &str, hits: u64, pipe: &FacetsPipe) -> usize {
    let Some(known) = values else { return 0 };
    if value.is_empty() {
        return 0;
    }
    if let Some(count) = known.get_mut(value) {
        *count += hits;
        return 0;
    }
    let is_too_much =
        value.len() as u64 > pipe.value_len_max || known.len() as u64 >= pipe.values_per_field_max;
    if is_too_much {
        *values = None;
        return 0;
    }
    known.insert(value.to_owned(), hits);
    value.len() + VALUE_BYTES
}
