//! The queue itself: append, sync, read, acknowledge.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use crate::disk::{Disk, StdDisk};
use crate::format::{
    FRAME_HEADER_BYTES, FRAMES_AT, FileHeader, FileId, FrameHeader, PAYLOAD_BYTES_MAX,
};
use crate::position::Position;
use crate::quarantine::Quarantine;
use crate::recover::{Damage, Kept, RANGES_MAX, Recovery, recover};
use crate::walk::{Payload, Reason, Step, Walk};

/// Limits of a spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Most bytes on the disk, without `quarantine/`; at least two files.
    pub bytes_max: u64,
    /// Most bytes of a file; at least one frame. Acknowledged bytes are given back by whole files.
    pub file_bytes_max: u64,
    /// Most bytes of a frame's payload, up to 64 MiB.
    pub frame_bytes_max: u32,
    /// Most files, at least 3.
    pub files_max: usize,
    /// Most bytes in `quarantine/`; what does not fit is counted and not kept.
    pub quarantine_bytes_max: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            bytes_max: 1 << 30,
            file_bytes_max: 32 << 20,
            frame_bytes_max: 8 << 20,
            files_max: 4096,
            quarantine_bytes_max: 64 << 20,
        }
    }
}

impl Options {
    fn check(&self) -> Result<(), &'static str> {
        let frame = FRAMES_AT + FRAME_HEADER_BYTES as u64 + u64::from(self.frame_bytes_max);
        if self.frame_bytes_max > PAYLOAD_BYTES_MAX {
            return Err("frame_bytes_max is over 64 MiB");
        }
        if self.file_bytes_max < frame {
            return Err("file_bytes_max is too small for a frame of frame_bytes_max and 136 bytes");
        }
        if self.bytes_max / 2 < self.file_bytes_max {
            return Err("bytes_max is less than two files of file_bytes_max");
        }
        if self.files_max < 3 {
            return Err("files_max is less than 3");
        }
        Ok(())
    }
}

/// The disk failed at something that can be tried again.
#[derive(Debug, thiserror::Error)]
#[error("spool: cannot {doing} {}: {error}; see to the disk, or name another folder", path.display())]
pub struct SpoolError {
    /// What was tried.
    pub doing: &'static str,
    /// With what.
    pub path: PathBuf,
    /// Why it failed.
    pub error: io::Error,
}

/// A write or sync failed. The frames above [`durable`](Self::durable) are not in the spool and will
/// not be read from it: append them again, in order, and they go to a new file.
#[derive(Debug, thiserror::Error)]
#[error("spool: cannot {doing} {}: {error}; {frames} frames have to be appended again", path.display())]
pub struct NotDurable {
    /// Every frame up to here is durable.
    pub durable: Position,
    /// Frames above it that `append` had accepted; one that it just refused comes on top.
    pub frames: u64,
    /// What was tried.
    pub doing: &'static str,
    /// With what.
    pub path: PathBuf,
    /// Why it failed.
    pub error: io::Error,
}

/// A frame was not appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// A limit is reached until something is acknowledged. The frames before this one are not
    /// touched.
    #[error("spool is full: {bytes} of {bytes_max} bytes in {files} of {files_max} files")]
    Full {
        /// Bytes on the disk.
        bytes: u64,
        /// Most bytes.
        bytes_max: u64,
        /// Files.
        files: usize,
        /// Most files.
        files_max: usize,
    },
    /// The frame is longer than any may be. The frames before this one are not touched.
    #[error("frame has {bytes} bytes, the limit is {bytes_max}")]
    TooLarge {
        /// Its bytes.
        bytes: usize,
        /// Most bytes.
        bytes_max: u32,
    },
    /// The disk failed: this frame and those that no sync covered have to be appended again.
    #[error(transparent)]
    NotDurable(#[from] NotDurable),
}

/// What stands at a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// A frame.
    Frame {
        /// What was appended.
        bytes: Vec<u8>,
        /// Behind it: what to acknowledge when it is done with, and where to read on.
        next: Position,
    },
    /// A range was lost to damage. It is told of once.
    Lost {
        /// What was lost.
        damage: Damage,
        /// Where to read on.
        next: Position,
    },
}

