//! Any texts: blocks of about 64 KiB, each zstd'ed on its own.
//!
//! ```text
//!  section := blocks u32 · head{blocks} · block{blocks}
//!  head    := values u32 · stored u32 · unpacked u32        the same if the block is not packed
//!  block   := lengths (packed codes) · the texts, one after the other
//! ```
//!
//! A column has one section for about every 128 KiB stored; the directory has the number of values of
//! each.
//!
//! Invariant: a block is unpacked when a value of it is asked for; the last one is kept.

use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock};

use arrow::array::{ArrayRef, StringArray};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::DataType;
use bytes::Bytes;

use super::meta::{Kind, Meta, take};
use super::test::How;
use super::{ROWS_MAX, Texts, Values, Want};
use crate::bits::Codes;
use crate::predicate::{FieldTest, passing};
use crate::sections::{SectionNo, SectionWriter, Sections};
use crate::{Mask, SegmentError};

/// A block ends with the value that makes it so long.
const BLOCK_BYTES: usize = 64 << 10;
/// Most bytes of a block: one value alone can be as long as a record.
const BLOCK_BYTES_MAX: usize = 128 << 20;
/// A section ends with the block that makes it so long.
const SECTION_BYTES: usize = 128 << 10;
const HEAD_BYTES: usize = 12;
const ZSTD_LEVEL: i32 = 1;

/// Writes a column of any texts.
pub(crate) fn encode_raw(
    values: &[&str],
    w: &mut SectionWriter<'_>,
    meta: &mut Vec<u8>,
) -> Result<(), SegmentError> {
    let no_zstd = |error: std::io::Error| SegmentError::Encode(format!("zstd: {error}"));
    let mut zstd = zstd::bulk::Compressor::new(ZSTD_LEVEL).map_err(no_zstd)?;
    let (mut heads, mut blocks) = (Vec::new(), Vec::new());
    let (mut block, mut packed) = (Vec::new(), Vec::new());
    let first = w.next();
    let (mut counts, mut held) = (Vec::new(), 0);
    let mut left = values;
    loop {
        let (here, rest) = left.split_at(block_len(left));
        left = rest;
        if !here.is_empty() {
            block.clear();
            let lengths: Vec<u32> = here.iter().map(|text| text.len() as u32).collect();
            Codes::encode(&lengths, &mut block);
            here.iter().for_each(|text| block.extend_from_slice(text.as_bytes()));
            if block.len() > BLOCK_BYTES_MAX {
                return Err(SegmentError::Encode("a value of more than 128 MiB".into()));
            }
            packed.clear();
            packed.reserve(zstd::zstd_safe::compress_bound(block.len()));
            zstd.compress_to_buffer(&block, &mut packed).map_err(no_zstd)?;
            let stored = if packed.len() < block.len() { &packed } else { &block };
            for number in [here.len(), stored.len(), block.len()] {
                heads.extend_from_slice(&(number as u32).to_le_bytes());
            }
            blocks.extend_from_slice(stored);
            held += here.len() as u32;
        }
        if left.is_empty() || blocks.len() >= SECTION_BYTES {
            let count = (heads.len() / HEAD_BYTES) as u32;
            let section = [&count.to_le_bytes()[..], &heads, &blocks].concat();
            w.plain(&section)?;
            counts.push(std::mem::take(&mut held));
            heads.clear();
            blocks.clear();
        }
        if left.is_empty() {
            break;
        }
    }
    Meta { len: values.len(), sections: first..w.next(), kind: Kind::Raw { values: counts } }
        .write(meta);
    Ok(())
}

/// How many of the values make the next block.
fn block_len(values: &[&str]) -> usize {
    let mut bytes = 0;
    let full = values.iter().position(|text| {
        bytes += text.len() + 2;
        bytes >= BLOCK_BYTES
    });
    full.map_or(values.len(), |last| last + 1)
}

/// Any texts.
#[derive(Debug)]
pub(crate) struct Raw {
    sections: Arc<Sections>,
    first: SectionNo,
    /// Of each section where its values begin, and in the end how many there are.
    starts: Vec<usize>,
    open: Vec<OnceLock<Vec<Block>>>,
    last: Mutex<Option<((usize, usize), StringArray)>>,
}

