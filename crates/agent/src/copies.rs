//! Copies that a log rotation made (`copytruncate`): a file that is new to the file system, but
//! whose content was read from the original already, under the original's inode.
//!
//! A copy is recognised without memory: the producer that the original had under this head follows
//! from the original's inode and the copy's head, and the server knows how far that producer had
//! come. The copy is read from there on, so that what was cut off unread from the original is not
//! lost.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lodge_record::ProducerId;

use crate::identity::{self, FilePosition};
use crate::reader::{Event, Reader};
use crate::sequence::ServerState;
use crate::tail::TailedFile;

/// How long a file that may be a copy in the making is left alone after it grew.
const COPYING: Duration = Duration::from_secs(1);
/// How often a copy of a file that was not cut yet is looked at again.
const RECHECK: Duration = Duration::from_millis(100);

/// What is known of a file that may be a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kinship {
    /// It is none.
    None,
    /// It holds what its original holds; the original is not cut yet.
    Twin,
    /// Its original was cut, and may have had this content before.
    Heir(identity::Inode),
}

impl Reader {
    /// Whether a file that was just identified may be read. If it may be a copy, this has begun to
    /// find out.
    pub(crate) fn may_begin(&mut self, file: usize) -> bool {
        let now = Instant::now();
        match self.kinship(file, now) {
            Kinship::None => true,
            Kinship::Twin => {
                if let Some(tailed) = self.files.get_mut(file).and_then(Option::as_mut) {
                    tailed.hold_back(now + RECHECK);
                }
                false
            }
            Kinship::Heir(original) => {
                self.ask_for_original(file, original);
                false
            }
        }
    }

    fn kinship(&self, file: usize, now: Instant) -> Kinship {
        let tailed = self.files.get(file).and_then(Option::as_ref);
        let Some((tailed, (head, _))) = tailed.and_then(|t| Some((t, t.identity?))) else {
            return Kinship::None;
        };
        if tailed.is_no_copy {
            return Kinship::None;
        }
        let original = names_of_originals(&tailed.path)
            .filter_map(|path| self.by_path.get(&path))
            .filter_map(|&other| self.files.get(other)?.as_ref())
            .find(|other| other.inode != tailed.inode);
        let Some(original) = original else { return Kinship::None };
        match original.identity {
            Some((other, _)) if other == head => twin_or_none(tailed, original, now),
            _ => Kinship::Heir(original.inode),
        }
    }

    fn ask_for_original(&mut self, file: usize, original: identity::Inode) {
        let agent = self.state.agent();
        let Some((head, _)) = self.file(file).and_then(|tailed| tailed.identity) else { return };
        let producer = identity::file_producer(agent, original, head);
        self.ask_for_producer(file, producer);
    }

    /// Asks how far `producer` had come, whose content the file may hold.
    pub(crate) fn ask_for_producer(&mut self, file: usize, producer: ProducerId) {
        let Some(shipper) = self.shipper(file) else { return };
        let Some(tailed) = self.files.get_mut(file).and_then(Option::as_mut) else { return };
        tailed.recalling = true;
        let sender = self.sender.clone();
        self.runtime.spawn(async move {
            let state = shipper.recall(producer).await;
            // The loop may have ended; then no one waits for the answer.
            let _ = sender.send(Event::RecalledOriginal { file, state });
        });
    }

    /// The server's answer: where the original had come to, if it had this content.
    pub(crate) fn recalled_original(&mut self, file: usize, state: Option<Option<ServerState>>) {
        let Some(tailed) = self.files.get_mut(file).and_then(Option::as_mut) else { return };
        tailed.recalling = false;
        let rest_of = tailed.rest_of.take();
        tracing::debug!(path = %tailed.path.display(), ?state, ?rest_of, "recalled of another");
        let Some(state) = state else { return };
        tailed.is_no_copy = true;
        if let Some(entry) = rest_of {
            self.go_on_alone(file, &entry);
        }
        let Some(tailed) = self.files.get_mut(file).and_then(Option::as_mut) else { return };
        let position = state.and_then(|state| state.position);
        let position = position.and_then(|text| text.parse::<FilePosition>().ok());
        if let Some(position) = position
            && position.offset > tailed.read.offset
            && tailed.has_content_before(&position).unwrap_or(false)
        {
            tracing::info!(path = %tailed.path.display(), offset = position.offset,
                "copy of a file that was read to this offset; going on behind it");
            tailed.stand_at(FilePosition { generation: tailed.read.generation, ..position });
            self.counters.copied_files.increment();
            self.checkpoint_due = true;
        }
        self.activate(file);
    }
}

/// Two files begin alike: a copy of a living file waits until that is cut.
fn twin_or_none(tailed: &TailedFile, original: &TailedFile, now: Instant) -> Kinship {
    let growing = now.saturating_duration_since(tailed.grown_at) < COPYING;
    let read = original.acked;
    let holds_as_much = read.offset > 0 && tailed.has_content_before(&read).unwrap_or(false);
    if growing || holds_as_much { Kinship::Twin } else { Kinship::None }
}

/// Names that the original of a rotated copy may have: `app.log` for `app.log.1`,
/// `app.log-20240102` and `app.log.copy`.
pub(crate) fn names_of_originals(path: &Path) -> impl Iterator<Item = PathBuf> + use<'_> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let ends = name.char_indices().filter(|(_, c)| matches!(c, '.' | '-' | '_')).map(|(at, _)| at);
    ends.filter_map(move |at| Some(path.with_file_name(name.get(..at).filter(|n| !n.is_empty())?)))
}
