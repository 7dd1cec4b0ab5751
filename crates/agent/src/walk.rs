//! Finding files: walking the globs, recognising files that are known, and taking up where an
//! earlier run of the agent stopped.

use std::fs::Metadata;
use std::path::Path;
use std::time::Instant;

use crate::compressed::is_gzip_name;
use crate::containers::facts;
use crate::counters::Counter;
use crate::discover::{self, FoundFile};
use crate::identity::{FilePosition, Head, Inode};
use crate::parse::RecordParser;
use crate::reader::Reader;
use crate::sequence::Sequence;
use crate::state::FileEntry;
use crate::tail::{Gzip, TailedFile};

impl Reader {
    /// Walks all globs once: new files are taken up, renamed ones recognised.
    pub(crate) fn find_files(&mut self) {
        let began = Instant::now();
        self.walks += 1;
        self.walk_hinted = false;
        let globs = std::mem::take(&mut self.globs);
        for (source, globs) in globs.iter().enumerate() {
            for folder in globs.folders() {
                self.watch.add(&folder);
            }
            globs.walk(|found| self.found(source, found));
        }
        self.globs = globs;
        self.check_unseen();
        if self.walks == 1 {
            self.find_remembered();
        }
        self.skipped.retain(|_, skipped| skipped.path.exists());
        self.walk_at = Instant::now();
        self.walk_cost = began.elapsed();
    }

    fn found(&mut self, source: usize, found: FoundFile) {
        let inode = Inode::of(&found.metadata);
        let walk = self.walks;
        let known = self.by_inode.get(&inode).copied();
        let used_again = known.filter(|&file| self.is_used_again(file, &found.path));
        if let Some(file) = used_again.filter(|&f| self.file(f).is_some_and(|t| t.is_settled())) {
            self.remove(file);
        } else if let Some(file) = known {
            let Some(tailed) = self.files.get_mut(file).and_then(Option::as_mut) else { return };
            tailed.seen = walk;
            if used_again.is_none() && tailed.path != found.path && !leads_to(&tailed.path, inode) {
                self.renamed(file, found.path);
            }
            return;
        }
        if self.skipped.get(&inode).is_some_and(|skipped| !skipped.denied) {
            return;
        }
        let reads = self.config.files.get(source).is_some_and(|source| source.compressed);
        let is_gzip = reads && is_gzip_name(&found.path);
        if let Some(kind) = discover::unreadable_kind(&found.path).filter(|_| !is_gzip) {
            return self.skip(inode, &found.path, kind);
        }
        if rustix::fs::access(&found.path, rustix::fs::Access::READ_OK).is_err() {
            self.skip(inode, &found.path, "no permission to read it");
            self.skipped.entry(inode).and_modify(|skipped| skipped.denied = true);
            return;
        }
        self.skipped.remove(&inode);
        self.take_up(source, found, None);
    }

    /// Whether `path`, which has a file's inode, is another file: a log is not its own compressed
    /// form, and only an open file keeps its inode.
    pub(crate) fn is_used_again(&self, file: usize, path: &Path) -> bool {
        self.file(file).is_some_and(|tailed| {
            tailed.handle.is_none() && tailed.gzip.is_some() != is_gzip_name(path)
        })
    }

