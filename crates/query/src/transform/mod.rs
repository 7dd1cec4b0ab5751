//! The pipes that make fields of fields, on batches of records of any shape.
//!
//! ```text
//!  batch ─► condition ─► record by record: Writes ─► columns, and the rest into `_overflow` ─► batch
//! ```
//!
//! Invariants:
//! - a value is its one text form, wherever it is stored; what a pipe makes is text;
//! - a field that a pipe may make by any name is a column if the plan has one of that name, else it
//!   is in `_overflow`: it is found under its name either way;
//! - `_time` stays a time: a value that is none does not replace it, unless a pipe names it;
//! - batches leave in pieces of at most [`ROWS_MAX`] records and about [`BYTES_MAX`] bytes, however
//!   many records one becomes;
//! - a value that grows beyond its limit is an error that names the limit, never a cut value.

mod apply;
mod collapse;
mod extract;
mod format;
mod json;
mod logfmt;
mod math;
mod pack;
mod piece;
mod record;
mod syslog;
mod text;
mod unpack;
mod writes;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::physical_plan::SendableRecordBatchStream;
use futures::StreamExt;
use lodge_record::field;
use lodge_segment::predicate::evaluate;

pub(crate) use record::{Record, columns_of};

use crate::error::QueryError;
use crate::logsql::{Targets, Transform, TransformPipe};
use crate::stage::{Batches, Stage};
use piece::Piece;
use writes::Writes;

/// Most records of a batch that leaves.
const ROWS_MAX: usize = 8_192;
/// About how many bytes of new values a batch that leaves has at most.
const BYTES_MAX: usize = 4 << 20;
/// Most records that are made at once of a batch that does not stream.
const WHOLE_ROWS_MAX: usize = 1_000_000;

/// What the pipes behind a pipe look at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Later {
    /// Fields that they name, or make by name: each gets a column.
    pub(crate) named: BTreeSet<String>,
    /// Whether they see the fields that they do not name, too.
    pub(crate) all: bool,
}

/// One pipe over records of one shape.
#[derive(Debug)]
pub(crate) struct Step {
    pipe: TransformPipe,
    output: SchemaRef,
    /// Columns of the output that the pipe may write, and their places.
    slots: HashMap<String, usize>,
    /// Where `_overflow` is in the output.
    spilled: Option<usize>,
}

impl Step {
    /// `pipe` over records of the shape `input`.
    pub(crate) fn new(pipe: &TransformPipe, input: &SchemaRef, later: &Later) -> Self {
        let targets = pipe.targets();
        let is_open = targets == Targets::Any;
        let mut fields: Vec<Field> = Vec::new();
        let mut slots = HashMap::new();
        let is_target = |name: &str| match &targets {
            Targets::Named(names) => names.iter().any(|known| known == name),
            Targets::Any => name != field::OVERFLOW,
        };
        for known in input.fields() {
            let name = known.name();
            let is_written = is_target(name);
            let stays = !is_written || (name == field::TIME && pipe.keeps_times());
            let kind = if stays { known.data_type().clone() } else { DataType::Utf8 };
            if is_written {
                slots.insert(name.clone(), fields.len());
            }
            fields.push(Field::new(name, kind, known.is_nullable() || is_written));
        }
        let made: Vec<&String> = match &targets {
            Targets::Named(names) => names.iter().collect(),
            Targets::Any => later.named.iter().filter(|name| *name != field::OVERFLOW).collect(),
        };
        // The stream's number follows from the stream where it is no column.
        let follows = |name: &&String| {
            name.as_str() == field::STREAM_ID && matches!(pipe.work, Transform::SetStreamFields(_))
        };
        for name in made.into_iter().filter(|name| !follows(name)) {
            if input.index_of(name).is_err() && !slots.contains_key(name) {
                slots.insert(name.clone(), fields.len());
                fields.push(Field::new(name, DataType::Utf8, true));
            }
        }
        if is_open && later.all && input.index_of(field::OVERFLOW).is_err() {
            fields.push(Field::new(field::OVERFLOW, DataType::Utf8, true));
        }
        let output = Arc::new(Schema::new(fields));
        let spilled = output.index_of(field::OVERFLOW).ok();
        Self { pipe: pipe.clone(), output, slots, spilled }
    }

    /// All of what becomes of a batch.
    pub(crate) fn whole(
        self: &Arc<Self>,
        batch: &RecordBatch,
    ) -> Result<Vec<RecordBatch>, QueryError> {
        let mut pieces = Vec::new();
        let mut walk = Walk::new(self, batch.clone());
        let mut rows = 0;
        while let Some(piece) = walk.next()? {
            rows += piece.num_rows();
            if rows > WHOLE_ROWS_MAX {
                return Err(QueryError::invalid(format!(
                    "`| {}` makes more than {WHOLE_ROWS_MAX} records of those that came together; \
                     filter more before it",
                    self.pipe.name()
                )));
            }
            pieces.push(piece);
        }
        Ok(pieces)
    }
}

