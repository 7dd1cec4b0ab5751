//! Restore points: what a backup was of, at one moment.
//!
//! ```text
//!  lodge-catalog                     "backup of NUMBER"
//!  objects/KEY                       an object, byte for byte, under the key that it has
//!  points/ID/rows-00000.jsonl        rows of the catalog, a JSON object a line
//!  points/ID/objects-00000.jsonl     the objects they name: key, bytes, BLAKE3
//!  points/ID/point.json              written last: what all parts are, then BLAKE3 of these bytes
//! ```
//!
//! Invariants:
//! - a point exists once its `point.json` does; all its parts and objects were there before;
//! - every byte of a point and of its objects is under a checksum.

use std::collections::HashMap;

use bytes::Bytes;
use lodge_record::time;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::BackupError;
use super::place::Backups;
use crate::catalog::{CopyCounts, CopyRow, RowSink};
use crate::{StoreError, store};

/// The format that this program writes, and the highest that it reads.
pub(super) const FORMAT: u32 = 1;
/// A part is written once it has so many bytes.
const PART_BYTES: usize = 8 << 20;
const POINTS: &str = "points";
const POINT: &str = "point.json";

/// A restore point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// The format of its parts.
    pub format: u32,
    /// What it is called: the milliseconds since 1970 at which it was begun.
    pub id: String,
    /// The same as a number.
    pub created_ms: i64,
    /// The version of the program that made it.
    pub lodge: String,
    /// The number of the catalog that it is of.
    pub catalog: u64,
    /// The highest number that a segment ever had.
    pub highest_segment: u64,
    /// How many rows it has.
    pub rows: CopyCounts,
    /// How many objects its rows name.
    pub objects: u64,
    /// Their bytes.
    pub object_bytes: u64,
    /// Records in its segments.
    pub records: u64,
    /// Its parts, in the order in which they are read.
    pub parts: Vec<Part>,
}

/// A part of a point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its name in the point's folder.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
    /// BLAKE3 of them, in hex.
    pub blake3: String,
}

/// An object that a point names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ObjectLine {
    pub(super) key: String,
    pub(super) bytes: u64,
    pub(super) blake3: String,
}

impl Point {
    /// When it was begun, as text.
    pub fn time(&self) -> String {
        time::format(self.created_ms.saturating_mul(1_000_000))
    }
}

pub(super) fn object_at(key: &str) -> String {
    format!("objects/{key}")
}

fn part_at(id: &str, name: &str) -> String {
    format!("{POINTS}/{id}/{name}")
}

/// Whether a key can be joined to a folder and stay in it.
fn is_safe(key: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || b"._-/".contains(&b);
    key.bytes().all(known)
        && key.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

/// Writes lines to parts of a point.
pub(super) struct PartWriter<'b> {
    backups: &'b Backups,
    id: String,
    kind: &'static str,
    buffer: Vec<u8>,
    parts: Vec<Part>,
}

impl<'b> PartWriter<'b> {
    pub(super) fn new(backups: &'b Backups, id: &str, kind: &'static str) -> Self {
        Self { backups, id: id.to_owned(), kind, buffer: Vec::new(), parts: Vec::new() }
    }

    pub(super) async fn line(&mut self, line: &impl Serialize) -> Result<(), StoreError> {
        serde_json::to_writer(&mut self.buffer, line)
            .map_err(|error| StoreError::CopyDiffers(error.to_string()))?;
        self.buffer.push(b'\n');
        if self.buffer.len() >= PART_BYTES { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), StoreError> {
        let bytes = Bytes::from(std::mem::take(&mut self.buffer));
        let name = format!("{}-{:05}.jsonl", self.kind, self.parts.len());
        let blake3 = blake3::hash(&bytes).to_hex().to_string();
        let key = part_at(&self.id, &name);
        self.backups.objects.put(&key, bytes.clone()).await?;
        if self.backups.objects.read(&key, bytes.len() as u64).await? != bytes {
            let what = format!("{key} at {} reads otherwise than it was written", self.backups.at);
            return Err(StoreError::CopyDiffers(what));
        }
        self.parts.push(Part { name, bytes: bytes.len() as u64, blake3 });
        Ok(())
    }

    pub(super) async fn end(mut self) -> Result<Vec<Part>, StoreError> {
        if !self.buffer.is_empty() {
            self.flush().await?;
        }
        Ok(self.parts)
    }
}

impl Backups {
    /// The points, oldest first.
    pub(super) async fn points(&self) -> Result<Vec<Point>, BackupError> {
        let mut points = Vec::new();
        for listed in self.objects.list_under(Some(POINTS)).await? {
            if listed.key.ends_with(&format!("/{POINT}")) {
                points.push(self.point(&listed.key, listed.bytes).await?);
            }
        }
        points.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(points)
    }

