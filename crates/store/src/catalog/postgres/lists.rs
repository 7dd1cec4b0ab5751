//! Lists of segments: read whole, or kept in memory and brought up to date by what has changed.
//!
//! No row is written by all commits, so there is no number that a commit raises. Instead every row
//! that is added and every removal carries the transaction that did it, and a reader asks for those
//! that its last look could not have seen.
//!
//! Invariants:
//! - each statement here sees one snapshot of the database and tells which one it was;
//! - all transactions below the lowest one that was under way at a look ([`Header::since`]) were
//!   over then and their changes seen; whatever else is asked for again and applied twice the same;
//! - a version is the number of writing transactions that were over: it rises by one with every
//!   commit, whoever makes it, and two looks with the same version have seen the same;
//! - removals are forgotten after a while; a list that is older than that is read anew.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lodge_record::TenantId;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row};

use super::PostgresCatalog;
use super::connection::{limit, retrying};
use crate::catalog::kept::SEGMENTS_MAX;
use crate::catalog::rows::{self, CatalogRow, SEGMENT_COLUMNS};
use crate::{SegmentId, SegmentRef, Snapshot, StoreError};

/// After so long it is tried again whether a tenant's list has become small enough.
const LARGE_FOR: Duration = Duration::from_secs(60);
/// So often a list is read whose column lists are removed meanwhile.
const ATTEMPTS_MAX: u32 = 4;

/// How many writing transactions were over, of a snapshot called `now`.
pub(super) const COMPLETED: &str = "pg_snapshot_xmax(now)::text::bigint \
     - (SELECT count(*) FROM pg_snapshot_xip(now))";

/// What a statement saw.
#[derive(Debug, Clone, Copy)]
struct Header {
    version: u64,
    /// The lowest transaction that was under way.
    since: i64,
    /// Removals by transactions below this one are forgotten.
    pruned: i64,
}

/// A list, by number, and the changes that it lacks: those since.
#[derive(Debug, Clone)]
struct Kept {
    snapshot: Arc<Snapshot>,
    since: i64,
}

/// The lists in memory.
#[derive(Debug, Default)]
pub(super) struct Lists {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    tenants: HashMap<TenantId, Kept>,
    /// Tenants with too many segments to keep a list of, and when that was seen.
    large: HashMap<TenantId, Instant>,
    segments: usize,
}