#[derive(Debug)]
struct Block {
    /// Index of its first value within its section.
    first: usize,
    values: usize,
    stored: Bytes,
    unpacked: usize,
}

/// The blocks of a section of so many values.
fn open_section(section: &Bytes, expected: usize) -> Result<Vec<Block>, SegmentError> {
    let damaged = |trouble: &str| SegmentError::damaged("text blocks", trouble);
    let mut blocks = Vec::new();
    let mut len = 0usize;
    let mut from = &section[..];
    let count = take(&mut from).map(u32::from_le_bytes).unwrap_or(0) as usize;
    let heads = from.get(..count.saturating_mul(HEAD_BYTES));
    let heads = heads.ok_or_else(|| damaged("are cut short"))?;
    let mut at = 4 + heads.len();
    for head in heads.as_chunks::<HEAD_BYTES>().0 {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = *head;
        let [values, stored, unpacked] =
            [[a, b, c, d], [e, f, g, h], [i, j, k, l]].map(|n| u32::from_le_bytes(n) as usize);
        if at + stored > section.len() || unpacked > BLOCK_BYTES_MAX || values == 0 {
            return Err(damaged("are cut short, empty or too large"));
        }
        blocks.push(Block { first: len, values, stored: section.slice(at..at + stored), unpacked });
        at += stored;
        len += values;
    }
    if at != section.len() || len != expected {
        return Err(damaged("have another length"));
    }
    Ok(blocks)
}

impl Raw {
    /// The column whose sections, of so many values each, begin with `first`.
    pub(super) fn open(
        counts: &[u32],
        first: SectionNo,
        sections: &Arc<Sections>,
    ) -> Result<Self, SegmentError> {
        let mut starts = vec![0usize];
        let mut end = 0usize;
        for count in counts {
            end += *count as usize;
            starts.push(end);
        }
        if end > ROWS_MAX {
            return Err(SegmentError::damaged("text blocks", "have too many values"));
        }
        let open = counts.iter().map(|_| OnceLock::new()).collect();
        Ok(Self { sections: Arc::clone(sections), first, starts, open, last: Mutex::new(None) })
    }

    fn values_of(&self, section: usize) -> Range<usize> {
        let at = |no: usize| self.starts.get(no).copied().unwrap_or(0);
        at(section)..at(section + 1)
    }

    /// The sections that a range lies in.
    fn touched(&self, values: &Range<usize>) -> Range<usize> {
        if values.is_empty() {
            return 0..0;
        }
        let holding = |value: usize| self.starts.partition_point(|start| *start <= value);
        let end = holding(values.end - 1).min(self.open.len());
        holding(values.start).saturating_sub(1).min(end)..end
    }

    fn blocks(&self, section: usize) -> Result<&[Block], SegmentError> {
        let absent = || SegmentError::damaged("text blocks", "are in no section");
        let lock = self.open.get(section).ok_or_else(absent)?;
        if let Some(blocks) = lock.get() {
            return Ok(blocks);
        }
        let bytes = self.sections.get(self.first + section as SectionNo)?;
        let blocks = open_section(bytes, self.values_of(section).len())?;
        Ok(lock.get_or_init(|| blocks))
    }

    /// The texts of a block.
    fn block(&self, section: usize, at: usize) -> Result<StringArray, SegmentError> {
        let place = (section, at);
        // Whoever panicked with the lock held had not changed what is behind it.
        let kept = || self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((_, texts)) = kept().as_ref().filter(|(known, _)| *known == place) {
            return Ok(texts.clone());
        }
        let texts = self.unpack(section, at)?;
        *kept() = Some((place, texts.clone()));
        Ok(texts)
    }

