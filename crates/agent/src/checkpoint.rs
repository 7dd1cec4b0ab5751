//! The checkpoint of all files, written now and then.
//!
//! Invariant: an entry stands where everything before is durable, or accounted for in it.

use std::time::Instant;

use crate::reader::{REMEMBER_S, Reader, now_ns};
use crate::sequence::Sequence;
use crate::state::FileEntry;
use crate::tail::TailedFile;

impl Reader {
    pub(crate) fn save_checkpoint_if_due(&mut self) {
        let pause = match self.note_due {
            true => self.checkpoint_cost * 4,
            false => self.config.timing.checkpoint.max(self.checkpoint_cost * 20),
        };
        if self.checkpoint_due && self.checkpoint_at.elapsed() >= pause {
            self.save_checkpoint();
        }
    }

    /// Writes the checkpoint. A failure is logged and tried again: the server knows the positions.
    pub(crate) fn save_checkpoint(&mut self) {
        let began = Instant::now();
        let now_s = now_ns().unsigned_abs() / 1_000_000_000;
        let tailed = self.files.iter().flatten().filter_map(|file| entry_of(file, now_s));
        let remembered = self.remembered.values().flatten().chain(&self.gone);
        let remembered = remembered.filter(|e| e.seen_s.saturating_add(REMEMBER_S) > now_s);
        let entries = tailed.chain(remembered.cloned()).collect();
        match self.state.save_files(entries) {
            Ok(()) => self.checkpoint_due = false,
            Err(error) => tracing::error!(%error, "cannot write the checkpoint"),
        }
        // If it cannot be written, reading goes on: the server knows the positions.
        self.note_due = false;
        for tailed in self.files.iter_mut().flatten() {
            tailed.noted |= tailed.identity.is_some();
        }
        self.checkpoint_cost = began.elapsed();
        self.checkpoint_at = Instant::now();
    }
}

/// What is remembered of a file.
pub(crate) fn entry_of(file: &TailedFile, now_s: u64) -> Option<FileEntry> {
    let (head, sequence): (_, Sequence) = file.identity?;
    // While something is under way its account is too, and is given anew from the base on.
    let is_beyond = file.is_settled() && file.acked != file.base;
    let position = if is_beyond { file.acked } else { file.base };
    Some(FileEntry {
        label: file.label.clone(),
        path: file.path.clone(),
        dev: file.inode.dev,
        ino: file.inode.ino,
        born_ns: file.inode.born_ns,
        head_bytes: head.length,
        head_hash: head.hash,
        producer: sequence.producer().to_string(),
        epoch: sequence.epoch(),
        seq: sequence.acked(),
        position: position.to_string(),
        base: is_beyond.then(|| file.base.to_string()),
        unsaid: is_beyond.then(|| file.unsaid.clone()),
        tally: file.tally.as_deref().cloned(),
        seen_s: now_s,
        gone: false,
    })
}
