//! The two ends of a copy: an installation (a catalog and its objects), and the folder or the bucket
//! that a backup is in.
//!
//! Invariants:
//! - a place of backups belongs to one catalog, whose number its mark says; servers refuse to use
//!   it as their bucket, and backups of other catalogs refuse it;
//! - a place that holds anything else is not touched.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::BackupError;
use crate::catalog::{self, Catalog};
use crate::objects::{Bucket, MARK, Objects};
use crate::space::DirLock;
use crate::{StoreError, StoreOptions, make_private};

/// Where a backup is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackupPlace {
    /// Files in a folder.
    Folder(PathBuf),
    /// Objects in a folder of a bucket.
    Bucket(Bucket),
}

impl fmt::Display for BackupPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "{}", path.display()),
            Self::Bucket(bucket) => f.write_str(bucket.url()),
        }
    }
}

/// What the mark of a place of backups begins with; the catalog's number follows.
const MARK_BEGIN: &str = "backup of ";

/// A place of backups, opened.
#[derive(Debug)]
pub(super) struct Backups {
    pub(super) objects: Objects,
    pub(super) at: String,
}

impl Backups {
    /// Opens a place to write backups of the catalog with a number.
    pub(super) async fn for_writing(place: &BackupPlace, number: u64) -> Result<Self, BackupError> {
        let mark = format!("{MARK_BEGIN}{number}");
        let objects = match place {
            // It takes the folder for itself, or refuses it.
            BackupPlace::Bucket(bucket) => Objects::open_bucket(bucket, mark.clone()).await?,
            BackupPlace::Folder(path) => {
                make_private(path).map_err(|source| StoreError::File {
                    action: "make folder",
                    path: path.clone(),
                    source,
                })?;
                Objects::open_folder(path.clone()).await?
            }
        };
        let backups = Self { objects, at: place.to_string() };
        match backups.mark().await? {
            Some(found) if found == mark => {}
            Some(found) => {
                let what = format!("it holds the {found}, this is catalog {number}");
                return Err(BackupError::NotABackup { at: backups.at, what });
            }
            None if backups.objects.list().await?.is_empty() => {
                backups.objects.put(MARK, Bytes::from(mark)).await?;
            }
            None => {
                let what = "the folder holds other things; choose an empty one".to_owned();
                return Err(BackupError::NotABackup { at: backups.at, what });
            }
        }
        Ok(backups)
    }

    /// Opens a place that has backups; nothing is written to it.
    pub(super) async fn for_reading(place: &BackupPlace) -> Result<Self, BackupError> {
        let at = place.to_string();
        let objects = match place {
            BackupPlace::Bucket(bucket) => Objects::read_bucket(bucket)?,
            BackupPlace::Folder(path) if path.is_dir() => {
                Objects::open_folder(path.clone()).await?
            }
            BackupPlace::Folder(_) => {
                let what = "there is no such folder".to_owned();
                return Err(BackupError::NotABackup { at, what });
            }
        };
        let backups = Self { objects, at };
        match backups.mark().await? {
            Some(mark) if mark.starts_with(MARK_BEGIN) => Ok(backups),
            Some(_) => {
                let what = "it is the bucket of an installation itself".to_owned();
                Err(BackupError::NotABackup { at: backups.at, what })
            }
            None => {
                let what = format!("the object {MARK} is missing");
                Err(BackupError::NotABackup { at: backups.at, what })
            }
        }
    }

    async fn mark(&self) -> Result<Option<String>, BackupError> {
        match self.objects.read(MARK, 0).await {
            Ok(found) => Ok(Some(String::from_utf8_lossy(&found).into_owned())),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn damaged(&self, place: &str, what: impl Into<String>) -> BackupError {
        let (at, place) = (self.at.clone(), place.to_owned());
        BackupError::Damaged { at, place, what: what.into() }
    }

    /// An object of the backup, which must be there.
    pub(super) async fn read(&self, key: &str, bytes: u64) -> Result<Bytes, BackupError> {
        match self.objects.read(key, bytes).await {
            Err(error) if is_missing(&error) => Err(self.damaged(key, "it is missing")),
            read => Ok(read?),
        }
    }
}

pub(super) fn is_missing(error: &StoreError) -> bool {
    let StoreError::Object { source, .. } = error else { return false };
    matches!(source, object_store::Error::NotFound { .. })
}

/// A catalog and its objects, as a server has them: what is copied, or copied into.
#[derive(Debug)]
pub struct Installation {
    pub(super) catalog: Arc<dyn Catalog>,
    pub(super) objects: Arc<Objects>,
    pub(super) number: u64,
    /// What people call it.
    pub(super) at: String,
    _lock: Option<DirLock>,
}

impl Installation {
    /// Opens what is there, beside servers that use it.
    ///
    /// # Errors
    /// [`BackupError::NoInstallation`] if nothing is there.
    pub async fn beside(data_dir: &Path, options: &StoreOptions) -> Result<Self, BackupError> {
        check_there(data_dir, options)?;
        Self::open(data_dir, options, None).await
    }

    /// Opens what is there for this process alone. Of a catalog in PostgreSQL that cannot be known;
    /// whoever moves one makes a backup and restores it.
    ///
    /// # Errors
    /// [`BackupError::NoInstallation`] if nothing is there, [`StoreError::Locked`] if a server runs.
    pub async fn alone(data_dir: &Path, options: &StoreOptions) -> Result<Self, BackupError> {
        check_there(data_dir, options)?;
        let lock = DirLock::take(data_dir)?;
        Self::open(data_dir, options, Some(lock)).await
    }

    /// Opens a new one, which is made if it is not there, for this process alone.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if a server runs.
    pub async fn to_fill(data_dir: &Path, options: &StoreOptions) -> Result<Self, BackupError> {
        make_private(data_dir).map_err(|source| StoreError::File {
            action: "make folder",
            path: data_dir.to_owned(),
            source,
        })?;
        let lock = DirLock::take(data_dir)?;
        Self::open(data_dir, options, Some(lock)).await
    }

    async fn open(
        data_dir: &Path,
        options: &StoreOptions,
        lock: Option<DirLock>,
    ) -> Result<Self, BackupError> {
        let catalog = catalog::open(data_dir, options.catalog.as_ref()).await?;
        let number = catalog.number().await?;
        let objects = Arc::new(match &options.bucket {
            Some(bucket) => Objects::open_bucket(bucket, number.to_string()).await?,
            None => Objects::open_folder(data_dir.join("objects")).await?,
        });
        let place = match &options.bucket {
            Some(bucket) => bucket.url().to_owned(),
            None => data_dir.join("objects").display().to_string(),
        };
        let catalog_at = match options.catalog {
            Some(_) => "the catalog in PostgreSQL".to_owned(),
            None => data_dir.join("catalog.db").display().to_string(),
        };
        let at = format!("{catalog_at} with the objects at {place}");
        Ok(Self { catalog, objects, number, at, _lock: lock })
    }

    /// What people call it: where its catalog and its objects are.
    pub fn at(&self) -> &str {
        &self.at
    }

    /// Closes the catalog.
    pub async fn close(self) {
        self.catalog.close().await;
    }
}

fn check_there(data_dir: &Path, options: &StoreOptions) -> Result<(), BackupError> {
    if options.catalog.is_none() && !data_dir.join("catalog.db").is_file() {
        return Err(BackupError::NoInstallation { at: data_dir.display().to_string() });
    }
    Ok(())
}