    /// Begins to tail a file; `entry` is what an earlier run remembered of it, if that is known.
    fn take_up(&mut self, source: usize, found: FoundFile, entry: Option<FileEntry>) {
        let FoundFile { path, metadata } = found;
        let inode = Inode::of(&metadata);
        let entry = entry.or_else(|| self.recollect(inode, &path));
        let label = entry.as_ref().map_or(&path, |entry| &entry.label);
        let Some(settings) = self.config.files.get(source) else { return };
        let facts = facts::find(&path);
        let parser = match &facts {
            Some(facts) => self.container_parser(source, facts),
            None => RecordParser::for_file(&self.config.host, label, &settings.labels),
        };
        let parser = parser.reading(settings.format, settings.patterns.clone());
        let label = label.clone();
        if let Some(folder) = path.parent() {
            self.watch.add(folder);
        }
        let mut tailed = TailedFile::new(source, path.clone(), &metadata, Instant::now(), parser);
        tailed.label = label;
        if settings.compressed && is_gzip_name(&tailed.path) {
            // Nothing is written to it any more, and nothing says how long its text is.
            tailed.gzip = Some(Gzip { bytes: metadata.len(), ..Gzip::default() });
            tailed.moved = true;
            tailed.size = 1;
        }
        tailed.seen = self.walks;
        let file = self.free.pop().unwrap_or(self.files.len());
        if file == self.files.len() {
            self.files.push(None);
        }
        if let Some(place) = self.files.get_mut(file) {
            *place = Some(tailed);
        }
        self.by_inode.insert(inode, file);
        self.by_path.insert(path, file);
        self.activate(file);
        if let Some(facts) = facts {
            self.ask_about(file, facts);
        }
        Counter::increment(&self.counters.files_found);
        let resumed = entry.is_some_and(|entry| {
            let known = self.resume(file, entry.clone());
            let replaced = self.file(file).is_some_and(|tailed| tailed.replaced);
            if !known {
                self.take_own_name(file);
            }
            let is_counted = self.file(file).is_some_and(|tailed| tailed.tally.is_some());
            if known && !is_counted {
                // It stopped before the server had said what it has counted.
                self.recall(file);
            }
            if !known || replaced {
                self.remember_entry(entry);
            }
            known
        });
        if !resumed && self.begins_at_end(source) {
            self.begin_at_end(file);
        }
    }

    /// The inode was another file's when it was remembered: nothing of that is this one's, its name
    /// neither. Under the other's name its own compressed form would not be known for its copy.
    fn take_own_name(&mut self, file: usize) {
        let Some(tailed) = self.files.get_mut(file).and_then(Option::as_mut) else { return };
        tailed.label.clone_from(&tailed.path);
        let label = tailed.label.clone();
        self.relabel(file, &label);
    }

    /// Names the file's records after `label`.
    pub(crate) fn relabel(&mut self, file: usize, label: &Path) {
        let Some(tailed) = self.files.get_mut(file).and_then(Option::as_mut) else { return };
        let Some(settings) = self.config.files.get(tailed.source) else { return };
        if facts::of_path(&tailed.path).is_none() {
            let parser = RecordParser::for_file(&self.config.host, label, &settings.labels);
            tailed.parser = parser.reading(settings.format, settings.patterns.clone());
        }
    }

    /// What an earlier run remembered of the file with this inode. The device's number may have
    /// changed since, where the path has not. A file that was born at another time is no more.
    fn recollect(&mut self, inode: Inode, path: &Path) -> Option<FileEntry> {
        let mut entries = self.remembered.remove(&inode.ino)?;
        let here = |entry: &FileEntry| entry.dev == inode.dev || entry.path == path;
        let at = entries.iter().position(|entry| here(entry) && entry.is_born_with(inode));
        let found = at.map(|at| entries.swap_remove(at));
        let (dead, living): (Vec<_>, Vec<_>) = entries.into_iter().partition(here);
        dead.into_iter().for_each(|entry| self.remember_entry(entry));
        if !living.is_empty() {
            self.remembered.insert(inode.ino, living);
        }
        found
    }

