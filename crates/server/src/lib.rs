//! The server: HTTP, and sockets of other protocols, in front of the engines that store and query.
//!
//! ```text
//!  listeners ─ stall ─ guard ─ access ─┬─ jsonline, batches, doors ─ body ─► lodge-ingest
//!                                      ├─ select, tables ─── rows, encode ◄─ lodge-query
//!                                      ├─ tail ────────────────────────────◄ lodge-ingest
//!                                      └─ status, tokens, ui
//!  topics ── kafka ────────────────────────────────────────────────────► lodge-ingest
//!  syslog, Forward, GELF, lines ── sockets ────────────────────────────► lodge-ingest
//! ```
//!
//! Invariants:
//! - without a token it serves this machine only; with tokens each request has an identity, and
//!   reaches only what its scopes allow; foreign web pages are not answered;
//! - an insert is answered when it is durable; what is refused says why and whether to try again;
//! - every queue, body, query and connection has a limit, and each limit a counter;
//! - nothing that a client sends makes it panic.

mod access;
mod answer;
mod app;
mod args;
mod batches;
mod body;
pub mod config;
mod decoders;
mod doors;
mod encode;
mod explain;
mod guard;
mod identity;
mod jsonline;
mod kafka;
mod ledger;
mod limits;
mod lines;
mod listeners;
mod metrics;
mod peer_tls;
mod peers;
mod places;
mod question;
mod rate;
mod repeats;
mod rows;
mod select;
mod serve;
mod sockets;
mod stall;
mod status;
mod tables;
mod tail;
mod times;
mod tls;
pub mod tokens;
mod typed;
mod ui;

pub use config::{ConfigError, ServerConfig};
pub use kafka::KafkaStartError;
pub use serve::{RunningServer, ServerError, start};
pub use tls::TlsError;

// Every test binary that links DataFusion costs a minute of linking, so there is one: the tests
// over HTTP in `tests/` are modules of it and see the crate by its name, as its users do.
#[cfg(test)]
extern crate self as lodge_server;
#[cfg(test)]
#[path = "../tests/server.rs"]
mod over_http;
