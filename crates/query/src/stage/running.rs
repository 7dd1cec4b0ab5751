//! Results over the rows so far, or over all rows, beside each row: `running_stats`, `total_stats`.
//!
//! All rows are held, and leave in the order of their times.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Builder, Int64Builder, RecordBatchOptions, StringBuilder};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::physical_plan::SendableRecordBatchStream;
use futures::StreamExt;
use lodge_record::{field, time};
use lodge_segment::predicate::parse_number;

use super::{Batches, Stage, not_put_together};
use crate::logsql::{FieldPattern, RunningCall, RunningFunction, RunningPipe};
use crate::plan::sort_key;
use crate::transform::{Record, columns_of};

/// Rows of a batch that leaves.
const BATCH_ROWS: usize = 8_192;
/// What a row takes in memory beside its values: its place, twice.
const ROW_BYTES: usize = 64;
/// What a group takes in memory beside its values.
const GROUP_BYTES: usize = 128;

/// Adds results to rows.
#[derive(Debug)]
pub(crate) struct Running {
    pipe: RunningPipe,
    output: SchemaRef,
}

impl Running {
    /// Over rows with these columns.
    pub(crate) fn new(pipe: RunningPipe, input: &SchemaRef) -> Self {
        let is_made = |name: &str| pipe.calls.iter().any(|call| call.name == name);
        let kept = input.fields().iter().filter(|known| !is_made(known.name()));
        let mut fields: Vec<Field> = kept.map(|known| known.as_ref().clone()).collect();
        for call in &pipe.calls {
            let kind = match call.function {
                RunningFunction::Count => DataType::Int64,
                RunningFunction::Sum => DataType::Float64,
                RunningFunction::Min | RunningFunction::Max => DataType::Utf8,
            };
            // Of two results of one name the last one counts.
            fields.retain(|known| *known.name() != call.name);
            fields.push(Field::new(&call.name, kind, true));
        }
        Self { pipe, output: Arc::new(Schema::new(fields)) }
    }

    fn group(&self, record: Record<'_>) -> String {
        let mut group = String::new();
        for name in &self.pipe.by {
            let value = record.value(name);
            group.push_str(&value.len().to_string());
            group.push(':');
            group.push_str(&value);
        }
        group
    }
}

impl Stage for Running {
    fn name(&self) -> &'static str {
        if self.pipe.is_total { "TotalStats" } else { "RunningStats" }
    }

    fn output(&self) -> SchemaRef {
        Arc::clone(&self.output)
    }

    fn run(
        self: Arc<Self>,
        inputs: Vec<SendableRecordBatchStream>,
        memory: MemoryReservation,
    ) -> Batches {
        let gathering = Gathered::of(self, inputs, memory);
        futures::stream::once(gathering)
            .map(|gathered| match gathered {
                Ok(gathered) => gathered.batches(),
                Err(error) => futures::stream::iter([Err(error)]).boxed(),
            })
            .flatten()
            .boxed()
    }
}

/// All rows, and where the next batch begins.
struct Gathered {
    running: Arc<Running>,
    memory: MemoryReservation,
    batches: Vec<RecordBatch>,
    columns: Vec<HashMap<String, usize>>,
    /// Batch and row of each, by time.
    order: Vec<(usize, usize)>,
    groups: HashMap<String, Vec<Sum>>,
    next: usize,
}

impl Gathered {
    async fn of(
        running: Arc<Running>,
        inputs: Vec<SendableRecordBatchStream>,
        memory: MemoryReservation,
    ) -> Result<Self> {
        let mut gathered = Self {
            running,
            memory,
            batches: Vec::new(),
            columns: Vec::new(),
            order: Vec::new(),
            groups: HashMap::new(),
            next: 0,
        };
        let mut timed: Vec<(i64, usize, usize)> = Vec::new();
        let mut rows = futures::stream::iter(inputs).flatten();
        while let Some(batch) = rows.next().await {
            let batch = batch?;
            let held = batch.get_array_memory_size() + batch.num_rows() * ROW_BYTES;
            gathered.memory.try_grow(held)?;
            let columns = columns_of(&batch);
            for row in 0..batch.num_rows() {
                let record = Record { batch: &batch, columns: &columns, row };
                // Without times the order is that in which they come.
                let time_ns = time::parse(&record.value(field::TIME)).unwrap_or(i64::MIN);
                timed.push((time_ns, gathered.batches.len(), row));
            }
            gathered.batches.push(batch);
            gathered.columns.push(columns);
        }
        timed.sort_unstable();
        gathered.order = timed.into_iter().map(|(_, batch, row)| (batch, row)).collect();
        if gathered.running.pipe.is_total {
            for place in 0..gathered.order.len() {
                gathered.add(place)?;
            }
        }
        Ok(gathered)
    }

