//! Thousands of files with a bounded number of open descriptors: a quiet file that still has a path
//! gives its descriptor up for one that has something to read.

use std::fs::File;
use std::time::{Duration, Instant};

use crate::content::Content;
use crate::reader::Reader;
use crate::identity::Inode;

/// After all files were found busy, how long none is asked again to give its descriptor up.
const SCARCE: Duration = Duration::from_millis(20);

impl Reader {
    /// Opens the file if it is not, closing a quiet one if descriptors are scarce.
    pub(crate) fn ensure_open(&mut self, file: usize) -> bool {
        let Some(tailed) = self.file(file) else { return false };
        if tailed.handle.is_some() {
            return true;
        }
        if self.open_files >= self.open_files_max && !self.close_one() {
            return false;
        }
        let Some(tailed) = self.files.get_mut(file).and_then(Option::as_mut) else { return false };
        match File::open(&tailed.path) {
            // The path may lead to another file by now.
            Ok(handle) if handle.metadata().is_ok_and(|m| Inode::of(&m) == tailed.inode) => {
                tailed.handle = Some(Content::new(handle, tailed.gzip.is_some()));
                self.open_files += 1;
                true
            }
            Ok(_) => false,
            Err(error) => {
                tracing::debug!(path = %tailed.path.display(), %error, "cannot open");
                false
            }
        }
    }

    /// Closes some quiet file that still has a path; false if there is none.
    fn close_one(&mut self) -> bool {
        let now = Instant::now();
        if now < self.scarce_until {
            return false;
        }
        for _ in 0..self.files.len() {
            self.close_cursor = (self.close_cursor + 1) % self.files.len().max(1);
            let at = self.close_cursor;
            if let Some(tailed) = self.files.get_mut(at).and_then(Option::as_mut)
                && tailed.handle.is_some()
                && !tailed.deleted
                && tailed.is_quiet()
            {
                tailed.handle = None;
                self.open_files -= 1;
                return true;
            }
        }
        self.scarce_until = now + SCARCE;
        false
    }
}
