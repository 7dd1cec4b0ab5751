//! The tables of the catalog, as steps from each version to the next.
//!
//! Invariant: a step that was released is never changed; a change is a further step.

/// Steps: the n-th (from 1) leads to version n.
pub(super) const STEPS: &[&[&str]] = &[
    &[
        "CREATE TABLE schemas (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        hash BLOB NOT NULL UNIQUE,
        columns TEXT NOT NULL
    )",
        "CREATE TABLE segments (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        tenant TEXT NOT NULL,
        level INTEGER NOT NULL,
        object_key TEXT NOT NULL,
        object_offset BIGINT NOT NULL,
        bytes BIGINT NOT NULL,
        row_count BIGINT NOT NULL,
        arrow_bytes BIGINT NOT NULL,
        time_min_ns BIGINT NOT NULL,
        time_max_ns BIGINT NOT NULL,
        schema_id BIGINT NOT NULL REFERENCES schemas (id),
        streams TEXT,
        created_ms BIGINT NOT NULL
    )",
        "CREATE INDEX segments_by_tenant_time ON segments (tenant, time_max_ns, time_min_ns)",
        "CREATE INDEX segments_by_level ON segments (level, arrow_bytes)",
        "CREATE INDEX segments_by_object ON segments (object_key)",
        "CREATE INDEX segments_by_schema ON segments (schema_id)",
        "CREATE TABLE producers (
        tenant TEXT NOT NULL,
        producer BLOB NOT NULL,
        epoch BIGINT NOT NULL,
        seq BIGINT NOT NULL,
        position TEXT,
        PRIMARY KEY (tenant, producer)
    )",
        "CREATE TABLE garbage (
        object_key TEXT PRIMARY KEY NOT NULL,
        since_ms BIGINT NOT NULL
    )",
        "INSERT INTO meta (name, value) VALUES ('data_version', 0)",
    ],
    &["ALTER TABLE producers ADD COLUMN ledger TEXT"],
    &[
        "CREATE TABLE tokens (
        id TEXT PRIMARY KEY NOT NULL,
        name TEXT NOT NULL,
        tenant TEXT NOT NULL,
        scopes TEXT NOT NULL,
        only_filter TEXT,
        kind TEXT NOT NULL,
        value BLOB NOT NULL,
        created_ms BIGINT NOT NULL,
        expires_ms BIGINT,
        UNIQUE (kind, value)
    )",
        "INSERT INTO meta (name, value) VALUES ('tokens_version', 0)",
        "ALTER TABLE producers ADD COLUMN expires_ms BIGINT",
        "CREATE INDEX producers_by_expiry ON producers (expires_ms) WHERE expires_ms IS NOT NULL",
    ],
    &["CREATE TABLE leases (
        name TEXT PRIMARY KEY NOT NULL,
        holder TEXT NOT NULL,
        fence BIGINT NOT NULL,
        expires_ms BIGINT NOT NULL
    )"],
    &["CREATE TABLE nodes (
        name TEXT PRIMARY KEY NOT NULL,
        address TEXT NOT NULL,
        roles TEXT NOT NULL,
        version TEXT NOT NULL,
        started_ms BIGINT NOT NULL,
        expires_ms BIGINT NOT NULL
    )"],
];

/// The table that tells the version; there before any step.
pub(super) const META: &str =
    "CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY NOT NULL, value BIGINT NOT NULL)";

/// Highest version known.
pub(super) fn known() -> i64 {
    STEPS.len() as i64
}
