//! One log file that is rotated by renaming, as logrotate and most logging libraries do.
//!
//! Invariant: a record that was begun in a file ends in it.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;

pub(super) struct LogFile {
    path: PathBuf,
    out: BufWriter<File>,
    bytes: u64,
    rotate_bytes: u64,
    keep_files: u32,
}

impl LogFile {
    /// Opens for appending; a file that is there is continued.
    pub(super) fn open(path: PathBuf, rotate_bytes: u64, keep_files: u32) -> anyhow::Result<Self> {
        let file = append_to(&path)?;
        let bytes = file.metadata().with_context(|| path.display().to_string())?.len();
        Ok(Self { path, out: BufWriter::new(file), bytes, rotate_bytes, keep_files })
    }

    /// Appends a record and its line feed; rotates first if the file is full. Returns whether it
    /// was.
    pub(super) fn append(&mut self, text: &str) -> anyhow::Result<bool> {
        let full = self.bytes >= self.rotate_bytes;
        if full {
            self.rotate()?;
        }
        self.out
            .write_all(text.as_bytes())
            .and_then(|()| self.out.write_all(b"\n"))
            .with_context(|| format!("cannot write to {}", self.path.display()))?;
        self.bytes += text.len() as u64 + 1;
        Ok(full)
    }

    /// Hands everything to the operating system, so that a tailing agent sees it.
    pub(super) fn flush(&mut self) -> anyhow::Result<()> {
        self.out.flush().with_context(|| format!("cannot write to {}", self.path.display()))
    }

    fn rotate(&mut self) -> anyhow::Result<()> {
        self.flush()?;
        for number in (1..self.keep_files).rev() {
            rename_if_there(&self.rotated(number), &self.rotated(number + 1))?;
        }
        if self.keep_files == 0 {
            fs::remove_file(&self.path)
                .with_context(|| format!("cannot remove {}", self.path.display()))?;
        } else {
            rename_if_there(&self.path, &self.rotated(1))?;
        }
        self.out = BufWriter::new(append_to(&self.path)?);
        self.bytes = 0;
        Ok(())
    }

    fn rotated(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

fn append_to(path: &Path) -> anyhow::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("cannot open {} for writing", path.display()))
}

fn rename_if_there(from: &Path, to: &Path) -> anyhow::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot rename {}", from.display()))
        }
        _ => Ok(()),
    }
}
