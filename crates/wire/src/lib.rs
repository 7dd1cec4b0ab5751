//! Every byte that a stranger can send, decoded; every byte that one is sent, encoded.
//!
//! Sans-I/O: values in, values out; no file, clock or socket. Every decoder is capped in size, depth
//! and expansion, returns errors that say where and why, and never panics on any input.

pub mod agent_batch;
pub mod agent_report;
pub mod batches;
pub mod container_log;
mod conventions;
pub mod datadog_logs;
mod documents;
pub mod elastic_bulk;
pub mod encoding;
pub mod forward;
pub mod gelf;
pub mod gelf_chunks;
pub mod grpc_frames;
pub mod journal_export;
mod json_fields;
pub mod json_items;
pub mod json_object;
pub mod json_order;
pub mod json_rows;
mod json_scan;
pub mod jsonline;
pub mod kafka_message;
pub mod level;
pub mod loki_push;
mod msgpack;
pub mod otlp_logs;
pub mod protobuf;
mod rows;
pub mod snappy;
pub mod splunk_hec;
pub mod syslog;
pub mod syslog_frames;
pub mod syslog_records;
mod text_value;

#[cfg(test)]
mod test_support;
