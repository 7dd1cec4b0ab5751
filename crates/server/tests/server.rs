//! A real server, driven over HTTP as its clients drive it.
//!
//! The modules are cut by what a user does. They are part of the crate's one test binary (see the
//! end of `src/lib.rs`): run them with `cargo test --release -p lodge-server --lib`.

#![allow(clippy::unwrap_used)]

#[path = "server/access.rs"]
mod access;
#[path = "server/crowd.rs"]
mod crowd;
#[path = "server/doors.rs"]
mod doors;
#[path = "server/doors_grpc.rs"]
mod doors_grpc;
#[path = "server/doors_journal.rs"]
mod doors_journal;
#[path = "server/fence.rs"]
mod fence;
#[path = "server/insert.rs"]
mod insert;
#[path = "server/peers.rs"]
mod peers;
#[path = "server/producers.rs"]
mod producers;
#[path = "server/repeats.rs"]
mod repeats;
#[path = "server/rig.rs"]
mod rig;
#[path = "server/select.rs"]
mod select;
#[path = "server/sockets.rs"]
mod sockets;
#[path = "server/tables.rs"]
mod tables;
#[path = "server/tail.rs"]
mod tail;
#[path = "server/tls.rs"]
mod tls;
#[path = "server/vlogscli.rs"]
mod vlogscli;