    fn record(&self, place: usize) -> Option<Record<'_>> {
        let (batch, row) = *self.order.get(place)?;
        Some(Record { batch: self.batches.get(batch)?, columns: self.columns.get(batch)?, row })
    }

    /// Adds the row at `place` to its group.
    fn add(&mut self, place: usize) -> Result<()> {
        let running = Arc::clone(&self.running);
        let (Some(&(batch, row)), calls) = (self.order.get(place), &running.pipe.calls) else {
            return Ok(());
        };
        let (Some(batch), Some(columns)) = (self.batches.get(batch), self.columns.get(batch))
        else {
            return Ok(());
        };
        let record = Record { batch, columns, row };
        let group = running.group(record);
        if !self.groups.contains_key(&group) {
            self.memory.try_grow(group.len() + calls.len() * GROUP_BYTES)?;
        }
        let sums = self
            .groups
            .entry(group)
            .or_insert_with(|| calls.iter().map(|call| Sum::of(call.function)).collect());
        for (sum, call) in sums.iter_mut().zip(calls) {
            sum.add(call, record);
        }
        Ok(())
    }

    fn batches(self) -> Batches {
        futures::stream::try_unfold(self, |mut gathered| async move {
            tokio::task::yield_now().await;
            let batch = gathered.batch()?;
            Ok(batch.map(|batch| (batch, gathered)))
        })
        .boxed()
    }

    fn batch(&mut self) -> Result<Option<RecordBatch>> {
        let end = self.order.len().min(self.next + BATCH_ROWS);
        if self.next == end {
            return Ok(None);
        }
        let running = Arc::clone(&self.running);
        let mut made: Vec<Made> =
            running.pipe.calls.iter().map(|call| Made::of(call.function)).collect();
        for place in self.next..end {
            if !running.pipe.is_total {
                self.add(place)?;
            }
            let Some(record) = self.record(place) else { continue };
            let Some(sums) = self.groups.get(&running.group(record)) else { continue };
            made.iter_mut().zip(sums).for_each(|(made, sum)| made.push(sum));
        }
        let order = self.order.get(self.next..end).unwrap_or_default();
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        let rows = interleave_record_batch(&batches, order).map_err(not_put_together)?;
        let count = end - self.next;
        self.next = end;
        let made: Vec<ArrayRef> = made.into_iter().map(Made::finish).collect();
        let columns = running.output.fields().iter().filter_map(|wanted| {
            let call = running.pipe.calls.iter().rposition(|call| call.name == *wanted.name());
            match call {
                Some(call) => made.get(call).cloned(),
                None => rows.column_by_name(wanted.name()).cloned(),
            }
        });
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let columns: Vec<ArrayRef> = columns.collect();
        RecordBatch::try_new_with_options(Arc::clone(&running.output), columns, &options)
            .map(Some)
            .map_err(not_put_together)
    }
}

/// A result so far.
#[derive(Debug)]
enum Sum {
    Count(i64),
    Total(Option<f64>),
    /// The value and what it is compared by; whether the greatest is looked for.
    Extreme(Option<(Vec<u8>, String)>, bool),
}

impl Sum {
    fn of(function: RunningFunction) -> Self {
        match function {
            RunningFunction::Count => Self::Count(0),
            RunningFunction::Sum => Self::Total(None),
            RunningFunction::Min => Self::Extreme(None, false),
            RunningFunction::Max => Self::Extreme(None, true),
        }
    }

    fn add(&mut self, call: &RunningCall, record: Record<'_>) {
        match self {
            Self::Count(count) => {
                let mut is_any = call.fields.is_empty();
                each_value(call, record, |_| is_any = true);
                *count += i64::from(is_any);
            }
            Self::Total(total) => each_value(call, record, |value| {
                if let Some(number) = parse_number(value) {
                    *total = Some(total.unwrap_or(0.0) + number);
                }
            }),
            Self::Extreme(known, is_greatest) => each_value(call, record, |value| {
                let key = sort_key(value);
                let is_better = known.as_ref().is_none_or(|(best, _)| match is_greatest {
                    true => key > *best,
                    false => key < *best,
                });
                if is_better {
                    *known = Some((key, value.to_owned()));
                }
            }),
        }
    }
}

/// Calls `each` for the values of a call's fields that are not empty.
fn each_value(call: &RunningCall, record: Record<'_>, mut each: impl FnMut(&str)) {
    let has_prefix = call.fields.iter().any(|field| matches!(field, FieldPattern::Prefix(_)));
    if has_prefix {
        return record.each(|name, value| {
            if call.fields.iter().any(|field| field.matches(name)) {
                each(value);
            }
        });
    }
    for field in &call.fields {
        if let FieldPattern::Name(name) = field {
            let value = record.value(name);
            if !value.is_empty() {
                each(&value);
            }
        }
    }
}

/// A column of results.
enum Made {
    Counts(Int64Builder),
    Totals(Float64Builder),
    Texts(StringBuilder),
}

impl Made {
    fn of(function: RunningFunction) -> Self {
        match function {
            RunningFunction::Count => Self::Counts(Int64Builder::new()),
            RunningFunction::Sum => Self::Totals(Float64Builder::new()),
            RunningFunction::Min | RunningFunction::Max => Self::Texts(StringBuilder::new()),
        }
    }

    fn push(&mut self, sum: &Sum) {
        match (self, sum) {
            (Self::Counts(counts), Sum::Count(count)) => counts.append_value(*count),
            // Without any number there is no sum.
            (Self::Totals(totals), Sum::Total(total)) => {
                totals.append_value(total.unwrap_or(f64::NAN))
            }
            (Self::Texts(texts), Sum::Extreme(best, _)) => {
                texts.append_option(best.as_ref().map(|(_, value)| value));
            }
            // Both were made of one call.
            _ => {}
        }
    }

    fn finish(self) -> ArrayRef {
        match self {
            Self::Counts(mut counts) => Arc::new(counts.finish()),
            Self::Totals(mut totals) => Arc::new(totals.finish()),
            Self::Texts(mut texts) => Arc::new(texts.finish()),
        }
    }
}
