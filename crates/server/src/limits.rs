//! Limits of the HTTP side that are no settings: nobody needs another value, and each is counted
//! in `lodge_limit_hits_total` or answered by the HTTP layer itself.

use std::time::Duration;

/// Longest request target; long queries belong into a POST form.
pub(crate) const URL_BYTES_MAX: usize = 16 << 10;
/// Most headers of a request (the HTTP layer answers 431).
pub(crate) const HEADERS_MAX: usize = 100;
/// How long a connection may take for the headers of its next request, and so how long it may be
/// idle: longer than the 90 s that HTTP clients keep one open, so that it is not the server that
/// closes it just when it is used again.
pub(crate) const HEADERS_TIME_MAX: Duration = Duration::from_secs(120);
/// How long a TLS handshake may take.
pub(crate) const TLS_TIME_MAX: Duration = Duration::from_secs(10);
/// Read buffer of one HTTP/1 connection, and so the largest header block.
pub(crate) const CONNECTION_BUFFER_BYTES: usize = 256 << 10;
/// Largest header block of an HTTP/2 request.
pub(crate) const HEADER_BYTES_MAX: u32 = 64 << 10;
/// Requests at once on one HTTP/2 connection.
pub(crate) const STREAMS_PER_CONNECTION_MAX: u32 = 128;
/// Largest form body (a query in a POST).
pub(crate) const FORM_BYTES_MAX: usize = 1 << 20;

/// A `/insert/jsonline` body up to this size after decompression is stored whole or not at all.
pub(crate) const ATOMIC_BYTES_MAX: usize = 32 << 20;
/// Beyond so many lines even a small body is stored in chunks: short lines grow in columns.
pub(crate) const ATOMIC_LINES_MAX: usize = 1 << 18;
/// Size of the line-aligned chunks of a larger body.
pub(crate) const CHUNK_BYTES: usize = 4 << 20;
/// Lines of one such chunk.
pub(crate) const CHUNK_LINES_MAX: usize = 1 << 16;
/// Chunks of one request that wait for their commit.
pub(crate) const CHUNKS_IN_FLIGHT_MAX: usize = 4;
/// Compressed bytes of an insert that are read before a thread is taken for its decoding.
pub(crate) const BODY_HEAD_BYTES: usize = 4 << 20;
/// Threads that wait for the rest of large bodies.
pub(crate) const LARGE_BODIES_MAX: usize = 16;
/// Malformed lines that an answer lists.
pub(crate) const MALFORMED_LISTED_MAX: usize = 20;
/// Least rate of a body once it took longer than the stall time.
pub(crate) const BODY_BYTES_PER_S_MIN: u64 = 1_024;

/// How long a query waits for a free place before it is refused.
pub(crate) const QUERY_WAIT: Duration = Duration::from_secs(5);
/// Rows that are encoded at a time, so that an answer never needs much memory.
pub(crate) const ROWS_PER_PIECE: usize = 2_048;
/// Memory of the row group that an export is writing.
pub(crate) const ROW_GROUP_BYTES_MAX: usize = 32 << 20;
/// Rows of one row group of an export.
pub(crate) const ROW_GROUP_ROWS_MAX: usize = 1 << 20;
/// Earlier records that a live tail can begin with.
pub(crate) const TAIL_HISTORY_ROWS_MAX: usize = 1_000;
/// Buckets of one histogram or range query.
pub(crate) const BUCKETS_MAX: i64 = 50_000;
/// Different values of a field that facets can have, whatever is asked for.
pub(crate) const FACET_VALUES_MAX: usize = 100_000;
/// Text that waits to be sent in a tail that shows records later than they come.
pub(crate) const TAIL_DELAYED_BYTES_MAX: usize = 16 << 20;
/// Longest delay of a tail.
pub(crate) const TAIL_OFFSET_MAX: Duration = Duration::from_secs(3_600);
/// How long an export may take at least. Longer needs objects that nobody else reads to stay.
pub(crate) const EXPORT_TIME_MAX: Duration = Duration::from_secs(100);
/// How much longer than the longest query an object stays that is out of use.
pub(crate) const GARBAGE_MARGIN: Duration = Duration::from_secs(20);
/// Longest time between two looks of a live tail at its client.
pub(crate) const TAIL_REFRESH_MAX: Duration = Duration::from_secs(60);
