//! What can go wrong with a backup, a restore or a move.

use crate::StoreError;

/// Why a copy was not made, or cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The catalog or the objects of either side failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Bytes of a backup are not those that were written.
    #[error(
        "the backup at {at} is damaged: {place}: {what}; restore from another point or another \
         backup, and make a new one elsewhere"
    )]
    Damaged {
        /// Where the backup is.
        at: String,
        /// The object in it, with the line where there are lines.
        place: String,
        /// How it was noticed.
        what: String,
    },
    /// An object of the installation is shorter than its catalog says.
    #[error(
        "object {key} has {bytes} bytes, and the catalog names {wanted}: it is damaged; restore it \
         from an older backup"
    )]
    Short {
        /// Its key.
        key: String,
        /// The bytes that are there.
        bytes: u64,
        /// Those that there should be.
        wanted: u64,
    },
    /// What was written reads otherwise.
    #[error("what was written as {key} at {at} reads otherwise: that store cannot be relied on")]
    Unfaithful {
        /// Where.
        at: String,
        /// Which object.
        key: String,
    },
    /// There is no backup at that place.
    #[error(
        "there is no backup at {at}: {what}; name the folder or bucket that `lodge backup --to` had"
    )]
    NotABackup {
        /// Where.
        at: String,
        /// What is there instead.
        what: String,
    },
    /// A newer Lodge made it.
    #[error(
        "point {point} at {at} has format {found}, this program knows formats up to {known}: a \
         newer Lodge made it; use that version"
    )]
    NewerFormat {
        /// Where.
        at: String,
        /// Which point.
        point: String,
        /// Its format.
        found: u32,
        /// The highest that is known.
        known: u32,
    },
    /// No such point.
    #[error("the backup at {at} has no point {wanted}; --list shows those that it has")]
    NoPoint {
        /// Where.
        at: String,
        /// What was asked for.
        wanted: String,
    },
    /// The catalog to fill is in use.
    #[error(
        "{at} already holds records, or servers use it: choose an empty data folder, or an empty \
         database or schema, and an empty folder of a bucket"
    )]
    NotEmpty {
        /// Which.
        at: String,
    },
    /// There is nothing to copy.
    #[error(
        "there is no installation at {at}: no catalog.db is in it; name the data folder of a server, \
         or its configuration with --config"
    )]
    NoInstallation {
        /// Where it was looked.
        at: String,
    },
    /// Another backup of the same installation is under way.
    #[error(
        "another backup of this installation is under way, or was killed less than {wait_s} s ago; \
         try again then"
    )]
    Busy {
        /// When the rights of a killed one end at the latest.
        wait_s: u64,
    },
    /// It was stopped.
    #[error("stopped; what was copied stays, and is not copied again")]
    Stopped,
    /// The right to keep objects from being deleted has ended.
    #[error(
        "this process could not say for {lasts_s} s that it is still there, so objects may have been \
         deleted meanwhile; no restore point was made; run it again"
    )]
    LostHold {
        /// How long it lasts.
        lasts_s: u64,
    },
}
