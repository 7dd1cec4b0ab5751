//! Identifiers as they are stored: a head, and what each of them has of its own, in pieces.
//!
//! Invariant: of a sorted list, an identifier is found by its bucket and a search in it; of any list,
//! the entry at a place is what was written there.

use std::ops::Range;

use bytes::Bytes;

use super::ROWS_MAX;
use super::id::Shape;
use super::meta::take;
use super::pieces::{Cut, Piece, Pieces};
use crate::bits::Codes;
use crate::sections::SectionWriter;
use crate::{Mask, SegmentError};

/// From so many entries on, one byte of each is saved by 256 buckets.
const BUCKETS_MIN: usize = 1 << 10;
/// From so many entries on, another byte of each is saved by 65,536 buckets.
const MANY_BUCKETS_MIN: usize = 1 << 18;

/// Writes the head and the entries, and gives how these are cut.
pub(super) fn encode_entries(
    shape: Shape,
    entries: &[u128],
    sorted: bool,
    w: &mut SectionWriter<'_>,
) -> Result<Cut, SegmentError> {
    let mut out = Vec::new();
    let width = shape.bytes();
    let tail = |id: u128, len: usize| id.to_be_bytes().into_iter().skip(16 - len);
    let (first, differing) = entries
        .first()
        .map_or((0, 0), |first| (*first, entries.iter().fold(0, |all, id| all | (id ^ first))));
    // Of each entry a byte is held at least, so that a piece knows how many it has.
    let prefix = width - (128 - differing.leading_zeros() as usize).div_ceil(8).clamp(1, width);
    let buckets = match entries.len() {
        _ if !sorted => 0,
        MANY_BUCKETS_MIN.. => 2,
        BUCKETS_MIN.. => 1,
        _ => 0,
    }
    .min(width - prefix - 1);
    let rest = width - prefix - buckets;
    out.extend_from_slice(&(entries.len() as u32).to_le_bytes());
    out.push(prefix as u8);
    out.extend(tail(first, width).take(prefix));
    out.push(buckets as u8);
    if buckets > 0 {
        let bucket = |id: u128| shr(id, rest) as usize & ((1 << (8 * buckets)) - 1);
        let mut starts = vec![0u32; 1 << (8 * buckets)];
        let mut next = 0;
        for (at, start) in starts.iter_mut().enumerate() {
            next += entries.get(next..).unwrap_or_default().partition_point(|id| bucket(*id) < at);
            *start = next as u32;
        }
        Codes::encode(&starts, &mut out);
    }
    w.squeezed(&out)?;
    let cut = Cut::of(entries.len(), entries.len() * rest);
    cut.write(entries, w, |piece, out| {
        out.reserve(piece.len() * rest + 1);
        out.push(rest as u8);
        piece.iter().for_each(|id| out.extend(tail(*id, rest)));
    })?;
    Ok(cut)
}

/// Shifts by whole bytes.
fn shr(id: u128, bytes: usize) -> u128 {
    id.checked_shr(8 * bytes as u32).unwrap_or(0)
}

fn shl(id: u128, bytes: usize) -> u128 {
    id.checked_shl(8 * bytes as u32).unwrap_or(0)
}

/// What is held of some identifiers, one after the other.
#[derive(Debug)]
pub(super) struct Held {
    bytes: Bytes,
    /// Bytes of each.
    width: usize,
    len: usize,
}

impl Piece for Held {
    fn open(bytes: &Bytes) -> Result<Self, SegmentError> {
        let damaged = |trouble: &str| SegmentError::damaged("identifiers", trouble);
        let width = usize::from(*bytes.first().ok_or_else(|| damaged("are cut short"))?);
        let bytes = bytes.slice(1..);
        let len = bytes.len().checked_div(width).unwrap_or(0);
        if width == 0 || width > 16 || bytes.len() != len * width {
            return Err(damaged("have another length"));
        }
        Ok(Self { bytes, width, len })
    }

    fn len(&self) -> usize {
        self.len
    }

    fn memory_bytes(&self) -> usize {
        0
    }
}

impl Held {
    /// The bytes of an entry, as a number.
    fn get(&self, at: usize) -> u128 {
        let bytes = self.bytes.get(at * self.width..(at + 1) * self.width).unwrap_or_default();
        let mut all = [0u8; 16];
        all.iter_mut().rev().zip(bytes.iter().rev()).for_each(|(to, from)| *to = *from);
        u128::from_be_bytes(all)
    }

    /// Marks where these bytes are in a range; bit `first` is the first of the range.
    fn scan(&self, wanted: &[u8], values: Range<usize>, first: usize, found: &mut Mask) {
        let finder = memchr::memmem::Finder::new(wanted);
        let bytes = self.bytes.get(values.start * self.width..values.end * self.width);
        let bytes = bytes.unwrap_or_default();
        let mut at = 0;
        while let Some(ahead) = bytes.get(at..).and_then(|rest| finder.find(rest)) {
            let start = at + ahead;
            if start % self.width == 0 {
                found.set(first + start / self.width);
            }
            at = start + 1;
        }
    }
}

