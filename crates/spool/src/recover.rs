//! What is found in the folder at the start: which files, how far each is in order, what is damaged.
//!
//! Invariants: nothing is written to a spool file; a file ends where the next one's header says, or
//! else behind its last whole frame; a file of another version is left alone.

use std::collections::VecDeque;

use crate::disk::{Disk, read_full};
use crate::format::{FRAMES_AT, FileHeader, FileId, HEADER_BYTES, HeaderRead, read_header};
use crate::position::Position;
use crate::quarantine::Quarantine;
use crate::spool::SpoolError;
use crate::walk::{Payload, Reason, Step, Walk};

/// Most ranges that are listed; those beyond are counted.
pub(crate) const RANGES_MAX: usize = 1000;

/// A range of a spool file that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Number of the file.
    pub file: u64,
    /// First byte.
    pub from: u64,
    /// Behind the last byte.
    pub to: u64,
    /// What is wrong.
    pub reason: Reason,
    /// Whether the bytes are in the folder `quarantine`.
    pub kept: bool,
}

/// The end of the last file, after a crash in the middle of a group: no sync covered it. Damage to
/// the very last frame of a spool cannot be told from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    /// Number of the file.
    pub file: u64,
    /// Behind the last whole frame.
    pub from: u64,
    /// The file's length.
    pub to: u64,
    /// Whether the bytes are in the folder `quarantine`.
    pub kept: bool,
}

/// A file that is left alone: neither read nor deleted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is of a version that this program does not know.
    #[error(
        "{name} is of format version {version}, this program reads version {known}; \
         start the newer program to empty it, or delete it", known = crate::format::VERSION
    )]
    Version {
        /// The file's name.
        name: String,
        /// Its version.
        version: u32,
    },
    /// Its header is that of another file, or its number is taken.
    #[error("{name} is not the file that its name says; move it out of the spool's folder")]
    Misnamed {
        /// The file's name.
        name: String,
    },
}

/// What `open` found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Files with frames.
    pub files: u64,
    /// Frames that can be read, as far as their headers tell; the payloads of all files but the
    /// last are checked when they are read.
    pub frames: u64,
    /// Their bytes in the files.
    pub bytes: u64,
    /// Damaged ranges; each is reported once, here or by `read`. All but file headers are lost.
    pub damaged: Vec<Damage>,
    /// Damaged ranges beyond the first 1,000.
    pub damaged_unlisted: u64,
    /// What a crash cut off, which no sync covered.
    pub tails: Vec<Tail>,
    /// Files that are left alone, the first 1,000.
    pub refused: Vec<Refused>,
}

/// A file of the spool as the spool remembers it.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) id: FileId,
    /// Behind the last frame that may be read.
    pub(crate) end: u64,
    /// Bytes on the disk, read or not.
    pub(crate) bytes: u64,
    pub(crate) frames: u64,
    pub(crate) begun_ms: Option<u64>,
    /// Damaged ranges that have been reported.
    pub(crate) reported: Vec<(u64, u64)>,
}

impl Kept {
    /// A file without frames.
    pub(crate) fn empty(id: FileId, begun_ms: Option<u64>) -> Self {
        Kept { id, end: FRAMES_AT, bytes: FRAMES_AT, frames: 0, begun_ms, reported: Vec::new() }
    }

    /// Where its frames end.
    pub(crate) fn end(&self) -> Position {
        Position { file: self.id.number, offset: self.end }
    }
}

/// What recovery hands to the spool.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) kept: VecDeque<Kept>,
    /// The highest number of any file, also of those that are left alone.
    pub(crate) number_last: u64,
    pub(crate) report: Recovery,
}

/// A file that is being looked at.
struct Candidate<F> {
    id: FileId,
    length: u64,
    file: F,
    header: Option<FileHeader>,
    damaged_copy: Option<(u64, u64)>,
}

/// Looks at the whole folder.
pub(crate) fn recover<D: Disk>(disk: &D, quarantine: &mut Quarantine) -> Result<Found, SpoolError> {
    let fault = |doing, name: &str| {
        let path = disk.path(name);
        move |error| SpoolError { doing, path, error }
    };
    let mut listed: Vec<(FileId, u64)> = disk
        .list("")
        .map_err(fault("list", ""))?
        .into_iter()
        .filter_map(|(name, length)| Some((FileId::parse(&name)?, length)))
        .collect();
    listed.sort_by_key(|(id, _)| (id.number, id.salt));
    // A name that is seen after a crash of the process alone may not be durable; numbers are kept
    // from being used again by names.
    disk.sync_folder("").map_err(fault("sync", ""))?;
    let number_last = listed.last().map_or(0, |(id, _)| id.number);

    let mut report = Recovery::default();
    let mut candidates: Vec<Candidate<D::File>> = Vec::new();
    for (id, length) in listed {
        let name = id.to_string();
        let file = disk.open(&name).map_err(fault("open", &name))?;
        match identify(disk, id, length, file) {
            Ok(next) if candidates.last().is_none_or(|last| last.id.number < id.number) => {
                candidates.push(next);
            }
            Ok(_) => refuse(&mut report, Refused::Misnamed { name }),
            Err(refused) => refuse(&mut report, refused),
        }
    }

    let mut kept = VecDeque::with_capacity(candidates.len());
    let headers: Vec<Option<FileHeader>> = candidates.iter().map(|c| c.header).collect();
    for (index, candidate) in candidates.iter().enumerate() {
        let behind = headers.get(index + 1..).unwrap_or_default();
        let limit = limit(candidate.id.number, behind);
        let file = look(disk, quarantine, candidate, limit, &mut report);
        if limit.is_none() && file.frames > 0 {
            // They are there, but after a crash of the process alone no sync may have covered them.
            disk.sync(&candidate.file).map_err(fault("sync", &candidate.id.to_string()))?;
        }
        kept.push_back(file);
    }
    Ok(Found { kept, number_last, report })
}

