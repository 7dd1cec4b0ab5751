//! An open segment: its directory, and the columns that were needed so far.
//!
//! Whatever is asked for, the answer may be [`SegmentError::Missing`]: the sections named are then to
//! be read ([`Segment::range`]) and supplied ([`Segment::supply`]), and the question asked again.
//!
//! Invariant: every answer follows from checked sections only.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use lodge_record::field;

use super::directory::{CHUNK_ROWS, ChunkInfo, Directory, Entry, Kind, TRAILER_BYTES};
use super::runs::{Runs, Streams};
use crate::SegmentError;
use crate::column::{self, Loaded, Presence, Times};
use crate::predicate::FieldTest;
use crate::sections::{SectionNo, Sections, gather};
use crate::text::{TextColumn, TextReader};

/// A segment that can be asked.
#[derive(Debug)]
pub struct Segment {
    rows: usize,
    chunks: Vec<ChunkInfo>,
    schema: SchemaRef,
    places: HashMap<String, usize>,
    pub(super) columns: Vec<Column>,
    pub(super) streams_section: SectionNo,
    streams: OnceLock<Streams>,
    sections: Arc<Sections>,
}

/// A column: how to load it, and what was loaded.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) presence: Option<SectionNo>,
    pub(super) codec: Codec,
    stored: OnceLock<Stored>,
}

#[derive(Debug)]
pub(super) enum Codec {
    Plain(column::Column),
    Text(TextReader),
    Runs(SectionNo),
}

/// A column in memory.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) presence: Presence,
    pub(crate) values: Values,
}

/// The values of the rows that have one.
#[derive(Debug)]
pub(crate) enum Values {
    Plain(Loaded),
    Text(Box<TextColumn>),
    /// One a stream; presence is of no account.
    Runs(Runs),
}

impl Stored {
    /// Number of values.
    pub(crate) fn len(&self) -> usize {
        match &self.values {
            Values::Plain(values) => values.len(),
            Values::Text(values) => values.len(),
            Values::Runs(runs) => runs.codes.len(),
        }
    }
}

impl Segment {
    /// How many bytes at the end of a segment must be at hand to open it, by its last bytes (20 or
    /// more of them).
    pub fn tail_bytes(tail: &[u8]) -> Result<usize, SegmentError> {
        let trailer = tail.get(tail.len().saturating_sub(TRAILER_BYTES)..).unwrap_or_default();
        Directory::tail_bytes(trailer)
    }