impl Lists {
    fn with<T>(&self, run: impl FnOnce(&mut Inner) -> T) -> T {
        run(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn get(&self, tenant: &TenantId) -> Option<Kept> {
        self.with(|inner| inner.tenants.get(tenant).cloned())
    }

    fn is_large(&self, tenant: &TenantId) -> bool {
        self.with(|inner| inner.large.get(tenant).is_some_and(|seen| seen.elapsed() < LARGE_FOR))
    }

    fn keep(&self, kept: &Kept) {
        self.with(|inner| {
            let (tenant, more) = (&kept.snapshot.tenant, kept.snapshot.segments.len());
            let newer = |known: &Kept| known.snapshot.version > kept.snapshot.version;
            if inner.tenants.get(tenant).is_some_and(newer) {
                return;
            }
            let before = inner.tenants.remove(tenant);
            inner.segments -= before.map_or(0, |before| before.snapshot.segments.len());
            inner.large.remove(tenant);
            if more > SEGMENTS_MAX {
                inner.large.insert(tenant.clone(), Instant::now());
                return;
            }
            if inner.segments + more > SEGMENTS_MAX {
                inner.tenants.clear();
                inner.segments = 0;
            }
            inner.tenants.insert(tenant.clone(), kept.clone());
            inner.segments += more;
        });
    }

    fn forget(&self, tenant: &TenantId) {
        self.with(|inner| {
            let before = inner.tenants.remove(tenant);
            inner.segments -= before.map_or(0, |before| before.snapshot.segments.len());
        });
    }
}

/// What has changed since a list was read.
struct Changes {
    header: Header,
    added: Vec<Arc<SegmentRef>>,
    removed: HashSet<SegmentId>,
}

impl Kept {
    /// The list with the changes; `None` if they are not all of them.
    fn after(&self, changes: Changes) -> Option<Self> {
        let Header { version, since, pruned } = changes.header;
        // A version that falls is another server's, as after a restore.
        if pruned > self.since || version < self.snapshot.version {
            return None;
        }
        if version == self.snapshot.version {
            return Some(Self { since, ..self.clone() });
        }
        let old = &self.snapshot.segments;
        let place = |id: SegmentId| old.binary_search_by_key(&id, |segment| segment.id);
        let mut new = changes.added;
        new.retain(|segment| place(segment.id).is_err());
        let mut gone: Vec<_> = changes.removed.iter().filter_map(|id| place(*id).ok()).collect();
        gone.sort_unstable();
        let snapshot = if new.is_empty() && gone.is_empty() {
            self.snapshot.at(version)
        } else {
            let mut segments = Vec::with_capacity(old.len() + new.len());
            let mut from = 0;
            for at in gone {
                segments.extend_from_slice(old.get(from..at).unwrap_or_default());
                from = at + 1;
            }
            segments.extend_from_slice(old.get(from..).unwrap_or_default());
            segments.extend(new);
            segments.sort_by_key(|segment| segment.id);
            Snapshot::new(version, self.snapshot.tenant.clone(), segments)
        };
        Some(Self { snapshot: Arc::new(snapshot), since })
    }
}

impl PostgresCatalog {
    /// The segments of a tenant as of now, through what is kept.
    pub(super) async fn current(
        &self,
        tenant: &TenantId,
        time: Option<(i64, i64)>,
    ) -> Result<Arc<Snapshot>, StoreError> {
        if self.lists.is_large(tenant) {
            return Ok(self.read_list(tenant, time).await?.snapshot);
        }
        if let Some(kept) = self.lists.get(tenant) {
            let changes = retrying!("ask what has changed", self.changes(tenant, kept.since))?;
            if let Some(next) = kept.after(changes) {
                self.lists.keep(&next);
                return Ok(next.snapshot.within(time));
            }
            self.lists.forget(tenant);
        }
        let whole = self.read_list(tenant, None).await?;
        self.lists.keep(&whole);
        Ok(whole.snapshot.within(time))
    }

    /// The segments of a tenant as of now, read whole.
    pub(super) async fn read(
        &self,
        tenant: &TenantId,
        time: Option<(i64, i64)>,
    ) -> Result<Arc<Snapshot>, StoreError> {
        Ok(self.read_list(tenant, time).await?.snapshot)
    }

    async fn read_list(
        &self,
        tenant: &TenantId,
        time: Option<(i64, i64)>,
    ) -> Result<Kept, StoreError> {
        let (header, segments) = retrying!("list segments", self.try_read(tenant, time))?;
        let snapshot = Arc::new(Snapshot::new(header.version, tenant.clone(), segments));
        Ok(Kept { snapshot, since: header.since })
    }

    async fn try_read(
        &self,
        tenant: &TenantId,
        time: Option<(i64, i64)>,
    ) -> Result<(Header, Vec<Arc<SegmentRef>>), StoreError> {
        let action = "list segments";
        let (from, to) = time.unwrap_or((i64::MIN, i64::MAX));
        let sql = format!(
            "SELECT {}, s.* FROM pg_current_snapshot() AS now LEFT JOIN ( \
             SELECT {SEGMENT_COLUMNS} FROM segments \
             WHERE tenant = $1 AND time_max_ns >= $2 AND time_min_ns <= $3) AS s ON true \
             ORDER BY s.id",
            header_sql()
        );
        for _ in 0..ATTEMPTS_MAX {
            let mut connection = self.database.acquire(action).await?;
            let rows = sqlx::query(AssertSqlSafe(sql.as_str()))
                .bind(tenant.as_str())
                .bind(from)
                .bind(to)
                .fetch_all(connection.ask());
            let rows = limit(rows).await;
            let rows = connection.told(action, rows)?;
            drop(connection);
            let header = header(&rows)?;
            let listed: Vec<&PgRow> = rows.iter().filter(|row| has_segment(row)).collect();
            if let Some(segments) = self.parse(&listed).await? {
                return Ok((header, segments));
            }
        }
        Err(StoreError::CatalogDamaged("a column list is missing".to_owned()))
    }

    async fn changes(&self, tenant: &TenantId, since: i64) -> Result<Changes, StoreError> {
        let action = "ask what has changed";
        let sql = format!(
            "SELECT {}, c.* FROM pg_current_snapshot() AS now LEFT JOIN ( \
             SELECT false AS removed, {SEGMENT_COLUMNS} FROM segments \
             WHERE tenant = $1 AND added >= $2::text::xid8 UNION ALL \
             SELECT true, segment_id, tenant, 0, '', 0, 0, 0, 0, 0, 0, 0, '', 0 FROM removals \
             WHERE tenant = $1 AND removed >= $2::text::xid8) AS c ON true",
            header_sql()
        );
        for _ in 0..ATTEMPTS_MAX {
            let mut connection = self.database.acquire(action).await?;
            let rows = sqlx::query(AssertSqlSafe(sql.as_str()))
                .bind(tenant.as_str())
                .bind(since.to_string())
                .fetch_all(connection.ask());
            let rows = limit(rows).await;
            let rows = connection.told(action, rows)?;
            drop(connection);
            let header = header(&rows)?;
            let mut removed = HashSet::new();
            let mut listed = Vec::new();
            for row in rows.iter().filter(|row| has_segment(row)) {
                let is_removal: bool =
                    row.try_get("removed").map_err(self.database.failed(action))?;
                match is_removal {
                    true => drop(removed.insert(SegmentId(row.unsigned("id")?))),
                    false => listed.push(row),
                }
            }
            if let Some(added) = self.parse(&listed).await? {
                return Ok(Changes { header, added, removed });
            }
        }
        Err(StoreError::CatalogDamaged("a column list is missing".to_owned()))
    }

    /// Segments of rows; `None` if a column list has been removed since, and with it its segments.
    pub(super) async fn parse(
        &self,
        found: &[&PgRow],
    ) -> Result<Option<Vec<Arc<SegmentRef>>>, StoreError> {
        let mut schemas = HashMap::new();
        let mut missing = Vec::new();
        for row in found {
            let id = rows::schema_id(*row)?;
            if schemas.contains_key(&id) {
                continue;
            }
            match self.schema(id) {
                Some(schema) => drop(schemas.insert(id, schema)),
                None => missing.push(id),
            }
        }
        missing.sort_unstable();
        missing.dedup();
        if !missing.is_empty() {
            let action = "read column lists";
            let mut connection = self.database.acquire(action).await?;
            let texts = sqlx::query_as::<_, (i64, String)>(
                "SELECT id, columns FROM schemas WHERE id = ANY($1)",
            )
            .bind(&missing)
            .fetch_all(connection.ask());
            let texts = limit(texts).await;
            let texts = connection.told(action, texts)?;
            if texts.len() < missing.len() {
                return Ok(None);
            }
            for (id, text) in texts {
                schemas.insert(id, self.keep_schema(id, None, rows::schema_of(&text)?));
            }
        }
        let segment = |row: &&PgRow| {
            let id = rows::schema_id(*row)?;
            let gone = || StoreError::CatalogDamaged(format!("column list {id} is missing"));
            let schema = schemas.get(&id).ok_or_else(gone)?;
            rows::segment(*row, Arc::clone(schema)).map(Arc::new)
        };
        found.iter().map(segment).collect::<Result<_, _>>().map(Some)
    }
}

/// What was seen, as columns.
fn header_sql() -> String {
    format!(
        "pg_snapshot_xmin(now)::text::bigint AS since, {COMPLETED} AS version, \
         (SELECT value FROM meta WHERE name = 'removals_pruned') AS pruned"
    )
}

/// The header is in every row; there is one row, without a segment, if nothing was found.
fn header(found: &[PgRow]) -> Result<Header, StoreError> {
    let none = || StoreError::CatalogDamaged("a list has no row".to_owned());
    let row = found.first().ok_or_else(none)?;
    Ok(Header {
        version: row.unsigned("version")?,
        since: row.int("since")?,
        pruned: row.int("pruned")?,
    })
}

fn has_segment(row: &PgRow) -> bool {
    row.opt_int("id").is_ok_and(|id| id.is_some())
}
