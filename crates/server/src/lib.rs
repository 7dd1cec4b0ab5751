//! The server: HTTP, and sockets of other protocols, in front of the engines that store and query.
//!
//! ```text
//!  connection ─ stall ─ guard ─┬─ jsonline, batches ─ body, lines ─► lodge-ingest
//!                              ├─ select, tables ──── rows, encode ◄─ lodge-query
//!                              ├─ tail ─────────────────────────────◄ lodge-ingest (commits)
//!                              └─ status, ui
//!  syslog, Forward, GELF, lines ─ sockets ─────────────────────────────► lodge-ingest
//! ```
//!
//! Invariants:
//! - it listens on loopback only, and answers neither foreign hosts nor foreign web pages;
//! - an insert is answered when it is durable; what is refused says why and whether to try again;
//! - every queue, body, query and connection has a limit, and each limit a counter;
//! - nothing that a client sends makes it panic.

mod answer;
mod app;
mod args;
mod batches;
mod body;
pub mod config;
mod decoders;
mod doors;
mod encode;
mod guard;
mod jsonline;
mod ledger;
mod limits;
mod lines;
mod metrics;
mod rate;
mod rows;
mod select;
mod serve;
mod sockets;
mod stall;
mod status;
mod tables;
mod tail;
mod times;
mod ui;

pub use config::{ConfigError, ServerConfig};
pub use serve::{RunningServer, ServerError, start};

// Every test binary that links DataFusion costs a minute of linking, so there is one: the tests
// over HTTP in `tests/` are modules of it and see the crate by its name, as its users do.
#[cfg(test)]
extern crate self as lodge_server;
#[cfg(test)]
#[path = "../tests/server.rs"]
mod over_http;