/// Identifiers.
#[derive(Debug)]
pub(super) struct Entries {
    pub(super) held: Pieces<Held>,
    pub(super) len: usize,
    /// What all begin with.
    prefix: u128,
    /// The first entry of each bucket.
    starts: Vec<u32>,
    bucket_bytes: usize,
    /// Bytes of each that are held.
    rest: usize,
}

impl Entries {
    pub(super) fn open(
        shape: Shape,
        bytes: &Bytes,
        held: Pieces<Held>,
    ) -> Result<Self, SegmentError> {
        let damaged = |trouble: &str| SegmentError::damaged("identifiers", trouble);
        let cut = || damaged("are cut short");
        let mut from = &bytes[..];
        let len = u32::from_le_bytes(take(&mut from).ok_or_else(cut)?) as usize;
        let [prefix_len] = take(&mut from).ok_or_else(cut)?;
        let prefix_len = usize::from(prefix_len);
        if len > ROWS_MAX || prefix_len > shape.bytes() {
            return Err(damaged("are too many, or have too long a prefix"));
        }
        let (head, rest) = from.split_at_checked(prefix_len).ok_or_else(cut)?;
        let prefix = head.iter().fold(0, |all, byte| all << 8 | u128::from(*byte));
        from = rest;
        let [bucket_bytes] = take(&mut from).ok_or_else(cut)?;
        let bucket_bytes = usize::from(bucket_bytes);
        let Some(rest) = (shape.bytes() - prefix_len).checked_sub(bucket_bytes) else {
            return Err(damaged("have too many buckets"));
        };
        let mut bytes = bytes.slice(bytes.len() - from.len()..);
        let mut starts = Vec::new();
        if bucket_bytes > 0 {
            let (codes, after) = Codes::open(&bytes)?;
            if bucket_bytes > 2 || codes.len() != 1 << (8 * bucket_bytes) {
                return Err(damaged("have another number of buckets"));
            }
            starts = codes.values(0..codes.len());
            let ends = starts.last().is_none_or(|last| *last as usize <= len);
            if !starts.is_sorted() || !ends || starts.first() != Some(&0) {
                return Err(damaged("have buckets out of order"));
            }
            bytes = after;
        }
        if !bytes.is_empty() || held.len() != len {
            return Err(damaged("have another length"));
        }
        Ok(Self { held, len, prefix, starts, bucket_bytes, rest })
    }

    /// The bytes held of an entry.
    fn held(&self, at: usize) -> Result<u128, SegmentError> {
        let (held, at) = self.held.at(at)?;
        if held.width != self.rest {
            return Err(SegmentError::damaged("identifiers", "are of another width"));
        }
        Ok(held.get(at))
    }

    pub(super) fn get(&self, at: usize) -> Result<u128, SegmentError> {
        self.get_from(at, &mut 0)
    }

    /// As `get`; `bucket` is that of the entry asked for before, where the search begins.
    pub(super) fn get_from(&self, at: usize, bucket: &mut usize) -> Result<u128, SegmentError> {
        let mut head = self.prefix;
        if self.bucket_bytes > 0 {
            let start = |bucket: usize| self.starts.get(bucket).map_or(usize::MAX, |s| *s as usize);
            if start(*bucket) > at || start(*bucket + 8) <= at {
                *bucket = self.starts.partition_point(|start| *start as usize <= at) - 1;
            }
            while start(*bucket + 1) <= at {
                *bucket += 1;
            }
            head = shl(head, self.bucket_bytes) | *bucket as u128;
        }
        Ok(shl(head, self.rest) | self.held(at)?)
    }

    /// Marks where an identifier is in a range of a list without buckets.
    pub(super) fn scan(
        &self,
        id: u128,
        values: Range<usize>,
        found: &mut Mask,
    ) -> Result<(), SegmentError> {
        if shr(id, self.rest) != self.prefix {
            return Ok(());
        }
        let wanted = id.to_be_bytes();
        let wanted = wanted.get(16 - self.rest..).unwrap_or_default();
        self.held.for_each(values, |held, part, at| held.scan(wanted, part, at, found))
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.starts.len() * 4 + self.held.memory_bytes()
    }

    /// The entry that an identifier is, in a sorted list.
    pub(super) fn find(&self, id: u128) -> Result<Option<usize>, SegmentError> {
        if shr(id, self.bucket_bytes + self.rest) != self.prefix {
            return Ok(None);
        }
        let mut range = 0..self.len;
        if self.bucket_bytes > 0 {
            let bucket = shr(id, self.rest) as usize & ((1 << (8 * self.bucket_bytes)) - 1);
            let end = self.starts.get(bucket + 1).map_or(self.len, |end| *end as usize);
            range = self.starts.get(bucket).map_or(end, |start| *start as usize)..end;
        }
        let wanted = if self.rest == 16 { id } else { id & (shl(1, self.rest) - 1) };
        while range.start < range.end {
            let middle = range.start.midpoint(range.end);
            match self.held(middle)?.cmp(&wanted) {
                std::cmp::Ordering::Less => range.start = middle + 1,
                std::cmp::Ordering::Equal => return Ok(Some(middle)),
                std::cmp::Ordering::Greater => range.end = middle,
            }
        }
        Ok(None)
    }
}
