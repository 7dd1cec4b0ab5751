//! What is fuzzed, and what has to hold whatever the bytes are.
//!
//! Shared by the fuzzer (`fuzz/main.rs`) and by the test that replays the corpus
//! (`crates/wire/tests/corpus_fuzz.rs`). Every target checks more than that nothing panics: that
//! records have the shape that the store relies on and can be read, that nothing grows beyond its
//! cap, and of decoders that take bytes as they come that the cuts make no difference.

mod bodies;
mod bytes;
mod streams;

use arrow::array::RecordBatch;
use lodge_record::{Batch, TenantId, limits};
use lodge_wire::json_rows;

/// A name, and what is checked of any bytes.
pub type Target = (&'static str, fn(&[u8]));

/// Every target, those of open sockets first.
pub const TARGETS: [Target; 25] = [
    ("grpc_frames", bytes::grpc_frames),
    ("otlp_protobuf", bodies::otlp_protobuf),
    ("journal_export", streams::journal_export),
    ("jsonline", streams::jsonline),
    ("elastic_bulk", streams::elastic_bulk),
    ("forward", streams::forward),
    ("syslog_frames", streams::syslog_frames),
    ("syslog", bytes::syslog),
    ("loki_protobuf", bodies::loki_protobuf),
    ("loki_json", bodies::loki_json),
    ("otlp_json", bodies::otlp_json),
    ("splunk_events", bodies::splunk_events),
    ("splunk_raw", bodies::splunk_raw),
    ("datadog_json", bodies::datadog_json),
    ("datadog_text", bodies::datadog_text),
    ("gelf", bodies::gelf),
    ("gelf_chunks", streams::gelf_chunks),
    ("forward_handshake", bytes::forward_handshake),
    ("agent_batch", bodies::agent_batch),
    ("encoding", bytes::encoding),
    ("snappy", bytes::snappy),
    ("protobuf", bytes::protobuf),
    ("json_items", bytes::json_items),
    ("agent_report", bytes::agent_report),
    ("container_log", bytes::container_log),
];

/// The time of records that have none.
const NOW_NS: i64 = 1_767_225_600_000_000_000;

/// Checks batches that came out of so many bytes, and gives their rows as JSON lines.
fn checked(batches: Vec<RecordBatch>, body_bytes: usize) -> Vec<u8> {
    let mut written = Vec::new();
    let (mut rows, mut memory, mut cells) = (0, 0, 0);
    for records in batches {
        assert!(records.num_rows() > 0, "an empty batch");
        assert!(records.num_columns() <= limits::COLUMNS_MAX + 16, "too many columns");
        rows += records.num_rows();
        memory += records.get_array_memory_size();
        cells += records.num_rows() * records.num_columns();
        let batch = Batch::new(TenantId::default(), None, None, records)
            .unwrap_or_else(|error| panic!("no batch: {error}"));
        json_rows::write_rows(batch.records(), &mut written);
    }
    assert!(rows <= body_bytes, "{rows} records of {body_bytes} bytes");
    // A column costs its buffers even where it is nearly empty; a label is a field, too.
    let allowed = (1 << 20) + 32 * body_bytes + 64 * cells + 1024 * rows;
    assert!(memory <= allowed, "{memory} bytes of {body_bytes}, {cells} cells, {rows} rows");
    let lines = written.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let mut seen = 0;
    for line in lines {
        let row: Result<serde_json::Map<String, serde_json::Value>, _> =
            serde_json::from_slice(line);
        let shown = || String::from_utf8_lossy(line).into_owned();
        let row = row.unwrap_or_else(|error| panic!("no JSON: {error}: {}", shown()));
        assert!(row.contains_key("_time"), "no time: {}", shown());
        seen += 1;
    }
    assert_eq!(seen, rows, "rows as JSON");
    written
}

/// Cuts bytes into pieces, by the first of them: none to 60 bytes, some of them empty.
fn pieces(data: &[u8]) -> (&[u8], Vec<&[u8]>) {
    let Some((&seed, body)) = data.split_first() else { return (data, vec![data]) };
    let mut state = u32::from(seed);
    let (mut rest, mut pieces) = (body, Vec::new());
    while !rest.is_empty() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let length = (state >> 16) as usize % (1 + usize::from(seed) % 61);
        // A seed of nothing but empty pieces would never end.
        let length = if seed.is_multiple_of(61) { 1 } else { length };
        let (piece, more) = rest.split_at(length.min(rest.len()));
        pieces.push(piece);
        rest = more;
    }
    (body, pieces)
}
