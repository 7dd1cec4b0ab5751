//! A real server, driven over HTTP as its clients drive it.
//!
//! One binary, because each one links DataFusion; the parts are modules by what a user does.

#![allow(clippy::unwrap_used)]

#[path = "server/fence.rs"]
mod fence;
#[path = "server/insert.rs"]
mod insert;
#[path = "server/producers.rs"]
mod producers;
#[path = "server/rig.rs"]
mod rig;
#[path = "server/select.rs"]
mod select;
#[path = "server/tables.rs"]
mod tables;
#[path = "server/tail.rs"]
mod tail;