    async fn point(&self, key: &str, bytes: u64) -> Result<Point, BackupError> {
        let found = self.read(key, bytes).await?;
        let damaged = |what: &str| self.damaged(key, what);
        let text = std::str::from_utf8(&found).map_err(|_| damaged("it is no text"))?;
        let (body, sum) = text
            .strip_suffix('\n')
            .and_then(|text| text.rsplit_once('\n'))
            .ok_or_else(|| damaged("its end is missing"))?;
        if blake3::hash(body.as_bytes()).to_hex().as_str() != sum {
            return Err(damaged("its checksum is another"));
        }
        #[derive(Deserialize)]
        struct Format {
            format: u32,
            id: String,
        }
        let head: Format = serde_json::from_str(body).map_err(|e| damaged(&e.to_string()))?;
        if head.format > FORMAT {
            let (at, point, found) = (self.at.clone(), head.id, head.format);
            return Err(BackupError::NewerFormat { at, point, found, known: FORMAT });
        }
        let point: Point = serde_json::from_str(body).map_err(|e| damaged(&e.to_string()))?;
        if !point.parts.iter().all(|part| is_safe(&part.name)) || !is_safe(&point.id) {
            return Err(damaged("a part has a name that no part has"));
        }
        Ok(point)
    }

    /// Makes a point exist.
    pub(super) async fn put_point(&self, point: &Point) -> Result<(), BackupError> {
        let body = serde_json::to_string(point)
            .map_err(|error| StoreError::CopyDiffers(error.to_string()))?;
        let sum = blake3::hash(body.as_bytes()).to_hex();
        let text = format!("{body}\n{sum}\n");
        Ok(self.objects.put(&part_at(&point.id, POINT), Bytes::from(text)).await?)
    }

    /// Gives the lines of the parts of a kind to `take`.
    async fn lines<T: DeserializeOwned>(
        &self,
        point: &Point,
        part: &Part,
    ) -> Result<Vec<T>, BackupError> {
        let key = part_at(&point.id, &part.name);
        let found = self.read(&key, part.bytes).await?;
        if found.len() as u64 != part.bytes {
            let what = format!("it has {} bytes instead of {}", found.len(), part.bytes);
            return Err(self.damaged(&key, what));
        }
        if blake3::hash(&found).to_hex().as_str() != part.blake3 {
            return Err(self.damaged(&key, "its checksum is another"));
        }
        let lines = found.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let parse = |(at, line): (usize, &[u8])| {
            serde_json::from_slice(line)
                .map_err(|e| self.damaged(&format!("{key}, line {}", at + 1), e.to_string()))
        };
        lines.enumerate().map(parse).collect()
    }

    /// The objects of a point by key.
    pub(super) async fn objects_of(
        &self,
        point: &Point,
    ) -> Result<HashMap<String, ObjectLine>, BackupError> {
        let mut objects = HashMap::new();
        for part in point.parts.iter().filter(|part| part.name.starts_with("objects-")) {
            for line in self.lines::<ObjectLine>(point, part).await? {
                if !is_safe(&line.key) {
                    let what = format!("object {:?} has a key that no object has", line.key);
                    return Err(self.damaged(&part_at(&point.id, &part.name), what));
                }
                objects.insert(line.key.clone(), line);
            }
        }
        if objects.len() as u64 != point.objects {
            let what = format!("{} objects instead of {}", objects.len(), point.objects);
            return Err(self.damaged(&part_at(&point.id, POINT), what));
        }
        Ok(objects)
    }

    /// Gives the rows of a point to `sink`.
    pub(super) async fn rows_of(
        &self,
        point: &Point,
        sink: &mut dyn RowSink,
    ) -> Result<(), BackupError> {
        for part in point.parts.iter().filter(|part| part.name.starts_with("rows-")) {
            let mut rows = self.lines::<CopyRow>(point, part).await?;
            while !rows.is_empty() {
                let rest = rows.split_off(rows.len().min(1_000));
                sink.take(rows).await?;
                rows = rest;
            }
        }
        Ok(())
    }

    /// Removes what is left of points that were begun and never ended, and of points `gone`.
    pub(super) async fn remove_points(&self, kept: &[Point]) -> Result<(), BackupError> {
        let is_kept = |key: &str| {
            let id = key.split('/').nth(1).unwrap_or_default();
            kept.iter().any(|point| point.id == id)
        };
        let mut gone: Vec<String> = self
            .objects
            .list_under(Some(POINTS))
            .await?
            .into_iter()
            .map(|listed| listed.key)
            .filter(|key| !is_kept(key))
            .collect();
        // A point whose removal is cut short exists no more.
        gone.sort_by_key(|key| !key.ends_with(POINT));
        for key in gone {
            self.objects.delete(&key).await?;
        }
        Ok(())
    }
}

/// A name for a new point, above all others.
pub(super) fn new_id(points: &[Point]) -> (String, i64) {
    let last = points.iter().map(|point| point.created_ms).max().unwrap_or(0);
    let ms = store::now_ms().max(last.saturating_add(1));
    (format!("{ms:013}"), ms)
}