    fn unpack(&self, section: usize, at: usize) -> Result<StringArray, SegmentError> {
        let damaged = |trouble: String| SegmentError::damaged(format!("text block {at}"), trouble);
        let block = self.blocks(section)?.get(at).ok_or_else(|| damaged("is none".into()))?;
        let bytes = if block.stored.len() == block.unpacked {
            block.stored.clone()
        } else {
            let bytes = zstd::bulk::decompress(&block.stored, block.unpacked)
                .map_err(|error| damaged(error.to_string()))?;
            Bytes::from(bytes)
        };
        let (lengths, text) = Codes::open(&bytes)?;
        if lengths.len() != block.values {
            return Err(damaged("has another number of values".into()));
        }
        let mut offsets = Vec::with_capacity(lengths.len() + 1);
        offsets.push(0i32);
        let mut end = 0usize;
        lengths.for_each(0..lengths.len(), |_, piece| {
            offsets.extend(piece.iter().map(|len| {
                end += *len as usize;
                end as i32
            }));
        });
        if end != text.len() {
            return Err(damaged("has another number of bytes".into()));
        }
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        StringArray::try_new(offsets, Buffer::from(text), None)
            .map_err(|error| damaged(error.to_string()))
    }

    /// Hands out the blocks that a range lies in, and of each the part of the range in it, counted
    /// from the block's first value. Blocks without a picked value are left out.
    fn for_each(
        &self,
        values: Range<usize>,
        picked: Option<&Mask>,
        mut each: impl FnMut(&StringArray, usize, Range<usize>) -> Result<(), SegmentError>,
    ) -> Result<(), SegmentError> {
        for section in self.touched(&values) {
            let base = self.values_of(section).start;
            for (at, block) in self.blocks(section)?.iter().enumerate() {
                let first = base + block.first;
                let from = values.start.max(first);
                let to = values.end.min(first + block.values);
                if from >= to {
                    continue;
                }
                let here = from - values.start..to - values.start;
                if picked.is_none_or(|picked| picked.count_range(here.clone()) > 0) {
                    each(&self.block(section, at)?, here.start, from - first..to - first)?;
                }
            }
        }
        Ok(())
    }
}

impl Values for Raw {
    fn len(&self) -> usize {
        self.starts.last().copied().unwrap_or(0)
    }

    fn data_type(&self) -> DataType {
        DataType::Utf8
    }

    fn prepare(&self, test: &FieldTest) -> Result<How, SegmentError> {
        Ok(How::Text(test.clone()))
    }

    fn require(
        &self,
        _want: Want,
        values: &Range<usize>,
        picked: Option<&Mask>,
    ) -> Result<(), SegmentError> {
        let asked = |section: &usize| {
            let here = self.values_of(*section);
            let from = here.start.max(values.start) - values.start;
            let to = here.end.min(values.end).max(values.start) - values.start;
            picked.is_none_or(|picked| picked.count_range(from..to) > 0)
        };
        let needed = self.touched(values).filter(asked);
        self.sections.require(needed.map(|section| self.first + section as SectionNo))
    }

    fn select(
        &self,
        how: &How,
        values: Range<usize>,
        within: Option<&Mask>,
    ) -> Result<Mask, SegmentError> {
        let mut mask = Mask::none(values.len());
        let How::Text(test) = how else { return Ok(mask) };
        self.for_each(values, within, |texts, from, part| {
            let asked = within.map(|within| within.part(from..from + part.len()).to_arrow());
            let part: ArrayRef = Arc::new(texts.slice(part.start, part.len()));
            for at in passing(&part, test, asked.as_ref()).set_indices() {
                mask.set(from + at);
            }
            Ok(())
        })?;
        Ok(mask)
    }

    fn array(&self, values: Range<usize>, picked: Option<&Mask>) -> Result<ArrayRef, SegmentError> {
        let count = picked.map_or(values.len(), Mask::count);
        let mut out = Texts::with_capacity(count, 0);
        self.for_each(values, picked, |texts, from, part| {
            for (at, value) in part.enumerate() {
                if picked.is_none_or(|picked| picked.get(from + at)) {
                    out.push(texts.value(value).as_bytes());
                }
            }
            Ok(())
        })?;
        Ok(Arc::new(out.finish()?))
    }

    fn memory_bytes(&self) -> usize {
        let open = self.open.iter().filter_map(OnceLock::get);
        let blocks = open.map(|blocks| blocks.len() * size_of::<Block>()).sum::<usize>();
        self.open.len() * size_of::<OnceLock<Vec<Block>>>() + blocks + BLOCK_BYTES
    }
}
