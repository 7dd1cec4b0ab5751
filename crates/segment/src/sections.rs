//! Sections: the pieces of a segment that are read, checked and kept on their own.
//!
//! Invariants:
//! - what [`Sections::get`] gives had the right checksum, and is unpacked if it was packed;
//! - a section is zstd'ed only where that saves an eighth or more;
//! - a section that is not in memory is an error that names it, [`SegmentError::Missing`]: the caller
//!   reads it, hands it to [`Sections::supply`], and asks again.

use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use crate::SegmentError;

/// Number of a section within its segment.
pub type SectionNo = u32;

/// Most bytes of a section once unpacked.
pub(crate) const SECTION_BYTES_MAX: usize = 1 << 30;
/// Shorter ones are never zstd'ed.
const PACK_BYTES_MIN: usize = 64;
/// At most so much of a section is packed to learn whether it pays.
const SAMPLE_BYTES: usize = 32 << 10;
const ZSTD_LEVEL: i32 = 1;

/// Where a section lies, and how it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// From the segment's first byte.
    pub(crate) offset: u64,
    /// Bytes stored.
    pub(crate) stored: u32,
    /// Bytes once unpacked; the same as `stored` if it is not packed.
    pub(crate) unpacked: u32,
    /// Over the stored bytes.
    pub(crate) crc32c: u32,
    /// Whether it is zstd'ed.
    pub(crate) zstd: bool,
}

impl Span {
    fn range(&self) -> Range<u64> {
        self.offset..self.offset.saturating_add(u64::from(self.stored))
    }
}

/// Appends sections to a segment in the making.
pub(crate) struct SectionWriter<'o> {
    out: &'o mut Vec<u8>,
    start: usize,
    spans: Vec<Span>,
    zstd: zstd::bulk::Compressor<'static>,
    packed: Vec<u8>,
}

impl<'o> SectionWriter<'o> {
    /// A writer of a segment that begins at the end of `out`.
    pub(crate) fn new(out: &'o mut Vec<u8>) -> Result<Self, SegmentError> {
        let zstd = zstd::bulk::Compressor::new(ZSTD_LEVEL).map_err(no_zstd)?;
        Ok(Self { start: out.len(), out, spans: Vec::new(), zstd, packed: Vec::new() })
    }

    /// Appends a section as it is: for bytes that are known to be dense.
    pub(crate) fn plain(&mut self, bytes: &[u8]) -> Result<SectionNo, SegmentError> {
        self.append(bytes, None)
    }

    /// Appends a section, zstd'ed if that pays.
    pub(crate) fn squeezed(&mut self, bytes: &[u8]) -> Result<SectionNo, SegmentError> {
        if !self.pays(bytes)? {
            return self.append(bytes, None);
        }
        let mut packed = std::mem::take(&mut self.packed);
        packed.clear();
        packed.reserve(zstd::zstd_safe::compress_bound(bytes.len()));
        self.zstd.compress_to_buffer(bytes, &mut packed).map_err(no_zstd)?;
        let pays = packed.len() < bytes.len() / 8 * 7;
        let no = self.append(bytes, pays.then_some(&packed));
        self.packed = packed;
        no
    }

    /// Whether packing pays, by a sample from the middle.
    fn pays(&mut self, bytes: &[u8]) -> Result<bool, SegmentError> {
        if bytes.len() < PACK_BYTES_MIN {
            return Ok(false);
        }
        if bytes.len() <= 2 * SAMPLE_BYTES {
            return Ok(true);
        }
        let from = bytes.len() / 2 - SAMPLE_BYTES / 2;
        let sample = bytes.get(from..from + SAMPLE_BYTES).unwrap_or(bytes);
        self.packed.clear();
        self.packed.reserve(zstd::zstd_safe::compress_bound(sample.len()));
        self.zstd.compress_to_buffer(sample, &mut self.packed).map_err(no_zstd)?;
        Ok(self.packed.len() < sample.len() / 8 * 7)
    }

    fn append(
        &mut self,
        bytes: &[u8],
        packed: Option<&Vec<u8>>,
    ) -> Result<SectionNo, SegmentError> {
        if bytes.len() > SECTION_BYTES_MAX {
            return Err(SegmentError::Encode("a section of more than 1 GiB".into()));
        }
        let stored = packed.map_or(bytes, Vec::as_slice);
        self.spans.push(Span {
            offset: (self.out.len() - self.start) as u64,
            stored: stored.len() as u32,
            unpacked: bytes.len() as u32,
            crc32c: crc32c::crc32c(stored),
            zstd: packed.is_some(),
        });
        self.out.extend_from_slice(stored);
        Ok(self.spans.len() as u32 - 1)
    }

