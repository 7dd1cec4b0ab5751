//! Limits on what one line, record or batch may hold. Each is enforced where bytes enter Lodge.

/// Longest line or message that is kept whole; of a longer one the head is kept and marked.
pub const LINE_BYTES_MAX: usize = 4 << 20;
/// Most columns in a batch or segment; further fields go to `_overflow`.
pub const COLUMNS_MAX: usize = 1000;
/// Most bytes that the columns of one batch may cost in cells (rows × columns) before further
/// fields go to `_overflow`: a bound for many sparse columns.
pub const CELLS_MAX: usize = 128 << 20;
/// Longest field name; a longer one is cut and ends in a hash of the whole.
pub const FIELD_NAME_BYTES_MAX: usize = 256;
/// Most bytes of Arrow data in one batch.
pub const BATCH_BYTES_MAX: usize = 64 << 20;
/// Deepest nesting of objects that is flattened into dotted names; what is deeper stays JSON text.
pub const NEST_DEPTH_MAX: usize = 32;
/// Longest position that a producer may store with its sequence.
pub const POSITION_BYTES_MAX: usize = 256;
/// Different reasons for which a producer's records are dropped; further ones are counted together.
pub const DROP_REASONS_MAX: usize = 32;
/// Holes that one batch reports, and that the ledger shows of one source: the newest.
pub const HOLES_MAX: usize = 16;
/// Longest text in an account: a source's name, a reason, a position.
pub const ACCOUNT_TEXT_BYTES_MAX: usize = 1024;
/// Longest tenant name.
pub const TENANT_BYTES_MAX: usize = 64;
/// Most labels in a stream.
pub const STREAM_LABELS_MAX: usize = 64;
