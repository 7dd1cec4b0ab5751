//! The writing transactions: a commit and a swap are the same one, with different parts.
//!
//! ```text
//!  BEGIN ─► lease still held? ─► lock what goes ─► lock the producers, in one order
//!        ─► ONE statement { publish id, producers, segments } ─► COMMIT ─► answer
//!                                                                   │ lost: settle(publish id)
//!                                                                   ├─► it has happened
//!                                                                   └─► it never will: try again
//! ```
//!
//! Invariants:
//! - locks are taken in one order: lease, segments by number, objects by hash, producers by key that
//!   are there, producers by key that are new, so that no two transactions wait for each other; what
//!   is updated after that has been locked before;
//! - a transaction that commits has inserted its publish id, or taken over the tombstone that its own
//!   process has put there; whoever put a tombstone there first has it from being committed;
//! - nothing is tried again unless it is certain that it has not happened.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use sqlx::{AssertSqlSafe, Row};

use super::PostgresCatalog;
use super::connection::{Retry, Tx, is_ambiguous, limit};
use super::lists::COMPLETED;
use crate::catalog::{Applied, Lease, NewSegment, ProducerAdvance, rows};
use crate::store::now_ms;
use crate::{SegmentId, SegmentRef, StoreError};

/// What one transaction does.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Work<'w> {
    pub(super) remove: &'w [SegmentId],
    pub(super) add: &'w [NewSegment],
    pub(super) producers: &'w [ProducerAdvance],
    /// Since when what is left without a segment is garbage.
    pub(super) now_ms: i64,
    pub(super) lease: Option<&'w Lease>,
}

/// An attempt without an answer that helps.
enum Failed {
    /// Nothing has happened.
    Certainly(StoreError),
    /// This may have happened.
    Perhaps(StoreError, Applied),
}

/// What became of a transaction.
pub(super) enum Settled {
    Committed,
    /// It will never be, but for one that knows this word.
    Never(String),
}

/// What a producer's row says, for those that are there.
type Standings = HashMap<usize, (i64, i64, Option<i64>)>;

impl PostgresCatalog {
    /// Does it all or nothing; `None` if what it rests on is no longer so.
    pub(super) async fn publish(&self, work: Work<'_>) -> Result<Option<Applied>, StoreError> {
        let publish = match work.add.first() {
            Some(segment) => segment.object_key.to_string(),
            None => format!("tx/{}", uuid::Uuid::now_v7().simple()),
        };
        let mut tombstone: Option<String> = None;
        let mut retry = Retry::begin("commit");
        loop {
            let error = match self.attempt(work, &publish, tombstone.as_deref()).await {
                Ok(done) => return Ok(done),
                Err(Failed::Certainly(error)) => error,
                Err(Failed::Perhaps(error, applied)) => match self.settle_publish(&publish).await {
                    Ok(Settled::Committed) => return Ok(Some(applied)),
                    Ok(Settled::Never(token)) => {
                        tombstone = Some(token);
                        error
                    }
                    Err(_) => {
                        return Err(StoreError::Unsettled { publish, source: Box::new(error) });
                    }
                },
            };
            self.forget_schemas_after(&error);
            retry.again(error).await?;
        }
    }

    /// Waits for the transaction with this id if it is under way, and keeps it from ever being
    /// committed if it has not been.
    pub(super) async fn settle_publish(&self, publish: &str) -> Result<Settled, StoreError> {
        let token = uuid::Uuid::new_v4().simple().to_string();
        let mut retry = Retry::patiently("settle a transaction");
        loop {
            match self.try_settle(publish, &token).await {
                Ok(true) => return Ok(Settled::Committed),
                Ok(false) => return Ok(Settled::Never(token)),
                Err(error) => retry.again(error).await?,
            }
        }
    }

