//! Texts as they are, in blocks that are zstd'ed on their own: those that no template fits.
//!
//! ```text
//!  section D: blocks, one after the other
//!  a block, once unpacked: varint length of each text │ texts
//!  in section A: varint blocks │ of each: varint texts │ varint stored bytes │ varint unpacked bytes
//! ```
//! A section ends after the block with which it reaches [`SECTION_BYTES`].

use std::ops::Range;
use std::sync::OnceLock;

use memchr::memmem::Finder;

use super::cursor::{Cursor, put_varint};
use crate::SegmentError;
use crate::bits::Mask;
use crate::predicate::{FieldTest, Phrase};
use crate::sections::{SECTION_BYTES_MAX, SectionNo, SectionWriter, Sections};

/// Text bytes of a block; a longer text has a block of its own.
const BLOCK_BYTES: usize = 64 << 10;
/// Stored bytes of a section, about.
const SECTION_BYTES: usize = 256 << 10;
const ZSTD_LEVEL: i32 = 1;
/// Bytes of texts, unpacked, that a column keeps in memory once they were searched.
const HELD_BYTES_MAX: usize = 8 << 20;

fn no_zstd(error: std::io::Error) -> SegmentError {
    SegmentError::Encode(format!("zstd: {error}"))
}

/// Writes the sections of `texts`, and appends the index to `index`. Gives the number of sections.
pub(super) fn write<'a>(
    texts: impl Iterator<Item = &'a [u8]>,
    w: &mut SectionWriter<'_>,
    index: &mut Vec<u8>,
) -> Result<usize, SegmentError> {
    let mut zstd = zstd::bulk::Compressor::new(ZSTD_LEVEL).map_err(no_zstd)?;
    let (mut blocks, mut count, mut sections) = (Vec::new(), 0u64, 0);
    let (mut lengths, mut text, mut held) = (Vec::new(), Vec::new(), 0u64);
    let mut section: Vec<u8> = Vec::new();
    let mut texts = texts.peekable();
    while let Some(next) = texts.next() {
        put_varint(next.len() as u64, &mut lengths);
        text.extend_from_slice(next);
        held += 1;
        let full = texts.peek().is_none_or(|next| text.len() + next.len() > BLOCK_BYTES);
        if !full {
            continue;
        }
        lengths.extend_from_slice(&text);
        let packed = zstd.compress(&lengths).map_err(no_zstd)?;
        put_varint(held, &mut blocks);
        put_varint(packed.len() as u64, &mut blocks);
        put_varint(lengths.len() as u64, &mut blocks);
        section.extend_from_slice(&packed);
        (count, held) = (count + 1, 0);
        lengths.clear();
        text.clear();
        if section.len() >= SECTION_BYTES {
            w.plain(&section)?;
            section.clear();
            sections += 1;
        }
    }
    if !section.is_empty() {
        w.plain(&section)?;
        sections += 1;
    }
    put_varint(count, index);
    index.extend_from_slice(&blocks);
    Ok(sections)
}

/// Where a block is.
#[derive(Debug)]
struct Block {
    /// Number of its first text.
    first: usize,
    texts: usize,
    section: SectionNo,
    stored: Range<usize>,
    unpacked: usize,
}

/// The blocks of a column.
#[derive(Debug, Default)]
pub(super) struct RawIndex {
    blocks: Vec<Block>,
    texts: usize,
    held: OnceLock<Held>,
}

impl RawIndex {
    /// Reads the index; its sections begin with `first`.
    pub(super) fn parse(
        cursor: &mut Cursor<'_>,
        first: SectionNo,
        sections: usize,
    ) -> Result<Self, SegmentError> {
        let count = cursor.count()?;
        let blocks = Vec::with_capacity(count);
        let mut index = Self { blocks, texts: 0, held: OnceLock::new() };
        let (mut section, mut offset) = (0, 0);
        for _ in 0..count {
            let texts = cursor.at_most(u32::MAX as usize)?;
            let stored = cursor.at_most(SECTION_BYTES_MAX)?;
            let unpacked = cursor.at_most(SECTION_BYTES_MAX)?;
            if section >= sections {
                return Err(SegmentError::damaged("text column", "has too few sections"));
            }
            let stored = offset..offset + stored;
            offset = stored.end;
            let no = first + section as SectionNo;
            index.blocks.push(Block { first: index.texts, texts, section: no, stored, unpacked });
            index.texts = index.texts.saturating_add(texts);
            if offset >= SECTION_BYTES {
                (section, offset) = (section + 1, 0);
            }
        }
        Ok(index)
    }

    /// Number of texts.
    pub(super) fn len(&self) -> usize {
        self.texts
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let held = |held: &Held| held.bytes.len() + held.starts.len() * 4;
        self.blocks.len() * size_of::<Block>() + self.held().map_or(0, held)
    }

    /// All texts, if they are kept in memory.
    pub(super) fn held(&self) -> Option<&Held> {
        self.held.get()
    }

    /// Unpacks all texts to keep them; none if they are too many for that.
    pub(super) fn hold(&self, sections: &Sections) -> Result<Option<&Held>, SegmentError> {
        if let Some(held) = self.held() {
            return Ok(Some(held));
        }
        let bytes =
            self.blocks.iter().fold(0usize, |sum, block| sum.saturating_add(block.unpacked));
        if bytes > HELD_BYTES_MAX {
            return Ok(None);
        }
        sections.require(self.sections(0..self.texts))?;
        let mut held = Held { bytes: String::with_capacity(bytes), starts: vec![0] };
        let mut cursor = RawCursor::default();
        for block in &self.blocks {
            cursor.unpack(Some(block), sections)?;
            for text in 0..block.texts {
                let text = std::str::from_utf8(cursor.within(text)?)
                    .map_err(|error| SegmentError::damaged("text column", error.to_string()))?;
                held.bytes.push_str(text);
                held.starts.push(held.bytes.len() as u32);
            }
        }
        Ok(Some(self.held.get_or_init(|| held)))
    }