    /// The number that the next section gets.
    pub(crate) fn next(&self) -> SectionNo {
        self.spans.len() as u32
    }

    /// The output and the sections written.
    pub(crate) fn finish(self) -> (&'o mut Vec<u8>, usize, Vec<Span>) {
        (self.out, self.start, self.spans)
    }
}

/// The sections of an open segment; those that were read are in memory.
#[derive(Debug)]
pub(crate) struct Sections {
    spans: Vec<Span>,
    read: Vec<OnceLock<Bytes>>,
    bytes: AtomicUsize,
}

impl Sections {
    pub(crate) fn new(spans: Vec<Span>) -> Self {
        let read = spans.iter().map(|_| OnceLock::new()).collect();
        Self { spans, read, bytes: AtomicUsize::new(0) }
    }

    /// A section; [`SegmentError::Missing`] if it was not read yet.
    pub(crate) fn get(&self, no: SectionNo) -> Result<&Bytes, SegmentError> {
        let slot = self.read.get(no as usize);
        let slot = slot.ok_or_else(|| SegmentError::damaged("directory", "names no section"))?;
        slot.get().ok_or_else(|| SegmentError::Missing(vec![no]))
    }

    /// Whether a section is in memory.
    pub(crate) fn has(&self, no: SectionNo) -> bool {
        self.read.get(no as usize).is_some_and(|slot| slot.get().is_some())
    }

    /// Checks that all of `nos` are in memory; else names all that are not, so that they are read at
    /// once.
    pub(crate) fn require(
        &self,
        nos: impl IntoIterator<Item = SectionNo>,
    ) -> Result<(), SegmentError> {
        let mut missing = Vec::new();
        for no in nos {
            match self.get(no) {
                Err(SegmentError::Missing(_)) => missing.push(no),
                other => drop(other?),
            }
        }
        if missing.is_empty() { Ok(()) } else { Err(SegmentError::Missing(missing)) }
    }

    /// As [`Sections::require`], of all sections.
    pub(crate) fn require_all(&self) -> Result<(), SegmentError> {
        self.require(0..self.spans.len() as u32)
    }

    /// Where the stored bytes of a section lie, from the segment's first byte.
    pub(crate) fn range(&self, no: SectionNo) -> Option<Range<u64>> {
        self.spans.get(no as usize).map(Span::range)
    }

    /// Takes the stored bytes of a section.
    pub(crate) fn supply(&self, no: SectionNo, stored: &Bytes) -> Result<(), SegmentError> {
        let place = || format!("section {no}");
        let (Some(span), Some(slot)) = (self.spans.get(no as usize), self.read.get(no as usize))
        else {
            return Err(SegmentError::damaged("directory", "names no section"));
        };
        if stored.len() != span.stored as usize || crc32c::crc32c(stored) != span.crc32c {
            return Err(SegmentError::damaged(place(), "the checksum does not hold"));
        }
        let bytes = if span.zstd {
            let unpacked = zstd::bulk::decompress(stored, span.unpacked as usize)
                .map_err(|e| SegmentError::damaged(place(), e.to_string()))?;
            if unpacked.len() != span.unpacked as usize {
                return Err(SegmentError::damaged(place(), "has another length once unpacked"));
            }
            Bytes::from(unpacked)
        } else {
            stored.clone()
        };
        let len = bytes.len();
        if slot.set(bytes).is_ok() {
            self.bytes.fetch_add(len, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Bytes of the sections in memory.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed) + self.spans.len() * 64
    }
}

/// Notes missing sections; any other error ends it.
pub(crate) fn gather(
    outcome: Result<(), SegmentError>,
    missing: &mut Vec<SectionNo>,
) -> Result<(), SegmentError> {
    match outcome {
        Err(SegmentError::Missing(more)) => {
            missing.extend(more);
            Ok(())
        }
        other => other,
    }
}

/// Does `work` with each of some things; if sections are missing for any of them, names all of these at
/// once.
pub(crate) fn for_all<I: IntoIterator, T>(
    things: I,
    mut work: impl FnMut(I::Item) -> Result<T, SegmentError>,
) -> Result<Vec<T>, SegmentError> {
    let (mut done, mut missing) = (Vec::new(), Vec::new());
    for thing in things {
        match work(thing) {
            Ok(value) => done.push(value),
            Err(error) => gather(Err(error), &mut missing)?,
        }
    }
    if missing.is_empty() { Ok(done) } else { Err(SegmentError::Missing(missing)) }
}

fn no_zstd(error: std::io::Error) -> SegmentError {
    SegmentError::Encode(format!("zstd: {error}"))
}