    /// Takes up where `entry` says. False if the file is another one by now.
    fn resume(&mut self, file: usize, entry: FileEntry) -> bool {
        let is_open = self.ensure_open(file);
        let Some(tailed) = self.files.get_mut(file).and_then(Option::as_mut) else { return false };
        let position = entry.position.parse::<FilePosition>();
        let (Ok(producer), Ok(position)) = (entry.producer.parse(), position) else { return false };
        let sequence = Sequence::resume(producer, entry.epoch, entry.seq);
        let head = Head { length: entry.head_bytes, hash: entry.head_hash };
        // A file that was renamed just now cannot be opened here; the next turn compares.
        let begins_alike = tailed.read_head().map(|bytes| head.matches(&bytes));
        let same_head = !is_open || begins_alike.unwrap_or(true);
        if !same_head && entry.path != tailed.path {
            // The inode was used again for a file that has nothing to do with the old one.
            return false;
        }
        tailed.identity = Some((head, sequence));
        tailed.resume_at(position, &entry);
        tailed.noted = true;
        tracing::debug!(path = %tailed.path.display(), ?entry, same_head, "remembered");
        tailed.replaced = !same_head || !tailed.has_content_before(&position).unwrap_or(true);
        true
    }

    /// Begins with what is appended from now on, unless the server knows the file.
    fn begin_at_end(&mut self, file: usize) {
        self.ensure_open(file);
        let Some(tailed) = self.files.get_mut(file).and_then(Option::as_mut) else { return };
        if let Some(gzip) = &mut tailed.gzip {
            gzip.only_rest = true;
            return;
        }
        match tailed.last_line_start() {
            Ok(offset) => tailed.begin_at = Some(offset),
            Err(error) => {
                tracing::warn!(path = %tailed.path.display(), %error, "cannot find its end");
            }
        }
    }

    /// Files that the walk did not see: renamed out of the globs, or deleted.
    fn check_unseen(&mut self) {
        let walk = self.walks;
        for file in 0..self.files.len() {
            let Some(tailed) = self.files.get_mut(file).and_then(Option::as_mut) else { continue };
            if tailed.seen == walk || leads_to(&tailed.path, tailed.inode) {
                continue;
            }
            tailed.moved = true;
            let inode = tailed.inode;
            let located = discover::locate(&tailed.path, |m| Inode::of(m) == inode);
            if let Some(path) = located.filter(|path| !self.is_used_again(file, path)) {
                self.renamed(file, path);
            }
            self.activate(file);
        }
    }

    /// Files that an earlier run had begun and that were renamed out of the globs since.
    fn find_remembered(&mut self) {
        let entries: Vec<FileEntry> = self.remembered.values().flatten().cloned().collect();
        for entry in entries {
            let Some(source) = self.source_of(&entry.label) else { continue };
            let is_it = |m: &Metadata| m.is_file() && entry.is_at(Inode::of(m));
            let Some(path) = discover::locate(&entry.path, is_it) else { continue };
            let Ok(metadata) = std::fs::metadata(&path) else { continue };
            let inode = Inode::of(&metadata);
            if self.by_inode.contains_key(&inode) {
                continue;
            }
            let head = Head { length: entry.head_bytes, hash: entry.head_hash };
            if !has_head(&path, head) {
                continue;
            }
            self.recollect(inode, &path);
            let moved = path != entry.label;
            self.take_up(source, FoundFile { path, metadata }, Some(entry));
            if let Some(&file) = self.by_inode.get(&inode)
                && let Some(tailed) = self.files.get_mut(file).and_then(Option::as_mut)
            {
                tailed.moved = moved;
            }
        }
    }

    /// The source whose globs name `label`.
    fn source_of(&self, label: &Path) -> Option<usize> {
        self.globs.iter().position(|globs| globs.names(label))
    }
}

/// Whether `path` leads to the file with this inode.
fn leads_to(path: &Path, inode: Inode) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| Inode::of(&metadata) == inode)
}

fn has_head(path: &Path, head: Head) -> bool {
    use std::os::unix::fs::FileExt;
    let mut bytes = vec![0u8; head.length.min(crate::identity::HEAD_BYTES_MAX as u32) as usize];
    let Ok(file) = std::fs::File::open(path) else { return false };
    file.read_exact_at(&mut bytes, 0).is_ok() && head.matches(&bytes)
}