    fn block_of(&self, text: usize) -> usize {
        self.blocks.partition_point(|block| block.first <= text).saturating_sub(1)
    }

    /// The sections that hold a range of texts.
    pub(super) fn sections(&self, texts: Range<usize>) -> impl Iterator<Item = SectionNo> + '_ {
        let blocks = if texts.is_empty() || self.blocks.is_empty() {
            0..0
        } else {
            self.block_of(texts.start)..self.block_of(texts.end - 1) + 1
        };
        let mut last = None;
        self.blocks.get(blocks).unwrap_or_default().iter().filter_map(move |block| {
            (last.replace(block.section) != Some(block.section)).then_some(block.section)
        })
    }
}

/// All raw texts of a column, one after the other.
#[derive(Debug)]
pub(super) struct Held {
    bytes: String,
    /// Where each text begins, and where the last one ends.
    starts: Vec<u32>,
}

impl Held {
    fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// A text; the empty one beyond the end.
    fn get(&self, text: usize) -> &str {
        match self.starts.get(text..).and_then(|starts| starts.first_chunk()) {
            Some([start, end]) => {
                self.bytes.get(*start as usize..*end as usize).unwrap_or_default()
            }
            None => "",
        }
    }

    /// The texts that pass: bytes that all of these hold are searched for in all texts at once.
    pub(super) fn passing(&self, test: &FieldTest) -> Mask {
        let longest = |phrases: &[Phrase]| {
            let longest = phrases.iter().max_by_key(|phrase| phrase.text().len());
            longest.map_or_else(Vec::new, |phrase| vec![phrase.finder().clone()])
        };
        let finders = match test {
            FieldTest::Contains(phrase) => vec![phrase.finder().clone()],
            FieldTest::Substring(text) => vec![Finder::new(text).into_owned()],
            FieldTest::ContainsAll(phrases) | FieldTest::Sequence(phrases) => longest(phrases),
            FieldTest::ContainsAny(phrases) => {
                phrases.iter().map(|phrase| phrase.finder().clone()).collect()
            }
            _ => Vec::new(),
        };
        if finders.is_empty() || finders.iter().any(|finder| finder.needle().is_empty()) {
            return Mask::collect(self.len(), |text| test.matches(self.get(text)));
        }
        let mut mask = Mask::none(self.len());
        for finder in &finders {
            let mut at = 0;
            while let Some(found) =
                self.bytes.as_bytes().get(at..).and_then(|rest| finder.find(rest))
            {
                let found = at + found;
                let after = self.starts.partition_point(|start| *start as usize <= found);
                if test.matches(self.get(after.saturating_sub(1))) {
                    mask.set(after.saturating_sub(1));
                }
                at = self.starts.get(after).map_or(self.bytes.len(), |start| *start as usize);
            }
        }
        mask
    }
}

/// Reads texts; keeps the block that was read last.
#[derive(Default)]
pub(super) struct RawCursor {
    zstd: Option<zstd::bulk::Decompressor<'static>>,
    block: Option<usize>,
    first: usize,
    bytes: Vec<u8>,
    /// Where each text begins, and where the last one ends.
    starts: Vec<u32>,
}

impl RawCursor {
    /// A text.
    pub(super) fn text<'a>(
        &'a mut self,
        index: &'a RawIndex,
        sections: &Sections,
        text: usize,
    ) -> Result<&'a [u8], SegmentError> {
        if let Some(held) = index.held() {
            return Ok(held.get(text).as_bytes());
        }
        let at = index.block_of(text);
        if self.block != Some(at) {
            self.block = None;
            self.unpack(index.blocks.get(at), sections)?;
            self.block = Some(at);
        }
        self.within(text.wrapping_sub(self.first))
    }

    /// A text of the block.
    fn within(&self, within: usize) -> Result<&[u8], SegmentError> {
        let damaged = || SegmentError::damaged("text column", "lacks a text that it counts");
        let [start, end] =
            *self.starts.get(within..).and_then(|e| e.first_chunk()).ok_or_else(damaged)?;
        self.bytes.get(start as usize..end as usize).ok_or_else(damaged)
    }

    fn unpack(&mut self, block: Option<&Block>, sections: &Sections) -> Result<(), SegmentError> {
        let damaged = |what: &str| SegmentError::damaged("text column", what);
        let block = block.ok_or_else(|| damaged("names a block that it has not"))?;
        let section = sections.get(block.section)?;
        let stored = section.get(block.stored.clone());
        let stored = stored.ok_or_else(|| damaged("has a block beyond its section"))?;
        let zstd = match &mut self.zstd {
            Some(zstd) => zstd,
            none => none.insert(zstd::bulk::Decompressor::new().map_err(no_zstd)?),
        };
        self.bytes.clear();
        self.bytes.reserve(block.unpacked);
        zstd.decompress_to_buffer(stored, &mut self.bytes).map_err(|error| {
            SegmentError::damaged(format!("section {}", block.section), error.to_string())
        })?;
        self.first = block.first;
        self.starts.clear();
        let mut cursor = Cursor::new(&self.bytes);
        for _ in 0..block.texts {
            self.starts.push(cursor.at_most(self.bytes.len())? as u32);
        }
        let mut at = (self.bytes.len() - cursor.rest().len()) as u32;
        for start in &mut self.starts {
            let length = std::mem::replace(start, at);
            at = at.saturating_add(length);
        }
        self.starts.push(at);
        Ok(())
    }
}