/// The disk cannot read. A later try may succeed; going on at `next` gives the bytes between up.
#[derive(Debug, thiserror::Error)]
#[error("spool: cannot read {} at {at}: {error}", path.display())]
pub struct ReadError {
    /// Which file.
    pub path: PathBuf,
    /// Where.
    pub at: Position,
    /// Where a frame may begin that can be read.
    pub next: Position,
    /// Why it failed.
    pub error: io::Error,
}

/// What a spool holds and what has befallen it since it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Files.
    pub files: u64,
    /// Bytes on the disk, without `quarantine/`.
    pub bytes: u64,
    /// Durable bytes that are not acknowledged.
    pub bytes_unacknowledged: u64,
    /// Durable frames of the files, also acknowledged ones whose file is not deleted yet.
    pub frames: u64,
    /// Unix milliseconds when the oldest file with unacknowledged frames was begun; none of them is
    /// older.
    pub oldest_ms: Option<u64>,
    /// Frames refused because the spool was full.
    pub full: u64,
    /// Frames refused because they were too large.
    pub too_large: u64,
    /// Times that a write or sync failed.
    pub failures: u64,
    /// Damaged ranges reported.
    pub damaged: u64,
    /// Their bytes.
    pub damaged_bytes: u64,
    /// Bytes in `quarantine/`.
    pub quarantine_bytes: u64,
    /// Damaged ranges that did not fit there.
    pub quarantine_missed: u64,
}

/// The file that is being written: the last of the files.
#[derive(Debug)]
struct Active<F> {
    file: F,
    /// Behind the last frame, synced or not.
    written: u64,
    frames_unsynced: u64,
}

/// A disk queue; see the crate's page. One owner appends, syncs, reads and acknowledges. A lock
/// against other processes is the caller's.
#[derive(Debug)]
pub struct Spool<D: Disk = StdDisk> {
    disk: D,
    options: Options,
    files: VecDeque<Kept>,
    /// Files that could not be begun, and maybe not be removed either. They hold nothing.
    stillborn: Vec<FileId>,
    /// If none, the next frame begins a file.
    active: Option<Active<D::File>>,
    /// The file read last.
    reading: Option<(FileId, D::File)>,
    quarantine: Quarantine,
    number_last: u64,
    /// Behind the last durable frame.
    durable: Position,
    acknowledged: Position,
    /// Files were removed and the folder is not synced.
    removed: bool,
    ranges_reported: usize,
    counters: Counters,
}

impl Spool {
    /// Opens the spool in `folder`, which is made if need be. `floor` is the highest position that
    /// the caller knows of an earlier life, for when the folder was lost: new ones are above it.
    ///
    /// An error means that the disk failed; nothing is lost by trying again. Limits that contradict
    /// each other are an error too (`InvalidInput`).
    pub fn open(
        folder: &Path,
        options: Options,
        floor: Option<Position>,
    ) -> Result<(Self, Recovery), SpoolError> {
        Spool::open_on(StdDisk::new(folder), options, floor)
    }
}

impl<D: Disk> Spool<D> {
    /// As [`Spool::open`], on any disk.
    pub fn open_on(
        disk: D,
        options: Options,
        floor: Option<Position>,
    ) -> Result<(Self, Recovery), SpoolError> {
        let fault = |doing, error| SpoolError { doing, path: disk.path(""), error };
        options
            .check()
            .map_err(|wrong| io::Error::new(io::ErrorKind::InvalidInput, wrong))
            .map_err(|error| fault("use the limits of", error))?;
        disk.make_folder("").map_err(|error| fault("make", error))?;
        let mut quarantine = Quarantine::open(&disk, options.quarantine_bytes_max);
        let found = recover(&disk, &mut quarantine)?;
        let counters = Counters {
            damaged: found.report.damaged.len() as u64 + found.report.damaged_unlisted,
            damaged_bytes: found.report.damaged.iter().map(|damage| damage.to - damage.from).sum(),
            ..Counters::default()
        };
        let durable = found.kept.iter().rev().find(|kept| kept.end > FRAMES_AT).map(Kept::end);
        let spool = Spool {
            disk,
            options,
            number_last: found.number_last.max(floor.map_or(0, |floor| floor.file)),
            durable: durable.unwrap_or_default(),
            ranges_reported: found.kept.iter().map(|kept| kept.reported.len()).sum(),
            files: found.kept,
            stillborn: Vec::new(),
            active: None,
            reading: None,
            quarantine,
            acknowledged: Position::START,
            removed: false,
            counters,
        };
        Ok((spool, found.report))
    }

