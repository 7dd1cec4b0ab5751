//! Rows with what another query finds for the same values: `join`.
//!
//! The other query's rows are held whole, as one batch; those of the input stream by.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatchOptions, StringBuilder, UInt32Array, new_null_array};
use arrow::compute::{concat_batches, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::physical_plan::SendableRecordBatchStream;
use futures::StreamExt;
use lodge_record::{field, overflow, schema};

use super::{Batches, Stage, failed, not_put_together};
use crate::error::{QueryError, QueryErrorKind};
use crate::logsql::JoinPipe;
use crate::transform::{Later, Record, columns_of};

/// Most rows of the other query.
const JOINED_ROWS_MAX: usize = 1_000_000;
/// Rows of a batch that leaves.
const BATCH_ROWS: usize = 8_192;
/// What a row of the other query takes in memory beside its values.
const ROW_BYTES: usize = 64;

/// Adds fields of the second input to the rows of the first one.
#[derive(Debug)]
pub(crate) struct Join {
    by: Vec<String>,
    prefix: String,
    is_inner: bool,
    output: SchemaRef,
    /// Each column of the output, and what its name was in the second input.
    columns: Vec<Origin>,
}

/// Where the values of a column are from.
#[derive(Debug, Clone)]
enum Origin {
    /// The first input alone.
    Left,
    /// A column of the second input alone.
    Right(String),
    /// The first input if it has one, else the second one, under this name.
    Either(String),
    /// The fields without a column of both.
    Spilled,
}

impl Join {
    /// Over inputs with these columns; `later` is what is looked at behind it.
    pub(crate) fn new(pipe: &JoinPipe, left: &SchemaRef, right: &SchemaRef, later: &Later) -> Self {
        let has_rest = |schema: &SchemaRef| schema.index_of(field::OVERFLOW).is_ok();
        let mut fields: Vec<Field> = Vec::new();
        let mut columns = Vec::new();
        let joins = |name: &str| name != field::OVERFLOW && !pipe.by.iter().any(|by| by == name);
        for known in left.fields().iter().filter(|known| known.name() != field::OVERFLOW) {
            let own = known.name().strip_prefix(pipe.prefix.as_str());
            let own = own.filter(|own| joins(own));
            let other = own.filter(|own| right.index_of(own).is_ok() || has_rest(right));
            match other {
                Some(own) => {
                    fields.push(Field::new(known.name(), DataType::Utf8, true));
                    columns.push(Origin::Either(own.to_owned()));
                }
                None => {
                    fields.push(known.as_ref().clone());
                    columns.push(Origin::Left);
                }
            }
        }
        let found: Vec<&str> = right.fields().iter().map(|f| f.name().as_str()).collect();
        for own in found.into_iter().filter(|own| joins(own)) {
            let name = format!("{}{own}", pipe.prefix);
            if left.index_of(&name).is_ok() {
                continue;
            }
            let kind = match right.field_with_name(own) {
                Ok(known) if !has_rest(left) => known.data_type().clone(),
                _ => DataType::Utf8,
            };
            fields.push(Field::new(name, kind, true));
            columns.push(match has_rest(left) {
                true => Origin::Either(own.to_owned()),
                false => Origin::Right(own.to_owned()),
            });
        }
        if later.all && (has_rest(left) || has_rest(right)) {
            fields.push(Field::new(field::OVERFLOW, DataType::Utf8, true));
            columns.push(Origin::Spilled);
        }
        Self {
            by: pipe.by.clone(),
            prefix: pipe.prefix.clone(),
            is_inner: pipe.is_inner,
            output: Arc::new(Schema::new(fields)),
            columns,
        }
    }

    /// The values that have to be the same, as one text.
    fn key(&self, record: Record<'_>) -> String {
        let mut key = String::new();
        for name in &self.by {
            let value = record.value(name);
            // Lengths in front keep ("ab", "c") and ("a", "bc") apart.
            key.push_str(&value.len().to_string());
            key.push(':');
            key.push_str(&value);
        }
        key
    }

    /// All rows of the second input, and where each key is.
    async fn index(
        &self,
        mut rows: SendableRecordBatchStream,
        memory: &mut MemoryReservation,
    ) -> Result<Index> {
        let schema = rows.schema();
        let (mut batches, mut count) = (Vec::new(), 0);
        while let Some(batch) = rows.next().await {
            let batch = batch?;
            count += batch.num_rows();
            if count > JOINED_ROWS_MAX {
                return Err(failed(QueryError::new(
                    QueryErrorKind::BudgetMemory,
                    format!(
                        "the query in `| join` gives more than {JOINED_ROWS_MAX} rows, the most \
                         that are held; narrow it with filters, `| fields …`, `| uniq …` or \
                         `| stats by (…)`"
                    ),
                )));
            }
            // Once as it came and once put together.
            memory.try_grow(batch.get_array_memory_size() * 2 + batch.num_rows() * ROW_BYTES)?;
            batches.push(batch);
        }
        let batch = concat_batches(&schema, &batches).map_err(not_put_together)?;
        let columns = columns_of(&batch);
        let mut places: HashMap<String, Vec<u32>> = HashMap::new();
        for row in 0..batch.num_rows() {
            let key = self.key(Record { batch: &batch, columns: &columns, row });
            memory.try_grow(key.len())?;
            places.entry(key).or_default().push(row as u32);
        }
        Ok(Index { batch, columns, places })
    }

    /// The rows of `pairs`, each of the first input with one of the second one or none.
    fn joined(
        &self,
        left: &Left,
        right: &Index,
        pairs: &[(u32, Option<u32>)],
    ) -> Result<RecordBatch> {
        let lefts = UInt32Array::from_iter_values(pairs.iter().map(|(left, _)| *left));
        let rights: UInt32Array = pairs.iter().map(|(_, right)| *right).collect();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        for (wanted, origin) in self.output.fields().iter().zip(&self.columns) {
            let kind = wanted.data_type();
            let column = match origin {
                Origin::Left => {
                    left.batch.column_by_name(wanted.name()).map(|c| take(c, &lefts, None))
                }
                Origin::Right(own) => {
                    right.batch.column_by_name(own).map(|c| take(c, &rights, None))
                }
                Origin::Either(own) => {
                    Some(Ok(self.either(left, right, pairs, wanted.name(), own)))
                }
                Origin::Spilled => Some(Ok(self.spilled(left, right, pairs))),
            };
            let column = match column {
                Some(column) => column.map_err(not_put_together)?,
                None => new_null_array(kind, pairs.len()),
            };
            columns.push(schema::cast_to(&column, kind).map_err(not_put_together)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(pairs.len()));
        RecordBatch::try_new_with_options(Arc::clone(&self.output), columns, &options)
            .map_err(not_put_together)
    }

    fn either(
        &self,
        left: &Left,
        right: &Index,
        pairs: &[(u32, Option<u32>)],
        name: &str,
        own: &str,
    ) -> ArrayRef {
        let mut out = StringBuilder::new();
        for (row, other) in pairs {
            let value = left.record(*row).value(name);
            if !value.is_empty() {
                out.append_value(value);
                continue;
            }
            let value = other.map(|row| right.record(row).value(own));
            out.append_option(value.filter(|value| !value.is_empty()));
        }
        Arc::new(out.finish())
    }

    fn spilled(&self, left: &Left, right: &Index, pairs: &[(u32, Option<u32>)]) -> ArrayRef {
        let mut out = StringBuilder::new();
        for (row, other) in pairs {
            let mut text = String::new();
            let record = left.record(*row);
            if let Some(spilled) = record.spilled() {
                overflow::for_each(spilled, |name, value| {
                    if self.output.index_of(name).is_err() {
                        overflow::append(&mut text, name, value);
                    }
                });
            }
            if let Some(spilled) = other.and_then(|row| right.record(row).spilled()) {
                overflow::for_each(spilled, |own, value| {
                    let name = format!("{}{own}", self.prefix);
                    let is_key = self.by.iter().any(|by| by == own);
                    let is_new = !is_key && self.output.index_of(&name).is_err();
                    if is_new && record.value(&name).is_empty() {
                        overflow::append(&mut text, &name, value);
                    }
                });
            }
            overflow::close(&mut text);
            out.append_option((!text.is_empty()).then_some(text));
        }
        Arc::new(out.finish())
    }
}

impl Stage for Join {
    fn name(&self) -> &'static str {
        "Join"
    }

    fn output(&self) -> SchemaRef {
        Arc::clone(&self.output)
    }

    fn run(
        self: Arc<Self>,
        inputs: Vec<SendableRecordBatchStream>,
        memory: MemoryReservation,
    ) -> Batches {
        let mut inputs = inputs.into_iter();
        let (Some(rows), Some(others)) = (inputs.next(), inputs.next()) else {
            return futures::stream::empty().boxed();
        };
        let joining =
            Joining { join: self, rows, others: Some(others), index: None, left: None, memory };
        futures::stream::try_unfold(joining, |mut joining| async move {
            let batch = joining.next().await?;
            Ok(batch.map(|batch| (batch, joining)))
        })
        .boxed()
    }
}

/// The rows of the second input.
struct Index {
    batch: RecordBatch,
    columns: HashMap<String, usize>,
    /// Rows by their keys.
    places: HashMap<String, Vec<u32>>,
}

impl Index {
    fn record(&self, row: u32) -> Record<'_> {
        Record { batch: &self.batch, columns: &self.columns, row: row as usize }
    }
}