    /// Whether it is committed; otherwise the tombstone stands.
    async fn try_settle(&self, publish: &str, token: &str) -> Result<bool, StoreError> {
        let action = "settle a transaction";
        let mut connection = self.database.acquire(action).await?;
        // The conflict makes it wait for a transaction that has the id and has not ended.
        let put = sqlx::query_scalar::<_, i32>(
            "INSERT INTO publishes (id, committed, token) VALUES ($1, false, $2) \
             ON CONFLICT (id) DO UPDATE SET token = excluded.token, at = now() \
             WHERE NOT publishes.committed RETURNING 1",
        )
        .bind(publish)
        .bind(token)
        .fetch_optional(connection.ask());
        let put = limit(put).await;
        Ok(connection.told(action, put)?.is_none())
    }

    async fn attempt(
        &self,
        work: Work<'_>,
        publish: &str,
        tombstone: Option<&str>,
    ) -> Result<Option<Applied>, Failed> {
        let schemas = self.schema_ids(work.add).await.map_err(Failed::Certainly)?;
        let mut tx = self.database.begin().await.map_err(Failed::Certainly)?;
        match self.fill(&mut tx, work, publish, tombstone, &schemas).await {
            Ok(Some(applied)) => match tx.commit().await {
                Ok(()) => Ok(Some(applied)),
                Err(error) if is_ambiguous(&error) => Err(Failed::Perhaps(error, applied)),
                Err(error) => Err(Failed::Certainly(error)),
            },
            // Without a COMMIT it cannot have been committed.
            Ok(None) => {
                tx.rollback().await;
                Ok(None)
            }
            Err(error) => {
                tx.rollback().await;
                Err(Failed::Certainly(error))
            }
        }
    }

    /// Everything of the transaction but its end.
    async fn fill(
        &self,
        tx: &mut Tx<'_>,
        work: Work<'_>,
        publish: &str,
        tombstone: Option<&str>,
        schemas: &[(i64, SchemaRef)],
    ) -> Result<Option<Applied>, StoreError> {
        if let Some(lease) = work.lease
            && !hold(tx, lease).await?
        {
            return Ok(None);
        }
        if !work.remove.is_empty() && !remove(tx, work.remove, work.now_ms).await? {
            return Ok(None);
        }
        let there = match work.producers.is_empty() {
            true => Standings::new(),
            false => lock_producers(tx, work.producers).await?,
        };
        if !still_stand(work.producers, &there) {
            return Ok(None);
        }
        let new: Vec<bool> =
            (0..work.producers.len()).map(|index| !there.contains_key(&index)).collect();
        let written = write(tx, work, &new, publish, tombstone, schemas).await?;
        if !written.published {
            let (at, publish) = (Arc::clone(&self.database.at), publish.to_owned());
            return Err(StoreError::Disowned { at, publish });
        }
        if written.producers != work.producers.len() as i64 {
            // Another has begun the same producer at the same moment.
            return Ok(None);
        }
        let added = work.add.iter().zip(&written.ids).zip(schemas);
        let added = added.map(|((new, id), (_, schema))| segment_ref(new, *id, schema)).collect();
        Ok(Some(Applied { version: written.version.cast_unsigned(), added }))
    }

