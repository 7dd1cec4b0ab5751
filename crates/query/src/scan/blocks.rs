//! What each field takes in each block with matching records, and how it is stored: `block_stats`.
//!
//! Invariants:
//! - only blocks with a record that matches are told of;
//! - the bytes of a field add up over a segment's blocks to what it takes in the segment.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::physical_plan::SendableRecordBatchStream;
use futures::StreamExt;
use lodge_record::schema;
use lodge_segment::predicate::{Predicate, Verdict};
use lodge_store::{FieldUse, SegmentRef};

use super::reader::arrow_error;
use super::{Opened, Source};
use crate::error::QueryError;
use crate::logsql::{FieldPattern, Pipe};
use crate::stage::{Batches, Stage};

/// What stands for the kind and the place of fields that pipes made.
const MADE: &str = "inmemory";

/// The columns of the answer.
fn columns() -> SchemaRef {
    let text = |name| Field::new(name, DataType::Utf8, true);
    let number = |name| Field::new(name, DataType::Int64, true);
    Arc::new(Schema::new(vec![
        text("field"),
        number("rows"),
        text("type"),
        number("values_bytes"),
        number("bloom_bytes"),
        number("dict_bytes"),
        number("dict_items"),
        text("part_path"),
    ]))
}

/// Rows of the answer that are put together.
#[derive(Default)]
struct Told {
    names: Vec<String>,
    kinds: Vec<&'static str>,
    paths: Vec<Arc<str>>,
    numbers: [Vec<i64>; 5],
}

impl Told {
    fn add(&mut self, name: &str, rows: usize, field: &FieldUse, path: &Arc<str>) {
        self.names.push(name.to_owned());
        self.kinds.push(field.kind);
        self.paths.push(Arc::clone(path));
        let FieldUse { values_bytes, filter_bytes, dictionary_bytes, dictionary_items, .. } = field;
        let numbers =
            [rows as u64, *values_bytes, *filter_bytes, *dictionary_bytes, *dictionary_items];
        for (column, number) in self.numbers.iter_mut().zip(numbers) {
            column.push(i64::try_from(number).unwrap_or(i64::MAX));
        }
    }

    fn batch(self) -> Result<RecordBatch, QueryError> {
        let [rows, values, filters, dictionaries, items] =
            self.numbers.map(|numbers| Arc::new(Int64Array::from(numbers)) as ArrayRef);
        let paths = self.paths.iter().map(|path| path.as_ref());
        let columns = vec![
            Arc::new(StringArray::from(self.names)) as ArrayRef,
            rows,
            Arc::new(StringArray::from(self.kinds)),
            values,
            filters,
            dictionaries,
            items,
            Arc::new(StringArray::from_iter_values(paths)),
        ];
        RecordBatch::try_new(self::columns(), columns).map_err(arrow_error)
    }
}

/// The leaf that tells of stored blocks.
#[derive(Debug)]
pub(crate) struct StoredBlocks {
    source: Source,
    /// `fields` and `delete` pipes, in their order.
    chosen: Vec<Pipe>,
}

impl StoredBlocks {
    /// What the first `block_stats` of `pipes` tells of, and where it stands, if what comes before it
    /// chooses among stored records and fields alone. Who may see some records only is not told what
    /// others take.
    pub(crate) fn of(source: &Source, pipes: &[Pipe]) -> Option<(usize, Self)> {
        let place = pipes.iter().position(|pipe| matches!(pipe, Pipe::BlockStats))?;
        if *source.reach.view() != Predicate::All {
            return None;
        }
        let (mut filters, mut chosen) = (Vec::new(), Vec::new());
        for pipe in pipes.iter().take(place) {
            match pipe {
                Pipe::Filter(filter) if chosen.is_empty() => filters.push(filter.clone()),
                Pipe::Fields(_) | Pipe::Delete(_) => chosen.push(pipe.clone()),
                _ => return None,
            }
        }
        let source = source.narrowed(Predicate::and(filters));
        Some((place, Self { source, chosen }))
    }

    fn is_chosen(&self, name: &str) -> bool {
        let among = |patterns: &[FieldPattern]| patterns.iter().any(|p| p.matches(name));
        self.chosen.iter().all(|pipe| match pipe {
            Pipe::Fields(patterns) => among(patterns),
            Pipe::Delete(patterns) => !among(patterns),
            _ => true,
        })
    }

    /// What the fields take in the blocks of a segment.
    async fn told(&self, segment: &Arc<SegmentRef>) -> Result<Option<RecordBatch>, QueryError> {
        let opened = Opened::of(&self.source, segment).await?;
        if opened.prepared.verdict() == Verdict::None {
            return Ok(None);
        }
        let mut told = Told::default();
        let control = &self.source.control;
        for block in 0..opened.segment.blocks().len() {
            if opened.charge(block, control)?.is_none() {
                continue;
            }
            let rows = opened.segment.select(&opened.prepared, block, None).await?.count();
            if rows == 0 {
                continue;
            }
            control.find(rows);
            let names = opened.segment.schema().fields().iter().map(|field| field.name());
            for name in names.filter(|name| self.is_chosen(name)) {
                if let Some(field) = opened.segment.field_use(block, name).await? {
                    told.add(name, rows, &field, segment.object_key());
                }
            }
        }
        told.batch().map(|batch| (batch.num_rows() > 0).then_some(batch))
    }
}

impl Stage for StoredBlocks {
    fn name(&self) -> &'static str {
        "BlockStats"
    }

    fn output(&self) -> SchemaRef {
        columns()
    }

    fn run(self: Arc<Self>, _: Vec<SendableRecordBatchStream>, _: MemoryReservation) -> Batches {
        let segments = self.source.segments().into_iter();
        let batches = futures::stream::try_unfold(segments, move |mut segments| {
            let blocks = Arc::clone(&self);
            async move {
                while blocks.source.control.proceed().map_err(DataFusionError::from)?
                    && let Some((segment, _)) = segments.next()
                {
                    let told = blocks.told(&segment).await.map_err(DataFusionError::from)?;
                    if let Some(batch) = told {
                        return Ok(Some((batch, segments)));
                    }
                }
                Ok::<_, DataFusionError>(None)
            }
        });
        batches.boxed()
    }
}

/// The same of rows that pipes made, batch by batch: what the fields take as texts.
#[derive(Debug)]
pub(crate) struct MadeBlocks;

impl Stage for MadeBlocks {
    fn name(&self) -> &'static str {
        "BlockStats"
    }

    fn output(&self) -> SchemaRef {
        columns()
    }

    fn run(
        self: Arc<Self>,
        inputs: Vec<SendableRecordBatchStream>,
        _: MemoryReservation,
    ) -> Batches {
        let told = |batch: Result<RecordBatch>| {
            let batch = batch?;
            let (mut told, place) = (Told::default(), Arc::from(MADE));
            let rows = batch.num_rows();
            for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
                let lengths = (0..rows).filter_map(|row| schema::value_text(column, row));
                let values_bytes = lengths.map(|text| text.len() as u64).sum();
                let taken = FieldUse {
                    kind: MADE,
                    values_bytes,
                    filter_bytes: 0,
                    dictionary_bytes: 0,
                    dictionary_items: 0,
                };
                told.add(field.name(), rows, &taken, &place);
            }
            Ok(told.batch()?)
        };
        let filled = |batch: &Result<RecordBatch>| {
            futures::future::ready(batch.as_ref().map_or(true, |batch| batch.num_rows() > 0))
        };
        futures::stream::iter(inputs).flatten().filter(filled).map(told).boxed()
    }
}