    /// Opens a segment of `segment_bytes` by its last [`Segment::tail_bytes`] or more.
    pub fn open(tail: &[u8], segment_bytes: u64) -> Result<Self, SegmentError> {
        let directory = Directory::parse(tail, segment_bytes)?;
        let schema = directory.schema();
        let columns =
            directory.columns.iter().map(Column::of).collect::<Result<Vec<_>, SegmentError>>()?;
        let names = schema.fields().iter().enumerate();
        Ok(Self {
            rows: directory.rows,
            places: names.map(|(at, field)| (field.name().clone(), at)).collect(),
            chunks: directory.chunks,
            schema,
            columns,
            streams_section: directory.streams,
            streams: OnceLock::new(),
            sections: Arc::new(Sections::new(directory.spans)),
        })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Its columns, text as `Utf8`, in the order of the record shape.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The chunks in which it is read.
    pub fn chunks(&self) -> &[ChunkInfo] {
        &self.chunks
    }

    /// Where a section lies, from the segment's first byte.
    pub fn range(&self, section: SectionNo) -> Option<Range<u64>> {
        self.sections.range(section)
    }

    /// Whether a section is in memory: [`Segment::supply`] brought it there.
    pub fn has(&self, section: SectionNo) -> bool {
        self.sections.has(section)
    }

    /// Takes the bytes of a section that was [`SegmentError::Missing`].
    pub fn supply(&self, section: SectionNo, bytes: &Bytes) -> Result<(), SegmentError> {
        self.sections.supply(section, bytes)
    }

    /// Bytes that it takes in memory, with what was loaded.
    pub fn memory_bytes(&self) -> usize {
        let of = |column: &Column| match column.stored.get() {
            None => 256,
            Some(stored) => {
                256 + stored.presence.memory_bytes()
                    + match &stored.values {
                        Values::Plain(values) => values.memory_bytes(),
                        Values::Text(values) => values.memory_bytes(),
                        Values::Runs(runs) => runs.memory_bytes(),
                    }
            }
        };
        let columns: usize = self.columns.iter().map(of).sum();
        columns + self.sections.memory_bytes() + self.streams.get().map_or(0, Streams::memory_bytes)
    }

    pub(crate) fn sections(&self) -> &Sections {
        &self.sections
    }

    pub(crate) fn place(&self, name: &str) -> Option<usize> {
        self.places.get(name).copied()
    }

    /// Earliest and latest `_time`.
    pub(crate) fn time_range(&self) -> (i64, i64) {
        let first = self.chunks.iter().map(|c| c.time_min_ns).min();
        let last = self.chunks.iter().map(|c| c.time_max_ns).max();
        (first.unwrap_or(i64::MAX), last.unwrap_or(i64::MIN))
    }

    /// The rows of a chunk.
    pub(crate) fn chunk_rows(&self, chunk: usize) -> Result<Range<usize>, SegmentError> {
        let first = chunk.saturating_mul(CHUNK_ROWS);
        let rows = self.chunks.get(chunk).map(|chunk| first..first + chunk.rows);
        rows.ok_or_else(|| SegmentError::Encode(format!("there is no chunk {chunk}")))
    }

    /// The streams of the rows.
    pub(crate) fn streams(&self) -> Result<&Streams, SegmentError> {
        if let Some(streams) = self.streams.get() {
            return Ok(streams);
        }
        let streams = Streams::open(self.sections.get(self.streams_section)?, self.rows)?;
        Ok(self.streams.get_or_init(|| streams))
    }

    /// Checks that these columns (and the streams, if they are by stream) are in memory; else names
    /// all sections that are needed, so that they are read at once.
    pub(crate) fn require(&self, columns: &[usize]) -> Result<(), SegmentError> {
        let mut missing = Vec::new();
        let by_stream = |at: &usize| {
            matches!(self.columns.get(*at), Some(Column { codec: Codec::Runs(_), .. }))
        };
        if columns.iter().any(by_stream) {
            gather(self.streams().map(drop), &mut missing)?;
        }
        for column in columns {
            gather(self.stored(*column).map(drop), &mut missing)?;
        }
        missing.sort_unstable();
        missing.dedup();
        if missing.is_empty() { Ok(()) } else { Err(SegmentError::Missing(missing)) }
    }

    /// Whether forms and filter of a text column say that no value passes, so that the column itself
    /// need not be read. Never for a column that is in memory.
    pub(crate) fn refutes(&self, column: usize, test: &FieldTest) -> Result<bool, SegmentError> {
        match self.columns.get(column) {
            Some(Column { codec: Codec::Text(reader), stored, .. }) if stored.get().is_none() => {
                reader.refutes(test, &self.sections)
            }
            _ => Ok(false),
        }
    }

    /// Checks that what a test of words needs beside the column is in memory.
    pub(crate) fn require_postings(
        &self,
        column: usize,
        test: &FieldTest,
    ) -> Result<(), SegmentError> {
        match self.columns.get(column) {
            Some(Column { codec: Codec::Text(reader), .. }) => {
                reader.require_postings(test, &self.sections)
            }
            _ => Ok(()),
        }
    }

    /// A column in memory.
    pub(crate) fn stored(&self, column: usize) -> Result<&Stored, SegmentError> {
        let column = self.columns.get(column);
        let column =
            column.ok_or_else(|| SegmentError::Encode("there is no such column".into()))?;
        if let Some(stored) = column.stored.get() {
            return Ok(stored);
        }
        let stored = column.load(self)?;
        Ok(column.stored.get_or_init(|| stored))
    }

    /// The times.
    pub(crate) fn times_column(&self) -> Result<&Times, SegmentError> {
        let absent = || SegmentError::damaged("directory", "has no _time");
        let stored = self.stored(self.place(field::TIME).ok_or_else(absent)?)?;
        let times = match &stored.values {
            Values::Plain(values) if is_all(&stored.presence) => values.times(),
            _ => None,
        };
        times.ok_or_else(|| SegmentError::damaged("_time", "is no column of times"))
    }
}

impl Column {
    fn of(entry: &Entry) -> Result<Self, SegmentError> {
        let mut meta = entry.meta.as_slice();
        let codec = match entry.kind {
            Kind::Plain => Codec::Plain(column::Column::open(&mut meta)?),
            Kind::Text => Codec::Text(TextReader::open(&mut meta)?),
            Kind::Runs => {
                let damaged =
                    || SegmentError::damaged("directory", "a column of runs is cut short");
                let (section, rest) = meta.split_first_chunk::<4>().ok_or_else(damaged)?;
                meta = rest;
                Codec::Runs(u32::from_le_bytes(*section))
            }
        };
        if !meta.is_empty() {
            let place = format!("column {}", entry.field.name());
            return Err(SegmentError::damaged(place, "has bytes left over in the directory"));
        }
        Ok(Self { presence: entry.presence, codec, stored: OnceLock::new() })
    }

