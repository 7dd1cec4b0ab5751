//! Files that are written past the page cache.
//!
//! An L0 object is written once and read again only after a restart; of a segment, queries and merges
//! read what they need. Through the page cache a write costs many times the CPU of the write itself,
//! and it pushes out the pages that queries want
//! (docs/adr/0004-direct-writes.md).
//!
//! Invariants:
//! - when [`write_synced`] returns, the file has exactly the bytes that were given, and they are
//!   durable; its name is not, until the caller has synced the folder;
//! - a file system without direct writes gets the same file through the page cache.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

/// What the kernel may ask of addresses, offsets and lengths: a block of any usual disk.
const ALIGN_BYTES: usize = 4096;

/// So much is written at once. It fits a core's cache, from which the disk is then fed.
const PIECE_BYTES: usize = 1 << 20;

/// So many buffers are kept for the next file: about as many as are written at once.
const KEPT_MAX: usize = 4;

/// Buffers that are used again: the first touch of memory is dear.
#[derive(Debug, Default)]
pub(crate) struct Buffers(Mutex<Vec<Vec<u8>>>);

impl Buffers {
    fn take(&self) -> Vec<u8> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.unwrap_or_else(|| vec![0; PIECE_BYTES + ALIGN_BYTES])
    }

    fn give_back(&self, buffer: Vec<u8>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT_MAX {
            kept.push(buffer);
        }
    }
}

/// Makes a file of these bytes; there must be none of its name.
pub(crate) fn write_synced(path: &Path, bytes: &[u8], buffers: &Buffers) -> io::Result<()> {
    let file = create(path, OFlags::DIRECT).or_else(|error| match is_refusal(&error) {
        // Some kernels make the file before they refuse.
        true => {
            std::fs::remove_file(path).or_else(absent).and_then(|()| create(path, OFlags::empty()))
        }
        false => Err(error),
    })?;
    let mut buffer = buffers.take();
    let written = write(&file, bytes, &mut buffer, ALIGN_BYTES);
    buffers.give_back(buffer);
    written?;
    file.sync_all()
}

/// Writes directly in blocks of `align_bytes`, or through the page cache if the file system refuses
/// them.
fn write(file: &File, bytes: &[u8], buffer: &mut [u8], align_bytes: usize) -> io::Result<()> {
    match write_aligned(file, bytes, buffer, align_bytes) {
        Err(error) if is_refusal(&error) => {
            fcntl_setfl(file, fcntl_getfl(file)? - OFlags::DIRECT)?;
            file.set_len(0)?;
            file.write_all_at(bytes, 0)
        }
        other => other,
    }
}

fn create(path: &Path, flags: OFlags) -> io::Result<File> {
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    OpenOptions::new().write(true).create_new(true).custom_flags(flags).open(path)
}

/// Whether the file system knows no direct writes, or wants larger blocks.
fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported)
}

fn absent(error: io::Error) -> io::Result<()> {
    if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

fn write_aligned(
    file: &File,
    bytes: &[u8],
    buffer: &mut [u8],
    align_bytes: usize,
) -> io::Result<()> {
    let start = buffer.as_ptr().align_offset(align_bytes);
    let piece = buffer.get_mut(start..start + PIECE_BYTES).ok_or(ErrorKind::OutOfMemory)?;
    let mut offset = 0;
    for part in bytes.chunks(PIECE_BYTES) {
        let padded = part.len().next_multiple_of(align_bytes);
        piece[..part.len()].copy_from_slice(part);
        piece[part.len()..padded].fill(0);
        file.write_all_at(&piece[..padded], offset)?;
        offset += padded as u64;
    }
    file.set_len(bytes.len() as u64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn files_of_any_length_have_the_bytes_that_were_given() {
        let dir = tempfile::tempdir().unwrap();
        let buffers = Buffers::default();
        let sizes = [0, 1, ALIGN_BYTES - 1, ALIGN_BYTES, PIECE_BYTES, 2 * PIECE_BYTES + 4097];
        for (number, size) in sizes.into_iter().enumerate() {
            let bytes: Vec<u8> = (0..size).map(|i| (i * 31 + number) as u8).collect();
            let path = dir.path().join(number.to_string());
            write_synced(&path, &bytes, &buffers).unwrap();
            assert!(std::fs::read(&path).unwrap() == bytes, "{size} bytes");
        }
    }

    #[test]
    fn a_file_system_that_wants_other_blocks_gets_the_file_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = create(&path, OFlags::DIRECT).or_else(|_| create(&path, OFlags::empty()));
        // No disk has blocks of one byte: the second piece is refused when the first is written.
        let bytes: Vec<u8> = (0..PIECE_BYTES + 77).map(|i| (i * 7) as u8).collect();
        write(&file.unwrap(), &bytes, &mut vec![0; PIECE_BYTES + ALIGN_BYTES], 1).unwrap();
        assert!(std::fs::read(&path).unwrap() == bytes);
    }

    #[test]
    fn a_file_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        write_synced(&path, b"first", &Buffers::default()).unwrap();
        let again = write_synced(&path, b"second", &Buffers::default()).unwrap_err();
        assert_eq!(again.kind(), ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
    }
}
