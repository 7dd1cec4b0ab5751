//! Which template each value is of, and the how-manieth of that template it is.
//!
//! ```text
//!  section B, of 65,536 values: a block for each 8,192
//!  block: varint templates │ of each: varint number, less the one before │ varint ordinal of its
//!         first value here │ varint values here
//!         then per value its place in that list: one byte, or two if the list is longer than 256
//! ```

use std::ops::Range;

use bytes::Bytes;

use super::cursor::{Cursor, put_varint};
use crate::SegmentError;

/// Values of a block.
pub(super) const BLOCK_VALUES: usize = 8192;
/// Values of a section.
pub(super) const SECTION_VALUES: usize = 65_536;

/// A template's part in a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Local {
    /// Its number.
    pub(super) template: u32,
    /// Its ordinal of its first value in the block.
    pub(super) first: usize,
    /// Its values in the block.
    pub(super) count: usize,
    /// Where these are in the block's order.
    start: usize,
}

/// The template numbers of a block.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) locals: Vec<Local>,
    lanes: Bytes,
    /// The values, template by template, ascending in each.
    order: Vec<u16>,
}

impl Block {
    /// The values of one of `locals`, ascending: they have the ordinals from its first one on.
    pub(super) fn values_of(&self, local: &Local) -> &[u16] {
        self.order.get(local.start..local.start + local.count).unwrap_or_default()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.locals.len() * size_of::<Local>() + self.order.len() * 2 + size_of::<Self>()
    }

    /// The place in `locals` of a value, and its ordinal.
    pub(super) fn find(&self, value: usize) -> Option<(usize, usize)> {
        let mut place = None;
        self.for_each(value..value + 1, |_, found| place = Some(found));
        let local = self.locals.get(place?)?;
        let at = self.values_of(local).binary_search(&(value as u16)).ok()?;
        Some((place?, local.first + at))
    }

    /// Number of values.
    pub(super) fn len(&self) -> usize {
        if self.locals.len() > 256 { self.lanes.len() / 2 } else { self.lanes.len() }
    }

    /// For each value of a range, its place in `locals`; `each(index in the range, place)`.
    pub(super) fn for_each(&self, values: Range<usize>, mut each: impl FnMut(usize, usize)) {
        if self.locals.len() > 256 {
            let lanes = self.lanes.as_chunks::<2>().0.get(values).unwrap_or_default();
            lanes
                .iter()
                .enumerate()
                .for_each(|(at, lane)| each(at, u16::from_le_bytes(*lane).into()));
        } else {
            let lanes = self.lanes.get(values).unwrap_or_default();
            lanes.iter().enumerate().for_each(|(at, lane)| each(at, usize::from(*lane)));
        }
    }

    fn parse(cursor: &mut Cursor<'_>, bytes: &Bytes, len: usize) -> Result<Self, SegmentError> {
        let damaged = |what: &str| SegmentError::damaged("template numbers", what);
        let count = cursor.count()?;
        if count > len {
            return Err(damaged("name more templates than values"));
        }
        let mut locals = Vec::with_capacity(count);
        let (mut template, mut start) = (0, 0);
        for _ in 0..count {
            template += cursor.at_most(u16::MAX.into())? as u32;
            let first = cursor.at_most(u32::MAX as usize)?;
            let count = cursor.at_most(len)?;
            locals.push(Local { template, first, count, start });
            start += count;
        }
        let lanes = cursor.bytes(if count > 256 { len * 2 } else { len })?;
        let mut block = Self { locals, lanes: bytes.slice_ref(lanes), order: Vec::new() };
        // Each count is checked, so that the ordinals of a block never run into those of the next.
        let mut ends: Vec<usize> = block.locals.iter().map(|local| local.start).collect();
        let (mut order, mut known) = (vec![0u16; len], start == len);
        block.for_each(0..len, |value, place| {
            let end = ends.get_mut(place);
            match end.and_then(|end| Some((order.get_mut(*end)?, end))) {
                Some((to, end)) => {
                    *to = value as u16;
                    *end += 1;
                }
                None => known = false,
            }
        });
        let full = |(end, local): (&usize, &Local)| *end == local.start + local.count;
        if !known || !ends.iter().zip(&block.locals).all(full) {
            return Err(damaged("do not count what they hold"));
        }
        block.order = order;
        Ok(block)
    }
}

/// Writes the sections of `templates`, the number of each value's template, all below 65,536.
pub(super) fn encode(
    templates: &[u32],
    mut each: impl FnMut(&[u8]) -> Result<(), SegmentError>,
) -> Result<(), SegmentError> {
    let most = templates.iter().copied().max().map_or(0, |most| most as usize + 1);
    let mut ordinals = vec![0u64; most];
    let mut counts = vec![0u32; most];
    let mut place = vec![0u16; most];
    let mut section = Vec::new();
    for values in templates.chunks(SECTION_VALUES) {
        section.clear();
        for block in values.chunks(BLOCK_VALUES) {
            let mut locals: Vec<u32> = Vec::new();
            for template in block {
                if let Some(count) = counts.get_mut(*template as usize) {
                    if *count == 0 {
                        locals.push(*template);
                    }
                    *count += 1;
                }
            }
            locals.sort_unstable();
            put_varint(locals.len() as u64, &mut section);
            let mut before = 0;
            for (at, template) in locals.iter().enumerate() {
                let no = *template as usize;
                put_varint(u64::from(template - before), &mut section);
                before = *template;
                if let (Some(ordinal), Some(count), Some(place)) =
                    (ordinals.get_mut(no), counts.get_mut(no), place.get_mut(no))
                {
                    put_varint(*ordinal, &mut section);
                    put_varint(u64::from(*count), &mut section);
                    *ordinal += u64::from(std::mem::take(count));
                    *place = at as u16;
                }
            }
            let lane = |template: &u32| place.get(*template as usize).copied().unwrap_or(0);
            if locals.len() > 256 {
                section.extend(block.iter().flat_map(|template| lane(template).to_le_bytes()));
            } else {
                section.extend(block.iter().map(|template| lane(template) as u8));
            }
        }
        each(&section)?;
    }
    Ok(())
}

/// Reads a section of `len` values.
pub(super) fn parse(bytes: &Bytes, len: usize) -> Result<Vec<Block>, SegmentError> {
    let mut cursor = Cursor::new(bytes);
    let mut blocks = Vec::with_capacity(len.div_ceil(BLOCK_VALUES));
    for start in (0..len).step_by(BLOCK_VALUES) {
        blocks.push(Block::parse(&mut cursor, bytes, BLOCK_VALUES.min(len - start))?);
    }
    Ok(blocks)
}