    /// Numbers of column lists, which are added before the transaction if they are new: a list that
    /// two add at once would make one wait for the other's commit.
    async fn schema_ids(&self, add: &[NewSegment]) -> Result<Vec<(i64, SchemaRef)>, StoreError> {
        let mut found = Vec::with_capacity(add.len());
        for new in add {
            let text = rows::schema_text(&new.schema)?;
            let hash = *blake3::hash(text.as_bytes()).as_bytes();
            if let Some(known) = self.known_schema(&hash) {
                found.push(known);
                continue;
            }
            let action = "add a column list";
            let mut connection = self.database.acquire(action).await?;
            let put = sqlx::query(
                "INSERT INTO schemas (hash, columns) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            )
            .bind(hash.as_slice())
            .bind(text)
            .execute(connection.ask());
            let put = limit(put).await;
            connection.told(action, put)?;
            let id = sqlx::query_scalar::<_, i64>("SELECT id FROM schemas WHERE hash = $1")
                .bind(hash.as_slice())
                .fetch_optional(connection.ask());
            let id = limit(id).await;
            // Removed again at once, as nothing used it yet: the next attempt adds it.
            let gone = || StoreError::CatalogDamaged("a column list is missing".to_owned());
            let id = connection.told(action, id)?.ok_or_else(gone)?;
            found.push((id, self.keep_schema(id, Some(hash), Arc::clone(&new.schema))));
        }
        Ok(found)
    }
}

/// Whether nobody else has got the work; nobody gets it before this transaction has ended.
async fn hold(tx: &mut Tx<'_>, lease: &Lease) -> Result<bool, StoreError> {
    let held = sqlx::query("SELECT 1 FROM leases WHERE name = $1 AND fence = $2 FOR SHARE")
        .bind(&lease.name)
        .bind(lease.fence.cast_signed())
        .fetch_optional(tx.ask());
    let held = limit(held).await;
    Ok(tx.told("look at a lease", held)?.is_some())
}

/// Removes segments and puts what is left behind among the garbage; false if one is not there.
async fn remove(tx: &mut Tx<'_>, ids: &[SegmentId], now_ms: i64) -> Result<bool, StoreError> {
    let action = "remove segments";
    let mut ids: Vec<i64> = ids.iter().map(|id| id.0.cast_signed()).collect();
    ids.sort_unstable();
    ids.dedup();
    let there = sqlx::query_scalar::<_, String>(
        "SELECT object_key FROM segments WHERE id = ANY($1) ORDER BY id FOR UPDATE",
    )
    .bind(&ids)
    .fetch_all(tx.ask());
    let there = limit(there).await;
    let mut keys = tx.told(action, there)?;
    if keys.len() != ids.len() {
        return Ok(false);
    }
    keys.sort_unstable();
    keys.dedup();
    // Of two that each remove a segment of the same object, the second must see that the first's
    // is gone: or neither finds the object empty.
    let locked = sqlx::query(
        "SELECT pg_advisory_xact_lock(hash) FROM (SELECT DISTINCT hashtextextended(key, 1) AS hash \
         FROM unnest($1::text[]) AS key ORDER BY 1) AS hashes",
    )
    .bind(&keys)
    .fetch_all(tx.ask());
    let locked = limit(locked).await;
    tx.told(action, locked)?;
    let gone = sqlx::query(
        "WITH gone AS (DELETE FROM segments WHERE id = ANY($1) RETURNING id, tenant) \
         INSERT INTO removals (segment_id, tenant, removed_ms) SELECT id, tenant, $2 FROM gone",
    )
    .bind(&ids)
    .bind(crate::store::now_ms())
    .execute(tx.ask());
    let gone = limit(gone).await;
    tx.told(action, gone)?;
    let put = sqlx::query(
        "INSERT INTO garbage (object_key, since_ms) SELECT key, $2 FROM unnest($1::text[]) AS key \
         WHERE NOT EXISTS (SELECT 1 FROM segments WHERE object_key = key) ON CONFLICT DO NOTHING",
    )
    .bind(&keys)
    .bind(now_ms)
    .execute(tx.ask());
    let put = limit(put).await;
    tx.told("add to the garbage", put)?;
    Ok(true)
}

/// Locks the rows of producers that are there, in one order, and tells what they say.
async fn lock_producers(
    tx: &mut Tx<'_>,
    steps: &[ProducerAdvance],
) -> Result<Standings, StoreError> {
    let tenants: Vec<&str> = steps.iter().map(|step| step.tenant.as_str()).collect();
    let producers: Vec<Vec<u8>> =
        steps.iter().map(|step| step.producer.to_bytes().to_vec()).collect();
    let found = sqlx::query_as::<_, (i64, i64, i64, Option<i64>)>(
        "SELECT w.i, p.epoch, p.seq, p.expires_ms \
         FROM unnest($1::text[], $2::bytea[]) WITH ORDINALITY AS w (tenant, producer, i) \
         JOIN producers p ON p.tenant = w.tenant AND p.producer = w.producer \
         ORDER BY p.tenant, p.producer FOR UPDATE OF p",
    )
    .bind(tenants)
    .bind(producers)
    .fetch_all(tx.ask());
    let found = limit(found).await;
    let found = tx.told("lock producers", found)?;
    let index = |i: i64| usize::try_from(i - 1).unwrap_or(usize::MAX);
    Ok(found
        .into_iter()
        .map(|(i, epoch, seq, expires)| (index(i), (epoch, seq, expires)))
        .collect())
}

fn still_stand(steps: &[ProducerAdvance], there: &Standings) -> bool {
    let now_ms = now_ms();
    steps.iter().enumerate().all(|(index, step)| match (step.from, there.get(&index)) {
        (None, None) => true,
        (None, Some((_, _, expires_ms))) => expires_ms.is_some_and(|expires| expires <= now_ms),
        (Some(_), None) => false,
        (Some((epoch, seq)), Some(found)) => {
            (i64::from(epoch), seq.cast_signed()) == (found.0, found.1)
        }
    })
}

/// What the last statement did.
struct Written {
    published: bool,
    producers: i64,
    version: i64,
    ids: Vec<i64>,
}

/// One statement for all rows, because each is a round trip.
async fn write(
    tx: &mut Tx<'_>,
    work: Work<'_>,
    new: &[bool],
    publish: &str,
    tombstone: Option<&str>,
    schemas: &[(i64, SchemaRef)],
) -> Result<Written, StoreError> {
    let action = "add segments and advance producers";
    let steps = work.producers;
    let add = work.add;
    let entries: Vec<Option<String>> = steps
        .iter()
        .map(|step| step.entry.as_ref().map(serde_json::to_string).transpose())
        .collect::<Result<_, _>>()
        .map_err(|e| StoreError::CatalogDamaged(e.to_string()))?;
    let position = |step: &ProducerAdvance| {
        step.to.position.as_ref().map(|position| position.as_str().as_bytes().to_vec())
    };
    let sql = format!(
        "{WRITE} SELECT (SELECT count(*) FROM published), \
         (SELECT count(*) FROM advanced) + (SELECT count(*) FROM begun), \
         {COMPLETED} + (pg_current_xact_id() >= pg_snapshot_xmax(now))::int, \
         ARRAY(SELECT id FROM added ORDER BY id) FROM pg_current_snapshot() AS now"
    );
    let written = sqlx::query(AssertSqlSafe(sql))
        .bind(publish)
        .bind(tombstone)
        .bind(steps.iter().map(|s| s.tenant.as_str()).collect::<Vec<_>>())
        .bind(steps.iter().map(|s| s.producer.to_bytes().to_vec()).collect::<Vec<_>>())
        .bind(steps.iter().map(|s| i64::from(s.to.epoch)).collect::<Vec<_>>())
        .bind(steps.iter().map(|s| s.to.seq.cast_signed()).collect::<Vec<_>>())
        .bind(steps.iter().map(position).collect::<Vec<_>>())
        .bind(entries)
        .bind(steps.iter().map(|s| s.forget_ms).collect::<Vec<_>>())
        .bind(new)
        .bind(steps.iter().map(|s| s.from.is_none()).collect::<Vec<_>>())
        .bind(add.iter().map(|s| s.tenant.as_str()).collect::<Vec<_>>())
        .bind(add.iter().map(|s| i64::from(s.level)).collect::<Vec<_>>())
        .bind(add.iter().map(|s| s.object_key.as_ref()).collect::<Vec<_>>())
        .bind(add.iter().map(|s| s.object_offset.cast_signed()).collect::<Vec<_>>())
        .bind(add.iter().map(|s| s.bytes.cast_signed()).collect::<Vec<_>>())
        .bind(add.iter().map(|s| s.rows.cast_signed()).collect::<Vec<_>>())
        .bind(add.iter().map(|s| s.arrow_bytes.cast_signed()).collect::<Vec<_>>())
        .bind(add.iter().map(|s| s.time_min_ns).collect::<Vec<_>>())
        .bind(add.iter().map(|s| s.time_max_ns).collect::<Vec<_>>())
        .bind(schemas.iter().map(|(id, _)| *id).collect::<Vec<_>>())
        .bind(add.iter().map(|s| rows::streams_text(s.streams.as_ref())).collect::<Vec<_>>())
        .bind(add.iter().map(|s| s.created_ms).collect::<Vec<_>>())
        .fetch_one(tx.ask());
    let written = limit(written).await;
    let row = tx.told(action, written)?;
    let read = || -> Result<Written, sqlx::Error> {
        let published: i64 = row.try_get(0)?;
        Ok(Written {
            published: published == 1,
            producers: row.try_get(1)?,
            version: row.try_get(2)?,
            ids: row.try_get(3)?,
        })
    };
    let written = read();
    tx.told(action, written)
}

/// A publish id that is there already is taken over only by the word on its tombstone. Producers
/// that are there have been locked; of new ones whoever inserts first wins. Inserts come before
/// updates: an insert of a producer that is there after all passes by one that is locked, but waits
/// for one that is being updated, and so for a transaction that may not wait any more itself.
const WRITE: &str = "WITH published AS ( \
       INSERT INTO publishes (id, committed, token) VALUES ($1, true, $2) \
       ON CONFLICT (id) DO UPDATE SET committed = true, at = now() \
       WHERE NOT publishes.committed AND publishes.token = $2 RETURNING 1 \
     ), steps AS MATERIALIZED ( \
       SELECT * FROM unnest($3::text[], $4::bytea[], $5::bigint[], $6::bigint[], $7::bytea[], \
         $8::text[], $9::bigint[], $10::boolean[], $11::boolean[]) AS s \
         (tenant, producer, epoch, seq, position, ledger, expires_ms, is_new, is_anew) \
     ), begun AS ( \
       INSERT INTO producers (tenant, producer, epoch, seq, position, ledger, expires_ms) \
       SELECT tenant, producer, epoch, seq, position, ledger, expires_ms FROM steps WHERE is_new \
       ORDER BY tenant COLLATE \"C\", producer ON CONFLICT DO NOTHING RETURNING 1 \
     ), advanced AS ( \
       UPDATE producers p SET epoch = s.epoch, seq = s.seq, position = s.position, \
         ledger = CASE WHEN s.is_anew THEN s.ledger ELSE COALESCE(s.ledger, p.ledger) END, \
         expires_ms = s.expires_ms \
       FROM steps s, (SELECT count(*) AS n FROM begun) AS before WHERE before.n >= 0 \
         AND NOT s.is_new AND p.tenant = s.tenant AND p.producer = s.producer \
       RETURNING 1 \
     ), added AS ( \
       INSERT INTO segments (tenant, level, object_key, object_offset, bytes, row_count, \
         arrow_bytes, time_min_ns, time_max_ns, schema_id, streams, created_ms) \
       SELECT tenant, level, object_key, object_offset, bytes, row_count, arrow_bytes, \
         time_min_ns, time_max_ns, schema_id, streams, created_ms \
       FROM unnest($12::text[], $13::bigint[], $14::text[], $15::bigint[], $16::bigint[], \
         $17::bigint[], $18::bigint[], $19::bigint[], $20::bigint[], $21::bigint[], $22::text[], \
         $23::bigint[]) WITH ORDINALITY AS n (tenant, level, object_key, object_offset, bytes, \
         row_count, arrow_bytes, time_min_ns, time_max_ns, schema_id, streams, created_ms, i) \
       ORDER BY i RETURNING id \
     )";

fn segment_ref(new: &NewSegment, id: i64, schema: &SchemaRef) -> Arc<SegmentRef> {
    Arc::new(SegmentRef {
        id: SegmentId(id.cast_unsigned()),
        tenant: new.tenant.clone(),
        level: new.level,
        rows: new.rows,
        bytes: new.bytes,
        arrow_bytes: new.arrow_bytes,
        time_min_ns: new.time_min_ns,
        time_max_ns: new.time_max_ns,
        schema: Arc::clone(schema),
        streams: new.streams.clone(),
        created_ms: new.created_ms,
        object_key: Arc::clone(&new.object_key),
        object_offset: new.object_offset,
    })
}