    /// Writes a frame behind all others, and gives the position behind it. It is durable, and can be
    /// read, once [`sync`](Self::sync) gives this position or a higher one.
    pub fn append(&mut self, frame: &[u8]) -> Result<Position, AppendError> {
        let length = match u32::try_from(frame.len()) {
            Ok(length) if length <= self.options.frame_bytes_max => length,
            _ => {
                self.counters.too_large += 1;
                let bytes_max = self.options.frame_bytes_max;
                return Err(AppendError::TooLarge { bytes: frame.len(), bytes_max });
            }
        };
        let needed = FRAME_HEADER_BYTES as u64 + u64::from(length);
        self.make_room(needed)?;
        if self.active.as_ref().is_some_and(|active| !self.fits(active, needed)) {
            self.sync()?;
            self.active = None;
        }
        let (mut active, id) = match (self.active.take(), self.files.back()) {
            (Some(active), Some(kept)) => (active, kept.id),
            _ => self.begin()?,
        };
        let header = FrameHeader::encode(id, active.written, length, frame);
        let payload_at = active.written + header.len() as u64;
        let written = self
            .disk
            .write_at(&active.file, &header, active.written)
            .and_then(|()| self.disk.write_at(&active.file, frame, payload_at));
        if let Some(kept) = self.files.back_mut() {
            kept.bytes = active.written + needed;
        }
        match written {
            Ok(()) => {
                active.written += needed;
                active.frames_unsynced += 1;
                let next = Position { file: id.number, offset: active.written };
                self.active = Some(active);
                Ok(next)
            }
            Err(error) => Err(self.give_up("write to", id, active.frames_unsynced, error).into()),
        }
    }

    /// Makes every frame that was appended durable; gives the position behind the last one.
    pub fn sync(&mut self) -> Result<Position, NotDurable> {
        let (Some(active), Some(kept)) = (&mut self.active, self.files.back_mut()) else {
            return Ok(self.durable);
        };
        if active.frames_unsynced == 0 {
            return Ok(self.durable);
        }
        match self.disk.sync(&active.file) {
            Ok(()) => {
                kept.end = active.written;
                kept.frames += active.frames_unsynced;
                active.frames_unsynced = 0;
                self.durable = kept.end();
                Ok(self.durable)
            }
            Err(error) => {
                let (id, frames) = (kept.id, active.frames_unsynced);
                self.active = None;
                Err(self.give_up("sync", id, frames, error))
            }
        }
    }

    /// What stands at `from` or behind it, as far as it is durable; `None` if there is nothing yet.
    /// `from` is [`Position::START`] or a position that the spool gave out, in whatever life.
    pub fn read(&mut self, from: Position) -> Result<Option<Read>, ReadError> {
        let first = self.files.partition_point(|kept| kept.id.number < from.file);
        for index in first..self.files.len() {
            let Some(kept) = self.files.get(index) else { break };
            let here = kept.id.number == from.file;
            let mut at = if here { from.offset.max(FRAMES_AT) } else { FRAMES_AT };
            // Ranges are in order, and one may follow the other.
            for (from, to) in &kept.reported {
                at = if (*from..*to).contains(&at) { *to } else { at };
            }
            if at < kept.end {
                let (id, end) = (kept.id, kept.end);
                return self.read_file(index, id, at, end).map(Some);
            }
        }
        Ok(None)
    }

