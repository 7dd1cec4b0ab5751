//! Builds a segment: records of L0s or of other segments, sorted, each column in the form that its
//! values ask for.
//!
//! Invariants:
//! - the rows out are the rows in; every value has the text form that it came with;
//! - one column at a time is in memory beside the records.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, new_null_array};
use arrow::compute::{filter, interleave, is_not_null};
use arrow::datatypes::{DataType, Field, Float64Type, Int32Type, Int64Type};
use lodge_record::{field, schema};

use super::directory::{CHUNK_ROWS, ChunkInfo, Directory, Entry, Kind};
use super::merge::{SplitFields, SplitTexts};
use super::order::Order;
use super::runs::{Runs, Streams};
use crate::SegmentError;
use crate::chunk::encode_error;
use crate::column::{self, Presence};
use crate::dictionary::{self, Dictionary, Want};
use crate::l0::TableInfo;
use crate::sections::{SectionNo, SectionWriter};
use crate::sources::Sources;
use crate::text::{Merger, Outcome, TextEncoder};

/// Most streams that a segment lists for the catalog.
const STREAMS_MAX: usize = 2_048;
/// Most bytes of text of the streams that a segment lists.
const STREAMS_BYTES_MAX: usize = 256 << 10;
/// So many texts are drawn near together, and so many cache lines of each.
const NEAR_TEXTS: usize = 32;
const NEAR_LINES: usize = 8;
const LINE_BYTES: usize = 64;

/// Builds one segment of all records of `batches`, which have the record shape, their text columns
/// plain or dictionaries: blocks of L0 sections or of other segments. Gives the bytes of the
/// object.
pub fn build(batches: &[RecordBatch]) -> Result<(Vec<u8>, TableInfo), SegmentError> {
    let batches: Vec<RecordBatch> = batches.iter().filter(|b| b.num_rows() > 0).cloned().collect();
    let arrow_bytes = batches.iter().map(memory_bytes).sum::<usize>();
    let sources = Sources::new(&batches)?;
    write(&sources, &SplitFields::new(), arrow_bytes as u64)?
        .ok_or_else(|| SegmentError::Encode("texts that nobody split".into()))
}

/// Writes a segment of all records of `sources`. The texts of the fields in `split` are not in the
/// sources but there; none if they cannot be handed on.
pub(super) fn write(
    sources: &Sources<'_>,
    split: &SplitFields<'_>,
    arrow_bytes: u64,
) -> Result<Option<(Vec<u8>, TableInfo)>, SegmentError> {
    let order = Order::of(sources)?;
    let mut out = Vec::with_capacity(arrow_bytes as usize / 4);
    let mut builder = Builder { writer: SectionWriter::new(&mut out)?, order, entries: Vec::new() };
    let mut scratch = Vec::new();
    Streams::encode(&builder.order.streams, &builder.order.starts, &mut scratch);
    let streams_section = builder.writer.squeezed(&scratch)?;
    for field in &sources.fields {
        match split.get(field.name()) {
            None => builder.column(sources, field)?,
            Some(split) => {
                if !builder.split_texts(sources, field, split)? {
                    return Ok(None);
                }
            }
        }
    }
    builder.finish(streams_section, arrow_bytes).map(Some)
}

/// About the bytes that the values of a batch take, whatever larger buffers they lie in.
fn memory_bytes(batch: &RecordBatch) -> usize {
    let of = |column: &ArrayRef| {
        column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_buffer_memory_size())
    };
    let text = |column: &ArrayRef| match column.as_dictionary_opt::<Int32Type>() {
        Some(coded) => of(&(Arc::new(coded.keys().clone()) as ArrayRef)),
        None => of(column),
    };
    batch.columns().iter().map(text).sum()
}

/// Reads a byte of every cache line of texts that come next. In the segment's order they lie all over
/// the memory of their sources: asked for together, their lines come at the same time, and not each
/// when the one before has been dealt with.
fn draw_near(texts: &[&str]) {
    let mut all = 0;
    for text in texts {
        let lines = text.as_bytes().iter().step_by(LINE_BYTES).take(NEAR_LINES);
        all = lines.fold(all, |all, byte| all ^ byte);
    }
    std::hint::black_box(all);
}

struct Builder<'o> {
    writer: SectionWriter<'o>,
    order: Order,
    entries: Vec<Entry>,
}

