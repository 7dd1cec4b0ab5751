//! Making a restore point.
//!
//! ```text
//!  hold ─► rows of one moment ─► objects that the backup has not ─► point.json ─► old points go
//! ```
//!
//! Invariants:
//! - an object is read back after it was written; `point.json` comes after all of them;
//! - an object of the backup is removed only when no point names it, while the hold keeps others from
//!   making one;
//! - stopped anywhere, what was copied stays and is not copied again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::Future;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};

use super::BackupError;
use super::hold::Hold;
use super::place::{BackupPlace, Backups, Installation};
use super::point::{self, FORMAT, ObjectLine, PartWriter, Point, new_id, object_at};
use super::work::{self, AT_ONCE, Work};
use crate::StoreError;
use crate::catalog::{CopyCounts, CopyRow, RowSink};

/// So many objects are removed before it is asked again whether no other makes a backup.
const BETWEEN_CHECKS: usize = 64;

/// How a backup is made.
#[derive(Debug, Clone, Copy)]
pub struct BackupOptions {
    /// How many points stay, the newest; `None`: all.
    pub keep: Option<usize>,
    /// How long the right to copy outlives a process that was killed.
    pub hold_lasts: Duration,
}

impl Default for BackupOptions {
    fn default() -> Self {
        Self { keep: None, hold_lasts: Duration::from_secs(60) }
    }
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupDone {
    /// The new point.
    pub point: Point,
    /// Points that were removed.
    pub points_removed: usize,
    /// Objects that were removed with them.
    pub objects_removed: usize,
}

/// Counts rows and the bytes that each object must have.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) counts: CopyCounts,
    pub(super) records: u64,
    pub(super) objects: BTreeMap<String, u64>,
}

impl Survey {
    pub(super) fn add(&mut self, row: &CopyRow) {
        self.counts.add(row);
        if let CopyRow::Segment(segment) = row {
            let end = segment.object_offset.saturating_add(segment.bytes).cast_unsigned();
            let bytes = self.objects.entry(segment.object_key.clone()).or_default();
            *bytes = end.max(*bytes);
            self.records += segment.row_count.cast_unsigned();
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.objects.values().sum()
    }
}

#[async_trait]
impl RowSink for Survey {
    async fn take(&mut self, rows: Vec<CopyRow>) -> Result<(), StoreError> {
        rows.iter().for_each(|row| self.add(row));
        Ok(())
    }
}

struct Writing<'b> {
    survey: Survey,
    parts: PartWriter<'b>,
    work: &'b Work,
}

#[async_trait]
impl RowSink for Writing<'_> {
    async fn take(&mut self, rows: Vec<CopyRow>) -> Result<(), StoreError> {
        for row in &rows {
            self.survey.add(row);
            self.parts.line(row).await?;
        }
        self.work.rows(rows.len());
        Ok(())
    }
}

/// Makes a restore point of an installation, beside the servers that use it; `stop` ends it early.
///
/// # Errors
/// [`BackupError::Stopped`] among others; whatever fails, earlier points are as they were.
pub async fn backup(
    from: &Installation,
    place: &BackupPlace,
    options: BackupOptions,
    work: &Work,
    stop: impl Future<Output = ()>,
) -> Result<BackupDone, BackupError> {
    let to = Backups::for_writing(place, from.number).await?;
    let hold = Hold::take(&from.catalog, options.hold_lasts).await?;
    let done = tokio::select! {
        done = held(from, &to, options, work, &hold) => done,
        () = stop => Err(BackupError::Stopped),
    };
    hold.release().await;
    done
}

async fn held(
    from: &Installation,
    to: &Backups,
    options: BackupOptions,
    work: &Work,
    hold: &Hold,
) -> Result<BackupDone, BackupError> {
    let before = to.points().await?;
    let known = match before.last() {
        // A point whose list is damaged tells nothing: everything is compared.
        Some(last) => to.objects_of(last).await.unwrap_or_default(),
        None => HashMap::new(),
    };
    let (id, created_ms) = new_id(&before);
    let parts = PartWriter::new(to, &id, "rows");
    let mut writing = Writing { survey: Survey::default(), parts, work };
    let highest_segment = from.catalog.give(&mut writing).await?;
    let Writing { survey, parts, .. } = writing;
    let mut parts = parts.end().await?;
    work.plan(survey.objects.len() as u64, survey.bytes());

    let lines = copy_objects(from, to, &survey, &known, work).await?;
    let mut writer = PartWriter::new(to, &id, "objects");
    for line in &lines {
        writer.line(line).await?;
    }
    parts.extend(writer.end().await?);
    let point = Point {
        format: FORMAT,
        id,
        created_ms,
        lodge: env!("CARGO_PKG_VERSION").to_owned(),
        catalog: from.number,
        highest_segment,
        rows: survey.counts,
        objects: lines.len() as u64,
        object_bytes: lines.iter().map(|line| line.bytes).sum(),
        records: survey.records,
        parts,
    };
    hold.check().await?;
    to.put_point(&point).await?;
    let (points_removed, objects_removed) = tidy(to, before, &point, options.keep, hold).await?;
    Ok(BackupDone { point, points_removed, objects_removed })
}

