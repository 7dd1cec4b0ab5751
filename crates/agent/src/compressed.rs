//! Rotated files that are found only as `.gz`: whether such a file is the rest of one that was
//! being read, and from where on it is to be read.
//!
//! It is that rest if its text begins with the other's head, its name comes from the other's, and
//! the text before the other's position is the same. Then it goes on as the same producer, so that
//! a batch which was on its way when the agent stopped is recognised by its sequence. What is no
//! one's rest is read once, from the start, as a file of its own.
//!
//! Invariant: of every file that is begun the checkpoint holds head and producer before its first
//! batch is sent; without that the text of a compressed file could not be told to be known.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::checkpoint::entry_of;
use crate::copies::names_of_originals;
use crate::identity::{self, FilePosition, Head};
use crate::reader::{Reader, now_ns};
use crate::sequence::Sequence;
use crate::state::FileEntry;
use crate::tail::TailedFile;

/// How long a compressed file waits while the file that it was made of is still being read.
const RECHECK: Duration = Duration::from_secs(1);
/// How long a file waits until the checkpoint names it.
const NOTE: Duration = Duration::from_millis(20);
/// Most files that are remembered after they are gone.
const GONE_MAX: usize = 4_096;

/// Whether `path` is the name of a compressed log.
pub fn is_gzip_name(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.ends_with(".gz") && !name.ends_with(".tar.gz")
}

impl Reader {
    /// Whether the source of a file reads compressed ones, too.
    pub(crate) fn reads_compressed(&self, file: usize) -> bool {
        let source = self.file(file).and_then(|tailed| self.config.files.get(tailed.source));
        source.is_some_and(|source| source.compressed)
    }

    /// Whether the checkpoint names the file, so that its first batch may be sent. If not, this has
    /// it written soon.
    pub(crate) fn is_noted(&mut self, file: usize) -> bool {
        let Some(tailed) = self.files.get_mut(file).and_then(Option::as_mut) else { return false };
        if !tailed.noted {
            tailed.hold_back(Instant::now() + NOTE);
            self.note_due = true;
            self.checkpoint_due = true;
        }
        self.file(file).is_some_and(|tailed| tailed.noted)
    }

    /// Remembers a file that is no more, as its text may turn up again.
    pub(crate) fn remember_gone(&mut self, tailed: &TailedFile) {
        let now_s = now_ns().unsigned_abs() / 1_000_000_000;
        if let Some(entry) = entry_of(tailed, now_s).filter(|_| tailed.gzip.is_none()) {
            self.remember_entry(entry);
        }
    }

    /// Remembers what was known of a file whose inode is another file's now.
    pub(crate) fn remember_entry(&mut self, mut entry: FileEntry) {
        entry.gone = true;
        self.gone.push_back(entry);
        while self.gone.len() > GONE_MAX {
            self.gone.pop_front();
        }
    }

    /// Whether a compressed file that was just identified may be read from its start; if not, it
    /// waits, or goes on elsewhere.
    pub(crate) fn may_begin_compressed(&mut self, file: usize) -> bool {
        let Some((tailed, (head, _))) = self.file(file).and_then(|t| Some((t, t.identity?))) else {
            return false;
        };
        if tailed.is_no_copy {
            return true;
        }
        let only_rest = tailed.gzip.is_some_and(|gzip| gzip.only_rest);
        if self.is_being_read(file, head) || self.is_unfinished_rest(file, head) {
            if let Some(tailed) = self.files.get_mut(file).and_then(Option::as_mut) {
                tailed.hold_back(Instant::now() + RECHECK);
            }
            return false;
        }
        if let Some(entry) = self.entry_of_rest(file, head) {
            self.go_on_from(file, &entry);
            return false;
        }
        if only_rest {
            let Some(tailed) = self.file(file) else { return false };
            let (inode, path) = (tailed.inode, tailed.path.clone());
            self.remove(file);
            self.skip(inode, &path, "compressed before the agent came");
            return false;
        }
        self.may_begin(file)
    }

    /// Whether the file that this one was made of is open and not yet done with, or that cannot be
    /// told yet.
    fn is_being_read(&self, file: usize, head: Head) -> bool {
        let Some(tailed) = self.file(file) else { return false };
        self.files.iter().flatten().any(|other| {
            if other.inode == tailed.inode || other.gzip.is_some() {
                return false;
            }
            // A living file under its own name is not compressed.
            let gone = other.moved || is_made_of(&tailed.path, &other.path, true);
            let names = [&other.label, &other.path];
            if !gone || !names.iter().any(|name| is_made_of(&tailed.path, name, false)) {
                return false;
            }
            match other.identity {
                Some((own, _)) if own != head => false,
                // An empty file never gets a head.
                None => other.handle.is_some() && other.size > 0,
                Some(_) => {
                    other.acked.offset == 0 || self.may_hold(tailed, &other.acked) != Some(false)
                }
            }
        })
    }

    /// Whether the text is not all there yet, but may come to be what is remembered of a file.
    fn is_unfinished_rest(&self, file: usize, head: Head) -> bool {
        let Some(tailed) = self.file(file) else { return false };
        self.entries_of(&tailed.path, head)
            .any(|(position, _)| self.may_hold(tailed, &position).is_none())
    }

