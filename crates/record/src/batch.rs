//! A batch of records and the identity of who produced it.
//!
//! Invariant: a [`Batch`] can only be made by [`Batch::new`], which checks the shape of its records,
//! so that whoever holds one need not check again.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;

use crate::account::Account;
use crate::limits;
use crate::schema::{self, ShapeError};

/// Name of a tenant: 1 to 64 of `a-z 0-9 _ -`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(Arc<str>);

impl TenantId {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TenantId {
    fn default() -> Self {
        TenantId("default".into())
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A tenant's name was not of its form.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("tenant name {0:?} is not 1 to 64 characters of a-z, 0-9, '_' and '-'")]
pub struct TenantNameError(pub String);

impl FromStr for TenantId {
    type Err = TenantNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = (1..=limits::TENANT_BYTES_MAX).contains(&text.len());
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
        if fits && text.bytes().all(plain) {
            Ok(TenantId(text.into()))
        } else {
            Err(TenantNameError(text.chars().take(80).collect()))
        }
    }
}

/// Stable identity of one source of batches: an agent's file, an import's lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProducerId(u128);

impl ProducerId {
    /// A new identity that no other producer has.
    pub fn random() -> Self {
        ProducerId(uuid::Uuid::new_v4().as_u128())
    }

    /// The identity that follows from `parts`: the same parts give the same identity, on any
    /// machine. Parts are length-prefixed, so `["ab","c"]` and `["a","bc"]` differ.
    pub fn derive(parts: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        let mut id = [0u8; 16];
        hasher.finalize_xof().fill(&mut id);
        ProducerId(u128::from_be_bytes(id))
    }

    /// As 16 bytes, big-endian.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// From 16 bytes, big-endian.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        ProducerId(u128::from_be_bytes(bytes))
    }
}

impl fmt::Display for ProducerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_u128(self.0).hyphenated().fmt(f)
    }
}

/// A producer's identity was not a UUID.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("producer {0:?} is not a UUID such as 6ba7b810-9dad-11d1-80b4-00c04fd430c8")]
pub struct ProducerIdError(pub String);

impl FromStr for ProducerId {
    type Err = ProducerIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        uuid::Uuid::try_parse(text)
            .map(|id| ProducerId(id.as_u128()))
            .map_err(|_| ProducerIdError(text.chars().take(80).collect()))
    }
}

/// Which batch of which producer this is. The catalog keeps the highest `(epoch, seq)` committed per
/// producer, and advances it in the transaction that adds the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Who produced the batch.
    pub producer: ProducerId,
    /// Changes when the producer and the catalog no longer agree on the past.
    pub epoch: u32,
    /// Counts the batches of an epoch, from 1, without gaps.
    pub seq: u64,
}

/// Where a producer stands in its source once its batch is durable. Opaque to all but the producer:
/// it is stored with the sequence and handed back in every acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Position(String);

/// A position was longer than [`limits::POSITION_BYTES_MAX`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("position has {0} bytes, the limit is {max}", max = limits::POSITION_BYTES_MAX)]
pub struct PositionTooLong(pub usize);

impl Position {
    /// Takes a text of at most [`limits::POSITION_BYTES_MAX`] bytes.
    pub fn new(text: impl Into<String>) -> Result<Self, PositionTooLong> {
        let text = text.into();
        if text.len() > limits::POSITION_BYTES_MAX {
            return Err(PositionTooLong(text.len()));
        }
        Ok(Position(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Records that are stored together or not at all.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Whose records these are. Comes from the authenticated identity, never from the bytes.
    pub tenant: TenantId,
    /// Who produced it; without one the batch is stored at least once.
    pub origin: Option<Origin>,
    /// Where the producer stands once this batch is durable.
    pub position: Option<Position>,
    /// What the producer says of the stretch that the batch ends, for the ledger.
    pub account: Option<Box<Account>>,
    /// From when its producer may be forgotten, milliseconds since 1970; `None`: never. A producer
    /// that stands for one request of a client is of use only while the client may repeat it.
    pub forget_ms: Option<i64>,
    records: RecordBatch,
}

impl Batch {
    /// Checks that `records` has the shape of [`schema::check`] and takes it.
    pub fn new(
        tenant: TenantId,
        origin: Option<Origin>,
        position: Option<Position>,
        records: RecordBatch,
    ) -> Result<Self, ShapeError> {
        schema::check(&records)?;
        Ok(Batch { tenant, origin, position, account: None, forget_ms: None, records })
    }

    /// The records; see [`schema`] for the shape.
    pub fn records(&self) -> &RecordBatch {
        &self.records
    }

    /// Number of records.
    pub fn rows(&self) -> usize {
        self.records.num_rows()
    }

    /// Bytes that the values take, by which queues and commits are bounded. Columns that were read
    /// from one message share its buffer, so buffers are not what is counted.
    pub fn bytes(&self) -> usize {
        let of_values = |column: &arrow::array::ArrayRef| {
            let whole = column.get_array_memory_size();
            column.to_data().get_slice_memory_size().map_or(whole, |values| values.min(whole))
        };
        self.records.columns().iter().map(of_values).sum()
    }

    /// Gives the records up.
    pub fn into_records(self) -> RecordBatch {
        self.records
    }
}
