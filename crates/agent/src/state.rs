//! The agent's state folder: its identity, a lock, and checkpoints that are replaced atomically.
//!
//! Files: `lock` (held while an agent runs), `agent-id`, `files.json`, `journal.json`,
//! `dead-letter.jsonl`, and `spool/` with a folder for each listener. Persisted: the names and the
//! JSON shapes below must stay readable.
//!
//! Invariant: a checkpoint never runs ahead of an acknowledgement. It may lag behind or be lost;
//! then the server's answer to the next batch says where the producer stands.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use lodge_record::{Account, ProducerId, Tally};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::identity::{self, FilePosition, Inode};

/// Version of the checkpoint files that this agent writes.
const VERSION: u32 = 1;

/// The state folder, locked for this process.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    agent: ProducerId,
    _lock: File,
}

/// The state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Creating, reading or writing failed.
    #[error("state folder {path}: {error}; name another with --state-dir")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Another agent runs on it.
    #[error("state folder {0} is in use by another agent; stop it, or name another --state-dir")]
    Locked(PathBuf),
}

/// Checkpoint of the file sources.
#[derive(Debug, Serialize, Deserialize, Default)]
pub struct FilesCheckpoint {
    version: u32,
    /// One per file.
    pub files: Vec<FileEntry>,
}

/// What is remembered of a file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FileEntry {
    /// Path under which it was found first; the `file` label.
    pub label: PathBuf,
    /// Path under which it was seen last.
    pub path: PathBuf,
    /// Device number.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// When it was made, as [`identity::Inode`] has it; missing where that is not known.
    #[serde(default)]
    pub born_ns: u64,
    /// Length of the fingerprinted head.
    pub head_bytes: u32,
    /// Fingerprint of the head.
    pub head_hash: u64,
    /// The producer, as a UUID.
    pub producer: String,
    /// Epoch of the acknowledged batch.
    pub epoch: u32,
    /// Sequence of the acknowledged batch.
    pub seq: u64,
    /// Acknowledged position, as [`identity::FilePosition`] prints it.
    pub position: String,
    /// Where the last committed batch ended, if that is before `position`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// What is to be said of the stretch between the two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsaid: Option<Account>,
    /// What was counted up to the acknowledged batch, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tally: Option<Tally>,
    /// Unix seconds when the file was seen last.
    pub seen_s: u64,
    /// The file is no more; its text may turn up in a compressed one.
    #[serde(default)]
    pub gone: bool,
}

impl FileEntry {
    /// Whether a file with this inode was born when the remembered one was, as far as is known.
    pub fn is_born_with(&self, inode: Inode) -> bool {
        self.born_ns == inode.born_ns || self.born_ns == 0 || inode.born_ns == 0
    }

    /// Whether a file with this inode is the remembered one, or has its place.
    pub fn is_at(&self, inode: Inode) -> bool {
        (self.dev, self.ino) == (inode.dev, inode.ino) && self.is_born_with(inode)
    }

    /// Where the last committed batch ended, if reading stands at `position`.
    pub fn base(&self, position: FilePosition) -> FilePosition {
        self.base.as_ref().and_then(|text| text.parse().ok()).unwrap_or(position)
    }

    /// What is to be said of the stretch from there on.
    pub fn unsaid(&self) -> Account {
        self.unsaid.clone().unwrap_or_default()
    }
}

/// Checkpoint of the journal source.
#[derive(Clone, Debug, Serialize, Deserialize, Default)]
pub struct JournalCheckpoint {
    /// Version of the shape; written by [`StateDir::save_journal`].
    pub version: u32,
    /// Epoch of the acknowledged batch.
    pub epoch: u32,
    /// Sequence of the acknowledged batch.
    pub seq: u64,
    /// The journal's cursor behind what is done with.
    pub cursor: Option<String>,
    /// The cursor behind the last stored entry, if that is before `cursor`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// What is to be said of the stretch between the two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsaid: Option<Account>,
    /// What was counted up to the acknowledged batch, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tally: Option<Tally>,
}

/// What a listener has counted.
#[derive(Clone, Debug, Serialize, Deserialize, Default, PartialEq, Eq)]
pub struct ListenerCheckpoint {
    /// Version of the shape; written by [`StateDir::save_listener`].
    pub version: u32,
    /// Epoch of the acknowledged batch.
    pub epoch: u32,
    /// Sequence of the acknowledged batch.
    pub seq: u64,
    /// What was counted up to there.
    pub tally: Tally,
}

