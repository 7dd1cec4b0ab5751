//! What a log record is, from the first decoded byte to the query result.
//!
//! A [`Batch`] is an Arrow `RecordBatch` of one fixed shape (see [`schema`]) with the identity that
//! makes its delivery exactly-once ([`Origin`]). This crate knows no I/O, no clock and no wire
//! format; every other crate of Lodge speaks in its types.
//!
//! Invariants:
//! - the first three columns are always `_time`, `_stream`, `_msg`, in this order;
//! - every value has exactly one text form ([`schema::value_text`]), whatever type its column has,
//!   so changing the type of a column never changes the answer to a query;
//! - a record is never refused for a type, an age, a field's name or the number of its fields.

pub mod account;
pub mod batch;
pub mod builder;
pub mod field;
pub mod limits;
pub mod overflow;
pub mod schema;
pub mod stream;
pub mod time;

pub use account::{Account, Hole, Tally};
pub use batch::{Batch, Origin, Position, ProducerId, TenantId};