/// A batch of the first input on its way through.
struct Left {
    batch: RecordBatch,
    columns: HashMap<String, usize>,
    row: u32,
    /// Rows of the second input that have been given for the row in hand.
    given: usize,
}

impl Left {
    fn record(&self, row: u32) -> Record<'_> {
        Record { batch: &self.batch, columns: &self.columns, row: row as usize }
    }

    /// The next pairs, so many at most.
    fn pairs(&mut self, join: &Join, index: &Index) -> Vec<(u32, Option<u32>)> {
        let mut pairs = Vec::new();
        while (self.row as usize) < self.batch.num_rows() && pairs.len() < BATCH_ROWS {
            let found = index.places.get(&join.key(self.record(self.row)));
            match found {
                Some(found) => {
                    let left = BATCH_ROWS - pairs.len();
                    let more = found.iter().skip(self.given).take(left);
                    let before = pairs.len();
                    pairs.extend(more.map(|other| (self.row, Some(*other))));
                    self.given += pairs.len() - before;
                    if self.given < found.len() {
                        break;
                    }
                }
                None if !join.is_inner => pairs.push((self.row, None)),
                None => {}
            }
            self.given = 0;
            self.row += 1;
        }
        pairs
    }
}

struct Joining {
    join: Arc<Join>,
    rows: SendableRecordBatchStream,
    others: Option<SendableRecordBatchStream>,
    index: Option<Index>,
    left: Option<Left>,
    memory: MemoryReservation,
}

impl Joining {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        if let Some(others) = self.others.take() {
            self.index = Some(self.join.index(others, &mut self.memory).await?);
        }
        let Some(index) = &self.index else { return Ok(None) };
        loop {
            if let Some(left) = &mut self.left {
                let pairs = left.pairs(&self.join, index);
                if !pairs.is_empty() {
                    // One row may have many partners.
                    tokio::task::yield_now().await;
                    return self.join.joined(left, index, &pairs).map(Some);
                }
                self.left = None;
            }
            match self.rows.next().await {
                Some(batch) => {
                    let batch = batch?;
                    let columns = columns_of(&batch);
                    self.left = Some(Left { batch, columns, row: 0, given: 0 });
                }
                None => return Ok(None),
            }
        }
    }
}
