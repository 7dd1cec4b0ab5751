//! What makes a file the same file, whatever its name: device, inode, time of birth and the
//! fingerprint of its head; and where in it a producer stands.
//!
//! Invariants:
//! - The head of a file is its first line (or its first KiB, if the first line is longer). It does
//!   not change when the file grows, so the identity needs no memory: an agent that lost its state
//!   derives the same [`ProducerId`] and learns from the server how far it had come.
//! - An inode that is used again for another file was born at another time. Where a file system
//!   keeps no such time, a file that begins like one whose inode it has is taken for that one.
//! - A position names a generation (how often content with this head was replaced by content with
//!   the same one), an offset at a record boundary, and a hash of the bytes before the offset.
//!   Whoever resumes there compares the hash first: content that was replaced is never mistaken for
//!   content already read. Generations of different producers are never compared.

use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::str::FromStr;
use std::time::UNIX_EPOCH;

use lodge_record::{Position, ProducerId};
use xxhash_rust::xxh3::xxh3_64;

/// Longest head that is fingerprinted.
pub const HEAD_BYTES_MAX: usize = 1024;
/// How many bytes before an offset its check covers.
pub const CHECK_BYTES_MAX: usize = 256;

/// Fingerprint of a file's head. Persisted in checkpoints: the hash is XXH3-64 and stays so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Head {
    /// How many bytes are covered.
    pub length: u32,
    /// XXH3-64 of those bytes.
    pub hash: u64,
}

impl Head {
    /// The head of a file that begins with `bytes`; `None` while the first line may still grow.
    pub fn of(bytes: &[u8]) -> Option<Head> {
        let window = bytes.get(..bytes.len().min(HEAD_BYTES_MAX))?;
        match memchr::memchr(b'\n', window) {
            Some(newline) => Some(Head::whole(window.get(..=newline)?)),
            None if window.len() == HEAD_BYTES_MAX => Some(Head::whole(window)),
            None => None,
        }
    }

    /// The head of a file that is finished and holds nothing but `bytes`.
    pub fn whole(bytes: &[u8]) -> Head {
        Head { length: bytes.len() as u32, hash: xxh3_64(bytes) }
    }

    /// Whether a file that begins with `bytes` has this head.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        bytes.get(..self.length as usize).is_some_and(|head| xxh3_64(head) == self.hash)
    }
}

/// Which file this is for the file system, until the inode is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Inode {
    /// Device number.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// UTC nanoseconds since 1970 at which the file was made; 0 where that is not kept.
    pub born_ns: u64,
}

impl Inode {
    /// Device, inode and birth of a file.
    pub fn of(metadata: &Metadata) -> Inode {
        let born = metadata.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let born_ns = born.and_then(|since| u64::try_from(since.as_nanos()).ok()).unwrap_or(0);
        Inode { dev: metadata.dev(), ino: metadata.ino(), born_ns }
    }
}

/// The producer of a file's records: the same for the same agent, file and head.
pub fn file_producer(agent: ProducerId, inode: Inode, head: Head) -> ProducerId {
    ProducerId::derive(&[
        &agent.to_bytes(),
        b"file",
        &inode.dev.to_le_bytes(),
        &inode.ino.to_le_bytes(),
        &inode.born_ns.to_le_bytes(),
        &head.length.to_le_bytes(),
        &head.hash.to_le_bytes(),
    ])
}

/// As [`file_producer`], for a file whose producer is another file's for now.
pub fn file_producer_again(agent: ProducerId, inode: Inode, head: Head) -> ProducerId {
    let first = file_producer(agent, inode, head);
    ProducerId::derive(&[&first.to_bytes(), b"again"])
}

/// The agent's own identity, when it has none stored: what this machine and state folder always
/// give, so that losing the folder does not make it a stranger to the server. Random only where
/// the machine has no identity.
pub fn derive_agent(host: &str, state_dir: &Path) -> ProducerId {
    let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let machine = machine.trim();
    if machine.len() < 16 {
        return ProducerId::random();
    }
    let state_dir = state_dir.canonicalize().unwrap_or_else(|_| state_dir.to_path_buf());
    ProducerId::derive(&[
        b"agent",
        machine.as_bytes(),
        host.as_bytes(),
        state_dir.as_os_str().as_encoded_bytes(),
    ])
}

/// A place in a file: `g<generation>:<offset>:<check>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilePosition {
    /// How often the file's content was replaced before.
    pub generation: u32,
    /// Bytes from the start of the file; always a record boundary.
    pub offset: u64,
    /// XXH3-64 of the up to [`CHECK_BYTES_MAX`] bytes before `offset`.
    pub check: u64,
}

impl FilePosition {
    /// The start of a file's content.
    pub fn start(generation: u32) -> Self {
        FilePosition { generation, offset: 0, check: check_of(&[]) }
    }

    /// How many bytes before the offset its check covers.
    pub fn check_bytes(&self) -> usize {
        self.offset.min(CHECK_BYTES_MAX as u64) as usize
    }

    /// As the opaque text that travels with a batch.
    pub fn to_position(self) -> Position {
        // At most 10 + 20 + 16 digits and four marks, far below the limit of a position.
        Position::new(self.to_string()).unwrap_or_default()
    }
}

/// The check of an offset that comes after `before` (of which the last bytes count).
pub fn check_of(before: &[u8]) -> u64 {
    xxh3_64(before.get(before.len().saturating_sub(CHECK_BYTES_MAX)..).unwrap_or_default())
}

impl fmt::Display for FilePosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "g{}:{}:{:016x}", self.generation, self.offset, self.check)
    }
}

/// A text was not the position of a file.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a file position such as g0:4096:0123456789abcdef")]
pub struct FilePositionError(String);

impl FromStr for FilePosition {
    type Err = FilePositionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            let mut parts = text.strip_prefix('g')?.split(':');
            let generation = parts.next()?.parse().ok()?;
            let offset = parts.next()?.parse().ok()?;
            let check = u64::from_str_radix(parts.next()?, 16).ok()?;
            parts.next().is_none().then_some(FilePosition { generation, offset, check })
        };
        read().ok_or_else(|| FilePositionError(text.chars().take(80).collect()))
    }
}