impl Builder<'_> {
    fn column(&mut self, sources: &Sources<'_>, found: &Arc<Field>) -> Result<(), SegmentError> {
        match (found.name().as_str(), found.data_type()) {
            (field::TIME, _) => {
                let mut meta = Vec::new();
                column::encode_times(&self.order.times, &mut self.writer, &mut meta)?;
                self.add(found, None, Kind::Plain, meta);
            }
            (field::STREAM, _) => {
                // The streams section says it all.
                let texts: Vec<u32> = (1..=self.order.streams.len() as u32).collect();
                let streams = self.order.streams.clone();
                self.runs(found, &streams.slice(0, 0), &vec![0; texts.len()])?;
            }
            (_, DataType::Utf8) => {
                let columns = sources.column(found)?;
                let coded = match found.name().as_str() {
                    field::MSG | field::OVERFLOW => None,
                    _ => dictionary::unite(&columns, Want::IfRepeated)?,
                };
                match coded {
                    Some(coded) => self.coded(found, &coded)?,
                    None => self.texts(found, &plain(columns)?)?,
                }
            }
            _ => {
                let array = self.sorted(&sources.column(found)?, found.data_type())?;
                self.typed(found, &array)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, found: &Arc<Field>, presence: Option<SectionNo>, kind: Kind, meta: Vec<u8>) {
        self.entries.push(Entry { field: Arc::clone(found), presence, kind, meta });
    }

    /// The values of a column in the segment's order.
    fn sorted(
        &self,
        sources: &[Option<ArrayRef>],
        data_type: &DataType,
    ) -> Result<ArrayRef, SegmentError> {
        let null = new_null_array(data_type, 1);
        // Rows of sources without the column come from one null at the end.
        let arrays: Vec<&dyn Array> =
            sources.iter().map(|s| s.as_ref().unwrap_or(&null).as_ref()).collect();
        let absent: Vec<bool> = sources.iter().map(Option::is_none).collect();
        let place = |&(source, row): &(u32, u32)| {
            let absent = absent.get(source as usize).copied().unwrap_or(true);
            (source as usize, if absent { 0 } else { row as usize })
        };
        let places: Vec<(usize, usize)> = self.order.rows.iter().map(place).collect();
        interleave(&arrays, &places).map_err(encode_error)
    }

    /// Writes which rows have a value, and gives the values of those.
    fn present(&mut self, array: &ArrayRef) -> Result<(Option<SectionNo>, ArrayRef), SegmentError> {
        if array.null_count() == 0 {
            return Ok((None, Arc::clone(array)));
        }
        let there = is_not_null(array).map_err(encode_error)?;
        let dense = filter(array, &there).map_err(encode_error)?;
        Ok((Some(self.presence(&crate::Mask::from_arrow(there.values()))?), dense))
    }

    fn presence(&mut self, rows: &crate::Mask) -> Result<SectionNo, SegmentError> {
        let mut bytes = Vec::new();
        Presence::encode(rows, &mut bytes);
        self.writer.squeezed(&bytes)
    }

    /// A text column whose values repeat.
    fn coded(&mut self, found: &Arc<Field>, coded: &Dictionary) -> Result<(), SegmentError> {
        let code = |&(source, row): &(u32, u32)| {
            let codes = coded.codes.get(source as usize)?.as_ref()?;
            let row = row as usize;
            codes.is_valid(row).then(|| codes.values().get(row).copied()).flatten()
        };
        let codes: Vec<i32> = self.order.rows.iter().map(|at| code(at).unwrap_or(-1)).collect();
        if let Some(runs) = one_per_run(&codes, &self.order) {
            return self.runs(found, &coded.values, &runs);
        }
        let there =
            crate::Mask::collect(codes.len(), |row| codes.get(row).is_some_and(|code| *code >= 0));
        let presence = if there.is_full() { None } else { Some(self.presence(&there)?) };
        let (distinct, codes) = sorted_codes(&coded.values, &codes);
        let mut meta = Vec::new();
        column::encode_coded(&distinct, &codes, &mut self.writer, &mut meta)?;
        self.add(found, presence, Kind::Plain, meta);
        Ok(())
    }

    /// A column with one value a stream: `codes` by stream, 0 for none, else the text's place + 1.
    fn runs(
        &mut self,
        found: &Arc<Field>,
        texts: &StringArray,
        codes: &[u32],
    ) -> Result<(), SegmentError> {
        // Only the texts that occur, so that there are never more than streams.
        let mut places: Vec<u32> = vec![0; texts.len() + 1];
        let mut kept: Vec<&str> = Vec::new();
        let mut renumbered = Vec::with_capacity(codes.len());
        for code in codes {
            let Some(place) = places.get_mut(*code as usize) else { continue };
            if *code > 0 && *place == 0 {
                kept.push(texts.value(*code as usize - 1));
                *place = kept.len() as u32;
            }
            renumbered.push(*place);
        }
        let mut bytes = Vec::new();
        Runs::encode(&StringArray::from(kept), &renumbered, &mut bytes);
        let section = self.writer.squeezed(&bytes)?;
        self.add(found, None, Kind::Runs, section.to_le_bytes().to_vec());
        Ok(())
    }

    /// A text column whose values differ.
    fn texts(
        &mut self,
        found: &Arc<Field>,
        sources: &[Option<ArrayRef>],
    ) -> Result<(), SegmentError> {
        let arrays: Vec<Option<&StringArray>> =
            sources.iter().map(|s| s.as_ref().and_then(|s| s.as_string_opt())).collect();
        let mut there = crate::Mask::none(self.order.rows.len());
        let mut texts: Vec<&str> = Vec::with_capacity(self.order.rows.len());
        for (at, (source, row)) in self.order.rows.iter().enumerate() {
            let row = *row as usize;
            if let Some(Some(array)) = arrays.get(*source as usize)
                && array.is_valid(row)
            {
                there.set(at);
                texts.push(array.value(row));
            }
        }
        let presence = if there.is_full() { None } else { Some(self.presence(&there)?) };
        let mut meta = Vec::new();
        if column::choose(&texts).encode(texts.len(), &mut self.writer, &mut meta)? {
            self.add(found, presence, Kind::Plain, meta);
            return Ok(());
        }
        let mut encoder = TextEncoder::new();
        for some in texts.chunks(NEAR_TEXTS) {
            draw_near(some);
            some.iter().for_each(|text| encoder.push(text));
        }
        match encoder.finish(&mut self.writer, &mut meta)? {
            Outcome::Written => self.add(found, presence, Kind::Text, meta),
            Outcome::NotWorth => {
                column::encode_raw(&texts, &mut self.writer, &mut meta)?;
                self.add(found, presence, Kind::Plain, meta);
            }
        }
        Ok(())
    }

    /// A text column of which some sources are split already. Gives whether it could be written.
    fn split_texts(
        &mut self,
        sources: &Sources<'_>,
        found: &Arc<Field>,
        split: &SplitTexts<'_>,
    ) -> Result<bool, SegmentError> {
        let columns = plain(sources.column(found)?)?;
        let arrays: Vec<Option<&StringArray>> =
            columns.iter().map(|s| s.as_ref().and_then(|s| s.as_string_opt())).collect();
        let mut merger = Merger::new();
        let mut feeds = Vec::with_capacity(split.len());
        for split in split {
            feeds.push(match split {
                None => None,
                Some((column, sections)) => match merger.feed(column, sections)? {
                    None => return Ok(false),
                    feed => feed,
                },
            });
        }
        let mut there = crate::Mask::none(self.order.rows.len());
        let mut last_rows = vec![None; feeds.len()];
        for (at, (source, row)) in self.order.rows.iter().enumerate() {
            let source = *source as usize;
            let Some(array) = arrays.get(source).copied().flatten() else { continue };
            if !array.is_valid(*row as usize) {
                continue;
            }
            there.set(at);
            match feeds.get_mut(source).and_then(Option::as_mut) {
                None => merger.push(array.value(*row as usize)),
                Some(feed) => {
                    // Both are sorted by stream and time, so the rows of a source keep their order.
                    let before = last_rows.get_mut(source).and_then(|last| last.replace(*row));
                    if before.is_some_and(|before| before >= *row) {
                        return Ok(false);
                    }
                    merger.take(feed)?;
                }
            }
        }
        let presence = if there.is_full() { None } else { Some(self.presence(&there)?) };
        let mut meta = Vec::new();
        match merger.finish(&mut self.writer, &mut meta)? {
            Outcome::Written => self.add(found, presence, Kind::Text, meta),
            Outcome::NotWorth => return Ok(false),
        }
        Ok(true)
    }

    /// A column of numbers or booleans.
    fn typed(&mut self, found: &Arc<Field>, array: &ArrayRef) -> Result<(), SegmentError> {
        let (presence, dense) = self.present(array)?;
        let mut meta = Vec::new();
        let writer = &mut self.writer;
        match found.data_type() {
            DataType::Int64 => {
                column::encode_int64(dense.as_primitive::<Int64Type>().values(), writer, &mut meta)?
            }
            DataType::Float64 => {
                let values = dense.as_primitive::<Float64Type>().values();
                column::encode_float64(values, writer, &mut meta)?
            }
            DataType::Boolean => {
                let bits = crate::Mask::from_arrow(dense.as_boolean().values());
                column::encode_bools(&bits, writer, &mut meta)?
            }
            other => {
                let trouble = format!("column {} has type {other}", found.name());
                return Err(SegmentError::Encode(trouble));
            }
        }
        self.add(found, presence, Kind::Plain, meta);
        Ok(())
    }

    fn finish(
        self,
        streams: SectionNo,
        arrow_bytes: u64,
    ) -> Result<(Vec<u8>, TableInfo), SegmentError> {
        let Builder { writer, order, entries } = self;
        let (out, start, spans) = writer.finish();
        let chunk = |times: &[i64]| ChunkInfo {
            rows: times.len(),
            time_min_ns: times.iter().copied().min().unwrap_or(0),
            time_max_ns: times.iter().copied().max().unwrap_or(0),
        };
        let directory = Directory {
            rows: order.times.len(),
            chunks: order.times.chunks(CHUNK_ROWS).map(chunk).collect(),
            streams,
            columns: entries,
            spans,
        };
        directory.write(out)?;
        let info = TableInfo {
            offset: start as u64,
            len: (out.len() - start) as u64,
            rows: order.times.len() as u64,
            arrow_bytes,
            time_min_ns: directory.chunks.iter().map(|c| c.time_min_ns).min().unwrap_or(0),
            time_max_ns: directory.chunks.iter().map(|c| c.time_max_ns).max().unwrap_or(0),
            schema: directory.schema(),
            streams: crate::table::stream_list(&order.streams, STREAMS_MAX, STREAMS_BYTES_MAX),
        };
        Ok((std::mem::take(out), info))
    }
}

/// Text columns without dictionaries.
fn plain(columns: Vec<Option<ArrayRef>>) -> Result<Vec<Option<ArrayRef>>, SegmentError> {
    let one = |column: Option<ArrayRef>| match column {
        Some(column) if matches!(column.data_type(), DataType::Dictionary(..)) => {
            schema::cast_to(&column, &DataType::Utf8).map(Some).map_err(encode_error)
        }
        other => Ok(other),
    };
    columns.into_iter().map(one).collect()
}

/// By stream the code of its rows + 1, if they all have the same; codes below 0 stand for no value.
fn one_per_run(codes: &[i32], order: &Order) -> Option<Vec<u32>> {
    let mut out = Vec::with_capacity(order.streams.len());
    for (_, rows) in order.runs() {
        let run = codes.get(rows)?;
        let first = *run.first()?;
        if run.iter().any(|code| *code != first) {
            return None;
        }
        out.push((first + 1).max(0) as u32);
    }
    Some(out)
}

/// The texts that occur, sorted, and the codes of the values that are there.
fn sorted_codes<'t>(texts: &'t StringArray, codes: &[i32]) -> (Vec<&'t str>, Vec<u32>) {
    let mut used = vec![false; texts.len()];
    for code in codes {
        if let Some(used) = usize::try_from(*code).ok().and_then(|code| used.get_mut(code)) {
            *used = true;
        }
    }
    let mut order: Vec<usize> =
        (0..texts.len()).filter(|at| used.get(*at) == Some(&true)).collect();
    order.sort_unstable_by_key(|at| texts.value(*at));
    let mut rank = vec![0u32; texts.len()];
    for (place, at) in order.iter().enumerate() {
        if let Some(slot) = rank.get_mut(*at) {
            *slot = place as u32;
        }
    }
    let code = |code: &i32| rank.get(usize::try_from(*code).ok()?).copied();
    (order.iter().map(|at| texts.value(*at)).collect(), codes.iter().filter_map(code).collect())
}