    /// Says that everything up to `up_to` is done with; files without other frames are deleted.
    /// After an error the next call does what is left.
    pub fn acknowledge(&mut self, up_to: Position) -> Result<(), SpoolError> {
        // What is not here yet cannot be done with, whatever the caller remembers.
        self.acknowledged = self.acknowledged.max(up_to.min(self.durable));
        self.remove_acknowledged()
    }

    /// Behind the last durable frame; [`Position::START`] if none was ever seen.
    pub fn durable(&self) -> Position {
        self.durable
    }

    /// What the spool holds, and what has happened.
    pub fn counters(&self) -> Counters {
        let unacknowledged = |kept: &Kept| {
            let acknowledged = match self.acknowledged {
                Position { file, offset } if file == kept.id.number => offset.max(FRAMES_AT),
                Position { file, .. } if file > kept.id.number => kept.end,
                _ => FRAMES_AT,
            };
            kept.end.saturating_sub(acknowledged)
        };
        Counters {
            files: self.files.len() as u64,
            bytes: self.bytes(),
            bytes_unacknowledged: self.files.iter().map(unacknowledged).sum(),
            frames: self.files.iter().map(|kept| kept.frames).sum(),
            oldest_ms: self
                .files
                .iter()
                .filter(|kept| unacknowledged(kept) > 0)
                .find_map(|kept| kept.begun_ms),
            quarantine_bytes: self.quarantine.bytes(),
            quarantine_missed: self.quarantine.missed,
            ..self.counters.clone()
        }
    }

