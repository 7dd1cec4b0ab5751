//! Damaged bytes are kept aside, so that a person can look at them when their file is gone.
//!
//! A range becomes a file `quarantine/FILE-FROM-TO.damaged` with exactly its bytes. Invariants: the
//! folder is bounded in bytes and files, and what did not fit is counted; a range is kept once,
//! however often it is found; nothing here can stop the spool.

use std::collections::BTreeMap;
use std::io;

use crate::disk::{Disk, read_full};

/// The folder's name.
const FOLDER: &str = "quarantine";
/// Most ranges that are kept.
const FILES_MAX: usize = 1000;
const BLOCK_BYTES: usize = 64 << 10;

/// What is kept of damaged ranges.
#[derive(Debug)]
pub(crate) struct Quarantine {
    bytes_max: u64,
    kept: BTreeMap<String, u64>,
    pub(crate) missed: u64,
}

impl Quarantine {
    /// Looks at what is kept already. A folder that cannot be read counts as full.
    pub(crate) fn open<D: Disk>(disk: &D, bytes_max: u64) -> Self {
        match disk.list(FOLDER) {
            Ok(files) => Quarantine { bytes_max, kept: files.into_iter().collect(), missed: 0 },
            Err(_) => Quarantine { bytes_max: 0, kept: BTreeMap::new(), missed: 0 },
        }
    }

    /// Bytes that are kept.
    pub(crate) fn bytes(&self) -> u64 {
        self.kept.values().fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }

    /// Keeps bytes of spool file `number`; true if they are kept now.
    pub(crate) fn keep<D: Disk>(
        &mut self,
        disk: &D,
        file: &D::File,
        number: u64,
        from: u64,
        to: u64,
    ) -> bool {
        let name = format!("{number:020}-{from}-{to}.damaged");
        let bytes = to.saturating_sub(from);
        match self.kept.get(&name) {
            Some(kept) if *kept == bytes => return true,
            // A copy that a crash cut short is made again.
            Some(_) if disk.remove(&path(&name)).is_ok() => self.kept.remove(&name),
            _ => None,
        };
        let fits = self.bytes().saturating_add(bytes) <= self.bytes_max
            && self.kept.len() < FILES_MAX
            && !self.kept.contains_key(&name);
        let kept = fits && copy(disk, file, &name, from, to).is_ok();
        if kept {
            self.kept.insert(name, bytes);
        } else {
            self.missed += 1;
        }
        kept
    }
}

fn path(name: &str) -> String {
    format!("{FOLDER}/{name}")
}

fn copy<D: Disk>(disk: &D, file: &D::File, name: &str, from: u64, to: u64) -> io::Result<()> {
    disk.make_folder(FOLDER)?;
    let aside = disk.create(&path(name))?;
    let copied = (|| {
        let mut block = vec![0; BLOCK_BYTES];
        let mut at = from;
        while at < to {
            let wanted = usize::try_from(to - at).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
            block.truncate(wanted);
            let read = read_full(disk, file, &mut block, at)?;
            disk.write_at(&aside, block.get(..read).unwrap_or_default(), at - from)?;
            if read < wanted {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            at += read as u64;
        }
        disk.sync(&aside)?;
        disk.sync_folder(FOLDER)
    })();
    if copied.is_err() {
        // Half a copy says nothing; if it cannot be removed the next start sees its length.
        let _ = disk.remove(&path(name));
    }
    copied
}
