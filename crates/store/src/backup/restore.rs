//! Filling a new installation: from a restore point, or from another installation.
//!
//! ```text
//!  begin (the catalog says that it is half filled) ─► objects ─► rows ─► count ─► end
//! ```
//!
//! Invariants:
//! - a catalog that holds records is never filled, and no server uses one that is half filled;
//! - stopped anywhere, it is begun anew by the same command: rows are written again, objects that
//!   are there and equal are not;
//! - the end comes only when every object was compared and every row counted.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};

use super::BackupError;
use super::place::{BackupPlace, Backups, Installation};
use super::point::Point;
use super::work::{self, AT_ONCE, Work};
use super::write::{Survey, checked_object};
use crate::StoreError;
use crate::catalog::{Catalog, CopyCounts, CopyRow, RowSink};

/// What was or would be moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    /// Rows of the catalog.
    pub rows: CopyCounts,
    /// Objects that they name.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Records in them.
    pub records: u64,
}

struct Filling<'w> {
    catalog: &'w Arc<dyn Catalog>,
    survey: Survey,
    work: &'w Work,
}

#[async_trait]
impl RowSink for Filling<'_> {
    async fn take(&mut self, rows: Vec<CopyRow>) -> Result<(), StoreError> {
        self.catalog.fill(&rows).await?;
        self.survey.take_counts(&rows);
        self.work.rows(rows.len());
        Ok(())
    }
}

impl Survey {
    fn take_counts(&mut self, rows: &[CopyRow]) {
        rows.iter().for_each(|row| self.add(row));
    }

    fn moved(&self) -> Moved {
        Moved {
            rows: self.counts,
            objects: self.objects.len() as u64,
            bytes: self.bytes(),
            records: self.records,
        }
    }
}

async fn begin(to: &Installation) -> Result<HashMap<String, u64>, BackupError> {
    let not_empty = || BackupError::NotEmpty { at: to.at.clone() };
    let listed = to.objects.list().await?;
    // Objects whose catalog is lost: to the new one they would be leftovers, and be deleted.
    if !listed.is_empty() && !to.catalog.is_filling().await? {
        return Err(not_empty());
    }
    if !to.catalog.begin_fill().await? {
        return Err(not_empty());
    }
    Ok(listed.into_iter().map(|object| (object.key, object.bytes)).collect())
}

/// Restores a point of a backup into an installation that holds nothing yet.
///
/// # Errors
/// [`BackupError::NotEmpty`], [`BackupError::Damaged`] with the place; what was begun is begun anew
/// by calling it again.
pub async fn restore(
    place: &BackupPlace,
    point: &Point,
    to: &Installation,
    work: &Work,
) -> Result<Moved, BackupError> {
    let from = Backups::for_reading(place).await?;
    let objects = from.objects_of(point).await?;
    let there = begin(to).await?;
    work.plan(point.objects, point.object_bytes);
    let (from, there) = (&from, &there);
    let copies = stream::iter(objects.values()).map(|line| async move {
        let size = there.get(&line.key).copied();
        if size == Some(line.bytes) {
            let found = to.objects.read(&line.key, line.bytes).await?;
            if blake3::hash(&found).to_hex().as_str() == line.blake3 {
                work.done(line.bytes, false);
                return Ok::<_, BackupError>(());
            }
        }
        let bytes = checked_object(from, line).await?;
        let sent = work::write(&to.objects, &to.at, &line.key, &bytes, size).await?;
        work.done(line.bytes, sent);
        Ok(())
    });
    copies.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    let mut filling = Filling { catalog: &to.catalog, survey: Survey::default(), work };
    from.rows_of(point, &mut filling).await?;
    let survey = filling.survey;
    if let Some(key) = survey.objects.keys().find(|key| !objects.contains_key(*key)) {
        return Err(from.damaged(&point.id, format!("object {key} is not listed")));
    }
    to.catalog.end_fill(point.rows, point.highest_segment).await?;
    Ok(Moved { bytes: point.object_bytes, ..survey.moved() })
}

/// What [`migrate`] would move.
///
/// # Errors
/// The catalog cannot be read.
pub async fn survey(from: &Installation) -> Result<Moved, BackupError> {
    let mut survey = Survey::default();
    from.catalog.give(&mut survey).await?;
    Ok(survey.moved())
}

/// Moves an installation that no server uses into one that holds nothing yet. The first stays as it
/// is.
///
/// # Errors
/// [`BackupError::NotEmpty`]; what was begun is begun anew by calling it again.
pub async fn migrate(
    from: &Installation,
    to: &Installation,
    work: &Work,
) -> Result<Moved, BackupError> {
    let mut survey = Survey::default();
    from.catalog.give(&mut survey).await?;
    let there = begin(to).await?;
    work.plan(survey.objects.len() as u64, survey.bytes());
    let there = &there;
    let copies = stream::iter(&survey.objects).map(|(key, wanted)| async move {
        let bytes = work::read(&from.objects, key, *wanted).await?;
        let size = there.get(key).copied();
        let sent = work::write(&to.objects, &to.at, key, &bytes, size).await?;
        work.done(bytes.len() as u64, sent);
        Ok::<_, BackupError>(())
    });
    copies.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    let mut filling = Filling { catalog: &to.catalog, survey: Survey::default(), work };
    let highest = from.catalog.give(&mut filling).await?;
    if filling.survey.counts != survey.counts {
        // As when a token was made meanwhile: nothing is lost by doing it again.
        let what = "the installation has changed meanwhile".to_owned();
        return Err(StoreError::CopyDiffers(what).into());
    }
    to.catalog.end_fill(survey.counts, highest).await?;
    Ok(survey.moved())
}