    /// What is remembered of files with this head and a name that `path` may come from.
    fn entries_of<'r>(
        &'r self,
        path: &'r Path,
        head: Head,
    ) -> impl Iterator<Item = (FilePosition, &'r FileEntry)> {
        let remembered = self.remembered.values().flatten().chain(&self.gone);
        let fits = move |entry: &&FileEntry| {
            (entry.head_bytes, entry.head_hash) == (head.length, head.hash)
                && (is_made_of(path, &entry.label, false) || is_made_of(path, &entry.path, false))
        };
        remembered.filter(fits).filter_map(|entry| Some((entry.position.parse().ok()?, entry)))
    }

    /// What is remembered of the file that this one was made of; the furthest, if of several.
    fn entry_of_rest(&self, file: usize, head: Head) -> Option<FileEntry> {
        let tailed = self.file(file)?;
        self.entries_of(&tailed.path, head)
            .filter(|(position, _)| self.may_hold(tailed, position) == Some(true))
            .max_by_key(|(position, _)| position.offset)
            .map(|(_, entry)| entry.clone())
    }

    /// Whether the text before `position` is the one that its check was made of; `None` while it may
    /// not be all there.
    fn may_hold(&self, tailed: &TailedFile, position: &FilePosition) -> Option<bool> {
        if tailed.has_content_before(position).unwrap_or(false) {
            return Some(true);
        }
        (!tailed.is_unfinished(&self.config.timing)).then_some(false)
    }

    /// Goes on where a file stood that is gone, and asks the server whether it had come further.
    fn go_on_from(&mut self, file: usize, entry: &FileEntry) {
        let (Ok(producer), Ok(position)) =
            (entry.producer.parse(), entry.position.parse::<FilePosition>())
        else {
            return;
        };
        // An inode that was used again for a file that begins alike has the same producer.
        // One that was replaced lets it go: its new content is kept apart.
        let living = self.files.iter().flatten().filter(|other| !other.replaced);
        let living = living.filter_map(|other| other.identity);
        let in_use = living.filter(|(_, s)| s.producer() == producer).count() > 0;
        let known = self.remembered.values().flatten().chain(&self.gone);
        let shared = known.filter(|other| other.producer == entry.producer).count() > 1;
        let Some(tailed) = self.files.get_mut(file).and_then(Option::as_mut) else { return };
        let Some((head, _)) = tailed.identity else { return };
        if in_use || shared {
            // Only how far the other had come is asked for. Until that is known the checkpoint keeps
            // the entry, so that an agent that stops before the answer asks again.
            tailed.rest_of = Some(Box::new(entry.clone()));
            return self.ask_for_producer(file, producer);
        }
        tailed.identity = Some((head, Sequence::resume(producer, entry.epoch, entry.seq)));
        tailed.resume_at(position, entry);
        self.take_place_of(file, entry, position);
        self.recall(file);
    }

    /// Goes on behind `entry` as a producer of its own, now that its server's position is known.
    pub(crate) fn go_on_alone(&mut self, file: usize, entry: &FileEntry) {
        let Ok(position) = entry.position.parse::<FilePosition>() else { return };
        if let Some(tailed) = self.files.get_mut(file).and_then(Option::as_mut) {
            tailed.stand_at(FilePosition { generation: tailed.read.generation, ..position });
        }
        self.take_place_of(file, entry, position);
    }

    /// Names the file after the one that `entry` tells of, which is no longer remembered.
    fn take_place_of(&mut self, file: usize, entry: &FileEntry, position: FilePosition) {
        let Some(tailed) = self.files.get_mut(file).and_then(Option::as_mut) else { return };
        tracing::info!(path = %tailed.path.display(), offset = position.offset,
            "compressed rest of a file that was read to this offset; going on behind it");
        tailed.is_no_copy = true;
        tailed.noted = false;
        tailed.label.clone_from(&entry.label);
        let label = tailed.label.clone();
        self.relabel(file, &label);
        self.counters.copied_files.increment();
        let same = |other: &FileEntry| {
            other.producer == entry.producer && other.position == entry.position
        };
        self.gone.retain(|other| !same(other));
        self.remembered.values_mut().for_each(|entries| entries.retain(|other| !same(other)));
        self.checkpoint_due = true;
    }

    /// The server's position of a compressed file's producer is not one of its text: the producer
    /// was another file's since. It goes on as a producer of its own.
    pub(crate) fn go_alone(&mut self, file: usize) {
        let agent = self.state.agent();
        let Some(tailed) = self.files.get_mut(file).and_then(Option::as_mut) else { return };
        tailed.go_alone(agent);
        self.checkpoint_due = true;
    }

    /// A compressed file may go on as the producer of a file whose inode is used again since: then
    /// the new file, if it begins alike, is another producer.
    pub(crate) fn keep_apart(&mut self, file: usize) {
        let agent = self.state.agent();
        let Some((tailed, (head, own))) = self.file(file).and_then(|t| Some((t, t.identity?)))
        else {
            return;
        };
        let inode = tailed.inode;
        let taken = self.files.iter().flatten().any(|other| {
            other.inode != inode
                && other.identity.is_some_and(|(_, s)| s.producer() == own.producer())
        });
        if taken && let Some(tailed) = self.files.get_mut(file).and_then(Option::as_mut) {
            let again = identity::file_producer_again(agent, inode, head);
            tailed.identity = Some((head, Sequence::unknown(again)));
            tailed.tally = Some(Box::default());
        }
    }
}

/// Whether `path` is named like a compressed rotation of the file at `original`, wherever that is;
/// `exactly` like its compressed form.
fn is_made_of(path: &Path, original: &Path, exactly: bool) -> bool {
    if exactly {
        return path.with_extension("") == original;
    }
    let names = names_of_originals(path);
    let name = original.file_name();
    names.into_iter().any(|candidate| candidate.file_name() == name)
}
