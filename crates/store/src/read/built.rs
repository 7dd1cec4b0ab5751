//! Built segments: asked on their encoded columns, section by section as they are needed.
//!
//! Invariant: sections are used only after their checksum held; damage is [`StoreError::Damaged`].

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use lodge_segment::segment::{self, Segment};
use lodge_segment::{SectionNo, SegmentError};

use super::cache::Opened;
use super::{BlockInfo, Cache, damaged, read_one};
use crate::objects::Objects;
use crate::{SegmentRef, StoreError};

/// So many bytes at the end of a segment are read first; most directories are within them.
const TAIL_BYTES: u64 = 32 << 10;
/// A segment whose sections are read as questions need them.
#[derive(Debug)]
pub(crate) struct OpenBuilt {
    key: Arc<str>,
    offset: u64,
    segment: Segment,
}

impl OpenBuilt {
    /// The open form of a segment; its directory is read if it is not kept.
    pub(super) async fn of(
        objects: &Objects,
        cache: &Cache,
        segment: &SegmentRef,
    ) -> Result<Arc<Self>, StoreError> {
        if let Some(Opened::Built(built)) = cache.get(segment.id) {
            return Ok(built);
        }
        let built = Arc::new(Self::open(objects, segment).await?);
        cache.keep(segment.id, Opened::Built(Arc::clone(&built)));
        Ok(built)
    }

    async fn open(objects: &Objects, segment: &SegmentRef) -> Result<Self, StoreError> {
        let damaged = damaged(&segment.object_key);
        let end = segment.object_offset.saturating_add(segment.bytes);
        let mut wanted = segment.bytes.min(TAIL_BYTES);
        loop {
            let tail = read_one(objects, &segment.object_key, end - wanted..end).await?;
            let needed = Segment::tail_bytes(&tail).map_err(&damaged)? as u64;
            if needed > wanted && needed <= segment.bytes {
                wanted = needed;
                continue;
            }
            return Ok(Self {
                key: Arc::clone(&segment.object_key),
                offset: segment.object_offset,
                segment: Segment::open(&tail, segment.bytes).map_err(&damaged)?,
            });
        }
    }

    pub(super) fn segment(&self) -> &Segment {
        &self.segment
    }

    pub(super) fn infos(&self) -> Arc<[BlockInfo]> {
        let info = |chunk: &segment::ChunkInfo| BlockInfo {
            rows: chunk.rows,
            time_min_ns: chunk.time_min_ns,
            time_max_ns: chunk.time_max_ns,
        };
        self.segment.chunks().iter().map(info).collect()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.segment.memory_bytes()
    }

    /// Asks until all sections that the question needs are there. What is in memory is never missing,
    /// so there are no more rounds than sections.
    pub(super) async fn ask<T>(
        &self,
        objects: &Objects,
        cache: &Cache,
        mut question: impl FnMut(&Segment) -> Result<T, SegmentError>,
    ) -> Result<T, StoreError> {
        let (mut grown, mut asked) = (false, Vec::new());
        loop {
            match question(&self.segment) {
                Err(SegmentError::Missing(mut sections)) => {
                    sections.sort_unstable();
                    sections.dedup();
                    if sections == asked {
                        return Err(damaged(&self.key)(SegmentError::damaged_question()));
                    }
                    asked.clone_from(&sections);
                    // Another question may have brought some of them meanwhile.
                    sections.retain(|section| !self.segment.has(*section));
                    self.fetch(objects, &sections).await?;
                    grown = true;
                }
                done => {
                    if grown {
                        cache.trim();
                    }
                    return done.map_err(damaged(&self.key));
                }
            }
        }
    }

    /// Reads sections.
    async fn fetch(&self, objects: &Objects, sections: &[SectionNo]) -> Result<(), StoreError> {
        let damaged = damaged(&self.key);
        let range = |section: &SectionNo| -> Result<Range<u64>, StoreError> {
            let range = self.segment.range(*section).ok_or(SegmentError::damaged_question());
            let range = range.map_err(&damaged)?;
            Ok(self.offset.saturating_add(range.start)..self.offset.saturating_add(range.end))
        };
        let ranges = sections.iter().map(range).collect::<Result<Vec<_>, _>>()?;
        let read: Vec<Bytes> = objects.ranges(&self.key, &ranges).await?;
        for (section, bytes) in sections.iter().zip(read) {
            self.segment.supply(*section, &owned(bytes)).map_err(&damaged)?;
        }
        Ok(())
    }
}

/// Bytes that keep no others in memory: a part of a larger read, for several sections at once, is
/// copied out of it.
fn owned(bytes: Bytes) -> Bytes {
    match bytes.try_into_mut() {
        Ok(alone) if alone.capacity() / 2 <= alone.len() => alone.freeze(),
        Ok(part) => Bytes::copy_from_slice(&part),
        Err(shared) => Bytes::copy_from_slice(&shared),
    }
}
