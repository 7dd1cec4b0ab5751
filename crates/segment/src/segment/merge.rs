//! Segments made one, without the texts of what is stored as templates.
//!
//! ```text
//!  bytes ─ Source::open ─┐
//!  bytes ─ Source::open ─┴─ merge, column by column: others as Arrow, texts as they are ─► one segment
//! ```
//!
//! Invariants:
//! - as for a segment that is built of the same records;
//! - where texts cannot be handed on as they are, they are rebuilt;
//! - beside the stored bytes one column at a time is in memory.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use bytes::Bytes;
use lodge_record::schema;

use super::build::write;
use super::reader::{Segment, Stored, Values, ask};
use crate::SegmentError;
use crate::l0::TableInfo;
use crate::sections::Sections;
use crate::sources::{Part, Sources};
use crate::text::TextColumn;

/// Texts of fewer rows are rebuilt: templates learnt from so few are better learnt again.
const SPLIT_ROWS_MIN: usize = 32 << 10;

/// A segment that is to be merged, all of it in memory as it is stored, and checked.
#[derive(Debug)]
pub struct Source {
    segment: Segment,
    /// The columns whose texts stay split.
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
        ask(&segment, bytes, |segment| segment.sections().require_all())?;
        segment.require(&places)?;
        let mut split = Vec::new();
        if segment.rows() >= SPLIT_ROWS_MIN {
            for (place, field) in segment.schema().fields().iter().enumerate() {
                if let Values::Text(column) = &segment.stored(place)?.values {
                    ask(&segment, bytes, |segment| column.load_all(segment.sections()))?;
                    split.push((field.name().clone(), place));
                }
            }
        }
        Ok(Self { segment, split })
    }

    /// All records with all their texts.
    fn whole(&self) -> Result<RecordBatch, SegmentError> {
        let schema = self.segment.schema();
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        self.segment.read_range(0..self.segment.rows(), None, &names)
    }
}

impl Part for &Source {
    fn rows(&self) -> usize {
        self.segment.rows()
    }

    /// The texts that stay split are empty texts here.
    fn column(&self, name: &str) -> Result<Option<ArrayRef>, SegmentError> {
        let rows = self.segment.rows();
        if let Some((_, place)) = self.split.iter().find(|(split, _)| split == name) {
            return Ok(Some(empty_texts(self.segment.stored(*place)?, rows)));
        }
        let read = self.segment.read_range(0..rows, None, &[name])?;
        Ok(read.column_by_name(name).cloned())
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
    let target = schema::unify(sources.iter().map(|source| source.segment.schema()));
    let rows = sources.iter().map(|source| source.segment.rows()).sum();
    if target.fields().len() <= schema::columns_max(rows) {
        let parts = sources.iter().map(|source| Box::new(source) as Box<dyn Part>).collect();
        if let Some(written) = write(&Sources::of(&target, parts), &split(sources)?, arrow_bytes)? {
            return Ok(written);
        }
    }
    // Fields go into `_overflow`, or texts cannot stay split.
    let whole = sources.iter().map(Source::whole).collect::<Result<Vec<_>, _>>()?;
    super::build(&whole)
}

fn split(sources: &[Source]) -> Result<SplitFields<'_>, SegmentError> {
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
    Ok(split)
}
