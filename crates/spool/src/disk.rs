//! What the spool asks of a disk, and the real one.
//!
//! Everything that comes from outside goes through [`Disk`], clock and chance included, so that a
//! test can record it, cut it off after any operation and repeat it. Names are relative to the
//! spool's folder; a folder's name is `""` for that one itself.

use std::collections::hash_map::RandomState;
use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The operations of a disk that the spool uses. After an error any part of a write may have been
/// done; the spool does not try the same one again.
pub trait Disk: Debug {
    /// An open file.
    type File: Debug;

    /// Makes a folder if it is not there, its entry durable.
    fn make_folder(&self, folder: &str) -> io::Result<()>;
    /// Names and lengths of the plain files in a folder; none if there is no such folder.
    fn list(&self, folder: &str) -> io::Result<Vec<(String, u64)>>;
    /// Makes a file that was not there, to write.
    fn create(&self, name: &str) -> io::Result<Self::File>;
    /// Opens a file to read and sync.
    fn open(&self, name: &str) -> io::Result<Self::File>;
    /// Reads what one call gives, as `pread`: 0 only at the file's end.
    fn read_at(&self, file: &Self::File, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `bytes`.
    fn write_at(&self, file: &Self::File, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes a file's bytes durable.
    fn sync(&self, file: &Self::File) -> io::Result<()>;
    /// Makes a folder's entries durable.
    fn sync_folder(&self, folder: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// The name as a person has to type it.
    fn path(&self, name: &str) -> PathBuf;
    /// Unix milliseconds.
    fn now_ms(&self) -> u64;
    /// A number that nobody can guess.
    fn salt(&self) -> u64;
}

/// A folder of the machine's file system.
#[derive(Debug)]
pub struct StdDisk {
    folder: PathBuf,
}

impl StdDisk {
    /// The disk under `folder`, which need not exist yet.
    pub fn new(folder: &Path) -> Self {
        StdDisk { folder: folder.to_path_buf() }
    }
}

impl Disk for StdDisk {
    type File = File;

    fn make_folder(&self, folder: &str) -> io::Result<()> {
        let folder = self.path(folder);
        let missing = folder.ancestors().take_while(|path| !path.is_dir()).count();
        fs::create_dir_all(&folder)?;
        // A folder whose entry is lost takes every synced file in it along. One that is there may
        // have been made by a process that ended before it came to this.
        for made in folder.ancestors().take(missing.max(1)) {
            let parent = match made.parent() {
                Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
                Some(parent) => parent,
                None => continue,
            };
            File::open(parent)?.sync_all()?;
        }
        Ok(())
    }

    fn list(&self, folder: &str) -> io::Result<Vec<(String, u64)>> {
        let entries = match fs::read_dir(self.path(folder)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if let (true, Ok(name)) = (metadata.is_file(), entry.file_name().into_string()) {
                files.push((name, metadata.len()));
            }
        }
        Ok(files)
    }

    fn create(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).open(self.path(name))
    }

    fn open(&self, name: &str) -> io::Result<File> {
        File::open(self.path(name))
    }

    fn read_at(&self, file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match file.read_at(buffer, offset) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                outcome => return outcome,
            }
        }
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        File::open(self.path(folder))?.sync_all()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.folder.clone() } else { self.folder.join(name) }
    }

    fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn salt(&self) -> u64 {
        // The standard library keys its hash maps from the system's source of randomness.
        RandomState::new().build_hasher().finish()
    }
}

/// Reads until `buffer` is full or the file ends; gives the bytes read.
pub(crate) fn read_full<D: Disk>(
    disk: &D,
    file: &D::File,
    buffer: &mut [u8],
    offset: u64,
) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match disk.read_at(file, rest, offset + filled as u64)? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}