fn refuse(report: &mut Recovery, refused: Refused) {
    if report.refused.len() < RANGES_MAX {
        report.refused.push(refused);
    }
}

/// Where the headers behind a file say that it ends. Later headers speak of it only if it was the
/// last file with frames then.
fn limit(number: u64, behind: &[Option<FileHeader>]) -> Option<u64> {
    let ends = behind.iter().flatten().map(|header| header.ends);
    ends.filter(|ends| ends.file <= number)
        .map(|ends| if ends.file == number { ends.offset.max(FRAMES_AT) } else { FRAMES_AT })
        .min()
}

fn identify<D: Disk>(
    disk: &D,
    id: FileId,
    length: u64,
    file: D::File,
) -> Result<Candidate<D::File>, Refused> {
    let mut head = vec![0; 2 * HEADER_BYTES];
    // Sectors that cannot be read count as damaged: the name says enough to find the frames.
    let read = read_full(disk, &file, &mut head, 0).unwrap_or(0);
    head.truncate(read);
    let (header, damaged_copy) = match read_header(&head) {
        HeaderRead::Version(version) => {
            return Err(Refused::Version { name: id.to_string(), version });
        }
        HeaderRead::Found { header, .. } if header.id != id => {
            return Err(Refused::Misnamed { name: id.to_string() });
        }
        HeaderRead::Found { header, whole } => (Some(header), (!whole).then_some((0, FRAMES_AT))),
        HeaderRead::Damaged => (None, Some((0, FRAMES_AT))),
    };
    // A file that ends in its header was being begun, which no one has relied on yet.
    let damaged_copy = damaged_copy.filter(|_| length > FRAMES_AT);
    Ok(Candidate { id, length, file, header, damaged_copy })
}

/// Walks over a file, reports what is damaged and says what can be read.
fn look<D: Disk>(
    disk: &D,
    quarantine: &mut Quarantine,
    candidate: &Candidate<D::File>,
    limit: Option<u64>,
    report: &mut Recovery,
) -> Kept {
    let number = candidate.id.number;
    let end = candidate.length.min(limit.unwrap_or(u64::MAX)).max(FRAMES_AT);
    let payload = if limit.is_some() { Payload::Skip } else { Payload::Check };
    let mut ranges: Vec<(u64, u64, Reason)> = Vec::new();
    let mut kept = Kept::empty(candidate.id, candidate.header.map(|header| header.begun_ms));
    kept.bytes = candidate.length;
    kept.end = end;
    let mut walk = Walk::new(disk, &candidate.file, candidate.id, end);
    let mut at = FRAMES_AT;
    let mut in_order = FRAMES_AT;
    loop {
        let (to, reason) = match walk.step(at, payload) {
            Step::End => break,
            Step::Frame { next, .. } => {
                kept.frames += 1;
                report.bytes += next - at;
                at = next;
                in_order = next;
                continue;
            }
            Step::Damaged { to, reason } => (to, reason),
            Step::Unreadable { to, .. } => (to, Reason::Unreadable),
        };
        match ranges.last_mut() {
            // One frame's header and the next one's payload are one hole.
            Some(last)
                if last.1 == at
                    && (last.2 == Reason::Unreadable) == (reason == Reason::Unreadable) =>
            {
                last.1 = to;
            }
            _ => ranges.push((at, to, reason)),
        }
        at = to;
    }
    if limit.is_none() && in_order < end && cut_tail(&mut ranges, &mut kept, in_order) {
        let aside = quarantine.keep(disk, &candidate.file, number, in_order, end);
        if report.tails.len() < RANGES_MAX {
            report.tails.push(Tail { file: number, from: in_order, to: end, kept: aside });
        }
    }
    if let Some(limit) = limit
        && candidate.length < limit
    {
        ranges.push((candidate.length.max(FRAMES_AT), limit, Reason::Missing));
    }
    if let Some((from, to)) = candidate.damaged_copy.filter(|_| kept.frames > 0) {
        ranges.insert(0, (from, to, Reason::FileHeader));
    }
    for (from, to, reason) in ranges {
        if report.damaged.len() >= RANGES_MAX {
            report.damaged_unlisted += 1;
            continue;
        }
        // What cannot be read now can maybe be read later, so it is not gone over in silence.
        if reason != Reason::Unreadable {
            kept.reported.push((from, to));
        }
        let there = !matches!(reason, Reason::Missing | Reason::Unreadable);
        let aside = there && quarantine.keep(disk, &candidate.file, number, from, to);
        report.damaged.push(Damage { file: number, from, to, reason, kept: aside });
    }
    report.frames += kept.frames;
    report.files += u64::from(kept.frames > 0);
    kept
}

/// Behind the last whole frame of a file that was being written nothing is relied on, unless the
/// disk cannot say what is there.
fn cut_tail(ranges: &mut Vec<(u64, u64, Reason)>, kept: &mut Kept, in_order: u64) -> bool {
    let behind = ranges.iter().position(|(from, ..)| *from >= in_order).unwrap_or(ranges.len());
    if ranges.iter().skip(behind).any(|(.., reason)| *reason == Reason::Unreadable) {
        return false;
    }
    ranges.truncate(behind);
    kept.end = in_order;
    true
}
