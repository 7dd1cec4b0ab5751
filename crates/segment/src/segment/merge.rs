//! Segments made one, without the texts of what is stored as templates.
//!
//! ```text
//!  bytes ─ Source::open: all columns but texts as Arrow, texts as they are ─┐
//!  bytes ─ Source::open ────────────────────────────────────────────────────┴─ merge ─► one segment
//! ```
//!
//! Invariants: as for a segment that is built of the same records; where texts cannot be handed on as
//! they are, they are rebuilt.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Schema};
use bytes::Bytes;

use super::build::write;
use super::reader::{Segment, Stored, Values, ask};
use crate::SegmentError;
use crate::chunk::encode_error;
use crate::l0::TableInfo;
use crate::sections::Sections;
use crate::sources::Sources;
use crate::text::TextColumn;

/// Texts of fewer rows are rebuilt: templates learnt from so few are better learnt again.
const SPLIT_ROWS_MIN: usize = 32 << 10;

/// A segment that is to be merged, read and checked.
#[derive(Debug)]
pub struct Source {
    segment: Segment,
    /// All records; a text that stays split is the empty text here.
    batch: RecordBatch,
    /// The columns that stay split.
    split: Vec<(String, usize)>,
}

/// The texts of a field in some sources, where they stay split.
pub(super) type SplitTexts<'s> = Vec<Option<(&'s TextColumn, &'s Sections)>>;

/// By field.
pub(super) type SplitFields<'s> = HashMap<String, SplitTexts<'s>>;

impl Source {
    /// Reads a segment whose bytes these are.
    pub fn open(bytes: &Bytes) -> Result<Self, SegmentError> {
        let segment = Segment::open(bytes, bytes.len() as u64)?;
        let places: Vec<usize> = (0..segment.schema().fields().len()).collect();
        ask(&segment, bytes, |segment| segment.require(&places))?;
        let mut split = Vec::new();
        if segment.rows() >= SPLIT_ROWS_MIN {
            for (place, field) in segment.schema().fields().iter().enumerate() {
                if let Values::Text(column) = &segment.stored(place)?.values {
                    ask(&segment, bytes, |segment| column.load_all(segment.sections()))?;
                    split.push((field.name().clone(), place));
                }
            }
        }
        let schema = Arc::clone(segment.schema());
        let is_split = |name: &str| split.iter().any(|(split, _)| split == name);
        let names = schema.fields().iter().map(|field| field.name().as_str());
        let names: Vec<&str> = names.filter(|name| !is_split(name)).collect();
        let rows = 0..segment.rows();
        let read = ask(&segment, bytes, |segment| segment.read_range(rows.clone(), None, &names))?;
        let mut fields = Vec::with_capacity(places.len());
        let mut columns = Vec::with_capacity(places.len());
        for (place, field) in schema.fields().iter().enumerate() {
            let column = match read.schema().column_with_name(field.name()) {
                Some((at, _)) => Arc::clone(read.column(at)),
                None => empty_texts(segment.stored(place)?, segment.rows()),
            };
            let data_type = column.data_type().clone();
            fields.push(field.as_ref().clone().with_data_type(data_type));
            columns.push(column);
        }
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns);
        Ok(Self { batch: batch.map_err(encode_error)?, segment, split })
    }

    /// All records with all their texts.
    fn whole(&self) -> Result<RecordBatch, SegmentError> {
        let schema = self.segment.schema();
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        self.segment.read_range(0..self.segment.rows(), None, &names)
    }
}

/// The empty text for each row that has one.
fn empty_texts(stored: &Stored, rows: usize) -> ArrayRef {
    let there = stored.presence.mask(0..rows);
    let nulls = (!there.is_full()).then(|| NullBuffer::new(there.to_arrow()));
    let offsets = OffsetBuffer::new(ScalarBuffer::from(vec![0i32; rows + 1]));
    Arc::new(StringArray::new(offsets, Buffer::from_vec(Vec::<u8>::new()), nulls))
}

/// Builds one segment of all records of `sources`, of which `arrow_bytes` is about the size in
/// memory. Gives the bytes of the object.
pub fn merge(sources: &[Source], arrow_bytes: u64) -> Result<(Vec<u8>, TableInfo), SegmentError> {
    let batches: Vec<RecordBatch> = sources.iter().map(|source| source.batch.clone()).collect();
    let mut split = SplitFields::new();
    for (at, source) in sources.iter().enumerate() {
        for (name, place) in &source.split {
            if let Values::Text(column) = &source.segment.stored(*place)?.values {
                let none = || sources.iter().map(|_| None).collect();
                let texts = split.entry(name.clone()).or_insert_with(none);
                if let Some(text) = texts.get_mut(at) {
                    *text = Some((column, source.segment.sections()));
                }
            }
        }
    }
    let united = Sources::new(&batches)?;
    let is_text = |name: &String| {
        let mut fields = united.fields.iter();
        fields.any(|field| field.name() == name && field.data_type() == &DataType::Utf8)
    };
    // A field that is one too many goes into `_overflow` as text.
    if split.keys().all(is_text)
        && let Some(written) = write(&united, &split, arrow_bytes)?
    {
        return Ok(written);
    }
    let whole = sources.iter().map(Source::whole).collect::<Result<Vec<_>, _>>()?;
    super::build(&whole)
}
