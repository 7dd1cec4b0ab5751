//! A disk in memory that records every operation, fails when told to, and says what could be left
//! of it if the power went after any of them.
//!
//! The rules are those of a POSIX file system at its worst: bytes are durable by a sync of their
//! file, entries by a sync of their folder, and what is not may be kept, lost, cut or reordered. A
//! sync that fails may lose bytes for good and still show them until the power goes.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use lodge_spool::Disk;

/// Files by name.
pub type Image = BTreeMap<String, Vec<u8>>;

/// What was done to the disk.
#[derive(Clone, Debug)]
pub enum Op {
    Create {
        name: String,
        inode: usize,
    },
    Write {
        inode: usize,
        offset: usize,
        bytes: Vec<u8>,
    },
    Sync {
        inode: usize,
    },
    /// A sync failed, and what it should have made durable never will be.
    Forget {
        inode: usize,
    },
    SyncFolder {
        folder: String,
    },
    Remove {
        name: String,
    },
}

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It does nothing.
    Nothing,
    /// A write does half, everything else is done, and the answer is an error all the same.
    Half,
    /// A sync forgets what it should have made durable. Otherwise as `Nothing`.
    Forgets,
}

#[derive(Debug, Default)]
struct State {
    inodes: Vec<Vec<u8>>,
    names: BTreeMap<String, usize>,
    log: Vec<Op>,
    calls: u64,
    /// Calls `.0` up to `.1` fail.
    failing: Option<(u64, u64, Fault)>,
    /// No more bytes than these.
    bytes_max: Option<usize>,
    salt: u64,
}

/// The disk; clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Simulated(Arc<Mutex<State>>);

impl Simulated {
    /// A disk on which everything of `image` is durable.
    pub fn holding(image: &Image) -> Self {
        let disk = Simulated::default();
        for (name, bytes) in image {
            let file = disk.create(name).unwrap();
            disk.write_at(&file, bytes, 0).unwrap();
            disk.sync(&file).unwrap();
        }
        for folder in ["", "quarantine"] {
            disk.sync_folder(folder).unwrap();
        }
        // A disk after a crash must not repeat the salts of the one before.
        disk.0.lock().unwrap().salt = image.keys().map(|name| name.len() as u64).sum::<u64>() << 20;
        disk
    }

    pub fn fail(&self, from: u64, calls: u64, fault: Fault) {
        self.0.lock().unwrap().failing = Some((from, from + calls, fault));
    }

    pub fn limit(&self, bytes_max: Option<usize>) {
        self.0.lock().unwrap().bytes_max = bytes_max;
    }

    pub fn calls(&self) -> u64 {
        self.0.lock().unwrap().calls
    }

    pub fn log_len(&self) -> usize {
        self.0.lock().unwrap().log.len()
    }

    pub fn log(&self) -> Vec<Op> {
        self.0.lock().unwrap().log.clone()
    }

    /// What a process sees now.
    pub fn image(&self) -> Image {
        let state = self.0.lock().unwrap();
        state
            .names
            .iter()
            .map(|(name, inode)| (name.clone(), state.inodes[*inode].clone()))
            .collect()
    }

    /// Counts a call and says how it fails.
    fn call(&self) -> Option<Fault> {
        let mut state = self.0.lock().unwrap();
        let call = state.calls;
        state.calls += 1;
        state.failing.filter(|(from, to, _)| (*from..*to).contains(&call)).map(|(.., fault)| fault)
    }
}

fn broken<T>() -> io::Result<T> {
    Err(io::Error::other("simulated I/O error"))
}

impl Disk for Simulated {
    type File = usize;

    fn make_folder(&self, _folder: &str) -> io::Result<()> {
        if self.call().is_some() { broken() } else { Ok(()) }
    }

    fn list(&self, folder: &str) -> io::Result<Vec<(String, u64)>> {
        if self.call().is_some() {
            return broken();
        }
        let state = self.0.lock().unwrap();
        let inside = state.names.iter().filter_map(|(name, inode)| {
            let (of, name) = name.rsplit_once('/').unwrap_or(("", name));
            (of == folder).then(|| (name.to_owned(), state.inodes[*inode].len() as u64))
        });
        Ok(inside.collect())
    }

    fn create(&self, name: &str) -> io::Result<usize> {
        let fault = self.call();
        if fault.is_some_and(|fault| fault != Fault::Half) {
            return broken();
        }
        let mut state = self.0.lock().unwrap();
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = state.inodes.len();
        state.inodes.push(Vec::new());
        state.names.insert(name.to_owned(), inode);
        state.log.push(Op::Create { name: name.to_owned(), inode });
        if fault.is_some() { broken() } else { Ok(inode) }
    }

