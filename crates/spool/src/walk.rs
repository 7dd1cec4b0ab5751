//! Goes from frame to frame of one file, and over what is damaged to the next frame that fits its
//! place.
//!
//! Invariants: a step never goes beyond `end`, always ends behind where it began, and costs at most
//! one pass over the bytes it goes over, whatever they hold.

use std::io;

use memchr::memmem;

use crate::disk::{Disk, read_full};
use crate::format::{FRAME_HEADER_BYTES, FRAME_MAGIC, FileId, FrameHeader, PayloadSum};

/// What is read at once to look for frames and to sum payloads.
const BLOCK_BYTES: usize = 64 << 10;
/// What is read at once of headers: several small frames, little of a large one.
const WINDOW_BYTES: usize = 16 << 10;
/// What a disk that cannot read a block is asked for, and goes over, one at a time.
const SECTOR_BYTES: u64 = 4096;

/// Why bytes are not the frames that they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A copy of the file's header is damaged. No frame is lost by it.
    FileHeader,
    /// No frame begins here.
    FrameHeader,
    /// The frame's payload is not what was written.
    Payload,
    /// The file is shorter than it was.
    Missing,
    /// The disk cannot read it now.
    Unreadable,
}

/// Whether payloads are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    /// Frame headers say enough.
    Skip,
    /// Sums are checked.
    Check,
}

/// One step over a file.
#[derive(Debug)]
pub(crate) enum Step {
    /// A frame, and where the next one begins.
    Frame { header: FrameHeader, next: u64 },
    /// No frame; the next one may begin at `to`.
    Damaged { to: u64, reason: Reason },
    /// The disk failed; the next frame may begin at `to`.
    Unreadable { to: u64, error: io::Error },
    /// The end is reached.
    End,
}

/// A walk over the frames of a file.
#[derive(Debug)]
pub(crate) struct Walk<'a, D: Disk> {
    disk: &'a D,
    file: &'a D::File,
    id: FileId,
    end: u64,
    window: Vec<u8>,
    window_at: u64,
}

impl<'a, D: Disk> Walk<'a, D> {
    /// A walk over what is before `end`.
    pub(crate) fn new(disk: &'a D, file: &'a D::File, id: FileId, end: u64) -> Self {
        Walk { disk, file, id, end, window: Vec::new(), window_at: 0 }
    }

    /// What stands at `at`.
    pub(crate) fn step(&mut self, at: u64, payload: Payload) -> Step {
        if at >= self.end {
            return Step::End;
        }
        let header = match self.header(at) {
            Ok(Some(header)) => header,
            Ok(None) => {
                return Step::Damaged { to: self.next_frame(at + 1), reason: Reason::FrameHeader };
            }
            Err(error) => return Step::Unreadable { to: self.next_frame(at + 1), error },
        };
        let next = header.end(at);
        if payload == Payload::Skip {
            return Step::Frame { header, next };
        }
        match self.payload_fits(at, &header) {
            Ok(true) => Step::Frame { header, next },
            Ok(false) => Step::Damaged { to: next, reason: Reason::Payload },
            Err(error) => Step::Unreadable { to: next, error },
        }
    }

    /// The payload of the frame at `at`; `None` if it is not what was written.
    pub(crate) fn payload(&self, at: u64, header: &FrameHeader) -> io::Result<Option<Vec<u8>>> {
        let mut payload = vec![0; header.length as usize];
        let begin = at + FRAME_HEADER_BYTES as u64;
        let read = read_full(self.disk, self.file, &mut payload, begin)?;
        let mut sum = PayloadSum::new(self.id, at, header.length);
        sum.add(&payload);
        Ok((read == payload.len() && header.fits(&sum)).then_some(payload))
    }

    fn payload_fits(&self, at: u64, header: &FrameHeader) -> io::Result<bool> {
        let mut sum = PayloadSum::new(self.id, at, header.length);
        let mut block = vec![0; BLOCK_BYTES.min(header.length as usize)];
        let mut left = header.length as usize;
        let mut offset = at + FRAME_HEADER_BYTES as u64;
        while left > 0 {
            block.truncate(left);
            if read_full(self.disk, self.file, &mut block, offset)? < block.len() {
                return Ok(false);
            }
            sum.add(&block);
            left -= block.len();
            offset += block.len() as u64;
        }
        Ok(header.fits(&sum))
    }

    /// The header at `at`, if one that fits stands there and its frame ends in time.
    fn header(&mut self, at: u64) -> io::Result<Option<FrameHeader>> {
        if self.end - at < FRAME_HEADER_BYTES as u64 {
            return Ok(None);
        }
        let seen = |window: &[u8], window_at: u64| {
            let skip = usize::try_from(at.checked_sub(window_at)?).ok()?;
            let header = window.get(skip..)?.first_chunk::<FRAME_HEADER_BYTES>()?;
            Some(*header)
        };
        let bytes = match seen(&self.window, self.window_at) {
            Some(bytes) => bytes,
            None => {
                self.fill(at)?;
                match seen(&self.window, self.window_at) {
                    Some(bytes) => bytes,
                    None => return Ok(None),
                }
            }
        };
        let header = FrameHeader::decode(self.id, at, &bytes);
        Ok(header.filter(|header| header.end(at) <= self.end))
    }

    fn fill(&mut self, at: u64) -> io::Result<()> {
        let wanted = (self.end - at).min(WINDOW_BYTES as u64);
        self.window.clear();
        self.window.resize(usize::try_from(wanted).unwrap_or(WINDOW_BYTES), 0);
        self.window_at = at;
        let mut outcome = read_full(self.disk, self.file, &mut self.window, at);
        if outcome.is_err() {
            // What lies behind may be unreadable and the header not.
            self.window.truncate(FRAME_HEADER_BYTES);
            outcome = read_full(self.disk, self.file, &mut self.window, at);
        }
        self.window.truncate(*outcome.as_ref().unwrap_or(&0));
        outcome.map(|_| ())
    }

    /// Where the first frame header at or behind `from` stands, or the end. A header's own checksum
    /// holds its place and the file's salt, so that nothing that was logged can pass for one, and
    /// payloads need not be read to know it.
    fn next_frame(&self, from: u64) -> u64 {
        let mut at = from;
        let mut block_bytes = BLOCK_BYTES as u64;
        let mut block = Vec::new();
        while self.end.saturating_sub(at) >= FRAME_HEADER_BYTES as u64 {
            block.clear();
            let wanted = usize::try_from((self.end - at).min(block_bytes)).unwrap_or(BLOCK_BYTES);
            block.resize(wanted, 0);
            let read = match read_full(self.disk, self.file, &mut block, at) {
                Ok(read) => read,
                Err(_) if block_bytes > SECTOR_BYTES => {
                    block_bytes = SECTOR_BYTES;
                    continue;
                }
                Err(_) => {
                    at = (at / SECTOR_BYTES + 1) * SECTOR_BYTES;
                    continue;
                }
            };
            block.truncate(read);
            for found in memmem::find_iter(&block, &FRAME_MAGIC) {
                let place = at + found as u64;
                let header = block
                    .get(found..)
                    .and_then(|bytes| bytes.first_chunk::<FRAME_HEADER_BYTES>())
                    .and_then(|bytes| FrameHeader::decode(self.id, place, bytes));
                if header.is_some_and(|header| header.end(place) <= self.end) {
                    return place;
                }
            }
            // A header may lie across two blocks.
            match read.checked_sub(FRAME_HEADER_BYTES - 1) {
                Some(done) if done > 0 => at += done as u64,
                _ => break,
            }
        }
        self.end
    }
}
