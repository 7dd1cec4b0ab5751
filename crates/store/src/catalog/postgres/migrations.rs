//! The tables of the catalog in PostgreSQL, as steps from each version to the next.
//!
//! Invariants:
//! - a step that was released is never changed; a change is a further step;
//! - a step adds: programs that know the catalog only up to [`Step::serves`] go on while a newer one
//!   has made the step, so that servers can be replaced one by one.

use sqlx::Row;

use super::connection::{Database, Retry, limit};
use crate::StoreError;

/// From one version to the next.
struct Step {
    sql: &'static str,
    /// The oldest version of which a program still does right afterwards.
    serves: i64,
}

/// The n-th (from 1) leads to version n.
const STEPS: &[Step] = &[
    Step { sql: FIRST, serves: 1 },
    Step { sql: NODES, serves: 1 },
    Step { sql: BY_TENANT, serves: 1 },
];

/// `added` and `removed` are the transactions that did it. Rows of producers are rewritten all the
/// time: room in each page lets that be done without touching the index.
const FIRST: &str = r#"
CREATE TABLE schemas (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hash BYTEA NOT NULL UNIQUE,
    columns TEXT NOT NULL
);
CREATE TABLE segments (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant TEXT COLLATE "C" NOT NULL,
    level BIGINT NOT NULL,
    object_key TEXT COLLATE "C" NOT NULL,
    object_offset BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    row_count BIGINT NOT NULL,
    arrow_bytes BIGINT NOT NULL,
    time_min_ns BIGINT NOT NULL,
    time_max_ns BIGINT NOT NULL,
    schema_id BIGINT NOT NULL REFERENCES schemas (id),
    streams TEXT,
    created_ms BIGINT NOT NULL,
    added XID8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE INDEX segments_by_tenant_time ON segments (tenant, time_max_ns, time_min_ns);
CREATE INDEX segments_l0 ON segments (tenant, id) WHERE level = 0;
CREATE INDEX segments_built ON segments (arrow_bytes) WHERE level > 0;
CREATE INDEX segments_by_object ON segments (object_key);
CREATE INDEX segments_by_schema ON segments (schema_id);
CREATE INDEX segments_by_added ON segments (added);
CREATE TABLE removals (
    segment_id BIGINT PRIMARY KEY,
    tenant TEXT COLLATE "C" NOT NULL,
    removed_ms BIGINT NOT NULL,
    removed XID8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE INDEX removals_by_removed ON removals (removed);
CREATE TABLE producers (
    tenant TEXT COLLATE "C" NOT NULL,
    producer BYTEA NOT NULL,
    epoch BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    position BYTEA,
    ledger TEXT,
    expires_ms BIGINT,
    PRIMARY KEY (tenant, producer)
) WITH (fillfactor = 50);
CREATE INDEX producers_by_expiry ON producers (expires_ms) WHERE expires_ms IS NOT NULL;
CREATE TABLE garbage (
    object_key TEXT COLLATE "C" PRIMARY KEY,
    since_ms BIGINT NOT NULL
);
CREATE INDEX garbage_by_since ON garbage (since_ms);
CREATE TABLE publishes (
    id TEXT COLLATE "C" PRIMARY KEY,
    committed BOOLEAN NOT NULL,
    token TEXT,
    at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX publishes_by_age ON publishes (at);
CREATE TABLE leases (
    name TEXT COLLATE "C" PRIMARY KEY,
    holder TEXT NOT NULL,
    fence BIGINT NOT NULL,
    expires TIMESTAMPTZ NOT NULL
);
CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    tenant TEXT NOT NULL,
    scopes TEXT NOT NULL,
    only_filter TEXT,
    kind TEXT NOT NULL,
    value BYTEA NOT NULL,
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT,
    UNIQUE (kind, value)
);
INSERT INTO meta (name, value) VALUES ('tokens_version', 0), ('removals_pruned', 0);
"#;

const NODES: &str = r#"
CREATE TABLE nodes (
    name TEXT COLLATE "C" PRIMARY KEY,
    address TEXT NOT NULL,
    roles TEXT NOT NULL,
    version TEXT NOT NULL,
    started_ms BIGINT NOT NULL,
    expires TIMESTAMPTZ NOT NULL
);
"#;

/// What a tenant's list lacks is found without looking at all segments of the tenant, which by the
/// other indexes would be met with those that are new.
const BY_TENANT: &str = "CREATE INDEX segments_by_tenant_added ON segments (tenant, added);";

/// One program at a time looks and changes; the schema's name is part of the lock's, for several
/// catalogs may share a database.
const PREPARE: &str = "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; \
     SELECT pg_advisory_xact_lock(hashtextextended('lodge catalog ' || current_schema(), 0)); \
     CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value BIGINT NOT NULL)";

/// After a restore into another server the numbers of transactions begin anew: what was added by
/// higher ones would look new for ever.
const RENUMBER: &str = "UPDATE segments SET added = '3' \
     WHERE added >= pg_snapshot_xmax(pg_current_snapshot()); \
     DELETE FROM removals WHERE removed >= pg_snapshot_xmax(pg_current_snapshot()); \
     UPDATE meta SET value = 0 WHERE name = 'removals_pruned' \
     AND value > pg_snapshot_xmax(pg_current_snapshot())::text::bigint";

/// Brings the tables to this program's version.
pub(super) async fn migrate(database: &Database) -> Result<(), StoreError> {
    // Twice the same is once: a lost answer is no matter.
    let mut retry = Retry::patiently("bring the catalog to this version");
    loop {
        match attempt(database).await {
            Ok(()) => return Ok(()),
            Err(error) => retry.again(error).await?,
        }
    }
}

async fn attempt(database: &Database) -> Result<(), StoreError> {
    let action = "bring the catalog to this version";
    let mut tx = database.begin().await?;
    // A change of a large table takes its time: what limits it is the operator.
    let done = sqlx::raw_sql(PREPARE).execute(tx.ask()).await;
    tx.told(action, done)?;
    let rows = sqlx::query("SELECT name, value FROM meta").fetch_all(tx.ask());
    let rows = limit(rows).await;
    let rows = tx.told(action, rows)?;
    let value = |wanted: &str| -> i64 {
        let found = rows.iter().find(|row| row.try_get::<&str, _>(0).is_ok_and(|n| n == wanted));
        found.and_then(|row| row.try_get(1).ok()).unwrap_or(0)
    };
    let (found, needs) = (value("catalog_version"), value("needs_version"));
    let known = STEPS.len() as i64;
    if needs > known {
        tx.rollback().await;
        return Err(StoreError::NewerCatalog { path: database.at.to_string(), found, known });
    }
    let done = usize::try_from(found)
        .map_err(|_| StoreError::CatalogDamaged(format!("its version is {found}")))?;
    for step in STEPS.iter().skip(done) {
        let done = sqlx::raw_sql(step.sql).execute(tx.ask()).await;
        tx.told(action, done)?;
    }
    let done = sqlx::raw_sql(RENUMBER).execute(tx.ask()).await;
    tx.told(action, done)?;
    if found < known {
        let serves = STEPS.iter().map(|step| step.serves).max().unwrap_or(0);
        let done = sqlx::query(
            "INSERT INTO meta (name, value) VALUES ('catalog_version', $1), ('needs_version', $2) \
             ON CONFLICT (name) DO UPDATE SET value = GREATEST(meta.value, excluded.value)",
        )
        .bind(known)
        .bind(serves)
        .execute(tx.ask());
        let done = limit(done).await;
        tx.told(action, done)?;
    }
    tx.commit().await
}