    fn load(&self, segment: &Segment) -> Result<Stored, SegmentError> {
        let sections = &segment.sections;
        let mut missing = Vec::new();
        gather(sections.require(self.presence), &mut missing)?;
        let values = match &self.codec {
            Codec::Plain(reader) => reader.load(sections).map(Values::Plain),
            Codec::Text(reader) => {
                reader.load(sections).map(|column| Values::Text(Box::new(column)))
            }
            Codec::Runs(section) => sections
                .get(*section)
                .and_then(|bytes| Runs::open(bytes, segment.streams()?.len()))
                .map(Values::Runs),
        };
        let values = match values {
            Ok(values) if missing.is_empty() => values,
            Ok(_) => return Err(SegmentError::Missing(missing)),
            Err(error) => {
                gather(Err(error), &mut missing)?;
                return Err(SegmentError::Missing(missing));
            }
        };
        let presence = match self.presence {
            None => Presence::All(segment.rows),
            Some(section) => Presence::open(sections.get(section)?)?.0,
        };
        if presence.rows() != segment.rows {
            return Err(SegmentError::damaged("presence", "is of another number of rows"));
        }
        let stored = Stored { presence, values };
        let expected = match &stored.values {
            Values::Runs(runs) => runs.codes.len(),
            _ => stored.presence.values(),
        };
        if stored.len() != expected {
            return Err(SegmentError::damaged("a column", "has not as many values as rows"));
        }
        Ok(stored)
    }
}

/// Asks a segment whose bytes are all at hand.
pub fn ask<T>(
    segment: &Segment,
    bytes: &Bytes,
    mut question: impl FnMut(&Segment) -> Result<T, SegmentError>,
) -> Result<T, SegmentError> {
    loop {
        let missing = match question(segment) {
            Err(SegmentError::Missing(missing)) => missing,
            done => return done,
        };
        for section in missing {
            let stored = segment
                .range(section)
                .and_then(|range| {
                    let start = usize::try_from(range.start).ok()?;
                    let end = usize::try_from(range.end).ok()?;
                    (end <= bytes.len()).then(|| bytes.slice(start..end))
                })
                .ok_or_else(|| SegmentError::damaged("directory", "names no section"))?;
            segment.supply(section, &stored)?;
        }
    }
}

/// Whether every row has a value.
pub(crate) fn is_all(presence: &Presence) -> bool {
    matches!(presence, Presence::All(_))
}