async fn copy_objects(
    from: &Installation,
    to: &Backups,
    survey: &Survey,
    known: &HashMap<String, ObjectLine>,
    work: &Work,
) -> Result<Vec<ObjectLine>, BackupError> {
    let listed = to.objects.list_under(Some("objects")).await?;
    let there: HashMap<String, u64> = listed.into_iter().map(|o| (o.key, o.bytes)).collect();
    let there = &there;
    let copies = stream::iter(&survey.objects).map(|(key, wanted)| async move {
        let at = object_at(key);
        let size = there.get(&at).copied();
        if let Some(line) = known.get(key)
            && size == Some(line.bytes)
        {
            work.done(line.bytes, false);
            return Ok(line.clone());
        }
        let bytes = work::read(&from.objects, key, *wanted).await?;
        let sent = work::write(&to.objects, &to.at, &at, &bytes, size).await?;
        work.done(bytes.len() as u64, sent);
        let blake3 = blake3::hash(&bytes).to_hex().to_string();
        Ok::<_, BackupError>(ObjectLine { key: key.clone(), bytes: bytes.len() as u64, blake3 })
    });
    copies.buffered(AT_ONCE).try_collect().await
}

/// Removes points beyond those that stay, then what no point names: gives how many of each.
async fn tidy(
    to: &Backups,
    before: Vec<Point>,
    new: &Point,
    keep: Option<usize>,
    hold: &Hold,
) -> Result<(usize, usize), BackupError> {
    let mut points = before;
    points.push(new.clone());
    let gone = points.len().saturating_sub(keep.unwrap_or(usize::MAX).max(1));
    let kept = points.split_off(gone);
    let mut named: HashSet<String> = HashSet::new();
    // All lists are read before anything is removed: one that is damaged keeps everything.
    for point in &kept {
        named.extend(to.objects_of(point).await?.into_keys().map(|key| object_at(&key)));
    }
    hold.check().await?;
    to.remove_points(&kept).await?;
    let listed = to.objects.list_under(Some("objects")).await?;
    let unnamed: Vec<String> =
        listed.into_iter().map(|object| object.key).filter(|key| !named.contains(key)).collect();
    for some in unnamed.chunks(BETWEEN_CHECKS) {
        hold.check().await?;
        for key in some {
            to.objects.delete(key).await?;
        }
    }
    Ok((points.len(), unnamed.len()))
}

/// What all points of a backup hold together, and what is wrong with them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// The points.
    pub points: Vec<Point>,
    /// Objects that were read.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Damage, each with its place.
    pub damage: Vec<String>,
}

/// Reads all of a backup and compares every checksum. Damage does not end it; what keeps it from
/// reading does.
///
/// # Errors
/// [`BackupError::NotABackup`], or the store does not answer.
pub async fn verify(place: &BackupPlace, work: &Work) -> Result<Verified, BackupError> {
    let at = Backups::for_reading(place).await?;
    let mut found = Verified { points: at.points().await?, ..Verified::default() };
    let mut objects: BTreeMap<String, ObjectLine> = BTreeMap::new();
    for point in &found.points {
        let mut survey = Survey::default();
        let rows = at.rows_of(point, &mut survey).await;
        let listed = match rows {
            Ok(()) => at.objects_of(point).await,
            Err(error) => Err(error),
        };
        match listed {
            Err(error @ BackupError::Damaged { .. }) => found.damage.push(error.to_string()),
            Err(error) => return Err(error),
            Ok(listed) => {
                let lost = survey.objects.keys().filter(|key| !listed.contains_key(*key));
                let says = |key| at.damaged(&point.id, format!("object {key} is not listed"));
                found.damage.extend(lost.map(|key| says(key).to_string()));
                if survey.counts != point.rows {
                    let what = format!("{:?} instead of {:?}", survey.counts, point.rows);
                    found.damage.push(at.damaged(&point.id, what).to_string());
                }
                objects.extend(listed);
            }
        }
    }
    work.plan(objects.len() as u64, objects.values().map(|line| line.bytes).sum());
    let at = &at;
    let checks = stream::iter(objects.values()).map(|line| async move {
        let checked = checked_object(at, line).await;
        work.done(line.bytes, false);
        match checked {
            Ok(_) => Ok(None),
            Err(error @ BackupError::Damaged { .. }) => Ok(Some(error.to_string())),
            Err(error) => Err(error),
        }
    });
    let damage: Vec<Option<String>> = checks.buffered(AT_ONCE).try_collect().await?;
    found.damage.extend(damage.into_iter().flatten());
    found.objects = work.objects_done.load(Relaxed);
    found.bytes = work.bytes_done.load(Relaxed);
    Ok(found)
}

/// An object of a backup, whose checksum is right.
pub(super) async fn checked_object(
    at: &Backups,
    line: &ObjectLine,
) -> Result<bytes::Bytes, BackupError> {
    let key = object_at(&line.key);
    let bytes = at.read(&key, line.bytes).await?;
    if bytes.len() as u64 != line.bytes {
        return Err(at.damaged(&key, format!("{} bytes instead of {}", bytes.len(), line.bytes)));
    }
    if blake3::hash(&bytes).to_hex().as_str() != line.blake3 {
        return Err(at.damaged(&key, "its checksum is another"));
    }
    Ok(bytes)
}

/// The points of a backup, oldest first.
///
/// # Errors
/// [`BackupError::NotABackup`], [`BackupError::Damaged`].
pub async fn points(place: &BackupPlace) -> Result<Vec<point::Point>, BackupError> {
    Backups::for_reading(place).await?.points().await
}
