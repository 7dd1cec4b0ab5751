//! What a query sees: the segments of one tenant at one version of the catalog.
//!
//! Invariant: a snapshot never changes. The objects behind it stay readable for
//! [`crate::StoreOptions::garbage_grace`] after the catalog has left it behind.

use std::sync::{Arc, OnceLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use lodge_record::{TenantId, schema};

/// Number of a segment in the catalog; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentId(pub u64);

/// A segment as the catalog describes it.
#[derive(Debug, Clone)]
pub struct SegmentRef {
    /// Its number.
    pub id: SegmentId,
    /// Whose records it holds.
    pub tenant: TenantId,
    /// 0: L0, as committed. 1: built from L0s. 2 and up: merged.
    pub level: u8,
    /// Number of records.
    pub rows: u64,
    /// Bytes stored.
    pub bytes: u64,
    /// About the bytes that its records take in memory.
    pub arrow_bytes: u64,
    /// Earliest `_time`, nanoseconds.
    pub time_min_ns: i64,
    /// Latest `_time`, nanoseconds.
    pub time_max_ns: i64,
    /// Its columns, in the order of the record shape; text is `Utf8` here even where it is stored
    /// as a dictionary, `_stream` too.
    pub schema: SchemaRef,
    /// Canonical texts of its streams, sorted; `None` if there are too many to list.
    pub streams: Option<Arc<[String]>>,
    /// When it was written, milliseconds since 1970.
    pub created_ms: i64,
    pub(crate) object_key: Arc<str>,
    pub(crate) object_offset: u64,
}

/// What a [`SegmentRef`] is made of: for a server that was told of a segment by another one, which
/// read the catalog for both.
#[derive(Debug, Clone)]
pub struct SegmentFacts {
    /// See [`SegmentRef::id`].
    pub id: SegmentId,
    /// See [`SegmentRef::tenant`].
    pub tenant: TenantId,
    /// See [`SegmentRef::level`].
    pub level: u8,
    /// See [`SegmentRef::rows`].
    pub rows: u64,
    /// See [`SegmentRef::bytes`].
    pub bytes: u64,
    /// See [`SegmentRef::arrow_bytes`].
    pub arrow_bytes: u64,
    /// See [`SegmentRef::time_min_ns`].
    pub time_min_ns: i64,
    /// See [`SegmentRef::time_max_ns`].
    pub time_max_ns: i64,
    /// See [`SegmentRef::schema`].
    pub schema: SchemaRef,
    /// See [`SegmentRef::streams`].
    pub streams: Option<Arc<[String]>>,
    /// See [`SegmentRef::created_ms`].
    pub created_ms: i64,
    /// The key of the object that it is in.
    pub object_key: Arc<str>,
    /// Where in the object it begins.
    pub object_offset: u64,
}

impl From<SegmentFacts> for SegmentRef {
    fn from(facts: SegmentFacts) -> Self {
        let SegmentFacts { id, tenant, level, rows, bytes, arrow_bytes, .. } = facts;
        let SegmentFacts { time_min_ns, time_max_ns, schema, streams, created_ms, .. } = facts;
        let SegmentFacts { object_key, object_offset, .. } = facts;
        Self {
            id,
            tenant,
            level,
            rows,
            bytes,
            arrow_bytes,
            time_min_ns,
            time_max_ns,
            schema,
            streams,
            created_ms,
            object_key,
            object_offset,
        }
    }
}

impl SegmentRef {
    /// Where in its object it begins.
    pub fn object_offset(&self) -> u64 {
        self.object_offset
    }

    /// The key of the object that it is in.
    pub fn object_key(&self) -> &Arc<str> {
        &self.object_key
    }
}

/// The segments of a tenant that overlap a time range, at one catalog version.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The catalog version: every commit and every swap raises it.
    pub version: u64,
    /// Whose segments.
    pub tenant: TenantId,
    /// The segments, in order of their number.
    pub segments: Vec<Arc<SegmentRef>>,
    schema: OnceLock<SchemaRef>,
}

impl Snapshot {
    pub(crate) fn new(version: u64, tenant: TenantId, segments: Vec<Arc<SegmentRef>>) -> Self {
        Self { version, tenant, segments, schema: OnceLock::new() }
    }

    /// Some segments of a tenant, in order of their number, as another server found them.
    pub fn of(version: u64, tenant: TenantId, segments: Vec<Arc<SegmentRef>>) -> Self {
        Self::new(version, tenant, segments)
    }

    /// The same segments at a version that did not change them.
    pub(crate) fn at(&self, version: u64) -> Self {
        Self { version, ..self.clone() }
    }

    /// The segments that overlap `time`, both ends inclusive.
    pub(crate) fn within(self: &Arc<Self>, time: Option<(i64, i64)>) -> Arc<Self> {
        let Some((from, to)) = time else { return Arc::clone(self) };
        let overlaps =
            |segment: &&Arc<SegmentRef>| segment.time_max_ns >= from && segment.time_min_ns <= to;
        if self.segments.iter().all(|segment| overlaps(&segment)) {
            return Arc::clone(self);
        }
        let segments = self.segments.iter().filter(overlaps).cloned().collect();
        Arc::new(Self::new(self.version, self.tenant.clone(), segments))
    }

    /// All columns of all segments, with types that hold the values of all: see
    /// [`lodge_record::schema::unify`]. No type is a dictionary.
    pub fn schema(&self) -> SchemaRef {
        let unified = || {
            let mut distinct: Vec<&SchemaRef> = Vec::new();
            for segment in &self.segments {
                if !distinct.iter().any(|s| Arc::ptr_eq(s, &segment.schema)) {
                    distinct.push(&segment.schema);
                }
            }
            without_dictionaries(&schema::unify(distinct))
        };
        Arc::clone(self.schema.get_or_init(unified))
    }

    /// Number of records in all segments.
    pub fn rows(&self) -> u64 {
        self.segments.iter().map(|s| s.rows).sum()
    }
}

/// The same fields, dictionary-encoded text as plain text.
pub(crate) fn without_dictionaries(schema: &SchemaRef) -> SchemaRef {
    let plain = |field: &Arc<Field>| match field.data_type() {
        DataType::Dictionary(_, values) => {
            Arc::new(field.as_ref().clone().with_data_type(values.as_ref().clone()))
        }
        _ => Arc::clone(field),
    };
    Arc::new(Schema::new(schema.fields().iter().map(plain).collect::<Vec<_>>()))
}