impl StateDir {
    /// Creates the folder if need be, locks it, and reads or makes the agent's identity.
    pub fn open(path: &Path, host: &str) -> Result<Self, StateError> {
        let io_error = |path: &Path| {
            let path = path.to_path_buf();
            move |error| StateError::Io { path, error }
        };
        fs::create_dir_all(path).map_err(io_error(path))?;
        let lock_path = path.join("lock");
        let lock = File::create(&lock_path).map_err(io_error(&lock_path))?;
        lock.try_lock().map_err(|_| StateError::Locked(path.to_path_buf()))?;
        let id_path = path.join("agent-id");
        let stored = fs::read_to_string(&id_path).ok().and_then(|text| text.trim().parse().ok());
        let agent = match stored {
            Some(agent) => agent,
            None => {
                let agent = identity::derive_agent(host, path);
                replace(&id_path, format!("{agent}\n").as_bytes()).map_err(io_error(&id_path))?;
                agent
            }
        };
        Ok(StateDir { path: path.to_path_buf(), agent, _lock: lock })
    }

    /// The agent's identity.
    pub fn agent(&self) -> ProducerId {
        self.agent
    }

    /// Folder of a listener's spool.
    pub fn spool_path(&self, listener: &str) -> PathBuf {
        self.path.join("spool").join(listener)
    }

    /// Path of the dead-letter file.
    pub fn dead_letter_path(&self) -> PathBuf {
        self.path.join("dead-letter.jsonl")
    }

    /// Reads the checkpoint of the file sources.
    pub fn load_files(&self) -> FilesCheckpoint {
        self.load("files.json", |checkpoint: &FilesCheckpoint| checkpoint.version)
    }

    /// Replaces the checkpoint of the file sources.
    pub fn save_files(&self, files: Vec<FileEntry>) -> io::Result<()> {
        self.save("files.json", &FilesCheckpoint { version: VERSION, files })
    }

    /// Reads the checkpoint of the journal.
    pub fn load_journal(&self) -> JournalCheckpoint {
        self.load("journal.json", |checkpoint: &JournalCheckpoint| checkpoint.version)
    }

    /// Replaces the checkpoint of the journal.
    pub fn save_journal(&self, checkpoint: JournalCheckpoint) -> io::Result<()> {
        self.save("journal.json", &JournalCheckpoint { version: VERSION, ..checkpoint })
    }

    /// Reads what a listener had counted.
    pub fn load_listener(&self, listener: &str) -> ListenerCheckpoint {
        let version = |checkpoint: &ListenerCheckpoint| checkpoint.version;
        self.load(&format!("listen-{listener}.json"), version)
    }

    /// Replaces what a listener has counted.
    pub fn save_listener(&self, listener: &str, counted: ListenerCheckpoint) -> io::Result<()> {
        let checkpoint = ListenerCheckpoint { version: VERSION, ..counted };
        self.save(&format!("listen-{listener}.json"), &checkpoint)
    }

    /// A checkpoint that cannot be read counts as lost: the server knows the positions. The damaged
    /// file is kept beside the new one.
    fn load<T: DeserializeOwned + Default>(&self, name: &str, version: fn(&T) -> u32) -> T {
        let path = self.path.join(name);
        let Ok(bytes) = fs::read(&path) else { return T::default() };
        let problem = match serde_json::from_slice::<T>(&bytes) {
            Ok(checkpoint) if version(&checkpoint) == VERSION => return checkpoint,
            Ok(checkpoint) => format!("version {} is not {VERSION}", version(&checkpoint)),
            Err(error) => error.to_string(),
        };
        let aside = self.path.join(format!("{name}.damaged"));
        tracing::warn!(path = %path.display(), kept = %aside.display(), problem,
            "checkpoint cannot be read; positions come from the server");
        if let Err(error) = fs::rename(&path, &aside) {
            tracing::warn!(path = %path.display(), %error, "damaged checkpoint stays in place");
        }
        T::default()
    }

    fn save<T: Serialize>(&self, name: &str, value: &T) -> io::Result<()> {
        replace(&self.path.join(name), &serde_json::to_vec(value)?)
    }
}

/// Replaces the file at `path`: after a crash it holds the old bytes or the new ones.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    sync_folder(path)
}

/// Makes the name of the file at `path`, or that it has none, outlive a crash.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