    fn bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, kept| sum.saturating_add(kept.bytes))
    }

    fn fits(&self, active: &Active<D::File>, needed: u64) -> bool {
        active.written + needed <= self.options.file_bytes_max
    }

    /// Refuses what would go over a limit.
    fn make_room(&mut self, needed: u64) -> Result<(), AppendError> {
        if self.has_room(needed) {
            return Ok(());
        }
        // An error shows at the next acknowledgement; here only the room counts.
        let _ = self.remove_acknowledged();
        if self.has_room(needed) {
            return Ok(());
        }
        self.counters.full += 1;
        Err(AppendError::Full {
            bytes: self.bytes(),
            bytes_max: self.options.bytes_max,
            files: self.files.len(),
            files_max: self.options.files_max,
        })
    }

    fn has_room(&self, needed: u64) -> bool {
        let begins = self.active.as_ref().is_none_or(|active| !self.fits(active, needed));
        let needed = if begins { needed + FRAMES_AT } else { needed };
        self.bytes().saturating_add(needed) <= self.options.bytes_max
            && self.files.len() + self.stillborn.len() + usize::from(begins)
                <= self.options.files_max
    }

    /// Begins a file. It is durable, with its header, before this returns: frames that come back
    /// after a crash always have the header with them that voids older copies of theirs.
    fn begin(&mut self) -> Result<(Active<D::File>, FileId), NotDurable> {
        let number = self.number_last.checked_add(1);
        let id = FileId { number: number.unwrap_or_default(), salt: self.disk.salt() };
        if number.is_none() {
            let error = io::Error::other("its numbers are used up; use another folder");
            return Err(self.give_up("begin", id, 0, error));
        }
        self.number_last = id.number;
        let begun_ms = self.disk.now_ms();
        let name = id.to_string();
        let header = FileHeader { id, begun_ms, ends: self.durable };
        let begun = self.disk.create(&name).and_then(|file| {
            self.disk.write_at(&file, &header.encode(), 0)?;
            self.disk.sync(&file)?;
            self.disk.sync_folder("")?;
            Ok(file)
        });
        let file = match begun {
            Ok(file) => file,
            Err(error) => {
                // It may be there or not. No position in it was given out.
                self.stillborn.push(id);
                let _ = self.remove_stillborn();
                return Err(self.give_up("begin", id, 0, error));
            }
        };
        self.files.push_back(Kept::empty(id, Some(begun_ms)));
        // What only stayed because it was the last file can go. Errors show when something is
        // acknowledged.
        let _ = self.remove_acknowledged();
        Ok((Active { file, written: FRAMES_AT, frames_unsynced: 0 }, id))
    }

    /// After a failure: the file stays closed where it was durable.
    fn give_up(
        &mut self,
        doing: &'static str,
        id: FileId,
        frames: u64,
        error: io::Error,
    ) -> NotDurable {
        self.active = None;
        self.counters.failures += 1;
        let path = self.disk.path(&id.to_string());
        NotDurable { durable: self.durable, frames, doing, path, error }
    }

    fn read_file(
        &mut self,
        index: usize,
        id: FileId,
        at: u64,
        end: u64,
    ) -> Result<Read, ReadError> {
        let position = |offset| Position { file: id.number, offset };
        let path = self.disk.path(&id.to_string());
        let failed = |to, error| ReadError { path, at: position(at), next: position(to), error };
        let file = match self.reading.take() {
            Some((open, file)) if open == id => file,
            _ => match self.disk.open(&id.to_string()) {
                Ok(file) => file,
                Err(error) => return Err(failed(end, error)),
            },
        };
        let mut walk = Walk::new(&self.disk, &file, id, end);
        let (to, reason) = match walk.step(at, Payload::Skip) {
            Step::Frame { header, next } => match walk.payload(at, &header) {
                Ok(Some(bytes)) => {
                    self.reading = Some((id, file));
                    return Ok(Read::Frame { bytes, next: position(next) });
                }
                Ok(None) => (next, Reason::Payload),
                Err(error) => return Err(failed(next, error)),
            },
            Step::Damaged { to, reason } => (to, reason),
            Step::Unreadable { to, error } => return Err(failed(to, error)),
            Step::End => (end, Reason::FrameHeader),
        };
        let kept = self.quarantine.keep(&self.disk, &file, id.number, at, to);
        self.reading = Some((id, file));
        self.counters.damaged += 1;
        self.counters.damaged_bytes += to - at;
        if let Some(kept) = self.files.get_mut(index).filter(|_| self.ranges_reported < RANGES_MAX)
        {
            self.ranges_reported += 1;
            let behind = kept.reported.partition_point(|(from, _)| *from < at);
            kept.reported.insert(behind, (at, to));
        }
        let damage = Damage { file: id.number, from: at, to, reason, kept };
        Ok(Read::Lost { damage, next: position(to) })
    }

    /// Deletes files that have no frame above the acknowledged position. The last one stays: its
    /// name keeps its number from being used again.
    fn remove_acknowledged(&mut self) -> Result<(), SpoolError> {
        self.remove_stillborn()?;
        let mut index = 0;
        while index + 1 < self.files.len() {
            let Some(kept) = self.files.get(index) else { break };
            if kept.end > FRAMES_AT && kept.end() > self.acknowledged {
                index += 1;
                continue;
            }
            let id = kept.id;
            self.remove(id)?;
            self.reading.take_if(|(reading, _)| *reading == id);
            let gone = self.files.remove(index);
            self.ranges_reported -= gone.map_or(0, |kept| kept.reported.len());
        }
        if self.removed {
            let path = || self.disk.path("");
            self.disk.sync_folder("").map_err(|error| SpoolError {
                doing: "sync",
                path: path(),
                error,
            })?;
            self.removed = false;
        }
        Ok(())
    }

    fn remove_stillborn(&mut self) -> Result<(), SpoolError> {
        while let Some(id) = self.stillborn.last().copied() {
            self.remove(id)?;
            self.stillborn.pop();
        }
        Ok(())
    }

    /// Removes a file, if it is there.
    fn remove(&mut self, id: FileId) -> Result<(), SpoolError> {
        let name = id.to_string();
        match self.disk.remove(&name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(SpoolError { doing: "delete", path: self.disk.path(&name), error })
            }
            _ => {
                self.removed = true;
                Ok(())
            }
        }
    }
}
