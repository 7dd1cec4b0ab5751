//! Copies of an installation: restore points in a folder or a bucket, and new installations made of
//! them or of another installation. One mechanism: rows through [`crate::catalog::CopyRow`], which
//! both databases give and take, and objects byte for byte.

mod error;
mod hold;
mod place;
mod point;
mod restore;
mod work;
mod write;

pub use error::BackupError;
pub use place::{BackupPlace, Installation};
pub use point::{Part, Point};
pub use restore::{Moved, migrate, restore, survey};
pub use work::Work;
pub use write::{BackupDone, BackupOptions, Verified, backup, points, verify};