impl Stage for Step {
    fn name(&self) -> &'static str {
        self.pipe.name()
    }

    fn output(&self) -> SchemaRef {
        Arc::clone(&self.output)
    }

    fn is_divisible(&self) -> bool {
        true
    }

    fn run(
        self: Arc<Self>,
        inputs: Vec<SendableRecordBatchStream>,
        memory: MemoryReservation,
    ) -> Batches {
        let rows = futures::stream::iter(inputs).flatten().boxed();
        let running = Running { step: self, rows, walk: None, memory };
        futures::stream::try_unfold(running, |mut running| async move {
            let piece = running.next().await?;
            Ok(piece.map(|piece| (piece, running)))
        })
        .boxed()
    }
}

/// A step on its way through its input.
struct Running {
    step: Arc<Step>,
    rows: Batches,
    walk: Option<Walk>,
    memory: MemoryReservation,
}

impl Running {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(walk) = &mut self.walk {
                if let Some(piece) = walk.next()? {
                    // The batch is that of whom it came from until the next one is asked for; what is
                    // made of it is ours, and one record may become many pieces.
                    self.memory.try_resize(piece.get_array_memory_size())?;
                    if walk.given > 0 {
                        tokio::task::yield_now().await;
                    }
                    return Ok(Some(piece));
                }
                self.walk = None;
            }
            match self.rows.next().await {
                Some(batch) => self.walk = Some(Walk::new(&self.step, batch?)),
                None => return Ok(None),
            }
        }
    }
}

/// A batch on its way through a step.
struct Walk {
    step: Arc<Step>,
    batch: RecordBatch,
    columns: HashMap<String, usize>,
    selected: Option<BooleanArray>,
    row: usize,
    /// Records of the row in hand that have left already, where it becomes several.
    given: usize,
    /// The items of the row in hand, where it becomes several.
    lists: Vec<Vec<String>>,
}

impl Walk {
    fn new(step: &Arc<Step>, batch: RecordBatch) -> Self {
        let columns = columns_of(&batch);
        let selected = step.pipe.condition.as_ref().map(|condition| evaluate(condition, &batch));
        let step = Arc::clone(step);
        Self { step, batch, columns, selected, row: 0, given: 0, lists: Vec::new() }
    }

    /// The next piece; `None` at the end.
    fn next(&mut self) -> Result<Option<RecordBatch>, QueryError> {
        let step = Arc::clone(&self.step);
        let mut piece = Piece::new(&step, &self.batch, &self.columns);
        let mut writes = Writes::default();
        let rows = self.batch.num_rows();
        while self.row < rows && !piece.is_full() {
            let is_selected = self.selected.as_ref().is_none_or(|rows| rows.value(self.row));
            let record = Record { batch: &self.batch, columns: &self.columns, row: self.row };
            writes.clear();
            match &step.pipe.work {
                Transform::Sample(every) => {
                    if rand::random_range(0..*every) == 0 {
                        piece.add(record, &writes);
                    }
                }
                Transform::DropEmptyFields => {
                    let mut is_any = false;
                    record.each(|_, _| is_any = true);
                    if is_any {
                        piece.add(record, &writes);
                    }
                }
                Transform::Unroll(fields) if is_selected => {
                    if self.given == 0 {
                        let items = |name: &String| json::items(&record.value(name));
                        self.lists = fields.iter().map(items).collect::<Result<_, _>>()?;
                    }
                    let total = self.lists.iter().map(Vec::len).max().unwrap_or(0).max(1);
                    while self.given < total && !piece.is_full() {
                        writes.clear();
                        for (name, list) in fields.iter().zip(&self.lists) {
                            writes.set(name, list.get(self.given).map_or("", String::as_str));
                        }
                        writes.check(step.pipe.name())?;
                        piece.add(record, &writes);
                        self.given += 1;
                    }
                    if self.given < total {
                        // The next piece goes on with this record.
                        break;
                    }
                    self.given = 0;
                    self.lists.clear();
                }
                work => {
                    if is_selected {
                        apply::apply(work, record, &mut writes);
                        writes.check(step.pipe.name())?;
                    }
                    piece.add(record, &writes);
                }
            }
            self.row += 1;
        }
        if piece.is_empty() {
            return Ok(None);
        }
        piece.finish().map(Some)
    }
}
