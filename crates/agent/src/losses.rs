//! What will never be read: content that was cut off, replaced or deleted before its time.
//!
//! Invariant: the server is told, with the last position that was read, before the file goes on.

use std::sync::Arc;

use lodge_record::Hole;
use lodge_record::builder::BatchBuilder;

use crate::identity::FilePosition;
use crate::reader::Reader;
use crate::tail::Built;

impl Reader {
    /// Tells the server, in a batch without records, of what will never be read. False if that was
    /// done, or if the server does not know the file.
    pub(crate) fn tell_loss(&mut self, file: usize, reason: &str, bytes: u64) -> bool {
        let Some(tailed) = self.file_mut(file) else { return false };
        if tailed.is_loss_told || tailed.identity.is_none() || tailed.read.offset == 0 {
            return false;
        }
        tailed.is_loss_told = true;
        let position = tailed.read;
        let end = FilePosition { offset: position.offset + bytes, check: 0, ..position };
        let (from, to, reason) = (position.to_string(), end.to_string(), reason.to_owned());
        tailed.unsaid.add_hole(Hole { from, to, reason, bytes: Some(bytes), records: None });
        let records = match BatchBuilder::new().finish() {
            Ok(records) => records,
            Err(error) => {
                tracing::error!(%error, "a batch without records cannot be made");
                return false;
            }
        };
        self.dispatch(file, Built { records, position, memory: 0 });
        true
    }

    /// Reads a file whose content was cut off or replaced from its start.
    pub(crate) fn begin_generation(&mut self, file: usize) {
        let counters = Arc::clone(&self.counters);
        let Some(tailed) = self.file_mut(file) else { return };
        let lost = tailed.cut_bytes;
        counters.truncated_files.increment();
        counters.dropped_bytes_truncated.add(lost);
        tracing::info!(path = %tailed.path.display(), offset = tailed.read.offset,
            "content was cut off or replaced; reading from the start");
        tailed.begin_generation();
        self.checkpoint_due = true;
    }
}