    fn open(&self, name: &str) -> io::Result<usize> {
        if self.call().is_some() {
            return broken();
        }
        let state = self.0.lock().unwrap();
        state.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn read_at(&self, file: &usize, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if self.call().is_some() {
            return broken();
        }
        let state = self.0.lock().unwrap();
        let bytes = state.inodes[*file].get(offset as usize..).unwrap_or_default();
        // Short reads are allowed.
        let read = bytes.len().min(buffer.len()).min(1000);
        buffer[..read].copy_from_slice(&bytes[..read]);
        Ok(read)
    }

    fn write_at(&self, file: &usize, bytes: &[u8], offset: u64) -> io::Result<()> {
        let fault = self.call();
        let mut state = self.0.lock().unwrap();
        let used: usize = state.names.values().map(|inode| state.inodes[*inode].len()).sum();
        let room = state.bytes_max.map_or(usize::MAX, |max| max.saturating_sub(used));
        let written = match fault {
            None => bytes.len().min(room),
            Some(Fault::Half) => bytes.len().min(room) / 2,
            Some(_) => return broken(),
        };
        write(&mut state.inodes[*file], offset as usize, &bytes[..written]);
        let (inode, offset) = (*file, offset as usize);
        state.log.push(Op::Write { inode, offset, bytes: bytes[..written].to_vec() });
        match fault {
            None if written == bytes.len() => Ok(()),
            None => Err(io::ErrorKind::StorageFull.into()),
            Some(_) => broken(),
        }
    }

    fn sync(&self, file: &usize) -> io::Result<()> {
        let fault = self.call();
        let inode = *file;
        let mut state = self.0.lock().unwrap();
        match fault {
            None | Some(Fault::Half) => state.log.push(Op::Sync { inode }),
            Some(Fault::Forgets) => state.log.push(Op::Forget { inode }),
            Some(Fault::Nothing) => {}
        }
        if fault.is_some() { broken() } else { Ok(()) }
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        let fault = self.call();
        if fault.is_none_or(|fault| fault == Fault::Half) {
            self.0.lock().unwrap().log.push(Op::SyncFolder { folder: folder.to_owned() });
        }
        if fault.is_some() { broken() } else { Ok(()) }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let fault = self.call();
        if fault.is_some_and(|fault| fault != Fault::Half) {
            return broken();
        }
        let mut state = self.0.lock().unwrap();
        if state.names.remove(name).is_none() {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.log.push(Op::Remove { name: name.to_owned() });
        if fault.is_some() { broken() } else { Ok(()) }
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("/simulated").join(name)
    }

    fn now_ms(&self) -> u64 {
        1_700_000_000_000 + self.0.lock().unwrap().salt
    }

    fn salt(&self) -> u64 {
        let mut state = self.0.lock().unwrap();
        state.salt += 1;
        state.salt.wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }
}

fn write(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(bytes);
}

/// What became of an operation that no sync covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Kept,
    Lost,
    /// Only the first bytes of a write.
    Cut(usize),
    /// All of its length, but zeros behind the first bytes.
    Zeros(usize),
}

#[derive(Clone, Debug)]
enum Pending {
    Write { inode: usize, offset: usize, bytes: Vec<u8> },
    Entry { name: String, inode: Option<usize> },
}

/// The disk at one moment: what is durable, and what is not.
#[derive(Clone, Debug, Default)]
pub struct Moment {
    inodes: Vec<Vec<u8>>,
    names: BTreeMap<String, usize>,
    pending: Vec<Pending>,
}

impl Moment {
    /// The moment after these operations.
    pub fn after(log: &[Op]) -> Self {
        let mut moment = Moment::default();
        for op in log {
            moment.apply(op);
        }
        moment
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Create { name, inode } => {
                self.inodes.resize(inode + 1, Vec::new());
                self.pending.push(Pending::Entry { name: name.clone(), inode: Some(*inode) });
            }
            Op::Write { inode, offset, bytes } => self.pending.push(Pending::Write {
                inode: *inode,
                offset: *offset,
                bytes: bytes.clone(),
            }),
            Op::Remove { name } => {
                self.pending.push(Pending::Entry { name: name.clone(), inode: None });
            }
            Op::Sync { inode } => self.settle(
                true,
                |pending| matches!(pending, Pending::Write { inode: of, .. } if of == inode),
            ),
            Op::Forget { inode } => self.settle(
                false,
                |pending| matches!(pending, Pending::Write { inode: of, .. } if of == inode),
            ),
            Op::SyncFolder { folder } => self.settle(true, |pending| {
                matches!(pending, Pending::Entry { name, .. }
                    if name.rsplit_once('/').map_or("", |(of, _)| of) == folder)
            }),
        }
    }

    fn settle(&mut self, durable: bool, which: impl Fn(&Pending) -> bool) {
        let (settled, left) = std::mem::take(&mut self.pending).into_iter().partition(which);
        self.pending = left;
        for pending in settled {
            if durable {
                self.keep(&pending, Fate::Kept);
            }
        }
    }

    fn keep(&mut self, pending: &Pending, fate: Fate) {
        match (pending, fate) {
            (_, Fate::Lost) => {}
            (Pending::Write { inode, offset, bytes }, _) => {
                let mut bytes = bytes.clone();
                match fate {
                    Fate::Cut(at) => bytes.truncate(at),
                    Fate::Zeros(at) => bytes.iter_mut().skip(at).for_each(|byte| *byte = 0),
                    _ => {}
                }
                write(&mut self.inodes[*inode], *offset, &bytes);
            }
            (Pending::Entry { name, inode: Some(inode) }, _) => {
                self.names.insert(name.clone(), *inode);
            }
            (Pending::Entry { name, inode: None }, _) => {
                self.names.remove(name);
            }
        }
    }

    /// How many operations no sync covered.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Bytes of the last write that no sync covered, and its place among the pending.
    pub fn last_write(&self) -> Option<(usize, usize)> {
        self.pending.iter().enumerate().rev().find_map(|(index, pending)| match pending {
            Pending::Write { bytes, .. } => Some((index, bytes.len())),
            Pending::Entry { .. } => None,
        })
    }

    /// What is left if each pending operation has its fate.
    pub fn image(&self, fate: impl Fn(usize) -> Fate) -> Image {
        let mut left = self.clone();
        for (index, pending) in self.pending.iter().enumerate() {
            left.keep(pending, fate(index));
        }
        left.names.iter().map(|(name, inode)| (name.clone(), left.inodes[*inode].clone())).collect()
    }
}
