//! What can go wrong in the store, as seen by who calls it.
//!
//! A [`StoreError`] is for reads and for opening, a [`CommitError`] for a group that was not
//! committed. Neither is ever returned for a single batch of a group: that is a [`crate::Outcome`].

use std::path::PathBuf;
use std::sync::Arc;

use lodge_segment::SegmentError;

/// Reading, opening or background work failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process uses the data folder.
    #[error(
        "the data folder {dir} is in use by another lodge server (it holds the lock {lock}); stop \
         that server or choose another --data-dir"
    )]
    Locked {
        /// The data folder.
        dir: PathBuf,
        /// The lock file.
        lock: PathBuf,
    },
    /// The catalog was written by a newer Lodge.
    #[error(
        "the catalog {path} has version {found}, this program knows versions up to {known}: it was \
         written by a newer Lodge; start that version, or restore a backup made before the upgrade"
    )]
    NewerCatalog {
        /// The catalog.
        path: String,
        /// Version found.
        found: i64,
        /// Highest version known.
        known: i64,
    },
    /// The data folder could not be made, locked or inspected.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The catalog failed.
    #[error("catalog: cannot {action}: {source}")]
    Catalog {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: sqlx::Error,
    },
    /// The catalog in PostgreSQL failed.
    #[error("catalog at {at}: cannot {action}: {source}{}", crate::catalog::hint(source))]
    Postgres {
        /// The database, without its password.
        at: Arc<str>,
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: sqlx::Error,
    },
    /// A transaction's answer was lost, and the catalog could not be asked since.
    #[error("it is not known whether transaction {publish} has happened: {source}")]
    Unsettled {
        /// The object that it names, or its own name.
        publish: String,
        /// What kept the answer from coming.
        source: Box<StoreError>,
    },
    /// A transaction came after it had been settled that it would not.
    #[error(
        "catalog at {at}: transaction {publish} had been given up as lost before it came; nothing \
         of it was stored; send it again"
    )]
    Disowned {
        /// The database, without its password.
        at: Arc<str>,
        /// The object that it names, or its own name.
        publish: String,
    },
    /// The address of the catalog cannot be used.
    #[error("the catalog's address: {0}; it is like postgres://user:password@host:5432/database")]
    CatalogAddress(String),
    /// A row of the catalog does not make sense.
    #[error("the catalog is damaged: {0}; restore it from a backup")]
    CatalogDamaged(String),
    /// The catalog is half filled.
    #[error(
        "the catalog was being filled by `lodge restore` or `lodge migrate`, which has not ended; \
         run that command again to its end"
    )]
    HalfFilled,
    /// Rows that were copied are not those that were to be.
    #[error("the copy of the catalog is not what it should be: {0}; run the command again")]
    CopyDiffers(String),
    /// There are as many tokens as may be.
    #[error("there are {} tokens, which is the limit; revoke some first", crate::token::TOKENS_MAX)]
    TooManyTokens,
    /// The object store failed.
    #[error("cannot {action} object {key}: {source}")]
    Object {
        /// What was tried.
        action: &'static str,
        /// On which object.
        key: String,
        /// Why it failed.
        source: object_store::Error,
    },
    /// The bucket cannot be used as it is.
    #[error("cannot keep objects at {url}: {reason}")]
    Bucket {
        /// Where objects should be.
        url: String,
        /// What is wrong and how to mend it.
        reason: String,
    },
    /// The bytes of an object are not what was written.
    #[error("object {key}: {source}")]
    Damaged {
        /// Which object.
        key: String,
        /// Where in it, and how it was noticed.
        source: SegmentError,
    },
    /// Records could not be brought into a common shape, which is a bug.
    #[error("records could not be encoded: {0}")]
    Encode(SegmentError),
    /// There is less free space than the reserve.
    #[error(
        "the disk has {free_bytes} bytes free, less than the reserve of {reserve_bytes}; free some \
         space on it and writing goes on by itself"
    )]
    DiskFull {
        /// Free bytes for this process.
        free_bytes: u64,
        /// Bytes kept free.
        reserve_bytes: u64,
    },
    /// A block that the segment does not have was asked for.
    #[error("segment {segment} has no block {block}")]
    NoSuchBlock {
        /// Which segment.
        segment: u64,
        /// Which block.
        block: usize,
    },
    /// A task of the store was stopped, which happens when the process ends.
    #[error("the work was stopped: {0}")]
    Stopped(String),
}

impl StoreError {
    /// Whether stored bytes are damaged or missing, so that trying again is of no use.
    pub fn is_damage(&self) -> bool {
        match self {
            StoreError::Damaged { .. } | StoreError::CatalogDamaged(_) => true,
            StoreError::Object { source, .. } => {
                matches!(source, object_store::Error::NotFound { .. })
            }
            _ => false,
        }
    }

    /// Whether the disk is full.
    pub fn is_disk_full(&self) -> bool {
        match self {
            StoreError::DiskFull { .. } => true,
            StoreError::Catalog { source, .. } => is_sqlite_full(source),
            StoreError::Object { source, .. } => is_no_space(source),
            StoreError::File { source, .. } => source.kind() == std::io::ErrorKind::StorageFull,
            _ => false,
        }
    }
}

/// What the sender can do, where time alone mends it.
fn when_again(error: &StoreError) -> &'static str {
    match error {
        StoreError::Object { .. } if !error.is_damage() && !error.is_disk_full() => {
            "; send it again when the object store answers"
        }
        StoreError::Postgres { .. } => "; send it again when the database answers",
        _ => "",
    }
}

/// SQLite's `SQLITE_FULL`; its extended codes keep it in the low byte.
const SQLITE_FULL: i64 = 13;

fn is_sqlite_full(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .and_then(|e| e.code())
        .and_then(|code| code.parse::<i64>().ok())
        .is_some_and(|code| code & 0xff == SQLITE_FULL)
}

fn is_no_space(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<std::io::Error>()
            && io.kind() == std::io::ErrorKind::StorageFull
        {
            return true;
        }
        next = error.source();
    }
    false
}

/// A group was not committed: none of its batches is stored by this call. (After
/// [`CommitError::Unknown`] it may be stored all the same: a retry with an origin finds out.)
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// There is less free space than the reserve.
    #[error(
        "the disk has {free_bytes} bytes free, less than the reserve of {reserve_bytes}; free some \
         space on it and writing goes on by itself"
    )]
    DiskFull {
        /// Free bytes for this process.
        free_bytes: u64,
        /// Bytes kept free.
        reserve_bytes: u64,
    },
    /// Nothing was stored.
    #[error("not stored: {error}{}", when_again(.0), error = .0)]
    Store(#[from] StoreError),
    /// The transaction may or may not have been committed, and the catalog does not answer.
    #[error("not known whether stored: {0}; send it again")]
    Unknown(StoreError),
    /// Other writers kept advancing the same producers.
    #[error(
        "not stored: the producers of this group were advanced by others {attempts} times; send it \
         again"
    )]
    Contended {
        /// How often it was tried.
        attempts: u32,
    },
}
